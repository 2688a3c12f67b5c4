//! What must hold of any module, whatever it does.
//!
//! For each call of a [`Case`](crate::Case), with stock wasmtime's fuel ([`Mode::Exact`]) as the reference:
//!
//! - an execution ends within its limit in one mode if it does in all, with the same results, the same
//!   memories, tables and globals, the same host calls, and for the same fuel;
//! - it succeeds with a limit of just what it used, and does not with one unit less;
//! - the host is never called past the limit, except by the reference, which looks less often;
//! - both hold for [`Mode::Slacked`] while another thread asks for checks as fast as it can, and the outcome, the reason of
//!   an abort included, is the same each time;
//! - at no instruction of a function body is the counter past the limit if the execution ends within it: so there
//!   is no instruction at which a check would stop it ([`step`](crate::step), where the processor can do that);
//! - if two modes report a trap other than being out of fuel, it is the same trap;
//! - what ends within its limit gives the same results without metering.
//!
//! An execution that does not end within its limit may be stopped by any trap or by the limit: that is one outcome.

use crate::{ALLOWED_FEATURES, Argument, Call, Case};
use anyhow::{Context, Result, anyhow, bail, ensure};
use slackline_metering::{
    AsyncFuelChecker, CostTable, EpochTicker, Limit, MeteredModule, Metering, Mode, Watchdog,
};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wasmtime::{
    Caller, Config, Engine, Extern, Func, Instance, Linker, Module, Ref, Store, StoreLimits,
    StoreLimitsBuilder, Trap, Val, ValType, WasmFeatures,
};

/// Deep enough for every recursion that the limits here pay for, so that none depends on the size of frames. The
/// thread that runs an [`Oracle`] needs [`THREAD_STACK`].
const WASM_STACK: usize = 48 << 20;

/// Stack for a thread that runs an [`Oracle`].
pub const THREAD_STACK: usize = 64 << 20;

/// The limit for exports that nobody chose one for, in fuel.
const DEFAULT_FUEL: u64 = 10_000;

/// Fuel that the host function costs.
const EFFECT_FUEL: u64 = 7;

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Within its limit.
    Success {
        /// What the function returned.
        values: Vec<String>,
        /// Fuel.
        used: u64,
        /// Of memories, tables, globals and host calls.
        state: u64,
    },
    /// Past its limit.
    OutOfFuel,
    /// By a trap that was not reported as being out of fuel.
    Trap(Trap),
    /// Not started: limits other than fuel.
    Refused(String),
}

impl End {
    fn is_abort(&self) -> bool {
        matches!(self, End::OutOfFuel | End::Trap(_))
    }

    /// Whether two ends are one outcome.
    fn agrees(&self, other: &End) -> bool {
        match (self, other) {
            (End::Trap(a), End::Trap(b)) => a == b,
            _ => self == other || self.is_abort() && other.is_abort(),
        }
    }
}

/// A stable text, the same on each machine.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Success {
                values,
                used,
                state,
            } => write!(
                f,
                "used {used} state {state:016x} values {}",
                values.join(" ")
            ),
            End::OutOfFuel => write!(f, "out of fuel"),
            End::Trap(trap) => write!(f, "{trap}"),
            End::Refused(reason) => write!(f, "refused: {reason}"),
        }
    }
}

/// What has been compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Modules that ran.
    pub modules: u64,
    /// Modules that are refused, in all modes.
    pub refused: u64,
    /// Executions, of all modes.
    pub runs: u64,
    /// Calls that succeeded in the first run.
    pub succeeded: u64,
    /// Calls that were out of fuel in the first run.
    pub out_of_fuel: u64,
    /// Calls that trapped in the first run.
    pub trapped: u64,
    /// Instructions that were looked at one by one.
    pub steps: u64,
    /// Asynchronous checks that found the thread in wasm.
    pub checks_landed: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.modules += other.modules;
        self.refused += other.refused;
        self.runs += other.runs;
        self.succeeded += other.succeeded;
        self.out_of_fuel += other.out_of_fuel;
        self.trapped += other.trapped;
        self.steps += other.steps;
        self.checks_landed += other.checks_landed;
    }
}

struct Host {
    resources: StoreLimits,
    limit: Option<Limit>,
    /// Hash of the arguments of host calls, in order.
    effects: u64,
    /// A host call began past the limit.
    past_limit: bool,
}

/// Executions in one mode, or without metering.
struct Side {
    engine: Engine,
    metering: Option<Metering>,
    linker: Linker<Host>,
}

struct Compiled {
    module: Module,
    /// Keeps the code known to the checker.
    metered: Option<MeteredModule>,
}

/// What a run is besides its end.
struct Run {
    end: End,
    past_limit: bool,
}

fn config() -> Config {
    // Contracts may not use tail calls; metering knows them.
    let mut config = crate::config(ALLOWED_FEATURES.union(WasmFeatures::TAIL_CALL));
    config
        .max_wasm_stack(WASM_STACK)
        // Not used, but must not be less.
        .async_stack_size(WASM_STACK);
    config
}

impl Side {
    fn new(mode: Option<Mode>) -> Result<Side> {
        let metering = mode
            .map(|mode| Metering::new(config(), mode, &CostTable::v1()))
            .transpose()?;
        let engine = match &metering {
            Some(metering) => metering.engine().clone(),
            None => Engine::new(&config())?,
        };
        let mut linker = Linker::new(&engine);
        linker.func_wrap("host", "effect", effect)?;
        Ok(Side {
            engine,
            metering,
            linker,
        })
    }

    fn compile(&self, wasm: &[u8]) -> Result<Compiled> {
        let module = Module::new(&self.engine, wasm)?;
        let metered = self
            .metering
            .as_ref()
            .map(|metering| MeteredModule::from_module(metering, module.clone()));
        Ok(Compiled { module, metered })
    }

    fn run(&self, compiled: &Compiled, call: &Call, fuel: u64) -> Result<Run> {
        self.run_with(compiled, call, fuel, |call| call())
    }

    /// `around` gets the call of the function, without what comes before and after it.
    fn run_with(
        &self,
        compiled: &Compiled,
        call: &Call,
        fuel: u64,
        around: impl FnOnce(&mut dyn FnMut() -> wasmtime::Result<()>) -> wasmtime::Result<()>,
    ) -> Result<Run> {
        let resources = StoreLimitsBuilder::new()
            .memory_size(1 << 20)
            .table_elements(1_000)
            .build();
        let mut store = Store::new(
            &self.engine,
            Host {
                resources,
                limit: None,
                effects: 0,
                past_limit: false,
            },
        );
        store.limiter(|host| &mut host.resources);
        if let Some(metering) = &self.metering {
            store.data_mut().limit = Some(Limit::arm(metering, &mut store, fuel)?);
        }
        let limit = store.data().limit;
        let result = self
            .linker
            .instantiate(&mut store, &compiled.module)
            .and_then(|instance| {
                let function = instance
                    .get_func(&mut store, &call.function)
                    .expect("exported");
                let arguments = arguments(&store, &function, &call.arguments);
                let mut results = vec![Val::I32(0); function.ty(&store).results().len()];
                around(&mut || function.call(&mut store, &arguments, &mut results))?;
                Ok((instance, results))
            });
        let used = match limit {
            Some(limit) => limit.used(&mut store),
            None => Some(0),
        };
        let end = match (result, used) {
            (Ok((instance, results)), Some(used)) => End::Success {
                values: results.iter().map(text).collect(),
                used,
                state: state(&mut store, instance)?,
            },
            (Ok(_), None) => End::OutOfFuel,
            (Err(error), _) => match error.downcast_ref::<Trap>() {
                Some(Trap::OutOfFuel) => End::OutOfFuel,
                Some(trap) => End::Trap(*trap),
                None => End::Refused(format!("{error:#}")),
            },
        };
        Ok(Run {
            end,
            past_limit: store.data().past_limit,
        })
    }
}

/// The host function.
fn effect(mut caller: Caller<'_, Host>, argument: i64) -> wasmtime::Result<i64> {
    if let Some(limit) = caller.data().limit {
        let past_limit = limit.used(&mut caller).is_none();
        let paid = limit.charge(&mut caller, EFFECT_FUEL);
        caller.data_mut().past_limit |= past_limit;
        if paid.is_none() {
            return Err(Trap::OutOfFuel.into());
        }
    }
    let host = caller.data_mut();
    host.effects = hash(host.effects, argument as u64);
    Ok(argument ^ 5)
}

fn arguments(store: &Store<Host>, function: &Func, given: &[Argument]) -> Vec<Val> {
    let mut given = given.iter();
    function
        .ty(store)
        .params()
        .map(|ty| match (given.next(), &ty) {
            (Some(&Argument::I32(value)), ValType::I32) => Val::I32(value),
            (Some(&Argument::I64(value)), ValType::I64) => Val::I64(value),
            _ => Val::default_for_ty(&ty).unwrap_or(Val::I32(0)),
        })
        .collect()
}

/// A value as text that does not depend on addresses.
fn text(value: &Val) -> String {
    match value {
        Val::I32(value) => format!("i32:{value}"),
        Val::I64(value) => format!("i64:{value}"),
        Val::F32(bits) => format!("f32:{bits:08x}"),
        Val::F64(bits) => format!("f64:{bits:016x}"),
        Val::V128(value) => format!("v128:{:032x}", value.as_u128()),
        Val::FuncRef(function) => format!("funcref:{}", function.is_some()),
        other => format!(
            "ref:{}",
            matches!(other.ref_(), Some(reference) if !reference.is_null())
        ),
    }
}

fn hash(state: u64, word: u64) -> u64 {
    (state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A number for `text`, the same on each machine.
pub fn fingerprint(text: &str) -> u64 {
    hash_text(0, text)
}

fn hash_text(state: u64, text: &str) -> u64 {
    text.bytes()
        .fold(state, |state, byte| hash(state, byte.into()))
}

/// Hash of everything that an execution leaves behind.
fn state(store: &mut Store<Host>, instance: Instance) -> Result<u64> {
    let mut all = store.data().effects;
    let exports: Vec<Extern> = instance
        .exports(&mut *store)
        .map(|export| export.into_extern())
        .collect();
    for export in exports {
        match export {
            Extern::Global(global) => all = hash_text(all, &text(&global.get(&mut *store))),
            Extern::Memory(memory) => {
                let (words, _) = memory.data(&*store).as_chunks::<8>();
                for word in words {
                    all = hash(all, u64::from_le_bytes(*word));
                }
                all = hash(all, words.len() as u64);
            }
            Extern::Table(table) => {
                let size = table.size(&*store);
                all = hash(all, size);
                for index in 0..size {
                    let element = table
                        .get(&mut *store, index)
                        .context("an element of the table")?;
                    let set = match element {
                        Ref::Func(function) => function.is_some(),
                        other => !other.is_null(),
                    };
                    all = hash(all, set.into());
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Another thread that asks for checks of this one as fast as it can, while that is switched on.
struct Storm {
    on: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn new(checker: AsyncFuelChecker) -> Result<Storm> {
        let (on, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::Builder::new().spawn({
            let (on, stop) = (on.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    if on.load(Ordering::SeqCst) {
                        checker.check();
                    } else {
                        std::thread::park();
                    }
                }
            }
        })?;
        Ok(Storm {
            on,
            stop,
            thread: Some(thread),
        })
    }

    fn during<T>(&self, part: impl FnOnce() -> T) -> T {
        self.on.store(true, Ordering::SeqCst);
        self.wake();
        let result = part();
        self.on.store(false, Ordering::SeqCst);
        result
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ends the process, saying what was going on, if an execution is not stopped: nothing else could.
struct Sentinel {
    doing: Arc<Mutex<(u64, String)>>,
    _stop: mpsc::Sender<()>,
}

impl Sentinel {
    /// No execution here takes a second.
    const PATIENCE: Duration = Duration::from_secs(120);

    fn new() -> Result<Sentinel> {
        let doing: Arc<Mutex<(u64, String)>> = Arc::default();
        let (_stop, stopped) = mpsc::channel();
        let watched = doing.clone();
        std::thread::Builder::new().spawn(move || {
            let mut last = 0;
            while stopped.recv_timeout(Sentinel::PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let now = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if now.0 == last && !now.1.is_empty() {
                    eprintln!("not stopped: {}", now.1);
                    std::process::abort();
                }
                last = now.0;
            }
        })?;
        Ok(Sentinel { doing, _stop })
    }

    fn now(&self, what: String) {
        let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        doing.0 += 1;
        doing.1 = what;
    }
}

/// Engines of all modes, for the thread that made it.
pub struct Oracle {
    unmetered: Side,
    exact: Side,
    slacked: Side,
    hybrid: Side,
    checker: AsyncFuelChecker,
    storm: Storm,
    watchdog: Watchdog,
    sentinel: Sentinel,
    _ticker: EpochTicker,
    counts: Counts,
    /// Instructions of each case that are looked at one by one, at most.
    pub steps_per_case: u64,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle").finish_non_exhaustive()
    }
}

impl Oracle {
    /// Engines for the current thread, whose stack is to have [`THREAD_STACK`].
    ///
    /// # Errors
    ///
    /// If an engine or a thread cannot be had.
    pub fn new() -> Result<Oracle> {
        let hybrid = Side::new(Some(Mode::Hybrid))?;
        let metering = hybrid.metering.as_ref().context("a metered mode")?;
        let ticker = EpochTicker::start(metering, Duration::from_micros(200))?;
        let checker = AsyncFuelChecker::for_current_thread()?;
        Ok(Oracle {
            unmetered: Side::new(None)?,
            exact: Side::new(Some(Mode::Exact))?,
            slacked: Side::new(Some(Mode::Slacked))?,
            hybrid,
            storm: Storm::new(checker.clone())?,
            checker,
            watchdog: Watchdog::start()?,
            sentinel: Sentinel::new()?,
            _ticker: ticker,
            counts: Counts::default(),
            steps_per_case: 4_000,
        })
    }

    /// What has been compared so far.
    pub fn counts(&self) -> Counts {
        Counts {
            checks_landed: self.checker.stats().landed,
            ..self.counts
        }
    }

    /// Runs `case` in all modes. Returns what the reference says, a line for each call, for a digest.
    ///
    /// # Errors
    ///
    /// If anything that must hold does not; with the module's text.
    pub fn check(&mut self, case: &Case) -> Result<String> {
        self.compare(case)
            .map_err(|error| anyhow!("{error:#}\n{}", print(&case.wasm)))
    }

    fn compare(&mut self, case: &Case) -> Result<String> {
        let exact = match self.exact.compile(&case.wasm) {
            Ok(exact) => exact,
            Err(refusal) => {
                for side in [&self.slacked, &self.hybrid] {
                    ensure!(
                        side.compile(&case.wasm).is_err(),
                        "refused by the reference only: {refusal:#}"
                    );
                }
                self.counts.refused += 1;
                return Ok("refused\n".to_owned());
            }
        };
        let slacked = self.slacked.compile(&case.wasm).context("slacked")?;
        let hybrid = self.hybrid.compile(&case.wasm).context("hybrid")?;
        self.counts.modules += 1;

        let exports: Vec<Call>;
        let calls = if case.calls.is_empty() {
            exports = exported(&exact.module);
            &exports
        } else {
            &case.calls
        };
        let mut limits = case.limits;
        let mut plans = Vec::new();
        let mut digest = String::new();
        for call in calls {
            let plan = self.plan(&exact, call, &mut limits)?;
            writeln!(digest, "{} {}", call.function, plan.reference)?;
            plans.push(plan);
        }
        if plans.iter().any(|plan| plan.used.is_some()) {
            self.without_metering(case, calls, &plans)?;
        }
        for (call, plan) in calls.iter().zip(&plans) {
            self.in_hybrid(&hybrid, call, plan)?;
        }
        let mut first_ends = Vec::new();
        for (call, plan) in calls.iter().zip(&plans) {
            first_ends.push(self.watched(&slacked, call, plan)?);
        }
        let storm = std::mem::replace(&mut self.storm, Storm::none());
        let result = storm.during(|| {
            for ((call, plan), first) in calls.iter().zip(&plans).zip(&first_ends) {
                self.under_fire(&slacked, call, plan, first)?;
            }
            Ok(())
        });
        self.storm = storm;
        result.and_then(|()| self.in_steps(&slacked, calls, &plans))?;
        Ok(digest)
    }

    /// Asks the reference.
    fn plan(&mut self, exact: &Compiled, call: &Call, random: &mut u64) -> Result<Plan> {
        let reference = self.run(Which::Exact, exact, call, call.fuel)?;
        let mut next = |below: u64| {
            *random = hash(*random, 1);
            (*random >> 20) % below.max(1)
        };
        let (mut expected, mut used) = (Vec::new(), None);
        match &reference {
            End::Success { used: fuel, .. } => {
                self.counts.succeeded += 1;
                let fuel = *fuel;
                used = Some(fuel);
                let above = [fuel, fuel + 1, fuel + next(1_000)];
                expected.extend(above.map(|limit| (limit, reference.clone())));
                let below = [fuel.wrapping_sub(1), fuel / 2, next(fuel)];
                expected.extend(
                    below
                        .into_iter()
                        .filter(|&limit| limit < fuel)
                        .map(|limit| (limit, End::OutOfFuel)),
                );
                for (limit, end) in &expected {
                    let got = self.run(Which::Exact, exact, call, *limit)?;
                    ensure!(
                        got.agrees(end),
                        "the reference itself, limit {limit}: {end}, {got}"
                    );
                }
            }
            End::OutOfFuel | End::Trap(_) => {
                match reference {
                    End::OutOfFuel => self.counts.out_of_fuel += 1,
                    _ => self.counts.trapped += 1,
                }
                expected.push((call.fuel / 2, End::OutOfFuel));
                expected.push((next(call.fuel), End::OutOfFuel));
            }
            End::Refused(_) => {}
        }
        expected.push((call.fuel, reference.clone()));
        Ok(Plan {
            reference,
            used,
            expected,
        })
    }

    fn without_metering(&mut self, case: &Case, calls: &[Call], plans: &[Plan]) -> Result<()> {
        let compiled = self.unmetered.compile(&case.wasm).context("unmetered")?;
        for (call, plan) in calls.iter().zip(plans) {
            if plan.used.is_none() {
                // It may never end.
                continue;
            }
            let got = self.run(Which::Unmetered, &compiled, call, 0)?;
            let same = matches!(
                (&plan.reference, &got),
                (
                    End::Success { values: v1, state: s1, .. },
                    End::Success { values: v2, state: s2, .. },
                ) if v1 == v2 && s1 == s2
            );
            ensure!(
                same,
                "{call:?}: without metering {got}, exact {}",
                plan.reference
            );
        }
        Ok(())
    }

    fn in_hybrid(&mut self, hybrid: &Compiled, call: &Call, plan: &Plan) -> Result<()> {
        for (limit, expected) in &plan.expected {
            let got = self.run(Which::Hybrid, hybrid, call, *limit)?;
            ensure!(
                got.agrees(expected),
                "{call:?}, limit {limit}: hybrid {got}, exact {expected}"
            );
        }
        Ok(())
    }

    /// With nobody but a watchdog asking for checks, which asks for few.
    fn watched(&mut self, slacked: &Compiled, call: &Call, plan: &Plan) -> Result<Vec<End>> {
        let mut ends = Vec::new();
        for (limit, expected) in &plan.expected {
            let got = self.run(Which::SlackedWatched, slacked, call, *limit)?;
            ensure!(
                got.agrees(expected),
                "{call:?}, limit {limit}: slacked {got}, exact {expected}"
            );
            ends.push(got);
        }
        Ok(ends)
    }

    fn under_fire(
        &mut self,
        slacked: &Compiled,
        call: &Call,
        plan: &Plan,
        first: &[End],
    ) -> Result<()> {
        for ((limit, _), first) in plan.expected.iter().zip(first) {
            // What just fits, most of all.
            let times = if Some(*limit) == plan.used { 4 } else { 1 };
            for _ in 0..times {
                let got = self.run(Which::Slacked, slacked, call, *limit)?;
                ensure!(
                    got == *first,
                    "{call:?}, limit {limit}: slacked {first}, and another time, under fire, {got}"
                );
            }
        }
        Ok(())
    }

    /// Looks at the counter at every instruction of executions that just fit.
    fn in_steps(&mut self, slacked: &Compiled, calls: &[Call], plans: &[Plan]) -> Result<()> {
        let Some(metered) = &slacked.metered else {
            return Ok(());
        };
        let bodies = crate::step::bodies(metered);
        let mut left = self.steps_per_case;
        for (call, plan) in calls.iter().zip(plans) {
            let Some(used) = plan.used else { continue };
            if left == 0 {
                break;
            }
            let mut seen = None;
            self.sentinel.now(format!("stepping {call:?}"));
            let run = self.slacked.run_with(slacked, call, used, |call| {
                let (result, seen_here) = crate::step::watch(&bodies, left, call);
                seen = seen_here;
                result
            })?;
            self.counts.runs += 1;
            ensure!(
                run.end == plan.reference,
                "{call:?}, limit {used}, step by step: {}, exact {}",
                run.end,
                plan.reference
            );
            let Some(seen) = seen else { break };
            self.counts.steps += seen.steps;
            left = left.saturating_sub(seen.steps);
            ensure!(
                seen.highest < 0,
                "{call:?}: ends within {used}, but at {:#x} of the code the counter is {} past that limit",
                seen.at,
                seen.highest.wrapping_add(1)
            );
        }
        Ok(())
    }

    fn run(&mut self, which: Which, compiled: &Compiled, call: &Call, fuel: u64) -> Result<End> {
        self.sentinel
            .now(format!("{which:?} {call:?} with a limit of {fuel}"));
        self.counts.runs += 1;
        let side = match which {
            Which::Unmetered => &self.unmetered,
            Which::Exact => &self.exact,
            Which::Slacked | Which::SlackedWatched => &self.slacked,
            Which::Hybrid => &self.hybrid,
        };
        let watch = matches!(which, Which::SlackedWatched)
            .then(|| self.watchdog.watch(&self.checker, fuel));
        let run = side.run(compiled, call, fuel)?;
        drop(watch);
        self.sentinel.now(String::new());
        if run.past_limit && !matches!(which, Which::Exact) {
            bail!("{which:?} {call:?}: a host call past the limit of {fuel}");
        }
        Ok(run.end)
    }
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Unmetered,
    Exact,
    Slacked,
    SlackedWatched,
    Hybrid,
}

/// What to expect of a call.
struct Plan {
    /// The end with the call's own limit.
    reference: End,
    /// Fuel, if it succeeded.
    used: Option<u64>,
    /// Limits, and how the call ends with them.
    expected: Vec<(u64, End)>,
}

impl Storm {
    fn none() -> Storm {
        Storm {
            on: Arc::default(),
            stop: Arc::default(),
            thread: None,
        }
    }
}

fn exported(module: &Module) -> Vec<Call> {
    module
        .exports()
        .filter(|export| export.ty().func().is_some())
        .map(|export| Call {
            function: export.name().to_owned(),
            arguments: Vec::new(),
            fuel: DEFAULT_FUEL,
        })
        .collect()
}

/// The module's text, as far as it can be printed.
pub fn print(wasm: &[u8]) -> String {
    wasmprinter::print_bytes(wasm).unwrap_or_else(|error| format!("cannot be printed: {error:#}"))
}
