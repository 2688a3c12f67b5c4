//! What it takes to store a block, by the number of keys in the state: computing the root, and writing the batch; beside a database of the same
//! options that is given the same batches and nothing else.

use anyhow::{Context, Result};
use serde::Serialize;
use slackline_benches::stats::median;
use slackline_executor::proof::{List, list_root};
use slackline_executor::store::backend::{Backend, Batch, View};
use slackline_executor::store::{BlockWrites, Rocks, Store, StoreError, Value, Writes};
use slackline_executor::{Address, Block, HEADER_VERSION, Header, StoreOptions, digest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Keys of a block.
const KEYS: u64 = 1_000;
/// Keys of the blocks that fill the state.
const FILL: u64 = 50_000;
/// Heights that are kept: what the blocks that fill the state replace is deleted by those that follow, so that it does not fill the disk.
const KEEP: u64 = 8;
/// Bytes of a value.
const VALUE: usize = 96;

#[derive(Serialize)]
pub(crate) struct Growth {
    keys: u64,
    /// Microseconds for each key of a block.
    root_us: f64,
    root_parallel_us: f64,
    batch_us: f64,
    raw_us: f64,
    /// Root on all threads, and batch, over the raw write.
    ratio: f64,
    batch_bytes: f64,
    /// Microseconds to read a key that exists.
    read_us: f64,
}

/// The database, with the last batch kept.
struct Kept {
    rocks: Rocks,
    last: Mutex<Batch>,
}

impl Backend for Kept {
    fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        self.rocks.view()
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.rocks.write(batch)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = batch.clone();
        Ok(())
    }
}

/// The `n`th key: like that of an account.
fn key(n: u64) -> Vec<u8> {
    let spread = digest("slackline:bench:key", &[&n.to_le_bytes()]);
    [b"a", &spread[..]].concat()
}

fn writes(keys: impl Iterator<Item = u64>, height: u64) -> Writes {
    keys.map(|n| {
        let mut value = vec![0u8; VALUE];
        value[..8].copy_from_slice(&height.to_le_bytes());
        (key(n), Some(Value::from(value)))
    })
    .collect()
}

/// A generator that is good enough to spread reads and writes (splitmix64, Vigna 2015).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn us(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / 1e3
}

struct Stage {
    kept: Arc<Kept>,
    store: Store,
    raw: Rocks,
    parent: Option<Header>,
}

/// Microseconds for: the root on one thread, on all, the batch, the same batch raw; and its bytes.
struct Times([f64; 5]);

impl Stage {
    /// Stores the next block, which writes `writes`.
    fn block(&mut self, writes: &Writes) -> Result<Times> {
        let height = self.parent.as_ref().map_or(0, |parent| parent.height + 1);
        let start = Instant::now();
        let tree = self.store.update(height, writes)?;
        let root = us(start);
        let start = Instant::now();
        let again = self.store.update_in_parallel(height, writes)?;
        let root_parallel = us(start);
        anyhow::ensure!(tree == again, "the trees differ");
        let header = Header {
            version: HEADER_VERSION,
            chain_id: 1,
            protocol_version: 1,
            height,
            parent: self.parent.as_ref().map(Header::hash).unwrap_or_default(),
            timestamp_ms: height,
            proposer: Address::default(),
            transactions_root: list_root(List::Transactions, &[]),
            receipts_root: list_root(List::Receipts, &[]),
            state_root: tree.root(),
            base_price: 1,
            fuel_used: 0,
            burnt: 0,
        };
        let block = Block {
            header: header.clone(),
            transactions: Vec::new(),
        };
        let block = BlockWrites {
            block: &block,
            receipts: &[],
            state: writes,
            code: &BTreeMap::new(),
            tree,
            in_parallel: true,
            certificate: None,
        };
        let first = self.parent.replace(header).is_none();
        let start = Instant::now();
        match first {
            true => self.store.initialise(b"{}", block)?,
            false => self.store.commit(block)?,
        }
        let batch = us(start);
        let last = std::mem::take(
            &mut *self
                .kept
                .last
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let start = Instant::now();
        self.raw.write(&last)?;
        let raw = us(start);
        let bytes = last
            .0
            .iter()
            .map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
        Ok(Times([
            root,
            root_parallel,
            batch,
            raw,
            bytes.sum::<usize>() as f64,
        ]))
    }
}

/// Measures with that many keys, over `rounds` blocks.
pub(crate) fn measure(keys: u64, rounds: usize) -> Result<Growth> {
    let directory = tempfile::tempdir()?;
    let options = StoreOptions {
        keep_heights: KEEP,
        ..StoreOptions::default()
    };
    let open = |name: &str| {
        let path = directory.path().join(name);
        Rocks::open(&path, &options).with_context(|| path.display().to_string())
    };
    let kept = Arc::new(Kept {
        rocks: open("chain")?,
        last: Mutex::default(),
    });
    let mut stage = Stage {
        store: Store::on(kept.clone(), &options)?,
        raw: open("raw")?,
        kept,
        parent: None,
    };
    let mut filled = 0;
    while filled < keys {
        let end = keys.min(filled + FILL);
        stage.block(&writes(filled..end, 0))?;
        filled = end;
    }
    stage.kept.rocks.settle()?;
    stage.raw.settle()?;
    let mut random = Random(keys);
    let mut times: [Vec<f64>; 5] = Default::default();
    let (mut ratios, mut reads) = (Vec::new(), Vec::new());
    for round in 0..=KEEP + rounds as u64 {
        let chosen: Vec<u64> = (0..KEYS).map(|_| random.next() % keys).collect();
        let writes = writes(chosen.into_iter(), round + 1);
        let count = writes.len() as f64;
        let Times(measured) = stage.block(&writes)?;
        let wanted: Vec<Vec<u8>> = (0..KEYS).map(|_| key(random.next() % keys)).collect();
        let snapshot = stage.store.snapshot()?;
        let start = Instant::now();
        for key in &wanted {
            anyhow::ensure!(snapshot.get(key)?.is_some(), "a key is missing");
        }
        let read = us(start) / KEYS as f64;
        // These warm up, and delete what the blocks that filled the state have left.
        if round <= KEEP {
            continue;
        }
        let [_, root_parallel, batch, raw, _] = measured;
        ratios.push((root_parallel + batch) / raw);
        reads.push(read);
        for (times, value) in times.iter_mut().zip(measured) {
            times.push(value / count);
        }
    }
    let of = |values: &[f64]| median(values).unwrap_or(f64::NAN);
    Ok(Growth {
        keys,
        root_us: of(&times[0]),
        root_parallel_us: of(&times[1]),
        batch_us: of(&times[2]),
        raw_us: of(&times[3]),
        ratio: of(&ratios),
        batch_bytes: of(&times[4]),
        read_us: of(&reads),
    })
}

impl Growth {
    pub(crate) const HEADER: &'static str =
        "      keys    root/key  all threads   batch/key     raw/key  ratio  bytes/key        read";

    pub(crate) fn line(&self) -> String {
        format!(
            "{:>10} {:>8.2} us {:>9.2} us {:>8.2} us {:>8.2} us {:>5.2}x {:>10.0} {:>8.2} us",
            self.keys,
            self.root_us,
            self.root_parallel_us,
            self.batch_us,
            self.raw_us,
            self.ratio,
            self.batch_bytes,
            self.read_us
        )
    }
}
