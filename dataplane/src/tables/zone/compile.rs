//! From [`Zone`]s to the table: all of them, or what has changed.

use std::collections::{BTreeMap, BTreeSet};

use sluice_config::model::{Reach, Record, Zone};

use super::super::hash::{HashKey, NameKey};
use super::draft::{Draft, Name, Seat};
use super::record::{self, Data, Set};
use super::{Alias, Authority, Zones, flag};
use crate::wire::dns::{HEADER_LEN, rtype};
use crate::wire::name::{self, BadName};
use crate::wire::sum::Sum;

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
    /// A name that a record points to is none.
    #[error("it points to what is no name: {0}")]
    Target(String),
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
    #[error("65534 zones are the most")]
    TooManyZones,
    /// A CNAME beside other data (RFC 1034 section 3.6.2); the rest is served.
    #[error("a CNAME stands alone; the other records are served")]
    NotAlone,
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

/// A zone whose own names are good.
struct Checked<'a> {
    zone: &'a Zone,
    number: u16,
    mname: Name,
    rname: Name,
    ns: Vec<Name>,
    /// [`Zone::renames`].
    renames: Vec<(Name, Name)>,
}

/// The zones by their apexes in wire form, and the other apexes with those that they stand for.
#[derive(Default)]
struct Plan<'a> {
    zones: BTreeMap<Name, Checked<'a>>,
    aliases: BTreeMap<Name, (u16, Name)>,
}

impl Zones {
    /// Compiles zones; names are found by a hash keyed with `key`, every SOA has `serial` that has none of its own.
    #[must_use]
    pub fn compile(zones: &[Zone], serial: u32, key: HashKey) -> Self {
        Self::made(zones, serial, NameKey::from(key))
    }

    fn made(zones: &[Zone], serial: u32, key: NameKey) -> Self {
        let mut rejected = BTreeSet::new();
        let plan = Plan::new(zones, &mut rejected);
        let mut draft = Draft::new(key, None);
        for (apex, checked) in &plan.zones {
            plan.apex(&mut draft, apex, checked, serial, &mut rejected);
            let records: Vec<&Record> = checked.zone.records.iter().collect();
            for records in records.chunk_by(|a, b| a.name == b.name) {
                if let Some(first) = records.first().filter(|first| first.name != checked.zone.apex) {
                    plan.name(&mut draft, (apex, checked), &first.name, &mut rejected);
                }
            }
        }
        plan.put_aliases(&mut draft);
        draft.finish(plan.authorities(serial), plan.alias_table(), rejected.into_iter().collect())
    }

    /// What [`Zones::compile`] would make of `zones`, out of this table, which `before` and the same key made. A change
    /// of records costs what it changes; one of a zone's own properties costs everything.
    #[must_use]
    pub fn next(&self, before: &[Zone], zones: &[Zone], serial: u32) -> Self {
        let same = before.len() == zones.len() && before.iter().zip(zones).all(|(a, b)| a.frame() == b.frame());
        let mut rejected = BTreeSet::new();
        let plan = Plan::new(zones, &mut rejected);
        // A zone that was refused as a whole has no records here; which of two equal apexes it is does not change.
        if !same || self.zones.is_empty() {
            return Self::made(zones, serial, self.key);
        }
        let mut draft = Draft::new(self.key, Some(self));
        let mut changed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (apex, checked) in &plan.zones {
            let Some(then) = before.iter().find(|zone| zone.apex == checked.zone.apex) else { continue };
            let (now, then) = (&checked.zone.records, &then.records);
            let names: BTreeSet<&str> = now.changed(then).filter(|name| now.of(name) != then.of(name)).collect();
            plan.apex(&mut draft, apex, checked, serial, &mut rejected);
            for name in names.iter().filter(|name| **name != checked.zone.apex) {
                plan.name(&mut draft, (apex, checked), name, &mut rejected);
            }
            changed.insert(&checked.zone.apex, names);
        }
        let anew =
            |r: &Rejected| r.name == r.zone || changed.get(r.zone.as_str()).is_some_and(|n| n.contains(&*r.name));
        rejected.extend(self.rejected.iter().filter(|r| !anew(r)).cloned());
        draft.finish(plan.authorities(serial), plan.alias_table(), rejected.into_iter().collect())
    }
}

impl<'a> Plan<'a> {
    /// Zones by apex, in wire order.
    fn new(zones: &'a [Zone], rejected: &mut BTreeSet<Rejected>) -> Self {
        let mut plan = Self::default();
        for zone in zones {
            match Checked::new(zone) {
                Err((name, bad)) => reject(rejected, zone, &name, bad.into()),
                Ok((apex, _)) if plan.zones.contains_key(&apex) => {
                    reject(rejected, zone, &zone.apex, Reason::Duplicate);
                }
                Ok(_) if plan.zones.len() == usize::from(u16::MAX) - 1 => {
                    reject(rejected, zone, &zone.apex, Reason::TooManyZones);
                }
                Ok((apex, checked)) => {
                    plan.zones.insert(apex, checked);
                }
            }
        }
        plan.zones.values_mut().zip(0..).for_each(|(zone, number)| zone.number = number);
        plan.name_aliases(rejected);
        plan
    }

    fn name_aliases(&mut self, rejected: &mut BTreeSet<Rejected>) {
        let mut number = self.zones.len() as u16;
        for (apex, checked) in &self.zones {
            for alias in &checked.zone.aliases {
                match name::from_text(alias) {
                    Err(bad) => reject(rejected, checked.zone, alias, bad.into()),
                    Ok(name) if self.zones.contains_key(&name) || self.aliases.contains_key(&name) => {
                        reject(rejected, checked.zone, alias, Reason::Duplicate);
                    }
                    Ok(_) if number == u16::MAX - 1 => reject(rejected, checked.zone, alias, Reason::TooManyZones),
                    Ok(name) => {
                        self.aliases.insert(name, (number, apex.clone()));
                        number += 1;
                    }
                }
            }
        }
    }

    /// Where a name is: in the zone with the longest apex above it.
    fn seat(&self, wire: &[u8]) -> Seat {
        for suffix in suffixes(wire) {
            if let Some(zone) = self.zones.get(suffix).filter(|zone| zone.zone.reach == Reach::Whole) {
                return zone.seat();
            }
            if let Some((number, _)) = self.aliases.get(suffix) {
                return Seat { zone: *number, flags: 0 };
            }
        }
        Seat::NOWHERE
    }

    /// SOA, NS and the rest of an apex.
    fn apex(
        &self,
        draft: &mut Draft<'_>,
        apex: &[u8],
        checked: &Checked<'_>,
        serial: u32,
        rejected: &mut BTreeSet<Rejected>,
    ) {
        if checked.zone.reach == Reach::Exact {
            return;
        }
        let mut sets = self.sets(draft, checked, &checked.zone.apex, rejected);
        sets.retain(|set| set.rtype != rtype::CNAME);
        let soa = checked.soa(serial);
        sets.push(Set::new(checked.zone.soa_ttl, &[plain(rtype::SOA, soa)], |_| 0));
        let ns = checked.ns_data();
        sets.push(Set::new(checked.zone.ns_ttl, &ns, |wire| draft.hash(wire)));
        sets.sort_by_key(Set::rank);
        draft.put(apex, checked.seat(), sets, true, &|name| self.seat(name));
    }

    /// What a name has now.
    fn name(
        &self,
        draft: &mut Draft<'_>,
        (apex, checked): (&[u8], &Checked<'_>),
        name: &str,
        rejected: &mut BTreeSet<Rejected>,
    ) {
        match self.wire(name, apex) {
            Ok(wire) => {
                let sets = self.sets(draft, checked, name, rejected);
                draft.put(&wire, checked.seat(), sets, false, &|name| self.seat(name));
            }
            Err(reason) => {
                if !checked.zone.records.of(name).is_empty() {
                    reject(rejected, checked.zone, name, reason);
                }
            }
        }
    }

    fn wire(&self, text: &str, apex: &[u8]) -> Result<Name, Reason> {
        let wire = name::from_text(text)?;
        if !is_below(&wire, apex) {
            return Err(Reason::Outside);
        }
        let nearest =
            suffixes(&wire).find(|suffix| self.zones.contains_key(*suffix) || self.aliases.contains_key(*suffix));
        match nearest.filter(|nearest| *nearest != apex) {
            Some(other) => Err(Reason::Occluded(name::to_text(other).trim_end_matches('.').to_owned())),
            None => Ok(wire),
        }
    }

    /// A name's records, in sets by rank.
    fn sets(
        &self,
        draft: &Draft<'_>,
        checked: &Checked<'_>,
        name: &str,
        rejected: &mut BTreeSet<Rejected>,
    ) -> Vec<Set> {
        let mut by_type: BTreeMap<u16, (u32, Vec<Data>)> = BTreeMap::new();
        for record in checked.zone.records.of(name) {
            match record::data(record) {
                Ok(data) => {
                    let (ttl, all) = by_type.entry(data.rtype).or_insert((record.ttl, Vec::new()));
                    *ttl = record.ttl.min(*ttl);
                    all.push(data);
                }
                Err(bad) => reject(rejected, checked.zone, name, Reason::Target(bad.to_string())),
            }
        }
        let lonely = by_type.get(&rtype::CNAME).is_none_or(|(_, all)| all.len() == 1 && by_type.len() == 1);
        if !lonely || name == checked.zone.apex && by_type.contains_key(&rtype::CNAME) {
            by_type.remove(&rtype::CNAME);
            reject(rejected, checked.zone, name, Reason::NotAlone);
        }
        let mut sets = Vec::new();
        for (ttl, mut all) in by_type.into_values() {
            all.sort();
            all.dedup();
            let set = Set::new(ttl, &all, |wire| draft.hash(wire));
            let (given, served) = (all.len(), usize::from(set.count));
            if served < given {
                reject(rejected, checked.zone, name, Reason::TooMany { given, served });
            }
            sets.push(set);
        }
        sets.sort_by_key(Set::rank);
        sets
    }

    fn put_aliases(&self, draft: &mut Draft<'_>) {
        for (name, (number, _)) in &self.aliases {
            let at = Seat { zone: *number, flags: flag::ALIAS };
            draft.put(name, at, Vec::new(), true, &|name| self.seat(name));
        }
        for checked in self.zones.values() {
            for (name, _) in &checked.renames {
                let at = Seat { zone: checked.number, flags: flag::ALIAS };
                draft.put(name, at, Vec::new(), true, &|name| self.seat(name));
            }
        }
    }

    /// By the numbers of zones, then of the other apexes.
    fn authorities(&self, serial: u32) -> Box<[Authority]> {
        let mut all: Vec<(u16, Authority)> =
            self.zones.iter().map(|(apex, zone)| (zone.number, zone.authority(apex, serial))).collect();
        for (name, (number, apex)) in &self.aliases {
            if let Some(zone) = self.zones.get(apex) {
                all.push((*number, zone.authority(name, serial)));
            }
        }
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, authority)| authority).collect()
    }

    fn alias_table(&self) -> Box<[Alias]> {
        let apexes = self.aliases.iter().map(|(from, (_, to))| (from, to));
        let inner = self.zones.values().flat_map(|zone| zone.renames.iter().map(|(from, to)| (from, to)));
        apexes.chain(inner).map(|(from, to)| Alias { from: from.as_slice().into(), to: to.as_slice().into() }).collect()
    }
}

impl<'a> Checked<'a> {
    /// # Errors
    /// The text that is no name, and why.
    fn new(zone: &'a Zone) -> Result<(Name, Self), (String, BadName)> {
        let wire = |text: &str| name::from_text(text).map_err(|bad| (text.to_owned(), bad));
        let renames = zone.renames.iter().map(|(from, to)| Ok((wire(from)?, wire(to)?))).collect::<Result<_, _>>()?;
        let checked = Self {
            zone,
            number: 0,
            mname: wire(&zone.mname)?,
            rname: wire(&zone.rname)?,
            ns: zone.ns.iter().map(|ns| wire(ns)).collect::<Result<_, _>>()?,
            renames,
        };
        Ok((wire(&zone.apex)?, checked))
    }

    fn seat(&self) -> Seat {
        let special = self.zone.compat || self.zone.reach == Reach::Exact;
        Seat { zone: self.number, flags: if special { flag::SPECIAL } else { 0 } }
    }

    fn soa(&self, serial: u32) -> Vec<u8> {
        let serial = self.zone.serial.unwrap_or(serial);
        let numbers = std::iter::once(serial).chain(self.zone.timers).flat_map(u32::to_be_bytes);
        [self.mname.clone(), self.rname.clone(), numbers.collect()].concat()
    }

    fn ns_data(&self) -> Vec<Data> {
        let one = |ns: &Name| Data { rtype: rtype::NS, octets: ns.clone(), target_at: Some(0) };
        let mut all: Vec<Data> = self.ns.iter().map(one).collect();
        all.sort();
        all.dedup();
        all
    }

    fn authority(&self, apex: &[u8], serial: u32) -> Authority {
        let [_, _, _, minimum] = self.zone.timers;
        let ns = self.ns_data().into_iter().flat_map(|data| {
            let owner = [0xc0, HEADER_LEN as u8];
            [&owner[..], &record::tail(rtype::NS, self.zone.ns_ttl, &data.octets)].concat()
        });
        let soa = record::tail(rtype::SOA, minimum, &self.soa(serial));
        let mut soa_sum = Sum::default();
        soa_sum.add(&soa, 0);
        Authority {
            apex_len: if self.zone.reach == Reach::Exact { 0 } else { apex.len() },
            soa: soa.into(),
            soa_sum: soa_sum.word(),
            ns: ns.collect(),
            reach: self.zone.reach,
            origin: self.zone.origin,
            compat: self.zone.compat,
        }
    }
}

fn plain(rtype: u16, octets: Vec<u8>) -> Data {
    Data { rtype, octets, target_at: None }
}

fn reject(rejected: &mut BTreeSet<Rejected>, zone: &Zone, name: &str, reason: Reason) {
    rejected.insert(Rejected { zone: zone.apex.clone(), name: name.to_owned(), reason });
}

/// Whether `name` is `apex` or lies below it.
fn is_below(name: &[u8], apex: &[u8]) -> bool {
    // The octets alone could begin inside a label.
    name.ends_with(apex) && suffixes(name).any(|suffix| suffix.len() == apex.len())
}

/// The name itself, then without its first label, and so on; not the root.
fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name::label_offsets(name).into_iter().filter_map(|offset| name.get(usize::from(offset)..))
}
