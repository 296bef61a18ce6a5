//! facts/dns.md sections 1 and 2, as far as this release goes: a sentence, a query, what comes of it. Answers are read
//! by another implementation (hickory-proto).

mod cases;
mod packets;
mod short;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

use sluice_config::model::{Local, LocalDns};

use super::answer::{read, unusual};
use super::{Asker, Limit, Reply};
use crate::tables::dns::Terms;
use crate::tables::zone::Zones;
use crate::tables::zone::tests::compiled;
use crate::wire::dns;
use crate::wire::name::from_text;

pub(super) fn terms() -> Terms {
    let dns = LocalDns { recursion_available: false, cookie_secrets: vec![[3; 16]], ..LocalDns::default() };
    Terms::new(&Local { dns, ..Local::default() }, &[], &[])
}

pub(super) const ASKER: Asker = Asker { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), unix_seconds: 1_700_000_000 };

/// A query with RD=0 and without EDNS; `name` is given without the final dot, empty for the root.
pub(super) fn ask(name: &str, qtype: u16) -> Vec<u8> {
    let wire = if name.is_empty() { vec![0] } else { from_text(name).unwrap() };
    ask_wire(&wire, qtype)
}

pub(super) fn ask_wire(name: &[u8], qtype: u16) -> Vec<u8> {
    let header = [0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header, name, &qtype.to_be_bytes(), &[0, 1]].concat()
}

/// With octets overwritten.
pub(super) fn set(mut query: Vec<u8>, at: usize, octets: &[u8]) -> Vec<u8> {
    query[at..at + octets.len()].copy_from_slice(octets);
    query
}

/// With octets appended.
pub(super) fn then(mut query: Vec<u8>, octets: &[u8]) -> Vec<u8> {
    query.extend(octets);
    query
}

/// With an additional record appended and counted.
pub(super) fn additional(mut query: Vec<u8>, record: &[u8]) -> Vec<u8> {
    query[11] += 1;
    then(query, record)
}

/// An OPT record with `ttl` (extended rcode, version, flags) and options.
pub(super) fn opt_record(size: u16, ttl: [u8; 4], options: &[u8]) -> Vec<u8> {
    let len = (options.len() as u16).to_be_bytes();
    [&[0, 0, 41], &size.to_be_bytes()[..], &ttl, &len, options].concat()
}

pub(super) fn edns(query: Vec<u8>, size: u16) -> Vec<u8> {
    additional(query, &opt_record(size, [0; 4], &[]))
}

/// The answer, given 1800 octets of room filled with what was there before.
fn answer(query: &[u8], zones: &Zones, terms: &Terms) -> Option<Vec<u8>> {
    let mut buffer = query.to_vec();
    buffer.resize(1800, 0xa5);
    match super::answer(&mut buffer, query.len(), zones, terms, &ASKER, Limit::Udp) {
        Reply::Answer { len, .. } => Some(buffer[..len].to_vec()),
        Reply::Drop(_) => {
            assert_eq!(&buffer[..query.len()], query, "a dropped query was changed");
            None
        }
    }
}

/// Reads the whole of it, and checks what every answer must be.
fn decode(answer: &[u8], query: &[u8]) -> Message {
    let mut decoder = BinDecoder::new(answer);
    let message = Message::read(&mut decoder).unwrap_or_else(|e| panic!("{e}: {answer:02x?} to {query:02x?}"));
    assert!(decoder.is_empty(), "octets behind the last record: {answer:02x?}");
    assert_eq!(answer[..2], query[..2], "another id");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(answer[2] & 0x79, query[2] & 0x79, "opcode or RD differ");
    assert_eq!(answer[3] & 0x70, 0, "Z, AD or CD set");
    if let [_] = &message.queries[..] {
        let end = 12 + query[12..].iter().position(|o| *o == 0).unwrap() + 5;
        // A zero octet inside a label ends the search early, which still compares most of the name.
        assert_eq!(answer[12..end], query[12..end], "the question is not echoed octet for octet");
    }
    message
}

/// `Rcode flags / answers / authority / opt`.
fn say(query: &[u8], zones: &Zones, terms: &Terms) -> String {
    let Some(answer) = answer(query, zones, terms) else { return "drop".to_owned() };
    let message = decode(&answer, query);
    let head = &message.metadata;
    let flags = [(head.authoritative, " aa"), (head.truncation, " tc"), (head.recursion_available, " ra")];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let question = if message.queries.is_empty() { " headeronly" } else { "" };
    let text = |records: &[Record]| match records {
        [] => "-".to_owned(),
        [_, _, _, _, ..] => format!("{} records", records.len()),
        few => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    assert!(message.additionals.is_empty(), "additional records other than OPT");
    let opt = message.edns.as_ref().map_or_else(
        || "-".to_owned(),
        |opt| {
            assert!(opt.options().as_ref().is_empty(), "options echoed");
            assert_eq!(opt.flags().z, 0, "EDNS Z echoed");
            format!("opt {} v{}{}", opt.max_payload(), opt.version(), if opt.flags().dnssec_ok { " do" } else { "" })
        },
    );
    let (answers, authority) = (text(&message.answers), text(&message.authorities));
    format!("{:?}{flags}{question} / {answers} / {authority} / {opt}", head.response_code)
}

/// The largest answer that `query` may get.
fn limit(query: &[u8]) -> usize {
    let edns = dns::parse(query).map_or_else(|known| known.edns, |query| query.edns);
    edns.map_or(512, |edns| usize::from(edns.size).clamp(512, 1232))
}

fn samples() -> Vec<Vec<u8>> {
    let names = [
        "app.marathon.mesos",
        "many.marathon.mesos",
        "three.marathon.mesos",
        "nx.a.mesos",
        "mesos",
        "x.inner.mesos",
        "org",
    ];
    let types = [1, 2, 6, 28, 255, 666];
    let queries = names.iter().flat_map(|name| types.map(|qtype| ask(name, qtype)));
    queries.flat_map(|query| [query.clone(), edns(query.clone(), 600), edns(query, 4096)]).collect()
}

#[test]
fn every_prefix_of_a_query_is_answered_or_dropped() {
    let (zones, terms) = (compiled(), terms());
    for query in samples() {
        for end in 0..query.len() {
            let prefix = &query[..end];
            match answer(prefix, &zones, &terms) {
                None => assert!(end < 12),
                Some(answer) => {
                    assert!(decode(&answer, prefix).answers.is_empty(), "a cut query got an answer");
                }
            }
        }
    }
}

#[test]
fn the_usual_path_answers_as_the_careful_one_does() {
    let (zones, terms) = (compiled(), terms());
    let mut taken = 0;
    for query in samples() {
        let careful = unusual(&query, &zones).unwrap();
        let usual = read(&query, &zones).unwrap();
        taken += 1;
        let [usual, careful] = [usual, careful].map(|answer| {
            let mut buffer = then(query.clone(), &[0; 1800]);
            match answer.reply(&mut buffer, query.len(), &zones, &terms, &ASKER, Limit::Udp) {
                Reply::Answer { len, .. } => buffer[..len].to_vec(),
                Reply::Drop(reason) => panic!("{reason:?}"),
            }
        });
        assert_eq!(usual, careful);
    }
    assert_eq!(taken, samples().len());
}

#[test]
fn a_buffer_without_room_is_not_overrun() {
    let (zones, terms) = (compiled(), terms());
    for query in samples() {
        for room in query.len()..query.len() + 80 {
            let mut buffer = query.clone();
            buffer.resize(room, 0);
            let Reply::Answer { len, .. } = super::answer(&mut buffer, query.len(), &zones, &terms, &ASKER, Limit::Udp)
            else {
                panic!("dropped");
            };
            decode(&buffer[..len], &query);
        }
    }
}

#[test]
fn every_record_of_a_set_comes_first_for_some_id() {
    let (zones, terms) = (compiled(), terms());
    let first = |id: u16| {
        let query = set(ask("three.marathon.mesos", 1), 0, &id.to_be_bytes());
        let message = decode(&answer(&query, &zones, &terms).unwrap(), &query);
        assert_eq!(message.answers.len(), 3);
        message.answers[0].data.to_string()
    };
    assert_eq!([0, 1, 2, 3].map(first), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]);
}

fn check(query: &[u8]) {
    let Some(answer) = answer(query, &compiled(), &terms()) else {
        assert!(query.len() < 12 || query[2] & 0x80 != 0);
        return;
    };
    assert!(answer.len() <= limit(query), "{} octets", answer.len());
    decode(&answer, query);
}

proptest! {
    #[test]
    fn random_octets_never_get_more_than_they_may(query in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&query);
    }

    #[test]
    fn random_octets_behind_a_good_header_likewise(tail in prop::collection::vec(any::<u8>(), 0..300), counts in 0u8..3) {
        check(&[&[9, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, counts][..], &tail].concat());
    }

    #[test]
    fn changed_queries_likewise(sample: prop::sample::Index, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut query = sample.get(&samples()).clone();
        for (at, octet) in changes {
            let at = at.index(query.len());
            query[at] = octet;
        }
        check(&query);
    }
}
