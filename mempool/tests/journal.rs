//! The journal: what comes back after cuts and damage, and what a process that is killed leaves.

use proptest::prelude::*;
use slackline_mempool::{Journal, JournalError, Origin, Record};
use slackline_types::{Action, Address, Hash, PublicKey, SignedTransaction, Transaction};
use std::fs;
use std::path::PathBuf;

fn record(n: u8, size: usize) -> Record {
    let origin = if n.is_multiple_of(2) {
        Origin::Local
    } else {
        Origin::Peer
    };
    Record {
        origin,
        expires: 1 << n,
        bytes: vec![n; size],
    }
}

fn filled(directory: &tempfile::TempDir, records: &[Record]) -> PathBuf {
    let path = directory.path().join("mempool.journal");
    let (mut journal, recovered) = Journal::open(&path, 1 << 20).expect("opened");
    assert!(recovered.records.is_empty() && recovered.cut == 0);
    for record in records {
        assert!(journal.append(record).expect("written"));
    }
    assert_eq!(journal.bytes(), fs::metadata(&path).expect("there").len());
    path
}

#[test]
fn cut_at_every_byte_it_returns_the_whole_records_before_and_goes_on() {
    let directory = tempfile::tempdir().expect("directory");
    let records: Vec<Record> = [0, 1, 7, 30]
        .into_iter()
        .zip(0..)
        .map(|(size, n)| record(n, size))
        .collect();
    let path = filled(&directory, &records);
    let whole = fs::read(&path).expect("read");
    let ends: Vec<usize> = records
        .iter()
        .scan(8, |end, record| {
            *end += 8 + 9 + record.bytes.len();
            Some(*end)
        })
        .collect();
    assert_eq!(ends.last(), Some(&whole.len()));
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).expect("written");
        let (mut journal, recovered) = Journal::open(&path, 1 << 20).expect("opened");
        let kept = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(recovered.records, records[..kept], "cut at {cut}");
        let start = if kept > 0 {
            ends[kept - 1]
        } else if cut < 8 {
            0
        } else {
            8
        };
        assert_eq!(recovered.cut, (cut - start) as u64, "cut at {cut}");
        // What is written next comes back, with what was before.
        let next = record(9, 11);
        assert!(journal.append(&next).expect("written"));
        drop(journal);
        let (_, recovered) = Journal::open(&path, 1 << 20).expect("opened");
        assert_eq!(recovered.cut, 0);
        assert_eq!(
            recovered.records.split_last(),
            Some((&next, &records[..kept])),
            "cut at {cut}"
        );
    }
}

#[test]
fn every_flipped_bit_ends_the_prefix_where_it_is() {
    let directory = tempfile::tempdir().expect("directory");
    let records: Vec<Record> = (0..4).map(|n| record(n, 5)).collect();
    let path = filled(&directory, &records);
    let whole = fs::read(&path).expect("read");
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).expect("written");
        match Journal::open(&path, 1 << 20) {
            Err(JournalError::Foreign(_)) => {
                assert!(bit < 64, "bit {bit}");
                assert_eq!(
                    fs::read(&path).expect("read"),
                    bytes,
                    "another's file is not touched"
                );
            }
            Ok((_, recovered)) => {
                let kept = (bit / 8 - 8) / 22;
                assert_eq!(recovered.records, records[..kept], "bit {bit}");
            }
            Err(error) => panic!("bit {bit}: {error}"),
        }
    }
}

#[test]
fn it_does_not_outgrow_its_limit_and_compacts() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal");
    // Room for the magic number and three records of 22 bytes.
    let (mut journal, _) = Journal::open(&path, 8 + 3 * 22).expect("opened");
    for n in 0..3 {
        assert!(journal.append(&record(n, 5)).expect("written"));
    }
    assert!(!journal.append(&record(3, 5)).expect("no error"));
    assert!(!journal.append(&record(3, 1000)).expect("no error"));
    assert_eq!(journal.compact([record(2, 5)]).expect("written"), 1);
    assert!(journal.append(&record(4, 5)).expect("room again"));
    assert_eq!(journal.bytes(), fs::metadata(&path).expect("there").len());
    let (mut journal, recovered) = Journal::open(&path, 8 + 3 * 22).expect("opened");
    assert_eq!(recovered.records, [record(2, 5), record(4, 5)]);
    assert_eq!(
        journal
            .compact((0..9).map(|n| record(n, 5)))
            .expect("written"),
        3,
        "as many as there is room for"
    );
    let (_, recovered) = Journal::open(&path, 8 + 2 * 22).expect("opened");
    assert_eq!(
        recovered.records,
        [record(0, 5), record(1, 5)],
        "a lower limit keeps the first"
    );
}

#[test]
fn stale_means_more_than_half_and_a_mebibyte() {
    let directory = tempfile::tempdir().expect("directory");
    let (mut journal, _) =
        Journal::open(&directory.path().join("journal"), 8 << 20).expect("opened");
    let big = record(0, 512 << 10);
    for _ in 0..2 {
        journal.append(&big).expect("written");
    }
    assert!(!journal.is_stale(1 << 20));
    assert!(journal.is_stale(0));
    journal.append(&big).expect("written");
    journal.append(&big).expect("written");
    assert!(!journal.is_stale(1 << 20), "half of it is live");
    assert!(journal.is_stale(512 << 10));
}

/// Run by the test below in a process of its own: appends until it is killed, and says each time that it has.
#[test]
#[ignore = "started by a_killed_process_loses_nothing_it_acknowledged"]
fn append_until_killed() {
    let path = std::env::var_os("SLACKLINE_JOURNAL").expect("started by the other test");
    let (mut journal, _) = Journal::open(path.as_ref(), 1 << 30).expect("opened");
    for n in 0u32.. {
        let record = Record {
            origin: Origin::Local,
            expires: 7,
            bytes: n.to_le_bytes().repeat(100),
        };
        assert!(journal.append(&record).expect("written"));
        println!("appended {n}");
    }
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    use std::io::{BufRead, BufReader};
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "append_until_killed", "--ignored", "--nocapture"])
        .env("SLACKLINE_JOURNAL", &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged = None;
    // The harness writes on the same line before the first one.
    let number = |line: &str| {
        line.split_once("appended ")
            .and_then(|(_, n)| n.parse::<u32>().ok())
    };
    while acknowledged < Some(200) {
        let line = lines.next().expect("it goes on").expect("read");
        acknowledged = number(&line).or(acknowledged);
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    // What it said before the signal came counts too; the last line may be torn.
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    for line in &said[..said.len().saturating_sub(1)] {
        acknowledged = number(line).or(acknowledged);
    }
    let (_, recovered) = Journal::open(&path, 1 << 30).expect("opened");
    let acknowledged = acknowledged.expect("some") as usize;
    assert!(
        recovered.records.len() > acknowledged,
        "{} of {acknowledged}",
        recovered.records.len()
    );
    for (n, record) in (0u32..).zip(&recovered.records) {
        assert_eq!(record.bytes, n.to_le_bytes().repeat(100));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_prefix_or_foreign(bytes in prop::collection::vec(any::<u8>(), 0..200), magic: bool) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("journal");
        let file = if magic { [b"SLKPOOL1".as_slice(), &bytes].concat() } else { bytes };
        fs::write(&path, &file).expect("written");
        match Journal::open(&path, 1 << 20) {
            Ok((_, recovered)) => prop_assert!(recovered.cut <= file.len() as u64),
            Err(error) => {
                let foreign = matches!(error, JournalError::Foreign(_));
                prop_assert!(foreign && !magic, "{}", error);
            }
        }
    }
}

fn transaction(nonce: u64) -> (Hash, Record) {
    let transaction = Transaction {
        chain_id: 1,
        sender: PublicKey([1; 32]),
        nonce,
        fuel_limit: 1,
        fuel_price: 1,
        tip: 0,
        deposit_limit: 0,
        action: Action::Transfer {
            to: Address([9; 32]),
            amount: 0,
        },
    };
    let hash = transaction.hash();
    let signed = SignedTransaction {
        transaction,
        signature: [0; 64],
    };
    let record = Record {
        origin: Origin::Local,
        expires: 7,
        bytes: borsh::to_vec(&signed).expect("encoded"),
    };
    (hash, record)
}

#[test]
fn what_was_crossed_out_does_not_come_back_unless_it_came_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("journal");
    let all: Vec<(Hash, Record)> = (0..4).map(transaction).collect();
    let (mut journal, _) = Journal::open(&path, 1 << 20).expect("opened");
    for (_, record) in &all {
        assert!(journal.append(record).expect("written"));
    }
    assert!(
        journal
            .cross_out(&[all[0].0, all[2].0, Hash([7; 32])])
            .expect("written")
    );
    assert!(journal.append(&all[0].1).expect("written"));
    assert!(journal.append(&record(3, 5)).expect("written"));
    assert_eq!(journal.bytes(), fs::metadata(&path).expect("there").len());
    let whole = fs::read(&path).expect("read");
    let (_, recovered) = Journal::open(&path, 1 << 20).expect("opened");
    let left = [&all[1].1, &all[3].1, &all[0].1, &record(3, 5)].map(Clone::clone);
    assert_eq!((recovered.records, recovered.cut), (left.to_vec(), 0));
    // Half a cross is none.
    let four: usize = all
        .iter()
        .map(|(_, record)| 8 + 9 + record.bytes.len())
        .sum();
    fs::write(&path, &whole[..8 + four + 40]).expect("written");
    let (mut journal, recovered) = Journal::open(&path, 1 << 20).expect("opened");
    assert_eq!((recovered.records.len(), recovered.cut), (4, 40));
    assert!(journal.cross_out(&[]).expect("nothing to write"));
    assert_eq!(journal.bytes(), (8 + four) as u64);
    // There may be no room for one.
    let (mut journal, _) = Journal::open(&path, (8 + four + 40) as u64).expect("opened");
    assert!(!journal.cross_out(&[all[0].0]).expect("no error"));
}

#[test]
fn a_journal_of_the_version_before_is_read_and_is_of_this_one_then() {
    let directory = tempfile::tempdir().expect("directory");
    let (hash, transaction) = transaction(1);
    let path = filled(&directory, std::slice::from_ref(&transaction));
    let mut bytes = fs::read(&path).expect("read");
    assert_eq!(bytes[..8], *b"SLKPOOL2");
    bytes[7] = b'1';
    fs::write(&path, &bytes).expect("written");
    let (mut journal, recovered) = Journal::open(&path, 1 << 20).expect("opened");
    assert_eq!((recovered.records.len(), recovered.cut), (1, 0));
    assert!(journal.cross_out(&[hash]).expect("written"));
    assert_eq!(fs::read(&path).expect("read")[..8], *b"SLKPOOL2");
    let (_, recovered) = Journal::open(&path, 1 << 20).expect("opened");
    assert_eq!((recovered.records, recovered.cut), (vec![], 0));
}
