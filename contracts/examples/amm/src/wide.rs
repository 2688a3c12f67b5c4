//! Products of two 128-bit numbers, which have up to 256 bits, divided and rooted.

/// The quotient of a product, rounded down, and whether there is a remainder. `None` when `by` is 0 or the quotient
/// has more than 128 bits.
pub fn mul_div(a: u128, b: u128, by: u128) -> Option<(u128, bool)> {
    let (low, high) = a.carrying_mul(b, 0);
    if high == 0 {
        return Some((low.checked_div(by)?, low.checked_rem(by)? != 0));
    }
    // Otherwise the quotient does not fit. `by` is not 0 from here on.
    if high >= by {
        return None;
    }
    // Long division, bit by bit: `rest` is below `by` before and after each step, and 129 bits long within.
    let (mut quotient, mut rest) = (0, high);
    for bit in (0..u128::BITS).rev() {
        let carry = rest >> 127;
        rest = (rest << 1) | ((low >> bit) & 1);
        quotient <<= 1;
        if carry == 1 || rest >= by {
            rest = rest.wrapping_sub(by);
            quotient |= 1;
        }
    }
    Some((quotient, rest != 0))
}

/// The quotient of a product, rounded up. `None` as for [`mul_div`].
pub fn mul_div_up(a: u128, b: u128, by: u128) -> Option<u128> {
    let (quotient, inexact) = mul_div(a, b, by)?;
    quotient.checked_add(u128::from(inexact))
}

/// The square root of a product, rounded down.
pub fn sqrt_of_product(a: u128, b: u128) -> u128 {
    let (low, high) = a.carrying_mul(b, 0);
    let mut root = 0;
    for bit in (0..u128::BITS).rev() {
        let larger = root | (1 << bit);
        let (square_low, square_high) = u128::carrying_mul(larger, larger, 0);
        if (square_high, square_low) <= (high, low) {
            root = larger;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers of all lengths.
    fn number() -> impl Strategy<Value = u128> {
        (any::<u128>(), 0..=128u32).prop_map(|(bits, len)| bits.checked_shr(128 - len).unwrap_or(0))
    }

    proptest! {
        #[test]
        fn quotient_times_divisor_and_remainder_is_the_product(a in number(), b in number(), by in number()) {
            let product = a.carrying_mul(b, 0);
            match mul_div(a, b, by) {
                None => prop_assert!(by == 0 || product.1 >= by),
                Some((quotient, inexact)) => {
                    // quotient * by <= product < quotient * by + by
                    let (least_low, least_high) = quotient.carrying_mul(by, 0);
                    let (most_low, most_high) = quotient.carrying_mul(by, by - 1);
                    prop_assert!((least_high, least_low) <= (product.1, product.0));
                    prop_assert!((product.1, product.0) <= (most_high, most_low));
                    prop_assert_eq!(inexact, (least_low, least_high) != product);
                    let up = quotient.checked_add(u128::from(inexact));
                    prop_assert_eq!(mul_div_up(a, b, by), up);
                }
            }
        }

        #[test]
        fn a_root_is_the_greatest_whose_square_is_not_above(a in number(), b in number()) {
            let (low, high) = a.carrying_mul(b, 0);
            let root = sqrt_of_product(a, b);
            let (square_low, square_high) = root.carrying_mul(root, 0);
            prop_assert!((square_high, square_low) <= (high, low));
            if let Some(more) = root.checked_add(1) {
                let (square_low, square_high) = more.carrying_mul(more, 0);
                prop_assert!((square_high, square_low) > (high, low));
            }
        }
    }

    #[test]
    fn edges() {
        let max = u128::MAX;
        assert_eq!(mul_div(max, max, max), Some((max, false)));
        assert_eq!(mul_div(max, max, max - 1), None);
        assert_eq!(mul_div(max, max, 0), None);
        assert_eq!(mul_div(0, max, 0), None);
        assert_eq!(mul_div(max - 1, max, max), Some((max - 1, false)));
        assert_eq!(mul_div_up(max, max - 1, max), Some(max - 1));
        assert_eq!(sqrt_of_product(max, max), max);
        assert_eq!(sqrt_of_product(0, max), 0);
    }
}
