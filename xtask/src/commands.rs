//! The commands that build, test and run.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, find, minutes, run, step};
use crate::{contracts, cosmwasm, files, hooks, kernels, licences, platforms, rocksdb, system};

/// Makes the main workspace loadable and linkable. Several processes may prepare the same clone at once.
pub fn prepare(root: &Path, plain_rocksdb: bool) -> Result<()> {
    let lock = root.join(".wasmtime/.lock");
    files::write(&lock, "")?;
    let lock = File::open(&lock)?;
    if lock.try_lock().is_err() {
        eprintln!("    waiting for another `cargo xtask` to prepare");
        lock.lock().context("locking .wasmtime/.lock")?;
    }
    system::check(root)?;
    hooks::prepare(root)?;
    if plain_rocksdb {
        eprintln!(
            "    RocksDB not built: with ROCKSDB_COMPILE=1 in the environment its crate compiles its own copy, \
             which takes about an hour of processor time"
        );
        return Ok(());
    }
    rocksdb::prepare(root)
}

pub fn contracts(root: &Path) -> Result<()> {
    step("prepare", || prepare(root, false))?;
    step("contracts", || contracts::build(root))
}

/// The main workspace's test run comes last, so that its runner has the last word.
pub fn test(root: &Path, full: bool, lint: bool, args: &[OsString]) -> Result<()> {
    contracts(root)?;
    let dirs = [
        ("main", root.to_owned()),
        ("xtask", root.join("xtask")),
        ("contracts", root.join("contracts")),
    ];
    if lint {
        for (name, dir) in &dirs {
            step(&format!("licences {name}"), || licences::check(dir))?;
        }
        match find("python3") {
            Some(python) => step("operators' files", || {
                run(Command::new(python).arg(root.join("deploy/check.py")))
            })?,
            None => eprintln!(
                "==> operators' files: not compared with the code, as there is no python3"
            ),
        }
        for (name, dir) in &dirs {
            step(&format!("fmt {name}"), || {
                run(cargo(dir).args(["fmt", "--all", "--check"]))
            })?;
        }
        for (name, dir) in &dirs {
            step(&format!("clippy {name}"), || {
                run(cargo(dir).args([
                    "clippy",
                    "--locked",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ]))
            })?;
        }
    }
    let tests = |dir: &Path, args: &[&str]| {
        let mut command = cargo(dir);
        command.args(args).args(["--locked", "--workspace"]);
        command.envs(full.then_some(("SLACKLINE_FULL", "1")));
        command
    };
    if args.is_empty() {
        for (name, dir) in &dirs[1..] {
            step(&format!("test {name}"), || run(&mut tests(dir, &["test"])))?;
        }
        step("test documentation", || {
            run(&mut tests(root, &["test", "--doc"]))
        })?;
    }
    if full && args.is_empty() {
        platforms::check_macos(root)?;
        match platforms::qemu() {
            Ok(()) => platforms::test_aarch64(root, &[])?,
            Err(error) => eprintln!("    no tests for aarch64: {error:#}"),
        }
    }
    eprintln!("==> test main");
    let mut command = match find("cargo-nextest") {
        Some(_) => tests(root, &["nextest", "run"]),
        None => tests(root, &["test", "--lib", "--bins", "--tests"]),
    };
    run(command.args(args)).context("step `test main` failed")
}

pub fn check_macos(root: &Path) -> Result<()> {
    step("prepare", || prepare(root, false))?;
    platforms::check_macos(root)
}

pub fn test_aarch64(root: &Path, args: &[OsString]) -> Result<()> {
    step("prepare", || prepare(root, false))?;
    platforms::test_aarch64(root, args)
}

/// Builds `slackline` and says where it is.
fn release_node(root: &Path) -> Result<PathBuf> {
    run(cargo(root).args([
        "build",
        "--release",
        "--package",
        "slackline-node",
        "--bin",
        "slackline",
    ]))?;
    Ok(crate::target_dir(root).join("release/slackline"))
}

/// Replaces this process with the node, which then gets the terminal's and a supervisor's signals itself.
pub fn dev(root: &Path, args: &[OsString]) -> Result<()> {
    let start = Instant::now();
    contracts(root)?;
    let node = step("build the node (several minutes the first time)", || {
        release_node(root)
    })?;
    eprintln!(
        "==> slackline dev (after {})",
        minutes(start.elapsed().as_secs())
    );
    let error = Command::new(&node).arg("dev").args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", node.display()))
}

pub fn bench(root: &Path, name: Option<&str>, args: &[OsString]) -> Result<()> {
    let names = benches(root)?;
    let Some(name) = name.filter(|name| names.iter().any(|known| known == name)) else {
        bail!("which benchmark? There are: {}", names.join(", "));
    };
    let cosmwasm = match name {
        "call" => cosmwasm::asked(args)?,
        _ => None,
    };
    if name == "overhead" {
        step("prepare", || prepare(root, false))?;
        step("kernels", || kernels::build(root))?;
    } else {
        contracts(root)?;
    }
    step("build", || {
        run(cargo(root).args([
            "build",
            "--release",
            "--package",
            "slackline-benches",
            "--bin",
            name,
        ]))
    })?;
    let program = crate::target_dir(root).join("release").join(name);
    if let Some(args) = cosmwasm {
        return cosmwasm::compare(root, &program, &args);
    }
    let mut command = Command::new(&program);
    if name == "node" {
        let node = step("build the node", || release_node(root))?;
        command.arg("--slackline").arg(node);
    }
    eprintln!("==> bench {name}");
    // Started in the user's directory, which the files among its arguments are relative to.
    let error = command.args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// The names of the programs in benches/src/bin/.
fn benches(root: &Path) -> Result<Vec<String>> {
    let dir = root.join("benches/src/bin");
    let mut names: Vec<String> = fs::read_dir(&dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() || path.extension().is_some_and(|ext| ext == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}
