//! `slackline view`.

use super::number;
use super::output::{Output, Table};
use super::remote::Remote;
use super::transact::{exit_code, fuel};
use super::words::{self, MethodArgs, WithWords, Words};
use clap::Args;
use slackline_node::args::ReturnType;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct View {
    /// The contract.
    contract: String,
    /// The method.
    method: String,
    #[command(flatten)]
    args: MethodArgs,
    /// The type of what the method returns, to show it: a type as in --arg, unit, or option:TYPE.
    #[arg(long, value_name = "TYPE")]
    returns: Option<ReturnType>,
    /// Whom the contract sees as its caller [default: an address of zeros].
    #[arg(long, value_name = "ADDRESS")]
    caller: Option<String>,
    /// The most fuel that it may use [default: what the node gives].
    #[arg(long, value_name = "FUEL", value_parser = number::<u64>)]
    fuel_limit: Option<u64>,
    /// On the state after that block.
    #[arg(long)]
    height: Option<u64>,
}

impl View {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let names = remote.names().await?;
        let contract = names.resolve(&self.contract)?;
        let caller = self
            .caller
            .map(|caller| names.resolve(&caller))
            .transpose()?;
        let description = words::of_contract(remote, &contract).await?;
        let input = self.args.encode(&self.method, &description, &names)?;
        let words = Words::new(description, &self.method, self.returns);
        let view = slackline_client::View {
            contract,
            method: self.method,
            input,
            caller,
            fuel_limit: self.fuel_limit,
            height: self.height,
        };
        let answer = remote.client().view(view).await?;
        let answer = &answer;
        let decoded = words.decoded(&answer.outcome, &[]);
        output.show(&WithWords { answer, decoded }, |_| {
            let mut table = Table::default();
            table.row("after block", answer.height);
            words.show_outcome(&mut table, &answer.outcome, &names);
            table.row("fuel used", fuel(answer.fuel_used, self.fuel_limit));
            table
        })?;
        Ok(exit_code(&answer.outcome))
    }
}
