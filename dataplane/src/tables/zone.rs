//! Zones compiled for the packet path: every name that exists, empty non-terminals and apexes included, with its
//! answers as they go on the wire.
//!
//! One flat table: a slot holds half of a name's keyed hash and where its entry is; an entry holds the name in lower
//! case and, one behind the other, its RRsets, whose records name their owner by a pointer to the question. So a hit
//! costs two cache misses that [`Zones::prefetch_slot`] and [`Zones::prefetch_entry`] can hide, one comparison and
//! one copy. Every name belongs to the zone with the longest apex; what a zone holds at or below the apex of another
//! is never served. Names that cannot be served are left out and listed by [`Zones::rejected`].

use std::fmt;

use super::hash::HashKey;
use crate::frame;
use crate::wire::dns::{HEADER_LEN, rtype};
use crate::wire::name;

mod compile;
mod rows;
#[cfg(test)]
pub(crate) mod tests;

pub use compile::{Reason, Rejected};
pub use rows::Row;

/// All authoritative zones.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Zones {
    key: HashKey,
    /// Upper half of the hash, and the entry's offset in words of eight octets plus one; 0 is empty. At most half full.
    slots: Box<[u64]>,
    /// Entries; see [`Entry`].
    entries: Box<[u8]>,
    zones: Box<[Authority]>,
    /// Most labels that a name in the table has: no longer suffix of a question can be in it.
    deepest: usize,
    rejected: Box<[Rejected]>,
}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = (self.zones.len(), self.slots.len(), self.entries.len());
        f.debug_tuple("Zones").field(&sizes).finish()
    }
}

/// What negative answers of a zone need.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Authority {
    /// Octets of the apex.
    apex_len: usize,
    /// The SOA record behind its owner, TTL = MINIMUM (RFC 2308 section 3).
    soa: Box<[u8]>,
}

/// A name as a message spells it, hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Probe {
    /// Octets up to and with the first zero; 0 when no name ends there.
    pub name_len: usize,
    hash: u64,
}

/// A name that exists. Layout: one word (octets of the name, RRsets, zone as u16, the rest 0), the name in whole
/// words padded with zeros, one word per RRset (type, records and octets as u16, the rest 0), the RRsets.
/// All little-endian; RRsets in the order in which one is chosen for type ANY.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    zones: &'a Zones,
    /// From the entry's first octet to the table's end.
    octets: &'a [u8],
}

/// Records of one type, all of one length, owned by the question's name by way of a pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RrSet<'a> {
    /// Their type.
    pub rtype: u16,
    /// How many.
    pub count: u16,
    /// Them, one behind the other.
    pub records: &'a [u8],
}

/// The name nearest to a question's that exists.
#[derive(Clone, Copy, Debug)]
pub struct Closest<'a> {
    /// The name.
    pub entry: Entry<'a>,
    /// Whether it is the question's own.
    pub exact: bool,
}

/// An SOA for the authority section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Soa<'a> {
    /// Octets of its owner, which are the last of the question's name.
    pub apex_len: usize,
    /// The record behind its owner.
    pub record: &'a [u8],
}

impl Zones {
    /// Reads and hashes the name that begins behind the header of `message`. Octets behind the message may be in the
    /// slice: more of them make it faster, not different.
    #[must_use]
    #[inline]
    pub fn probe(&self, message: &[u8]) -> Probe {
        message.get(HEADER_LEN..).map_or_else(Probe::default, |bytes| self.probe_name(bytes))
    }

    #[inline]
    fn probe_name(&self, bytes: &[u8]) -> Probe {
        match name::zero_end(bytes) {
            Some(name_len) => Probe { name_len, hash: self.key.words(name::lower_words(bytes, name_len)) },
            None => Probe::default(),
        }
    }

    /// Asks for the slot that `probe` begins at.
    #[inline]
    pub fn prefetch_slot(&self, probe: &Probe) {
        if let Some(slot) = self.slots.get(self.home(probe.hash)) {
            frame::prefetch(slot);
        }
    }

    /// Asks for the entry that the first slot of `probe` names.
    #[inline]
    pub fn prefetch_entry(&self, probe: &Probe) {
        let slot = self.slots.get(self.home(probe.hash)).copied().unwrap_or(0);
        if let Some(entry) = self.entry(slot) {
            frame::prefetch(entry.octets.as_ptr());
            frame::prefetch(entry.octets.as_ptr().wrapping_add(64));
        }
    }

    /// The entry of the name that `bytes` begins with, which `probe` was made of. A name that is found is well
    /// formed, for the one in the table is.
    #[must_use]
    #[inline]
    pub fn find(&self, probe: &Probe, bytes: &[u8]) -> Option<Entry<'_>> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = self.home(probe.hash);
        // Half of the slots are empty, so this ends.
        loop {
            let slot = *self.slots.get(at)?;
            let entry = self.entry(slot)?;
            if (slot ^ probe.hash) >> 32 == 0 && entry.is(bytes, probe.name_len) {
                return Some(entry);
            }
            at = (at + 1) & mask;
        }
    }

    /// The longest suffix of the well-formed name `wire` that exists; `None` when no zone holds it. As many look-ups
    /// as the deepest name has labels.
    #[must_use]
    pub fn closest(&self, wire: &[u8]) -> Option<Closest<'_>> {
        let offsets = name::label_offsets(wire);
        let first = offsets.len().saturating_sub(self.deepest);
        offsets[first..].iter().find_map(|offset| {
            let suffix = wire.get(usize::from(*offset)..)?;
            let entry = self.find(&self.probe_whole(suffix), suffix)?;
            Some(Closest { entry, exact: *offset == 0 })
        })
    }

    /// As [`Zones::probe_name`], for a name whose length is known and whose labels may hold zeros.
    fn probe_whole(&self, wire: &[u8]) -> Probe {
        Probe { name_len: wire.len(), hash: self.key.words(name::lower_words(wire, wire.len())) }
    }

    /// What was left out, and why, sorted.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn entry(&self, slot: u64) -> Option<Entry<'_>> {
        let word = (slot as u32).checked_sub(1)?;
        Some(Entry { zones: self, octets: self.entries.get(word as usize * 8..)? })
    }
}

impl<'a> Entry<'a> {
    #[inline]
    fn word(&self, index: usize) -> u64 {
        let octets = self.octets.get(index * 8..).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u64::from_le_bytes(*octets))
    }

    #[inline]
    fn name_len(&self) -> usize {
        self.word(0) as u8 as usize
    }

    #[inline]
    fn is(&self, bytes: &[u8], len: usize) -> bool {
        self.name_len() == len && name::lower_words(bytes, len).enumerate().all(|(i, word)| self.word(1 + i) == word)
    }

    /// In lower case.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.octets.get(8..8 + self.name_len()).unwrap_or_default()
    }

    fn zone(&self) -> usize {
        usize::from((self.word(0) >> 16) as u16)
    }

    /// All of its records.
    #[inline]
    pub fn sets(&self) -> impl Iterator<Item = RrSet<'a>> + use<'a> {
        let entry = *self;
        let (name_words, count) = (self.name_len().div_ceil(8), (self.word(0) >> 8) as u8 as usize);
        let mut at = (1 + name_words + count) * 8;
        (0..count).map_while(move |index| {
            let word = entry.word(1 + name_words + index);
            let records = entry.octets.get(at..at + usize::from((word >> 32) as u16))?;
            at += records.len();
            Some(RrSet { rtype: word as u16, count: (word >> 16) as u16, records })
        })
    }

    /// The records that answer `qtype`; for ANY the first RRset alone (RFC 8482 section 4.1).
    #[must_use]
    #[inline]
    pub fn answer(&self, qtype: u16) -> Option<RrSet<'a>> {
        self.sets().find(|set| set.rtype == qtype || qtype == rtype::ANY)
    }

    /// The SOA of its zone for a negative answer.
    #[must_use]
    pub fn soa(&self) -> Option<Soa<'a>> {
        let zone = self.zones.zones.get(self.zone())?;
        Some(Soa { apex_len: zone.apex_len, record: &zone.soa })
    }
}
