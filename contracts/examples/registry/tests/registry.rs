//! The registry on the node's engine.

use registry::registry::{Entry, Error, GRACE, YEAR};
use slackline_testkit::{Account, Address, Done, Kit, Result, contract, json};
use std::time::Duration;

/// Carol's, 100 a year.
fn deployed(kit: &Kit) -> Result<Address> {
    let code = contract!("../contracts/examples/registry")?;
    let registry = kit.deploy(&kit.account("carol"), &code).args(&100u128);
    registry.send()?.contract()
}

fn register<'k>(kit: &'k Kit, registry: Address, by: &Account, name: &str) -> Result<Done<'k>> {
    kit.call(by, registry, "register")
        .args(&(name, 1u32, None::<Address>))
        .value(100)
        .send()
}

#[test]
fn a_name_expires_and_is_free_a_while_later() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let registry = deployed(&kit)?;
    let expires: u64 = register(&kit, registry, &alice, "alice")?.returned()?;
    assert_eq!(expires, kit.time_ms() + YEAR);
    let resolve = || {
        let view = kit.view(registry, "resolve").args(&"alice");
        view.get::<Option<Address>>()
    };
    assert_eq!(resolve()?, Some(alice.address()));

    kit.advance_time(Duration::from_millis(YEAR))?;
    assert_eq!(resolve()?, None);
    let taken = register(&kit, registry, &bob, "alice")?;
    assert_eq!(taken.expect_revert::<Error>(), Error::Taken);
    let _ = kit
        .call(&bob, registry, "renew")
        .args(&("alice", 1u32))
        .value(100)
        .send()?
        .expect_ok();
    assert_eq!(resolve()?, Some(alice.address()));

    kit.advance_time(Duration::from_millis(YEAR + GRACE))?;
    let _ = register(&kit, registry, &bob, "alice")?.expect_ok();
    assert_eq!(resolve()?, Some(bob.address()));
    Ok(())
}

#[test]
fn payments_stay_change_comes_back_and_the_treasurer_collects() -> Result<()> {
    let kit = Kit::new()?;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| kit.account(name));
    let registry = deployed(&kit)?;
    let register = |by, value| {
        let register = kit.call(by, registry, "register");
        register
            .args(&("a-name", 3u32, Some(&bob)))
            .value(value)
            .send()
    };
    assert_eq!(
        register(&alice, 299)?.expect_revert::<Error>(),
        Error::TooLittlePaid { price: 300 }
    );
    let before = kit.balance(&alice)?;
    let done = register(&alice, 1_000_000)?.expect_ok();
    let receipt = done.receipt().expect("it is a transaction");
    let costs = receipt.fee + done.deposit().unsigned_abs() + 300;
    assert_eq!(kit.balance(&alice)?, before - costs);
    assert_eq!(kit.balance(registry)?, 300);

    let collect = |by| kit.call(by, registry, "collect").send();
    assert_eq!(
        collect(&alice)?.expect_revert::<Error>(),
        Error::NotTreasurer
    );
    assert_eq!(collect(&carol)?.returned::<u128>()?, 300);
    assert_eq!(kit.balance(registry)?, 0);
    Ok(())
}

#[test]
fn names_are_listed_in_order() -> Result<()> {
    let kit = Kit::new()?;
    let alice = kit.account("alice");
    let registry = deployed(&kit)?;
    for name in ["bob", "al", "alice", "ali", "alan", "alz", "a"] {
        let _ = register(&kit, registry, &alice, name)?.expect_ok();
    }
    let names = |prefix: &str, after: Option<&str>, limit: u32| -> Result<Vec<String>> {
        let view = kit.view(registry, "names").args(&(prefix, after, limit));
        let listed: Vec<Entry> = view.get()?;
        Ok(listed.into_iter().map(|entry| entry.name).collect())
    };
    assert_eq!(names("al", None, 3)?, ["al", "alan", "ali"]);
    assert_eq!(names("al", Some("ali"), 3)?, ["alice", "alz"]);
    assert_eq!(names("", Some("alz"), 3)?, ["bob"]);
    Ok(())
}

#[test]
fn whoever_clears_away_gets_the_deposit() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let registry = deployed(&kit)?;
    let paid = register(&kit, registry, &alice, "alice")?
        .expect_ok()
        .deposit();
    let release = || kit.call(&bob, registry, "release").args(&"alice").send();
    assert_eq!(release()?.expect_revert::<Error>(), Error::NotOwner);
    kit.advance_time(Duration::from_millis(YEAR + GRACE))?;
    assert_eq!(release()?.expect_ok().deposit(), -paid);
    Ok(())
}

#[test]
fn it_can_be_used_with_json() -> Result<()> {
    let kit = Kit::new()?;
    let alice = kit.account("alice");
    let registry = deployed(&kit)?;
    let register = kit
        .call(&alice, registry, "register")
        .json(json!({"name": "alice", "years": 1, "target": "bob"}))
        .value(100);
    let events = register.send()?.expect_ok().events_json();
    // A topic that holds no whole name; the name is there all the same.
    assert_eq!(
        (events[0].name.as_str(), &events[0].fields["name"]),
        ("Registered", &json!("alice"))
    );
    let resolve = kit.view(registry, "resolve").json(json!(["alice"]));
    let bob = kit.account("bob").address().to_string();
    assert_eq!(resolve.send()?.returned_json()?, json!(bob));
    Ok(())
}
