//! The thread that decides when to check.
//!
//! An execution with `n` units left cannot be out of fuel before `n / MAX_BURN` nanoseconds have passed, so it is not
//! looked at before. A check that finds it within its limit sets the next deadline the same
//! way, from what is left then. So an execution that stays well within its limit gets no signal, one that
//! comes near it gets a number that grows with the logarithm of the limit, and one that passes it is stopped
//! [`MIN_INTERVAL_NS`] or so later.

use crate::checker::ThreadCell;
use crate::{AsyncFuelChecker, platform};
use std::fmt;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Fuel that compiled code is taken to burn at most in a nanosecond: the fastest kernel of `cargo xtask bench
/// overhead` burns 33. Only the number of checks and the overshoot depend on it.
const MAX_BURN: u64 = 32;

/// Shortest time between two checks of a thread, in nanoseconds.
const MIN_INTERVAL_NS: u64 = 50_000;

/// Time after which a check is repeated that found the thread outside wasm, in nanoseconds.
const RETRY_NS: u64 = 200_000;

const NEVER: u64 = u64::MAX;

/// Why the watchdog could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the watchdog thread: {0}")]
pub struct WatchdogError(#[from] std::io::Error);

/// A thread that checks others. Dropping it ends it; executions watched then are only stopped when
/// they leave wasm.
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    threads: Mutex<Vec<Weak<ThreadCell>>>,
    wake: Condvar,
    /// When the watchdog wakes by itself; [`NEVER`] while it looks for the next deadline.
    next_wake_ns: AtomicU64,
    stop: AtomicBool,
}

impl Watchdog {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system refuses another thread.
    pub fn start() -> Result<Watchdog, WatchdogError> {
        let shared = Arc::new(Shared {
            threads: Mutex::new(Vec::new()),
            wake: Condvar::new(),
            next_wake_ns: AtomicU64::new(NEVER),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new()
            .name("slackline-watchdog".to_owned())
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            })?;
        Ok(Watchdog {
            shared,
            thread: Some(thread),
        })
    }

    /// Watches the current thread, whose checker `checker` is, during an execution with `fuel` units left.
    /// Watches nest: the outer one goes on, with a check at once, when the inner guard is dropped.
    pub fn watch<'a>(&'a self, checker: &'a AsyncFuelChecker, fuel: u64) -> WatchGuard<'a> {
        let cell = checker.cell();
        self.shared.enroll(cell);
        let outer = cell.deadline_ns.swap(deadline(fuel), SeqCst);
        self.shared.notice(cell.deadline_ns.load(SeqCst));
        WatchGuard {
            watchdog: self,
            cell,
            outer,
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.notify();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it has, nothing is lost here.
            let _ = thread.join();
        }
    }
}

/// Ends a watch when dropped.
#[must_use = "dropping the guard ends the watch"]
#[derive(Debug)]
pub struct WatchGuard<'a> {
    watchdog: &'a Watchdog,
    cell: &'a ThreadCell,
    outer: u64,
}

impl Drop for WatchGuard<'_> {
    fn drop(&mut self) {
        self.cell.deadline_ns.store(self.outer, SeqCst);
        if self.outer != 0 {
            self.watchdog.shared.notice(self.outer);
        }
    }
}

fn deadline(fuel: u64) -> u64 {
    platform::now_ns()
        .saturating_add((fuel / MAX_BURN).max(MIN_INTERVAL_NS))
        .min(NEVER - 1)
}

/// Sets the next deadline of a thread that was found in wasm with `counter`. Runs in the signal handler, on the
/// thread itself, hence after whatever `watch` did and before the guard is dropped: only the
/// watchdog may interfere, and any deadline that it sets is as good. Async-signal-safe.
pub(crate) fn reschedule(cell: &ThreadCell, counter: i64) {
    if counter < 0 && cell.deadline_ns.load(SeqCst) != 0 {
        cell.deadline_ns
            .store(deadline(counter.unsigned_abs()), SeqCst);
    }
}

impl Shared {
    fn enroll(&self, cell: &Arc<ThreadCell>) {
        let mut threads = self.lock();
        let known = threads
            .iter()
            .any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(cell)));
        if !known {
            threads.retain(|known| known.strong_count() > 0);
            threads.push(Arc::downgrade(cell));
        }
    }

    /// Makes sure that the watchdog wakes at `deadline` or earlier. In the sequentially consistent order of
    /// accesses, either the watchdog's scan comes after the deadline was stored and sees it, or this load
    /// comes after the watchdog set `NEVER` and notifies it; and as the scan holds the lock until it waits,
    /// the notification cannot be missed.
    fn notice(&self, deadline: u64) {
        if deadline < self.next_wake_ns.load(SeqCst) {
            self.notify();
        }
    }

    fn notify(&self) {
        drop(self.lock());
        self.wake.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<ThreadCell>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut threads = self.lock();
        while !self.stop.load(SeqCst) {
            self.next_wake_ns.store(NEVER, SeqCst);
            let now = platform::now_ns();
            let mut next = NEVER;
            for cell in threads.iter().filter_map(Weak::upgrade) {
                let mut due = cell.deadline_ns.load(SeqCst);
                if due != 0 && due <= now {
                    // Before the check, so that what the handler sets is not overwritten.
                    let retry = now + RETRY_NS;
                    if cell
                        .deadline_ns
                        .compare_exchange(due, retry, SeqCst, SeqCst)
                        .is_ok()
                    {
                        AsyncFuelChecker::from_cell(cell).check();
                    }
                    due = retry;
                }
                if due != 0 {
                    next = next.min(due);
                }
            }
            self.next_wake_ns.store(next, SeqCst);
            threads = if next == NEVER {
                self.wake
                    .wait(threads)
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                let wait = Duration::from_nanos(next.saturating_sub(platform::now_ns()));
                self.wake
                    .wait_timeout(threads, wait)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
        }
    }
}
