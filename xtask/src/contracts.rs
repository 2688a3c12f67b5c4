//! The example contracts, compiled to `target/contracts/<package>.wasm` for tests, benchmarks and the README.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::files;
pub use slackline_contract_build::{DEBIAN_RUSTC, TARGET, Toolchain, debian_sysroot, linker};

/// What is promised of the code that the SDK makes: contracts that stay below so many bytes.
const SIZES: [(&str, usize); 2] = [("counter", 8 << 10), ("token", 25 << 10)];

/// Builds the packages `contracts/examples/*`, and assembles those that are WebAssembly text, `*/<name>.wat`. A file in
/// `target/contracts/` is only written when its bytes change.
pub fn build(root: &Path) -> Result<()> {
    let examples = root.join("contracts/examples");
    let out = root.join("target/contracts");
    let update = |name: &str, wasm: &[u8]| -> Result<()> {
        let to = out.join(format!("{name}.wasm"));
        if !fs::read(&to).is_ok_and(|old| old == wasm) {
            files::write(&to, wasm)?;
            eprintln!("    target/contracts/{name}.wasm: {} bytes", wasm.len());
        }
        Ok(())
    };
    for manifest_dir in subdirectories_with(&examples, |_| "Cargo.toml".to_owned())? {
        let built = slackline_contract_build::build(&manifest_dir)?;
        let limit = SIZES.iter().find(|(name, _)| *name == built.package);
        if let Some((name, limit)) = limit.filter(|(_, limit)| built.wasm.len() >= *limit) {
            bail!(
                "{name}.wasm has {} bytes, and is to stay below {limit}: what has the SDK begun to link?",
                built.wasm.len()
            );
        }
        update(&built.package, &built.wasm)?;
    }
    for dir in subdirectories_with(&examples, |name| format!("{name}.wat"))? {
        let name = name(&dir);
        let wasm = wat::parse_file(dir.join(format!("{name}.wat")))?;
        update(&name, &slackline_contract_build::strip(&wasm)?)?;
    }
    Ok(())
}

/// The subdirectories in which there is such a file, sorted. Its name may depend on theirs.
fn subdirectories_with(of: &Path, file: impl Fn(&str) -> String) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(of).with_context(|| format!("reading {}", of.display()))? {
        let dir = entry?.path();
        if dir.join(file(&name(&dir))).is_file() {
            found.push(dir);
        }
    }
    if found.is_empty() {
        bail!("no {} in {}", file("<name>"), of.display());
    }
    found.sort();
    Ok(found)
}

fn name(dir: &Path) -> String {
    dir.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
