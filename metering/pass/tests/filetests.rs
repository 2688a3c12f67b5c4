//! The pass on CLIF text.
//!
//! Each file in `filetests/` has a line `; kind: body`, `; kind: entry` or `; kind: exit N`, a function, a line `; ---`, and
//! what the pass makes of the function: CLIF, or `error: …`. `UPDATE_FILETESTS=1 cargo test` writes
//! what it makes of it now; read the difference before you commit it.

use anyhow::{Context, Result, bail, ensure};
use cranelift_codegen::settings::{self, Configurable, Flags};
use cranelift_codegen::verify_function;
use cranelift_reader::parse_functions;
use slackline_metering_pass::{FunctionKind, rewrite};
use std::fs;
use std::path::Path;

const SEPARATOR: &str = "\n; ---\n";

fn kind(text: &str) -> Result<FunctionKind> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("; kind: "))
        .context("no line `; kind: …`")?;
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["body"] => Ok(FunctionKind::Body),
        ["entry"] => Ok(FunctionKind::Entry),
        ["exit", vmctx] => Ok(FunctionKind::Exit {
            vmctx: vmctx.parse()?,
        }),
        _ => bail!("unknown kind {line:?}"),
    }
}

fn transform(text: &str) -> Result<String> {
    let mut functions = parse_functions(text)?;
    ensure!(functions.len() == 1, "one function a file");
    let func = &mut functions[0];
    let mut flags = settings::builder();
    flags.set("enable_pinned_reg", "true")?;
    let flags = Flags::new(flags);
    let isa = cranelift_codegen::isa::lookup_by_name("x86_64")?.finish(flags)?;
    verify_function(func, &*isa)?;
    match rewrite(func, kind(text)?, 8) {
        Ok(()) => {
            verify_function(func, &*isa)?;
            Ok(func.display().to_string())
        }
        Err(error) => Ok(format!("error: {error}\n")),
    }
}

#[test]
fn filetests() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests");
    let mut count = 0;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let name = path.display();
        let text = fs::read_to_string(&path)?;
        let (input, expected) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
        let made = transform(input).with_context(|| format!("{name}"))?;
        if std::env::var_os("UPDATE_FILETESTS").is_some() {
            fs::write(&path, format!("{}{SEPARATOR}{made}", input.trim_end()))?;
        } else {
            assert_eq!(made, expected, "{name}");
        }
        count += 1;
    }
    ensure!(count > 10);
    Ok(())
}
