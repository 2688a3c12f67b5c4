//! The pool, case by case: what its documentation promises to those who call it.

use ed25519_dalek::SigningKey;
use slackline_mempool::{
    AccountView, Accounts, AdmissionError, BatchLimits, Candidate, Committed, DropReason, Journal,
    Limits, Mempool, Origin, Record, STARVED_LOOKS, Subpool, Verdict,
};
use slackline_types::{Action, Address, Hash, PublicKey, SignedTransaction, Transaction};
use std::collections::BTreeSet;
use std::sync::Arc;

type Pool = Mempool<u32, String>;

/// Everybody has the same.
struct Everybody(AccountView);

impl Accounts<String> for Everybody {
    fn account(&self, _: &Address) -> Result<AccountView, String> {
        Ok(self.0)
    }
}

struct Broken;

impl Accounts<String> for Broken {
    fn account(&self, _: &Address) -> Result<AccountView, String> {
        Err("disk on fire".to_owned())
    }
}

const RICH: Everybody = Everybody(AccountView {
    nonce: 0,
    balance: 1 << 100,
});
const ALL: BatchLimits = BatchLimits {
    fuel: u64::MAX,
    transactions: usize::MAX,
    bytes: usize::MAX,
};

fn transaction(sender: u32, nonce: u64, price: u64, tip: u64) -> Transaction {
    let mut key = [1; 32];
    key[..4].copy_from_slice(&sender.to_be_bytes());
    Transaction {
        chain_id: 1,
        sender: PublicKey(key),
        nonce,
        fuel_limit: 10,
        fuel_price: price,
        tip,
        deposit_limit: 0,
        action: Action::Transfer {
            to: Address([9; 32]),
            amount: 0,
        },
    }
}

/// Not signed: whoever makes a candidate has checked that.
fn candidate(sender: u32, nonce: u64, price: u64, tip: u64) -> Candidate {
    let signature = [0; 64];
    Candidate::new(
        SignedTransaction {
            transaction: transaction(sender, nonce, price, tip),
            signature,
        },
        100,
    )
}

fn add(pool: &mut Pool, sender: u32, nonce: u64, price: u64, tip: u64) -> Hash {
    let candidate = candidate(sender, nonce, price, tip);
    let hash = candidate.hash();
    pool.insert(candidate, Origin::Peer, &RICH)
        .expect("accepted");
    hash
}

fn hashes(batch: &[Arc<SignedTransaction>]) -> Vec<Hash> {
    batch.iter().map(|tx| tx.hash()).collect()
}

#[test]
fn the_best_price_comes_first_then_the_tip_then_arrival_and_nonces_in_order() {
    let mut pool = Pool::new(Limits::default(), 1, 10);
    let late = add(&mut pool, 1, 1, 99, 99);
    let a0 = add(&mut pool, 1, 0, 20, 1);
    let b = add(&mut pool, 2, 0, 20, 5);
    let c = add(&mut pool, 3, 0, 15, 5);
    let d = add(&mut pool, 4, 0, 15, 9);
    let e = add(&mut pool, 5, 0, 16, 5);
    // Effective prices at 10: a0 11, its successor 99, the others 15. Of these the higher tip, and then who came first.
    assert_eq!(hashes(&pool.take_batch(ALL)), [d, b, c, e, a0, late]);
    assert_eq!((pool.executing(), pool.has_waiting()), (6, false));
    pool.release();
    // With another base price it is another order: b and e at 17 and 16, c and d at 15, a0 at 13.
    let block = Committed {
        height: 2,
        base_price: 12,
        included: &[],
        refused: &[],
        senders: &[],
    };
    pool.on_block(&block, &RICH).expect("state");
    assert_eq!(hashes(&pool.take_batch(ALL)), [b, e, d, c, a0, late]);
}

#[test]
fn a_batch_keeps_to_its_limits_and_always_moves() {
    let mut pool = Pool::new(Limits::default(), 1, 1);
    let big = {
        let mut tx = transaction(1, 0, 9, 9);
        tx.fuel_limit = 1_000;
        let candidate = Candidate::new(
            SignedTransaction {
                transaction: tx,
                signature: [0; 64],
            },
            100,
        );
        let hash = candidate.hash();
        pool.insert(candidate, Origin::Peer, &RICH)
            .expect("accepted");
        hash
    };
    let small: Vec<Hash> = (2..6)
        .map(|sender| add(&mut pool, sender, 0, 5, 5))
        .collect();
    let first = add(&mut pool, 9, 0, 20, 20);
    // The big one does not fit after the first; the next senders do, two by the fuel, one by the bytes.
    assert_eq!(
        hashes(&pool.take_batch(BatchLimits { fuel: 30, ..ALL })),
        [first, small[0], small[1]]
    );
    assert_eq!(
        hashes(&pool.take_batch(BatchLimits { fuel: 30, ..ALL })),
        [big],
        "alone if need be"
    );
    assert_eq!(
        hashes(&pool.take_batch(BatchLimits { bytes: 150, ..ALL })),
        [small[2]]
    );
    assert!(
        pool.take_batch(BatchLimits {
            transactions: 0,
            ..ALL
        })
        .is_empty()
    );
    assert_eq!(
        hashes(&pool.take_batch(BatchLimits { bytes: 0, ..ALL })),
        [small[3]]
    );
}

#[test]
fn a_gap_is_queued_until_filled_and_limited() {
    let mut pool = Pool::new(
        Limits {
            nonce_gap: 2,
            ..Limits::default()
        },
        1,
        1,
    );
    let sender = candidate(1, 0, 5, 5).sender();
    let two = candidate(1, 2, 5, 5);
    let hash = two.hash();
    assert_eq!(
        pool.insert(two, Origin::Peer, &RICH)
            .expect("in the gap")
            .subpool,
        Subpool::Queued
    );
    assert!(!pool.has_waiting());
    let error = pool
        .insert(candidate(1, 3, 5, 5), Origin::Peer, &RICH)
        .expect_err("too far");
    assert!(
        matches!(
            error,
            AdmissionError::NonceGap {
                expected: 0,
                got: 3,
                limit: 2
            }
        ),
        "{error}"
    );
    assert_eq!(pool.next_nonce(&sender, 0), 0);
    let zero = add(&mut pool, 1, 0, 5, 5);
    assert_eq!(pool.next_nonce(&sender, 0), 1);
    assert_eq!(hashes(&pool.take_batch(ALL)), [zero]);
    let one = add(&mut pool, 1, 1, 5, 5);
    assert_eq!(hashes(&pool.take_batch(ALL)), [one, hash]);
    assert_eq!(pool.next_nonce(&sender, 0), 3);
    assert_eq!(pool.next_nonce(&sender, 7), 7);
    let before = pool.pending_before(&sender, 1, 5);
    assert_eq!(
        (before.count, before.cost),
        (4, 100),
        "as if the gap were filled, at the cost of what is there"
    );
}

#[test]
fn a_replacement_must_pay_more_and_come_in_time() {
    let mut pool = Pool::new(Limits::default(), 1, 1);
    let old = add(&mut pool, 1, 0, 95, 11);
    let ticket = pool.watch(&old).expect("there");
    for (price, tip) in [(104, 13), (105, 12), (95, 20)] {
        let error = pool
            .insert(candidate(1, 0, price, tip), Origin::Local, &RICH)
            .expect_err("not enough");
        assert!(
            matches!(error, AdmissionError::ReplacementUnderpriced { waiting, fuel_price: 105, tip: 13 } if waiting == old),
            "{error}"
        );
    }
    let accepted = pool
        .insert(candidate(1, 0, 105, 13), Origin::Peer, &RICH)
        .expect("10 percent more");
    assert_eq!(accepted.replaced, Some(old));
    let by = candidate(1, 0, 105, 13).hash();
    assert_eq!(
        *ticket.borrow(),
        Some(Verdict::Dropped(DropReason::Replaced { by }))
    );
    assert_eq!((pool.len(), pool.bytes()), (1, 100));
    pool.take_batch(ALL);
    let error = pool
        .insert(candidate(1, 0, 500, 500), Origin::Local, &RICH)
        .expect_err("in a block under way");
    assert!(
        matches!(error, AdmissionError::Executing { executing } if executing == by),
        "{error}"
    );
}

#[test]
fn a_replacement_raises_what_a_block_gets_for_it() {
    let mut pool = Pool::new(Limits::default(), 1, 10);
    let waiting = add(&mut pool, 1, 0, 100, 0);
    let error = pool
        .insert(candidate(1, 0, 200, 0), Origin::Local, &RICH)
        .expect_err("a block gets no more for it");
    assert!(
        matches!(error, AdmissionError::ReplacementUnderpriced { waiting: w, fuel_price: 110, tip: 1 } if w == waiting),
        "{error}"
    );
    let lowest = candidate(1, 0, 110, 1);
    pool.insert(lowest, Origin::Local, &RICH)
        .expect("as it was said");
}

#[test]
fn a_replacement_takes_no_money_from_those_behind_it_that_a_block_could_have() {
    let mut pool = Pool::new(Limits::default(), 1, 1);
    // Three of 60 each, and one behind a gap.
    let with = |balance| Everybody(AccountView { nonce: 0, balance });
    for nonce in [0, 1, 2, 4] {
        pool.insert(candidate(1, nonce, 6, 6), Origin::Peer, &with(300))
            .expect("room");
    }
    let dear = || candidate(1, 0, 18, 18);
    let error = pool
        .insert(dear(), Origin::Peer, &with(299))
        .expect_err("the third would have to wait for money");
    assert!(
        matches!(
            error,
            AdmissionError::InsufficientBalance {
                needed: 180,
                available: 179
            }
        ),
        "{error}"
    );
    assert_eq!((pool.stats().pending, pool.stats().queued), (3, 1));
    pool.insert(dear(), Origin::Peer, &with(300))
        .expect("enough for all three");
    assert_eq!((pool.stats().pending, pool.stats().queued), (3, 1));
    // What fills a gap may take the money of what was waiting for it.
    pool.insert(candidate(1, 3, 1, 1), Origin::Peer, &with(310))
        .expect("enough up to there");
    assert_eq!((pool.stats().pending, pool.stats().queued), (4, 1));
}

#[test]
fn eviction_takes_the_worst_with_what_hangs_on_it_and_nothing_better() {
    let limits = Limits {
        transactions: 4,
        ..Limits::default()
    };
    let mut pool = Pool::new(limits, 1, 1);
    assert_eq!(pool.minimum_price(100), Some(1));
    let a0 = add(&mut pool, 1, 0, 10, 10);
    // Nobody gets at the 99 without the 4 before it.
    let a1 = add(&mut pool, 1, 1, 4, 4);
    let a2 = add(&mut pool, 1, 2, 99, 99);
    let b = add(&mut pool, 2, 0, 7, 7);
    assert_eq!(pool.minimum_price(100), Some(5));
    let error = pool
        .insert(candidate(3, 0, 4, 4), Origin::Peer, &RICH)
        .expect_err("no better than the worst");
    assert!(
        matches!(
            error,
            AdmissionError::Full {
                transactions: 4,
                bytes: 400,
                minimum_price: Some(5)
            }
        ),
        "{error}"
    );
    let evicted = |pool: &mut Pool, sender, price| {
        pool.insert(candidate(sender, 0, price, price), Origin::Peer, &RICH)
            .expect("better")
            .evicted
    };
    let ticket = pool.watch(&a2).expect("there");
    assert_eq!(evicted(&mut pool, 3, 5), [a2], "from the end");
    let by = candidate(3, 0, 5, 5).hash();
    assert_eq!(
        *ticket.borrow(),
        Some(Verdict::Dropped(DropReason::Evicted { by, price: 5 }))
    );
    assert_eq!(evicted(&mut pool, 4, 6), [a1]);
    assert_eq!(evicted(&mut pool, 5, 20), [by]);
    assert_eq!(evicted(&mut pool, 6, 20), [candidate(4, 0, 6, 6).hash()]);
    assert_eq!(evicted(&mut pool, 7, 20), [b]);
    assert_eq!(evicted(&mut pool, 8, 20), [a0]);
    assert_eq!(pool.minimum_price(100), Some(21));
    // What is executing stays.
    pool.take_batch(ALL);
    assert_eq!(pool.minimum_price(100), None);
    let error = pool
        .insert(candidate(9, 0, 99, 99), Origin::Local, &RICH)
        .expect_err("no room");
    assert!(
        matches!(
            error,
            AdmissionError::Full {
                minimum_price: None,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_is_queued_leaves_before_what_a_block_can_have() {
    let mut pool = Pool::new(
        Limits {
            transactions: 2,
            ..Limits::default()
        },
        1,
        1,
    );
    let queued = add(&mut pool, 1, 1, 99, 99);
    add(&mut pool, 2, 0, 5, 5);
    assert_eq!(pool.minimum_price(100), Some(1));
    assert_eq!(
        pool.insert(candidate(3, 0, 1, 1), Origin::Peer, &RICH)
            .expect("better")
            .evicted,
        [queued]
    );
    let error = pool
        .insert(candidate(1, 1, 99, 99), Origin::Peer, &RICH)
        .expect_err("a gap");
    assert!(matches!(error, AdmissionError::Full { .. }), "{error}");
}

#[test]
fn local_ones_are_safe_within_their_limit() {
    let mut pool = Pool::new(
        Limits {
            transactions: 3,
            local: 1,
            ..Limits::default()
        },
        1,
        1,
    );
    for sender in 1..4 {
        pool.insert(candidate(sender, 0, 5, 5), Origin::Local, &RICH)
            .expect("room");
    }
    assert_eq!(pool.stats().favoured, 1);
    let evicted: Vec<Hash> = (4..6)
        .flat_map(|sender| {
            pool.insert(candidate(sender, 0, 6, 6), Origin::Peer, &RICH)
                .expect("better")
                .evicted
        })
        .collect();
    // Of equal ones the latest first.
    assert_eq!(
        evicted,
        [candidate(3, 0, 5, 5).hash(), candidate(2, 0, 5, 5).hash()]
    );
    assert!(pool.get(&candidate(1, 0, 5, 5).hash()).is_some());
}

/// Of that many bytes, by a client.
fn local(sender: u32, nonce: u64, price: u64, bytes: usize) -> Candidate {
    let signed = candidate(sender, nonce, price, price).transaction().clone();
    Candidate::new(signed, bytes)
}

#[test]
fn local_ones_that_no_block_can_have_are_not_kept_for_their_sender() {
    let limits = Limits {
        transactions: 64,
        bytes: 6_400,
        ..Limits::default()
    };
    let mut pool = Pool::new(limits, 1, 1);
    // The first nonce never comes. The other ones do, the last first, so that the money for one is enough.
    for nonce in (1..=64).rev() {
        let queued = pool.insert(local(1, nonce, 99, 100), Origin::Local, &RICH);
        assert_eq!(queued.expect("room").subpool, Subpool::Queued);
    }
    assert_eq!(pool.stats().favoured, 0);
    assert_eq!(pool.minimum_price(100), Some(1));
    // Whoever pays anything gets in, and gets out only those.
    for sender in 2..=65 {
        let accepted = pool
            .insert(candidate(sender, 0, 1, 1), Origin::Peer, &RICH)
            .expect("better");
        assert_eq!(accepted.evicted.len(), 1);
    }
    assert_eq!((pool.stats().pending, pool.stats().queued), (64, 0));
}

#[test]
fn what_is_kept_for_clients_has_few_bytes_and_keeps_nothing_else() {
    let limits = Limits {
        bytes: 8_000,
        ..Limits::default()
    };
    let mut pool = Pool::new(limits, 1, 1);
    let mut insert = |candidate: Candidate, origin| {
        let favoured = pool.stats().favoured;
        pool.insert(candidate, origin, &RICH).expect("room");
        pool.stats().favoured > favoured
    };
    // An eighth of the bytes.
    assert!(insert(local(1, 0, 2, 500), Origin::Local));
    assert!(!insert(local(2, 0, 2, 501), Origin::Local));
    assert!(insert(local(3, 0, 2, 100), Origin::Local));
    // None before it may be one that is not kept.
    assert!(!insert(local(4, 0, 2, 6_000), Origin::Peer));
    assert!(!insert(local(4, 1, 2, 100), Origin::Local));
    assert!(insert(local(3, 1, 2, 400), Origin::Local));
    let accepted = pool
        .insert(local(5, 0, 3, 6_999), Origin::Peer, &RICH)
        .expect("better");
    let evicted = [local(4, 1, 2, 0), local(4, 0, 2, 0), local(2, 0, 2, 0)];
    assert_eq!(accepted.evicted, evicted.map(|candidate| candidate.hash()));
    // A larger one in its place is not kept any more, nor is the one behind it.
    let larger = local(3, 0, 20, 101);
    let hash = larger.hash();
    pool.insert(larger, Origin::Local, &RICH).expect("replaced");
    assert_eq!(pool.stats().favoured, 2);
    let accepted = pool
        .insert(local(6, 0, 99, 500), Origin::Peer, &RICH)
        .expect("better");
    let (last, peers) = (local(3, 1, 2, 0).hash(), local(5, 0, 3, 0).hash());
    assert_eq!(accepted.evicted, [last, peers]);
    assert!(pool.get(&hash).is_some());
}

#[test]
fn a_block_settles_and_what_cannot_be_applied_leaves_with_the_reason() {
    let mut pool = Pool::new(
        Limits {
            expiry_blocks: 2,
            ..Limits::default()
        },
        1,
        1,
    );
    let included = add(&mut pool, 1, 0, 9, 9);
    let refused = add(&mut pool, 2, 0, 9, 9);
    let after = add(&mut pool, 2, 1, 9, 9);
    let used = add(&mut pool, 3, 0, 8, 8);
    let poor = add(&mut pool, 3, 1, 1_000, 8);
    let cheap = add(&mut pool, 4, 0, 4, 4);
    let all = [included, refused, after, used, poor, cheap];
    let tickets = all.map(|hash| pool.watch(&hash).expect("there"));
    pool.take_batch(BatchLimits {
        transactions: 2,
        ..ALL
    });
    pool.take_batch(BatchLimits {
        transactions: 1,
        ..ALL
    });
    struct State;
    impl Accounts<String> for State {
        fn account(&self, address: &Address) -> Result<AccountView, String> {
            let used = [1, 3]
                .map(|sender| candidate(sender, 0, 9, 9).sender())
                .contains(address);
            Ok(AccountView {
                nonce: used.into(),
                balance: 100,
            })
        }
    }
    let senders = [1, 3].map(|sender| candidate(sender, 0, 1, 1).sender());
    let (ok, bad) = (
        [(included, Arc::new(7))],
        [(refused, Arc::new("no".to_owned()))],
    );
    let mut block = Committed {
        height: 2,
        base_price: 5,
        included: &ok,
        refused: &bad,
        senders: &senders,
    };
    assert_eq!(
        pool.on_block(&block, &Broken).expect_err("no state"),
        "disk on fire"
    );
    assert_eq!(pool.len(), 6, "nothing has changed");
    let settled = pool.on_block(&block, &State).expect("state");
    assert_eq!((settled.included, settled.dropped.len()), (1, 4));
    let said: Vec<_> = tickets
        .iter()
        .map(|ticket| ticket.borrow().clone())
        .collect();
    assert_eq!(
        said,
        [
            Some(Verdict::Included(Arc::new(7))),
            Some(Verdict::Dropped(DropReason::Refused(Arc::new(
                "no".to_owned()
            )))),
            None,
            Some(Verdict::Dropped(DropReason::NonceUsed {
                expected: 1,
                got: 0
            })),
            Some(Verdict::Dropped(DropReason::InsufficientBalance {
                needed: 10_000,
                available: 100
            })),
            Some(Verdict::Dropped(DropReason::FuelPriceTooLow {
                base_price: 5,
                got: 4
            })),
        ]
    );
    // The one after the refused one was executing; released, it waits for a new one in front of it.
    assert!(pool.release().is_empty());
    assert_eq!((pool.stats().queued, pool.has_waiting()), (1, false));
    (block.height, block.included, block.refused, block.senders) = (3, &[], &[], &[]);
    let settled = pool.on_block(&block, &State).expect("state");
    assert_eq!(
        settled.dropped,
        [(after, DropReason::Expired { height: 3 })]
    );
    assert!(pool.is_empty() && pool.bytes() == 0);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    use AdmissionError::*;
    let limits = Limits {
        sender_transactions: 1,
        nonce_gap: 1,
        ..Limits::default()
    };
    let mut pool = Pool::new(limits, 5, 2);
    let mut refused = |nonce: u64, price: u64, accounts: &dyn Accounts<String>| {
        let tx = candidate_of(nonce, price);
        pool.insert(tx, Origin::Peer, accounts)
            .expect_err("refused")
    };
    let used = Everybody(AccountView {
        nonce: 1,
        balance: 1 << 100,
    });
    let poor = Everybody(AccountView {
        nonce: 0,
        balance: 19,
    });
    let error = refused(0, 1, &RICH);
    assert!(
        matches!(
            error,
            FuelPriceTooLow {
                base_price: 2,
                got: 1
            }
        ),
        "{error}"
    );
    let error = refused(0, 2, &Broken);
    assert!(matches!(error, State(_)), "{error}");
    let error = refused(0, 2, &used);
    assert!(
        matches!(
            error,
            NonceUsed {
                expected: 1,
                got: 0
            }
        ),
        "{error}"
    );
    let error = refused(2, 2, &RICH);
    assert!(matches!(error, NonceGap { got: 2, .. }), "{error}");
    let error = refused(0, 2, &poor);
    assert!(
        matches!(error, InsufficientBalance { available: 19, .. }),
        "{error}"
    );
    pool.insert(candidate_of(0, 2), Origin::Peer, &RICH)
        .expect("accepted");
    let mut refused = |nonce: u64, price: u64| {
        pool.insert(candidate_of(nonce, price), Origin::Peer, &RICH)
            .expect_err("refused")
    };
    let error = refused(0, 2);
    assert!(matches!(error, Known), "{error}");
    let error = refused(0, 3);
    assert!(matches!(error, ReplacementUnderpriced { .. }), "{error}");
    let error = refused(1, 2);
    assert!(
        matches!(
            error,
            SenderFull {
                transactions: 1,
                ..
            }
        ),
        "{error}"
    );
    let error = pool
        .insert(candidate_of(0, 9).expiring(5), Origin::Local, &RICH)
        .expect_err("expired");
    assert!(
        matches!(
            error,
            Expired {
                expired: 5,
                height: 5
            }
        ),
        "{error}"
    );
}

/// With a tip of 0 a bump of 10 percent of 2 is a price of 3; the tip keeps that out.
fn candidate_of(nonce: u64, price: u64) -> Candidate {
    candidate(1, nonce, price, 9 - price)
}

#[test]
fn a_restart_brings_back_what_still_fits() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("mempool.journal");
    let candidate_from = |bytes: &[u8]| {
        let signed = borsh::from_slice(bytes).expect("a transaction");
        Candidate::new(signed, bytes.len())
    };
    let (mut journal, _) = Journal::open(&path, 1 << 20).expect("opened");
    let mut pool = Pool::new(
        Limits {
            expiry_blocks: 10,
            ..Limits::default()
        },
        1,
        1,
    );
    let mut all = Vec::new();
    for (seed, nonce) in [(1, 0), (1, 1), (2, 0), (3, 0)] {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let mut tx = transaction(0, nonce, u64::from(seed) + 5, 9);
        tx.sender = PublicKey(key.verifying_key().to_bytes());
        let bytes = borsh::to_vec(&tx.sign(&key)).expect("encoded");
        let candidate = candidate_from(&bytes);
        let hash = candidate.hash();
        pool.insert(candidate, Origin::Local, &RICH)
            .expect("accepted");
        let expires = if seed == 3 {
            2
        } else {
            pool.expires(&hash).expect("there")
        };
        assert!(
            journal
                .append(&Record {
                    origin: Origin::Local,
                    expires,
                    bytes
                })
                .expect("written")
        );
        all.push(hash);
    }
    drop((journal, pool));
    // Meanwhile there were blocks: the first sender's first nonce is used, and the last transaction has expired.
    let (mut journal, recovered) = Journal::open(&path, 1 << 20).expect("opened");
    let mut pool = Pool::new(
        Limits {
            expiry_blocks: 10,
            ..Limits::default()
        },
        4,
        1,
    );
    struct State(Address);
    impl Accounts<String> for State {
        fn account(&self, address: &Address) -> Result<AccountView, String> {
            Ok(AccountView {
                nonce: (*address == self.0).into(),
                balance: 1 << 90,
            })
        }
    }
    let first = candidate_from(&recovered.records[0].bytes).sender();
    let accounts = State(first);
    let refusals: Vec<_> = recovered
        .records
        .iter()
        .map(|record| {
            let candidate = candidate_from(&record.bytes).expiring(record.expires);
            pool.insert(candidate, record.origin, &accounts).err()
        })
        .collect();
    assert!(
        matches!(
            &refusals[..],
            [
                Some(AdmissionError::NonceUsed { .. }),
                None,
                None,
                Some(AdmissionError::Expired { .. })
            ]
        ),
        "{refusals:?}"
    );
    assert_eq!(hashes(&pool.take_batch(ALL)), [all[2], all[1]]);
    assert_eq!(
        pool.expires(&all[1]),
        Some(11),
        "it does not wait for longer because of the restart"
    );
    let live = pool.iter().map(|(tx, origin, expires)| Record {
        origin,
        expires,
        bytes: borsh::to_vec(&*tx).expect("encoded"),
    });
    assert_eq!(journal.compact(live).expect("written"), 2);
    let (_, recovered) = Journal::open(&path, 1 << 20).expect("opened");
    let kept: Vec<Hash> = recovered
        .records
        .iter()
        .map(|record| candidate_from(&record.bytes).hash())
        .collect();
    assert_eq!(kept, [all[1], all[2]]);
}

/// In debug mode, with everything O(n) in insertion this would take hours rather than a second. Says what it took.
#[test]
fn a_hundred_thousand_transactions() {
    const N: u32 = 100_000;
    let limits = Limits {
        transactions: N as usize,
        ..Limits::default()
    };
    let mut pool = Pool::new(limits, 1, 10);
    let mut candidates: Vec<Candidate> = (0..N)
        .map(|n| {
            candidate(
                n / 4,
                u64::from(n % 4),
                10 + u64::from(n * 7919 % 1000),
                500,
            )
        })
        .collect();
    // Full already, and each of these pushes one out.
    candidates.extend((0..N / 10).map(|n| candidate(N + n, 0, 5_000, 4_000)));
    let mut clock = std::time::Instant::now();
    let mut lap = |what: &str| {
        println!("{what}: {:?}", clock.elapsed());
        clock = std::time::Instant::now();
    };
    for candidate in candidates.drain(..) {
        pool.insert(candidate, Origin::Peer, &RICH)
            .expect("accepted");
    }
    lap("110,000 insertions, 10,000 with eviction");
    let batch = pool.take_batch(BatchLimits {
        transactions: 10_000,
        ..ALL
    });
    lap("a batch of 10,000");
    let included: Vec<_> = batch.iter().map(|tx| (tx.hash(), Arc::new(1))).collect();
    let senders: Vec<Address> = batch
        .iter()
        .map(|tx| tx.transaction.sender_address())
        .collect();
    lap("hashes");
    struct Next;
    impl Accounts<String> for Next {
        fn account(&self, _: &Address) -> Result<AccountView, String> {
            Ok(AccountView {
                nonce: 1,
                balance: 1 << 100,
            })
        }
    }
    let mut block = Committed {
        height: 2,
        base_price: 10,
        included: &included,
        refused: &[],
        senders: &senders,
    };
    let settled = pool.on_block(&block, &Next).expect("state");
    lap("its block");
    assert_eq!(
        (settled.included, settled.dropped.len(), pool.len()),
        (10_000, 0, 90_000)
    );
    (
        block.height,
        block.base_price,
        block.included,
        block.senders,
    ) = (3, 11, &[], &[]);
    let settled = pool.on_block(&block, &Next).expect("state");
    lap("a block with another base price");
    assert_eq!(pool.len() + settled.dropped.len(), 90_000);
}

#[test]
fn who_gets_money_can_go_on() {
    let mut pool = Pool::new(Limits::default(), 1, 1);
    let poor = Everybody(AccountView {
        nonce: 0,
        balance: 100,
    });
    // Each costs 60; the second came first, and alone it could be paid for.
    for (nonce, subpool) in [(1, Subpool::Queued), (0, Subpool::Pending)] {
        let accepted = pool
            .insert(candidate(1, nonce, 6, 6), Origin::Peer, &poor)
            .expect("paid for");
        assert_eq!(accepted.subpool, subpool);
    }
    assert_eq!((pool.stats().pending, pool.stats().queued), (1, 1));
    let richer = Everybody(AccountView {
        nonce: 0,
        balance: 120,
    });
    // A block with nothing from the sender: somebody sent it money.
    let block = Committed {
        height: 2,
        base_price: 1,
        included: &[],
        refused: &[],
        senders: &[],
    };
    pool.on_block(&block, &richer).expect("state");
    assert_eq!((pool.stats().pending, pool.stats().queued), (2, 0));
    assert_eq!(pool.take_batch(ALL).len(), 2);
}

#[test]
fn a_block_looks_at_few_of_those_who_have_no_money_and_at_all_in_turn() {
    use std::cell::RefCell;
    struct Counting(RefCell<Vec<Address>>, u128);
    impl Accounts<String> for Counting {
        fn account(&self, address: &Address) -> Result<AccountView, String> {
            self.0.borrow_mut().push(*address);
            Ok(AccountView {
                nonce: 0,
                balance: self.1,
            })
        }
    }
    let senders = STARVED_LOOKS as u32 + 50;
    let mut pool = Pool::new(Limits::default(), 1, 1);
    let poor = Counting(RefCell::default(), 60);
    for sender in 0..senders {
        // The second takes all the money that there is. That behind a gap gets no look at all.
        for nonce in [1, 0] {
            pool.insert(candidate(sender, nonce, 6, 6), Origin::Peer, &poor)
                .expect("paid for");
        }
        for nonce in [2, 1] {
            pool.insert(
                candidate(senders + sender, nonce, 6, 6),
                Origin::Peer,
                &poor,
            )
            .expect("paid for");
        }
    }
    assert_eq!(pool.stats().pending, senders as usize);
    poor.0.take();
    let mut block = Committed {
        height: 2,
        base_price: 1,
        included: &[],
        refused: &[],
        senders: &[],
    };
    let mut seen = BTreeSet::new();
    for height in 2..4 {
        block.height = height;
        pool.on_block(&block, &poor).expect("state");
        let looks = poor.0.take();
        assert_eq!(looks.len(), STARVED_LOOKS);
        seen.extend(looks);
    }
    assert_eq!(seen.len(), senders as usize);
    let rich = Counting(RefCell::default(), 120);
    for height in 4..6 {
        block.height = height;
        pool.on_block(&block, &rich).expect("state");
    }
    assert_eq!(rich.0.take().len(), senders as usize);
    assert_eq!(pool.stats().pending, 2 * senders as usize);
}

#[test]
fn what_is_in_a_block_that_the_pool_was_not_told_of_waits_for_its_verdict() {
    let limits = Limits {
        transactions: 2,
        expiry_blocks: 1,
        ..Limits::default()
    };
    let mut pool = Pool::new(limits, 1, 1);
    let zero = add(&mut pool, 1, 0, 2, 2);
    let ticket = pool.watch(&zero).expect("there");
    // Another node's block with it is in the state.
    let after = Everybody(AccountView {
        nonce: 1,
        balance: 1_000,
    });
    let one = candidate(1, 1, 9, 9);
    let sender = one.sender();
    assert_eq!(
        pool.insert(one, Origin::Peer, &after)
            .expect("the next")
            .subpool,
        Subpool::Pending
    );
    let error = pool
        .insert(candidate(1, 0, 9, 9), Origin::Peer, &after)
        .expect_err("used");
    assert!(
        matches!(
            error,
            AdmissionError::NonceUsed {
                expected: 2,
                got: 0
            }
        ),
        "{error}"
    );
    // Neither this, nor being of little worth, nor its age drops it.
    assert_eq!(pool.take_batch(ALL).len(), 1, "it is not taken again");
    assert!(pool.release().is_empty());
    pool.insert(candidate(2, 0, 9, 9), Origin::Peer, &RICH)
        .expect_err("no room: the last of the sender is better");
    let included = [(zero, Arc::new(7))];
    let block = Committed {
        height: 2,
        base_price: 1,
        included: &included,
        refused: &[],
        senders: &[sender],
    };
    let settled = pool.on_block(&block, &after).expect("state");
    assert_eq!(
        (settled.included, settled.dropped.len()),
        (1, 1),
        "the other has expired"
    );
    assert_eq!(*ticket.borrow(), Some(Verdict::Included(Arc::new(7))));
}

/// A block without transactions.
fn next_block(pool: &mut Pool) {
    let block = Committed {
        height: pool.height() + 1,
        base_price: pool.base_price(),
        included: &[],
        refused: &[],
        senders: &[],
    };
    pool.on_block(&block, &RICH).expect("state");
}

#[test]
fn local_ones_that_wait_are_sent_again_the_oldest_first_and_no_more_than_asked() {
    let mut pool = Pool::new(Limits::default(), 1, 1);
    let local = |pool: &mut Pool, sender, nonce| {
        let candidate = candidate(sender, nonce, 5, 5);
        let hash = candidate.hash();
        pool.insert(candidate, Origin::Local, &RICH).expect("room");
        hash
    };
    let resend = |pool: &mut Pool, count| hashes(&pool.resend(3, count, 1 << 20));
    let [a, b, c] = [1, 2, 3].map(|sender| local(&mut pool, sender, 0));
    let gapped = local(&mut pool, 4, 1);
    add(&mut pool, 5, 0, 5, 5);
    // Never sent, as after a start. What came from a peer is not this node's to send, what is behind a gap would be refused elsewhere.
    assert_eq!(resend(&mut pool, 2), [a, b]);
    assert_eq!(resend(&mut pool, 9), [c]);
    assert!(resend(&mut pool, 9).is_empty());
    for _ in 0..2 {
        next_block(&mut pool);
        assert!(resend(&mut pool, 9).is_empty());
    }
    // One more was sent just now, and one could not be.
    let (d, e) = (local(&mut pool, 6, 0), local(&mut pool, 7, 0));
    pool.mark_sent(&d);
    pool.mark_sent(&e);
    pool.mark_unsent(&e);
    let zero = local(&mut pool, 4, 0);
    pool.mark_sent(&zero);
    next_block(&mut pool);
    assert_eq!(resend(&mut pool, 2), [e, a]);
    assert_eq!(hashes(&pool.resend(3, 9, 150)), [b]);
    assert_eq!(hashes(&pool.resend(3, 9, 0)), [c], "one at least");
    assert_eq!(resend(&mut pool, 9), [gapped]);
    // What a batch has taken is not sent, and what a client has brought after a peer is.
    pool.take_batch(ALL);
    next_block(&mut pool);
    next_block(&mut pool);
    assert!(resend(&mut pool, 9).is_empty());
    pool.release();
    let peers = candidate(5, 0, 5, 5).hash();
    pool.adopt(&peers);
    for _ in 0..3 {
        next_block(&mut pool);
    }
    let again = resend(&mut pool, 9);
    assert_eq!(again.len(), 8);
    assert!(again.contains(&peers));
    // Nothing is left of those that are gone.
    for hash in again {
        pool.settle(&hash, Verdict::Included(Arc::new(1)));
    }
    for _ in 0..3 {
        next_block(&mut pool);
    }
    assert!(resend(&mut pool, 9).is_empty() && pool.is_empty());
}

#[test]
fn what_was_sent_or_came_lately_is_not_stale() {
    let mut pool = Pool::new(Limits::default(), 1, 1);
    let hash = add(&mut pool, 1, 0, 5, 5);
    let gapped = add(&mut pool, 2, 1, 5, 5);
    assert_eq!(pool.stale(&hash, 2), None);
    next_block(&mut pool);
    next_block(&mut pool);
    assert_eq!(pool.stale(&hash, 2), Some(100));
    assert_eq!(pool.stale(&gapped, 2), None);
    pool.mark_sent(&hash);
    assert_eq!(pool.stale(&hash, 2), None);
}
