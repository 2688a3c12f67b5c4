//! What consensus asks of the rest of the node.

use crate::{Address, ValidatorSet};
use bytes::Bytes;
use slackline_types::Hash;
use std::time::Instant;

/// A block that was made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The block's hash.
    pub id: Hash,
    /// The encoded block.
    pub bytes: Bytes,
}

/// What a check of a block found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is right.
    Valid {
        /// The block's hash.
        id: Hash,
        /// Who made the block, by its header.
        proposer: Address,
    },
    /// Everything is right, but this machine's clock says that it is too early for the block. Others may find that it is not, and
    /// so may this one later. It is no reason against a block that is decided.
    Early {
        /// The block's hash.
        id: Hash,
        /// Who made the block, by its header.
        proposer: Address,
    },
    /// Something is wrong that everybody would find.
    Invalid {
        /// The block's hash, if no other bytes have it: the header decodes and the rest is what it commits to. Without, all
        /// that is known is that whoever sent these bytes sent junk.
        id: Option<Hash>,
        /// For the log.
        reason: String,
    },
}

/// A block as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The encoded block.
    pub bytes: Bytes,
    /// What [`Application::commit`] was given.
    pub certificate: Bytes,
}

/// What consensus decides for: it makes, checks and keeps blocks, whose bytes mean nothing here.
///
/// All methods are called from one thread, which is consensus's own for this: they may block. An error says that this
/// machine failed, not a peer; consensus then stops for good and says so in [`Health`](crate::Health).
pub trait Application: Send + Sync + 'static {
    /// What goes wrong on this machine: its disk, mostly.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Height of the last block that is on disk.
    ///
    /// # Errors
    ///
    /// If the disk does not say.
    fn head(&self) -> Result<u64, Self::Error>;

    /// The height after which it is to stop, if it is: nothing is signed for the next one.
    fn last(&self) -> Option<u64> {
        None
    }

    /// Height of the first block after the genesis block that [`decided`](Self::decided) still has; 1 if none was dropped.
    ///
    /// # Errors
    ///
    /// If the disk does not say.
    fn oldest(&self) -> Result<u64, Self::Error>;

    /// Who decides the block of `height`, which is at most one above [`head`](Self::head).
    ///
    /// # Errors
    ///
    /// If the disk does not say.
    fn validators(&self, height: u64) -> Result<ValidatorSet, Self::Error>;

    /// Makes a block on top of the head, before `deadline`. It is not decided yet, and may never be.
    ///
    /// # Errors
    ///
    /// If this machine cannot.
    fn propose(
        &self,
        height: u64,
        round: u32,
        proposer: Address,
        deadline: Instant,
    ) -> Result<Proposed, Self::Error>;

    /// Checks everything about a block for `height`, one above the head: executes it and compares.
    ///
    /// # Errors
    ///
    /// If this machine cannot tell. What the block's proposer did wrong is [`Verdict::Invalid`], whenever it is asked: that is
    /// remembered until the height is over.
    fn validate(&self, height: u64, bytes: &Bytes) -> Result<Verdict, Self::Error>;

    /// Makes a block the head. On return it is on disk, synced, with its certificate. The block may have been checked by a
    /// process that ran before this one.
    ///
    /// # Errors
    ///
    /// If the block may not be on disk.
    fn commit(&self, height: u64, bytes: &Bytes, certificate: &[u8]) -> Result<(), Self::Error>;

    /// The block of `height`, if it was committed and has not been dropped since.
    ///
    /// # Errors
    ///
    /// If the disk does not say.
    fn decided(&self, height: u64) -> Result<Option<Decided>, Self::Error>;
}
