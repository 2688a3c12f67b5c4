//! A new node joins by a snapshot, and by nothing that merely looks like one.

use crate::faults::{Net, until};
use crate::process::{Dev, slackline};
use crate::support::*;
use crate::testnet::{block, sent};
use slackline_executor::store::transfer::Part;
use slackline_executor::{Action, Address, account_key, code_hash};
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{OutcomeKind, ReceiptJson};
use slackline_node::snapshot::MAGIC;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Becomes other code, or makes a contract of it, by the hash that is its input. Two of them differ in their names.
fn shifter(name: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(module
        (import "slackline_v1" "input_read" (func $input_read (param i32)))
        (import "slackline_v1" "upgrade" (func $upgrade (param i32 i32 i32 i64) (result i32)))
        (import "slackline_v1" "deploy" (func $deploy (param i32 i32 i32 i32 i64 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{name}")
        (func (export "become")
            (call $input_read (i32.const 64))
            (if (call $upgrade (i32.const 64) (i32.const 0) (i32.const 0) (i64.const 10000000))
                (then unreachable)))
        (func (export "spawn")
            (call $input_read (i32.const 64))
            (if (call $deploy (i32.const 64) (i32.const 0) (i32.const 0) (i32.const 128) (i64.const 10000000) (i32.const 160))
                (then unreachable))))"#
    ))
}

/// `slackline db download`.
fn download(from: &str, home: &Path, args: &[&str]) -> Command {
    let mut command = slackline();
    command.args(["db", "download", from, "--data-dir"]);
    command.arg(home).args(args);
    command
}

/// What it says when it refuses; nothing is left behind then.
fn refused(from: &Path, home: &Path, args: &[&str]) -> String {
    let out = download(from.to_str().unwrap(), home, args)
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{said}");
    for name in ["db", "db.downloading"] {
        assert!(!home.join(name).exists(), "{name}: {said}");
    }
    said
}

fn parts(snapshot: &[u8]) -> Vec<Part> {
    let mut rest = snapshot.strip_prefix(MAGIC).unwrap();
    let mut parts = Vec::new();
    loop {
        let (length, behind) = rest.split_first_chunk().unwrap();
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            assert!(behind.is_empty());
            return parts;
        }
        let (part, behind) = behind.split_at(length);
        parts.push(borsh::from_slice(part).unwrap());
        rest = behind;
    }
}

fn stream(parts: &[Part]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for part in parts {
        let part = borsh::to_vec(part).unwrap();
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
    }
    bytes.extend([0; 4]);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_by_a_snapshot_and_goes_on_by_blocks() {
    let mut net = Net::new().await;
    let port = net.testnet.base_port + 34;
    net.settings[3].push(format!("snapshot.listen=127.0.0.1:{port}"));
    let mut nodes = net.up();
    let client_ = client(&nodes[0].url());
    let keep = |net: &mut Net, receipt: ReceiptJson| {
        assert_eq!(receipt.outcome.outcome, OutcomeKind::Success, "{receipt:?}");
        net.contracts.extend(receipt.contract);
        net.acknowledged.insert(receipt.transaction, receipt);
    };
    let (alice, bob) = (key("alice"), key("bob"));
    let contract = execute(&client_, &deploy(&bob, 0, wasm(CONTRACT))).await;
    let address = contract.contract.unwrap();
    keep(&mut net, contract);
    let put = execute(&client_, &call(&bob, 1, address, "put", b"value")).await;
    keep(&mut net, put);
    // No contract has the first code any more, and it can still be deployed.
    let (old, new) = (shifter("old"), shifter("new"));
    let (old_hash, new_hash) = (code_hash(&old).0, code_hash(&new).0);
    let made = execute(&client_, &deploy(&bob, 2, old)).await;
    let shifted = made.contract.unwrap();
    keep(&mut net, made);
    let made = execute(&client_, &deploy(&bob, 3, new)).await;
    keep(&mut net, made);
    let done = execute(&client_, &call(&bob, 4, shifted, "become", &new_hash)).await;
    keep(&mut net, done);
    // The last one becomes enough alone: who counts with the genesis's validators takes its blocks for undecided ones.
    let mut validators = client_.get_validators(None).await.unwrap();
    let last: serde_json::Value = serde_json::from_slice(
        &std::fs::read(net.testnet.homes[3].join("validator_key.json")).unwrap(),
    )
    .unwrap();
    for validator in &mut validators {
        let is_last = last["public_key"] == validator.key.to_string();
        validator.power = if is_last { 100 } else { 1 };
    }
    let set = transaction(&alice, 0, Action::SetValidators { validators });
    let set = execute(&client_, &set.sign(alice.signing())).await;
    let changed = set.height;
    keep(&mut net, set);
    block(&client(&nodes[3].url()), changed + 1).await;
    for node in nodes.drain(..3) {
        node.kill();
    }
    let last = nodes.remove(0);
    net.send(&last, "carol", 0).await;

    let (home, settings) = net.another("new");
    let url = format!("http://127.0.0.1:{port}");
    let mut answer = Vec::new();
    let mut request = TcpStream::connect(("127.0.0.1", port)).unwrap();
    request
        .write_all(b"GET /snapshot HTTP/1.0\r\n\r\n")
        .unwrap();
    request.read_to_end(&mut answer).unwrap();
    let body = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap()
        + 4;
    let snapshot = &answer[body..];
    let good = parts(snapshot);
    assert_eq!(stream(&good), snapshot);

    // Wrong in one way each.
    let file = net.testnet.dir.path().join("snapshot");
    let spoilt = |spoil: &dyn Fn(&mut Part)| {
        let mut parts = good.clone();
        parts.iter_mut().for_each(spoil);
        assert_ne!(parts, good);
        std::fs::write(&file, stream(&parts)).unwrap();
        refused(&file, &home, &[])
    };
    let dave = account_key(&crate::support::address("dave"));
    let said = spoilt(&|part| {
        if let Part::State(entries) = part {
            let dave = entries.iter_mut().find(|(key, _)| *key == dave);
            dave.unwrap().1[0] ^= 1;
        }
    });
    assert!(said.contains("the state has root"), "{said}");
    let at = changed as usize;
    let said = spoilt(&|part| {
        if let Part::Blocks(blocks) = part {
            blocks[at].certificate = blocks[at - 1].certificate.clone();
        }
    });
    assert!(
        said.contains("its certificate is another block's"),
        "{said}"
    );
    let said = spoilt(&|part| {
        if let Part::Blocks(blocks) = part {
            blocks[at].block.header.state_root.0[0] ^= 1;
        }
    });
    assert!(
        said.contains("its certificate is another block's"),
        "{said}"
    );
    let said = spoilt(&|part| {
        if let Part::Blocks(blocks) = part {
            blocks.remove(at);
        }
    });
    assert!(said.contains("it does not follow the one before"), "{said}");
    let said = spoilt(&|part| {
        if let Part::Blocks(blocks) = part {
            blocks[at - 1].receipts[0].fee += 1;
        }
    });
    assert!(said.contains("its receipts are not those"), "{said}");
    let said = spoilt(&|part| {
        if let Part::Blocks(blocks) = part {
            blocks[at - 1].block.transactions[0].signature[0] ^= 1;
        }
    });
    assert!(said.contains("its transactions are not those"), "{said}");
    // That the validators were changed, and so who decides, is not for the server to say.
    let said = spoilt(&|part| {
        if let Part::Blocks(blocks) = part {
            let last = blocks.last_mut().unwrap();
            last.certificate.truncate(last.certificate.len() - 1);
        }
    });
    assert!(said.contains("was not decided by the validators"), "{said}");
    std::fs::write(&file, &snapshot[..snapshot.len() - 1]).unwrap();
    let said = refused(&file, &home, &[]);
    assert!(said.contains("breaks off"), "{said}");
    std::fs::write(&file, snapshot).unwrap();
    let hash = block(&client(&last.url()), changed).await;
    let said = refused(
        &file,
        &home,
        &["--trusted", &format!("{}:{hash}", changed + 1)],
    );
    assert!(said.contains("does not have the block"), "{said}");
    let said = refused(&file, &home, &["--trusted", &format!("999999:{hash}")]);
    assert!(said.contains("ends at height"), "{said}");

    // Killed in the middle of a download that hangs, it leaves no database, and the next one begins anew.
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let from = format!("http://{}", slow.local_addr().unwrap());
    let mut hanging = download(&from, &home, &[])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut connection, _) = slow.accept().unwrap();
    connection.write_all(&answer[..answer.len() - 10]).unwrap();
    let partial = home.join("db.downloading/db/CURRENT");
    until("it has begun", || partial.exists()).await;
    let out = download(&url, &home, &[]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(
        out.status.code() == Some(2) && said.contains("another process is downloading"),
        "{said}"
    );
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    assert!(!home.join("db").exists());

    // Its connection may not have ended there.
    let trusted = format!("{changed}:{hash}");
    let again = || {
        let mut command = download(&url, &home, &["--trusted", &trusted]);
        command.output().unwrap()
    };
    let is_busy = |out: &Output| String::from_utf8_lossy(&out.stderr).contains("try again");
    let mut out = again();
    while is_busy(&out) {
        out = again();
    }
    assert!(out.status.success(), "{out:?}");
    assert!(!home.join("db.downloading").exists());
    // Only where nothing is.
    let out = download(&url, &home, &[]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(
        out.status.code() == Some(2) && said.contains("is not empty"),
        "{said}"
    );

    let new = Dev::validator_with(&home, &settings);
    let joined = new.about["height"].as_u64().unwrap();
    assert!(joined > changed, "{}", new.about);
    // It follows by blocks, with the same state, and answers for those before as if it had executed them.
    let receipt = sent(&client(&new.url()), "carol", 1).await;
    assert!(receipt.height > joined);
    net.acknowledged.insert(receipt.transaction, receipt);
    let client_ = client(&new.url());
    let spawned = execute(&client_, &call(&bob, 5, shifted, "spawn", &old_hash)).await;
    net.contracts.push(Address::of_contract(&shifted, 0));
    keep(&mut net, spawned);
    net.audit(&[&last, &new]).await;
    let value = client_.call_view(
        address.to_string(),
        "get".to_owned(),
        None,
        None,
        None,
        None,
    );
    assert_eq!(value.await.unwrap().outcome.data.0, b"value");
    let events = client_.get_events(address.to_string(), None, None, None, None, None);
    assert_eq!(events.await.unwrap().events.len(), 1);

    // What it has can be given on, and is what the database checks itself for.
    assert_eq!(new.signal("-TERM").code(), Some(0));
    let out = slackline()
        .args(["db", "verify", "--data-dir"])
        .arg(&home)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}
