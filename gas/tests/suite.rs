//! Recorded runs of a small suite, and what is made of them.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use slackline_gas::growth::{Model, advise};
use slackline_gas::symbols::{Known, Symbols, SymbolsError};
use slackline_gas::{Format, How, Profile, Records, Report, Snapshot};
use slackline_testkit::calls::{GAS_CALLS, ReplayError, replay};
use slackline_testkit::record::{GAS_DIR, GAS_LIMITS, GAS_PROFILE, Kind, Recording};
use slackline_testkit::{
    AbortReason, Address, BALANCE, Config, Kit, Result, contract, measured, unmetered,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const COUNTER: &str = "../contracts/examples/counter";
/// Where the recorded suite writes what receipts say.
const RECEIPTS: &str = "SLACKLINE_GAS_TEST_RECEIPTS";

fn deployed(kit: &Kit) -> Result<Address> {
    let deploy = kit.deploy(&kit.account("alice"), &contract!(COUNTER)?);
    deploy.args(&7u64).send()?.contract()
}

/// Not a test of itself: it is run to be recorded.
#[test]
#[ignore = "run by others"]
fn recorded() -> Result<()> {
    let kit = Kit::new()?;
    let bob = kit.account("bob");
    let counter = kit.unmetered(|| deployed(&kit))?;
    let increment = |by: u64| kit.call(&bob, counter, "increment").args(&by);
    let mut receipts = Vec::new();
    let both = kit.measure("two", || -> Result<()> {
        receipts.push(increment(1).send()?.expect_ok().fuel());
        receipts.push(increment(2).send()?.expect_ok().fuel());
        Ok(())
    });
    assert_eq!(both.fuel, receipts.iter().sum::<u64>());
    both.value?;
    receipts.push(increment(u64::MAX).send()?.fuel());
    let short = increment(1).fuel(receipts[0] - 1_000).send()?;
    assert_eq!(short.expect_abort(), AbortReason::OutOfFuel);
    receipts.push(short.fuel());
    for size in [1u64, 2, 3, 5, 8] {
        // A larger number costs no more to add.
        let _ = kit.sized("by", size, || increment(size).send())?;
    }
    let _ = kit.view(counter, "get").send()?.expect_ok();
    if let Some(file) = std::env::var_os(RECEIPTS) {
        fs::write(file, format!("{receipts:?}")).expect("it can be written");
    }
    Ok(())
}

/// Not a test of itself: it is run to be recorded.
#[test]
#[ignore = "run by others"]
fn recorded_too() -> Result<()> {
    #[measured]
    fn pays(kit: &Kit) -> Result<()> {
        let _ = kit
            .transfer(&kit.account("alice"), &kit.account("bob"), 5)
            .send()?;
        Ok(())
    }
    #[unmetered]
    fn prepares(kit: &Kit) -> Result<()> {
        pays(kit)
    }
    let kit = Kit::new()?;
    deployed(&kit)?;
    prepares(&kit)?;
    pays(&kit)
}

/// Not a test of itself: its calls are recorded, and made again.
#[test]
#[ignore = "run by others"]
fn repeated() -> Result<()> {
    let kit = Kit::with(Config {
        accounts: vec![
            ("alice".to_owned(), BALANCE),
            ("zoe".to_owned(), BALANCE / 2),
        ],
        ..Config::default()
    })?;
    let (alice, zoe) = (kit.account("alice"), kit.account("zoe"));
    let first = kit.unmetered(|| deployed(&kit))?;
    let second = deployed(&kit)?;
    let increment = |counter, by: u64| kit.call(&zoe, counter, "increment").args(&by);
    let _ = kit
        .measure("some", || kit.sized("by", 4, || increment(first, 4).send()))
        .value?;
    kit.advance_time(Duration::from_secs(60))?;
    kit.advance_blocks(2)?;
    kit.block([
        increment(second, 1),
        increment(second, u64::MAX).fuel(2_000_000).price(3).tip(1),
        kit.transfer(&alice, &zoe, 5),
        // No arguments of this method, so they are recorded as bytes.
        kit.call(&alice, first, "increment").args(&7u8),
    ])?;
    let _ = kit.view(first, "get").caller(&zoe).send()?;
    Ok(())
}

#[test]
fn recorded_calls_cost_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let calls = path("calls");
    let variables = [(GAS_CALLS, calls.to_str().unwrap())];
    let recorded = run(&path("recorded"), "repeated", &variables);
    assert_eq!(recorded.executions.len(), 7);

    let file = calls.join("suite.repeated.calls");
    let text = fs::read_to_string(&file).unwrap();
    let line = |start: &str| text.lines().find(|line| line.starts_with(start));
    let counter = r#"{"call":"counter.increment","from":"zoe","args":{"by":"4"},"#;
    let counter = format!(r#"{counter}"scopes":["some"],"sizes":[["by",4]]}}"#);
    assert!(line(&counter).is_some(), "{text}");
    assert!(line(r#"{"advance":1,"ms":60000}"#).is_some(), "{text}");
    assert!(text.contains(r#""input":"07""#), "{text}");

    let again = |name: &str, codes: &BTreeMap<String, Vec<u8>>, text: &str| {
        fs::write(&file, text).unwrap();
        let recording = Recording {
            directory: path(name),
            ..Recording::default()
        };
        replay(&file, codes, recording)?;
        Ok::<_, ReplayError>(Records::read(&path(name)).unwrap())
    };
    let none = BTreeMap::new();
    let replayed = again("again", &none, &text).unwrap();
    assert_eq!(Report::of(&replayed), Report::of(&recorded));
    assert_eq!(Snapshot::of(&replayed), Snapshot::of(&recorded));

    // Other code under the same name: that of one does not count.
    let wasm =
        wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "increment")))"#);
    let codes = BTreeMap::from([("counter".to_owned(), wasm.unwrap())]);
    let lines = r#"{"calls":1}
        # Set up.
        {"deploy":"counter","from":"alice","unmetered":true}

        {"call":"counter.increment","from":"alice"}"#;
    let other = again("other", &codes, lines).unwrap();
    let [made] = &other.executions[..] else {
        panic!("{:?}", other.executions)
    };
    assert_eq!(
        (made.outcome.as_str(), made.test.as_str()),
        ("success", "suite.repeated")
    );

    let deploy = text
        .lines()
        .find(|line| line.starts_with(r#"{"deploy""#))
        .unwrap();
    for (lines, expected) in [
        ("", "does not begin with {\"calls\": 1}"),
        (r#"{"calls":2}"#, "does not begin with"),
        (
            r#"{"calls":1,"balances":{}}"#,
            "line 1: unknown field `balances`",
        ),
        (
            r#"{"calls":1}|{"cal":"counter.get"}"#,
            "line 2: unknown field `cal`",
        ),
        (
            r#"{"calls":1}|{"from":"alice"}"#,
            "line 2: a line has one of `deploy`",
        ),
        (r#"{"calls":1}|{"transfer":"bob"}"#, "`from` is missing"),
        (
            r#"{"calls":1}|{"call":"counter","from":"bob"}"#,
            "is not CONTRACT.METHOD",
        ),
        (
            r#"{"calls":1}|{"call":"counter.get","from":"bob"}"#,
            "those are none",
        ),
        (
            r#"{"calls":1}|DEPLOY|{"call":"other.get","from":"bob"}"#,
            "line 3: \"other\" is no account, no address, and no contract that was deployed before: those are counter",
        ),
        (
            r#"{"calls":1}|DEPLOY|{"call":"counter.play","from":"bob"}"#,
            "line 3: ",
        ),
        (
            r#"{"calls":1}|{"deploy":"counter","wasm":"none.wasm","from":"bob"}"#,
            "none.wasm: No such file",
        ),
        (
            r#"{"calls":1}|{"deploy":"counter","from":"bob"}"#,
            "`wasm` is missing",
        ),
    ] {
        let lines = lines.replace("DEPLOY", deploy).replace('|', "\n");
        let error = again("refused", &none, &lines).unwrap_err().to_string();
        assert!(error.contains(expected), "{lines}: {error}");
    }
}

fn record(dir: &Path, variables: &[(&str, &str)]) -> Records {
    run(dir, "recorded", variables)
}

fn run(dir: &Path, tests: &str, variables: &[(&str, &str)]) -> Records {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", tests])
        .env(GAS_DIR, dir)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    Records::read(dir).unwrap()
}

#[test]
fn reports_say_what_receipts_say() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("receipts");
    let records = record(dir.path(), &[(RECEIPTS, file.to_str().unwrap())]);
    let receipts: Vec<u64> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();

    let report = Report::of(&records);
    assert_eq!(report.tests, 2);
    let counter = &report.contracts["counter"];
    let costs = &counter.methods["increment"][&How::Transaction];
    assert_eq!((costs.calls, costs.reverts, costs.aborts), (9, 1, 1));
    let made = records
        .executions
        .iter()
        .filter(|made| made.test == "recorded");
    let calls: Vec<u64> = made
        .filter(|made| made.kind == Kind::Call)
        .map(|made| made.fuel_used)
        .collect();
    assert_eq!(calls[..4], receipts);
    assert_eq!(costs.sum, calls.iter().sum::<u64>());
    let mut ended: Vec<u64> = calls
        .iter()
        .copied()
        .filter(|fuel| *fuel != receipts[3])
        .collect();
    ended.sort_unstable();
    assert_eq!((costs.min, costs.max), (ended[0], ended[7]));
    assert_eq!(costs.median, (ended[3] + ended[4]) / 2);
    assert_eq!(costs.mean, ended.iter().sum::<u64>() / 8);
    assert_eq!(costs.split.sum(), ended.iter().sum::<u64>());
    assert_eq!(costs.split.host["storage_get"].calls, 8);
    // The unmetered one is not there.
    assert_eq!(counter.deployments.as_ref().unwrap().calls, 1);
    assert_eq!(report.transfers.as_ref().unwrap().calls, 1);
    assert_eq!(counter.methods["get"][&How::View].calls, 1);

    // And what is not there is named.
    let names = report.clone().only("counter.decrement").unwrap_err();
    assert_eq!(names, ["counter", "counter.get", "counter.increment"]);

    let snapshot = Snapshot::of(&records);
    let names: Vec<&str> = snapshot.names().collect();
    assert_eq!(
        names,
        [
            "suite::recorded",
            "suite::recorded / two",
            "suite::recorded_too",
            "suite::recorded_too / pays"
        ]
    );
    assert_eq!(
        snapshot.fuel("suite::recorded / two"),
        Some(receipts[0] + receipts[1])
    );
    assert_eq!(
        snapshot.fuel("suite::recorded_too / pays"),
        Some(report.transfers.as_ref().unwrap().sum)
    );

    // The same again is the same.
    let again = tempfile::tempdir().unwrap();
    let again = record(again.path(), &[]);
    assert_eq!(Report::of(&again), report);
    assert_eq!(Snapshot::of(&again), snapshot);
    assert!(report.diff(&Report::of(&again)).is_empty());
}

#[test]
fn lowest_limits_suffice_and_lower_ones_do_not() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let records = record(dir.path(), &[(GAS_LIMITS, "1")]);
    let first = records
        .executions
        .iter()
        .find(|made| made.kind == Kind::Call)
        .unwrap();
    let least = first.least_limit.unwrap();

    let kit = Kit::new()?;
    let bob = kit.account("bob");
    let counter = deployed(&kit)?;
    let increment = |limit| kit.call(&bob, counter, "increment").args(&1u64).fuel(limit);
    assert_eq!(
        increment(least - 1).send()?.expect_abort(),
        AbortReason::OutOfFuel
    );
    assert_eq!(increment(least).send()?.expect_ok().fuel(), first.fuel_used);

    let advice = advise(&records, 10.0);
    let advice = advice
        .iter()
        .find(|advice| advice.method == "increment")
        .unwrap();
    assert_eq!(advice.calls, 7);
    assert!(advice.proposed >= advice.least_limit.unwrap() + advice.least_limit.unwrap() / 10);
    let grows = advice
        .growth
        .iter()
        .find(|growth| growth.with == "by")
        .unwrap();
    assert_eq!(grows.fit.unwrap().model, Model::Constant);
    Ok(())
}

#[test]
fn profiles_name_functions_and_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = record(dir.path(), &[(GAS_PROFILE, "1")]);
    let profile = Profile::of(&records, |made| made.kind == Kind::Call).unwrap();
    let calls = records
        .executions
        .iter()
        .filter(|made| made.kind == Kind::Call);
    assert_eq!(
        profile.fuel(),
        calls.map(|made| made.fuel_used).sum::<u64>()
    );
    assert_eq!(profile.poor().count(), 0);

    // The method of the contract, inlined or not, and its lines.
    let functions = profile.functions();
    let method = functions
        .iter()
        .find(|(name, ..)| name.contains("Counter>::increment"));
    assert!(method.is_some(), "{functions:?}");
    let of_lines: u64 = profile.lines().values().map(|line| line.own).sum();
    assert!(of_lines > 0 && of_lines < profile.fuel());
    let (file, _) = profile
        .files()
        .find(|(file, path)| file.ends_with("counter/src/lib.rs") && path.is_some())
        .unwrap();
    let listing = profile.listing(file).unwrap();
    assert!(listing.contains("self.count.set(&count);"), "{listing}");

    // Of each method, and what has changed in it.
    let mut report = Report::of(&records);
    report.add_functions(&records).unwrap();
    let own = report
        .functions
        .values()
        .flat_map(BTreeMap::values)
        .map(|of| of.own);
    let all = records.executions.iter().map(|made| made.fuel_used);
    assert_eq!(own.sum::<u64>(), all.sum::<u64>());
    let mut dearer = report.clone();
    let functions = dearer.functions.get_mut("counter.increment").unwrap();
    let (name, of) = functions
        .iter_mut()
        .find(|(name, _)| name.contains("increment"))
        .unwrap();
    of.own += 77;
    let name = name.clone();
    let shown = report.diff(&dearer).render(Format::Text, false);
    assert!(
        shown.contains(name.as_str()) && shown.contains("+77"),
        "{shown}"
    );
    assert!(report.diff(&report).is_empty() && !report.diff(&dearer).is_empty());
    // One that does not have them has none that are new.
    let without = Report::of(&records);
    assert!(without.diff(&report).functions.is_empty());

    // Each form has all of it.
    let folded = profile.folded();
    let fuel = |line: &String| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(folded.iter().map(fuel).sum::<u64>(), profile.fuel());
    assert!(
        folded
            .iter()
            .any(|line| line.contains("(lost by the abort)"))
    );
    let speedscope: serde_json::Value = serde_json::from_str(&profile.speedscope("x")).unwrap();
    let weights = speedscope["profiles"][0]["weights"].as_array().unwrap();
    assert_eq!(
        weights
            .iter()
            .map(|weight| weight.as_u64().unwrap())
            .sum::<u64>(),
        profile.fuel()
    );
    assert!(profile.flamegraph("x").unwrap().contains("</svg>"));
    assert!(!profile.pprof().is_empty());

    // Without debug information there are numbers, and the same fuel.
    let debug_file = {
        let code = records.codes.values_mut().next().unwrap();
        code.debug_file.take().unwrap()
    };
    let bare = Profile::of(&records, |made| made.kind == Kind::Call).unwrap();
    assert_eq!(bare.fuel(), profile.fuel());
    assert_eq!(
        bare.poor().collect::<Vec<_>>(),
        [("counter", Known::Nothing)]
    );
    assert!(
        bare.functions()
            .iter()
            .any(|(name, ..)| name.starts_with("function "))
    );

    // That of other code is refused.
    let code = records.codes.values_mut().next().unwrap();
    let other = dir.path().join("other.debug.wasm");
    let wasm = wat::parse_str("(module (func (export \"f\") nop))").unwrap();
    fs::write(&other, wasm).unwrap();
    code.debug_file = Some(other);
    let error = Symbols::of(code).unwrap_err();
    assert!(matches!(error, SymbolsError::Other { .. }), "{error}");
    assert!(debug_file.is_file());

    // And so is what was not recorded for it.
    let plain = tempfile::tempdir().unwrap();
    let records = record(plain.path(), &[]);
    let error = Profile::of(&records, |_| true).unwrap_err().to_string();
    assert!(error.contains("SLACKLINE_GAS_PROFILE=1"), "{error}");
}

#[test]
fn files_that_are_no_records_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.jsonl"), "{\"neither\": 1}\n").unwrap();
    let error = Records::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("a.jsonl, line 1"), "{error}");
    let error = Records::read(&dir.path().join("missing"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot read"), "{error}");
}
