//! A pool of two tokens in which anybody can swap one for the other: an automated market maker with a constant product.
//!
//! ```text
//!                       ┌────────────── pool ──────────────┐
//!   add(a, b)  ───────▶ │ reserves a, b    shares of owners │ ───▶ shares
//!   remove(shares) ───▶ │   a · b never falls in a swap     │ ───▶ a and b
//!   swap(token, in) ──▶ │   a and b for each share never    │ ───▶ the other token, at least `min_out`
//!                       │   fall at all                     │
//!                       └───┬───────────────────────────┬───┘
//!            transfer_from, transfer              transfer_from, transfer
//!                           ▼                           ▼
//!                        token A                     token B
//! ```
//!
//! **Rounding** is always in favour of the pool, so of those who stay in it:
//!
//! - A swap of `i` into reserves (x, y) with a fee of f of 10000 gives `o = ⌊y·i' / (10000·x + i')⌋` where `i' = i·(10000 − f)`.
//!   As `o ≤ y·i' / (10000·x + i')`, what is left is `y − o ≥ y·10000·x / (10000·x + i')`, and because `i' ≤ 10000·i`,
//!   `(x + i)·(y − o) ≥ (10000·x + i')/10000 · 10000·x·y / (10000·x + i') = x·y`: the product never falls. Nor is `o` ever `y`, as
//!   `i' / (10000·x + i') < 1`. Swaps that would give nothing are refused, so nobody feeds the pool by accident.
//! - Who adds gets `⌊·⌋` shares and pays `⌈·⌉` of each token for them; who removes gets `⌊·⌋` of each. So neither reserve falls
//!   in proportion to the shares.
//! - The first `1000` shares are nobody's. Otherwise the first in could make one share worth so much that all who come later
//!   are rounded down to nothing, and take what they have brought.
//!
//! **Width**: a reserve is at most 2^112 − 1 and a fee at most 10000 < 2^14, so that all factors and divisors are below
//! 2^128; their products have up to 256 bits, which `wide.rs` takes care of.
//!
//! **Trust**: the pool believes its own books, not its balances: tokens that somebody sends to it are nobody's. It believes its two
//! tokens to move what they say they move; whoever makes a pool of a token that takes a cut of transfers has made a broken
//! pool. A token that calls the pool back is refused by the host, since no method is re-entrant, and what the books say is
//! stored before any token is called.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;
mod wide;

use slackline::prelude::*;

/// What the pool asks of a token: some methods of the example `token`.
#[slackline::interface]
pub trait Fungible {
    /// Passes on tokens of the caller's.
    fn transfer(&mut self, to: Address, amount: u128) -> Result<(), TokenError>;

    /// Passes on tokens that `from` has allowed the caller.
    fn transfer_from(&mut self, from: Address, to: Address, amount: u128)
    -> Result<(), TokenError>;
}

/// The errors of a token, as in the example `token`.
#[derive(Error, Debug, PartialEq)]
pub enum TokenError {
    /// Only the owner makes tokens.
    NotOwner,
    /// There are fewer tokens than that.
    InsufficientBalance,
    /// The owner has not allowed as much.
    InsufficientAllowance,
    /// There cannot be so many tokens.
    Overflow,
}

/// A pool of two tokens in which anybody can swap one for the other.
#[slackline::contract]
pub mod amm {
    use super::FungibleClient;
    use super::wide::{mul_div, mul_div_up, sqrt_of_product};
    use slackline::prelude::*;
    use slackline::{block_time, caller, self_address};

    /// What fees are parts of.
    pub const FEE_UNIT: u16 = 10_000;
    /// The most of a token that the pool holds.
    pub const MAX_RESERVE: u128 = (1 << 112) - 1;
    /// Shares that are nobody's, from the first deposit on.
    pub const LOCKED: u128 = 1_000;

    /// What is stored.
    #[storage]
    pub struct Amm {
        pool: Value<Pool>,
        reserves: Value<Pair>,
        /// How many shares there are, with those that are nobody's.
        supply: Value<u128>,
        shares: Map<Address, u128>,
    }

    /// What never changes.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Pool {
        /// The one token.
        pub token_a: Address,
        /// The other.
        pub token_b: Address,
        /// What of an incoming amount stays in the pool, in parts of 10000.
        pub fee: u16,
    }

    /// So much of each token.
    #[derive(Data, Clone, Copy, Debug, Default, PartialEq)]
    pub struct Pair {
        /// Of token A.
        pub a: u128,
        /// Of token B.
        pub b: u128,
    }

    /// What somebody has paid for shares.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Deposit {
        /// The tokens.
        pub paid: Pair,
        /// The shares.
        pub shares: u128,
    }

    /// Somebody put tokens in.
    #[derive(Event, Debug, PartialEq)]
    pub struct Added {
        /// Who.
        #[topic]
        pub owner: Address,
        /// The tokens.
        pub paid: Pair,
        /// The shares that they got for them.
        pub shares: u128,
    }

    /// Somebody took tokens out.
    #[derive(Event, Debug, PartialEq)]
    pub struct Removed {
        /// Who.
        #[topic]
        pub owner: Address,
        /// The shares that they gave up.
        pub shares: u128,
        /// The tokens.
        pub got: Pair,
    }

    /// Somebody swapped one token for the other.
    #[derive(Event, Debug, PartialEq)]
    pub struct Swapped {
        /// Who.
        #[topic]
        pub owner: Address,
        /// The token that they gave.
        #[topic]
        pub token_in: Address,
        /// How much of it.
        pub amount_in: u128,
        /// What they got of the other.
        pub amount_out: u128,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// The tokens of a pool are different ones.
        SameToken,
        /// The fee is all that comes in, or more.
        FeeTooHigh,
        /// The pool has no such token.
        UnknownToken,
        /// The block is later than the caller wants.
        TooLate,
        /// That is too little to get anything for it.
        TooLittle,
        /// The pool would hold more than 2^112 - 1 of a token.
        TooMuch,
        /// The caller has fewer shares.
        InsufficientShares,
        /// It would be less than the caller wants at least.
        BelowMinimum,
        /// A token refused.
        #[from]
        Token(CallError),
    }

    type Result<T> = core::result::Result<T, Error>;

    impl Amm {
        /// A pool of two tokens. Of what is swapped in, `fee` parts of 10000 stay for the owners of shares; 30 is usual.
        #[init]
        pub fn init(&mut self, token_a: Address, token_b: Address, fee: u16) -> Result<()> {
            if token_a == token_b {
                return Err(Error::SameToken);
            }
            if fee >= FEE_UNIT {
                return Err(Error::FeeTooHigh);
            }
            self.pool.set(&Pool {
                token_a,
                token_b,
                fee,
            });
            Ok(())
        }

        /// Puts in at most these amounts, in the proportion in which the pool has them, or exactly these when it is empty.
        /// The caller has allowed the pool to take them. Fails when that gives fewer than `min_shares`.
        pub fn add(&mut self, max_a: u128, max_b: u128, min_shares: u128) -> Result<Deposit> {
            let owner = caller();
            let (reserves, supply) = (self.reserves(), self.supply());
            let (paid, shares, locked) = if supply == 0 {
                let all = sqrt_of_product(max_a, max_b);
                let shares = all.checked_sub(LOCKED).ok_or(Error::TooLittle)?;
                (Pair { a: max_a, b: max_b }, shares, LOCKED)
            } else {
                // As many as the scarcer of the two pays for; then as little of each as that many cost. That is no more than was
                // offered: shares ≤ max · supply / reserve, so ⌈shares · reserve / supply⌉ ≤ max.
                let affords = |max, reserve| Some(mul_div(max, supply, reserve)?.0);
                let shares = affords(max_a, reserves.a)
                    .zip(affords(max_b, reserves.b))
                    .map(|(by_a, by_b)| by_a.min(by_b))
                    .ok_or(Error::TooMuch)?;
                let costs = |reserve| mul_div_up(shares, reserve, supply).ok_or(Error::TooMuch);
                let paid = Pair {
                    a: costs(reserves.a)?,
                    b: costs(reserves.b)?,
                };
                (paid, shares, 0)
            };
            if shares == 0 {
                return Err(Error::TooLittle);
            }
            if shares < min_shares {
                return Err(Error::BelowMinimum);
            }

            self.reserves.set(&Pair {
                a: grown(reserves.a, paid.a)?,
                b: grown(reserves.b, paid.b)?,
            });
            let supply = supply
                .checked_add(locked)
                .and_then(|supply| supply.checked_add(shares))
                .ok_or(Error::TooMuch)?;
            self.supply.set(&supply);
            let owned = self.shares_of(owner).checked_add(shares);
            self.shares.set(&owner, &owned.ok_or(Error::TooMuch)?);

            let pool = self.pool();
            let to = self_address();
            FungibleClient::new(pool.token_a).transfer_from(owner, to, paid.a)?;
            FungibleClient::new(pool.token_b).transfer_from(owner, to, paid.b)?;
            Added {
                owner,
                paid,
                shares,
            }
            .emit();
            Ok(Deposit { paid, shares })
        }

        /// Gives up shares of the caller's for their part of both reserves. Fails when that is less than the minima.
        pub fn remove(&mut self, shares: u128, min_a: u128, min_b: u128) -> Result<Pair> {
            let owner = caller();
            let (reserves, supply) = (self.reserves(), self.supply());
            let owned = self
                .shares_of(owner)
                .checked_sub(shares)
                .ok_or(Error::InsufficientShares)?;
            let part = |reserve| Some(mul_div(shares, reserve, supply)?.0);
            let got = part(reserves.a)
                .zip(part(reserves.b))
                .map(|(a, b)| Pair { a, b })
                .ok_or(Error::TooLittle)?;
            if got.a == 0 && got.b == 0 {
                return Err(Error::TooLittle);
            }
            if got.a < min_a || got.b < min_b {
                return Err(Error::BelowMinimum);
            }

            // All of it is there: a part of something is no more than that.
            self.reserves.set(&Pair {
                a: reserves.a.saturating_sub(got.a),
                b: reserves.b.saturating_sub(got.b),
            });
            self.supply.set(&supply.saturating_sub(shares));
            if owned == 0 {
                self.shares.remove(&owner);
            } else {
                self.shares.set(&owner, &owned);
            }

            let pool = self.pool();
            FungibleClient::new(pool.token_a).transfer(owner, got.a)?;
            FungibleClient::new(pool.token_b).transfer(owner, got.b)?;
            Removed { owner, shares, got }.emit();
            Ok(got)
        }

        /// Swaps `amount_in` of a token, which the caller has allowed the pool to take, for the other and gives how much of
        /// that. Fails when it is less than `min_out`, or when the time is past `deadline`, in milliseconds since 1970.
        pub fn swap(
            &mut self,
            token_in: Address,
            amount_in: u128,
            min_out: u128,
            deadline: Option<u64>,
        ) -> Result<u128> {
            if deadline.is_some_and(|deadline| block_time() > deadline) {
                return Err(Error::TooLate);
            }
            let owner = caller();
            let swap = self.price(token_in, amount_in)?;
            if swap.amount_out < min_out {
                return Err(Error::BelowMinimum);
            }
            self.reserves.set(&swap.reserves);

            FungibleClient::new(token_in).transfer_from(owner, self_address(), amount_in)?;
            FungibleClient::new(swap.token_out).transfer(owner, swap.amount_out)?;
            Swapped {
                owner,
                token_in,
                amount_in,
                amount_out: swap.amount_out,
            }
            .emit();
            Ok(swap.amount_out)
        }

        /// What a swap would give now.
        #[view]
        pub fn quote(&self, token_in: Address, amount_in: u128) -> Result<u128> {
            Ok(self.price(token_in, amount_in)?.amount_out)
        }

        /// The tokens and the fee.
        #[view]
        pub fn pool(&self) -> Pool {
            match self.pool.get() {
                Some(pool) => pool,
                // `init` has stored it, without which there is no contract.
                None => slackline::revert("not initialised"),
            }
        }

        /// What the pool holds.
        #[view]
        pub fn reserves(&self) -> Pair {
            self.reserves.get_or_default()
        }

        /// How many shares there are: those of all owners and 1000 that are nobody's.
        #[view]
        pub fn supply(&self) -> u128 {
            self.supply.get_or_default()
        }

        /// How many shares somebody has.
        #[view]
        pub fn shares_of(&self, owner: Address) -> u128 {
            self.shares.get_or_default(&owner)
        }

        fn price(&self, token_in: Address, amount_in: u128) -> Result<Swap> {
            let pool = self.pool();
            let reserves = self.reserves();
            let (from, to, token_out) = if token_in == pool.token_a {
                (reserves.a, reserves.b, pool.token_b)
            } else if token_in == pool.token_b {
                (reserves.b, reserves.a, pool.token_a)
            } else {
                return Err(Error::UnknownToken);
            };
            let more = grown(from, amount_in)?;
            let (amount_out, less) = swapped(from, to, amount_in, pool.fee)?;
            let (a, b) = if token_in == pool.token_a {
                (more, less)
            } else {
                (less, more)
            };
            Ok(Swap {
                token_out,
                amount_out,
                reserves: Pair { a, b },
            })
        }
    }

    /// A swap that has not been done.
    struct Swap {
        token_out: Address,
        amount_out: u128,
        reserves: Pair,
    }

    /// What comes out for `amount_in`, and what is left of the reserve `to`. All arguments are at most [`MAX_RESERVE`].
    pub(crate) fn swapped(from: u128, to: u128, amount_in: u128, fee: u16) -> Result<(u128, u128)> {
        // i' and 10000 · x + i' in the proof above.
        let counted = u128::from(FEE_UNIT.saturating_sub(fee))
            .checked_mul(amount_in)
            .ok_or(Error::TooMuch)?;
        let scale = u128::from(FEE_UNIT)
            .checked_mul(from)
            .and_then(|scaled| scaled.checked_add(counted))
            .ok_or(Error::TooMuch)?;
        // Without reserves there is nothing to divide by, or nothing comes out.
        let (amount_out, _) = mul_div(to, counted, scale).ok_or(Error::TooLittle)?;
        if amount_out == 0 {
            return Err(Error::TooLittle);
        }
        let rest = to.checked_sub(amount_out).ok_or(Error::TooMuch)?;
        Ok((amount_out, rest))
    }

    fn grown(reserve: u128, by: u128) -> Result<u128> {
        reserve
            .checked_add(by)
            .filter(|sum| *sum <= MAX_RESERVE)
            .ok_or(Error::TooMuch)
    }
}
