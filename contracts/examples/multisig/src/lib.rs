//! An account of several owners: what so many of them confirm is done, with the money and in the name of the account.
//!
//! ```text
//!   init(owners, threshold) ──▶ owners, threshold
//!   propose(action) ─ owner ─▶ proposals[id], confirmed by who proposes                         ──▶ Proposed, Confirmed
//!   confirm(id)     ─ owner ─▶ confirmations[id, owner]                                         ──▶ Confirmed
//!   revoke(id)      ─ owner ─▶ without it; a proposal that no owner confirms any more is gone   ──▶ Revoked
//!   execute(id)     ─ owner, when `threshold` owners confirm ─▶ the proposal is gone, then      ──▶ Executed
//!        │
//!        ├─ Pay  ───▶ somebody's balance
//!        └─ Call ───▶ a method of any contract, with value
//!                      └─ of this one: add_owner, remove_owner, set_threshold ◀─ only the account itself may call these
//! ```
//!
//! The owners change themselves as they do everything: by a proposal, whose action calls the account itself. A contract is
//! not entered while it is running, so these three methods are `#[reentrant]`; nothing else is. That is safe because
//! `execute` stores all that it has to before it calls, reads nothing afterwards, and nobody but the account itself
//! gets in.
//!
//! If the action fails, so does `execute`: everything is as before, and the owners may try again or revoke.

#![no_std]
#![forbid(unsafe_code)]

/// An account of several owners.
#[slackline::contract]
pub mod multisig {
    use core::ops::Bound;
    use slackline::prelude::*;
    use slackline::{Call, caller, self_address, transfer, value};

    /// Counting confirmations looks at every owner, so there are not too many.
    pub const MAX_OWNERS: u32 = 32;
    /// The most that one call lists.
    pub const MAX_LISTED: u32 = 20;

    /// What is stored.
    #[storage]
    pub struct Multisig {
        owners: OrderedMap<Address, ()>,
        /// How many there are.
        count: Value<u32>,
        threshold: Value<u32>,
        /// How many proposals there ever were: the id of the next.
        proposed: Value<u64>,
        /// What is neither executed nor revoked.
        proposals: OrderedMap<u64, Proposal>,
        /// By proposal and owner. Those of former owners do not count, unless they become owners again.
        confirmations: OrderedMap<(u64, Address), ()>,
    }

    /// What the account may do.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub enum Action {
        /// Pays somebody. No code is run.
        Pay {
            /// Whom.
            to: Address,
            /// How much.
            amount: u128,
        },
        /// Calls a contract.
        Call {
            /// Which.
            contract: Address,
            /// Its method.
            method: String,
            /// The arguments in borsh.
            input: Vec<u8>,
            /// What is attached.
            value: u128,
        },
    }

    /// An action that owners may confirm.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Proposal {
        /// Who has proposed it.
        pub by: Address,
        /// What is to be done.
        pub action: Action,
    }

    /// The account got money.
    #[derive(Event, Debug, PartialEq)]
    pub struct Deposited {
        /// From whom.
        #[topic]
        pub from: Address,
        /// How much.
        pub amount: u128,
    }

    /// There is something to confirm.
    #[derive(Event, Debug, PartialEq)]
    pub struct Proposed {
        /// Its number.
        #[topic]
        pub id: u64,
        /// Whose idea it is.
        #[topic]
        pub by: Address,
    }

    /// An owner wants it.
    #[derive(Event, Debug, PartialEq)]
    pub struct Confirmed {
        /// What.
        #[topic]
        pub id: u64,
        /// Who.
        #[topic]
        pub owner: Address,
    }

    /// An owner wants it no more.
    #[derive(Event, Debug, PartialEq)]
    pub struct Revoked {
        /// What.
        #[topic]
        pub id: u64,
        /// Who.
        #[topic]
        pub owner: Address,
        /// Nobody else wants it: the proposal is gone.
        pub dropped: bool,
    }

    /// It is done.
    #[derive(Event, Debug, PartialEq)]
    pub struct Executed {
        /// What.
        #[topic]
        pub id: u64,
        /// By whom, last.
        #[topic]
        pub by: Address,
    }

    /// There are other owners, or more or fewer of them have to confirm.
    #[derive(Event, Debug, PartialEq)]
    pub struct OwnersChanged {
        /// How many owners there are.
        pub owners: u32,
        /// How many of them have to confirm.
        pub threshold: u32,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// Only owners may do that.
        NotOwner,
        /// Only the account itself may do that: propose it.
        NotSelf,
        /// That is an owner already.
        AlreadyOwner,
        /// There are at most 32 owners.
        TooManyOwners,
        /// At least one owner confirms, and no more than there are.
        BadThreshold,
        /// There is no such proposal, or it is no more.
        NoSuchProposal,
        /// The caller has confirmed it already.
        AlreadyConfirmed,
        /// The caller has not confirmed it.
        NotConfirmed,
        /// More owners have to confirm it.
        TooFewConfirmations {
            /// So many have.
            have: u32,
            /// So many have to.
            need: u32,
        },
        /// There cannot be so many proposals.
        Overflow,
        /// The action failed.
        #[from]
        Action(CallError),
    }

    type Result<T> = core::result::Result<T, Error>;

    impl Multisig {
        /// An account of these owners, so many of whom have to confirm what it does.
        #[init]
        #[payable]
        pub fn init(&mut self, owners: Vec<Address>, threshold: u32) -> Result<()> {
            for owner in &owners {
                self.insert(owner)?;
            }
            self.require(threshold)
        }

        /// Takes money.
        #[payable]
        pub fn deposit(&mut self) {
            Deposited {
                from: caller(),
                amount: value(),
            }
            .emit();
        }

        /// Proposes an action, confirms it, and gives its number. For owners.
        pub fn propose(&mut self, action: Action) -> Result<u64> {
            let by = self.owner()?;
            let id = self.proposed.get_or_default();
            self.proposed
                .set(&id.checked_add(1).ok_or(Error::Overflow)?);
            self.proposals.set(&id, &Proposal { by, action });
            Proposed { id, by }.emit();
            self.confirmations.set(&(id, by), &());
            Confirmed { id, owner: by }.emit();
            Ok(id)
        }

        /// Confirms a proposal. For owners.
        pub fn confirm(&mut self, id: u64) -> Result<()> {
            let owner = self.owner()?;
            if !self.proposals.contains(&id) {
                return Err(Error::NoSuchProposal);
            }
            if self.confirmations.contains(&(id, owner)) {
                return Err(Error::AlreadyConfirmed);
            }
            self.confirmations.set(&(id, owner), &());
            Confirmed { id, owner }.emit();
            Ok(())
        }

        /// Takes back the caller's confirmation. Without any a proposal is gone. For owners.
        pub fn revoke(&mut self, id: u64) -> Result<()> {
            let owner = self.owner()?;
            if self.confirmations.take(&(id, owner)).is_none() {
                return Err(Error::NotConfirmed);
            }
            let dropped = self.confirming(id).next().is_none();
            if dropped {
                self.forget(id);
            }
            Revoked { id, owner, dropped }.emit();
            Ok(())
        }

        /// Does what enough owners have confirmed, and gives what the called contract returned. For owners.
        pub fn execute(&mut self, id: u64) -> Result<Vec<u8>> {
            let by = self.owner()?;
            let proposal = self.proposals.get(&id).ok_or(Error::NoSuchProposal)?;
            let need = self.threshold();
            // No more than are needed are looked for, and there are at most 32 owners.
            let have = self.confirming(id).take(need as usize).count() as u32;
            if have < need {
                return Err(Error::TooFewConfirmations { have, need });
            }
            // Before the call, in which nothing can be executed twice then.
            self.forget(id);
            let returned = match proposal.action {
                Action::Pay { to, amount } => {
                    transfer(to, amount)?;
                    Vec::new()
                }
                Action::Call {
                    contract,
                    method,
                    input,
                    value,
                } => Call::new(contract)
                    .value(value)
                    .call_raw(false, &method, &input)?,
            };
            Executed { id, by }.emit();
            Ok(returned)
        }

        /// Adds an owner; from now on so many have to confirm. Only by a proposal.
        #[reentrant]
        pub fn add_owner(&mut self, owner: Address, threshold: u32) -> Result<()> {
            by_itself()?;
            self.insert(&owner)?;
            self.require(threshold)
        }

        /// Removes an owner; from now on so many have to confirm. Only by a proposal.
        #[reentrant]
        pub fn remove_owner(&mut self, owner: Address, threshold: u32) -> Result<()> {
            by_itself()?;
            self.owners.take(&owner).ok_or(Error::NotOwner)?;
            self.count.set(&self.count().saturating_sub(1));
            self.require(threshold)
        }

        /// From now on so many have to confirm. Only by a proposal.
        #[reentrant]
        pub fn set_threshold(&mut self, threshold: u32) -> Result<()> {
            by_itself()?;
            self.require(threshold)
        }

        /// The owners, in the order of their addresses.
        #[view]
        pub fn owners(&self) -> Vec<Address> {
            self.owners.iter().map(|(owner, ())| owner).collect()
        }

        /// How many owners have to confirm.
        #[view]
        pub fn threshold(&self) -> u32 {
            self.threshold.get_or_default()
        }

        /// A proposal that is neither executed nor revoked.
        #[view]
        pub fn proposal(&self, id: u64) -> Option<Proposal> {
            self.proposals.get(&id)
        }

        /// The owners that confirm a proposal.
        #[view]
        pub fn confirmations(&self, id: u64) -> Vec<Address> {
            self.confirming(id).collect()
        }

        /// Proposals and their numbers: at most `limit`, and 20, from behind the number `after` on.
        #[view]
        pub fn proposals(&self, after: Option<u64>, limit: u32) -> Vec<(u64, Proposal)> {
            let low = after.map_or(Bound::Unbounded, Bound::Excluded);
            self.proposals
                .range((low, Bound::Unbounded))
                .take(limit.min(MAX_LISTED) as usize)
                .collect()
        }

        /// The caller, who has to be an owner.
        fn owner(&self) -> Result<Address> {
            let caller = caller();
            if self.owners.contains(&caller) {
                Ok(caller)
            } else {
                Err(Error::NotOwner)
            }
        }

        /// The present owners who confirm, each looked at when asked for.
        fn confirming(&self, id: u64) -> impl Iterator<Item = Address> {
            self.owners
                .iter()
                .map(|(owner, ())| owner)
                .filter(move |owner| self.confirmations.contains(&(id, *owner)))
        }

        /// Removes a proposal and all that was stored for it, whose deposits are refunded.
        fn forget(&mut self, id: u64) {
            self.proposals.remove(&id);
            let keys: Vec<_> = self
                .confirmations
                .prefix(&id)
                .map(|(key, ())| key)
                .collect();
            for key in &keys {
                self.confirmations.remove(key);
            }
        }

        fn count(&self) -> u32 {
            self.count.get_or_default()
        }

        fn insert(&mut self, owner: &Address) -> Result<()> {
            if self.owners.contains(owner) {
                return Err(Error::AlreadyOwner);
            }
            let count = self
                .count()
                .checked_add(1)
                .filter(|count| *count <= MAX_OWNERS)
                .ok_or(Error::TooManyOwners)?;
            self.owners.set(owner, &());
            self.count.set(&count);
            Ok(())
        }

        /// Sets the threshold, which fits the owners that there are now.
        fn require(&mut self, threshold: u32) -> Result<()> {
            let owners = self.count();
            if !(1..=owners).contains(&threshold) {
                return Err(Error::BadThreshold);
            }
            self.threshold.set(&threshold);
            OwnersChanged { owners, threshold }.emit();
            Ok(())
        }
    }

    fn by_itself() -> Result<()> {
        if caller() == self_address() {
            Ok(())
        } else {
            Err(Error::NotSelf)
        }
    }

    #[cfg(test)]
    mod tests {
        extern crate std;

        use super::*;
        use core::cell::RefCell;
        use slackline::borsh;
        use slackline::mock::{self, Host, Revert};
        use std::rc::Rc;

        const ALICE: Address = Address([1; 32]);
        const BOB: Address = Address([2; 32]);
        const CAROL: Address = Address([3; 32]);
        const DAVE: Address = Address([4; 32]);
        const OTHER: Address = Address([9; 32]);

        type Outcome<T> = core::result::Result<T, Revert>;

        /// Two of ALICE, BOB and CAROL, with 1000.
        fn two_of_three() -> Host {
            let mut host = Host::default();
            host.attach(1000)
                .call::<()>(DAVE, exports::init, (vec![CAROL, ALICE, BOB], 2u32))
                .unwrap();
            host
        }

        fn pay(amount: u128) -> Action {
            Action::Pay { to: DAVE, amount }
        }

        fn call(value: u128) -> Action {
            Action::Call {
                contract: OTHER,
                method: "poke".into(),
                input: vec![7, 8],
                value,
            }
        }

        fn propose(host: &mut Host, by: Address, action: Action) -> u64 {
            host.call(by, exports::propose, action).unwrap()
        }

        fn confirm(host: &mut Host, by: Address, id: u64) -> Outcome<()> {
            host.call(by, exports::confirm, id)
        }

        fn execute(host: &mut Host, by: Address, id: u64) -> Outcome<Vec<u8>> {
            host.call(by, exports::execute, id)
        }

        fn failed<T>(error: Error) -> Outcome<T> {
            Err(Revert::with(&error))
        }

        #[test]
        fn owners_and_threshold_have_to_fit() {
            let many: Vec<Address> = (0..33).map(|i| Address([i; 32])).collect();
            for (owners, threshold, error) in [
                (vec![], 0u32, Error::BadThreshold),
                (vec![ALICE], 0, Error::BadThreshold),
                (vec![ALICE], 2, Error::BadThreshold),
                (vec![ALICE, BOB, ALICE], 2, Error::AlreadyOwner),
                (many, 2, Error::TooManyOwners),
            ] {
                let mut host = Host::default();
                assert_eq!(
                    host.call::<()>(ALICE, exports::init, (owners, threshold)),
                    failed(error)
                );
            }
            let mut host = two_of_three();
            assert_eq!(
                host.call(DAVE, exports::owners, ()),
                Ok(vec![ALICE, BOB, CAROL])
            );
            assert_eq!(host.call(DAVE, exports::threshold, ()), Ok(2u32));
        }

        #[test]
        fn what_enough_confirm_is_done_once() {
            let mut host = two_of_three();
            let id = propose(&mut host, ALICE, pay(300));
            assert_eq!(host.emitted::<Proposed>(), [Proposed { id, by: ALICE }]);
            assert_eq!(host.emitted::<Confirmed>().len(), 1);
            assert_eq!(
                execute(&mut host, ALICE, id),
                failed(Error::TooFewConfirmations { have: 1, need: 2 })
            );
            assert_eq!(
                confirm(&mut host, ALICE, id),
                failed(Error::AlreadyConfirmed)
            );
            confirm(&mut host, CAROL, id).unwrap();
            assert_eq!(
                host.call(DAVE, exports::confirmations, id),
                Ok(vec![ALICE, CAROL])
            );
            // By an owner who has not even confirmed.
            assert_eq!(execute(&mut host, BOB, id), Ok(vec![]));
            assert_eq!(host.emitted::<Executed>(), [Executed { id, by: BOB }]);
            assert_eq!(host.balances[&DAVE], 300);
            assert_eq!(execute(&mut host, BOB, id), failed(Error::NoSuchProposal));
            assert_eq!(confirm(&mut host, BOB, id), failed(Error::NoSuchProposal));
            assert_eq!(propose(&mut host, ALICE, pay(1)), id + 1);
        }

        #[test]
        fn others_do_nothing() {
            let mut host = two_of_three();
            let id = propose(&mut host, ALICE, pay(1));
            confirm(&mut host, BOB, id).unwrap();
            assert_eq!(confirm(&mut host, DAVE, id), failed(Error::NotOwner));
            assert_eq!(execute(&mut host, DAVE, id), failed(Error::NotOwner));
            assert_eq!(
                host.call::<()>(DAVE, exports::revoke, id),
                failed(Error::NotOwner)
            );
            assert_eq!(
                host.call::<u64>(DAVE, exports::propose, pay(1)),
                failed(Error::NotOwner)
            );
            for caller in [ALICE, DAVE] {
                for refused in [
                    host.call::<()>(caller, exports::add_owner, (DAVE, 1u32)),
                    host.call::<()>(caller, exports::remove_owner, (BOB, 1u32)),
                    host.call::<()>(caller, exports::set_threshold, 1u32),
                ] {
                    assert_eq!(refused, failed(Error::NotSelf));
                }
            }
        }

        #[test]
        fn a_confirmation_can_be_revoked_and_the_last_ends_the_proposal() {
            let mut host = two_of_three();
            let empty = host.storage.len();
            let id = propose(&mut host, ALICE, pay(1));
            confirm(&mut host, BOB, id).unwrap();
            host.call::<()>(ALICE, exports::revoke, id).unwrap();
            let revoked = |owner, dropped| [Revoked { id, owner, dropped }];
            assert_eq!(host.emitted::<Revoked>(), revoked(ALICE, false));
            assert_eq!(
                execute(&mut host, BOB, id),
                failed(Error::TooFewConfirmations { have: 1, need: 2 })
            );
            assert_eq!(
                host.call::<()>(ALICE, exports::revoke, id),
                failed(Error::NotConfirmed)
            );
            host.call::<()>(BOB, exports::revoke, id).unwrap();
            assert_eq!(host.emitted::<Revoked>(), revoked(BOB, true));
            assert_eq!(confirm(&mut host, ALICE, id), failed(Error::NoSuchProposal));
            // Only the number of proposals is new.
            assert_eq!(host.storage.len(), empty + 1);
        }

        #[test]
        fn calls_are_made_as_confirmed() {
            let mut host = two_of_three();
            let id = propose(&mut host, ALICE, call(5));
            confirm(&mut host, BOB, id).unwrap();
            let seen = Rc::new(RefCell::new(Vec::new()));
            let answer = {
                let seen = seen.clone();
                move |call: mock::OtherCall<'_>| {
                    let input = call.input.to_vec();
                    let what = (
                        call.to,
                        call.method.to_string(),
                        input,
                        call.value,
                        call.view,
                    );
                    seen.borrow_mut().push(what);
                    Ok(vec![1, 2, 3])
                }
            };
            let returned = mock::with_others(answer, || execute(&mut host, CAROL, id));
            assert_eq!(returned, Ok(vec![1, 2, 3]));
            let called = (OTHER, "poke".to_string(), vec![7, 8], 5, false);
            assert_eq!(*seen.borrow(), [called]);
        }

        #[test]
        fn a_failed_action_can_be_tried_again() {
            let mut host = two_of_three();
            for (action, error) in [
                (call(0), CallError::Reverted(vec![1])),
                (call(0), CallError::NoMethod),
                (pay(1001), CallError::InsufficientBalance),
            ] {
                let id = propose(&mut host, ALICE, action.clone());
                confirm(&mut host, BOB, id).unwrap();
                let answer = {
                    let error = error.clone();
                    move |_: mock::OtherCall<'_>| Err(error.clone())
                };
                let outcome = mock::with_others(answer, || execute(&mut host, CAROL, id));
                assert_eq!(outcome, failed(Error::Action(error)));
                assert_eq!(
                    host.call(DAVE, exports::proposal, id),
                    Ok(Some(Proposal { by: ALICE, action }))
                );
            }
            let answer = |_: mock::OtherCall<'_>| Ok(vec![]);
            mock::with_others(answer, || execute(&mut host, CAROL, 0)).unwrap();
            let listed: Vec<(u64, Proposal)> = host
                .call(DAVE, exports::proposals, (None::<u64>, 9u32))
                .unwrap();
            assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
            let listed: Vec<(u64, Proposal)> = host
                .call(DAVE, exports::proposals, (Some(1u64), 9u32))
                .unwrap();
            assert_eq!(listed.len(), 1);
        }

        #[test]
        fn only_present_owners_count() {
            let mut host = two_of_three();
            let id = propose(&mut host, ALICE, pay(1));
            let account = host.address;
            host.call::<()>(account, exports::remove_owner, (ALICE, 2u32))
                .unwrap();
            let changed = OwnersChanged {
                owners: 2,
                threshold: 2,
            };
            assert_eq!(host.emitted::<OwnersChanged>(), [changed]);
            confirm(&mut host, BOB, id).unwrap();
            assert_eq!(
                execute(&mut host, BOB, id),
                failed(Error::TooFewConfirmations { have: 1, need: 2 })
            );
            host.call::<()>(account, exports::add_owner, (DAVE, 2u32))
                .unwrap();
            confirm(&mut host, DAVE, id).unwrap();
            execute(&mut host, DAVE, id).unwrap();
            // Nothing is left of a confirmation that did not count.
            assert!(host.storage.keys().all(|key| key[0] != 5));
        }

        #[test]
        fn there_are_always_enough_owners_to_do_something() {
            let mut host = two_of_three();
            let account = host.address;
            assert_eq!(
                host.call::<()>(account, exports::remove_owner, (DAVE, 2u32)),
                failed(Error::NotOwner)
            );
            host.call::<()>(account, exports::remove_owner, (ALICE, 2u32))
                .unwrap();
            for threshold in [0u32, 2] {
                assert_eq!(
                    host.call::<()>(account, exports::remove_owner, (BOB, threshold)),
                    failed(Error::BadThreshold)
                );
            }
            assert_eq!(
                host.call::<()>(account, exports::set_threshold, 3u32),
                failed(Error::BadThreshold)
            );
            host.call::<()>(account, exports::set_threshold, 1u32)
                .unwrap();
            assert_eq!(
                host.call::<()>(account, exports::add_owner, (BOB, 1u32)),
                failed(Error::AlreadyOwner)
            );
        }

        #[test]
        fn anybody_may_pay_in() {
            let mut host = two_of_three();
            host.attach(7)
                .call::<()>(DAVE, exports::deposit, ())
                .unwrap();
            let deposited = Deposited {
                from: DAVE,
                amount: 7,
            };
            assert_eq!(host.emitted::<Deposited>(), [deposited]);
            assert_eq!(host.balances[&host.address], 1007);
            assert_eq!(
                host.attach(1).call::<()>(ALICE, exports::confirm, 0u64),
                Err("method is not payable".into())
            );
        }

        #[test]
        fn an_action_is_encoded_as_described() {
            // What a front end writes into a proposal: the input is the borsh of the arguments.
            let action = Action::Call {
                contract: OTHER,
                method: "add_owner".into(),
                input: borsh::to_vec(&(DAVE, 2u32)).unwrap(),
                value: 0,
            };
            let mut host = two_of_three();
            let id = propose(&mut host, ALICE, action.clone());
            assert_eq!(
                host.call(DAVE, exports::proposal, id),
                Ok(Some(Proposal { by: ALICE, action }))
            );
        }
    }
}
