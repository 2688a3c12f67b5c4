//! What the transactions of a block have written so far, by key and transaction.

use crate::sync::{self, RwLock};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Locks of the memory. Keys with the same first bytes share one, so that a scan needs one.
const SHARDS: usize = if cfg!(test) { 2 } else { 128 };

/// What is added to a value without reading it. Adding commutes and is associative.
pub trait Add: Clone + PartialEq {
    /// Adds `other` to this.
    fn add(&mut self, other: &Self);
}

/// What a transaction does to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<V, D> {
    /// Gives it a value. That a key is deleted is a value too, as the machine decides.
    Write(V),
    /// Adds to whatever is there.
    Add(D),
}

/// The last value that was given to a key before a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base<V> {
    /// None in this block: what was there before it.
    Below,
    /// This one.
    Written(V),
}

/// What a key holds for a transaction: the last value before it, and all that has been added since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<V, D> {
    /// The value.
    pub base: Base<V>,
    /// The sum of what has been added to it, if anything has.
    pub added: Option<D>,
}

/// A key, and what it holds.
pub type Held<V, D> = (Vec<u8>, Seen<V, D>);

/// Where a scan looks. Both ends lie within the keys that begin with the same [`Options::prefix`](crate::Options::prefix) bytes, except that
/// the upper one may be the end of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lower end.
    pub low: Bound<Vec<u8>>,
    /// The upper end.
    pub high: Bound<Vec<u8>>,
    /// Whether the greatest key is wanted and not the least.
    pub descending: bool,
}

/// The transaction has to be executed again: what it has read, or was about to read, is no longer what it was. Not an outcome: the machine
/// returns as soon as it can, with [`Stop::Stale`](crate::Stop::Stale).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the transaction has read has changed")]
pub struct Stale;

impl Range {
    /// Whether nothing can be in it.
    fn is_empty(&self) -> bool {
        match (&self.low, &self.high) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high))
            | (Bound::Excluded(low), Bound::Included(high)) => low >= high,
        }
    }

    /// Whether one of `keys`, which are sorted, is in it.
    pub(crate) fn contains_any(&self, keys: &[Vec<u8>]) -> bool {
        let from = match &self.low {
            Bound::Included(low) => keys.partition_point(|key| key < low),
            Bound::Excluded(low) => keys.partition_point(|key| key <= low),
            Bound::Unbounded => 0,
        };
        keys.get(from).is_some_and(|key| match &self.high {
            Bound::Included(high) => key <= high,
            Bound::Excluded(high) => key < high,
            Bound::Unbounded => true,
        })
    }
}

#[derive(Debug)]
struct Entry<V, D> {
    transaction: usize,
    change: Change<V, D>,
    /// Of an incarnation that is void: the next one will probably write here too.
    estimate: bool,
}

/// The changes of a key, in the order of transactions. Never empty.
#[derive(Debug)]
struct Column<V, D>(Vec<Entry<V, D>>);

/// The transaction whose estimate is in the way of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked(pub(crate) usize);

impl<V: Clone, D: Add> Column<V, D> {
    fn below(&self, transaction: usize) -> &[Entry<V, D>] {
        let end = self
            .0
            .partition_point(|entry| entry.transaction < transaction);
        &self.0[..end]
    }

    fn read(&self, transaction: usize) -> Result<Seen<V, D>, Blocked> {
        let mut added: Option<D> = None;
        for entry in self.below(transaction).iter().rev() {
            if entry.estimate {
                return Err(Blocked(entry.transaction));
            }
            match &entry.change {
                Change::Write(value) => {
                    let base = Base::Written(value.clone());
                    return Ok(Seen { base, added });
                }
                Change::Add(more) => match &mut added {
                    Some(added) => added.add(more),
                    None => added = Some(more.clone()),
                },
            }
        }
        let base = Base::Below;
        Ok(Seen { base, added })
    }

    /// An estimate of an add is passed over like an add: should a write come of it, [`Memory::record`] says that it is new.
    fn read_base(&self, transaction: usize) -> Result<Base<V>, Blocked> {
        for entry in self.below(transaction).iter().rev() {
            match &entry.change {
                Change::Write(_) if entry.estimate => return Err(Blocked(entry.transaction)),
                Change::Write(value) => return Ok(Base::Written(value.clone())),
                Change::Add(_) => {}
            }
        }
        Ok(Base::Below)
    }
}

type Shard<V, D> = BTreeMap<Vec<u8>, Column<V, D>>;

/// What [`Memory::record`] has changed.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Whether transactions may have been validated that would have read this.
    pub(crate) new: bool,
    /// The keys that now hold something else for later transactions, sorted.
    pub(crate) changed: Vec<Vec<u8>>,
}

/// Multi-version memory.
#[derive(Debug)]
pub(crate) struct Memory<V, D> {
    /// How many bytes of a key say where it is.
    prefix: usize,
    shards: Vec<RwLock<Shard<V, D>>>,
}

impl<V: Clone + PartialEq, D: Add> Memory<V, D> {
    pub(crate) fn new(prefix: usize) -> Memory<V, D> {
        Memory {
            prefix,
            shards: (0..SHARDS).map(|_| RwLock::new(Shard::new())).collect(),
        }
    }

    fn shard(&self, key: &[u8]) -> &RwLock<Shard<V, D>> {
        // FNV-1a, 8 bytes at a time. Where a key is matters to the time only.
        let hash = key[..key.len().min(self.prefix)].chunks(8).fold(
            0xcbf2_9ce4_8422_2325,
            |hash, chunk| {
                let word = chunk
                    .iter()
                    .fold(0, |word, &byte| word << 8 | u64::from(byte));
                (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
            },
        );
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// What `key` holds for `transaction`.
    pub(crate) fn read(&self, key: &[u8], transaction: usize) -> Result<Seen<V, D>, Blocked> {
        match sync::read(self.shard(key)).get(key) {
            Some(column) => column.read(transaction),
            None => Ok(Seen {
                base: Base::Below,
                added: None,
            }),
        }
    }

    /// The value of `key` for `transaction`, without what has been added.
    pub(crate) fn read_base(&self, key: &[u8], transaction: usize) -> Result<Base<V>, Blocked> {
        match sync::read(self.shard(key)).get(key) {
            Some(column) => column.read_base(transaction),
            None => Ok(Base::Below),
        }
    }

    /// The first key in `range` that a transaction before `transaction` changes.
    pub(crate) fn next(
        &self,
        range: &Range,
        transaction: usize,
    ) -> Result<Option<Held<V, D>>, Blocked> {
        if range.is_empty() {
            return Ok(None);
        }
        let place: &[u8] = match (&range.low, &range.high) {
            (Bound::Included(key) | Bound::Excluded(key), _)
            | (Bound::Unbounded, Bound::Included(key) | Bound::Excluded(key)) => key,
            (Bound::Unbounded, Bound::Unbounded) => &[],
        };
        let shard = sync::read(self.shard(place));
        let mut keys = shard.range::<Vec<u8>, _>((range.low.as_ref(), range.high.as_ref()));
        let changed =
            |(_, column): &(&Vec<u8>, &Column<V, D>)| !column.below(transaction).is_empty();
        let found = if range.descending {
            keys.rfind(changed)
        } else {
            keys.find(changed)
        };
        found
            .map(|(key, column)| Ok((key.clone(), column.read(transaction)?)))
            .transpose()
    }

    /// Replaces what `transaction` has changed, `before`, by `changes`. Both are sorted and without duplicates.
    pub(crate) fn record(
        &self,
        transaction: usize,
        before: &[Vec<u8>],
        changes: Vec<(Vec<u8>, Change<V, D>)>,
    ) -> Recorded {
        let (mut new, mut changed) = (false, Vec::new());
        for key in before {
            if changes
                .binary_search_by(|(other, _)| other.cmp(key))
                .is_ok()
            {
                continue;
            }
            let mut shard = sync::write(self.shard(key));
            if let Some(column) = shard.get_mut(key) {
                column.0.retain(|entry| entry.transaction != transaction);
                if column.0.is_empty() {
                    shard.remove(key);
                }
            }
            changed.push(key.clone());
        }
        for (key, change) in changes {
            let mut shard = sync::write(self.shard(&key));
            let Some(column) = shard.get_mut(&key) else {
                let entry = Entry {
                    transaction,
                    change,
                    estimate: false,
                };
                new = true;
                changed.push(key.clone());
                shard.insert(key, Column(vec![entry]));
                continue;
            };
            let place = column
                .0
                .partition_point(|entry| entry.transaction < transaction);
            match column.0.get_mut(place) {
                Some(entry) if entry.transaction == transaction => {
                    // Whoever read past the add has to look again.
                    new |= matches!((&entry.change, &change), (Change::Add(_), Change::Write(_)));
                    if entry.change != change {
                        changed.push(key);
                    }
                    entry.change = change;
                    entry.estimate = false;
                }
                _ => {
                    let entry = Entry {
                        transaction,
                        change,
                        estimate: false,
                    };
                    column.0.insert(place, entry);
                    new = true;
                    changed.push(key);
                }
            }
        }
        changed.sort_unstable();
        Recorded { new, changed }
    }

    /// Marks what `transaction` has changed, at `keys`, as estimates.
    pub(crate) fn mark_estimates(&self, transaction: usize, keys: &[Vec<u8>]) {
        for key in keys {
            let mut shard = sync::write(self.shard(key));
            let entries = shard
                .get_mut(key)
                .into_iter()
                .flat_map(|column| &mut column.0);
            for entry in entries.filter(|entry| entry.transaction == transaction) {
                entry.estimate = true;
            }
        }
    }

    /// Takes out what the first `transactions` have made of each key that they changed; in no particular order. None of their changes is an estimate.
    pub(crate) fn drain(&self, transactions: usize) -> Vec<Held<V, D>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for (key, column) in std::mem::take(&mut *sync::write(shard)) {
                if column.below(transactions).is_empty() {
                    continue;
                }
                if let Ok(seen) = column.read(transactions) {
                    all.push((key, seen));
                }
            }
        }
        all
    }
}
