//! The example contracts, compiled to `target/contracts/<package>.wasm` for tests, benchmarks and the README.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::files;
pub use slackline_contract_build::{DEBIAN_RUSTC, TARGET, Toolchain, debian_sysroot, linker};

/// Builds the packages `contracts/examples/*`. A file in `target/contracts/` is only written when its bytes change.
pub fn build(root: &Path) -> Result<()> {
    let out = root.join("target/contracts");
    for manifest_dir in packages(&root.join("contracts/examples"))? {
        let built = slackline_contract_build::build(&manifest_dir)?;
        let to = out.join(format!("{}.wasm", built.package));
        if !fs::read(&to).is_ok_and(|old| old == built.wasm) {
            files::write(&to, &built.wasm)?;
            eprintln!(
                "    target/contracts/{}.wasm: {} bytes",
                built.package,
                built.wasm.len()
            );
        }
    }
    Ok(())
}

/// The subdirectories that are packages, sorted.
fn packages(examples: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    let entries =
        fs::read_dir(examples).with_context(|| format!("reading {}", examples.display()))?;
    for entry in entries {
        let dir = entry?.path();
        if dir.join("Cargo.toml").is_file() {
            packages.push(dir);
        }
    }
    if packages.is_empty() {
        bail!("no contracts in {}", examples.display());
    }
    packages.sort();
    Ok(packages)
}
