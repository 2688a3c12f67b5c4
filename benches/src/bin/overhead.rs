//! What metering costs: time, code size and compile time of each variant over none at all.
//!
//! The variants of a program are compiled in one process and take turns, in an order that rotates. What is reported is the median
//! over the rounds of (time of the variant / time of the baseline in the same round), where time is processor time
//! of the thread. The rounds go through several
//! layouts of the code (see `layout`), whose medians are averaged, because where code lies changes its time by
//! more than metering does. The baseline is shown to contain no metering; the variants must compute the same, and those
//! that count must count the same.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use slackline_benches::kernels::{self, Subject, compiled_kernels};
use slackline_benches::layout::Padding;
use slackline_benches::measure::{Disagreement, Settings, measure};
use slackline_benches::report::{Failure, Report, head, row};
use slackline_benches::run::Watch;
use slackline_benches::variant::{Compiler, Variant, is_unmetered};
use std::path::PathBuf;
use std::sync::Arc;

/// What metering costs, against the same programs without any
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench overhead")]
struct Args {
    /// Programs to measure instead of the kernels: .wasm files, or directories that are searched for them. Commands of
    /// WASI preview 1, which see the directory they are in as `.`; modules of sightglass; modules that export `run`
    files: Vec<PathBuf>,
    /// Rounds for each program; each runs each variant once
    #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Processor time for a program's rounds, in seconds: slow programs get fewer of them, at least 3
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Places in memory that a program's code is tried at; fewer if compiling takes long
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    layouts: u32,
    /// Give each layout another place for code within its function too, by a jump over unused code where it begins. The programs
    /// are then others, with more to do at each call: to find out whether a figure comes from the layout alone
    #[arg(long)]
    pad_within: bool,
    /// Only kernels whose name contains this; with files, these kernels too
    #[arg(long)]
    kernel: Option<String>,
    /// Write everything that was measured to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Print quartiles, and the range over the layouts
    #[arg(long)]
    details: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(
        args.seconds.is_finite() && (0.0..=86_400.0).contains(&args.seconds),
        "--seconds must be between 0 and a day"
    );
    let settings = Settings {
        rounds: args.rounds as usize,
        seconds: args.seconds,
        layouts: args.layouts as usize,
        padding: match args.pad_within {
            true => Padding::Within,
            false => Padding::Before,
        },
    };
    let mut subjects: Vec<Subject> = Vec::new();
    if args.files.is_empty() || args.kernel.is_some() {
        let filter = args.kernel.as_deref().unwrap_or("");
        subjects.extend(kernels::kernels(&compiled_kernels(), filter)?);
        ensure!(!subjects.is_empty(), "no kernel has {filter:?} in its name");
    }
    for path in &args.files {
        subjects.extend(kernels::files(path)?);
    }

    let compilers: Vec<Compiler> = compilers()?;
    let watch = Watch::start()?;
    controls(&subjects)?;
    println!("{}", head(&settings));
    let mut programs = Vec::new();
    let mut failed = Vec::new();
    for subject in subjects.into_iter().map(Arc::new) {
        match measure(&subject, &compilers, &settings, &watch) {
            Ok(measured) => {
                println!("{}", row(&measured, args.details));
                programs.push(measured);
            }
            Err(error) => {
                let failure = Failure {
                    name: subject.name.clone(),
                    reason: format!("{error:#}"),
                    is_fatal: subject.is_kernel || error.is::<Disagreement>(),
                };
                eprintln!("{}: {}", failure.name, failure.reason);
                failed.push(failure);
            }
        }
    }
    let report = Report::new(settings, programs, failed, watch.checks());
    println!("{}", report.footer());
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let fatal = report.failed.iter().filter(|failure| failure.is_fatal);
    ensure!(
        fatal.count() == 0,
        "kernels failed, or variants disagree: see above"
    );
    ensure!(!report.programs.is_empty(), "nothing could be measured");
    Ok(())
}

/// One for each variant; variants with the same code share an engine.
fn compilers() -> Result<Vec<Compiler>> {
    let mut compilers: Vec<Compiler> = Vec::new();
    for variant in Variant::ALL {
        let same = compilers.iter().find(|compiler| {
            variant == Variant::Slacked && compiler.variant() == Variant::CountOnly
        });
        let compiler = match same {
            Some(compiler) => compiler.for_variant(variant),
            None => Compiler::new(variant)?,
        };
        compilers.push(compiler);
    }
    Ok(compilers)
}

/// That the proof that the baseline is not metered would find metering where there is some.
fn controls(subjects: &[Subject]) -> Result<()> {
    for subject in subjects.iter().filter(|subject| subject.is_kernel).take(1) {
        for variant in [Variant::Exact, Variant::Epoch, Variant::EpochExact] {
            ensure!(
                !is_unmetered(&subject.wasm, variant)?,
                "{}: {} is not metered",
                subject.name,
                variant.name()
            );
        }
    }
    Ok(())
}
