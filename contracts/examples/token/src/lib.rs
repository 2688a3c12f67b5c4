//! A token: whoever deploys it owns it and can make more of it, and whoever has some can pass it on.
//!
//! ```text
//!   init(supply) ──▶ Supply, Owner, Balance(deployer)
//!   mint     ─ owner only ─▶ Supply, Balance(to)              ──▶ log: Event::Mint
//!   transfer ─ caller ─────▶ Balance(caller), Balance(to)     ──▶ log: Event::Transfer
//! ```

#![no_std]
#![forbid(unsafe_code)]

use borsh::{BorshDeserialize, BorshSerialize};
use slackline_sdk::{Address, caller, emit, storage};

slackline_sdk::contract! { init, mint, transfer, balance, total_supply }

#[derive(BorshSerialize)]
enum Key {
    Owner,
    Supply,
    Balance(Address),
}

/// What the log records of this contract are.
#[derive(BorshSerialize, BorshDeserialize, Debug, PartialEq)]
pub enum Event {
    /// Tokens came into being.
    Mint { to: Address, amount: u128 },
    /// Tokens changed hands.
    Transfer {
        from: Address,
        to: Address,
        amount: u128,
    },
}

type Result<T> = core::result::Result<T, &'static str>;

fn init(supply: u128) -> Result<()> {
    storage::set(&Key::Owner, &caller());
    issue(caller(), supply)
}

fn mint(to: Address, amount: u128) -> Result<()> {
    if storage::get(&Key::Owner) != Some(caller()) {
        return Err("not the owner");
    }
    issue(to, amount)
}

fn transfer(to: Address, amount: u128) -> Result<()> {
    let from = caller();
    let rest = balance(from)
        .checked_sub(amount)
        .ok_or("insufficient balance")?;
    storage::set(&Key::Balance(from), &rest);
    credit(to, amount)?;
    emit(&Event::Transfer { from, to, amount });
    Ok(())
}

fn balance(owner: Address) -> u128 {
    storage::get(&Key::Balance(owner)).unwrap_or(0)
}

fn total_supply() -> u128 {
    storage::get(&Key::Supply).unwrap_or(0)
}

fn issue(to: Address, amount: u128) -> Result<()> {
    let supply = total_supply().checked_add(amount).ok_or("overflow")?;
    storage::set(&Key::Supply, &supply);
    credit(to, amount)?;
    emit(&Event::Mint { to, amount });
    Ok(())
}

/// Reads the balance again, after what it was taken from has been stored: the two may be the same.
fn credit(to: Address, amount: u128) -> Result<()> {
    let sum = balance(to).checked_add(amount).ok_or("overflow")?;
    storage::set(&Key::Balance(to), &sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use slackline_sdk::mock::Host;

    const ALICE: Address = Address([1; 32]);
    const BOB: Address = Address([2; 32]);

    fn deployed(supply: u128) -> Host {
        let mut host = Host::default();
        host.call::<()>(ALICE, exports::init, supply).unwrap();
        host
    }

    fn balance_of(host: &mut Host, owner: Address) -> u128 {
        host.call(owner, exports::balance, owner).unwrap()
    }

    #[test]
    fn the_deployer_has_the_supply() {
        let mut host = deployed(1000);
        assert_eq!(balance_of(&mut host, ALICE), 1000);
        assert_eq!(balance_of(&mut host, BOB), 0);
        assert_eq!(host.call(BOB, exports::total_supply, ()), Ok(1000u128));
    }

    #[test]
    fn a_transfer_moves_tokens_and_is_logged() {
        let mut host = deployed(1000);
        host.call::<()>(ALICE, exports::transfer, (BOB, 300u128))
            .unwrap();
        let event: Event = borsh::from_slice(&host.logs[0]).unwrap();
        assert_eq!(
            event,
            Event::Transfer {
                from: ALICE,
                to: BOB,
                amount: 300
            }
        );
        assert_eq!(host.logs.len(), 1);
        assert_eq!(balance_of(&mut host, ALICE), 700);
        assert_eq!(balance_of(&mut host, BOB), 300);
    }

    #[test]
    fn a_transfer_to_oneself_changes_nothing() {
        let mut host = deployed(1000);
        host.call::<()>(ALICE, exports::transfer, (ALICE, 300u128))
            .unwrap();
        assert_eq!(balance_of(&mut host, ALICE), 1000);
    }

    #[test]
    fn nobody_spends_more_than_they_have() {
        let mut host = deployed(1000);
        let before = host.storage.clone();
        let spent = host.call::<()>(ALICE, exports::transfer, (BOB, 1001u128));
        assert_eq!(spent, Err("insufficient balance".into()));
        let spent = host.call::<()>(BOB, exports::transfer, (ALICE, 1u128));
        assert_eq!(spent, Err("insufficient balance".into()));
        assert_eq!(host.storage, before);
    }

    #[test]
    fn only_the_owner_mints_and_never_too_much() {
        let mut host = deployed(1000);
        assert_eq!(
            host.call::<()>(BOB, exports::mint, (BOB, 1u128)),
            Err("not the owner".into())
        );
        host.call::<()>(ALICE, exports::mint, (BOB, 50u128))
            .unwrap();
        assert_eq!(balance_of(&mut host, BOB), 50);
        assert_eq!(host.call(BOB, exports::total_supply, ()), Ok(1050u128));
        assert_eq!(
            host.call::<()>(ALICE, exports::mint, (BOB, u128::MAX)),
            Err("overflow".into())
        );
        assert_eq!(balance_of(&mut host, BOB), 50);
    }

    #[test]
    fn malformed_arguments_are_refused() {
        let mut host = deployed(1000);
        for refused in [
            host.call::<()>(ALICE, exports::transfer, ()),
            host.call::<()>(ALICE, exports::transfer, [7u8; 47]),
            host.call::<()>(ALICE, exports::transfer, [7u8; 49]),
        ] {
            assert_eq!(refused, Err("malformed input".into()));
        }
    }
}
