//! Who decides when to look at an execution, and who looks.
//!
//! # When
//!
//! An execution with `n` units left cannot be out of fuel before `n / MAX_BURN` nanoseconds have passed, so it is not looked at before.
//! A look that finds it within its limit knows how fast it burns: its fuel so far over its processor time so far, or that since the
//! look before if that is more. It is looked at again shortly before it would be out of fuel at that rate, and, once that is near, when
//! it would be; but never later than after as much time again as it has run, since the beginning says little about the rest
//! (memory is touched for the first time, caches are cold).
//!
//! So an execution that stays well within its limit is not looked at, one that is doomed gets a number of looks that grows with the logarithm of
//! its length, and one that passes its limit is stopped [`MIN_INTERVAL_NS`] or so later as long as its rate does not change.
//! If it does, by malice perhaps, from slow to fast, it is stopped no later than it would have run out of fuel had it gone on slowly,
//! which it was free to do, and before twice its time: there is nothing to be gained by it.
//!
//! A row of short executions would see a signal in vain for each [`FIRST_NS`] or so, by a timer that was set for one that has ended. So each signal that
//! stops nothing doubles the time until the first look at the thread's next executions, up to [`MAX_PATIENCE_NS`], and one that stops an execution
//! sets it back: the first doomed execution after many good ones is stopped that much later, those after it as soon as ever.
//!
//! # Who
//!
//! On Linux a timer of the thread's own ([`Driver::Timer`]): its interrupt comes on the processor on which the thread runs, so nobody else has
//! to be scheduled. An execution arms it unless it is armed for earlier, and leaves it armed if it was not looked at: for a
//! row of short executions that is one system call now and then instead of two for each, and a signal that finds no execution,
//! or a later one that is not due yet, does nothing but set the timer for that one. Elsewhere, and if the system refuses a timer, a thread of the
//! watchdog's ([`Driver::Thread`]) sleeps until the earliest deadline.
//!
//! # Measured
//!
//! With `cargo xtask bench slack`, on a virtual machine with two processors, Linux 6.18 with `CONFIG_HZ=250`, others compiling on it meanwhile
//! (load 10; the bench at a high priority). Kernel `hash`, limits from 10 µs to 1 s: overshoot in µs, the least and the
//! greatest median of the six, and the worst 99th percentile:
//!
//! | driver | processors otherwise | p50 | p99 |
//! |---|---|---|---|
//! | timer | as said | 4 to 31 | 48 |
//! | timer | kept busy by two more threads | 11 to 42 | 276 |
//! | thread | as said | 14 to 57 | 2207 |
//! | thread | kept busy by two more threads | 31 to 137 | 3989 |
//!
//! How late a signal itself comes, in µs of the thread's processor time, at the median: monotonic timers 21 to 43, the thread 51 to 61, and a
//! timer of the thread's processor time 2990 to 3971, whose resolution is the kernel's tick.
//!
//! - An execution that gets no signal pays 0.35 µs for being watched, most of it for reading its processor time; setting the timer and stopping it
//!   again takes 0.9 µs, or 3.3 µs if that is the processor's next interrupt, so it is not done for each.
//! - A signal takes 30 µs of the thread's time on this machine, of which 2 µs are the signal's and the rest that of interrupting a virtual processor. A
//!   loop of 0.5 ms that uses a tenth of its limit gets half a signal and takes 0.1 % longer; one that uses nine tenths gets three and takes 20 % longer; at 10 ms
//!   it is four and 2 %.
//! - A doomed execution gets 1 signal at 10 µs, 2 to 3 at 100 µs, 6 at 1 ms, 9 at 10 ms, 15 at 100 ms and 20 at 1 s.
//! - What pays in advance ([`slackline_metering_pass`]) passes its limit when it pays, and is seen to be late by up to the time that it has paid for.
//! - What burns faster after a slow beginning may take as much time again as it has: `sieve`, the first half of whose first millisecond
//!   goes into a `memory.fill` of fresh pages, is stopped 330 µs late with a limit of 1 ms, and 15 µs with 10 ms.

use crate::checker::ThreadCell;
use crate::timer::{self, Timer};
use crate::{AsyncFuelChecker, platform};
use std::fmt;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Fuel that compiled code is taken to burn at most in a nanosecond: the fastest kernel of `cargo xtask bench
/// overhead` burns 33. Only the number of looks and the overshoot depend on it.
const MAX_BURN: u64 = 32;

/// Shortest time between two looks at a thread, in nanoseconds.
const MIN_INTERVAL_NS: u64 = 20_000;

/// The first look may be later than [`MAX_BURN`] demands if it still comes before [`FIRST_NS`] and before an execution that burns
/// `USUAL_BURN` fuel a nanosecond is past its limit: short transactions with small limits should not all be looked at.
const USUAL_BURN: u64 = 8;
const FIRST_NS: u64 = 50_000;

/// The most that a first look is put off on a thread whose executions keep ending within their limits: at one signal in this time, of
/// some 30 µs each on a virtual machine, they take 2 % longer.
const MAX_PATIENCE_NS: u64 = 1_600_000;

/// When less than this is left at the present rate, in nanoseconds, the next look is meant to be the last. Else it
/// comes earlier, as the rate may rise: halfway, or, if the rate has been seen for four times as long, after three quarters.
const NEAR_NS: u64 = 100_000;

/// Time after which a look is repeated that found the thread outside wasm, in nanoseconds: a quarter of what the execution has taken, within
/// these bounds. From there it is checked when it goes on in wasm, so that it matters only if it then neither ends nor calls out.
const RETRY_NS: (u64, u64) = (50_000, 200_000);

const NEVER: u64 = u64::MAX;

/// Why the watchdog could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the watchdog thread: {0}")]
pub struct WatchdogError(#[from] std::io::Error);

/// Who looks at executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driver {
    /// A timer for each thread where there are such (Linux), else [`Driver::Thread`].
    Timer,
    /// One thread, for all others.
    Thread,
}

/// What checks threads during their executions. Dropping it ends that; executions watched then may be stopped only when
/// they leave wasm.
pub struct Watchdog {
    shared: Arc<Shared>,
    driver: Driver,
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
    /// Starts one, with timers where there are such.
    ///
    /// # Errors
    ///
    /// If the system refuses another thread.
    pub fn start() -> Result<Watchdog, WatchdogError> {
        Watchdog::with_driver(Driver::Timer)
    }

    /// Starts one that uses `driver`. Its thread exists in any case, for threads that get no timer.
    ///
    /// # Errors
    ///
    /// If the system refuses another thread.
    pub fn with_driver(driver: Driver) -> Result<Watchdog, WatchdogError> {
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
            driver,
            thread: Some(thread),
        })
    }

    /// Watches the current thread, whose checker `checker` is, during an execution with `fuel` units left.
    /// Watches nest: the outer one goes on, with a look at once if it is due, when the inner guard is dropped.
    pub fn watch<'a>(&'a self, checker: &'a AsyncFuelChecker, fuel: u64) -> WatchGuard<'a> {
        let cell = checker.cell();
        let outer = cell.watch.begin(fuel, self.driver == Driver::Timer);
        self.drive(cell);
        WatchGuard {
            watchdog: self,
            cell,
            outer,
        }
    }

    /// Makes sure that somebody looks at the thread at its deadline.
    fn drive(&self, cell: &Arc<ThreadCell>) {
        if !cell.watch.arm() {
            self.shared.enroll(cell);
            self.shared.notice(cell.watch.deadline_ns.load(SeqCst));
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
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
    cell: &'a Arc<ThreadCell>,
    outer: Suspended,
}

impl Drop for WatchGuard<'_> {
    fn drop(&mut self) {
        if self.cell.watch.end(self.outer) {
            self.watchdog.drive(self.cell);
        }
    }
}

/// A thread's execution, as seen by who watches it. Written by the thread itself, in [`Watchdog::watch`] and, while it is in wasm, in its signal
/// handler; the deadline also by the watchdog's thread, whose every value is as good. On platforms that suspend the thread to look at it,
/// what the handler would write is written by who has suspended it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// When to look: [`platform::now_ns`], 0 for never.
    deadline_ns: AtomicU64,
    start: Look,
    last: Look,
    /// Whether the timer is to be used for this execution.
    timed: AtomicBool,
    /// Whether the timer has been set by a look: then the execution disarms it.
    looked_at: AtomicBool,
    /// What the first look waits for at least, in nanoseconds: see the module's documentation.
    patience_ns: AtomicU64,
    pub(crate) timer: Timer,
}

/// What a look has seen.
#[derive(Debug, Default)]
struct Look {
    fuel_left: AtomicU64,
    time_ns: AtomicU64,
}

impl Look {
    fn get(&self) -> (u64, u64) {
        (self.fuel_left.load(Relaxed), self.time_ns.load(Relaxed))
    }

    fn set(&self, (fuel_left, time_ns): (u64, u64)) {
        self.fuel_left.store(fuel_left, Relaxed);
        self.time_ns.store(time_ns, Relaxed);
    }
}

/// An outer watch, while an inner one goes on.
#[derive(Clone, Copy, Debug)]
struct Suspended {
    deadline_ns: u64,
    start: (u64, u64),
    last: (u64, u64),
    timed: bool,
}

impl Watch {
    fn begin(&self, fuel: u64, timed: bool) -> Suspended {
        let outer = Suspended {
            deadline_ns: self.deadline_ns.swap(0, SeqCst),
            start: self.start.get(),
            last: self.last.get(),
            timed: self.timed.load(Relaxed),
        };
        let now = (fuel, timer::execution_ns());
        self.start.set(now);
        self.last.set(now);
        self.timed.store(timed, Relaxed);
        let first = first_ns(fuel).max(self.patience_ns.load(Relaxed));
        self.deadline_ns.store(after(first), SeqCst);
        outer
    }

    /// True if there is an outer execution to be looked at from now on.
    fn end(&self, outer: Suspended) -> bool {
        // First, so that a signal from here on finds nothing to look at until all is as it was.
        self.deadline_ns.store(0, SeqCst);
        self.start.set(outer.start);
        self.last.set(outer.last);
        self.timed.store(outer.timed, Relaxed);
        self.deadline_ns.store(outer.deadline_ns, SeqCst);
        if outer.deadline_ns == 0 && self.looked_at.swap(false, Relaxed) {
            self.timer.disarm();
        }
        outer.deadline_ns != 0
    }

    /// Sets the timer for the deadline; false if the execution is not to use it or there is none. Async-signal-safe.
    pub(crate) fn arm(&self) -> bool {
        let deadline = self.deadline_ns.load(SeqCst);
        deadline == 0 || self.timed.load(Relaxed) && self.timer.arm(deadline)
    }

    /// The timer's signal has come. True if it is time to look; call [`Watch::arm`] in either case afterwards. Async-signal-safe.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no timers"))]
    pub(crate) fn is_due(&self) -> bool {
        let deadline = self.deadline_ns.load(SeqCst);
        let now = platform::now_ns();
        if deadline == 0 || now < deadline {
            self.was_in_vain();
            return false;
        }
        self.looked_at.store(true, Relaxed);
        let elapsed = timer::execution_ns().saturating_sub(self.start.get().1);
        let retry = (elapsed / 4).clamp(RETRY_NS.0, RETRY_NS.1);
        self.deadline_ns.store(now + retry, SeqCst);
        true
    }

    /// A look found the execution in wasm with `fuel_left`: sets the next deadline. Async-signal-safe.
    pub(crate) fn within_limit(&self, fuel_left: u64) {
        if self.deadline_ns.load(SeqCst) == 0 {
            return;
        }
        self.was_in_vain();
        let now = (fuel_left, timer::execution_ns());
        let interval = next_ns(self.start.get(), self.last.get(), now);
        self.last.set(now);
        self.deadline_ns.store(after(interval), SeqCst);
    }

    /// A look that was to stop the execution found it outside wasm: another one soon. Async-signal-safe.
    pub(crate) fn look_again(&self) {
        if self.deadline_ns.load(SeqCst) != 0 {
            self.looked_at.store(true, Relaxed);
            self.deadline_ns.store(after(RETRY_NS.0), SeqCst);
        }
    }

    /// A signal has stopped nothing. Async-signal-safe: the thread's own signals do not interrupt each other, and a lost update would do no harm.
    fn was_in_vain(&self) {
        let patience = self.patience_ns.load(Relaxed);
        let longer = (2 * patience).clamp(FIRST_NS, MAX_PATIENCE_NS);
        self.patience_ns.store(longer, Relaxed);
    }

    /// A look found the execution in wasm, `overshoot` units past its limit: how long ago it passed it, in nanoseconds, taking it to
    /// have burnt evenly since the look before. `None` if it is not watched. Async-signal-safe.
    pub(crate) fn past_limit_ns(&self, overshoot: u64) -> Option<u64> {
        if self.deadline_ns.load(SeqCst) == 0 {
            return None;
        }
        self.patience_ns.store(0, Relaxed);
        let (fuel_left, time) = self.last.get();
        let since = timer::execution_ns().saturating_sub(time);
        let burnt = u128::from(fuel_left) + u128::from(overshoot);
        Some((u128::from(since) * u128::from(overshoot) / burnt.max(1)) as u64)
    }
}

fn after(interval_ns: u64) -> u64 {
    platform::now_ns()
        .saturating_add(interval_ns)
        .min(NEVER - 1)
}

/// The shortest time in which `fuel` can be burnt, in nanoseconds.
fn shortest_ns(fuel: u64) -> u64 {
    fuel / MAX_BURN
}

/// How long to wait until the first look at an execution that may use `fuel`, in nanoseconds.
fn first_ns(fuel: u64) -> u64 {
    shortest_ns(fuel)
        .max((fuel / USUAL_BURN).min(FIRST_NS))
        .max(MIN_INTERVAL_NS)
}

/// How long to wait until the next look after the one that saw `now`, in nanoseconds; `start` and `last` are the first and the one
/// before. Each is fuel left and time.
fn next_ns(start: (u64, u64), last: (u64, u64), now: (u64, u64)) -> u64 {
    let (left, time) = now;
    // At the rate since `then`. For ever if nothing was burnt since.
    let rest = |then: (u64, u64)| {
        let burnt = then.0.saturating_sub(left);
        let took = time.saturating_sub(then.1);
        (u128::from(left) * u128::from(took))
            .checked_div(u128::from(burnt))
            .and_then(|rest| u64::try_from(rest).ok())
            .unwrap_or(u64::MAX)
    };
    let rest = rest(start).min(rest(last));
    let elapsed = time.saturating_sub(start.1);
    let early = match rest {
        ..=NEAR_NS => 0,
        _ if rest > elapsed / 4 => rest / 2,
        _ => rest / 4,
    };
    (rest - early)
        .min(elapsed)
        .max(shortest_ns(left))
        .max(MIN_INTERVAL_NS)
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
                let deadline = &cell.watch.deadline_ns;
                let mut due = deadline.load(SeqCst);
                if due != 0 && due <= now {
                    // Before the check, so that what the handler sets is not overwritten.
                    let retry = now + RETRY_NS.1;
                    if deadline
                        .compare_exchange(due, retry, SeqCst, SeqCst)
                        .is_ok()
                    {
                        AsyncFuelChecker::from_cell(cell.clone()).check();
                    }
                    // The handler cannot wake anyone: see what it has set as soon as that may be due.
                    due = now + MIN_INTERVAL_NS;
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

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: u64 = 1_000_000_000;

    #[test]
    fn the_first_look_is_in_time() {
        // Never later than the highest rate allows by more than FIRST_NS, never earlier than MIN_INTERVAL_NS.
        for fuel in [0, 1, 100_000, 1_000_000, LEFT, 1 << 60] {
            let first = first_ns(fuel);
            assert!(first >= MIN_INTERVAL_NS, "{fuel}");
            assert!(first <= (fuel / MAX_BURN).max(FIRST_NS), "{fuel}");
        }
        assert_eq!(first_ns(LEFT), LEFT / MAX_BURN);
        assert_eq!(first_ns(300_000), 300_000 / USUAL_BURN);
    }

    /// What an even execution with the given rate gets: when looks come, each 30 µs late, and when it is past its limit, in nanoseconds.
    fn looks(limit: u64, fuel_per_us: u64) -> (Vec<u64>, u64) {
        let left = |time: u64| limit.saturating_sub(time * fuel_per_us / 1000);
        let start = (limit, 0);
        let mut last = start;
        let mut looks = vec![first_ns(limit) + 30_000];
        loop {
            let time = looks[looks.len() - 1];
            if left(time) == 0 {
                return (looks, limit * 1000 / fuel_per_us);
            }
            let now = (left(time), time);
            looks.push(time + next_ns(start, last, now) + 30_000);
            last = now;
        }
    }

    #[test]
    fn an_even_execution_is_stopped_soon_with_few_looks() {
        for fuel_per_us in [10, 100, 1_000, 3_000, 10_000, 32_000] {
            for length_us in [10, 30, 100, 300, 1_000, 10_000, 100_000, 1_000_000] {
                let (looks, past) = looks(length_us * fuel_per_us, fuel_per_us);
                let name = format!("{length_us} µs at {fuel_per_us}: {looks:?}");
                assert!(looks[looks.len() - 1] - past <= 80_000, "{name}");
                assert!(looks.len() <= 24, "{name}");
            }
        }
    }

    #[test]
    fn a_slow_beginning_is_not_believed() {
        // One unit in 40 µs, a billion left.
        let start = (LEFT, 0);
        let now = (LEFT - 1, 40_000_000);
        assert_eq!(next_ns(start, start, now), 40_000_000);
        // Nothing at all: a loop that has been paid for in advance.
        assert_eq!(next_ns(start, start, (LEFT, 40_000_000)), 40_000_000);
    }

    #[test]
    fn the_faster_of_two_rates_counts() {
        // Half of the fuel in a second, and before the last look in a tenth of a second a quarter.
        let start = (4 * LEFT, 0);
        let last = (3 * LEFT, 900_000_000);
        let now = (2 * LEFT, 1_000_000_000);
        let rest = 200_000_000;
        assert_eq!(next_ns(start, last, now), rest - rest / 4);
        // And near the end it is trusted: three units a nanosecond, 60,000 left.
        let (last, now) = ((3_060_000, 9_000_000), (60_000, 10_000_000));
        assert_eq!(next_ns(last, last, now), MIN_INTERVAL_NS);
        let now = (240_000, 9_940_000);
        assert_eq!(next_ns(last, last, now), 80_000);
    }
}
