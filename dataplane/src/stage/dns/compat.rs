//! What Mesos-DNS says (facts/dcos.md A.4), where `dns.compat = "mesos-dns"` asks for it: SOA and NS in authority with
//! the asked name as their owner, no answer of the negative kind to SRV, everything to ANY, no empty non-terminals, and
//! names from which every label `*` but the first is taken away.

use arrayvec::ArrayVec;

use crate::tables::zone::{Found, RrSet, Zones};
use crate::wire::dns::{HEADER_LEN, Query, Rcode, rtype};
use crate::wire::name::{self, NAME_MAX};

use super::write::Writer;

/// As [`Zones::resolve`]; in a zone with quirks as Mesos-DNS cleans names.
pub(super) fn resolve<'a>(zones: &'a Zones, name: &[u8]) -> Option<Found<'a>> {
    let found = zones.resolve(name)?;
    match cleaned(name).filter(|_| found.compat()) {
        Some(cleaned) => zones.resolve(&cleaned),
        None => Some(found),
    }
}

/// The name without its labels `*`, the first excepted; `None` where it has none.
fn cleaned(name: &[u8]) -> Option<ArrayVec<u8, NAME_MAX>> {
    let mut clean = ArrayVec::new();
    for offset in name::label_offsets(name) {
        let label = name.get(usize::from(offset)..)?;
        let label = label.get(..1 + usize::from(*label.first()?))?;
        if offset == 0 || label != b"\x01*" {
            clean.try_extend_from_slice(label).ok()?;
        }
    }
    clean.try_push(0).ok()?;
    (clean.len() < name.len()).then_some(clean)
}

/// Whether Mesos-DNS has a name: one with records of tasks, not the apex for its SOA and NS.
fn exists(found: &Found<'_>) -> bool {
    found.exact && found.entry.sets().any(|set| !matches!(set.rtype, rtype::SOA | rtype::NS))
}

pub(super) fn rcode(query: &Query, found: &Found<'_>) -> Rcode {
    match query.qtype {
        rtype::SRV | rtype::SOA | rtype::NS => Rcode::NoError,
        _ if exists(found) => Rcode::NoError,
        _ => Rcode::NxDomain,
    }
}

pub(super) fn write(writer: &mut Writer<'_>, found: &Found<'_>, qtype: u16, zones: &Zones, question_end: usize) {
    let soa = |writer: &mut Writer<'_>| writer.soa(&found.soa(), HEADER_LEN);
    match qtype {
        rtype::SOA => soa(writer),
        rtype::NS => writer.authority(found.ns(), 1),
        rtype::ANY => {
            let mut services = None;
            for set in found.entry.sets().filter(|_| exists(found)) {
                let begin = put(writer, found, &set, question_end);
                services = services.or_else(|| (set.rtype == rtype::SRV).then_some((set, begin)));
            }
            soa(writer);
            writer.authority(found.ns(), 1);
            if !exists(found) {
                soa(writer);
            }
            if let Some((set, begin)) = services {
                writer.additional(&set, begin, zones, 1);
            }
        }
        _ => match found.entry.answer(qtype).filter(|_| exists(found)) {
            Some(set) => {
                let begin = put(writer, found, &set, question_end);
                if qtype == rtype::SRV {
                    writer.additional(&set, begin, zones, 1);
                }
            }
            None if qtype == rtype::SRV => {}
            None => soa(writer),
        },
    }
}

/// A set; owned by the name that was looked up where that is another than was asked for. Where it begins.
fn put(writer: &mut Writer<'_>, found: &Found<'_>, set: &RrSet<'_>, question_end: usize) -> usize {
    let name = found.entry.name();
    if name.len() == question_end - HEADER_LEN - 4 || set.rtype == rtype::SRV {
        writer.answer(set, false)
    } else {
        writer.answer_as(set, name)
    }
}
