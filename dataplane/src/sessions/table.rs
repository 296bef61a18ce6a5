//! The hash table of one direction: 8-way buckets, two homes a hash.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::caller::Caller;
use crate::frame::{huge_pages, prefetch};

pub(super) const WAYS: usize = 8;

/// Octets of a cache line.
const LINE: usize = 64;

/// Eight keys in one line, their values in the next, and for IPv6 their addresses in the two after those.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Bucket<A: Caller> {
    pub(super) keys: [AtomicU64; WAYS],
    pub(super) values: [AtomicU64; WAYS],
    pub(super) beside: [A::Beside; WAYS],
}

impl<A: Caller> Default for Bucket<A> {
    fn default() -> Self {
        Self { keys: Default::default(), values: Default::default(), beside: Default::default() }
    }
}

/// One direction's entries.
#[derive(Debug)]
pub(super) struct Side<A: Caller> {
    pub(super) buckets: Box<[Bucket<A>]>,
    /// Bits of a key word that are the key; the rest is time.
    key_mask: u64,
}

/// Which of its two buckets an entry is looked for in. Most lie in the first ([`Survey::vacancy`]); a burst's look-ups
/// ask for the second only where the first had nothing, and look there when the rest of the burst is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// The one that is filled first.
    First,
    /// The other.
    Second,
}

/// A slot of one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) bucket: u32,
    pub(super) way: u8,
}

impl Place {
    /// All places of a bucket.
    pub(super) fn of(bucket: u32) -> impl Iterator<Item = Self> + Clone {
        (0..WAYS as u8).map(move |way| Self { bucket, way })
    }
}

/// Both homes of a hash at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    homes: [u32; 2],
    /// Whether some way has the key.
    pub(super) met: bool,
    /// A bit for each way, the first home's lowest.
    vacant: u32,
}

impl Survey {
    #[inline]
    fn place(self, bit: u32) -> Place {
        let [first, second] = self.homes;
        Place { bucket: if bit < WAYS as u32 { first } else { second }, way: (bit % WAYS as u32) as u8 }
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

impl<A: Caller> Side<A> {
    pub(super) fn new(slots: usize, key_mask: u64) -> Self {
        let count = (slots / WAYS).next_power_of_two();
        let mut buckets = Vec::with_capacity(count);
        huge_pages(buckets.spare_capacity_mut());
        buckets.resize_with(count, Bucket::default);
        Self { buckets: buckets.into(), key_mask }
    }

    #[inline(always)]
    pub(super) fn homes(&self, hash: u64) -> [u32; 2] {
        let mask = self.buckets.len() as u32 - 1;
        [hash as u32 & mask, (hash >> 32) as u32 & mask]
    }

    /// Asks for the lines of a home.
    #[inline]
    pub(super) fn expect(&self, hash: u64, home: Home) {
        self.fetch(self.homes(hash)[home as usize]);
    }

    /// Asks for what an insertion that no look-up precedes reads: the first home, and the keys of the second.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let [first, second] = self.homes(hash);
        self.fetch(first);
        prefetch(&raw const self.buckets[second as usize].keys);
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
        let first = self.find_in::<false>(Home::First, hash, key, &confirm);
        first.or_else(|| self.find_in::<false>(Home::Second, hash, key, &confirm))
    }

    /// The same in one of its homes; `WHOLE` on a side whose key words hold no time.
    #[inline(always)]
    pub(super) fn find_in<const WHOLE: bool>(
        &self,
        home: Home,
        hash: u64,
        key: u64,
        confirm: impl Fn(Place) -> bool,
    ) -> Option<Place> {
        let bucket = self.homes(hash)[home as usize];
        let keys = &self.buckets[bucket as usize].keys;
        let is_key = |word: u64| if WHOLE { word == key } else { (word ^ key) & self.key_mask == 0 };
        // All eight are compared before anything branches: the hit's way is not predictable.
        let mut hit = WAYS as u8;
        for (way, slot) in keys.iter().enumerate() {
            hit = if is_key(slot.load(Relaxed)) { way as u8 } else { hit };
        }
        let last = Place { bucket, way: hit };
        match usize::from(hit) {
            WAYS => None,
            _ if confirm(last) => Some(last),
            // Another address with the same digest lies behind it.
            _ => Place::of(bucket).find(|at| is_key(self.key(*at).load(Relaxed)) && confirm(*at)),
        }
    }

    /// Both homes in one pass: whether a way has this key, and which have none; `WHOLE` as in [`Side::find_in`].
    #[inline]
    pub(super) fn survey<const WHOLE: bool>(&self, hash: u64, key: u64) -> Survey {
        let homes = self.homes(hash);
        let is_key = |word: u64| if WHOLE { word == key } else { (word ^ key) & self.key_mask == 0 };
        let mut survey = Survey { homes, met: false, vacant: 0 };
        for bucket in homes.into_iter().rev() {
            for slot in self.buckets[bucket as usize].keys.iter().rev() {
                let word = slot.load(Relaxed);
                survey.met |= is_key(word);
                survey.vacant = survey.vacant << 1 | u32::from(word == 0);
            }
        }
        survey
    }

    /// All places of a hash.
    pub(super) fn places(&self, hash: u64) -> impl Iterator<Item = Place> + Clone {
        self.homes(hash).into_iter().flat_map(Place::of)
    }

    /// Keys and values of a bucket.
    #[inline]
    pub(super) fn words(&self, bucket: u32) -> (&[AtomicU64; WAYS], &[AtomicU64; WAYS]) {
        let bucket = &self.buckets[bucket as usize];
        (&bucket.keys, &bucket.values)
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
