//! What can go wrong.

use crate::SCHEMA;

/// Why the database could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the database open.
    #[error(
        "the database is in use by another process: stop that one, or use another directory ({0})"
    )]
    InUse(rocksdb::Error),
    /// The disk is full. What was acknowledged is safe.
    #[error(
        "the disk is full: free some space, then start again; no acknowledged block is lost ({0})"
    )]
    DiskFull(rocksdb::Error),
    /// The directory cannot be written to.
    #[error(
        "the database's directory cannot be written to: check its owner, permissions and mount options ({0})"
    )]
    NotWritable(rocksdb::Error),
    /// A checksum does not match, or a file is missing or cut short. Nothing was changed.
    #[error("the database's files are damaged: restore a checkpoint, or another node's data ({0})")]
    Corrupt(rocksdb::Error),
    /// RocksDB failed in another way.
    #[error("database: {0}")]
    Database(rocksdb::Error),
    /// The database contains something that this version cannot have written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database was written by another version of the program.
    #[error(
        "the database has schema version {found}, this program knows version {SCHEMA}: use the program that wrote it"
    )]
    UnknownSchema {
        /// The version found.
        found: u32,
    },
    /// The database was written by an earlier version whose blocks cannot be kept: a header now commits to the state, so that
    /// every block would get another hash.
    #[error(
        "the database has schema version {found}: its block headers hold no state root, and blocks with one have other hashes, \
         so that this chain cannot be migrated; start a new one in another directory, or use the program that wrote it"
    )]
    CannotMigrate {
        /// The version found.
        found: u32,
    },
    /// The state at that height is not kept, or not there yet.
    #[error("the state at height {height} is not available: heights {oldest} to {head} are")]
    OutsideWindow {
        /// The height asked for.
        height: u64,
        /// The first one that is kept.
        oldest: u64,
        /// The last block's.
        head: u64,
    },
    /// A file outside the database, such as a checkpoint's, could not be read or written.
    #[error("{0}")]
    File(String),
}

impl From<rocksdb::Error> for StoreError {
    /// RocksDB tells most of it only by its text.
    fn from(error: rocksdb::Error) -> StoreError {
        use rocksdb::ErrorKind;
        let text = error.as_ref();
        let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        match error.kind() {
            ErrorKind::IOError if says(&["Permission denied", "Read-only file system"]) => {
                StoreError::NotWritable(error)
            }
            ErrorKind::IOError if says(&["No space left", "File too large", "quota exceeded"]) => {
                StoreError::DiskFull(error)
            }
            ErrorKind::IOError if says(&["/LOCK: "]) => StoreError::InUse(error),
            ErrorKind::Corruption => StoreError::Corrupt(error),
            // A file that the manifest lists is not there.
            ErrorKind::IOError if says(&["No such file"]) => StoreError::Corrupt(error),
            _ => StoreError::Database(error),
        }
    }
}

impl StoreError {
    /// Whether another process has the database open.
    pub fn is_locked(&self) -> bool {
        matches!(self, StoreError::InUse(_))
    }
}
