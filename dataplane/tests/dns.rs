//! Questions through the whole worker: facts/dns.md section 2, books and frames checked after every packet.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use common::*;
use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason;

const SERVER: &str = "198.51.100.1";
const ETHERNET: usize = 14;
const UDP: usize = 34;
const MESSAGE: usize = 42;

fn machine() -> Machine {
    let mut desired = desired(1);
    desired.shared.zones = std::sync::Arc::new(vec![Zone {
        records: vec![Record { name: "app.mesos".into(), ttl: 60, data: RecordData::A(ip("10.0.0.7")) }].into(),
        ..Zone::new("mesos", "ns1.mesos")
    }]);
    Machine::new(desired)
}

/// `app.mesos. IN A`.
fn query() -> Vec<u8> {
    [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x03app\x05mesos\0", &[0, 1, 0, 1]].concat()
}

fn ask() -> Vec<u8> {
    udp((CLIENT, 5000), (SERVER, 53), &query())
}

/// With octets changed from the start of the frame, and the IPv4 header checksum made right again.
fn changed(mut packet: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, octet) in changes {
        packet[*at] = *octet;
    }
    let header_len = usize::from(packet[ETHERNET] & 15).max(5) * 4;
    packet[24..26].fill(0);
    let words = packet[ETHERNET..ETHERNET + header_len].chunks(2);
    let sum: u32 = words.map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    packet
}

/// Checks headers and message of the answer to [`query`].
fn check_answer(answer: &[u8]) {
    check_sums(answer);
    assert_ne!(answer[40..42], [0, 0], "the answer has a checksum");
    assert_eq!(ends(answer), ((SERVER.into(), 53), (CLIENT.into(), 5000)));
    assert_eq!(answer[22], 64, "TTL");
    check_message(&answer[MESSAGE..]);
}

fn check_message(message: &[u8]) {
    let expected = [
        &[0x12, 0x34, 0x85, 0, 0, 1, 0, 1, 0, 0, 0, 0][..],
        &query()[12..],
        &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 7],
    ];
    assert_eq!(message, expected.concat());
}

#[test]
fn what_is_well_formed_is_answered() {
    let options = {
        let mut packet = ask();
        packet.splice(UDP..UDP, [1; 4]);
        let length = packet[17] + 4;
        changed(packet, &[(ETHERNET, 0x46), (17, length)])
    };
    let trailer = [ask(), vec![0xee; 30]].concat();
    let cases = [
        ("plain query: valid sums, ports swapped", ask()),
        ("UDP checksum 0 is legal", changed(ask(), &[(40, 0), (41, 0)])),
        ("IPv4 options (4 NOP)", options),
        ("30 octets of link trailer after the IP packet", trailer),
        ("TTL 1", changed(ask(), &[(22, 1)])),
        ("ECN CE is not copied", changed(ask(), &[(15, 3)])),
    ];
    for (sentence, packet) in cases {
        println!("{sentence}");
        let answer = machine().pass(0, packet);
        assert_eq!((&answer[..6], &answer[6..12]), (&ROUTER.0[..], &OURS.0[..]), "MACs swapped");
        assert_eq!(answer[15], 0, "DSCP and ECN");
        check_answer(&answer);
    }
}

#[test]
fn what_is_not_is_dropped_with_its_reason() {
    let from = |source: &str, port: u16| udp((source, port), (SERVER, 53), &query());
    let wrong_sum = {
        let mut packet = ask();
        packet[41] ^= 1;
        packet
    };
    let wrong_header_sum = {
        let mut packet = ask();
        packet[25] ^= 1;
        packet
    };
    let rest = query().len().next_multiple_of(8) - query().len();
    let eights = udp((CLIENT, 5000), (SERVER, 53), &[query(), vec![0; rest]].concat());
    let cases = [
        ("wrong UDP checksum", wrong_sum, DropReason::DnsChecksum),
        ("wrong IPv4 header checksum", wrong_header_sum, DropReason::Ip4Checksum),
        ("source port 0", from(CLIENT, 0), DropReason::PortZero),
        ("source port 7", from(CLIENT, 7), DropReason::DnsSourcePort),
        ("source port 13", from(CLIENT, 13), DropReason::DnsSourcePort),
        ("source port 19", from(CLIENT, 19), DropReason::DnsSourcePort),
        ("source address = own address", from(SERVER, 5000), DropReason::Martian),
        ("source 255.255.255.255", from("255.255.255.255", 5000), DropReason::Martian),
        ("source 0.0.0.0", from("0.0.0.0", 5000), DropReason::Martian),
        ("source 127.0.0.1", from("127.0.0.1", 5000), DropReason::Martian),
        ("source 224.0.0.1", from("224.0.0.1", 5000), DropReason::Martian),
        ("frame for another MAC", changed(ask(), &[(5, 77)]), DropReason::NotOurMac),
        ("unicast IP in a broadcast frame", [&[0xff; 6], &ask()[6..]].concat(), DropReason::NotOurMac),
        ("first fragment that holds a whole query", changed(eights, &[(20, 0x20)]), DropReason::Fragment),
        ("the fragment behind it", changed(ask(), &[(20, 0), (21, 9)]), DropReason::Fragment),
        ("UDP length > IP payload", changed(ask(), &[(38, 1)]), DropReason::L4Header),
        ("UDP length 8", udp((CLIENT, 5000), (SERVER, 53), &[]), DropReason::DnsMalformed),
        ("UDP length 7", changed(ask(), &[(39, 7)]), DropReason::L4Header),
        ("IP total length > frame", changed(ask(), &[(16, 1)]), DropReason::Truncated),
        ("IHL 4", changed(ask(), &[(ETHERNET, 0x44)]), DropReason::Ip4Header),
        ("frame cut inside the UDP header", ask()[..38].to_vec(), DropReason::Truncated),
        (
            "a response",
            udp((CLIENT, 53), (SERVER, 53), &[&[0, 0, 0x80], &query()[3..]].concat()),
            DropReason::DnsMalformed,
        ),
    ];
    let mut machine = machine();
    for (sentence, packet, reason) in cases {
        println!("{sentence}");
        machine.refuse(0, 0, packet, reason);
        assert_eq!(machine.total(|c| c.dns.iter().map(|n| n.get()).sum()), 0);
    }
    check_answer(&machine.pass(0, ask()));
}

#[test]
fn port_54_is_the_kernels() {
    let left = machine().feed(0, 0, &[udp((CLIENT, 5000), (SERVER, 54), &query())]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, 1, "by the host port");
    assert_eq!(left[0].1[MESSAGE..], query());
}

#[test]
fn a_container_asks_through_the_overlay_and_is_answered_there() {
    let answer = machine().pass(0, vxlan(1, 1024, &udp(("9.0.1.7", 7000), (SERVER, 53), &query())));
    assert_eq!(ends(&answer), (("10.0.0.9".into(), ends(&answer).0.1), ("10.0.0.11".into(), 64000)));
    let inner = &answer[50..];
    check_sums(inner);
    assert_eq!(ends(inner), ((SERVER.into(), 53), ("9.0.1.7".into(), 7000)));
    check_message(&inner[MESSAGE..]);
}

#[test]
fn answers_are_counted_by_rcode() {
    let mut machine = machine();
    let unknown = [&query()[..12], b"\x02nx\x05mesos\0", &[0, 1, 0, 1]].concat();
    let foreign = [&query()[..12], b"\x03org\0", &[0, 1, 0, 1]].concat();
    for message in [&query(), &query(), &unknown, &foreign, &query()[..14].to_vec()] {
        machine.pass(0, udp((CLIENT, 5000), (SERVER, 53), message));
    }
    let counted = [0, 1, 3, 5].map(|rcode| machine.total(|c| c.dns[rcode].get()));
    assert_eq!(counted, [2, 1, 1, 1]);
}

#[test]
fn a_foreign_name_goes_to_the_forwarder_for_who_is_trusted_and_is_refused_otherwise() {
    const STRANGER: &str = "203.0.113.99";
    let mut forwarding = desired(1);
    forwarding.local.dns.forward = true;
    forwarding.local.dns.trusted = vec![format!("{CLIENT}/32").parse().unwrap()];
    let mut machine = Machine::new(forwarding);
    let foreign = |flags: u8, qtype: u8, class: u8| {
        [&[0x12, 0x34, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x03org\0", &[0, qtype, 0, class]].concat()
    };
    let left = machine.feed(0, 0, &[udp((CLIENT, 5000), (SERVER, 53), &foreign(1, 1, 1))]);
    assert_eq!((left.len(), left[0].0, &left[0].1[MESSAGE..]), (1, 1, &foreign(1, 1, 1)[..]), "by the host port");
    let mut options = udp((CLIENT, 5000), (SERVER, 53), &foreign(1, 1, 1));
    options.splice(UDP..UDP, [1; 4]);
    let length = options[17] + 4;
    let options = changed(options, &[(ETHERNET, 0x46), (17, length)]);
    let left = machine.feed(0, 0, std::slice::from_ref(&options));
    assert_eq!((left[0].0, &left[0].1[ETHERNET..]), (1, &options[ETHERNET..]), "IPv4 options: as it came");
    for (why, client, message) in [
        ("RD=0", CLIENT, foreign(0, 1, 1)),
        ("class CH", CLIENT, foreign(1, 1, 3)),
        ("a transfer", CLIENT, foreign(1, 252, 1)),
        ("OPT as a type", CLIENT, foreign(1, 41, 1)),
        ("not trusted", STRANGER, foreign(1, 1, 1)),
    ] {
        let answer = machine.pass(0, udp((client, 5000), (SERVER, 53), &message));
        assert_eq!(answer[MESSAGE + 3], 5, "{why}");
    }
    assert_eq!(machine.total(|c| c.dns[5].get()), 5);
    let mut back = udp((CLIENT, 5000), (SERVER, 53), &foreign(1, 1, 1));
    back[..12].copy_from_slice(&[HOST_PEER.0, HOST.0].concat());
    let back = machine.feed(0, 1, &[back]);
    assert_eq!((back[0].0, back[0].1[MESSAGE + 3]), (1, 5), "what comes from the kernel is not handed to it again");
}

#[test]
fn answers_are_counted_by_where_the_names_of_their_zone_come_from() {
    let mut desired = desired(1);
    let zone = |(apex, origin): (&str, Origin)| {
        let record = Record { name: format!("app.{apex}"), ttl: 60, data: RecordData::A(ip("10.0.0.7")) };
        Zone { origin, records: vec![record].into(), ..Zone::new(apex, "ns1.mesos") }
    };
    let zones =
        [("mesos", Origin::Mesos), ("directory", Origin::Dcos), ("arpa", Origin::Reverse), ("corp", Origin::Own)];
    desired.shared.zones = std::sync::Arc::new(zones.map(zone).into());
    let mut machine = Machine::new(desired);
    let asked: [&[u8]; 7] = [
        b"\x03app\x05mesos\0",
        b"\x02nx\x05mesos\0",
        b"\x05mesos\0",
        b"\x03app\x09directory\0",
        b"\x03app\x04arpa\0",
        b"\x03app\x04corp\0",
        b"\x03org\0",
    ];
    for name in asked {
        let message = [&query()[..12], name, &[0, 1, 0, 1]].concat();
        machine.pass(0, udp((CLIENT, 5000), (SERVER, 53), &message));
    }
    let counted = [0, 1, 2, 3, 4].map(|source| machine.total(|c| c.dns_sources[source].get()));
    assert_eq!(counted, [3, 1, 1, 1, 1], "NXDOMAIN and NODATA are of their zone, the refused one of none");
}
