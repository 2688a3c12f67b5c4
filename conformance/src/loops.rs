//! Modules made of loops, above all of loops that nearly count.
//!
//! A compiler that pays for a loop's whole trip count on entry must get that count right, and must know when
//! there is none. So the loops here are made of the parts that such a proof consists of, drawn independently, in
//! a proportion in which most of them fit together: where the induction variable starts, its step and how the addition is
//! written, the bound and whether it stays the same, the comparison and which value it looks at, where the
//! test stands and how it branches. What else can be in a loop is there too: other exits, other
//! latches, traps, calls, bulk operations, inner loops, and assignments to what should stay as it is.

use crate::choices::Choices;
use crate::{Argument, Call, Case};
use std::borrow::Cow;
use wasm_encoder::Instruction as I;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, GlobalType, HeapType, ImportSection,
    MemArg, MemorySection, MemoryType, Module, RefType, TableSection, TableType, TypeSection,
    ValType,
};

/// Number of a function type.
mod types {
    pub(super) const LEAF: u32 = 0;
    pub(super) const MAIN: u32 = 1;
    pub(super) const TAKES_I32: u32 = 2;
    pub(super) const TAKES_I64: u32 = 3;
}

/// Number of a function.
mod functions {
    pub(super) const HOST: u32 = 0;
    pub(super) const LEAF: u32 = 1;
    pub(super) const LOOPING_LEAF: u32 = 2;
    pub(super) const FIRST_MAIN: u32 = 3;
}

const TABLE_SIZE: u64 = 5;

/// Locals of the functions that are called from outside, the four parameters last.
const I32_LOCALS: [u32; 9] = [4, 5, 6, 7, 8, 9, 10, 0, 1];
const I64_LOCALS: [u32; 8] = [11, 12, 13, 14, 15, 16, 2, 3];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ty {
    I32,
    I64,
}
use Ty::{I32, I64};

/// A comparison, as in "go on while `x ? bound`".
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cond {
    Ne,
    LtS,
    LtU,
    LeS,
    LeU,
    GtS,
    GtU,
    GeS,
    GeU,
    Eq,
}

const CONDS: [Cond; 10] = [
    Cond::Ne,
    Cond::LtS,
    Cond::LtU,
    Cond::LeS,
    Cond::LeU,
    Cond::GtS,
    Cond::GtU,
    Cond::GeS,
    Cond::GeU,
    Cond::Eq,
];

impl Cond {
    /// The comparison with its operands in the other order.
    fn swapped(self) -> Cond {
        match self {
            Cond::LtS => Cond::GtS,
            Cond::LtU => Cond::GtU,
            Cond::LeS => Cond::GeS,
            Cond::LeU => Cond::GeU,
            Cond::GtS => Cond::LtS,
            Cond::GtU => Cond::LtU,
            Cond::GeS => Cond::LeS,
            Cond::GeU => Cond::LeU,
            Cond::Ne | Cond::Eq => self,
        }
    }

    fn negated(self) -> Cond {
        match self {
            Cond::Ne => Cond::Eq,
            Cond::Eq => Cond::Ne,
            Cond::LtS => Cond::GeS,
            Cond::LtU => Cond::GeU,
            Cond::LeS => Cond::GtS,
            Cond::LeU => Cond::GtU,
            Cond::GtS => Cond::LeS,
            Cond::GtU => Cond::LeU,
            Cond::GeS => Cond::LtS,
            Cond::GeU => Cond::LtU,
        }
    }

    fn instruction(self, ty: Ty) -> I<'static> {
        match (ty, self) {
            (I32, Cond::Ne) => I::I32Ne,
            (I32, Cond::Eq) => I::I32Eq,
            (I32, Cond::LtS) => I::I32LtS,
            (I32, Cond::LtU) => I::I32LtU,
            (I32, Cond::LeS) => I::I32LeS,
            (I32, Cond::LeU) => I::I32LeU,
            (I32, Cond::GtS) => I::I32GtS,
            (I32, Cond::GtU) => I::I32GtU,
            (I32, Cond::GeS) => I::I32GeS,
            (I32, Cond::GeU) => I::I32GeU,
            (I64, Cond::Ne) => I::I64Ne,
            (I64, Cond::Eq) => I::I64Eq,
            (I64, Cond::LtS) => I::I64LtS,
            (I64, Cond::LtU) => I::I64LtU,
            (I64, Cond::LeS) => I::I64LeS,
            (I64, Cond::LeU) => I::I64LeU,
            (I64, Cond::GtS) => I::I64GtS,
            (I64, Cond::GtU) => I::I64GtU,
            (I64, Cond::GeS) => I::I64GeS,
            (I64, Cond::GeU) => I::I64GeU,
        }
    }
}

#[derive(Clone, Copy)]
enum Op {
    Add,
    Sub,
    Mul,
    And,
    Or,
    Xor,
    Shl,
    ShrU,
    Rotl,
    DivU,
    DivS,
    RemU,
}

impl Op {
    fn instruction(self, ty: Ty) -> I<'static> {
        match (ty, self) {
            (I32, Op::Add) => I::I32Add,
            (I32, Op::Sub) => I::I32Sub,
            (I32, Op::Mul) => I::I32Mul,
            (I32, Op::And) => I::I32And,
            (I32, Op::Or) => I::I32Or,
            (I32, Op::Xor) => I::I32Xor,
            (I32, Op::Shl) => I::I32Shl,
            (I32, Op::ShrU) => I::I32ShrU,
            (I32, Op::Rotl) => I::I32Rotl,
            (I32, Op::DivU) => I::I32DivU,
            (I32, Op::DivS) => I::I32DivS,
            (I32, Op::RemU) => I::I32RemU,
            (I64, Op::Add) => I::I64Add,
            (I64, Op::Sub) => I::I64Sub,
            (I64, Op::Mul) => I::I64Mul,
            (I64, Op::And) => I::I64And,
            (I64, Op::Or) => I::I64Or,
            (I64, Op::Xor) => I::I64Xor,
            (I64, Op::Shl) => I::I64Shl,
            (I64, Op::ShrU) => I::I64ShrU,
            (I64, Op::Rotl) => I::I64Rotl,
            (I64, Op::DivU) => I::I64DivU,
            (I64, Op::DivS) => I::I64DivS,
            (I64, Op::RemU) => I::I64RemU,
        }
    }
}

const HARMLESS: [Op; 9] = [
    Op::Add,
    Op::Sub,
    Op::Mul,
    Op::And,
    Op::Or,
    Op::Xor,
    Op::Shl,
    Op::ShrU,
    Op::Rotl,
];
const TRAPPING: [Op; 3] = [Op::DivU, Op::DivS, Op::RemU];

/// Numbers at which arithmetic changes its mind, as i64; truncated for i32.
const EXTREMES: [i64; 20] = [
    0,
    1,
    -1,
    2,
    -2,
    i32::MIN as i64,
    i32::MIN as i64 + 1,
    i32::MAX as i64,
    i32::MAX as i64 - 1,
    u32::MAX as i64,
    u32::MAX as i64 + 1,
    u32::MAX as i64 - 2,
    i64::MIN,
    i64::MIN + 1,
    i64::MAX,
    i64::MAX - 1,
    0x8000_0000,
    0x7fff_fffd,
    -3,
    1 << 62,
];

/// Ones most, as in real code.
const STEPS: [i64; 28] = [
    1,
    -1,
    1,
    -1,
    1,
    -1,
    2,
    -2,
    3,
    -3,
    4,
    -4,
    7,
    8,
    -8,
    16,
    5,
    -5,
    12,
    64,
    0,
    1 << 16,
    1 << 30,
    1 << 31,
    -(1 << 31),
    1 << 32,
    1 << 62,
    i64::MIN,
];

/// What branches can lead to.
#[derive(Clone, Copy)]
struct Label {
    id: u32,
    /// Whether a branch there needs an operand: those are for their makers only.
    takes_operand: bool,
    /// A loop, where a branch goes back.
    is_loop: bool,
}

/// A value compared with another.
struct Test {
    ty: Ty,
    /// Goes on while this holds.
    cond: Cond,
    bound: Bound,
    /// What is done with the value first.
    derived: Derived,
}

#[derive(Clone, Copy)]
enum Bound {
    Const(i64),
    Local(u32),
    Global,
    Memory(u32),
    /// A local, with a constant added anew each time.
    Offset(u32, i64),
}

#[derive(Clone, Copy)]
enum Derived {
    Not,
    Masked(i64),
    Scaled(u32),
    Shifted(u32),
    SignExtended8,
    /// Through the other integer type.
    Converted,
    Plus(i64),
}

/// A case from these choices.
pub fn case(choices: &mut Choices<'_>) -> Case {
    let mains = 1 + choices.below(2);
    let bodies: Vec<Function> = (0..mains)
        .map(|index| Body::new(choices, functions::FIRST_MAIN + index).main())
        .collect();
    let looping_leaf = Body::new(choices, functions::LOOPING_LEAF).leaf(true);
    let leaf = Body::new(choices, functions::LEAF).leaf(false);

    let mut calls = Vec::new();
    for index in 0..mains {
        for _ in 0..2 + choices.below(2) {
            calls.push(Call {
                function: format!("f{index}"),
                arguments: arguments(choices),
                fuel: choices.pick(&[20_000, 3_000, 20_000, 100_000]),
            });
        }
    }
    Case {
        wasm: module([leaf, looping_leaf].into_iter().chain(bodies)),
        calls,
        limits: choices.word(),
    }
}

fn arguments(choices: &mut Choices<'_>) -> Vec<Argument> {
    let mut number = || match choices.below(4) {
        0 | 1 => i64::from(choices.below(12)),
        2 => i64::from(choices.below(40)) - 20,
        _ => choices.pick(&EXTREMES),
    };
    vec![
        Argument::I32(number() as i32),
        Argument::I32(number() as i32),
        Argument::I64(number()),
        Argument::I64(number()),
    ]
}

fn module(bodies: impl Iterator<Item = Function>) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I64], [ValType::I64]);
    types.ty().function(
        [ValType::I32, ValType::I32, ValType::I64, ValType::I64],
        [ValType::I64],
    );
    types.ty().function([ValType::I32], []);
    types.ty().function([ValType::I64], []);

    let mut imports = ImportSection::new();
    imports.import("host", "effect", EntityType::Function(types::LEAF));

    let mut function_section = FunctionSection::new();
    let mut exports = ExportSection::new();
    let mut code = CodeSection::new();
    for (index, body) in (functions::LEAF..).zip(bodies) {
        if let Some(main) = index.checked_sub(functions::FIRST_MAIN) {
            function_section.function(types::MAIN);
            exports.export(&format!("f{main}"), ExportKind::Func, index);
        } else {
            function_section.function(types::LEAF);
        }
        code.function(&body);
    }

    let mut tables = TableSection::new();
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: TABLE_SIZE,
        maximum: None,
        shared: false,
    });
    let mut elements = ElementSection::new();
    // The fourth has another type, the fifth is null.
    elements.active(
        None,
        &ConstExpr::i32_const(0),
        Elements::Functions(Cow::Borrowed(&[
            functions::LEAF,
            functions::LOOPING_LEAF,
            functions::HOST,
            functions::FIRST_MAIN,
        ])),
    );

    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: Some(3),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export("memory", ExportKind::Memory, 0);

    let mut globals = GlobalSection::new();
    for (index, (ty, init)) in [
        (ValType::I32, ConstExpr::i32_const(9)),
        (ValType::I64, ConstExpr::i64_const(11)),
    ]
    .into_iter()
    .enumerate()
    {
        globals.global(
            GlobalType {
                val_type: ty,
                mutable: true,
                shared: false,
            },
            &init,
        );
        exports.export(&format!("g{index}"), ExportKind::Global, index as u32);
    }

    let mut module = Module::new();
    module
        .section(&types)
        .section(&imports)
        .section(&function_section)
        .section(&tables)
        .section(&memories)
        .section(&globals)
        .section(&exports)
        .section(&elements)
        .section(&code);
    module.finish()
}

struct Body<'c, 'b> {
    choices: &'c mut Choices<'b>,
    /// This function's number: it calls those below only, so nothing recurses.
    index: u32,
    code: Vec<I<'static>>,
    labels: Vec<Label>,
    next_label: u32,
    /// Locals that loops around here need as they are.
    reserved: Vec<u32>,
    /// Statements that may still come.
    budget: u32,
    loop_depth: u32,
}

impl<'c, 'b> Body<'c, 'b> {
    fn new(choices: &'c mut Choices<'b>, index: u32) -> Body<'c, 'b> {
        // Small ones too: a tight loop on its own is where most can be done.
        let budget = choices.pick(&[4, 8, 24, 14]);
        Body {
            choices,
            index,
            code: Vec::new(),
            labels: Vec::new(),
            next_label: 0,
            reserved: Vec::new(),
            budget,
            loop_depth: 0,
        }
    }

    fn main(mut self) -> Function {
        // A function that is nothing but a loop has the loop's header as its entry.
        if !self.choices.one_in(6) {
            self.statements(3);
        }
        self.counted_loop();
        self.statements(4);
        if self.choices.one_in(3) {
            self.counted_loop();
        }
        self.finish(&[(7, ValType::I32), (6, ValType::I64)])
    }

    fn leaf(mut self, looping: bool) -> Function {
        if looping {
            self.op(I::LocalGet(0));
            self.op(I::LocalSet(11));
            self.leaf_loop();
        } else {
            self.op(I::LocalGet(0));
            let value = i64::from(self.choices.below(9));
            self.op(I::I64Const(value));
            self.op(I::I64Add);
            if self.choices.one_in(2) {
                self.op(I::LocalTee(11));
                self.op(I::LocalGet(0));
                self.op(I::I64Mul);
            }
            self.op(I::LocalSet(11));
        }
        let mut function = Function::new([
            (2, ValType::I32),
            (1, ValType::I64),
            (7, ValType::I32),
            (6, ValType::I64),
        ]);
        for op in &self.code {
            function.instruction(op);
        }
        function.instruction(&I::LocalGet(11));
        function.instruction(&I::End);
        function
    }

    /// A loop over an i64 of the leaf's own: few trips, whatever the argument.
    fn leaf_loop(&mut self) {
        self.op(I::LocalGet(0));
        let mask = self.choices.pick(&[3, 7, 0, 1]);
        self.op(I::I64Const(mask));
        self.op(I::I64And);
        self.op(I::LocalSet(12));
        let top = self.choices.one_in(2);
        self.op(I::Block(BlockType::Empty));
        self.op(I::Loop(BlockType::Empty));
        if top {
            self.op(I::LocalGet(12));
            self.op(I::I64Eqz);
            self.op(I::BrIf(1));
        }
        self.op(I::LocalGet(11));
        self.op(I::I64Const(3));
        self.op(I::I64Mul);
        self.op(I::LocalSet(11));
        self.op(I::LocalGet(12));
        self.op(I::I64Const(-1));
        self.op(I::I64Add);
        self.op(I::LocalTee(12));
        if top {
            self.op(I::Drop);
            self.op(I::Br(0));
        } else {
            self.op(I::I64Const(0));
            self.op(I::I64GtS);
            self.op(I::BrIf(0));
        }
        self.op(I::End);
        self.op(I::End);
    }

    /// The result is made of all locals, so that no assignment is without effect.
    fn finish(mut self, locals: &[(u32, ValType)]) -> Function {
        self.op(I::I64Const(0));
        for local in 0..=16 {
            self.op(I::I64Const(7));
            self.op(I::I64Rotl);
            self.op(I::LocalGet(local));
            if I32_LOCALS.contains(&local) {
                self.op(I::I64ExtendI32U);
            }
            self.op(I::I64Xor);
        }
        let mut function = Function::new(locals.iter().copied());
        for op in &self.code {
            function.instruction(op);
        }
        function.instruction(&I::End);
        function
    }

    fn op(&mut self, instruction: I<'static>) {
        self.code.push(instruction);
    }

    fn constant(&mut self, ty: Ty, value: i64) {
        self.op(match ty {
            I32 => I::I32Const(value as i32),
            I64 => I::I64Const(value),
        });
    }

    // Labels.

    fn enter(&mut self, block: I<'static>, takes_operand: bool) -> u32 {
        let is_loop = matches!(block, I::Loop(_));
        self.op(block);
        let id = self.next_label;
        self.next_label += 1;
        self.labels.push(Label {
            id,
            takes_operand,
            is_loop,
        });
        id
    }

    fn end(&mut self) {
        self.labels.pop();
        self.op(I::End);
    }

    fn depth(&self, id: u32) -> u32 {
        self.labels
            .iter()
            .rev()
            .position(|label| label.id == id)
            .expect("the label is open") as u32
    }

    /// A label that any branch can go to; the function's end, which takes a result, is not among them.
    fn any_label(&mut self) -> Option<u32> {
        let ids: Vec<u32> = self
            .labels
            .iter()
            // Going back on data may go on for ever: not so often.
            .filter(|label| !label.takes_operand)
            .filter(|label| !label.is_loop || self.choices.one_in(4))
            .map(|label| label.id)
            .collect();
        (!ids.is_empty()).then(|| self.choices.pick(&ids))
    }

    // Locals.

    fn locals(ty: Ty) -> &'static [u32] {
        match ty {
            I32 => &I32_LOCALS,
            I64 => &I64_LOCALS,
        }
    }

    fn any_local(&mut self, ty: Ty) -> u32 {
        self.choices.pick(Body::locals(ty))
    }

    /// A local that may be assigned to.
    fn free_local(&mut self, ty: Ty) -> Option<u32> {
        let free: Vec<u32> = Body::locals(ty)
            .iter()
            .copied()
            .filter(|local| !self.reserved.contains(local))
            .collect();
        (!free.is_empty()).then(|| self.choices.pick(&free))
    }

    /// Mostly a free one, and now and then one that a loop relies on.
    fn victim(&mut self, ty: Ty) -> Option<u32> {
        if self.choices.one_in(20) {
            Some(self.any_local(ty))
        } else {
            self.free_local(ty)
        }
    }

    fn ty(&mut self) -> Ty {
        self.choices.pick(&[I32, I32, I64])
    }

    fn memarg(&mut self, align: u32) -> MemArg {
        MemArg {
            offset: u64::from(self.choices.below(64)),
            align: self.choices.below(align + 1),
            memory_index: 0,
        }
    }

    // Expressions.

    fn expression(&mut self, ty: Ty, depth: u32) {
        let kinds = if depth == 0 { 3 } else { 13 };
        match self.choices.below(kinds) {
            0 => {
                let local = self.any_local(ty);
                self.op(I::LocalGet(local));
            }
            1 => {
                let value = if self.choices.one_in(4) {
                    self.choices.pick(&EXTREMES)
                } else {
                    i64::from(self.choices.below(10))
                };
                self.constant(ty, value);
            }
            2 => self.op(I::GlobalGet(match ty {
                I32 => 0,
                I64 => 1,
            })),
            3..=6 => {
                self.expression(ty, depth - 1);
                self.expression(ty, depth - 1);
                let op = self.choices.pick(&HARMLESS);
                self.op(op.instruction(ty));
            }
            7 => {
                self.address();
                let arg = self.memarg(2);
                self.op(match ty {
                    I32 => I::I32Load(arg),
                    I64 => I::I64Load(arg),
                });
            }
            8 => {
                self.expression(ty, depth - 1);
                self.expression(ty, depth - 1);
                self.condition(depth - 1);
                self.op(I::Select);
            }
            9 => match ty {
                I32 => self.condition(depth - 1),
                I64 => {
                    self.expression(I32, depth - 1);
                    self.op(I::I64ExtendI32S);
                }
            },
            10 => match ty {
                I32 => {
                    self.expression(I64, depth - 1);
                    self.op(I::I32WrapI64);
                }
                I64 if self.choices.one_in(2) => {
                    self.expression(I64, depth - 1);
                    self.call_leaf();
                }
                I64 => {
                    self.expression(I64, depth - 1);
                    self.op(I::I64Clz);
                }
            },
            11 => {
                self.expression(ty, depth - 1);
                if let Some(local) = self.victim(ty) {
                    self.op(I::LocalTee(local));
                }
            }
            _ => {
                self.expression(ty, depth - 1);
                self.expression(ty, depth - 1);
                if !self.choices.one_in(6) {
                    // A divisor that is rarely zero.
                    self.constant(ty, 1);
                    self.op(Op::Or.instruction(ty));
                }
                let op = self.choices.pick(&TRAPPING);
                self.op(op.instruction(ty));
            }
        }
    }

    /// An address in the first page, or now and then any.
    fn address(&mut self) {
        self.expression(I32, 1);
        if !self.choices.one_in(12) {
            self.constant(I32, 0x7ff8);
            self.op(I::I32And);
        }
    }

    /// An i32 that is used as a truth value.
    fn condition(&mut self, depth: u32) {
        match self.choices.below(4) {
            0 => {
                self.expression(I32, depth);
                self.constant(I32, 3);
                self.op(I::I32And);
            }
            1 => {
                let ty = self.ty();
                self.expression(ty, depth);
                self.op(match ty {
                    I32 => I::I32Eqz,
                    I64 => I::I64Eqz,
                });
            }
            _ => {
                let ty = self.ty();
                self.expression(ty, depth);
                self.expression(ty, depth);
                let cond = self.choices.pick(&CONDS);
                self.op(cond.instruction(ty));
            }
        }
    }

    /// Calls a function with the i64 on the stack.
    fn call_leaf(&mut self) {
        match self.choices.below(5) {
            _ if self.index <= functions::LOOPING_LEAF => self.op(I::Call(functions::LEAF - 1)),
            0 | 1 => self.op(I::Call(functions::LEAF)),
            2 => self.op(I::Call(functions::LOOPING_LEAF)),
            3 => self.op(I::Call(functions::HOST)),
            _ => {
                // Out of bounds, null or of the wrong type now and then.
                if self.choices.one_in(4) {
                    self.expression(I32, 0);
                    self.constant(I32, 7);
                    self.op(I::I32And);
                } else {
                    let index = i64::from(self.choices.below(3));
                    self.constant(I32, index);
                }
                self.op(I::CallIndirect {
                    type_index: types::LEAF,
                    table_index: 0,
                });
            }
        }
    }

    // Statements.

    fn statements(&mut self, most: u32) {
        for _ in 0..self.choices.below(most + 1) {
            self.statement();
        }
    }

    fn statement(&mut self) {
        if self.budget == 0 {
            return;
        }
        self.budget -= 1;
        match self.choices.below(24) {
            0..=5 => self.assign(),
            6 => {
                self.address();
                self.expression(I64, 1);
                let arg = self.memarg(3);
                self.op(I::I64Store(arg));
            }
            7 => {
                let ty = self.ty();
                self.expression(ty, 1);
                self.op(I::GlobalSet(match ty {
                    I32 => 0,
                    I64 => 1,
                }));
            }
            8 | 9 => self.diamond(),
            10 => {
                self.enter(I::Block(BlockType::Empty), false);
                self.statements(3);
                self.end();
            }
            11 => {
                if let Some(label) = self.any_label() {
                    self.condition(1);
                    let depth = self.depth(label);
                    self.op(I::BrIf(depth));
                }
            }
            12 => self.switch(),
            13 => self.rare_end(),
            14 => {
                self.expression(I64, 1);
                self.call_leaf();
                match self.victim(I64) {
                    Some(local) => self.op(I::LocalSet(local)),
                    None => self.op(I::Drop),
                }
            }
            15 => self.bulk(),
            16 => self.trap_at_some_time(),
            17 => self.op(I::Nop),
            _ if self.loop_depth < 3 => self.counted_loop(),
            _ => self.assign(),
        }
    }

    fn assign(&mut self) {
        let ty = self.ty();
        let Some(local) = self.victim(ty) else { return };
        self.expression(ty, 2);
        self.op(I::LocalSet(local));
    }

    fn diamond(&mut self) {
        self.condition(1);
        self.enter(I::If(BlockType::Empty), false);
        self.statements(2);
        if self.choices.one_in(2) {
            self.op(I::Else);
            self.statements(2);
        }
        self.end();
    }

    fn switch(&mut self) {
        let arms = 1 + self.choices.below(3);
        let mut labels: Vec<u32> = (0..arms)
            .map(|_| self.enter(I::Block(BlockType::Empty), false))
            .collect();
        // An arm that leads elsewhere, out of a loop or back to its start.
        labels.extend(self.any_label());
        self.expression(I32, 1);
        let depths: Vec<u32> = labels.iter().map(|&label| self.depth(label)).collect();
        let default = self.choices.pick(&depths);
        self.op(I::BrTable(Cow::Owned(depths), default));
        for _ in 0..arms {
            self.end();
            self.statements(1);
        }
    }

    /// A return or trap under a condition.
    fn rare_end(&mut self) {
        self.condition(1);
        self.condition(0);
        self.op(I::I32And);
        self.enter(I::If(BlockType::Empty), false);
        if self.choices.one_in(2) {
            self.op(I::Unreachable);
        } else {
            self.op(I::I64Const(-77));
            self.op(I::Return);
        }
        self.end();
    }

    fn bulk(&mut self) {
        let length = if self.choices.one_in(8) {
            self.choices.pick(&[65_536, 70_000, -1, 9_000])
        } else {
            i64::from(self.choices.below(50))
        };
        match self.choices.below(6) {
            0 | 1 => {
                self.address();
                self.expression(I32, 0);
                self.bulk_length(length);
                self.op(I::MemoryFill(0));
            }
            3 => {
                self.constant(I32, length & 7);
                self.op(I::RefFunc(functions::LEAF));
                let count = i64::from(self.choices.below(4));
                self.constant(I32, count);
                self.op(I::TableFill(0));
            }
            4 => {
                self.op(I::RefNull(HeapType::FUNC));
                self.bulk_length(length);
                self.op(I::TableGrow(0));
                self.op(I::Drop);
            }
            2 => {
                self.address();
                self.address();
                self.bulk_length(length);
                self.op(I::MemoryCopy {
                    src_mem: 0,
                    dst_mem: 0,
                });
            }
            _ => {
                self.constant(I32, length & 1);
                self.op(I::MemoryGrow(0));
                match self.free_local(I32) {
                    Some(local) => self.op(I::LocalSet(local)),
                    None => self.op(I::Drop),
                }
            }
        }
    }

    fn bulk_length(&mut self, length: i64) {
        if self.choices.one_in(3) {
            self.expression(I32, 0);
            self.constant(I32, 63);
            self.op(I::I32And);
        } else {
            self.constant(I32, length);
        }
    }

    /// Something that traps once a local has got to some value: in a loop over it, at some iteration.
    fn trap_at_some_time(&mut self) {
        let local = match self.reserved.last() {
            Some(&reserved) if self.choices.below(4) != 0 => reserved,
            _ => self.any_local(I32),
        };
        self.op(I::LocalGet(local));
        if I64_LOCALS.contains(&local) {
            self.op(I::I32WrapI64);
        }
        match self.choices.below(3) {
            0 => {
                let scale = self.choices.pick(&[8192, 65_536, 4096, 1 << 28]);
                self.constant(I32, scale);
                self.op(I::I32Mul);
                self.op(I::I32Load8U(MemArg {
                    offset: 0,
                    align: 0,
                    memory_index: 0,
                }));
                self.op(I::Drop);
            }
            1 => {
                let at = i64::from(self.choices.below(12));
                self.constant(I32, at);
                self.op(I::I32Sub);
                if let Some(target) = self.free_local(I32) {
                    self.op(I::LocalSet(target));
                    self.constant(I32, 100);
                    self.op(I::LocalGet(target));
                    self.op(I::I32DivU);
                }
                self.op(I::Drop);
            }
            _ => {
                let at = i64::from(self.choices.below(12));
                self.constant(I32, at);
                self.op(I::I32Eq);
                self.enter(I::If(BlockType::Empty), false);
                self.op(I::Unreachable);
                self.end();
            }
        }
    }

    // Loops.

    /// The body of a loop.
    fn inside(&mut self, most: u32) {
        self.loop_depth += 1;
        self.statements(most);
        self.loop_depth -= 1;
    }

    fn counted_loop(&mut self) {
        let ty = self.ty();
        let (Some(variable), reserved) = (self.free_local(ty), self.reserved.len()) else {
            return;
        };
        // Most loops keep what they count with; in a few anything may happen to it.
        let protected = !self.choices.one_in(8);
        if protected {
            self.reserved.push(variable);
        }
        let mut step = self.choices.pick(&STEPS);
        if ty == I32 {
            step = i64::from(step as i32);
        }
        let start = self.start(ty, variable);
        let bound = self.bound(ty, variable, start, step);
        if let Bound::Local(local) | Bound::Offset(local, _) = bound
            && protected
        {
            self.reserved.push(local);
        }
        let cond = self.cond_for(step);
        let derived = self.derived();
        let test = Test {
            ty,
            cond,
            bound,
            derived,
        };
        if self.choices.one_in(10) && ty == I32 || self.choices.one_in(20) {
            self.loop_on_the_stack(variable, step, &test);
        } else {
            self.loop_over_local(variable, step, &test);
        }
        self.reserved.truncate(reserved);
    }

    /// Initialises the variable; `Some` if that is a constant.
    fn start(&mut self, ty: Ty, variable: u32) -> Option<i64> {
        let value = match self.choices.below(10) {
            0..=2 => 0,
            3 | 4 => i64::from(self.choices.below(16)),
            5 => self.choices.pick(&EXTREMES),
            6 => {
                let other = self.any_local(ty);
                self.op(I::LocalGet(other));
                self.op(I::LocalSet(variable));
                return None;
            }
            7 => {
                self.expression(ty, 1);
                self.constant(ty, 15);
                self.op(Op::And.instruction(ty));
                self.op(I::LocalSet(variable));
                return None;
            }
            8 => {
                // One of two values, depending on data.
                self.constant(ty, 0);
                self.op(I::LocalSet(variable));
                self.condition(1);
                self.enter(I::If(BlockType::Empty), false);
                self.constant(ty, 3);
                self.op(I::LocalSet(variable));
                self.end();
                return None;
            }
            // As it is.
            _ => return None,
        };
        self.constant(ty, value);
        self.op(I::LocalSet(variable));
        Some(value)
    }

    /// Chooses the bound, most often one that the variable gets to in few steps, and prepares it.
    fn bound(&mut self, ty: Ty, variable: u32, start: Option<i64>, step: i64) -> Bound {
        let trips = i64::from(self.choices.pick(&[1, 2, 3, 5, 8, 0, 13, 20]));
        let mut distance = step.wrapping_mul(trips);
        if self.choices.one_in(5) {
            // Not a multiple of the step: `ne` then misses it, at least the first time round.
            distance = distance.wrapping_add(self.choices.pick(&[1, -1, 2]));
        }
        match self.choices.below(12) {
            0..=3 => {
                if let Some(start) = start {
                    return Bound::Const(start.wrapping_add(distance));
                }
                self.fitting_local(ty, variable, distance)
            }
            4 | 5 => self.fitting_local(ty, variable, distance),
            6 => Bound::Const(i64::from(self.choices.below(20)) - 4),
            7 => Bound::Const(self.choices.pick(&EXTREMES)),
            8 => Bound::Local(self.any_local(ty)),
            9 => Bound::Global,
            10 => {
                let address = self.choices.pick(&[0, 8, 64]);
                self.constant(I32, i64::from(address));
                self.op(I::LocalGet(variable));
                self.constant(ty, distance);
                self.op(Op::Add.instruction(ty));
                let arg = MemArg {
                    offset: 0,
                    align: 2,
                    memory_index: 0,
                };
                self.op(match ty {
                    I32 => I::I32Store(arg),
                    I64 => I::I64Store(arg),
                });
                Bound::Memory(address)
            }
            _ => match self.fitting_local(ty, variable, distance) {
                Bound::Local(local) => Bound::Offset(local, self.choices.pick(&[0, 1, -1, 3])),
                other => other,
            },
        }
    }

    /// A local that the variable is `distance` away from, known only at run time.
    fn fitting_local(&mut self, ty: Ty, variable: u32, distance: i64) -> Bound {
        let Some(local) = self.free_local(ty).filter(|&local| local != variable) else {
            return Bound::Const(distance);
        };
        self.op(I::LocalGet(variable));
        self.constant(ty, distance);
        self.op(Op::Add.instruction(ty));
        self.op(I::LocalSet(local));
        Bound::Local(local)
    }

    fn cond_for(&mut self, step: i64) -> Cond {
        if self.choices.one_in(5) {
            return self.choices.pick(&CONDS);
        }
        if step >= 0 {
            self.choices.pick(&[
                Cond::LtS,
                Cond::LtU,
                Cond::LeS,
                Cond::LeU,
                Cond::Ne,
                Cond::Ne,
            ])
        } else {
            self.choices.pick(&[
                Cond::GtS,
                Cond::GtU,
                Cond::GeS,
                Cond::GeU,
                Cond::Ne,
                Cond::Ne,
            ])
        }
    }

    fn derived(&mut self) -> Derived {
        if !self.choices.one_in(10) {
            return Derived::Not;
        }
        match self.choices.below(6) {
            0 => Derived::Masked(self.choices.pick(&[7, 15, 255, -2, 0xffff, i64::MAX])),
            1 => Derived::Scaled(self.choices.pick(&[1, 2, 3, 31])),
            2 => Derived::Shifted(self.choices.pick(&[1, 2, 31])),
            3 => Derived::SignExtended8,
            4 => Derived::Converted,
            _ => Derived::Plus(self.choices.pick(&[1, -1, 5, i64::MAX])),
        }
    }

    fn push_bound(&mut self, ty: Ty, bound: Bound) {
        match bound {
            Bound::Const(value) => self.constant(ty, value),
            Bound::Local(local) => self.op(I::LocalGet(local)),
            Bound::Global => self.op(I::GlobalGet(match ty {
                I32 => 0,
                I64 => 1,
            })),
            Bound::Memory(address) => {
                self.constant(I32, i64::from(address));
                let arg = MemArg {
                    offset: 0,
                    align: 2,
                    memory_index: 0,
                };
                self.op(match ty {
                    I32 => I::I32Load(arg),
                    I64 => I::I64Load(arg),
                });
            }
            Bound::Offset(local, offset) => {
                self.op(I::LocalGet(local));
                self.constant(ty, offset);
                self.op(Op::Add.instruction(ty));
            }
        }
    }

    fn apply_derived(&mut self, ty: Ty, derived: Derived) {
        let mut with = |value: i64, op: Op| {
            self.constant(ty, value);
            self.op(op.instruction(ty));
        };
        match derived {
            Derived::Not => {}
            Derived::Masked(mask) => with(mask, Op::And),
            Derived::Scaled(by) => with(i64::from(by), Op::Shl),
            Derived::Shifted(by) => with(i64::from(by), Op::ShrU),
            Derived::Plus(value) => with(value, Op::Add),
            Derived::SignExtended8 => self.op(match ty {
                I32 => I::I32Extend8S,
                I64 => I::I64Extend8S,
            }),
            Derived::Converted => match ty {
                I32 => {
                    self.op(I::I64ExtendI32U);
                    self.op(I::I32WrapI64);
                }
                I64 => {
                    self.op(I::I32WrapI64);
                    let signed = self.choices.one_in(2);
                    self.op(if signed {
                        I::I64ExtendI32S
                    } else {
                        I::I64ExtendI32U
                    });
                }
            },
        }
    }

    /// With the value to look at on the stack: leaves a truth value, "go on" or its opposite, in one of the ways to write that.
    fn compare(&mut self, test: &Test, go_on: bool) {
        let ty = test.ty;
        self.apply_derived(ty, test.derived);
        let cond = if go_on {
            test.cond
        } else {
            test.cond.negated()
        };
        // `x != 0` and `x == 0` have shorter forms.
        if let Bound::Const(0) = test.bound
            && !self.choices.one_in(3)
        {
            match (cond, ty) {
                (Cond::Ne, I32) => return,
                (Cond::Eq, I32) => return self.op(I::I32Eqz),
                (Cond::Eq, I64) => return self.op(I::I64Eqz),
                (Cond::Ne, I64) => {
                    self.op(I::I64Eqz);
                    return self.op(I::I32Eqz);
                }
                _ => {}
            }
        }
        self.push_bound(ty, test.bound);
        match self.choices.below(8) {
            0 => {
                self.op(cond.negated().instruction(ty));
                self.op(I::I32Eqz);
            }
            1 if cond == Cond::Ne && ty == I32 => {
                let op = self.choices.pick(&[Op::Sub, Op::Xor]);
                self.op(op.instruction(I32));
            }
            2 => {
                // Through a select.
                self.op(cond.instruction(ty));
                if let Some(local) = self.free_local(I32) {
                    self.op(I::LocalSet(local));
                    self.constant(I32, 1);
                    self.constant(I32, 0);
                    self.op(I::LocalGet(local));
                    self.op(I::Select);
                }
            }
            3 => {
                // Used twice.
                self.op(cond.instruction(ty));
                if let Some(local) = self.free_local(I32) {
                    self.op(I::LocalTee(local));
                }
            }
            _ => self.op(cond.instruction(ty)),
        }
    }

    /// Tests with the bound on the left.
    fn compare_local(&mut self, value: u32, test: &Test, go_on: bool) {
        if self.choices.one_in(5) {
            let cond = if go_on {
                test.cond
            } else {
                test.cond.negated()
            };
            self.push_bound(test.ty, test.bound);
            self.op(I::LocalGet(value));
            self.apply_derived(test.ty, test.derived);
            self.op(cond.swapped().instruction(test.ty));
        } else {
            self.op(I::LocalGet(value));
            self.compare(test, go_on);
        }
    }

    /// Leaves the variable plus the step on the stack.
    fn incremented(&mut self, ty: Ty, variable: u32, step: i64) {
        match self.choices.below(9) {
            0 => {
                self.constant(ty, step);
                self.op(I::LocalGet(variable));
                self.op(Op::Add.instruction(ty));
            }
            1 | 2 => {
                self.op(I::LocalGet(variable));
                self.constant(ty, step.wrapping_neg());
                self.op(Op::Sub.instruction(ty));
            }
            3 => {
                // In two parts.
                let part = self.choices.pick(&[1, -1, 2]);
                self.op(I::LocalGet(variable));
                self.constant(ty, part);
                self.op(Op::Add.instruction(ty));
                self.constant(ty, step.wrapping_sub(part));
                self.op(Op::Add.instruction(ty));
            }
            4 if self.choices.one_in(4) => {
                // Not by a constant.
                self.op(I::LocalGet(variable));
                let other = self.any_local(ty);
                self.op(I::LocalGet(other));
                self.op(Op::Add.instruction(ty));
            }
            5 if self.choices.one_in(4) => {
                // Not by adding.
                self.op(I::LocalGet(variable));
                let (op, value) =
                    self.choices
                        .pick(&[(Op::Shl, 1), (Op::ShrU, 1), (Op::Mul, 3), (Op::Xor, 1)]);
                self.constant(ty, value);
                self.op(op.instruction(ty));
            }
            6 if ty == I64 && self.choices.one_in(3) => {
                // In the narrower type.
                self.op(I::LocalGet(variable));
                self.op(I::I32WrapI64);
                self.constant(I32, step);
                self.op(I::I32Add);
                let signed = self.choices.one_in(2);
                self.op(if signed {
                    I::I64ExtendI32S
                } else {
                    I::I64ExtendI32U
                });
            }
            _ => {
                self.op(I::LocalGet(variable));
                self.constant(ty, step);
                self.op(Op::Add.instruction(ty));
            }
        }
    }

    fn increment(&mut self, ty: Ty, variable: u32, step: i64) {
        // Only on some iterations, rarely.
        let sometimes = self.choices.one_in(16);
        if sometimes {
            self.condition(1);
            self.enter(I::If(BlockType::Empty), false);
        }
        self.incremented(ty, variable, step);
        self.op(I::LocalSet(variable));
        if sometimes {
            self.end();
        }
    }

    /// With a truth value on the stack, "go on" or its opposite: to `header` or out at `exit`. What follows is not reached,
    /// or is the way out.
    fn latch(&mut self, go_on: bool, header: u32, exit: u32) {
        let (header, exit) = (self.depth(header), self.depth(exit));
        match (go_on, self.choices.below(6)) {
            (true, 0) => self.op(I::BrTable(Cow::Owned(vec![exit]), header)),
            (true, 1) => self.op(I::BrTable(Cow::Owned(vec![exit, header]), header)),
            (true, 2) => {
                self.enter(I::If(BlockType::Empty), false);
                self.op(I::Br(header + 1));
                self.end();
            }
            (true, _) => self.op(I::BrIf(header)),
            (false, 0) => self.op(I::BrTable(Cow::Owned(vec![header]), exit)),
            (false, 1) => {
                self.enter(I::If(BlockType::Empty), false);
                self.op(I::Else);
                self.op(I::Br(header + 1));
                self.end();
            }
            (false, _) => {
                self.op(I::BrIf(exit));
                self.op(I::Br(header));
            }
        }
    }

    fn go_on(&mut self) -> bool {
        self.choices.below(4) != 3
    }

    fn loop_over_local(&mut self, variable: u32, step: i64, test: &Test) {
        let ty = test.ty;
        let shape = self.choices.below(12);
        let guarded = shape <= 4 && self.choices.one_in(3);
        if guarded {
            self.compare_local(variable, test, true);
            self.enter(I::If(BlockType::Empty), false);
        }
        let exit = self.enter(I::Block(BlockType::Empty), false);
        // Not reserved: a copy of the variable, written each time.
        let copy = self.free_local(ty).filter(|&local| local != variable);
        let header = self.enter(I::Loop(BlockType::Empty), false);
        match shape {
            // Test at the bottom, on the new value.
            0 | 1 => {
                self.inside(3);
                self.odd_exit(variable, ty, exit, header);
                self.increment(ty, variable, step);
                let go_on = self.go_on();
                self.compare_local(variable, test, go_on);
                self.latch(go_on, header, exit);
            }
            // The same as compilers write it.
            2 | 3 => {
                self.inside(3);
                self.incremented(ty, variable, step);
                self.op(I::LocalTee(variable));
                let go_on = self.go_on();
                self.compare(test, go_on);
                self.latch(go_on, header, exit);
            }
            // On the old value.
            4 | 5 => {
                self.inside(3);
                if let Some(copy) = copy {
                    self.op(I::LocalGet(variable));
                    self.op(I::LocalSet(copy));
                }
                if self.choices.one_in(2) {
                    // On the stack over the addition.
                    self.op(I::LocalGet(copy.unwrap_or(variable)));
                    self.increment(ty, variable, step);
                    self.compare(test, true);
                } else {
                    self.increment(ty, variable, step);
                    self.compare_local(copy.unwrap_or(variable), test, true);
                }
                self.latch(true, header, exit);
            }
            // Test at the top.
            6 | 7 => {
                self.compare_local(variable, test, false);
                let depth = self.depth(exit);
                self.op(I::BrIf(depth));
                self.inside(3);
                self.odd_exit(variable, ty, exit, header);
                self.increment(ty, variable, step);
                let depth = self.depth(header);
                self.op(I::Br(depth));
            }
            // At the top, as an `if` around the rest.
            8 => {
                self.compare_local(variable, test, true);
                self.enter(I::If(BlockType::Empty), false);
                self.inside(3);
                self.increment(ty, variable, step);
                let depth = self.depth(header);
                self.op(I::Br(depth));
                self.end();
            }
            // In the middle.
            9 => {
                self.inside(2);
                if self.choices.one_in(2) {
                    self.increment(ty, variable, step);
                    self.compare_local(variable, test, false);
                    let depth = self.depth(exit);
                    self.op(I::BrIf(depth));
                } else {
                    self.compare_local(variable, test, false);
                    let depth = self.depth(exit);
                    self.op(I::BrIf(depth));
                    self.increment(ty, variable, step);
                }
                self.inside(2);
                let depth = self.depth(header);
                self.op(I::Br(depth));
            }
            // The addition first.
            10 => {
                self.increment(ty, variable, step);
                self.inside(3);
                let go_on = self.go_on();
                self.compare_local(variable, test, go_on);
                self.latch(go_on, header, exit);
            }
            // Two latches.
            _ => {
                self.inside(2);
                self.condition(1);
                self.enter(I::If(BlockType::Empty), false);
                self.increment(ty, variable, step);
                self.inside(1);
                self.compare_local(variable, test, true);
                let depth = self.depth(header);
                self.op(I::BrIf(depth));
                let depth = self.depth(exit);
                self.op(I::Br(depth));
                self.end();
                let other = if self.choices.one_in(4) {
                    step.wrapping_add(1)
                } else {
                    step
                };
                self.increment(ty, variable, other);
                self.inside(1);
                self.compare_local(variable, test, true);
                self.latch(true, header, exit);
            }
        }
        self.end();
        self.end();
        if guarded {
            self.end();
        }
    }

    /// Rarely: another way out, another way back, or an end, when the variable or data say so.
    fn odd_exit(&mut self, variable: u32, ty: Ty, exit: u32, header: u32) {
        if !self.choices.one_in(4) {
            return;
        }
        if self.choices.one_in(3) {
            self.condition(1);
        } else {
            self.op(I::LocalGet(variable));
            let value = i64::from(self.choices.below(10));
            self.constant(ty, value);
            let cond = self
                .choices
                .pick(&[Cond::Eq, Cond::Eq, Cond::GtS, Cond::LtU]);
            self.op(cond.instruction(ty));
        }
        match self.choices.below(6) {
            0 | 1 => {
                let depth = self.depth(exit);
                self.op(I::BrIf(depth));
            }
            2 => {
                // Back without counting, with something changed so that it may end.
                self.enter(I::If(BlockType::Empty), false);
                self.op(I::LocalGet(variable));
                let value = self.choices.pick(&[1, 2, -1]);
                self.constant(ty, value);
                self.op(Op::Add.instruction(ty));
                self.op(I::LocalSet(variable));
                let depth = self.depth(header);
                self.op(I::Br(depth));
                self.end();
            }
            kind => {
                self.enter(I::If(BlockType::Empty), false);
                if kind == 3 {
                    self.op(I::Unreachable);
                } else if kind == 4 {
                    self.op(I::I64Const(5));
                    self.op(I::Return);
                } else {
                    self.statement();
                    let depth = self.depth(exit);
                    self.op(I::Br(depth));
                }
                self.end();
            }
        }
    }

    /// A loop whose variable is the loop's parameter and in no local.
    fn loop_on_the_stack(&mut self, variable: u32, step: i64, test: &Test) {
        let ty = test.ty;
        let Some(copy) = self.free_local(ty).filter(|&local| local != variable) else {
            return;
        };
        let exit = self.enter(I::Block(BlockType::Empty), false);
        self.op(I::LocalGet(variable));
        let signature = match ty {
            I32 => types::TAKES_I32,
            I64 => types::TAKES_I64,
        };
        let header = self.enter(I::Loop(BlockType::FunctionType(signature)), true);
        if self.choices.one_in(2) {
            self.op(I::LocalSet(copy));
            self.reserved.push(copy);
            self.inside(2);
            self.reserved.pop();
            self.op(I::LocalGet(copy));
        } else {
            // Under everything that the body has on the stack.
            self.inside(2);
        }
        self.constant(ty, step);
        self.op(Op::Add.instruction(ty));
        self.op(I::LocalTee(copy));
        self.op(I::LocalGet(copy));
        self.compare(test, true);
        let depth = self.depth(header);
        self.op(I::BrIf(depth));
        self.op(I::Drop);
        self.end();
        let _ = exit;
        self.end();
    }
}
