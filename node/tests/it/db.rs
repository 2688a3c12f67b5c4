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
