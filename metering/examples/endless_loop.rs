//! Stops an endless loop: see `docs/embedding.md`.

use slackline_metering::{
    AsyncFuelChecker, CostTable, Limit, MeteredModule, Metering, Mode, Watchdog,
};
use wasmtime::{Config, Instance, Store, Trap};

const PROGRAM: &str = r#"(module
  (func (export "sum") (param $n i64) (result i64) (local $sum i64)
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (local.get $n)))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $next (i64.ne (local.get $n) (i64.const 0))))
    (local.get $sum))
  (func (export "spin") (loop (br 0))))"#;

fn main() -> anyhow::Result<()> {
    let metering = Metering::new(Config::new(), Mode::Slacked, &CostTable::v1())?;
    let module = MeteredModule::new(&metering, PROGRAM)?;
    // One watchdog for the program, one checker for each thread that executes.
    let watchdog = Watchdog::start()?;
    let checker = AsyncFuelChecker::for_current_thread()?;

    let mut store = Store::new(metering.engine(), ());
    let limit = Limit::arm(&metering, &mut store, 10_000_000)?;
    let instance = Instance::new(&mut store, &module, &[])?;
    let sum = instance.get_typed_func::<i64, i64>(&mut store, "sum")?;
    let spin = instance.get_typed_func::<(), ()>(&mut store, "spin")?;

    let watch = watchdog.watch(&checker, limit.fuel());
    let result = sum.call(&mut store, 1000)?;
    drop(watch);
    println!(
        "sum(1000) = {result}, for {:?} fuel",
        limit.used(&mut store)
    );

    let left = limit.fuel() - limit.used(&mut store).unwrap_or(limit.fuel());
    let watch = watchdog.watch(&checker, left);
    let stopped = spin.call(&mut store, ());
    drop(watch);
    match stopped {
        Err(error) if error.downcast_ref() == Some(&Trap::OutOfFuel) => {
            println!("spin() is out of fuel: {:?}", checker.stats());
        }
        other => anyhow::bail!("spin() ended otherwise: {other:?}"),
    }
    Ok(())
}
