//! Transactions as little programs, run by the engine and in order, on the same interpreter.

use proptest::prelude::*;
use slackline_parallel::{
    Add, Base, Change, Executed, Machine, Options, Range, Seen, Stale, Stats, Stop, View, run,
};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A value, unless it is deleted: what `read_base` looks at, and what is added to.
pub(crate) type Value = Option<(u64, u64)>;
pub(crate) type Key = Vec<u8>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sum(pub(crate) u64);

impl Add for Sum {
    fn add(&mut self, other: &Sum) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

pub(crate) const GROUPS: u8 = 2;
pub(crate) const KEYS: u8 = 5;

/// Which key: a given one, or one that depends on what was read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Fixed(u8, u8),
    Computed(u8),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Read(Place),
    ReadPart(Place),
    Write(Place),
    Add(Place, u8),
    Delete(Place),
    Next {
        group: u8,
        from: Option<u8>,
        descending: bool,
    },
    /// Leaves the rest out, depending on what was read.
    StopIfOdd,
    /// Forgets what was read: what follows depends on it no more.
    Forget,
    /// Writes two keys that are always the same.
    WriteTwins,
    /// Fails unless they are the same.
    ReadTwins,
    Yield,
}

pub(crate) fn programs(transactions: usize) -> impl Strategy<Value = Vec<Vec<Op>>> {
    let place = prop_oneof![
        3 => (0..GROUPS, 0..KEYS).prop_map(|(group, key)| Place::Fixed(group, key)),
        1 => (0..GROUPS).prop_map(Place::Computed),
    ];
    let op = prop_oneof![
        4 => place.clone().prop_map(Op::Read),
        2 => place.clone().prop_map(Op::ReadPart),
        4 => place.clone().prop_map(Op::Write),
        3 => (place.clone(), any::<u8>()).prop_map(|(place, add)| Op::Add(place, add)),
        2 => place.prop_map(Op::Delete),
        3 => (0..GROUPS, prop::option::of(0..KEYS), any::<bool>())
            .prop_map(|(group, from, descending)| Op::Next { group, from, descending }),
        1 => Just(Op::StopIfOdd),
        1 => Just(Op::Forget),
        1 => Just(Op::WriteTwins),
        1 => Just(Op::ReadTwins),
        2 => Just(Op::Yield),
    ];
    let program = prop::collection::vec(op, 0..7);
    prop::collection::vec(program, 1..=transactions)
}

/// What was there before the block.
pub(crate) fn store() -> BTreeMap<Key, Value> {
    (0..GROUPS)
        .flat_map(|group| (0..KEYS).step_by(2).map(move |key| vec![group, key]))
        .map(|key| (key.clone(), Some((u64::from(key[1]), 100))))
        .chain([(twin(0), Some((7, 7))), (twin(1), Some((7, 7)))])
        .collect()
}

fn twin(n: u8) -> Key {
    vec![200 + n, 0]
}

fn part(value: &Value) -> u64 {
    value.map_or(0, |(part, _)| part)
}

fn resolve(store: &BTreeMap<Key, Value>, key: &[u8], seen: Seen<Value, Sum>) -> Value {
    let base = match seen.base {
        Base::Below => store.get(key).copied().flatten(),
        Base::Written(value) => value,
    };
    match seen.added {
        None => base,
        Some(Sum(more)) => {
            let (part, sum) = base.unwrap_or_default();
            Some((part, sum.wrapping_add(more)))
        }
    }
}

/// What a program runs on.
trait State {
    fn read(&self, key: &[u8]) -> Result<Value, Stale>;
    fn read_part(&self, key: &[u8]) -> Result<u64, Stale>;
    /// The next key that the block has changed.
    fn next(&self, range: &Range) -> Result<Option<(Key, Value)>, Stale>;
}

struct Parallel<'a>(&'a View<Value, Sum>, &'a BTreeMap<Key, Value>);

impl State for Parallel<'_> {
    fn read(&self, key: &[u8]) -> Result<Value, Stale> {
        Ok(resolve(self.1, key, self.0.read(key)?))
    }
    fn read_part(&self, key: &[u8]) -> Result<u64, Stale> {
        let base = self.0.read_base(key)?;
        Ok(part(&resolve(self.1, key, Seen { base, added: None })))
    }
    fn next(&self, range: &Range) -> Result<Option<(Key, Value)>, Stale> {
        let found = self.0.next(range)?;
        Ok(found.map(|(key, seen)| {
            let value = resolve(self.1, &key, seen);
            (key, value)
        }))
    }
}

struct InOrder<'a>(&'a BTreeMap<Key, Value>, &'a BTreeMap<Key, Value>);

impl State for InOrder<'_> {
    fn read(&self, key: &[u8]) -> Result<Value, Stale> {
        let below = || self.1.get(key).copied().flatten();
        Ok(self.0.get(key).copied().unwrap_or_else(below))
    }
    fn read_part(&self, key: &[u8]) -> Result<u64, Stale> {
        Ok(part(&self.read(key)?))
    }
    fn next(&self, range: &Range) -> Result<Option<(Key, Value)>, Stale> {
        Ok(next_of(self.0, range).map(|(key, value)| (key.clone(), *value)))
    }
}

fn next_of<'a, T>(map: &'a BTreeMap<Key, T>, range: &Range) -> Option<(&'a Key, &'a T)> {
    let ends = match (&range.low, &range.high) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low < high,
        _ => true,
    };
    let mut keys = map.range::<Key, _>(if ends {
        (range.low.as_ref(), range.high.as_ref())
    } else {
        return None;
    });
    if range.descending {
        keys.next_back()
    } else {
        keys.next()
    }
}

type Changes = BTreeMap<Key, Change<Value, Sum>>;

/// Runs `program`: all that it has seen as one number, and its changes.
fn interpret(
    program: &[Op],
    state: &dyn State,
    store: &BTreeMap<Key, Value>,
    pause: &dyn Fn(),
) -> Result<(u64, Changes), Stop> {
    let (mut seen, mut changes) = (1u64, Changes::new());
    let mix = |seen: &mut u64, value: u64| {
        *seen = (*seen ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    };
    let read = |changes: &Changes, key: &[u8]| -> Result<Value, Stop> {
        Ok(match changes.get(key) {
            Some(Change::Write(value)) => *value,
            Some(Change::Add(Sum(more))) => {
                let (part, sum) = state.read(key)?.unwrap_or_default();
                Some((part, sum.wrapping_add(*more)))
            }
            None => state.read(key)?,
        })
    };
    for op in program {
        let at = |place: &Place| match *place {
            Place::Fixed(group, key) => vec![group, key],
            Place::Computed(group) => vec![group, (seen % u64::from(KEYS)) as u8],
        };
        match op {
            Op::Read(place) => {
                let value = read(&changes, &at(place))?;
                mix(&mut seen, value.map_or(3, |(part, sum)| part ^ sum << 1));
            }
            Op::ReadPart(place) => {
                let key = at(place);
                let value = match changes.get(&key) {
                    Some(Change::Write(value)) => part(value),
                    _ => state.read_part(&key)?,
                };
                mix(&mut seen, value);
            }
            Op::Write(place) => {
                // Few values, so that some write what was there.
                let value = Change::Write(Some((seen % 3, seen % 2)));
                changes.insert(at(place), value);
            }
            Op::Add(place, more) => {
                let more = u64::from(*more);
                let change = match changes.get(&at(place)) {
                    Some(Change::Write(value)) => {
                        let (part, sum) = value.unwrap_or_default();
                        Change::Write(Some((part, sum.wrapping_add(more))))
                    }
                    Some(Change::Add(Sum(before))) => Change::Add(Sum(before.wrapping_add(more))),
                    None => Change::Add(Sum(more)),
                };
                changes.insert(at(place), change);
            }
            Op::Delete(place) => {
                changes.insert(at(place), Change::Write(None));
            }
            Op::Next {
                group,
                from,
                descending,
            } => {
                // Of the block's keys and the store's; its own changes it does not see.
                let (mut low, mut high) = (
                    Bound::Included(vec![*group]),
                    Bound::Excluded(vec![*group + 1]),
                );
                match from {
                    Some(from) if *descending => high = Bound::Excluded(vec![*group, *from]),
                    Some(from) => low = Bound::Excluded(vec![*group, *from]),
                    None => {}
                }
                let range = Range {
                    low,
                    high,
                    descending: *descending,
                };
                let stored = next_of(store, &range);
                let changed = state.next(&range)?;
                mix(&mut seen, stored.map_or(0, |(key, _)| u64::from(key[1])));
                let (key, value) = changed.unwrap_or_default();
                mix(&mut seen, u64::from(key.last().copied().unwrap_or(99)));
                mix(&mut seen, u64::from(value.is_some()));
            }
            Op::StopIfOdd => {
                if seen.count_ones() % 2 == 1 {
                    break;
                }
            }
            Op::Forget => seen = 1,
            Op::WriteTwins => {
                let value = Change::Write(Some((seen % 5, 0)));
                changes.insert(twin(0), value.clone());
                changes.insert(twin(1), value);
            }
            Op::ReadTwins => {
                let one = read(&changes, &twin(0))?;
                pause();
                if one != read(&changes, &twin(1))? {
                    return Err(Stop::Failed);
                }
            }
            Op::Yield => pause(),
        }
    }
    Ok((seen, changes))
}

struct Programs<'a> {
    programs: &'a [Vec<Op>],
    store: &'a BTreeMap<Key, Value>,
    pause: fn(),
}

impl Machine for Programs<'_> {
    type Value = Value;
    type Add = Sum;
    type Output = u64;

    fn execute(
        &self,
        transaction: usize,
        view: View<Value, Sum>,
    ) -> Result<Executed<Value, Sum, u64>, Stop> {
        let state = Parallel(&view, self.store);
        let program = &self.programs[transaction];
        let (output, changes) = interpret(program, &state, self.store, &self.pause)?;
        let changes = changes.into_iter().collect();
        Ok(Executed { output, changes })
    }

    fn same_part(&self, key: &[u8], one: &Base<Value>, other: &Base<Value>) -> bool {
        let part = |base: &Base<Value>| {
            let base = base.clone();
            part(&resolve(self.store, key, Seen { base, added: None }))
        };
        part(one) == part(other)
    }
}

/// What came of a block: outputs, and all that was changed.
pub(crate) type Outcome = (Vec<u64>, BTreeMap<Key, Value>);

fn apply(changed: &mut BTreeMap<Key, Value>, store: &BTreeMap<Key, Value>, changes: Changes) {
    for (key, change) in changes {
        let value = match change {
            Change::Write(value) => value,
            Change::Add(Sum(more)) => {
                let before = changed.get(&key).or(store.get(&key)).copied().flatten();
                let (part, sum) = before.unwrap_or_default();
                Some((part, sum.wrapping_add(more)))
            }
        };
        changed.insert(key, value);
    }
}

/// In order, from the first that `done` does not have.
pub(crate) fn in_order(programs: &[Vec<Op>], done: Outcome) -> Outcome {
    let store = store();
    let (mut outputs, mut changed) = done;
    for program in &programs[outputs.len()..] {
        let state = InOrder(&changed, &store);
        let (output, changes) =
            interpret(program, &state, &store, &|| {}).expect("in order the twins are the same");
        outputs.push(output);
        apply(&mut changed, &store, changes);
    }
    (outputs, changed)
}

pub(crate) fn options(threads: usize) -> Options {
    Options {
        threads,
        stack_bytes: 1 << 20,
        prefix: 1,
        wasted: usize::MAX,
        cancel: true,
    }
}

/// By the engine, and the rest in order.
pub(crate) fn in_parallel(
    programs: &[Vec<Op>],
    options: &Options,
    pause: fn(),
) -> (Outcome, Stats) {
    let store = store();
    let machine = Programs {
        programs,
        store: &store,
        pause,
    };
    let finished = run(&machine, programs.len(), options).expect("no panic");
    let changed = finished
        .changes
        .into_iter()
        .map(|(key, seen)| (key.clone(), resolve(&store, &key, seen)))
        .collect();
    let done = (finished.outputs, changed);
    (in_order(programs, done), finished.stats)
}
