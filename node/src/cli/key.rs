//! `slackline key`.

use super::output::{Output, Table};
use clap::Subcommand;
use serde_json::json;
use slackline_node::keys::Key as KeyPair;
use std::path::PathBuf;
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
