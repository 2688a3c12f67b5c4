//! Events: what a contract tells the world.
//!
//! A struct with `#[derive(slackline::Event)]` is emitted as topics, which one can search for, and data:
//!
//! ```text
//!   Transfer { #[topic] from: Address, #[topic] to: Address, amount: u128 }
//!
//!   topic 0   SHA-256 of the name, "Transfer"
//!   topic 1   from      borsh, filled up with zeros to 32 bytes
//!   topic 2   to
//!   data      amount    borsh of the other fields, in their order
//! ```
//!
//! Up to three fields can be topics. A topic whose type may take more than 32 bytes, like a `String`, is the SHA-256 of
//! its borsh, and the field is among the data too, so that nothing of the event is lost.

use crate::abi::{self, Describe, Schema};
use crate::{Hash, crypto, hash, sys};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// A struct that can be emitted: `#[derive(slackline::Event)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "an event is a struct with `#[derive(slackline::Event)]`"
)]
pub trait Event: Sized {
    /// The first topic of these events.
    // Not taken from the description, all of which would then be part of the contract.
    const TOPIC: Hash;

    /// What those who read the event need to know.
    const DESCRIPTION: &'static abi::Event;

    /// Appends what the topics do not hold.
    #[doc(hidden)]
    fn append_data(&self, data: &mut Vec<u8>);

    #[doc(hidden)]
    fn with_topics<R>(&self, f: impl FnOnce(&[Hash]) -> R) -> R;

    /// The event that has been emitted as this, if it was one of these.
    fn decode(topics: &[Hash], data: &[u8]) -> Option<Self>;
}

/// Writes `event` into the receipt of the transaction. So does its method `emit`.
pub fn emit<E: Event>(event: &E) {
    let mut data = Vec::with_capacity(64);
    event.append_data(&mut data);
    event.with_topics(|topics| sys::emit(topics, &data));
}

/// Writes an event into the receipt that has the topics and data that one likes. More than 4 topics abort the call.
pub fn emit_raw(topics: &[Hash], data: &[u8]) {
    sys::emit(topics, data);
}

/// The first topic of events with this name.
pub const fn name_topic(name: &str) -> Hash {
    hash::sha256(name.as_bytes())
}

/// Whether a topic holds all values of a type.
#[doc(hidden)]
pub const fn fits(schema: &Schema) -> bool {
    matches!(schema.max_len(), Some(0..=32))
}

/// The topic to search for to find events in which a field that is a topic has this value.
pub fn topic<T: Describe + BorshSerialize>(value: &T) -> Hash {
    let mut topic = [0; 32];
    if const { fits(T::SCHEMA) } {
        let mut rest = &mut topic[..];
        // All values of the type fit.
        let _ = value.serialize(&mut rest);
        topic
    } else {
        crypto::sha256(&crate::encode(value))
    }
}

/// The value of a field whose type fits a topic.
#[doc(hidden)]
pub fn from_topic<T: BorshDeserialize>(topic: &Hash) -> Option<T> {
    let mut rest = &topic[..];
    let value = T::deserialize(&mut rest).ok()?;
    rest.iter().all(|byte| *byte == 0).then_some(value)
}
