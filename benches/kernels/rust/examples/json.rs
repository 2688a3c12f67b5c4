//! Parsing JSON into a tree, by recursive descent.
#![no_std]
extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use slackline_kernels::{SEED, kernel, mix, random_next};

enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, token: &[u8]) -> Option<()> {
        self.peek()?;
        self.bytes[self.at..]
            .starts_with(token)
            .then(|| self.at += token.len())
    }

    fn value(&mut self) -> Option<Json> {
        match self.peek()? {
            b'n' => self.eat(b"null").map(|()| Json::Null),
            b't' => self.eat(b"true").map(|()| Json::Bool(true)),
            b'f' => self.eat(b"false").map(|()| Json::Bool(false)),
            b'"' => self.string().map(Json::String),
            b'[' => self.list(b']', Parser::value).map(Json::Array),
            b'{' => self
                .list(b'}', |parser| {
                    let key = parser.string()?;
                    parser.eat(b":")?;
                    Some((key, parser.value()?))
                })
                .map(Json::Object),
            _ => self.number().map(Json::Number),
        }
    }

    fn list<T>(&mut self, end: u8, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.at += 1;
        let mut items = Vec::new();
        if self.peek()? == end {
            self.at += 1;
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == end => {
                    self.at += 1;
                    return Some(items);
                }
                _ => return None,
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        self.eat(b"\"")?;
        let mut text = String::new();
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return Some(text),
                b'\\' => {
                    let escaped = *self.bytes.get(self.at)?;
                    self.at += 1;
                    text.push(if escaped == b'n' {
                        '\n'
                    } else {
                        escaped.into()
                    });
                }
                _ => text.push(byte.into()),
            }
        }
    }

    fn number(&mut self) -> Option<f64> {
        let start = self.at;
        while matches!(
            self.bytes.get(self.at),
            Some(b'0'..=b'9' | b'-' | b'.' | b'e')
        ) {
            self.at += 1;
        }
        core::str::from_utf8(&self.bytes[start..self.at])
            .ok()?
            .parse()
            .ok()
    }
}

fn sum_of(json: &Json, sum: u64) -> u64 {
    match json {
        Json::Null => mix(sum, 1),
        Json::Bool(value) => mix(sum, u64::from(*value)),
        Json::Number(value) => mix(sum, value.to_bits()),
        Json::String(text) => text.bytes().fold(sum, |sum, byte| mix(sum, byte.into())),
        Json::Array(items) => items.iter().fold(sum, |sum, item| sum_of(item, sum)),
        Json::Object(fields) => fields.iter().fold(sum, |sum, (key, value)| {
            sum_of(value, mix(sum, key.len() as u64))
        }),
    }
}

fn json() -> u64 {
    let mut random = SEED;
    let mut text = String::from("[");
    for id in 0..700 {
        let n = random_next(&mut random);
        let _ = write!(
            text,
            r#"{{"id": {id}, "name": "user \"{}\"", "score": {}.{}, "tags": ["a", "bc", null], "active": {}, "at": {{"x": {}, "y": -{}}}}},"#,
            n % 1000,
            n % 97,
            n % 89,
            n % 2 == 0,
            n % 640,
            n % 480
        );
        text.push('\n');
    }
    text.push_str("[]]");
    let mut parser = Parser {
        bytes: text.as_bytes(),
        at: 0,
    };
    parser.value().map_or(0, |json| sum_of(&json, 0))
}

kernel!(json);
