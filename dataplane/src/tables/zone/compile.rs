//! From [`Zone`]s to the flat table.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use sluice_config::model::{Record, RecordData, Zone};

use super::super::hash::HashKey;
use super::{Authority, Zones};
use crate::wire::dns::{CLASS_IN, HEADER_LEN, rtype};
use crate::wire::name::{self, BadName};

/// Most octets of records in one RRset, so that header, the longest question and OPT fit into a message beside it.
const RRSET_MAX: usize = u16::MAX as usize - 512;

/// Something that is not served, and why.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
#[error("{name:?} in zone {zone:?} is not served: {reason}")]
pub struct Rejected {
    /// Apex of its zone.
    pub zone: String,
    /// The name, as given.
    pub name: String,
    /// Why.
    pub reason: Reason,
}

/// Why something is not served.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Reason {
    /// The text is no name; an apex or a name in SOA or NS takes its whole zone along.
    #[error("{0}")]
    Name(String),
    /// The name is not in the zone.
    #[error("it does not end in the zone's apex")]
    Outside,
    /// Another zone has a longer apex.
    #[error("the zone {0:?} is authoritative for it")]
    Occluded(String),
    /// A second zone with this apex.
    #[error("another zone has the same apex; give each zone once")]
    Duplicate,
    /// Zones are numbered with 16 bits.
    #[error("65535 zones are the most")]
    TooManyZones,
    /// More records than a message holds; the rest is not served.
    #[error("its {given} records of one type do not fit into a DNS message; {served} are served")]
    TooMany {
        /// How many there are.
        given: usize,
        /// How many are served.
        served: usize,
    },
}

impl From<BadName> for Reason {
    fn from(bad: BadName) -> Self {
        Self::Name(bad.to_string())
    }
}

/// A name in lower-case wire form.
type Name = Vec<u8>;

/// Where an RRset stands in its entry: A, AAAA, SRV, then by number.
type Place = (u8, u16);

/// A record, or an empty non-terminal. Sorted, they are the table's order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    name: Name,
    place: Place,
    /// `None` for an empty non-terminal.
    data: Option<Vec<u8>>,
    ttl: u32,
    zone: u16,
}

/// A zone whose own names are good.
struct Checked<'a> {
    zone: &'a Zone,
    number: u16,
    mname: Name,
    rname: Name,
    ns: Name,
}

impl Zones {
    /// Compiles zones; names are found by a hash keyed with `key`, every SOA has `serial`.
    #[must_use]
    pub fn compile(zones: &[Zone], serial: u32, key: HashKey) -> Self {
        let mut rejected = Vec::new();
        let zones = check(zones, &mut rejected);
        let mut items = items(&zones, serial, &mut rejected);
        items.extend(empty_non_terminals(&items, &zones));
        items.sort_unstable();
        let mut table = Layout::new(key, items.chunk_by(|a, b| a.name == b.name).count());
        let texts: Vec<&str> = zones.values().map(|checked| checked.zone.apex.as_str()).collect();
        for entry in items.chunk_by(|a, b| a.name == b.name) {
            table.add(entry, &mut |item, reason| {
                let zone = texts.get(usize::from(item.zone)).map(|text| (*text).to_owned()).unwrap_or_default();
                rejected.push(Rejected { zone, name: name::to_text(&item.name), reason });
            });
        }
        rejected.sort();
        Self {
            key,
            slots: table.slots,
            entries: table.entries.into(),
            zones: zones.iter().map(|(apex, zone)| authority(apex, zone, serial)).collect(),
            deepest: table.deepest,
            rejected: rejected.into(),
        }
    }
}

/// Zones by apex, in wire order.
fn check<'a>(zones: &'a [Zone], rejected: &mut Vec<Rejected>) -> BTreeMap<Name, Checked<'a>> {
    let mut checked = BTreeMap::new();
    for zone in zones {
        let mut reject = |name: &str, reason| {
            rejected.push(Rejected { zone: zone.apex.clone(), name: name.to_owned(), reason });
        };
        let texts = [&zone.apex, &zone.mname, &zone.rname, &zone.ns];
        let [apex, mname, rname, ns] =
            texts.map(|text| name::from_text(text).map_err(|bad| reject(text, bad.into())).ok());
        let (Some(apex), Some(mname), Some(rname), Some(ns)) = (apex, mname, rname, ns) else { continue };
        if checked.contains_key(&apex) {
            reject(&zone.apex, Reason::Duplicate);
        } else if checked.len() == usize::from(u16::MAX) {
            reject(&zone.apex, Reason::TooManyZones);
        } else {
            checked.insert(apex, Checked { zone, number: 0, mname, rname, ns });
        }
    }
    checked.values_mut().zip(0..).for_each(|(zone, number)| zone.number = number);
    checked
}

fn items(zones: &BTreeMap<Name, Checked<'_>>, serial: u32, rejected: &mut Vec<Rejected>) -> Vec<Item> {
    let mut items = Vec::new();
    for (apex, checked) in zones {
        let Checked { zone, number, ns, .. } = checked;
        items.push(item(apex.clone(), *number, rtype::SOA, zone.soa_ttl, soa_data(checked, serial)));
        items.push(item(apex.clone(), *number, rtype::NS, zone.ns_ttl, ns.clone()));
        let inner: Vec<_> = zones.iter().filter(|(other, _)| *other != apex && is_below(other, apex)).collect();
        for record in &zone.records {
            match address(record, apex, *number, &inner) {
                Ok(item) => items.push(item),
                Err(reason) => {
                    rejected.push(Rejected { zone: zone.apex.clone(), name: record.name.clone(), reason });
                }
            }
        }
    }
    items
}

fn address(record: &Record, apex: &[u8], number: u16, inner: &[(&Name, &Checked<'_>)]) -> Result<Item, Reason> {
    let name = name::from_text(&record.name)?;
    if !is_below(&name, apex) {
        return Err(Reason::Outside);
    }
    // The longest apex is the one that answers.
    let other = inner.iter().filter(|(apex, _)| is_below(&name, apex)).max_by_key(|(apex, _)| apex.len());
    if let Some((_, other)) = other {
        return Err(Reason::Occluded(other.zone.apex.clone()));
    }
    let (rtype, data) = match record.data {
        RecordData::A(ip) => (rtype::A, ip.octets().to_vec()),
        RecordData::Aaaa(ip) => (rtype::AAAA, ip.octets().to_vec()),
    };
    Ok(item(name, number, rtype, record.ttl, data))
}

fn item(name: Name, zone: u16, rtype: u16, ttl: u32, data: Vec<u8>) -> Item {
    let rank = match rtype {
        rtype::A => 0,
        rtype::AAAA => 1,
        rtype::SRV => 2,
        _ => 3,
    };
    Item { name, place: (rank, rtype), data: Some(data), ttl, zone }
}

/// Whether `name` is `apex` or lies below it.
fn is_below(name: &[u8], apex: &[u8]) -> bool {
    // The octets alone could begin inside a label.
    name.ends_with(apex) && suffixes(name).any(|suffix| suffix.len() == apex.len())
}

/// Every name between a name and its apex exists too (RFC 8020). An apex below another zone's apex hangs there as a
/// delegation would.
fn empty_non_terminals(items: &[Item], zones: &BTreeMap<Name, Checked<'_>>) -> Vec<Item> {
    let mut known: HashSet<&[u8]> = items.iter().map(|item| item.name.as_slice()).collect();
    let mut missing = Vec::new();
    for name in items.chunk_by(|a, b| a.name == b.name).filter_map(<[Item]>::first).map(|item| &item.name) {
        let Some(zone) = suffixes(name).skip(1).find_map(|suffix| zones.get(suffix)) else { continue };
        // One that is known has its own ancestors, or will have had its turn.
        let new = suffixes(name).skip(1).take_while(|suffix| known.insert(suffix));
        missing.extend(new.map(|suffix| Item {
            name: suffix.to_vec(),
            place: (0, 0),
            data: None,
            ttl: 0,
            zone: zone.number,
        }));
    }
    missing
}

/// The name itself, then without its first label, and so on; not the root.
fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name::label_offsets(name).into_iter().filter_map(|offset| name.get(usize::from(offset)..))
}

fn soa_data(checked: &Checked<'_>, serial: u32) -> Vec<u8> {
    let numbers = std::iter::once(serial).chain(checked.zone.timers).flat_map(u32::to_be_bytes);
    [checked.mname.clone(), checked.rname.clone(), numbers.collect()].concat()
}

/// Type, class, TTL and data: a record behind its owner.
fn record_tail(rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut tail = [rtype.to_be_bytes(), CLASS_IN.to_be_bytes()].concat();
    tail.extend(ttl.to_be_bytes());
    tail.extend((data.len() as u16).to_be_bytes());
    tail.extend(data);
    tail
}

fn authority(apex: &[u8], checked: &Checked<'_>, serial: u32) -> Authority {
    let [_, _, _, minimum] = checked.zone.timers;
    let soa = record_tail(rtype::SOA, minimum, &soa_data(checked, serial)).into();
    Authority { apex_len: apex.len(), soa }
}

/// Where the entries go.
struct Layout {
    key: HashKey,
    slots: Box<[u64]>,
    entries: Vec<u8>,
    deepest: usize,
}

impl Layout {
    fn new(key: HashKey, names: usize) -> Self {
        let slots = if names == 0 { 0 } else { (names * 2).next_power_of_two() };
        Self { key, slots: vec![0; slots].into(), entries: Vec::new(), deepest: 0 }
    }

    /// Adds the entry of all items of one name.
    fn add(&mut self, items: &[Item], cut: &mut dyn FnMut(&Item, Reason)) {
        let Some(Item { name, zone, .. }) = items.first() else { return };
        let at = self.entries.len() / 8;
        let sets = || items.chunk_by(|a, b| a.place == b.place).filter(|set| set[0].data.is_some());
        let head = name.len() as u64 | (sets().count() as u64) << 8 | u64::from(*zone) << 16;
        self.entries.extend(head.to_le_bytes());
        self.entries.extend(name);
        self.pad();
        let mut blobs = Vec::new();
        for set in sets() {
            let before = blobs.len();
            let (given, served) = blob(set, &mut blobs);
            if served < given {
                cut(&set[0], Reason::TooMany { given, served });
            }
            let (_, rtype) = set[0].place;
            let word = u64::from(rtype) | (served as u64) << 16 | ((blobs.len() - before) as u64) << 32;
            self.entries.extend(word.to_le_bytes());
        }
        self.entries.extend(blobs);
        self.pad();
        self.deepest = self.deepest.max(name::label_offsets(name).len());
        self.link(self.key.words(name::lower_words(name, name.len())), at);
    }

    fn pad(&mut self) {
        self.entries.resize(self.entries.len().next_multiple_of(8), 0);
    }

    fn link(&mut self, hash: u64, at: usize) {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while self.slots[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = hash >> 32 << 32 | (at as u64 + 1);
    }
}

/// Appends as many records of a set as fit; how many there are, and how many that is. All get the least TTL given
/// (RFC 2181 section 5.2 wants one for all).
fn blob(set: &[Item], records: &mut Vec<u8>) -> (usize, usize) {
    let before = records.len();
    let ttl = set.iter().map(|item| item.ttl).min().unwrap_or_default();
    let (mut given, mut served) = (0, 0);
    for item in set.chunk_by(|a, b| a.data == b.data).filter_map(<[Item]>::first) {
        let (_, rtype) = item.place;
        let tail = record_tail(rtype, ttl, item.data.as_deref().unwrap_or_default());
        given += 1;
        if records.len() - before + tail.len() + 2 <= RRSET_MAX {
            records.extend([0xc0, HEADER_LEN as u8]);
            records.extend(tail);
            served += 1;
        }
    }
    (given, served)
}
