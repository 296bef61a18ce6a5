//! The yardstick: how long this machine takes for a load that misses its caches, so that figures from two machines, or
//! from one machine on two days, can be compared as ratios.

use std::time::Instant;

/// Octets that the chase runs over: larger than the caches of one core.
const BYTES: usize = 64 << 20;
const LINE: usize = 64;
const LOADS: u32 = 1 << 20;

/// A cycle through every cache line of the buffer in an order that no prefetcher guesses.
pub struct Calibration {
    lines: Vec<Line>,
    at: u32,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    next: u32,
}

impl Default for Calibration {
    fn default() -> Self {
        let count = BYTES / LINE;
        let mut lines = vec![Line { next: 0 }; count];
        // Sattolo's shuffle gives one cycle; the generator is Knuth's MMIX, fixed so that all machines chase alike.
        let mut order: Vec<u32> = (0..count as u32).collect();
        let mut state = 1u64;
        for i in (1..count).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(i, ((state >> 33) % i as u64) as usize);
        }
        for (line, next) in lines.iter_mut().zip(order) {
            line.next = next;
        }
        Self { lines, at: 0 }
    }
}

impl Calibration {
    /// Nanoseconds per dependent load.
    pub fn run(&mut self) -> f64 {
        let start = Instant::now();
        let mut at = self.at;
        for _ in 0..LOADS {
            at = self.lines[at as usize].next;
        }
        self.at = std::hint::black_box(at);
        start.elapsed().as_nanos() as f64 / f64::from(LOADS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chase_visits_every_line_before_it_returns() {
        let calibration = Calibration::default();
        let mut at = 0;
        let length = std::iter::from_fn(|| {
            at = calibration.lines[at as usize].next;
            (at != 0).then_some(())
        });
        assert_eq!(length.count() + 1, BYTES / LINE);
    }
}
