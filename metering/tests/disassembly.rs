//! What is left of metering in machine code, on x86-64.
#![cfg(target_arch = "x86_64")]

use anyhow::{Result, ensure};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind,
    Register,
};
use slackline_metering::{CostTable, MeteredModule, Metering, Mode};
use wasmtime::Config;

/// No memory and no globals, so that whatever is read or written besides the frame is wasmtime's.
const PROGRAM: &str = r#"(module
  (import "host" "f" (func $host (param i64)))
  (func $leaf (export "leaf") (param i64) (result i64) (i64.add (local.get 0) (i64.const 7)))
  (func (export "loop") (param $n i64) (result i64) (local $acc i64)
    (loop $l
      (local.set $acc (i64.add (local.get $acc) (local.get $n)))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))
    (local.get $acc))
  (func (export "search") (param $n i64) (result i64)
    (loop $l
      (local.set $n (i64.mul (local.get $n) (i64.const 3)))
      (br_if $l (i64.ne (i64.and (local.get $n) (i64.const 255)) (i64.const 7))))
    (local.get $n))
  (func (export "arms") (param $n i64) (result i64)
    (if (result i64) (i64.eqz (local.get $n))
      (then (i64.const 4))
      (else (i64.mul (local.get $n) (local.get $n)))))
  (func (export "calls") (param $n i64) (result i64)
    (call $host (local.get $n))
    (call $leaf (call $leaf (local.get $n))))
)"#;

/// Offset of `VMStoreContext::fuel_consumed`, as the pass takes it too.
const COUNTER: u64 = 0;

struct Function {
    name: String,
    code: Vec<Instruction>,
}

fn compile(mode: Mode) -> Result<Vec<Function>> {
    let metering = Metering::new(Config::new(), mode, &CostTable::v1())?;
    let module = MeteredModule::new(&metering, PROGRAM)?;
    let exported = |index: wasmtime_environ::FuncIndex| -> String {
        let names = ["leaf", "loop", "search", "arms", "calls"];
        names
            .get(index.as_u32() as usize - 1)
            .map_or_else(String::new, ToString::to_string)
    };
    Ok(module
        .functions()
        .map(|function| {
            let code = &module.text()[function.offset..function.offset + function.len];
            Function {
                name: exported(function.index),
                code: Decoder::new(64, code, DecoderOptions::NONE)
                    .into_iter()
                    .collect(),
            }
        })
        .collect())
}

fn uses_pinned_register(instruction: &Instruction) -> bool {
    InstructionInfoFactory::new()
        .info(instruction)
        .used_registers()
        .iter()
        .any(|used| used.register().full_register() == Register::R15)
}

/// `add r15, imm` or, for a loop that pays on entry, `add r15, reg`.
fn is_charge(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Add
        && instruction.op0_register() == Register::R15
        && matches!(
            instruction.op1_kind(),
            OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Register
        )
}

/// Whether `instruction` is between a backward jump and its target.
fn is_in_loop(instruction: &Instruction, code: &[Instruction]) -> bool {
    code.iter().any(|jump| {
        let target = jump.near_branch_target();
        jump.flow_control() != FlowControl::Next
            && (target..=jump.ip()).contains(&instruction.ip())
            && target != 0
    })
}

/// Whether it may read or write the counter: memory at its offset from anything but the frame.
fn may_touch_counter(instruction: &Instruction) -> bool {
    InstructionInfoFactory::new()
        .info(instruction)
        .used_memory()
        .iter()
        .any(|memory| {
            memory.displacement() == COUNTER
                && !matches!(memory.base(), Register::RSP | Register::RBP)
        })
}

#[test]
fn one_add_a_charge_and_nothing_else() -> Result<()> {
    // Wasmtime charges at entry, and before branches, calls and ends if anything has been executed since: 2, 3, 3, 4, 4. What
    // placement leaves: the counted loop, paid on entry, and all around it; the other loop's iteration, and all around it;
    // the costlier arm's surplus; between calls. And how many of them are in loops.
    let expected = [
        ("leaf", 1, 0),
        ("loop", 2, 0),
        ("search", 2, 1),
        ("arms", 2, 0),
        ("calls", 3, 0),
    ];
    let functions = compile(Mode::Slacked)?;
    assert_eq!(functions.len(), expected.len());
    for (function, (name, charges, in_loops)) in functions.iter().zip(expected) {
        assert_eq!(function.name, name);
        let listing: Vec<String> = function.code.iter().map(ToString::to_string).collect();
        let listing = listing.join("\n");
        let count = function
            .code
            .iter()
            .filter(|instruction| is_charge(instruction))
            .count();
        assert_eq!(count, charges, "{name}:\n{listing}");
        let looping = function
            .code
            .iter()
            .filter(|instruction| is_charge(instruction) && is_in_loop(instruction, &function.code))
            .count();
        assert_eq!(looping, in_loops, "{name}:\n{listing}");
        for instruction in &function.code {
            ensure!(
                !uses_pinned_register(instruction) || is_charge(instruction),
                "{name}: {instruction} uses the counter:\n{listing}"
            );
            ensure!(
                !may_touch_counter(instruction),
                "{name}: {instruction}:\n{listing}"
            );
        }
    }
    Ok(())
}

/// The branches of a body are those of the program: as many as without any metering.
#[test]
fn no_branch_for_metering() -> Result<()> {
    let unmetered = {
        let module = wasmtime::Module::new(&wasmtime::Engine::default(), PROGRAM)?;
        let lens: Vec<Vec<Instruction>> = module
            .functions()
            .map(|function| {
                let code = &module.text()[function.offset..function.offset + function.len];
                Decoder::new(64, code, DecoderOptions::NONE)
                    .into_iter()
                    .collect()
            })
            .collect();
        lens
    };
    let branches = |code: &[Instruction]| code.iter().filter(|i| i.is_jcc_short_or_near()).count();
    for (function, plain) in compile(Mode::Slacked)?.iter().zip(&unmetered) {
        assert_eq!(
            branches(&function.code),
            branches(plain),
            "{}",
            function.name
        );
    }
    Ok(())
}

/// The detectors above do detect: stock metering trips them.
#[test]
fn stock_metering_is_seen() -> Result<()> {
    for function in compile(Mode::Exact)? {
        ensure!(
            function.code.iter().any(may_touch_counter),
            "{}",
            function.name
        );
    }
    Ok(())
}
