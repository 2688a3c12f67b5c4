//! The pool on the mock host, with a bank that answers for both tokens.

extern crate std;

use crate::TokenError;
use crate::amm::{
    Added, Deposit, Error, LOCKED, MAX_RESERVE, Pair, Pool, Removed, Swapped, exports, swapped,
};
use core::cell::RefCell;
use proptest::prelude::*;
use slackline::borsh::{self, BorshDeserialize, BorshSerialize};
use slackline::mock::{self, Host, OtherCall, Revert};
use slackline::prelude::*;
use std::collections::BTreeMap;
use std::rc::Rc;

const ALICE: Address = Address([1; 32]);
const BOB: Address = Address([2; 32]);
const TOKEN_A: Address = Address([0xa; 32]);
const TOKEN_B: Address = Address([0xb; 32]);

type Outcome<T> = core::result::Result<T, Revert>;

/// Balances by token and owner.
type Bank = BTreeMap<(Address, Address), u128>;

/// The pool, and tokens without allowances.
struct World {
    host: Host,
    bank: Rc<RefCell<Bank>>,
}

impl World {
    fn new(fee: u16) -> Self {
        let mut host = Host::default();
        host.call::<()>(ALICE, exports::init, (TOKEN_A, TOKEN_B, fee))
            .unwrap();
        let bank = [ALICE, BOB]
            .iter()
            .flat_map(|owner| [(TOKEN_A, *owner), (TOKEN_B, *owner)])
            .map(|key| (key, 1 << 120))
            .collect();
        Self {
            host,
            bank: Rc::new(RefCell::new(bank)),
        }
    }

    fn call<R: BorshDeserialize>(
        &mut self,
        caller: Address,
        method: extern "C-unwind" fn(),
        args: impl BorshSerialize,
    ) -> Outcome<R> {
        let before = self.bank.borrow().clone();
        let (bank, pool) = (self.bank.clone(), self.host.address);
        let outcome = mock::with_others(
            move |call| answer(&mut bank.borrow_mut(), pool, call),
            || self.host.call(caller, method, args),
        );
        if outcome.is_err() {
            *self.bank.borrow_mut() = before;
        }
        // The books are never above the balances.
        let held = self.holdings(pool);
        let reserves = self.reserves();
        assert!(reserves.a <= held.a && reserves.b <= held.b);
        outcome
    }

    fn holdings(&self, owner: Address) -> Pair {
        let of = |token| {
            let bank = self.bank.borrow();
            bank.get(&(token, owner)).copied().unwrap_or_default()
        };
        Pair {
            a: of(TOKEN_A),
            b: of(TOKEN_B),
        }
    }

    fn reserves(&self) -> Pair {
        // Of a copy: the events of the last call stay.
        self.host.clone().call(BOB, exports::reserves, ()).unwrap()
    }

    fn supply(&self) -> u128 {
        self.host.clone().call(BOB, exports::supply, ()).unwrap()
    }

    fn shares_of(&self, owner: Address) -> u128 {
        self.host
            .clone()
            .call(BOB, exports::shares_of, owner)
            .unwrap()
    }

    fn add(&mut self, owner: Address, a: u128, b: u128) -> Outcome<Deposit> {
        self.call(owner, exports::add, (a, b, 0u128))
    }

    fn remove(&mut self, owner: Address, shares: u128) -> Outcome<Pair> {
        self.call(owner, exports::remove, (shares, 0u128, 0u128))
    }

    fn swap(&mut self, owner: Address, token_in: Address, amount: u128) -> Outcome<u128> {
        let args = (token_in, amount, 0u128, None::<u64>);
        self.call(owner, exports::swap, args)
    }
}

/// What a token would do.
fn answer(bank: &mut Bank, pool: Address, call: OtherCall<'_>) -> Result<Vec<u8>, CallError> {
    let (from, to, amount): (Address, Address, u128) = match call.method {
        "transfer" => {
            let (to, amount) = borsh::from_slice(call.input).unwrap();
            (pool, to, amount)
        }
        "transfer_from" => borsh::from_slice(call.input).unwrap(),
        _ => return Err(CallError::NoMethod),
    };
    let balance = bank.entry((call.to, from)).or_default();
    let Some(rest) = balance.checked_sub(amount) else {
        let error = TokenError::InsufficientBalance;
        return Err(CallError::Reverted(borsh::to_vec(&error).unwrap()));
    };
    *balance = rest;
    *bank.entry((call.to, to)).or_default() += amount;
    Ok(Vec::new())
}

fn failed<T>(error: Error) -> Outcome<T> {
    Err(Revert::with(&error))
}

#[test]
fn the_first_deposit_sets_the_price_and_leaves_some_shares_to_nobody() {
    let mut world = World::new(30);
    let paid = Pair {
        a: 4_000_000,
        b: 1_000_000,
    };
    let deposit = Deposit {
        paid,
        shares: 2_000_000 - LOCKED,
    };
    assert_eq!(world.add(ALICE, paid.a, paid.b), Ok(deposit));
    let added = Added {
        owner: ALICE,
        paid,
        shares: 2_000_000 - LOCKED,
    };
    assert_eq!(world.host.emitted::<Added>(), [added]);
    assert_eq!(world.supply(), 2_000_000);
    assert_eq!(world.shares_of(ALICE), 2_000_000 - LOCKED);
    assert_eq!(
        (world.reserves(), world.holdings(world.host.address)),
        (paid, paid)
    );
}

#[test]
fn a_pool_is_of_two_tokens_and_leaves_something_of_what_comes_in() {
    let mut host = Host::default();
    for (other, fee, error) in [
        (TOKEN_A, 30u16, Error::SameToken),
        (TOKEN_B, 10_000, Error::FeeTooHigh),
    ] {
        assert_eq!(
            host.call::<()>(ALICE, exports::init, (TOKEN_A, other, fee)),
            failed(error)
        );
    }
    let pool = Pool {
        token_a: TOKEN_A,
        token_b: TOKEN_B,
        fee: 9_999,
    };
    host.call::<()>(ALICE, exports::init, &pool).unwrap();
    assert_eq!(host.call(BOB, exports::pool, ()), Ok(pool));
}

#[test]
fn later_deposits_are_in_proportion() {
    let mut world = World::new(30);
    world.add(ALICE, 4_000_000, 1_000_000).unwrap();
    let before = world.holdings(BOB);
    // More of B than it takes.
    let deposit = world.add(BOB, 400_001, 200_000).unwrap();
    assert_eq!(deposit.shares, 200_000);
    assert_eq!((deposit.paid.a, deposit.paid.b), (400_000, 100_000));
    assert_eq!(world.holdings(BOB).b, before.b - 100_000);
    assert_eq!(
        world.call::<Deposit>(BOB, exports::add, (400u128, 100u128, 201u128)),
        failed(Error::BelowMinimum)
    );
    assert_eq!(world.add(BOB, 400, 0), failed(Error::TooLittle));
}

#[test]
fn what_is_too_little_or_too_much_is_refused() {
    let mut world = World::new(30);
    assert_eq!(world.add(ALICE, 1000, 999), failed(Error::TooLittle));
    assert_eq!(world.add(ALICE, 1000, 1000), failed(Error::TooLittle));
    assert_eq!(world.add(ALICE, u128::MAX, 1), failed(Error::TooMuch));
    assert_eq!(world.swap(ALICE, TOKEN_A, 5), failed(Error::TooLittle));
    assert_eq!(world.remove(ALICE, 0), failed(Error::TooLittle));
    world.add(ALICE, MAX_RESERVE, 1_000_000).unwrap();
    assert_eq!(world.add(BOB, u128::MAX, u128::MAX), failed(Error::TooMuch));
    assert_eq!(world.swap(BOB, TOKEN_A, 1), failed(Error::TooMuch));
    assert_eq!(world.swap(BOB, TOKEN_B, u128::MAX), failed(Error::TooMuch));
    assert_eq!(world.remove(BOB, 1), failed(Error::InsufficientShares));
    assert_eq!(world.swap(BOB, BOB, 1), failed(Error::UnknownToken));
    assert_eq!(world.remove(ALICE, 0), failed(Error::TooLittle));
    // Nothing would come out of so little.
    assert_eq!(world.swap(BOB, TOKEN_B, 0), failed(Error::TooLittle));
}

#[test]
fn a_swap_gives_what_was_quoted_and_the_fee_stays() {
    let mut world = World::new(30);
    world.add(ALICE, 1_000_000, 1_000_000).unwrap();
    let quote: u128 = world
        .call(BOB, exports::quote, (TOKEN_A, 10_000u128))
        .unwrap();
    // 9970 · 1000000 / 1009970
    assert_eq!(quote, 9871);
    let before = world.holdings(BOB);
    assert_eq!(world.swap(BOB, TOKEN_A, 10_000), Ok(quote));
    let told = Swapped {
        owner: BOB,
        token_in: TOKEN_A,
        amount_in: 10_000,
        amount_out: quote,
    };
    assert_eq!(world.host.emitted::<Swapped>(), [told]);
    let after = world.holdings(BOB);
    assert_eq!((before.a - after.a, after.b - before.b), (10_000, quote));
    let reserves = Pair {
        a: 1_010_000,
        b: 1_000_000 - quote,
    };
    assert_eq!(world.reserves(), reserves);
}

#[test]
fn a_swap_is_only_done_at_the_price_and_in_the_time_that_the_caller_wants() {
    let mut world = World::new(0);
    world.add(ALICE, 1_000_000, 1_000_000).unwrap();
    world.host.block_time = 1_000;
    let mut swap = |min_out: u128, deadline: Option<u64>| {
        world.call::<u128>(BOB, exports::swap, (TOKEN_B, 10_000u128, min_out, deadline))
    };
    assert_eq!(swap(9_901, None), failed(Error::BelowMinimum));
    assert_eq!(swap(9_900, Some(999)), failed(Error::TooLate));
    assert_eq!(swap(9_900, Some(1_000)), Ok(9_900));
}

#[test]
fn who_removes_gets_a_part_of_both_and_of_the_fees() {
    let mut world = World::new(30);
    world.add(ALICE, 1_000_000, 1_000_000).unwrap();
    world.add(BOB, 1_000_000, 1_000_000).unwrap();
    world.swap(ALICE, TOKEN_A, 500_000).unwrap();
    world.swap(ALICE, TOKEN_B, 500_000).unwrap();
    let got = world.remove(BOB, 1_000_000).unwrap();
    assert!(got.a * got.b > 1_000_000 * 1_000_000);
    let removed = Removed {
        owner: BOB,
        shares: 1_000_000,
        got,
    };
    assert_eq!(world.host.emitted::<Removed>(), [removed]);
    assert_eq!(world.shares_of(BOB), 0);
    let args = (1_000u128, got.a, 0u128);
    assert_eq!(
        world.call::<Pair>(ALICE, exports::remove, args),
        failed(Error::BelowMinimum)
    );
    world.remove(ALICE, 1_000_000 - LOCKED).unwrap();
    // What belongs to nobody.
    assert_eq!(world.supply(), LOCKED);
    let rest = world.reserves();
    assert!(rest.a > 0 && rest.b > 0);
}

#[test]
fn when_a_token_refuses_nothing_has_happened() {
    let mut world = World::new(30);
    world.add(ALICE, 1_000_000, 1_000_000).unwrap();
    world.bank.borrow_mut().insert((TOKEN_B, BOB), 99);
    let before = world.host.storage.clone();
    let reason = borsh::to_vec(&TokenError::InsufficientBalance).unwrap();
    let refused = || Error::Token(CallError::Reverted(reason.clone()));
    assert_eq!(world.swap(BOB, TOKEN_B, 100), failed(refused()));
    // The other token has been moved by then.
    assert_eq!(world.add(BOB, 100, 100), failed(refused()));
    assert_eq!(world.host.storage, before);
    assert_eq!(world.holdings(BOB).a, 1 << 120);
}

#[test]
fn the_first_in_cannot_round_away_what_others_bring() {
    let mut world = World::new(0);
    // As little as possible, then made as dear as possible without getting anything for it.
    world.add(ALICE, 1_001, 1_001).unwrap();
    world
        .call::<Pair>(ALICE, exports::remove, (1u128, 0u128, 0u128))
        .unwrap();
    assert_eq!(world.swap(ALICE, TOKEN_A, 0), failed(Error::TooLittle));
    let deposit = world.add(BOB, 5_000_000, 5_000_000).unwrap();
    let back = world.remove(BOB, deposit.shares).unwrap();
    assert!(back.a >= 4_999_000 && back.b >= 4_999_000, "{back:?}");
}

/// Whether a / b <= c / d.
fn at_most(a: u128, b: u128, c: u128, d: u128) -> bool {
    let (left, right) = (a.carrying_mul(d, 0), c.carrying_mul(b, 0));
    (left.1, left.0) <= (right.1, right.0)
}

#[derive(Clone, Debug)]
enum Step {
    Add(bool, u128, u128),
    Remove(bool, u8),
    Swap(bool, bool, u128),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Amounts of all lengths.
    let amount = || (1..1u128 << 108, 0..108u32).prop_map(|(amount, less)| (amount >> less).max(1));
    let step = prop_oneof![
        2 => (any::<bool>(), amount(), amount()).prop_map(|(bob, a, b)| Step::Add(bob, a, b)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(bob, part)| Step::Remove(bob, part)),
        4 => (any::<bool>(), any::<bool>(), amount()).prop_map(|(bob, a, amount)| Step::Swap(bob, a, amount)),
    ];
    prop::collection::vec(step, 1..20)
}

proptest! {
    /// The product never falls in a swap, reserves never fall in proportion to shares, and tokens are conserved.
    #[test]
    fn nobody_takes_from_those_who_stay(
        fee in 0..10_000u16,
        first in (1u128 << 20..1 << 100, 1u128 << 20..1 << 100),
        steps in steps(),
    ) {
        let mut world = World::new(fee);
        world.add(ALICE, first.0, first.1).unwrap();
        let owner = |bob| if bob { BOB } else { ALICE };
        for step in steps {
            let (before, supply) = (world.reserves(), world.supply());
            match step {
                Step::Add(bob, a, b) => {
                    if let Ok(deposit) = world.add(owner(bob), a, b) {
                        prop_assert!(deposit.paid.a <= a && deposit.paid.b <= b);
                    }
                }
                Step::Remove(bob, part) => {
                    let shares = world.shares_of(owner(bob));
                    // All of them, for the greatest part.
                    let shares = if part == 255 { shares } else { shares / 255 * u128::from(part) };
                    let _ = world.remove(owner(bob), shares);
                }
                Step::Swap(bob, a, amount) => {
                    let token = if a { TOKEN_A } else { TOKEN_B };
                    if world.swap(owner(bob), token, amount).is_ok() {
                        let after = world.reserves();
                        let (low, high) = before.a.carrying_mul(before.b, 0);
                        let (more_low, more_high) = after.a.carrying_mul(after.b, 0);
                        prop_assert!((high, low) <= (more_high, more_low));
                    }
                }
            }
            let (after, supply_after) = (world.reserves(), world.supply());
            if !matches!(step, Step::Swap(..)) {
                prop_assert!(at_most(before.a, supply, after.a, supply_after));
                prop_assert!(at_most(before.b, supply, after.b, supply_after));
            }
            prop_assert!(after.a > 0 && after.b > 0);
            prop_assert_eq!(
                supply_after,
                world.shares_of(ALICE) + world.shares_of(BOB) + LOCKED
            );
            let (pool, alice, bob) = (
                world.holdings(world.host.address),
                world.holdings(ALICE),
                world.holdings(BOB),
            );
            prop_assert_eq!(pool, after);
            prop_assert_eq!(pool.a + alice.a + bob.a, 2 << 120);
            prop_assert_eq!(pool.b + alice.b + bob.b, 2 << 120);
        }
    }

    /// At the very edge of what is allowed, too.
    #[test]
    fn a_swap_never_empties_a_reserve(
        x in 0..=MAX_RESERVE, y in 0..=MAX_RESERVE, amount in 0..=MAX_RESERVE, fee in 0..10_000u16,
    ) {
        if let Ok((out, rest)) = swapped(x, y, amount, fee) {
            prop_assert!(out > 0 && out + rest == y);
            prop_assert!(rest > 0 || x == 0);
        }
    }
}
