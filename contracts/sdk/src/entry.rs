//! How a method is called: what [`contract!`](crate::contract) expands to.

use crate::{encode, input, revert, sys};
use borsh::{BorshDeserialize, BorshSerialize};

/// Says which functions of this module are the methods of the contract.
///
/// Each becomes an export of the wasm module. Its arguments are decoded from the input, in order, and its result is the
/// return data, both in borsh; a result `Err(error)` reverts with the bytes of `error`, which is anything that is
/// `AsRef<[u8]>`. A method named `init` runs once, when the contract is deployed, and cannot be called afterwards.
///
/// Names are as the node wants them, `[a-z][a-z0-9_]{0,63}`. Others do not compile:
///
/// ```compile_fail,E0080
/// slackline_sdk::contract! { _hidden }
/// fn _hidden() {}
/// # fn main() {}
/// ```
///
/// Nor does an error that has no bytes to revert with:
///
/// ```compile_fail,E0277
/// slackline_sdk::contract! { fallible }
/// fn fallible() -> Result<(), u32> {
///     Err(7)
/// }
/// # fn main() {}
/// ```
///
/// For tests the same entry points are functions of the module `exports`, which
/// [`mock::Host::call`](crate::mock::Host::call) takes.
#[macro_export]
macro_rules! contract {
    ($($method:ident),+ $(,)?) => {
        /// The methods of this contract as the node calls them.
        pub mod exports {$(
            const _: () = $crate::entry::check_name(stringify!($method));

            #[doc = concat!("Decodes the arguments, calls `", stringify!($method), "`, sets the return data.")]
            #[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
            pub extern "C-unwind" fn $method() {
                #[allow(unused_imports, reason = "which of them it takes depends on what the method returns")]
                use $crate::entry::{Finish as _, FinishResult as _, Finished, Method as _};
                Finished(super::$method.call_with_input()).finish();
            }
        )+}
    };
}

/// A method whose arguments can be decoded. `Args` only tells the implementations apart.
pub trait Method<Args> {
    type Output;
    fn call_with_input(self) -> Self::Output;
}

macro_rules! method_of {
    ($($arg:ident)*) => {
        impl<F, R, $($arg: BorshDeserialize),*> Method<($($arg,)*)> for F
        where
            F: FnOnce($($arg),*) -> R,
        {
            type Output = R;

            #[allow(non_snake_case)]
            fn call_with_input(self) -> R {
                let ($($arg,)*) = input::<($($arg,)*)>();
                self($($arg),*)
            }
        }
    };
}

method_of!();
method_of!(A);
method_of!(A B);
method_of!(A B C);
method_of!(A B C D);
method_of!(A B C D E);
method_of!(A B C D E G);
method_of!(A B C D E G H);
method_of!(A B C D E G H I);

/// What a method has returned. `.finish()` on it is [`FinishResult`]'s if that is a `Result`, and else, because it takes
/// one more borrow to get there, [`Finish`]'s.
pub struct Finished<R>(pub R);

pub trait FinishResult {
    type Value;
    type Error;
    // The bounds are here and not on the implementation, so that a `Result` that does not meet them is an error and is
    // not sent back as data.
    fn finish(self)
    where
        Self::Value: BorshSerialize,
        Self::Error: AsRef<[u8]>;
}

impl<T, E> FinishResult for Finished<Result<T, E>> {
    type Value = T;
    type Error = E;

    fn finish(self)
    where
        T: BorshSerialize,
        E: AsRef<[u8]>,
    {
        match self.0 {
            Ok(value) => return_value(&value),
            Err(error) => revert(error),
        }
    }
}

pub trait Finish {
    fn finish(self);
}

impl<T: BorshSerialize> Finish for &Finished<T> {
    fn finish(self) {
        return_value(&self.0);
    }
}

/// A method without a result makes no host call for it, and leaves what it may have set with [`ret`](crate::ret).
fn return_value(value: &impl BorshSerialize) {
    let bytes = encode(value);
    if !bytes.is_empty() {
        sys::return_data(&bytes);
    }
}

/// Stops the compilation at a name that the node would not call, or that is taken in every module.
pub const fn check_name(name: &str) {
    let name = name.as_bytes();
    assert!(
        name.len() <= 64,
        "the name of a method has at most 64 characters"
    );
    assert!(
        name[0].is_ascii_lowercase(),
        "the name of a method begins with a lower-case letter"
    );
    let mut i = 1;
    while i < name.len() {
        let ok = name[i].is_ascii_lowercase() || name[i].is_ascii_digit() || name[i] == b'_';
        assert!(
            ok,
            "the name of a method consists of lower-case letters, digits and `_`"
        );
        i += 1;
    }
    // The export of the memory, and functions that compiled code calls by these names.
    assert!(
        !matches!(
            name,
            b"memory" | b"memcpy" | b"memmove" | b"memset" | b"memcmp" | b"bcmp" | b"strlen"
        ),
        "this name is reserved"
    );
}

#[cfg(test)]
mod tests {
    use crate::mock::Host;
    use crate::{Address, caller, log, ret, revert, storage};

    crate::contract! { nothing, sum, who, maybe, fail, own_data, store_and_fail, boom, bad_value }

    fn nothing() {}

    #[allow(clippy::too_many_arguments)]
    fn sum(a: u8, b: u16, c: u32, d: u64, e: u8, f: u8, g: u8, h: u8) -> u64 {
        [u64::from(b), u64::from(c), d].iter().sum::<u64>()
            + [a, e, f, g, h].map(u64::from).iter().sum::<u64>()
    }

    fn who() -> Address {
        caller()
    }

    fn maybe(value: Option<u8>) -> Result<Option<u8>, String> {
        Ok(value)
    }

    fn fail(reason: String) -> Result<u8, String> {
        Err(reason)
    }

    fn own_data() {
        ret(&1u8);
        ret(&2u8);
    }

    fn store_and_fail() {
        storage::set("key", &1u8);
        log("record");
        revert("no");
    }

    fn boom(divisor: u8) -> u8 {
        8 / divisor
    }

    fn bad_value() -> Option<u64> {
        storage::set("value", &[1u8; 9]);
        storage::get("value")
    }

    const ALICE: Address = Address([1; 32]);

    #[test]
    fn arguments_and_results_are_borsh() {
        let mut host = Host::default();
        assert_eq!(host.call(ALICE, exports::nothing, ()), Ok(()));
        assert_eq!(
            host.call(ALICE, exports::sum, (1u8, 2u16, 3u32, 4u64, [5u8, 6, 7, 8])),
            Ok(36u64)
        );
        assert_eq!(host.call(ALICE, exports::who, ()), Ok(ALICE));
        assert_eq!(host.call(ALICE, exports::maybe, Some(3u8)), Ok(Some(3u8)));
    }

    #[test]
    fn input_must_be_the_arguments_and_nothing_else() {
        let mut host = Host::default();
        assert_eq!(
            host.call::<()>(ALICE, exports::nothing, 0u8),
            Err("malformed input".to_string())
        );
        assert_eq!(
            host.call::<u8>(ALICE, exports::boom, ()),
            Err("malformed input".to_string())
        );
        assert_eq!(
            host.call::<u8>(ALICE, exports::boom, (2u8, 2u8)),
            Err("malformed input".to_string())
        );
    }

    #[test]
    fn errors_and_panics_revert() {
        let mut host = Host::default();
        assert_eq!(
            host.call::<u8>(ALICE, exports::fail, "why"),
            Err("why".to_string())
        );
        assert_eq!(
            host.call::<u8>(ALICE, exports::boom, 0u8),
            Err("attempt to divide by zero".to_string())
        );
        assert_eq!(
            host.call::<()>(ALICE, exports::store_and_fail, ()),
            Err("no".to_string())
        );
        assert!(host.storage.is_empty() && host.logs.is_empty());
        let malformed = host.call::<Option<u64>>(ALICE, exports::bad_value, ());
        assert_eq!(malformed, Err("malformed value in storage".to_string()));
    }

    #[test]
    fn the_last_return_data_counts() {
        assert_eq!(Host::default().call(ALICE, exports::own_data, ()), Ok(2u8));
    }
}
