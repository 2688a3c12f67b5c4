//! Where threads have no timers of their own: the watchdog's thread looks after them.

#[derive(Debug, Default)]
pub(crate) struct Timer;

impl Timer {
    pub(crate) fn arm(&self, _deadline_ns: u64) -> bool {
        false
    }

    pub(crate) fn disarm(&self) {}
}

/// Time that the current execution takes, in nanoseconds. Whoever looks may be another thread, so it is not processor time.
pub(crate) fn execution_ns() -> u64 {
    crate::platform::now_ns()
}
