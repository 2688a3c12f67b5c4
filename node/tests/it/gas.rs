//! `slackline gas`, on records as the testkit writes them.

use crate::cli::seen;
use crate::process::slackline;
use serde_json::{Value, json};
use slackline_executor::{Address, Hash};
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
