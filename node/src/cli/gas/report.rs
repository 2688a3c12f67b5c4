//! `slackline gas report`.

use super::Style;
use super::suite::{Suite, Wanted};
use crate::cli::output::{Output, print};
use anyhow::{Context, anyhow};
use clap::Args;
use slackline_gas::Report as GasReport;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The contract's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Only this contract or method, as in `amm` or `amm.swap`.
    #[arg(long, value_name = "CONTRACT[.METHOD]")]
    only: Option<String>,
    /// Show each host function.
    #[arg(long)]
    host: bool,
    /// Record what each function uses too, which takes longer: --save, --json and `slackline gas diff` have it.
    #[arg(long)]
    functions: bool,
    /// Write the report as JSON to this file too, for `slackline gas diff`.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    suite: Suite,
}

impl Report {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let wanted = Wanted {
            profile: self.functions,
            ..Wanted::default()
        };
        let recorded = self.suite.run(&self.dir, wanted)?;
        let mut report = GasReport::of(&recorded.records);
        if self.functions {
            report.add_functions(&recorded.records)?;
        }
        if let Some(wanted) = &self.only {
            report
                .only(wanted)
                .map_err(|names| unknown(wanted, &names))?;
        }
        let json = serde_json::to_string_pretty(&report)? + "\n";
        if let Some(file) = &self.save {
            std::fs::write(file, &json).with_context(|| file.display().to_string())?;
        }
        if output.is_json() {
            print(&json)?;
        } else {
            print(&report.render(self.style.format(), self.host))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// That `wanted` is none of `names`.
pub(super) fn unknown(wanted: &str, names: &[String]) -> anyhow::Error {
    anyhow!(
        "the tests call no {wanted:?}; they call: {}",
        names.join(", ")
    )
}
