//! The database: RocksDB, one synced write batch per block.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `state` | see [`crate::state`] | see there |
//! | `code` | hash of the code (32) | wasm module |
//! | `blocks` | height (8, big-endian) | [`Block`], borsh |
//! | `receipts` | transaction hash (32) | [`Receipt`], borsh |
//! | `transactions` | transaction hash (32) | height (8, little-endian), index in the block (4, little-endian) |
//! | `meta` | `schema`, `genesis`, `head` | version (4, little-endian); JSON; [`Header`], borsh |

use crate::state::{Value, Writes};
use crate::types::{Block, Hash, Header, Receipt, SignedTransaction, encode};
use borsh::BorshDeserialize;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options, ReadOptions, Snapshot,
    WriteBatch, WriteOptions,
};
use self_cell::self_cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// The layout described above.
const SCHEMA: u32 = 2;

const FAMILIES: [&str; 6] = [
    "state",
    "code",
    "blocks",
    "receipts",
    "transactions",
    "meta",
];

/// Why the database could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// RocksDB failed: disk full, input/output error, checksum mismatch.
    #[error("database: {0}")]
    Database(#[from] rocksdb::Error),
    /// The database contains something that this version cannot have written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database was written by another version of the program.
    #[error("the database has schema version {found}, this program knows version {SCHEMA}")]
    UnknownSchema {
        /// The version found.
        found: u32,
    },
}

impl StoreError {
    /// Whether another process has the database open. RocksDB tells only by its text, an input/output error
    /// about the file `LOCK`.
    pub(crate) fn is_locked(&self) -> bool {
        match self {
            StoreError::Database(error) => {
                error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("/LOCK: ")
            }
            _ => false,
        }
    }
}

/// The open database.
#[derive(Clone)]
pub(crate) struct Store(Arc<DB>);

self_cell!(
    struct Pinned {
        owner: Arc<DB>,
        #[not_covariant]
        dependent: Snapshot,
    }
);

/// The state as of a block, unaffected by later ones.
pub(crate) struct StateSnapshot(Pinned);

/// What a block changes.
pub(crate) struct BlockWrites<'a> {
    pub(crate) block: &'a Block,
    pub(crate) receipts: &'a [Receipt],
    pub(crate) state: &'a Writes,
    pub(crate) code: &'a BTreeMap<Hash, Arc<Vec<u8>>>,
}

impl Store {
    /// Opens or creates the database in `path`.
    pub(crate) fn open(path: &Path) -> Result<Store, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        options.set_keep_log_file_num(4);
        let mut family = Options::default();
        family.set_compression_type(DBCompressionType::Lz4);
        let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, family.clone()));
        let store = Store(Arc::new(DB::open_cf_descriptors(&options, path, families)?));
        match store.get("meta", b"schema")? {
            Some(bytes) if bytes == SCHEMA.to_le_bytes() => {}
            Some(bytes) => {
                let found = bytes.try_into().map(u32::from_le_bytes);
                return Err(match found {
                    Ok(found) => StoreError::UnknownSchema { found },
                    Err(_) => StoreError::Damaged("meta/schema is not 4 bytes".to_owned()),
                });
            }
            None => {}
        }
        Ok(store)
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        family(&self.0, name)
    }

    fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get_cf(self.family(family)?, key)?)
    }

    fn get_borsh<T: BorshDeserialize>(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.get(family, key)?
            .map(|bytes| decode(&bytes, family))
            .transpose()
    }

    pub(crate) fn genesis(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.get("meta", b"genesis")
    }

    pub(crate) fn head(&self) -> Result<Option<Header>, StoreError> {
        self.get_borsh("meta", b"head")
    }

    pub(crate) fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        self.get_borsh("blocks", &height.to_be_bytes())
    }

    pub(crate) fn receipt(&self, hash: &Hash) -> Result<Option<Receipt>, StoreError> {
        self.get_borsh("receipts", &hash.0)
    }

    pub(crate) fn transaction(&self, hash: &Hash) -> Result<Option<SignedTransaction>, StoreError> {
        let Some((height, index)) = self.get_borsh::<(u64, u32)>("transactions", &hash.0)? else {
            return Ok(None);
        };
        self.block(height)?
            .and_then(|block| block.transactions.into_iter().nth(index as usize))
            .map(Some)
            .ok_or_else(|| {
                StoreError::Damaged(format!("transaction {hash} is not where the index says"))
            })
    }

    pub(crate) fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.get("code", &hash.0)
    }

    pub(crate) fn snapshot(&self) -> StateSnapshot {
        StateSnapshot(Pinned::new(self.0.clone(), |db| db.snapshot()))
    }

    /// Writes the genesis block: with it the database has its schema and identity.
    pub(crate) fn initialise(
        &self,
        genesis: &[u8],
        writes: &BlockWrites<'_>,
    ) -> Result<(), StoreError> {
        let meta = self.family("meta")?;
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, b"schema", SCHEMA.to_le_bytes());
        batch.put_cf(meta, b"genesis", genesis);
        self.commit(batch, writes)
    }

    /// Writes a block: all of it or, if this fails or the machine stops, nothing; on return it is on disk.
    pub(crate) fn commit_block(&self, writes: &BlockWrites<'_>) -> Result<(), StoreError> {
        self.commit(WriteBatch::default(), writes)
    }

    fn commit(&self, mut batch: WriteBatch, writes: &BlockWrites<'_>) -> Result<(), StoreError> {
        let header = &writes.block.header;
        let state = self.family("state")?;
        for (key, value) in writes.state {
            match value {
                Some(value) => batch.put_cf(state, key, &value[..]),
                None => batch.delete_cf(state, key),
            }
        }
        let code = self.family("code")?;
        for (hash, wasm) in writes.code {
            batch.put_cf(code, hash.0, wasm.as_slice());
        }
        let (receipts, transactions) = (self.family("receipts")?, self.family("transactions")?);
        for receipt in writes.receipts {
            let hash = receipt.transaction.0;
            batch.put_cf(receipts, hash, encode(receipt));
            batch.put_cf(transactions, hash, encode(&(header.height, receipt.index)));
        }
        batch.put_cf(
            self.family("blocks")?,
            header.height.to_be_bytes(),
            encode(writes.block),
        );
        batch.put_cf(self.family("meta")?, b"head", encode(header));
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.0.write_opt(batch, &options)?)
    }
}

impl StateSnapshot {
    fn family(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        family(self.0.borrow_owner(), name)
    }

    /// Reads a key of the state.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let state = self.family("state")?;
        let value = self
            .0
            .with_dependent(|_, snapshot| snapshot.get_pinned_cf(state, key))?;
        Ok(value.map(|value| Value::from(&*value)))
    }

    /// The first key within `bounds`, or the last one.
    pub(crate) fn next(
        &self,
        (low, high): (Bound<&Vec<u8>>, Bound<&Vec<u8>>),
        last: bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.family("state")?;
        let mut options = ReadOptions::default();
        // RocksDB's bounds are inclusive below and exclusive above.
        match low {
            Bound::Included(low) => options.set_iterate_lower_bound(low.clone()),
            Bound::Excluded(low) => options.set_iterate_lower_bound([low, &[0][..]].concat()),
            Bound::Unbounded => {}
        }
        match high {
            Bound::Included(high) => options.set_iterate_upper_bound([high, &[0][..]].concat()),
            Bound::Excluded(high) => options.set_iterate_upper_bound(high.clone()),
            Bound::Unbounded => {}
        }
        self.0.with_dependent(|_, snapshot| {
            let mut iterator = snapshot.raw_iterator_cf_opt(state, options);
            if last {
                iterator.seek_to_last();
            } else {
                iterator.seek_to_first();
            }
            let key = iterator.key().map(<[u8]>::to_vec);
            iterator.status()?;
            Ok(key)
        })
    }

    /// The code with `hash`.
    pub(crate) fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        let code = self.family("code")?;
        Ok(self.0.borrow_owner().get_cf(code, hash.0)?)
    }

    /// Whether there is code with `hash`. Code is never removed, so that the snapshot need not be asked.
    pub(crate) fn has_code(&self, hash: &Hash) -> Result<bool, StoreError> {
        let code = self.family("code")?;
        Ok(self.0.borrow_owner().get_pinned_cf(code, hash.0)?.is_some())
    }
}

fn family<'a>(db: &'a DB, name: &'static str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name)
        .ok_or_else(|| StoreError::Damaged(format!("column family {name:?} is missing")))
}

/// Decodes what we have written.
pub(crate) fn decode<T: BorshDeserialize>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    borsh::from_slice(bytes).map_err(|error| StoreError::Damaged(format!("{what}: {error}")))
}
