use super::{
    Collection, OrderedKey, StartsWith, delete_raw, has_raw, load, malformed, next_raw,
    previous_raw, set_raw,
};
use crate::encode;
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Bound, RangeBounds};

/// Values by key, in the order of the keys: it can be listed from both ends, in ranges, and by what keys begin with.
///
/// Each step of an iterator costs the host's search for the next key and a read, and nothing is bounded but by the fuel:
/// a method that lists takes a limit, and where to begin, from its caller.
pub struct OrderedMap<K, V> {
    prefix: u8,
    of: PhantomData<fn(K) -> V>,
}

impl<K, V> Collection for OrderedMap<K, V> {
    fn at(prefix: u8) -> Self {
        Self {
            prefix,
            of: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for OrderedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrderedMap at {}", self.prefix)
    }
}

impl<K: OrderedKey, V> OrderedMap<K, V> {
    /// Whether there is a value under `key`.
    pub fn contains(&self, key: &K) -> bool {
        has_raw(&self.key(key))
    }

    /// Removes what is under `key`.
    pub fn remove(&mut self, key: &K) {
        delete_raw(&self.key(key));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        next_raw(&[self.prefix], None).is_none()
    }

    fn key(&self, key: &impl OrderedKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80);
        bytes.push(self.prefix);
        key.encode(&mut bytes);
        bytes
    }
}

impl<K: OrderedKey, V: BorshSerialize> OrderedMap<K, V> {
    /// Stores `value` under `key`, in place of what was there.
    pub fn set(&mut self, key: &K, value: &V) {
        set_raw(&self.key(key), &encode(value));
    }
}

impl<K: OrderedKey, V: BorshDeserialize> OrderedMap<K, V> {
    /// The value under `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        load(&self.key(key))
    }

    /// The value under `key`, or the default of its type when there is none.
    pub fn get_or_default(&self, key: &K) -> V
    where
        V: Default,
    {
        self.get(key).unwrap_or_default()
    }

    /// Removes what is under `key` and gives it.
    pub fn take(&mut self, key: &K) -> Option<V> {
        let key = self.key(key);
        let value = load(&key);
        if value.is_some() {
            delete_raw(&key);
        }
        value
    }

    /// The entry with the least key.
    pub fn first(&self) -> Option<(K, V)> {
        self.iter().next()
    }

    /// The entry with the greatest key.
    pub fn last(&self) -> Option<(K, V)> {
        self.iter().next_back()
    }

    /// All entries.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.between(Vec::from([self.prefix]), Low::Start, None)
    }

    /// The entries whose keys are in a range, like `from..` or `(Bound::Excluded(after), Bound::Unbounded)`.
    pub fn range(&self, range: impl RangeBounds<K>) -> Iter<'_, K, V> {
        let low = match range.start_bound() {
            Bound::Unbounded => Low::Start,
            Bound::Included(key) => Low::At(self.key(key)),
            Bound::Excluded(key) => Low::After(self.key(key)),
        };
        let high = match range.end_bound() {
            Bound::Unbounded => None,
            Bound::Excluded(key) => Some(self.key(key)),
            Bound::Included(key) => after(self.key(key)),
        };
        self.between(Vec::from([self.prefix]), low, high)
    }

    /// The entries whose keys begin with these parts of a tuple.
    pub fn prefix<P: OrderedKey>(&self, parts: &P) -> Iter<'_, K, V>
    where
        K: StartsWith<P>,
    {
        self.between(self.key(parts), Low::Start, None)
    }

    fn between(&self, prefix: Vec<u8>, low: Low, high: Option<Vec<u8>>) -> Iter<'_, K, V> {
        Iter {
            keys: Keys { prefix, low, high },
            of: PhantomData,
        }
    }
}

/// Entries of an [`OrderedMap`], ascending; `rev()` for descending.
pub struct Iter<'a, K, V> {
    keys: Keys,
    of: PhantomData<&'a OrderedMap<K, V>>,
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.keys, f)
    }
}

impl<K: OrderedKey, V: BorshDeserialize> Iterator for Iter<'_, K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        self.keys.next().map(entry)
    }
}

impl<K: OrderedKey, V: BorshDeserialize> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<(K, V)> {
        self.keys.next_back().map(entry)
    }
}

fn entry<K: OrderedKey, V: BorshDeserialize>(key: Vec<u8>) -> (K, V) {
    let decoded = key.split_first().and_then(|(_, mut rest)| {
        let decoded = K::decode(&mut rest)?;
        rest.is_empty().then_some(decoded)
    });
    match (decoded, load(&key)) {
        (Some(decoded), Some(value)) => (decoded, value),
        _ => malformed(),
    }
}

/// The least bytes behind all that begin with `key`, if there are any. As no key begins another, what is before them and
/// not `key` is before `key`; and they are no longer than it, so that they are no longer than keys may be.
fn after(mut key: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = key.pop() {
        if let Some(more) = last.checked_add(1) {
            key.push(more);
            return Some(key);
        }
    }
    None
}

/// Where an iterator begins.
#[derive(Debug)]
enum Low {
    /// At the first key.
    Start,
    /// At this key, if it is there, else after it.
    At(Vec<u8>),
    After(Vec<u8>),
}

/// Keys, without what is under them. `low` begins with the prefix; `high` may lie behind all that do.
#[derive(Debug)]
struct Keys {
    prefix: Vec<u8>,
    low: Low,
    /// The first key that is not meant.
    high: Option<Vec<u8>>,
}

impl Keys {
    fn next(&mut self) -> Option<Vec<u8>> {
        let key = match &self.low {
            Low::Start => next_raw(&self.prefix, None),
            Low::At(key) if has_raw(key) => Some(key.clone()),
            Low::At(key) | Low::After(key) => next_raw(&self.prefix, Some(key)),
        }?;
        if self.high.as_ref().is_some_and(|high| key >= *high) {
            return None;
        }
        self.low = Low::After(key.clone());
        Some(key)
    }

    fn next_back(&mut self) -> Option<Vec<u8>> {
        let key = previous_raw(&self.prefix, self.high.as_deref())?;
        let in_range = match &self.low {
            Low::Start => true,
            Low::At(low) => key >= *low,
            Low::After(low) => key > *low,
        };
        if !in_range {
            return None;
        }
        self.high = Some(key.clone());
        Some(key)
    }
}
