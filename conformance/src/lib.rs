//! The metering modes against each other.
//!
//! ```text
//!   seed or a fuzzer's bytes ──▶ Choices ──▶ loops::case, smith::case ──▶ Case: a module, calls, limits
//!                                                                           │
//!                        Oracle::check: exact says what is right            ▼
//!                 exact │ slacked, under fire and single-stepped │ hybrid │ unmetered
//! ```
//!
//! [`oracle`] says what is compared. The tests in `tests/` run seeds from 0 on, `fuzz/` in the repository's root runs what
//! libFuzzer makes up. [`spec`] runs the official tests of WebAssembly.

pub mod choices;
pub mod loops;
pub mod oracle;
pub mod smith;
pub mod spec;
pub mod step;

use choices::Choices;
use wasmtime::WasmFeatures;

/// What contracts may use: the same as `features` of `executor/src/code.rs`, which cannot be used here without RocksDB.
pub const ALLOWED_FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::FLOATS);

/// An engine's configuration that validates with `features` and with no others: wasmtime by itself also accepts types
/// and instructions for which the code is not compiled in here.
///
/// `SLACKLINE_MEMORY_RESERVATION`, in bytes, replaces the gigabytes of addresses that wasmtime reserves for a memory: qemu, before
/// version 8, keeps a record of each page of them.
pub(crate) fn config(features: WasmFeatures) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(features, true)
        .cranelift_nan_canonicalization(true);
    if let Some(bytes) = std::env::var("SLACKLINE_MEMORY_RESERVATION")
        .ok()
        .and_then(|bytes| bytes.parse().ok())
    {
        config.memory_reservation(bytes).memory_guard_size(1 << 16);
    }
    config
}

/// An argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// An i32.
    I32(i32),
    /// An i64.
    I64(i64),
}

/// A call of an exported function, in an instance of its own.
#[derive(Clone, Debug)]
pub struct Call {
    /// The export's name.
    pub function: String,
    /// Of the function's parameter types.
    pub arguments: Vec<Argument>,
    /// The limit of the first run, in fuel: enough for most.
    pub fuel: u64,
}

/// Something to run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The module.
    pub wasm: Vec<u8>,
    /// What to call; if there is nothing, every export, with zeros.
    pub calls: Vec<Call>,
    /// What random limits are derived from.
    pub limits: u64,
}

/// Where cases come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// [`loops::case`].
    Loops,
    /// [`smith::case`].
    Smith,
}

impl Source {
    /// A case from these bytes; `None` if they lead to none.
    pub fn case(self, bytes: &[u8]) -> Option<Case> {
        let mut choices = Choices::new(bytes);
        match self {
            Source::Loops => Some(loops::case(&mut choices)),
            Source::Smith => smith::case(&mut choices),
        }
    }

    /// The case of that number.
    pub fn seeded(self, seed: u64) -> Option<Case> {
        let length = match self {
            Source::Loops => 4 << 10,
            Source::Smith => 16 << 10,
        };
        self.case(&choices::bytes(seed, length))
    }

    /// The source's name in digests.
    pub fn name(self) -> &'static str {
        match self {
            Source::Loops => "loops",
            Source::Smith => "smith",
        }
    }
}
