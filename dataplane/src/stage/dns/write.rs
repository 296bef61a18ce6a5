//! Records behind a question, as many as there is room for.

use arrayvec::ArrayVec;

use crate::tables::dns::Terms;
use crate::tables::zone::{Entry, RrSet, Soa, Zones};
use crate::wire::dns::{Cookie, EDNS_VERSION, Edns, HEADER_LEN, OPT_LEN, Rcode, option, rtype};
use crate::wire::name;
use crate::wire::sum::Sum;

use super::cookie::{self, Asker, COOKIE_LEN};

/// Most names on the way from a question to its answer (as resolvers have it: a longer chain is a mistake or a loop).
const CHAIN: usize = 8;
/// Most targets whose addresses are told: more do not fit over UDP, and over TCP a client can ask.
const TARGETS: usize = 32;
/// A pointer reaches that far (RFC 1035 section 4.1.4).
pub(super) const POINTER_MAX: usize = 0x3fff;

/// The owner of every record in the table.
pub(super) const QUESTION: [u8; 2] = [0xc0, HEADER_LEN as u8];

/// The message from the question's end to where records must end.
pub(super) struct Writer<'a> {
    buffer: &'a mut [u8],
    from: usize,
    end: usize,
    written: Written,
}

/// What went behind the question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// Where it ends.
    pub(super) end: usize,
    pub(super) answers: u16,
    pub(super) authorities: u8,
    pub(super) additional: u16,
    /// Records did not fit.
    pub(super) cut: bool,
    /// Of what was written: summed from where it was copied from, for what has just been written is slow to read.
    pub(super) sum: Sum,
}

impl<'a> Writer<'a> {
    #[inline]
    pub(super) fn new(buffer: &'a mut [u8], from: usize, end: usize) -> Self {
        let written = Written { end: from, answers: 0, authorities: 0, additional: 0, cut: false, sum: Sum::default() };
        Self { buffer, from, end, written }
    }

    #[inline]
    pub(super) fn written(self) -> Written {
        self.written
    }

    pub(super) fn cut(&mut self) {
        self.written.cut = true;
    }

    /// The set that was asked for, turned by the message's id: clients choose ids at random, so every record is first
    /// equally often. What does not fit is left out: all of it where TC can say so, else what is too much. Where it begins.
    #[inline]
    pub(super) fn answer(&mut self, set: &RrSet<'_>, whole: bool) -> usize {
        let begin = self.written.end;
        let fits = set.records().len() <= self.room();
        if fits {
            let first = self.turn(set);
            self.copy_set(set, first);
            self.written.answers += set.count;
            return begin;
        }
        self.written.cut = true;
        if !whole {
            self.some(set);
        }
        begin
    }

    #[inline]
    fn room(&self) -> usize {
        self.end.min(self.buffer.len()).saturating_sub(self.written.end)
    }

    #[inline]
    fn turn(&self, set: &RrSet<'_>) -> usize {
        if set.count < 2 {
            return 0;
        }
        let id = self.buffer.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
        usize::from(id % set.count)
    }

    /// All of its records, from the one at `first` on and then from its beginning; there is room.
    #[inline(always)]
    fn copy_set(&mut self, set: &RrSet<'_>, first: usize) {
        if first > 0 {
            return self.copy(set.records(), set.place(first).at);
        }
        let (at, records) = (self.written.end, set.records());
        if let Some(room) = self.buffer.get_mut(at..at + records.len()) {
            put(room, records);
            self.written.sum.join(Sum::of_word(set.sum), at - self.from);
            self.written.end = at + records.len();
        }
    }

    /// All of it, from `first` on and then from its beginning; there is room.
    #[inline(never)]
    fn copy(&mut self, records: &[u8], first: usize) {
        let (last, first) = records.split_at(first.min(records.len()));
        let at = self.written.end;
        if let Some(room) = self.buffer.get_mut(at..at + records.len()) {
            let (head, tail) = room.split_at_mut(first.len());
            put(head, first);
            put(tail, last);
            self.written.sum.add(first, at - self.from);
            if !last.is_empty() {
                self.written.sum.add(last, at - self.from + first.len());
            }
            self.written.end = at + records.len();
        }
    }

    /// Whole records, as many as there is room for.
    fn some(&mut self, set: &RrSet<'_>) {
        let first = self.turn(set);
        let all = set.each().skip(first).chain(set.each().take(first));
        for record in all {
            if record.len() > self.room() {
                break;
            }
            self.copy(record, 0);
            self.written.answers += 1;
        }
    }

    /// Addresses of the names that a set in the answer, which begins at `begin`, points to; of each name `most` of each
    /// family. What does not fit is left out without a word (RFC 2181 section 9).
    #[inline]
    pub(super) fn additional(&mut self, set: &RrSet<'_>, begin: usize, zones: &Zones, most: u16) {
        if self.written.cut {
            return;
        }
        if set.count == 1 {
            let place = set.place(0);
            if let Some(entry) = zones.target(set, &place) {
                self.addresses(&entry, begin + place.target_at, most);
            }
        } else {
            self.many_additional(set, begin, zones, most);
        }
    }

    #[inline(never)]
    fn many_additional(&mut self, set: &RrSet<'_>, begin: usize, zones: &Zones, most: u16) {
        let (turned, all) = (set.place(self.turn(set)).at, set.records().len());
        let mut told: ArrayVec<*const u8, TARGETS> = ArrayVec::new();
        for index in 0..usize::from(set.count).min(TARGETS) {
            let place = set.place(index);
            let Some(entry) = zones.target(set, &place) else { continue };
            let name = entry.name().as_ptr();
            if told.contains(&name) {
                continue;
            }
            told.push(name);
            let at = if place.at >= turned { place.at - turned } else { place.at + all - turned };
            self.addresses(&entry, begin + at + place.target_at, most);
        }
    }

    #[inline(always)]
    fn addresses(&mut self, entry: &Entry<'_>, owner: usize, most: u16) {
        for set in entry.sets() {
            // A and AAAA come first.
            let Some(each) = set.each_len() else { break };
            self.beside(&set, each, owner, set.count.min(most));
        }
    }

    #[inline(always)]
    fn beside(&mut self, set: &RrSet<'_>, each: usize, owner: usize, count: u16) {
        let len = each * usize::from(count);
        if len > self.room() || owner > POINTER_MAX {
            return;
        }
        let from = self.written.end;
        if count == set.count {
            self.copy_set(set, 0);
        } else {
            self.copy(&set.records()[..len], 0);
        }
        self.own(from, each, count, owner);
        self.written.additional += count;
    }

    /// Lets so many records of one length from `from` on be owned by the name at `owner`.
    #[inline(always)]
    fn own(&mut self, from: usize, each: usize, count: u16, owner: usize) {
        let pointer = (0xc000 | owner as u16).to_be_bytes();
        let Some(mut records) = self.buffer.get_mut(from..self.written.end) else { return };
        for _ in 0..count {
            let Some((place, _)) = records.split_first_chunk_mut::<2>() else { break };
            *place = pointer;
            records = records.get_mut(each..).unwrap_or_default();
        }
        // Either there is one, or their length is even.
        self.written.sum.replace(QUESTION, pointer, count, from - self.from);
    }

    /// Its owner is at `owner` (a pointer reaches 16383 octets: RFC 1035 section 4.1.4).
    #[inline]
    pub(super) fn soa(&mut self, soa: &Soa<'_>, owner: usize) {
        let len = 2 + soa.record.len();
        if len > self.room() || owner > POINTER_MAX {
            self.written.cut = true;
            return;
        }
        let at = self.written.end;
        if let Some((pointer, rest)) =
            self.buffer.get_mut(at..at + len).and_then(|room| room.split_first_chunk_mut::<2>())
        {
            let owner = 0xc000 | owner as u16;
            *pointer = owner.to_be_bytes();
            put(rest, soa.record);
            let mut sum = Sum::of_word(soa.sum);
            sum.add_word(owner);
            self.written.sum.join(sum, at - self.from);
            self.written.end = at + len;
            self.written.authorities += 1;
        }
    }

    /// A set in authority, owned by the question.
    pub(super) fn authority(&mut self, records: &[u8], count: u8) {
        if records.len() > self.room() {
            self.written.cut = true;
            return;
        }
        self.copy(records, 0);
        self.written.authorities += count;
    }

    /// A set of one name owned by another that is written out.
    pub(super) fn answer_as(&mut self, set: &RrSet<'_>, owner: &[u8]) -> usize {
        let begin = self.written.end;
        for record in set.each() {
            let Some(rest) = record.get(2..) else { continue };
            if owner.len() + rest.len() > self.room() {
                self.written.cut = true;
                break;
            }
            self.copy(owner, 0);
            self.copy(rest, 0);
            self.written.answers += 1;
        }
        begin
    }

    /// From a CNAME on to what it stands for, as far as that is ours; the response code is the last name's (RFC 6604).
    #[cold]
    #[inline(never)]
    pub(super) fn chain(&mut self, first: &RrSet<'_>, qtype: u16, zones: &Zones, whole: bool) -> Rcode {
        let (mut set, mut owner) = (*first, HEADER_LEN);
        for _ in 0..CHAIN {
            let from = self.written.end;
            self.answer(&set, true);
            if self.written.cut {
                return Rcode::NoError;
            }
            self.own(from, set.records().len(), 1, owner);
            let place = set.place(0);
            owner = from + place.target_at;
            let Some(target) = set.records().get(place.target_at..) else { return Rcode::NoError };
            let Some(found) = name::walk(target).and_then(|len| zones.resolve(&target[..len])) else {
                return Rcode::NoError;
            };
            if !found.exact {
                self.soa(&found.soa(), owner + target.len() - found.soa().apex_len.min(target.len()));
                return Rcode::NxDomain;
            }
            match (found.entry.answer(qtype), found.entry.answer(rtype::CNAME)) {
                (Some(last), _) => {
                    self.last(&last, owner, whole);
                    return Rcode::NoError;
                }
                (None, Some(next)) => set = next,
                (None, None) => {
                    self.soa(&found.soa(), owner + target.len() - found.soa().apex_len.min(target.len()));
                    return Rcode::NoError;
                }
            }
        }
        Rcode::ServFail
    }

    fn last(&mut self, set: &RrSet<'_>, owner: usize, whole: bool) {
        let from = self.written.end;
        self.answer(set, whole);
        let pointer = (0xc000 | owner as u16).to_be_bytes();
        let mut at = from;
        while let Some(record) = self.buffer.get_mut(at..self.written.end).filter(|r| r.len() > HEADER_LEN) {
            self.written.sum.replace(QUESTION, pointer, 1, at - self.from);
            record[..2].copy_from_slice(&pointer);
            // Owner as a pointer, type, class and TTL stand before the length.
            at += 12 + usize::from(u16::from_be_bytes([record[10], record[11]]));
        }
    }
}

/// Octets of our OPT record.
#[inline]
pub(super) fn options_len(edns: &Edns, terms: &Terms) -> usize {
    let nsid = if edns.nsid && !terms.nsid.is_empty() { 4 + terms.nsid.len() } else { 0 };
    let cookie = if edns.has_cookie() { 4 + COOKIE_LEN } else { 0 };
    OPT_LEN + nsid + cookie
}

/// OPT with our size, version 0, DO as the client had it (RFC 3225 section 3), NSID and cookie where they were asked for.
/// Its octets, and their sum as if they began at an even offset.
#[inline]
pub(super) fn opt(
    room: &mut [u8],
    edns: &Edns,
    cookie: Option<Cookie>,
    rcode: Rcode,
    terms: &Terms,
    asker: &Asker,
) -> (usize, Sum) {
    let len = options_len(edns, terms);
    let Some((fixed, options)) = room.get_mut(..len).and_then(|room| room.split_first_chunk_mut::<OPT_LEN>()) else {
        return (0, Sum::default());
    };
    let [t0, t1] = rtype::OPT.to_be_bytes();
    let [s0, s1] = terms.edns_max.to_be_bytes();
    let [l0, l1] = ((len - OPT_LEN) as u16).to_be_bytes();
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    let front = [0, t0, t1, s0, s1, rcode.opt_bits(), EDNS_VERSION, dnssec_ok];
    let [f0, f1, f2, f3, f4, f5, f6, f7] = front;
    *fixed = [f0, f1, f2, f3, f4, f5, f6, f7, 0, l0, l1];
    // Of the numbers and not of what was just written: that is slow to read.
    let mut sum = Sum::default();
    sum.eight(u64::from_ne_bytes(front));
    sum.eight(u64::from_ne_bytes([0, l0, l1, 0, 0, 0, 0, 0]));
    if len > OPT_LEN {
        put_options(options, edns, cookie, terms, asker);
        sum.add(options, OPT_LEN);
    }
    (len, sum)
}

#[inline(never)]
fn put_options(options: &mut [u8], edns: &Edns, cookie: Option<Cookie>, terms: &Terms, asker: &Asker) {
    let mut room = options;
    if edns.nsid && !terms.nsid.is_empty() {
        room = put_option(room, option::NSID, &terms.nsid);
    }
    if let Some(cookie) = cookie {
        put_option(room, option::COOKIE, &cookie::fresh(&cookie.client, &terms.secrets, asker));
    }
}

/// Copies as many octets as both have, sixteen at a time: a record is too short for a call.
#[inline(always)]
pub(super) fn put(room: &mut [u8], octets: &[u8]) {
    let len = octets.len().min(room.len());
    let (Some(room), Some(octets)) = (room.get_mut(..len), octets.get(..len)) else { return };
    if let (Some(room), Some(octets)) = (room.last_chunk_mut::<16>(), octets.last_chunk::<16>()) {
        *room = *octets;
    } else {
        room.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        return;
    }
    for (room, octets) in room.as_chunks_mut::<16>().0.iter_mut().zip(octets.as_chunks::<16>().0) {
        *room = *octets;
    }
}

fn put_option<'a>(room: &'a mut [u8], code: u16, data: &[u8]) -> &'a mut [u8] {
    let Some((option, rest)) = room.split_at_mut_checked(4 + data.len()) else { return &mut [] };
    option[..2].copy_from_slice(&code.to_be_bytes());
    option[2..4].copy_from_slice(&(data.len() as u16).to_be_bytes());
    option[4..].copy_from_slice(data);
    rest
}
