//! `slackline profile`.

use super::codes::{Codes, Debug};
use super::gas::{Files, Style};
use super::output::{Output, grouped, print, printable};
use super::remote::Remote;
use anyhow::ensure;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use slackline_gas::symbols::Symbols;
use slackline_gas::{Profile as GasProfile, Table};
use slackline_node::rpc::api::{DEFAULT_SAMPLE_US, MAX_PROFILE_S, MIN_SAMPLE_US};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Profile {
    /// How long, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=MAX_PROFILE_S))]
    seconds: u64,
    /// How often each thread is sampled, in microseconds.
    #[arg(long, value_name = "US", default_value_t = DEFAULT_SAMPLE_US,
        value_parser = clap::value_parser!(u64).range(MIN_SAMPLE_US..=1_000_000))]
    interval: u64,
    #[command(flatten)]
    debug: Debug,
    #[command(flatten)]
    files: Files,
    /// How many functions to list.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    #[command(flatten)]
    style: Style,
}

impl Profile {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        // Files that cannot be read are better found out before.
        let mut codes = Codes::new(&self.debug)?;
        let client = remote.client();
        let request = client.profile(self.seconds, Some(Duration::from_micros(self.interval)));
        let sampled = self.waiting(request).await??;
        if output.is_json() && !self.files.are_wanted() {
            print(&(serde_json::to_string_pretty(&sampled)? + "\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let all: u64 = sampled.functions.iter().map(|of| of.samples).sum();
        ensure!(
            all > 0,
            "no contract was found executing: the node has had nothing to do in these {} seconds, or only what takes no time",
            self.seconds
        );
        let mut symbols = BTreeMap::new();
        for of in &sampled.functions {
            if !codes.records.codes.contains_key(&of.code) {
                codes.add(of.code, &client.code(&of.code).await?)?;
                symbols.insert(of.code, Symbols::of(&codes.records.codes[&of.code])?);
            }
        }
        codes.check()?;
        let contracts = codes.records.names();
        let rows: Vec<_> = sampled
            .functions
            .iter()
            .map(|of| {
                let known = of.name.clone();
                let name = known.or_else(|| Some(symbols.get(&of.code)?.name(of.function)));
                let contract = contracts.get(&of.code).cloned().unwrap_or_default();
                (
                    printable(&contract),
                    printable(&name.unwrap_or_default()),
                    of,
                )
            })
            .collect();
        let named = rows
            .iter()
            .map(|(contract, function, of)| (contract.as_str(), function.as_str(), of.samples));
        let profile = GasProfile::of_samples(named);
        self.files
            .write(&profile, "samples of where contracts were")?;
        if output.is_json() {
            print(&(serde_json::to_string_pretty(&sampled)? + "\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let head = ["contract", "function", "samples", "%", "fuel seen"];
        let mut table = Table::new(2, head);
        for (contract, function, of) in rows.iter().take(self.top) {
            table.row([
                contract.clone(),
                function.clone(),
                grouped(of.samples),
                format!("{:.1}", of.samples as f64 / all as f64 * 100.0),
                grouped(of.fuel),
            ]);
        }
        let lost = match sampled.lost {
            0 => String::new(),
            lost => format!(", {} lost", grouped(lost)),
        };
        print(&format!(
            "{} samples in {} s{lost}\n{}",
            grouped(all),
            self.seconds,
            table.render(self.style.format())
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Waits for `request`, with a bar for the time that it takes.
    async fn waiting<T>(&self, request: impl Future<Output = T>) -> anyhow::Result<T> {
        let bar = ProgressBar::new(self.seconds);
        bar.set_style(ProgressStyle::with_template(
            "sampling [{bar:40}] {pos}/{len} s",
        )?);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.tick().await;
        let mut request = std::pin::pin!(request);
        loop {
            tokio::select! {
                answer = &mut request => {
                    bar.finish_and_clear();
                    return Ok(answer);
                }
                _ = second.tick() => bar.inc(1),
            }
        }
    }
}
