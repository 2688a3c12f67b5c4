//! What the pool takes.

use slackline_types::{Address, Hash, SignedTransaction};

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
    /// A transaction of `bytes` bytes that the caller has checked: its signature above all.
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
