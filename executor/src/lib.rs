//! Executes transactions: wasm contracts under slacked fuel metering, on overlays over a RocksDB snapshot.
//!
//! ```text
//!   bytes ──decode──▶ SignedTransaction ──admit──▶ (the node's queue)
//!                                                        │ produce_block
//!        RocksDB ──snapshot──▶ BlockState ◀──apply── Overlay ◀── host functions ◀── contract ──call──▶ contract …
//!           ▲                      │            (undone unless        Vm: metered module,
//!           │                      │             it succeeds)         limit, watchdog, one instance a call
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

//! # Unsafe code
//!
//! Only in `cache`, which loads compiled code from disk; denied elsewhere.

#![deny(unsafe_code)]

mod cache;
pub mod chain;
mod compiler;
mod execute;
mod gate;
pub mod host;
mod parallel;
pub mod params;
mod read_cache;
pub mod sample;
mod state;
pub mod thread;
pub mod trace;
mod verified;
mod vm;

pub use chain::{
    AdmitError, BlockError, Chain, Effort, Estimate, EstimateError, Executed, Genesis,
    GenesisAccount, OpenError, Pending, ProduceError, Produced, ViewCall, ViewError, ViewResult,
};
pub use execute::{Signatures, ValidatorsError, check_validators, code_hash};
pub use parallel::{BlockStats, Parallelism};
pub use params::ProtocolParams;
pub use slackline_metering::{HistogramSnapshot, Mode, Overshoot};
pub use slackline_proof as proof;
pub use slackline_sandbox as sandbox;
pub use slackline_sandbox::CodeError;
pub use slackline_store as store;
pub use slackline_store::{EventAt, EventPosition, EventQuery, StoreError, StoreOptions, Verified};
pub use slackline_types as types;
pub use state::{account_key, governor_key, storage_key, validators_key};
pub use types::*;
pub use vm::{ExecutionError, MeteringStats};
