//! A counter that anybody may increase.
//!
//! ```text
//!   init(start) ──▶ count
//!   increment(by) ─▶ count + by, or Error::Overflow ──▶ event Incremented
//!   get ◀────────── count
//! ```

#![no_std]
#![forbid(unsafe_code)]

/// A counter that anybody may increase.
#[slackline::contract]
pub mod counter {
    use slackline::prelude::*;

    /// What is stored.
    #[storage]
    pub struct Counter {
        count: Value<u64>,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// The counter is at its end.
        Overflow,
    }

    /// The counter has moved.
    #[derive(Event, Debug, PartialEq)]
    pub struct Incremented {
        /// Who has moved it.
        #[topic]
        pub by: Address,
        /// Where it is now.
        pub count: u64,
    }

    impl Counter {
        /// The counter begins at `start`.
        #[init]
        pub fn init(&mut self, start: u64) {
            self.count.set(&start);
        }

        /// Adds `by` and gives the sum.
        pub fn increment(&mut self, by: u64) -> Result<u64, Error> {
            let count = self.get().checked_add(by).ok_or(Error::Overflow)?;
            self.count.set(&count);
            Incremented {
                by: slackline::caller(),
                count,
            }
            .emit();
            Ok(count)
        }

        /// Where the counter is.
        #[view]
        pub fn get(&self) -> u64 {
            self.count.get_or_default()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use slackline::mock::{Host, Revert};

        const ALICE: Address = Address([1; 32]);

        #[test]
        fn it_counts_and_tells() {
            let mut host = Host::default();
            host.call::<()>(ALICE, exports::init, 40u64).unwrap();
            assert_eq!(host.call(ALICE, exports::increment, 2u64), Ok(42u64));
            let event = Incremented {
                by: ALICE,
                count: 42,
            };
            assert_eq!(host.emitted::<Incremented>(), [event]);
            assert_eq!(host.call(ALICE, exports::get, ()), Ok(42u64));
        }

        #[test]
        fn it_does_not_wrap() {
            let mut host = Host::default();
            host.call::<()>(ALICE, exports::init, u64::MAX).unwrap();
            assert_eq!(
                host.call::<u64>(ALICE, exports::increment, 1u64),
                Err(Revert::with(&Error::Overflow))
            );
            assert_eq!(host.call(ALICE, exports::get, ()), Ok(u64::MAX));
        }

        #[test]
        fn it_takes_no_money() {
            assert_eq!(
                Host::default()
                    .attach(1)
                    .call::<u64>(ALICE, exports::increment, 1u64),
                Err("method is not payable".into())
            );
        }
    }
}
