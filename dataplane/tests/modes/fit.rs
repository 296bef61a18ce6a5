//! What fits: the MSS of handshakes is lowered, and what is too big is refused as it came.

use std::net::IpAddr;

use sluice_config::model::*;
use sluice_dataplane::burst::{Burst, Packet};
use sluice_dataplane::counters::Counters;
use sluice_dataplane::family::Flows;
use sluice_dataplane::frame::Pool;
use sluice_dataplane::stage::balance::{self, Balance};
use sluice_dataplane::stage::{classify, parse};
use sluice_dataplane::verdict::{DropReason, Verdict};

use crate::common::*;
use crate::world::*;

/// The option that names this MSS, behind a NOP so that it lies across two words of the checksum.
fn mss(octets: u16) -> [u8; 8] {
    let [high, low] = octets.to_be_bytes();
    [1, 2, 4, high, low, 1, 0, 0]
}

/// The MSS of a TCP packet at `l4` with that option.
fn named(packet: &[u8], l4: usize) -> u16 {
    u16::from_be_bytes([packet[l4 + 23], packet[l4 + 24]])
}

#[test]
fn a_handshake_names_segments_that_fit_the_way_to_the_backend_in_both_directions() {
    for (sentence, vip, client, backend, front, expected) in [
        ("the underlay takes all", VIP, CLIENT, "10.0.0.11:80", 0, 1460),
        ("the overlay takes 1450", VIP, CLIENT, "9.0.1.2:80", 50, 1410),
        ("IPv6 has a longer header", VIP6, CLIENT6, "[2001:db8::11]:80", 0, 1440),
    ] {
        for mode in [Mode::Nat, Mode::NatPreserve] {
            println!("{sentence} {mode:?}");
            let mut machine = Machine::new(cluster(1, vec![service_in(mode, vip, &[backend])]));
            let l4 = if vip == VIP { 34 } else { 54 };
            let given = if expected == 1410 { 1460 } else { expected };
            let there = machine.pass(0, segment((client, 5000), (vip, 80), "S", &mss(given), 0));
            let ((source, port), (to, to_port)) = ends_of(&there[front..]);
            assert_eq!(named(&there[front..], l4), expected);
            let (to, source) = (to.to_string(), source.to_string());
            let mut answer = segment((&to, to_port), (&source, port), "SA", &mss(given), 0);
            if front > 0 {
                answer = vxlan(1, 1024, &answer);
            }
            let back = machine.pass(0, answer);
            ends_of(&back);
            assert_eq!(named(&back, l4), expected);
            assert_eq!(machine.total(|c| c.mss_clamped.get()), if expected == 1410 { 2 } else { 0 });
        }
    }
}

#[test]
fn a_container_that_is_the_client_is_sent_segments_that_fit_its_tunnel() {
    let mut machine = Machine::new(cluster(1, vec![service_in(Mode::Nat, VIP, &["10.0.0.11:80"])]));
    let syn = segment(("9.0.1.7", 5000), (VIP, 80), "S", &mss(1460), 0);
    let there = machine.pass(0, vxlan(1, 1024, &syn));
    assert_eq!(named(&there, 34), 1410);
    ends_of(&there);
}

#[test]
fn a_dsr_mode_leaves_the_handshake_alone() {
    let mut machine = Machine::new(cluster(1, vec![service_in(Mode::DsrIpip, VIP, &["10.0.0.11:80"])]));
    let there = machine.pass(0, segment((CLIENT, 5000), (VIP, 80), "S", &mss(1460), 0));
    assert_eq!((named(&there[20..], 34), machine.total(|c| c.mss_clamped.get())), (1460, 0));
}

#[test]
fn the_largest_packet_passes_and_one_octet_more_is_refused() {
    for (mode, vip, backends, room) in [
        (Mode::Nat, VIP, &BACKENDS4, 1500),
        (Mode::Nat, VIP, &OVERLAY, 1450),
        (Mode::Nat, VIP6, &BACKENDS6, 1500),
        (Mode::NatPreserve, VIP, &OVERLAY, 1450),
        (Mode::DsrIpip, VIP, &BACKENDS4, 1480),
        (Mode::DsrIpip, VIP, &BACKENDS6, 1460),
        (Mode::DsrIpip, VIP6, &BACKENDS4, 1480),
        (Mode::DsrGue, VIP, &BACKENDS4, 1468),
        (Mode::DsrGue, VIP6, &BACKENDS6, 1448),
        (Mode::DsrVxlan, VIP, &OVERLAY, 1450),
        (Mode::DsrMac, VIP, &BACKENDS4, 1500),
    ] {
        println!("{mode:?} {vip} {backends:?}");
        let mut machine = Machine::new(cluster(1, vec![service_in(mode, vip, backends)]));
        let (client, headers) = if vip == VIP { (CLIENT, 40) } else { (CLIENT6, 60) };
        let sized = |octets: usize| segment((client, 5000), (vip, 80), "A", &[], octets - headers);
        let out = machine.pass(0, sized(room));
        assert!(out.len() - 14 <= 1500);
        told(&machine.pass(0, sized(room + 1)), vip, client, room);
        untouched(&machine, sized(room + 1));
    }
}

/// Checks that a packet tells `to`, in the name of `from`, that no more than `room` octets fit.
fn told(packet: &[u8], from: &str, to: &str, room: usize) {
    use etherparse::{Icmpv4Type, Icmpv6Type, NetHeaders, PacketHeaders, TransportHeader, icmpv4};
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let ends: (IpAddr, IpAddr) = match headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => (ip.source.into(), ip.destination.into()),
        Some(NetHeaders::Ipv6(ip, _)) => (ip.source.into(), ip.destination.into()),
        _ => panic!("not IP"),
    };
    assert_eq!(ends, (from.parse().unwrap(), to.parse().unwrap()));
    let kind = match headers.transport {
        Some(TransportHeader::Icmpv4(icmp)) => Ok(icmp.icmp_type),
        Some(TransportHeader::Icmpv6(icmp)) => Err(icmp.icmp_type),
        other => panic!("{other:?}"),
    };
    let next_hop_mtu = room as u16;
    let too_big = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu };
    let expected = match from.contains(':') {
        false => Ok(Icmpv4Type::DestinationUnreachable(too_big)),
        true => Err(Icmpv6Type::PacketTooBig { mtu: next_hop_mtu.into() }),
    };
    assert_eq!(kind, expected);
}

/// What the stages up to balance leave of a packet that they refuse.
fn untouched(machine: &Machine, bytes: Vec<u8>) {
    let mut pool = Pool::heap(1, 2048);
    let frame = pool.take_copy(&bytes).unwrap();
    let mut burst = Burst::new();
    burst.push(Packet::received(frame, 0));
    let (flows, counters) = (Flows::new(16, [3; 16]), Counters::new(2, 64, 256));
    let tables = &machine.tables;
    parse::run(&mut burst, &mut pool, tables);
    classify::run(&mut burst, &pool, tables);
    balance::run(&mut burst, &mut pool, &Balance::new(tables, &flows, &counters, 0, machine.now), true);
    assert_eq!(burst[0].verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!(pool.bytes(&burst[0].frame), bytes);
}

#[test]
fn an_underlay_that_leaves_less_than_the_overlays_mtu_decides() {
    let mut narrow = cluster(1, vec![service_in(Mode::Nat, VIP, &OVERLAY)]);
    narrow.local.ports[0].mtu = 1400;
    let mut machine = Machine::new(narrow);
    let sized = |octets: usize| segment((CLIENT, 5000), (VIP, 80), "A", &[], octets - 40);
    assert_eq!(machine.pass(0, sized(1350)).len(), 14 + 1400);
    told(&machine.pass(0, sized(1351)), VIP, CLIENT, 1350);
}

#[test]
fn a_reply_that_does_not_fit_the_clients_tunnel_is_refused_as_it_came() {
    let mut machine = Machine::new(cluster(1, vec![service_in(Mode::Nat, VIP, &["10.0.0.11:80"])]));
    let there = machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.7", 5000), (VIP, 80), "S")));
    let ((snat, port), _) = ends(&there);
    let sized = |octets: usize| segment(("10.0.0.11", 80), (&snat, port), "A", &[], octets - 40);
    assert_eq!(machine.pass(0, sized(1450)).len(), 14 + 1500);
    told(&machine.pass(0, sized(1451)), &snat, "10.0.0.11", 1450);
}

/// RFC 8200 section 5: a host sends packets of 1280 octets whatever it is told.
#[test]
fn a_way_that_is_too_narrow_for_ipv6_is_left_out_with_its_reason() {
    let narrow = |mode, vip: &str, backends: &[&str], mtu| {
        let mut desired = cluster(1, vec![service_in(mode, vip, backends)]);
        desired.local.ports[0].mtu = mtu;
        desired.local.vtep.as_mut().unwrap().mtu = mtu - 50;
        Machine::new(desired).tables.left_out.to_vec()
    };
    for (mode, backends, header) in [
        (Mode::DsrIpip, BACKENDS4, 20),
        (Mode::DsrIpip, BACKENDS6, 40),
        (Mode::DsrGue, BACKENDS4, 32),
        (Mode::DsrGue, BACKENDS6, 52),
        (Mode::DsrVxlan, OVERLAY, 50),
    ] {
        assert_eq!(narrow(mode, VIP6, &backends, 1280 + header), Vec::<String>::new(), "{mode:?}");
        let left_out = narrow(mode, VIP6, &backends, 1279 + header);
        assert_eq!(left_out.len(), 2, "{mode:?}");
        assert!(left_out[0].contains("leaves 1279 octets"), "{left_out:?}");
        assert_eq!(narrow(mode, VIP, &backends, 1279 + header), Vec::<String>::new(), "IPv4 has no such rule");
    }
}
