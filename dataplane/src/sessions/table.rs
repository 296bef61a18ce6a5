//! The hash table of one direction: 8-way buckets, two homes a hash.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::address::Address;
use crate::frame::{huge_pages, prefetch};

pub(super) const WAYS: usize = 8;

/// Octets of a cache line.
const LINE: usize = 64;

/// Eight keys in one line, their values in the next, and for IPv6 their addresses in the two after those.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Bucket<A: Address> {
    pub(super) keys: [AtomicU64; WAYS],
    pub(super) values: [AtomicU64; WAYS],
    pub(super) beside: [A::Beside; WAYS],
}

impl<A: Address> Default for Bucket<A> {
    fn default() -> Self {
        Self { keys: Default::default(), values: Default::default(), beside: Default::default() }
    }
}

/// One direction's entries.
#[derive(Debug)]
pub(super) struct Side<A: Address> {
    pub(super) buckets: Box<[Bucket<A>]>,
    /// Bits of a key word that are the key; the rest is time.
    key_mask: u64,
}

/// A slot of one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) bucket: u32,
    pub(super) way: u8,
}

impl<A: Address> Side<A> {
    pub(super) fn new(slots: usize, key_mask: u64) -> Self {
        let count = (slots / WAYS).next_power_of_two();
        let mut buckets = Vec::with_capacity(count);
        huge_pages(buckets.spare_capacity_mut());
        buckets.resize_with(count, Bucket::default);
        Self { buckets: buckets.into(), key_mask }
    }

    #[inline]
    fn homes(&self, hash: u64) -> [u32; 2] {
        let mask = self.buckets.len() as u32 - 1;
        [hash as u32 & mask, (hash >> 32) as u32 & mask]
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let bucket = &raw const self.buckets[self.homes(hash)[0] as usize];
        for line in 0..size_of::<Bucket<A>>() / LINE {
            prefetch(bucket.cast::<u8>().wrapping_add(line * LINE));
        }
    }

    /// The entry with this key whose place `confirm` accepts. Entries of different IPv6 addresses may share a key word.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: u64, confirm: impl Fn(Place) -> bool) -> Option<Place> {
        self.homes(hash).into_iter().find_map(|bucket| {
            let keys = &self.buckets[bucket as usize].keys;
            // All eight are compared before anything branches: the hit's way is not predictable.
            let mut hits = 0u32;
            for (way, slot) in keys.iter().enumerate() {
                hits |= u32::from(slot.load(Relaxed) & self.key_mask == key) << way;
            }
            while hits != 0 {
                let at = Place { bucket, way: hits.trailing_zeros() as u8 };
                if confirm(at) {
                    return Some(at);
                }
                hits &= hits - 1;
            }
            None
        })
    }

    /// A vacant place for this hash: the first home, whose line a look-up has asked for, while it is not nearly full,
    /// else the emptier. At half load 16 of 100 entries lie in their second home (37 with the emptier always), and in
    /// 131,072 insertions none found both full (4 when the first is filled up to seven).
    pub(super) fn vacant(&self, hash: u64) -> Option<Place> {
        const ROOMY: usize = 3;
        let free = |bucket: u32| {
            let keys = &self.buckets[bucket as usize].keys;
            let vacant = keys.iter().filter(|k| k.load(Relaxed) == 0).count();
            let way = keys.iter().position(|k| k.load(Relaxed) == 0)? as u8;
            Some((vacant, Place { bucket, way }))
        };
        let [first, second] = self.homes(hash).map(free);
        match (first, second) {
            (Some((a, place)), Some((b, _))) if a >= ROOMY || a >= b => Some(place),
            (_, Some((_, place))) | (Some((_, place)), None) => Some(place),
            (None, None) => None,
        }
    }

    pub(super) fn places(&self, hash: u64) -> impl Iterator<Item = Place> + '_ {
        let homes = self.homes(hash);
        homes.into_iter().flat_map(|bucket| (0..WAYS as u8).map(move |way| Place { bucket, way }))
    }

    #[inline]
    pub(super) fn key(&self, at: Place) -> &AtomicU64 {
        &self.buckets[at.bucket as usize].keys[usize::from(at.way)]
    }

    #[inline]
    pub(super) fn value(&self, at: Place) -> &AtomicU64 {
        &self.buckets[at.bucket as usize].values[usize::from(at.way)]
    }

    #[inline]
    pub(super) fn beside(&self, at: Place) -> &A::Beside {
        &self.buckets[at.bucket as usize].beside[usize::from(at.way)]
    }
}
