//! Host functions of the executor, called by a contract on a chain in a temporary directory.

use crate::Row;
use anyhow::{Context, Result, ensure};
use slackline_executor::{Action, Mode, Outcome, ViewCall};
use slackline_tests::{PLENTY, TestChain, address, key};
use std::time::Instant;

/// Calls `call` `n` times with length `len`; both are in the input. At 0xf0000 are the address of [`NO_OP`] and the name of its method,
/// from 0xf0100 a key and its signature of 4 zeros, from 0xf0200 a hash and its signature.
fn contract(call: &str) -> String {
    let escaped =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:02x}")).collect() };
    let no_op = escaped(&no_op().0);
    let signer = key(1);
    let ed25519 = escaped(
        &[
            &signer.verifying_key().to_bytes()[..],
            &ed25519_dalek::Signer::sign(&signer, &[0; 4]).to_bytes(),
        ]
        .concat(),
    );
    let secp256k1 = SECP256K1;
    format!(
        r#"(module
  (import "slackline_v1" "storage_get" (func $get (param i32 i32 i32 i32) (result i64)))
  (import "slackline_v1" "storage_set" (func $set (param i32 i32 i32 i32)))
  (import "slackline_v1" "storage_delete" (func $delete (param i32 i32)))
  (import "slackline_v1" "input_len" (func $input_len (result i32)))
  (import "slackline_v1" "input_read" (func $input_read (param i32)))
  (import "slackline_v1" "return_data" (func $return (param i32 i32)))
  (import "slackline_v1" "caller" (func $caller (param i32)))
  (import "slackline_v1" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "slackline_v1" "storage_has" (func $has (param i32 i32) (result i32)))
  (import "slackline_v1" "storage_next" (func $next (param i32 i32 i32 i32 i32 i32 i32) (result i64)))
  (import "slackline_v1" "balance" (func $balance (param i32 i32)))
  (import "slackline_v1" "code_hash" (func $code_hash (param i32 i32) (result i32)))
  (import "slackline_v1" "transfer" (func $transfer (param i32 i32) (result i32)))
  (import "slackline_v1" "sha256" (func $sha256 (param i32 i32 i32)))
  (import "slackline_v1" "keccak256" (func $keccak256 (param i32 i32 i32)))
  (import "slackline_v1" "blake3" (func $blake3 (param i32 i32 i32)))
  (import "slackline_v1" "ed25519_verify" (func $ed25519_verify (param i32 i32 i32 i32) (result i32)))
  (import "slackline_v1" "secp256k1_recover" (func $secp256k1_recover (param i32 i32 i32 i32) (result i32)))
  (import "slackline_v1" "call" (func $call (param i32 i32 i32 i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 16)
  (data (i32.const 0xf0000) "{no_op}")
  (data (i32.const 0xf0040) "nothing")
  (data (i32.const 0xf0100) "{ed25519}")
  (data (i32.const 0xf0200) "{secp256k1}")
  (func (export "init") (local $i i32)
    loop $l
      i32.const 0 local.get $i i32.store
      i32.const 0 i32.const 4 i32.const 4096 i32.const 16 call $set
      local.get $i i32.const 1 i32.add local.tee $i i32.const 256 i32.lt_u br_if $l
    end
    i32.const 0 i32.const 0x10000 i32.store
    i32.const 0 i32.const 4 i32.const 4096 i32.const 0x8000 call $set)
  (func (export "run") (local $n i32) (local $len i32) (local $i i32)
    i32.const 16 call $input_read
    i32.const 16 i32.load local.set $n
    i32.const 20 i32.load local.set $len
    block $done
      loop $l
        local.get $i local.get $n i32.ge_u br_if $done
        i32.const 0 local.get $i i32.const 255 i32.and i32.store
        {call}
        local.get $i i32.const 1 i32.add local.set $i
        br $l
      end
    end))"#
    )
}

/// What is called to measure calls. The first contract that [`Bench`] deploys.
const NO_OP: &str = r#"(module (memory (export "memory") 1) (func (export "nothing")))"#;

fn no_op() -> slackline_executor::Address {
    slackline_executor::Address::of_contract(&address(&key(1)), 0)
}

/// Hash and signature (r, s) of the recovery example of the Ethereum yellow paper's tests (`CallEcrecover`), recovery id 1.
const SECP256K1: &str = "\\18\\c5\\47\\e4\\f7\\b0\\f3\\25\\ad\\1e\\56\\f5\\7e\\26\\c7\\45\\b0\\9a\\3e\\50\\3d\\86\\e0\\0e\\52\\55\\ff\\7f\\71\\5d\\3d\\1c\\73\\b1\\69\\38\\92\\21\\9d\\73\\6c\\ab\\a5\\5b\\db\\67\\21\\6e\\48\\55\\57\\ea\\6b\\6a\\f7\\5f\\37\\09\\6c\\9a\\a6\\a5\\a7\\5f\\ee\\b9\\40\\b1\\d0\\3b\\21\\e3\\6b\\0e\\47\\e7\\97\\69\\f0\\95\\fe\\2a\\b8\\55\\bd\\91\\e3\\a3\\87\\56\\b7\\d7\\5a\\9c\\45\\49";

struct Function {
    name: &'static str,
    call: &'static str,
    /// Whether it works in a view call.
    view: bool,
    /// Calls at most in an execution.
    calls: i32,
    /// A longer length, if it matters; the shorter is 4.
    long: i32,
}

const FUNCTIONS: &[Function] = &[
    Function {
        name: "input_len",
        call: "call $input_len drop",
        view: true,
        calls: 4096,
        long: 0,
    },
    Function {
        name: "caller",
        call: "i32.const 4096 call $caller",
        view: true,
        calls: 4096,
        long: 0,
    },
    Function {
        name: "input_read",
        call: "i32.const 0x10000 call $input_read",
        view: true,
        calls: 1024,
        long: 0x8000,
    },
    Function {
        name: "return_data",
        call: "i32.const 4096 local.get $len call $return",
        view: true,
        calls: 1024,
        long: 0x8000,
    },
    Function {
        name: "storage_get, there",
        call: "i32.const 0 i32.const 4 i32.const 4096 local.get $len call $get drop",
        view: true,
        calls: 256,
        long: 0,
    },
    Function {
        name: "storage_get, absent",
        call: "i32.const 0 i32.const 8 i32.const 4096 local.get $len call $get drop",
        view: true,
        calls: 256,
        long: 0,
    },
    Function {
        name: "storage_get, 32 KiB",
        call: "i32.const 0 i32.const 0x10000 i32.store i32.const 0 i32.const 4 i32.const 0x10000 i32.const 0x8000 call $get drop",
        view: true,
        calls: 64,
        long: 0,
    },
    Function {
        name: "storage_set",
        call: "i32.const 0 i32.const 4 i32.const 4096 local.get $len call $set",
        view: false,
        calls: 256,
        long: 0x2000,
    },
    Function {
        name: "storage_delete",
        call: "i32.const 0 i32.const 4 call $delete",
        view: false,
        calls: 256,
        long: 0,
    },
    Function {
        name: "emit",
        call: "i32.const 0 i32.const 0 i32.const 4096 local.get $len call $emit",
        view: false,
        calls: 256,
        long: 0x2000,
    },
    Function {
        name: "storage_has",
        call: "i32.const 0 i32.const 4 call $has drop",
        view: true,
        calls: 256,
        long: 0,
    },
    Function {
        name: "storage_next",
        call: "i32.const 0 i32.const 0 i32.const 0 i32.const 4 i32.const 0 i32.const 4096 i32.const 64 call $next drop",
        view: true,
        calls: 256,
        long: 0,
    },
    Function {
        name: "balance",
        call: "i32.const 0xf0000 i32.const 4096 call $balance",
        view: true,
        calls: 1024,
        long: 0,
    },
    Function {
        name: "code_hash",
        call: "i32.const 0xf0000 i32.const 4096 call $code_hash drop",
        view: true,
        calls: 1024,
        long: 0,
    },
    Function {
        name: "transfer",
        call: "i32.const 0xf0000 i32.const 0xf8000 call $transfer drop",
        view: false,
        calls: 1024,
        long: 0,
    },
    Function {
        name: "sha256",
        call: "i32.const 4096 local.get $len i32.const 0 call $sha256",
        view: true,
        calls: 1024,
        long: 0x8000,
    },
    Function {
        name: "keccak256",
        call: "i32.const 4096 local.get $len i32.const 0 call $keccak256",
        view: true,
        calls: 1024,
        long: 0x8000,
    },
    Function {
        name: "blake3",
        call: "i32.const 4096 local.get $len i32.const 0 call $blake3",
        view: true,
        calls: 1024,
        long: 0x8000,
    },
    Function {
        name: "ed25519_verify",
        call: "i32.const 0xf0100 i32.const 0xf0120 i32.const 0xf8000 i32.const 4 call $ed25519_verify (if (result i32) (then i32.const 0) (else unreachable)) drop",
        view: true,
        calls: 64,
        long: 0,
    },
    Function {
        name: "secp256k1_recover",
        call: "i32.const 0xf0200 i32.const 0xf0220 i32.const 1 i32.const 4096 call $secp256k1_recover (if (result i32) (then i32.const 0) (else unreachable)) drop",
        view: true,
        calls: 64,
        long: 0,
    },
    Function {
        name: "call",
        call: "i32.const 0xf0000 i32.const 0xf0040 i32.const 7 i32.const 0 i32.const 0 i32.const 0xf8000 i64.const 1000 i32.const 0 call $call (if (then unreachable))",
        view: true,
        calls: 256,
        long: 0,
    },
];

/// A row for each call of each function, and for each byte where that matters: what more of them take, from the view or the block
/// as a whole, the database's commit included.
pub(crate) fn rows(rounds: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for function in FUNCTIONS.iter().filter(|function| wanted(function.name)) {
        let bench = Bench::new(function)?;
        let none = bench.measure(0, 4, rounds)?;
        let short = bench.measure(function.calls, 4, rounds)?;
        let calls = f64::from(function.calls);
        let per_call = |(ns, fuel): (f64, f64)| ((ns - none.0) / calls, (fuel - none.1) / calls);
        let (ns, fuel) = per_call(short);
        let row = |name: String, ns: f64, fuel: f64| Row {
            class: "host".to_owned(),
            name,
            fuel,
            dependent_ns: ns,
            independent_ns: None,
            ns_per_fuel: ns / fuel,
            over_median: 0.0,
            excuse: None,
        };
        rows.push(row(function.name.to_owned(), ns, fuel));
        if function.long > 0 {
            // The input itself takes time and fuel too.
            let none = bench.measure(0, function.long, rounds)?;
            let long = bench.measure(function.calls / 8, function.long, rounds)?;
            let calls = f64::from(function.calls / 8);
            let bytes = f64::from(function.long);
            let (long_ns, long_fuel) = ((long.0 - none.0) / calls, (long.1 - none.1) / calls);
            rows.push(row(
                format!("{}, each byte", function.name),
                (long_ns - ns) / bytes,
                (long_fuel - fuel) / bytes,
            ));
        }
    }
    rows.extend(transactions(rounds, &wanted)?);
    Ok(rows)
}

struct Bench {
    chain: TestChain,
    contract: slackline_executor::Address,
    view: bool,
}

impl Bench {
    fn new(function: &Function) -> Result<Bench> {
        let chain = TestChain::new(Mode::Slacked)?;
        let called = chain.deploy(&key(1), wat::parse_str(NO_OP)?, &())?;
        ensure!(called == no_op());
        let contract = chain.deploy(&key(1), wat::parse_str(contract(function.call))?, &())?;
        Ok(Bench {
            chain,
            contract,
            view: function.view,
        })
    }

    /// Time in nanoseconds and fuel of an execution.
    fn measure(&self, calls: i32, length: i32, rounds: usize) -> Result<(f64, f64)> {
        let mut input = [calls.to_le_bytes(), length.to_le_bytes()].concat();
        input.resize(length.max(8) as usize, 0);
        let (mut least, mut used) = (f64::INFINITY, 0);
        for _ in 0..rounds {
            let (ns, fuel, outcome) = if self.view {
                let call = ViewCall {
                    contract: self.contract,
                    caller: address(&key(2)),
                    method: "run".to_owned(),
                    input: input.clone(),
                    fuel_limit: PLENTY,
                };
                let start = Instant::now();
                let result = self.chain.chain.view(&call)?;
                (start.elapsed(), result.fuel_used, result.outcome)
            } else {
                let action = Action::Call {
                    contract: self.contract,
                    method: "run".to_owned(),
                    input: input.clone(),
                    value: 0,
                };
                let signed = self.chain.sign(&key(2), action, PLENTY)?;
                let start = Instant::now();
                let produced = self.chain.chain.produce_block(vec![signed], 0)?;
                let time = start.elapsed();
                let receipt = produced.receipts.into_iter().next().context("dropped")?;
                (time, receipt.fuel_used, receipt.outcome)
            };
            ensure!(matches!(outcome, Outcome::Success { .. }), "{outcome:?}");
            least = least.min(ns.as_nanos() as f64);
            used = fuel;
        }
        Ok((least, used as f64))
    }
}

/// What transactions cost beside their execution.
fn transactions(rounds: usize, wanted: &impl Fn(&str) -> bool) -> Result<Vec<Row>> {
    const MANY: usize = 65;
    let mut rows = Vec::new();
    let chain = TestChain::new(Mode::Slacked)?;
    let transfer = Action::Transfer {
        to: address(&key(2)),
        amount: 1,
    };
    let contract = chain.deploy(&key(1), wat::parse_str(contract(""))?, &())?;
    let call = Action::Call {
        contract,
        method: "run".to_owned(),
        input: vec![0; 8],
        value: 0,
    };
    for (name, action) in [
        ("transaction, transfer", transfer),
        ("transaction, call", call),
    ] {
        if !wanted(name) {
            continue;
        }
        let block = |count: usize| -> Result<(f64, f64)> {
            let (mut least, mut used) = (f64::INFINITY, 0);
            for _ in 0..rounds {
                let first = chain.chain.account(&address(&key(3)))?.nonce;
                let signed: Vec<_> = (first..)
                    .take(count)
                    .map(|nonce| {
                        slackline_tests::transaction(&key(3), nonce, action.clone(), 1_000_000)
                    })
                    .collect();
                let start = Instant::now();
                for transaction in &signed {
                    ensure!(transaction.signature_is_valid());
                }
                let produced = chain.chain.produce_block(signed, 0)?;
                least = least.min(start.elapsed().as_nanos() as f64);
                ensure!(produced.dropped.is_empty(), "{:?}", produced.dropped);
                used = produced
                    .receipts
                    .iter()
                    .map(|receipt| receipt.fuel_used)
                    .sum();
            }
            Ok((least, used as f64))
        };
        let (one, many) = (block(1)?, block(MANY)?);
        let more = (MANY - 1) as f64;
        let (ns, fuel) = ((many.0 - one.0) / more, (many.1 - one.1) / more);
        rows.push(Row {
            class: "host".to_owned(),
            name: name.to_owned(),
            fuel,
            dependent_ns: ns,
            independent_ns: None,
            ns_per_fuel: ns / fuel,
            over_median: 0.0,
            excuse: None,
        });
    }
    Ok(rows)
}
