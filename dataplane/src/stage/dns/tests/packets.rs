//! Whole packets through the stage.

use std::sync::Arc;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use sluice_config::model::{Desired, Local, LocalDns, LocalPort, Mac, Role, Shared};

use super::super::guard::Guard;
use super::super::run;
use super::{ask, edns};
use crate::burst::{Action, Burst, Out, Packet, Tuple};
use crate::counters::Counters;
use crate::frame::{HEADROOM, Pool};
use crate::tables::Tables;
use crate::tables::hash::HashKey;
use crate::tables::ids::Ids;
use crate::tables::zone::tests::{KEY, test_zones};
use crate::time::Nanos;
use crate::verdict::{DropReason, Verdict};

const CLIENT: [u8; 4] = [198, 51, 100, 2];
const SERVER: [u8; 4] = [198, 51, 100, 1];
const ETHERNET: usize = 14;

fn tables(mtu: u16) -> Tables {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let port =
        LocalPort { name: "a".into(), mac, addresses: vec![], addresses6: vec![], mtu, role: Role::Both, arp: true };
    let dns =
        LocalDns { trusted: vec!["198.51.100.0/24".parse().unwrap()], responses_per_second: 4, ..LocalDns::default() };
    let local = Local { ports: vec![port], soa_serial: 2024, dns, ..Local::default() };
    let shared = Shared { hash_key: KEY, zones: Arc::new(test_zones()), ..Shared::default() };
    Tables::compile(&Arc::new(Desired { shared, local }), &mut Ids::new(8, 8, 60), Nanos(0), None).unwrap()
}

fn guard() -> Guard {
    Guard::new(HashKey::new(KEY))
}

/// Ethernet, IPv4 with TTL 1, UDP; sums are right.
fn frame(message: &[u8], source_port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([4; 6], [2, 0, 0, 0, 0, 1])
        .ipv4(CLIENT, SERVER, 1)
        .udp(source_port, 53)
        .write(&mut bytes, message)
        .unwrap();
    bytes
}

/// What parse would have said of it.
fn packet(pool: &mut Pool, bytes: &[u8]) -> Packet {
    let mut packet = Packet::received(pool.take_copy(bytes).unwrap(), 0);
    packet.l3 = ETHERNET as u8;
    packet.l4 = (ETHERNET + usize::from(bytes[14] & 15) * 4) as u8;
    packet.ip_len = u16::from_be_bytes([bytes[16], bytes[17]]);
    let sport = u16::from_be_bytes([bytes[usize::from(packet.l4)], bytes[usize::from(packet.l4) + 1]]);
    let (src, dst) = (u32::from_be_bytes(CLIENT), u32::from_be_bytes(SERVER));
    packet.tuple = Tuple { src, dst, sport, dport: 53, protocol: 17 };
    packet.action = Action::Dns;
    packet
}

/// The frame afterwards, and the packet.
fn through(bytes: &[u8], change: impl Fn(&mut Packet)) -> (Vec<u8>, Packet, Counters) {
    let mut pool = Pool::heap(4, 2048);
    let counters = Counters::new(1, 1, 1);
    let mut burst = Burst::new();
    let mut asked = packet(&mut pool, bytes);
    change(&mut asked);
    burst.push(asked);
    run(&mut burst, &mut pool, &tables(1500), &counters, &mut guard(), Nanos(0));
    let packet = burst.pop().unwrap();
    (pool.bytes(&packet.frame).to_vec(), packet, counters)
}

/// Checks every header of an answer and returns its message.
fn message(reply: &[u8], client_port: u16) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(reply).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
    let header = ip.header();
    assert_eq!((header.source(), header.destination()), (SERVER, CLIENT));
    assert_eq!((header.ttl(), header.dcp().value(), header.ecn().value()), (64, 0, 0));
    assert_eq!((header.ihl(), usize::from(header.total_len())), (5, reply.len() - ETHERNET));
    assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("not UDP") };
    assert_eq!((udp.source_port(), udp.destination_port()), (53, client_port));
    let sum = udp.to_header().calc_checksum_ipv4(&header.to_header(), udp.payload()).unwrap();
    assert_eq!(udp.checksum(), sum);
    udp.payload().to_vec()
}

fn resum(bytes: &mut [u8]) {
    let ip_len = usize::from(bytes[14] & 15) * 4;
    bytes[24..26].fill(0);
    let words = bytes[14..14 + ip_len].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_question_is_turned_round_with_fresh_headers() {
    let mut bytes = frame(&ask("app.marathon.mesos", 1), 4000);
    // DSCP and ECN CE.
    bytes[15] = 0xff;
    resum(&mut bytes);
    let (reply, packet, counters) = through(&bytes, |_| ());
    assert_eq!(message(&reply, 4000).len(), 36 + 16);
    assert_eq!((packet.action, packet.verdict), (Action::Done, Verdict::Transmit(0)));
    assert_eq!(reply[..ETHERNET], [4, 4, 4, 4, 4, 4, 2, 0, 0, 0, 0, 1, 8, 0]);
    assert_eq!(counters.dns[0].get(), 1);
}

#[test]
fn a_question_from_a_container_goes_back_to_its_agent() {
    let (_, packet, _) = through(&frame(&ask("app.marathon.mesos", 1), 4000), |p| p.agent = Some(3));
    assert_eq!(packet.out, Out::Agent(3));
}

#[test]
fn no_checksum_is_legal_and_the_answer_has_one() {
    let mut bytes = frame(&ask("nx.mesos", 1), 4000);
    bytes[40..42].fill(0);
    let (reply, _, counters) = through(&bytes, |_| ());
    message(&reply, 4000);
    assert_eq!(counters.dns[3].get(), 1);
}

#[test]
fn link_trailer_is_not_echoed() {
    let mut bytes = frame(&ask("app.marathon.mesos", 1), 4000);
    bytes.extend([0xee; 30]);
    let (reply, _, _) = through(&bytes, |_| ());
    assert_eq!(message(&reply, 4000).len(), 36 + 16);
}

#[test]
fn octets_between_udp_and_the_ip_packets_end_are_no_part_of_the_message() {
    let mut bytes = frame(&ask("app.marathon.mesos", 1), 4000);
    bytes.extend([0xee; 8]);
    bytes[17] += 8;
    resum(&mut bytes);
    let (reply, _, _) = through(&bytes, |_| ());
    assert_eq!(message(&reply, 4000).len(), 36 + 16);
}

#[test]
fn ip_options_are_answered_and_not_copied() {
    let mut bytes = frame(&ask("app.marathon.mesos", 1), 4000);
    bytes.splice(34..34, [1, 1, 1, 1]);
    bytes[14] = 0x46;
    bytes[17] += 4;
    resum(&mut bytes);
    let (reply, _, _) = through(&bytes, |_| ());
    assert_eq!(message(&reply, 4000).len(), 36 + 16);
}

#[test]
fn a_name_without_an_end_is_a_format_error_and_not_a_wrong_checksum() {
    // No zero octet in all of what a name is read in.
    let query = [&ask("", 1)[..12], &[63; 300]].concat();
    let (reply, _, counters) = through(&frame(&query, 4000), |_| ());
    assert_eq!(message(&reply, 4000)[2..], [0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(counters.dns[1].get(), 1);
    let mut wrong = frame(&query, 4000);
    wrong[41] ^= 1;
    assert_eq!(through(&wrong, |_| ()).1.verdict, Verdict::Drop(DropReason::DnsChecksum));
}

#[test]
fn what_deserves_no_answer_is_dropped_unchanged_with_its_reason() {
    let good = frame(&ask("app.marathon.mesos", 1), 4000);
    let changed = |at: usize, octet: u8| {
        let mut bytes = good.clone();
        bytes[at] = octet;
        bytes
    };
    let cases = [
        ("wrong UDP checksum", changed(41, good[41] ^ 1), DropReason::DnsChecksum),
        ("wrong octet in the name", changed(60, good[60] ^ 1), DropReason::DnsChecksum),
        ("UDP length 7", changed(39, 7), DropReason::L4Header),
        ("UDP length > IP payload", changed(38, 1), DropReason::L4Header),
        ("UDP length 8", frame(&[], 4000), DropReason::DnsMalformed),
        ("a response", frame(&super::set(ask("app.marathon.mesos", 1), 2, &[0x80]), 53), DropReason::DnsMalformed),
        ("from echo", frame(&ask("app.marathon.mesos", 1), 7), DropReason::DnsSourcePort),
        ("from daytime", frame(&ask("app.marathon.mesos", 1), 13), DropReason::DnsSourcePort),
        ("from chargen", frame(&ask("app.marathon.mesos", 1), 19), DropReason::DnsSourcePort),
    ];
    for (sentence, bytes, reason) in cases {
        let (after, packet, counters) = through(&bytes, |_| ());
        assert_eq!(packet.verdict, Verdict::Drop(reason), "{sentence}");
        assert_eq!(after, bytes, "{sentence}");
        assert!(counters.dns.iter().all(|c| c.get() == 0), "{sentence}");
    }
}

#[test]
fn an_answer_fits_the_mtu_and_the_chunk() {
    let bytes = frame(&edns(ask("many.marathon.mesos", 1), 1232), 4000);
    for (mtu, chunk) in [(1500, 2048), (600, 2048), (1500, HEADROOM + 700)] {
        let mut pool = Pool::heap(1, chunk);
        let mut burst = Burst::new();
        burst.push(packet(&mut pool, &bytes));
        run(&mut burst, &mut pool, &tables(mtu), &Counters::new(1, 1, 1), &mut guard(), Nanos(0));
        let reply = pool.bytes(&burst[0].frame);
        let most = (usize::from(mtu) + ETHERNET).min(chunk - HEADROOM);
        assert!(reply.len() <= most);
        let tc = message(reply, 4000)[2] & 2 != 0;
        assert_eq!(tc, most < 1200, "{mtu} {chunk}");
    }
}

#[test]
fn a_full_burst_is_answered_and_others_are_left_alone() {
    let names = ["app.marathon.mesos", "nx.mesos", "mesos", "example.org"];
    let mut pool = Pool::heap(64, 2048);
    let mut burst = Burst::new();
    for index in 0..64 {
        let mut asked = packet(&mut pool, &frame(&ask(names[index % 4], 1), 4000 + index as u16));
        if index % 8 == 7 {
            asked.action = Action::Forward;
        }
        burst.push(asked);
    }
    let counters = Counters::new(1, 1, 1);
    run(&mut burst, &mut pool, &tables(1500), &counters, &mut guard(), Nanos(0));
    for (index, packet) in burst.iter().enumerate() {
        match index % 8 {
            7 => assert_eq!((packet.action, packet.out), (Action::Forward, Out::Nowhere)),
            _ => drop(message(pool.bytes(&packet.frame), 4000 + index as u16)),
        }
    }
    assert_eq!([0, 3, 5].map(|rcode| counters.dns[rcode].get()), [32, 16, 8]);
}

/// The same from somebody who is not trusted; several, one after the other.
fn doubted(queries: &[Vec<u8>]) -> (Vec<Option<Vec<u8>>>, Counters) {
    let (counters, mut guard) = (Counters::new(1, 1, 1), guard());
    let one = |query: &Vec<u8>| {
        let mut bytes = frame(query, 4000);
        bytes[26..30].copy_from_slice(&[203, 0, 113, 9]);
        bytes[40..42].fill(0);
        resum(&mut bytes);
        let mut pool = Pool::heap(1, 2048);
        let mut burst = Burst::new();
        burst.push(packet(&mut pool, &bytes));
        burst[0].tuple.src = u32::from_be_bytes([203, 0, 113, 9]);
        run(&mut burst, &mut pool, &tables(1500), &counters, &mut guard, Nanos(0));
        (burst[0].verdict == Verdict::Pending).then(|| pool.bytes(&burst[0].frame)[42..].to_vec())
    };
    (queries.iter().map(one).collect(), counters)
}

#[test]
fn who_may_be_somebody_else_gets_little_and_not_often() {
    let big = edns(ask("many.marathon.mesos", 1), 4096);
    let (answers, counters) = doubted(&vec![big.clone(); 10]);
    let len = |a: &Option<Vec<u8>>| a.as_ref().map_or(0, Vec::len);
    assert!(answers.iter().all(|a| len(a) <= 512.max(3 * big.len())), "amplified");
    let tc = |a: &Vec<u8>| a[2] & 2 != 0;
    assert!(answers.iter().flatten().all(tc));
    let there: Vec<bool> = answers.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, true, true, true, false, true, false, true, false, true]);
    assert_eq!(counters.dns_types[0].get(), 7);
}

#[test]
fn who_shows_a_cookie_gets_all_of_it() {
    let option = |cookie: &[u8]| {
        let data = [&[0, 10, 0, cookie.len() as u8][..], cookie].concat();
        super::additional(ask("many.marathon.mesos", 1), &super::opt_record(4096, [0; 4], &data))
    };
    let mut secrets =
        Local { dns: LocalDns { cookie_secrets: vec![[5; 16]], ..LocalDns::default() }, ..Local::default() };
    secrets.workers = 1;
    let terms = crate::tables::dns::Terms::new(&secrets, &[], &[]);
    let asker = super::Asker { ip: "203.0.113.9".parse().unwrap(), unix_seconds: 100 };
    let cookie = super::super::cookie::fresh(&[1; 8], &terms.secrets, &asker);
    let zones = crate::tables::zone::tests::compiled();
    let proven = |query: &[u8]| super::super::answer::read(query, &zones).unwrap().is_proven(query, &terms, &asker);
    assert!(proven(&option(&cookie)) && !proven(&option(&[1; 8])));
}

/// A question over IPv6 through the stage, with a destination options header or without.
fn six(message: &[u8], options: bool) -> Vec<u8> {
    let (client, server) =
        ([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(client, server, 1).udp(4000, 53).write(&mut bytes, message).unwrap();
    bytes[15] = 0x5a;
    if options {
        bytes.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
        (bytes[20], bytes[19]) = (60, bytes[19] + 8);
    }
    let mut pool = Pool::heap(1, 2048);
    let mut burst = Burst::new();
    let mut asked = Packet::received(pool.take_copy(&bytes).unwrap(), 0);
    (asked.l3, asked.l4) = (ETHERNET as u8, if options { 62 } else { 54 });
    asked.ip_len = (bytes.len() - ETHERNET) as u16;
    (asked.v6, asked.action) = (true, Action::Dns);
    asked.ends6 = (u128::from_be_bytes(client), u128::from_be_bytes(server));
    asked.tuple = Tuple { sport: 4000, dport: 53, protocol: 17, ..Tuple::default() };
    burst.push(asked);
    let mut tables = tables(1500);
    let local = Local {
        dns: LocalDns { trusted: vec!["fd00::/8".parse().unwrap()], ..LocalDns::default() },
        ..Local::default()
    };
    tables.local.dns = crate::tables::dns::Terms::new(&local, &[], &[]);
    run(&mut burst, &mut pool, &tables, &Counters::new(1, 1, 1), &mut guard(), Nanos(0));
    // With options it goes the longer way, by egress.
    assert_eq!(burst[0].verdict, if options { Verdict::Pending } else { Verdict::Transmit(0) });
    let reply = pool.bytes(&burst[0].frame);
    let sliced = SlicedPacket::from_ethernet(reply).unwrap();
    let Some(etherparse::NetSlice::Ipv6(ip)) = &sliced.net else { panic!("not IPv6") };
    let header = ip.header();
    assert_eq!((header.source(), header.destination(), header.hop_limit()), (server, client, 64));
    assert_eq!((header.traffic_class(), usize::from(header.payload_length())), (0, reply.len() - 54));
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("not UDP") };
    let sum = udp.to_header().calc_checksum_ipv6(&header.to_header(), udp.payload()).unwrap();
    assert_eq!((udp.source_port(), udp.destination_port(), udp.checksum()), (53, 4000, sum));
    udp.payload().to_vec()
}

#[test]
fn ipv6_is_answered_with_fresh_headers_and_without_extensions() {
    assert_eq!(six(&ask("app.marathon.mesos", 1), false).len(), 36 + 16);
    assert_eq!(six(&ask("app.marathon.mesos", 1), true).len(), 36 + 16);
    assert_eq!(six(&edns(ask("many.marathon.mesos", 1), 1232), false).len(), 12 + 25 + 60 * 16 + 11);
}

proptest! {
    #[test]
    fn random_datagrams_end_in_an_answer_or_a_reason(
        payload in prop::collection::vec(any::<u8>(), 0..600), udp_len: Option<u16>, l4 in prop::option::of(0u8..80), ip_len: Option<u16>,
    ) {
        let mut bytes = frame(&payload, 4000);
        bytes[40..42].fill(0);
        if let Some(len) = udp_len {
            bytes[38..40].copy_from_slice(&len.to_be_bytes());
        }
        let (after, packet, _) = through(&bytes, |p| {
            p.l4 = l4.unwrap_or(p.l4);
            // Parse promises that the IP packet lies in the frame.
            p.ip_len = ip_len.map_or(p.ip_len, |len| len % (p.ip_len + 1));
        });
        if matches!(packet.verdict, Verdict::Pending | Verdict::Transmit(0)) {
            message(&after, u16::from_be_bytes([after[36], after[37]]));
        } else {
            prop_assert!(matches!(packet.verdict, Verdict::Drop(_)));
        }
    }
}
