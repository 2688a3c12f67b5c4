//! What stops executions in [`Mode::Hybrid`](crate::Mode::Hybrid).

use crate::Metering;
use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Why the ticker could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the epoch ticker's thread: {0}")]
pub struct TickerError(#[from] std::io::Error);

/// A thread that moves an engine's epoch on. At each new epoch every execution passes through a
/// trampoline once, which stops it if it is over its limit: so one overshoots by at most a period (or as much longer as the
/// system lets this thread wait). Dropping the ticker ends the thread; executions are then only stopped when they leave wasm.
pub struct EpochTicker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EpochTicker {
    /// A period that costs executions nothing measurable.
    pub const PERIOD: Duration = Duration::from_millis(1);

    /// Starts the thread for `metering`'s engine.
    ///
    /// # Errors
    ///
    /// If the system refuses another thread.
    pub fn start(metering: &Metering, period: Duration) -> Result<EpochTicker, TickerError> {
        let (stop, stopped) = mpsc::channel();
        let engine = metering.engine().clone();
        let thread = std::thread::Builder::new()
            .name("slackline-ticker".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                    engine.increment_epoch();
                }
            })?;
        Ok(EpochTicker {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl fmt::Debug for EpochTicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochTicker").finish_non_exhaustive()
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        // Hanging up is what stops it.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it has, nothing is lost here.
            let _ = thread.join();
        }
    }
}
