//! `slackline trace`.

use super::codes::{Codes, Debug};
use super::db::chain;
use super::gas::Exact;
use super::names::Names;
use super::output::{Output, Table, grouped, print, printable};
use super::remote::Remote;
use super::words::{self, Description};
use anyhow::{Context, ensure};
use clap::Args;
use slackline_abi::Contract;
use slackline_executor::sandbox::INIT;
use slackline_executor::trace::{Access, AccessKind, CallEnded, CallTrace, Detail, Step};
use slackline_executor::{Address, Chain, Event, Hash};
use slackline_gas::Profile;
use slackline_node::rpc::types::TraceJson;
use slackline_testkit::record::{Execution, Kind};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// What is shown of a key or of bytes that nobody can decode.
const SHOWN_BYTES: usize = 40;

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The transaction's hash.
    hash: Hash,
    /// Show what each function has used, exactly, instead of the calls. What asks for a file of that asks for it too.
    #[arg(long)]
    profile: bool,
    /// Look into the directory of a node that is not running, instead of asking one.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    exact: Exact,
    #[command(flatten)]
    debug: Debug,
}

impl Trace {
    pub(crate) async fn run(
        self,
        connect: impl FnOnce() -> anyhow::Result<Remote>,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let source = match &self.data_dir {
            Some(dir) => Source::Directory(Box::new(chain(dir)?)),
            None => Source::Node(connect()?),
        };
        if self.profile || self.exact.is_wanted() {
            return self.profiled(&source, output).await;
        }
        let names = source.names().await?;
        let traced = source.trace(self.hash, Detail::Calls).await?;
        if output.is_json() {
            print(&(serde_json::to_string_pretty(&traced)? + "\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let receipt = &traced.receipt;
        let mut table = Table::default();
        table
            .row("transaction", receipt.transaction)
            .row(
                "block",
                format!("{}, index {}", receipt.height, receipt.index),
            )
            .outcome(&receipt.outcome)
            .row("fuel used", grouped(receipt.fuel_used));
        let mut text = table.to_string();
        match &traced.call {
            None => text += "\nIt calls no contract.\n",
            Some(call) => {
                let before = receipt.fuel_used.saturating_sub(call.fuel_used);
                text += &format!("before the call  {} fuel\n\n", grouped(before));
                let mut called = Vec::new();
                contracts(call, &mut called);
                let mut descriptions = BTreeMap::new();
                for contract in called {
                    let description = source.description(&contract).await;
                    let description = description.unwrap_or_else(|error| Err(error.to_string()));
                    descriptions.insert(contract, description);
                }
                let tree = Tree {
                    names: &names,
                    descriptions,
                };
                tree.call(call, 0, &mut text);
            }
        }
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Trace {
    async fn profiled(&self, source: &Source, output: &Output) -> anyhow::Result<ExitCode> {
        let mut codes = Codes::new(&self.debug)?;
        let traced = source.trace(self.hash, Detail::Functions).await?;
        let call = traced
            .call
            .context("it calls no contract: there is nothing to profile")?;
        let mut calls = vec![&call];
        while let Some(call) = calls.pop() {
            ensure!(
                !call.truncated,
                "the node has no room for all that it does: profile it in the directory of a node, with --data-dir"
            );
            calls.extend(call.calls());
            if codes.records.codes.contains_key(&call.code) {
                continue;
            }
            let code = match source.code(call.code).await {
                Ok(code) => code,
                // A deployment that failed has left none.
                Err(_) => source.code(self.hash).await?,
            };
            codes.add(call.code, &code)?;
        }
        codes.check()?;
        let names = codes.records.names();
        let name = names.get(&call.code).cloned().unwrap_or_default();
        let title = format!("{}.{} {}", name, call.method, self.hash);
        let used = traced.receipt.fuel_used;
        codes.records.executions.push(Execution {
            program: String::new(),
            test: String::new(),
            order: 0,
            kind: match call.method == INIT {
                true => Kind::Deploy,
                false => Kind::Call,
            },
            scopes: Vec::new(),
            sizes: Vec::new(),
            contract: Some(call.contract),
            code: Some(call.code),
            method: Some(call.method.clone()),
            args: None,
            fuel_limit: call.fuel_limit,
            fuel_used: used,
            intrinsic: used.saturating_sub(call.fuel_used),
            outcome: String::new(),
            least_limit: None,
            trace: Some(call),
        });
        let profile = Profile::of(&codes.records, |_| true)?;
        let hint = "--debug FILE says where they are";
        self.exact
            .show(&profile, &printable(&title), hint, output)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Where the chain is.
enum Source {
    Node(Remote),
    Directory(Box<Chain>),
}

impl Source {
    async fn names(&self) -> anyhow::Result<Names> {
        Ok(match self {
            Source::Node(remote) => remote.names().await?,
            Source::Directory(chain) => Names::on_chain(chain.genesis().chain_id),
        })
    }

    async fn trace(&self, hash: Hash, detail: Detail) -> anyhow::Result<TraceJson> {
        match self {
            Source::Node(remote) => Ok(match detail {
                Detail::Calls => remote.client().trace(&hash).await?,
                Detail::Functions => remote.client().trace_functions(&hash).await?,
            }),
            Source::Directory(chain) => {
                let traced = chain.trace_transaction(&hash, detail, usize::MAX, &|| true)?;
                let (receipt, call) =
                    traced.context("no block has a transaction with this hash")?;
                Ok(TraceJson {
                    receipt: (&receipt).into(),
                    call,
                })
            }
        }
    }

    async fn description(&self, contract: &Address) -> anyhow::Result<Description> {
        match self {
            Source::Node(remote) => words::of_contract(remote, contract).await,
            Source::Directory(chain) => Ok(match chain.abi(contract)? {
                Some(abi) => Contract::from_json(&abi).map_err(|error| error.to_string()),
                None => Err("the contract has no description".to_owned()),
            }),
        }
    }

    /// The code with a hash, or that of the deployment with it.
    async fn code(&self, hash: Hash) -> anyhow::Result<Vec<u8>> {
        match self {
            Source::Node(remote) => Ok(remote.client().code(&hash).await?),
            Source::Directory(chain) => {
                let code = chain.code(&hash)?;
                code.with_context(|| format!("there is no code with hash {hash}"))
            }
        }
    }
}

/// Those that are called in `call`, each once.
fn contracts(call: &CallTrace, all: &mut Vec<Address>) {
    if !all.contains(&call.contract) {
        all.push(call.contract);
    }
    call.calls().for_each(|call| contracts(call, all));
}

struct Tree<'a> {
    names: &'a Names,
    descriptions: BTreeMap<Address, Description>,
}

impl Tree<'_> {
    fn call(&self, call: &CallTrace, depth: usize, text: &mut String) {
        let known = self.descriptions.get(&call.contract);
        let known = known.and_then(|description| description.as_ref().ok());
        let decoded = |value: Option<serde_json::Value>, bytes: &[u8]| match value {
            Some(value) => printable(&value.to_string()),
            None => shown(bytes),
        };
        let name = known.map_or("", |contract| contract.name.as_str());
        let args = known.and_then(|contract| contract.decode_args(&call.method, &call.input).ok());
        let mut line = format!(
            "{}.{} {}",
            printable(name),
            printable(&call.method),
            decoded(args, &call.input)
        );
        if call.value != 0 {
            line += &format!(", with {}", call.value);
        }
        if call.read_only {
            line += ", read only";
        }
        line += &format!("  of {}", self.names.show(&call.contract));
        push(text, depth, &line);
        let host: Vec<String> = call
            .host
            .iter()
            .map(|(name, host)| format!("{name} {}", grouped(host.fuel)))
            .collect();
        let mut fuel = format!(
            "fuel {}: wasm {}",
            grouped(call.fuel_used),
            grouped(call.wasm_fuel())
        );
        if call.calls().next().is_some() {
            fuel += &format!(", calls {}", grouped(call.callee_fuel()));
        }
        if !host.is_empty() {
            fuel += &format!(", {}", host.join(", "));
        }
        push(text, depth + 1, &fuel);
        for step in &call.steps {
            match step {
                Step::Call(inner) => self.call(inner, depth + 1, text),
                Step::Refused(reason) => {
                    push(
                        text,
                        depth + 1,
                        &format!("call refused: {}", printable(reason)),
                    );
                }
                Step::Event(event) => push(text, depth + 1, &self.event(event)),
                Step::Storage(access) => push(text, depth + 1, &storage(access)),
            }
        }
        let ended = match &call.ended {
            CallEnded::Returned(data) => {
                let value =
                    known.and_then(|contract| contract.decode_result(&call.method, data).ok());
                format!("returned {}", decoded(value, data))
            }
            CallEnded::Reverted(data) => match known {
                Some(contract) => {
                    let error = contract.decode_error(&call.method, data);
                    format!("reverted: {}", printable(&error.to_string()))
                }
                None => format!("reverted: {}", shown(data)),
            },
            CallEnded::Aborted(reason) => format!("aborted: {}", printable(reason)),
        };
        if call.truncated {
            let more = "there was no room for the rest: --data-dir has it";
            push(text, depth + 1, more);
        }
        push(text, depth + 1, &ended);
    }

    fn event(&self, event: &Event) -> String {
        let known = self.descriptions.get(&event.contract);
        let known = known.and_then(|description| description.as_ref().ok());
        let topics: Vec<[u8; 32]> = event.topics.iter().map(|topic| topic.0).collect();
        match known.and_then(|contract| contract.decode_event(&topics, &event.data).ok()) {
            Some(event) => printable(&format!("event {} {}", event.name, event.fields)),
            None => format!("event {}, {} topics", shown(&event.data), topics.len()),
        }
    }
}

fn storage(access: &Access) -> String {
    let what = match access.kind {
        AccessKind::Get => "get",
        AccessKind::Has => "has",
        AccessKind::Set => "set",
        AccessKind::Delete => "delete",
        AccessKind::Next => "next",
    };
    let bytes = match access.value_len {
        Some(bytes) => format!(", {} bytes", grouped(bytes)),
        None => String::new(),
    };
    format!("storage {what} {}{bytes}", shown(&access.key))
}

/// In hexadecimal, not too long.
fn shown(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN_BYTES) {
        Some(first) if bytes.len() > SHOWN_BYTES => {
            format!("0x{}… ({} bytes)", hex::encode(first), bytes.len())
        }
        _ => format!("0x{}", hex::encode(bytes)),
    }
}

fn push(text: &mut String, depth: usize, line: &str) {
    text.extend(std::iter::repeat_n("  ", depth));
    text.push_str(line);
    text.push('\n');
}
