//! Checks from outside, as many and as badly timed as can be had: several engines, nested calls, threads and modules that
//! come and go.

use anyhow::{Context, Result, bail, ensure};
use slackline_metering::{
    AsyncFuelChecker, CostTable, Limit, MAX_LIMIT, MeteredModule, Metering, Mode, Watchdog,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use wasmtime::{Caller, Config, Engine, Linker, Module, Store, Trap, TypedFunc};

/// `mix` keeps more values alive than there are registers, and so uses every one that it may.
const WORK: &str = r#"(module
  (import "host" "call" (func $call (param i64) (result i64)))
  (func $mix (export "mix") (param $n i64) (result i64)
    (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $e i64) (local $f i64) (local $g i64)
    (local $h i64) (local $i i64) (local $j i64) (local $k i64) (local $l i64) (local $m i64) (local $o i64)
    (local.set $a (i64.const 3)) (local.set $h (i64.const 5))
    (loop $loop
      (local.set $b (i64.add (local.get $a) (local.get $o)))
      (local.set $c (i64.xor (local.get $b) (local.get $a)))
      (local.set $d (i64.mul (local.get $c) (local.get $b)))
      (local.set $e (i64.rotl (local.get $d) (local.get $c)))
      (local.set $f (i64.sub (local.get $e) (local.get $d)))
      (local.set $g (i64.or (local.get $f) (local.get $e)))
      (local.set $h (i64.add (local.get $g) (local.get $h)))
      (local.set $i (i64.xor (local.get $h) (local.get $g)))
      (local.set $j (i64.mul (local.get $i) (local.get $h)))
      (local.set $k (i64.rotr (local.get $j) (local.get $i)))
      (local.set $l (i64.add (local.get $k) (local.get $a)))
      (local.set $m (i64.xor (local.get $l) (local.get $b)))
      (local.set $o (i64.add (local.get $m) (local.get $c)))
      (local.set $a (i64.add (local.get $o) (i64.add (local.get $d) (i64.add (local.get $e)
        (i64.add (local.get $f) (i64.add (local.get $g) (i64.add (local.get $i)
        (i64.add (local.get $j) (local.get $k)))))))))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $loop (i64.gt_s (local.get $n) (i64.const 0))))
    (local.get $a))
  (func (export "forever") (param i64) (result i64) (loop $l (br $l)) (unreachable))
  ;; Calls the host, and stays.
  (func (export "late") (param $n i64) (result i64) (drop (call $call (local.get $n))) (loop $l (br $l)) (unreachable))
  ;; Mixes, calls the host, mixes again.
  (func (export "nest") (param $n i64) (result i64)
    (drop (call $mix (local.get $n)))
    (i64.xor (call $call (local.get $n)) (call $mix (local.get $n))))
)"#;

const PLENTY: u64 = 2_000_000_000;

/// Config for engines that share a process with ours.
fn config() -> Config {
    #[allow(unused_mut)]
    let mut config = Config::new();
    #[cfg(target_os = "macos")]
    config.macos_use_mach_ports(false);
    config
}

struct Ours {
    metering: Metering,
    module: MeteredModule,
}

/// What a call came to: value and fuel, or that it was stopped.
type End = Option<(i64, u64)>;

impl Ours {
    fn new(mode: Mode) -> Result<Ours> {
        let metering = Metering::new(config(), mode, &CostTable::v1())?;
        let module = MeteredModule::new(&metering, WORK)?;
        Ok(Ours { metering, module })
    }

    fn call(&self, function: &str, argument: i64, limit: u64) -> Result<End> {
        self.call_with(function, argument, limit, Ok)
    }

    /// Calls a function whose import does `host`.
    fn call_with(
        &self,
        function: &str,
        argument: i64,
        limit: u64,
        host: impl Fn(i64) -> Result<i64> + Send + Sync + 'static,
    ) -> Result<End> {
        let mut linker: Linker<()> = Linker::new(self.metering.engine());
        linker.func_wrap("host", "call", move |n: i64| {
            host(n).map_err(wasmtime::Error::from_anyhow)
        })?;
        let mut store = Store::new(self.metering.engine(), ());
        let limit = Limit::arm(&self.metering, &mut store, limit)?;
        let instance = linker.instantiate(&mut store, &self.module)?;
        let function = instance.get_typed_func::<i64, i64>(&mut store, function)?;
        match function.call(&mut store, argument) {
            Ok(value) => {
                let used = limit.used(&mut store);
                // Stock code looks at loop headers and function entries only, not at the end.
                ensure!(
                    used.is_some() || self.metering.mode() == Mode::Exact,
                    "returned past its limit"
                );
                Ok(used.map(|used| (value, used)))
            }
            Err(error) => match error.downcast_ref() {
                Some(Trap::OutOfFuel) => Ok(None),
                _ => bail!(error),
            },
        }
    }
}

/// Code of a stock engine, without any metering.
struct Foreign {
    store: Store<()>,
    mix: TypedFunc<i64, i64>,
}

impl Foreign {
    fn new() -> Result<Foreign> {
        let engine = Engine::new(&config())?;
        let module = Module::new(&engine, WORK)?;
        #[cfg(target_arch = "x86_64")]
        ensure!(uses_r15(&module), "the foreign code proves nothing");
        let mut linker = Linker::new(&engine);
        linker.func_wrap("host", "call", |n: i64| n)?;
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &module)?;
        let mix = instance.get_typed_func(&mut store, "mix")?;
        Ok(Foreign { store, mix })
    }

    fn mix(&mut self, n: i64) -> Result<i64> {
        Ok(self.mix.call(&mut self.store, n)?)
    }
}

/// Whether some function computes in r15, where our engines keep the counter.
#[cfg(target_arch = "x86_64")]
fn uses_r15(module: &Module) -> bool {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
    Decoder::new(64, module.text(), DecoderOptions::NONE)
        .into_iter()
        .any(|instruction| {
            // Not what saves and restores it.
            instruction.op0_register() == Register::R15
                && !matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pop)
                && instruction.op1_kind() != OpKind::Memory
        })
}

fn here() -> Result<AsyncFuelChecker> {
    Ok(AsyncFuelChecker::for_current_thread()?)
}

/// Calls `body` while two threads check the current one as fast as they can.
fn under_fire<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let checker = here()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    checker.check();
                }
            });
        }
        let result = body();
        stop.store(true, Relaxed);
        result
    })
}

/// Repeats `body` until checks of the current thread have landed `times` times more.
fn until_landed(times: u64, mut body: impl FnMut() -> Result<()>) -> Result<()> {
    let checker = here()?;
    let end = checker.stats().landed + times;
    for _ in 0..10_000_000 {
        body()?;
        if checker.stats().landed >= end {
            return Ok(());
        }
    }
    bail!("too few checks landed: {:?}", checker.stats())
}

/// Two slacked engines, an exact and a stock one take turns on a thread.
#[test]
fn engines_are_told_apart() -> Result<()> {
    let (one, two) = (Ours::new(Mode::Slacked)?, Ours::new(Mode::Slacked)?);
    let exact = Ours::new(Mode::Exact)?;
    let mut foreign = Foreign::new()?;
    let expected = exact.call("mix", 500, PLENTY)?.context("plenty")?;
    ensure!(foreign.mix(500)? == expected.0);
    let checker = here()?;
    under_fire(|| {
        until_landed(200, || {
            for ours in [&one, &two, &exact] {
                assert_eq!(ours.call("mix", 500, PLENTY)?, Some(expected));
                assert_eq!(ours.call("mix", 500, expected.1 - 1)?, None);
            }
            assert_eq!(foreign.mix(500)?, expected.0);
            Ok(())
        })?;
        // Nothing lands in what the others execute, and nothing stops it.
        let before = checker.stats();
        for _ in 0..200 {
            assert_eq!(foreign.mix(5_000)?, foreign.mix(5_000)?);
            assert_eq!(exact.call("mix", 500, PLENTY)?, Some(expected));
        }
        let after = checker.stats();
        ensure!(after.sent > before.sent);
        assert_eq!(after.landed, before.landed);
        Ok(())
    })
}

/// As above at the same time on two threads.
#[test]
fn engines_are_told_apart_on_several_threads() -> Result<()> {
    let ours = Ours::new(Mode::Slacked)?;
    let expected = ours.call("mix", 500, PLENTY)?;
    std::thread::scope(|scope| {
        let metered = scope.spawn(|| {
            under_fire(|| {
                until_landed(300, || {
                    assert_eq!(ours.call("mix", 500, PLENTY)?, expected);
                    assert_eq!(ours.call("forever", 0, 10_000)?, None);
                    Ok(())
                })
            })
        });
        let foreign = scope.spawn(|| {
            let mut foreign = Foreign::new()?;
            let value = foreign.mix(5_000)?;
            under_fire(|| {
                for _ in 0..500 {
                    assert_eq!(foreign.mix(5_000)?, value);
                }
                Ok(())
            })
        });
        for thread in [metered, foreign] {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}

/// A host function executes other stores' code, ours and foreign: each keeps to its own limit, and the outer one's fuel does
/// not depend on what happened inside.
#[test]
fn nested_executions_keep_their_own_limits() -> Result<()> {
    let (outer, exact) = (Ours::new(Mode::Slacked)?, Ours::new(Mode::Exact)?);
    let inner = std::sync::Arc::new(Ours::new(Mode::Slacked)?);
    let foreign = std::sync::Arc::new(Mutex::new(Foreign::new()?));
    let mixed = exact.call("mix", 300, PLENTY)?.context("plenty")?;
    // In the outer one's place: its own value is replaced by that of the inner one.
    let host = {
        let (inner, foreign) = (inner.clone(), foreign.clone());
        move |n: i64| {
            assert_eq!(inner.call("forever", 0, 20_000)?, None);
            assert_eq!(inner.call("mix", 300, mixed.1 - 1)?, None);
            assert_eq!(inner.call("mix", 300, mixed.1)?, Some(mixed));
            let mut foreign = foreign.lock().expect("not poisoned");
            assert_eq!(foreign.mix(300)?, mixed.0);
            Ok(n)
        }
    };
    let (value, used) = exact.call("nest", 300, PLENTY)?.context("plenty")?;
    under_fire(|| {
        until_landed(400, || {
            let got = outer.call_with("nest", 300, used, host.clone())?;
            assert_eq!(got, Some((value, used)));
            // Out of fuel after the host function has returned, and before it is called.
            assert_eq!(outer.call_with("nest", 300, used - 1, host.clone())?, None);
            let never = |_| bail!("called past the limit");
            assert_eq!(outer.call_with("nest", 300, 100, never)?, None);
            Ok(())
        })
    })
}

/// A host function that calls back into its own store: the same counter goes on.
#[test]
fn reentrant_calls_share_a_limit() -> Result<()> {
    let ours = Ours::new(Mode::Slacked)?;
    let mut linker: Linker<()> = Linker::new(ours.metering.engine());
    linker.func_wrap("host", "call", |mut caller: Caller<'_, ()>, n: i64| {
        let mix = caller.get_export("mix").and_then(|mix| mix.into_func());
        let mix = mix.expect("exported").typed::<i64, i64>(&caller)?;
        mix.call(&mut caller, n)
    })?;
    let call = |fuel| -> Result<_> {
        let mut store = Store::new(ours.metering.engine(), ());
        let limit = Limit::arm(&ours.metering, &mut store, fuel)?;
        let instance = linker.instantiate(&mut store, &ours.module)?;
        let nest = instance.get_typed_func::<i64, i64>(&mut store, "nest")?;
        Ok(match nest.call(&mut store, 300) {
            Ok(value) => Some((value, limit.used(&mut store).context("over the limit")?)),
            Err(error) => {
                ensure!(error.downcast_ref() == Some(&Trap::OutOfFuel), "{error:?}");
                None
            }
        })
    };
    let end = call(PLENTY)?;
    let (_, used) = end.context("plenty")?;
    under_fire(|| {
        until_landed(200, || {
            assert_eq!(call(used)?, end);
            for fuel in [0, used / 4, used / 2, used - 1] {
                assert_eq!(call(fuel)?, None);
            }
            Ok(())
        })
    })
}

/// Many short threads, each of which executes and ends while others check it and all that came before.
#[test]
fn threads_end_under_fire() -> Result<()> {
    let ours = Ours::new(Mode::Slacked)?;
    let expected = ours.call("mix", 200, PLENTY)?;
    let (stop, rounds, landed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let checkers: Mutex<Vec<AsyncFuelChecker>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let checkers = checkers.lock().expect("not poisoned").clone();
                    for checker in &checkers {
                        checker.check();
                    }
                    rounds.fetch_add(1, Relaxed);
                }
            });
        }
        let result = (0..150).try_for_each(|_| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || -> Result<()> {
                let checker = here()?;
                checkers.lock().expect("not poisoned").push(checker.clone());
                let start = rounds.load(Relaxed);
                // Until the checks include this thread's.
                while rounds.load(Relaxed) < start + 3 {
                    assert_eq!(ours.call("mix", 200, PLENTY)?, expected);
                    assert_eq!(ours.call("forever", 0, 10_000)?, None);
                }
                landed.fetch_add(checker.stats().landed, Relaxed);
                Ok(())
            })?;
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the thread panicked"))?
        });
        stop.store(true, Relaxed);
        result
    })?;
    ensure!(landed.load(Relaxed) > 150);
    // All have ended: nothing is sent any more.
    let checkers = checkers.into_inner().expect("not poisoned");
    ensure!(checkers.len() == 150);
    for checker in checkers {
        let before = checker.stats();
        checker.check();
        assert_eq!(checker.stats(), before);
    }
    Ok(())
}

#[test]
fn a_thread_does_not_check_itself() -> Result<()> {
    let checker = here()?;
    let before = checker.stats().sent;
    checker.check();
    assert_eq!(checker.stats().sent, before);
    std::thread::scope(|scope| scope.spawn(|| checker.check()).join().expect("no panic"));
    assert_eq!(checker.stats().sent, before + 1);
    assert_eq!(
        here()?.stats().sent,
        before + 1,
        "one state for each thread"
    );
    Ok(())
}

/// Modules are compiled, executed and dropped on other threads while checks read the table of them.
#[test]
fn modules_come_and_go_under_fire() -> Result<()> {
    let metering = Metering::new(config(), Mode::Slacked, &CostTable::v1())?;
    let ours = Ours::new(Mode::Slacked)?;
    let expected = ours.call("mix", 500, PLENTY)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let churn: Vec<_> = (0..2)
            .map(|thread| {
                let (stop, metering) = (&stop, &metering);
                scope.spawn(move || -> Result<u64> {
                    let mut kept = std::collections::VecDeque::new();
                    let mut made = 0;
                    while !stop.load(Relaxed) {
                        let functions = "(func (export \"\") (result i32) (i32.const 7))";
                        let module = MeteredModule::new(metering, format!("(module {functions})"))?;
                        let mut store = Store::new(metering.engine(), ());
                        Limit::arm(metering, &mut store, 1_000)?;
                        let instance = wasmtime::Instance::new(&mut store, &module, &[])?;
                        let seven = instance.get_typed_func::<(), i32>(&mut store, "")?;
                        ensure!(seven.call(&mut store, ())? == 7);
                        kept.push_back(module);
                        // From both ends, so that the table changes everywhere.
                        if kept.len() > 10 {
                            drop(if made % 2 == thread {
                                kept.pop_front()
                            } else {
                                kept.pop_back()
                            });
                        }
                        made += 1;
                    }
                    Ok(made)
                })
            })
            .collect();
        let result = under_fire(|| {
            until_landed(1_500, || {
                assert_eq!(ours.call("mix", 500, PLENTY)?, expected);
                assert_eq!(ours.call("forever", 0, 50_000)?, None);
                Ok(())
            })
        });
        stop.store(true, Relaxed);
        for thread in churn {
            let made = thread.join().expect("does not panic")?;
            ensure!(made > 5, "{made}");
        }
        result
    })
}

/// Without its registration a module counts and keeps to its limit, at trampolines; no check lands in it. It is
/// dropped by another thread, and under fire.
#[test]
fn a_module_dropped_early_is_only_checked_by_trampolines() -> Result<()> {
    let ours = Ours::new(Mode::Slacked)?;
    let expected = ours.call("mix", 500, PLENTY)?.context("plenty")?;
    let mut linker: Linker<()> = Linker::new(ours.metering.engine());
    linker.func_wrap("host", "call", |n: i64| n)?;
    let mut store = Store::new(ours.metering.engine(), ());
    let instance = linker.instantiate(&mut store, &ours.module)?;
    let mix = instance.get_typed_func::<i64, i64>(&mut store, "mix")?;
    let Ours { metering, module } = ours;
    let (send, receive) = mpsc::channel();
    let dropper = std::thread::spawn(move || {
        receive.recv().expect("sent");
        drop(module);
    });
    let checker = here()?;
    let mut call = |fuel| -> Result<_> {
        let limit = Limit::arm(&metering, &mut store, fuel)?;
        Ok(match mix.call(&mut store, 500) {
            Ok(value) => Some((value, limit.used(&mut store).context("over the limit")?)),
            Err(error) => {
                ensure!(error.downcast_ref() == Some(&Trap::OutOfFuel), "{error:?}");
                None
            }
        })
    };
    under_fire(|| {
        until_landed(50, || {
            assert_eq!(call(expected.1)?, Some(expected));
            Ok(())
        })?;
        send.send(())?;
        while !dropper.is_finished() {
            assert_eq!(call(expected.1)?, Some(expected));
        }
        let before = checker.stats();
        for _ in 0..1_000 {
            assert_eq!(call(expected.1)?, Some(expected));
            assert_eq!(call(expected.1 - 1)?, None);
        }
        let after = checker.stats();
        ensure!(after.sent > before.sent);
        assert_eq!(after.landed, before.landed);
        Ok(())
    })?;
    dropper.join().map_err(|_| anyhow::anyhow!("panicked"))
}

/// An endless loop within its limit is stopped whenever that is asked for, before it is in wasm too, and what comes after it is not.
#[test]
fn what_is_cancelled_stops_and_what_follows_does_not() -> Result<()> {
    let ours = Ours::new(Mode::Slacked)?;
    let expected = ours.call("mix", 500, PLENTY)?;
    ensure!(expected.is_some());
    let watchdog = Watchdog::start()?;
    let checker = here()?;
    let before = checker.stats();
    let (begin, begun) = mpsc::channel::<u32>();
    std::thread::scope(|scope| {
        let cancelled = checker.clone();
        scope.spawn(move || {
            for pause in begun {
                for _ in 0..pause {
                    std::hint::spin_loop();
                }
                cancelled.cancel();
            }
        });
        for round in 0..400u32 {
            checker.resume();
            begin.send(round * 500)?;
            let watch = watchdog.watch(&checker, MAX_LIMIT);
            // Whoever cancels from here on has it looked at until it is found.
            if !checker.is_cancelled() {
                assert_eq!(ours.call("forever", 0, MAX_LIMIT)?, None);
            }
            drop(watch);
            // Before it is taken back.
            while !checker.is_cancelled() {
                std::thread::yield_now();
            }
            checker.resume();
            assert_eq!(ours.call("mix", 500, PLENTY)?, expected);
        }
        drop(begin);
        anyhow::Ok(())
    })?;
    let after = checker.stats();
    ensure!(after.cancelled > before.cancelled, "{after:?}");
    ensure!(after.stopped == before.stopped, "{after:?}");
    Ok(())
}

/// The signal comes while the host is at work, which does not care.
#[test]
fn what_is_cancelled_outside_wasm_stops_when_it_goes_on() -> Result<()> {
    let ours = Ours::new(Mode::Slacked)?;
    let watchdog = Watchdog::start()?;
    let checker = here()?;
    for _ in 0..20 {
        let cancelled = checker.clone();
        let watch = watchdog.watch(&checker, MAX_LIMIT);
        let end = ours.call_with("late", 0, MAX_LIMIT, move |n| {
            std::thread::scope(|scope| {
                scope.spawn(|| cancelled.cancel());
            });
            Ok(n)
        })?;
        assert_eq!(end, None);
        drop(watch);
        ensure!(checker.is_cancelled());
        checker.resume();
    }
    Ok(())
}
