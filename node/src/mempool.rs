//! Transactions that wait for a block.
//!
//! A plain data structure: no lock, no clock, no thread, no database. [`crate::producer`] wraps it in a lock,
//! feeds it with transactions that the chain has admitted and empties it block by block.
//!
//! ```text
//!                 insert                 take_batch                settle
//!  (admitted) ───────────────▶ waiting ─────────────▶ executing ─────────────▶ (gone, verdict sent)
//!                                 │                                                  ▲
//!                                 └──────────────── realign (orphaned) ──────────────┘
//! ```
//!
//! Invariants:
//! - the entries of a sender have consecutive nonces, in order of arrival;
//! - an entry is *waiting* (in `queue`) or *executing* (taken by a batch that is not settled yet), never both;
//! - `bytes` is the sum of the entries' sizes and never exceeds the limit, nor does their number;
//! - whoever [watches](Ticket) an entry gets its verdict when it leaves, or sees the channel closed if the pool
//!   itself went away before that.

use slackline_executor::{
    Action, Address, AdmitError, Hash, Pending, Receipt, SignedTransaction, Transaction,
};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolLimits {
    /// Number of transactions, those in a block under way included.
    pub transactions: usize,
    /// Sum of their sizes as submitted, in bytes.
    pub bytes: usize,
}

impl Default for MempoolLimits {
    fn default() -> MempoolLimits {
        MempoolLimits {
            transactions: 10_000,
            bytes: 64 << 20,
        }
    }
}

/// What became of a transaction that waited.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is in a block that is on disk.
    Included(Arc<Receipt>),
    /// It could not be applied any more when its turn came, and is in no block.
    Dropped(Arc<AdmitError>),
}

/// Tells the verdict on one transaction: `None` until there is one. Closed without a verdict if the node stops first.
pub type Ticket = watch::Receiver<Option<Verdict>>;

/// Why a transaction was not inserted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The pool holds as many transactions or bytes as it may. There is room after the next block.
    #[error("the mempool is full: {transactions} transactions, {bytes} bytes")]
    Full {
        /// Transactions in the pool.
        transactions: usize,
        /// Bytes in the pool.
        bytes: usize,
    },
    /// The sender's last entry does not have the nonce before this one: the pool changed since the transaction was
    /// admitted. Admit it again.
    #[error("the sender's last pending nonce is {last}")]
    NotNext {
        /// Nonce of the sender's last entry.
        last: u64,
    },
}

#[derive(Debug)]
struct Entry {
    transaction: Arc<SignedTransaction>,
    sender: Address,
    bytes: usize,
    verdict: watch::Sender<Option<Verdict>>,
}

/// A sender's entries, by nonce.
#[derive(Debug, Default)]
struct Sender {
    entries: BTreeMap<u64, (Hash, u128)>,
    /// Sum of the entries' costs, saturating.
    cost: u128,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Mempool {
    limits: MempoolLimits,
    entries: HashMap<Hash, Entry>,
    queue: VecDeque<Hash>,
    senders: HashMap<Address, Sender>,
    bytes: usize,
}

/// The most that a transaction can take from its sender: fuel limit times price, plus what it transfers. Saturates.
pub fn max_cost(transaction: &Transaction) -> u128 {
    let fee = u128::from(transaction.fuel_limit) * u128::from(transaction.fuel_price);
    match &transaction.action {
        Action::Transfer { amount: value, .. }
        | Action::Deploy { value, .. }
        | Action::Call { value, .. } => fee
            .saturating_add(*value)
            .saturating_add(transaction.deposit_limit),
    }
}

impl Mempool {
    /// An empty pool.
    pub fn new(limits: MempoolLimits) -> Mempool {
        Mempool {
            limits,
            entries: HashMap::new(),
            queue: VecDeque::new(),
            senders: HashMap::new(),
            bytes: 0,
        }
    }

    /// What the pool may hold.
    pub fn limits(&self) -> MempoolLimits {
        self.limits
    }

    /// Number of transactions, waiting or executing.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of transactions that a batch has taken and that are not settled yet.
    pub fn executing(&self) -> usize {
        self.entries.len() - self.queue.len()
    }

    /// Whether there is no transaction at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sum of the sizes of the transactions, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a batch could be taken.
    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The transaction, if it is waiting or executing.
    pub fn get(&self, hash: &Hash) -> Option<Arc<SignedTransaction>> {
        self.entries
            .get(hash)
            .map(|entry| entry.transaction.clone())
    }

    /// Watches a transaction that is in the pool.
    pub fn watch(&self, hash: &Hash) -> Option<Ticket> {
        self.entries
            .get(hash)
            .map(|entry| entry.verdict.subscribe())
    }

    /// The sender's transactions with nonces of at least `nonce`: what is pending if that is the account's nonce.
    pub fn pending(&self, sender: &Address, nonce: u64) -> Pending {
        let Some(sender) = self.senders.get(sender) else {
            return Pending { count: 0, cost: 0 };
        };
        // Entries below the account's nonce are few: those of a block that is committed and about to be settled.
        let (settled, settled_cost) = sender
            .entries
            .range(..nonce)
            .fold((0, 0u128), |(count, sum), (_, (_, cost))| {
                (count + 1, sum.saturating_add(*cost))
            });
        Pending {
            count: (sender.entries.len() - settled) as u64,
            cost: sender.cost.saturating_sub(settled_cost),
        }
    }

    /// The nonce for the sender's next transaction, given the account's nonce.
    pub fn next_nonce(&self, sender: &Address, nonce: u64) -> u64 {
        let last = self
            .senders
            .get(sender)
            .and_then(|sender| sender.entries.last_key_value());
        last.map_or(nonce, |(last, _)| nonce.max(last.saturating_add(1)))
    }

    /// Puts an admitted transaction of `bytes` bytes and hash `hash` at the end of the queue.
    ///
    /// The transaction must not be in the pool already.
    ///
    /// # Errors
    ///
    /// See [`InsertError`]; the pool is unchanged then.
    pub fn insert(
        &mut self,
        hash: Hash,
        transaction: SignedTransaction,
        bytes: usize,
    ) -> Result<Ticket, InsertError> {
        debug_assert!(!self.entries.contains_key(&hash));
        if self.entries.len() >= self.limits.transactions
            || self.bytes.saturating_add(bytes) > self.limits.bytes
        {
            return Err(InsertError::Full {
                transactions: self.entries.len(),
                bytes: self.bytes,
            });
        }
        let nonce = transaction.transaction.nonce;
        let address = transaction.transaction.sender_address();
        if let Some((last, _)) = self
            .senders
            .get(&address)
            .and_then(|sender| sender.entries.last_key_value())
            && last.checked_add(1) != Some(nonce)
        {
            return Err(InsertError::NotNext { last: *last });
        }
        let cost = max_cost(&transaction.transaction);
        let sender = self.senders.entry(address).or_default();
        sender.entries.insert(nonce, (hash, cost));
        sender.cost = sender.cost.saturating_add(cost);
        let (verdict, ticket) = watch::channel(None);
        let transaction = Arc::new(transaction);
        self.entries.insert(
            hash,
            Entry {
                transaction,
                sender: address,
                bytes,
                verdict,
            },
        );
        self.queue.push_back(hash);
        self.bytes += bytes;
        Ok(ticket)
    }

    /// Takes transactions for a block, in order of arrival: at most `count`, with fuel limits of at most `fuel`
    /// together. They stay in the pool, executing, until [`Mempool::settle`].
    ///
    /// The first one is taken even if it exceeds `fuel` alone: the queue always moves.
    pub fn take_batch(&mut self, fuel: u64, count: usize) -> Vec<Arc<SignedTransaction>> {
        let mut batch = Vec::new();
        let mut left = fuel;
        while batch.len() < count
            && let Some(entry) = self.queue.front().and_then(|hash| self.entries.get(hash))
        {
            let limit = entry.transaction.transaction.fuel_limit;
            if limit > left && !batch.is_empty() {
                break;
            }
            left = left.saturating_sub(limit);
            batch.push(entry.transaction.clone());
            self.queue.pop_front();
        }
        batch
    }

    /// Removes a transaction that was executing and tells its watchers.
    pub fn settle(&mut self, hash: &Hash, verdict: Verdict) {
        let Some(entry) = self.entries.remove(hash) else {
            return;
        };
        self.bytes -= entry.bytes;
        let nonce = entry.transaction.transaction.nonce;
        if let Some(sender) = self.senders.get_mut(&entry.sender) {
            if let Some((_, cost)) = sender.entries.remove(&nonce) {
                sender.cost = sender.cost.saturating_sub(cost);
            }
            if sender.entries.is_empty() {
                self.senders.remove(&entry.sender);
            }
        }
        entry.verdict.send_replace(Some(verdict));
    }

    /// Drops the sender's waiting transactions that cannot be applied to an account whose nonce is `nonce`, because
    /// one before them was dropped. Call it between batches, when nothing is executing.
    pub fn realign(&mut self, sender: &Address, nonce: u64) {
        let Some(entries) = self.senders.get(sender).map(|sender| &sender.entries) else {
            return;
        };
        let mut expected = nonce;
        let mut orphans = Vec::new();
        for (got, (hash, _)) in entries {
            if *got == expected {
                expected = expected.saturating_add(1);
            } else if *got < expected {
                orphans.push((
                    *hash,
                    AdmitError::NonceTooLow {
                        expected,
                        got: *got,
                    },
                ));
            } else {
                orphans.push((
                    *hash,
                    AdmitError::NonceTooHigh {
                        expected,
                        got: *got,
                    },
                ));
            }
        }
        if orphans.is_empty() {
            return;
        }
        let gone: HashSet<Hash> = orphans.iter().map(|(hash, _)| *hash).collect();
        self.queue.retain(|waiting| !gone.contains(waiting));
        for (hash, error) in orphans {
            self.settle(&hash, Verdict::Dropped(Arc::new(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Key;

    fn transfer(key: &Key, nonce: u64, fuel_limit: u64) -> SignedTransaction {
        Transaction {
            chain_id: 1,
            sender: key.public(),
            nonce,
            fuel_limit,
            fuel_price: 2,
            tip: 0,
            deposit_limit: 0,
            action: Action::Transfer {
                to: Address([9; 32]),
                amount: 5,
            },
        }
        .sign(key.signing())
    }

    fn key(seed: u8) -> Key {
        Key::from_seed([seed; 32])
    }

    fn add(pool: &mut Mempool, transaction: &SignedTransaction) -> Result<Ticket, InsertError> {
        pool.insert(transaction.hash(), transaction.clone(), 100)
    }

    fn included(transaction: &SignedTransaction) -> Verdict {
        Verdict::Included(Arc::new(Receipt {
            transaction: transaction.hash(),
            height: 1,
            index: 0,
            outcome: slackline_executor::Outcome::Success { data: vec![] },
            fuel_used: 1,
            fee: 2,
            burnt: 0,
            deposit: 0,
            events: vec![],
            contract: None,
        }))
    }

    #[test]
    fn batches_follow_arrival_and_respect_both_bounds() {
        let mut pool = Mempool::new(MempoolLimits::default());
        let (a, b) = (key(1), key(2));
        let all = [
            transfer(&a, 0, 40),
            transfer(&b, 7, 40),
            transfer(&a, 1, 40),
            transfer(&a, 2, 10),
        ];
        for transaction in &all {
            add(&mut pool, transaction).expect("room");
        }
        let hashes =
            |batch: &[Arc<SignedTransaction>]| batch.iter().map(|t| t.hash()).collect::<Vec<_>>();
        // The fourth would fit into the fuel that is left, but not before the third.
        assert_eq!(
            hashes(&pool.take_batch(100, 10)),
            [all[0].hash(), all[1].hash()]
        );
        assert_eq!(hashes(&pool.take_batch(100, 1)), [all[2].hash()]);
        assert_eq!(
            (pool.len(), pool.executing()),
            (4, 3),
            "taken ones stay until settled"
        );
        // More than a block may hold still makes progress.
        assert_eq!(hashes(&pool.take_batch(1, 10)), [all[3].hash()]);
        assert!(!pool.has_waiting() && pool.take_batch(100, 10).is_empty());
        for transaction in &all {
            pool.settle(&transaction.hash(), included(transaction));
        }
        assert!(pool.is_empty() && pool.bytes() == 0 && pool.senders.is_empty());
    }

    #[test]
    fn pending_counts_from_the_accounts_nonce() {
        let mut pool = Mempool::new(MempoolLimits::default());
        let a = key(1);
        let address = a.address();
        assert_eq!(pool.pending(&address, 3), Pending { count: 0, cost: 0 });
        assert_eq!(pool.next_nonce(&address, 3), 3);
        for nonce in 3..6 {
            add(&mut pool, &transfer(&a, nonce, 10)).expect("room");
        }
        assert_eq!(
            pool.pending(&address, 3),
            Pending {
                count: 3,
                cost: 3 * 25
            }
        );
        // A block with the first is on disk but not settled: the account's nonce counts it already.
        assert_eq!(
            pool.pending(&address, 4),
            Pending {
                count: 2,
                cost: 2 * 25
            }
        );
        assert_eq!(pool.next_nonce(&address, 4), 6);
        assert_eq!(pool.next_nonce(&address, 9), 9);
    }

    #[test]
    fn a_sender_has_no_gaps() {
        let mut pool = Mempool::new(MempoolLimits::default());
        let a = key(1);
        add(&mut pool, &transfer(&a, 3, 10)).expect("room");
        for nonce in [2, 3, 5] {
            let error = add(&mut pool, &transfer(&a, nonce, 11)).expect_err("not next");
            assert_eq!(error, InsertError::NotNext { last: 3 });
        }
        add(&mut pool, &transfer(&a, 4, 10)).expect("next");
    }

    #[test]
    fn full_by_count_and_by_bytes() {
        let a = key(1);
        for limits in [
            MempoolLimits {
                transactions: 2,
                bytes: 1000,
            },
            MempoolLimits {
                transactions: 9,
                bytes: 299,
            },
        ] {
            let mut pool = Mempool::new(limits);
            add(&mut pool, &transfer(&a, 0, 10)).expect("room");
            add(&mut pool, &transfer(&a, 1, 10)).expect("room");
            let error = add(&mut pool, &transfer(&a, 2, 10)).expect_err("full");
            assert_eq!(
                error,
                InsertError::Full {
                    transactions: 2,
                    bytes: 200
                }
            );
            let batch = pool.take_batch(10, 1);
            add(&mut pool, &transfer(&a, 2, 10)).expect_err("executing ones count");
            pool.settle(&batch[0].hash(), included(&batch[0]));
            add(&mut pool, &transfer(&a, 2, 10)).expect("room again");
        }
    }

    #[test]
    fn a_dropped_transaction_takes_its_successors_along() {
        let mut pool = Mempool::new(MempoolLimits::default());
        let a = key(1);
        let all = [
            transfer(&a, 0, 10),
            transfer(&a, 1, 10),
            transfer(&a, 2, 10),
        ];
        let tickets: Vec<_> = all
            .iter()
            .map(|t| add(&mut pool, t).expect("room"))
            .collect();
        let other = transfer(&key(2), 0, 10);
        add(&mut pool, &other).expect("room");
        pool.take_batch(10, 1);
        pool.settle(
            &all[0].hash(),
            Verdict::Dropped(Arc::new(AdmitError::BadSignature)),
        );
        pool.realign(&a.address(), 0);
        assert_eq!(pool.len(), 1);
        for (ticket, got) in tickets.iter().zip(0..).skip(1) {
            let verdict = ticket.borrow().clone();
            let Some(Verdict::Dropped(error)) = verdict else {
                panic!("{got}: {verdict:?}")
            };
            assert!(matches!(*error, AdmitError::NonceTooHigh { expected: 0, got: g } if g == got));
        }
        assert_eq!(
            pool.take_batch(100, 10)[0].hash(),
            other.hash(),
            "the queue forgot them too"
        );
        // The sender can start over.
        add(&mut pool, &transfer(&a, 0, 12)).expect("room");
    }

    #[test]
    fn realigning_keeps_what_still_applies() {
        let mut pool = Mempool::new(MempoolLimits::default());
        let a = key(1);
        for nonce in 4..7 {
            add(&mut pool, &transfer(&a, nonce, 10)).expect("room");
        }
        pool.realign(&a.address(), 5);
        assert_eq!(
            pool.pending(&a.address(), 5),
            Pending {
                count: 2,
                cost: 2 * 25
            }
        );
        assert_eq!(pool.take_batch(100, 10).len(), 2);
    }

    #[test]
    fn a_pool_that_goes_away_closes_its_tickets() {
        let mut pool = Mempool::new(MempoolLimits::default());
        let transaction = transfer(&key(1), 0, 10);
        let ticket = add(&mut pool, &transaction).expect("room");
        let second = pool.watch(&transaction.hash()).expect("waiting");
        drop(pool);
        assert!(ticket.has_changed().is_err() && second.has_changed().is_err());
    }
}
