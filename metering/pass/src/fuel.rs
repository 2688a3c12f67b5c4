//! Where the counter lives in memory and how CLIF says so.

use cranelift_codegen::cursor::FuncCursor;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{
    self, AliasRegion, AliasRegionData, Function, Inst, InstBuilder, MemFlagsData, TrapCode, Value,
};
use wasmtime_environ::{GetPtrSize, PtrSize, Trap};

/// `AliasRegionKey::VM_STORE_CONTEXT_KIND` of wasmtime-internal-cranelift 48: the kind of a region is
/// in the top 6 bits of its user id, the field's offset below.
const VM_STORE_CONTEXT_KIND: u32 = 1 << 26;

/// `VM_CONTEXT_KIND` of the same.
const VM_CONTEXT_KIND: u32 = 0;

/// `TRAP_OFFSET` of the same: wasmtime's traps start at this user trap code.
const TRAP_OFFSET: u8 = 3;

/// The trap that wasmtime reports as `Trap::OutOfFuel`.
pub(crate) const OUT_OF_FUEL: TrapCode = TrapCode::unwrap_user(Trap::OutOfFuel as u8 + TRAP_OFFSET);

/// Offset of `VMStoreContext::fuel_consumed`, in bytes, on a 64-bit target.
pub(crate) fn counter_offset() -> u32 {
    u32::from(8u8.get_ptr_size().vm_store_context().fuel_consumed())
}

fn store_context_offset() -> u32 {
    u32::from(8u8.get_ptr_size().vmctx_store_context())
}

/// Whether `inst` reads or writes the counter in memory.
pub(crate) fn is_counter_access(func: &Function, inst: Inst) -> bool {
    func.dfg.insts[inst]
        .alias_region(&func.dfg)
        .is_some_and(|region| {
            func.dfg.alias_regions[region].user_id == VM_STORE_CONTEXT_KIND | counter_offset()
        })
}

fn region(func: &mut Function, user_id: u32, description: &'static str) -> AliasRegion {
    match func.dfg.alias_regions.get(user_id) {
        Some(region) => region,
        None => func.dfg.alias_regions.insert(AliasRegionData {
            user_id,
            description: description.into(),
        }),
    }
}

fn flags(region: AliasRegion) -> MemFlagsData {
    MemFlagsData::trusted().with_alias_region(Some(region))
}

/// Emits the load of the `VMStoreContext` pointer from a wasm `vmctx`.
pub(crate) fn store_context(pos: &mut FuncCursor<'_>, vmctx: Value) -> Value {
    let offset = store_context_offset();
    let region = region(
        pos.func,
        VM_CONTEXT_KIND | offset,
        "VMContext::store_context",
    );
    pos.ins().load(I64, flags(region), vmctx, offset as i32)
}

/// Emits the move of the counter from memory into the register.
pub(crate) fn reload(pos: &mut FuncCursor<'_>, store_context: Value) {
    let offset = counter_offset();
    let region = region(
        pos.func,
        VM_STORE_CONTEXT_KIND | offset,
        "VMStoreContext::fuel_consumed",
    );
    let counter = pos
        .ins()
        .load(I64, flags(region), store_context, offset as i32);
    pos.ins().set_pinned_reg(counter);
}

/// Emits the move of the counter from the register into memory, and a trap if it is used up.
pub(crate) fn flush_and_check(pos: &mut FuncCursor<'_>, store_context: Value) {
    let offset = counter_offset();
    let region = region(
        pos.func,
        VM_STORE_CONTEXT_KIND | offset,
        "VMStoreContext::fuel_consumed",
    );
    let counter = pos.ins().get_pinned_reg(I64);
    pos.ins()
        .store(flags(region), counter, store_context, offset as i32);
    let exhausted = pos
        .ins()
        .icmp_imm_s(IntCC::SignedGreaterThanOrEqual, counter, 0);
    pos.ins().trapnz(exhausted, OUT_OF_FUEL);
}

/// Emits a charge: the addition of `amount`, in fuel, to the counter in the register.
///
/// For the hook in wasmtime's translation of functions, too. The three instructions stay together, as the
/// lowering rule that makes one of them wants.
pub fn charge(pos: &mut FuncCursor<'_>, amount: Value) {
    let counter = pos.ins().get_pinned_reg(I64);
    let counter = pos.ins().iadd(counter, amount);
    pos.ins().set_pinned_reg(counter);
}

/// All instructions, in layout order.
pub(crate) fn insts(func: &Function) -> impl Iterator<Item = Inst> + '_ {
    func.layout
        .blocks()
        .flat_map(|block| func.layout.block_insts(block))
}

/// The first instruction that touches the pinned register, if any.
pub(crate) fn pinned_register_user(func: &Function) -> Option<Inst> {
    insts(func).find(|&inst| {
        matches!(
            func.dfg.insts[inst].opcode(),
            ir::Opcode::GetPinnedReg | ir::Opcode::SetPinnedReg
        )
    })
}
