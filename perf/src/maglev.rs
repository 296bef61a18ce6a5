//! What filling a Maglev table costs: once for each service that has changed, in control, never in the packet path.

use std::time::Instant;

use sluice_dataplane::tables::hash::HashKey;
use sluice_dataplane::tables::maglev::{self, Candidate};

use crate::report::Row;

/// Backends of the service.
const BACKENDS: u32 = 1000;

/// Names in reports and table sizes.
pub fn fills() -> impl Iterator<Item = (&'static str, usize)> {
    [("maglev-65537", 65_537), ("maglev-655373", 655_373)].into_iter()
}

/// Nanoseconds per table of `size` entries for 1000 backends of equal weight, as a row.
#[must_use]
pub fn fill(name: &'static str, size: usize, runs: u32) -> Row {
    let names: Vec<_> = (0..BACKENDS).map(|n| format!("10.{}.{}.7:31001", n / 250, n % 250)).collect();
    let candidate = |(number, name)| Candidate { name, weight: 1, number };
    let candidates: Vec<_> = (0..BACKENDS).zip(names.iter().map(String::as_str)).map(candidate).collect();
    let once = |_| {
        let start = Instant::now();
        std::hint::black_box(maglev::fill(HashKey::new([7; 16]), &candidates, size));
        start.elapsed().as_nanos() as f64
    };
    Row::new(name, 0, 0, (0..runs).map(once).collect())
}
