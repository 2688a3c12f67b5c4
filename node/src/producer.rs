//! From a submitted transaction to a receipt on disk: admission, one thread that makes blocks, and the news of what
//! became of each transaction.
//!
//! ```text
//!  submit(bytes)                                   slackline-producer (a thread of its own)
//!    decode ─▶ known? ─▶ admit ─▶ ┌─────────┐        ┌───────────────────────────────────┐
//!      │         │         │      │ Mempool │──wake─▶│ take_batch ─▶ Ledger::produce_block│
//!      ▼         ▼         ▼      │ (mutex) │◀───────│ settle ◀───── synced to disk       │
//!    refused  ticket or  refused  └─────────┘        └───────────────────────────────────┘
//!             receipt                  │
//!                                      ▼ ticket (tokio watch): Included | Dropped | closed
//! ```
//!
//! A ticket says `Included` only after the block is synced to disk: what it acknowledges survives a crash.
//!
//! The lock around the mempool is never held while contracts run or signatures are checked. So the chain can move
//! while a transaction is being admitted; [`Producer::submit`] says how that is noticed.

use crate::mempool::{InsertError, Mempool, MempoolLimits, Ticket, Verdict};
use crate::views::describe;
use slackline_executor::{
    Account, Address, AdmitError, Chain, Hash, Header, Pending, Produced, ProtocolParams, Receipt,
    SignedTransaction, StoreError,
};
use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Most transactions in a block.
pub const BLOCK_TRANSACTIONS: usize = 1_000;

/// How often admission starts again because the chain or the sender's queue moved meanwhile.
const ADMISSION_ATTEMPTS: usize = 16;

/// What block production needs of a chain. [`Chain`] is the one that counts; tests have others, that fail.
///
/// An account's nonce never decreases, and a receipt that was once there stays.
pub trait Ledger: Send + Sync + 'static {
    /// See [`Chain::params`].
    fn params(&self) -> &ProtocolParams;
    /// See [`Chain::head`].
    fn head(&self) -> Header;
    /// See [`Chain::account`].
    ///
    /// # Errors
    ///
    /// The database could not be read.
    fn account(&self, address: &Address) -> Result<Account, StoreError>;
    /// See [`Chain::receipt`].
    ///
    /// # Errors
    ///
    /// The database could not be read.
    fn receipt(&self, hash: &Hash) -> Result<Option<Receipt>, StoreError>;
    /// See [`Chain::decode`].
    ///
    /// # Errors
    ///
    /// The bytes are no transaction.
    fn decode(&self, bytes: &[u8]) -> Result<SignedTransaction, AdmitError>;
    /// See [`Chain::admit`].
    ///
    /// # Errors
    ///
    /// The transaction cannot be applied after those that are pending.
    fn admit(&self, transaction: &SignedTransaction, pending: Pending) -> Result<(), AdmitError>;
    /// See [`Chain::produce_block`].
    ///
    /// # Errors
    ///
    /// The block may or may not be on disk; the chain must not be used any further.
    fn produce_block(
        &self,
        transactions: Vec<SignedTransaction>,
        timestamp_ms: u64,
    ) -> Result<Produced, Box<dyn Error + Send + Sync>>;
}

impl Ledger for Chain {
    fn params(&self) -> &ProtocolParams {
        Chain::params(self)
    }
    fn head(&self) -> Header {
        Chain::head(self)
    }
    fn account(&self, address: &Address) -> Result<Account, StoreError> {
        Chain::account(self, address)
    }
    fn receipt(&self, hash: &Hash) -> Result<Option<Receipt>, StoreError> {
        Chain::receipt(self, hash)
    }
    fn decode(&self, bytes: &[u8]) -> Result<SignedTransaction, AdmitError> {
        Chain::decode(self, bytes)
    }
    fn admit(&self, transaction: &SignedTransaction, pending: Pending) -> Result<(), AdmitError> {
        Chain::admit(self, transaction, pending)
    }
    fn produce_block(
        &self,
        transactions: Vec<SignedTransaction>,
        timestamp_ms: u64,
    ) -> Result<Produced, Box<dyn Error + Send + Sync>> {
        Ok(Chain::produce_block(self, transactions, timestamp_ms)?)
    }
}

/// Whether blocks are being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are, whenever there are transactions.
    Running,
    /// [`Producer::stop`] was called.
    Stopping,
    /// A block could not be made or stored, for the reason given. Nothing is accepted any more; what was acknowledged
    /// before is on disk.
    Failed(String),
}

/// Why a transaction was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It is malformed, or cannot be applied. Sending the same bytes again is of no use.
    #[error(transparent)]
    Refused(#[from] AdmitError),
    /// The mempool is full, or the sender's queue keeps moving. The same bytes may be accepted later.
    #[error("{0}; try again later")]
    TryAgainLater(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The node has failed and accepts nothing until it is restarted.
    #[error("the node has failed: {0}")]
    Failed(String),
    /// The database could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a submitted transaction is.
#[derive(Debug)]
pub enum Progress {
    /// It was new and waits for a block.
    Accepted(Ticket),
    /// The very same transaction was submitted before and is still waiting, or in the block under way.
    Waiting(Ticket),
    /// It has been executed.
    Included(Receipt),
}

/// Counts of what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolStats {
    /// Transactions, those in the block under way included.
    pub transactions: usize,
    /// Of those, the ones in the block under way.
    pub executing: usize,
    /// Their sizes together, in bytes.
    pub bytes: usize,
    /// What may be there.
    pub limits: MempoolLimits,
}

/// Accepts transactions and makes blocks of them. See the [module](self).
pub struct Producer<L> {
    shared: Arc<Shared<L>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<L> {
    ledger: Arc<L>,
    state: Mutex<State>,
    /// Notified when a transaction arrives and when `stopping` is set.
    wake: Condvar,
    /// Changed only with `state` locked.
    health: watch::Sender<Health>,
}

struct State {
    mempool: Mempool,
    stopping: bool,
}

impl<L> fmt::Debug for Producer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("health", &*self.shared.health.borrow())
            .finish_non_exhaustive()
    }
}

impl<L: Ledger> Producer<L> {
    /// Starts the thread that makes blocks.
    ///
    /// # Errors
    ///
    /// The operating system refused the thread.
    pub fn start(ledger: Arc<L>, limits: MempoolLimits) -> io::Result<Producer<L>> {
        let shared = Arc::new(Shared {
            ledger,
            state: Mutex::new(State {
                mempool: Mempool::new(limits),
                stopping: false,
            }),
            wake: Condvar::new(),
            health: watch::Sender::new(Health::Running),
        });
        let thread = slackline_executor::thread::spawn("slackline-producer".to_owned(), {
            let shared = shared.clone();
            move || shared.main()
        })?;
        Ok(Producer {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Accepts a transaction as submitted. Idempotent: the same transaction again is never an error, however far it got.
    ///
    /// Blocks for a signature check and, for a deployment, a validation of the code; not for execution.
    ///
    /// The nonce and the balance that a transaction needs depend on the account and on what is pending for it, and a
    /// block may commit between looking at the one and at the other. The account's nonce never decreases, and it moves
    /// with every transaction of the sender that commits. So if it is the same before and after admission, what
    /// admission saw fits together; else admission starts again. A second transaction that took the nonce
    /// meanwhile is noticed on insertion, and the same happens.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub fn submit(&self, bytes: &[u8]) -> Result<(Hash, Progress), SubmitError> {
        let shared = &*self.shared;
        let transaction = shared.ledger.decode(bytes)?;
        let hash = transaction.hash();
        let sender = transaction.transaction.sender_address();
        for _ in 0..ADMISSION_ATTEMPTS {
            if let Some(progress) = shared.known(&hash)? {
                return Ok((hash, progress));
            }
            shared.check_accepting()?;
            let nonce = shared.ledger.account(&sender)?.nonce;
            let pending = shared.lock().mempool.pending(&sender, nonce);
            let admitted = shared.ledger.admit(&transaction, pending);
            if shared.ledger.account(&sender)?.nonce != nonce {
                continue;
            }
            if let Err(error) = admitted {
                // The same transaction, submitted elsewhere, may have overtaken this call.
                return match shared.known(&hash)? {
                    Some(progress) => Ok((hash, progress)),
                    None => Err(error.into()),
                };
            }
            let mut state = shared.lock();
            shared.check_accepting()?;
            if let Some(ticket) = state.mempool.watch(&hash) {
                return Ok((hash, Progress::Waiting(ticket)));
            }
            match state.mempool.insert(hash, transaction.clone(), bytes.len()) {
                Ok(ticket) => {
                    drop(state);
                    shared.wake.notify_one();
                    return Ok((hash, Progress::Accepted(ticket)));
                }
                Err(InsertError::NotNext { .. }) => {}
                Err(error @ InsertError::Full { .. }) => {
                    return Err(SubmitError::TryAgainLater(error.to_string()));
                }
            }
        }
        Err(SubmitError::TryAgainLater(
            "the sender's transactions keep changing".to_owned(),
        ))
    }

    /// A transaction that waits or is in the block under way. `None` means that it is not on its way: either unknown or,
    /// if the chain is asked *after* this, included.
    pub fn pending(&self, hash: &Hash) -> Option<Arc<SignedTransaction>> {
        self.shared.lock().mempool.get(hash)
    }

    /// The nonce for the sender's next transaction, given the account's nonce.
    pub fn next_nonce(&self, sender: &Address, nonce: u64) -> u64 {
        self.shared.lock().mempool.next_nonce(sender, nonce)
    }

    /// What waits.
    pub fn stats(&self) -> MempoolStats {
        let state = self.shared.lock();
        MempoolStats {
            transactions: state.mempool.len(),
            executing: state.mempool.executing(),
            bytes: state.mempool.bytes(),
            limits: state.mempool.limits(),
        }
    }

    /// Whether blocks are being made, now and from now on.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Accepts nothing more, finishes the block under way and returns when it is on disk. What still waited is
    /// forgotten and its tickets are closed. Blocks; does nothing the second time.
    pub fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            self.shared.health.send_if_modified(|health| {
                let running = *health == Health::Running;
                if running {
                    *health = Health::Stopping;
                }
                running
            });
        }
        self.shared.wake.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // The thread catches its panics and reports them as `Health::Failed`.
            let _ = thread.join();
        }
    }
}

impl<L> Drop for Producer<L> {
    /// Tells the thread to end after the block under way, without waiting for it.
    fn drop(&mut self) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopping = true;
        self.shared.wake.notify_one();
    }
}

impl<L: Ledger> Shared<L> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_accepting(&self) -> Result<(), SubmitError> {
        match &*self.health.borrow() {
            Health::Running => Ok(()),
            Health::Stopping => Err(SubmitError::Stopping),
            Health::Failed(reason) => Err(SubmitError::Failed(reason.clone())),
        }
    }

    /// The mempool is asked first: a transaction leaves it only when its receipt can be read.
    fn known(&self, hash: &Hash) -> Result<Option<Progress>, StoreError> {
        if let Some(ticket) = self.lock().mempool.watch(hash) {
            return Ok(Some(Progress::Waiting(ticket)));
        }
        Ok(self.ledger.receipt(hash)?.map(Progress::Included))
    }

    fn main(&self) {
        let failure = match catch_unwind(AssertUnwindSafe(|| self.make_blocks())) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(panic) => Some(format!("block production panicked: {}", describe(&*panic))),
        };
        let mut state = self.lock();
        if let Some(reason) = failure {
            tracing::error!(
                reason,
                "block production has failed; nothing is accepted any more"
            );
            self.health.send_replace(Health::Failed(reason));
        }
        // Closes the tickets. Health says why before they close.
        state.mempool = Mempool::new(state.mempool.limits());
    }

    fn make_blocks(&self) -> Result<(), String> {
        let fuel = self.ledger.params().limits.block_fuel;
        loop {
            let batch = {
                let waiting = self.wake.wait_while(self.lock(), |state| {
                    !state.stopping && !state.mempool.has_waiting()
                });
                let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
                if state.stopping {
                    return Ok(());
                }
                state.mempool.take_batch(fuel, BLOCK_TRANSACTIONS)
            };
            let started = Instant::now();
            let transactions = batch
                .iter()
                .map(|transaction| (**transaction).clone())
                .collect();
            // The clock of the machine may go backwards; the chain's does not.
            let timestamp_ms = now_ms().max(self.ledger.head().timestamp_ms);
            let produced = self
                .ledger
                .produce_block(transactions, timestamp_ms)
                .map_err(|error| error.to_string())?;
            tracing::info!(
                height = produced.header.height,
                transactions = produced.receipts.len(),
                dropped = produced.dropped.len(),
                fuel = produced.header.fuel_used,
                elapsed_us = started.elapsed().as_micros() as u64,
                "block"
            );
            self.settle(&batch, produced)?;
        }
    }

    fn settle(&self, batch: &[Arc<SignedTransaction>], produced: Produced) -> Result<(), String> {
        let mut state = self.lock();
        let height = produced.header.height;
        for receipt in produced.receipts {
            let hash = receipt.transaction;
            state
                .mempool
                .settle(&hash, Verdict::Included(Arc::new(receipt)));
        }
        let mut unsettled = HashSet::new();
        for (hash, error) in produced.dropped {
            tracing::warn!(%hash, %error, height, "transaction left out of the block");
            if let Some(transaction) = state.mempool.get(&hash) {
                unsettled.insert(transaction.transaction.sender_address());
            }
            state
                .mempool
                .settle(&hash, Verdict::Dropped(Arc::new(error)));
        }
        for sender in unsettled {
            let nonce = self
                .ledger
                .account(&sender)
                .map_err(|error| error.to_string())?
                .nonce;
            state.mempool.realign(&sender, nonce);
        }
        for transaction in batch {
            let hash = transaction.hash();
            if state.mempool.get(&hash).is_some() {
                return Err(format!(
                    "block {height} neither includes nor drops transaction {hash}"
                ));
            }
        }
        Ok(())
    }
}

/// Milliseconds since 1970 by the clock of the machine; 0 if it shows an earlier time.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Key;
    use slackline_executor::{Action, Outcome, Transaction};
    use std::collections::HashMap;
    use std::sync::mpsc;
    use std::time::Duration;

    /// A chain in memory that does as it is told.
    struct Fake {
        params: ProtocolParams,
        inner: Mutex<Inner>,
        /// Told before each block; the block waits for the answer.
        gate: Mutex<Option<(mpsc::Sender<usize>, mpsc::Receiver<Order>)>>,
        /// Happens while an account is being looked up.
        meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    #[derive(Default)]
    struct Inner {
        nonces: HashMap<Address, u64>,
        receipts: HashMap<Hash, Receipt>,
        height: u64,
        blocks: Vec<(Vec<Hash>, u64)>,
        /// Counts admissions; the next ones see the account's nonce move in between.
        admissions: usize,
        moves: usize,
    }

    enum Order {
        Include,
        Drop,
        Forget,
        Fail,
        Panic,
    }

    type Controls = (mpsc::Receiver<usize>, mpsc::Sender<Order>);

    impl Fake {
        fn new() -> Arc<Fake> {
            Arc::new(Fake {
                params: ProtocolParams::v1(),
                inner: Mutex::new(Inner::default()),
                gate: Mutex::new(None),
                meanwhile: Mutex::new(None),
            })
        }

        fn gated() -> (Arc<Fake>, Controls) {
            let fake = Fake::new();
            let (announce, announced) = mpsc::channel();
            let (order, orders) = mpsc::channel();
            *fake.gate.lock().expect("lock") = Some((announce, orders));
            (fake, (announced, order))
        }

        fn inner(&self) -> MutexGuard<'_, Inner> {
            self.inner.lock().expect("lock")
        }
    }

    impl Ledger for Fake {
        fn params(&self) -> &ProtocolParams {
            &self.params
        }
        fn head(&self) -> Header {
            Header {
                version: slackline_executor::HEADER_VERSION,
                chain_id: 1,
                protocol_version: 1,
                height: self.inner().height,
                parent: Hash::default(),
                // From a future that the clock of the machine has not seen.
                timestamp_ms: 1 << 50,
                proposer: Address::default(),
                transactions_root: Hash::default(),
                receipts_root: Hash::default(),
                state_root: Hash::default(),
                base_price: 1,
                fuel_used: 0,
                burnt: 0,
            }
        }
        fn account(&self, address: &Address) -> Result<Account, StoreError> {
            let meanwhile = self.meanwhile.lock().expect("lock").take();
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
            let nonce = self
                .inner()
                .nonces
                .get(address)
                .copied()
                .unwrap_or_default();
            Ok(Account {
                balance: 0,
                nonce,
                code: None,
                ..Account::default()
            })
        }
        fn receipt(&self, hash: &Hash) -> Result<Option<Receipt>, StoreError> {
            Ok(self.inner().receipts.get(hash).cloned())
        }
        fn decode(&self, bytes: &[u8]) -> Result<SignedTransaction, AdmitError> {
            borsh::from_slice(bytes).map_err(|error| AdmitError::Malformed(error.to_string()))
        }
        fn admit(
            &self,
            transaction: &SignedTransaction,
            pending: Pending,
        ) -> Result<(), AdmitError> {
            let mut inner = self.inner();
            inner.admissions += 1;
            let sender = transaction.transaction.sender_address();
            if inner.moves > 0 {
                inner.moves -= 1;
                *inner.nonces.entry(sender).or_default() += 1;
            }
            let expected = inner.nonces.get(&sender).copied().unwrap_or_default() + pending.count;
            match transaction.transaction.nonce {
                got if got < expected => Err(AdmitError::NonceTooLow { expected, got }),
                got if got > expected => Err(AdmitError::NonceTooHigh { expected, got }),
                _ => Ok(()),
            }
        }
        fn produce_block(
            &self,
            transactions: Vec<SignedTransaction>,
            timestamp_ms: u64,
        ) -> Result<Produced, Box<dyn Error + Send + Sync>> {
            let order = match &*self.gate.lock().expect("lock") {
                None => Order::Include,
                Some((announce, orders)) => {
                    announce.send(transactions.len()).expect("test listens");
                    orders.recv().expect("test answers")
                }
            };
            let (mut receipts, mut dropped) = (Vec::new(), Vec::new());
            for (transaction, index) in transactions.iter().zip(0..) {
                let hash = transaction.hash();
                match order {
                    Order::Include => {
                        let mut inner = self.inner();
                        let receipt = Receipt {
                            transaction: hash,
                            height: inner.height + 1,
                            index,
                            outcome: Outcome::Success { data: vec![] },
                            fuel_used: 1,
                            fee: 1,
                            burnt: 0,
                            deposit: 0,
                            events: vec![],
                            contract: None,
                        };
                        inner.receipts.insert(hash, receipt.clone());
                        *inner
                            .nonces
                            .entry(transaction.transaction.sender_address())
                            .or_default() += 1;
                        receipts.push(receipt);
                    }
                    Order::Drop => dropped.push((hash, AdmitError::BadSignature)),
                    Order::Forget => {}
                    Order::Fail => return Err("disk on fire".into()),
                    Order::Panic => panic!("on purpose"),
                }
            }
            let mut inner = self.inner();
            inner.height += 1;
            inner.blocks.push((
                receipts.iter().map(|r| r.transaction).collect(),
                timestamp_ms,
            ));
            drop(inner);
            Ok(Produced {
                header: self.head(),
                receipts,
                dropped,
                stats: slackline_executor::BlockStats::default(),
            })
        }
    }

    fn transfer(key: &Key, nonce: u64) -> Vec<u8> {
        let transaction = Transaction {
            chain_id: 1,
            sender: key.public(),
            nonce,
            fuel_limit: 10,
            fuel_price: 1,
            tip: 0,
            deposit_limit: 0,
            action: Action::Transfer {
                to: Address::default(),
                amount: 0,
            },
        };
        borsh::to_vec(&transaction.sign(key.signing())).expect("encoded")
    }

    fn accept(producer: &Producer<Fake>, bytes: &[u8]) -> Ticket {
        match producer.submit(bytes).expect("accepted") {
            (_, Progress::Accepted(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn verdict(mut ticket: Ticket) -> Option<Verdict> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let news = ticket.wait_for(Option::is_some);
            let news = tokio::time::timeout(Duration::from_secs(60), news).await;
            news.expect("a verdict in time").ok()?.clone()
        })
    }

    #[test]
    fn a_block_takes_all_that_waits_and_resubmission_is_idempotent() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer = Producer::start(fake.clone(), MempoolLimits::default()).expect("thread");
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        assert_eq!(blocks.recv().expect("block"), 1);
        // These wait while the first is being executed.
        let second = accept(&producer, &transfer(&key, 1));
        let third = accept(&producer, &transfer(&key, 2));
        for nonce in 0..3 {
            let (_, progress) = producer.submit(&transfer(&key, nonce)).expect("known");
            assert!(
                matches!(progress, Progress::Waiting(_)),
                "{nonce}: {progress:?}"
            );
        }
        assert_eq!(producer.stats().transactions, 3);
        assert_eq!(producer.next_nonce(&key.address(), 0), 3);
        orders.send(Order::Include).expect("sent");
        assert!(matches!(verdict(first), Some(Verdict::Included(_))));
        assert_eq!(blocks.recv().expect("block"), 2);
        orders.send(Order::Include).expect("sent");
        for ticket in [second, third] {
            let Some(Verdict::Included(receipt)) = verdict(ticket) else {
                panic!("not included")
            };
            assert_eq!(receipt.height, 2);
        }
        let (hash, progress) = producer.submit(&transfer(&key, 0)).expect("known");
        assert!(matches!(progress, Progress::Included(receipt) if receipt.transaction == hash));
        assert_eq!(producer.stats().transactions, 0);
        // The chain's clock does not go backwards even if the machine's does.
        assert!(fake.inner().blocks.iter().all(|(_, time)| *time == 1 << 50));
    }

    #[test]
    fn admission_starts_again_when_the_account_moves() {
        let fake = Fake::new();
        let producer = Producer::start(fake.clone(), MempoolLimits::default()).expect("thread");
        let key = Key::from_seed([1; 32]);
        fake.inner().moves = 2;
        // With nonce 2 the first two looks see another account than before: had the first been believed, this
        // would be refused for a nonce too high.
        let ticket = accept(&producer, &transfer(&key, 2));
        assert_eq!(fake.inner().admissions, 3);
        assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
        fake.inner().moves = usize::MAX;
        let error = producer
            .submit(&transfer(&key, 1000))
            .expect_err("never at rest");
        assert!(matches!(error, SubmitError::TryAgainLater(_)), "{error}");
    }

    #[test]
    fn the_same_transaction_submitted_twice_at_once_is_no_error() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer = Producer::start(fake.clone(), MempoolLimits::default()).expect("thread");
        let producer = Arc::new(producer);
        let bytes = transfer(&Key::from_seed([1; 32]), 0);
        let (other, same) = (producer.clone(), bytes.clone());
        // When neither has found it in the mempool, one is accepted; the other is refused for its nonce.
        *fake.meanwhile.lock().expect("lock") = Some(Box::new(move || {
            accept(&other, &same);
        }));
        let (_, progress) = producer.submit(&bytes).expect("known by now");
        let Progress::Waiting(ticket) = progress else {
            panic!("{progress:?}")
        };
        assert_eq!(blocks.recv().expect("block"), 1);
        orders.send(Order::Include).expect("sent");
        assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
    }

    #[test]
    fn dropped_transactions_are_told_and_their_successors_too() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer = Producer::start(fake, MempoolLimits::default()).expect("thread");
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        blocks.recv().expect("block");
        let second = accept(&producer, &transfer(&key, 1));
        orders.send(Order::Drop).expect("sent");
        let Some(Verdict::Dropped(error)) = verdict(first) else {
            panic!("not dropped")
        };
        assert!(matches!(*error, AdmitError::BadSignature));
        let Some(Verdict::Dropped(error)) = verdict(second) else {
            panic!("not dropped")
        };
        assert!(matches!(
            *error,
            AdmitError::NonceTooHigh {
                expected: 0,
                got: 1
            }
        ));
        // Life goes on.
        let again = accept(&producer, &transfer(&key, 0));
        blocks.recv().expect("block");
        orders.send(Order::Include).expect("sent");
        assert!(matches!(verdict(again), Some(Verdict::Included(_))));
    }

    #[test]
    fn stopping_finishes_the_block_under_way_and_forgets_the_rest() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer =
            Arc::new(Producer::start(fake.clone(), MempoolLimits::default()).expect("thread"));
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        blocks.recv().expect("block");
        let second = accept(&producer, &transfer(&key, 1));
        let mut health = producer.health();
        let stopping = std::thread::spawn({
            let producer = producer.clone();
            move || producer.stop()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        runtime
            .block_on(health.wait_for(|health| *health == Health::Stopping))
            .expect("watched");
        assert!(matches!(
            producer.submit(&transfer(&key, 2)),
            Err(SubmitError::Stopping)
        ));
        assert!(!stopping.is_finished(), "waits for the block under way");
        orders.send(Order::Include).expect("sent");
        assert!(matches!(verdict(first), Some(Verdict::Included(_))));
        assert!(verdict(second).is_none());
        stopping.join().expect("stopped");
        assert_eq!(fake.inner().blocks.len(), 1);
        assert_eq!(producer.stats().transactions, 0);
    }

    #[test]
    fn failures_stop_everything_and_say_so() {
        for (order, expected) in [
            (Order::Fail, "disk on fire"),
            (Order::Panic, "block production panicked: on purpose"),
            (Order::Forget, "neither includes nor drops"),
        ] {
            let (fake, (blocks, orders)) = Fake::gated();
            let producer = Producer::start(fake, MempoolLimits::default()).expect("thread");
            let key = Key::from_seed([1; 32]);
            let ticket = accept(&producer, &transfer(&key, 0));
            blocks.recv().expect("block");
            orders.send(order).expect("sent");
            assert!(verdict(ticket).is_none());
            let health = producer.health().borrow().clone();
            assert!(
                matches!(&health, Health::Failed(reason) if reason.contains(expected)),
                "{health:?}"
            );
            let error = producer.submit(&transfer(&key, 0)).expect_err("failed");
            assert!(
                matches!(&error, SubmitError::Failed(reason) if reason.contains(expected)),
                "{error}"
            );
            producer.stop();
            assert_eq!(
                *producer.health().borrow(),
                health,
                "stopping does not hide the failure"
            );
        }
    }

    #[test]
    fn a_full_pool_says_try_again_later() {
        let (fake, (blocks, orders)) = Fake::gated();
        let limits = MempoolLimits {
            transactions: 1,
            ..MempoolLimits::default()
        };
        let producer = Producer::start(fake, limits).expect("thread");
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        blocks.recv().expect("block");
        let error = producer.submit(&transfer(&key, 1)).expect_err("full");
        assert!(matches!(error, SubmitError::TryAgainLater(_)), "{error}");
        orders.send(Order::Include).expect("sent");
        assert!(verdict(first).is_some());
        accept(&producer, &transfer(&key, 1));
        blocks.recv().expect("block");
        orders.send(Order::Include).expect("sent");
    }
}
