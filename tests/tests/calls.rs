//! Contracts that call each other: what each call may do, what it leaves, what it costs, and that nothing of value is made
//! or lost, whatever programs they follow. The contract is `puppet`, which does what its input says.

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use slackline_executor::{
    AbortReason, Account, Action, Address, Hash, Mode, Outcome, Receipt, ViewCall,
};
use slackline_tests::puppet::{Step, call, finish, program, steps};
use slackline_tests::{TestChain, WEALTH, address, example, key, returned};
use std::cell::Cell;
use std::collections::BTreeSet;

const FUEL: u64 = 50_000_000;

/// A chain with some puppets.
struct Stage {
    chain: TestChain,
    puppets: Vec<Address>,
    /// Blocks whose headers have been added up, and what they have burnt.
    burnt: Cell<(u64, u128)>,
}

impl Stage {
    fn new(mode: Mode, puppets: usize) -> Result<Stage> {
        let chain = TestChain::new(mode)?;
        let code = example("puppet")?;
        let puppets = (0..puppets)
            .map(|_| chain.deploy(&key(1), code.clone(), &program(&[])?))
            .collect::<Result<_>>()?;
        Ok(Stage {
            chain,
            puppets,
            burnt: Cell::default(),
        })
    }

    fn run(&self, steps: &[Step], value: u128) -> Result<Receipt> {
        let action = Action::Call {
            contract: self.puppets[0],
            method: "run".to_owned(),
            input: borsh::to_vec(&program(steps)?)?,
            value,
        };
        self.chain.run(&key(1), action, FUEL)
    }

    /// What the first puppet reports, after who called with how much.
    fn report(&self, steps: &[Step]) -> Result<Vec<u8>> {
        let receipt = self.run(steps, 0)?;
        let report: Vec<u8> = returned(&receipt.outcome)?;
        Ok(report[18..].to_vec())
    }

    /// What has been burnt of the currency since the beginning.
    fn burnt(&self) -> Result<u128> {
        let (from, mut burnt) = self.burnt.get();
        let to = self.chain.chain.head().height + 1;
        for height in from..to {
            let block = self.chain.chain.block(height)?;
            burnt += block.context("a block is missing")?.header.burnt;
        }
        self.burnt.set((to, burnt));
        Ok(burnt)
    }

    fn account(&self, address: &Address) -> Result<Account> {
        Ok(self.chain.chain.account(address)?)
    }

    /// The keys that a puppet holds.
    fn keys(&self, puppet: Address) -> Result<Vec<u8>> {
        let view = self.chain.chain.view(&ViewCall {
            contract: puppet,
            caller: puppet,
            method: "run".to_owned(),
            input: borsh::to_vec(&program(&[Step::Walk { descending: false }])?)?,
            fuel_limit: FUEL,
        })?;
        let report: Vec<u8> = returned(&view.outcome)?;
        Ok(report[18..report.len() - 16].to_vec())
    }
}

/// A step's status: the first byte of its report.
fn status(stage: &Stage, step: Step) -> Result<u8> {
    Ok(stage.report(&[step])?[0])
}

#[test]
fn a_failed_callee_leaves_nothing_and_its_caller_goes_on() -> Result<()> {
    for mode in [Mode::Exact, Mode::Slacked] {
        let stage = Stage::new(mode, 2)?;
        let callee = stage.puppets[1];
        let set = |key| Step::Set { key, len: 8 };
        for (end, expected) in [
            (Step::Revert { data: 9 }, 1),
            (Step::Trap, 2),
            (Step::Spin, 2),
        ] {
            let inner = Step::Call {
                to: callee,
                value: 0,
                fuel: 5_000_000,
                again: false,
                read_only: false,
                program: program(&[set(1), Step::Emit { data: 1 }, end.clone()])?,
            };
            let receipt = stage.run(&[set(2), inner, Step::Emit { data: 2 }], 0)?;
            let report: Vec<u8> = returned(&receipt.outcome)?;
            assert_eq!(report[18 + 16], expected, "{end:?}");
            let events: Vec<u8> = receipt.events.iter().map(|event| event.data[0]).collect();
            assert_eq!(events, [2], "{end:?}");
            assert_eq!(stage.keys(callee)?, [0u8; 0], "{end:?}");
            assert_eq!(stage.keys(stage.puppets[0])?, [2], "{end:?}");
        }
        assert_eq!(stage.account(&callee)?.deposit, 0);
    }
    Ok(())
}

/// The share that a callee is given is all that it can lose, and what it does not use comes back.
#[test]
fn an_aborted_callee_costs_its_share_exactly() -> Result<()> {
    let stage = Stage::new(Mode::Slacked, 2)?;
    let with = |fuel, end: Step| -> Result<u64> {
        let inner = Step::Call {
            to: stage.puppets[1],
            value: 0,
            fuel,
            again: false,
            read_only: false,
            program: program(&[end])?,
        };
        let receipt = stage.run(&[inner], 0)?;
        ensure!(receipt.outcome.is_success(), "{:?}", receipt.outcome);
        Ok(receipt.fuel_used)
    };
    let spin = with(1_000_000, Step::Spin)?;
    assert_eq!(with(3_000_000, Step::Spin)? - spin, 2_000_000);
    assert_eq!(with(3_000_000, Step::Trap)?, with(3_000_000, Step::Spin)?);
    let cheap = with(1_000_000, Step::Burn { rounds: 1 })?;
    assert_eq!(with(3_000_000, Step::Burn { rounds: 1 })?, cheap);
    ensure!(cheap < spin);
    Ok(())
}

#[test]
fn calls_are_refused_with_the_status_that_says_why() -> Result<()> {
    let stage = Stage::new(Mode::Slacked, 2)?;
    let [own, other] = stage.puppets[..] else {
        anyhow::bail!("two puppets");
    };
    let nobody = address(&key(2));
    assert_eq!(status(&stage, call(nobody, &[])?)?, 3);
    let costly = Step::Call {
        to: other,
        value: 1,
        fuel: 0,
        again: false,
        read_only: false,
        program: program(&[])?,
    };
    assert_eq!(status(&stage, costly)?, 7);
    // Re-entered only through the method that allows it, directly or through another.
    assert_eq!(status(&stage, call(own, &[])?)?, 5);
    let through = |again| -> Result<Step> {
        call(
            other,
            &[Step::Call {
                to: own,
                value: 0,
                fuel: 0,
                again,
                read_only: false,
                program: program(&[Step::Set { key: 7, len: 1 }])?,
            }],
        )
    };
    // The report of the call between: status, length (4), caller (2), value (16), then the inner status.
    let inner = |report: Vec<u8>| report[1 + 2 + 16];
    assert_eq!(inner(stage.report(&[through(false)?])?), 5);
    assert_eq!(stage.keys(own)?, [0u8; 0]);
    assert_eq!(inner(stage.report(&[through(true)?])?), 0);
    assert_eq!(stage.keys(own)?, [7]);
    Ok(())
}

/// Deeper than allowed is a status of its own, in both modes and not the native stack's doing.
#[test]
fn calls_nest_to_the_limit_and_no_deeper() -> Result<()> {
    for mode in [Mode::Exact, Mode::Slacked] {
        let stage = Stage::new(mode, 1)?;
        let own = stage.puppets[0];
        let limit = stage.chain.chain.params().limits.call_depth;
        let nested = |depth: usize| -> Result<Vec<Step>> {
            let mut steps = Vec::new();
            for _ in 1..depth {
                steps = vec![Step::Call {
                    to: own,
                    value: 0,
                    fuel: 0,
                    again: true,
                    read_only: false,
                    program: program(&steps)?,
                }];
            }
            Ok(steps)
        };
        // Each level adds its report to that of the one below.
        let statuses =
            |report: &[u8]| -> Vec<u8> { report.chunks(1 + 18).map(|level| level[0]).collect() };
        let full = stage.report(&nested(limit)?)?;
        let over = stage.report(&nested(limit + 1)?)?;
        ensure!(
            !statuses(&full[..19 * (limit - 1)]).contains(&6),
            "{full:?}"
        );
        assert_eq!(over[19 * (limit - 1)], 6, "{over:?}");
    }
    Ok(())
}

#[test]
fn a_static_call_cannot_write_at_any_depth() -> Result<()> {
    let stage = Stage::new(Mode::Slacked, 2)?;
    let other = stage.puppets[1];
    for write in [
        Step::Set { key: 1, len: 1 },
        Step::Delete { key: 1 },
        Step::Transfer {
            to: other,
            amount: 0,
        },
        Step::Emit { data: 1 },
        Step::Deploy {
            value: 0,
            program: program(&[])?,
        },
    ] {
        let read_only = |program: Vec<u8>| Step::Call {
            to: other,
            value: 0,
            fuel: 3_000_000,
            again: false,
            read_only: true,
            program,
        };
        assert_eq!(
            status(&stage, read_only(program(std::slice::from_ref(&write))?))?,
            2,
            "{write:?}"
        );
        assert_eq!(
            status(
                &stage,
                read_only(program(&[Step::Walk { descending: true }])?)
            )?,
            0
        );
    }
    Ok(())
}

#[test]
fn a_contract_makes_contracts() -> Result<()> {
    let stage = Stage::new(Mode::Slacked, 1)?;
    let receipt = stage.run(
        &[Step::Deploy {
            value: 5,
            program: program(&[Step::Set { key: 3, len: 10 }])?,
        }],
        7,
    )?;
    let report: Vec<u8> = returned(&receipt.outcome)?;
    assert_eq!(report[18], 0);
    let made = Address(*report[19..].first_chunk().context("an address")?);
    assert_eq!(made, Address::of_contract(&stage.puppets[0], 0));
    assert_eq!(stage.keys(made)?, [3]);
    let account = stage.account(&made)?;
    assert_eq!(account.balance, 5);
    assert_eq!(account.code, stage.account(&stage.puppets[0])?.code);
    // One whose init fails is not there, and its address is not used again.
    let failed = Step::Deploy {
        value: 0,
        program: program(&[Step::Revert { data: 1 }])?,
    };
    let report = stage.report(&[
        failed,
        Step::Deploy {
            value: 0,
            program: program(&[])?,
        },
    ])?;
    assert_eq!(report[0], 1);
    let next = Address::of_contract(&stage.puppets[0], 2);
    ensure!(
        report.windows(32).any(|window| window == next.0),
        "{report:?}"
    );
    assert_eq!(
        stage
            .account(&Address::of_contract(&stage.puppets[0], 1))?
            .code,
        None::<Hash>
    );
    Ok(())
}

/// What is held is paid for by who signed, and what is freed is refunded, whoever did it.
#[test]
fn deposits_follow_the_bytes() -> Result<()> {
    let stage = Stage::new(Mode::Slacked, 1)?;
    let deposits = stage.chain.chain.params().deposits.clone();
    let size = |value: u64| i128::from((deposits.entry_bytes + 1 + value) * deposits.per_byte);
    let own = stage.puppets[0];
    let receipt = stage.run(&[Step::Set { key: 1, len: 100 }], 0)?;
    assert_eq!(receipt.deposit, size(100));
    let receipt = stage.run(
        &[Step::Set { key: 1, len: 40 }, Step::Set { key: 2, len: 0 }],
        0,
    )?;
    assert_eq!(receipt.deposit, size(40) + size(0) - size(100));
    let account = stage.account(&own)?;
    assert_eq!(account.deposit as i128, size(40) + size(0));
    assert_eq!(account.storage_bytes, 2 * (deposits.entry_bytes + 1) + 40);
    let receipt = stage.run(&[Step::Delete { key: 1 }, Step::Delete { key: 2 }], 0)?;
    assert_eq!(receipt.deposit, -size(40) - size(0));
    assert_eq!(stage.account(&own)?.deposit, 0);
    // Over what the sender allows: undone, and paid for what was used.
    let mut transaction = slackline_tests::transaction(
        &key(1),
        stage.account(&address(&key(1)))?.nonce,
        Action::Call {
            contract: own,
            method: "run".to_owned(),
            input: borsh::to_vec(&program(&[Step::Set { key: 1, len: 10 }])?)?,
            value: 0,
        },
        FUEL,
    )
    .transaction;
    for (limit, success) in [(size(10) - 1, false), (size(10), true)] {
        transaction.deposit_limit = limit as u128;
        let signed = transaction.clone().sign(&key(1));
        let produced = stage.chain.chain.produce_block(vec![signed], 0)?;
        let receipt = &produced.receipts[0];
        assert_eq!(
            receipt.outcome.is_success(),
            success,
            "{:?}",
            receipt.outcome
        );
        assert_eq!(stage.keys(own)?.len(), usize::from(success));
        ensure!(receipt.fuel_used < FUEL);
        transaction.nonce += 1;
    }
    Ok(())
}

/// Everything of value that there is, and what has been burnt of it: it never changes.
fn total(stage: &Stage, addresses: &BTreeSet<Address>) -> Result<u128> {
    addresses.iter().try_fold(stage.burnt()?, |sum, address| {
        let account = stage.account(address)?;
        let price = u128::from(stage.chain.chain.params().deposits.per_byte);
        ensure!(account.deposit == u128::from(account.storage_bytes) * price);
        Ok(sum + account.balance + account.deposit)
    })
}

/// Random programs: value and deposits are conserved, and all modes say the same, receipts and accounts.
#[test]
fn random_programs_conserve_value_in_all_modes() -> Result<()> {
    let cases = if std::env::var_os("SLACKLINE_FULL").is_some() {
        5_000
    } else {
        150
    };
    let stages = [
        Stage::new(Mode::Exact, 4)?,
        Stage::new(Mode::Slacked, 4)?,
        Stage::new(Mode::Hybrid, 4)?,
    ];
    let mut who = stages[0].puppets.clone();
    who.push(address(&key(9)));
    let mut known: BTreeSet<Address> = (1..10).map(|n| address(&key(n))).collect();
    known.extend(&who);
    known.insert(stages[0].chain.chain.genesis().proposer);
    // Contracts that puppets make, and those that these make.
    for puppet in &stages[0].puppets {
        for made in (0..150).map(|nonce| Address::of_contract(puppet, nonce)) {
            known.insert(made);
            known.extend((0..6).map(|nonce| Address::of_contract(&made, nonce)));
        }
    }
    let mut ended = [0u32; 3];
    let ended = std::cell::RefCell::new(&mut ended);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(
        config.clone(),
        proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm),
    )
    .run(&(steps(3), 0..100u128), |(drafts, value)| {
        let check = || -> Result<()> {
            let steps = finish(&drafts, &who)?;
            let mut first: Option<Receipt> = None;
            for stage in &stages {
                let receipt = stage.run(&steps, value)?;
                assert_eq!(total(stage, &known)?, 9 * WEALTH, "{steps:?}");
                match &first {
                    None => first = Some(receipt),
                    Some(first) => assert_eq!(*first, receipt, "{:?}", stage.chain.chain.mode()),
                }
            }
            let kind = match first.context("three modes")?.outcome {
                Outcome::Success { .. } => 0,
                Outcome::Revert { .. } => 1,
                Outcome::Abort(_) => 2,
            };
            ended.borrow_mut()[kind] += 1;
            Ok(())
        };
        check().map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    for address in &who {
        let accounts: Vec<Account> = stages
            .iter()
            .map(|stage| stage.account(address))
            .collect::<Result<_>>()?;
        assert!(accounts.windows(2).all(|pair| pair[0] == pair[1]));
    }
    // It would be easy to run nothing but failures.
    let ended = ended.into_inner();
    ensure!(ended.iter().all(|&count| count > cases / 30), "{ended:?}");
    Ok(())
}

/// A callee that recurses leaves its caller what was its own: the stack is shared, and its end is the same in all modes.
#[test]
fn recursion_ends_the_same_in_all_modes() -> Result<()> {
    let mut used = BTreeSet::new();
    for mode in Mode::ALL {
        let chain = TestChain::new(mode)?;
        let spin = chain.deploy(&key(1), example("spin")?, &())?;
        let receipt = chain.call(&key(1), spin, "recurse", &(), FUEL)?;
        assert_eq!(
            receipt.outcome,
            Outcome::Abort(AbortReason::StackExhausted),
            "{mode}"
        );
        used.insert(receipt.fuel_used);
    }
    assert_eq!(used, BTreeSet::from([FUEL]));
    Ok(())
}
