//! What the table holds, as rows for people: read back from the octets that are served.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Entry, RrSet, Zones, record};
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
    /// Every RRset, SOA and NS of each apex included, sorted by name and type; aliases are not followed.
    pub fn rows(&self) -> impl Iterator<Item = Row> + use<> {
        let mut rows: Vec<Row> = self.entries().flat_map(|e| e.sets().map(move |set| self.row(&e, &set))).collect();
        rows.sort();
        rows.into_iter()
    }

    fn row(&self, entry: &Entry<'_>, set: &RrSet<'_>) -> Row {
        let wire = entry.name();
        let apex_len = self.zones.get(entry.zone()).map_or(0, |authority| authority.apex_len);
        let apex_len = if apex_len == 0 { wire.len() } else { apex_len };
        let mut values: Vec<String> =
            set.each().filter_map(|r| Some(value(set.rtype, r.get(record::FIXED..)?))).collect();
        values.sort();
        Row {
            name: name::to_text(wire),
            rtype: mnemonic(set.rtype),
            ttl: set.records().get(6..).and_then(<[u8]>::first_chunk).map_or(0, |ttl| u32::from_be_bytes(*ttl)),
            values,
            apex: name::to_text(&wire[wire.len().saturating_sub(apex_len)..]),
        }
    }
}

/// The name of a type.
#[must_use]
pub fn mnemonic(rtype: u16) -> String {
    let name = match rtype {
        rtype::A => "A",
        rtype::NS => "NS",
        rtype::CNAME => "CNAME",
        rtype::SOA => "SOA",
        rtype::PTR => "PTR",
        rtype::MX => "MX",
        rtype::TXT => "TXT",
        rtype::AAAA => "AAAA",
        rtype::SRV => "SRV",
        other => return format!("TYPE{other}"),
    };
    name.to_owned()
}

/// Data of a record as in a master file; what is not known or broken as RFC 3597 section 5 has it.
#[must_use]
pub fn value(rtype: u16, data: &[u8]) -> String {
    let text = match rtype {
        rtype::A => data.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip).to_string()),
        rtype::AAAA => data.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).to_string()),
        rtype::NS | rtype::CNAME | rtype::PTR => numbers_and_name::<0>(data),
        rtype::MX => numbers_and_name::<1>(data),
        rtype::SRV => numbers_and_name::<3>(data),
        rtype::SOA => Some(soa(data)),
        rtype::TXT => Some(strings(data)),
        _ => None,
    };
    text.unwrap_or_else(|| data.iter().fold(format!("\\# {}", data.len()), |text, octet| format!("{text} {octet:02x}")))
}

fn numbers_and_name<const N: usize>(data: &[u8]) -> Option<String> {
    let (numbers, target) = data.split_at_checked(2 * N)?;
    name::walk(target)?;
    let numbers = numbers.as_chunks::<2>().0.iter().map(|n| u16::from_be_bytes(*n).to_string());
    Some(numbers.chain(std::iter::once(name::to_text(target))).collect::<Vec<_>>().join(" "))
}

fn strings(data: &[u8]) -> String {
    let mut rest = data;
    let mut texts = Vec::new();
    while let Some((len, after)) = rest.split_first() {
        let (text, after) = after.split_at(usize::from(*len).min(after.len()));
        texts.push(format!("\"{}\"", text.escape_ascii()));
        rest = after;
    }
    texts.join(" ")
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
