//! The state, and the layers through which a block changes it.
//!
//! Keys: `a` + address (32) holds an [`Account`] in borsh; `s` + contract (32) + key holds what the contract stored.

use crate::store::{StateSnapshot, StoreError, decode};
use crate::types::{Account, Address, Hash, digest, encode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Writes by key, in the order of keys; `None` deletes.
pub(crate) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

pub(crate) fn account_key(address: &Address) -> Vec<u8> {
    [b"a", &address.0[..]].concat()
}

pub(crate) fn storage_key(contract: &Address, key: &[u8]) -> Vec<u8> {
    [b"s", &contract.0[..], key].concat()
}

/// What a block has done so far, over the state before it.
pub(crate) struct BlockState {
    snapshot: StateSnapshot,
    pub(crate) writes: Writes,
    /// Code deployed in this block.
    pub(crate) code: BTreeMap<Hash, Arc<Vec<u8>>>,
}

impl BlockState {
    pub(crate) fn new(snapshot: StateSnapshot) -> BlockState {
        BlockState {
            snapshot,
            writes: Writes::new(),
            code: BTreeMap::new(),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.snapshot.get(key),
        }
    }

    pub(crate) fn account(&self, address: &Address) -> Result<Account, StoreError> {
        account(self.get(&account_key(address))?)
    }

    pub(crate) fn set_account(&mut self, address: &Address, account: &Account) {
        self.writes
            .insert(account_key(address), Some(encode(account)));
    }

    /// Hash over the writes, in the order of keys.
    pub(crate) fn writes_hash(&self) -> Hash {
        Hash(digest("slackline:writes:v1", &[&encode(&self.writes)]))
    }
}

/// What an execution has done so far, over its block. Owns the block's state while it lasts, as
/// wasmtime stores own their data; [`TxState::merge`] or [`TxState::discard`] gives it back.
pub(crate) struct TxState {
    block: BlockState,
    writes: Writes,
}

impl TxState {
    pub(crate) fn new(block: BlockState) -> TxState {
        TxState {
            block,
            writes: Writes::new(),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.block.get(key),
        }
    }

    /// Code deployed earlier in the block.
    pub(crate) fn deployed(&self, hash: &Hash) -> Option<&Arc<Vec<u8>>> {
        self.block.code.get(hash)
    }

    pub(crate) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.writes.insert(key, value);
    }

    pub(crate) fn account(&self, address: &Address) -> Result<Account, StoreError> {
        account(self.get(&account_key(address))?)
    }

    pub(crate) fn set_account(&mut self, address: &Address, account: &Account) {
        self.set(account_key(address), Some(encode(account)));
    }

    /// The block with the execution's writes.
    pub(crate) fn merge(mut self) -> BlockState {
        self.block.writes.append(&mut self.writes);
        self.block
    }

    /// The block as it was before the execution.
    pub(crate) fn discard(self) -> BlockState {
        self.block
    }
}

fn account(bytes: Option<Vec<u8>>) -> Result<Account, StoreError> {
    match bytes {
        Some(bytes) => decode(&bytes, "account"),
        None => Ok(Account::default()),
    }
}
