//! Why a transaction does not get in, and why it goes.

use slackline_types::Hash;
use std::sync::Arc;

/// Why a transaction was not accepted. `E` is the error of [`Accounts`](crate::Accounts).
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError<E> {
    /// The sender would pay less for a unit of fuel than it costs in the next block.
    #[error("a fuel price of {got} is too low: the base price is {base_price}")]
    FuelPriceTooLow {
        /// The base price of the next block, in the smallest unit of the currency.
        base_price: u64,
        /// The most that the sender would pay.
        got: u64,
    },
    /// The state could not be read.
    #[error("the state cannot be read: {0}")]
    State(E),
    /// A transaction with this nonce has been executed.
    #[error("nonce {got} has been used: the sender's next nonce is {expected}")]
    NonceUsed {
        /// The nonce that would be accepted.
        expected: u64,
        /// The transaction's.
        got: u64,
    },
    /// More transactions with lower nonces are missing than may be.
    #[error("nonce {got} leaves a gap of more than {limit}: the sender's next nonce is {expected}")]
    NonceGap {
        /// The lowest nonce that is missing.
        expected: u64,
        /// The transaction's.
        got: u64,
        /// How far it may be from that.
        limit: u64,
    },
    /// The sender cannot pay for it besides those before it and those after it that are pending.
    #[error(
        "the sender has {available} to spend, the transaction may cost {needed} (fuel limit times price, amount, deposit)"
    )]
    InsufficientBalance {
        /// The most that it may cost, in the smallest unit of the currency.
        needed: u128,
        /// What the sender has, less what its transactions with lower nonces, and those after it that are pending, may cost.
        available: u128,
    },
    /// It is in the pool.
    #[error("the transaction is in the pool already")]
    Known,
    /// It had expired when it came.
    #[error("the transaction expired at height {expired}, the chain is at {height}")]
    Expired {
        /// Its last height.
        expired: u64,
        /// The chain's.
        height: u64,
    },
    /// Another transaction with this nonce is in the pool, and this one does not pay enough more.
    #[error(
        "{waiting} has the same nonce: to replace it takes a fuel price of {fuel_price} and a tip of {tip}"
    )]
    ReplacementUnderpriced {
        /// The one in the pool.
        waiting: Hash,
        /// The lowest fuel price that replaces it.
        fuel_price: u64,
        /// The lowest tip that replaces it.
        tip: u64,
    },
    /// Another transaction with this nonce is in a block under way.
    #[error("{executing} has the same nonce and is in a block under way")]
    Executing {
        /// The one in the block.
        executing: Hash,
    },
    /// The sender has as many transactions or bytes in the pool as one may.
    #[error(
        "the sender has {transactions} transactions of {bytes} bytes in the pool, no more is accepted"
    )]
    SenderFull {
        /// The sender's transactions in the pool.
        transactions: usize,
        /// Their sizes, in bytes.
        bytes: usize,
    },
    /// The pool is full of better ones.
    #[error(
        "the mempool is full: {transactions} transactions, {bytes} bytes{}",
        at_least(minimum_price)
    )]
    Full {
        /// Transactions in the pool.
        transactions: usize,
        /// Their sizes, in bytes.
        bytes: usize,
        /// The effective price that would do now; `None` if no price does.
        minimum_price: Option<u64>,
    },
}

fn at_least(price: &Option<u64>) -> String {
    price.map_or_else(String::new, |price| {
        format!("; an effective fuel price of {price} would do")
    })
}

/// Why a transaction left the pool without getting into a block.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason<E> {
    /// It could not be applied when its turn came.
    #[error("{0}")]
    Refused(Arc<E>),
    /// Another transaction of the sender with its nonce has been executed.
    #[error(
        "nonce {got} has been used by another transaction: the sender's next nonce is {expected}"
    )]
    NonceUsed {
        /// The account's nonce.
        expected: u64,
        /// The transaction's.
        got: u64,
    },
    /// One before it was dropped.
    #[error("nonce {got} leaves a gap: the sender's next nonce is {expected}")]
    Orphaned {
        /// The lowest nonce that is missing.
        expected: u64,
        /// The transaction's.
        got: u64,
    },
    /// The sender has less than it may cost.
    #[error(
        "the sender has {available} to spend, the transaction may cost {needed} (fuel limit times price, amount, deposit)"
    )]
    InsufficientBalance {
        /// The most that it may cost, in the smallest unit of the currency.
        needed: u128,
        /// What the sender has.
        available: u128,
    },
    /// The base price has risen over what the sender would pay.
    #[error("the base price has risen to {base_price}, over the fuel price of {got}")]
    FuelPriceTooLow {
        /// The base price of the next block, in the smallest unit of the currency.
        base_price: u64,
        /// The most that the sender would pay.
        got: u64,
    },
    /// Another with the same nonce and a higher price took its place.
    #[error("replaced by {by}")]
    Replaced {
        /// The other one.
        by: Hash,
    },
    /// The pool was full and better paid ones came.
    #[error("evicted from a full mempool by {by} with an effective fuel price of {price}")]
    Evicted {
        /// The one that came.
        by: Hash,
        /// The lowest effective price of that and those before it.
        price: u64,
    },
    /// No block took it for as long as it may wait.
    #[error("no block up to height {height} took it")]
    Expired {
        /// The last height.
        height: u64,
    },
}

impl<E> Clone for DropReason<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(error.clone()),
            Self::NonceUsed { expected, got } => Self::NonceUsed {
                expected: *expected,
                got: *got,
            },
            Self::Orphaned { expected, got } => Self::Orphaned {
                expected: *expected,
                got: *got,
            },
            Self::InsufficientBalance { needed, available } => Self::InsufficientBalance {
                needed: *needed,
                available: *available,
            },
            Self::FuelPriceTooLow { base_price, got } => Self::FuelPriceTooLow {
                base_price: *base_price,
                got: *got,
            },
            Self::Replaced { by } => Self::Replaced { by: *by },
            Self::Evicted { by, price } => Self::Evicted {
                by: *by,
                price: *price,
            },
            Self::Expired { height } => Self::Expired { height: *height },
        }
    }
}
