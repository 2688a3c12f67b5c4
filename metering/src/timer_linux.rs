//! A timer for each thread, which signals it and nobody else.
//!
//! It counts `CLOCK_MONOTONIC`, not the thread's processor time: processor time timers expire at the kernel's ticks only (4 ms
//! at `CONFIG_HZ=250`), monotonic ones are high-resolution. While the thread does not run its signal is pending, and it
//! sees it before it executes anything else.
//!
//! `timer_settime` and `clock_gettime` may be called in a signal handler; so may everything here but [`Timer::create`] and
//! the destructor.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU64};

/// No timer yet, or the system refused one.
const NONE: i32 = -1;
const REFUSED: i32 = -2;

/// The timer of a thread. Deleted with the last who knows the thread; when the thread has ended it signals nobody, the kernel
/// remembers the thread by more than its number.
#[derive(Debug)]
pub(crate) struct Timer {
    /// The kernel's id for it, [`NONE`] or [`REFUSED`].
    id: AtomicI32,
    /// When it expires, in nanoseconds of `CLOCK_MONOTONIC`; 0 if never. It may expire earlier, and it may have expired.
    armed_ns: AtomicU64,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer {
            id: AtomicI32::new(NONE),
            armed_ns: AtomicU64::new(0),
        }
    }
}

impl Timer {
    /// Makes the timer on first use, to send `signal` with `cookie` to the current thread, which must be the one that it is for. If
    /// the system refuses (timers count as pending signals, which are limited), [`Timer::arm`] does.
    pub(crate) fn create(&self, signal: libc::c_int, cookie: usize) {
        if self.id.load(Relaxed) != NONE {
            return;
        }
        let mut id: libc::c_int = REFUSED;
        // SAFETY: all-zero is a valid sigevent. The kernel reads it and writes an id, which for it is an int. The C library's
        // own `timer_create` is not used because its ids are not always the kernel's.
        unsafe {
            let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_value.sival_ptr = ptr::without_provenance_mut(cookie);
            event.sigev_notify_thread_id = libc::gettid();
            let made = libc::syscall(
                libc::SYS_timer_create,
                libc::CLOCK_MONOTONIC,
                &raw const event,
                &raw mut id,
            );
            if made != 0 {
                id = REFUSED;
            }
        }
        self.id.store(id, Relaxed);
    }

    /// Makes sure that the timer expires at `deadline_ns`, not 0, or earlier. False if there is no timer.
    ///
    /// The timer's own signal may come between any two steps. What its handler does starts with [`Timer::expired`] and ends here too, so
    /// if it ran between the store and the system call, `armed_ns` is what that one stored, and the timer expires at
    /// `deadline_ns` nevertheless: perhaps earlier than `armed_ns` says, which is allowed.
    pub(crate) fn arm(&self, deadline_ns: u64) -> bool {
        if self.id.load(Relaxed) < 0 {
            return false;
        }
        let armed = self.armed_ns.load(SeqCst);
        if armed != 0 && armed <= deadline_ns {
            return true;
        }
        self.armed_ns.store(deadline_ns, SeqCst);
        self.set(deadline_ns)
    }

    /// Stops the timer. To be called when its handler would not arm it again.
    pub(crate) fn disarm(&self) {
        if self.armed_ns.swap(0, SeqCst) != 0 {
            self.set(0);
        }
    }

    /// The timer's signal has come. To be called first in the handler.
    pub(crate) fn expired(&self) {
        self.armed_ns.store(0, SeqCst);
    }

    fn set(&self, deadline_ns: u64) -> bool {
        let never = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let setting = libc::itimerspec {
            it_interval: never,
            it_value: libc::timespec {
                tv_sec: (deadline_ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (deadline_ns % 1_000_000_000) as libc::c_long,
            },
        };
        // SAFETY: the kernel reads `setting`, and writes nothing without a place for the old one.
        let result = unsafe {
            libc::syscall(
                libc::SYS_timer_settime,
                self.id.load(Relaxed),
                libc::TIMER_ABSTIME,
                &raw const setting,
                ptr::null_mut::<libc::itimerspec>(),
            )
        };
        result == 0
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let id = *self.id.get_mut();
        if id >= 0 {
            // SAFETY: made by `create`, and nobody else has it any more.
            unsafe { libc::syscall(libc::SYS_timer_delete, id) };
        }
    }
}

/// Processor time that the current thread has used, in nanoseconds.
pub(crate) fn execution_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result. The clock always exists.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
