//! `slackline gas`, on records as the testkit writes them.

use crate::cli::{cell, seen};
use crate::process::{Dev, slackline};
use crate::support::{client, node, refusal, wasm};
use serde_json::{Value, json};
use slackline_executor::{Address, Hash};
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::SamplesJson;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A call of `a.work` by each of `tests`, with its fuel.
fn records(dir: &Path, tests: &[(&str, u64)]) {
    let hash = Hash([7; 32]);
    let code = json!({ "code": {
        "hash": hash, "name": "a", "bytes": 1234, "file": "a.wasm", "debug_file": null,
    } });
    let executions = tests.iter().map(|(test, fuel)| {
        json!({ "execution": {
            "program": "suite", "test": test, "order": 1, "kind": "call", "scopes": [], "sizes": [],
            "contract": Address([1; 32]), "code": hash, "method": "work", "args": null,
            "fuel_limit": 1_000_000, "fuel_used": fuel, "intrinsic": fuel, "outcome": "success",
            "least_limit": null, "trace": null,
        } })
    });
    let lines: Vec<String> = std::iter::once(code)
        .chain(executions)
        .map(|line| line.to_string())
        .collect();
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("suite-1.jsonl"), lines.join("\n") + "\n").unwrap();
}

fn gas(args: &[&str]) -> (i32, String, String) {
    let mut command: Command = slackline();
    seen(command.arg("gas").args(args).output().unwrap())
}

#[test]
fn snapshots_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    records(
        &dir.path().join("before"),
        &[("one", 100_000), ("two", 300_000)],
    );
    records(
        &dir.path().join("after"),
        &[("one", 101_000), ("two", 300_000)],
    );
    let (before, after, file) = (path("before"), path("after"), path("snapshot"));

    let (code, _, error) = gas(&["snapshot", "--from", &before, "--file", &file, "--check"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("without --diff and --check writes it"),
        "{error}"
    );
    let (code, out, error) = gas(&["snapshot", "--from", &before, "--file", &file]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(out.contains("2 entries"), "{out}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.ends_with("suite::one (fuel: 100000)\nsuite::two (fuel: 300000)\n"),
        "{text}"
    );

    let check = |from: &str, more: &[&str]| {
        gas(&[&["snapshot", "--from", from, "--file", &file], more].concat())
    };
    assert_eq!(check(&before, &["--check"]).0, 0);
    let (code, out, error) = check(&after, &["--check"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("suite::one") && out.contains("+1.00 %") && !out.contains("suite::two"),
        "{out}"
    );
    assert!(error.contains("1 of 2 entries"), "{error}");
    assert_eq!(check(&after, &["--check", "--tolerance", "1"]).0, 0);
    assert_eq!(check(&after, &["--check", "--tolerance", "0.9"]).0, 1);
    assert_eq!(check(&after, &["--check", "--tolerance", "-1"]).0, 2);
    // A comparison writes nothing, and does not fail.
    let (code, out, _) = check(&after, &["--diff", "--md"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("| test "), "{out}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    fs::write(&file, text.replace("protocol 1", "protocol 0")).unwrap();
    let (code, _, error) = check(&before, &["--check"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("stale") && error.contains("Make it anew"),
        "{error}"
    );
}

#[test]
fn reports_are_shown_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    records(
        &dir.path().join("before"),
        &[("one", 100_000), ("two", 300_000)],
    );
    records(
        &dir.path().join("after"),
        &[("one", 100_000), ("two", 330_000)],
    );
    let (before, after) = (path("before"), path("after"));
    let (saved, later) = (path("before.json"), path("after.json"));

    let (code, out, error) = gas(&["report", "--from", &before, "--save", &saved]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(
        out.starts_with("a, 1,234 bytes\n") && out.contains("100,000  200,000  200,000  300,000"),
        "{out}"
    );
    let (_, out, _) = gas(&["report", "--from", &after, "--save", &later, "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let costs = &report["contracts"]["a"]["methods"]["work"]["transaction"];
    assert_eq!(
        (&costs["calls"], &costs["max"]),
        (&json!(2), &json!(330_000))
    );

    let (code, out, _) = gas(&["diff", &saved, &later]);
    assert_eq!(code, 0);
    assert!(
        out.contains("a.work") && out.contains("+30,000  +10.00 %"),
        "{out}"
    );
    let (_, out, _) = gas(&["diff", &saved, &saved]);
    assert_eq!(out, "No method costs more or less.\n");

    let (code, _, error) = gas(&["report", "--from", &before, "--only", "a.play"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("\"a.play\"") && error.contains("they call: a, a.work"),
        "{error}"
    );
    let (code, _, error) = gas(&["diff", &path("before/suite-1.jsonl"), &saved]);
    assert_eq!(code, 2);
    assert!(error.contains("neither a report"), "{error}");
}

#[test]
fn a_suite_without_anything_to_measure_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    for (args, expected) in [
        (&["report", at][..], "has no Cargo.toml"),
        (&["report", "--from", at], "has no records"),
        (
            &["report", at, "--command", "echo running 0 tests"],
            "there are no tests",
        ),
        (
            &["report", at, "--command", "echo running 3 tests"],
            "nothing to measure",
        ),
        (
            &["snapshot", at, "--command", "echo it is broken; false"],
            "it is broken",
        ),
        (
            &["limit", at, "--command", "false"],
            "the tests have failed",
        ),
    ] {
        let (code, out, error) = gas(args);
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert!(!dir.path().join(".gas-snapshot").exists());
}

/// A contract that spends its time in one function.
const BURNER: &str = r#"(module $burner
    (memory (export "memory") 1)
    (func $cold (param $n i64) (result i64)
        (i64.rotl (i64.mul (local.get $n) (i64.const 0x9e3779b97f4a7c15)) (i64.const 7)))
    (func $hot (param $n i64) (result i64)
        (local $i i64)
        (loop $l
            (local.set $n (i64.xor (i64.mul (local.get $n) (i64.const 31)) (local.get $i)))
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $l (i64.lt_u (local.get $i) (i64.const 1000))))
        (local.get $n))
    (func $work (param $rounds i64)
        (local $n i64)
        (loop $l
            (local.set $n (call $cold (call $hot (local.get $n))))
            (local.set $rounds (i64.sub (local.get $rounds) (i64.const 1)))
            (br_if $l (i64.ne (local.get $rounds) (i64.const 0)))))
    (func $little (export "little") (call $work (i64.const 3)))
    (func $endless (export "endless") (call $work (i64.const -1)))
    (func $trapped (export "trapped") (call $work (i64.const 1)) unreachable)
)"#;

/// What is found executing in a node at work is what the exact profile of a transaction says uses the fuel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_agree_with_exact_profiles() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let dev = Dev::start(None);
    // As contracts are deployed: without names.
    let named = wasm(BURNER);
    fs::write(path("burner.debug.wasm"), &named).unwrap();
    let bare = slackline_contract_build::strip(&named).unwrap();
    fs::write(path("burner.wasm"), bare).unwrap();
    let (code, out, error) = seen(dev.run(&["deploy", &path("burner.wasm")]));
    assert_eq!(code, 0, "{error}");
    let contract = cell(&out, "contract").to_owned();
    let transaction = |method: &str| {
        let (_, out, _) = seen(dev.run(&["call", &contract, method, "--fuel-limit", "2000000"]));
        let used = cell(&out, "fuel used").split(' ').next().unwrap();
        let used: u64 = used.replace(',', "").parse().unwrap();
        (cell(&out, "transaction").to_owned(), used)
    };

    let (hash, used) = transaction("little");
    let trace = [
        "trace",
        hash.as_str(),
        "--profile",
        "--debug",
        &path("burner.debug.wasm"),
    ];
    let (code, out, error) = seen(dev.run(&[&trace[..], &["--json"]].concat()));
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("there are names, but no lines"), "{error}");
    let profile: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(profile["fuel"], used);
    let rows = profile["functions"].as_array().unwrap();
    let own = |row: &Value| {
        (
            row["own"].as_u64().unwrap(),
            row["function"].as_str().unwrap().to_owned(),
        )
    };
    let exact: BTreeMap<u64, String> = rows.iter().map(own).filter(|(own, _)| *own > 0).collect();
    let functions: BTreeSet<&str> = exact.values().map(String::as_str).collect();
    let wasm = ["little", "work", "hot", "cold"];
    assert!(
        wasm.iter().all(|name| functions.contains(name)),
        "{functions:?}"
    );
    let hottest = exact
        .values()
        .rfind(|name| wasm.contains(&name.as_str()))
        .unwrap();

    // The files, and the same fuel in each.
    let files = [
        "--flamegraph",
        &path("t.svg"),
        "--folded",
        &path("t.folded"),
        "--pprof",
        &path("t.pb"),
    ];
    let (code, out, _) = seen(dev.run(&[&trace[..4], &[trace[4]], &files[..]].concat()));
    assert!(
        code == 0 && out.starts_with(&format!("{} fuel in ", grouped(used))),
        "{out}"
    );
    let folded = fs::read_to_string(path("t.folded")).unwrap();
    assert!(folded.contains(";little;work;hot "), "{folded}");
    let fuel = folded
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
    assert_eq!(fuel.sum::<u64>(), used);
    assert!(
        fs::read_to_string(path("t.svg"))
            .unwrap()
            .contains("</svg>")
    );

    // Without names; with those of other code; of what ended otherwise; of what runs no contract.
    let (code, out, error) = seen(dev.run(&trace[..3]));
    assert!(code == 0 && out.contains("function 1"), "{out}");
    assert!(
        error.contains("neither debug information nor names") && error.contains("--debug"),
        "{error}"
    );
    let token = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/contracts/token.wasm"
    );
    let (code, _, error) = seen(dev.run(&["trace", &hash, "--profile", "--debug", token]));
    assert!(
        code == 2 && error.contains("token.wasm is of other code"),
        "{error}"
    );
    for method in ["trapped", "endless"] {
        let (hash, used) = transaction(method);
        let (code, out, error) = seen(dev.run(&["trace", &hash, "--profile", "--json"]));
        assert_eq!(code, 0, "{error}");
        let profile: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(profile["fuel"], used, "{method}");
    }
    let (_, out, _) = seen(dev.run(&["transfer", "bob", "1"]));
    let (code, _, error) = seen(dev.run(&["trace", cell(&out, "transaction"), "--profile"]));
    assert!(
        code == 2 && error.contains("it calls no contract"),
        "{error}"
    );

    // The node at work.
    let client = client(&dev.url());
    let looking = client.clone();
    let view = contract.clone();
    let load = tokio::spawn(async move {
        loop {
            let view =
                looking.call_view(view.clone(), "endless".to_owned(), None, None, None, None);
            view.await.unwrap();
        }
    });
    let mut samples = 0;
    let mut found = BTreeMap::new();
    while samples < 100 {
        let sampled = client.profile_node(1, Some(500)).await.unwrap();
        for of in sampled.functions {
            samples += of.samples;
            *found.entry((of.code, of.function)).or_insert(0) += of.samples;
        }
    }
    let files = [
        "--debug",
        &path("burner.debug.wasm"),
        "--folded",
        &path("s.folded"),
    ];
    let sample = [
        &["profile", "--seconds", "1", "--interval", "500"],
        &files[..],
    ]
    .concat();
    let shown = loop {
        let (code, out, error) = seen(dev.run(&sample));
        match code {
            0 => break out,
            // Nothing was found in this second.
            _ => assert!(error.contains("no contract was found executing"), "{error}"),
        }
    };
    load.abort();
    let folded = fs::read_to_string(path("s.folded")).unwrap();
    for line in folded.lines() {
        let name = line.rsplit_once(' ').unwrap().0.rsplit_once(';').unwrap().1;
        assert!(functions.contains(name) || name == "endless", "{line}");
    }
    let first = shown.lines().nth(2).unwrap();
    assert!(first.contains(hottest.as_str()), "{shown}");
    // By index: the second function of the code is the hottest.
    let (hot, _) = found.iter().max_by_key(|(_, samples)| **samples).unwrap();
    assert_eq!((hottest.as_str(), hot.1), ("hot", 1), "{found:?}");
}

/// As tables show numbers.
fn grouped(number: u64) -> String {
    slackline_gas::table::grouped(number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_profile_is_made_at_a_time_and_stopping_ends_it() {
    let (node, client) = node().await;
    let nothing = Hash::default().to_string();
    for (seconds, interval) in [(0, None), (61, None), (1, Some(99))] {
        let (code, data) = refusal(client.profile_node(seconds, interval).await);
        assert_eq!((code, &data["kind"]), (-32602, &json!("invalid_params")));
    }
    let (code, data) = refusal(client.get_code(nothing.clone()).await);
    assert_eq!((code, &data["kind"]), (1018, &json!("no_code")));
    // A trace with functions needs what the profile has. It may have been there first.
    let running = loop {
        let profiling = client.clone();
        let profiling = tokio::spawn(async move { profiling.profile_node(60, None).await });
        let busy = loop {
            let traced = client.trace_transaction(nothing.clone(), Some(true)).await;
            match refusal(traced) {
                (1301, data) => {
                    assert_eq!(data["reason"], "another profile is being made");
                    break true;
                }
                (code, _) => assert_eq!(code, -32602),
            }
            if profiling.is_finished() {
                break false;
            }
        };
        if busy {
            break profiling;
        }
        assert_eq!(refusal(profiling.await.unwrap()).0, 1301);
    };
    node.stop().await.unwrap();
    let (code, _) = refusal::<SamplesJson>(running.await.unwrap());
    assert_eq!(code, 1302);
}

/// What calls cost in a report is what they cost on a node.
#[test]
fn calls_from_a_file_cost_what_a_node_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("burner.wasm"), wasm(BURNER)).unwrap();
    let calls = r#"{"calls": 1}
{"deploy": "burner", "wasm": "burner.wasm", "from": "alice", "unmetered": true}
{"call": "burner.little", "from": "bob"}
{"view": "burner.little"}
"#;
    fs::write(path("a.calls"), calls).unwrap();
    let (code, out, error) = gas(&[
        "report",
        "--calls",
        &path("a.calls"),
        "--functions",
        "--json",
    ]);
    assert_eq!((code, error.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&out).unwrap();
    let contract = report["contracts"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let used = contract.1["methods"]["little"]["transaction"]["max"]
        .as_u64()
        .unwrap();
    assert!(out.contains("\"hot\": {"), "{out}");

    let dev = Dev::start(None);
    let (_, out, _) = seen(dev.run(&["deploy", &path("burner.wasm")]));
    let (_, out, _) = seen(dev.run(&["call", cell(&out, "contract"), "little"]));
    let on_node = cell(&out, "fuel used").split(' ').next().unwrap();
    assert_eq!(on_node, grouped(used));

    // A directory of them, with other code; what is wrong; and names only.
    let bare =
        slackline_contract_build::strip(&wasm(&BURNER.replace("const 3", "const 4"))).unwrap();
    fs::write(path("other.wasm"), bare).unwrap();
    let other = format!("burner={}", path("other.wasm"));
    let dir = dir.path().to_str().unwrap();
    let (code, out, error) = gas(&["profile", "--calls", dir, "--code", &other]);
    assert!(code == 0 && out.contains("function 1"), "{out}{error}");
    assert!(
        error.contains("neither debug information nor names"),
        "{error}"
    );
    let (code, _, error) = gas(&["profile", "--calls", &path("a.calls")]);
    assert!(
        code == 0 && error.contains("there are names, but no lines"),
        "{error}"
    );
    let (code, _, error) = gas(&["profile", "--calls", &path("a.calls"), "--only", "x.y"]);
    assert!(code == 2 && error.contains("\"x.y\""), "{error}");
    fs::write(
        path("a.calls"),
        calls.replace("burner.little", "burned.little"),
    )
    .unwrap();
    let (code, _, error) = gas(&["report", "--calls", &path("a.calls")]);
    assert!(
        code == 2 && error.contains("a.calls, line 3: \"burned\" is no account"),
        "{error}"
    );
    let (code, _, error) = gas(&["report", "--calls", &path("burner.wasm")]);
    assert_eq!(code, 2, "{error}");
}
