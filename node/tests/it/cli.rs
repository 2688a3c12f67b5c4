//! The commands, as a person or a script types them.

use crate::process::{Dev, send, slackline};
use crate::support::{CONTRACT, METHODS, address, wasm};
use serde_json::Value;
use slackline_node::dev::{DEV_BALANCE, DEV_NAMES};
use std::path::Path;
use std::process::{Output, Stdio};

/// Exit code, standard output, standard error.
pub(crate) fn seen(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The value beside `label` in a table.
pub(crate) fn cell<'a>(table: &'a str, label: &str) -> &'a str {
    let line = table
        .lines()
        .find(|line| line.starts_with(&format!("{label}  ")));
    line.unwrap_or_else(|| panic!("no {label:?} in\n{table}"))[label.len()..].trim()
}

#[test]
fn a_session() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("contract.wasm");
    std::fs::write(&file, wasm(CONTRACT)).unwrap();
    let file = file.to_str().unwrap();
    let dev = Dev::start(None);
    let run = |args: &[&str]| seen(dev.run(args));
    let ok = |args: &[&str]| {
        let (code, out, err) = run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}\n{out}");
        out
    };

    assert_eq!(cell(&ok(&["status"]), "state"), "running");
    let out = ok(&["transfer", "bob", "1_000"]);
    assert_eq!(cell(&out, "outcome"), "success");
    assert!(cell(&out, "fuel used").ends_with(" of 100,000,000"));
    let hash = cell(&out, "transaction").to_owned();
    let out = ok(&["tx", &hash]);
    assert_eq!(
        (cell(&out, "status"), cell(&out, "transfers")),
        ("included", "1,000")
    );
    assert!(cell(&out, "to").ends_with("(bob)") && cell(&out, "sender").ends_with("(alice)"));
    let out = ok(&["account", "bob", "--json"]);
    let account: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(account["balance"], (DEV_BALANCE + 1000).to_string());

    let out = ok(&["deploy", file, "--from", "carol"]);
    let contract = cell(&out, "contract").to_owned();
    let out = ok(&["methods", &contract]);
    assert!(METHODS.iter().all(|method| out.contains(method)), "{out}");
    let args = [
        "--arg",
        "address:dave",
        "--arg",
        "u64:7",
        "--arg",
        "some:str:x",
    ];
    let out = ok(&[&["call", &contract, "put"], &args[..]].concat());
    assert_eq!(
        cell(&out, "events"),
        format!("of {contract}: 0x{} []", hex::encode("key"))
    );
    let out = ok(&["view", &contract, "get"]);
    let expected = format!("0x{}070000000000000001{}", address("dave"), "0100000078");
    assert_eq!(cell(&out, "returned"), expected);
    let out = ok(&[
        "view",
        &contract,
        "ok",
        "--arg",
        "i64:-7",
        "--returns",
        "i64",
    ]);
    assert_eq!(cell(&out, "returned"), "-7");
    let out = ok(&[
        "call",
        &contract,
        "ok",
        "--arg",
        "address:bob",
        "--returns",
        "address",
    ]);
    assert!(cell(&out, "returned").ends_with("(bob)"));
    let out = ok(&["block"]);
    assert_eq!(cell(&out, "transactions"), "1");
    assert_eq!(cell(&ok(&["block", "0"]), "height"), "0");

    // Executed without success: 1.
    for (method, outcome) in [("revert", "reverted: no"), ("spin", "aborted: out of fuel")] {
        for command in ["call", "view"] {
            let (code, out, _) = run(&[command, &contract, method, "--fuel-limit", "1_000_000"]);
            assert_eq!((code, cell(&out, "outcome")), (1, outcome), "{command}");
        }
    }
    let (code, out, _) = run(&["call", &contract, "trap", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &answer["receipt"]["abort"]["kind"]),
        (1, &Value::from("trap"))
    );
    // Not executed: 2.
    let long = format!("--arg=str:{}", "x".repeat(100_000));
    for (args, expected) in [
        (
            vec!["call", &contract, "nope"],
            "the contract has no method \"nope\"",
        ),
        (vec!["call", "bob", "ok"], "there is no contract at"),
        (
            vec!["call", &contract, "ok", "--arg", "u8:300"],
            "number too large",
        ),
        (
            vec!["view", &contract, "ok", "--returns", "u65"],
            "unknown type",
        ),
        (vec!["transfer", "eve", "1"], "\"eve\" is not one of"),
        (vec!["transfer", "bob", "1", "--from", "eve"], "--from"),
        (vec!["transfer", "bob", "1", "--nonce", "0"], "nonce 0"),
        (vec!["transfer", "bob", "1.5"], "invalid digit"),
        (vec!["transfer", "bob", "1", "--fuel-limit", "1"], "too low"),
        (vec!["deploy", "/nonexistent.wasm"], "No such file"),
        (
            vec!["deploy", "/proc/self/exe"],
            "more than 1,048,576 bytes",
        ),
        (vec!["deploy", "/proc/self/status"], "the code is refused"),
        (
            [&["call", &contract, "ok"], &[&*long; 16][..]].concat(),
            "bytes; at most 1,500,000",
        ),
        (vec!["tx", "00"], "64 hexadecimal digits"),
        (vec!["block", "1000"], "no block 1000"),
        (vec!["frobnicate"], "unrecognized subcommand"),
        (
            vec!["status", "--rpc", "http://127.0.0.1:1"],
            "is one running?",
        ),
        (vec!["status", "--rpc", "nonsense"], "cannot talk to"),
    ] {
        let (code, _, err) = run(&args);
        assert!(
            code == 2 && err.contains(expected),
            "{args:?}: {code}, {err}"
        );
    }
    let (code, out, _) = run(&["block", "1000", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &answer["error"]["data"]["kind"]),
        (2, &Value::from("no_block"))
    );
    let unknown = "0".repeat(64);
    let (code, out, _) = run(&["tx", &unknown]);
    assert_eq!((code, cell(&out, "status")), (2, "unknown"));
}

#[test]
fn keys() {
    let dir = tempfile::tempdir().unwrap();
    let in_dir = |args: &[&str]| {
        seen(
            slackline()
                .args(args)
                .current_dir(dir.path())
                .output()
                .unwrap(),
        )
    };
    let (code, out, _) = in_dir(&["key", "new", "--out", "mine.json"]);
    assert_eq!(code, 0);
    let mine = cell(&out, "address").to_owned();
    assert_eq!(
        cell(&in_dir(&["key", "show", "mine.json"]).1, "address"),
        mine
    );
    let (code, _, err) = in_dir(&["key", "new", "--out", "mine.json"]);
    assert!(code == 2 && err.contains("never overwritten"), "{err}");
    let (code, out, _) = in_dir(&["key", "new", "--json"]);
    let made: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &made["file"]),
        (0, &Value::from("slackline-key.json"))
    );
    assert_ne!(made["address"], mine);

    let dev = Dev::start(None);
    let file = dir.path().join("mine.json");
    let file = file.to_str().unwrap();
    let (code, _, err) = seen(dev.run(&["transfer", "bob", "1", "--from", file]));
    assert!(code == 2 && err.contains("may cost"), "{err}");
    assert!(dev.run(&["transfer", file, "1000000000"]).status.success());
    assert!(
        dev.run(&["transfer", "bob", "1", "--from", file])
            .status
            .success()
    );
    let (_, out, _) = seen(dev.run(&["account", file]));
    assert_eq!(
        (cell(&out, "address"), cell(&out, "nonce")),
        (mine.as_str(), "1")
    );
}

#[test]
fn a_chain_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = slackline();
        seen(command.args(args).current_dir(dir.path()).output().unwrap())
    };
    let (code, out, err) = run(&["init", "--data-dir", "poor", "--chain-id", "7001"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.matches("WARNING").count(), 2, "{out}");
    assert!(out.contains("--account") && out.contains("--governor"));

    // The keys of the chain that comes without being asked for are public.
    let (code, out, _) = run(&["init", "--data-dir", "public"]);
    assert_eq!((code, out.matches("WARNING").count()), (0, 1), "{out}");
    assert!(cell(&out, "WARNING").contains("everybody can compute"));
    let (_, out, _) = run(&["init", "--data-dir", "public2", "--json"]);
    let made: Value = serde_json::from_str(&out).unwrap();
    let warnings = made["warnings"].as_array().unwrap();
    assert!(
        warnings[0].as_str().unwrap().contains("alice, bob"),
        "{out}"
    );

    let with_log = |log: &str| {
        let mut command = slackline();
        let command = command.args(["config", "check", "--data-dir", "public"]);
        seen(
            command
                .env("SLACKLINE_LOG", log)
                .current_dir(dir.path())
                .output()
                .unwrap(),
        )
    };
    for log in ["inof", "slackline_node=debug", "info,slackline_node=loud"] {
        let (code, _, err) = with_log(log);
        assert!(code == 2 && err.contains("SLACKLINE_LOG"), "{err}");
    }
    assert_eq!(with_log("").0, 0);
    let wrong = ["--set", "log.filter=inof"];
    let (code, _, err) = run(&[&["config", "check", "--data-dir", "public"], &wrong[..]].concat());
    assert!(code == 2 && err.contains("log.filter"), "{err}");

    // Where programs read the log, it has why the node has ended.
    let json = [
        "--set",
        "log.format=json",
        "--set",
        "gossip.listen=/ip4/192.0.2.1/tcp/1",
    ];
    let ports = [
        "--set",
        "rpc.listen=127.0.0.1:0",
        "--set",
        "ops.listen=127.0.0.1:0",
    ];
    let start = ["start", "--data-dir", "public"];
    let (code, _, err) = run(&[&start[..], &json, &ports].concat());
    let mut lines = err
        .lines()
        .map(|line| serde_json::from_str(line).expect(line));
    let last: Value = lines.next_back().unwrap();
    assert_eq!((code, &last["level"]), (2, &"ERROR".into()), "{err}");
    assert!(last["reason"].as_str().unwrap().contains("gossip"), "{err}");

    assert_eq!(run(&["key", "new", "--out", "mine.json"]).0, 0);
    let mine = cell(&run(&["key", "show", "mine.json"]).1, "address").to_owned();
    let init = ["init", "--data-dir", "rich", "--chain-id", "7001"];
    let given = ["--governor", "mine.json", "--account", "mine.json=5_000"];
    let twice = ["--account", &format!("{mine}=1")];
    let (code, _, err) = run(&[&init[..], &given, &twice].concat());
    assert!(code == 2 && err.contains("there already"), "{err}");
    let (code, out, _) = run(&[&init[..], &given].concat());
    assert!(code == 0 && !out.contains("WARNING"), "{out}");
    let genesis = std::fs::read(dir.path().join("rich/genesis.json")).unwrap();
    let genesis: Value = serde_json::from_slice(&genesis).unwrap();
    assert_eq!(genesis["governor"], mine);
    assert_eq!(genesis["accounts"][0]["address"], mine);
    assert_eq!(genesis["accounts"][0]["balance"], "5000");

    // Who can read a key has it.
    let check = ["config", "check", "--data-dir", "rich"];
    assert_eq!(run(&check).0, 0);
    let key = dir.path().join("rich/validator_key.json");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, mode).unwrap();
    let (code, _, err) = run(&check);
    assert!(code == 2 && err.contains("chmod 600"), "{err}");

    let (code, out, _) = run(&["version", "--json"]);
    let version: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &version["protocol_version"]), (0, &1.into()));
    assert!(version["wasmtime"].as_str().unwrap().starts_with("48."));
    assert_eq!(
        cell(&run(&["version"]).1, "slackline"),
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn signals_end_a_node_and_restarts_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let chain = dir.path().join("chain");
    for (signal, height) in [("-INT", 1), ("-TERM", 2)] {
        let dev = Dev::start(Some(&chain));
        assert_eq!(dev.about["temporary"], false);
        assert_eq!(dev.about["height"], height - 1);
        assert!(dev.run(&["transfer", "bob", "1"]).status.success());
        assert_eq!(dev.signal(signal).code(), Some(0), "{signal}");
    }
    let dev = Dev::start(Some(&chain));
    assert_eq!(dev.about["height"], 2);
    // A second node on the same directory says what is wrong.
    let second = slackline()
        .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&chain)
        .output();
    let (code, _, err) = seen(second.unwrap());
    assert!(code == 2 && err.contains(chain.to_str().unwrap()), "{err}");
    let port = dev.url().replace("http://", "");
    let (code, _, err) = seen(
        slackline()
            .args(["dev", "--listen", &port])
            .output()
            .unwrap(),
    );
    assert!(
        code == 2 && err.contains("in use") && err.contains("--listen"),
        "{err}"
    );
    assert_eq!(dev.signal("-TERM").code(), Some(0));

    let dev = Dev::start(None);
    let temporary = dev.about["data_dir"].as_str().unwrap().to_owned();
    assert!(dev.about["temporary"] == true && Path::new(&temporary).exists());
    assert_eq!(dev.signal("-TERM").code(), Some(0));
    assert!(!Path::new(&temporary).exists());
}

#[test]
fn what_a_person_sees_first() {
    let mut child = slackline()
        .args(["dev", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut text = String::new();
    loop {
        let line = lines.next().expect("more until ready").unwrap();
        text += &(line.clone() + "\n");
        if line == "ready" {
            break;
        }
    }
    assert!(cell(&text, "rpc").starts_with("http://127.0.0.1:"));
    assert!(text.contains("EVERYONE KNOWS THEIR KEYS"));
    for name in DEV_NAMES {
        assert!(cell(&text, name).starts_with(&address(name).to_string()));
        assert!(cell(&text, name).ends_with("1,000,000,000,000,000,000"));
    }
    send(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_metering_makes_of_a_module_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sum.wat");
    let counted_loop = r#"(module (func $sum (export "sum") (param $n i32) (result i32) (local $sum i32)
        (loop $next
          (local.set $sum (i32.add (local.get $sum) (local.get $n)))
          (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $sum)))"#;
    std::fs::write(&file, counted_loop).unwrap();
    let file = file.to_str().unwrap();
    let run = |args: &[&str]| seen(slackline().args(args).output().unwrap());

    let (code, out, err) = run(&["inspect", file, "--fuel", "--function", "sum"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let row: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    // Charged at entry, for the loop's iteration, and after it; left: one constant, one for the loop.
    assert_eq!(row[..4], ["0", "3", "2", "1"], "{out}");
    assert_eq!(row.last(), Some(&"sum"), "{out}");
    assert_eq!(out.matches("set_pinned_reg").count(), 2, "{out}");

    let (code, out, _) = run(&["inspect", file, "--fuel", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &report["functions"][0]["prepaid_loops"]),
        (0, &1.into())
    );

    let (code, _, err) = run(&["inspect", file, "--fuel", "--function", "product"]);
    assert!(
        code == 2 && err.contains("no function \"product\""),
        "{err}"
    );
    let (code, _, err) = run(&["inspect", "no-such-file", "--fuel"]);
    assert!(
        code == 2 && err.contains("cannot read no-such-file"),
        "{err}"
    );
}

#[test]
fn a_little_load() {
    let dev = Dev::start(None);
    let load = "load --rate 20 --seconds 2 --ramp 1 --accounts 10 --sessions 2 --json";
    let (code, out, err) = seen(dev.run(&load.split(' ').collect::<Vec<_>>()));
    assert_eq!(code, 0, "{out}{err}");
    let seen: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(seen["errors"], serde_json::json!({}), "{seen}");
    assert_eq!(seen["sent"], seen["included"], "{seen}");
    assert!(seen["included"].as_u64().unwrap() > 0, "{seen}");
    let at = |quantile: &str| seen["submit_to_included_us"][quantile].as_u64().unwrap();
    assert!(0 < at("p50") && at("p50") <= at("p99") && at("p99") <= at("max"));
    assert!(seen["blocks"].as_u64().unwrap() > 0, "{seen}");
    let too_long = format!("--seconds={}", u64::MAX);
    let (code, _, err) = self::seen(dev.run(&["load", &too_long]));
    assert_eq!(code, 2, "{err}");
}
