//! `slackline gas diff`.

use super::Style;
use super::snapshot;
use super::suite::{Suite, Wanted};
use crate::cli::output::{Output, print};
use anyhow::{Context, ensure};
use clap::Args;
use slackline_gas::Report;
use slackline_gas::snapshot::Order;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A report of `slackline gas report --save`, or a snapshot.
    before: PathBuf,
    /// The same of later; without it, the tests are run.
    after: Option<PathBuf>,
    /// The contract whose tests are run.
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        conflicts_with = "after"
    )]
    dir: PathBuf,
    /// Show what has not changed too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    suite: Suite,
}

impl Diff {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let is_snapshot = |file: &Path| {
            let text = std::fs::read(file).with_context(|| file.display().to_string());
            text.map(|text| text.starts_with(b"# slackline gas snapshot"))
        };
        let (json, text) = if is_snapshot(&self.before)? {
            let before = snapshot::read(&self.before)?;
            let after = match &self.after {
                Some(after) => snapshot::read(after)?,
                None => {
                    let recorded = self.suite.run(&self.dir, Wanted::default())?;
                    slackline_gas::Snapshot::of(&recorded.records)
                }
            };
            let diff = before.diff(&after);
            let shown = if self.all { diff } else { diff.beyond(0.0) };
            let table = match shown.is_empty() {
                true => "No test costs more or less.\n".to_owned(),
                false => shown.table(Order::Descending).render(self.style.format()),
            };
            (serde_json::to_string_pretty(&shown)?, table)
        } else {
            let before = read(&self.before)?;
            let after = match &self.after {
                Some(after) => read(after)?,
                None => {
                    let wanted = Wanted {
                        profile: !before.functions.is_empty(),
                        ..Wanted::default()
                    };
                    let recorded = self.suite.run(&self.dir, wanted)?;
                    let mut after = Report::of(&recorded.records);
                    if wanted.profile {
                        after.add_functions(&recorded.records)?;
                    }
                    after
                }
            };
            let diff = before.diff(&after);
            let text = diff.render(self.style.format(), self.all);
            (serde_json::to_string_pretty(&diff)?, text)
        };
        if output.is_json() {
            print(&(json + "\n"))?;
        } else {
            print(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let report: Report = serde_json::from_str(&text).with_context(|| {
        let file = file.display();
        format!("{file} is neither a report of `slackline gas report --save` nor a snapshot")
    })?;
    let is = slackline_gas::rules();
    ensure!(
        report.rules == is,
        "{} is stale: made under {}, where things cost something else than under {is}. Make it anew",
        file.display(),
        report.rules
    );
    Ok(report)
}
