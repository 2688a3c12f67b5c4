//! Pristine crates: through cargo, and verified.
//!
//! Cargo is the only one that downloads. What it has in its cache is used if its SHA-256 is the pinned one; the
//! directory into which cargo unpacks a crate is never read, because nothing guards it against edits.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::files;
use crate::run::{cargo, output, run};

/// A crate of crates.io, with the checksum that the index publishes for it.
#[derive(Clone, Debug, Deserialize)]
pub struct Pin {
    pub name: String,
    pub version: String,
    pub sha256: String,
}

impl Pin {
    pub fn new(name: &str, version: &str, sha256: &str) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            sha256: sha256.into(),
        }
    }

    pub fn label(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// Compares the contents of a .crate file with the pin; `origin` and `pinned_in` are for the error message.
    pub fn verify(&self, contents: &[u8], origin: &str, pinned_in: &str) -> Result<()> {
        let got = files::sha256(contents);
        ensure!(
            got == self.sha256,
            "crate {} {} is not the one that is pinned\n  file      {origin}\n  expected  {}\n  got       {got}\n\
             If the version was changed on purpose, review what changed upstream and put the new hash into {pinned_in}.\n\
             If not, the download is damaged: delete that file and run the command again.",
            self.name,
            self.version,
            self.sha256
        );
        Ok(())
    }

    /// Unpacks the contents of the .crate file into a directory. Every file gets the present time: cargo
    /// rebuilds a crate when its files are newer than the last build, and those in a .crate are all of 2006.
    pub fn unpack(&self, contents: &[u8], dir: &Path) -> Result<()> {
        let top = self.label();
        let mut archive = tar::Archive::new(GzDecoder::new(contents));
        archive.set_preserve_mtime(false);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let inner = path
                .strip_prefix(&top)
                .ok()
                .filter(|p| p.components().all(|c| matches!(c, Component::Normal(_))))
                .with_context(|| format!("{top}.crate has an odd path {}", path.display()))?;
            let to = dir.join(inner);
            fs::create_dir_all(to.parent().unwrap_or(dir))?;
            entry
                .unpack(&to)
                .with_context(|| format!("unpacking {}", to.display()))?;
        }
        Ok(())
    }
}

/// The verified contents of a .crate file, which cargo downloads if it is not in its cache.
/// `scratch` is a directory for the manifest that makes it do so.
pub fn pristine(pin: &Pin, pinned_in: &str, scratch: &Path) -> Result<Vec<u8>> {
    if cached(pin)?.is_empty() {
        fetch(pin, scratch)?;
    }
    let candidates = cached(pin)?;
    let Some(first) = candidates.first() else {
        bail!(
            "cargo fetched {} but no {}.crate is in {}",
            pin.name,
            pin.label(),
            cache_dir()?.display()
        );
    };
    for file in &candidates {
        let contents = files::read(file)?;
        if files::sha256(&contents) == pin.sha256 {
            return Ok(contents);
        }
    }
    let contents = files::read(first)?;
    pin.verify(&contents, &first.display().to_string(), pinned_in)?;
    Ok(contents)
}

fn fetch(pin: &Pin, scratch: &Path) -> Result<()> {
    eprintln!("    cargo fetches {} {}", pin.name, pin.version);
    let version = pin.version.split('+').next().unwrap_or_default();
    let dir = scratch.join(&pin.name);
    files::remove(&dir)?;
    files::write(
        &dir.join("Cargo.toml"),
        format!(
            "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [dependencies]\n{} = {{ version = \"={version}\", default-features = false }}\n",
            pin.name
        ),
    )?;
    files::write(&dir.join("src/lib.rs"), "")?;
    run(cargo(&dir).args(["fetch", "--quiet", "--target", &host()?]))
        .with_context(|| format!("cargo cannot fetch {} {}", pin.name, pin.version))?;
    files::remove(&dir)
}

/// The .crate files of that name and version in cargo's cache, one for each registry (mirror) that was ever used.
fn cached(pin: &Pin) -> Result<Vec<PathBuf>> {
    let file = format!("{}.crate", pin.label());
    let Ok(registries) = fs::read_dir(cache_dir()?) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for registry in registries {
        let path = registry?.path().join(&file);
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

fn cache_dir() -> Result<PathBuf> {
    Ok(cargo_home()?.join("registry/cache"))
}

/// The directory in which cargo keeps what it downloads.
pub fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(std::env::home_dir()
            .context("neither CARGO_HOME nor a home directory is known")?
            .join(".cargo")),
    }
}

/// The target triple of this machine.
pub fn host() -> Result<String> {
    let version = output(std::process::Command::new("rustc").arg("-vV"))?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}
