//! `cargo xtask spec [DIR]`: the official tests of WebAssembly in all metering modes, those of `DIR` or the bundled ones.

use anyhow::{Context, Result, anyhow, ensure};
use slackline_conformance::spec::{self, Script, THREAD_STACK};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match on_large_stack(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on_large_stack(part: fn() -> Result<()>) -> Result<()> {
    std::thread::Builder::new()
        .stack_size(THREAD_STACK)
        .spawn(part)?
        .join()
        .map_err(|_| anyhow!("panicked"))?
}

fn run() -> Result<()> {
    let scripts = match std::env::args_os().nth(1) {
        Some(dir) => {
            let mut scripts = Vec::new();
            collect(Path::new(&dir), &mut scripts)?;
            ensure!(!scripts.is_empty(), "no .wast files in {}", dir.display());
            scripts
        }
        None => spec::bundled(),
    };
    let report = spec::in_all_modes(&scripts)?;
    for (suite, tally) in &report.suites {
        println!("{suite:40} {tally}");
    }
    println!(
        "{} scripts, {} calls cost the same in all modes",
        report.scripts, report.calls
    );
    for failure in &report.failures {
        println!("FAILED {failure}");
    }
    ensure!(
        report.failures.is_empty(),
        "{} failures",
        report.failures.len()
    );
    Ok(())
}

fn collect(dir: &Path, scripts: &mut Vec<Script>) -> Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, scripts)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "wast")
        {
            scripts.push(Script {
                suite: dir
                    .file_name()
                    .unwrap_or(dir.as_os_str())
                    .to_string_lossy()
                    .into_owned(),
                name: path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                text: std::fs::read_to_string(&path)
                    .with_context(|| format!("reading {}", path.display()))?,
            });
        }
    }
    Ok(())
}
