//! Random modules, in both metering modes: the same results for the same fuel.
//!
//! `SLACKLINE_FULL=1` makes it a long campaign.

use anyhow::{Context, Result, ensure};
use arbitrary::Unstructured;
use slackline_metering::{
    AsyncFuelChecker, CostTable, Limit, MeteredModule, Metering, Mode, Watchdog,
};
use wasmtime::{Config, Func, Instance, Store, StoreLimits, StoreLimitsBuilder, Trap, Val};

/// Low enough that no recursion exhausts the stack: that depends on the size of frames.
const FUEL: u64 = 10_000;

#[derive(Debug, PartialEq, Eq)]
enum End {
    Returned {
        values: Vec<String>,
        used: u64,
    },
    /// Which trap it was is not compared: the exact mode notices that fuel is out only at its checks, and may trap first.
    Aborted,
}

/// Reproducible bytes for `seed` (splitmix64).
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len.div_ceil(8))
        .flat_map(|_| next().to_le_bytes())
        .take(len)
        .collect()
}

/// A module, or `None` if the bytes of `seed` do not lead to a valid one.
fn module(seed: u64) -> Option<Vec<u8>> {
    let config = wasm_smith::Config {
        min_funcs: 4,
        max_funcs: 12,
        max_instructions: 300,
        export_everything: true,
        max_imports: 0,
        max_memories: 1,
        max_types: 8,
        max_globals: 4,
        max_memory32_bytes: 1 << 20,
        memory_offset_choices: wasm_smith::MemoryOffsetChoices(100, 1, 0),
        max_table_elements: 100,
        max_data_segments: 2,
        max_element_segments: 2,
        max_tables: 1,
        allow_start_export: seed.is_multiple_of(4),
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        multi_value_enabled: true,
        reference_types_enabled: false,
        bulk_memory_enabled: true,
        relaxed_simd_enabled: false,
        simd_enabled: seed.is_multiple_of(2),
        tail_call_enabled: false,
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        shared_everything_threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    let bytes = bytes(seed, 32 << 10);
    wasm_smith::Module::new(config, &mut Unstructured::new(&bytes))
        .ok()
        .map(|module| module.to_bytes())
}

struct Runner {
    metering: Metering,
    watchdog: Watchdog,
}

impl Runner {
    fn new(mode: Mode) -> Result<Runner> {
        let mut config = Config::new();
        config
            .cranelift_nan_canonicalization(true)
            .max_wasm_stack(2 << 20);
        Ok(Runner {
            metering: Metering::new(config, mode, &CostTable::v1())?,
            watchdog: Watchdog::start()?,
        })
    }

    /// Instantiates `wasm` and calls its exported functions with zeros, each in a store of its own.
    fn run(&self, wasm: &[u8]) -> Result<Vec<(String, End)>> {
        let module = MeteredModule::new(&self.metering, wasm)?;
        let functions: Vec<String> = module
            .exports()
            .filter(|export| export.ty().func().is_some())
            .map(|export| export.name().to_owned())
            .collect();
        let mut ends = Vec::new();
        for name in functions {
            let resources = StoreLimitsBuilder::new()
                .memory_size(4 << 20)
                .table_elements(1_000)
                .build();
            let mut store: Store<StoreLimits> = Store::new(self.metering.engine(), resources);
            store.limiter(|resources| resources);
            let limit = Limit::arm(&self.metering, &mut store, FUEL)?;
            let checker = AsyncFuelChecker::for_current_thread()?;
            let watch = self.watchdog.watch(&checker, FUEL);
            let result = call(&mut store, &module, &name);
            drop(watch);
            let end = match (result, limit.used(&mut store)) {
                (Ok(values), Some(used)) => End::Returned { values, used },
                (Ok(_), None) => End::Aborted,
                (Err(error), _) if error.is::<Trap>() => End::Aborted,
                // Instances that the limits refuse: the same in both modes.
                (Err(error), _) => End::Returned {
                    values: vec![format!("{error:#}")],
                    used: 0,
                },
            };
            ends.push((name, end));
        }
        Ok(ends)
    }
}

fn call(
    store: &mut Store<StoreLimits>,
    module: &MeteredModule,
    name: &str,
) -> wasmtime::Result<Vec<String>> {
    let instance = Instance::new(&mut *store, module, &[])?;
    let function: Func = instance.get_func(&mut *store, name).expect("exported");
    let ty = function.ty(&*store);
    let params: Vec<Val> = ty
        .params()
        .map(|ty| Val::default_for_ty(&ty).expect("has a default"))
        .collect();
    let mut results: Vec<Val> = ty
        .results()
        .map(|ty| Val::default_for_ty(&ty).expect("has a default"))
        .collect();
    function.call(&mut *store, &params, &mut results)?;
    Ok(results
        .iter()
        .map(|value| match value {
            Val::FuncRef(function) => format!("funcref {}", function.is_some()),
            other => format!("{other:?}"),
        })
        .collect())
}

fn campaign(seeds: std::ops::Range<u64>) -> Result<()> {
    let (exact, slacked) = (Runner::new(Mode::Exact)?, Runner::new(Mode::Slacked)?);
    let (mut returned, mut aborted) = (0, 0);
    for seed in seeds {
        let Some(wasm) = module(seed) else { continue };
        let expected = exact
            .run(&wasm)
            .with_context(|| format!("seed {seed}, exact"))?;
        let got = slacked
            .run(&wasm)
            .with_context(|| format!("seed {seed}, slacked"))?;
        assert_eq!(expected, got, "seed {seed}");
        for (_, end) in expected {
            match end {
                End::Returned { used, .. } if used > 0 => returned += 1,
                End::Returned { .. } => {}
                End::Aborted => aborted += 1,
            }
        }
    }
    // It would be easy to compare nothing.
    ensure!(
        returned > 1_000 && aborted > 1_000,
        "{returned} returned, {aborted} aborted"
    );
    Ok(())
}

#[test]
fn random_modules_cost_the_same_in_both_modes() -> Result<()> {
    let seeds = if std::env::var_os("SLACKLINE_FULL").is_some() {
        100_000
    } else {
        3_000
    };
    std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || campaign(0..seeds))?
        .join()
        .map_err(|panic| anyhow::anyhow!("{:?}", panic.downcast_ref::<String>()))?
}
