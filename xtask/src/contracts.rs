//! The example contracts, compiled to `target/contracts/<package>.wasm` for tests, benchmarks and the README.
//!
//! Two toolchains will do: the rustc in use when rustup has given it the target wasm32-unknown-unknown, else Debian's
//! rustc with its sources, from which cargo builds core and alloc. Paths are remapped, so that the bytes do not depend
//! on where the clone and cargo's home are; they do depend on the compiler.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::files;
use crate::registry;
use crate::run::{cargo, find, output, run};

pub const TARGET: &str = "wasm32-unknown-unknown";
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The `rust-version` of the contracts.
const MIN_MINOR: u32 = 95;

/// A way to compile Rust to wasm32.
pub enum Toolchain {
    /// The rustc in use has the target.
    Installed { sysroot: PathBuf },
    /// Debian's packages rustc-web and rust-web-src, and a linker from elsewhere.
    Debian { sysroot: PathBuf, linker: PathBuf },
}

impl Toolchain {
    pub fn find() -> Result<Self> {
        let rustc = |args: &[&str]| output(Command::new("rustc").args(args));
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
        if Path::new(&rustc(&["--print", "target-libdir", "--target", TARGET])?).is_dir() {
            return Ok(Self::Installed { sysroot });
        }
        Ok(Self::Debian {
            sysroot: debian_sysroot(TARGET)?,
            linker: linker()?,
        })
    }

    /// Makes a cargo command build for wasm32 with this toolchain.
    pub fn apply(&self, command: &mut Command) {
        command.args(["--target", TARGET]);
        if let Self::Debian { linker, .. } = self {
            command
                .arg("-Zbuild-std=core,alloc")
                .env_remove("LD_LIBRARY_PATH")
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }

    fn sysroot(&self) -> &Path {
        let (Self::Installed { sysroot } | Self::Debian { sysroot, .. }) = self;
        sysroot
    }
}

/// The sysroot of Debian's rustc, if it is there with its sources and can stand in for a `target` of rustup's.
pub fn debian_sysroot(target: &str) -> Result<PathBuf> {
    ensure!(
        Path::new(DEBIAN_RUSTC).is_file(),
        "`rustup target add {target}`, or where that cannot be done Debian's rustc-web"
    );
    let debian = |arg| {
        output(
            Command::new(DEBIAN_RUSTC)
                .env_remove("LD_LIBRARY_PATH")
                .args(arg),
        )
    };
    let version = debian(["--version"].as_slice())?;
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse::<u32>().ok());
    ensure!(
        minor.is_some_and(|minor| minor >= MIN_MINOR),
        "{DEBIAN_RUSTC} is {version}: 1.{MIN_MINOR} or later is needed, as in rustc-web"
    );
    let sysroot = PathBuf::from(debian(&["--print", "sysroot"])?);
    ensure!(
        sysroot.join("lib/rustlib/src/rust/library/core").is_dir(),
        "{DEBIAN_RUSTC} is there, the library sources of rust-web-src are not"
    );
    Ok(sysroot)
}

/// The linker of rustup's toolchain, or that of LLVM.
pub fn linker() -> Result<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let rust_lld = format!("{sysroot}/lib/rustlib/{}/bin/rust-lld", registry::host()?);
    Some(PathBuf::from(rust_lld))
        .filter(|path| path.is_file())
        .or_else(|| ["wasm-ld-19", "wasm-ld"].iter().find_map(find))
        .context("neither rust-lld nor wasm-ld is there")
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed { sysroot } => write!(f, "{TARGET} in {}", sysroot.display()),
            Self::Debian { linker, .. } => {
                write!(f, "{DEBIAN_RUSTC} with its sources, {}", linker.display())
            }
        }
    }
}

/// Builds the packages `contracts/examples/*`. A file in `target/contracts/` is only written when its bytes change.
pub fn build(root: &Path) -> Result<()> {
    let workspace = root.join("contracts");
    let packages = packages(&workspace.join("examples"))?;
    let toolchain = Toolchain::find()?;
    let remap: Vec<String> = [
        (workspace.clone(), "/contracts"),
        (registry::cargo_home()?, "/cargo"),
        (toolchain.sysroot().join("lib/rustlib/src/rust"), "/rust"),
    ]
    .iter()
    .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
    .collect();

    let mut command = cargo(&workspace);
    command
        .args(["build", "--release", "--config"])
        // Cargo joins these with the rustflags of contracts/.cargo/config.toml, which RUSTFLAGS would replace.
        .arg(format!("target.{TARGET}.rustflags={remap:?}"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for name in &packages {
        command.args(["--package", name]);
    }
    toolchain.apply(&mut command);
    run(&mut command)?;

    let built = crate::target_dir(&workspace).join(TARGET).join("release");
    let out = root.join("target/contracts");
    for name in &packages {
        let wasm = files::read(&built.join(format!("{}.wasm", name.replace('-', "_"))))?;
        let to = out.join(format!("{name}.wasm"));
        if !fs::read(&to).is_ok_and(|old| old == wasm) {
            files::write(&to, &wasm)?;
            eprintln!("    target/contracts/{name}.wasm: {} bytes", wasm.len());
        }
    }
    Ok(())
}

/// The names of the packages in a directory's subdirectories.
fn packages(examples: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    let mut names = Vec::new();
    let entries =
        fs::read_dir(examples).with_context(|| format!("reading {}", examples.display()))?;
    for entry in entries {
        let manifest = entry?.path().join("Cargo.toml");
        if manifest.is_file() {
            let text = files::read_text(&manifest)?;
            let manifest: Manifest =
                toml::from_str(&text).with_context(|| format!("in {}", manifest.display()))?;
            names.push(manifest.package.name);
        }
    }
    if names.is_empty() {
        bail!("no contracts in {}", examples.display());
    }
    names.sort();
    Ok(names)
}
