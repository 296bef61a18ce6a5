//! What the table holds, as rows for people: read back from the octets that are served.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Entry, RrSet, Zones};
use crate::wire::dns::rtype;
use crate::wire::name;

/// One RRset.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Row {
    /// Owner: lower case, absolute, with the final dot.
    pub name: String,
    /// Mnemonic of the type, or `TYPE` and its number (RFC 3597 section 5).
    pub rtype: String,
    /// Seconds.
    pub ttl: u32,
    /// Values as in a master file, sorted as text.
    pub values: Vec<String>,
    /// Apex of the zone that serves it, with the final dot.
    pub apex: String,
}

impl Zones {
    /// Every RRset, SOA and NS of each apex included, sorted by name and type.
    pub fn rows(&self) -> impl Iterator<Item = Row> + use<> {
        let mut rows: Vec<Row> = self.entries().flat_map(|e| e.sets().map(move |set| row(&e, &set))).collect();
        rows.sort();
        rows.into_iter()
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slots.iter().filter_map(|slot| self.entry(*slot))
    }
}

fn row(entry: &Entry<'_>, set: &RrSet<'_>) -> Row {
    let wire = entry.name();
    let apex_len = entry.soa().map_or(0, |soa| soa.apex_len);
    let record_len = set.records.len() / usize::from(set.count).max(1);
    let records = set.records.chunks(record_len.max(1));
    let mut values: Vec<String> = records.filter_map(|r| Some(value(set.rtype, r.get(12..)?))).collect();
    values.sort();
    Row {
        name: name::to_text(wire),
        rtype: mnemonic(set.rtype),
        ttl: set.records.get(6..).and_then(<[u8]>::first_chunk).map_or(0, |ttl| u32::from_be_bytes(*ttl)),
        values,
        apex: name::to_text(&wire[wire.len().saturating_sub(apex_len)..]),
    }
}

fn mnemonic(rtype: u16) -> String {
    match rtype {
        rtype::A => "A".to_owned(),
        rtype::AAAA => "AAAA".to_owned(),
        rtype::NS => "NS".to_owned(),
        rtype::SOA => "SOA".to_owned(),
        other => format!("TYPE{other}"),
    }
}

fn value(rtype: u16, data: &[u8]) -> String {
    match (rtype, data.len()) {
        (rtype::A, 4) => data.first_chunk::<4>().map_or(Ipv4Addr::UNSPECIFIED, |ip| Ipv4Addr::from(*ip)).to_string(),
        (rtype::AAAA, 16) => {
            data.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |ip| Ipv6Addr::from(*ip)).to_string()
        }
        (rtype::NS, _) => name::to_text(data),
        (rtype::SOA, _) => soa(data),
        _ => data.iter().fold(format!("\\# {}", data.len()), |text, octet| format!("{text} {octet:02x}")),
    }
}

/// Seven fields.
fn soa(data: &[u8]) -> String {
    let mname_len = name::walk(data).unwrap_or(0);
    let (mname, rest) = data.split_at(mname_len);
    let (rname, numbers) = rest.split_at(name::walk(rest).unwrap_or(0));
    let names = [name::to_text(mname), name::to_text(rname)];
    let numbers = numbers.as_chunks::<4>().0.iter().map(|n| u32::from_be_bytes(*n).to_string());
    names.into_iter().chain(numbers).collect::<Vec<_>>().join(" ")
}
