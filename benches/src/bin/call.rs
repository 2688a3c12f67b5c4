//! What calls cost around the contract's own work: a call that does nothing, a token transfer, compiling.
//!
//! ```text
//!   no-op call        Chain::view: snapshot, overlay, instance, call, drop      each one timed: median, 99th percentile
//!   token transfer    Chain::simulate on signed transfers, signatures trusted   transfers per second on one core
//!   compile           check, instrument, compile                                bytes of wasm per second
//! ```
//!
//! All on one thread with an execution's stack, so that none is started meanwhile. The modes take turns.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;
use slackline_executor::{
    Action, Address, Mode, Outcome, Signatures, SignedTransaction, ViewCall, sandbox,
};
use slackline_metering::{CostTable, MeteredModule, Metering};
use slackline_tests::{PLENTY, TestChain, address, example, key, transaction};
use std::path::PathBuf;
use std::time::Instant;

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

#[derive(Serialize)]
struct Compiled {
    contract: String,
    bytes: usize,
    /// Native code.
    code_bytes: usize,
    check_ms: f64,
    compile_ms: f64,
    bytes_per_second: f64,
}

const NO_OP: &str = r#"(module (memory (export "memory") 1) (func (export "nothing")))"#;

struct Stage {
    mode: Mode,
    chain: TestChain,
    no_op: Address,
    transfers: Vec<SignedTransaction>,
    calls: Vec<f64>,
    per_transfer: Vec<f64>,
}

impl Stage {
    fn new(mode: Mode, transfers: usize) -> Result<Stage> {
        let chain = TestChain::new(mode)?;
        let no_op = chain.deploy(&key(1), wat::parse_str(NO_OP)?, &())?;
        let token = chain.deploy(&key(1), example("token")?, &(1u128 << 100))?;
        // Both sides exist, as they mostly do.
        chain.call(
            &key(1),
            token,
            "transfer",
            &(address(&key(2)), 1u128),
            PLENTY,
        )?;
        let first = chain.chain.account(&address(&key(1)))?.nonce;
        let input = borsh::to_vec(&(address(&key(2)), 1u128))?;
        let transfers = (first..)
            .take(transfers)
            .map(|nonce| {
                let action = Action::Call {
                    contract: token,
                    method: "transfer".to_owned(),
                    input: input.clone(),
                    value: 0,
                };
                transaction(&key(1), nonce, action, 1_000_000)
            })
            .collect();
        Ok(Stage {
            mode,
            chain,
            no_op,
            transfers,
            calls: Vec::new(),
            per_transfer: Vec::new(),
        })
    }

    fn round(&mut self, calls: usize) -> Result<()> {
        let call = ViewCall {
            contract: self.no_op,
            caller: address(&key(2)),
            method: "nothing".to_owned(),
            input: Vec::new(),
            fuel_limit: 1_000_000,
        };
        for _ in 0..calls {
            let start = Instant::now();
            let result = self.chain.chain.view(&call)?;
            self.calls.push(start.elapsed().as_nanos() as f64 / 1e3);
            ensure!(result.outcome.is_success());
        }
        let start = Instant::now();
        let results = self
            .chain
            .chain
            .simulate(&self.transfers, Signatures::Trust)?;
        let time = start.elapsed().as_nanos() as f64 / 1e3;
        for result in results {
            let receipt = result?;
            ensure!(
                matches!(receipt.outcome, Outcome::Success { .. }) && receipt.events.len() == 1,
                "{receipt:?}"
            );
        }
        self.per_transfer.push(time / self.transfers.len() as f64);
        Ok(())
    }

    fn figures(mut self) -> Figures {
        let transfer_us = quantile(&mut self.per_transfer, 0.5);
        Figures {
            mode: self.mode.to_string(),
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

fn compiled(name: &str, rounds: usize) -> Result<Compiled> {
    let wasm = example(name)?;
    let metering = Metering::new(wasmtime::Config::new(), Mode::Slacked, &CostTable::v1())?;
    let limits = sandbox::CodeLimits::v1();
    let (mut checks, mut compiles) = (Vec::new(), Vec::new());
    let mut code_bytes = 0;
    for _ in 0..rounds {
        let start = Instant::now();
        let checked = sandbox::check(&wasm, &limits, slackline_executor::host::FUNCTIONS)?;
        let module = checked.instrument();
        checks.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let module = MeteredModule::new(&metering, module)?;
        compiles.push(start.elapsed().as_secs_f64() * 1e3);
        code_bytes = module.text().len();
    }
    let (check_ms, compile_ms) = (quantile(&mut checks, 0.5), quantile(&mut compiles, 0.5));
    Ok(Compiled {
        contract: name.to_owned(),
        bytes: wasm.len(),
        code_bytes,
        check_ms,
        compile_ms,
        bytes_per_second: wasm.len() as f64 / (check_ms + compile_ms) * 1e3,
    })
}

fn run(args: &Args) -> Result<()> {
    let mut stages = [Mode::Slacked, Mode::Exact]
        .map(|mode| Stage::new(mode, args.transfers))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..args.rounds {
        for stage in &mut stages {
            stage.round(args.calls)?;
        }
    }
    let figures: Vec<_> = stages.into_iter().map(Stage::figures).collect();
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
    let compiled = ["token", "counter", "puppet"]
        .map(|name| compiled(name, args.rounds))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    println!(
        "\n{:<10} {:>10} {:>12} {:>10} {:>12} {:>12}",
        "compile", "wasm", "native code", "check", "compile", "wasm/s"
    );
    for row in &compiled {
        println!(
            "{:<10} {:>8} B {:>10} B {:>7.2} ms {:>9.2} ms {:>7.2} MB/s",
            row.contract,
            row.bytes,
            row.code_bytes,
            row.check_ms,
            row.compile_ms,
            row.bytes_per_second / 1e6
        );
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&(figures, compiled))?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    slackline_executor::thread::spawn("bench".to_owned(), move || run(&args))?
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
