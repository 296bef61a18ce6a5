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

/// Both homes of a hash at one moment: a bit for each way, the first home's lowest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    homes: [u32; 2],
    hits: u32,
    vacant: u32,
}

impl Survey {
    #[inline]
    fn place(self, bit: u32) -> Place {
        let [first, second] = self.homes;
        Place { bucket: if bit < WAYS as u32 { first } else { second }, way: (bit % WAYS as u32) as u8 }
    }

    /// The places that have the key.
    #[inline]
    pub(super) fn hits(self) -> impl Iterator<Item = Place> {
        let mut hits = self.hits;
        std::iter::from_fn(move || {
            let bit = (hits != 0).then(|| hits.trailing_zeros())?;
            hits &= hits - 1;
            Some(self.place(bit))
        })
    }

    /// A vacant place: in the first home, whose line a look-up has asked for, while it is not nearly full, else in the
    /// emptier. At half load 16 of 100 entries lie in their second home (37 with the emptier always), and in 131,072
    /// insertions none found both full (4 when the first is filled up to seven).
    #[inline]
    pub(super) fn vacancy(self) -> Option<Place> {
        const ROOMY: u32 = 3;
        const FIRST: u32 = (1 << WAYS) - 1;
        let (first, second) = (self.vacant & FIRST, self.vacant & !FIRST);
        let (here, there) = (first.count_ones(), second.count_ones());
        let vacant = if here >= ROOMY || here >= there { first } else { second };
        (vacant != 0).then(|| self.place(vacant.trailing_zeros()))
    }
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

    /// Asks for the lines of the first home, and for the keys of the second: a miss reads both.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let [first, second] = self.homes(hash);
        self.fetch(first);
        prefetch(&raw const self.buckets[second as usize].keys);
    }

    /// Asks for the other lines of the second home, where an entry may be written.
    #[inline]
    pub(super) fn prefetch_room(&self, hash: u64) {
        self.fetch(self.homes(hash)[1]);
    }

    #[inline]
    fn fetch(&self, bucket: u32) {
        let bucket = &raw const self.buckets[bucket as usize];
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

    /// Both homes in one pass: which ways have this key, and which have none.
    #[inline]
    pub(super) fn survey(&self, hash: u64, key: u64) -> Survey {
        let homes = self.homes(hash);
        let mut survey = Survey { homes, hits: 0, vacant: 0 };
        for (home, bucket) in homes.into_iter().enumerate() {
            for (way, slot) in self.buckets[bucket as usize].keys.iter().enumerate() {
                let (word, bit) = (slot.load(Relaxed), home * WAYS + way);
                survey.hits |= u32::from(word & self.key_mask == key) << bit;
                survey.vacant |= u32::from(word == 0) << bit;
            }
        }
        survey
    }

    /// All places of a hash, from the `from`th on.
    pub(super) fn places(&self, hash: u64, from: usize) -> impl Iterator<Item = Place> + Clone + '_ {
        let homes = self.homes(hash);
        (from..from + 2 * WAYS).map(move |n| Place { bucket: homes[n / WAYS % 2], way: (n % WAYS) as u8 })
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
