//! What a resolver said, and how it is told to clients: for how long (RFC 2308, RFC 8767), and as much of it as a client
//! takes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sluice_dataplane::wire::dns::{HEADER_LEN, Rcode, flag};

use super::ours::{self, Ours};
use super::question::{CD, Question, read_name};

/// Longest time that an answer is told without asking again, seconds.
const TTL_MAX: u32 = 3600;
/// The same of an answer that there is nothing.
const NEGATIVE_MAX: u32 = 60;
/// TTL of an answer that has outlived its own, seconds (RFC 8767 section 5.11 recommends 30).
const STALE_TTL: u32 = 30;
/// How long an answer is told beyond its TTL while nobody can be asked (RFC 8767 section 5: one to three days).
const STALE_FOR: Duration = Duration::from_secs(86_400);
/// Least octets of a record on the wire: a pointer, and no data.
const RECORD_MIN: usize = 12;
/// Most names on the way from a question to its answer.
const CHAIN: usize = 16;
/// DNAME (RFC 6672), which stands above the name whose CNAME it explains.
const DNAME: u16 = 39;
/// What a record takes beside its octets on the wire, about.
const RECORD_OCTETS: usize = 2 * size_of::<Record>();

/// An answer of a resolver.
#[derive(Clone, Debug)]
pub(super) struct Known {
    rcode: ResponseCode,
    /// Answers, authorities, additional records; the TTL as it was, of one RRset the same, and capped.
    sections: [Vec<Record>; 3],
    born: Instant,
    /// Seconds from `born`.
    lifetime: u32,
    octets: usize,
}

impl Known {
    /// Of a message that answers `question` and took this many octets.
    pub(super) fn new(message: Message, question: &Question, octets: usize, now: Instant) -> Self {
        let Message { metadata, answers, authorities, additionals, .. } = message;
        let answers = about(question, answers);
        let is_negative = !answers.iter().any(|record| answers_type(record.record_type(), question.record_type()));
        let cap = if is_negative { negative_ttl(&authorities) } else { TTL_MAX };
        let sections = [answers, authorities, additionals].map(|section| capped(section, cap));
        let lifetime = sections.iter().flatten().map(|record| record.ttl).min().unwrap_or(0);
        let octets = octets + RECORD_OCTETS * sections.iter().map(Vec::len).sum::<usize>();
        Self { rcode: metadata.response_code, sections, born: now, lifetime, octets }
    }

    /// Octets that it takes in memory, about.
    pub(super) fn octets(&self) -> usize {
        size_of::<Self>() + self.octets
    }

    /// Whether it may be told to the next who asks, too: a TTL of 0 is for one transaction.
    pub(super) fn is_lasting(&self) -> bool {
        self.lifetime > 0
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < Duration::from_secs(self.lifetime.into())
    }

    /// Whether it is better than nothing.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.age(now) < Duration::from_secs(self.lifetime.into()) + STALE_FOR
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    /// The TTL of a record now.
    fn ttl(&self, record: &Record, now: Instant) -> u32 {
        if self.is_lasting() && !self.is_fresh(now) {
            return STALE_TTL.min(record.ttl);
        }
        record.ttl.saturating_sub(self.age(now).as_secs() as u32)
    }

    /// To a client that wrote the name like this: without what it says of our own names. Where it leads to one, by a CNAME,
    /// we say the rest.
    fn told(&self, name: &Name, rtype: RecordType, ours: &ours::Now, now: Instant) -> Told {
        let one = |record: &Record| {
            let mut record = record.clone();
            record.ttl = self.ttl(&record, now);
            if record.name == *name {
                // In the client's spelling: ours to the resolver was by chance.
                record.name.clone_from(name);
            }
            record
        };
        let others = |section: &Vec<Record>| section.iter().filter(|r| !ours.have(&r.name)).map(one).collect();
        let mut told = Told { rcode: self.rcode, sections: self.sections.each_ref().map(others) };
        let [answers, ..] = &told.sections;
        let target = answers.iter().filter_map(alias).find(|target| ours.have(target));
        let asked_for = answers_type(RecordType::CNAME, rtype);
        if let Some(rest) = target.filter(|_| !asked_for).and_then(|target| ours.answer(target, rtype)) {
            told.rcode = rest.metadata.response_code;
            let [answers, authorities, additionals] = &mut told.sections;
            answers.extend(rest.answers);
            // What others say beside it is about the name that they took for theirs.
            (*authorities, *additionals) = (rest.authorities, rest.additionals);
        }
        told
    }
}

/// What is told of an answer.
struct Told {
    rcode: ResponseCode,
    sections: [Vec<Record>; 3],
}

impl Told {
    /// As a message of at most `room` octets, with so many of the sections.
    fn message(&self, name: &Name, rtype: RecordType, sections: usize, room: usize) -> Option<Vec<u8>> {
        let records: usize = self.sections.iter().take(sections).map(Vec::len).sum();
        if records * RECORD_MIN > room {
            return None;
        }
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name.clone(), rtype));
        let [answers, authorities, additionals] = &self.sections;
        message.answers.clone_from(answers);
        message.authorities.clone_from(authorities);
        if sections > 2 {
            message.additionals.clone_from(additionals);
        }
        // The library sets TC where it has no room itself.
        message.to_vec().ok().filter(|written| written.len() <= room && written[2] & flag::TC == 0)
    }
}

/// What is said to a client in the end.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Known(std::sync::Arc<Known>),
    /// Nobody could be asked, or nobody knew.
    Failed,
}

/// A client's question, refused: what an answer needs of it.
#[derive(Clone, Debug)]
pub(in crate::dns) struct Shell {
    /// The refusal: header, the question as it was asked, OPT.
    pub(in crate::dns) refusal: Vec<u8>,
    pub(in crate::dns) question_end: usize,
    /// Largest answer.
    pub(in crate::dns) most: usize,
    /// Whether RA is set.
    pub(in crate::dns) recursion_available: bool,
    /// Whether the client had CD set, which is copied (RFC 4035 section 3.2.2).
    pub(in crate::dns) checking_disabled: bool,
    /// What nobody else tells anything about.
    pub(in crate::dns) ours: Ours,
}

impl Shell {
    /// The answer to the client: never longer than it takes. An answer that does not fit is left out whole, with TC
    /// whatever `dns.truncate_bit` says: without it that would mean that there is none.
    pub(super) fn write(&self, outcome: &Outcome, question: &Question, now: Instant) -> Vec<u8> {
        let name = self.refusal.get(HEADER_LEN..).and_then(read_name);
        let (Outcome::Known(known), Some(name)) = (outcome, name) else {
            return self.put(Rcode::ServFail.header_bits(), 0, None);
        };
        let room = self.most.saturating_sub(self.refusal.len() - self.question_end);
        // RFC 2181 section 9: what was only additional goes first, and without TC.
        let told = known.told(&name, question.record_type(), &self.ours.now(), now);
        let with = |sections| told.message(&name, question.record_type(), sections, room);
        match with(3).or_else(|| with(2)) {
            Some(message) => self.put(told.rcode.low(), 0, Some(&message)),
            None => self.put(told.rcode.low(), flag::TC, None),
        }
    }

    /// The records of a message with the same question, between question and OPT of the refusal.
    fn put(&self, rcode: u8, tc: u8, message: Option<&[u8]>) -> Vec<u8> {
        let (head, opt) = self.refusal.split_at(self.question_end);
        let records = message.and_then(|message| message.get(self.question_end..)).unwrap_or_default();
        let mut answer = [head, records, opt].concat();
        answer[2] |= tc;
        answer[3] =
            rcode | if self.recursion_available { flag::RA } else { 0 } | if self.checking_disabled { CD } else { 0 };
        if let Some(counts) = message.and_then(|message| message.get(6..HEADER_LEN)) {
            answer[6..HEADER_LEN].copy_from_slice(counts);
            answer[11] = answer[11].wrapping_add(u8::from(!opt.is_empty()));
        }
        answer
    }
}

/// Those of the answers whose names the question leads to (RFC 5452 section 6): nobody asked about others.
fn about(question: &Question, mut answers: Vec<Record>) -> Vec<Record> {
    let mut names: HashSet<Name> = read_name(question.name()).into_iter().collect();
    for _ in 0..CHAIN {
        let from_here = answers.iter().filter(|record| names.contains(&record.name)).filter_map(alias);
        let more: Vec<Name> = from_here.filter(|to| !names.contains(to)).cloned().collect();
        if more.is_empty() {
            break;
        }
        names.extend(more);
    }
    let is_dname = |record: &Record| u16::from(record.record_type()) == DNAME;
    let above = |record: &Record| names.iter().any(|name| record.name.zone_of(name));
    answers.retain(|record| names.contains(&record.name) || (is_dname(record) && above(record)));
    answers
}

/// Whether a record of this type is what was asked for.
fn answers_type(given: RecordType, asked: RecordType) -> bool {
    given == asked || asked == RecordType::ANY
}

/// RFC 2308 section 5: the lesser of the SOA's TTL and its MINIMUM; nothing is kept without one.
fn negative_ttl(authorities: &[Record]) -> u32 {
    let soa = authorities.iter().find_map(|record| Some(record.ttl.min(soa(record)?.minimum)));
    soa.unwrap_or(0).min(NEGATIVE_MAX)
}

fn alias(record: &Record) -> Option<&Name> {
    if let RData::CNAME(to) = &record.data { Some(&to.0) } else { None }
}

fn soa(record: &Record) -> Option<&SOA> {
    if let RData::SOA(soa) = &record.data { Some(soa) } else { None }
}

/// TTLs no higher than the cap, and one for each RRset (RFC 2181 section 5.2).
fn capped(mut section: Vec<Record>, cap: u32) -> Vec<Record> {
    let mut least: HashMap<(Name, RecordType), u32> = HashMap::new();
    for record in &section {
        // RFC 2181 section 8: a TTL with the highest bit set is 0.
        let ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl.min(cap) };
        let least = least.entry((record.name.clone(), record.record_type())).or_insert(ttl);
        *least = ttl.min(*least);
    }
    for record in &mut section {
        record.ttl = least.get(&(record.name.clone(), record.record_type())).copied().unwrap_or(0);
    }
    section
}

#[cfg(test)]
pub(super) mod tests {
    use hickory_proto::rr::rdata::{A, CNAME};
    use proptest::prelude::*;

    use super::*;
    use crate::dns::forward::exchange::useful;
    use crate::dns::forward::tests::asked;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, last)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        Record::from_rdata(
            name("org."),
            ttl,
            RData::SOA(SOA::new(name("ns.org."), name("x.org."), 1, 2, 3, 4, minimum)),
        )
    }

    fn of(answers: Vec<Record>, authorities: Vec<Record>, now: Instant) -> Known {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        (message.answers, message.authorities) = (answers, authorities);
        Known::new(message, &Question::read(&asked("web.org", 1)).unwrap(), 100, now)
    }

    /// An address with this TTL.
    pub(in crate::dns::forward) fn known(ttl: u32, now: Instant) -> Known {
        of(vec![a("web.org.", ttl, 1)], Vec::new(), now)
    }

    fn shell(query: &[u8], most: usize) -> Shell {
        let mut refusal = query.to_vec();
        refusal[2..4].copy_from_slice(&[0x81, 5]);
        Shell {
            question_end: refusal.len(),
            refusal,
            most,
            recursion_available: true,
            checking_disabled: false,
            ours: Ours(std::sync::Arc::new(|| None)),
        }
    }

    fn ttls(known: &Known, now: Instant) -> Vec<u32> {
        let question = Question::read(&asked("web.org", 1)).unwrap();
        let outcome = Outcome::Known(std::sync::Arc::new(known.clone()));
        let written = shell(&asked("web.org", 1), 512).write(&outcome, &question, now);
        let message = Message::from_vec(&written).unwrap();
        message.all_sections().map(|record| record.ttl).collect()
    }

    #[test]
    fn ttls_are_counted_down_capped_and_one_for_a_set() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(ttls(&known(300, begin), at(100)), [200]);
        assert_eq!(ttls(&known(86_400, begin), at(0)), [3600]);
        assert_eq!(ttls(&known(u32::MAX, begin), at(0)), [0], "RFC 2181 section 8");
        let cname = Record::from_rdata(name("web.org."), 900, RData::CNAME(CNAME(name("w.org."))));
        let chain = of(vec![cname, a("w.org.", 70, 1), a("W.org.", 60, 2)], Vec::new(), begin);
        assert_eq!(ttls(&chain, at(10)), [890, 50, 50]);
        assert!(chain.is_fresh(at(59)) && !chain.is_fresh(at(60)));
        assert_eq!(ttls(&chain, at(3000)), [30, 30, 30], "beyond its time");
        assert!(chain.is_usable(at(86_459)) && !chain.is_usable(at(86_460)));
    }

    #[test]
    fn answers_about_names_that_nobody_asked_for_are_left_out() {
        let begin = Instant::now();
        let cname = |from: &str, to: &str| Record::from_rdata(name(from), 60, RData::CNAME(CNAME(name(to))));
        let dname = |from: &str| {
            let data = hickory_proto::rr::rdata::NULL::with(vec![1, b'x', 0]);
            Record::from_rdata(name(from), 60, RData::Unknown { code: RecordType::Unknown(DNAME), rdata: data })
        };
        let all = [a("z.net.", 60, 1), cname("y.net.", "Z.net."), cname("web.org.", "y.net."), dname("org.")];
        let with = |record: Record| {
            let records = all.iter().cloned().chain([record]).collect();
            of(records, Vec::new(), begin).sections[0].len()
        };
        assert_eq!([with(a("bank.com.", 60, 6)), with(dname("com.")), with(a("Z.NET.", 60, 2))], [4, 4, 5]);
        let circle = of(vec![cname("web.org.", "y.net."), cname("y.net.", "web.org.")], Vec::new(), begin);
        assert_eq!(circle.sections[0].len(), 2);
    }

    #[test]
    fn there_is_nothing_lasts_as_long_as_the_soa_says_and_a_minute_at_most() {
        let begin = Instant::now();
        let lasts = |authorities| of(Vec::new(), authorities, begin).lifetime;
        assert_eq!([lasts(vec![soa(900, 30)]), lasts(vec![soa(20, 30)]), lasts(vec![soa(900, 900)])], [30, 20, 60]);
        assert_eq!(lasts(Vec::new()), 0, "RFC 2308 section 5: nothing is kept without an SOA");
        let cname = Record::from_rdata(name("web.org."), 900, RData::CNAME(CNAME(name("w.org."))));
        assert_eq!(of(vec![cname], vec![soa(900, 900)], begin).lifetime, 60, "a chain to nothing");
    }

    proptest! {
        #[test]
        fn whatever_a_resolver_sends_an_answer_parses_and_fits(
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            counts in proptest::array::uniform6(0..3_u8),
            code in 0..16_u8,
            most in 512..1232_usize,
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let query = asked("web.org", 1);
            let [_, a, _, b, _, c] = counts;
            // Records with an owner that is the question's, so that some are read; then changed somewhere.
            let mut sent = query.clone();
            sent[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, a, 0, b, 0, c]);
            for _ in 0..a + b + c {
                sent.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
            }
            sent.extend(tail);
            for (at, octet) in cuts {
                let at = at.index(sent.len());
                sent[at] = octet;
            }
            let question = Question::read(&query).unwrap();
            let now = Instant::now();
            if let Ok(message) = Message::from_vec(&sent)
                && let Ok((message, octets)) = useful((message, sent.len()), &question)
            {
                let known = Known::new(message, &question, octets, now);
                let answer = shell(&query, most).write(&Outcome::Known(std::sync::Arc::new(known)), &question, now);
                prop_assert!(answer.len() <= most && answer[12..query.len()] == query[12..]);
                prop_assert!(Message::from_vec(&answer).is_ok(), "{answer:?}");
                prop_assert!(answer[2] & 4 == 0 && answer[3] & 0x70 == 0);
            }
        }

        #[test]
        fn nor_do_octets_without_sense_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let question = Question::read(&asked("web.org", 1)).unwrap();
            if let Ok(message) = Message::from_vec(&octets) {
                let _whatever = useful((message, octets.len()), &question);
            }
        }
    }
}
