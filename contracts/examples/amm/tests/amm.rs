//! The pool and two tokens on the node's engine.

use amm::amm::{Deposit, Error, Pair, Swapped};
use slackline::CallError;
use slackline_testkit::{Account, Address, Kit, Result, contract};

/// A pool with a fee of 0.3 %, its tokens, and who has them.
struct World {
    kit: Kit,
    a: Address,
    b: Address,
    pool: Address,
}

impl World {
    /// Alice and bob have a million of each token; alice lets the pool take hers.
    fn new() -> Result<World> {
        let kit = Kit::new()?;
        let (alice, bob) = (kit.account("alice"), kit.account("bob"));
        let token = contract!("../contracts/examples/token")?;
        let token = || -> Result<Address> {
            let token = kit.deploy(&alice, &token).args(&2_000_000u128);
            let token = token.send()?.contract()?;
            let give = kit.call(&alice, token, "transfer");
            let _ = give.args(&(&bob, 1_000_000u128)).send()?.expect_ok();
            Ok(token)
        };
        let (a, b) = (token()?, token()?);
        let pool = kit
            .deploy(&alice, &contract!("../contracts/examples/amm")?)
            .args(&(a, b, 30u16))
            .send()?
            .contract()?;
        let world = World { kit, a, b, pool };
        world.approve(&alice, a, 1_000_000)?;
        world.approve(&alice, b, 1_000_000)?;
        Ok(world)
    }

    fn approve(&self, owner: &Account, token: Address, amount: u128) -> Result<()> {
        let approve = self.kit.call(owner, token, "approve");
        let _ = approve.args(&(self.pool, amount)).send()?.expect_ok();
        Ok(())
    }

    fn holds(&self, owner: impl Into<Address>) -> Result<Pair> {
        let owner = owner.into();
        let of = |token| self.kit.view(token, "balance").args(&owner).get::<u128>();
        Ok(Pair {
            a: of(self.a)?,
            b: of(self.b)?,
        })
    }
}

#[test]
fn tokens_go_in_are_swapped_and_come_out() -> Result<()> {
    let world = World::new()?;
    let (kit, pool) = (&world.kit, world.pool);
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));

    let add = kit.call(&alice, pool, "add");
    let done = add.args(&(400_000u128, 100_000u128, 199_000u128)).send()?;
    let paid = Pair {
        a: 400_000,
        b: 100_000,
    };
    let deposit = Deposit {
        paid,
        shares: 199_000,
    };
    assert_eq!(done.returned::<Deposit>()?, deposit);
    assert_eq!(world.holds(pool)?, paid);

    let quote = kit.view(pool, "quote").args(&(world.b, 10_000u128));
    let quote: u128 = quote.get()?;
    world.approve(&bob, world.b, 10_000)?;
    let swap = |min_out: u128| {
        let swap = kit.call(&bob, pool, "swap");
        swap.args(&(world.b, 10_000u128, min_out, Some(kit.time_ms())))
            .send()
    };
    assert_eq!(
        swap(quote + 1)?.expect_revert::<Error>(),
        Error::BelowMinimum
    );
    let done = swap(quote)?.expect_ok();
    assert_eq!(done.returned::<u128>()?, quote);
    let swapped = Swapped {
        owner: bob.address(),
        token_in: world.b,
        amount_in: 10_000,
        amount_out: quote,
    };
    assert_eq!(done.events_of::<Swapped>(pool), [swapped]);
    let holds = Pair {
        a: 1_000_000 + quote,
        b: 990_000,
    };
    assert_eq!(world.holds(&bob)?, holds);
    let reserves = kit.view(pool, "reserves").get::<Pair>()?;
    assert_eq!(reserves, world.holds(pool)?);

    let remove = kit.call(&alice, pool, "remove");
    let done = remove.args(&(199_000u128, 0u128, 0u128)).send()?;
    let got: Pair = done.returned()?;
    let left = world.holds(pool)?;
    assert_eq!((got.a + left.a, got.b + left.b), (reserves.a, reserves.b));
    assert!(left.a > 0 && left.b > 0);
    Ok(())
}

#[test]
fn when_the_second_token_refuses_the_first_has_not_moved() -> Result<()> {
    let world = World::new()?;
    let (kit, pool) = (&world.kit, world.pool);
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let add = |by| {
        kit.call(by, pool, "add")
            .args(&(2_000u128, 2_000u128, 0u128))
    };
    let _ = add(&alice).send()?.expect_ok();
    let before = (world.holds(&bob)?, world.holds(pool)?);
    world.approve(&bob, world.a, 2_000)?;
    let Error::Token(refused) = add(&bob).send()?.expect_revert() else {
        panic!("it is the token that refuses");
    };
    assert_eq!(
        refused.error(),
        Some(token::token::Error::InsufficientAllowance)
    );
    assert_eq!((world.holds(&bob)?, world.holds(pool)?), before);
    // That is one of the errors that the pool knows.
    assert_eq!(
        refused.error(),
        Some(amm::TokenError::InsufficientAllowance)
    );
    Ok(())
}

#[test]
fn a_token_that_calls_the_pool_back_is_refused() -> Result<()> {
    // Asks its caller for `reserves` and reverts with the status, a digit.
    let thief = wat::parse_str(
        r#"(module
            (import "slackline_v1" "caller" (func $caller (param i32)))
            (import "slackline_v1" "call"
                (func $call (param i32 i32 i32 i32 i32 i32 i64 i32) (result i32)))
            (import "slackline_v1" "revert" (func $revert (param i32 i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) "reserves")
            (func (export "transfer_from")
                (call $caller (i32.const 0))
                (i32.store8 (i32.const 96) (i32.add (i32.const 48)
                    (call $call (i32.const 0) (i32.const 64) (i32.const 8) (i32.const 0) (i32.const 0)
                        (i32.const 32) (i64.const -1) (i32.const 1))))
                (call $revert (i32.const 96) (i32.const 1))))"#,
    )
    .expect("it is a module");
    let kit = Kit::new()?;
    let alice = kit.account("alice");
    let thief = kit.deploy(&alice, &thief).send()?.contract()?;
    let pool = kit
        .deploy(&alice, &contract!("../contracts/examples/amm")?)
        .args(&(thief, alice.address(), 30u16))
        .send()?
        .contract()?;
    let add = kit.call(&alice, pool, "add");
    let error: Error = add
        .args(&(2_000u128, 2_000u128, 0u128))
        .send()?
        .expect_revert();
    // Status 5: re-entrancy refused.
    assert_eq!(error, Error::Token(CallError::Reverted(b"5".to_vec())));
    Ok(())
}
