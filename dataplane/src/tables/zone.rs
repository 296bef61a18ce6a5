//! Zones compiled for the packet path: every name that exists, empty non-terminals and apexes included, with its
//! answers as they go on the wire.
//!
//! One hash table in shards: a keyed hash of the lower-cased name gives a shard, and there a slot, which holds half of
//! the hash and where the entry is; an entry holds the name and, one behind the other, its RRsets, whose records name
//! their owner by a pointer to the question. So a hit costs two cache misses that [`Zones::prefetch_slot`] and
//! [`Zones::prefetch_entry`] can hide, one comparison and one copy. A changed name makes its shard anew, and those of
//! its parents where it is their first or last child; all others are shared with the table before.
//!
//! Every name belongs to the zone with the longest apex; what a zone holds at or below the apex of another is never
//! served. The table is closed upwards: the parents of a name are in it, so that the nearest name that exists is found
//! from the root down ([`Zones::resolve`]). Names that cannot be served are left out and listed by [`Zones::rejected`].

use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;
use sluice_config::model::{Origin, Reach};

use super::hash::HashKey;
use crate::frame;
use crate::wire::dns::{HEADER_LEN, rtype};
use crate::wire::name;

mod compile;
mod draft;
mod record;
mod rows;
#[cfg(test)]
pub(crate) mod tests;

pub use compile::{Reason, Rejected};
pub use rows::{Row, mnemonic, value};

/// All authoritative zones.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Zones {
    key: HashKey,
    /// A power of two of them, or none.
    shards: Box<[Shard]>,
    zones: Box<[Authority]>,
    /// By the name that is another's.
    aliases: Box<[Alias]>,
    /// Names in the table.
    count: usize,
    rejected: Box<[Rejected]>,
}

/// A part of the names.
#[derive(Clone, Default)]
struct Shard {
    /// What it lies in: of a table that was made at once one piece of memory for all (huge pages, where there are any), of
    /// a shard that was made anew its own.
    slab: Arc<Vec<u8>>,
    from: usize,
    len: usize,
    slots: u32,
}

/// By what they hold.
impl PartialEq for Shard {
    fn eq(&self, other: &Self) -> bool {
        self.slots == other.slots && self.octets() == other.octets()
    }
}

impl Eq for Shard {}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zones").field(&(self.zones.len(), self.count)).finish()
    }
}

/// What answers of a zone need beside its records.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Authority {
    /// Octets of the apex; 0 where every name is its own ([`Reach::Exact`]).
    apex_len: usize,
    /// The SOA record behind its owner, TTL = MINIMUM (RFC 2308 section 3).
    soa: Box<[u8]>,
    /// The NS records, owned by the question.
    ns: Box<[u8]>,
    reach: Reach,
    origin: Origin,
    compat: bool,
}

/// A name whose tree is another's.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Alias {
    /// Lower-case wire form.
    from: Box<[u8]>,
    /// Likewise.
    to: Box<[u8]>,
}

/// A name as a message spells it, hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Probe {
    /// Octets up to and with the first zero; 0 when no name ends there.
    pub name_len: usize,
    hash: u64,
}

/// What is special about a name.
mod flag {
    /// A wildcard hangs below it.
    pub(super) const WILD: u8 = 1;
    /// It is another name's ([`super::Zones::aliases`]).
    pub(super) const ALIAS: u8 = 2;
    /// It lies above every zone.
    pub(super) const NOWHERE: u8 = 4;
    /// Its zone is not a usual one.
    pub(super) const SPECIAL: u8 = 8;
}

/// A name that exists. Layout: one word (octets of the name, RRsets, zone as u16, flags, children as 24 bits), the name
/// in whole words padded with zeros, one word per RRset (type as u16, records as u16, octets as u32), the RRsets, each
/// padded to a word. All little-endian; RRsets in the order in which one is chosen for type ANY.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    zones: &'a Zones,
    /// From the entry's first octet to the shard's end.
    octets: &'a [u8],
}

/// Records of one type, owned by the question's name by way of a pointer. Where their length may differ, a descriptor
/// ([`Place`]) of each stands before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RrSet<'a> {
    /// Their type.
    pub rtype: u16,
    /// How many.
    pub count: u16,
    places: &'a [[u8; PLACE]],
    /// Them, one behind the other.
    pub records: &'a [u8],
}

/// Octets of a descriptor: hash of the name that the record points to (u64), offset of the record (u32), offset of that
/// name in the record (u16) and its octets (u16, 0 for none).
const PLACE: usize = 16;

/// Where a record is among those of its set, and the name that it points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Offset of the record.
    pub at: usize,
    /// Offset of the name in the record.
    pub target_at: usize,
    /// The name.
    pub target: Probe,
}

/// What the table says of a name.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The name itself, the wildcard that stands for it, or the nearest name above it that exists.
    pub entry: Entry<'a>,
    /// Whether it is there, by itself or by a wildcard.
    pub exact: bool,
    authority: &'a Authority,
}

impl<'a> Found<'a> {
    /// For negative answers.
    #[must_use]
    #[inline]
    pub fn soa(&self) -> Soa<'a> {
        let Authority { apex_len, soa, reach, .. } = self.authority;
        let apex_len = if *reach == Reach::Exact { self.entry.name_len() } else { *apex_len };
        Soa { apex_len, record: soa }
    }

    /// The zone's NS records, owned by the question.
    #[must_use]
    pub fn ns(&self) -> &'a [u8] {
        &self.authority.ns
    }

    /// What the answer is counted by.
    #[must_use]
    #[inline]
    pub fn origin(&self) -> Origin {
        self.authority.origin
    }

    /// Whether Mesos-DNS's quirks hold.
    #[must_use]
    #[inline]
    pub fn compat(&self) -> bool {
        self.authority.compat
    }
}

/// An SOA for the authority section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Soa<'a> {
    /// Octets of its owner, which are the last of the question's name.
    pub apex_len: usize,
    /// The record behind its owner.
    pub record: &'a [u8],
}

/// Most aliases on the way from a question to its name: the zone's, and one inside it.
const ALIASES: usize = 3;

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
        if let Some(shard) = self.shard(probe.hash) {
            frame::prefetch(shard.octets().as_ptr().wrapping_add(shard.home(probe.hash) * 8));
        }
    }

    /// Asks for the entry that the first slot of `probe` names.
    #[inline]
    pub fn prefetch_entry(&self, probe: &Probe) {
        if let Some(shard) = self.shard(probe.hash) {
            let slot = shard.slot(shard.home(probe.hash)).unwrap_or(0);
            let entry = shard.octets().as_ptr().wrapping_add(slot as u32 as usize * 8);
            frame::prefetch(entry);
            frame::prefetch(entry.wrapping_add(64));
        }
    }

    /// The entry of the name that `bytes` begins with, which `probe` was made of. A name that is found is well
    /// formed, for the one in the table is.
    #[must_use]
    #[inline]
    pub fn find(&self, probe: &Probe, bytes: &[u8]) -> Option<Entry<'_>> {
        let shard = self.shard(probe.hash)?;
        let mut at = shard.home(probe.hash);
        // Half of the slots are empty, so this ends.
        loop {
            let slot = shard.slot(at)?;
            if slot == 0 {
                return None;
            }
            if (slot ^ probe.hash) >> 32 == 0 {
                let entry = Entry { zones: self, octets: shard.octets().get(slot as u32 as usize * 8..)? };
                if entry.is(bytes, probe.name_len) {
                    return Some(entry);
                }
            }
            at = (at + 1) & (shard.slots as usize - 1);
        }
    }

    /// What there is to say of the well-formed name `wire`; `None` when no zone answers for it. As many look-ups as its
    /// longest suffix that exists has labels, and two more for an alias or a wildcard.
    #[must_use]
    pub fn resolve(&self, wire: &[u8]) -> Option<Found<'_>> {
        let (entry, exact) = self.closest(wire)?;
        if entry.has(flag::NOWHERE) {
            return None;
        }
        let authority = self.zones.get(entry.zone())?;
        if entry.has(flag::ALIAS) { self.elsewhere(wire, authority) } else { self.found(entry, exact, authority) }
    }

    /// The same of a name that an alias leads away from, for who asked a zone with this authority.
    #[inline(never)]
    fn elsewhere<'a>(&'a self, wire: &[u8], asked: &'a Authority) -> Option<Found<'a>> {
        let mut name: ArrayVec<u8, { name::NAME_MAX }> = ArrayVec::new();
        name.try_extend_from_slice(wire).ok()?;
        for _ in 0..ALIASES {
            let (entry, exact) = self.closest(&name)?;
            if entry.has(flag::NOWHERE) {
                return None;
            }
            if !entry.has(flag::ALIAS) {
                return self.found(entry, exact, asked);
            }
            let alias = self.aliases.iter().find(|alias| *alias.from == *entry.name())?;
            let kept = name.len().checked_sub(alias.from.len())?;
            name.truncate(kept);
            // What grows beyond a name's length has no room to exist.
            name.try_extend_from_slice(&alias.to).ok()?;
        }
        None
    }

    fn found<'a>(&'a self, entry: Entry<'a>, exact: bool, authority: &'a Authority) -> Option<Found<'a>> {
        let found = Found { entry, exact, authority };
        if exact {
            return Some(found);
        }
        if authority.reach == Reach::Exact {
            return None;
        }
        let wild = if entry.has(flag::WILD) { self.wildcard(entry.name()) } else { None };
        Some(wild.map_or(found, |entry| Found { entry, exact: true, authority }))
    }

    /// The wildcard directly below a name.
    fn wildcard(&self, parent: &[u8]) -> Option<Entry<'_>> {
        let mut name: ArrayVec<u8, { name::NAME_MAX }> = ArrayVec::new();
        name.try_extend_from_slice(b"\x01*").ok()?;
        name.try_extend_from_slice(parent).ok()?;
        self.whole(&name)
    }

    /// The longest suffix that exists, and whether it is all of the name.
    fn closest(&self, wire: &[u8]) -> Option<(Entry<'_>, bool)> {
        let offsets = name::label_offsets(wire);
        let mut closest = None;
        for offset in offsets.iter().rev() {
            let Some(entry) = wire.get(usize::from(*offset)..).and_then(|suffix| self.whole(suffix)) else { break };
            closest = Some((entry, *offset == 0));
        }
        closest
    }

    /// As [`Zones::find`], for a name that is all of `wire` and whose labels may hold zeros.
    fn whole(&self, wire: &[u8]) -> Option<Entry<'_>> {
        let probe = Probe { name_len: wire.len(), hash: self.hash(wire) };
        self.find(&probe, wire)
    }

    fn hash(&self, wire: &[u8]) -> u64 {
        self.key.words(name::lower_words(wire, wire.len()))
    }

    /// The name behind a set's record, where it stands as usual: no alias, and in a zone.
    #[must_use]
    #[inline]
    pub fn target(&self, set: &RrSet<'_>, place: &Place) -> Option<Entry<'_>> {
        let bytes = set.records.get(place.at + place.target_at..)?;
        self.find(&place.target, bytes).filter(|entry| entry.flags() & (flag::ALIAS | flag::NOWHERE) == 0)
    }

    /// Names in the table, those that hold nothing included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What was left out, and why, sorted.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// The lower bits choose a slot, the upper half tells names in it apart, so a shard goes by those between.
    #[inline]
    fn shard(&self, hash: u64) -> Option<&Shard> {
        self.shards.get(shard_of(hash, self.shards.len()))
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.shards.iter().flat_map(move |shard| {
            let slots = (0..shard.slots as usize).filter_map(|at| shard.slot(at)).filter(|slot| *slot != 0);
            slots.filter_map(move |slot| {
                Some(Entry { zones: self, octets: shard.octets().get(slot as u32 as usize * 8..)? })
            })
        })
    }
}

#[inline]
fn shard_of(hash: u64, shards: usize) -> usize {
    (hash >> 16) as usize & shards.wrapping_sub(1)
}

impl Shard {
    /// Slots, then entries (see [`Entry`]), in words of eight octets, little-endian. A slot holds the upper half of a
    /// hash, and the word at which its entry begins; 0 is empty. At most half of them are taken.
    #[inline]
    fn octets(&self) -> &[u8] {
        self.slab.get(self.from..self.from + self.len).unwrap_or_default()
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots as usize).wrapping_sub(1)
    }

    #[inline]
    fn slot(&self, at: usize) -> Option<u64> {
        self.octets().get(at * 8..)?.first_chunk().map(|slot| u64::from_le_bytes(*slot))
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

    #[inline]
    fn zone(&self) -> usize {
        usize::from((self.word(0) >> 16) as u16)
    }

    #[inline]
    fn flags(&self) -> u8 {
        (self.word(0) >> 32) as u8
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags() & flag != 0
    }

    fn children(&self) -> u32 {
        (self.word(0) >> 40) as u32
    }

    /// All of its records.
    #[inline]
    pub fn sets(&self) -> impl Iterator<Item = RrSet<'a>> + use<'a> {
        let entry = *self;
        let (name_words, count) = (self.name_len().div_ceil(8), (self.word(0) >> 8) as u8 as usize);
        let mut at = (1 + name_words + count) * 8;
        (0..count).map_while(move |index| {
            let word = entry.word(1 + name_words + index);
            let (rtype, count, len) = (word as u16, (word >> 16) as u16, (word >> 32) as usize);
            let octets = entry.octets.get(at..at + len)?;
            at += len.next_multiple_of(8);
            let places = if is_uniform(rtype) { 0 } else { usize::from(count) };
            let (places, records) = octets.split_at_checked(places * PLACE)?;
            Some(RrSet { rtype, count, places: places.as_chunks().0, records })
        })
    }

    /// The records that answer `qtype`; for ANY the first RRset alone (RFC 8482 section 4.1).
    #[must_use]
    #[inline]
    pub fn answer(&self, qtype: u16) -> Option<RrSet<'a>> {
        self.sets().find(|set| set.rtype == qtype || qtype == rtype::ANY)
    }

    /// As [`Zones::resolve`] would find it, where nothing about the name is special: no alias, and a usual zone.
    #[must_use]
    #[inline]
    pub fn usual(&self) -> Option<Found<'a>> {
        if self.flags() & !flag::WILD != 0 {
            return None;
        }
        let authority = self.zones.zones.get(self.zone())?;
        Some(Found { entry: *self, exact: true, authority })
    }
}

/// Whether all records of a type have one length.
#[inline]
fn is_uniform(rtype: u16) -> bool {
    matches!(rtype, rtype::A | rtype::AAAA)
}

impl RrSet<'_> {
    /// Where a record is, and what it points to.
    #[must_use]
    #[inline]
    pub fn place(&self, index: usize) -> Place {
        let Some(place) = self.places.get(index) else {
            let len = self.records.len() / usize::from(self.count.max(1));
            return Place { at: (index * len).min(self.records.len()), ..Place::default() };
        };
        let [h0, h1, h2, h3, h4, h5, h6, h7, a0, a1, a2, a3, t0, t1, n0, n1] = *place;
        Place {
            at: u32::from_le_bytes([a0, a1, a2, a3]) as usize,
            target_at: usize::from(u16::from_le_bytes([t0, t1])),
            target: Probe {
                hash: u64::from_le_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
                name_len: usize::from(u16::from_le_bytes([n0, n1])),
            },
        }
    }

    /// The records one by one.
    pub fn each(&self) -> impl Iterator<Item = &[u8]> {
        (0..usize::from(self.count)).filter_map(|index| {
            let next = index + 1;
            let end = if next < usize::from(self.count) { self.place(next).at } else { self.records.len() };
            self.records.get(self.place(index).at..end)
        })
    }
}
