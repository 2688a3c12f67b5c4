//! What a node answers who asks for a proof.

use crate::{StateProof, VerifyError};
use serde::{Deserialize, Serialize};
use slackline_types::{Hash, Header};

/// What a key of the state has after a block, with the proof of it and the header that it leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateAnswer {
    /// Of the block.
    pub header: Header,
    /// The key: `a` and an address for an account, `s`, a contract's address and its own key for what a contract stores.
    #[serde(with = "digits")]
    pub key: Vec<u8>,
    /// What it has: borsh of an account, or what the contract stored; `None` if it is absent.
    #[serde(with = "some_digits")]
    pub value: Option<Vec<u8>>,
    /// That it is so.
    pub proof: StateProof,
}

impl StateAnswer {
    /// Whether all of this is so after the block with hash `block`, which must come from somewhere trusted.
    ///
    /// # Errors
    ///
    /// See [`VerifyError`].
    pub fn verify(&self, block: &Hash) -> Result<(), VerifyError> {
        let found = self.header.hash();
        if found != *block {
            return Err(VerifyError::OtherBlock {
                expected: *block,
                found,
            });
        }
        let root = &self.header.state_root;
        self.proof.verify(root, &self.key, self.value.as_deref())
    }
}

mod digits {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

mod some_digits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(hex::encode).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(hex::decode).transpose().map_err(D::Error::custom)
    }
}
