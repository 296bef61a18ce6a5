//! ICMP errors through the whole turn: whom they reach, to the octet, over two workers where ownership matters.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use common::icmp::*;
use common::six::*;
use common::*;
use etherparse::{Icmpv6Type, Ipv4Header, PacketBuilder};
use sluice_config::model::*;
use sluice_dataplane::verdict::DropReason as R;

/// Machine of two workers in which worker 1 has the session of one client, with what client and backend saw.
struct Flow {
    machine: Machine,
    /// From the client, and as the backend got it.
    request: [Vec<u8>; 2],
    /// From the backend, and as the client got it.
    reply: [Vec<u8>; 2],
    snat: (String, u16),
    backend: (String, u16),
    mac: Mac,
}

fn flow(port: u16) -> Flow {
    let mut machine = Machine::new(desired(2));
    let request = tcp((CLIENT, port), (VIP, 80), "S");
    let there = machine.pass(1, request.clone());
    let (snat, backend) = ends(&there);
    let answer = tcp((&backend.0, backend.1), (&snat.0, snat.1), "SA");
    let back = machine.pass(1, answer.clone());
    let mac = AGENT[usize::from(backend.0 == "10.0.0.12")];
    Flow { machine, request: [request, there], reply: [answer, back], snat, backend, mac }
}

#[test]
fn a_routers_error_about_a_packet_to_a_backend_reaches_the_client_as_one_about_its_own() {
    for worker in [0, 1] {
        for octets in [8, 12, 20, 27] {
            for kind in [TOO_BIG, TTL_EXCEEDED] {
                let mut flow = flow(5000);
                let said = error("10.0.0.1", &flow.snat.0, kind, &quote(&flow.request[1], octets));
                let told = flow.machine.pass(worker, said);
                let expected = quote(&flow.request[0], octets);
                assert_eq!(told, sent(ROUTER, error("10.0.0.1", CLIENT, kind, &expected)), "{octets} octets");
                assert_eq!(flow.machine.total(|c| c.icmp_errors.get()), 1);
            }
        }
    }
}

#[test]
fn a_backends_own_error_reaches_the_client_from_the_vip() {
    let mut machine = Machine::new(desired(2));
    let request = udp((CLIENT, 5000), (VIP, 53), b"question");
    let there = machine.pass(0, request.clone());
    let (snat, backend) = ends(&there);
    for worker in [0, 1] {
        let said = error(&backend.0, &snat.0, PORT_UNREACHABLE, &quote(&there, 16));
        let told = machine.pass(worker, said);
        assert_eq!(told, sent(ROUTER, error(VIP, CLIENT, PORT_UNREACHABLE, &quote(&request, 16))));
    }
    assert_eq!(machine.total(|c| c.given.get()), 1, "the owner of the port is known");
}

#[test]
fn an_error_about_a_reply_goes_round_the_workers_and_reaches_the_backend() {
    for (worker, given) in [(0, 1), (1, 0)] {
        let mut flow = flow(5000);
        let said = error("192.0.2.1", VIP, TOO_BIG, &quote(&flow.reply[1], 20));
        let told = flow.machine.pass(worker, said);
        let expected = error(&flow.snat.0, &flow.backend.0, TOO_BIG, &quote(&flow.reply[0], 20));
        assert_eq!(told, sent(flow.mac, expected));
        assert_eq!(flow.machine.total(|c| c.given.get()), given);
    }
}

#[test]
fn an_error_that_no_worker_knows_has_been_seen_by_each_once() {
    let mut machine = Machine::new(desired(3));
    let reply = tcp((VIP, 80), (CLIENT, 5000), "A");
    machine.refuse(1, 0, error(CLIENT, VIP, PORT_UNREACHABLE, &quote(&reply, 8)), R::IcmpNoSession);
    let visits: Vec<_> = machine.workers.iter().map(|w| (w.counters().taken.get(), w.counters().given.get())).collect();
    assert_eq!(visits, [(1, 0), (0, 1), (1, 1)]);
    machine.refuse(
        1,
        0,
        error(CLIENT, "10.0.0.100", PORT_UNREACHABLE, &quote(&tcp(("10.0.0.100", 1024), ("10.0.0.11", 31000), "A"), 8)),
        R::IcmpNoSession,
    );
}

#[test]
fn errors_cross_the_tunnel_of_the_flows_agent_and_no_other() {
    let mut machine = Machine::new(desired(2));
    let request = tcp((CLIENT, 6000), (NAMED, 80), "S");
    let there = machine.pass(0, request.clone());
    let n = there[50 + 14 + 18];
    let (snat, backend) = ends(&there[50..]);
    let bridge = format!("9.0.{n}.1");
    let about = quote(&there[50..], 8);
    // From the agent's bridge: addresses of the overlay mean nothing to the client, so the VIP tells it.
    let said = error(&bridge, &snat.0, PORT_UNREACHABLE, &about);
    for worker in [0, 1] {
        let told = machine.pass(worker, vxlan(n, 1024, &said));
        assert_eq!(told, sent(ROUTER, error(NAMED, CLIENT, PORT_UNREACHABLE, &quote(&request, 8))));
    }
    let other = 3 - n;
    let forged = error(&format!("9.0.{other}.7"), &snat.0, PORT_UNREACHABLE, &about);
    machine.refuse(0, 0, vxlan(other, 1024, &forged), R::OverlaySpoof);
    machine.refuse(0, 0, error("10.0.0.1", &snat.0, PORT_UNREACHABLE, &about), R::OverlaySpoof);
    // The client's side tells the backend, through its agent's tunnel.
    let reply = tcp((&backend.0, 80), (&snat.0, snat.1), "SA");
    let back = machine.pass(0, vxlan(n, 1024, &reply));
    let told = machine.pass(1, error("192.0.2.1", NAMED, TOO_BIG, &quote(&back, 8)));
    assert_eq!(ends(&told).1.0, format!("10.0.0.{}", 10 + n));
    let mut expected = sent(vtep_mac(1 + n), error(&snat.0, &backend.0, TOO_BIG, &quote(&reply, 8)));
    expected[6..12].copy_from_slice(&VTEP.0);
    assert_eq!(told[50..], expected);
}

#[test]
fn a_container_that_is_a_client_is_told_in_its_tunnel_and_tells_from_there() {
    let mut machine = Machine::new(desired(1));
    let request = tcp(("9.0.1.7", 7000), (VIP, 80), "S");
    let there = machine.pass(0, vxlan(1, 1024, &request));
    let (snat, backend) = ends(&there);
    let told = machine.pass(0, error("10.0.0.1", &snat.0, TOO_BIG, &quote(&there, 8)));
    let mut expected = sent(vtep_mac(2), error(VIP, "9.0.1.7", TOO_BIG, &quote(&request, 8)));
    expected[6..12].copy_from_slice(&VTEP.0);
    assert_eq!(told[50..], expected);
    let reply = tcp((&backend.0, backend.1), (&snat.0, snat.1), "SA");
    let back = machine.pass(0, reply.clone());
    let said = error("9.0.1.7", VIP, PORT_UNREACHABLE, &quote(&back[50..], 8));
    let told = machine.pass(0, vxlan(1, 1024, &said));
    assert_eq!(ends(&told).1.0, backend.0);
    machine.refuse(
        0,
        0,
        vxlan(2, 1024, &error("9.0.2.7", VIP, PORT_UNREACHABLE, &quote(&back[50..], 8))),
        R::OverlaySpoof,
    );
    machine.refuse(0, 0, error("192.0.2.1", VIP, PORT_UNREACHABLE, &quote(&back[50..], 8)), R::OverlaySpoof);
}

#[test]
fn a_wrong_checksum_inside_or_outside_stays_wrong() {
    let sound = |packet: &[u8]| {
        let sum =
            packet[34..].chunks(2).fold(0u32, |s, w| s + u32::from(w[0]) * 256 + u32::from(*w.get(1).unwrap_or(&0)));
        let folded = (sum & 0xffff) + (sum >> 16);
        (folded & 0xffff) + (folded >> 16) == 0xffff
    };
    let flow = || flow(5000);
    let mut right = flow();
    let told = right.machine.pass(0, error("10.0.0.1", &right.snat.0, TTL_EXCEEDED, &quote(&right.request[1], 27)));
    assert!(sound(&told));
    let mut outside = flow();
    let mut said = error("10.0.0.1", &outside.snat.0, TTL_EXCEEDED, &quote(&outside.request[1], 27));
    said[36] ^= 0x55;
    assert!(!sound(&outside.machine.pass(0, said)));
    let mut inside = flow();
    let mut wrong = quote(&inside.request[1], 27);
    wrong[36] ^= 0x55;
    wrong[10] ^= 0x55;
    let told = inside.machine.pass(0, error("10.0.0.1", &inside.snat.0, TTL_EXCEEDED, &wrong));
    assert!(sound(&told), "the message itself is right");
    let right = quote(&inside.request[0], 27);
    assert_ne!(told[42 + 10..42 + 12], right[10..12]);
    assert_ne!(told[42 + 36..42 + 38], right[16 + 20..18 + 20]);
}

#[test]
fn a_forged_mtu_is_raised_and_counted() {
    let mut flow = flow(5000);
    let said = error("10.0.0.1", &flow.snat.0, (3, 4, 68), &quote(&flow.request[1], 8));
    let told = flow.machine.pass(0, said);
    assert_eq!(told, sent(ROUTER, error("10.0.0.1", CLIENT, (3, 4, 576), &quote(&flow.request[0], 8))));
    assert_eq!(flow.machine.total(|c| c.icmp_mtu_raised.get()), 1);
}

#[test]
fn what_quotes_nothing_of_ours_is_dropped_for_its_own_reason() {
    let mut flow = flow(5000);
    let (snat, backend) = (flow.snat.clone(), flow.backend.clone());
    let about = quote(&flow.request[1], 8);
    let edit = |at: usize, octets: &[u8]| {
        let mut quote = about.clone();
        quote[at..at + octets.len()].copy_from_slice(octets);
        error("10.0.0.1", &snat.0, TOO_BIG, &quote)
    };
    let mut last_hop = error("10.0.0.1", &snat.0, TOO_BIG, &about);
    last_hop[22] = 1;
    let sum = Ipv4Header::from_slice(&last_hop[14..]).unwrap().0.calc_header_checksum();
    last_hop[24..26].copy_from_slice(&sum.to_be_bytes());
    let outer = udp(("10.0.0.9", 50000), ("10.0.0.11", 64000), &[0; 50]);
    for (sentence, packet, reason) in [
        ("7 octets", error("10.0.0.1", &snat.0, TOO_BIG, &about[..27]), R::IcmpQuote),
        ("a later fragment", edit(7, &[1]), R::IcmpQuote),
        ("another's packet", edit(12, &ip("10.0.0.101").octets()), R::IcmpQuote),
        ("to no backend", edit(16, &ip("10.0.0.77").octets()), R::IcmpQuote),
        ("ICMP", edit(9, &[1]), R::IcmpQuote),
        ("a port without session", edit(20, &(snat.1 ^ 2).to_be_bytes()), R::IcmpNoSession),
        (
            "to the VIP, about another service",
            error(CLIENT, VIP, TOO_BIG, &quote(&tcp((VIP, 82), (CLIENT, 5000), "A"), 8)),
            R::IcmpQuote,
        ),
        ("to the VIP, about what the SNAT address sent", error(CLIENT, VIP, TOO_BIG, &about), R::IcmpQuote),
        ("a redirect", error("10.0.0.1", &snat.0, (5, 0, 0), &about), R::IcmpUnhandled),
        ("a source quench to the VIP", error("10.0.0.1", VIP, (4, 0, 0), &about), R::IcmpUnhandled),
        ("an error to the DNS address", error(CLIENT, "198.51.100.1", PORT_UNREACHABLE, &about), R::IcmpUnhandled),
        ("its last hop", last_hop, R::TtlExpired),
        ("about our tunnel", error("10.0.0.1", "10.0.0.9", TOO_BIG, &quote(&outer, 8)), R::IcmpTunnel),
    ] {
        println!("{sentence}");
        flow.machine.refuse(0, 0, packet, reason);
    }
    // About what the kernel sent: the kernel's.
    let kernels = udp(("10.0.0.9", 50000), ("10.0.0.11", 53), &[0; 50]);
    let left = flow.machine.feed(0, 0, &[error("10.0.0.1", "10.0.0.9", TOO_BIG, &quote(&kernels, 8))]);
    assert_eq!(left[0].0, 1);
    let gone = error(&backend.0, &snat.0, TOO_BIG, &about);
    let mut without = desired(2);
    without.shared.services[1].backends.clear();
    flow.machine.publish(without);
    flow.machine.refuse(0, 0, gone, R::IcmpQuote);
}

/// As [`error`], IPv6; `mtu` is the whole of the last four octets.
fn error6(source: &str, destination: &str, (kind, code, mtu): (u8, u8, u32), quote: &[u8]) -> Vec<u8> {
    let icmp = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: mtu.to_be_bytes() };
    let mut packet = vec![];
    PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv6(ip6(source).octets(), ip6(destination).octets(), 60)
        .icmpv6(icmp)
        .write(&mut packet, quote)
        .unwrap();
    packet
}

#[test]
fn errors_of_ipv6_reach_client_and_backend() {
    const BIG: (u8, u8, u32) = (2, 0, 1400);
    let cut = |frame: &[u8], octets: usize| {
        let mut quote = frame[14..54 + octets].to_vec();
        quote[7] = 1;
        quote
    };
    let sent6 = |mac: Mac, mut packet: Vec<u8>| {
        packet[..6].copy_from_slice(&mac.0);
        packet[6..12].copy_from_slice(&OURS.0);
        packet[21] = 59;
        packet
    };
    let mut machine = Machine::new(desired6(2));
    let request = tcp6((CLIENT6, 5000), (VIP6, 80), true);
    let there = machine.pass(1, request.clone());
    let port = u16::from_be_bytes([there[54], there[55]]);
    let reply = tcp6((BACKEND6, 31000), (SNAT6, port), false);
    let back = machine.pass(1, reply.clone());
    let router = "2001:db8::1";
    for worker in [0, 1] {
        for octets in [8, 27] {
            for (kind, expected) in
                [(BIG, BIG), ((3, 0, 0), (3, 0, 0)), ((4, 1, 40), (4, 1, 40)), ((2, 0, 100), (2, 0, 1280))]
            {
                let told = machine.pass(worker, error6(router, SNAT6, kind, &cut(&there, octets)));
                assert_eq!(told, sent6(ROUTER, error6(router, CLIENT6, expected, &cut(&request, octets))));
                let told = machine.pass(worker, error6(CLIENT6, VIP6, kind, &cut(&back, octets)));
                assert_eq!(told, sent6(AGENT[0], error6(SNAT6, BACKEND6, expected, &cut(&reply, octets))));
            }
            let told = machine.pass(worker, error6(BACKEND6, SNAT6, (1, 4, 0), &cut(&there, octets)));
            assert_eq!(told, sent6(ROUTER, error6(VIP6, CLIENT6, (1, 4, 0), &cut(&request, octets))));
        }
    }
    machine.refuse(0, 0, error6(router, SNAT6, BIG, &cut(&there, 7)), R::IcmpQuote);
    machine.refuse(0, 0, error6(router, SNAT6, (137, 0, 0), &cut(&there, 8)), R::IcmpUnhandled);
}

#[test]
fn errors_are_no_way_round_policy() {
    let club = vec!["club".to_string()];
    let mut grouped = desired(1);
    let member = |address: &str| Container { ip: v4(address), network: "dcos".into(), groups: club.clone() };
    grouped.shared.containers = vec![member("9.0.1.2"), member("9.0.1.7"), member("9.0.2.2")];
    let mut machine = Machine::new(desired(1));
    let request = tcp((CLIENT, 6000), (NAMED, 80), "S");
    let there = machine.pass(0, request);
    let n = there[50 + 14 + 18];
    let (snat, backend) = ends(&there[50..]);
    let back = machine.pass(0, vxlan(n, 1024, &tcp((&backend.0, 80), (&snat.0, snat.1), "SA")));
    let about = quote(&there[50..], 8);
    for backend in &mut grouped.shared.services[0].backends {
        backend.groups = club.clone();
    }
    grouped.shared.containers.push(member(&format!("9.0.{n}.9")));
    machine.publish(grouped);
    machine.refuse(0, 0, vxlan(n, 1024, &error(&backend.0, &snat.0, TOO_BIG, &about)), R::GroupUnderlay);
    machine.refuse(0, 0, error(CLIENT, NAMED, TOO_BIG, &quote(&back, 8)), R::GroupUnderlay);
    machine.refuse(0, 0, vxlan(n, 1024, &error(&format!("9.0.{n}.9"), &snat.0, TOO_BIG, &about)), R::GroupDenied);
}
