//! A statistical profile of what burns fuel.
//!
//! ```text
//!   Profiler's thread ── check() ──▶ thread in wasm ── landed(pc, counter) ──▶ ring ── drain() ──▶ Vec<Sample>
//!     every interval, whoever is watched                                  atomics only      pc → function, by symbols
//! ```
//!
//! Each check that lands in a function body is a sample: where the thread was, and what it has burned since its last
//! one. The profiler's own checks come at even intervals, so that the number of samples of a function is a measure of the
//! *time* it takes; checks of a [`crate::Watchdog`], a handful for each execution, are samples too. While no profiler runs,
//! a check pays one relaxed load.
//!
//! # Modules come and go
//!
//! A sample names its module by an id that is never used again, and the functions of a module that is
//! dropped while a profiler runs are remembered until the samples from before that have been drained.

use crate::checker::ThreadCell;
use crate::published::Published;
use crate::{AsyncFuelChecker, ring::Ring};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::Module;

/// Which module of a process a function is from: [`crate::MeteredModule::id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub(crate) u64);

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module{}", self.0)
    }
}

/// A function of a profiled module.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// The module.
    pub module: ModuleId,
    /// The module's name, if it has one.
    pub module_name: Option<String>,
    /// Index of the function in the module, imports counted.
    pub index: u32,
    /// The function's name, if the module says it.
    pub name: Option<String>,
}

/// `module!function`, with numbers for what has no name.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module_name {
            Some(name) => write!(f, "{name}!")?,
            None => write!(f, "{}!", self.module)?,
        }
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "function{}", self.index),
        }
    }
}

/// One landed check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Where it landed.
    pub function: Arc<Function>,
    /// Fuel burned since the sample before in the same [`Profiler::watch`]; `None` for the first of one, and outside of any.
    /// Host functions' charges in between are included.
    pub fuel: Option<u64>,
}

/// Why a profiler could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfilerError {
    /// There can be one in a process.
    #[error("a profiler is running already")]
    Running,
    /// The system refused another thread.
    #[error("cannot start the profiler thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Takes samples while it lives. One in a process.
pub struct Profiler {
    ring: Arc<Ring>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    interval: Duration,
}

#[derive(Default)]
struct State {
    threads: Vec<Arc<ThreadCell>>,
    stop: bool,
}

/// Where samples go; nothing while no profiler runs.
static RING: Published<Arc<Ring>> = Published::new();

impl Profiler {
    /// Starts to take samples: of all checks that land, and of the threads that are watched about every `interval`. The ring
    /// has room for `capacity` samples, of 32 bytes, or some more; when it is full, further ones are lost until it is drained.
    ///
    /// Intervals vary at random between half and one and a half times `interval`, lest they keep step with what is sampled.
    ///
    /// # Errors
    ///
    /// See [`ProfilerError`].
    pub fn start(capacity: usize, interval: Duration) -> Result<Profiler, ProfilerError> {
        let ring = Arc::new(Ring::new(capacity));
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            interval,
        });
        let mut mine = false;
        RING.update(|running| {
            mine = running.is_none();
            Some(running.unwrap_or(&ring).clone())
        });
        if !mine {
            return Err(ProfilerError::Running);
        }
        // From here on dropping it ends the profile.
        let mut profiler = Profiler {
            ring,
            shared: shared.clone(),
            thread: None,
        };
        profiler.thread = Some(
            std::thread::Builder::new()
                .name("slackline-profiler".to_owned())
                .spawn(move || shared.run())?,
        );
        Ok(profiler)
    }

    /// Samples the current thread, whose checker `checker` is, during an execution. Watches nest.
    pub fn watch<'a>(&'a self, checker: &'a AsyncFuelChecker) -> SampleGuard<'a> {
        let cell = checker.cell();
        let mut state = self.shared.lock();
        let enrolled = !state.threads.iter().any(|known| Arc::ptr_eq(known, cell));
        if enrolled {
            state.threads.push(cell.clone());
        }
        SampleGuard {
            profiler: self,
            cell,
            enrolled,
            outer: cell.last_sample.0.swap(FIRST, Relaxed),
        }
    }

    /// Takes the samples out of the ring, oldest first. Those of unknown functions are left out and count as lost.
    pub fn drain(&self) -> Vec<Sample> {
        let mut modules = modules();
        let dropped: Vec<u64> = modules.dropped.keys().copied().collect();
        let mut samples = Vec::new();
        while let Some(raw) = self.ring.pop() {
            match modules.function(raw.module, raw.pc) {
                Some(function) => samples.push(Sample {
                    function,
                    fuel: raw.fuel,
                }),
                None => self.ring.lose(),
            }
        }
        // Nothing is left from before the ring was seen empty, so from before these modules were dropped.
        if self.ring.is_empty() {
            for id in dropped {
                modules.dropped.remove(&id);
            }
        }
        samples
    }

    /// How many samples were lost so far, because the ring was full or the function not known.
    pub fn lost(&self) -> u64 {
        self.ring.lost()
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        RING.update(|_| None);
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it has, nothing is lost here.
            let _ = thread.join();
        }
        let mut modules = modules();
        modules.dropped.clear();
        for module in modules.registered.values_mut() {
            module.symbols = None;
        }
    }
}

impl fmt::Debug for Profiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiler")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// Ends [`Profiler::watch`] when dropped.
#[must_use = "dropping the guard ends the sampling"]
#[derive(Debug)]
pub struct SampleGuard<'a> {
    profiler: &'a Profiler,
    cell: &'a Arc<ThreadCell>,
    /// Whether dropping this takes the thread off the list: only the outermost does.
    enrolled: bool,
    outer: i64,
}

impl Drop for SampleGuard<'_> {
    fn drop(&mut self) {
        self.cell.last_sample.0.store(self.outer, Relaxed);
        if self.enrolled {
            let mut state = self.profiler.shared.lock();
            state.threads.retain(|other| !Arc::ptr_eq(other, self.cell));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // Numerical Recipes' generator: the intervals need to be uneven and nothing else.
        let mut random: u32 = 1;
        let mut state = self.lock();
        while !state.stop {
            // Also while nobody is watched: woken by who is, it would always find the beginning of what is short.
            for cell in &state.threads {
                AsyncFuelChecker::from_cell(cell.clone()).check();
            }
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let jitter = self
                .interval
                .mul_f64(f64::from(random) / f64::from(u32::MAX));
            let waited = self.wake.wait_timeout(state, self.interval / 2 + jitter);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A thread's counter when last sampled, or one of the two values below. Counters start above them: see
/// [`crate::MAX_LIMIT`]. Written by the thread, and by whoever has interrupted it.
#[derive(Debug)]
pub(crate) struct LastSample(AtomicI64);

/// The thread is not watched.
const UNWATCHED: i64 = i64::MIN;
/// It is, and has not been sampled yet.
const FIRST: i64 = i64::MIN + 1;

impl Default for LastSample {
    fn default() -> LastSample {
        LastSample(AtomicI64::new(UNWATCHED))
    }
}

/// A check found a thread at `pc` in a body of `module` with `counter`. Async-signal-safe: atomics.
pub(crate) fn record(last: &LastSample, module: u64, pc: usize, counter: i64) {
    if !RING.is_set() {
        return;
    }
    let before = last.0.load(Relaxed);
    if before != UNWATCHED {
        last.0.store(counter, Relaxed);
    }
    // Less than before is another store's counter.
    let fuel = (before > FIRST && counter >= before).then(|| counter.abs_diff(before));
    RING.read(|ring| {
        if let Some(ring) = ring {
            ring.push(module, pc, fuel);
        }
    });
}

/// What functions the addresses of registered modules belong to.
#[derive(Default)]
struct Modules {
    registered: BTreeMap<u64, Registered>,
    /// Modules dropped while a profiler runs.
    dropped: BTreeMap<u64, Symbols>,
}

struct Registered {
    /// Not what keeps it alive: [`unregister`] comes before the module is dropped.
    module: Module,
    symbols: Option<Symbols>,
}

/// Ascending and disjoint.
type Symbols = Vec<(Range<usize>, Arc<Function>)>;

fn modules() -> MutexGuard<'static, Modules> {
    static MODULES: Mutex<Modules> = Mutex::new(Modules {
        registered: BTreeMap::new(),
        dropped: BTreeMap::new(),
    });
    MODULES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the functions of `module` known, until [`unregister`] is called and no sample of theirs is left.
pub(crate) fn register(id: u64, module: &Module) {
    let registered = Registered {
        module: module.clone(),
        symbols: None,
    };
    modules().registered.insert(id, registered);
}

pub(crate) fn unregister(id: u64) {
    let mut modules = modules();
    let removed = modules.registered.remove(&id);
    if RING.is_set()
        && let Some(mut registered) = removed
    {
        let symbols = registered.symbols.take();
        let symbols = symbols.unwrap_or_else(|| symbols_of(id, &registered.module));
        modules.dropped.insert(id, symbols);
    }
}

impl Modules {
    fn function(&mut self, id: u64, pc: usize) -> Option<Arc<Function>> {
        let symbols = match self.registered.get_mut(&id) {
            Some(Registered { module, symbols }) => {
                symbols.get_or_insert_with(|| symbols_of(id, module))
            }
            None => self.dropped.get(&id)?,
        };
        let after = symbols.partition_point(|(range, _)| range.start <= pc);
        let (range, function) = symbols.get(after.checked_sub(1)?)?;
        range.contains(&pc).then(|| function.clone())
    }
}

fn symbols_of(id: u64, module: &Module) -> Symbols {
    let base = module.text().as_ptr() as usize;
    let mut symbols: Symbols = module
        .functions()
        .map(|function| {
            let start = base + function.offset;
            let description = Function {
                module: ModuleId(id),
                module_name: module.name().map(str::to_owned),
                index: function.index.as_u32(),
                name: function.name,
            };
            (start..start + function.len, Arc::new(description))
        })
        .collect();
    symbols.sort_by_key(|(range, _)| range.start);
    symbols
}
