//! A contract that misbehaves in every way that a node must survive, and that works as hard as one asks it to.
//!
//! ```text
//!   never ends      forever, recurse, store_then_spin
//!   traps           trap
//!   reverts         fail, panic
//!   works           burn (computes), touch_many (stores), grow (memory), set and get
//! ```

#![no_std]
#![forbid(unsafe_code)]

/// A contract that misbehaves.
#[slackline::contract]
mod spin {
    use core::hint::black_box;
    use slackline::prelude::*;
    use slackline::{revert, storage};

    /// Nothing with a place of its own: keys are the methods' arguments.
    #[storage]
    pub struct Spin;

    impl Spin {
        /// Loops for ever.
        pub fn forever(&mut self) {
            spin()
        }

        /// Recurses for ever, as far as anybody can tell: 2^64 deep.
        pub fn recurse(&mut self) -> u64 {
            descend(black_box(u64::MAX))
        }

        /// Writes to storage, then loops for ever: the write must leave no trace.
        pub fn store_then_spin(&mut self) {
            storage::set("spinning", &true);
            spin()
        }

        /// Whether `store_then_spin` has left a trace.
        #[view]
        pub fn is_spinning(&self) -> bool {
            storage::get("spinning").unwrap_or(false)
        }

        /// Traps.
        pub fn trap(&mut self) {
            #[cfg(target_arch = "wasm32")]
            core::arch::wasm32::unreachable();
        }

        /// Reverts with `message`.
        pub fn fail(&mut self, message: String) {
            revert(message)
        }

        /// Panics, with a message that has to be formatted.
        pub fn panic(&mut self) {
            panic!("panic number {}", black_box(42));
        }

        /// Computes for `iterations` rounds of xorshift, each of which needs the one before.
        pub fn burn(&mut self, iterations: u64) -> u64 {
            let mut x = 0x9e37_79b9_7f4a_7c15_u64;
            for _ in 0..iterations {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
            }
            x
        }

        /// Stores under the keys `0..n`.
        pub fn touch_many(&mut self, n: u64) {
            for key in 0..n {
                storage::set(&key, &key);
            }
        }

        /// Grows the memory by `pages`; the size before, or -1 when it cannot grow so far.
        pub fn grow(&mut self, pages: u32) -> i32 {
            #[cfg(target_arch = "wasm32")]
            return core::arch::wasm32::memory_grow::<0>(pages as usize) as i32;
            #[cfg(not(target_arch = "wasm32"))]
            return if pages == 0 { 0 } else { -1 };
        }

        /// Stores `value` under `key`.
        pub fn set(&mut self, key: u64, value: Vec<u8>) {
            storage::set(&key, &value);
        }

        /// What is stored under `key`.
        #[view]
        pub fn get(&self, key: u64) -> Option<Vec<u8>> {
            storage::get(&key)
        }
    }

    /// Uses the result of the call in a way that leaves something to do when it returns, and that cannot be gathered on the
    /// way down: a compiler cannot make a loop of it. Everything fits into wasm locals: none of the contract's own stack in
    /// linear memory is used, so what ends is the host's stack.
    #[inline(never)]
    fn descend(depth: u64) -> u64 {
        if depth == 0 {
            return 1;
        }
        descend(depth - 1).rotate_left(7) ^ depth
    }

    fn spin() -> ! {
        loop {
            core::hint::spin_loop();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use slackline::mock::Host;

        const ANYBODY: Address = Address([9; 32]);

        #[test]
        fn what_is_set_is_got() {
            let mut host = Host::default();
            host.call::<()>(ANYBODY, exports::set, (7u64, vec![1u8, 2, 3]))
                .unwrap();
            assert_eq!(
                host.call(ANYBODY, exports::get, 7u64),
                Ok(Some(vec![1u8, 2, 3]))
            );
            assert_eq!(host.call(ANYBODY, exports::get, 8u64), Ok(None::<Vec<u8>>));
            host.call::<()>(ANYBODY, exports::touch_many, 20u64)
                .unwrap();
            assert_eq!(host.storage.len(), 20);
        }

        #[test]
        fn reasons_reach_the_caller() {
            let mut host = Host::default();
            assert_eq!(
                host.call::<()>(ANYBODY, exports::fail, "no more tea"),
                Err("no more tea".into())
            );
            assert_eq!(
                host.call::<()>(ANYBODY, exports::panic, ()),
                Err("panic number 42".into())
            );
        }

        #[test]
        fn burning_depends_on_every_round() {
            let mut host = Host::default();
            let mut results =
                [0, 1, 2, 1000].map(|n: u64| host.call::<u64>(ANYBODY, exports::burn, n).unwrap());
            results.sort();
            assert!(results.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
