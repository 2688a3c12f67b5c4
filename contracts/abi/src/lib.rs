//! What a Slackline contract says about itself, and with it: arguments, results, errors and events as JSON.
//!
//! ```text
//!   contract.wasm ── section slackline_abi ──▶ Contract { methods, events, types }
//!                                                 │
//!   {"to": "ab…", "amount": "5"} ──▶ encode_args ─┼─▶ borsh ──▶ input of a call
//!   "5", {"Full": {"left": 1}}   ◀── decode_*    ◀┴── borsh ◀── return data, revert data, topics and data of events
//! ```
//!
//! The node, the command line and the testkit use it; contracts write the description, see `abi.rs` of the SDK.
//!
//! # How values are written as JSON
//!
//! | type | JSON | also accepted |
//! | --- | --- | --- |
//! | `unit` | `null` | |
//! | `bool` | `true`, `false` | |
//! | `u8` to `u32`, `i8` to `i32` | a number | decimal digits in a string |
//! | `u64`, `u128`, `i64`, `i128` | decimal digits in a string, since JSON's numbers are often read as floats | a number |
//! | `string` | a string | |
//! | `bytes`, `fixed_bytes` | hexadecimal in a string, behind `0x` | without `0x` |
//! | `address` | hexadecimal in a string | behind `0x` |
//! | `option` | `null` or the value; `[value]` if the value may be `null` itself | left out of an object |
//! | `vec`, `set`, `array`, `tuple` | an array | |
//! | `map` | an array of `[key, value]` | an object, if its keys are strings |
//! | struct | an object; an array if its fields have no names | |
//! | enum | `"Variant"`, or `{"Variant": fields}` | |
//!
//! Nothing here trusts the description, the JSON or the bytes: all of them may come from anybody. What is nested deeper
//! than [`MAX_DEPTH`] or has more than [`MAX_VALUES`] parts is refused, and nothing panics.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod decode;
mod encode;
mod error;
mod model;
mod wasm;

pub use decode::{DecodedEvent, Revert};
pub use error::{AbiError, DecodeError, EncodeError};
pub use model::{Contract, Event, EventField, Field, Fields, Method, Schema, Type, Variant};
pub use wasm::custom_section;

/// The custom section that holds the description.
pub const SECTION: &str = "slackline_abi";

/// The version of the format that this crate reads.
pub const VERSION: u64 = 1;

/// How deep values may be nested.
pub const MAX_DEPTH: usize = 64;

/// How many values one may consist of. Only decoding could make more of a few bytes: values may take no bytes at all.
pub const MAX_VALUES: usize = 1 << 18;
