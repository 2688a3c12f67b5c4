//! Every way in which a method fails.
//!
//! An error has a code, a sentence for people, and data for programs: an object with the error's `kind` and what
//! belongs to it. Codes and kinds are stable, and there is one code per kind. Amounts are decimal strings.
//!
//! | code | kind | further data | meaning |
//! |---|---|---|---|
//! | -32602 | `invalid_params` | `parameter`, `reason`, `cause` | A parameter is not what the method takes; `cause` is there if that has a kind of its own |
//! | 1001 | `transaction_too_large` | `bytes`, `limit` | The encoded transaction is too long |
//! | 1002 | `malformed_transaction` | `reason` | Not the borsh encoding of a signed transaction, or bytes follow it |
//! | 1003 | `wrong_chain` | `expected`, `got` | Signed for another chain |
//! | 1004 | `bad_signature` | | The signature is not the sender's |
//! | 1005 | `nonce_too_low` | `expected`, `got` | The sender has used the nonce for another transaction |
//! | 1006 | `nonce_too_high` | `expected`, `got` | A transaction of the sender is missing before this one |
//! | 1007 | `insufficient_balance` | `needed`, `available` | Fuel limit times price and amount exceed what the sender has, less what is pending |
//! | 1008 | `fuel_limit_too_low` | `minimum`, `got` | Not enough to start |
//! | 1009 | `fuel_limit_too_high` | `maximum`, `got` | More than a transaction or a view may use |
//! | 1010 | `no_contract` | `contract` | There is no contract at the address |
//! | 1011 | `unknown_method` | `contract`, `method`, `available` | The contract has no such method |
//! | 1012 | `invalid_code` | `reason` | The code is no acceptable wasm module |
//! | 1013 | `fuel_price_too_low` | `base_price`, `got` | The most that a unit of fuel may cost is less than it costs in the next block |
//! | 1014 | `replacement_underpriced` | `waiting`, `fuel_price`, `tip` | Another transaction with the nonce waits; it takes that price and tip to replace it |
//! | 1015 | `replaced` | `by` | Another transaction with the nonce took its place |
//! | 1016 | `evicted` | `price` | The mempool was full of transactions that pay more than that |
//! | 1017 | `expired` | `height` | No block up to that height took it |
//! | 1018 | `no_code` | `hash` | No code, and no transaction that brings code, has the hash |
//! | 1099 | `refused` | `reason` | Refused for a reason that has no kind yet |
//! | 1101 | `input_too_large` | `bytes`, `limit` | The input of a view is too long |
//! | 1201 | `no_block` | `height`, `head` | The chain has not come so far |
//! | 1202 | `pruned` | `height`, `oldest` | The state after that block is not kept any more |
//! | 1301 | `try_again_later` | `reason` | The node is busy; the same request may succeed later |
//! | 1302 | `node_stopping` | | The node is shutting down; the transaction may have to be sent again |
//! | 1303 | `node_failed` | `reason` | A block could not be stored; nothing is accepted until a restart |
//! | 1304 | `storage` | `reason` | The database could not be read |
//! | 1305 | `internal` | `reason` | The node ran out of memory, or has a bug |
//! | 1306 | `no_samples` | `reason` | The node meters in a mode that takes no samples, or on a system that has none |
//! | 1307 | `missed` | `from_height` | A subscription has ended: what blocks from that height on have for it may not have been sent, and can be asked for |
//!
//! `submit_transaction` answers with these inside of a result that has the transaction's hash, as soon as the bytes are those of a transaction. There
//! `accepted` beside `data` says that the node had accepted the transaction before. `try_again_later` also comes as an error of JSON-RPC, of any method:
//! the call was one too many, or there was no room for its answer. The transaction may have been accepted then.
//!
//! A subscription ends with one of these as `params.error` of its last message: `missed`, `node_stopping`.
//!
//! Requests that do not reach a method get the library's own errors, whose data is a sentence or nothing: -32700 (not
//! JSON), -32600 (not a request), -32601 (no such method), -32602 (parameters missing or of another JSON type), -32006 (too many subscriptions of a
//! session), -32007 (request too large; HTTP status 413), -32008 (answer too large), -32010 (batch too long), -32011 (answers of a batch too large
//! together), -32603 (a bug). Too many requests at a time get HTTP status 429 and no JSON.

use crate::types::Amount;
use jsonrpsee::types::ErrorObjectOwned;
use serde::{Deserialize, Serialize};
use slackline_types::{Address, Hash};

/// An error of a method. Its JSON form is the error object's `data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are those of the table above")]
pub enum RpcError {
    /// Returned when a parameter has the right JSON type but is not what the method takes.
    #[error("parameter {parameter}: {reason}")]
    InvalidParams {
        parameter: String,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Box<RpcError>>,
    },
    /// Returned by `submit_transaction` for more bytes than a transaction may have.
    #[error("the transaction has {bytes} bytes; at most {limit} are allowed")]
    TransactionTooLarge { bytes: u64, limit: u64 },
    /// Returned by `submit_transaction` for bytes that are no transaction, or more than one.
    #[error("not a signed transaction: {reason}")]
    MalformedTransaction { reason: String },
    /// Returned by `submit_transaction` for a transaction for another chain.
    #[error("the transaction is for chain {got}; this is chain {expected}")]
    WrongChain { expected: u64, got: u64 },
    /// Returned by `submit_transaction` for a signature that is not the sender's.
    #[error("the signature is not the sender's")]
    BadSignature,
    /// Returned by `submit_transaction` for a nonce that is used.
    #[error("nonce {got} is used; the sender's next is {expected}")]
    NonceTooLow { expected: u64, got: u64 },
    /// Returned by `submit_transaction` for a nonce that leaves a gap: any on a node alone, as nothing else could fill it, and one of more than 64 on a
    /// node that hears of transactions from others.
    #[error("nonce {got} leaves a gap; the sender's next is {expected}")]
    NonceTooHigh { expected: u64, got: u64 },
    /// Returned by `submit_transaction` if fuel limit times price and amount exceed the sender's balance less what its
    /// pending transactions may cost.
    #[error("the transaction may cost {needed}; the sender has {available} left to spend")]
    InsufficientBalance { needed: Amount, available: Amount },
    /// Returned by `submit_transaction` for a limit that the transaction exceeds before it starts.
    #[error("a fuel limit of {got} is too low; this transaction needs at least {minimum}")]
    FuelLimitTooLow { minimum: u64, got: u64 },
    /// Returned by `submit_transaction` and `call_view` for a limit above the protocol's.
    #[error("a fuel limit of {got} is too high; at most {maximum} are allowed")]
    FuelLimitTooHigh { maximum: u64, got: u64 },
    /// Returned by `submit_transaction`, `call_view` and `get_methods` for an address that is not a contract's.
    #[error("there is no contract at {contract}")]
    NoContract { contract: Address },
    /// Returned by `submit_transaction` and `call_view` for a method that the contract does not have.
    #[error("the contract has no method {method:?}; it has {}", list(available))]
    UnknownMethod {
        contract: Address,
        method: String,
        available: Vec<String>,
    },
    /// Returned by `submit_transaction` for a deployment of something that cannot be a contract.
    #[error("the code is refused: {reason}")]
    InvalidCode { reason: String },
    /// Returned by `submit_transaction` for a fuel price below the next block's base price.
    #[error("a fuel price of {got} is too low; the base price is {base_price}")]
    FuelPriceTooLow { base_price: u64, got: u64 },
    /// Returned by `submit_transaction` if another one with the nonce waits and this one does not pay enough more.
    #[error(
        "{waiting} has the same nonce; to replace it takes a fuel price of {fuel_price} and a tip of {tip}"
    )]
    ReplacementUnderpriced {
        waiting: Hash,
        fuel_price: u64,
        tip: u64,
    },
    /// Returned by `submit_transaction` to who waits for one that another one with its nonce has replaced.
    #[error("replaced by {by}")]
    Replaced { by: Hash },
    /// Returned by `submit_transaction` to who waits for one that had to leave a full mempool.
    #[error(
        "evicted from a full mempool; an effective fuel price above {price} would have kept it"
    )]
    Evicted { price: u64 },
    /// Returned by `submit_transaction` to who waits for one that no block took.
    #[error("expired: no block up to height {height} took it")]
    Expired { height: u64 },
    /// Returned by `get_code` for a hash that is neither code's nor that of a transaction that brings some.
    #[error("there is no code with hash {hash}, nor a transaction that brings code")]
    NoCode { hash: Hash },
    /// Returned by `submit_transaction` and `call_view` when the chain refuses for a reason that this list does not have.
    #[error("refused: {reason}")]
    Refused { reason: String },
    /// Returned by `call_view` for too much input.
    #[error("the input has {bytes} bytes; at most {limit} are allowed")]
    InputTooLarge { bytes: u64, limit: u64 },
    /// Returned by `get_block` for a height above the head's.
    #[error("there is no block {height}; the chain is at {head}")]
    NoBlock { height: u64, head: u64 },
    /// Returned by methods with a height for one whose state is pruned.
    #[error("the state of height {height} is not kept any more; the oldest is that of {oldest}")]
    Pruned { height: u64, oldest: u64 },
    /// Returned by `submit_transaction` and `call_view` when as much waits as may wait; by `trace_transaction` with `functions` and
    /// `profile_node` when another such request is under way.
    #[error("{reason}; try again later")]
    TryAgainLater { reason: String },
    /// Returned by `submit_transaction` and `call_view` once the node is shutting down, also to those who wait for a
    /// transaction that has not been executed.
    #[error("the node is stopping")]
    NodeStopping,
    /// Returned by `submit_transaction` after a block could not be made or stored. Whether a transaction that was in
    /// that block is on disk is known after a restart.
    #[error("the node has failed: {reason}")]
    NodeFailed { reason: String },
    /// Returned by every method that reads, if the database could not be read.
    #[error("{reason}")]
    Storage { reason: String },
    /// Returned when the node could not do its part: out of memory, or a bug.
    #[error("internal error: {reason}")]
    Internal { reason: String },
    /// Returned by `profile_node` of a node without asynchronous checks.
    #[error("the node cannot be profiled: {reason}")]
    NoSamples { reason: String },
    /// Sent to a subscriber that does not read, or falls behind, as the last that it hears of its subscription.
    #[error("the subscription has ended: what there is from block {from_height} on may be missing")]
    Missed { from_height: u64 },
}

fn list(methods: &[String]) -> String {
    if methods.is_empty() {
        "none".to_owned()
    } else {
        methods.join(", ")
    }
}

impl RpcError {
    /// The code of the error's kind.
    pub fn code(&self) -> i32 {
        match self {
            RpcError::InvalidParams { .. } => -32602,
            RpcError::TransactionTooLarge { .. } => 1001,
            RpcError::MalformedTransaction { .. } => 1002,
            RpcError::WrongChain { .. } => 1003,
            RpcError::BadSignature => 1004,
            RpcError::NonceTooLow { .. } => 1005,
            RpcError::NonceTooHigh { .. } => 1006,
            RpcError::InsufficientBalance { .. } => 1007,
            RpcError::FuelLimitTooLow { .. } => 1008,
            RpcError::FuelLimitTooHigh { .. } => 1009,
            RpcError::NoContract { .. } => 1010,
            RpcError::UnknownMethod { .. } => 1011,
            RpcError::InvalidCode { .. } => 1012,
            RpcError::FuelPriceTooLow { .. } => 1013,
            RpcError::ReplacementUnderpriced { .. } => 1014,
            RpcError::Replaced { .. } => 1015,
            RpcError::Evicted { .. } => 1016,
            RpcError::Expired { .. } => 1017,
            RpcError::NoCode { .. } => 1018,
            RpcError::Refused { .. } => 1099,
            RpcError::InputTooLarge { .. } => 1101,
            RpcError::NoBlock { .. } => 1201,
            RpcError::Pruned { .. } => 1202,
            RpcError::TryAgainLater { .. } => 1301,
            RpcError::NodeStopping => 1302,
            RpcError::NodeFailed { .. } => 1303,
            RpcError::Storage { .. } => 1304,
            RpcError::Internal { .. } => 1305,
            RpcError::NoSamples { .. } => 1306,
            RpcError::Missed { .. } => 1307,
        }
    }

    /// The error that a server sent, if it is one of these.
    pub fn from_object(object: &ErrorObjectOwned) -> Option<RpcError> {
        let error: RpcError = serde_json::from_str(object.data()?.get()).ok()?;
        (error.code() == object.code()).then_some(error)
    }
}

impl From<RpcError> for ErrorObjectOwned {
    fn from(error: RpcError) -> ErrorObjectOwned {
        ErrorObjectOwned::owned(error.code(), error.to_string(), Some(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// One of each. [`position`] does not compile when one is missing there, and the test compares the two.
    fn all() -> Vec<RpcError> {
        let text = || "text".to_owned();
        let contract = Address([1; 32]);
        vec![
            RpcError::InvalidParams {
                parameter: text(),
                reason: text(),
                cause: Some(Box::new(RpcError::BadSignature)),
            },
            RpcError::TransactionTooLarge { bytes: 1, limit: 2 },
            RpcError::MalformedTransaction { reason: text() },
            RpcError::WrongChain {
                expected: 1,
                got: 2,
            },
            RpcError::BadSignature,
            RpcError::NonceTooLow {
                expected: 1,
                got: 2,
            },
            RpcError::NonceTooHigh {
                expected: 1,
                got: 2,
            },
            RpcError::InsufficientBalance {
                needed: Amount(u128::MAX),
                available: Amount(2),
            },
            RpcError::FuelLimitTooLow {
                minimum: 1,
                got: u64::MAX,
            },
            RpcError::FuelLimitTooHigh { maximum: 1, got: 2 },
            RpcError::NoContract { contract },
            RpcError::UnknownMethod {
                contract,
                method: text(),
                available: vec![text()],
            },
            RpcError::InvalidCode { reason: text() },
            RpcError::FuelPriceTooLow {
                base_price: 2,
                got: 1,
            },
            RpcError::ReplacementUnderpriced {
                waiting: Hash([1; 32]),
                fuel_price: 2,
                tip: 1,
            },
            RpcError::Replaced { by: Hash([1; 32]) },
            RpcError::Evicted { price: 1 },
            RpcError::Expired { height: 1 },
            RpcError::NoCode {
                hash: Hash([1; 32]),
            },
            RpcError::Refused { reason: text() },
            RpcError::InputTooLarge { bytes: 1, limit: 2 },
            RpcError::NoBlock { height: 1, head: 2 },
            RpcError::Pruned {
                height: 1,
                oldest: 2,
            },
            RpcError::TryAgainLater { reason: text() },
            RpcError::NodeStopping,
            RpcError::NodeFailed { reason: text() },
            RpcError::Storage { reason: text() },
            RpcError::Internal { reason: text() },
            RpcError::NoSamples { reason: text() },
            RpcError::Missed { from_height: 1 },
        ]
    }

    fn position(error: &RpcError) -> usize {
        match error {
            RpcError::InvalidParams { .. } => 0,
            RpcError::TransactionTooLarge { .. } => 1,
            RpcError::MalformedTransaction { .. } => 2,
            RpcError::WrongChain { .. } => 3,
            RpcError::BadSignature => 4,
            RpcError::NonceTooLow { .. } => 5,
            RpcError::NonceTooHigh { .. } => 6,
            RpcError::InsufficientBalance { .. } => 7,
            RpcError::FuelLimitTooLow { .. } => 8,
            RpcError::FuelLimitTooHigh { .. } => 9,
            RpcError::NoContract { .. } => 10,
            RpcError::UnknownMethod { .. } => 11,
            RpcError::InvalidCode { .. } => 12,
            RpcError::FuelPriceTooLow { .. } => 13,
            RpcError::ReplacementUnderpriced { .. } => 14,
            RpcError::Replaced { .. } => 15,
            RpcError::Evicted { .. } => 16,
            RpcError::Expired { .. } => 17,
            RpcError::NoCode { .. } => 18,
            RpcError::Refused { .. } => 19,
            RpcError::InputTooLarge { .. } => 20,
            RpcError::NoBlock { .. } => 21,
            RpcError::Pruned { .. } => 22,
            RpcError::TryAgainLater { .. } => 23,
            RpcError::NodeStopping => 24,
            RpcError::NodeFailed { .. } => 25,
            RpcError::Storage { .. } => 26,
            RpcError::Internal { .. } => 27,
            RpcError::NoSamples { .. } => 28,
            RpcError::Missed { .. } => 29,
        }
    }

    #[test]
    fn each_kind_has_its_own_code_and_its_row_in_the_table() {
        let all = all();
        assert_eq!(
            all.iter().map(position).collect::<Vec<_>>(),
            (0..all.len()).collect::<Vec<_>>()
        );
        let codes: HashSet<i32> = all.iter().map(RpcError::code).collect();
        assert_eq!(codes.len(), all.len());
        let rows: Vec<&str> = include_str!("error.rs")
            .lines()
            .filter(|line| line.starts_with("//! | "))
            .skip(1)
            .collect();
        assert_eq!(rows.len(), all.len());
        for (error, row) in all.iter().zip(rows) {
            let data = serde_json::to_value(error).expect("JSON");
            let kind = data["kind"].as_str().expect("kind");
            assert!(
                row.starts_with(&format!("//! | {} | `{kind}` |", error.code())),
                "{row}"
            );
            for field in data
                .as_object()
                .expect("object")
                .keys()
                .filter(|key| *key != "kind")
            {
                assert!(row.contains(&format!("`{field}`")), "{field}: {row}");
            }
        }
    }

    #[test]
    fn clients_read_back_what_servers_send() {
        for error in all() {
            let object = ErrorObjectOwned::from(error.clone());
            let wire = serde_json::to_string(&object).expect("JSON");
            let read: ErrorObjectOwned = serde_json::from_str(&wire).expect("JSON");
            assert_eq!(read.code(), error.code());
            assert_eq!(read.message(), error.to_string());
            assert_eq!(RpcError::from_object(&read), Some(error));
        }
        let foreign = ErrorObjectOwned::owned(1001, "x", Some(RpcError::BadSignature));
        assert_eq!(RpcError::from_object(&foreign), None);
        assert_eq!(
            RpcError::from_object(&ErrorObjectOwned::owned(1001, "x", None::<()>)),
            None
        );
    }

    #[test]
    fn amounts_are_strings_in_the_data() {
        let error = RpcError::InsufficientBalance {
            needed: Amount(u128::MAX),
            available: Amount(0),
        };
        let data = serde_json::to_value(&error).expect("JSON");
        assert_eq!(data["needed"], u128::MAX.to_string());
        assert_eq!(data["available"], "0");
    }
}
