//! What can be said of a transaction without the state: its structure, its fuel limit, its signature.

use crate::error::AdmissionError;
use slackline_types::{Address, Hash, SignedTransaction};
use std::ops::RangeInclusive;

/// What every transaction of a chain has to keep to, whatever the state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The chain.
    pub chain_id: u64,
    /// The most that a transaction may have, in bytes.
    pub transaction_bytes: usize,
    /// The lowest and the highest fuel limit. What an action costs before it runs may need more than the lowest: the chain knows.
    pub fuel_limit: RangeInclusive<u64>,
}

impl Rules {
    /// Decodes a transaction and checks structure, fuel limit and signature, the cheap things first.
    ///
    /// # Errors
    ///
    /// See [`AdmissionError`]: one of the stages [`Structure`](crate::Stage::Structure), [`Fuel`](crate::Stage::Fuel) and
    /// [`Signature`](crate::Stage::Signature).
    pub fn check<E>(&self, bytes: &[u8]) -> Result<Candidate, AdmissionError<E>> {
        if bytes.len() > self.transaction_bytes {
            return Err(AdmissionError::TooLarge {
                bytes: bytes.len(),
                limit: self.transaction_bytes,
            });
        }
        let transaction: SignedTransaction = borsh::from_slice(bytes)
            .map_err(|error| AdmissionError::Malformed(error.to_string()))?;
        let got = transaction.transaction.chain_id;
        if got != self.chain_id {
            return Err(AdmissionError::WrongChain {
                expected: self.chain_id,
                got,
            });
        }
        let (got, minimum, maximum) = (
            transaction.transaction.fuel_limit,
            *self.fuel_limit.start(),
            *self.fuel_limit.end(),
        );
        if !self.fuel_limit.contains(&got) {
            return Err(AdmissionError::FuelLimit {
                minimum,
                maximum,
                got,
            });
        }
        if !transaction.signature_is_valid() {
            return Err(AdmissionError::BadSignature);
        }
        Ok(Candidate::new(transaction, bytes.len()))
    }
}

/// A transaction that may go into the pool: its structure and its signature have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub(crate) transaction: SignedTransaction,
    pub(crate) hash: Hash,
    pub(crate) sender: Address,
    pub(crate) bytes: usize,
    pub(crate) expires: Option<u64>,
}

impl Candidate {
    /// A transaction of `bytes` bytes that the caller has checked: its signature above all. [`Rules::check`] does that.
    pub fn new(transaction: SignedTransaction, bytes: usize) -> Candidate {
        let (hash, sender) = (transaction.hash(), transaction.transaction.sender_address());
        Candidate {
            transaction,
            hash,
            sender,
            bytes,
            expires: None,
        }
    }

    /// Lets it expire with the block of height `height`, if the pool would keep it for longer: for what comes from the journal.
    #[must_use]
    pub fn expiring(mut self, height: u64) -> Candidate {
        self.expires = Some(height);
        self
    }

    /// Identifies the transaction.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The sender's account.
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// The transaction.
    pub fn transaction(&self) -> &SignedTransaction {
        &self.transaction
    }

    /// Its size, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
