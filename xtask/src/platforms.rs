//! The metering crates on processors and systems other than the one this runs on: type-checked for macOS, tested for Linux
//! on aarch64 under qemu.
//!
//! As for contracts, two toolchains will do: the rustc in use when rustup has given it the target, else Debian's rustc
//! with its sources, from which cargo builds the standard library. They get a target directory of their own.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::contracts;
use crate::run::{cargo, find, output, run, step};

/// What needs no RocksDB.
const PACKAGES: [&str; 6] = [
    "--package",
    "slackline-metering-pass",
    "--package",
    "slackline-metering",
    "--package",
    "slackline-conformance",
];

/// The random modules that are run under qemu, unless the environment says otherwise: those whose digest is known, so that counts are
/// shown to be the same as elsewhere.
const SEEDS: (&str, &str) = ("SLACKLINE_SEEDS", "0..200");

/// See `slackline_conformance::config`.
const RESERVATION: (&str, &str) = ("SLACKLINE_MEMORY_RESERVATION", "16777216");

const MACOS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-apple-darwin"];
const ARM_LINUX: &str = "aarch64-unknown-linux-gnu";

/// Type-checks for macOS, tests included. Nothing is linked, and no C compiler or SDK for macOS is needed: wasmtime's C file,
/// which is a few lines, is "compiled" by a command that does nothing.
pub fn check_macos(root: &Path) -> Result<()> {
    for target in MACOS {
        step(&format!("check {target}"), || {
            let mut command = cross(root, "check", target)?;
            command.args(PACKAGES).arg("--all-targets");
            if !cfg!(target_os = "macos") {
                let target = target.replace('-', "_");
                command
                    .env(format!("CC_{target}"), "true")
                    .env(format!("AR_{target}"), "true")
                    .env("SDKROOT", root);
            }
            run(&mut command)
        })?;
    }
    Ok(())
}

const GCC: &str = "aarch64-linux-gnu-gcc";
const QEMU: &str = "qemu-aarch64";

/// Fails if what [`test_aarch64`] needs is not installed.
pub fn qemu() -> Result<()> {
    ensure!(
        find(GCC).is_some() && find(QEMU).is_some(),
        "{GCC} or {QEMU} is not there. On Debian this installs them:\n  \
         apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
    );
    Ok(())
}

/// Runs the tests for aarch64 Linux under qemu; `args` are for the test harness.
pub fn test_aarch64(root: &Path, args: &[OsString]) -> Result<()> {
    qemu()?;
    let runner = format!("{QEMU} -L /usr/aarch64-linux-gnu");
    let mut command = cross(root, "test", ARM_LINUX)?;
    command
        .args(PACKAGES)
        // Documentation tests do not know the runner.
        .args(["--lib", "--tests"])
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", GCC)
        .env("CC_aarch64_unknown_linux_gnu", GCC)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &runner)
        .env("SLACKLINE_RUNNER", &runner)
        .env(RESERVATION.0, RESERVATION.1)
        .env(SEEDS.0, std::env::var_os(SEEDS.0).unwrap_or(SEEDS.1.into()))
        .arg("--")
        .args(args);
    step("test aarch64", || run(&mut command))
}

/// `cargo <subcommand>` for `target`.
fn cross(root: &Path, subcommand: &str, target: &str) -> Result<Command> {
    let mut command = cargo(root);
    command
        .args([subcommand, "--locked", "--target", target])
        .env("CARGO_TARGET_DIR", crate::target_dir(root).join("cross"));
    let installed =
        output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if !Path::new(&installed).is_dir() {
        contracts::debian_sysroot(target)?;
        command
            .arg("-Zbuild-std=std,panic_abort")
            .env_remove("LD_LIBRARY_PATH")
            .env("RUSTC", contracts::DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1");
    }
    Ok(command)
}
