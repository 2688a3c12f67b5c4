//! `slackline gas`: what contracts cost, by their tests.

mod diff;
mod limit;
mod profile;
mod report;
mod snapshot;
mod suite;

pub(super) use profile::{Exact, Files};

use super::output::Output;
use clap::{Args, Subcommand};
use slackline_gas::Format;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Gas {
    /// Show what each method costs in the tests of a contract.
    Report(report::Report),
    /// Write down what each test costs, or compare that with what was written down.
    Snapshot(snapshot::Snapshot),
    /// Show what each function and line uses, exactly: flame graphs, speedscope, pprof, annotated source.
    Profile(profile::Profile),
    /// Propose fuel limits, and tell what makes methods cost more.
    Limit(limit::Limit),
    /// Compare two reports, or two snapshots.
    Diff(diff::Diff),
}

impl Gas {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Gas::Report(command) => command.run(output),
            Gas::Snapshot(command) => command.run(output),
            Gas::Profile(command) => command.run(output),
            Gas::Limit(command) => command.run(output),
            Gas::Diff(command) => command.run(output),
        }
    }
}

/// How tables are written.
#[derive(Debug, Args)]
pub(super) struct Style {
    /// Print tables as Markdown, for a comment on a pull request.
    #[arg(long, visible_alias = "markdown")]
    md: bool,
}

impl Style {
    pub(super) fn format(&self) -> Format {
        match self.md {
            true => Format::Markdown,
            false => Format::Text,
        }
    }
}
