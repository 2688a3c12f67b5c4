//! Both halves together: what compiled code counts, who stops it, and that nothing but the count
//! decides whether it is stopped.

use anyhow::{Result, bail, ensure};
use slackline_metering::{
    AsyncFuelChecker, CostTable, Driver, Limit, MeteredModule, Metering, Mode, Watchdog,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use wasmtime::{Caller, Config, Linker, Module, Store, Trap};

const LOOPS: &str = r#"(module
  (import "host" "effect" (func $effect))
  (import "host" "again" (func $again (param i64) (result i64)))
  (memory (export "memory") 1 100)
  (table 10 funcref)
  (global $g (mut i64) (i64.const 0))
  (func $leaf (param i64) (result i64) (i64.add (local.get 0) (i64.const 7)))
  (func (export "count") (param $n i64) (result i64) (local $acc i64)
    (if (i64.eqz (local.get $n)) (then (return (i64.const 0))))
    (loop $l
      (local.set $acc (call $leaf (local.get $acc)))
      (if (i64.eqz (i64.rem_u (local.get $n) (i64.const 3)))
        (then (global.set $g (i64.add (global.get $g) (i64.const 1))))
        (else (local.set $acc (i64.xor (local.get $acc) (local.get $n)))))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))
    (local.get $acc))
  (func (export "forever") (param i64) (result i64) (loop $l (br $l)) (unreachable))
  (func $recurse (export "recurse") (param i64) (result i64)
    (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 1))
      (else (i64.add (i64.const 1) (call $recurse (i64.sub (local.get 0) (i64.const 1)))))))
  (func (export "divide") (param i64) (result i64) (i64.div_u (i64.const 1) (local.get 0)))
  (func (export "load") (param i64) (result i64) (i64.load (i32.wrap_i64 (local.get 0))))
  (func (export "trap") (param i64) (result i64) (drop (call $leaf (local.get 0))) (unreachable))
  (func (export "effects") (param $n i64) (result i64)
    (loop $l (call $effect)
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.gt_s (local.get $n) (i64.const 0))))
    (i64.const 0))
  (func (export "fill") (param $n i64) (result i64)
    (memory.fill (i32.const 0) (i32.const 1) (i32.wrap_i64 (local.get $n)))
    (memory.copy (i32.const 100) (i32.const 0) (i32.wrap_i64 (i64.div_u (local.get $n) (i64.const 2))))
    (i64.load (i32.const 0)))
  (func (export "grow") (param $n i64) (result i64)
    (i64.extend_i32_s (memory.grow (i32.wrap_i64 (local.get $n)))))
  (func (export "table") (param $n i64) (result i64)
    (table.fill (i32.const 0) (ref.null func) (i32.wrap_i64 (local.get $n)))
    (i64.extend_i32_s (table.grow (ref.null func) (i32.const 1))))
  (func (export "reenter") (param i64) (result i64)
    (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 5))
      (else (call $again (i64.sub (local.get 0) (i64.const 1))))))
  (func (export "dispatch") (param $n i64) (result i64) (local $acc i64)
    (block $done (loop $l
      (br_if $done (i64.eqz (local.get $n)))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (block $c (block $b (block $a
        (br_table $a $b $c (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 4)))))
        (local.set $acc (i64.add (local.get $acc) (i64.const 1))) (br $l))
        (local.set $acc (i64.mul (local.get $acc) (i64.const 3))) (br $l))
      (local.set $acc (i64.rotl (local.get $acc) (i64.const 1)))
      (br $l)))
    (local.get $acc))
)"#;

/// What there is to observe of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Returned { value: i64, used: u64 },
    Trapped(Trap),
}

struct Bench {
    metering: Metering,
    module: MeteredModule,
}

#[derive(Default)]
struct Host {
    effects: u64,
    limit: Option<Limit>,
}

impl Bench {
    fn new(mode: Mode) -> Result<Bench> {
        let metering = Metering::new(config(), mode, &CostTable::v1())?;
        let module = MeteredModule::new(&metering, LOOPS)?;
        Ok(Bench { metering, module })
    }

    fn call(&self, function: &str, argument: i64, limit: u64) -> Result<(End, u64)> {
        let mut linker: Linker<Host> = Linker::new(self.metering.engine());
        linker.func_wrap("host", "effect", |mut caller: Caller<'_, Host>| {
            caller.data_mut().effects += 1;
            let limit = caller.data().limit.expect("armed");
            if limit.charge(&mut caller, 50).is_none() {
                return Err(Trap::OutOfFuel.into());
            }
            Ok(())
        })?;
        linker.func_wrap("host", "again", |mut caller: Caller<'_, Host>, n: i64| {
            let export = caller
                .get_export("reenter")
                .and_then(|export| export.into_func());
            let function = export.expect("exported").typed::<i64, i64>(&caller)?;
            function.call(&mut caller, n)
        })?;
        let mut store = Store::new(self.metering.engine(), Host::default());
        let limit = Limit::arm(&self.metering, &mut store, limit)?;
        store.data_mut().limit = Some(limit);
        let instance = linker.instantiate(&mut store, &self.module)?;
        let function = instance.get_typed_func::<i64, i64>(&mut store, function)?;
        let end = match function.call(&mut store, argument) {
            Ok(value) => match limit.used(&mut store) {
                Some(used) => End::Returned { value, used },
                None => End::Trapped(Trap::OutOfFuel),
            },
            Err(error) => match error.downcast_ref::<Trap>() {
                Some(trap) => End::Trapped(*trap),
                None => bail!(error),
            },
        };
        Ok((end, store.data().effects))
    }

    fn end(&self, function: &str, argument: i64, limit: u64) -> Result<End> {
        Ok(self.call(function, argument, limit)?.0)
    }
}

const CALLS: &[(&str, i64)] = &[
    ("count", 0),
    ("count", 1),
    ("count", 1000),
    ("recurse", 100),
    ("recurse", 10_000_000),
    ("divide", 3),
    ("divide", 0),
    ("load", 8),
    ("load", 65_536),
    ("load", 0x7fff_ffff),
    ("trap", 0),
    ("effects", 40),
    ("fill", 60_000),
    ("fill", 65_537),
    ("fill", 10),
    ("grow", 3),
    ("grow", 1000),
    ("table", 10),
    ("table", 11),
    ("reenter", 20),
    ("dispatch", 500),
];

const PLENTY: u64 = 2_000_000_000;

#[test]
fn both_modes_count_the_same() -> Result<()> {
    let (exact, slacked) = (Bench::new(Mode::Exact)?, Bench::new(Mode::Slacked)?);
    for &(function, argument) in CALLS {
        let end = exact.end(function, argument, PLENTY)?;
        assert_eq!(
            end,
            slacked.end(function, argument, PLENTY)?,
            "{function}({argument})"
        );
        if let End::Returned { used, .. } = end {
            ensure!(used > 0);
        }
    }
    Ok(())
}

/// The limit is a limit: what used `n` succeeds with a limit of `n` and fails with `n - 1`, in both
/// modes, and without any check from outside: this is what trampolines are for.
#[test]
fn the_limit_is_sharp_without_any_check() -> Result<()> {
    let (exact, slacked) = (Bench::new(Mode::Exact)?, Bench::new(Mode::Slacked)?);
    for &(function, argument) in CALLS {
        let End::Returned { value, used } = exact.end(function, argument, PLENTY)? else {
            continue;
        };
        for bench in [&exact, &slacked] {
            let name = format!("{function}({argument}) {}", bench.metering.mode());
            assert_eq!(
                bench.end(function, argument, used)?,
                End::Returned { value, used },
                "{name}"
            );
            for less in [1, 2, used / 2, used] {
                assert_eq!(
                    bench.end(function, argument, used - less)?,
                    End::Trapped(Trap::OutOfFuel),
                    "{name} with {less} less"
                );
            }
        }
    }
    Ok(())
}

/// A host function is never entered past the limit: with each limit the number of effects is the largest that
/// the limit pays for.
#[test]
fn no_host_effect_past_the_limit() -> Result<()> {
    let bench = Bench::new(Mode::Slacked)?;
    let used = |n| match bench.end("effects", n, PLENTY) {
        Ok(End::Returned { used, .. }) => used,
        other => panic!("{other:?}"),
    };
    let (one, two) = (used(1), used(2));
    let (per_effect, rest) = (two - one, one - (two - one));
    ensure!(per_effect > 50);
    for limit in (0..=used(5)).step_by(7) {
        let (_, effects) = bench.call("effects", 1_000_000, limit)?;
        let affordable = (limit + per_effect).saturating_sub(rest.min(limit)) / per_effect;
        ensure!(
            effects <= affordable,
            "{effects} effects with a limit of {limit}"
        );
    }
    Ok(())
}

#[test]
fn out_of_fuel_prevails_over_a_trap() -> Result<()> {
    let bench = Bench::new(Mode::Slacked)?;
    for (function, argument, trap) in [
        ("divide", 0, Trap::IntegerDivisionByZero),
        ("load", 0x7fff_ffff, Trap::MemoryOutOfBounds),
        ("trap", 0, Trap::UnreachableCodeReached),
        ("recurse", 10_000_000, Trap::StackOverflow),
    ] {
        assert_eq!(
            bench.end(function, argument, PLENTY)?,
            End::Trapped(trap),
            "{function}"
        );
        assert_eq!(
            bench.end(function, argument, 0)?,
            End::Trapped(Trap::OutOfFuel),
            "{function}"
        );
    }
    Ok(())
}

/// Whether this runs under an emulator: see `cargo xtask test-aarch64`.
fn emulated() -> bool {
    std::env::var_os("SLACKLINE_RUNNER").is_some()
}

fn config() -> Config {
    let mut config = Config::new();
    if emulated() {
        // Qemu, before version 8, keeps a record of each page of the gigabytes that wasmtime reserves.
        config
            .memory_reservation(1 << 24)
            .memory_guard_size(1 << 16);
    }
    config
}

#[test]
fn timers_stop_endless_loops() -> Result<()> {
    endless_loops_are_stopped(Driver::Timer)
}

#[test]
fn the_watchdogs_thread_stops_endless_loops() -> Result<()> {
    endless_loops_are_stopped(Driver::Thread)
}

fn endless_loops_are_stopped(driver: Driver) -> Result<()> {
    let bench = Bench::new(Mode::Slacked)?;
    let watchdog = Watchdog::with_driver(driver)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    for limit in [0, 1, 1_000_000, 30_000_000] {
        let stopped = checker.stats().stopped;
        let watch = watchdog.watch(&checker, limit);
        assert_eq!(
            bench.end("forever", 0, limit)?,
            End::Trapped(Trap::OutOfFuel)
        );
        drop(watch);
        assert_eq!(checker.stats().stopped, stopped + 1);
    }
    let overshoot = checker.overshoot();
    for histogram in [&overshoot.fuel, &overshoot.ns] {
        assert_eq!(histogram.count(), checker.stats().stopped);
    }
    assert_eq!(overshoot.fuel.max(), checker.stats().max_overshoot);
    ensure!(overshoot.fuel.quantile(0.0) > Some(0), "{overshoot:?}");
    // Well within its limit: nobody looks. (An emulator takes so long to begin that somebody does.)
    if emulated() {
        return Ok(());
    }
    let sent = checker.stats().sent;
    let watch = watchdog.watch(&checker, PLENTY);
    let end = bench.end("count", 100, PLENTY)?;
    drop(watch);
    ensure!(matches!(end, End::Returned { .. }), "{end:?}");
    assert_eq!(checker.stats().sent, sent);
    Ok(())
}

/// The end of an inner watch leaves the outer one in force.
#[test]
fn watches_nest() -> Result<()> {
    let bench = Bench::new(Mode::Slacked)?;
    let watchdog = Watchdog::start()?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    for inner in [1_000, PLENTY] {
        let outer = watchdog.watch(&checker, 1_000_000);
        let watch = watchdog.watch(&checker, inner);
        ensure!(matches!(
            bench.end("count", 100, inner.max(10_000))?,
            End::Returned { .. }
        ));
        drop(watch);
        // Nobody but the outer watch would stop this one.
        assert_eq!(
            bench.end("forever", 0, 1_000_000)?,
            End::Trapped(Trap::OutOfFuel)
        );
        drop(outer);
    }
    Ok(())
}

/// A deadline that an execution leaves behind does not hide an earlier one of the next.
#[test]
fn a_nearer_deadline_replaces_a_farther_one() -> Result<()> {
    let bench = Bench::new(Mode::Slacked)?;
    let watchdog = Watchdog::start()?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    // Worth days at any rate.
    drop(watchdog.watch(&checker, 1 << 58));
    let watch = watchdog.watch(&checker, 1_000);
    assert_eq!(
        bench.end("forever", 0, 1_000)?,
        End::Trapped(Trap::OutOfFuel)
    );
    drop(watch);
    Ok(())
}

/// Calls `storm` with the current thread under checks from another one, as fast as that can send them.
fn under_fire<T>(storm: impl FnOnce() -> Result<T>) -> Result<T> {
    let checker = AsyncFuelChecker::for_current_thread()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                checker.check();
            }
        });
        let result = storm();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn checks_change_nothing_but_the_time() -> Result<()> {
    let (exact, slacked) = (Bench::new(Mode::Exact)?, Bench::new(Mode::Slacked)?);
    let mut expected = Vec::new();
    for &(function, argument) in CALLS {
        let limits = match exact.end(function, argument, PLENTY)? {
            End::Returned { used, .. } => vec![PLENTY, used, used - 1, used / 2, 0],
            End::Trapped(_) => vec![PLENTY, 0],
        };
        for limit in limits {
            expected.push((
                function,
                argument,
                limit,
                slacked.end(function, argument, limit)?,
            ));
        }
    }
    let landed = AsyncFuelChecker::for_current_thread()?.stats().landed;
    under_fire(|| {
        for round in 0..20 {
            for (function, argument, limit, end) in &expected {
                let name = format!("round {round}: {function}({argument}) with {limit}");
                assert_eq!(slacked.end(function, *argument, *limit)?, *end, "{name}");
            }
            for limit in [0, 1000, 100_000] {
                assert_eq!(
                    slacked.end("forever", 0, limit)?,
                    End::Trapped(Trap::OutOfFuel)
                );
            }
        }
        Ok(())
    })?;
    ensure!(AsyncFuelChecker::for_current_thread()?.stats().landed >= landed + 60);
    Ok(())
}

/// A check never stops what ends within its limit, not even when it lands in the last instructions of an execution that
/// uses its limit up: the counter is never ahead of what is inevitable.
#[test]
fn checks_never_stop_what_just_fits() -> Result<()> {
    let bench = Bench::new(Mode::Slacked)?;
    let module = &bench.module;
    let mut store = Store::new(bench.metering.engine(), Host::default());
    let mut linker: Linker<Host> = Linker::new(bench.metering.engine());
    linker.func_wrap("host", "effect", || {})?;
    linker.func_wrap("host", "again", |n: i64| n)?;
    let instance = linker.instantiate(&mut store, module)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    for (name, argument) in [("count", 300), ("dispatch", 300), ("recurse", 200)] {
        let function = instance.get_typed_func::<i64, i64>(&mut store, name)?;
        let limit = Limit::arm(&bench.metering, &mut store, PLENTY)?;
        let value = function.call(&mut store, argument)?;
        let used = limit.used(&mut store).expect("within its limit");
        let landed = checker.stats().landed;
        under_fire(|| {
            // Until enough checks have landed: how often one does depends on the machine.
            for _ in 0..50_000_000 {
                let limit = Limit::arm(&bench.metering, &mut store, used)?;
                assert_eq!(function.call(&mut store, argument)?, value, "{name}");
                assert_eq!(limit.used(&mut store), Some(used), "{name}");
                if checker.stats().landed > landed + 400 {
                    return Ok(());
                }
            }
            bail!("{name}: {:?}", checker.stats())
        })?;
    }
    Ok(())
}

#[test]
fn artifacts_of_the_two_modes_refuse_each_other() -> Result<()> {
    let (exact, slacked) = (Bench::new(Mode::Exact)?, Bench::new(Mode::Slacked)?);
    for (from, to) in [(&exact, &slacked), (&slacked, &exact)] {
        let artifact = from.module.serialize()?;
        // SAFETY: made by `serialize` just now.
        unsafe {
            Module::deserialize(from.metering.engine(), &artifact)?;
            ensure!(Module::deserialize(to.metering.engine(), &artifact).is_err());
        }
    }
    Ok(())
}

/// Without our module version too: the flag alone keeps them apart, stock engines included.
#[test]
fn a_pinned_counter_alone_keeps_artifacts_apart() -> Result<()> {
    let engine = |pinned: bool| {
        let mut config = config();
        config.consume_fuel(true);
        if pinned {
            // SAFETY: see `Metering`; nothing is executed.
            unsafe { config.cranelift_flag_set("enable_pinned_reg", "true") };
        }
        wasmtime::Engine::new(&config)
    };
    let (plain, pinned) = (engine(false)?, engine(true)?);
    for (from, to) in [(&plain, &pinned), (&pinned, &plain)] {
        let artifact = Module::new(from, "(module (func (export \"f\")))")?.serialize()?;
        // SAFETY: as above.
        let refused = unsafe { Module::deserialize(to, &artifact) }
            .err()
            .map(|error| format!("{error:#}"));
        ensure!(
            refused
                .as_ref()
                .is_some_and(|error| error.contains("enable_pinned_reg")),
            "{refused:?}"
        );
    }
    Ok(())
}

#[test]
fn a_pinned_register_without_fuel_does_not_compile() -> Result<()> {
    let mut config = config();
    // SAFETY: see `Metering`; nothing is executed.
    unsafe { config.cranelift_flag_set("enable_pinned_reg", "true") };
    let engine = wasmtime::Engine::new(&config)?;
    let error = Module::new(&engine, "(module (func (export \"f\")))")
        .err()
        .map(|error| format!("{error:?}"));
    ensure!(
        error
            .as_ref()
            .is_some_and(|error| error.contains("consume_fuel")),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn a_checker_outlives_its_thread() -> Result<()> {
    let checker = std::thread::spawn(AsyncFuelChecker::for_current_thread)
        .join()
        .map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    checker.check();
    assert_eq!(checker.stats().sent, 0);
    Ok(())
}

/// Threads come and go while others check them.
#[test]
fn threads_may_end_under_fire() -> Result<()> {
    let sent = AtomicU64::new(0);
    for _ in 0..200 {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let sent = &sent;
            scope.spawn(move || {
                let checker: AsyncFuelChecker =
                    receiver.recv().expect("sent before the thread ends");
                for _ in 0..50 {
                    checker.check();
                }
                sent.fetch_add(checker.stats().sent, Ordering::Relaxed);
            });
            scope.spawn(move || {
                let checker = AsyncFuelChecker::for_current_thread().expect("supported");
                sender.send(checker.clone()).expect("received");
                // End when the checks have begun.
                while checker.stats().sent == 0 {
                    std::hint::spin_loop();
                }
            });
        });
    }
    ensure!(sent.load(Ordering::Relaxed) > 0);
    Ok(())
}

/// Code of other engines is not ours to stop: whatever it keeps in that register is its own.
#[test]
fn a_stock_engine_is_left_alone() -> Result<()> {
    let engine = wasmtime::Engine::default();
    let module = Module::new(&engine, LOOPS)?;
    let mut linker: Linker<()> = Linker::new(&engine);
    linker.func_wrap("host", "effect", || {})?;
    linker.func_wrap("host", "again", |n: i64| n)?;
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &module)?;
    let dispatch = instance.get_typed_func::<i64, i64>(&mut store, "dispatch")?;
    let count = instance.get_typed_func::<i64, i64>(&mut store, "count")?;
    // Something of ours beside it, so that there is a table and a handler.
    let ours = Bench::new(Mode::Slacked)?;
    let expected = (
        dispatch.call(&mut store, 5_000)?,
        count.call(&mut store, 5_000)?,
    );
    let before = AsyncFuelChecker::for_current_thread()?.stats();
    under_fire(|| {
        for _ in 0..300 {
            let got = (
                dispatch.call(&mut store, 5_000)?,
                count.call(&mut store, 5_000)?,
            );
            assert_eq!(got, expected);
        }
        Ok(())
    })?;
    let after = AsyncFuelChecker::for_current_thread()?.stats();
    ensure!(after.sent > before.sent);
    assert_eq!(after.landed, before.landed);
    ensure!(matches!(
        ours.end("count", 10, PLENTY)?,
        End::Returned { .. }
    ));
    Ok(())
}

#[test]
fn proposals_that_are_not_supported_are_refused() -> Result<()> {
    for mode in Mode::ALL {
        let metering = Metering::new(config(), mode, &CostTable::v1())?;
        for text in [
            "(module (memory i64 1))",
            "(module (tag))",
            "(module (type $f (func)) (func (param (ref null $f))))",
            "(module (type (struct)))",
        ] {
            ensure!(
                MeteredModule::new(&metering, text).is_err(),
                "{mode}: {text}"
            );
        }
        MeteredModule::new(&metering, "(module (memory 1) (func (param funcref)))")?;
    }
    Ok(())
}
