//! Where charges go: as few additions as possible, under four rules.
//!
//! 1. *Exact where observed*: at each call, builtins and host functions included, and at each return the counter is the
//!    reference count.
//! 2. *Never ahead of the inevitable*: anywhere else it may be ahead, by no more than every way on from
//!    there costs before the next observation, unless it aborts. So an asynchronous check that
//!    finds the counter past the limit stops only what could not have ended within it.
//! 3. *Never behind*: it is never less than the reference count, except on the way to a certain trap. What a
//!    cycle charges in total is what it costs, so an endless loop is always noticed.
//! 4. *The same everywhere*: decided on CLIF before optimisation, from the control-flow graph and costs alone.
//!
//! # How
//!
//! Cut each block at its observations into *segments*; a segment costs the sum of its charges. At a point `p` between
//! segments let the *potential* `P(p) >= 0` be how far the counter is ahead there. Then the segment from `p` to `q` of cost
//! `c` must charge `c + P(q) - P(p)`, and any choice of potentials with `P = 0` at observations charges
//! the right sum along every path between two of them (the differences cancel), which is rule 1. This is the
//! construction of Knuth's and Ball and Larus' optimal counter placement, with a potential where they
//! have a spanning tree, and of Ball's variant for on-line queries, an observation being a query.
//!
//! We take for `P(p)` the cost of the cheapest way from `p` to an observation: exactly the bound of rule 2. By the triangle
//! inequality no segment charges less than nothing, and those on cheapest ways charge nothing: of
//! the arms of a branch one is free, straight chains are paid for in one place, a loop pays once per iteration, for what
//! its cheapest iteration costs, and a costlier arm adds the difference.
//!
//! Charges sit in segments, never on edges, so the end of a block and the starts of its successors must have the same
//! potential. They form a class, and classes are the nodes of the graph in which cheapest ways are sought (Dijkstra;
//! `O(n log n)` in the size of the function).
//!
//! From some classes no observation can be reached: all ways trap or loop for ever. There `P = 0`, so that loops there
//! charge what they cost; a segment that leads there from elsewhere has nothing to charge if what was
//! prepaid exceeds its cost (the surplus is never observed).
//!
//! Sources: D. E. Knuth and F. R. Stevenson, Optimal measurement points for program frequency counts, BIT 13, 1973; T. Ball and
//! J. R. Larus, Optimally profiling and tracing programs, TOPLAS 16(4), 1994; T. Ball, Efficiently counting program events
//! with support for on-line queries, TOPLAS 16(5), 1994.

use crate::fuel::charge;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, Function, Inst, InstBuilder, InstructionData, Opcode};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Where a segment begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// At an observation, or the function's entry: the potential is 0.
    Observed,
    /// At a block's boundary: the potential is that of the class.
    Class(usize),
    /// At a trap: nothing comes after it.
    Trap,
}

struct Segment {
    from: Point,
    to: Point,
    cost: i64,
    /// The first instruction in it, before which its charge goes.
    at: Inst,
}

/// Rewrites the charges `additions`, which are `iadd`s of the counter with a constant, into as few as possible. Their
/// results must have no uses left.
pub(crate) fn place(func: &mut Function, additions: &[Inst]) {
    let mut costs: SecondaryMap<Inst, Option<i64>> = SecondaryMap::new();
    for &inst in additions {
        costs[inst] = constant_amount(func, inst);
    }
    let segments = segments(func, &costs);
    let potentials = potentials(&segments);
    for &inst in additions {
        func.layout.remove_inst(inst);
    }
    for segment in &segments {
        if segment.to == Point::Trap {
            // Never observed.
            continue;
        }
        let ahead = |point| potential(&potentials, point).unwrap_or(0);
        let amount = segment.cost + ahead(segment.to) - ahead(segment.from);
        if amount > 0 {
            let mut pos = FuncCursor::new(func).at_inst(segment.at);
            pos.use_srcloc(segment.at);
            charge(&mut pos, |pos| pos.ins().iconst(I64, amount));
        }
    }
}

/// `k` of a charge `iadd counter, k`, if it is known.
pub(crate) fn constant_amount(func: &Function, addition: Inst) -> Option<i64> {
    let amount = func.dfg.resolve_aliases(func.dfg.inst_args(addition)[1]);
    match func.dfg.insts[func.dfg.value_def(amount).inst()?] {
        InstructionData::UnaryImm {
            opcode: Opcode::Iconst,
            imm,
        } => Some(imm.bits()),
        _ => None,
    }
}

/// Cuts the function into segments.
fn segments(func: &Function, costs: &SecondaryMap<Inst, Option<i64>>) -> Vec<Segment> {
    let mut classes = Classes::new(func);
    let mut segments = Vec::new();
    for block in func.layout.blocks() {
        let mut from = if Some(block) == func.layout.entry_block() {
            Point::Observed
        } else {
            Point::Class(classes.of_start(block))
        };
        let mut cost = 0;
        let mut first = None;
        for inst in func.layout.block_insts(block) {
            if let Some(amount) = costs[inst] {
                // Will be removed: nothing can be put before it.
                cost += amount;
                continue;
            }
            let at = *first.get_or_insert(inst);
            let opcode = func.dfg.insts[inst].opcode();
            let to = if opcode.is_call() || opcode.is_return() {
                Point::Observed
            } else if opcode.is_branch() {
                Point::Class(classes.of_end(block))
            } else if opcode.is_terminator() {
                Point::Trap
            } else {
                continue;
            };
            segments.push(Segment { from, to, cost, at });
            from = Point::Observed;
            cost = 0;
            first = None;
        }
    }
    segments
}

/// The classes of block boundaries that must have the same potential: the end of a block with the starts of
/// its successors. A union-find forest over starts (even) and ends (odd).
struct Classes {
    parents: Vec<usize>,
}

impl Classes {
    fn new(func: &Function) -> Classes {
        let mut classes = Classes {
            parents: (0..2 * func.dfg.num_blocks()).collect(),
        };
        for block in func.layout.blocks() {
            let Some(last) = func.layout.last_inst(block) else {
                continue;
            };
            let edges = func.dfg.insts[last]
                .branch_destination(&func.dfg.jump_tables, &func.dfg.exception_tables);
            for edge in edges {
                let target = classes.of_start(edge.block(&func.dfg.value_lists));
                let end = classes.of_end(block);
                classes.parents[end] = target;
            }
        }
        classes
    }

    fn of_start(&mut self, block: Block) -> usize {
        self.find(2 * block.as_u32() as usize)
    }

    fn of_end(&mut self, block: Block) -> usize {
        self.find(2 * block.as_u32() as usize + 1)
    }

    fn find(&mut self, mut node: usize) -> usize {
        while self.parents[node] != node {
            // Path halving.
            self.parents[node] = self.parents[self.parents[node]];
            node = self.parents[node];
        }
        node
    }
}

/// For each class the cost of the cheapest way to an observation; none if there is no way.
fn potentials(segments: &[Segment]) -> Vec<Option<i64>> {
    let class = |point| match point {
        Point::Class(class) => Some(class),
        Point::Observed | Point::Trap => None,
    };
    let count = segments
        .iter()
        .flat_map(|segment| [segment.from, segment.to])
        .filter_map(class)
        .max()
        .map_or(0, |max| max + 1);
    let mut into: Vec<Vec<&Segment>> = Vec::new();
    into.resize_with(count, Vec::new);
    let mut best: Vec<Option<i64>> = vec![None; count];
    let mut queue = BinaryHeap::new();
    for segment in segments {
        match segment.to {
            Point::Observed => {
                queue.extend(class(segment.from).map(|from| Reverse((segment.cost, from))));
            }
            Point::Class(to) => into[to].push(segment),
            Point::Trap => {}
        }
    }
    while let Some(Reverse((cost, node))) = queue.pop() {
        if best[node].is_some() {
            continue;
        }
        best[node] = Some(cost);
        for segment in &into[node] {
            queue.extend(
                class(segment.from).map(|from| Reverse((cost.saturating_add(segment.cost), from))),
            );
        }
    }
    best
}

/// The potential of a point, `None` where no observation can be reached.
fn potential(potentials: &[Option<i64>], point: Point) -> Option<i64> {
    match point {
        Point::Observed => Some(0),
        Point::Class(class) => potentials[class],
        Point::Trap => None,
    }
}
