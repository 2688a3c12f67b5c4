//! What the engine synchronises with: the standard library's, or shuttle's in unit tests, which run under schedules of its choice.

use std::sync::PoisonError;

#[cfg(not(test))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicUsize},
};

#[cfg(test)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicUsize},
};

// Nothing behind these locks is left half changed by a panic that anybody goes on after: a panic ends the run.

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// On a line of the cache of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Waits a little, for the `round`th time in a row.
#[cfg(not(test))]
pub(crate) fn pause(round: u32) {
    match round {
        0..32 => std::hint::spin_loop(),
        32..512 => std::thread::yield_now(),
        // A transaction that takes long: nothing to be lost by waiting this much longer. Not by `sleep`: what Linux says is left of one that a
        // signal interrupts includes the timer's slack, so under signals each less than 50 µs after the other it never ends. Parking has a
        // deadline.
        _ => std::thread::park_timeout(std::time::Duration::from_micros(50)),
    }
}

#[cfg(test)]
pub(crate) fn pause(_: u32) {
    shuttle::thread::yield_now();
}

/// Runs `body` for each number below `threads`: the first on this thread, the others on threads with `stack_bytes` of stack. Where the system
/// refuses a thread there is one fewer.
#[cfg(not(test))]
pub(crate) fn on_threads(threads: usize, stack_bytes: usize, body: impl Fn(usize) + Sync) {
    let body = &body;
    std::thread::scope(|scope| {
        for worker in 1..threads {
            // If this fails the others do its part.
            let _ = std::thread::Builder::new()
                .name(format!("slackline-worker-{worker}"))
                .stack_size(stack_bytes)
                .spawn_scoped(scope, move || body(worker));
        }
        body(0);
    });
}

#[cfg(test)]
pub(crate) fn on_threads(threads: usize, _: usize, body: impl Fn(usize) + Sync) {
    let body = &body;
    shuttle::thread::scope(|scope| {
        for worker in 1..threads {
            scope.spawn(move || body(worker));
        }
        body(0);
    });
}
