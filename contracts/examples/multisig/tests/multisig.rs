//! The account of several owners on the node's engine.

use multisig::multisig::{Action, Error, Executed, OwnersChanged, Proposal};
use slackline::CallError;
use slackline_testkit::{Account, Address, Done, Kit, Result, contract, json};

/// Two of alice, bob and carol, with 1000.
fn two_of_three(kit: &Kit) -> Result<Address> {
    let owners = ["alice", "bob", "carol"].map(|name| kit.account(name).address());
    kit.deploy(
        &kit.account("dave"),
        &contract!("../contracts/examples/multisig")?,
    )
    .args(&(owners.to_vec(), 2u32))
    .value(1000)
    .send()?
    .contract()
}

fn args(args: &impl slackline::borsh::BorshSerialize) -> Vec<u8> {
    slackline::borsh::to_vec(args).expect("arguments can be encoded")
}

/// Alice proposes, bob confirms, `by` executes.
fn execute<'k>(kit: &'k Kit, account: Address, by: &Account, action: &Action) -> Result<Done<'k>> {
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let id: u64 = kit
        .call(&alice, account, "propose")
        .args(action)
        .send()?
        .returned()?;
    let _ = kit
        .call(&bob, account, "confirm")
        .args(&id)
        .send()?
        .expect_ok();
    kit.call(by, account, "execute").args(&id).send()
}

fn call(contract: Address, method: &str, input: Vec<u8>, value: u128) -> Action {
    Action::Call {
        contract,
        method: method.to_owned(),
        input,
        value,
    }
}

#[test]
fn it_pays_and_calls_others_in_its_own_name() -> Result<()> {
    let kit = Kit::new()?;
    let [alice, carol, eve] = ["alice", "carol", "eve"].map(|name| kit.account(name));
    let account = two_of_three(&kit)?;
    let to = eve.address();
    let done = execute(&kit, account, &carol, &Action::Pay { to, amount: 300 })?;
    let executed = Executed {
        id: 0,
        by: carol.address(),
    };
    assert_eq!(done.expect_ok().events::<Executed>(), [executed]);
    assert_eq!((kit.balance(&eve)?, kit.balance(account)?), (300, 700));

    let token = kit
        .deploy(&alice, &contract!("../contracts/examples/token")?)
        .args(&50u128)
        .send()?
        .contract()?;
    let give = kit.call(&alice, token, "transfer").args(&(account, 50u128));
    let _ = give.send()?.expect_ok();
    let transfer = call(token, "transfer", args(&(&eve, 20u128)), 0);
    let _ = execute(&kit, account, &carol, &transfer)?.expect_ok();
    let balance = |of: Address| kit.view(token, "balance").args(&of).get::<u128>();
    assert_eq!((balance(eve.address())?, balance(account)?), (20, 30));

    // What was returned, in borsh.
    let supply = call(token, "total_supply", vec![], 0);
    let returned: Vec<u8> = execute(&kit, account, &carol, &supply)?.returned()?;
    assert_eq!(returned, args(&50u128));
    Ok(())
}

#[test]
fn value_goes_with_a_call() -> Result<()> {
    let kit = Kit::new()?;
    let carol = kit.account("carol");
    let (account, other) = (two_of_three(&kit)?, two_of_three(&kit)?);
    let deposit = call(other, "deposit", vec![], 250);
    let _ = execute(&kit, account, &carol, &deposit)?.expect_ok();
    assert_eq!((kit.balance(account)?, kit.balance(other)?), (750, 1250));
    let too_much = call(other, "deposit", vec![], 751);
    let done = execute(&kit, account, &carol, &too_much)?;
    assert_eq!(
        done.expect_revert::<Error>(),
        Error::Action(CallError::InsufficientBalance)
    );
    Ok(())
}

#[test]
fn owners_change_themselves_by_calling_the_account() -> Result<()> {
    let kit = Kit::new()?;
    let (carol, eve) = (kit.account("carol"), kit.account("eve"));
    let account = two_of_three(&kit)?;
    let add = call(account, "add_owner", args(&(&eve, 3u32)), 0);
    let done = execute(&kit, account, &carol, &add)?.expect_ok();
    let changed = OwnersChanged {
        owners: 4,
        threshold: 3,
    };
    assert_eq!(done.events::<OwnersChanged>(), [changed]);
    let owners = kit.view(account, "owners").get::<Vec<Address>>()?;
    assert!(owners.contains(&eve.address()));
    assert_eq!(kit.view(account, "threshold").get::<u32>()?, 3);
    // Now two are too few.
    let done = execute(&kit, account, &carol, &add)?;
    assert_eq!(
        done.expect_revert::<Error>(),
        Error::TooFewConfirmations { have: 2, need: 3 }
    );
    Ok(())
}

#[test]
fn nothing_else_of_the_account_can_be_called_while_it_executes() -> Result<()> {
    let kit = Kit::new()?;
    let carol = kit.account("carol");
    let account = two_of_three(&kit)?;
    let again = call(account, "execute", args(&0u64), 0);
    let done = execute(&kit, account, &carol, &again)?;
    assert_eq!(
        done.expect_revert::<Error>(),
        Error::Action(CallError::Reentrancy)
    );
    Ok(())
}

#[test]
fn a_failed_action_leaves_the_proposal() -> Result<()> {
    let kit = Kit::new()?;
    let (carol, eve) = (kit.account("carol"), kit.account("eve"));
    let account = two_of_three(&kit)?;
    let action = Action::Pay {
        to: eve.address(),
        amount: 1001,
    };
    let done = execute(&kit, account, &carol, &action)?;
    assert_eq!(
        done.expect_revert::<Error>(),
        Error::Action(CallError::InsufficientBalance)
    );
    let proposal = kit.view(account, "proposal").args(&0u64);
    let by = kit.account("alice").address();
    assert_eq!(
        proposal.get::<Option<Proposal>>()?,
        Some(Proposal { by, action })
    );
    let _ = kit
        .call(&kit.account("dave"), account, "deposit")
        .value(1)
        .send()?
        .expect_ok();
    let execute = kit.call(&carol, account, "execute").args(&0u64);
    let _ = execute.send()?.expect_ok();
    assert_eq!(kit.balance(account)?, 0);
    Ok(())
}

#[test]
fn it_can_be_used_with_json() -> Result<()> {
    let kit = Kit::new()?;
    let (alice, dave) = (kit.account("alice"), kit.account("dave"));
    let account = two_of_three(&kit)?;
    let pay = json!({"action": {"Pay": {"to": "dave", "amount": "5"}}});
    let propose = |by| kit.call(by, account, "propose").json(pay.clone()).send();
    assert_eq!(propose(&dave)?.revert_json(), Some(json!("NotOwner")));
    assert_eq!(propose(&alice)?.returned_json()?, "0");
    let execute = kit.call(&alice, account, "execute").json(json!({"id": 0}));
    assert_eq!(
        execute.send()?.revert_json(),
        Some(json!({"TooFewConfirmations": {"have": 1, "need": 2}}))
    );
    Ok(())
}
