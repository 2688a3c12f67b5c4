//! The official tests of WebAssembly.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::commands::prepare;
use crate::run::{cargo, run, step};

/// Runs the scripts in `dir`, or the bundled ones, in all metering modes.
pub fn spec(root: &Path, dir: Option<&Path>) -> Result<()> {
    step("prepare", || prepare(root, false))?;
    // The program starts in the repository's root.
    let dir: Option<PathBuf> = dir
        .map(|dir| std::path::absolute(dir).with_context(|| format!("{}", dir.display())))
        .transpose()?;
    eprintln!("==> spec");
    run(cargo(root)
        .args([
            "run",
            "--release",
            "--package",
            "slackline-conformance",
            "--bin",
            "spec",
            "--",
        ])
        .args(dir))
}
