//! A `BTreeMap`: insertions, look-ups, ranges, removals.
#![no_std]
extern crate alloc;

use alloc::collections::BTreeMap;
use slackline_kernels::{SEED, kernel, mix, random_next};

fn btree() -> u64 {
    let mut random = SEED;
    let mut map = BTreeMap::new();
    for i in 0..12_000_u64 {
        map.insert(random_next(&mut random) % 20_000, i);
    }
    let mut sum = 0;
    for _ in 0..12_000 {
        let key = random_next(&mut random) % 20_000;
        sum = mix(sum, map.get(&key).copied().unwrap_or(key));
        if key % 16 == 0 {
            sum = map
                .range(key..)
                .take(20)
                .fold(sum, |sum, (_, &value)| mix(sum, value));
        }
        if key % 3 == 0 {
            map.remove(&key);
        }
    }
    mix(sum, map.len() as u64)
}

kernel!(btree);
