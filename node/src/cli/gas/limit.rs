//! `slackline gas limit`.

use super::Style;
use super::report::unknown;
use super::suite::{Suite, Wanted};
use crate::cli::output::{Output, grouped, print};
use anyhow::{Context, ensure};
use clap::Args;
use slackline_gas::growth::{Advice, LEAST_SIZES, Model, advise, plot};
use slackline_gas::{Report, Table};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// The contract's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Only this contract or method, as in `amm` or `amm.swap`.
    #[arg(long, value_name = "CONTRACT[.METHOD]")]
    only: Option<String>,
    /// What to add to the lowest limit that suffices, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = slackline_gas::snapshot::tolerance, default_value = "20")]
    margin: f64,
    /// Write a picture (SVG) of each growth into this directory: CONTRACT.METHOD.WITH.svg.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    style: Style,
    #[command(flatten)]
    suite: Suite,
}

impl Limit {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let wanted = Wanted {
            limits: true,
            ..Wanted::default()
        };
        let recorded = self.suite.run(&self.dir, wanted)?;
        let mut advice = advise(&recorded.records, self.margin);
        if let Some(wanted) = &self.only {
            let only = Report::of(&recorded.records).only(wanted);
            only.map_err(|names| unknown(wanted, &names))?;
            advice.retain(|advice| {
                let method = advice.method.trim_end_matches(" (view)");
                advice.contract == *wanted || format!("{}.{method}", advice.contract) == *wanted
            });
            ensure!(
                !advice.is_empty(),
                "no transaction or view from outside calls {wanted:?} with success: there is nothing to go by"
            );
        }
        if let Some(dir) = &self.plots {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            for of in &advice {
                let title = format!("{}.{}", of.contract, of.method);
                for growth in of.growth.iter().filter(|growth| !growth.is_constant()) {
                    let name = format!("{title}.{}.svg", growth.with);
                    let path = dir.join(name.replace(['/', ' '], "-"));
                    std::fs::write(&path, plot(&title, growth))
                        .with_context(|| path.display().to_string())?;
                }
            }
        }
        if output.is_json() {
            print(&(serde_json::to_string_pretty(&advice)? + "\n"))?;
        } else {
            print(&self.as_text(&advice))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn as_text(&self, advice: &[Advice]) -> String {
        let format = self.style.format();
        let head = ["method", "calls", "most used", "lowest limit", "propose"];
        let mut limits = Table::new(1, head);
        let mut growth = Table::new(4, ["method", "grows with", "model", "fuel", "R²"]);
        for of in advice {
            let method = format!("{}.{}", of.contract, of.method);
            // Views cost nobody anything.
            if !of.method.ends_with("(view)") {
                limits.row([
                    method.clone(),
                    grouped(of.calls),
                    grouped(of.most_used),
                    of.least_limit.map_or_else(|| "-".to_owned(), grouped),
                    grouped(of.proposed),
                ]);
            }
            for found in &of.growth {
                if let Some(fit) = found.fit.filter(|fit| fit.model != Model::Constant) {
                    growth.row([
                        method.clone(),
                        found.with.clone(),
                        fit.model.name().to_owned(),
                        fit.formula(),
                        format!("{:.4}", fit.r_squared),
                    ]);
                }
            }
        }
        let mut text = limits.render(format);
        text.push('\n');
        if growth.is_empty() {
            text += &format!(
                "No method is known to grow: for that the tests must call it with at least {LEAST_SIZES} sizes of something; `kit.sized` names what counts.\n"
            );
        } else {
            text += &growth.render(format);
            text += "A limit holds for what the tests did: where a method grows, add what your callers need.\n";
        }
        text
    }
}
