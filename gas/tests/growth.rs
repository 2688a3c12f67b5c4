//! What a call of the order book costs by how many orders it matches, as `slackline gas limit` finds out.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use orderbook::orderbook::{Asset, Side};
use slackline_gas::Records;
use slackline_gas::growth::{Model, advise, plot};
use slackline_testkit::record::{GAS_DIR, GAS_LIMITS};
use slackline_testkit::{Address, Kit, Result, contract};
use std::process::Command;

/// Not a test of itself: it is run to be recorded.
#[test]
#[ignore = "run by others"]
fn orders_that_are_matched() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    // Tokens, the market and deposits are not what this is about.
    let market = kit.unmetered(|| -> Result<Address> {
        let token = contract!("../contracts/examples/token")?;
        let token = |owner| {
            let deploy = kit.deploy(owner, &token).args(&1_000_000u128);
            deploy.send()?.contract()
        };
        let (base, quote) = (token(&alice)?, token(&bob)?);
        let code = contract!("../contracts/examples/orderbook")?;
        let deploy = kit.deploy(&alice, &code).args(&(base, quote, 10u128));
        let market = deploy.send()?.contract()?;
        for (owner, asset, token) in [(&alice, Asset::Base, base), (&bob, Asset::Quote, quote)] {
            let approve = kit
                .call(owner, token, "approve")
                .args(&(market, 1_000_000u128));
            let _ = approve.send()?.expect_ok();
            let deposit = kit
                .call(owner, market, "deposit")
                .args(&(asset, 1_000_000u128));
            let _ = deposit.send()?.expect_ok();
        }
        Ok(market)
    })?;
    let place = |by, side, lots: u64| {
        let place = kit.call(by, market, "place");
        place.args(&(side, 1u64, lots, 64u32)).send()
    };
    for orders in [1, 2, 4, 8, 16, 32, 64] {
        kit.unmetered(|| -> Result<()> {
            for _ in 0..orders {
                let _ = place(&alice, Side::Sell, 1)?.expect_ok();
            }
            Ok(())
        })?;
        let done = kit.sized("orders matched", orders, || place(&bob, Side::Buy, orders))?;
        let _ = done.expect_ok();
    }
    Ok(())
}

#[test]
fn each_order_that_is_matched_costs_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "orders_that_are_matched"])
        .env(GAS_DIR, dir.path())
        .env(GAS_LIMITS, "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );

    let records = Records::read(dir.path()).unwrap();
    // Only what is about it has been recorded.
    assert_eq!(records.executions.len(), 7);
    let advice = advise(&records, 20.0);
    // Its code is known by name, although it was deployed unmetered.
    let [place] = &advice[..] else {
        panic!("{advice:?}")
    };
    assert_eq!(
        (place.contract.as_str(), place.method.as_str()),
        ("orderbook", "place")
    );
    assert!(place.least_limit.unwrap() >= place.most_used);
    let [growth] = &place.growth[..] else {
        panic!("{:?}", place.growth)
    };
    assert_eq!(growth.with, "orders matched");
    let fit = growth.fit.unwrap();
    assert_eq!(fit.model, Model::Linear, "{fit:?}");
    assert!(fit.r_squared > 0.999, "{fit:?}");
    assert_eq!(
        plot("orderbook.place", growth).matches("<circle").count(),
        7
    );
}
