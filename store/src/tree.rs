//! The Merkle tree over the state, in family `nodes`.

use crate::backend::{Batch, Family, View};
use crate::{StoreError, Writes, decode, keys};
use jmt::storage::{LeafNode, NibblePath, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, SimpleHasher};
use slackline_proof::{Sha256, StateProof, key_hash, value_digest};
use slackline_types::{Hash, encode};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a block changes in the tree, and the root that it gives.
#[derive(Clone, Debug)]
pub struct TreeUpdate {
    root: Hash,
    height: u64,
    nodes: Vec<(Vec<u8>, Vec<u8>)>,
    stale: Vec<Vec<u8>>,
}

impl TreeUpdate {
    /// The root after the block: what its header commits to.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The block's height.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Nodes that are written.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn into_batch(self, batch: &mut Batch) {
        for (key, node) in self.nodes {
            batch.put(Family::Nodes, key, node);
        }
        for node in self.stale {
            batch.put(Family::Stale, keys::stale(self.height, &node), []);
        }
    }
}

/// Nodes as the tree reads them. Keeps the first error: `jmt` panics on some.
struct Reader<'a> {
    view: &'a dyn View,
    failed: RefCell<Option<StoreError>>,
}

impl TreeReader for Reader<'_> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let read = self
            .view
            .get(Family::Nodes, &keys::node(key))
            .and_then(|bytes| bytes.map(|bytes| decode(&bytes, "a node")).transpose());
        read.map_err(|error| {
            self.failed
                .borrow_mut()
                .get_or_insert_with(|| error.clone());
            error.into()
        })
    }

    /// The tree is asked for proofs only: values are in the flat state.
    fn get_value_option(&self, _: u64, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(Some(OwnedValue::new()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Err(anyhow::anyhow!("only restoring asks for it"))
    }
}

/// Runs `with` on the tree that `view` has.
fn on_tree<T>(
    view: &dyn View,
    with: impl FnOnce(&JellyfishMerkleTree<'_, Reader<'_>, Sha256>) -> anyhow::Result<T>,
) -> Result<T, StoreError> {
    let reader = Reader {
        view,
        failed: RefCell::new(None),
    };
    // `jmt` takes it that nodes can be read. The reader is not used after a panic but for its error.
    let result = catch_unwind(AssertUnwindSafe(|| {
        with(&JellyfishMerkleTree::new(&reader))
    }));
    match (reader.failed.into_inner(), result) {
        (Some(error), _) => Err(error),
        (None, Ok(result)) => {
            result.map_err(|error| StoreError::Damaged(format!("the state's tree: {error:#}")))
        }
        (None, Err(_)) => Err(StoreError::Damaged(
            "the state's tree: nodes are missing".to_owned(),
        )),
    }
}

/// The tree after the block at `height` has made `writes`.
pub(crate) fn update(
    view: &dyn View,
    height: u64,
    writes: &Writes,
) -> Result<TreeUpdate, StoreError> {
    let values = writes.iter().map(|(key, value)| {
        let value = value.as_ref().map(|value| value_digest(value).to_vec());
        (key_hash(key), value)
    });
    let deletes = writes.values().any(Option::is_none);
    let (root, update) = on_tree(view, |tree| {
        if deletes || writes.is_empty() {
            return tree.put_value_set(values, height);
        }
        // Hashes each inner node once instead of once a key, but cannot delete.
        let values = values
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let (roots, update) = tree.batch_put_value_sets(vec![values], None, height)?;
        let root = roots.first().copied();
        Ok((root.ok_or_else(|| anyhow::anyhow!("no root"))?, update))
    })?;
    let nodes = update
        .node_batch
        .nodes()
        .iter()
        .map(|(key, node)| (keys::node(key), encode(node)))
        .collect();
    let mut stale: Vec<Vec<u8>> = update
        .stale_node_index_batch
        .iter()
        .map(|index| keys::node(&index.node_key))
        .collect();
    // Each block has a root node of its own, so that it replaces the one before; `jmt` forgets that of an empty tree, and
    // of a block that changes nothing.
    if let Some(parent) = height.checked_sub(1) {
        let root = keys::node(&root_key(parent));
        if !stale.contains(&root) {
            stale.push(root);
        }
    }
    Ok(TreeUpdate {
        root: Hash(root.0),
        height,
        nodes,
        stale,
    })
}

fn root_key(height: u64) -> NodeKey {
    NodeKey::new(height, std::iter::empty().collect::<NibblePath>())
}

/// The root at `height`, if that is kept.
pub(crate) fn root(view: &dyn View, height: u64) -> Result<Option<Hash>, StoreError> {
    let root = on_tree(view, |tree| tree.get_root_hash_option(height))?;
    Ok(root.map(|root| Hash(root.0)))
}

/// Shows what `key` has, or that it is absent, at `height`.
pub(crate) fn prove(view: &dyn View, height: u64, key: &[u8]) -> Result<StateProof, StoreError> {
    let (_, proof) = on_tree(view, |tree| tree.get_with_proof(key_hash(key), height))?;
    Ok(StateProof::new(proof))
}

/// The root over `leaves`, each a hashed key with the digest of its value, by the definition: no tree is read.
pub(crate) fn root_of(mut leaves: Vec<([u8; 32], [u8; 32])>) -> Hash {
    leaves.sort_unstable();
    Hash(subtree(&leaves, 0))
}

/// A subtree with one leaf is that leaf, whatever its depth.
fn subtree(leaves: &[([u8; 32], [u8; 32])], depth: usize) -> [u8; 32] {
    match leaves {
        [] => *b"SPARSE_MERKLE_PLACEHOLDER_HASH__",
        [(key, value)] => {
            let mut hasher = Sha256::new();
            hasher.update(jmt::proof::LEAF_DOMAIN_SEPARATOR);
            hasher.update(key);
            hasher.update(&<Sha256 as SimpleHasher>::hash(value));
            hasher.finalize()
        }
        _ => {
            let bit = |key: &[u8; 32]| key[depth / 8] >> (7 - depth % 8) & 1;
            let (left, right) = leaves.split_at(leaves.partition_point(|(key, _)| bit(key) == 0));
            let (left, right) = (subtree(left, depth + 1), subtree(right, depth + 1));
            let mut hasher = Sha256::new();
            hasher.update(jmt::proof::INTERNAL_DOMAIN_SEPARATOR);
            hasher.update(&left);
            hasher.update(&right);
            hasher.finalize()
        }
    }
}
