//! Histograms that a signal handler can write.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Buckets within a power of two, as a power of two: a bucket is at most a quarter as wide as its values are large.
const SUB_BITS: u32 = 2;
const SUBS: usize = 1 << SUB_BITS;

/// One for each value below [`SUBS`], then [`SUBS`] for each power of two up to 2^64.
const BUCKETS: usize = SUBS + (64 - SUB_BITS as usize) * SUBS;

/// Counts of values by size, of any `u64`s.
///
/// Recording is async-signal-safe: atomic additions to fixed places. Values, their sum and their maximum are counted one
/// after the other, so a snapshot taken meanwhile may have one and not yet the other.
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl Histogram {
    /// Counts `value`.
    pub fn record(&self, value: u64) {
        // In range for each value, so that this cannot panic: see `index_is_in_range`.
        if let Some(count) = self.counts.get(index(value)) {
            count.fetch_add(1, Relaxed);
        }
        // Wraps after 2^64 units; so does what is computed from differences of it, consistently.
        self.sum.fetch_add(value, Relaxed);
        self.max.fetch_max(value, Relaxed);
    }

    /// What has been counted so far.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            counts: std::array::from_fn(|index| self.counts[index].load(Relaxed)),
            sum: self.sum.load(Relaxed),
            max: self.max.load(Relaxed),
        }
    }
}

/// What a [`Histogram`] had counted at some moment. Those of several histograms can be added up.
#[derive(Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: [u64; BUCKETS],
    sum: u64,
    max: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> HistogramSnapshot {
        HistogramSnapshot {
            counts: [0; BUCKETS],
            sum: 0,
            max: 0,
        }
    }
}

impl HistogramSnapshot {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, modulo 2^64.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest, 0 if there are none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A value that a share of `q` (0 to 1) of the values do not exceed, and above the true quantile by a quarter of it at
    /// most; `None` if there are no values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = ((self.count() as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts
            .iter()
            .position(|count| {
                seen += count;
                seen >= rank
            })
            .map(|index| upper_bound(index).min(self.max))
    }

    /// The buckets that have values, ascending: the largest value that belongs in each, and how many it has.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (upper_bound(index), *count))
    }

    /// How many values are at most `bound`, which counts whole buckets: those whose largest value is at most `bound`.
    pub fn count_up_to(&self, bound: u64) -> u64 {
        self.buckets()
            .take_while(|(upper, _)| *upper <= bound)
            .map(|(_, count)| count)
            .sum()
    }

    /// Adds what another histogram has counted.
    pub fn add(&mut self, other: &HistogramSnapshot) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

impl fmt::Debug for HistogramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("sum", &self.sum)
            .field("max", &self.max)
            .field("buckets", &self.buckets().collect::<Vec<_>>())
            .finish()
    }
}

fn index(value: u64) -> usize {
    match value.checked_ilog2() {
        Some(exponent) if exponent >= SUB_BITS => {
            let shift = exponent - SUB_BITS;
            // The leading bit and the SUB_BITS after it; the leading bit adds SUBS.
            shift as usize * SUBS + (value >> shift) as usize
        }
        _ => value as usize,
    }
}

/// The largest value with this index.
fn upper_bound(index: usize) -> u64 {
    let (shift, top) = match (index / SUBS).checked_sub(1) {
        Some(shift) => (shift, SUBS + index % SUBS),
        None => (0, index),
    };
    // All ones below the leading bits; in this order it does not overflow for the last one.
    ((top as u64) << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_in_range() {
        assert_eq!(index(0), 0);
        assert_eq!(index(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_bound(BUCKETS - 1), u64::MAX);
    }

    /// Each bucket begins after the one before ends, and its width is at most a quarter of its values.
    #[test]
    fn buckets_have_no_gaps() {
        for at in 0..BUCKETS {
            let last = upper_bound(at);
            assert_eq!(index(last), at, "{last}");
            let first = at
                .checked_sub(1)
                .map_or(0, |before| upper_bound(before) + 1);
            assert_eq!(index(first), at, "{first}");
            assert!(last - first <= first / 4, "{first}..={last}");
        }
    }

    #[test]
    fn quantiles_bound_the_values() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for value in 1..=1000 {
            histogram.record(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.max()), (1000, 1000));
        assert_eq!(snapshot.sum(), 500_500);
        for (q, value) in [(0.0, 1), (0.001, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let quantile = snapshot.quantile(q).expect("not empty");
            assert!(
                (value..=value + value / 4).contains(&quantile),
                "{q}: {quantile}"
            );
        }
        assert_eq!(snapshot.count_up_to(7), 7);
        assert_eq!(snapshot.count_up_to(u64::MAX), 1000);
    }

    #[test]
    fn snapshots_add_up() {
        let (one, other, both) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for (histogram, value) in [(&one, 3), (&other, 3), (&other, u64::MAX), (&one, 70)] {
            histogram.record(value);
            both.record(value);
        }
        let mut sum = one.snapshot();
        sum.add(&other.snapshot());
        assert_eq!(sum, both.snapshot());
        assert_eq!(
            sum.buckets().map(|(_, count)| count).collect::<Vec<_>>(),
            [2, 1, 1]
        );
    }
}
