//! Executes the transactions of a block: on several threads where that pays, with the result of executing them in order.
//!
//! ```text
//!   transactions ──prepare (hash, signature), many at once, on `rayon`'s threads──▶ Prepared
//!        │
//!        ├─ slackline_parallel::run ── Machine::execute ──▶ Executor::execute on a View of what those before it wrote
//!        │        └── disturbed while it runs: AsyncFuelChecker::cancel ──▶ the contract is stopped, the transaction executed again
//!        ▼
//!   the first n, final ──▶ BlockState ──▶ the others, in order, as far as there is Room ──▶ fees to the proposer
//! ```
//!
//! **What fits into a block.** A transaction does if what those before it in the block have used, and its own limit, are together no more than
//! [`block_fuel`](crate::params::Limits::block_fuel): what others have reserved and not used takes no room. That is the same in any order of execution, as
//! what each has used is. [`Room::Fitting`] executes many at once only as far as their limits together fit, so that all of these do; [`Room::All`] has a
//! block in which all have to fit, and looks at what they have used when that is known.
//!
//! Keys are those of [`crate::state`], and `c` + hash for the code that transactions bring. Payments to accounts, and what contracts come to hold in
//! storage, are adds ([`AccountAdd`]); that a contract is called depends on nothing of its account but the code.

use crate::chain::AdmitError;
use crate::execute::{Executor, Prepared, Transacted};
use crate::state::{
    AccountAdd, BlockState, Done, Effects, Found, Scan, StateView, Value, account, account_key,
};
use crate::store::StoreError;
use crate::thread::STACK_BYTES;
use crate::types::{Hash, Receipt, SignedTransaction};
use crate::vm::{ExecutionError, checker};
use rayon::prelude::*;
use slackline_metering::{AsyncFuelChecker, Mode};
use slackline_parallel::{
    Base, Change, Executed, Held, Machine, Options, Seen, Stale, Stop, View, run,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Bytes that the keys of a contract's storage have in common, and all that accounts and code have.
const PREFIX: usize = crate::state::STORAGE_PREFIX;

/// Transactions whose signatures are verified together, on one thread: more save little.
const PREPARE_TOGETHER: usize = 128;

const CODE: u8 = b'c';

fn code_key(hash: &Hash) -> Vec<u8> {
    [&[CODE], &hash.0[..]].concat()
}

/// How blocks are executed. It decides how long that takes, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parallelism {
    /// Threads that execute; 1 for executing in order.
    pub threads: usize,
    /// A block of fewer transactions is executed in order.
    pub least_transactions: usize,
    /// How many executions may be in vain, of 100 transactions, before the rest of the block is executed in order.
    pub wasted_percent: usize,
    /// Whether an execution that has read what was changed afterwards is stopped at once, and not when it ends.
    pub cancel: bool,
}

impl Default for Parallelism {
    /// As many threads as the machine has processors for this process.
    fn default() -> Parallelism {
        Parallelism {
            threads: std::thread::available_parallelism().map_or(1, Into::into),
            ..Parallelism::sequential()
        }
    }
}

impl Parallelism {
    /// In order, on one thread.
    pub fn sequential() -> Parallelism {
        Parallelism {
            threads: 1,
            least_transactions: 16,
            wasted_percent: 10,
            cancel: true,
        }
    }
}

/// How a block was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Threads that took part.
    pub threads: usize,
    /// Transactions whose result is that of the parallel execution; the others were executed in order.
    pub in_parallel: usize,
    /// Executions begun in parallel.
    pub executions: u64,
    /// Of those, the ones that were void when they had ended.
    pub aborted: u64,
    /// The ones that were stopped, or known to be void before they ended.
    pub cancelled: u64,
    /// The ones that came upon a change that was being made again.
    pub blocked: u64,
    /// Whether there was too much of that, so that the rest was executed in order.
    pub fell_back: bool,
}

type Outcome = Result<Receipt, AdmitError>;

/// Which transactions a block is to have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// All of them: one that does not fit ends it.
    All,
    /// Those that fit, without those of a sender after one that does not; and of these only as many as are begun by then, but one at least. Where it is
    /// cut off by time is for the proposer alone to say: everybody else executes what the block has.
    Fitting {
        /// Until when, if that matters.
        until: Option<Instant>,
    },
}

impl Room {
    fn is_over(self) -> bool {
        matches!(self, Room::Fitting { until: Some(until) } if Instant::now() >= until)
    }
}

/// How many of `transactions` fit whatever they use.
fn fit_by_limit(transactions: &[SignedTransaction], block_fuel: u64) -> usize {
    let mut sum = 0u64;
    let fits = |signed: &&SignedTransaction| {
        sum = sum.saturating_add(signed.transaction.fuel_limit);
        sum <= block_fuel
    };
    transactions.iter().take_while(fits).count()
}

/// Whether `signed` fits after those that have used `used`.
fn fits(used: u64, signed: &SignedTransaction, block_fuel: u64) -> bool {
    used.saturating_add(signed.transaction.fuel_limit) <= block_fuel
}

/// Executes `transactions` on `state`, in which nothing of the block has been done, and does what they do. `None` is one that there is no [`Room`] for;
/// if all have to fit there is nothing but that after the first such, and the state is of no use. The receipts' indices are for the caller to fill in.
pub(crate) fn execute(
    executor: &Executor<'_>,
    state: &Arc<BlockState>,
    transactions: &[SignedTransaction],
    parallelism: &Parallelism,
    room: Room,
) -> Result<(Vec<Option<Outcome>>, BlockStats), ExecutionError> {
    let block_fuel = executor.params.limits.block_fuel;
    let together = match room {
        Room::All => transactions.len(),
        Room::Fitting { .. } => fit_by_limit(transactions, block_fuel),
    };
    let few = together < parallelism.least_transactions;
    let threads = parallelism.threads.clamp(1, together.max(1));
    let mut stats = BlockStats {
        threads: if few { 1 } else { threads },
        ..BlockStats::default()
    };
    let prepared = match stats.threads {
        1 => executor.prepare(transactions),
        _ => transactions
            .par_chunks(PREPARE_TOGETHER)
            .flat_map_iter(|part| executor.prepare(part))
            .collect(),
    };
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    let mut used = 0;
    if stats.threads > 1 {
        let machine = BlockMachine {
            executor,
            state,
            transactions,
            prepared: &prepared,
            checkers: (0..threads).map(|_| OnceLock::new()).collect(),
            room,
            used: AtomicU64::new(0),
        };
        let options = Options {
            threads,
            stack_bytes: STACK_BYTES,
            prefix: PREFIX,
            wasted: (together * parallelism.wasted_percent / 100).max(2 * threads),
            cancel: parallelism.cancel,
        };
        let finished = run(&machine, together, &options);
        // This thread goes on executing.
        machine.begin(0);
        let finished = finished.map_err(|error| ExecutionError::Engine(error.to_string()))?;
        outcomes = finished.outputs.into_iter().map(Some).collect();
        stats = BlockStats {
            threads,
            in_parallel: outcomes.len(),
            executions: finished.stats.executions,
            aborted: finished.stats.aborted,
            cancelled: finished.stats.cancelled,
            blocked: finished.stats.blocked,
            fell_back: finished.stats.fallback.is_some(),
        };
        for (index, signed) in transactions[..outcomes.len()].iter().enumerate() {
            if let Some(Ok(receipt)) = &outcomes[index] {
                if !fits(used, signed, block_fuel) {
                    outcomes.truncate(index);
                    outcomes.resize(transactions.len(), None);
                    return Ok((outcomes, stats));
                }
                used += receipt.fuel_used;
            }
        }
        state.start_with(resolve_all(state, finished.changes)?);
    }
    let mut left = BTreeSet::new();
    for (signed, prepared) in transactions.iter().zip(&prepared).skip(outcomes.len()) {
        let first = outcomes.is_empty();
        // What is invalid by itself takes no room.
        let fits = prepared.intrinsic.is_err() || fits(used, signed, block_fuel);
        if !fits || left.contains(&prepared.sender) || (room.is_over() && !first) {
            if matches!(room, Room::All) {
                outcomes.resize(transactions.len(), None);
                return Ok((outcomes, stats));
            }
            left.insert(prepared.sender);
            outcomes.push(None);
            continue;
        }
        let result = executor.execute(state.clone(), signed, prepared, &mut None)?;
        outcomes.push(Some(match result {
            Ok(Transacted { receipt, effects }) => {
                state.apply(effects)?;
                used += receipt.fuel_used;
                Ok(receipt)
            }
            Err(error) => Err(error),
        }));
    }
    let receipts = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref()?.as_ref().ok());
    let fees: u128 = receipts.map(|receipt| receipt.fee - receipt.burnt).sum();
    if fees > 0 {
        let adds = [(executor.proposer, AccountAdd::balance(fees))].into();
        state.apply(Effects {
            adds,
            ..Effects::default()
        })?;
    }
    Ok((outcomes, stats))
}

/// What a key of the block's memory holds.
#[derive(Clone, Debug)]
enum Item {
    /// A value of the state; `None` if it is deleted.
    Value(Option<Value>),
    /// Code. The key is its hash.
    Code(Arc<Vec<u8>>),
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        match (self, other) {
            (Item::Value(one), Item::Value(other)) => one == other,
            // Compared under the same key.
            (Item::Code(_), Item::Code(_)) => true,
            _ => false,
        }
    }
}

fn code_of_key(key: &[u8]) -> Option<Hash> {
    let (kind, hash) = key.split_first()?;
    (*kind == CODE).then_some(Hash(hash.try_into().ok()?))
}

/// The value under `key` of which `seen` has been seen, over what was there before the block.
fn resolve(
    state: &BlockState,
    key: &[u8],
    seen: Seen<Item, AccountAdd>,
) -> Result<Option<Value>, StoreError> {
    let base = match seen.base {
        Base::Below => state.before(key)?,
        Base::Written(Item::Value(value)) => value,
        Base::Written(Item::Code(_)) => None,
    };
    match seen.added {
        None => Ok(base),
        Some(add) => Ok(Some(add.apply_to(base.as_deref())?)),
    }
}

/// What the changes come to, worked out on the threads of `rayon`'s pool.
fn resolve_all(
    state: &BlockState,
    changes: Vec<Held<Item, AccountAdd>>,
) -> Result<Done, StoreError> {
    let resolve = |(key, seen): Held<Item, AccountAdd>| {
        let item = match seen.base {
            Base::Written(Item::Code(code)) => Item::Code(code),
            _ => Item::Value(resolve(state, &key, seen)?),
        };
        Ok((key, item))
    };
    let changes = changes.into_par_iter().with_min_len(64).map(resolve);
    let mut done = Done::default();
    let mut writes = Vec::new();
    for (key, item) in changes.collect::<Result<Vec<_>, StoreError>>()? {
        match (item, code_of_key(&key)) {
            (Item::Value(value), _) => writes.push((key, value)),
            (Item::Code(code), Some(hash)) => drop(done.code.insert(hash, code)),
            (Item::Code(_), None) => {}
        }
    }
    // At once, so that the map is built of what is sorted first.
    done.writes = writes.into_iter().collect();
    Ok(done)
}

struct BlockMachine<'a> {
    executor: &'a Executor<'a>,
    state: &'a Arc<BlockState>,
    transactions: &'a [SignedTransaction],
    prepared: &'a [Prepared],
    /// Of each worker, once it has one.
    checkers: Vec<OnceLock<AsyncFuelChecker>>,
    room: Room,
    /// Fuel that executions have used so far, those in vain included.
    used: AtomicU64,
}

impl BlockMachine<'_> {
    /// The code of the account under `key`, as far as `base` tells.
    fn code_of(&self, key: &[u8], base: &Base<Item>) -> Result<Option<Hash>, StoreError> {
        let seen = Seen {
            base: base.clone(),
            added: None,
        };
        Ok(account(resolve(self.state, key, seen)?.as_deref())?.code)
    }
}

impl Machine for BlockMachine<'_> {
    type Value = Item;
    type Add = AccountAdd;
    type Output = Outcome;

    fn enter(&self, worker: usize) {
        // Without one, what is stale stops in the next host function.
        if self.executor.vm.mode() == Mode::Slacked
            && let Ok(checker) = checker()
        {
            // Entered once.
            let _ = self.checkers[worker].set(checker);
        }
    }

    fn execute(
        &self,
        transaction: usize,
        view: View<Item, AccountAdd>,
    ) -> Result<Executed<Item, AccountAdd, Outcome>, Stop> {
        // No more time, or more used than two blocks may: what is left is looked at in order.
        let most = self.executor.params.limits.block_fuel.saturating_mul(2);
        if self.room.is_over() || self.used.load(Relaxed) > most {
            return Err(Stop::Failed);
        }
        let state = Arc::new(ParallelView {
            view,
            state: self.state.clone(),
        });
        let signed = &self.transactions[transaction];
        let prepared = &self.prepared[transaction];
        let result = self.executor.execute(state, signed, prepared, &mut None);
        let Transacted { receipt, effects } = match result {
            Ok(Ok(transacted)) => transacted,
            Ok(Err(error)) => {
                return Ok(Executed {
                    output: Err(error),
                    changes: Vec::new(),
                });
            }
            Err(ExecutionError::Stale) => return Err(Stale.into()),
            Err(_) => return Err(Stop::Failed),
        };
        self.used.fetch_add(receipt.fuel_used, Relaxed);
        let writes = effects.writes.into_iter();
        let writes = writes.map(|(key, value)| (key, Change::Write(Item::Value(value))));
        let adds = effects.adds.into_iter();
        let adds = adds.map(|(address, add)| (account_key(&address), Change::Add(add)));
        let code = effects.code.into_iter();
        let code = code.map(|(hash, code)| (code_key(&hash), Change::Write(Item::Code(code))));
        Ok(Executed {
            output: Ok(receipt),
            changes: writes.chain(adds).chain(code).collect(),
        })
    }

    fn same_part(&self, key: &[u8], one: &Base<Item>, other: &Base<Item>) -> bool {
        match (self.code_of(key, one), self.code_of(key, other)) {
            (Ok(one), Ok(other)) => one == other,
            // Executed again, which fails or not.
            _ => false,
        }
    }

    fn cancel(&self, worker: usize) {
        if let Some(checker) = self.checkers[worker].get() {
            checker.cancel();
        }
    }

    fn begin(&self, worker: usize) {
        if let Some(checker) = self.checkers[worker].get() {
            checker.resume();
        }
    }
}

/// The state as a transaction finds it while those before it may still be executing.
struct ParallelView {
    view: View<Item, AccountAdd>,
    /// Nothing of the block has been done in it.
    state: Arc<BlockState>,
}

impl From<Stale> for ExecutionError {
    fn from(Stale: Stale) -> ExecutionError {
        ExecutionError::Stale
    }
}

impl StateView for ParallelView {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ExecutionError> {
        Ok(resolve(&self.state, key, self.view.read(key)?)?)
    }

    fn code_of(&self, key: &[u8]) -> Result<Option<Hash>, ExecutionError> {
        let seen = Seen {
            base: self.view.read_base(key)?,
            added: None,
        };
        Ok(account(resolve(&self.state, key, seen)?.as_deref())?.code)
    }

    fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, ExecutionError> {
        // Nothing is added to what scans find.
        let has_value = |seen: &Seen<Item, AccountAdd>| {
            matches!(&seen.base, Base::Written(Item::Value(Some(_))))
        };
        let written = |scan: &Scan| {
            let found = self.view.next(&scan.range())?;
            Ok(found.map(|(key, seen)| (key, has_value(&seen))))
        };
        scan.merge(budget, written, |scan, _| {
            Ok(match scan.first_stored(self.state.snapshot())? {
                Some(key) => Found::Key(key),
                None => Found::Nothing,
            })
        })
    }

    fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, ExecutionError> {
        match self.view.read(&code_key(hash))?.base {
            Base::Written(Item::Code(code)) => Ok(Some(code)),
            _ => Ok(self.state.snapshot().code(hash)?.map(Arc::new)),
        }
    }

    fn has_code(&self, hash: &Hash) -> Result<bool, ExecutionError> {
        match self.view.read(&code_key(hash))?.base {
            Base::Written(_) => Ok(true),
            Base::Below => Ok(self.state.snapshot().has_code(hash)?),
        }
    }

    fn is_stale(&self) -> bool {
        self.view.is_stale()
    }
}
