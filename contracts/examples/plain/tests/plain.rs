//! The escrow on the node's engine.

use slackline_testkit::{Account, Address, Done, Kit, Result, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Of alice's 500 for bob, until an hour from now.
fn deployed(kit: &Kit) -> Result<(Address, Done<'_>)> {
    let code = wat::parse_str(include_str!("../plain.wat")).expect("it is a module");
    let deadline = kit.time_ms() + 3_600_000;
    let done = kit
        .deploy(&kit.account("alice"), &code)
        .json(json!({"seller": "bob", "deadline": deadline}))
        .value(500)
        .send()?;
    Ok((done.contract()?, done))
}

fn parties(kit: &Kit) -> (String, String) {
    let of = |name| kit.account(name).address().to_string();
    (of("alice"), of("bob"))
}

#[test]
fn the_buyer_releases_and_the_seller_is_paid() -> Result<()> {
    let kit = Kit::new()?;
    let (escrow, done) = deployed(&kit)?;
    let (alice, bob) = parties(&kit);
    let deadline = (kit.time_ms() + 3_600_000).to_string();
    let mut all = json!({"buyer": alice, "seller": bob, "deadline": deadline, "amount": "500"});
    let events = done.events_json();
    assert_eq!(
        (events[0].name.as_str(), &events[0].fields),
        ("Opened", &all)
    );
    assert_eq!(kit.view(escrow, "state").send()?.returned_json()?, all);

    let release = |by: &Account| kit.call(by, escrow, "release").send();
    assert_eq!(
        release(&kit.account("bob"))?.revert_json(),
        Some(json!("NotBuyer"))
    );
    let before = kit.balance(&kit.account("bob"))?;
    let done = release(&kit.account("alice"))?.expect_ok();
    assert_eq!(kit.balance(&kit.account("bob"))?, before + 500);
    // Nothing is stored any more.
    assert!(done.deposit() < 0);
    assert_eq!(kit.info(escrow)?.storage_bytes, 0);
    let events = done.events_json();
    all.as_object_mut().and_then(|all| all.remove("deadline"));
    assert_eq!(
        (events[0].name.as_str(), &events[0].fields),
        ("Released", &all)
    );
    for method in ["release", "refund"] {
        let done = kit.call(&kit.account("alice"), escrow, method).send()?;
        assert_eq!(done.revert_json(), Some(json!("Closed")));
    }
    Ok(())
}

#[test]
fn the_seller_refunds_at_any_time_and_the_buyer_after_the_deadline() -> Result<()> {
    let kit = Kit::new()?;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| kit.account(name));
    let (first, _) = deployed(&kit)?;
    let (second, _) = deployed(&kit)?;
    let refund = |by: &Account, escrow| kit.call(by, escrow, "refund").send();
    assert_eq!(
        refund(&carol, first)?.revert_json(),
        Some(json!("NotParty"))
    );
    assert_eq!(
        refund(&alice, first)?.revert_json(),
        Some(json!("TooEarly"))
    );
    let before = kit.balance(&alice)?;
    let done = refund(&bob, first)?.expect_ok();
    assert_eq!(done.events_json()[0].name, "Refunded");
    assert_eq!(kit.balance(&alice)?, before + 500);
    kit.advance_time(HOUR)?;
    // Not before the deadline is past.
    assert_eq!(
        refund(&alice, second)?.revert_json(),
        Some(json!("TooEarly"))
    );
    kit.advance_time(Duration::from_millis(1))?;
    let _ = refund(&alice, second)?.expect_ok();
    assert_eq!(kit.balance(second)?, 0);
    Ok(())
}

#[test]
fn it_takes_neither_money_later_nor_other_arguments() -> Result<()> {
    let kit = Kit::new()?;
    let alice = kit.account("alice");
    let (escrow, _) = deployed(&kit)?;
    for method in ["release", "refund", "state"] {
        let call = kit.call(&alice, escrow, method);
        let text = call.clone().value(1).send()?.expect_revert_text();
        assert_eq!(text, "method is not payable");
        let text = call.args(&1u8).send()?.expect_revert_text();
        assert_eq!(text, "malformed input");
    }
    // What came in otherwise goes to whoever is paid.
    let _ = kit.transfer(&alice, escrow, 7).send()?.expect_ok();
    let before = kit.balance(&kit.account("bob"))?;
    let _ = kit.call(&alice, escrow, "release").send()?.expect_ok();
    assert_eq!(kit.balance(&kit.account("bob"))?, before + 507);
    Ok(())
}
