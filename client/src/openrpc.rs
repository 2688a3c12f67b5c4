//! The methods as an [OpenRPC](https://spec.open-rpc.org) document: `docs/openrpc.json`, and what `rpc.discover` answers.
//!
//! Made of the doc comments of [`api`](crate::api), the table of [`error`](crate::error), the schemas of [`types`](crate::types) in `schemas.json`,
//! and the table below. Tests compare all of it with what a node takes and answers.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The method that answers with this document.
pub const DISCOVER: &str = "rpc.discover";

/// A JSON type, or the name of a schema.
type Schema = &'static str;

/// A parameter: its name, whether it has to be there, its type.
type Param = (&'static str, bool, Schema);

struct Method {
    name: &'static str,
    params: &'static [Param],
    result: Schema,
    /// Of a subscription: the method of its messages, their type, and the method that ends it.
    messages: Option<(&'static str, Schema, &'static str)>,
    /// Kinds of errors besides those that any method may have.
    errors: &'static [&'static [&'static str]],
}

/// Kinds of errors of any method: a limit was reached.
const ALWAYS: &[&str] = &["try_again_later"];
const PARAMS: &[&str] = &["invalid_params"];
const HISTORY: &[&str] = &["no_block", "pruned", "storage"];
/// What is executed elsewhere may not be.
const EXECUTION: &[&str] = &["node_stopping", "storage", "internal"];
const NO_TRANSACTION: &[&str] = &["transaction_too_large", "malformed_transaction"];
const TRANSACTION: &[&str] = &[
    "wrong_chain",
    "bad_signature",
    "nonce_too_low",
    "nonce_too_high",
    "insufficient_balance",
    "fuel_limit_too_low",
    "fuel_limit_too_high",
    "fuel_price_too_low",
    "no_contract",
    "unknown_method",
    "invalid_code",
    "refused",
];
/// What may become of one that waits.
const WAITING: &[&str] = &[
    "replacement_underpriced",
    "replaced",
    "evicted",
    "expired",
    "try_again_later",
    "node_failed",
];

fn schema(of: Schema) -> Value {
    match of {
        "any" => json!(true),
        "string" | "boolean" => json!({ "type": of }),
        "integer" => json!({ "type": of, "minimum": 0 }),
        "strings" => json!({ "type": "array", "items": schema("string") }),
        "submitted" => json!({ "type": "array", "items": schema("Submitted") }),
        "validators" => json!({ "type": "array", "items": schema("Validator") }),
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

const HEIGHT: Param = ("height", false, "integer");
const CONTRACT: Param = ("contract", true, "Address");
const SUBSCRIPTION: Param = ("subscription", true, "any");

const fn method(
    name: &'static str,
    params: &'static [Param],
    result: Schema,
    errors: &'static [&'static [&'static str]],
) -> Method {
    Method {
        name,
        params,
        result,
        messages: None,
        errors,
    }
}

const fn subscription(
    name: &'static str,
    params: &'static [Param],
    messages: (&'static str, Schema, &'static str),
) -> Method {
    Method {
        name,
        params,
        result: "any",
        messages: Some(messages),
        errors: &[PARAMS],
    }
}

const METHODS: &[Method] = &[
    method(
        "submit_transaction",
        &[
            ("transaction", true, "string"),
            ("wait_until", false, "WaitUntil"),
            ("timeout_ms", false, "integer"),
        ],
        "Submitted",
        &[PARAMS, NO_TRANSACTION],
    ),
    method(
        "submit_transactions",
        &[
            ("transactions", true, "strings"),
            ("wait_until", false, "WaitUntil"),
            ("timeout_ms", false, "integer"),
        ],
        "submitted",
        &[PARAMS],
    ),
    method(
        "get_transaction",
        &[("hash", true, "Hash")],
        "TransactionAnswer",
        &[PARAMS, &["storage"]],
    ),
    method(
        "simulate_transaction",
        &[
            ("transaction", true, "string"),
            ("trace", false, "boolean"),
            ("functions", false, "boolean"),
        ],
        "SimulationJson",
        &[PARAMS, NO_TRANSACTION, TRANSACTION, EXECUTION],
    ),
    method(
        "get_account",
        &[("address", true, "Address"), HEIGHT],
        "AccountJson",
        &[PARAMS, HISTORY],
    ),
    method(
        "get_events",
        &[
            CONTRACT,
            ("topic", false, "Hash"),
            ("from_height", false, "integer"),
            ("to_height", false, "integer"),
            ("after", false, "string"),
            ("limit", false, "integer"),
        ],
        "EventsJson",
        &[PARAMS, &["storage"]],
    ),
    method(
        "call_view",
        &[
            CONTRACT,
            ("method", true, "string"),
            ("input", false, "string"),
            ("caller", false, "Address"),
            ("fuel_limit", false, "integer"),
            HEIGHT,
        ],
        "ViewJson",
        &[
            PARAMS,
            &[
                "no_contract",
                "unknown_method",
                "fuel_limit_too_high",
                "input_too_large",
                "refused",
            ],
            HISTORY,
            EXECUTION,
        ],
    ),
    method(
        "get_block",
        &[HEIGHT],
        "BlockJson",
        &[&["no_block", "storage"]],
    ),
    method("get_validators", &[HEIGHT], "validators", &[HISTORY]),
    method(
        "get_proof",
        &[("key", true, "string"), HEIGHT],
        "StateAnswer",
        &[PARAMS, HISTORY],
    ),
    method(
        "trace_transaction",
        &[("hash", true, "Hash"), ("functions", false, "boolean")],
        "TraceJson",
        &[PARAMS, HISTORY, EXECUTION],
    ),
    method(
        "profile_node",
        &[
            ("seconds", true, "integer"),
            ("interval_us", false, "integer"),
        ],
        "SamplesJson",
        &[PARAMS, &["node_stopping", "internal", "no_samples"]],
    ),
    method(
        "get_code",
        &[("hash", true, "Hash")],
        "CodeJson",
        &[PARAMS, &["no_code", "storage"]],
    ),
    method(
        "get_methods",
        &[CONTRACT],
        "MethodsJson",
        &[PARAMS, &["no_contract", "storage", "internal"]],
    ),
    method(
        "get_abi",
        &[CONTRACT],
        "AbiJson",
        &[PARAMS, &["no_contract", "storage", "internal"]],
    ),
    subscription(
        "subscribe_blocks",
        &[],
        ("block", "BlockNewsJson", "unsubscribe_blocks"),
    ),
    subscription(
        "subscribe_receipts",
        &[("account", true, "Address")],
        ("receipt", "ReceiptJson", "unsubscribe_receipts"),
    ),
    subscription(
        "subscribe_events",
        &[CONTRACT, ("topic", false, "Hash")],
        ("event", "FoundEventJson", "unsubscribe_events"),
    ),
    method("get_status", &[], "StatusJson", &[]),
    method(DISCOVER, &[], "any", &[]),
];

/// The static name of a method, if there is one of that name.
pub fn method_name(name: &str) -> Option<&'static str> {
    METHODS.iter().find_map(|method| {
        let ends = method.messages.map(|(_, _, ends)| ends);
        [Some(method.name), ends]
            .into_iter()
            .flatten()
            .find(|known| *known == name)
    })
}

/// Whether the document says that `method` may answer with the error `code`. What the JSON-RPC library answers by itself it may always.
pub fn documents(method: &str, code: i32) -> bool {
    let kinds = METHODS.iter().find(|each| each.name == method);
    let kinds = kinds.into_iter().flat_map(|each| each.errors);
    let mut kinds = kinds.chain([&ALWAYS]).copied().flatten();
    let of_library = (-32_768..=-32_000).contains(&code);
    let known = errors();
    of_library || kinds.any(|kind| known.get(kind).is_some_and(|(known, _)| *known == code))
}

/// Code and meaning of each kind of error: the rows of the table in the documentation of [`error`](crate::error).
fn errors() -> BTreeMap<&'static str, (i32, &'static str)> {
    let rows = include_str!("error.rs").lines();
    let rows = rows.filter_map(|line| {
        let mut cells = line.strip_prefix("//! | ")?.split(" | ");
        let code = cells.next()?.parse().ok()?;
        let kind = cells.next()?.trim_matches('`');
        let meaning = cells
            .last()?
            .trim_start_matches("| ")
            .trim_end_matches(" |");
        Some((kind, (code, meaning)))
    });
    rows.collect()
}

/// The doc comment of each method in `api.rs`.
fn descriptions() -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    let mut text = String::new();
    for line in include_str!("api.rs").lines().map(str::trim) {
        if let Some(line) = line.strip_prefix("///") {
            text += line.strip_prefix(' ').unwrap_or("\n\n");
            text.push(' ');
        } else if let Some((_, rest)) = line.split_once("name = \"") {
            let name = rest.split('"').next().unwrap_or_default();
            found.insert(name, text.trim().replace(" \n\n", "\n\n").to_owned());
        } else if ["fn ", "const ", "trait "]
            .iter()
            .any(|item| line.contains(item))
        {
            text.clear();
        }
    }
    found
}

/// The document.
pub fn document() -> Value {
    let mut descriptions = descriptions();
    descriptions.insert(DISCOVER, "This document.".to_owned());
    let described = |name: &str| descriptions.get(name).cloned().unwrap_or_default();
    let mut methods = Vec::new();
    for method in METHODS {
        let mut params = Vec::new();
        for (name, required, of) in method.params {
            params.push(json!({ "name": name, "required": required, "schema": schema(of) }));
        }
        let kinds = method.errors.iter().chain([&ALWAYS]).copied().flatten();
        let errors: Vec<Value> = kinds
            .map(|kind| json!({ "$ref": format!("#/components/errors/{kind}") }))
            .collect();
        let mut about = json!({
            "name": method.name,
            "description": described(method.name),
            "paramStructure": "either",
            "params": params,
            "result": { "name": "result", "schema": schema(method.result) },
            "errors": errors,
        });
        if method.name.starts_with("submit_") {
            let kinds = [TRANSACTION, WAITING, EXECUTION].concat();
            about["x-errors-in-result"] = json!(kinds);
        }
        if let Some((name, of, ends)) = method.messages {
            about["x-subscription"] = json!({
                "notification": name, "schema": schema(of), "unsubscribe": ends,
            });
            methods.push(about);
            let (name, required, of) = SUBSCRIPTION;
            methods.push(json!({
                "name": ends,
                "description": format!("Ends what `{}` began, by its answer.", method.name),
                "paramStructure": "by-position",
                "params": [{ "name": name, "required": required, "schema": schema(of) }],
                "result": { "name": "result", "schema": schema("boolean") },
                "errors": [{ "$ref": format!("#/components/errors/{}", ALWAYS[0]) }],
            }));
        } else {
            methods.push(about);
        }
    }
    // It is part of the program: a test reads it.
    let schemas: Value = serde_json::from_str(include_str!("schemas.json")).unwrap_or_default();
    let errors: Map<String, Value> = errors()
        .into_iter()
        .map(|(kind, (code, meaning))| {
            let error = json!({ "code": code, "message": meaning, "data": { "kind": kind } });
            (kind.to_owned(), error)
        })
        .collect();
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "Slackline",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "JSON-RPC 2.0 over HTTP and WebSocket on one port. `data` of an error is as the schema RpcError says, with amounts as decimal \
                strings. Subscriptions need a WebSocket: their messages are notifications with `params.result` as x-subscription says.",
            "license": { "name": "Apache-2.0" },
        },
        "methods": methods,
        "components": { "schemas": schemas, "errors": errors },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BLESS=1 cargo nextest run -p slackline-client` writes it.
    #[test]
    fn the_document_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openrpc.json");
        let made = serde_json::to_string_pretty(&document()).expect("JSON") + "\n";
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &made).expect("written");
        }
        let kept = std::fs::read_to_string(path).expect("docs/openrpc.json");
        assert!(
            kept == made,
            "docs/openrpc.json is not what the code says: BLESS=1 cargo nextest run -p slackline-client"
        );
    }

    /// What `api.rs` declares is what the macro registers.
    #[test]
    fn every_method_is_in_the_document_and_no_other() {
        let declared = |field: &'static str| {
            let parts = include_str!("api.rs").split(field).skip(1);
            parts.filter_map(|rest| rest.split('"').next())
        };
        let mut declared: Vec<&str> = declared("name = \"")
            .chain(declared("unsubscribe = \""))
            .chain([DISCOVER])
            .collect();
        declared.sort_unstable();
        let document = document();
        let methods = document["methods"].as_array().expect("an array");
        let mut documented: Vec<&str> = methods
            .iter()
            .flat_map(|each| each["name"].as_str())
            .collect();
        documented.sort_unstable();
        assert_eq!(documented, declared);
        assert!(declared.iter().all(|name| method_name(name) == Some(name)));
    }

    #[test]
    fn everything_that_is_referred_to_is_there() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        match value.as_str().filter(|_| name == "$ref") {
                            Some(reference) => found.push(reference.to_owned()),
                            None => references(value, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100, "{}", found.len());
        for reference in found {
            let path = reference.trim_start_matches('#');
            assert!(document.pointer(path).is_some(), "{reference}");
        }
        for method in document["methods"].as_array().expect("an array") {
            assert_ne!(method["description"], "", "{}", method["name"]);
        }
        let kinds = [TRANSACTION, WAITING, EXECUTION].concat();
        let known = errors();
        assert!(kinds.iter().all(|kind| known.contains_key(kind)));
        assert!(documents("get_block", 1201) && !documents("get_block", 1010));
    }

    /// Also of those that answers seldom have.
    #[test]
    fn every_field_of_a_struct_is_in_its_schema() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let (mut of, mut checked) = (None, 0);
        let (mut said, mut renamed, mut flat) = (String::new(), None, false);
        for line in include_str!("types.rs").lines() {
            let text = line.trim();
            if let Some(doc) = text.strip_prefix("///") {
                said += doc;
            } else if text.starts_with("#[") {
                flat |= text.contains("flatten");
                let name = text.split_once("rename = \"");
                renamed = renamed.or(name.and_then(|(_, rest)| rest.split('"').next()));
            } else {
                if let Some(rest) = line.strip_prefix("pub struct ") {
                    let name = rest.split(|c: char| !c.is_alphanumeric()).next();
                    of = name.filter(|name| schemas[name]["properties"].is_object());
                } else if line == "}" {
                    of = None;
                } else if let Some(of) = of.filter(|_| !flat)
                    && let Some((field, _)) = line
                        .strip_prefix("    pub ")
                        .and_then(|rest| rest.split_once(": "))
                {
                    let field = renamed.unwrap_or(field);
                    let description = &schemas[of]["properties"][field]["description"];
                    assert_eq!(description.as_str(), Some(said.trim()), "{of}.{field}");
                    checked += 1;
                }
                said.clear();
                (renamed, flat) = (None, false);
            }
        }
        assert!(checked > 100, "{checked}");
    }
}
