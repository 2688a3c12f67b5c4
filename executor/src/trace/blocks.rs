//! Code that tells which of its blocks it enters, so that what each function and line of it uses is known exactly.
//!
//! ```text
//!   deployed code ── sandbox ──▶ with the stack limit ── profile ──▶ with a call of `block` at the head of each block
//!        │                            │                                  │  and of `bulk` before each bulk operation
//!        └── aligned, operator by ────┘                                  ▼
//!            operator                                     an engine on which operators are free: each call of `block`
//!                                                         charges what the operators of the block cost on any other
//! ```
//!
//! A block is a run of operators that are executed all or not at all, unless one of them traps, and then the limit is lost anyway. It ends behind each
//! call, so what is charged up to there is the same as in a node at all times that anybody can look: what the contract reads of it, where
//! it runs out, and what its callees may use are the same too. Only the *reason* of an abort may be another: a trap in a block that
//! cannot be paid to its end is reported as out of fuel.
//!
//! The alternative, to read stock fuel at the marks and to take off what the marks themselves cost, would let the marks change when
//! fuel runs out, and what is shared with callees.

use slackline_metering::CostTable;
use std::collections::BTreeMap;
use std::ops::Range;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, EntityType, Function, ImportSection, Instruction, SectionId, TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, FunctionBody, ImportSectionReader, Operator, Parser, Payload, TypeRef,
    TypeSectionReader,
};

/// Module of the two functions that profiled code imports besides.
pub(crate) const PROFILE_MODULE: &str = "slackline_profile";

/// The blocks of a contract's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// By number.
    pub blocks: Vec<Block>,
    /// The bulk operations, which cost more than a block says: `memory.copy` and so on.
    pub bulk: Vec<Bulk>,
    /// Functions that the code imports, the first of the index space.
    pub imported: u32,
}

/// Operators that are executed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Index of their function, imports counted.
    pub function: u32,
    /// Where it begins.
    pub start: Start,
    /// How it ends.
    pub end: End,
    /// What costs something: the offset, in bytes from the start of the code section's contents, as in DWARF, and the fuel. What the stack
    /// limit has put in counts where it was put in.
    pub operators: Vec<(u32, u32)>,
}

/// Where a block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the function.
    Function,
    /// Behind a call.
    Call,
    /// Elsewhere.
    Inside,
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a call.
    Call,
    /// With a call that takes the place of this one.
    TailCall,
    /// In another way.
    Inside,
}

/// An operation that costs by how much it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Index of its function, imports counted.
    pub function: u32,
    /// Its offset, in bytes from the start of the code section's contents.
    pub offset: u32,
    /// Fuel for each unit of what it does.
    pub per_unit: u32,
}

impl Block {
    /// What it costs to enter it, in fuel.
    pub fn fuel(&self) -> u64 {
        self.operators
            .iter()
            .map(|(_, fuel)| u64::from(*fuel))
            .sum()
    }
}

/// Why code could not be instrumented: it has been checked, so a bug.
#[derive(Debug, thiserror::Error)]
#[error("the code cannot be profiled: {0}")]
pub struct ProfileError(pub(crate) String);

impl From<wasmparser::BinaryReaderError> for ProfileError {
    fn from(error: wasmparser::BinaryReaderError) -> ProfileError {
        ProfileError(error.to_string())
    }
}

/// Instruments `limited`, which is `code` with the stack limit in it, and tells the blocks.
pub(crate) fn instrument(
    code: &[u8],
    limited: &[u8],
    costs: &CostTable,
) -> Result<(Vec<u8>, Blocks), ProfileError> {
    let original = Scan::of(code)?;
    let scan = Scan::of(limited)?;
    let mut marks = Marks {
        costs,
        blocks: Blocks {
            imported: scan.imported,
            ..Blocks::default()
        },
        functions: Vec::new(),
    };
    if scan.bodies.len() != original.bodies.len() {
        return Err(ProfileError("functions are missing".to_owned()));
    }
    for (at, (body, original)) in scan.bodies.iter().zip(&original.bodies).enumerate() {
        let offsets = align(original, body)?;
        marks.function(scan.imported + at as u32, body, &offsets);
    }
    let mut rewriter = Rewriter {
        marks: &marks.functions,
        scan: &scan,
        next: 0,
        has_imports: false,
    };
    let mut module = wasm_encoder::Module::new();
    rewriter
        .parse_core_module(&mut module, Parser::new(0), limited)
        .map_err(|error| ProfileError(error.to_string()))?;
    Ok((module.finish(), marks.blocks))
}

/// What has to be known of a module.
#[derive(Default)]
struct Scan<'a> {
    imported: u32,
    types: u32,
    /// Parameters of each type.
    params: Vec<u32>,
    /// Types of the functions that are defined.
    functions: Vec<u32>,
    /// Their operators, each with its offset from the start of the code section's contents.
    bodies: Vec<Vec<(Operator<'a>, u32)>>,
}

impl<'a> Scan<'a> {
    fn of(code: &'a [u8]) -> Result<Scan<'a>, ProfileError> {
        let mut scan = Scan::default();
        let mut section: Range<usize> = 0..0;
        for payload in Parser::new(0).parse_all(code) {
            match payload? {
                Payload::TypeSection(types) => {
                    for ty in types.into_iter_err_on_gc_types() {
                        scan.params.push(ty?.params().len() as u32);
                        scan.types += 1;
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if matches!(import?.ty, TypeRef::Func(_)) {
                            scan.imported += 1;
                        }
                    }
                }
                Payload::FunctionSection(functions) => {
                    for ty in functions {
                        scan.functions.push(ty?);
                    }
                }
                Payload::CodeSectionStart { range, .. } => section = range,
                Payload::CodeSectionEntry(body) => {
                    let mut operators = Vec::new();
                    for operator in body.get_operators_reader()?.into_iter_with_offsets() {
                        let (operator, offset) = operator?;
                        operators.push((operator, (offset - section.start) as u32));
                    }
                    scan.bodies.push(operators);
                }
                _ => {}
            }
        }
        Ok(scan)
    }
}

/// For each operator of `limited` the offset of what it was made of in `original`: see `slackline_sandbox`'s `instrument`, which puts 11
/// operators before the body, 4 before each tail call, and 5 behind it, and makes branches of `return`s.
fn align(
    original: &[(Operator<'_>, u32)],
    limited: &[(Operator<'_>, u32)],
) -> Result<Vec<u32>, ProfileError> {
    const BEFORE: usize = 11;
    const LEAVE: usize = 4;
    let is_tail = |operator: &Operator<'_>| {
        matches!(
            operator,
            Operator::ReturnCall { .. } | Operator::ReturnCallIndirect { .. }
        )
    };
    if original.len() == limited.len() {
        return Ok(original.iter().map(|(_, offset)| *offset).collect());
    }
    let first = original.first().map_or(0, |(_, offset)| *offset);
    let last = original.last().map_or(0, |(_, offset)| *offset);
    let mut offsets = vec![first; BEFORE];
    for (operator, offset) in original {
        let count = if is_tail(operator) { LEAVE + 1 } else { 1 };
        offsets.extend(std::iter::repeat_n(*offset, count));
    }
    offsets.extend([last; LEAVE + 1]);
    if offsets.len() != limited.len() {
        return Err(ProfileError(
            "the stack limit is not where it should be".to_owned(),
        ));
    }
    Ok(offsets)
}

/// What goes before which operator of a function.
#[derive(Default)]
struct FunctionMarks {
    /// Numbers of the blocks that begin there.
    blocks: BTreeMap<usize, u32>,
    /// Numbers of bulk operations.
    bulk: BTreeMap<usize, u32>,
}

struct Marks<'a> {
    costs: &'a CostTable,
    blocks: Blocks,
    functions: Vec<FunctionMarks>,
}

impl Marks<'_> {
    /// Divides a function into blocks.
    fn function(&mut self, function: u32, body: &[(Operator<'_>, u32)], offsets: &[u32]) {
        let mut marks = FunctionMarks::default();
        let first = offsets.first().copied().unwrap_or(0);
        let mut open = Open {
            at: 0,
            block: Block {
                function,
                start: Start::Function,
                end: End::Inside,
                // What entering a function costs.
                operators: vec![(first, 1)],
            },
        };
        // Blocks of dead code in each other; 0 in code that may be reached.
        let mut dead = 0u32;
        for (at, (operator, _)) in body.iter().enumerate() {
            let offset = offsets[at];
            if dead > 0 {
                match operator {
                    Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                        dead += 1;
                    }
                    Operator::Else if dead == 1 => {
                        dead = 0;
                        open = Open::new(function, Start::Inside, at + 1);
                    }
                    Operator::End => {
                        dead -= 1;
                        if dead == 0 {
                            open = Open::new(function, Start::Inside, at + 1);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            let fuel = self.costs.operators().cost(operator).unsigned_abs() as u32;
            if fuel > 0 {
                open.block.operators.push((offset, fuel));
            }
            if let Some(per_unit) = per_unit(operator, self.costs) {
                marks.bulk.insert(at, self.blocks.bulk.len() as u32);
                self.blocks.bulk.push(Bulk {
                    function,
                    offset,
                    per_unit,
                });
            }
            let (end, next) = match operator {
                Operator::Call { .. } | Operator::CallIndirect { .. } => {
                    (End::Call, Some(Start::Call))
                }
                Operator::ReturnCall { .. } | Operator::ReturnCallIndirect { .. } => {
                    (End::TailCall, None)
                }
                Operator::Br { .. }
                | Operator::BrTable { .. }
                | Operator::Return
                | Operator::Unreachable => (End::Inside, None),
                Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::Else
                | Operator::End
                | Operator::BrIf { .. } => (End::Inside, Some(Start::Inside)),
                _ => continue,
            };
            open.block.end = end;
            let next = next.map(|start| Open::new(function, start, at + 1));
            dead = u32::from(next.is_none());
            let done = std::mem::replace(
                &mut open,
                next.unwrap_or_else(|| Open::new(function, Start::Inside, at + 1)),
            );
            self.close(&mut marks, done);
        }
        self.functions.push(marks);
    }

    fn close(&mut self, marks: &mut FunctionMarks, open: Open) {
        let Open { at, block } = open;
        let counts = block.start != Start::Inside || block.end != End::Inside;
        if counts || !block.operators.is_empty() {
            marks.blocks.insert(at, self.blocks.blocks.len() as u32);
            self.blocks.blocks.push(block);
        }
    }
}

/// A block whose end has not been found.
struct Open {
    /// Its first operator.
    at: usize,
    block: Block,
}

impl Open {
    fn new(function: u32, start: Start, at: usize) -> Open {
        Open {
            at,
            block: Block {
                function,
                start,
                end: End::Inside,
                operators: Vec::new(),
            },
        }
    }
}

/// What a bulk operation costs for each unit of its last operand, in fuel.
fn per_unit(operator: &Operator<'_>, costs: &CostTable) -> Option<u32> {
    let units = &costs.operators().variable;
    let fuel = match operator {
        Operator::MemoryCopy { .. } => units.memory_copy_per_byte,
        Operator::MemoryFill { .. } => units.memory_fill_per_byte,
        Operator::MemoryInit { .. } => units.memory_init_per_byte,
        Operator::MemoryGrow { .. } => units.memory_grow_per_page,
        Operator::TableCopy { .. } => units.table_copy_per_element,
        Operator::TableFill { .. } => units.table_fill_per_element,
        Operator::TableInit { .. } => units.table_init_per_element,
        Operator::TableGrow { .. } => units.table_grow_per_element,
        _ => return None,
    };
    Some(fuel.into())
}

/// Writes the marks into the code.
struct Rewriter<'a> {
    marks: &'a [FunctionMarks],
    scan: &'a Scan<'a>,
    /// The function that comes next.
    next: usize,
    has_imports: bool,
}

impl Rewriter<'_> {
    fn import(&mut self, imports: &mut ImportSection) {
        let types = self.scan.types;
        imports.import(PROFILE_MODULE, "block", EntityType::Function(types));
        imports.import(PROFILE_MODULE, "bulk", EntityType::Function(types + 1));
        self.has_imports = true;
    }
}

type Encoded<T> = Result<T, reencode::Error>;

impl Reencode for Rewriter<'_> {
    type Error = std::convert::Infallible;

    /// Two imports more come before all functions that are defined.
    fn function_index(&mut self, function: u32) -> Encoded<u32> {
        let shift = if function < self.scan.imported { 0 } else { 2 };
        Ok(function + shift)
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Encoded<()> {
        reencode::utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], []);
        types.ty().function([ValType::I32, ValType::I32], []);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Encoded<()> {
        reencode::utils::parse_import_section(self, imports, section)?;
        self.import(imports);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut wasm_encoder::Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Encoded<()> {
        let early = [SectionId::Custom, SectionId::Type, SectionId::Import];
        if !self.has_imports && before.is_some_and(|next| !early.contains(&next)) {
            let mut imports = ImportSection::new();
            self.import(&mut imports);
            module.section(&imports);
        }
        Ok(())
    }

    /// Nobody looks at them any more.
    fn parse_custom_section(
        &mut self,
        _module: &mut wasm_encoder::Module,
        _section: wasmparser::CustomSectionReader<'_>,
    ) -> Encoded<()> {
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Encoded<()> {
        reencode::utils::parse_code_section(self, code, section)
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Encoded<()> {
        let marks = &self.marks[self.next];
        let ty = self.scan.functions[self.next] as usize;
        self.next += 1;
        let mut locals = Vec::new();
        let mut count = self.scan.params[ty];
        for local in body.get_locals_reader()? {
            let (many, ty) = local?;
            count += many;
            locals.push((many, self.val_type(ty)?));
        }
        // For the operand of a bulk operation.
        locals.push((1, ValType::I32));
        let mut function = Function::new(locals);
        let (block, bulk) = (self.scan.imported, self.scan.imported + 1);
        for (at, operator) in body.get_operators_reader()?.into_iter().enumerate() {
            let operator = operator?;
            if let Some(number) = marks.blocks.get(&at) {
                function.instruction(&Instruction::I32Const(*number as i32));
                function.instruction(&Instruction::Call(block));
            }
            if let Some(number) = marks.bulk.get(&at) {
                function.instruction(&Instruction::LocalTee(count));
                function.instruction(&Instruction::I32Const(*number as i32));
                function.instruction(&Instruction::LocalGet(count));
                function.instruction(&Instruction::Call(bulk));
            }
            function.instruction(&self.instruction(operator)?);
        }
        code.function(&function);
        Ok(())
    }
}
