//! Multiplication modulo 2^255 - 19, in limbs of 51 bits: 128-bit products, which wasm has to make of smaller ones.
#![no_std]

use slackline_kernels::{kernel, mix};

const MASK: u64 = (1 << 51) - 1;

#[inline(never)]
fn multiply(a: &[u64; 5], b: &[u64; 5]) -> [u64; 5] {
    let m = |x: u64, y: u64| u128::from(x) * u128::from(y);
    let b19 = b.map(|limb| limb * 19);
    let mut c = [
        m(a[0], b[0]) + m(a[4], b19[1]) + m(a[3], b19[2]) + m(a[2], b19[3]) + m(a[1], b19[4]),
        m(a[1], b[0]) + m(a[0], b[1]) + m(a[4], b19[2]) + m(a[3], b19[3]) + m(a[2], b19[4]),
        m(a[2], b[0]) + m(a[1], b[1]) + m(a[0], b[2]) + m(a[4], b19[3]) + m(a[3], b19[4]),
        m(a[3], b[0]) + m(a[2], b[1]) + m(a[1], b[2]) + m(a[0], b[3]) + m(a[4], b19[4]),
        m(a[4], b[0]) + m(a[3], b[1]) + m(a[2], b[2]) + m(a[1], b[3]) + m(a[0], b[4]),
    ];
    let mut out = [0; 5];
    for i in 0..4 {
        c[i + 1] += c[i] >> 51;
        out[i] = c[i] as u64 & MASK;
    }
    out[4] = c[4] as u64 & MASK;
    out[0] += (c[4] >> 51) as u64 * 19;
    out[1] += out[0] >> 51;
    out[0] &= MASK;
    out
}

/// 9 to the power of p - 2, as an inversion takes it, a few times.
fn field() -> u64 {
    let mut sum = 0;
    for base in 9..29 {
        let base = [base, 0, 0, 0, 0];
        let mut power = base;
        // p - 2 is 2^255 - 21: all bits are set but the ones of 4 and 16 (of the lowest five, 01011).
        for bit in (0..254).rev() {
            power = multiply(&power, &power);
            if bit != 2 && bit != 4 {
                power = multiply(&power, &base);
            }
        }
        let one = multiply(&power, &base);
        sum = power
            .iter()
            .chain(&one)
            .fold(sum, |sum, &limb| mix(sum, limb));
    }
    sum
}

kernel!(field);
