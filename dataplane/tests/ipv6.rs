//! IPv6 and tagged frames through the whole turn; books and frames checked after every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use std::net::Ipv6Addr;

use common::six::*;
use common::*;
use etherparse::{Icmpv6Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use sluice_dataplane::verdict::DropReason;

/// Source and destination of a TCP packet whose checksum is right.
fn ends6(packet: &[u8]) -> ((Ipv6Addr, u16), (Ipv6Addr, u16)) {
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Tcp(tcp))) = (headers.net, headers.transport) else {
        panic!("not TCP over IPv6")
    };
    assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(&ip, headers.payload.slice()).unwrap());
    ((ip.source.into(), tcp.source_port), (ip.destination.into(), tcp.destination_port))
}

#[test]
fn a_client_reaches_a_backend_over_ipv6_and_back_by_any_worker() {
    let mut machine = Machine::new(desired6(2));
    for worker in [0, 1] {
        let there = machine.pass(worker, tcp6((CLIENT6, 5000 + worker as u16), (VIP6, 80), true));
        let ((snat, port), to) = ends6(&there);
        assert_eq!((snat, to), (ip6(SNAT6), (ip6(BACKEND6), 31000)));
        assert_eq!((there[21], &there[..6]), (63, &AGENT[0].0[..]), "hop limit and next hop");
        for back in [0, 1] {
            let back = machine.pass(back, tcp6((BACKEND6, 31000), (SNAT6, port), false));
            assert_eq!(ends6(&back), ((ip6(VIP6), 80), (ip6(CLIENT6), 5000 + worker as u16)));
        }
    }
    assert_eq!(machine.total(|c| c.given.get()), 2);
    assert_eq!(machine.total(|c| c.sessions.get()), 2);
}

#[test]
fn what_is_wrong_with_ipv6_has_its_own_reason() {
    use DropReason as R;
    let mut machine = Machine::new(quiet(desired6(1)));
    let good = tcp6((CLIENT6, 5000), (VIP6, 80), true);
    let edit = |at: usize, octets: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + octets.len()].copy_from_slice(octets);
        packet
    };
    for (sentence, packet, reason) in [
        ("version 5", edit(14, &[0x50]), R::Ip6Header),
        ("a jumbogram", edit(18, &[0, 0]), R::Ip6Header),
        ("a length beyond the frame", edit(18, &[1, 0]), R::Truncated),
        ("cut in the fixed header", good[..50].to_vec(), R::Truncated),
        ("a hop limit of 1", edit(21, &[1]), R::TtlExpired),
        ("from nobody", edit(22, &[0; 16]), R::Martian),
        ("from a group", edit(22, &[0xff]), R::Martian),
        ("from an IPv4-mapped address", edit(22, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), R::Martian),
        ("from a link-local address", edit(22, &ip6("fe80::1").octets()), R::Martian),
        (
            "an echo from nobody",
            {
                let mut echo = edit(22, &[0; 16]);
                echo[20] = 58;
                echo[54] = 128;
                echo
            },
            R::Martian,
        ),
        ("from the VIP", edit(22, &ip6(VIP6).octets()), R::Martian),
        ("from our SNAT address", edit(22, &ip6(SNAT6).octets()), R::Martian),
        ("a source port of 0", edit(54, &[0, 0]), R::PortZero),
        ("a port without service", edit(56, &[0, 81]), R::NoService),
        ("an extension header that is cut", edit(20, &[60]), R::Ip6Extension),
        ("to another", edit(53, &[0x99]), R::NotForUs),
    ] {
        println!("{sentence}");
        machine.refuse(0, 0, packet, reason);
    }
    for length in 14..good.len() {
        machine.refuse(0, 0, good[..length].to_vec(), R::Truncated);
    }
}

fn icmp6(source: &str, destination: &str, kind: Icmpv6Type, mac: [u8; 6], limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![];
    PacketBuilder::ethernet2(ROUTER.0, mac)
        .ipv6(ip6(source).octets(), ip6(destination).octets(), limit)
        .icmpv6(kind)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn check_icmp6(packet: &[u8]) -> Icmpv6Type {
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) = (headers.net, headers.transport) else {
        panic!("not ICMPv6")
    };
    let right = icmp.icmp_type.calc_checksum(ip.source, ip.destination, headers.payload.slice());
    assert_eq!(Ok(icmp.checksum), right);
    icmp.icmp_type
}

#[test]
fn echo_to_a_vip_and_solicitations_for_our_addresses_are_answered() {
    let mut machine = Machine::new(desired6(1));
    let echo = etherparse::IcmpEchoHeader { id: 7, seq: 9 };
    let answer = machine.pass(0, icmp6(CLIENT6, VIP6, Icmpv6Type::EchoRequest(echo), OURS.0, 64, b"payload"));
    assert_eq!(check_icmp6(&answer), Icmpv6Type::EchoReply(echo));
    for target in [VIP6, SNAT6] {
        let kind = Icmpv6Type::Unknown { type_u8: 135, code_u8: 0, bytes5to8: [0; 4] };
        let mut payload = ip6(target).octets().to_vec();
        payload.extend([1, 1, 2, 0, 0, 0, 0, 1]);
        let group = [0x33, 0x33, 0xff, 0, 0, payload[15]];
        let asked = icmp6("2001:db8::1", "ff02::1:ff00:80", kind, group, 255, &payload);
        let answer = machine.pass(0, asked);
        assert!(matches!(
            check_icmp6(&answer),
            Icmpv6Type::Unknown { type_u8: 136, .. } | Icmpv6Type::NeighborAdvertisement(_)
        ));
        assert_eq!(answer[answer.len() - 6..], OURS.0);
        assert_eq!(answer[..6], ROUTER.0);
    }
}

#[test]
fn tags_are_kept_towards_the_port_that_they_came_by() {
    let tagged = |packet: &[u8]| [&packet[..12], &[0x81, 0, 0x20, 7], &packet[12..]].concat();
    let mut machine = Machine::new(desired6(2));
    let there = machine.pass(0, tagged(&tcp((CLIENT, 5000), (VIP, 80), "S")));
    assert_eq!(there[12..16], [0x81, 0, 0x20, 7]);
    let plain = [&there[..12], &there[16..]].concat();
    check_sums(&plain);
    let ((snat, port), (backend, backend_port)) = ends(&plain);
    // Worker 1 hands it over as it came, tags included.
    let back = machine.pass(1, tagged(&tcp((&backend, backend_port), (&snat, port), "SA")));
    assert_eq!(back[12..18], [0x81, 0, 0x20, 7, 8, 0]);
    assert_eq!(ends(&[&back[..12], &back[16..]].concat()).1, (CLIENT.into(), 5000));
    let there = machine.pass(0, tagged(&tagged(&tcp6((CLIENT6, 5000), (VIP6, 80), true))));
    assert_eq!(there[12..22], [0x81, 0, 0x20, 7, 0x81, 0, 0x20, 7, 0x86, 0xdd]);
    let thrice = tagged(&tagged(&tagged(&tcp((CLIENT, 5001), (VIP, 80), "S"))));
    machine.refuse(0, 0, thrice, DropReason::TagDepth);
    // Through a tunnel only the outer frame is tagged.
    let there = machine.pass(0, tagged(&tcp((CLIENT, 6000), (NAMED, 80), "S")));
    assert_eq!(there[12..18], [0x81, 0, 0x20, 7, 8, 0]);
    assert_eq!(there[4 + 50 + 12..4 + 50 + 14], [8, 0]);
}
