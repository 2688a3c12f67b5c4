//! From a submitted transaction to a receipt on disk: admission, one thread that makes blocks, and the news of what
//! became of each transaction.
//!
//! ```text
//!  decode, submit                                  slackline-producer (a thread of its own)
//!    verify ─▶ known? ─▶ admit ─▶ ┌─────────┐        ┌───────────────────────────────────┐
//!   (many        │         │      │ Mempool │──wake─▶│ take_batch ─▶ Ledger::produce_block│
//!   at once)     ▼         ▼      │ (mutex) │◀───────│ settle ◀───── synced to disk       │
//!             ticket or  refused  └─────────┘        └───────────────────────────────────┘
//!             receipt                  │
//!                                      ▼ ticket (tokio watch): Included | Dropped | closed
//! ```
//!
//! A ticket says `Included` only after the block is synced to disk: what it acknowledges survives a crash.
//!
//! # Other nodes
//!
//! What a client brings is sent to others at once, and again for as long as it is pending here: nobody says whether it has arrived, and it may not have. The
//! node there had no room, or too many transactions before it were missing; a queue was full; there was no peer; or this node was started anew. Every
//! block, those that were sent [`RESEND_AFTER`] blocks ago or earlier go out under the height as their edition, first those that were longest ago, up to
//! [`RESEND_TRANSACTIONS`] and [`RESEND_BYTES`]. So a node without a validator's key gets its clients' transactions to those that make blocks, or tells in the
//! end that they have expired. A node that knows a transaction passes a later edition on, within the same bounds, if it has neither sent nor passed
//! it on for half as long: between it and a validator without room there may be no other way. That makes it useless to send others' transactions
//! again and again.
//!
//! A replacement of a transaction that waits for others before it is not sent until it is pending: to replace costs nothing there.
//!
//! The lock around the mempool is never held while contracts run or signatures are checked. So the chain can move
//! while a transaction is being admitted; [`Producer::submit`] says how that is noticed.

use crate::workers::describe;
use slackline_executor::{
    Account, Address, AdmitError, Chain, Hash, Header, Pending, Produced, ProtocolParams, Receipt,
    SignedTransaction, StoreError,
};
pub use slackline_mempool::Limits;
use slackline_mempool::{
    AccountView, Accounts, AdmissionError, BatchLimits, Candidate, Committed, DropReason, Journal,
    Mempool, Origin, Record, Stats, Subpool,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{broadcast, watch};

/// Most transactions in a block.
pub const BLOCK_TRANSACTIONS: usize = 1_000;

/// A block of at least so many transactions is followed by one that gathers: what a block costs besides its transactions, a synced write above all, is
/// then shared by more of them. A client alone, who waits for each of its transactions, never waits for others.
const GATHER_FROM: usize = 16;

/// From the beginning of a block to the beginning of one that gathers, at most, unless it is full before.
const GATHER: Duration = Duration::from_millis(20);

/// How often admission starts again because the chain or the sender's queue moved meanwhile.
const ADMISSION_ATTEMPTS: usize = 16;

/// How many times the fuel of a block the limits of the transactions that are tried may be: most reserve more than they use.
pub const OVERBOOKED: u64 = 50;

/// For how many blocks a transaction waits before others are sent it again: more than most wait.
pub const RESEND_AFTER: u64 = 32;

/// Most transactions that are sent again in the time of a block, and most that are passed on again.
pub const RESEND_TRANSACTIONS: usize = 128;

/// Most bytes of these, in both cases.
pub const RESEND_BYTES: usize = 512 << 10;

/// Most bytes of a block's transactions.
pub const BLOCK_BYTES: usize = 3 << 20;

/// Blocks that subscribers may be behind before they miss some.
const NEWS: usize = 64;

/// What became of a transaction that waited.
pub type Verdict = slackline_mempool::Verdict<Receipt, AdmitError>;
/// Tells the verdict on one transaction: `None` until there is one. Closed without a verdict if the node stops first.
pub type Ticket = slackline_mempool::Ticket<Receipt, AdmitError>;
/// Why a transaction left the mempool without getting into a block.
pub type Dropped = DropReason<AdmitError>;

/// A block that is on disk, for subscribers.
#[derive(Debug)]
pub struct News {
    /// Its header.
    pub header: Header,
    /// Its receipts, in order, each with the sender of the transaction.
    pub receipts: Vec<(Address, Arc<Receipt>)>,
}

/// What block production needs of a chain. [`Chain`] is the one that counts; tests have others, that fail.
///
/// An account's nonce never decreases, and a receipt that was once there stays.
pub trait Ledger: Send + Sync + 'static {
    /// See [`Chain::params`].
    fn params(&self) -> &ProtocolParams;
    /// See [`Chain::head`].
    fn head(&self) -> Header;
    /// See [`Chain::base_price`].
    fn base_price(&self) -> u64;
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
    /// See [`Chain::verify`]: what [`Ledger::admit`] would do for each of them, done for all together.
    fn verify(&self, transactions: &[&SignedTransaction]);
    /// See [`Chain::screen`].
    ///
    /// # Errors
    ///
    /// The transaction cannot be applied, whatever comes before it.
    fn screen(&self, transaction: &SignedTransaction) -> Result<(), AdmitError>;
    /// See [`Chain::admit`].
    ///
    /// # Errors
    ///
    /// The transaction cannot be applied after those that are pending.
    fn admit(&self, transaction: &SignedTransaction, pending: Pending) -> Result<(), AdmitError>;
    /// See [`Chain::expect`].
    fn expect(&self, transaction: &SignedTransaction);
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
    fn base_price(&self) -> u64 {
        Chain::base_price(self)
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
    fn verify(&self, transactions: &[&SignedTransaction]) {
        Chain::verify(self, transactions);
    }
    fn screen(&self, transaction: &SignedTransaction) -> Result<(), AdmitError> {
        Chain::screen(self, transaction)
    }
    fn admit(&self, transaction: &SignedTransaction, pending: Pending) -> Result<(), AdmitError> {
        Chain::admit(self, transaction, pending)
    }
    fn expect(&self, transaction: &SignedTransaction) {
        Chain::expect(self, transaction);
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
    /// It cannot be applied. Sending the same bytes again is of no use.
    #[error(transparent)]
    Refused(#[from] AdmitError),
    /// Another one with the sender's nonce is waiting, and this one does not pay enough more to take its place.
    #[error(
        "{waiting} has the same nonce: to replace it takes a fuel price of {fuel_price} and a tip of {tip}"
    )]
    Underpriced {
        /// The one that is waiting.
        waiting: Hash,
        /// The lowest fuel price that replaces it.
        fuel_price: u64,
        /// The lowest tip that replaces it.
        tip: u64,
    },
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

/// A transaction as submitted, decoded and no more.
#[derive(Clone, Debug)]
pub struct Decoded {
    candidate: Candidate,
    bytes: Vec<u8>,
}

impl Decoded {
    /// The transaction's hash.
    pub fn hash(&self) -> Hash {
        self.candidate.hash()
    }

    /// Its size, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
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
    news: broadcast::Sender<Arc<News>>,
    forward: OnceLock<Forward>,
}

struct State {
    mempool: Mempool<Receipt, AdmitError>,
    /// Where accepted transactions are written down.
    journal: Option<Journal>,
    stopping: bool,
    /// The thread that makes blocks waits for a full one: it is not to be woken before.
    gathering: bool,
    passed_on: PassedOn,
}

/// What was passed on again since the block of that height.
#[derive(Debug, Default)]
struct PassedOn {
    height: u64,
    transactions: usize,
    bytes: usize,
}

/// Called with each transaction that a client has brought, as it was submitted, and with 0; later with the height instead. Says whether it is on its way.
type Forward = Box<dyn Fn(&[u8], u64) -> bool + Send + Sync>;

/// The accounts of a ledger, as the mempool sees them.
struct Known<'a, L>(&'a L);

impl<L: Ledger> Accounts<AdmitError> for Known<'_, L> {
    fn account(&self, address: &Address) -> Result<AccountView, AdmitError> {
        let account = self.0.account(address)?;
        Ok(AccountView {
            nonce: account.nonce,
            balance: account.balance,
        })
    }
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
    pub fn start(ledger: Arc<L>, limits: Limits) -> io::Result<Producer<L>> {
        Producer::start_gathering(ledger, limits, GATHER)
    }

    fn start_gathering(
        ledger: Arc<L>,
        limits: Limits,
        gather: Duration,
    ) -> io::Result<Producer<L>> {
        let producer = Producer::passive(ledger, limits);
        let thread = slackline_executor::thread::spawn("slackline-producer".to_owned(), {
            let shared = producer.shared.clone();
            move || shared.main(gather)
        })?;
        *producer
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(producer)
    }

    /// Accepts transactions and makes no block: somebody else takes [batches](Producer::batch) and says what is
    /// [committed](Producer::committed).
    pub fn passive(ledger: Arc<L>, limits: Limits) -> Producer<L> {
        let mempool = Mempool::new(limits, ledger.head().height, ledger.base_price());
        Producer {
            shared: Arc::new(Shared {
                ledger,
                state: Mutex::new(State {
                    mempool,
                    journal: None,
                    stopping: false,
                    gathering: false,
                    passed_on: PassedOn::default(),
                }),
                wake: Condvar::new(),
                health: watch::Sender::new(Health::Running),
                news: broadcast::Sender::new(NEWS),
                forward: OnceLock::new(),
            }),
            thread: Mutex::new(None),
        }
    }

    /// From here on `forward` gets the bytes of each transaction that a client brings, for other nodes, and with it the edition: 0, and a height each time that it
    /// is to be sent again. It says whether it has taken it; if not, that is tried again after the next block. What [`Producer::recover`] brought back
    /// before goes out with the next blocks.
    ///
    /// So transactions that a client has sent to others may be on their way to this node, and a nonce that is missing is no reason to refuse those
    /// after it. Only the first call does anything.
    pub fn forward_to(&self, forward: impl Fn(&[u8], u64) -> bool + Send + Sync + 'static) {
        // An error says that there is one already.
        let _ = self.shared.forward.set(Box::new(forward));
    }

    /// Accepts again what is in the journal, and writes down from here on what is accepted. Returns how many transactions are waiting again.
    pub fn recover(&self, mut journal: Journal, records: Vec<Record>) -> usize {
        let mut count = 0;
        for record in records {
            // The parameters may be others by now.
            let Ok(mut decoded) = self.decode(record.bytes) else {
                continue;
            };
            decoded.candidate = decoded.candidate.expiring(record.expires);
            let accepted = self.shared.submit(&decoded, record.origin, true);
            count += usize::from(matches!(accepted, Ok((Progress::Accepted(_), _))));
        }
        let mut state = self.shared.lock();
        compact(&mut journal, &state.mempool);
        state.journal = Some(journal);
        count
    }

    /// Transactions for the next block, the best first. What was taken before is free to be taken again.
    pub fn batch(&self, limits: BatchLimits) -> Vec<SignedTransaction> {
        let mut state = self.shared.lock();
        let dropped = state.mempool.release();
        state.cross_out(dropped.iter().map(|(hash, _)| *hash));
        let batch = state.mempool.take_batch(limits);
        batch.iter().map(|signed| (**signed).clone()).collect()
    }

    /// Tells what a block that is on disk has come to, whoever made it, with the hash and the sender of each transaction.
    ///
    /// # Errors
    ///
    /// The database could not be read.
    pub fn committed(
        &self,
        produced: Produced,
        senders: &[(Hash, Address)],
    ) -> Result<(), StoreError> {
        self.shared.settle(produced, senders)?;
        let mut state = self.shared.lock();
        let dropped = state.mempool.release();
        state.cross_out(dropped.iter().map(|(hash, _)| *hash));
        drop(state);
        self.shared.resend();
        Ok(())
    }

    /// Transactions that a batch had and that cannot be applied: their tickets say so.
    pub fn refuse(&self, refused: Vec<(Hash, AdmitError)>) {
        let mut state = self.shared.lock();
        state.cross_out(refused.iter().map(|(hash, _)| *hash));
        for (hash, error) in refused {
            let reason = DropReason::Refused(Arc::new(error));
            state.mempool.settle(&hash, Verdict::Dropped(reason));
        }
    }

    /// From here on nothing is accepted: the node is stopping.
    pub fn refuse_more(&self) {
        self.shared.refuse_more(&self.shared.lock());
    }

    /// From here on nothing is accepted, for that reason, and the tickets are closed.
    pub fn fail(&self, reason: String) {
        self.shared.fail(reason);
    }

    /// Blocks from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.shared.news.subscribe()
    }

    /// Reads a transaction as submitted.
    ///
    /// # Errors
    ///
    /// The bytes are no transaction.
    pub fn decode(&self, bytes: Vec<u8>) -> Result<Decoded, AdmitError> {
        let transaction = self.shared.ledger.decode(&bytes)?;
        let candidate = Candidate::new(transaction, bytes.len());
        Ok(Decoded { candidate, bytes })
    }

    /// Accepts transactions that a client has submitted, one after the other. Idempotent: the same transaction again is never an error, however far
    /// it got. Their signatures are verified together: a hundred take a third of the time that each alone would.
    ///
    /// Blocks for the signatures and, for a deployment, a validation of the code; not for execution.
    ///
    /// The nonce and the balance that a transaction needs depend on the account and on what is pending for it, and a
    /// block may commit between looking at the one and at the other. The account's nonce never decreases, and it moves
    /// with every transaction of the sender that commits. So if it is the same before and after admission, what
    /// admission saw fits together; else admission starts again. A second transaction that took the nonce
    /// meanwhile is noticed on insertion, and the same happens.
    ///
    /// # Errors
    ///
    /// Of each: see [`SubmitError`].
    pub fn submit(&self, transactions: &[Decoded]) -> Vec<Result<Progress, SubmitError>> {
        let all = self.shared.submit_all(transactions, Origin::Local);
        let progress = all
            .into_iter()
            .map(|each| each.map(|(progress, _)| progress));
        progress.collect()
    }

    /// [`Producer::submit`] for transactions that another node has forwarded: those before them may still be on their way. Returns of each whether it is to go
    /// on to others from here.
    ///
    /// # Errors
    ///
    /// Of each: see [`SubmitError`].
    pub fn submit_from_peer(&self, transactions: &[Decoded]) -> Vec<Result<bool, SubmitError>> {
        let all = self.shared.submit_all(transactions, Origin::Peer);
        all.into_iter().map(|each| each.map(|(_, on)| on)).collect()
    }

    /// A transaction that waits or is in the block under way. `None` means that it is not on its way: either unknown or,
    /// if the chain is asked *after* this, included.
    pub fn pending(&self, hash: &Hash) -> Option<Arc<SignedTransaction>> {
        self.shared.lock().mempool.get(hash)
    }

    /// The sender's transactions on their way with nonces below `nonce`, in order.
    pub fn pending_of(&self, sender: &Address, nonce: u64) -> Vec<SignedTransaction> {
        let below = self.shared.lock().mempool.below(sender, nonce);
        below.iter().map(|signed| (**signed).clone()).collect()
    }

    /// The nonce for the sender's next transaction, given the account's nonce.
    pub fn next_nonce(&self, sender: &Address, nonce: u64) -> u64 {
        self.shared.lock().mempool.next_nonce(sender, nonce)
    }

    /// The sender's lowest nonce that a waiting transaction has to wait for, if there is none with it here.
    pub fn missing_nonce(&self, hash: &Hash) -> Option<u64> {
        let state = self.shared.lock();
        let transaction = &state.mempool.get(hash)?.transaction;
        // The pool knows where the account is.
        let next = state.mempool.next_nonce(&transaction.sender_address(), 0);
        (next < transaction.nonce).then_some(next)
    }

    /// What waits.
    pub fn stats(&self) -> Stats {
        self.shared.lock().mempool.stats()
    }

    /// The lowest effective fuel price, in the smallest unit of the currency, with which a transaction of `bytes` bytes is accepted now.
    pub fn minimum_price(&self, bytes: usize) -> Option<u64> {
        self.shared.lock().mempool.minimum_price(bytes)
    }

    /// Whether blocks are being made, now and from now on.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Accepts nothing more, finishes the block under way and returns when it is on disk. What still waited is
    /// forgotten and its tickets are closed. Blocks; does nothing the second time.
    pub fn stop(&self) {
        let mut state = self.shared.lock();
        // Both under one lock: whoever sees the health knows that no other block begins.
        state.stopping = true;
        self.shared.refuse_more(&state);
        drop(state);
        self.shared.wake.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match thread {
            // The thread catches its panics and reports them as `Health::Failed`.
            Some(thread) => drop(thread.join()),
            None => self.shared.forget(),
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

    /// Under the lock, so that nothing is being accepted when the health says so.
    fn refuse_more(&self, _locked: &State) {
        self.health.send_if_modified(|health| {
            let running = *health == Health::Running;
            if running {
                *health = Health::Stopping;
            }
            running
        });
    }

    fn check_accepting(&self) -> Result<(), SubmitError> {
        match &*self.health.borrow() {
            Health::Running => Ok(()),
            Health::Stopping => Err(SubmitError::Stopping),
            Health::Failed(reason) => Err(SubmitError::Failed(reason.clone())),
        }
    }

    /// The mempool is asked first: a transaction leaves it only when its receipt can be read. Also says whether it is to go on to other nodes.
    fn known(
        &self,
        candidate: &Candidate,
        origin: Origin,
    ) -> Result<Option<(Progress, bool)>, StoreError> {
        let hash = candidate.hash();
        let mut state = self.lock();
        if let Some(ticket) = state.mempool.watch(&hash) {
            let on = match origin {
                Origin::Local => {
                    state.mempool.adopt(&hash);
                    false
                }
                Origin::Peer => state.pass_on(&hash),
            };
            return Ok(Some((Progress::Waiting(ticket), on)));
        }
        drop(state);
        // What is in a block has moved its sender's nonce on. So new ones, which are the most, cost no look into the database.
        let account = self.ledger.account(&candidate.sender())?;
        if candidate.transaction().transaction.nonce >= account.nonce {
            return Ok(None);
        }
        let receipt = self.ledger.receipt(&hash)?;
        Ok(receipt.map(|receipt| (Progress::Included(receipt), false)))
    }

    fn submit_all(
        &self,
        transactions: &[Decoded],
        origin: Origin,
    ) -> Vec<Result<(Progress, bool), SubmitError>> {
        if transactions.len() > 1 {
            let new: Vec<_> = {
                let state = self.lock();
                let all = transactions.iter().map(|decoded| &decoded.candidate);
                all.filter(|candidate| state.mempool.get(&candidate.hash()).is_none())
                    .map(Candidate::transaction)
                    .collect()
            };
            self.ledger.verify(&new);
        }
        // If all come through this node, who leaves one out is told at once.
        let gaps = self.forward.get().is_some() || origin == Origin::Peer;
        let each = transactions.iter();
        each.map(|decoded| self.submit(decoded, origin, gaps))
            .collect()
    }

    /// Those before it may be missing if `gaps`: they are on their way, or may be. Also says whether it is to go on to other nodes.
    fn submit(
        &self,
        decoded: &Decoded,
        origin: Origin,
        gaps: bool,
    ) -> Result<(Progress, bool), SubmitError> {
        let Decoded { candidate, bytes } = decoded;
        let (hash, sender) = (candidate.hash(), candidate.sender());
        // The same transaction, submitted elsewhere, may have overtaken this call.
        let refuse = |error: SubmitError| match self.known(candidate, origin)? {
            Some(known) => Ok(known),
            None => Err(error),
        };
        for _ in 0..ADMISSION_ATTEMPTS {
            if let Some(known) = self.known(candidate, origin)? {
                return Ok(known);
            }
            self.check_accepting()?;
            // To check code takes long: not for what the mempool would not have, which costs nobody anything.
            if let Err(error) = self.ledger.screen(candidate.transaction()) {
                return refuse(error.into());
            }
            let room = self.lock().mempool.check(candidate, &Known(&*self.ledger));
            if let Err(
                error @ (AdmissionError::NonceGap { .. }
                | AdmissionError::SenderFull { .. }
                | AdmissionError::ReplacementUnderpriced { .. }
                | AdmissionError::Executing { .. }
                | AdmissionError::Full { .. }),
            ) = room
            {
                return refuse(refusal(error));
            }
            let account = self.ledger.account(&sender)?.nonce;
            let nonce = candidate.transaction().transaction.nonce;
            let pending = {
                let state = self.lock();
                let next = state.mempool.next_nonce(&sender, account);
                let before = if gaps { nonce } else { nonce.min(next) };
                let pending = state.mempool.pending_before(&sender, account, before);
                Pending {
                    count: pending.count,
                    cost: pending.cost,
                }
            };
            // What is accepted fits the account as it was read last; putting it into the mempool looks once more.
            if let Err(error) = self.ledger.admit(candidate.transaction(), pending) {
                if self.ledger.account(&sender)?.nonce != account {
                    continue;
                }
                return refuse(error.into());
            }
            let mut state = self.lock();
            self.check_accepting()?;
            let inserted = state
                .mempool
                .insert(candidate.clone(), origin, &Known(&*self.ledger));
            match inserted {
                Ok(accepted) => {
                    let left = accepted.evicted.into_iter().chain(accepted.replaced);
                    state.cross_out(left);
                    state.write_down(&hash, bytes, origin);
                    let pending = accepted.subpool == Subpool::Pending;
                    let on = pending || accepted.replaced.is_none();
                    let forward = self.forward.get();
                    let forward = forward.filter(|_| on && origin == Origin::Local);
                    if forward.is_some() {
                        state.mempool.mark_sent(&hash);
                    }
                    let wake = !state.gathering || state.is_full();
                    drop(state);
                    if wake {
                        self.wake.notify_one();
                    }
                    if pending {
                        self.ledger.expect(candidate.transaction());
                    }
                    if let Some(forward) = forward
                        && !forward(bytes, 0)
                    {
                        self.lock().mempool.mark_unsent(&hash);
                    }
                    return Ok((Progress::Accepted(accepted.ticket), on));
                }
                Err(AdmissionError::Known) => {}
                Err(error) => {
                    drop(state);
                    return refuse(refusal(error));
                }
            }
        }
        Err(SubmitError::TryAgainLater(
            "the sender's transactions keep changing".to_owned(),
        ))
    }

    fn main(&self, gather: Duration) {
        let failure = match catch_unwind(AssertUnwindSafe(|| self.make_blocks(gather))) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(panic) => Some(format!("block production panicked: {}", describe(&*panic))),
        };
        match failure {
            Some(reason) => self.fail(reason),
            None => self.forget(),
        }
    }

    fn fail(&self, reason: String) {
        let height = self.ledger.head().height;
        let state = self.lock();
        tracing::error!(
            height,
            reason,
            "block production has failed; nothing is accepted any more"
        );
        self.health.send_replace(Health::Failed(reason));
        drop(state);
        self.forget();
    }

    /// Sends to others again what waits for a block and may not have arrived there.
    fn resend(&self) {
        let Some(forward) = self.forward.get() else {
            return;
        };
        let mut state = self.lock();
        let height = state.mempool.height();
        let waiting = state
            .mempool
            .resend(RESEND_AFTER, RESEND_TRANSACTIONS, RESEND_BYTES);
        drop(state);
        for signed in waiting {
            if !forward(&slackline_executor::encode(&*signed), height) {
                self.lock().mempool.mark_unsent(&signed.hash());
            }
        }
    }

    /// Closes the tickets. Health says why before they close. What was written down stays, whatever is committed after this.
    fn forget(&self) {
        let mut state = self.lock();
        state.journal = None;
        let (limits, height) = (state.mempool.limits(), state.mempool.height());
        state.mempool = Mempool::new(limits, height, state.mempool.base_price());
    }

    fn make_blocks(&self, gather: Duration) -> Result<(), String> {
        let limits = BatchLimits {
            fuel: self
                .ledger
                .params()
                .limits
                .block_fuel
                .saturating_mul(OVERBOOKED),
            transactions: BLOCK_TRANSACTIONS,
            bytes: BLOCK_BYTES,
        };
        let mut gather_until = None;
        loop {
            let batch = {
                let waiting = self.wake.wait_while(self.lock(), |state| {
                    !state.stopping && !state.mempool.has_waiting()
                });
                let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
                if let Some(until) = gather_until {
                    state = self.gather(state, until);
                }
                if state.stopping {
                    return Ok(());
                }
                state.mempool.take_batch(limits)
            };
            let started = Instant::now();
            gather_until = (batch.len() >= GATHER_FROM).then(|| started + gather);
            let transactions: Vec<SignedTransaction> =
                batch.iter().map(|signed| (**signed).clone()).collect();
            let senders: Vec<(Hash, Address)> = transactions
                .iter()
                .map(|signed| (signed.hash(), signed.transaction.sender_address()))
                .collect();
            // The clock of the machine may go backwards; the chain's does not.
            let timestamp_ms = now_ms().max(self.ledger.head().timestamp_ms);
            let produced = self
                .ledger
                .produce_block(transactions, timestamp_ms)
                .map_err(|error| error.to_string())?;
            let height = produced.header.height;
            tracing::info!(
                height,
                transactions = produced.receipts.len(),
                dropped = produced.dropped.len(),
                left = produced.left.len(),
                fuel = produced.header.fuel_used,
                elapsed_us = started.elapsed().as_micros() as u64,
                "block"
            );
            let left: BTreeSet<Hash> = produced.left.iter().copied().collect();
            self.settle(produced, &senders)
                .map_err(|error| error.to_string())?;
            let mut state = self.lock();
            let mut hashes = batch.iter().map(|signed| signed.hash());
            let lost = |hash: &Hash| !left.contains(hash) && state.mempool.get(hash).is_some();
            if let Some(hash) = hashes.find(lost) {
                return Err(format!(
                    "block {height} neither includes nor drops transaction {hash}"
                ));
            }
            state.mempool.release();
        }
    }

    /// Waits until a block is full, until `until`, or until it is to stop.
    fn gather<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        let patience = until.saturating_duration_since(Instant::now());
        state.gathering = true;
        let gathered = self
            .wake
            .wait_timeout_while(state, patience, |state| !state.stopping && !state.is_full());
        let (mut state, _timeout) = gathered.unwrap_or_else(PoisonError::into_inner);
        state.gathering = false;
        state
    }

    fn settle(&self, produced: Produced, senders: &[(Hash, Address)]) -> Result<(), StoreError> {
        let header = produced.header;
        let receipts: Vec<_> = produced.receipts.into_iter().map(Arc::new).collect();
        let included: Vec<_> = receipts
            .iter()
            .map(|receipt| (receipt.transaction, receipt.clone()))
            .collect();
        let mut state = self.lock();
        let mut orphaned = BTreeSet::new();
        let refused: Vec<_> = produced
            .dropped
            .into_iter()
            .map(|(hash, error)| {
                tracing::warn!(%hash, %error, height = header.height, "transaction left out of the block");
                if let Some(signed) = state.mempool.get(&hash) {
                    orphaned.insert(signed.transaction.sender_address());
                }
                (hash, Arc::new(error))
            })
            .collect();
        let accounts: Vec<Address> = senders.iter().map(|(_, sender)| *sender).collect();
        let block = Committed {
            height: header.height,
            base_price: self.ledger.base_price(),
            included: &included,
            refused: &refused,
            senders: &accounts,
        };
        let known = Known(&*self.ledger);
        let store = |error| match error {
            AdmitError::Store(error) => error,
            other => StoreError::Damaged(other.to_string()),
        };
        let settled = state.mempool.on_block(&block, &known).map_err(store)?;
        let mut dropped = settled.dropped;
        // Those that come after one that was refused are not going to be applied.
        for sender in orphaned {
            let account = known.account(&sender).map_err(store)?;
            dropped.extend(state.mempool.realign(&sender, account));
        }
        state.cross_out(dropped.iter().map(|(hash, _)| *hash));
        state.tidy();
        drop(state);
        let senders: BTreeMap<_, _> = senders.iter().copied().collect();
        let receipts = receipts.into_iter().map(|receipt| {
            let sender = senders.get(&receipt.transaction).copied();
            (sender.unwrap_or_default(), receipt)
        });
        let receipts = receipts.collect();
        // An error says that nobody listens.
        let _ = self.news.send(Arc::new(News { header, receipts }));
        Ok(())
    }
}

impl State {
    /// Whether what waits may fill a block.
    fn is_full(&self) -> bool {
        self.mempool.len() >= BLOCK_TRANSACTIONS
    }

    /// A journal that cannot be written costs the pending transactions at a restart, not the node.
    fn write_down(&mut self, hash: &Hash, bytes: &[u8], origin: Origin) {
        let expires = self.mempool.expires(hash).unwrap_or(u64::MAX);
        let Some(journal) = &mut self.journal else {
            return;
        };
        let record = Record {
            origin,
            expires,
            bytes: bytes.to_vec(),
        };
        match journal.append(&record) {
            Ok(true) => {}
            Ok(false) => compact(journal, &self.mempool),
            Err(error) => tracing::warn!(%error, "a pending transaction is not written down"),
        }
    }

    /// Whoever waits for these has been told that they are in no block: so that must not change with a restart.
    fn cross_out(&mut self, dropped: impl IntoIterator<Item = Hash>) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let dropped: Vec<Hash> = dropped.into_iter().collect();
        match journal.cross_out(&dropped) {
            Ok(true) => {}
            Ok(false) => compact(journal, &self.mempool),
            Err(error) => tracing::warn!(%error, "dropped transactions are not crossed out"),
        }
    }

    /// Whether to pass on what is known here and has come again: if it may be news to others. No more in the time of a block than this node itself sends again.
    fn pass_on(&mut self, hash: &Hash) -> bool {
        let height = self.mempool.height();
        if self.passed_on.height != height {
            self.passed_on = PassedOn {
                height,
                ..PassedOn::default()
            };
        }
        let passed = &mut self.passed_on;
        if passed.transactions >= RESEND_TRANSACTIONS || passed.bytes >= RESEND_BYTES {
            return false;
        }
        let Some(bytes) = self.mempool.stale(hash, RESEND_AFTER / 2) else {
            return false;
        };
        passed.transactions += 1;
        passed.bytes += bytes;
        self.mempool.mark_sent(hash);
        true
    }

    fn tidy(&mut self) {
        if let Some(journal) = &mut self.journal
            && journal.is_stale(self.mempool.bytes())
        {
            compact(journal, &self.mempool);
        }
    }
}

fn compact(journal: &mut Journal, mempool: &Mempool<Receipt, AdmitError>) {
    let records = mempool.iter().map(|(signed, origin, expires)| Record {
        origin,
        expires,
        bytes: slackline_executor::encode(&*signed),
    });
    if let Err(error) = journal.compact(records) {
        tracing::warn!(%error, "pending transactions are not written down");
    }
}

/// What a client is told.
fn refusal(error: AdmissionError<AdmitError>) -> SubmitError {
    let later = |error: AdmissionError<AdmitError>| SubmitError::TryAgainLater(error.to_string());
    match error {
        AdmissionError::State(AdmitError::Store(error)) => SubmitError::Store(error),
        AdmissionError::State(error) => error.into(),
        AdmissionError::FuelPriceTooLow { base_price, got } => {
            AdmitError::FuelPriceTooLow { base_price, got }.into()
        }
        AdmissionError::NonceUsed { expected, got } => {
            AdmitError::NonceTooLow { expected, got }.into()
        }
        AdmissionError::NonceGap { expected, got, .. } => {
            AdmitError::NonceTooHigh { expected, got }.into()
        }
        AdmissionError::InsufficientBalance { needed, available } => {
            AdmitError::InsufficientBalance { needed, available }.into()
        }
        AdmissionError::ReplacementUnderpriced {
            waiting,
            fuel_price,
            tip,
        } => SubmitError::Underpriced {
            waiting,
            fuel_price,
            tip,
        },
        error @ (AdmissionError::Known
        | AdmissionError::Expired { .. }
        | AdmissionError::Executing { .. }
        | AdmissionError::SenderFull { .. }
        | AdmissionError::Full { .. }) => later(error),
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
    use std::sync::atomic::{AtomicBool, Ordering};
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
        /// What was said to be in a block soon.
        expected: Vec<Hash>,
        /// Counts admissions; the next ones see the account's nonce move in between.
        admissions: usize,
        moves: usize,
        /// How many signatures were to be verified together, each time.
        verified: Vec<usize>,
    }

    enum Order {
        Include,
        Leave,
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
        fn base_price(&self) -> u64 {
            1
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
                balance: 1_000_000,
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
        fn verify(&self, transactions: &[&SignedTransaction]) {
            self.inner().verified.push(transactions.len());
        }
        fn screen(&self, _: &SignedTransaction) -> Result<(), AdmitError> {
            Ok(())
        }
        fn expect(&self, transaction: &SignedTransaction) {
            self.inner().expected.push(transaction.hash());
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
            let (mut receipts, mut dropped, mut left) = (Vec::new(), Vec::new(), Vec::new());
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
                    Order::Leave => left.push(hash),
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
                left,
                stats: slackline_executor::BlockStats::default(),
            })
        }
    }

    fn transfer(key: &Key, nonce: u64) -> Vec<u8> {
        paying(key, nonce, 1, 0)
    }

    fn paying(key: &Key, nonce: u64, fuel_price: u64, tip: u64) -> Vec<u8> {
        let transaction = Transaction {
            chain_id: 1,
            sender: key.public(),
            nonce,
            fuel_limit: 10,
            fuel_price,
            tip,
            deposit_limit: 0,
            action: Action::Transfer {
                to: Address::default(),
                amount: 0,
            },
        };
        borsh::to_vec(&transaction.sign(key.signing())).expect("encoded")
    }

    fn submit(producer: &Producer<Fake>, bytes: &[u8]) -> Result<Progress, SubmitError> {
        let decoded = producer.decode(bytes.to_vec()).expect("decoded");
        producer.submit(&[decoded]).remove(0)
    }

    fn accept(producer: &Producer<Fake>, bytes: &[u8]) -> Ticket {
        match submit(producer, bytes).expect("accepted") {
            Progress::Accepted(ticket) => ticket,
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
        let producer = Producer::start(fake.clone(), Limits::default()).expect("thread");
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        assert_eq!(blocks.recv().expect("block"), 1);
        // These wait while the first is being executed.
        let second = accept(&producer, &transfer(&key, 1));
        let third = accept(&producer, &transfer(&key, 2));
        for nonce in 0..3 {
            let progress = submit(&producer, &transfer(&key, nonce)).expect("known");
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
        let first = producer.decode(transfer(&key, 0)).expect("decoded");
        let progress = producer.submit(std::slice::from_ref(&first)).remove(0);
        let Ok(Progress::Included(receipt)) = progress else {
            panic!("{progress:?}")
        };
        assert_eq!(receipt.transaction, first.hash());
        assert_eq!(producer.stats().transactions, 0);
        // The chain's clock does not go backwards even if the machine's does.
        assert!(fake.inner().blocks.iter().all(|(_, time)| *time == 1 << 50));
    }

    #[test]
    fn what_comes_together_is_verified_together_and_accepted_in_order() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer = Producer::start(fake.clone(), Limits::default()).expect("thread");
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        assert_eq!(blocks.recv().expect("block"), 1);
        let nonces = [0, 1, 2, 4, 3];
        let decoded: Vec<Decoded> = nonces
            .iter()
            .map(|nonce| producer.decode(transfer(&key, *nonce)).expect("decoded"))
            .collect();
        let answers = producer.submit(&decoded);
        // The one that waits is not verified again.
        assert_eq!(fake.inner().verified, [4]);
        let mut tickets = vec![first];
        for (nonce, answer) in nonces.into_iter().zip(answers) {
            match (nonce, answer) {
                (0, Ok(Progress::Waiting(ticket))) => tickets.push(ticket),
                (1..=3, Ok(Progress::Accepted(ticket))) => tickets.push(ticket),
                (
                    4,
                    Err(SubmitError::Refused(AdmitError::NonceTooHigh {
                        expected: 3,
                        got: 4,
                    })),
                ) => {}
                other => panic!("{other:?}"),
            }
        }
        orders.send(Order::Include).expect("sent");
        assert_eq!(blocks.recv().expect("block"), 3);
        orders.send(Order::Include).expect("sent");
        for ticket in tickets {
            assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
        }
    }

    #[test]
    fn where_others_bring_transactions_a_gap_is_waited_for() {
        let fake = Fake::new();
        let producer = Producer::passive(fake, Limits::default());
        let key = Key::from_seed([1; 32]);
        let gap = |expected, got| {
            let error = submit(&producer, &transfer(&key, got)).expect_err("a gap");
            let SubmitError::Refused(AdmitError::NonceTooHigh {
                expected: e,
                got: g,
            }) = error
            else {
                panic!("{error}")
            };
            assert_eq!((e, g), (expected, got));
        };
        let missing = |nonce| {
            let decoded = producer.decode(transfer(&key, nonce)).expect("decoded");
            producer.missing_nonce(&decoded.hash())
        };
        accept(&producer, &transfer(&key, 0));
        gap(1, 3);
        producer.forward_to(|_, _| true);
        accept(&producer, &transfer(&key, 3));
        assert_eq!((missing(0), missing(3)), (None, Some(1)));
        gap(1, 1_000);
        accept(&producer, &transfer(&key, 1));
        assert_eq!((missing(1), missing(3)), (None, Some(2)));
        accept(&producer, &transfer(&key, 2));
        assert_eq!(missing(3), None);
        assert_eq!(producer.next_nonce(&key.address(), 0), 4);
    }

    /// Blocks with these of the transactions that wait in the first one, and with nothing in the others.
    fn commit(producer: &Producer<Fake>, fake: &Fake, transactions: &[Vec<u8>], blocks: u64) {
        let mut transactions: Vec<SignedTransaction> = transactions
            .iter()
            .map(|bytes| fake.decode(bytes).expect("decoded"))
            .collect();
        for _ in 0..blocks {
            let transactions = std::mem::take(&mut transactions);
            let each = transactions.iter();
            let senders: Vec<_> = each
                .map(|signed| (signed.hash(), signed.transaction.sender_address()))
                .collect();
            let produced = fake.produce_block(transactions, 0).expect("a block");
            producer.committed(produced, &senders).expect("state");
        }
    }

    /// What goes to other nodes, with its edition; as long as `taken`.
    fn sent(producer: &Producer<Fake>, taken: Arc<AtomicBool>) -> impl Fn() -> Vec<(Vec<u8>, u64)> {
        let (give, got) = mpsc::channel();
        producer.forward_to(move |bytes, edition| {
            give.send((bytes.to_vec(), edition)).expect("test listens");
            taken.load(Ordering::Relaxed)
        });
        move || got.try_iter().collect()
    }

    #[test]
    fn what_waits_goes_to_other_nodes_again_until_it_is_in_a_block() {
        let fake = Fake::new();
        let producer = Producer::passive(fake.clone(), Limits::default());
        let taken = Arc::new(AtomicBool::new(true));
        let sent = sent(&producer, taken.clone());
        let key = Key::from_seed([1; 32]);
        let [first, second] = [0, 1].map(|nonce| transfer(&key, nonce));
        accept(&producer, &first);
        assert_eq!(sent(), [(first.clone(), 0)]);
        // It is not sent again because somebody asks again.
        submit(&producer, &first).expect("known");
        commit(&producer, &fake, &[], RESEND_AFTER - 1);
        assert_eq!(sent(), []);
        // There is no room for this one: it is tried again after each block.
        taken.store(false, Ordering::Relaxed);
        accept(&producer, &second);
        assert_eq!(sent(), [(second.clone(), 0)]);
        commit(&producer, &fake, &[], 1);
        assert_eq!(
            sent(),
            [
                (second.clone(), RESEND_AFTER),
                (first.clone(), RESEND_AFTER)
            ]
        );
        taken.store(true, Ordering::Relaxed);
        commit(&producer, &fake, &[], 1);
        let height = RESEND_AFTER + 1;
        assert_eq!(sent(), [(first.clone(), height), (second.clone(), height)]);
        commit(&producer, &fake, &[first], RESEND_AFTER);
        assert_eq!(sent(), [(second.clone(), height + RESEND_AFTER)]);
        commit(&producer, &fake, &[second], 3 * RESEND_AFTER);
        assert_eq!(sent(), []);
    }

    #[test]
    fn what_was_written_down_goes_to_other_nodes_after_a_start() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("journal");
        let key = Key::from_seed([1; 32]);
        let own = transfer(&key, 0);
        let peers = transfer(&Key::from_seed([2; 32]), 0);
        let start = |fake: &Arc<Fake>| {
            let producer = Producer::passive(fake.clone(), Limits::default());
            let (journal, recovered) = Journal::open(&path, 1 << 20).expect("opened");
            let count = producer.recover(journal, recovered.records);
            (producer, count)
        };
        let fake = Fake::new();
        let (producer, _) = start(&fake);
        accept(&producer, &own);
        let decoded = producer.decode(peers).expect("decoded");
        assert!(matches!(
            producer.submit_from_peer(&[decoded])[..],
            [Ok(true)]
        ));
        drop(producer);
        let (producer, count) = start(&fake);
        assert_eq!(count, 2);
        let sent = sent(&producer, Arc::new(AtomicBool::new(true)));
        commit(&producer, &fake, &[], 1);
        assert_eq!(sent(), [(own, 1)]);
        commit(&producer, &fake, &[], 1);
        assert_eq!(sent(), []);
    }

    #[test]
    fn what_is_known_is_passed_on_again_now_and_then() {
        let fake = Fake::new();
        let producer = Producer::passive(fake.clone(), Limits::default());
        let sent = sent(&producer, Arc::new(AtomicBool::new(true)));
        let come = |bytes: &[u8]| {
            let decoded = producer.decode(bytes.to_vec()).expect("decoded");
            producer.submit_from_peer(&[decoded]).remove(0)
        };
        let key = Key::from_seed([1; 32]);
        let first = transfer(&key, 0);
        assert!(matches!(come(&first), Ok(true)));
        assert!(matches!(come(&first), Ok(false)));
        commit(&producer, &fake, &[], RESEND_AFTER / 2);
        assert!(matches!(come(&first), Ok(true)));
        assert!(matches!(come(&first), Ok(false)));
        // Behind a gap it is of no use to others now, and what replaces it there costs nothing.
        assert!(matches!(come(&transfer(&key, 2)), Ok(true)));
        commit(&producer, &fake, &[], RESEND_AFTER);
        assert!(matches!(come(&transfer(&key, 2)), Ok(false)));
        assert!(matches!(come(&paying(&key, 2, 2, 1)), Ok(false)));
        accept(&producer, &paying(&key, 2, 3, 2));
        assert_eq!(sent(), []);
        // So many in the time of a block.
        let all: Vec<Vec<u8>> = (0..=RESEND_TRANSACTIONS)
            .map(|n| {
                let mut seed = [7; 32];
                seed[..8].copy_from_slice(&n.to_le_bytes());
                transfer(&Key::from_seed(seed), 0)
            })
            .collect();
        for bytes in &all {
            assert!(matches!(come(bytes), Ok(true)));
        }
        commit(&producer, &fake, &[], RESEND_AFTER);
        let on = all.iter().filter(|bytes| matches!(come(bytes), Ok(true)));
        assert_eq!(on.count(), RESEND_TRANSACTIONS);
        commit(&producer, &fake, &[], 1);
        let on = all.iter().filter(|bytes| matches!(come(bytes), Ok(true)));
        assert_eq!(on.count(), 1);
        // A client has brought it here too: from here on it is for this node to send.
        assert!(matches!(
            submit(&producer, &first),
            Ok(Progress::Waiting(_))
        ));
        commit(&producer, &fake, &[], 1);
        let height = fake.inner().height;
        assert_eq!(sent(), [(first, height)]);
    }

    #[test]
    fn what_the_mempool_would_not_have_is_not_looked_at_and_what_no_block_can_have_not_prepared() {
        let fake = Fake::new();
        let limits = Limits {
            transactions: 3,
            sender_transactions: 2,
            ..Limits::default()
        };
        let producer = Producer::passive(fake.clone(), limits);
        producer.forward_to(|_, _| true);
        let key = Key::from_seed([1; 32]);
        let admissions = || fake.inner().admissions;
        let error = submit(&producer, &transfer(&key, 1_000_000_000)).expect_err("far ahead");
        assert!(
            matches!(
                error,
                SubmitError::Refused(AdmitError::NonceTooHigh { expected: 0, .. })
            ),
            "{error}"
        );
        assert_eq!(admissions(), 0);
        for nonce in [1, 0] {
            accept(&producer, &paying(&key, nonce, 5, 5));
        }
        let first = producer.decode(paying(&key, 0, 5, 5)).expect("decoded");
        assert_eq!(fake.inner().expected, [first.hash()]);
        assert_eq!(admissions(), 2);
        for (bytes, said) in [
            (paying(&key, 0, 5, 6), "to replace it takes"),
            (paying(&key, 2, 5, 5), "no more is accepted"),
        ] {
            let error = submit(&producer, &bytes).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
        accept(&producer, &transfer(&Key::from_seed([2; 32]), 0));
        assert_eq!(admissions(), 3);
        let error = submit(&producer, &transfer(&Key::from_seed([3; 32]), 0)).expect_err("full");
        assert!(error.to_string().contains("is full"), "{error}");
        assert_eq!(admissions(), 3);
    }

    #[test]
    fn after_a_failure_what_was_written_down_stays() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("journal");
        let fake = Fake::new();
        let producer = Producer::passive(fake.clone(), Limits::default());
        let (journal, _) = Journal::open(&path, 4 << 20).expect("opened");
        producer.recover(journal, Vec::new());
        // So much that an empty mempool would have it compacted.
        let key = Key::from_seed([1; 32]);
        let long = |nonce| {
            let mut transaction = fake
                .decode(&transfer(&key, nonce))
                .expect("decoded")
                .transaction;
            transaction.action = Action::Deploy {
                code: vec![0; 600 << 10],
                input: Vec::new(),
                value: 0,
            };
            borsh::to_vec(&transaction.sign(key.signing())).expect("encoded")
        };
        for nonce in 0..2 {
            accept(&producer, &long(nonce));
        }
        let before = std::fs::read(&path).expect("read");
        assert!(before.len() > 1 << 20);
        producer.fail("on purpose".to_owned());
        commit(&producer, &fake, &[], 1);
        assert!(before == std::fs::read(&path).expect("read"));
    }

    #[test]
    fn what_was_dropped_does_not_come_back_with_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("journal");
        let limits = Limits {
            transactions: 3,
            ..Limits::default()
        };
        let start = |fake: &Arc<Fake>| {
            let producer = Producer::passive(fake.clone(), limits);
            let (journal, recovered) = Journal::open(&path, 1 << 20).expect("opened");
            let count = producer.recover(journal, recovered.records);
            (producer, count)
        };
        let fake = Fake::new();
        let (producer, _) = start(&fake);
        let keys = [1, 2, 3, 4].map(|seed| Key::from_seed([seed; 32]));
        // One is replaced, then one evicted, then one refused.
        let replaced = accept(&producer, &paying(&keys[0], 0, 2, 2));
        accept(&producer, &paying(&keys[0], 0, 5, 5));
        let refused = accept(&producer, &paying(&keys[1], 0, 9, 9));
        let decoded = producer.decode(paying(&keys[2], 0, 3, 3)).expect("decoded");
        let evicted = decoded.hash();
        assert!(matches!(
            producer.submit_from_peer(&[decoded])[..],
            [Ok(true)]
        ));
        accept(&producer, &paying(&keys[3], 0, 4, 4));
        assert!(matches!(
            verdict(replaced),
            Some(Verdict::Dropped(Dropped::Replaced { .. }))
        ));
        assert!(producer.pending(&evicted).is_none());
        let second = producer.decode(paying(&keys[1], 0, 9, 9)).expect("decoded");
        producer.refuse(vec![(second.hash(), AdmitError::BadSignature)]);
        assert!(matches!(
            verdict(refused),
            Some(Verdict::Dropped(Dropped::Refused(_)))
        ));
        drop(producer);
        // The one in whose favour the first was dropped could not be taken any more: that does not bring the first back.
        let (producer, count) = start(&fake);
        assert_eq!(count, 2);
        for (key, price) in [(&keys[0], 5), (&keys[3], 4)] {
            let waiting = producer
                .decode(paying(key, 0, price, price))
                .expect("decoded");
            assert!(producer.pending(&waiting.hash()).is_some());
        }
    }

    #[test]
    fn admission_starts_again_when_the_account_moves() {
        let fake = Fake::new();
        let producer = Producer::start(fake.clone(), Limits::default()).expect("thread");
        let key = Key::from_seed([1; 32]);
        fake.inner().moves = 2;
        // The first look sees another account than before: had it been believed, this would be refused for a nonce too high. The second finds it
        // where it has moved to.
        let ticket = accept(&producer, &transfer(&key, 2));
        assert_eq!(fake.inner().admissions, 2);
        assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
        fake.inner().moves = usize::MAX;
        let error = submit(&producer, &transfer(&key, 60)).expect_err("never at rest");
        assert!(matches!(error, SubmitError::TryAgainLater(_)), "{error}");
    }

    #[test]
    fn the_same_transaction_submitted_twice_at_once_is_no_error() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer = Producer::start(fake.clone(), Limits::default()).expect("thread");
        let producer = Arc::new(producer);
        let bytes = transfer(&Key::from_seed([1; 32]), 0);
        let (other, same) = (producer.clone(), bytes.clone());
        // When neither has found it in the mempool, one is accepted; the other is refused for its nonce.
        *fake.meanwhile.lock().expect("lock") = Some(Box::new(move || {
            accept(&other, &same);
        }));
        let progress = submit(&producer, &bytes).expect("known by now");
        let Progress::Waiting(ticket) = progress else {
            panic!("{progress:?}")
        };
        assert_eq!(blocks.recv().expect("block"), 1);
        orders.send(Order::Include).expect("sent");
        assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
    }

    #[test]
    fn what_a_block_has_no_room_for_waits_for_the_next_one() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer = Producer::start(fake, Limits::default()).expect("thread");
        let ticket = accept(&producer, &transfer(&Key::from_seed([1; 32]), 0));
        for order in [Order::Leave, Order::Leave, Order::Include] {
            assert_eq!(blocks.recv().expect("block"), 1);
            orders.send(order).expect("sent");
        }
        assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
    }

    #[test]
    fn dropped_transactions_are_told_and_their_successors_too() {
        let (fake, (blocks, orders)) = Fake::gated();
        let producer = Producer::start(fake, Limits::default()).expect("thread");
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        blocks.recv().expect("block");
        let second = accept(&producer, &transfer(&key, 1));
        orders.send(Order::Drop).expect("sent");
        let Some(Verdict::Dropped(Dropped::Refused(error))) = verdict(first) else {
            panic!("not dropped")
        };
        assert!(matches!(*error, AdmitError::BadSignature));
        let Some(Verdict::Dropped(reason)) = verdict(second) else {
            panic!("not dropped")
        };
        assert!(matches!(
            reason,
            Dropped::Orphaned {
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
        let producer = Arc::new(Producer::start(fake.clone(), Limits::default()).expect("thread"));
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
            submit(&producer, &transfer(&key, 2)),
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
    fn after_a_large_block_the_next_one_gathers_until_it_is_full_or_to_stop() {
        let (fake, (blocks, orders)) = Fake::gated();
        let for_ever = Duration::from_secs(1 << 32);
        let producer =
            Producer::start_gathering(fake.clone(), Limits::default(), for_ever).expect("thread");
        let key = Key::from_seed([1; 32]);
        let mut nonces = 0..;
        let mut accept_some = |count: usize| -> Vec<Ticket> {
            let nonces = nonces.by_ref().take(count);
            nonces
                .map(|nonce| accept(&producer, &transfer(&key, nonce)))
                .collect()
        };
        let mut tickets = accept_some(1);
        assert_eq!(blocks.recv().expect("block"), 1);
        tickets.extend(accept_some(GATHER_FROM));
        orders.send(Order::Include).expect("sent");
        assert_eq!(blocks.recv().expect("block"), GATHER_FROM);
        orders.send(Order::Include).expect("sent");
        for ticket in tickets {
            assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
        }
        // All but one, then the last one: together.
        let mut tickets = accept_some(BLOCK_TRANSACTIONS - 1);
        tickets.extend(accept_some(1));
        assert_eq!(blocks.recv().expect("block"), BLOCK_TRANSACTIONS);
        orders.send(Order::Include).expect("sent");
        for ticket in tickets {
            assert!(matches!(verdict(ticket), Some(Verdict::Included(_))));
        }
        let waiting = accept_some(1);
        producer.stop();
        for ticket in waiting {
            assert!(verdict(ticket).is_none());
        }
        assert_eq!(fake.inner().blocks.len(), 3);
    }

    #[test]
    fn failures_stop_everything_and_say_so() {
        for (order, expected) in [
            (Order::Fail, "disk on fire"),
            (Order::Panic, "block production panicked: on purpose"),
            (Order::Forget, "neither includes nor drops"),
        ] {
            let (fake, (blocks, orders)) = Fake::gated();
            let producer = Producer::start(fake, Limits::default()).expect("thread");
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
            let error = submit(&producer, &transfer(&key, 0)).expect_err("failed");
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
        let limits = Limits {
            transactions: 1,
            ..Limits::default()
        };
        let producer = Producer::start(fake, limits).expect("thread");
        let key = Key::from_seed([1; 32]);
        let first = accept(&producer, &transfer(&key, 0));
        blocks.recv().expect("block");
        let error = submit(&producer, &transfer(&key, 1)).expect_err("full");
        assert!(matches!(error, SubmitError::TryAgainLater(_)), "{error}");
        orders.send(Order::Include).expect("sent");
        assert!(verdict(first).is_some());
        accept(&producer, &transfer(&key, 1));
        blocks.recv().expect("block");
        orders.send(Order::Include).expect("sent");
    }
}
