//! `.rocksdb/lib`: RocksDB as a static library, built once, in minutes instead of half an hour.
//!
//! `librocksdb-sys` compiles 343 header-heavy C++ files. This compiles the same files from the same crate, with the same
//! defines, as a *unity build*: ten files that include them in contiguous groups. `.cargo/config.toml` points
//! ROCKSDB_LIB_DIR to the result, so that plain cargo commands link it too. liblz4 is not part of it: `lz4-sys` always
//! builds its own and is linked behind it.
//!
//! Invariants: `.rocksdb/<key>/` holds a library whose hash is beside it, where the key names the version, the compiler and a hash
//! of everything else that decides the result; `.rocksdb/lib` is a link to one of them. The library has the version that the
//! main workspace's lock file asks for: `librocksdb-sys` takes its bindings from its own headers, and a library of
//! another version behind them would be undefined behaviour.
//!
//! To link a library of your own set ROCKSDB_LIB_DIR; to let the crate compile its copy set ROCKSDB_COMPILE=1. Both are
//! respected here and by the crate's build script.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, fs, thread};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::registry::{self, Pin};
use crate::run::{minutes, output, run};
use crate::{files, system};

const PINNED_IN: &str = "xtask/src/rocksdb.rs";
/// Part of every key: raise it when the same inputs give another library. (Cargo does not look at the library again
/// before `cargo clean -p librocksdb-sys`.)
const ALGORITHM: &str = "1";
const UNITS: usize = 10;
/// What the headers cost each file, in bytes of its own source.
const HEADERS: u64 = 20_000;

fn rocksdb() -> Pin {
    Pin::new(
        "librocksdb-sys",
        "0.19.0+11.8.1",
        "4f45e86edad8e88efe97dbf384b4e48e1ff0f111eabf154c7b09d7a1e5fb573c",
    )
}

/// For its headers; their interface has been stable for ten years.
fn lz4() -> Pin {
    Pin::new(
        "lz4-sys",
        "1.11.1+lz4-1.10.0",
        "6bd8c0d6c6ed0cd30b3652886bb8711dc4bb01d637a68105a3d5158039b418e6",
    )
}

/// Brings `.rocksdb/lib` up to date, unless the user has chosen another library.
pub fn prepare(root: &Path) -> Result<()> {
    check_lock_file(root)?;
    if compiled_by_crate() {
        eprintln!("    ROCKSDB_COMPILE is set: librocksdb-sys compiles RocksDB by itself");
        return Ok(());
    }
    if let Some(dir) = users_library(root) {
        eprintln!("    ROCKSDB_LIB_DIR is set: linking {}", dir.display());
        return Ok(());
    }
    let base = root.join(".rocksdb");
    let compiler = system::cxx_compiler()?;
    let library = Library::new(&compiler)?;
    let dir = base.join(&library.key);
    if !library.intact(&dir)? {
        library.provide(&base, &dir)?;
    }
    link(&base, &library.key)
}

/// Whether the build script of `librocksdb-sys` is told to compile its own copy.
fn compiled_by_crate() -> bool {
    env::var("ROCKSDB_COMPILE").is_ok_and(|v| v == "1" || v.eq_ignore_ascii_case("true"))
}

/// The directory that the user has set ROCKSDB_LIB_DIR to. (Cargo sets it to `.rocksdb/lib` for us as for everyone.)
pub fn users_library(root: &Path) -> Option<PathBuf> {
    let dir = PathBuf::from(env::var_os("ROCKSDB_LIB_DIR")?);
    (dir != root.join(".rocksdb/lib") && !compiled_by_crate()).then_some(dir)
}

fn check_lock_file(root: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Lock {
        #[serde(default)]
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let path = root.join("Cargo.lock");
    if !path.exists() {
        return Ok(());
    }
    let lock: Lock = toml::from_str(&files::read_text(&path)?).context("in Cargo.lock")?;
    let pin = rocksdb();
    for package in lock.package {
        ensure!(
            package.name != pin.name
                || (package.version == pin.version
                    && package.checksum.is_none_or(|sum| sum == pin.sha256)),
            "Cargo.lock has {} {} but {PINNED_IN} pins {}: change the pin with the lock file",
            pin.name,
            package.version,
            pin.version
        );
    }
    Ok(())
}

struct Library<'a> {
    compiler: &'a Path,
    flags: Vec<&'static str>,
    key: String,
}

impl<'a> Library<'a> {
    fn new(compiler: &'a Path) -> Result<Self> {
        let flags = flags()?;
        let (rocksdb, lz4) = (rocksdb(), lz4());
        let version = output(Command::new(compiler).arg("--version"))?;
        let inputs = [ALGORITHM, &rocksdb.sha256, &lz4.sha256, &version];
        let hash = files::sha256_list(inputs.into_iter().chain(flags.iter().copied()));
        let release = rocksdb.version.rsplit('+').next().unwrap_or_default();
        let name = compiler.file_name().unwrap_or_default().to_string_lossy();
        let key = format!("{release}-{name}-{}", &hash[..12]);
        Ok(Self {
            compiler,
            flags,
            key,
        })
    }

    fn intact(&self, dir: &Path) -> Result<bool> {
        let (library, hash) = (dir.join("librocksdb.a"), dir.join("sha256"));
        Ok(library.is_file()
            && hash.is_file()
            && files::read_text(&hash)?.trim() == files::sha256(files::read(&library)?))
    }

    /// Puts the library into `dir`: out of the cache that several clones share, if there is one, else by building it.
    fn provide(&self, base: &Path, dir: &Path) -> Result<()> {
        let cache = env::var_os("SLACKLINE_CACHE").map(|dir| PathBuf::from(dir).join(&self.key));
        if let Some(cache) = &cache
            && self.intact(cache).unwrap_or(false)
        {
            eprintln!("    rocksdb: {}", cache.display());
            return copy(cache, dir);
        }
        self.build(base, dir)?;
        if let Some(cache) = &cache
            && let Err(error) = copy(dir, cache)
        {
            eprintln!("    rocksdb: not put into the cache: {error:#}");
        }
        Ok(())
    }

    /// Objects of an interrupted build are used by the next one.
    fn build(&self, base: &Path, dir: &Path) -> Result<()> {
        let start = Instant::now();
        let jobs = thread::available_parallelism().map_or(2, usize::from);
        eprintln!(
            "    rocksdb: building {} with {} in {UNITS} units, {jobs} at a time; once, a few minutes",
            rocksdb().version,
            self.compiler.display()
        );
        let work = base.join(format!("{}.build", self.key));
        let (source, lz4_source) = (work.join("librocksdb-sys"), work.join("lz4-sys"));
        for (pin, to) in [(rocksdb(), &source), (lz4(), &lz4_source)] {
            let contents = registry::pristine(&pin, PINNED_IN, &base.join("fetch"))?;
            files::remove(to)?;
            pin.unpack(&contents, to)?;
        }
        let units = units(&source)?;
        let objects: Vec<PathBuf> = (0..units.len())
            .map(|i| work.join(format!("unit{i}.o")))
            .collect();

        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failure = Mutex::new(None);
        let compile = |i: usize| -> Result<()> {
            let (start, object) = (Instant::now(), &objects[i]);
            if object.is_file() {
                done.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            let unit = work.join(format!("unit{i}.cc"));
            files::write(&unit, &units[i])?;
            let part = object.with_added_extension("part");
            run(Command::new(self.compiler)
                .args(&self.flags)
                .args(include_dirs(&source, &lz4_source))
                .arg("-c")
                .arg(&unit)
                .arg("-o")
                .arg(&part))?;
            files::replace(&part, object)?;
            let seconds = start.elapsed().as_secs();
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            eprintln!(
                "    rocksdb: unit {done}/{UNITS} compiled ({})",
                minutes(seconds)
            );
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..jobs.min(units.len()) {
                scope.spawn(|| {
                    while let i = next.fetch_add(1, Ordering::Relaxed)
                        && i < units.len()
                    {
                        if let Err(error) = compile(i) {
                            next.store(units.len(), Ordering::Relaxed);
                            *failure.lock().unwrap_or_else(|e| e.into_inner()) = Some(error);
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error.context("RocksDB does not compile"));
        }

        let made = work.join("lib");
        files::remove(&made)?;
        let library = made.join("librocksdb.a");
        files::write(&library, "")?;
        files::remove(&library)?;
        run(Command::new("ar").arg("crs").arg(&library).args(&objects))?;
        files::write(&made.join("sha256"), files::sha256(files::read(&library)?))?;
        files::replace(&made, dir)?;
        files::remove(&work)?;
        eprintln!(
            "    rocksdb: built in {}",
            minutes(start.elapsed().as_secs())
        );
        Ok(())
    }
}

/// Makes `.rocksdb/lib` a link to the library with that key.
fn link(base: &Path, key: &str) -> Result<()> {
    let lib = base.join("lib");
    if fs::read_link(&lib).is_ok_and(|to| to == Path::new(key)) {
        return Ok(());
    }
    let new = base.join("lib.new");
    files::remove(&new)?;
    symlink(key, &new).with_context(|| format!("linking {}", new.display()))?;
    files::replace(&new, &lib)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for name in ["librocksdb.a", "sha256"] {
        files::copy_whole(&from.join(name), &to.join(name))?;
    }
    Ok(())
}

/// The sources as `UNITS` files of about the same size, in the order of the crate's list: neighbours get along in one
/// translation unit, which has been tried for this version.
fn units(source: &Path) -> Result<Vec<String>> {
    let list = files::read_text(&source.join("rocksdb_lib_sources.txt"))?;
    let mut sources = Vec::new();
    // `build_version.cc` of the crate stands in for the generated file.
    for name in list
        .split_whitespace()
        .filter(|name| *name != "util/build_version.cc")
    {
        let path = source.join("rocksdb").join(name);
        let size = fs::metadata(&path)
            .with_context(|| format!("reading {}", path.display()))?
            .len();
        sources.push((format!("rocksdb/{name}"), size + HEADERS));
    }
    sources.push(("build_version.cc".to_owned(), HEADERS));
    let total: u64 = sources.iter().map(|(_, size)| size).sum();
    let mut units = vec![String::new(); UNITS];
    let mut before = 0;
    for (name, size) in sources {
        let unit = (before + size / 2) * UNITS as u64 / total;
        writeln!(units[unit as usize], "#include \"{name}\"")?;
        before += size;
    }
    Ok(units)
}

fn include_dirs(source: &Path, lz4_source: &Path) -> Vec<String> {
    [
        source.join("rocksdb/include"),
        source.join("rocksdb"),
        source.join("rocksdb/third-party/gtest-1.8.1/fused-src"),
        source.to_owned(),
        lz4_source.join("liblz4/lib"),
    ]
    .iter()
    .map(|dir| format!("-I{}", dir.display()))
    .collect()
}

/// The flags of the crate's build script for this machine, for its feature `lz4` alone.
fn flags() -> Result<Vec<&'static str>> {
    let mut flags = vec![
        "-std=c++20",
        "-O2",
        "-fPIC",
        "-ffunction-sections",
        "-fdata-sections",
        "-w",
        "-include",
        "cstdint",
        "-DNDEBUG=1",
        "-DLZ4=1",
        "-DHAVE_ALIGNED_NEW",
        "-DHAVE_UINT128_EXTENSION",
        "-DROCKSDB_PLATFORM_POSIX",
        "-DROCKSDB_LIB_IO_POSIX",
    ];
    match env::consts::OS {
        "linux" => flags.extend([
            "-DOS_LINUX",
            "-DROCKSDB_SCHED_GETCPU_PRESENT",
            "-DROCKSDB_AUXV_GETAUXVAL_PRESENT",
            "-DROCKSDB_FALLOCATE_PRESENT",
            "-DROCKSDB_RANGESYNC_PRESENT",
        ]),
        "macos" => flags.push("-DOS_MACOSX"),
        other => bail!("xtask cannot build RocksDB on {other}: set ROCKSDB_COMPILE=1"),
    }
    // Hardware CRC-32C for the write-ahead log; every x86-64 since 2011 has both.
    if env::consts::ARCH == "x86_64" {
        flags.extend(["-msse4.2", "-mpclmul"]);
    }
    Ok(flags)
}
