//! The books over all workers: rx + taken + made = tx + host + drops + given + held (design.md section 2).

use std::sync::Arc;

use serde::Serialize;
use sluice_dataplane::counters::Counters;
use sluice_dataplane::verdict::DropReason;

/// What came in and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Books {
    /// Received from ports.
    pub rx: u64,
    /// Taken from other workers' rings.
    pub taken: u64,
    /// Made here.
    pub made: u64,
    /// Transmitted, the host port excepted.
    pub tx: u64,
    /// Given to the node's kernel.
    pub host: u64,
    /// Dropped.
    pub drops: u64,
    /// Given to other workers' rings.
    pub given: u64,
    /// Held back.
    pub held: u64,
    /// Whether both sides are equal. A burst that is on its way while the counters are read makes them differ.
    pub balanced: bool,
}

impl Books {
    /// Of these workers together.
    #[must_use]
    pub fn of(workers: &[Arc<Counters>]) -> Self {
        let mut books = Self::default();
        for counters in workers {
            books.rx += counters.rx.get();
            books.taken += counters.taken.get();
            books.made += counters.made.get();
            books.tx += counters.tx.get();
            books.host += counters.host.get();
            books.drops += counters.dropped();
            books.given += counters.given.get();
            books.held += counters.held.get();
        }
        let came = books.rx + books.taken + books.made;
        let went = books.tx + books.host + books.drops + books.given + books.held;
        books.balanced = came == went;
        books
    }
}

/// Drops of one reason, over all workers.
#[must_use]
pub fn dropped(workers: &[Arc<Counters>], reason: DropReason) -> u64 {
    workers.iter().map(|c| c.drops(reason).get()).sum()
}
