//! What metering costs: time and code size of each variant over none at all.
//!
//! The variants take turns within one process, in an order that rotates; what is reported is the median over the
//! rounds of (time of the variant / time of the baseline in the same round).

use anyhow::{Result, ensure};
use clap::Parser;
use slackline_benches::{KERNELS, LIMIT, Program, Variant, is_unmetered, median};
use slackline_metering::{AsyncFuelChecker, Watchdog};

#[derive(Parser)]
struct Args {
    /// Rounds; each runs each variant once.
    #[arg(long, default_value_t = 101)]
    rounds: usize,
    /// Only kernels whose name contains this.
    #[arg(long, default_value = "")]
    kernel: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let watchdog = Watchdog::start()?;
    let checker = AsyncFuelChecker::for_current_thread()?;

    println!(
        "time over no metering: median of {} ratios [quartiles]; code: bytes of function bodies",
        args.rounds
    );
    println!(
        "{:<12} {:>9} {:>22} {:>22} {:>22}  {:>12}  {:>22}",
        "kernel", "none ms", "slacked", "exact", "epoch", "fuel/ns", "code none/slacked/exact"
    );
    for (name, wat) in KERNELS
        .iter()
        .filter(|(name, _)| name.contains(&args.kernel))
    {
        ensure!(
            is_unmetered(wat, Variant::None)?,
            "{name}: the baseline is metered"
        );
        for variant in &Variant::ALL[2..] {
            ensure!(
                !is_unmetered(wat, *variant)?,
                "{name}: {} is not metered",
                variant.name()
            );
        }
        let mut programs: Vec<Program> = Variant::ALL
            .iter()
            .map(|&variant| Program::new(wat, variant))
            .collect::<Result<_>>()?;
        let expected = programs[0].run()?.0;

        let mut times = vec![Vec::new(); programs.len()];
        for round in 0..args.rounds {
            for turn in 0..programs.len() {
                let which = (round + turn) % programs.len();
                let watch = (Variant::ALL[which] == Variant::Slacked)
                    .then(|| watchdog.watch(&checker, LIMIT));
                let (result, time) = programs[which].run()?;
                drop(watch);
                ensure!(
                    result == expected,
                    "{name}: {} computes {result}, not {expected}",
                    Variant::ALL[which].name()
                );
                times[which].push(time.as_secs_f64());
            }
        }
        let runs = args.rounds as u64;
        let fuel = programs[1].fuel().unwrap_or(0) / runs;
        ensure!(
            programs[2].fuel().unwrap_or(0) / runs == fuel,
            "{name}: the modes count differently"
        );

        let base = median(&mut times[0].clone())?;
        let column = |variant: usize| -> Result<String> {
            let mut ratios: Vec<f64> = times[variant]
                .iter()
                .zip(&times[0])
                .map(|(time, base)| time / base)
                .collect();
            let middle = median(&mut ratios)?;
            let percent = |ratio: f64| (ratio - 1.0) * 100.0;
            let quartile = |n: usize| percent(ratios[ratios.len() * n / 4]);
            Ok(format!(
                "{:+.1} % [{:+.1}, {:+.1}]",
                percent(middle),
                quartile(1),
                quartile(3)
            ))
        };
        println!(
            "{name:<12} {:>9.3} {:>22} {:>22} {:>22}  {:>12.2}  {:>22}",
            base * 1e3,
            column(1)?,
            column(2)?,
            column(3)?,
            fuel as f64 / (base * 1e9),
            format!(
                "{}/{}/{}",
                programs[0].code_bytes, programs[1].code_bytes, programs[2].code_bytes
            ),
        );
    }
    println!(
        "asynchronous checks sent during all of it: {}",
        checker.stats().sent
    );
    Ok(())
}
