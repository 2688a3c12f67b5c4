//! Chains of made-up blocks.

use ed25519_dalek::SigningKey;
use slackline_proof::{List, list_root};
use slackline_store::{BlockWrites, Store, StoreError, StoreOptions, Value, Writes};
use slackline_types::{
    Action, Address, Block, Event, HEADER_VERSION, Hash, Header, Outcome, PublicKey, Receipt,
    SignedTransaction, Transaction,
};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type State = BTreeMap<Vec<u8>, Value>;

pub(crate) const GENESIS: &[u8] = b"{}";

pub(crate) fn options(keep_heights: u64) -> StoreOptions {
    StoreOptions {
        keep_heights,
        ..StoreOptions::laptop()
    }
}

/// What `state` becomes by `writes`.
pub(crate) fn applied(state: &State, writes: &Writes) -> State {
    let mut state = state.clone();
    for (key, value) in writes {
        match value {
            Some(value) => state.insert(key.clone(), value.clone()),
            None => state.remove(key),
        };
    }
    state
}

/// Transactions of the block at `height`, their receipts with events.
pub(crate) fn contents(height: u64, count: u32) -> (Vec<SignedTransaction>, Vec<Receipt>) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let transactions: Vec<SignedTransaction> = (0..count)
        .map(|index| {
            Transaction {
                chain_id: 1,
                sender: PublicKey(key.verifying_key().to_bytes()),
                nonce: height << 32 | u64::from(index),
                fuel_limit: 1,
                fuel_price: 1,
                tip: 0,
                deposit_limit: 0,
                action: Action::Transfer {
                    to: Address([1; 32]),
                    amount: 1,
                },
            }
            .sign(&key)
        })
        .collect();
    let receipts = transactions
        .iter()
        .zip(0..)
        .map(|(signed, index)| Receipt {
            transaction: signed.hash(),
            height,
            index,
            outcome: Outcome::Success { data: Vec::new() },
            fuel_used: 1,
            fee: 1,
            burnt: 1,
            deposit: 0,
            events: (0..index % 3).map(event).collect(),
            contract: None,
        })
        .collect();
    (transactions, receipts)
}

fn event(n: u32) -> Event {
    Event {
        contract: Address([9; 32]),
        topics: vec![Hash([n as u8; 32]), Hash([7; 32])],
        data: vec![n as u8],
    }
}

/// Makes the block after the store's last, or the genesis block.
pub(crate) fn extend(store: &Store, writes: &Writes, count: u32) -> Result<Header, StoreError> {
    let parent = store.head()?;
    let height = parent.as_ref().map_or(0, |parent| parent.height + 1);
    let tree = store.update(height, writes)?;
    let (transactions, receipts) = contents(height, count);
    let hashes: Vec<Hash> = transactions.iter().map(SignedTransaction::hash).collect();
    let outcomes: Vec<Hash> = receipts.iter().map(Receipt::hash).collect();
    let header = Header {
        version: HEADER_VERSION,
        chain_id: 1,
        protocol_version: 1,
        height,
        parent: parent.as_ref().map(Header::hash).unwrap_or_default(),
        timestamp_ms: height,
        proposer: Address::default(),
        transactions_root: list_root(List::Transactions, &hashes),
        receipts_root: list_root(List::Receipts, &outcomes),
        state_root: tree.root(),
        base_price: 1,
        fuel_used: u64::from(count),
        burnt: u128::from(count),
    };
    let block = Block {
        header: header.clone(),
        transactions,
    };
    let code = BTreeMap::from([(Hash([height as u8; 32]), Arc::new(vec![height as u8]))]);
    let block = BlockWrites {
        certificate: (height > 0).then_some(b"decided"),
        block: &block,
        receipts: &receipts,
        state: writes,
        code: &code,
        tree,
        in_parallel: height % 2 == 1,
    };
    if parent.is_none() {
        store.initialise(GENESIS, block)?;
    } else {
        store.commit(block)?;
    }
    Ok(header)
}

/// All of the state that a snapshot has, by walking over it.
pub(crate) fn walked(snapshot: &slackline_store::StateSnapshot, last: bool) -> State {
    use std::ops::Bound;
    let mut all = State::new();
    let mut from: Option<Vec<u8>> = None;
    loop {
        let bound = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = if last {
            (Bound::Unbounded, bound)
        } else {
            (bound, Bound::Unbounded)
        };
        let Some(key) = snapshot.next(bounds, last).expect("it can be read") else {
            return all;
        };
        let value = snapshot.get(&key).expect("it can be read");
        let previous = all.insert(key.clone(), value.expect("it was found"));
        assert_eq!(previous, None, "a walk does not return");
        from = Some(key);
    }
}

/// Writes that depend on the height only: some keys at each, some deleted.
pub(crate) fn scripted(height: u64) -> Writes {
    let mut writes = Writes::new();
    for n in 0..8u64 {
        let key = (height * 31 + n * n * 7) % 97;
        let mut full = vec![if key.is_multiple_of(2) { b'a' } else { b's' }; 33];
        full.extend(key.to_be_bytes());
        let deleted = (height + n).is_multiple_of(5);
        let value = [height.to_be_bytes(), n.to_be_bytes()].concat();
        writes.insert(full, (!deleted).then(|| value.into()));
    }
    writes.insert(b"height".to_vec(), Some(height.to_be_bytes().into()));
    writes
}

/// The state after the scripted block at `height`.
pub(crate) fn scripted_state(height: u64) -> State {
    (0..=height).fold(State::new(), |state, height| {
        applied(&state, &scripted(height))
    })
}
