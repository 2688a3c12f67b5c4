//! The clock that everything is measured with.

use std::time::Duration;

/// Processor time of this thread so far: what others do on the machine meanwhile takes none of it (though it makes caches
/// colder). Signal handlers that run on the thread are part of it.
///
/// # Panics
///
/// If the system lacks the clock, which POSIX demands.
pub fn thread_time() -> Duration {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of all threads of this process so far.
///
/// # Panics
///
/// As [`thread_time`].
pub fn process_time() -> Duration {
    time_of(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a place for the result.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "no clock for the processor time");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_takes_none() {
        let start = thread_time();
        std::thread::sleep(Duration::from_millis(100));
        assert!(thread_time() - start < Duration::from_millis(50));
        while thread_time() == start {}
    }
}
