//! What happens to a packet: sentences, inputs and expectations over the memory port, books and frames checked after
//! every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy knows only #[test] functions as tests")]

mod common;

use common::*;
use proptest::prelude::*;
use sluice_config::model::*;
use sluice_dataplane::io::fault::{Fault, Faults};
use sluice_dataplane::io::memory::MemoryPort;
use sluice_dataplane::io::record::Recorder;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::verdict::DropReason;

/// Sends a SYN to the VIP and returns the packet to the backend.
fn syn(machine: &mut Machine, worker: usize, port: u16) -> Vec<u8> {
    machine.pass(worker, tcp((CLIENT, port), (VIP, 80), "S"))
}

#[test]
fn a_client_reaches_a_backend_and_the_answer_comes_back_as_the_vip() {
    let mut machine = Machine::new(desired(1));
    let there = syn(&mut machine, 0, 5000);
    check_sums(&there);
    let ((snat, port), (backend, backend_port)) = ends(&there);
    assert_eq!(snat, "10.0.0.100");
    assert!(port >= 1024);
    assert!(matches!((&*backend, backend_port), ("10.0.0.11", 31000) | ("10.0.0.12", 31001)));
    assert_eq!(there[22], 63, "TTL");
    assert_eq!(there[..6], AGENT[usize::from(backend == "10.0.0.12")].0);
    assert_eq!(there[6..12], OURS.0);

    let back = machine.pass(0, tcp((&backend, backend_port), (&snat, port), "SA"));
    check_sums(&back);
    assert_eq!(ends(&back), ((VIP.into(), 80), (CLIENT.into(), 5000)));
    assert_eq!(back[..6], ROUTER.0);
}

#[test]
fn a_reply_that_lands_on_the_wrong_worker_is_handed_to_its_owner() {
    let mut machine = Machine::new(desired(2));
    for port in 5000..5100 {
        let there = syn(&mut machine, 1, port);
        let ((snat, snat_port), (backend, backend_port)) = ends(&there);
        let back = machine.pass(0, tcp((&backend, backend_port), (&snat, snat_port), "SA"));
        assert_eq!(ends(&back), ((VIP.into(), 80), (CLIENT.into(), port)));
    }
    assert_eq!(machine.total(|c| c.given.get()), 100);
    assert_eq!(machine.workers[1].counters().taken.get(), 100);
}

#[test]
fn an_overlay_backend_is_reached_through_vxlan_and_its_reply_is_stripped() {
    let mut machine = Machine::new(desired(2));
    let there = machine.pass(0, tcp((CLIENT, 6000), (NAMED, 80), "S"));
    check_sums(&there);
    let (outer, inner) = there.split_at(50);
    let n = inner[14 + 18];
    assert_eq!(ends(outer).0.0, "10.0.0.9");
    assert_eq!(ends(outer).1, (format!("10.0.0.{}", 10 + n), 64000));
    assert_eq!(outer[20..22], [0x40, 0], "DF");
    assert_eq!(outer[40..42], [0, 0], "no outer checksum");
    assert_eq!(outer[42..50], [8, 0, 0, 0, 0, 4, 0, 0], "VXLAN header, VNI 1024");
    assert_eq!((&inner[..6], &inner[6..12]), (&vtep_mac(1 + n).0[..], &VTEP.0[..]));
    check_sums(inner);
    let ((snat, port), (backend, 80)) = ends(inner) else { panic!("{:?}", ends(inner)) };
    assert_eq!(snat, "9.0.9.2");

    for worker in [0, 1] {
        let reply = tcp((&backend, 80), (&snat, port), "SA");
        let back = machine.pass(worker, vxlan(n, 1024, &reply));
        check_sums(&back);
        assert_eq!(ends(&back), ((NAMED.into(), 80), (CLIENT.into(), 6000)));
    }
    assert_eq!(machine.total(|c| c.given.get()), 1);
}

#[test]
fn a_container_reaches_a_vip_through_the_overlay_and_gets_its_answer_there() {
    let mut machine = Machine::new(desired(1));
    let there = machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.7", 7000), (VIP, 80), "S")));
    let ((snat, port), (backend, backend_port)) = ends(&there);
    assert_eq!(snat, "10.0.0.100");
    let back = machine.pass(0, tcp((&backend, backend_port), (&snat, port), "SA"));
    assert_eq!(ends(&back[50..]), ((VIP.into(), 80), ("9.0.1.7".into(), 7000)));
    check_sums(&back[50..]);
}

#[test]
fn containers_of_two_agents_reach_each_other_through_us() {
    let mut machine = Machine::new(desired(1));
    let there = machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.7", 7000), ("9.0.2.3", 80), "S")));
    assert_eq!(ends(&there[50..]), (("9.0.1.7".into(), 7000), ("9.0.2.3".into(), 80)));
    assert_eq!(there[50 + 22], 63, "inner TTL");
    check_sums(&there[50..]);
}

#[test]
fn an_established_flow_keeps_its_backend_when_others_come_and_go() {
    let mut machine = Machine::new(desired(1));
    let flows: Vec<_> = (5000..5200).map(|port| (port, ends(&syn(&mut machine, 0, port)))).collect();
    let mut more = desired(1);
    for n in 0..20 {
        more.shared.services[1].backends.push(backend(&format!("10.0.0.11:{}", 32000 + n), None));
    }
    machine.publish(more);
    for (port, expected) in flows {
        let packet = machine.pass(0, tcp((CLIENT, port), (VIP, 80), "A"));
        assert_eq!(ends(&packet), expected);
    }
}

#[test]
fn a_draining_backend_keeps_its_flows_and_gets_no_new_ones() {
    let mut machine = Machine::new(desired(1));
    let (port, old) = (5000..5100)
        .map(|port| (port, ends(&syn(&mut machine, 0, port))))
        .find(|(_, (_, backend))| backend.0 == "10.0.0.11")
        .unwrap();
    let mut draining = desired(1);
    draining.shared.services[1].backends[0].weight = 0;
    machine.publish(draining);
    assert_eq!(ends(&machine.pass(0, tcp((CLIENT, port), (VIP, 80), "A"))), old);
    for port in 6000..6100 {
        assert_eq!(ends(&syn(&mut machine, 0, port)).1.0, "10.0.0.12");
    }
}

#[test]
fn a_flow_whose_backend_is_gone_starts_anew_elsewhere() {
    let mut machine = Machine::new(desired(1));
    let port = (5000..5100).find(|port| ends(&syn(&mut machine, 0, *port)).1.0 == "10.0.0.11").unwrap();
    let mut without = desired(1);
    without.shared.services[1].backends.remove(0);
    machine.publish(without);
    assert_eq!(ends(&machine.pass(0, tcp((CLIENT, port), (VIP, 80), "A"))).1.0, "10.0.0.12");
}

#[test]
fn udp_is_balanced_both_ways_and_a_missing_checksum_stays_missing() {
    let mut machine = Machine::new(desired(1));
    let mut question = udp((CLIENT, 5000), (VIP, 53), b"question");
    let there = machine.pass(0, question.clone());
    check_sums(&there);
    let ((snat, port), (backend, 5353)) = ends(&there) else { panic!() };
    let back = machine.pass(0, udp((&backend, 5353), (&snat, port), b"answer"));
    check_sums(&back);
    assert_eq!(ends(&back), ((VIP.into(), 53), (CLIENT.into(), 5000)));
    question[40..42].fill(0);
    assert_eq!(machine.pass(0, question)[40..42], [0, 0]);
}

#[test]
fn a_wrong_checksum_is_never_made_right() {
    let mut machine = Machine::new(desired(1));
    let mut packet = tcp((CLIENT, 5000), (VIP, 80), "S");
    packet[50] ^= 0x10;
    let there = machine.pass(0, packet.clone());
    assert!(std::panic::catch_unwind(|| check_sums(&there)).is_err());
    packet[24] ^= 1;
    machine.refuse(0, 0, packet, DropReason::Ip4Checksum);
}

#[test]
fn a_session_ends_after_its_time_and_its_reply_is_refused() {
    let mut machine = Machine::new(desired(1));
    let ((snat, port), (backend, backend_port)) = ends(&syn(&mut machine, 0, 5000));
    machine.now = Nanos::from_seconds(120);
    machine.refuse(0, 0, tcp((&backend, backend_port), (&snat, port), "SA"), DropReason::SnatNoSession);
    for _ in 0..10_000 {
        machine.settle();
    }
    assert_eq!(machine.total(|c| c.sessions.get()), 0);
}

#[test]
fn arp_is_answered_for_vips_and_snat_addresses_and_nothing_else() {
    let mut machine = Machine::new(desired(1));
    let request = |target: &str| {
        let mut packet = [[0xff; 6], ROUTER.0].concat();
        packet.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        packet.extend(ROUTER.0);
        packet.extend(ip("10.0.0.1").octets());
        packet.extend([0; 6]);
        packet.extend(ip(target).octets());
        packet.resize(60, 0);
        packet
    };
    for target in [VIP, NAMED, "10.0.0.100", "198.51.100.1"] {
        let reply = machine.pass(0, request(target));
        assert_eq!((&reply[..6], &reply[6..12]), (&ROUTER.0[..], &OURS.0[..]));
        assert_eq!(reply[20..22], [0, 2]);
        assert_eq!((&reply[22..28], &reply[28..32]), (&OURS.0[..], &ip(target).octets()[..]));
        assert_eq!((&reply[32..38], &reply[38..42]), (&ROUTER.0[..], &ip("10.0.0.1").octets()[..]));
    }
    for other in ["10.0.0.9", "10.0.0.77", "9.0.9.1"] {
        machine.refuse(0, 0, request(other), DropReason::ArpNotOurs);
    }
    let mut off = desired(1);
    off.local.ports[0].arp = false;
    machine.publish(off);
    machine.refuse(0, 0, request(VIP), DropReason::ArpNotOurs);
}

#[test]
fn a_ping_to_a_vip_is_answered_in_place_from_outside_and_from_the_overlay() {
    let mut machine = Machine::new(desired(1));
    let reply = machine.pass(0, ping(CLIENT, VIP));
    check_sums(&reply);
    assert_eq!((&reply[26..30], &reply[30..34]), (&ip(VIP).octets()[..], &ip(CLIENT).octets()[..]));
    assert_eq!((reply[34], reply[22]), (0, 64));
    let reply = machine.pass(0, vxlan(2, 1024, &ping("9.0.2.5", VIP)));
    check_sums(&reply[50..]);
    assert_eq!(reply[50 + 30..50 + 34], ip("9.0.2.5").octets());
}

#[test]
fn what_is_for_the_node_goes_to_the_kernel_and_the_kernel_reaches_the_overlay() {
    let mut machine = Machine::new(desired(1));
    let left = machine.feed(0, 0, &[vxlan(1, 1024, &tcp(("9.0.1.7", 80), ("9.0.9.1", 4000), "SA"))]);
    let [(1, packet)] = &left[..] else { panic!("{left:?}") };
    assert_eq!((&packet[..6], &packet[6..12]), (&HOST.0[..], &HOST_PEER.0[..]));
    assert_eq!(machine.total(|c| c.host.get()), 1);

    let mut probe = tcp(("9.0.9.1", 4000), ("9.0.1.7", 80), "S");
    probe[..6].copy_from_slice(&HOST_PEER.0);
    let left = machine.feed(0, 1, &[probe]);
    let [(0, packet)] = &left[..] else { panic!("{left:?}") };
    assert_eq!(ends(packet).1, ("10.0.0.11".into(), 64000));
    assert_eq!(ends(&packet[50..]).1, ("9.0.1.7".into(), 80));
}

#[test]
fn each_bad_packet_is_dropped_for_its_own_reason() {
    use DropReason as R;
    let good = || tcp((CLIENT, 5000), (VIP, 80), "S");
    let edit = |at: usize, value: &[u8]| {
        let mut packet = good();
        packet[at..at + value.len()].copy_from_slice(value);
        let sum = etherparse::Ipv4Header::from_slice(&packet[14..]).map(|(h, _)| h.calc_header_checksum());
        if let Ok(sum) = sum {
            packet[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    };
    let inner = || tcp(("9.0.1.7", 7000), (VIP, 80), "S");
    let bad_vxlan = |n, at: usize, value: u8| {
        let mut packet = vxlan(n, 1024, &inner());
        packet[at] = value;
        packet
    };
    let short_udp = |length: u16| {
        let mut packet = vxlan(1, 1024, &inner());
        packet[38..40].copy_from_slice(&length.to_be_bytes());
        packet
    };
    let cases: Vec<(&str, Vec<u8>, R)> = vec![
        ("another station's frame", edit(0, &[2, 9, 9, 9, 9, 9]), R::NotOurMac),
        ("IPv4 that says it is IPv6", edit(12, &[0x86, 0xdd]), R::Ip6Header),
        ("neither IP nor ARP", edit(12, &[0x88, 0xcc]), R::EtherType),
        ("IHL 4", edit(14, &[0x44]), R::Ip4Header),
        ("version 5", edit(14, &[0x55]), R::Ip4Header),
        ("longer than the frame", edit(16, &[0xff, 0]), R::Truncated),
        ("total length below the header", edit(16, &[0, 10]), R::Ip4Header),
        ("a first fragment of 27 octets", edit(20, &[0x20, 0]), R::FragmentLength),
        ("a later fragment over the TCP header", edit(20, &[0, 1]), R::FragmentTiny),
        ("from loopback", edit(26, &[127, 0, 0, 1]), R::Martian),
        ("from multicast", edit(26, &[224, 0, 0, 1]), R::Martian),
        ("from broadcast", edit(26, &[255, 255, 255, 255]), R::Martian),
        ("from 0/8", edit(26, &[0, 1, 2, 3]), R::Martian),
        ("land attack", edit(26, &ip(VIP).octets()), R::Martian),
        ("from a VIP", edit(26, &ip(NAMED).octets()), R::Martian),
        ("source port 0", edit(34, &[0, 0]), R::PortZero),
        ("TCP offset 4", edit(46, &[0x40]), R::L4Header),
        ("TCP offset beyond the packet", edit(46, &[0xf0]), R::L4Header),
        ("TTL 1", edit(22, &[1]), R::TtlExpired),
        ("TTL 0", edit(22, &[0]), R::TtlExpired),
        ("no service on the port", edit(36, &[0, 99]), R::NoService),
        ("a service without backends", edit(36, &[0, 81]), R::NoBackend),
        ("GRE", edit(23, &[47]), R::Protocol),
        ("not ours", edit(30, &[10, 0, 0, 55]), R::NotForUs),
        ("SNAT address, no backend", edit(30, &[10, 0, 0, 100]), R::SnatUnknown),
        ("unknown VTEP", vxlan(77, 1024, &inner()), R::VxlanUnknownVtep),
        ("unknown VNI", vxlan(1, 1025, &inner()), R::VxlanUnknownVni),
        ("no I flag", bad_vxlan(1, 42, 0), R::VxlanHeader),
        ("inner to another MAC", bad_vxlan(1, 50, 2), R::VxlanInner),
        ("inner from another VTEP's MAC", bad_vxlan(1, 61, 99), R::OverlaySpoof),
        ("inner source of another agent", vxlan(2, 1024, &inner()), R::OverlaySpoof),
        ("overlay reply outside a tunnel", tcp(("9.0.1.2", 80), ("9.0.9.2", 2000), "A"), R::OverlaySpoof),
        ("container's address outside a tunnel", edit(26, &ip("9.0.1.7").octets()), R::OverlaySpoof),
        ("a VTEP's address outside a tunnel", edit(26, &ip("44.128.0.2").octets()), R::OverlaySpoof),
        ("underlay address to an overlay SNAT address", tcp((CLIENT, 80), ("9.0.9.2", 2000), "A"), R::Martian),
        ("from the node's own address", edit(26, &ip("10.0.0.9").octets()), R::Martian),
        ("from a group MAC", edit(6, &[0xff; 6]), R::SourceMac),
        ("from our own MAC", edit(6, &OURS.0), R::SourceMac),
        ("from no MAC", edit(6, &[0; 6]), R::SourceMac),
        ("UDP that ends before its VXLAN header", short_udp(8), R::VxlanHeader),
        ("UDP that ends inside the inner frame", short_udp(30), R::Truncated),
        (
            "to a container of no known agent",
            vxlan(1, 1024, &tcp(("9.0.1.7", 7000), ("9.0.77.1", 80), "S")),
            R::NoAgent,
        ),
    ];
    for (sentence, packet, reason) in cases {
        println!("{sentence}");
        Machine::new(quiet(desired(1))).refuse(0, 0, packet, reason);
    }
}

#[test]
fn an_overlay_backend_of_no_known_agent_is_never_sent_bare() {
    let mut lost = desired(1);
    lost.shared.services[0].backends = vec![backend("9.0.77.5:80", Some("dcos"))];
    let mut machine = Machine::new(lost);
    machine.refuse(0, 0, tcp((CLIENT, 5000), (NAMED, 80), "S"), DropReason::NoAgent);
    assert_eq!(machine.total(|c| c.sessions_made.get()), 0);
}

#[test]
fn an_empty_echo_gets_a_checksum_that_holds() {
    let mut request = ping(CLIENT, VIP);
    request.truncate(42);
    request[16..18].copy_from_slice(&28u16.to_be_bytes());
    request[34..42].copy_from_slice(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let sum = etherparse::Ipv4Header::from_slice(&request[14..]).unwrap().0.calc_header_checksum();
    request[24..26].copy_from_slice(&sum.to_be_bytes());
    let reply = Machine::new(desired(1)).pass(0, request);
    assert_eq!(reply[34..42], [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
}

#[test]
fn names_are_answered_on_an_address_that_is_the_node_s_as_well() {
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x05mesos\0\0\x01\0\x01";
    for address in ["10.0.0.9", "9.0.9.1"] {
        let mut shared = desired(1);
        shared.local.dns_addresses = vec![ip(address)];
        let mut machine = Machine::new(shared);
        machine.pass(0, udp((CLIENT, 5000), (address, 53), question));
        // The same address is still the VTEP's.
        machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.7", 7000), (VIP, 80), "S")));
    }
}

#[test]
fn congestion_marks_of_the_tunnel_are_carried_inside() {
    const NOT_ECT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    // RFC 6040 figure 4: inner, outer, and what leaves.
    let cases = [
        (ECT0, CE, CE),
        (ECT1, CE, CE),
        (ECT0, ECT1, ECT1),
        (ECT0, ECT0, ECT0),
        (NOT_ECT, ECT1, NOT_ECT),
        (CE, ECT0, CE),
    ];
    let marked = |inner: u8, outer: u8| {
        let mark = |packet: &mut [u8], ecn: u8| {
            packet[15] = ecn;
            let sum = etherparse::Ipv4Header::from_slice(&packet[14..]).unwrap().0.calc_header_checksum();
            packet[24..26].copy_from_slice(&sum.to_be_bytes());
        };
        let mut inside = tcp(("9.0.1.7", 7000), (VIP, 80), "S");
        mark(&mut inside, inner);
        let mut packet = vxlan(1, 1024, &inside);
        mark(&mut packet, outer);
        packet
    };
    for (inner, outer, leaves) in cases {
        let packet = Machine::new(desired(1)).pass(0, marked(inner, outer));
        assert_eq!(packet[15] & 3, leaves, "inner {inner}, outer {outer}");
        check_sums(&packet);
    }
    Machine::new(desired(1)).refuse(0, 0, marked(NOT_ECT, CE), DropReason::EcnLost);
}

#[test]
fn what_is_too_big_for_the_kernel_is_counted_here() {
    let mut narrow = quiet(desired(1));
    narrow.local.ports[1].mtu = 100;
    let big = udp(("9.0.1.7", 5000), ("9.0.9.1", 9), &[0; 200]);
    Machine::new(narrow).refuse(0, 0, vxlan(1, 1024, &big), DropReason::TooBig);
}

#[test]
fn a_service_beyond_the_limit_is_left_out_and_the_others_are_served() {
    let mut many = desired(1);
    for port in 1000..1100 {
        many.shared.services.push(service(Protocol::Tcp, "172.16.0.9", port, vec![backend("10.0.0.11:99", None)]));
    }
    let mut machine = Machine::new(many);
    assert!(!machine.tables.left_out.is_empty());
    syn(&mut machine, 0, 5000);
    machine.pass(0, tcp((CLIENT, 5000), ("172.16.0.9", 1000), "S"));
}

#[test]
fn vxlan_is_refused_on_a_client_port() {
    let mut clients_only = desired(1);
    clients_only.local.ports[0].role = Role::Client;
    let packet = vxlan(1, 1024, &tcp(("9.0.1.7", 7000), (VIP, 80), "S"));
    Machine::new(clients_only).refuse(0, 0, packet, DropReason::VxlanPort);
}

#[test]
fn groups_are_enforced_before_any_state_is_made() {
    let mut grouped = desired(1);
    let club = vec!["secret-club".to_owned()];
    let member = |address: &str| Container { ip: v4(address), network: "dcos".into(), groups: club.clone() };
    grouped.shared.containers = vec![member("9.0.1.2"), member("9.0.1.7"), member("9.0.2.2")];
    for backend in &mut grouped.shared.services[0].backends {
        backend.groups = club.clone();
    }
    let mut machine = Machine::new(grouped);
    let from = |n, source: &str, destination: (&str, u16)| vxlan(n, 1024, &tcp((source, 7000), destination, "S"));
    machine.pass(0, from(1, "9.0.1.7", ("9.0.2.2", 80)));
    machine.pass(0, from(1, "9.0.1.7", (NAMED, 80)));
    machine.refuse(0, 0, from(1, "9.0.1.8", ("9.0.2.2", 80)), DropReason::GroupDenied);
    machine.refuse(0, 0, from(1, "9.0.1.7", ("9.0.2.9", 80)), DropReason::GroupDenied);
    machine.refuse(0, 0, from(1, "9.0.1.8", (NAMED, 80)), DropReason::GroupDenied);
    machine.refuse(0, 0, tcp((CLIENT, 5000), (NAMED, 80), "S"), DropReason::GroupUnderlay);
    assert_eq!(machine.total(|c| c.sessions_made.get()), 1);
    // The node's own processes, probes among them, may.
    let mut probe = tcp(("9.0.9.1", 4000), ("9.0.1.7", 80), "S");
    probe[..6].copy_from_slice(&HOST_PEER.0);
    assert_eq!(machine.feed(0, 1, &[probe]).len(), 1);
    // Those without a group are not concerned.
    machine.pass(0, from(1, "9.0.1.8", ("9.0.2.9", 80)));
    machine.pass(0, from(1, "9.0.1.8", (VIP, 80)));
}

/// A SYN-ACK of the container that a packet went to, by its agent's tunnel.
fn answered(sent: &[u8]) -> Vec<u8> {
    let ((snat, snat_port), (container, port)) = ends(&sent[50..]);
    let agent = container.split('.').nth(2).and_then(|n| n.parse().ok()).unwrap();
    vxlan(agent, 1024, &tcp((&container, port), (&snat, snat_port), "SA"))
}

#[test]
fn a_service_is_for_the_groups_that_it_names_too_and_for_everybody_where_it_says_so() {
    let mut grouped = desired(1);
    let (club, partners) = (vec!["secret-club".to_owned()], vec!["partners".to_owned()]);
    let member = |address: &str, groups: &[String]| Container {
        ip: v4(address),
        network: "dcos".into(),
        groups: groups.to_vec(),
    };
    grouped.shared.containers = vec![
        member("9.0.1.2", &club),
        member("9.0.2.2", &club),
        member("9.0.1.7", &club),
        member("9.0.1.8", &partners),
    ];
    let named = &mut grouped.shared.services[0];
    named.backends.iter_mut().for_each(|backend| backend.groups = club.clone());
    named.admission.groups = AllowGroups::These(partners);
    let mut everybody = grouped.clone();
    everybody.shared.services[0].admission.groups = AllowGroups::All;
    let from = |source: &str, destination: (&str, u16)| vxlan(1, 1024, &tcp((source, 7000), destination, "S"));
    let mut machine = Machine::new(grouped);
    // Its own group, and the one that it names; the containers themselves stay closed.
    machine.pass(0, from("9.0.1.7", (NAMED, 80)));
    let sent = machine.pass(0, from("9.0.1.8", (NAMED, 80)));
    let reply = answered(&sent);
    machine.pass(0, reply);
    machine.refuse(0, 0, from("9.0.1.8", ("9.0.2.2", 80)), DropReason::GroupDenied);
    machine.refuse(0, 0, from("9.0.1.9", (NAMED, 80)), DropReason::GroupDenied);
    machine.refuse(0, 0, tcp((CLIENT, 5000), (NAMED, 80), "S"), DropReason::GroupUnderlay);
    let mut machine = Machine::new(everybody);
    machine.pass(0, from("9.0.1.9", (NAMED, 80)));
    let sent = machine.pass(0, tcp((CLIENT, 5000), (NAMED, 80), "S"));
    machine.pass(0, answered(&sent));
    machine.refuse(0, 0, from("9.0.1.9", ("9.0.2.2", 80)), DropReason::GroupDenied);
}

#[test]
fn an_unresolved_next_hop_drops_and_tells_control() {
    let mut unresolved = desired(1);
    unresolved.local.neighbours.retain(|n| n.mac == ROUTER);
    let mut machine = Machine::new(unresolved);
    machine.refuse(0, 0, tcp((CLIENT, 5000), (VIP, 80), "S"), DropReason::NextHopUnresolved);
}

#[test]
fn a_packet_that_does_not_fit_the_way_out_is_dropped() {
    let mut machine = Machine::new(desired(1));
    let big = udp((CLIENT, 5000), (VIP, 53), &[0; 1472]);
    machine.pass(0, big);
    let mut narrow = quiet(desired(1));
    narrow.local.ports[0].mtu = 1499;
    machine.publish(narrow);
    machine.refuse(0, 0, udp((CLIENT, 5000), (VIP, 53), &[0; 1472]), DropReason::TooBig);
}

/// One packet of each kind.
fn templates() -> Vec<Vec<u8>> {
    let mut arp = [[0xff; 6], ROUTER.0].concat();
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 172, 16, 0, 1]);
    vec![
        arp,
        tcp((CLIENT, 5000), (VIP, 80), "S"),
        tcp((CLIENT, 5001), (NAMED, 80), "S"),
        tcp(("10.0.0.11", 31000), ("10.0.0.100", 2000), "A"),
        udp((CLIENT, 5000), (VIP, 53), b"hello"),
        udp((CLIENT, 5000), ("198.51.100.1", 53), b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x05mesos\0\0\x01\0\x01"),
        ping(CLIENT, VIP),
        vxlan(1, 1024, &tcp(("9.0.1.7", 7000), (VIP, 80), "S")),
        vxlan(2, 1024, &tcp(("9.0.2.7", 7000), ("9.0.1.9", 80), "A")),
        vxlan(1, 1024, &ping("9.0.1.7", VIP)),
        vxlan(1, 1024, &udp(("9.0.1.7", 7000), (VIP, 53), b"hello")),
        vxlan(1, 1024, &tcp(("9.0.1.7", 7000), ("9.0.9.1", 80), "A")),
        vxlan(1, 1024, &vxlan(1, 1024, &ping("9.0.1.7", VIP))),
    ]
}

#[test]
fn every_template_cut_at_every_octet_ends_counted() {
    let mut machine = Machine::new(desired(2));
    for template in templates() {
        for length in 0..=template.len() {
            machine.feed(length % 2, 0, &[template[..length].to_vec()]);
        }
    }
}

proptest! {
    #[test]
    fn mutated_packets_end_counted_and_lose_no_frame(
        choices in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), 0usize..2, 0usize..2),
            1..100,
        ),
    ) {
        let mut machine = Machine::new(desired(2));
        let templates = templates();
        for (template, edits, worker, port) in choices {
            let mut packet = template.get(&templates).clone();
            for (at, value) in edits {
                let at = at.index(packet.len());
                packet[at] = value;
            }
            if packet.len() >= 34 && packet[12..14] == [8, 0] {
                // Most mutations should get past the header checksum.
                if let Ok((header, _)) = etherparse::Ipv4Header::from_slice(&packet[14..]) {
                    packet[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
                }
            }
            machine.feed(worker, port, &[packet]);
        }
    }

    #[test]
    fn random_octets_end_counted(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..64)) {
        Machine::new(desired(1)).feed(0, 0, &packets);
    }
}

#[test]
fn books_balance_under_injected_faults_and_the_recorder_sees_it_all() {
    let faults = Faults { lose: 50, cut: 100, flip: 100, refuse: 100 };
    let mut machine = Machine::with_ports(desired(2), |port| {
        Recorder::new(Fault::new(MemoryPort::default(), faults, port as u64 + 1), 64)
    });
    let templates = templates();
    for round in 0..500 {
        for (number, template) in templates.iter().enumerate() {
            let (port, pool) = machine.workers[(round + number) % 2].port(0).unwrap();
            port.inner().inner().inject(pool, template);
        }
        machine.settle();
        for worker in &mut machine.workers {
            for port in 0..2 {
                let (memory, pool) = worker.port(port).unwrap();
                memory.inner().inner().collect(pool);
            }
        }
        machine.check_books();
        machine.check_frames();
    }
    let (port, _) = machine.workers[0].port(0).unwrap();
    assert_eq!((port.received().len(), port.sent().len()), (64, 64));
    assert!(machine.drops(DropReason::PortFull) > 0);
}

/// The first service's backend becomes the second's: its sessions must not follow.
#[test]
fn a_session_does_not_follow_its_backends_address_to_another_service() {
    let with = |first: &[&str], second: &[&str]| {
        let mut desired = desired(1);
        let backends = |list: &[&str]| list.iter().map(|address| backend(address, None)).collect::<Vec<_>>();
        desired.shared.services =
            vec![service(Protocol::Tcp, VIP, 80, backends(first)), service(Protocol::Tcp, VIP, 81, backends(second))]
                .into();
        desired
    };
    let mut machine = Machine::new(with(&["10.0.0.12:31001"], &[]));
    let ((snat, snat_port), _) = ends(&syn(&mut machine, 0, 5000));
    machine.publish(with(&["10.0.0.11:31000"], &["10.0.0.12:31001"]));
    machine.refuse(0, 0, tcp(("10.0.0.12", 31001), (&snat, snat_port), "SA"), DropReason::SnatNoSession);
    let there = machine.pass(0, tcp((CLIENT, 5000), (VIP, 80), "A"));
    assert_eq!(ends(&there).1, ("10.0.0.11".into(), 31000));
    let there = machine.pass(0, tcp((CLIENT, 5000), (VIP, 81), "S"));
    assert_eq!(ends(&there).1, ("10.0.0.12".into(), 31001));
}

#[test]
fn a_backend_that_two_services_share_keeps_the_sessions_of_both() {
    let mut desired = desired(1);
    desired.shared.services =
        [80, 81].map(|port| service(Protocol::Tcp, VIP, port, vec![backend("10.0.0.12:31001", None)])).to_vec().into();
    let mut machine = Machine::new(desired);
    for port in [80, 81] {
        let flags = ["S", "A", "A"];
        let there = flags.map(|flags| ends(&machine.pass(0, tcp((CLIENT, 5000), (VIP, port), flags))));
        assert_eq!(there[0], there[2]);
        let ((snat, snat_port), _) = there[0].clone();
        let back = machine.pass(0, tcp(("10.0.0.12", 31001), (&snat, snat_port), "SA"));
        assert_eq!(ends(&back).0, (VIP.into(), port));
    }
}

#[test]
fn a_subnets_broadcast_address_is_no_source() {
    let mut machine = Machine::new(desired(1));
    machine.refuse(0, 0, tcp(("10.0.0.255", 5000), (VIP, 80), "S"), DropReason::Martian);
}
