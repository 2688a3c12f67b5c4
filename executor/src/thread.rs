//! Threads with room for contracts that call each other.

use std::cell::Cell;
use std::io;
use std::thread::{Builder, JoinHandle};

/// Native stack of a thread that executes contracts, in bytes: [`slackline_sandbox::CodeLimits::stack_bytes`] of version 1 and as much again for
/// all else. Only addresses: what is not used takes no memory.
pub const STACK_BYTES: usize = 32 << 20;

thread_local! {
    static LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread with [`STACK_BYTES`] of stack, on which [`crate::Chain`] executes without starting another.
///
/// # Errors
///
/// If the system refuses it.
pub fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        .spawn(move || {
            LARGE.set(true);
            body()
        })
}

/// Runs `body` on a thread with enough stack: this one if it is of [`spawn`]'s, else one of its own.
pub(crate) fn on_large_stack<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    if LARGE.get() {
        return Ok(body());
    }
    std::thread::scope(|scope| {
        let thread = Builder::new()
            .name("slackline-execution".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                LARGE.set(true);
                body()
            })?;
        thread
            .join()
            .or_else(|panic| std::panic::resume_unwind(panic))
    })
}
