//! Several validators as processes on this machine.

use crate::process::{Dev, slackline};
use crate::support::*;
use jsonrpsee::http_client::HttpClient;
use serde_json::Value;
use slackline_executor::Hash;
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{ReceiptJson, SubmitStatus, TransactionStatus, WaitUntil};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use tempfile::TempDir;

/// How long anything may take, in milliseconds.
pub(crate) const PATIENCE_MS: u64 = 60_000;

/// Directories of validators that find each other.
pub(crate) struct Testnet {
    pub(crate) dir: TempDir,
    pub(crate) homes: Vec<PathBuf>,
    /// Node n has the ports from this + 10 n: RPC, operators, consensus, gossip.
    pub(crate) base_port: u16,
    _claim: TcpListener,
}

impl Testnet {
    pub(crate) fn new(count: u16) -> Testnet {
        let dir = tempfile::tempdir().unwrap();
        // Ports below those that the kernel hands out, ten for each node. Who listens on the last of the first has them all, also while no node runs.
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port));
        let first = std::process::id() as u16 % 64;
        let (base, claim) = (0..64)
            .map(|n| 30_000 + (first + n) % 64 * 40)
            .find_map(|base| {
                let claim = free(base + 9).ok()?;
                let mut others = (0..10 * count).filter(|offset| *offset != 9);
                let all = others.all(|offset| free(base + offset).is_ok());
                all.then_some((base, claim))
            })
            .unwrap();
        let made = slackline()
            .args([
                "testnet",
                &count.to_string(),
                "--base-port",
                &base.to_string(),
                "--dir",
            ])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let homes = (0..count)
            .map(|n| dir.path().join(format!("node{n}")))
            .collect();
        Testnet {
            dir,
            homes,
            base_port: base,
            _claim: claim,
        }
    }

    pub(crate) fn up(&self) -> Vec<Dev> {
        self.up_with(|_| Vec::new())
    }

    /// Starts all, each with settings that go over its file's.
    pub(crate) fn up_with(&self, settings: impl Fn(usize) -> Vec<String>) -> Vec<Dev> {
        let starting: Vec<_> = (0..)
            .zip(&self.homes)
            .map(|(n, home)| {
                let (home, settings) = (home.clone(), settings(n));
                std::thread::spawn(move || Dev::validator_with(&home, &settings))
            })
            .collect();
        starting
            .into_iter()
            .map(|node| node.join().unwrap())
            .collect()
    }
}

pub(crate) async fn sent(client: &HttpClient, name: &str, nonce: u64) -> ReceiptJson {
    let transaction = transfer(&key(name), nonce, address("dave"), 1);
    let bytes = hex_of(&transaction);
    let answer = client
        .submit_transaction(bytes, Some(WaitUntil::Included), Some(PATIENCE_MS))
        .await
        .unwrap();
    assert_eq!(answer.status, SubmitStatus::Included, "{answer:?}");
    answer.receipt.unwrap()
}

async fn in_time<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let patience = std::time::Duration::from_millis(PATIENCE_MS);
    let waited = tokio::time::timeout(patience, waiting).await;
    waited.expect(what)
}

/// Waits until the node has the block, and returns its hash.
pub(crate) async fn block(client: &HttpClient, height: u64) -> Hash {
    let waiting = async {
        loop {
            match client.get_block(Some(height)).await {
                Ok(block) => return block.hash,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    in_time("the node gets there", waiting).await
}

async fn same_blocks(nodes: &[Dev], height: u64) {
    let mut hashes = Vec::new();
    for node in nodes {
        hashes.push(block(&client(&node.url()), height).await);
    }
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "two blocks at height {height}: {hashes:?}"
    );
}

/// What the operators' port says: the status, and the body.
pub(crate) fn ask(node: &Dev, path: &str) -> (u16, String) {
    let ops = node.about["ops"]
        .as_str()
        .unwrap()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let mut stream = TcpStream::connect(ops).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// Waits until the node talks to so many others.
async fn connected(node: &Dev, peers: u64) {
    let waiting = async {
        loop {
            let status: Value = serde_json::from_str(&ask(node, "/status").1).unwrap();
            if status["consensus"]["peers"] == peers {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    in_time("it finds the others", waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_agree_and_one_may_die() {
    let testnet = Testnet::new(4);
    let mut nodes = testnet.up();
    let mut last = 0;
    let mut receipts: BTreeMap<Hash, ReceiptJson> = BTreeMap::new();
    // Through each of them.
    for (node, name) in nodes.iter().zip(["alice", "bob", "carol", "dave"]) {
        let receipt = sent(&client(&node.url()), name, 0).await;
        last = last.max(receipt.height);
        receipts.insert(receipt.transaction, receipt);
    }
    for height in 1..=last {
        same_blocks(&nodes, height).await;
    }
    for node in &nodes {
        assert_eq!(ask(node, "/health"), (200, r#"{"ok":true}"#.to_owned()));
        assert_eq!(ask(node, "/ready").0, 200);
        let (_, status) = ask(node, "/status");
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["consensus"]["peers"], 3, "{status}");
        let (_, metrics) = ask(node, "/metrics");
        assert!(metrics.contains("slackline_height "), "{metrics}");
        assert!(metrics.ends_with("\n# EOF\n") && metrics.matches("# EOF").count() == 1);
        assert!(
            metrics.contains("slackline_overshoot_fuel_count"),
            "{metrics}"
        );
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.expect(name).trim().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 0.0);
        assert!(value("slackline_root_seconds_count ") > 0.0);
    }
    // One dies; the others are enough.
    nodes.remove(3).kill();
    for nonce in 1..4 {
        let receipt = sent(&client(&nodes[0].url()), "alice", nonce).await;
        last = receipt.height;
        receipts.insert(receipt.transaction, receipt);
    }
    same_blocks(&nodes, last).await;
    // It comes back, catches up, and counts again.
    nodes.push(Dev::validator(&testnet.homes[3]));
    same_blocks(&nodes, last).await;
    connected(&nodes[3], 3).await;
    nodes.remove(2).kill();
    let receipt = sent(&client(&nodes[2].url()), "bob", 1).await;
    last = receipt.height;
    same_blocks(&nodes, last).await;
    receipts.insert(receipt.transaction, receipt);

    // All at once: nothing that was acknowledged is lost.
    for node in nodes {
        node.kill();
    }
    let nodes = testnet.up();
    for node in &nodes {
        let client = client(&node.url());
        block(&client, last).await;
        for (hash, receipt) in &receipts {
            let found = client.get_transaction(hash.to_string()).await.unwrap();
            assert_eq!(
                (found.status, found.receipt.as_ref()),
                (TransactionStatus::Included, Some(receipt))
            );
        }
    }
    let receipt = sent(&client(&nodes[1].url()), "carol", 1).await;
    same_blocks(&nodes, receipt.height).await;
    // They finish their block and say that all is well.
    for node in nodes {
        assert_eq!(node.signal("-TERM").code(), Some(0));
    }
}

/// What a client sends through one node may overtake what it has sent through another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonces_may_come_through_different_nodes_in_any_order() {
    let testnet = Testnet::new(4);
    let nodes = testnet.up();
    let submit = async |node: &Dev, nonce| {
        let bytes = hex_of(&transfer(&key("alice"), nonce, address("dave"), 1));
        let client = client(&node.url());
        let answer = client.submit_transaction(bytes, Some(WaitUntil::None), None);
        answer.await.unwrap()
    };
    for (node, nonce) in [(0, 2), (1, 1)] {
        let answer = submit(&nodes[node], nonce).await;
        assert_eq!(answer.status, SubmitStatus::Pending, "{answer:?}");
        assert_eq!(answer.missing_nonce, Some(0));
        let client = client(&nodes[node].url());
        let asked = client.get_transaction(answer.hash.to_string());
        let asked = asked.await.unwrap();
        assert_eq!(
            (asked.status, asked.missing_nonce),
            (TransactionStatus::Pending, Some(0))
        );
    }
    // So many cannot be on their way.
    let (code, data) = not_accepted(Ok(submit(&nodes[0], 1_000).await));
    assert_eq!((code, &data["expected"]), (1006, &0.into()));
    for nonce in 0..3 {
        sent(&client(&nodes[2].url()), "alice", nonce).await;
    }
}

/// What has been accepted and is in no block yet, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_block_survives_being_killed() {
    survives_being_killed(Testnet::new(4)).await;
}

/// Also where it is of no use, at a node that makes no blocks: those that do get it after the start, which had no peer before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_a_follower_gets_to_validators_after_a_restart() {
    let testnet = Testnet::new(4);
    std::fs::remove_file(testnet.homes[0].join("validator_key.json")).unwrap();
    survives_being_killed(testnet).await;
}

async fn survives_being_killed(testnet: Testnet) {
    // Alone it decides nothing.
    let alone = Dev::validator(&testnet.homes[0]);
    let rpc = client(&alone.url());
    let mut hashes = Vec::new();
    for nonce in 0..3 {
        let bytes = hex_of(&transfer(&key("alice"), nonce, address("dave"), 1));
        let accepted = rpc.submit_transaction(bytes, Some(WaitUntil::None), None);
        let accepted = accepted.await.unwrap();
        assert_eq!(accepted.status, SubmitStatus::Pending, "{accepted:?}");
        hashes.push(accepted.hash);
    }
    alone.kill();
    // Nobody submits them again.
    let nodes = testnet.up();
    let rpc = client(&nodes[1].url());
    for hash in hashes {
        let included = async {
            while rpc.get_transaction(hash.to_string()).await.unwrap().status
                != TransactionStatus::Included
            {}
        };
        in_time("it gets into a block", included).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_validator_catches_up() {
    let testnet = Testnet::new(4);
    let nodes = testnet.up();
    let first = sent(&client(&nodes[0].url()), "alice", 0).await;
    same_blocks(&nodes, first.height).await;
    nodes[3].send("-STOP");
    let paused = std::time::Instant::now();
    let least = if std::env::var_os("SLACKLINE_FULL").is_some() {
        std::time::Duration::from_secs(30)
    } else {
        std::time::Duration::ZERO
    };
    let (mut last, mut nonce) = (first.height, 1);
    while nonce < 6 || paused.elapsed() < least {
        last = sent(&client(&nodes[1].url()), "alice", nonce).await.height;
        nonce += 1;
    }
    same_blocks(&nodes[..3], last).await;
    nodes[3].send("-CONT");
    same_blocks(&nodes, last).await;
}

#[test]
fn a_directory_is_made_once_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let run = |args: &[&str]| {
        let out = slackline()
            .args(args)
            .arg("--data-dir")
            .arg(&home)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let (code, _, err) = run(&["start"]);
    assert!(code == Some(2) && err.contains("slackline init"), "{err}");
    assert_eq!(run(&["init"]).0, Some(0));
    let (code, _, err) = run(&["init"]);
    assert!(code == Some(2) && err.contains("exists"), "{err}");
    assert_eq!(run(&["config", "check"]).0, Some(0));
    let (_, printed, _) = run(&["config", "print", "--set", "rpc.listen=127.0.0.1:7"]);
    assert!(printed.contains("listen = \"127.0.0.1:7\""), "{printed}");
    let (code, _, err) = run(&["config", "check", "--set", "rpc.lissten=1"]);
    assert!(code == Some(2) && err.contains("lissten"), "{err}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for name in ["validator_key.json", "node_key.json"] {
            let mode = std::fs::metadata(home.join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
    // Alone it decides alone.
    let free = [
        "--set",
        "rpc.listen=127.0.0.1:0",
        "--set",
        "ops.listen=127.0.0.1:0",
        "--set",
        "consensus.listen=/ip4/127.0.0.1/tcp/0",
        "--set",
        "gossip.listen=/ip4/127.0.0.1/tcp/0",
    ];
    let mut command = slackline();
    command
        .args(["start", "--print-json", "--data-dir"])
        .arg(&home)
        .args(free);
    let node = Dev::spawn(command.env("SLACKLINE_LOG", "warn"));
    let (code, out, err) = {
        let out = node.run(&["transfer", "bob", "1"]);
        (
            out.status.code(),
            String::from_utf8(out.stdout).unwrap(),
            String::from_utf8(out.stderr).unwrap(),
        )
    };
    assert_eq!(code, Some(0), "{out}{err}");
    // What it has signed, while it runs, and when it does not.
    let signed = || {
        let (code, out, err) = run(&["key", "guard", "--json"]);
        assert_eq!(code, Some(0), "{err}");
        let signed: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(signed["refused"], false);
        signed["height"].as_u64().unwrap()
    };
    let running = signed();
    assert!(running > 0);
    assert_eq!(node.signal("-TERM").code(), Some(0));
    assert!(signed() >= running);
    // It ends where it is told to, and has signed for no height after that.
    let last = (signed() + 3).to_string();
    for _ in 0..2 {
        let mut command = slackline();
        command
            .args([
                "start",
                "--print-json",
                "--halt-height",
                &last,
                "--data-dir",
            ])
            .arg(&home)
            .args(free);
        let node = Dev::spawn(command.env("SLACKLINE_LOG", "warn").stderr(Stdio::piped()));
        let (code, said) = node.end();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(signed().to_string(), last);
    }
    let (_, stats, _) = run(&["db", "stats", "--json"]);
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["height"].to_string(), last);
}

/// Each operator makes a directory, one puts the genesis together, all take it: they are on one chain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genesis_is_put_together_from_the_operators_keys() {
    let testnet = Testnet::new(4);
    let run = |args: &[&str]| {
        let mut command = slackline();
        let out = command.args(args).current_dir(testnet.dir.path());
        let out = out.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let mut args: Vec<String> = Vec::new();
    for home in &testnet.homes {
        let key = home.join("validator_key.json");
        let (_, shown, _) = run(&["key", "show", "--json", key.to_str().unwrap()]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let key = shown["public_key"].as_str().unwrap();
        args.extend(["--validator".to_owned(), format!("{key}=7")]);
    }
    let alice = address("alice").to_string();
    let account = format!("{alice}=1_000_000_000_000");
    let assemble = ["genesis", "assemble", "--json", "--chain-id", "7001"];
    let others = ["--account", &account, "--governor", &alice];
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.splice(0..0, assemble.into_iter().chain(others));
    let (code, made, err) = run(&args);
    assert_eq!(code, Some(0), "{err}");
    let made: Value = serde_json::from_str(&made).unwrap();
    assert!(made["warnings"][0].as_str().unwrap().contains("alice"));
    // Never over another one; and not one that cannot work.
    let (code, _, err) = run(&args);
    assert!(code == Some(2) && err.contains("exists"), "{err}");
    let twice = [&args[..], &args[args.len() - 2..], &["--out", "other.json"]].concat();
    let (code, _, err) = run(&twice);
    assert!(code == Some(2) && err.contains("listed twice"), "{err}");
    assert!(!testnet.dir.path().join("other.json").exists());

    let (code, checked, err) = run(&["genesis", "check", "--json", "genesis.json"]);
    assert_eq!(code, Some(0), "{err}");
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked, made);
    for home in &testnet.homes {
        let genesis = testnet.dir.path().join("genesis.json");
        std::fs::copy(genesis, home.join("genesis.json")).unwrap();
    }
    let nodes = testnet.up();
    for node in &nodes {
        let client = client(&node.url());
        assert_eq!(made["block_0"], block(&client, 0).await.to_string());
        block(&client, 2).await;
    }
    let validators = client(&nodes[0].url()).get_validators(None).await.unwrap();
    assert_eq!(validators.len(), 4);
    assert!(validators.iter().all(|validator| validator.power == 7));
}
