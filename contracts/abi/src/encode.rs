//! JSON to borsh.

use crate::{Contract, EncodeError, Field, Fields, MAX_DEPTH, Schema, Type};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::{Display, Write};
use std::str::FromStr;

impl Contract {
    /// The input of a call: arguments as an object by their names, or as an array in their order; `null` will do when
    /// there are none.
    ///
    /// # Errors
    ///
    /// When the contract has no such method, and when what is given is not its arguments: says what and where.
    pub fn encode_args(&self, method: &str, args: &Value) -> Result<Vec<u8>, EncodeError> {
        self.encode_args_with(method, args, &|_| None)
    }

    /// As [`Contract::encode_args`], where addresses may also be written as `names` that are known.
    ///
    /// # Errors
    ///
    /// As [`Contract::encode_args`].
    pub fn encode_args_with(
        &self,
        method: &str,
        args: &Value,
        names: &dyn Fn(&str) -> Option<[u8; 32]>,
    ) -> Result<Vec<u8>, EncodeError> {
        let method = self
            .method(method)
            .ok_or_else(|| EncodeError::NoMethod(method.to_owned()))?;
        let mut encoder = Encoder::new(self, names);
        match args {
            Value::Null if method.args.is_empty() => {}
            Value::Object(object) => encoder.named(&method.args, object)?,
            Value::Array(array) => {
                let schemas: Vec<_> = method.args.iter().map(|arg| &arg.schema).collect();
                if array.len() != schemas.len() {
                    return Err(encoder.mismatch(method, format!("{} values", array.len())));
                }
                encoder.all(&schemas, array)?;
            }
            other => {
                let expected = format!("the arguments of {method}, as an object or array");
                return Err(encoder.mismatch(expected, found(other)));
            }
        }
        Ok(encoder.bytes)
    }

    /// The borsh of a value of any type of the contract.
    ///
    /// # Errors
    ///
    /// When what is given is none: says what and where.
    pub fn encode(&self, schema: &Schema, value: &Value) -> Result<Vec<u8>, EncodeError> {
        let mut encoder = Encoder::new(self, &|_| None);
        encoder.value(schema, value)?;
        Ok(encoder.bytes)
    }
}

struct Encoder<'a> {
    contract: &'a Contract,
    /// What addresses may be called.
    names: &'a dyn Fn(&str) -> Option<[u8; 32]>,
    bytes: Vec<u8>,
    /// The steps to the value at hand.
    path: Vec<Step<'a>>,
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Encoder<'a> {
    fn new(contract: &'a Contract, names: &'a dyn Fn(&str) -> Option<[u8; 32]>) -> Self {
        Self {
            contract,
            names,
            bytes: Vec::new(),
            path: Vec::new(),
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) if path.is_empty() => path.push_str(name),
                Step::Name(name) => {
                    path.push('.');
                    path.push_str(name);
                }
                Step::Index(index) => {
                    let _ = write!(path, "[{index}]");
                }
            }
        }
        if path.is_empty() {
            path.push_str("arguments");
        }
        path
    }

    fn mismatch(&self, expected: impl Display, found: impl Into<String>) -> EncodeError {
        EncodeError::Mismatch {
            path: self.path(),
            expected: expected.to_string(),
            found: found.into(),
        }
    }

    fn at(&mut self, step: Step<'a>, schema: &'a Schema, value: &Value) -> Result<(), EncodeError> {
        self.path.push(step);
        self.value(schema, value)?;
        self.path.pop();
        Ok(())
    }

    fn all(&mut self, schemas: &[&'a Schema], values: &[Value]) -> Result<(), EncodeError> {
        schemas
            .iter()
            .zip(values)
            .enumerate()
            .try_for_each(|(i, (schema, value))| self.at(Step::Index(i), schema, value))
    }

    fn named(
        &mut self,
        fields: &'a [Field],
        object: &Map<String, Value>,
    ) -> Result<(), EncodeError> {
        if let Some(unknown) = object
            .keys()
            .find(|key| !fields.iter().any(|field| field.name == **key))
        {
            let names: Vec<_> = fields
                .iter()
                .map(|field| format!("`{}`", field.name))
                .collect();
            let expected = match names.len() {
                0 => "no fields".to_owned(),
                1 => names.concat(),
                _ => format!("one of {}", names.join(", ")),
            };
            return Err(self.mismatch(expected, format!("`{}`", shortened(unknown))));
        }
        for field in fields {
            match object.get(&field.name) {
                Some(value) => self.at(Step::Name(&field.name), &field.schema, value)?,
                None if matches!(field.schema, Schema::Option(_)) => self.bytes.push(0),
                None => {
                    self.path.push(Step::Name(&field.name));
                    return Err(self.mismatch(&field.schema, "nothing"));
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, schema: &'a Schema, value: &Value) -> Result<(), EncodeError> {
        if self.path.len() > MAX_DEPTH {
            return Err(EncodeError::TooDeep { path: self.path() });
        }
        let mismatch = |encoder: &Self| Err(encoder.mismatch(schema, found(value)));
        match (schema, value) {
            (Schema::Unit, Value::Null) => {}
            (Schema::Bool, Value::Bool(value)) => self.bytes.push(u8::from(*value)),
            (Schema::U8, _) => self.integer::<u8, 1>(value, u8::to_le_bytes)?,
            (Schema::U16, _) => self.integer::<u16, 2>(value, u16::to_le_bytes)?,
            (Schema::U32, _) => self.integer::<u32, 4>(value, u32::to_le_bytes)?,
            (Schema::U64, _) => self.integer::<u64, 8>(value, u64::to_le_bytes)?,
            (Schema::U128, _) => self.integer::<u128, 16>(value, u128::to_le_bytes)?,
            (Schema::I8, _) => self.integer::<i8, 1>(value, i8::to_le_bytes)?,
            (Schema::I16, _) => self.integer::<i16, 2>(value, i16::to_le_bytes)?,
            (Schema::I32, _) => self.integer::<i32, 4>(value, i32::to_le_bytes)?,
            (Schema::I64, _) => self.integer::<i64, 8>(value, i64::to_le_bytes)?,
            (Schema::I128, _) => self.integer::<i128, 16>(value, i128::to_le_bytes)?,
            (Schema::String, Value::String(text)) => {
                self.len(text.len())?;
                self.bytes.extend(text.as_bytes());
            }
            (Schema::Bytes, Value::String(text)) => {
                let bytes = self.hexadecimal(text, None)?;
                self.len(bytes.len())?;
                self.bytes.extend(bytes);
            }
            (Schema::FixedBytes(len), Value::String(text)) => {
                let bytes = self.hexadecimal(text, Some(*len))?;
                self.bytes.extend(bytes);
            }
            (Schema::Address, Value::String(text)) => match self.hexadecimal(text, Some(32)) {
                Ok(bytes) => self.bytes.extend(bytes),
                Err(error) => self.bytes.extend((self.names)(text).ok_or(error)?),
            },
            (Schema::Option(_), Value::Null) => self.bytes.push(0),
            (Schema::Option(of), _) if of.may_be_null() => match value {
                Value::Array(array) if array.len() == 1 => {
                    self.bytes.push(1);
                    self.all(&[of], array)?;
                }
                _ => {
                    let expected = format!("null, or [value] with a {of}");
                    return Err(self.mismatch(expected, found(value)));
                }
            },
            (Schema::Option(of), _) => {
                self.bytes.push(1);
                self.value(of, value)?;
            }
            (Schema::Vec(of), Value::Array(array)) => {
                self.len(array.len())?;
                for (i, value) in array.iter().enumerate() {
                    self.at(Step::Index(i), of, value)?;
                }
            }
            (Schema::Array { of, len }, Value::Array(array)) => {
                if array.len() != *len as usize {
                    return Err(self.mismatch(schema, format!("{} values", array.len())));
                }
                for (i, value) in array.iter().enumerate() {
                    self.at(Step::Index(i), of, value)?;
                }
            }
            (Schema::Tuple(of), Value::Array(_)) => self.tuple(schema, of, value)?,
            (Schema::Set(of), Value::Array(array)) => {
                self.len(array.len())?;
                let mut seen = BTreeSet::new();
                for (i, value) in array.iter().enumerate() {
                    let start = self.bytes.len();
                    self.at(Step::Index(i), of, value)?;
                    self.once(&mut seen, start, i)?;
                }
            }
            (Schema::Map(key, of), Value::Array(array)) => {
                self.len(array.len())?;
                let mut seen = BTreeSet::new();
                for (i, pair) in array.iter().enumerate() {
                    self.path.push(Step::Index(i));
                    let Some([its_key, its_value]) = pair.as_array().map(Vec::as_slice) else {
                        return Err(self.mismatch("[key, value]", found(pair)));
                    };
                    let start = self.bytes.len();
                    self.at(Step::Index(0), key, its_key)?;
                    self.path.pop();
                    self.once(&mut seen, start, i)?;
                    self.path.push(Step::Index(i));
                    self.at(Step::Index(1), of, its_value)?;
                    self.path.pop();
                }
            }
            (Schema::Map(key, of), Value::Object(object)) => {
                self.len(object.len())?;
                let mut seen = BTreeSet::new();
                for (i, (its_key, its_value)) in object.iter().enumerate() {
                    let start = self.bytes.len();
                    self.at(Step::Index(i), key, &Value::String(its_key.clone()))?;
                    // "1" and "01" are different strings.
                    self.once(&mut seen, start, i)?;
                    self.at(Step::Index(i), of, its_value)?;
                }
            }
            (Schema::Ref(name), _) => {
                let contract = self.contract;
                match contract.types.get(name) {
                    Some(Type::Struct(fields)) => self.fields(schema, fields, value)?,
                    Some(Type::Enum { variants }) => {
                        let (chosen, fields) = match value {
                            Value::String(name) => (name, &Value::Null),
                            Value::Object(object) if object.len() == 1 => {
                                match object.iter().next() {
                                    Some((name, fields)) => (name, fields),
                                    None => return mismatch(self),
                                }
                            }
                            _ => {
                                let expected =
                                    format!("a {name}: \"Variant\" or {{\"Variant\": fields}}");
                                return Err(self.mismatch(expected, found(value)));
                            }
                        };
                        let Some((tag, variant)) = (0..=u8::MAX)
                            .zip(variants)
                            .find(|(_, variant)| variant.name == *chosen)
                        else {
                            let names: Vec<_> = variants
                                .iter()
                                .map(|variant| variant.name.as_str())
                                .collect();
                            let expected = format!("a {name}: one of {}", names.join(", "));
                            return Err(self.mismatch(expected, format!("{:?}", shortened(chosen))));
                        };
                        self.bytes.push(tag);
                        self.path.push(Step::Name(&variant.name));
                        self.fields(schema, &variant.fields, fields)?;
                        self.path.pop();
                    }
                    None => return mismatch(self),
                }
            }
            _ => return mismatch(self),
        }
        Ok(())
    }

    /// The fields of a struct or variant.
    fn fields(
        &mut self,
        schema: &'a Schema,
        fields: &'a Fields,
        value: &Value,
    ) -> Result<(), EncodeError> {
        match (fields, value) {
            (Fields::Unit, Value::Null) => Ok(()),
            (Fields::Unit, Value::Object(object)) => self.named(&[], object),
            (Fields::Named(fields), Value::Object(object)) => self.named(fields, object),
            (Fields::Tuple(of), Value::Array(_)) => self.tuple(schema, of, value),
            (Fields::Unit, _) => Err(self.mismatch("no fields", found(value))),
            (Fields::Named(_), _) => {
                let expected = format!("an object with the fields of {schema}");
                Err(self.mismatch(expected, found(value)))
            }
            (Fields::Tuple(_), _) => {
                let expected = format!("an array with the fields of {schema}");
                Err(self.mismatch(expected, found(value)))
            }
        }
    }

    fn tuple(
        &mut self,
        schema: &'a Schema,
        of: &'a [Schema],
        value: &Value,
    ) -> Result<(), EncodeError> {
        match value.as_array() {
            Some(array) if array.len() == of.len() => {
                self.all(&of.iter().collect::<Vec<_>>(), array)
            }
            Some(array) => {
                let expected = format!("{} values for {schema}", of.len());
                Err(self.mismatch(expected, format!("{}", array.len())))
            }
            None => Err(self.mismatch(schema, found(value))),
        }
    }

    /// Refuses what was encoded from `start` on if it was there before.
    fn once(
        &mut self,
        seen: &mut BTreeSet<Vec<u8>>,
        start: usize,
        index: usize,
    ) -> Result<(), EncodeError> {
        let encoded = self.bytes.get(start..).unwrap_or_default();
        if seen.insert(encoded.to_vec()) {
            return Ok(());
        }
        self.path.push(Step::Index(index));
        Err(self.mismatch("something not there before", "it again"))
    }

    fn len(&mut self, len: usize) -> Result<(), EncodeError> {
        match u32::try_from(len) {
            Ok(len) => {
                self.bytes.extend(len.to_le_bytes());
                Ok(())
            }
            Err(_) => Err(self.mismatch("a length below 2^32", len.to_string())),
        }
    }

    fn integer<T: FromStr, const N: usize>(
        &mut self,
        value: &Value,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<(), EncodeError> {
        let digits = match value {
            // Without a fraction or an exponent, that is: those are floats already.
            Value::Number(number) if !number.is_f64() => number.to_string(),
            Value::String(text) => text.clone(),
            _ => String::new(),
        };
        // What Rust takes for a number may begin with `+`.
        let plain = digits.strip_prefix('-').unwrap_or(&digits);
        let parsed = plain
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten();
        match parsed {
            Some(number) => {
                self.bytes.extend(bytes(number));
                Ok(())
            }
            None => {
                let bits = N * 8;
                let signed = "-1".parse::<T>().is_ok();
                let kind = if signed { 'i' } else { 'u' };
                let string = if bits > 32 {
                    " or string of digits"
                } else {
                    ""
                };
                let expected = format!("a {kind}{bits} as a number{string}");
                Err(self.mismatch(expected, found(value)))
            }
        }
    }

    fn hexadecimal(&self, text: &str, len: Option<u32>) -> Result<Vec<u8>, EncodeError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let decoded = hex::decode(digits).ok();
        match (decoded, len) {
            (Some(bytes), None) => Ok(bytes),
            (Some(bytes), Some(len)) if bytes.len() == len as usize => Ok(bytes),
            (Some(bytes), Some(len)) => {
                let expected = format!("{len} bytes in hexadecimal");
                Err(self.mismatch(expected, format!("{} bytes", bytes.len())))
            }
            (None, _) => {
                let expected = match len {
                    Some(len) => format!("{len} bytes in hexadecimal"),
                    None => "bytes in hexadecimal".to_owned(),
                };
                Err(self.mismatch(expected, format!("{:?}", shortened(text))))
            }
        }
    }
}

/// What a value is, for people.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{:?}", shortened(text)),
        Value::Array(array) => format!("an array of {}", array.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Enough of a text to know it again.
fn shortened(text: &str) -> String {
    const ENOUGH: usize = 80;
    match text.char_indices().nth(ENOUGH) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
