//! The counter on the node's engine.

use counter::counter::{Error, Incremented};
use slackline_testkit::{Address, Kit, Result, contract};

fn deployed(kit: &Kit, start: u64) -> Result<Address> {
    let code = contract!("../contracts/examples/counter")?;
    let alice = kit.account("alice");
    kit.deploy(&alice, &code).args(&start).send()?.contract()
}

#[test]
fn it_counts_and_tells() -> Result<()> {
    let kit = Kit::new()?;
    let bob = kit.account("bob");
    let counter = deployed(&kit, 40)?;
    let done = kit.call(&bob, counter, "increment").args(&2u64).send()?;
    assert_eq!(done.returned::<u64>()?, 42);
    let event = Incremented {
        by: bob.address(),
        count: 42,
    };
    assert_eq!(done.events::<Incremented>(), [event]);
    assert_eq!(kit.view(counter, "get").get::<u64>()?, 42);
    Ok(())
}

#[test]
fn it_does_not_wrap() -> Result<()> {
    let kit = Kit::new()?;
    let bob = kit.account("bob");
    let counter = deployed(&kit, u64::MAX)?;
    let done = kit.call(&bob, counter, "increment").args(&1u64).send()?;
    assert_eq!(done.expect_revert::<Error>(), Error::Overflow);
    assert_eq!(kit.view(counter, "get").get::<u64>()?, u64::MAX);
    Ok(())
}

#[test]
fn it_is_small_and_cheap() -> Result<()> {
    let code = contract!("../contracts/examples/counter")?;
    assert!(code.len() < 8 << 10, "{} bytes", code.len());
    let kit = Kit::new()?;
    let counter = deployed(&kit, 0)?;
    let increment = kit.call(&kit.account("bob"), counter, "increment");
    let _ = increment
        .args(&1u64)
        .send()?
        .expect_ok()
        .fuel_at_most(330_000);
    Ok(())
}
