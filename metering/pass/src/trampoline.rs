//! The trampolines between host and wasm: the only places where the counter crosses between
//! register and memory, and the only places that look at it in straight-line code.

use crate::PassError;
use crate::fuel::{
    flush_and_check, insts, is_counter_access, pinned_register_user, reload, store_context,
};
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{
    Block, Function, Inst, InstBuilder, InstructionData, Opcode, StackSlotData, StackSlotKind,
    Value, ValueDef,
};
use cranelift_codegen::isa::CallConv;

/// Host to wasm. Around the one `try_call`:
///
/// ```text
///   before         slot <- r15; r15 <- memory
///   normal edge    memory <- r15; trap if r15 >= 0; r15 <- slot
///   exceptional    r15 <- slot
/// ```
///
/// The trap on the normal edge resumes at the exceptional one, in this very frame: wasmtime unwinds
/// every trap to the handler of the innermost entry trampoline. Cranelift knows of no such edge, so
/// nothing that it keeps in a register or spill slot may be used there: the host's value of
/// the register is in an explicit stack slot, and a function whose exceptional block uses any other
/// value from before is refused.
pub(crate) fn rewrite_entry(func: &mut Function) -> Result<(), PassError> {
    refuse_used(func)?;
    let vmctx = parameter(func, 0)?;
    let Crossing {
        call,
        normal,
        handler,
    } = crossing(func)?;

    let saved = func.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 8, 3));
    let mut pos = FuncCursor::new(func).at_inst(call);
    let host_value = pos.ins().get_pinned_reg(I64);
    pos.ins().stack_store(I64, host_value, saved, 0);
    let store_context = store_context(&mut pos, vmctx);
    reload(&mut pos, store_context);

    let mut pos = FuncCursor::new(func).at_first_insertion_point(normal);
    flush_and_check(&mut pos, store_context);
    let host_value = pos.ins().stack_load(I64, I64, saved, 0);
    pos.ins().set_pinned_reg(host_value);

    let mut pos = FuncCursor::new(func).at_first_insertion_point(handler);
    let host_value = pos.ins().stack_load(I64, I64, saved, 0);
    pos.ins().set_pinned_reg(host_value);
    Ok(())
}

/// The one call of an entry trampoline and the blocks that follow it.
struct Crossing {
    call: Inst,
    normal: Block,
    handler: Block,
}

fn crossing(func: &Function) -> Result<Crossing, PassError> {
    let unknown = |what| PassError::UnknownTrampoline { what };
    let mut calls = insts(func).filter(|&inst| func.dfg.insts[inst].opcode().is_call());
    let (Some(call), None) = (calls.next(), calls.next()) else {
        return Err(unknown("an entry trampoline calls once"));
    };
    let InstructionData::TryCall { exception, .. } = func.dfg.insts[call] else {
        return Err(unknown("an entry trampoline enters wasm by try_call"));
    };
    let table = &func.dfg.exception_tables[exception];
    let pool = &func.dfg.value_lists;
    let normal = table.normal_return().block(pool);
    let mut handlers = table
        .all_branches()
        .iter()
        .map(|edge| edge.block(pool))
        .filter(|&block| block != normal);
    let (Some(handler), None) = (handlers.next(), handlers.next()) else {
        return Err(unknown("an entry trampoline has one exception handler"));
    };
    for block in [normal, handler] {
        if predecessors(func, block) != 1 {
            return Err(unknown(
                "the blocks after try_call have no other predecessor",
            ));
        }
    }
    let own_values_only = func.layout.block_insts(handler).all(|inst| {
        func.dfg.inst_values(inst).all(|value| {
            match func.dfg.value_def(func.dfg.resolve_aliases(value)) {
                ValueDef::Result(def, _) => func.layout.inst_block(def) == Some(handler),
                _ => false,
            }
        })
    });
    if !own_values_only {
        return Err(unknown(
            "the exception handler uses no value from before the call",
        ));
    }
    Ok(Crossing {
        call,
        normal,
        handler,
    })
}

/// Wasm to host, builtins included: flush and check on entry, reload before each return. A host
/// function that fails does not return here: wasmtime unwinds to the entry trampoline, which
/// does not read the register.
pub(crate) fn rewrite_exit(func: &mut Function, vmctx: usize) -> Result<(), PassError> {
    refuse_used(func)?;
    let vmctx = parameter(func, vmctx)?;
    let entry = entry_block(func)?;
    let mut returns = Vec::new();
    for inst in insts(func) {
        match func.dfg.insts[inst].opcode() {
            Opcode::Return => returns.push(inst),
            opcode
                if opcode.is_return()
                    || matches!(opcode, Opcode::TryCall | Opcode::TryCallIndirect) =>
            {
                return Err(PassError::UnknownTrampoline {
                    what: "an exit trampoline ends by plain returns and catches nothing",
                });
            }
            _ => {}
        }
    }
    if returns.is_empty() {
        return Err(PassError::UnknownTrampoline {
            what: "an exit trampoline returns",
        });
    }

    let mut pos = FuncCursor::new(func).at_first_insertion_point(entry);
    let store_context = store_context(&mut pos, vmctx);
    flush_and_check(&mut pos, store_context);
    for inst in returns {
        reload(&mut FuncCursor::new(func).at_inst(inst), store_context);
    }
    Ok(())
}

fn refuse_used(func: &Function) -> Result<(), PassError> {
    if let Some(inst) = pinned_register_user(func) {
        return Err(PassError::PinnedRegisterInUse { inst });
    }
    match insts(func).find(|&inst| is_counter_access(func, inst)) {
        Some(inst) => Err(PassError::CounterInMemory { inst }),
        None => Ok(()),
    }
}

fn entry_block(func: &Function) -> Result<Block, PassError> {
    func.layout
        .entry_block()
        .ok_or(PassError::UnknownTrampoline {
            what: "a trampoline has code",
        })
}

fn parameter(func: &Function, index: usize) -> Result<Value, PassError> {
    func.dfg
        .block_params(entry_block(func)?)
        .get(index)
        .copied()
        .filter(|&value| func.dfg.value_type(value) == I64)
        .ok_or(PassError::UnknownTrampoline {
            what: "a trampoline gets a vmctx",
        })
}

fn predecessors(func: &Function, block: Block) -> usize {
    insts(func)
        .flat_map(|inst| {
            func.dfg.insts[inst]
                .branch_destination(&func.dfg.jump_tables, &func.dfg.exception_tables)
        })
        .filter(|edge| edge.block(&func.dfg.value_lists) == block)
        .count()
}

/// Whether the call `inst` is one of compiled wasm to compiled wasm or to one of its trampolines,
/// which wasmtime compiles with Cranelift's `tail` convention; the host's is another.
pub(crate) fn is_wasm_call(func: &Function, inst: Inst) -> bool {
    func.dfg
        .call_signature(inst)
        .is_some_and(|signature| func.dfg.signatures[signature].call_conv == CallConv::Tail)
}
