//! The ways of metering that are compared.

use anyhow::{Context, Result, ensure};
use slackline_metering::{CostTable, MeteredModule, Metering, Mode};
use std::ops::Deref;
use std::path::PathBuf;
use wasmtime::{Config, Engine, Module, OperatorCost};

/// How a program is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Not at all: the baseline.
    None,
    /// The register is reserved and saved, restored and checked in trampolines as in slacked mode, but operators cost
    /// nothing, so that hardly anything is added to it: wasmtime charges 1 for each function entry whatever its cost
    /// table says.
    Reserved,
    /// Slacked mode without anyone who looks: the code of [`Variant::Slacked`], byte for byte the same.
    CountOnly,
    /// Slacked mode, watched by a watchdog.
    Slacked,
    /// Counted in the register, stopped by wasmtime's epochs, which move on each millisecond.
    Hybrid,
    /// Stock wasmtime's fuel.
    Exact,
    /// Stock wasmtime's epochs, which never come: stopped, not counted.
    Epoch,
    /// Both of stock wasmtime's.
    EpochExact,
}

impl Variant {
    /// All, the baseline first.
    pub const ALL: [Variant; 8] = [
        Variant::None,
        Variant::Reserved,
        Variant::CountOnly,
        Variant::Slacked,
        Variant::Hybrid,
        Variant::Exact,
        Variant::Epoch,
        Variant::EpochExact,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Variant::None => "none",
            Variant::Reserved => "reserved",
            Variant::CountOnly => "count-only",
            Variant::Slacked => "slacked",
            Variant::Hybrid => "hybrid",
            Variant::Exact => "exact",
            Variant::Epoch => "epoch",
            Variant::EpochExact => "epoch+exact",
        }
    }

    /// Whether it counts with the protocol's cost table: all that do must count the same.
    pub fn counts(self) -> bool {
        !matches!(self, Variant::None | Variant::Reserved | Variant::Epoch)
    }

    /// Whether its stores have fuel to be set and read.
    pub fn has_fuel(self) -> bool {
        self.counts() || self == Variant::Reserved
    }

    /// Whether its code looks at the epoch.
    pub fn has_epochs(self) -> bool {
        matches!(self, Variant::Hybrid | Variant::Epoch | Variant::EpochExact)
    }

    fn mode(self) -> Option<Mode> {
        match self {
            Variant::CountOnly | Variant::Slacked => Some(Mode::Slacked),
            Variant::Hybrid => Some(Mode::Hybrid),
            Variant::Exact => Some(Mode::Exact),
            Variant::None | Variant::Reserved | Variant::Epoch | Variant::EpochExact => None,
        }
    }
}

/// An engine for a variant. It compiles on one thread (wasmtime is built without parallel compilation), so the time that it takes
/// is processor time.
pub struct Compiler {
    variant: Variant,
    engine: Engine,
    metering: Option<Metering>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler")
            .field("variant", &self.variant)
            .finish_non_exhaustive()
    }
}

impl Compiler {
    /// Makes the engine.
    ///
    /// # Errors
    ///
    /// If wasmtime refuses, or slacked metering is not supported here.
    pub fn new(variant: Variant) -> Result<Compiler> {
        Compiler::with(variant, Config::new())
    }

    fn with(variant: Variant, mut config: Config) -> Result<Compiler> {
        if let Some(mode) = variant.mode() {
            let metering = Metering::new(config, mode, &CostTable::v1())?;
            return Ok(Compiler {
                variant,
                engine: metering.engine().clone(),
                metering: Some(metering),
            });
        }
        config
            .wasm_backtrace_max_frames(None)
            .consume_fuel(variant.has_fuel())
            .epoch_interruption(variant.has_epochs());
        match variant {
            Variant::EpochExact => {
                config.operator_cost(CostTable::v1().operators().clone());
            }
            Variant::Reserved => {
                config.operator_cost(no_costs()?);
                // SAFETY: the flag reserves a register. Wasmtime does not use it, and the pass, which every function
                // compiled with the flag goes through, keeps the host's value in the trampolines as the host's
                // calling convention demands.
                unsafe {
                    config.cranelift_flag_set("enable_pinned_reg", "true");
                }
            }
            _ => {}
        }
        Ok(Compiler {
            variant,
            engine: Engine::new(&config)?,
            metering: None,
        })
    }

    /// The same engine for a variant that differs from this one in what happens around the code only.
    ///
    /// # Panics
    ///
    /// If the variants' code differs.
    pub fn for_variant(&self, variant: Variant) -> Compiler {
        assert!(
            variant.mode().is_some() && variant.mode() == self.variant.mode(),
            "variants with different code"
        );
        Compiler {
            variant,
            engine: self.engine.clone(),
            metering: self.metering.clone(),
        }
    }

    /// What it compiles for.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine as metering knows it, if it is one of its modes.
    pub fn metering(&self) -> Option<&Metering> {
        self.metering.as_ref()
    }

    /// Compiles `wasm`, a binary.
    ///
    /// # Errors
    ///
    /// If it is invalid or refused.
    pub fn compile(&self, wasm: &[u8]) -> Result<Code> {
        let module = Module::from_binary(&self.engine, wasm)?;
        Ok(match &self.metering {
            Some(metering) => Code::Metered(MeteredModule::from_module(metering, module)),
            None => Code::Plain(module),
        })
    }
}

/// A compiled module; registered with the checker if the engine is one of metering's.
#[derive(Debug)]
pub enum Code {
    /// Not registered.
    Plain(Module),
    /// Registered.
    Metered(MeteredModule),
}

impl Code {
    /// Size of the function bodies, in bytes.
    pub fn bytes(&self) -> usize {
        self.functions().map(|function| function.len).sum()
    }
}

impl Deref for Code {
    type Target = Module;
    fn deref(&self) -> &Module {
        match self {
            Code::Plain(module) => module,
            Code::Metered(module) => module,
        }
    }
}

/// A cost table of zeros.
fn no_costs() -> Result<OperatorCost> {
    let mut table = serde_json::to_value(OperatorCost::new())?;
    clear(&mut table);
    serde_json::from_value(table).context("a cost table of zeros")
}

fn clear(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => fields.values_mut().for_each(clear),
        other => *other = 0.into(),
    }
}

/// Shows that code compiled for a variant contains no metering, by the CLIF that the variant's own engine
/// writes: no access to the fuel counter, none to the epoch. `true` for [`Variant::None`] only; meaningless for
/// variants that keep the counter in the register and not in memory.
///
/// # Errors
///
/// If the CLIF cannot be written or read.
pub fn is_unmetered(wasm: &[u8], variant: Variant) -> Result<bool> {
    let directory = Scratch::new(variant)?;
    let mut config = Config::new();
    config.emit_clif(&directory.0);
    Compiler::with(variant, config)?.compile(wasm)?;
    let traces = ["\"VMStoreContext+0x0\"", "EpochCounter"];
    let mut functions = 0;
    let mut unmetered = true;
    for entry in std::fs::read_dir(&directory.0)? {
        let clif = std::fs::read_to_string(entry?.path())?;
        functions += usize::from(clif.contains("function u0:"));
        unmetered &= !traces.iter().any(|trace| clif.contains(trace));
    }
    ensure!(functions > 0, "no CLIF was written");
    Ok(unmetered)
}

/// A directory of this process, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(variant: Variant) -> Result<Scratch> {
        let name = format!("slackline-clif-{}-{}", std::process::id(), variant.name());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: &str = r#"(module (func (export "run") (loop (br 0))))"#;

    #[test]
    fn only_the_baseline_is_unmetered() -> Result<()> {
        let wasm = wat::parse_str(LOOP)?;
        assert!(is_unmetered(&wasm, Variant::None)?);
        for variant in [Variant::Exact, Variant::Epoch, Variant::EpochExact] {
            assert!(!is_unmetered(&wasm, variant)?, "{}", variant.name());
        }
        Ok(())
    }

    #[test]
    fn a_table_of_zeros_is_one() -> Result<()> {
        let values = serde_json::to_value(no_costs()?)?;
        let fields = values.as_object().context("a map")?;
        assert!(fields.len() > 400);
        assert!(
            fields
                .values()
                .all(|value| value.is_object() || *value == 0)
        );
        Ok(())
    }
}
