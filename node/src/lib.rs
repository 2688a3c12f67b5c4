//! The Slackline node: a development chain with JSON-RPC, and what clients need to talk to it.
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
//!  (HTTP or WS)     │  Mempool ─batch─▶ producer      │                  │                      │
//!     ▲             │     ▲             thread        │                  │                      │
//!     │             │     └──settle───── │            │                  │                      │
//!     │             │   ticket           │ produce_block: execute, one synced write             │
//!     │ receipt     │     │              ▼            ▼                  ▼                      │
//!     └─────────────│◀────┘          slackline_executor::Chain (wasm, overlay, RocksDB)         │
//!                   └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! - A transaction is *accepted* when the chain admits it after everything that is pending for its sender; it then waits in
//!   the [`mempool`]. One thread, the [`producer`], makes a block of all that waits, as often as something does.
//! - A transaction is *acknowledged* (`"included"`, with a receipt) only when its block is synced to disk.
//! - Nothing that executes contracts, checks signatures or reads the disk runs on a thread that serves connections.
//! - Every queue is bounded: the mempool by transactions and bytes, [workers](views) by pieces of work, the listener by
//!   requests at a time, batch length and body size. What is full says "try again later".
//! - If a block cannot be stored the node accepts nothing more and says why ([`producer::Health::Failed`]): it does not
//!   know what is on disk until it is started again.
//!
//! The binary `slackline` is the command-line interface to all of this.

pub mod args;
pub mod dev;
pub mod keys;
pub mod mempool;
mod node;
pub mod producer;
pub mod rpc;
pub mod views;

pub use node::{Node, NodeConfig, NodeFailure, StartError};
