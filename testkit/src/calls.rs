//! Lists of calls in files: written by hand, or recorded from tests, and made again on a [`Kit`].
//!
//! A file of calls has a JSON object in each line; empty lines and those that begin with `#` are left out. The first says what the file is, the
//! others what is done, each in a block of its own:
//!
//! ```text
//! {"calls": 1}
//! {"deploy": "token", "wasm": "token.wasm", "from": "alice", "args": {"supply": "1000000"}, "unmetered": true}
//! {"call": "token.transfer", "from": "alice", "args": {"to": "bob", "amount": "250"}}
//! {"view": "token.balance", "args": ["bob"]}
//! {"transfer": "bob", "from": "alice", "value": "5"}
//! {"advance": 2, "ms": 60000}
//! {"block": [{"call": "token.transfer", "from": "bob", "args": ["alice", "1"]}, {"transfer": "bob", "from": "alice", "value": "5"}]}
//! ```
//!
//! | field | in | means |
//! |---|---|---|
//! | `calls` | the first line | the version of this format: 1. Beside it, as [`Config`] has them: `chain_id`, `time_ms`, `accounts`, an object of balances; and what `program` and `test` reports say the calls are of |
//! | `deploy` | | creates a contract of the code in the file `wasm` (from where the calls are), which is called so from there on |
//! | `call`, `view` | | calls `CONTRACT.METHOD`; the contract by its name or its address |
//! | `transfer` | | sends `value` to an account, by name or address |
//! | `advance` | | makes so many empty blocks; the first so much later, if there is `ms` |
//! | `block` | | makes one block of several transactions |
//! | `from`, `caller` | transactions; `view` | the account that signs, by name; whom a view sees as its caller |
//! | `args` or `input` | `deploy`, `call`, `view` | the arguments in JSON, where accounts and contracts may be written by name; or their bytes in hexadecimal |
//! | `value`, `deposit_limit` | transactions | amounts, as strings: see [`crate::Request`] |
//! | `fuel_limit`, `price`, `tip` | all, transactions | see [`crate::Request`] |
//! | `unmetered`, `scopes`, `sizes` | all | see [`Kit::unmetered`], [`Kit::measure`] and [`Kit::sized`] |

use crate::error::{Error, Result};
use crate::record::Recording;
use crate::request::{Input, Request};
use crate::{Account, Address, Config, DEPOSIT, FUEL, Kit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slackline_executor::{self as executor, Action, SignedTransaction};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Environment variable: the directory that the calls of tests are written into, a file `PROGRAM.TEST.calls` for each [`Kit`] with the
/// codes beside it.
pub const GAS_CALLS: &str = "SLACKLINE_GAS_CALLS";

/// The version of the format.
const VERSION: u32 = 1;

/// Why calls could not be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The first line does not say that it is a file of calls.
    #[error("{} does not begin with {{\"calls\": {VERSION}}}: it is no file of calls, or one of another version", path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// A line says nothing that can be done.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// What a line says was not executed.
    #[error("{}, line {line}: {reason}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Why.
        reason: Box<Error>,
    },
}

/// The first line of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    calls: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accounts: Option<BTreeMap<String, Amount>>,
}

/// What a line does: one of the first six is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    deploy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advance: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wasm: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tip: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deposit_limit: Option<Amount>,
    #[serde(skip_serializing_if = "is_false")]
    unmetered: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sizes: Vec<(String, u64)>,
}

/// In the smallest unit of the currency; a string in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Amount(#[serde(with = "slackline_executor::types::decimal")] u128);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// `value`, unless it is what it would be anyway.
fn other_than<T: PartialEq>(usual: T, value: T) -> Option<T> {
    (value != usual).then_some(value)
}

/// Where what a [`Kit`] does is written down.
#[derive(Debug)]
pub(crate) struct Recorder {
    directory: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Contracts that transactions have deployed, by address.
    names: HashMap<Address, String>,
}

impl Recorder {
    /// What the environment asks for.
    pub(crate) fn from_environment(config: &Config) -> Result<Option<Recorder>> {
        let directory = std::env::var_os(GAS_CALLS).filter(|dir| !dir.is_empty());
        let Some(directory) = directory.map(PathBuf::from) else {
            return Ok(None);
        };
        let (program, test) = crate::record::who();
        let usual = Config::default();
        let header = Header {
            calls: VERSION,
            chain_id: other_than(usual.chain_id, config.chain_id),
            time_ms: other_than(usual.time_ms, config.time_ms),
            accounts: (config.accounts != usual.accounts).then(|| {
                let accounts = config.accounts.iter();
                accounts
                    .map(|(name, balance)| (name.clone(), Amount(*balance)))
                    .collect()
            }),
            program: Some(program.clone()),
            test: Some(test.clone()),
        };
        let failed =
            |error: std::io::Error| Error::Record(format!("{}: {error}", directory.display()));
        fs::create_dir_all(&directory).map_err(failed)?;
        let name = format!("{program}.{}", test.replace("::", "."));
        // A test may make several.
        let mut file = File::create_new(directory.join(format!("{name}.calls")));
        let mut number = 2u32;
        while matches!(&file, Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists) {
            file = File::create_new(directory.join(format!("{name}-{number}.calls")));
            number += 1;
        }
        let open = Mutex::new(Open {
            file: file.map_err(failed)?,
            names: HashMap::new(),
        });
        let recorder = Recorder { directory, open };
        recorder.line(&header)?;
        Ok(Some(recorder))
    }

    fn line(&self, line: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(line).map_err(|error| Error::Record(error.to_string()))?;
        let file = &mut self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .file;
        let written = file.write_all((text + "\n").as_bytes());
        written.map_err(|error| Error::Record(format!("{}: {error}", self.directory.display())))
    }

    /// How a contract is called.
    fn name(&self, contract: Address) -> String {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let name = open.names.get(&contract).cloned();
        name.unwrap_or_else(|| contract.to_string())
    }

    /// The sections that `kit` is in.
    fn entry(kit: &Kit) -> Entry {
        let (scopes, sizes) = kit.sections.names();
        Entry {
            unmetered: !kit.sections.are_metered(),
            scopes,
            sizes,
            ..Entry::default()
        }
    }

    /// A block of transactions was made.
    pub(crate) fn block(
        &self,
        kit: &Kit,
        made: &[(Account, SignedTransaction)],
        receipts: &[executor::Receipt],
    ) -> Result<()> {
        let entries = made.iter().zip(receipts).map(|((from, signed), receipt)| {
            let contract = receipt.contract.map(|contract| Address(contract.0));
            self.transaction(kit, from, &signed.transaction, contract)
        });
        let mut entries = entries.collect::<Result<Vec<_>>>()?;
        match entries.len() {
            1 => self.line(&entries.remove(0)),
            _ => self.line(&Entry {
                block: Some(entries),
                ..Entry::default()
            }),
        }
    }

    fn transaction(
        &self,
        kit: &Kit,
        from: &Account,
        tx: &executor::Transaction,
        deployed: Option<Address>,
    ) -> Result<Entry> {
        let mut entry = Entry {
            from: Some(from.name().to_owned()),
            fuel_limit: other_than(FUEL, tx.fuel_limit),
            price: other_than(1, tx.fuel_price),
            tip: other_than(0, tx.tip),
            deposit_limit: other_than(DEPOSIT, tx.deposit_limit).map(Amount),
            ..Recorder::entry(kit)
        };
        let amount = match &tx.action {
            Action::Transfer { to, amount } => {
                entry.transfer = Some(to.to_string());
                *amount
            }
            Action::Deploy { code, input, value } => {
                let (name, file) = self.code(code, deployed)?;
                entry.deploy = Some(name);
                entry.wasm = Some(file);
                let abi = slackline_abi::Contract::from_wasm(code).ok().flatten();
                entry.input(abi, "init", input);
                *value
            }
            Action::Call {
                contract,
                method,
                input,
                value,
            } => {
                let contract = Address(contract.0);
                entry.call = Some(format!("{}.{method}", self.name(contract)));
                entry.input(kit.abi(contract).ok(), method, input);
                *value
            }
            Action::SetValidators { .. } => 0,
        };
        entry.value = other_than(0, amount).map(Amount);
        Ok(entry)
    }

    /// Writes a code down, unless it is there, and gives its contract a name.
    fn code(&self, code: &[u8], deployed: Option<Address>) -> Result<(String, PathBuf)> {
        let package = match crate::built_as(code) {
            Some((package, _)) => package,
            None => {
                let described = slackline_abi::Contract::from_wasm(code).ok().flatten();
                described.map_or_else(|| "contract".to_owned(), |contract| contract.name)
            }
        };
        let hash = <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(code));
        let file = format!("{package}-{}.wasm", hex::encode(&hash[..4]));
        let path = self.directory.join(&file);
        if !path.exists() {
            // Other tests may be writing the same.
            let temporary = tempfile::NamedTempFile::new_in(&self.directory);
            let written = temporary.and_then(|mut temporary| {
                temporary.write_all(code)?;
                temporary.persist(&path)?;
                Ok(())
            });
            written.map_err(|error| Error::Record(format!("{}: {error}", path.display())))?;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut name = package.clone();
        let mut number = 2u32;
        while open.names.values().any(|known| *known == name) {
            name = format!("{package}-{number}");
            number += 1;
        }
        if let Some(deployed) = deployed {
            open.names.insert(deployed, name.clone());
        }
        Ok((name, file.into()))
    }

    /// A view was made.
    pub(crate) fn view(&self, kit: &Kit, call: &executor::ViewCall) -> Result<()> {
        let contract = Address(call.contract.0);
        let caller = other_than(executor::Address::default(), call.caller);
        let mut entry = Entry {
            view: Some(format!("{}.{}", self.name(contract), call.method)),
            caller: caller.map(|caller| caller.to_string()),
            fuel_limit: other_than(FUEL, call.fuel_limit),
            ..Recorder::entry(kit)
        };
        entry.input(kit.abi(contract).ok(), &call.method, &call.input);
        self.line(&entry)
    }

    /// Empty blocks were made.
    pub(crate) fn advance(&self, blocks: u64, ms: Option<u64>) -> Result<()> {
        self.line(&Entry {
            advance: Some(blocks),
            ms,
            ..Entry::default()
        })
    }
}

impl Entry {
    /// Sets `args` if they say the same as `input`, else that.
    fn input(&mut self, abi: Option<slackline_abi::Contract>, method: &str, input: &[u8]) {
        if input.is_empty() {
            return;
        }
        let args = abi.and_then(|abi| {
            let args = abi.decode_args(method, input).ok()?;
            let again = abi.encode_args(method, &args).ok()?;
            (again == input).then_some(args)
        });
        match args {
            Some(args) => self.args = Some(args),
            None => self.input = Some(hex::encode(input)),
        }
    }
}

/// Makes the calls of a file on a [`Kit`] of its own, and records them. Of deployments that are in `codes` by name, the code is that.
///
/// # Errors
///
/// See [`ReplayError`]. That a call does not succeed is none.
pub fn replay(
    path: &Path,
    codes: &BTreeMap<String, Vec<u8>>,
    recording: Recording,
) -> std::result::Result<(), ReplayError> {
    let text = fs::read_to_string(path).map_err(|source| ReplayError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut lines = text.lines().zip(1..).filter(|(line, _)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let wrong = || ReplayError::Header {
        path: path.to_owned(),
    };
    let (first, line) = lines.next().ok_or_else(wrong)?;
    let known: Value = serde_json::from_str(first).map_err(|_| wrong())?;
    if known.get("calls") != Some(&VERSION.into()) {
        return Err(wrong());
    }
    let at = |line: usize| {
        move |reason: String| ReplayError::Line {
            path: path.to_owned(),
            line,
            reason,
        }
    };
    let header: Header =
        serde_json::from_str(first).map_err(|error| at(line)(error.to_string()))?;
    let mut config = Config::default();
    config.chain_id = header.chain_id.unwrap_or(config.chain_id);
    config.time_ms = header.time_ms.unwrap_or(config.time_ms);
    if let Some(accounts) = header.accounts {
        config.accounts = accounts
            .into_iter()
            .map(|(name, Amount(balance))| (name, balance))
            .collect();
    }
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let program = header.program.unwrap_or_else(|| "calls".to_owned());
    let test = header.test.or(stem).unwrap_or_default();
    let failed = |line: usize| {
        move |reason: Error| ReplayError::Failed {
            path: path.to_owned(),
            line,
            reason: Box::new(reason),
        }
    };
    let recording = Some(recording.of(program, test));
    let kit = Kit::recorded(config, recording, None).map_err(failed(line))?;
    let mut replay = Replay {
        kit: &kit,
        directory: path.parent().unwrap_or(Path::new("")),
        codes,
        contracts: HashMap::new(),
    };
    for (text, line) in lines {
        let entry: Entry =
            serde_json::from_str(text).map_err(|error| at(line)(error.to_string()))?;
        match replay.entry(&entry) {
            Ok(()) => {}
            Err(Stopped::Line(reason)) => return Err(at(line)(reason)),
            Err(Stopped::Kit(reason)) => return Err(failed(line)(reason)),
        }
    }
    Ok(())
}

struct Replay<'a> {
    kit: &'a Kit,
    directory: &'a Path,
    codes: &'a BTreeMap<String, Vec<u8>>,
    /// Those that were deployed, by name.
    contracts: HashMap<String, Address>,
}

/// Why a line was not executed.
enum Stopped {
    Line(String),
    Kit(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Kit(error)
    }
}

impl From<String> for Stopped {
    fn from(reason: String) -> Stopped {
        Stopped::Line(reason)
    }
}

impl<'a> Replay<'a> {
    fn entry(&mut self, entry: &Entry) -> std::result::Result<(), Stopped> {
        let all = entry
            .block
            .as_deref()
            .unwrap_or(std::slice::from_ref(entry));
        if let Some(blocks) = entry.advance {
            let by = entry.ms.map(Duration::from_millis);
            let rest = match by {
                Some(by) => {
                    self.kit.advance_time(by)?;
                    blocks.saturating_sub(1)
                }
                None => blocks,
            };
            return Ok(self.kit.advance_blocks(rest)?);
        }
        let first = all.first().ok_or_else(|| "the block is empty".to_owned())?;
        let kit = self.kit;
        kit.sections
            .within(first.unmetered, &first.scopes, &first.sizes, || {
                if let Some(view) = &entry.view {
                    return self.view(entry, view);
                }
                let requests = all.iter().map(|entry| self.request(entry));
                let requests = requests.collect::<std::result::Result<Vec<_>, _>>()?;
                for (entry, done) in all.iter().zip(kit.block(requests)?) {
                    if let (Some(name), Ok(contract)) = (&entry.deploy, done.contract()) {
                        self.contracts.insert(name.clone(), contract);
                    }
                }
                Ok(())
            })
    }

    fn view(&self, entry: &Entry, called: &str) -> std::result::Result<(), Stopped> {
        let (contract, method) = self.method(called)?;
        let input = self.input(entry, method, || self.kit.abi(contract))?;
        let mut view = self.kit.view(contract, method).input(input);
        if let Some(caller) = &entry.caller {
            view = view.caller(self.address(caller)?);
        }
        let _ = view.fuel(entry.fuel_limit.unwrap_or(FUEL)).send()?;
        Ok(())
    }

    fn request(&self, entry: &Entry) -> std::result::Result<Request<'a>, Stopped> {
        let from = entry.from.as_ref();
        let from = from.ok_or_else(|| "`from` is missing: the account that signs".to_owned())?;
        let from = self.kit.account(from);
        let value = entry.value.map_or(0, |Amount(value)| value);
        let request = match (&entry.deploy, &entry.call, &entry.transfer) {
            (Some(name), None, None) => {
                let code = self.code(entry, name)?;
                let abi = || {
                    let none = Error::NoAbi(Address([0; 32]));
                    slackline_abi::Contract::from_wasm(&code)?.ok_or(none)
                };
                let input = self.input(entry, "init", abi)?;
                self.kit.deploy(&from, &code).input(input)
            }
            (None, Some(called), None) => {
                let (contract, method) = self.method(called)?;
                let input = self.input(entry, method, || self.kit.abi(contract))?;
                self.kit.call(&from, contract, method).input(input)
            }
            (None, None, Some(to)) => self.kit.transfer(&from, self.address(to)?, value),
            _ => {
                let all = "`deploy`, `call`, `view`, `transfer`, `advance` and `block`";
                return Err(Stopped::Line(format!("a line has one of {all}")));
            }
        };
        let deposit = entry.deposit_limit.map_or(DEPOSIT, |Amount(limit)| limit);
        Ok(request
            .value(value)
            .fuel(entry.fuel_limit.unwrap_or(FUEL))
            .price(entry.price.unwrap_or(1))
            .tip(entry.tip.unwrap_or(0))
            .deposit_limit(deposit))
    }

    fn code(&self, entry: &Entry, name: &str) -> std::result::Result<Vec<u8>, Stopped> {
        if let Some(code) = self.codes.get(name) {
            return Ok(code.clone());
        }
        let wasm = entry.wasm.as_ref();
        let wasm = wasm.ok_or_else(|| "`wasm` is missing: the file with the code".to_owned())?;
        let path = self.directory.join(wasm);
        let code = fs::read(&path);
        code.map_err(|error| Stopped::Line(format!("cannot read {}: {error}", path.display())))
    }

    fn input(
        &self,
        entry: &Entry,
        method: &str,
        abi: impl FnOnce() -> Result<slackline_abi::Contract>,
    ) -> std::result::Result<Input, Stopped> {
        match (&entry.args, &entry.input) {
            (Some(_), Some(_)) => Err("`args` and `input` are there: one will do"
                .to_owned()
                .into()),
            (None, None) => Ok(Input::None),
            (None, Some(input)) => {
                let bytes = hex::decode(input);
                let bytes = bytes.map_err(|error| format!("`input` is no hexadecimal: {error}"))?;
                Ok(Input::Borsh(Ok(bytes)))
            }
            (Some(args), None) => {
                let names = |name: &str| Some(self.address(name).ok()?.0);
                let bytes = abi()?.encode_args_with(method, args, &names);
                Ok(Input::Borsh(Ok(bytes.map_err(Error::from)?)))
            }
        }
    }

    fn method<'t>(&self, called: &'t str) -> std::result::Result<(Address, &'t str), Stopped> {
        let (contract, method) = called
            .split_once('.')
            .ok_or_else(|| format!("{called:?} is not CONTRACT.METHOD"))?;
        Ok((self.address(contract)?, method))
    }

    /// Of a contract or an account, by name or as it is.
    fn address(&self, text: &str) -> std::result::Result<Address, String> {
        if let Some(contract) = self.contracts.get(text) {
            return Ok(*contract);
        }
        if let Some(account) = self.kit.named(text) {
            return Ok(Address(account));
        }
        let address = text.parse::<executor::Address>();
        let address = address.map(|address| Address(address.0));
        address.map_err(|_| {
            let mut known: Vec<_> = self.contracts.keys().map(String::as_str).collect();
            known.sort_unstable();
            let known = match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            };
            format!("{text:?} is no account, no address, and no contract that was deployed before: those are {known}")
        })
    }
}
