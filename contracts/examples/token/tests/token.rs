//! The token on the node's engine.

use slackline_testkit::{AbortReason, Address, Kit, Result, contract, json};
use token::token::{Approval, Error, Mint, Transfer};

/// A token of alice's.
fn deployed(kit: &Kit, supply: u128) -> Result<Address> {
    let code = contract!("../contracts/examples/token")?;
    let alice = kit.account("alice");
    kit.deploy(&alice, &code).args(&supply).send()?.contract()
}

#[test]
fn the_deployer_has_the_supply() -> Result<()> {
    let kit = Kit::new()?;
    let alice = kit.account("alice");
    let code = contract!("../contracts/examples/token")?;
    let done = kit.deploy(&alice, &code).args(&1000u128).send()?;
    let made = Mint {
        to: alice.address(),
        amount: 1000,
    };
    assert_eq!(done.events::<Mint>(), [made]);
    let token = done.contract()?;
    let balance = kit.view(token, "balance").args(&alice);
    assert_eq!(balance.get::<u128>()?, 1000);
    assert_eq!(kit.view(token, "total_supply").get::<u128>()?, 1000);
    Ok(())
}

#[test]
fn a_transfer_moves_tokens_and_is_told() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let token = deployed(&kit, 1000)?;
    let done = kit
        .call(&alice, token, "transfer")
        .args(&(&bob, 300u128))
        .send()?
        .expect_ok()
        .fuel_at_most(400_000);
    let moved = Transfer {
        from: alice.address(),
        to: bob.address(),
        amount: 300,
    };
    assert_eq!(done.events_of::<Transfer>(token), [moved]);
    let balance = |of| kit.view(token, "balance").args(of).get::<u128>();
    assert_eq!((balance(&alice)?, balance(&bob)?), (700, 300));
    Ok(())
}

#[test]
fn what_is_kept_for_bob_is_paid_for_and_refunded() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let token = deployed(&kit, 1000)?;
    let before = kit.info(token)?;
    let transfer = |from, to, amount: u128| kit.call(from, token, "transfer").args(&(to, amount));
    let first = transfer(&alice, &bob, 1).send()?.expect_ok();
    let after = kit.info(token)?;
    assert!(after.storage_bytes > before.storage_bytes);
    assert_eq!(
        first.deposit(),
        after.deposit as i128 - before.deposit as i128
    );
    // There is an entry for bob now.
    assert_eq!(transfer(&alice, &bob, 1).send()?.expect_ok().deposit(), 0);
    let stingy = transfer(&alice, &kit.account("carol"), 1).deposit_limit(0);
    assert!(!stingy.send()?.is_ok());
    Ok(())
}

#[test]
fn nobody_spends_more_than_they_have() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let token = deployed(&kit, 1000)?;
    for (from, to, amount) in [(&alice, &bob, 1001u128), (&bob, &alice, 1)] {
        let done = kit.call(from, token, "transfer").args(&(to, amount));
        let error: Error = done.send()?.expect_revert();
        assert_eq!(error, Error::InsufficientBalance);
    }
    Ok(())
}

#[test]
fn others_spend_what_they_are_allowed_in_one_block() -> Result<()> {
    let kit = Kit::new()?;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| kit.account(name));
    let token = deployed(&kit, 1000)?;
    let spend = |amount: u128| {
        kit.call(&bob, token, "transfer_from")
            .args(&(&alice, &carol, amount))
    };
    let height = kit.height();
    let done = kit.block([
        kit.call(&alice, token, "approve").args(&(&bob, 300u128)),
        spend(200),
        spend(101),
    ])?;
    assert_eq!(kit.height(), height + 1);
    let allowed = Approval {
        owner: alice.address(),
        spender: bob.address(),
        amount: 300,
    };
    assert_eq!(done[0].events::<Approval>(), [allowed]);
    assert!(done[1].is_ok());
    let error: Error = done[2].expect_revert();
    assert_eq!(error, Error::InsufficientAllowance);
    let left = kit.view(token, "allowance").args(&(&alice, &bob));
    assert_eq!(left.get::<u128>()?, 100);
    Ok(())
}

#[test]
fn it_can_be_used_with_json() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let token = deployed(&kit, 1000)?;
    let transfer = |amount: &str| {
        kit.call(&alice, token, "transfer")
            .json(json!({"to": "bob", "amount": amount}))
            .send()
    };
    let events = transfer("5")?.expect_ok().events_json();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].name, "Transfer");
    assert_eq!(
        events[0].fields,
        json!({"from": alice.address().to_string(), "to": bob.address().to_string(), "amount": "5"})
    );
    assert_eq!(
        transfer("996")?.revert_json(),
        Some(json!("InsufficientBalance"))
    );
    let balance = kit.view(token, "balance").json(json!(["bob"])).send()?;
    assert_eq!(balance.returned_json()?, "5");
    Ok(())
}

#[test]
fn too_little_fuel_leaves_nothing() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let token = deployed(&kit, 1000)?;
    let transfer = kit.call(&alice, token, "transfer").args(&(&bob, 5u128));
    // The first one finds no balance of Bob's to read.
    assert!(transfer.clone().send()?.is_ok());
    let needed = transfer.clone().send()?.expect_ok().fuel();
    let done = transfer.clone().fuel(needed - 1).send()?;
    assert_eq!(done.expect_abort(), AbortReason::OutOfFuel);
    assert!(transfer.fuel(needed).send()?.is_ok());
    Ok(())
}

#[test]
fn only_the_owner_mints_and_nobody_pays() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let token = deployed(&kit, 1000)?;
    let mint = |by| kit.call(by, token, "mint").args(&(&bob, 5u128));
    assert_eq!(mint(&bob).send()?.expect_revert::<Error>(), Error::NotOwner);
    let text = mint(&alice).value(1).send()?.expect_revert_text();
    assert_eq!(text, "method is not payable");
    assert!(mint(&alice).send()?.is_ok());
    assert_eq!(kit.view(token, "total_supply").get::<u128>()?, 1005);
    Ok(())
}
