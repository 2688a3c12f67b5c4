//! The state, and the layers through which a block changes it.
//!
//! ```text
//!   Overlay (one transaction: writes, adds, undo log, values read) ──▶ StateView ── BlockState (writes of the block)
//!      ▲ checkpoint / undo: a nested call that fails                      │             └── StateSnapshot (RocksDB)
//!                                                                         └── parallel::View (what those before it wrote, so far)
//! ```
//!
//! Keys: `a` + address (32) holds an [`Account`] in borsh; `s` + contract (32) + key holds what the contract stored; `v` + zeros (32) holds the
//! [`Validator`](crate::types::Validator)s, `g` + zeros (32) the address of the governor, if there are any.

use crate::read_cache::ReadCache;
use crate::store::{StateSnapshot, StoreError, decode, successor};
use crate::types::{Account, Address, Hash, encode};
use crate::vm::ExecutionError;
use slackline_parallel::Add;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

/// What is stored under a key.
pub(crate) type Value = Arc<[u8]>;

/// Writes by key, in the order of keys; `None` deletes.
pub(crate) type Writes = BTreeMap<Vec<u8>, Option<Value>>;

const ACCOUNT: u8 = b'a';
const STORAGE: u8 = b's';
const VALIDATORS: u8 = b'v';
const GOVERNOR: u8 = b'g';

/// Bytes before a contract's own key in a key of its storage.
pub(crate) const STORAGE_PREFIX: usize = 33;

/// The key of the state that holds an account.
pub fn account_key(address: &Address) -> Vec<u8> {
    [&[ACCOUNT], &address.0[..]].concat()
}

/// The key of the state that holds what `contract` stores under `key`.
pub fn storage_key(contract: &Address, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(STORAGE_PREFIX + key.len());
    full.push(STORAGE);
    full.extend_from_slice(&contract.0);
    full.extend_from_slice(key);
    full
}

/// The key of the state that holds the validators.
pub fn validators_key() -> Vec<u8> {
    let mut key = vec![0; STORAGE_PREFIX];
    key[0] = VALIDATORS;
    key
}

/// The key of the state that holds the address of who may change the validators.
pub fn governor_key() -> Vec<u8> {
    let mut key = validators_key();
    key[0] = GOVERNOR;
    key
}

/// The contract whose storage `key` is in, and the length of the contract's own key; `None` for other keys.
pub(crate) fn storage_owner(key: &[u8]) -> Option<(Address, usize)> {
    let (kind, rest) = key.split_first()?;
    let (address, own) = rest.split_first_chunk()?;
    (*kind == STORAGE).then_some((Address(*address), own.len()))
}

/// What is below an [`Overlay`]. Reads fail with [`ExecutionError::Stale`] if the transaction has to be executed again.
pub(crate) trait StateView: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ExecutionError>;

    /// The hash of the code of the account under `key`: all of it that the caller's doings depend on.
    fn code_of(&self, key: &[u8]) -> Result<Option<Hash>, ExecutionError> {
        Ok(account(self.get(key)?.as_deref())?.code)
    }

    /// See [`Scan`].
    fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, ExecutionError>;

    /// The code with `hash`.
    fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, ExecutionError>;

    /// Whether there is code with `hash`.
    fn has_code(&self, hash: &Hash) -> Result<bool, ExecutionError>;

    /// Whether the transaction has to be executed again, so that nothing it does counts.
    fn is_stale(&self) -> bool {
        false
    }
}

/// What is added to an account by who does not look at it. Adds commute and cannot overflow, so that they need no order: all the currency that
/// there is is below 2^127 (see [`crate::Genesis`]), and what storage counts is a sum over what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccountAdd {
    /// Paid to it, in the smallest unit of the currency.
    pub(crate) balance: u128,
    /// To [`Account::storage_bytes`].
    pub(crate) storage_bytes: i128,
    /// To [`Account::deposit`].
    pub(crate) deposit: i128,
}

impl Add for AccountAdd {
    fn add(&mut self, other: &AccountAdd) {
        // No sum of a block's wraps: see above. What wraps on the way, on a state that never is, is executed again.
        self.balance = self.balance.wrapping_add(other.balance);
        self.storage_bytes = self.storage_bytes.wrapping_add(other.storage_bytes);
        self.deposit = self.deposit.wrapping_add(other.deposit);
    }
}

impl AccountAdd {
    pub(crate) fn balance(balance: u128) -> AccountAdd {
        AccountAdd {
            balance,
            ..AccountAdd::default()
        }
    }

    /// Adds to `account`.
    pub(crate) fn apply(&self, account: &mut Account) -> Result<(), StoreError> {
        let damaged = |what: &str| StoreError::Damaged(format!("the {what} of an account"));
        account.balance = account
            .balance
            .checked_add(self.balance)
            .ok_or_else(|| damaged("balance"))?;
        let size = i128::from(account.storage_bytes).checked_add(self.storage_bytes);
        account.storage_bytes = size
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| damaged("storage size"))?;
        account.deposit = account
            .deposit
            .checked_add_signed(self.deposit)
            .ok_or_else(|| damaged("deposit"))?;
        Ok(())
    }

    /// Adds to the account that is stored as `bytes`, if there is one, and stores it.
    pub(crate) fn apply_to(&self, bytes: Option<&[u8]>) -> Result<Value, StoreError> {
        let mut account = account(bytes)?;
        self.apply(&mut account)?;
        Ok(encode(&account).into())
    }
}

/// What a transaction has done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) writes: Writes,
    /// To accounts that are not among the writes.
    pub(crate) adds: BTreeMap<Address, AccountAdd>,
    /// Code that it has brought.
    pub(crate) code: Option<(Hash, Arc<Vec<u8>>)>,
}

/// Asks for the next key in an order.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// Where keys may be.
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    descending: bool,
}

/// What a scan has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Key(Vec<u8>),
    Nothing,
    /// More deleted keys had to be passed over than there was budget for.
    OverBudget,
}

impl Scan {
    /// The first key with `prefix`, after `from` if that is given; `descending`: the last one, before `from`.
    pub(crate) fn new(prefix: &[u8], from: Option<&[u8]>, descending: bool) -> Scan {
        let mut low = Bound::Included(prefix.to_vec());
        let mut high = match successor(prefix) {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        if let Some(from) = from {
            let from = from.to_vec();
            // `from` may lie outside the prefix: a bound only ever gets tighter.
            if descending {
                if below(&from, &high) {
                    high = Bound::Excluded(from);
                }
            } else if from.as_slice() >= prefix {
                low = Bound::Excluded(from);
            }
        }
        Scan {
            low,
            high,
            descending,
        }
    }

    fn is_empty(&self) -> bool {
        let (Bound::Included(low) | Bound::Excluded(low)) = &self.low else {
            return false;
        };
        let (Bound::Included(high) | Bound::Excluded(high)) = &self.high else {
            return false;
        };
        low >= high
    }

    /// The same beyond `key`.
    fn beyond(&self, key: Vec<u8>) -> Scan {
        let mut scan = self.clone();
        if self.descending {
            scan.high = Bound::Excluded(key);
        } else {
            scan.low = Bound::Excluded(key);
        }
        scan
    }

    /// Where it looks, to be looked at elsewhere.
    pub(crate) fn range(&self) -> slackline_parallel::Range {
        slackline_parallel::Range {
            low: self.low.clone(),
            high: self.high.clone(),
            descending: self.descending,
        }
    }

    fn bounds(&self) -> (Bound<&Vec<u8>>, Bound<&Vec<u8>>) {
        (self.low.as_ref(), self.high.as_ref())
    }

    /// The next key of `writes`, and whether it has a value.
    fn first_in(&self, writes: &Writes) -> Option<(Vec<u8>, bool)> {
        let mut range = writes.range::<Vec<u8>, _>(self.bounds());
        let next = if self.descending {
            range.next_back()
        } else {
            range.next()
        };
        next.map(|(key, value)| (key.clone(), value.is_some()))
    }

    /// Where `snapshot` has the next key.
    pub(crate) fn first_stored(
        &self,
        snapshot: &StateSnapshot,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        snapshot.next(self.bounds(), self.descending)
    }

    /// The next key of what `written` finds, with whether it has a value, over what `below` finds. Each key of either that the other or a
    /// deletion hides takes 1 of `budget`.
    pub(crate) fn merge(
        &self,
        budget: &mut u64,
        mut written: impl FnMut(&Scan) -> Result<Option<(Vec<u8>, bool)>, ExecutionError>,
        mut below: impl FnMut(&Scan, &mut u64) -> Result<Found, ExecutionError>,
    ) -> Result<Found, ExecutionError> {
        let mut scan = self.clone();
        // What is below, once known, stays the next one until the scan has gone beyond it.
        let mut under: Option<Found> = None;
        loop {
            if scan.is_empty() {
                return Ok(Found::Nothing);
            }
            let found = match under.take() {
                Some(found) => found,
                None => below(&scan, budget)?,
            };
            let lower = match &found {
                Found::Key(key) => Some(key),
                Found::Nothing => None,
                Found::OverBudget => return Ok(found),
            };
            let Some((key, has_value)) = written(&scan)? else {
                return Ok(found);
            };
            let earlier = lower.is_some_and(|lower| {
                if self.descending {
                    *lower > key
                } else {
                    *lower < key
                }
            });
            if earlier {
                return Ok(found);
            }
            if has_value {
                return Ok(Found::Key(key));
            }
            let Some(left) = budget.checked_sub(1) else {
                return Ok(Found::OverBudget);
            };
            *budget = left;
            let hidden = lower == Some(&key);
            scan = scan.beyond(key);
            if !hidden {
                under = Some(found);
            }
        }
    }
}

fn below(key: &[u8], high: &Bound<Vec<u8>>) -> bool {
    match high {
        Bound::Excluded(high) | Bound::Included(high) => key < high.as_slice(),
        Bound::Unbounded => true,
    }
}

/// What a block has done so far, over the state before it.
pub(crate) struct BlockState {
    snapshot: StateSnapshot,
    /// With the height that this sees.
    cache: Option<(Arc<ReadCache>, u64)>,
    done: RwLock<Done>,
}

#[derive(Default)]
pub(crate) struct Done {
    pub(crate) writes: Writes,
    /// Code deployed in this block.
    pub(crate) code: BTreeMap<Hash, Arc<Vec<u8>>>,
}

impl BlockState {
    pub(crate) fn new(snapshot: StateSnapshot) -> BlockState {
        BlockState {
            snapshot,
            cache: None,
            done: RwLock::default(),
        }
    }

    /// The same with `cache` in front of the snapshot, which is of `height` or a higher one.
    pub(crate) fn cached(mut self, cache: Arc<ReadCache>, height: u64) -> BlockState {
        self.cache = Some((cache, height));
        self
    }

    fn read<T>(&self, read: impl FnOnce(&Done) -> T) -> T {
        read(&self.done.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was there before the block.
    pub(crate) fn snapshot(&self) -> &StateSnapshot {
        &self.snapshot
    }

    /// What was under `key` before the block.
    pub(crate) fn before(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let Some((cache, height)) = &self.cache else {
            return self.snapshot.get(key);
        };
        if let Some(known) = cache.get(*height, key) {
            return Ok(known);
        }
        let value = self.snapshot.get(key)?;
        cache.insert(*height, key, &value);
        Ok(value)
    }

    /// The value of `key`.
    pub(crate) fn value(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        match self.read(|done| done.writes.get(key).cloned()) {
            Some(written) => Ok(written),
            None => self.before(key),
        }
    }

    pub(crate) fn account(&self, address: &Address) -> Result<Account, StoreError> {
        account(self.value(&account_key(address))?.as_deref())
    }

    pub(crate) fn set_account(&self, address: &Address, account: &Account) {
        let mut done = self.done.write().unwrap_or_else(PoisonError::into_inner);
        let value = encode(account).into();
        done.writes.insert(account_key(address), Some(value));
    }

    /// Does what a transaction has done.
    pub(crate) fn apply(&self, mut effects: Effects) -> Result<(), StoreError> {
        for (address, add) in effects.adds {
            let key = account_key(&address);
            let value = add.apply_to(self.value(&key)?.as_deref())?;
            effects.writes.insert(key, Some(value));
        }
        let mut done = self.done.write().unwrap_or_else(PoisonError::into_inner);
        // Not `append`, which goes over all that the block has written.
        done.writes.extend(effects.writes);
        done.code.extend(effects.code);
        Ok(())
    }

    /// Does, before anything else, what the first transactions have done.
    pub(crate) fn start_with(&self, done: Done) {
        *self.done.write().unwrap_or_else(PoisonError::into_inner) = done;
    }

    /// What is to be stored.
    pub(crate) fn into_writes(self) -> (Writes, BTreeMap<Hash, Arc<Vec<u8>>>) {
        let done = self
            .done
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (done.writes, done.code)
    }
}

impl StateView for BlockState {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ExecutionError> {
        Ok(self.value(key)?)
    }

    fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, ExecutionError> {
        self.read(|done| {
            let written = |scan: &Scan| Ok(scan.first_in(&done.writes));
            scan.merge(budget, written, |scan, _| {
                Ok(match scan.first_stored(&self.snapshot)? {
                    Some(key) => Found::Key(key),
                    None => Found::Nothing,
                })
            })
        })
    }

    fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, ExecutionError> {
        match self.read(|done| done.code.get(hash).cloned()) {
            Some(code) => Ok(Some(code)),
            None => Ok(self.snapshot.code(hash)?.map(Arc::new)),
        }
    }

    fn has_code(&self, hash: &Hash) -> Result<bool, ExecutionError> {
        let deployed = self.read(|done| done.code.contains_key(hash));
        Ok(deployed || self.snapshot.has_code(hash)?)
    }
}

/// What a transaction has done so far, over its block.
pub(crate) struct Overlay {
    below: Arc<dyn StateView>,
    /// Only ever looked up by key: no order of it shows.
    read: HashMap<Vec<u8>, Option<Value>>,
    writes: Writes,
    /// To accounts that are not among the writes.
    adds: HashMap<Address, AccountAdd>,
    undo: Vec<Undo>,
}

/// What a change has replaced.
enum Undo {
    Write(Vec<u8>, Option<Option<Value>>),
    Add(Address, Option<AccountAdd>),
}

/// A point to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkpoint(usize);

impl Overlay {
    pub(crate) fn new(below: Arc<dyn StateView>) -> Overlay {
        Overlay {
            below,
            read: HashMap::new(),
            writes: Writes::new(),
            adds: HashMap::new(),
            undo: Vec::new(),
        }
    }

    /// Whether nothing that is done here counts: see [`StateView::is_stale`].
    pub(crate) fn is_stale(&self) -> bool {
        self.below.is_stale()
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Value>, ExecutionError> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        self.before(key)
    }

    /// The value of `key` when the transaction began.
    fn before(&mut self, key: &[u8]) -> Result<Option<Value>, ExecutionError> {
        if let Some(value) = self.read.get(key) {
            return Ok(value.clone());
        }
        let value = self.below.get(key)?;
        self.read.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    /// The next key; each deleted key that is passed over takes 1 of `budget`.
    pub(crate) fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, ExecutionError> {
        let written = |scan: &Scan| Ok(scan.first_in(&self.writes));
        scan.merge(budget, written, |scan, budget| {
            self.below.next(scan, budget)
        })
    }

    pub(crate) fn set(&mut self, key: Vec<u8>, value: Option<Value>) {
        let before = self.writes.insert(key.clone(), value);
        self.undo.push(Undo::Write(key, before));
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.undo.len())
    }

    /// Undoes all since `checkpoint`.
    pub(crate) fn undo(&mut self, checkpoint: Checkpoint) {
        while self.undo.len() > checkpoint.0 {
            match self.undo.pop() {
                Some(Undo::Write(key, Some(before))) => {
                    self.writes.insert(key, before);
                }
                Some(Undo::Write(key, None)) => {
                    self.writes.remove(&key);
                }
                Some(Undo::Add(address, Some(before))) => {
                    self.adds.insert(address, before);
                }
                Some(Undo::Add(address, None)) => {
                    self.adds.remove(&address);
                }
                None => return,
            }
        }
    }

    pub(crate) fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, ExecutionError> {
        self.below.code(hash)
    }

    pub(crate) fn has_code(&self, hash: &Hash) -> Result<bool, ExecutionError> {
        self.below.has_code(hash)
    }

    pub(crate) fn account(&mut self, address: &Address) -> Result<Account, ExecutionError> {
        let mut account = account(self.get(&account_key(address))?.as_deref())?;
        if let Some(add) = self.adds.get(address) {
            add.apply(&mut account)?;
        }
        Ok(account)
    }

    /// The hash of an account's code, without depending on the rest of the account.
    pub(crate) fn code_of(&self, address: &Address) -> Result<Option<Hash>, ExecutionError> {
        let key = account_key(address);
        match self.writes.get(&key).or_else(|| self.read.get(&key)) {
            Some(known) => Ok(account(known.as_deref())?.code),
            None => self.below.code_of(&key),
        }
    }

    pub(crate) fn set_account(&mut self, address: &Address, account: &Account) {
        if let Some(before) = self.adds.remove(address) {
            self.undo.push(Undo::Add(*address, Some(before)));
        }
        self.set(account_key(address), Some(encode(account).into()));
    }

    /// Adds to an account without looking at it, unless this transaction has written it.
    pub(crate) fn add(&mut self, address: &Address, add: &AccountAdd) -> Result<(), StoreError> {
        let key = account_key(address);
        if let Some(written) = self.writes.get(&key) {
            let value = add.apply_to(written.as_deref())?;
            self.set(key, Some(value));
            return Ok(());
        }
        let before = self.adds.get(address).cloned();
        self.adds.entry(*address).or_default().add(add);
        self.undo.push(Undo::Add(*address, before));
        Ok(())
    }

    /// By how many bytes the storage of each contract has grown or shrunk; each entry counts `entry_bytes` besides key and value.
    pub(crate) fn growth(
        &mut self,
        entry_bytes: u64,
    ) -> Result<BTreeMap<Address, i128>, ExecutionError> {
        let mut growth = BTreeMap::new();
        let sizes: Vec<_> = self
            .writes
            .iter()
            .filter_map(|(key, value)| {
                let (contract, own) = storage_owner(key)?;
                Some((
                    key.clone(),
                    contract,
                    own,
                    value.as_ref().map(|value| value.len()),
                ))
            })
            .collect();
        for (key, contract, own, after) in sizes {
            let before = self.before(&key)?.map(|value| value.len());
            let size = |value: Option<usize>| {
                value.map_or(0, |value| {
                    i128::from(entry_bytes) + own as i128 + value as i128
                })
            };
            *growth.entry(contract).or_insert(0) += size(after) - size(before);
        }
        Ok(growth)
    }

    /// What it has written.
    pub(crate) fn into_effects(self) -> Effects {
        Effects {
            writes: self.writes,
            adds: self.adds.into_iter().collect(),
            code: None,
        }
    }
}

pub(crate) fn account(bytes: Option<&[u8]>) -> Result<Account, StoreError> {
    match bytes {
        Some(bytes) => decode(bytes, "account"),
        None => Ok(Account::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A view with deletions in it, like a block's.
    struct Layers(Writes, BTreeMap<Vec<u8>, Value>);

    impl StateView for Layers {
        fn get(&self, key: &[u8]) -> Result<Option<Value>, ExecutionError> {
            Ok(match self.0.get(key) {
                Some(written) => written.clone(),
                None => self.1.get(key).cloned(),
            })
        }

        fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, ExecutionError> {
            let written = |scan: &Scan| Ok(scan.first_in(&self.0));
            scan.merge(budget, written, |scan, _| {
                let mut range = self.1.range::<Vec<u8>, _>(scan.bounds());
                let next = if scan.descending {
                    range.next_back()
                } else {
                    range.next()
                };
                Ok(next.map_or(Found::Nothing, |(key, _)| Found::Key(key.clone())))
            })
        }

        fn code(&self, _: &Hash) -> Result<Option<Arc<Vec<u8>>>, ExecutionError> {
            Ok(None)
        }

        fn has_code(&self, _: &Hash) -> Result<bool, ExecutionError> {
            Ok(false)
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 254, 255]), 0..4)
    }

    fn value() -> impl Strategy<Value = Value> {
        prop::collection::vec(any::<u8>(), 0..3).prop_map(Into::into)
    }

    fn writes() -> impl Strategy<Value = Writes> {
        prop::collection::btree_map(key(), prop::option::of(value()), 0..12)
    }

    proptest! {
        #[test]
        fn a_walk_sees_what_a_map_of_everything_has(
            stored in prop::collection::btree_map(key(), value(), 0..12),
            block in writes(),
            own in writes(),
            prefix in key(),
            from in prop::option::of(key()),
            descending: bool,
        ) {
            let mut all = stored.clone();
            for (key, value) in block.iter().chain(&own) {
                match value {
                    Some(value) => all.insert(key.clone(), value.clone()),
                    None => all.remove(key),
                };
            }
            let mut expected: Vec<Vec<u8>> = all
                .into_keys()
                .filter(|key| key.starts_with(&prefix))
                .filter(|key| match &from {
                    None => true,
                    Some(from) if descending => key < from,
                    Some(from) => key > from,
                })
                .collect();
            if descending {
                expected.reverse();
            }

            let mut overlay = Overlay::new(Arc::new(Layers(block, stored)));
            for (key, value) in own {
                overlay.set(key, value);
            }
            let mut walked = Vec::new();
            let mut from = from;
            while let Found::Key(key) = overlay
                .next(&Scan::new(&prefix, from.as_deref(), descending), &mut u64::MAX.clone())
                .expect("no database")
            {
                walked.push(key.clone());
                from = Some(key);
            }
            prop_assert_eq!(walked, expected);
        }

        #[test]
        fn undoing_restores_every_value_and_the_growth(
            stored in prop::collection::btree_map(key(), value(), 0..8),
            first in prop::collection::vec((key(), prop::option::of(value())), 0..8),
            second in prop::collection::vec((key(), prop::option::of(value())), 0..8),
        ) {
            let contract = Address([3; 32]);
            let in_storage = |key: &[u8]| storage_key(&contract, key);
            let stored = stored.into_iter().map(|(key, value)| (in_storage(&key), value)).collect();
            let mut overlay = Overlay::new(Arc::new(Layers(Writes::new(), stored)));
            for (key, value) in first {
                overlay.set(in_storage(&key), value);
            }
            let before = (overlay.writes.clone(), overlay.growth(5).expect("no database"));
            let checkpoint = overlay.checkpoint();
            for (key, value) in second {
                overlay.set(in_storage(&key), value);
            }
            overlay.undo(checkpoint);
            let after = (overlay.writes.clone(), overlay.growth(5).expect("no database"));
            prop_assert_eq!(before, after);
        }
    }

    /// Reading, writing and undoing with adds in between come to the same as with sums.
    #[test]
    fn an_account_that_is_added_to() {
        let address = Address([7; 32]);
        let before = Account {
            balance: 10,
            storage_bytes: 5,
            deposit: 50,
            ..Account::default()
        };
        let stored = BTreeMap::from([(account_key(&address), Value::from(encode(&before)))]);
        let mut overlay = Overlay::new(Arc::new(Layers(Writes::new(), stored)));
        let add = AccountAdd {
            balance: 3,
            storage_bytes: -5,
            deposit: -50,
        };
        overlay.add(&address, &add).expect("it fits");
        let checkpoint = overlay.checkpoint();
        overlay
            .add(&address, &AccountAdd::balance(4))
            .expect("it fits");
        let account = overlay.account(&address).expect("no database");
        assert_eq!(
            (account.balance, account.storage_bytes, account.deposit),
            (17, 0, 0)
        );
        assert!(overlay.writes.is_empty());
        overlay.set_account(&address, &account);
        overlay
            .add(&address, &AccountAdd::balance(1))
            .expect("it fits");
        assert_eq!(overlay.account(&address).expect("no database").balance, 18);
        assert!(overlay.adds.is_empty());
        overlay.undo(checkpoint);
        assert_eq!(overlay.account(&address).expect("no database").balance, 13);
        let effects = overlay.into_effects();
        assert!(effects.writes.is_empty());
        assert_eq!(effects.adds, BTreeMap::from([(address, add)]));
        let too_much = AccountAdd {
            storage_bytes: -6,
            ..AccountAdd::default()
        };
        assert!(too_much.apply(&mut before.clone()).is_err());
    }

    #[test]
    fn deleted_keys_on_the_way_are_counted_and_bounded() {
        let stored = (0..10u8).map(|n| (vec![n], Value::from([n]))).collect();
        let block = (0..4u8).map(|n| (vec![n], None)).collect();
        let mut overlay = Overlay::new(Arc::new(Layers(block, stored)));
        for n in 4..7u8 {
            overlay.set(vec![n], None);
        }
        let scan = Scan::new(&[], None, false);
        let mut budget = 7;
        assert_eq!(
            overlay.next(&scan, &mut budget).ok(),
            Some(Found::Key(vec![7]))
        );
        assert_eq!(budget, 0);
        let mut budget = 6;
        assert_eq!(
            overlay.next(&scan, &mut budget).ok(),
            Some(Found::OverBudget)
        );
    }

    #[test]
    fn growth_counts_keys_values_and_entries() {
        let contract = Address([1; 32]);
        let stored = BTreeMap::from([
            (storage_key(&contract, b"gone"), Value::from(*b"12345")),
            (storage_key(&contract, b"kept"), Value::from(*b"12345")),
        ]);
        let mut overlay = Overlay::new(Arc::new(Layers(Writes::new(), stored)));
        overlay.set(storage_key(&contract, b"gone"), None);
        overlay.set(storage_key(&contract, b"kept"), Some(Value::from(*b"1")));
        overlay.set(storage_key(&contract, b"new"), Some(Value::from([0; 100])));
        overlay.set(account_key(&contract), Some(Value::from([0; 100])));
        let growth = overlay.growth(10).expect("no database");
        assert_eq!(
            growth,
            BTreeMap::from([(contract, -(10 + 4 + 5) - 4 + (10 + 3 + 100))])
        );
    }
}
