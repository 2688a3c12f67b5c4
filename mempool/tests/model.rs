//! The pool against a naive model that keeps a flat list and sorts it for every question.
//!
//! The model has the rules in their plainest form: what is pending, what a transaction is worth, who is first, who leaves. After each step, both must
//! hold the same transactions in the same places, have given the same verdicts, and answer the same.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestCaseError;
use slackline_mempool::{
    AccountView, Accounts, AdmissionError, BatchLimits, Candidate, Committed, DropReason, Limits,
    Mempool, Origin, Subpool, Ticket, Verdict,
};
use slackline_types::{Action, Address, Hash, PublicKey, SignedTransaction, Transaction};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SENDERS: u8 = 4;

fn key(sender: u8) -> PublicKey {
    PublicKey([sender + 1; 32])
}

fn address(sender: u8) -> Address {
    Address::of_key(&key(sender))
}

/// The state, as the chain has it.
#[derive(Clone, Debug, Default)]
struct State(BTreeMap<Address, AccountView>);

impl Accounts<String> for State {
    fn account(&self, address: &Address) -> Result<AccountView, String> {
        Ok(self.0.get(address).copied().unwrap_or_default())
    }
}

#[derive(Clone, Debug)]
struct Spec {
    sender: u8,
    /// From the account's nonce, shifted by two so that it can be too low.
    nonce: u64,
    price: u64,
    tip: u64,
    amount: u128,
    fuel: u64,
    bytes: usize,
    local: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Spec),
    /// One of those that came before comes again.
    Again(prop::sample::Index),
    Take {
        fuel: u64,
        transactions: usize,
        bytes: usize,
    },
    /// A block: of each sender's executing ones this many, then this many from elsewhere, paid this much, given this much.
    Block {
        take: [u8; SENDERS as usize],
        foreign: [u8; SENDERS as usize],
        paid: u128,
        given: u128,
        base_price: u64,
        refuse: bool,
        /// Comes when the block is in the state and the pool does not know.
        between: Option<Spec>,
        blocks: u64,
    },
    Release,
    /// The first executing one of a sender is refused, and the pool realigned: as a node without gaps does.
    Refuse {
        sender: u8,
    },
    Settle {
        sender: u8,
    },
}

#[derive(Clone, Debug)]
struct Item {
    hash: Hash,
    sender: u8,
    nonce: u64,
    tx: Transaction,
    cost: u128,
    bytes: usize,
    arrival: u64,
    favoured: bool,
    expires: u64,
    executing: bool,
}

type Reason = DropReason<String>;

struct Model {
    limits: Limits,
    height: u64,
    base_price: u64,
    items: Vec<Item>,
    /// What the pool knows of the senders that it has something of: the account, and its nonce at the last block.
    known: BTreeMap<u8, (AccountView, u64)>,
    arrivals: u64,
    verdicts: BTreeMap<Hash, Verdict<u32, String>>,
}

impl Model {
    fn account(&self, sender: u8, state: &State) -> AccountView {
        let fresh = state.account(&address(sender)).expect("there");
        match self.known.get(&sender) {
            Some((known, _)) if known.nonce > fresh.nonce => *known,
            _ => fresh,
        }
    }

    fn missing(&self, sender: u8, account: u64) -> u64 {
        (account..)
            .find(|nonce| {
                !self
                    .items
                    .iter()
                    .any(|i| i.sender == sender && i.nonce == *nonce)
            })
            .expect("finite")
    }

    fn up_to(&self, item: &Item) -> Vec<&Item> {
        let account = self.known[&item.sender].0.nonce;
        let range = account..=item.nonce;
        self.items
            .iter()
            .filter(|i| i.sender == item.sender && range.contains(&i.nonce))
            .collect()
    }

    fn subpool(&self, item: &Item) -> Option<Subpool> {
        let account = self.known[&item.sender].0;
        if item.nonce < account.nonce {
            return None;
        }
        let before = self.up_to(item);
        let whole = before.len() as u64 == item.nonce - account.nonce + 1;
        // Each must be paid for with all before it, but for those that are executing already.
        let paid = before.iter().filter(|i| !i.executing).all(|i| {
            let cost: u128 = before
                .iter()
                .filter(|j| j.nonce <= i.nonce)
                .map(|j| j.cost)
                .sum();
            cost <= account.balance
        });
        Some(if whole && paid {
            Subpool::Pending
        } else {
            Subpool::Queued
        })
    }

    fn worth(&self, item: &Item) -> u64 {
        self.up_to(item)
            .iter()
            .map(|i| i.tx.effective_price(self.base_price))
            .min()
            .expect("itself")
    }

    /// Not to be evicted.
    fn safe(&self, item: &Item) -> bool {
        self.subpool(item) == Some(Subpool::Pending) && self.up_to(item).iter().all(|i| i.favoured)
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|i| i.bytes).sum()
    }

    fn drop_item(&mut self, hash: Hash, verdict: Verdict<u32, String>) -> bool {
        let before = self.items.len();
        self.items.retain(|i| i.hash != hash);
        if self.items.len() < before {
            assert!(self.verdicts.insert(hash, verdict).is_none());
        }
        self.items.len() < before
    }

    fn forget(&mut self) {
        let items = &self.items;
        self.known
            .retain(|sender, _| items.iter().any(|i| i.sender == *sender));
    }

    /// Who leaves for one of that standing: the last of each sender, the least worth first.
    fn evict(
        &self,
        mut over: (usize, usize),
        than: (Subpool, u64),
        keep: Hash,
    ) -> Option<Vec<Item>> {
        let mut left = self.items.clone();
        let mut gone = Vec::new();
        while over.0 > 0 || over.1 > 0 {
            let last = |i: &Item| {
                !left
                    .iter()
                    .any(|j| j.sender == i.sender && j.nonce > i.nonce)
            };
            let candidates = left
                .iter()
                .filter(|i| last(i) && !i.executing && !self.safe(i) && i.hash != keep);
            let standing = |i: &Item| self.subpool(i).map(|subpool| (subpool, self.worth(i)));
            let worst = candidates
                .filter(|i| standing(i).is_some_and(|standing| standing < than))
                .min_by_key(|i| (standing(i), Reverse(i.arrival)))?
                .clone();
            left.retain(|i| i.hash != worst.hash);
            over = (over.0.saturating_sub(1), over.1.saturating_sub(worst.bytes));
            gone.push(worst);
        }
        Some(gone)
    }

    /// The kind of refusal, or what left for it.
    fn insert(
        &mut self,
        tx: &Transaction,
        bytes: usize,
        local: bool,
        sender: u8,
        state: &State,
    ) -> Result<Vec<Hash>, &'static str> {
        let hash = tx.hash();
        if self.items.iter().any(|i| i.hash == hash) {
            return Err("known");
        }
        if tx.fuel_price < self.base_price {
            return Err("price");
        }
        let account = self.account(sender, state);
        if let Some(known) = self.known.get_mut(&sender) {
            known.0 = account;
        }
        if tx.nonce < account.nonce {
            return Err("used");
        }
        let missing = self.missing(sender, account.nonce);
        if tx.nonce > missing + self.limits.nonce_gap {
            return Err("gap");
        }
        let mine = |i: &&Item| i.sender == sender;
        // Up to the last one behind it that a block could have.
        let last = self.items.iter().filter(mine).filter(|i| {
            i.nonce > tx.nonce && !i.executing && self.subpool(i) == Some(Subpool::Pending)
        });
        let last = last.map(|i| i.nonce).max().unwrap_or(tx.nonce);
        let before: u128 = self
            .items
            .iter()
            .filter(mine)
            .filter(|i| (account.nonce..=last).contains(&i.nonce) && i.nonce != tx.nonce)
            .map(|i| i.cost)
            .sum();
        if before + tx.max_cost() > account.balance {
            return Err("balance");
        }
        let old = self
            .items
            .iter()
            .find(|i| i.sender == sender && i.nonce == tx.nonce)
            .cloned();
        if let Some(old) = &old {
            if old.executing {
                return Err("executing");
            }
            let enough = |new: u64, old: u64| {
                u128::from(new) * 100
                    >= u128::from(old) * (100 + u128::from(self.limits.price_bump_percent))
            };
            if tx.fuel_price <= old.tx.fuel_price
                || tx.tip <= old.tx.tip
                || !enough(tx.fuel_price, old.tx.fuel_price)
                || !enough(tx.tip, old.tx.tip)
            {
                return Err("underpriced");
            }
        }
        let others = self
            .items
            .iter()
            .filter(mine)
            .filter(|i| i.nonce != tx.nonce);
        if others.clone().count() + 1 > self.limits.sender_transactions
            || others.map(|i| i.bytes).sum::<usize>() + bytes > self.limits.sender_bytes
        {
            return Err("sender");
        }
        let was_favoured = old.as_ref().is_some_and(|old| old.favoured);
        let item = Item {
            hash,
            sender,
            nonce: tx.nonce,
            tx: tx.clone(),
            cost: tx.max_cost(),
            bytes,
            arrival: self.arrivals,
            favoured: false,
            expires: self.height + self.limits.expiry_blocks,
            executing: false,
        };
        // Put it in, see where it stands, and take it out again if there is no room.
        let (items, known) = (self.items.clone(), self.known.clone());
        self.known
            .entry(sender)
            .or_insert((account, account.nonce))
            .0 = account;
        let before_change = Model {
            items: items.clone(),
            known: self.known.clone(),
            verdicts: BTreeMap::new(),
            ..*self
        };
        self.items
            .retain(|i| !(i.sender == sender && i.nonce == tx.nonce));
        self.items.push(item.clone());
        let than = (self.subpool(&item).expect("not used"), self.worth(&item));
        let over = (
            self.items.len().saturating_sub(self.limits.transactions),
            self.bytes().saturating_sub(self.limits.bytes),
        );
        // Others are judged as they stood.
        let judge = Model {
            known: known.clone(),
            ..before_change
        };
        let keep = old.as_ref().map_or(hash, |old| old.hash);
        let Some(gone) = judge.evict(over, than, keep) else {
            (self.items, self.known) = (items, known);
            return Err("full");
        };
        for victim in &gone {
            let reason = DropReason::Evicted {
                by: hash,
                price: than.1,
            };
            self.drop_item(victim.hash, Verdict::Dropped(reason));
        }
        if let Some(old) = old {
            self.verdicts.insert(
                old.hash,
                Verdict::Dropped(DropReason::Replaced { by: hash }),
            );
        }
        // Its own place, and those that made room, do not count.
        let others = || self.items.iter().filter(|i| i.hash != hash);
        let favoured = || others().filter(|i| i.favoured);
        let ahead = others()
            .filter(|i| i.sender == sender && (account.nonce..tx.nonce).contains(&i.nonce))
            .max_by_key(|i| i.nonce);
        let favour = (local || was_favoured)
            && than.0 == Subpool::Pending
            && ahead.is_none_or(|i| i.favoured)
            && favoured().count() < self.limits.local
            && favoured().map(|i| i.bytes).sum::<usize>() + bytes <= self.limits.bytes / 8;
        let item = self.items.iter_mut().find(|i| i.hash == hash);
        item.expect("inserted").favoured = favour;
        self.arrivals += 1;
        self.forget();
        Ok(gone.iter().map(|i| i.hash).collect())
    }

    /// The best of all that may be next, again and again.
    fn take(&mut self, limits: BatchLimits) -> Vec<Hash> {
        let mut batch = Vec::new();
        let (mut fuel, mut bytes, mut out) = (limits.fuel, limits.bytes, Vec::new());
        while batch.len() < limits.transactions {
            let waiting = |i: &&Item| {
                !i.executing
                    && self.subpool(i) == Some(Subpool::Pending)
                    && !out.contains(&i.sender)
            };
            let first = |i: &&Item| {
                !self
                    .items
                    .iter()
                    .filter(waiting)
                    .any(|j| j.sender == i.sender && j.nonce < i.nonce)
            };
            let order = |i: &&Item| {
                (
                    Reverse(i.tx.effective_price(self.base_price)),
                    Reverse(i.tx.tip),
                    i.arrival,
                )
            };
            let Some(best) = self
                .items
                .iter()
                .filter(waiting)
                .filter(first)
                .min_by_key(order)
                .cloned()
            else {
                break;
            };
            if !batch.is_empty() && (best.tx.fuel_limit > fuel || best.bytes > bytes) {
                out.push(best.sender);
                continue;
            }
            fuel = fuel.saturating_sub(best.tx.fuel_limit);
            bytes = bytes.saturating_sub(best.bytes);
            batch.push(best.hash);
            self.items
                .iter_mut()
                .find(|i| i.hash == best.hash)
                .expect("there")
                .executing = true;
        }
        batch
    }

    fn recheck(&mut self, senders: &[u8]) {
        for item in self.items.clone() {
            let Some((account, settled)) = self.known.get(&item.sender).copied() else {
                continue;
            };
            if item.executing || !senders.contains(&item.sender) {
                continue;
            }
            let reason: Reason = if item.nonce < settled {
                DropReason::NonceUsed {
                    expected: settled,
                    got: item.nonce,
                }
            } else if item.nonce < account.nonce {
                continue;
            } else if item.cost > account.balance {
                DropReason::InsufficientBalance {
                    needed: item.cost,
                    available: account.balance,
                }
            } else if item.tx.fuel_price < self.base_price {
                DropReason::FuelPriceTooLow {
                    base_price: self.base_price,
                    got: item.tx.fuel_price,
                }
            } else {
                continue;
            };
            self.drop_item(item.hash, Verdict::Dropped(reason));
        }
        self.forget();
    }

    fn expire(&mut self) {
        for item in self.items.clone() {
            if item.expires <= self.height && !item.executing && self.subpool(&item).is_some() {
                self.drop_item(
                    item.hash,
                    Verdict::Dropped(DropReason::Expired {
                        height: item.expires,
                    }),
                );
            }
        }
        self.forget();
    }
}

struct Pair {
    pool: Mempool<u32, String>,
    model: Model,
    state: State,
    tickets: BTreeMap<Hash, Ticket<u32, String>>,
    /// What has happened, for the test that everything does.
    kinds: BTreeSet<&'static str>,
    history: Vec<(Transaction, Spec)>,
    /// What a ticket said once it says for ever.
    seen: BTreeMap<Hash, Verdict<u32, String>>,
}

fn kind(error: &AdmissionError<String>) -> &'static str {
    match error {
        AdmissionError::Known => "known",
        AdmissionError::FuelPriceTooLow { .. } => "price",
        AdmissionError::NonceUsed { .. } => "used",
        AdmissionError::NonceGap { .. } => "gap",
        AdmissionError::InsufficientBalance { .. } => "balance",
        AdmissionError::Executing { .. } => "executing",
        AdmissionError::ReplacementUnderpriced { .. } => "underpriced",
        AdmissionError::SenderFull { .. } => "sender",
        AdmissionError::Full { .. } => "full",
        other => panic!("{other}"),
    }
}

impl Pair {
    fn new(limits: Limits) -> Pair {
        let account = AccountView {
            nonce: 3,
            balance: 20_000,
        };
        let state = State(
            (0..SENDERS)
                .map(|sender| (address(sender), account))
                .collect(),
        );
        let model = Model {
            limits,
            height: 1,
            base_price: 5,
            items: Vec::new(),
            known: BTreeMap::new(),
            arrivals: 0,
            verdicts: BTreeMap::new(),
        };
        let pool = Mempool::new(limits, 1, 5);
        Pair {
            pool,
            model,
            state,
            tickets: BTreeMap::new(),
            kinds: BTreeSet::new(),
            history: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn insert(&mut self, spec: &Spec) -> Result<(), TestCaseError> {
        let account = self.state.account(&address(spec.sender)).expect("there");
        let tx = Transaction {
            chain_id: 1,
            sender: key(spec.sender),
            nonce: (account.nonce + spec.nonce).saturating_sub(2),
            fuel_limit: spec.fuel,
            fuel_price: spec.price,
            tip: spec.tip,
            deposit_limit: 0,
            action: Action::Transfer {
                to: Address([9; 32]),
                amount: spec.amount,
            },
        };
        self.history.push((tx.clone(), spec.clone()));
        self.submit(tx, spec)
    }

    fn submit(&mut self, tx: Transaction, spec: &Spec) -> Result<(), TestCaseError> {
        let hash = tx.hash();
        // The same one may come again after a drop: with a life, and a verdict, of its own.
        if self.pool.get(&hash).is_none() {
            self.tickets.remove(&hash);
            self.seen.remove(&hash);
            self.model.verdicts.remove(&hash);
        }
        let minimum = self.pool.minimum_price(spec.bytes);
        let newcomer = !self.model.known.contains_key(&spec.sender);
        let expected = self
            .model
            .insert(&tx, spec.bytes, spec.local, spec.sender, &self.state);
        let (price, nonce) = (tx.effective_price(self.pool.base_price()), tx.nonce);
        let candidate = Candidate::new(
            SignedTransaction {
                transaction: tx,
                signature: [0; 64],
            },
            spec.bytes,
        );
        let origin = if spec.local {
            Origin::Local
        } else {
            Origin::Peer
        };
        match (self.pool.insert(candidate, origin, &self.state), expected) {
            (Ok(accepted), Ok(evicted)) => {
                prop_assert_eq!(accepted.evicted, evicted);
                let item = self
                    .model
                    .items
                    .iter()
                    .find(|i| i.hash == hash)
                    .expect("inserted");
                prop_assert_eq!(Some(accepted.subpool), self.model.subpool(item));
                if newcomer && accepted.subpool == Subpool::Pending {
                    prop_assert!(
                        minimum.is_some_and(|minimum| minimum <= price),
                        "{:?} {}",
                        minimum,
                        price
                    );
                }
                self.tickets.insert(hash, accepted.ticket);
            }
            (Err(error), Err(expected)) => {
                prop_assert_eq!(kind(&error), expected);
                self.kinds.insert(expected);
                let next = self
                    .state
                    .account(&address(spec.sender))
                    .expect("there")
                    .nonce
                    == nonce;
                if expected == "full" && newcomer && next {
                    prop_assert!(
                        minimum.is_none_or(|minimum| minimum > price),
                        "{:?} {}",
                        minimum,
                        price
                    );
                }
            }
            (got, expected) => prop_assert!(
                false,
                "{:?} but {:?}",
                got.map(|accepted| accepted.evicted),
                expected
            ),
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Insert(spec) => self.insert(spec)?,
            Step::Again(index) => {
                if !self.history.is_empty() {
                    let (tx, spec) = index.get(&self.history).clone();
                    self.submit(tx, &spec)?;
                }
            }
            Step::Take {
                fuel,
                transactions,
                bytes,
            } => {
                let limits = BatchLimits {
                    fuel: *fuel,
                    transactions: *transactions,
                    bytes: *bytes,
                };
                let expected = self.model.take(limits);
                let batch: Vec<Hash> = self
                    .pool
                    .take_batch(limits)
                    .iter()
                    .map(|tx| tx.hash())
                    .collect();
                prop_assert_eq!(batch, expected);
            }
            Step::Block {
                take,
                foreign,
                paid,
                given,
                base_price,
                refuse,
                between,
                blocks,
            } => {
                let (mut included, mut refused, mut senders) = (Vec::new(), Vec::new(), Vec::new());
                for sender in 0..SENDERS {
                    let at = usize::from(sender);
                    let account = self.state.0.get_mut(&address(sender)).expect("there");
                    let before = account.nonce;
                    for _ in 0..take[at] {
                        let next = self
                            .model
                            .items
                            .iter()
                            .find(|i| i.sender == sender && i.nonce == account.nonce);
                        let Some(next) = next else { break };
                        // What waits may be in another node's block too.
                        included.push((next.hash, Arc::new(7)));
                        account.nonce += 1;
                    }
                    account.nonce += u64::from(foreign[at]);
                    account.balance += given;
                    if account.nonce > before {
                        account.balance = account.balance.saturating_sub(*paid);
                        senders.push(address(sender));
                    }
                    let next =
                        self.model.items.iter().find(|i| {
                            i.sender == sender && i.executing && i.nonce >= account.nonce
                        });
                    if let (true, Some(next)) = (*refuse, next) {
                        refused.push((next.hash, Arc::new("refused".to_owned())));
                    }
                }
                if let Some(spec) = between {
                    self.insert(spec)?;
                    // It may have pushed out or replaced what the block was to refuse or has included.
                }
                let height = self.pool.height() + blocks;
                let block = Committed {
                    height,
                    base_price: *base_price,
                    included: &included,
                    refused: &refused,
                    senders: &senders,
                };
                let settled = self.pool.on_block(&block, &self.state).expect("state");
                let model = &mut self.model;
                let starved = |model: &Model, sender: u8| {
                    let Some((account, _)) = model.known.get(&sender) else {
                        return false;
                    };
                    model
                        .items
                        .iter()
                        .filter(|i| i.sender == sender && i.nonce >= account.nonce && !i.executing)
                        .any(|i| {
                            // Behind a gap it is not money that is missing.
                            let before = model.up_to(i).len() as u64;
                            before == i.nonce - account.nonce + 1
                                && model.up_to(i).iter().map(|j| j.cost).sum::<u128>()
                                    > account.balance
                        })
                };
                let mut touched: Vec<u8> = (0..SENDERS)
                    .filter(|s| senders.contains(&address(*s)) || starved(model, *s))
                    .collect();
                touched.extend(
                    refused
                        .iter()
                        .filter_map(|(hash, _)| model.items.iter().find(|i| i.hash == *hash))
                        .map(|i| i.sender),
                );
                let repriced = model.base_price != *base_price;
                (model.height, model.base_price) = (height, *base_price);
                let mut count = 0;
                for (hash, receipt) in &included {
                    count +=
                        usize::from(model.drop_item(*hash, Verdict::Included(receipt.clone())));
                }
                prop_assert_eq!(settled.included, count);
                for (hash, error) in &refused {
                    model.drop_item(*hash, Verdict::Dropped(DropReason::Refused(error.clone())));
                }
                for sender in &touched {
                    if let Some(known) = model.known.get_mut(sender) {
                        let account = self.state.account(&address(*sender)).expect("there");
                        *known = (account, account.nonce);
                    }
                }
                model.forget();
                model.recheck(&if repriced {
                    (0..SENDERS).collect()
                } else {
                    touched
                });
                model.expire();
                for (hash, reason) in &settled.dropped {
                    prop_assert_eq!(
                        model.verdicts.get(hash),
                        Some(&Verdict::Dropped(reason.clone()))
                    );
                }
            }
            Step::Release => {
                self.pool.release();
                let senders: Vec<u8> = self
                    .model
                    .items
                    .iter()
                    .filter(|i| i.executing)
                    .map(|i| i.sender)
                    .collect();
                for item in &mut self.model.items {
                    item.executing = false;
                }
                self.model.recheck(&senders);
                self.model.expire();
            }
            Step::Refuse { sender } => {
                let Some(item) = self
                    .model
                    .items
                    .iter()
                    .find(|i| i.sender == *sender && i.executing)
                    .cloned()
                else {
                    return Ok(());
                };
                let reason =
                    || Verdict::Dropped(DropReason::Refused(Arc::new("refused".to_owned())));
                self.pool.settle(&item.hash, reason());
                let account = self.state.account(&address(*sender)).expect("there");
                self.pool.realign(&address(*sender), account);
                self.model.drop_item(item.hash, reason());
                self.model.forget();
                if let Some(known) = self.model.known.get_mut(sender) {
                    *known = (account, account.nonce);
                    self.model.recheck(&[*sender]);
                    let expected = self.model.missing(*sender, account.nonce);
                    for item in self.model.items.clone() {
                        if item.sender == *sender && item.nonce > expected && !item.executing {
                            let reason = DropReason::Orphaned {
                                expected,
                                got: item.nonce,
                            };
                            self.model.drop_item(item.hash, Verdict::Dropped(reason));
                        }
                    }
                    self.model.forget();
                }
            }
            Step::Settle { sender } => {
                let account = self.state.0.get_mut(&address(*sender)).expect("there");
                let first = self
                    .model
                    .items
                    .iter()
                    .find(|i| i.sender == *sender && i.nonce == account.nonce && i.executing);
                let Some(item) = first.cloned() else {
                    return Ok(());
                };
                account.nonce += 1;
                self.pool.settle(&item.hash, Verdict::Included(Arc::new(8)));
                let known = self.model.known.get_mut(sender).expect("has one");
                known.0.nonce = known.0.nonce.max(item.nonce + 1);
                known.1 = known.1.max(known.0.nonce);
                self.model
                    .drop_item(item.hash, Verdict::Included(Arc::new(8)));
                self.model.forget();
            }
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let (pool, model) = (&self.pool, &self.model);
        let mut expected: Vec<(u64, Hash)> =
            model.items.iter().map(|i| (i.arrival, i.hash)).collect();
        expected.sort_unstable();
        let got: Vec<Hash> = pool.iter().map(|(tx, ..)| tx.hash()).collect();
        prop_assert_eq!(
            &got,
            &expected.iter().map(|(_, hash)| *hash).collect::<Vec<_>>()
        );
        let stats = pool.stats();
        let count = |subpool| {
            model
                .items
                .iter()
                .filter(|i| !i.executing && model.subpool(i) == Some(subpool))
                .count()
        };
        prop_assert_eq!(stats.transactions, model.items.len());
        prop_assert_eq!(stats.bytes, model.bytes());
        prop_assert_eq!(stats.pending, count(Subpool::Pending));
        prop_assert_eq!(
            stats.executing,
            model.items.iter().filter(|i| i.executing).count()
        );
        prop_assert_eq!(stats.senders, model.known.len());
        prop_assert_eq!(
            stats.favoured,
            model.items.iter().filter(|i| i.favoured).count()
        );
        prop_assert_eq!(pool.has_waiting(), stats.pending > 0);
        let limits = stats.limits;
        prop_assert!(stats.transactions <= limits.transactions && stats.bytes <= limits.bytes);
        prop_assert!(stats.favoured <= limits.local);
        let favoured = model.items.iter().filter(|i| i.favoured);
        prop_assert!(favoured.map(|i| i.bytes).sum::<usize>() <= limits.bytes / 8);
        for sender in 0..SENDERS {
            let mine: Vec<&Item> = model.items.iter().filter(|i| i.sender == sender).collect();
            prop_assert!(mine.len() <= limits.sender_transactions);
            prop_assert!(mine.iter().map(|i| i.bytes).sum::<usize>() <= limits.sender_bytes);
            let mut nonces: Vec<u64> = mine.iter().map(|i| i.nonce).collect();
            nonces.sort_unstable();
            nonces.dedup();
            prop_assert_eq!(nonces.len(), mine.len(), "one entry for a sender and nonce");
            let account = self.state.account(&address(sender)).expect("there").nonce;
            let known = model
                .known
                .get(&sender)
                .map_or(account, |(known, _)| known.nonce.max(account));
            prop_assert_eq!(
                pool.next_nonce(&address(sender), account),
                model.missing(sender, known)
            );
        }
        for (hash, ticket) in &self.tickets {
            let verdict = ticket.borrow().clone();
            prop_assert_eq!(verdict.as_ref(), model.verdicts.get(hash));
            prop_assert_eq!(verdict.is_none(), pool.get(hash).is_some());
            // The pool has let go of those with a verdict: there is nobody left who could send another.
            prop_assert_eq!(verdict.is_some(), ticket.has_changed().is_err());
            if let Some(verdict) = verdict {
                self.kinds.insert(match &verdict {
                    Verdict::Included(_) => "included",
                    Verdict::Dropped(DropReason::Refused(_)) => "dropped: refused",
                    Verdict::Dropped(DropReason::NonceUsed { .. }) => "dropped: nonce used",
                    Verdict::Dropped(DropReason::Orphaned { .. }) => "dropped: orphaned",
                    Verdict::Dropped(DropReason::InsufficientBalance { .. }) => "dropped: balance",
                    Verdict::Dropped(DropReason::FuelPriceTooLow { .. }) => "dropped: price",
                    Verdict::Dropped(DropReason::Replaced { .. }) => "dropped: replaced",
                    Verdict::Dropped(DropReason::Evicted { .. }) => "dropped: evicted",
                    Verdict::Dropped(DropReason::Expired { .. }) => "dropped: expired",
                });
                let before = self.seen.insert(*hash, verdict.clone());
                prop_assert!(before.is_none_or(|before| before == verdict));
            }
        }
        Ok(())
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let money = prop_oneof![3 => 0..50u128, 1 => 5_000..15_000u128];
    (
        0..SENDERS,
        prop_oneof![4 => 2..5u64, 2 => 0..12u64],
        4..20u64,
        0..8u64,
        money,
        5..60u64,
        50..200usize,
        any::<bool>(),
    )
        .prop_map(
            |(sender, nonce, price, tip, amount, fuel, bytes, local)| Spec {
                sender,
                nonce,
                price,
                tip,
                amount,
                fuel,
                bytes,
                local,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let block = (
        prop::array::uniform4(0..3u8),
        prop::array::uniform4(prop_oneof![5 => Just(0u8), 1 => Just(1)]),
        prop_oneof![3 => 0..2_000u128, 1 => 5_000..20_000u128],
        prop_oneof![3 => Just(0), 1 => 1_000..8_000u128],
        prop_oneof![2 => Just(5u64), 1 => 3..9u64],
        any::<bool>(),
        prop::option::weighted(0.3, spec()),
        1..3u64,
    );
    prop_oneof![
        12 => spec().prop_map(Step::Insert),
        1 => any::<prop::sample::Index>().prop_map(Step::Again),
        2 => (20..300u64, 0..8usize, 100..900usize)
            .prop_map(|(fuel, transactions, bytes)| Step::Take { fuel, transactions, bytes }),
        2 => block.prop_map(|(take, foreign, paid, given, base_price, refuse, between, blocks)| Step::Block {
            take, foreign, paid, given, base_price, refuse, between, blocks,
        }),
        1 => Just(Step::Release),
        1 => (0..SENDERS).prop_map(|sender| Step::Refuse { sender }),
        1 => (0..SENDERS).prop_map(|sender| Step::Settle { sender }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        4..14usize,
        600..1_800usize,
        3..8usize,
        300..1_000usize,
        0..4u64,
        0..30u32,
        0..4usize,
        3..12u64,
    )
        .prop_map(
            |(
                transactions,
                bytes,
                sender_transactions,
                sender_bytes,
                nonce_gap,
                price_bump_percent,
                local,
                expiry_blocks,
            )| Limits {
                transactions,
                bytes,
                sender_transactions,
                sender_bytes,
                nonce_gap,
                price_bump_percent,
                local,
                expiry_blocks,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn the_pool_does_what_the_model_does(limits in limits(), steps in prop::collection::vec(step(), 1..80)) {
        let mut pair = Pair::new(limits);
        for step in &steps {
            pair.step(step)?;
        }
    }
}

/// Else the property says less than it seems to.
#[test]
fn the_steps_reach_every_refusal_and_every_verdict() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (limits(), prop::collection::vec(step(), 80));
    let mut kinds = BTreeMap::new();
    for _ in 0..300 {
        let (limits, steps) = strategy.new_tree(&mut runner).expect("generated").current();
        let mut pair = Pair::new(limits);
        for step in &steps {
            pair.step(step).expect("as the model");
        }
        for kind in pair.kinds {
            *kinds.entry(kind).or_insert(0) += 1;
        }
    }
    let expected = [
        "balance",
        "dropped: balance",
        "dropped: evicted",
        "dropped: expired",
        "dropped: nonce used",
        "dropped: orphaned",
        "dropped: price",
        "dropped: refused",
        "dropped: replaced",
        "executing",
        "full",
        "gap",
        "included",
        "known",
        "price",
        "sender",
        "underpriced",
        "used",
    ];
    assert_eq!(kinds.keys().copied().collect::<Vec<_>>(), expected);
    println!("{kinds:?}");
}
