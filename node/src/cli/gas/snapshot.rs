//! `slackline gas snapshot`.

use super::Style;
use super::suite::{Suite, Wanted};
use crate::cli::output::{Output, grouped, print};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use slackline_gas::Snapshot as GasSnapshot;
use slackline_gas::snapshot::{Order, tolerance};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file's name.
const FILE: &str = ".gas-snapshot";

#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// The contract's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The snapshot [default: .gas-snapshot in the contract's directory].
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Compare with the file, and write nothing.
    #[arg(long, conflicts_with = "check")]
    diff: bool,
    /// Compare with the file, write nothing, and end with 1 if anything is different.
    #[arg(long)]
    check: bool,
    /// What may be different, in percent of what it was.
    #[arg(long, value_name = "PERCENT", value_parser = tolerance, default_value = "0")]
    tolerance: f64,
    /// The cheapest first, or what has changed least.
    #[arg(long, conflicts_with = "desc")]
    asc: bool,
    /// The dearest first, or what has changed most.
    #[arg(long)]
    desc: bool,
    /// Only tests that cost at least this much fuel.
    #[arg(long, value_name = "FUEL", value_parser = crate::cli::number::<u64>)]
    min: Option<u64>,
    /// Only tests that cost at most this much fuel.
    #[arg(long, value_name = "FUEL", value_parser = crate::cli::number::<u64>)]
    max: Option<u64>,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    suite: Suite,
}

impl Snapshot {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let file = self.file.clone().unwrap_or_else(|| self.dir.join(FILE));
        let compared = self.diff || self.check;
        // Before the tests, which take longer.
        let before = match compared {
            true => Some(read(&file)?),
            false => None,
        };
        let recorded = self.suite.run(&self.dir, Wanted::default())?;
        let mut snapshot = GasSnapshot::of(&recorded.records);
        let (least, most) = (self.min.unwrap_or(0), self.max.unwrap_or(u64::MAX));
        snapshot.retain(least, most);
        let order = match (self.asc, self.desc) {
            (true, _) => Order::Ascending,
            (_, true) => Order::Descending,
            _ => Order::Name,
        };
        let Some(mut before) = before else {
            std::fs::write(&file, snapshot.to_text(order))
                .with_context(|| file.display().to_string())?;
            let shown = json!({ "file": file, "entries": snapshot.len() });
            if output.is_json() {
                print(&format!("{shown:#}\n"))?;
            } else {
                let count = grouped(snapshot.len() as u64);
                print(&format!("{}: {count} entries\n", file.display()))?;
            }
            return Ok(ExitCode::SUCCESS);
        };
        before.retain(least, most);
        let changed = before.diff(&snapshot).beyond(self.tolerance);
        if output.is_json() {
            print(&(serde_json::to_string_pretty(&changed)? + "\n"))?;
        } else if changed.is_empty() {
            let count = grouped(snapshot.len() as u64);
            print(&format!("as in {}: {count} entries\n", file.display()))?;
        } else {
            print(&changed.table(order).render(self.style.format()))?;
        }
        if self.check && !changed.is_empty() {
            eprintln!(
                "error: {} of {} entries are not as in {}: if they should be, `slackline gas snapshot` writes it anew",
                changed.rows.len(),
                snapshot.len().max(before.len()),
                file.display()
            );
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The snapshot in a file.
pub(super) fn read(file: &Path) -> anyhow::Result<GasSnapshot> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "there is no {}: `slackline gas snapshot` without --diff and --check writes it",
            file.display()
        ),
        _ => anyhow::Error::new(error).context(file.display().to_string()),
    })?;
    GasSnapshot::parse(&text).with_context(|| file.display().to_string())
}
