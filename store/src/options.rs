//! Settings of the database. None of them affects consensus.

use serde::{Deserialize, Serialize};

/// How much memory the database may take, and how much of the past it keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// Blocks of files kept in memory, uncompressed, in bytes.
    pub cache_bytes: usize,
    /// Nodes of the state's tree kept in memory, decoded, in bytes.
    pub node_cache_bytes: usize,
    /// Writes kept in memory until they go to files, of all column families together, in bytes. The more, the less merging of files.
    pub write_buffer_bytes: usize,
    /// Threads that write and merge files.
    pub background_jobs: i32,
    /// Files held open; -1 for all.
    pub max_open_files: i32,
    /// Size of the filters that spare looking for what is not there, in bits a key.
    pub bloom_bits: f64,
    /// Heights before the last whose state can be read, proved and gone back to. A smaller number than before takes effect from the
    /// next block on; a greater one fills up as blocks are made.
    pub keep_heights: u64,
}

impl StoreOptions {
    /// For a developer's machine: under 250 MB of memory.
    pub fn laptop() -> StoreOptions {
        StoreOptions {
            cache_bytes: 64 << 20,
            node_cache_bytes: 64 << 20,
            write_buffer_bytes: 96 << 20,
            background_jobs: 2,
            max_open_files: 256,
            bloom_bits: 10.0,
            keep_heights: 1_000,
        }
    }

    /// For a validator: several gigabytes of memory.
    pub fn server() -> StoreOptions {
        StoreOptions {
            cache_bytes: 4 << 30,
            node_cache_bytes: 1 << 30,
            write_buffer_bytes: 640 << 20,
            background_jobs: 8,
            max_open_files: -1,
            ..StoreOptions::laptop()
        }
    }
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions::laptop()
    }
}
