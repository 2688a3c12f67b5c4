//! Borsh to JSON.

use crate::{Contract, DecodeError, Fields, MAX_DEPTH, MAX_VALUES, Schema, Type};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// What a call has reverted with.
#[derive(Clone, Debug, PartialEq)]
pub enum Revert {
    /// An error that the method returns.
    Error {
        /// The error.
        value: Value,
        /// What it means, for people; may be empty.
        doc: String,
    },
    /// Text: of a panic, or of the SDK.
    Text(String),
    /// Something else.
    Bytes(Vec<u8>),
}

/// For people: as in `{"TooLow":{"least":"5"}} (Somebody has bid that much already.)`, the text, or the bytes in
/// hexadecimal.
impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { value, doc } => {
                match value {
                    Value::String(name) => f.write_str(name)?,
                    value => write!(f, "{value}")?,
                }
                match doc.as_str() {
                    "" => Ok(()),
                    doc => write!(f, " ({doc})"),
                }
            }
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => write!(f, "0x{}", hex::encode(bytes)),
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedEvent {
    /// Its name.
    pub name: String,
    /// Its fields: an object.
    pub fields: Value,
}

impl Contract {
    /// What a method has returned.
    ///
    /// # Errors
    ///
    /// When the contract has no such method, and when the bytes are not its result.
    pub fn decode_result(&self, method: &str, data: &[u8]) -> Result<Value, DecodeError> {
        let method = self
            .method(method)
            .ok_or_else(|| DecodeError::NoMethod(method.to_owned()))?;
        self.decode(&method.result, data)
    }

    /// The arguments that the input of a call holds: an object.
    ///
    /// # Errors
    ///
    /// When the contract has no such method, and when the bytes are not its arguments.
    pub fn decode_args(&self, method: &str, input: &[u8]) -> Result<Value, DecodeError> {
        let method = self
            .method(method)
            .ok_or_else(|| DecodeError::NoMethod(method.to_owned()))?;
        let mut decoder = Decoder::new(self, input);
        let mut args = Map::new();
        for arg in &method.args {
            args.insert(arg.name.clone(), decoder.value(&arg.schema, 0)?);
        }
        decoder.finish()?;
        Ok(Value::Object(args))
    }

    /// What a method has reverted with. A contract may pass on what another has reverted with, in which case this is as
    /// good as a guess.
    pub fn decode_error(&self, method: &str, data: &[u8]) -> Revert {
        let error = self.method(method).and_then(|method| method.error.as_ref());
        // The number of an error's variant is below that of any printable character.
        let printable = data.first().is_none_or(|first| *first >= b' ');
        match (error, str::from_utf8(data)) {
            (_, Ok(text)) if printable => Revert::Text(text.to_owned()),
            (Some(error), _) => match self.decode(error, data) {
                Ok(value) => Revert::Error {
                    doc: self.doc_of(error, data),
                    value,
                },
                Err(_) => Revert::Bytes(data.to_vec()),
            },
            _ => Revert::Bytes(data.to_vec()),
        }
    }

    /// What the variant of an enum that begins these bytes means.
    fn doc_of(&self, schema: &Schema, data: &[u8]) -> String {
        let Schema::Ref(name) = schema else {
            return String::new();
        };
        match (self.types.get(name), data.first()) {
            (Some(Type::Enum { variants }), Some(tag)) => variants
                .get(usize::from(*tag))
                .map(|variant| variant.doc.clone())
                .unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// An event that the contract has emitted.
    ///
    /// # Errors
    ///
    /// [`DecodeError::NoEvent`] when the contract's description has none with this first topic and so many others, else
    /// as what its fields are not.
    pub fn decode_event(
        &self,
        topics: &[[u8; 32]],
        data: &[u8],
    ) -> Result<DecodedEvent, DecodeError> {
        let (first, rest) = topics.split_first().ok_or(DecodeError::NoEvent)?;
        let event = self
            .events
            .iter()
            .find(|event| {
                event.topic == *first
                    && event.fields.iter().filter(|field| field.topic).count() == rest.len()
            })
            .ok_or(DecodeError::NoEvent)?;
        let mut topics = rest.iter();
        let mut decoder = Decoder::new(self, data);
        let mut fields = Map::new();
        for field in &event.fields {
            let topic = if field.topic { topics.next() } else { None };
            let value = match topic {
                Some(topic) if self.fits_topic(&field.schema) => {
                    let mut decoder = Decoder::new(self, topic);
                    let value = decoder.value(&field.schema, 0)?;
                    if decoder.rest.iter().any(|byte| *byte != 0) {
                        return Err(DecodeError::Trailing(decoder.rest.len()));
                    }
                    value
                }
                _ => decoder.value(&field.schema, 0)?,
            };
            fields.insert(field.name.clone(), value);
        }
        decoder.finish()?;
        Ok(DecodedEvent {
            name: event.name.clone(),
            fields: Value::Object(fields),
        })
    }

    /// A value of any type of the contract.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one.
    pub fn decode(&self, schema: &Schema, data: &[u8]) -> Result<Value, DecodeError> {
        let mut decoder = Decoder::new(self, data);
        let value = decoder.value(schema, 0)?;
        decoder.finish()?;
        Ok(value)
    }
}

struct Decoder<'a> {
    contract: &'a Contract,
    rest: &'a [u8],
    /// How many more values there may be.
    values: usize,
}

impl<'a> Decoder<'a> {
    fn new(contract: &'a Contract, data: &'a [u8]) -> Self {
        Self {
            contract,
            rest: data,
            values: MAX_VALUES,
        }
    }

    fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            len => Err(DecodeError::Trailing(len)),
        }
    }

    fn value(&mut self, schema: &Schema, depth: usize) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.values = self.values.checked_sub(1).ok_or(DecodeError::TooMany)?;
        let depth = depth + 1;
        let contract = self.contract;
        Ok(match schema {
            Schema::Unit => Value::Null,
            Schema::Bool => Value::Bool(self.bool(schema)?),
            Schema::U8 => u8::from_le_bytes(self.array(schema)?).into(),
            Schema::U16 => u16::from_le_bytes(self.array(schema)?).into(),
            Schema::U32 => u32::from_le_bytes(self.array(schema)?).into(),
            Schema::I8 => i8::from_le_bytes(self.array(schema)?).into(),
            Schema::I16 => i16::from_le_bytes(self.array(schema)?).into(),
            Schema::I32 => i32::from_le_bytes(self.array(schema)?).into(),
            Schema::U64 => u64::from_le_bytes(self.array(schema)?).to_string().into(),
            Schema::I64 => i64::from_le_bytes(self.array(schema)?).to_string().into(),
            Schema::U128 => u128::from_le_bytes(self.array(schema)?).to_string().into(),
            Schema::I128 => i128::from_le_bytes(self.array(schema)?).to_string().into(),
            Schema::String => {
                let len = self.len(schema)?;
                let text = str::from_utf8(self.take(len, schema)?)
                    .map_err(|_| DecodeError::Invalid(schema.to_string()))?;
                text.into()
            }
            Schema::Bytes => {
                let len = self.len(schema)?;
                format!("0x{}", hex::encode(self.take(len, schema)?)).into()
            }
            Schema::FixedBytes(len) => {
                format!("0x{}", hex::encode(self.take(*len as usize, schema)?)).into()
            }
            Schema::Address => hex::encode(self.take(32, schema)?).into(),
            Schema::Option(of) => match self.bool(schema)? {
                false => Value::Null,
                true if of.may_be_null() => Value::Array(vec![self.value(of, depth)?]),
                true => self.value(of, depth)?,
            },
            Schema::Vec(of) => {
                let len = self.len(schema)?;
                self.values(of, len, depth)?
            }
            Schema::Array { of, len } => self.values(of, *len as usize, depth)?,
            Schema::Tuple(of) => self.tuple(of, depth)?,
            Schema::Set(of) => {
                let mut seen = BTreeSet::new();
                let mut values = Vec::new();
                for _ in 0..self.len(schema)? {
                    values.push(self.once(&mut seen, of, depth)?);
                }
                Value::Array(values)
            }
            Schema::Map(key, of) => {
                let mut seen = BTreeSet::new();
                let mut pairs = Vec::new();
                for _ in 0..self.len(schema)? {
                    let key = self.once(&mut seen, key, depth)?;
                    pairs.push(Value::Array(vec![key, self.value(of, depth)?]));
                }
                Value::Array(pairs)
            }
            Schema::Ref(name) => match contract.types.get(name) {
                None => return Err(DecodeError::Invalid(name.clone())),
                Some(Type::Struct(fields)) => match self.fields(fields, depth)? {
                    // An option of it is told from `None`.
                    Value::Null => Value::Object(Map::new()),
                    fields => fields,
                },
                Some(Type::Enum { variants }) => {
                    let [tag] = self.array(schema)?;
                    let variant = variants
                        .get(usize::from(tag))
                        .ok_or_else(|| DecodeError::Invalid(name.clone()))?;
                    match self.fields(&variant.fields, depth)? {
                        Value::Null => variant.name.clone().into(),
                        fields => Value::Object(Map::from_iter([(variant.name.clone(), fields)])),
                    }
                }
            },
        })
    }

    /// `null` when there are none to have.
    fn fields(&mut self, fields: &Fields, depth: usize) -> Result<Value, DecodeError> {
        match fields {
            Fields::Unit => Ok(Value::Null),
            Fields::Tuple(of) => self.tuple(of, depth),
            Fields::Named(fields) => {
                let mut object = Map::new();
                for field in fields {
                    object.insert(field.name.clone(), self.value(&field.schema, depth)?);
                }
                Ok(Value::Object(object))
            }
        }
    }

    fn values(&mut self, of: &Schema, count: usize, depth: usize) -> Result<Value, DecodeError> {
        // Not with the capacity: the number may be a lie.
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(of, depth)?);
        }
        Ok(Value::Array(values))
    }

    fn tuple(&mut self, of: &[Schema], depth: usize) -> Result<Value, DecodeError> {
        of.iter()
            .map(|of| self.value(of, depth))
            .collect::<Result<_, _>>()
            .map(Value::Array)
    }

    /// A value whose bytes have not been seen.
    fn once(
        &mut self,
        seen: &mut BTreeSet<&'a [u8]>,
        of: &Schema,
        depth: usize,
    ) -> Result<Value, DecodeError> {
        let before = self.rest;
        let value = self.value(of, depth)?;
        let len = before.len().saturating_sub(self.rest.len());
        let bytes = before.get(..len).unwrap_or_default();
        if !seen.insert(bytes) {
            return Err(DecodeError::Duplicate);
        }
        Ok(value)
    }

    fn take(&mut self, len: usize, of: &Schema) -> Result<&'a [u8], DecodeError> {
        let (front, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| DecodeError::Truncated(of.to_string()))?;
        self.rest = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self, of: &Schema) -> Result<[u8; N], DecodeError> {
        let (front, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| DecodeError::Truncated(of.to_string()))?;
        self.rest = rest;
        Ok(*front)
    }

    fn bool(&mut self, of: &Schema) -> Result<bool, DecodeError> {
        match self.array(of)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(DecodeError::Invalid(of.to_string())),
        }
    }

    fn len(&mut self, of: &Schema) -> Result<usize, DecodeError> {
        let len = u32::from_le_bytes(self.array(of)?);
        usize::try_from(len).map_err(|_| DecodeError::Truncated(of.to_string()))
    }
}
