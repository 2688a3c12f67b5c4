//! Proofs of what is in Slackline's state and blocks, for clients that keep block hashes only.
//!
//! ```text
//!   block hash (trusted) ◀──hash── Header ──┬── state_root        ◀── StateProof  (key, value or absence)
//!                                           ├── transactions_root ◀── ListProof   (transaction hash, index)
//!                                           └── receipts_root     ◀── ListProof   (receipt hash, index)
//! ```
//!
//! The state is a Jellyfish Merkle tree ([`jmt`], after *Jellyfish Merkle Tree*, Gao, Hu and Wu, 2021) over SHA-256: the leaf of a
//! key is at [`key_hash`] and holds [`value_digest`]. Lists are the trees of RFC 6962 ([`ct_merkle`]), their root hashed
//! together with the number of items under a domain separator, so that a list of transactions never looks like one of receipts.
//!
//! An encoding is a version byte, [`VERSION`], and borsh. In JSON it is that in hexadecimal.

#![forbid(unsafe_code)]

mod answer;
mod list;
mod state;

pub use answer::StateAnswer;
pub use list::{List, ListProof, list_root};
pub use state::{Sha256, StateProof, key_hash, value_digest};

/// The first byte of every encoded proof.
pub const VERSION: u8 = 1;

/// Why bytes or text are not a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes.
    #[error("an encoded proof has at least one byte, its version")]
    Empty,
    /// Made by a version of this crate that this one does not know.
    #[error("the proof has version {found}, this program knows version {VERSION}")]
    Version {
        /// Its version byte.
        found: u8,
    },
    /// Not the borsh encoding of a proof.
    #[error("this is not an encoded proof: {0}")]
    Malformed(String),
    /// Not hexadecimal.
    #[error("a proof in text is hexadecimal: {0}")]
    Hex(String),
}

/// Why a proof does not prove what it is offered for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The header is not that of the block.
    #[error("the header has hash {found}, not {expected}")]
    OtherBlock {
        /// The block that is trusted.
        expected: slackline_types::Hash,
        /// The hash of the header.
        found: slackline_types::Hash,
    },
    /// Key, value, proof and root do not belong together.
    #[error("the proof does not lead from this key and value to the state root: {0}")]
    State(String),
    /// Item, index, proof and root do not belong together.
    #[error("the proof does not lead from item {index} to the root of the list: {reason}")]
    List {
        /// The index that the proof is for.
        index: u64,
        /// What does not fit.
        reason: String,
    },
}

fn encoded<T: borsh::BorshSerialize>(proof: &T) -> Vec<u8> {
    slackline_types::encode(&(VERSION, proof))
}

fn decoded<T: borsh::BorshDeserialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&VERSION, rest)) => {
            borsh::from_slice(rest).map_err(|error| DecodeError::Malformed(error.to_string()))
        }
        Some((&found, _)) => Err(DecodeError::Version { found }),
    }
}

/// Bytes and JSON of a proof, by `encoded` and `decoded`.
macro_rules! encodings {
    ($name:ident) => {
        impl $name {
            /// The version byte and borsh.
            pub fn to_bytes(&self) -> Vec<u8> {
                crate::encoded(self)
            }

            /// Reads what [`to_bytes`](Self::to_bytes) has made.
            ///
            /// # Errors
            ///
            /// See [`DecodeError`].
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
                crate::decoded(bytes)
            }
        }

        impl From<$name> for String {
            fn from(proof: $name) -> String {
                hex::encode(proof.to_bytes())
            }
        }

        impl TryFrom<String> for $name {
            type Error = DecodeError;
            fn try_from(text: String) -> Result<Self, DecodeError> {
                let digits = text.strip_prefix("0x").unwrap_or(&text);
                let bytes =
                    hex::decode(digits).map_err(|error| DecodeError::Hex(error.to_string()))?;
                Self::from_bytes(&bytes)
            }
        }
    };
}
use encodings;
