//! A value that signal handlers read and other threads replace.
//!
//! # Reclamation
//!
//! The value is immutable behind an atomic pointer. A writer publishes a new one and frees the old ones as soon as it sees
//! no reader at work. All accesses are sequentially consistent; in their total order a reader does `readers += 1`,
//! load `current`, …, `readers -= 1`, a writer stores `current` and then loads `readers`. If it reads 0, each reader
//! either has finished before or adds itself afterwards, and then loads `current` after the store: no reader holds what
//! the store replaced. If it does not read 0, the old values wait for the next writer.

use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, PoisonError};

/// A `T`, or nothing yet.
pub(crate) struct Published<T> {
    current: AtomicPtr<T>,
    readers: AtomicUsize,
    /// What readers may still hold; its lock is the writers'.
    retired: Mutex<Vec<Box<T>>>,
}

impl<T: Send + Sync> Published<T> {
    pub(crate) const fn new() -> Published<T> {
        Published {
            current: AtomicPtr::new(ptr::null_mut()),
            readers: AtomicUsize::new(0),
            retired: Mutex::new(Vec::new()),
        }
    }

    /// Whether there is a value: one relaxed load.
    pub(crate) fn is_set(&self) -> bool {
        !self.current.load(Relaxed).is_null()
    }

    /// Calls `read` with the value. Async-signal-safe if `read` is, which must not panic.
    pub(crate) fn read<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        self.readers.fetch_add(1, SeqCst);
        // SAFETY: null or a value that no writer frees while `readers` counts us, as argued above.
        let result = read(unsafe { self.current.load(SeqCst).as_ref() });
        self.readers.fetch_sub(1, SeqCst);
        result
    }

    /// Replaces the value by what `next` makes of it. Writers take turns.
    pub(crate) fn update(&self, next: impl FnOnce(Option<&T>) -> Option<T>) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only `update` replaces or frees values, and we hold its lock.
        let next = next(unsafe { self.current.load(SeqCst).as_ref() });
        let next = next.map_or(ptr::null_mut(), |next| Box::into_raw(Box::new(next)));
        let old = self.current.swap(next, SeqCst);
        if !old.is_null() {
            // SAFETY: it came from `Box::into_raw` here, and was published once.
            retired.push(unsafe { Box::from_raw(old) });
        }
        if self.readers.load(SeqCst) == 0 {
            retired.clear();
        }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        let current = *self.current.get_mut();
        if !current.is_null() {
            // SAFETY: it came from `Box::into_raw` in `update`; nobody else has `self` any more.
            drop(unsafe { Box::from_raw(current) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    /// Tells when it is dropped, and spoils what readers look at.
    struct Canary(AtomicUsize, Arc<AtomicUsize>);

    impl Drop for Canary {
        fn drop(&mut self) {
            self.0.store(usize::MAX, SeqCst);
            self.1.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn what_a_reader_holds_is_not_freed() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let canary = |value| Some(Canary(AtomicUsize::new(value), dropped.clone()));
        let published = Published::new();
        assert!(!published.is_set());
        published.update(|_| canary(1));
        assert!(published.is_set());
        published.read(|held| {
            published.update(|_| canary(2));
            assert_eq!(dropped.load(SeqCst), 0);
            assert_eq!(held.map(|held| held.0.load(SeqCst)), Some(1));
        });
        published.update(|_| None);
        assert!(!published.is_set());
        assert_eq!(dropped.load(SeqCst), 2);
        published.update(|_| canary(3));
        drop(published);
        assert_eq!(dropped.load(SeqCst), 3);
    }

    #[test]
    fn readers_and_writers_race() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let published = Published::new();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        published.read(|value: Option<&Canary>| {
                            for _ in 0..100 {
                                assert!(value.is_none_or(|value| value.0.load(SeqCst) == 7));
                            }
                        });
                    }
                });
            }
            for round in 0..20_000 {
                published.update(|_| {
                    (round % 3 > 0).then(|| Canary(AtomicUsize::new(7), dropped.clone()))
                });
            }
            stop.store(true, Relaxed);
        });
        drop(published);
        assert_eq!(
            dropped.load(SeqCst),
            (0..20_000).filter(|round| round % 3 > 0).count()
        );
    }
}
