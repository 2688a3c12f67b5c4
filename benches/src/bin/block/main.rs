//! What executing a block takes in order and in parallel, without storing it; then what [storing](growth) one takes.
//!
//! ```text
//!   disjoint   transfers between accounts of which each is in one transaction
//!   token      the same with a token: one contract, disjoint balances
//!   swaps      of one pool: each depends on the one before
//!   mixed      half transfers, two fifths of token transfers, a tenth of swaps
//! ```
//!
//! Before that, what the machine itself gives: the same signatures verified on one thread, and shared out among more, which is the most that any
//! speed-up can be here.
//!
//! After it, a projection to more threads: a model, see `docs/parallel.md`.
//!
//! The variants take turns, the first of each round another one; a figure is the median of its rounds, a ratio the median of the ratios within a round. Each
//! variant's header is compared with that of the execution in order.

mod growth;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ed25519_dalek::SigningKey;
use serde::Serialize;
use slackline_benches::clock::process_time;
use slackline_benches::stats::median;
use slackline_executor::{
    Action, Address, BlockStats, Mode, Parallelism, PublicKey, Signatures, SignedTransaction,
};
use slackline_tests::{PLENTY, TestChain, address, example, key, transaction};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    /// Rounds of each variant.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Transactions in a block.
    #[arg(long, default_value_t = 1_000)]
    transactions: usize,
    /// Threads, besides one.
    #[arg(long, value_delimiter = ',', default_value = "2")]
    threads: Vec<usize>,
    /// Which blocks: disjoint, token, swaps, mixed.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "disjoint,token,swaps,mixed"
    )]
    workloads: Vec<String>,
    /// Sizes of the state, in keys, at which storing a block is measured.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10000,100000,1000000,10000000"
    )]
    keys: Vec<u64>,
    /// Leave out verifying signatures.
    #[arg(long)]
    trust: bool,
    /// Also write the figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How a block is executed, and what came of it.
struct Variant {
    name: String,
    how: Parallelism,
    /// Microseconds for each transaction, by round.
    times: Vec<f64>,
    /// The same of processor time, on all threads.
    cpu: Vec<f64>,
    stats: Vec<BlockStats>,
}

#[derive(Serialize)]
struct Row {
    workload: String,
    variant: String,
    us_per_transaction: f64,
    cpu_us_per_transaction: f64,
    /// Time in order over time so.
    speed_up: f64,
    in_parallel: f64,
    aborted: f64,
    cancelled: f64,
    blocked: f64,
}

struct Stage {
    chain: TestChain,
    users: Vec<SigningKey>,
    token: Address,
    other: Address,
    pool: Address,
}

fn user(n: usize) -> SigningKey {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    SigningKey::from_bytes(&seed)
}

fn call(contract: Address, method: &str, input: Vec<u8>) -> Action {
    Action::Call {
        contract,
        method: method.to_owned(),
        input,
        value: 0,
    }
}

const FUEL: u64 = 3_000_000;

impl Stage {
    fn new(users: usize) -> Result<Stage> {
        let chain = TestChain::new(Mode::Slacked)?;
        let alice = key(1);
        let token = chain.deploy(&alice, example("token")?, &(1u128 << 100))?;
        let other = chain.deploy(&alice, example("token")?, &(1u128 << 100))?;
        let pool = chain.deploy(&alice, example("amm")?, &(token, other, 30u16))?;
        let stage = Stage {
            chain,
            users: (0..users).map(user).collect(),
            token,
            other,
            pool,
        };
        for token in [token, other] {
            stage.produce(vec![(
                alice.clone(),
                call(token, "approve", borsh::to_vec(&(pool, 1u128 << 90))?),
            )])?;
        }
        let deposit = borsh::to_vec(&(1u128 << 60, 1u128 << 60, 1u128))?;
        stage.produce(vec![(alice.clone(), call(pool, "add", deposit))])?;
        let fund = |user: &SigningKey| Action::Transfer {
            to: address(user),
            amount: 1 << 80,
        };
        stage.produce(
            stage
                .users
                .iter()
                .map(|user| (alice.clone(), fund(user)))
                .collect(),
        )?;
        for token in [token, other] {
            let give = |user: &SigningKey| -> Result<_> {
                let input = borsh::to_vec(&(address(user), 1u128 << 60))?;
                Ok((alice.clone(), call(token, "transfer", input)))
            };
            stage.produce(stage.users.iter().map(give).collect::<Result<_>>()?)?;
            let allow = |user: &SigningKey| -> Result<_> {
                let input = borsh::to_vec(&(pool, 1u128 << 90))?;
                Ok((user.clone(), call(token, "approve", input)))
            };
            stage.produce(stage.users.iter().map(allow).collect::<Result<_>>()?)?;
        }
        Ok(stage)
    }

    fn sign(&self, actions: Vec<(SigningKey, Action)>) -> Result<Vec<SignedTransaction>> {
        let mut nonces = std::collections::BTreeMap::new();
        let signed = actions.into_iter().map(|(key, action)| {
            let sender = address(&key);
            let nonce = match nonces.get(&sender) {
                Some(&nonce) => nonce,
                None => self.chain.chain.account(&sender)?.nonce,
            };
            nonces.insert(sender, nonce + 1);
            let fuel = if matches!(action, Action::Deploy { .. }) {
                PLENTY
            } else {
                FUEL
            };
            // What each can spare, not what all have together.
            let mut transaction = transaction(&key, nonce, action, fuel).transaction;
            transaction.sender = PublicKey(key.verifying_key().to_bytes());
            transaction.fuel_price = 1_000;
            Ok(transaction.sign(&key))
        });
        signed.collect()
    }

    fn produce(&self, actions: Vec<(SigningKey, Action)>) -> Result<()> {
        let produced = self.chain.chain.produce_block(self.sign(actions)?, 0)?;
        ensure!(
            produced.dropped.is_empty(),
            "{:?}",
            produced.dropped.first()
        );
        ensure!(produced.left.is_empty(), "{} are left", produced.left.len());
        let failed = produced
            .receipts
            .iter()
            .find(|receipt| !receipt.outcome.is_success());
        ensure!(failed.is_none(), "{failed:?}");
        Ok(())
    }

    /// The `n`th transaction is between users `2 n` and `2 n + 1`.
    fn workload(&self, name: &str, transactions: usize) -> Result<Vec<SignedTransaction>> {
        let action = |n: usize| -> Result<(SigningKey, Action)> {
            let (from, to) = (&self.users[2 * n], address(&self.users[2 * n + 1]));
            let kind = match (name, n % 10) {
                ("mixed", 0..5) => "disjoint",
                ("mixed", 5..9) => "token",
                ("mixed", _) => "swaps",
                _ => name,
            };
            let action = match kind {
                "disjoint" => Action::Transfer { to, amount: 1 },
                "token" => call(self.token, "transfer", borsh::to_vec(&(to, 1u128))?),
                _ => {
                    let token = if n % 4 < 2 { self.token } else { self.other };
                    let input = borsh::to_vec(&(token, 1_000u128 + n as u128, 0u128, None::<u64>))?;
                    call(self.pool, "swap", input)
                }
            };
            Ok((from.clone(), action))
        };
        self.sign((0..transactions).map(action).collect::<Result<_>>()?)
    }
}

/// Threads that the projection starts from.
const MEASURED: usize = 2;

fn variant_name(threads: usize) -> String {
    format!("{threads} threads")
}

fn variants(threads: &[usize]) -> Vec<Variant> {
    let variant = |name: String, how: Parallelism| Variant {
        name,
        how,
        times: Vec::new(),
        cpu: Vec::new(),
        stats: Vec::new(),
    };
    let mut all = vec![variant("in order".to_owned(), Parallelism::sequential())];
    for &threads in threads {
        let how = Parallelism {
            threads,
            ..Parallelism::sequential()
        };
        all.push(variant(variant_name(threads), how.clone()));
        let to_the_end = Parallelism {
            wasted_percent: 1_000_000,
            ..how
        };
        all.push(variant(
            format!("{threads} threads, to the end"),
            to_the_end.clone(),
        ));
        let patient = Parallelism {
            cancel: false,
            ..to_the_end
        };
        all.push(variant(
            format!("{threads} threads, to the end, no cancelling"),
            patient,
        ));
    }
    all
}

fn measure(stage: &Stage, name: &str, args: &Args) -> Result<Vec<Row>> {
    let block = stage.workload(name, args.transactions)?;
    let signatures = if args.trust {
        Signatures::Trust
    } else {
        Signatures::Verify
    };
    let mut variants = variants(&args.threads);
    let mut expected = None;
    // The first round warms up.
    for round in 0..=args.rounds {
        let count = variants.len();
        for turn in 0..count {
            let variant = &mut variants[(round + turn) % count];
            let transactions = block.clone();
            let (start, cpu) = (Instant::now(), process_time());
            let made =
                stage
                    .chain
                    .chain
                    .rehearse_block(transactions, 0, signatures, &variant.how)?;
            let each = |time: Duration| time.as_nanos() as f64 / 1e3 / args.transactions as f64;
            let (time, cpu) = (each(start.elapsed()), each(process_time() - cpu));
            let expected = expected.get_or_insert_with(|| made.header.clone());
            ensure!(
                *expected == made.header,
                "{name}, {}: another result",
                variant.name
            );
            let failed = made
                .receipts
                .iter()
                .find(|receipt| !receipt.outcome.is_success());
            ensure!(
                made.receipts.len() == args.transactions && failed.is_none(),
                "{failed:?}"
            );
            if round > 0 {
                variant.times.push(time);
                variant.cpu.push(cpu);
                variant.stats.push(made.stats);
            }
        }
    }
    let in_order = variants[0].times.clone();
    let rows = variants.iter().map(|variant| {
        let ratios: Vec<f64> = in_order
            .iter()
            .zip(&variant.times)
            .map(|(one, other)| one / other)
            .collect();
        let count = |of: fn(&BlockStats) -> u64| {
            let counts: Vec<f64> = variant.stats.iter().map(|stats| of(stats) as f64).collect();
            median(&counts).unwrap_or(f64::NAN)
        };
        Row {
            workload: name.to_owned(),
            variant: variant.name.clone(),
            us_per_transaction: median(&variant.times).unwrap_or(f64::NAN),
            cpu_us_per_transaction: median(&variant.cpu).unwrap_or(f64::NAN),
            speed_up: median(&ratios).unwrap_or(f64::NAN),
            in_parallel: count(|stats| stats.in_parallel as u64),
            aborted: count(|stats| stats.aborted),
            cancelled: count(|stats| stats.cancelled),
            blocked: count(|stats| stats.blocked),
        }
    });
    Ok(rows.collect())
}

/// How much faster `threads` threads verify signatures than one, with nothing to wait for: the median of the rounds.
fn ceiling(block: &[SignedTransaction], threads: usize, rounds: usize) -> Result<f64> {
    let verify =
        |part: &[SignedTransaction]| part.iter().all(SignedTransaction::signature_is_valid);
    let mut ratios = Vec::new();
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        ensure!(verify(block), "a signature is invalid");
        let one = start.elapsed();
        let start = Instant::now();
        let parts = block.chunks(block.len().div_ceil(threads));
        let valid = std::thread::scope(|scope| {
            let threads: Vec<_> = parts
                .map(|part| scope.spawn(move || verify(part)))
                .collect();
            threads
                .into_iter()
                .all(|thread| thread.join().unwrap_or(false))
        });
        ensure!(valid, "a signature is invalid");
        ratios.push(one.as_secs_f64() / start.elapsed().as_secs_f64());
    }
    median(&ratios).context("no round")
}

/// The speed-up with `threads` threads that two rows, in order and in parallel with `measured` threads, let one expect. What is serial is what the time in
/// parallel does not share: with all of it shared evenly, the time would be the processor time over the threads. Executions in vain grow with
/// the transactions that are under way besides the one that they wait for.
fn projected(
    in_order: &Row,
    parallel: &Row,
    measured: usize,
    threads: usize,
    transactions: usize,
) -> f64 {
    let (measured, threads) = (measured as f64, threads as f64);
    let (time, cpu) = (parallel.us_per_transaction, parallel.cpu_us_per_transaction);
    let serial = ((measured * time - cpu) / (measured - 1.0)).clamp(0.0, time);
    let vain = (parallel.aborted + parallel.cancelled + parallel.blocked) / transactions as f64;
    let more = 1.0 + vain * (threads - measured) / (measured - 1.0);
    in_order.us_per_transaction / (serial + (cpu - serial) * more / threads)
}

fn run(args: &Args) -> Result<()> {
    for name in &args.workloads {
        let known = ["disjoint", "token", "swaps", "mixed"];
        ensure!(
            known.contains(&name.as_str()),
            "no workload {name:?}: there are {}",
            known.join(", ")
        );
    }
    let stage = Stage::new(2 * args.transactions)?;
    let signed = stage.workload("disjoint", args.transactions)?;
    for &threads in &args.threads {
        let ceiling = ceiling(&signed, threads, args.rounds)?;
        println!("verifying the signatures alone: {ceiling:.2}x with {threads} threads\n");
    }
    println!(
        "{:<9} {:<36} {:>12} {:>12} {:>9} {:>9} {:>8} {:>9} {:>8}",
        "workload",
        "variant",
        "transaction",
        "processors",
        "speed-up",
        "parallel",
        "aborted",
        "cancelled",
        "blocked"
    );
    let mut all = Vec::new();
    for name in &args.workloads {
        for row in measure(&stage, name, args)? {
            println!(
                "{:<9} {:<36} {:>9.2} us {:>9.2} us {:>8.2}x {:>9} {:>8} {:>9} {:>8}",
                row.workload,
                row.variant,
                row.us_per_transaction,
                row.cpu_us_per_transaction,
                row.speed_up,
                row.in_parallel,
                row.aborted,
                row.cancelled,
                row.blocked
            );
            all.push(row);
        }
    }
    println!(
        "\nprojected from {MEASURED} threads (a model, not measured; 1x where the block would be executed in order)"
    );
    for rows in all.chunk_by(|one: &Row, other| one.workload == other.workload) {
        let two = rows
            .iter()
            .find(|row| row.variant == variant_name(MEASURED));
        if let (Some(in_order), Some(two)) = (rows.first(), two) {
            if two.in_parallel < args.transactions as f64 {
                println!("{:<9} 1x: in order, as it conflicts", in_order.workload);
                continue;
            }
            let at = |threads| {
                let ratio = projected(in_order, two, MEASURED, threads, args.transactions);
                format!("{:.1}x with {threads}", ratio.max(1.0))
            };
            println!(
                "{:<9} {}",
                in_order.workload,
                [4, 8, 16, 32].map(at).join(", ")
            );
        }
    }
    let mut growth = Vec::new();
    println!("\n{}", growth::Growth::HEADER);
    for &keys in &args.keys {
        let row = growth::measure(keys, args.rounds)?;
        println!("{}", row.line());
        growth.push(row);
    }
    if let Some(path) = &args.json {
        let text =
            serde_json::to_string_pretty(&serde_json::json!({"blocks": all, "growth": growth}))?;
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
