//! The description of a contract, as its JSON has it.
//!
//! ```json
//! {"version": 1, "name": "token",
//!  "methods": [{"name": "transfer", "doc": "Passes on tokens.",
//!               "args": [{"name": "to", "type": "address"}, {"name": "amount", "type": "u128"}],
//!               "result": "unit", "error": {"ref": "Error"}, "view": false, "payable": false, "reentrant": false}],
//!  "events": [{"name": "Transfer", "topic": "<64 hexadecimal digits>",
//!              "fields": [{"name": "from", "type": "address", "topic": true}, {"name": "amount", "type": "u128"}]}],
//!  "types": {"Error": {"kind": "enum", "variants": [{"name": "NotOwner", "doc": "Only the owner may."}]},
//!            "Point": {"kind": "struct", "fields": [{"name": "x", "type": {"option": "u32"}}]},
//!            "Pair": {"kind": "struct", "tuple": ["u8", {"array": {"of": "u8", "len": 3}}]}}}
//! ```
//!
//! What is empty or `false` or `"unit"` may be left out, and what is not known is ignored.

use crate::{AbiError, SECTION, VERSION, custom_section};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// The version of the format.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// What can be called, and `init` and `upgrade`, which cannot.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// What it emits.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Structs and enums, by the names by which others refer to them.
    #[serde(default)]
    pub types: BTreeMap<String, Type>,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// The name of the export.
    pub name: String,
    /// What it does, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Its arguments: the input is their borsh, one behind the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Field>,
    /// What it returns.
    #[serde(default, skip_serializing_if = "Schema::is_unit")]
    pub result: Schema,
    /// What it reverts with, unless that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Schema>,
    /// It changes nothing, so that it can be asked without a transaction.
    #[serde(default, skip_serializing_if = "is_false")]
    pub view: bool,
    /// It takes value.
    #[serde(default, skip_serializing_if = "is_false")]
    pub payable: bool,
    /// It may be called while another call of the contract is running.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reentrant: bool,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What has happened, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Its first topic.
    #[serde(with = "hex")]
    pub topic: [u8; 32],
    /// Its fields, in the order of their declaration.
    #[serde(default)]
    pub fields: Vec<EventField>,
}

/// A field of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventField {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub schema: Schema,
    /// Whether it is one of the topics.
    #[serde(default, skip_serializing_if = "is_false")]
    pub topic: bool,
}

/// A struct or an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Type {
    /// A struct: its fields.
    Struct(Fields),
    /// An enum: the number of the variant in one byte, then its fields.
    Enum {
        /// At most 256.
        variants: Vec<Variant>,
    },
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Its fields.
    #[serde(flatten)]
    pub fields: Fields,
}

/// The fields of a struct or variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawFields", into = "RawFields")]
pub enum Fields {
    /// None.
    Unit,
    /// With names.
    Named(Vec<Field>),
    /// Without.
    Tuple(Vec<Schema>),
}

/// A field, or an argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub schema: Schema,
}

#[derive(Serialize, Deserialize)]
struct RawFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<Field>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tuple: Option<Vec<Schema>>,
}

impl TryFrom<RawFields> for Fields {
    type Error = &'static str;

    fn try_from(raw: RawFields) -> Result<Self, &'static str> {
        match (raw.fields, raw.tuple) {
            (None, None) => Ok(Self::Unit),
            (Some(fields), None) => Ok(Self::Named(fields)),
            (None, Some(of)) => Ok(Self::Tuple(of)),
            (Some(_), Some(_)) => Err("both `fields` and `tuple`"),
        }
    }
}

impl From<Fields> for RawFields {
    fn from(fields: Fields) -> Self {
        let (fields, tuple) = match fields {
            Fields::Unit => (None, None),
            Fields::Named(fields) => (Some(fields), None),
            Fields::Tuple(of) => (None, Some(of)),
        };
        Self { fields, tuple }
    }
}

/// A type, and so its encoding in borsh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "integers are what they are called")]
pub enum Schema {
    /// Nothing.
    #[default]
    Unit,
    /// One byte, 0 or 1.
    Bool,
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    /// UTF-8 behind its length in bytes.
    String,
    /// Bytes behind their number.
    Bytes,
    /// So many bytes.
    FixedBytes(u32),
    /// 32 bytes: an account or a contract.
    Address,
    /// 0, or 1 and a value.
    Option(Box<Schema>),
    /// Values behind their number.
    Vec(Box<Schema>),
    /// So many values.
    Array {
        /// Their type.
        of: Box<Schema>,
        /// How many.
        len: u32,
    },
    /// Values of these types.
    Tuple(Vec<Schema>),
    /// Pairs behind their number.
    Map(Box<Schema>, Box<Schema>),
    /// Values, all different, behind their number.
    Set(Box<Schema>),
    /// The type of this name.
    Ref(String),
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn distinct<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), AbiError> {
    let mut seen = BTreeSet::new();
    match names.find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(twice) => Err(AbiError::Inconsistent(format!("`{twice}` is there twice"))),
    }
}

impl Contract {
    /// Reads the description out of a contract's code; `None` when it has none.
    ///
    /// # Errors
    ///
    /// When the code is no wasm module or its description is malformed.
    pub fn from_wasm(wasm: &[u8]) -> Result<Option<Self>, AbiError> {
        custom_section(wasm, SECTION)?
            .map(Self::from_json)
            .transpose()
    }

    /// Reads the description out of its JSON.
    ///
    /// # Errors
    ///
    /// When it is malformed, of another version, names a type that it does not have, or has two methods,
    /// arguments, fields or variants of one name.
    pub fn from_json(json: &[u8]) -> Result<Self, AbiError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        // First, because another version may have another form.
        let Version { version } = serde_json::from_slice(json)?;
        if version != VERSION {
            return Err(AbiError::Version(version));
        }
        let contract: Self = serde_json::from_slice(json)?;
        contract.check()?;
        Ok(contract)
    }

    /// The method with this name.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.name == name)
    }

    fn check(&self) -> Result<(), AbiError> {
        distinct(self.methods.iter().map(|method| &method.name))?;
        for method in &self.methods {
            distinct(method.args.iter().map(|arg| &arg.name))?;
            for arg in &method.args {
                self.check_refs(&arg.schema)?;
            }
            self.check_refs(&method.result)?;
            if let Some(error) = &method.error {
                self.check_refs(error)?;
            }
        }
        for event in &self.events {
            distinct(event.fields.iter().map(|field| &field.name))?;
            for field in &event.fields {
                self.check_refs(&field.schema)?;
            }
        }
        for (name, ty) in &self.types {
            match ty {
                Type::Struct(fields) => self.check_fields(fields)?,
                Type::Enum { variants } if variants.len() > 256 => {
                    let text = format!("`{name}` has more than 256 variants");
                    return Err(AbiError::Inconsistent(text));
                }
                Type::Enum { variants } => {
                    distinct(variants.iter().map(|variant| &variant.name))?;
                    for variant in variants {
                        self.check_fields(&variant.fields)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn check_fields(&self, fields: &Fields) -> Result<(), AbiError> {
        if let Fields::Named(fields) = fields {
            distinct(fields.iter().map(|field| &field.name))?;
        }
        fields
            .schemas()
            .try_for_each(|schema| self.check_refs(schema))
    }

    /// As deep as the JSON was nested, for which its parser has a limit.
    fn check_refs(&self, schema: &Schema) -> Result<(), AbiError> {
        match schema {
            Schema::Ref(name) if !self.types.contains_key(name) => {
                Err(AbiError::Inconsistent(format!("there is no type `{name}`")))
            }
            Schema::Option(of) | Schema::Vec(of) | Schema::Set(of) | Schema::Array { of, .. } => {
                self.check_refs(of)
            }
            Schema::Tuple(of) => of.iter().try_for_each(|of| self.check_refs(of)),
            Schema::Map(key, value) => {
                self.check_refs(key)?;
                self.check_refs(value)
            }
            _ => Ok(()),
        }
    }

    /// Whether all values of a type fit one topic, so that it is not among the data of an event.
    pub(crate) fn fits_topic(&self, schema: &Schema) -> bool {
        // Types may refer to others in ways that make this take for ever. None that fits gets here so often.
        let mut steps = 1 << 12;
        self.max_len(schema, 0, &mut steps)
            .is_some_and(|len| len <= 32)
    }

    fn max_len(&self, schema: &Schema, depth: usize, steps: &mut u32) -> Option<u64> {
        *steps = steps.checked_sub(1)?;
        if depth > crate::MAX_DEPTH {
            return None;
        }
        let mut of = |schema| self.max_len(schema, depth + 1, steps);
        match schema {
            Schema::Unit => Some(0),
            Schema::Bool | Schema::U8 | Schema::I8 => Some(1),
            Schema::U16 | Schema::I16 => Some(2),
            Schema::U32 | Schema::I32 => Some(4),
            Schema::U64 | Schema::I64 => Some(8),
            Schema::U128 | Schema::I128 => Some(16),
            Schema::Address => Some(32),
            Schema::FixedBytes(len) => Some(u64::from(*len)),
            Schema::String | Schema::Bytes | Schema::Vec(_) | Schema::Map(..) | Schema::Set(_) => {
                None
            }
            Schema::Option(inner) => of(inner)?.checked_add(1),
            Schema::Array { of: inner, len } => of(inner)?.checked_mul(u64::from(*len)),
            Schema::Tuple(inner) => inner
                .iter()
                .try_fold(0u64, |sum, s| sum.checked_add(of(s)?)),
            Schema::Ref(name) => match self.types.get(name)? {
                Type::Struct(fields) => fields
                    .schemas()
                    .try_fold(0u64, |sum, s| sum.checked_add(of(s)?)),
                Type::Enum { variants } => variants
                    .iter()
                    .try_fold(0u64, |most, variant| {
                        let len = variant
                            .fields
                            .schemas()
                            .try_fold(0u64, |sum, s| sum.checked_add(of(s)?))?;
                        Some(most.max(len))
                    })?
                    .checked_add(1),
            },
        }
    }
}

impl Fields {
    fn schemas(&self) -> impl Iterator<Item = &Schema> {
        let (named, tuple) = match self {
            Self::Unit => (None, None),
            Self::Named(fields) => (Some(fields), None),
            Self::Tuple(of) => (None, Some(of)),
        };
        named
            .into_iter()
            .flatten()
            .map(|field| &field.schema)
            .chain(tuple.into_iter().flatten())
    }
}

impl Schema {
    fn is_unit(&self) -> bool {
        *self == Self::Unit
    }

    /// Whether some value is written as `null`, so that an option of it needs something else for `None`.
    pub(crate) fn may_be_null(&self) -> bool {
        matches!(self, Self::Unit | Self::Option(_))
    }
}

/// As in `option<vec<Point>>`.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Unit => "unit",
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Address => "address",
            Self::Ref(name) => name,
            Self::FixedBytes(len) => return write!(f, "bytes<{len}>"),
            Self::Option(of) => return write!(f, "option<{of}>"),
            Self::Vec(of) => return write!(f, "vec<{of}>"),
            Self::Set(of) => return write!(f, "set<{of}>"),
            Self::Array { of, len } => return write!(f, "array<{of}, {len}>"),
            Self::Map(key, value) => return write!(f, "map<{key}, {value}>"),
            Self::Tuple(of) => {
                f.write_str("(")?;
                list(f, of)?;
                ")"
            }
        };
        f.write_str(name)
    }
}

/// As in `amount: u128`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.schema)
    }
}

/// As in `transfer(to: address, amount: u128) -> bool`.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        list(f, &self.args)?;
        f.write_str(")")?;
        if !self.result.is_unit() {
            write!(f, " -> {}", self.result)?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(f, "{comma}{item}")?;
    }
    Ok(())
}
