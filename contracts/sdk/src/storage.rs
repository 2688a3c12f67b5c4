//! The contract's own key-value storage.
//!
//! Keys and values are borsh. An `enum` as the key type keeps the keys of a contract apart and costs one byte:
//!
//! ```
//! use borsh::BorshSerialize;
//! use slackline_sdk::{Address, storage};
//!
//! #[derive(BorshSerialize)]
//! enum Key {
//!     Owner,
//!     Balance(Address),
//! }
//!
//! fn balance(owner: Address) -> u128 {
//!     storage::get(&Key::Balance(owner)).unwrap_or(0)
//! }
//! ```
//!
//! The functions that end in `_raw` take the bytes themselves; both kinds see the same storage. In a view call, writes
//! abort the call.

use crate::{decode, encode, revert, sys};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// The value under `key`, if there is one; reverts when it is not a `V`.
pub fn get<V: BorshDeserialize>(key: &(impl BorshSerialize + ?Sized)) -> Option<V> {
    let bytes = get_raw(&encode(key))?;
    match decode(&bytes) {
        None => revert("malformed value in storage"),
        value => value,
    }
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

/// Puts `value` under `key`, in place of what was there.
pub fn set_raw(key: &[u8], value: &[u8]) {
    sys::storage_set(key, value);
}

/// Removes `key` and its value; nothing happens when it is not there.
pub fn delete_raw(key: &[u8]) {
    sys::storage_delete(key);
}
