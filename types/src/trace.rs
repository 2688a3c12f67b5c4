//! What an execution did and what each part of it cost: made by the executor when it is asked for, and read by whoever shows it.

use crate::{Address, Event, Hash};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A call of a contract, with all that happened in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallTrace {
    /// What was called.
    pub contract: Address,
    /// Who called it.
    pub caller: Address,
    /// Its code.
    pub code: Hash,
    /// The method, `init` or `upgrade`.
    pub method: String,
    /// The input.
    #[serde(with = "crate::hexadecimal")]
    pub input: Vec<u8>,
    /// What came with it, in the smallest unit of the currency.
    #[serde(with = "crate::decimal")]
    pub value: u128,
    /// Whether it could only read.
    pub read_only: bool,
    /// The most that it could use, in fuel.
    pub fuel_limit: u64,
    /// What it has used, in fuel, with its own calls; the limit after an abort.
    pub fuel_used: u64,
    /// How it ended.
    pub ended: CallEnded,
    /// By the name of the host function, what those that it called itself have cost, without what callees used.
    pub host: BTreeMap<String, HostUse>,
    /// What it did besides computing, in order. What it did in vain, because it did not return, is here too.
    pub steps: Vec<Step>,
    /// What its functions have used, if that was asked for: each after the one that called it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionUse>,
    /// Whether some of it is missing, because there was no room for more in the trace. What is left out of `host`, `steps` and `functions` is in none of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// What a function of a contract has used when called on one path of functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUse {
    /// Who called it: a place in [`CallTrace::functions`]; `None` for the one that was called from outside.
    pub caller: Option<u32>,
    /// The block of its caller that ends with the call.
    pub site: Option<u32>,
    /// Its index in the code, imports counted.
    pub function: u32,
    /// How often it executed which of its blocks, by their number.
    pub blocks: BTreeMap<u32, u64>,
    /// What bulk operations have cost besides, in fuel, by their number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bulk: BTreeMap<u32, u64>,
    /// What host functions have cost that it called itself, without what callees used: by the block that ends with the call, and by
    /// name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host: BTreeMap<u32, BTreeMap<String, HostUse>>,
    /// The calls of contracts that it made: the block that ends with the call, and the place in [`CallTrace::steps`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<(u32, u32)>,
}

/// What calls of a host function have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUse {
    /// How often it was called.
    pub calls: u64,
    /// What that cost, in fuel.
    pub fuel: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnded {
    /// It returned these bytes.
    Returned(#[serde(with = "crate::hexadecimal")] Vec<u8>),
    /// It reverted with these bytes: all that it did is undone.
    Reverted(#[serde(with = "crate::hexadecimal")] Vec<u8>),
    /// It was aborted for this reason, and has lost its whole limit.
    Aborted(String),
}

/// Something that a call did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It called a contract, perhaps itself.
    Call(Box<CallTrace>),
    /// It would have, but the call was not made, for this reason.
    Refused(String),
    /// It emitted an event.
    Event(Event),
    /// It read or wrote a key of its storage.
    Storage(Access),
}

/// A use of a storage key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// What was done.
    pub kind: AccessKind,
    /// The contract's key; of [`AccessKind::Next`] the one that was found, or empty.
    #[serde(with = "crate::hexadecimal")]
    pub key: Vec<u8>,
    /// Length of the value read or written, in bytes; `None` if there was none, or it was not looked at.
    pub value_len: Option<u64>,
}

/// What was done with a storage key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessKind {
    /// `storage_get`
    Get,
    /// `storage_has`
    Has,
    /// `storage_set`
    Set,
    /// `storage_delete`
    Delete,
    /// `storage_next`
    Next,
}

impl CallTrace {
    /// The calls that it made.
    pub fn calls(&self) -> impl Iterator<Item = &CallTrace> {
        self.steps.iter().filter_map(|step| match step {
            Step::Call(call) => Some(&**call),
            _ => None,
        })
    }

    /// What its host functions have cost, in fuel, without what callees used.
    pub fn host_fuel(&self) -> u64 {
        self.host.values().map(|host| host.fuel).sum()
    }

    /// What its callees have used, in fuel.
    pub fn callee_fuel(&self) -> u64 {
        self.calls().map(|call| call.fuel_used).sum()
    }

    /// What its own wasm has used, in fuel: the rest. After an abort, what was lost with it is in this.
    pub fn wasm_fuel(&self) -> u64 {
        self.fuel_used
            .saturating_sub(self.host_fuel())
            .saturating_sub(self.callee_fuel())
    }
}
