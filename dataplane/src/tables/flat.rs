//! A read-only map from small keys to 32-bit values: what control compiles and packets look up.
//!
//! Open addressing with linear probing at no more than half load; one multiplication to find the slot (three for an
//! IPv6 address and port). The multiplier is keyed, because tenants choose addresses and names.

use crate::frame::prefetch;

/// What a map is looked up by.
pub trait Key: Copy + Eq {
    /// A key for slots that are empty; it may be a real one.
    const NONE: Self;

    /// One word that goes into the multiplication; `multiplier` is odd and secret.
    fn folded(self, multiplier: u64) -> u64;
}

impl Key for u64 {
    const NONE: Self = 0;

    #[inline]
    fn folded(self, _: u64) -> u64 {
        // The high half carries what the low bits of the key did to the product, and the other way round.
        self ^ (self >> 32)
    }
}

impl Key for u32 {
    const NONE: Self = 0;

    #[inline]
    fn folded(self, _: u64) -> u64 {
        u64::from(self)
    }
}

impl Key for u128 {
    const NONE: Self = 0;

    #[inline]
    fn folded(self, multiplier: u64) -> u64 {
        let high = ((self >> 64) as u64).wrapping_mul(multiplier);
        (self as u64).wrapping_add(high ^ (high >> 32)).folded(multiplier)
    }
}

impl Key for (u128, u32) {
    const NONE: Self = (0, 0);

    #[inline]
    fn folded(self, multiplier: u64) -> u64 {
        let address = self.0.folded(multiplier).wrapping_mul(multiplier);
        (address ^ (address >> 32)).wrapping_add(u64::from(self.1))
    }
}

/// A compiled map. Equal contents and seeds give equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatMap<K> {
    slots: Box<[Slot<K>]>,
    multiplier: u64,
    shift: u32,
    empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot<K> {
    key: K,
    value: u32,
}

/// No entry; never a value.
const EMPTY: u32 = u32::MAX;

impl<K: Key> FlatMap<K> {
    /// Of these entries; a key given twice keeps its last value. No value may be `u32::MAX`.
    #[must_use]
    pub fn new(seed: u64, entries: impl IntoIterator<Item = (K, u32)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        let capacity = (entries.len() * 2).next_power_of_two().max(8);
        let slots = vec![Slot { key: K::NONE, value: EMPTY }; capacity].into_boxed_slice();
        // Odd, so that the multiplication is a permutation.
        let mut map =
            Self { slots, multiplier: seed | 1, shift: 64 - capacity.trailing_zeros(), empty: entries.is_empty() };
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }

    /// Whether it has no entry.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    fn insert(&mut self, key: K, value: u32) {
        debug_assert_ne!(value, EMPTY);
        let mask = self.slots.len() - 1;
        let mut at = self.home(key);
        while self.slots[at].value != EMPTY && self.slots[at].key != key {
            at = (at + 1) & mask;
        }
        self.slots[at] = Slot { key, value };
    }

    #[inline]
    fn home(&self, key: K) -> usize {
        (key.folded(self.multiplier).wrapping_mul(self.multiplier) >> self.shift) as usize
    }

    /// Asks for the line in which `key` is looked for first.
    #[inline]
    pub fn expect(&self, key: K) {
        if let Some(slot) = self.slots.get(self.home(key)) {
            prefetch(slot);
        }
    }

    /// The value of `key`.
    #[must_use]
    #[inline]
    pub fn get(&self, key: K) -> Option<u32> {
        let mut at = self.home(key);
        loop {
            // The shift keeps the first within bounds, the mask the others.
            let slot = self.slots.get(at)?;
            if slot.value == EMPTY {
                return None;
            }
            if slot.key == key {
                return Some(slot.value);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_btree_map_finds(entries: BTreeMap<u64, u16>, seed: u64, others: Vec<u64>) {
            let map = FlatMap::new(seed, entries.iter().map(|(k, v)| (*k, u32::from(*v))));
            for key in entries.keys().chain(&others) {
                prop_assert_eq!(map.get(*key), entries.get(key).map(|v| u32::from(*v)));
            }
        }

        #[test]
        fn it_finds_addresses_and_ports_of_ipv6(entries: BTreeMap<(u128, u32), u16>, seed: u64, others: Vec<(u128, u32)>) {
            let map = FlatMap::new(seed, entries.iter().map(|(k, v)| (*k, u32::from(*v))));
            for key in entries.keys().chain(&others) {
                prop_assert_eq!(map.get(*key), entries.get(key).map(|v| u32::from(*v)));
            }
        }
    }
}
