//! A chain: its database, its engine, and the rules by which blocks are made.

use crate::compiler::Compiler;
use crate::execute::{
    Executor, Signatures, ValidatorsError, check_validators, code_hash, validate, validate_sender,
};
use crate::host::Env;
use crate::parallel::{self, BlockStats, Parallelism, Room};
use crate::params::ProtocolParams;
use crate::read_cache::ReadCache;
use crate::sample::{Sampling, SamplingError};
use crate::state::{BlockState, Overlay, account, account_key, governor_key, validators_key};
use crate::store::{
    Activity, BlockWrites, EventAt, EventQuery, Rocks, Store, StoreError, StoreOptions, TreeUpdate,
    decode, tools, transfer::Export,
};
use crate::thread::on_large_stack;
use crate::trace::{CallTrace, Detail, Footprint, Recorder};
use crate::types::{
    Account, Action, Address, Block, HEADER_VERSION, Hash, Header, Outcome, Receipt,
    SignedTransaction, Validator, encode,
};
use crate::verified::Verified;
use crate::vm::{Call, Called, Ended, Entry, ExecutionError, MeteringStats, Refusal, Vm};
use serde::{Deserialize, Serialize};
use slackline_metering::{MeteringError, Mode, Overshoot};
use slackline_proof::{List, StateAnswer, list_root};
use slackline_sandbox::{CodeError, INIT, Interface, UPGRADE};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The directory of compiled code, in the database's.
const COMPILED: &str = "compiled";
/// That of code compiled to be profiled, by this version of how that is done.
const PROFILED: &str = "profiled-1";

/// What a chain begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Tells chains apart: a transaction is valid on one.
    pub chain_id: u64,
    /// Milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Who makes the blocks and gets the fees.
    pub proposer: Address,
    /// Accounts that exist from the start.
    pub accounts: Vec<GenesisAccount>,
    /// Who votes on the first block; none if one node makes the blocks alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validators: Vec<Validator>,
    /// Who may change the validators; nobody if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<Address>,
}

/// An account that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// Whose.
    pub address: Address,
    /// In the smallest unit of the currency.
    #[serde(with = "crate::types::decimal")]
    pub balance: u128,
}

/// Why a chain could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the database open.
    #[error("the database in {} is in use by another process: stop that one, or use another directory", path.display())]
    InUse {
        /// The database's directory.
        path: PathBuf,
    },
    /// The database belongs to a chain with another genesis.
    #[error("the database in {} belongs to another chain: its genesis differs from the one given", path.display())]
    OtherGenesis {
        /// The database's directory.
        path: PathBuf,
    },
    /// The balances add up to more than can be counted.
    #[error("the balances of the genesis add up to 2^127 or more")]
    TooMuch,
    /// Nobody could agree with the genesis's validators.
    #[error("the validators of the genesis: {0}")]
    Validators(#[from] ValidatorsError),
    /// The genesis lists an account twice.
    #[error("the genesis lists account {0} twice")]
    DuplicateAccount(Address),
    /// The database failed, is damaged, or was written by another version.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine cannot be set up.
    #[error(transparent)]
    Metering(#[from] MeteringError),
    /// The system refuses the thread that compiles.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Why a transaction is not accepted. It changes nothing and costs nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// Over the size limit.
    #[error("the transaction has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Not the borsh encoding of a signed transaction.
    #[error("this is not a borsh-encoded signed transaction: {0}")]
    Malformed(String),
    /// For another chain.
    #[error("the transaction is for chain {got}, this is chain {expected}")]
    WrongChain {
        /// This chain's id.
        expected: u64,
        /// The transaction's.
        got: u64,
    },
    /// The signature is not the sender's over this transaction.
    #[error("the signature does not match the sender's key and the transaction")]
    BadSignature,
    /// A transaction with this nonce has been executed or is waiting.
    #[error("nonce {got} has been used: the sender's next nonce is {expected}")]
    NonceTooLow {
        /// The nonce that would be accepted.
        expected: u64,
        /// The transaction's.
        got: u64,
    },
    /// Transactions with lower nonces are missing.
    #[error("nonce {got} leaves a gap: the sender's next nonce is {expected}")]
    NonceTooHigh {
        /// The nonce that would be accepted.
        expected: u64,
        /// The transaction's.
        got: u64,
    },
    /// The sender cannot pay for the fuel limit at that price, and the amount.
    #[error(
        "the sender has {available} to spend, the transaction may cost {needed} (fuel limit times price, plus amount)"
    )]
    InsufficientBalance {
        /// The most that it may cost, in the currency.
        needed: u128,
        /// What the sender has, less what its waiting transactions may cost.
        available: u128,
    },
    /// The limit does not even cover what the transaction costs before anything runs.
    #[error("a fuel limit of {got} is too low: this transaction needs at least {minimum}")]
    FuelLimitTooLow {
        /// The lowest limit that is accepted, in fuel.
        minimum: u64,
        /// The transaction's, in fuel.
        got: u64,
    },
    /// The limit is over what a transaction may use.
    #[error("a fuel limit of {got} is too high: the maximum is {maximum}")]
    FuelLimitTooHigh {
        /// The highest limit that is accepted, in fuel.
        maximum: u64,
        /// The transaction's, in fuel.
        got: u64,
    },
    /// The most that the sender would pay for a unit of fuel is less than it costs in the next block.
    #[error("a fuel price of {got} is too low: the base price is {base_price}")]
    FuelPriceTooLow {
        /// The base price of the next block, in the smallest unit of the currency.
        base_price: u64,
        /// The most that the sender would pay.
        got: u64,
    },
    /// Nothing is deployed there.
    #[error("there is no contract at {0}")]
    NoContract(Address),
    /// The contract does not have that method, or it is `init`.
    #[error("the contract at {contract} has no method {method:?}; it has: {}", available.join(", "))]
    UnknownMethod {
        /// The contract.
        contract: Address,
        /// The method asked for.
        method: String,
        /// Those that there are.
        available: Vec<String>,
    },
    /// The code to deploy is not a contract.
    #[error("the code cannot be deployed: {0}")]
    InvalidCode(CodeError),
    /// The database failed: not the transaction's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a block could not be made. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// A transaction does not fit: what those before it have used and its own limit are more than a block may use.
    #[error(
        "transaction {transaction} could bring the block to {fuel} fuel, over its limit of {limit}"
    )]
    TooMuchFuel {
        /// The transaction that does not fit.
        transaction: Hash,
        /// The fuel that those before it have used, and its limit.
        fuel: u64,
        /// The limit, in fuel.
        limit: u64,
    },
    /// The machine failed while executing.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// The block could not be stored. Whether it is on disk is unknown: reopen the database to find out.
    #[error("the block could not be stored: {0}")]
    Commit(StoreError),
    /// It was made on another head.
    #[error("block {height} was made on another head than the present one, which is at {head}")]
    NotNext {
        /// The block's height.
        height: u64,
        /// The head's height.
        head: u64,
    },
    /// An earlier block could not be stored.
    #[error("an earlier block could not be stored: restart to recover")]
    Poisoned,
}

/// Why a block of somebody else's was not executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// It is for another height, or another parent: nothing is wrong with it as such.
    #[error(
        "it is the block at height {height} after {parent}, the next one is that at {expected_height} after {expected_parent}"
    )]
    NotNext {
        /// The block's.
        height: u64,
        /// The block's.
        parent: Hash,
        /// The height that would be accepted.
        expected_height: u64,
        /// The head's hash.
        expected_parent: Hash,
    },
    /// A transaction of it is invalid.
    #[error("transaction {0} is invalid: {1}")]
    Transaction(Hash, AdmitError),
    /// Its transactions may use more fuel, or take more bytes, than a block's.
    #[error("{0}")]
    TooLarge(String),
    /// Its header is not what its transactions come to.
    #[error("its header is not that of its transactions: {field} should be {expected}")]
    Header {
        /// The first field that differs.
        field: &'static str,
        /// What it should be.
        expected: String,
    },
    /// The machine failed: not the block's fault.
    #[error(transparent)]
    Produce(ProduceError),
}

/// Why a view call was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// Nothing is deployed there.
    #[error("there is no contract at {0}")]
    NoContract(Address),
    /// The contract does not have that method, or it is `init`.
    #[error("the contract at {contract} has no method {method:?}; it has: {}", available.join(", "))]
    UnknownMethod {
        /// The contract.
        contract: Address,
        /// The method asked for.
        method: String,
        /// Those that there are.
        available: Vec<String>,
    },
    /// The limit is over what a transaction may use.
    #[error("a fuel limit of {got} is too high: the maximum is {maximum}")]
    FuelLimitTooHigh {
        /// The highest limit that is accepted, in fuel.
        maximum: u64,
        /// The call's, in fuel.
        got: u64,
    },
    /// The input would not fit into a transaction.
    #[error("the input has {bytes} bytes, more than the limit of {limit}")]
    InputTooLarge {
        /// Its size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The machine failed.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
}

impl From<StoreError> for ViewError {
    fn from(error: StoreError) -> ViewError {
        ViewError::Execution(error.into())
    }
}

/// A sender's transactions that wait for a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// How many.
    pub count: u64,
    /// The most that they may cost together, in the currency.
    pub cost: u128,
}

/// A block that has been made and stored.
#[derive(Clone, Debug)]
pub struct Produced {
    /// The block's header.
    pub header: Header,
    /// What became of its transactions, in order.
    pub receipts: Vec<Receipt>,
    /// Transactions that had become invalid and are not in the block.
    pub dropped: Vec<(Hash, AdmitError)>,
    /// Transactions that there was no room for. They may be in the next one.
    pub left: Vec<Hash>,
    /// How its transactions were executed.
    pub stats: BlockStats,
}

/// A block that has been executed, but is not stored: see [`Chain::commit`].
pub struct Executed(Made);

impl Executed {
    /// The block.
    pub fn block(&self) -> &Block {
        &self.0.block
    }

    /// What became of its transactions, in order.
    pub fn receipts(&self) -> &[Receipt] {
        &self.0.receipts
    }

    /// Transactions that are invalid and not in the block.
    pub fn dropped(&self) -> &[(Hash, AdmitError)] {
        &self.0.dropped
    }

    /// Transactions that there was no room or no time for. They may be in the next one.
    pub fn left(&self) -> &[Hash] {
        &self.0.left
    }

    /// How long its state root took, of what execution took in all.
    pub fn root_took(&self) -> Duration {
        self.0.root_took
    }
}

impl std::fmt::Debug for Executed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Executed")
            .field(&self.0.block.header)
            .finish()
    }
}

/// A block that has been made.
#[derive(Clone)]
struct Made {
    block: Block,
    receipts: Vec<Receipt>,
    dropped: Vec<(Hash, AdmitError)>,
    left: Vec<Hash>,
    state: crate::state::Writes,
    code: std::collections::BTreeMap<Hash, Arc<Vec<u8>>>,
    tree: TreeUpdate,
    /// How long that took.
    root_took: Duration,
    stats: BlockStats,
}

/// What executing a transaction of a block again came to.
enum Replayed {
    Done(Box<(Result<Receipt, AdmitError>, Option<CallTrace>)>),
    /// Nobody wants to know any more.
    Abandoned,
    /// The block does not have it.
    Missing,
}

/// What a transaction would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Its receipt, of the block that it would be in.
    pub receipt: Receipt,
    /// What would happen in it, if it calls a contract and that was asked for.
    pub call: Option<CallTrace>,
    /// What contracts would use of their storage.
    pub footprint: Footprint,
    /// The lowest fuel limit that gives the same outcome and events, or at most a thousandth more; the lowest that is known to, if finding out would
    /// take more fuel than it may; `None` after an abort.
    pub minimum_fuel_limit: Option<u64>,
}

/// What an estimate may take.
#[derive(Clone, Copy)]
pub struct Effort<'a> {
    /// Fuel: that of the transactions before it together, the same again for itself, for its trace, and for the lowest fuel limit.
    pub fuel: u64,
    /// Whether there is to be a trace, and how closely.
    pub trace: Option<Detail>,
    /// The most that the trace takes, in bytes of memory, about.
    pub trace_bytes: usize,
    /// The most that the footprint takes.
    pub footprint_bytes: usize,
    /// Whether anybody still wants the answer: asked before each execution.
    pub is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for Effort<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effort")
            .field("fuel", &self.fuel)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// Why there is no estimate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstimateError {
    /// Returned when the transaction would not be in the block.
    #[error(transparent)]
    Refused(#[from] AdmitError),
    /// Returned when the limits of the transactions allow for more fuel than an estimate may take.
    #[error(
        "after what its sender has waiting it could bring the simulation to {got} fuel; at most {maximum} are allowed"
    )]
    TooMuchFuel {
        /// What is allowed, in fuel.
        maximum: u64,
        /// What has been used and the limit of the next one, in fuel.
        got: u64,
    },
    /// Returned when nobody wants it any more.
    #[error("abandoned")]
    Abandoned,
    /// Returned when the machine fails.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
}

/// A call that only reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewCall {
    /// The contract.
    pub contract: Address,
    /// Who the contract is told is calling.
    pub caller: Address,
    /// The method.
    pub method: String,
    /// Its input, borsh by convention.
    pub input: Vec<u8>,
    /// The most that it may use, in fuel.
    pub fuel_limit: u64,
}

/// What a view call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel that the execution used, without what a transaction costs before it runs; the limit after an abort.
    pub fuel_used: u64,
    /// The block whose state it saw.
    pub height: u64,
}

/// An open chain. Shared by all threads of a node; blocks are made one at a time.
pub struct Chain {
    path: PathBuf,
    rocks: Rocks,
    store: Store,
    vm: Arc<Vm>,
    /// Made when first needed.
    profiler: Mutex<Option<Arc<Vm>>>,
    compiler: Compiler,
    params: ProtocolParams,
    genesis: Genesis,
    head: RwLock<Header>,
    parallelism: RwLock<Parallelism>,
    reads: Arc<ReadCache>,
    verified: Verified,
    /// Held while a block is made or stored; true once one could not be stored.
    poisoned: Mutex<bool>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl Chain {
    /// Opens the chain in directory `path`, or creates it from `genesis`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(path: &Path, genesis: &Genesis, mode: Mode) -> Result<Chain, OpenError> {
        Chain::open_with(path, genesis, mode, &StoreOptions::default())
    }

    /// [`Chain::open`] with settings for the database.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_with(
        path: &Path,
        genesis: &Genesis,
        mode: Mode,
        options: &StoreOptions,
    ) -> Result<Chain, OpenError> {
        let params = ProtocolParams::v1();
        let rocks = Rocks::open(path, options).map_err(|error| {
            if error.is_locked() {
                OpenError::InUse {
                    path: path.to_owned(),
                }
            } else {
                error.into()
            }
        })?;
        let store = Store::on(Arc::new(rocks.clone()), options)?;
        let vm = Arc::new(Vm::new(&params, mode, &path.join(COMPILED))?);
        let wanted = serde_json::to_vec(genesis).map_err(|error| {
            StoreError::Damaged(format!("the genesis cannot be encoded: {error}"))
        })?;
        match store.genesis()? {
            Some(stored) if stored == wanted => {}
            Some(_) => {
                return Err(OpenError::OtherGenesis {
                    path: path.to_owned(),
                });
            }
            None => create(&store, genesis, &params, &wanted)?,
        }
        let head = store
            .head()?
            .ok_or_else(|| StoreError::Damaged("the head is missing".to_owned()))?;
        let compiler = Compiler::start(&vm).map_err(OpenError::Thread)?;
        Ok(Chain {
            path: path.to_owned(),
            rocks,
            store,
            vm,
            profiler: Mutex::default(),
            compiler,
            params,
            genesis: genesis.clone(),
            reads: Arc::new(ReadCache::new(head.height)),
            verified: Verified::new(),
            head: RwLock::new(head),
            parallelism: RwLock::default(),
            poisoned: Mutex::new(false),
        })
    }

    /// What the chain began with.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The rules in force.
    pub fn params(&self) -> &ProtocolParams {
        &self.params
    }

    /// How contracts are metered.
    pub fn mode(&self) -> Mode {
        self.vm.mode()
    }

    /// The last block's header.
    pub fn head(&self) -> Header {
        self.head
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The account as of the last block; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn account(&self, address: &Address) -> Result<Account, StoreError> {
        let height = self.head().height;
        match self.reads.get(height, &account_key(address)) {
            Some(known) => account(known.as_deref()),
            None => self.state()?.account(address),
        }
    }

    /// The account as of the block at `height`; an empty one if there was none.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`], or if the database fails.
    pub fn account_at(&self, address: &Address, height: u64) -> Result<Account, StoreError> {
        BlockState::new(self.store.snapshot_at(height)?).account(address)
    }

    /// The first and the last height whose state is available.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn window(&self) -> Result<(u64, u64), StoreError> {
        Ok(self.store.window()?.unwrap_or_default())
    }

    /// What a key of the state has after the block at `height`, with the proof of it for a client that knows the block's hash. Keys are
    /// made by [`account_key`] and [`storage_key`].
    ///
    /// [`account_key`]: crate::account_key
    /// [`storage_key`]: crate::storage_key
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`], or if the database fails.
    pub fn prove(&self, key: &[u8], height: u64) -> Result<StateAnswer, StoreError> {
        let (value, proof) = self.store.prove(key, height)?;
        let block = self.store.block(height)?;
        let missing = || StoreError::Damaged(format!("block {height} is missing"));
        Ok(StateAnswer {
            header: block.ok_or_else(missing)?.header,
            key: key.to_vec(),
            value: value.map(|value| value.to_vec()),
            proof,
        })
    }

    /// Up to `limit` events, in the order of the chain, and not one more once their data has `bytes` bytes or more; with whether a limit is what ended
    /// them, so that more may follow.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn events(
        &self,
        query: &EventQuery,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<EventAt>, bool), StoreError> {
        self.store.events(query, limit, bytes)
    }

    /// Executes the block at `height` again on the state before it. Keeps nothing. Blocks the thread, like [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`] if the state before it is not kept; [`StoreError::Damaged`] if the header comes out otherwise.
    pub fn execute_again(&self, height: u64) -> Result<(), ProduceError> {
        let store = |error| ProduceError::Execution(ExecutionError::from(error));
        let damaged = |what: &str| store(StoreError::Damaged(format!("block {height}: {what}")));
        let before = height
            .checked_sub(1)
            .ok_or_else(|| damaged("the genesis block is not executed"))?;
        let state = self.store.snapshot_at(before).map_err(store)?;
        let parent = self.store.block(before).map_err(store)?;
        let block = self.store.block(height).map_err(store)?;
        let (Some(parent), Some(block)) = (parent, block) else {
            return Err(damaged("it, or the one before it, is missing"));
        };
        let made = self.make_block_on(
            parent.header,
            BlockState::new(state),
            block.transactions,
            (block.header.timestamp_ms, block.header.proposer),
            Signatures::Verify,
            (&self.parallelism(), Room::All),
        )?;
        match made.block.header == block.header {
            true => Ok(()),
            false => Err(damaged("executed again, it has another header")),
        }
    }

    /// Executes a transaction of the chain again, on the state that it was executed on, and says what happens in it: its
    /// receipt, and the calls if it called a contract. `None` if no block has it, or if it is not wanted any more. The trace takes about `trace_bytes`
    /// bytes of memory at most. Keeps nothing. Blocks the thread, like [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`] if the state before its block is not kept; [`StoreError::Damaged`] if it comes to something else
    /// than its receipt says; if the machine fails.
    pub fn trace_transaction(
        &self,
        hash: &Hash,
        detail: Detail,
        trace_bytes: usize,
        is_wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<(Receipt, Option<CallTrace>)>, ExecutionError> {
        let Some(receipt) = self.store.receipt(hash)? else {
            return Ok(None);
        };
        let damaged = |what: &str| StoreError::Damaged(format!("transaction {hash}: {what}"));
        let height = receipt.height;
        let before = height.checked_sub(1);
        let before = before.ok_or_else(|| damaged("the genesis block has none"))?;
        let state = Arc::new(BlockState::new(self.store.snapshot_at(before)?));
        let (Some(parent), Some(block)) = (self.store.block(before)?, self.store.block(height)?)
        else {
            return Err(damaged("its block, or the one before that, is missing").into());
        };
        let vm = self.vm_for(detail)?;
        let of = (block.header.timestamp_ms, block.header.proposer);
        let in_order = self.executor(&parent.header, of, Signatures::Trust);
        let traced = Executor {
            vm: &vm,
            ..self.executor(&parent.header, of, Signatures::Trust)
        };
        let mut transactions = block.transactions.iter().zip(0..);
        let result = on_large_stack(|| {
            let mut trace = Some(Box::new(Recorder::with_room(trace_bytes)));
            for (signed, index) in transactions.by_ref() {
                if !is_wanted() {
                    return Ok(Replayed::Abandoned);
                }
                if index == receipt.index {
                    let result = traced.transact_traced(&state, signed, index, &mut trace)?;
                    let trace = trace.and_then(|trace| trace.into_trace().0);
                    return Ok(Replayed::Done(Box::new((result, trace))));
                }
                // What it was refused for, it would not be in the block for.
                let _ = in_order.transact_traced(&state, signed, index, &mut None)?;
            }
            Ok(Replayed::Missing)
        });
        let result =
            result.unwrap_or_else(|error| Err(ExecutionError::Engine(error.to_string())))?;
        let done = match result {
            Replayed::Done(done) => *done,
            Replayed::Abandoned => return Ok(None),
            Replayed::Missing => return Err(damaged("it is not where its receipt says").into()),
        };
        match done {
            (Ok(mut again), trace) => {
                // Where functions are traced, a trap can be taken for want of fuel: see `trace::blocks`.
                if let (Detail::Functions, Outcome::Abort(_), Outcome::Abort(_)) =
                    (detail, &again.outcome, &receipt.outcome)
                {
                    again.outcome = receipt.outcome.clone();
                }
                match again == receipt {
                    true => Ok(Some((receipt, trace))),
                    false => Err(damaged("executed again, it has another receipt").into()),
                }
            }
            (Err(error), _) => {
                Err(damaged(&format!("executed again, it is refused: {error}")).into())
            }
        }
    }

    /// The block at `height`.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        self.store.block(height)
    }

    /// The transaction with `hash`, if it is in a block.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn transaction(&self, hash: &Hash) -> Result<Option<SignedTransaction>, StoreError> {
        self.store.transaction(hash)
    }

    /// The receipt of the transaction with `hash`, if it is in a block.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn receipt(&self, hash: &Hash) -> Result<Option<Receipt>, StoreError> {
        self.store.receipt(hash)
    }

    /// The methods of a contract that can be called, sorted; `None` if there is no contract.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn methods(&self, contract: &Address) -> Result<Option<Vec<String>>, StoreError> {
        self.methods_of(self.account(contract)?.code)
    }

    fn methods_of(&self, code: Option<Hash>) -> Result<Option<Vec<String>>, StoreError> {
        let Some(hash) = code else {
            return Ok(None);
        };
        if let Some(contract) = self.vm.cached(&hash) {
            return Ok(Some(contract.methods().cloned().collect()));
        }
        let methods = self.interface(&hash)?.methods.into_iter();
        Ok(Some(methods.filter(|name| is_callable(name)).collect()))
    }

    /// The description that a contract carries (custom section `slackline_abi`), as it is; `None` if there is no contract or
    /// no description.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn abi(&self, contract: &Address) -> Result<Option<Vec<u8>>, StoreError> {
        match self.account(contract)?.code {
            Some(hash) => Ok(self.interface(&hash)?.abi),
            None => Ok(None),
        }
    }

    /// What code on the chain says of itself.
    fn interface(&self, hash: &Hash) -> Result<Interface, StoreError> {
        let wasm = self
            .store
            .code(hash)?
            .ok_or_else(|| StoreError::Damaged(format!("the code with hash {hash} is missing")))?;
        let checked = self
            .vm
            .check(&wasm)
            .map_err(|error| StoreError::Damaged(format!("stored code {hash}: {error}")))?;
        Ok(checked.into_interface())
    }

    /// Decodes what a client submitted.
    ///
    /// # Errors
    ///
    /// [`AdmitError::TooLarge`], [`AdmitError::Malformed`].
    pub fn decode(&self, bytes: &[u8]) -> Result<SignedTransaction, AdmitError> {
        let limit = self.params.limits.transaction_bytes;
        if bytes.len() > limit {
            return Err(AdmitError::TooLarge {
                bytes: bytes.len(),
                limit,
            });
        }
        borsh::from_slice(bytes).map_err(|error| AdmitError::Malformed(error.to_string()))
    }

    /// Whether `signed` could be a transaction of the next block as far as accounts and code do not matter: its form, its price, its signature.
    /// [`Chain::admit`] looks at these too, first.
    ///
    /// # Errors
    ///
    /// See [`AdmitError`].
    pub fn screen(&self, signed: &SignedTransaction) -> Result<(), AdmitError> {
        validate(
            &self.params,
            self.genesis.chain_id,
            self.next_base_price(&self.head()),
            signed,
        )?;
        match self.verified.learn(&[(signed.hash(), signed)]) == [true] {
            true => Ok(()),
            false => Err(AdmitError::BadSignature),
        }
    }

    /// A transaction that may be in a block soon, and that [`Chain::admit`] has let pass: what it deploys is compiled meanwhile.
    pub fn expect(&self, signed: &SignedTransaction) {
        if let Action::Deploy { code, .. } = &signed.transaction.action {
            self.compiler.soon(code_hash(code), code);
        }
    }

    /// Whether `signed` could be the sender's next transaction after those that wait, as of the last block.
    ///
    /// # Errors
    ///
    /// See [`AdmitError`].
    pub fn admit(&self, signed: &SignedTransaction, pending: Pending) -> Result<(), AdmitError> {
        let tx = &signed.transaction;
        self.screen(signed)?;
        validate_sender(
            &self.account(&tx.sender_address())?,
            tx,
            pending.count,
            pending.cost,
        )?;
        match &tx.action {
            Action::Transfer { .. } | Action::SetValidators { .. } => {}
            Action::Deploy { code, .. } => {
                self.vm.check(code).map_err(AdmitError::InvalidCode)?;
            }
            Action::Call {
                contract, method, ..
            } => {
                let available = self
                    .methods(contract)?
                    .ok_or(AdmitError::NoContract(*contract))?;
                if !available.contains(method) {
                    let (contract, method) = (*contract, method.clone());
                    return Err(AdmitError::UnknownMethod {
                        contract,
                        method,
                        available,
                    });
                }
            }
        }
        Ok(())
    }

    /// Verifies the signatures of those of `transactions` that could be in the next block, and remembers which are valid: [`Chain::admit`] and the block
    /// do not verify them again. To verify many together takes a third of the time.
    pub fn verify(&self, transactions: &[&SignedTransaction]) {
        let (chain, base_price) = (self.genesis.chain_id, self.base_price());
        let sound = transactions
            .iter()
            .filter(|signed| validate(&self.params, chain, base_price, signed).is_ok());
        let sound: Vec<_> = sound.map(|signed| (signed.hash(), *signed)).collect();
        self.verified.learn(&sound);
    }

    /// Makes a block of those of `transactions` that are valid and that there is room for, in that order, and stores it; on return it is on disk. Blocks the thread, which
    /// executes contracts and is interrupted by signals: not for an asynchronous runtime's.
    ///
    /// # Errors
    ///
    /// See [`ProduceError`].
    pub fn produce_block(
        &self,
        transactions: Vec<SignedTransaction>,
        timestamp_ms: u64,
    ) -> Result<Produced, ProduceError> {
        let proposer = self.genesis.proposer;
        let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        let room = Room::Fitting { until: None };
        let made = self.make_next(transactions, timestamp_ms, proposer, room)?;
        self.store_block(made, None, &mut poisoned)
    }

    /// The next block of `proposer`, of those of `transactions` that are valid and that there is room for, in that order; nothing is stored. It ends with the
    /// one that is being executed at `until`: others have to execute it in time too. Blocks the thread, like [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// As [`Chain::produce_block`].
    pub fn propose(
        &self,
        transactions: Vec<SignedTransaction>,
        timestamp_ms: u64,
        proposer: Address,
        until: Option<Instant>,
    ) -> Result<Executed, ProduceError> {
        let _steady = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        let room = Room::Fitting { until };
        self.make_next(transactions, timestamp_ms, proposer, room)
            .map(Executed)
    }

    /// Executes a block of somebody else's and checks everything that its header says; nothing is stored. Who may propose it is for the caller to
    /// check. Blocks the thread, like [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// See [`BlockError`].
    pub fn execute(&self, block: Block) -> Result<Executed, BlockError> {
        let _steady = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        let head = self.head();
        let header = block.header;
        if (header.height, header.parent) != (head.height + 1, head.hash()) {
            return Err(BlockError::NotNext {
                height: header.height,
                parent: header.parent,
                expected_height: head.height + 1,
                expected_parent: head.hash(),
            });
        }
        let made = self
            .make_next(
                block.transactions,
                header.timestamp_ms,
                header.proposer,
                Room::All,
            )
            .map_err(|error| match error {
                ProduceError::TooMuchFuel { .. } => BlockError::TooLarge(error.to_string()),
                error => BlockError::Produce(error),
            })?;
        if let Some((hash, error)) = made.dropped.first() {
            return Err(match error {
                AdmitError::Store(error) => {
                    BlockError::Produce(ExecutionError::from(error.clone()).into())
                }
                error => BlockError::Transaction(*hash, error.clone()),
            });
        }
        match difference(&header, &made.block.header) {
            Some((field, expected)) => Err(BlockError::Header { field, expected }),
            None => Ok(Executed(made)),
        }
    }

    /// Stores a block that [`Chain::propose`] or [`Chain::execute`] has made on the present head, with what shows that it was decided; on return
    /// it is on disk.
    ///
    /// # Errors
    ///
    /// See [`ProduceError`].
    pub fn commit(
        &self,
        executed: Executed,
        certificate: Option<&[u8]>,
    ) -> Result<Produced, ProduceError> {
        let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        let (made, head) = (executed.0, self.head());
        if made.block.header.parent != head.hash() {
            return Err(ProduceError::NotNext {
                height: made.block.header.height,
                head: head.height,
            });
        }
        self.store_block(made, certificate, &mut poisoned)
    }

    /// The certificate that the block at `height` was committed with, if there was one.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn certificate(&self, height: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.certificate(height)
    }

    /// The chain in parts, of which a node that trusts nobody can make another one.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn export(&self) -> Result<Export, StoreError> {
        self.store.export()
    }

    /// Who votes on the block after that at `height`; nobody if one node makes the blocks alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`], or if the database fails.
    pub fn validators(&self, height: u64) -> Result<Vec<Validator>, StoreError> {
        let value = self.store.snapshot_at(height)?.get(&validators_key())?;
        let validators = value.map(|bytes| decode(&bytes, "the validators"));
        Ok(validators.transpose()?.unwrap_or_default())
    }

    /// With `poisoned` locked, so that head and state are of the same block.
    fn make_next(
        &self,
        transactions: Vec<SignedTransaction>,
        timestamp_ms: u64,
        proposer: Address,
        room: Room,
    ) -> Result<Made, ProduceError> {
        let state = self.state().map_err(ExecutionError::from)?;
        self.make_block_on(
            self.head(),
            state,
            transactions,
            (timestamp_ms, proposer),
            Signatures::Verify,
            (&self.parallelism(), room),
        )
    }

    fn store_block(
        &self,
        made: Made,
        certificate: Option<&[u8]>,
        poisoned: &mut bool,
    ) -> Result<Produced, ProduceError> {
        if *poisoned {
            return Err(ProduceError::Poisoned);
        }
        let header = made.block.header.clone();
        let writes = BlockWrites {
            block: &made.block,
            receipts: &made.receipts,
            state: &made.state,
            code: &made.code,
            tree: made.tree,
            in_parallel: self.parallelism().threads > 1,
            certificate,
        };
        self.reads.advance(header.height, writes.state);
        if let Err(error) = self.store.commit(writes) {
            *poisoned = true;
            return Err(ProduceError::Commit(error));
        }
        *self.head.write().unwrap_or_else(PoisonError::into_inner) = header.clone();
        Ok(Produced {
            header,
            receipts: made.receipts,
            dropped: made.dropped,
            left: made.left,
            stats: made.stats,
        })
    }

    /// The next block, as [`Chain::produce_block`] would make it with `parallelism`; keeps nothing.
    ///
    /// # Errors
    ///
    /// As [`Chain::produce_block`].
    pub fn rehearse_block(
        &self,
        transactions: Vec<SignedTransaction>,
        timestamp_ms: u64,
        signatures: Signatures,
        parallelism: &Parallelism,
    ) -> Result<Produced, ProduceError> {
        let state = self.state().map_err(ExecutionError::from)?;
        let made = self.make_block_on(
            self.head(),
            state,
            transactions,
            (timestamp_ms, self.genesis.proposer),
            signatures,
            (parallelism, Room::All),
        )?;
        Ok(Produced {
            header: made.block.header,
            receipts: made.receipts,
            dropped: made.dropped,
            left: made.left,
            stats: made.stats,
        })
    }

    /// How blocks are executed.
    pub fn parallelism(&self) -> Parallelism {
        self.parallelism
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Executes the blocks from the next one on as `parallelism` says, with the same results.
    pub fn set_parallelism(&self, parallelism: Parallelism) {
        *self
            .parallelism
            .write()
            .unwrap_or_else(PoisonError::into_inner) = parallelism;
    }

    /// The block after `parent`, whose state is `state`.
    fn make_block_on(
        &self,
        parent: Header,
        state: BlockState,
        transactions: Vec<SignedTransaction>,
        (timestamp_ms, proposer): (u64, Address),
        signatures: Signatures,
        (parallelism, room): (&Parallelism, Room),
    ) -> Result<Made, ProduceError> {
        let timestamp_ms = timestamp_ms.max(parent.timestamp_ms);
        let executor = self.executor(&parent, (timestamp_ms, proposer), signatures);
        let state = Arc::new(state);
        let (results, stats) = on_large_stack(|| {
            parallel::execute(&executor, &state, &transactions, parallelism, room)
        })
        .unwrap_or_else(|error| Err(ExecutionError::Engine(error.to_string())))?;
        let mut receipts: Vec<Receipt> = Vec::new();
        let mut included = Vec::new();
        let mut dropped = Vec::new();
        let mut left = Vec::new();
        let mut used = 0;
        for (signed, result) in transactions.into_iter().zip(results) {
            match result {
                Some(Ok(mut receipt)) => {
                    receipt.index = receipts.len() as u32;
                    used += receipt.fuel_used;
                    receipts.push(receipt);
                    included.push(signed);
                }
                Some(Err(error)) => dropped.push((signed.hash(), error)),
                None if matches!(room, Room::All) => {
                    return Err(ProduceError::TooMuchFuel {
                        transaction: signed.hash(),
                        fuel: signed.transaction.fuel_limit.saturating_add(used),
                        limit: self.params.limits.block_fuel,
                    });
                }
                None => left.push(signed.hash()),
            }
        }
        let (writes, code) = Arc::into_inner(state)
            .ok_or_else(|| ExecutionError::Engine("the block's state is still used".to_owned()))?
            .into_writes();

        let began = Instant::now();
        let tree = match parallelism.threads {
            0 | 1 => self.store.update(executor.height, &writes),
            _ => self.store.update_in_parallel(executor.height, &writes),
        };
        let tree = tree.map_err(ExecutionError::from)?;
        let root_took = began.elapsed();
        let hashes: Vec<Hash> = receipts.iter().map(|receipt| receipt.transaction).collect();
        let header = Header {
            version: HEADER_VERSION,
            chain_id: self.genesis.chain_id,
            protocol_version: self.params.version,
            height: executor.height,
            parent: parent.hash(),
            timestamp_ms,
            proposer: executor.proposer,
            transactions_root: list_root(List::Transactions, &hashes),
            receipts_root: receipts_root(&receipts),
            state_root: tree.root(),
            base_price: executor.base_price,
            fuel_used: used,
            burnt: receipts.iter().map(|receipt| receipt.burnt).sum(),
        };
        Ok(Made {
            block: Block {
                header,
                transactions: included,
            },
            receipts,
            dropped,
            left,
            state: writes,
            code,
            tree,
            root_took,
            stats,
        })
    }

    /// What a unit of fuel costs at least in the next block, in the smallest unit of the currency.
    pub fn base_price(&self) -> u64 {
        self.next_base_price(&self.head())
    }

    /// What a unit of fuel costs at least in the block after `parent`.
    fn next_base_price(&self, parent: &Header) -> u64 {
        let rule = &self.params.fee_rule;
        rule.next_base_price(
            parent.base_price,
            parent.fuel_used,
            self.params.limits.block_fuel,
        )
    }

    fn executor(
        &self,
        parent: &Header,
        (timestamp_ms, proposer): (u64, Address),
        signatures: Signatures,
    ) -> Executor<'_> {
        Executor {
            vm: &self.vm,
            params: &self.params,
            chain_id: self.genesis.chain_id,
            height: parent.height + 1,
            timestamp_ms,
            proposer,
            governor: self.genesis.governor,
            base_price: self.next_base_price(parent),
            signatures,
            verified: &self.verified,
            keeps_code: true,
        }
    }

    /// What would become of `signed`, whoever has signed it, in the next block after `pending` others, with what happens in it and the lowest fuel
    /// limit with which it comes out the same: `None` if it has already too low a one. Keeps nothing. Blocks the thread, like
    /// [`Chain::produce_block`], for as long as about twenty executions of `signed`, within what `effort` allows.
    ///
    /// # Errors
    ///
    /// See [`EstimateError`].
    pub fn estimate(
        &self,
        pending: &[SignedTransaction],
        signed: &SignedTransaction,
        effort: &Effort<'_>,
    ) -> Result<Estimate, EstimateError> {
        let profiling = match effort.trace {
            Some(Detail::Functions) => Some(self.vm_for(Detail::Functions)?),
            Some(Detail::Calls) | None => None,
        };
        let parent = self.head();
        let of = (parent.timestamp_ms, self.genesis.proposer);
        let executor = Executor {
            keeps_code: false,
            ..self.executor(&parent, of, Signatures::Trust)
        };
        let state = Arc::new(self.state().map_err(ExecutionError::from)?);
        on_large_stack(|| {
            let wanted = || match (effort.is_wanted)() {
                true => Ok(()),
                false => Err(EstimateError::Abandoned),
            };
            let affordable = |used: u64, signed: &SignedTransaction| {
                let got = signed.transaction.fuel_limit.saturating_add(used);
                match got <= effort.fuel {
                    true => Ok(()),
                    false => Err(EstimateError::TooMuchFuel {
                        maximum: effort.fuel,
                        got,
                    }),
                }
            };
            affordable(0, signed)?;
            let mut used = 0;
            let mut index = 0;
            for each in pending {
                affordable(used, each)?;
                wanted()?;
                if let Ok(receipt) = executor.transact_traced(&state, each, index, &mut None)? {
                    used += receipt.fuel_used;
                    index += 1;
                }
            }
            // What it does is not done to the state, so that each of these runs begins with the same.
            let run = |executor: &Executor<'_>, fuel_limit, mut trace| {
                wanted()?;
                let mut signed = signed.clone();
                signed.transaction.fuel_limit = fuel_limit;
                let prepared = executor
                    .prepare(std::slice::from_ref(&signed))
                    .swap_remove(0);
                let done = executor.execute(state.clone(), &signed, &prepared, &mut trace)?;
                Ok::<_, EstimateError>((done.map(|done| done.receipt), trace))
            };
            let limit = signed.transaction.fuel_limit;
            let room = match effort.trace {
                Some(Detail::Calls) => effort.trace_bytes,
                Some(Detail::Functions) | None => 0,
            };
            let recorder = Recorder::with_room(room).and_footprint(effort.footprint_bytes);
            let (receipt, trace) = run(&executor, limit, Some(Box::new(recorder)))?;
            let mut receipt = receipt?;
            receipt.index = index;
            let (mut call, footprint) = trace.map(|trace| trace.into_trace()).unwrap_or_default();
            if let Some(vm) = &profiling {
                let executor = Executor {
                    vm,
                    keeps_code: false,
                    ..self.executor(&parent, of, Signatures::Trust)
                };
                let recorder = Recorder::with_room(effort.trace_bytes);
                let (_, trace) = run(&executor, limit, Some(Box::new(recorder)))?;
                call = trace.and_then(|trace| trace.into_trace().0);
            }
            let mut estimate = Estimate {
                minimum_fuel_limit: None,
                receipt,
                call,
                footprint: footprint.unwrap_or_default(),
            };
            if matches!(estimate.receipt.outcome, Outcome::Abort(_)) {
                return Ok(estimate);
            }
            // What a contract lets others use may depend on what it has: usually what was used is enough, else it is in between.
            let mut left = effort.fuel;
            let mut same = |fuel_limit: u64| -> Result<Option<bool>, EstimateError> {
                if fuel_limit > left {
                    return Ok(None);
                }
                let (receipt, _) = run(&executor, fuel_limit, None)?;
                Ok(Some(receipt.is_ok_and(|receipt| {
                    left -= receipt.fuel_used;
                    (&receipt.outcome, &receipt.events)
                        == (&estimate.receipt.outcome, &estimate.receipt.events)
                })))
            };
            let (mut low, mut high) = (estimate.receipt.fuel_used, limit);
            if same(low)? == Some(true) {
                high = low;
            }
            while high > low + low / 1024 {
                let middle = low + (high - low) / 2;
                match same(middle)? {
                    Some(true) => high = middle,
                    Some(false) => low = middle,
                    None => break,
                }
            }
            estimate.minimum_fuel_limit = Some(high);
            Ok(estimate)
        })
        .unwrap_or_else(|error| Err(ExecutionError::Engine(error.to_string()).into()))
    }

    /// What would become of `transactions` in the next block, at its parent's time. Keeps nothing. Blocks the thread, like
    /// [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// If the machine fails. That of an item is why the transaction would not be in the block.
    pub fn simulate(
        &self,
        transactions: &[SignedTransaction],
        signatures: Signatures,
    ) -> Result<Vec<Result<Receipt, AdmitError>>, ExecutionError> {
        let time_ms = self.head().timestamp_ms;
        let vm = &self.vm;
        let results = self.simulate_traced(vm, transactions, signatures, time_ms, || None)?;
        let receipts = results.into_iter().map(|result| Ok(result?.0));
        Ok(receipts.collect())
    }

    /// What would become of `transactions` in the next block, at `timestamp_ms` or its parent's time if that is later, with
    /// what happens in them; `None` where no contract is called. Keeps nothing. Blocks the thread, like
    /// [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// As [`Chain::simulate`].
    #[expect(clippy::type_complexity, reason = "as that of simulate")]
    pub fn trace(
        &self,
        transactions: &[SignedTransaction],
        timestamp_ms: u64,
        detail: Detail,
    ) -> Result<Vec<Result<(Receipt, Option<CallTrace>), AdmitError>>, ExecutionError> {
        let vm = self.vm_for(detail)?;
        let recorder = || Some(Box::default());
        self.simulate_traced(&vm, transactions, Signatures::Trust, timestamp_ms, recorder)
    }

    /// The code with `hash`, or that which the transaction with `hash` brings, if there is one: also if its deployment has failed.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(code) = self.store.code(hash)? {
            return Ok(Some(code));
        }
        let brings = self.transaction(hash)?;
        Ok(brings.and_then(|signed| match signed.transaction.action {
            Action::Deploy { code, .. } => Some(code),
            _ => None,
        }))
    }

    /// Samples where executions are, transactions and views, about every `interval` on each thread, until what is returned is dropped. One
    /// at a time in a process. Costs nothing while there is none.
    ///
    /// # Errors
    ///
    /// See [`SamplingError`].
    pub fn sample(&self, interval: Duration) -> Result<Sampling, SamplingError> {
        Sampling::start(self.vm.clone(), interval)
    }

    /// The engine that traces in such detail.
    fn vm_for(&self, detail: Detail) -> Result<Arc<Vm>, ExecutionError> {
        if detail == Detail::Calls {
            return Ok(self.vm.clone());
        }
        let mut profiler = self.profiler.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vm) = &*profiler {
            return Ok(vm.clone());
        }
        let vm = Vm::profiling(&self.params, &self.path.join(PROFILED));
        let vm = Arc::new(vm.map_err(|error| ExecutionError::Engine(error.to_string()))?);
        Ok(profiler.insert(vm).clone())
    }

    #[expect(clippy::type_complexity, reason = "as that of simulate")]
    fn simulate_traced(
        &self,
        vm: &Arc<Vm>,
        transactions: &[SignedTransaction],
        signatures: Signatures,
        timestamp_ms: u64,
        recorder: impl Fn() -> Option<Box<Recorder>> + Sync,
    ) -> Result<Vec<Result<(Receipt, Option<CallTrace>), AdmitError>>, ExecutionError> {
        let parent = self.head();
        let timestamp_ms = timestamp_ms.max(parent.timestamp_ms);
        let executor = Executor {
            vm,
            keeps_code: false,
            ..self.executor(&parent, (timestamp_ms, self.genesis.proposer), signatures)
        };
        let state = Arc::new(self.state()?);
        on_large_stack(|| {
            let mut index = 0;
            transactions
                .iter()
                .map(|signed| {
                    let mut trace = recorder();
                    let result = executor.transact_traced(&state, signed, index, &mut trace)?;
                    index += u32::from(result.is_ok());
                    let trace = trace.and_then(|trace| trace.into_trace().0);
                    Ok(result.map(|receipt| (receipt, trace)))
                })
                .collect()
        })
        .unwrap_or_else(|error| Err(ExecutionError::Engine(error.to_string())))
    }

    /// Calls a method on the state of the last block, keeping nothing. Blocks the thread, like
    /// [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// See [`ViewError`].
    pub fn view(&self, call: &ViewCall) -> Result<ViewResult, ViewError> {
        Ok(self.view_traced(&self.vm, call, None, None)?.0)
    }

    /// [`Chain::view`] on the state after the block at `height`.
    ///
    /// # Errors
    ///
    /// See [`ViewError`]; [`StoreError::OutsideWindow`] in [`ViewError::Execution`] if that state is not kept.
    pub fn view_at(&self, call: &ViewCall, height: u64) -> Result<ViewResult, ViewError> {
        Ok(self.view_traced(&self.vm, call, Some(height), None)?.0)
    }

    /// [`Chain::view`], with what happens in it.
    ///
    /// # Errors
    ///
    /// See [`ViewError`].
    pub fn trace_view(
        &self,
        call: &ViewCall,
        detail: Detail,
    ) -> Result<(ViewResult, Option<CallTrace>), ViewError> {
        self.view_traced(&self.vm_for(detail)?, call, None, Some(Box::default()))
    }

    fn view_traced(
        &self,
        vm: &Arc<Vm>,
        call: &ViewCall,
        height: Option<u64>,
        trace: Option<Box<Recorder>>,
    ) -> Result<(ViewResult, Option<CallTrace>), ViewError> {
        let limits = &self.params.limits;
        if call.fuel_limit > limits.transaction_fuel {
            return Err(ViewError::FuelLimitTooHigh {
                maximum: limits.transaction_fuel,
                got: call.fuel_limit,
            });
        }
        if call.input.len() > limits.transaction_bytes {
            return Err(ViewError::InputTooLarge {
                bytes: call.input.len(),
                limit: limits.transaction_bytes,
            });
        }
        let (head, state) = match height {
            None => (self.head(), self.state()?),
            Some(height) => {
                let state = self.store.snapshot_at(height)?;
                let block = self.store.block(height)?;
                let block = block
                    .ok_or_else(|| StoreError::Damaged(format!("block {height} is missing")))?;
                (block.header, BlockState::new(state))
            }
        };
        let state = Arc::new(state);
        let env = Env {
            chain_id: self.genesis.chain_id,
            height: head.height,
            timestamp_ms: head.timestamp_ms,
            proposer: head.proposer,
            origin: call.caller,
        };
        let called = on_large_stack(|| {
            let mut run = vm.run(env, Overlay::new(state.clone()))?;
            run.trace = trace;
            let inner = Call {
                contract: call.contract,
                caller: call.caller,
                entry: Entry::Method(&call.method),
                input: call.input.clone(),
                value: 0,
                fuel: call.fuel_limit,
                read_only: true,
            };
            let (run, called) = vm.call(run, inner)?;
            Ok((called, run.trace))
        });
        let (Called { ended, used }, trace) =
            called.unwrap_or_else(|error| Err(ExecutionError::Engine(error.to_string())))?;
        let outcome = match ended {
            Ended::Returned(data) => Outcome::Success { data },
            Ended::Reverted(data) => Outcome::Revert { data },
            Ended::Aborted(reason) => Outcome::Abort(reason),
            Ended::Refused(Refusal::NoContract) => {
                return Err(ViewError::NoContract(call.contract));
            }
            Ended::Refused(Refusal::NoMethod) => {
                let code = state.account(&call.contract)?.code;
                return Err(ViewError::UnknownMethod {
                    contract: call.contract,
                    method: call.method.clone(),
                    available: self.methods_of(code)?.unwrap_or_default(),
                });
            }
            Ended::Refused(refusal) => Outcome::Revert {
                data: refusal.to_string().into_bytes(),
            },
        };
        let result = ViewResult {
            outcome,
            fuel_used: used,
            height: head.height,
        };
        Ok((result, trace.and_then(|trace| trace.into_trace().0)))
    }

    /// What the database takes.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn database_stats(&self) -> Result<Vec<tools::FamilyStats>, StoreError> {
        tools::stats(&self.rocks)
    }

    /// What the database has done since the chain was opened.
    pub fn database_activity(&self) -> Activity {
        self.rocks.activity()
    }

    /// What the asynchronous checks have done since the chain was opened.
    pub fn metering_stats(&self) -> MeteringStats {
        self.vm.stats()
    }

    /// How far past their limits executions were when checks stopped them, since the chain was opened.
    pub fn metering_overshoot(&self) -> Overshoot {
        self.vm.overshoot()
    }

    fn state(&self) -> Result<BlockState, StoreError> {
        // Before the snapshot: see `ReadCache`.
        let height = self.head().height;
        Ok(BlockState::new(self.store.snapshot()?).cached(self.reads.clone(), height))
    }
}

fn is_callable(method: &str) -> bool {
    method != INIT && method != UPGRADE
}

fn receipts_root(receipts: &[Receipt]) -> Hash {
    let hashes: Vec<Hash> = receipts.iter().map(Receipt::hash).collect();
    list_root(List::Receipts, &hashes)
}

/// The first field in which the headers differ, and what it is in `expected`.
fn difference(header: &Header, expected: &Header) -> Option<(&'static str, String)> {
    macro_rules! first {
        ($($field:ident)*) => {
            $(if header.$field != expected.$field {
                return Some((stringify!($field), expected.$field.to_string()));
            })*
        };
    }
    first!(version chain_id protocol_version height parent timestamp_ms proposer base_price transactions_root fuel_used burnt receipts_root state_root);
    None
}

/// Writes the genesis block.
fn create(
    store: &Store,
    genesis: &Genesis,
    params: &ProtocolParams,
    json: &[u8],
) -> Result<(), OpenError> {
    let state = BlockState::new(store.snapshot()?);
    let supply = genesis
        .accounts
        .iter()
        .try_fold(0u128, |sum, account| sum.checked_add(account.balance));
    // Half of what fits: the sign of a change of it must fit too.
    if supply.is_none_or(|supply| supply >> 127 != 0) {
        return Err(OpenError::TooMuch);
    }
    for GenesisAccount { address, balance } in &genesis.accounts {
        if state.account(address)? != Account::default() {
            return Err(OpenError::DuplicateAccount(*address));
        }
        state.set_account(
            address,
            &Account {
                balance: *balance,
                ..Account::default()
            },
        );
    }
    let (mut writes, code) = state.into_writes();
    if !genesis.validators.is_empty() {
        check_validators(&genesis.validators, &params.limits)?;
        let value = encode(&genesis.validators).into();
        writes.insert(validators_key(), Some(value));
    }
    // So that the hash of the genesis block says all that blocks depend on.
    if let Some(governor) = &genesis.governor {
        writes.insert(governor_key(), Some(encode(governor).into()));
    }
    let tree = store.update(0, &writes)?;
    let header = Header {
        version: HEADER_VERSION,
        chain_id: genesis.chain_id,
        protocol_version: params.version,
        height: 0,
        parent: Hash::default(),
        timestamp_ms: genesis.timestamp_ms,
        proposer: genesis.proposer,
        transactions_root: list_root(List::Transactions, &[]),
        receipts_root: receipts_root(&[]),
        state_root: tree.root(),
        base_price: params.fee_rule.initial_base_price,
        fuel_used: 0,
        burnt: 0,
    };
    let block = Block {
        header,
        transactions: Vec::new(),
    };
    let writes = BlockWrites {
        block: &block,
        receipts: &[],
        state: &writes,
        code: &code,
        tree,
        in_parallel: false,
        certificate: None,
    };
    Ok(store.initialise(json, writes)?)
}
