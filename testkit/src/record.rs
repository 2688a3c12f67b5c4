//! What executions have cost, written down for `slackline gas`.
//!
//! Where [`GAS_DIR`] is set, each test process writes a file of JSON lines into that directory: a [`Line`] for each transaction and view
//! that is not [unmetered](crate::Kit::unmetered), and one for each code that it deploys.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use slackline_executor::trace::{CallTrace, Detail};
use slackline_executor::{Address, Hash};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Environment variable: the directory that records are written into. Nothing is recorded without it.
pub const GAS_DIR: &str = "SLACKLINE_GAS_DIR";

/// Environment variable: when it is `1`, the lowest fuel limit that would have done is looked for too.
pub const GAS_LIMITS: &str = "SLACKLINE_GAS_LIMITS";

/// Environment variable: when it is `1`, what each function of a contract uses is recorded too.
pub const GAS_PROFILE: &str = "SLACKLINE_GAS_PROFILE";

/// A line of a file of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Code that is deployed.
    Code(Code),
    /// A transaction or view.
    Execution(Box<Execution>),
}

/// Code that is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its hash.
    pub hash: Hash,
    /// Its name: of its package, else by its description, else empty.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// A file with it: in the directory of records.
    pub file: PathBuf,
    /// The same with names and DWARF, when the testkit has compiled it.
    pub debug_file: Option<PathBuf>,
}

/// A transaction or view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The test program, without what cargo appends to its name.
    pub program: String,
    /// The test in it.
    pub test: String,
    /// Its place in the process: later ones are higher.
    pub order: u64,
    /// What kind it is.
    pub kind: Kind,
    /// The sections that it is in, outermost first: see [`crate::Kit::measure`].
    pub scopes: Vec<String>,
    /// The sizes that it was made with: see [`crate::Kit::sized`].
    pub sizes: Vec<(String, u64)>,
    /// The contract that was called or deployed, if one was.
    pub contract: Option<Address>,
    /// The code of that.
    pub code: Option<Hash>,
    /// The method; `init` of deployments, `None` of transfers.
    pub method: Option<String>,
    /// The arguments by the contract's description, if it has one.
    pub args: Option<serde_json::Value>,
    /// The limit, in fuel.
    pub fuel_limit: u64,
    /// What it has used, in fuel: of a transaction what its receipt says.
    pub fuel_used: u64,
    /// Of that, what a transaction costs before any contract runs: its bytes, its signature, the instance, the code that it brings.
    pub intrinsic: u64,
    /// How it ended: `success`, `revert` or `abort`.
    pub outcome: String,
    /// The lowest limit with which it would have ended so, in fuel; if it succeeded and that was [looked for](GAS_LIMITS).
    pub least_limit: Option<u64>,
    /// What happened in it; `None` when no contract was called.
    pub trace: Option<CallTrace>,
}

/// What was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A transaction that moves currency.
    Transfer,
    /// A transaction that creates a contract.
    Deploy,
    /// A transaction that calls a method.
    Call,
    /// A view, which costs nobody anything.
    View,
}

/// Where the records of a [`crate::Kit`] go.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The directory.
    pub directory: PathBuf,
    /// The test program that executions are said to be of.
    pub program: String,
    /// The test.
    pub test: String,
    /// Whether lowest limits are looked for.
    pub limits: bool,
    /// Whether what functions use is recorded.
    pub profile: bool,
}

/// The file of this process in a directory.
struct Lines {
    file: File,
    /// How many executions are in it.
    count: u64,
    codes: HashSet<Hash>,
}

/// By directory: one, but for who replays calls.
static FILES: Mutex<BTreeMap<PathBuf, Lines>> = Mutex::new(BTreeMap::new());

impl Recording {
    /// What the environment asks for, for the test that runs on this thread.
    pub(crate) fn from_environment() -> Option<Recording> {
        let directory = PathBuf::from(std::env::var_os(GAS_DIR).filter(|dir| !dir.is_empty())?);
        let (program, test) = who();
        let is_set = |name| std::env::var_os(name).is_some_and(|value| value == "1");
        Some(Recording {
            directory,
            program,
            test,
            limits: is_set(GAS_LIMITS),
            profile: is_set(GAS_PROFILE),
        })
    }

    /// The same, of a test.
    pub(crate) fn of(self, program: String, test: String) -> Recording {
        Recording {
            program,
            test,
            ..self
        }
    }

    /// How closely executions are traced.
    pub(crate) fn detail(&self) -> Detail {
        match self.profile {
            true => Detail::Functions,
            false => Detail::Calls,
        }
    }

    /// Writes a line; its order is set here.
    pub(crate) fn execution(&self, mut execution: Execution) -> Result<()> {
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = self.open(&mut files)?;
        lines.count += 1;
        execution.order = lines.count;
        self.line(&mut lines.file, &Line::Execution(Box::new(execution)))
    }

    /// Writes down `wasm`, unless that has been done in this process.
    pub(crate) fn code(
        &self,
        hash: Hash,
        wasm: &[u8],
        built: Option<(String, PathBuf)>,
    ) -> Result<()> {
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = self.open(&mut files)?;
        if !lines.codes.insert(hash) {
            return Ok(());
        }
        let path = self.directory.join(format!("{hash}.wasm"));
        // Other processes may be writing the same.
        let temporary = self
            .directory
            .join(format!("{hash}-{}", std::process::id()));
        fs::write(&temporary, wasm)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|error| self.failed(&error))?;
        let described = || {
            let contract = slackline_abi::Contract::from_wasm(wasm).ok().flatten();
            contract.map_or_else(String::new, |contract| contract.name)
        };
        let (name, debug_file) = match built {
            Some((name, path)) => (name, Some(path)),
            None => (described(), None),
        };
        let code = Code {
            hash,
            name,
            bytes: wasm.len() as u64,
            file: path,
            debug_file,
        };
        self.line(&mut lines.file, &Line::Code(code))
    }

    fn open<'f>(&self, files: &'f mut BTreeMap<PathBuf, Lines>) -> Result<&'f mut Lines> {
        match files.entry(self.directory.clone()) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => {
                let name = format!("{}-{}.jsonl", self.program, std::process::id());
                let opened = fs::create_dir_all(&self.directory).and_then(|()| {
                    let mut options = OpenOptions::new();
                    options.create(true).append(true);
                    options.open(self.directory.join(name))
                });
                Ok(vacant.insert(Lines {
                    file: opened.map_err(|error| self.failed(&error))?,
                    count: 0,
                    codes: HashSet::new(),
                }))
            }
        }
    }

    fn line(&self, file: &mut File, line: &Line) -> Result<()> {
        let mut text =
            serde_json::to_string(line).map_err(|error| Error::Record(error.to_string()))?;
        text.push('\n');
        file.write_all(text.as_bytes())
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::Record(format!("{}: {error}", self.directory.display()))
    }
}

/// The test program, and the test that runs on this thread.
pub(crate) fn who() -> (String, String) {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::file_stem);
    let program = program.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    // The name that the test harness gives to the thread of each test.
    let test = std::thread::current().name().unwrap_or("").to_owned();
    (without_hash(&program).to_owned(), test)
}

/// `amm` of `amm-0123456789abcdef`.
fn without_hash(program: &str) -> &str {
    match program.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|c| c.is_ascii_hexdigit()) => {
            name
        }
        _ => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_without_what_cargo_appends() {
        assert_eq!(without_hash("amm-0123456789abcdef"), "amm");
        assert_eq!(without_hash("my-contract-00112233aabbccdd"), "my-contract");
        assert_eq!(without_hash("my-contract"), "my-contract");
    }
}
