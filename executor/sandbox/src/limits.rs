//! How much of everything a contract may have.

/// Limits on a contract's code, all of them checked before anything is compiled, and the stack that it may use.
///
/// These are constants of consensus: who deploys what depends on them, so its `Debug` output belongs to the hash of the protocol
/// parameters, and a change is a new version of the protocol. "Each" means that the limit holds for each function, type or segment
/// by itself; all others hold for the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeLimits {
    /// Size of the code, in bytes.
    pub code_bytes: usize,
    /// Types.
    pub types: u32,
    /// Parameters of each type.
    pub params: u32,
    /// Results of each type.
    pub results: u32,
    /// Functions, imported ones included.
    pub functions: u32,
    /// Imports.
    pub imports: u32,
    /// Exports.
    pub exports: u32,
    /// Size of each name of an import or export, in bytes.
    pub name_bytes: u32,
    /// Globals.
    pub globals: u32,
    /// Tables.
    pub tables: u32,
    /// Elements that a table begins with. (How far it may *grow* is a matter of the store that runs it.)
    pub table_elements: u32,
    /// Pages of 64 KiB that the memory begins with. (Growing: see [`CodeLimits::table_elements`].)
    pub memory_pages: u32,
    /// Element segments.
    pub element_segments: u32,
    /// Elements in all element segments together.
    pub segment_elements: u32,
    /// Data segments.
    pub data_segments: u32,
    /// Size of all data segments together, in bytes.
    pub data_bytes: u32,
    /// Operators in each constant expression, its `end` included.
    pub constant_operators: u32,
    /// Custom sections.
    pub custom_sections: u32,
    /// Size of all custom sections together, in bytes, names included.
    pub custom_bytes: u32,
    /// Size of each function body, in bytes.
    pub body_bytes: u32,
    /// Operators in each function.
    pub operators: u32,
    /// Locals in each function, parameters included.
    pub locals: u32,
    /// Locals in all functions together, parameters included.
    pub total_locals: u32,
    /// Blocks, loops and ifs around any operator.
    pub nesting: u32,
    /// Targets of each `br_table`, the default included.
    pub br_table_targets: u32,
    /// Values that control flow hands over in each function: the parameters and results of each block, the values that each branch
    /// carries (for a `br_table`, to each of its targets), the arguments and results of each call.
    pub carried_values: u32,
    /// Merges of locals in each function: pairs of a block and a local that is assigned inside of that block. Each is a value that
    /// a compiler may have to merge at the block's end (or its loop's head).
    pub merges: u32,
    /// The stack of a transaction, in bytes as [`crate::frame`] counts them.
    pub stack_bytes: u32,
    /// Of these, what the functions that cannot recurse may take together on the deepest path: what is known before running.
    pub fixed_stack_bytes: u32,
}

impl CodeLimits {
    /// Version 1: for contracts of up to 1 MiB.
    ///
    /// Every limit is far above what compilers emit for contracts and low enough that nothing gets slow below it. In brackets what
    /// others have: NEAR (nearcore's `parameters.snap`) and Stylus (OffchainLabs/nitro).
    ///
    /// - Compile time grows faster than linearly with the size of a *function*, so that is where the tight limits are: 128 KiB
    ///   [NEAR 192 KiB] and 65,536 operators [Stylus the same], 4,096 locals [Stylus 348; NEAR a million in all].
    ///   What grows quadratically is bounded as a product: `merges` (blocks by locals) and `carried_values` (branches by values).
    /// - Whatever is done again at each instantiation, unmetered, is small: globals, elements, operators of constant expressions.
    /// - A `match` on a byte makes 256 nested blocks and a `br_table` of 257 targets: nesting 1,024 and 4,096 targets.
    /// - Rust emits one table, one element segment and two or three data segments; the host interface has about 40 functions.
    /// - Tried on real code: contracts of the SDK (8 to 22 KB) take 28 to 128 KB of fixed stack and have 6 to 30 functions that can
    ///   recurse; programs of sightglass of up to 400 KB take at most 0.7 MB. What did not pass of it: more than 1 MiB, or 256 KiB
    ///   of function names, and one function of 323 KB.
    /// - 16 MiB of stack are some 20,000 levels of a small function and about 1,000 of one with 1,000 operators.
    ///   A thread needs that much *address space*; what it touches is a half at worst and mostly a twentieth (see [`crate::frame`]).
    pub fn v1() -> CodeLimits {
        CodeLimits {
            code_bytes: 1 << 20,
            types: 1_024,
            params: 64,
            results: 16,
            functions: 10_000,
            imports: 128,
            exports: 512,
            name_bytes: 256,
            globals: 256,
            tables: 1,
            table_elements: 10_000,
            memory_pages: 1_024,
            element_segments: 256,
            segment_elements: 10_000,
            data_segments: 1_024,
            data_bytes: 1 << 20,
            constant_operators: 8,
            custom_sections: 64,
            custom_bytes: 256 << 10,
            body_bytes: 128 << 10,
            operators: 65_536,
            locals: 4_096,
            total_locals: 200_000,
            nesting: 1_024,
            br_table_targets: 4_096,
            carried_values: 65_536,
            merges: 65_536,
            stack_bytes: 16 << 20,
            fixed_stack_bytes: 4 << 20,
        }
    }
}
