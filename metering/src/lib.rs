//! Slacked fuel metering on wasmtime: compiled code counts fuel in a pinned register and never looks
//! at it; the thread is interrupted now and then to look, and diverted to a trap once the counter
//! has passed the limit.
//!
//! ```text
//!             Metering (a wasmtime::Engine that counts)
//!                 │ compile                       ┌───────────── Watchdog ─────────────┐
//!   wasm ──▶ MeteredModule ──registers──▶ code table         deadline from the fuel left
//!                 │                         ▲ lock-free             │ check()
//!   Store ── instantiate, call ──▶ thread in wasm ◀── signal ── AsyncFuelChecker
//!                                   r15 counts      │
//!                                      ▲            ▼ handler: pc in a body? r15 >= 0?
//!                                      │         pc := landing pad ──▶ Trap::OutOfFuel
//!                                      └── else go on
//! ```
//!
//! Whether an execution ends within its limit is decided by the trampolines alone (see
//! [`slackline_metering_pass`]); checks decide only how soon a doomed one stops. [`Mode::Exact`] is
//! stock wasmtime with `consume_fuel` and the same costs: the reference, and the fallback where threads
//! cannot be interrupted.
//!
//! # The limit
//!
//! A limit of `n` units admits executions that use at most `n`. Wasmtime's checks stop at a counter
//! that has *reached* zero, so [`Limit::arm`] gives the store one unit more, and "the counter is at zero or above" means "over the
//! limit" to every check there is, in both modes.
//!
//! # In a program of your own
//!
//! ```
//! use slackline_metering::{AsyncFuelChecker, CostTable, Limit, MeteredModule, Metering, Mode, Watchdog};
//! use wasmtime::{Config, Instance, Store, Trap};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metering = Metering::new(Config::new(), Mode::Slacked, &CostTable::v1())?;
//! let endless = r#"(module (func (export "spin") (loop (br 0))))"#;
//! let module = MeteredModule::new(&metering, endless)?;
//!
//! let mut store = Store::new(metering.engine(), ());
//! let limit = Limit::arm(&metering, &mut store, 1_000_000)?;
//! let instance = Instance::new(&mut store, &module, &[])?;
//! let spin = instance.get_typed_func::<(), ()>(&mut store, "spin")?;
//!
//! // One watchdog for the program, one checker for each thread that executes.
//! let watchdog = Watchdog::start()?;
//! let checker = AsyncFuelChecker::for_current_thread()?;
//! let watch = watchdog.watch(&checker, limit.fuel());
//! let stopped = spin.call(&mut store, ()).unwrap_err();
//! drop(watch);
//! assert_eq!(stopped.downcast_ref(), Some(&Trap::OutOfFuel));
//! # Ok(())
//! # }
//! ```
//!
//! The program's workspace needs the three `[patch.crates-io]` entries of this one: the pass is part of the compiler.
//! [`AsyncFuelChecker::check`] can also be called from anywhere else, instead of by a watchdog. A host function that costs fuel pays
//! with [`Limit::charge`]. Drop the store after a trap: what it says of its fuel then means nothing.
//!
//! # Unsafe code
//!
//! Only in `published` (memory reclaimed under lock-free readers), `divert`, `linux` and `macos` (interrupted threads and their
//! registers), `timer` (system calls) and `config` (a Cranelift flag); denied elsewhere.

#![deny(unsafe_code)]

mod checker;
mod code_table;
#[allow(unsafe_code)]
mod config;
mod cost;
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[allow(unsafe_code)]
mod divert;
mod histogram;
mod inspect;
mod limit;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod linux;
#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
mod macos;
mod module;
mod pad;
mod profile;
#[allow(unsafe_code)]
mod published;
mod ring;
mod thread;
mod ticker;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
#[path = "timer_linux.rs"]
mod timer;
#[cfg(not(target_os = "linux"))]
#[path = "timer_none.rs"]
mod timer;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod unsupported;
mod watchdog;

pub use checker::{AsyncFuelChecker, CheckStats, CheckerError, Overshoot, OvershootHistograms};
pub use config::{Metering, MeteringError, Mode, ParseModeError};
pub use cost::CostTable;
pub use histogram::{Histogram, HistogramSnapshot};
pub use inspect::{InspectError, InspectedFunction, inspect};
pub use limit::{Limit, LimitError, MAX_LIMIT};
pub use module::{CompileError, MeteredModule};
pub use profile::{Function, ModuleId, Profiler, ProfilerError, Sample, SampleGuard};
pub use slackline_metering_pass::{FunctionKind, Report};
pub use ticker::{EpochTicker, TickerError};
pub use watchdog::{Driver, WatchGuard, Watchdog, WatchdogError};

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
use unsupported as platform;
