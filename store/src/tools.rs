//! What operators do to a database.

use crate::backend::Family;
use crate::{Rocks, Store, StoreError, StoreOptions, Verified};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a column family takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyStats {
    /// Which.
    pub family: Family,
    /// Keys, as RocksDB estimates them: overwritten and deleted ones may count.
    pub keys: u64,
    /// Size of its files, in bytes.
    pub file_bytes: u64,
    /// Size of what is not in files yet, in bytes.
    pub memory_bytes: u64,
    /// What has to be merged before the files are as they should be, in bytes, as RocksDB estimates it.
    pub compaction_bytes: u64,
}

/// What each column family takes.
///
/// # Errors
///
/// If the database fails.
pub fn stats(rocks: &Rocks) -> Result<Vec<FamilyStats>, StoreError> {
    let number = |family, name| Ok::<_, StoreError>(rocks.property(family, name)?.unwrap_or(0));
    Family::ALL
        .into_iter()
        .map(|family| {
            Ok(FamilyStats {
                family,
                keys: number(family, "rocksdb.estimate-num-keys")?,
                file_bytes: number(family, "rocksdb.total-sst-files-size")?,
                memory_bytes: number(family, "rocksdb.cur-size-all-mem-tables")?,
                compaction_bytes: number(family, "rocksdb.estimate-pending-compaction-bytes")?,
            })
        })
        .collect()
}

/// Makes the database in `to`, which must not exist or be empty, from the checkpoint in `from`, which stays as it is. The copy is verified
/// before it gets its name, so that an interrupted restore leaves nothing in `to`. Calls `progress` with the bytes copied, and with those
/// that there are.
///
/// # Errors
///
/// [`StoreError::File`] if there is something in `to` or a file cannot be copied; those of [`Store::verify`] if the checkpoint
/// is damaged.
pub fn restore(
    from: &Path,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, StoreError> {
    let failed = |path: &Path, error: std::io::Error| {
        StoreError::File(format!("{}: {error}", path.display()))
    };
    if !from.join("CURRENT").exists() {
        let text = format!(
            "{} is no checkpoint: it has no file CURRENT",
            from.display()
        );
        return Err(StoreError::File(text));
    }
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        let text = format!("{} is not empty: move it away first", to.display());
        return Err(StoreError::File(text));
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".restoring");
    let partial = PathBuf::from(name);
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|error| failed(&partial, error))?;
    }
    fs::create_dir_all(&partial).map_err(|error| failed(&partial, error))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(from).map_err(|error| failed(from, error))? {
        let entry = entry.map_err(|error| failed(from, error))?;
        let about = entry
            .metadata()
            .map_err(|error| failed(&entry.path(), error))?;
        if about.is_file() && entry.file_name() != "LOCK" {
            files.push((entry.path(), partial.join(entry.file_name()), about.len()));
        }
    }
    let total = files.iter().map(|(_, _, bytes)| bytes).sum();
    let mut copied = 0;
    for (file, copy, bytes) in files {
        fs::copy(&file, &copy).map_err(|error| failed(&file, error))?;
        let synced = fs::File::open(&copy).and_then(|file| file.sync_all());
        synced.map_err(|error| failed(&copy, error))?;
        copied += bytes;
        progress(copied, total);
    }
    let options = StoreOptions::default();
    let rocks = Rocks::open(&partial, &options)?;
    let verified = Store::on(Arc::new(rocks), &options)?.verify(0, |_, _| {})?;
    if to.exists() {
        // Empty, as seen above.
        fs::remove_dir(to).map_err(|error| failed(to, error))?;
    }
    fs::rename(&partial, to).map_err(|error| failed(to, error))?;
    Ok(verified)
}
