//! `slackline genesis`: what a chain of several operators begins with.

use super::names::Names;
use super::output::{Output, Table, grouped};
use super::start::{allocation, warnings};
use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use slackline_executor::{
    Chain, Genesis as ChainGenesis, GenesisAccount, Hash, Mode, ProtocolParams, PublicKey,
    Validator, check_validators,
};
use slackline_node::home::{self, Allocation, VALIDATOR_POWER};
use slackline_node::keys::Key;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Genesis {
    /// Put the genesis of a chain together: one operator does, and the others check it.
    Assemble(Assemble),
    /// Say whether a chain can begin with a genesis, and what its block 0 would be: the same for all operators.
    Check {
        /// The genesis.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Assemble {
    /// Tells the chain apart from others.
    #[arg(long)]
    chain_id: u64,
    /// A validator: its public key, as `slackline key show validator_key.json` prints it, or a key file, and its power [default: 10]. For each once.
    #[arg(long = "validator", value_name = "KEY[=POWER]", required = true)]
    validators: Vec<String>,
    /// An account to begin with: an address or a key file, and what it has, in the smallest unit of the currency. For each once.
    #[arg(long = "account", value_name = "ACCOUNT=AMOUNT", value_parser = allocation)]
    accounts: Vec<(String, u128)>,
    /// Who may change the validators: an address or a key file. Without one nobody ever can.
    #[arg(long, value_name = "ACCOUNT")]
    governor: Option<String>,
    /// When the chain begins, in milliseconds since 1970 [default: now].
    #[arg(long, value_name = "MILLISECONDS")]
    timestamp_ms: Option<u64>,
    /// The file, which must not exist.
    #[arg(long, value_name = "FILE", default_value = "genesis.json")]
    out: PathBuf,
}

fn validator(text: &str) -> anyhow::Result<Validator> {
    let (key, power) = match text.rsplit_once('=') {
        Some((key, power)) => (key, super::number(power).map_err(anyhow::Error::msg)),
        None => (text, Ok(VALIDATOR_POWER)),
    };
    let context = || format!("--validator {text}");
    let key = match key.parse::<PublicKey>() {
        Ok(key) => key,
        Err(_) => Key::read(Path::new(key)).with_context(context)?.public(),
    };
    let power = power.with_context(context)?;
    Ok(Validator { key, power })
}

impl Assemble {
    fn genesis(&self) -> anyhow::Result<ChainGenesis> {
        let names = Names::on_chain(self.chain_id);
        let validators = self.validators.iter().map(|text| validator(text));
        let validators: Vec<Validator> = validators.collect::<anyhow::Result<_>>()?;
        let accounts = self.accounts.iter().map(|(account, balance)| {
            let (address, balance) = (names.resolve(account)?, *balance);
            Ok(GenesisAccount { address, balance })
        });
        let governor = self.governor.as_ref().map(|name| names.resolve(name));
        let allocation = Allocation {
            accounts: accounts.collect::<anyhow::Result<_>>()?,
            governor: governor.transpose()?,
        };
        let mut genesis = home::genesis(self.chain_id, validators, allocation);
        if let Some(timestamp_ms) = self.timestamp_ms {
            genesis.timestamp_ms = timestamp_ms;
        }
        Ok(genesis)
    }
}

/// The hash of the block that a chain with this genesis begins with, if there can be one.
fn block_0(genesis: &ChainGenesis) -> anyhow::Result<Hash> {
    check_validators(&genesis.validators, &ProtocolParams::v1().limits)?;
    let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let chain = Chain::open(dir.path(), genesis, Mode::Slacked)?;
    Ok(chain.head().hash())
}

impl Genesis {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let (genesis, file, hash) = match self {
            Genesis::Assemble(command) => {
                ensure!(
                    !command.out.exists(),
                    "{} exists: nothing was changed",
                    command.out.display()
                );
                let genesis = command.genesis()?;
                let hash = block_0(&genesis)?;
                home::write_genesis(&command.out, &genesis)?;
                (genesis, command.out, hash)
            }
            Genesis::Check { file } => {
                let path = || file.display().to_string();
                let text = std::fs::read_to_string(&file).with_context(path)?;
                let genesis: ChainGenesis = serde_json::from_str(&text).with_context(path)?;
                let hash = block_0(&genesis).with_context(path)?;
                (genesis, file, hash)
            }
        };
        let warnings = warnings(&genesis, &file);
        let answer = json!({
            "file": file,
            "chain_id": genesis.chain_id,
            "block_0": hash,
            "timestamp_ms": genesis.timestamp_ms,
            "validators": genesis.validators,
            "accounts": genesis.accounts,
            "governor": genesis.governor,
            "warnings": warnings,
        });
        output.show(&answer, |_| {
            let mut table = Table::default();
            table
                .row("file", file.display())
                .row("chain", genesis.chain_id)
                .row("block 0", hash);
            for Validator { key, power } in &genesis.validators {
                table.row("validator", format!("{key}, power {power}"));
            }
            for GenesisAccount { address, balance } in &genesis.accounts {
                table.row("account", format!("{address}, {}", grouped(*balance)));
            }
            if let Some(governor) = genesis.governor {
                table.row("governor", governor);
            }
            for warning in &warnings {
                table.row("WARNING", warning);
            }
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
