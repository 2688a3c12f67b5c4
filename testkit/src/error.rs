//! What can go wrong besides what is tested.

use slackline::Address;
use slackline_abi::{AbiError, DecodeError, EncodeError};
use slackline_contract_build::BuildError;
use slackline_executor::{
    AdmitError, ExecutionError, OpenError, ProduceError, StoreError, ViewError,
};
use std::fmt;
use std::io;

/// What the testkit's functions give.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something was not executed, or has no such result.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The contract was not built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The chain was not made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no place for the chain.
    #[error("no temporary directory: {0}")]
    Directory(#[from] io::Error),
    /// A node would not accept the transaction.
    #[error("{what} was refused: {reason}")]
    Refused {
        /// The transaction.
        what: String,
        /// Why.
        reason: AdmitError,
    },
    /// What the first transactions of a block use leaves no room for the limits of the others.
    #[error(
        "a block has no room for {0} of the transactions: lower their fuel limits, or make several blocks"
    )]
    Full(usize),
    /// A node would not make the view call.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The block was not made.
    #[error(transparent)]
    Block(#[from] ProduceError),
    /// The machine has failed in an execution.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// The database has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was executed and did not succeed.
    #[error("{0}")]
    NotOk(String),
    /// What was returned is no value of the type.
    #[error("{what} returned 0x{data}, which is no {wanted}")]
    NotA {
        /// The call.
        what: String,
        /// What it returned, in hexadecimal.
        data: String,
        /// The type.
        wanted: &'static str,
    },
    /// There is no description, without which there is no JSON.
    #[error(
        "there is no contract at {0}, or it does not describe its methods: JSON cannot be used"
    )]
    NoAbi(Address),
    /// The description makes no sense.
    #[error(transparent)]
    Abi(#[from] AbiError),
    /// The JSON is not the method's arguments.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// What was returned is not what the description says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What it cost cannot be written down.
    #[error("what an execution has cost cannot be recorded: {0}")]
    Record(String),
    /// The arguments cannot be encoded.
    #[error("the arguments cannot be encoded: {0}")]
    Arguments(String),
}

/// As text: it is what a failing test prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
