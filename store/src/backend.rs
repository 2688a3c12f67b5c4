//! What the store needs of a database: consistent views, and batches that are written whole and synced.

use crate::StoreError;
use std::ops::Bound;
use std::sync::Arc;

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// The state as of the last block.
    State,
    /// Nodes of the Merkle tree.
    Nodes,
    /// Which nodes have been replaced, by height.
    Stale,
    /// What blocks have overwritten.
    History,
    /// Contracts' code.
    Code,
    /// Blocks by height.
    Blocks,
    /// Receipts by height and index.
    Receipts,
    /// Where transactions are, by hash.
    Transactions,
    /// Where events are, by contract and topic.
    Events,
    /// Schema, genesis, head, pruning.
    Meta,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 10] = [
        Family::State,
        Family::Nodes,
        Family::Stale,
        Family::History,
        Family::Code,
        Family::Blocks,
        Family::Receipts,
        Family::Transactions,
        Family::Events,
        Family::Meta,
    ];

    /// Its name in RocksDB.
    pub fn name(self) -> &'static str {
        match self {
            Family::State => "state",
            Family::Nodes => "nodes",
            Family::Stale => "stale",
            Family::History => "history",
            Family::Code => "code",
            Family::Blocks => "blocks",
            Family::Receipts => "receipts",
            Family::Transactions => "transactions",
            Family::Events => "events",
            Family::Meta => "meta",
        }
    }
}

/// Writes that happen together. Later ones win.
#[derive(Clone, Debug, Default)]
pub struct Batch(pub Vec<(Family, Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    /// Sets `key` to `value`.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((family, key.into(), Some(value.into())));
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.0.push((family, key.into(), None));
    }
}

/// Where keys may be.
pub type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A database.
pub trait Backend: Send + Sync {
    /// What is in the database now, unaffected by later writes.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn view(&self) -> Result<Arc<dyn View>, StoreError>;

    /// Writes all of `batch` or, if this fails or the machine stops, all or nothing of it; once this has returned `Ok` it stays.
    ///
    /// # Errors
    ///
    /// If the database fails; whether the batch was written is then unknown until the database is reopened.
    fn write(&self, batch: &Batch) -> Result<(), StoreError>;
}

/// A database at a point in time.
pub trait View: Send + Sync {
    /// Gives `with` the value of `key`; false if there is none.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn read(
        &self,
        family: Family,
        key: &[u8],
        with: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError>;

    /// Walks over the keys within `bounds`, from the first one, or `descending` from the last.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn walk<'a>(
        &'a self,
        family: Family,
        bounds: Bounds<'_>,
        descending: bool,
    ) -> Result<Box<dyn Cursor + 'a>, StoreError>;
}

/// A key and its value.
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// A walk over keys.
pub trait Cursor {
    /// The next key with its value; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the database fails.
    fn next(&mut self) -> Result<Option<Entry<'_>>, StoreError>;
}

impl dyn View + '_ {
    /// The value of `key`.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut value = Vec::new();
        let found = self.read(family, key, &mut |bytes| value.extend_from_slice(bytes))?;
        Ok(found.then_some(value))
    }

    /// The keys, and values, in the half-open range.
    pub(crate) fn range(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
    ) -> Result<Box<dyn Cursor + '_>, StoreError> {
        self.walk(family, (Bound::Included(from), Bound::Excluded(to)), false)
    }
}
