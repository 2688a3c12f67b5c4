//! Where charges go: as few additions as possible, under four rules.
//!
//! 1. *Exact where observed*: at each call, builtins and host functions included, and at each return the counter is the
//!    reference count.
//! 2. *Never ahead of the inevitable*: anywhere else it may be ahead, by no more than every way on from
//!    there costs before the next observation, unless it aborts. So an asynchronous check that
//!    finds the counter past the limit stops only what could not have ended within it.
//! 3. *Never behind*: it is never less than the reference count, except on the way to a certain trap. What a
//!    cycle charges in total is what it costs, or has been charged before it was entered, so an endless loop is always noticed.
//! 4. *The same everywhere*: decided on CLIF before optimisation, from the control-flow graph, costs and constants alone.
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
//! # Counted loops
//!
//! A loop of which [`crate::loops`] can tell on entry how often it goes round pays on entry for all of it and carries no
//! addition. Its iterations run up to the *test* and, each time but the last, on from there to the header. Let the cheapest way of
//! the first part cost `m1`, of the second `m2`. Entry pays `m1 + rounds * (m1 + m2)`; and within each part a segment keeps what it costs
//! more than the cheapest way, by potentials as above, whose ends are the header and the test.
//!
//! Rule 1: along every path through the loop the sum is right, by the same cancelling. Rule 2: the loop leaves only at the test, when
//! its counter says so, or traps; so what was prepaid is inevitable. Rule 3: it is prepaid, hence never behind; a loop that never ends pays more than
//! any limit ([`crate::trips::endless`]) and is stopped at once. The counter cannot wrap: what is prepaid
//! really is executed before the next such payment, or is more than the limit, which the next check sees.
//! Rule 4: all of this is decided and computed before optimisation.
//!
//! Sources: D. E. Knuth and F. R. Stevenson, Optimal measurement points for program frequency counts, BIT 13, 1973; T. Ball and
//! J. R. Larus, Optimally profiling and tracing programs, TOPLAS 16(4), 1994; T. Ball, Efficiently counting program events
//! with support for on-line queries, TOPLAS 16(5), 1994.

use crate::body::observes;
use crate::fuel::charge;
use crate::loops::{CountedLoop, counted_loops};
use crate::trips::MOST_FUEL_PER_ROUND;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Block, Function, Inst, InstBuilder};
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

/// Replaces the `charges`, instructions that stand for an addition of so much fuel each, by as few additions as possible.
pub(crate) fn place(func: &mut Function, charges: &[(Inst, i64)]) -> Placed {
    let mut costs: SecondaryMap<Inst, Option<i64>> = SecondaryMap::new();
    for &(inst, amount) in charges {
        costs[inst] = Some(amount);
    }
    let mut cut = cut(func, &costs);
    for &(inst, _) in charges {
        func.layout.remove_inst(inst);
    }
    let mut placed = Placed::default();
    for counted in counted_loops(func, observes) {
        prepay(func, &mut cut, &counted, &mut placed);
    }
    let potentials = potentials(&cut.segments);
    for segment in &cut.segments {
        if segment.to == Point::Trap {
            // Never observed.
            continue;
        }
        let ahead = |point| potential(&potentials, point).unwrap_or(0);
        let amount = segment.cost + ahead(segment.to) - ahead(segment.from);
        if amount > 0 {
            let mut pos = FuncCursor::new(func).at_inst(segment.at);
            pos.use_srcloc(segment.at);
            let amount = pos.ins().iconst(I64, amount);
            charge(&mut pos, amount);
            placed.additions += 1;
        }
    }
    placed
}

/// What was emitted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Placed {
    /// Additions to the register.
    pub(crate) additions: usize,
    /// Loops that carry no addition on their cheapest way, having paid on entry.
    pub(crate) prepaid_loops: usize,
}

/// Lets `counted` pay on entry for what its cheapest iterations cost, and takes that out of its segments.
fn prepay(func: &mut Function, cut: &mut Cut, counted: &CountedLoop, placed: &mut Placed) {
    let segments = &cut.segments;
    // Nothing in the loop is observed, so each of its blocks is one segment.
    let step = |block: Block| -> Step {
        let segment = cut.last_of[block];
        let class = |point| match point {
            Point::Class(class) => class,
            Point::Observed | Point::Trap => TEST,
        };
        Step {
            segment,
            from: class(segments[segment].from),
            to: class(segments[segment].to),
            cost: segments[segment].cost,
        }
    };
    let round = step(counted.header).from;
    let mut before: Vec<Step> = counted.before.iter().copied().map(step).collect();
    for (step, &block) in before.iter_mut().zip(&counted.before) {
        if block == counted.header {
            step.from = HEADER;
        }
        if block == counted.test {
            step.to = TEST;
        }
    }
    let after: Vec<Step> = counted.after.iter().copied().map(step).collect();

    let to_test = Ways::to(TEST, &before);
    let to_header = Ways::to(round, &after);
    let once = to_test.cost(HEADER);
    let again = if after.is_empty() {
        0
    } else {
        to_header.cost(step(counted.test).to)
    };
    let fuel = (once + again) as u64;
    if fuel == 0 || fuel > MOST_FUEL_PER_ROUND {
        return;
    }

    let entry = func
        .layout
        .inst_block(counted.entry)
        .map(|block| cut.last_of[block]);
    let Some(entry) = entry else { return };
    for (steps, ways) in [(&before, &to_test), (&after, &to_header)] {
        for step in steps {
            cut.segments[step.segment].cost += ways.cost(step.to) - ways.cost(step.from);
        }
    }
    cut.segments[entry].cost += once;
    match counted.known_rounds(func, fuel) {
        Some(rounds) if rounds <= MOST_KNOWN_FUEL / fuel => {
            cut.segments[entry].cost += (rounds * fuel) as i64;
        }
        _ => {
            let mut pos = FuncCursor::new(func).at_inst(counted.entry);
            pos.use_srcloc(counted.entry);
            let rounds = counted.emit_rounds(&mut pos, fuel);
            let amount = if fuel == 1 {
                rounds
            } else {
                let fuel = pos.ins().iconst(I64, fuel as i64);
                pos.ins().imul(rounds, fuel)
            };
            charge(&mut pos, amount);
            placed.additions += 1;
        }
    }
    placed.prepaid_loops += 1;
}

/// The most that is prepaid for one loop as part of a constant, in fuel: a function's constants then cannot add up to what
/// would wrap.
const MOST_KNOWN_FUEL: u64 = 1 << 32;

/// The start of a loop's header and the end of its test, as nodes: the same class perhaps, but ends of different parts.
const HEADER: usize = usize::MAX;
const TEST: usize = usize::MAX - 1;

/// A block of a loop, between nodes.
struct Step {
    segment: usize,
    from: usize,
    to: usize,
    cost: i64,
}

/// The costs of the cheapest ways from nodes of a loop's part to its end.
struct Ways(Vec<(usize, i64)>);

impl Ways {
    /// By relaxation until nothing changes: such loops have few blocks.
    fn to(end: usize, steps: &[Step]) -> Ways {
        let mut ways = Ways(vec![(end, 0)]);
        let mut changed = true;
        while changed {
            changed = false;
            for step in steps {
                let Some(rest) = ways.find(step.to) else {
                    continue;
                };
                let cost = step.cost + rest;
                match ways.0.iter_mut().find(|(node, _)| *node == step.from) {
                    Some((_, known)) if *known <= cost => continue,
                    Some((_, known)) => *known = cost,
                    None => ways.0.push((step.from, cost)),
                }
                changed = true;
            }
        }
        ways
    }

    fn find(&self, node: usize) -> Option<i64> {
        self.0
            .iter()
            .find(|(known, _)| *known == node)
            .map(|&(_, cost)| cost)
    }

    /// The cost from `node`, from which there is a way: every block of a loop leads to its test and its header.
    fn cost(&self, node: usize) -> i64 {
        self.find(node).unwrap_or(0)
    }
}

/// A function cut into segments.
struct Cut {
    segments: Vec<Segment>,
    /// The index of a block's last segment.
    last_of: SecondaryMap<Block, usize>,
}

fn cut(func: &Function, costs: &SecondaryMap<Inst, Option<i64>>) -> Cut {
    let mut classes = Classes::new(func);
    let mut segments = Vec::new();
    let mut last_of = SecondaryMap::new();
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
            let to = if observes(func, inst) {
                Point::Observed
            } else if opcode.is_branch() {
                Point::Class(classes.of_end(block))
            } else if opcode.is_terminator() {
                Point::Trap
            } else {
                continue;
            };
            last_of[block] = segments.len();
            segments.push(Segment { from, to, cost, at });
            from = Point::Observed;
            cost = 0;
            first = None;
        }
    }
    Cut { segments, last_of }
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
