//! `cargo test` of a contract on the node's own engine, cost table and limits: in process, without a network.
//!
//! ```text
//!   contract!() ── cargo, for wasm32 ──▶ code
//!                                         │ kit.deploy(&alice, &code)
//!   Kit ─── Chain in a temporary directory ◀── kit.call(&bob, token, "transfer").args(&(&carol, 5u128)).send()?
//!    │        the same crate that the node runs   └─▶ Done: returned value, revert, abort, events, fuel, deposit
//!    ├── accounts with money: kit.account("alice")
//!    ├── blocks and time: one for each send(), kit.block([...]) for several, advance_time, advance_blocks
//!    └── kit.view(token, "balance").args(&bob).get::<u128>()?
//! ```
//!
//! ```
//! use slackline_testkit::{AbortReason, Kit, contract, json};
//!
//! # fn main() -> slackline_testkit::Result<()> {
//! let kit = Kit::new()?;
//! let (alice, bob) = (kit.account("alice"), kit.account("bob"));
//!
//! // Without an argument it is the contract in whose tests this is. (Outside of macros: `slackline_testkit::build`.)
//! let code = contract!("../contracts/examples/counter")?;
//! let counter = kit.deploy(&alice, &code).args(&40u64).send()?.contract()?;
//!
//! // Arguments are a value, or a tuple of them, as the method has them...
//! let done = kit.call(&bob, counter, "increment").args(&2u64).send()?;
//! assert_eq!(done.fuel_at_most(350_000).returned::<u64>()?, 42);
//! // ...or JSON. Results and events are there as JSON too.
//! let done = kit.call(&bob, counter, "increment").json(json!({"by": 1})).send()?;
//! assert_eq!(done.returned_json()?, "43");
//! assert_eq!(done.events_json()[0].fields, json!({"by": bob.address().to_string(), "count": "43"}));
//!
//! // What does not succeed is a result, too. `expect_revert::<Error>()` is the contract's error.
//! let done = kit.call(&bob, counter, "increment").args(&u64::MAX).send()?;
//! assert_eq!(done.revert_json().unwrap(), "Overflow");
//! let done = kit.call(&bob, counter, "increment").args(&1u64).fuel(310_000).send()?;
//! assert_eq!(done.expect_abort(), AbortReason::OutOfFuel);
//!
//! assert_eq!(kit.view(counter, "get").get::<u64>()?, 43);
//! # Ok(())
//! # }
//! ```
//!
//! Everything that can fail gives a [`Result`], for tests that end with `Ok(())`. Only the methods that say so panic: assertions,
//! whose message says what has happened instead.
//!
//! What differs from a node: there are no fees to choose (a unit of fuel costs 1, see [`Request::price`]), nobody else's
//! transactions, and time stands still until it is [advanced](Kit::advance_time). Each [`Kit`] is a chain of its own, so tests
//! do not see each other.

#![forbid(unsafe_code)]

mod account;
pub mod calls;
mod done;
mod error;
mod measure;
pub mod record;
mod request;
pub mod section;

pub use account::{Account, NAMES};
pub use done::{Done, JsonEvent};
pub use error::{Error, Result};
pub use measure::Measured;
pub use request::{Request, View};
pub use serde_json::{Value, json};
pub use slackline::{Address, Event};
pub use slackline_executor::{AbortReason, Mode, Outcome, Receipt};
pub use slackline_testkit_macros::{fuel_at_most, measured, unmetered};

use measure::Sections;
use record::{Execution, Kind, Recording};
use request::{Called, What};
use slackline_abi::Contract;
use slackline_contract_build::Built;
use slackline_executor::trace::{CallTrace, Detail};
use slackline_executor::{
    self as executor, Action, Chain, Genesis, GenesisAccount, Pending, SignedTransaction,
    Transaction, ViewCall, ViewResult,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// What each account of [`NAMES`] begins with, in the smallest unit of the currency.
pub const BALANCE: u128 = 1_000_000_000_000_000_000;

/// The most fuel that a transaction or view may use unless it says otherwise.
pub const FUEL: u64 = 1_000_000_000;

/// The most that a transaction may take as a deposit for storage unless it says otherwise, in the smallest unit of the
/// currency.
pub const DEPOSIT: u128 = 1_000_000_000;

/// Builds the contract in whose tests this is, or that in a directory relative to the Cargo.toml there; see [`build`].
#[macro_export]
macro_rules! contract {
    () => {
        $crate::build(env!("CARGO_MANIFEST_DIR"))
    };
    ($dir:expr) => {
        $crate::build(::std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join($dir))
    };
}

/// The code of the contract whose Cargo.toml is in `dir`: compiles it when it has changed, once in each process.
///
/// # Errors
///
/// [`Error::Build`].
pub fn build(dir: impl AsRef<Path>) -> Result<Vec<u8>> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(built) = built.get(dir.as_ref()) {
        return Ok(built.wasm.clone());
    }
    let new = slackline_contract_build::build(dir.as_ref())?;
    let code = new.wasm.clone();
    built.insert(dir.as_ref().to_owned(), new);
    Ok(code)
}

/// What [`build`] has built in this process, by directory.
static BUILT: Mutex<Option<HashMap<PathBuf, Built>>> = Mutex::new(None);

/// The package that `code` was built of, and the file with its debug information.
fn built_as(code: &[u8]) -> Option<(String, PathBuf)> {
    let built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut built = built.as_ref()?.values();
    let built = built.find(|built| built.wasm == code)?;
    Some((built.package.clone(), built.debug_path.clone()))
}

/// What a [`Kit`] begins with.
#[derive(Clone, Debug)]
pub struct Config {
    /// How fuel is metered. Results are the same.
    pub mode: Mode,
    /// The chain's id.
    pub chain_id: u64,
    /// The time of the first block, in milliseconds since 1970.
    pub time_ms: u64,
    /// Accounts and what they have, in the smallest unit of the currency.
    pub accounts: Vec<(String, u128)>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mode: Mode::Slacked,
            chain_id: 1337,
            time_ms: 1_700_000_000_000,
            accounts: NAMES
                .iter()
                .map(|&name| (name.to_owned(), BALANCE))
                .collect(),
        }
    }
}

/// A chain to test contracts on.
#[derive(Debug)]
pub struct Kit {
    chain: Chain,
    /// The time of the next block, in milliseconds since 1970.
    time_ms: AtomicU64,
    names: HashMap<String, [u8; 32]>,
    sections: Sections,
    recording: Option<Recording>,
    calls: Option<calls::Recorder>,
    /// Keeps the directory.
    _directory: TempDir,
}

impl Kit {
    /// A chain on which the accounts of [`NAMES`] have [`BALANCE`] each.
    ///
    /// # Errors
    ///
    /// When the chain cannot be made in the system's directory for temporary files.
    pub fn new() -> Result<Kit> {
        Kit::with(Config::default())
    }

    /// A chain as `config` says.
    ///
    /// # Errors
    ///
    /// As [`Kit::new`]; when an account is there twice, or they have 2^127 or more together.
    pub fn with(config: Config) -> Result<Kit> {
        let calls = calls::Recorder::from_environment(&config)?;
        Kit::recorded(config, Recording::from_environment(), calls)
    }

    fn recorded(
        config: Config,
        recording: Option<Recording>,
        calls: Option<calls::Recorder>,
    ) -> Result<Kit> {
        let directory = TempDir::with_prefix("slackline-testkit-")?;
        let accounts: Vec<_> = config
            .accounts
            .into_iter()
            .map(|(name, balance)| (Account::named(&name), balance))
            .collect();
        let genesis = Genesis {
            chain_id: config.chain_id,
            timestamp_ms: config.time_ms,
            proposer: inner(Account::named("proposer").address()),
            accounts: accounts
                .iter()
                .map(|(account, balance)| GenesisAccount {
                    address: inner(account.address()),
                    balance: *balance,
                })
                .collect(),
            validators: Vec::new(),
            governor: None,
        };
        Ok(Kit {
            chain: Chain::open(directory.path(), &genesis, config.mode)?,
            time_ms: AtomicU64::new(config.time_ms),
            names: accounts
                .iter()
                .map(|(account, _)| (account.name().to_owned(), account.address().0))
                .collect(),
            sections: Sections::default(),
            recording,
            calls,
            _directory: directory,
        })
    }

    /// The account with this name. Who is not in [`NAMES`] (or [`Config::accounts`]) has nothing until somebody
    /// [sends](Kit::transfer) them something.
    pub fn account(&self, name: &str) -> Account {
        Account::named(name)
    }

    /// A transaction that creates a contract of `code`; its arguments are those of `init`.
    pub fn deploy(&self, from: &Account, code: &[u8]) -> Request<'_> {
        Request::new(self, from, What::Deploy(code.to_owned()))
    }

    /// A transaction that calls a method.
    pub fn call(&self, from: &Account, contract: impl Into<Address>, method: &str) -> Request<'_> {
        Request::new(self, from, What::Call(contract.into(), method.to_owned()))
    }

    /// A transaction that sends `amount`, in the smallest unit of the currency.
    pub fn transfer(&self, from: &Account, to: impl Into<Address>, amount: u128) -> Request<'_> {
        Request::new(self, from, What::Transfer(to.into())).value(amount)
    }

    /// A call of a method that changes nothing, and costs nobody anything.
    pub fn view(&self, contract: impl Into<Address>, method: &str) -> View<'_> {
        View::new(self, contract.into(), method.to_owned())
    }

    /// Executes transactions in one block, in that order.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when a node would not accept one of them, as things are before the block (so they cannot call what is
    /// deployed in it); there is no block then. And what keeps a block from being made.
    pub fn block<'k>(
        &'k self,
        requests: impl IntoIterator<Item = Request<'k>>,
    ) -> Result<Vec<Done<'k>>> {
        let mut pending: HashMap<Address, Pending> = HashMap::new();
        let (mut transactions, mut calls) = (Vec::new(), Vec::new());
        let mut senders = Vec::new();
        for request in requests {
            let sender = request.sender();
            let before = pending.entry(sender).or_default();
            let nonce = self.chain.account(&inner(sender))?.nonce + before.count;
            let called = request.called();
            senders.push(request.from().clone());
            let signed = request.sign(self.chain.genesis().chain_id, nonce)?;
            let tx = &signed.transaction;
            let refused = |reason| Error::Refused {
                what: called.to_string(),
                reason,
            };
            self.chain.admit(&signed, *before).map_err(refused)?;
            before.count += 1;
            let fee = u128::from(tx.fuel_limit) * u128::from(tx.fuel_price);
            before.cost += fee + called.value + tx.deposit_limit;
            transactions.push(signed);
            calls.push(called);
        }
        let time_ms = self.time_ms.load(Ordering::Relaxed);
        let metered = self.sections.are_metered();
        let recording = self.recording.as_ref().filter(|_| metered);
        let traced = match recording {
            Some(recording) => {
                let traced = self
                    .chain
                    .trace(&transactions, time_ms, recording.detail())?;
                let least = match (recording.limits, &transactions[..], &traced[..]) {
                    // Of several in a block it would depend on the others.
                    (true, [one], [Ok((receipt, _))]) => self.least_limit(one, receipt, time_ms)?,
                    _ => None,
                };
                Some((traced, transactions.clone(), least))
            }
            None => None,
        };
        // Also what is deployed without being metered: others call it.
        let deployed = match &self.recording {
            Some(_) => codes_of(&transactions),
            None => Vec::new(),
        };
        let made: Option<Vec<_>> = self
            .calls
            .as_ref()
            .map(|_| senders.into_iter().zip(transactions.clone()).collect());
        let produced = self.chain.produce_block(transactions, time_ms)?;
        if let Some((_, reason)) = produced.dropped.into_iter().next() {
            let what = "a transaction of the block".to_owned();
            return Err(Error::Refused { what, reason });
        }
        if !produced.left.is_empty() {
            return Err(Error::Full(produced.left.len()));
        }
        if let (Some(calls), Some(made)) = (&self.calls, made) {
            calls.block(self, &made, &produced.receipts)?;
        }
        for (at, wasm) in deployed {
            let contract = produced.receipts[at].contract;
            if let (Some(recording), Some(contract)) = (&self.recording, contract)
                && let Some(hash) = self.chain.account(&contract)?.code
            {
                recording.code(hash, &wasm, built_as(&wasm))?;
            }
        }
        if let (Some(recording), Some((traced, transactions, least))) = (recording, traced) {
            for (at, traced) in traced.into_iter().enumerate() {
                let (receipt, trace) = traced.map_err(|error| Error::Record(error.to_string()))?;
                // Of profiled code too, which is not what a node runs.
                if receipt != produced.receipts[at] {
                    let text = format!("{} was not the same twice", calls[at]);
                    return Err(Error::Record(text));
                }
                let tx = &transactions[at].transaction;
                let mut execution = self.execution(recording, tx, &calls[at], receipt, trace)?;
                execution.least_limit = least;
                recording.execution(execution)?;
            }
        }
        if metered {
            let fuel = produced.receipts.iter().map(|receipt| receipt.fuel_used);
            self.sections.spend(fuel.sum());
        }
        let done = calls.into_iter().zip(produced.receipts);
        Ok(done
            .map(|(called, receipt)| Done::of_transaction(self, called, receipt))
            .collect())
    }

    /// The lowest limit with which `signed`, in the next block, would end as in `receipt`, if that is a success. It can be higher than
    /// what is used: a callee gets but a share of what its caller has left.
    fn least_limit(
        &self,
        signed: &SignedTransaction,
        receipt: &Receipt,
        time_ms: u64,
    ) -> Result<Option<u64>> {
        if !receipt.outcome.is_success() {
            return Ok(None);
        }
        let suffices = |limit: u64| -> Result<bool> {
            let mut signed = signed.clone();
            signed.transaction.fuel_limit = limit;
            let traced = self.chain.trace(&[signed], time_ms, Detail::Calls)?.pop();
            Ok(
                matches!(traced, Some(Ok((other, _))) if other.outcome == receipt.outcome
                && other.fuel_used == receipt.fuel_used),
            )
        };
        if suffices(receipt.fuel_used)? {
            return Ok(Some(receipt.fuel_used));
        }
        // The first does not suffice, the second does.
        let (mut low, mut high) = (receipt.fuel_used, signed.transaction.fuel_limit);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if suffices(middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(Some(high))
    }

    /// What is written down of a transaction, which the chain has got already.
    fn execution(
        &self,
        recording: &Recording,
        tx: &Transaction,
        called: &Called,
        receipt: Receipt,
        trace: Option<CallTrace>,
    ) -> Result<Execution> {
        let contract = called.contract.map(inner).or(receipt.contract);
        let code = match contract {
            Some(contract) => self.chain.account(&contract)?.code,
            None => None,
        };
        let kind = match &tx.action {
            Action::Transfer { .. } | Action::SetValidators { .. } => Kind::Transfer,
            Action::Deploy { .. } => Kind::Deploy,
            Action::Call { .. } => Kind::Call,
        };
        let execution = Execution {
            kind,
            contract,
            code,
            method: called.method.clone(),
            args: self.args_of(contract, trace.as_ref()),
            fuel_limit: tx.fuel_limit,
            fuel_used: receipt.fuel_used,
            intrinsic: receipt.fuel_used - trace.as_ref().map_or(0, |trace| trace.fuel_used),
            outcome: kind_of(&receipt.outcome).to_owned(),
            trace,
            ..self.sections.execution(recording)
        };
        Ok(execution)
    }

    /// The arguments of the outermost call, if its contract says what they are.
    fn args_of(
        &self,
        contract: Option<executor::Address>,
        trace: Option<&CallTrace>,
    ) -> Option<Value> {
        let (contract, trace) = (contract?, trace?);
        let abi = self.abi(Address(contract.0)).ok()?;
        abi.decode_args(&trace.method, &trace.input).ok()
    }

    /// Makes a view, and writes down what it took.
    fn look(&self, call: &ViewCall) -> Result<ViewResult> {
        if let Some(calls) = &self.calls {
            calls.view(self, call)?;
        }
        let metered = self.sections.are_metered();
        let Some(recording) = self.recording.as_ref().filter(|_| metered) else {
            let result = self.chain.view(call)?;
            if metered {
                self.sections.spend(result.fuel_used);
            }
            return Ok(result);
        };
        let (result, trace) = self.chain.trace_view(call, recording.detail())?;
        self.sections.spend(result.fuel_used);
        // Profiled code is not what a node runs: that it does and costs the same is checked each time.
        if recording.detail() == Detail::Functions && self.chain.view(call)? != result {
            let text = format!("view {:?} was not the same twice", call.method);
            return Err(Error::Record(text));
        }
        let execution = Execution {
            kind: Kind::View,
            contract: Some(call.contract),
            code: self.chain.account(&call.contract)?.code,
            method: Some(call.method.clone()),
            args: self.args_of(Some(call.contract), trace.as_ref()),
            fuel_limit: call.fuel_limit,
            fuel_used: result.fuel_used,
            outcome: kind_of(&result.outcome).to_owned(),
            trace,
            ..self.sections.execution(recording)
        };
        recording.execution(execution)?;
        Ok(result)
    }

    /// The height of the last block.
    pub fn height(&self) -> u64 {
        self.chain.head().height
    }

    /// The time of the last block, in milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.chain.head().timestamp_ms
    }

    /// Makes an empty block that is so much later than the last one. (The time of a block is in milliseconds.)
    ///
    /// # Errors
    ///
    /// When the block cannot be made.
    pub fn advance_time(&self, by: Duration) -> Result<()> {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let time_ms = self.time_ms().saturating_add(by);
        self.time_ms.store(time_ms, Ordering::Relaxed);
        self.empty_blocks(1, Some(by))
    }

    /// Makes empty blocks, which take no time.
    ///
    /// # Errors
    ///
    /// When a block cannot be made.
    pub fn advance_blocks(&self, count: u64) -> Result<()> {
        self.empty_blocks(count, None)
    }

    /// Makes empty blocks, the first of them so much later than the last one.
    fn empty_blocks(&self, count: u64, later_ms: Option<u64>) -> Result<()> {
        if let Some(calls) = &self.calls {
            calls.advance(count, later_ms)?;
        }
        let time_ms = self.time_ms.load(Ordering::Relaxed);
        for _ in 0..count {
            self.chain.produce_block(Vec::new(), time_ms)?;
        }
        Ok(())
    }

    /// What an account or a contract has, in the smallest unit of the currency.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn balance(&self, of: impl Into<Address>) -> Result<u128> {
        Ok(self.info(of)?.balance)
    }

    /// All that is known of an account or a contract: also the bytes that it stores and the deposit for them.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn info(&self, of: impl Into<Address>) -> Result<executor::Account> {
        Ok(self.chain.account(&inner(of.into()))?)
    }

    /// What a contract says about itself.
    ///
    /// # Errors
    ///
    /// [`Error::NoAbi`] when there is no contract or it says nothing, [`Error::Abi`] when that makes no sense.
    pub fn abi(&self, contract: impl Into<Address>) -> Result<Contract> {
        let contract = contract.into();
        let json = self.chain.abi(&inner(contract))?;
        let json = json.ok_or(Error::NoAbi(contract))?;
        Ok(Contract::from_json(&json)?)
    }

    /// The chain itself, for what the kit does not have.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The address of an account that the chain began with.
    fn named(&self, name: &str) -> Option<[u8; 32]> {
        self.names.get(name).copied()
    }
}

/// The code that transactions deploy, with their places.
fn codes_of(transactions: &[SignedTransaction]) -> Vec<(usize, Vec<u8>)> {
    let codes = transactions.iter().enumerate().filter_map(|(at, signed)| {
        match &signed.transaction.action {
            Action::Deploy { code, .. } => Some((at, code.clone())),
            _ => None,
        }
    });
    codes.collect()
}

/// `success`, `revert` or `abort`.
fn kind_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Success { .. } => "success",
        Outcome::Revert { .. } => "revert",
        Outcome::Abort(_) => "abort",
    }
}

/// The same address, as the executor has it.
fn inner(address: Address) -> executor::Address {
    executor::Address(address.0)
}
