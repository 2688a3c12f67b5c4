//! What may be deployed: checked on the bytes, before anything is compiled.

use crate::host;
use crate::params::Limits;
use std::collections::BTreeSet;
use wasmparser::{
    CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef, Validator, WasmFeatures,
};

/// Name of the exported memory.
pub(crate) const MEMORY: &str = "memory";

/// The method that runs at deployment and only then.
pub const INIT: &str = "init";

/// Why code is not a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// Not a wasm module at all.
    #[error("this is not a wasm module: it does not begin with the bytes 00 61 73 6d 01 00 00 00")]
    NotWasm,
    /// More bytes than [`Limits::code_bytes`].
    #[error("the code has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Invalid wasm, or wasm that uses a feature that contracts may not use.
    #[error("invalid wasm at offset {offset:#x}: {message}")]
    Invalid {
        /// Position in the code, in bytes.
        offset: u64,
        /// The validator's explanation.
        message: String,
    },
    /// An import that is not in the host interface.
    #[error(
        "unknown import {module:?} {name:?}: contracts import functions of {:?} only",
        host::MODULE
    )]
    UnknownImport {
        /// The import's module.
        module: String,
        /// Its name.
        name: String,
    },
    /// An import of the host interface with another type than it has there.
    #[error("import {name:?} has the wrong type: expected {expected}")]
    ImportType {
        /// The import's name.
        name: String,
        /// The type in the interface.
        expected: String,
    },
    /// No exported memory.
    #[error("the module does not export its memory under the name \"memory\"")]
    NoMemory,
    /// Nothing to call.
    #[error(
        "the module has no entry point: export at least one function without parameters and results, named like a_method"
    )]
    NoEntryPoint,
    /// More of something than [`Limits`] allows.
    #[error("too many {what}: {count}, the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: u64,
        /// How many there may be.
        limit: u64,
    },
    /// Valid, but the compiler refuses it.
    #[error("the compiler refuses the code: {0}")]
    Compile(String),
}

/// What there is to know of a contract's code without compiling it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The methods that can be called, [`INIT`] included if there is one.
    pub methods: BTreeSet<String>,
}

/// The wasm that contracts may use: deterministic on every machine, and what the metering pass handles.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::FLOATS
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::CALL_INDIRECT_OVERLONG
}

/// Whether `name` can be a method.
pub(crate) fn is_method_name(name: &str, limits: &Limits) -> bool {
    name.len() <= limits.method_bytes
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Checks `code` against `limits` and the host interface.
///
/// # Errors
///
/// See [`CodeError`].
pub fn check(code: &[u8], limits: &Limits) -> Result<Interface, CodeError> {
    if !code.starts_with(b"\0asm\x01\0\0\0") {
        return Err(CodeError::NotWasm);
    }
    if code.len() > limits.code_bytes {
        return Err(CodeError::TooLarge {
            bytes: code.len(),
            limit: limits.code_bytes,
        });
    }
    let mut validator = Validator::new_with_features(features());
    let mut types: Vec<Option<FuncType>> = Vec::new();
    let mut functions: Vec<u32> = Vec::new();
    let mut has_memory = false;
    let mut methods = BTreeSet::new();
    for payload in Parser::new(0).parse_all(code) {
        let payload = payload.map_err(invalid)?;
        match &payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    types.extend(group.map_err(invalid)?.types().map(|ty| {
                        match &ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(ty.clone()),
                            _ => None,
                        }
                    }));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import.map_err(invalid)?;
                    let TypeRef::Func(index) = import.ty else {
                        return Err(unknown_import(&import));
                    };
                    if import.module != host::MODULE {
                        return Err(unknown_import(&import));
                    }
                    let expected =
                        host::function_type(import.name).ok_or_else(|| unknown_import(&import))?;
                    let matches = types
                        .get(index as usize)
                        .and_then(Option::as_ref)
                        .is_some_and(|ty| expected.matches(ty));
                    if !matches {
                        return Err(CodeError::ImportType {
                            name: import.name.to_owned(),
                            expected: expected.to_string(),
                        });
                    }
                    functions.push(index);
                }
            }
            Payload::FunctionSection(section) => {
                within(
                    "functions",
                    functions.len() as u64 + u64::from(section.count()),
                    u64::from(limits.functions),
                )?;
                for index in section.clone() {
                    functions.push(index.map_err(invalid)?);
                }
            }
            Payload::MemorySection(section) => {
                within("memories", u64::from(section.count()), 1)?;
                for memory in section.clone() {
                    let memory = memory.map_err(invalid)?;
                    within(
                        "memory pages",
                        memory.initial,
                        u64::from(limits.memory_pages),
                    )?;
                }
            }
            Payload::TableSection(section) => {
                within("tables", u64::from(section.count()), 1)?;
                for table in section.clone() {
                    let table = table.map_err(invalid)?;
                    within(
                        "table elements",
                        table.ty.initial,
                        u64::from(limits.table_elements),
                    )?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export.map_err(invalid)?;
                    match export.kind {
                        ExternalKind::Memory if export.name == MEMORY => has_memory = true,
                        ExternalKind::Func if is_method_name(export.name, limits) => {
                            let ty = functions
                                .get(export.index as usize)
                                .and_then(|&index| types.get(index as usize)?.as_ref());
                            if ty
                                .is_some_and(|ty| ty.params().is_empty() && ty.results().is_empty())
                            {
                                methods.insert(export.name.to_owned());
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if let wasmparser::ValidPayload::Func(function, body) =
            validator.payload(&payload).map_err(invalid)?
        {
            function
                .into_validator(Default::default())
                .validate(&body)
                .map_err(invalid)?;
        }
    }
    if !has_memory {
        return Err(CodeError::NoMemory);
    }
    if methods.is_empty() {
        return Err(CodeError::NoEntryPoint);
    }
    Ok(Interface { methods })
}

fn invalid(error: wasmparser::BinaryReaderError) -> CodeError {
    CodeError::Invalid {
        offset: error.offset() as u64,
        message: error.message().to_owned(),
    }
}

fn unknown_import(import: &wasmparser::Import<'_>) -> CodeError {
    CodeError::UnknownImport {
        module: import.module.to_owned(),
        name: import.name.to_owned(),
    }
}

fn within(what: &'static str, count: u64, limit: u64) -> Result<(), CodeError> {
    if count > limit {
        Err(CodeError::TooMany { what, count, limit })
    } else {
        Ok(())
    }
}
