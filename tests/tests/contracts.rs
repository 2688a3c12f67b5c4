//! Contracts on a chain: what they do, what they cost, and that both metering modes agree on it,
//! under a storm of checks too.

use anyhow::{Context, Result, ensure};
use borsh::BorshSerialize;
use slackline_executor::{
    AbortReason, Account, Action, Address, AdmitError, Mode, Outcome, Pending, Receipt, ViewCall,
};
use slackline_metering::AsyncFuelChecker;
use slackline_tests::{PLENTY, TestChain, WEALTH, address, example, key, returned, transaction};
use std::sync::atomic::{AtomicBool, Ordering};

/// A step of the script that both modes go through.
struct Step {
    contract: &'static str,
    method: &'static str,
    input: Vec<u8>,
    limit: u64,
}

fn step(
    contract: &'static str,
    method: &'static str,
    arguments: impl BorshSerialize,
    limit: u64,
) -> Result<Step> {
    Ok(Step {
        contract,
        method,
        input: borsh::to_vec(&arguments)?,
        limit,
    })
}

fn script() -> Result<Vec<Step>> {
    let bob = address(&key(2)).0;
    let mut steps = vec![
        step("token", "transfer", (bob, 5u128), PLENTY)?,
        step("token", "transfer", (bob, u128::MAX), PLENTY)?,
        step("token", "balance", bob, PLENTY)?,
        step("token", "mint", (bob, 1u128), PLENTY)?,
        step("token", "mint", (bob, u128::MAX), PLENTY)?,
        step("token", "total_supply", (), PLENTY)?,
        step("token", "transfer", 1u8, PLENTY)?,
        step("spin", "burn", 100_000u64, PLENTY)?,
        step("spin", "burn", 1_000_000u64, 3_000_000)?,
        step("spin", "set", (1u64, vec![7u8; 300]), PLENTY)?,
        step("spin", "get", 1u64, PLENTY)?,
        step("spin", "get", 2u64, PLENTY)?,
        step("spin", "touch_many", 50u64, PLENTY)?,
        step("spin", "touch_many", 5_000u64, 20_000_000)?,
        step("spin", "forever", (), 20_000_000)?,
        step("spin", "recurse", (), PLENTY)?,
        step("spin", "trap", (), PLENTY)?,
        step("spin", "store_then_spin", (), 20_000_000)?,
        step("spin", "fail", "on purpose", PLENTY)?,
        step("spin", "panic", (), PLENTY)?,
        step("spin", "grow", 3u32, PLENTY)?,
        step("spin", "grow", 1_000_000u32, PLENTY)?,
        step("spin", "no_such_method", (), PLENTY)?,
    ];
    // Close to every limit: where a call that uses `n` is given less.
    for limit in (305_000..1_105_000).step_by(99_730) {
        steps.push(step("token", "transfer", (bob, 1u128), limit)?);
        steps.push(step("spin", "touch_many", 2u64, limit)?);
    }
    Ok(steps)
}

/// Runs the script on a new chain; returns what is there to compare.
fn run(mode: Mode) -> Result<(Vec<Receipt>, Vec<Account>)> {
    let chain = TestChain::new(mode)?;
    let alice = key(1);
    let token = chain.deploy(&alice, example("token")?, &1_000u128)?;
    let spin = chain.deploy(&alice, example("spin")?, &())?;
    let mut receipts = Vec::new();
    for Step {
        contract,
        method,
        input,
        limit,
    } in script()?
    {
        let contract = if contract == "token" { token } else { spin };
        let action = Action::Call {
            contract,
            method: method.to_owned(),
            input,
            value: 0,
        };
        receipts.push(chain.run(&alice, action, limit)?);
    }
    let accounts = [address(&alice), chain.chain.genesis().proposer, token, spin]
        .iter()
        .map(|address| chain.chain.account(address))
        .collect::<Result<_, _>>()?;
    Ok((receipts, accounts))
}

#[test]
fn both_modes_agree_on_everything() -> Result<()> {
    let exact = run(Mode::Exact)?;
    let slacked = run(Mode::Slacked)?;
    assert_eq!(exact, slacked);
    // The script exercises what it means to.
    let count = |wanted: fn(&Outcome) -> bool| {
        exact
            .0
            .iter()
            .filter(|receipt| wanted(&receipt.outcome))
            .count()
    };
    ensure!(count(Outcome::is_success) >= 10);
    ensure!(count(|outcome| matches!(outcome, Outcome::Revert { .. })) >= 5);
    ensure!(count(|outcome| matches!(outcome, Outcome::Abort(AbortReason::OutOfFuel))) >= 5);
    ensure!(count(|outcome| matches!(outcome, Outcome::Abort(AbortReason::Trap(_)))) == 1);
    ensure!(count(|outcome| matches!(outcome, Outcome::Abort(AbortReason::StackExhausted))) == 1);
    Ok(())
}

/// The whole script with the executing thread interrupted every few microseconds.
#[test]
fn checks_change_nothing() -> Result<()> {
    let storm = || -> Result<()> {
        let calm = run(Mode::Slacked)?;
        let checker = AsyncFuelChecker::for_current_thread()?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    checker.check();
                }
            });
            // Until enough checks have found it in wasm, which depends on how busy the machine is.
            let mut result = Ok(());
            for _ in 0..100 {
                result = run(Mode::Slacked).map(|stormy| assert_eq!(calm, stormy));
                if result.is_err() || checker.stats().landed > 200 {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
            result
        })?;
        ensure!(checker.stats().landed > 200, "{:?}", checker.stats());
        Ok(())
    };
    // On a thread that the chain executes on itself.
    slackline_executor::thread::spawn("storm".to_owned(), storm)?
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Variants of the token's `Error`.
const NOT_OWNER: u8 = 0;
const INSUFFICIENT_BALANCE: u8 = 1;

#[test]
fn a_token_moves_and_says_so() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let (alice, bob) = (key(1), key(2));
    let token = chain.deploy(&alice, example("token")?, &1_000u128)?;
    let receipt = chain.call(&alice, token, "transfer", &(address(&bob), 30u128), PLENTY)?;
    ensure!(receipt.outcome.is_success(), "{:?}", receipt.outcome);
    let [event] = receipt.events.as_slice() else {
        anyhow::bail!("{:?}", receipt.events);
    };
    assert_eq!(event.contract, token);
    let [_, from, to] = event.topics.as_slice() else {
        anyhow::bail!("{event:?}");
    };
    assert_eq!((from.0, to.0), (address(&alice).0, address(&bob).0));
    assert_eq!(event.data, borsh::to_vec(&30u128)?);

    let balance = |owner: Address| -> Result<u128> {
        let view = chain.chain.view(&ViewCall {
            contract: token,
            caller: owner,
            method: "balance".to_owned(),
            input: borsh::to_vec(&owner)?,
            fuel_limit: PLENTY,
        })?;
        ensure!(view.fuel_used > 0);
        returned(&view.outcome)
    };
    assert_eq!(balance(address(&alice))?, 970);
    assert_eq!(balance(address(&bob))?, 30);

    let receipt = chain.call(&bob, token, "transfer", &(address(&alice), 31u128), PLENTY)?;
    assert_eq!(
        receipt.outcome,
        Outcome::Revert {
            data: vec![INSUFFICIENT_BALANCE]
        }
    );
    assert_eq!(receipt.events, []);
    let receipt = chain.call(&bob, token, "mint", &(address(&bob), 31u128), PLENTY)?;
    assert_eq!(
        receipt.outcome,
        Outcome::Revert {
            data: vec![NOT_OWNER]
        }
    );
    assert_eq!(balance(address(&bob))?, 30);
    Ok(())
}

/// The sender pays for what was used, and money is neither made nor lost but for what blocks burn.
#[test]
fn fees_are_paid_by_every_outcome() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let alice = key(1);
    let spin = chain.deploy(&alice, example("spin")?, &())?;
    let proposer = chain.chain.genesis().proposer;
    for (method, whole_limit) in [
        ("burn", false),
        ("fail", false),
        ("trap", true),
        ("forever", true),
    ] {
        let before = chain.chain.account(&address(&alice))?;
        let limit = 3_000_000;
        let receipt = match method {
            "burn" => chain.call(&alice, spin, method, &10u64, limit)?,
            "fail" => chain.call(&alice, spin, method, &"no", limit)?,
            _ => chain.call(&alice, spin, method, &(), limit)?,
        };
        let after = chain.chain.account(&address(&alice))?;
        assert_eq!(receipt.fuel_used == limit, whole_limit, "{method}");
        assert_eq!(receipt.fee, u128::from(receipt.fuel_used));
        assert_eq!(receipt.burnt, receipt.fee, "the base price is all of it");
        assert_eq!(before.balance - after.balance, receipt.fee, "{method}");
        assert_eq!(after.nonce, before.nonce + 1, "{method}");
        let both = after.balance + chain.chain.account(&proposer)?.balance;
        assert_eq!(both + burnt(&chain)?, WEALTH, "{method}");
    }
    Ok(())
}

/// What all blocks have burnt.
fn burnt(chain: &TestChain) -> Result<u128> {
    let blocks = (0..=chain.chain.head().height).map(|height| chain.chain.block(height));
    blocks
        .map(|block| Ok(block?.context("a block")?.header.burnt))
        .sum()
}

/// What the sender pays above the base price is the proposer's, up to the tip; no transaction of the block sees it.
#[test]
fn tips_go_to_the_proposer_after_the_block() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let (alice, bob) = (key(1), key(2));
    let proposer = chain.chain.genesis().proposer;
    let transfer = |key, fuel_price, tip| {
        let action = Action::Transfer {
            to: proposer,
            amount: 1,
        };
        let mut transaction = transaction(key, 0, action, 1_000_000).transaction;
        (transaction.fuel_price, transaction.tip) = (fuel_price, tip);
        transaction.sign(key)
    };
    let produced = chain
        .chain
        .produce_block(vec![transfer(&alice, 5, 3), transfer(&bob, 3, 9)], 0)?;
    assert!(produced.dropped.is_empty());
    let mut tips = 0;
    for (receipt, price) in produced.receipts.iter().zip([4, 3]) {
        let fuel = u128::from(receipt.fuel_used);
        assert_eq!((receipt.fee, receipt.burnt), (fuel * price, fuel));
        tips += receipt.fee - receipt.burnt;
    }
    assert_eq!(chain.chain.account(&proposer)?.balance, tips + 2);
    let both = [&alice, &bob].map(|key| chain.chain.account(&address(key)));
    let [alice, bob] = both.map(|account| account.map_or(0, |account| account.balance));
    assert_eq!(alice + bob + tips + 2 + burnt(&chain)?, 2 * WEALTH);

    let error = chain
        .chain
        .admit(&transfer(&key(3), 0, 0), Pending::default());
    assert!(matches!(
        error,
        Err(AdmitError::FuelPriceTooLow {
            base_price: 1,
            got: 0
        })
    ));
    Ok(())
}

/// Nothing of an aborted execution stays, a thousand times over, and no thread, signal or memory of it either:
/// the chain works as before.
#[test]
fn a_thousand_endless_loops_leave_no_trace() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let alice = key(1);
    let spin = chain.deploy(&alice, example("spin")?, &())?;
    let limit = 100_000_000;
    let action = |method: &str| Action::Call {
        contract: spin,
        method: method.to_owned(),
        input: Vec::new(),
        value: 0,
    };
    let first = chain.run(&alice, action("store_then_spin"), limit)?;
    assert_eq!(first.outcome, Outcome::Abort(AbortReason::OutOfFuel));
    assert_eq!(first.fuel_used, limit);

    let limit = 1_000_000;
    let nonce = chain.chain.account(&address(&alice))?.nonce;
    for block in 0..20 {
        let transactions = (0..50)
            .map(|n| {
                let method = if n % 2 == 0 {
                    "forever"
                } else {
                    "store_then_spin"
                };
                transaction(&alice, nonce + block * 50 + n, action(method), limit)
            })
            .collect();
        let produced = chain.chain.produce_block(transactions, 0)?;
        assert_eq!(produced.receipts.len(), 50);
        for receipt in produced.receipts {
            assert_eq!(receipt.outcome, Outcome::Abort(AbortReason::OutOfFuel));
            assert_eq!(receipt.fuel_used, limit);
        }
    }
    let stats = chain.chain.metering_stats();
    ensure!(stats.stopped >= 1_000, "{stats:?}");
    // What `store_then_spin` stores first: see the contract.
    let view = chain.chain.view(&ViewCall {
        contract: spin,
        caller: spin,
        method: "is_spinning".to_owned(),
        input: Vec::new(),
        fuel_limit: PLENTY,
    })?;
    assert!(!returned::<bool>(&view.outcome)?);
    let receipt = chain.call(&alice, spin, "burn", &1_000u64, PLENTY)?;
    ensure!(receipt.outcome.is_success());
    Ok(())
}

#[test]
fn a_view_cannot_write() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let spin = chain.deploy(&key(1), example("spin")?, &())?;
    let view = chain.chain.view(&ViewCall {
        contract: spin,
        caller: spin,
        method: "set".to_owned(),
        input: borsh::to_vec(&(1u64, vec![1u8]))?,
        fuel_limit: PLENTY,
    })?;
    let Outcome::Abort(AbortReason::HostInterface(why)) = &view.outcome else {
        anyhow::bail!("{:?}", view.outcome);
    };
    ensure!(why.contains("a view or static call cannot write"), "{why}");
    Ok(())
}
