//! Calls in the words of contracts' descriptions: arguments from JSON; results, errors and events as JSON.
//!
//! A description is written by whoever deployed the contract, so nothing but what is shown depends on it, and where it does not fit
//! the bytes are shown instead.

use super::names::Names;
use super::output::{Table, printable};
use super::remote::Remote;
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use slackline_abi::{Contract, EncodeError, Revert};
use slackline_executor::Address;
use slackline_node::args::{self, AddressBook, ReturnType};
use slackline_node::rpc::types::{EventJson, OutcomeJson, OutcomeKind, ReceiptJson};
use std::collections::BTreeMap;

/// Most contracts whose descriptions are asked for to show the events of one transaction.
const MAX_EMITTERS: usize = 16;

/// A contract's description, or why there is none.
pub(super) type Description = Result<Contract, String>;

/// The description of a contract on the chain.
pub(super) async fn of_contract(
    remote: &Remote,
    contract: &Address,
) -> anyhow::Result<Description> {
    let answer = remote.client().abi(contract).await?;
    Ok(match answer.abi {
        Some(abi) => {
            Contract::from_json(abi.to_string().as_bytes()).map_err(|error| error.to_string())
        }
        None => Err("the contract has no description".to_owned()),
    })
}

/// The description in a contract's code.
pub(super) fn of_code(code: &[u8]) -> Description {
    match Contract::from_wasm(code) {
        Ok(Some(contract)) => Ok(contract),
        Ok(None) => Err("the contract has no description".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The arguments of a method.
#[derive(Debug, Args)]
pub(super) struct MethodArgs {
    /// The arguments: an object by their names, as in '{"to": "bob", "amount": "5"}', or an array in their order. Whole numbers of
    /// 64 bits and more are better written as strings; accounts may be called by name. For contracts that describe themselves
    /// (`slackline abi`).
    #[arg(value_name = "JSON", conflicts_with = "args")]
    json_args: Option<String>,
    /// For other contracts, an argument, in order: address:bob, u64:1000, i64:-1, bool:true, str:text, bytes:00ff, none, some:u8:1, …
    #[arg(long = "arg", value_name = "TYPE:VALUE", allow_hyphen_values = true)]
    args: Vec<String>,
}

impl MethodArgs {
    /// The input of `method`.
    pub(super) fn encode(
        &self,
        method: &str,
        description: &Description,
        names: &Names,
    ) -> anyhow::Result<Vec<u8>> {
        match &self.json_args {
            Some(text) => encode_json(text, method, description, names),
            None if self.args.is_empty() => {
                let described = description.as_ref().ok();
                match described.and_then(|contract| contract.method(method)) {
                    Some(described) if !described.args.is_empty() => {
                        bail!("{described} needs arguments: {}", example(described))
                    }
                    _ => Ok(Vec::new()),
                }
            }
            None => Ok(args::encode(&self.args, names)?),
        }
    }
}

/// The input that `text` says, which should be JSON.
pub(super) fn encode_json(
    text: &str,
    method: &str,
    description: &Description,
    names: &Names,
) -> anyhow::Result<Vec<u8>> {
    let json: Value = serde_json::from_str(text)
        .with_context(|| format!("the arguments are not JSON: {}", printable(text)))?;
    let contract = match description {
        Ok(contract) => contract,
        Err(reason) => bail!("JSON cannot be used: {reason}; give the arguments with --arg"),
    };
    let name = |name: &str| names.address(name).ok().map(|address| address.0);
    match contract.encode_args_with(method, &json, &name) {
        Ok(input) => Ok(input),
        Err(error @ EncodeError::NoMethod(_)) if method == "init" => {
            // Code without `init` is deployed without arguments.
            match &json {
                Value::Array(array) if array.is_empty() => Ok(Vec::new()),
                Value::Object(object) if object.is_empty() => Ok(Vec::new()),
                _ => Err(error.into()),
            }
        }
        Err(error @ EncodeError::NoMethod(_)) => {
            let methods: Vec<_> = contract.methods.iter().map(|m| m.name.as_str()).collect();
            bail!("{error}; it has: {}", printable(&methods.join(", ")))
        }
        Err(error) => match contract.method(method) {
            Some(method) => bail!("{}\n(in {method})", printable(&error.to_string())),
            None => Err(error.into()),
        },
    }
}

/// How a method's arguments may be written.
fn example(method: &slackline_abi::Method) -> String {
    let args = method.args.iter();
    let args: Vec<_> = args.map(|arg| format!("{:?}: …", arg.name)).collect();
    format!("'{{{}}}'", printable(&args.join(", ")))
}

/// What is known of a call and of the events that it led to.
#[derive(Default)]
pub(super) struct Words {
    /// The contract that was called, and its method.
    called: Option<(Contract, String)>,
    /// By address.
    emitters: BTreeMap<Address, Contract>,
    /// The type of the result, if the user has said it.
    returns: Option<ReturnType>,
}

impl Words {
    pub(super) fn new(
        description: Description,
        method: &str,
        returns: Option<ReturnType>,
    ) -> Words {
        Words {
            called: description
                .ok()
                .map(|contract| (contract, method.to_owned())),
            returns,
            ..Words::default()
        }
    }

    /// Asks for the descriptions of those who emitted events. Where there is none, the bytes must do.
    pub(super) async fn learn(&mut self, remote: &Remote, receipt: &ReceiptJson) {
        for event in &receipt.events {
            if self.emitters.len() < MAX_EMITTERS
                && !self.emitters.contains_key(&event.contract)
                && let Ok(Ok(contract)) = of_contract(remote, &event.contract).await
            {
                self.emitters.insert(event.contract, contract);
            }
        }
    }

    /// Asks for the description of who emits events.
    pub(super) async fn learn_of(&mut self, remote: &Remote, contract: &Address) {
        if let Ok(Ok(description)) = of_contract(remote, contract).await {
            self.emitters.insert(*contract, description);
        }
    }

    /// Adds how an execution ended, and what it returned, if anything.
    pub(super) fn show_outcome(&self, table: &mut Table, outcome: &OutcomeJson, names: &Names) {
        match self.error(outcome) {
            Some(error) => {
                let error = printable(&error.to_string());
                table.row("outcome", format!("reverted: {error}"))
            }
            None => table.outcome(outcome),
        };
        if outcome.outcome != OutcomeKind::Success {
            return;
        }
        let data = &outcome.data;
        match &self.returns {
            Some(returns) => match returns.decode(&data.0, names) {
                Ok(value) => table.row("returned", printable(&value)),
                Err(error) => table.row("returned", format!("0x{data} ({error})")),
            },
            None if data.0.is_empty() => return,
            None => match self.returned(outcome) {
                Some(value) => table.row("returned", printable(&value.to_string())),
                None => table.row("returned", format!("0x{data}")),
            },
        };
    }

    /// Adds events: a name and fields, or topics and data.
    pub(super) fn show_events(&self, table: &mut Table, events: &[EventJson]) {
        for (event, index) in events.iter().zip(0..) {
            let label = if index == 0 { "events" } else { "" };
            table.row(
                label,
                format!("of {}: {}", event.contract, self.show_event(event)),
            );
        }
    }

    /// A name and fields, or topics and data.
    pub(super) fn show_event(&self, event: &EventJson) -> String {
        match self.event(event) {
            Some((name, fields)) => printable(&format!("{name} {fields}")),
            None => {
                let topics: Vec<String> = event.topics.iter().map(ToString::to_string).collect();
                format!("0x{} [{}]", event.data, topics.join(", "))
            }
        }
    }

    /// For programs: null if it is not described.
    pub(super) fn named(&self, event: &EventJson) -> Value {
        match self.event(event) {
            Some((name, fields)) => json!({"name": name, "fields": fields}),
            None => Value::Null,
        }
    }

    /// For programs; `None` if nothing is known.
    pub(super) fn decoded(&self, outcome: &OutcomeJson, events: &[EventJson]) -> Option<Value> {
        if self.called.is_none() && self.emitters.is_empty() {
            return None;
        }
        let mut decoded = json!({});
        if let Some(value) = self.returned(outcome) {
            decoded["returned"] = value;
        }
        if let Some(Revert::Error { value, doc }) = self.error(outcome) {
            decoded["error"] = value;
            decoded["error_doc"] = doc.into();
        }
        decoded["events"] = events.iter().map(|event| self.named(event)).collect();
        Some(decoded)
    }

    fn returned(&self, outcome: &OutcomeJson) -> Option<Value> {
        let (contract, method) = self.called.as_ref()?;
        match outcome.outcome {
            OutcomeKind::Success => contract.decode_result(method, &outcome.data.0).ok(),
            OutcomeKind::Revert | OutcomeKind::Abort => None,
        }
    }

    /// Only if it is one that the method returns: text is in the outcome.
    fn error(&self, outcome: &OutcomeJson) -> Option<Revert> {
        let (contract, method) = self.called.as_ref()?;
        if outcome.outcome != OutcomeKind::Revert {
            return None;
        }
        match contract.decode_error(method, &outcome.data.0) {
            error @ Revert::Error { .. } => Some(error),
            Revert::Text(_) | Revert::Bytes(_) => None,
        }
    }

    fn event(&self, event: &EventJson) -> Option<(String, Value)> {
        let topics: Vec<[u8; 32]> = event.topics.iter().map(|topic| topic.0).collect();
        let contract = self.emitters.get(&event.contract)?;
        let decoded = contract.decode_event(&topics, &event.data.0).ok()?;
        Some((decoded.name, decoded.fields))
    }

    /// The arguments in an input.
    pub(super) fn args(&self, input: &[u8]) -> Option<Value> {
        let (contract, method) = self.called.as_ref()?;
        contract.decode_args(method, input).ok()
    }
}

/// An answer of the node's with what is known of it.
#[derive(Serialize)]
pub(super) struct WithWords<'a, T> {
    #[serde(flatten)]
    pub(super) answer: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decoded: Option<Value>,
}
