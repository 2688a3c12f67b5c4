//! Blocks that somebody else makes: executed before anybody votes for them, stored when they are decided.

use anyhow::{Context, Result, ensure};
use slackline_executor::{
    Action, Address, Block, BlockError, Chain, Genesis, Hash, Mode, OpenError, Outcome,
    Parallelism, ProduceError, PublicKey, SignedTransaction, StoreOptions, Validator,
    ValidatorsError, check_validators,
};
use slackline_tests::{CHAIN_ID, PLENTY, address, example, genesis, key, transaction};
use std::time::Instant;
use tempfile::TempDir;

const FUEL: u64 = 1_000_000;

struct Node {
    chain: Chain,
    _directory: TempDir,
}

fn node(genesis: &Genesis) -> Result<Node> {
    let directory = TempDir::new()?;
    let chain = Chain::open_with(
        directory.path(),
        genesis,
        Mode::Slacked,
        &StoreOptions::default(),
    )?;
    Ok(Node {
        chain,
        _directory: directory,
    })
}

fn validator(n: u8, power: u64) -> Validator {
    let key = PublicKey(key(n).verifying_key().to_bytes());
    Validator { key, power }
}

fn governed() -> Genesis {
    Genesis {
        validators: vec![validator(101, 10), validator(102, 20)],
        governor: Some(address(&key(9))),
        ..genesis()
    }
}

fn transfer(from: u8, nonce: u64, amount: u128) -> SignedTransaction {
    let to = address(&key(50));
    transaction(&key(from), nonce, Action::Transfer { to, amount }, FUEL)
}

#[test]
fn a_block_is_executed_by_others_and_stored_by_all() -> Result<()> {
    let (ours, theirs) = (node(&governed())?, node(&governed())?);
    let proposer = address(&key(101));
    // The third is invalid, and left out.
    let transactions = vec![transfer(1, 0, 5), transfer(2, 0, 7), transfer(3, 4, 1)];
    let proposed = ours.chain.propose(transactions, 77, proposer, None)?;
    ensure!(proposed.dropped().len() == 1 && proposed.receipts().len() == 2);
    ensure!(ours.chain.head().height == 0, "nothing is stored");
    let block = proposed.block().clone();
    ensure!(block.header.proposer == proposer && block.header.timestamp_ms == 77);

    let executed = theirs.chain.execute(block.clone())?;
    ensure!(executed.block() == &block && executed.receipts() == proposed.receipts());
    // Two executions of it, of which one is stored.
    let again = theirs.chain.execute(block.clone())?;
    let stored = theirs.chain.commit(executed, Some(b"decided"))?;
    ensure!(stored.header == block.header && theirs.chain.head() == block.header);
    ensure!(theirs.chain.certificate(1)?.as_deref() == Some(&b"decided"[..]));
    ensure!(theirs.chain.certificate(0)?.is_none());
    let error = theirs
        .chain
        .commit(again, None)
        .map(|produced| produced.header);
    ensure!(
        matches!(error, Err(ProduceError::NotNext { height: 1, head: 1 })),
        "{error:?}"
    );

    ours.chain.commit(proposed, None)?;
    ensure!(ours.chain.head() == theirs.chain.head());
    ensure!(ours.chain.account(&proposer)? == theirs.chain.account(&proposer)?);
    let hash = block.transactions[0].hash();
    ensure!(ours.chain.receipt(&hash)? == theirs.chain.receipt(&hash)?);
    let error = ours
        .chain
        .execute(block)
        .map(|executed| executed.block().header.clone());
    ensure!(
        matches!(
            error,
            Err(BlockError::NotNext {
                expected_height: 2,
                ..
            })
        ),
        "{error:?}"
    );
    theirs.chain.execute_again(1)?;
    Ok(())
}

#[test]
fn a_block_that_says_something_else_is_refused() -> Result<()> {
    let node = node(&genesis())?;
    let proposer = address(&key(101));
    let mut tipping = transfer(1, 0, 5).transaction;
    (tipping.fuel_price, tipping.tip) = (100, 7);
    let good = node
        .chain
        .propose(vec![tipping.sign(&key(1))], 77, proposer, None)?;
    let good = good.block().clone();
    type Change = fn(&mut Block);
    let changes: [(&str, Change); 12] = [
        ("version", |block| block.header.version += 1),
        ("chain_id", |block| block.header.chain_id += 1),
        ("protocol_version", |block| {
            block.header.protocol_version += 1;
        }),
        ("height", |block| block.header.height += 1),
        ("parent", |block| block.header.parent = Hash([1; 32])),
        ("base_price", |block| block.header.base_price += 1),
        ("transactions_root", |block| {
            block.header.transactions_root = Hash([1; 32]);
        }),
        ("transactions_root", |block| block.transactions.clear()),
        ("fuel_used", |block| block.header.fuel_used -= 1),
        ("burnt", |block| block.header.burnt += 1),
        ("receipts_root", |block| {
            block.header.receipts_root = Hash([1; 32]);
        }),
        ("state_root", |block| {
            block.header.state_root = Hash([1; 32]);
        }),
    ];
    for (field, change) in changes {
        let mut block = good.clone();
        change(&mut block);
        match node.chain.execute(block).map(|_| ()) {
            Err(BlockError::NotNext { .. }) => ensure!(["height", "parent"].contains(&field)),
            Err(BlockError::Header { field: found, .. }) => ensure!(found == field, "{found}"),
            other => anyhow::bail!("{field}: {other:?}"),
        }
    }
    // The fees are somebody else's, so that the state is another.
    let mut block = good.clone();
    block.header.proposer = Address([3; 32]);
    ensure!(matches!(
        node.chain.execute(block).map(|_| ()),
        Err(BlockError::Header {
            field: "state_root",
            ..
        })
    ));
    for bad in [transfer(1, 1, 5), transfer(1, 0, 5)] {
        let mut block = good.clone();
        let hash = bad.hash();
        block.transactions.push(bad);
        let error = node.chain.execute(block).map(|_| ());
        match error {
            Err(BlockError::Header {
                field: "transactions_root",
                ..
            }) => {}
            Err(BlockError::Transaction(of, _)) => ensure!(of == hash),
            other => anyhow::bail!("{other:?}"),
        }
    }
    let mut block = good.clone();
    let limit = node.chain.params().limits.transaction_fuel;
    let spin = |nonce| {
        transaction(
            &key(2),
            nonce,
            Action::Transfer {
                to: proposer,
                amount: 1,
            },
            limit,
        )
    };
    block.transactions.extend((0..100).map(spin));
    let error = node.chain.execute(block).map(|_| ());
    ensure!(matches!(error, Err(BlockError::TooLarge(_))), "{error:?}");
    // None of this has done anything.
    let executed = node.chain.execute(good.clone())?;
    node.chain.commit(executed, None)?;
    ensure!(node.chain.head() == good.header);
    Ok(())
}

/// What counts is what those before have used, and not what they had reserved; whoever does not fit waits, and keeps nobody else waiting.
#[test]
fn a_block_is_full_by_what_is_used() -> Result<()> {
    let (ours, theirs) = (node(&genesis())?, node(&genesis())?);
    let proposer = address(&key(101));
    let deployment = Action::Deploy {
        code: example("spin")?,
        input: Vec::new(),
        value: 0,
    };
    let deployed = ours.chain.propose(
        vec![transaction(&key(1), 0, deployment, PLENTY)],
        1,
        proposer,
        None,
    )?;
    let spin = deployed.receipts()[0].contract.context("not deployed")?;
    let executed = theirs.chain.execute(deployed.block().clone())?;
    theirs.chain.commit(executed, None)?;
    ours.chain.commit(deployed, None)?;

    let half = ours.chain.params().limits.block_fuel / 2;
    let to = address(&key(50));
    let pay = |from, nonce, fuel| {
        transaction(&key(from), nonce, Action::Transfer { to, amount: 1 }, fuel)
    };
    let spinning = Action::Call {
        contract: spin,
        method: "store_then_spin".to_owned(),
        input: Vec::new(),
        value: 0,
    };
    let all = vec![
        pay(2, 0, half),
        transaction(&key(3), 0, spinning, half),
        pay(4, 0, half),
        pay(4, 1, FUEL),
        pay(5, 0, FUEL),
    ];
    let hashes: Vec<Hash> = all.iter().map(SignedTransaction::hash).collect();
    let in_parallel = Parallelism {
        threads: 2,
        least_transactions: 1,
        ..Parallelism::sequential()
    };
    for how in [Parallelism::sequential(), in_parallel] {
        ours.chain.set_parallelism(how.clone());
        theirs.chain.set_parallelism(how);
        let proposed = ours.chain.propose(all.clone(), 2, proposer, None)?;
        ensure!(
            proposed.left() == [hashes[2], hashes[3]],
            "{:?}",
            proposed.left()
        );
        ensure!(proposed.dropped().is_empty());
        let block = proposed.block().clone();
        let included: Vec<Hash> = block
            .transactions
            .iter()
            .map(SignedTransaction::hash)
            .collect();
        ensure!(included == [hashes[0], hashes[1], hashes[4]]);
        ensure!(proposed.receipts()[1].fuel_used == half);
        ensure!(theirs.chain.execute(block.clone())?.block() == &block);

        // Somebody else's that has it all the same is no block.
        let mut over = block;
        over.transactions.insert(2, all[2].clone());
        let error = theirs.chain.execute(over).map(|_| ());
        ensure!(matches!(error, Err(BlockError::TooLarge(_))), "{error:?}");

        // Without time there is one transaction.
        let hurried = ours
            .chain
            .propose(all.clone(), 2, proposer, Some(Instant::now()))?;
        ensure!(hurried.block().transactions == all[..1] && hurried.left() == &hashes[1..]);
        let block = hurried.block().clone();
        ensure!(theirs.chain.execute(block.clone())?.block() == &block);
    }
    Ok(())
}

#[test]
fn the_governor_says_who_votes() -> Result<()> {
    let node = node(&governed())?;
    ensure!(node.chain.validators(0)? == governed().validators);
    let set = |from: u8, nonce, validators: Vec<Validator>| {
        transaction(
            &key(from),
            nonce,
            Action::SetValidators { validators },
            FUEL,
        )
    };
    let new = vec![validator(101, 1), validator(103, 5), validator(104, 1)];
    let block = vec![
        set(1, 0, new.clone()),
        set(9, 0, vec![]),
        set(9, 1, new.clone()),
        set(9, 2, vec![validator(1, 0)]),
    ];
    let produced = node.chain.produce_block(block, 1)?;
    let said: Vec<_> = produced
        .receipts
        .iter()
        .map(|receipt| match &receipt.outcome {
            Outcome::Success { .. } => "done".to_owned(),
            Outcome::Revert { data } => String::from_utf8_lossy(data).into_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    ensure!(said.len() == 4, "{:?}", produced.dropped);
    ensure!(said[0].contains("only the governor"), "{said:?}");
    ensure!(said[1].contains("between 1 and"), "{said:?}");
    ensure!(said[2] == "done", "{said:?}");
    ensure!(said[3].contains("power of 0"), "{said:?}");
    ensure!(node.chain.validators(1)? == new && node.chain.validators(0)? == governed().validators);
    node.chain.execute_again(1)?;

    let twice = vec![validator(1, 1), validator(1, 2)];
    let limits = &node.chain.params().limits;
    ensure!(check_validators(&twice, limits) == Err(ValidatorsError::Twice(twice[0].key)));
    // Of order one: every signature of it verifies over something.
    let weak = PublicKey(
        [&[1][..], &[0; 31]]
            .concat()
            .try_into()
            .ok()
            .context("32 bytes")?,
    );
    let weak = Validator {
        key: weak,
        power: 1,
    };
    ensure!(check_validators(&[weak], limits) == Err(ValidatorsError::Key(weak.key)));
    let bad = Genesis {
        validators: twice,
        chain_id: CHAIN_ID,
        ..genesis()
    };
    let error = Chain::open(TempDir::new()?.path(), &bad, Mode::Slacked).map(|_| ());
    ensure!(matches!(error, Err(OpenError::Validators(_))), "{error:?}");
    Ok(())
}
