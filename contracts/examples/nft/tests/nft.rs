//! The tokens on the node's engine.

use nft::nft::{Error, Minted, Transferred};
use slackline_testkit::{Address, Kit, Result, contract, json};

/// Alice's to mint.
fn deployed(kit: &Kit) -> Result<Address> {
    let code = contract!("../contracts/examples/nft")?;
    kit.deploy(&kit.account("alice"), &code).send()?.contract()
}

#[test]
fn tokens_are_minted_passed_on_and_listed() -> Result<()> {
    let kit = Kit::new()?;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| kit.account(name));
    let nft = deployed(&kit)?;
    for id in 0..5u64 {
        let done = kit
            .call(&alice, nft, "mint")
            .args(&(&bob, format!("ipfs://{id}")))
            .send()?;
        assert_eq!(done.returned::<u64>()?, id);
        assert_eq!(done.events::<Minted>().len(), 1);
    }
    let transfer = |by, id: u64| kit.call(by, nft, "transfer").args(&(id, &carol));
    assert_eq!(
        transfer(&carol, 3).send()?.expect_revert::<Error>(),
        Error::NotAllowed
    );
    let approve = kit.call(&bob, nft, "approve").args(&(3u64, Some(&carol)));
    let done = kit.block([approve, transfer(&carol, 3), transfer(&bob, 0)])?;
    assert!(done.iter().all(|done| done.is_ok()));
    let moved = Transferred {
        from: bob.address(),
        to: carol.address(),
        id: 3,
    };
    assert_eq!(done[1].events_of::<Transferred>(nft), [moved]);

    let tokens_of = |owner, after: Option<u64>, limit: u32| {
        let view = kit.view(nft, "tokens_of").args(&(owner, after, limit));
        view.get::<Vec<u64>>()
    };
    assert_eq!(tokens_of(&bob, None, 9)?, [1, 2, 4]);
    assert_eq!(tokens_of(&bob, Some(1), 1)?, [2]);
    assert_eq!(tokens_of(&carol, None, 9)?, [0, 3]);
    Ok(())
}

#[test]
fn who_burns_a_token_gets_its_deposit() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let nft = deployed(&kit)?;
    let mint = || {
        kit.call(&alice, nft, "mint")
            .args(&(&bob, "ipfs://x"))
            .send()
    };
    // The count of minted tokens and that of bob's are there from the first on.
    let _ = mint()?.expect_ok();
    let paid = mint()?.expect_ok().deposit();
    assert!(paid > 0);
    let done = kit.call(&bob, nft, "burn").args(&1u64).send()?.expect_ok();
    assert_eq!(done.deposit(), -paid);
    Ok(())
}

#[test]
fn it_can_be_used_with_json() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let nft = deployed(&kit)?;
    let mint = json!({"to": "bob", "uri": "ipfs://x"});
    let done = kit.call(&alice, nft, "mint").json(mint).send()?;
    assert_eq!(done.returned_json()?, "0");
    let events = done.events_json();
    assert_eq!(
        (events[0].name.as_str(), &events[0].fields),
        (
            "Minted",
            &json!({"to": bob.address().to_string(), "id": "0", "uri": "ipfs://x"})
        )
    );
    let listed = kit
        .view(nft, "tokens_of")
        .json(json!({"owner": "bob", "limit": 9}));
    assert_eq!(listed.send()?.returned_json()?, json!(["0"]));
    let approve = json!({"id": 0, "spender": null});
    let done = kit.call(&alice, nft, "approve").json(approve).send()?;
    assert_eq!(done.revert_json(), Some(json!("NotOwner")));
    Ok(())
}
