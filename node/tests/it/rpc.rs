//! What clients see of a healthy node.

use crate::support::*;
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::params::{ArrayParams, ObjectParams};
use jsonrpsee::ws_client::WsClientBuilder;
use serde_json::{Value, json};
use slackline_executor::{Address, Effort, EstimateError, SignedTransaction};
use slackline_node::config::Rpc;
use slackline_node::dev::{DEV_BALANCE, DEV_CHAIN_ID, DEV_NAMES};
use slackline_node::producer::Health;
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{
    ActionJson, Amount, Mode, NodeState, OutcomeKind, SubmitStatus, Submitted, TransactionStatus,
    WaitUntil,
};
use slackline_node::{Node, NodeConfig, StartError};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_transfer_from_submission_to_receipt() {
    let (node, client) = node().await;
    let (alice, bob) = (key("alice"), address("bob"));
    let status = client.get_status().await.unwrap();
    assert_eq!(
        (status.state, status.failure, status.height),
        (NodeState::Running, None, 0)
    );
    assert_eq!(
        (status.chain_id, status.mode),
        (DEV_CHAIN_ID, Mode::Slacked)
    );

    let sent = transfer(&alice, 0, bob, 1000);
    let hash = sent.hash();
    let unknown = client.get_transaction(hash.to_string()).await.unwrap();
    assert_eq!(unknown.status, TransactionStatus::Unknown);
    let receipt = execute(&client, &sent).await;
    assert_eq!(
        (receipt.transaction, receipt.height, receipt.index),
        (hash, 1, 0)
    );
    assert_eq!(receipt.outcome.outcome, OutcomeKind::Success);
    assert!(receipt.fuel_used > 0 && receipt.fee == Amount(receipt.fuel_used.into()));

    let found = client.get_transaction(hash.to_string()).await.unwrap();
    assert_eq!(
        (found.status, found.receipt.as_ref(), found.is_final),
        (TransactionStatus::Included, Some(&receipt), true)
    );
    let shown = found.transaction.unwrap();
    assert_eq!((shown.sender, shown.nonce), (alice.address(), 0));
    assert_eq!(
        shown.action,
        ActionJson::Transfer {
            to: bob,
            amount: Amount(1000)
        }
    );

    let payer = client
        .get_account(alice.address().to_string(), None)
        .await
        .unwrap();
    assert_eq!(payer.balance, Amount(DEV_BALANCE - 1000 - receipt.fee.0));
    assert_eq!((payer.nonce, payer.next_nonce, payer.code), (1, 1, None));
    let payee = client.get_account(format!("0x{bob}"), None).await.unwrap();
    assert_eq!(
        (payee.balance, payee.nonce),
        (Amount(DEV_BALANCE + 1000), 0)
    );
    let nobody = client
        .get_account(Address([1; 32]).to_string(), None)
        .await
        .unwrap();
    assert_eq!(
        (nobody.balance, nobody.nonce, nobody.code),
        (Amount(0), 0, None)
    );

    let block = client.get_block(None).await.unwrap();
    assert_eq!(
        (block.header.height, &block.transactions[..]),
        (1, &[hash][..])
    );
    assert_eq!(block.header.fuel_used, receipt.fuel_used);
    let genesis = client.get_block(Some(0)).await.unwrap();
    assert_eq!(
        (block.header.parent, genesis.transactions.len()),
        (genesis.hash, 0)
    );
    let status = client.get_status().await.unwrap();
    assert_eq!(
        (status.height, status.head, status.mempool.transactions),
        (1, block.hash, 0)
    );
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_contract_in_all_its_moods() {
    let (node, client) = node().await;
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let methods = client
        .get_methods(contract.to_string())
        .await
        .unwrap()
        .methods;
    assert_eq!(methods, METHODS);
    assert!(
        client
            .get_account(contract.to_string(), None)
            .await
            .unwrap()
            .code
            .is_some()
    );

    let receipt = execute(&client, &call(&alice, 1, contract, "ok", b"\x01\x02")).await;
    assert_eq!(
        (receipt.outcome.outcome, &receipt.outcome.data.0[..]),
        (OutcomeKind::Success, &b"\x01\x02"[..])
    );
    assert_eq!((receipt.contract, receipt.outcome.message), (None, None));

    let receipt = execute(&client, &call(&alice, 2, contract, "put", b"stays")).await;
    assert_eq!(receipt.outcome.outcome, OutcomeKind::Success);
    assert_eq!(
        receipt
            .events
            .iter()
            .map(|event| &event.data.0[..])
            .collect::<Vec<_>>(),
        [b"key"]
    );

    let receipt = execute(&client, &call(&alice, 3, contract, "revert", b"")).await;
    assert_eq!(
        (receipt.outcome.outcome, receipt.outcome.message.as_deref()),
        (OutcomeKind::Revert, Some("no"))
    );
    assert!(receipt.fuel_used < 50_000_000);

    for (nonce, method, kind) in [
        (4, "spin", "out_of_fuel"),
        (5, "put_then_spin", "out_of_fuel"),
        (6, "trap", "trap"),
    ] {
        let receipt = execute(&client, &call(&alice, nonce, contract, method, b"")).await;
        assert_eq!(receipt.outcome.outcome, OutcomeKind::Abort, "{method}");
        assert_eq!(receipt.outcome.abort.unwrap().kind, kind, "{method}");
        assert_eq!(
            receipt.fuel_used, 50_000_000,
            "an abort costs the whole limit"
        );
    }

    let contract = contract.to_string();
    let view = |method: &str, input: &str| {
        client.call_view(
            contract.clone(),
            method.to_owned(),
            Some(input.to_owned()),
            None,
            Some(1_000_000),
            None,
        )
    };
    let got = view("get", "").await.unwrap();
    assert_eq!(
        (got.outcome.outcome, &got.outcome.data.0[..]),
        (OutcomeKind::Success, &b"stays"[..])
    );
    assert!(got.fuel_used > 0 && got.fuel_used < 1_000_000 && got.height == 7);
    assert_eq!(view("ok", "0x0a").await.unwrap().outcome.data.0, [10]);
    assert_eq!(
        view("revert", "").await.unwrap().outcome.message.as_deref(),
        Some("no")
    );
    let spun = view("spin", "").await.unwrap();
    assert_eq!(
        (spun.outcome.abort.unwrap().kind.as_str(), spun.fuel_used),
        ("out_of_fuel", 1_000_000)
    );
    let wrote = view("put", "00").await.unwrap();
    assert_eq!(wrote.outcome.abort.unwrap().kind, "host_interface");
    assert_eq!(view("get", "").await.unwrap().outcome.data.0, b"stays");
    assert_eq!(
        client.get_status().await.unwrap().height,
        7,
        "views make no blocks"
    );
    node.stop().await.unwrap();
}

#[tokio::test]
async fn submitting_again_is_no_error() {
    let (node, client) = node().await;
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let slow = slow(&alice, 1, contract);
    let quick = transfer(&alice, 2, address("bob"), 1);
    let submit = |transaction, wait, timeout| {
        client.submit_transaction(hex_of(transaction), Some(wait), timeout)
    };
    let first = submit(&slow, WaitUntil::None, None).await.unwrap();
    assert_eq!(
        (first.status, first.receipt.is_none()),
        (SubmitStatus::Pending, true)
    );
    until_mempool(&client, |mempool| mempool.executing == 1).await;
    let waited = submit(&quick, WaitUntil::Included, Some(0)).await.unwrap();
    assert_eq!(
        (waited.status, waited.hash),
        (SubmitStatus::Pending, quick.hash()),
        "a timeout is no error"
    );
    let again = submit(&quick, WaitUntil::None, None).await.unwrap();
    assert_eq!(
        (again.status, again.receipt),
        (SubmitStatus::Duplicate, None)
    );
    let timed_out = submit(&quick, WaitUntil::Included, Some(1)).await.unwrap();
    assert_eq!(timed_out.status, SubmitStatus::Duplicate);
    let pending = client
        .get_transaction(quick.hash().to_string())
        .await
        .unwrap();
    assert_eq!(
        (pending.status, pending.receipt),
        (TransactionStatus::Pending, None)
    );
    assert_eq!(pending.transaction.unwrap().nonce, 2);
    let account = client
        .get_account(alice.address().to_string(), None)
        .await
        .unwrap();
    assert_eq!((account.nonce, account.next_nonce), (1, 3));
    assert_eq!(client.get_status().await.unwrap().mempool.transactions, 2);

    let included = submit(&quick, WaitUntil::Included, Some(60_000))
        .await
        .unwrap();
    assert_eq!(included.status, SubmitStatus::Included);
    let receipt = included.receipt.unwrap();
    assert_eq!(
        (receipt.height, receipt.outcome.outcome),
        (3, OutcomeKind::Success)
    );
    for (wait, status) in [
        (WaitUntil::None, SubmitStatus::Included),
        (WaitUntil::Included, SubmitStatus::Included),
        (WaitUntil::Final, SubmitStatus::Final),
    ] {
        let again = submit(&quick, wait, None).await.unwrap();
        assert_eq!(
            (again.status, again.receipt.as_ref()),
            (status, Some(&receipt))
        );
    }
    // Waited for from the beginning.
    let last = transfer(&alice, 3, address("bob"), 1);
    let last = submit(&last, WaitUntil::Final, Some(60_000)).await.unwrap();
    assert_eq!(last.status, SubmitStatus::Final);
    assert_eq!(last.receipt.unwrap().height, 4);
    assert_eq!(
        client
            .get_account(alice.address().to_string(), None)
            .await
            .unwrap()
            .nonce,
        4,
        "executed once"
    );
    node.stop().await.unwrap();
}

#[tokio::test]
async fn several_at_once_are_answered_each_in_order() {
    let (node, client) = node().await;
    let (alice, bob) = (key("alice"), key("bob"));
    let before = execute(&client, &transfer(&alice, 0, address("bob"), 1)).await;
    let mut forged = transfer(&bob, 0, address("alice"), 1);
    forged.signature[40] ^= 1;
    let sent = [
        transfer(&alice, 0, address("bob"), 1),
        transfer(&alice, 1, address("bob"), 1),
        forged,
        transfer(&bob, 0, address("alice"), 1),
        transfer(&alice, 3, address("bob"), 1),
        transfer(&alice, 2, address("bob"), 1),
        transfer(&alice, 2, address("bob"), 1),
    ];
    let texts: Vec<String> = sent.iter().map(hex_of).collect();
    let submit = |wait| client.submit_transactions(texts.clone(), Some(wait), Some(60_000));
    let refused = |answer: &Submitted| answer.error.as_ref().map(|error| error.code);
    let answers = submit(WaitUntil::Final).await.unwrap();
    assert!(
        answers
            .iter()
            .map(|answer| answer.hash)
            .eq(sent.iter().map(|sent| sent.hash()))
    );
    assert_eq!(answers[0].receipt, Some(before));
    for at in [0, 1, 3, 5, 6] {
        let receipt = answers[at].receipt.as_ref().unwrap();
        assert_eq!(
            (answers[at].status, receipt.outcome.outcome),
            (SubmitStatus::Final, OutcomeKind::Success),
            "{at}"
        );
    }
    assert_eq!(answers[5].receipt, answers[6].receipt);
    // One that is refused takes none of the others with it.
    assert_eq!(
        (refused(&answers[2]), refused(&answers[4])),
        (Some(1004), Some(1006))
    );
    let again = submit(WaitUntil::None).await.unwrap();
    let statuses: Vec<_> = again.iter().map(|answer| answer.status).collect();
    use SubmitStatus::{Included, Pending};
    assert_eq!(
        statuses,
        [
            Included, Included, Included, Included, Pending, Included, Included
        ],
        "the third has the hash of the fourth, and the fifth is the next one by now"
    );
    let junk = vec![texts[0].clone(), "00".to_owned()];
    let (code, data) = refusal(client.submit_transactions(junk, None, None).await);
    assert_eq!(
        (code, &data["parameter"], &data["cause"]["kind"]),
        (
            -32602,
            &json!("transactions[1]"),
            &json!("malformed_transaction")
        )
    );
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_senders_at_once_each_transaction_once() {
    const EACH: u64 = 50;
    let (node, client) = node().await;
    let mut tasks = Vec::new();
    for name in DEV_NAMES {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let key = key(name);
            let mut waiting = Vec::new();
            for nonce in 0..EACH {
                let sent = transfer(&key, nonce, Address([nonce as u8; 32]), 1);
                let first = client
                    .submit_transaction(hex_of(&sent), Some(WaitUntil::None), None)
                    .await
                    .unwrap();
                assert_ne!(first.status, SubmitStatus::Duplicate);
                // A second client that submits the same waits beside the first.
                let client = client.clone();
                waiting.push(tokio::spawn(async move { execute(&client, &sent).await }));
            }
            let mut hashes = Vec::new();
            for waiter in waiting {
                let receipt = waiter.await.unwrap();
                assert_eq!(receipt.outcome.outcome, OutcomeKind::Success);
                hashes.push(receipt.transaction);
            }
            hashes
        }));
    }
    let mut expected = HashSet::new();
    for task in tasks {
        expected.extend(task.await.unwrap());
    }
    let total = EACH as usize * DEV_NAMES.len();
    assert_eq!(expected.len(), total);
    let head = client.get_status().await.unwrap().height;
    let mut seen = Vec::new();
    for height in 1..=head {
        let block = client.get_block(Some(height)).await.unwrap();
        assert!(!block.transactions.is_empty(), "no empty blocks");
        seen.extend(block.transactions);
    }
    assert_eq!(seen.len(), total);
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), expected);
    for name in DEV_NAMES {
        assert_eq!(
            client
                .get_account(address(name).to_string(), None)
                .await
                .unwrap()
                .nonce,
            EACH
        );
    }
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chain");
    let (node, client) = node_in(path.clone()).await;
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let receipt = execute(&client, &call(&alice, 1, contract, "put", b"before")).await;
    let before = client.get_status().await.unwrap();

    // The directory is taken.
    let second = Node::start(NodeConfig {
        data_dir: Some(path.clone()),
        ..config()
    })
    .await;
    assert!(matches!(second, Err(StartError::Open { .. })), "{second:?}");
    // So is the port, and a failed start leaves nothing behind that would keep its directory.
    let other = dir.path().join("other");
    for _ in 0..2 {
        let config = NodeConfig {
            data_dir: Some(other.clone()),
            listen: node.address(),
            ..config()
        };
        let third = Node::start(config).await;
        assert!(matches!(third, Err(StartError::Listen { .. })), "{third:?}");
    }

    node.stop().await.unwrap();
    let (node, client) = node_in(path.clone()).await;
    let after = client.get_status().await.unwrap();
    assert_eq!((after.height, after.head), (before.height, before.head));
    let found = client
        .get_transaction(receipt.transaction.to_string())
        .await
        .unwrap();
    assert_eq!(found.receipt, Some(receipt));
    let got = client
        .call_view(
            contract.to_string(),
            "get".to_owned(),
            None,
            None,
            None,
            None,
        )
        .await
        .unwrap();
    assert_eq!(got.outcome.data.0, b"before");
    let next = execute(&client, &call(&alice, 2, contract, "put", b"after")).await;
    assert_eq!(next.height, before.height + 1);
    node.stop().await.unwrap();
    assert!(path.join("genesis.json").exists() && path.join("db").exists());
}

#[tokio::test]
async fn a_temporary_directory_is_removed() {
    let (node, client) = node().await;
    execute(&client, &transfer(&key("alice"), 0, address("bob"), 1)).await;
    let path = node.data_dir().to_owned();
    let mut health = node.health();
    assert!(node.is_temporary() && path.exists());
    node.stop().await.unwrap();
    assert!(!path.exists());
    health
        .wait_for(|health| *health == Health::Stopping)
        .await
        .unwrap();
}

#[tokio::test]
async fn stopping_tells_those_who_wait() {
    let (node, client) = node().await;
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let (slow, quick) = (
        slow(&alice, 1, contract),
        transfer(&alice, 2, address("bob"), 1),
    );
    let wait = |transaction: &SignedTransaction| {
        let (client, hex) = (client.clone(), hex_of(transaction));
        tokio::spawn(async move { client.submit_transaction(hex, None, Some(60_000)).await })
    };
    let slow_answer = wait(&slow);
    until_mempool(&client, |mempool| mempool.executing == 1).await;
    let quick_answer = wait(&quick);
    until_mempool(&client, |mempool| mempool.transactions == 2).await;
    let mut health = node.health();
    let late = transfer(&key("bob"), 0, address("alice"), 1);
    let (stopped, refused) = tokio::join!(node.stop(), async {
        health
            .wait_for(|health| *health == Health::Stopping)
            .await
            .unwrap();
        client
            .submit_transaction(hex_of(&late), Some(WaitUntil::None), None)
            .await
    });
    stopped.unwrap();
    let stopping = || (1302, json!({"kind": "node_stopping"}));
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, refused.hash),
        (SubmitStatus::TryAgainLater, late.hash())
    );
    assert!(!refused.error.as_ref().unwrap().accepted);
    assert_eq!(not_accepted(Ok(refused)), stopping());
    // The block under way is finished; what waited behind it is not.
    let slow_answer = slow_answer.await.unwrap().unwrap();
    assert_eq!(
        slow_answer.receipt.unwrap().outcome.abort.unwrap().kind,
        "out_of_fuel"
    );
    let quick_answer = quick_answer.await.unwrap().unwrap();
    assert_eq!(
        (quick_answer.status, quick_answer.hash),
        (SubmitStatus::TryAgainLater, quick.hash())
    );
    assert!(quick_answer.error.as_ref().unwrap().accepted);
    assert_eq!(not_accepted(Ok(quick_answer)), stopping());
}

#[tokio::test]
async fn positional_parameters_web_sockets_and_batches_work_too() {
    let (node, client) = node().await;
    let alice = address("alice").to_string();
    let mut by_position = ArrayParams::new();
    by_position.insert(&alice).unwrap();
    let account: Value = client.request("get_account", by_position).await.unwrap();
    assert_eq!(account["balance"], DEV_BALANCE.to_string());

    let ws = WsClientBuilder::default()
        .build(format!("ws://{}", node.address()))
        .await
        .unwrap();
    let mut by_name = ObjectParams::new();
    by_name.insert("address", &alice).unwrap();
    let again: Value = ws.request("get_account", by_name).await.unwrap();
    assert_eq!(again, account);
    let receipt = ws
        .submit_transaction(
            hex_of(&transfer(&key("alice"), 0, address("bob"), 1)),
            None,
            None,
        )
        .await
        .unwrap()
        .receipt;
    assert_eq!(receipt.unwrap().height, 1);

    let mut batch = jsonrpsee::core::params::BatchRequestBuilder::new();
    for nonce in 1..=100 {
        let mut params = ObjectParams::new();
        params
            .insert(
                "transaction",
                hex_of(&transfer(&key("alice"), nonce, address("bob"), 1)),
            )
            .unwrap();
        params.insert("wait_until", "none").unwrap();
        batch.insert("submit_transaction", params).unwrap();
    }
    let answers = client.batch_request::<Value>(batch).await.unwrap();
    assert_eq!(answers.num_successful_calls(), 100);
    let last = execute(&client, &transfer(&key("alice"), 101, address("bob"), 1)).await;
    assert_eq!(last.outcome.outcome, OutcomeKind::Success);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_frees_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (node, client) = node_in(dir.path().to_owned()).await;
    let contract = deployed(&client, &key("alice"), 0).await;
    let mut views = Vec::new();
    for _ in 0..8 {
        let url = format!("ws://{}", node.address());
        let session = Arc::new(WsClientBuilder::default().build(url).await.unwrap());
        let (asking, contract) = (session.clone(), contract.to_string());
        views.push(tokio::spawn(async move {
            asking
                .call_view(
                    contract,
                    "spin".to_owned(),
                    None,
                    None,
                    Some(200_000_000),
                    None,
                )
                .await
        }));
        // One message after the other: when this one is answered, the node has the view.
        tokio::task::yield_now().await;
        session.get_status().await.unwrap();
    }
    let slow = slow(&key("alice"), 1, contract);
    client
        .submit_transaction(hex_of(&slow), Some(WaitUntil::None), None)
        .await
        .unwrap();
    until_mempool(&client, |mempool| mempool.executing == 1).await;
    node.stop().await.unwrap();

    let (node, client) = node_in(dir.path().to_owned()).await;
    let found = client
        .get_transaction(slow.hash().to_string())
        .await
        .unwrap();
    assert_eq!(
        found.status,
        TransactionStatus::Included,
        "the block under way was finished"
    );
    for view in views {
        let answer = view.await.unwrap().unwrap();
        assert_eq!(answer.outcome.abort.unwrap().kind, "out_of_fuel");
    }
    node.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_waits_for_requests_that_are_being_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = node_in(dir.path().to_owned()).await;
    let request = half_a_request(node.address()).await;
    let mut stopping = Box::pin(node.stop());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut stopping).await;
    assert!(early.is_err(), "somebody is still talking");
    drop(request);
    stopping.await.unwrap();
    let (node, _) = node_in(dir.path().to_owned()).await;
    node.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_waits_for_views_whose_callers_have_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (node, client) = node_in(dir.path().to_owned()).await;
    let contract = deployed(&client, &key("alice"), 0).await.to_string();
    let url = format!("ws://{}", node.address());
    let session = Arc::new(WsClientBuilder::default().build(url).await.unwrap());
    let asking = session.clone();
    let view = tokio::spawn(async move {
        asking
            .call_view(
                contract,
                "spin".to_owned(),
                None,
                None,
                Some(1_000_000_000),
                None,
            )
            .await
    });
    tokio::task::yield_now().await;
    session.get_status().await.unwrap();
    view.abort();
    drop(session);
    node.stop().await.unwrap();
    let (node, _) = node_in(dir.path().to_owned()).await;
    node.stop().await.unwrap();
}

#[tokio::test]
async fn the_past_and_what_would_be() {
    let (node, client) = node().await;
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let name = contract.to_string();
    for nonce in 1..=5 {
        let value = format!("value {nonce}");
        execute(
            &client,
            &call(&alice, nonce, contract, "put", value.as_bytes()),
        )
        .await;
    }
    // Heights 2 to 6 have an event each.
    let events = |from, to, after: Option<String>, limit| {
        client.get_events(name.clone(), None, from, to, after, limit)
    };
    let all = events(None, None, None, None).await.unwrap();
    let heights: Vec<u64> = all.events.iter().map(|found| found.height).collect();
    assert_eq!((heights, all.next), (vec![2, 3, 4, 5, 6], None));
    assert_eq!(all.events[0].event.data.0, b"key");
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = events(Some(3), Some(6), after, Some(3)).await.unwrap();
        paged.extend(page.events);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all.events[1..]);
    let topic = Some("ab".repeat(32));
    let none = client.get_events(name.clone(), topic, None, None, None, None);
    assert_eq!(none.await.unwrap().events, []);
    for (after, limit) in [
        (Some("7".to_owned()), None),
        (None, Some(0)),
        (None, Some(1_001)),
    ] {
        let (code, data) = refusal(events(None, None, after, limit).await);
        assert_eq!((code, &data["kind"]), (-32602, &json!("invalid_params")));
    }

    let get = |height| client.call_view(name.clone(), "get".to_owned(), None, None, None, height);
    for height in 2..=6u64 {
        let view = get(Some(height)).await.unwrap();
        assert_eq!(view.height, height);
        assert_eq!(
            view.outcome.data.0,
            format!("value {}", height - 1).as_bytes()
        );
        let account = client.get_account(alice.address().to_string(), Some(height));
        assert_eq!(account.await.unwrap().nonce, height);
    }
    assert_eq!(refusal(get(Some(0)).await).0, 1010, "not deployed yet");
    let (code, data) = refusal(get(Some(7)).await);
    assert_eq!((code, &data["head"]), (1201, &json!(6)));

    let bytes = |signed: &SignedTransaction| hex::encode(borsh::to_vec(signed).unwrap());
    let put = call(&alice, 6, contract, "put", b"what if");
    let seen = client
        .simulate_transaction(bytes(&put), None, None)
        .await
        .unwrap();
    assert_eq!(seen.receipt.outcome.outcome, OutcomeKind::Success);
    assert_eq!(
        (seen.receipt.height, seen.receipt.events.len(), seen.call),
        (7, 1, None)
    );
    let keys: Vec<_> = seen
        .footprint
        .iter()
        .map(|key| (key.contract, &key.key.0[..], key.read, key.written))
        .collect();
    assert_eq!(keys, [(contract, &b"key"[..], false, true)]);
    let minimum = seen.minimum_fuel_limit.unwrap();
    assert_eq!(
        minimum, seen.receipt.fuel_used,
        "nothing is kept from a callee"
    );
    // What it says is so: with that limit it succeeds, with a little less it does not.
    let mut less = put.transaction.clone();
    less.fuel_limit = minimum - 1;
    let less = client
        .simulate_transaction(bytes(&less.sign(alice.signing())), Some(true), None)
        .await
        .unwrap();
    assert_eq!(less.receipt.outcome.outcome, OutcomeKind::Abort);
    assert!(less.minimum_fuel_limit.is_none() && less.call.is_some());
    let mut exact = put.transaction.clone();
    exact.fuel_limit = minimum;
    let receipt = execute(&client, &exact.sign(alice.signing())).await;
    assert_eq!(
        (receipt.outcome.outcome, receipt.fuel_used),
        (OutcomeKind::Success, minimum)
    );
    let (code, data) = refusal(client.simulate_transaction(bytes(&put), None, None).await);
    assert_eq!((code, &data["expected"]), (1005, &json!(7)));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn subscribers_hear_of_blocks_receipts_and_events() {
    let (node, client) = node().await;
    let session = WsClientBuilder::default()
        .build(format!("ws://{}", node.address()))
        .await
        .unwrap();
    let (alice, bob) = (key("alice"), key("bob"));
    let contract = deployed(&client, &alice, 0).await;
    let mut blocks = session.subscribe_blocks().await.unwrap();
    let mut receipts = session
        .subscribe_receipts(bob.address().to_string())
        .await
        .unwrap();
    let mut events = session
        .subscribe_events(contract.to_string(), None)
        .await
        .unwrap();
    let first = execute(&client, &call(&alice, 1, contract, "put", b"x")).await;
    let second = execute(&client, &transfer(&bob, 0, contract, 1)).await;
    for receipt in [&first, &second] {
        let mut block = blocks.next().await.unwrap().unwrap();
        // The block of the deployment may be told after its receipt.
        while block.header.height < first.height {
            block = blocks.next().await.unwrap().unwrap();
        }
        assert_eq!(block.header.height, receipt.height);
        assert_eq!(block.transactions, [receipt.transaction]);
        assert_eq!(
            client.get_block(Some(receipt.height)).await.unwrap().hash,
            block.hash
        );
    }
    assert_eq!(receipts.next().await.unwrap().unwrap(), second);
    let event = events.next().await.unwrap().unwrap();
    assert_eq!(
        (event.height, event.transaction),
        (first.height, first.transaction)
    );
    assert_eq!(event.event.data.0, b"key");
    let found = client.get_events(contract.to_string(), None, None, None, None, None);
    assert_eq!(found.await.unwrap().events, [event]);
    let error = session.subscribe_receipts("bob".to_owned()).await;
    assert_eq!(refusal(error.map(|_| ())).0, -32602);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn what_clients_do_is_counted() {
    let ops = Some(([127, 0, 0, 1], 0).into());
    let node = Node::start(NodeConfig { ops, ..config() }).await.unwrap();
    let client = client(&node.rpc_url());
    let paid = transfer(&key("alice"), 0, address("bob"), 1);
    let submit = |transaction| client.submit_transaction(transaction, Some(WaitUntil::Final), None);
    submit(hex_of(&paid)).await.unwrap();
    submit(hex_of(&transfer(&key("alice"), 0, address("bob"), 2)))
        .await
        .unwrap();
    refusal(client.get_block(Some(9)).await);
    let mut stream = TcpStream::connect(node.ops_address().unwrap())
        .await
        .unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await.unwrap();
    for line in [
        r#"slackline_rpc_seconds_count{method="submit_transaction"} 2"#,
        r#"slackline_rpc_errors_total{method="get_block",code="1201"} 1"#,
        r#"slackline_submissions_total{status="final",code="0"} 1"#,
        r#"slackline_submissions_total{status="error",code="1005"} 1"#,
        "slackline_healthy 1",
        "slackline_mempool_limit_bytes ",
        "slackline_start_time_seconds 1",
        r#"slackline_database_compaction_bytes{family="#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    node.stop().await.unwrap();
}

/// Files in a directory and those in it.
fn files(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let count = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => files(&entry.path()),
        false => 1,
    };
    entries.map(count).sum()
}

#[tokio::test]
async fn simulations_have_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeConfig {
        data_dir: Some(dir.path().to_owned()),
        rpc: Rpc {
            max_view_fuel: 60_000_000,
            ..Rpc::default()
        },
        ..config()
    })
    .await
    .unwrap();
    let client = client(&node.rpc_url());
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let put = |nonce| call(&alice, nonce, contract, "put", b"x");
    let simulate = |signed| client.simulate_transaction(hex_of(&signed), None, None);

    let mut much = put(1).transaction;
    much.fuel_limit = 60_000_001;
    let data = json!({"kind": "fuel_limit_too_high", "maximum": 60_000_000, "got": 60_000_001});
    let refused = refusal(simulate(much.sign(alice.signing())).await);
    assert_eq!(refused, (1009, data));

    // What is not used does not count.
    let chain = node.chain();
    let yes = || true;
    let effort = |fuel| Effort {
        fuel,
        trace: None,
        trace_bytes: 0,
        footprint_bytes: 1_000,
        is_wanted: &yes,
    };
    let pending: Vec<_> = (1..4).map(put).collect();
    let estimate = chain.estimate(&pending, &put(4), &effort(60_000_000));
    let estimate = estimate.unwrap();
    assert_eq!((estimate.receipt.index, estimate.call), (3, None));
    assert_eq!(estimate.footprint.keys.len(), 1);
    assert_eq!(
        estimate.minimum_fuel_limit,
        Some(estimate.receipt.fuel_used)
    );
    let spins: Vec<_> = (1..4)
        .map(|nonce| call(&alice, nonce, contract, "spin", b""))
        .collect();
    chain
        .estimate(&spins, &put(4), &effort(150_000_000))
        .unwrap();
    let error = chain
        .estimate(&spins, &put(4), &effort(149_999_999))
        .unwrap_err();
    let EstimateError::TooMuchFuel { maximum, got } = error else {
        panic!("{error}");
    };
    assert_eq!((maximum, got), (149_999_999, 150_000_000));

    // Nobody waits any more.
    let asked = std::sync::atomic::AtomicU32::new(0);
    let twice = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
    let abandoned = Effort {
        is_wanted: &twice,
        ..effort(200_000_000)
    };
    let error = chain.estimate(&spins, &put(4), &abandoned).unwrap_err();
    assert!(matches!(error, EstimateError::Abandoned), "{error}");
    assert_eq!(asked.into_inner(), 3);

    // Code that nobody has paid for is not kept.
    let compiled = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path().join("compiled"));
    let compiled = compiled
        .chain([dir.path().join("compiled")])
        .find(|dir| dir.exists());
    let compiled = compiled.unwrap();
    let before = files(&compiled);
    let code = r#"(module (memory (export "memory") 1) (func (export "other")))"#;
    let simulated = simulate(deploy(&alice, 1, wasm(code))).await.unwrap();
    assert_eq!(simulated.receipt.outcome.outcome, OutcomeKind::Success);
    assert_eq!(files(&compiled), before);

    // With what each function would use.
    let functions = client.simulate_transaction(hex_of(&put(1)), None, Some(true));
    let functions = functions.await.unwrap();
    assert!(!functions.call.unwrap().functions.is_empty());
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_page_of_events_ends_at_a_megabyte() {
    const SHOUTS: &str = r#"(module
        (import "slackline_v1" "emit" (func $emit (param i32 i32 i32 i32)))
        (memory (export "memory") 1)
        (func (export "shout") (local $n i32)
            (loop $again
                (call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16384))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $n) (i32.const 100))))))"#;
    let (node, client) = node().await;
    let alice = key("alice");
    let deployed = execute(&client, &deploy(&alice, 0, wasm(SHOUTS))).await;
    let contract = deployed.contract.unwrap();
    let mut shout = call(&alice, 1, contract, "shout", b"").transaction;
    shout.fuel_limit = 500_000_000;
    let receipt = execute(&client, &shout.sign(alice.signing())).await;
    assert_eq!(receipt.events.len(), 100, "{:?}", receipt.outcome);
    let page = |after| {
        let contract = contract.to_string();
        client.get_events(contract, None, None, None, after, Some(1_000))
    };
    let first = page(None).await.unwrap();
    assert_eq!(first.events.len(), 64);
    let second = page(first.next).await.unwrap();
    assert_eq!((second.events.len(), second.next), (36, None));

    // Who asks for many and reads later gets them all, and is in nobody's way meanwhile.
    let session = WsClientBuilder::default()
        .max_response_size(u32::MAX)
        .build(format!("ws://{}", node.address()))
        .await
        .unwrap();
    let page = || session.get_events(contract.to_string(), None, None, None, None, None);
    let pages: Vec<_> = (0..40).map(|_| page()).collect();
    for page in pages {
        assert_eq!(page.await.unwrap().events.len(), 64);
    }
    node.stop().await.unwrap();
}
