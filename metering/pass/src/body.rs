//! Wasm function bodies: charges go where they are cheapest, and the counter stays in the register.
//!
//! # What is written here
//!
//! Where stock wasmtime adds to its fuel variable, the hook in `func_environ.rs` calls [`charge`](crate::charge) instead
//! of that, and where it loads, stores or checks the variable the hook does nothing. So charges are where stock's are, with stock's amounts:
//!
//! ```text
//!   g = get_pinned_reg
//!   s = iadd g, amount
//!   set_pinned_reg s
//! ```
//!
//! # What is proved
//!
//! Each access to the register in a body belongs to one such addition, with no other change of the register within it;
//! no instruction accesses the counter in memory, where trampolines keep it; there is a charge at all; and every call is one of compiled wasm
//! or of a trampoline. So the register changes only by charges and by callees of which the same is true, and
//! holds stock's count wherever stock's memory holds it: at calls and returns.
//!
//! Nothing is checked: the trampolines check, and so does whoever interrupts the thread. That goes for
//! bulk operations too: all that are calls to builtins (`memory.copy/fill/grow/init`,
//! `table.grow`, …) are charged before and checked by the builtin's trampoline before they start, and
//! those that are inline loops can be interrupted like any other loop.

use crate::PassError;
use crate::fuel::{insts, is_counter_access};
use crate::placement::place;
use crate::report::Counts;
use crate::trampoline::is_wasm_call;
use cranelift_codegen::ir::{ExternalName, Function, Inst, InstructionData, Opcode, Value};
use wasmtime_environ::{BuiltinFunctionIndex, FuncKey};

/// An addition to the register.
struct Charge {
    get: Inst,
    add: Inst,
    set: Inst,
    amount: Value,
}

pub(crate) fn rewrite(func: &mut Function) -> Result<Counts, PassError> {
    let charges = charges(func)?;
    // Additions of constants can go elsewhere; those of computed amounts stay where they are.
    let mut constant: Vec<(Inst, i64)> = Vec::with_capacity(charges.len());
    for charge in &charges {
        if let Some(amount) = constant_value(func, charge.amount) {
            func.layout.remove_inst(charge.get);
            func.layout.remove_inst(charge.add);
            constant.push((charge.set, amount));
        }
    }
    let placed = place(func, &constant);
    Ok(Counts {
        charges: charges.len(),
        additions: charges.len() - constant.len() + placed.additions,
        prepaid_loops: placed.prepaid_loops,
    })
}

/// Finds the charges, and everything that must not be there.
fn charges(func: &Function) -> Result<Vec<Charge>, PassError> {
    let dfg = &func.dfg;
    let mut charges = Vec::new();
    // The last `get_pinned_reg`, if the register cannot have changed since and it belongs to no charge yet.
    let mut current: Option<Inst> = None;
    for inst in insts(func) {
        let data = &dfg.insts[inst];
        match data.opcode() {
            Opcode::GetPinnedReg => {
                if let Some(inst) = current.replace(inst) {
                    return Err(PassError::PinnedRegisterInUse { inst });
                }
            }
            Opcode::SetPinnedReg => {
                let in_use = PassError::PinnedRegisterInUse { inst };
                let sum = dfg.resolve_aliases(dfg.inst_args(inst)[0]);
                let add = dfg.value_def(sum).inst().ok_or(in_use.clone())?;
                let InstructionData::Binary {
                    opcode: Opcode::Iadd,
                    args: [counter, amount],
                } = dfg.insts[add]
                else {
                    return Err(in_use);
                };
                let get = current.take().ok_or(in_use.clone())?;
                if dfg.resolve_aliases(counter) != dfg.first_result(get) {
                    return Err(in_use);
                }
                charges.push(Charge {
                    get,
                    add,
                    set: inst,
                    amount: dfg.resolve_aliases(amount),
                });
            }
            Opcode::TryCall | Opcode::TryCallIndirect => {
                return Err(PassError::ExceptionHandling { inst });
            }
            opcode if opcode.is_call() => {
                if !is_wasm_call(func, inst) {
                    return Err(PassError::UncheckedCall { inst });
                }
                if let Some(inst) = current {
                    return Err(PassError::PinnedRegisterInUse { inst });
                }
            }
            _ if is_counter_access(func, inst) => return Err(PassError::CounterInMemory { inst }),
            opcode if opcode.is_terminator() => {
                if let Some(inst) = current {
                    return Err(PassError::PinnedRegisterInUse { inst });
                }
            }
            _ => {}
        }
    }
    if charges.is_empty() {
        return Err(PassError::NotMetered);
    }
    Ok(charges)
}

/// The number that `value` is, if it is a constant.
pub(crate) fn constant_value(func: &Function, value: Value) -> Option<i64> {
    let inst = func.dfg.value_def(func.dfg.resolve_aliases(value)).inst()?;
    match func.dfg.insts[inst] {
        InstructionData::UnaryImm {
            opcode: Opcode::Iconst,
            imm,
        } => Some(imm.bits()),
        _ => None,
    }
}

/// Whether the counter must be exact at `inst`: a call or a return.
///
/// Not at hybrid metering's look at the epoch, `new_epoch`: that is a check like an asynchronous one, which only asks whether
/// the execution can still end within its limit.
pub(crate) fn observes(func: &Function, inst: Inst) -> bool {
    let opcode = func.dfg.insts[inst].opcode();
    opcode.is_return()
        || opcode.is_call() && builtin(func, inst) != Some(BuiltinFunctionIndex::new_epoch())
}

/// The builtin that `inst` calls, if it is a direct call of a builtin's trampoline.
fn builtin(func: &Function, inst: Inst) -> Option<BuiltinFunctionIndex> {
    let InstructionData::Call { func_ref, .. } = func.dfg.insts[inst] else {
        return None;
    };
    let ExternalName::User(name) = func.dfg.ext_funcs[func_ref].name else {
        return None;
    };
    let name = &func.params.user_named_funcs()[name];
    match FuncKey::from_raw_parts(name.namespace, name.index) {
        FuncKey::WasmToBuiltinTrampoline(builtin) => Some(builtin),
        _ => None,
    }
}
