use super::{Collection, delete_raw, entry_key, has_raw, set_raw};
use borsh::BorshSerialize;
use core::fmt;
use core::marker::PhantomData;

/// Values that are in it or not. It cannot be listed: an [`OrderedMap`](super::OrderedMap) to `()` can.
pub struct Set<T> {
    prefix: u8,
    of: PhantomData<fn(T)>,
}

impl<T> Collection for Set<T> {
    fn at(prefix: u8) -> Self {
        Self {
            prefix,
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set at {}", self.prefix)
    }
}

impl<T: BorshSerialize> Set<T> {
    /// Whether `value` is in it.
    pub fn contains(&self, value: &T) -> bool {
        has_raw(&entry_key(self.prefix, value))
    }

    /// Puts `value` in; says whether it is new.
    pub fn insert(&mut self, value: &T) -> bool {
        let key = entry_key(self.prefix, value);
        let new = !has_raw(&key);
        if new {
            set_raw(&key, &[]);
        }
        new
    }

    /// Takes `value` out; says whether it was in.
    pub fn remove(&mut self, value: &T) -> bool {
        let key = entry_key(self.prefix, value);
        let was = has_raw(&key);
        if was {
            delete_raw(&key);
        }
        was
    }
}
