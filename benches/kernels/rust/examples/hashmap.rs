//! A hash table with open addressing, counting words.
#![no_std]
extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use slackline_kernels::{SEED, kernel, mix, random_next};

struct Table<'a> {
    entries: Vec<Option<(&'a [u8], u64)>>,
    count: usize,
}

fn hash(key: &[u8]) -> usize {
    key.iter().fold(0x811c_9dc5_u32, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    }) as usize
}

impl<'a> Table<'a> {
    fn add(&mut self, key: &'a [u8], value: u64) {
        if self.count * 4 >= self.entries.len() * 3 {
            let size = self.entries.len() * 2;
            let old = core::mem::replace(&mut self.entries, vec![None; size]);
            self.count = 0;
            for (key, value) in old.into_iter().flatten() {
                self.add(key, value);
            }
        }
        let mask = self.entries.len() - 1;
        let mut at = hash(key) & mask;
        loop {
            match &mut self.entries[at] {
                Some((there, sum)) if *there == key => {
                    *sum += value;
                    return;
                }
                Some(_) => at = (at + 1) & mask,
                free => {
                    *free = Some((key, value));
                    self.count += 1;
                    return;
                }
            }
        }
    }
}

fn hashmap() -> u64 {
    let mut random = SEED;
    let letters: Vec<u8> = (0..4096)
        .map(|_| b'a' + (random_next(&mut random) % 8) as u8)
        .collect();
    let mut table = Table {
        entries: vec![None; 64],
        count: 0,
    };
    for i in 0..60_000 {
        let n = random_next(&mut random);
        let at = (n % 4000) as usize;
        table.add(&letters[at..at + 3 + (n >> 32) as usize % 6], i);
    }
    let entries = table.entries.iter().flatten();
    entries.fold(table.count as u64, |sum, (key, value)| {
        mix(sum, *value ^ hash(key) as u64)
    })
}

kernel!(hashmap);
