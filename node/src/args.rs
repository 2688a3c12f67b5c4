//! Arguments and results of contract methods as a person writes and reads them.
//!
//! By convention a contract's input is the borsh encoding of its arguments, one after the other, and what it returns is
//! borsh too. An argument is written `TYPE:VALUE`:
//!
//! | written | type in Rust | example |
//! |---|---|---|
//! | `address:` 64 hex digits, or a [name](AddressBook) | `Address` (32 bytes) | `address:bob` |
//! | `u8:` `u16:` `u32:` `u64:` `u128:` | the same | `u64:1000` |
//! | `i8:` `i16:` `i32:` `i64:` `i128:` | the same | `i64:-5` |
//! | `bool:` | `bool` | `bool:true` |
//! | `str:` | `String` | `str:hello world` |
//! | `bytes:` hex digits | `Vec<u8>` | `bytes:00ff` |
//! | `none`, `some:` and an argument | `Option<T>` | `some:u32:7` |
//!
//! A result is described by a type without a value; there, an option is `option:TYPE`, and `unit` is nothing at all.

use borsh::BorshDeserialize;
use slackline_executor::Address;
use std::fmt;
use std::str::FromStr;

/// Turns what a person calls an account into its address: a development account's name, a key file, a nickname.
/// Hexadecimal addresses are understood without it.
pub trait AddressBook {
    /// The address behind `name`.
    ///
    /// # Errors
    ///
    /// A sentence that says why there is none.
    fn address(&self, name: &str) -> Result<Address, String>;

    /// What to call `address`, if it has a name.
    fn name(&self, address: &Address) -> Option<String>;
}

/// Knows no names.
#[derive(Clone, Copy, Debug)]
pub struct NoNames;

impl AddressBook for NoNames {
    fn address(&self, name: &str) -> Result<Address, String> {
        name.parse().map_err(|error| format!("{error}"))
    }

    fn name(&self, _: &Address) -> Option<String> {
        None
    }
}

/// Why an argument, a type or a result could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// There is no colon where one must be.
    #[error("{0:?}: expected TYPE:VALUE, for example u64:1000 or address:bob")]
    NoType(String),
    /// The type is not one of those in the [table](self).
    #[error(
        "unknown type {0:?}: expected address, u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, bool, str or bytes"
    )]
    UnknownType(String),
    /// The value is not of its type.
    #[error("{value:?} is not a value of type {kind}: {reason}")]
    BadValue {
        /// The type.
        kind: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not the encoding of one value of the type.
    #[error("not a value of type {kind}: {reason}")]
    Undecodable {
        /// The type.
        kind: String,
        /// What is wrong with the bytes.
        reason: String,
    },
}

macro_rules! base_types {
    ($($variant:ident $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Base { $($variant,)* }

        impl Base {
            fn name(self) -> &'static str {
                match self { $(Base::$variant => $name,)* }
            }
        }

        impl FromStr for Base {
            type Err = ArgError;
            fn from_str(text: &str) -> Result<Base, ArgError> {
                match text {
                    $($name => Ok(Base::$variant),)*
                    _ => Err(ArgError::UnknownType(text.to_owned())),
                }
            }
        }
    };
}

base_types! {
    Address "address",
    U8 "u8", U16 "u16", U32 "u32", U64 "u64", U128 "u128",
    I8 "i8", I16 "i16", I32 "i32", I64 "i64", I128 "i128",
    Bool "bool", Str "str", Bytes "bytes",
}

/// Encodes arguments one after the other.
///
/// # Errors
///
/// [`ArgError::NoType`], [`ArgError::UnknownType`] or [`ArgError::BadValue`], for the first that is wrong.
pub fn encode<S: AsRef<str>>(
    arguments: &[S],
    names: &dyn AddressBook,
) -> Result<Vec<u8>, ArgError> {
    let mut out = Vec::new();
    for argument in arguments {
        encode_one(argument.as_ref(), names, &mut out)?;
    }
    Ok(out)
}

fn encode_one(argument: &str, names: &dyn AddressBook, out: &mut Vec<u8>) -> Result<(), ArgError> {
    let mut rest = argument;
    while let Some(inner) = rest.strip_prefix("some:") {
        out.push(1);
        rest = inner;
    }
    if rest == "none" {
        out.push(0);
        return Ok(());
    }
    let (kind, value) = rest
        .split_once(':')
        .ok_or_else(|| ArgError::NoType(argument.to_owned()))?;
    let base: Base = kind.parse()?;
    let bad = |reason: String| ArgError::BadValue {
        kind: base.name(),
        value: value.to_owned(),
        reason,
    };
    macro_rules! number {
        ($type:ty) => {
            out.extend(
                value
                    .parse::<$type>()
                    .map_err(|error| bad(error.to_string()))?
                    .to_le_bytes(),
            )
        };
    }
    let mut sized = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).map_err(|error| bad(error.to_string()))?;
        out.extend(length.to_le_bytes());
        out.extend(bytes);
        Ok(())
    };
    match base {
        Base::Address => {
            let address = value
                .parse()
                .or_else(|_| names.address(value))
                .map_err(bad)?;
            let Address(bytes) = address;
            out.extend(bytes);
        }
        Base::U8 => number!(u8),
        Base::U16 => number!(u16),
        Base::U32 => number!(u32),
        Base::U64 => number!(u64),
        Base::U128 => number!(u128),
        Base::I8 => number!(i8),
        Base::I16 => number!(i16),
        Base::I32 => number!(i32),
        Base::I64 => number!(i64),
        Base::I128 => number!(i128),
        Base::Bool => match value {
            "true" => out.push(1),
            "false" => out.push(0),
            _ => return Err(bad("expected true or false".to_owned())),
        },
        Base::Str => sized(value.as_bytes())?,
        Base::Bytes => {
            let digits = value.strip_prefix("0x").unwrap_or(value);
            sized(&hex::decode(digits).map_err(|error| bad(error.to_string()))?)?;
        }
    }
    Ok(())
}

/// The type of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnType {
    /// How many options are around the base.
    options: usize,
    /// `None` is the unit type.
    base: Option<Base>,
}

impl fmt::Display for ReturnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for _ in 0..self.options {
            f.write_str("option:")?;
        }
        f.write_str(self.base.map_or("unit", Base::name))
    }
}

impl FromStr for ReturnType {
    type Err = ArgError;

    /// Parses a type as in the [table](self).
    fn from_str(text: &str) -> Result<ReturnType, ArgError> {
        let (mut options, mut rest) = (0, text);
        while let Some(inner) = rest.strip_prefix("option:") {
            options += 1;
            rest = inner;
        }
        let base = if rest == "unit" {
            None
        } else {
            Some(rest.parse()?)
        };
        Ok(ReturnType { options, base })
    }
}

impl ReturnType {
    /// Decodes a result and writes it out. All of `data` must be the value.
    ///
    /// # Errors
    ///
    /// [`ArgError::Undecodable`].
    pub fn decode(&self, data: &[u8], names: &dyn AddressBook) -> Result<String, ArgError> {
        let bad = |reason: String| ArgError::Undecodable {
            kind: self.to_string(),
            reason,
        };
        let mut rest = data;
        let text = self
            .read(&mut rest, names)
            .map_err(|error| bad(error.to_string()))?;
        match rest.len() {
            0 => Ok(text),
            left => Err(bad(format!("{left} bytes too many"))),
        }
    }

    fn read(&self, data: &mut &[u8], names: &dyn AddressBook) -> std::io::Result<String> {
        let mut somes = 0;
        let value = loop {
            if somes == self.options {
                break match self.base {
                    None => "()".to_owned(),
                    Some(base) => base.read(data, names)?,
                };
            }
            // Borsh's own encoding of options: a byte that is 0 or 1.
            if !bool::deserialize(data)? {
                break "none".to_owned();
            }
            somes += 1;
        };
        Ok(format!(
            "{}{value}{}",
            "some(".repeat(somes),
            ")".repeat(somes)
        ))
    }
}

impl Base {
    fn read(self, data: &mut &[u8], names: &dyn AddressBook) -> std::io::Result<String> {
        Ok(match self {
            Base::Address => {
                let address = Address::deserialize(data)?;
                match names.name(&address) {
                    Some(name) => format!("{address} ({name})"),
                    None => address.to_string(),
                }
            }
            Base::U8 => u8::deserialize(data)?.to_string(),
            Base::U16 => u16::deserialize(data)?.to_string(),
            Base::U32 => u32::deserialize(data)?.to_string(),
            Base::U64 => u64::deserialize(data)?.to_string(),
            Base::U128 => u128::deserialize(data)?.to_string(),
            Base::I8 => i8::deserialize(data)?.to_string(),
            Base::I16 => i16::deserialize(data)?.to_string(),
            Base::I32 => i32::deserialize(data)?.to_string(),
            Base::I64 => i64::deserialize(data)?.to_string(),
            Base::I128 => i128::deserialize(data)?.to_string(),
            Base::Bool => bool::deserialize(data)?.to_string(),
            Base::Str => String::deserialize(data)?,
            Base::Bytes => hex::encode(Vec::<u8>::deserialize(data)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bob;

    impl AddressBook for Bob {
        fn address(&self, name: &str) -> Result<Address, String> {
            if name == "bob" {
                Ok(Address([7; 32]))
            } else {
                Err(format!("nobody is called {name}"))
            }
        }
        fn name(&self, address: &Address) -> Option<String> {
            (*address == Address([7; 32])).then(|| "bob".to_owned())
        }
    }

    /// One row per type: as written, as Rust encodes it, the type, as shown.
    fn rows() -> Vec<(&'static str, Vec<u8>, &'static str, String)> {
        fn enc<T: borsh::BorshSerialize>(value: T) -> Vec<u8> {
            borsh::to_vec(&value).expect("encoded")
        }
        let bob = hex::encode([7u8; 32]);
        vec![
            (
                "address:bob",
                enc(Address([7; 32])),
                "address",
                format!("{bob} (bob)"),
            ),
            ("u8:255", enc(255u8), "u8", "255".into()),
            ("u16:513", enc(513u16), "u16", "513".into()),
            ("u32:70000", enc(70_000u32), "u32", "70000".into()),
            (
                "u64:18446744073709551615",
                enc(u64::MAX),
                "u64",
                u64::MAX.to_string(),
            ),
            (
                "u128:340282366920938463463374607431768211455",
                enc(u128::MAX),
                "u128",
                u128::MAX.to_string(),
            ),
            ("i8:-128", enc(-128i8), "i8", "-128".into()),
            ("i16:-2", enc(-2i16), "i16", "-2".into()),
            ("i32:-3", enc(-3i32), "i32", "-3".into()),
            (
                "i64:-9223372036854775808",
                enc(i64::MIN),
                "i64",
                i64::MIN.to_string(),
            ),
            ("i128:-5", enc(-5i128), "i128", "-5".into()),
            ("bool:true", enc(true), "bool", "true".into()),
            ("bool:false", enc(false), "bool", "false".into()),
            ("str:a:b c", enc("a:b c".to_owned()), "str", "a:b c".into()),
            ("str:", enc(String::new()), "str", "".into()),
            ("bytes:00ff", enc(vec![0u8, 255]), "bytes", "00ff".into()),
            ("bytes:0x", enc(Vec::<u8>::new()), "bytes", "".into()),
            ("none", enc(None::<u64>), "option:u64", "none".into()),
            (
                "some:u64:7",
                enc(Some(7u64)),
                "option:u64",
                "some(7)".into(),
            ),
            (
                "some:none",
                enc(Some(None::<u8>)),
                "option:option:u8",
                "some(none)".into(),
            ),
            (
                "some:some:str:x",
                enc(Some(Some("x".to_owned()))),
                "option:option:str",
                "some(some(x))".into(),
            ),
        ]
    }

    #[test]
    fn arguments_are_encoded_as_rust_encodes_them() {
        let (mut written, mut all) = (Vec::new(), Vec::new());
        for (text, encoded, _, _) in rows() {
            assert_eq!(encode(&[text], &Bob).expect(text), encoded, "{text}");
            written.push(text);
            all.extend(encoded);
        }
        assert_eq!(
            encode(&written, &Bob).expect("all"),
            all,
            "one after the other"
        );
        let by_hex = format!("address:0x{}", hex::encode([9u8; 32]));
        assert_eq!(encode(&[by_hex], &NoNames).expect("hex"), [9; 32]);
    }

    #[test]
    fn results_are_decoded() {
        for (_, encoded, kind, shown) in rows() {
            let kind: ReturnType = kind.parse().expect(kind);
            assert_eq!(kind.decode(&encoded, &Bob).as_ref(), Ok(&shown), "{kind}");
            let mut longer = encoded.clone();
            longer.push(0);
            let error = kind
                .decode(&longer, &Bob)
                .expect_err("a byte too many")
                .to_string();
            assert!(error.contains("1 bytes too many"), "{kind}: {error}");
            kind.decode(&encoded[..encoded.len() - 1], &Bob)
                .expect_err("a byte too few");
        }
        let unit: ReturnType = "unit".parse().expect("unit");
        assert_eq!(unit.decode(&[], &Bob).as_deref(), Ok("()"));
        unit.decode(&[0], &Bob).expect_err("not empty");
        let maybe: ReturnType = "option:unit".parse().expect("option");
        assert_eq!(maybe.decode(&[1], &Bob).as_deref(), Ok("some(())"));
        maybe.decode(&[2], &Bob).expect_err("neither none nor some");
    }

    #[test]
    fn bad_arguments_are_explained() {
        for (text, expected) in [
            ("7", "expected TYPE:VALUE"),
            ("some:", "expected TYPE:VALUE"),
            ("u65:7", "unknown type \"u65\""),
            ("u8:256", "too large"),
            ("u8:-1", "invalid digit"),
            ("bool:yes", "true or false"),
            ("bytes:0", "Odd number of digits"),
            ("bytes:zz", "Invalid character"),
            ("address:eve", "nobody is called eve"),
        ] {
            let error = encode(&[text], &Bob).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for kind in ["", "none", "option", "option:", "vec:u8"] {
            kind.parse::<ReturnType>().expect_err(kind);
        }
        let deep = "some:".repeat(100_000) + "u8:1";
        assert_eq!(encode(&[deep], &Bob).expect("deep").len(), 100_001);
    }
}
