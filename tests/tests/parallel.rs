//! Blocks executed on several threads are those executed in order, bit for bit: receipts, what was left out, and the header with
//! all that it commits to. The blocks are random, on accounts and contracts that everybody uses.

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use slackline_executor::{
    Action, Address, BlockStats, Mode, Outcome, Parallelism, Produced, Signatures,
    SignedTransaction,
};
use slackline_metering::AsyncFuelChecker;
use slackline_tests::puppet::{Draft, finish, program, steps};
use slackline_tests::{TestChain, address, example, key, transaction};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Fuel of a transaction: what spins burns all of it.
const FUEL: u64 = 4_000_000;

/// Keys that have money from the start; the last sender has only what it is sent.
const SENDERS: u8 = 6;
const POOR: u8 = 60;

fn sender(n: u8) -> SigningKey {
    key(if n < SENDERS { n + 1 } else { POOR })
}

/// A transaction, before it has a nonce and addresses.
#[derive(Clone, Debug)]
struct Plan {
    sender: u8,
    what: What,
    flaw: Option<Flaw>,
}

#[derive(Clone, Debug)]
enum What {
    Transfer {
        to: usize,
        amount: u128,
    },
    Run {
        puppet: usize,
        value: u128,
        steps: Vec<Draft>,
    },
    /// Of code that nobody has deployed, `own`, or of the puppets'.
    Deploy {
        own: bool,
        steps: Vec<Draft>,
    },
    /// Of what a transaction of this block has deployed, if there was one.
    RunDeployed {
        which: usize,
        steps: Vec<Draft>,
    },
}

/// What makes a transaction invalid.
#[derive(Clone, Copy, Debug)]
enum Flaw {
    Nonce,
    Signature,
    Fuel,
}

/// Puppets, a key without money, and everybody's favourite.
const PLACES: usize = 5;

fn plan() -> impl Strategy<Value = Plan> {
    let what = prop_oneof![
        5 => (0..PLACES + 2, prop_oneof![0..50u128, Just(5_000_000)])
            .prop_map(|(to, amount)| What::Transfer { to, amount }),
        8 => (0..4usize, prop_oneof![3 => Just(0), 1 => 0..50u128], steps(2))
            .prop_map(|(puppet, value, steps)| What::Run { puppet, value, steps }),
        1 => (any::<bool>(), steps(1)).prop_map(|(own, steps)| What::Deploy { own, steps }),
        2 => (any::<usize>(), steps(1)).prop_map(|(which, steps)| What::RunDeployed { which, steps }),
    ];
    let flaw = prop_oneof![
        20 => Just(None),
        1 => prop::sample::select(vec![Flaw::Nonce, Flaw::Signature, Flaw::Fuel]).prop_map(Some),
    ];
    (0..=SENDERS, what, flaw).prop_map(|(sender, what, flaw)| Plan { sender, what, flaw })
}

/// Contracts and accounts on a chain.
struct Stage {
    chain: TestChain,
    puppets: Vec<Address>,
    /// For code that is new: how many there have been.
    codes: u32,
}

/// A contract with a method that keeps a count, and code unlike that of any other.
fn own_code(number: u32) -> Result<Vec<u8>> {
    Ok(wat::parse_str(format!(
        r#"(module
          (import "slackline_v1" "storage_get" (func $get (param i32 i32 i32 i32) (result i64)))
          (import "slackline_v1" "storage_set" (func $set (param i32 i32 i32 i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "count") (data (i32.const 64) "code {number}")
          (func (export "run")
            (drop (call $get (i32.const 0) (i32.const 5) (i32.const 8) (i32.const 8)))
            (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (i64.const 1)))
            (call $set (i32.const 0) (i32.const 5) (i32.const 8) (i32.const 8))))"#
    ))?)
}

impl Stage {
    fn new(mode: Mode) -> Result<Stage> {
        let chain = TestChain::new(mode)?;
        let code = example("puppet")?;
        let puppets = (0..4)
            .map(|_| chain.deploy(&key(9), code.clone(), &program(&[])?))
            .collect::<Result<_>>()?;
        Ok(Stage {
            chain,
            puppets,
            codes: 0,
        })
    }

    fn block(&mut self, plans: &[Plan]) -> Result<Vec<SignedTransaction>> {
        let mut who = self.puppets.clone();
        who.push(address(&key(POOR)));
        let mut deployed = Vec::new();
        let mut nonces = BTreeMap::new();
        plans
            .iter()
            .map(|plan| {
                let key = sender(plan.sender);
                let nonce = match nonces.entry(plan.sender) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(self.chain.chain.account(&address(&key))?.nonce)
                    }
                };
                let run = |contract, value, steps: &[Draft]| -> Result<Action> {
                    Ok(Action::Call {
                        contract,
                        method: "run".to_owned(),
                        input: borsh::to_vec(&program(&finish(steps, &who)?)?)?,
                        value,
                    })
                };
                let action = match &plan.what {
                    What::Transfer { to, amount } => Action::Transfer {
                        to: *who.get(*to).unwrap_or(&address(&sender(0))),
                        amount: *amount,
                    },
                    What::Run {
                        puppet,
                        value,
                        steps,
                    } => run(self.puppets[*puppet], *value, steps)?,
                    What::Deploy { own, steps } => {
                        deployed.push(Address::of_contract(&address(&key), *nonce));
                        self.codes += u32::from(*own);
                        let (code, input) = match own {
                            true => (own_code(self.codes)?, Vec::new()),
                            false => {
                                let input = program(&finish(steps, &who)?)?;
                                (example("puppet")?, borsh::to_vec(&input)?)
                            }
                        };
                        Action::Deploy {
                            code,
                            input,
                            value: 0,
                        }
                    }
                    What::RunDeployed { which, steps } => {
                        let made = deployed.get(which % deployed.len().max(1));
                        run(*made.unwrap_or(&self.puppets[0]), 0, steps)?
                    }
                };
                let fuel = match action {
                    Action::Transfer { .. } | Action::SetValidators { .. } => 300_000,
                    Action::Deploy { .. } => 200_000_000,
                    Action::Call { .. } => FUEL,
                };
                let holds_nothing = matches!(action, Action::Transfer { .. });
                let mut signed = transaction(&key, *nonce, action, fuel);
                if holds_nothing {
                    signed = resign(&signed, &key, |tx| tx.deposit_limit = 0);
                }
                match plan.flaw {
                    None => *nonce += 1,
                    Some(Flaw::Nonce) => signed = resign(&signed, &key, |tx| tx.nonce += 1),
                    Some(Flaw::Fuel) => signed = resign(&signed, &key, |tx| tx.fuel_limit = 10),
                    Some(Flaw::Signature) => signed.signature[3] ^= 1,
                }
                Ok(signed)
            })
            .collect()
    }

    fn rehearse(&self, block: &[SignedTransaction], how: &Parallelism) -> Result<Produced> {
        let chain = &self.chain.chain;
        Ok(chain.rehearse_block(block.to_vec(), 0, Signatures::Verify, how)?)
    }
}

fn resign(
    signed: &SignedTransaction,
    key: &SigningKey,
    change: impl FnOnce(&mut slackline_executor::Transaction),
) -> SignedTransaction {
    let mut transaction = signed.transaction.clone();
    change(&mut transaction);
    transaction.sign(key)
}

fn on(threads: usize) -> Parallelism {
    Parallelism {
        threads,
        least_transactions: 0,
        // Until the end, whatever it takes.
        wasted_percent: 100_000,
        cancel: true,
    }
}

/// Everything that a block says.
fn said(produced: &Produced) -> Result<String> {
    ensure!(
        produced.header.fuel_used == produced.receipts.iter().map(|r| r.fuel_used).sum::<u64>()
    );
    Ok(format!(
        "{:#?}",
        (&produced.header, &produced.receipts, &produced.dropped)
    ))
}

/// What has been seen in all blocks together.
#[derive(Debug, Default)]
struct Tally {
    transactions: usize,
    dropped: usize,
    succeeded: usize,
    in_parallel: usize,
    void: u64,
    fell_back: u64,
}

impl Tally {
    fn add(&mut self, stats: BlockStats) {
        self.in_parallel += stats.in_parallel;
        self.void += stats.aborted + stats.cancelled + stats.blocked;
        self.fell_back += u64::from(stats.fell_back);
    }
}

fn random_blocks(mode: Mode, blocks: u64) -> Result<Tally> {
    let mut stage = Stage::new(mode)?;
    let mut tally = Tally::default();
    for seed in 0..blocks {
        let bytes = [&seed.to_le_bytes()[..], &[7; 24]].concat();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let plans = prop::collection::vec(plan(), 1..40).new_tree(&mut runner);
        let plans = plans
            .map_err(|reason| anyhow::anyhow!("{reason}"))?
            .current();
        let block = stage.block(&plans)?;

        let expected = stage.rehearse(&block, &Parallelism::sequential())?;
        let text = said(&expected)?;
        for threads in [2, 4, 8] {
            let mut how = on(threads);
            if seed % 4 == 0 {
                (how.wasted_percent, how.cancel) = (0, seed % 8 == 0);
            }
            let produced = stage.rehearse(&block, &how)?;
            similar(&text, &said(&produced)?).with_context(|| {
                format!("block {seed}, {threads} threads, {:?}", produced.stats)
            })?;
            tally.add(produced.stats);
        }
        // The next one begins on what one of them has made, and on disk is what the header says.
        stage
            .chain
            .chain
            .set_parallelism(on([1, 2, 4, 8][seed as usize % 4]));
        let produced = stage.chain.chain.produce_block(block, 0)?;
        similar(&text, &said(&produced)?).with_context(|| format!("block {seed}, produced"))?;
        ensure!(stage.chain.chain.head() == expected.header);
        tally.transactions += expected.receipts.len();
        tally.dropped += expected.dropped.len();
        tally.succeeded += expected
            .receipts
            .iter()
            .filter(|r| r.outcome.is_success())
            .count();
    }
    Ok(tally)
}

/// Where two texts differ.
fn similar(one: &str, other: &str) -> Result<()> {
    let differ = one
        .lines()
        .zip(other.lines())
        .enumerate()
        .find(|(_, (one, other))| one != other);
    ensure!(
        one == other,
        "in order and in parallel differ first at {differ:?}"
    );
    Ok(())
}

fn blocks(few: u64) -> u64 {
    match std::env::var("SLACKLINE_FULL") {
        Ok(count) => few * count.parse().unwrap_or(50).max(50),
        Err(_) => few,
    }
}

/// The work must have been done in parallel, and have been void often enough, for this to say anything.
fn meaningful(tally: &Tally) -> Result<()> {
    println!("{tally:?}");
    ensure!(tally.dropped > tally.transactions / 50, "{tally:?}");
    ensure!(tally.succeeded > tally.transactions / 5, "{tally:?}");
    ensure!(tally.in_parallel > tally.transactions, "{tally:?}");
    ensure!(tally.void > tally.transactions as u64 / 20, "{tally:?}");
    Ok(())
}

/// While another thread checks this one, which is one of the workers, as fast as it can.
#[test]
fn random_blocks_are_the_same_on_any_number_of_threads() -> Result<()> {
    let stormy = || -> Result<Tally> {
        let checker = AsyncFuelChecker::for_current_thread()?;
        let stop = AtomicBool::new(false);
        let tally = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    checker.check();
                    for _ in 0..2_000 {
                        std::hint::spin_loop();
                    }
                }
            });
            // Even if this panics: the scope waits for the storm to end.
            let tally = catch_unwind(|| random_blocks(Mode::Slacked, blocks(160)));
            stop.store(true, Relaxed);
            tally.unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        ensure!(checker.stats().landed > 200, "{:?}", checker.stats());
        Ok(tally)
    };
    let tally = slackline_executor::thread::spawn("storm".to_owned(), stormy)?
        .join()
        .map_err(|_| anyhow::anyhow!("it panicked"))??;
    ensure!(tally.fell_back > 0, "{tally:?}");
    meaningful(&tally)
}

/// Nothing but host functions stops what is stale.
#[test]
fn random_blocks_are_the_same_without_checks() -> Result<()> {
    for mode in [Mode::Exact, Mode::Hybrid] {
        meaningful(&random_blocks(mode, blocks(20))?)?;
    }
    Ok(())
}

/// Every transaction depends on the one before it, through the account of its sender, through that of its recipient, or both.
#[test]
fn a_chain_of_transfers_is_the_same_in_parallel() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let price = 300_000;
    // From hand to hand: each has just enough for its own transaction and all that follow.
    let hands: Vec<SigningKey> = (0..150u8).map(|n| key(100 + n)).collect();
    let hop = |from: &SigningKey, nonce, to: &SigningKey, left: usize| {
        let to = address(to);
        let amount = u128::from(price) * left as u128;
        let signed = transaction(from, nonce, Action::Transfer { to, amount }, price);
        resign(&signed, from, |tx| tx.deposit_limit = 0)
    };
    let mut block = vec![hop(&key(1), 0, &hands[0], hands.len())];
    for (n, pair) in hands.windows(2).enumerate() {
        block.push(hop(&pair[0], 0, &pair[1], hands.len() - 1 - n));
    }
    let rehearse = |how: &Parallelism| {
        chain
            .chain
            .rehearse_block(block.clone(), 0, Signatures::Verify, how)
    };
    let expected = rehearse(&Parallelism::sequential())?;
    ensure!(
        expected
            .receipts
            .iter()
            .all(|receipt| receipt.outcome.is_success())
    );
    ensure!(expected.receipts.len() == hands.len());
    for threads in [2, 4, 8] {
        for wasted_percent in [0, 10, 100_000] {
            let how = Parallelism {
                wasted_percent,
                ..on(threads)
            };
            let produced = rehearse(&how)?;
            similar(&said(&expected)?, &said(&produced)?).with_context(|| format!("{how:?}"))?;
        }
    }
    Ok(())
}

/// Many pay one account, and a contract that they call: nobody waits for anybody.
#[test]
fn payments_to_one_account_do_not_conflict() -> Result<()> {
    let stage = Stage::new(Mode::Slacked)?;
    let block: Vec<_> = (0..6u8)
        .map(|n| {
            let action = match n % 2 {
                0 => Action::Transfer {
                    to: stage.puppets[0],
                    amount: 5,
                },
                _ => Action::Call {
                    contract: stage.puppets[0],
                    method: "missing".to_owned(),
                    input: Vec::new(),
                    value: 3,
                },
            };
            transaction(&key(n + 1), 0, action, FUEL)
        })
        .collect();
    let expected = stage.rehearse(&block, &Parallelism::sequential())?;
    for threads in [2, 4] {
        let produced = stage.rehearse(&block, &on(threads))?;
        similar(&said(&expected)?, &said(&produced)?)?;
        assert_eq!(
            produced.stats.executions,
            block.len() as u64,
            "{:?}",
            produced.stats
        );
    }
    Ok(())
}

/// `set` works for a while and then writes what `wait` has read, which waits for ever if there is nothing: in wasm alone, or calling the host.
fn waiting(host: bool) -> Result<Vec<u8>> {
    let body = if host { "(drop (call $fuel_left))" } else { "" };
    Ok(wat::parse_str(format!(
        r#"(module
          (import "slackline_v1" "storage_has" (func $has (param i32 i32) (result i32)))
          (import "slackline_v1" "storage_set" (func $set (param i32 i32 i32 i32)))
          (import "slackline_v1" "fuel_left" (func $fuel_left (result i64)))
          (memory (export "memory") 1)
          (func (export "set") (local $n i32)
            (loop $work
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if $work (i32.lt_u (local.get $n) (i32.const 40000000))))
            (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
          (func (export "wait")
            (if (call $has (i32.const 0) (i32.const 1)) (then (return)))
            (loop $for_ever {body} (br $for_ever))))"#
    ))?)
}

/// What waits for ever is stopped when what it has read is no longer so: by a check in wasm, by the next host function in any mode. Else it would run
/// out of fuel, which is counted.
#[test]
fn a_doomed_contract_is_stopped_while_it_runs() -> Result<()> {
    for (mode, host) in [
        (Mode::Slacked, false),
        (Mode::Slacked, true),
        (Mode::Exact, true),
    ] {
        let chain = TestChain::new(mode)?;
        let contract = chain.deploy(&key(1), waiting(host)?, &())?;
        let call = |n, nonce, method: &str| {
            let action = Action::Call {
                contract,
                method: method.to_owned(),
                input: Vec::new(),
                value: 0,
            };
            let fuel = chain.chain.params().limits.transaction_fuel / 2;
            transaction(&key(n), nonce, action, fuel)
        };
        let block = vec![call(1, 1, "set"), call(2, 0, "wait")];
        let mut cancelled = 0;
        // The second may happen to begin when the first is done.
        for _ in 0..20 {
            let produced =
                chain
                    .chain
                    .rehearse_block(block.clone(), 0, Signatures::Verify, &on(2))?;
            for receipt in &produced.receipts {
                assert_eq!(receipt.outcome, Outcome::Success { data: Vec::new() });
            }
            cancelled += produced.stats.cancelled;
            if cancelled > 0 {
                break;
            }
        }
        ensure!(cancelled > 0, "{mode}: never at the same time");
        assert_eq!(chain.chain.metering_stats().stopped, 0, "{mode}");
    }
    Ok(())
}
