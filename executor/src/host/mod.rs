//! The host interface, version 1: what contracts import from module `slackline_v1`.
//!
//! Parameters are `i32`, offsets and lengths in the exported memory `memory`, unless the table says otherwise. Addresses and hashes have
//! 32 bytes; an amount of currency is 16 bytes, little-endian. Every function is charged for before it acts:
//! [`FuelSchedule::host_call`] plus what the table says, where `B` is [`FuelSchedule::host_per_byte`] and `n` the
//! length of the data concerned, in bytes. The other names are fields of [`FuelSchedule`].
//!
//! ## The call
//!
//! | function | does | fuel |
//! |---|---|---|
//! | `input_len() -> i32` | length of the input | |
//! | `input_read(dst)` | copies the input to `dst` | `n B` |
//! | `return_data(ptr, len)` | sets what the call returns; the last one counts | `n B` |
//! | `revert(ptr, len)` | ends the call, undone; its caller gets the data | `n B` |
//! | `caller(dst)`, `origin(dst)`, `self_address(dst)` | who called, who signed the transaction, this contract | `32 B` |
//! | `value(dst)` | the amount that came with the call | `16 B` |
//! | `fuel_left() -> i64` | what the call may still use, this function paid | |
//!
//! ## The chain
//!
//! | function | does | fuel |
//! |---|---|---|
//! | `block_height() -> i64`, `chain_id() -> i64` | of the block that is being made | |
//! | `block_time() -> i64` | its time, in milliseconds since 1970 | |
//! | `block_proposer(dst)` | who makes it | `32 B` |
//! | `balance(address, dst)` | what an account has | `account_get` |
//! | `code_hash(address, dst) -> i32` | 1 and the hash of its code, or 0 and nothing written | `account_get` |
//! | `transfer(to, amount) -> i32` | moves currency from this contract to an account; runs no code. 0, or 7 if there is not enough | `transfer` |
//! | `emit(topics, count, data, len)` | an event with `count` topics of 32 bytes, at most [`Limits::event_topics`] | `event + n event_per_byte`, `n` topics and data |
//!
//! ## Storage
//!
//! Keys and values are bytes; each contract sees its own. Holding them takes a deposit ([`crate::params::Deposits`]) from the
//! account that signed the transaction, when that ends; freeing them refunds it.
//!
//! | function | does | fuel |
//! |---|---|---|
//! | `storage_get(key, key_len, dst, cap) -> i64` | copies up to `cap` bytes of the value; its length, or -1 | `storage_get + n storage_get_per_byte`, `n` key and value |
//! | `storage_has(key, key_len) -> i32` | 1 if there is a value, else 0 | `storage_get + n storage_get_per_byte`, `n` key |
//! | `storage_set(key, key_len, value, value_len)` | stores | `storage_set + n storage_set_per_byte`, `n` key and value |
//! | `storage_delete(key, key_len)` | deletes | `storage_set + n storage_set_per_byte`, `n` key |
//! | `storage_next(prefix, prefix_len, from, from_len, flags, dst, cap) -> i64` | the next key that begins with `prefix`, in the order of bytes: the first after `from`; flag 1: the last before `from`; flag 2: of all, `from` being ignored. Copies up to `cap` bytes of the whole key; its length, or -1 | `storage_next (1 + d) + n storage_get_per_byte`, `d` deleted keys passed over, `n` prefix, `from` and key |
//!
//! ## Other contracts
//!
//! Each of these runs another instance, with a fuel limit of its own: `fuel` (`i64`, unsigned), but at most 63 parts in 64 of what is left. What
//! it used is charged; after an abort that is its limit. When it does not return, all that it did is undone.
//!
//! | function | does | fuel |
//! |---|---|---|
//! | `call(contract, method, method_len, input, input_len, value, fuel, flags) -> i32` | calls a method, with an amount of currency; flag 1: nothing may write | `call_base + transfer + n B`, and what was used |
//! | `deploy(code_hash, input, input_len, value, fuel, dst) -> i32` | makes a contract of code that is on the chain, runs its `init`; the address goes to `dst` if the status is 0 | the same |
//! | `upgrade(code_hash, input, input_len, fuel) -> i32` | gives this contract other code, from its next call on, and runs that code's `upgrade`, if it has one, called by the contract itself | the same |
//! | `returned_len() -> i32`, `returned_read(dst)` | what the last of these returned, or reverted with; empty for statuses from 2 | `n B` |
//!
//! They return a status: 0 returned, 1 reverted, 2 aborted, 3 there is no such contract (or code), 4 it has no such method, 5 it is being called
//! already, and the method may not be called then, 6 more than [`Limits::call_depth`] calls in each other, 7 not enough currency.
//!
//! ## Cryptography
//!
//! | function | does | fuel |
//! |---|---|---|
//! | `sha256(ptr, len, dst)`, `keccak256(…)`, `blake3(…)` | hashes | `sha256 + n sha256_per_byte` and so on |
//! | `ed25519_verify(key, signature, message, len) -> i32` | 1 if the signature (64 bytes) is valid by the strict rules (RFC 8032, no weak keys), else 0 | `ed25519_verify + n ed25519_verify_per_byte` |
//! | `secp256k1_recover(hash, signature, recovery_id, dst) -> i32` | 1 and the public key (64 bytes, x and y) that signed `hash` with the signature (64 bytes, r and s), or 0 | `secp256k1_recover` |
//!
//! # Errors
//!
//! A range outside memory, a size over [`Limits`], an unknown flag or a write where none is allowed aborts the call: see [`HostError`].

mod calls;
mod chain;
mod crypto;
mod storage;

use crate::gate::Permit;
use crate::params::ProtocolParams;
use crate::state::{AccountAdd, Overlay};
use crate::trace::{AccessKind, PROFILE_MODULE, Recorder};
use crate::types::{Address, Event, Hash};
use crate::vm::{ExecutionError, Vm};
use slackline_metering::{CheckStats, Limit};
use slackline_sandbox::{HostFunction, ValType};
use std::sync::Arc;
use wasmtime::{Caller, Global, Linker, Memory, StoreLimits, Trap};

#[cfg(doc)]
use crate::params::{FuelSchedule, Limits};

pub use slackline_sandbox::MODULE;

/// How a contract broke the interface's rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A range outside the contract's memory.
    #[error("{function}: {len} bytes at {ptr:#x} are outside memory")]
    OutOfBounds {
        /// The host function.
        function: &'static str,
        /// Start of the range.
        ptr: u32,
        /// Its length, in bytes.
        len: u32,
    },
    /// A key, value, event or data over its limit.
    #[error("{function}: {len} bytes are over the limit of {limit}")]
    TooLong {
        /// The host function.
        function: &'static str,
        /// The length, in bytes.
        len: u32,
        /// The limit, in bytes.
        limit: usize,
    },
    /// More events than a transaction may have.
    #[error("emit: more than {0} events")]
    TooManyEvents(usize),
    /// More topics than an event may have.
    #[error("emit: {count} topics are over the limit of {limit}")]
    TooManyTopics {
        /// How many there are.
        count: u32,
        /// How many there may be.
        limit: usize,
    },
    /// Flags that mean nothing.
    #[error("{function}: unknown flags {flags:#x}")]
    Flags {
        /// The host function.
        function: &'static str,
        /// All the flags.
        flags: u32,
    },
    /// A method name that is not UTF-8.
    #[error("call: the method's name is not UTF-8")]
    MethodName,
    /// The contract's memory cannot be found. Code without one is not deployed.
    #[error("the contract does not export its memory")]
    NoMemory,
    /// A write in a call that may only read.
    #[error("{0}: a view or static call cannot write")]
    ReadOnly(&'static str),
}

/// Ends an execution from inside a host function.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    /// The contract asked for it; the data is in [`Frame::reverted`].
    #[error("reverted")]
    Revert,
    /// The machine failed; the error is in [`HostState::fault`].
    #[error("the machine failed")]
    Fault,
}

/// Where a transaction executes: what contracts can see of it.
#[derive(Clone, Debug)]
pub(crate) struct Env {
    pub(crate) chain_id: u64,
    pub(crate) height: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) proposer: Address,
    pub(crate) origin: Address,
}

/// What all calls of a transaction work on. The innermost call has it.
pub(crate) struct Run {
    pub(crate) env: Env,
    pub(crate) overlay: Overlay,
    pub(crate) events: Vec<Event>,
    /// The contracts that are being called, outermost first.
    pub(crate) active: Vec<Address>,
    /// Stack that the next call may use, in bytes as [`slackline_sandbox::frame`] counts them.
    pub(crate) stack_left: i32,
    /// Code that this transaction brings.
    pub(crate) deploying: Option<(Hash, Arc<Vec<u8>>)>,
    /// The checks of this thread that have been counted.
    pub(crate) checks: CheckStats,
    /// When what happens is to be recorded.
    pub(crate) trace: Option<Box<Recorder>>,
    _permit: Permit,
}

impl Run {
    pub(crate) fn new(env: Env, overlay: Overlay, stack_bytes: i32, permit: Permit) -> Box<Run> {
        Box::new(Run {
            env,
            overlay,
            events: Vec::new(),
            active: Vec::new(),
            stack_left: stack_bytes,
            deploying: None,
            checks: CheckStats::default(),
            trace: None,
            _permit: permit,
        })
    }

    /// The code with `hash`, as deployed.
    pub(crate) fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, ExecutionError> {
        match &self.deploying {
            Some((deploying, code)) if deploying == hash => Ok(Some(code.clone())),
            _ => self.overlay.code(hash),
        }
    }

    pub(crate) fn has_code(&self, hash: &Hash) -> Result<bool, ExecutionError> {
        match &self.deploying {
            Some((deploying, _)) if deploying == hash => Ok(true),
            _ => self.overlay.has_code(hash),
        }
    }

    /// Moves currency; false, with nothing done, if `from` has too little.
    pub(crate) fn transfer(
        &mut self,
        from: &Address,
        to: &Address,
        amount: u128,
    ) -> Result<bool, ExecutionError> {
        if amount == 0 {
            return Ok(true);
        }
        let mut account = self.overlay.account(from)?;
        let Some(rest) = account.balance.checked_sub(amount) else {
            return Ok(false);
        };
        if from == to {
            return Ok(true);
        }
        account.balance = rest;
        self.overlay.set_account(from, &account);
        self.overlay.add(to, &AccountAdd::balance(amount))?;
        Ok(true)
    }
}

/// A call, as its contract sees it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) contract: Address,
    pub(crate) caller: Address,
    pub(crate) value: u128,
    pub(crate) input: Vec<u8>,
    pub(crate) read_only: bool,
    pub(crate) output: Vec<u8>,
    pub(crate) reverted: Option<Vec<u8>>,
    /// What the last call made by this one returned.
    pub(crate) returned: Vec<u8>,
}

/// What host functions work on during a call.
pub(crate) struct HostState {
    pub(crate) vm: Arc<Vm>,
    /// With the callee while there is one.
    pub(crate) run: Option<Box<Run>>,
    pub(crate) frame: Frame,
    pub(crate) fuel: Limit,
    pub(crate) resources: StoreLimits,
    pub(crate) memory: Option<Memory>,
    /// What it has of the transaction's stack, in bytes, besides what its functions may take that cannot recurse; the global counts
    /// down from it, if there is one.
    pub(crate) stack_left: i32,
    pub(crate) stack: Option<Global>,
    pub(crate) fault: Option<ExecutionError>,
}

impl HostState {
    fn params(&self) -> &ProtocolParams {
        self.vm.params()
    }

    pub(crate) fn run(&mut self) -> &mut Run {
        self.run
            .as_deref_mut()
            .expect("no host function of a call runs while it waits for a callee")
    }

    fn recorder(&mut self) -> Option<&mut Recorder> {
        self.run.as_deref_mut()?.trace.as_deref_mut()
    }

    /// Records a use of the contract's own `key`.
    fn record_access(&mut self, kind: AccessKind, key: &[u8], value_len: Option<usize>) {
        if let Some(trace) = self.recorder() {
            trace.access(kind, key, value_len);
        }
    }
}

type Host<'a> = Caller<'a, HostState>;
type HostResult<T> = wasmtime::Result<T>;

/// Defines the interface.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    calls::link(linker)?;
    chain::link(linker)?;
    crypto::link(linker)?;
    storage::link(linker)
}

/// Defines what profiled code imports besides: see [`crate::trace::Blocks`].
pub(crate) fn link_profile(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(
            PROFILE_MODULE,
            "block",
            |mut host: Host<'_>, number: u32| -> HostResult<()> {
                let price = host.data_mut().recorder().map(|trace| trace.price(number));
                take(&mut host, price.unwrap_or(0))?;
                if let Some(trace) = host.data_mut().recorder() {
                    trace.block(number);
                }
                Ok(())
            },
        )?
        .func_wrap(
            PROFILE_MODULE,
            "bulk",
            |mut host: Host<'_>, number: u32, units: u32| {
                if let Some(trace) = host.data_mut().recorder() {
                    trace.bulk(number, units);
                }
            },
        )?;
    Ok(())
}

const I: ValType = ValType::I32;
const L: ValType = ValType::I64;

/// The functions of the interface, with their types.
pub const FUNCTIONS: &[HostFunction] = &[
    function("balance", &[I, I], &[]),
    function("blake3", &[I, I, I], &[]),
    function("block_height", &[], &[L]),
    function("block_proposer", &[I], &[]),
    function("block_time", &[], &[L]),
    function("call", &[I, I, I, I, I, I, L, I], &[I]),
    function("caller", &[I], &[]),
    function("chain_id", &[], &[L]),
    function("code_hash", &[I, I], &[I]),
    function("deploy", &[I, I, I, I, L, I], &[I]),
    function("ed25519_verify", &[I, I, I, I], &[I]),
    function("emit", &[I, I, I, I], &[]),
    function("fuel_left", &[], &[L]),
    function("input_len", &[], &[I]),
    function("input_read", &[I], &[]),
    function("keccak256", &[I, I, I], &[]),
    function("origin", &[I], &[]),
    function("return_data", &[I, I], &[]),
    function("returned_len", &[], &[I]),
    function("returned_read", &[I], &[]),
    function("revert", &[I, I], &[]),
    function("secp256k1_recover", &[I, I, I, I], &[I]),
    function("self_address", &[I], &[]),
    function("sha256", &[I, I, I], &[]),
    function("storage_delete", &[I, I], &[]),
    function("storage_get", &[I, I, I, I], &[L]),
    function("storage_has", &[I, I], &[I]),
    function("storage_next", &[I, I, I, I, I, I, I], &[L]),
    function("storage_set", &[I, I, I, I], &[]),
    function("transfer", &[I, I], &[I]),
    function("upgrade", &[I, I, I, L], &[I]),
    function("value", &[I], &[]),
];

const fn function(
    name: &'static str,
    params: &'static [ValType],
    results: &'static [ValType],
) -> HostFunction {
    HostFunction {
        name,
        params,
        results,
    }
}

/// Charges for a call of host function `name` that costs `fuel` beyond the base.
fn charge(host: &mut Host<'_>, name: &'static str, fuel: u64) -> HostResult<()> {
    let base = host.data().params().fees.host_call;
    let fuel = base.saturating_add(fuel);
    take(host, fuel)?;
    if let Some(trace) = host.data_mut().recorder() {
        trace.host(name, 1, fuel);
    }
    Ok(())
}

/// Charges more for a call of `name` that has been charged for.
fn charge_more(host: &mut Host<'_>, name: &'static str, fuel: u64) -> HostResult<()> {
    take(host, fuel)?;
    if let Some(trace) = host.data_mut().recorder() {
        trace.host(name, 0, fuel);
    }
    Ok(())
}

fn take(host: &mut Host<'_>, fuel: u64) -> HostResult<()> {
    let state = host.data_mut();
    if state.run.as_ref().is_some_and(|run| run.overlay.is_stale()) {
        state.fault = Some(ExecutionError::Stale);
        return Err(Exit::Fault.into());
    }
    let limit = state.fuel;
    limit
        .charge(host, fuel)
        .ok_or_else(|| Trap::OutOfFuel.into())
}

/// Charges for copying `bytes`.
fn charge_copy(host: &mut Host<'_>, name: &'static str, bytes: usize) -> HostResult<()> {
    let per_byte = host.data().params().fees.host_per_byte;
    charge(host, name, per_byte.saturating_mul(bytes as u64))
}

/// `base + bytes * per_byte`
fn linear(base: u64, per_byte: u64, bytes: u64) -> u64 {
    base.saturating_add(per_byte.saturating_mul(bytes))
}

fn writable(host: &Host<'_>, function: &'static str) -> HostResult<()> {
    if host.data().frame.read_only {
        Err(HostError::ReadOnly(function).into())
    } else {
        Ok(())
    }
}

/// The contract's memory beside what the host works on.
fn guest<'a>(host: &'a mut Host<'_>) -> HostResult<(&'a mut [u8], &'a mut HostState)> {
    let memory = host.data().memory.ok_or(HostError::NoMemory)?;
    Ok(memory.data_and_store_mut(host))
}

/// The `len` bytes at `ptr`, if there may be so many.
fn bytes<'a>(
    memory: &'a [u8],
    function: &'static str,
    ptr: u32,
    len: u32,
    limit: usize,
) -> Result<&'a [u8], HostError> {
    if len as usize > limit {
        return Err(HostError::TooLong {
            function,
            len,
            limit,
        });
    }
    memory
        .get(ptr as usize..)
        .and_then(|rest| rest.get(..len as usize))
        .ok_or(HostError::OutOfBounds { function, ptr, len })
}

/// The `N` bytes at `ptr`.
fn array<const N: usize>(
    memory: &[u8],
    function: &'static str,
    ptr: u32,
) -> Result<[u8; N], HostError> {
    memory
        .get(ptr as usize..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(HostError::OutOfBounds {
            function,
            ptr,
            len: N as u32,
        })
}

fn put(memory: &mut [u8], function: &'static str, ptr: u32, bytes: &[u8]) -> Result<(), HostError> {
    memory
        .get_mut(ptr as usize..)
        .and_then(|rest| rest.get_mut(..bytes.len()))
        .ok_or(HostError::OutOfBounds {
            function,
            ptr,
            len: bytes.len() as u32,
        })?
        .copy_from_slice(bytes);
    Ok(())
}

/// Charges for `bytes` and copies them to `dst`.
fn give(host: &mut Host<'_>, function: &'static str, dst: u32, given: &[u8]) -> HostResult<()> {
    charge_copy(host, function, given.len())?;
    let (memory, _) = guest(host)?;
    Ok(put(memory, function, dst, given)?)
}

/// Runs something that may fail through no fault of the contract.
fn fallible<T>(
    host: &mut HostState,
    action: impl FnOnce(&mut Run) -> Result<T, ExecutionError>,
) -> HostResult<T> {
    let done = action(host.run());
    done.map_err(|error| {
        host.fault = Some(error);
        Exit::Fault.into()
    })
}
