//! Every transaction and view of the example contracts' tests: what is reported of it is what its receipt says, to the unit.
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

use slackline_gas::symbols::Known;
use slackline_gas::{Profile, Records, Report, Snapshot};
use slackline_testkit::record::{GAS_DIR, GAS_PROFILE};
use std::process::Command;

#[test]
fn every_call_adds_up_to_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("_suite::")
        .env(GAS_DIR, dir.path())
        .env(GAS_PROFILE, "1")
        .env("PROPTEST_RNG_SEED", "1")
        // So that this is one run of many tests, also within one of nextest's.
        .env_remove("NEXTEST")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");

    let records = Records::read(dir.path()).unwrap();
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
