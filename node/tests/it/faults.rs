//! Validators as processes, to which something bad happens. Whatever it is, [`Net::audit`] holds.

use crate::process::{Dev, slackline, validator};
use crate::support::*;
use crate::testnet::{PATIENCE_MS, Testnet, ask, block, sent};
use bytes::Bytes;
use malachite_network as network;
use serde_json::Value;
use slackline_consensus::guard::Guard;
use slackline_consensus::{
    Application, Consensus, Decided, Health, Identity, Proposed, ValidatorSet, Verdict,
};
use slackline_executor::{Address, Block, Chain, Hash, Mode, encode};
use slackline_gossip::Gossip;
use slackline_node::dev::{DEV_BALANCE, DEV_NAMES, database};
use slackline_node::home::Home;
use slackline_node::metrics::Metrics;
use slackline_node::producer::{Limits, Producer};
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{ReceiptJson, SubmitStatus, WaitUntil};
use slackline_node::validator::{Validator, ValidatorError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_millis(PATIENCE_MS);

/// What a wire does with what is sent through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// Passes it on.
    Whole,
    /// Keeps it until it is whole again, as a network that loses packets does.
    Silent,
    /// Is closed, and refuses connections.
    Cut,
}

/// The way from one node to a port of another.
async fn wire(listener: TcpListener, to: u16, state: watch::Receiver<Wire>) {
    while let Ok((near, _)) = listener.accept().await {
        if *state.borrow() == Wire::Cut {
            continue;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else {
            continue;
        };
        let ((near_read, near_write), (far_read, far_write)) =
            (near.into_split(), far.into_split());
        tokio::spawn(pump(near_read, far_write, state.clone()));
        tokio::spawn(pump(far_read, near_write, state.clone()));
    }
}

/// Ends, and with it its direction of the connection, when either end or the wire does.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<Wire>,
) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut cut = state.clone();
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count.ok().filter(|count| *count > 0)?,
            _ = cut.wait_for(|wire| *wire == Wire::Cut) => return None,
        };
        if *state.wait_for(|wire| *wire != Wire::Silent).await.ok()? == Wire::Cut {
            return None;
        }
        to.write_all(&buffer[..count]).await.ok()?;
    }
}

/// Four validators, wired one by one, and what they have acknowledged.
pub(crate) struct Net {
    pub(crate) testnet: Testnet,
    /// By who connects to whom.
    wires: BTreeMap<(usize, usize), watch::Sender<Wire>>,
    /// For each node.
    pub(crate) settings: Vec<Vec<String>>,
    pub(crate) acknowledged: BTreeMap<Hash, ReceiptJson>,
    /// Accounts that have something, besides those of the genesis.
    pub(crate) contracts: Vec<Address>,
}

impl Net {
    pub(crate) async fn new() -> Net {
        let testnet = Testnet::new(4);
        let mut wires = BTreeMap::new();
        let mut settings = Vec::new();
        for from in 0..4usize {
            let mut peers = [Vec::new(), Vec::new()];
            for to in (0..4).filter(|to| *to != from) {
                let state = watch::Sender::new(Wire::Whole);
                for (offset, peers) in (2..).zip(&mut peers) {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    let port = listener.local_addr().unwrap().port();
                    peers.push(format!("\"/ip4/127.0.0.1/tcp/{port}\""));
                    let to = testnet.base_port + 10 * to as u16 + offset;
                    tokio::spawn(wire(listener, to, state.subscribe()));
                }
                wires.insert((from, to), state);
            }
            settings.push(vec![
                format!("consensus.persistent_peers=[{}]", peers[0].join(",")),
                format!("gossip.peers=[{}]", peers[1].join(",")),
                "consensus.block_interval_ms=100".to_owned(),
                "consensus.timeouts.propose_ms=1000".to_owned(),
                "consensus.timeouts.rebroadcast_ms=1000".to_owned(),
                "consensus.sync.status_interval_ms=500".to_owned(),
            ]);
        }
        Net {
            testnet,
            wires,
            settings,
            acknowledged: BTreeMap::new(),
            contracts: Vec::new(),
        }
    }

    pub(crate) fn up(&self) -> Vec<Dev> {
        self.testnet.up_with(|node| self.settings[node].clone())
    }

    pub(crate) fn start(&self, node: usize) -> Dev {
        Dev::validator_with(&self.testnet.homes[node], &self.settings[node])
    }

    /// The directory and the settings of one more node, which finds the validators, at ports of its own.
    pub(crate) fn another(&self, name: &str) -> (PathBuf, Vec<String>) {
        let home = self.testnet.dir.path().join(name);
        std::fs::create_dir(&home).unwrap();
        let genesis = self.testnet.homes[0].join("genesis.json");
        std::fs::copy(genesis, home.join("genesis.json")).unwrap();
        let mut made = slackline();
        made.args(["key", "new", "--out"]);
        let made = made.arg(home.join("node_key.json")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let listen = [
            "rpc.listen=127.0.0.1:0",
            "ops.listen=127.0.0.1:0",
            "consensus.listen=/ip4/127.0.0.1/tcp/0",
            "gossip.listen=/ip4/127.0.0.1/tcp/0",
        ];
        let peers = |offset: u16| {
            let port = |node: u16| self.testnet.base_port + 10 * node + offset;
            let peers = (0..4).map(|node| format!("\"/ip4/127.0.0.1/tcp/{}\"", port(node)));
            peers.collect::<Vec<_>>().join(",")
        };
        let mut settings: Vec<String> = listen.map(str::to_owned).into();
        settings.push(format!("consensus.persistent_peers=[{}]", peers(2)));
        settings.push(format!("gossip.peers=[{}]", peers(3)));
        settings.extend(self.settings[0][2..].iter().cloned());
        (home, settings)
    }

    /// Puts the wires between nodes of different groups into `state`, and the others in order.
    fn split(&self, groups: &[&[usize]], state: Wire) {
        let group = |node: &usize| groups.iter().position(|group| group.contains(node));
        for ((from, to), wire) in &self.wires {
            let apart = group(from) != group(to);
            wire.send_replace(if apart { state } else { Wire::Whole });
        }
    }

    /// Sends a transaction through a node and waits until it is final.
    pub(crate) async fn send(&mut self, node: &Dev, name: &str, nonce: u64) -> u64 {
        let receipt = sent(&client(&node.url()), name, nonce).await;
        let height = receipt.height;
        self.acknowledged.insert(receipt.transaction, receipt);
        height
    }

    /// What was acknowledged is in the blocks of all nodes. These are the same at each height with the same state, follow one another, have each
    /// sender's transactions in the order of their nonces, and make no money.
    pub(crate) async fn audit(&self, nodes: &[&Dev]) {
        let last = self.acknowledged.values().map(|receipt| receipt.height);
        let last = last.max().unwrap();
        let clients: Vec<_> = nodes.iter().map(|node| client(&node.url())).collect();
        for client in &clients {
            block(client, last).await;
            for (hash, receipt) in &self.acknowledged {
                let found = client.get_transaction(hash.to_string()).await.unwrap();
                assert_eq!(found.receipt.as_ref(), Some(receipt));
            }
        }
        let mut parent = Hash::default();
        let mut nonces: BTreeMap<Address, u64> = BTreeMap::new();
        let mut burnt = 0;
        for height in 0..=last {
            let here = clients[0].get_block(Some(height)).await.unwrap();
            assert_eq!(here.header.parent, parent, "height {height}");
            parent = here.hash;
            for client in &clients[1..] {
                let other = client.get_block(Some(height)).await.unwrap();
                assert_eq!(
                    (other.hash, other.header.state_root),
                    (here.hash, here.header.state_root),
                    "two blocks at height {height}"
                );
            }
            for hash in &here.transactions {
                let found = clients[0].get_transaction(hash.to_string()).await.unwrap();
                let transaction = found.transaction.unwrap();
                let next = nonces.entry(transaction.sender).or_default();
                assert_eq!(transaction.nonce, *next, "{hash}");
                *next += 1;
                burnt += found.receipt.unwrap().burnt.0;
            }
        }
        let proposers = clients[0].get_validators(Some(0)).await.unwrap();
        let mut accounts: Vec<Address> = DEV_NAMES.map(address).into();
        let proposers = proposers.iter();
        accounts.extend(proposers.map(|proposer| Address::of_key(&proposer.key)));
        accounts.extend(&self.contracts);
        for client in &clients {
            let mut supply = burnt;
            for account in &accounts {
                let account = client.get_account(account.to_string(), Some(last));
                let account = account.await.unwrap();
                supply += account.balance.0 + account.deposit.0;
            }
            assert_eq!(supply, DEV_NAMES.len() as u128 * DEV_BALANCE);
        }
    }

    fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.testnet.homes[node].join("log")).unwrap()
    }
}

fn status(node: &Dev) -> Value {
    serde_json::from_str(&ask(node, "/status").1).unwrap()
}

/// Asks until it is so; there is no event for it.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let asking = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_decides_nothing_and_catches_up() {
    let mut net = Net::new().await;
    let nodes = net.up();
    net.send(&nodes[3], "alice", 0).await;
    // One of four: the others go on without it, and it does not without them.
    net.split(&[&[0, 1, 2], &[3]], Wire::Cut);
    let last = net.send(&nodes[0], "bob", 0).await;
    let alone = client(&nodes[3].url());
    let lonely = hex_of(&transfer(&key("carol"), 0, address("dave"), 1));
    let answer = alone.submit_transaction(lonely.clone(), Some(WaitUntil::Included), Some(1));
    assert_eq!(answer.await.unwrap().status, SubmitStatus::Pending);
    let last = net.send(&nodes[1], "bob", 1).await.max(last);
    assert!(status(&nodes[3])["height"].as_u64() < Some(last));
    net.split(&[&[0, 1, 2, 3]], Wire::Whole);
    // What it was given meanwhile is not lost either.
    let answer = alone.submit_transaction(lonely, Some(WaitUntil::Included), Some(PATIENCE_MS));
    let receipt = answer.await.unwrap().receipt.unwrap();
    net.acknowledged.insert(receipt.transaction, receipt);
    net.audit(&nodes.iter().collect::<Vec<_>>()).await;

    // Two and two: nobody decides, however often they repeat their votes.
    net.split(&[&[0, 1], &[2, 3]], Wire::Silent);
    let repeated = || -> Vec<u64> {
        let name = "malachitebft_core_consensus_rebroadcast_timeouts_total";
        let count = |node: &Dev| {
            let (_, metrics) = ask(node, "/metrics");
            let line = metrics.lines().find(|line| line.starts_with(name))?;
            line.rsplit_once(' ')?.1.parse().ok()
        };
        nodes.iter().map(|node| count(node).unwrap_or(0)).collect()
    };
    let more = async |times: u64| {
        let before = repeated();
        let so = || {
            repeated()
                .iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + times)
        };
        until("they repeat their votes", so).await;
    };
    let heights = || -> Vec<_> {
        nodes
            .iter()
            .map(|node| status(node)["height"].as_u64())
            .collect()
    };
    // A block may have been on its way.
    more(1).await;
    let before = heights();
    more(2).await;
    assert_eq!(heights(), before);
    net.split(&[&[0, 1, 2, 3]], Wire::Whole);
    net.send(&nodes[0], "alice", 1).await;
    net.send(&nodes[2], "bob", 2).await;
    net.audit(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_with_a_corrupt_log_says_so_and_signs_nothing() {
    let mut net = Net::new().await;
    let home = &net.testnet.homes[3];
    let [wal, guard] = ["wal", "guard"].map(|name| home.join("consensus").join(name));
    // Alone it votes for no block, and waits.
    let node = net.start(3);
    let size = || std::fs::metadata(&wal).map_or(0, |file| file.len());
    // The head has 12 bytes, that the time for a proposal was over some 30, a vote over 100.
    until("it votes", || size() > 100).await;
    let genesis = block(&client(&node.url()), 0).await;
    node.kill();
    let good = std::fs::read(&wal).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&wal, &bad).unwrap();
    let files = Home::read(home, &[]).unwrap();
    let voter = files.validator_key.unwrap().public();

    let signed = || {
        let guard = Guard::open(&guard, &wal, genesis, Some(voter));
        guard.unwrap().last()
    };
    let before = signed();
    assert!(before.is_some());

    let nodes = net.up();
    until("it says so", || ask(&nodes[3], "/health").0 == 503).await;
    let (_, body) = ask(&nodes[3], "/health");
    assert!(
        body.contains("safety failure") && body.contains("corrupt"),
        "{body}"
    );
    assert_eq!(ask(&nodes[3], "/ready").0, 503);
    for nonce in 0..3 {
        net.send(&nodes[0], "alice", nonce).await;
    }
    assert_eq!(signed(), before);
    // It answers, and takes nothing.
    let client = client(&nodes[3].url());
    assert_eq!(client.get_status().await.unwrap().height, 0);
    let bytes = hex_of(&transfer(&key("bob"), 0, address("dave"), 1));
    let refused = client
        .submit_transaction(bytes, Some(WaitUntil::None), None)
        .await;
    assert_eq!(not_accepted(refused).1["kind"], "node_failed");
    net.audit(&nodes[..3].iter().collect::<Vec<_>>()).await;
    let mut nodes = nodes;
    assert_eq!(nodes.remove(3).signal("-TERM").code(), Some(1));

    // If not even its head can be read the node does not start.
    bad[0] ^= 0xff;
    std::fs::write(&wal, &bad).unwrap();
    let end = validator(&net.testnet.homes[3], &net.settings[3])
        .output()
        .unwrap();
    let said = String::from_utf8(end.stderr).unwrap();
    assert!(
        end.status.code() == Some(2) && said.contains("the consensus engine does not start"),
        "{said}"
    );
    assert_eq!(signed(), before);
}

/// Two processes with one validator's key, as after a mistake of an operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_equivocates_is_noticed_and_changes_nothing() {
    let mut net = Net::new().await;
    let (twin, settings) = net.another("twin");
    let key = net.testnet.homes[3].join("validator_key.json");
    std::fs::copy(key, twin.join("validator_key.json")).unwrap();
    let nodes = net.up();
    let twin = Dev::validator_with(&twin, &settings);
    let mut nonce = 0;
    let seen = |net: &Net| {
        let said = |node| net.log(node).matches("signed two ").count();
        (0..3).any(|node| said(node) > 0)
    };
    while !seen(&net) {
        assert!(nonce < 300, "nobody notices");
        net.send(&nodes[nonce as usize % 3], "alice", nonce).await;
        nonce += 1;
    }
    let counted = |node: &Dev| {
        let (_, metrics) = ask(node, "/metrics");
        let lines = metrics
            .lines()
            .filter(|line| line.contains("_equivocation_"));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum::<u64>()
    };
    assert!(nodes[..3].iter().any(|node| counted(node) > 0));
    net.send(&nodes[0], "bob", 0).await;
    // The twins too have what the others have decided.
    net.audit(&nodes.iter().chain([&twin]).collect::<Vec<_>>())
        .await;
}

/// A validator in this process whose blocks commit to a state that they do not give.
struct WrongRoot {
    honest: Validator,
    lies: AtomicU64,
}

impl Application for WrongRoot {
    type Error = ValidatorError;

    fn head(&self) -> Result<u64, ValidatorError> {
        self.honest.head()
    }

    fn oldest(&self) -> Result<u64, ValidatorError> {
        self.honest.oldest()
    }

    fn validators(&self, height: u64) -> Result<ValidatorSet, ValidatorError> {
        self.honest.validators(height)
    }

    fn propose(
        &self,
        height: u64,
        round: u32,
        proposer: slackline_consensus::Address,
        deadline: Instant,
    ) -> Result<Proposed, ValidatorError> {
        let honest = self.honest.propose(height, round, proposer, deadline)?;
        let mut block: Block = borsh::from_slice(&honest.bytes).unwrap();
        block.header.state_root = Hash([0xbb; 32]);
        self.lies.fetch_add(1, Ordering::SeqCst);
        Ok(Proposed {
            id: block.header.hash(),
            bytes: Bytes::from(encode(&block)),
        })
    }

    fn validate(&self, height: u64, bytes: &Bytes) -> Result<Verdict, ValidatorError> {
        self.honest.validate(height, bytes)
    }

    fn commit(&self, height: u64, bytes: &Bytes, certificate: &[u8]) -> Result<(), ValidatorError> {
        self.honest.commit(height, bytes, certificate)
    }

    fn decided(&self, height: u64) -> Result<Option<Decided>, ValidatorError> {
        self.honest.decided(height)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposer_with_a_wrong_root_gets_no_block() {
    let mut net = Net::new().await;
    let split = |setting: &String| {
        let (name, value) = setting.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    let overrides: Vec<_> = net.settings[3].iter().map(split).collect();
    let home = Home::read(&net.testnet.homes[3], &overrides).unwrap();
    let path = database(&home.path);
    let chain = Arc::new(Chain::open(&path, &home.genesis, Mode::Slacked).unwrap());
    let producer = Arc::new(Producer::passive(chain.clone(), Limits::default()));
    let key = home.validator_key.unwrap();
    let identity = Identity {
        chain: chain.block(0).unwrap().unwrap().header.hash(),
        directory: home.path.join("consensus"),
        node_key: home.node_key.signing().clone(),
        consensus_key: Some(key.signing().clone()),
    };
    let liar = Arc::new(WrongRoot {
        honest: Validator::new(chain.clone(), producer, Arc::new(Metrics::default())),
        lies: AtomicU64::new(0),
    });
    let consensus = Consensus::start(home.config.consensus, identity, liar.clone());
    let consensus = consensus.await.unwrap();
    // Three are needed of the four, so these vote for each other's blocks only.
    let nodes: Vec<Dev> = [0, 1, 2].map(|node| net.start(node)).into();
    let mut nonce = 0;
    while liar.lies.load(Ordering::SeqCst) < 3 {
        assert!(nonce < 300, "it has no turn");
        net.send(&nodes[nonce as usize % 3], "alice", nonce).await;
        nonce += 1;
    }
    let last = net.send(&nodes[0], "bob", 0).await;
    net.audit(&nodes.iter().collect::<Vec<_>>()).await;
    let client = client(&nodes[0].url());
    for height in 1..=last {
        let block = client.get_block(Some(height)).await.unwrap();
        assert_ne!(block.header.proposer, key.address(), "height {height}");
    }
    for node in 0..3 {
        let log = net.log(node);
        assert!(
            log.contains("invalid block") && log.contains("state_root should be"),
            "{log}"
        );
    }
    // It follows the others, and is not hurt by its lies.
    let mut decided = consensus.decided();
    let follows = decided.wait_for(|decided| *decided >= last);
    assert!(
        tokio::time::timeout(PATIENCE, follows)
            .await
            .unwrap()
            .is_ok()
    );
    assert_eq!(consensus.health(), Health::Ok);
    let head = chain.block(last).unwrap().unwrap().header.hash();
    assert_eq!(head, client.get_block(Some(last)).await.unwrap().hash);
    consensus.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_joins_by_blocks() {
    let mut net = Net::new().await;
    let mut nodes = net.up();
    for nonce in 0..3 {
        net.send(&nodes[nonce as usize], "alice", nonce).await;
    }
    let (home, settings) = net.another("new");
    let new = Dev::validator_with(&home, &settings);
    net.send(&new, "bob", 0).await;
    nodes.push(new);
    net.audit(&nodes.iter().collect::<Vec<_>>()).await;
}

/// One more than may be missing is, for a moment: the three that are left need each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stops_as_another_starts() {
    let mut net = Net::new().await;
    let mut nodes = net.up();
    net.send(&nodes[0], "alice", 0).await;
    nodes.remove(3).kill();
    net.send(&nodes[0], "alice", 1).await;
    nodes.push(net.start(3));
    assert_eq!(nodes.remove(2).signal("-TERM").code(), Some(0));
    for (node, nonce) in nodes.iter().zip(0..) {
        net.send(node, "bob", nonce).await;
    }
    net.audit(&nodes.iter().collect::<Vec<_>>()).await;
}

/// Bytes that look like nothing, the same each time.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..count).map(next).collect()
}

/// A peer on the port of consensus that speaks all protocols of the chain.
async fn consensus_peer(port: u16, genesis: &Hash) -> network::handle::Handle {
    let protocol = |name: &str| format!("/slackline/{}/{name}/v1", &genesis.to_string()[..16]);
    let config = network::Config {
        listen_addr: "/ip4/127.0.0.1/tcp/0".parse().unwrap(),
        persistent_peers: vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()],
        persistent_peers_only: false,
        discovery: network::DiscoveryConfig {
            enabled: false,
            ..Default::default()
        },
        idle_connection_timeout: PATIENCE,
        transport: network::TransportProtocol::Tcp,
        gossipsub: Default::default(),
        pubsub_protocol: network::PubSubProtocol::GossipSub,
        channel_names: Default::default(),
        rpc_max_size: 1 << 20,
        pubsub_max_size: 512 << 10,
        pubsub_max_size_per_topic: Default::default(),
        sync_request_timeout: PATIENCE,
        sync_max_request_size: 64 << 10,
        sync_parallel_requests: 4,
        enable_consensus: true,
        enable_sync: true,
        protocol_names: network::ProtocolNames {
            consensus: protocol("consensus"),
            discovery_kad: protocol("kad"),
            discovery_regres: protocol("discovery"),
            sync: protocol("sync"),
            validator_proof: protocol("validator-proof"),
        },
    };
    let keys = network::Keypair::generate_ed25519();
    let identity = network::NetworkIdentity::new("junk".to_owned(), keys, None);
    let registry = malachite_metrics::SharedRegistry::global().with_moniker(port.to_string());
    network::spawn(identity, config, registry).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_send_garbage_are_dropped_and_the_chain_goes_on() {
    let mut net = Net::new().await;
    let nodes = net.up();
    net.send(&nodes[0], "alice", 0).await;
    let port = |offset| net.testnet.base_port + offset;

    // Bytes of no protocol: the connection is closed.
    for (seed, offset) in [(1, 2), (2, 2), (3, 3), (4, 3)] {
        let mut stream = TcpStream::connect(("127.0.0.1", port(offset)))
            .await
            .unwrap();
        // It may be closed in the middle of them.
        let _ = stream.write_all(&noise(seed, 100_000)).await;
        let closed = async {
            while stream
                .read(&mut [0; 1024])
                .await
                .is_ok_and(|count| count > 0)
            {}
        };
        tokio::time::timeout(PATIENCE, closed)
            .await
            .expect("it is closed");
    }

    // Transactions that are none: the peer is banned.
    let listen = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let chain_id = slackline_node::dev::DEV_CHAIN_ID;
    let mut config = slackline_gossip::Config::new([9; 32], chain_id, listen);
    let gossip_port = port(3);
    config.peers = vec![format!("/ip4/127.0.0.1/tcp/{gossip_port}").parse().unwrap()];
    let junk = Gossip::start(config, |_: Vec<slackline_gossip::Message>| Vec::new());
    let junk = junk.await.unwrap();
    until("it is connected", || {
        junk.peers().values().any(|peer| peer.subscribed)
    })
    .await;
    for seed in 0..10 {
        junk.publish(&noise(seed, 300)).unwrap();
    }
    let banned = r#"slackline_gossip_messages_total{what="bans"} 1"#;
    until("it is banned", || {
        ask(&nodes[0], "/metrics").1.contains(banned)
    })
    .await;
    until("it is disconnected", || junk.peers().is_empty()).await;
    junk.shutdown().await;
    for nonce in 1..4 {
        net.send(&nodes[nonce as usize], "alice", nonce).await;
    }
    net.audit(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        assert_eq!(ask(node, "/health").0, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_parts_and_requests_that_are_none_are_forgotten() {
    let mut net = Net::new().await;
    let nodes = net.up();
    net.send(&nodes[0], "alice", 0).await;
    let port = |offset| net.testnet.base_port + offset;
    let genesis = client(&nodes[0].url())
        .get_block(Some(0))
        .await
        .unwrap()
        .hash;
    let (mut events, junk) = consensus_peer(port(2), &genesis).await.split();
    let connected = async {
        loop {
            if let network::Event::PeerSubscribed(peer, _) = events.recv().await.unwrap() {
                return peer;
            }
        }
    };
    let peer = tokio::time::timeout(PATIENCE, connected).await.unwrap();
    // Nobody else listens to what it hears.
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    // What is published before the peer has said that it listens to a channel is not sent: again, until it is.
    let heard = async {
        for seed in 0.. {
            for channel in network::Channel::consensus() {
                let bytes = noise(seed, 1 + 97 * (seed % 30) as usize);
                junk.publish(*channel, bytes.into()).await.unwrap();
            }
            let bytes = noise(seed, 50).into();
            junk.sync_request(peer, bytes).await.unwrap();
            let log = net.log(0);
            if log.contains("Failed to decode consensus message")
                && log.contains("Failed to decode liveness message")
                && log.contains("Failed to decode stream message")
                && log.contains("Failed to decode sync request")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, heard)
        .await
        .expect("it is heard");
    for nonce in 1..4 {
        net.send(&nodes[nonce as usize], "alice", nonce).await;
    }
    net.audit(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        assert_eq!(ask(node, "/health").0, 200);
    }
    junk.shutdown().await.unwrap();
}
