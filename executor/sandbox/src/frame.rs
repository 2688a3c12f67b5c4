//! How much stack a function may take: an upper bound on its native frame, from its wasm alone.
//!
//! # The count
//!
//! ```text
//! frame bytes = FRAME + VALUE × (2 × (parameters + results) + locals + merges + Σ weight(operator) + widest call)
//! ```
//!
//! It is the same number on every machine, and no compiler's frame is larger, for this reason. A frame that Cranelift makes consists of
//!
//! - the return address, the frame pointer, callee-saved registers and alignment: at most 330 bytes on any ISA that it has (s390x;
//!   x86-64 needs 64, aarch64 176). [`FRAME`] is 384;
//! - incoming stack arguments and the space for stack results: at most 16 bytes per parameter and result, and one each for what
//!   wasmtime adds (they lie in the caller's frame, but a callee that was tail-called has replaced that caller);
//! - outgoing ones, as much as the widest call in the function needs;
//! - spill slots. regalloc2 makes no more of them than there are virtual registers that need one, as a register keeps *one* slot for its
//!   whole life, and no slot is larger than [`VALUE`] (16 bytes, a vector). Wasmtime adds no other stack slots to wasm functions
//!   (only with guest debugging, garbage collection or stack switching, which are off).
//!
//! So what counts is how many virtual registers one operator can make: its results, the values between (addresses, bounds, what
//! canonicalises a NaN), what lowering needs, constants loaded again at each use, and what a merge of control flow adds
//! (wasmtime's own fuel variable included). `weight` counts these in slots of 16 bytes, where two integers fit in one.
//!
//! Counting *operators* and not the height of the operand stack is the point. The optimiser computes equal
//! expressions once and keeps them, so values live far longer than on wasm's stack: `x*3; x*5; …` before a call and the same
//! again after it keep every product alive across the call, though wasm's stack never holds more than two. Limits that count
//! the stack's height have been overrun by just that (Stylus: OffchainLabs/nitro #4538).
//!
//! # What it is worth
//!
//! The bound is argued, not proved: it trusts that the list above is complete for Cranelift 0.135 and the settings below, and
//! that the optimiser does not multiply values that have to stay alive. `tests/stack.rs` holds it against the machine: it
//! makes recursive functions with frames as large as they get per unit of cost, exhausts the native stack with them and compares.
//! Native bytes per byte counted, on x86-64, wasmtime 48.0.8, with and without fuel (an assertion keeps them below 0.6):
//!
//! | program | native / counted |
//! |---|---|
//! | 250 floats or vectors, loaded from globals before a call, used after it | 0.47 |
//! | 64 vectors as parameters, passed on and used again | 0.25 |
//! | the same for integers from globals | 0.24 |
//! | tail calls that replace a small frame by 64 vectors of arguments | 0.23 |
//! | fib | 0.05 |
//! | 1,000 equal expressions before and after the call | 0.03 to 0.05 |
//! | the worst of 120 random functions | 0.05 |
//!
//! Other ISAs were not measured; nothing in the count is particular to this one.
//! So a native overflow cannot happen by this argument; a node that meets one all the same (`Trap::StackOverflow`) must stop as
//! for a fault of the machine, not report an outcome on which others may not agree.
//!
//! # What must hold around it
//!
//! With N = 1 native byte per byte counted: give wasm `max_wasm_stack` = [`CodeLimits::stack_bytes`](crate::CodeLimits::stack_bytes) + [`NATIVE_RESERVE`]
//! (wasmtime wants `async_stack_size` to be no less, async or not), on a thread that has this and what the host needs.
//! Compiled by Cranelift with its default register allocator, without inlining (`Config::compiler_inlining`, off by default:
//! an inlined callee would move into its caller's frame) and without guest debugging.

use wasmparser::Operator;

/// What a frame takes besides values, in bytes.
pub const FRAME: u32 = 384;

/// What a value takes, in bytes: a vector's spill slot.
pub const VALUE: u32 = 16;

/// Native stack to give on top of the limit, in bytes: for the trampolines at both ends of a call, which have no cost of their
/// own. Each is a frame with one array of 16 bytes per parameter or result.
pub const NATIVE_RESERVE: u32 = 16 << 10;

/// Collects what decides about one function's frame.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// In [`VALUE`]s. Cannot overflow: a function's operators, locals and carried values are limited to u32 each.
    values: u64,
    widest_call: u64,
}

impl Frame {
    pub(crate) fn new(params: usize, results: usize, locals: u64) -> Frame {
        Frame {
            values: 2 * (params as u64 + results as u64 + 2) + locals,
            widest_call: 0,
        }
    }

    /// Adds an operator. `carried` are the values that it hands over, see [`crate::CodeLimits::carried_values`].
    pub(crate) fn operator(&mut self, operator: &Operator<'_>, carried: u64) {
        self.values += u64::from(weight(operator)) + 2 * carried;
        if matches!(
            operator,
            Operator::Call { .. }
                | Operator::CallIndirect { .. }
                | Operator::ReturnCall { .. }
                | Operator::ReturnCallIndirect { .. }
        ) {
            self.widest_call = self.widest_call.max(carried + 2);
        }
    }

    /// Adds `count` merges of locals, see [`crate::CodeLimits::merges`].
    pub(crate) fn merges(&mut self, count: u64) {
        self.values += count;
    }

    /// The bound, in bytes. Saturates at the largest i32, which is more than any limit.
    pub(crate) fn bytes(&self) -> u32 {
        let bytes = u64::from(FRAME) + u64::from(VALUE) * (self.values + self.widest_call);
        bytes.min(i32::MAX as u64) as u32
    }
}

/// How many [`VALUE`]s an operator may need, besides those that it carries. What is not listed needs the default, which covers
/// the widest that there are (vector operations that take several instructions).
fn weight(operator: &Operator<'_>) -> u32 {
    use Operator::*;
    match operator {
        // No values of their own: locals are renamed, not copied; merges are counted apart.
        LocalGet { .. } | LocalSet { .. } | LocalTee { .. } | Drop | Nop | End | Unreachable => 0,
        // One result, in an integer register or loaded from the instance; at most one more integer.
        I32Const { .. }
        | I64Const { .. }
        | F32Const { .. }
        | F64Const { .. }
        | V128Const { .. }
        | GlobalGet { .. }
        | GlobalSet { .. }
        | MemorySize { .. }
        | I32Eqz
        | I32Eq
        | I32Ne
        | I32LtS
        | I32LtU
        | I32GtS
        | I32GtU
        | I32LeS
        | I32LeU
        | I32GeS
        | I32GeU
        | I64Eqz
        | I64Eq
        | I64Ne
        | I64LtS
        | I64LtU
        | I64GtS
        | I64GtU
        | I64LeS
        | I64LeU
        | I64GeS
        | I64GeU
        | I32Add
        | I32Sub
        | I32Mul
        | I32And
        | I32Or
        | I32Xor
        | I32Shl
        | I32ShrS
        | I32ShrU
        | I32Rotl
        | I32Rotr
        | I64Add
        | I64Sub
        | I64Mul
        | I64And
        | I64Or
        | I64Xor
        | I64Shl
        | I64ShrS
        | I64ShrU
        | I64Rotl
        | I64Rotr
        | I32WrapI64
        | I64ExtendI32S
        | I64ExtendI32U
        | I32Extend8S
        | I32Extend16S
        | I64Extend8S
        | I64Extend16S
        | I64Extend32S => 1,
        // Control: the condition, and fuel's merge and addition on each edge.
        Block { .. }
        | Loop { .. }
        | If { .. }
        | Else
        | Br { .. }
        | BrIf { .. }
        | BrTable { .. }
        | Return => 2,
        // The callee's code and instance; fuel stored and loaded.
        Call { .. } | ReturnCall { .. } => 3,
        // The element's address, bounds, lazy initialisation and its merge, the types, code and instance.
        CallIndirect { .. } | ReturnCallIndirect { .. } => 12,
        // Builtins: arguments extended, bounds of both sides, fuel per byte.
        MemoryGrow { .. }
        | MemoryFill { .. }
        | MemoryCopy { .. }
        | MemoryInit { .. }
        | TableGet { .. }
        | TableSet { .. }
        | TableGrow { .. }
        | TableFill { .. }
        | TableCopy { .. }
        | TableInit { .. } => 16,
        // An address is extended, added to the base, checked; a float or vector has a result, its comparison with itself and
        // the canonical NaN; divisions and truncations have their checks; vector shifts, multiplications and shuffles their masks.
        _ => 4,
    }
}
