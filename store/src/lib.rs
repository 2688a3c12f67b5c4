//! Slackline's database: RocksDB, authenticated by a Jellyfish Merkle tree, one synced write batch per block.
//!
//! ```text
//!   Writes of a block ──update──▶ TreeUpdate ──root──▶ Header
//!          │                          │                  │
//!          └──────────────┬───────────┴──────────────────┘
//!                         ▼
//!                  Store::commit ──Batch──▶ Backend (RocksDB: one write, synced)
//!                                              │
//!   StateSnapshot (last block, or a past one) ◀┤
//!   StateProof ◀───────────────────────────────┤
//!   blocks, receipts, transactions, events ◀───┘
//! ```
//!
//! The batch of a block has all of it: flat state, tree nodes, what it has overwritten, block, receipts, indices, and what falls
//! out of the kept window. After a stop at any point, the database is at the last acknowledged block or at the next.
//! Keys and values are in `docs/store.md`, byte by byte.

#![forbid(unsafe_code)]

pub mod backend;
mod error;
mod keys;
mod nodes;
mod options;
mod rocks;
mod snapshot;
mod store;
pub mod tools;
pub mod transfer;
mod tree;

pub use error::StoreError;
pub use keys::successor;
pub use options::StoreOptions;
pub use rocks::{Activity, Lookups, Rocks};
pub use snapshot::StateSnapshot;
pub use store::{BlockWrites, EventAt, EventPosition, EventQuery, Store, Verified};
pub use tree::TreeUpdate;

use borsh::BorshDeserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The layout that `docs/store.md` describes.
pub const SCHEMA: u32 = 3;

/// What is stored under a key of the state.
pub type Value = Arc<[u8]>;

/// Writes to the state by key, in the order of keys; `None` deletes.
pub type Writes = BTreeMap<Vec<u8>, Option<Value>>;

/// Decodes what we have written.
///
/// # Errors
///
/// [`StoreError::Damaged`], naming `what`.
pub fn decode<T: BorshDeserialize>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    borsh::from_slice(bytes).map_err(|error| StoreError::Damaged(format!("{what}: {error}")))
}

/// Refuses all but [`SCHEMA`].
fn check_schema(bytes: &[u8]) -> Result<(), StoreError> {
    match bytes.try_into().map(u32::from_le_bytes) {
        Ok(SCHEMA) => Ok(()),
        Ok(found @ 1..SCHEMA) => Err(StoreError::CannotMigrate { found }),
        Ok(found) => Err(StoreError::UnknownSchema { found }),
        Err(_) => Err(StoreError::Damaged("meta/schema is not 4 bytes".to_owned())),
    }
}
