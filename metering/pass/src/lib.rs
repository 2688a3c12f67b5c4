//! The compiler half of slacked fuel metering: charges to a counter in Cranelift's pinned register, placed so that
//! few of them are left, and nothing in wasm function bodies that looks at it.
//!
//! ```text
//!  wasm ──wasmtime──▶ CLIF, with charge() where stock      per function, after inlining and
//!                     adds to its fuel variable            before optimisation
//!                              │
//!                           run(func)  ──────────▶ PassError: the module does not compile
//!                              │
//!          ┌───────────────────┼─────────────────────────────┐
//!     wasm function      host ─▶ wasm                  wasm ─▶ host, builtin
//!     (body)             (entry)                       (exit)
//!     add r15, k         save r15, load counter        flush counter, check it,
//!     and nothing else   call                          call,
//!                        flush, check, restore r15     reload counter
//! ```
//!
//! Hooks in `wasmtime-internal-cranelift` (see `metering/hooks`) call [`charge`] while a function is translated and [`run`] on
//! every function of every engine. Both act on those compiled with the Cranelift flag `enable_pinned_reg`, and on no other.
//!
//! # What holds afterwards
//!
//! *The register holds the counter* at every instruction of a wasm function body: bodies change it
//! only by additions, Cranelift never allocates it, host code preserves it (it is callee-saved in
//! the System V and AAPCS64 conventions), and whatever path leads from the host back into a body
//! goes through a trampoline that reloads it.
//!
//! *The count is that of stock wasmtime* wherever it is observed: charges are made at the places and with the amounts of
//! stock's additions, and are moved only under the rules in `placement.rs`. A function in which
//! anything else touches the counter is refused: see [`PassError`].
//!
//! *No host code runs past the limit*: every trampoline out of wasm checks the counter before it
//! calls, and the trampoline into wasm checks it after the call has returned. So whether an
//! execution ends within its limit has one answer, whoever interrupts it and whenever.
//!
//! Sources: bytecodealliance/wasmtime issue 4109 and pull request 4466 (pinned register, flush in
//! trampolines); wasmtime 48 `func_environ.rs` (`fuel_*`) for where charges are.

mod body;
mod error;
mod fuel;
mod loops;
mod placement;
mod report;
mod trampoline;
mod trips;

use crate::report::Counts;
use cranelift_codegen::ir::{Function, UserFuncName};
use cranelift_codegen::isa::TargetIsa;
use wasmtime_environ::{Abi, FuncKey};

pub use error::PassError;
pub use fuel::charge;
pub use report::{Report, collect_reports};
pub use trips::MOST_FUEL;

/// The version of the code that this pass writes. Compiled modules made by another version must
/// not be loaded: embedders put it into wasmtime's `Config::module_version`.
pub const PASS_VERSION: u32 = 2;

/// What a function is to the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// A wasm function body, or the code that initialises an instance.
    Body,
    /// A trampoline from the host into wasm. The first parameter is the callee's `vmctx`.
    Entry,
    /// A trampoline from wasm to the host; the parameter of that index is a wasm `vmctx`.
    Exit {
        /// Index of the `vmctx` among the parameters.
        vmctx: usize,
    },
}

/// Rewrites `func` if `isa` has a pinned register enabled, and does nothing otherwise.
///
/// # Errors
///
/// See [`PassError`]; `func` must not be compiled then.
pub fn run(func: &mut Function, isa: &dyn TargetIsa) -> Result<(), PassError> {
    if !isa.flags().enable_pinned_reg() {
        return Ok(());
    }
    let kind = kind_of(&func.name)?;
    let before = report::wanted().then(|| func.display().to_string());
    let counts = rewrite_counting(func, kind, isa.pointer_bytes())?;
    if let Some(before) = before {
        report::collect(Report {
            defined_index: defined_index(&func.name),
            kind,
            charges: counts.charges,
            additions: counts.additions,
            prepaid_loops: counts.prepaid_loops,
            before,
            after: func.display().to_string(),
        });
    }
    Ok(())
}

/// Rewrites `func`, whatever its name, as one of `kind` on a target whose pointers have
/// `pointer_bytes` bytes.
///
/// # Errors
///
/// See [`PassError`].
pub fn rewrite(
    func: &mut Function,
    kind: FunctionKind,
    pointer_bytes: u8,
) -> Result<(), PassError> {
    rewrite_counting(func, kind, pointer_bytes).map(|_| ())
}

fn rewrite_counting(
    func: &mut Function,
    kind: FunctionKind,
    pointer_bytes: u8,
) -> Result<Counts, PassError> {
    if pointer_bytes != 8 {
        return Err(PassError::UnsupportedTarget { pointer_bytes });
    }
    match kind {
        FunctionKind::Body => body::rewrite(func),
        FunctionKind::Entry => trampoline::rewrite_entry(func).map(|()| Counts::default()),
        FunctionKind::Exit { vmctx } => {
            trampoline::rewrite_exit(func, vmctx).map(|()| Counts::default())
        }
    }
}

fn defined_index(name: &UserFuncName) -> Option<u32> {
    let UserFuncName::User(name) = name else {
        return None;
    };
    match FuncKey::from_raw_parts(name.namespace, name.index) {
        FuncKey::DefinedWasmFunction(_, index) => Some(index.as_u32()),
        _ => None,
    }
}

fn kind_of(name: &UserFuncName) -> Result<FunctionKind, PassError> {
    let UserFuncName::User(name) = name else {
        return Err(PassError::UnsupportedFunction {
            what: format!("{name}"),
        });
    };
    match FuncKey::from_raw_parts(name.namespace, name.index) {
        FuncKey::DefinedWasmFunction(..) | FuncKey::ModuleStartup(Abi::Wasm, _) => {
            Ok(FunctionKind::Body)
        }
        FuncKey::ArrayToWasmTrampoline(..) | FuncKey::ModuleStartup(Abi::Array, _) => {
            Ok(FunctionKind::Entry)
        }
        // (callee vmctx, caller vmctx, arguments…): the callee is a host function's context.
        FuncKey::WasmToArrayTrampoline(_) => Ok(FunctionKind::Exit { vmctx: 1 }),
        FuncKey::WasmToBuiltinTrampoline(_) => Ok(FunctionKind::Exit { vmctx: 0 }),
        // Components, the debugger's patchable calls and Pulley: nothing here has been thought
        // through for them.
        other => Err(PassError::UnsupportedFunction {
            what: format!("{other:?}"),
        }),
    }
}
