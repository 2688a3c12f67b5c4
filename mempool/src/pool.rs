//! The pool itself. See the [crate](crate).
//!
//! Invariants:
//! - `by_hash` and the senders' `entries` have the same transactions; `bytes` is the sum of their sizes; neither exceeds its limit;
//! - the executing entries of a sender are those that batches took and nobody settled or released; `executing` has them all;
//! - `ready` has the first pending entry that is not executing of every sender that has one: what a batch may start with;
//! - `tails` has the last entry of every sender, unless it is executing, committed, or safe: what may be evicted;
//! - safe are favoured ones that are pending and have none that is not favoured before them: so nothing else is kept for their sake. They
//!   are favoured from insertion on, within the limits of that;
//! - `outgoing` has all local ones;
//! - what `standing` and `worth` say, and both indices, is as `reindex` makes it from the account, the base price and the entries.

use crate::admission::Candidate;
use crate::error::{AdmissionError, DropReason};
use slackline_types::{Address, Hash, SignedTransaction};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use tokio::sync::watch;

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of transactions, those in a block under way included.
    pub transactions: usize,
    /// Sum of their sizes as submitted, in bytes.
    pub bytes: usize,
    /// Number of one sender's transactions.
    pub sender_transactions: usize,
    /// Sum of the sizes of one sender's transactions, in bytes.
    pub sender_bytes: usize,
    /// How far a nonce may be from the lowest one that is missing; 0 leaves no gaps.
    pub nonce_gap: u64,
    /// By how much the fuel price and the tip of a replacement must be higher, in percent.
    pub price_bump_percent: u32,
    /// How many local transactions at most are safe from eviction, with an eighth of `bytes` together at most.
    pub local: usize,
    /// For how many blocks a transaction waits.
    pub expiry_blocks: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            transactions: 10_000,
            bytes: 64 << 20,
            sender_transactions: 1_000,
            sender_bytes: 8 << 20,
            nonce_gap: 64,
            price_bump_percent: 10,
            local: 1_000,
            expiry_blocks: 3_600,
        }
    }
}

/// Who brought a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client of this node.
    Local,
    /// Another node.
    Peer,
}

/// What the pool needs to know of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountView {
    /// Number of transactions sent.
    pub nonce: u64,
    /// In the smallest unit of the currency.
    pub balance: u128,
}

/// Where a candidate would go.
struct Place {
    account: AccountView,
    needed: u128,
    expires: u64,
    worth: u64,
    /// Whose place it takes, and whether that is favoured.
    old: Option<(Hash, bool)>,
    /// It is pending, and may be favoured as far as those before it matter.
    next_to_favoured: bool,
    victims: Vec<Victim>,
}

/// The state after the last block, as far as the pool needs it. An account's nonce never decreases.
pub trait Accounts<E> {
    /// The account; the default one if there is none.
    ///
    /// # Errors
    ///
    /// The state could not be read.
    fn account(&self, address: &Address) -> Result<AccountView, E>;
}

/// Where a transaction waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subpool {
    /// A transaction before it is missing, or the account cannot pay for all up to it.
    Queued,
    /// The next batch may have it.
    Pending,
}

/// What became of a transaction that waited. `R` is a receipt, `E` the chain's error.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<R, E> {
    /// It is in a block that is on disk.
    Included(Arc<R>),
    /// It left the pool and is in no block that this node made or saw.
    Dropped(DropReason<E>),
}

impl<R, E> Clone for Verdict<R, E> {
    fn clone(&self) -> Self {
        match self {
            Verdict::Included(receipt) => Verdict::Included(receipt.clone()),
            Verdict::Dropped(reason) => Verdict::Dropped(reason.clone()),
        }
    }
}

/// Tells the verdict on one transaction: `None` until there is one. Closed without a verdict if the pool goes away first.
pub type Ticket<R, E> = watch::Receiver<Option<Verdict<R, E>>>;

/// A transaction is in the pool.
#[derive(Debug)]
pub struct Accepted<R, E> {
    /// Tells what becomes of it.
    pub ticket: Ticket<R, E>,
    /// Where it waits.
    pub subpool: Subpool,
    /// Whose place it took.
    pub replaced: Option<Hash>,
    /// Which ones had to leave for it.
    pub evicted: Vec<Hash>,
}

/// A sender's transactions that come before another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// How many.
    pub count: u64,
    /// The most that they may cost together, in the smallest unit of the currency. Saturates.
    pub cost: u128,
}

/// What a block may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Sum of the fuel limits.
    pub fuel: u64,
    /// Number of transactions.
    pub transactions: usize,
    /// Sum of the sizes, in bytes.
    pub bytes: usize,
}

/// A block that is on disk.
#[derive(Clone, Debug)]
pub struct Committed<'a, R, E> {
    /// Its height.
    pub height: u64,
    /// What a unit of fuel costs at least in the next one, in the smallest unit of the currency.
    pub base_price: u64,
    /// Its transactions with their receipts: all of them, whoever made the block.
    pub included: &'a [(Hash, Arc<R>)],
    /// Transactions of a batch that could not be applied and are in no block.
    pub refused: &'a [(Hash, Arc<E>)],
    /// The senders of all its transactions, those that are not in the pool too.
    pub senders: &'a [Address],
}

/// What a block did to the pool.
#[derive(Debug)]
pub struct Settled<E> {
    /// How many transactions left the pool as included.
    pub included: usize,
    /// Which ones left it for another reason.
    pub dropped: Vec<(Hash, DropReason<E>)>,
}

/// Counts of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Transactions.
    pub transactions: usize,
    /// Those that a batch has taken.
    pub executing: usize,
    /// Those that a batch may take, now or after others of the sender.
    pub pending: usize,
    /// Those behind a gap, or too expensive for the account for now.
    pub queued: usize,
    /// Sum of the sizes, in bytes.
    pub bytes: usize,
    /// Accounts with transactions.
    pub senders: usize,
    /// Local ones that are safe from eviction.
    pub favoured: usize,
    /// What may be there.
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The account's nonce is higher: it, or another with its nonce, is in a block that [`Mempool::on_block`] has not been told of.
    Committed,
    In(Subpool),
}

struct Entry<R, E> {
    transaction: Arc<SignedTransaction>,
    hash: Hash,
    bytes: usize,
    cost: u128,
    arrival: u64,
    origin: Origin,
    favoured: bool,
    safe: bool,
    expires: u64,
    /// The pool's height when others were last sent it; `None` if never.
    sent: Option<u64>,
    executing: bool,
    standing: Standing,
    worth: u64,
    verdict: watch::Sender<Option<Verdict<R, E>>>,
}

/// Order of a batch: the least first.
type Rank = (Reverse<u64>, Reverse<u64>, u64);
/// Order of eviction: the least first, of equal ones the latest.
type Tail = (Subpool, u64, Reverse<u64>);

struct Sender<R, E> {
    account: AccountView,
    /// The account's nonce when the pool was last told of a block: what is below has its verdict or deserves one.
    settled: u64,
    entries: BTreeMap<u64, Entry<R, E>>,
    bytes: usize,
    /// The first nonce from the account's on that is not there.
    missing: u64,
    pending: usize,
    rank: Option<(Rank, u64)>,
    tail: Option<Tail>,
    /// Something is queued for want of money only.
    starved: bool,
}

/// See the [crate](crate).
pub struct Mempool<R, E> {
    limits: Limits,
    height: u64,
    base_price: u64,
    by_hash: HashMap<Hash, (Address, u64)>,
    // In order of addresses, so that what a block drops is told in the same order everywhere.
    senders: BTreeMap<Address, Sender<R, E>>,
    ready: BTreeSet<(Rank, Address, u64)>,
    tails: BTreeSet<(Tail, Address)>,
    executing: BTreeSet<(Address, u64)>,
    starved: BTreeSet<Address>,
    /// The last of them that a block looked at.
    looked_at: Option<Address>,
    /// By the last height and arrival.
    expiry: BTreeMap<(u64, u64), (Address, u64)>,
    /// Local ones by when they were last sent, and arrival.
    outgoing: BTreeMap<(Option<u64>, u64), (Address, u64)>,
    bytes: usize,
    pending: usize,
    favoured: usize,
    favoured_bytes: usize,
    arrivals: u64,
}

impl<R, E> fmt::Debug for Mempool<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

fn rank(price: u64, tip: u64, arrival: u64) -> Rank {
    (Reverse(price), Reverse(tip), arrival)
}

/// `value` and `percent` of it, rounded up.
fn bumped(value: u64, percent: u32) -> u64 {
    let more = (u128::from(value) * u128::from(percent)).div_ceil(100);
    u64::try_from(u128::from(value) + more).unwrap_or(u64::MAX)
}

impl<R, E> Entry<R, E> {
    /// Whether a batch may have it that has not taken it.
    fn is_pending(&self) -> bool {
        !self.executing && self.standing == Standing::In(Subpool::Pending)
    }

    fn evictable(&self) -> Option<Tail> {
        match self.standing {
            Standing::In(subpool) if !self.executing && !self.safe => {
                Some((subpool, self.worth, Reverse(self.arrival)))
            }
            _ => None,
        }
    }
}

impl<R, E> Mempool<R, E> {
    /// An empty pool, for the block after the one of height `height`, whose base price is `base_price`.
    pub fn new(limits: Limits, height: u64, base_price: u64) -> Mempool<R, E> {
        Mempool {
            limits,
            height,
            base_price,
            by_hash: HashMap::new(),
            senders: BTreeMap::new(),
            ready: BTreeSet::new(),
            tails: BTreeSet::new(),
            executing: BTreeSet::new(),
            starved: BTreeSet::new(),
            looked_at: None,
            expiry: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            bytes: 0,
            pending: 0,
            favoured: 0,
            favoured_bytes: 0,
            arrivals: 0,
        }
    }

    /// What the pool may hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Height of the last block that the pool was told of.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The base price of the next block, in the smallest unit of the currency.
    pub fn base_price(&self) -> u64 {
        self.base_price
    }

    /// Number of transactions, waiting or executing.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is no transaction at all.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Sum of the sizes of the transactions, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of transactions that a batch has taken and that are neither settled nor released.
    pub fn executing(&self) -> usize {
        self.executing.len()
    }

    /// Whether a batch would have anything.
    pub fn has_waiting(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Counts of what is there.
    pub fn stats(&self) -> Stats {
        Stats {
            transactions: self.len(),
            executing: self.executing(),
            pending: self.pending,
            queued: self.len() - self.pending - self.executing(),
            bytes: self.bytes,
            senders: self.senders.len(),
            favoured: self.favoured,
            limits: self.limits,
        }
    }

    fn entry(&self, hash: &Hash) -> Option<&Entry<R, E>> {
        let (address, nonce) = self.by_hash.get(hash)?;
        self.senders.get(address)?.entries.get(nonce)
    }

    /// The transaction, if it is waiting or executing.
    pub fn get(&self, hash: &Hash) -> Option<Arc<SignedTransaction>> {
        self.entry(hash).map(|entry| entry.transaction.clone())
    }

    /// Watches a transaction that is in the pool.
    pub fn watch(&self, hash: &Hash) -> Option<Ticket<R, E>> {
        self.entry(hash).map(|entry| entry.verdict.subscribe())
    }

    /// The last height at which a transaction of the pool waits.
    pub fn expires(&self, hash: &Hash) -> Option<u64> {
        self.entry(hash).map(|entry| entry.expires)
    }

    /// Others have just been sent the transaction.
    pub fn mark_sent(&mut self, hash: &Hash) {
        self.set_sent(hash, Some(self.height));
    }

    /// It was not possible to send it to others.
    pub fn mark_unsent(&mut self, hash: &Hash) {
        self.set_sent(hash, None);
    }

    fn set_sent(&mut self, hash: &Hash, sent: Option<u64>) {
        let Some(place) = self.by_hash.get(hash).copied() else {
            return;
        };
        let sender = self.senders.get_mut(&place.0);
        if let Some(entry) = sender.and_then(|sender| sender.entries.get_mut(&place.1)) {
            let was = std::mem::replace(&mut entry.sent, sent);
            if self.outgoing.remove(&(was, entry.arrival)).is_some() {
                self.outgoing.insert((sent, entry.arrival), place);
            }
        }
    }

    /// A client has brought to this node a transaction that came from a peer: it is a local one from here on.
    pub fn adopt(&mut self, hash: &Hash) {
        let Some(place) = self.by_hash.get(hash).copied() else {
            return;
        };
        let sender = self.senders.get_mut(&place.0);
        if let Some(entry) = sender.and_then(|sender| sender.entries.get_mut(&place.1)) {
            entry.origin = Origin::Local;
            self.outgoing.insert((entry.sent, entry.arrival), place);
        }
    }

    /// Pending local transactions that others were last sent `after` blocks ago or earlier, or never: first those that were longest ago, as many as
    /// fit into `transactions` and `bytes`, one at least. They count as sent now. So do queued ones among them, which are of no use to anybody yet.
    /// O([`LOOKS`] log n).
    pub fn resend(
        &mut self,
        after: u64,
        transactions: usize,
        mut bytes: usize,
    ) -> Vec<Arc<SignedTransaction>> {
        let mut found: Vec<Arc<SignedTransaction>> = Vec::new();
        for _ in 0..LOOKS {
            let Some((&(sent, arrival), &place)) = self.outgoing.first_key_value() else {
                break;
            };
            if sent.is_some_and(|sent| sent.saturating_add(after) > self.height) {
                break;
            }
            let sender = self.senders.get_mut(&place.0);
            let Some(entry) = sender.and_then(|sender| sender.entries.get_mut(&place.1)) else {
                break;
            };
            if entry.is_pending() {
                if !found.is_empty() && (found.len() >= transactions || entry.bytes > bytes) {
                    break;
                }
                bytes = bytes.saturating_sub(entry.bytes);
                found.push(entry.transaction.clone());
            }
            entry.sent = Some(self.height);
            self.outgoing.remove(&(sent, arrival));
            self.outgoing.insert((entry.sent, arrival), place);
        }
        found
    }

    /// The size of a pending transaction that this node was not sent, and did not send, for `after` blocks, in bytes.
    pub fn stale(&self, hash: &Hash, after: u64) -> Option<usize> {
        let entry = self.entry(hash).filter(|entry| entry.is_pending())?;
        let recent = |sent: u64| sent.saturating_add(after) > self.height;
        (!entry.sent.is_some_and(recent)).then_some(entry.bytes)
    }

    /// All transactions with origin and last height, in order of arrival: to write them down or to forward them.
    pub fn iter(&self) -> impl Iterator<Item = (Arc<SignedTransaction>, Origin, u64)> {
        let mut all: Vec<_> = self
            .senders
            .values()
            .flat_map(|sender| sender.entries.values())
            .collect();
        all.sort_unstable_by_key(|entry| entry.arrival);
        all.into_iter()
            .map(|entry| (entry.transaction.clone(), entry.origin, entry.expires))
    }

    /// The sender's transactions with nonces below `nonce`, in order.
    pub fn below(&self, sender: &Address, nonce: u64) -> Vec<Arc<SignedTransaction>> {
        let entries = self.senders.get(sender).into_iter();
        entries
            .flat_map(|sender| sender.entries.range(..nonce))
            .map(|(_, entry)| entry.transaction.clone())
            .collect()
    }

    /// What comes before the sender's transaction with nonce `nonce`, if gaps are filled and the account's nonce is `account`: what a
    /// chain that knows no gaps has to assume as waiting when it checks that transaction.
    pub fn pending_before(&self, sender: &Address, account: u64, nonce: u64) -> Pending {
        let count = nonce.saturating_sub(account);
        let mut cost = 0u128;
        if let Some(sender) = self.senders.get(sender)
            && account < nonce
        {
            cost = sender
                .entries
                .range(account..nonce)
                .fold(0, |sum, (_, entry)| sum.saturating_add(entry.cost));
        }
        Pending { count, cost }
    }

    /// The nonce for the sender's next transaction, given the account's nonce: the lowest that nobody uses.
    pub fn next_nonce(&self, sender: &Address, account: u64) -> u64 {
        let mut next = account;
        if let Some(sender) = self.senders.get(sender) {
            // `missing` saves the walk unless the account is ahead of what the pool knows.
            next = next.max(if account <= sender.missing {
                sender.missing
            } else {
                account
            });
            while sender.entries.contains_key(&next)
                && let Some(after) = next.checked_add(1)
            {
                next = after;
            }
        }
        next
    }

    /// The lowest effective price with which a new sender's transaction of `bytes` bytes gets in now: the base price, unless the pool is
    /// full. `None` if no price does.
    pub fn minimum_price(&self, bytes: usize) -> Option<u64> {
        if bytes > self.limits.bytes || self.limits.transactions == 0 {
            return None;
        }
        let victims = self.victims(1, bytes, None, None)?;
        let worst = victims
            .iter()
            .filter(|victim| victim.subpool == Subpool::Pending)
            .map(|victim| victim.worth)
            .max();
        worst.map_or(Some(self.base_price), |worth| {
            worth.checked_add(1).map(|price| price.max(self.base_price))
        })
    }

    /// Whether [`Mempool::insert`] would take in a transaction, as things are.
    ///
    /// # Errors
    ///
    /// See [`AdmissionError`].
    pub fn check<A: Accounts<E> + ?Sized>(
        &mut self,
        candidate: &Candidate,
        accounts: &A,
    ) -> Result<(), AdmissionError<E>> {
        self.place(candidate, accounts).map(drop)
    }

    /// Takes in a transaction, if its price, its sender's nonce and balance, and what is in the pool allow it.
    ///
    /// `accounts` is asked once for the sender. If it shows a block that [`Mempool::on_block`] is not told of yet, nothing is lost: what that
    /// block has in it waits for its verdict.
    ///
    /// # Errors
    ///
    /// See [`AdmissionError`]; the pool holds what it held then.
    pub fn insert<A: Accounts<E> + ?Sized>(
        &mut self,
        candidate: Candidate,
        origin: Origin,
        accounts: &A,
    ) -> Result<Accepted<R, E>, AdmissionError<E>> {
        let Place {
            account,
            needed,
            expires,
            worth,
            old,
            next_to_favoured,
            victims,
        } = self.place(&candidate, accounts)?;
        let Candidate {
            transaction,
            hash,
            sender: address,
            bytes,
            ..
        } = candidate;
        let nonce = transaction.transaction.nonce;
        // From here on nothing fails.
        let evicted: Vec<Hash> = victims.iter().map(|victim| victim.hash).collect();
        for victim in &victims {
            self.remove(
                &victim.hash,
                Verdict::Dropped(DropReason::Evicted {
                    by: hash,
                    price: worth,
                }),
            );
        }
        if let Some((old, _)) = &old {
            self.remove(old, Verdict::Dropped(DropReason::Replaced { by: hash }));
        }
        for victim in &victims {
            self.reindex(&victim.sender);
        }
        let favoured = (origin == Origin::Local || old.is_some_and(|(_, favoured)| favoured))
            && next_to_favoured
            && self.favoured < self.limits.local
            && self.favoured_bytes.saturating_add(bytes) <= self.limits.bytes / FAVOURED_SHARE;
        let arrival = self.arrivals;
        self.arrivals += 1;
        let sender = self.senders.entry(address).or_insert_with(|| Sender {
            account,
            settled: account.nonce,
            entries: BTreeMap::new(),
            bytes: 0,
            missing: account.nonce,
            pending: 0,
            rank: None,
            tail: None,
            starved: false,
        });
        let (verdict, ticket) = watch::channel(None);
        // Who sent it has it.
        let sent = (origin == Origin::Peer).then_some(self.height);
        let entry = Entry {
            transaction: Arc::new(transaction),
            hash,
            bytes,
            cost: needed,
            arrival,
            origin,
            favoured,
            safe: false,
            expires,
            sent,
            executing: false,
            standing: Standing::In(Subpool::Queued),
            worth,
            verdict,
        };
        sender.entries.insert(nonce, entry);
        sender.bytes += bytes;
        self.bytes += bytes;
        if favoured {
            self.favoured += 1;
            self.favoured_bytes += bytes;
        }
        self.by_hash.insert(hash, (address, nonce));
        self.expiry.insert((expires, arrival), (address, nonce));
        if origin == Origin::Local {
            self.outgoing.insert((sent, arrival), (address, nonce));
        }
        self.reindex(&address);
        let subpool = match self.entry(&hash).map(|entry| entry.standing) {
            Some(Standing::In(subpool)) => subpool,
            _ => Subpool::Queued,
        };
        Ok(Accepted {
            ticket,
            subpool,
            replaced: old.map(|(hash, _)| hash),
            evicted,
        })
    }

    /// Where a transaction would go and what would leave for it, or why it does not get in. Nothing but what is known of the sender's account changes.
    fn place<A: Accounts<E> + ?Sized>(
        &mut self,
        candidate: &Candidate,
        accounts: &A,
    ) -> Result<Place, AdmissionError<E>> {
        let &Candidate {
            ref transaction,
            hash,
            sender: address,
            bytes,
            expires,
        } = candidate;
        let tx = &transaction.transaction;
        let nonce = tx.nonce;
        if self.by_hash.contains_key(&hash) {
            return Err(AdmissionError::Known);
        }
        let latest = self.height.saturating_add(self.limits.expiry_blocks);
        let expires = expires.map_or(latest, |expires| expires.min(latest));
        if expires <= self.height {
            return Err(AdmissionError::Expired {
                expired: expires,
                height: self.height,
            });
        }
        if tx.fuel_price < self.base_price {
            return Err(AdmissionError::FuelPriceTooLow {
                base_price: self.base_price,
                got: tx.fuel_price,
            });
        }
        let mut account = accounts.account(&address).map_err(AdmissionError::State)?;
        if let Some(sender) = self.senders.get_mut(&address) {
            if sender.account.nonce > account.nonce {
                // A view of the state from before a block that the pool knows.
                account = sender.account;
            } else if sender.account != account {
                sender.account = account;
                self.reindex(&address);
            }
        }
        let present = self.senders.get(&address);
        let missing = self.next_nonce(&address, account.nonce);
        if nonce < account.nonce {
            return Err(AdmissionError::NonceUsed {
                expected: missing,
                got: nonce,
            });
        }
        if nonce > missing && nonce - missing > self.limits.nonce_gap {
            return Err(AdmissionError::NonceGap {
                expected: missing,
                got: nonce,
                limit: self.limits.nonce_gap,
            });
        }
        let needed = tx.max_cost();
        let before = self.pending_before(&address, account.nonce, nonce).cost;
        // Those after it that a block could have must stay payable: else who fills the pool with them could empty it again, for the price of one.
        let (mut others, mut sum) = (before, before);
        let behind = present.and_then(|sender| Some((sender, nonce.checked_add(1)?)));
        let behind = behind.into_iter();
        for (_, entry) in behind.flat_map(|(sender, next)| sender.entries.range(next..)) {
            if entry.standing != Standing::In(Subpool::Pending) {
                break;
            }
            sum = sum.saturating_add(entry.cost);
            if !entry.executing {
                others = sum;
            }
        }
        let available = account.balance.saturating_sub(others);
        if needed > available {
            return Err(AdmissionError::InsufficientBalance { needed, available });
        }
        let old = present.and_then(|sender| sender.entries.get(&nonce));
        if let Some(old) = old {
            if old.executing {
                return Err(AdmissionError::Executing {
                    executing: old.hash,
                });
            }
            let (was, percent) = (&old.transaction.transaction, self.limits.price_bump_percent);
            // Both must rise, even if the bump is 0 percent of them: if only one did, the effective price would not.
            let raised = |value: u64| bumped(value, percent).max(value.saturating_add(1));
            let (fuel_price, tip) = (raised(was.fuel_price), raised(was.tip));
            if tx.fuel_price < fuel_price || tx.tip < tip {
                return Err(AdmissionError::ReplacementUnderpriced {
                    waiting: old.hash,
                    fuel_price,
                    tip,
                });
            }
        }
        let old_bytes = old.map_or(0, |old| old.bytes);
        let old = old.map(|old| (old.hash, old.favoured));
        if let Some(sender) = present {
            let transactions = sender.entries.len() - usize::from(old.is_some());
            let sum = sender.bytes - old_bytes;
            if transactions >= self.limits.sender_transactions
                || sum.saturating_add(bytes) > self.limits.sender_bytes
            {
                return Err(AdmissionError::SenderFull {
                    transactions: sender.entries.len(),
                    bytes: sender.bytes,
                });
            }
        } else if self.limits.sender_transactions == 0 || bytes > self.limits.sender_bytes {
            return Err(AdmissionError::SenderFull {
                transactions: 0,
                bytes: 0,
            });
        }
        // Where it will stand: behind all of the sender's with lower nonces.
        let price = tx.effective_price(self.base_price);
        let ahead =
            present.and_then(|sender| sender.entries.range(account.nonce..nonce).next_back());
        let worth = ahead.map_or(price, |(_, ahead)| price.min(ahead.worth));
        let favoured_ahead = ahead.is_none_or(|(_, ahead)| ahead.favoured);
        // The account can pay for all up to this one, as has been checked.
        let subpool = if nonce > missing {
            Subpool::Queued
        } else {
            Subpool::Pending
        };
        let victims = self.victims(
            usize::from(old.is_none()),
            bytes.saturating_sub(old_bytes),
            Some((subpool, worth)),
            Some((address, nonce)),
        );
        let Some(victims) = victims else {
            let (transactions, bytes_now) = (self.len(), self.bytes);
            let minimum_price = self.minimum_price(bytes);
            return Err(AdmissionError::Full {
                transactions,
                bytes: bytes_now,
                minimum_price,
            });
        };
        Ok(Place {
            account,
            needed,
            expires,
            worth,
            old,
            next_to_favoured: subpool == Subpool::Pending && favoured_ahead,
            victims,
        })
    }

    /// Takes transactions for a block, the best first. They stay in the pool, executing, until [`Mempool::on_block`],
    /// [`Mempool::settle`] or [`Mempool::release`].
    ///
    /// The first one is taken even if it exceeds a limit alone, so that the pool always moves. A sender whose next one does not
    /// fit is left out of this batch; after [`MISFITS`] of them the batch is as it is.
    pub fn take_batch(&mut self, limits: BatchLimits) -> Vec<Arc<SignedTransaction>> {
        let (mut batch, mut fuel, mut bytes) = (Vec::new(), limits.fuel, limits.bytes);
        let mut misfits = Vec::new();
        while batch.len() < limits.transactions && misfits.len() < MISFITS {
            let Some(first) = self.ready.pop_first() else {
                break;
            };
            let (_, address, nonce) = first;
            let Some(sender) = self.senders.get_mut(&address) else {
                continue;
            };
            let Some(entry) = sender.entries.get_mut(&nonce) else {
                continue;
            };
            let limit = entry.transaction.transaction.fuel_limit;
            if !batch.is_empty() && (limit > fuel || entry.bytes > bytes) {
                misfits.push(first);
                continue;
            }
            fuel = fuel.saturating_sub(limit);
            bytes = bytes.saturating_sub(entry.bytes);
            entry.executing = true;
            batch.push(entry.transaction.clone());
            self.executing.insert((address, nonce));
            sender.pending -= 1;
            self.pending -= 1;
            // If it is the last one, it cannot be evicted any more.
            if sender
                .entries
                .last_key_value()
                .is_some_and(|(last, _)| *last == nonce)
                && let Some(tail) = sender.tail.take()
            {
                self.tails.remove(&(tail, address));
            }
            // Another one may be executing right behind it, if what was between left and came again.
            let mut behind = sender
                .entries
                .range(nonce..)
                .filter(|(_, entry)| !entry.executing);
            sender.rank = behind.next().and_then(|(next, entry)| {
                let tx = &entry.transaction.transaction;
                let rank = rank(tx.effective_price(self.base_price), tx.tip, entry.arrival);
                (entry.standing == Standing::In(Subpool::Pending)).then_some((rank, *next))
            });
            if let Some((rank, next)) = sender.rank {
                self.ready.insert((rank, address, next));
            }
        }
        self.ready.extend(misfits);
        batch
    }

    /// Makes all that is executing wait again: the block under way has come to nothing, or another was decided. Call it after
    /// [`Mempool::on_block`], which has given a verdict to what is in the block. Returns what cannot be applied any more.
    pub fn release(&mut self) -> Vec<(Hash, DropReason<E>)> {
        let taken = std::mem::take(&mut self.executing);
        let mut senders = BTreeSet::new();
        for (address, nonce) in taken {
            if let Some(entry) = self
                .senders
                .get_mut(&address)
                .and_then(|sender| sender.entries.get_mut(&nonce))
            {
                entry.executing = false;
            }
            senders.insert(address);
        }
        let mut dropped = Vec::new();
        for address in senders {
            self.reindex(&address);
            self.recheck(&address, &mut dropped);
        }
        self.expire(&mut dropped);
        dropped
    }

    /// Gives one transaction its verdict and removes it. [`Mempool::on_block`] does more.
    pub fn settle(&mut self, hash: &Hash, verdict: Verdict<R, E>) {
        let included = matches!(verdict, Verdict::Included(_));
        let Some((address, nonce)) = self.remove(hash, verdict) else {
            return;
        };
        if let Some(sender) = self.senders.get_mut(&address)
            && included
        {
            sender.account.nonce = sender.account.nonce.max(nonce.saturating_add(1));
            sender.settled = sender.settled.max(sender.account.nonce);
        }
        self.reindex(&address);
    }

    /// Drops what the sender cannot send any more with that account, and what waits behind a gap. For a node without gaps, after one
    /// transaction was refused.
    pub fn realign(
        &mut self,
        address: &Address,
        account: AccountView,
    ) -> Vec<(Hash, DropReason<E>)> {
        let mut dropped = Vec::new();
        let Some(sender) = self.senders.get_mut(address) else {
            return dropped;
        };
        sender.account = account;
        sender.settled = account.nonce;
        self.recheck(address, &mut dropped);
        let expected = self.next_nonce(address, account.nonce);
        let Some(sender) = self.senders.get(address) else {
            return dropped;
        };
        let orphans: Vec<(u64, Hash)> = sender
            .entries
            .range(expected..)
            .filter(|(_, entry)| !entry.executing)
            .map(|(nonce, entry)| (*nonce, entry.hash))
            .collect();
        for (got, hash) in orphans {
            let reason = DropReason::Orphaned { expected, got };
            self.remove(&hash, Verdict::Dropped(reason.clone()));
            dropped.push((hash, reason));
        }
        self.reindex(address);
        dropped
    }

    /// Tells the pool of a block that is on disk, whoever made it: what is in it gets its verdict, what cannot be applied any more leaves with
    /// the reason, and so does what has waited for too long. What is still executing then stays so until [`Mempool::release`].
    ///
    /// # Errors
    ///
    /// The state could not be read; the pool is unchanged then.
    pub fn on_block<A: Accounts<E> + ?Sized>(
        &mut self,
        block: &Committed<'_, R, E>,
        accounts: &A,
    ) -> Result<Settled<E>, E> {
        // Besides senders, whose money and nonces move, an account that is waiting for money may have got it.
        let turn = self.looked_at.unwrap_or_default();
        let later = self
            .starved
            .range((Bound::Excluded(turn), Bound::Unbounded));
        let starved = later.chain(self.starved.range(..=turn));
        let starved: Vec<Address> = starved.take(STARVED_LOOKS).copied().collect();
        let looked_at = starved.last().copied();
        let mut touched = BTreeSet::from_iter(starved);
        touched.extend(
            block
                .senders
                .iter()
                .filter(|address| self.senders.contains_key(*address)),
        );
        let hashes = block
            .included
            .iter()
            .map(|(hash, _)| hash)
            .chain(block.refused.iter().map(|(hash, _)| hash));
        touched.extend(
            hashes
                .filter_map(|hash| self.by_hash.get(hash))
                .map(|(address, _)| *address),
        );
        let mut views = Vec::with_capacity(touched.len());
        for address in touched {
            views.push((address, accounts.account(&address)?));
        }

        self.looked_at = looked_at;
        self.height = self.height.max(block.height);
        let repriced =
            std::mem::replace(&mut self.base_price, block.base_price) != block.base_price;
        let mut settled = Settled {
            included: 0,
            dropped: Vec::new(),
        };
        for (hash, receipt) in block.included {
            settled.included += usize::from(
                self.remove(hash, Verdict::Included(receipt.clone()))
                    .is_some(),
            );
        }
        for (hash, error) in block.refused {
            let reason = DropReason::Refused(error.clone());
            if self
                .remove(hash, Verdict::Dropped(reason.clone()))
                .is_some()
            {
                settled.dropped.push((*hash, reason));
            }
        }
        for (address, account) in &views {
            if let Some(sender) = self.senders.get_mut(address) {
                sender.account = *account;
                sender.settled = account.nonce;
                self.recheck(address, &mut settled.dropped);
            }
        }
        if repriced {
            let all: Vec<Address> = self.senders.keys().copied().collect();
            for address in all {
                self.recheck(&address, &mut settled.dropped);
            }
        }
        self.expire(&mut settled.dropped);
        Ok(settled)
    }

    /// Takes an entry out of everything but the indices of its sender, which the caller has to [`reindex`](Self::reindex).
    fn remove(&mut self, hash: &Hash, verdict: Verdict<R, E>) -> Option<(Address, u64)> {
        let (address, nonce) = self.by_hash.remove(hash)?;
        let sender = self.senders.get_mut(&address)?;
        let entry = sender.entries.remove(&nonce)?;
        if entry.is_pending() {
            sender.pending -= 1;
            self.pending -= 1;
        }
        sender.bytes -= entry.bytes;
        self.bytes -= entry.bytes;
        if entry.favoured {
            self.favoured -= 1;
            self.favoured_bytes -= entry.bytes;
        }
        self.executing.remove(&(address, nonce));
        self.expiry.remove(&(entry.expires, entry.arrival));
        self.outgoing.remove(&(entry.sent, entry.arrival));
        entry.verdict.send_replace(Some(verdict));
        Some((address, nonce))
    }

    /// Drops what is waiting of a sender and cannot be applied any more, whatever comes before it.
    fn recheck(&mut self, address: &Address, dropped: &mut Vec<(Hash, DropReason<E>)>) {
        let Some(sender) = self.senders.get(address) else {
            return;
        };
        let (AccountView { balance, .. }, expected, base_price) =
            (sender.account, sender.settled, self.base_price);
        let mut gone = Vec::new();
        for (nonce, entry) in sender.entries.iter().filter(|(_, entry)| !entry.executing) {
            let tx = &entry.transaction.transaction;
            let reason = if *nonce < expected {
                DropReason::NonceUsed {
                    expected,
                    got: *nonce,
                }
            } else if *nonce < sender.account.nonce {
                continue;
            } else if entry.cost > balance {
                DropReason::InsufficientBalance {
                    needed: entry.cost,
                    available: balance,
                }
            } else if tx.fuel_price < base_price {
                DropReason::FuelPriceTooLow {
                    base_price,
                    got: tx.fuel_price,
                }
            } else {
                continue;
            };
            gone.push((entry.hash, reason));
        }
        for (hash, reason) in gone {
            self.remove(&hash, Verdict::Dropped(reason.clone()));
            dropped.push((hash, reason));
        }
        self.reindex(address);
    }

    /// Drops what has waited for too long. What is executing is left for the next time.
    fn expire(&mut self, dropped: &mut Vec<(Hash, DropReason<E>)>) {
        let due = self
            .expiry
            .range(..=(self.height, u64::MAX))
            .map(|(_, place)| *place);
        let due: Vec<(Address, u64)> = due
            .filter(|place| !self.executing.contains(place))
            .collect();
        for (address, nonce) in due {
            let Some(entry) = self
                .senders
                .get(&address)
                .and_then(|sender| sender.entries.get(&nonce))
            else {
                continue;
            };
            // Its block is on disk and on its way here.
            if entry.standing == Standing::Committed {
                continue;
            }
            let (hash, reason) = (
                entry.hash,
                DropReason::Expired {
                    height: entry.expires,
                },
            );
            self.remove(&hash, Verdict::Dropped(reason.clone()));
            self.reindex(&address);
            dropped.push((hash, reason));
        }
    }

    /// Makes everything that is derived from a sender's account and entries anew, and forgets a sender without entries.
    fn reindex(&mut self, address: &Address) {
        let Some(sender) = self.senders.get_mut(address) else {
            return;
        };
        if let Some((rank, nonce)) = sender.rank.take() {
            self.ready.remove(&(rank, *address, nonce));
        }
        if let Some(tail) = sender.tail.take() {
            self.tails.remove(&(tail, *address));
        }
        self.pending -= std::mem::take(&mut sender.pending);
        sender.starved = false;
        let account = sender.account;
        sender.missing = account.nonce;
        let (mut cost, mut worth, mut subpool) = (0u128, u64::MAX, Subpool::Pending);
        let mut favoured = true;
        for (nonce, entry) in &mut sender.entries {
            let tx = &entry.transaction.transaction;
            if *nonce < account.nonce {
                entry.standing = Standing::Committed;
                continue;
            }
            let price = tx.effective_price(self.base_price);
            cost = cost.saturating_add(entry.cost);
            worth = worth.min(price);
            let follows = *nonce == sender.missing;
            if follows {
                sender.missing = nonce.saturating_add(1);
            }
            let affordable = entry.executing || cost <= account.balance;
            // Behind a gap money alone would not help; who fills the gap has the account read.
            sender.starved |= follows && !affordable;
            if !follows || !affordable {
                subpool = Subpool::Queued;
            }
            favoured &= entry.favoured;
            entry.standing = Standing::In(subpool);
            entry.safe = favoured && subpool == Subpool::Pending;
            entry.worth = worth;
            if subpool == Subpool::Pending && !entry.executing {
                sender.pending += 1;
                if sender.rank.is_none() {
                    sender.rank = Some((rank(price, tx.tip, entry.arrival), *nonce));
                }
            }
        }
        self.pending += sender.pending;
        sender.tail = sender
            .entries
            .last_key_value()
            .and_then(|(_, last)| last.evictable());
        if let Some((rank, nonce)) = sender.rank {
            self.ready.insert((rank, *address, nonce));
        }
        if let Some(tail) = sender.tail {
            self.tails.insert((tail, *address));
        }
        if sender.starved {
            self.starved.insert(*address);
        } else {
            self.starved.remove(address);
        }
        if sender.entries.is_empty() {
            self.senders.remove(address);
        }
    }

    /// Which entries have to leave so that `count` more of `bytes` bytes fit; none if they fit now. `None` if it takes one that is not worth
    /// less than `than`, or is not to be touched. `place` is where the new one goes: nothing before or at it is taken.
    fn victims(
        &self,
        count: usize,
        bytes: usize,
        than: Option<(Subpool, u64)>,
        place: Option<(Address, u64)>,
    ) -> Option<Vec<Victim>> {
        let mut count = (self.len() + count).saturating_sub(self.limits.transactions);
        let mut bytes = self
            .bytes
            .saturating_add(bytes)
            .saturating_sub(self.limits.bytes);
        let mut victims = Vec::new();
        let mut tails = self.tails.iter().copied().peekable();
        // What becomes the last of its sender when the last has gone.
        let mut next: BTreeMap<(Tail, Address), u64> = BTreeMap::new();
        while count > 0 || bytes > 0 {
            let from_next = match (next.first_key_value(), tails.peek()) {
                (Some((first, _)), Some(tail)) => first <= tail,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return None,
            };
            let ((tail, address), bound) = if from_next {
                let ((tail, address), nonce) = next.pop_first()?;
                ((tail, address), Some(nonce))
            } else {
                (tails.next()?, None)
            };
            let entries = &self.senders.get(&address)?.entries;
            let (nonce, entry) = match bound {
                Some(nonce) => entries.get_key_value(&nonce)?,
                None => entries.last_key_value()?,
            };
            let (subpool, worth, _) = tail;
            if than.is_some_and(|than| (subpool, worth) >= than) {
                return None;
            }
            if place.is_some_and(|(sender, place)| sender == address && *nonce <= place) {
                continue;
            }
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(entry.bytes);
            victims.push(Victim {
                sender: address,
                hash: entry.hash,
                subpool,
                worth,
            });
            if let Some((before, entry)) = entries.range(..nonce).next_back()
                && let Some(tail) = entry.evictable()
            {
                next.insert((tail, address), *before);
            }
        }
        Some(victims)
    }
}

/// How many senders whose next transaction does not fit [`Mempool::take_batch`] passes over.
pub const MISFITS: usize = 100;

/// Of how many senders that wait for money only [`Mempool::on_block`] reads the account, besides those that a block has something of: all in turn.
pub const STARVED_LOOKS: usize = 256;

/// Which part of the limit of bytes is for favoured ones at most.
const FAVOURED_SHARE: usize = 8;

/// How many transactions [`Mempool::resend`] looks at.
pub const LOOKS: usize = 1_024;

struct Victim {
    sender: Address,
    hash: Hash,
    subpool: Subpool,
    worth: u64,
}
