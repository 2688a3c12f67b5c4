//! Platforms where nothing interrupts a thread: there are no checkers, and [`crate::Mode::Hybrid`] and
//! [`crate::Mode::Exact`] are what works.

use crate::checker::{CheckerError, ThreadCell};
use std::sync::Arc;
use wasmtime::Store;

/// There is none to interrupt.
pub(crate) type ThreadId = ();

pub(crate) fn install() -> Result<(), CheckerError> {
    Err(CheckerError::Platform)
}

pub(crate) fn current_id() -> ThreadId {}

pub(crate) fn begin(_cell: &Arc<ThreadCell>) {}

pub(crate) fn end() {}

pub(crate) fn interrupt(_thread: ThreadId, _cell: &ThreadCell) {}

/// Nothing is timed without a checker.
pub(crate) fn now_ns() -> u64 {
    0
}

pub(crate) fn prefer_out_of_fuel<T: 'static>(_store: &mut Store<T>) {}
