//! What was acknowledged survives SIGKILL, and a disk that fails.

use crate::process::Dev;
use crate::support::*;
use jsonrpsee::http_client::HttpClient;
use serde_json::json;
use slackline_executor::{Address, Hash, SignedTransaction};
use slackline_node::dev::DEV_NAMES;
use slackline_node::keys::Key;
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{ReceiptJson, SubmitStatus, TransactionStatus, WaitUntil};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Transactions of one sender between being submitted and being acknowledged.
const IN_FLIGHT: usize = 16;

/// Submits one transaction after the other, many of them waiting at a time, until the node is gone. Reports what is
/// sent before it is sent, and what is acknowledged.
async fn stream(
    client: HttpClient,
    key: Key,
    contract: Address,
    sent: mpsc::UnboundedSender<SignedTransaction>,
    acknowledged: mpsc::UnboundedSender<ReceiptJson>,
) {
    let Ok(account) = client.get_account(key.address().to_string(), None).await else {
        return;
    };
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    for nonce in account.next_nonce.. {
        let transaction = match nonce % 3 {
            0 => transfer(&key, nonce, Address([nonce as u8; 32]), 1),
            1 => call(&key, nonce, contract, "put", &nonce.to_le_bytes()),
            _ => call(&key, nonce, contract, "revert", b""),
        };
        let permit = room.clone().acquire_owned().await.unwrap();
        // Fails when the test has seen enough.
        if sent.send(transaction.clone()).is_err() {
            return;
        }
        let hex = hex_of(&transaction);
        if client
            .submit_transaction(hex.clone(), Some(WaitUntil::None), None)
            .await
            .is_err()
        {
            return;
        }
        let (client, acknowledged) = (client.clone(), acknowledged.clone());
        tokio::spawn(async move {
            if let Ok(answer) = client
                .submit_transaction(hex, Some(WaitUntil::Included), Some(60_000))
                .await
                && let Some(receipt) = answer.receipt
            {
                let _ = acknowledged.send(receipt);
            }
            drop(permit);
        });
    }
}

/// Blocks link to each other down to the genesis block, and contain what accounts say they sent.
async fn assert_consistent(client: &HttpClient) {
    let head = client.get_status().await.unwrap();
    let mut parent = Hash::default();
    let mut transactions = 0;
    for height in 0..=head.height {
        let block = client.get_block(Some(height)).await.unwrap();
        assert_eq!(block.header.parent, parent, "block {height}");
        parent = block.hash;
        transactions += block.transactions.len() as u64;
    }
    assert_eq!(parent, head.head);
    let mut nonces = 0;
    for name in DEV_NAMES {
        nonces += client
            .get_account(address(name).to_string(), None)
            .await
            .unwrap()
            .nonce;
    }
    assert_eq!(transactions, nonces);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_transactions_survive_being_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut receipts: HashMap<Hash, ReceiptJson> = HashMap::new();
    let mut contract = None;
    for (round, enough) in [37, 150, 400].into_iter().enumerate() {
        let dev = Dev::start(Some(dir.path()));
        let client_ = client(&dev.url());
        let contract = match contract {
            Some(contract) => contract,
            None => *contract.insert(deployed(&client_, &key("alice"), 0).await),
        };
        let (sent, mut all) = mpsc::unbounded_channel();
        let (acknowledged, mut news) = mpsc::unbounded_channel();
        let streams: Vec<_> = DEV_NAMES
            .map(|name| {
                tokio::spawn(stream(
                    client_.clone(),
                    key(name),
                    contract,
                    sent.clone(),
                    acknowledged.clone(),
                ))
            })
            .into();
        drop((sent, acknowledged));
        let mut fresh = Vec::new();
        while fresh.len() < enough {
            fresh.push(news.recv().await.expect("the stream goes on"));
        }
        dev.kill();
        for stream in streams {
            stream.await.unwrap();
        }
        // Answers that were on their way when the node died.
        while let Some(receipt) = news.recv().await {
            fresh.push(receipt);
        }
        let mut submitted = Vec::new();
        while let Some(transaction) = all.recv().await {
            submitted.push(transaction);
        }
        assert!(
            submitted.len() > fresh.len(),
            "round {round}: killed after the stream, not during it"
        );
        receipts.extend(
            fresh
                .into_iter()
                .map(|receipt| (receipt.transaction, receipt)),
        );

        let dev = Dev::start(Some(dir.path()));
        let client_ = client(&dev.url());
        for (hash, receipt) in &receipts {
            let found = client_.get_transaction(hash.to_string()).await.unwrap();
            assert_eq!(
                found.status,
                TransactionStatus::Included,
                "round {round}: {hash} was acknowledged"
            );
            assert_eq!(found.receipt.as_ref(), Some(receipt), "round {round}");
        }
        assert_consistent(&client_).await;
        // Whatever became of the others, sending the same bytes again settles it.
        for transaction in &submitted {
            let answer = client_
                .submit_transaction(hex_of(transaction), None, Some(60_000))
                .await
                .unwrap();
            assert_eq!(answer.status, SubmitStatus::Included);
            let receipt = answer.receipt.unwrap();
            if let Some(acknowledged) = receipts.insert(receipt.transaction, receipt.clone()) {
                assert_eq!(acknowledged, receipt);
            }
        }
        assert_consistent(&client_).await;
        dev.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_node_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start_on_small_disk(dir.path(), 4_000);
    let client_ = client(&dev.url());
    let alice = key("alice");
    let contract = deployed(&client_, &alice, 0).await;
    let mut receipts = Vec::new();
    let mut failed = None;
    // 20 times 100 kB is what the disk holds. That many blocks fit, or fewer, but not 100.
    for nonce in 1..100 {
        let transaction = call(&alice, nonce, contract, "get", &[nonce as u8; 100_000]);
        let answer = client_
            .submit_transaction(hex_of(&transaction), None, Some(60_000))
            .await
            .unwrap();
        assert_eq!(answer.hash, transaction.hash());
        match answer.receipt {
            Some(receipt) => receipts.push(receipt),
            None => {
                let (code, data) = not_accepted(Ok(answer));
                assert_eq!(
                    (code, &data["kind"]),
                    (1303, &json!("node_failed")),
                    "{data}"
                );
                failed = Some(transaction);
                break;
            }
        }
    }
    let failed = failed.expect("the disk is full");
    assert!(!receipts.is_empty());
    let (code, said) = dev.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("the node has failed: "), "{said:?}");

    let dev = Dev::start(Some(dir.path()));
    let client_ = client(&dev.url());
    for receipt in receipts {
        let found = client_
            .get_transaction(receipt.transaction.to_string())
            .await
            .unwrap();
        assert_eq!(found.receipt, Some(receipt));
    }
    assert_consistent(&client_).await;
    // The one whose fate was unknown.
    assert_eq!(execute(&client_, &failed).await.transaction, failed.hash());
}
