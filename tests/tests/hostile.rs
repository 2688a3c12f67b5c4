//! Contracts that mean harm: each is refused for what is wrong with it, or ends as it must, in every mode, and the chain goes on.

use anyhow::{Context, Result, ensure};
use slackline_executor::{AbortReason, Action, AdmitError, Mode, Outcome, Pending, host};
use slackline_sandbox::HostFunction;
use slackline_sandbox::hostile::{Cause, Expected, Kind, METHOD, corpus};
use slackline_tests::{TestChain, key};
use std::fmt::Write;

/// Enough to deploy the largest code there is.
const DEPLOY_FUEL: u64 = 2_000_000_000;

#[test]
fn hostile_modules_come_to_what_they_must() -> Result<()> {
    for mode in [Mode::Exact, Mode::Slacked] {
        let chain = TestChain::new(mode)?;
        let alice = key(1);
        for case in corpus() {
            let name = &case.name;
            let deploy = Action::Deploy {
                code: case.wasm.clone(),
                input: Vec::new(),
                value: 0,
            };
            let signed = chain.sign(&alice, deploy, DEPLOY_FUEL)?;
            let admitted = chain.chain.admit(&signed, Pending::default());
            if let Expected::Refused(kind) = &case.expected {
                match admitted {
                    Err(AdmitError::InvalidCode(error)) => {
                        assert_eq!(Kind::of(&error), *kind, "{name}: {error}");
                    }
                    // What is over the limit of a transaction does not get that far.
                    Err(AdmitError::TooLarge { .. }) => {}
                    other => anyhow::bail!("{name}: {other:?}"),
                }
                continue;
            }
            admitted.with_context(|| format!("{name} is not admitted"))?;
            let produced = chain.chain.produce_block(vec![signed], 0)?;
            let receipt = &produced.receipts[0];
            let contract = receipt
                .contract
                .with_context(|| format!("{name} is not deployed: {:?}", receipt.outcome))?;
            let receipt = chain.call(&alice, contract, METHOD, &(), 2_000_000_000)?;
            let fits = match (&case.expected, &receipt.outcome) {
                (Expected::Success, Outcome::Success { .. }) => true,
                // Each page is charged for before the host says no.
                (Expected::Success, Outcome::Abort(AbortReason::OutOfFuel)) => {
                    name.contains("4 billion pages")
                }
                (Expected::Abort(cause), Outcome::Abort(reason)) => match cause {
                    Cause::Fuel => *reason == AbortReason::OutOfFuel,
                    Cause::Stack => *reason == AbortReason::StackExhausted,
                    Cause::Trap => matches!(reason, AbortReason::Trap(_)),
                },
                _ => false,
            };
            ensure!(
                fits,
                "{mode}: {name}: {:?}, expected {:?}",
                receipt.outcome,
                case.expected
            );
        }
        // It works as before.
        let contract = chain.deploy(&alice, wat::parse_str(CALM)?, &())?;
        let receipt = chain.call(&alice, contract, "calm", &(), 1_000_000)?;
        ensure!(receipt.outcome.is_success());
    }
    Ok(())
}

const CALM: &str = r#"(module (memory (export "memory") 1) (func (export "calm")))"#;

/// A module that calls one host function with these arguments.
fn calling(function: &HostFunction, arguments: &[i64]) -> Result<Vec<u8>> {
    let mut text = String::from(r#"(module (import "slackline_v1" ""#);
    write!(text, "{}\" (func $f (param", function.name)?;
    for ty in function.params {
        write!(text, " {ty}")?;
    }
    text.push_str(") (result");
    for ty in function.results {
        write!(text, " {ty}")?;
    }
    text.push_str(r#"))) (memory (export "memory") 1) (func (export "run") "#);
    for (ty, value) in function.params.iter().zip(arguments) {
        write!(text, "({ty}.const {value}) ")?;
    }
    text.push_str("call $f ");
    for _ in function.results {
        text.push_str("drop ");
    }
    text.push_str("))");
    Ok(wat::parse_str(text)?)
}

/// Every host function with every kind of pointer and length in every place: never a fault of the machine, never a panic, the same
/// in both modes.
#[test]
fn bad_arguments_of_host_functions_are_the_contracts_fault() -> Result<()> {
    // Nothing, something, the last bytes of memory, the first beyond, far beyond, the last there can be.
    const VALUES: [i64; 6] = [0, 40, 0xffff, 0x10000, 0x7fff_ffff, 0xffff_ffff];
    let stages = [TestChain::new(Mode::Exact)?, TestChain::new(Mode::Slacked)?];
    let alice = key(1);
    let (mut successes, mut aborts) = (0, 0);
    for function in host::FUNCTIONS {
        let places = function.params.len();
        let mut cases: Vec<Vec<i64>> = VALUES.iter().map(|&value| vec![value; places]).collect();
        for place in 0..places {
            for value in VALUES {
                let mut arguments = vec![64; places];
                arguments[place] = value;
                cases.push(arguments);
            }
        }
        cases.sort_unstable();
        cases.dedup();
        for arguments in cases {
            let wasm = calling(function, &arguments)?;
            let mut first = None;
            for stage in &stages {
                let contract = stage.deploy(&alice, wasm.clone(), &())?;
                let receipt = stage.call(&alice, contract, "run", &(), 3_000_000)?;
                match &receipt.outcome {
                    Outcome::Success { .. } | Outcome::Revert { .. } => successes += 1,
                    Outcome::Abort(AbortReason::HostInterface(why)) => {
                        ensure!(
                            why.starts_with(function.name) || why.contains("static call"),
                            "{}{arguments:?}: {why}",
                            function.name
                        );
                        aborts += 1;
                    }
                    Outcome::Abort(AbortReason::OutOfFuel) => aborts += 1,
                    other => anyhow::bail!("{}{arguments:?}: {other:?}", function.name),
                }
                match &first {
                    None => first = Some(receipt),
                    Some(first) => assert_eq!(*first, receipt),
                }
            }
        }
    }
    // Both happen, often.
    ensure!(successes > 100 && aborts > 200, "{successes} {aborts}");
    Ok(())
}

/// What can be had only so many times, or costs so much that fuel ends it.
#[test]
fn floods_end() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let alice = key(1);
    let flood = |import: &str, body: &str| -> Result<Vec<u8>> {
        Ok(wat::parse_str(format!(
            r#"(module {import} (memory (export "memory") 1)
                 (func (export "run") (local $i i32) (loop $l
                   (i32.store (i32.const 0) (local.get $i))
                   {body}
                   (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $l))))"#
        ))?)
    };
    for (import, body, expected) in [
        (
            r#"(import "slackline_v1" "emit" (func $f (param i32 i32 i32 i32)))"#,
            "(call $f (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 4))",
            "emit: more than 256 events",
        ),
        (
            r#"(import "slackline_v1" "storage_set" (func $f (param i32 i32 i32 i32)))"#,
            "(call $f (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1000))",
            "out of fuel",
        ),
        (
            r#"(import "slackline_v1" "storage_next" (func $f (param i32 i32 i32 i32 i32 i32 i32) (result i64)))"#,
            "(drop (call $f (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 64) (i32.const 64)))",
            "out of fuel",
        ),
        (
            r#"(import "slackline_v1" "sha256" (func $f (param i32 i32 i32)))"#,
            "(call $f (i32.const 0) (i32.const 65536) (i32.const 0))",
            "out of fuel",
        ),
        (
            r#"(import "slackline_v1" "return_data" (func $f (param i32 i32)))"#,
            "(call $f (i32.const 0) (i32.const 65536))",
            "out of fuel",
        ),
    ] {
        let contract = chain.deploy(&alice, flood(import, body)?, &())?;
        let receipt = chain.call(&alice, contract, "run", &(), 100_000_000)?;
        let Outcome::Abort(reason) = &receipt.outcome else {
            anyhow::bail!("{import}: {:?}", receipt.outcome);
        };
        ensure!(reason.to_string().contains(expected), "{import}: {reason}");
        assert_eq!(receipt.fuel_used, 100_000_000);
        assert_eq!(chain.chain.account(&contract)?.storage_bytes, 0);
    }
    Ok(())
}
