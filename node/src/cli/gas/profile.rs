//! `slackline gas profile`.

use super::Style;
use super::report::unknown;
use super::suite::{Suite, Wanted};
use crate::cli::output::{Output, grouped, print};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use slackline_gas::symbols::Known;
use slackline_gas::{Profile as GasProfile, Report, Table};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Profile {
    /// The contract's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Only transactions and views of this contract or method, as in `amm` or `amm.swap`.
    #[arg(long, value_name = "CONTRACT[.METHOD]")]
    only: Option<String>,
    /// Only tests with this in their name.
    #[arg(long, value_name = "TEXT")]
    test: Option<String>,
    /// Deployments too.
    #[arg(long)]
    deployments: bool,
    #[command(flatten)]
    exact: Exact,
    #[command(flatten)]
    suite: Suite,
}

/// Files that a profile is written to.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Write a flame graph (SVG).
    #[arg(long, value_name = "FILE")]
    flamegraph: Option<PathBuf>,
    /// Write a file for <https://www.speedscope.app>.
    #[arg(long, value_name = "FILE")]
    speedscope: Option<PathBuf>,
    /// Write a file for pprof.
    #[arg(long, value_name = "FILE")]
    pprof: Option<PathBuf>,
    /// Write stacks in one line each, as other flame graph tools read them.
    #[arg(long, value_name = "FILE")]
    folded: Option<PathBuf>,
}

/// How an exact profile is shown.
#[derive(Debug, Args)]
pub(crate) struct Exact {
    #[command(flatten)]
    files: Files,
    /// Write the source with what each line has used; without FILE, print it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    lines: Option<PathBuf>,
    /// Files of which the source is shown: those with this in their path [default: those of contracts, not of libraries].
    #[arg(long, value_name = "TEXT", requires = "lines")]
    source: Option<String>,
    /// How many functions to list.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    #[command(flatten)]
    style: Style,
}

impl Profile {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let wanted = Wanted {
            profile: true,
            ..Wanted::default()
        };
        let mut recorded = self.suite.run(&self.dir, wanted)?;
        let records = &mut recorded.records;
        if let Some(wanted) = &self.only {
            let mut report = Report::of(records);
            let only = report.only(wanted);
            only.map_err(|names| unknown(wanted, &names))?;
        }
        let names = records.names();
        let profile = GasProfile::of(records, |made| {
            let contract = made.code.and_then(|code| names.get(&code));
            let method = made.method.as_deref().unwrap_or_default();
            let is_wanted = self.only.as_deref().is_none_or(|only| {
                contract.is_some_and(|name| only == name || only == format!("{name}.{method}"))
            });
            let is_deployment = made.kind == slackline_testkit::record::Kind::Deploy;
            let in_test = self
                .test
                .as_deref()
                .is_none_or(|text| made.test.contains(text));
            is_wanted && in_test && (self.deployments || !is_deployment)
        })?;
        anyhow::ensure!(
            profile.executions() > 0,
            "nothing is left to profile: no transaction or view from outside is of {}{}",
            self.only.as_deref().unwrap_or("any contract"),
            self.test.as_ref().map_or_else(String::new, |test| format!(
                " in a test with {test:?} in its name"
            ))
        );
        let title = self.only.as_deref().unwrap_or("all transactions and views");
        let hint = "Deploy it with `slackline_testkit::contract!()`, which keeps them";
        self.exact.show(&profile, title, hint, output)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Files {
    /// Whether any is asked for.
    pub(crate) fn are_wanted(&self) -> bool {
        let all = [
            &self.flamegraph,
            &self.speedscope,
            &self.pprof,
            &self.folded,
        ];
        all.into_iter().any(Option::is_some)
    }

    pub(crate) fn write(&self, profile: &GasProfile, title: &str) -> anyhow::Result<()> {
        let write = |file: &Option<PathBuf>, contents: &dyn Fn() -> anyhow::Result<Vec<u8>>| {
            let Some(file) = file else { return Ok(()) };
            std::fs::write(file, contents()?).with_context(|| file.display().to_string())
        };
        write(&self.flamegraph, &|| {
            Ok(profile.flamegraph(title)?.into_bytes())
        })?;
        write(&self.speedscope, &|| {
            Ok(profile.speedscope(title).into_bytes())
        })?;
        write(&self.pprof, &|| Ok(profile.pprof()))?;
        write(&self.folded, &|| {
            Ok((profile.folded().join("\n") + "\n").into_bytes())
        })
    }
}

impl Exact {
    /// Whether anything is asked for that only a profile has.
    pub(crate) fn is_wanted(&self) -> bool {
        self.files.are_wanted() || self.lines.is_some()
    }

    /// Writes the files, and prints a table, JSON, or the source. `hint` says how to get debug information that is missing.
    pub(crate) fn show(
        &self,
        profile: &GasProfile,
        title: &str,
        hint: &str,
        output: &Output,
    ) -> anyhow::Result<()> {
        for (name, known) in profile.poor() {
            let has = match known {
                Known::Nothing => "neither debug information nor names: its functions have numbers",
                _ => "no debug information: there are names, but no lines and no inlined functions",
            };
            eprintln!("warning: the code of {name} has {has}. {hint}");
        }
        self.files.write(profile, &format!("fuel of {title}"))?;
        if let Some(to) = &self.lines {
            let listing = self.listing(profile);
            if to.as_os_str() == "-" {
                print(&listing)?;
            } else {
                std::fs::write(to, listing).with_context(|| to.display().to_string())?;
            }
        } else if output.is_json() {
            let functions = profile
                .functions()
                .into_iter()
                .map(|(name, own, total)| json!({ "function": name, "own": own, "total": total }));
            let lines = profile.lines().iter().map(|((file, line), used)| {
                json!({ "file": &**file, "line": line, "own": used.own, "total": used.total })
            });
            let shown = json!({
                "fuel": profile.fuel(),
                "executions": profile.executions(),
                "functions": functions.collect::<Vec<_>>(),
                "lines": lines.collect::<Vec<_>>(),
            });
            print(&format!("{shown:#}\n"))?;
        } else {
            let all = profile.fuel();
            let mut table = Table::new(1, ["function", "own", "%", "total", "%"]);
            for (name, own, total) in profile.functions().into_iter().take(self.top) {
                let part = |fuel: u64| format!("{:.1}", fuel as f64 / all as f64 * 100.0);
                table.row([name, grouped(own), part(own), grouped(total), part(total)]);
            }
            let of = match profile.executions() {
                1 => title.to_owned(),
                many => format!("{} transactions and views", grouped(many)),
            };
            print(&format!(
                "{} fuel in {of}\n{}",
                grouped(all),
                table.render(self.style.format())
            ))?;
        }
        Ok(())
    }

    fn listing(&self, profile: &GasProfile) -> String {
        let of_libraries = ["/rust/", "/cargo/"];
        let listings = profile.files().filter_map(|(file, _)| {
            let wanted = match &self.source {
                Some(text) => file.contains(text.as_str()),
                None => !of_libraries.iter().any(|library| file.starts_with(library)),
            };
            wanted.then(|| profile.listing(file)).flatten()
        });
        listings.collect::<Vec<_>>().join("\n")
    }
}
