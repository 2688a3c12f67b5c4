//! `slackline trace`.

use super::names::Names;
use super::output::{Output, Table, grouped, print, printable};
use super::remote::Remote;
use super::words::{self, Description};
use clap::Args;
use slackline_executor::trace::{Access, AccessKind, CallEnded, CallTrace, Step};
use slackline_executor::{Address, Event, Hash};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What is shown of a key or of bytes that nobody can decode.
const SHOWN_BYTES: usize = 40;

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The transaction's hash.
    hash: Hash,
}

impl Trace {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let names = remote.names().await?;
        let traced = remote.client().trace(&self.hash).await?;
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
                    let description = words::of_contract(remote, &contract).await;
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
