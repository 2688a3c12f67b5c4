use cranelift_codegen::ir::{Block, Inst};

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
    /// The counter is accessed by something other than a 64-bit load or store.
    #[error("unknown access to the fuel counter at {inst}")]
    UnknownAccess {
        /// The access.
        inst: Inst,
    },
    /// A value of the counter is used by something that is no charge, check, store or branch.
    #[error("unknown use of the fuel counter at {inst}")]
    UnknownUse {
        /// The user.
        inst: Inst,
    },
    /// A charge, check or store works on a value that is not the current counter.
    #[error("{inst} works on an outdated value of the fuel counter")]
    Stale {
        /// The user.
        inst: Inst,
    },
    /// The function can be left, or the counter loaded, where memory does not hold it.
    #[error("the fuel counter is not in memory at {inst}")]
    NotFlushed {
        /// The call, return or load.
        inst: Inst,
    },
    /// A branch on the counter that is not wasmtime's out-of-fuel check.
    #[error("unknown shape of the fuel check at {inst}, out-of-fuel block {block}")]
    UnknownCheck {
        /// The branch.
        inst: Inst,
        /// Where it goes when out of fuel.
        block: Block,
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
    /// The pinned register is already used for something else.
    #[error("the pinned register is already in use at {inst}")]
    PinnedRegisterInUse {
        /// The user.
        inst: Inst,
    },
}
