//! The code of contracts on a node, with what the user has of its sources.

use super::{files_in, words};
use anyhow::{Context, ensure};
use clap::Args;
use slackline_executor::Hash;
use slackline_gas::Records;
use slackline_gas::symbols::is_of;
use slackline_testkit::record::Code;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where debug information is.
#[derive(Debug, Args)]
pub(crate) struct Debug {
    /// The wasm that a contract was stripped from, with names and debug information: a file, or a directory of such, from which
    /// those are taken whose code is the contract's. `slackline contract build` leaves NAME.debug.wasm beside NAME.wasm.
    #[arg(long = "debug", value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

/// Codes, in files, as the records of a test run have them.
pub(crate) struct Codes {
    directory: TempDir,
    /// With whether they were asked for by name, and are of a code.
    debug: Vec<(PathBuf, Vec<u8>, Used)>,
    pub(crate) records: Records,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Used {
    Yes,
    NotYet,
    NeedNot,
}

impl Codes {
    /// None yet.
    pub(crate) fn new(debug: &Debug) -> anyhow::Result<Codes> {
        let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
        let mut files = Vec::new();
        for path in &debug.paths {
            if !path.is_dir() {
                files.push((path.clone(), read(path)?, Used::NotYet));
                continue;
            }
            for file in files_in(path, "wasm")? {
                let wasm = read(&file)?;
                files.push((file, wasm, Used::NeedNot));
            }
        }
        // What is stripped is shorter.
        files.sort_by_key(|(_, wasm, _)| std::cmp::Reverse(wasm.len()));
        Ok(Codes {
            directory: tempfile::tempdir().context("no temporary directory")?,
            debug: files,
            records: Records::default(),
        })
    }

    /// Adds a code.
    pub(crate) fn add(&mut self, hash: Hash, wasm: &[u8]) -> anyhow::Result<()> {
        let file = self.directory.path().join(format!("{hash}.wasm"));
        std::fs::write(&file, wasm).with_context(|| file.display().to_string())?;
        let mut debug_file = None;
        for (path, debug, used) in &mut self.debug {
            let is_its = is_of(debug, wasm).with_context(|| path.display().to_string())?;
            if is_its {
                *used = Used::Yes;
                debug_file.get_or_insert_with(|| path.clone());
            }
        }
        let name = words::of_code(wasm).map_or_else(|_| String::new(), |contract| contract.name);
        let bytes = wasm.len() as u64;
        let code = Code {
            hash,
            name,
            bytes,
            file,
            debug_file,
        };
        self.records.codes.insert(hash, code);
        Ok(())
    }

    /// Ends with an error if a file is of no code that was added.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let unused = self.debug.iter().find(|(_, _, used)| *used == Used::NotYet);
        ensure!(
            unused.is_none(),
            "{} is of other code than what was executed: build the sources that were deployed",
            unused.map_or_else(String::new, |(path, ..)| path.display().to_string())
        );
        Ok(())
    }
}
