//! Nodes, transactions and contracts for tests.

use jsonrpsee::core::client::Error as ClientError;
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use serde_json::Value;
use slackline_executor::{Action, Address, SignedTransaction, Transaction};
use slackline_node::dev::{DEV_CHAIN_ID, dev_key};
use slackline_node::keys::Key;
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{MempoolJson, ReceiptJson, SubmitStatus, Submitted, WaitUntil};
use slackline_node::{Node, NodeConfig};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A contract with one method for each way to end.
pub(crate) const CONTRACT: &str = r#"(module
    (import "slackline_v1" "input_len" (func $input_len (result i32)))
    (import "slackline_v1" "input_read" (func $input_read (param i32)))
    (import "slackline_v1" "return_data" (func $return_data (param i32 i32)))
    (import "slackline_v1" "revert" (func $revert (param i32 i32)))
    (import "slackline_v1" "storage_set" (func $storage_set (param i32 i32 i32 i32)))
    (import "slackline_v1" "storage_get" (func $storage_get (param i32 i32 i32 i32) (result i64)))
    (import "slackline_v1" "emit" (func $emit (param i32 i32 i32 i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "no")
    (data (i32.const 8) "key")
    (func (export "ok")
        (call $input_read (i32.const 64))
        (call $return_data (i32.const 64) (call $input_len)))
    (func (export "put")
        (call $input_read (i32.const 64))
        (call $emit (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 3))
        (call $storage_set (i32.const 8) (i32.const 3) (i32.const 64) (call $input_len)))
    (func (export "get")
        (call $return_data (i32.const 64)
            (i32.wrap_i64 (call $storage_get (i32.const 8) (i32.const 3) (i32.const 64) (i32.const 100)))))
    (func (export "revert") (call $revert (i32.const 0) (i32.const 2)))
    (func (export "put_then_spin")
        (call $storage_set (i32.const 8) (i32.const 3) (i32.const 0) (i32.const 2))
        (loop (br 0)))
    (func (export "spin") (loop (br 0)))
    (func (export "trap") unreachable)
)"#;

/// Methods of [`CONTRACT`], sorted.
pub(crate) const METHODS: [&str; 7] = [
    "get",
    "ok",
    "put",
    "put_then_spin",
    "revert",
    "spin",
    "trap",
];

pub(crate) fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

pub(crate) fn config() -> NodeConfig {
    NodeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..NodeConfig::default()
    }
}

/// A node in a temporary directory.
pub(crate) async fn node() -> (Node, HttpClient) {
    start(config()).await
}

/// A node in `dir`.
pub(crate) async fn node_in(dir: PathBuf) -> (Node, HttpClient) {
    start(NodeConfig {
        data_dir: Some(dir),
        ..config()
    })
    .await
}

async fn start(config: NodeConfig) -> (Node, HttpClient) {
    let node = Node::start(config).await.unwrap();
    let client = client(&node.rpc_url());
    (node, client)
}

pub(crate) fn client(url: &str) -> HttpClient {
    HttpClientBuilder::default()
        .max_request_size(u32::MAX)
        .max_response_size(u32::MAX)
        .build(url)
        .unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    dev_key(name).unwrap()
}

pub(crate) fn address(name: &str) -> Address {
    key(name).address()
}

/// A transaction on the development chain with sensible limits, for tests to spoil.
pub(crate) fn transaction(key: &Key, nonce: u64, action: Action) -> Transaction {
    Transaction {
        chain_id: DEV_CHAIN_ID,
        sender: key.public(),
        nonce,
        fuel_limit: 50_000_000,
        // Also after a block that was full.
        fuel_price: 10,
        tip: 0,
        deposit_limit: 1_000_000,
        action,
    }
}

pub(crate) fn transfer(key: &Key, nonce: u64, to: Address, amount: u128) -> SignedTransaction {
    transaction(key, nonce, Action::Transfer { to, amount }).sign(key.signing())
}

pub(crate) fn call(
    key: &Key,
    nonce: u64,
    contract: Address,
    method: &str,
    input: &[u8],
) -> SignedTransaction {
    let action = Action::Call {
        contract,
        method: method.to_owned(),
        input: input.to_vec(),
        value: 0,
    };
    transaction(key, nonce, action).sign(key.signing())
}

pub(crate) fn deploy(key: &Key, nonce: u64, code: Vec<u8>) -> SignedTransaction {
    transaction(
        key,
        nonce,
        Action::Deploy {
            code,
            input: vec![],
            value: 0,
        },
    )
    .sign(key.signing())
}

pub(crate) fn hex_of(transaction: &SignedTransaction) -> String {
    hex::encode(borsh::to_vec(transaction).unwrap())
}

/// Submits and waits for the receipt.
pub(crate) async fn execute(client: &HttpClient, transaction: &SignedTransaction) -> ReceiptJson {
    let answer = client
        .submit_transaction(hex_of(transaction), Some(WaitUntil::Included), None)
        .await
        .unwrap();
    assert_eq!(answer.status, SubmitStatus::Included);
    assert_eq!(answer.hash, transaction.hash());
    answer.receipt.unwrap()
}

/// Deploys [`CONTRACT`].
pub(crate) async fn deployed(client: &HttpClient, key: &Key, nonce: u64) -> Address {
    execute(client, &deploy(key, nonce, wasm(CONTRACT)))
        .await
        .contract
        .unwrap()
}

/// Code and data of an error that a node sent.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (i32, Value) {
    match result {
        Err(ClientError::Call(object)) => {
            let data = object.data().map_or(Value::Null, |data| {
                serde_json::from_str(data.get()).unwrap()
            });
            (object.code(), data)
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// Code and data of the error of a transaction that was refused.
pub(crate) fn not_accepted(answer: Result<Submitted, ClientError>) -> (i32, Value) {
    match answer {
        Ok(Submitted {
            error: Some(error), ..
        }) => (error.code, serde_json::to_value(&error.data).unwrap()),
        other => refusal(other),
    }
}

/// A call of `spin` that keeps the producer busy for about a second.
pub(crate) fn slow(key: &Key, nonce: u64, contract: Address) -> SignedTransaction {
    let mut slow = call(key, nonce, contract, "spin", b"").transaction;
    slow.fuel_limit = 2_000_000_000;
    slow.sign(key.signing())
}

/// Asks the node until its mempool is as wanted.
pub(crate) async fn until_mempool(client: &HttpClient, wanted: impl Fn(MempoolJson) -> bool) {
    let asking = async { while !wanted(client.get_status().await.unwrap().mempool) {} };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .expect("the mempool gets there");
}

/// A request of which the node has seen the head, and waits for the body.
pub(crate) async fn half_a_request(node: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(node).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {node}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The node has begun with the request when it asks for the body.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}
