//! Calling other contracts: what typed clients are made of, and for contracts without one.
//!
//! ```text
//!   TokenClient::new(token).transfer(to, 5)?                         written by #[contract] and #[interface]
//!        └▶ Call { to, value, fuel } .call(view, "transfer", &args)
//!              └▶ host: call ─ status ─▶ Ok(borsh of what it returned) | Err(CallError)
//! ```

use crate::abi::Describe;
use crate::{Address, Data, Hash, decode, encode, revert, sys};
use alloc::vec::Vec;
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

/// Why a call did not return. Nothing of what the callee did remains, and an attached value is back.
#[derive(Data, Clone, PartialEq, Eq)]
pub enum CallError {
    /// It reverted with this: its error in borsh, or text.
    Reverted(Vec<u8>),
    /// It was aborted: out of fuel, or something no contract may do. What fuel it was given is lost.
    Aborted,
    /// There is no contract, or no such code to deploy.
    NoContract,
    /// The contract has no such method.
    NoMethod,
    /// One of its calls is running, and the method is not re-entrant.
    Reentrancy,
    /// Contracts have called one another too often.
    TooDeep,
    /// This contract has less than the value attached.
    InsufficientBalance,
    /// What it returned is not what the method returns.
    Malformed,
}

impl CallError {
    /// The error of the callee's methods, when it reverted with one.
    pub fn error<E: BorshDeserialize>(&self) -> Option<E> {
        match self {
            Self::Reverted(data) => decode(data),
            _ => None,
        }
    }

    /// Reverts this call too: with the callee's reason, or with what kept it from having one.
    pub fn revert(&self) -> ! {
        match self {
            Self::Reverted(data) => revert(data),
            other => revert(other.text()),
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Reverted(_) => "callee reverted",
            Self::Aborted => "callee aborted",
            Self::NoContract => "no contract there",
            Self::NoMethod => "no such method",
            Self::Reentrancy => "re-entrancy refused",
            Self::TooDeep => "calls too deep",
            Self::InsufficientBalance => "insufficient balance",
            Self::Malformed => "malformed result",
        }
    }
}

/// Reason of a revert as text if it is some, else in hexadecimal.
impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            Self::Reverted(data) => write!(f, ": {}", Reason(data)),
            _ => Ok(()),
        }
    }
}

/// Revert data for people.
pub(crate) struct Reason<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match core::str::from_utf8(self.0) {
            Ok(text) if !text.starts_with(|first: char| first < ' ') => write!(f, "{text:?}"),
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    to: Address,
    value: u128,
    fuel: Option<u64>,
}

impl Call {
    /// A call of the contract at `to`, without value, with all the fuel that may be given.
    pub fn new(to: Address) -> Self {
        Self {
            to,
            value: 0,
            fuel: None,
        }
    }

    /// Attaches value, from this contract's balance.
    pub fn value(mut self, value: u128) -> Self {
        self.value = value;
        self
    }

    /// The most fuel that the callee may use. At most 63/64 of what is left is given in any case.
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.fuel = Some(fuel);
        self
    }

    /// Calls `method` with arguments in borsh; `view` makes it a static call: nothing below may change anything.
    ///
    /// # Errors
    ///
    /// As [`Self::call_raw`], and [`CallError::Malformed`] when what it returned is no `R`.
    pub fn call<R: BorshDeserialize>(
        &self,
        view: bool,
        method: &str,
        args: &impl BorshSerialize,
    ) -> Result<R, CallError> {
        let data = self.call_raw(view, method, &encode(args))?;
        decode(&data).ok_or(CallError::Malformed)
    }

    /// Calls `method` with `input` as it is, and gives what it returned.
    ///
    /// # Errors
    ///
    /// All but [`CallError::Malformed`].
    pub fn call_raw(&self, view: bool, method: &str, input: &[u8]) -> Result<Vec<u8>, CallError> {
        finish(sys::call(
            &self.to.0, method, input, self.value, self.fuel, view,
        ))
    }
}

/// What typed clients have in common.
pub trait Client: Sized {
    #[doc(hidden)]
    fn call_mut(&mut self) -> &mut Call;

    /// Attaches value to the calls, from this contract's balance.
    fn value(mut self, value: u128) -> Self {
        let call = self.call_mut();
        *call = call.value(value);
        self
    }

    /// The most fuel that a callee may use. At most 63/64 of what is left is given in any case.
    fn fuel(mut self, fuel: u64) -> Self {
        let call = self.call_mut();
        *call = call.fuel(fuel);
        self
    }
}

/// Creates a contract whose code, on chain already, hashes to `code_hash`, and runs its `init` with the arguments.
///
/// # Errors
///
/// As a call; without such code it is [`CallError::NoContract`].
pub fn deploy(
    code_hash: &Hash,
    args: &impl BorshSerialize,
    value: u128,
    fuel: Option<u64>,
) -> Result<Address, CallError> {
    let mut address = [0; 32];
    finish(sys::deploy(
        code_hash,
        &encode(args),
        value,
        fuel,
        &mut address,
    ))?;
    Ok(Address(address))
}

/// Replaces the code of this contract, from the next call on, by that which hashes to `code_hash`, and runs its
/// `upgrade`, if it has one, with the arguments. What it returned is thrown away.
///
/// # Errors
///
/// As a call; without such code it is [`CallError::NoContract`].
pub fn upgrade(
    code_hash: &Hash,
    args: &impl BorshSerialize,
    fuel: Option<u64>,
) -> Result<(), CallError> {
    finish(sys::upgrade(code_hash, &encode(args), fuel)).map(drop)
}

impl CallError {
    /// What the host calls it. What is malformed has returned.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn status(&self) -> u32 {
        match self {
            Self::Malformed => 0,
            Self::Reverted(_) => 1,
            Self::Aborted => 2,
            Self::NoContract => 3,
            Self::NoMethod => 4,
            Self::Reentrancy => 5,
            Self::TooDeep => 6,
            Self::InsufficientBalance => 7,
        }
    }
}

/// What a status of the host means.
fn finish(status: u32) -> Result<Vec<u8>, CallError> {
    Err(match status {
        0 => return Ok(sys::returned()),
        1 => CallError::Reverted(sys::returned()),
        3 => CallError::NoContract,
        4 => CallError::NoMethod,
        5 => CallError::Reentrancy,
        6 => CallError::TooDeep,
        7 => CallError::InsufficientBalance,
        _ => CallError::Aborted,
    })
}

const _: () = {
    // The derive above is this crate's own; that it describes is what `#[from] Call(CallError)` in errors needs.
    const fn described<T: Describe>() {}
    described::<CallError>();
};
