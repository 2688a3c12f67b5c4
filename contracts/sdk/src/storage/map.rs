use super::{Collection, delete_raw, entry_key, has_raw, load, set_raw};
use crate::encode;
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::marker::PhantomData;

/// Values by key. It cannot be listed: [`OrderedMap`](super::OrderedMap) can.
pub struct Map<K, V> {
    prefix: u8,
    of: PhantomData<fn(K) -> V>,
}

impl<K, V> Collection for Map<K, V> {
    fn at(prefix: u8) -> Self {
        Self {
            prefix,
            of: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map at {}", self.prefix)
    }
}

impl<K: BorshSerialize, V> Map<K, V> {
    /// Whether there is a value under `key`.
    pub fn contains(&self, key: &K) -> bool {
        has_raw(&entry_key(self.prefix, key))
    }

    /// Removes what is under `key`.
    pub fn remove(&mut self, key: &K) {
        delete_raw(&entry_key(self.prefix, key));
    }
}

impl<K: BorshSerialize, V: BorshDeserialize> Map<K, V> {
    /// The value under `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        load(&entry_key(self.prefix, key))
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
        let key = entry_key(self.prefix, key);
        let value = load(&key);
        if value.is_some() {
            delete_raw(&key);
        }
        value
    }
}

impl<K: BorshSerialize, V: BorshSerialize> Map<K, V> {
    /// Stores `value` under `key`, in place of what was there.
    pub fn set(&mut self, key: &K, value: &V) {
        set_raw(&entry_key(self.prefix, key), &encode(value));
    }
}
