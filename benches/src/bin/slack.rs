//! How late doomed executions are stopped, and what the watchdog costs those that are not.
//!
//! Three tables:
//!
//! - *overshoot*: each kernel, run over and over, under limits worth from 10 µs to 1 s of its work: how far past the limit it was
//!   stopped, in processor time (see `Overshoot::ns`) and fuel, and how many signals that took;
//! - *within*: a loop that ends at some part of its limit, with the watchdog and without: the difference in time, and the signals it got;
//! - *arming*: what watching costs an execution that does nothing.
//!
//! What is compared takes turns in one process; times are medians.

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use slackline_benches::kernels::KERNELS;
use slackline_metering::{
    AsyncFuelChecker, CostTable, Driver, Limit, MeteredModule, Metering, Mode, Watchdog,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use wasmtime::{Config, Linker, Store, Trap, TypedFunc};

/// Runs a kernel `n` times.
const REPEAT: &str = r#"(module
  (import "kernel" "run" (func $run (result i64)))
  (func (export "repeat") (param $n i64)
    (loop $l
      (drop (call $run))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))))"#;

/// A loop with a multiplication, a shift and an exclusive or, each of which needs the one before.
const SPIN: &str = r#"(module
  (func (export "repeat") (param $n i64) (local $x i64)
    (loop $l
      (local.set $x (i64.xor (i64.mul (local.get $x) (i64.const 0x5851f42d4c957f2d))
        (i64.shr_u (local.get $n) (i64.const 7))))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))))"#;

/// More than anything here uses.
const PLENTY: u64 = 1 << 50;

#[derive(Parser)]
struct Args {
    /// Who looks at executions
    #[arg(long, value_enum, default_value_t = Who::Timer)]
    driver: Who,
    /// Threads that keep processors busy meanwhile
    #[arg(long, default_value_t = 0)]
    busy: usize,
    /// Only kernels whose name contains this
    #[arg(long, default_value = "")]
    kernel: String,
    /// Executions under each limit that takes less than 10 ms; a tenth of it, and a fiftieth, for longer ones
    #[arg(long, default_value_t = 500)]
    rounds: usize,
    /// Leave out the tables other than overshoot
    #[arg(long)]
    only_overshoot: bool,
    /// Write the results to this file too
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Who {
    /// The thread's own timer
    Timer,
    /// The watchdog's thread
    Thread,
}

#[derive(Serialize)]
struct Report {
    driver: &'static str,
    busy_threads: usize,
    processors: usize,
    overshoot: Vec<Overshoot>,
    within: Vec<Within>,
    arming: Option<Arming>,
}

/// Of one kernel under one limit.
#[derive(Serialize)]
struct Overshoot {
    kernel: &'static str,
    limit_us: f64,
    limit_fuel: u64,
    executions: usize,
    /// Of those, the ones that a check stopped; the others ran into a trampoline.
    stopped_by_check: usize,
    us: Spread<f64>,
    fuel: Spread<u64>,
    signals_per_execution: f64,
}

#[derive(Serialize)]
struct Spread<T> {
    p50: T,
    p99: T,
    max: T,
}

/// Of executions of one length that use one part of their limit.
#[derive(Serialize)]
struct Within {
    length_us: f64,
    used_percent: f64,
    executions: usize,
    unwatched_us: f64,
    /// Median of the ratios of neighbours, less one.
    watched_percent: f64,
    signals_per_execution: f64,
}

/// Per execution, in nanoseconds.
#[derive(Serialize)]
struct Arming {
    unwatched_ns: f64,
    /// With a limit worth 100 ms at the highest burn rate.
    far_ns: f64,
    /// With one worth 300 µs.
    near_ns: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..args.busy {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = measure(&args);
        stop.store(true, Relaxed);
        result
    })
}

fn measure(args: &Args) -> Result<()> {
    let bench = Bench::new(args)?;
    let mut report = Report {
        driver: match args.driver {
            Who::Timer => "timer",
            Who::Thread => "thread",
        },
        busy_threads: args.busy,
        processors: std::thread::available_parallelism()?.get(),
        overshoot: Vec::new(),
        within: Vec::new(),
        arming: None,
    };
    println!(
        "driver {}, {} busy threads, {} processors",
        report.driver, report.busy_threads, report.processors
    );
    println!("\novershoot of executions past their limit");
    println!(
        "{:<12} {:>9} {:>5} {:>7}  {:>26}  {:>30}  {:>8}",
        "kernel", "limit µs", "runs", "checked", "µs p50/p99/max", "fuel p50/p99/max", "signals"
    );
    for (name, wat) in KERNELS
        .iter()
        .filter(|(name, _)| name.contains(&args.kernel))
    {
        let program = Program::kernel(&bench.metering, wat)?;
        let burn = program.fuel_per_ns()?;
        for limit_us in [10.0, 100.0, 1e3, 1e4, 1e5, 1e6] {
            let rounds = match limit_us {
                ..1e4 => args.rounds,
                ..1e5 => args.rounds / 10,
                _ => args.rounds / 50,
            };
            let row = bench.overshoot(name, &program, limit_us, burn, rounds.max(3))?;
            println!(
                "{:<12} {:>9} {:>5} {:>7}  {:>26}  {:>30}  {:>8.2}",
                row.kernel,
                row.limit_us,
                row.executions,
                row.stopped_by_check,
                format!("{:.1}/{:.1}/{:.1}", row.us.p50, row.us.p99, row.us.max),
                format!("{}/{}/{}", row.fuel.p50, row.fuel.p99, row.fuel.max),
                row.signals_per_execution
            );
            report.overshoot.push(row);
        }
    }
    if !args.only_overshoot {
        let spin = Program::new(&bench.metering, SPIN, None)?;
        println!("\nexecutions within their limit, watched over unwatched");
        println!(
            "{:>9} {:>11} {:>6} {:>13} {:>9} {:>8}",
            "length µs", "% of limit", "runs", "unwatched µs", "watched", "signals"
        );
        for length_us in [10.0, 100.0, 1e3, 1e4] {
            for used_percent in [0.1, 1.0, 10.0, 90.0] {
                let row = bench.within(&spin, length_us, used_percent, args.rounds)?;
                println!(
                    "{:>9} {:>11} {:>6} {:>13.2} {:>+7.2} % {:>8.3}",
                    row.length_us,
                    row.used_percent,
                    row.executions,
                    row.unwatched_us,
                    row.watched_percent,
                    row.signals_per_execution
                );
                report.within.push(row);
            }
        }
        let arming = bench.arming(&spin)?;
        println!(
            "\nan execution that does nothing: {:.0} ns, watched with a far deadline {:+.0} ns, with a near one {:+.0} ns",
            arming.unwatched_ns,
            arming.far_ns - arming.unwatched_ns,
            arming.near_ns - arming.unwatched_ns
        );
        report.arming = Some(arming);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Wasm with an export `repeat`.
struct Program {
    metering: Metering,
    kernel: Option<MeteredModule>,
    main: MeteredModule,
}

/// An instance of it, under a limit.
struct Execution {
    store: Store<()>,
    repeat: TypedFunc<i64, ()>,
    limit: Limit,
}

impl Program {
    fn new(metering: &Metering, main: &str, kernel: Option<&str>) -> Result<Program> {
        Ok(Program {
            metering: metering.clone(),
            kernel: kernel
                .map(|wat| MeteredModule::new(metering, wat))
                .transpose()?,
            main: MeteredModule::new(metering, main)?,
        })
    }

    fn kernel(metering: &Metering, wat: &str) -> Result<Program> {
        Program::new(metering, REPEAT, Some(wat))
    }

    fn execution(&self, limit: u64) -> Result<Execution> {
        let mut store = Store::new(self.metering.engine(), ());
        let limit = Limit::arm(&self.metering, &mut store, limit)?;
        let mut linker = Linker::new(self.metering.engine());
        if let Some(kernel) = &self.kernel {
            linker.module(&mut store, "kernel", kernel)?;
        }
        let repeat = linker
            .instantiate(&mut store, &self.main)?
            .get_typed_func(&mut store, "repeat")?;
        Ok(Execution {
            store,
            repeat,
            limit,
        })
    }

    /// The average over 100 ms or more.
    fn fuel_per_ns(&self) -> Result<f64> {
        let mut times = 1;
        loop {
            let mut execution = self.execution(PLENTY)?;
            let start = Instant::now();
            execution.repeat.call(&mut execution.store, times)?;
            let elapsed = start.elapsed();
            if elapsed > Duration::from_millis(100) {
                let used = execution.limit.used(&mut execution.store);
                return Ok(used.context("out of fuel")? as f64 / elapsed.as_nanos() as f64);
            }
            times *= 2;
        }
    }
}

struct Bench {
    metering: Metering,
    watchdog: Watchdog,
    checker: AsyncFuelChecker,
}

impl Bench {
    fn new(args: &Args) -> Result<Bench> {
        Ok(Bench {
            metering: Metering::new(Config::new(), Mode::Slacked, &CostTable::v1())?,
            watchdog: Watchdog::with_driver(match args.driver {
                Who::Timer => Driver::Timer,
                Who::Thread => Driver::Thread,
            })?,
            checker: AsyncFuelChecker::for_current_thread()?,
        })
    }

    fn overshoot(
        &self,
        kernel: &'static str,
        program: &Program,
        limit_us: f64,
        fuel_per_ns: f64,
        executions: usize,
    ) -> Result<Overshoot> {
        let limit_fuel = (limit_us * 1e3 * fuel_per_ns) as u64;
        let sent = self.checker.stats().sent;
        let (mut us, mut fuel) = (Vec::new(), Vec::new());
        for _ in 0..executions {
            let mut execution = program.execution(limit_fuel)?;
            let before = self.checker.stats();
            let watch = self.watchdog.watch(&self.checker, limit_fuel);
            let result = execution.repeat.call(&mut execution.store, i64::MAX);
            drop(watch);
            let Err(error) = result else {
                bail!("{kernel} ended");
            };
            ensure!(error.downcast_ref() == Some(&Trap::OutOfFuel), "{error:?}");
            let after = self.checker.stats();
            if after.stopped > before.stopped {
                us.push(after.last_overshoot_ns as f64 / 1e3);
                fuel.push(after.last_overshoot);
            }
        }
        us.sort_by(f64::total_cmp);
        fuel.sort_unstable();
        Ok(Overshoot {
            kernel,
            limit_us,
            limit_fuel,
            executions,
            stopped_by_check: us.len(),
            us: Spread::of(&us),
            fuel: Spread::of(&fuel),
            signals_per_execution: (self.checker.stats().sent - sent) as f64 / executions as f64,
        })
    }

    fn within(
        &self,
        spin: &Program,
        length_us: f64,
        used_percent: f64,
        rounds: usize,
    ) -> Result<Within> {
        let burn = spin.fuel_per_ns()?;
        let one = {
            let mut execution = spin.execution(PLENTY)?;
            execution.repeat.call(&mut execution.store, 1_000_000)?;
            let used = execution.limit.used(&mut execution.store);
            used.context("out of fuel")? as f64 / 1e6
        };
        let repeat = (length_us * 1e3 * burn / one) as i64;
        let fuel = (repeat as f64 * one * 100.0 / used_percent) as u64;
        let rounds = match length_us {
            ..1e3 => rounds * 10,
            ..1e4 => rounds,
            _ => rounds / 5,
        };
        let mut execution = spin.execution(PLENTY)?;
        let (mut unwatched, mut ratios) = (Vec::new(), Vec::new());
        let sent = self.checker.stats().sent;
        let mut time = |watched: bool| -> Result<f64> {
            execution.limit = Limit::arm(&self.metering, &mut execution.store, fuel)?;
            let start = Instant::now();
            let watch = watched.then(|| self.watchdog.watch(&self.checker, fuel));
            execution.repeat.call(&mut execution.store, repeat)?;
            drop(watch);
            Ok(start.elapsed().as_secs_f64())
        };
        for round in 0..rounds {
            // Who goes first changes: what the one leaves behind the other has to bear.
            let first = time(round % 2 == 0)?;
            let second = time(round % 2 == 1)?;
            let (with, without) = if round % 2 == 0 {
                (first, second)
            } else {
                (second, first)
            };
            unwatched.push(without * 1e6);
            ratios.push(with / without);
        }
        Ok(Within {
            length_us,
            used_percent,
            executions: rounds,
            unwatched_us: middle(&mut unwatched),
            watched_percent: (middle(&mut ratios) - 1.0) * 100.0,
            signals_per_execution: (self.checker.stats().sent - sent) as f64 / rounds as f64,
        })
    }

    fn arming(&self, spin: &Program) -> Result<Arming> {
        const CALLS: u32 = 2_000;
        let mut execution = spin.execution(PLENTY)?;
        let mut time = |fuel: Option<u64>| -> Result<f64> {
            let start = Instant::now();
            for _ in 0..CALLS {
                let watch = fuel.map(|fuel| self.watchdog.watch(&self.checker, fuel));
                execution.repeat.call(&mut execution.store, 1)?;
                drop(watch);
            }
            Ok(start.elapsed().as_nanos() as f64 / f64::from(CALLS))
        };
        let (mut unwatched, mut far, mut near) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..51 {
            unwatched.push(time(None)?);
            far.push(time(Some(32 * 100_000_000))?);
            near.push(time(Some(32 * 300_000))?);
        }
        Ok(Arming {
            unwatched_ns: middle(&mut unwatched),
            far_ns: middle(&mut far),
            near_ns: middle(&mut near),
        })
    }
}

impl<T: Copy + Default> Spread<T> {
    fn of(sorted: &[T]) -> Spread<T> {
        let at = |q: f64| {
            let rank = (sorted.len() as f64 * q).ceil() as usize;
            sorted
                .get(rank.saturating_sub(1))
                .copied()
                .unwrap_or_default()
        };
        Spread {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
