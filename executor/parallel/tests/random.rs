//! Random programs on real threads, against executing them in order.

mod programs;

use programs::{Op, Place, in_order, in_parallel, options};
use proptest::prelude::*;
use slackline_parallel::{
    Add, Base, Change, Executed, Fallback, Machine, RunError, Stats, Stop, View, run,
};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// Gives the others a chance now and then.
fn pause() {
    std::thread::yield_now();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_result_is_that_of_the_order(
        programs in programs::programs(60),
        wasted in prop_oneof![3 => Just(usize::MAX), 1 => 0..20usize],
        cancel: bool,
    ) {
        let expected = in_order(&programs, Default::default());
        for threads in [1, 2, 4, 8] {
            let mut options = options(threads);
            (options.wasted, options.cancel) = (wasted, cancel);
            let (result, stats) = in_parallel(&programs, &options, pause);
            prop_assert_eq!(&result, &expected, "{} threads, {:?}", threads, stats);
            prop_assert!(stats.executions >= stats.aborted + stats.cancelled + stats.blocked);
            if threads == 1 {
                prop_assert_eq!(stats.executions, programs.len() as u64);
            }
        }
    }
}

fn cases(few: u32) -> u32 {
    let full = std::env::var_os("SLACKLINE_FULL").is_some();
    if full { 50 * few } else { few }
}

/// Every transaction reads what the one before wrote: the worst case there is.
fn chain(length: usize) -> Vec<Vec<Op>> {
    let hot = Place::Fixed(0, 0);
    vec![vec![Op::Read(hot), Op::Yield, Op::Write(hot)]; length]
}

#[test]
fn a_chain_of_dependent_transactions() {
    let programs = chain(500);
    let expected = in_order(&programs, Default::default());
    for threads in [1, 2, 4, 8] {
        assert_eq!(in_parallel(&programs, &options(threads), pause).0, expected);
    }
}

#[test]
fn adds_to_one_key_do_not_disturb_each_other() {
    let mut programs = vec![vec![Op::Add(Place::Fixed(0, 0), 1), Op::Yield]; 500];
    for threads in [1, 2, 4, 8] {
        let (result, stats) = in_parallel(&programs, &options(threads), pause);
        assert_eq!(result.1, [(vec![0, 0], Some((0, 600)))].into());
        assert_eq!((stats.executions, stats.aborted), (500, 0));
    }
    // Who reads does.
    programs.push(vec![Op::Read(Place::Fixed(0, 0))]);
    let expected = in_order(&programs, Default::default());
    assert_eq!(in_parallel(&programs, &options(4), pause).0, expected);
}

#[derive(Clone, PartialEq)]
struct Nothing;

impl Add for Nothing {
    fn add(&mut self, _: &Nothing) {}
}

/// Does what two functions say.
struct Custom<E, C> {
    execute: E,
    cancel: C,
}

impl<E, C> Machine for Custom<E, C>
where
    E: Fn(usize, View<u32, Nothing>) -> Result<Option<u32>, Stop> + Sync,
    C: Fn(usize) + Sync,
{
    type Value = u32;
    type Add = Nothing;
    type Output = ();

    fn execute(
        &self,
        transaction: usize,
        view: View<u32, Nothing>,
    ) -> Result<Executed<u32, Nothing, ()>, Stop> {
        let write = (self.execute)(transaction, view)?;
        let changes = write.map(|value| (vec![0], Change::Write(value)));
        let changes = changes.into_iter().collect();
        Ok(Executed {
            output: (),
            changes,
        })
    }

    fn same_part(&self, _: &[u8], one: &Base<u32>, other: &Base<u32>) -> bool {
        one == other
    }

    fn cancel(&self, worker: usize) {
        (self.cancel)(worker);
    }
}

#[test]
fn a_panic_ends_the_block_with_an_error() {
    for threads in [1, 2, 4, 8] {
        let machine = Custom {
            execute: |transaction, view: View<u32, Nothing>| {
                view.read(&[0])?;
                assert!(transaction != 50, "transaction 50 is bad");
                Ok(Some(transaction as u32))
            },
            cancel: |_| {},
        };
        let result = run(&machine, 200, &options(threads));
        let expected = RunError::Panicked("transaction 50 is bad".to_owned());
        assert_eq!(result.err(), Some(expected));
    }
}

/// A failure ends the parallel part, with what comes before it.
#[test]
fn what_fails_is_left_to_the_order() {
    for threads in [1, 2, 4, 8] {
        let machine = Custom {
            execute: |transaction, view: View<u32, Nothing>| {
                view.read(&[0])?;
                if transaction == 50 {
                    Err(Stop::Failed)
                } else {
                    Ok(Some(transaction as u32))
                }
            },
            cancel: |_| {},
        };
        let finished = run(&machine, 200, &options(threads)).expect("no panic");
        assert_eq!(finished.stats.fallback, Some(Fallback::Failed));
        assert!(finished.outputs.len() <= 50);
        if threads == 1 {
            assert_eq!(finished.outputs.len(), 50);
        }
    }
}

/// The second transaction runs until somebody stops it, which the first does by writing what it has read.
fn doomed(wasted: usize) -> (Vec<Base<u32>>, Stats) {
    let (has_read, told) = (AtomicBool::new(false), AtomicUsize::new(usize::MAX));
    let worker_of_second = AtomicUsize::new(usize::MAX);
    let machine = Custom {
        execute: |transaction, view: View<u32, Nothing>| {
            if transaction == 0 {
                while !has_read.load(SeqCst) {
                    pause();
                }
                return Ok(Some(9));
            }
            let seen = view.read(&[0])?;
            if seen.base == Base::Below {
                worker_of_second.store(view.worker(), SeqCst);
                has_read.store(true, SeqCst);
                while !view.is_stale() {
                    pause();
                }
                // Whatever it says now does not count.
                return Ok(Some(1));
            }
            assert_eq!(seen.base, Base::Written(9));
            Ok(Some(10))
        },
        cancel: |worker| told.store(worker, SeqCst),
    };
    let mut options = options(2);
    options.wasted = wasted;
    let finished = run(&machine, 2, &options).expect("no panic");
    assert_eq!(told.load(SeqCst), worker_of_second.load(SeqCst));
    let values = finished.changes.into_iter().map(|(_, seen)| seen.base);
    (values.collect(), finished.stats)
}

#[test]
fn a_doomed_execution_is_stopped_while_it_runs() {
    let (values, stats) = doomed(1);
    assert_eq!(values, [Base::Written(10)]);
    assert_eq!((stats.cancelled, stats.executions), (1, 3));
    assert_eq!(stats.fallback, None);
}

#[test]
fn work_in_vain_is_bounded() {
    let (values, stats) = doomed(0);
    assert_eq!(stats.fallback, Some(Fallback::Conflicts));
    assert_eq!((stats.cancelled, stats.executions), (1, 2));
    // The first was recorded, and may have been counted as executed too when the second was one too many.
    assert!(values.is_empty() || values == [Base::Written(9)]);
}
