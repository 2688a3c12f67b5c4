//! RocksDB behind [`Backend`].

use crate::backend::{Backend, Batch, Bounds, Cursor, Entry, Family, View};
use crate::keys::STATE_PREFIX;
use crate::{StoreError, StoreOptions};
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily,
    ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType, DBRawIterator, DBRecoveryMode,
    Options, ReadOptions, SliceTransform, Snapshot, WaitForCompactOptions, WriteBatch,
    WriteOptions, checkpoint::Checkpoint,
};
use self_cell::self_cell;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// After how much a new file of what RocksDB says about itself is begun, in bytes.
const INFO_LOG_BYTES: usize = 64 << 20;
/// How many of these are kept.
const INFO_LOGS: usize = 4;

/// An open RocksDB database.
#[derive(Clone)]
pub struct Rocks {
    db: Arc<DB>,
    /// Which hold its counters.
    options: Arc<Options>,
}

/// What RocksDB has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Blocks of files that were looked for in the cache.
    pub data: Lookups,
    /// Parts of files' indices.
    pub index: Lookups,
    /// Parts of files' filters.
    pub filter: Lookups,
    /// Written to the log, in bytes.
    pub log_bytes: u64,
    /// Written from memory to files, in bytes.
    pub flush_bytes: u64,
    /// Read from files to be merged, in bytes.
    pub merge_read_bytes: u64,
    /// Written to files by merging others, in bytes.
    pub merge_written_bytes: u64,
    /// How long writers were held back for merging to keep up, in microseconds.
    pub stalled_us: u64,
}

/// What was looked for in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Was there.
    pub hits: u64,
    /// Had to be read from a file.
    pub misses: u64,
}

impl std::fmt::Debug for Rocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rocks").field(&self.db.path()).finish()
    }
}

self_cell!(
    struct Pinned {
        owner: Arc<DB>,
        #[not_covariant]
        dependent: Snapshot,
    }
);

impl Rocks {
    /// Opens or creates the database in `path`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. Nothing has then been changed, but for an interrupted creation, which the next one completes.
    pub fn open(path: &Path, settings: &StoreOptions) -> Result<Rocks, StoreError> {
        refuse_other_layouts(path)?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        // Its text log, which it would otherwise roll at the start only.
        options.set_max_log_file_size(INFO_LOG_BYTES);
        options.set_keep_log_file_num(INFO_LOGS);
        options.set_max_background_jobs(settings.background_jobs.max(1));
        options.set_max_open_files(settings.max_open_files);
        // The end of the log may be torn, when the machine stopped while writing a block that was not acknowledged; damage
        // elsewhere is an error, where the default would silently drop the blocks behind it.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        options.enable_statistics();
        options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        options.set_db_write_buffer_size(settings.write_buffer_bytes);
        options.set_max_total_wal_size((settings.write_buffer_bytes as u64).saturating_mul(2));
        let cache = Cache::new_lru_cache(settings.cache_bytes);
        let families = Family::ALL.map(|family| {
            ColumnFamilyDescriptor::new(family.name(), family_options(family, settings, &cache))
        });
        let db = DB::open_cf_descriptors(&options, path, families)?;
        Ok(Rocks {
            db: Arc::new(db),
            options: Arc::new(options),
        })
    }

    /// Writes a consistent copy of the database into `path`, which must not exist: files that do not change are linked.
    ///
    /// # Errors
    ///
    /// If the database or the file system fails.
    pub fn checkpoint(&self, path: &Path) -> Result<(), StoreError> {
        Ok(Checkpoint::new(&self.db)?.create_checkpoint(path)?)
    }

    /// A number that RocksDB keeps about a family, see its documentation of properties.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn property(&self, family: Family, name: &str) -> Result<Option<u64>, StoreError> {
        let family = handle(&self.db, family)?;
        Ok(self.db.property_int_value_cf(family, name)?)
    }

    /// What RocksDB has done since it was opened.
    pub fn activity(&self) -> Activity {
        let count = |ticker| self.options.get_ticker_count(ticker);
        let lookups = |hits, misses| Lookups {
            hits: count(hits),
            misses: count(misses),
        };
        Activity {
            data: lookups(Ticker::BlockCacheDataHit, Ticker::BlockCacheDataMiss),
            index: lookups(Ticker::BlockCacheIndexHit, Ticker::BlockCacheIndexMiss),
            filter: lookups(Ticker::BlockCacheFilterHit, Ticker::BlockCacheFilterMiss),
            log_bytes: count(Ticker::WalFileBytes),
            flush_bytes: count(Ticker::FlushWriteBytes),
            merge_read_bytes: count(Ticker::CompactReadBytes),
            merge_written_bytes: count(Ticker::CompactWriteBytes),
            stalled_us: count(Ticker::StallMicros),
        }
    }

    /// Writes what is in memory to files, and waits until RocksDB has no more of them to merge: what is measured then is not disturbed.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn settle(&self) -> Result<(), StoreError> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        Ok(self.db.wait_for_compact(&options)?)
    }

    /// Rewrites a family without what was deleted or overwritten.
    ///
    /// # Errors
    ///
    /// If the database is damaged.
    pub fn compact(&self, family: Family) -> Result<(), StoreError> {
        let family = handle(&self.db, family)?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db
            .compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }
}

/// Whether `path` holds a database of another schema: found out before anything is written.
fn refuse_other_layouts(path: &Path) -> Result<(), StoreError> {
    if !path.join("CURRENT").exists() {
        return Ok(());
    }
    let found = DB::list_cf(&Options::default(), path)?;
    let known =
        |name: &String| name == "default" || Family::ALL.iter().any(|family| family.name() == name);
    let whole = Family::ALL
        .iter()
        .all(|family| found.iter().any(|name| name == family.name()));
    if whole && found.iter().all(known) {
        return Ok(());
    }
    if found.iter().any(|name| name == Family::Meta.name()) {
        let db =
            DB::open_cf_for_read_only(&Options::default(), path, [Family::Meta.name()], false)?;
        if let Some(schema) = db.get_cf(handle(&db, Family::Meta)?, b"schema")? {
            crate::check_schema(&schema)?;
        }
    }
    Ok(())
}

fn family_options(family: Family, settings: &StoreOptions, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In parts of a page each: whole ones are of a megabyte, a few of which drive all else out of a small cache, and each other.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4096);
    table.set_pin_top_level_index_and_filter(true);
    table.set_format_version(6);
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    // All of them share the room; most is written to a few.
    options.set_write_buffer_size(settings.write_buffer_bytes / 4);
    match family {
        // Looked up by whole keys, and walked within a contract's storage.
        Family::State => {
            table.set_bloom_filter(settings.bloom_bits, false);
            table.set_whole_key_filtering(true);
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(STATE_PREFIX));
            options.set_memtable_prefix_bloom_ratio(0.1);
        }
        // Looked up only. Hashes do not compress.
        Family::Nodes | Family::Transactions => {
            table.set_bloom_filter(settings.bloom_bits, false);
            options.set_compression_type(DBCompressionType::None);
        }
        Family::Code | Family::Receipts | Family::Blocks => {
            table.set_bloom_filter(settings.bloom_bits, false);
        }
        Family::Stale | Family::History | Family::Events | Family::Meta => {}
    }
    options.set_block_based_table_factory(&table);
    options
}

fn handle(db: &DB, family: Family) -> Result<&ColumnFamily, StoreError> {
    let name = family.name();
    db.cf_handle(name)
        .ok_or_else(|| StoreError::Damaged(format!("column family {name:?} is missing")))
}

impl Backend for Rocks {
    fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        let pinned = Pinned::new(self.db.clone(), |db| db.snapshot());
        Ok(Arc::new(RocksView(pinned)))
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writes = WriteBatch::default();
        for (family, key, value) in &batch.0 {
            let family = handle(&self.db, *family)?;
            match value {
                Some(value) => writes.put_cf(family, key, value),
                None => writes.delete_cf(family, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.db.write_opt(writes, &options)?)
    }
}

struct RocksView(Pinned);

impl View for RocksView {
    fn read(
        &self,
        family: Family,
        key: &[u8],
        with: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        let family = handle(self.0.borrow_owner(), family)?;
        let value = self
            .0
            .with_dependent(|_, snapshot| snapshot.get_pinned_cf(family, key))?;
        if let Some(value) = &value {
            with(value);
        }
        Ok(value.is_some())
    }

    fn walk<'a>(
        &'a self,
        family: Family,
        (low, high): Bounds<'_>,
        descending: bool,
    ) -> Result<Box<dyn Cursor + 'a>, StoreError> {
        let mut options = ReadOptions::default();
        // The filter of prefixes answers for the prefix of the key that is sought, which is the low bound when ascending.
        let within_a_prefix = family == Family::State && !descending && share_prefix(&low, &high);
        options.set_total_order_seek(!within_a_prefix);
        // RocksDB's bounds are inclusive below and exclusive above.
        match low {
            Bound::Included(low) => options.set_iterate_lower_bound(low),
            Bound::Excluded(low) => options.set_iterate_lower_bound([low, &[0]].concat()),
            Bound::Unbounded => {}
        }
        match high {
            Bound::Included(high) => options.set_iterate_upper_bound([high, &[0]].concat()),
            Bound::Excluded(high) => options.set_iterate_upper_bound(high),
            Bound::Unbounded => {}
        }
        let family = handle(self.0.borrow_owner(), family)?;
        let iterator = self
            .0
            .with_dependent(|_, snapshot| snapshot.raw_iterator_cf_opt(family, options));
        Ok(Box::new(RocksCursor {
            iterator,
            descending,
            started: false,
        }))
    }
}

/// Whether every key within the bounds has the first [`STATE_PREFIX`] bytes of the lower one.
fn share_prefix(low: &Bound<&[u8]>, high: &Bound<&[u8]>) -> bool {
    let (Bound::Included(low) | Bound::Excluded(low)) = low else {
        return false;
    };
    let Some(prefix) = low.get(..STATE_PREFIX) else {
        return false;
    };
    match high {
        Bound::Included(high) => high.starts_with(prefix),
        Bound::Excluded(high) => {
            high.starts_with(prefix) || crate::keys::successor(prefix).as_deref() == Some(*high)
        }
        Bound::Unbounded => false,
    }
}

struct RocksCursor<'a> {
    iterator: DBRawIterator<'a>,
    descending: bool,
    started: bool,
}

impl Cursor for RocksCursor<'_> {
    fn next(&mut self) -> Result<Option<Entry<'_>>, StoreError> {
        match (self.started, self.descending) {
            (false, false) => self.iterator.seek_to_first(),
            (false, true) => self.iterator.seek_to_last(),
            (true, false) if self.iterator.valid() => self.iterator.next(),
            (true, true) if self.iterator.valid() => self.iterator.prev(),
            (true, _) => {}
        }
        self.started = true;
        if !self.iterator.valid() {
            self.iterator.status()?;
        }
        Ok(self.iterator.item())
    }
}
