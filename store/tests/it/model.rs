//! Any history of writes, against maps.

use crate::double::Double;
use crate::support::{State, applied, extend, options, walked};
use proptest::prelude::*;
use slackline_store::backend::Backend;
use slackline_store::{Rocks, Store, StoreError, Value, Writes};
use std::sync::Arc;

fn key() -> impl Strategy<Value = Vec<u8>> {
    (
        prop::sample::select(vec![0usize, 5, 33]),
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 254, 255]), 0..3),
    )
        .prop_map(|(prefix, own)| [vec![b's'; prefix], own].concat())
}

fn writes() -> impl Strategy<Value = Writes> {
    let value = prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::from);
    prop::collection::btree_map(key(), prop::option::weighted(0.7, value), 0..8)
}

/// Makes the blocks, keeping `keep` heights, and checks all that can be read after each.
fn check(backend: Arc<dyn Backend>, blocks: &[Writes], keep: u64, back: usize) {
    let store = Store::on(backend, &options(keep)).expect("it is empty");
    let mut states: Vec<State> = Vec::new();
    let mut headers = Vec::new();
    let make = |states: &mut Vec<State>, headers: &mut Vec<_>, writes: &Writes| {
        let before = states.last().cloned().unwrap_or_default();
        states.push(applied(&before, writes));
        headers.push(extend(&store, writes, 4).expect("it can be written"));
        check_reads(&store, states, headers, keep);
    };
    for writes in blocks {
        make(&mut states, &mut headers, writes);
    }
    let head = states.len() as u64 - 1;
    let (oldest, _) = store.window().expect("readable").expect("not empty");
    let to = head.saturating_sub(back as u64).max(oldest);
    store.rollback(to, |_| {}).expect("within the window");
    states.truncate(to as usize + 1);
    headers.truncate(to as usize + 1);
    assert_eq!(store.head().expect("readable").as_ref(), headers.last());
    store.verify(0, |_, _| {}).expect("clean");
    for writes in blocks {
        make(&mut states, &mut headers, writes);
    }
}

fn check_reads(store: &Store, states: &[State], headers: &[slackline_types::Header], keep: u64) {
    let head = states.len() as u64 - 1;
    let verified = store.verify(0, |_, _| {}).expect("clean");
    assert_eq!(
        (verified.height, verified.keys),
        (head, states[head as usize].len() as u64)
    );
    let (oldest, _) = store.window().expect("readable").expect("not empty");
    assert!(oldest >= head.saturating_sub(keep));
    for height in 0..head + 2 {
        if height < oldest || height > head {
            let error = store.snapshot_at(height).expect_err("outside");
            assert!(matches!(error, StoreError::OutsideWindow { .. }), "{error}");
            store.prove(b"any", height).expect_err("outside");
            continue;
        }
        let state = &states[height as usize];
        let snapshot = store.snapshot_at(height).expect("within");
        assert_eq!(walked(&snapshot, false), *state, "at {height} of {head}");
        assert_eq!(walked(&snapshot, true), *state, "at {height} of {head}");
        let absent = vec![b"absent".to_vec()];
        for key in state.keys().chain(&absent).take(5) {
            let (value, proof) = store.prove(key, height).expect("within");
            assert_eq!(value.as_ref(), state.get(key));
            proof
                .verify(&headers[height as usize].state_root, key, value.as_deref())
                .expect("it is so");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_kept_height_reads_as_it_was(
        blocks in prop::collection::vec(writes(), 1..8),
        keep in 1..6u64,
        back in 0..6usize,
    ) {
        check(Arc::new(Double::default()), &blocks, keep, back);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn every_kept_height_reads_as_it_was_on_rocksdb(
        blocks in prop::collection::vec(writes(), 1..6),
        keep in 1..6u64,
        back in 0..6usize,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let rocks = Rocks::open(dir.path(), &options(keep)).expect("it is empty");
        check(Arc::new(rocks), &blocks, keep, back);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Root, nodes and what is stale: from a handful of keys, where the root is a leaf or missing, to some hundreds.
    #[test]
    fn a_tree_made_by_subtrees_is_the_same(
        blocks in prop::collection::vec(
            prop::collection::btree_map(0..600u16, prop::option::weighted(0.6, any::<u8>()), 0..400),
            1..8,
        ),
    ) {
        let store = Store::on(Arc::new(Double::default()), &options(2)).expect("it is empty");
        for (changes, height) in blocks.into_iter().zip(0..) {
            let key = |key: u16| [&[b's'; 33], &key.to_be_bytes()[..]].concat();
            let changes = changes.into_iter();
            let writes: Writes = changes
                .map(|(n, value)| (key(n), value.map(|value| Value::from([value]))))
                .collect();
            let in_order = store.update(height, &writes).expect("it can be read");
            let in_parallel = store.update_in_parallel(height, &writes).expect("it can be read");
            prop_assert_eq!(in_order, in_parallel);
            extend(&store, &writes, 0).expect("it can be written");
        }
    }
}
