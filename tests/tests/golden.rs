//! What this version of the protocol makes of a fixed history, to the bit: the same on every machine, in both modes, today and
//! after every change that is not meant to be a new version of the protocol.

use anyhow::Result;
use slackline_executor::{Action, Mode, Outcome};
use slackline_tests::{TestChain, address, key};

/// Written by hand, so that no compiler changes its bytes.
const COUNTER: &str = r#"(module
  (import "slackline_v1" "storage_get" (func $get (param i32 i32 i32 i32) (result i64)))
  (import "slackline_v1" "storage_set" (func $set (param i32 i32 i32 i32)))
  (import "slackline_v1" "storage_delete" (func $delete (param i32 i32)))
  (import "slackline_v1" "input_len" (func $input_len (result i32)))
  (import "slackline_v1" "input_read" (func $input_read (param i32)))
  (import "slackline_v1" "return_data" (func $return (param i32 i32)))
  (import "slackline_v1" "caller" (func $caller (param i32)))
  (import "slackline_v1" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "slackline_v1" "revert" (func $revert (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "count")
  (data (i32.const 16) "no input")
  (func (export "add") (local $n i64)
    (if (i32.ne (call $input_len) (i32.const 8)) (then (call $revert (i32.const 16) (i32.const 8))))
    (call $input_read (i32.const 64))
    (drop (call $get (i32.const 0) (i32.const 5) (i32.const 72) (i32.const 8)))
    (i64.store (i32.const 72) (i64.add (i64.load (i32.const 72)) (i64.load (i32.const 64))))
    (call $set (i32.const 0) (i32.const 5) (i32.const 72) (i32.const 8))
    (call $caller (i32.const 80))
    (call $emit (i32.const 0) (i32.const 0) (i32.const 72) (i32.const 40))
    (local.set $n (i64.load (i32.const 64)))
    (loop $l
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.gt_s (local.get $n) (i64.const 0))))
    (call $return (i32.const 72) (i32.const 8)))
  (func (export "reset") (call $delete (i32.const 0) (i32.const 5)))
  (func (export "stuck") (call $set (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 8)) (loop $l (br $l)))
  (func (export "wild") (call $emit (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 2)))
)"#;

fn history(mode: Mode) -> Result<(String, Vec<u64>)> {
    let chain = TestChain::new(mode)?;
    let (alice, bob) = (key(1), key(2));
    let mut fuel = Vec::new();
    let mut run = |key, action, limit| -> Result<Outcome> {
        let receipt = chain.run(key, action, limit)?;
        fuel.push(receipt.fuel_used);
        Ok(receipt.outcome)
    };
    run(
        &alice,
        Action::Transfer {
            to: address(&bob),
            amount: 12_345,
        },
        1_000_000,
    )?;
    let contract = slackline_executor::Address::of_contract(&address(&alice), 1);
    run(
        &alice,
        Action::Deploy {
            code: wat::parse_str(COUNTER)?,
            input: Vec::new(),
            value: 0,
        },
        5_000_000,
    )?;
    let call = |method: &str, input: &[u8]| Action::Call {
        contract,
        method: method.to_owned(),
        input: input.to_vec(),
        value: 0,
    };
    for n in [1u64, 5, 100_000] {
        run(&bob, call("add", &n.to_le_bytes()), 2_000_000)?;
    }
    run(&bob, call("add", &[]), 2_000_000)?;
    run(&bob, call("stuck", &[]), 2_000_000)?;
    run(&bob, call("wild", &[]), 2_000_000)?;
    run(&bob, call("reset", &[]), 2_000_000)?;
    let last = run(&alice, call("add", &7u64.to_le_bytes()), 2_000_000)?;
    assert_eq!(
        last,
        Outcome::Success {
            data: 7u64.to_le_bytes().to_vec()
        }
    );
    Ok((chain.chain.head().hash().to_string(), fuel))
}

#[test]
fn history_is_as_it_was() -> Result<()> {
    for mode in [Mode::Exact, Mode::Slacked] {
        let (head, fuel) = history(mode)?;
        assert_eq!(fuel, FUEL, "{mode}");
        assert_eq!(head, HEAD, "{mode}");
    }
    Ok(())
}

const FUEL: [u64; 10] = [
    202_010, 918_880, 327_081, 327_153, 1_127_113, 302_338, 2_000_000, 2_000_000, 317_495, 327_129,
];
const HEAD: &str = "611082f9eb44619fbefd401cad55330ccdcc8834680f95d111fd3cd358279a84";
