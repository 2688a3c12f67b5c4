//! Wasm function bodies: from fuel in memory, looked at, to fuel in a register, not looked at.
//!
//! # What wasmtime writes
//!
//! ```text
//!   v1 = load fuel            at function entry and after each call
//!   v2 = iadd v1, k           a charge
//!   v3 = icmp sge v2, 0       a check: function entry, loop header, bulk operation
//!   brif v3, block_oog, block_cont
//!   block_oog:  store v2; call out_of_gas; v4 = load fuel; jump block_cont(v4)
//!   store v2                  before each call and return
//! ```
//!
//! with the value carried from block to block in block parameters.
//!
//! # What is proved
//!
//! A forward data-flow analysis keeps, for each point, the set of SSA values known to equal
//! the counter, and whether memory holds it ([`State`]). Facts from several predecessors are
//! intersected, a block parameter being the counter if every predecessor passes it. With the fixed point
//! at hand each instruction is examined once:
//!
//! - a load finds the counter in memory; a store, charge or check has the counter as its operand;
//! - a call or return finds the counter in memory (what another function sees is what it saw);
//! - nothing else uses the counter, and it is passed to no parameter that is not the counter.
//!
//! So at each point there is one counter, and it changes only by the charges and by callees. By
//! induction over an execution, replacing each charge `v' = v + k` by `register += k` at the same place
//! keeps register = counter, which makes loads, stores and parameters superfluous.
//!
//! Checks go: the trampolines check, and so does whoever interrupts the thread. That includes
//! those in front of bulk operations: all that are calls to builtins (`memory.copy/fill/grow/init`,
//! `table.grow`, …) are charged before and checked by the builtin's trampoline before they start, and
//! those that are inline loops can be interrupted like any other loop.

use crate::PassError;
use crate::fuel::{charge, insts, is_counter_access, pinned_register_user};
use crate::placement::{constant_amount, place};
use crate::report::Counts;
use crate::trampoline::is_wasm_call;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::{EntitySet, SecondaryMap};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, ExternalName, Function, Inst, InstBuilder, InstructionData, Opcode,
    Value,
};
use wasmtime_environ::{BuiltinFunctionIndex, FuncKey};

/// What is known of the counter at a point.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct State {
    /// Values that equal the counter. Few: a charge starts the set anew.
    held: Vec<Value>,
    /// Whether memory holds the counter.
    flushed: bool,
}

/// What an instruction is to the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Loads it into the value.
    Load(Value),
    /// Stores the value.
    Store(Value),
    /// `result = operand + _`.
    Charge { operand: Value, result: Value },
    /// Hands control to another function, which reads and writes the counter in memory. Of the builtins
    /// only `out_of_gas` does: wasmtime calls the others without storing the counter, and goes on with
    /// the value that it had.
    Call,
    /// Ends the function.
    Return,
    /// None of these.
    Other,
}

/// An out-of-fuel check that has been recognised.
struct Check {
    branch: Inst,
    exhausted: Block,
}

pub(crate) fn rewrite(func: &mut Function) -> Result<Counts, PassError> {
    if let Some(inst) = pinned_register_user(func) {
        return Err(PassError::PinnedRegisterInUse { inst });
    }
    let uses = Uses::of(func);
    let roles = roles(func, &uses)?;
    let entry_states = solve(func, &roles);
    let plan = verify(func, &uses, &roles, &entry_states)?;
    let counts = apply(func, plan);
    match insts(func).find(|&inst| is_counter_access(func, inst)) {
        Some(inst) => Err(PassError::UnknownAccess { inst }),
        None => Ok(counts),
    }
}

/// Who uses what, collected once so that the pass stays linear.
struct Uses {
    /// The instructions that use a value, each once per use.
    of_value: SecondaryMap<Value, Vec<Inst>>,
    /// How many edges lead to a block.
    of_block: SecondaryMap<Block, usize>,
}

impl Uses {
    fn of(func: &Function) -> Uses {
        let mut uses = Uses {
            of_value: SecondaryMap::new(),
            of_block: SecondaryMap::new(),
        };
        for inst in insts(func) {
            for value in func.dfg.inst_values(inst) {
                uses.of_value[func.dfg.resolve_aliases(value)].push(inst);
            }
            for edge in edges(func, inst) {
                uses.of_block[edge.block(&func.dfg.value_lists)] += 1;
            }
        }
        uses
    }
}

/// Classifies every instruction. A charge is known by its operand, so values of the counter are
/// followed forward from the loads, through charges and branches.
fn roles(func: &Function, uses: &Uses) -> Result<SecondaryMap<Inst, Option<Role>>, PassError> {
    let dfg = &func.dfg;
    let mut roles: SecondaryMap<Inst, Option<Role>> = SecondaryMap::new();
    let mut tainted: EntitySet<Value> = EntitySet::new();
    let mut pending: Vec<Value> = Vec::new();

    for inst in insts(func) {
        let data = &dfg.insts[inst];
        let opcode = data.opcode();
        let role = if is_counter_access(func, inst) {
            match *data {
                InstructionData::Load {
                    opcode: Opcode::Load,
                    ..
                } if dfg.value_type(dfg.first_result(inst)) == I64 => {
                    let value = dfg.first_result(inst);
                    pending.push(value);
                    Role::Load(value)
                }
                InstructionData::Store {
                    opcode: Opcode::Store,
                    args,
                    ..
                } if dfg.value_type(args[0]) == I64 => Role::Store(dfg.resolve_aliases(args[0])),
                _ => return Err(PassError::UnknownAccess { inst }),
            }
        } else if matches!(opcode, Opcode::TryCall | Opcode::TryCallIndirect) {
            return Err(PassError::ExceptionHandling { inst });
        } else if opcode.is_call() {
            if !is_wasm_call(func, inst) {
                return Err(PassError::UncheckedCall { inst });
            }
            match builtin(func, inst) {
                Some(callee) if callee != BuiltinFunctionIndex::out_of_gas() => Role::Other,
                _ if opcode.is_return() => Role::Return,
                _ => Role::Call,
            }
        } else if opcode.is_return() {
            Role::Return
        } else {
            Role::Other
        };
        roles[inst] = Some(role);
    }
    if pending.is_empty() {
        return Err(PassError::NotMetered);
    }

    while let Some(value) = pending.pop() {
        if !tainted.insert(value) {
            continue;
        }
        for &inst in &uses.of_value[value] {
            let data = &dfg.insts[inst];
            if let InstructionData::Binary {
                opcode: Opcode::Iadd,
                args,
            } = data
                && dfg.resolve_aliases(args[0]) == value
            {
                let result = dfg.first_result(inst);
                roles[inst] = Some(Role::Charge {
                    operand: value,
                    result,
                });
                pending.push(result);
            }
            for (param, arg) in edges(func, inst).flat_map(|edge| passed(func, edge)) {
                if arg == Some(value) {
                    pending.push(param);
                }
            }
        }
    }
    Ok(roles)
}

fn edges(func: &Function, inst: Inst) -> impl Iterator<Item = &BlockCall> {
    func.dfg.insts[inst]
        .branch_destination(&func.dfg.jump_tables, &func.dfg.exception_tables)
        .iter()
}

/// The parameters of an edge's target, each with the value passed to it.
fn passed<'a>(
    func: &'a Function,
    edge: &'a BlockCall,
) -> impl Iterator<Item = (Value, Option<Value>)> + 'a {
    let params = func.dfg.block_params(edge.block(&func.dfg.value_lists));
    params
        .iter()
        .copied()
        .zip(edge.args(&func.dfg.value_lists))
        .map(|(param, arg)| {
            (
                param,
                arg.as_value().map(|arg| func.dfg.resolve_aliases(arg)),
            )
        })
}

impl State {
    fn step(&mut self, role: Role) {
        match role {
            Role::Load(value) => {
                // Two loads with no call between give the same value if memory holds the counter;
                // if it does not, `verify` refuses the load.
                if !self.flushed {
                    self.held.clear();
                }
                self.held.push(value);
            }
            Role::Store(_) => self.flushed = true,
            Role::Charge { result, .. } => {
                self.held.clear();
                self.held.push(result);
                self.flushed = false;
            }
            Role::Call => self.held.clear(),
            Role::Return | Role::Other => {}
        }
    }

    /// What holds at the target of `edge`, as far as this predecessor is concerned.
    fn along(&self, func: &Function, edge: &BlockCall) -> State {
        let mut held = self.held.clone();
        held.extend(
            passed(func, edge)
                .filter(|(_, arg)| arg.is_some_and(|arg| self.held.contains(&arg)))
                .map(|(param, _)| param),
        );
        State {
            held,
            flushed: self.flushed,
        }
    }

    /// Weakens `self` to what also holds in `other`; returns whether that changed anything.
    fn meet(&mut self, other: &State) -> bool {
        let before = (self.held.len(), self.flushed);
        self.held.retain(|value| other.held.contains(value));
        self.flushed &= other.flushed;
        before != (self.held.len(), self.flushed)
    }
}

/// The greatest fixed point: states at block entries, `None` for unreachable blocks. Each state
/// only ever shrinks after its first visit, so this ends.
fn solve(
    func: &Function,
    roles: &SecondaryMap<Inst, Option<Role>>,
) -> SecondaryMap<Block, Option<State>> {
    let mut states: SecondaryMap<Block, Option<State>> = SecondaryMap::new();
    let Some(entry) = func.layout.entry_block() else {
        return states;
    };
    // On entry the caller has flushed: that is what `verify` demands of every call.
    states[entry] = Some(State {
        held: Vec::new(),
        flushed: true,
    });
    let mut worklist = vec![entry];
    while let Some(block) = worklist.pop() {
        let mut state = states[block].clone().unwrap_or_default();
        for inst in func.layout.block_insts(block) {
            for edge in edges(func, inst) {
                let arriving = state.along(func, edge);
                let target = edge.block(&func.dfg.value_lists);
                let changed = match &mut states[target] {
                    Some(known) => known.meet(&arriving),
                    unknown => {
                        *unknown = Some(arriving);
                        true
                    }
                };
                if changed {
                    worklist.push(target);
                }
            }
            state.step(roles[inst].unwrap_or(Role::Other));
        }
    }
    states
}

/// What to rewrite.
struct Plan {
    /// Every value that is the counter.
    counters: Vec<Value>,
    accesses: Vec<Inst>,
    charges: Vec<Inst>,
    comparisons: Vec<Inst>,
    checks: Vec<Check>,
}

fn verify(
    func: &Function,
    uses: &Uses,
    roles: &SecondaryMap<Inst, Option<Role>>,
    states: &SecondaryMap<Block, Option<State>>,
) -> Result<Plan, PassError> {
    let dfg = &func.dfg;
    let mut plan = Plan {
        counters: Vec::new(),
        accesses: Vec::new(),
        charges: Vec::new(),
        comparisons: Vec::new(),
        checks: Vec::new(),
    };
    let mut counters: EntitySet<Value> = EntitySet::new();
    for block in func.layout.blocks() {
        for inst in func.layout.block_insts(block) {
            if let Some(Role::Load(value) | Role::Charge { result: value, .. }) = roles[inst] {
                counters.insert(value);
            }
        }
        if let Some(state) = &states[block] {
            counters.extend(state.held.iter().copied());
        }
    }

    for block in func.layout.blocks() {
        // Code that cannot be reached proves nothing and is dropped by Cranelift, but it may still
        // touch the counter: take it as known, so that it is rewritten like the rest.
        let reachable = states[block].is_some();
        let mut state = states[block].clone().unwrap_or_default();
        for inst in func.layout.block_insts(block) {
            let role = roles[inst].unwrap_or(Role::Other);
            let current = |value: Value| !reachable || state.held.contains(&value);
            let flushed = !reachable || state.flushed;
            match role {
                Role::Load(_) if !flushed => return Err(PassError::NotFlushed { inst }),
                Role::Store(value) if !current(value) => return Err(PassError::Stale { inst }),
                Role::Charge { operand, .. } if !current(operand) => {
                    return Err(PassError::Stale { inst });
                }
                Role::Call | Role::Return if !flushed => {
                    return Err(PassError::NotFlushed { inst });
                }
                Role::Load(_) | Role::Store(_) => plan.accesses.push(inst),
                Role::Charge { .. } => plan.charges.push(inst),
                Role::Call | Role::Return | Role::Other => {}
            }

            let comparison = comparison_with_zero(func, inst);
            if let Some(operand) = comparison.filter(|&operand| counters.contains(operand)) {
                if !current(operand) {
                    return Err(PassError::Stale { inst });
                }
                plan.checks.push(check_after(func, uses, block, inst)?);
                plan.comparisons.push(inst);
            }

            // No other use.
            let mut counter_uses = dfg
                .inst_args(inst)
                .iter()
                .enumerate()
                .filter(|(_, value)| counters.contains(dfg.resolve_aliases(**value)))
                .map(|(index, _)| index);
            let allowed =
                comparison.is_some() || matches!(role, Role::Charge { .. } | Role::Store(_));
            if counter_uses.any(|index| !(allowed && index == 0)) {
                return Err(PassError::UnknownUse { inst });
            }
            for (param, arg) in edges(func, inst).flat_map(|edge| passed(func, edge)) {
                let carries = arg.is_some_and(|arg| counters.contains(arg));
                if carries != counters.contains(param) {
                    return Err(PassError::UnknownUse { inst });
                }
            }
            state.step(role);
        }
    }
    plan.counters = counters.iter().collect();
    Ok(plan)
}

/// `v` if `inst` is `icmp sge v, 0`.
fn comparison_with_zero(func: &Function, inst: Inst) -> Option<Value> {
    let dfg = &func.dfg;
    let InstructionData::IntCompare {
        cond: IntCC::SignedGreaterThanOrEqual,
        args,
        ..
    } = dfg.insts[inst]
    else {
        return None;
    };
    let zero = dfg.value_def(dfg.resolve_aliases(args[1])).inst()?;
    match dfg.insts[zero] {
        InstructionData::UnaryImm {
            opcode: Opcode::Iconst,
            imm,
        } if imm.bits() == 0 => Some(dfg.resolve_aliases(args[0])),
        _ => None,
    }
}

/// The check that `comparison` belongs to: it must decide the branch at the end of its block, be used
/// for nothing else, and on exhaustion lead to a block that does nothing but call wasmtime's
/// `out_of_gas` and join the other side.
fn check_after(
    func: &Function,
    uses: &Uses,
    block: Block,
    comparison: Inst,
) -> Result<Check, PassError> {
    let dfg = &func.dfg;
    let result = dfg.first_result(comparison);
    let unknown_use = PassError::UnknownUse { inst: comparison };
    let [branch] = uses.of_value[result][..] else {
        return Err(unknown_use);
    };
    let InstructionData::Brif { arg, blocks, .. } = dfg.insts[branch] else {
        return Err(unknown_use);
    };
    if dfg.resolve_aliases(arg) != result || func.layout.last_inst(block) != Some(branch) {
        return Err(unknown_use);
    }
    let pool = &dfg.value_lists;
    let [exhausted, next] = blocks.map(|edge| edge.block(pool));
    let unknown = PassError::UnknownCheck {
        inst: branch,
        block: exhausted,
    };

    let mut calls = 0;
    let mut joins = false;
    for inst in func.layout.block_insts(exhausted) {
        match dfg.insts[inst] {
            InstructionData::Call { .. } => {
                if builtin(func, inst) != Some(BuiltinFunctionIndex::out_of_gas()) {
                    return Err(unknown);
                }
                calls += 1;
            }
            InstructionData::Jump { destination, .. } => joins = destination.block(pool) == next,
            InstructionData::Load { .. } => {}
            InstructionData::Store { .. } if is_counter_access(func, inst) => {}
            _ => return Err(unknown),
        }
    }
    if uses.of_block[exhausted] == 1 && calls == 1 && joins {
        Ok(Check { branch, exhausted })
    } else {
        Err(unknown)
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

fn apply(func: &mut Function, plan: Plan) -> Counts {
    for check in &plan.checks {
        let InstructionData::Brif { blocks, .. } = func.dfg.insts[check.branch] else {
            continue;
        };
        let target = blocks[1].block(&func.dfg.value_lists);
        let args: Vec<BlockArg> = blocks[1].args(&func.dfg.value_lists).collect();
        let mut pos = FuncCursor::new(func).at_inst(check.branch);
        pos.ins().jump(target, &args);
        pos.remove_inst();
    }
    for &inst in &plan.comparisons {
        func.layout.remove_inst(inst);
    }
    for &inst in &plan.accesses {
        func.layout.remove_inst(inst);
    }
    for check in &plan.checks {
        func.layout.remove_block_and_insts(check.exhausted);
    }
    remove_counters(func, &plan.counters);
    // Additions of constants can go elsewhere; those of computed amounts stay where they are.
    let (constant, computed): (Vec<Inst>, Vec<Inst>) = plan
        .charges
        .iter()
        .partition(|&&inst| constant_amount(func, inst).is_some());
    for &inst in &computed {
        let amount = func.dfg.inst_args(inst)[1];
        let mut pos = FuncCursor::new(func).at_inst(inst);
        pos.use_srcloc(inst);
        charge(&mut pos, |_| amount);
        pos.remove_inst();
    }
    let placed = place(func, &constant);
    Counts {
        charges: plan.charges.len(),
        checks: plan.checks.len(),
        additions: computed.len() + placed.additions,
        prepaid_loops: placed.prepaid_loops,
    }
}

/// Removes what is left of the counter: block parameters, and the arguments passed to them.
fn remove_counters(func: &mut Function, counters: &[Value]) {
    let mut counter_set: EntitySet<Value> = EntitySet::new();
    counter_set.extend(counters.iter().copied());
    let blocks: Vec<Block> = func.layout.blocks().collect();
    let all: Vec<Inst> = insts(func).collect();
    for inst in all {
        let dfg = &mut func.dfg;
        let mut edges: Vec<BlockCall> = dfg.insts[inst]
            .branch_destination(&dfg.jump_tables, &dfg.exception_tables)
            .to_vec();
        for edge in &mut edges {
            let target = edge.block(&dfg.value_lists);
            let kept: Vec<BlockArg> = edge
                .args(&dfg.value_lists)
                .zip(dfg.block_params(target).to_vec())
                .filter(|(_, param)| !counter_set.contains(*param))
                .map(|(arg, _)| arg)
                .collect();
            *edge = BlockCall::new(target, kept, &mut dfg.value_lists);
        }
        dfg.insts[inst]
            .branch_destination_mut(&mut dfg.jump_tables, &mut dfg.exception_tables)
            .copy_from_slice(&edges);
    }
    for block in blocks {
        let params: Vec<Value> = func.dfg.block_params(block).to_vec();
        for param in params
            .into_iter()
            .rev()
            .filter(|&param| counter_set.contains(param))
        {
            func.dfg.remove_block_param(param);
        }
    }
}
