//! Names for addresses, rented by the year.
//!
//! ```text
//!   register(name, years) ─ value ≥ price · years ─▶ names[name] = owner, target, expires        ──▶ Registered
//!   renew(name, years)    ─ value ≥ price · years ─▶ expires + years                             ──▶ Renewed
//!   transfer(name, to)    ─ owner ─────────────────▶ owner, target                               ──▶ Transferred
//!   set_target(name, to)  ─ owner ─────────────────▶ target                                      ──▶ Targeted
//!   release(name)         ─ owner, or anybody once it is free ─▶ nothing                         ──▶ Released
//!   resolve(name) ◀── target, until it expires
//!   names(prefix, after, limit) ◀── the keys from `prefix` on, in the order of bytes, as long as they begin with it
//!
//!   registered ───────────────── expires ────────── expires + 30 days ─────────▶ block time
//!     │ resolves, owner may all     │ does not resolve,     │ free: whoever registers
//!     │                             │ may be renewed        │ it has it
//! ```
//!
//! What is paid beyond the price is paid back. The price is that of the moment; the treasurer may change it and collects what came in.

#![no_std]
#![forbid(unsafe_code)]

/// Names for addresses, rented by the year.
#[slackline::contract]
pub mod registry {
    use core::ops::Bound;
    use slackline::prelude::*;
    use slackline::{balance, block_time, caller, self_address, value};

    /// In milliseconds, of 365 days.
    pub const YEAR: u64 = 365 * 24 * 60 * 60 * 1000;
    /// How long after its expiry a name is kept for its owner, in milliseconds.
    pub const GRACE: u64 = 30 * 24 * 60 * 60 * 1000;
    /// The most that can be paid for in advance.
    pub const MAX_YEARS: u32 = 10;
    /// The most bytes of a name.
    pub const MAX_NAME: usize = 32;
    /// The most that one call lists.
    pub const MAX_LISTED: u32 = 50;

    /// What is stored.
    #[storage]
    pub struct Registry {
        treasurer: Value<Address>,
        /// Of a name for a year.
        price: Value<u128>,
        names: OrderedMap<String, Record>,
    }

    /// What is known of a name.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Record {
        /// Who has it.
        pub owner: Address,
        /// What it stands for.
        pub target: Address,
        /// When it expires, in milliseconds since 1970.
        pub expires: u64,
    }

    /// A name, and what is known of it.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Entry {
        /// The name.
        pub name: String,
        /// What is known.
        pub record: Record,
    }

    /// Somebody has a name that was free.
    #[derive(Event, Debug, PartialEq)]
    pub struct Registered {
        /// The name.
        #[topic]
        pub name: String,
        /// Who has it.
        #[topic]
        pub owner: Address,
        /// When it expires.
        pub expires: u64,
    }

    /// A name is paid for longer.
    #[derive(Event, Debug, PartialEq)]
    pub struct Renewed {
        /// The name.
        #[topic]
        pub name: String,
        /// When it expires.
        pub expires: u64,
    }

    /// A name changed hands.
    #[derive(Event, Debug, PartialEq)]
    pub struct Transferred {
        /// The name.
        #[topic]
        pub name: String,
        /// Who had it.
        #[topic]
        pub from: Address,
        /// Who has it now.
        #[topic]
        pub to: Address,
    }

    /// A name stands for something else.
    #[derive(Event, Debug, PartialEq)]
    pub struct Targeted {
        /// The name.
        #[topic]
        pub name: String,
        /// For what.
        #[topic]
        pub target: Address,
    }

    /// A name is free, and nothing is stored of it any more.
    #[derive(Event, Debug, PartialEq)]
    pub struct Released {
        /// The name.
        #[topic]
        pub name: String,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// A name has 1 to 32 of a to z, 0 to 9 and -, which neither begins nor ends it.
        BadName,
        /// A name is rented for 1 to 10 years, and never for more than 10 from now on.
        BadYears,
        /// Somebody has that name.
        Taken,
        /// Nobody has that name.
        NotRegistered,
        /// The caller does not have that name.
        NotOwner,
        /// The name has expired.
        Expired,
        /// It costs more.
        TooLittlePaid {
            /// So much.
            price: u128,
        },
        /// Only the treasurer may do that.
        NotTreasurer,
        /// Nobody has so much.
        Overflow,
        /// A payment failed.
        #[from]
        Payment(CallError),
    }

    type Result<T> = core::result::Result<T, Error>;

    impl Registry {
        /// A name costs so much a year. Who deploys is the treasurer.
        #[init]
        pub fn init(&mut self, price: u128) {
            self.treasurer.set(&caller());
            self.price.set(&price);
        }

        /// Gives the caller a name that nobody has. It stands for `target`, or for the caller. Gives when it expires.
        #[payable]
        pub fn register(
            &mut self,
            name: String,
            years: u32,
            target: Option<Address>,
        ) -> Result<u64> {
            if !is_name(&name) {
                return Err(Error::BadName);
            }
            if self
                .names
                .get(&name)
                .is_some_and(|record| !is_free(&record))
            {
                return Err(Error::Taken);
            }
            let expires = later(block_time(), years)?;
            self.pay(years)?;
            let owner = caller();
            let record = Record {
                owner,
                target: target.unwrap_or(owner),
                expires,
            };
            self.names.set(&name, &record);
            Registered {
                name,
                owner,
                expires,
            }
            .emit();
            Ok(expires)
        }

        /// Pays for more years of a name, whosever it is, and gives when it expires.
        #[payable]
        pub fn renew(&mut self, name: String, years: u32) -> Result<u64> {
            let mut record = self.held(&name)?;
            record.expires = later(record.expires, years)?;
            self.pay(years)?;
            self.names.set(&name, &record);
            let expires = record.expires;
            Renewed { name, expires }.emit();
            Ok(expires)
        }

        /// Passes on a name of the caller's. It stands for whom it is passed on to.
        pub fn transfer(&mut self, name: String, to: Address) -> Result<()> {
            let mut record = self.own(&name)?;
            let from = record.owner;
            (record.owner, record.target) = (to, to);
            self.names.set(&name, &record);
            Transferred { name, from, to }.emit();
            Ok(())
        }

        /// Lets a name of the caller's stand for something else.
        pub fn set_target(&mut self, name: String, target: Address) -> Result<()> {
            let mut record = self.own(&name)?;
            record.target = target;
            self.names.set(&name, &record);
            Targeted { name, target }.emit();
            Ok(())
        }

        /// Gives up a name of the caller's. One that has been free for everybody since it expired anybody may remove: whoever
        /// signs the transaction gets the deposit that was paid for storing it.
        pub fn release(&mut self, name: String) -> Result<()> {
            let record = self.names.get(&name).ok_or(Error::NotRegistered)?;
            if record.owner != caller() && !is_free(&record) {
                return Err(Error::NotOwner);
            }
            self.names.remove(&name);
            Released { name }.emit();
            Ok(())
        }

        /// Changes what a name costs a year, from now on. For the treasurer.
        pub fn set_price(&mut self, price: u128) -> Result<()> {
            self.treasurer()?;
            self.price.set(&price);
            Ok(())
        }

        /// Pays the treasurer what came in, and says how much that was.
        pub fn collect(&mut self) -> Result<u128> {
            let treasurer = self.treasurer()?;
            let all = balance(self_address());
            slackline::transfer(treasurer, all)?;
            Ok(all)
        }

        /// What a name stands for, unless it has expired.
        #[view]
        pub fn resolve(&self, name: String) -> Option<Address> {
            let record = self.names.get(&name)?;
            (!has_expired(&record)).then_some(record.target)
        }

        /// What is known of a name, also when it has expired.
        #[view]
        pub fn record(&self, name: String) -> Option<Record> {
            self.names.get(&name)
        }

        /// Names that begin with `prefix`, in the order of their bytes, also those that have expired: at most `limit`, and 50, from
        /// behind `after` on. The next page begins after the last name of this one.
        #[view]
        pub fn names(
            &self,
            prefix: String,
            after: Option<String>,
            limit: u32,
        ) -> Result<Vec<Entry>> {
            let too_long = |text: &String| text.len() > MAX_NAME;
            if too_long(&prefix) || after.as_ref().is_some_and(too_long) {
                return Err(Error::BadName);
            }
            let low = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                _ => Bound::Included(prefix.clone()),
            };
            Ok(self
                .names
                .range((low, Bound::Unbounded))
                .take(limit.min(MAX_LISTED) as usize)
                .take_while(|(name, _)| name.starts_with(&prefix))
                .map(|(name, record)| Entry { name, record })
                .collect())
        }

        /// What a name costs for so many years.
        #[view]
        pub fn price(&self, years: u32) -> Result<u128> {
            self.price
                .get_or_default()
                .checked_mul(u128::from(years))
                .ok_or(Error::Overflow)
        }

        /// The record of a name that is not free.
        fn held(&self, name: &String) -> Result<Record> {
            self.names
                .get(name)
                .filter(|record| !is_free(record))
                .ok_or(Error::NotRegistered)
        }

        /// The record of a name of the caller's that has not expired.
        fn own(&self, name: &String) -> Result<Record> {
            let record = self.held(name)?;
            if record.owner != caller() {
                return Err(Error::NotOwner);
            }
            if has_expired(&record) {
                return Err(Error::Expired);
            }
            Ok(record)
        }

        /// Takes the price out of the attached value and gives back the rest.
        fn pay(&mut self, years: u32) -> Result<()> {
            let price = self.price(years)?;
            let rest = value()
                .checked_sub(price)
                .ok_or(Error::TooLittlePaid { price })?;
            if rest > 0 {
                slackline::transfer(caller(), rest)?;
            }
            Ok(())
        }

        fn treasurer(&self) -> Result<Address> {
            let caller = caller();
            if self.treasurer.get() == Some(caller) {
                Ok(caller)
            } else {
                Err(Error::NotTreasurer)
            }
        }
    }

    fn has_expired(record: &Record) -> bool {
        block_time() >= record.expires
    }

    /// Whether anybody may have the name.
    fn is_free(record: &Record) -> bool {
        block_time() >= record.expires.saturating_add(GRACE)
    }

    /// So many years after `from`, which is not too far away.
    fn later(from: u64, years: u32) -> Result<u64> {
        if years == 0 {
            return Err(Error::BadYears);
        }
        let after = |from: u64, years: u32| YEAR.checked_mul(u64::from(years))?.checked_add(from);
        let latest = after(block_time(), MAX_YEARS).ok_or(Error::BadYears)?;
        after(from, years)
            .filter(|expires| *expires <= latest)
            .ok_or(Error::BadYears)
    }

    fn is_name(name: &str) -> bool {
        (1..=MAX_NAME).contains(&name.len())
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use slackline::mock::{Host, Revert};

        const ALICE: Address = Address([1; 32]);
        const BOB: Address = Address([2; 32]);
        const CAROL: Address = Address([3; 32]);
        const START: u64 = 1_700_000_000_000;

        type Outcome<T> = core::result::Result<T, Revert>;

        /// CAROL's, 100 a year.
        fn registry() -> Host {
            let mut host = Host::default();
            host.block_time = START;
            host.call::<()>(CAROL, exports::init, 100u128).unwrap();
            host.balances.extend([(ALICE, 10_000), (BOB, 10_000)]);
            host
        }

        fn register(host: &mut Host, who: Address, name: &str, years: u32) -> Outcome<u64> {
            let price = 100 * u128::from(years);
            let args = (name, years, None::<Address>);
            host.attach(price).call(who, exports::register, args)
        }

        fn resolve(host: &mut Host, name: &str) -> Option<Address> {
            host.call(CAROL, exports::resolve, name).unwrap()
        }

        fn names(host: &mut Host, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
            let listed: Vec<Entry> = host
                .call(CAROL, exports::names, (prefix, after, limit))
                .unwrap();
            listed.into_iter().map(|entry| entry.name).collect()
        }

        fn failed<T>(error: Error) -> Outcome<T> {
            Err(Revert::with(&error))
        }

        #[test]
        fn a_name_resolves_until_it_expires() {
            let mut host = registry();
            let expires = START + 2 * YEAR;
            assert_eq!(register(&mut host, ALICE, "alice", 2), Ok(expires));
            let registered = Registered {
                name: "alice".into(),
                owner: ALICE,
                expires,
            };
            assert_eq!(host.emitted::<Registered>(), [registered]);
            assert_eq!(resolve(&mut host, "alice"), Some(ALICE));
            assert_eq!(resolve(&mut host, "alic"), None);
            host.block_time = expires - 1;
            assert_eq!(resolve(&mut host, "alice"), Some(ALICE));
            host.block_time = expires;
            assert_eq!(resolve(&mut host, "alice"), None);
        }

        #[test]
        fn after_its_expiry_a_name_is_kept_for_a_while_and_then_free() {
            let mut host = registry();
            let expires = register(&mut host, ALICE, "alice", 1).unwrap();
            for (time, taken) in [
                (START, true),
                (expires, true),
                (expires + GRACE - 1, true),
                (expires + GRACE, false),
            ] {
                host.block_time = time;
                let outcome = register(&mut host.clone(), BOB, "alice", 1);
                match taken {
                    true => assert_eq!(outcome, failed(Error::Taken)),
                    false => assert_eq!(outcome, Ok(time + YEAR)),
                }
            }
            // It is not to be renewed then either.
            assert_eq!(
                host.attach(100)
                    .call::<u64>(ALICE, exports::renew, ("alice", 1u32)),
                failed(Error::NotRegistered)
            );
        }

        #[test]
        fn renewal_counts_from_the_expiry() {
            let mut host = registry();
            let expires = register(&mut host, ALICE, "alice", 1).unwrap();
            host.block_time = expires + GRACE - 1;
            let later = expires + YEAR;
            // By anybody.
            assert_eq!(
                host.attach(100).call(BOB, exports::renew, ("alice", 1u32)),
                Ok(later)
            );
            let renewed = Renewed {
                name: "alice".into(),
                expires: later,
            };
            assert_eq!(host.emitted::<Renewed>(), [renewed]);
            assert_eq!(resolve(&mut host, "alice"), Some(ALICE));
        }

        #[test]
        fn years_are_few() {
            let mut host = registry();
            for years in [0u32, 11, u32::MAX] {
                assert_eq!(
                    host.attach(1_000).call::<u64>(
                        ALICE,
                        exports::register,
                        ("a", years, Some(BOB))
                    ),
                    failed(Error::BadYears)
                );
            }
            register(&mut host, ALICE, "a", 10).unwrap();
            let mut renew = |time| {
                host.block_time = time;
                host.attach(100)
                    .call::<u64>(ALICE, exports::renew, ("a", 1u32))
            };
            assert_eq!(renew(START + YEAR - 1), failed(Error::BadYears));
            assert_eq!(renew(START + YEAR), Ok(START + 11 * YEAR));
            host.block_time = u64::MAX;
            assert_eq!(register(&mut host, ALICE, "b", 1), failed(Error::BadYears));
        }

        #[test]
        fn the_price_is_taken_and_the_rest_given_back() {
            let mut host = registry();
            let mut attach = |value| {
                let args = ("a", 3u32, None::<Address>);
                host.attach(value)
                    .call::<u64>(ALICE, exports::register, args)
            };
            assert_eq!(attach(299), failed(Error::TooLittlePaid { price: 300 }));
            attach(1000).unwrap();
            assert_eq!(
                (host.balances[&ALICE], host.balances[&host.address]),
                (9_700, 300)
            );
            assert_eq!(
                host.call::<u128>(ALICE, exports::collect, ()),
                failed(Error::NotTreasurer)
            );
            assert_eq!(host.call(CAROL, exports::collect, ()), Ok(300u128));
            assert_eq!(host.balances[&CAROL], 300);
        }

        #[test]
        fn the_price_can_change_and_does_not_wrap() {
            let mut host = registry();
            assert_eq!(
                host.call::<()>(ALICE, exports::set_price, 1u128),
                failed(Error::NotTreasurer)
            );
            host.call::<()>(CAROL, exports::set_price, 1u128).unwrap();
            assert_eq!(host.call(ALICE, exports::price, 7u32), Ok(7u128));
            host.call::<()>(CAROL, exports::set_price, u128::MAX)
                .unwrap();
            assert_eq!(
                host.call::<u128>(ALICE, exports::price, 2u32),
                failed(Error::Overflow)
            );
            assert_eq!(register(&mut host, ALICE, "a", 2), failed(Error::Overflow));
        }

        #[test]
        fn only_the_owner_changes_a_name_and_only_in_time() {
            let mut host = registry();
            let expires = register(&mut host, ALICE, "a", 1).unwrap();
            host.call::<()>(ALICE, exports::set_target, ("a", CAROL))
                .unwrap();
            assert_eq!(host.emitted::<Targeted>().len(), 1);
            assert_eq!(resolve(&mut host, "a"), Some(CAROL));
            host.call::<()>(ALICE, exports::transfer, ("a", BOB))
                .unwrap();
            let moved = Transferred {
                name: "a".into(),
                from: ALICE,
                to: BOB,
            };
            assert_eq!(host.emitted::<Transferred>(), [moved]);
            assert_eq!(resolve(&mut host, "a"), Some(BOB));
            for refused in [
                host.call::<()>(ALICE, exports::transfer, ("a", ALICE)),
                host.call::<()>(ALICE, exports::set_target, ("a", ALICE)),
                host.call::<()>(ALICE, exports::release, "a"),
            ] {
                assert_eq!(refused, failed(Error::NotOwner));
            }
            host.block_time = expires;
            assert_eq!(
                host.call::<()>(BOB, exports::transfer, ("a", ALICE)),
                failed(Error::Expired)
            );
            assert_eq!(
                host.call::<()>(BOB, exports::set_target, ("b", ALICE)),
                failed(Error::NotRegistered)
            );
        }

        #[test]
        fn a_name_is_released_by_its_owner_or_when_it_is_free() {
            let mut host = registry();
            let empty = host.storage.clone();
            register(&mut host, ALICE, "a", 1).unwrap();
            host.call::<()>(ALICE, exports::release, "a").unwrap();
            let name = "a".to_string();
            assert_eq!(host.emitted::<Released>(), [Released { name }]);
            assert_eq!(host.storage, empty);
            let expires = register(&mut host, BOB, "a", 1).unwrap();
            host.block_time = expires + GRACE;
            host.call::<()>(ALICE, exports::release, "a").unwrap();
            assert_eq!(
                host.call::<()>(ALICE, exports::release, "a"),
                failed(Error::NotRegistered)
            );
        }

        #[test]
        fn names_look_like_names() {
            let long = "a".repeat(33);
            let mut host = registry();
            for bad in ["", "-", "-a", "a-", "A", "ä", "a.b", "a b", "a\0", &long] {
                assert_eq!(register(&mut host, ALICE, bad, 1), failed(Error::BadName));
            }
            for good in ["a", "0", "a-b", "x--y", &long[1..]] {
                register(&mut host, ALICE, good, 1).unwrap();
            }
            for (prefix, after) in [(&*long, None), ("", Some(&*long))] {
                assert_eq!(
                    host.call::<Vec<Entry>>(ALICE, exports::names, (prefix, after, 1u32)),
                    failed(Error::BadName)
                );
            }
        }

        #[test]
        fn names_are_listed_by_prefix_in_pages() {
            let mut host = registry();
            for name in ["bob", "al", "alice", "ali", "alan", "a", "b", "alz"] {
                register(&mut host, ALICE, name, 1).unwrap();
            }
            let all = ["a", "al", "alan", "ali", "alice", "alz", "b", "bob"];
            assert_eq!(names(&mut host, "", None, 100), all);
            assert_eq!(names(&mut host, "al", None, 100), all[1..6]);
            assert_eq!(names(&mut host, "al", None, 2), all[1..3]);
            assert_eq!(names(&mut host, "al", Some("alan"), 2), all[3..5]);
            assert_eq!(names(&mut host, "al", Some("alice"), 2), all[5..6]);
            assert_eq!(names(&mut host, "al", Some("alz"), 2), [""; 0]);
            // Not a name, or in front of all: it only says where.
            assert_eq!(names(&mut host, "al", Some("alb"), 1), all[3..4]);
            assert_eq!(names(&mut host, "al", Some(""), 1), all[1..2]);
            assert_eq!(names(&mut host, "al", Some("b"), 9), [""; 0]);
            assert_eq!(names(&mut host, "c", None, 9), [""; 0]);
            assert_eq!(names(&mut host, "", None, 0), [""; 0]);
        }

        #[test]
        fn a_page_is_not_longer_than_fifty() {
            let mut host = registry();
            for i in 10..70 {
                register(&mut host, ALICE, &format!("n{i}"), 1).unwrap();
            }
            let listed = names(&mut host, "n", None, u32::MAX);
            assert_eq!((listed.len(), listed[49].as_str()), (50, "n59"));
        }
    }
}
