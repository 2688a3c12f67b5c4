//! What contracts are compiled with.
//!
//! Two toolchains will do: the rustc in use when rustup has given it the target wasm32-unknown-unknown, else Debian's
//! rustc with its sources, from which cargo builds core and alloc.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What contracts are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Where Debian has its rustc.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The `rust-version` of the contracts.
const MIN_MINOR: u32 = 95;

/// Why there is nothing to compile contracts with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// Neither toolchain is there.
    #[error(
        "no Rust for {target}: type `rustup target add {target}`, or where that cannot be done, on Debian, \
         `apt-get install rustc-web rust-web-src lld-19`"
    )]
    Missing {
        /// What was to be compiled for.
        target: String,
    },
    /// Debian's rustc is there, but too old.
    #[error(
        "{DEBIAN_RUSTC} is {version}; 1.{MIN_MINOR} or later is needed: `apt-get install rustc-web rust-web-src`, or \
         `rustup target add {TARGET}`"
    )]
    TooOld {
        /// Which it is.
        version: String,
    },
    /// Debian's rustc is there without the sources of the standard library.
    #[error(
        "{DEBIAN_RUSTC} is there, the library's sources are not: `apt-get install rust-web-src`, or \
         `rustup target add {TARGET}`"
    )]
    NoSources,
    /// There is no linker.
    #[error(
        "no linker for {TARGET}: neither rust-lld nor wasm-ld is there; on Debian, `apt-get install lld-19`"
    )]
    NoLinker,
    /// A compiler could not be asked.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// What was started.
        command: String,
        /// What went wrong.
        reason: String,
    },
}

/// A way to compile Rust to wasm32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The rustc in use has the target.
    Installed {
        /// Its directory.
        sysroot: PathBuf,
    },
    /// Debian's packages rustc-web and rust-web-src, and a linker from elsewhere.
    Debian {
        /// The compiler's directory.
        sysroot: PathBuf,
        /// The linker.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// The toolchain for a project in `dir`, where a rust-toolchain.toml may choose the rustc.
    ///
    /// # Errors
    ///
    /// See [`ToolchainError`].
    pub fn find(dir: &Path) -> Result<Toolchain, ToolchainError> {
        let rustc = |args: &[&str]| output(Command::new("rustc").args(args).current_dir(dir));
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
        if Path::new(&rustc(&["--print", "target-libdir", "--target", TARGET])?).is_dir() {
            return Ok(Toolchain::Installed { sysroot });
        }
        Ok(Toolchain::Debian {
            sysroot: debian_sysroot(TARGET)?,
            linker: linker(dir)?,
        })
    }

    /// Makes a cargo command build for wasm32 with this toolchain.
    pub fn apply(&self, command: &mut Command) {
        command.args(["--target", TARGET]);
        if let Toolchain::Debian { linker, .. } = self {
            command
                .arg("-Zbuild-std=core,alloc")
                .env_remove("LD_LIBRARY_PATH")
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }

    /// The sources of the standard library, of which paths are in what is compiled.
    pub(crate) fn sources(&self) -> PathBuf {
        let (Toolchain::Installed { sysroot } | Toolchain::Debian { sysroot, .. }) = self;
        sysroot.join("lib/rustlib/src/rust")
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Toolchain::Installed { sysroot } => write!(f, "{TARGET} in {}", sysroot.display()),
            Toolchain::Debian { linker, .. } => {
                write!(f, "{DEBIAN_RUSTC} with its sources, {}", linker.display())
            }
        }
    }
}

/// The sysroot of Debian's rustc, if it is there with its sources and can stand in for a `target` of rustup's.
///
/// # Errors
///
/// See [`ToolchainError`].
pub fn debian_sysroot(target: &str) -> Result<PathBuf, ToolchainError> {
    if !Path::new(DEBIAN_RUSTC).is_file() {
        let target = target.to_owned();
        return Err(ToolchainError::Missing { target });
    }
    let debian = |args: &[&str]| {
        output(
            Command::new(DEBIAN_RUSTC)
                .env_remove("LD_LIBRARY_PATH")
                .args(args),
        )
    };
    let version = debian(&["--version"])?;
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < MIN_MINOR) {
        return Err(ToolchainError::TooOld { version });
    }
    let sysroot = PathBuf::from(debian(&["--print", "sysroot"])?);
    if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        return Err(ToolchainError::NoSources);
    }
    Ok(sysroot)
}

/// The linker of the toolchain of rustup's that is in use in `dir`, or that of LLVM.
///
/// # Errors
///
/// [`ToolchainError::NoLinker`], and [`ToolchainError::Command`] if there is no rustc.
pub fn linker(dir: &Path) -> Result<PathBuf, ToolchainError> {
    let rustc = |args: &[&str]| output(Command::new("rustc").args(args).current_dir(dir));
    let sysroot = rustc(&["--print", "sysroot"])?;
    let version = rustc(&["-vV"])?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap_or_default();
    Some(PathBuf::from(format!(
        "{sysroot}/lib/rustlib/{host}/bin/rust-lld"
    )))
    .filter(|path| path.is_file())
    .or_else(|| ["wasm-ld-19", "wasm-ld"].into_iter().find_map(in_path))
    .ok_or(ToolchainError::NoLinker)
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Runs a command and returns its standard output, trimmed.
fn output(command: &mut Command) -> Result<String, ToolchainError> {
    let result = command.stdin(Stdio::null()).output();
    let failed = |reason: String| ToolchainError::Command {
        command: std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(OsStr::to_string_lossy)
            .collect::<Vec<_>>()
            .join(" "),
        reason,
    };
    let output = result.map_err(|error| {
        failed(match error.kind() {
            io::ErrorKind::NotFound => "there is no such program in the path".to_owned(),
            _ => error.to_string(),
        })
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim_end().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
