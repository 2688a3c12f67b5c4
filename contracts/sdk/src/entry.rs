//! What the entry points written by [`contract`](crate::contract) consist of.
//!
//! Types that cannot be sent do not compile: as an argument, a result, an error, a field of the storage, of an event.
//!
//! ```compile_fail,E0277
//! #[slackline::contract]
//! mod a {
//!     #[storage]
//!     pub struct A;
//!     impl A {
//!         pub fn a(&mut self, size: usize) {}
//!     }
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[slackline::contract]
//! mod a {
//!     #[storage]
//!     pub struct A;
//!     impl A {
//!         pub fn a(&mut self) -> f32 {
//!             0.0
//!         }
//!     }
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[slackline::contract]
//! mod a {
//!     #[storage]
//!     pub struct A;
//!     impl A {
//!         pub fn a(&mut self) -> Result<(), u32> {
//!             Ok(())
//!         }
//!     }
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[slackline::contract]
//! mod a {
//!     #[storage]
//!     pub struct A {
//!         count: u64,
//!     }
//!     impl A {}
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[derive(slackline::Event)]
//! struct Moved {
//!     by: f32,
//! }
//! ```
//!
//! Nor do two types of one name:
//!
//! ```compile_fail,E0080
//! #[slackline::contract]
//! mod a {
//!     mod other {
//!         #[derive(slackline::Data)]
//!         pub struct Point(u8);
//!     }
//!     #[derive(slackline::Data)]
//!     pub struct Point(u8);
//!     #[storage]
//!     pub struct A;
//!     impl A {
//!         pub fn a(&mut self, point: Point, other: other::Point) {}
//!     }
//! }
//! ```

use crate::abi::{Describe, Schema};
use crate::{decode, encode, revert, sys};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};

/// An error that methods may return: an enum with `#[derive(slackline::Error)]`.
///
/// The call then reverts with the error in borsh. Its first byte, the number of the variant, is below 32, which tells it
/// from the text that a panic or [`revert`](crate::revert) reverts with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an error that a method may return",
    note = "it needs `#[derive(slackline::Error)]`"
)]
pub trait Error: Describe + BorshSerialize {}

/// The storage struct of a contract, which [`contract`](crate::contract) implements it for.
pub trait Storage {
    /// The description of the contract.
    #[doc(hidden)]
    const ABI: &'static crate::abi::Contract;

    /// The collections of the contract that is running. Nothing is read yet.
    fn open() -> Self;
}

/// What a method may return: a value, or a `Result` of one and an error.
#[diagnostic::on_unimplemented(
    message = "a method cannot return `{Self}`",
    label = "neither a value that can be described nor a `Result`",
    note = "a struct or enum of the contract needs `#[derive(slackline::Data)]`",
    note = "the error of a `Result` is an enum with `#[derive(slackline::Error)]`"
)]
pub trait Returns {
    /// What callers get.
    type Value;
    /// How that is described.
    const RESULT: &'static Schema;
    /// How the error is described, if there may be one.
    const ERROR: Option<&'static Schema>;
    /// Sets the return data, or reverts.
    fn finish(self);
}

impl<T: Describe + BorshSerialize> Returns for T {
    type Value = T;
    const RESULT: &'static Schema = T::SCHEMA;
    const ERROR: Option<&'static Schema> = None;

    fn finish(self) {
        return_value(&self);
    }
}

impl<T: Describe + BorshSerialize, E: Error> Returns for Result<T, E> {
    type Value = T;
    const RESULT: &'static Schema = T::SCHEMA;
    const ERROR: Option<&'static Schema> = Some(E::SCHEMA);

    fn finish(self) {
        match self {
            Ok(value) => return_value(&value),
            Err(error) => revert(encode(&error)),
        }
    }
}

/// A method without a result makes no host call for it, and leaves what it may have set with [`ret`](crate::ret).
fn return_value(value: &impl BorshSerialize) {
    let bytes = encode(value);
    if !bytes.is_empty() {
        sys::return_data(&bytes);
    }
}

/// Decodes the whole input of this call; reverts when it is not exactly one `T`.
pub fn input<T: BorshDeserialize>() -> T {
    match decode(&sys::input()) {
        Some(value) => value,
        None => revert("malformed input"),
    }
}

/// Reverts when value is attached.
pub fn refuse_value() {
    if sys::value() != 0 {
        revert("method is not payable");
    }
}

/// Appends a value's borsh.
pub fn append(bytes: &mut Vec<u8>, value: &impl BorshSerialize) {
    if value.serialize(bytes).is_err() {
        revert("value cannot be encoded");
    }
}

/// What decoding fails with. The reason is not worth the code that would say it.
#[cold]
pub fn malformed() -> borsh::io::Error {
    borsh::io::Error::from(borsh::io::ErrorKind::InvalidData)
}
