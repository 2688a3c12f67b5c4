//! Running a compiled program.

use crate::clock::thread_time;
use crate::host::{self, Host};
use crate::kernels::Subject;
use crate::variant::{Code, Compiler, Variant};
use anyhow::{Context, Result, anyhow, bail, ensure};
use slackline_metering::{AsyncFuelChecker, EpochTicker, Limit, Watchdog};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Func, InstancePre, Linker, Store, UpdateDeadline, Val};

/// A limit, in fuel, that no program reaches.
pub const LIMIT: u64 = 1 << 50;

/// What stops slacked executions.
#[derive(Debug)]
pub struct Watch {
    watchdog: Watchdog,
    checker: AsyncFuelChecker,
}

impl Watch {
    /// For executions on this thread.
    ///
    /// # Errors
    ///
    /// If the platform cannot interrupt threads, or refuses another one.
    pub fn start() -> Result<Watch> {
        Ok(Watch {
            watchdog: Watchdog::start()?,
            checker: AsyncFuelChecker::for_current_thread()?,
        })
    }

    /// Number of checks sent so far.
    pub fn checks(&self) -> u64 {
        self.checker.stats().sent
    }
}

/// What a run has come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything that the program has made known: equal for all variants.
    pub result: Shown,
    /// Processor time that it took: between `bench.start` and `bench.end` if the program has called them, else the whole call.
    pub time: Duration,
    /// Fuel used by all of it, if it is counted.
    pub fuel: Option<u64>,
}

/// What a program has made known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The results of its function, as bits.
    pub results: Vec<u128>,
    /// What it has written to standard output.
    pub stdout: Vec<u8>,
}

/// A program, compiled for a variant.
pub struct Runner {
    variant: Variant,
    code: Arc<Code>,
    instance: InstancePre<Host>,
    metering: Option<slackline_metering::Metering>,
    entry: Entry,
    subject: Arc<Subject>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("variant", &self.variant)
            .field("subject", &self.subject.name)
            .finish_non_exhaustive()
    }
}

enum Entry {
    /// `run`, called again and again in one instance, so that its memory is there from the second call on.
    Run(Option<Box<Kept>>),
    /// `_start`, which ends its instance.
    Start,
}

struct Kept {
    store: Store<Host>,
    function: Func,
    results: Vec<Val>,
}

impl Runner {
    /// For `code`, which `compiler` has made of `subject`.
    ///
    /// # Errors
    ///
    /// If it has nothing to call or imports what there is not.
    pub fn new(subject: &Arc<Subject>, compiler: &Compiler, code: Arc<Code>) -> Result<Runner> {
        let entry = if code.get_export("_start").is_some() {
            Entry::Start
        } else if code.get_export("run").is_some() {
            Entry::Run(None)
        } else {
            bail!("exports neither `_start` nor `run`");
        };
        let mut linker = Linker::new(compiler.engine());
        host::link(&mut linker, &code)?;
        let instance = linker.instantiate_pre(&code)?;
        Ok(Runner {
            variant: compiler.variant(),
            code,
            instance,
            metering: compiler.metering().cloned(),
            entry,
            subject: subject.clone(),
        })
    }

    /// What it was compiled for.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The compiled code.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Runs the program once, with a limit in fuel.
    ///
    /// # Errors
    ///
    /// If it traps or exits with anything but 0.
    pub fn run(&mut self, limit: u64, watch: &Watch) -> Result<Outcome> {
        let mut kept = match &mut self.entry {
            Entry::Run(kept) => kept.take(),
            Entry::Start => None,
        };
        let kept = match kept.take() {
            Some(mut kept) => {
                self.arm(&mut kept.store, limit)?;
                kept
            }
            None => Box::new(self.instantiate(limit)?),
        };
        let (outcome, kept) = self.call(kept, limit, watch)?;
        if let Entry::Run(place) = &mut self.entry {
            *place = Some(kept);
        }
        Ok(outcome)
    }

    fn arm(&self, store: &mut Store<Host>, limit: u64) -> Result<()> {
        match &self.metering {
            Some(metering) => drop(Limit::arm(metering, store, limit)?),
            None if self.variant.has_fuel() => store.set_fuel(limit + 1)?,
            None => {}
        }
        if self.variant.has_epochs() && self.variant != Variant::Hybrid {
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
            store.set_epoch_deadline(1);
        }
        Ok(())
    }

    fn instantiate(&self, limit: u64) -> Result<Kept> {
        let host = Host::new(self.subject.directory.clone());
        let mut store = Store::new(self.code.engine(), host);
        self.arm(&mut store, limit)?;
        let instance = self.instance.instantiate(&mut store)?;
        let name = match self.entry {
            Entry::Run(_) => "run",
            Entry::Start => "_start",
        };
        let function = instance
            .get_func(&mut store, name)
            .with_context(|| format!("export `{name}` is not a function"))?;
        let ty = function.ty(&store);
        ensure!(ty.params().len() == 0, "`{name}` has parameters");
        Ok(Kept {
            results: vec![Val::I32(0); ty.results().len()],
            store,
            function,
        })
    }

    fn call(&self, mut kept: Box<Kept>, limit: u64, watch: &Watch) -> Result<(Outcome, Box<Kept>)> {
        let guard =
            (self.variant == Variant::Slacked).then(|| watch.watchdog.watch(&watch.checker, limit));
        let ticker = match &self.metering {
            Some(metering) if self.variant == Variant::Hybrid => {
                Some(EpochTicker::start(metering, EpochTicker::PERIOD)?)
            }
            _ => None,
        };
        let start = thread_time();
        let called = kept.function.call(&mut kept.store, &[], &mut kept.results);
        let whole = thread_time() - start;
        drop((guard, ticker));

        let Kept { store, results, .. } = &mut *kept;
        let left = match (called, store.data_mut().exit.take()) {
            (Ok(()), _) => store.get_fuel().ok(),
            (Err(_), Some((0, left))) => left,
            (Err(_), Some((code, _))) => {
                let stderr = String::from_utf8_lossy(&store.data().stderr);
                bail!("exits with {code}: {}", stderr.trim_end());
            }
            (Err(trap), None) => return Err(anyhow!("{trap:#}")),
        };
        let host = store.data_mut();
        let outcome = Outcome {
            result: Shown {
                results: results.iter().map(bits).collect(),
                stdout: std::mem::take(&mut host.stdout),
            },
            time: host.timed.take().unwrap_or(whole),
            fuel: left.map(|left| limit + 1 - left),
        };
        Ok((outcome, kept))
    }
}

fn bits(value: &Val) -> u128 {
    match value {
        Val::I32(value) => u128::from(value.cast_unsigned()),
        Val::I64(value) => u128::from(value.cast_unsigned()),
        Val::F32(bits) => u128::from(*bits),
        Val::F64(bits) => u128::from(*bits),
        Val::V128(value) => value.as_u128(),
        // References have no value that two variants could agree on.
        _ => 0,
    }
}
