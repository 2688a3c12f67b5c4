//! Workers: they take tasks, execute with a [`View`], record, validate, and stop those that are doomed.

use crate::memory::{Add, Base, Blocked, Change, Held, Memory, Range, Seen, Stale};
use crate::scheduler::{Scheduler, Task};
use crate::sync::{self, AtomicBool, AtomicUsize, Mutex, Padded, lock};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What executes transactions. What a transaction outputs and changes must be a function of its number and of what it reads through its [`View`].
pub trait Machine: Sync {
    /// What keys hold. Equal values are the same to every transaction.
    type Value: Clone + PartialEq + Send + Sync;
    /// What can be added to them.
    type Add: Add + Send + Sync;
    /// What a transaction comes to besides its changes.
    type Output: Send;

    /// Called once on the thread of each worker, before anything else there.
    fn enter(&self, _worker: usize) {}

    /// Executes `transaction` as [`View::worker`].
    ///
    /// # Errors
    ///
    /// [`Stop::Stale`] if the view says so; [`Stop::Failed`] if it cannot be executed. The reason of that counts for nothing here: what was read may be of no
    /// state there ever was.
    #[expect(clippy::type_complexity, reason = "the machine's own types")]
    fn execute(
        &self,
        transaction: usize,
        view: View<Self::Value, Self::Add>,
    ) -> Result<Executed<Self::Value, Self::Add, Self::Output>, Stop>;

    /// Whether two values of `key` are the same to whoever reads it with [`View::read_base`].
    fn same_part(&self, key: &[u8], one: &Base<Self::Value>, other: &Base<Self::Value>) -> bool;

    /// What `worker` is executing is doomed: it may stop. Called on another thread, after [`View::is_stale`] has become true and before
    /// [`Machine::execute`] is called on that worker again, or is thrown away.
    fn cancel(&self, _worker: usize) {}

    /// `worker` begins another execution: what [`Machine::cancel`] said of the one before is over. Called on its thread.
    fn begin(&self, _worker: usize) {}
}

/// What executing a transaction came to.
#[derive(Clone, Debug)]
pub struct Executed<V, D, O> {
    /// Whatever the machine says.
    pub output: O,
    /// What it changes, each key once.
    pub changes: Vec<(Vec<u8>, Change<V, D>)>,
}

/// Why an execution has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The view has become stale.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The machine failed.
    #[error("the machine failed")]
    Failed,
}

/// How to execute.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers, the calling thread being the first.
    pub threads: usize,
    /// Stack of the others' threads, in bytes.
    pub stack_bytes: usize,
    /// How many of its first bytes say where a key is kept: keys that are scanned together have them in common.
    pub prefix: usize,
    /// How many executions may have been in vain before the rest is left to be executed in order.
    pub wasted: usize,
    /// Whether doomed executions are stopped before they end.
    pub cancel: bool,
}

/// Why a parallel execution ended before the last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// More executions in vain than [`Options::wasted`].
    Conflicts,
    /// The machine failed in some execution, which may have been on a state that never was.
    Failed,
}

/// What has been done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Executions begun.
    pub executions: u64,
    /// Of those, the ones whose result was recorded and turned out to be void.
    pub aborted: u64,
    /// The ones that were found to be doomed before they had ended.
    pub cancelled: u64,
    /// The ones that came upon an estimate.
    pub blocked: u64,
    /// Validations.
    pub validations: u64,
    /// Why it ended early, if it did.
    pub fallback: Option<Fallback>,
}

/// What is final.
#[derive(Clone, Debug)]
pub struct Finished<V, D, O> {
    /// Of the first transactions: of all of them, unless there was a [`Fallback`].
    pub outputs: Vec<O>,
    /// What these have made of each key that they change, in no particular order.
    pub changes: Vec<Held<V, D>>,
    /// What has been done.
    pub stats: Stats,
}

/// [`Finished`] by a machine.
pub type FinishedOf<M> =
    Finished<<M as Machine>::Value, <M as Machine>::Add, <M as Machine>::Output>;

/// Why there is no result at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A worker panicked: a bug in the machine.
    #[error("a worker panicked: {0}")]
    Panicked(String),
}

/// What was read, to be read again.
#[derive(Clone, Debug)]
enum Read<V, D> {
    Value(Vec<u8>, Seen<V, D>),
    Base(Vec<u8>, Base<V>),
    Next(Range, Option<Held<V, D>>),
}

/// What a worker is executing.
struct Running<V, D> {
    transaction: Option<usize>,
    reads: Vec<Read<V, D>>,
    /// It has read what is no longer so, or nobody wants it any more.
    doomed: bool,
    /// It has come upon an estimate of that transaction.
    blocked: Option<usize>,
}

struct Worker<V, D> {
    running: Mutex<Running<V, D>>,
    /// That it is doomed or blocked.
    stale: AtomicBool,
}

struct Shared<V, D> {
    memory: Memory<V, D>,
    workers: Vec<Padded<Worker<V, D>>>,
}

/// The state as a transaction finds it. What it reads is remembered. For use while [`Machine::execute`] runs.
pub struct View<V, D> {
    shared: Arc<Shared<V, D>>,
    worker: usize,
    transaction: usize,
}

impl<V: Clone + PartialEq, D: Add> View<V, D> {
    /// Who executes.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// What `key` holds.
    ///
    /// # Errors
    ///
    /// If the execution is void.
    pub fn read(&self, key: &[u8]) -> Result<Seen<V, D>, Stale> {
        self.remember(|memory, reads| {
            let seen = memory.read(key, self.transaction)?;
            reads.push(Read::Value(key.to_vec(), seen.clone()));
            Ok(seen)
        })
    }

    /// The value of `key` without what was added to it, of which only the part matters that [`Machine::same_part`] compares.
    ///
    /// # Errors
    ///
    /// If the execution is void.
    pub fn read_base(&self, key: &[u8]) -> Result<Base<V>, Stale> {
        self.remember(|memory, reads| {
            let base = memory.read_base(key, self.transaction)?;
            reads.push(Read::Base(key.to_vec(), base.clone()));
            Ok(base)
        })
    }

    /// The first key of `range` that transactions before this one have changed, and what it holds.
    ///
    /// # Errors
    ///
    /// If the execution is void.
    pub fn next(&self, range: &Range) -> Result<Option<Held<V, D>>, Stale> {
        self.remember(|memory, reads| {
            let found = memory.next(range, self.transaction)?;
            reads.push(Read::Next(range.clone(), found.clone()));
            Ok(found)
        })
    }

    /// Whether the execution is void. Once it is, it stays so.
    pub fn is_stale(&self) -> bool {
        self.shared.workers[self.worker].0.stale.load(SeqCst)
    }

    fn remember<T>(
        &self,
        read: impl FnOnce(&Memory<V, D>, &mut Vec<Read<V, D>>) -> Result<T, Blocked>,
    ) -> Result<T, Stale> {
        let worker = &self.shared.workers[self.worker].0;
        // Held while reading: who has changed the memory and then looks here sees the read, or the read has seen the change.
        let mut running = lock(&worker.running);
        if running.doomed || running.blocked.is_some() {
            return Err(Stale);
        }
        read(&self.shared.memory, &mut running.reads).map_err(|blocked| {
            running.blocked = Some(blocked.0);
            worker.stale.store(true, SeqCst);
            Stale
        })
    }
}

impl<V, D> fmt::Debug for View<V, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("worker", &self.worker)
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

/// The last incarnation of a transaction that was recorded.
struct Recorded<M: Machine + ?Sized> {
    reads: Arc<Vec<Read<M::Value, M::Add>>>,
    /// The keys that it changes, sorted.
    changed: Arc<Vec<Vec<u8>>>,
    output: Option<M::Output>,
}

#[derive(Default)]
struct Counters {
    executions: AtomicU64,
    aborted: AtomicU64,
    cancelled: AtomicU64,
    blocked: AtomicU64,
    validations: AtomicU64,
    wasted: AtomicUsize,
}

/// Why it was halted.
enum Halt {
    Fallback(Fallback),
    Panicked(String),
}

struct Engine<'a, M: Machine + ?Sized> {
    machine: &'a M,
    options: &'a Options,
    shared: Arc<Shared<M::Value, M::Add>>,
    scheduler: Scheduler,
    recorded: Vec<Mutex<Recorded<M>>>,
    counters: Counters,
    halt: Mutex<Option<Halt>>,
}

/// Executes transactions `0..transactions` on `machine`, with the result of executing them in that order. Blocks until done.
///
/// # Errors
///
/// If a worker panics.
pub fn run<M: Machine + ?Sized>(
    machine: &M,
    transactions: usize,
    options: &Options,
) -> Result<FinishedOf<M>, RunError> {
    let worker = || Worker {
        running: Mutex::new(Running {
            transaction: None,
            reads: Vec::new(),
            doomed: false,
            blocked: None,
        }),
        stale: AtomicBool::new(false),
    };
    let recorded = || Recorded {
        reads: Arc::default(),
        changed: Arc::default(),
        output: None,
    };
    let threads = options.threads.max(1);
    let engine = Engine {
        machine,
        options,
        shared: Arc::new(Shared {
            memory: Memory::new(options.prefix),
            workers: (0..threads).map(|_| Padded(worker())).collect(),
        }),
        scheduler: Scheduler::new(transactions),
        recorded: (0..transactions).map(|_| Mutex::new(recorded())).collect(),
        counters: Counters::default(),
        halt: Mutex::new(None),
    };
    sync::on_threads(threads, options.stack_bytes, |worker| {
        let work = AssertUnwindSafe(|| engine.work(worker));
        if let Err(panic) = catch_unwind(work) {
            engine.halt(Halt::Panicked(text(panic)));
        }
    });
    engine.finish()
}

fn text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => match panic.downcast_ref::<&str>() {
            Some(text) => (*text).to_owned(),
            None => "no text".to_owned(),
        },
    }
}

impl<M: Machine + ?Sized> Engine<'_, M> {
    fn work(&self, worker: usize) {
        self.machine.enter(worker);
        let (mut task, mut idle) = (None, 0);
        while !self.scheduler.is_done() {
            task = match task {
                Some(Task::Execute {
                    transaction,
                    incarnation,
                }) => self.execute(worker, transaction, incarnation),
                Some(Task::Validate {
                    transaction,
                    incarnation,
                }) => self.validate(worker, transaction, incarnation),
                None => self.scheduler.next(),
            };
            if task.is_some() {
                idle = 0;
            } else {
                sync::pause(idle);
                idle += 1;
            }
        }
    }

    /// Executes `transaction` until there is a result, or something to wait for first.
    fn execute(&self, worker: usize, transaction: usize, incarnation: u32) -> Option<Task> {
        while !self.scheduler.is_done() {
            self.begin(worker, transaction);
            let view = View {
                shared: self.shared.clone(),
                worker,
                transaction,
            };
            let result = self.machine.execute(transaction, view);
            let ran = self.end(worker);
            if ran.doomed {
                self.counters.cancelled.fetch_add(1, Relaxed);
                self.wasted();
                continue;
            }
            if let Some(blocking) = ran.blocked {
                self.counters.blocked.fetch_add(1, Relaxed);
                self.wasted();
                if self.scheduler.wait_for(transaction, blocking) {
                    return None;
                }
                continue;
            }
            let Ok(mut executed) = result else {
                self.halt(Halt::Fallback(Fallback::Failed));
                return None;
            };
            executed
                .changes
                .sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            let changed = executed
                .changes
                .iter()
                .map(|(key, _)| key.clone())
                .collect();
            let before = {
                let mut recorded = lock(&self.recorded[transaction]);
                recorded.reads = Arc::new(ran.reads);
                recorded.output = Some(executed.output);
                std::mem::replace(&mut recorded.changed, Arc::new(changed))
            };
            let done = self
                .shared
                .memory
                .record(transaction, &before, executed.changes);
            self.disturb(worker, transaction, &done.changed);
            return self.scheduler.executed(transaction, incarnation, done.new);
        }
        None
    }

    fn begin(&self, worker: usize, transaction: usize) {
        self.counters.executions.fetch_add(1, Relaxed);
        let own = &self.shared.workers[worker].0;
        let mut running = lock(&own.running);
        *running = Running {
            transaction: Some(transaction),
            reads: Vec::new(),
            doomed: false,
            blocked: None,
        };
        own.stale.store(false, SeqCst);
        // With the lock held, so that nobody cancels in between.
        self.machine.begin(worker);
        // A halt before this has not seen it.
        if self.scheduler.is_done() {
            running.doomed = true;
            own.stale.store(true, SeqCst);
        }
    }

    /// What the execution has read, and whether it counts. From here on nobody cancels it.
    fn end(&self, worker: usize) -> Running<M::Value, M::Add> {
        let mut running = lock(&self.shared.workers[worker].0.running);
        Running {
            transaction: running.transaction.take(),
            reads: std::mem::take(&mut running.reads),
            doomed: running.doomed,
            blocked: running.blocked,
        }
    }

    /// Counts an execution in vain.
    fn wasted(&self) {
        if self.counters.wasted.fetch_add(1, Relaxed) >= self.options.wasted {
            self.halt(Halt::Fallback(Fallback::Conflicts));
        }
    }

    /// Whether `transaction` would read this again.
    fn holds(&self, transaction: usize, read: &Read<M::Value, M::Add>) -> bool {
        let memory = &self.shared.memory;
        match read {
            Read::Value(key, seen) => memory.read(key, transaction).is_ok_and(|now| now == *seen),
            Read::Base(key, base) => memory
                .read_base(key, transaction)
                .is_ok_and(|now| now == *base || self.machine.same_part(key, base, &now)),
            Read::Next(range, found) => memory
                .next(range, transaction)
                .is_ok_and(|now| now == *found),
        }
    }

    /// `transaction` has changed what is at `keys`: dooms the executions after it that have read something else there.
    fn disturb(&self, worker: usize, transaction: usize, keys: &[Vec<u8>]) {
        if !self.options.cancel || keys.is_empty() {
            return;
        }
        let others = self.shared.workers.iter().enumerate();
        for (other, Padded(theirs)) in others.filter(|(other, _)| *other != worker) {
            let mut running = lock(&theirs.running);
            let Some(later) = running.transaction.filter(|&later| later > transaction) else {
                continue;
            };
            let mut touched = running.reads.iter().filter(|read| match read {
                Read::Value(key, _) | Read::Base(key, _) => keys.binary_search(key).is_ok(),
                Read::Next(range, _) => range.contains_any(keys),
            });
            if !running.doomed && touched.any(|read| !self.holds(later, read)) {
                running.doomed = true;
                theirs.stale.store(true, SeqCst);
                self.machine.cancel(other);
            }
        }
    }

    fn validate(&self, worker: usize, transaction: usize, incarnation: u32) -> Option<Task> {
        self.counters.validations.fetch_add(1, Relaxed);
        let (reads, changed) = {
            let recorded = lock(&self.recorded[transaction]);
            (recorded.reads.clone(), recorded.changed.clone())
        };
        let valid = reads.iter().all(|read| self.holds(transaction, read));
        let aborted = !valid && self.scheduler.abort(transaction, incarnation);
        if aborted {
            self.counters.aborted.fetch_add(1, Relaxed);
            self.wasted();
            self.shared.memory.mark_estimates(transaction, &changed);
            self.disturb(worker, transaction, &changed);
        }
        self.scheduler.validated(transaction, aborted)
    }

    /// Ends everything, executions that are running included.
    fn halt(&self, why: Halt) {
        lock(&self.halt).get_or_insert(why);
        self.scheduler.halt();
        for (worker, Padded(theirs)) in self.shared.workers.iter().enumerate() {
            let mut running = lock(&theirs.running);
            if running.transaction.is_some() && !running.doomed {
                running.doomed = true;
                theirs.stale.store(true, SeqCst);
                self.machine.cancel(worker);
            }
        }
    }

    /// How many transactions from the first on have read what those before them wrote in the end. By induction each is what it would have been in order.
    fn valid_prefix(&self) -> usize {
        let valid = |&transaction: &usize| {
            let recorded = lock(&self.recorded[transaction]);
            self.scheduler.is_executed(transaction)
                && recorded.output.is_some()
                && recorded
                    .reads
                    .iter()
                    .all(|read| self.holds(transaction, read))
        };
        (0..self.recorded.len()).take_while(valid).count()
    }

    fn finish(self) -> Result<FinishedOf<M>, RunError> {
        let halt = lock(&self.halt).take();
        let fallback = match halt {
            Some(Halt::Panicked(text)) => return Err(RunError::Panicked(text)),
            Some(Halt::Fallback(fallback)) => Some(fallback),
            None => None,
        };
        let committed = match fallback {
            Some(_) => self.valid_prefix(),
            None => self.recorded.len(),
        };
        debug_assert!(fallback.is_some() || self.valid_prefix() == committed);
        let outputs = self
            .recorded
            .iter()
            .take(committed)
            .filter_map(|recorded| lock(recorded).output.take())
            .collect();
        let counters = &self.counters;
        Ok(Finished {
            outputs,
            changes: self.shared.memory.drain(committed),
            stats: Stats {
                executions: counters.executions.load(Relaxed),
                aborted: counters.aborted.load(Relaxed),
                cancelled: counters.cancelled.load(Relaxed),
                blocked: counters.blocked.load(Relaxed),
                validations: counters.validations.load(Relaxed),
                fallback,
            },
        })
    }
}
