//! The stack limit, written into the code.

use crate::scan::Scan;
use crate::{CodeLimits, STACK_GLOBAL};
use wasm_encoder::{BlockType, ConstExpr, Encode, ExportKind, GlobalType, Instruction, ValType};
use wasmparser::FuncType;

/// Ids of sections, in the order that the format demands of them; custom ones (0) may be anywhere.
const TYPES: u8 = 1;
const GLOBALS: u8 = 6;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;
/// Sections that come before the globals: up to the memory, and tags.
const BEFORE_GLOBALS: [u8; 7] = [0, 1, 2, 3, 4, 5, 13];

/// Rewrites `code`, of which `scan` is the result. Bytes that need no change are copied, never decoded and encoded again.
pub(crate) fn instrument(code: &[u8], scan: &Scan, limits: &CodeLimits) -> Vec<u8> {
    let mut types = BlockTypes::new(scan);
    let functions = function_bodies(code, scan, &mut types);

    let mut globals = Vec::new();
    GlobalType {
        val_type: ValType::I32,
        mutable: true,
        shared: false,
    }
    .encode(&mut globals);
    let budget = limits.stack_bytes.saturating_sub(scan.fixed_stack);
    ConstExpr::i32_const(budget.min(i32::MAX as u32) as i32).encode(&mut globals);

    let mut exports = Vec::new();
    STACK_GLOBAL.encode(&mut exports);
    ExportKind::Global.encode(&mut exports);
    scan.globals.encode(&mut exports);

    let mut output = Vec::with_capacity(code.len() + code.len() / 4);
    output.extend_from_slice(b"\0asm\x01\0\0\0");
    let mut has_globals = false;
    for (id, range) in &scan.sections {
        let old = &code[range.clone()];
        if !has_globals && (*id == GLOBALS || !BEFORE_GLOBALS.contains(id)) {
            has_globals = true;
            let old: &[u8] = if *id == GLOBALS { old } else { &[0] };
            section(&mut output, GLOBALS, &appended(old, 1, &globals));
        }
        match *id {
            GLOBALS => {}
            TYPES => section(
                &mut output,
                TYPES,
                &appended(old, types.added, &types.encoded),
            ),
            EXPORTS => section(&mut output, EXPORTS, &appended(old, 1, &exports)),
            CODE => section(&mut output, CODE, &functions),
            id => section(&mut output, id, old),
        }
    }
    output
}

fn section(output: &mut Vec<u8>, id: u8, contents: &[u8]) {
    output.push(id);
    contents.encode(output);
}

/// A section's contents (a count, then items) with more items at the end.
fn appended(old: &[u8], count: u32, items: &[u8]) -> Vec<u8> {
    let length = old.iter().take_while(|&&byte| byte & 0x80 != 0).count() + 1;
    let (prefix, rest) = old.split_at(length.min(old.len()));
    // At most five bytes, as the code is valid; so no shift is too far.
    let before = prefix
        .iter()
        .rev()
        .fold(0u32, |sum, &byte| sum << 7 | u32::from(byte & 0x7f));
    let mut new = Vec::with_capacity(old.len() + items.len() + 5);
    (before + count).encode(&mut new);
    new.extend_from_slice(rest);
    new.extend_from_slice(items);
    new
}

/// The code section's contents.
fn function_bodies(code: &[u8], scan: &Scan, types: &mut BlockTypes<'_>) -> Vec<u8> {
    let mut functions = Vec::new();
    (scan.bodies.len() as u32).encode(&mut functions);
    for (index, body) in (scan.imported..).zip(&scan.bodies) {
        if !scan.recursive[index] {
            code[body.range.clone()].encode(&mut functions);
            continue;
        }
        let cost = body.cost as i32;
        let block = types.of_results(scan.functions[index] as usize);
        let mut new = code[body.range.start..body.operators].to_vec();
        for instruction in enter(scan.globals, cost) {
            instruction.encode(&mut new);
        }
        Instruction::Block(block).encode(&mut new);
        let mut copied = body.operators;
        for exit in &scan.exits[body.exits.clone()] {
            new.extend_from_slice(&code[copied..exit.offset]);
            copied = exit.offset;
            match exit.depth {
                Some(depth) => {
                    // `return` is one byte, and its values are where a branch expects them.
                    copied += 1;
                    Instruction::Br(depth).encode(&mut new);
                }
                None => {
                    for instruction in leave(scan.globals, cost) {
                        instruction.encode(&mut new);
                    }
                }
            }
        }
        // The function's own `end` becomes the block's.
        new.extend_from_slice(&code[copied..body.range.end]);
        for instruction in leave(scan.globals, cost) {
            instruction.encode(&mut new);
        }
        Instruction::End.encode(&mut new);
        new.encode(&mut functions);
    }
    functions
}

/// Takes `cost` and traps if that is more than there was: then the global is negative. It cannot wrap: it is not negative
/// before (what makes it so ends the instance), and `cost` is a positive i32.
fn enter(global: u32, cost: i32) -> [Instruction<'static>; 10] {
    [
        Instruction::GlobalGet(global),
        Instruction::I32Const(cost),
        Instruction::I32Sub,
        Instruction::GlobalSet(global),
        Instruction::GlobalGet(global),
        Instruction::I32Const(0),
        Instruction::I32LtS,
        Instruction::If(BlockType::Empty),
        Instruction::Unreachable,
        Instruction::End,
    ]
}

/// Gives `cost` back; leaves the operand stack as it is.
fn leave(global: u32, cost: i32) -> [Instruction<'static>; 4] {
    [
        Instruction::GlobalGet(global),
        Instruction::I32Const(cost),
        Instruction::I32Add,
        Instruction::GlobalSet(global),
    ]
}

/// Types of the blocks around function bodies: no parameters, the function's results.
struct BlockTypes<'a> {
    types: &'a [FuncType],
    /// Those of several results: the results and the index of the type.
    known: std::collections::BTreeMap<&'a [wasmparser::ValType], u32>,
    added: u32,
    encoded: Vec<u8>,
}

impl<'a> BlockTypes<'a> {
    fn new(scan: &'a Scan) -> BlockTypes<'a> {
        let mut known = std::collections::BTreeMap::new();
        for (index, ty) in (0u32..).zip(&scan.types) {
            if ty.params().is_empty() {
                known.entry(ty.results()).or_insert(index);
            }
        }
        BlockTypes {
            types: &scan.types,
            known,
            added: 0,
            encoded: Vec::new(),
        }
    }

    fn of_results(&mut self, ty: usize) -> BlockType {
        match self.types[ty].results() {
            [] => BlockType::Empty,
            [one] => BlockType::Result(value_type(*one)),
            many => {
                let next = self.types.len() as u32 + self.added;
                let index = *self.known.entry(many).or_insert(next);
                if index == next {
                    self.added += 1;
                    // A function type: no parameters, these results.
                    self.encoded.extend_from_slice(&[0x60, 0]);
                    (many.len() as u32).encode(&mut self.encoded);
                    for &result in many {
                        value_type(result).encode(&mut self.encoded);
                    }
                }
                BlockType::FunctionType(index)
            }
        }
    }
}

fn value_type(ty: wasmparser::ValType) -> ValType {
    match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        // The features allow of references only those to functions.
        wasmparser::ValType::Ref(_) => ValType::FUNCREF,
    }
}
