//! A queue of samples that signal handlers write: bounded, lock-free for writers, all of it atomics.
//!
//! Dmitry Vyukov's bounded queue. Positions count up for ever; position `p` uses slot `p % capacity`. A slot's `turn` says what it waits for:
//! `p` to be written at position `p`, `p + 1` to be read there, `p + capacity` to be written in the next round. A writer
//! owns a slot from the moment it has advanced `tail` over it until it sets `turn`; one that is stopped in between
//! holds up nobody but the reader, who takes what was written later when it is done.

use std::sync::Mutex;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

pub(crate) struct Ring {
    /// A power of two of them.
    slots: Box<[Slot]>,
    tail: AtomicUsize,
    /// Held by the one who reads.
    head: Mutex<usize>,
    lost: AtomicU64,
}

struct Slot {
    turn: AtomicUsize,
    module: AtomicU64,
    pc: AtomicUsize,
    /// [`NO_FUEL`] for none.
    fuel: AtomicU64,
}

const NO_FUEL: u64 = u64::MAX;

/// A sample as it was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) module: u64,
    pub(crate) pc: usize,
    pub(crate) fuel: Option<u64>,
}

impl Ring {
    /// With room for at least `capacity` samples.
    pub(crate) fn new(capacity: usize) -> Ring {
        let slots = (0..capacity.max(2).next_power_of_two())
            .map(|position| Slot {
                turn: AtomicUsize::new(position),
                module: AtomicU64::new(0),
                pc: AtomicUsize::new(0),
                fuel: AtomicU64::new(0),
            })
            .collect();
        Ring {
            slots,
            tail: AtomicUsize::new(0),
            head: Mutex::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Adds a sample, or counts it as lost if there is no room. Async-signal-safe: atomics, no panic.
    pub(crate) fn push(&self, module: u64, pc: usize, fuel: Option<u64>) {
        let mut tail = self.tail.load(Relaxed);
        loop {
            let Some(slot) = self.slots.get(tail & (self.slots.len() - 1)) else {
                return;
            };
            let turn = slot.turn.load(Acquire);
            if turn == tail {
                match self
                    .tail
                    .compare_exchange_weak(tail, tail.wrapping_add(1), Relaxed, Relaxed)
                {
                    Ok(_) => {
                        slot.module.store(module, Relaxed);
                        slot.pc.store(pc, Relaxed);
                        slot.fuel.store(fuel.unwrap_or(NO_FUEL), Relaxed);
                        slot.turn.store(tail.wrapping_add(1), Release);
                        return;
                    }
                    Err(now) => tail = now,
                }
            } else if turn.wrapping_sub(tail) as isize > 0 {
                // Others have taken it meanwhile.
                tail = self.tail.load(Relaxed);
            } else {
                // Not read since the last round.
                self.lose();
                return;
            }
        }
    }

    /// The oldest sample.
    pub(crate) fn pop(&self) -> Option<Raw> {
        let mut head = self.lock();
        let slot = &self.slots[*head & (self.slots.len() - 1)];
        if slot.turn.load(Acquire) != head.wrapping_add(1) {
            return None;
        }
        let fuel = slot.fuel.load(Relaxed);
        let raw = Raw {
            module: slot.module.load(Relaxed),
            pc: slot.pc.load(Relaxed),
            fuel: (fuel != NO_FUEL).then_some(fuel),
        };
        slot.turn
            .store(head.wrapping_add(self.slots.len()), Release);
        *head = head.wrapping_add(1);
        Some(raw)
    }

    /// Whether everything that was begun to be written has been read.
    pub(crate) fn is_empty(&self) -> bool {
        *self.lock() == self.tail.load(Acquire)
    }

    /// Counts a sample as lost.
    pub(crate) fn lose(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.head
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn first_in_first_out_and_full_is_lost() {
        let ring = Ring::new(3);
        for round in 0..10 {
            for i in 0..6 {
                ring.push(round, i, (i > 0).then_some(i as u64));
            }
            assert_eq!(ring.lost(), 2 * (round + 1), "there are four slots");
            for i in 0..4 {
                assert!(!ring.is_empty());
                let expected = Raw {
                    module: round,
                    pc: i,
                    fuel: (i > 0).then_some(i as u64),
                };
                assert_eq!(ring.pop(), Some(expected));
            }
            assert!(ring.is_empty());
            assert_eq!(ring.pop(), None);
        }
    }

    /// Whatever is popped was pushed as it is, once, in each writer's order; and the rest is counted.
    #[test]
    fn writers_race() {
        const WRITERS: u64 = 3;
        const EACH: u64 = 100_000;
        let ring = Ring::new(64);
        let done = AtomicBool::new(false);
        let mut next = [0; WRITERS as usize];
        let mut popped = 0;
        let mut check = |raw: Raw| {
            assert_eq!(Some(raw.pc as u64 * 3), raw.fuel);
            assert!(raw.pc as u64 >= next[raw.module as usize]);
            next[raw.module as usize] = raw.pc as u64 + 1;
            popped += 1;
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let ring = &ring;
                    scope.spawn(move || {
                        for i in 0..EACH {
                            ring.push(writer, i as usize, Some(i * 3));
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Acquire) {
                    ring.pop().into_iter().for_each(&mut check);
                }
            });
            for writer in writers {
                writer.join().expect("does not panic");
            }
            done.store(true, Release);
        });
        while let Some(raw) = ring.pop() {
            check(raw);
        }
        assert_eq!(popped + ring.lost(), WRITERS * EACH);
    }
}
