//! What an operator sets.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of consensus and its network. All durations are in milliseconds, all sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this node in logs and metrics: 1 to 64 of `A-Z a-z 0-9 . _ -`; unique in a process.
    pub moniker: String,
    /// Where to listen, as a multiaddress: `/ip4/0.0.0.0/tcp/27000`.
    pub listen: String,
    /// Nodes to stay connected to, as multiaddresses.
    pub persistent_peers: Vec<String>,
    /// Whether to talk to those only: for validators behind sentries.
    pub persistent_peers_only: bool,
    /// Whether to learn of other nodes from peers.
    pub discovery: bool,
    /// The most inbound connections from one IP address.
    pub max_connections_per_ip: usize,
    /// How long a height takes at least. A block is made for each, transactions or none.
    pub block_interval_ms: u64,
    /// Waiting times of the protocol.
    pub timeouts: Timeouts,
    /// The most bytes of an encoded block. The same on all nodes.
    pub max_block_bytes: usize,
    /// Block sync.
    pub sync: Sync,
}

/// Waiting times of the protocol, in milliseconds. Each grows with the round by `delta`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a proposal to come, its block included.
    pub propose_ms: u64,
    /// For first votes, once there are two thirds but for different blocks.
    pub prevote_ms: u64,
    /// For second votes, likewise.
    pub precommit_ms: u64,
    /// By how much these grow with each round.
    pub delta_ms: u64,
    /// Without progress, before votes are sent again.
    pub rebroadcast_ms: u64,
    /// The most that any of these grows to.
    pub max_ms: u64,
}

/// Block sync: how nodes that are behind get decided blocks from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// How often to tell peers the own height.
    pub status_interval_ms: u64,
    /// For an answer from a peer, before another is asked.
    pub request_timeout_ms: u64,
    /// Requests at a time.
    pub parallel_requests: usize,
    /// Blocks in a request.
    pub batch_blocks: usize,
    /// The most bytes of an answer; more than [`Config::max_block_bytes`].
    pub max_response_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            moniker: "slackline".into(),
            listen: "/ip4/0.0.0.0/tcp/27000".into(),
            persistent_peers: Vec::new(),
            persistent_peers_only: false,
            discovery: false,
            max_connections_per_ip: 16,
            block_interval_ms: 500,
            timeouts: Timeouts::default(),
            max_block_bytes: 4 << 20,
            sync: Sync::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            propose_ms: 2_000,
            prevote_ms: 500,
            precommit_ms: 500,
            delta_ms: 500,
            rebroadcast_ms: 3_000,
            max_ms: 30_000,
        }
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            status_interval_ms: 2_000,
            request_timeout_ms: 10_000,
            parallel_requests: 4,
            batch_blocks: 8,
            max_response_bytes: 16 << 20,
        }
    }
}

/// Settings that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a multiaddress over TCP or QUIC.
    #[error("{field}: {value:?} is not a multiaddress such as /ip4/127.0.0.1/tcp/27000")]
    Address {
        /// Name of the setting.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// The name is not 1 to 64 of these characters.
    #[error("moniker: {0:?} is not 1 to 64 letters, digits, dots, underscores and hyphens")]
    Moniker(String),
    /// Out of its range.
    #[error("{field}: {value} is not in {least}..={most}")]
    Range {
        /// Name of the setting.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least that works.
        least: u64,
        /// The most that works.
        most: u64,
    },
}

impl Config {
    /// Checks what can be checked without a network.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        // It is found again in the text of the metrics: see `metrics::label`.
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if !(1..=64).contains(&self.moniker.len()) || !self.moniker.bytes().all(plain) {
            return Err(ConfigError::Moniker(self.moniker.clone()));
        }
        let range = |field, value: u64, least, most| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Range {
                    field,
                    value,
                    least,
                    most,
                })
            }
        };
        const DAY: u64 = 24 * 3600 * 1000;
        let t = &self.timeouts;
        for (field, value) in [
            ("timeouts.propose_ms", t.propose_ms),
            ("timeouts.prevote_ms", t.prevote_ms),
            ("timeouts.precommit_ms", t.precommit_ms),
            ("timeouts.rebroadcast_ms", t.rebroadcast_ms),
            ("timeouts.max_ms", t.max_ms),
            ("sync.status_interval_ms", self.sync.status_interval_ms),
            ("sync.request_timeout_ms", self.sync.request_timeout_ms),
        ] {
            range(field, value, 10, DAY)?;
        }
        range("timeouts.delta_ms", t.delta_ms, 0, DAY)?;
        range("block_interval_ms", self.block_interval_ms, 0, DAY)?;
        range(
            "max_block_bytes",
            self.max_block_bytes as u64,
            1 << 10,
            1 << 30,
        )?;
        range(
            "sync.max_response_bytes",
            self.sync.max_response_bytes as u64,
            self.max_block_bytes as u64 + (1 << 20),
            2 << 30,
        )?;
        range(
            "sync.parallel_requests",
            self.sync.parallel_requests as u64,
            1,
            64,
        )?;
        range("sync.batch_blocks", self.sync.batch_blocks as u64, 1, 256)?;
        range(
            "max_connections_per_ip",
            self.max_connections_per_ip as u64,
            1,
            100_000,
        )?;
        let peers = self
            .persistent_peers
            .iter()
            .map(|p| ("persistent_peers", p));
        for (field, value) in peers.chain([("listen", &self.listen)]) {
            address(field, value)?;
        }
        Ok(())
    }

    pub(crate) fn block_interval(&self) -> Option<Duration> {
        (self.block_interval_ms > 0).then_some(Duration::from_millis(self.block_interval_ms))
    }
}

pub(crate) fn address(
    field: &'static str,
    value: &str,
) -> Result<malachite_channel::app::net::Multiaddr, ConfigError> {
    let wrong = || ConfigError::Address {
        field,
        value: value.to_owned(),
    };
    let address: malachite_channel::app::net::Multiaddr = value.parse().map_err(|_| wrong())?;
    // The engine panics on others.
    let known = address
        .protocol_stack()
        .any(|p| ["tcp", "quic-v1"].contains(&p));
    known.then_some(address).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_the_metrics_need_not_escape() {
        let check = |moniker: &str| {
            let moniker = moniker.into();
            Config {
                moniker,
                ..Config::default()
            }
            .check()
        };
        for good in ["slackline", "node-1.example_A", &"x".repeat(64)] {
            check(good).unwrap();
        }
        for bad in [
            "",
            "a\"b",
            "a\\",
            "a b",
            "a\n",
            "n\u{f6}de",
            &"x".repeat(65),
        ] {
            assert_eq!(check(bad), Err(ConfigError::Moniker(bad.into())));
        }
    }
}
