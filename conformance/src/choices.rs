//! Where random decisions come from: bytes, of a fuzzer or made from a seed.

use arbitrary::Unstructured;

/// Decisions drawn from bytes. Once they are used up every decision is the first of its options, so
/// generators put the one that ends things first.
#[derive(Debug)]
pub struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    /// Decisions from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(Unstructured::new(bytes))
    }

    /// What the bytes left can be used for directly.
    pub fn unstructured(&mut self) -> &mut Unstructured<'a> {
        &mut self.0
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u32) -> u32 {
        self.0.int_in_range(0..=n - 1).unwrap_or(0)
    }

    /// True once in `n` times; false when there are no bytes left.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    /// One of `options`.
    pub fn pick<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len() as u32) as usize]
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0.int_in_range(0..=u64::MAX).unwrap_or(0)
    }
}

/// `len` bytes for `seed`, the same everywhere (splitmix64).
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len.div_ceil(8))
        .flat_map(|_| next().to_le_bytes())
        .take(len)
        .collect()
}
