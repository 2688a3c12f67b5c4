//! Why code is not a contract.

use crate::{MODULE, STACK_GLOBAL};

/// Why code is not a contract. All of these depend on nothing but the code, the limits and the host interface, so every node comes
/// to the same one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// Not a wasm module at all: text, or a component.
    #[error(
        "this is not a wasm module: it does not begin with the bytes 00 61 73 6d 01 00 00 00. Deploy the .wasm file of a core module"
    )]
    NotWasm,
    /// More bytes than [`CodeLimits::code_bytes`](crate::CodeLimits::code_bytes).
    #[error(
        "the code has {bytes} bytes, more than the limit of {limit}: build with opt-level \"z\" and strip it"
    )]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// More of something than [`CodeLimits`](crate::CodeLimits) allows.
    #[error("too many {what}: {count}, the limit is {limit}{}", place(.function))]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are, as far as they were counted.
        count: u64,
        /// How many there may be.
        limit: u64,
        /// In which function, if that is what is limited.
        function: Option<u32>,
    },
    /// Invalid wasm, or wasm that uses a feature that contracts may not use: [`features`](crate::features) has the list.
    #[error("invalid wasm at offset {offset:#x}: {message}")]
    Invalid {
        /// Position in the code, in bytes.
        offset: u64,
        /// The validator's explanation.
        message: String,
    },
    /// An import that is not in the host interface, or not a function.
    #[error("unknown import {module:?} {name:?}: contracts import functions of {MODULE:?} only")]
    UnknownImport {
        /// The import's module.
        module: String,
        /// Its name.
        name: String,
    },
    /// An import of the host interface with another type than it has there.
    #[error("import {name:?} has the wrong type: declare it as {expected}")]
    ImportType {
        /// The import's name.
        name: String,
        /// The type in the interface.
        expected: String,
    },
    /// A start function: it would run at every call, before the method.
    #[error(
        "the module has a start function, which would run before every call: export a method \"init\", which runs once, at deployment (AssemblyScript: --exportStart init)"
    )]
    StartFunction,
    /// An export under the name of the global that instrumenting adds. Instrumented code has it, too.
    #[error("the export {name:?} is reserved{}: rename it", if .name == STACK_GLOBAL { " (is this code that was instrumented already?)" } else { "" })]
    ReservedExport {
        /// The export's name.
        name: String,
    },
    /// No exported memory.
    #[error("the module does not export its memory under the name \"memory\"")]
    NoMemory,
    /// Nothing to call.
    #[error(
        "the module has no entry point: export at least one function without parameters and results, named like a_method"
    )]
    NoEntryPoint,
    /// A custom section of Slackline's that does not say what it should.
    #[error("the custom section {section:?} {problem}")]
    Metadata {
        /// The section's name.
        section: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Calls nest so deeply, even without any recursion, that a call could run out of stack at once.
    #[error(
        "the deepest chain of calls takes {bytes} bytes of stack, more than the limit of {limit}: split the largest functions on it, or make the chain shorter"
    )]
    StackTooDeep {
        /// What it takes, in bytes as [`frame`](crate::frame) counts them.
        bytes: u32,
        /// The limit, in bytes.
        limit: u32,
    },
    /// Valid, but the compiler refuses it. Not returned here: for those who compile next.
    #[error("the compiler refuses the code: {0}")]
    Compile(String),
}

fn place(function: &Option<u32>) -> String {
    function.map_or_else(String::new, |index| format!(" (function {index})"))
}

impl From<wasmparser::BinaryReaderError> for CodeError {
    fn from(error: wasmparser::BinaryReaderError) -> CodeError {
        CodeError::Invalid {
            offset: error.offset() as u64,
            message: error.message().to_owned(),
        }
    }
}
