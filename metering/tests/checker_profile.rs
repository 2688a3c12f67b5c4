//! The sampling profile. A process has one profiler: the tests take turns.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use anyhow::{Context, Result, ensure};
use slackline_metering::{
    AsyncFuelChecker, CostTable, Limit, MeteredModule, Metering, Mode, Profiler, ProfilerError,
    Sample,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasmtime::{Config, Instance, Store, TypedFunc};

/// Nine times as many rounds of the same loop in `hot` as in `cold`, a hundred times over.
const BURN: &str = r#"(module $burner
  (func $burn (param $n i64) (result i64) (local $acc i64)
    (loop $l
      (local.set $acc (i64.rotl (i64.add (local.get $acc) (local.get $n)) (i64.const 1)))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))
    (local.get $acc))
  (func $hot (param $n i64) (result i64) (local $acc i64)
    (loop $l
      (local.set $acc (i64.rotl (i64.add (local.get $acc) (local.get $n)) (i64.const 1)))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))
    (local.get $acc))
  (func $cold (param $n i64) (result i64) (local $acc i64)
    (loop $l
      (local.set $acc (i64.rotl (i64.add (local.get $acc) (local.get $n)) (i64.const 1)))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))
    (local.get $acc))
  (func (export "main") (result i64) (local $i i64) (local $acc i64)
    (loop $l
      (local.set $acc (i64.add (local.get $acc) (call $hot (i64.const 9000))))
      (local.set $acc (i64.add (local.get $acc) (call $cold (i64.const 1000))))
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br_if $l (i64.lt_u (local.get $i) (i64.const 100))))
    (local.get $acc))
)"#;

const PLENTY: u64 = 1 << 40;
const INTERVAL: Duration = Duration::from_micros(200);

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn metering() -> Result<Metering> {
    Ok(Metering::new(
        Config::new(),
        Mode::Slacked,
        &CostTable::v1(),
    )?)
}

type Main = (Store<()>, TypedFunc<(), i64>);

fn instance(metering: &Metering, module: &MeteredModule) -> Result<Main> {
    let mut store = Store::new(metering.engine(), ());
    Limit::arm(metering, &mut store, PLENTY)?;
    let instance = Instance::new(&mut store, module, &[])?;
    let main = instance.get_typed_func(&mut store, "main")?;
    Ok((store, main))
}

/// Executes until `count` samples have been taken.
fn sample(profiler: &Profiler, (store, main): &mut Main, count: usize) -> Result<Vec<Sample>> {
    let checker = AsyncFuelChecker::for_current_thread()?;
    let _watch = profiler.watch(&checker);
    let mut samples = Vec::new();
    while samples.len() < count {
        main.call(&mut *store, ())?;
        samples.extend(profiler.drain());
    }
    Ok(samples)
}

/// Samples and fuel of the function of that name.
fn total(samples: &[Sample], name: &str) -> (usize, u64) {
    let of = samples
        .iter()
        .filter(|sample| sample.function.name.as_deref() == Some(name));
    (
        of.clone().count(),
        of.filter_map(|sample| sample.fuel).sum(),
    )
}

#[test]
fn the_hot_function_is_found() -> Result<()> {
    let _turn = turn();
    let metering = metering()?;
    let module = MeteredModule::new(&metering, BURN)?;
    let mut main = instance(&metering, &module)?;
    let profiler = Profiler::start(4096, INTERVAL)?;
    let before = main.0.get_fuel()?;
    let samples = sample(&profiler, &mut main, 400)?;
    let burned = before - main.0.get_fuel()?;
    let (hot, hot_fuel) = total(&samples, "hot");
    let (cold, cold_fuel) = total(&samples, "cold");
    let all = samples.len();
    // 90 % of the work: with 400 samples 50 % is twenty-five standard deviations off.
    ensure!(hot * 2 > all, "{hot} of {all} hot, {cold} cold");
    ensure!(hot + cold > all * 9 / 10, "{hot} hot, {cold} cold of {all}");
    ensure!(cold > 0);
    let fuel: u64 = samples.iter().filter_map(|sample| sample.fuel).sum();
    ensure!(fuel <= burned, "{fuel} sampled, {burned} burned");
    ensure!(hot_fuel * 2 > fuel && hot_fuel > cold_fuel);
    assert_eq!(profiler.lost(), 0);

    let function = &samples
        .iter()
        .find(|sample| sample.function.name.as_deref() == Some("hot"))
        .context("hot")?
        .function;
    assert_eq!(Some(function.module), module.id());
    assert_eq!(function.module_name.as_deref(), Some("burner"));
    assert_eq!(function.index, 1);
    assert_eq!(function.to_string(), "burner!hot");
    Ok(())
}

/// A module may be gone when its samples are resolved, and another one may be where it was.
#[test]
fn samples_outlive_their_module() -> Result<()> {
    let _turn = turn();
    let metering = metering()?;
    let profiler = Profiler::start(1 << 16, INTERVAL)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    let mut ids = Vec::new();
    for name in ["hot", "warm", "tepid"] {
        let module = MeteredModule::new(&metering, BURN.replace("hot", name))?;
        let mut main = instance(&metering, &module)?;
        let end = checker.stats().landed + 50;
        let _watch = profiler.watch(&checker);
        while checker.stats().landed < end {
            main.1.call(&mut main.0, ())?;
        }
        ids.push((name, module.id()));
    }
    let samples = profiler.drain();
    for (name, id) in ids {
        ensure!(total(&samples, name).0 > 25, "{name}: {samples:?}");
        for sample in samples
            .iter()
            .filter(|sample| sample.function.name.as_deref() == Some(name))
        {
            assert_eq!(Some(sample.function.module), id);
        }
    }
    assert_eq!(profiler.lost(), 0);
    Ok(())
}

#[test]
fn a_full_ring_loses_and_says_so() -> Result<()> {
    let _turn = turn();
    let metering = metering()?;
    let module = MeteredModule::new(&metering, BURN)?;
    let mut main = instance(&metering, &module)?;
    let profiler = Profiler::start(16, INTERVAL)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    let before = checker.stats().landed;
    let watch = profiler.watch(&checker);
    while checker.stats().landed < before + 40 {
        main.1.call(&mut main.0, ())?;
    }
    drop(watch);
    let landed = checker.stats().landed - before;
    assert_eq!(profiler.drain().len(), 16);
    assert_eq!(profiler.lost(), landed - 16);
    // Room again.
    ensure!(sample(&profiler, &mut main, 20)?.len() >= 20);
    Ok(())
}

#[test]
fn nothing_is_sampled_without_a_profiler_or_outside_a_watch() -> Result<()> {
    let _turn = turn();
    let metering = metering()?;
    let module = MeteredModule::new(&metering, BURN)?;
    let mut main = instance(&metering, &module)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    let profiler = Profiler::start(64, INTERVAL)?;
    ensure!(matches!(
        Profiler::start(64, INTERVAL),
        Err(ProfilerError::Running)
    ));
    sample(&profiler, &mut main, 10)?;
    let sent = checker.stats().sent;
    // Thousands of intervals' worth of work, if the thread were still on the list.
    for _ in 0..200 {
        main.1.call(&mut main.0, ())?;
    }
    assert_eq!(checker.stats().sent, sent);
    drop(profiler);
    let profiler = Profiler::start(64, INTERVAL)?;
    assert_eq!(profiler.drain(), []);
    ensure!(!sample(&profiler, &mut main, 1)?.is_empty());
    Ok(())
}

/// The fuel of samples is that of their own execution, also if another one was nested in it.
#[test]
fn nested_watches_do_not_mix_their_fuel() -> Result<()> {
    let _turn = turn();
    let metering = metering()?;
    let module = MeteredModule::new(&metering, BURN)?;
    let profiler = Profiler::start(1 << 16, INTERVAL)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    let mut outer = instance(&metering, &module)?;
    let mut burned = 0;
    let start = outer.0.get_fuel()?;
    let outer_watch = profiler.watch(&checker);
    let end = checker.stats().landed + 100;
    while checker.stats().landed < end {
        outer.1.call(&mut outer.0, ())?;
        let mut inner = instance(&metering, &module)?;
        // Far ahead of the outer counter.
        inner.0.set_fuel(PLENTY / 2)?;
        let inner_watch = profiler.watch(&checker);
        inner.1.call(&mut inner.0, ())?;
        drop(inner_watch);
        burned += PLENTY / 2 - inner.0.get_fuel()?;
    }
    drop(outer_watch);
    burned += start - outer.0.get_fuel()?;
    let samples = profiler.drain();
    ensure!(samples.len() >= 100);
    let fuel: u64 = samples.iter().filter_map(|sample| sample.fuel).sum();
    ensure!(
        fuel > 0 && fuel <= burned,
        "{fuel} sampled, {burned} burned"
    );
    Ok(())
}
