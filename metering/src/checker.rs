//! Checks of a thread's fuel from outside it.

use crate::platform;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};

/// Why a thread cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckerError {
    /// No implementation for this operating system or processor.
    #[error("no asynchronous checks on this operating system or processor")]
    Platform,
    /// The handler for the check signal could not be installed.
    #[error("cannot install a handler for signal {signal}: {reason}")]
    Handler {
        /// Number of the signal.
        signal: i32,
        /// The system's explanation.
        reason: String,
    },
    /// The signal was chosen after it was in use.
    #[error("the check signal is already in use and cannot be changed to {0}")]
    SignalInUse(i32),
}

/// Checks the fuel of the thread that it was made on.
///
/// `Send + Sync`: any thread may ask for a check. A check has an effect only if it finds the thread
/// in the body of a wasm function of a [`crate::MeteredModule`]; if the counter is over the limit the thread raises
/// `Trap::OutOfFuel` there. At all other times a check does nothing, and nothing is lost: trampolines check too.
///
/// Outlives its thread harmlessly.
#[derive(Clone, Debug)]
pub struct AsyncFuelChecker {
    thread: Arc<ThreadCell>,
}

impl AsyncFuelChecker {
    /// A checker for the current thread. The same for each call on a thread.
    ///
    /// # Errors
    ///
    /// If this platform has no asynchronous checks or the signal handler cannot be installed.
    pub fn for_current_thread() -> Result<AsyncFuelChecker, CheckerError> {
        platform::install()?;
        Ok(AsyncFuelChecker {
            thread: platform::current_thread(),
        })
    }

    /// Asks the thread to look at its fuel, soon. Returns at once; does nothing on the thread itself (which is
    /// not in wasm then) or if it has ended.
    pub fn check(&self) {
        self.thread.platform.interrupt(|| {
            self.thread.sent.fetch_add(1, Relaxed);
        });
    }

    /// What checks of this thread have done so far.
    pub fn stats(&self) -> CheckStats {
        CheckStats {
            sent: self.thread.sent.load(Relaxed),
            landed: self.thread.landed.load(Relaxed),
            stopped: self.thread.stopped.load(Relaxed),
            last_overshoot: self.thread.last_overshoot.load(Relaxed).max(0) as u64,
            max_overshoot: self.thread.max_overshoot.load(Relaxed).max(0) as u64,
        }
    }

    pub(crate) fn from_cell(thread: Arc<ThreadCell>) -> AsyncFuelChecker {
        AsyncFuelChecker { thread }
    }

    pub(crate) fn cell(&self) -> &Arc<ThreadCell> {
        &self.thread
    }
}

/// Counts of a thread's checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckStats {
    /// Interruptions sent.
    pub sent: u64,
    /// Of those, the ones that found the thread in a wasm function body.
    pub landed: u64,
    /// Of those, the ones that found it out of fuel.
    pub stopped: u64,
    /// Fuel past the limit when last stopped.
    pub last_overshoot: u64,
    /// The most fuel past the limit when stopped.
    pub max_overshoot: u64,
}

/// What a thread, its handler and those who check it share. The handler writes these atomics and nothing
/// else.
#[derive(Debug, Default)]
pub(crate) struct ThreadCell {
    pub(crate) platform: platform::Thread,
    /// When the [`crate::Watchdog`] looks next: [`platform::now_ns`], 0 for never.
    pub(crate) deadline_ns: AtomicU64,
    sent: AtomicU64,
    landed: AtomicU64,
    stopped: AtomicU64,
    last_overshoot: AtomicI64,
    max_overshoot: AtomicI64,
}

impl ThreadCell {
    /// A check found `counter` in a function body. Async-signal-safe: atomics and a clock.
    pub(crate) fn landed(&self, counter: i64) {
        self.landed.fetch_add(1, Relaxed);
        if counter >= 0 {
            self.stopped.fetch_add(1, Relaxed);
            self.last_overshoot.store(counter, Relaxed);
            self.max_overshoot.fetch_max(counter, Relaxed);
        }
        crate::watchdog::reschedule(self, counter);
    }
}
