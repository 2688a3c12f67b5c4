//! Stores made of parts of others.

use crate::double::{Double, Image};
use crate::support::{GENESIS, extend, options, scripted, scripted_state, walked};
use slackline_store::transfer::{Import, Part};
use slackline_store::{Store, StoreError};
use slackline_types::Hash;
use std::sync::Arc;

const LAST: u64 = 12;

fn source() -> Store {
    let backend = Arc::new(Double::new(Image::default(), None));
    let store = Store::on(backend, &options(5)).expect("empty");
    for height in 0..=LAST {
        let count = if height == 0 { 0 } else { 3 };
        extend(&store, &scripted(height), count).expect("it can be written");
    }
    store
}

/// What `import` makes of the store's parts, `spoil`t.
fn made(from: &Store, spoil: impl Fn(&mut Part)) -> (Arc<Double>, Result<(), StoreError>) {
    let backend = Arc::new(Double::new(Image::default(), None));
    let import = Import::new(backend.clone());
    let genesis = from.block(0).expect("readable").expect("there is one");
    import.genesis(&genesis).expect("written");
    let mut export = from.export().expect("readable");
    let head = export.head().clone();
    while let Some(mut part) = export.next_part().expect("readable") {
        spoil(&mut part);
        let written = match part {
            Part::Blocks(blocks) => import.blocks(&blocks),
            Part::State(entries) => import.state(&entries),
        };
        written.expect("written");
    }
    let code = (0..=LAST).filter_map(|height| {
        let hash = Hash([height as u8; 32]);
        Some((hash, from.code(&hash).expect("readable")?))
    });
    import.code(&code.collect::<Vec<_>>()).expect("written");
    let finished = import.finish(GENESIS, &head, || Ok::<_, StoreError>(()));
    (backend, finished)
}

#[test]
fn a_store_made_of_parts_answers_and_goes_on_as_the_first() {
    let first = source();
    let (backend, finished) = made(&first, |_| {});
    finished.expect("the state is right");
    let second = Store::on(backend, &options(5)).expect("a store");
    second.verify(0, |_, _| {}).expect("clean");
    for height in 0..=LAST {
        let read = |store: &Store| {
            let block = store.block(height).expect("readable");
            let receipts = store.receipts(height).expect("readable");
            let certificate = store.certificate(height).expect("readable");
            let code = store.code(&Hash([height as u8; 32])).expect("readable");
            let hash = receipts.first().map(|receipt| receipt.transaction);
            let found = hash.map(|hash| store.transaction(&hash).expect("readable"));
            (block, receipts, certificate, code, found)
        };
        assert_eq!(read(&first), read(&second), "height {height}");
    }
    assert_eq!(second.window().expect("readable"), Some((LAST, LAST)));
    assert_eq!(
        second.genesis().expect("readable").as_deref(),
        Some(GENESIS)
    );
    // Long enough for what is not there to leave the window.
    for height in LAST + 1..LAST + 20 {
        let headers = [&first, &second].map(|store| extend(store, &scripted(height), 3));
        let [a, b] = headers.map(|header| header.expect("it can be written"));
        assert_eq!(a, b);
    }
    let last = second.verify(0, |_, _| {}).expect("clean").height;
    let state = walked(&second.snapshot().expect("readable"), false);
    assert_eq!(state, scripted_state(last));
    second.rollback(last - 4, |_| {}).expect("in the window");
    second.verify(0, |_, _| {}).expect("clean");
}

#[test]
fn a_state_that_is_not_the_headers_makes_no_store() {
    let (backend, finished) = made(&source(), |part| {
        if let Part::State(entries) = part {
            entries.pop();
        }
    });
    assert!(
        matches!(finished, Err(StoreError::Damaged(_))),
        "{finished:?}"
    );
    let store = Store::on(backend, &options(5)).expect("no schema");
    assert_eq!(store.head().expect("readable"), None);
}
