//! A contract that uses everything, on the mock host; and what its description is good for.

use serde_json::json;
use slackline::mock::{self, Host, OtherCall, Revert};
use slackline::{Address, CallError, Client, Event};
use slackline_abi::Contract;
use std::cell::RefCell;
use std::rc::Rc;

const ALICE: Address = Address([1; 32]);
const BOB: Address = Address([2; 32]);

/// What others can do with a shop.
#[slackline::interface]
pub trait Shop {
    /// What a thing costs.
    #[view]
    fn price(&self, item: String) -> Option<u128>;
}

/// A shop.
///
/// This paragraph is not in the description.
#[slackline::contract(events(super::elsewhere::Closed, super::elsewhere::Edges))]
mod shop {
    use super::elsewhere::{Closed, Edges};
    use slackline::prelude::*;

    #[storage]
    pub struct Store {
        owner: Value<Address>,
        // A field between these two is gone; its key is not used again.
        #[key(7)]
        prices: Map<String, u128>,
        #[key(2)]
        pub(super) sales: List<Sale>,
        #[key(3)]
        open: Value<bool>,
    }

    /// What was sold.
    #[derive(Data, Debug, PartialEq, Clone)]
    pub struct Sale {
        pub item: String,
        pub buyer: Address,
        pub paid: Paid,
    }

    #[derive(Data, Debug, PartialEq, Clone)]
    pub enum Paid {
        Full,
        Part { of: u128 },
        Many(Vec<u8>, [u8; 4]),
    }

    #[derive(Data, Debug, PartialEq, Clone, Copy)]
    pub struct Nothing;

    #[derive(Data, Debug, PartialEq, Clone, Copy)]
    pub struct Pair(pub u8, pub bool);

    /// Something was sold.
    #[derive(Event, Debug, PartialEq)]
    pub struct Sold {
        #[topic]
        pub buyer: Address,
        #[topic]
        pub item: String,
        pub paid: Paid,
        #[topic]
        pub count: u32,
    }

    #[derive(Event, Debug, PartialEq)]
    pub struct Opened;

    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// The shop has
        /// no such thing.
        ///
        /// Not in the description.
        NoSuchThing { item: String },
        #[error("A \"quoted\" text")]
        Closed,
        /// Another contract failed.
        #[from]
        Call(CallError),
    }

    impl Store {
        /// Opens the shop.
        #[init]
        #[payable]
        pub fn open(&mut self, prices: Vec<(String, u128)>) {
            self.owner.set(&slackline::caller());
            self.open.set(&true);
            for (item, price) in &prices {
                self.prices.set(item, price);
            }
            Opened.emit();
        }

        pub fn edges(&mut self, does_not: Option<Address>, option: Option<[u8; 31]>) {
            Edges {
                fits: ([7; 32], ()),
                does_not,
                option,
                more: true,
            }
            .emit();
        }

        #[upgrade]
        pub fn after_upgrade(&mut self, open: bool) -> Result<(), Error> {
            self.open.set(&open);
            if !open {
                Closed {}.emit();
            }
            Ok(())
        }

        #[payable]
        #[reentrant]
        pub fn buy(&mut self, item: String) -> Result<Sale, Error> {
            if !self.open.get_or_default() {
                return Err(Error::Closed);
            }
            let Some(price) = self.prices.get(&item) else {
                return Err(Error::NoSuchThing { item });
            };
            let paid = if slackline::value() >= price {
                Paid::Full
            } else {
                Paid::Part { of: price }
            };
            let buyer = slackline::caller();
            let count = self.sales.len();
            let sale = Sale {
                item: item.clone(),
                buyer,
                paid: paid.clone(),
            };
            self.sales.push(&sale);
            Sold {
                buyer,
                item,
                paid,
                count,
            }
            .emit();
            Ok(sale)
        }

        #[reentrant]
        #[view]
        pub fn shapes(&self, nothing: Nothing, pair: Pair, unit: ()) -> (Nothing, Pair, ()) {
            (nothing, pair, unit)
        }

        /// Gives back all that the shop has.
        pub fn empty(&mut self, to: Address) -> Result<u128, Error> {
            let all = slackline::balance(slackline::self_address());
            slackline::transfer(to, all)?;
            Ok(all)
        }

        pub fn overdraw(&mut self, to: Address) -> Result<(), Error> {
            slackline::transfer(to, u128::MAX)?;
            Ok(())
        }

        // Not a method: nobody can call it.
        #[allow(dead_code)]
        pub(crate) fn helper<T>(&mut self, _: T) {}
    }

    #[interface]
    impl super::Shop for Store {
        #[view]
        fn price(&self, item: String) -> Option<u128> {
            self.prices.get(&item)
        }
    }

    // Of no interest to callers.
    impl core::fmt::Display for Store {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("shop")
        }
    }
}

mod elsewhere {
    /// No more sales.
    #[derive(slackline::Event, Debug, PartialEq)]
    pub struct Closed {}

    /// Topics that just fit, and that just do not.
    #[derive(slackline::Event, Debug, PartialEq)]
    pub struct Edges {
        #[topic]
        pub fits: (slackline::Hash, ()),
        #[topic]
        pub does_not: Option<slackline::Address>,
        #[topic]
        pub option: Option<[u8; 31]>,
        pub more: bool,
    }
}

use shop::{Error, Opened, Paid, Sale, Sold, exports};

fn opened() -> Host {
    let mut host = Host::default();
    host.attach(5)
        .call::<()>(ALICE, exports::init, vec![("tea", 3u128)])
        .unwrap();
    assert_eq!(host.emitted::<Opened>(), [Opened]);
    host
}

fn description() -> Contract {
    Contract::from_json(exports::ABI).unwrap()
}

#[test]
fn methods_take_arguments_and_value_and_return() {
    let mut host = opened();
    let sale = Sale {
        item: "tea".into(),
        buyer: BOB,
        paid: Paid::Part { of: 3 },
    };
    assert_eq!(host.call(BOB, exports::buy, "tea"), Ok(sale));
    let sale = Sale {
        item: "tea".into(),
        buyer: ALICE,
        paid: Paid::Full,
    };
    assert_eq!(host.attach(3).call(ALICE, exports::buy, "tea"), Ok(sale));
    assert_eq!(host.call(BOB, exports::price, "tea"), Ok(Some(3u128)));
    assert_eq!(host.call(BOB, exports::price, "cake"), Ok(None::<u128>));
    assert_eq!(host.balances[&host.address], 8);
    assert_eq!(host.call(ALICE, exports::empty, BOB), Ok(8u128));
    assert_eq!((host.balances[&BOB], host.balances[&host.address]), (8, 0));
}

#[test]
fn errors_revert_everything() {
    let mut host = opened();
    let before = host.clone();
    let item = "cake".to_owned();
    assert_eq!(
        host.call::<Sale>(BOB, exports::buy, "cake"),
        Err(Revert::with(&Error::NoSuchThing { item }))
    );
    assert_eq!(
        host.attach(1)
            .call::<Option<u128>>(BOB, exports::price, "tea"),
        Err("method is not payable".into())
    );
    let revert = host.call::<()>(BOB, exports::overdraw, BOB).unwrap_err();
    assert_eq!(
        revert.error(),
        Some(Error::Call(slackline::CallError::InsufficientBalance))
    );
    assert_eq!(host.storage, before.storage);
    assert_eq!(host.balances, before.balances);
}

#[test]
fn fields_are_stored_under_their_keys() {
    let mut host = opened();
    host.call::<Sale>(BOB, exports::buy, "tea").unwrap();
    let firsts: Vec<u8> = host.storage.keys().map(|key| key[0]).collect();
    assert_eq!(firsts, [0, 2, 2, 3, 7]);
    assert_eq!(host.storage[[0].as_slice()], ALICE.0);
    assert_eq!(host.storage[b"\x07\x03\0\0\0tea".as_slice()], borsh(3u128));
}

fn borsh(value: impl slackline::borsh::BorshSerialize) -> Vec<u8> {
    slackline::borsh::to_vec(&value).unwrap()
}

#[test]
fn hooks_have_their_names_and_an_interface_is_exported() {
    let mut host = opened();
    host.call::<()>(ALICE, exports::upgrade, false).unwrap();
    assert_eq!(host.emitted::<elsewhere::Closed>(), [elsewhere::Closed {}]);
    let closed = host.call::<Sale>(BOB, exports::buy, "tea").unwrap_err();
    assert_eq!(closed.error(), Some(Error::Closed));
    let names: Vec<_> = description()
        .methods
        .iter()
        .map(|method| method.name.clone())
        .collect();
    let expected = [
        "init", "edges", "upgrade", "buy", "shapes", "empty", "overdraw", "price",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_description_says_what_the_source_says() {
    let written: serde_json::Value = serde_json::from_slice(exports::ABI).unwrap();
    assert_eq!(written["name"], "shop");
    assert_eq!(written["doc"], "A shop.");
    assert_eq!(
        written["methods"][3],
        json!({
            "name": "buy", "args": [{"name": "item", "type": "string"}],
            "result": {"ref": "Sale"}, "error": {"ref": "Error"}, "payable": true, "reentrant": true,
        })
    );
    assert_eq!(
        written["methods"][0],
        json!({
            "name": "init", "doc": "Opens the shop.", "payable": true,
            "args": [{"name": "prices", "type": {"vec": {"tuple": ["string", "u128"]}}}],
        })
    );
    assert_eq!(
        written["types"],
        json!({
            "Sale": {"kind": "struct", "fields": [
                {"name": "item", "type": "string"}, {"name": "buyer", "type": "address"},
                {"name": "paid", "type": {"ref": "Paid"}},
            ]},
            "Paid": {"kind": "enum", "variants": [
                {"name": "Full"},
                {"name": "Part", "fields": [{"name": "of", "type": "u128"}]},
                {"name": "Many", "tuple": ["bytes", {"fixed_bytes": 4}]},
            ]},
            "Error": {"kind": "enum", "variants": [
                {"name": "NoSuchThing", "doc": "The shop has no such thing.",
                 "fields": [{"name": "item", "type": "string"}]},
                {"name": "Closed", "doc": "A \"quoted\" text"},
                {"name": "Call", "doc": "Another contract failed.", "tuple": [{"ref": "CallError"}]},
            ]},
            "Nothing": {"kind": "struct"},
            "Pair": {"kind": "struct", "tuple": ["u8", "bool"]},
            "CallError": written["types"]["CallError"],
        })
    );
    let events: Vec<_> = description()
        .events
        .iter()
        .map(|event| event.name.clone())
        .collect();
    assert_eq!(events, ["Sold", "Opened", "Closed", "Edges"]);
}

#[test]
fn what_is_described_is_what_is_sent() {
    let mut host = opened();
    let contract = description();
    let call = |host: &mut Host, method, entry, args| {
        let input = contract.encode_args(method, &args).unwrap();
        host.call_raw(BOB, entry, &input)
    };
    let sale = call(&mut host, "buy", exports::buy, json!({"item": "tea"})).unwrap();
    let bob = "02".repeat(32);
    assert_eq!(
        contract.decode_result("buy", &sale),
        Ok(json!({"item": "tea", "buyer": bob, "paid": {"Part": {"of": "3"}}}))
    );
    let (topics, data) = &host.events[0];
    assert_eq!(topics.len(), 4);
    assert_eq!(topics[2], slackline::event::topic(&"tea".to_owned()));
    assert_eq!(data, &borsh(("tea", 1u8, 3u128)));
    let event = contract.decode_event(topics, data).unwrap();
    assert_eq!(event.name, "Sold");
    assert_eq!(
        event.fields,
        json!({"buyer": bob, "item": "tea", "paid": {"Part": {"of": "3"}}, "count": 0})
    );
    let sold = Sold {
        buyer: BOB,
        item: "tea".into(),
        paid: Paid::Part { of: 3 },
        count: 0,
    };
    assert_eq!(Sold::decode(topics, data), Some(sold));
    assert_eq!(Sold::decode(&topics[..3], data), None);
    assert_eq!(Opened::decode(topics, data), None);

    let shapes = json!([{}, [3, true], null]);
    let same = call(&mut host, "shapes", exports::shapes, shapes.clone()).unwrap();
    assert_eq!(contract.decode_result("shapes", &same), Ok(shapes));

    let revert = call(&mut host, "buy", exports::buy, json!(["cake"])).unwrap_err();
    assert_eq!(
        contract.decode_error("buy", &revert.0),
        slackline_abi::Revert::Error {
            value: json!({"NoSuchThing": {"item": "cake"}}),
            doc: "The shop has no such thing.".into()
        }
    );
    let revert = host.call::<()>(BOB, exports::buy, ()).unwrap_err();
    assert_eq!(
        contract.decode_error("buy", &revert.0),
        slackline_abi::Revert::Text("malformed input".into())
    );
}

#[test]
fn a_topic_holds_what_always_fits_and_else_a_hash() {
    let mut host = opened();
    let contract = description();
    for (does_not, option) in [(None, None), (Some(BOB), Some([8; 31]))] {
        host.call::<()>(BOB, exports::edges, (does_not, option))
            .unwrap();
        let (topics, data) = &host.events[0];
        assert_eq!(topics[1], [7; 32]);
        assert_eq!(topics[2], slackline::crypto::sha256(&borsh(does_not)));
        assert_eq!(topics[3][0], u8::from(option.is_some()));
        assert_eq!(data, &borsh((does_not, true)));
        let edges = elsewhere::Edges {
            fits: ([7; 32], ()),
            does_not,
            option,
            more: true,
        };
        assert_eq!(elsewhere::Edges::decode(topics, data), Some(edges));
        let fields = contract.decode_event(topics, data).unwrap().fields;
        let address = does_not.map(|address| address.to_string());
        let option = option.map(|bytes| format!("0x{}", "08".repeat(bytes.len())));
        assert_eq!(
            fields,
            json!({
                "fits": [format!("0x{}", "07".repeat(32)), null],
                "does_not": address, "option": option, "more": true,
            })
        );
    }
}

#[test]
fn data_of_other_shapes_is_refused() {
    use slackline::borsh::from_slice;
    for malformed in [&[3u8][..], &[1, 0], &[]] {
        assert!(from_slice::<Paid>(malformed).is_err());
    }
    assert_eq!(from_slice::<Paid>(&[0]).unwrap(), Paid::Full);
    let many = Paid::Many(vec![7], [1, 2, 3, 4]);
    assert_eq!(borsh(many.clone()), [2, 1, 0, 0, 0, 7, 1, 2, 3, 4]);
    assert_eq!(from_slice::<Paid>(&borsh(many.clone())).unwrap(), many);
}

#[test]
#[should_panic]
fn calls_to_others_are_for_the_testkit() {
    let _ = ShopClient::new(BOB).price("tea".into());
}

#[test]
fn a_client_sends_what_a_contract_takes() {
    // The client of the one is answered by the other.
    let host = Rc::new(RefCell::new(opened()));
    let answer = {
        let host = host.clone();
        move |call: OtherCall<'_>| {
            assert_eq!((call.to, call.fuel), (BOB, Some(7)));
            assert_eq!(call.view, call.method == "price");
            let method = match call.method {
                "price" => exports::price,
                "buy" => exports::buy,
                _ => return Err(CallError::NoMethod),
            };
            let mut host = host.borrow_mut();
            host.attach(call.value)
                .call_raw(ALICE, method, call.input)
                .map_err(|revert| CallError::Reverted(revert.0))
        }
    };
    mock::with_others(answer, || {
        let shop = ShopClient::new(BOB).fuel(7);
        assert_eq!(shop.price("tea".into()), Ok(Some(3)));
        let store = shop::StoreClient::new(BOB).fuel(7);
        let sale = store.value(3).buy("tea".into()).unwrap();
        assert_eq!((sale.buyer, sale.paid), (ALICE, Paid::Full));
        let error = store.buy("cake".into()).unwrap_err();
        let item = "cake".to_owned();
        assert_eq!(error.error(), Some(Error::NoSuchThing { item }));
        assert_eq!(error.error::<Paid>(), None);
        assert_eq!(store.overdraw(BOB), Err(CallError::NoMethod));
    });
    assert_eq!(host.borrow().balances[&host.borrow().address], 8);
}

#[test]
fn every_status_is_an_error_of_its_own() {
    let errors = [
        CallError::Reverted(vec![1]),
        CallError::Aborted,
        CallError::NoContract,
        CallError::NoMethod,
        CallError::Reentrancy,
        CallError::TooDeep,
        CallError::InsufficientBalance,
    ];
    for error in errors {
        let expected = Err(error.clone());
        mock::with_others(
            move |_| Err(error.clone()),
            || assert_eq!(ShopClient::new(BOB).price("tea".into()), expected),
        );
    }
    mock::with_others(
        |_| Ok(vec![9]),
        || {
            let malformed = ShopClient::new(BOB).price("tea".into());
            assert_eq!(malformed, Err(CallError::Malformed));
        },
    );
}
