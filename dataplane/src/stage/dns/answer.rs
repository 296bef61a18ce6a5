//! A query becomes its answer in the buffer that holds it.
//!
//! The question is never moved: header flags and counts are overwritten in front of it, records put behind it, OPT
//! last. An answer is never longer than the client takes, and never more than one comes of a query.

use crate::tables::LocalTables;
use crate::tables::zone::{Closest, Probe, RrSet, Soa, Zones};
use crate::verdict::DropReason;
use crate::wire::dns::{self, CLASS_IN, EDNS_VERSION, Edns, HEADER_LEN, OPT_LEN, Query, Rcode, UDP_MAX, flag, rtype};

/// What becomes of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The buffer's first `len` octets are its answer.
    Answer {
        /// Octets.
        len: usize,
        /// Response code.
        rcode: Rcode,
    },
    /// No answer; the buffer is as it was.
    Drop(DropReason),
}

/// Answers the query in the first `query_len` octets of `buffer`, with the rest of it as room. UDP limits hold: 512
/// octets without EDNS, else what the client takes and `local.edns_max` allows.
pub fn answer_in_place(buffer: &mut [u8], query_len: usize, zones: &Zones, local: &LocalTables) -> Reply {
    let probe = zones.probe(buffer);
    answer_probed(buffer, query_len, &probe, zones, local)
}

/// As [`answer_in_place`], with the name already hashed.
#[inline]
pub(super) fn answer_probed(
    buffer: &mut [u8],
    query_len: usize,
    probe: &Probe,
    zones: &Zones,
    local: &LocalTables,
) -> Reply {
    let message = buffer.get(..query_len).unwrap_or_default();
    if message.len() < HEADER_LEN || message[2] & flag::QR != 0 {
        return Reply::Drop(DropReason::DnsMalformed);
    }
    let answer = usual(message, probe, zones).unwrap_or_else(|| unusual(message, zones));
    Reply::Answer { len: answer.write(buffer, local), rcode: answer.rcode }
}

/// What will be written.
pub(super) struct Answer<'a> {
    /// Where the question ends; [`HEADER_LEN`] when none is echoed.
    question_end: usize,
    rcode: Rcode,
    body: Body<'a>,
    edns: Option<Edns>,
}

enum Body<'a> {
    /// No records, not authoritative.
    Nothing,
    Records(RrSet<'a>),
    /// An SOA in authority, and where in the message its owner is.
    Negative {
        soa: Option<Soa<'a>>,
        name_end: usize,
    },
}

/// The usual query for a name that exists: no label is walked, for the name equals a stored one.
#[inline]
pub(super) fn usual<'a>(message: &[u8], probe: &Probe, zones: &'a Zones) -> Option<Answer<'a>> {
    let query = dns::plain(message, probe.name_len)?;
    let entry = zones.find(probe, message.get(HEADER_LEN..)?)?;
    Some(served(&query, Some(Closest { entry, exact: true })))
}

#[cold]
pub(super) fn unusual<'a>(message: &[u8], zones: &'a Zones) -> Answer<'a> {
    let opcode = message[2] & flag::OPCODE;
    match dns::parse(message) {
        Ok(query) if opcode == 0 => {
            let name = message.get(HEADER_LEN..HEADER_LEN + query.name_len).unwrap_or_default();
            served(&query, zones.closest(name))
        }
        Ok(query) => refusal(query.question_end(), query.edns, Rcode::NotImp),
        // What an opcode of another kind puts behind the header is its own affair.
        Err(known) if opcode != 0 => refusal(HEADER_LEN, known.edns, Rcode::NotImp),
        Err(known) => refusal(known.question_end, known.edns, Rcode::FormErr),
    }
}

fn refusal<'a>(question_end: usize, edns: Option<Edns>, rcode: Rcode) -> Answer<'a> {
    Answer { question_end, rcode, body: Body::Nothing, edns }
}

#[inline]
fn served<'a>(query: &Query, found: Option<Closest<'a>>) -> Answer<'a> {
    let refuse = |rcode| refusal(query.question_end(), query.edns, rcode);
    if query.edns.is_some_and(|edns| edns.version != EDNS_VERSION) {
        return refuse(Rcode::BadVers);
    }
    // No transfer over UDP, and none at all to strangers.
    if query.class != CLASS_IN || matches!(query.qtype, rtype::AXFR | rtype::IXFR) {
        return refuse(Rcode::Refused);
    }
    match found {
        None => refuse(Rcode::Refused),
        Some(Closest { entry, exact }) => {
            let rcode = if exact { Rcode::NoError } else { Rcode::NxDomain };
            let records = if exact { entry.answer(query.qtype) } else { None };
            let negative = || Body::Negative { soa: entry.soa(), name_end: HEADER_LEN + query.name_len };
            let body = records.map_or_else(negative, Body::Records);
            Answer { question_end: query.question_end(), rcode, body, edns: query.edns }
        }
    }
}

impl Answer<'_> {
    /// Writes it and returns its length.
    #[inline]
    pub(super) fn write(&self, buffer: &mut [u8], local: &LocalTables) -> usize {
        let opt_len = if self.edns.is_some() { OPT_LEN } else { 0 };
        let limit = self.limit(local).min(buffer.len());
        let id = u16::from_be_bytes([buffer[0], buffer[1]]);
        let room = limit.checked_sub(opt_len).and_then(|end| buffer.get_mut(self.question_end..end));
        let written = self.body.write(room.unwrap_or_default(), id);
        self.write_header(buffer, &written, local);
        let end = self.question_end + written.len;
        match (&self.edns, buffer.get_mut(end..end + opt_len)) {
            (Some(edns), Some(room)) => {
                room.copy_from_slice(&opt(edns, self.rcode, local.edns_max));
                end + opt_len
            }
            _ => end,
        }
    }

    /// Largest answer that the client takes (RFC 6891 section 6.2.3: below 512 means 512).
    #[inline]
    fn limit(&self, local: &LocalTables) -> usize {
        self.edns.map_or(UDP_MAX, |edns| usize::from(edns.size.min(local.edns_max)).max(UDP_MAX))
    }

    /// The id stays. RD is copied, CD, AD and Z are cleared, as is whatever else the query had no right to set; RA is
    /// never set where recursion would have been needed.
    #[inline]
    fn write_header(&self, buffer: &mut [u8], written: &Written, local: &LocalTables) {
        let Some(header) = buffer.first_chunk_mut::<HEADER_LEN>() else { return };
        let (aa, ra) = match self.body {
            Body::Nothing => (0, 0),
            Body::Records(_) | Body::Negative { .. } => {
                (flag::AA, if local.recursion_available { flag::RA } else { 0 })
            }
        };
        let tc = if written.cut && local.truncate_bit { flag::TC } else { 0 };
        header[2] = flag::QR | header[2] & (flag::OPCODE | flag::RD) | aa | tc;
        header[3] = ra | self.rcode.header_bits();
        let [a0, a1] = written.answers.to_be_bytes();
        let question = u8::from(self.question_end > HEADER_LEN);
        let counts = [0, question, a0, a1, 0, written.authorities, 0, u8::from(self.edns.is_some())];
        header[4..].copy_from_slice(&counts);
    }
}

/// What went behind the question.
#[derive(Default)]
struct Written {
    len: usize,
    answers: u16,
    authorities: u8,
    /// Records did not fit.
    cut: bool,
}

impl Body<'_> {
    /// Whole records, as many as `room` takes.
    #[inline]
    fn write(&self, room: &mut [u8], id: u16) -> Written {
        match self {
            Body::Nothing => Written::default(),
            Body::Records(set) => write_records(set, room, id),
            Body::Negative { soa, name_end } => {
                soa.map_or_else(Written::default, |soa| write_soa(&soa, *name_end, room))
            }
        }
    }
}

/// The set, turned by the message's id: clients choose ids at random, so every record is first equally often.
#[inline]
fn write_records(set: &RrSet<'_>, room: &mut [u8], id: u16) -> Written {
    if set.count == 1 && set.records.len() <= room.len() {
        room[..set.records.len()].copy_from_slice(set.records);
        return Written { len: set.records.len(), answers: 1, ..Written::default() };
    }
    let count = set.count.max(1);
    let record_len = set.records.len() / usize::from(count);
    let fit = room.len().checked_div(record_len).map_or(0, |n| n.min(usize::from(count)));
    let (last, first) = set.records.split_at(usize::from(id % count) * record_len);
    let len = fit * record_len;
    let (head, tail) = room[..len].split_at_mut(first.len().min(len));
    head.copy_from_slice(&first[..head.len()]);
    tail.copy_from_slice(&last[..tail.len()]);
    Written { len, answers: fit as u16, cut: fit < usize::from(count), ..Written::default() }
}

/// Its owner is the end of the question's name (a pointer reaches 16383 octets: RFC 1035 section 4.1.4).
#[inline]
fn write_soa(soa: &Soa<'_>, name_end: usize, room: &mut [u8]) -> Written {
    let len = 2 + soa.record.len();
    let Some((owner, rest)) = room.get_mut(..len).and_then(|room| room.split_first_chunk_mut::<2>()) else {
        return Written { cut: true, ..Written::default() };
    };
    *owner = (0xc000 | name_end.saturating_sub(soa.apex_len) as u16).to_be_bytes();
    rest.copy_from_slice(soa.record);
    Written { len, authorities: 1, ..Written::default() }
}

/// OPT with our size, version 0, DO as the client had it (RFC 3225 section 3) and no options.
#[inline]
fn opt(edns: &Edns, rcode: Rcode, edns_max: u16) -> [u8; OPT_LEN] {
    let [t0, t1] = rtype::OPT.to_be_bytes();
    let [s0, s1] = edns_max.to_be_bytes();
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    [0, t0, t1, s0, s1, rcode.opt_bits(), EDNS_VERSION, dnssec_ok, 0, 0, 0]
}
