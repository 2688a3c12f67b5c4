//! `slackline validators`: who votes.

use super::output::{Output, Table};
use super::remote::Remote;
use super::transact::Terms;
use anyhow::Context;
use clap::{Args, Subcommand};
use slackline_executor::{Action, ProtocolParams, Validator, check_validators};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Validators {
    /// Show who votes on the next block.
    Show,
    /// Replace them all, from the block after the transaction's on. For the chain's governor, who signs (--from).
    Set(Set),
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// JSON: an array of {"key": "…", "power": 10}. `slackline --json validators show` prints the present one.
    file: PathBuf,
    #[command(flatten)]
    terms: Terms,
}

impl Validators {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Validators::Show => {
                let validators = remote.client().validators(None).await?;
                output.show(&validators, |validators| {
                    let mut table = Table::default();
                    if validators.is_empty() {
                        table.row("validators", "none: one node makes the blocks");
                    }
                    for validator in validators {
                        table.row(
                            validator.key.to_string(),
                            format!("power {}", validator.power),
                        );
                    }
                    table
                })?;
                Ok(ExitCode::SUCCESS)
            }
            Validators::Set(Set { file, terms }) => {
                let path = file.display();
                let text = std::fs::read_to_string(&file).with_context(|| path.to_string())?;
                let validators: Vec<Validator> =
                    serde_json::from_str(&text).with_context(|| path.to_string())?;
                check_validators(&validators, &ProtocolParams::v1().limits)
                    .with_context(|| path.to_string())?;
                let status = remote.status().await?;
                terms
                    .act(
                        Action::SetValidators { validators },
                        &status,
                        remote,
                        output,
                    )
                    .await
            }
        }
    }
}
