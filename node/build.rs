//! What `slackline version` says about the build. Not in variables named `SLACKLINE_…`: cargo gives these to what it runs, and they are settings.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let lock = std::fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let wasmtime = lock.split("name = \"wasmtime\"\nversion = \"").nth(1);
    let wasmtime = wasmtime.and_then(|rest| rest.split('"').next());
    println!(
        "cargo::rustc-env=BUILD_WASMTIME={}",
        wasmtime.unwrap_or_default()
    );
    // Who builds without the repository says it.
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let given = std::env::var("BUILD_COMMIT").ok();
    let given = given.filter(|commit| !commit.is_empty());
    // Of releases only: a build for development would be made anew with each commit.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let found = || release.then(commit).flatten();
    let commit = given.or_else(found).unwrap_or_default();
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
}

/// What is checked out, if git knows.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // Each commit and each checkout adds a line.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"])
}
