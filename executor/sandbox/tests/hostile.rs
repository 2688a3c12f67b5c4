//! The hostile modules that may be deployed, run on stock wasmtime.

#![allow(clippy::unwrap_used)] // A test may panic.

use slackline_sandbox::hostile::{Cause, Expected, METHOD, corpus};
use slackline_sandbox::{
    CodeLimits, NATIVE_RESERVE, STACK_GLOBAL, check, features, stack_exhausted,
};
use wasmtime::{Config, Engine, Instance, Module, Store, StoreLimitsBuilder, Trap};

#[test]
fn each_accepted_module_ends_as_it_must() {
    let limits = CodeLimits::v1();
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .wasm_features(wasmtime::WasmFeatures::all(), false)
        .wasm_features(features(), true)
        .async_stack_size((limits.stack_bytes + NATIVE_RESERVE) as usize)
        .max_wasm_stack((limits.stack_bytes + NATIVE_RESERVE) as usize);
    let engine = Engine::new(&config).unwrap();
    let mut ran = 0;
    for hostile in corpus() {
        let name = hostile.name;
        let Ok(checked) = check(&hostile.wasm, &limits, &[]) else {
            continue;
        };
        ran += 1;
        let module = Module::new(&engine, checked.instrument()).unwrap();
        let resources = StoreLimitsBuilder::new()
            .memory_size(limits.memory_pages as usize * 65_536)
            .table_elements(limits.table_elements as usize)
            .build();
        let mut store = Store::new(&engine, resources);
        store.limiter(|resources| resources);
        let endless = hostile.expected == Expected::Abort(Cause::Fuel);
        store
            .set_fuel(if endless { 10_000_000 } else { 1_000_000_000 })
            .unwrap();
        let mut left = 0;
        let result = std::thread::scope(|scope| {
            let run = || {
                let instance = Instance::new(&mut store, &module, &[])?;
                let run = instance.get_typed_func::<(), ()>(&mut store, METHOD)?;
                let result = run.call(&mut store, ());
                if let Some(global) = instance.get_global(&mut store, STACK_GLOBAL) {
                    left = global.get(&mut store).unwrap_i32();
                }
                result
            };
            let thread = std::thread::Builder::new().stack_size(64 << 20);
            thread.spawn_scoped(scope, run).unwrap().join().unwrap()
        });
        let found = match result {
            Ok(()) => Expected::Success,
            Err(error) => Expected::Abort(match error.downcast_ref::<Trap>() {
                Some(Trap::OutOfFuel) => Cause::Fuel,
                Some(Trap::StackOverflow) => panic!("{name}: the native stack overflowed"),
                Some(_) if stack_exhausted(left) => Cause::Stack,
                _ => Cause::Trap,
            }),
        };
        assert_eq!(found, hostile.expected, "{name}");
    }
    assert!(ran > 25, "{ran}");
}
