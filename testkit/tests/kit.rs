//! The testkit itself, with a contract that does one thing of each kind.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use slackline_testkit::{
    AbortReason, Address, BALANCE, Config, Done, Error, Kit, Mode, Result, Value, build,
    fuel_at_most, json, unmetered,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const CONTRACT: &str = r#"(module
    (import "slackline_v1" "input_len" (func $input_len (result i32)))
    (import "slackline_v1" "input_read" (func $input_read (param i32)))
    (import "slackline_v1" "return_data" (func $return_data (param i32 i32)))
    (import "slackline_v1" "revert" (func $revert (param i32 i32)))
    (import "slackline_v1" "block_time" (func $block_time (result i64)))
    (import "slackline_v1" "block_height" (func $block_height (result i64)))
    (import "slackline_v1" "emit" (func $emit (param i32 i32 i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "no\01\02")
    (func (export "echo")
        (call $input_read (i32.const 64))
        (call $return_data (i32.const 64) (call $input_len)))
    (func (export "time")
        (i64.store (i32.const 64) (call $block_time))
        (i64.store (i32.const 72) (call $block_height))
        (call $return_data (i32.const 64) (i32.const 16)))
    (func (export "tell") (call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2)))
    (func (export "say") (call $revert (i32.const 0) (i32.const 2)))
    (func (export "fail") (call $revert (i32.const 2) (i32.const 1)))
    (func (export "spin") (loop (br 0)))
    (func (export "trap") unreachable))"#;

fn deployed(kit: &Kit) -> Result<Address> {
    let code = wat::parse_str(CONTRACT).unwrap();
    let alice = kit.account("alice");
    kit.deploy(&alice, &code).send()?.contract()
}

/// What a panic says.
fn said<T>(body: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(_) => panic!("it did not panic"),
        Err(panic) => *panic.downcast::<String>().unwrap(),
    }
}

#[test]
fn results_are_what_they_are() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let contract = deployed(&kit)?;
    let call = |method| kit.call(&alice, contract, method);

    let done = call("echo").args(&(&bob, 5u8)).send()?.expect_ok();
    assert_eq!(done.returned::<(Address, u8)>()?, (bob.address(), 5));
    let error = done.returned::<u8>().unwrap_err().to_string();
    assert!(error.ends_with("05, which is no u8"), "{error}");
    assert_eq!(call("say").send()?.expect_revert_text(), "no");
    assert_eq!(call("fail").send()?.expect_revert::<u8>(), 1);
    assert_eq!(call("fail").send()?.revert_json(), Some(json!("0x01")));
    let done = call("spin").fuel(10_000_000).send()?;
    assert_eq!(
        (done.expect_abort(), done.fuel()),
        (AbortReason::OutOfFuel, 10_000_000)
    );
    assert!(matches!(
        call("trap").send()?.expect_abort(),
        AbortReason::Trap(_)
    ));
    let events = call("tell").send()?.expect_ok().events_json();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].contract, events[0].name.as_str()),
        (contract, "")
    );
    assert_eq!(events[0].fields, json!({"topics": [], "data": "6e6f"}));
    assert_eq!(kit.view(contract, "echo").args(&7u64).get::<u64>()?, 7);
    let done = kit.view(contract, "spin").fuel(1_000_000).send()?;
    assert_eq!(done.expect_abort(), AbortReason::OutOfFuel);
    Ok(())
}

#[test]
fn assertions_say_what_has_happened_instead() -> Result<()> {
    let kit = Kit::new()?;
    let contract = deployed(&kit)?;
    let call = |method| {
        let call = kit.call(&kit.account("alice"), contract, method);
        call.fuel(1_000_000).send().unwrap()
    };
    type Case = (&'static str, &'static str, fn(Done<'_>));
    let short: [Case; 7] = [
        ("say", "reverted: no; ", |done| drop(done.expect_ok())),
        ("fail", "reverted: 0x01; ", |done| drop(done.expect_ok())),
        ("spin", "was aborted: out of fuel; 1000000 fuel", |done| {
            drop(done.expect_ok());
        }),
        (
            "tell",
            "expected a revert with a u8, but `tell` of ",
            |done| {
                done.expect_revert::<u8>();
            },
        ),
        (
            "fail",
            "expected a revert with text, but `fail` of ",
            |done| {
                done.expect_revert_text();
            },
        ),
        ("say", "expected an abort, but `say` of ", |done| {
            done.expect_abort();
        }),
        (
            "spin",
            "expected at most 7 fuel, which is 999993 less than it took",
            |done| {
                drop(done.fuel_at_most(7));
            },
        ),
    ];
    for (method, expected, assertion) in short {
        let message = said(|| assertion(call(method)));
        assert!(message.contains(expected), "{method}: {message}");
    }
    Ok(())
}

#[unmetered]
fn set_up() -> Result<(Kit, Address)> {
    let kit = Kit::new()?;
    let contract = deployed(&kit)?;
    Ok((kit, contract))
}

/// Uses all of its limit, a million.
fn spun(kit: &Kit, contract: Address) -> Result<u64> {
    let spin = kit.call(&kit.account("alice"), contract, "spin");
    Ok(spin.fuel(1_000_000).send()?.fuel())
}

#[test]
#[fuel_at_most(3_000_000)]
fn attributes_bound_what_functions_use() -> Result<()> {
    #[fuel_at_most(999_999)]
    fn too_much(kit: &Kit, contract: Address) -> Result<u64> {
        spun(kit, contract)
    }
    #[fuel_at_most(0)]
    fn unmetered_within() -> Result<(Kit, Address)> {
        set_up()
    }
    let (kit, contract) = unmetered_within()?;
    assert_eq!(spun(&kit, contract)?, 1_000_000);
    let message = said(|| too_much(&kit, contract));
    assert_eq!(
        message,
        "expected at most 999999 fuel in `too_much`, which is 1 less than it took: 1000000"
    );
    // It is silent when something else has gone wrong.
    let message = said(|| -> () {
        let _bound = slackline_testkit::section::at_most("here", 5);
        set_up()
            .and_then(|(kit, contract)| spun(&kit, contract))
            .unwrap();
        panic!("after this: {message}");
    });
    assert!(message.starts_with("after this: "), "{message}");
    Ok(())
}

#[test]
fn time_passes_when_it_is_told_to() -> Result<()> {
    let kit = Kit::new()?;
    let contract = deployed(&kit)?;
    let seen = || kit.view(contract, "time").get::<(u64, u64)>();
    let (time, height) = (kit.time_ms(), kit.height());
    assert_eq!((seen()?, height), ((time, height), 1));
    kit.advance_blocks(3)?;
    assert_eq!(seen()?, (time, height + 3));
    kit.advance_time(Duration::from_secs(60))?;
    assert_eq!(seen()?, (time + 60_000, height + 4));
    let done = kit.call(&kit.account("bob"), contract, "time").send()?;
    assert_eq!(done.returned::<(u64, u64)>()?, (time + 60_000, height + 5));
    Ok(())
}

#[test]
fn blocks_have_several_transactions_and_fees_are_paid() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob, zoe) = (kit.account("alice"), kit.account("bob"), kit.account("zoe"));
    let done = kit.block([
        kit.transfer(&alice, &zoe, 5),
        kit.transfer(&bob, &zoe, 6).price(2).tip(1),
        kit.transfer(&alice, &zoe, 7),
    ])?;
    assert_eq!((kit.height(), kit.balance(&zoe)?), (1, 18));
    let fuel: Vec<_> = done.iter().map(|done| u128::from(done.fuel())).collect();
    assert_eq!(kit.balance(&alice)?, BALANCE - 12 - fuel[0] - fuel[2]);
    assert_eq!(kit.balance(&bob)?, BALANCE - 6 - 2 * fuel[1]);
    Ok(())
}

#[test]
fn what_a_node_refuses_is_an_error() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, zoe) = (kit.account("alice"), kit.account("zoe"));
    let contract = deployed(&kit)?;
    let height = kit.height();
    let refused: [(Result<Done<'_>>, &str); 8] = [
        (
            kit.transfer(&zoe, &alice, 1).send(),
            "the transfer was refused: the sender has 0",
        ),
        (kit.call(&alice, contract, "nope").send(), "`nope` of"),
        (
            kit.call(&alice, &zoe, "echo").send(),
            "there is no contract at",
        ),
        (kit.view(contract, "nope").send(), "has no method \"nope\""),
        (
            kit.deploy(&alice, b"no").send(),
            "the deployment was refused: the code",
        ),
        (kit.call(&alice, contract, "echo").fuel(1).send(), "too low"),
        (
            kit.call(&alice, contract, "echo").json(json!([])).send(),
            "JSON cannot be used",
        ),
        (
            kit.deploy(&alice, b"no").json(Value::Null).send(),
            "not a wasm module",
        ),
    ];
    for (result, expected) in refused {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let both = [kit.transfer(&alice, &zoe, 1), kit.call(&alice, &zoe, "x")];
    assert!(matches!(kit.block(both), Err(Error::Refused { .. })));
    assert_eq!((kit.height(), kit.balance(&zoe)?), (height, 0));
    assert!(matches!(build("/nonexistent"), Err(Error::Build(_))));
    Ok(())
}

#[test]
fn both_ways_of_metering_take_the_same_fuel() -> Result<()> {
    let fuel = |mode| {
        let accounts = vec![("alice".to_owned(), 1 << 60)];
        let kit = Kit::with(Config {
            mode,
            accounts,
            ..Config::default()
        })?;
        let contract = deployed(&kit)?;
        let call = kit.call(&kit.account("alice"), contract, "echo");
        Ok(call.args(&1u8).send()?.expect_ok().fuel())
    };
    let slacked: Result<u64> = fuel(Mode::Slacked);
    assert_eq!(slacked?, fuel(Mode::Exact)?);
    Ok(())
}
