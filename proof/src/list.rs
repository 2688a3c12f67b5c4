//! Trees over the items of a block.

use crate::{DecodeError, VerifyError, encodings};
use borsh::{BorshDeserialize, BorshSerialize};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{InclusionProof, RootHash};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use slackline_types::{Hash, digest};

type Tree = MemoryBackedTree<Sha256, [u8; 32]>;

/// What a list holds: each kind has roots of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Hashes of transactions.
    Transactions,
    /// Hashes of receipts.
    Receipts,
}

impl List {
    fn domain(self) -> &'static str {
        match self {
            List::Transactions => "slackline:transactions:v1",
            List::Receipts => "slackline:receipts:v1",
        }
    }

    /// The root in a header, from that of the tree.
    fn root(self, root: &RootHash<Sha256>) -> Hash {
        let count = root.num_leaves().to_le_bytes();
        Hash(digest(self.domain(), &[&count, root.as_bytes()]))
    }
}

fn tree(items: &[Hash]) -> Tree {
    let mut tree = Tree::new();
    for item in items {
        tree.push(item.0);
    }
    tree
}

/// The root of `items`, in order.
pub fn list_root(list: List, items: &[Hash]) -> Hash {
    list.root(&tree(items).root())
}

/// Shows that an item is at an index of a list.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ListProof {
    /// Where the item is, from 0.
    pub index: u64,
    /// How many items the list has.
    pub count: u64,
    /// Root of the tree, from which that in the header is made.
    root: [u8; 32],
    /// Hashes beside the path, from the leaf up.
    path: Vec<[u8; 32]>,
}

impl ListProof {
    /// The proof for item `index` of `items`; `None` if there is no such item.
    pub fn new(items: &[Hash], index: usize) -> Option<ListProof> {
        if index >= items.len() {
            return None;
        }
        let tree = tree(items);
        let path = tree.prove_inclusion(index);
        // Whole hashes: nothing remains.
        let (path, _) = path.as_bytes().as_chunks();
        Some(ListProof {
            index: index as u64,
            count: items.len() as u64,
            root: (*tree.root().as_bytes()).into(),
            path: path.to_vec(),
        })
    }

    /// Whether `item` is at [`index`](Self::index) of the list with `root`.
    ///
    /// # Errors
    ///
    /// [`VerifyError::List`] if it is not, or if this does not show it.
    pub fn verify(&self, list: List, root: &Hash, item: &Hash) -> Result<(), VerifyError> {
        let failed = |reason: String| VerifyError::List {
            index: self.index,
            reason,
        };
        // Half of what fits: positions in the tree count inner nodes too.
        if self.count > u64::MAX / 2 {
            return Err(failed(format!("a list cannot have {} items", self.count)));
        }
        let tree = RootHash::<Sha256>::new(self.root.into(), self.count);
        if list.root(&tree) != *root {
            return Err(failed("the root or the number of items differs".to_owned()));
        }
        let path = InclusionProof::try_from_bytes(self.path.concat())
            .map_err(|error| failed(error.to_string()))?;
        tree.verify_inclusion(&item.0, self.index, &path)
            .map_err(|error| failed(error.to_string()))
    }
}

encodings!(ListProof);
