//! Contracts that mean harm, sent to a node as anybody would send them: each gets its answer, and the node goes on.

use crate::support::*;
use slackline_executor::Action;
use slackline_node::rpc::api::ApiClient;
use slackline_node::rpc::types::{NodeState, OutcomeKind, WaitUntil};
use slackline_sandbox::hostile::{Cause, Expected, METHOD, corpus};

/// Code that is none, and a transaction over the size limit: see `node/src/rpc/error.rs`.
const REFUSALS: [i32; 2] = [1012, 1001];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_modules_get_their_answers() {
    let (node, client) = node().await;
    let alice = key("alice");
    let mut nonce = 0;
    let (mut refused, mut ended) = (0, 0);
    for case in corpus() {
        let name = &case.name;
        let mut transaction = deploy(&alice, nonce, case.wasm.clone()).transaction;
        transaction.fuel_limit = 2_000_000_000;
        let deploy = transaction.sign(alice.signing());
        if let Expected::Refused(_) = case.expected {
            let answer = client
                .submit_transaction(hex_of(&deploy), Some(WaitUntil::Included), None)
                .await;
            let (code, data) = not_accepted(answer);
            assert!(REFUSALS.contains(&code), "{name}: {code} {data}");
            refused += 1;
            continue;
        }
        let contract = execute(&client, &deploy).await.contract;
        let contract = contract.unwrap_or_else(|| panic!("{name} is not deployed"));
        let mut transaction = call(&alice, nonce + 1, contract, METHOD, b"").transaction;
        transaction.fuel_limit = 2_000_000_000;
        let receipt = execute(&client, &transaction.sign(alice.signing())).await;
        nonce += 2;
        let reason = receipt
            .outcome
            .abort
            .as_ref()
            .map(|abort| abort.kind.as_str());
        let fits = match case.expected {
            Expected::Success => {
                receipt.outcome.outcome == OutcomeKind::Success
                    || name.contains("4 billion pages") && reason == Some("out_of_fuel")
            }
            Expected::Abort(Cause::Fuel) => reason == Some("out_of_fuel"),
            Expected::Abort(Cause::Stack) => reason == Some("stack_exhausted"),
            Expected::Abort(Cause::Trap) => reason == Some("trap"),
            Expected::Refused(_) => false,
        };
        assert!(
            fits,
            "{name}: {:?}, expected {:?}",
            receipt.outcome, case.expected
        );
        ended += 1;
    }
    assert!(
        refused > 10 && ended > 10,
        "{refused} refused, {ended} executed"
    );

    // It works as before, for somebody else too.
    let bob = key("bob");
    let receipt = execute(&client, &transfer(&bob, 0, address("carol"), 1)).await;
    assert_eq!(receipt.outcome.outcome, OutcomeKind::Success);
    let transfer = transaction(
        &alice,
        nonce,
        Action::Transfer {
            to: address("bob"),
            amount: 1,
        },
    );
    let receipt = execute(&client, &transfer.sign(alice.signing())).await;
    assert_eq!(receipt.outcome.outcome, OutcomeKind::Success);
    assert_eq!(client.get_status().await.unwrap().state, NodeState::Running);
    node.stop().await.unwrap();
}
