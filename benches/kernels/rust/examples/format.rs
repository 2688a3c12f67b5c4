//! Numbers to text and back, with the standard library's formatting.
#![no_std]
extern crate alloc;

use alloc::string::String;
use core::fmt::Write;
use slackline_kernels::{SEED, kernel, mix, random_next};

fn format() -> u64 {
    let mut random = SEED;
    let mut text = String::new();
    let mut sum = 0;
    for i in 0..4_000_u32 {
        let n = random_next(&mut random);
        text.clear();
        let _ = write!(text, "{i:>8}: {n:016x} {:.3} {}", n as f64 / 1e9, n as i32);
        sum = text.bytes().fold(sum, |sum, byte| mix(sum, byte.into()));
        for word in text.split(' ').rev().take(2) {
            sum = mix(sum, word.parse::<f64>().map_or(0, f64::to_bits));
        }
    }
    sum
}

kernel!(format);
