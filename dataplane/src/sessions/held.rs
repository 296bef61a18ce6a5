//! How many SNAT ports each client holds, nearly: a count-min sketch (Cormode and Muthukrishnan 2005), bounded and keyed.
//!
//! A table by client would grow with an attacker's addresses. Two rows of counters do not, and err on one side only: a
//! client never seems to hold less than it does, and more only where others meet it in both rows.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::address::Address;
use crate::tables::hash::HashKey;

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

    #[inline]
    fn cells<A: Address>(&self, key: HashKey, ip: A) -> [&AtomicU32; 2] {
        let [high, low] = ip.words();
        let hash = key.two(high, low);
        let [first, second] = &self.rows;
        let mask = first.len() - 1;
        [&first[hash as usize & mask], &second[(hash >> 32) as usize & mask]]
    }

    #[inline]
    pub(super) fn add<A: Address>(&self, key: HashKey, ip: A) {
        for cell in self.cells(key, ip) {
            cell.store(cell.load(Relaxed).saturating_add(1), Relaxed);
        }
    }

    #[inline]
    pub(super) fn subtract<A: Address>(&self, key: HashKey, ip: A) {
        for cell in self.cells(key, ip) {
            cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// At least as many as the client holds.
    #[inline]
    pub(super) fn most<A: Address>(&self, key: HashKey, ip: A) -> u32 {
        let [first, second] = self.cells(key, ip);
        first.load(Relaxed).min(second.load(Relaxed))
    }
}
