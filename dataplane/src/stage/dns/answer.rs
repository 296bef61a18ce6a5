//! A query becomes its answer in the buffer that holds it.
//!
//! The question is never moved: header flags and counts are overwritten in front of it, records put behind it, OPT
//! last. An answer is never longer than the client takes, and never more than one comes of a query. Control answers
//! over TCP by the same functions ([`answer`]).

use sluice_config::model::Origin;

use crate::tables::dns::Terms;
use crate::tables::zone::{Entry, Found, Probe, RrSet, Zones};
use crate::verdict::DropReason;
use crate::wire::dns::{self, CLASS_IN, EDNS_VERSION, Edns, HEADER_LEN, Query, Rcode, UDP_MAX, flag, rtype};
use crate::wire::name;
use crate::wire::sum::Sum;

use super::compat;
use super::cookie::{self, Asker};
use super::write::{Writer, options_len};

/// What becomes of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The buffer's first `len` octets are its answer.
    Answer {
        /// Octets.
        len: usize,
        /// Response code.
        rcode: Rcode,
        /// Sum of all octets but the question's, from behind the header to [`Answer::question_end`].
        sum: Sum,
    },
    /// No answer; the buffer is as it was.
    Drop(DropReason),
}

/// How much of an answer may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Over UDP: what the client takes and the terms allow, 512 octets without EDNS.
    Udp,
    /// The same; and to a client that may be somebody else no more than three times what it sent, where that is above
    /// 512.
    Doubtful,
    /// Nothing but TC: whoever is asked in another's name answers with as much as was asked.
    Slip,
    /// Over TCP: all of it.
    Tcp,
}

/// Answers the query in the first `query_len` octets of `buffer`, with the rest of it as room.
pub fn answer(buffer: &mut [u8], query_len: usize, zones: &Zones, terms: &Terms, asker: &Asker, limit: Limit) -> Reply {
    match read(buffer.get(..query_len).unwrap_or_default(), zones) {
        Ok(answer) => answer.reply(buffer, query_len, zones, terms, asker, limit),
        Err(reason) => Reply::Drop(reason),
    }
}

/// What a query asks, and what there is to say.
///
/// # Errors
/// When it deserves no answer.
pub fn read<'a>(message: &[u8], zones: &'a Zones) -> Result<Answer<'a>, DropReason> {
    let (probe, _) = zones.probe(&name::window(message.get(HEADER_LEN..).unwrap_or_default()));
    let mut said = Err(DropReason::DnsMalformed);
    read_probed(message, (&probe, zones.candidate(&probe)), dns::plain(message, probe.name_len), zones, &mut said);
    said
}

/// As [`read`], of a message whose name has been read. What there is to say is written where it will stay: a value of many
/// parts that several ways lead to is otherwise put together in pieces.
#[inline(always)]
pub(super) fn read_probed<'a>(
    message: &[u8],
    (probe, candidate): (&Probe, Option<Entry<'a>>),
    query: Option<Query>,
    zones: &'a Zones,
    said: &mut Result<Answer<'a>, DropReason>,
) {
    let Some(query) = query else {
        *said = unusual(message, zones);
        return;
    };
    let name = message.get(HEADER_LEN..).unwrap_or_default();
    let entry = zones.confirm(candidate, probe, name);
    let Some(found) = entry.and_then(|entry| entry.usual(zones)) else {
        *said = missed(&query, name, message, zones, entry.is_none());
        return;
    };
    match (refused(&query), found.entry.answer(query.qtype)) {
        (None, Some(set)) => {
            *said = Ok(Answer::to(&query, Rcode::NoError, Body::Records(set), Some(found.origin())));
        }
        (None, None) => *said = Ok(Answer::to(&query, Rcode::NoError, other(found), Some(found.origin()))),
        (Some(rcode), _) => *said = Ok(Answer::to(&query, rcode, Body::Nothing, None)),
    }
}

/// What will be written.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Where the question ends; [`HEADER_LEN`] when none is echoed.
    question_end: u16,
    pub(super) rcode: Rcode,
    pub(super) body: Body<'a>,
    pub(super) edns: Option<Edns>,
    /// Question type; 0 when none was read.
    pub(super) qtype: u16,
    /// Whose zone it is from.
    pub(super) origin: Option<Origin>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    /// No records, not authoritative.
    Nothing,
    Records(RrSet<'a>),
    /// Another name stands for the one that was asked for.
    Chain(RrSet<'a>),
    /// An SOA in authority.
    Negative(Found<'a>),
    /// What Mesos-DNS would say.
    Compat(Found<'a>),
}

/// The usual query for a name that is not in the table, or is special: only now are labels walked.
#[inline(never)]
fn missed<'a>(
    query: &Query,
    name: &[u8],
    message: &[u8],
    zones: &'a Zones,
    absent: bool,
) -> Result<Answer<'a>, DropReason> {
    match name.get(..query.name_len) {
        Some(name) if name::walk(name) == Some(query.name_len) => {
            let found = if absent { zones.absent(name) } else { None };
            Ok(served(query, found.or_else(|| compat::resolve(zones, name))))
        }
        _ => unusual(message, zones),
    }
}

#[cold]
#[inline(never)]
pub(super) fn unusual<'a>(message: &[u8], zones: &'a Zones) -> Result<Answer<'a>, DropReason> {
    if message.len() < HEADER_LEN || message[2] & flag::QR != 0 {
        return Err(DropReason::DnsMalformed);
    }
    let opcode = message[2] & flag::OPCODE;
    Ok(match dns::parse(message) {
        Ok(query) if opcode == 0 => {
            let name = message.get(HEADER_LEN..HEADER_LEN + query.name_len).unwrap_or_default();
            served(&query, compat::resolve(zones, name))
        }
        Ok(query) => refusal(query.question_end(), query.edns, Rcode::NotImp),
        // What an opcode of another kind puts behind the header is its own affair.
        Err(known) if opcode != 0 => refusal(HEADER_LEN, known.edns, Rcode::NotImp),
        Err(known) if known.cookie_alone => refusal(HEADER_LEN, known.edns, Rcode::NoError),
        Err(known) => refusal(known.question_end, known.edns, Rcode::FormErr),
    })
}

fn refusal<'a>(question_end: usize, edns: Option<Edns>, rcode: Rcode) -> Answer<'a> {
    Answer { question_end: question_end as u16, rcode, body: Body::Nothing, edns, qtype: 0, origin: None }
}

#[inline(never)]
fn served<'a>(query: &Query, found: Option<Found<'a>>) -> Answer<'a> {
    match (refused(query), found) {
        (Some(rcode), _) => Answer::to(query, rcode, Body::Nothing, None),
        (None, None) => Answer::to(query, Rcode::Refused, Body::Nothing, None),
        (None, Some(found)) => {
            let (rcode, body) = said(query, found);
            Answer::to(query, rcode, body, Some(found.origin()))
        }
    }
}

/// Why a query gets no answer, whatever it is about.
#[inline(always)]
fn refused(query: &Query) -> Option<Rcode> {
    if query.edns.is_some_and(|edns| edns.version != EDNS_VERSION) {
        return Some(Rcode::BadVers);
    }
    // No transfer over UDP, and none at all to strangers.
    (query.class != CLASS_IN || matches!(query.qtype, rtype::AXFR | rtype::IXFR)).then_some(Rcode::Refused)
}

fn said<'a>(query: &Query, found: Found<'a>) -> (Rcode, Body<'a>) {
    if found.compat() {
        return (compat::rcode(query, &found), Body::Compat(found));
    }
    if !found.exact {
        return (Rcode::NxDomain, Body::Negative(found));
    }
    let records = found.entry.answer(query.qtype).map(Body::Records);
    (Rcode::NoError, records.unwrap_or_else(|| other(found)))
}

/// What there is of a name that has not the type that was asked for.
#[inline(always)]
fn other(found: Found<'_>) -> Body<'_> {
    found.entry.answer(rtype::CNAME).map_or(Body::Negative(found), Body::Chain)
}

impl<'a> Answer<'a> {
    #[inline(always)]
    fn to(query: &Query, rcode: Rcode, body: Body<'a>, origin: Option<Origin>) -> Self {
        Self { question_end: query.question_end() as u16, rcode, body, edns: query.edns, qtype: query.qtype, origin }
    }

    /// Where the question ends.
    #[must_use]
    #[inline]
    pub fn question_end(&self) -> usize {
        usize::from(self.question_end)
    }

    /// Question type; 0 where none was read.
    #[must_use]
    pub fn qtype(&self) -> u16 {
        self.qtype
    }

    /// Whose zone it is from; `None` where no zone was asked.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// Whether the message is a question about a name that is none of ours, and a forwarder's, if there is one: of class
    /// IN, of a type that records have (or ANY), and with RD.
    #[must_use]
    pub fn is_foreign(&self, message: &[u8]) -> bool {
        let class = message.get(self.question_end().saturating_sub(2)..self.question_end());
        self.rcode == Rcode::Refused
            && message.get(2).is_some_and(|flags| flags & flag::RD != 0)
            && class == Some(&CLASS_IN.to_be_bytes())
            // RFC 6895 section 3.1: OPT, and what is a question only.
            && !matches!(self.qtype, 0 | rtype::OPT | 128..rtype::ANY)
    }

    /// The set of an answer whose records point to names that are told too.
    #[must_use]
    #[inline]
    pub fn pointing(&self) -> Option<RrSet<'a>> {
        match self.body {
            Body::Records(set) if set.rtype == rtype::SRV => Some(set),
            Body::Records(_) | Body::Nothing | Body::Chain(_) | Body::Negative(_) | Body::Compat(_) => None,
        }
    }

    /// Whether the client has shown that it is who it says: only it can know a server cookie.
    #[must_use]
    #[inline]
    pub fn is_proven(&self, message: &[u8], terms: &Terms, asker: &Asker) -> bool {
        let cookie = self.edns.filter(Edns::has_cookie).and_then(|edns| edns.cookie(message));
        cookie.is_some_and(|cookie| cookie::is_valid(&cookie, &terms.secrets, asker))
    }

    /// Writes it over the query in the first `query_len` octets.
    #[inline]
    pub fn reply(
        &self,
        buffer: &mut [u8],
        query_len: usize,
        zones: &Zones,
        terms: &Terms,
        asker: &Asker,
        limit: Limit,
    ) -> Reply {
        let cookie = self.edns.filter(Edns::has_cookie).and_then(|edns| edns.cookie(buffer));
        let opt_len = self.edns.map_or(0, |edns| options_len(&edns, terms));
        let most = self.limit(query_len, terms, limit).min(buffer.len());
        let end = most.saturating_sub(opt_len).max(self.question_end());
        let mut writer = Writer::new(buffer, self.question_end(), end);
        let mut rcode = self.rcode;
        if limit == Limit::Slip {
            writer.cut();
        } else {
            rcode = self.write_body(&mut writer, zones, terms.truncate_bit);
        }
        let written = writer.written();
        let mut sum = self.write_header(buffer, rcode, &written, terms);
        sum.join(written.sum, self.question_end());
        let mut len = written.end;
        if let Some(edns) = &self.edns {
            let room = buffer.get_mut(len..).unwrap_or_default();
            let (added, of_it) = super::write::opt(room, edns, cookie, rcode, terms, asker);
            sum.join(of_it, len);
            len += added;
        }
        Reply::Answer { len, rcode, sum }
    }

    #[inline]
    fn write_body(&self, writer: &mut Writer<'_>, zones: &Zones, whole: bool) -> Rcode {
        match &self.body {
            Body::Nothing => {}
            Body::Records(set) => {
                let begin = writer.answer(set, whole);
                if set.rtype == rtype::SRV {
                    writer.additional(set, begin, zones, u16::MAX);
                }
            }
            Body::Negative(found) => {
                let soa = found.soa();
                writer.soa(&soa, self.question_end().saturating_sub(4 + soa.apex_len));
            }
            Body::Chain(first) => return writer.chain(first, self.qtype, zones, whole),
            Body::Compat(found) => compat::write(writer, found, self.qtype, zones, self.question_end()),
        }
        self.rcode
    }

    /// Largest answer that the client gets (RFC 6891 section 6.2.3: below 512 means 512).
    #[must_use]
    #[inline]
    pub fn limit(&self, query_len: usize, terms: &Terms, limit: Limit) -> usize {
        let takes = self.edns.map_or(UDP_MAX, |edns| usize::from(edns.size.min(terms.edns_max)).max(UDP_MAX));
        match limit {
            Limit::Udp | Limit::Slip => takes,
            Limit::Doubtful => takes.min((3 * query_len).max(UDP_MAX)),
            Limit::Tcp => usize::from(u16::MAX),
        }
    }

    /// The id stays. RD is copied, CD, AD and Z are cleared, as is whatever else the query had no right to set; RA is
    /// never set where recursion would have been needed.
    #[inline]
    fn write_header(&self, buffer: &mut [u8], rcode: Rcode, written: &super::write::Written, terms: &Terms) -> Sum {
        let Some(header) = buffer.first_chunk_mut::<HEADER_LEN>() else { return Sum::default() };
        let (aa, ra) = match self.body {
            Body::Nothing => (0, 0),
            Body::Records(_) | Body::Negative(_) | Body::Chain(_) | Body::Compat(_) => {
                (flag::AA, if terms.recursion_available { flag::RA } else { 0 })
            }
        };
        let tc = if written.cut && terms.truncate_bit { flag::TC } else { 0 };
        let flags =
            u16::from_be_bytes([flag::QR | header[2] & (flag::OPCODE | flag::RD) | aa | tc, ra | rcode.header_bits()]);
        let question = u64::from(self.question_end() > HEADER_LEN);
        let counts = question << 32 | u64::from(written.answers) << 16 | u64::from(written.authorities);
        let front = (u64::from(flags) << 48 | counts).to_be_bytes();
        let additional = written.additional + u16::from(self.edns.is_some());
        let [id0, id1, ..] = *header;
        let [f0, f1, q0, q1, a0, a1, n0, n1] = front;
        let [r0, r1] = additional.to_be_bytes();
        *header = [id0, id1, f0, f1, q0, q1, a0, a1, n0, n1, r0, r1];
        let mut sum = Sum::default();
        sum.eight(u64::from_ne_bytes(front));
        sum.add_word(additional);
        sum.add_word(u16::from_be_bytes([id0, id1]));
        sum
    }
}
