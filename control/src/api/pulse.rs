//! Whether workers turn: their turn counters must move. An idle worker turns at least every 10 ms (design.md section 2).

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_dataplane::counters::Counters;

/// A worker that has not turned for longer is stuck.
pub const STUCK: Duration = Duration::from_secs(1);

/// The last movement that was seen of each worker.
#[derive(Debug)]
pub struct Pulse(Mutex<Vec<(u64, Instant)>>);

impl Pulse {
    /// Workers that count as having turned just now.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Mutex::new(vec![(0, Instant::now()); workers]))
    }

    /// Looks at the counters; to be called a few times a second.
    pub fn look(&self, workers: &[Arc<Counters>]) {
        self.look_at(workers, Instant::now());
    }

    fn look_at(&self, workers: &[Arc<Counters>], now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((turns, at), counters) in seen.iter_mut().zip(workers) {
            if *turns != counters.turns.get() {
                (*turns, *at) = (counters.turns.get(), now);
            }
        }
    }

    /// The workers that are stuck.
    pub fn stuck(&self, workers: &[Arc<Counters>]) -> Vec<usize> {
        let now = Instant::now();
        self.look_at(workers, now);
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let still = |(n, (_, at)): (usize, &(u64, Instant))| (now.duration_since(*at) > STUCK).then_some(n);
        seen.iter().enumerate().filter_map(still).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_a_second_after_its_last_turn() {
        let workers = vec![Arc::new(Counters::new(1, 1, 1)), Arc::new(Counters::new(1, 1, 1))];
        let pulse = Pulse::new(2);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        for worker in &workers {
            worker.turns.add(1);
        }
        pulse.look_at(&workers, long_ago);
        workers[0].turns.add(1);
        assert_eq!(pulse.stuck(&workers), [1]);
    }
}
