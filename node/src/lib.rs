//! The Slackline node: a development chain or a validator, with JSON-RPC, and what clients need to talk to it.
//!
//! ```text
//!   client                                  node (Node::start)
//!  ────────         ┌──────────────────────────────────────────────────────────────────────────┐
//!  args, keys       │  rpc::server                                                              │
//!     │             │     │ submit_transaction        │ call_view        │ get_*                │
//!     │ signed,     │     ▼                           ▼                  ▼                      │
//!     │ borsh, hex  │  Workers "admit"             Workers "view"    runtime's blocking threads │
//!     ▼             │     │ decode, known?, admit     │                  │                      │
//!  rpc::api ═══════▶│     ▼                           │                  │                      │
//!  (HTTP or WS)     │  Mempool, journal               │                  │                      │
//!     ▲             │     │ batch        ▲ settle     │                  │                      │
//!     │             │     ▼              │            │                  │                      │
//!     │             │  producer thread (dev), or validator ◀══▶ consensus ◀══▶ other nodes      │
//!     │ receipt     │     │ propose, execute, commit: one synced write                          │
//!     └── ticket ◀──│     ▼                           ▼                  ▼                      │
//!                   │      slackline_executor::Chain (wasm, overlay, RocksDB)                   │
//!  operators ══════▶│  ops: /health /ready /metrics /status                                     │
//!  new nodes ══════▶│  snapshot: the chain as a stream                                          │
//!                   └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! - A transaction is *accepted* when the chain admits it after everything that is pending for its sender; it then waits in
//!   the mempool (`slackline_mempool`). On a development chain one thread, the [`producer`], makes a block of all that waits, as often as something
//!   does. Among validators consensus asks the [`validator`] for blocks, and for its opinion on those of others.
//! - A transaction is *acknowledged* (`"included"`, with a receipt) only when its block is synced to disk. Among validators that block is decided: it
//!   is final.
//! - Nothing that executes contracts, checks signatures or reads the disk runs on a thread that serves connections; and these serve nothing but RPC, so
//!   that clients cannot keep consensus or the operators' port waiting.
//! - Every queue is bounded: the mempool by transactions and bytes, [workers](workers) by pieces of work, the listener by
//!   requests at a time, batch length and body size. What is full says "try again later".
//! - If a block cannot be stored the node accepts nothing more and says why ([`producer::Health::Failed`]): it does not
//!   know what is on disk until it is started again.
//!
//! The binary `slackline` is the command-line interface to all of this.

mod admission;
pub mod args;
pub mod config;
pub mod dev;
pub mod home;
mod http;
pub mod keys;
pub mod metrics;
mod node;
pub mod ops;
mod process;
pub mod producer;
pub mod rpc;
pub mod snapshot;
mod socket;
pub mod validator;
pub mod workers;

pub use node::{ConsensusSetup, Node, NodeConfig, NodeFailure, StartError};
