//! The state, and the layers through which a block changes it.
//!
//! ```text
//!   Overlay (one transaction: writes, undo log, values read) ──▶ StateView ── BlockState (writes of the block)
//!      ▲ checkpoint / undo: a nested call that fails                             └── StateSnapshot (RocksDB)
//! ```
//!
//! Keys: `a` + address (32) holds an [`Account`] in borsh; `s` + contract (32) + key holds what the contract stored.

use crate::store::{StateSnapshot, StoreError, decode};
use crate::types::{Account, Address, Hash, digest, encode};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

/// What is stored under a key.
pub(crate) type Value = Arc<[u8]>;

/// Writes by key, in the order of keys; `None` deletes.
pub(crate) type Writes = BTreeMap<Vec<u8>, Option<Value>>;

const ACCOUNT: u8 = b'a';
const STORAGE: u8 = b's';

/// Bytes before a contract's own key in a key of its storage.
pub(crate) const STORAGE_PREFIX: usize = 33;

pub(crate) fn account_key(address: &Address) -> Vec<u8> {
    [&[ACCOUNT], &address.0[..]].concat()
}

pub(crate) fn storage_key(contract: &Address, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(STORAGE_PREFIX + key.len());
    full.push(STORAGE);
    full.extend_from_slice(&contract.0);
    full.extend_from_slice(key);
    full
}

/// The contract whose storage `key` is in, and the length of the contract's own key; `None` for other keys.
pub(crate) fn storage_owner(key: &[u8]) -> Option<(Address, usize)> {
    let (kind, rest) = key.split_first()?;
    let (address, own) = rest.split_first_chunk()?;
    (*kind == STORAGE).then_some((Address(*address), own.len()))
}

/// What is below an [`Overlay`].
pub(crate) trait StateView: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError>;

    /// See [`Scan`].
    fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, StoreError>;

    /// The code with `hash`.
    fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, StoreError>;

    /// Whether there is code with `hash`.
    fn has_code(&self, hash: &Hash) -> Result<bool, StoreError>;
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

    fn bounds(&self) -> (Bound<&Vec<u8>>, Bound<&Vec<u8>>) {
        (self.low.as_ref(), self.high.as_ref())
    }

    fn first_in<'a>(&self, writes: &'a Writes) -> Option<(&'a Vec<u8>, &'a Option<Value>)> {
        let mut range = writes.range::<Vec<u8>, _>(self.bounds());
        if self.descending {
            range.next_back()
        } else {
            range.next()
        }
    }

    /// Where `snapshot` has the next key.
    fn first_stored(&self, snapshot: &StateSnapshot) -> Result<Option<Vec<u8>>, StoreError> {
        snapshot.next(self.bounds(), self.descending)
    }

    /// The next key of `writes` over what `below` finds. Each key of either that the other or a deletion hides takes 1 of `budget`.
    fn merge(
        &self,
        writes: &Writes,
        budget: &mut u64,
        mut below: impl FnMut(&Scan, &mut u64) -> Result<Found, StoreError>,
    ) -> Result<Found, StoreError> {
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
            let Some((key, value)) = scan.first_in(writes) else {
                return Ok(found);
            };
            let earlier = lower.is_some_and(|lower| {
                if self.descending {
                    lower > key
                } else {
                    lower < key
                }
            });
            if earlier {
                return Ok(found);
            }
            if value.is_some() {
                return Ok(Found::Key(key.clone()));
            }
            let Some(left) = budget.checked_sub(1) else {
                return Ok(Found::OverBudget);
            };
            *budget = left;
            let hidden = lower == Some(key);
            scan = scan.beyond(key.clone());
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

/// The least byte string above all that begin with `prefix`, if there is one.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// What a block has done so far, over the state before it.
pub(crate) struct BlockState {
    snapshot: StateSnapshot,
    done: RwLock<Done>,
}

#[derive(Default)]
struct Done {
    writes: Writes,
    /// Code deployed in this block.
    code: BTreeMap<Hash, Arc<Vec<u8>>>,
}

impl BlockState {
    pub(crate) fn new(snapshot: StateSnapshot) -> BlockState {
        BlockState {
            snapshot,
            done: RwLock::default(),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Done) -> T) -> T {
        read(&self.done.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn account(&self, address: &Address) -> Result<Account, StoreError> {
        account(self.get(&account_key(address))?.as_deref())
    }

    pub(crate) fn set_account(&self, address: &Address, account: &Account) {
        let write = (account_key(address), Some(encode(account).into()));
        self.apply(Writes::from([write]));
    }

    pub(crate) fn apply(&self, mut writes: Writes) {
        let mut done = self.done.write().unwrap_or_else(PoisonError::into_inner);
        done.writes.append(&mut writes);
    }

    pub(crate) fn deploy(&self, hash: Hash, code: Arc<Vec<u8>>) {
        let mut done = self.done.write().unwrap_or_else(PoisonError::into_inner);
        done.code.insert(hash, code);
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

/// Hash over writes, in the order of keys.
pub(crate) fn writes_hash(writes: &Writes) -> Hash {
    Hash(digest("slackline:writes:v1", &[&encode(writes)]))
}

impl StateView for BlockState {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        match self.read(|done| done.writes.get(key).cloned()) {
            Some(written) => Ok(written),
            None => self.snapshot.get(key),
        }
    }

    fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, StoreError> {
        self.read(|done| {
            scan.merge(&done.writes, budget, |scan, _| {
                Ok(match scan.first_stored(&self.snapshot)? {
                    Some(key) => Found::Key(key),
                    None => Found::Nothing,
                })
            })
        })
    }

    fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, StoreError> {
        match self.read(|done| done.code.get(hash).cloned()) {
            Some(code) => Ok(Some(code)),
            None => Ok(self.snapshot.code(hash)?.map(Arc::new)),
        }
    }

    fn has_code(&self, hash: &Hash) -> Result<bool, StoreError> {
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
    /// What each write has replaced.
    undo: Vec<(Vec<u8>, Option<Option<Value>>)>,
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
            undo: Vec::new(),
        }
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        self.before(key)
    }

    /// The value of `key` when the transaction began.
    fn before(&mut self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        if let Some(value) = self.read.get(key) {
            return Ok(value.clone());
        }
        let value = self.below.get(key)?;
        self.read.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    /// The next key; each deleted key that is passed over takes 1 of `budget`.
    pub(crate) fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, StoreError> {
        scan.merge(&self.writes, budget, |scan, budget| {
            self.below.next(scan, budget)
        })
    }

    pub(crate) fn set(&mut self, key: Vec<u8>, value: Option<Value>) {
        let before = self.writes.insert(key.clone(), value);
        self.undo.push((key, before));
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.undo.len())
    }

    /// Undoes all since `checkpoint`.
    pub(crate) fn undo(&mut self, checkpoint: Checkpoint) {
        while self.undo.len() > checkpoint.0 {
            match self.undo.pop() {
                Some((key, Some(before))) => self.writes.insert(key, before),
                Some((key, None)) => self.writes.remove(&key),
                None => return,
            };
        }
    }

    pub(crate) fn code(&self, hash: &Hash) -> Result<Option<Arc<Vec<u8>>>, StoreError> {
        self.below.code(hash)
    }

    pub(crate) fn has_code(&self, hash: &Hash) -> Result<bool, StoreError> {
        self.below.has_code(hash)
    }

    pub(crate) fn account(&mut self, address: &Address) -> Result<Account, StoreError> {
        account(self.get(&account_key(address))?.as_deref())
    }

    pub(crate) fn set_account(&mut self, address: &Address, account: &Account) {
        self.set(account_key(address), Some(encode(account).into()));
    }

    /// By how many bytes the storage of each contract has grown or shrunk; each entry counts `entry_bytes` besides key and value.
    pub(crate) fn growth(
        &mut self,
        entry_bytes: u64,
    ) -> Result<BTreeMap<Address, i128>, StoreError> {
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
    pub(crate) fn into_writes(self) -> Writes {
        self.writes
    }
}

fn account(bytes: Option<&[u8]>) -> Result<Account, StoreError> {
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
        fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
            Ok(match self.0.get(key) {
                Some(written) => written.clone(),
                None => self.1.get(key).cloned(),
            })
        }

        fn next(&self, scan: &Scan, budget: &mut u64) -> Result<Found, StoreError> {
            scan.merge(&self.0, budget, |scan, _| {
                let mut range = self.1.range::<Vec<u8>, _>(scan.bounds());
                let next = if scan.descending {
                    range.next_back()
                } else {
                    range.next()
                };
                Ok(next.map_or(Found::Nothing, |(key, _)| Found::Key(key.clone())))
            })
        }

        fn code(&self, _: &Hash) -> Result<Option<Arc<Vec<u8>>>, StoreError> {
            Ok(None)
        }

        fn has_code(&self, _: &Hash) -> Result<bool, StoreError> {
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
