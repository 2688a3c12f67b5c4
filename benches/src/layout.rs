//! The same code at other addresses.
//!
//! How fast a small loop runs depends on where its branches lie in cache lines and in the branch predictor's tables, by more than
//! metering costs. That is an accident of a module's layout, which is different with and without metering to begin with, so
//! no two variants can be given the same. What can be done is to try several for each and to average. Cranelift
//! starts functions at multiples of 32 bytes, in the order of their indexes; within them nothing is aligned.

use anyhow::{Result, anyhow};
use std::convert::Infallible;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, Function, FunctionSection, GlobalSection, GlobalType,
    SectionId, TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, FunctionBody, FunctionSectionReader, GlobalSectionReader, Parser, Payload,
    TypeRef, TypeSectionReader,
};

/// How code is shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// An unused function before all others moves them by about as many times 32 bytes as it is asked for. The others stay
    /// as they are.
    Before,
    /// That, and each function begins with a look at a global that is always 0 and a jump over about as many
    /// times 12 bytes. So the program is another one, for the baseline too, and does more at each call; but
    /// code also moves relative to the start of its function.
    Within,
}

/// `wasm`, a binary module, with its code shifted by `amount` units. Unchanged if there is no function, and by 0
/// units before all of it.
///
/// # Errors
///
/// If it is not a module or not understood.
pub fn pad(wasm: &[u8], padding: Padding, amount: usize) -> Result<Vec<u8>> {
    let mut shift = Shift {
        imported: 0,
        types: 0,
        globals: 0,
        needs_globals: padding == Padding::Within,
        padding,
        amount,
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
                    match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => shift.imported += 1,
                        TypeRef::Global(_) => shift.globals += 1,
                        _ => {}
                    }
                }
            }
            Payload::GlobalSection(globals) => shift.globals += globals.count(),
            Payload::FunctionSection(_) => has_functions = true,
            _ => {}
        }
    }
    if padding == Padding::Before && amount == 0 || !has_functions {
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
    /// Globals of the original, hence the index of the one that is added.
    globals: u32,
    /// Whether one is to be added, and has not been yet.
    needs_globals: bool,
    padding: Padding,
    amount: usize,
}

impl Shift {
    fn add_global(&mut self, globals: &mut GlobalSection) {
        if std::mem::take(&mut self.needs_globals) {
            let ty = GlobalType {
                val_type: ValType::I32,
                mutable: true,
                shared: false,
            };
            globals.global(ty, &ConstExpr::i32_const(0));
        }
    }
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

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: GlobalSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_global_section(self, globals, section)?;
        self.add_global(globals);
        Ok(())
    }

    /// Adds a section of globals where it belongs, if there has been none.
    fn intersperse_section_hook(
        &mut self,
        module: &mut wasm_encoder::Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error> {
        let too_early = [
            SectionId::Type,
            SectionId::Import,
            SectionId::Function,
            SectionId::Table,
            SectionId::Memory,
            SectionId::Tag,
            SectionId::Global,
        ];
        if self.needs_globals && before.is_none_or(|next| !too_early.contains(&next)) {
            let mut globals = GlobalSection::new();
            self.add_global(&mut globals);
            module.section(&globals);
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        if self.padding == Padding::Within {
            let mut start = function.instructions();
            start
                .global_get(self.globals)
                .if_(BlockType::Empty)
                .global_get(self.globals);
            // A multiplication and an exclusive or with a constant of four bytes: 12 bytes of x86-64 code. Stores alone
            // would not do, of which the compiler keeps the last.
            for step in (0..=self.amount).map(|step| step as i32) {
                start
                    .i32_const(0x4c95_7f2d + step)
                    .i32_mul()
                    .i32_const(0x1405_7b7e + step)
                    .i32_xor();
            }
            start.global_set(self.globals).end();
        }
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            function.instruction(&self.parse_instruction(&mut operators)?);
        }
        code.function(&function);
        Ok(())
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
        for step in (0..self.amount).map(|step| step as i64) {
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

    /// Compiles the module, shifted, runs it, and returns the place and the size of the function that it runs.
    fn shifted(text: &str, padding: Padding, amount: usize) -> Result<(usize, usize)> {
        let wasm = pad(&wat::parse_str(text)?, padding, amount)?;
        let compiler = Compiler::new(Variant::None)?;
        let module = compiler.compile(&wasm)?;
        let is_shifted = padding == Padding::Within || amount > 0;
        let function = module.functions().nth(usize::from(is_shifted));
        let mut store = wasmtime::Store::new(compiler.engine(), ());
        let host = wasmtime::Func::wrap(&mut store, || {});
        let instance = wasmtime::Instance::new(&mut store, &module, &[host.into()])?;
        let run = instance.get_typed_func::<(), i32>(&mut store, "run")?;
        assert_eq!(run.call(&mut store, ())?, 2);
        Ok(function.map_or((0, 0), |function| (function.offset, function.len)))
    }

    #[test]
    fn functions_keep_their_meaning_and_change_their_place() -> Result<()> {
        let wasm = wat::parse_str(MODULE)?;
        assert_eq!(pad(&wasm, Padding::Before, 0)?, wasm);
        let mut offsets = Vec::new();
        for amount in 0..6 {
            offsets.push(shifted(MODULE, Padding::Before, amount)?.0);
        }
        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
        assert!(offsets.iter().any(|offset| offset % 64 == 0), "{offsets:?}");
        assert!(offsets.iter().any(|offset| offset % 64 != 0), "{offsets:?}");
        Ok(())
    }

    #[test]
    fn functions_grow_from_within() -> Result<()> {
        let with_global =
            MODULE.replacen("(table", "(global $two (mut i32) (i32.const 2)) (table", 1);
        let with_global = with_global.replacen("(i32.const 2)))", "(global.get $two)))", 1);
        for text in [MODULE, &with_global] {
            let mut sizes = Vec::new();
            for amount in 0..6 {
                sizes.push(shifted(text, Padding::Within, amount)?.1);
            }
            assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
        }
        Ok(())
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(pad(b"\0asm", Padding::Before, 1).is_err());
        assert!(pad(b"text", Padding::Within, 1).is_err());
    }
}
