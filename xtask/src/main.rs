//! The build tool of Slackline: `cargo xtask <command>` (alias in `.cargo/config.toml`).
//!
//! It is a workspace of its own because the main workspace cannot load on a fresh clone: its `[patch.crates-io]` points
//! into `.wasmtime/`, which [`prepare`](commands::prepare) writes. Every command that starts cargo in the main
//! workspace prepares first.

mod commands;
mod contracts;
mod cosmwasm;
mod files;
mod hooks;
mod kernels;
mod licences;
mod patch;
mod platforms;
mod registry;
mod rocksdb;
mod run;
mod spec;
mod system;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Builds, tests and runs Slackline")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the hooked wasmtime crates and build RocksDB; nothing to do when both are up to date
    Prepare {
        /// Only print what is installed and what is missing
        #[arg(long)]
        check: bool,
        /// Do not build RocksDB; set ROCKSDB_COMPILE=1 for later commands and its crate compiles its own copy
        #[arg(long)]
        plain_rocksdb: bool,
    },
    /// Print which tools are installed and which are missing
    Doctor,
    /// Print, or with --install run as root, the apt-get command for the tools that are missing
    SystemDeps {
        #[arg(long)]
        install: bool,
    },
    /// Build the example contracts into target/contracts/
    Contracts,
    /// Check formatting, clippy and documentation tests, then run all tests
    Test {
        /// Run the long versions of tests too (sets SLACKLINE_FULL=1)
        #[arg(long)]
        full: bool,
        /// Leave out rustfmt and clippy
        #[arg(long)]
        no_lint: bool,
        /// For the test runner of the main workspace; when given, no other tests run
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Type-check the metering crates for macOS on aarch64 and x86-64
    CheckMacos,
    /// Test the metering crates for Linux on aarch64, under qemu; the arguments are for the test harness
    TestAarch64 {
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Run a development chain: `slackline dev` with these arguments
    Dev {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run a benchmark of benches/src/bin/ with these arguments (`--help` lists them); without a name, list the benchmarks.
    /// `call --cosmwasm` also takes the measurements of CosmWasm's virtual machine, and prints the ratios
    // The benchmark's own `--help` is what is wanted.
    #[command(disable_help_flag = true)]
    Bench {
        name: Option<String>,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run the official tests of WebAssembly, or the scripts (.wast) in a directory, in all metering modes
    Spec { dir: Option<PathBuf> },
    /// What continuous integration runs: install missing tools, then test
    Ci,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    let root = root();
    match command {
        Command::Prepare { check: true, .. } | Command::Doctor => system::doctor(root),
        Command::Prepare { plain_rocksdb, .. } => commands::prepare(root, plain_rocksdb),
        Command::SystemDeps { install } => system::system_deps(root, install),
        Command::Contracts => commands::contracts(root),
        Command::Test {
            full,
            no_lint,
            args,
        } => commands::test(root, full, !no_lint, &args),
        Command::CheckMacos => commands::check_macos(root),
        Command::TestAarch64 { args } => commands::test_aarch64(root, &args),
        Command::Dev { args } => commands::dev(root, &args),
        Command::Bench { name, args } => commands::bench(root, name.as_deref(), &args),
        Command::Spec { dir } => spec::spec(root, dir.as_deref()),
        Command::Ci => {
            system::system_deps(root, true)?;
            commands::test(root, false, true, &[])
        }
    }
}

/// The repository's root directory.
fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it builds in the main workspace.
fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}
