//! The description of a contract, written as JSON while it compiles.
//!
//! ```text
//!   Describe::SCHEMA of each type ─┐
//!   names, docs, attributes ───────┴─▶ Contract ── json() ──▶ bytes ──▶ section `slackline_abi`
//! ```
//!
//! What the JSON looks like is told where it is read: in the crate `slackline-abi`. Structs and enums are written once
//! and referred to by name, so two types of the same name cannot both be described.

use crate::{Address, Hash};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// The version of the format.
const VERSION: u64 = 1;

/// More types of its own than any contract has; the table is only there while it compiles.
const MAX_TYPES: usize = 256;

/// A type that can be described to those who call the contract.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be described to callers",
    label = "not a type of arguments, results, events or errors",
    note = "a struct or enum of the contract needs `#[derive(slackline::Data)]`",
    note = "there is no `usize` (its size differs), no float, no reference"
)]
pub trait Describe {
    /// How the type is encoded.
    const SCHEMA: &'static Schema;
}

/// How a type is encoded in borsh, and what its parts are called.
#[derive(Clone, Copy, Debug)]
pub enum Schema {
    /// Nothing.
    Unit,
    /// One byte, 0 or 1.
    Bool,
    /// One byte; several make [`Self::Bytes`] or [`Self::FixedBytes`].
    U8,
    /// Another integer: its name and how many bytes it takes.
    Int(&'static str, usize),
    /// UTF-8 behind its length in bytes.
    String,
    /// Bytes behind their number.
    Bytes,
    /// So many bytes.
    FixedBytes(usize),
    /// 32 bytes: an account or a contract.
    Address,
    /// 0, or 1 and a value.
    Option(&'static Schema),
    /// Values behind their number.
    Vec(&'static Schema),
    /// So many values.
    Array(&'static Schema, usize),
    /// Values of these types.
    Tuple(&'static [&'static Schema]),
    /// Pairs behind their number.
    Map(&'static Schema, &'static Schema),
    /// Values, all different, behind their number.
    Set(&'static Schema),
    /// A struct or an enum.
    Named(&'static Named),
}

/// A struct or an enum.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// Its name in the description.
    pub name: &'static str,
    /// Its name in the program, which tells it from others with the same name.
    pub path: &'static str,
    /// What it consists of.
    pub body: Body,
}

/// What a type consists of.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// A struct: its fields.
    Struct(Fields),
    /// An enum: the number of the variant in one byte, then its fields.
    Enum(&'static [Variant]),
}

/// The fields of a struct or variant.
#[derive(Clone, Copy, Debug)]
pub enum Fields {
    /// None.
    Unit,
    /// With names.
    Named(&'static [Field]),
    /// Without.
    Tuple(&'static [&'static Schema]),
}

/// A field, or an argument.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub schema: &'static Schema,
}

/// A variant of an enum.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// What it means, for people; may be empty.
    pub doc: &'static str,
    /// Its fields.
    pub fields: Fields,
}

/// A contract.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people; may be empty.
    pub doc: &'static str,
    /// What can be called, and `init` and `upgrade`.
    pub methods: &'static [Method],
    /// What it emits.
    pub events: &'static [&'static Event],
}

/// A method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The name of the export.
    pub name: &'static str,
    /// What it does, for people; may be empty.
    pub doc: &'static str,
    /// Its arguments.
    pub args: &'static [Field],
    /// What it returns.
    pub result: &'static Schema,
    /// What it reverts with, unless that is text.
    pub error: Option<&'static Schema>,
    /// Changes nothing.
    pub view: bool,
    /// Takes value.
    pub payable: bool,
    /// May be called while another call of the contract is running.
    pub reentrant: bool,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// What has happened, for people; may be empty.
    pub doc: &'static str,
    /// Its first topic.
    pub topic: Hash,
    /// Its fields.
    pub fields: &'static [EventField],
}

/// A field of an event.
#[derive(Clone, Copy, Debug)]
pub struct EventField {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub schema: &'static Schema,
    /// Whether one can search for it.
    pub topic: bool,
}

impl Schema {
    /// The most bytes that a value takes, if there is a bound that the type itself sets.
    pub const fn max_len(&self) -> Option<usize> {
        match self {
            Self::Unit => Some(0),
            Self::Bool | Self::U8 => Some(1),
            Self::Int(_, len) | Self::FixedBytes(len) => Some(*len),
            Self::Address => Some(32),
            Self::String | Self::Bytes | Self::Vec(_) | Self::Map(..) | Self::Set(_) => None,
            Self::Option(of) => add(Some(1), of.max_len()),
            Self::Array(of, len) => match of.max_len() {
                None => None,
                Some(one) => one.checked_mul(*len),
            },
            Self::Tuple(of) => max_len_of(of),
            Self::Named(named) => match named.body {
                Body::Struct(fields) => fields.max_len(),
                Body::Enum(variants) => {
                    let mut most = Some(0);
                    let mut i = 0;
                    while i < variants.len() {
                        most = match (most, variants[i].fields.max_len()) {
                            (Some(a), Some(b)) => Some(if a > b { a } else { b }),
                            _ => None,
                        };
                        i += 1;
                    }
                    add(Some(1), most)
                }
            },
        }
    }
}

impl Fields {
    const fn max_len(&self) -> Option<usize> {
        match self {
            Self::Unit => Some(0),
            Self::Tuple(of) => max_len_of(of),
            Self::Named(of) => {
                let mut sum = Some(0);
                let mut i = 0;
                while i < of.len() {
                    sum = add(sum, of[i].schema.max_len());
                    i += 1;
                }
                sum
            }
        }
    }
}

const fn max_len_of(of: &[&Schema]) -> Option<usize> {
    let mut sum = Some(0);
    let mut i = 0;
    while i < of.len() {
        sum = add(sum, of[i].max_len());
        i += 1;
    }
    sum
}

const fn add(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => a.checked_add(b),
        _ => None,
    }
}

/// The length of the contract's description.
#[doc(hidden)]
pub const fn json_len(contract: &Contract) -> usize {
    let mut out = Json::<0>::new();
    out.contract(contract);
    out.len
}

/// The contract's description, of which the length is known.
#[doc(hidden)]
pub const fn json<const LEN: usize>(contract: &Contract) -> [u8; LEN] {
    let mut out = Json::<LEN>::new();
    out.contract(contract);
    assert!(out.len == LEN, "the description has another length");
    out.bytes
}

/// JSON being written; with `LEN` 0 only its length is found.
struct Json<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
    /// Whether something stands before, in the same list.
    comma: bool,
}

impl<const LEN: usize> Json<LEN> {
    const fn new() -> Self {
        Self {
            bytes: [0; LEN],
            len: 0,
            comma: false,
        }
    }

    const fn byte(&mut self, byte: u8) {
        if LEN > 0 {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    /// As it is.
    const fn raw(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut i = 0;
        while i < text.len() {
            self.byte(text[i]);
            i += 1;
        }
    }

    const fn string(&mut self, text: &str) {
        self.byte(b'"');
        let text = text.as_bytes();
        let mut i = 0;
        while i < text.len() {
            match text[i] {
                byte @ (b'"' | b'\\') => {
                    self.byte(b'\\');
                    self.byte(byte);
                }
                byte @ 0..32 => {
                    self.raw("\\u00");
                    self.hex(byte);
                }
                byte => self.byte(byte),
            }
            i += 1;
        }
        self.byte(b'"');
    }

    const fn hex(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.byte(DIGITS[(byte >> 4) as usize]);
        self.byte(DIGITS[(byte & 15) as usize]);
    }

    const fn number(&mut self, number: u64) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.byte(b'0' + (number % 10) as u8);
    }

    const fn open(&mut self, bracket: u8) {
        self.item();
        self.byte(bracket);
        self.comma = false;
    }

    const fn close(&mut self, bracket: u8) {
        self.byte(bracket);
        self.comma = true;
    }

    /// Begins the next item of a list.
    const fn item(&mut self) {
        if self.comma {
            self.byte(b',');
        }
        self.comma = true;
    }

    /// Begins the next member of an object.
    const fn key(&mut self, key: &str) {
        self.item();
        self.string(key);
        self.byte(b':');
        self.comma = false;
    }

    const fn member(&mut self, key: &str, text: &str) {
        self.key(key);
        self.string(text);
        self.comma = true;
    }

    /// Text that may be left out.
    const fn doc(&mut self, text: &str) {
        if !text.is_empty() {
            self.member("doc", text);
        }
    }

    /// What is left out when it is not so.
    const fn flag(&mut self, key: &str, set: bool) {
        if set {
            self.key(key);
            self.raw("true");
            self.comma = true;
        }
    }

    const fn contract(&mut self, contract: &Contract) {
        self.open(b'{');
        self.key("version");
        self.number(VERSION);
        self.comma = true;
        self.member("name", contract.name);
        self.doc(contract.doc);
        let mut types = Types::new();

        self.key("methods");
        self.open(b'[');
        let mut i = 0;
        while i < contract.methods.len() {
            self.method(&contract.methods[i], &mut types);
            i += 1;
        }
        self.close(b']');

        self.key("events");
        self.open(b'[');
        let mut i = 0;
        while i < contract.events.len() {
            self.event(contract.events[i], &mut types);
            i += 1;
        }
        self.close(b']');

        // Writing a type may add others.
        self.key("types");
        self.open(b'{');
        let mut i = 0;
        while let Some(named) = types.get(i) {
            self.named(named, &mut types);
            i += 1;
        }
        self.close(b'}');
        self.close(b'}');
    }

    const fn method(&mut self, method: &Method, types: &mut Types) {
        self.open(b'{');
        self.member("name", method.name);
        self.doc(method.doc);
        if !method.args.is_empty() {
            self.key("args");
            self.fields(method.args, types);
        }
        if !matches!(method.result, Schema::Unit) {
            self.key("result");
            self.schema(method.result, types);
        }
        if let Some(error) = method.error {
            self.key("error");
            self.schema(error, types);
        }
        self.flag("view", method.view);
        self.flag("payable", method.payable);
        self.flag("reentrant", method.reentrant);
        self.close(b'}');
    }

    const fn event(&mut self, event: &Event, types: &mut Types) {
        self.open(b'{');
        self.member("name", event.name);
        self.doc(event.doc);
        self.key("topic");
        self.byte(b'"');
        let mut i = 0;
        while i < event.topic.len() {
            self.hex(event.topic[i]);
            i += 1;
        }
        self.byte(b'"');
        self.comma = true;
        self.key("fields");
        self.open(b'[');
        let mut i = 0;
        while i < event.fields.len() {
            let field = &event.fields[i];
            self.open(b'{');
            self.member("name", field.name);
            self.key("type");
            self.schema(field.schema, types);
            self.flag("topic", field.topic);
            self.close(b'}');
            i += 1;
        }
        self.close(b']');
        self.close(b'}');
    }

    const fn named(&mut self, named: &Named, types: &mut Types) {
        self.key(named.name);
        self.open(b'{');
        match named.body {
            Body::Struct(fields) => {
                self.member("kind", "struct");
                self.any_fields(fields, types);
            }
            Body::Enum(variants) => {
                self.member("kind", "enum");
                self.key("variants");
                self.open(b'[');
                let mut i = 0;
                while i < variants.len() {
                    self.open(b'{');
                    self.member("name", variants[i].name);
                    self.doc(variants[i].doc);
                    self.any_fields(variants[i].fields, types);
                    self.close(b'}');
                    i += 1;
                }
                self.close(b']');
            }
        }
        self.close(b'}');
    }

    const fn any_fields(&mut self, fields: Fields, types: &mut Types) {
        match fields {
            Fields::Unit => {}
            Fields::Named(fields) => {
                self.key("fields");
                self.fields(fields, types);
            }
            Fields::Tuple(of) => {
                self.key("tuple");
                self.schemas(of, types);
            }
        }
    }

    const fn fields(&mut self, fields: &[Field], types: &mut Types) {
        self.open(b'[');
        let mut i = 0;
        while i < fields.len() {
            self.open(b'{');
            self.member("name", fields[i].name);
            self.key("type");
            self.schema(fields[i].schema, types);
            self.close(b'}');
            i += 1;
        }
        self.close(b']');
    }

    const fn schemas(&mut self, schemas: &[&Schema], types: &mut Types) {
        self.open(b'[');
        let mut i = 0;
        while i < schemas.len() {
            self.schema(schemas[i], types);
            i += 1;
        }
        self.close(b']');
    }

    const fn schema(&mut self, schema: &Schema, types: &mut Types) {
        match schema {
            Schema::Unit => self.simple("unit"),
            Schema::Bool => self.simple("bool"),
            Schema::U8 => self.simple("u8"),
            Schema::Int(name, _) => self.simple(name),
            Schema::String => self.simple("string"),
            Schema::Bytes => self.simple("bytes"),
            Schema::Address => self.simple("address"),
            Schema::FixedBytes(len) => {
                self.open(b'{');
                self.key("fixed_bytes");
                self.number(*len as u64);
                self.close(b'}');
            }
            Schema::Option(of) => self.wrapped("option", of, types),
            Schema::Vec(of) => self.wrapped("vec", of, types),
            Schema::Set(of) => self.wrapped("set", of, types),
            Schema::Array(of, len) => {
                self.open(b'{');
                self.key("array");
                self.open(b'{');
                self.key("of");
                self.schema(of, types);
                self.key("len");
                self.number(*len as u64);
                self.close(b'}');
                self.close(b'}');
            }
            Schema::Tuple(of) => {
                self.open(b'{');
                self.key("tuple");
                self.schemas(of, types);
                self.close(b'}');
            }
            Schema::Map(key, value) => {
                self.open(b'{');
                self.key("map");
                self.schemas(&[key, value], types);
                self.close(b'}');
            }
            Schema::Named(named) => {
                types.add(named);
                self.open(b'{');
                self.member("ref", named.name);
                self.close(b'}');
            }
        }
    }

    const fn simple(&mut self, name: &str) {
        self.item();
        self.string(name);
    }

    const fn wrapped(&mut self, name: &str, of: &Schema, types: &mut Types) {
        self.open(b'{');
        self.key(name);
        self.schema(of, types);
        self.close(b'}');
    }
}

/// The types that the description refers to, in the order in which it does.
struct Types {
    list: [Option<&'static Named>; MAX_TYPES],
    len: usize,
}

impl Types {
    const fn new() -> Self {
        Self {
            list: [None; MAX_TYPES],
            len: 0,
        }
    }

    const fn get(&self, i: usize) -> Option<&'static Named> {
        if i < self.len { self.list[i] } else { None }
    }

    const fn add(&mut self, named: &'static Named) {
        let mut i = 0;
        while let Some(known) = self.get(i) {
            if same(known.name, named.name) {
                assert!(
                    same(known.path, named.path),
                    "the contract uses two types of the same name: its callers could not tell them apart"
                );
                return;
            }
            i += 1;
        }
        assert!(self.len < MAX_TYPES, "the contract has too many types");
        self.list[self.len] = Some(named);
        self.len += 1;
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

macro_rules! describe {
    ($($ty:ty => $schema:expr;)*) => {$(
        impl Describe for $ty {
            const SCHEMA: &'static Schema = &$schema;
        }
    )*};
}

describe! {
    () => Schema::Unit;
    bool => Schema::Bool;
    u8 => Schema::U8;
    u16 => Schema::Int("u16", 2);
    u32 => Schema::Int("u32", 4);
    u64 => Schema::Int("u64", 8);
    u128 => Schema::Int("u128", 16);
    i8 => Schema::Int("i8", 1);
    i16 => Schema::Int("i16", 2);
    i32 => Schema::Int("i32", 4);
    i64 => Schema::Int("i64", 8);
    i128 => Schema::Int("i128", 16);
    String => Schema::String;
    Address => Schema::Address;
}

impl<T: Describe> Describe for Option<T> {
    const SCHEMA: &'static Schema = &Schema::Option(T::SCHEMA);
}

impl<T: Describe> Describe for Vec<T> {
    const SCHEMA: &'static Schema = match T::SCHEMA {
        Schema::U8 => &Schema::Bytes,
        _ => &Schema::Vec(T::SCHEMA),
    };
}

impl<T: Describe, const N: usize> Describe for [T; N] {
    const SCHEMA: &'static Schema = match T::SCHEMA {
        Schema::U8 => &Schema::FixedBytes(N),
        _ => &Schema::Array(T::SCHEMA, N),
    };
}

impl<K: Describe, V: Describe> Describe for BTreeMap<K, V> {
    const SCHEMA: &'static Schema = &Schema::Map(K::SCHEMA, V::SCHEMA);
}

impl<T: Describe> Describe for BTreeSet<T> {
    const SCHEMA: &'static Schema = &Schema::Set(T::SCHEMA);
}

macro_rules! describe_tuple {
    ($($of:ident)+) => {
        impl<$($of: Describe),+> Describe for ($($of,)+) {
            const SCHEMA: &'static Schema = &Schema::Tuple(&[$($of::SCHEMA),+]);
        }
    };
}

describe_tuple!(A);
describe_tuple!(A B);
describe_tuple!(A B C);
describe_tuple!(A B C D);
describe_tuple!(A B C D E);
describe_tuple!(A B C D E F);
describe_tuple!(A B C D E F G);
describe_tuple!(A B C D E F G H);
