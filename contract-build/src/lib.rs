//! From the source of a contract to the bytes that are deployed.
//!
//! ```text
//!   contract's directory ──▶ cargo rustc --release --target wasm32-unknown-unknown ──▶ strip ──▶ Built { wasm, path }
//!                              ▲ Toolchain: rustup's target, or Debian's rustc with its sources
//!                                                                     └──▶ Built { debug_path }: the same code, not stripped
//! ```
//!
//! The build tool of the repository, `slackline contract build` and the testkit all use this, so that they
//! get the same bytes. Those do not depend on where the clone, the project and cargo's home are if the contract is in the
//! workspace of its SDK, as the examples are. In a project of its own, the SDK's path goes into the names of symbols,
//! and with them into the order of functions. They always depend on the compiler.

#![forbid(unsafe_code)]

mod strip;
mod toolchain;

pub use strip::{KEPT_SECTIONS, NotWasm, strip};
pub use toolchain::{DEBIAN_RUSTC, TARGET, Toolchain, ToolchainError, debian_sysroot, linker};

use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// A contract that has been built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The name of its package.
    pub package: String,
    /// The code, as it is deployed.
    pub wasm: Vec<u8>,
    /// A file with the same bytes: `<target directory>/contracts/<package>.wasm`.
    pub path: PathBuf,
    /// A file with the same code and its names, DWARF and [`SOURCES_SECTION`]: `<target directory>/contracts/<package>.debug.wasm`.
    pub debug_path: PathBuf,
}

/// Custom section of files with debug information: where the paths in that begin, and the directories that they stand for, as in
/// `/contracts<tab>/home/me/contracts`, one a line. The longest prefix that fits counts.
pub const SOURCES_SECTION: &str = "slackline_sources";

/// Why a contract was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no package.
    #[error(
        "{} has no Cargo.toml: a contract is a cargo package (`slackline contract new NAME` makes one)", dir.display()
    )]
    NoPackage {
        /// The directory.
        dir: PathBuf,
    },
    /// The manifest is that of a workspace, or its package has no library.
    #[error("{} is not the manifest of a contract: {reason}", manifest.display())]
    NoContract {
        /// The manifest.
        manifest: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// There is nothing to build it with.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// Cargo was not started.
    #[error("cannot start cargo: {0}")]
    Start(io::Error),
    /// Cargo cannot read the manifest.
    #[error("cargo cannot read the project in {}:\n{said}", dir.display())]
    Metadata {
        /// The project.
        dir: PathBuf,
        /// What cargo said.
        said: String,
    },
    /// It does not compile. Cargo has said why on standard error.
    #[error("`{package}` was not built: cargo ended with {status}, and has said why above")]
    Failed {
        /// The package.
        package: String,
        /// How cargo ended.
        status: ExitStatus,
    },
    /// What cargo has built is no wasm.
    #[error("{}: {reason}", path.display())]
    NotWasm {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: NotWasm,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What `cargo metadata` says.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Target {
    fn is_library(&self) -> bool {
        let library = |kind: &String| matches!(kind.as_str(), "lib" | "rlib" | "cdylib");
        self.kind.iter().any(library)
    }
}

/// Builds the contract whose Cargo.toml is in `manifest_dir`, or takes what has been built of the same sources.
///
/// Cargo's messages go to standard error, all of them if that is a terminal, else warnings and errors.
/// Of several processes that build the same contract, one builds at a time.
///
/// # Errors
///
/// See [`BuildError`].
pub fn build(manifest_dir: &Path) -> Result<Built, BuildError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Io { path, source }
    };
    let manifest = manifest_dir.join("Cargo.toml");
    if !manifest.is_file() {
        let dir = manifest_dir.to_owned();
        return Err(BuildError::NoPackage { dir });
    }
    let manifest = manifest.canonicalize().map_err(io(&manifest))?;
    let dir = manifest.parent().unwrap_or(manifest_dir);
    let metadata = metadata(dir)?;
    let none = |reason| BuildError::NoContract {
        manifest: manifest.clone(),
        reason,
    };
    let mut packages = metadata.packages.iter();
    let package = packages
        .find(|package| package.manifest_path == manifest)
        .ok_or_else(|| none("it has no [package]"))?;
    let mut targets = package.targets.iter();
    let library = targets
        .find(|target| target.is_library())
        .ok_or_else(|| none("its package has no library: src/lib.rs"))?;

    let out = metadata.target_directory.join("contracts");
    let path = out.join(format!("{}.wasm", package.name));
    let debug_path = out.join(format!("{}.debug.wasm", package.name));
    fs::create_dir_all(&out).map_err(io(&out))?;
    let lock = out.join(format!("{}.lock", package.name));
    let lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(io(&lock))?;

    // Each test is a process of nextest's: the first of a run builds, the others take what it has built.
    let run = std::env::var("NEXTEST_RUN_ID").ok();
    let built_in = out.join(format!("{}.run", package.name));
    let is_built = run.is_some() && fs::read_to_string(&built_in).ok() == run;
    if !is_built || !debug_path.is_file() {
        let remapped = compile(dir, &metadata, package)?;
        let built = metadata.target_directory.join(TARGET).join("release");
        let built = built.join(format!("{}.wasm", library.name.replace('-', "_")));
        let debug = fs::read(&built).map_err(io(&built))?;
        let wasm = strip(&debug).map_err(|reason| BuildError::NotWasm {
            path: built,
            reason,
        })?;
        let debug = with_sources(debug, &remapped);
        fs::write(&debug_path, debug).map_err(io(&debug_path))?;
        if !fs::read(&path).is_ok_and(|old| old == wasm) {
            fs::write(&path, &wasm).map_err(io(&path))?;
        }
        if let Some(run) = &run {
            fs::write(&built_in, run).map_err(io(&built_in))?;
        }
    }
    let wasm = fs::read(&path).map_err(io(&path))?;
    drop(lock);
    Ok(Built {
        package: package.name.clone(),
        wasm,
        path,
        debug_path,
    })
}

/// `wasm` with a [`SOURCES_SECTION`].
fn with_sources(mut wasm: Vec<u8>, remapped: &[(PathBuf, String)]) -> Vec<u8> {
    let mut body = vec![SOURCES_SECTION.len() as u8];
    body.extend(SOURCES_SECTION.as_bytes());
    for (from, to) in remapped {
        body.extend(format!("{to}\t{}\n", from.display()).as_bytes());
    }
    wasm.push(0);
    let mut len = body.len();
    while len >= 0x80 {
        wasm.push(0x80 | (len & 0x7f) as u8);
        len >>= 7;
    }
    wasm.push(len as u8);
    wasm.extend(body);
    wasm
}

/// The directory that cargo builds in for the package or workspace in `dir`.
///
/// # Errors
///
/// If cargo cannot be started or cannot read the manifest there.
pub fn target_directory(dir: &Path) -> Result<PathBuf, BuildError> {
    Ok(metadata(dir)?.target_directory)
}

/// The cargo that has started this process, directly or not, if it was one; else the one in the path.
fn cargo(dir: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        // What is for the workspace of the caller is not for that of the contract.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION");
    command
}

/// Of the workspace's own packages.
fn metadata(dir: &Path) -> Result<Metadata, BuildError> {
    let mut command = cargo(dir);
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = command.output().map_err(BuildError::Start)?;
    let unreadable = |said: String| BuildError::Metadata {
        dir: dir.to_owned(),
        said,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(unreadable(said.trim_end().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| unreadable(error.to_string()))
}

/// Returns the directories that do not appear in what is built, each with what appears instead.
fn compile(
    dir: &Path,
    metadata: &Metadata,
    package: &Package,
) -> Result<Vec<(PathBuf, String)>, BuildError> {
    let toolchain = Toolchain::find(dir)?;
    let root = &metadata.workspace_root;
    // The last that fits is taken.
    let mut remap = vec![(toolchain.sources(), "/rust".to_owned())];
    if let Some(home) = cargo_home() {
        remap.push((home, "/cargo".to_owned()));
    }
    for dependency in &package.dependencies {
        let outside = dependency.path.as_ref();
        if let Some(path) = outside.filter(|path| !path.starts_with(root)) {
            remap.push((path.clone(), format!("/{}", dependency.name)));
        }
    }
    remap.push((root.clone(), "/contracts".to_owned()));
    let mut flags: Vec<String> = remap
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    // In a profile these would go into the names of symbols, and with them into the order of functions: the code would be another.
    flags.extend(["-Cdebuginfo=2", "-Cstrip=none"].map(str::to_owned));

    let mut command = cargo(dir);
    command
        // As a library for tests too, it would be linked without optimisation across crates.
        .args(["rustc", "--release", "--lib", "--crate-type", "cdylib"])
        .args(["--package", &package.name])
        // Cargo joins these with the rustflags of .cargo/config.toml, which RUSTFLAGS would replace.
        .arg("--config")
        .arg(format!("target.{TARGET}.rustflags={flags:?}"));
    if !io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    toolchain.apply(&mut command);
    let status = command.status().map_err(BuildError::Start)?;
    if !status.success() {
        return Err(BuildError::Failed {
            package: package.name.clone(),
            status,
        });
    }
    Ok(remap)
}

/// The directory in which cargo keeps what it downloads.
fn cargo_home() -> Option<PathBuf> {
    let home = || Some(std::env::home_dir()?.join(".cargo"));
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(home)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

    use super::*;

    fn refused(files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        build(dir.path()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_contract_is_refused() {
        let package = "[package]\nname = \"x\"\nedition = \"2024\"\n";
        for (files, expected) in [
            (&[][..], "has no Cargo.toml"),
            (
                &[("Cargo.toml", "[package")],
                "cargo cannot read the project",
            ),
            (&[("Cargo.toml", "[workspace]\n")], "it has no [package]"),
            (
                &[("Cargo.toml", package), ("src/main.rs", "fn main() {}")],
                "no library",
            ),
        ] {
            let error = refused(files);
            assert!(error.contains(expected), "{error}");
        }
    }
}
