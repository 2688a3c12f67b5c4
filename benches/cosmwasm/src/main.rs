//! What benches/src/bin/call.rs measures of Slackline, measured of CosmWasm's virtual machine: a call that does nothing, and
//! a token transfer.
//!
//! ```text
//!   no-op call        get_instance, call_execute_raw, recycle     each one timed: median, 99th percentile
//!   token transfer    the same; state in a BTreeMap               transfers per second on one core
//!
//!   pinned            an instance for each call, of a module pinned in memory: what a chain does
//!   kept              one instance for all calls, which no chain can do: a bound
//! ```
//!
//! Wherever there is a choice it is for CosmWasm: the environment and the sender are serialised beforehand, no JSON is
//! parsed on either side, the contracts (`contracts/*.wat`) are the shortest that do the work and emit no event, and
//! nothing keeps the changes of a failing call from the state, as the node around the virtual machine has to.
//!
//! One thread. The modes take turns.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cosmwasm_std::{Checksum, ContractResult, Empty, Response};
use cosmwasm_vm::testing::{MockApi, MockQuerier, MockStorage, mock_backend, mock_env, mock_info};
use cosmwasm_vm::{
    Backend, Cache, CacheOptions, Instance, InstanceOptions, Size, Storage, call_execute_raw,
    call_instantiate_raw, from_slice, to_vec,
};
use serde::Serialize;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;
use tempfile::TempDir;

#[derive(Parser)]
struct Args {
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// No-op calls in a round.
    #[arg(long, default_value_t = 2_000)]
    calls: usize,
    /// Token transfers in a round.
    #[arg(long, default_value_t = 2_000)]
    transfers: usize,
    /// Also write the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Figures {
    mode: String,
    no_op_us_p50: f64,
    no_op_us_p99: f64,
    transfer_us: f64,
    transfers_per_second: f64,
}

const NO_OP: &str = include_str!("../contracts/no_op.wat");
const TOKEN: &str = include_str!("../contracts/token.wat");

/// Addresses are keys of 32 bytes. The contract takes the sender's from the JSON as it is.
const ALICE: &str = "alice234567890123456789012345678";
const BOB: [u8; 32] = *b"bob45678901234567890123456789012";
const SUPPLY: u128 = 1 << 100;

/// More than all calls of a kept instance burn.
const GAS_LIMIT: u64 = 1 << 60;
/// What wasmd gives an instance.
const MEMORY_LIMIT: Size = Size::mebi(32);

type Vm = Cache<MockApi, MockStorage, MockQuerier>;
type Running = Instance<MockApi, MockStorage, MockQuerier>;
type State = Backend<MockApi, MockStorage, MockQuerier>;

/// Arguments as the node around the virtual machine hands them over.
struct Arguments {
    env: Vec<u8>,
    alice: Vec<u8>,
}

impl Arguments {
    fn new() -> Result<Arguments> {
        Ok(Arguments {
            env: to_vec(&mock_env())?,
            alice: to_vec(&mock_info(ALICE, &[]))?,
        })
    }

    fn execute(&self, instance: &mut Running, message: &[u8]) -> Result<Vec<u8>> {
        Ok(call_execute_raw(instance, &self.env, &self.alice, message)?)
    }
}

/// How a call gets its instance.
trait Mode {
    const NAME: &str;

    fn new(vm: &Vm, contract: &Checksum, state: State) -> Result<Self>
    where
        Self: Sized;

    /// Alice's call.
    fn call(&mut self, vm: &Vm, arguments: &Arguments, message: &[u8]) -> Result<Vec<u8>>;

    fn balance(&mut self, owner: &[u8; 32]) -> Result<u128>;
}

struct Pinned {
    contract: Checksum,
    /// Outside calls, that is: an instance owns it meanwhile.
    state: Option<State>,
}

impl Mode for Pinned {
    const NAME: &str = "pinned";

    fn new(_vm: &Vm, contract: &Checksum, state: State) -> Result<Pinned> {
        Ok(Pinned {
            contract: *contract,
            state: Some(state),
        })
    }

    fn call(&mut self, vm: &Vm, arguments: &Arguments, message: &[u8]) -> Result<Vec<u8>> {
        let state = self.state.take().context("an earlier call failed")?;
        let mut instance = vm.get_instance(&self.contract, state, options())?;
        let answer = arguments.execute(&mut instance, message)?;
        self.state = instance.recycle();
        Ok(answer)
    }

    fn balance(&mut self, owner: &[u8; 32]) -> Result<u128> {
        let state = self.state.as_ref().context("an earlier call failed")?;
        balance(&state.storage, owner)
    }
}

struct Kept {
    instance: Running,
}

impl Mode for Kept {
    const NAME: &str = "kept";

    fn new(vm: &Vm, contract: &Checksum, state: State) -> Result<Kept> {
        let instance = vm.get_instance(contract, state, options())?;
        Ok(Kept { instance })
    }

    fn call(&mut self, _vm: &Vm, arguments: &Arguments, message: &[u8]) -> Result<Vec<u8>> {
        arguments.execute(&mut self.instance, message)
    }

    fn balance(&mut self, owner: &[u8; 32]) -> Result<u128> {
        self.instance
            .with_storage(|storage| Ok(balance(storage, owner)))?
    }
}

fn options() -> InstanceOptions {
    InstanceOptions {
        gas_limit: GAS_LIMIT,
    }
}

fn balance(storage: &MockStorage, owner: &[u8; 32]) -> Result<u128> {
    let value = storage.get(owner).0?.unwrap_or_else(|| vec![0; 16]);
    let value = value.try_into().ok().context("a balance of 16 bytes")?;
    Ok(u128::from_le_bytes(value))
}

/// The message of a transfer.
fn transfer(to: &[u8; 32], amount: u128) -> Vec<u8> {
    [to.as_slice(), &amount.to_le_bytes()].concat()
}

/// What the chain would read in an answer.
fn decoded(answer: &[u8]) -> Result<ContractResult<Response<Empty>>> {
    Ok(from_slice(answer, 1 << 10)?)
}

/// The contracts under test in one mode, and what was measured.
struct Stage<M> {
    no_op: M,
    token: M,
    /// The answer to a call that succeeds.
    success: Vec<u8>,
    /// Tokens passed on so far.
    passed: u128,
    calls: Vec<f64>,
    per_transfer: Vec<f64>,
}

impl<M: Mode> Stage<M> {
    fn new(vm: &Vm, arguments: &Arguments, no_op: &Checksum, token: &Checksum) -> Result<Stage<M>> {
        let mut deployer = vm.get_instance(token, mock_backend(&[]), options())?;
        let answer = call_instantiate_raw(
            &mut deployer,
            &arguments.env,
            &arguments.alice,
            &SUPPLY.to_le_bytes(),
        )?;
        ensure!(decoded(&answer)?.is_ok(), "instantiate failed");
        let state = deployer.recycle().context("the token's state")?;
        let mut stage = Stage {
            no_op: M::new(vm, no_op, mock_backend(&[]))?,
            token: M::new(vm, token, state)?,
            success: Vec::new(),
            passed: 0,
            calls: Vec::new(),
            per_transfer: Vec::new(),
        };
        stage.check_contracts(vm, arguments)?;
        Ok(stage)
    }

    /// That the token refuses what it has to, and carries and borrows between the halves of a balance.
    fn check_contracts(&mut self, vm: &Vm, arguments: &Arguments) -> Result<()> {
        self.success = self.no_op.call(vm, arguments, &[])?;
        ensure!(decoded(&self.success)? == ContractResult::Ok(Response::default()));
        for (message, refusal) in [
            (transfer(&BOB, SUPPLY + 1), "insufficient balance"),
            (transfer(&BOB, 1)[1..].to_vec(), "malformed input"),
        ] {
            let answer = self.token.call(vm, arguments, &message)?;
            ensure!(decoded(&answer)? == ContractResult::Err(refusal.to_owned()));
            self.check_balances()?;
        }
        for (to, amount) in [
            (ALICE.as_bytes(), 7),
            (&BOB, u128::from(u64::MAX)),
            (&BOB, 1),
            (&BOB, (1 << 64) + 1),
        ] {
            let to = to.try_into()?;
            let answer = self.token.call(vm, arguments, &transfer(to, amount))?;
            ensure!(answer == self.success, "transfer of {amount} failed");
            self.passed += if *to == BOB { amount } else { 0 };
            self.check_balances()?;
        }
        Ok(())
    }

    fn check_balances(&mut self) -> Result<()> {
        let alice = self.token.balance(ALICE.as_bytes().try_into()?)?;
        let bob = self.token.balance(&BOB)?;
        ensure!(
            (alice, bob) == (SUPPLY - self.passed, self.passed),
            "after transfers of {}: {alice}, {bob}",
            self.passed
        );
        Ok(())
    }

    fn round(&mut self, vm: &Vm, arguments: &Arguments, args: &Args) -> Result<()> {
        for _ in 0..args.calls {
            let start = Instant::now();
            let answer = self.no_op.call(vm, arguments, &[])?;
            self.calls.push(start.elapsed().as_nanos() as f64 / 1e3);
            ensure!(answer == self.success);
        }
        let message = transfer(&BOB, 1);
        let start = Instant::now();
        for _ in 0..args.transfers {
            let answer = self.token.call(vm, arguments, &message)?;
            ensure!(answer == self.success);
        }
        let time = start.elapsed().as_nanos() as f64 / 1e3;
        self.per_transfer.push(time / args.transfers as f64);
        self.passed += args.transfers as u128;
        self.check_balances()
    }

    fn forget(&mut self) {
        self.calls.clear();
        self.per_transfer.clear();
    }

    fn figures(mut self) -> Figures {
        let transfer_us = quantile(&mut self.per_transfer, 0.5);
        Figures {
            mode: M::NAME.to_owned(),
            no_op_us_p50: quantile(&mut self.calls, 0.5),
            no_op_us_p99: quantile(&mut self.calls, 0.99),
            transfer_us,
            transfers_per_second: 1e6 / transfer_us,
        }
    }
}

fn quantile(values: &mut [f64], which: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len().saturating_sub(1) as f64 * which) as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dir = TempDir::new()?;
    let cache = CacheOptions::new(dir.path(), HashSet::new(), Size::mebi(100), MEMORY_LIMIT);
    // SAFETY: the directory is new and nobody else's, so that what the cache loads from it is what it has compiled itself.
    let vm: Vm = unsafe { Cache::new(cache)? };
    let deploy = |text: &str| -> Result<Checksum> {
        let contract = vm.store_code(&wat::parse_str(text)?, true, true)?;
        vm.pin(&contract)?;
        Ok(contract)
    };
    let (no_op, token) = (deploy(NO_OP)?, deploy(TOKEN)?);
    let arguments = Arguments::new()?;
    let mut pinned = Stage::<Pinned>::new(&vm, &arguments, &no_op, &token)?;
    let mut kept = Stage::<Kept>::new(&vm, &arguments, &no_op, &token)?;
    for round in 0..=args.rounds {
        if round == 1 {
            // The first round was to warm up.
            pinned.forget();
            kept.forget();
        }
        pinned.round(&vm, &arguments, &args)?;
        kept.round(&vm, &arguments, &args)?;
    }
    let stats = vm.stats();
    ensure!(
        stats.hits_memory_cache == 0 && stats.misses == 0,
        "a module was not pinned: {stats:?}"
    );
    let figures = [pinned.figures(), kept.figures()];
    println!(
        "{:<10} {:>12} {:>12} {:>14} {:>14}",
        "mode", "no-op p50", "no-op p99", "transfer", "transfers/s"
    );
    for row in &figures {
        println!(
            "{:<10} {:>9.2} us {:>9.2} us {:>11.2} us {:>14.0}",
            row.mode, row.no_op_us_p50, row.no_op_us_p99, row.transfer_us, row.transfers_per_second
        );
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&figures)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
