//! `slackline dev`.

use super::output::{Output, Table, grouped, print};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use slackline_executor::{Address, Mode};
use slackline_node::dev::{DEV_CHAIN_ID, DEV_NAMES, dev_key};
use slackline_node::producer::Health;
use slackline_node::{Node, NodeConfig, StartError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Keep the chain here and go on with it next time [default: a temporary directory, removed at exit].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Serve RPC here. Port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8545")]
    listen: SocketAddr,
    /// How fuel is metered: slacked, or exact (slower, the reference). Results are the same.
    #[arg(long, default_value = "slacked")]
    mode: Mode,
    /// Describe the node as one line of JSON instead of text.
    #[arg(long)]
    print_json: bool,
}

/// The signals that end a node.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals do not kill the process.
    pub(crate) fn catch() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl Dev {
    /// Runs until a signal comes (0) or the node fails (1).
    pub(crate) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::catch().context("cannot catch signals")?;
        let config = NodeConfig {
            data_dir: self.data_dir,
            listen: self.listen,
            mode: self.mode,
            ..NodeConfig::default()
        };
        let node = Node::start(config).await.map_err(|error| {
            let hint = match &error {
                StartError::Listen { .. } => "\n(--listen 127.0.0.1:0 takes any port that is free)",
                _ => "",
            };
            anyhow::anyhow!("{error}{hint}")
        })?;
        print(&if self.print_json || output.is_json() {
            describe_json(&node)?
        } else {
            describe(&node)?
        })?;

        let mut health = node.health();
        tokio::select! {
            signal = signals.next() => tracing::info!(signal, "stopping; once more to stop at once"),
            // The node has said why.
            _ = health.wait_for(|health| *health != Health::Running) => {}
        }
        Ok(stop(node, signals, output).await)
    }
}

/// Stops the node (0, or 1 if it had failed); at once on a signal (130).
pub(super) async fn stop(node: Node, mut signals: Signals, output: &Output) -> ExitCode {
    let stopped = tokio::select! {
        stopped = node.stop() => stopped,
        signal = signals.next() => {
            tracing::warn!(signal, "stopped at once");
            std::process::exit(130);
        }
    };
    match stopped {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::FAILURE
        }
    }
}

/// The development accounts that the node's chain has, with what they own now.
fn accounts(node: &Node) -> anyhow::Result<Vec<(&'static str, Address, u128)>> {
    let named = DEV_NAMES
        .into_iter()
        .filter_map(|name| Some((name, dev_key(name)?.address())));
    named
        .map(|(name, address)| Ok((name, address, node.chain().account(&address)?.balance)))
        .collect()
}

fn describe(node: &Node) -> anyhow::Result<String> {
    let head = node.chain().head();
    let chain_id = node.genesis().chain_id;
    let kept = if node.is_temporary() {
        " (temporary: removed at exit)"
    } else {
        ""
    };
    let mut about = Table::default();
    about
        .row("slackline", env!("CARGO_PKG_VERSION"))
        .row(
            "chain",
            format!("{chain_id}, {} metering", node.chain().mode()),
        )
        .row("data", format!("{}{kept}", node.data_dir().display()))
        .row("height", head.height)
        .row("rpc", format!("{} (HTTP and WebSocket)", node.rpc_url()));
    let mut text = about.to_string();
    if chain_id == DEV_CHAIN_ID {
        text += "\nDevelopment accounts. EVERYONE KNOWS THEIR KEYS: never send them anything of value.\n";
        let mut table = Table::default();
        for (name, address, balance) in accounts(node)? {
            table.row(name, format!("{address}  {}", grouped(balance)));
        }
        text += &table.to_string();
    }
    if !node.address().ip().is_loopback() {
        text += "\nWARNING: RPC is served to other machines, without any authentication.\n";
    }
    Ok(text + "\nready\n")
}

fn describe_json(node: &Node) -> anyhow::Result<String> {
    let accounts: Vec<_> = accounts(node)?
        .into_iter()
        .map(|(name, address, balance)| {
            json!({ "name": name, "address": address, "balance": balance.to_string() })
        })
        .collect();
    let head = node.chain().head();
    let about = json!({
        "ready": true,
        "version": env!("CARGO_PKG_VERSION"),
        "rpc": node.rpc_url(),
        "chain_id": node.genesis().chain_id,
        "mode": node.chain().mode(),
        "data_dir": node.data_dir(),
        "temporary": node.is_temporary(),
        "height": head.height,
        "accounts": accounts,
    });
    Ok(format!("{about}\n"))
}
