//! The answers that nearly all questions get, each put together in one go: records of a name, or its absence, to a client
//! that is believed, with nothing asked for by EDNS. It is octet for octet what [`Answer::reply`], [`turn::turn`] and egress
//! make of it (a property test compares them), who write all others.

use super::answer::{Answer, Body};
use super::turn::{self, Question, UDP_LEN};
use super::write::{POINTER_MAX, put};
use crate::tables::PortEntry;
use crate::tables::dns::Terms;
use crate::tables::zone::{Entry, RrSet, Zones};
use crate::wire::ETHERNET;
use crate::wire::dns::{HEADER_LEN, OPT_LEN, UDP_MAX, flag, rtype};
use crate::wire::sum::Sum;

/// Records behind a question: what there is of them, and where the next one goes.
struct Records<'a> {
    room: &'a mut [u8],
    used: usize,
    /// Of them, the first of which lies at an even offset or is taken as if it did.
    sum: Sum,
    answers: u16,
    authorities: u16,
    additional: u16,
}

/// Octets of the answer in its frame, ready to leave by the port on which the question came behind a plain Ethernet header;
/// `None` where the answer is not of the usual kind. Then nothing but octets behind the question has been changed.
#[inline(never)]
pub(super) fn reply<const V6: bool>(
    octets: &mut [u8],
    port: &PortEntry,
    question: &Question,
    answer: &Answer<'_>,
    zones: &Zones,
    terms: &Terms,
) -> Option<usize> {
    let (_, ip_len) = turn::header(V6);
    let at = ETHERNET + ip_len + UDP_LEN;
    let end = answer.question_end();
    let (takes, opt_len, dnssec_ok) = match &answer.edns {
        None => (UDP_MAX, 0, false),
        Some(edns) if edns.is_bare() => (usize::from(edns.size.min(terms.edns_max)), OPT_LEN, edns.dnssec_ok),
        Some(_) => return None,
    };
    if end != question.end() || question.at != at {
        return None;
    }
    let from = at + end;
    let limit = (at + takes.max(UDP_MAX)).min(ETHERNET + usize::from(port.mtu)).min(octets.len());
    let (front, room) = octets.get_mut(..limit)?.split_at_mut_checked(from)?;
    let room = room.get_mut(..room.len().checked_sub(opt_len)?)?;
    let header = front.get_mut(at..)?.first_chunk_mut::<HEADER_LEN>()?;
    let mut records = Records { room, used: 0, sum: Sum::default(), answers: 0, authorities: 0, additional: 0 };
    match &answer.body {
        Body::Records(set) => records.answer(set, u16::from_be_bytes([header[0], header[1]]), end, zones)?,
        Body::Negative(found) => {
            let soa = found.soa();
            let owner = (0xc000 | end.saturating_sub(4 + soa.apex_len) as u16).to_be_bytes();
            records.put(soa.record, 2, soa.sum)?;
            *records.room.first_chunk_mut::<2>()? = owner;
            records.sum.eight(u64::from(u16::from_ne_bytes(owner)));
            records.authorities = 1;
        }
        Body::Nothing | Body::Chain(_) | Body::Compat(_) => return None,
    }
    let Records { used, mut sum, answers, authorities, additional, .. } = records;
    let opt = octets.get_mut(from + used..from + used + opt_len)?;
    if let Some(opt) = opt.first_chunk_mut::<OPT_LEN>() {
        let (mut first, rest) = terms.opt;
        first[7] = if dnssec_ok { 0x80 } else { 0 };
        let [a, b, c, d, e, f, g, h] = first;
        let [i, j, k] = rest;
        *opt = [a, b, c, d, e, f, g, h, i, j, k];
        let mut of_it = Sum::default();
        of_it.eight(u64::from_ne_bytes(first));
        sum.join(of_it, used);
    }
    let header = octets.get_mut(at..)?.first_chunk_mut::<HEADER_LEN>()?;
    let [id0, id1, f0, ..] = *header;
    let ra = if terms.recursion_available { flag::RA } else { 0 };
    let flags = [flag::QR | flag::AA | f0 & flag::RD, ra | answer.rcode.header_bits()];
    let counts = u64::from(answers) << 16 | u64::from(authorities);
    let middle = (u64::from(u16::from_be_bytes(flags)) << 48 | 1 << 32 | counts).to_be_bytes();
    let [r0, r1] = (additional + (opt_len / OPT_LEN) as u16).to_be_bytes();
    let [m0, m1, m2, m3, m4, m5, m6, m7] = middle;
    *header = [id0, id1, m0, m1, m2, m3, m4, m5, m6, m7, r0, r1];
    let mut rest = Sum::default();
    rest.eight(u64::from_ne_bytes(middle));
    rest.eight(u64::from(u32::from_ne_bytes([id0, id1, r0, r1])));
    rest.join(sum, end);
    let ethernet = octets.first_chunk_mut::<ETHERNET>()?;
    let [_, _, _, _, _, _, a, b, c, d, e, f, t0, t1] = *ethernet;
    let [u, v, w, x, y, z] = port.mac.0;
    *ethernet = [a, b, c, d, e, f, u, v, w, x, y, z, t0, t1];
    Some(ETHERNET + turn::turn(octets, V6, ETHERNET, question, end + used + opt_len, end, rest))
}

impl Records<'_> {
    /// Records behind so many octets that are left free, with the sum that they have at an even offset.
    #[inline(always)]
    fn put(&mut self, records: &[u8], free: usize, sum: u16) -> Option<()> {
        let from = self.used + free;
        put(self.room.get_mut(from..from + records.len())?, records);
        self.sum.join(Sum::of_word(sum), self.used);
        self.used = from + records.len();
        Some(())
    }

    /// The set that was asked for, turned by the message's id where it is of one length.
    #[inline(always)]
    fn answer(&mut self, set: &RrSet<'_>, id: u16, question_end: usize, zones: &Zones) -> Option<()> {
        self.answers = set.count;
        if set.count > 1 {
            let records = set.records();
            let (last, first) = records.split_at_checked(usize::from(id % set.count) * set.each_len()?)?;
            let (head, tail) = self.room.get_mut(..records.len())?.split_at_mut_checked(first.len())?;
            put(head, first);
            put(tail, last);
            self.sum = Sum::of_word(set.sum);
            self.used = records.len();
            return Some(());
        }
        self.put(set.records(), 0, set.sum)?;
        if set.rtype == rtype::SRV {
            let place = set.place(0);
            if let Some(entry) = zones.target(set, &place) {
                self.addresses(&entry, question_end + place.target_at);
            }
        }
        Some(())
    }

    /// Addresses of a name that is written at `owner`, as far as there is room.
    #[inline(always)]
    fn addresses(&mut self, entry: &Entry<'_>, owner: usize) {
        let pointer = (0xc000 | owner as u16).to_be_bytes();
        for set in entry.sets() {
            // A and AAAA come first.
            let Some(each) = set.each_len() else { break };
            let from = self.used;
            if owner > POINTER_MAX || self.put(set.records(), 0, set.sum).is_none() {
                continue;
            }
            // By steps, for there is nothing to divide.
            let mut records = self.room.get_mut(from..self.used).unwrap_or_default();
            while let Some(owner) = records.first_chunk_mut::<2>() {
                *owner = pointer;
                records = records.get_mut(each..).unwrap_or_default();
            }
            self.sum.replace(super::write::QUESTION, pointer, set.count, from);
            self.additional += set.count;
        }
    }
}
