//! What a chain says of its past: accounts at heights, proofs, events, and blocks executed again.

use anyhow::Result;
use slackline_executor::{Account, Action, EventQuery, Mode, StoreError, account_key, storage_key};
use slackline_tests::{TestChain, address, example, key};

#[test]
fn every_block_comes_out_the_same_again_and_every_height_is_proved() -> Result<()> {
    let chain = TestChain::new(Mode::Slacked)?;
    let (alice, bob) = (key(1), key(2));
    let counter = chain.deploy(&alice, example("counter")?, &1u64)?;
    let mut balances = Vec::new();
    for amount in 1..6 {
        let to = address(&bob);
        chain.run(&alice, Action::Transfer { to, amount }, 1_000_000)?;
        let height = chain.chain.head().height;
        balances.push((height, chain.chain.account(&to)?));
    }
    let (oldest, head) = chain.chain.window()?;
    assert_eq!((oldest, head), (0, chain.chain.head().height));
    for height in 1..=head {
        chain.chain.execute_again(height)?;
    }
    assert!(chain.chain.execute_again(0).is_err());

    for (height, account) in &balances {
        let found = chain.chain.account_at(&address(&bob), *height)?;
        assert_eq!(found, *account);
        let trusted = chain.chain.block(*height)?.map(|block| block.header.hash());
        let trusted = trusted.unwrap_or_default();
        let answer = chain.chain.prove(&account_key(&address(&bob)), *height)?;
        answer.verify(&trusted)?;
        let proved: Account = borsh::from_slice(answer.value.as_deref().unwrap_or_default())?;
        assert_eq!(proved, *account);
        // Not for the block after it.
        let next = chain
            .chain
            .block(height + 1)?
            .map(|block| block.header.hash());
        assert!(answer.verify(&next.unwrap_or_default()).is_err());
        let absent = chain
            .chain
            .prove(&storage_key(&counter, b"no such key"), *height)?;
        assert_eq!(absent.value, None);
        absent.verify(&trusted)?;
    }
    let error = chain.chain.account_at(&address(&bob), head + 1);
    assert!(matches!(error, Err(StoreError::OutsideWindow { .. })));
    let query = EventQuery {
        contract: counter,
        topic: None,
        from: 0,
        to: u64::MAX,
        after: None,
    };
    assert_eq!(
        chain.chain.events(&query, 10, usize::MAX)?,
        (Vec::new(), false)
    );
    Ok(())
}
