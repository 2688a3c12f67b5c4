use super::{Collection, delete_raw, load, malformed, set_raw};
use crate::{encode, revert};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::marker::PhantomData;

/// Values in a row, with indices from 0 on.
pub struct List<T> {
    prefix: u8,
    of: PhantomData<fn() -> T>,
}

impl<T> Collection for List<T> {
    fn at(prefix: u8) -> Self {
        Self {
            prefix,
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List at {}", self.prefix)
    }
}

impl<T> List<T> {
    /// How many there are: one read.
    pub fn len(&self) -> u32 {
        load(&[self.prefix]).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set_len(&mut self, len: u32) {
        if len == 0 {
            delete_raw(&[self.prefix]);
        } else {
            set_raw(&[self.prefix], &len.to_le_bytes());
        }
    }

    fn key(&self, index: u32) -> [u8; 5] {
        let [a, b, c, d] = index.to_be_bytes();
        [self.prefix, a, b, c, d]
    }
}

impl<T: BorshDeserialize> List<T> {
    /// The value at `index`; `None` when that is not below the length.
    pub fn get(&self, index: u32) -> Option<T> {
        // Nothing is stored from the length on.
        load(&self.key(index))
    }

    /// Removes the last value and gives it.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.len().checked_sub(1)?;
        let value = self.stored(last);
        delete_raw(&self.key(last));
        self.set_len(last);
        Some(value)
    }

    /// All values, each read when it is asked for.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + ExactSizeIterator {
        // A contract's `usize` has 32 bits.
        (0..self.len() as usize).map(|index| self.stored(index as u32))
    }

    /// A value below the length.
    fn stored(&self, index: u32) -> T {
        match self.get(index) {
            Some(value) => value,
            None => malformed(),
        }
    }
}

impl<T: BorshSerialize> List<T> {
    /// Appends `value`.
    ///
    /// # Panics
    ///
    /// Reverts when there are 2^32 - 1 already.
    pub fn push(&mut self, value: &T) {
        let len = self.len();
        let Some(more) = len.checked_add(1) else {
            revert("list is full");
        };
        set_raw(&self.key(len), &encode(value));
        self.set_len(more);
    }

    /// Stores `value` at `index`, in place of what is there.
    ///
    /// # Panics
    ///
    /// Reverts when `index` is not below the length.
    pub fn set(&mut self, index: u32, value: &T) {
        if index >= self.len() {
            revert("index beyond the end of the list");
        }
        set_raw(&self.key(index), &encode(value));
    }
}

impl<T: BorshSerialize + BorshDeserialize> List<T> {
    /// Removes the value at `index` and gives it; the last one takes its place. `None` when `index` is not below the
    /// length.
    pub fn swap_remove(&mut self, index: u32) -> Option<T> {
        let last = self.len().checked_sub(1).filter(|last| index <= *last)?;
        let value = self.stored(index);
        if index < last {
            let moved = self.stored(last);
            set_raw(&self.key(index), &encode(&moved));
        }
        delete_raw(&self.key(last));
        self.set_len(last);
        Some(value)
    }
}
