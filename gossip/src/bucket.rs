//! So many at once, so many a second.

use std::time::Instant;

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    level: f64,
    capacity: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    /// Full.
    pub(crate) fn new(capacity: f64, per_second: f64, now: Instant) -> Bucket {
        Bucket {
            level: capacity,
            capacity,
            per_second,
            at: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + seconds * self.per_second).min(self.capacity);
        self.at = now;
    }

    /// Whether `count` are there; takes them then.
    pub(crate) fn take(&mut self, count: f64, now: Instant) -> bool {
        self.fill(now);
        let there = self.level >= count;
        if there {
            self.level -= count;
        }
        there
    }

    /// Whether nothing has been taken that has not come back.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level >= self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_taken_comes_back_with_time_and_no_more() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut bucket = Bucket::new(2.0, 0.5, start);
        assert!(bucket.take(1.0, at(0.0)) && bucket.take(1.0, at(0.0)));
        assert!(!bucket.take(1.0, at(1.0)));
        assert!(bucket.take(1.0, at(2.0)));
        assert!(!bucket.is_full(at(5.0)));
        assert!(bucket.is_full(at(100.0)));
        assert!(!bucket.take(2.5, at(200.0)) && bucket.take(2.0, at(200.0)));
        // A clock that goes back gives nothing.
        assert!(!bucket.take(0.5, at(1.0)));
    }
}
