//! A store in parts, from which another one is made. What can be computed is not in them: tree, indices, and code, which the blocks' transactions
//! brought; nor are past states.

use crate::backend::{Backend, Batch, Family, View};
use crate::{Store, StoreError, keys, store, tree};
use borsh::{BorshDeserialize, BorshSerialize};
use slackline_types::{Block, Hash, Header, Receipt, encode};
use std::ops::Bound;
use std::sync::Arc;

/// Bytes after which a part ends.
const PART_BYTES: usize = 1 << 20;
/// Keys that the tree takes at a time, which are in memory together.
const TREE_KEYS: u64 = 100_000;

/// Keys with their values.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A block with what came of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StoredBlock {
    /// The block.
    pub block: Block,
    /// What became of its transactions, in order.
    pub receipts: Vec<Receipt>,
    /// What shows that the block was decided.
    pub certificate: Vec<u8>,
}

/// A part of a store.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Part {
    /// Blocks from height 1 on, in order.
    Blocks(Vec<StoredBlock>),
    /// Then the state after the last of the blocks: keys and values.
    State(Vec<(Vec<u8>, Vec<u8>)>),
}

enum At {
    Block(u64),
    State(Vec<u8>),
    End,
}

/// A store's parts, all of the moment when this was made.
pub struct Export {
    view: Arc<dyn View>,
    head: Header,
    at: At,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("height", &self.head.height)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The store in parts.
    ///
    /// # Errors
    ///
    /// If the database fails, or has no block.
    pub fn export(&self) -> Result<Export, StoreError> {
        let view = self.view()?;
        let head = store::head(&*view)?;
        Ok(Export {
            head: head.ok_or_else(|| StoreError::Damaged("there is no block".to_owned()))?,
            at: At::Block(1),
            view,
        })
    }
}

impl Export {
    /// The last block's header.
    pub fn head(&self) -> &Header {
        &self.head
    }

    /// The next part; `None` after the last one.
    ///
    /// # Errors
    ///
    /// If the database fails, or a block was stored without a certificate.
    pub fn next_part(&mut self) -> Result<Option<Part>, StoreError> {
        match std::mem::replace(&mut self.at, At::End) {
            At::Block(height) if height <= self.head.height => self.blocks(height).map(Some),
            At::Block(_) => {
                self.at = At::State(Vec::new());
                self.next_part()
            }
            At::State(from) => {
                let entries = self.state(&from)?;
                Ok((!entries.is_empty()).then_some(Part::State(entries)))
            }
            At::End => Ok(None),
        }
    }

    fn blocks(&mut self, from: u64) -> Result<Part, StoreError> {
        let view = &*self.view;
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        let mut height = from;
        while height <= self.head.height && bytes < PART_BYTES {
            let missing =
                |what| StoreError::Damaged(format!("block {height}: its {what} is missing"));
            let stored = StoredBlock {
                block: store::block(view, height)?.ok_or_else(|| missing("body"))?,
                receipts: store::receipts(view, height)?,
                certificate: view
                    .get(Family::Blocks, &keys::certificate(height))?
                    .ok_or_else(|| missing("certificate"))?,
            };
            bytes += encode(&stored).len();
            blocks.push(stored);
            height += 1;
        }
        self.at = At::Block(height);
        Ok(Part::Blocks(blocks))
    }

    fn state(&mut self, from: &[u8]) -> Result<Entries, StoreError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let mut cursor = self.view.walk(Family::State, bounds, false)?;
        while bytes < PART_BYTES
            && let Some((key, value)) = cursor.next()?
        {
            bytes += key.len() + value.len();
            entries.push((key.to_vec(), value.to_vec()));
        }
        if let Some((last, _)) = entries.last() {
            // The next key that there can be.
            self.at = At::State([&last[..], &[0]].concat());
        }
        Ok(entries)
    }
}

/// Makes a store of parts, in a database that is empty and of no use until [`Import::finish`]. Whether what it is given is right, but for the state, is
/// the caller's to check.
pub struct Import {
    backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").finish_non_exhaustive()
    }
}

impl Import {
    /// Into `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Import {
        Import { backend }
    }

    /// Writes the genesis block, which has neither transactions nor certificate.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn genesis(&self, block: &Block) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        store::put_block(&mut batch, block, &[], None);
        self.backend.write(&batch)
    }

    /// Writes blocks, their receipts and their indices.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn blocks(&self, blocks: &[StoredBlock]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for stored in blocks {
            let certificate = Some(&stored.certificate[..]);
            store::put_block(&mut batch, &stored.block, &stored.receipts, certificate);
        }
        self.backend.write(&batch)
    }

    /// Writes code, by its hash: all that the blocks' transactions brought, whether or not a contract has it still. What is known can be deployed
    /// again, so executions depend on it.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn code(&self, code: &[(Hash, Vec<u8>)]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (hash, code) in code {
            batch.put(Family::Code, hash.0, &code[..]);
        }
        self.backend.write(&batch)
    }

    /// Writes keys of the state.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn state(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (key, value) in entries {
            batch.put(Family::State, &key[..], &value[..]);
        }
        self.backend.write(&batch)
    }

    /// Computes the tree; if the state has the root that `head`, the last block's header, commits to, the database becomes a store of that height
    /// and of the chain that `genesis` is of. The tree is larger than the keys that it is made of, and whether they are right shows at its end: `goes_on` is
    /// asked in between, and ends it by an error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if the root is another one, if the database fails, or those of `goes_on`.
    pub fn finish<E: From<StoreError>>(
        self,
        genesis: &[u8],
        head: &Header,
        goes_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let root = self.tree(head.height, TREE_KEYS, goes_on)?;
        if root != head.state_root {
            let (height, expected) = (head.height, head.state_root);
            let wrong =
                format!("at height {height}, the state has root {root}, the header {expected}");
            return Err(StoreError::Damaged(wrong).into());
        }
        let mut batch = store::new_chain(genesis);
        batch.put(Family::Meta, *b"head", encode(head));
        for name in ["oldest", "pruned"] {
            batch.put(Family::Meta, name.as_bytes(), head.height.to_le_bytes());
        }
        Ok(self.backend.write(&batch)?)
    }

    /// The tree grows by about `at_a_time` keys, in steps of a version each, so that not all of it is in memory; the last one is of `height`.
    /// Trees of lower versions are not kept.
    fn tree<E: From<StoreError>>(
        &self,
        height: u64,
        at_a_time: u64,
        mut goes_on: impl FnMut() -> Result<(), E>,
    ) -> Result<Hash, E> {
        let view = self.backend.view()?;
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut cursor = view.walk(Family::State, all, false)?;
        let mut keys = 0u64;
        while cursor.next()?.is_some() {
            keys += 1;
        }
        let steps = keys.div_ceil(at_a_time).clamp(1, height.saturating_add(1));
        let in_step = keys.div_ceil(steps);
        let mut version = height + 1 - steps;
        if let Some(before) = version.checked_sub(1) {
            let mut batch = Batch::default();
            batch.0.push(tree::empty(before));
            self.backend.write(&batch)?;
        }
        let mut cursor = view.walk(Family::State, all, false)?;
        loop {
            let mut changes = tree::Changes::new();
            while (changes.len() as u64) < in_step
                && let Some((key, value)) = cursor.next()?
            {
                changes.push(tree::change(key, Some(value)));
            }
            let view = self.backend.view()?;
            let stored = tree::Nodes {
                view: &*view,
                cache: None,
            };
            let update = tree::update_in_order(stored, version, changes)?;
            let root = update.root();
            let mut batch = Batch::default();
            update.replace_in_batch(&mut batch);
            self.backend.write(&batch)?;
            goes_on()?;
            if version == height {
                return Ok(root);
            }
            version += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rocks, StoreOptions};
    use slackline_proof::{key_hash, value_digest};

    #[test]
    fn making_the_tree_can_be_given_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let rocks = Rocks::open(dir.path(), &StoreOptions::laptop()).expect("a database");
        let entries: Vec<_> = (0..50).map(|key| (vec![key], Vec::new())).collect();
        let import = Import::new(Arc::new(rocks));
        import.state(&entries).expect("written");
        let mut steps = 0;
        let given_up = import.tree(9, 10, || {
            steps += 1;
            match steps {
                3 => Err(StoreError::Damaged("enough".to_owned())),
                _ => Ok(()),
            }
        });
        given_up.expect_err("enough");
        assert_eq!(steps, 3);
    }

    #[test]
    fn a_tree_that_grew_in_steps_is_that_which_was_made_at_once() {
        let made = |keys: u8, height: u64, at_a_time: u64| {
            let dir = tempfile::tempdir().expect("a directory");
            let rocks = Rocks::open(dir.path(), &StoreOptions::laptop()).expect("a database");
            let entries: Vec<_> = (0..keys).map(|key| (vec![key], vec![key; 3])).collect();
            let import = Import::new(Arc::new(rocks.clone()));
            import.state(&entries).expect("written");
            let root = import.tree(height, at_a_time, || Ok::<_, StoreError>(()));
            let root = root.expect("a tree");
            let leaves = entries.iter();
            let leaves = leaves.map(|(key, value)| (key_hash(key).0, value_digest(value)));
            assert_eq!(root, tree::root_of(leaves.collect()));
            let view = rocks.view().expect("readable");
            assert_eq!(tree::root(&*view, height).expect("readable"), Some(root));
            let all = (Bound::Unbounded, Bound::Unbounded);
            let mut nodes = view.walk(Family::Nodes, all, false).expect("readable");
            let mut count = 0;
            while nodes.next().expect("readable").is_some() {
                count += 1;
            }
            (root, count)
        };
        for keys in [0, 1, 2, 50] {
            let at_once = made(keys, 9, 100);
            for (height, at_a_time) in [(0, 3), (1, 3), (3, 20), (9, 1), (40, 3)] {
                assert_eq!(
                    made(keys, height, at_a_time),
                    at_once,
                    "{keys} keys, {height}"
                );
            }
        }
    }
}
