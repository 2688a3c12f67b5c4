//! What `check` finds, and what instrumenting leaves alone.

#![allow(clippy::unwrap_used)] // A test may panic.

use slackline_sandbox::{
    CodeError, CodeLimits, HostFunction, STACK_GLOBAL, ValType, check, check_counting, features,
};

const HOST: &[HostFunction] = &[HostFunction {
    name: "storage_get",
    params: &[ValType::I32; 4],
    results: &[ValType::I64],
}];

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn error(text: &str) -> CodeError {
    check(&wasm(text), &CodeLimits::v1(), HOST).unwrap_err()
}

/// One of the limits.
type Field = fn(&mut CodeLimits) -> &mut u32;

/// How many functions of a module can recurse.
fn recursive(text: &str) -> u32 {
    let wasm = wasm(text);
    let checked = check(&wasm, &CodeLimits::v1(), HOST).unwrap();
    checked.interface().stack.recursive_functions
}

#[test]
fn the_interface_is_what_the_module_says() {
    let wasm = wasm(
        r#"(module
            (import "slackline_v1" "storage_get" (func (param i32 i32 i32 i32) (result i64)))
            (memory (export "memory") 1)
            (func (export "init")) (func (export "get")) (func (export "put"))
            (func (export "Odd")) (func (export "with_param") (param i32))
            (@custom "slackline_reentrant" "get\nput\n")
            (@custom "slackline_abi" "{}"))"#,
    );
    let interface = check(&wasm, &CodeLimits::v1(), HOST)
        .unwrap()
        .into_interface();
    let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(&interface.methods), ["get", "init", "put"]);
    assert_eq!(names(&interface.reentrant), ["get", "put"]);
    assert_eq!(interface.abi.as_deref(), Some(&b"{}"[..]));
    assert_eq!(interface.stack.recursive_functions, 0);
}

#[test]
fn an_import_must_have_the_type_that_the_host_gives_it() {
    let error = error(
        r#"(module (import "slackline_v1" "storage_get" (func (param i32) (result i64)))
            (memory (export "memory") 1) (func (export "run")))"#,
    );
    assert_eq!(
        error.to_string(),
        "import \"storage_get\" has the wrong type: declare it as (i32, i32, i32, i32) -> (i64)"
    );
}

/// For each limit: a module that has exactly that much passes, and does not with a limit lower by one.
#[test]
fn limits_hold_to_the_unit() {
    let wasm = wasm(
        r#"(module
            (type (func (param i32 i32) (result i32 i32)))
            (import "slackline_v1" "storage_get" (func (param i32 i32 i32 i32) (result i64)))
            (memory (export "memory") 3) (table 7 funcref)
            (global (mut i32) (i32.add (i32.const 1) (i32.const 2)))
            (elem (i32.const 0) 1 1 1 1 1) (elem (i32.const 5) 1)
            (data (i32.const 0) "abc") (data (i32.const 9) "de")
            (@custom "note" "12345678")
            (func (param i32) (local i32 i64)
              (block (loop (local.set 1 (local.get 0)) (local.set 1 (local.get 0)) (br_table 0 1 0 (local.get 0)))))
            (func (export "run")))"#,
    );
    let pass = |limits: &CodeLimits| check(&wasm, limits, HOST).map(|_| ());
    assert_eq!(pass(&CodeLimits::v1()), Ok(()));
    let fields: [(&str, u32, Field); 23] = [
        ("types", 4, |l| &mut l.types),
        ("parameters of a type", 4, |l| &mut l.params),
        ("results of a type", 2, |l| &mut l.results),
        ("functions", 3, |l| &mut l.functions),
        ("imports", 1, |l| &mut l.imports),
        ("exports", 2, |l| &mut l.exports),
        ("bytes in a name", 12, |l| &mut l.name_bytes),
        ("globals", 1, |l| &mut l.globals),
        ("tables", 1, |l| &mut l.tables),
        ("table elements", 7, |l| &mut l.table_elements),
        ("memory pages", 3, |l| &mut l.memory_pages),
        ("element segments", 2, |l| &mut l.element_segments),
        ("elements in segments", 6, |l| &mut l.segment_elements),
        ("data segments", 2, |l| &mut l.data_segments),
        ("bytes in data segments", 5, |l| &mut l.data_bytes),
        ("operators in a constant expression", 4, |l| {
            &mut l.constant_operators
        }),
        ("custom sections", 1, |l| &mut l.custom_sections),
        ("bytes in custom sections", 12, |l| &mut l.custom_bytes),
        ("locals", 3, |l| &mut l.locals),
        ("locals in all functions", 3, |l| &mut l.total_locals),
        ("blocks around one another", 2, |l| &mut l.nesting),
        ("targets of a br_table", 3, |l| &mut l.br_table_targets),
        // Local 1 is assigned in the block and in the loop; twice, which makes no difference.
        ("merges of locals", 2, |l| &mut l.merges),
    ];
    for (what, has, field) in fields {
        let mut limits = CodeLimits::v1();
        *field(&mut limits) = has;
        assert_eq!(pass(&limits), Ok(()), "{what}");
        *field(&mut limits) = has - 1;
        let error = pass(&limits).unwrap_err();
        let CodeError::TooMany {
            what: found,
            count,
            limit,
            ..
        } = error
        else {
            panic!("{what}: {error}");
        };
        assert_eq!(
            (found, count, limit),
            (what, has.into(), u64::from(has) - 1)
        );
    }
}

#[test]
fn limits_of_a_function_hold_to_the_unit() {
    // Body: one byte for the count of locals, then 1 + 2 + 1 + 2 + 1 + 1 bytes of operators.
    let wasm = wasm(
        r#"(module (memory (export "memory") 1)
            (func (result i32) (block (result i32) (i32.const 1)) (br 0))
            (func (export "run")))"#,
    );
    let mut limits = CodeLimits {
        body_bytes: 9,
        operators: 5,
        // The block's result, and the branch's.
        carried_values: 2,
        ..CodeLimits::v1()
    };
    assert!(check(&wasm, &limits, HOST).is_ok());
    let fields: [(&str, Field); 3] = [
        ("bytes in a function", |l| &mut l.body_bytes),
        ("operators in a function", |l| &mut l.operators),
        ("values carried by control flow", |l| &mut l.carried_values),
    ];
    for (what, field) in fields {
        *field(&mut limits) -= 1;
        let error = check(&wasm, &limits, HOST).unwrap_err();
        assert!(
            error.to_string().contains(what) && error.to_string().contains("function 0"),
            "{error}"
        );
        *field(&mut limits) += 1;
    }
}

#[test]
fn a_chain_as_deep_as_the_limit_passes_and_a_byte_more_does_not() {
    let wasm = wasm(
        r#"(module (memory (export "memory") 1) (func $a call $b) (func $b) (func (export "run") call $a))"#,
    );
    let bytes = check(&wasm, &CodeLimits::v1(), HOST)
        .unwrap()
        .into_interface()
        .stack
        .fixed_bytes;
    // FRAME + 16 * (2 * 2), and for a call 16 * (3 + 2) more.
    assert_eq!(bytes, 3 * (384 + 64) + 2 * 80);
    let mut limits = CodeLimits {
        fixed_stack_bytes: bytes,
        ..CodeLimits::v1()
    };
    assert!(check(&wasm, &limits, HOST).is_ok());
    limits.fixed_stack_bytes -= 1;
    let error = check(&wasm, &limits, HOST).unwrap_err();
    assert_eq!(
        error,
        CodeError::StackTooDeep {
            bytes,
            limit: bytes - 1
        }
    );
}

#[test]
fn what_can_recurse_follows_types_and_what_a_table_may_hold() {
    let module = |rest: &str| {
        format!(
            r#"(module (memory (export "memory") 1) (table (;0;) 1 funcref) (type $t (func)) (type $u (func (param i32))) {rest})"#
        )
    };
    let call = "i32.const 0 call_indirect (type $t)";
    // The caller itself is not in a table: no cycle.
    let none = format!(r#"(elem (i32.const 0) $a) (func $a) (func (export "run") {call})"#);
    assert_eq!(recursive(&module(&none)), 0);
    // It is, and it is the only one that is on a cycle.
    let own =
        format!(r#"(elem (i32.const 0) $r) (func $a) (func $r (export "run") {call} call $a)"#);
    assert_eq!(recursive(&module(&own)), 1);
    // What is in the table has another type.
    let other = format!(
        r#"(elem (i32.const 0) $p) (func $p (param i32) call $r) (func $r (export "run") {call})"#
    );
    assert_eq!(recursive(&module(&other)), 0);
    // Through a function of that type: both.
    let both =
        format!(r#"(elem (i32.const 0) $p) (func $p call $r) (func $r (export "run") {call})"#);
    assert_eq!(recursive(&module(&both)), 2);
    // An exported table may be given what else is exported.
    let exported = format!(r#"(export "table" (table 0)) (func (export "run") {call})"#);
    assert_eq!(recursive(&module(&exported)), 1);
    // A declared reference can be stored.
    let declared = format!(
        r#"(elem declare func $r) (func $r (export "run") i32.const 0 ref.func $r table.set 0 {call})"#
    );
    assert_eq!(recursive(&module(&declared)), 1);
}

#[test]
fn instrumenting_leaves_alone_what_it_can() {
    let wasm = wasm(
        r#"(module
            (memory (export "memory") 1)
            (global $g (export "g") (mut i64) (i64.const 7))
            (func $leaf (param i32) (result i32) local.get 0)
            (func $r (result i32 i64) (if (i32.const 0) (then (return (i32.const 1) (i64.const 2)))) call $r)
            (func (export "run") call $r drop drop (drop (call $leaf (i32.const 1))))
            (@custom "slackline_abi" "{}"))"#,
    );
    let checked = check(&wasm, &CodeLimits::v1(), HOST).unwrap();
    let new = checked.instrument();
    assert_eq!(new, checked.instrument());
    wasmparser::Validator::new_with_features(features())
        .validate_all(&new)
        .unwrap();
    let sections = |wasm: &[u8]| {
        let mut bodies = Vec::new();
        let mut customs = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            match payload.unwrap() {
                wasmparser::Payload::CodeSectionEntry(body) => {
                    bodies.push(body.as_bytes().to_vec());
                }
                wasmparser::Payload::CustomSection(section) => {
                    customs.push((section.name().to_owned(), section.data().to_vec()));
                }
                _ => {}
            }
        }
        (bodies, customs)
    };
    let ((old_bodies, old_customs), (new_bodies, new_customs)) = (sections(&wasm), sections(&new));
    assert!(old_customs.iter().any(|(name, _)| name == "name"));
    assert_eq!(old_customs, new_customs);
    assert_eq!(old_bodies[0], new_bodies[0], "a leaf");
    assert_ne!(old_bodies[1], new_bodies[1], "what recurses");
    assert_eq!(
        old_bodies[2], new_bodies[2],
        "the method, which nothing calls"
    );
    // Once is enough: the export tells.
    let twice = check(&new, &CodeLimits::v1(), HOST).unwrap_err();
    assert_eq!(
        twice,
        CodeError::ReservedExport {
            name: STACK_GLOBAL.to_owned()
        }
    );
}

#[test]
fn cut_off_anywhere_or_with_any_byte_changed_a_module_never_panics() {
    let wasm = wasm(
        r#"(module (import "slackline_v1" "storage_get" (func (param i32 i32 i32 i32) (result i64)))
            (memory (export "memory") 1) (table 2 funcref) (global (mut i32) (i32.const 1))
            (elem (i32.const 0) $r) (data (i32.const 0) "abc")
            (func $r (param i32) (result i32 i32) (local i64)
              (block (loop (br_table 0 1 2 (local.get 0) (local.get 0) (local.get 0)))) (return_call $r (i32.const 1)))
            (func (export "run") (drop (drop (call_indirect (param i32) (result i32 i32) (i32.const 1) (i32.const 0))))))"#
            .replace("(drop (drop (call_indirect (param i32) (result i32 i32) (i32.const 1) (i32.const 0))))", "i32.const 1 i32.const 0 call_indirect (param i32) (result i32 i32) drop drop")
            .replace("(br_table 0 1 2 (local.get 0) (local.get 0) (local.get 0))", "(br_table 0 1 0 (local.get 0))")
            .as_str(),
    );
    assert!(check(&wasm, &CodeLimits::v1(), HOST).is_ok());
    let mut passed = 0;
    let mut look = |wasm: &[u8]| {
        let (result, work) = check_counting(wasm, &CodeLimits::v1(), HOST);
        assert!(work < 10_000, "{work}");
        if let Ok(checked) = result {
            passed += 1;
            wasmparser::Validator::new_with_features(features())
                .validate_all(&checked.instrument())
                .unwrap();
        }
    };
    for length in 0..wasm.len() {
        look(&wasm[..length]);
    }
    for at in 8..wasm.len() {
        for value in 0..=255 {
            let mut changed = wasm.clone();
            changed[at] = value;
            look(&changed);
        }
    }
    assert!(passed > 100, "{passed}");
}
