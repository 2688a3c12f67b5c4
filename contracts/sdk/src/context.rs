//! What the host knows about this call, its block, and balances.

use crate::{Address, CallError, Hash, sys};

/// Who called this contract: an account, or the contract that made the call.
pub fn caller() -> Address {
    Address(sys::caller())
}

/// Who signed the transaction. Do not decide by it what the [`caller`] may do: any contract that the signer calls would
/// be allowed it too.
pub fn origin() -> Address {
    Address(sys::origin())
}

/// This contract.
pub fn self_address() -> Address {
    Address(sys::self_address())
}

/// The value attached to this call; it is part of the [`balance`] of [`self_address`] already.
pub fn value() -> u128 {
    sys::value()
}

/// What an account has, or a contract.
pub fn balance(of: Address) -> u128 {
    sys::balance(&of.0)
}

/// Moves `amount` from this contract's balance to `to`, whose code is not run. The one error is
/// [`CallError::InsufficientBalance`].
pub fn transfer(to: Address, amount: u128) -> Result<(), CallError> {
    match sys::transfer(&to.0, amount) {
        true => Ok(()),
        false => Err(CallError::InsufficientBalance),
    }
}

/// The number of the block.
pub fn block_height() -> u64 {
    sys::block_height()
}

/// The time of the block: milliseconds since 1970.
pub fn block_time() -> u64 {
    sys::block_time()
}

/// Who proposed the block.
pub fn block_proposer() -> Address {
    Address(sys::block_proposer())
}

/// Which chain this is.
pub fn chain_id() -> u64 {
    sys::chain_id()
}

/// The fuel left to this call.
pub fn fuel_left() -> u64 {
    sys::fuel_left()
}

/// The hash of the code at an address, if it is a contract.
pub fn code_hash(of: Address) -> Option<Hash> {
    sys::code_hash(&of.0)
}
