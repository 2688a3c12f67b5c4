//! What an execution did and what each part of it cost, recorded when asked for.
//!
//! ```text
//!   Chain::trace, Chain::trace_view ──▶ Run { trace: Some(Recorder) }
//!                                             ▲ enter, leave: each call      (Vm::call)
//!                                             │ host: each charge            (host functions)
//!                                             │ step: events, storage        (host functions)
//!                                             ▼
//!                                        CallTrace: a tree, whose fuel adds up to the receipt's
//! ```
//!
//! What is not traced pays for a look at an `Option` in each charge of a host function. Tracing changes nothing that an
//! execution computes or pays for.

use crate::types::{Address, Event, Hash};
use crate::vm::{Call, Called, Ended, Entry};
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
    #[serde(with = "hexadecimal")]
    pub input: Vec<u8>,
    /// What came with it, in the smallest unit of the currency.
    #[serde(with = "decimal")]
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
    Returned(#[serde(with = "hexadecimal")] Vec<u8>),
    /// It reverted with these bytes: all that it did is undone.
    Reverted(#[serde(with = "hexadecimal")] Vec<u8>),
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
    #[serde(with = "hexadecimal")]
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

/// Records a run.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// The calls that are running, outermost first.
    open: Vec<CallTrace>,
    done: Option<CallTrace>,
}

impl Recorder {
    /// A call begins.
    pub(crate) fn enter(&mut self, call: &Call<'_>, code: Hash) {
        self.open.push(CallTrace {
            contract: call.contract,
            caller: call.caller,
            code,
            method: match call.entry {
                Entry::Method(name) => name.to_owned(),
                Entry::Init => slackline_sandbox::INIT.to_owned(),
                Entry::Upgrade => slackline_sandbox::UPGRADE.to_owned(),
            },
            input: call.input.clone(),
            value: call.value,
            read_only: call.read_only,
            fuel_limit: call.fuel,
            fuel_used: 0,
            // Until it has ended.
            ended: CallEnded::Aborted(String::new()),
            host: BTreeMap::new(),
            steps: Vec::new(),
        });
    }

    /// The call that began last has ended.
    pub(crate) fn leave(&mut self, called: &Called) {
        let Some(mut call) = self.open.pop() else {
            return;
        };
        call.fuel_used = called.used;
        call.ended = match &called.ended {
            Ended::Returned(data) => CallEnded::Returned(data.clone()),
            Ended::Reverted(data) => CallEnded::Reverted(data.clone()),
            Ended::Aborted(reason) => CallEnded::Aborted(reason.to_string()),
            Ended::Refused(refusal) => CallEnded::Aborted(refusal.to_string()),
        };
        match self.open.last_mut() {
            Some(caller) => caller.steps.push(Step::Call(Box::new(call))),
            None => self.done = Some(call),
        }
    }

    /// A host function has been charged for: `calls` is 1 with its first charge, else 0.
    pub(crate) fn host(&mut self, function: &str, calls: u64, fuel: u64) {
        let Some(call) = self.open.last_mut() else {
            return;
        };
        if !call.host.contains_key(function) {
            call.host.insert(function.to_owned(), HostUse::default());
        }
        if let Some(host) = call.host.get_mut(function) {
            host.calls += calls;
            host.fuel += fuel;
        }
    }

    /// The innermost call has done something.
    pub(crate) fn step(&mut self, step: Step) {
        if let Some(call) = self.open.last_mut() {
            call.steps.push(step);
        }
    }

    /// The outermost call, if one was made.
    pub(crate) fn into_trace(self) -> Option<CallTrace> {
        self.done
    }
}

/// Bytes as hexadecimal text.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Amounts as decimal text: JSON numbers lose digits.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}
