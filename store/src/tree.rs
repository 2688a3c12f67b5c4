//! The Merkle tree over the state, in family `nodes`.

use crate::backend::{Batch, Family, View};
use crate::nodes::NodeCache;
use crate::{StoreError, Value, Writes, decode, keys};
use borsh::{BorshDeserialize, BorshSerialize};
use jmt::storage::{LeafNode, NibblePath, Node, NodeKey, TreeReader, TreeUpdateBatch};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher};
use rayon::prelude::*;
use slackline_proof::{Sha256, StateProof, key_hash, value_digest};
use slackline_types::{Hash, encode};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a block changes in the tree, and the root that it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeUpdate {
    root: Hash,
    height: u64,
    nodes: Vec<NewNode>,
    stale: Vec<Vec<u8>>,
}

/// A node, and how it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NewNode {
    key: Vec<u8>,
    bytes: Vec<u8>,
    node: (NodeKey, Node),
}

impl NewNode {
    fn new(key: &NodeKey, node: &Node) -> NewNode {
        NewNode {
            key: keys::node(key),
            bytes: encode(node),
            node: (key.clone(), node.clone()),
        }
    }
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

    /// Returns the nodes for [`NodeCache::insert`] once the batch is stored.
    pub(crate) fn into_batch(self, batch: &mut Batch) -> Vec<(NodeKey, Node)> {
        let put = |new: NewNode| {
            batch.put(Family::Nodes, new.key, new.bytes);
            new.node
        };
        let nodes = self.nodes.into_iter().map(put).collect();
        for node in self.stale {
            batch.put(Family::Stale, keys::stale(self.height, &node), []);
        }
        nodes
    }

    /// Deletes what is replaced instead of keeping it for as long as states before are.
    pub(crate) fn replace_in_batch(self, batch: &mut Batch) {
        for node in self.stale {
            batch.delete(Family::Nodes, node);
        }
        for node in self.nodes {
            batch.put(Family::Nodes, node.key, node.bytes);
        }
    }
}

/// Where nodes are read.
#[derive(Clone, Copy)]
pub(crate) struct Nodes<'a> {
    pub(crate) view: &'a dyn View,
    /// Without it, what the database has is what counts.
    pub(crate) cache: Option<&'a NodeCache>,
}

/// Nodes as the tree reads them. Keeps the first error: `jmt` panics on some.
struct Reader<'a> {
    nodes: Nodes<'a>,
    failed: RefCell<Option<StoreError>>,
}

impl TreeReader for Reader<'_> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        self.nodes.get(key).map_err(|error| {
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

impl Nodes<'_> {
    fn get(&self, key: &NodeKey) -> Result<Option<Node>, StoreError> {
        if let Some(node) = self.cache.and_then(|cache| cache.get(key)) {
            return Ok(Some(node));
        }
        let bytes = self.view.get(Family::Nodes, &keys::node(key))?;
        let node: Option<Node> = bytes.map(|bytes| decode(&bytes, "a node")).transpose()?;
        if let (Some(cache), Some(node)) = (self.cache, &node) {
            cache.insert(key.clone(), node.clone());
        }
        Ok(node)
    }
}

/// Runs `with` on the tree that `nodes` has.
fn on_tree<T>(
    nodes: Nodes<'_>,
    with: impl FnOnce(&JellyfishMerkleTree<'_, Reader<'_>, Sha256>) -> anyhow::Result<T>,
) -> Result<T, StoreError> {
    let reader = Reader {
        nodes,
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

/// Keys from which on a block is worth more than one thread.
pub(crate) const WORTH_THREADS: usize = 64;

/// Hashed keys with the digests of their values, or deletions.
pub(crate) type Changes = Vec<(KeyHash, Option<OwnedValue>)>;

/// What becomes of `key`.
pub(crate) fn change(key: &[u8], value: Option<&[u8]>) -> (KeyHash, Option<OwnedValue>) {
    let value = value.map(|value| value_digest(value).to_vec());
    (key_hash(key), value)
}

/// The root node of a tree without keys, for a batch.
pub(crate) fn empty(height: u64) -> (Family, Vec<u8>, Option<Vec<u8>>) {
    let node = encode(&Node::Null);
    (Family::Nodes, keys::node(&root_key(height)), Some(node))
}

/// The tree after the block at `height` has made `writes`; on more than one thread if `parallel` and there is enough to do.
pub(crate) fn update(
    nodes: Nodes<'_>,
    height: u64,
    writes: &Writes,
    parallel: bool,
) -> Result<TreeUpdate, StoreError> {
    let change = |(key, value): (&Vec<u8>, &Option<Value>)| change(key, value.as_deref());
    let changes = if parallel && writes.len() >= WORTH_THREADS {
        let changes: Changes = writes.par_iter().map(change).collect();
        match update_by_subtrees(nodes, height, &changes)? {
            Some(update) => return Ok(update),
            None => changes,
        }
    } else {
        writes.iter().map(change).collect()
    };
    update_in_order(nodes, height, changes)
}

/// The tree after `changes`, on this thread.
pub(crate) fn update_in_order(
    nodes: Nodes<'_>,
    height: u64,
    changes: Changes,
) -> Result<TreeUpdate, StoreError> {
    let (root, update) = on_tree(nodes, |tree| put(tree, height, changes))?;
    let nodes = update.node_batch.nodes().iter();
    let nodes = nodes.map(|(key, node)| NewNode::new(key, node)).collect();
    Ok(TreeUpdate::new(
        Hash(root.0),
        height,
        nodes,
        stale_keys(&update),
    ))
}

fn put(
    tree: &JellyfishMerkleTree<'_, Reader<'_>, Sha256>,
    height: u64,
    changes: Changes,
) -> anyhow::Result<(RootHash, TreeUpdateBatch)> {
    if changes.is_empty() || changes.iter().any(|(_, value)| value.is_none()) {
        return tree.put_value_set(changes, height);
    }
    // Hashes each inner node once instead of once a key, but cannot delete.
    let changes = changes.into_iter();
    let values = changes.filter_map(|(key, value)| Some((key, value?)));
    let (roots, update) = tree.batch_put_value_sets(vec![values.collect()], None, height)?;
    let root = roots.first().copied();
    Ok((root.ok_or_else(|| anyhow::anyhow!("no root"))?, update))
}

fn stale_keys(update: &TreeUpdateBatch) -> Vec<Vec<u8>> {
    let indices = update.stale_node_index_batch.iter();
    indices.map(|index| keys::node(&index.node_key)).collect()
}

impl TreeUpdate {
    fn new(
        root: Hash,
        height: u64,
        mut nodes: Vec<NewNode>,
        mut stale: Vec<Vec<u8>>,
    ) -> TreeUpdate {
        // Each block has a root node of its own, so that it replaces the one before; `jmt` forgets that of an empty tree, and
        // of a block that changes nothing.
        if let Some(parent) = height.checked_sub(1) {
            stale.push(keys::node(&root_key(parent)));
        }
        nodes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        stale.sort_unstable();
        stale.dedup();
        TreeUpdate {
            root,
            height,
            nodes,
            stale,
        }
    }
}

/// The borsh form of `jmt`'s inner nodes, whose parts it does not export.
#[derive(BorshSerialize, BorshDeserialize)]
struct InnerNode {
    /// That of [`Node::Internal`].
    variant: u8,
    children: [Option<InnerChild>; 16],
    /// How many of them there are.
    count: u64,
    leaves: u64,
}

#[derive(Clone, BorshSerialize, BorshDeserialize)]
struct InnerChild {
    hash: [u8; 32],
    version: u64,
    /// Below it, if it is an inner node itself.
    leaves: Option<u64>,
}

impl InnerNode {
    fn of(node: &Node) -> Option<InnerNode> {
        match node {
            Node::Internal(_) => borsh::from_slice(&encode(node)).ok(),
            Node::Null | Node::Leaf(_) => None,
        }
    }
}

/// [`update`] by the 16 subtrees below the root, each as if only its keys changed: they share nothing but the root node, which is put together of
/// theirs. `None` if the tree is, or becomes, too small to have such a root.
fn update_by_subtrees(
    nodes: Nodes<'_>,
    height: u64,
    changes: &Changes,
) -> Result<Option<TreeUpdate>, StoreError> {
    let before = match height.checked_sub(1) {
        Some(parent) => nodes.get(&root_key(parent))?,
        None => None,
    };
    let Some(mut root) = before.as_ref().and_then(InnerNode::of) else {
        return Ok(None);
    };
    let mut parts: [Changes; 16] = Default::default();
    for (key, value) in changes {
        parts[usize::from(key.0[0] >> 4)].push((*key, value.clone()));
    }
    let at_root = root_key(height);
    let parts = parts.into_par_iter().enumerate();
    let updates: Vec<Subtree> = parts
        .filter(|(_, part)| !part.is_empty())
        .map(|(nibble, part)| {
            let (_, update) = on_tree(nodes, |tree| put(tree, height, part))?;
            let mut subtree = Subtree {
                nibble,
                root: None,
                nodes: Vec::new(),
                stale: stale_keys(&update),
            };
            for (key, node) in update.node_batch.nodes() {
                match *key == at_root {
                    true => subtree.root = InnerNode::of(node),
                    false => subtree.nodes.push(NewNode::new(key, node)),
                }
            }
            Ok(subtree)
        })
        .collect::<Result<_, StoreError>>()?;

    let (mut nodes, mut stale) = (Vec::new(), Vec::new());
    for subtree in updates {
        // Of its other children it has what was there before.
        match subtree.root {
            Some(theirs) => {
                root.children[subtree.nibble] = theirs.children[subtree.nibble].clone();
            }
            None => return Ok(None),
        }
        nodes.extend(subtree.nodes);
        stale.extend(subtree.stale);
    }
    let children = || root.children.iter().flatten();
    root.count = children().count() as u64;
    root.leaves = children().map(|child| child.leaves.unwrap_or(1)).sum();
    // With fewer the node would have to be a leaf, or absent.
    if root.count < 2 {
        return Ok(None);
    }
    let root: Node = decode(&encode(&root), "a node")?;
    let Node::Internal(inner) = &root else {
        return Ok(None);
    };
    let hash = Hash(inner.hash::<Sha256>());
    nodes.push(NewNode::new(&at_root, &root));
    Ok(Some(TreeUpdate::new(hash, height, nodes, stale)))
}

/// What becomes of one subtree.
struct Subtree {
    nibble: usize,
    /// The root node, in which its child is right; none if the tree would be too small without the others.
    root: Option<InnerNode>,
    nodes: Vec<NewNode>,
    stale: Vec<Vec<u8>>,
}

fn root_key(height: u64) -> NodeKey {
    NodeKey::new(height, std::iter::empty().collect::<NibblePath>())
}

/// The root at `height`, if that is kept.
pub(crate) fn root(view: &dyn View, height: u64) -> Result<Option<Hash>, StoreError> {
    let stored = Nodes { view, cache: None };
    let root = on_tree(stored, |tree| tree.get_root_hash_option(height))?;
    Ok(root.map(|root| Hash(root.0)))
}

/// Shows what `key` has, or that it is absent, at `height`.
pub(crate) fn prove(view: &dyn View, height: u64, key: &[u8]) -> Result<StateProof, StoreError> {
    let stored = Nodes { view, cache: None };
    let (_, proof) = on_tree(stored, |tree| tree.get_with_proof(key_hash(key), height))?;
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
