//! A histogram that anybody may add to and read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Observations by upper bound, seconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    beyond: AtomicU64,
    sum_nanos: AtomicU64,
}

/// A moment's reading: cumulative counts by bound, all observations, their sum in seconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    /// `(upper bound in seconds, observations up to it)`.
    pub buckets: Vec<(f64, u64)>,
    /// All observations.
    pub count: u64,
    /// Their sum, seconds.
    pub sum: f64,
}

impl Histogram {
    /// For times from half a millisecond to ten seconds.
    #[must_use]
    pub fn latency() -> Self {
        const BOUNDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Self {
            bounds: BOUNDS,
            counts: BOUNDS.iter().map(|_| AtomicU64::new(0)).collect(),
            beyond: AtomicU64::new(0),
            sum_nanos: AtomicU64::new(0),
        }
    }

    /// Adds one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound);
        bucket.and_then(|b| self.counts.get(b)).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut count = 0;
        let buckets = self.bounds.iter().zip(&self.counts).map(|(bound, n)| {
            count += n.load(Relaxed);
            (*bound, count)
        });
        let buckets = buckets.collect();
        let count = count + self.beyond.load(Relaxed);
        Reading { buckets, count, sum: self.sum_nanos.load(Relaxed) as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_count_has_what_lies_beyond() {
        let histogram = Histogram::latency();
        for millis in [1, 3, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let reading = histogram.read();
        assert_eq!(reading.buckets[1], (0.001, 1));
        assert_eq!(reading.buckets[3], (0.005, 2));
        assert_eq!((reading.count, reading.buckets.last().copied()), (3, Some((10.0, 2))));
        assert!((reading.sum - 20.004).abs() < 1e-9);
    }
}
