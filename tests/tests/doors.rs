//! Bad input at each door of the executor: a specific error, and nothing changed.

use anyhow::{Context, Result, ensure};
use ed25519_dalek::Signer;
use slackline_executor::{
    Action, AdmitError, Chain, CodeError, Mode, OpenError, Outcome, Pending, SignedTransaction,
};
use slackline_tests::{
    CHAIN_ID, PLENTY, TestChain, WEALTH, address, example, genesis, key, transaction,
};

fn transfer(amount: u128) -> Action {
    Action::Transfer {
        to: address(&key(2)),
        amount,
    }
}

fn deploy(wat: &str) -> Result<Action> {
    Ok(Action::Deploy {
        code: wat::parse_str(wat)?,
        input: Vec::new(),
        value: 0,
    })
}

fn refused(chain: &TestChain, signed: &SignedTransaction) -> Result<AdmitError> {
    let error = chain
        .chain
        .admit(signed, Pending::default())
        .err()
        .context("admitted")?;
    // A block that gets it nevertheless leaves it out, or (where only the latest state tells) reverts it.
    let before = chain.chain.account(&address(&key(1)))?;
    let produced = chain.chain.produce_block(vec![signed.clone()], 0)?;
    for receipt in &produced.receipts {
        ensure!(
            matches!(receipt.outcome, Outcome::Revert { .. }),
            "{:?}",
            receipt.outcome
        );
    }
    if produced.receipts.is_empty() {
        assert_eq!(chain.chain.account(&address(&key(1)))?, before);
    }
    Ok(error)
}

#[test]
fn transactions() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let alice = key(1);
    let good = transaction(&alice, 0, transfer(1), 1_000_000);

    let mut other_chain = good.transaction.clone();
    other_chain.chain_id = CHAIN_ID + 1;
    let error = refused(&chain, &other_chain.sign(&alice))?;
    ensure!(
        matches!(
            error,
            AdmitError::WrongChain {
                expected: CHAIN_ID,
                got: 8
            }
        ),
        "{error}"
    );

    let mut forged = good.clone();
    forged.signature = key(2).sign(&good.hash().0).to_bytes();
    ensure!(matches!(
        refused(&chain, &forged)?,
        AdmitError::BadSignature
    ));
    let mut changed = good.clone();
    changed.transaction.action = transfer(2);
    ensure!(matches!(
        refused(&chain, &changed)?,
        AdmitError::BadSignature
    ));

    let error = refused(&chain, &transaction(&alice, 1, transfer(1), 1_000_000))?;
    ensure!(
        matches!(
            error,
            AdmitError::NonceTooHigh {
                expected: 0,
                got: 1
            }
        ),
        "{error}"
    );
    let error = refused(&chain, &transaction(&alice, 0, transfer(1), 10))?;
    ensure!(
        matches!(error, AdmitError::FuelLimitTooLow { got: 10, .. }),
        "{error}"
    );
    let error = refused(&chain, &transaction(&alice, 0, transfer(1), u64::MAX))?;
    ensure!(
        matches!(error, AdmitError::FuelLimitTooHigh { .. }),
        "{error}"
    );
    let error = refused(&chain, &transaction(&alice, 0, transfer(WEALTH), 1_000_000))?;
    ensure!(
        matches!(
            error,
            AdmitError::InsufficientBalance {
                available: WEALTH,
                ..
            }
        ),
        "{error}"
    );
    let error = refused(&chain, &transaction(&key(77), 0, transfer(0), 1_000_000))?;
    ensure!(
        matches!(error, AdmitError::InsufficientBalance { available: 0, .. }),
        "{error}"
    );

    // It is good.
    chain.chain.admit(&good, Pending::default())?;
    let produced = chain.chain.produce_block(vec![good.clone()], 0)?;
    assert_eq!(produced.receipts.len(), 1);
    let error = refused(&chain, &good)?;
    ensure!(
        matches!(
            error,
            AdmitError::NonceTooLow {
                expected: 1,
                got: 0
            }
        ),
        "{error}"
    );
    // What waits counts.
    let next = transaction(&alice, 2, transfer(1), 1_000_000);
    chain.chain.admit(&next, Pending { count: 1, cost: 5 })?;
    let error = chain
        .chain
        .admit(
            &next,
            Pending {
                count: 1,
                cost: WEALTH - 1_000_000,
            },
        )
        .err();
    ensure!(
        matches!(error, Some(AdmitError::InsufficientBalance { .. })),
        "{error:?}"
    );

    for cut in [0, 1, 40, 100] {
        let bytes = borsh::to_vec(&good)?;
        let error = chain.chain.decode(&bytes[..bytes.len() - 1 - cut]).err();
        ensure!(matches!(error, Some(AdmitError::Malformed(_))), "{error:?}");
    }
    let mut trailing = borsh::to_vec(&good)?;
    trailing.push(0);
    ensure!(matches!(
        chain.chain.decode(&trailing),
        Err(AdmitError::Malformed(_))
    ));
    let error = chain.chain.decode(&vec![0; 10_000_000]).err();
    ensure!(
        matches!(
            error,
            Some(AdmitError::TooLarge {
                bytes: 10_000_000,
                ..
            })
        ),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn calls() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let alice = key(1);
    let token = chain.deploy(&alice, example("token")?, &1u128)?;
    let call = |nonce, contract, method: &str| {
        let action = Action::Call {
            contract,
            method: method.to_owned(),
            input: Vec::new(),
            value: 0,
        };
        transaction(&alice, nonce, action, PLENTY)
    };
    let error = refused(&chain, &call(1, address(&key(2)), "x"))?;
    ensure!(matches!(error, AdmitError::NoContract(_)), "{error}");
    let error = refused(&chain, &call(2, token, "nope"))?;
    ensure!(
        error
            .to_string()
            .contains("balance, mint, total_supply, transfer"),
        "{error}"
    );
    let error = refused(&chain, &call(3, token, "init"))?;
    ensure!(matches!(error, AdmitError::UnknownMethod { .. }), "{error}");
    let error = refused(&chain, &call(4, token, &"x".repeat(1_000)))?;
    ensure!(matches!(error, AdmitError::UnknownMethod { .. }), "{error}");
    Ok(())
}

#[test]
fn code() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let alice = key(1);
    let refuse = |action: Action| -> Result<CodeError> {
        let signed = chain.sign(&alice, action, 2_000_000_000)?;
        match refused(&chain, &signed)? {
            AdmitError::InvalidCode(error) => Ok(error),
            other => anyhow::bail!(other),
        }
    };
    let code = |code: &[u8]| Action::Deploy {
        code: code.to_vec(),
        input: Vec::new(),
        value: 0,
    };

    assert_eq!(refuse(code(b""))?, CodeError::NotWasm);
    assert_eq!(refuse(code(b"#!/bin/sh"))?, CodeError::NotWasm);
    let token = example("token")?;
    let error = refuse(code(&token[..token.len() / 2]))?;
    ensure!(matches!(error, CodeError::Invalid { .. }), "{error}");
    let error = refuse(code(
        &[b"\0asm\x01\0\0\0".as_slice(), &vec![0; 1 << 20]].concat(),
    ))?;
    ensure!(matches!(error, CodeError::TooLarge { .. }), "{error}");

    let error = refuse(deploy(
        r#"(module (import "env" "f" (func)) (memory (export "memory") 1) (func (export "a")))"#,
    )?)?;
    assert_eq!(
        error,
        CodeError::UnknownImport {
            module: "env".to_owned(),
            name: "f".to_owned()
        }
    );
    let error = refuse(deploy(
        r#"(module (import "slackline_v1" "teleport" (func)) (memory (export "memory") 1) (func (export "a")))"#,
    )?)?;
    ensure!(matches!(error, CodeError::UnknownImport { .. }), "{error}");
    let error = refuse(deploy(
        r#"(module (import "slackline_v1" "emit" (func)) (memory (export "memory") 1) (func (export "a")))"#,
    )?)?;
    ensure!(matches!(error, CodeError::ImportType { .. }), "{error}");
    let error = refuse(deploy(
        r#"(module (import "slackline_v1" "emit" (memory 1)) (func (export "a")))"#,
    )?)?;
    ensure!(matches!(error, CodeError::UnknownImport { .. }), "{error}");

    assert_eq!(
        refuse(deploy(r#"(module (func (export "a")))"#)?)?,
        CodeError::NoMemory
    );
    for no_entry in [
        "",
        r#"(func (export "A"))"#,
        r#"(func (export "a") (param i32))"#,
        r#"(func (export "_a"))"#,
    ] {
        let error = refuse(deploy(&format!(
            r#"(module (memory (export "memory") 1) {no_entry})"#
        ))?)?;
        assert_eq!(error, CodeError::NoEntryPoint, "{no_entry}");
    }
    let error = refuse(deploy(
        r#"(module (memory (export "memory") 60000) (func (export "a")))"#,
    )?)?;
    ensure!(
        matches!(
            error,
            CodeError::TooMany {
                what: "memory pages",
                ..
            }
        ),
        "{error}"
    );
    for feature in [
        r#"(module (memory (export "memory") i64 1) (func (export "a")))"#,
        r#"(module (memory (export "memory") 1 1 shared) (func (export "a")))"#,
        r#"(module (memory (export "memory") 1) (tag) (func (export "a")))"#,
        r#"(module (memory (export "memory") 1) (func (export "a")
             (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0)))))"#,
    ] {
        let error = refuse(deploy(feature)?)?;
        ensure!(
            matches!(error, CodeError::Invalid { .. }),
            "{feature}: {error}"
        );
    }
    Ok(())
}

#[test]
fn databases() -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let chain = Chain::open(directory.path(), &genesis(), Mode::Slacked)?;
    let error = Chain::open(directory.path(), &genesis(), Mode::Slacked).err();
    ensure!(matches!(error, Some(OpenError::InUse { .. })), "{error:?}");
    let produced = chain.produce_block(vec![transaction(&key(1), 0, transfer(1), 1_000_000)], 5)?;
    drop(chain);

    let mut other = genesis();
    other.chain_id += 1;
    let error = Chain::open(directory.path(), &other, Mode::Slacked).err();
    ensure!(
        matches!(error, Some(OpenError::OtherGenesis { .. })),
        "{error:?}"
    );
    // Either mode continues what the other began.
    let chain = Chain::open(directory.path(), &genesis(), Mode::Exact)?;
    assert_eq!(chain.head(), produced.header);
    let receipt = &produced.receipts[0];
    assert_eq!(chain.receipt(&receipt.transaction)?.as_ref(), Some(receipt));
    ensure!(chain.transaction(&receipt.transaction)?.is_some());
    Ok(())
}

/// Whatever code does while it is instantiated is the contract's doing: the chain goes on.
#[test]
fn instantiation() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let alice = key(1);
    for (body, wanted) in [
        (r#"(data (i32.const 65536) "x")"#, "out of bounds"),
        (
            r#"(table 1 funcref) (elem (i32.const 5) $a)"#,
            "out of bounds",
        ),
    ] {
        let module =
            format!(r#"(module (memory (export "memory") 1) (func $a (export "a")) {body})"#);
        let contract = chain.deploy(&alice, wat::parse_str(module)?, &())?;
        let receipt = chain.call(&alice, contract, "a", &(), 1_000_000)?;
        let Outcome::Abort(reason) = &receipt.outcome else {
            anyhow::bail!("{body}: {:?}", receipt.outcome);
        };
        ensure!(reason.to_string().contains(wanted), "{body}: {reason}");
        assert_eq!(receipt.fuel_used, 1_000_000);
    }
    Ok(())
}
