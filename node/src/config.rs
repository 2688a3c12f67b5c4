//! What an operator sets: `config.toml` in the data directory, the environment, flags.
//!
//! ```text
//!   defaults ──▶ config.toml ──▶ SLACKLINE_SECTION__NAME ──▶ flags ──▶ Config::check ──▶ Config
//! ```
//!
//! Later ones win. A key that is not known is refused wherever it comes from: a misspelt setting is not a default. `slackline config print` writes
//! all of them with what they are, which is a valid `config.toml`.

use crate::producer::BLOCK_BYTES;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use slackline_executor::{Mode, StoreOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The name of the file in the data directory.
pub const CONFIG_FILE: &str = "config.toml";
/// What names of variables begin with; `__` stands between section and name, as in `SLACKLINE_RPC__LISTEN`.
pub const ENV_PREFIX: &str = "SLACKLINE_";
/// What settings are in. Variables of another section are not the node's: those of tests, of the command line.
const SECTIONS: [&str; 9] = [
    "rpc_",
    "ops_",
    "consensus_",
    "gossip_",
    "mempool_",
    "execution_",
    "store_",
    "log_",
    "snapshot_",
];

/// All settings of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What clients use.
    pub rpc: Rpc,
    /// What operators use.
    pub ops: Ops,
    /// What new nodes use.
    pub snapshot: Snapshot,
    /// How nodes agree on blocks, and talk to each other for that.
    pub consensus: slackline_consensus::Config,
    /// How transactions get from node to node.
    pub gossip: Gossip,
    /// What may wait for a block.
    pub mempool: Mempool,
    /// How blocks are executed. Results do not depend on it.
    pub execution: Execution,
    /// The database.
    pub store: StoreOptions,
    /// The log.
    pub log: Log,
}

/// What clients use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rpc {
    /// Where HTTP and WebSocket are served. There is no authentication: keep it inside, or behind a proxy.
    pub listen: SocketAddr,
    /// Requests over HTTP and sessions over WebSocket at a time, together.
    pub max_connections: u32,
    /// Requests in a batch.
    pub max_batch: u32,
    /// Subscriptions of a session.
    pub max_subscriptions: u32,
    /// Calls of a session under way at a time.
    pub max_calls: u32,
    /// TCP connections at a time, idle ones included.
    pub max_sockets: u32,
    /// Of these, those from one IP address (IPv6: network of 64 bits). A proxy before the node is one address.
    pub max_sockets_per_ip: u32,
    /// Calls a second from one IP address, each entry of a batch counted; 0: any number.
    pub requests_per_second: u32,
    /// Milliseconds in which the head of a request has to come, then its body; for which a connection may be idle; and in which a client has to
    /// read some of what it is sent.
    pub timeout_ms: u64,
    /// The most fuel that a view may ask for; the protocol's limit of a transaction holds besides.
    pub max_view_fuel: u64,
}

/// What operators use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Where `/health`, `/ready`, `/metrics` and `/status` are served.
    pub listen: SocketAddr,
}

/// What new nodes use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snapshot {
    /// Where `/snapshot` is served; nowhere if this is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// How transactions get from node to node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gossip {
    /// Where to listen, as a multiaddress.
    pub listen: String,
    /// Nodes to stay connected to, as multiaddresses.
    pub peers: Vec<String>,
    /// If there are any, the only nodes to exchange transactions with: names among peers, as `slackline key show node_key.json` prints them. They do
    /// not follow from the validators, whose keys are others than those of their nodes.
    pub allow: Vec<String>,
}

/// What may wait for a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mempool {
    /// Transactions.
    pub transactions: usize,
    /// Their sizes together, in bytes.
    pub bytes: usize,
    /// Transactions of one sender.
    pub per_sender: usize,
    /// Blocks after which a transaction that has waited is forgotten.
    pub expiry_blocks: u64,
}

/// How blocks are executed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Execution {
    /// Threads that execute a block; 1: in order.
    pub threads: usize,
    /// How fuel is metered.
    pub mode: Mode,
}

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// What is logged, as in `info,slackline_consensus=debug`: a level for everything, and others for parts.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl Log {
    /// What lets those lines through that the setting names.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`]: see [`log_filter`].
    pub fn filter(&self) -> Result<EnvFilter, ConfigError> {
        log_filter("log.filter", &self.filter)
    }
}

/// What lets those lines of the log through that `text` names, which `name` has.
///
/// # Errors
///
/// [`ConfigError::Invalid`] if a part of it is none, or if it has no level for what it does not name: a level that is misspelt is the name of a module, and
/// nothing else would be logged, errors included.
pub fn log_filter(name: &str, text: &str) -> Result<EnvFilter, ConfigError> {
    let invalid = |reason: &dyn std::fmt::Display| {
        ConfigError::Invalid(format!(
            "{name}: {text:?} {reason}; expected a level for everything and others for parts, as in info,slackline_consensus=debug"
        ))
    };
    let filter = EnvFilter::builder()
        .parse(text)
        .map_err(|error| invalid(&format!("is not understood: {error}")))?;
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    match text.split(',').any(|part| is_level(part.trim())) {
        true => Ok(filter),
        false => Err(invalid(&"has no level for everything")),
    }
}

impl Default for Rpc {
    fn default() -> Rpc {
        Rpc {
            listen: (Ipv4Addr::LOCALHOST, 8545).into(),
            max_connections: 250,
            max_batch: 100,
            max_subscriptions: 32,
            max_calls: 4_096,
            max_sockets: 1_024,
            max_sockets_per_ip: 512,
            requests_per_second: 0,
            timeout_ms: 30_000,
            max_view_fuel: 2_000_000_000,
        }
    }
}

impl Default for Ops {
    fn default() -> Ops {
        Ops {
            listen: (Ipv4Addr::LOCALHOST, 9545).into(),
        }
    }
}

impl Default for Gossip {
    fn default() -> Gossip {
        Gossip {
            listen: "/ip4/0.0.0.0/tcp/27001".to_owned(),
            peers: Vec::new(),
            allow: Vec::new(),
        }
    }
}

impl Default for Mempool {
    fn default() -> Mempool {
        Mempool {
            transactions: 20_000,
            bytes: 64 << 20,
            per_sender: 1_000,
            expiry_blocks: 1_000,
        }
    }
}

impl Default for Execution {
    fn default() -> Execution {
        Execution {
            threads: 1,
            mode: Mode::Slacked,
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log {
            format: LogFormat::Text,
            filter: "info,jsonrpsee=warn,arc_malachitebft=warn".to_owned(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A setting is unknown, or has a value of the wrong kind.
    #[error("{0}")]
    Malformed(Box<figment::Error>),
    /// A setting has a value that cannot work.
    #[error("{0}")]
    Invalid(String),
}

impl Config {
    /// The settings of the node in `dir`, with `overrides`, `section.name` and the value in TOML each, as flags give them.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn read(dir: &Path, overrides: &[(String, String)]) -> Result<Config, ConfigError> {
        let path = dir.join(CONFIG_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Io { path, source }),
        };
        let env = Env::prefixed(ENV_PREFIX)
            .filter(|name| SECTIONS.iter().any(|section| name.starts_with(section)))
            .split("__");
        let mut figment = Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::string(&text))
            .merge(env);
        for (name, value) in overrides {
            // A value that is no TOML is a string: nobody quotes addresses on a command line.
            let value: figment::value::Value =
                match Toml::from_str::<Single>(&format!("value = {value}")) {
                    Ok(single) => single.value,
                    Err(_) => value.clone().into(),
                };
            figment = figment.merge(Serialized::default(name, value));
        }
        let config: Config = figment
            .extract()
            .map_err(|error| ConfigError::Malformed(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    /// Whether these settings can work together.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |reason: String| Err(ConfigError::Invalid(reason));
        self.consensus
            .check()
            .map_err(|error| ConfigError::Invalid(format!("consensus.{error}")))?;
        let peers = self.gossip.peers.iter().map(|peer| ("gossip.peers", peer));
        for (name, address) in peers.chain([("gossip.listen", &self.gossip.listen)]) {
            if address.parse::<slackline_gossip::Multiaddr>().is_err() {
                return invalid(format!(
                    "{name}: {address:?} is not a multiaddress such as /ip4/127.0.0.1/tcp/27001"
                ));
            }
        }
        if let Some(name) = self.gossip.allow.iter().find(|name| peer(name).is_none()) {
            return invalid(format!(
                "gossip.allow: {name:?} is not the name of a peer: `slackline key show node_key.json` prints it"
            ));
        }
        self.log.filter()?;
        let least: [(&str, u64); 13] = [
            ("rpc.max_connections", self.rpc.max_connections.into()),
            ("rpc.max_batch", self.rpc.max_batch.into()),
            ("rpc.max_calls", self.rpc.max_calls.into()),
            ("rpc.max_sockets", self.rpc.max_sockets.into()),
            ("rpc.max_sockets_per_ip", self.rpc.max_sockets_per_ip.into()),
            ("rpc.timeout_ms", self.rpc.timeout_ms),
            ("rpc.max_view_fuel", self.rpc.max_view_fuel),
            ("mempool.transactions", self.mempool.transactions as u64),
            ("mempool.bytes", self.mempool.bytes as u64),
            ("mempool.per_sender", self.mempool.per_sender as u64),
            ("mempool.expiry_blocks", self.mempool.expiry_blocks),
            ("execution.threads", self.execution.threads as u64),
            ("store.keep_heights", self.store.keep_heights),
        ];
        if let Some((name, _)) = least.iter().find(|(_, value)| *value == 0) {
            return invalid(format!("{name} is 0: at least 1 is needed"));
        }
        // What is around the transactions: header, lengths, parts.
        let least = BLOCK_BYTES + (64 << 10);
        if self.consensus.max_block_bytes < least {
            return invalid(format!(
                "consensus.max_block_bytes is {}: blocks have up to {least}",
                self.consensus.max_block_bytes
            ));
        }
        if self.execution.threads > 256 {
            return invalid(format!(
                "execution.threads is {}: at most 256",
                self.execution.threads
            ));
        }
        if self.rpc.listen == self.ops.listen && self.rpc.listen.port() != 0 {
            return invalid(format!(
                "rpc.listen and ops.listen are both {}",
                self.rpc.listen
            ));
        }
        Ok(())
    }

    /// All settings as TOML.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|error| ConfigError::Invalid(error.to_string()))
    }
}

/// A name among peers.
pub(crate) fn peer(name: &str) -> Option<slackline_gossip::PeerId> {
    name.parse().ok()
}

#[derive(Deserialize)]
struct Single {
    value: figment::value::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, overrides: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(CONFIG_FILE), text).expect("written");
        let overrides: Vec<_> = overrides
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Config::read(dir.path(), &overrides)
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let mut config = Config::default();
        config.rpc.listen = "0.0.0.0:1".parse().expect("an address");
        config.execution.threads = 3;
        config.consensus.persistent_peers = vec!["/ip4/127.0.0.1/tcp/1".to_owned()];
        let text = config.to_toml().expect("TOML");
        assert_eq!(read(&text, &[]).expect("valid"), config);
        assert_eq!(read("", &[]).expect("valid"), Config::default());
    }

    #[test]
    fn each_section_is_read_from_the_environment() {
        let all = serde_json::to_value(Config::default()).expect("JSON");
        let sections: Vec<String> = all
            .as_object()
            .expect("sections")
            .keys()
            .map(|name| format!("{name}_"))
            .collect();
        let mut known = SECTIONS.map(str::to_owned);
        known.sort();
        assert_eq!(sections, known);
    }

    #[test]
    fn flags_win_and_need_no_quotes() {
        let flags = [
            ("rpc.listen", "127.0.0.1:2"),
            ("execution.threads", "4"),
            ("gossip.peers", r#"["/ip4/127.0.0.1/tcp/1"]"#),
            ("execution.mode", "exact"),
        ];
        let config = read(
            "[rpc]\nlisten = \"127.0.0.1:1\"\n[store]\nkeep_heights = 5\n",
            &flags,
        )
        .expect("valid");
        assert_eq!(config.rpc.listen.port(), 2);
        assert_eq!(
            (config.execution.threads, config.execution.mode),
            (4, Mode::Exact)
        );
        assert_eq!(
            (config.gossip.peers.len(), config.store.keep_heights),
            (1, 5)
        );
    }

    #[test]
    fn a_filter_has_a_level_for_everything() {
        for text in [
            "info",
            "slackline_node=debug, Warn",
            "off",
            "jsonrpsee=warn,3",
        ] {
            log_filter("it", text).expect(text);
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (text, said) in [
            ("[rpc]\nlisten = 5\n", "rpc.listen"),
            ("[rpc]\nlissten = \"127.0.0.1:1\"\n", "lissten"),
            ("[rcp]\n", "rcp"),
            ("[execution]\nthreads = 0\n", "execution.threads"),
            (
                "[consensus]\nblock_interval_ms = 100000000000\n",
                "block_interval_ms",
            ),
            (
                "[ops]\nlisten = \"127.0.0.1:8545\"\n",
                "rpc.listen and ops.listen",
            ),
            ("[gossip]\nallow = [\"me\"]\n", "gossip.allow"),
            ("[rpc]\nmax_sockets = 0\n", "rpc.max_sockets"),
            ("[log]\nfilter = \"inof\"\n", "log.filter"),
            ("[consensus]\nmoniker = \"my node\"\n", "moniker"),
            (
                "[log]\nfilter = \"info,slackline_node=debgu\"\n",
                "log.filter",
            ),
            ("[log]\nfilter = \"slackline_node=debug\"\n", "log.filter"),
            ("[log]\nfilter = \"\"\n", "log.filter"),
            ("[rpc\n", "expected"),
        ] {
            let error = read(text, &[]).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(read("", &[("rpc.nothing", "1")]).is_err());
    }
}
