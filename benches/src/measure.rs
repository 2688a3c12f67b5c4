//! Measuring a program: all variants in one process, taking turns.

use crate::clock::thread_time;
use crate::kernels::Subject;
use crate::layout::{Padding, pad};
use crate::run::{LIMIT, Outcome, Runner, Watch};
use crate::stats::{geometric_mean, median, quantile};
use crate::variant::{Code, Compiler, Variant, is_unmetered};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How much to measure.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Rounds, each of which runs each variant once.
    pub rounds: usize,
    /// Processor time for a program's rounds, in seconds; and half as much for compiling it. Over it when [`MIN_ROUNDS`] take longer.
    pub seconds: f64,
    /// Addresses that the code is tried at.
    pub layouts: usize,
    /// How these differ.
    pub padding: Padding,
}

/// Fewest rounds, whatever they take.
pub const MIN_ROUNDS: usize = 3;

/// Shortest time of the baseline's turn, in seconds: what takes less runs several times in a turn.
const TURN: f64 = 2e-3;

/// Shortest time of the baseline, in seconds: less than that is mostly what it takes to call it.
const SHORTEST: f64 = 10e-6;

/// Times that a program is compiled for each variant, if there is time.
const COMPILES: usize = 9;

/// What was measured of a program.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The program.
    pub name: String,
    /// Whether it is one of ours.
    pub is_kernel: bool,
    /// Size of the module, in bytes.
    pub wasm_bytes: usize,
    /// Rounds that there was time for.
    pub rounds: usize,
    /// Layouts that there was time for.
    pub layouts: usize,
    /// Fuel used by a run, instantiation included; the same in all variants that count.
    pub fuel: u64,
    /// By variant, in the order of [`Variant::ALL`].
    pub cells: Vec<Cell>,
}

impl Measurement {
    /// What was measured with `variant`.
    pub fn cell(&self, variant: Variant) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.variant == variant)
    }
}

/// What was measured of a program with a variant. Ratios are to the baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The variant.
    pub variant: Variant,
    /// Median time of a run, in milliseconds.
    pub time_ms: f64,
    /// The geometric mean over the layouts of the median over the rounds of (time / time of the baseline in the same round).
    pub time_ratio: f64,
    /// The lower and the upper quartile of these ratios, over all rounds.
    pub quartiles: [f64; 2],
    /// The median of each layout.
    pub layout_ratios: Vec<f64>,
    /// Size of the function bodies, in bytes.
    pub code_bytes: usize,
    /// The same to that of the baseline.
    pub code_ratio: f64,
    /// Median time of compiling the module on one thread, in milliseconds.
    pub compile_ms: f64,
    /// Median over the rounds of (time / time of the baseline in the same round).
    pub compile_ratio: f64,
}

/// Measures `subject`.
///
/// # Errors
///
/// If it cannot be compiled or run, the baseline is metered, or variants differ in what they compute or count.
pub fn measure(
    subject: &Arc<Subject>,
    compilers: &[Compiler],
    settings: &Settings,
    watch: &Watch,
) -> Result<Measurement> {
    ensure!(
        is_unmetered(&subject.wasm, Variant::None)?,
        "the baseline is metered"
    );
    let wasm = pad(&subject.wasm, settings.padding, 0)?;
    let compiled = Compiled::new(&wasm, compilers, settings)?;
    let mut layouts = vec![runners(subject, compilers, compiled.codes)?];

    // Also warms up, and finds out how much fuel there is to be.
    let first = first_run(subject, &mut layouts[0], watch)?;
    ensure!(
        first.times[0] >= SHORTEST,
        "takes less than {} µs",
        SHORTEST * 1e6
    );
    // As a transaction's would be: enough, but near enough that the watchdog looks now and then.
    let limit = first.fuel * 2;
    let alone: f64 = first.times.iter().sum();
    // So that a clock that is looked at for each turn and a signal now and then are not what is measured.
    let repeats = (TURN / first.times[0].max(1e-9)).ceil().clamp(1.0, 1000.0) as usize;
    let wanted = settings.layouts.min(settings.rounds.max(1));
    let each = compiled.seconds + alone;
    let affordable = (settings.seconds / 2.0 / each.max(1e-9)) as usize;
    for amount in 1..wanted.min(affordable.max(1)) {
        let wasm = pad(&subject.wasm, settings.padding, amount)?;
        let codes = compile_all(&wasm, compilers)?;
        let mut layout = runners(subject, compilers, codes)?;
        first_run(subject, &mut layout, watch)?;
        layouts.push(layout);
    }

    let mut times = vec![vec![Vec::new(); compilers.len()]; layouts.len()];
    // Processor time, so that a busy machine gets as many rounds.
    let start = thread_time();
    let budget = Duration::from_secs_f64(settings.seconds);
    let mut rounds = 0;
    while rounds < settings.rounds && (rounds < MIN_ROUNDS || thread_time() - start < budget) {
        let layout = rounds % layouts.len();
        let turns = compilers.len();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; turns];
        for turn in 0..turns {
            let which = (rounds / layouts.len() + turn) % turns;
            let mut time = 0.0;
            for _ in 0..repeats {
                let outcome = layouts[layout][which].run(limit, watch)?;
                time += outcome.time.as_secs_f64();
                outcomes[which] = Some(outcome);
            }
            times[layout][which].push(time / repeats as f64);
        }
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        check(compilers, &outcomes)?;
        rounds += 1;
    }

    let cells = (0..compilers.len()).map(|which| {
        let per_layout: Vec<Vec<f64>> = times
            .iter()
            .map(|layout| ratios(&layout[which], &layout[0]))
            .collect();
        let layout_ratios: Vec<f64> = per_layout.iter().filter_map(|each| median(each)).collect();
        let all = per_layout.concat();
        let absolute: Vec<f64> = times
            .iter()
            .flat_map(|layout| layout[which].clone())
            .collect();
        let code_bytes = layouts[0][which].code().bytes();
        let compile = &compiled.times[which];
        Some(Cell {
            variant: compilers[which].variant(),
            time_ms: median(&absolute)? * 1e3,
            time_ratio: geometric_mean(&layout_ratios)?,
            quartiles: [quantile(&all, 0.25)?, quantile(&all, 0.75)?],
            layout_ratios,
            code_bytes,
            code_ratio: code_bytes as f64 / layouts[0][0].code().bytes() as f64,
            compile_ms: median(compile)? * 1e3,
            compile_ratio: median(&ratios(compile, &compiled.times[0]))?,
        })
    });
    Ok(Measurement {
        name: subject.name.clone(),
        is_kernel: subject.is_kernel,
        wasm_bytes: subject.wasm.len(),
        rounds,
        layouts: layouts.len().min(rounds),
        fuel: first.fuel,
        cells: cells
            .collect::<Option<_>>()
            .context("nothing was measured")?,
    })
}

fn ratios(times: &[f64], base: &[f64]) -> Vec<f64> {
    times
        .iter()
        .zip(base)
        .map(|(time, base)| time / base)
        .collect()
}

/// The module in each variant, and how long each compilation of it took, in seconds.
struct Compiled {
    codes: Vec<Arc<Code>>,
    times: Vec<Vec<f64>>,
    /// Time that compiling for all variants once takes.
    seconds: f64,
}

impl Compiled {
    fn new(wasm: &[u8], compilers: &[Compiler], settings: &Settings) -> Result<Compiled> {
        let start = thread_time();
        let codes = compile_all(wasm, compilers)?;
        let seconds = (thread_time() - start).as_secs_f64();
        let mut times = vec![Vec::new(); compilers.len()];
        let start = thread_time();
        let budget = Duration::from_secs_f64(settings.seconds / 2.0);
        for round in 0..COMPILES {
            if round > 0 && thread_time() - start >= budget {
                break;
            }
            for turn in 0..compilers.len() {
                let which = (round + turn) % compilers.len();
                let start = thread_time();
                drop(compilers[which].compile(wasm)?);
                times[which].push((thread_time() - start).as_secs_f64());
            }
        }
        Ok(Compiled {
            codes,
            times,
            seconds,
        })
    }
}

/// Compiles for all variants; those that have the same code share it.
fn compile_all(wasm: &[u8], compilers: &[Compiler]) -> Result<Vec<Arc<Code>>> {
    let mut codes: Vec<Arc<Code>> = Vec::new();
    for (index, compiler) in compilers.iter().enumerate() {
        let same = compilers[..index]
            .iter()
            .position(|other| wasmtime::Engine::same(other.engine(), compiler.engine()));
        codes.push(match same {
            Some(other) => codes[other].clone(),
            None => Arc::new(
                compiler
                    .compile(wasm)
                    .with_context(|| format!("compiling for {}", compiler.variant().name()))?,
            ),
        });
    }
    Ok(codes)
}

fn runners(
    subject: &Arc<Subject>,
    compilers: &[Compiler],
    codes: Vec<Arc<Code>>,
) -> Result<Vec<Runner>> {
    let pairs = compilers.iter().zip(codes);
    pairs
        .map(|(compiler, code)| Runner::new(subject, compiler, code))
        .collect()
}

struct First {
    fuel: u64,
    /// In seconds.
    times: Vec<f64>,
}

/// Runs each variant once.
fn first_run(subject: &Subject, layout: &mut [Runner], watch: &Watch) -> Result<First> {
    let mut outcomes = Vec::new();
    let mut variants = Vec::new();
    for runner in layout {
        variants.push(runner.variant());
        let outcome = runner.run(LIMIT, watch);
        outcomes.push(outcome.with_context(|| format!("running {}", runner.variant().name()))?);
    }
    let fuel = agree(&variants, &outcomes)?;
    if let (Some(expected), Some(outcome)) = (&subject.expected, outcomes.first()) {
        ensure!(
            outcome.result.stdout == *expected,
            "prints {:?}, not {:?}",
            String::from_utf8_lossy(&outcome.result.stdout),
            String::from_utf8_lossy(expected)
        );
    }
    Ok(First {
        fuel: fuel.context("no variant counts")?,
        times: outcomes
            .iter()
            .map(|outcome| outcome.time.as_secs_f64())
            .collect(),
    })
}

fn check(compilers: &[Compiler], outcomes: &[Outcome]) -> Result<()> {
    let variants: Vec<Variant> = compilers.iter().map(Compiler::variant).collect();
    agree(&variants, outcomes).map(drop)
}

/// That all variants have come to the same, and those that count have counted the same: the fuel.
fn agree(variants: &[Variant], outcomes: &[Outcome]) -> Result<Option<u64>> {
    let mut fuel = None;
    for (variant, outcome) in variants.iter().zip(outcomes) {
        ensure!(
            outcome.result == outcomes[0].result,
            Disagreement(format!("{} computes something else", variant.name()))
        );
        if variant.counts() {
            let counted = outcome.fuel.context("no fuel was counted")?;
            let expected = *fuel.get_or_insert(counted);
            ensure!(
                counted == expected,
                Disagreement(format!(
                    "{} counts {counted}, not {expected}",
                    variant.name()
                ))
            );
        }
    }
    Ok(fuel)
}

/// Variants differ in what they compute or count: not a program's fault, but an error of the compiler or the pass.
#[derive(Debug)]
pub struct Disagreement(String);

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Disagreement {}
