//! `slackline init`, `start`, `config` and `testnet`: nodes that decide on blocks together.

use super::dev::{self, Signals};
use super::names::Names;
use super::number;
use super::output::{Output, Table, print};
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use slackline_executor::{Genesis, GenesisAccount};
use slackline_node::config::Config;
use slackline_node::dev::{DEV_CHAIN_ID, dev_name};
use slackline_node::home::{self, Allocation, Home};
use slackline_node::producer::{Health, Limits};
use slackline_node::{ConsensusSetup, Node, NodeConfig, StartError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most validators of a testnet on one machine.
const MOST_NODES: u16 = 50;
/// How long the nodes of a testnet may take to become healthy.
const UP_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The node's directory, which must not have a node in it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Tells the chain apart from others. That of `slackline dev`, the default, has its accounts, and alice as governor.
    #[arg(long, default_value_t = DEV_CHAIN_ID)]
    chain_id: u64,
    /// An account to begin with: an address or a key file, and what it has, in the smallest unit of the currency. For each once.
    #[arg(long = "account", value_name = "ACCOUNT=AMOUNT", value_parser = allocation)]
    accounts: Vec<(String, u128)>,
    /// Who may change the validators: an address or a key file. Without one nobody ever can, on another chain than that of `slackline dev`.
    #[arg(long, value_name = "ACCOUNT")]
    governor: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    settings: Settings,
    /// End, with 0, once the block at this height is on disk: nothing is signed for the next one. For upgrades that all validators make at once.
    #[arg(long, env = "SLACKLINE_HALT_HEIGHT", value_name = "HEIGHT")]
    halt_height: Option<u64>,
    /// Describe the node as one line of JSON instead of text.
    #[arg(long)]
    print_json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// The node's directory.
    #[arg(long, env = "SLACKLINE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// A setting that goes over the file's and the environment's, as in rpc.listen=127.0.0.1:8545.
    #[arg(long = "set", value_name = "SECTION.NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the node could start with its settings.
    Check(Settings),
    /// Print all settings as they are: a valid config.toml.
    Print(Settings),
}

#[derive(Debug, Args)]
pub(crate) struct Testnet {
    /// A number of validators: make the directories of so many. `up`: run those of the next argument until a signal comes.
    #[arg(value_name = "NUMBER|up")]
    what: String,
    /// With `up`: the directory.
    #[arg(value_name = "DIR")]
    up: Option<PathBuf>,
    /// Where to make the directories.
    #[arg(long, value_name = "DIR", conflicts_with = "up")]
    dir: Option<PathBuf>,
    /// Node n uses the ports from this + 10 n on.
    #[arg(long, default_value_t = 28_000)]
    base_port: u16,
}

pub(super) fn allocation(text: &str) -> Result<(String, u128), String> {
    let (account, amount) = text
        .rsplit_once('=')
        .ok_or_else(|| "expected ACCOUNT=AMOUNT".to_owned())?;
    Ok((account.to_owned(), number(amount)?))
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if name.contains('.') => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected SECTION.NAME=VALUE".to_owned()),
    }
}

impl Init {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let names = Names::on_chain(self.chain_id);
        let mut allocation = Allocation::default();
        if self.chain_id == DEV_CHAIN_ID {
            allocation = Allocation::dev();
        }
        for (account, balance) in &self.accounts {
            let address = names.resolve(account)?;
            let listed = &mut allocation.accounts;
            ensure!(
                listed.iter().all(|known| known.address != address),
                "--account {account}: that account is there already"
            );
            listed.push(GenesisAccount {
                address,
                balance: *balance,
            });
        }
        if let Some(governor) = &self.governor {
            allocation.governor = Some(names.resolve(governor)?);
        }
        let home = home::alone(&self.data_dir, self.chain_id, allocation)?;
        home.write()?;
        let warnings = warnings(&home.genesis, &self.data_dir.join("genesis.json"));
        let answer = json!({
            "data_dir": self.data_dir,
            "chain_id": self.chain_id,
            "validator": home.validator_key.as_ref().map(|key| key.public()),
            "accounts": home.genesis.accounts.len(),
            "governor": home.genesis.governor,
            "warnings": warnings,
        });
        output.show(&answer, |_| {
            let mut table = Table::default();
            table
                .row("made", self.data_dir.display())
                .row("chain", self.chain_id);
            if let Some(key) = &home.validator_key {
                table.row("validator", key.public());
            }
            for warning in &warnings {
                table.row("WARNING", warning);
            }
            table.row(
                "now",
                format!("slackline start --data-dir {}", self.data_dir.display()),
            );
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a chain with the genesis at `path` is not good for.
pub(super) fn warnings(genesis: &Genesis, path: &Path) -> Vec<String> {
    let path = path.display();
    let mut warnings = Vec::new();
    let listed = genesis.accounts.iter().map(|account| account.address);
    let public: BTreeSet<&str> = listed
        .chain(genesis.governor)
        .filter_map(|address| dev_name(&address))
        .collect();
    if !public.is_empty() {
        let names: Vec<&str> = public.into_iter().collect();
        let names = names.join(", ");
        warnings.push(format!("everybody can compute the secret keys of {names}, whom the genesis names, as that of the default --chain-id {DEV_CHAIN_ID} does: never use this chain for anything of value"));
    }
    if genesis.accounts.is_empty() {
        warnings.push(format!("no account has anything, so nobody can pay for a transaction: add to `accounts` in {path} before the first start, or make it again with --account"));
    }
    if genesis.governor.is_none() {
        warnings.push(format!("there is no governor, so nobody can ever change the validators: add `governor` to {path} before the first start, or make it again with --governor"));
    }
    warnings
}

impl ConfigCommand {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            ConfigCommand::Check(settings) => {
                let home = Home::read(&settings.data_dir, &settings.set)?;
                let answer = json!({ "ok": true, "chain_id": home.genesis.chain_id });
                output.show(&answer, |_| {
                    let mut table = Table::default();
                    table
                        .row("settings", "valid")
                        .row("chain", home.genesis.chain_id)
                        .row("validators", home.genesis.validators.len());
                    table
                })?;
            }
            ConfigCommand::Print(settings) => {
                print(&Config::read(&settings.data_dir, &settings.set)?.to_toml()?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Start {
    pub(crate) fn home(&self) -> anyhow::Result<Home> {
        Ok(Home::read(&self.settings.data_dir, &self.settings.set)?)
    }

    /// Runs until a signal comes or the last height is over (0), or the node fails (1). After a safety failure it goes on, to say so, until a signal comes (1).
    pub(crate) async fn run(self, home: Home, output: &Output) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::catch().context("cannot catch signals")?;
        let config = home.config;
        let unlimited = config.rpc.requests_per_second == 0;
        let node = NodeConfig {
            data_dir: Some(home.path.clone()),
            listen: config.rpc.listen,
            mode: config.execution.mode,
            mempool: Limits {
                transactions: config.mempool.transactions,
                bytes: config.mempool.bytes,
                sender_transactions: config.mempool.per_sender,
                expiry_blocks: config.mempool.expiry_blocks,
                ..Limits::default()
            },
            threads: config.execution.threads,
            store: config.store,
            ops: Some(config.ops.listen),
            snapshot: config.snapshot.listen,
            rpc: config.rpc,
            consensus: Some(ConsensusSetup {
                config: config.consensus,
                node_key: home.node_key,
                validator_key: home.validator_key,
                gossip: config.gossip,
                halt_height: self.halt_height,
            }),
        };
        let node = Node::start(node).await.map_err(|error| {
            let hint = match &error {
                StartError::Listen { .. } => {
                    "\n(--set rpc.listen=ADDRESS, or ops.listen or snapshot.listen, takes another one)"
                }
                _ => "",
            };
            anyhow::anyhow!("{error}{hint}")
        })?;
        let about = json!({
            "ready": true,
            "version": env!("CARGO_PKG_VERSION"),
            "rpc": node.rpc_url(),
            "ops": node.ops_address().map(|address| format!("http://{address}")),
            "chain_id": node.genesis().chain_id,
            "data_dir": node.data_dir(),
            "height": node.chain().head().height,
        });
        if self.print_json || output.is_json() {
            print(&format!("{about}\n"))?;
        } else {
            let mut table = Table::default();
            table
                .row("slackline", env!("CARGO_PKG_VERSION"))
                .row("chain", node.genesis().chain_id)
                .row("data", node.data_dir().display())
                .row("height", node.chain().head().height)
                .row("rpc", node.rpc_url());
            if let Some(address) = node.ops_address() {
                table.row(
                    "operators",
                    format!("http://{address}/health, /ready, /metrics, /status"),
                );
            }
            print(&format!("{table}\nready\n"))?;
        }

        if !node.address().ip().is_loopback() && unlimited {
            tracing::warn!(
                address = %node.address(),
                "RPC is served to other machines at any rate: see rpc.requests_per_second"
            );
        }
        let mut health = node.health();
        tokio::select! {
            signal = signals.next() => tracing::info!(signal, "stopping; once more to stop at once"),
            // The node has said why.
            _ = health.wait_for(|health| *health != Health::Running) => {
                if let Some(last) = self.halt_height
                    && *node.health().borrow() == Health::Stopping
                {
                    tracing::info!(height = last, "stopping: it was to be the last");
                }
                let unsafe_ = node.consensus().is_some_and(|consensus| {
                    matches!(consensus.health(), slackline_consensus::Health::SafetyFailure(_))
                });
                if unsafe_ {
                    // To restart it would not help: an operator has to look, and finds it here.
                    signals.next().await;
                }
            }
        }
        Ok(dev::stop(node, signals, output).await)
    }
}

impl Testnet {
    pub(crate) async fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        if self.what == "up" {
            let dir = self
                .up
                .or(self.dir)
                .context("which directory? `slackline testnet up DIR`")?;
            return up(&dir, output).await;
        }
        let count: u16 = self
            .what
            .parse()
            .ok()
            .filter(|count| (1..=MOST_NODES).contains(count))
            .with_context(|| {
                format!(
                    "{:?} is neither a number of validators, 1 to {MOST_NODES}, nor `up`",
                    self.what
                )
            })?;
        let dir = self.dir.context("where? `slackline testnet 4 --dir DIR`")?;
        ensure!(
            self.base_port.checked_add(10 * count).is_some() && self.base_port > 0,
            "--base-port {} leaves no room for the ports of {count} nodes",
            self.base_port
        );
        let homes = home::testnet(&dir, count, self.base_port)?;
        for home in &homes {
            home.write()?;
        }
        show(
            &dir,
            &homes,
            "now",
            &format!("slackline testnet up {}", dir.display()),
            output,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

fn show(
    dir: &Path,
    homes: &[Home],
    label: &str,
    text: &str,
    output: &Output,
) -> anyhow::Result<()> {
    let nodes: Vec<_> = homes
        .iter()
        .map(|home| {
            json!({
                "data_dir": home.path,
                "rpc": format!("http://{}", home.config.rpc.listen),
                "ops": format!("http://{}", home.config.ops.listen),
            })
        })
        .collect();
    output.show(&json!({ "dir": dir, "nodes": nodes }), |_| {
        let mut table = Table::default();
        for home in homes {
            table.row(
                home.config.consensus.moniker.clone(),
                format!(
                    "rpc http://{}, operators http://{}",
                    home.config.rpc.listen, home.config.ops.listen
                ),
            );
        }
        table.row(label, text);
        table
    })
}

/// Runs the nodes in `dir` as processes until a signal comes.
async fn up(dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let mut homes = Vec::new();
    for n in 0..MOST_NODES {
        let path = dir.join(format!("node{n}"));
        if !path.exists() {
            break;
        }
        homes.push(Home::read(&path, &[])?);
    }
    if homes.is_empty() {
        bail!(
            "{} has no node0: make it with `slackline testnet 4 --dir {}`",
            dir.display(),
            dir.display()
        );
    }
    let program = std::env::current_exe()?;
    let mut nodes = Vec::new();
    for home in &homes {
        let log = home.path.join("log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = tokio::process::Command::new(&program);
        command
            .arg("start")
            .arg("--data-dir")
            .arg(&home.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A signal from the terminal is ours to pass on.
            .process_group(0)
            .kill_on_drop(true);
        nodes.push(
            command
                .spawn()
                .with_context(|| format!("cannot run {}", program.display()))?,
        );
    }
    let healthy = async {
        for home in &homes {
            while !is_healthy(home).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let ended = |nodes: &mut Vec<tokio::process::Child>| -> anyhow::Result<()> {
        for (node, home) in nodes.iter_mut().zip(&homes) {
            if let Some(status) = node.try_wait()? {
                bail!(
                    "{} has ended ({status}): see {}",
                    home.path.display(),
                    home.path.join("log").display()
                );
            }
        }
        Ok(())
    };
    tokio::select! {
        done = tokio::time::timeout(UP_TIMEOUT, healthy) => {
            ended(&mut nodes)?;
            done.with_context(|| format!("not all nodes are healthy after {} s: see the logs in {}", UP_TIMEOUT.as_secs(), dir.display()))?;
            show(dir, &homes, "ready", "until Ctrl-C", output)?;
            signals.next().await;
        }
        _ = signals.next() => {}
    }
    // They finish their blocks.
    for node in &nodes {
        let id = node.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
    }
    let mut clean = true;
    for (node, home) in nodes.iter_mut().zip(&homes) {
        let status = node.wait().await?;
        if !status.success() {
            clean = false;
            eprintln!(
                "{}: {status}, see {}",
                home.path.display(),
                home.path.join("log").display()
            );
        }
    }
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether the node's `/health` says so.
async fn is_healthy(home: &Home) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(home.config.ops.listen).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    ask.await.is_ok_and(|answer| answer.contains(" 200 "))
}
