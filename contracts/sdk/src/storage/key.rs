//! Keys whose bytes are in the order of their values.
//!
//! ```text
//!   unsigned          big-endian
//!   signed            big-endian, the sign bit turned
//!   bool, [u8; N], Address   as they are
//!   String, Vec<u8>   00 as 00 FF; 00 00 at the end
//!   Option            00, or 01 and the value
//!   tuples            one part behind the other
//! ```
//!
//! No encoding of a type is the beginning of another of the same type, so that what follows never matters to the order,
//! and the entries whose key begins with some parts of a tuple are those that begin with their bytes.

use crate::Address;
use alloc::string::String;
use alloc::vec::Vec;

/// A type whose values can be keys of an [`OrderedMap`](super::OrderedMap), which is in their order.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of an `OrderedMap`",
    note = "integers, `bool`, `String`, `Vec<u8>`, `[u8; N]`, `Address`, `Option`s and tuples of these can"
)]
pub trait OrderedKey: Sized {
    /// Appends the key.
    fn encode(&self, bytes: &mut Vec<u8>);

    /// Takes a key off the front.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

/// A tuple that begins with the parts of `P`: what [`OrderedMap::prefix`](super::OrderedMap::prefix) takes.
pub trait StartsWith<P> {}

fn split<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(front)
}

macro_rules! integers {
    ($($unsigned:ty, $signed:ty;)*) => {$(
        impl OrderedKey for $unsigned {
            fn encode(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let bytes = split(bytes, size_of::<Self>())?;
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }

        impl OrderedKey for $signed {
            fn encode(&self, bytes: &mut Vec<u8>) {
                (self.cast_unsigned() ^ <$signed>::MIN.cast_unsigned()).encode(bytes);
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let unsigned = <$unsigned>::decode(bytes)?;
                Some((unsigned ^ <$signed>::MIN.cast_unsigned()).cast_signed())
            }
        }
    )*};
}

integers! {
    u8, i8;
    u16, i16;
    u32, i32;
    u64, i64;
    u128, i128;
}

impl OrderedKey for bool {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        match u8::decode(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<const N: usize> OrderedKey for [u8; N] {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        split(bytes, N)?.try_into().ok()
    }
}

impl OrderedKey for Address {
    fn encode(&self, bytes: &mut Vec<u8>) {
        self.0.encode(bytes);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        OrderedKey::decode(bytes).map(Self)
    }
}

impl OrderedKey for Vec<u8> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        encode_bytes(self, bytes);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut decoded = Vec::new();
        loop {
            match split(bytes, 1)? {
                [0] => match split(bytes, 1)? {
                    [0] => return Some(decoded),
                    [0xff] => decoded.push(0),
                    _ => return None,
                },
                byte => decoded.extend_from_slice(byte),
            }
        }
    }
}

fn encode_bytes(from: &[u8], bytes: &mut Vec<u8>) {
    for byte in from {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend_from_slice(&[0, 0]);
}

impl OrderedKey for String {
    fn encode(&self, bytes: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), bytes);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(OrderedKey::decode(bytes)?).ok()
    }
}

impl<T: OrderedKey> OrderedKey for Option<T> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        self.is_some().encode(bytes);
        if let Some(value) = self {
            value.encode(bytes);
        }
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        match bool::decode(bytes)? {
            false => Some(None),
            true => T::decode(bytes).map(Some),
        }
    }
}

macro_rules! tuples {
    ($($of:ident)+) => {
        impl<$($of: OrderedKey),+> OrderedKey for ($($of,)+) {
            #[allow(non_snake_case)]
            fn encode(&self, bytes: &mut Vec<u8>) {
                let ($($of,)+) = self;
                $($of.encode(bytes);)+
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($of::decode(bytes)?,)+))
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);

// One part without parentheses, more as a tuple.
impl<A, B> StartsWith<A> for (A, B) {}
impl<A, B, C> StartsWith<A> for (A, B, C) {}
impl<A, B, C> StartsWith<(A, B)> for (A, B, C) {}
impl<A, B, C, D> StartsWith<A> for (A, B, C, D) {}
impl<A, B, C, D> StartsWith<(A, B)> for (A, B, C, D) {}
impl<A, B, C, D> StartsWith<(A, B, C)> for (A, B, C, D) {}
