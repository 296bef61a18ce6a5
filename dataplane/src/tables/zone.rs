//! Zones compiled for the packet path: every name that exists, empty non-terminals and apexes included, with its
//! answers as they go on the wire.
//!
//! One hash table in shards: a keyed hash of the lower-cased name gives a shard, and there a slot, which holds half of
//! the hash and where the entry is; an entry holds the name and, one behind the other, its RRsets, whose records name
//! their owner by a pointer to the question. So a hit costs two cache misses that [`Zones::prefetch_slot`] and
//! [`Zones::candidate`] can hide, one comparison and one copy. A changed name makes its shard anew, and those of
//! its parents where it is their first or last child; all others are shared with the table before.
//!
//! Every name belongs to the zone with the longest apex; what a zone holds at or below the apex of another is never
//! served. The table is closed upwards: the parents of a name are in it, so that the nearest name that exists is found
//! from the root down ([`Zones::resolve`]). Names that cannot be served are left out and listed by [`Zones::rejected`].

use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;
use sluice_config::model::{Origin, Reach};

use super::hash::NameKey;
use crate::frame;
use crate::wire::dns::rtype;
use crate::wire::name::{self, WINDOW};
use crate::wire::sum::Sum;

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
    key: NameKey,
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
    /// [`Sum::word`] of it.
    soa_sum: u16,
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
/// in whole words padded with zeros, one word per RRset (type, records, their octets, [`Sum::word`] of them, each as u16),
/// the RRsets, each padded to a word. All little-endian; RRsets in the order in which one is chosen for type ANY.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// From its first word to the shard's end.
    words: &'a [[u8; 8]],
}

/// Records of one type, owned by the question's name by way of a pointer. Where their length may differ, a descriptor
/// ([`Place`]) of each stands before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RrSet<'a> {
    /// Their type.
    pub rtype: u16,
    /// How many.
    pub count: u16,
    /// Octets of all of them.
    octets: u16,
    /// [`Sum::word`] of them.
    pub sum: u16,
    /// From the first descriptor on.
    words: &'a [[u8; 8]],
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
        let Authority { apex_len, soa, soa_sum, reach, .. } = self.authority;
        let apex_len = if *reach == Reach::Exact { self.entry.name_len() } else { *apex_len };
        Soa { apex_len, record: soa, sum: *soa_sum }
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
    /// [`Sum::word`] of it.
    pub sum: u16,
}

/// Most aliases on the way from a question to its name: the zone's, and one inside it.
const ALIASES: usize = 3;

impl Zones {
    /// Reads, hashes and sums up the name that `window` begins with; no octet of it where no name ends there.
    #[must_use]
    #[inline(always)]
    pub fn probe(&self, window: &[u8; WINDOW]) -> (Probe, Sum) {
        let (mut naming, mut sum) = (self.key.start(), Sum::default());
        let name_len = name::read(window, |word| {
            naming.word(word);
            sum.eight(word.to_le());
        });
        match name_len {
            Some(name_len) => (Probe { name_len, hash: naming.finish() }, sum),
            None => Default::default(),
        }
    }

    /// Asks for the slot that `probe` begins at.
    #[inline]
    pub fn prefetch_slot(&self, probe: &Probe) {
        if let Some(shard) = self.shard(probe.hash) {
            frame::prefetch(shard.octets().as_ptr().wrapping_add(shard.home(probe.hash) * 8));
        }
    }

    /// The entry of the first name whose hash has the upper half of `probe`'s: nearly always the name's own. Asks for its
    /// octets; `None` where the name is not in the table.
    #[must_use]
    #[inline(always)]
    pub fn candidate(&self, probe: &Probe) -> Option<Entry<'_>> {
        let entry = self.candidates(probe).next()?;
        let octets = entry.words.as_ptr().cast::<u8>();
        // As many lines as most entries have.
        [0, 64, 128].iter().for_each(|line| frame::prefetch(octets.wrapping_add(*line)));
        Some(entry)
    }

    #[inline(always)]
    fn candidates(&self, probe: &Probe) -> impl Iterator<Item = Entry<'_>> {
        let words = self.shard(probe.hash).map(|shard| (shard.words(), shard.slots as usize));
        let (words, slots) = words.unwrap_or_default();
        let slots = words.get(..slots).unwrap_or_default();
        let (tag, mut at) = (probe.hash >> 32, probe.hash as usize);
        std::iter::from_fn(move || {
            // Half of the slots are empty, so this ends.
            loop {
                let slot = u64::from_le_bytes(*slots.get(at & slots.len().wrapping_sub(1))?);
                at += 1;
                if slot >> 32 == tag && slot != 0 {
                    return words.get(slot as u32 as usize..).map(|words| Entry { words });
                }
                if slot == 0 {
                    return None;
                }
            }
        })
    }

    /// The entry of the name that `bytes` begins with, which `probe` was made of, where `candidate` is what
    /// [`Zones::candidate`] said. A name that is found is well formed, for the one in the table is.
    #[must_use]
    #[inline(always)]
    pub fn confirm<'a>(&'a self, candidate: Option<Entry<'a>>, probe: &Probe, bytes: &[u8]) -> Option<Entry<'a>> {
        let (candidate, name) = (candidate?, bytes.get(..probe.name_len)?);
        if candidate.is(name) { Some(candidate) } else { self.another(probe, name) }
    }

    #[cold]
    #[inline(never)]
    fn another(&self, probe: &Probe, name: &[u8]) -> Option<Entry<'_>> {
        self.candidates(probe).find(|entry| entry.is(name))
    }

    /// Both at once.
    #[inline(always)]
    fn find(&self, probe: &Probe, bytes: &[u8]) -> Option<Entry<'_>> {
        self.confirm(self.candidates(probe).next(), probe, bytes)
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

    /// As [`Zones::resolve`], for a name that is not in the table; `None` too where the name above it is not the usual kind
    /// of neighbour.
    #[must_use]
    #[inline]
    pub fn absent(&self, wire: &[u8]) -> Option<Found<'_>> {
        let above = wire.get(1 + usize::from(*wire.first()?)..)?;
        let found = self.whole(above)?.usual(self)?;
        (!found.entry.has(flag::WILD)).then_some(Found { exact: false, ..found })
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
        let probe = Probe { name_len: wire.len(), hash: self.key.name(wire) };
        self.find(&probe, wire)
    }

    /// The name behind a set's record, where it stands as usual: no alias, and in a zone.
    #[must_use]
    #[inline(always)]
    pub fn target(&self, set: &RrSet<'_>, place: &Place) -> Option<Entry<'_>> {
        let bytes = set.records().get(place.at + place.target_at..)?;
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
        self.shards.iter().flat_map(Shard::entries)
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
    fn words(&self) -> &[[u8; 8]] {
        self.octets().as_chunks().0
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots as usize).wrapping_sub(1)
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let words = self.words();
        let slots = words.iter().take(self.slots as usize).map(|slot| u64::from_le_bytes(*slot));
        slots.filter(|slot| *slot != 0).filter_map(|slot| Some(Entry { words: words.get(slot as u32 as usize..)? }))
    }
}

impl<'a> Entry<'a> {
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| u64::from_le_bytes(*word))
    }

    #[inline]
    fn name_len(&self) -> usize {
        self.word(0) as u8 as usize
    }

    #[inline]
    fn is(&self, bytes: &[u8]) -> bool {
        self.name_len() == bytes.len() && name::is(bytes, self.name())
    }

    /// In lower case.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.words.as_flattened().get(8..8 + self.name_len()).unwrap_or_default()
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
    #[inline(always)]
    pub fn sets(&self) -> Sets<'a> {
        let head = self.word(0);
        let (first, count) = (1 + (head as u8 as usize).div_ceil(8), (head >> 8) as u8 as usize);
        let described = self.words.get(first..first + count).unwrap_or_default();
        Sets { described, words: self.words.get(first + count..).unwrap_or_default() }
    }

    /// The records that answer `qtype`; for ANY the first RRset alone (RFC 8482 section 4.1).
    #[must_use]
    #[inline(always)]
    pub fn answer(&self, qtype: u16) -> Option<RrSet<'a>> {
        self.sets().find(|set| set.rtype == qtype || qtype == rtype::ANY)
    }

    /// As [`Zones::resolve`] would find it, where nothing about the name is special: no alias, and a usual zone.
    #[must_use]
    #[inline]
    pub fn usual(&self, zones: &'a Zones) -> Option<Found<'a>> {
        if self.flags() & !flag::WILD != 0 {
            return None;
        }
        let authority = zones.zones.get(self.zone())?;
        Some(Found { entry: *self, exact: true, authority })
    }
}

/// RRsets of a name.
#[derive(Clone)]
pub struct Sets<'a> {
    described: &'a [[u8; 8]],
    words: &'a [[u8; 8]],
}

impl<'a> Iterator for Sets<'a> {
    type Item = RrSet<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<RrSet<'a>> {
        let (first, others) = self.described.split_first()?;
        let set = RrSet::described(u64::from_le_bytes(*first), self.words);
        self.described = others;
        self.words = self.words.get(set.len()..)?;
        Some(set)
    }

    /// In place, for it is always a short way.
    #[inline(always)]
    fn find<P: FnMut(&RrSet<'a>) -> bool>(&mut self, mut is: P) -> Option<RrSet<'a>> {
        loop {
            let set = self.next()?;
            if is(&set) {
                return Some(set);
            }
        }
    }
}

/// Octets of each record of a type whose records have one length, behind a pointer.
#[inline(always)]
fn uniform(rtype: u16) -> Option<usize> {
    match rtype {
        rtype::A => Some(16),
        rtype::AAAA => Some(28),
        _ => None,
    }
}

impl<'a> RrSet<'a> {
    /// By its word in an entry, and the words that its descriptors begin.
    #[inline(always)]
    fn described(word: u64, words: &'a [[u8; 8]]) -> Self {
        let part = |shift: u32| (word >> shift) as u16;
        Self { rtype: part(0), count: part(16), octets: part(32), sum: part(48), words }
    }

    /// The word by which an entry describes it.
    fn word(&self) -> u64 {
        let parts = [self.rtype, self.count, self.octets, self.sum];
        parts.iter().rev().fold(0, |word, part| word << 16 | u64::from(*part))
    }

    /// Words of its descriptors.
    #[inline(always)]
    fn places(&self) -> usize {
        if uniform(self.rtype).is_some() { 0 } else { usize::from(self.count) * (PLACE / 8) }
    }

    /// Words of it.
    #[inline(always)]
    fn len(&self) -> usize {
        self.places() + usize::from(self.octets).div_ceil(8)
    }

    /// Its records, one behind the other.
    #[must_use]
    #[inline(always)]
    pub fn records(&self) -> &'a [u8] {
        let octets = self.words.get(self.places()..).unwrap_or_default().as_flattened();
        octets.get(..usize::from(self.octets)).unwrap_or_default()
    }

    /// Octets of each record, where all have one length.
    #[must_use]
    #[inline(always)]
    pub fn each_len(&self) -> Option<usize> {
        uniform(self.rtype)
    }

    /// Where a record is, and what it points to.
    #[must_use]
    #[inline(always)]
    pub fn place(&self, index: usize) -> Place {
        if let Some(each) = self.each_len() {
            return Place { at: index * each, ..Place::default() };
        }
        let Some(&[hash, rest]) = self.words.get(index * 2..index * 2 + 2) else { return Place::default() };
        let [a0, a1, a2, a3, t0, t1, n0, n1] = rest;
        Place {
            at: u32::from_le_bytes([a0, a1, a2, a3]) as usize,
            target_at: usize::from(u16::from_le_bytes([t0, t1])),
            target: Probe { hash: u64::from_le_bytes(hash), name_len: usize::from(u16::from_le_bytes([n0, n1])) },
        }
    }

    /// The records one by one.
    pub fn each(&self) -> impl Iterator<Item = &'a [u8]> {
        let (set, records) = (*self, self.records());
        (0..usize::from(self.count)).filter_map(move |index| {
            let next = index + 1;
            let end = if next < usize::from(set.count) { set.place(next).at } else { records.len() };
            records.get(set.place(index).at..end)
        })
    }
}
