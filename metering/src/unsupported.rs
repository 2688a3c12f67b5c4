//! Platforms where nothing interrupts a thread: [`crate::Mode::Exact`] is what works there.

use crate::checker::{CheckerError, ThreadCell};
use std::sync::Arc;
use wasmtime::Store;

#[derive(Debug, Default)]
pub(crate) struct Thread;

impl Thread {
    pub(crate) fn interrupt(&self, _sending: impl FnOnce()) {}
}

pub(crate) fn install() -> Result<(), CheckerError> {
    Err(CheckerError::Platform)
}

pub(crate) fn current_thread() -> Arc<ThreadCell> {
    Arc::default()
}

pub(crate) fn create_timer(_timer: &crate::timer::Timer) {}

pub(crate) fn now_ns() -> u64 {
    0
}

pub(crate) fn prefer_out_of_fuel<T: 'static>(_store: &mut Store<T>) {}
