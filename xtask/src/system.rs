//! What must be installed, and the one command that installs what is missing. (A C compiler and linker is there: without
//! it cargo could not have built this.)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Result, anyhow, bail, ensure};

use crate::contracts::{self, Toolchain};
use crate::rocksdb;
use crate::run::{find, output, run};

/// Something that a build needs.
struct Need {
    what: &'static str,
    /// What was found, or why nothing fits.
    found: Result<String>,
    packages: &'static [&'static str],
}

fn needs(root: &Path) -> Vec<Need> {
    vec![
        Need {
            what: "C++20 compiler (RocksDB)",
            found: cxx(root),
            packages: &["clang-19"],
        },
        Need {
            what: "libclang (bindgen)",
            found: libclang(),
            packages: &["clang-19"],
        },
        Need {
            what: "Rust for wasm32 (contracts)",
            found: Toolchain::find(root)
                .map(|toolchain| toolchain.to_string())
                .map_err(Into::into),
            packages: &["rustc-web", "rust-web-src"],
        },
        Need {
            what: "linker for wasm32",
            found: contracts::linker(root)
                .map(|path| path.display().to_string())
                .map_err(Into::into),
            packages: &["lld-19"],
        },
    ]
}

fn missing(root: &Path) -> Vec<Need> {
    let mut needs = needs(root);
    needs.retain(|need| need.found.is_err());
    needs
}

/// Fails with the command that installs what is missing, if anything is.
pub fn check(root: &Path) -> Result<()> {
    let missing = missing(root);
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .iter()
        .filter_map(|need| Some(format!("  {}: {:#}", need.what, need.found.as_ref().err()?)))
        .collect();
    bail!(
        "missing tools:\n{}\nOn Debian this installs them:\n  {}",
        list.join("\n"),
        install_line(&packages(&missing))
    )
}

/// Prints what there is and what is missing.
pub fn doctor(root: &Path) -> Result<()> {
    for need in needs(root) {
        match need.found {
            Ok(found) => println!("ok       {:<28} {found}", need.what),
            Err(error) => println!("MISSING  {:<28} {error:#}", need.what),
        }
    }
    let nextest = match find("cargo-nextest") {
        Some(path) => path.display().to_string(),
        None => "not there, `cargo test` is used".to_owned(),
    };
    println!("optional {:<28} {nextest}", "cargo-nextest");
    check(root)
}

/// Prints, or runs, the command that installs what is missing.
pub fn system_deps(root: &Path, install: bool) -> Result<()> {
    let missing = missing(root);
    let packages = packages(&missing);
    if packages.is_empty() {
        eprintln!("no system package is missing");
        return Ok(());
    }
    if !install {
        println!("{}", install_line(&packages));
        return Ok(());
    }
    ensure!(
        find("apt-get").is_some() && output(Command::new("id").arg("-u"))? == "0",
        "installing packages needs Debian's apt-get, and root. Run as root:\n  {}",
        install_line(&packages)
    );
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt().args(["update", "--quiet"]))?;
    run(apt()
        .args(["install", "--quiet", "-y", "--no-install-recommends"])
        .args(&packages))?;
    check(root)
}

fn packages(missing: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing
        .iter()
        .flat_map(|need| need.packages)
        .copied()
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn install_line(packages: &[&str]) -> String {
    format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    )
}

fn cxx(root: &Path) -> Result<String> {
    match rocksdb::users_library(root) {
        Some(dir) => Ok(format!("not needed, ROCKSDB_LIB_DIR={}", dir.display())),
        None => Ok(cxx_compiler()?.display().to_string()),
    }
}

/// The first C++ compiler that works; clang++ takes less time than g++ for RocksDB.
pub fn cxx_compiler() -> Result<PathBuf> {
    let chosen = env::var_os("CXX").map(PathBuf::from);
    let names = ["clang++-19", "clang++", "g++", "c++"].map(PathBuf::from);
    let mut error = anyhow!("no clang++ or g++ in PATH");
    for compiler in chosen.iter().chain(&names).filter_map(find) {
        match probe_cxx20(&compiler) {
            Ok(()) => return Ok(compiler),
            Err(e) => error = e,
        }
    }
    Err(error)
}

/// Compiles a line of C++20 that needs the standard library's headers.
fn probe_cxx20(compiler: &Path) -> Result<()> {
    let source = env::temp_dir().join(format!("slackline-probe-{}.cc", std::process::id()));
    crate::files::write(
        &source,
        "#include <bit>\n#include <concepts>\ntemplate <std::integral T> int f(T t) { return std::popcount(t); }\n",
    )?;
    let result = output(
        Command::new(compiler)
            .args(["-std=c++20", "-fsyntax-only"])
            .arg(&source),
    );
    crate::files::remove(&source)?;
    result.map(drop)
}

/// Looks where bindgen looks (more or less: it knows more places on other systems, and LLVM_CONFIG_PATH).
fn libclang() -> Result<String> {
    let mut dirs: Vec<PathBuf> = env::var_os("LIBCLANG_PATH")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if find("llvm-config").is_some()
        && let Ok(dir) = output(Command::new("llvm-config").arg("--libdir"))
    {
        dirs.push(dir.into());
    }
    for (base, inner) in [
        ("/usr/lib", ""),
        ("/usr/lib", "lib"),
        ("/usr/lib64", ""),
        ("/usr/local/lib", ""),
        ("/opt/homebrew/opt/llvm", ""),
        ("/Library/Developer/CommandLineTools/usr", ""),
        (
            "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr",
            "",
        ),
    ] {
        dirs.push(base.into());
        let inner_dirs = fs::read_dir(base).into_iter().flatten().flatten();
        dirs.extend(inner_dirs.map(|entry| entry.path().join(inner)));
    }
    let is_libclang = |name: &str| {
        name == "libclang.dylib"
            || (name.starts_with("libclang.so") || name.starts_with("libclang-"))
                && name.contains(".so")
                && !name.starts_with("libclang-cpp")
    };
    dirs.iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .find(|entry| is_libclang(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path().display().to_string())
        .ok_or_else(|| anyhow!("no libclang.so found; LIBCLANG_PATH may name its directory"))
}
