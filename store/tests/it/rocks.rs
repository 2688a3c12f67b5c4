//! What becomes of the files: logs cut short, bits flipped, full and read-only disks, processes killed, two at a time.

use crate::support::{extend, options, scripted, scripted_state, walked};
use slackline_store::backend::{Backend, Batch, Family};
use slackline_store::{Rocks, Store, StoreError, tools};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const KEEP: u64 = 5;

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path, &options(KEEP))
}

fn fill(store: &Store, to: u64) {
    loop {
        let next = store
            .head()
            .expect("readable")
            .map_or(0, |head| head.height + 1);
        if next > to {
            return;
        }
        extend(store, &scripted(next), 3).expect("it can be written");
    }
}

/// That the store is whole, and has the scripted state of its last height, which is returned.
fn check(store: &Store) -> u64 {
    let height = store.verify(0, |_, _| {}).expect("clean").height;
    let state = walked(&store.snapshot().expect("readable"), false);
    assert_eq!(state, scripted_state(height));
    height
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// The files with `extension`, the last one last.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// A database with blocks, closed, and the length of its log after each of them.
fn database(dir: &Path, to: u64) -> Vec<u64> {
    let store = open(dir).expect("it is empty");
    let mut lengths = Vec::new();
    for height in 0..=to {
        fill(&store, height);
        let log = files(dir, "log").pop().expect("a log");
        lengths.push(fs::metadata(log).expect("a log").len());
    }
    lengths
}

#[test]
fn what_rocksdb_says_about_itself_is_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    database(dir.path(), 1);
    // It writes down what it runs with.
    let entries = fs::read_dir(dir.path()).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let options = paths.filter(|path| path.to_string_lossy().contains("/OPTIONS-"));
    let options = fs::read_to_string(options.max().expect("options")).expect("text");
    for bound in ["max_log_file_size=67108864", "keep_log_file_num=4"] {
        assert!(options.contains(bound), "{bound}: {options}");
    }
}

#[test]
fn a_log_cut_short_anywhere_loses_what_was_cut_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let lengths = database(&whole, 6);
    let log = files(&whole, "log").pop().expect("a log");
    let name = log.file_name().expect("a name").to_owned();
    let end = *lengths.last().expect("blocks");
    let step = if std::env::var_os("SLACKLINE_FULL").is_some() {
        7
    } else {
        397
    };
    let near = lengths.iter().flat_map(|length| [length - 1, *length]);
    for length in (0..end).step_by(step).chain(near) {
        copy(&whole, &cut);
        let file = fs::File::options()
            .write(true)
            .open(cut.join(&name))
            .expect("a log");
        file.set_len(length).expect("shorter");
        let kept = lengths.iter().filter(|&&end| end <= length).count() as u64;
        let store = open(&cut).expect("a torn end is no damage");
        assert_eq!(
            store.head().expect("readable").map(|head| head.height),
            kept.checked_sub(1),
            "cut to {length} of {end}"
        );
        if kept > 0 {
            assert_eq!(check(&store), kept - 1);
        }
        // What was lost can be made again.
        fill(&store, 6);
        assert_eq!(check(&store), 6);
        drop(store);
        fs::remove_dir_all(&cut).expect("ours");
    }
}

#[test]
fn a_log_damaged_before_its_last_block_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let lengths = database(dir.path(), 6);
    let log = files(dir.path(), "log").pop().expect("a log");
    let good = fs::read(&log).expect("a log");
    for at in (8..lengths[4] as usize).step_by(1_009) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&log, &bad).expect("ours");
        let error = open(dir.path()).expect_err("damaged");
        assert!(matches!(error, StoreError::Corrupt(_)), "{at}: {error:?}");
        assert_eq!(fs::read(&log).expect("a log"), bad, "{at}");
    }
    fs::write(&log, &good).expect("ours");
    assert_eq!(check(&open(dir.path()).expect("whole again")), 6);
}

/// A database whose state is in files, closed.
fn compacted(dir: &Path) -> Vec<PathBuf> {
    let rocks = Rocks::open(dir, &options(KEEP)).expect("it is empty");
    let store = Store::on(Arc::new(rocks.clone()), &options(KEEP)).expect("it is empty");
    fill(&store, 20);
    for family in Family::ALL {
        rocks.compact(family).expect("whole");
    }
    files(dir, "sst")
}

#[test]
fn a_damaged_file_is_an_error_and_no_wrong_value() {
    let dir = tempfile::tempdir().expect("a directory");
    for file in compacted(dir.path()) {
        let good = fs::read(&file).expect("a file");
        let mut bad = good.clone();
        // A block of values: the first is at the beginning.
        bad[10] ^= 1;
        fs::write(&file, &bad).expect("ours");
        let read = open(dir.path()).and_then(|store| {
            store.verify(0, |_, _| {})?;
            // Not all is for verifying.
            for height in 20 - KEEP..=20 {
                assert_eq!(walked_or(&store, height)?, scripted_state(height));
                for receipt in store.receipts(height)? {
                    store.receipt(&receipt.transaction)?;
                }
                store.code(&slackline_types::Hash([height as u8; 32]))?;
            }
            Ok(())
        });
        match read {
            Err(StoreError::Corrupt(_)) => {}
            // The stale nodes and the events were not read.
            Ok(()) => {}
            Err(error) => panic!("{}: {error:?}", file.display()),
        }
        fs::write(&file, &good).expect("ours");
        assert_eq!(check(&open(dir.path()).expect("whole again")), 20);
    }

    let missing = files(dir.path(), "sst").pop().expect("a file");
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&missing, &elsewhere).expect("ours");
    let error = open(dir.path()).expect_err("a file is missing");
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    fs::rename(&elsewhere, &missing).expect("ours");
    assert_eq!(check(&open(dir.path()).expect("whole again")), 20);
}

fn walked_or(store: &Store, height: u64) -> Result<crate::support::State, StoreError> {
    let snapshot = store.snapshot_at(height)?;
    let mut state = crate::support::State::new();
    let mut from = None;
    while let Some(key) = {
        let low = from
            .as_ref()
            .map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        snapshot.next((low, std::ops::Bound::Unbounded), false)?
    } {
        if let Some(value) = snapshot.get(&key)? {
            state.insert(key.clone(), value);
        }
        from = Some(key);
    }
    Ok(state)
}

#[test]
fn a_checkpoint_is_the_chain_as_it_was_and_can_be_restored() {
    let dir = tempfile::tempdir().expect("a directory");
    let paths = ["chain", "checkpoint", "restored"].map(|name| dir.path().join(name));
    let [chain, checkpoint, restored] = &paths;
    let rocks = Rocks::open(chain, &options(KEEP)).expect("it is empty");
    let store = Store::on(Arc::new(rocks.clone()), &options(KEEP)).expect("it is empty");
    fill(&store, 7);
    rocks.checkpoint(checkpoint).expect("there is room");
    fill(&store, 9);
    let mut last = (0, 1);
    let verified = tools::restore(checkpoint, restored, |copied, total| last = (copied, total));
    assert_eq!(verified.expect("whole").height, 7);
    assert_eq!(last.0, last.1);
    let again = open(restored).expect("whole");
    assert_eq!(check(&again), 7);
    fill(&again, 8);
    drop(again);
    let error = tools::restore(checkpoint, restored, |_, _| {}).expect_err("there is something");
    assert!(error.to_string().contains("not empty"), "{error}");
    let error = tools::restore(dir.path(), &dir.path().join("no"), |_, _| {}).expect_err("none");
    assert!(error.to_string().contains("no checkpoint"), "{error}");
    assert_eq!(check(&open(checkpoint).expect("untouched")), 7);
    assert!(
        tools::stats(&rocks)
            .expect("whole")
            .iter()
            .any(|family| family.keys > 0)
    );
    assert_eq!(check(&store), 9);
}

#[test]
fn a_second_store_on_the_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("it is empty");
    fill(&store, 2);
    let error = open(dir.path()).expect_err("in use");
    assert!(error.is_locked(), "{error:?}");
    fill(&store, 4);
    drop(store);
    assert_eq!(check(&open(dir.path()).expect("free")), 4);
}

#[test]
fn other_schemas_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let rocks = Rocks::open(dir.path(), &options(KEEP)).expect("it is empty");
    let store = Store::on(Arc::new(rocks.clone()), &options(KEEP)).expect("it is empty");
    fill(&store, 2);
    for (schema, means) in [
        (2u32, "cannot be migrated"),
        (4, "use the program that wrote it"),
    ] {
        let mut batch = Batch::default();
        batch.put(Family::Meta, *b"schema", schema.to_le_bytes());
        rocks.write(&batch).expect("it can be written");
        let error = Store::on(Arc::new(rocks.clone()), &options(KEEP)).expect_err("another schema");
        assert!(error.to_string().contains(means), "{error}");
    }
}

/// What version 2 has written: fewer column families.
#[test]
fn a_database_of_schema_2_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = rocksdb::Options::default();
    settings.create_if_missing(true);
    settings.create_missing_column_families(true);
    let families = [
        "state",
        "code",
        "blocks",
        "receipts",
        "transactions",
        "meta",
    ];
    let db = rocksdb::DB::open_cf(&settings, dir.path(), families).expect("a database");
    let meta = db.cf_handle("meta").expect("a family");
    db.put_cf(meta, b"schema", 2u32.to_le_bytes())
        .expect("written");
    drop(db);
    let error = open(dir.path()).expect_err("schema 2");
    assert!(
        matches!(error, StoreError::CannotMigrate { found: 2 }),
        "{error:?}"
    );
    let mut found = rocksdb::DB::list_cf(&settings, dir.path()).expect("a database");
    found.sort();
    assert_eq!(found.len(), 7, "{found:?}");
}

/// Starts this program again, to do what [`child`] does in `dir`. `shell` comes before it.
fn spawn(dir: &Path, task: &str, shell: &str) -> Child {
    let program = std::env::current_exe().expect("a test program");
    Command::new("sh")
        .arg("-c")
        .arg(format!("{shell} exec \"$0\" \"$@\""))
        .arg(program)
        .args([
            "--exact",
            "rocks::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("STORE_CHILD", task)
        .env("STORE_DIR", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("it can be started")
}

/// What a child has acknowledged, one line a height, and how it ended.
#[derive(Default)]
struct Said {
    last: Option<u64>,
    error: Option<String>,
}

/// Listens to `child` until it ends; kills it once it has said `count` heights.
fn listen(mut child: Child, count: usize) -> Said {
    let mut said = Said::default();
    let mut heights = 0;
    let output = child.stdout.take().expect("piped");
    for line in BufReader::new(output).lines() {
        let line = line.expect("text");
        if let Some(height) = line.strip_prefix("height ") {
            said.last = Some(height.parse().expect("a height"));
            heights += 1;
            if heights == count {
                child.kill().expect("it runs");
            }
        } else if let Some(error) = line.strip_prefix("error ") {
            said.error = Some(error.to_owned());
        }
    }
    child.wait().expect("it has ended");
    said
}

/// Not a test: what the others start.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let (Some(task), Some(dir)) = (
        std::env::var_os("STORE_CHILD"),
        std::env::var_os("STORE_DIR"),
    ) else {
        return;
    };
    let make = || -> Result<(), StoreError> {
        // Small buffers: files are written and merged all the time.
        let mut settings = options(KEEP);
        settings.write_buffer_bytes = 64 << 10;
        let store = Store::open(Path::new(&dir), &settings)?;
        loop {
            let next = store.head()?.map_or(0, |head| head.height + 1);
            if task == "back" && next % 16 == 15 {
                store.rollback(next - 4, |_| {})?;
                println!("back");
            }
            let next = store.head()?.map_or(0, |head| head.height + 1);
            extend(&store, &scripted(next), 5)?;
            println!("height {next}");
            if next >= 20_000 {
                return Ok(());
            }
        }
    };
    if let Err(error) = make() {
        println!("error {error}");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_has_acknowledged() {
    let times = match std::env::var_os("SLACKLINE_FULL") {
        Some(_) => 500,
        None => 20,
    };
    let dir = tempfile::tempdir().expect("a directory");
    // Anything but regular.
    let mut random = 12_345u64;
    let mut blocks = 0;
    for _ in 0..times {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let count = 1 + (random >> 33) as usize % 120;
        let said = listen(spawn(dir.path(), "blocks", ""), count);
        assert_eq!(said.error, None);
        let store = open(dir.path()).expect("no damage");
        let height = store.verify(0, |_, _| {}).expect("clean").height;
        assert!(Some(height) >= said.last, "{height}, after {:?}", said.last);
        let state = walked(&store.snapshot().expect("readable"), false);
        assert_eq!(state[&b"height"[..]][..], height.to_be_bytes());
        blocks = height;
    }
    assert_eq!(check(&open(dir.path()).expect("no damage")), blocks);
    println!("{times} kills, {blocks} blocks");
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    // A file may have 200 blocks of 512 bytes, or of 1,024 for some shells.
    let said = listen(
        spawn(dir.path(), "blocks", "trap '' XFSZ; ulimit -f 200;"),
        usize::MAX,
    );
    let error = said.error.expect("it is full");
    assert!(error.contains("free some space"), "{error}");
    let last = said.last.expect("some fit");
    let store = open(dir.path()).expect("no damage");
    let height = check(&store);
    assert!(
        height == last || height == last + 1,
        "{height}, after {last}"
    );
    fill(&store, height + 3);
    assert_eq!(check(&store), height + 3);
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    fill(&open(dir.path()).expect("it is empty"), 3);
    // A mount of its own, in a namespace of its own: root may write whatever the permissions say.
    let path = dir.path().display();
    let shell = format!(
        "exec unshare -rm sh -c 'mount --bind {path} {path} && mount -o remount,bind,ro {path} || exit 9; exec \"$0\" \"$@\"' \"$0\" \"$@\"; exit;"
    );
    let mut child = spawn(dir.path(), "blocks", &shell);
    if child.try_wait().is_ok_and(|ended| ended.is_some()) {
        return;
    }
    let said = listen(child, 1);
    if let Some(error) = said.error {
        assert!(error.contains("cannot be written to"), "{error}");
        assert_eq!(said.last, None);
    } else {
        println!("not tested: this system lets nobody mount");
        assert_eq!(said.last, None);
    }
    assert_eq!(check(&open(dir.path()).expect("no damage")), 3);
}
