//! Each door, and what does not get through it: a specific error, and a node that goes on as if nothing had been.

use crate::support::*;
use jsonrpsee::core::client::{ClientT, Error as ClientError};
use jsonrpsee::core::params::{ArrayParams, ObjectParams};
use jsonrpsee::http_client::HttpClient;
use serde_json::{Value, json};
use slackline_executor::{Action, Address, Hash, SignedTransaction};
use slackline_node::config::Rpc;
use slackline_node::dev::{DEV_BALANCE, DEV_CHAIN_ID};
use slackline_node::keys::Key;
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::SubmitStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is wrong with a transaction. Whenever it is one, the answer has its hash.
async fn submit(client: &HttpClient, transaction: String) -> (i32, Value) {
    let bytes = hex::decode(&transaction).unwrap_or_default();
    let answer = client.submit_transaction(transaction, None, None).await;
    if let Ok(signed) = borsh::from_slice::<SignedTransaction>(&bytes) {
        let answer = answer.as_ref().expect("an answer with the hash");
        assert_eq!(
            (answer.status, answer.hash),
            (SubmitStatus::Error, signed.hash())
        );
    }
    not_accepted(answer)
}

/// The chain is where it was, nothing waits, and a transfer of alice with `nonce` goes through.
async fn assert_unharmed(client: &HttpClient, head: Hash, nonce: u64) {
    let status = client.get_status().await.unwrap();
    assert_eq!(
        (status.head, status.mempool.transactions, status.failure),
        (head, 0, None)
    );
    let receipt = execute(client, &transfer(&key("alice"), nonce, address("bob"), 1)).await;
    assert_eq!(receipt.height, status.height + 1);
}

#[tokio::test]
async fn transactions_that_are_none() {
    let (node, client) = node().await;
    let limit = node.chain().params().limits.transaction_bytes;
    let head = client.get_status().await.unwrap().head;
    let good = hex_of(&transfer(&key("alice"), 0, address("bob"), 1));

    for text in ["0g", "012", "é", "0x0x00"] {
        let (code, data) = submit(&client, text.to_owned()).await;
        assert_eq!(
            (code, &data["kind"], &data["parameter"]),
            (-32602, &json!("invalid_params"), &json!("transaction"))
        );
    }
    // Every way to truncate it, in bytes.
    for length in 0..good.len() / 2 {
        let (code, data) = submit(&client, good[..2 * length].to_owned()).await;
        assert_eq!(
            (code, &data["kind"]),
            (1002, &json!("malformed_transaction")),
            "{length}"
        );
    }
    let (code, data) = submit(&client, good.clone() + "00").await;
    assert_eq!(
        (code, &data["kind"]),
        (1002, &json!("malformed_transaction"))
    );
    let (code, data) = submit(&client, "ff".repeat(200)).await;
    assert_eq!(
        (code, &data["kind"]),
        (1002, &json!("malformed_transaction"))
    );
    let refused = submit(&client, "00".repeat(limit + 1)).await;
    let data = json!({"kind": "transaction_too_large", "bytes": limit + 1, "limit": limit});
    assert_eq!(refused, (1001, data));
    let (code, _) = submit(&client, "00".repeat(limit)).await;
    assert_eq!(code, 1002, "the limit itself is allowed");
    // A body over the limit of the listener never reaches the method.
    match client
        .submit_transaction("00".repeat(limit + (64 << 10)), None, None)
        .await
    {
        Err(ClientError::Transport(error)) => assert!(error.to_string().contains("413"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_unharmed(&client, head, 0).await;
    node.stop().await.unwrap();
}

#[tokio::test]
async fn transactions_that_cannot_be_applied() {
    let (node, client) = node().await;
    let limits = node.chain().params().limits.clone();
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let head = client.get_status().await.unwrap().head;
    let good = transfer(&alice, 1, address("bob"), 1).transaction;
    let spoiled = |spoil: &dyn Fn(&mut slackline_executor::Transaction)| {
        let mut bad = good.clone();
        spoil(&mut bad);
        hex_of(&bad.sign(alice.signing()))
    };

    let refused = submit(&client, spoiled(&|t| t.chain_id = 7)).await;
    assert_eq!(
        refused,
        (
            1003,
            json!({"kind": "wrong_chain", "expected": DEV_CHAIN_ID, "got": 7})
        )
    );

    let mut signed = good.clone().sign(alice.signing());
    signed.signature[0] ^= 1;
    assert_eq!(
        submit(&client, hex_of(&signed)).await,
        (1004, json!({"kind": "bad_signature"}))
    );
    let forged = good.clone().sign(key("bob").signing());
    assert_eq!(
        submit(&client, hex_of(&forged)).await,
        (1004, json!({"kind": "bad_signature"}))
    );
    let mut other = good.clone();
    other.action = Action::Transfer {
        to: address("carol"),
        amount: DEV_BALANCE,
    };
    let moved = SignedTransaction {
        transaction: other,
        signature: good.clone().sign(alice.signing()).signature,
    };
    assert_eq!(
        submit(&client, hex_of(&moved)).await,
        (1004, json!({"kind": "bad_signature"}))
    );

    let refused = submit(&client, spoiled(&|t| t.nonce = 0)).await;
    assert_eq!(
        refused,
        (
            1005,
            json!({"kind": "nonce_too_low", "expected": 1, "got": 0})
        )
    );
    let refused = submit(&client, spoiled(&|t| t.nonce = 2)).await;
    assert_eq!(
        refused,
        (
            1006,
            json!({"kind": "nonce_too_high", "expected": 1, "got": 2})
        )
    );
    let (code, _) = submit(&client, spoiled(&|t| t.nonce = u64::MAX)).await;
    assert_eq!(code, 1006);

    let poor = Key::from_seed([42; 32]);
    let unpaid = transfer(&poor, 0, address("bob"), 0);
    let refused = submit(&client, hex_of(&unpaid)).await;
    let data = json!({"kind": "insufficient_balance", "needed": "501000000", "available": "0"});
    assert_eq!(refused, (1007, data));
    for spoil in [
        &(|t: &mut slackline_executor::Transaction| t.fuel_price = u64::MAX)
            as &dyn Fn(&mut slackline_executor::Transaction),
        &|t| {
            t.action = Action::Transfer {
                to: address("bob"),
                amount: DEV_BALANCE,
            }
        },
        &|t| {
            t.action = Action::Transfer {
                to: address("bob"),
                amount: u128::MAX,
            }
        },
        &|t| {
            t.action = Action::Transfer {
                to: alice.address(),
                amount: DEV_BALANCE,
            }
        },
    ] {
        let (code, data) = submit(&client, spoiled(spoil)).await;
        assert_eq!(
            (code, &data["kind"]),
            (1007, &json!("insufficient_balance"))
        );
    }

    let (code, data) = submit(&client, spoiled(&|t| t.fuel_limit = 1)).await;
    assert_eq!(
        (code, &data["kind"], &data["got"]),
        (1008, &json!("fuel_limit_too_low"), &json!(1))
    );
    let most = limits.transaction_fuel;
    let refused = submit(&client, spoiled(&|t| t.fuel_limit = most + 1)).await;
    assert_eq!(
        refused,
        (
            1009,
            json!({"kind": "fuel_limit_too_high", "maximum": most, "got": most + 1})
        )
    );

    let nowhere = Address([7; 32]);
    for not_a_contract in [nowhere, address("bob")] {
        let refused = submit(&client, hex_of(&call(&alice, 1, not_a_contract, "ok", b""))).await;
        assert_eq!(
            refused,
            (
                1010,
                json!({"kind": "no_contract", "contract": not_a_contract})
            )
        );
    }
    for method in ["nope", "", "memory", "init", "OK"] {
        let refused = submit(&client, hex_of(&call(&alice, 1, contract, method, b""))).await;
        let data = json!({"kind": "unknown_method", "contract": contract, "method": method, "available": METHODS});
        assert_eq!(refused, (1011, data));
    }

    let mut truncated = wasm(CONTRACT);
    truncated.truncate(truncated.len() - 1);
    for (what, code) in [
        ("nothing", vec![]),
        ("not wasm", b"#!/bin/sh".to_vec()),
        ("truncated", truncated),
        ("no memory", wasm(r#"(module (func (export "ok")))"#)),
        (
            "no method",
            wasm(r#"(module (memory (export "memory") 1))"#),
        ),
        (
            "unknown module",
            wasm(
                r#"(module (import "env" "abort" (func)) (memory (export "memory") 1) (func (export "ok")))"#,
            ),
        ),
        (
            "unknown function",
            wasm(
                r#"(module (import "slackline_v1" "format_disk" (func))
                    (memory (export "memory") 1) (func (export "ok")))"#,
            ),
        ),
        (
            "known function of another type",
            wasm(
                r#"(module (import "slackline_v1" "caller" (func))
                    (memory (export "memory") 1) (func (export "ok")))"#,
            ),
        ),
        ("too large", vec![0; limits.code.code_bytes + 1]),
    ] {
        let mut bad = deploy(&alice, 1, code).transaction;
        bad.fuel_limit = limits.transaction_fuel;
        let (code, data) = submit(&client, hex_of(&bad.sign(alice.signing()))).await;
        assert_eq!(
            (code, &data["kind"]),
            (1012, &json!("invalid_code")),
            "{what}: {data}"
        );
        assert!(!data["reason"].as_str().unwrap().is_empty());
    }

    assert_unharmed(&client, head, 1).await;
    node.stop().await.unwrap();
}

#[tokio::test]
async fn parameters_that_make_no_sense() {
    let (node, client) = node().await;
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await.to_string();
    let head = client.get_status().await.unwrap().head;
    let limits = node.chain().params().limits.clone();
    let view = |contract: &str, method: &str, input: Option<String>, caller: Option<&str>, fuel| {
        client.call_view(
            contract.to_owned(),
            method.to_owned(),
            input,
            caller.map(str::to_owned),
            fuel,
            None,
        )
    };
    let invalid = |(code, data): (i32, Value), parameter: &str| {
        assert_eq!(
            (code, &data["kind"], &data["parameter"]),
            (-32602, &json!("invalid_params"), &json!(parameter))
        );
    };

    invalid(
        refusal(view("bob", "ok", None, None, None).await),
        "contract",
    );
    invalid(
        refusal(view(&contract, "ok", Some("xy".to_owned()), None, None).await),
        "input",
    );
    invalid(
        refusal(view(&contract, "ok", None, Some("00"), None).await),
        "caller",
    );
    let nowhere = Address([7; 32]);
    let refused = refusal(view(&nowhere.to_string(), "ok", None, None, None).await);
    assert_eq!(
        refused,
        (1010, json!({"kind": "no_contract", "contract": nowhere}))
    );
    for method in ["nope", "init"] {
        let (code, data) = refusal(view(&contract, method, None, None, None).await);
        assert_eq!(
            (code, &data["kind"], &data["available"]),
            (1011, &json!("unknown_method"), &json!(METHODS))
        );
    }
    let most = limits.transaction_fuel;
    let refused = refusal(view(&contract, "ok", None, None, Some(most + 1)).await);
    assert_eq!(
        refused,
        (
            1009,
            json!({"kind": "fuel_limit_too_high", "maximum": most, "got": most + 1})
        )
    );
    let longest = limits.transaction_bytes;
    let refused = refusal(view(&contract, "ok", Some("00".repeat(longest + 1)), None, None).await);
    assert_eq!(
        refused,
        (
            1101,
            json!({"kind": "input_too_large", "bytes": longest + 1, "limit": longest})
        )
    );

    invalid(
        refusal(client.get_account("alice".to_owned(), None).await),
        "address",
    );
    invalid(
        refusal(client.get_transaction("0".repeat(63)).await),
        "hash",
    );
    invalid(refusal(client.get_methods(String::new()).await), "contract");
    invalid(refusal(client.get_abi(String::new()).await), "contract");
    let (code, data) = refusal(client.get_methods(nowhere.to_string()).await);
    assert_eq!((code, &data["kind"]), (1010, &json!("no_contract")));
    let refused = refusal(client.get_block(Some(u64::MAX)).await);
    assert_eq!(
        refused,
        (
            1201,
            json!({"kind": "no_block", "height": u64::MAX, "head": 1})
        )
    );
    let good = hex_of(&transfer(&alice, 1, address("bob"), 1));
    invalid(
        refusal(
            client
                .submit_transaction(good.clone(), None, Some(60_001))
                .await,
        ),
        "timeout_ms",
    );

    // All or none: the first is good, and is not submitted.
    let many = |transactions| client.submit_transactions(transactions, None, None);
    let (other, torn) = (good.clone() + "00", good[..good.len() - 2].to_owned());
    for (transactions, parameter) in [
        (vec![], "transactions"),
        (vec![good.clone(); 101], "transactions"),
        (vec![good.clone(), "0g".to_owned()], "transactions[1]"),
        (vec![good.clone(), good.clone(), other], "transactions[2]"),
        (vec![good.clone(), torn], "transactions[1]"),
    ] {
        invalid(refusal(many(transactions).await), parameter);
    }
    let status = client.get_status().await.unwrap();
    assert_eq!((status.head, status.mempool.transactions), (head, 0));

    // What the library answers for us.
    for (method, params, expected) in [
        ("submit_everything", json!({}), -32601),
        ("submit_transactions", json!({}), -32602),
        ("submit_transaction", json!({}), -32602),
        ("submit_transaction", json!({"transaction": 7}), -32602),
        (
            "submit_transaction",
            json!({"transaction": good, "wait_until": "finally"}),
            -32602,
        ),
        (
            "submit_transaction",
            json!({"transaction": good, "timeout_ms": -1}),
            -32602,
        ),
        ("get_block", json!({"height": "1"}), -32602),
        ("get_account", json!([]), -32602),
    ] {
        let mut named = ObjectParams::new();
        let result: Result<Value, _> = match &params {
            Value::Object(fields) => {
                for (name, value) in fields {
                    named.insert(name, value).unwrap();
                }
                client.request(method, named).await
            }
            _ => client.request(method, ArrayParams::new()).await,
        };
        assert_eq!(refusal(result).0, expected, "{method} {params}");
    }

    assert_unharmed(&client, head, 1).await;
    node.stop().await.unwrap();
}

/// Sends a body as it is and returns the HTTP status line and the JSON of the answer.
async fn post(node: &slackline_node::Node, body: &str) -> (String, Value) {
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        node.address(),
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.lines().next().unwrap().to_owned(),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn requests_that_are_none() {
    let (node, client) = node().await;
    let head = client.get_status().await.unwrap().head;
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("\u{0}", -32700),
        ("[]", -32600),
        ("{}", -32700),
        (r#"{"id":1}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"get_status"}"#, -32600),
    ] {
        let (_, answer) = post(&node, body).await;
        assert_eq!(answer["error"]["code"], code, "{body:?}: {answer}");
    }
    // Deep nesting does not overflow a stack.
    let (_, answer) = post(&node, &"[".repeat(100_000)).await;
    assert_eq!(answer["error"]["code"], -32700, "{answer}");

    let status = r#"{"jsonrpc":"2.0","id":1,"method":"get_status"}"#;
    let batch = |length| format!("[{}]", vec![status; length].join(","));
    let (_, answers) = post(&node, &batch(Rpc::default().max_batch as usize)).await;
    assert_eq!(
        answers.as_array().unwrap().len(),
        Rpc::default().max_batch as usize
    );
    let (_, answer) = post(&node, &batch(Rpc::default().max_batch as usize + 1)).await;
    assert_eq!(answer["error"]["code"], -32010, "{answer}");
    assert_unharmed(&client, head, 0).await;
    node.stop().await.unwrap();
}

#[tokio::test]
async fn requests_beyond_the_limit() {
    let (node, client) = node().await;
    let head = client.get_status().await.unwrap().head;
    let mut slow = Vec::new();
    for _ in 0..Rpc::default().max_connections {
        slow.push(half_a_request(node.address()).await);
    }
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"get_status"}"#;
    let (status, _) = post(&node, body).await;
    assert!(status.contains("429"), "{status}");
    drop(slow);
    // Some time after that the node notices that nobody is there any more.
    while post(&node, body).await.0.contains("429") {}
    assert_unharmed(&client, head, 0).await;
    node.stop().await.unwrap();
}
