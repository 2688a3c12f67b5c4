//! Hashes, and files that appear whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// A hash of a list of strings that no other list has.
pub fn sha256_list<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(hash.finalize().as_slice())
}

/// A hash of the paths and contents of all files below a directory, except those directly in it with the name `except`.
pub fn sha256_tree(dir: &Path, except: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for path in walk(dir)? {
        let name = path.strip_prefix(dir)?.to_string_lossy();
        if name == except {
            continue;
        }
        let contents = read(&path)?;
        hash.update(Sha256::digest(name.as_bytes()));
        hash.update(Sha256::digest(&contents));
    }
    Ok(hex(hash.finalize().as_slice()))
}

/// All files below a directory, sorted.
fn walk(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Writes a file and the directories above it.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    create_parent(path)?;
    fs::write(path, contents).with_context(|| format!("writing {}", path.display()))
}

/// Copies a file so that nobody sees a part of it under its final name.
pub fn copy_whole(from: &Path, to: &Path) -> Result<()> {
    create_parent(to)?;
    let part = to.with_added_extension(format!("part{}", std::process::id()));
    fs::copy(from, &part)
        .and_then(|_| fs::rename(&part, to))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Removes a file, a link or a whole directory, if it exists.
pub fn remove(path: &Path) -> Result<()> {
    let Ok(kind) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if kind.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
    .with_context(|| format!("removing {}", path.display()))
}

/// Gives a file or directory a new name, in place of whatever has that name; at once, except for directories.
pub fn replace(from: &Path, to: &Path) -> Result<()> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    remove(to)?;
    fs::rename(from, to).with_context(|| format!("renaming {} to {}", from.display(), to.display()))
}

fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
