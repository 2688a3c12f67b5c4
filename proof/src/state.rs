//! The tree over the state.

use crate::{DecodeError, VerifyError, encodings};
use borsh::{BorshDeserialize, BorshSerialize};
use jmt::proof::SparseMerkleProof;
use jmt::{KeyHash, RootHash, SimpleHasher};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use slackline_types::{Hash, digest};

/// SHA-256 as [`jmt`] wants it.
#[derive(Clone, Debug)]
pub struct Sha256(sha2::Sha256);

impl SimpleHasher for Sha256 {
    fn new() -> Sha256 {
        Sha256(sha2::Sha256::new())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Where the tree has the leaf of `key`, a key of the state.
pub fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(digest("slackline:state:key:v1", &[key]))
}

/// What the tree holds as the value of a key that has `value` in the state.
pub fn value_digest(value: &[u8]) -> [u8; 32] {
    digest("slackline:state:value:v1", &[value])
}

/// Shows that a key has a value in a state, or that it is absent from it.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StateProof(SparseMerkleProof<Sha256>);

impl StateProof {
    /// A proof that the tree has given.
    pub fn new(proof: SparseMerkleProof<Sha256>) -> StateProof {
        StateProof(proof)
    }

    /// Whether `key` has `value` in the state with `root`; with `None`, whether it is absent from it.
    ///
    /// # Errors
    ///
    /// [`VerifyError::State`] if it has not, or if this does not show it.
    pub fn verify(&self, root: &Hash, key: &[u8], value: Option<&[u8]>) -> Result<(), VerifyError> {
        self.0
            .verify(RootHash(root.0), key_hash(key), value.map(value_digest))
            .map_err(|error| VerifyError::State(error.to_string()))
    }
}

encodings!(StateProof);
