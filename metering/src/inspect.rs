//! What metering makes of a module, for people to look at.

use crate::{CompileError, CostTable, MeteringError, Mode, config};
use slackline_metering_pass::{Report, collect_reports};
use wasmtime::{Config, Engine, Module};

/// Why a module could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The engine could not be made.
    #[error(transparent)]
    Metering(#[from] MeteringError),
    /// The module could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Functions were compiled on other threads, where they cannot be seen.
    #[error("inspection needs wasmtime without its feature `parallel-compilation`")]
    Parallel,
}

/// What metering makes of one function.
#[derive(Clone, Debug)]
pub struct InspectedFunction {
    /// Its index in the module, imports counted.
    pub index: u32,
    /// Its name, if the module has a name section.
    pub name: Option<String>,
    /// Size of its machine code when it is not metered, in bytes.
    pub unmetered_bytes: usize,
    /// Size of its machine code in slacked mode, in bytes.
    pub bytes: usize,
    /// What the pass did to it.
    pub report: Report,
}

/// Compiles `wasm` in slacked mode, with `config` and `costs`, and tells what became of the charges of each function.
///
/// # Errors
///
/// See [`InspectError`].
pub fn inspect(
    config: impl Fn() -> Config,
    costs: &CostTable,
    wasm: impl AsRef<[u8]>,
) -> Result<Vec<InspectedFunction>, InspectError> {
    let engine = |config: &Config| Engine::new(config).map_err(MeteringError::Engine);
    let compile = |engine: &Engine| Module::new(engine, wasm.as_ref()).map_err(CompileError::from);

    let unmetered = compile(&engine(&config())?)?;
    let mut slacked = config();
    config::configure(&mut slacked, Mode::Slacked, costs).map_err(MeteringError::Engine)?;
    let slacked = engine(&slacked)?;
    let (module, reports) = collect_reports(|| compile(&slacked));

    let mut reports: Vec<(u32, Report)> = reports
        .into_iter()
        .filter_map(|report| Some((report.defined_index?, report)))
        .collect();
    reports.sort_by_key(|(index, _)| *index);
    let module = module?;
    if reports.len() != module.functions().len() {
        return Err(InspectError::Parallel);
    }
    Ok(module
        .functions()
        .zip(unmetered.functions())
        .zip(reports)
        .map(|((function, plain), (_, report))| InspectedFunction {
            index: function.index.as_u32(),
            name: function.name,
            unmetered_bytes: plain.len,
            bytes: function.len,
            report,
        })
        .collect())
}
