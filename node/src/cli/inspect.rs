//! `slackline inspect`.

use super::output::{Output, grouped, print};
use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use slackline_executor::ProtocolParams;
use slackline_metering::{InspectedFunction, inspect};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use wasmtime::Config;

/// Lines of CLIF shown around each charge.
const CONTEXT_LINES: usize = 2;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A module, in binary or text form.
    file: PathBuf,

    /// Per function, the charges that wasmtime writes and the additions that are left of them, and the CLIF around those.
    #[arg(long, required = true)]
    fuel: bool,

    /// Only this function: its index or its name.
    #[arg(long, value_name = "INDEX|NAME")]
    function: Option<String>,

    /// The whole CLIF of the functions, before and after, instead of what is around the additions.
    #[arg(long)]
    clif: bool,
}

impl Inspect {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let file = self.file.display();
        let wasm = std::fs::read(&self.file).with_context(|| format!("cannot read {file}"))?;
        let costs = ProtocolParams::v1().costs;
        let mut functions =
            inspect(Config::new, &costs, wasm).with_context(|| format!("{file}"))?;
        if let Some(wanted) = &self.function {
            functions.retain(|function| {
                function.name.as_ref() == Some(wanted) || function.index.to_string() == *wanted
            });
            ensure!(
                !functions.is_empty(),
                "{file} defines no function {wanted:?}: give the index or the name of one that `slackline inspect {file} --fuel` lists"
            );
        }
        if output.is_json() {
            let functions: Vec<_> = functions.iter().map(as_json).collect();
            print(&(serde_json::to_string_pretty(&json!({ "functions": functions }))? + "\n"))?;
        } else {
            print(&self.as_text(&functions)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn as_text(&self, functions: &[InspectedFunction]) -> anyhow::Result<String> {
        let mut text = format!(
            "{:>6}  {:>7} {:>9} {:>8}  {:>9} {:>9}  {}\n",
            "index", "charges", "additions", "prepaid", "bytes", "unmetered", "name"
        );
        for function in functions {
            let report = &function.report;
            writeln!(
                text,
                "{:>6}  {:>7} {:>9} {:>8}  {:>9} {:>9}  {}",
                function.index,
                report.charges,
                report.additions,
                report.prepaid_loops,
                grouped(function.bytes as u64),
                grouped(function.unmetered_bytes as u64),
                function.name.as_deref().unwrap_or("")
            )?;
        }
        for function in functions {
            let report = &function.report;
            if self.clif {
                writeln!(
                    text,
                    "\n; function {}, before\n{}",
                    function.index, report.before
                )?;
                writeln!(
                    text,
                    "; function {}, after\n{}",
                    function.index, report.after
                )?;
            } else if report.additions > 0 {
                writeln!(
                    text,
                    "\n; function {}, around its additions",
                    function.index
                )?;
                text += &around_additions(&report.after);
            }
        }
        Ok(text)
    }
}

fn as_json(function: &InspectedFunction) -> serde_json::Value {
    let report = &function.report;
    json!({
        "index": function.index,
        "name": function.name,
        "charges": report.charges,
        "additions": report.additions,
        "prepaid_loops": report.prepaid_loops,
        "bytes": function.bytes,
        "unmetered_bytes": function.unmetered_bytes,
        "clif_before": report.before,
        "clif_after": report.after,
    })
}

/// The lines of `clif` near one that sets the pinned register, with the heads of their blocks.
fn around_additions(clif: &str) -> String {
    let lines: Vec<&str> = clif.lines().collect();
    let mut shown = vec![false; lines.len()];
    for (at, line) in lines.iter().enumerate() {
        if !line.contains("set_pinned_reg") {
            continue;
        }
        // The addition is the two or three lines before.
        let first = at.saturating_sub(3 + CONTEXT_LINES);
        let last = (at + CONTEXT_LINES).min(lines.len() - 1);
        shown[first..=last].fill(true);
        if let Some(head) = lines[..at]
            .iter()
            .rposition(|line| line.starts_with("block"))
        {
            shown[head] = true;
        }
    }
    let mut text = String::new();
    let mut skipped = false;
    for (line, shown) in lines.iter().zip(shown) {
        if shown {
            text += line;
            text.push('\n');
        } else if !skipped {
            text += "    …\n";
        }
        skipped = !shown;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_is_around_additions() {
        let clif = "function u0:0() {\nblock0:\n    a\n    b\n    c\n    d\n    e\n    v1 = get_pinned_reg.i64\n    v2 = iconst.i64 1\n    v3 = iadd v1, v2\n@0a    set_pinned_reg v3\n    f\n    g\n    h\n}\n";
        assert_eq!(
            around_additions(clif),
            "    …\nblock0:\n    …\n    d\n    e\n    v1 = get_pinned_reg.i64\n    v2 = iconst.i64 1\n    v3 = iadd v1, v2\n@0a    set_pinned_reg v3\n    f\n    g\n    …\n"
        );
    }
}
