//! Reads what test processes have written down.

use slackline_executor::Hash;
use slackline_testkit::record::{Code, Execution, Line};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file or directory could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line is no record.
    #[error("{}, line {line}: this is no record of `slackline gas`, or that of another version: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
}

/// What a run of tests has written down.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Transactions and views: by test, and in each in order.
    pub executions: Vec<Execution>,
    /// The code that was deployed.
    pub codes: BTreeMap<Hash, Code>,
}

impl Records {
    /// Reads all files of records (`*.jsonl`) in `directory`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn read(directory: &Path) -> Result<Records, ReadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReadError::Io { path, source }
        };
        let mut records = Records::default();
        for entry in fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                let text = fs::read_to_string(&path).map_err(failed(&path))?;
                records.add(&path, &text)?;
            }
        }
        records.executions.sort_by(|a, b| {
            let key = |execution: &Execution| {
                (
                    execution.program.clone(),
                    execution.test.clone(),
                    execution.order,
                )
            };
            key(a).cmp(&key(b))
        });
        Ok(records)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), ReadError> {
        for (at, line) in text.lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|reason| ReadError::Line {
                path: path.to_owned(),
                line: at + 1,
                reason,
            })?;
            match line {
                Line::Execution(execution) => self.executions.push(*execution),
                Line::Code(code) => {
                    self.codes.insert(code.hash, code);
                }
            }
        }
        Ok(())
    }

    /// Names for the codes: those of their packages, with the beginning of the hash where several have the same, or there is none.
    pub fn names(&self) -> BTreeMap<Hash, String> {
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        for code in self.codes.values() {
            *count.entry(&code.name).or_default() += 1;
        }
        let named = self.codes.values().map(|code| {
            let short = &code.hash.to_string()[..8];
            let name = match (code.name.as_str(), count.get(code.name.as_str())) {
                ("", _) => short.to_owned(),
                (name, Some(1)) => name.to_owned(),
                (name, _) => format!("{name} {short}"),
            };
            (code.hash, name)
        });
        named.collect()
    }
}

/// What a test is called: `program::test`.
pub fn test_id(execution: &Execution) -> String {
    format!("{}::{}", execution.program, execution.test)
}
