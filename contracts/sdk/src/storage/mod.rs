//! The contract's own key-value storage, and collections in it that read only what is asked for.
//!
//! ```text
//!   #[storage]
//!   struct Token {                               keys                           values
//!       supply: Value<u128>,                     00                             borsh
//!       balances: Map<Address, u128>,            01 borsh(key)                  borsh
//!       names: OrderedMap<String, Address>,      02 ordered(key)                borsh
//!       log: List<Entry>,                        03 │ 03 index (4, big-endian)  length (u32) │ borsh
//!       minters: Set<Address>,                   04 borsh(value)                nothing
//!   }
//! ```
//!
//! The first byte of a key is the field's place in the struct, or what `#[key(n)]` before the field says. **A contract
//! that is upgraded finds its data by these bytes**: new fields go to the end, or get a key of their own; a field that
//! goes leaves its key unused (the others then need `#[key(n)]`); the type of a field changes only if the `upgrade` hook
//! rewrites what is stored. Names do not matter.
//!
//! A collection is a handle: making one costs nothing, every `get` is a read by the host and every `set` a write. What
//! is stored under a collection's key and is not of its type reverts the call with "malformed value in storage". In a view
//! call, writes abort the call.
//!
//! The functions of this module are for contracts that want keys of their own. Keys and values are borsh; the
//! functions that end in `_raw` take the bytes themselves.

use crate::{decode, encode, revert, sys};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

mod key;
mod list;
mod map;
mod ordered;
mod set;
mod value;

pub use key::{OrderedKey, StartsWith};
pub use list::List;
pub use map::Map;
pub use ordered::{Iter, OrderedMap};
pub use set::Set;
pub use value::Value;

/// What the fields of a storage struct are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of the storage",
    label = "not a collection",
    note = "a single value is `Value<{Self}>`; then there are `Map`, `OrderedMap`, `List` and `Set`"
)]
pub trait Collection {
    /// The collection whose keys begin with `prefix`.
    fn at(prefix: u8) -> Self;
}

/// The value under `key`, if there is one; reverts when it is not a `V`.
pub fn get<V: BorshDeserialize>(key: &(impl BorshSerialize + ?Sized)) -> Option<V> {
    load(&encode(key))
}

/// Puts `value` under `key`, in place of what was there.
pub fn set(key: &(impl BorshSerialize + ?Sized), value: &(impl BorshSerialize + ?Sized)) {
    set_raw(&encode(key), &encode(value));
}

/// Removes `key` and its value; nothing happens when it is not there.
pub fn delete(key: &(impl BorshSerialize + ?Sized)) {
    delete_raw(&encode(key));
}

/// The bytes under `key`, if there are any.
pub fn get_raw(key: &[u8]) -> Option<Vec<u8>> {
    sys::storage_get(key)
}

/// Whether there is something under `key`; cheaper than reading it.
pub fn has_raw(key: &[u8]) -> bool {
    sys::storage_has(key)
}

/// Puts `value` under `key`, in place of what was there.
pub fn set_raw(key: &[u8], value: &[u8]) {
    sys::storage_set(key, value);
}

/// Removes `key` and its value; nothing happens when it is not there.
pub fn delete_raw(key: &[u8]) {
    sys::storage_delete(key);
}

/// The first key after `from` that begins with `prefix`, in the order of bytes; without `from`, the first of all.
pub fn next_raw(prefix: &[u8], from: Option<&[u8]>) -> Option<Vec<u8>> {
    sys::storage_next(prefix, from, false)
}

/// The last key before `from` that begins with `prefix`, in the order of bytes; without `from`, the last of all.
pub fn previous_raw(prefix: &[u8], from: Option<&[u8]>) -> Option<Vec<u8>> {
    sys::storage_next(prefix, from, true)
}

/// Reverts when what is there is not a `V`.
fn load<V: BorshDeserialize>(key: &[u8]) -> Option<V> {
    let bytes = get_raw(key)?;
    match decode(&bytes) {
        None => malformed(),
        value => value,
    }
}

#[cold]
fn malformed() -> ! {
    revert("malformed value in storage")
}

/// The key of an entry: the collection's prefix, then the entry's own in borsh.
fn entry_key(prefix: u8, key: &(impl BorshSerialize + ?Sized)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(80);
    bytes.push(prefix);
    if key.serialize(&mut bytes).is_err() {
        revert("value cannot be encoded");
    }
    bytes
}
