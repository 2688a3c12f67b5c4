//! Executes transactions: wasm contracts under slacked fuel metering, on overlays over a RocksDB snapshot.
//!
//! ```text
//!   bytes ──decode──▶ SignedTransaction ──admit──▶ (the node's queue)
//!                                                        │ produce_block
//!        RocksDB ──snapshot──▶ BlockState ◀──merge── TxState ◀── host functions ◀── contract
//!           ▲                      │            (kept on Success,        Vm: metered module,
//!           │                      │             dropped otherwise)      limit, watchdog
//!           └── one synced WriteBatch ── block, receipts, state, code, head
//! ```
//!
//! - [`types`]: what is signed, stored and hashed.
//! - [`params`]: every constant that consensus depends on.
//! - [`Chain`]: the database with the engine; what a node talks to.
//! - [`host`]: the interface that contracts see, with prices and errors.
//!
//! A block's result is a function of the state before it, its transactions, and the protocol parameters. Failures of
//! the machine (disk, memory, the engine itself) are errors of [`Chain::produce_block`], never outcomes.

#![forbid(unsafe_code)]

pub mod chain;
pub mod code;
mod execute;
pub mod host;
pub mod params;
mod state;
mod store;
pub mod types;
mod vm;

pub use chain::{
    AdmitError, Chain, Genesis, GenesisAccount, OpenError, Pending, ProduceError, Produced,
    ViewCall, ViewError, ViewResult,
};
pub use code::CodeError;
pub use params::ProtocolParams;
pub use slackline_metering::{HistogramSnapshot, Mode, Overshoot};
pub use store::StoreError;
pub use types::*;
pub use vm::{ExecutionError, MeteringStats};
