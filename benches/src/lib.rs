//! Kernels, the variants of the engine that they are run with, and measuring.

use anyhow::{Context, Result, ensure};
use slackline_metering::{CostTable, Limit, MeteredModule, Metering, Mode};
use std::time::{Duration, Instant};
use wasmtime::{Config, Engine, Instance, Module, Store, TypedFunc};

/// The kernels: name and wasm text. Each exports `run`, which returns a checksum.
pub const KERNELS: &[(&str, &str)] = &[
    ("fib", include_str!("../kernels/fib.wat")),
    ("collatz", include_str!("../kernels/collatz.wat")),
    ("sieve", include_str!("../kernels/sieve.wat")),
    ("matmul", include_str!("../kernels/matmul.wat")),
    ("interpreter", include_str!("../kernels/interpreter.wat")),
    ("hash", include_str!("../kernels/hash.wat")),
];

/// A limit, in fuel, that no kernel reaches.
pub const LIMIT: u64 = 1 << 40;

/// How a kernel is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Not at all.
    None,
    /// In the pinned register.
    Slacked,
    /// By stock wasmtime's fuel.
    Exact,
    /// By wasmtime's epochs: stopped, not counted.
    Epoch,
}

impl Variant {
    /// All, the baseline first.
    pub const ALL: [Variant; 4] = [
        Variant::None,
        Variant::Slacked,
        Variant::Exact,
        Variant::Epoch,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Variant::None => "none",
            Variant::Slacked => "slacked",
            Variant::Exact => "exact",
            Variant::Epoch => "epoch",
        }
    }
}

/// A kernel, compiled for a variant and instantiated.
pub struct Program {
    store: Store<()>,
    run: TypedFunc<(), i64>,
    limit: Option<Limit>,
    /// Size of its function bodies, in bytes.
    pub code_bytes: usize,
    _metered: Option<MeteredModule>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("code_bytes", &self.code_bytes)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// Compiles `wat`.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn new(wat: &str, variant: Variant) -> Result<Program> {
        let metering = match variant {
            Variant::Slacked => Some(Metering::new(
                Config::new(),
                Mode::Slacked,
                &CostTable::v1(),
            )?),
            Variant::Exact => Some(Metering::new(Config::new(), Mode::Exact, &CostTable::v1())?),
            Variant::None | Variant::Epoch => None,
        };
        let engine = match &metering {
            Some(metering) => metering.engine().clone(),
            None => Engine::new(
                Config::new()
                    .wasm_backtrace_max_frames(None)
                    .epoch_interruption(variant == Variant::Epoch),
            )?,
        };
        let module = Module::new(&engine, wat)?;
        let code_bytes = module.functions().map(|function| function.len).sum();
        let mut store = Store::new(&engine, ());
        let mut limit = None;
        if let Some(metering) = &metering {
            limit = Some(Limit::arm(metering, &mut store, LIMIT)?);
        }
        if variant == Variant::Epoch {
            store.set_epoch_deadline(u64::MAX / 2);
        }
        let instance = Instance::new(&mut store, &module, &[])?;
        let run = instance.get_typed_func(&mut store, "run")?;
        let metered = metering.map(|metering| MeteredModule::from_module(&metering, module));
        Ok(Program {
            store,
            run,
            limit,
            code_bytes,
            _metered: metered,
        })
    }

    /// Runs the kernel once; returns its checksum and the time it took.
    ///
    /// # Errors
    ///
    /// If it traps.
    pub fn run(&mut self) -> Result<(i64, Duration)> {
        let start = Instant::now();
        let result = self.run.call(&mut self.store, ())?;
        Ok((result, start.elapsed()))
    }

    /// Fuel used so far, if it is counted.
    pub fn fuel(&mut self) -> Option<u64> {
        self.limit.and_then(|limit| limit.used(&mut self.store))
    }
}

/// Shows that the code of a variant contains no metering, by what wasmtime wrote into its CLIF: no access to the fuel
/// counter, none to the epoch. `true` for [`Variant::None`] only; not for [`Variant::Slacked`], where the counter is not
/// in memory.
///
/// # Errors
///
/// If the CLIF cannot be written or read.
pub fn is_unmetered(wat: &str, variant: Variant) -> Result<bool> {
    let directory = std::env::temp_dir().join(format!(
        "slackline-clif-{}-{}",
        std::process::id(),
        variant.name()
    ));
    std::fs::create_dir_all(&directory)?;
    let mut config = Config::new();
    config.consume_fuel(variant == Variant::Exact);
    config.epoch_interruption(variant == Variant::Epoch);
    config.emit_clif(&directory);
    Module::new(&Engine::new(&config)?, wat)?;
    let mut clif = String::new();
    for entry in std::fs::read_dir(&directory)? {
        clif += &std::fs::read_to_string(entry?.path())?;
    }
    std::fs::remove_dir_all(&directory)?;
    ensure!(clif.contains("function u0:0"), "no CLIF was written");
    let traces = ["\"VMStoreContext+0x0\"", "EpochCounter"];
    Ok(!traces.iter().any(|trace| clif.contains(trace)))
}

/// The median of `values`.
///
/// # Errors
///
/// If there are none.
pub fn median(values: &mut [f64]) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("no values")
}
