//! The table, its summary, and JSON.

use crate::measure::{Cell, Measurement, Settings};
use crate::stats::geometric_mean;
use crate::variant::Variant;
use serde::Serialize;
use slackline_metering_pass::PASS_VERSION;
use std::fmt::Write as _;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine's processor, as it calls itself.
    pub processor: String,
    /// The version of the pass.
    pub pass_version: u32,
    /// How much was measured.
    pub settings: Settings,
    /// The programs.
    pub programs: Vec<Measurement>,
    /// Programs that could not be measured, and why.
    pub failed: Vec<Failure>,
    /// By variant.
    pub summary: Vec<Summary>,
    /// Checks that the watchdog has sent in all runs of the slacked variant.
    pub checks: u64,
}

/// A program that could not be measured.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The program.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Whether that is an error of ours: a kernel of ours has failed, or variants differ.
    pub is_fatal: bool,
}

/// Aggregates over all programs for a variant. Ratios are to the baseline.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The variant.
    pub variant: Variant,
    /// Geometric mean of the programs' ratios.
    pub time_ratio: f64,
    /// The program with the highest ratio.
    pub worst: String,
    /// Its ratio.
    pub worst_ratio: f64,
    /// Geometric mean of the ratios of code size.
    pub code_ratio: f64,
    /// Code of all programs together.
    pub total_code_ratio: f64,
    /// Geometric mean of the ratios of compile time.
    pub compile_ratio: f64,
    /// Compile time of all programs together.
    pub total_compile_ratio: f64,
}

impl Report {
    /// Adds up what was measured.
    pub fn new(
        settings: Settings,
        programs: Vec<Measurement>,
        failed: Vec<Failure>,
        checks: u64,
    ) -> Report {
        let summary = Variant::ALL
            .into_iter()
            .filter_map(|variant| summarise(variant, &programs))
            .collect();
        Report {
            processor: processor(),
            pass_version: PASS_VERSION,
            settings,
            programs,
            failed,
            summary,
            checks,
        }
    }

    /// The lines below the table.
    pub fn footer(&self) -> String {
        let mut text = String::new();
        let columns: Vec<&Summary> = self.columns();
        if !columns.is_empty() {
            type Value = fn(&Summary) -> f64;
            let rows: [(&str, Value); 5] = [
                ("geometric mean, time", |of| of.time_ratio),
                ("  code size", |of| of.code_ratio),
                ("  code size, together", |of| of.total_code_ratio),
                ("  compile time", |of| of.compile_ratio),
                ("  compile time, together", |of| of.total_compile_ratio),
            ];
            for (name, value) in rows {
                let values: String = columns
                    .iter()
                    .map(|summary| format!(" {:>12}", percent(value(summary))))
                    .collect();
                let _ = writeln!(text, "{name:<WIDE$}{:>9}{values}", "");
            }
            for summary in columns {
                let _ = writeln!(
                    text,
                    "worst of {:<12} {:>9}  {}",
                    summary.variant.name(),
                    percent(summary.worst_ratio),
                    summary.worst
                );
            }
        }
        for failure in &self.failed {
            let kind = if failure.is_fatal {
                "FAILED"
            } else {
                "not measured"
            };
            let _ = writeln!(text, "{kind}: {}: {}", failure.name, failure.reason);
        }
        let _ = write!(
            text,
            "{} programs on {}; checks sent during all slacked runs: {}",
            self.programs.len(),
            self.processor,
            self.checks
        );
        text
    }

    fn columns(&self) -> Vec<&Summary> {
        let all = self.summary.iter();
        all.filter(|summary| summary.variant != Variant::None)
            .collect()
    }
}

const WIDE: usize = 28;

/// The table's head.
pub fn head(settings: &Settings) -> String {
    let columns: String = Variant::ALL[1..]
        .iter()
        .map(|variant| format!(" {:>12}", variant.name()))
        .collect();
    format!(
        "time over no metering: medians of up to {} ratios, averaged over up to {} layouts; \
         code size and compile time of slacked/exact\n\
         {:<WIDE$}{:>9}{columns} {:>8} {:>14} {:>14}",
        settings.rounds, settings.layouts, "program", "none ms", "fuel/ns", "code", "compile"
    )
}

/// A program's line, and one more with the quartiles and another with the range over layouts, if they are wanted.
pub fn row(measured: &Measurement, details: bool) -> String {
    let line = |name: &str, first: String, show: &dyn Fn(&Cell) -> String| {
        let columns: String = measured.cells[1..]
            .iter()
            .map(|cell| format!(" {:>12}", show(cell)))
            .collect();
        format!("{name:<WIDE$}{first:>9}{columns}")
    };
    let base = measured.cells[0].time_ms;
    let ratios = |show: fn(&Cell) -> f64| {
        let of = |variant| measured.cell(variant).map_or(f64::NAN, show);
        format!(
            "{}/{}",
            percent(of(Variant::Slacked)).replace(" %", ""),
            percent(of(Variant::Exact)).replace(" %", "")
        )
    };
    let mut text = line(&measured.name, format!("{base:.3}"), &|cell| {
        percent(cell.time_ratio)
    });
    let _ = write!(
        text,
        " {:>8.2} {:>14} {:>14}",
        measured.fuel as f64 / (base * 1e6),
        ratios(|cell| cell.code_ratio),
        ratios(|cell| cell.compile_ratio)
    );
    if details {
        let range = |low: f64, high: f64| {
            let percent = |ratio: f64| (ratio - 1.0) * 100.0;
            format!("{:+.1}..{:+.1}", percent(low), percent(high))
        };
        let quartiles = line("  quartiles", format!("n={}", measured.rounds), &|cell| {
            range(cell.quartiles[0], cell.quartiles[1])
        });
        let layouts = line("  layouts", format!("n={}", measured.layouts), &|cell| {
            let all = cell.layout_ratios.iter().copied();
            range(
                all.clone().fold(f64::INFINITY, f64::min),
                all.fold(f64::NEG_INFINITY, f64::max),
            )
        });
        let _ = write!(text, "\n{quartiles}\n{layouts}");
    }
    text
}

fn percent(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

fn summarise(variant: Variant, programs: &[Measurement]) -> Option<Summary> {
    let cells = |of: Variant| programs.iter().filter_map(move |program| program.cell(of));
    let mean =
        |show: fn(&Cell) -> f64| geometric_mean(&cells(variant).map(show).collect::<Vec<f64>>());
    let total = |show: fn(&Cell) -> f64| {
        cells(variant).map(show).sum::<f64>() / cells(Variant::None).map(show).sum::<f64>()
    };
    let (worst_ratio, worst) = programs
        .iter()
        .filter_map(|program| Some((program.cell(variant)?.time_ratio, &program.name)))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Summary {
        variant,
        time_ratio: mean(|cell| cell.time_ratio)?,
        worst: worst.clone(),
        worst_ratio,
        code_ratio: mean(|cell| cell.code_ratio)?,
        total_code_ratio: total(|cell| cell.code_bytes as f64),
        compile_ratio: mean(|cell| cell.compile_ratio)?,
        total_compile_ratio: total(|cell| cell.compile_ms),
    })
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or(std::env::consts::ARCH.to_owned(), |(_, name)| {
            name.trim().to_owned()
        })
}
