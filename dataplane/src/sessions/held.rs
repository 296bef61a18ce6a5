//! How many SNAT ports each client holds, nearly: a count-min sketch (Cormode and Muthukrishnan 2005), bounded and keyed.
//!
//! A table by client would grow with an attacker's addresses. Two rows of counters do not, and err on one side only: a
//! client never seems to hold less than it does, and more only where others meet it in both rows.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::caller::Caller;
use crate::frame::prefetch;
use crate::tables::hash::MixKey;

/// The sketch.
#[derive(Debug)]
pub(super) struct Held {
    rows: [Box<[AtomicU32]>; 2],
}

impl Held {
    /// For `capacity` sessions: at full load two counters of a row in 16 of their own number are met by chance.
    pub(super) fn new(capacity: usize) -> Self {
        // 64 KB to 512 KB in all: what a core's second-level cache holds beside its other tables.
        let width = (capacity / 16).next_power_of_two().clamp(8192, 65_536);
        let row = || (0..width).map(|_| AtomicU32::new(0)).collect();
        Self { rows: [row(), row()] }
    }

    /// Where a client is counted.
    #[inline]
    pub(super) fn hash<A: Caller>(&self, key: MixKey, ip: A) -> u64 {
        let [high, low] = ip.holder();
        key.two(high, low)
    }

    /// Asks for the lines of a client's counters.
    #[inline]
    pub(super) fn expect(&self, hash: u64) {
        self.cells(hash).into_iter().for_each(|cell| prefetch(cell));
    }

    #[inline]
    fn cells(&self, hash: u64) -> [&AtomicU32; 2] {
        let [first, second] = &self.rows;
        let mask = first.len() - 1;
        [&first[hash as usize & mask], &second[(hash >> 32) as usize & mask]]
    }

    #[inline]
    pub(super) fn add(&self, hash: u64) {
        for cell in self.cells(hash) {
            cell.store(cell.load(Relaxed).saturating_add(1), Relaxed);
        }
    }

    #[inline]
    pub(super) fn subtract(&self, hash: u64) {
        for cell in self.cells(hash) {
            cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// At least as many as the client holds.
    #[inline]
    pub(super) fn most(&self, hash: u64) -> u32 {
        let [first, second] = self.cells(hash);
        first.load(Relaxed).min(second.load(Relaxed))
    }
}
