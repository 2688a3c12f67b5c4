//! What a contract may be, and how deep it may go: everything that happens to its code before it is compiled.
//!
//! ```text
//!  bytes of a .wasm ──► check ──────────────────────────────────► Checked ──► instrument ──► bytes for the compiler
//!  CodeLimits           │  one pass, section by section:             │          │
//!  HostFunction[]       │    limits, from counts, then from items    │          ├ functions that can recurse: take the cost of
//!                       │    validation (the features of contracts)  │          │   their frame from a global, trap below 0, give
//!                       │    facts: methods, calls, frame costs      │          │   it back on every way out
//!                       ▼  then the call graph: cycles, depth        │          └ all others: the very same bytes
//!                   CodeError: what is wrong                         ▼
//!                   and what to do about it                      Interface: methods, re-entrant methods, ABI, stack
//! ```
//!
//! Everything here is a function of its arguments alone: no clock, no randomness, no machine. [`check`] takes time and memory in
//! proportion to the size of the code, whatever is in it. [`frame`] says what a function's stack costs, why that bounds
//! the native stack on every machine, and what the engine must be configured to. `hostile` (feature of that name) makes
//! modules that try to get past all this.
//!
//! # The stack limit at run time
//!
//! Instrumented code that can recurse exports a mutable i32 global [`STACK_GLOBAL`], which holds the bytes of stack left. It begins at
//! [`CodeLimits::stack_bytes`] less [`StackUse::fixed_bytes`] and is back there whenever a call into the contract has returned.
//! If it is negative after a trap, the trap was this limit's ([`stack_exhausted`]); only the *reason* depends on that,
//! never what an abort costs. Code without recursion has neither global nor checks.
//!
//! For calls between contracts on one native stack, give each callee what its caller has left:
//! set its global to that less its own `fixed_bytes` and less what the host puts on the stack in between, after instantiating and
//! before the call; if that is negative, the calls are too deep. `max_wasm_stack` does not do this: it counts from where each
//! call begins.

#![forbid(unsafe_code)]

mod error;
pub mod frame;
mod graph;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
mod instrument;
mod limits;
mod scan;

pub use error::CodeError;
pub use frame::NATIVE_RESERVE;
pub use limits::CodeLimits;
pub use wasmparser::ValType;

use scan::Scan;
use std::collections::BTreeSet;
use std::fmt;
use wasmparser::WasmFeatures;

/// Module of the imports that are the host interface, version 1.
pub const MODULE: &str = "slackline_v1";

/// Name of the exported memory.
pub const MEMORY: &str = "memory";

/// The method that runs at deployment and only then.
pub const INIT: &str = "init";

/// The method that runs when code replaces other code, and only then.
pub const UPGRADE: &str = "upgrade";

/// Custom section that lists the methods through which a contract may be entered again, one a line.
pub const REENTRANT_SECTION: &str = "slackline_reentrant";

/// Custom section with the contract's description.
pub const ABI_SECTION: &str = "slackline_abi";

/// Export of instrumented code: the stack left, in bytes as [`frame`] counts them. Contracts cannot export this name.
pub const STACK_GLOBAL: &str = "slackline_stack_left";

/// Longest name of a method, in bytes.
pub const METHOD_BYTES: usize = 64;

/// A function that contracts may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFunction {
    /// Its name in [`MODULE`].
    pub name: &'static str,
    /// Types of its parameters.
    pub params: &'static [ValType],
    /// Types of its results.
    pub results: &'static [ValType],
}

/// As a signature: `(i32, i32) -> (i64)`.
impl fmt::Display for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValType]| {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            types.join(", ")
        };
        write!(f, "({}) -> ({})", list(self.params), list(self.results))
    }
}

/// What there is to know of a contract's code without compiling it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The exports that are methods, [`INIT`] and [`UPGRADE`] included if there are any.
    pub methods: BTreeSet<String>,
    /// Of these, the ones through which the contract may be entered again while one of its calls is running.
    pub reentrant: BTreeSet<String>,
    /// The contents of [`ABI_SECTION`], as they are: nothing in consensus depends on them.
    pub abi: Option<Vec<u8>>,
    /// The stack that it takes.
    pub stack: StackUse,
}

/// The stack that code takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackUse {
    /// What functions that cannot recurse take together on the deepest path, in bytes. Not counted at run time: whoever
    /// enters the contract sets it aside.
    pub fixed_bytes: u32,
    /// Functions that can recurse. If there are none, instrumented code has no global.
    pub recursive_functions: u32,
}

/// Code that may be deployed.
#[derive(Debug)]
pub struct Checked<'a> {
    code: &'a [u8],
    limits: CodeLimits,
    interface: Interface,
    scan: Scan,
}

impl Checked<'_> {
    /// What is known of it.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What is known of it, and nothing else kept.
    pub fn into_interface(self) -> Interface {
        self.interface
    }

    /// The code with the stack limit in it: valid, with the same indices of functions, types and globals (new ones come last)
    /// and all custom sections. The same bytes if nothing can recurse.
    ///
    /// Custom sections with offsets into code (`.debug_*`, source maps) are off by what was inserted before them.
    pub fn instrument(&self) -> Vec<u8> {
        if self.interface.stack.recursive_functions == 0 {
            return self.code.to_vec();
        }
        instrument::instrument(self.code, &self.scan, &self.limits)
    }
}

/// Checks that `code` is a contract: within `limits`, valid, and importing nothing but `host` functions.
///
/// # Errors
///
/// See [`CodeError`].
pub fn check<'a>(
    code: &'a [u8],
    limits: &CodeLimits,
    host: &[HostFunction],
) -> Result<Checked<'a>, CodeError> {
    check_counting(code, limits, host).0
}

/// [`check`], and how much there was to do: items, operators, branch targets, values. What bounds its time, for tests that
/// do not look at a clock.
pub fn check_counting<'a>(
    code: &'a [u8],
    limits: &CodeLimits,
    host: &[HostFunction],
) -> (Result<Checked<'a>, CodeError>, u64) {
    let mut scan = Scan::default();
    let result = scan.run(code, limits, host);
    let work = scan.work;
    let checked = result.map(|()| Checked {
        code,
        limits: limits.clone(),
        interface: Interface {
            methods: std::mem::take(&mut scan.methods),
            reentrant: scan.reentrant.take().unwrap_or_default(),
            abi: scan.abi.take(),
            stack: StackUse {
                fixed_bytes: scan.fixed_stack,
                recursive_functions: scan.recursive.iter().filter(|&&is| is).count() as u32,
            },
        },
        scan,
    });
    (checked, work)
}

/// Whether a trap was the stack limit's, by the value of [`STACK_GLOBAL`] after it.
pub fn stack_exhausted(left: i32) -> bool {
    left < 0
}

/// Whether `name` can be a method: `[a-z][a-z0-9_]{0,63}`.
pub fn is_method_name(name: &str) -> bool {
    name.len() <= METHOD_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The wasm that contracts may use: what gives the same result on every machine, and what the metering pass and the stack limit
/// handle.
///
/// Allowed: the mutable globals, saturating conversions, sign extensions, multiple values, bulk memory, fixed-width SIMD and extended
/// constants that compilers emit by default; floats (the engine canonicalises NaNs, the only thing about them that differs
/// between machines); references to functions; tail calls (exact under metering, and the stack limit gives
/// back before it jumps).
///
/// Refused, and why:
///
/// - *threads*: the order of accesses to shared memory is not deterministic;
/// - *relaxed SIMD*: results differ between machines by design (they can be forced to one, slowly, where nobody gains);
/// - *garbage collection*, `externref`: when it runs and what it costs is not metered, and its memory is not limited by pages;
/// - *exceptions*: unwinding would leave functions without giving back their stack, and is not metered;
/// - *memory64*: a bounds check at every access, for memory that no contract may have;
/// - *multiple memories*, *custom page sizes*: limits and host interface speak of one memory and of pages of 64 KiB;
/// - *stack switching*: stacks that the stack limit does not see;
/// - *typed function references* (`call_ref`): calls whose targets are not bounded by what a table may hold; no compiler emits them
///   without garbage collection;
/// - *wide arithmetic*, *compact imports*, *components*: not finished, or not modules.
pub fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::FLOATS
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::CALL_INDIRECT_OVERLONG
}
