//! The standard library's sorts: unstable of integers, stable of records by a key.
#![no_std]
extern crate alloc;

use alloc::vec::Vec;
use slackline_kernels::{SEED, kernel, mix, random_next};

fn sort() -> u64 {
    let mut random = SEED;
    let mut numbers: Vec<u64> = (0..30_000).map(|_| random_next(&mut random)).collect();
    let mut records: Vec<(u16, u64)> = numbers.iter().map(|&n| (n as u16, n)).collect();
    numbers.sort_unstable();
    records.sort_by_key(|record| record.0);
    let sum = numbers.iter().fold(0, |sum, &number| mix(sum, number));
    records.iter().fold(sum, |sum, record| mix(sum, record.1))
}

kernel!(sort);
