//! Modules that try to get past the limits, for tests: of [`check`](crate::check) here, of an engine and a node elsewhere.
//!
//! Each is a contract with one method, `run`, unless being none is its point. They are made for [`CodeLimits::v1`] where they
//! have to be just past a limit or just within it.

use crate::{CodeError, CodeLimits, MEMORY, MODULE, REENTRANT_SECTION, STACK_GLOBAL};
use std::borrow::Cow;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, CustomSection, DataCountSection, DataSection,
    ElementSection, Elements, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, ImportSection, Instruction as I, MemArg, MemorySection, MemoryType,
    Module, RefType, StartSection, TableSection, TableType, TypeSection, ValType,
};

/// The method of each of these contracts.
pub const METHOD: &str = "run";

/// A module, and what must become of it.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// What it tries.
    pub name: &'static str,
    /// The module.
    pub wasm: Vec<u8>,
    /// What must come of it.
    pub expected: Expected,
}

/// What must become of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It cannot be deployed.
    Refused(Kind),
    /// Calling `run` is aborted, for this reason if there is fuel enough (10^9 is), for want of fuel otherwise.
    Abort(Cause),
    /// Calling `run` succeeds if there is fuel enough (10^9 is).
    Success,
}

/// Why a call is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Out of fuel, however much there was.
    Fuel,
    /// The deterministic stack limit: never the native one.
    Stack,
    /// Any other trap.
    Trap,
}

/// The variants of [`CodeError`], without their details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Those of `CodeError` have them.
pub enum Kind {
    NotWasm,
    TooLarge,
    /// Of what.
    TooMany(&'static str),
    Invalid,
    UnknownImport,
    ImportType,
    StartFunction,
    ReservedExport,
    NoMemory,
    NoEntryPoint,
    Metadata,
    StackTooDeep,
    Compile,
}

impl Kind {
    /// The kind of an error.
    pub fn of(error: &CodeError) -> Kind {
        match error {
            CodeError::NotWasm => Kind::NotWasm,
            CodeError::TooLarge { .. } => Kind::TooLarge,
            CodeError::TooMany { what, .. } => Kind::TooMany(what),
            CodeError::Invalid { .. } => Kind::Invalid,
            CodeError::UnknownImport { .. } => Kind::UnknownImport,
            CodeError::ImportType { .. } => Kind::ImportType,
            CodeError::StartFunction => Kind::StartFunction,
            CodeError::ReservedExport { .. } => Kind::ReservedExport,
            CodeError::NoMemory => Kind::NoMemory,
            CodeError::NoEntryPoint => Kind::NoEntryPoint,
            CodeError::Metadata { .. } => Kind::Metadata,
            CodeError::StackTooDeep { .. } => Kind::StackTooDeep,
            CodeError::Compile(_) => Kind::Compile,
        }
    }
}

/// All of them. They import nothing but [`MODULE`]'s `nothing`, which is not in any interface.
pub fn corpus() -> Vec<Hostile> {
    let mut all = Vec::new();
    malformed(&mut all);
    numerous(&mut all);
    bodies(&mut all);
    refused_features(&mut all);
    running(&mut all);
    recursion(&mut all);
    all
}

fn refused(all: &mut Vec<Hostile>, name: &'static str, kind: Kind, wasm: Vec<u8>) {
    let expected = Expected::Refused(kind);
    all.push(Hostile {
        name,
        wasm,
        expected,
    });
}

/// A module in the making. It has the type `() -> ()` (index 0) and an exported memory of a page from the start.
struct Parts {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    exports: ExportSection,
    start: Option<u32>,
    elements: ElementSection,
    data_count: Option<u32>,
    code: CodeSection,
    data: DataSection,
    custom: Vec<(&'static str, Vec<u8>)>,
}

impl Parts {
    fn new() -> Parts {
        Parts::with_pages(1)
    }

    fn with_pages(pages: u64) -> Parts {
        let mut parts = Parts {
            types: TypeSection::new(),
            imports: ImportSection::new(),
            functions: FunctionSection::new(),
            tables: TableSection::new(),
            memories: MemorySection::new(),
            globals: GlobalSection::new(),
            exports: ExportSection::new(),
            start: None,
            elements: ElementSection::new(),
            data_count: None,
            code: CodeSection::new(),
            data: DataSection::new(),
            custom: Vec::new(),
        };
        parts.types.ty().function([], []);
        parts.memory(pages);
        parts.exports.export(MEMORY, ExportKind::Memory, 0);
        parts
    }

    fn memory(&mut self, pages: u64) {
        self.memories.memory(MemoryType {
            minimum: pages,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
    }

    fn table(&mut self, elements: u64) {
        self.tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: elements,
            maximum: None,
            shared: false,
        });
    }

    /// Adds a function; the operators are without the last `end`.
    fn function<'a>(
        &mut self,
        ty: u32,
        locals: &[(u32, ValType)],
        operators: impl IntoIterator<Item = I<'a>>,
    ) -> u32 {
        let index = self.imports.len() + self.functions.len();
        self.functions.function(ty);
        let mut function = Function::new(locals.iter().copied());
        for operator in operators {
            function.instruction(&operator);
        }
        function.instruction(&I::End);
        self.code.function(&function);
        index
    }

    /// Adds the method.
    fn run<'a>(&mut self, operators: impl IntoIterator<Item = I<'a>>) -> &mut Parts {
        self.run_with(&[], operators)
    }

    fn run_with<'a>(
        &mut self,
        locals: &[(u32, ValType)],
        operators: impl IntoIterator<Item = I<'a>>,
    ) -> &mut Parts {
        let index = self.function(0, locals, operators);
        self.exports.export(METHOD, ExportKind::Func, index);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types);
        if !self.imports.is_empty() {
            module.section(&self.imports);
        }
        module.section(&self.functions);
        if !self.tables.is_empty() {
            module.section(&self.tables);
        }
        module.section(&self.memories);
        if !self.globals.is_empty() {
            module.section(&self.globals);
        }
        module.section(&self.exports);
        if let Some(function_index) = self.start {
            module.section(&StartSection { function_index });
        }
        if !self.elements.is_empty() {
            module.section(&self.elements);
        }
        if let Some(count) = self.data_count {
            module.section(&DataCountSection { count });
        }
        module.section(&self.code);
        if !self.data.is_empty() {
            module.section(&self.data);
        }
        for (name, data) in &self.custom {
            module.section(&CustomSection {
                name: Cow::Borrowed(name),
                data: Cow::Borrowed(data),
            });
        }
        module.finish()
    }
}

/// A contract that does nothing.
fn harmless() -> Vec<u8> {
    Parts::new().run([]).bytes()
}

/// The header and raw sections: an id and its contents.
fn raw(sections: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    for (id, contents) in sections {
        bytes.push(*id);
        wasm_encoder::Encode::encode(*contents, &mut bytes);
    }
    bytes
}

fn malformed(all: &mut Vec<Hostile>) {
    let whole = harmless();
    refused(all, "nothing at all", Kind::NotWasm, Vec::new());
    refused(all, "text", Kind::NotWasm, b"(module)".to_vec());
    refused(
        all,
        "a component",
        Kind::NotWasm,
        b"\0asm\x0d\0\x01\0".to_vec(),
    );
    refused(all, "the header only", Kind::NoMemory, whole[..8].to_vec());
    refused(
        all,
        "cut off in a section's header",
        Kind::Invalid,
        whole[..9].to_vec(),
    );
    refused(
        all,
        "cut off in the code",
        Kind::Invalid,
        whole[..whole.len() - 2].to_vec(),
    );
    refused(
        all,
        "a byte too many",
        Kind::Invalid,
        [&whole[..], &[0]].concat(),
    );
    refused(
        all,
        "sections twice",
        Kind::Invalid,
        [&whole[..], &whole[8..]].concat(),
    );
    refused(
        all,
        "a section of unknown id",
        Kind::Invalid,
        raw(&[(77, &[])]),
    );
    // In these the count is all there is: nothing may be reserved for it.
    let many = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for (name, id, what) in [
        ("4 billion types in 5 bytes", 1, "types"),
        ("4 billion imports in 5 bytes", 2, "imports"),
        ("4 billion functions in 5 bytes", 3, "functions"),
        ("4 billion tables in 5 bytes", 4, "tables"),
        ("4 billion memories in 5 bytes", 5, "memories"),
        ("4 billion globals in 5 bytes", 6, "globals"),
        ("4 billion exports in 5 bytes", 7, "exports"),
        (
            "4 billion element segments in 5 bytes",
            9,
            "element segments",
        ),
        ("4 billion data segments in 5 bytes", 11, "data segments"),
        ("4 billion data segments announced", 12, "data segments"),
    ] {
        refused(all, name, Kind::TooMany(what), raw(&[(id, &many)]));
    }
    refused(
        all,
        "4 billion bodies in 5 bytes",
        Kind::Invalid,
        raw(&[(10, &many)]),
    );
    refused(
        all,
        "a thousand types, no bytes of them",
        Kind::Invalid,
        raw(&[(1, &[0xe8, 0x07])]),
    );
    refused(
        all,
        "a count in a LEB of six bytes",
        Kind::Invalid,
        raw(&[(1, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00])]),
    );
    refused(
        all,
        "a count with bits above the 32nd",
        Kind::Invalid,
        raw(&[(1, &[0x80, 0x80, 0x80, 0x80, 0x10])]),
    );
    // Valid: the count 1 in five bytes. The rest is the harmless module's.
    let types = [0x81, 0x80, 0x80, 0x80, 0x00, 0x60, 0, 0];
    let mut padded = raw(&[(1, &types)]);
    padded.extend_from_slice(&whole[14..]);
    all.push(Hostile {
        name: "a count in a LEB of five bytes where one will do",
        wasm: padded,
        expected: Expected::Success,
    });
    let mut reserved = Parts::new();
    reserved.run([]);
    reserved.globals.global(
        GlobalType {
            val_type: ValType::I32,
            mutable: true,
            shared: false,
        },
        &ConstExpr::i32_const(i32::MAX),
    );
    reserved.exports.export(STACK_GLOBAL, ExportKind::Global, 0);
    refused(
        all,
        "a stack global of its own",
        Kind::ReservedExport,
        reserved.bytes(),
    );
    let mut start = Parts::new();
    start.run([]);
    start.start = Some(0);
    refused(all, "a start function", Kind::StartFunction, start.bytes());
    let mut hidden = Parts::new();
    hidden.run([]);
    hidden.exports = ExportSection::new();
    hidden.exports.export(METHOD, ExportKind::Func, 0);
    refused(
        all,
        "a memory that is not exported",
        Kind::NoMemory,
        hidden.bytes(),
    );
    let mut no_method = Parts::new();
    let function = no_method.function(0, &[], []);
    no_method.exports.export("Run", ExportKind::Func, function);
    refused(
        all,
        "no method but one named like none",
        Kind::NoEntryPoint,
        no_method.bytes(),
    );
    for (name, text) in [
        (
            "re-entrance through what is no method",
            &b"run\nmissing"[..],
        ),
        ("a list of methods that is not UTF-8", &[0xff]),
    ] {
        let mut parts = Parts::new();
        parts
            .run([])
            .custom
            .push((REENTRANT_SECTION, text.to_vec()));
        refused(all, name, Kind::Metadata, parts.bytes());
    }
    let mut twice = Parts::new();
    twice
        .run([])
        .custom
        .push((REENTRANT_SECTION, b"run".to_vec()));
    twice.custom.push((REENTRANT_SECTION, Vec::new()));
    refused(
        all,
        "two lists of re-entrant methods",
        Kind::Metadata,
        twice.bytes(),
    );
}

/// Past the limits of the module as a whole.
fn numerous(all: &mut Vec<Hostile>) {
    let limits = CodeLimits::v1();
    let mut parts = Parts::new();
    parts.run([]).custom.push(("x", vec![0; limits.code_bytes]));
    refused(
        all,
        "more than a MiB of code",
        Kind::TooLarge,
        parts.bytes(),
    );

    let mut parts = Parts::new();
    parts
        .run([])
        .custom
        .push(("x", vec![0; limits.custom_bytes as usize]));
    refused(
        all,
        "large custom sections",
        Kind::TooMany("bytes in custom sections"),
        parts.bytes(),
    );

    let mut parts = Parts::new();
    parts.run([]).custom.extend(vec![("", Vec::new()); 1_000]);
    refused(
        all,
        "a thousand custom sections",
        Kind::TooMany("custom sections"),
        parts.bytes(),
    );

    let mut parts = Parts::new();
    for _ in 0..100_000 {
        parts.types.ty().function([], []);
    }
    refused(
        all,
        "100,000 types",
        Kind::TooMany("types"),
        parts.run([]).bytes(),
    );

    for count in [65, 1_000, 10_000] {
        // wasmparser refuses more than 1,000 by itself.
        let (kind, result_kind) = match count {
            10_000 => (Kind::Invalid, Kind::Invalid),
            _ => (
                Kind::TooMany("parameters of a type"),
                Kind::TooMany("results of a type"),
            ),
        };
        let mut parts = Parts::new();
        parts.types.ty().function(vec![ValType::V128; count], []);
        refused(
            all,
            "a type of many parameters",
            kind,
            parts.run([]).bytes(),
        );
        let mut parts = Parts::new();
        parts.types.ty().function([], vec![ValType::V128; count]);
        refused(
            all,
            "a type of many results",
            result_kind,
            parts.run([]).bytes(),
        );
    }

    let mut parts = Parts::new();
    for _ in 0..10_000 {
        parts
            .imports
            .import(MODULE, "nothing", EntityType::Function(0));
    }
    refused(
        all,
        "10,000 imports",
        Kind::TooMany("imports"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    parts
        .imports
        .import(MODULE, "nothing", EntityType::Function(0));
    refused(
        all,
        "an import of nothing known",
        Kind::UnknownImport,
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    parts
        .imports
        .import("env", &"x".repeat(90_000), EntityType::Function(0));
    refused(
        all,
        "an import with a long name",
        Kind::TooMany("bytes in a name"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    let memory = MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    parts
        .imports
        .import(MODULE, "memory", EntityType::Memory(memory));
    refused(
        all,
        "an imported memory",
        Kind::UnknownImport,
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    for _ in 0..50_000 {
        parts.function(0, &[], []);
    }
    refused(
        all,
        "50,000 functions",
        Kind::TooMany("functions"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    for index in 0..10_000 {
        parts
            .exports
            .export(&format!("m{index}"), ExportKind::Func, 0);
    }
    refused(
        all,
        "10,000 exports",
        Kind::TooMany("exports"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    parts
        .run([])
        .exports
        .export(&"x".repeat(90_000), ExportKind::Func, 0);
    refused(
        all,
        "an export with a long name",
        Kind::TooMany("bytes in a name"),
        parts.bytes(),
    );

    let i32_global = GlobalType {
        val_type: ValType::I32,
        mutable: true,
        shared: false,
    };
    let mut parts = Parts::new();
    for _ in 0..100_000 {
        parts.globals.global(i32_global, &ConstExpr::i32_const(0));
    }
    refused(
        all,
        "100,000 globals",
        Kind::TooMany("globals"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    let mut sum = ConstExpr::i32_const(0);
    for _ in 0..100_000 {
        sum = sum.with_i32_const(1).with_i32_add();
    }
    parts.globals.global(i32_global, &sum);
    refused(
        all,
        "a global that takes 100,000 additions to make",
        Kind::TooMany("operators in a constant expression"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::with_pages(65_536);
    refused(
        all,
        "a memory of 4 GiB",
        Kind::TooMany("memory pages"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    parts.memory(1);
    refused(
        all,
        "two memories",
        Kind::TooMany("memories"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    parts.table(10_000_000);
    refused(
        all,
        "a table of ten million",
        Kind::TooMany("table elements"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    for _ in 0..100 {
        parts.table(1);
    }
    refused(
        all,
        "100 tables",
        Kind::TooMany("tables"),
        parts.run([]).bytes(),
    );

    let mut parts = Parts::new();
    parts.run([]).table(10_000);
    parts.elements.active(
        None,
        &ConstExpr::i32_const(0),
        Elements::Functions(vec![0; 500_000].into()),
    );
    refused(
        all,
        "a segment of 500,000 elements",
        Kind::TooMany("elements in segments"),
        parts.bytes(),
    );

    let mut parts = Parts::new();
    parts.run([]).table(10_000);
    for _ in 0..20_000 {
        parts.elements.active(
            None,
            &ConstExpr::i32_const(0),
            Elements::Functions((&[][..]).into()),
        );
    }
    refused(
        all,
        "20,000 element segments",
        Kind::TooMany("element segments"),
        parts.bytes(),
    );

    let mut parts = Parts::new();
    parts.run([]);
    for _ in 0..100_000 {
        parts.data.active(0, &ConstExpr::i32_const(0), []);
    }
    refused(
        all,
        "100,000 data segments",
        Kind::TooMany("data segments"),
        parts.bytes(),
    );
}

fn repeated<'a>(count: usize, operators: &[I<'a>]) -> Vec<I<'a>> {
    operators
        .iter()
        .cycle()
        .take(count * operators.len())
        .cloned()
        .collect()
}

/// Past the limits of a function.
fn bodies(all: &mut Vec<Hostile>) {
    let limits = CodeLimits::v1();
    for (name, locals) in [
        ("50,000 locals", &[(50_000, ValType::I64)][..]),
        (
            "16 billion locals in 25 bytes",
            &[(u32::MAX, ValType::V128); 4],
        ),
    ] {
        let wasm = Parts::new().run_with(locals, []).bytes();
        refused(all, name, Kind::TooMany("locals"), wasm);
    }
    let mut parts = Parts::new();
    for _ in 0..100 {
        parts.function(0, &[(limits.locals, ValType::I32)], []);
    }
    refused(
        all,
        "400,000 locals in 100 functions",
        Kind::TooMany("locals in all functions"),
        parts.run([]).bytes(),
    );

    let long = repeated(100_000, &[I::I32Const(1), I::Drop]);
    let kind = Kind::TooMany("bytes in a function");
    refused(
        all,
        "a long straight line",
        kind,
        Parts::new().run(long).bytes(),
    );
    let long = repeated(100_000, &[I::Nop]);
    let kind = Kind::TooMany("operators in a function");
    refused(
        all,
        "a long line of nothing",
        kind,
        Parts::new().run(long).bytes(),
    );
    let mut dead = vec![I::Unreachable];
    dead.extend(repeated(100_000, &[I::Drop]));
    refused(
        all,
        "a lot of unreachable code",
        kind,
        Parts::new().run(dead).bytes(),
    );

    let nested = |depth: usize, open: I<'static>| {
        let mut operators = vec![open; depth];
        operators.extend(vec![I::End; depth]);
        operators
    };
    let kind = Kind::TooMany("blocks around one another");
    for (name, open) in [
        ("30,000 nested blocks", I::Block(BlockType::Empty)),
        ("30,000 nested loops", I::Loop(BlockType::Empty)),
    ] {
        refused(
            all,
            name,
            kind,
            Parts::new().run(nested(30_000, open)).bytes(),
        );
    }
    let never_closed = vec![I::Block(BlockType::Empty); 1_000];
    let wasm = Parts::new().run(never_closed).bytes();
    refused(all, "blocks without ends", Kind::Invalid, wasm);
    all.push(Hostile {
        name: "as many nested blocks as are allowed",
        wasm: Parts::new()
            .run(nested(limits.nesting as usize, I::Block(BlockType::Empty)))
            .bytes(),
        expected: Expected::Success,
    });

    let giant = [I::I32Const(0), I::BrTable(Cow::Owned(vec![0; 60_000]), 0)];
    let kind = Kind::TooMany("targets of a br_table");
    refused(
        all,
        "a giant br_table",
        kind,
        Parts::new().run(giant).bytes(),
    );

    // 16 values to each of 4,096 targets, again and again.
    let mut parts = Parts::new();
    parts.types.ty().function([], vec![ValType::I32; 16]);
    let mut operators = vec![I::Block(BlockType::FunctionType(1))];
    operators.extend(repeated(16, &[I::I32Const(1)]));
    operators.push(I::I32Const(0));
    operators.push(I::BrTable(Cow::Owned(vec![0; 4_095]), 0));
    operators.push(I::End);
    operators.extend(repeated(16, &[I::Drop]));
    let operators = repeated(20, &operators);
    let carried = Kind::TooMany("values carried by control flow");
    refused(
        all,
        "br_tables that carry many values",
        carried,
        parts.run(operators).bytes(),
    );

    // Blocks in blocks, each with 16 parameters and as many results.
    let mut parts = Parts::new();
    parts
        .types
        .ty()
        .function(vec![ValType::V128; 16], vec![ValType::V128; 16]);
    let mut inner = repeated(10_000, &[I::Block(BlockType::FunctionType(1)), I::End]);
    inner.splice(0..0, vec![I::V128Const(0); 16]);
    inner.extend(vec![I::Drop; 16]);
    refused(
        all,
        "blocks of many parameters",
        carried,
        parts.run(inner).bytes(),
    );

    // Each of 1,000 locals is assigned within each of 1,000 loops.
    let mut operators = vec![I::Loop(BlockType::Empty); 1_000];
    for local in 0..1_000 {
        operators.extend([I::I32Const(1), I::LocalSet(local)]);
    }
    operators.extend(vec![I::End; 1_000]);
    let wasm = Parts::new()
        .run_with(&[(1_000, ValType::I32)], operators)
        .bytes();
    refused(
        all,
        "a million merges of locals",
        Kind::TooMany("merges of locals"),
        wasm,
    );

    // A chain of calls, not recursive, whose frames together are too large.
    let mut parts = Parts::new();
    for index in 1..200 {
        let mut operators = vec![I::F32Const(2f32.into())];
        operators.extend(repeated(2_000, &[I::F32Sqrt]));
        operators.extend([I::Drop, I::Call(index)]);
        parts.function(0, &[], operators);
    }
    parts.run([]).exports.export("deep", ExportKind::Func, 0);
    refused(
        all,
        "a deep chain of large frames",
        Kind::StackTooDeep,
        parts.bytes(),
    );
}

/// Wasm that contracts may not use.
fn refused_features(all: &mut Vec<Hostile>) {
    let at = MemArg {
        offset: 0,
        align: 2,
        memory_index: 0,
    };
    let relaxed = [
        I::V128Const(0),
        I::V128Const(0),
        I::I8x16RelaxedSwizzle,
        I::Drop,
    ];
    refused(
        all,
        "relaxed SIMD",
        Kind::Invalid,
        Parts::new().run(relaxed).bytes(),
    );
    let atomic = [I::I32Const(0), I::I32AtomicLoad(at), I::Drop];
    refused(
        all,
        "an atomic load",
        Kind::Invalid,
        Parts::new().run(atomic).bytes(),
    );
    let memory = |memory: MemoryType| {
        let mut parts = Parts::new();
        parts.memories = MemorySection::new();
        parts.memories.memory(memory);
        parts.run([]).bytes()
    };
    let plain = MemoryType {
        minimum: 1,
        maximum: Some(1),
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    let shared = memory(MemoryType {
        shared: true,
        ..plain
    });
    refused(all, "a shared memory", Kind::Invalid, shared);
    let wide = memory(MemoryType {
        memory64: true,
        ..plain
    });
    refused(all, "a memory of 64-bit addresses", Kind::Invalid, wide);
    let pages = memory(MemoryType {
        page_size_log2: Some(0),
        ..plain
    });
    refused(all, "pages of a byte", Kind::Invalid, pages);
    let wasm = Parts::new()
        .run([I::RefNull(wasm_encoder::HeapType::EXTERN), I::Drop])
        .bytes();
    refused(all, "an externref", Kind::Invalid, wasm);
    let wasm = Parts::new()
        .run([I::I32Const(0), I::RefI31, I::Drop])
        .bytes();
    refused(all, "garbage collection", Kind::Invalid, wasm);
    let wasm = Parts::new().run([I::Throw(0)]).bytes();
    refused(all, "an exception", Kind::Invalid, wasm);
    let mut parts = Parts::new();
    parts.run([I::RefFunc(0), I::CallRef(0)]);
    refused(all, "a call by reference", Kind::Invalid, parts.bytes());
}

/// Within the limits, and expensive or odd to run.
fn running(all: &mut Vec<Hostile>) {
    let mut push = |name, expected, parts: &Parts| {
        all.push(Hostile {
            name,
            wasm: parts.bytes(),
            expected,
        });
    };
    let forever = |inner: &[I<'static>]| {
        let mut operators = vec![I::Loop(BlockType::Empty)];
        operators.extend_from_slice(inner);
        operators.extend([I::Br(0), I::End]);
        operators
    };
    let fuel = Expected::Abort(Cause::Fuel);
    let trap = Expected::Abort(Cause::Trap);
    push("an endless loop", fuel, Parts::new().run(forever(&[])));
    push("unreachable", trap, Parts::new().run([I::Unreachable]));
    let divide = [I::I32Const(1), I::I32Const(0), I::I32DivS, I::Drop];
    push("a division by zero", trap, Parts::new().run(divide));
    let at = MemArg {
        offset: u64::from(u32::MAX),
        align: 0,
        memory_index: 0,
    };
    let load = [I::I32Const(-1), I::I32Load8U(at), I::Drop];
    push("a load at 8 GiB", trap, Parts::new().run(load));

    let grow = [I::I32Const(1), I::MemoryGrow(0), I::Drop];
    push(
        "growing memory forever",
        fuel,
        Parts::new().run(forever(&grow)),
    );
    let grow = [
        I::I32Const(-1),
        I::MemoryGrow(0),
        I::I32Const(-1),
        I::I32Ne,
        I::If(BlockType::Empty),
        I::Unreachable,
        I::End,
    ];
    push(
        "growing memory by 4 billion pages, refused",
        Expected::Success,
        Parts::new().run(grow),
    );
    let bulk = |operator: I<'static>, length: i32| {
        [
            I::I32Const(0),
            I::I32Const(0),
            I::I32Const(length),
            operator,
        ]
    };
    let fill = bulk(I::MemoryFill(0), 64 << 20);
    let copy = bulk(
        I::MemoryCopy {
            src_mem: 0,
            dst_mem: 0,
        },
        64 << 20,
    );
    push(
        "filling 64 MiB forever",
        fuel,
        Parts::with_pages(1_024).run(forever(&fill)),
    );
    push(
        "copying 64 MiB forever",
        fuel,
        Parts::with_pages(1_024).run(forever(&copy)),
    );
    push(
        "filling past the end",
        trap,
        Parts::new().run(bulk(I::MemoryFill(0), 100_000)),
    );
    let mut parts = Parts::new();
    parts.run(forever(&bulk(
        I::MemoryInit {
            mem: 0,
            data_index: 0,
        },
        60_000,
    )));
    parts.data_count = Some(1);
    parts.data.passive(vec![7; 60_000]);
    push("initialising memory forever", fuel, &parts);
    let mut parts = Parts::new();
    parts.data.active(0, &ConstExpr::i32_const(65_535), [1, 2]);
    push("data past the end of memory", trap, parts.run([]));

    let null = I::RefNull(wasm_encoder::HeapType::FUNC);
    let mut parts = Parts::new();
    parts.table(1);
    let grow = [null.clone(), I::I32Const(1), I::TableGrow(0), I::Drop];
    push("growing a table forever", fuel, parts.run(forever(&grow)));
    let mut parts = Parts::new();
    parts.table(10_000);
    let fill = [I::I32Const(0), null, I::I32Const(10_000), I::TableFill(0)];
    push("filling a table forever", fuel, parts.run(forever(&fill)));
    let mut parts = Parts::new();
    parts.table(10_000);
    let copy = bulk(
        I::TableCopy {
            src_table: 0,
            dst_table: 0,
        },
        10_000,
    );
    push("copying a table forever", fuel, parts.run(forever(&copy)));
    let mut parts = Parts::new();
    parts.table(1);
    let call = [
        I::I32Const(0),
        I::CallIndirect {
            type_index: 0,
            table_index: 0,
        },
    ];
    push("a call of an empty element", trap, parts.run(call));

    // 0/0 has a sign and a payload that differ between machines unless they are canonical: f32 7fc00000.
    let zero = I::F32Const(0f32.into());
    let nan = [
        zero.clone(),
        zero,
        I::F32Div,
        I::I32ReinterpretF32,
        I::I32Const(0x7fc0_0000),
        I::I32Ne,
        I::If(BlockType::Empty),
        I::Unreachable,
        I::End,
    ];
    push(
        "a NaN, which must be the canonical one",
        Expected::Success,
        Parts::new().run(nan),
    );
    // A NaN with a payload goes through an addition, and must come out canonical, too.
    let nan = [
        I::I32Const(0x7fa0_1234),
        I::F32ReinterpretI32,
        I::F32Const(1f32.into()),
        I::F32Add,
        I::I32ReinterpretF32,
        I::I32Const(0x7fc0_0000),
        I::I32Ne,
        I::If(BlockType::Empty),
        I::Unreachable,
        I::End,
    ];
    push(
        "a NaN with a payload, which must not come through",
        Expected::Success,
        Parts::new().run(nan),
    );

    let mut dead = vec![I::Return];
    dead.extend(repeated(30_000, &[I::I32Add, I::Drop]));
    push(
        "much unreachable code, allowed",
        Expected::Success,
        Parts::new().run(dead),
    );
    let mut long = vec![I::I32Const(1)];
    long.extend(repeated(20_000, &[I::I32Const(3), I::I32Mul]));
    long.push(I::Drop);
    push(
        "a long straight line, allowed",
        Expected::Success,
        Parts::new().run(long),
    );
}

/// Recursion without end.
fn recursion(all: &mut Vec<Hostile>) {
    let mut push = |name, parts: &Parts, expected| {
        all.push(Hostile {
            name,
            wasm: parts.bytes(),
            expected,
        });
    };
    let stack = Expected::Abort(Cause::Stack);
    push("direct recursion", Parts::new().run([I::Call(0)]), stack);

    let mut parts = Parts::new();
    parts.function(0, &[], [I::Call(1)]);
    parts.function(0, &[], [I::Call(2)]);
    push("mutual recursion of three", parts.run([I::Call(0)]), stack);

    let call = |type_index| {
        [
            I::I32Const(0),
            I::CallIndirect {
                type_index,
                table_index: 0,
            },
        ]
    };
    let mut parts = Parts::new();
    parts.table(1);
    parts.run(call(0));
    parts.elements.active(
        None,
        &ConstExpr::i32_const(0),
        Elements::Functions((&[0][..]).into()),
    );
    push("indirect recursion", &parts, stack);

    // The caller names another type, which is the same.
    let mut parts = Parts::new();
    parts.types.ty().function([], []);
    parts.table(1);
    parts.run(call(1));
    parts.elements.active(
        None,
        &ConstExpr::i32_const(0),
        Elements::Functions((&[0][..]).into()),
    );
    push("indirect recursion through an equal type", &parts, stack);

    // Nothing is in the table until the function puts itself there.
    let mut parts = Parts::new();
    parts.table(1);
    let mut operators = vec![I::I32Const(0), I::RefFunc(0), I::TableSet(0)];
    operators.extend(call(0));
    parts.run(operators);
    push("indirect recursion through table.set", &parts, stack);

    // In a passive segment, copied by table.init.
    let mut parts = Parts::new();
    parts.table(1);
    let mut operators = vec![I::I32Const(0), I::I32Const(0), I::I32Const(1)];
    operators.push(I::TableInit {
        elem_index: 0,
        table: 0,
    });
    operators.extend(call(0));
    parts.run(operators);
    parts
        .elements
        .passive(Elements::Functions((&[0][..]).into()));
    push("indirect recursion through table.init", &parts, stack);

    push(
        "endless tail calls",
        Parts::new().run([I::ReturnCall(0)]),
        Expected::Abort(Cause::Fuel),
    );

    // 100 vectors alive across each call.
    let mut parts = Parts::new();
    parts.types.ty().function([ValType::V128], [ValType::V128]);
    let mut operators = Vec::new();
    for lane in 0..100 {
        operators.extend([I::LocalGet(0), I::V128Const(lane), I::I64x2Add]);
    }
    operators.extend([I::LocalGet(0), I::Call(0)]);
    operators.extend(vec![I::V128Xor; 100]);
    parts.function(1, &[], operators);
    push(
        "recursion with large frames",
        parts.run([I::V128Const(1), I::Call(0), I::Drop]),
        stack,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_counting;

    #[test]
    fn each_module_is_refused_with_its_error_or_accepted_and_quickly() {
        let corpus = corpus();
        assert!(corpus.len() > 90, "{}", corpus.len());
        for Hostile {
            name,
            wasm,
            expected,
        } in corpus
        {
            let (result, work) = check_counting(&wasm, &CodeLimits::v1(), &[]);
            let found = match &result {
                Ok(_) => None,
                Err(error) => Some(Kind::of(error)),
            };
            let wanted = match expected {
                Expected::Refused(kind) => Some(kind),
                _ => None,
            };
            assert_eq!(found, wanted, "{name}: {:?}", result.err());
            // Values that one operator hands over are what can be more than the bytes; they are limited for each function,
            // and the corpus has few functions that are full of them.
            assert!(
                work <= 70_000 + 2 * wasm.len() as u64,
                "{name}: {work} steps for {} bytes",
                wasm.len()
            );
        }
    }

    #[test]
    fn modules_that_do_nothing_wrong_pass() {
        assert!(crate::check(&harmless(), &CodeLimits::v1(), &[]).is_ok());
    }
}
