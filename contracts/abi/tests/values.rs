//! JSON to borsh and back: by examples against borsh itself, and for types and values at random.

use borsh::BorshSerialize;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use slackline_abi::{Contract, DecodeError, EncodeError, Fields, Revert, Schema, Type};
use std::collections::{BTreeMap, BTreeSet};

fn contract() -> Contract {
    let json = json!({
        "version": 1,
        "name": "shop",
        "methods": [
            {"name": "order", "args": [
                {"name": "item", "type": "string"},
                {"name": "count", "type": "u128"},
                {"name": "to", "type": {"option": "address"}},
            ], "result": {"vec": {"ref": "Line"}}, "error": {"ref": "Error"}, "payable": true},
            {"name": "close"},
        ],
        "events": [
            {"name": "Sold", "topic": "01".repeat(32), "fields": [
                {"name": "to", "type": "address", "topic": true},
                {"name": "item", "type": "string", "topic": true},
                {"name": "price", "type": "u64"},
                {"name": "side", "type": {"ref": "Side"}, "topic": true},
            ]},
        ],
        "types": {
            "Line": {"kind": "struct", "fields": [
                {"name": "item", "type": "string"}, {"name": "price", "type": "u64"},
            ]},
            "Side": {"kind": "enum", "variants": [{"name": "Buy"}, {"name": "Sell"}]},
            "Pair": {"kind": "struct", "tuple": ["u8", "bool"]},
            "Nothing": {"kind": "struct"},
            "Error": {"kind": "enum", "variants": [
                {"name": "Closed", "doc": "Come back tomorrow."},
                {"name": "Short", "fields": [{"name": "left", "type": "u32"}]},
                {"name": "Of", "tuple": [{"ref": "Side"}, "i8"]},
            ]},
            // A list of itself, as no contract of the SDK has it.
            "Tree": {"kind": "struct", "tuple": [{"vec": {"ref": "Tree"}}]},
            "Endless": {"kind": "struct", "tuple": [{"ref": "Endless"}]},
        },
    });
    Contract::from_json(json.to_string().as_bytes()).unwrap()
}

fn schema(json: Value) -> Schema {
    serde_json::from_value(json).unwrap()
}

/// Both ways, against what borsh makes of it.
#[track_caller]
fn same(ty: Value, json: Value, value: impl BorshSerialize) {
    let (contract, ty, bytes) = (contract(), schema(ty), borsh::to_vec(&value).unwrap());
    assert_eq!(contract.encode(&ty, &json).as_ref(), Ok(&bytes), "{ty}");
    assert_eq!(contract.decode(&ty, &bytes), Ok(json), "{ty}");
}

#[test]
fn values_are_as_borsh_has_them() {
    same(json!("unit"), json!(null), ());
    same(json!("bool"), json!(true), true);
    same(json!("u8"), json!(255), 255u8);
    same(json!("u16"), json!(65535), 65535u16);
    same(json!("u32"), json!(u32::MAX), u32::MAX);
    same(json!("u64"), json!(u64::MAX.to_string()), u64::MAX);
    same(json!("u128"), json!(u128::MAX.to_string()), u128::MAX);
    same(json!("i8"), json!(-128), -128i8);
    same(json!("i16"), json!(-2), -2i16);
    same(json!("i32"), json!(i32::MIN), i32::MIN);
    same(json!("i64"), json!(i64::MIN.to_string()), i64::MIN);
    same(json!("i128"), json!(i128::MIN.to_string()), i128::MIN);
    same(json!("string"), json!("höhö"), "höhö");
    same(json!("bytes"), json!("0x0aff"), vec![10u8, 255]);
    same(json!({"fixed_bytes": 3}), json!("0x010203"), [1u8, 2, 3]);
    same(json!("address"), json!("07".repeat(32)), [7u8; 32]);
    same(json!({"option": "u8"}), json!(null), None::<u8>);
    same(json!({"option": "u8"}), json!(5), Some(5u8));
    same(json!({"vec": "u16"}), json!([1, 2]), vec![1u16, 2]);
    let array = json!({"array": {"of": "u16", "len": 2}});
    same(array, json!([1, 2]), [1u16, 2]);
    same(
        json!({"tuple": ["u8", "string"]}),
        json!([1, "a"]),
        (1u8, "a"),
    );
    same(
        json!({"set": "u16"}),
        json!([1, 2]),
        BTreeSet::from([1u16, 2]),
    );
    let map = BTreeMap::from([("a", 1u8), ("b", 2)]);
    same(
        json!({"map": ["string", "u8"]}),
        json!([["a", 1], ["b", 2]]),
        map,
    );
}

#[test]
fn types_of_the_contract_are_as_borsh_has_them() {
    #[derive(BorshSerialize)]
    struct Line {
        item: String,
        price: u64,
    }
    #[derive(BorshSerialize)]
    enum Side {
        #[allow(dead_code)]
        Buy,
        Sell,
    }
    #[derive(BorshSerialize)]
    enum Error {
        Closed,
        Short { left: u32 },
        Of(Side, i8),
    }
    let line = Line {
        item: "tea".into(),
        price: 3,
    };
    same(
        json!({"ref": "Line"}),
        json!({"item": "tea", "price": "3"}),
        line,
    );
    same(json!({"ref": "Pair"}), json!([1, true]), (1u8, true));
    same(json!({"ref": "Nothing"}), json!({}), ());
    same(json!({"ref": "Side"}), json!("Sell"), Side::Sell);
    same(json!({"ref": "Error"}), json!("Closed"), Error::Closed);
    same(
        json!({"ref": "Error"}),
        json!({"Short": {"left": 4}}),
        Error::Short { left: 4 },
    );
    same(
        json!({"ref": "Error"}),
        json!({"Of": ["Sell", -1]}),
        Error::Of(Side::Sell, -1),
    );
}

#[test]
fn options_of_what_may_be_null_are_told_apart() {
    let nested = json!({"option": {"option": "u8"}});
    same(nested.clone(), json!(null), None::<Option<u8>>);
    same(nested.clone(), json!([null]), Some(None::<u8>));
    same(nested, json!([5]), Some(Some(5u8)));
    same(json!({"option": "unit"}), json!([null]), Some(()));
    same(json!({"option": {"ref": "Nothing"}}), json!({}), Some(()));
}

#[test]
fn other_ways_to_write_values_are_understood() {
    let contract = contract();
    let encode = |ty, value| contract.encode(&schema(ty), &value).unwrap();
    assert_eq!(encode(json!("u64"), json!(7)), 7u64.to_le_bytes());
    assert_eq!(encode(json!("u128"), json!(7)), 7u128.to_le_bytes());
    assert_eq!(encode(json!("i64"), json!(-7)), (-7i64).to_le_bytes());
    assert_eq!(encode(json!("u8"), json!("7")), [7]);
    assert_eq!(encode(json!({"fixed_bytes": 1}), json!("0a")), [10]);
    let address = format!("0x{}", "AB".repeat(32));
    assert_eq!(encode(json!("address"), json!(address)), [0xab; 32]);
    let map = BTreeMap::from([(1u32, 2u8), (10, 3)]);
    assert_eq!(
        encode(json!({"map": ["u32", "u8"]}), json!({"1": 2, "10": 3})),
        borsh::to_vec(&map).unwrap()
    );
}

#[test]
fn arguments_come_by_name_or_by_place() {
    let contract = contract();
    let bytes = borsh::to_vec(&("tea", 2u128, None::<[u8; 32]>)).unwrap();
    for args in [
        json!({"item": "tea", "count": 2, "to": null}),
        json!({"count": "2", "item": "tea"}),
        json!(["tea", "2", null]),
    ] {
        assert_eq!(
            contract.encode_args("order", &args).as_ref(),
            Ok(&bytes),
            "{args}"
        );
    }
    assert_eq!(
        contract.decode_args("order", &bytes),
        Ok(json!({"item": "tea", "count": "2", "to": null}))
    );
    for args in [json!(null), json!([]), json!({})] {
        assert_eq!(contract.encode_args("close", &args), Ok(vec![]));
    }
}

#[test]
fn errors_say_where_and_what() {
    let contract = contract();
    let args = |args| {
        contract
            .encode_args("order", &args)
            .unwrap_err()
            .to_string()
    };
    let value = |ty, value| {
        contract
            .encode(&schema(ty), &value)
            .unwrap_err()
            .to_string()
    };
    let listed = json!({"vec": {"ref": "Line"}});
    let line = |price| json!([{"item": "tea", "price": 1}, {"item": "tea", "price": price}]);
    for (error, says) in [
        (
            args(json!({"item": "tea"})),
            "count: expected u128, found nothing",
        ),
        (
            args(json!({"item": "tea", "count": "2", "tea": 1})),
            "arguments: expected one of `item`, `count`, `to`, found `tea`",
        ),
        (
            args(json!(["tea"])),
            "arguments: expected order(item: string, count: u128, to: option<address>) -> vec<Line>, found 1 values",
        ),
        (
            args(json!("tea")),
            "arguments: expected the arguments of order(item: string, count: u128, to: option<address>) -> vec<Line>, \
             as an object or array, found \"tea\"",
        ),
        (
            args(json!({"item": "tea", "count": -1})),
            "count: expected a u128 as a number or string of digits, found -1",
        ),
        (
            args(json!({"item": "tea", "count": "+1"})),
            "count: expected a u128 as a number or string of digits, found \"+1\"",
        ),
        (
            args(json!(["tea", 1, "0xab"])),
            "[2]: expected 32 bytes in hexadecimal, found 1 bytes",
        ),
        (
            args(json!(["tea", 1, "0xag"])),
            "[2]: expected 32 bytes in hexadecimal, found \"0xag\"",
        ),
        (
            value(listed.clone(), line(json!(1.5))),
            "[1].price: expected a u64 as a number or string of digits, found 1.5",
        ),
        (
            value(listed, line(json!("x".repeat(1000)))),
            &format!(
                "[1].price: expected a u64 as a number or string of digits, found \"{}…\"",
                "x".repeat(80)
            ),
        ),
        (
            value(json!("u8"), json!(256)),
            "arguments: expected a u8 as a number, found 256",
        ),
        (
            value(json!({"ref": "Side"}), json!("Hold")),
            "arguments: expected a Side: one of Buy, Sell, found \"Hold\"",
        ),
        (
            value(json!({"ref": "Error"}), json!({"Short": {"left": true}})),
            "Short.left: expected a u32 as a number, found true",
        ),
        (
            value(json!({"set": "u8"}), json!([1, 2, 1])),
            "[2]: expected something not there before, found it again",
        ),
        (
            value(json!({"map": ["u8", "u8"]}), json!({"1": 1, "01": 2})),
            "[1]: expected something not there before, found it again",
        ),
        (
            value(json!({"array": {"of": "u16", "len": 2}}), json!([1])),
            "arguments: expected array<u16, 2>, found 1 values",
        ),
    ] {
        assert_eq!(error, says);
    }
    assert_eq!(
        contract.encode_args("sell", &json!([])),
        Err(EncodeError::NoMethod("sell".into()))
    );
}

#[test]
fn what_a_call_reverts_with_is_its_error_or_text() {
    let contract = contract();
    let revert = |data: &[u8]| contract.decode_error("order", data);
    assert_eq!(
        revert(&[0]),
        Revert::Error {
            value: json!("Closed"),
            doc: "Come back tomorrow.".into()
        }
    );
    assert_eq!(
        revert(&[1, 4, 0, 0, 0]),
        Revert::Error {
            value: json!({"Short": {"left": 4}}),
            doc: String::new()
        }
    );
    assert_eq!(
        revert(b"malformed input"),
        Revert::Text("malformed input".into())
    );
    assert_eq!(revert(b""), Revert::Text(String::new()));
    assert_eq!(revert(&[1, 4]), Revert::Bytes(vec![1, 4]));
    assert_eq!(revert(&[255]), Revert::Bytes(vec![255]));
    assert_eq!(contract.decode_error("close", &[0]), Revert::Bytes(vec![0]));
    for (data, shown) in [
        (&[0][..], "Closed (Come back tomorrow.)"),
        (&[1, 4, 0, 0, 0], r#"{"Short":{"left":4}}"#),
        (b"out of tea", "out of tea"),
        (&[255, 0], "0xff00"),
    ] {
        assert_eq!(revert(data).to_string(), shown);
    }
}

#[test]
fn an_event_is_taken_from_topics_and_data() {
    let contract = contract();
    let mut side = [0; 32];
    side[0] = 1;
    // `item` may be longer than a topic: there only its hash, and the string is among the data.
    let topics = [[1; 32], [9; 32], [0xee; 32], side];
    let data = borsh::to_vec(&("tea", 5u64)).unwrap();
    let event = contract.decode_event(&topics, &data).unwrap();
    assert_eq!(event.name, "Sold");
    assert_eq!(
        event.fields,
        json!({"to": "09".repeat(32), "item": "tea", "price": "5", "side": "Sell"})
    );

    let no_event = Err(DecodeError::NoEvent);
    assert_eq!(contract.decode_event(&[], &data), no_event);
    assert_eq!(contract.decode_event(&[[2; 32]], &data), no_event);
    assert_eq!(contract.decode_event(&topics[..3], &data), no_event);
    assert!(contract.decode_event(&topics, &data[1..]).is_err());
    side[31] = 1;
    let topics = [[1; 32], [9; 32], [0xee; 32], side];
    assert_eq!(
        contract.decode_event(&topics, &data),
        Err(DecodeError::Trailing(31))
    );
}

#[test]
fn what_is_endless_has_an_end() {
    let contract = contract();
    let decode = |ty: Value, data: &[u8]| contract.decode(&schema(ty), data);
    assert_eq!(
        decode(json!({"ref": "Endless"}), &[]),
        Err(DecodeError::TooDeep)
    );
    let deep: Vec<u8> = [1u8, 0, 0, 0].repeat(1000);
    assert_eq!(
        decode(json!({"ref": "Tree"}), &deep),
        Err(DecodeError::TooDeep)
    );
    assert_eq!(
        decode(json!({"vec": "unit"}), &[255; 4]),
        Err(DecodeError::TooMany)
    );
    let mut nested = json!([]);
    for _ in 0..100 {
        nested = json!([[nested]]);
    }
    assert!(matches!(
        contract.encode(&schema(json!({"ref": "Tree"})), &nested),
        Err(EncodeError::TooDeep { .. })
    ));
    let mut wide = json!("unit");
    for _ in 0..30 {
        wide = json!({"tuple": [wide, wide]});
        if wide.to_string().len() > 10_000 {
            break;
        }
    }
    assert!(decode(wide, &[]).is_ok());
}

#[test]
fn types_that_double_at_each_step_take_no_time() {
    let mut types = Map::new();
    for i in 0..40 {
        let next = json!({"ref": format!("T{}", i + 1)});
        types.insert(
            format!("T{i}"),
            json!({"kind": "struct", "tuple": [next, next]}),
        );
    }
    types.insert("T40".into(), json!({"kind": "struct"}));
    let contract = json!({
        "version": 1, "name": "wide", "types": types,
        "events": [{"name": "E", "topic": "00".repeat(32), "fields": [
            {"name": "a", "type": {"ref": "T0"}, "topic": true}
        ]}],
    });
    let contract = Contract::from_json(contract.to_string().as_bytes()).unwrap();
    assert_eq!(
        contract.decode_event(&[[0; 32], [0; 32]], &[]),
        Err(DecodeError::TooMany)
    );
}

#[test]
fn malformed_descriptions_are_refused() {
    let refused = |json: Value| {
        Contract::from_json(json.to_string().as_bytes())
            .unwrap_err()
            .to_string()
    };
    for (json, says) in [
        (json!({"version": 2}), "is of version 2"),
        (json!({"name": "a"}), "missing field `version`"),
        (
            json!({"version": 1, "name": "a", "methods": [{"name": "m"}, {"name": "m"}]}),
            "`m` is there twice",
        ),
        (
            json!({"version": 1, "name": "a", "methods": [{"name": "m", "result": {"option": {"ref": "T"}}}]}),
            "there is no type `T`",
        ),
        (
            json!({"version": 1, "name": "a", "types": {"T": {"kind": "struct", "tuple": [], "fields": []}}}),
            "both `fields` and `tuple`",
        ),
        (
            json!({"version": 1, "name": "a", "methods": [{"name": "m", "result": "usize"}]}),
            "unknown variant `usize`",
        ),
        (
            json!({"version": 1, "name": "a", "events": [{"name": "E", "topic": "00"}]}),
            "malformed",
        ),
    ] {
        let error = refused(json);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_description_is_written_as_it_is_read() {
    let contract = contract();
    let json = serde_json::to_string(&contract).unwrap();
    assert_eq!(Contract::from_json(json.as_bytes()).unwrap(), contract);
}

/// Any type, also those of the contract.
fn schemas() -> impl Strategy<Value = Schema> {
    use Schema::*;
    let leaf = prop_oneof![
        proptest::sample::select(vec![
            Unit, Bool, U8, U16, U32, U64, U128, I8, I16, I32, I64, I128, String, Bytes, Address,
        ]),
        (0..40u32).prop_map(FixedBytes),
        proptest::sample::select(vec!["Line", "Side", "Pair", "Nothing", "Error", "Tree"])
            .prop_map(|name| Ref(name.to_owned())),
    ];
    leaf.prop_recursive(4, 24, 4, |of| {
        prop_oneof![
            of.clone().prop_map(|of| Option(of.into())),
            of.clone().prop_map(|of| Vec(of.into())),
            of.clone().prop_map(|of| Set(of.into())),
            (of.clone(), 0..4u32).prop_map(|(of, len)| Array { of: of.into(), len }),
            proptest::collection::vec(of.clone(), 0..4).prop_map(Tuple),
            (of.clone(), of).prop_map(|(key, value)| Map(key.into(), value.into())),
        ]
    })
}

/// A value of a type as it is decoded, made with numbers from `next`.
fn value(
    contract: &Contract,
    schema: &Schema,
    depth: u32,
    next: &mut impl FnMut() -> u64,
) -> Value {
    let len = |next: &mut dyn FnMut() -> u64| if depth > 6 { 0 } else { next() % 4 };
    let mut bytes = |len: u64| {
        (0..len)
            .map(|_| format!("{:02x}", next() as u8))
            .collect::<String>()
    };
    match schema {
        Schema::Unit => Value::Null,
        Schema::Bool => (next().is_multiple_of(2)).into(),
        Schema::U8 => (next() as u8).into(),
        Schema::U16 => (next() as u16).into(),
        Schema::U32 => (next() as u32).into(),
        Schema::I8 => (next() as i8).into(),
        Schema::I16 => (next() as i16).into(),
        Schema::I32 => (next() as i32).into(),
        Schema::U64 => next().to_string().into(),
        Schema::I64 => (next() as i64).to_string().into(),
        Schema::U128 => (u128::from(next()) << (next() % 65)).to_string().into(),
        Schema::I128 => (i128::from(next() as i64) << (next() % 65))
            .to_string()
            .into(),
        Schema::String => {
            let len = next() % 9;
            let chars = (0..len).map(|_| char::from_u32(next() as u32 % 0x11_0000).unwrap_or('€'));
            chars.collect::<String>().into()
        }
        Schema::Bytes => format!("0x{}", bytes(9)).into(),
        Schema::FixedBytes(len) => format!("0x{}", bytes(u64::from(*len))).into(),
        Schema::Address => bytes(32).into(),
        Schema::Option(of) => {
            if depth > 6 || next().is_multiple_of(3) {
                return Value::Null;
            }
            let some = value(contract, of, depth + 1, next);
            match **of {
                Schema::Unit | Schema::Option(_) => json!([some]),
                _ => some,
            }
        }
        Schema::Vec(of) => (0..len(next))
            .map(|_| value(contract, of, depth + 1, next))
            .collect(),
        Schema::Array { of, len } => (0..*len)
            .map(|_| value(contract, of, depth + 1, next))
            .collect(),
        Schema::Tuple(of) => of
            .iter()
            .map(|of| value(contract, of, depth + 1, next))
            .collect(),
        Schema::Set(of) => {
            let mut values = Vec::new();
            for _ in 0..len(next) {
                let new = value(contract, of, depth + 1, next);
                if !values.contains(&new) {
                    values.push(new);
                }
            }
            values.into()
        }
        Schema::Map(key, of) => {
            let mut pairs: Vec<(Value, Value)> = Vec::new();
            for _ in 0..len(next) {
                let new = value(contract, key, depth + 1, next);
                if !pairs.iter().any(|(key, _)| *key == new) {
                    pairs.push((new, value(contract, of, depth + 1, next)));
                }
            }
            pairs
                .into_iter()
                .map(|(key, value)| json!([key, value]))
                .collect()
        }
        Schema::Ref(name) => match &contract.types[name] {
            Type::Struct(Fields::Unit) => json!({}),
            Type::Struct(of) => fields(contract, of, depth, next),
            Type::Enum { variants } => {
                let variant = &variants[next() as usize % variants.len()];
                match fields(contract, &variant.fields, depth, next) {
                    Value::Null => variant.name.clone().into(),
                    fields => Value::Object(Map::from_iter([(variant.name.clone(), fields)])),
                }
            }
        },
    }
}

fn fields(contract: &Contract, of: &Fields, depth: u32, next: &mut impl FnMut() -> u64) -> Value {
    match of {
        Fields::Unit => Value::Null,
        Fields::Tuple(of) => of
            .iter()
            .map(|of| value(contract, of, depth + 1, next))
            .collect(),
        Fields::Named(of) => Value::Object(
            of.iter()
                .map(|of| {
                    (
                        of.name.clone(),
                        value(contract, &of.schema, depth + 1, next),
                    )
                })
                .collect(),
        ),
    }
}

#[test]
fn addresses_may_have_names() {
    let contract = contract();
    let names = |name: &str| (name == "bob").then_some([7; 32]);
    let encoded = |to: &str| {
        contract.encode_args_with("order", &json!({"item": "x", "count": 1, "to": to}), &names)
    };
    let bytes = encoded("bob").unwrap();
    assert_eq!(encoded(&"07".repeat(32)), Ok(bytes));
    assert_eq!(
        encoded("eve").unwrap_err().to_string(),
        "to: expected 32 bytes in hexadecimal, found \"eve\""
    );
    let args = json!({"item": "x", "count": 1, "to": "bob"});
    assert!(contract.encode_args("order", &args).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_encoded_is_decoded(schema in schemas(), seed: u64) {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        let contract = contract();
        let json = value(&contract, &schema, 0, &mut next);
        let bytes = contract.encode(&schema, &json).unwrap();
        prop_assert_eq!(contract.decode(&schema, &bytes), Ok(json));
        // Nothing shorter, nothing longer.
        if let Some((_, shorter)) = bytes.split_last() {
            prop_assert!(contract.decode(&schema, shorter).is_err());
        }
        prop_assert_eq!(
            contract.decode(&schema, &[bytes, vec![0]].concat()),
            Err(DecodeError::Trailing(1))
        );
    }

    #[test]
    fn what_is_decoded_is_encoded(
        schema in schemas(),
        // Small numbers, because lengths and tags are.
        bytes in proptest::collection::vec(prop_oneof![9 => 0..3u8, 1 => any::<u8>()], 0..60),
    ) {
        let contract = contract();
        // Most of what is random goes on behind the value.
        let whole = match contract.decode(&schema, &bytes) {
            Err(DecodeError::Trailing(more)) => bytes.len() - more,
            _ => bytes.len(),
        };
        if let Ok(json) = contract.decode(&schema, &bytes[..whole]) {
            prop_assert_eq!(contract.encode(&schema, &json), Ok(bytes[..whole].to_vec()));
        }
    }

    #[test]
    fn hostile_bytes_and_topics_do_not_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        topics in proptest::collection::vec(proptest::array::uniform32(0..2u8), 0..5),
    ) {
        let contract = contract();
        let _ = contract.decode_error("order", &bytes);
        let _ = contract.decode_result("order", &bytes);
        let _ = contract.decode_args("order", &bytes);
        let _ = contract.decode_event(&topics, &bytes);
        let _ = Contract::from_json(&bytes);
    }
}
