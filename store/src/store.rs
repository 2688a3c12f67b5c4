//! The store: what a block writes, and what can be read.

use crate::backend::{Backend, Batch, Family, View};
use crate::nodes::NodeCache;
use crate::snapshot::{StateSnapshot, value_before};
use crate::tree::{self, Nodes, TreeUpdate, WORTH_THREADS};
use crate::{Rocks, SCHEMA, StoreError, StoreOptions, Value, Writes, check_schema, decode, keys};
use borsh::BorshDeserialize;
use rayon::prelude::*;
use slackline_proof::{StateProof, key_hash, value_digest};
use slackline_types::{Address, Block, Event, Hash, Header, Receipt, SignedTransaction, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// Deletions after which pruning leaves the next height to the next block. A block's own are not split, so that a block
/// deletes at most this many, and those of one height.
const PRUNE_AT_A_TIME: usize = 20_000;

/// The open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    nodes: Arc<NodeCache>,
    keep: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// What a block changes.
#[derive(Debug)]
pub struct BlockWrites<'a> {
    /// The block.
    pub block: &'a Block,
    /// What became of its transactions, in order.
    pub receipts: &'a [Receipt],
    /// What it writes to the state.
    pub state: &'a Writes,
    /// The code that it deploys.
    pub code: &'a BTreeMap<Hash, Arc<Vec<u8>>>,
    /// What [`Store::update`] has made of `state`.
    pub tree: TreeUpdate,
    /// Whether what it overwrites is read on the threads of `rayon`'s pool, if it is much.
    pub in_parallel: bool,
    /// What shows that the block was decided, for whom it concerns.
    pub certificate: Option<&'a [u8]>,
}

/// What a database says of itself and of its chain.
pub(crate) fn new_chain(genesis: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(Family::Meta, *b"schema", SCHEMA.to_le_bytes());
    batch.put(Family::Meta, *b"genesis", genesis);
    batch
}

/// Where an event is. In the order of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPosition {
    /// Height of the block.
    pub height: u64,
    /// Index of the transaction in the block.
    pub transaction: u32,
    /// Index of the event in the receipt.
    pub event: u32,
}

/// An event and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventAt {
    /// Where.
    pub position: EventPosition,
    /// The transaction that emitted it.
    pub transaction: Hash,
    /// The event.
    pub event: Event,
}

/// Which events to find.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// The contract that emitted them.
    pub contract: Address,
    /// A topic that they have, at any place; `None` for all.
    pub topic: Option<Hash>,
    /// The first height.
    pub from: u64,
    /// The last height.
    pub to: u64,
    /// The last position of the page before, for the page after it.
    pub after: Option<EventPosition>,
}

/// What [`Store::verify`] has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The last block's height.
    pub height: u64,
    /// The root that state, tree and header agree on.
    pub root: Hash,
    /// Keys of the state.
    pub keys: u64,
    /// Blocks whose hashes, transactions and receipts were checked.
    pub blocks: u64,
}

impl Store {
    /// Opens or creates the database in `path`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Store, StoreError> {
        Store::on(Arc::new(Rocks::open(path, options)?), options)
    }

    /// The store on any database.
    ///
    /// # Errors
    ///
    /// If it holds something of another schema, or fails.
    pub fn on(backend: Arc<dyn Backend>, options: &StoreOptions) -> Result<Store, StoreError> {
        let store = Store {
            backend,
            nodes: Arc::new(NodeCache::new(options.node_cache_bytes)),
            keep: options.keep_heights,
        };
        if let Some(schema) = store.get(Family::Meta, b"schema")? {
            check_schema(&schema)?;
        }
        Ok(store)
    }

    pub(crate) fn view(&self) -> Result<Arc<dyn View>, StoreError> {
        self.backend.view()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.view()?.get(family, key)
    }

    /// The genesis, as it was given to [`Store::initialise`].
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn genesis(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Family::Meta, b"genesis")
    }

    /// The last block's header; `None` before the genesis block is written.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn head(&self) -> Result<Option<Header>, StoreError> {
        head(&*self.view()?)
    }

    /// The block at `height`.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        block(&*self.view()?, height)
    }

    /// The certificate that the block at `height` was stored with, if there was one.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn certificate(&self, height: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Family::Blocks, &keys::certificate(height))
    }

    /// The receipt of the transaction with `hash`, if it is in a block.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn receipt(&self, hash: &Hash) -> Result<Option<Receipt>, StoreError> {
        let view = self.view()?;
        let Some((height, index)) = position(&*view, hash)? else {
            return Ok(None);
        };
        match receipt(&*view, height, index)? {
            Some(receipt) if receipt.transaction == *hash => Ok(Some(receipt)),
            _ => Err(misplaced(hash)),
        }
    }

    /// The transaction with `hash`, if it is in a block.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn transaction(&self, hash: &Hash) -> Result<Option<SignedTransaction>, StoreError> {
        let view = self.view()?;
        let Some((height, index)) = position(&*view, hash)? else {
            return Ok(None);
        };
        block(&*view, height)?
            .and_then(|block| block.transactions.into_iter().nth(index as usize))
            .map(Some)
            .ok_or_else(|| misplaced(hash))
    }

    /// The receipts of the block at `height`, in order; none if there is no such block.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn receipts(&self, height: u64) -> Result<Vec<Receipt>, StoreError> {
        receipts(&*self.view()?, height)
    }

    /// The code with `hash`.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Family::Code, &hash.0)
    }

    /// Up to `limit` events, in the order of the chain, and not one more once their data has `bytes` bytes or more; with whether a limit is what ended
    /// them, so that more may follow.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn events(
        &self,
        query: &EventQuery,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<EventAt>, bool), StoreError> {
        let view = self.view()?;
        let prefix = keys::events(&query.contract, query.topic.as_ref());
        let low = [&prefix[..], &query.from.to_be_bytes()].concat();
        let after = query.after.map(|position| event_key(&prefix, &position));
        let low = match &after {
            Some(after) if *after >= low => Bound::Excluded(&after[..]),
            _ => Bound::Included(&low[..]),
        };
        let high = match query.to.checked_add(1) {
            Some(end) => Some([&prefix[..], &end.to_be_bytes()].concat()),
            None => keys::successor(&prefix),
        };
        let high = high.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        if let (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) = (low, high)
            && low >= high
        {
            return Ok((Vec::new(), false));
        }
        let mut cursor = view.walk(Family::Events, (low, high), false)?;
        let mut found = Vec::new();
        let mut found_bytes = 0;
        let mut last: Option<Receipt> = None;
        while found.len() < limit && found_bytes < bytes {
            let Some((key, _)) = cursor.next()? else {
                return Ok((found, false));
            };
            let damaged = || StoreError::Damaged("a key of the events".to_owned());
            let position = event_position(&key[prefix.len()..]).ok_or_else(damaged)?;
            let here = last.take().filter(|receipt| {
                (receipt.height, receipt.index) == (position.height, position.transaction)
            });
            let receipt = match here {
                Some(receipt) => receipt,
                None => {
                    receipt(&*view, position.height, position.transaction)?.ok_or_else(damaged)?
                }
            };
            let event = receipt.events.get(position.event as usize).cloned();
            let event = event.ok_or_else(damaged)?;
            found_bytes += event.data.len() + 32 * event.topics.len();
            found.push(EventAt {
                position,
                transaction: receipt.transaction,
                event,
            });
            last = Some(receipt);
        }
        Ok((found, true))
    }

    /// The state as of the last block.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn snapshot(&self) -> Result<StateSnapshot, StoreError> {
        Ok(StateSnapshot::new(self.view()?, None))
    }

    /// The state as of the block at `height`.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`], or if the database fails.
    pub fn snapshot_at(&self, height: u64) -> Result<StateSnapshot, StoreError> {
        let view = self.view()?;
        let head = within_window(&*view, height)?;
        let past = (height < head).then_some(height);
        Ok(StateSnapshot::new(view, past))
    }

    /// What `key` has at `height`, and the proof of it for the block's state root.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`], or if the database fails.
    pub fn prove(
        &self,
        key: &[u8],
        height: u64,
    ) -> Result<(Option<Value>, StateProof), StoreError> {
        let view = self.view()?;
        let head = within_window(&*view, height)?;
        let past = (height < head).then_some(height);
        let proof = tree::prove(&*view, height, key)?;
        Ok((StateSnapshot::new(view, past).get(key)?, proof))
    }

    /// The first and the last height whose state is available; `None` before the genesis block is written.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn window(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let view = self.view()?;
        let head = head(&*view)?;
        head.map(|head| Ok((number(&*view, b"oldest")?, head.height)))
            .transpose()
    }

    /// What the block at `height`, the next one, makes of the tree by writing `writes`.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn update(&self, height: u64, writes: &Writes) -> Result<TreeUpdate, StoreError> {
        self.update_on(height, writes, false)
    }

    /// [`Store::update`] on the threads of `rayon`'s pool.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn update_in_parallel(
        &self,
        height: u64,
        writes: &Writes,
    ) -> Result<TreeUpdate, StoreError> {
        self.update_on(height, writes, true)
    }

    fn update_on(
        &self,
        height: u64,
        writes: &Writes,
        parallel: bool,
    ) -> Result<TreeUpdate, StoreError> {
        let view = self.view()?;
        let nodes = Nodes {
            view: &*view,
            cache: Some(&self.nodes),
        };
        tree::update(nodes, height, writes, parallel)
    }

    /// Writes the genesis block: with it the database has its schema and identity.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn initialise(&self, genesis: &[u8], writes: BlockWrites<'_>) -> Result<(), StoreError> {
        self.write_block(new_chain(genesis), writes)
    }

    /// Writes a block: all of it or, if this fails or the machine stops, nothing; on return it is on disk.
    ///
    /// # Errors
    ///
    /// If the database fails. Whether the block was written is then unknown until the database is reopened.
    pub fn commit(&self, writes: BlockWrites<'_>) -> Result<(), StoreError> {
        self.write_block(Batch::default(), writes)
    }

    fn write_block(&self, mut batch: Batch, writes: BlockWrites<'_>) -> Result<(), StoreError> {
        let view = self.view()?;
        let header = &writes.block.header;
        let height = header.height;
        if writes.tree.root() != header.state_root || writes.tree.height() != height {
            return Err(StoreError::Damaged(format!(
                "block {height} commits to another state than it writes"
            )));
        }
        let before = |key: &Vec<u8>| {
            let mut before = vec![0];
            view.read(Family::State, key, &mut |bytes| {
                before[0] = 1;
                before.extend_from_slice(bytes);
            })?;
            Ok(before)
        };
        let in_parallel = writes.in_parallel && writes.state.len() >= WORTH_THREADS;
        let before: Result<Vec<Vec<u8>>, StoreError> = match in_parallel {
            true => {
                let keys: Vec<&Vec<u8>> = writes.state.keys().collect();
                keys.into_par_iter().map(before).collect()
            }
            false => writes.state.keys().map(before).collect(),
        };
        for ((key, value), before) in writes.state.iter().zip(before?) {
            batch.put(Family::History, keys::before(key, height), before);
            let value = value.as_ref().map(|value| value.to_vec());
            batch.0.push((Family::State, key.clone(), value));
        }
        let changed: Vec<&Vec<u8>> = writes.state.keys().collect();
        batch.put(Family::History, keys::changed(height), encode(&changed));
        for (hash, wasm) in writes.code {
            batch.put(Family::Code, hash.0, wasm.as_slice());
        }
        put_block(
            &mut batch,
            writes.block,
            writes.receipts,
            writes.certificate,
        );
        let nodes = writes.tree.into_batch(&mut batch);
        batch.put(Family::Meta, *b"head", encode(header));
        prune(&*view, &mut batch, height.saturating_sub(self.keep.max(1)))?;
        self.backend.write(&batch)?;
        for (key, node) in nodes {
            self.nodes.insert(key, node);
        }
        Ok(())
    }

    /// Deletes what only the states before `height` need, a part at a time; calls `progress` with the height that it has got to.
    /// Those states are not available from the start on.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn prune(&self, height: u64, mut progress: impl FnMut(u64)) -> Result<(), StoreError> {
        loop {
            let view = self.view()?;
            let Some(head) = head(&*view)? else {
                return Ok(());
            };
            let mut batch = Batch::default();
            let reached = prune(&*view, &mut batch, height.min(head.height))?;
            self.backend.write(&batch)?;
            progress(reached);
            if reached >= height.min(head.height) {
                return Ok(());
            }
        }
    }

    /// Removes the blocks above `height`, the last one first, each in one batch; calls `progress` with the height that it has got to.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutsideWindow`], or if the database fails.
    pub fn rollback(&self, height: u64, mut progress: impl FnMut(u64)) -> Result<(), StoreError> {
        let mut head = within_window(&*self.view()?, height)?;
        while head > height {
            self.remove_last(head)?;
            head -= 1;
            progress(head);
        }
        Ok(())
    }

    fn remove_last(&self, height: u64) -> Result<(), StoreError> {
        let view = self.view()?;
        let view = &*view;
        let missing = |height| StoreError::Damaged(format!("block {height} is missing"));
        let mut batch = Batch::default();
        for key in changed(view, height)? {
            let before = value_before(view, &key, height)?.ok_or_else(|| {
                StoreError::Damaged(format!("what block {height} has overwritten is missing"))
            })?;
            batch.delete(Family::History, keys::before(&key, height));
            let before = before.map(|value| value.to_vec());
            batch.0.push((Family::State, key, before));
        }
        batch.delete(Family::History, keys::changed(height));
        // Both begin with the height: all of this one, nothing of those below.
        for family in [Family::Nodes, Family::Stale] {
            let mut cursor = view.walk(
                family,
                (Bound::Included(&height.to_be_bytes()), Bound::Unbounded),
                false,
            )?;
            while let Some((key, _)) = cursor.next()? {
                batch.delete(family, key);
            }
        }
        for receipt in receipts(view, height)? {
            batch.delete(Family::Receipts, keys::receipt(height, receipt.index));
            batch.delete(Family::Transactions, receipt.transaction.0);
            for key in event_keys(&receipt) {
                batch.delete(Family::Events, key);
            }
        }
        batch.delete(Family::Blocks, height.to_be_bytes());
        batch.delete(Family::Blocks, keys::certificate(height));
        let parent = block(view, height - 1)?.ok_or_else(|| missing(height - 1))?;
        batch.put(Family::Meta, *b"head", encode(&parent.header));
        // Nodes of a block that comes in its place may have the same keys.
        let written = self.backend.write(&batch);
        self.nodes.clear();
        written
    }

    /// Checks that the flat state, the tree and the last header agree, by computing the root from the flat state; and that blocks
    /// from height `blocks_from` on follow one another and have the transactions and receipts that their headers commit to. Calls
    /// `progress` with the number of keys, then of blocks, that have been read. Takes 64 bytes of memory a key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] with what does not agree, or if the database fails.
    pub fn verify(
        &self,
        blocks_from: u64,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Verified, StoreError> {
        let view = self.view()?;
        let view = &*view;
        let head =
            head(view)?.ok_or_else(|| StoreError::Damaged("there is no block".to_owned()))?;
        let mut leaves = Vec::new();
        let mut cursor = view.walk(Family::State, (Bound::Unbounded, Bound::Unbounded), false)?;
        while let Some((key, value)) = cursor.next()? {
            leaves.push((key_hash(key).0, value_digest(value)));
            if leaves.len() % 4096 == 0 {
                progress(leaves.len() as u64, 0);
            }
        }
        let keys = leaves.len() as u64;
        let flat = tree::root_of(leaves);
        let tree = tree::root(view, head.height)?;
        if flat != head.state_root || tree != Some(flat) {
            let tree = tree.map_or_else(|| "none".to_owned(), |root| root.to_string());
            return Err(StoreError::Damaged(format!(
                "at height {}, the state has root {flat}, the tree {tree}, the header {}",
                head.height, head.state_root
            )));
        }
        let mut blocks = 0;
        let mut parent: Option<Header> = None;
        for height in blocks_from..=head.height {
            let here = verify_block(view, height, parent.as_ref())?;
            parent = Some(here);
            blocks += 1;
            progress(keys, blocks);
        }
        if parent.is_some_and(|last| last != head) {
            return Err(StoreError::Damaged(
                "the head is not the last block".to_owned(),
            ));
        }
        Ok(Verified {
            height: head.height,
            root: flat,
            keys,
            blocks,
        })
    }
}

/// Puts a block, what came of it, and where that is found, into `batch`.
pub(crate) fn put_block(
    batch: &mut Batch,
    block: &Block,
    receipts: &[Receipt],
    certificate: Option<&[u8]>,
) {
    let height = block.header.height;
    for receipt in receipts {
        let position = (height, receipt.index);
        let key = keys::receipt(height, receipt.index);
        batch.put(Family::Receipts, key, encode(receipt));
        batch.put(
            Family::Transactions,
            receipt.transaction.0,
            encode(&position),
        );
        for key in event_keys(receipt) {
            batch.put(Family::Events, key, []);
        }
    }
    batch.put(Family::Blocks, height.to_be_bytes(), encode(block));
    if let Some(certificate) = certificate {
        batch.put(Family::Blocks, keys::certificate(height), certificate);
    }
}

fn verify_block(
    view: &dyn View,
    height: u64,
    parent: Option<&Header>,
) -> Result<Header, StoreError> {
    let damaged = |what: &str| StoreError::Damaged(format!("block {height}: {what}"));
    let block = block(view, height)?.ok_or_else(|| damaged("it is missing"))?;
    let header = block.header;
    if header.height != height {
        return Err(damaged("it has another height"));
    }
    if parent.is_some_and(|parent| parent.hash() != header.parent) {
        return Err(damaged("it does not follow the one before"));
    }
    let transactions: Vec<Hash> = block.transactions.iter().map(|tx| tx.hash()).collect();
    if slackline_proof::list_root(slackline_proof::List::Transactions, &transactions)
        != header.transactions_root
    {
        return Err(damaged("its transactions are not those of its header"));
    }
    let receipts: Vec<Hash> = receipts(view, height)?.iter().map(Receipt::hash).collect();
    if slackline_proof::list_root(slackline_proof::List::Receipts, &receipts)
        != header.receipts_root
    {
        return Err(damaged("its receipts are not those of its header"));
    }
    for (index, hash) in transactions.iter().enumerate() {
        if position(view, hash)? != Some((height, index as u32)) {
            return Err(damaged("a transaction of it is not in the index"));
        }
    }
    Ok(header)
}

fn get_borsh<T: BorshDeserialize>(
    view: &dyn View,
    family: Family,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    view.get(family, key)?
        .map(|bytes| decode(&bytes, family.name()))
        .transpose()
}

pub(crate) fn head(view: &dyn View) -> Result<Option<Header>, StoreError> {
    get_borsh(view, Family::Meta, b"head")
}

pub(crate) fn block(view: &dyn View, height: u64) -> Result<Option<Block>, StoreError> {
    get_borsh(view, Family::Blocks, &height.to_be_bytes())
}

fn receipt(view: &dyn View, height: u64, index: u32) -> Result<Option<Receipt>, StoreError> {
    get_borsh(view, Family::Receipts, &keys::receipt(height, index))
}

fn position(view: &dyn View, hash: &Hash) -> Result<Option<(u64, u32)>, StoreError> {
    get_borsh(view, Family::Transactions, &hash.0)
}

pub(crate) fn receipts(view: &dyn View, height: u64) -> Result<Vec<Receipt>, StoreError> {
    let low = height.to_be_bytes();
    let high = height.checked_add(1).map(u64::to_be_bytes);
    let high = high
        .as_ref()
        .map_or(Bound::Unbounded, |high| Bound::Excluded(&high[..]));
    let mut cursor = view.walk(Family::Receipts, (Bound::Included(&low), high), false)?;
    let mut receipts = Vec::new();
    while let Some((_, receipt)) = cursor.next()? {
        receipts.push(decode(receipt, "a receipt")?);
    }
    Ok(receipts)
}

fn misplaced(hash: &Hash) -> StoreError {
    StoreError::Damaged(format!("transaction {hash} is not where the index says"))
}

/// A number in `meta`; 0 if it is missing.
fn number(view: &dyn View, key: &[u8]) -> Result<u64, StoreError> {
    Ok(get_borsh(view, Family::Meta, key)?.unwrap_or(0))
}

/// The keys that the block at `height` has written.
fn changed(view: &dyn View, height: u64) -> Result<Vec<Vec<u8>>, StoreError> {
    get_borsh(view, Family::History, &keys::changed(height))?.ok_or_else(|| {
        StoreError::Damaged(format!("which keys block {height} has written is missing"))
    })
}

/// The last height, if the state at `height` is available.
fn within_window(view: &dyn View, height: u64) -> Result<u64, StoreError> {
    let head = head(view)?.map_or(0, |head| head.height);
    let oldest = number(view, b"oldest")?;
    if height < oldest || height > head {
        return Err(StoreError::OutsideWindow {
            height,
            oldest,
            head,
        });
    }
    Ok(head)
}

/// Deletes, in `batch`, what only the states before `oldest` need: from where that was left to as far as there is room. Returns the
/// height that it has got to.
fn prune(view: &dyn View, batch: &mut Batch, oldest: u64) -> Result<u64, StoreError> {
    let mut pruned = number(view, b"pruned")?;
    if oldest > number(view, b"oldest")? {
        batch.put(Family::Meta, *b"oldest", oldest.to_le_bytes());
    }
    if pruned >= oldest {
        return Ok(pruned);
    }
    let start = batch.0.len();
    while pruned < oldest && batch.0.len() - start < PRUNE_AT_A_TIME {
        pruned += 1;
        for key in changed(view, pruned)? {
            batch.delete(Family::History, keys::before(&key, pruned));
        }
        batch.delete(Family::History, keys::changed(pruned));
        let end = (pruned + 1).to_be_bytes();
        let mut cursor = view.range(Family::Stale, &pruned.to_be_bytes(), &end)?;
        while let Some((key, _)) = cursor.next()? {
            batch.delete(Family::Nodes, &key[8..]);
            batch.delete(Family::Stale, key);
        }
    }
    batch.put(Family::Meta, *b"pruned", pruned.to_le_bytes());
    Ok(pruned)
}

/// Height (8, big-endian), transaction (4, big-endian), event (4, big-endian), after `prefix`.
fn event_key(prefix: &[u8], position: &EventPosition) -> Vec<u8> {
    [
        prefix,
        &position.height.to_be_bytes(),
        &position.transaction.to_be_bytes(),
        &position.event.to_be_bytes(),
    ]
    .concat()
}

fn event_position(bytes: &[u8]) -> Option<EventPosition> {
    let (height, rest) = bytes.split_first_chunk()?;
    let (transaction, rest) = rest.split_first_chunk()?;
    Some(EventPosition {
        height: u64::from_be_bytes(*height),
        transaction: u32::from_be_bytes(*transaction),
        event: u32::from_be_bytes(rest.try_into().ok()?),
    })
}

/// The keys of all events of `receipt`: one of each for its contract, and one for each topic.
fn event_keys(receipt: &Receipt) -> BTreeSet<Vec<u8>> {
    let mut made = BTreeSet::new();
    for (event, index) in receipt.events.iter().zip(0..) {
        let position = EventPosition {
            height: receipt.height,
            transaction: receipt.index,
            event: index,
        };
        let topics = event.topics.iter().map(Some).chain([None]);
        made.extend(
            topics.map(|topic| event_key(&keys::events(&event.contract, topic), &position)),
        );
    }
    made
}
