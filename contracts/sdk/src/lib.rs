//! What a Slackline contract written in Rust needs: the entry points that the node calls, the host functions that the
//! contract calls, an allocator and a panic handler.
//!
//! ```text
//!   node                      this crate                                contract
//!  ──────                    ────────────                              ──────────
//!   call "transfer" ───────▶ exports::transfer   (written by contract!)
//!   input bytes     ───────▶   input::<(A, B)>() ── borsh ──────────▶  fn transfer(to: A, amount: B)
//!                                                                         │
//!   storage, caller ◀──────▶   storage::get/set/delete, caller() ◀────────┤
//!   log records     ◀───────   log(), emit()                     ◀────────┤
//!                                                                         ▼
//!   return data     ◀───────   ret()                  ◀── borsh ──  T or Ok(T)
//!   outcome Revert  ◀───────   revert()               ◀── bytes ──  Err(E), revert(), panic!()
//! ```
//!
//! A contract is a library of functions and one line that says which of them can be called:
//!
//! ```
//! use slackline_sdk::{caller, storage};
//!
//! slackline_sdk::contract! { init, greeting, greet }
//!
//! fn init(greeting: String) {
//!     storage::set("greeting", &greeting);
//!     storage::set("owner", &caller());
//! }
//!
//! fn greeting() -> String {
//!     storage::get("greeting").unwrap_or_default()
//! }
//!
//! fn greet(greeting: String) -> Result<(), &'static str> {
//!     if storage::get("owner") != Some(caller()) {
//!         return Err("not the owner");
//!     }
//!     storage::set("greeting", &greeting);
//!     Ok(())
//! }
//! # fn main() {}
//! ```
//!
//! The crate speaks version 1 of the host interface: the imports of module `slackline_v1`, declared in `sys.rs`. For any
//! target but wasm32 the same calls go to the [`mock`], so that a contract can be tested with plain `cargo test`.

#![cfg_attr(target_arch = "wasm32", no_std)]
#![deny(missing_docs, unsafe_code)]

extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod heap;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
#[cfg(target_arch = "wasm32")]
mod panic;
pub mod storage;
#[cfg(target_arch = "wasm32")]
mod sys;

#[doc(hidden)]
pub mod entry;

#[cfg(not(target_arch = "wasm32"))]
use mock as sys;

use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// Who an account or a contract is.
#[derive(
    BorshSerialize, BorshDeserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub struct Address(pub [u8; 32]);

/// Who called this contract: an account, or the contract that made the call.
pub fn caller() -> Address {
    Address(sys::caller())
}

/// Decodes the whole input of this call; reverts when it is not exactly one `T`.
///
/// The entry points that [`contract!`] writes have done this already, for the arguments of the method.
pub fn input<T: BorshDeserialize>() -> T {
    match decode(&sys::input()) {
        Some(value) => value,
        None => revert("malformed input"),
    }
}

/// Sets the return data of this call, without ending it; the last one set is what the caller gets.
///
/// The entry points that [`contract!`] writes do this with the result of the method.
pub fn ret<T: BorshSerialize + ?Sized>(value: &T) {
    sys::return_data(&encode(value));
}

/// Ends the call: everything that it did is undone and its caller gets `reason`.
pub fn revert(reason: impl AsRef<[u8]>) -> ! {
    sys::revert(reason.as_ref())
}

/// Appends a record to the receipt of the transaction.
pub fn log(record: impl AsRef<[u8]>) {
    sys::log(record.as_ref());
}

/// Appends a record to the receipt of the transaction: `event` in borsh.
pub fn emit<E: BorshSerialize + ?Sized>(event: &E) {
    sys::log(&encode(event));
}

fn encode<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    // Not `borsh::to_vec`, which asks for a kilobyte at once.
    let mut bytes = Vec::with_capacity(64);
    if value.serialize(&mut bytes).is_err() {
        revert("value cannot be encoded");
    }
    bytes
}

/// `None` when `bytes` are not exactly one `T`. Which byte was wrong is not worth the code that would say it.
fn decode<T: BorshDeserialize>(mut bytes: &[u8]) -> Option<T> {
    let value = T::deserialize(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}
