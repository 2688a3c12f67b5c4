//! What the node as a process can do: transfers from submission to the answer that they are final, at rates one after the other.
//!
//! ```text
//!   slackline load ──WebSocket──▶ slackline dev            (one node: included in a block on disk is final)
//!                  ──WebSocket──▶ 4 × slackline start      (validators on loopback: included is decided by more than two thirds)
//!        │ JSON                          │ /proc/PID/task/*/stat, before and after
//!        ▼                               ▼
//!   rate, latency p50 and p99      processor time for each transaction, by component
//! ```
//!
//! The load generator runs on the same machine and takes its share of it, which is shown too.

mod processor;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use processor::Sample;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[derive(Parser)]
struct Args {
    /// The program: `target/release/slackline`.
    #[arg(long)]
    slackline: PathBuf,
    /// Rates for one node, in transfers a second.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,2500,5000,10000,15000"
    )]
    rates: Vec<u64>,
    /// Rates for four validators, in transfers a second.
    #[arg(long, value_delimiter = ',', default_value = "250,500,1000,2000")]
    validators_rates: Vec<u64>,
    /// How many transfers the clients submit in a call: each of these, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,50")]
    batches: Vec<u64>,
    /// Seconds at each rate, after the ramp.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Accounts that send, each with one transfer under way.
    #[arg(long, default_value_t = 4_000)]
    accounts: usize,
    /// Block interval of the validators, in milliseconds.
    #[arg(long, default_value_t = 500)]
    interval_ms: u64,
    /// First port for the validators.
    #[arg(long, default_value_t = 29_500)]
    base_port: u16,
    /// Also write the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A node, ended when dropped.
struct Process {
    child: Child,
    rpc: String,
}

impl Process {
    /// Starts it and waits until it says that it is ready.
    fn start(command: &mut Command) -> Result<Process> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let about: Value = serde_json::from_str(&line).context("the node does not start")?;
        let rpc = about["rpc"].as_str().context("no RPC address")?.to_owned();
        Ok(Process { child, rpc })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn slackline(args: &Args) -> Command {
    let mut command = Command::new(&args.slackline);
    command
        .env_remove("SLACKLINE_RPC")
        .env("SLACKLINE_LOG", "error");
    command
}

/// Sends to `nodes` at `rate`, `batch` in a call, and says what came of it.
fn load(args: &Args, nodes: &[Process], rate: u64, batch: u64) -> Result<Value> {
    let mut command = slackline(args);
    command
        .arg("load")
        .args(["--json", "--rpc", &nodes[0].rpc, "transfers"]);
    for (name, value) in [
        ("--rate", rate),
        ("--batch", batch),
        ("--seconds", args.seconds),
        ("--accounts", args.accounts as u64),
    ] {
        command.arg(name).arg(value.to_string());
    }
    for node in &nodes[1..] {
        command.args(["--also", &node.rpc]);
    }
    let before = nodes
        .iter()
        .map(|node| Sample::of(node.child.id()))
        .collect::<Result<Vec<_>>>()?;
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut sender = Sample::of(child.id())?;
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
        text += &line?;
        // Its figures come last, when all is sent.
        sender = Sample::of(child.id()).unwrap_or(sender);
    }
    child.wait()?;
    let mut answer: Value = serde_json::from_str(&text).with_context(|| format!("load: {text}"))?;
    let included = answer["included"].as_u64().context("no count")?;
    ensure!(included > 0, "nothing was included: {answer}");
    let mut parts = BTreeMap::new();
    for (node, before) in nodes.iter().zip(&before) {
        for (name, time) in Sample::of(node.child.id())?.since(before) {
            *parts.entry(name).or_insert(0.0) += time / included as f64;
        }
    }
    *parts.entry("(load generator)".to_owned()).or_insert(0.0) += sender.total() / included as f64;
    answer["processor_us"] = json!(parts);
    Ok(answer)
}

fn show(what: &str, answer: &Value) {
    let us = &answer["submit_to_final_us"];
    let ms = |name: &str| us[name].as_f64().unwrap_or(f64::NAN) / 1e3;
    let errors: u64 = answer["errors"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, count)| count.as_u64())
        .sum();
    println!(
        "{what:<12} {:>5} {:>7} {:>10.0} {:>8.1} ms {:>8.1} ms {:>8.1} ms {:>7} {:>7}",
        answer["batch"],
        answer["target_per_second"],
        answer["included_per_second"].as_f64().unwrap_or(f64::NAN),
        ms("p50"),
        ms("p99"),
        ms("max"),
        answer["blocks"],
        errors,
    );
}

/// Processor time by component at the last rate.
fn show_parts(answer: &Value) {
    let mut parts: Vec<(&String, f64)> = answer["processor_us"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, time)| Some((name, time.as_f64()?)))
        .collect();
    parts.sort_by(|one, other| other.1.total_cmp(&one.1));
    println!(
        "\nprocessor time for each of these, in microseconds (at {} a second):",
        answer["target_per_second"]
    );
    for (name, time) in parts.into_iter().filter(|(_, time)| *time >= 0.5) {
        println!("  {time:>8.1}  {name}");
    }
    println!();
}

fn measure(args: &Args, what: &str, rates: &[u64], nodes: &[Process]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for &batch in &args.batches {
        for &rate in rates {
            let answer = load(args, nodes, rate, batch)?;
            show(what, &answer);
            all.push(answer);
        }
        if let Some(last) = all.last() {
            show_parts(last);
        }
    }
    Ok(all)
}

fn validators(args: &Args, directory: &Path) -> Result<Vec<Process>> {
    let made = slackline(args)
        .args([
            "testnet",
            "4",
            "--base-port",
            &args.base_port.to_string(),
            "--dir",
        ])
        .arg(directory)
        .stdout(Stdio::null())
        .status()?;
    ensure!(made.success(), "slackline testnet: {made}");
    let homes: Vec<PathBuf> = (0..4).map(|n| directory.join(format!("node{n}"))).collect();
    homes
        .iter()
        .map(|home| {
            let mut command = slackline(args);
            let interval = format!("consensus.block_interval_ms={}", args.interval_ms);
            Process::start(
                command
                    .args(["start", "--print-json", "--set", &interval, "--data-dir"])
                    .arg(home),
            )
        })
        .collect()
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.slackline.is_file() {
        bail!(
            "{} is not there: `cargo xtask bench node` builds it",
            args.slackline.display()
        );
    }
    let directory = tempfile::tempdir()?;
    println!(
        "{:<12} {:>5} {:>7} {:>10} {:>11} {:>11} {:>11} {:>7} {:>7}",
        "nodes", "batch", "asked/s", "final/s", "p50", "p99", "max", "blocks", "errors"
    );
    let one = {
        let mut command = slackline(&args);
        let data = directory.path().join("dev");
        let node = Process::start(
            command
                .args([
                    "dev",
                    "--listen",
                    "127.0.0.1:0",
                    "--print-json",
                    "--data-dir",
                ])
                .arg(data),
        )?;
        measure(&args, "one", &args.rates, &[node])?
    };
    let nodes = validators(&args, &directory.path().join("testnet"))?;
    let four = measure(&args, "4 validators", &args.validators_rates, &nodes)?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&json!({"one": one, "validators": four}))?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
