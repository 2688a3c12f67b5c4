//! Engines that count fuel.

use crate::{CheckerError, CostTable, pad};
use slackline_metering_pass::PASS_VERSION;
use std::fmt;
use std::str::FromStr;
use wasmtime::{Config, Engine, ModuleVersionStrategy, Strategy, WasmFeatures};

/// How fuel is counted and how an execution that is out of it is stopped. The count is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In memory, looked at by compiled code at every function entry and loop header: stock wasmtime.
    Exact,
    /// In a pinned register, looked at by trampolines and asynchronous checks.
    Slacked,
    /// In a pinned register, looked at by trampolines; compiled code looks at wasmtime's epoch, which an
    /// [`crate::EpochTicker`] moves on, and goes through a trampoline when it has changed. For platforms where threads cannot
    /// be interrupted. The store's epoch callback belongs to [`crate::Limit::arm`]; in it the counter may be ahead, like
    /// anywhere that is not a call or a return.
    Hybrid,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Exact, Mode::Slacked, Mode::Hybrid];

    /// Whether compiled code keeps the counter in the pinned register.
    pub(crate) fn pins_counter(self) -> bool {
        matches!(self, Mode::Slacked | Mode::Hybrid)
    }

    fn name(self) -> &'static str {
        match self {
            Mode::Exact => "exact",
            Mode::Slacked => "slacked",
            Mode::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metering mode {0:?}: expected \"exact\", \"slacked\" or \"hybrid\"")]
pub struct ParseModeError(String);

impl FromStr for Mode {
    type Err = ParseModeError;
    fn from_str(text: &str) -> Result<Mode, ParseModeError> {
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| ParseModeError(text.to_owned()))
    }
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeteringError {
    /// This platform cannot interrupt a thread in wasm; [`Mode::Hybrid`] and [`Mode::Exact`] work where it cannot.
    #[error(
        "slacked metering is not supported on this platform, use hybrid or exact metering: {0}"
    )]
    Unsupported(#[from] crate::CheckerError),
    /// Wasmtime refused the configuration.
    #[error("wasmtime: {0:#}")]
    Engine(wasmtime::Error),
    /// The landing pad for asynchronous traps could not be built.
    #[error("landing pad: {0}")]
    Pad(&'static str),
}

/// A wasmtime engine that counts fuel.
#[derive(Clone)]
pub struct Metering {
    engine: Engine,
    mode: Mode,
}

impl fmt::Debug for Metering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metering")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Metering {
    /// Makes an engine from `config`, of which everything that metering depends on is overwritten:
    ///
    /// - fuel on, with `costs`; compiled by Cranelift;
    /// - no 64-bit memories and tables: lengths of 64 bits, charged for before anyone looks, could wrap the counter; no exceptions, which the
    ///   pass refuses; no typed function references and GC, which wasmtime accepts and then aborts the process on, if
    ///   built without its feature `gc`;
    /// - no backtraces: an asynchronous trap can come at any instruction, the first of a prologue
    ///   included, from where a walk over frame pointers may misread the innermost frame;
    /// - a module version that names the mode, the pass and the cost table, so that an artifact is
    ///   only ever loaded by an engine that counts as its compiler did.
    ///
    /// # Errors
    ///
    /// See [`MeteringError`].
    pub fn new(
        mut config: Config,
        mode: Mode,
        costs: &CostTable,
    ) -> Result<Metering, MeteringError> {
        configure(&mut config, mode, costs).map_err(MeteringError::Engine)?;
        let engine = Engine::new(&config).map_err(MeteringError::Engine)?;
        if mode.pins_counter() {
            match crate::platform::install() {
                Err(CheckerError::Platform) if mode == Mode::Hybrid => {}
                installed => installed?,
            }
            pad::address()?;
        }
        Ok(Metering { engine, mode })
    }

    /// The engine. Modules compiled with it by other means than [`crate::MeteredModule`] count
    /// fuel but cannot be interrupted.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How it counts.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// Proposals that are off: see [`Metering::new`].
const UNSUPPORTED: WasmFeatures = WasmFeatures::MEMORY64
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::STACK_SWITCHING)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::GC);

pub(crate) fn configure(
    config: &mut Config,
    mode: Mode,
    costs: &CostTable,
) -> wasmtime::Result<()> {
    let costs_id: String = costs.fingerprint()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let version = format!(
        "{}-slackline-{mode}-pass{PASS_VERSION}-costs{costs_id}",
        env!("CARGO_PKG_VERSION")
    );
    config
        .wasm_features(UNSUPPORTED, false)
        .strategy(Strategy::Cranelift)
        .consume_fuel(true)
        .operator_cost(costs.operators().clone())
        .wasm_backtrace_max_frames(None)
        .module_version(ModuleVersionStrategy::Custom(version))?;
    config.epoch_interruption(mode == Mode::Hybrid);
    // In all modes: wasmtime demands the same of every engine in a process.
    #[cfg(target_os = "macos")]
    config.macos_use_mach_ports(false);
    if mode.pins_counter() {
        // SAFETY: the flag reserves a register. Wasmtime does not use it, and the pass, which every
        // function compiled with the flag goes through, keeps the host's value in the trampolines
        // as the host's calling convention demands.
        unsafe {
            config.cranelift_flag_set("enable_pinned_reg", "true");
        }
    }
    Ok(())
}
