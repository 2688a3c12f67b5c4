//! The metering modes against each other on what libFuzzer makes up: see `slackline_conformance::oracle`.
//!
//! `cargo +nightly fuzz run --sanitizer none differential`: wasmtime's signals and address space do not go with
//! AddressSanitizer. The first byte says where the module comes from and whether it is single-stepped, the rest is what it
//! is made of.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slackline_conformance::oracle::{Oracle, THREAD_STACK};
use slackline_conformance::{Case, Source};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};

/// The thread that runs everything: libFuzzer's own has too small a stack.
struct Worker {
    /// With the number of steps.
    cases: Sender<(Case, u64)>,
    results: Receiver<anyhow::Result<String>>,
}

impl Worker {
    fn start() -> Worker {
        let (cases, to_run) = channel::<(Case, u64)>();
        let (finished, results) = channel();
        std::thread::Builder::new()
            .stack_size(THREAD_STACK)
            .spawn(move || {
                let mut oracle = Oracle::new().expect("an oracle");
                for (case, steps) in to_run {
                    oracle.steps_per_case = steps;
                    if finished.send(oracle.check(&case)).is_err() {
                        break;
                    }
                }
            })
            .expect("a thread");
        Worker { cases, results }
    }
}

fuzz_target!(|bytes: &[u8]| {
    static WORKER: OnceLock<Mutex<Worker>> = OnceLock::new();
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let source = if kind % 4 == 0 {
        Source::Smith
    } else {
        Source::Loops
    };
    let Some(case) = source.case(bytes) else {
        return;
    };
    let steps = if kind / 4 % 16 == 0 { 4_000 } else { 0 };
    let worker = WORKER.get_or_init(|| Mutex::new(Worker::start()));
    let worker = worker.lock().expect("no panic before");
    worker.cases.send((case, steps)).expect("the worker runs");
    if let Err(error) = worker.results.recv().expect("the worker runs") {
        panic!("{error:#}");
    }
});
