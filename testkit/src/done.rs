//! What has become of transactions and views.

use crate::error::{Error, Result};
use crate::request::Called;
use crate::{AbortReason, Address, Event, Kit, Outcome, Receipt};
use borsh::BorshDeserialize;
use serde_json::Value;
use slackline_abi::{DecodedEvent, Revert};
use slackline_executor::ViewResult;
use std::any::type_name;

/// What has become of a transaction or a view.
///
/// Methods that panic are assertions: their names begin with `expect`, or they are [`Done::fuel_at_most`].
#[derive(Clone, Debug)]
#[must_use = "it may have failed: see `expect_ok`"]
pub struct Done<'k> {
    kit: &'k Kit,
    called: Called,
    outcome: Outcome,
    fuel: u64,
    receipt: Option<Receipt>,
}

/// An event, by its contract's description.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonEvent {
    /// Who emitted it.
    pub contract: Address,
    /// Its name; empty when the contract has no description of it.
    pub name: String,
    /// Its fields, an object; without a description what there is: `{"topics": ["…"], "data": "…"}` in hexadecimal.
    pub fields: Value,
}

impl<'k> Done<'k> {
    pub(crate) fn of_transaction(kit: &'k Kit, mut called: Called, receipt: Receipt) -> Done<'k> {
        if let Some(contract) = receipt.contract {
            called.contract = Some(Address(contract.0));
        }
        Done {
            kit,
            called,
            outcome: receipt.outcome.clone(),
            fuel: receipt.fuel_used,
            receipt: Some(receipt),
        }
    }

    pub(crate) fn of_view(kit: &'k Kit, called: Called, result: ViewResult) -> Done<'k> {
        Done {
            kit,
            called,
            outcome: result.outcome,
            fuel: result.fuel_used,
            receipt: None,
        }
    }

    /// How it ended, with the bytes that it returned or reverted with.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        self.outcome.is_success()
    }

    /// Fuel that it used: of a transaction all that it pays for, of a view only what the execution took.
    pub fn fuel(&self) -> u64 {
        self.fuel
    }

    /// The receipt of a transaction, as the node has it.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    /// What the sender has paid as deposits for storage, less what was refunded, in the smallest unit of the currency.
    pub fn deposit(&self) -> i128 {
        self.receipt.as_ref().map_or(0, |receipt| receipt.deposit)
    }

    /// The contract that was deployed.
    ///
    /// # Errors
    ///
    /// [`Error::NotOk`] when none was.
    pub fn contract(&self) -> Result<Address> {
        let deployed = self.receipt.as_ref().and_then(|receipt| receipt.contract);
        deployed
            .map(|contract| Address(contract.0))
            .ok_or_else(|| Error::NotOk(self.to_string()))
    }

    /// The value that was returned.
    ///
    /// # Errors
    ///
    /// [`Error::NotOk`] when there is none, [`Error::NotA`] when it is another.
    pub fn returned<T: BorshDeserialize>(&self) -> Result<T> {
        let data = self.data()?;
        borsh::from_slice(data).map_err(|_| Error::NotA {
            what: self.called.to_string(),
            data: hex::encode(data),
            wanted: type_name::<T>(),
        })
    }

    /// The value that was returned, by the contract's description.
    ///
    /// # Errors
    ///
    /// [`Error::NotOk`] when there is none, and when the contract has no description or it does not fit.
    pub fn returned_json(&self) -> Result<Value> {
        let data = self.data()?;
        let (Some(contract), Some(method)) = (self.called.contract, &self.called.method) else {
            return Ok(Value::Null);
        };
        Ok(self.kit.abi(contract)?.decode_result(method, data)?)
    }

    fn data(&self) -> Result<&[u8]> {
        match &self.outcome {
            Outcome::Success { data } => Ok(data),
            _ => Err(Error::NotOk(self.to_string())),
        }
    }

    /// The bytes that it reverted with, if it did.
    pub fn revert_data(&self) -> Option<&[u8]> {
        match &self.outcome {
            Outcome::Revert { data } => Some(data),
            _ => None,
        }
    }

    /// The error that it reverted with, by the contract's description: `"Variant"` or `{"Variant": fields}`; a text
    /// as it is, anything else in hexadecimal. `None` when it did not revert.
    pub fn revert_json(&self) -> Option<Value> {
        Some(match self.revert()? {
            Revert::Error { value, .. } => value,
            other => Value::String(other.to_string()),
        })
    }

    fn revert(&self) -> Option<Revert> {
        let data = self.revert_data()?;
        let decoded = || {
            let (contract, method) = (self.called.contract?, self.called.method.as_ref()?);
            let abi = self.kit.abi(contract).ok()?;
            Some(abi.decode_error(method, data))
        };
        Some(decoded().unwrap_or_else(|| match str::from_utf8(data) {
            Ok(text) if data.first().is_none_or(|first| *first >= b' ') => {
                Revert::Text(text.to_owned())
            }
            _ => Revert::Bytes(data.to_owned()),
        }))
    }

    /// The events of this type, in order. Whose they are does not count: see [`Done::events_of`].
    pub fn events<E: Event>(&self) -> Vec<E> {
        self.decoded(|_| true)
    }

    /// The events of this type that `contract` emitted, in order.
    pub fn events_of<E: Event>(&self, contract: impl Into<Address>) -> Vec<E> {
        let contract = contract.into();
        self.decoded(|emitter| emitter == contract)
    }

    fn decoded<E: Event>(&self, of: impl Fn(Address) -> bool) -> Vec<E> {
        let wanted = self.raw_events().iter();
        let wanted = wanted.filter(|event| of(Address(event.contract.0)));
        wanted
            .filter_map(|event| {
                let topics: Vec<_> = event.topics.iter().map(|topic| topic.0).collect();
                E::decode(&topics, &event.data)
            })
            .collect()
    }

    /// All events, in order, each by the description of the contract that emitted it.
    pub fn events_json(&self) -> Vec<JsonEvent> {
        let shown = self.raw_events().iter().map(|event| {
            let topics: Vec<_> = event.topics.iter().map(|topic| topic.0).collect();
            let contract = Address(event.contract.0);
            let abi = self.kit.abi(contract).ok();
            let decoded = abi.and_then(|abi| abi.decode_event(&topics, &event.data).ok());
            let raw = || DecodedEvent {
                name: String::new(),
                fields: serde_json::json!({
                    "topics": topics.iter().map(hex::encode).collect::<Vec<_>>(),
                    "data": hex::encode(&event.data),
                }),
            };
            let DecodedEvent { name, fields } = decoded.unwrap_or_else(raw);
            JsonEvent {
                contract,
                name,
                fields,
            }
        });
        shown.collect()
    }

    fn raw_events(&self) -> &[slackline_executor::Event] {
        self.receipt
            .as_ref()
            .map_or(&[], |receipt| receipt.events.as_slice())
    }

    /// Asserts that it succeeded.
    ///
    /// # Panics
    ///
    /// When it did not: says why.
    #[track_caller]
    pub fn expect_ok(self) -> Done<'k> {
        assert!(self.is_ok(), "{self}");
        self
    }

    /// Asserts that it reverted with an error of this type, and gives it.
    ///
    /// # Panics
    ///
    /// When it ended in another way: says how.
    #[track_caller]
    pub fn expect_revert<E: BorshDeserialize>(&self) -> E {
        match self.revert_data().map(borsh::from_slice) {
            Some(Ok(error)) => error,
            _ => panic!("expected a revert with a {}, but {self}", type_name::<E>()),
        }
    }

    /// Asserts that it reverted with text, as panics and `slackline::revert` do, and gives it.
    ///
    /// # Panics
    ///
    /// When it ended in another way: says how.
    #[track_caller]
    pub fn expect_revert_text(&self) -> String {
        match self.revert() {
            Some(Revert::Text(text)) => text,
            _ => panic!("expected a revert with text, but {self}"),
        }
    }

    /// Asserts that it was aborted, and gives the reason.
    ///
    /// # Panics
    ///
    /// When it ended in another way: says how.
    #[track_caller]
    pub fn expect_abort(&self) -> AbortReason {
        match &self.outcome {
            Outcome::Abort(reason) => reason.clone(),
            _ => panic!("expected an abort, but {self}"),
        }
    }

    /// Asserts that it used no more than `most` fuel, whether it succeeded or not.
    ///
    /// # Panics
    ///
    /// When it used more: says how much.
    #[track_caller]
    pub fn fuel_at_most(self, most: u64) -> Done<'k> {
        assert!(
            self.fuel <= most,
            "expected at most {most} fuel, which is {} less than it took: {self}",
            self.fuel - most
        );
        self
    }
}

/// As in ``` `transfer` of 12ab… reverted: InsufficientBalance (There are fewer tokens than that.); 123456 fuel```.
impl std::fmt::Display for Done<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.called)?;
        match (&self.outcome, self.revert()) {
            (Outcome::Success { data }, _) => match self.returned_json() {
                Ok(Value::Null) => f.write_str("succeeded")?,
                Ok(value) => write!(f, "returned {value}")?,
                Err(_) if data.is_empty() => f.write_str("succeeded")?,
                Err(_) => write!(f, "returned 0x{}", hex::encode(data))?,
            },
            (Outcome::Revert { .. }, Some(revert)) => write!(f, "reverted: {revert}")?,
            (Outcome::Revert { data }, None) => {
                write!(f, "reverted with 0x{}", hex::encode(data))?;
            }
            (Outcome::Abort(reason), _) => write!(f, "was aborted: {reason}")?,
        }
        write!(f, "; {} fuel", self.fuel)
    }
}
