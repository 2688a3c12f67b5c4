//! What consensus decides on here: blocks of the chain.
//!
//! ```text
//!   slackline_consensus (a thread of its own)                    executed: what was executed and is not decided
//!     propose  ──▶ Producer::batch ──▶ Chain::propose ──────────────────┐   ▲
//!     validate ──▶ decode, proposer, clock ──▶ Chain::execute ──────────┤   │
//!     commit   ──▶ executed, or execute again ──▶ Chain::commit (one synced write) ──▶ Producer::committed
//!     decided  ──▶ Chain::block, Chain::certificate
//! ```
//!
//! A block is executed once by each node, before the vote; what that came to is kept until a block is decided. After a restart it is executed
//! again.

use crate::metrics::Metrics;
use crate::producer::{BLOCK_BYTES, OVERBOOKED, Producer, now_ms};
use bytes::Bytes;
use slackline_consensus::{Address, Application, Decided, Proposed, ValidatorSet, Verdict};
use slackline_executor::proof::{List, list_root};
use slackline_executor::{
    Block, BlockError, Chain, Executed, Hash, ProduceError, StoreError, encode,
};
use slackline_mempool::BatchLimits;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How far a proposer's clock may be ahead of ours, in milliseconds.
const CLOCK_DRIFT_MS: u64 = 10_000;
/// Most transactions in a block.
const BLOCK_TRANSACTIONS: usize = 10_000;
/// Blocks of one height that are kept executed. Those over that are executed again if they are decided.
const KEEP_EXECUTED: usize = 8;

/// This machine failed.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A block could not be executed or stored.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// A block that was decided is not valid here: this node does not agree with the others on what is valid.
    #[error("the block decided at height {height} cannot be applied: {reason}")]
    Decided {
        /// Its height.
        height: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The chain has no validators.
    #[error("the chain has no validators: consensus needs some in the genesis")]
    NoValidators,
}

/// The chain, as consensus sees it.
#[derive(Debug)]
pub struct Validator {
    chain: Arc<Chain>,
    producer: Arc<Producer<Chain>>,
    metrics: Arc<Metrics>,
    executed: Mutex<HashMap<Hash, Executed>>,
    last: Option<u64>,
}

impl Validator {
    /// Decides on `chain`'s blocks; their transactions come from `producer`, which makes none itself.
    pub fn new(
        chain: Arc<Chain>,
        producer: Arc<Producer<Chain>>,
        metrics: Arc<Metrics>,
    ) -> Validator {
        Validator {
            chain,
            producer,
            metrics,
            executed: Mutex::default(),
            last: None,
        }
    }

    /// Decides on nothing after the block at that height, if there is one.
    pub fn until(self, last: Option<u64>) -> Validator {
        Validator { last, ..self }
    }

    fn executed(&self) -> MutexGuard<'_, HashMap<Hash, Executed>> {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: Hash, executed: Executed) {
        let mut all = self.executed();
        if all.len() >= KEEP_EXECUTED {
            all.clear();
        }
        all.insert(id, executed);
    }

    fn try_commit(
        &self,
        height: u64,
        bytes: &Bytes,
        certificate: &[u8],
    ) -> Result<(), ValidatorError> {
        let wrong = |reason: String| ValidatorError::Decided { height, reason };
        let block: Block =
            borsh::from_slice(bytes).map_err(|error| wrong(format!("it is malformed: {error}")))?;
        let senders: Vec<_> = block
            .transactions
            .iter()
            .map(|signed| (signed.hash(), signed.transaction.sender_address()))
            .collect();
        let kept = std::mem::take(&mut *self.executed()).remove(&block.header.hash());
        let executed = match kept {
            Some(executed) => executed,
            None => self.chain.execute(block).map_err(|error| match error {
                BlockError::Produce(error) => error.into(),
                error => wrong(error.to_string()),
            })?,
        };
        let started = Instant::now();
        let produced = self.chain.commit(executed, Some(certificate))?;
        self.metrics.committed(started.elapsed());
        tracing::info!(
            height,
            transactions = produced.receipts.len(),
            fuel = produced.header.fuel_used,
            commit_us = started.elapsed().as_micros() as u64,
            "block"
        );
        self.producer.committed(produced, &senders)?;
        Ok(())
    }
}

/// Those who vote, as consensus counts them.
pub(crate) fn voters(
    validators: &[slackline_executor::Validator],
) -> Result<ValidatorSet, ValidatorError> {
    let validators = validators.iter();
    let validators =
        validators.map(|each| slackline_consensus::Validator::new(each.key, each.power));
    ValidatorSet::new(validators).map_err(|_| ValidatorError::NoValidators)
}

/// Whether the block's bytes follow from its hash: its transactions are those of the header, with signatures of their senders.
pub(crate) fn is_what_it_commits_to(block: &Block) -> bool {
    let hashes: Vec<Hash> = block
        .transactions
        .iter()
        .map(|signed| signed.hash())
        .collect();
    list_root(List::Transactions, &hashes) == block.header.transactions_root
        && block
            .transactions
            .iter()
            .all(|signed| signed.signature_is_valid())
}

impl Application for Validator {
    type Error = ValidatorError;

    fn head(&self) -> Result<u64, ValidatorError> {
        Ok(self.chain.head().height)
    }

    fn last(&self) -> Option<u64> {
        self.last
    }

    fn oldest(&self) -> Result<u64, ValidatorError> {
        // A chain that was imported has blocks without certificates, which are of no use to peers.
        Ok(match self.chain.certificate(1)? {
            Some(_) => 1,
            None => self.chain.head().height + 1,
        })
    }

    fn validators(&self, height: u64) -> Result<ValidatorSet, ValidatorError> {
        let before = height.saturating_sub(1).min(self.chain.head().height);
        voters(&self.chain.validators(before)?)
    }

    fn propose(
        &self,
        height: u64,
        round: u32,
        proposer: Address,
        deadline: Instant,
    ) -> Result<Proposed, ValidatorError> {
        let limits = BatchLimits {
            fuel: self
                .chain
                .params()
                .limits
                .block_fuel
                .saturating_mul(OVERBOOKED),
            transactions: BLOCK_TRANSACTIONS,
            bytes: BLOCK_BYTES,
        };
        let started = Instant::now();
        // The other half is for the root, and for those that are slower than this node.
        let until = started + deadline.saturating_duration_since(started) / 2;
        let batch = self.producer.batch(limits);
        let executed = self
            .chain
            .propose(batch, now_ms(), proposer.0, Some(until))?;
        self.metrics
            .executed(started.elapsed(), executed.root_took());
        let dropped = executed.dropped().to_vec();
        if !dropped.is_empty() {
            self.producer.refuse(dropped);
        }
        let block = executed.block();
        let (id, bytes) = (block.header.hash(), Bytes::from(encode(block)));
        tracing::debug!(
            height,
            round,
            transactions = block.transactions.len(),
            left = executed.left().len(),
            execution_us = started.elapsed().as_micros() as u64,
            "proposing"
        );
        self.keep(id, executed);
        Ok(Proposed { id, bytes })
    }

    fn validate(&self, height: u64, bytes: &Bytes) -> Result<Verdict, ValidatorError> {
        let block: Block = match borsh::from_slice(bytes) {
            Ok(block) => block,
            Err(error) => {
                return Ok(Verdict::Invalid {
                    id: None,
                    reason: format!("not a block: {error}"),
                });
            }
        };
        let (id, proposer) = (block.header.hash(), Address(block.header.proposer));
        let invalid = |block: &Block, reason: String| {
            let id = is_what_it_commits_to(block).then_some(id);
            Ok(Verdict::Invalid { id, reason })
        };
        if block.header.height != height {
            let reason = format!("it is for height {}", block.header.height);
            return invalid(&block, reason);
        }
        let early = block.header.timestamp_ms > now_ms().saturating_add(CLOCK_DRIFT_MS);
        let right = if early {
            Verdict::Early { id, proposer }
        } else {
            Verdict::Valid { id, proposer }
        };
        // By its bytes: the same header over other signatures is another block.
        if let Some(kept) = self.executed().get(&id)
            && *kept.block() == block
        {
            return Ok(right);
        }
        let started = Instant::now();
        match self.chain.execute(block) {
            Ok(executed) => {
                self.metrics
                    .executed(started.elapsed(), executed.root_took());
                self.keep(id, executed);
                Ok(right)
            }
            Err(BlockError::Produce(error)) => Err(error.into()),
            Err(error) => {
                // Decoded again, so that what is right need not be copied.
                let block: Option<Block> = borsh::from_slice(bytes).ok();
                let id = block.filter(is_what_it_commits_to).map(|_| id);
                let reason = error.to_string();
                Ok(Verdict::Invalid { id, reason })
            }
        }
    }

    fn commit(&self, height: u64, bytes: &Bytes, certificate: &[u8]) -> Result<(), ValidatorError> {
        let done = self.try_commit(height, bytes, certificate);
        if let Err(error) = &done {
            self.producer.fail(error.to_string());
        }
        done
    }

    fn decided(&self, height: u64) -> Result<Option<Decided>, ValidatorError> {
        let (Some(block), Some(certificate)) =
            (self.chain.block(height)?, self.chain.certificate(height)?)
        else {
            return Ok(None);
        };
        Ok(Some(Decided {
            bytes: Bytes::from(encode(&block)),
            certificate: Bytes::from(certificate),
        }))
    }
}
