use cranelift_codegen::ir::Inst;

/// Why a function was refused. It surfaces from `wasmtime::Module::new` as a codegen error.
///
/// Every variant but the first three means that wasmtime's code does not look as this version of
/// the pass expects: a bug here or an update of wasmtime that needs a new look, never bad input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// The target is not a 64-bit one.
    #[error(
        "fuel in a pinned register needs 64-bit pointers, the target has {pointer_bytes}-byte ones"
    )]
    UnsupportedTarget {
        /// Size of a pointer, in bytes.
        pointer_bytes: u8,
    },
    /// A kind of function that the pass does not handle: components, guest debugging, Pulley.
    #[error("fuel in a pinned register is not supported in {what}")]
    UnsupportedFunction {
        /// The function's key.
        what: String,
    },
    /// A wasm function without any fuel accounting: the engine has a pinned register but not
    /// `Config::consume_fuel`.
    #[error(
        "no fuel accounting in this function: enable Config::consume_fuel together with the pinned register"
    )]
    NotMetered,
    /// A wasm function catches exceptions, whose edges arrive from the host with the register
    /// clobbered.
    #[error("exception handling ({inst}) is not supported with fuel in a pinned register")]
    ExceptionHandling {
        /// The `try_call`.
        inst: Inst,
    },
    /// The counter is accessed in memory, other than by what the pass writes: stock accounting that the hook has not replaced.
    #[error("{inst} accesses the fuel counter in memory")]
    CounterInMemory {
        /// The access.
        inst: Inst,
    },
    /// A wasm function calls something that is not compiled wasm or one of its trampolines.
    #[error("call at {inst} leaves wasm without a trampoline")]
    UncheckedCall {
        /// The call.
        inst: Inst,
    },
    /// A trampoline does not have the shape that wasmtime 48 gives it.
    #[error("unknown shape of a trampoline: {what}")]
    UnknownTrampoline {
        /// What was expected.
        what: &'static str,
    },
    /// The pinned register is used for something else than charges.
    #[error("{inst} uses the pinned register for something else than a charge")]
    PinnedRegisterInUse {
        /// The user.
        inst: Inst,
    },
}
