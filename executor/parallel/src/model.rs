//! Small blocks under schedules that shuttle chooses: every lock and every atomic operation is a place to switch threads.

#[path = "../tests/programs/mod.rs"]
#[allow(dead_code, reason = "shared with tests/random.rs")]
mod programs;

use programs::{KEYS, Op, Place, in_order, in_parallel, options};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs a block under so many schedules.
type Explore = fn(Box<dyn Fn() + Send + Sync>, usize);

fn random(block: Box<dyn Fn() + Send + Sync>, schedules: usize) {
    shuttle::check_random(block, schedules);
}

/// Few switches, at bad places (Burckhardt et al., ASPLOS 2010).
fn few_switches(block: Box<dyn Fn() + Send + Sync>, schedules: usize) {
    shuttle::check_pct(block, schedules, 3);
}

fn check(seed: u64, programs: Vec<Vec<Op>>, explore: Explore, schedules: usize) {
    let expected = in_order(&programs, Default::default());
    let mut options = options(2 + seed as usize % 2);
    options.cancel = !seed.is_multiple_of(3);
    if seed.is_multiple_of(5) {
        options.wasted = 1;
    }
    let block = move || {
        let (result, stats) = in_parallel(&programs, &options, shuttle::thread::yield_now);
        assert_eq!(result, expected, "seed {seed}: {stats:?}, {programs:?}");
    };
    explore(Box::new(block), schedules);
}

fn random_blocks(explore: Explore) {
    let full = std::env::var_os("SLACKLINE_FULL").is_some();
    for seed in 0..if full { 20_000 } else { 1_000 } {
        let bytes = [&u64::to_le_bytes(seed)[..], &[0; 24]].concat();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let tree = programs::programs(5).new_tree(&mut runner);
        let programs = tree.expect("nothing is filtered").current();
        check(seed, programs, explore, 60);
    }
}

#[test]
fn random_blocks_under_random_schedules() {
    random_blocks(random);
}

#[test]
fn random_blocks_with_few_switches() {
    random_blocks(few_switches);
}

/// A transaction that adds to a key or writes it, as another one decides, under one that reads the part that adds do not change.
#[test]
fn an_add_that_becomes_a_write() {
    let keys = (0..KEYS).flat_map(|what| (0..KEYS).map(move |decides| (what, decides)));
    for (seed, (what, decides)) in keys.enumerate() {
        let (what, decides) = (Place::Fixed(0, what), Place::Fixed(1, decides));
        let programs = vec![
            vec![Op::Read(decides), Op::Write(decides)],
            vec![
                Op::Add(what, 1),
                Op::Read(decides),
                Op::StopIfOdd,
                Op::Write(what),
            ],
            vec![Op::ReadPart(what), Op::Write(Place::Fixed(1, 0))],
        ];
        for explore in [random, few_switches] {
            check(seed as u64, programs.clone(), explore, 1_000);
        }
    }
}

/// A value that is passed on: the second transaction is validated while the first is, fails, and writes something else where it had
/// written before.
#[test]
fn what_was_read_from_an_aborted_incarnation() {
    for seed in 0..u64::from(KEYS) {
        let (first, then) = (Place::Fixed(0, seed as u8), Place::Fixed(1, 1));
        let programs = vec![
            vec![Op::Read(first), Op::Write(first)],
            vec![Op::Read(first), Op::Write(then)],
            vec![Op::Read(then)],
        ];
        for explore in [random, few_switches] {
            check(3 + 6 * seed, programs.clone(), explore, 5_000);
        }
    }
}

/// A transaction that writes one key or another, as another one decides, under one that looks for the next key.
#[test]
fn a_key_that_disappears_from_a_scan() {
    for seed in 0..30u8 {
        let decides = Place::Fixed(1, seed % KEYS);
        let next = |descending| Op::Next {
            group: 0,
            from: None,
            descending,
        };
        let programs = vec![
            vec![Op::Read(decides), Op::Write(decides)],
            vec![Op::Read(decides), Op::Write(Place::Computed(0))],
            vec![next(seed % 2 == 0), Op::Write(Place::Computed(0))],
            vec![next(seed % 2 == 1), Op::Write(Place::Fixed(1, 0))],
        ];
        for explore in [random, few_switches] {
            check(seed.into(), programs.clone(), explore, 500);
        }
    }
}
