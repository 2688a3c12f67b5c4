//! What operators and host functions take on this machine, beside what they cost.
//!
//! For each operator the time and the fuel of a small loop are measured, those of the same loop without it subtracted. *dependent* is
//! a chain in which each needs the result of the one before, *independent* four such chains side by side. What counts is the
//! dependent one: that is what a contract can do that wants its fuel to last. A chain has more operators than the one in
//! question (`local.get`, `i64.const`), which take fuel and no time; so does all code.
//!
//! Times are the least of several runs: on a machine that does other things too, these only ever add.
//!
//! The rule for the cost tables is that nothing takes more than twice as long per fuel as the median does, unless the last
//! column says why.

mod bulk;
mod host;
mod operators;

use anyhow::{Context, Result};
use clap::Parser;
use operators::{Form, Operator};
use serde::Serialize;
use slackline_metering::{CostTable, Limit, MeteredModule, Metering, Mode};
use std::path::PathBuf;
use std::time::Instant;
use wasmtime::{Config, Instance, Store};

/// More than anything here uses.
const PLENTY: u64 = 1 << 60;

/// How much longer per fuel than the median is too long.
const TOO_LONG: f64 = 2.0;

#[derive(Parser)]
struct Args {
    /// Runs of each program
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Only operators whose class or name contains this; the median is then theirs
    #[arg(long, default_value = "")]
    only: String,
    /// Leave out host functions
    #[arg(long)]
    no_host: bool,
    /// Write the results to this file too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Of one operator, bulk operation or host function.
#[derive(Debug, Serialize)]
struct Row {
    class: String,
    name: String,
    /// Of a repetition: the operator, and what makes a chain of it.
    fuel: f64,
    dependent_ns: f64,
    independent_ns: Option<f64>,
    ns_per_fuel: f64,
    /// Over the median of operators.
    over_median: f64,
    excuse: Option<&'static str>,
}

#[derive(Serialize)]
struct Report {
    cost_table_version: u32,
    median_ns_per_fuel: f64,
    rows: Vec<Row>,
}

fn main() -> Result<()> {
    // A thread with an execution's stack, so that none is started for each call.
    slackline_executor::thread::spawn("calibrate".to_owned(), run)?
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run() -> Result<()> {
    let args = Args::parse();
    let matches = |class: &str, name: &str| class.contains(&args.only) || name.contains(&args.only);
    let metering = Metering::new(config(), Mode::Slacked, &CostTable::v1())?;
    let mut rows = Vec::new();
    for operator in operators::all() {
        if matches(operator.class, &operator.name) {
            let row = operator_row(&metering, &operator, args.rounds);
            rows.push(row.with_context(|| operator.name.clone())?);
        }
    }
    let mut rates: Vec<f64> = rows.iter().map(|row| row.ns_per_fuel).collect();
    rates.sort_by(f64::total_cmp);
    let median = rates.get(rates.len() / 2).copied();
    for operation in bulk::ALL {
        if matches("bulk", operation.name) {
            rows.extend(bulk_rows(&metering, operation, args.rounds)?);
        }
    }
    if !args.no_host {
        rows.extend(host::rows(args.rounds, |name| matches("host", name))?);
    }
    let median = median.context("no operators: nothing to compare with")?;
    for row in &mut rows {
        row.over_median = row.ns_per_fuel / median;
    }
    print(&rows, median);
    if let Some(path) = &args.json {
        let report = Report {
            cost_table_version: CostTable::v1().version(),
            median_ns_per_fuel: median,
            rows,
        };
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn print(rows: &[Row], median: f64) {
    println!(
        "{:<22} {:<44} {:>9} {:>12} {:>12} {:>8} {:>7}",
        "class", "operator", "fuel", "dependent ns", "independent", "ns/fuel", "/median"
    );
    let mut over = 0;
    for row in rows {
        let too_long = row.over_median > TOO_LONG;
        if too_long && row.excuse.is_none() {
            over += 1;
        }
        println!(
            "{:<22} {:<44} {:>9.2} {:>12.3} {:>12} {:>8.4} {:>7.2}{}",
            row.class,
            row.name.chars().take(44).collect::<String>(),
            row.fuel,
            row.dependent_ns,
            row.independent_ns
                .map_or(String::new(), |ns| format!("{ns:.3}")),
            row.ns_per_fuel,
            row.over_median,
            match (too_long, row.excuse) {
                (false, _) => String::new(),
                (true, Some(why)) => format!("  {why}"),
                (true, None) => "  TOO LONG".to_owned(),
            }
        );
    }
    println!(
        "\nmedian of operators: {median:.4} ns per fuel; {over} take more than {TOO_LONG} times as long without a reason"
    );
}

/// As the executor's engine, as far as that changes code.
fn config() -> Config {
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(true)
        .generate_address_map(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false);
    config
}

fn operator_row(metering: &Metering, operator: &Operator, rounds: usize) -> Result<Row> {
    let empty = measure(metering, operator, Form::Empty, rounds)?;
    let per_operator = |form: Form| -> Result<(f64, f64)> {
        let (ns, fuel) = measure(metering, operator, form, rounds)?;
        let count = operator.per_round(form);
        Ok(((ns - empty.0) / count, (fuel - empty.1) / count))
    };
    let (dependent_ns, fuel) = per_operator(Form::Dependent)?;
    let (independent_ns, independent_fuel) = per_operator(Form::Independent)?;
    Ok(Row {
        class: operator.class.to_owned(),
        name: operator.name.clone(),
        fuel,
        dependent_ns,
        independent_ns: Some(independent_ns),
        ns_per_fuel: (dependent_ns / fuel).max(independent_ns / independent_fuel),
        over_median: 0.0,
        excuse: operator.excuse,
    })
}

/// Time in nanoseconds and fuel of one round of the loop.
fn measure(
    metering: &Metering,
    operator: &Operator,
    form: Form,
    rounds: usize,
) -> Result<(f64, f64)> {
    let module = MeteredModule::new(metering, operator.module(form))?;
    let mut store = Store::new(metering.engine(), ());
    let limit = Limit::arm(metering, &mut store, PLENTY)?;
    let instance = Instance::new(&mut store, &module, &[])?;
    instance
        .get_typed_func::<(), ()>(&mut store, "setup")?
        .call(&mut store, ())?;
    let run = instance.get_typed_func::<i32, ()>(&mut store, "run")?;
    // So many times round that it takes long enough for the clock.
    let mut times = 16;
    let fuel = |store: &mut Store<()>| limit.used(store).context("out of fuel");
    loop {
        let start = Instant::now();
        run.call(&mut store, times)?;
        if start.elapsed().as_micros() >= 50 || times >= 1 << 20 {
            break;
        }
        times *= 2;
    }
    let before = fuel(&mut store)?;
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        run.call(&mut store, times)?;
        least = least.min(start.elapsed().as_nanos() as f64);
    }
    let fuel = (fuel(&mut store)? - before) as f64 / rounds as f64;
    Ok((least / f64::from(times), fuel / f64::from(times)))
}

/// One row for a short operation, which is mostly what it takes to begin one, and one for each unit more.
fn bulk_rows(metering: &Metering, bulk: &bulk::Bulk, rounds: usize) -> Result<[Row; 2]> {
    let module = MeteredModule::new(metering, bulk.module())?;
    let times = if bulk.once { 32 } else { 256 };
    let measure = |length: i32| -> Result<(f64, f64)> {
        let (mut least, mut used) = (f64::INFINITY, 0);
        let mut instance = None;
        for _ in 0..rounds + 1 {
            let (store, limit, run) = match &mut instance {
                Some(known) if !bulk.once => known,
                _ => {
                    let mut store = Store::new(metering.engine(), ());
                    let limit = Limit::arm(metering, &mut store, PLENTY)?;
                    let run = Instance::new(&mut store, &module, &[])?
                        .get_typed_func::<(i32, i32), ()>(&mut store, "run")?;
                    instance.insert((store, limit, run))
                }
            };
            let before = limit.used(&mut *store).context("out of fuel")?;
            let start = Instant::now();
            run.call(&mut *store, (times, length))?;
            least = least.min(start.elapsed().as_nanos() as f64);
            used = limit.used(&mut *store).context("out of fuel")? - before;
        }
        Ok((least / f64::from(times), used as f64 / f64::from(times)))
    };
    let (short, long) = (measure(bulk.lengths.0)?, measure(bulk.lengths.1)?);
    let units = f64::from(bulk.lengths.1 - bulk.lengths.0);
    let row = |name: String, ns: f64, fuel: f64| Row {
        class: "bulk".to_owned(),
        name,
        fuel,
        dependent_ns: ns,
        independent_ns: None,
        ns_per_fuel: ns / fuel,
        over_median: 0.0,
        excuse: bulk.excuse,
    };
    Ok([
        row(
            format!("{} of {} {}", bulk.name, bulk.lengths.0, bulk.unit),
            short.0,
            short.1,
        ),
        row(
            format!("{}, each {}", bulk.name, bulk.unit),
            (long.0 - short.0) / units,
            (long.1 - short.1) / units,
        ),
    ])
}
