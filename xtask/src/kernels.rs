//! The kernels of the overhead table, compiled to `target/kernels/<language>-<name>.wasm`.
//!
//! Each language needs its compiler. When one is missing, the table goes without its kernels: what to
//! install is said, and only a compiler that fails is an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::contracts::{TARGET, Toolchain};
use crate::files;
use crate::run::{cargo, find, run};

/// Compiles the kernels of all languages for which there is a compiler.
pub fn build(root: &Path) -> Result<()> {
    let sources = root.join("benches/kernels");
    let out = root.join("target/kernels");
    // Not below `out`: whatever is there is taken for a kernel.
    let scratch = root.join("target/kernels-build");
    fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    rust(&sources.join("rust"), &out, &scratch)?;
    c(&sources.join("c"), &out)?;
    assemblyscript(&sources.join("assemblyscript"), &out, &scratch.join("npm"))
}

fn rust(sources: &Path, out: &Path, scratch: &Path) -> Result<()> {
    let toolchain = match Toolchain::find(sources) {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            left_out("Rust", &format!("{missing:#}"));
            return Ok(());
        }
    };
    let mut command = cargo(sources);
    command
        .args(["build", "--quiet", "--locked", "--release", "--examples"])
        .arg("--target-dir")
        .arg(scratch)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    toolchain.apply(&mut command);
    run(&mut command)?;
    let kernels = kernels(&sources.join("examples"), "rs")?;
    let built = scratch.join(TARGET).join("release/examples");
    for (name, _) in &kernels {
        let wasm = files::read(&built.join(format!("{name}.wasm")))?;
        files::write(&to(out, "rust", name), &wasm)?;
    }
    only(out, "rust", &kernels)
}

fn c(sources: &Path, out: &Path) -> Result<()> {
    let (Some(clang), Some(_)) = (find("clang-19"), find("wasm-ld-19")) else {
        left_out("C", "`apt-get install clang-19 lld-19`");
        return Ok(());
    };
    let kernels = kernels(sources, "c")?;
    for (name, source) in &kernels {
        run(Command::new(&clang)
            .args(["--target=wasm32", "-O2", "-mbulk-memory", "-ffreestanding"])
            .args(["-Wall", "-Wextra", "-Werror", "-nostdlib"])
            .args(["-Wl,--no-entry", "-Wl,--strip-all", "-o"])
            .args([&to(out, "c", name), source]))?;
    }
    only(out, "c", &kernels)
}

/// The compiler comes from npm, in the version that `package-lock.json` names.
fn assemblyscript(sources: &Path, out: &Path, npm: &Path) -> Result<()> {
    if find("npm").is_none() || find("node").is_none() {
        left_out("AssemblyScript", "`apt-get install npm`");
        return Ok(());
    }
    let asc = npm.join("node_modules/.bin/asc");
    let lock = files::read(&sources.join("package-lock.json"))?;
    if !asc.is_file() || !fs::read(npm.join("package-lock.json")).is_ok_and(|old| old == lock) {
        let package = files::read(&sources.join("package.json"))?;
        files::write(&npm.join("package.json"), &package)?;
        files::write(&npm.join("package-lock.json"), &lock)?;
        let install = run(Command::new("npm")
            .current_dir(npm)
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .stdout(std::io::stderr()));
        if let Err(error) = install {
            // The lock file says that it is installed.
            files::remove(&npm.join("package-lock.json"))?;
            left_out("AssemblyScript", &format!("npm's registry ({error:#})"));
            return Ok(());
        }
    }
    let kernels = kernels(sources, "ts")?;
    for (name, source) in &kernels {
        run(Command::new(&asc)
            .arg(source)
            .args(["-O3", "--use", "abort=", "-o"])
            .arg(to(out, "as", name)))?;
    }
    only(out, "as", &kernels)
}

fn left_out(language: &str, missing: &str) {
    eprintln!("    kernels in {language} left out; they need {missing}");
}

fn to(out: &Path, language: &str, name: &str) -> PathBuf {
    out.join(format!("{language}-{name}.wasm"))
}

/// The names and paths of the sources in a directory, by their extension.
fn kernels(dir: &Path, extension: &str) -> Result<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut kernels = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(name) = path.file_stem()
        {
            kernels.push((name.to_string_lossy().into_owned(), path));
        }
    }
    ensure!(!kernels.is_empty(), "no kernels in {}", dir.display());
    kernels.sort();
    Ok(kernels)
}

/// Removes what was compiled from sources that are gone.
fn only(out: &Path, language: &str, kernels: &[(String, PathBuf)]) -> Result<()> {
    let entries = fs::read_dir(out).with_context(|| format!("reading {}", out.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.strip_prefix(&format!("{language}-"))
            && !kernels.iter().any(|(kernel, _)| kernel == name)
        {
            files::remove(&path)?;
        }
    }
    Ok(())
}
