//! What burns fuel on this machine, by samples of where executions are: cheap enough for a node at work.
//!
//! ```text
//!   Chain::sample ──▶ Sampling ──▶ Session { Profiler } ◀── watch ── Vm::execute, on each thread
//!                        │ collect                │ asynchronous checks, at uneven intervals
//!                        ▼                        ▼
//!                     Samples: by code and function ◀── ring
//! ```
//!
//! The checks are those that stop executions which are out of fuel. While nobody samples, an execution pays one relaxed load. What is exact,
//! and takes many times as long, is in [`crate::trace`].

use crate::types::Hash;
use crate::vm::Vm;
use slackline_metering::{AsyncFuelChecker, Mode, ModuleId, Profiler, ProfilerError, SampleGuard};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Samples that wait to be [collected](Sampling::collect), of 32 bytes.
const RING: usize = 1 << 16;

/// Why executions cannot be sampled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// The engine has no asynchronous checks.
    #[error("in mode {0} there are no asynchronous checks, which samples are taken by")]
    NoChecks(Mode),
    /// Somebody samples already, in this process; or an execution goes on that was sampled before.
    #[error("executions are being sampled already")]
    Running,
    /// The system refused a thread.
    #[error("cannot start to sample: {0}")]
    Thread(std::io::Error),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// By code and function; the function as an index in the code, imports counted.
    pub functions: BTreeMap<(Hash, u32), FunctionSamples>,
    /// Samples that came when there was no room for them, or of code that nobody knows any more.
    pub lost: u64,
}

/// How often a function was found executing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionSamples {
    /// Its name, if the code says it.
    pub name: Option<String>,
    /// How often: a measure of the time that it takes.
    pub samples: u64,
    /// Fuel that executions have burned from one sample to one in this function. What was burned before the first sample of an execution and
    /// after the last is not in it, so of short executions nothing is.
    pub fuel: u64,
}

/// Executions are sampled while this lives.
pub struct Sampling {
    vm: Arc<Vm>,
    session: Arc<Session>,
    samples: Samples,
}

impl std::fmt::Debug for Sampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampling")
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

impl Sampling {
    pub(crate) fn start(vm: Arc<Vm>, interval: Duration) -> Result<Sampling, SamplingError> {
        if vm.mode() != Mode::Slacked {
            return Err(SamplingError::NoChecks(vm.mode()));
        }
        let profiler = Profiler::start(RING, interval).map_err(|error| match error {
            ProfilerError::Thread(error) => SamplingError::Thread(error),
            _ => SamplingError::Running,
        })?;
        let session = Arc::new(Session {
            profiler,
            codes: Mutex::default(),
        });
        vm.sampler().set(Some(session.clone()));
        Ok(Sampling {
            vm,
            session,
            samples: Samples::default(),
        })
    }

    /// Takes what has been found so far out of the ring, which has room for 65,536 samples.
    pub fn collect(&mut self) {
        let found = self.session.profiler.drain();
        let codes = self.session.codes();
        for sample in found {
            let function = sample.function;
            let Some(code) = codes.get(&function.module) else {
                self.samples.lost += 1;
                continue;
            };
            let of = self.samples.functions.entry((*code, function.index));
            let of = of.or_insert_with(|| FunctionSamples {
                name: function.name.clone(),
                ..FunctionSamples::default()
            });
            of.samples += 1;
            of.fuel += sample.fuel.unwrap_or(0);
        }
    }

    /// Ends, with all that was found.
    pub fn finish(mut self) -> Samples {
        self.collect();
        let mut samples = std::mem::take(&mut self.samples);
        samples.lost += self.session.profiler.lost();
        samples
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.vm.sampler().set(None);
    }
}

/// Where a [`Vm`] finds out whether it is sampled.
#[derive(Default)]
pub(crate) struct Sampler {
    is_on: AtomicBool,
    session: RwLock<Option<Arc<Session>>>,
}

impl Sampler {
    fn set(&self, session: Option<Arc<Session>>) {
        self.is_on.store(session.is_some(), Relaxed);
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// The session, if there is one. It lasts as long as somebody has it.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        if !self.is_on.load(Relaxed) {
            return None;
        }
        let session = self.session.read();
        session.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// While samples are taken.
pub(crate) struct Session {
    profiler: Profiler,
    /// Which code a module was compiled from.
    codes: Mutex<HashMap<ModuleId, Hash>>,
}

impl Session {
    fn codes(&self) -> std::sync::MutexGuard<'_, HashMap<ModuleId, Hash>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples an execution of `module`, compiled from the code with hash `code`, on this thread.
    pub(crate) fn watch<'a>(
        &'a self,
        module: Option<ModuleId>,
        code: Hash,
        checker: &'a AsyncFuelChecker,
    ) -> SampleGuard<'a> {
        if let Some(module) = module {
            self.codes().insert(module, code);
        }
        self.profiler.watch(checker)
    }
}
