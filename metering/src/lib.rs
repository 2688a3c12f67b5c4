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
//! # Unsafe code
//!
//! Only in `code_table` (memory reclaimed under lock-free readers), `linux` (signals) and `config`
//! (a Cranelift flag); denied elsewhere.

#![deny(unsafe_code)]

mod checker;
#[allow(unsafe_code)]
mod code_table;
#[allow(unsafe_code)]
mod config;
mod cost;
mod limit;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod linux;
mod module;
mod pad;
#[cfg(not(target_os = "linux"))]
mod unsupported;
mod watchdog;

pub use checker::{AsyncFuelChecker, CheckStats, CheckerError};
pub use config::{Metering, MeteringError, Mode, ParseModeError};
pub use cost::CostTable;
pub use limit::{Limit, LimitError, MAX_LIMIT};
pub use module::{CompileError, MeteredModule};
pub use watchdog::{WatchGuard, Watchdog, WatchdogError};

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(not(target_os = "linux"))]
use unsupported as platform;
