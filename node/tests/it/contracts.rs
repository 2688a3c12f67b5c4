//! Contracts in their own words: JSON by their descriptions. And the tools to make them.

use crate::cli::{cell, seen};
use crate::process::{Dev, slackline};
use crate::support::{CONTRACT, address, call, deploy, execute, key, node, refusal, wasm};
use serde_json::{Value, json};
use slackline_contract_build::{Built, build};
use slackline_executor::Address;
use slackline_node::rpc::api::ApiClient;
use std::path::Path;

fn example(name: &str) -> Built {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/examples");
    build(&examples.join(name)).unwrap()
}

#[tokio::test]
async fn descriptions_are_told() {
    let (node, client) = node().await;
    let alice = key("alice");
    let mut code = wasm(CONTRACT);
    let receipt = execute(&client, &deploy(&alice, 0, code.clone())).await;
    let silent = receipt.contract.unwrap();
    let answer = client.get_abi(silent.to_string()).await.unwrap();
    assert_eq!((answer.contract, answer.abi), (silent, None));
    // A custom section with something else in it.
    code.extend(b"\x00\x10\x0dslackline_abi{}");
    let abi = |code: Vec<u8>, nonce| {
        let (client, alice) = (&client, &alice);
        async move {
            let receipt = execute(client, &deploy(alice, nonce, code)).await;
            let contract = receipt.contract.unwrap().to_string();
            client.get_abi(contract).await.unwrap().abi
        }
    };
    assert_eq!(abi(code.clone(), 1).await, Some(json!({})));
    code.pop();
    code.push(b'{');
    assert_eq!(abi(code, 2).await, None);
    for nobody in [Address([7; 32]), address("bob")] {
        let (code, data) = refusal(client.get_abi(nobody.to_string()).await);
        assert_eq!((code, &data["kind"]), (1010, &json!("no_contract")));
    }
    let receipt = execute(&client, &call(&alice, 3, silent, "ok", b"")).await;
    assert_eq!(receipt.height, 4);
    node.stop().await.unwrap();
}

#[test]
fn a_session_in_json() {
    let token = example("token");
    let file = token.path.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let silent = dir.path().join("silent.wasm");
    std::fs::write(&silent, wasm(CONTRACT)).unwrap();
    let silent = silent.to_str().unwrap();
    let dev = Dev::start(None);
    let run = |args: &[&str]| seen(dev.run(args));
    let ok = |args: &[&str]| {
        let (code, out, err) = run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}\n{out}");
        out
    };

    let out = ok(&["deploy", file, r#"{"supply": "1000"}"#]);
    let contract = cell(&out, "contract").to_owned();
    let contract = contract.as_str();
    let (alice, bob) = (address("alice"), address("bob"));
    let expected = format!(r#"of {contract}: Mint {{"amount":"1000","to":"{alice}"}}"#);
    assert_eq!(cell(&out, "events"), expected);
    for args in [r#"{"to": "bob", "amount": "5"}"#, r#"["bob", 5]"#] {
        let out = ok(&["call", contract, "transfer", args]);
        let event = format!(r#"Transfer {{"amount":"5","from":"{alice}","to":"{bob}"}}"#);
        assert_eq!(cell(&out, "events"), format!("of {contract}: {event}"));
        let out = ok(&["tx", cell(&out, "transaction")]);
        let input = format!(r#"{{"amount":"5","to":"{bob}"}}"#);
        assert_eq!(cell(&out, "input"), input);
        assert_eq!(cell(&out, "events"), format!("of {contract}: {event}"));
    }
    let balance = ["view", contract, "balance"];
    let out = ok(&[&balance[..], &[r#"["bob"]"#]].concat());
    assert_eq!(cell(&out, "returned"), r#""10""#);
    // As before, for those who prefer it.
    let typed = ["--arg", "address:bob", "--returns", "u128"];
    assert_eq!(
        cell(&ok(&[&balance[..], &typed].concat()), "returned"),
        "10"
    );
    let out = ok(&["view", contract, "total_supply", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["outcome"], "success");
    assert_eq!(answer["decoded"], json!({"returned": "1000", "events": []}));

    // Executed without success: 1.
    let too_much = r#"{"to": "bob", "amount": "5000"}"#;
    let (code, out, _) = run(&["call", contract, "transfer", too_much]);
    let expected = "reverted: InsufficientBalance (There are fewer tokens than that.)";
    assert_eq!((code, cell(&out, "outcome")), (1, expected));
    let (code, out, _) = run(&["call", contract, "transfer", too_much, "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &answer["decoded"]["error"]),
        (1, &json!("InsufficientBalance"))
    );
    let (code, out, _) = run(&["call", contract, "transfer", too_much, "--value", "1"]);
    assert_eq!(
        (code, cell(&out, "outcome")),
        (1, "reverted: method is not payable")
    );

    let shown = ok(&["abi", contract]);
    assert_eq!(shown, ok(&["abi", file]));
    for expected in [
        "  transfer(to: address, amount: u128)\n      Passes on tokens of the caller's.\n",
        "  init(supply: u128)  [not to be called]\n",
        "  balance(owner: address) -> u128  [view]\n",
        "  Transfer { from: address (topic), to: address (topic), amount: u128 }\n",
        "    InsufficientBalance\n        There are fewer tokens than that.\n",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    let abi: Value = serde_json::from_str(&ok(&["abi", file, "--json"])).unwrap();
    assert_eq!(abi["name"], "token");

    let plain = cell(&ok(&["deploy", silent]), "contract").to_owned();
    // Not executed: 2.
    for (args, expected) in [
        (
            vec!["call", contract, "transfer"],
            "needs arguments: '{\"to\": …, \"amount\": …}'",
        ),
        (
            vec!["call", contract, "transfer", "{"],
            "the arguments are not JSON",
        ),
        (vec!["call", contract, "transfer", "[]"], "found 0 values"),
        (
            vec![
                "call",
                contract,
                "transfer",
                r#"{"to": "eve", "amount": 1}"#,
            ],
            "to: expected 32 bytes in hexadecimal, found \"eve\"\n(in transfer(to: address, amount: u128)",
        ),
        (
            vec![
                "call",
                contract,
                "transfer",
                r#"{"to": "bob", "amount": -1}"#,
            ],
            "amount: expected",
        ),
        (
            vec!["call", contract, "transfer", r#"{"to": "bob", "sum": 1}"#],
            "expected one of `to`, `amount`, found `sum`",
        ),
        (
            vec!["call", contract, "nope", "[]"],
            "no method `nope`; it has: init, mint",
        ),
        (
            vec!["call", contract, "transfer", "[]", "--arg", "u8:1"],
            "cannot be used with",
        ),
        (vec!["view", contract, "balance"], "needs arguments"),
        (vec!["deploy", file], "needs arguments: '{\"supply\": …}'"),
        (vec!["deploy", file, "[true]"], "[0]: expected"),
        (
            vec!["deploy", silent, "[1]"],
            "JSON cannot be used: the contract has no description",
        ),
        (
            vec!["call", &plain, "ok", "[]"],
            "JSON cannot be used: the contract has no description",
        ),
        (vec!["abi", &plain], "the contract has no description"),
        (vec!["abi", silent], "the contract has no description"),
        (vec!["abi", "/proc/self/status"], "not a wasm module"),
        (vec!["abi", "/nonexistent"], "no such file, and no contract"),
        (vec!["abi", "bob"], "there is no contract at"),
    ] {
        let (code, _, err) = run(&args);
        assert!(
            code == 2 && err.contains(expected),
            "{args:?}: {code}, {err}"
        );
    }
}

/// All but its tests: those need the engine built once more.
#[test]
fn a_contract_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = slackline();
        command.args(args).current_dir(dir.path());
        // Within a run of nextest a contract is built once, and here the source changes.
        command.env_remove("NEXTEST_RUN_ID");
        seen(command.env_remove("SLACKLINE_DIR").output().unwrap())
    };
    let (code, out, err) = run(&["contract", "new", "my-counter"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for (args, expected) in [
        (
            &["new", "my-counter"][..],
            "cannot make my-counter: File exists",
        ),
        (&["new", "My"], "cannot be the name of a contract"),
        (&["new", "mod"], "it means something else"),
        (
            &["new", "x", "--dir", "a/b"],
            "cannot make a/b: No such file",
        ),
        (
            &["new", "x", "--slackline", "nowhere"],
            "Slackline is not in nowhere",
        ),
        (
            &["new", "x", "--slackline", "."],
            "which has no contracts/sdk: say with --slackline",
        ),
        (&["build"], "has no Cargo.toml"),
        (&["build", "nowhere"], "has no Cargo.toml"),
        (&["test", "nowhere"], "has no Cargo.toml"),
        (
            &["build", "my-counter", "--init", "x"],
            "--init: the arguments are not JSON",
        ),
        (&["build", "my-counter", "--init", "[-1]"], "[0]: expected"),
    ] {
        let (code, _, err) = run(&[&["contract"], args].concat());
        assert!(
            code == 2 && err.contains(expected),
            "{args:?}: {code}, {err}"
        );
    }

    let (code, out, _) = run(&["contract", "build", "my-counter"]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(
        cell(&out, "init"),
        "needs start: u64: give them with --init JSON"
    );
    assert!(out.contains("  increment(by: u64) -> u64\n"), "{out}");
    let build = [
        "contract",
        "build",
        "my-counter",
        "--init",
        r#"{"start": 5}"#,
        "--json",
    ];
    let (code, out, _) = run(&build);
    let built: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &built["package"]), (0, &json!("my-counter")));
    let fuel = &built["deployment_fuel"];
    let total = fuel["total"].as_u64().unwrap();
    assert!(total > fuel["intrinsic"].as_u64().unwrap());
    assert!(built["bytes"].as_u64().unwrap() < 8 << 10);

    // The node says the same.
    let dev = Dev::start(None);
    let (code, out, _) = seen(dev.run(&["deploy", built["file"].as_str().unwrap(), "[5]"]));
    assert_eq!(code, 0, "{out}");
    let used = cell(&out, "fuel used")
        .split(' ')
        .next()
        .unwrap()
        .replace(',', "");
    assert_eq!(used, total.to_string());
    assert_eq!(cell(&out, "deposit"), built["deposit"].as_str().unwrap());

    // Code that a node refuses.
    let lib = dir.path().join("my-counter/src/lib.rs");
    let text = std::fs::read_to_string(&lib).unwrap();
    let import = "#[link(wasm_import_module = \"env\")] unsafe extern \"C\" { fn odd(); }\n\
                  #[unsafe(no_mangle)] pub extern \"C\" fn other() { unsafe { odd() } }\n";
    std::fs::write(&lib, text.replace("#![forbid(unsafe_code)]", "") + import).unwrap();
    let (code, _, err) = run(&["contract", "build", "my-counter"]);
    assert!(
        code == 2 && err.contains("cannot be deployed") && err.contains("odd"),
        "{err}"
    );
    std::fs::write(&lib, text + "no").unwrap();
    let (code, _, err) = run(&["contract", "build", "my-counter"]);
    assert!(
        code == 2 && err.contains("`my-counter` was not built"),
        "{err}"
    );
}
