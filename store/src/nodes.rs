//! Nodes of the state's tree, in front of the database.
//!
//! A node never changes: its key says which block has made it. So what is here is what the database has, as long as only nodes of blocks that are stored come in, and
//! all go when blocks are removed.

use jmt::storage::{Node, NodeKey};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// What the table and the key of an entry take, in bytes, or a little more.
const ENTRY: u64 = 160;

#[derive(Clone)]
struct Bytes;

impl Weighter<NodeKey, Node> for Bytes {
    fn weight(&self, _: &NodeKey, node: &Node) -> u64 {
        match node {
            // 16 children, there or not.
            Node::Internal(_) => ENTRY + 16 * 64,
            Node::Leaf(_) | Node::Null => ENTRY,
        }
    }
}

/// See the module's documentation.
pub(crate) struct NodeCache(Cache<NodeKey, Node, Bytes>);

impl NodeCache {
    /// An empty one that comes to take about `bytes` bytes.
    pub(crate) fn new(bytes: usize) -> NodeCache {
        NodeCache(Cache::with_weighter(
            bytes / ENTRY as usize / 4,
            bytes as u64,
            Bytes,
        ))
    }

    pub(crate) fn get(&self, key: &NodeKey) -> Option<Node> {
        self.0.get(key)
    }

    /// Keeps what is in the database.
    pub(crate) fn insert(&self, key: NodeKey, node: Node) {
        self.0.insert(key, node);
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}
