//! The market and two tokens on the node's engine.

use orderbook::orderbook::{Asset, Entry, Error, Filled, OrderId, Outcome, Side};
use slackline::CallError;
use slackline_testkit::{Account, Address, Done, Kit, Result, contract, json};

const LOT: u128 = 10;

/// A market, its tokens, and who has them.
struct World {
    kit: Kit,
    base: Address,
    quote: Address,
    market: Address,
}

impl World {
    /// Alice and bob have deposited 100000 of each token, and have as many left.
    fn new() -> Result<World> {
        let kit = Kit::new()?;
        let (alice, bob) = (kit.account("alice"), kit.account("bob"));
        let token = contract!("../contracts/examples/token")?;
        let token = || -> Result<Address> {
            let token = kit.deploy(&alice, &token).args(&400_000u128);
            let token = token.send()?.contract()?;
            let give = kit.call(&alice, token, "transfer");
            let _ = give.args(&(&bob, 200_000u128)).send()?.expect_ok();
            Ok(token)
        };
        let (base, quote) = (token()?, token()?);
        let market = kit
            .deploy(&alice, &contract!("../contracts/examples/orderbook")?)
            .args(&(base, quote, LOT))
            .send()?
            .contract()?;
        let world = World {
            kit,
            base,
            quote,
            market,
        };
        for owner in [&alice, &bob] {
            for (asset, token) in [(Asset::Base, base), (Asset::Quote, quote)] {
                let approve = world.kit.call(owner, token, "approve");
                let approve = approve.args(&(market, 100_000u128));
                let deposit = world.kit.call(owner, market, "deposit");
                let deposit = deposit.args(&(asset, 100_000u128));
                let done = world.kit.block([approve, deposit])?;
                assert!(done.iter().all(|done| done.is_ok()));
            }
        }
        Ok(world)
    }

    fn place(&self, by: &Account, side: Side, price: u64, lots: u64) -> Result<Done<'_>> {
        let place = self.kit.call(by, self.market, "place");
        place.args(&(side, price, lots, 64u32)).send()
    }

    /// What somebody has in the market.
    fn balance(&self, owner: &Account) -> Result<(u128, u128)> {
        let of = |asset: Asset| {
            let balance = self.kit.view(self.market, "balance");
            balance.args(&(owner, asset)).get::<u128>()
        };
        Ok((of(Asset::Base)?, of(Asset::Quote)?))
    }
}

#[test]
fn orders_rest_match_and_are_cancelled() -> Result<()> {
    let world = World::new()?;
    let (kit, market) = (&world.kit, world.market);
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    for price in [12, 11, 13] {
        let _ = world.place(&alice, Side::Sell, price, 5)?.expect_ok();
    }
    let done = world.place(&bob, Side::Buy, 12, 12)?.expect_ok();
    let outcome: Outcome = done.returned()?;
    assert_eq!((outcome.filled, outcome.quote), (10, 115));
    let fills = done.events::<Filled>();
    let fills: Vec<_> = fills
        .iter()
        .map(|fill| (fill.id.price, fill.lots))
        .collect();
    assert_eq!(fills, [(11, 5), (12, 5)]);
    assert_eq!(world.balance(&alice)?, (100_000 - 150, 100_115));
    assert_eq!(world.balance(&bob)?, (100_100, 100_000 - 115 - 24));

    let rest = outcome.resting.expect("two lots are left");
    let best = kit.view(market, "best").args(&Side::Buy);
    assert_eq!(best.get::<Option<Entry>>()?.map(|best| best.id), Some(rest));
    let cancel = |by| kit.call(by, market, "cancel").args(&rest).send();
    assert_eq!(cancel(&alice)?.expect_revert::<Error>(), Error::NotOwner);
    assert_eq!(cancel(&bob)?.returned::<u64>()?, 2);
    assert_eq!(world.balance(&bob)?, (100_100, 100_000 - 115));
    Ok(())
}

#[test]
fn what_was_bought_can_be_withdrawn() -> Result<()> {
    let world = World::new()?;
    let (kit, market) = (&world.kit, world.market);
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let _ = world.place(&alice, Side::Sell, 7, 3)?.expect_ok();
    let _ = world.place(&bob, Side::Buy, 7, 3)?.expect_ok();
    let withdraw = |asset: Asset, amount: u128| {
        let withdraw = kit.call(&bob, market, "withdraw");
        withdraw.args(&(asset, amount)).send()
    };
    let _ = withdraw(Asset::Base, 100_030)?.expect_ok();
    assert_eq!(
        withdraw(Asset::Base, 1)?.expect_revert::<Error>(),
        Error::InsufficientBalance
    );
    let of_bob = |token| kit.view(token, "balance").args(&bob).get::<u128>();
    assert_eq!(
        (of_bob(world.base)?, of_bob(world.quote)?),
        (200_030, 100_000)
    );
    Ok(())
}

#[test]
fn without_an_allowance_nothing_is_deposited() -> Result<()> {
    let world = World::new()?;
    let bob = world.kit.account("bob");
    let deposit = world.kit.call(&bob, world.market, "deposit");
    let error: Error = deposit.args(&(Asset::Base, 1u128)).send()?.expect_revert();
    let Error::Token(refused @ CallError::Reverted(_)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(
        refused.error(),
        Some(orderbook::TokenError::InsufficientAllowance)
    );
    assert_eq!(world.balance(&bob)?.0, 100_000);
    Ok(())
}

/// Whatever the book holds: a call matches 64 orders at most, and that takes less than a hundredth of a transaction's fuel.
#[test]
fn work_is_bounded() -> Result<()> {
    let world = World::new()?;
    let (alice, bob) = (world.kit.account("alice"), world.kit.account("bob"));
    for _ in 0..70 {
        let _ = world.place(&alice, Side::Sell, 1, 1)?.expect_ok();
    }
    let done = world.place(&bob, Side::Buy, 1, 70)?;
    let outcome: Outcome = done.fuel_at_most(10_000_000).returned()?;
    assert_eq!((outcome.filled, outcome.resting), (64, None));
    let outcome: Outcome = world.place(&bob, Side::Buy, 1, 70)?.returned()?;
    assert_eq!(outcome.filled, 6);
    Ok(())
}

#[test]
fn it_can_be_used_with_json() -> Result<()> {
    let world = World::new()?;
    let (kit, market) = (&world.kit, world.market);
    let alice = kit.account("alice");
    let place = json!({"side": "Buy", "price": 3, "lots": 4, "max_fills": 0});
    let done = kit.call(&alice, market, "place").json(place).send()?;
    let id = json!({"side": "Buy", "price": "3", "number": "0"});
    assert_eq!(
        done.returned_json()?,
        json!({"filled": "0", "quote": "0", "resting": id})
    );
    assert_eq!(done.events_json()[0].fields["id"], id);
    let orders = kit.view(market, "orders");
    let orders = orders.json(json!({"side": "Buy", "limit": 5})).send()?;
    assert_eq!(orders.returned_json()?[0]["order"]["lots"], "4");
    let cancel = kit.call(&alice, market, "cancel").json(json!({ "id": id }));
    assert_eq!(cancel.send()?.returned_json()?, "4");
    let gone = kit.view(market, "orders");
    let gone = gone.args(&(Side::Buy, None::<OrderId>, 5u32));
    assert_eq!(gone.get::<Vec<Entry>>()?, []);
    Ok(())
}
