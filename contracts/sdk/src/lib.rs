//! What a Slackline contract written in Rust needs: macros that make a contract of a module, storage collections, host
//! functions, an allocator and a panic handler.
//!
//! ```text
//!   node                      written by #[contract]                    contract
//!  ──────                    ────────────────────────                  ──────────
//!   call "transfer" ───────▶ exports::transfer
//!   input bytes     ───────▶   input::<(A, B)>() ── borsh ──────────▶  fn transfer(&mut self, to: A, amount: B)
//!                                                                         │
//!   storage         ◀──────▶   Value, Map, OrderedMap, List, Set  ◀───────┤ self.balances.get(&to)
//!   context, crypto ◀──────▶   caller(), value(), sha256() …      ◀───────┤
//!   other contracts ◀──────▶   OtherClient::new(address)          ◀───────┤
//!   events          ◀───────   #[derive(Event)]                   ◀───────┤ Transfer { … }.emit()
//!                                                                         ▼
//!   return data     ◀───────   Returns::finish()      ◀── borsh ──  T or Ok(T)
//!   outcome Revert  ◀───────   revert()               ◀── borsh ──  Err(E), or text: revert(), panic!()
//!
//!   custom sections: slackline_abi (abi.rs), slackline_reentrant
//! ```
//!
//! A contract is a module with a storage struct, and methods that anybody may call:
//!
//! ```
//! #[slackline::contract]
//! mod greeter {
//!     use slackline::prelude::*;
//!
//!     #[storage]
//!     pub struct Greeter {
//!         owner: Value<Address>,
//!         greeting: Value<String>,
//!     }
//!
//!     #[derive(Error, Debug, PartialEq)]
//!     pub enum Error {
//!         /// Only the owner changes the greeting.
//!         NotOwner,
//!     }
//!
//!     impl Greeter {
//!         #[init]
//!         pub fn init(&mut self, greeting: String) {
//!             self.owner.set(&slackline::caller());
//!             self.greeting.set(&greeting);
//!         }
//!
//!         #[view]
//!         pub fn greeting(&self) -> String {
//!             self.greeting.get_or_default()
//!         }
//!
//!         pub fn greet(&mut self, greeting: String) -> Result<(), Error> {
//!             if self.owner.get() != Some(slackline::caller()) {
//!                 return Err(Error::NotOwner);
//!             }
//!             self.greeting.set(&greeting);
//!             Ok(())
//!         }
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! The README beside this crate's manifest is the guide. The crate speaks version 1 of the host interface: the imports
//! of module `slackline_v1`, declared in `sys.rs`. For any target but wasm32 the same calls go to the [`mock`], so that a
//! contract can be tested with plain `cargo test`.

#![cfg_attr(target_arch = "wasm32", no_std)]
#![deny(missing_docs, unsafe_code)]

extern crate alloc;
// What the macros write says `::slackline`, also in here.
extern crate self as slackline;

pub mod abi;
mod call;
mod context;
pub mod crypto;
pub mod event;
mod hash;
#[cfg(target_arch = "wasm32")]
mod heap;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
#[cfg(target_arch = "wasm32")]
mod panic;
pub mod storage;
#[cfg(target_arch = "wasm32")]
mod sys;

mod entry;

#[cfg(not(target_arch = "wasm32"))]
use mock as sys;

pub use borsh;
pub use call::{Call, CallError, Client, deploy, upgrade};
pub use context::{
    balance, block_height, block_proposer, block_time, caller, chain_id, code_hash, fuel_left,
    origin, self_address, transfer, value,
};
pub use entry::{Error, Storage};
pub use event::Event;
pub use slackline_macros::{Data, Error, Event, contract, interface};

use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

/// What most contracts use.
pub mod prelude {
    pub use crate::storage::{List, Map, OrderedMap, Set, Value};
    pub use crate::{Address, CallError, Client, Data, Error, Event, Hash};
    pub use alloc::format;
    pub use alloc::string::{String, ToString};
    pub use alloc::vec;
    pub use alloc::vec::Vec;
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the macros write calls these.
#[doc(hidden)]
pub mod __private {
    pub use crate::entry::{Returns, append, input, malformed, refuse_value};
    pub use alloc::vec::Vec;
}

/// 32 bytes that stand for others.
pub type Hash = [u8; 32];

/// Who an account or a contract is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 32]);

/// In hexadecimal.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BorshSerialize for Address {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        writer.write_all(&self.0)
    }
}

impl BorshDeserialize for Address {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let mut bytes = [0; 32];
        reader.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Sets the return data of this call, without ending it; the last one set is what the caller gets.
///
/// The entry points that [`contract`] writes do this with the result of the method.
pub fn ret<T: BorshSerialize + ?Sized>(value: &T) {
    sys::return_data(&encode(value));
}

/// Ends the call: everything that it did is undone and its caller gets `reason`.
///
/// A method that returns an [`Error`](trait@Error) does this with the error in borsh. Text should begin with a printable
/// character, which is how it is told from that.
pub fn revert(reason: impl AsRef<[u8]>) -> ! {
    sys::revert(reason.as_ref())
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
