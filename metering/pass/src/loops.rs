//! Counted loops: found in the control-flow graph, so that [`crate::placement`] can let them pay on entry.
//!
//! A loop qualifies if
//!
//! - it is innermost, small, entered by one jump, and observes nothing: no calls (but for hybrid metering's look at the epoch);
//! - one block, the *test*, runs once in each iteration, and only from there control leaves the loop, unless towards
//!   a certain trap: an execution that traps pays its whole limit, so what it prepaid does not matter;
//! - the test compares a counter, to which each iteration adds a constant, with a constant or a value from outside the loop, in a
//!   way that [`crate::trips`] has a formula for.
//!
//! Then the number of iterations is known on entry, and that they will all be executed is certain, unless the
//! execution is aborted before.

use crate::body::constant_value;
use crate::trips::{Arithmetic, Formula, Rule};
use cranelift_codegen::cursor::FuncCursor;
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::entity::{EntitySet, SecondaryMap};
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::types::{I8, I32, I64};
use cranelift_codegen::ir::{
    Block, Function, Inst, InstBuilder, InstructionData, Opcode, Type, Value, ValueDef,
};
use cranelift_codegen::loop_analysis::{Loop, LoopAnalysis};

/// The most instructions that a loop may have to be prepaid, constants and jumps not counted. In a longer one an addition does not matter, and
/// working out the iterations on entry may cost more than it saves, in time and in code.
const MOST_INSTRUCTIONS: usize = 16;

/// A loop whose iterations are known on entry.
#[derive(Debug)]
pub(crate) struct CountedLoop {
    /// The jump that enters it.
    pub(crate) entry: Inst,
    pub(crate) header: Block,
    /// The block from which it goes round or leaves.
    pub(crate) test: Block,
    /// The blocks that run up to the test, header and test included.
    pub(crate) before: Vec<Block>,
    /// The blocks that run when it goes round.
    pub(crate) after: Vec<Block>,
    rounds: Rounds,
}

#[derive(Clone, Copy, Debug)]
struct Rounds {
    formula: Formula,
    ty: Type,
    /// The counter on entry, and what the test adds to it.
    first: Value,
    offset: i64,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Known(i64),
    /// From outside the loop.
    Value(Value),
}

impl CountedLoop {
    /// How often the loop goes round, if that is known at compile time; `fuel` is what a round costs.
    pub(crate) fn known_rounds(&self, func: &Function, fuel: u64) -> Option<u64> {
        let Rounds {
            formula,
            ty,
            first,
            offset,
            bound,
        } = self.rounds;
        let mut math = crate::trips::Numbers { bits: ty.bits() };
        let first = math.constant(constant_value(func, first)?.wrapping_add(offset) as u64);
        let Bound::Known(bound) = bound else {
            return None;
        };
        let bound = math.constant(bound as u64);
        Some(formula.rounds(&mut math, first, bound, fuel))
    }

    /// Emits the computation of how often the loop goes round, at `pos`, which must be before its entry.
    pub(crate) fn emit_rounds(&self, pos: &mut FuncCursor<'_>, fuel: u64) -> Value {
        let Rounds {
            formula,
            ty,
            mut first,
            offset,
            bound,
        } = self.rounds;
        if offset != 0 {
            let offset = iconst(pos, ty, offset);
            first = pos.ins().iadd(first, offset);
        }
        let bound = match bound {
            Bound::Known(bound) => iconst(pos, ty, bound),
            Bound::Value(bound) => bound,
        };
        formula.rounds(&mut Clif { pos, ty }, first, bound, fuel)
    }
}

/// Finds the counted loops. `observes` tells the instructions at which the counter must be exact.
pub(crate) fn counted_loops(
    func: &Function,
    observes: impl Fn(&Function, Inst) -> bool,
) -> Vec<CountedLoop> {
    if !has_backward_edge(func) {
        return Vec::new();
    }
    let cfg = ControlFlowGraph::with_function(func);
    let domtree = DominatorTree::with_function(func, &cfg);
    let mut analysis = LoopAnalysis::new();
    analysis.compute(func, &cfg, &domtree);

    let mut innermost: SecondaryMap<Loop, bool> = SecondaryMap::with_default(true);
    for inner in analysis.loops() {
        if let Some(outer) = analysis.loop_parent(inner) {
            innermost[outer] = false;
        }
    }
    let mut blocks: SecondaryMap<Loop, Vec<Block>> = SecondaryMap::new();
    for block in func.layout.blocks() {
        if let Some(of) = analysis.innermost_loop(block) {
            blocks[of].push(block);
        }
    }
    let finder = Finder {
        func,
        observing: observing(func, &cfg, &observes),
        cfg: &cfg,
        domtree: &domtree,
    };
    analysis
        .loops()
        .filter(|&candidate| innermost[candidate])
        .filter_map(|candidate| {
            let blocks = &blocks[candidate];
            let insts = || {
                blocks
                    .iter()
                    .flat_map(|&block| func.layout.block_insts(block))
            };
            let counts = |&inst: &Inst| {
                !matches!(func.dfg.insts[inst].opcode(), Opcode::Iconst | Opcode::Jump)
            };
            if insts().filter(counts).nth(MOST_INSTRUCTIONS).is_some()
                || insts().any(|inst| observes(func, inst))
            {
                return None;
            }
            finder.examine(analysis.loop_header(candidate), blocks)
        })
        .collect()
}

/// Whether any edge leads to the same or an earlier block in the layout. Wasm's loops are laid out in
/// the order of the text, so a function without one has no loops.
fn has_backward_edge(func: &Function) -> bool {
    let mut seen: EntitySet<Block> = EntitySet::new();
    func.layout.blocks().any(|block| {
        seen.insert(block);
        func.layout.last_inst(block).is_some_and(|last| {
            func.dfg.insts[last]
                .branch_destination(&func.dfg.jump_tables, &func.dfg.exception_tables)
                .iter()
                .any(|edge| seen.contains(edge.block(&func.dfg.value_lists)))
        })
    })
}

/// The blocks from which an observation can be reached.
fn observing(
    func: &Function,
    cfg: &ControlFlowGraph,
    observes: impl Fn(&Function, Inst) -> bool,
) -> EntitySet<Block> {
    let mut pending: Vec<Block> = func
        .layout
        .blocks()
        .filter(|&block| {
            func.layout
                .block_insts(block)
                .any(|inst| observes(func, inst))
        })
        .collect();
    let mut found: EntitySet<Block> = EntitySet::new();
    while let Some(block) = pending.pop() {
        if found.insert(block) {
            pending.extend(cfg.pred_iter(block).map(|pred| pred.block));
        }
    }
    found
}

struct Finder<'a> {
    func: &'a Function,
    cfg: &'a ControlFlowGraph,
    domtree: &'a DominatorTree,
    observing: EntitySet<Block>,
}

impl Finder<'_> {
    fn examine(&self, header: Block, blocks: &[Block]) -> Option<CountedLoop> {
        let func = self.func;
        let inside = |block: Block| blocks.contains(&block);

        let mut entry = None;
        let mut latches = Vec::new();
        for pred in self.cfg.pred_iter(header) {
            if inside(pred.block) {
                latches.push(pred);
            } else if entry.replace(pred.inst).is_some() {
                return None;
            }
        }
        let entry = entry?;
        let InstructionData::Jump { .. } = func.dfg.insts[entry] else {
            return None;
        };

        let mut tests = blocks.iter().copied().filter(|&block| {
            self.cfg
                .succ_iter(block)
                .any(|to| !inside(to) && self.observing.contains(to))
        });
        let test = tests.next()?;
        if tests.next().is_some() {
            return None;
        }
        // So it runs exactly once in each iteration.
        if !latches
            .iter()
            .all(|latch| self.domtree.block_dominates(test, latch.block))
        {
            return None;
        }
        let branch = func.layout.last_inst(test)?;
        let InstructionData::Brif {
            arg, blocks: edges, ..
        } = func.dfg.insts[branch]
        else {
            return None;
        };
        let [on_true, on_false] = edges.map(|edge| edge.block(&func.dfg.value_lists));
        let round = match (inside(on_true), inside(on_false)) {
            (true, false) => on_true,
            (false, true) => on_false,
            _ => return None,
        };
        let comparison = Comparison::of(func, arg, round == on_true);
        let rounds = self.rounds(
            header,
            entry,
            &latches.iter().map(|latch| latch.inst).collect::<Vec<_>>(),
            blocks,
            comparison,
        )?;

        let mut after = Vec::new();
        let mut pending = vec![round];
        while let Some(block) = pending.pop() {
            if block != header && inside(block) && !after.contains(&block) {
                after.push(block);
                pending.extend(self.cfg.succ_iter(block));
            }
        }
        let before: Vec<Block> = blocks
            .iter()
            .copied()
            .filter(|block| !after.contains(block))
            .collect();
        Some(CountedLoop {
            entry,
            header,
            test,
            before,
            after,
            rounds,
        })
    }

    fn rounds(
        &self,
        header: Block,
        entry: Inst,
        latches: &[Inst],
        blocks: &[Block],
        comparison: Comparison,
    ) -> Option<Rounds> {
        let func = self.func;
        let ty = func.dfg.value_type(comparison.left);
        if ty != I32 && ty != I64 {
            return None;
        }
        let from_outside = |value: Value| {
            defining_block(func, value).is_some_and(|block| !blocks.contains(&block))
        };
        let sides = match comparison.right {
            Side::Value(right) => [
                Some((comparison.left, Side::Value(right), comparison.cond)),
                Some((
                    right,
                    Side::Value(comparison.left),
                    comparison.cond.swap_args(),
                )),
            ],
            Side::Zero => [Some((comparison.left, Side::Zero, comparison.cond)), None],
        };
        for (tested, bound, cond) in sides.into_iter().flatten() {
            let bound = match bound {
                Side::Zero => Bound::Known(0),
                Side::Value(value) => match constant_value(func, value) {
                    Some(known) => Bound::Known(known),
                    None if from_outside(value) => Bound::Value(value),
                    None => continue,
                },
            };
            let (root, offset) = affine(func, tested);
            let ValueDef::Param(of, index) = func.dfg.value_def(root) else {
                continue;
            };
            if of != header {
                continue;
            }
            let mut step = None;
            for &latch in latches {
                for next in arguments(func, latch, header, index) {
                    let (from, by) = affine(func, next?);
                    if from != root || step.is_some_and(|step| step != by) {
                        return None;
                    }
                    step = Some(by);
                }
            }
            let rule = Rule {
                cond,
                step: step?,
                bits: ty.bits(),
            };
            let first = arguments(func, entry, header, index).next()??;
            let known = match bound {
                Bound::Known(bound) => Some(bound),
                Bound::Value(_) => None,
            };
            return Some(Rounds {
                formula: rule.formula(known)?,
                ty,
                first,
                offset,
                bound,
            });
        }
        None
    }
}

/// What a branch passes to parameter `index` of `target`, on each of its edges there; none for what is no value.
fn arguments(
    func: &Function,
    branch: Inst,
    target: Block,
    index: usize,
) -> impl Iterator<Item = Option<Value>> + '_ {
    func.dfg.insts[branch]
        .branch_destination(&func.dfg.jump_tables, &func.dfg.exception_tables)
        .iter()
        .filter(move |edge| edge.block(&func.dfg.value_lists) == target)
        .map(move |edge| {
            edge.args(&func.dfg.value_lists)
                .nth(index)
                .and_then(|arg| arg.as_value())
                .map(|arg| func.dfg.resolve_aliases(arg))
        })
}

/// The block that defines `value`.
fn defining_block(func: &Function, value: Value) -> Option<Block> {
    match func.dfg.value_def(func.dfg.resolve_aliases(value)) {
        ValueDef::Result(inst, _) => func.layout.inst_block(inst),
        ValueDef::Param(block, _) => Some(block),
        ValueDef::Union(..) => None,
    }
}

/// A comparison of two integers that decides whether a loop goes round.
#[derive(Clone, Copy, Debug)]
struct Comparison {
    cond: IntCC,
    left: Value,
    right: Side,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Value(Value),
    Zero,
}

impl Comparison {
    /// What `value` being nonzero (`wanted`), or zero, says of two integers.
    fn of(func: &Function, value: Value, wanted: bool) -> Comparison {
        let mut value = func.dfg.resolve_aliases(value);
        let mut wanted = wanted;
        // Comparisons of comparisons with zero, as `i32.eqz` makes them.
        loop {
            let inst = func.dfg.value_def(value).inst();
            match inst.map(|inst| func.dfg.insts[inst]) {
                Some(InstructionData::Unary {
                    opcode: Opcode::Uextend,
                    arg,
                }) => value = func.dfg.resolve_aliases(arg),
                Some(InstructionData::IntCompare { cond, args, .. }) => {
                    let [left, right] = args.map(|arg| func.dfg.resolve_aliases(arg));
                    let of_truth = constant_value(func, right) == Some(0)
                        && matches!(cond, IntCC::Equal | IntCC::NotEqual)
                        && is_truth(func, left);
                    if !of_truth {
                        let cond = if wanted { cond } else { cond.complement() };
                        return Comparison {
                            cond,
                            left,
                            right: Side::Value(right),
                        };
                    }
                    wanted ^= cond == IntCC::Equal;
                    value = left;
                }
                _ => {
                    return Comparison {
                        cond: if wanted {
                            IntCC::NotEqual
                        } else {
                            IntCC::Equal
                        },
                        left: value,
                        right: Side::Zero,
                    };
                }
            }
        }
    }
}

/// Whether `value` is the result of a comparison, extended perhaps.
fn is_truth(func: &Function, value: Value) -> bool {
    let Some(inst) = func.dfg.value_def(value).inst() else {
        return false;
    };
    match func.dfg.insts[inst] {
        InstructionData::IntCompare { .. } => true,
        InstructionData::Unary {
            opcode: Opcode::Uextend,
            arg,
        } => func.dfg.value_type(arg) == I8,
        _ => false,
    }
}

/// `value` as another plus a constant.
fn affine(func: &Function, value: Value) -> (Value, i64) {
    let mut root = func.dfg.resolve_aliases(value);
    let mut offset: i64 = 0;
    while let Some(inst) = func.dfg.value_def(root).inst() {
        let InstructionData::Binary { opcode, args } = func.dfg.insts[inst] else {
            break;
        };
        let [left, right] = args.map(|arg| func.dfg.resolve_aliases(arg));
        (root, offset) = match (
            opcode,
            constant_value(func, left),
            constant_value(func, right),
        ) {
            (Opcode::Iadd, _, Some(by)) => (left, offset.wrapping_add(by)),
            (Opcode::Iadd, Some(by), None) => (right, offset.wrapping_add(by)),
            (Opcode::Isub, _, Some(by)) => (left, offset.wrapping_sub(by)),
            _ => break,
        };
    }
    (root, offset)
}

fn iconst(pos: &mut FuncCursor<'_>, ty: Type, value: i64) -> Value {
    let unused = 64 - ty.bits();
    let value = ((value as u64) << unused >> unused) as i64;
    pos.ins().iconst(ty, value)
}

/// Arithmetic on CLIF values of type `ty`.
struct Clif<'a, 'b> {
    pos: &'a mut FuncCursor<'b>,
    ty: Type,
}

impl Arithmetic for Clif<'_, '_> {
    type Value = Value;
    fn constant(&mut self, value: u64) -> Value {
        iconst(self.pos, self.ty, value as i64)
    }
    fn sub(&mut self, a: Value, b: Value) -> Value {
        self.pos.ins().isub(a, b)
    }
    fn mul(&mut self, a: Value, factor: u64) -> Value {
        let factor = self.constant(factor);
        self.pos.ins().imul(a, factor)
    }
    fn shift_right(&mut self, a: Value, bits: u32) -> Value {
        if bits == 0 {
            return a;
        }
        let bits = self.constant(u64::from(bits));
        self.pos.ins().ushr(a, bits)
    }
    fn low_bits(&mut self, a: Value, bits: u32) -> Value {
        let mask = self.constant((1 << bits) - 1);
        self.pos.ins().band(a, mask)
    }
    fn select_if(&mut self, cond: IntCC, a: Value, b: Value, yes: Value, no: Value) -> Value {
        let holds = self.pos.ins().icmp(cond, a, b);
        self.pos.ins().select(holds, yes, no)
    }
    fn widen(&mut self, a: Value) -> Value {
        if self.ty == I64 {
            a
        } else {
            self.pos.ins().uextend(I64, a)
        }
    }
    fn wide_constant(&mut self, value: u64) -> Value {
        iconst(self.pos, I64, value as i64)
    }
    fn wide_increment(&mut self, a: Value) -> Value {
        let one = self.wide_constant(1);
        self.pos.ins().iadd(a, one)
    }
    fn wide_at_most(&mut self, a: Value, limit: u64) -> Value {
        let limit = self.wide_constant(limit);
        let above = self.pos.ins().icmp(IntCC::UnsignedGreaterThan, a, limit);
        self.pos.ins().select(above, limit, a)
    }
}
