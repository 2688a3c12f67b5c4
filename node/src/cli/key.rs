//! `slackline key`.

use super::output::{Output, Table};
use clap::Subcommand;
use serde_json::json;
use slackline_consensus::guard::{Guard, Step};
use slackline_node::keys::Key as KeyPair;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a new key and write it to a file that only you may read.
    New {
        /// The file; it must not exist.
        #[arg(long, value_name = "FILE", default_value = "slackline-key.json")]
        out: PathBuf,
    },
    /// Show what others may know of a key file: address, public key, and the name among peers if it is that of a node.
    Show {
        /// The file.
        file: PathBuf,
    },
    /// Show what a validator has signed last, by its consensus/guard. Changes nothing; the node may be running.
    Guard {
        /// The node's directory.
        #[arg(long, env = "SLACKLINE_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
    },
}

impl Key {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let (key, file) = match self {
            Key::New { out } => {
                let key = KeyPair::generate()?;
                key.write(&out)?;
                (key, out)
            }
            Key::Show { file } => (KeyPair::read(&file)?, file),
            Key::Guard { data_dir } => return guard(&data_dir, output),
        };
        let shown = json!({
            "file": file.display().to_string(),
            "address": key.address(),
            "public_key": key.public(),
            "peer_id": slackline_consensus::peer_id(key.signing()),
        });
        output.show(&shown, |_| {
            let mut table = Table::default();
            table
                .row("file", file.display())
                .row("address", key.address())
                .row("public key", key.public())
                .row("peer", slackline_consensus::peer_id(key.signing()));
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn guard(data_dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let file = data_dir.join("consensus").join("guard");
    let guard = Guard::read(&file)?;
    let last = guard.last();
    let answer = json!({
        "file": file,
        "chain": guard.chain(),
        "public_key": guard.key(),
        "height": last.map(|last| last.height),
        "round": last.map(|last| last.round),
        "step": last.map(|last| step(last.step)),
        "refused": guard.refused(),
    });
    output.show(&answer, |_| {
        let mut table = Table::default();
        table
            .row("file", file.display())
            .row("chain", format!("that of block 0 {}", guard.chain()));
        match guard.key() {
            Some(key) => table.row("public key", key),
            None => table.row("public key", "none: the node has only followed"),
        };
        match last {
            Some(last) => table
                .row("height", last.height)
                .row("round", last.round)
                .row("step", step(last.step)),
            None => table.row("signed", "nothing"),
        };
        if guard.refused() {
            table.row(
                "refused",
                "a signature at that height: it follows until that is over",
            );
        }
        table
    })?;
    Ok(ExitCode::SUCCESS)
}

fn step(step: Step) -> &'static str {
    match step {
        Step::Propose => "propose",
        Step::Prevote => "prevote",
        Step::Precommit => "precommit",
    }
}
