use thiserror::Error;

/// Why a description cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AbiError {
    /// The bytes are not a wasm module.
    #[error("not a wasm module: {0}")]
    Wasm(&'static str),
    /// The section is not the JSON of a description.
    #[error("the contract's description is malformed: {0}")]
    Json(#[from] serde_json::Error),
    /// It is written for another version of this crate.
    #[error("the contract's description is of version {0}, this program reads version {version}", version = crate::VERSION)]
    Version(u64),
    /// It contradicts itself.
    #[error("the contract's description is malformed: {0}")]
    Inconsistent(String),
}

/// Why JSON is not a value of a type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The contract has no such method.
    #[error("the contract has no method `{0}`")]
    NoMethod(String),
    /// Something else was expected at some place.
    #[error("{path}: expected {expected}, found {found}")]
    Mismatch {
        /// Where, as in `order.items[3].price`.
        path: String,
        /// What is expected there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It is nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("{path}: nested too deep")]
    TooDeep {
        /// Where.
        path: String,
    },
}

/// Why bytes are not a value of a type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The contract has no such method.
    #[error("the contract has no method `{0}`")]
    NoMethod(String),
    /// The contract has no event with this first topic, or not with so many topics.
    #[error("not an event of the contract")]
    NoEvent,
    /// The bytes end too early.
    #[error("the data ends within a {0}")]
    Truncated(String),
    /// There is something behind the value.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// The bytes are none that the type has.
    #[error("not a {0}")]
    Invalid(String),
    /// A map or set has something twice.
    #[error("a key or element is there twice")]
    Duplicate,
    /// It is nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("nested too deep")]
    TooDeep,
    /// It has more parts than [`MAX_VALUES`](crate::MAX_VALUES).
    #[error("more values than are shown")]
    TooMany,
}
