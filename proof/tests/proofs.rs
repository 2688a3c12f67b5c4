//! Proofs of trees made as the node makes them, and what becomes of them when anything is changed.

use jmt::JellyfishMerkleTree;
use jmt::mock::MockTreeStore;
use proptest::prelude::*;
use slackline_proof::{
    DecodeError, List, ListProof, Sha256, StateProof, key_hash, list_root, value_digest,
};
use slackline_types::Hash;
use std::collections::BTreeMap;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn prove(state: &State, key: &[u8]) -> (Hash, StateProof) {
    let store = MockTreeStore::new(true);
    let tree = JellyfishMerkleTree::<_, Sha256>::new(&store);
    let writes = state
        .iter()
        .map(|(key, value)| (key_hash(key), Some(value_digest(value).to_vec())));
    let (root, batch) = tree.put_value_set(writes, 0).expect("an empty tree");
    store.write_tree_update_batch(batch).expect("in memory");
    let (_, proof) = tree.get_with_proof(key_hash(key), 0).expect("in memory");
    (Hash(root.0), StateProof::new(proof))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..6)
}

fn state() -> impl Strategy<Value = State> {
    prop::collection::btree_map(bytes(), bytes(), 0..40)
}

/// `bytes` with one bit flipped, the `bit`th of them modulo their number.
fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

fn flipped_hash(hash: &Hash, bit: usize) -> Hash {
    Hash(flipped(&hash.0, bit).try_into().expect("32 bytes"))
}

proptest! {
    #[test]
    fn a_key_has_its_value_and_nothing_else(state in state(), other in bytes(), value in bytes(), pick: prop::sample::Index) {
        let mut keys: Vec<_> = state.keys().cloned().collect();
        keys.push(other.clone());
        let key = pick.get(&keys);
        let (root, proof) = prove(&state, key);
        let held = state.get(key).map(Vec::as_slice);
        prop_assert_eq!(proof.verify(&root, key, held), Ok(()));

        if held != Some(&value) {
            prop_assert!(proof.verify(&root, key, Some(&value)).is_err());
        }
        if held.is_some() {
            prop_assert!(proof.verify(&root, key, None).is_err());
        }
        if held.is_some() && other != *key {
            prop_assert!(proof.verify(&root, &other, held).is_err());
        }
    }

    #[test]
    fn a_state_proof_with_a_changed_bit_proves_nothing(state in state(), key in bytes(), bit: usize) {
        let mut all = state.clone();
        all.insert(b"another".to_vec(), Vec::new());
        let (root, proof) = prove(&all, &key);
        let value = all.get(&key).map(Vec::as_slice);
        prop_assert!(proof.verify(&flipped_hash(&root, bit), &key, value).is_err());
        if !key.is_empty() && value.is_some() {
            prop_assert!(proof.verify(&root, &flipped(&key, bit), value).is_err());
        }
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            prop_assert!(proof.verify(&root, &key, Some(&flipped(value, bit))).is_err());
        }
        if let Ok(changed) = StateProof::from_bytes(&flipped(&proof.to_bytes(), bit)) {
            prop_assert!(changed.verify(&root, &key, value).is_err());
        }
    }

    #[test]
    fn an_item_is_where_it_is_and_nowhere_else(count in 1..40usize, pick: prop::sample::Index, bit: usize) {
        let items: Vec<Hash> = (0..count).map(|n| Hash([n as u8 + 1; 32])).collect();
        let index = pick.index(count);
        let root = list_root(List::Receipts, &items);
        let proof = ListProof::new(&items, index).expect("it is there");
        prop_assert_eq!(proof.verify(List::Receipts, &root, &items[index]), Ok(()));

        prop_assert!(proof.verify(List::Transactions, &root, &items[index]).is_err());
        prop_assert!(proof.verify(List::Receipts, &flipped_hash(&root, bit), &items[index]).is_err());
        prop_assert!(proof.verify(List::Receipts, &root, &flipped_hash(&items[index], bit)).is_err());
        for other in (0..2 * count as u64).filter(|&other| other != index as u64) {
            let mut moved = proof.clone();
            moved.index = other;
            prop_assert!(moved.verify(List::Receipts, &root, &items[index]).is_err());
        }
        for other in [0, count as u64 - 1, count as u64 + 1, u64::MAX] {
            let mut resized = proof.clone();
            resized.count = other;
            prop_assert!(resized.verify(List::Receipts, &root, &items[index]).is_err());
        }
        if let Ok(changed) = ListProof::from_bytes(&flipped(&proof.to_bytes(), bit)) {
            prop_assert!(changed.verify(List::Receipts, &root, &items[index]).is_err());
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), versioned: bool) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (versioned, bytes.first_mut()) {
            *first = slackline_proof::VERSION;
        }
        let root = Hash([7; 32]);
        if let Ok(proof) = StateProof::from_bytes(&bytes) {
            prop_assert!(proof.verify(&root, b"key", Some(b"value")).is_err());
        }
        if let Ok(proof) = ListProof::from_bytes(&bytes) {
            prop_assert!(proof.verify(List::Receipts, &root, &root).is_err());
        }
    }
}

#[test]
fn roots_tell_lists_apart() {
    let items = [Hash([1; 32]), Hash([2; 32])];
    let roots = [
        list_root(List::Transactions, &[]),
        list_root(List::Receipts, &[]),
        list_root(List::Transactions, &items[..1]),
        list_root(List::Transactions, &items),
        list_root(List::Receipts, &items),
        list_root(List::Receipts, &[items[1], items[0]]),
    ];
    for (n, root) in roots.iter().enumerate() {
        assert!(!roots[..n].contains(root), "{n}");
    }
    assert_eq!(ListProof::new(&items, 2), None);
}

#[test]
fn proofs_read_back_from_bytes_and_json() {
    let state = State::from([(b"a".to_vec(), b"b".to_vec()), (b"c".to_vec(), Vec::new())]);
    let (_, proof) = prove(&state, b"a");
    assert_eq!(StateProof::from_bytes(&proof.to_bytes()), Ok(proof.clone()));
    let json = serde_json::to_string(&proof).expect("a string");
    assert_eq!(
        serde_json::from_str::<StateProof>(&json).expect("as written"),
        proof
    );

    let items = [Hash([1; 32]), Hash([2; 32]), Hash([3; 32])];
    let proof = ListProof::new(&items, 2).expect("it is there");
    let json = serde_json::to_string(&proof).expect("a string");
    assert_eq!(
        serde_json::from_str::<ListProof>(&json).expect("as written"),
        proof
    );

    assert_eq!(StateProof::from_bytes(&[]), Err(DecodeError::Empty));
    assert_eq!(
        ListProof::from_bytes(&[9, 0]),
        Err(DecodeError::Version { found: 9 })
    );
    let mut longer = proof.to_bytes();
    longer.push(0);
    assert!(matches!(
        ListProof::from_bytes(&longer),
        Err(DecodeError::Malformed(_))
    ));
}
