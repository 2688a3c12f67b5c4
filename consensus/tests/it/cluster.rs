//! Nodes that know of each other.

use crate::chain::Chain;
use ed25519_dalek::SigningKey;
use slackline_consensus::guard::Guard;
use slackline_consensus::{
    Address, Config, Consensus, Handle, Health, Identity, StartError, Validator, ValidatorSet,
    verify_certificate,
};
use slackline_types::{Hash, PublicKey};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than anything takes: a test that waits this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(120);
pub(crate) const CHAIN: Hash = Hash([4; 32]);

fn key(kind: u8, node: usize) -> SigningKey {
    SigningKey::from_bytes(&[kind + node as u8; 32])
}

pub(crate) struct Node {
    pub(crate) handle: Handle,
    pub(crate) chain: Arc<Chain>,
}

pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    ports: Vec<u16>,
    /// Validators; nodes beyond them follow.
    validators: usize,
    pub(crate) payload: usize,
    pub(crate) interval_ms: u64,
}

/// Ports below those that the kernel hands out, so that nobody else gets them meanwhile; others for each cluster, be it in
/// this process or in one like it.
fn free_ports(count: usize) -> Vec<u16> {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let cluster = std::process::id() + 101 * CLUSTERS.fetch_add(1, Ordering::Relaxed);
    let start = 10_000 + (cluster % 2_000) as u16 * 10;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (start..32_000).filter(free).take(count).collect()
}

impl Cluster {
    pub(crate) fn new(validators: usize, followers: usize) -> Self {
        // Shown for tests that fail.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into()))
            .with_test_writer()
            .try_init();
        Self {
            directory: tempfile::tempdir().unwrap(),
            ports: free_ports(validators + followers),
            validators,
            payload: 10,
            interval_ms: 50,
        }
    }

    pub(crate) fn set(&self) -> ValidatorSet {
        let validators = (0..self.validators).map(|node| {
            let key = key(100, node).verifying_key().to_bytes();
            Validator::new(PublicKey(key), 1)
        });
        ValidatorSet::new(validators).unwrap()
    }

    pub(crate) fn address(&self, node: usize) -> Address {
        Address::of(&PublicKey(key(100, node).verifying_key().to_bytes()))
    }

    pub(crate) fn moniker(&self, node: usize) -> String {
        format!("node{node}-{}", self.ports[node])
    }

    pub(crate) fn path(&self, node: usize) -> PathBuf {
        self.directory.path().join(node.to_string())
    }

    /// The guard of a node that does not run.
    pub(crate) fn guard(&self, node: usize) -> Guard {
        let directory = self.path(node).join("consensus");
        std::fs::create_dir_all(&directory).unwrap();
        let public = PublicKey(key(100, node).verifying_key().to_bytes());
        let [guard, wal] = ["guard", "wal"].map(|name| directory.join(name));
        Guard::open(&guard, &wal, CHAIN, Some(public)).unwrap()
    }

    pub(crate) async fn try_start(&self, node: usize) -> Result<Node, StartError> {
        let address = |port: &u16| format!("/ip4/127.0.0.1/tcp/{port}");
        let others = self.ports.iter().enumerate().filter(|(n, _)| *n != node);
        let mut config = Config {
            moniker: self.moniker(node),
            listen: address(&self.ports[node]),
            persistent_peers: others.map(|(_, port)| address(port)).collect(),
            block_interval_ms: self.interval_ms,
            ..Config::default()
        };
        config.sync.status_interval_ms = 200;
        config.timeouts.propose_ms = 600;
        let chain = Chain::open(&self.path(node).join("blocks"), self.set(), self.payload);
        let chain = Arc::new(chain);
        let identity = Identity {
            chain: CHAIN,
            directory: self.path(node).join("consensus"),
            node_key: key(1, node),
            consensus_key: (node < self.validators).then(|| key(100, node)),
        };
        let handle = Consensus::start(config, identity, chain.clone()).await?;
        Ok(Node { handle, chain })
    }

    pub(crate) async fn start(&self, node: usize) -> Node {
        self.try_start(node).await.unwrap()
    }

    pub(crate) async fn start_all(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for node in 0..self.ports.len() {
            nodes.push(self.start(node).await);
        }
        nodes
    }

    /// All have the same blocks up to `height`, each with a certificate that holds.
    pub(crate) fn check(&self, nodes: &[&Node], height: u64) {
        for height in 1..=height {
            let (first, _) = nodes[0].chain.read(height).unwrap();
            for node in nodes {
                let (block, certificate) = node.chain.read(height).unwrap();
                assert_eq!(block, first, "height {height}");
                let certified = verify_certificate(&CHAIN, &self.set(), &certificate).unwrap();
                assert_eq!((certified.height, certified.id), (height, block.id()));
            }
        }
    }
}

impl Node {
    /// Waits until a height is on disk.
    pub(crate) async fn reach(&self, height: u64) {
        let mut decided = self.handle.decided();
        let reached = decided.wait_for(|decided| *decided >= height);
        let reached = tokio::time::timeout(LONG, reached).await;
        assert!(
            reached.is_ok_and(|r| r.is_ok()),
            "{:?} is at {:?}, not at {height}",
            self.handle,
            self.handle.status().await,
        );
    }

    pub(crate) async fn stop(&self) {
        self.handle.shutdown(LONG).await.unwrap();
    }

    /// Waits until it takes part no more.
    pub(crate) async fn stopped(&self) -> Health {
        let mut health = self.handle.watch_health();
        let health = health.wait_for(|health| *health != Health::Ok);
        tokio::time::timeout(LONG, health)
            .await
            .expect("it goes on")
            .unwrap()
            .clone()
    }
}
