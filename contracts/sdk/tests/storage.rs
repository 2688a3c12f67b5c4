//! The collections against those of the standard library, and the order of keys.

use proptest::collection::vec;
use proptest::prelude::*;
use slackline::Address;
use slackline::mock::Host;
use slackline::storage::{
    Collection, List, Map, OrderedKey, OrderedMap, Set, StartsWith, Value, set_raw,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

const ANYBODY: Address = Address([1; 32]);

thread_local! {
    static BODY: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Runs `body` as a contract does: in a call. What fails in it is the error.
fn in_contract(body: impl FnOnce() + 'static) -> Result<(), slackline::mock::Revert> {
    extern "C-unwind" fn method() {
        BODY.take().expect("there is a body")();
    }
    BODY.set(Some(Box::new(body)));
    Host::default().call(ANYBODY, method, ())
}

/// An encoding of keys is in the order of keys, is decoded, and none begins another.
#[track_caller]
fn check_order<K: OrderedKey + Ord + std::fmt::Debug>(mut keys: Vec<K>) {
    keys.sort();
    keys.dedup();
    let encoded: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| {
            let mut bytes = Vec::new();
            key.encode(&mut bytes);
            bytes
        })
        .collect();
    for (key, bytes) in keys.iter().zip(&encoded) {
        let mut rest = bytes.as_slice();
        assert_eq!(K::decode(&mut rest).as_ref(), Some(key));
        assert!(rest.is_empty());
        for len in 0..bytes.len() {
            assert_eq!(K::decode(&mut &bytes[..len]), None, "{key:?}");
        }
    }
    for (i, pair) in encoded.windows(2).enumerate() {
        assert!(pair[0] < pair[1], "{:?} and {:?}", keys[i], keys[i + 1]);
        assert!(
            !pair[1].starts_with(&pair[0]),
            "{:?} and {:?}",
            keys[i],
            keys[i + 1]
        );
    }
}

/// Bytes among which zeros and the greatest are frequent.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(1), Just(0xff), any::<u8>()], 0..6)
}

fn strings() -> impl Strategy<Value = String> {
    vec(
        proptest::sample::select(vec!['\0', '\u{1}', 'a', 'b', 'ÿ', '€']),
        0..5,
    )
    .prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn keys_are_in_order(
        unsigned in vec(any::<(u8, u16, u32, u64)>(), 0..20),
        signed in vec(any::<(i8, i16, i32, i64)>(), 0..20),
        wide in vec(any::<(u128, i128, bool)>(), 0..20),
        byte_strings in vec((bytes(), bytes()), 0..20),
        options in vec((proptest::option::of(strings()), any::<[u8; 2]>()), 0..20),
        narrow in vec(any::<i8>(), 0..40),
        addresses in vec(proptest::array::uniform32(0..2u8).prop_map(Address), 0..20),
    ) {
        check_order(unsigned);
        check_order(signed);
        check_order(wide);
        check_order(byte_strings);
        check_order(options);
        check_order(narrow);
        check_order(addresses);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u32),
    Remove(u8),
    Take(u8),
    Range(Bound<u8>, Bound<u8>, Vec<bool>),
}

/// Some next to each other, and the last that there is.
const KEYS: &[u8] = &[0, 1, 2, 3, 5, 7, 8, 100, 254, 255];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || proptest::sample::select(KEYS);
    let bound = || {
        prop_oneof![
            Just(Bound::Unbounded),
            key().prop_map(Bound::Included),
            key().prop_map(Bound::Excluded),
        ]
    };
    let step = prop_oneof![
        3 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Set(key, value)),
        1 => key().prop_map(Step::Remove),
        1 => key().prop_map(Step::Take),
        3 => (bound(), bound(), vec(any::<bool>(), 0..15))
            .prop_map(|(low, high, ends)| Step::Range(low, high, ends)),
    ];
    vec(step, 0..40)
}

/// What an iterator gives from these ends, each `true` being the back.
fn from_ends<T>(mut iter: impl DoubleEndedIterator<Item = T>, ends: &[bool]) -> Vec<Option<T>> {
    let mut next = |back: &bool| if *back { iter.next_back() } else { iter.next() };
    ends.iter().map(&mut next).collect()
}

proptest! {
    #[test]
    fn maps_are_as_a_tree(steps in steps()) {
        in_contract(move || {
            // Others are before and behind it.
            let mut below: OrderedMap<u8, u32> = OrderedMap::at(4);
            let mut above: OrderedMap<u8, u32> = OrderedMap::at(6);
            below.set(&255, &1);
            above.set(&0, &1);
            let mut ordered: OrderedMap<u8, u32> = OrderedMap::at(5);
            let mut map: Map<u8, u32> = Map::at(7);
            let mut tree = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(key, value) => {
                        ordered.set(&key, &value);
                        map.set(&key, &value);
                        tree.insert(key, value);
                    }
                    Step::Remove(key) => {
                        ordered.remove(&key);
                        map.remove(&key);
                        tree.remove(&key);
                    }
                    Step::Take(key) => {
                        let taken = tree.remove(&key);
                        assert_eq!(ordered.take(&key), taken);
                        assert_eq!(map.take(&key), taken);
                    }
                    Step::Range(low, high, ends) => {
                        let meant: Vec<(u8, u32)> = tree
                            .iter()
                            .map(|(key, value)| (*key, *value))
                            .filter(|(key, _)| std::ops::RangeBounds::contains(&(low, high), key))
                            .collect();
                        let found = from_ends(ordered.range((low, high)), &ends);
                        assert_eq!(found, from_ends(meant.into_iter(), &ends));
                    }
                }
                for &key in KEYS {
                    let value = tree.get(&key).copied();
                    assert_eq!((ordered.get(&key), map.get(&key)), (value, value));
                    assert_eq!(map.contains(&key), value.is_some());
                    assert_eq!(ordered.contains(&key), value.is_some());
                }
                assert!(ordered.iter().eq(tree.clone()));
                assert!(ordered.iter().rev().eq(tree.clone().into_iter().rev()));
                assert_eq!(ordered.first(), tree.clone().pop_first());
                assert_eq!(ordered.last(), tree.clone().pop_last());
                assert_eq!(ordered.is_empty(), tree.is_empty());
            }
        })
        .unwrap();
    }

    #[test]
    fn prefixes_are_those_that_begin_so(keys in proptest::collection::btree_set((strings(), 0..3u8, 0..3u16), 0..30)) {
        in_contract(move || {
            fn listed<P: OrderedKey>(map: &OrderedMap<(String, u8, u16), ()>, parts: P) -> Vec<(String, u8, u16)>
            where
                (String, u8, u16): StartsWith<P>,
            {
                map.prefix(&parts).map(|(key, ())| key).collect()
            }
            let mut map = OrderedMap::at(0);
            for key in &keys {
                map.set(key, &());
            }
            for (name, kind, _) in &keys {
                let meant = |with_kind: bool| -> Vec<_> {
                    keys.iter()
                        .filter(|key| key.0 == *name && (!with_kind || key.1 == *kind))
                        .cloned()
                        .collect()
                };
                assert_eq!(listed(&map, name.clone()), meant(false));
                assert_eq!(listed(&map, (name.clone(), *kind)), meant(true));
            }
        })
        .unwrap();
    }

    #[test]
    fn a_list_is_as_a_vec(steps in vec((0..6u8, 0..8u32, any::<u16>()), 0..60)) {
        in_contract(move || {
            let mut list: List<u16> = List::at(0);
            let mut model: Vec<u16> = Vec::new();
            for (what, index, value) in steps {
                let at = index as usize;
                match what {
                    0..=2 => {
                        list.push(&value);
                        model.push(value);
                    }
                    3 => assert_eq!(list.pop(), model.pop()),
                    4 if at < model.len() => {
                        list.set(index, &value);
                        model[at] = value;
                    }
                    4 => assert_eq!(list.swap_remove(index), None),
                    _ if at < model.len() => {
                        assert_eq!(list.swap_remove(index), Some(model.swap_remove(at)));
                    }
                    _ => assert_eq!(list.get(index), None),
                }
                assert_eq!(list.len() as usize, model.len());
                assert!(list.iter().eq(model.iter().copied()));
                assert!(list.iter().rev().eq(model.iter().rev().copied()));
            }
        })
        .unwrap();
    }

    #[test]
    fn a_set_is_as_a_tree(steps in vec((any::<bool>(), 0..10u8), 0..60)) {
        in_contract(move || {
            let mut set: Set<u8> = Set::at(0);
            let mut model = BTreeSet::new();
            for (insert, value) in steps {
                if insert {
                    assert_eq!(set.insert(&value), model.insert(value));
                } else {
                    assert_eq!(set.remove(&value), model.remove(&value));
                }
                assert!((0..10).all(|value| set.contains(&value) == model.contains(&value)));
            }
        })
        .unwrap();
    }
}

#[test]
fn a_value_is_there_or_not() {
    in_contract(|| {
        let mut value: Value<String> = Value::at(9);
        assert!(!value.is_set());
        assert_eq!((value.get(), value.get_or_default()), (None, String::new()));
        value.set(&"a".to_owned());
        assert!(value.is_set());
        assert_eq!(value.take(), Some("a".to_owned()));
        assert_eq!(value.take(), None);
        value.set(&"b".to_owned());
        value.clear();
        assert_eq!(value.get(), None);
    })
    .unwrap();
}

#[test]
fn what_is_not_of_the_type_reverts() {
    let malformed = Err("malformed value in storage".into());
    for bytes in [&[][..], &[1], &[1, 2, 3]] {
        let read = move || {
            set_raw(&[3], bytes);
            Value::<u16>::at(3).get();
        };
        assert_eq!(in_contract(read), malformed, "{bytes:?}");
    }
    let key_too_long = || {
        set_raw(&[3, 1, 2], &[1]);
        OrderedMap::<u8, u8>::at(3).first();
    };
    assert_eq!(in_contract(key_too_long), malformed);
    let length_without_values = || {
        set_raw(&[3], &[2, 0, 0, 0]);
        List::<u8>::at(3).pop();
    };
    assert_eq!(in_contract(length_without_values), malformed);
}

#[test]
fn ranges_end_at_the_last_key_of_all() {
    for prefix in [0, 255] {
        in_contract(move || {
            let mut map: OrderedMap<[u8; 2], u8> = OrderedMap::at(prefix);
            map.set(&[255, 255], &1);
            map.set(&[255, 254], &2);
            set_raw(&[prefix.wrapping_add(1), 0, 0], &[3]);
            let listed = |range: std::ops::RangeInclusive<[u8; 2]>| -> Vec<u8> {
                map.range(range).map(|(_, value)| value).collect()
            };
            assert_eq!(listed([0, 0]..=[255, 255]), [2, 1]);
            assert_eq!(listed([0, 0]..=[255, 254]), [2]);
            assert_eq!(map.range(..=[255, 255]).next_back(), Some(([255, 255], 1)));
        })
        .unwrap();
    }
}

#[test]
fn a_list_has_an_end() {
    let full = || {
        set_raw(&[3], &[255; 4]);
        List::<u8>::at(3).push(&1);
    };
    assert_eq!(in_contract(full), Err("list is full".into()));
    let beyond = || List::<u8>::at(3).set(0, &1);
    assert_eq!(
        in_contract(beyond),
        Err("index beyond the end of the list".into())
    );
}
