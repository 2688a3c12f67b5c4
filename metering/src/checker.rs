//! Checks of a thread's fuel from outside it.

use crate::watchdog::Watch;
use crate::{Histogram, HistogramSnapshot, platform, profile, thread};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};

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
    /// The landing pad for asynchronous traps could not be built.
    #[error("landing pad: {0}")]
    Pad(String),
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
            thread: thread::current(),
        })
    }

    /// Asks the thread to look at its fuel, soon. Returns at once; does nothing on the thread itself (which is
    /// not in wasm then) or if it has ended.
    pub fn check(&self) {
        self.thread.handle.interrupt(&self.thread, || {
            self.thread.sent.fetch_add(1, Relaxed);
        });
    }

    /// Makes the thread stop what it executes, soon, whatever its fuel: it raises `Trap::OutOfFuel` where it is found in the body of a wasm
    /// function. If it is elsewhere it is looked at again, as long as it is watched (see [`crate::Watchdog`]); whoever
    /// executes must look at [`AsyncFuelChecker::is_cancelled`] before going on in wasm, and when a call has ended: its result then means nothing.
    /// That lasts until the thread calls [`AsyncFuelChecker::resume`]. Returns at once.
    pub fn cancel(&self) {
        self.thread.cancel.store(true, SeqCst);
        self.check();
    }

    /// Takes [`AsyncFuelChecker::cancel`] back. To be called on the thread, outside wasm; a check that is still on its way does no harm afterwards.
    pub fn resume(&self) {
        self.thread.cancel.store(false, SeqCst);
    }

    /// Whether what the thread executes is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.thread.cancel.load(SeqCst)
    }

    /// What checks of this thread have done so far.
    pub fn stats(&self) -> CheckStats {
        CheckStats {
            sent: self.thread.sent.load(Relaxed),
            landed: self.thread.landed.load(Relaxed),
            stopped: self.thread.stopped.load(Relaxed),
            cancelled: self.thread.cancelled.load(Relaxed),
            last_overshoot: self.thread.last_overshoot.load(Relaxed),
            last_overshoot_ns: self.thread.last_overshoot_ns.load(Relaxed),
            max_overshoot: self.thread.max_overshoot.load(Relaxed),
        }
    }

    /// How far past their limits executions on this thread were when checks stopped them.
    pub fn overshoot(&self) -> Overshoot {
        self.thread.overshoot.snapshot()
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
    /// Of those that landed, the ones that found it within its limit and cancelled.
    pub cancelled: u64,
    /// Fuel past the limit when last stopped.
    pub last_overshoot: u64,
    /// The same as a time, in nanoseconds: see [`Overshoot::ns`]. 0 if that execution was not watched.
    pub last_overshoot_ns: u64,
    /// The most fuel past the limit when stopped.
    pub max_overshoot: u64,
}

/// How far past their limits executions were when checks stopped them. Those that ran into a trampoline first, and were stopped
/// there, are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overshoot {
    /// In fuel: what was used beyond the limit. That may be work that was paid in advance and not yet done.
    pub fuel: HistogramSnapshot,
    /// In nanoseconds of processor time (of monotonic time where threads are suspended to look at them). The moment at which a limit is passed is not observed:
    /// this is the overshoot in fuel divided by the rate at which the execution burnt fuel between the last two looks at it,
    /// the first of which, or its start, found it within its limit. So it is never more than the time
    /// between them. Executions that no [`crate::Watchdog`] watched are left out.
    pub ns: HistogramSnapshot,
}

impl Overshoot {
    /// Adds what was seen elsewhere.
    pub fn add(&mut self, other: &Overshoot) {
        self.fuel.add(&other.fuel);
        self.ns.add(&other.ns);
    }
}

/// The histograms behind an [`Overshoot`]. Recording is async-signal-safe.
#[derive(Debug, Default)]
pub struct OvershootHistograms {
    fuel: Histogram,
    ns: Histogram,
}

impl OvershootHistograms {
    /// Counts an execution that was stopped `fuel` units past its limit, and `ns` nanoseconds if that is known.
    pub fn record(&self, fuel: u64, ns: Option<u64>) {
        self.fuel.record(fuel);
        if let Some(ns) = ns {
            self.ns.record(ns);
        }
    }

    /// What has been counted so far.
    pub fn snapshot(&self) -> Overshoot {
        Overshoot {
            fuel: self.fuel.snapshot(),
            ns: self.ns.snapshot(),
        }
    }
}

/// What a thread, its handler and those who check it share. The handler writes these atomics and nothing
/// else.
#[derive(Debug, Default)]
pub(crate) struct ThreadCell {
    pub(crate) handle: thread::Handle,
    pub(crate) last_sample: profile::LastSample,
    pub(crate) watch: Watch,
    /// What executes is to be stopped whatever its fuel. Set by others, taken back by the thread outside wasm: so whoever finds the thread
    /// in wasm with this set finds it in what was cancelled.
    cancel: AtomicBool,
    sent: AtomicU64,
    landed: AtomicU64,
    stopped: AtomicU64,
    cancelled: AtomicU64,
    last_overshoot: AtomicU64,
    last_overshoot_ns: AtomicU64,
    max_overshoot: AtomicU64,
    overshoot: OvershootHistograms,
}

impl ThreadCell {
    /// The thread's own timer has interrupted it. Async-signal-safe.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no timers"))]
    pub(crate) fn timer_expired(&self) {
        self.watch.timer.expired();
        self.sent.fetch_add(1, Relaxed);
    }

    /// A check found the thread at `pc` in a body of `module`, with `counter`. True if it is to be stopped there. Async-signal-safe: atomics
    /// and clocks.
    pub(crate) fn landed(&self, module: u64, pc: usize, counter: i64) -> bool {
        profile::record(&self.last_sample, module, pc, counter);
        self.landed.fetch_add(1, Relaxed);
        match u64::try_from(counter) {
            Ok(past) => {
                self.stopped(past.saturating_add(1));
                true
            }
            Err(_) if self.cancel.load(SeqCst) => {
                self.cancelled.fetch_add(1, Relaxed);
                true
            }
            // The counter starts at minus the limit minus one.
            Err(_) => {
                self.watch.within_limit(counter.unsigned_abs() - 1);
                false
            }
        }
    }

    /// A check found the thread outside the bodies of wasm functions. Async-signal-safe.
    pub(crate) fn missed(&self) {
        if self.cancel.load(SeqCst) {
            self.watch.look_again();
        }
    }

    /// The thread was found `overshoot` units past its limit, and is stopped.
    fn stopped(&self, overshoot: u64) {
        let ns = self.watch.past_limit_ns(overshoot);
        self.overshoot.record(overshoot, ns);
        self.last_overshoot.store(overshoot, Relaxed);
        self.last_overshoot_ns.store(ns.unwrap_or(0), Relaxed);
        self.max_overshoot.fetch_max(overshoot, Relaxed);
        // Last: who sees it sees the others.
        self.stopped.fetch_add(1, Relaxed);
    }
}
