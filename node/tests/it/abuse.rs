//! Clients that mean harm, with real sockets. Each time the oracle is a well-behaved client: its transactions get into blocks while the others are at
//! it, and after that.

use crate::process::Dev;
use crate::support::*;
use crate::testnet::{Testnet, ask, sent};
use serde_json::{Value, json};
use slackline_node::config::Rpc;
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{OutcomeKind, WaitUntil};
use slackline_node::{Node, NodeConfig};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const STATUS: &str = r#"{"jsonrpc":"2.0","id":1,"method":"get_status"}"#;

/// Soon gives up on who is slow.
fn impatient() -> Rpc {
    Rpc {
        timeout_ms: 2_000,
        ..Rpc::default()
    }
}

async fn node_with(rpc: Rpc) -> Node {
    Node::start(NodeConfig { rpc, ..config() }).await.unwrap()
}

/// A well-behaved client: it pays `count` times. Each time on a new connection, as the node may be about to close one that is idle.
async fn pay(node: &Node, nonce: &mut u64, count: u64) {
    for _ in 0..count {
        let client = client(&node.rpc_url());
        let receipt = execute(&client, &transfer(&key("alice"), *nonce, address("bob"), 1)).await;
        assert_eq!(receipt.outcome.outcome, OutcomeKind::Success);
        *nonce += 1;
    }
}

/// A connection from another address than that of the well-behaved.
async fn connect(node: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from = Ipv4Addr::new(127, 0, 0, 2);
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(node).await.unwrap()
}

fn post(length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// What the node says until it closes the connection.
async fn last_words(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is as good.
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// A WebSocket session, by hand: a library would read.
async fn session(node: SocketAddr) -> TcpStream {
    let mut stream = connect(node).await;
    let hello = "GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{head:?}");
    stream
}

/// A text message of a client, with a mask of zeros.
fn message(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// Reads until `text` was there `count` times.
async fn until(stream: &mut TcpStream, text: &str, count: usize) {
    let mut seen = Vec::new();
    while String::from_utf8_lossy(&seen).matches(text).count() < count {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0, "closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_connections_are_few_and_end() {
    let node = node_with(Rpc {
        max_sockets_per_ip: 40,
        timeout_ms: 5_000,
        ..Rpc::default()
    })
    .await;
    let mut nonce = 0;
    pay(&node, &mut nonce, 1).await;
    let mut slow = Vec::new();
    for n in 0..40 {
        let mut stream = connect(node.address()).await;
        // Nothing, half of a head, half of a body.
        let said = match n % 3 {
            0 => String::new(),
            1 => "POST / HTTP/1.1\r\nHost: no".to_owned(),
            _ => post(100) + "{",
        };
        stream.write_all(said.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // No more from there, and it is said.
    let refused = last_words(&mut connect(node.address()).await).await;
    assert!(refused.contains(" 503 "), "{refused:?}");
    pay(&node, &mut nonce, 3).await;
    // The node ends them all by itself; the test waits for as long as that takes.
    for mut stream in slow {
        last_words(&mut stream).await;
    }
    let mut again = connect(node.address()).await;
    again
        .write_all((post(STATUS.len()) + STATUS).as_bytes())
        .await
        .unwrap();
    until(&mut again, "\"result\"", 1).await;
    pay(&node, &mut nonce, 1).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_messages_may_be_endless_or_nonsense() {
    let node = node_with(Rpc::default()).await;
    let mut nonce = 0;
    // A length that is too much, and a body that goes on and on.
    let mut long = connect(node.address()).await;
    long.write_all(post(1 << 31).as_bytes()).await.unwrap();
    let said = last_words(&mut long).await;
    assert!(said.contains(" 413 "), "{said:?}");
    // What is a little too much is refused too, and who sends all of it before reading gets to know.
    let bytes = 2 * node.chain().params().limits.transaction_bytes + (12 << 20);
    let mut much = connect(node.address()).await;
    much.write_all(post(bytes).as_bytes()).await.unwrap();
    much.write_all(&vec![b' '; bytes]).await.unwrap();
    until(&mut much, " 413 ", 1).await;
    let mut endless = connect(node.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    endless.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "[".repeat(0x10000));
    for _ in 0..1_000 {
        // It fails once the node has closed the connection.
        if endless.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    // Too long is an internal error to the library if no length was announced. The connection ends either way.
    let said = last_words(&mut endless).await;
    assert!(!said.contains(" 200 "), "{said:?}");
    pay(&node, &mut nonce, 1).await;

    // What is no HTTP, no JSON, no WebSocket.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\xff\xfe garbage \r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = connect(node.address()).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let said = last_words(&mut stream).await;
        assert!(!said.contains(" 200 "), "{said:?}");
    }
    let mut broken = session(node.address()).await;
    for text in ["", "{", "\u{1}", "[[[[", r#"{"jsonrpc":"2.0"}"#] {
        broken.write_all(&message(text)).await.unwrap();
        until(&mut broken, "\"error\"", 1).await;
    }
    // A frame without a mask, of a kind that there is not.
    broken
        .write_all(&[0xff, 0x7f, 0xff, 0xff, 0xff])
        .await
        .unwrap();
    last_words(&mut broken).await;
    pay(&node, &mut nonce, 2).await;
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_that_nobody_reads_the_answers_of() {
    let node = node_with(impatient()).await;
    let mut nonce = 0;
    let enough = Arc::new(AtomicBool::new(false));
    let junk = json!({"jsonrpc": "2.0", "id": 1, "method": "submit_transaction", "params": {"transaction": "00".repeat(200)}});
    let junk = junk.to_string();
    let mut floods = Vec::new();
    for n in 0..8 {
        let (mut stream, block) = if n % 2 == 0 {
            let request = post(junk.len()) + &junk;
            (
                connect(node.address()).await,
                request.repeat(50).into_bytes(),
            )
        } else {
            (session(node.address()).await, message(STATUS).repeat(500))
        };
        let enough = enough.clone();
        floods.push(tokio::spawn(async move {
            // Until the node has had enough of it, or the test.
            while !enough.load(Relaxed) {
                let send = stream.write_all(&block);
                let patience = std::time::Duration::from_millis(50);
                if let Ok(Err(_)) = tokio::time::timeout(patience, send).await {
                    return;
                }
            }
        }));
    }
    pay(&node, &mut nonce, 10).await;
    enough.store(true, Relaxed);
    for flood in floods {
        flood.await.unwrap();
    }
    pay(&node, &mut nonce, 2).await;
    node.stop().await.unwrap();
}

/// Clients that do read the answers cost more: nothing stops them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_decide_under_a_flood() {
    let testnet = Testnet::new(4);
    let nodes = testnet.up();
    let rpc = |node: &Dev| node.url().strip_prefix("http://").unwrap().parse().unwrap();
    let addresses: Vec<SocketAddr> = nodes.iter().map(rpc).collect();
    let (enough, heard) = tokio::sync::oneshot::channel::<()>();
    // On a thread of its own: the well-behaved client must not wait for this.
    let flooding = std::thread::spawn(move || {
        let floods = async {
            for address in addresses.iter().cycle().take(24) {
                let (mut read, mut write) = session(*address).await.into_split();
                let mut nowhere = tokio::io::sink();
                tokio::spawn(async move { tokio::io::copy(&mut read, &mut nowhere).await });
                let block = message(STATUS).repeat(500);
                tokio::spawn(async move { while write.write_all(&block).await.is_ok() {} });
            }
            heard.await.unwrap();
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(floods);
    });
    for (node, nonce) in nodes.iter().cycle().zip(0..8) {
        sent(&client(&node.url()), "alice", nonce).await;
    }
    for node in &nodes {
        assert_eq!(ask(node, "/health").0, 200);
    }
    enough.send(()).unwrap();
    flooding.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscriptions_that_do_not_read() {
    let node = node_with(impatient()).await;
    let each = Rpc::default().max_subscriptions as usize;
    let mut nonce = 0;
    let mut sessions = Vec::new();
    let subscribe = r#"{"jsonrpc":"2.0","id":1,"method":"subscribe_blocks"}"#;
    for _ in 0..1_000usize.div_ceil(each) {
        let mut session = session(node.address()).await;
        session
            .write_all(&message(subscribe).repeat(each))
            .await
            .unwrap();
        until(&mut session, "\"result\"", each).await;
        sessions.push(session);
    }
    // One more is one too many.
    sessions[0].write_all(&message(subscribe)).await.unwrap();
    until(&mut sessions[0], "-32006", 1).await;
    pay(&node, &mut nonce, 30).await;
    drop(sessions);
    pay(&node, &mut nonce, 2).await;
    node.stop().await.unwrap();
}

/// What a connection of its own gets for a batch.
async fn answers_to(node: &Node, batch: &str) -> Vec<Value> {
    let mut stream = connect(node.address()).await;
    let request = post(batch.len()) + batch;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"]") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    let answer = String::from_utf8(answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn each_address_has_its_share() {
    let node = node_with(Rpc {
        requests_per_second: 1,
        ..Rpc::default()
    })
    .await;
    let entries = vec![STATUS; 50].join(",");
    let batch = format!("[{entries}]");
    let answers = answers_to(&node, &batch).await;
    assert_eq!(answers[0]["result"]["state"], "running");
    let last = &answers[49]["error"];
    assert_eq!(
        (&last["code"], &last["data"]["kind"]),
        (&json!(1301), &json!("try_again_later")),
        "{last}"
    );
    // Another address has its own.
    pay(&node, &mut 0, 1).await;
    node.stop().await.unwrap();

    // Each transaction of a call counts, by name as by position; more than there may be a second never get through.
    let many = |count: usize, named: bool| {
        let transactions = vec!["00"; count];
        let params = match named {
            true => json!({ "transactions": transactions }),
            false => json!([transactions]),
        };
        json!({"jsonrpc": "2.0", "id": 1, "method": "submit_transactions", "params": params})
    };
    let node = node_with(Rpc {
        requests_per_second: 30,
        ..Rpc::default()
    })
    .await;
    let calls = json!([
        many(31, true),
        many(31, false),
        many(20, true),
        many(20, false)
    ]);
    let answers = answers_to(&node, &calls.to_string()).await;
    let data = |at: usize| &answers[at]["error"]["data"];
    for at in [0, 1] {
        assert_eq!(data(at)["parameter"], "transactions", "{answers:?}");
    }
    assert_eq!(data(2)["parameter"], "transactions[0]", "{answers:?}");
    assert_eq!(data(3)["kind"], "try_again_later", "{answers:?}");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn sessions_and_views_have_their_limits() {
    let node = node_with(Rpc {
        max_calls: 2,
        max_view_fuel: 1_000_000,
        ..Rpc::default()
    })
    .await;
    let client = client(&node.rpc_url());
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let view = |fuel| {
        let (contract, method) = (contract.to_string(), "ok".to_owned());
        client.call_view(contract, method, None, None, fuel, None)
    };
    view(None).await.unwrap();
    view(Some(1_000_000)).await.unwrap();
    let data = json!({"kind": "fuel_limit_too_high", "maximum": 1_000_000, "got": 1_000_001});
    assert_eq!(refusal(view(Some(1_000_001)).await), (1009, data));

    // A block that takes long, and a transaction that three calls of one session wait for.
    let slow = hex_of(&slow(&alice, 1, contract));
    let accepted = client.submit_transaction(slow, Some(WaitUntil::None), None);
    accepted.await.unwrap();
    until_mempool(&client, |mempool| mempool.executing == 1).await;
    let waiting = hex_of(&transfer(&alice, 2, address("bob"), 1));
    let params = json!({"transaction": waiting});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "submit_transaction", "params": params});
    let mut session = session(node.address()).await;
    let calls = message(&call.to_string()).repeat(3);
    session.write_all(&calls).await.unwrap();
    until(&mut session, "2 calls of this session", 1).await;
    // Being under way does not mean that it is accepted.
    until_mempool(&client, |mempool| mempool.transactions == 2).await;
    pay(&node, &mut 3, 1).await;
    node.stop().await.unwrap();
}

/// What takes long does not outlive who asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_with_their_session() {
    let node = node_with(Rpc::default()).await;
    let client = client(&node.rpc_url());
    let profile = r#"{"jsonrpc":"2.0","id":1,"method":"profile_node","params":{"seconds":60}}"#;
    let mut session = session(node.address()).await;
    session.write_all(&message(profile)).await.unwrap();
    session.write_all(&message(STATUS)).await.unwrap();
    until(&mut session, "running", 1).await;
    drop(session);
    // One at a time is made.
    let profiling = async {
        while let Err(error) = client.profile_node(1, None).await {
            assert_eq!(refusal(Err::<(), _>(error)).0, 1301);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(40), profiling)
        .await
        .expect("that of the session has ended");
    node.stop().await.unwrap();
}
