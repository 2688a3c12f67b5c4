//! A fault at every operation of a history.

use crate::double::{Double, Fault};
use crate::support::{GENESIS, extend, options, scripted, scripted_state, walked};
use slackline_store::{Store, StoreError};
use std::sync::Arc;

const HEIGHTS: u64 = 24;
const KEEP: u64 = 6;

/// Blocks up to [`HEIGHTS`], going back a few twice on the way, and pruning. `done` is told each height that was acknowledged.
fn play(store: &Store, done: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
    let mut rollbacks = vec![18, 9];
    loop {
        let next = store.head()?.map_or(0, |head| head.height + 1);
        if next > HEIGHTS {
            return store.prune(HEIGHTS - 2, |_| {});
        }
        if rollbacks.last() == Some(&next) {
            rollbacks.pop();
            store.rollback(next - 4, &mut *done)?;
            continue;
        }
        // A chain that was reopened does not go back again to where it was.
        rollbacks.retain(|&at| at > next);
        extend(store, &scripted(next), 3)?;
        done(next);
    }
}

fn check(store: &Store, height: u64) {
    let verified = store.verify(0, |_, _| {}).expect("clean");
    assert_eq!(verified.height, height);
    let state = walked(&store.snapshot().expect("readable"), false);
    assert_eq!(state, scripted_state(height));
    assert_eq!(store.genesis().expect("readable").as_deref(), Some(GENESIS));
    let (oldest, head) = store.window().expect("readable").expect("not empty");
    for height in oldest..=head {
        let past = store.snapshot_at(height).expect("within");
        assert_eq!(walked(&past, false), scripted_state(height));
        let (value, proof) = store.prove(b"height", height).expect("within");
        let root = store
            .block(height)
            .expect("readable")
            .expect("kept")
            .header
            .state_root;
        proof
            .verify(&root, b"height", value.as_deref())
            .expect("it is so");
    }
}

#[test]
fn after_a_fault_at_any_operation_the_store_is_at_the_last_block_or_the_next() {
    let whole = Double::default();
    let store = Store::on(Arc::new(whole.clone()), &options(KEEP)).expect("it is empty");
    play(&store, &mut |_| {}).expect("no faults");
    check(&store, HEIGHTS);
    assert!(whole.operations() > 2 * HEIGHTS as usize);

    for fault in [Fault::Fails, Fault::FailsButKeeps, Fault::Freezes] {
        for at in 1..=whole.operations() {
            let double = Double::new(Arc::default(), Some((at, fault)));
            let store = Store::on(Arc::new(double.clone()), &options(KEEP)).expect("it is empty");
            let mut acknowledged: Option<u64> = None;
            play(&store, &mut |height| acknowledged = Some(height)).expect_err("the fault");

            let reopened = Double::new(double.durable(), None);
            let store = Store::on(Arc::new(reopened), &options(KEEP)).expect("readable");
            match (store.head().expect("readable"), acknowledged) {
                (None, None) => {}
                (Some(head), acknowledged) => {
                    let apart =
                        acknowledged.map_or(head.height, |height| head.height.abs_diff(height));
                    assert!(
                        apart <= 1,
                        "operation {at}: {acknowledged:?}, then {}",
                        head.height
                    );
                    check(&store, head.height);
                }
                (None, Some(height)) => panic!("operation {at}: block {height} is lost"),
            }
            play(&store, &mut |_| {}).expect("no faults");
            check(&store, HEIGHTS);
        }
    }
}
