//! SHA-256 that can be computed while the contract compiles: the first topic of events. At run time the host is faster,
//! so that contracts contain none of this.

use crate::Hash;

/// The SHA-256 of `input`.
pub(crate) const fn sha256(input: &[u8]) -> Hash {
    let mut state = H;
    let mut block = [0; 64];
    // The input, 0x80, zeros, and the length in bits as 8 bytes: blocks of 64.
    let blocks = (input.len() + 9).div_ceil(64);
    let mut position = 0;
    while position < blocks * 64 {
        let from_end = blocks * 64 - position;
        block[position % 64] = if position < input.len() {
            input[position]
        } else if position == input.len() {
            0x80
        } else if from_end <= 8 {
            ((input.len() as u64 * 8) >> ((from_end - 1) * 8)) as u8
        } else {
            0
        };
        position += 1;
        if position % 64 == 0 {
            state = compress(state, &block);
        }
    }
    let mut hash = [0; 32];
    let mut i = 0;
    while i < 32 {
        hash[i] = state[i / 4].to_be_bytes()[i % 4];
        i += 1;
    }
    hash
}

const fn compress(state: [u32; 8], block: &[u8; 64]) -> [u32; 8] {
    let mut w = [0; 64];
    let mut i = 0;
    while i < 64 {
        w[i] = if i < 16 {
            u32::from_be_bytes([
                block[i * 4],
                block[i * 4 + 1],
                block[i * 4 + 2],
                block[i * 4 + 3],
            ])
        } else {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = u32::rotate_right(a, 7) ^ u32::rotate_right(a, 18) ^ (a >> 3);
            let s1 = u32::rotate_right(b, 17) ^ u32::rotate_right(b, 19) ^ (b >> 10);
            s0.wrapping_add(s1)
                .wrapping_add(w[i - 16])
                .wrapping_add(w[i - 7])
        };
        i += 1;
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    let mut i = 0;
    while i < 64 {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let t1 = h
            .wrapping_add(s1)
            .wrapping_add((e & f) ^ (!e & g))
            .wrapping_add(K[i])
            .wrapping_add(w[i]);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
        (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
        (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
        i += 1;
    }
    let add = [a, b, c, d, e, f, g, h];
    let mut sum = state;
    let mut i = 0;
    while i < 8 {
        sum[i] = sum[i].wrapping_add(add[i]);
        i += 1;
    }
    sum
}

const H: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

#[cfg(test)]
mod tests {
    use super::sha256;
    use sha2::{Digest, Sha256};

    #[test]
    fn equals_another_implementation_at_every_length() {
        let input: Vec<u8> = (0..300u32).map(|i| (i * i) as u8).collect();
        for len in 0..input.len() {
            let input = &input[..len];
            assert_eq!(
                sha256(input),
                <[u8; 32]>::from(Sha256::digest(input)),
                "{len}"
            );
        }
    }
}
