//! What has been read of the state lately, in front of the database.
//!
//! An entry says what a key holds *since* a height: executions at lower heights do not see it. Those at that height or a higher one may, as long as no
//! block has written the key in between, and a block replaces the entries of what it writes before it is stored. So an
//! execution sees what its snapshot has, whatever is committed meanwhile:
//!
//! - its height is asked for before its snapshot is taken, so that the snapshot is of that height or a higher one;
//! - an entry of a higher height is passed over, and the snapshot asked;
//! - it adds what it has read only while its height is still the last one, under the lock under which the next block moves on.

use crate::state::{Value, Writes};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::{PoisonError, RwLock};

/// Keys, values and what keeping them takes, in bytes.
const CAPACITY: u64 = 64 << 20;

/// What an entry takes besides key and value, in bytes, or a little more.
const OVERHEAD: u64 = 128;

#[derive(Clone)]
struct Entry {
    since: u64,
    value: Option<Value>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Entry> for Bytes {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        let value = entry.value.as_ref().map_or(0, |value| value.len());
        OVERHEAD + key.len() as u64 + value as u64
    }
}

/// See the module's documentation.
pub(crate) struct ReadCache {
    /// Of the last block, or of the one that is being stored.
    height: RwLock<u64>,
    entries: Cache<Box<[u8]>, Entry, Bytes>,
}

impl ReadCache {
    /// An empty one, with `height` as the last.
    pub(crate) fn new(height: u64) -> ReadCache {
        ReadCache {
            height: RwLock::new(height),
            entries: Cache::with_weighter((CAPACITY / 256) as usize, CAPACITY, Bytes),
        }
    }

    /// What `key` holds at `height`, if that is known.
    pub(crate) fn get(&self, height: u64, key: &[u8]) -> Option<Option<Value>> {
        let entry = self.entries.get(key)?;
        (entry.since <= height).then_some(entry.value)
    }

    /// Keeps what has been read at `height`.
    pub(crate) fn insert(&self, height: u64, key: &[u8], value: &Option<Value>) {
        let last = self.height.read().unwrap_or_else(PoisonError::into_inner);
        if *last == height {
            let value = value.clone();
            let since = height;
            self.entries.insert(key.into(), Entry { since, value });
        }
    }

    /// The block at `height` is going to be stored, with these writes.
    pub(crate) fn advance(&self, height: u64, writes: &Writes) {
        let mut last = self.height.write().unwrap_or_else(PoisonError::into_inner);
        *last = height;
        for (key, value) in writes {
            let value = value.clone();
            let since = height;
            self.entries
                .insert(key.as_slice().into(), Entry { since, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(byte: u8) -> Option<Value> {
        Some(Value::from([byte]))
    }

    #[test]
    fn each_height_sees_its_own() {
        let cache = ReadCache::new(5);
        assert_eq!(cache.get(5, b"key"), None);
        cache.insert(5, b"key", &value(1));
        cache.insert(5, b"none", &None);
        assert_eq!(cache.get(5, b"key"), Some(value(1)));
        assert_eq!(cache.get(5, b"none"), Some(None));
        assert_eq!(cache.get(4, b"key"), None);

        cache.advance(6, &Writes::from([(b"key".to_vec(), value(2))]));
        assert_eq!(cache.get(5, b"key"), None);
        assert_eq!(cache.get(6, b"key"), Some(value(2)));
        assert_eq!(cache.get(6, b"none"), Some(None));

        // What an execution at height 5 has read late is not what there is now.
        cache.insert(5, b"key", &value(1));
        cache.insert(5, b"late", &value(1));
        assert_eq!(cache.get(6, b"key"), Some(value(2)));
        assert_eq!(cache.get(6, b"late"), None);
    }
}
