//! Every transaction and view of the example contracts' tests: what is reported of it is what its receipt says, to the unit, and what a node
//! takes for the same over RPC.
//!
//! The tests of the examples are in this program too, so that it can run itself as `slackline gas` runs a contract's tests. The testkit
//! compares each recorded execution with the receipt of the node's own code, and fails the test when they differ.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

#[path = "../../contracts/examples/amm/tests/amm.rs"]
mod amm_suite;
#[path = "../../contracts/examples/counter/tests/counter.rs"]
mod counter_suite;
#[path = "../../contracts/examples/multisig/tests/multisig.rs"]
mod multisig_suite;
#[path = "../../contracts/examples/nft/tests/nft.rs"]
mod nft_suite;
#[path = "../../contracts/examples/orderbook/tests/orderbook.rs"]
mod orderbook_suite;
#[path = "../../contracts/examples/plain/tests/plain.rs"]
mod plain_suite;
#[path = "../../contracts/examples/registry/tests/registry.rs"]
mod registry_suite;
#[path = "../../contracts/examples/token/tests/token.rs"]
mod token_suite;
#[path = "../../contracts/examples/verify/tests/verify.rs"]
mod verify_suite;

use serde_json::Value;
use slackline_abi::Contract;
use slackline_client::types::ReceiptJson;
use slackline_client::{Client, Retry, View};
use slackline_executor::{Action, Address, Genesis, GenesisAccount, PublicKey, Transaction};
use slackline_gas::symbols::Known;
use slackline_gas::{Profile, Records, Report, Snapshot};
use slackline_node::{Node, NodeConfig};
use slackline_testkit::calls::GAS_CALLS;
use slackline_testkit::record::{Execution, GAS_DIR, GAS_PROFILE};
use slackline_testkit::{BALANCE, Config, DEPOSIT, FUEL, Kit, NAMES};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs those tests of this program that have `chosen` in their names.
fn run(chosen: &[&str], dir: &Path, variables: &[(&str, &Path)]) -> Records {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(chosen)
        .env(GAS_DIR, dir)
        .envs(variables.iter().copied())
        .env("PROPTEST_RNG_SEED", "1")
        // So that this is one run of many tests, also within one of nextest's.
        .env_remove("NEXTEST")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    Records::read(dir).unwrap()
}

#[test]
fn every_call_adds_up_to_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let records = run(&["_suite::"], dir.path(), &[(GAS_PROFILE, Path::new("1"))]);
    let executions = records.executions.len();
    assert!(executions > 200, "{executions}");
    let receipts: u64 = records.executions.iter().map(|made| made.fuel_used).sum();

    // By function and line: no fuel is left that no block has counted.
    let profile = Profile::of(&records, |_| true).unwrap();
    assert_eq!(profile.fuel(), receipts);
    let uncounted = profile
        .leaves()
        .filter(|(path, _)| path.last() == Some(&"(instance)"));
    assert_eq!(uncounted.collect::<Vec<_>>(), []);
    assert_eq!(profile.executions(), executions as u64);

    // By method: what transactions and views cost is in one row each, and each row is the sum of its parts.
    let report = Report::of(&records);
    let mut reported = report.transfers.as_ref().map_or(0, |costs| costs.sum);
    for contract in report.contracts.values() {
        reported += contract.deployments.as_ref().map_or(0, |costs| costs.sum);
        for (how, costs) in contract.methods.values().flatten() {
            if *how != slackline_gas::How::Contract {
                reported += costs.sum;
            }
            if costs.aborts == 0 {
                assert_eq!(costs.split.sum(), costs.sum);
            }
        }
    }
    assert_eq!(reported, receipts);

    // By test.
    let snapshot = Snapshot::of(&records);
    let tests = snapshot.names().filter(|name| !name.contains(" / "));
    let tests: u64 = tests.map(|name| snapshot.fuel(name).unwrap()).sum();
    assert_eq!(tests, receipts);

    // What was compiled here has lines; the escrow is WebAssembly text.
    let poor: Vec<_> = profile.poor().collect();
    assert!(
        poor.iter()
            .all(|(name, known)| !name.starts_with("amm") && *known != Known::Lines),
        "{poor:?}"
    );
}

/// A node on which the accounts of the testkit have what they have there, so that contracts get the same addresses.
async fn node(dir: &Path) -> Node {
    let kit = Kit::new().unwrap();
    let of = |name: &str| Address(kit.account(name).address().0);
    let genesis = Genesis {
        chain_id: Config::default().chain_id,
        timestamp_ms: kit.time_ms(),
        proposer: of("proposer"),
        accounts: NAMES
            .iter()
            .map(|name| GenesisAccount {
                address: of(name),
                balance: BALANCE,
            })
            .collect(),
        validators: Vec::new(),
        governor: None,
    };
    fs::write(
        dir.join("genesis.json"),
        serde_json::to_string(&genesis).unwrap(),
    )
    .unwrap();
    let config = NodeConfig {
        data_dir: Some(dir.to_owned()),
        listen: ([127, 0, 0, 1], 0).into(),
        ..NodeConfig::default()
    };
    Node::start(config).await.unwrap()
}

/// Makes recorded calls on a node. Of those that are metered, the method and the fuel in the receipt.
async fn on_node(file: &Path) -> Vec<(String, u64)> {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path()).await;
    let client = Client::new(&node.rpc_url()).unwrap();
    let kit = Kit::new().unwrap();
    let mut nonces: HashMap<String, u64> = HashMap::new();
    let mut contracts: HashMap<String, (Address, Option<Contract>)> = HashMap::new();
    let mut used = Vec::new();
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().skip(1);
    let entries = lines.flat_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        // A node makes a block of each: fuel does not depend on it.
        match line["block"].as_array() {
            Some(entries) => entries.clone(),
            None => vec![line],
        }
    });
    for entry in entries {
        let text = |field: &str| entry[field].as_str();
        let amount = |field: &str, usual| text(field).map_or(usual, |text| text.parse().unwrap());
        let limit = |usual| entry["fuel_limit"].as_u64().unwrap_or(usual);
        let input = |abi: Option<&Contract>, method: &str| match (&entry["args"], text("input")) {
            (Value::Null, None) => Vec::new(),
            (_, Some(input)) => hex::decode(input).unwrap(),
            (args, None) => {
                let mut args = args.clone();
                // Time on a node is that of today.
                if args["deadline"].is_string() {
                    args["deadline"] = u64::MAX.to_string().into();
                }
                abi.unwrap().encode_args(method, &args).unwrap()
            }
        };
        // The contract by its name, or its address.
        let called = |called: &str| {
            let (contract, method) = called.split_once('.').unwrap();
            let (contract, abi) = match contracts.get(contract) {
                Some((contract, abi)) => (*contract, abi.as_ref()),
                None => (contract.parse().unwrap(), None),
            };
            (contract, method.to_owned(), input(abi, method))
        };
        let is_metered = entry["unmetered"].is_null();
        if let Some(view) = text("view") {
            let (contract, method, input) = called(view);
            let view = View {
                contract,
                method: method.clone(),
                input,
                caller: text("caller").map(|caller| caller.parse().unwrap()),
                fuel_limit: Some(limit(FUEL)),
                height: None,
            };
            let answer = client.view(view).await.unwrap();
            if is_metered {
                used.push((method, answer.fuel_used));
            }
            continue;
        }
        let value = amount("value", 0);
        let (method, action) = if let Some(name) = text("deploy") {
            let code = fs::read(file.with_file_name(text("wasm").unwrap())).unwrap();
            let abi = Contract::from_wasm(&code).ok().flatten();
            let input = input(abi.as_ref(), "init");
            // Its address is known when it is there.
            contracts.insert(name.to_owned(), (Address::default(), abi));
            ("init".to_owned(), Action::Deploy { code, input, value })
        } else if let Some(call) = text("call") {
            let (contract, method, input) = called(call);
            let action = Action::Call {
                contract,
                method: method.clone(),
                input,
                value,
            };
            (method, action)
        } else {
            let to = text("transfer").unwrap().parse().unwrap();
            (
                "transfer".to_owned(),
                Action::Transfer { to, amount: value },
            )
        };
        let from = kit.account(text("from").unwrap());
        let nonce = nonces.entry(from.name().to_owned()).or_default();
        let transaction = Transaction {
            chain_id: Config::default().chain_id,
            sender: PublicKey(from.key().verifying_key().to_bytes()),
            nonce: *nonce,
            fuel_limit: limit(FUEL),
            fuel_price: entry["price"].as_u64().unwrap_or(1),
            tip: entry["tip"].as_u64().unwrap_or(0),
            deposit_limit: amount("deposit_limit", DEPOSIT),
            action,
        };
        *nonce += 1;
        let signed = transaction.sign(from.key());
        let receipt: ReceiptJson = client.execute(&signed, &Retry::default()).await.unwrap();
        if let Some((contract, _)) = text("deploy").and_then(|name| contracts.get_mut(name)) {
            *contract = receipt.contract.unwrap_or_default();
        }
        if is_metered {
            used.push((method, receipt.fuel_used));
        }
    }
    node.stop().await.unwrap();
    used
}

/// Those of examples that do not travel in time, which nodes cannot.
#[tokio::test]
async fn every_call_costs_what_a_node_takes() {
    let dir = tempfile::tempdir().unwrap();
    let calls = dir.path().join("calls");
    let suites = ["amm", "orderbook", "counter", "multisig", "nft", "token"];
    let chosen = suites.map(|name| format!("{name}_suite::"));
    let records = run(
        &chosen.each_ref().map(String::as_str),
        &dir.path().join("records"),
        &[(GAS_CALLS, &calls)],
    );
    let mut on_nodes: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for entry in calls.read_dir().unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|ending| ending == "calls") {
            let text = fs::read_to_string(&file).unwrap();
            let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let test = header["test"].as_str().unwrap().to_owned();
            on_nodes
                .entry(test)
                .or_default()
                .extend(on_node(&file).await);
        }
    }
    let mut recorded: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for Execution {
        test,
        method,
        fuel_used,
        ..
    } in &records.executions
    {
        let method = method.clone().unwrap_or_else(|| "transfer".to_owned());
        let of_test = recorded.entry(test.clone()).or_default();
        of_test.push((method, *fuel_used));
    }
    // A test may use several chains by turns.
    for used in recorded.values_mut().chain(on_nodes.values_mut()) {
        used.sort();
    }
    assert_eq!(on_nodes, recorded);
    for suite in &suites {
        let mut tests = recorded.keys();
        assert!(tests.any(|test| test.starts_with(suite)), "{suite}");
    }
    let calls: usize = recorded.values().map(Vec::len).sum();
    assert!(calls > 150, "{calls}");
}
