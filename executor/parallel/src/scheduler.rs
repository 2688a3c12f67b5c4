//! Who executes or validates which transaction next: the collaborative scheduler of Block-STM (arXiv 2203.06871, algorithms 4 and 5).
//!
//! Two counters say up to where transactions have been handed out for execution and for validation. They are set back when a
//! transaction has to be executed again, and when one has written something that later ones may have read differently. A transaction is
//!
//! ```text
//!   ready ──handed out──▶ executing ──▶ executed ──validation fails──▶ aborting ──▶ ready, next incarnation
//!                             └── waits for an estimate ──────────────────▲ (until that one is executed)
//! ```
//!
//! All is done when both counters are past the end, no task is in work, and that was not a moment between two of these facts: whoever
//! sets a counter back does so while its task counts as in work, and counts that it did.

use crate::sync::{AtomicBool, AtomicUsize, Mutex, Padded, lock};
use std::sync::atomic::Ordering::SeqCst;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ready,
    Executing,
    Executed,
    Aborting,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Execute {
        transaction: usize,
        incarnation: u32,
    },
    Validate {
        transaction: usize,
        incarnation: u32,
    },
}

#[derive(Debug)]
struct Slot {
    status: Mutex<(u32, Status)>,
    /// Transactions that wait until this one is executed. Locked before any status.
    waiting: Mutex<Vec<usize>>,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    slots: Vec<Slot>,
    execution: Padded<AtomicUsize>,
    validation: Padded<AtomicUsize>,
    /// How many times one of these two was set back.
    decreases: Padded<AtomicUsize>,
    /// Tasks in work.
    active: Padded<AtomicUsize>,
    done: AtomicBool,
}

impl Scheduler {
    pub(crate) fn new(transactions: usize) -> Scheduler {
        let slot = || Slot {
            status: Mutex::new((0, Status::Ready)),
            waiting: Mutex::new(Vec::new()),
        };
        Scheduler {
            slots: (0..transactions).map(|_| slot()).collect(),
            execution: Padded::default(),
            validation: Padded::default(),
            decreases: Padded::default(),
            active: Padded::default(),
            done: AtomicBool::new(transactions == 0),
        }
    }

    /// Whether there is nothing left to do, now and for ever.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(SeqCst)
    }

    /// Ends it, whatever is left.
    pub(crate) fn halt(&self) {
        self.done.store(true, SeqCst);
    }

    pub(crate) fn is_executed(&self, transaction: usize) -> bool {
        lock(&self.slots[transaction].status).1 == Status::Executed
    }

    /// The next task, if there is one just now. Whoever takes it says when it is done.
    pub(crate) fn next(&self) -> Option<Task> {
        if self.validation.0.load(SeqCst) < self.execution.0.load(SeqCst) {
            self.next_to_validate()
        } else {
            self.next_to_execute()
        }
    }

    fn next_to_execute(&self) -> Option<Task> {
        if self.execution.0.load(SeqCst) >= self.slots.len() {
            self.check_done();
            return None;
        }
        self.active.0.fetch_add(1, SeqCst);
        let task = self.start(self.execution.0.fetch_add(1, SeqCst));
        self.end_unless(task)
    }

    fn next_to_validate(&self) -> Option<Task> {
        if self.validation.0.load(SeqCst) >= self.slots.len() {
            self.check_done();
            return None;
        }
        self.active.0.fetch_add(1, SeqCst);
        let transaction = self.validation.0.fetch_add(1, SeqCst);
        let task = self.slots.get(transaction).and_then(|slot| {
            let (incarnation, status) = *lock(&slot.status);
            (status == Status::Executed).then_some(Task::Validate {
                transaction,
                incarnation,
            })
        });
        self.end_unless(task)
    }

    /// The task in work is over unless there is another one in its place.
    fn end_unless(&self, next: Option<Task>) -> Option<Task> {
        if next.is_none() {
            self.active.0.fetch_sub(1, SeqCst);
        }
        next
    }

    /// The execution of `transaction`, if nobody else has it and it is not waiting.
    fn start(&self, transaction: usize) -> Option<Task> {
        let mut status = lock(&self.slots.get(transaction)?.status);
        if status.1 != Status::Ready {
            return None;
        }
        status.1 = Status::Executing;
        Some(Task::Execute {
            transaction,
            incarnation: status.0,
        })
    }

    fn check_done(&self) {
        let decreases = self.decreases.0.load(SeqCst);
        let handed_out = self
            .execution
            .0
            .load(SeqCst)
            .min(self.validation.0.load(SeqCst));
        if handed_out >= self.slots.len()
            && self.active.0.load(SeqCst) == 0
            && decreases == self.decreases.0.load(SeqCst)
        {
            self.done.store(true, SeqCst);
        }
    }

    fn execute_from(&self, transaction: usize) {
        self.execution.0.fetch_min(transaction, SeqCst);
        self.decreases.0.fetch_add(1, SeqCst);
    }

    fn validate_from(&self, transaction: usize) {
        self.validation.0.fetch_min(transaction, SeqCst);
        self.decreases.0.fetch_add(1, SeqCst);
    }

    /// The execution of `transaction` waits for `blocking`; false if that has been executed by now, and nothing was done.
    pub(crate) fn wait_for(&self, transaction: usize, blocking: usize) -> bool {
        let mut waiting = lock(&self.slots[blocking].waiting);
        // Whoever executes it takes the list after this is set.
        if lock(&self.slots[blocking].status).1 == Status::Executed {
            return false;
        }
        lock(&self.slots[transaction].status).1 = Status::Aborting;
        waiting.push(transaction);
        drop(waiting);
        self.active.0.fetch_sub(1, SeqCst);
        true
    }

    fn make_ready(&self, transaction: usize) {
        let mut status = lock(&self.slots[transaction].status);
        *status = (status.0 + 1, Status::Ready);
    }

    /// `transaction` has been executed and its changes recorded; `new`: some where it had none before.
    pub(crate) fn executed(&self, transaction: usize, incarnation: u32, new: bool) -> Option<Task> {
        let slot = &self.slots[transaction];
        lock(&slot.status).1 = Status::Executed;
        let waiting = std::mem::take(&mut *lock(&slot.waiting));
        if let Some(&first) = waiting.iter().min() {
            for waiting in waiting {
                self.make_ready(waiting);
            }
            self.execute_from(first);
        }
        // Otherwise it comes to be validated by itself, and those after it.
        let mut next = None;
        if self.validation.0.load(SeqCst) > transaction {
            if new {
                self.validate_from(transaction);
            } else {
                next = Some(Task::Validate {
                    transaction,
                    incarnation,
                });
            }
        }
        self.end_unless(next)
    }

    /// Whether the caller, whose validation has failed, is the one to abort this incarnation.
    pub(crate) fn abort(&self, transaction: usize, incarnation: u32) -> bool {
        let mut status = lock(&self.slots[transaction].status);
        let first = *status == (incarnation, Status::Executed);
        if first {
            status.1 = Status::Aborting;
        }
        first
    }

    /// A validation has ended; `aborted`: with what [`Scheduler::abort`] has allowed.
    pub(crate) fn validated(&self, transaction: usize, aborted: bool) -> Option<Task> {
        let mut next = None;
        if aborted {
            self.make_ready(transaction);
            self.validate_from(transaction + 1);
            // Otherwise it comes to be executed by itself.
            if self.execution.0.load(SeqCst) > transaction {
                next = self.start(transaction);
            }
        }
        self.end_unless(next)
    }
}
