//! What is measured: the kernels of `benches/kernels`, and any wasm files.

use crate::host::Directory;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kernels that need no compiler: name and wasm text. Each exports `run`, which returns a checksum.
pub const KERNELS: &[(&str, &str)] = &[
    ("fib", include_str!("../kernels/wat/fib.wat")),
    ("collatz", include_str!("../kernels/wat/collatz.wat")),
    ("sieve", include_str!("../kernels/wat/sieve.wat")),
    ("matmul", include_str!("../kernels/wat/matmul.wat")),
    (
        "interpreter",
        include_str!("../kernels/wat/interpreter.wat"),
    ),
    ("hash", include_str!("../kernels/wat/hash.wat")),
    ("strlen", include_str!("../kernels/wat/strlen.wat")),
    ("indirect", include_str!("../kernels/wat/indirect.wat")),
];

/// Where `cargo xtask bench overhead` puts the kernels that it compiles, as `<language>-<name>.wasm`.
pub fn compiled_kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kernels")
}

/// A program to be measured.
#[derive(Debug)]
pub struct Subject {
    /// Its name in tables.
    pub name: String,
    /// A binary module.
    pub wasm: Vec<u8>,
    /// What it sees as `.`.
    pub directory: Option<Arc<Directory>>,
    /// What it should print.
    pub expected: Option<Vec<u8>>,
    /// Whether it is one of ours.
    pub is_kernel: bool,
}

/// Our kernels whose names contain `filter`: those in text, then those found in `compiled`.
///
/// # Errors
///
/// If a kernel cannot be read.
pub fn kernels(compiled: &Path, filter: &str) -> Result<Vec<Subject>> {
    let kernel = |name: String, wasm| Subject {
        name,
        wasm,
        directory: None,
        expected: None,
        is_kernel: true,
    };
    let mut subjects = Vec::new();
    for (name, text) in KERNELS {
        let name = format!("wat-{name}");
        if name.contains(filter) {
            let wasm = wat::parse_str(text).with_context(|| name.clone())?;
            subjects.push(kernel(name, wasm));
        }
    }
    if compiled.is_dir() {
        for path in wasm_files(compiled)? {
            let name = stem(&path);
            if name.contains(filter) {
                subjects.push(kernel(name, read(&path)?));
            }
        }
    }
    Ok(subjects)
}

/// The program in a file, or those in the files below a directory. What a program prints is compared with the file beside
/// it that has its name and the extension `stdout.expected`.
///
/// # Errors
///
/// If a file cannot be read, or there is none.
pub fn files(path: &Path) -> Result<Vec<Subject>> {
    let found = wasm_files(path)?;
    ensure!(!found.is_empty(), "no .wasm file in {}", path.display());
    let mut subjects = Vec::new();
    for file in found {
        let directory = file
            .parent()
            .map(|parent| match parent.as_os_str().is_empty() {
                true => PathBuf::from("."),
                false => parent.to_owned(),
            });
        subjects.push(Subject {
            name: name(&file),
            wasm: read(&file)?,
            directory: directory.map(|path| Arc::new(Directory::new(path))),
            expected: std::fs::read(file.with_extension("stdout.expected")).ok(),
            is_kernel: false,
        });
    }
    Ok(subjects)
}

/// A file's name without extension; in sightglass, where that is `benchmark` for many, the directory's.
fn name(file: &Path) -> String {
    let directory = file.parent().and_then(Path::file_name);
    match (stem(file), directory) {
        (stem, Some(directory)) if stem == "benchmark" => directory.display().to_string(),
        (stem, _) => stem,
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// `path`, or if it is a directory the `.wasm` files at any depth below it, in the order of their names.
fn wasm_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        if entry.is_dir() && !entry.is_symlink() {
            found.extend(wasm_files(&entry)?);
        } else if entry.is_file() && entry.extension().is_some_and(|ext| ext == "wasm") {
            found.push(entry);
        }
    }
    Ok(found)
}
