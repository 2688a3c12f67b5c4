//! `slackline version`: what this program is, and what it works with.

use super::output::{Output, Table};
use clap::Args;
use serde_json::json;
use slackline_executor::ProtocolParams;
use slackline_executor::store::SCHEMA;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Version;

fn known(text: &'static str) -> Option<&'static str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Version {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let params = ProtocolParams::v1();
        let fingerprint = hex::encode(params.fingerprint());
        let commit = known(env!("BUILD_COMMIT"));
        let answer = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": commit,
            "wasmtime": known(env!("BUILD_WASMTIME")),
            "protocol_version": params.version,
            "protocol_fingerprint": fingerprint,
            "database_schema": SCHEMA,
        });
        output.show(&answer, |_| {
            let mut table = Table::default();
            table
                .row("slackline", env!("CARGO_PKG_VERSION"))
                .row(
                    "commit",
                    commit.unwrap_or("not known: no release build, or not from a git repository"),
                )
                .row("wasmtime", env!("BUILD_WASMTIME"))
                .row(
                    "protocol",
                    format!("{}, parameters {fingerprint}", params.version),
                )
                .row("database schema", SCHEMA);
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
