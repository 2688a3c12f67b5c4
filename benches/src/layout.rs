//! The same code at other addresses.
//!
//! How fast a small loop runs depends on where its branches lie in cache lines and in the branch predictor's tables, by more than
//! metering costs. That is an accident of a module's layout, which is different with and without metering to begin with, so
//! no two variants can be given the same. What can be done is to try several for each and to average. Cranelift
//! starts functions at multiples of 32 bytes, in the order of their indexes.

use anyhow::{Result, anyhow};
use std::convert::Infallible;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, Function, FunctionSection, TypeSection, ValType};
use wasmparser::{
    CodeSectionReader, FunctionSectionReader, Parser, Payload, TypeRef, TypeSectionReader,
};

/// `wasm`, a binary module, with an unused function of a size that grows with `padding` before all others, so that their
/// code is shifted by about as many times 32 bytes. Unchanged for 0 and if there is no function.
///
/// # Errors
///
/// If it is not a module or not understood.
pub fn pad(wasm: &[u8], padding: usize) -> Result<Vec<u8>> {
    let mut shift = Shift {
        imported: 0,
        types: 0,
        padding,
    };
    let mut has_functions = false;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(types) => {
                for group in types {
                    shift.types += u32::try_from(group?.types().len())?;
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    shift.imported += u32::from(matches!(
                        import?.ty,
                        TypeRef::Func(_) | TypeRef::FuncExact(_)
                    ));
                }
            }
            Payload::FunctionSection(_) => has_functions = true,
            _ => {}
        }
    }
    if padding == 0 || !has_functions {
        return Ok(wasm.to_vec());
    }
    let mut module = wasm_encoder::Module::new();
    shift
        .parse_core_module(&mut module, Parser::new(0), wasm)
        .map_err(|error| anyhow!("cannot shift the module's code: {error}"))?;
    Ok(module.finish())
}

struct Shift {
    /// Functions that are imported: they keep their indexes.
    imported: u32,
    /// Types of the original, hence the index of the one that is added.
    types: u32,
    padding: usize,
}

impl Reencode for Shift {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(index + u32::from(index >= self.imported))
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I64], [ValType::I64]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        functions.function(self.types);
        utils::parse_function_section(self, functions, section)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        let mut function = Function::new([]);
        let mut body = function.instructions();
        body.local_get(0);
        // Two constants of eight bytes, which differ so that none is used twice, a multiplication and an exclusive or: 27
        // bytes of x86-64 code.
        for step in (0..self.padding).map(|step| step as i64) {
            body.i64_const(0x5851_f42d_4c95_7f2d + step)
                .i64_mul()
                .i64_const(0x1405_7b7e_f767_814f + step)
                .i64_xor();
        }
        body.end();
        code.function(&function);
        utils::parse_code_section(self, code, section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variant::{Compiler, Variant};

    const MODULE: &str = r#"(module
        (import "" "host" (func $host))
        (table 2 funcref)
        (elem (i32.const 0) $host $two)
        (func $one (result i32) (call_indirect (result i32) (i32.const 1)))
        (func $two (result i32) (i32.const 2))
        (export "host" (func $host))
        (export "run" (func $one)))"#;

    #[test]
    fn functions_keep_their_meaning_and_change_their_place() -> Result<()> {
        let wasm = wat::parse_str(MODULE)?;
        assert_eq!(pad(&wasm, 0)?, wasm);
        let compiler = Compiler::new(Variant::None)?;
        let mut offsets = Vec::new();
        for padding in 0..6 {
            let module = compiler.compile(&pad(&wasm, padding)?)?;
            let offset = module.functions().nth(usize::from(padding > 0));
            offsets.push(offset.map_or(0, |function| function.offset));
            let mut store = wasmtime::Store::new(compiler.engine(), ());
            let host = wasmtime::Func::wrap(&mut store, || {});
            let instance = wasmtime::Instance::new(&mut store, &module, &[host.into()])?;
            let run = instance.get_typed_func::<(), i32>(&mut store, "run")?;
            assert_eq!(run.call(&mut store, ())?, 2);
        }
        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
        assert!(offsets.iter().any(|offset| offset % 64 == 0), "{offsets:?}");
        assert!(offsets.iter().any(|offset| offset % 64 != 0), "{offsets:?}");
        Ok(())
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(pad(b"\0asm", 1).is_err());
        assert!(pad(b"text", 1).is_err());
    }
}
