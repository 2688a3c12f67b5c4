use super::{Collection, delete_raw, has_raw, load, set_raw};
use crate::encode;
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::marker::PhantomData;

/// One value, or none yet.
pub struct Value<T> {
    prefix: u8,
    of: PhantomData<fn() -> T>,
}

impl<T> Collection for Value<T> {
    fn at(prefix: u8) -> Self {
        Self {
            prefix,
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value at {}", self.prefix)
    }
}

impl<T> Value<T> {
    /// Whether there is a value.
    pub fn is_set(&self) -> bool {
        has_raw(&[self.prefix])
    }

    /// Forgets the value.
    pub fn clear(&mut self) {
        delete_raw(&[self.prefix]);
    }
}

impl<T: BorshDeserialize> Value<T> {
    /// The value.
    pub fn get(&self) -> Option<T> {
        load(&[self.prefix])
    }

    /// The value, or the default of its type when there is none.
    pub fn get_or_default(&self) -> T
    where
        T: Default,
    {
        self.get().unwrap_or_default()
    }

    /// Forgets the value and gives it.
    pub fn take(&mut self) -> Option<T> {
        let value = self.get();
        if value.is_some() {
            self.clear();
        }
        value
    }
}

impl<T: BorshSerialize> Value<T> {
    /// Stores `value`, in place of what was there.
    pub fn set(&mut self, value: &T) {
        set_raw(&[self.prefix], &encode(value));
    }
}
