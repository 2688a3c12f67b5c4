//! How often a counted loop goes round: arithmetic on its first value, its bound and its step.
//!
//! A loop tests `t(j)` in its iteration `j = 0, 1, …` and goes round again while `t(j) cond bound`, where
//! `t(j) = first + j * step` modulo `2^w`. What is computed here is the number of times that it goes
//! round: the least `j` for which the condition fails.
//!
//! The formulas are written once, over [`Arithmetic`], and used twice: on numbers, when everything is known at compile
//! time (and in tests, against counting), and on CLIF values.

use cranelift_codegen::ir::condcodes::IntCC;

/// More rounds than any limit can pay for, when each costs `fuel`.
///
/// Multiplied by `fuel` it is above [`MOST_FUEL`], so that an execution that has paid for it is over any limit, and small enough
/// not to wrap the counter, which starts above `-MOST_FUEL`.
pub(crate) fn endless(fuel: u64) -> u64 {
    MOST_FUEL / fuel + 1
}

/// The highest limit that executions may have, in fuel.
pub const MOST_FUEL: u64 = 1 << 60;

/// The most that a round may cost for its loop to be prepaid, in fuel. For a counter of 32 bits, `2^32` rounds of it
/// are below [`MOST_FUEL`].
pub(crate) const MOST_FUEL_PER_ROUND: u64 = (1 << 28) - 1;

const _: () = assert!((1 << 32) * MOST_FUEL_PER_ROUND < MOST_FUEL);

/// The arithmetic that the formulas need, on values of the loop's width unless said otherwise.
pub(crate) trait Arithmetic {
    type Value: Copy;
    fn constant(&mut self, value: u64) -> Self::Value;
    fn sub(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    fn mul(&mut self, a: Self::Value, factor: u64) -> Self::Value;
    fn shift_right(&mut self, a: Self::Value, bits: u32) -> Self::Value;
    fn low_bits(&mut self, a: Self::Value, bits: u32) -> Self::Value;
    /// `if a cond b { yes } else { no }`; `yes` and `no` of any, the same, width.
    fn select_if(
        &mut self,
        cond: IntCC,
        a: Self::Value,
        b: Self::Value,
        yes: Self::Value,
        no: Self::Value,
    ) -> Self::Value;
    /// Zero-extends to 64 bits.
    fn widen(&mut self, a: Self::Value) -> Self::Value;
    /// A constant of 64 bits.
    fn wide_constant(&mut self, value: u64) -> Self::Value;
    /// Adds one, in 64 bits.
    fn wide_increment(&mut self, a: Self::Value) -> Self::Value;
    /// `if a > limit { limit } else { a }`, in 64 bits.
    fn wide_at_most(&mut self, a: Self::Value, limit: u64) -> Self::Value;
}

/// The rule by which a loop goes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// It goes round while `t(j) cond bound`.
    pub(crate) cond: IntCC,
    /// What is added each time, of `bits` bits, not 0.
    pub(crate) step: i64,
    /// Width of the counter: 32 or 64 (8 in tests).
    pub(crate) bits: u32,
}

/// A rule for which there is a formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Formula {
    rule: Rule,
    kind: Kind,
    /// `step` is `odd * 2^shift`, up to its sign for comparisons other than [`Kind::Until`].
    shift: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Until the bound is hit, however often the counter wraps: the inverse of `odd`.
    Until { inverse: u64 },
    /// Until the bound is reached from below (`step > 0`) or from above, without wrapping. `inclusive` if it goes round once
    /// more at the bound itself.
    Towards { inclusive: bool },
}

impl Rule {
    /// The formula, if there is one; `bound` is the bound if it is known, extended in any way.
    ///
    /// None for loops that go on while equal, that move away from their bound, whose step is no power of two
    /// (other than with `!=`), and that may wrap past their bound.
    pub(crate) fn formula(self, bound: Option<i64>) -> Option<Formula> {
        let mask = u64::MAX >> (64 - self.bits);
        let step = sign_extend(self.step as u64, self.bits);
        if step == 0 {
            return None;
        }
        let shift = step.trailing_zeros();
        if self.cond == IntCC::NotEqual {
            let inverse = inverse_of_odd((step >> shift) as u64) & mask;
            return Some(Formula {
                rule: self,
                kind: Kind::Until { inverse },
                shift,
            });
        }
        if self.cond == IntCC::Equal || !step.unsigned_abs().is_power_of_two() {
            return None;
        }
        let upwards = matches!(
            self.cond,
            IntCC::SignedLessThan
                | IntCC::SignedLessThanOrEqual
                | IntCC::UnsignedLessThan
                | IntCC::UnsignedLessThanOrEqual
        );
        let inclusive = matches!(
            self.cond,
            IntCC::SignedLessThanOrEqual
                | IntCC::UnsignedLessThanOrEqual
                | IntCC::SignedGreaterThanOrEqual
                | IntCC::UnsignedGreaterThanOrEqual
        );
        if upwards != (step > 0) {
            return None;
        }
        // The last value is past the bound by less than a step, or by up to a step if inclusive. It must not wrap. By one: never
        // if exclusive; if inclusive only past the last value there is, when the loop is endless.
        if shift > 0 {
            let bound = sign_extend(bound? as u64, self.bits);
            let room = match (upwards, is_signed(self.cond)) {
                (true, true) => signed_max(self.bits) as i128 - i128::from(bound),
                (false, true) => i128::from(bound) - (-(signed_max(self.bits) as i128) - 1),
                (true, false) => i128::from(mask) - i128::from(bound as u64 & mask),
                (false, false) => i128::from(bound as u64 & mask),
            };
            let past = i128::from(step.unsigned_abs()) - i128::from(!inclusive);
            if room < past {
                return None;
            }
        }
        Some(Formula {
            rule: self,
            kind: Kind::Towards { inclusive },
            shift,
        })
    }
}

impl Formula {
    /// How often the loop goes round, [`endless`] if it never stops, in 64 bits. `fuel` is what a round costs.
    pub(crate) fn rounds<A: Arithmetic>(
        self,
        math: &mut A,
        first: A::Value,
        bound: A::Value,
        fuel: u64,
    ) -> A::Value {
        let Rule { cond, step, bits } = self.rule;
        let mask = u64::MAX >> (64 - bits);
        let upwards = sign_extend(step as u64, bits) > 0;
        let rounds = match self.kind {
            Kind::Until { inverse } => {
                let negated = inverse == mask;
                let distance = if negated {
                    math.sub(first, bound)
                } else {
                    math.sub(bound, first)
                };
                let quotient = if inverse == 1 || negated {
                    distance
                } else {
                    math.mul(distance, inverse)
                };
                let rounds = math.shift_right(quotient, self.shift);
                let rounds = math.widen(rounds);
                if self.shift == 0 {
                    rounds
                } else {
                    // Stepped over, for ever.
                    let rest = math.low_bits(distance, self.shift);
                    let zero = math.constant(0);
                    let endless = math.wide_constant(endless(fuel));
                    math.select_if(IntCC::Equal, rest, zero, rounds, endless)
                }
            }
            Kind::Towards { inclusive } => {
                let distance = if upwards {
                    math.sub(bound, first)
                } else {
                    math.sub(first, bound)
                };
                // Of exclusive ones the last partial step counts in full.
                let distance = if inclusive || self.shift == 0 {
                    distance
                } else {
                    let one = math.constant(1);
                    math.sub(distance, one)
                };
                let rounds = math.shift_right(distance, self.shift);
                let rounds = math.widen(rounds);
                let rounds = if inclusive || self.shift > 0 {
                    math.wide_increment(rounds)
                } else {
                    rounds
                };
                let zero = math.wide_constant(0);
                let rounds = math.select_if(cond, first, bound, rounds, zero);
                if inclusive && self.shift == 0 {
                    // Nothing is past the last value.
                    let last = math.constant(last_value(cond, bits));
                    let endless = math.wide_constant(endless(fuel));
                    math.select_if(IntCC::Equal, bound, last, endless, rounds)
                } else {
                    rounds
                }
            }
        };
        if bits < 64 {
            rounds
        } else {
            math.wide_at_most(rounds, endless(fuel))
        }
    }
}

fn is_signed(cond: IntCC) -> bool {
    matches!(
        cond,
        IntCC::SignedLessThan
            | IntCC::SignedLessThanOrEqual
            | IntCC::SignedGreaterThan
            | IntCC::SignedGreaterThanOrEqual
    )
}

fn signed_max(bits: u32) -> u64 {
    (1 << (bits - 1)) - 1
}

/// The value that every other is within `cond` (inclusive) of.
fn last_value(cond: IntCC, bits: u32) -> u64 {
    let mask = u64::MAX >> (64 - bits);
    match cond {
        IntCC::SignedLessThanOrEqual => signed_max(bits),
        IntCC::SignedGreaterThanOrEqual => signed_max(bits) + 1,
        IntCC::UnsignedLessThanOrEqual => mask,
        _ => 0,
    }
}

fn sign_extend(value: u64, bits: u32) -> i64 {
    ((value << (64 - bits)) as i64) >> (64 - bits)
}

/// Modulo `2^64`, by Newton's iteration: each step doubles the correct bits, of which `odd` itself has three.
fn inverse_of_odd(odd: u64) -> u64 {
    let mut inverse = odd;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse
}

/// Arithmetic on numbers.
pub(crate) struct Numbers {
    pub(crate) bits: u32,
}

impl Numbers {
    fn mask(&self, value: u64) -> u64 {
        value & (u64::MAX >> (64 - self.bits))
    }
}

impl Arithmetic for Numbers {
    type Value = u64;
    fn constant(&mut self, value: u64) -> u64 {
        self.mask(value)
    }
    fn sub(&mut self, a: u64, b: u64) -> u64 {
        self.mask(a.wrapping_sub(b))
    }
    fn mul(&mut self, a: u64, factor: u64) -> u64 {
        self.mask(a.wrapping_mul(factor))
    }
    fn shift_right(&mut self, a: u64, bits: u32) -> u64 {
        a >> bits
    }
    fn low_bits(&mut self, a: u64, bits: u32) -> u64 {
        a & ((1 << bits) - 1)
    }
    fn select_if(&mut self, cond: IntCC, a: u64, b: u64, yes: u64, no: u64) -> u64 {
        if holds(cond, a, b, self.bits) {
            yes
        } else {
            no
        }
    }
    fn widen(&mut self, a: u64) -> u64 {
        a
    }
    fn wide_constant(&mut self, value: u64) -> u64 {
        value
    }
    fn wide_increment(&mut self, a: u64) -> u64 {
        // Only the count of an endless loop of 64 bits wraps, and that is replaced.
        a.wrapping_add(1)
    }
    fn wide_at_most(&mut self, a: u64, limit: u64) -> u64 {
        a.min(limit)
    }
}

/// Whether `a cond b`, as numbers of `bits` bits.
fn holds(cond: IntCC, a: u64, b: u64, bits: u32) -> bool {
    let (sa, sb) = (sign_extend(a, bits), sign_extend(b, bits));
    match cond {
        IntCC::Equal => a == b,
        IntCC::NotEqual => a != b,
        IntCC::SignedLessThan => sa < sb,
        IntCC::SignedLessThanOrEqual => sa <= sb,
        IntCC::SignedGreaterThan => sa > sb,
        IntCC::SignedGreaterThanOrEqual => sa >= sb,
        IntCC::UnsignedLessThan => a < b,
        IntCC::UnsignedLessThanOrEqual => a <= b,
        IntCC::UnsignedGreaterThan => a > b,
        IntCC::UnsignedGreaterThanOrEqual => a >= b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    const CONDITIONS: [IntCC; 10] = [
        IntCC::Equal,
        IntCC::NotEqual,
        IntCC::SignedLessThan,
        IntCC::SignedLessThanOrEqual,
        IntCC::SignedGreaterThan,
        IntCC::SignedGreaterThanOrEqual,
        IntCC::UnsignedLessThan,
        IntCC::UnsignedLessThanOrEqual,
        IntCC::UnsignedGreaterThan,
        IntCC::UnsignedGreaterThanOrEqual,
    ];

    /// Loops over counters of 8 bits, with every condition, step and first value, against going round them.
    #[test]
    fn formulas_count_every_loop_of_8_bits() {
        let fuel = 7;
        let mut formulas = 0;
        for cond in CONDITIONS {
            for step in -128i64..128 {
                let rule = Rule {
                    cond,
                    step,
                    bits: 8,
                };
                // All extremes, and enough others: every distance and remainder occurs with some `first`.
                for bound in (0..256u64).filter(|b| b % 11 == 5 || b.wrapping_add(3) % 128 < 6) {
                    let known = rule.formula(Some(bound as i64));
                    let unknown = rule.formula(None);
                    assert!(unknown.is_none() || unknown == known, "{rule:?}");
                    let Some(formula) = known else { continue };
                    formulas += 1;
                    for first in 0..256u64 {
                        let counted = formula.rounds(&mut Numbers { bits: 8 }, first, bound, fuel);
                        let mut value = first;
                        let mut rounds = 0;
                        while rounds <= 256 && holds(cond, value, bound, 8) {
                            rounds += 1;
                            value = value.wrapping_add(step as u64) & 0xff;
                        }
                        let rounds = if rounds > 256 { endless(fuel) } else { rounds };
                        assert_eq!(counted, rounds, "{rule:?} from {first} to {bound}");
                    }
                }
            }
        }
        // With 34 bounds: 255 steps with !=, and powers of two with the eight others, most of them.
        assert!(formulas > 34 * (255 + 8 * 4), "{formulas}");
    }

    #[test]
    fn counters_of_64_bits_do_not_wrap_the_fuel() -> anyhow::Result<()> {
        for fuel in [1, 3, 255, MOST_FUEL_PER_ROUND] {
            let rule = Rule {
                cond: IntCC::NotEqual,
                step: 1,
                bits: 64,
            };
            let formula = rule.formula(None).context("a formula")?;
            let mut math = Numbers { bits: 64 };
            let most = formula.rounds(&mut math, 0, u64::MAX, fuel);
            assert_eq!(most, endless(fuel));
            let charged = most.checked_mul(fuel).context("no overflow")?;
            assert!(charged > MOST_FUEL && charged < 1 << 62);
            assert_eq!(formula.rounds(&mut math, 5, 4000, fuel), 3995);
        }
        Ok(())
    }
}
