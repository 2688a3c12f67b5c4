//! Tokens of which each is one of a kind: somebody owns it, may pass it on, or let somebody else do so.
//!
//! ```text
//!   init ──▶ minter
//!   mint(to, uri)      ─ minter only ──────────────────▶ owners[id], uris[id], owned[to, id]     ──▶ Minted
//!   approve(id, who)   ─ owner ────────────────────────▶ approved[id]                            ──▶ Approved
//!   approve_all(who)   ─ owner ────────────────────────▶ operators[owner, who]                   ──▶ ApprovedAll
//!   transfer(id, to)   ─ owner, approved or operator ──▶ owners[id], owned[from ─▶ to, id]       ──▶ Transferred
//!   burn(id)           ─ owner, approved or operator ──▶ nothing is left of it                   ──▶ Burned
//!   tokens_of(owner, after, limit) ◀── the keys of owned that begin with the owner, in the order of ids
//! ```
//!
//! A token is in storage twice: by its id, for whoever asks who owns it, and in an ordered map by owner and id, for whoever asks
//! what somebody owns. The host keeps keys in order, so that no list has to be kept and nothing has to be moved when
//! a token leaves the middle of somebody's collection.

#![no_std]
#![forbid(unsafe_code)]

/// Tokens of which each is one of a kind.
#[slackline::contract]
pub mod nft {
    use core::ops::Bound;
    use slackline::caller;
    use slackline::prelude::*;

    /// The most that one call lists.
    pub const MAX_LISTED: u32 = 100;

    /// What is stored.
    #[storage]
    pub struct Nft {
        minter: Value<Address>,
        /// How many were ever minted: the id of the next.
        minted: Value<u64>,
        owners: Map<u64, Address>,
        uris: Map<u64, String>,
        /// By owner and id.
        owned: OrderedMap<(Address, u64), ()>,
        /// How many somebody owns.
        counts: Map<Address, u64>,
        /// Who besides its owner may pass on a token.
        approved: Map<u64, Address>,
        /// Who may pass on all tokens of another's: by owner and operator.
        operators: Set<(Address, Address)>,
    }

    /// A token came into being.
    #[derive(Event, Debug, PartialEq)]
    pub struct Minted {
        /// Who has it.
        #[topic]
        pub to: Address,
        /// Which.
        #[topic]
        pub id: u64,
        /// Where it is described.
        pub uri: String,
    }

    /// A token changed hands.
    #[derive(Event, Debug, PartialEq)]
    pub struct Transferred {
        /// Who had it.
        #[topic]
        pub from: Address,
        /// Who has it now.
        #[topic]
        pub to: Address,
        /// Which.
        #[topic]
        pub id: u64,
    }

    /// A token is no more.
    #[derive(Event, Debug, PartialEq)]
    pub struct Burned {
        /// Who had it.
        #[topic]
        pub from: Address,
        /// Which.
        #[topic]
        pub id: u64,
    }

    /// Somebody may pass on another's token, or nobody may any more.
    #[derive(Event, Debug, PartialEq)]
    pub struct Approved {
        /// Whose token.
        #[topic]
        pub owner: Address,
        /// Which.
        #[topic]
        pub id: u64,
        /// Who may.
        pub spender: Option<Address>,
    }

    /// Somebody may pass on all of another's tokens, or may no more.
    #[derive(Event, Debug, PartialEq)]
    pub struct ApprovedAll {
        /// Whose tokens.
        #[topic]
        pub owner: Address,
        /// Who may.
        #[topic]
        pub operator: Address,
        /// Or may not.
        pub allowed: bool,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// Only the minter makes tokens.
        NotMinter,
        /// There is no such token.
        NoSuchToken,
        /// The caller does not own the token.
        NotOwner,
        /// The caller neither owns the token nor may pass it on.
        NotAllowed,
        /// There cannot be so many tokens.
        Overflow,
    }

    type Result<T> = core::result::Result<T, Error>;

    impl Nft {
        /// Who deploys is the minter.
        #[init]
        pub fn init(&mut self) {
            self.minter.set(&caller());
        }

        /// Makes a token and gives its id. For the minter only.
        pub fn mint(&mut self, to: Address, uri: String) -> Result<u64> {
            if self.minter.get() != Some(caller()) {
                return Err(Error::NotMinter);
            }
            let id = self.minted.get_or_default();
            self.minted.set(&id.checked_add(1).ok_or(Error::Overflow)?);
            self.uris.set(&id, &uri);
            self.give(to, id)?;
            Minted { to, id, uri }.emit();
            Ok(id)
        }

        /// Lets `spender`, or nobody, pass on this token of the caller's. That ends when the token changes hands.
        pub fn approve(&mut self, id: u64, spender: Option<Address>) -> Result<()> {
            let owner = self.owner_of(id).ok_or(Error::NoSuchToken)?;
            if owner != caller() {
                return Err(Error::NotOwner);
            }
            match &spender {
                Some(spender) => self.approved.set(&id, spender),
                None => self.approved.remove(&id),
            }
            Approved { owner, id, spender }.emit();
            Ok(())
        }

        /// Lets `operator` pass on all tokens of the caller's, also those to come, until this is called with `false`.
        pub fn approve_all(&mut self, operator: Address, allowed: bool) {
            let owner = caller();
            if allowed {
                self.operators.insert(&(owner, operator));
            } else {
                self.operators.remove(&(owner, operator));
            }
            ApprovedAll {
                owner,
                operator,
                allowed,
            }
            .emit();
        }

        /// Passes on a token that the caller owns or may pass on.
        pub fn transfer(&mut self, id: u64, to: Address) -> Result<()> {
            let from = self.take(id)?;
            self.give(to, id)?;
            Transferred { from, to, id }.emit();
            Ok(())
        }

        /// Does away with a token that the caller owns or may pass on. Its id is not used again.
        pub fn burn(&mut self, id: u64) -> Result<()> {
            let from = self.take(id)?;
            self.uris.remove(&id);
            Burned { from, id }.emit();
            Ok(())
        }

        /// Who owns a token.
        #[view]
        pub fn owner_of(&self, id: u64) -> Option<Address> {
            self.owners.get(&id)
        }

        /// Where a token is described.
        #[view]
        pub fn uri(&self, id: u64) -> Option<String> {
            self.uris.get(&id)
        }

        /// Who besides its owner and the owner's operators may pass on a token.
        #[view]
        pub fn approved(&self, id: u64) -> Option<Address> {
            self.approved.get(&id)
        }

        /// Whether `operator` may pass on all tokens of the owner's.
        #[view]
        pub fn is_operator(&self, owner: Address, operator: Address) -> bool {
            self.operators.contains(&(owner, operator))
        }

        /// How many tokens somebody owns.
        #[view]
        pub fn balance(&self, owner: Address) -> u64 {
            self.counts.get_or_default(&owner)
        }

        /// How many tokens were ever minted: their ids are below this.
        #[view]
        pub fn minted(&self) -> u64 {
            self.minted.get_or_default()
        }

        /// The tokens that somebody owns, in the order of their ids: at most `limit`, and 100, from behind `after` on.
        /// The next page begins after the last of this one.
        #[view]
        pub fn tokens_of(&self, owner: Address, after: Option<u64>, limit: u32) -> Vec<u64> {
            let low = match after {
                Some(after) => Bound::Excluded((owner, after)),
                None => Bound::Included((owner, 0)),
            };
            self.owned
                .range((low, Bound::Included((owner, u64::MAX))))
                .take(limit.min(MAX_LISTED) as usize)
                .map(|((_, id), ())| id)
                .collect()
        }

        /// Takes a token from its owner, whom it gives, for a caller who may.
        fn take(&mut self, id: u64) -> Result<Address> {
            let owner = self.owners.take(&id).ok_or(Error::NoSuchToken)?;
            let spender = self.approved.take(&id);
            let caller = caller();
            if caller != owner && spender != Some(caller) && !self.is_operator(owner, caller) {
                return Err(Error::NotAllowed);
            }
            self.owned.remove(&(owner, id));
            match self.balance(owner).checked_sub(1) {
                None | Some(0) => self.counts.remove(&owner),
                Some(count) => self.counts.set(&owner, &count),
            }
            Ok(owner)
        }

        /// Gives a token that is nobody's.
        fn give(&mut self, to: Address, id: u64) -> Result<()> {
            self.owners.set(&id, &to);
            self.owned.set(&(to, id), &());
            let count = self.balance(to).checked_add(1).ok_or(Error::Overflow)?;
            self.counts.set(&to, &count);
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

        /// ALICE has minted this many for each, in turn.
        fn minted(owners: &[Address]) -> Host {
            let mut host = Host::default();
            host.call::<()>(ALICE, exports::init, ()).unwrap();
            for (id, to) in (0u64..).zip(owners) {
                let uri = format!("ipfs://{id}");
                assert_eq!(host.call(ALICE, exports::mint, (to, uri.clone())), Ok(id));
                assert_eq!(host.emitted::<Minted>(), [Minted { to: *to, id, uri }]);
            }
            host
        }

        fn tokens_of(host: &mut Host, owner: Address) -> Vec<u64> {
            let listed = host
                .call(owner, exports::tokens_of, (owner, None::<u64>, u32::MAX))
                .unwrap();
            let count: u64 = host.call(owner, exports::balance, owner).unwrap();
            assert_eq!(Vec::len(&listed) as u64, count);
            listed
        }

        fn failed<T>(error: Error) -> core::result::Result<T, Revert> {
            Err(Revert::with(&error))
        }

        #[test]
        fn only_the_minter_mints() {
            let mut host = minted(&[BOB]);
            assert_eq!(
                host.call::<u64>(BOB, exports::mint, (BOB, "")),
                failed(Error::NotMinter)
            );
            assert_eq!(host.call(BOB, exports::minted, ()), Ok(1u64));
            assert_eq!(host.call(BOB, exports::owner_of, 0u64), Ok(Some(BOB)));
            assert_eq!(
                host.call(BOB, exports::uri, 0u64),
                Ok(Some("ipfs://0".to_string()))
            );
        }

        #[test]
        fn tokens_are_listed_by_owner_in_pages() {
            let mut host = minted(&[BOB, ALICE, BOB, CAROL, BOB, BOB]);
            assert_eq!(tokens_of(&mut host, ALICE), [1]);
            assert_eq!(tokens_of(&mut host, BOB), [0, 2, 4, 5]);
            let mut page = |after: Option<u64>, limit: u32| -> Vec<u64> {
                host.call(CAROL, exports::tokens_of, (BOB, after, limit))
                    .unwrap()
            };
            assert_eq!(page(None, 2), [0, 2]);
            assert_eq!(page(Some(2), 2), [4, 5]);
            assert_eq!(page(Some(3), 1), [4]);
            assert_eq!(page(Some(5), 2), []);
            assert_eq!(page(Some(u64::MAX), 2), []);
            assert_eq!(page(None, 0), []);
            let mut host = minted(&[BOB; 101]);
            let all: Vec<u64> = host
                .call(BOB, exports::tokens_of, (BOB, None::<u64>, 101u32))
                .unwrap();
            assert_eq!(all, Vec::from_iter(0..100));
        }

        #[test]
        fn an_owner_passes_a_token_on() {
            let mut host = minted(&[ALICE, BOB]);
            host.call::<()>(ALICE, exports::transfer, (0u64, BOB))
                .unwrap();
            let moved = Transferred {
                from: ALICE,
                to: BOB,
                id: 0,
            };
            assert_eq!(host.emitted::<Transferred>(), [moved]);
            assert_eq!(tokens_of(&mut host, ALICE), []);
            assert_eq!(tokens_of(&mut host, BOB), [0, 1]);
            host.call::<()>(BOB, exports::transfer, (0u64, BOB))
                .unwrap();
            assert_eq!(tokens_of(&mut host, BOB), [0, 1]);
        }

        #[test]
        fn others_pass_on_what_they_are_allowed_once() {
            let mut host = minted(&[ALICE, ALICE]);
            assert_eq!(
                host.call::<()>(BOB, exports::transfer, (0u64, BOB)),
                failed(Error::NotAllowed)
            );
            assert_eq!(
                host.call::<()>(BOB, exports::approve, (0u64, Some(BOB))),
                failed(Error::NotOwner)
            );
            host.call::<()>(ALICE, exports::approve, (0u64, Some(BOB)))
                .unwrap();
            assert_eq!(host.emitted::<Approved>().len(), 1);
            assert_eq!(
                host.call::<()>(BOB, exports::transfer, (1u64, BOB)),
                failed(Error::NotAllowed)
            );
            host.call::<()>(BOB, exports::transfer, (0u64, CAROL))
                .unwrap();
            // The approval was ALICE's.
            assert_eq!(host.call(BOB, exports::approved, 0u64), Ok(None::<Address>));
            assert_eq!(
                host.call::<()>(BOB, exports::transfer, (0u64, BOB)),
                failed(Error::NotAllowed)
            );
        }

        #[test]
        fn an_approval_can_be_taken_back() {
            let mut host = minted(&[ALICE]);
            for spender in [Some(BOB), None] {
                host.call::<()>(ALICE, exports::approve, (0u64, spender))
                    .unwrap();
                assert_eq!(host.call(BOB, exports::approved, 0u64), Ok(spender));
            }
            assert_eq!(
                host.call::<()>(BOB, exports::burn, 0u64),
                failed(Error::NotAllowed)
            );
        }

        #[test]
        fn an_operator_passes_on_all_until_it_may_no_more() {
            let mut host = minted(&[ALICE, ALICE, ALICE, CAROL]);
            host.call::<()>(ALICE, exports::approve_all, (BOB, true))
                .unwrap();
            host.call::<()>(BOB, exports::transfer, (0u64, BOB))
                .unwrap();
            host.call::<()>(BOB, exports::burn, 1u64).unwrap();
            assert_eq!(host.emitted::<Burned>(), [Burned { from: ALICE, id: 1 }]);
            assert_eq!(
                host.call::<()>(BOB, exports::transfer, (3u64, BOB)),
                failed(Error::NotAllowed)
            );
            host.call::<()>(ALICE, exports::approve_all, (BOB, false))
                .unwrap();
            assert_eq!(
                host.call(BOB, exports::is_operator, (ALICE, BOB)),
                Ok(false)
            );
            assert_eq!(
                host.call::<()>(BOB, exports::transfer, (2u64, BOB)),
                failed(Error::NotAllowed)
            );
            assert_eq!(tokens_of(&mut host, ALICE), [2]);
            assert_eq!(tokens_of(&mut host, BOB), [0]);
        }

        #[test]
        fn nothing_is_left_of_a_burned_token() {
            let mut host = minted(&[]);
            let before = host.storage.len();
            host.call::<u64>(ALICE, exports::mint, (BOB, "x")).unwrap();
            host.call::<()>(BOB, exports::approve, (0u64, Some(CAROL)))
                .unwrap();
            host.call::<()>(CAROL, exports::burn, 0u64).unwrap();
            // The number of tokens minted.
            assert_eq!(host.storage.len(), before + 1);
            for refused in [
                host.call::<()>(BOB, exports::burn, 0u64),
                host.call::<()>(BOB, exports::transfer, (0u64, BOB)),
                host.call::<()>(BOB, exports::approve, (0u64, None::<Address>)),
            ] {
                assert_eq!(refused, failed(Error::NoSuchToken));
            }
            assert_eq!(host.call(ALICE, exports::mint, (BOB, "y")), Ok(1u64));
        }
    }
}
