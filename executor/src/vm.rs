//! Runs contracts: compiles and caches them, and executes calls under fuel limits, one inside the other.

use crate::cache::ModuleCache;
use crate::gate::Gate;
use crate::host::{self, Env, Exit, Frame, HostError, HostState, Run};
use crate::params::{Limits, ProtocolParams};
use crate::sample::Sampler;
use crate::state::Overlay;
use crate::store::StoreError;
use crate::trace::{self, Blocks};
use crate::types::{AbortReason, Address, Hash};
use quick_cache::sync::Cache;
use serde::Serialize;
use slackline_metering::{
    AsyncFuelChecker, CheckStats, CostTable, EpochTicker, Limit, MeteredModule, Metering,
    MeteringError, Mode, Overshoot, OvershootHistograms, Watchdog,
};
use slackline_sandbox::{
    Checked, CodeError, INIT, MEMORY, NATIVE_RESERVE, STACK_GLOBAL, StackUse, UPGRADE,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use wasmtime::{
    Config, InstanceAllocationStrategy, InstancePre, Linker, ModuleExport, PoolingAllocationConfig,
    Store, StoreLimitsBuilder, Trap, Val, WasmFeatures,
};

/// Compiled contracts kept in memory.
const CACHED_CONTRACTS: usize = 512;

/// Transactions and views that can execute at a time; more wait.
const EXECUTIONS: u32 = 32;

/// What a call between contracts takes of the stack besides wasm, in bytes: trampolines, host functions, what they call.
const HOST_STACK_BYTES: u32 = NATIVE_RESERVE + (48 << 10);

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
    /// What the transaction has read has been changed by one before it: it is executed again. Never returned by [`crate::Chain`].
    #[error("what the transaction has read has changed")]
    Stale,
}

/// What the asynchronous checks have done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeteringStats {
    /// Executions of contracts, calls by other contracts included.
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
    /// That of its code.
    hash: Hash,
    /// All that can be called from outside.
    methods: BTreeMap<String, ModuleExport>,
    init: Option<ModuleExport>,
    upgrade: Option<ModuleExport>,
    reentrant: BTreeSet<String>,
    memory: ModuleExport,
    stack: StackUse,
    stack_global: Option<ModuleExport>,
    pre: InstancePre<HostState>,
    /// Of profiled code.
    blocks: Option<Arc<Blocks>>,
    /// Keeps the code known to the checker.
    module: MeteredModule,
}

impl Contract {
    pub(crate) fn methods(&self) -> impl Iterator<Item = &String> {
        self.methods.keys()
    }

    pub(crate) fn has_init(&self) -> bool {
        self.init.is_some()
    }
}

/// What of a contract is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'a> {
    Method(&'a str),
    Init,
    Upgrade,
}

/// A call to make.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) contract: Address,
    pub(crate) caller: Address,
    pub(crate) entry: Entry<'a>,
    pub(crate) input: Vec<u8>,
    /// Moved from the caller first.
    pub(crate) value: u128,
    /// The limit, in fuel.
    pub(crate) fuel: u64,
    pub(crate) read_only: bool,
}

/// How a call ended. Unless it has returned, the run is as it was before.
#[derive(Debug)]
pub(crate) enum Ended {
    Returned(Vec<u8>),
    Reverted(Vec<u8>),
    Aborted(AbortReason),
    Refused(Refusal),
}

/// Why a call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such contract")]
    NoContract,
    #[error("the contract has no such method")]
    NoMethod,
    #[error("the contract is being called already")]
    Reentrant,
    #[error("too many calls in each other")]
    TooDeep,
    #[error("not enough currency for the value")]
    Balance,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) ended: Ended,
    /// Fuel: the limit after an abort.
    pub(crate) used: u64,
}

impl Called {
    fn refused(refusal: Refusal) -> Called {
        Called {
            ended: Ended::Refused(refusal),
            used: 0,
        }
    }
}

pub(crate) struct Vm {
    metering: Metering,
    linker: Linker<HostState>,
    watchdog: Option<Watchdog>,
    _ticker: Option<EpochTicker>,
    contracts: Cache<Hash, Result<Arc<Contract>, CodeError>>,
    compiled: ModuleCache,
    executions: Arc<Gate>,
    params: Arc<ProtocolParams>,
    /// Whether code is instrumented to tell what its functions use.
    profiles: bool,
    counters: Counters,
    sampler: Sampler,
}

impl Vm {
    /// One that tells what functions use, for executions that are recorded: see [`trace::Detail::Functions`].
    pub(crate) fn profiling(params: &ProtocolParams, compiled: &Path) -> Result<Vm, MeteringError> {
        let free = params.costs.with_free_operators();
        let mut vm = Vm::with_costs(params, &free, Mode::Exact, compiled)?;
        host::link_profile(&mut vm.linker).map_err(MeteringError::Engine)?;
        vm.profiles = true;
        Ok(vm)
    }

    /// `compiled` is the directory for compiled code.
    pub(crate) fn new(
        params: &ProtocolParams,
        mode: Mode,
        compiled: &Path,
    ) -> Result<Vm, MeteringError> {
        Vm::with_costs(params, &params.costs, mode, compiled)
    }

    fn with_costs(
        params: &ProtocolParams,
        costs: &CostTable,
        mode: Mode,
        compiled: &Path,
    ) -> Result<Vm, MeteringError> {
        let metering = Metering::new(engine_config(&params.limits), mode, costs)?;
        let mut linker = Linker::new(metering.engine());
        host::link(&mut linker).map_err(MeteringError::Engine)?;
        let failed = |error: String| MeteringError::Engine(wasmtime::Error::msg(error));
        let watchdog = (mode == Mode::Slacked)
            .then(Watchdog::start)
            .transpose()
            .map_err(|error| failed(error.to_string()))?;
        let ticker = (mode == Mode::Hybrid)
            .then(|| EpochTicker::start(&metering, EpochTicker::PERIOD))
            .transpose()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Vm {
            compiled: ModuleCache::open(compiled, &metering, params.version),
            metering,
            linker,
            watchdog,
            _ticker: ticker,
            contracts: Cache::new(CACHED_CONTRACTS),
            executions: Gate::new(EXECUTIONS),
            params: Arc::new(params.clone()),
            profiles: false,
            counters: Counters::default(),
            sampler: Sampler::default(),
        })
    }

    /// What samples executions.
    pub(crate) fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    pub(crate) fn mode(&self) -> Mode {
        self.metering.mode()
    }

    /// The contract whose code has `hash`, if it is in memory.
    pub(crate) fn cached(&self, hash: &Hash) -> Option<Arc<Contract>> {
        self.contracts.get(hash)?.ok()
    }

    pub(crate) fn params(&self) -> &ProtocolParams {
        &self.params
    }

    /// Checks `wasm`, without compiling it.
    pub(crate) fn check<'a>(&self, wasm: &'a [u8]) -> Result<Checked<'a>, CodeError> {
        slackline_sandbox::check(wasm, &self.params.limits.code, host::FUNCTIONS)
    }

    /// The contract with code `wasm`, whose hash is `hash`: from the memory, from the disk, or compiled, and kept there if `keep` says so. While one
    /// thread compiles it, others that ask for it wait.
    pub(crate) fn load(
        &self,
        hash: Hash,
        wasm: &[u8],
        keep: bool,
    ) -> Result<Result<Arc<Contract>, CodeError>, ExecutionError> {
        self.contracts
            .get_or_insert_with(&hash, || self.make(hash, wasm, keep))
    }

    /// What code `wasm` is refused for would be the same on every machine, and is remembered; what the machine fails in is not.
    fn make(
        &self,
        hash: Hash,
        wasm: &[u8],
        keep: bool,
    ) -> Result<Result<Arc<Contract>, CodeError>, ExecutionError> {
        let checked = match self.check(wasm) {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        let profiled = match self.profiles {
            true => {
                let profiled = trace::instrument(wasm, &checked.instrument(), &self.params.costs);
                Some(profiled.map_err(|error| ExecutionError::Engine(error.to_string()))?)
            }
            false => None,
        };
        let (profiled, blocks) = profiled.unzip();
        let module = match self.compiled.load(&self.metering, &hash) {
            Some(module) => module,
            None => {
                let code = profiled.unwrap_or_else(|| checked.instrument());
                let module = match MeteredModule::new(&self.metering, code) {
                    Ok(module) => module,
                    Err(error) if error.is_of_the_machine() => {
                        return Err(ExecutionError::Engine(error.to_string()));
                    }
                    Err(error) => return Ok(Err(CodeError::Compile(error.to_string()))),
                };
                if keep {
                    self.compiled.store(&hash, &module);
                }
                module
            }
        };
        let engine_failed = |error: String| ExecutionError::Engine(error);
        let pre = self
            .linker
            .instantiate_pre(&module)
            .map_err(|error| engine_failed(format!("{error:#}")))?;
        let export = |name: &str| {
            module
                .get_export_index(name)
                .ok_or_else(|| engine_failed(format!("the export {name:?} is gone")))
        };
        let interface = checked.into_interface();
        let mut methods = BTreeMap::new();
        for name in interface.methods {
            let index = export(&name)?;
            methods.insert(name, index);
        }
        Ok(Ok(Arc::new(Contract {
            hash,
            init: methods.remove(INIT),
            upgrade: methods.remove(UPGRADE),
            methods,
            reentrant: interface.reentrant,
            memory: export(MEMORY)?,
            stack: interface.stack,
            stack_global: module.get_export_index(STACK_GLOBAL),
            pre,
            blocks: blocks.map(Arc::new),
            module,
        })))
    }

    /// The contract whose code on the chain has `hash`.
    pub(crate) fn contract(&self, run: &Run, hash: &Hash) -> Result<Arc<Contract>, ExecutionError> {
        let loaded = match self.contracts.get(hash) {
            Some(cached) => cached,
            None => {
                let wasm = run.code(hash)?.ok_or_else(|| {
                    StoreError::Damaged(format!("the code with hash {hash} is missing"))
                })?;
                self.load(*hash, &wasm, true)?
            }
        };
        // It was accepted when it was deployed, so a refusal now is the machine's fault.
        loaded.map_err(|error| {
            ExecutionError::Engine(format!("code {hash} no longer compiles: {error}"))
        })
    }

    /// Begins a run on this thread, which waits while there are as many as there may be.
    pub(crate) fn run(&self, env: Env, overlay: Overlay) -> Result<Box<Run>, ExecutionError> {
        let permit = self.executions.enter();
        let stack = self.params.limits.code.stack_bytes as i32;
        let mut run = Run::new(env, overlay, stack, permit);
        if self.watchdog.is_some() {
            run.checks = checker()?.stats();
        }
        Ok(run)
    }

    /// Calls a contract.
    pub(crate) fn call(
        self: &Arc<Self>,
        mut run: Box<Run>,
        call: Call<'_>,
    ) -> Result<(Box<Run>, Called), ExecutionError> {
        let Some(code) = run.overlay.code_of(&call.contract)? else {
            return Ok((run, Called::refused(Refusal::NoContract)));
        };
        let contract = self.contract(&run, &code)?;
        let export = match call.entry {
            Entry::Method(name) => contract.methods.get(name),
            Entry::Init => contract.init.as_ref(),
            Entry::Upgrade => contract.upgrade.as_ref(),
        };
        let Some(export) = export else {
            return Ok((run, Called::refused(Refusal::NoMethod)));
        };
        if let Entry::Method(name) = call.entry
            && run.active.contains(&call.contract)
            && !contract.reentrant.contains(name)
        {
            return Ok((run, Called::refused(Refusal::Reentrant)));
        }
        if run.active.len() >= self.params.limits.call_depth {
            return Ok((run, Called::refused(Refusal::TooDeep)));
        }
        // Set aside what is known before it runs; what recurses counts down from the rest.
        let fixed = i64::from(contract.stack.fixed_bytes) + i64::from(HOST_STACK_BYTES);
        let stack_left = i32::try_from(i64::from(run.stack_left) - fixed).unwrap_or(-1);
        if stack_left < 0 {
            return Ok((run, Called::refused(Refusal::TooDeep)));
        }
        run.stack_left = stack_left;
        let checkpoint = run.overlay.checkpoint();
        let events = run.events.len();
        if !run.transfer(&call.caller, &call.contract, call.value)? {
            return Ok((run, Called::refused(Refusal::Balance)));
        }
        run.active.push(call.contract);
        if let Some(trace) = &mut run.trace {
            trace.enter(&call, code, contract.blocks.clone());
        }
        let (mut run, called) = self.execute(run, &contract, export, call)?;
        if let Some(trace) = &mut run.trace {
            trace.leave(&called);
        }
        run.active.pop();
        if !matches!(called.ended, Ended::Returned(_)) {
            run.overlay.undo(checkpoint);
            run.events.truncate(events);
        }
        Ok((run, called))
    }

    /// Makes a contract at `call.contract`, where nothing is, with `code`, which is on the chain or brought by this transaction.
    pub(crate) fn deploy(
        self: &Arc<Self>,
        mut run: Box<Run>,
        code: Hash,
        call: Call<'_>,
    ) -> Result<(Box<Run>, Called), ExecutionError> {
        let checkpoint = run.overlay.checkpoint();
        let mut account = run.overlay.account(&call.contract)?;
        if account.code.is_some() {
            let text = b"there is a contract at this address already".to_vec();
            return Ok((run, reverted(text)));
        }
        account.code = Some(code);
        run.overlay.set_account(&call.contract, &account);
        let contract = self.contract(&run, &code)?;
        let (mut run, called) = if contract.has_init() {
            self.call(run, call)?
        } else if !call.input.is_empty() {
            let text = "the contract has no init, but input for it was given";
            (run, reverted(text.into()))
        } else if run.transfer(&call.caller, &call.contract, call.value)? {
            let called = Called {
                ended: Ended::Returned(Vec::new()),
                used: 0,
            };
            (run, called)
        } else {
            (run, Called::refused(Refusal::Balance))
        };
        if !matches!(called.ended, Ended::Returned(_)) {
            run.overlay.undo(checkpoint);
        }
        Ok((run, called))
    }

    /// Replaces the code of `call.contract`.
    pub(crate) fn upgrade(
        self: &Arc<Self>,
        mut run: Box<Run>,
        code: Hash,
        call: Call<'_>,
    ) -> Result<(Box<Run>, Called), ExecutionError> {
        let checkpoint = run.overlay.checkpoint();
        let mut account = run.overlay.account(&call.contract)?;
        account.code = Some(code);
        run.overlay.set_account(&call.contract, &account);
        let contract = self.contract(&run, &code)?;
        let (mut run, called) = if contract.upgrade.is_some() {
            self.call(run, call)?
        } else if call.input.is_empty() {
            let called = Called {
                ended: Ended::Returned(Vec::new()),
                used: 0,
            };
            (run, called)
        } else {
            let text = "the new code has no upgrade, but input for it was given";
            (run, reverted(text.into()))
        };
        if !matches!(called.ended, Ended::Returned(_)) {
            run.overlay.undo(checkpoint);
        }
        Ok((run, called))
    }

    /// Runs an export of `contract` in an instance of its own.
    fn execute(
        self: &Arc<Self>,
        run: Box<Run>,
        contract: &Contract,
        export: &ModuleExport,
        call: Call<'_>,
    ) -> Result<(Box<Run>, Called), ExecutionError> {
        let engine_failed = |error: String| ExecutionError::Engine(error);
        let limits = &self.params.limits;
        let stack_left = run.stack_left;
        // `arm` replaces the limit before anything runs.
        let host = HostState {
            vm: self.clone(),
            run: Some(run),
            frame: Frame {
                contract: call.contract,
                caller: call.caller,
                value: call.value,
                input: call.input,
                read_only: call.read_only,
                output: Vec::new(),
                reverted: None,
                returned: Vec::new(),
            },
            fuel: Limit::none(),
            resources: StoreLimitsBuilder::new()
                .memory_size(limits.code.memory_pages as usize * 65_536)
                .table_elements(limits.code.table_elements as usize)
                .build(),
            memory: None,
            stack_left,
            stack: None,
            fault: None,
        };
        let mut store = Store::new(self.metering.engine(), host);
        store.limiter(|host| &mut host.resources);
        let limit = Limit::arm(&self.metering, &mut store, call.fuel)
            .map_err(|error| engine_failed(error.to_string()))?;
        store.data_mut().fuel = limit;

        self.counters.executions.fetch_add(1, Relaxed);
        let checker = self.watchdog.as_ref().map(|_| checker()).transpose()?;
        let watch = self
            .watchdog
            .as_ref()
            .zip(checker.as_ref())
            .map(|(watchdog, checker)| watchdog.watch(checker, call.fuel));
        let session = self.sampler.session();
        let sampled = session.as_ref().zip(checker.as_ref());
        let sampled = sampled
            .map(|(session, checker)| session.watch(contract.module.id(), contract.hash, checker));
        // From here on who makes it stale has it looked at until it is found.
        if store.data_mut().run().overlay.is_stale() {
            return Err(ExecutionError::Stale);
        }
        let result = contract.pre.instantiate(&mut store).and_then(|instance| {
            let memory = instance.get_module_export(&mut store, &contract.memory);
            store.data_mut().memory = memory.and_then(wasmtime::Extern::into_memory);
            if let Some(export) = &contract.stack_global {
                let global = instance
                    .get_module_export(&mut store, export)
                    .and_then(wasmtime::Extern::into_global)
                    .ok_or_else(|| wasmtime::Error::msg("the stack global is gone"))?;
                global.set(&mut store, Val::I32(stack_left))?;
                store.data_mut().stack = Some(global);
            }
            instance
                .get_module_export(&mut store, export)
                .and_then(wasmtime::Extern::into_func)
                .ok_or_else(|| wasmtime::Error::msg("the method is no function"))?
                .typed::<(), ()>(&store)?
                .call(&mut store, ())
        });
        drop(watch);
        drop(sampled);
        let used = limit.used(&mut store);
        let stack = store.data().stack;
        let exhausted = stack.and_then(|global| global.get(&mut store).i32());
        let mut host = store.into_data();
        if let Some(fault) = host.fault {
            return Err(fault);
        }
        let mut run = host
            .run
            .take()
            .ok_or_else(|| engine_failed("a callee kept the run".to_owned()))?;
        if let Some(checker) = &checker {
            let checks = checker.stats();
            self.counters.add(run.checks, checks);
            run.checks = checks;
        }
        // Cancelled, perhaps: then however it ended, it is not how it ends.
        if run.overlay.is_stale() {
            return Err(ExecutionError::Stale);
        }
        let ended = match (result, used) {
            // Past the limit, whatever else happened.
            (_, None) => Ended::Aborted(AbortReason::OutOfFuel),
            (Ok(()), Some(_)) => Ended::Returned(host.frame.output),
            (Err(error), Some(_)) => match error.downcast_ref::<Exit>() {
                Some(Exit::Revert) => Ended::Reverted(host.frame.reverted.unwrap_or_default()),
                _ if exhausted.is_some_and(slackline_sandbox::stack_exhausted) => {
                    Ended::Aborted(AbortReason::StackExhausted)
                }
                _ => Ended::Aborted(
                    abort_reason(&error).ok_or_else(|| engine_failed(format!("{error:#}")))?,
                ),
            },
        };
        let used = match (&ended, used) {
            (Ended::Returned(_) | Ended::Reverted(_), Some(used)) => used,
            _ => call.fuel,
        };
        Ok((run, Called { ended, used }))
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

fn reverted(text: Vec<u8>) -> Called {
    Called {
        ended: Ended::Reverted(text),
        used: 0,
    }
}

pub(crate) fn checker() -> Result<AsyncFuelChecker, ExecutionError> {
    AsyncFuelChecker::for_current_thread()
        .map_err(|error| ExecutionError::Engine(error.to_string()))
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
    let stack = limits.code.stack_bytes as usize + NATIVE_RESERVE as usize;
    let instances = EXECUTIONS * limits.call_depth as u32;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances)
        .total_memories(instances)
        .total_tables(instances)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(limits.code.table_elements as usize)
        .max_memory_size(limits.code.memory_pages as usize * 65_536)
        .max_core_instance_size(1 << 20)
        // What an instance has touched is cleared by hand up to here, which takes less time than a system call.
        .linear_memory_keep_resident(128 << 10)
        .table_keep_resident(64 << 10);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // What `slackline_sandbox::check` lets through, and nothing that it might miss.
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(slackline_sandbox::features(), true)
        // Only a backstop: the limit that `slackline_sandbox` puts into the code comes first.
        .max_wasm_stack(stack)
        .async_stack_size(stack)
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
        // The limit in the code comes first, on every machine. If it does not, what others see is unknown.
        Trap::StackOverflow => return None,
        trap => {
            let text = trap.to_string();
            AbortReason::Trap(text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned())
        }
    })
}
