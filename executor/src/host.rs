//! The host interface, version 1: what contracts import from module `slackline_v1`.
//!
//! Pointers and lengths are offsets into the exported memory `memory`. Every function is charged for before it acts:
//! [`FuelSchedule::host_call`] plus what the table says, `n` being the bytes copied or stored.
//!
//! | function | does | fuel |
//! |---|---|---|
//! | `input_len() -> i32` | length of the input | |
//! | `input_read(dst)` | copies the input to `dst` | `n * host_per_byte` |
//! | `return_data(ptr, len)` | sets what the call returns | `n * host_per_byte` |
//! | `revert(ptr, len)` | ends the execution, undone, with data | `n * host_per_byte` |
//! | `storage_get(key, key_len, dst, cap) -> i64` | copies up to `cap` bytes of the value; its length or -1 | `storage_get + n * storage_get_per_byte`, `n` key and value |
//! | `storage_set(key, key_len, value, value_len)` | stores | `storage_set + n * storage_set_per_byte`, `n` key and value |
//! | `storage_delete(key, key_len)` | deletes | `storage_set + n * storage_set_per_byte`, `n` key |
//! | `caller(dst)` | writes the caller's address, 32 bytes | `32 * host_per_byte` |
//! | `log(ptr, len)` | appends a record to the receipt | `log + n * log_per_byte` |
//!
//! A pointer outside memory, a size over [`Limits`] or a write in a view call aborts: see [`HostError`].

use crate::params::{FuelSchedule, Limits};
use crate::state::{TxState, storage_key};
use crate::store::StoreError;
use crate::types::Address;
use slackline_metering::Limit;
use std::fmt;
use std::sync::Arc;
use wasmparser::{FuncType, ValType};
use wasmtime::{Caller, Linker, Memory, StoreLimits, Trap};

/// The module that contracts import from.
pub const MODULE: &str = "slackline_v1";

/// How a contract broke the interface's rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// A key, value, record or data over its limit.
    #[error("{function}: {len} bytes are over the limit of {limit}")]
    TooLong {
        /// The host function.
        function: &'static str,
        /// The length, in bytes.
        len: u32,
        /// The limit, in bytes.
        limit: usize,
    },
    /// More log records than a transaction may have.
    #[error("log: more than {0} records")]
    TooManyLogs(usize),
    /// The contract's memory cannot be found. Code without one is not deployed.
    #[error("the contract does not export its memory")]
    NoMemory,
    /// A write in a call that may only read.
    #[error("{0}: a view call cannot write")]
    ReadOnly(&'static str),
}

/// Ends an execution from inside a host function.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exit {
    /// The contract asked for it; the data is in [`HostState::reverted`].
    #[error("reverted")]
    Revert,
    /// The database failed; the error is in [`HostState::fault`].
    #[error("the database failed")]
    Fault,
}

/// What host functions work on during an execution.
pub(crate) struct HostState {
    pub(crate) tx: TxState,
    pub(crate) fuel: Limit,
    pub(crate) fees: Arc<FuelSchedule>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) resources: StoreLimits,
    pub(crate) contract: Address,
    pub(crate) caller: Address,
    pub(crate) input: Vec<u8>,
    pub(crate) read_only: bool,
    pub(crate) output: Vec<u8>,
    pub(crate) logs: Vec<Vec<u8>>,
    pub(crate) reverted: Option<Vec<u8>>,
    pub(crate) fault: Option<StoreError>,
}

/// A type of the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostType {
    params: &'static [ValType],
    results: &'static [ValType],
}

impl HostType {
    pub(crate) fn matches(self, ty: &FuncType) -> bool {
        self.params == ty.params() && self.results == ty.results()
    }
}

impl fmt::Display for HostType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValType]| {
            types
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        write!(f, "({}) -> ({})", list(self.params), list(self.results))
    }
}

/// The type of a function of the interface, `None` if there is none of that name.
pub(crate) fn function_type(name: &str) -> Option<HostType> {
    const I: ValType = ValType::I32;
    let (params, results): (&[ValType], &[ValType]) = match name {
        "input_len" => (&[], &[I]),
        "input_read" | "caller" => (&[I], &[]),
        "return_data" | "revert" | "storage_delete" | "log" => (&[I, I], &[]),
        "storage_get" => (&[I, I, I, I], &[ValType::I64]),
        "storage_set" => (&[I, I, I, I], &[]),
        _ => return None,
    };
    Some(HostType { params, results })
}

type Host<'a> = Caller<'a, HostState>;
type HostResult<T> = wasmtime::Result<T>;

/// Defines the interface.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "input_len",
        |mut host: Host<'_>| -> HostResult<u32> {
            charge(&mut host, 0)?;
            Ok(host.data().input.len() as u32)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "input_read",
        |mut host: Host<'_>, dst: u32| -> HostResult<()> {
            let cost = per_byte(&host, host.data().input.len());
            charge(&mut host, cost)?;
            let input = std::mem::take(&mut host.data_mut().input);
            let written = write(&mut host, "input_read", dst, &input);
            host.data_mut().input = input;
            written
        },
    )?;
    linker.func_wrap(
        MODULE,
        "return_data",
        |mut host: Host<'_>, ptr: u32, len: u32| -> HostResult<()> {
            let cost = per_byte(&host, len as usize);
            charge(&mut host, cost)?;
            let limit = host.data().limits.data_bytes;
            host.data_mut().output = read(&mut host, "return_data", ptr, len, limit)?;
            Ok(())
        },
    )?;
    linker.func_wrap(
        MODULE,
        "revert",
        |mut host: Host<'_>, ptr: u32, len: u32| -> HostResult<()> {
            let cost = per_byte(&host, len as usize);
            charge(&mut host, cost)?;
            let limit = host.data().limits.data_bytes;
            let data = read(&mut host, "revert", ptr, len, limit)?;
            host.data_mut().reverted = Some(data);
            Err(Exit::Revert.into())
        },
    )?;
    linker.func_wrap(
        MODULE,
        "storage_get",
        |mut host: Host<'_>, key: u32, key_len: u32, dst: u32, cap: u32| -> HostResult<i64> {
            let fees = host.data().fees.clone();
            let per_byte = fees.storage_get_per_byte;
            charge(
                &mut host,
                fees.storage_get
                    .saturating_add(per_byte.saturating_mul(u64::from(key_len))),
            )?;
            let key = storage(&mut host, "storage_get", key, key_len)?;
            let Some(value) = fallible(&mut host, |state| state.tx.get(&key))? else {
                return Ok(-1);
            };
            charge_only(&mut host, per_byte.saturating_mul(value.len() as u64))?;
            write(
                &mut host,
                "storage_get",
                dst,
                &value[..value.len().min(cap as usize)],
            )?;
            Ok(value.len() as i64)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "storage_set",
        |mut host: Host<'_>,
         key: u32,
         key_len: u32,
         value: u32,
         value_len: u32|
         -> HostResult<()> {
            charge_write(&mut host, u64::from(key_len) + u64::from(value_len))?;
            writable(&host, "storage_set")?;
            let key = storage(&mut host, "storage_set", key, key_len)?;
            let limit = host.data().limits.value_bytes;
            let value = read(&mut host, "storage_set", value, value_len, limit)?;
            host.data_mut().tx.set(key, Some(value));
            Ok(())
        },
    )?;
    linker.func_wrap(
        MODULE,
        "storage_delete",
        |mut host: Host<'_>, key: u32, key_len: u32| -> HostResult<()> {
            charge_write(&mut host, u64::from(key_len))?;
            writable(&host, "storage_delete")?;
            let key = storage(&mut host, "storage_delete", key, key_len)?;
            host.data_mut().tx.set(key, None);
            Ok(())
        },
    )?;
    linker.func_wrap(
        MODULE,
        "caller",
        |mut host: Host<'_>, dst: u32| -> HostResult<()> {
            let caller = host.data().caller.0;
            let cost = per_byte(&host, caller.len());
            charge(&mut host, cost)?;
            write(&mut host, "caller", dst, &caller)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "log",
        |mut host: Host<'_>, ptr: u32, len: u32| -> HostResult<()> {
            let fees = host.data().fees.clone();
            charge(
                &mut host,
                fees.log
                    .saturating_add(fees.log_per_byte.saturating_mul(u64::from(len))),
            )?;
            let limits = host.data().limits.clone();
            let record = read(&mut host, "log", ptr, len, limits.log_bytes)?;
            if host.data().logs.len() == limits.logs {
                return Err(HostError::TooManyLogs(limits.logs).into());
            }
            host.data_mut().logs.push(record);
            Ok(())
        },
    )?;
    Ok(())
}

/// Charges for a host call that costs `fuel` beyond the base.
fn charge(host: &mut Host<'_>, fuel: u64) -> HostResult<()> {
    let base = host.data().fees.host_call;
    charge_only(host, base.saturating_add(fuel))
}

fn charge_only(host: &mut Host<'_>, fuel: u64) -> HostResult<()> {
    let limit = host.data().fuel;
    limit
        .charge(host, fuel)
        .ok_or_else(|| Trap::OutOfFuel.into())
}

fn charge_write(host: &mut Host<'_>, bytes: u64) -> HostResult<()> {
    let fees = host.data().fees.clone();
    charge(
        host,
        fees.storage_set
            .saturating_add(fees.storage_set_per_byte.saturating_mul(bytes)),
    )
}

fn per_byte(host: &Host<'_>, bytes: usize) -> u64 {
    host.data().fees.host_per_byte.saturating_mul(bytes as u64)
}

fn writable(host: &Host<'_>, function: &'static str) -> HostResult<()> {
    if host.data().read_only {
        Err(HostError::ReadOnly(function).into())
    } else {
        Ok(())
    }
}

fn memory(host: &mut Host<'_>) -> HostResult<Memory> {
    host.get_export(crate::code::MEMORY)
        .and_then(wasmtime::Extern::into_memory)
        .ok_or_else(|| HostError::NoMemory.into())
}

fn read(
    host: &mut Host<'_>,
    function: &'static str,
    ptr: u32,
    len: u32,
    limit: usize,
) -> HostResult<Vec<u8>> {
    if len as usize > limit {
        return Err(HostError::TooLong {
            function,
            len,
            limit,
        }
        .into());
    }
    let memory = memory(host)?;
    memory
        .data(&*host)
        .get(ptr as usize..)
        .and_then(|rest| rest.get(..len as usize))
        .map(<[u8]>::to_vec)
        .ok_or_else(|| HostError::OutOfBounds { function, ptr, len }.into())
}

fn write(host: &mut Host<'_>, function: &'static str, ptr: u32, bytes: &[u8]) -> HostResult<()> {
    let memory = memory(host)?;
    memory.write(&mut *host, ptr as usize, bytes).map_err(|_| {
        HostError::OutOfBounds {
            function,
            ptr,
            len: bytes.len() as u32,
        }
        .into()
    })
}

/// The contract's storage key at `ptr`, as a key of the state.
fn storage(host: &mut Host<'_>, function: &'static str, ptr: u32, len: u32) -> HostResult<Vec<u8>> {
    let limit = host.data().limits.key_bytes;
    let key = read(host, function, ptr, len, limit)?;
    Ok(storage_key(&host.data().contract, &key))
}

/// Runs something that may fail through no fault of the contract.
fn fallible<T>(
    host: &mut Host<'_>,
    action: impl FnOnce(&mut HostState) -> Result<T, StoreError>,
) -> HostResult<T> {
    action(host.data_mut()).map_err(|error| {
        host.data_mut().fault = Some(error);
        Exit::Fault.into()
    })
}
