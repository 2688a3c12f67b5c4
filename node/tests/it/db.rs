//! `slackline db` on a chain that a node has left, and `slackline proof`.

use crate::cli::{cell, seen};
use crate::process::{Dev, slackline};
use serde_json::Value;
use std::path::Path;

fn db(args: &[&str], dir: &Path) -> (i32, String, String) {
    let mut command = slackline();
    seen(
        command
            .arg("db")
            .args(args)
            .arg("--data-dir")
            .arg(dir)
            .output()
            .unwrap(),
    )
}

fn ok(args: &[&str], dir: &Path) -> String {
    let (code, out, err) = db(args, dir);
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}\n{out}");
    out
}

#[test]
fn a_database_is_verified_copied_and_rolled_back() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, copy) = (dir.path().join("chain"), dir.path().join("copy"));
    let dev = Dev::start(Some(&chain));
    for _ in 0..3 {
        assert!(dev.run(&["transfer", "bob", "1"]).status.success());
    }
    let (code, _, err) = db(&["verify"], &chain);
    assert!(
        code == 2 && err.contains("in use by another process"),
        "{err}"
    );
    assert_eq!(dev.signal("-TERM").code(), Some(0));

    let out = ok(&["verify"], &chain);
    assert_eq!(
        (cell(&out, "clean at height"), cell(&out, "blocks checked")),
        ("3", "4")
    );
    assert!(ok(&["stats"], &chain).contains("receipts"));
    ok(&["checkpoint", copy.to_str().unwrap()], &chain);
    let out = ok(&["rollback", "1"], &chain);
    assert_eq!(cell(&out, "rolled back to height"), "1");
    let out = ok(&["verify"], &chain);
    assert_eq!(cell(&out, "clean at height"), "1");
    ok(&["prune", "1"], &chain);
    let (code, _, err) = db(&["rollback", "0"], &chain);
    assert!(code == 2 && err.contains("heights 1 to 1 are"), "{err}");

    // The node goes on from there.
    let dev = Dev::start(Some(&chain));
    assert_eq!(dev.about["height"], 1);
    assert!(dev.run(&["transfer", "bob", "1"]).status.success());
    assert_eq!(dev.signal("-TERM").code(), Some(0));

    let (code, _, err) = db(&["restore", copy.to_str().unwrap()], &chain);
    assert!(code == 2 && err.contains("not empty"), "{err}");
    let restored = dir.path().join("restored");
    let out = ok(&["restore", copy.to_str().unwrap()], &restored);
    assert_eq!(cell(&out, "clean at height"), "3");
    let dev = Dev::start(Some(&restored));
    assert_eq!(dev.about["height"], 3);

    let (code, _, err) = db(&["stats"], &dir.path().join("nothing"));
    assert!(code == 2 && err.contains("no database"), "{err}");
}

/// As tables show numbers.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups
        .map(|group| std::str::from_utf8(group).unwrap())
        .collect();
    groups.join(",")
}

#[test]
fn blocks_are_executed_again_where_they_were_and_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, copy) = (dir.path().join("chain"), dir.path().join("copy"));
    let dev = Dev::start(Some(&chain));
    let token = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/contracts/token.wasm"
    );
    let (code, out, err) = seen(dev.run(&["deploy", token, r#"["1000"]"#]));
    assert_eq!(code, 0, "{err}");
    let token = cell(&out, "contract");
    for (amount, ended) in [
        ("5", "returned null"),
        ("6", "returned null"),
        ("2000", "reverted: InsufficientBalance"),
    ] {
        let args = format!(r#"["bob", "{amount}"]"#);
        let (_, out, _) = seen(dev.run(&["call", token, "transfer", &args]));
        let hash = cell(&out, "transaction");
        // What it has cost, as receipts say it, and where that went.
        let (code, traced, err) = seen(dev.run(&["trace", hash]));
        assert_eq!((code, err.as_str()), (0, ""), "{traced}");
        assert!(traced.contains(r#"token.transfer {"amount":"#), "{traced}");
        assert!(traced.contains(&format!("\n  {ended}")), "{traced}");
        let (_, json, _) = seen(dev.run(&["trace", hash, "--json"]));
        let json: Value = serde_json::from_str(&json).unwrap();
        let used = json["receipt"]["fuel_used"].as_u64().unwrap();
        let call = json["call"]["fuel_used"].as_u64().unwrap();
        assert_eq!(
            cell(&traced, "before the call"),
            format!("{} fuel", grouped(used - call))
        );
        assert_eq!(
            cell(&out, "fuel used").split(' ').next(),
            Some(&*grouped(used))
        );
    }
    let (_, out, _) = seen(dev.run(&["transfer", "bob", "1"]));
    let (_, traced, _) = seen(dev.run(&["trace", cell(&out, "transaction")]));
    assert!(traced.contains("It calls no contract."), "{traced}");
    let (code, _, err) = seen(dev.run(&["trace", &"00".repeat(32)]));
    assert!(
        code == 2 && err.contains("no block has a transaction"),
        "{err}"
    );
    assert_eq!(dev.signal("-TERM").code(), Some(0));
    let out = ok(&["verify", "--execute"], &chain);
    assert_eq!(cell(&out, "executed again"), "5");
    let out = ok(&["verify", "--execute", "--from", "5"], &chain);
    assert_eq!(cell(&out, "executed again"), "1");

    let file = dir.path().join("blocks");
    let path = file.to_str().unwrap();
    assert_eq!(
        cell(&ok(&["export", path], &chain), "exported to height"),
        "5"
    );
    let (code, _, err) = db(&["export", path], &chain);
    assert!(code == 2 && err.contains("File exists"), "{err}");
    assert_eq!(
        cell(&ok(&["import", path], &copy), "imported to height"),
        "5"
    );
    let root = |dir: &Path| cell(&ok(&["verify"], dir), "state root").to_owned();
    assert_eq!(root(&copy), root(&chain));
    let dev = Dev::start(Some(&copy));
    let (_, out, _) = seen(dev.run(&["view", token, "balance", r#"["bob"]"#]));
    assert_eq!(cell(&out, "returned"), r#""11""#);
    let (code, _, err) = db(&["import", path], &copy);
    assert!(
        code == 2 && err.contains("exists: import makes a new"),
        "{err}"
    );

    // A file that was cut, and blocks that came about otherwise.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
    let (code, _, err) = db(&["import", path], &dir.path().join("cut"));
    assert!(code == 2 && err.contains("is damaged"), "{err}");
    let mut changed = bytes.clone();
    // The last byte of the last block is of its last transaction's signature.
    let last = changed.len() - 5;
    changed[last] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    let other = dir.path().join("other");
    let (code, _, err) = db(&["import", path], &other);
    assert!(code == 2 && err.contains("block 5"), "{err}");
    assert_eq!(cell(&ok(&["verify"], &other), "clean at height"), "4");
}

#[test]
fn a_proof_is_of_one_block_and_one_value() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(None);
    assert!(dev.run(&["transfer", "bob", "1"]).status.success());
    let (code, proof, _) = seen(dev.run(&["proof", "get", "bob", "--height", "1"]));
    assert_eq!(code, 0);
    let hash = |height: &str| {
        let (_, out, _) = seen(dev.run(&["block", height, "--json"]));
        let block: Value = serde_json::from_str(&out).unwrap();
        block["hash"].as_str().unwrap().to_owned()
    };
    let file = dir.path().join("proof.json");
    let verify = |text: &str, hash: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = slackline();
        command
            .args(["proof", "verify", "--block", hash])
            .arg(&file);
        seen(command.output().unwrap())
    };
    let (code, out, _) = verify(&proof, &hash("1"));
    assert_eq!((code, cell(&out, "proved at height")), (0, "1"));
    let (code, _, err) = verify(&proof, &hash("0"));
    assert!(code == 1 && err.contains("not proved"), "{err}");
    let mut changed: Value = serde_json::from_str(&proof).unwrap();
    changed["value"] = Value::Null;
    let (code, _, err) = verify(&changed.to_string(), &hash("1"));
    assert!(code == 1 && err.contains("not proved"), "{err}");
    assert_eq!(verify("{}", &hash("1")).0, 2);

    let (code, proof, _) = seen(dev.run(&["proof", "get", "bob", "--key", "00ff"]));
    assert_eq!(code, 0);
    let (code, out, _) = verify(&proof, &hash("1"));
    assert_eq!((code, cell(&out, "value")), (0, "none: the key is absent"));
    let (code, _, err) = seen(dev.run(&["proof", "get", "bob", "--height", "9"]));
    assert!(code == 2 && err.contains('9'), "{err}");
}
