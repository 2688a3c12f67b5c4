//! `slackline proof`: what the state has, proved against a block's hash.

use super::output::{Output, Table};
use super::remote::Remote;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use slackline_executor::proof::StateAnswer;
use slackline_executor::{Hash, account_key, storage_key};
use slackline_node::rpc::types::{HexBytes, parse_hex};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Proof {
    /// Ask a node for what an account, or a key of a contract's storage, has after a block, with the proof. Prints JSON for `verify`.
    Get(Get),
    /// Check a proof against the hash of a block that you trust. Needs no node.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The account, or the contract.
    account: String,
    /// A key of the contract's storage, in hexadecimal, instead of the account.
    #[arg(long, value_name = "HEX", value_parser = parse_hex_key)]
    key: Option<HexBytes>,
    /// After the block at this height [default: the last one].
    #[arg(long)]
    height: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// What `slackline proof get` has printed; `-` for standard input.
    file: PathBuf,
    /// Hash of the block, from somewhere that you trust.
    #[arg(long, value_name = "HASH")]
    block: Hash,
}

fn parse_hex_key(text: &str) -> Result<HexBytes, String> {
    parse_hex(text).map(HexBytes)
}

impl Proof {
    /// 0: it is so; 1: the proof does not show it; 2: it could not be found out.
    pub(crate) async fn run(
        self,
        connect: impl FnOnce() -> anyhow::Result<Remote>,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        match self {
            Proof::Get(command) => {
                let remote = connect()?;
                let address = remote.names().await?.resolve(&command.account)?;
                let key = match &command.key {
                    Some(key) => storage_key(&address, &key.0),
                    None => account_key(&address),
                };
                let answer = remote.client().proof(&key, command.height).await?;
                super::output::print(&(serde_json::to_string_pretty(&answer)? + "\n"))?;
                Ok(ExitCode::SUCCESS)
            }
            Proof::Verify(command) => verify(&command, output),
        }
    }
}

fn verify(command: &Verify, output: &Output) -> anyhow::Result<ExitCode> {
    let file = command.file.display();
    let text = if command.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(&command.file)
    };
    let text = text.with_context(|| format!("cannot read {file}"))?;
    let answer: StateAnswer =
        serde_json::from_str(&text).with_context(|| format!("{file} is no proof"))?;
    if let Err(error) = answer.verify(&command.block) {
        eprintln!("not proved: {error}");
        return Ok(ExitCode::from(1));
    }
    let value = answer.value.clone().map(HexBytes);
    let proved = json!({
        "height": answer.header.height,
        "key": HexBytes(answer.key.clone()),
        "value": value,
    });
    output.show(&proved, |_| {
        let mut table = Table::default();
        table
            .row("proved at height", answer.header.height)
            .row("key", HexBytes(answer.key.clone()));
        match &value {
            Some(value) => table.row("value", value),
            None => table.row("value", "none: the key is absent"),
        };
        table
    })?;
    Ok(ExitCode::SUCCESS)
}
