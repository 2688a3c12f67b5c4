//! Runs contracts: compiles and caches them, and executes a method under a fuel limit.

use crate::code::{self, CodeError};
use crate::host::{self, Exit, HostError, HostState};
use crate::params::{FuelSchedule, Limits, ProtocolParams};
use crate::state::TxState;
use crate::store::StoreError;
use crate::types::{AbortReason, Address, Hash, Outcome};
use quick_cache::sync::Cache;
use serde::Serialize;
use slackline_metering::{
    AsyncFuelChecker, CheckStats, EpochTicker, Limit, MeteredModule, Metering, MeteringError, Mode,
    Overshoot, OvershootHistograms, Watchdog,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use wasmtime::{Config, InstancePre, Linker, Store, StoreLimitsBuilder, Trap, WasmFeatures};

/// Compiled contracts kept in memory.
const CACHED_CONTRACTS: usize = 512;

/// The machine failed, not the contract: there is no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine failed: no memory for an instance, or a bug.
    #[error("the execution engine failed: {0}")]
    Engine(String),
}

/// What the asynchronous checks have done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeteringStats {
    /// Executions of contracts.
    pub executions: u64,
    /// Interruptions sent to executing threads.
    pub checks_sent: u64,
    /// Of those, the ones that found the thread in compiled wasm.
    pub checks_landed: u64,
    /// Of those, the ones that found it out of fuel and stopped it.
    pub stopped: u64,
    /// The most fuel that an execution had used past its limit when it was stopped.
    pub max_overshoot_fuel: u64,
}

#[derive(Default)]
struct Counters {
    executions: AtomicU64,
    sent: AtomicU64,
    landed: AtomicU64,
    stopped: AtomicU64,
    max_overshoot: AtomicU64,
    overshoot: OvershootHistograms,
}

/// A contract ready to run.
pub(crate) struct Contract {
    pub(crate) methods: BTreeSet<String>,
    pre: InstancePre<HostState>,
    /// Keeps the code known to the checker.
    _module: MeteredModule,
}

/// A call to make.
pub(crate) struct Invocation<'a> {
    pub(crate) contract: Address,
    pub(crate) caller: Address,
    pub(crate) method: &'a str,
    pub(crate) input: Vec<u8>,
    /// The limit, in fuel.
    pub(crate) fuel: u64,
    pub(crate) read_only: bool,
}

/// What came of it. After an abort `used` is the limit.
pub(crate) struct Finished {
    pub(crate) state: TxState,
    pub(crate) outcome: Outcome,
    pub(crate) used: u64,
    pub(crate) logs: Vec<Vec<u8>>,
}

pub(crate) struct Vm {
    metering: Metering,
    linker: Linker<HostState>,
    watchdog: Option<Watchdog>,
    _ticker: Option<EpochTicker>,
    contracts: Cache<Hash, Arc<Contract>>,
    fees: Arc<FuelSchedule>,
    limits: Arc<Limits>,
    counters: Counters,
}

impl Vm {
    pub(crate) fn new(params: &ProtocolParams, mode: Mode) -> Result<Vm, MeteringError> {
        let metering = Metering::new(engine_config(&params.limits), mode, &params.costs)?;
        let mut linker = Linker::new(metering.engine());
        host::link(&mut linker).map_err(MeteringError::Engine)?;
        let watchdog = (mode == Mode::Slacked)
            .then(Watchdog::start)
            .transpose()
            .map_err(|error| MeteringError::Engine(wasmtime::Error::msg(error.to_string())))?;
        let ticker = (mode == Mode::Hybrid)
            .then(|| EpochTicker::start(&metering, EpochTicker::PERIOD))
            .transpose()
            .map_err(|error| MeteringError::Engine(wasmtime::Error::msg(error.to_string())))?;
        Ok(Vm {
            metering,
            linker,
            watchdog,
            _ticker: ticker,
            contracts: Cache::new(CACHED_CONTRACTS),
            fees: Arc::new(params.fees.clone()),
            limits: Arc::new(params.limits.clone()),
            counters: Counters::default(),
        })
    }

    pub(crate) fn mode(&self) -> Mode {
        self.metering.mode()
    }

    pub(crate) fn cached(&self, hash: &Hash) -> Option<Arc<Contract>> {
        self.contracts.get(hash)
    }

    /// Checks and compiles `wasm`, whose hash is `hash`.
    pub(crate) fn load(&self, hash: Hash, wasm: &[u8]) -> Result<Arc<Contract>, CodeError> {
        if let Some(contract) = self.contracts.get(&hash) {
            return Ok(contract);
        }
        let interface = code::check(wasm, &self.limits)?;
        let compile = |error: String| CodeError::Compile(error);
        let module =
            MeteredModule::new(&self.metering, wasm).map_err(|error| compile(error.to_string()))?;
        let pre = self
            .linker
            .instantiate_pre(&module)
            .map_err(|error| compile(format!("{error:#}")))?;
        let contract = Arc::new(Contract {
            methods: interface.methods,
            pre,
            _module: module,
        });
        self.contracts.insert(hash, contract.clone());
        Ok(contract)
    }

    /// Calls `invocation.method`, which `contract` must have.
    pub(crate) fn call(
        &self,
        contract: &Contract,
        invocation: Invocation<'_>,
        state: TxState,
    ) -> Result<Finished, ExecutionError> {
        let engine_failed = |error: String| ExecutionError::Engine(error);
        // `arm` replaces the limit before anything runs.
        let host = HostState {
            tx: state,
            fuel: Limit::none(),
            fees: self.fees.clone(),
            limits: self.limits.clone(),
            resources: StoreLimitsBuilder::new()
                .memory_size(self.limits.memory_pages as usize * 65_536)
                .table_elements(self.limits.table_elements as usize)
                .build(),
            contract: invocation.contract,
            caller: invocation.caller,
            input: invocation.input,
            read_only: invocation.read_only,
            output: Vec::new(),
            logs: Vec::new(),
            reverted: None,
            fault: None,
        };
        let mut store = Store::new(self.metering.engine(), host);
        store.limiter(|host| &mut host.resources);
        let limit = Limit::arm(&self.metering, &mut store, invocation.fuel)
            .map_err(|error| engine_failed(error.to_string()))?;
        store.data_mut().fuel = limit;

        let result = self.watched(invocation.fuel, || {
            let instance = contract.pre.instantiate(&mut store)?;
            instance
                .get_typed_func::<(), ()>(&mut store, invocation.method)?
                .call(&mut store, ())
        })?;
        let used = limit.used(&mut store);
        let host = store.into_data();
        if let Some(fault) = host.fault {
            return Err(fault.into());
        }
        let outcome = match (result, used) {
            // Past the limit, whatever else happened.
            (_, None) => Outcome::Abort(AbortReason::OutOfFuel),
            (Ok(()), Some(_)) => Outcome::Success { data: host.output },
            (Err(error), Some(_)) => match error.downcast_ref::<Exit>() {
                Some(Exit::Revert) => Outcome::Revert {
                    data: host.reverted.unwrap_or_default(),
                },
                _ => Outcome::Abort(
                    abort_reason(&error).ok_or_else(|| engine_failed(format!("{error:#}")))?,
                ),
            },
        };
        let used = match (&outcome, used) {
            (Outcome::Success { .. } | Outcome::Revert { .. }, Some(used)) => used,
            _ => invocation.fuel,
        };
        let logs = if outcome.is_success() {
            host.logs
        } else {
            Vec::new()
        };
        Ok(Finished {
            state: host.tx,
            outcome,
            used,
            logs,
        })
    }

    /// Runs `execution`, which may use up to `fuel`, with the watchdog looking at this thread.
    fn watched<T>(&self, fuel: u64, execution: impl FnOnce() -> T) -> Result<T, ExecutionError> {
        self.counters.executions.fetch_add(1, Relaxed);
        let Some(watchdog) = &self.watchdog else {
            return Ok(execution());
        };
        let checker = AsyncFuelChecker::for_current_thread()
            .map_err(|error| ExecutionError::Engine(error.to_string()))?;
        let before = checker.stats();
        let guard = watchdog.watch(&checker, fuel);
        let result = execution();
        drop(guard);
        self.counters.add(before, checker.stats());
        Ok(result)
    }

    /// How far past their limits executions were when checks stopped them, all threads together.
    pub(crate) fn overshoot(&self) -> Overshoot {
        self.counters.overshoot.snapshot()
    }

    pub(crate) fn stats(&self) -> MeteringStats {
        MeteringStats {
            executions: self.counters.executions.load(Relaxed),
            checks_sent: self.counters.sent.load(Relaxed),
            checks_landed: self.counters.landed.load(Relaxed),
            stopped: self.counters.stopped.load(Relaxed),
            max_overshoot_fuel: self.counters.max_overshoot.load(Relaxed),
        }
    }
}

impl Counters {
    fn add(&self, before: CheckStats, after: CheckStats) {
        if after.sent == before.sent {
            return;
        }
        self.sent.fetch_add(after.sent - before.sent, Relaxed);
        self.landed.fetch_add(after.landed - before.landed, Relaxed);
        if after.stopped > before.stopped {
            self.stopped
                .fetch_add(after.stopped - before.stopped, Relaxed);
            self.max_overshoot.fetch_max(after.last_overshoot, Relaxed);
            self.overshoot
                .record(after.last_overshoot, Some(after.last_overshoot_ns));
        }
    }
}

/// The engine's configuration besides metering: nothing that differs between machines.
fn engine_config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // What `code::check` lets through, and nothing that it might miss.
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(code::features(), true)
        .max_wasm_stack(limits.stack_bytes)
        .generate_address_map(false);
    config
}

/// Why a failed call was stopped; `None` if that was not the contract's doing.
fn abort_reason(error: &wasmtime::Error) -> Option<AbortReason> {
    if let Some(error) = error.downcast_ref::<HostError>() {
        return Some(AbortReason::HostInterface(error.to_string()));
    }
    Some(match error.downcast_ref::<Trap>()? {
        Trap::OutOfFuel => AbortReason::OutOfFuel,
        Trap::StackOverflow => AbortReason::StackExhausted,
        trap => {
            let text = trap.to_string();
            AbortReason::Trap(text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned())
        }
    })
}
