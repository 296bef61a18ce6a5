//! Zones and their records: plain data in text form, grouped so that a change costs what it changes.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// An authoritative zone. Names are lower case, absolute, without the final dot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    /// Apex (`mesos`, `thisdcos.directory`).
    pub apex: String,
    /// Apexes under which the same tree is answered, each with itself as the owner of its SOA.
    pub aliases: Vec<String>,
    /// Names in the zone, and for each the name whose tree is answered below it (`dclb` for `l4lb`).
    pub renames: Vec<(String, String)>,
    /// Which names are answered.
    pub reach: Reach,
    /// Where its names come from.
    pub origin: Origin,
    /// Whether Mesos-DNS's quirks hold in it (`dns.compat`).
    pub compat: bool,
    /// SOA MNAME.
    pub mname: String,
    /// SOA RNAME.
    pub rname: String,
    /// SOA REFRESH, RETRY, EXPIRE and MINIMUM, seconds.
    pub timers: [u32; 4],
    /// TTL of the SOA in positive answers, seconds (negative ones use MINIMUM).
    pub soa_ttl: u32,
    /// Serial of the SOA where the zone has its own (a master file); `None` is [`super::Local::soa_serial`].
    pub serial: Option<u32>,
    /// NS targets.
    pub ns: Vec<String>,
    /// TTL of NS, seconds.
    pub ns_ttl: u32,
    /// Everything else in it.
    pub records: Records,
}

/// Which names a zone answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Reach {
    /// All at and below the apex: what is not there does not exist.
    #[default]
    Whole,
    /// The names that have records, and no other: their neighbours are somebody else's.
    Exact,
}

/// Where a zone's names come from: what answers are counted by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// Mesos-DNS's zone (`dns.domain`): tasks, frameworks, masters, agents.
    Mesos,
    /// DC/OS's zones: VIPs, addresses of containers, `spartan`, `zk`, `localhost`.
    Dcos,
    /// Addresses: VIPs, the overlay, agents.
    Reverse,
    /// An operator's own zone ([`super::StaticZone`]).
    Own,
}

impl Origin {
    /// All of them in order, with their names in metrics.
    pub const ALL: [(Self, &str); 4] =
        [(Self::Mesos, "mesos"), (Self::Dcos, "dcos"), (Self::Reverse, "reverse"), (Self::Own, "static")];
}

impl Zone {
    /// An operator's zone without records, with DC/OS's timers, served by the name server `ns`.
    #[must_use]
    pub fn new(apex: &str, ns: &str) -> Self {
        Self {
            apex: apex.to_owned(),
            aliases: Vec::new(),
            renames: Vec::new(),
            reach: Reach::Whole,
            origin: Origin::Own,
            compat: false,
            mname: ns.to_owned(),
            rname: "support.mesosphere.com".to_owned(),
            timers: [60, 180, 86_400, 5],
            soa_ttl: 5,
            serial: None,
            ns: vec![ns.to_owned()],
            ns_ttl: 3600,
            records: Records::default(),
        }
    }

    /// Everything but the records: what no record's change changes.
    #[must_use]
    pub fn frame(&self) -> impl PartialEq + '_ {
        let names = (&self.apex, &self.aliases, &self.renames, self.reach, self.origin, self.compat);
        (names, (&self.mname, &self.rname, self.timers, self.soa_ttl, self.serial), (&self.ns, self.ns_ttl))
    }
}

/// A record of a zone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// Owner, lower case, absolute, without the final dot.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// Type and value.
    pub data: RecordData,
}

/// Type and value of a record. Names are absolute, without the final dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RecordData {
    /// RFC 1035 A.
    A(Ipv4Addr),
    /// RFC 3596 AAAA.
    Aaaa(Ipv6Addr),
    /// RFC 2782 SRV.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share among equal priorities.
        weight: u16,
        /// Port.
        port: u16,
        /// Host.
        target: String,
    },
    /// RFC 1035 CNAME.
    Cname(String),
    /// RFC 1035 PTR.
    Ptr(String),
    /// RFC 1035 MX.
    Mx {
        /// Lower is tried first.
        preference: u16,
        /// Host.
        exchange: String,
    },
    /// RFC 1035 TXT: strings of at most 255 octets.
    Txt(Vec<Vec<u8>>),
}

impl RecordData {
    /// Mnemonic of the type.
    #[must_use]
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Srv { .. } => "SRV",
            Self::Cname(_) => "CNAME",
            Self::Ptr(_) => "PTR",
            Self::Mx { .. } => "MX",
            Self::Txt(_) => "TXT",
        }
    }
}

/// As in a master file, names with the final dot.
impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => ip.fmt(f),
            Self::Aaaa(ip) => ip.fmt(f),
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}."),
            Self::Cname(name) | Self::Ptr(name) => write!(f, "{name}."),
            Self::Mx { preference, exchange } => write!(f, "{preference} {exchange}."),
            Self::Txt(strings) => {
                for (index, text) in strings.iter().enumerate() {
                    write!(f, "{}\"{}\"", if index > 0 { " " } else { "" }, text.escape_ascii())?;
                }
                Ok(())
            }
        }
    }
}

/// Records in groups by their names. A group that has not changed is the same allocation in the next zone, by which it
/// is known; all records of a name are in one.
#[derive(Clone, Default)]
pub struct Records {
    /// A power of two of them, or none.
    groups: Vec<Arc<Vec<Record>>>,
    len: usize,
}

/// Records of a group when a zone is made, and how far from it a zone may grow before it is grouped again.
const GROUP: usize = 16;
const STRETCH: usize = 8;

impl Records {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All, those of a name together.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// Those of a name, sorted.
    #[must_use]
    pub fn of(&self, name: &str) -> &[Record] {
        let Some(group) = index(name, self.groups.len()).and_then(|at| self.groups.get(at)) else { return &[] };
        let first = group.partition_point(|r| r.name.as_str() < name);
        let count = group[first..].partition_point(|r| r.name == name);
        &group[first..first + count]
    }

    /// Gives names other records, each time all that a name has; an empty list takes the name away.
    pub fn replace(&mut self, mut changes: Vec<(String, Vec<Record>)>) {
        if self.groups.is_empty() {
            *self = changes.into_iter().flat_map(|(_, records)| records).collect();
            return;
        }
        let count = self.groups.len();
        changes.sort_by_cached_key(|(name, _)| index(name, count));
        for group in changes.chunk_by(|a, b| index(&a.0, count) == index(&b.0, count)) {
            let Some(at) = group.first().and_then(|(name, _)| index(name, count)) else { continue };
            let mut records: Vec<Record> =
                self.groups[at].iter().filter(|r| !group.iter().any(|(name, _)| *name == r.name)).cloned().collect();
            records.extend(group.iter().flat_map(|(_, records)| records.iter().cloned()));
            records.sort();
            records.dedup();
            self.len = self.len - self.groups[at].len() + records.len();
            self.groups[at] = Arc::new(records);
        }
        let ideal = self.len / self.groups.len();
        if ideal > GROUP * STRETCH || (ideal * STRETCH < GROUP && self.groups.len() > 64) {
            *self = self.iter().cloned().collect();
        }
    }

    /// Names whose records may differ from those before; all, where too much does.
    pub fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        let same = self.groups.len() == before.groups.len();
        let at = move |index: usize| (self.groups.get(index), before.groups.get(index));
        let count = self.groups.len().max(before.groups.len());
        let pairs = (0..count).map(at).filter(move |pair| match pair {
            (Some(now), Some(then)) if same => !Arc::ptr_eq(now, then),
            _ => true,
        });
        let names = pairs.flat_map(|(now, then)| now.into_iter().chain(then).flat_map(|group| group.iter()));
        let mut last = "";
        names.map(|record| record.name.as_str()).filter(move |name| std::mem::replace(&mut last, name) != *name)
    }
}

/// FNV-1a: equal on every node and in every version. Whoever chooses names can fill one group, which then costs as much
/// as a zone that is not grouped at all.
fn index(name: &str, groups: usize) -> Option<usize> {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32).checked_rem(groups as u64).map(|at| at as usize)
}

impl FromIterator<Record> for Records {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut records: Vec<Record> = records.into_iter().collect();
        if records.is_empty() {
            return Self::default();
        }
        records.sort_unstable();
        records.dedup();
        let count = (records.len() / GROUP).next_power_of_two();
        let len = records.len();
        let mut groups = vec![Vec::new(); count];
        for record in records {
            if let Some(group) = index(&record.name, count).and_then(|at| groups.get_mut(at)) {
                group.push(record);
            }
        }
        Self { groups: groups.into_iter().map(Arc::new).collect(), len }
    }
}

impl From<Vec<Record>> for Records {
    fn from(records: Vec<Record>) -> Self {
        records.into_iter().collect()
    }
}

/// By what they hold, however it is grouped.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        if self.groups.len() == other.groups.len() {
            let mut pairs = self.groups.iter().zip(&other.groups);
            return self.len == other.len && pairs.all(|(a, b)| Arc::ptr_eq(a, b) || a == b);
        }
        self.len == other.len && self.iter().all(|record| other.of(&record.name).contains(record))
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn record(name: u16, last: u8) -> Record {
        Record { name: format!("n{name}.mesos"), ttl: 60, data: RecordData::A(Ipv4Addr::new(10, 0, 0, last)) }
    }

    proptest! {
        #[test]
        fn a_changed_zone_is_the_zone_made_anew_and_says_what_changed(
            first in prop::collection::vec((0u16..400, 0u8..3), 0..600),
            changes in prop::collection::vec((0u16..500, prop::collection::vec(0u8..4, 0..3)), 0..60),
        ) {
            let before: Records = first.iter().map(|(name, last)| record(*name, *last)).collect();
            let mut model: BTreeMap<String, Vec<Record>> = BTreeMap::new();
            for (name, last) in &first {
                model.entry(record(*name, 0).name).or_default().push(record(*name, *last));
            }
            let changes: BTreeMap<String, Vec<Record>> = changes.into_iter()
                .map(|(name, lasts)| (record(name, 0).name, lasts.into_iter().map(|last| record(name, last)).collect()))
                .collect();
            let mut after = before.clone();
            after.replace(changes.clone().into_iter().collect());
            model.extend(changes.clone());
            let anew: Records = model.into_values().flatten().collect();
            prop_assert_eq!(&after, &anew);
            let said: Vec<&str> = after.changed(&before).collect();
            for name in changes.keys().filter(|name| before.of(name) != after.of(name)) {
                prop_assert!(said.contains(&name.as_str()));
            }
            prop_assert_eq!(after.clone().changed(&after).count(), 0);
        }
    }

    #[test]
    fn one_name_of_many_leaves_the_rest_as_it_is() {
        let before: Records = (0..10_000).map(|name| record(name, 1)).collect();
        let mut after = before.clone();
        after.replace(vec![("n77.mesos".to_owned(), vec![record(77, 2)])]);
        assert!(after.changed(&before).count() < 100);
        assert_eq!(after.of("n77.mesos"), [record(77, 2)]);
        assert_eq!((after.len(), before.of("n77.mesos").len()), (10_000, 1));
    }
}
