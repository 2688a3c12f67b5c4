//! A token: whoever deploys it owns it and can make more of it, whoever has some can pass it on, or allow others to.
//!
//! ```text
//!   init(supply) ──▶ owner, supply, balances[deployer]
//!   mint           ─ owner only ─▶ supply, balances[to]                              ──▶ Mint
//!   transfer       ─ caller ─────▶ balances[caller], balances[to]                    ──▶ Transfer
//!   approve        ─ caller ─────▶ allowances[caller, spender]                       ──▶ Approval
//!   transfer_from  ─ spender ────▶ allowances[from, spender], balances[from, to]     ──▶ Transfer
//! ```

#![no_std]
#![forbid(unsafe_code)]

/// A fungible token with allowances.
#[slackline::contract]
pub mod token {
    use slackline::caller;
    use slackline::prelude::*;

    /// What is stored.
    #[storage]
    pub struct Token {
        owner: Value<Address>,
        supply: Value<u128>,
        balances: Map<Address, u128>,
        /// By owner and spender.
        allowances: Map<(Address, Address), u128>,
    }

    /// Tokens came into being.
    #[derive(Event, Debug, PartialEq)]
    pub struct Mint {
        /// Who has them.
        #[topic]
        pub to: Address,
        /// How many.
        pub amount: u128,
    }

    /// Tokens changed hands.
    #[derive(Event, Debug, PartialEq)]
    pub struct Transfer {
        /// Who had them.
        #[topic]
        pub from: Address,
        /// Who has them now.
        #[topic]
        pub to: Address,
        /// How many.
        pub amount: u128,
    }

    /// Somebody may spend another's tokens.
    #[derive(Event, Debug, PartialEq)]
    pub struct Approval {
        /// Whose tokens.
        #[topic]
        pub owner: Address,
        /// Who may spend them.
        #[topic]
        pub spender: Address,
        /// How many, from now on.
        pub amount: u128,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// Only the owner makes tokens.
        NotOwner,
        /// There are fewer tokens than that.
        InsufficientBalance,
        /// The owner has not allowed as much.
        InsufficientAllowance,
        /// There cannot be so many tokens.
        Overflow,
    }

    type Result<T> = core::result::Result<T, Error>;

    impl Token {
        /// The deployer owns the token and has the supply.
        #[init]
        pub fn init(&mut self, supply: u128) -> Result<()> {
            self.owner.set(&caller());
            self.issue(caller(), supply)
        }

        /// Makes tokens. For the owner only.
        pub fn mint(&mut self, to: Address, amount: u128) -> Result<()> {
            if self.owner.get() != Some(caller()) {
                return Err(Error::NotOwner);
            }
            self.issue(to, amount)
        }

        /// Passes on tokens of the caller's.
        pub fn transfer(&mut self, to: Address, amount: u128) -> Result<()> {
            self.pass(caller(), to, amount)
        }

        /// Lets `spender` pass on so many of the caller's tokens, instead of what was allowed before.
        pub fn approve(&mut self, spender: Address, amount: u128) {
            let owner = caller();
            self.allowances.set(&(owner, spender), &amount);
            Approval {
                owner,
                spender,
                amount,
            }
            .emit();
        }

        /// Passes on tokens that `from` has allowed the caller.
        pub fn transfer_from(&mut self, from: Address, to: Address, amount: u128) -> Result<()> {
            let spender = caller();
            let rest = self
                .allowance(from, spender)
                .checked_sub(amount)
                .ok_or(Error::InsufficientAllowance)?;
            self.allowances.set(&(from, spender), &rest);
            self.pass(from, to, amount)
        }

        /// How many tokens somebody has.
        #[view]
        pub fn balance(&self, owner: Address) -> u128 {
            self.balances.get_or_default(&owner)
        }

        /// How many tokens of the owner's the spender may pass on.
        #[view]
        pub fn allowance(&self, owner: Address, spender: Address) -> u128 {
            self.allowances.get_or_default(&(owner, spender))
        }

        /// How many tokens there are.
        #[view]
        pub fn total_supply(&self) -> u128 {
            self.supply.get_or_default()
        }

        fn issue(&mut self, to: Address, amount: u128) -> Result<()> {
            let supply = self
                .total_supply()
                .checked_add(amount)
                .ok_or(Error::Overflow)?;
            self.supply.set(&supply);
            self.credit(to, amount)?;
            Mint { to, amount }.emit();
            Ok(())
        }

        fn pass(&mut self, from: Address, to: Address, amount: u128) -> Result<()> {
            let rest = self
                .balance(from)
                .checked_sub(amount)
                .ok_or(Error::InsufficientBalance)?;
            self.balances.set(&from, &rest);
            self.credit(to, amount)?;
            Transfer { from, to, amount }.emit();
            Ok(())
        }

        /// Reads the balance again, after what it was taken from has been stored: the two may be the same.
        fn credit(&mut self, to: Address, amount: u128) -> Result<()> {
            let sum = self
                .balance(to)
                .checked_add(amount)
                .ok_or(Error::Overflow)?;
            self.balances.set(&to, &sum);
            Ok(())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use slackline::mock::{Host, Revert};

        const ALICE: Address = Address([1; 32]);
        const BOB: Address = Address([2; 32]);
        const CAROL: Address = Address([3; 32]);

        fn deployed(supply: u128) -> Host {
            let mut host = Host::default();
            host.call::<()>(ALICE, exports::init, supply).unwrap();
            host
        }

        fn balance_of(host: &mut Host, owner: Address) -> u128 {
            host.call(owner, exports::balance, owner).unwrap()
        }

        fn failed(error: Error) -> core::result::Result<(), Revert> {
            Err(Revert::with(&error))
        }

        #[test]
        fn the_deployer_has_the_supply() {
            let mut host = deployed(1000);
            let made = Mint {
                to: ALICE,
                amount: 1000,
            };
            assert_eq!(host.emitted::<Mint>(), [made]);
            assert_eq!(balance_of(&mut host, ALICE), 1000);
            assert_eq!(balance_of(&mut host, BOB), 0);
            assert_eq!(host.call(BOB, exports::total_supply, ()), Ok(1000u128));
        }

        #[test]
        fn a_transfer_moves_tokens_and_is_told() {
            let mut host = deployed(1000);
            host.call::<()>(ALICE, exports::transfer, (BOB, 300u128))
                .unwrap();
            let moved = Transfer {
                from: ALICE,
                to: BOB,
                amount: 300,
            };
            assert_eq!(host.emitted::<Transfer>(), [moved]);
            assert_eq!(host.events.len(), 1);
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
            let spent = host.call(ALICE, exports::transfer, (BOB, 1001u128));
            assert_eq!(spent, failed(Error::InsufficientBalance));
            let spent = host.call(BOB, exports::transfer, (ALICE, 1u128));
            assert_eq!(spent, failed(Error::InsufficientBalance));
            assert_eq!(host.storage, before);
        }

        #[test]
        fn others_spend_what_they_are_allowed_and_no_more() {
            let mut host = deployed(1000);
            host.call::<()>(ALICE, exports::approve, (BOB, 300u128))
                .unwrap();
            let allowed = Approval {
                owner: ALICE,
                spender: BOB,
                amount: 300,
            };
            assert_eq!(host.emitted::<Approval>(), [allowed]);
            host.call::<()>(BOB, exports::transfer_from, (ALICE, CAROL, 200u128))
                .unwrap();
            assert_eq!(balance_of(&mut host, CAROL), 200);
            assert_eq!(
                host.call(CAROL, exports::allowance, (ALICE, BOB)),
                Ok(100u128)
            );
            for (spender, amount) in [(BOB, 101u128), (CAROL, 1)] {
                assert_eq!(
                    host.call(spender, exports::transfer_from, (ALICE, CAROL, amount)),
                    failed(Error::InsufficientAllowance)
                );
            }
            assert_eq!(balance_of(&mut host, ALICE), 800);
        }

        #[test]
        fn an_allowance_is_not_a_balance() {
            let mut host = deployed(10);
            host.call::<()>(ALICE, exports::approve, (BOB, 11u128))
                .unwrap();
            assert_eq!(
                host.call(BOB, exports::transfer_from, (ALICE, BOB, 11u128)),
                failed(Error::InsufficientBalance)
            );
            assert_eq!(host.call(BOB, exports::allowance, (ALICE, BOB)), Ok(11u128));
        }

        #[test]
        fn only_the_owner_mints_and_never_too_much() {
            let mut host = deployed(1000);
            assert_eq!(
                host.call(BOB, exports::mint, (BOB, 1u128)),
                failed(Error::NotOwner)
            );
            host.call::<()>(ALICE, exports::mint, (BOB, 50u128))
                .unwrap();
            assert_eq!(balance_of(&mut host, BOB), 50);
            assert_eq!(host.call(BOB, exports::total_supply, ()), Ok(1050u128));
            assert_eq!(
                host.call(ALICE, exports::mint, (BOB, u128::MAX)),
                failed(Error::Overflow)
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
}
