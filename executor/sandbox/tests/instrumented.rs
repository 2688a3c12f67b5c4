//! Instrumented code does what the code did, and its stack is back when it returns.

#![allow(clippy::unwrap_used)] // A test may panic.

use arbitrary::Unstructured;
use proptest::prelude::*;
use slackline_sandbox::{
    CodeLimits, NATIVE_RESERVE, STACK_GLOBAL, check, features, stack_exhausted,
};
use wasm_encoder::Encode;
use wasmtime::{Config, Engine, ExternType, Instance, Module, Store, Trap, V128, Val};

fn limits() -> CodeLimits {
    CodeLimits::v1()
}

fn engine() -> Engine {
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .wasm_features(wasmtime::WasmFeatures::all(), false)
        .wasm_features(features(), true)
        .async_stack_size((limits().stack_bytes + NATIVE_RESERVE) as usize)
        .max_wasm_stack((limits().stack_bytes + NATIVE_RESERVE) as usize);
    Engine::new(&config).unwrap()
}

/// On a thread with the stack that the limit asks for.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(64 << 20)
            .spawn_scoped(scope, work)
            .unwrap()
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A module of wasm-smith's that has what a contract must have, with calls of all kinds.
fn smith(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut choices = Unstructured::new(bytes);
    let config = wasm_smith::Config {
        min_types: 2,
        max_types: 6,
        min_funcs: 3,
        max_funcs: 8,
        max_instructions: 150,
        max_imports: 0,
        min_memories: 1,
        max_memories: 1,
        max_memory32_bytes: 1 << 20,
        max_tables: 1,
        min_tables: 1,
        min_element_segments: 1,
        max_element_segments: 2,
        max_table_elements: 10,
        max_globals: 4,
        max_data_segments: 2,
        export_everything: true,
        allow_start_export: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        multi_value_enabled: true,
        reference_types_enabled: false,
        bulk_memory_enabled: true,
        extended_const_enabled: false,
        relaxed_simd_enabled: false,
        simd_enabled: true,
        tail_call_enabled: true,
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        shared_everything_threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut module = wasm_smith::Module::new(config, &mut choices).ok()?;
    // Loops that end, and recursion that mostly does.
    let _ = module.ensure_termination(200);
    as_contract(&module.to_bytes())
}

/// Adds a method that does nothing (type, function, body) and exports it, and the memory.
fn as_contract(wasm: &[u8]) -> Option<Vec<u8>> {
    let mut counts = [0u32; 4];
    let mut sections = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        let payload = payload.ok()?;
        let count = match &payload {
            wasmparser::Payload::TypeSection(section) => Some((0, section.count())),
            wasmparser::Payload::FunctionSection(section) => Some((1, section.count())),
            wasmparser::Payload::ExportSection(section) => Some((2, section.count())),
            wasmparser::Payload::CodeSectionStart { count, .. } => Some((3, *count)),
            _ => None,
        };
        if let Some((which, count)) = count {
            counts[which] = count;
        }
        sections.extend(
            payload
                .as_section()
                .map(|(id, range)| (id, count.map(|(which, _)| which), range)),
        );
    }
    let mut ty = Vec::new();
    counts[0].encode(&mut ty);
    let mut exports = Vec::new();
    "memory".encode(&mut exports);
    exports.extend([2, 0]);
    "run".encode(&mut exports);
    exports.push(0);
    counts[1].encode(&mut exports);
    let items: [(u32, &[u8]); 4] = [
        (1, &[0x60, 0, 0]),
        (1, &ty),
        (2, &exports),
        (1, &[2, 0, 0x0b]),
    ];
    let mut output = b"\0asm\x01\0\0\0".to_vec();
    for (id, which, range) in sections {
        let mut contents = wasm[range].to_vec();
        if let Some(which) = which {
            let old = contents.iter().take_while(|&&byte| byte >= 0x80).count() + 1;
            let mut new = Vec::new();
            (counts[which] + items[which].0).encode(&mut new);
            contents.splice(..old, new);
            contents.extend_from_slice(items[which].1);
        }
        output.push(id);
        contents.as_slice().encode(&mut output);
    }
    Some(output)
}

/// What can be seen of a run of all exported functions, one after the other in one instance.
#[derive(Debug, PartialEq)]
struct Seen {
    results: Vec<Result<Vec<String>, String>>,
    globals: Vec<String>,
    memory: Vec<u8>,
    /// The stack limit trapped: what comes after that is not comparable.
    exhausted: bool,
}

fn zero(ty: &wasmtime::ValType) -> Val {
    match ty {
        wasmtime::ValType::I32 => Val::I32(3),
        wasmtime::ValType::I64 => Val::I64(5),
        wasmtime::ValType::F32 => Val::F32(1.5f32.to_bits()),
        wasmtime::ValType::F64 => Val::F64(2.5f64.to_bits()),
        wasmtime::ValType::V128 => Val::V128(V128::from(7)),
        wasmtime::ValType::Ref(_) => Val::null_func_ref(),
    }
}

fn text(value: &Val) -> String {
    match value {
        Val::FuncRef(function) => format!("funcref {}", function.is_some()),
        other => format!("{other:?}"),
    }
}

fn run(engine: &Engine, wasm: &[u8]) -> Option<Seen> {
    let module = Module::new(engine, wasm).unwrap();
    let mut store = Store::new(engine, ());
    store.set_fuel(u64::MAX).unwrap();
    let instance = Instance::new(&mut store, &module, &[]).ok()?;
    let stack = instance.get_global(&mut store, STACK_GLOBAL);
    let initial = stack.map(|stack| stack.get(&mut store).unwrap_i32());
    let mut seen = Seen {
        results: Vec::new(),
        globals: Vec::new(),
        memory: Vec::new(),
        exhausted: false,
    };
    for export in module.exports() {
        let ExternType::Func(ty) = export.ty() else {
            continue;
        };
        let function = instance.get_func(&mut store, export.name()).unwrap();
        let params: Vec<Val> = ty.params().map(|ty| zero(&ty)).collect();
        let mut results: Vec<Val> = ty.results().map(|ty| zero(&ty)).collect();
        store.set_fuel(10_000_000).unwrap();
        match function.call(&mut store, &params, &mut results) {
            Ok(()) => {
                seen.results.push(Ok(results.iter().map(text).collect()));
                let left = stack.map(|stack| stack.get(&mut store).unwrap_i32());
                assert_eq!(
                    left,
                    initial,
                    "the stack is not back after {}",
                    export.name()
                );
            }
            Err(error) => {
                let trap = *error.downcast_ref::<Trap>().unwrap();
                assert_ne!(trap, Trap::StackOverflow, "after {}", export.name());
                if trap == Trap::OutOfFuel {
                    return None;
                }
                let left = stack.map_or(0, |stack| stack.get(&mut store).unwrap_i32());
                seen.exhausted = stack_exhausted(left);
                seen.results.push(Err(trap.to_string()));
                // A trap ends the instance.
                break;
            }
        }
    }
    for export in module.exports() {
        if export.name() == STACK_GLOBAL {
            continue;
        }
        if let Some(global) = instance.get_global(&mut store, export.name()) {
            let value = global.get(&mut store);
            seen.globals.push(text(&value));
        }
    }
    if let Some(memory) = instance.get_memory(&mut store, "memory") {
        seen.memory = memory.data(&store).to_vec();
    }
    Some(seen)
}

#[test]
fn modules_of_wasm_smith_do_the_same_instrumented() {
    let engine = engine();
    let compared = std::cell::Cell::new(0usize);
    let recursive = std::cell::Cell::new(0usize);
    let returned = std::cell::Cell::new(0usize);
    let config = ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    runner
        .run(&proptest::collection::vec(any::<u8>(), 3_000), |bytes| {
            let Some(wasm) = smith(&bytes) else {
                return Ok(());
            };
            let checked = check(&wasm, &limits(), &[]).unwrap();
            let instrumented = checked.instrument();
            wasmparser::Validator::new_with_features(features())
                .validate_all(&instrumented)
                .unwrap();
            let has_recursion = checked.interface().stack.recursive_functions > 0;
            prop_assert_eq!(instrumented != wasm, has_recursion);
            let Some((before, after)) =
                with_stack(|| Some((run(&engine, &wasm)?, run(&engine, &instrumented)?)))
            else {
                return Ok(());
            };
            if after.exhausted {
                return Ok(());
            }
            compared.set(compared.get() + 1);
            recursive.set(recursive.get() + usize::from(has_recursion));
            let returns = has_recursion && after.results.iter().any(Result::is_ok);
            returned.set(returned.get() + usize::from(returns));
            prop_assert_eq!(before, after);
            Ok(())
        })
        .unwrap();
    let (compared, recursive, returned) = (compared.get(), recursive.get(), returned.get());
    println!("{compared} compared, {recursive} recursive, {returned} of these returned");
    assert!(
        compared > 200 && recursive > 50 && returned > 25,
        "{compared} {recursive} {returned}"
    );
}
