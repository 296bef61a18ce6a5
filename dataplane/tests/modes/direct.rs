//! The DSR modes: the client's packet with a TTL less by one, in a whole new outer header or with another MAC.

use std::net::{IpAddr, SocketAddr};

use sluice_config::model::*;

use crate::common::*;
use crate::world::*;

const INNER: [(&str, &str); 2] = [(VIP, CLIENT), (VIP6, CLIENT6)];

/// A packet to the VIP with this ECN field, and the octets of its IP packet as they must leave.
fn sent(vip: &str, client: &str, port: u16, flags: &str, ecn: u8) -> (Vec<u8>, Vec<u8>) {
    let mut packet = segment((client, port), (vip, 80), flags, &[2, 4, 5, 180], 11);
    if packet[12] == 8 {
        (packet[15], packet[22]) = (ecn, 65);
        // Its checksum covers ECN.
        packet = hop_later(&packet);
    } else {
        packet[15] |= ecn << 4;
    }
    let inner = hop_later(&packet)[14..].to_vec();
    (packet, inner)
}

/// Checks an outer IP header over `payload` octets to `backend`, and returns what is behind it.
fn behind_outer(packet: &[u8], backend: IpAddr, protocol: u8, ecn: u8) -> &[u8] {
    let ip = &packet[14..];
    match backend {
        IpAddr::V4(to) => {
            assert_eq!(packet[12..14], [8, 0]);
            let (header, rest) = etherparse::Ipv4Header::from_slice(ip).unwrap();
            assert_eq!((ip[0], ip[1], ip[8], ip[9]), (0x45, ecn, 64, protocol));
            assert_eq!(ip[6..8], [0x40, 0], "DF");
            assert_eq!(usize::from(header.total_len), ip.len());
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!((header.source, header.destination), (crate::common::ip(OURS4).octets(), to.octets()));
            rest
        }
        IpAddr::V6(to) => {
            assert_eq!(packet[12..14], [0x86, 0xdd]);
            let (header, rest) = etherparse::Ipv6Header::from_slice(ip).unwrap();
            assert_eq!((ip[0], ip[1] & 0xf0), (0x60, ecn << 4), "version, and ECN in the traffic class");
            assert_eq!((header.next_header.0, header.hop_limit), (protocol, 64));
            assert_eq!(usize::from(header.payload_length), rest.len());
            assert_eq!((header.source, header.destination), (ip6(OURS6).octets(), to.octets()));
            rest
        }
    }
}

fn backend_of(mac: &[u8], backends: &[&str]) -> IpAddr {
    let number = AGENT.iter().position(|agent| agent.0 == mac).unwrap();
    backends[number].parse::<SocketAddr>().unwrap().ip()
}

/// The other packets of a flow: same backend, same outer header but for lengths.
fn follows(machine: &mut Machine, vip: &str, client: &str, first: &[u8]) {
    let (packet, inner) = sent(vip, client, 5000, "A", 0);
    let later = machine.pass(0, packet);
    assert_eq!((&later[..12], &later[later.len() - inner.len()..]), (&first[..12], &inner[..]));
}

fn check_counts(machine: &Machine, packets: u64) {
    assert_eq!(machine.total(|c| c.sessions_made.get()), packets / 2);
    assert_eq!(machine.total(|c| c.services.iter().map(|s| s.get()).sum()), packets);
    assert_eq!(machine.total(|c| c.backends.iter().map(|b| b.get()).sum()), packets / 2);
    assert_eq!(machine.total(|c| c.mss_clamped.get() + c.unremembered.get()), 0);
}

#[test]
fn ip_in_ip_carries_the_clients_packet_in_the_backends_family() {
    for (vip, client) in INNER {
        for backends in [BACKENDS4, BACKENDS6] {
            let mut machine = Machine::new(cluster(1, vec![service_in(Mode::DsrIpip, vip, &backends)]));
            let (packet, inner) = sent(vip, client, 5000, "S", 1);
            let out = machine.pass(0, packet);
            let protocol = if vip == VIP { 4 } else { 41 };
            assert_eq!(out[6..12], OURS.0);
            assert_eq!(behind_outer(&out, backend_of(&out[..6], &backends), protocol, 1), inner);
            follows(&mut machine, vip, client, &out);
            check_counts(&machine, 2);
        }
    }
}

#[test]
fn gue_carries_the_clients_packet_behind_udp_whose_port_tells_flows_apart() {
    for (vip, client) in INNER {
        for backends in [BACKENDS4, BACKENDS6] {
            let mut machine = Machine::new(cluster(1, vec![service_in(Mode::DsrGue, vip, &backends)]));
            let mut ports = std::collections::BTreeSet::new();
            for port in 5000..5050 {
                let (packet, inner) = sent(vip, client, port, "S", 2);
                let out = machine.pass(0, packet);
                let udp = behind_outer(&out, backend_of(&out[..6], &backends), 17, 2);
                let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
                assert_eq!((word(2), usize::from(word(4))), (6080, udp.len()));
                assert_eq!(udp[8..12], [0, if vip == VIP { 4 } else { 41 }, 0, 0]);
                assert_eq!(udp[12..], inner);
                assert!(word(0) >= 49152);
                ports.insert(word(0));
                let headers = etherparse::PacketHeaders::from_ethernet_slice(&out).unwrap();
                match (headers.net.unwrap(), headers.transport.unwrap().udp().unwrap()) {
                    // RFC 6935 allows 0 over IPv6 only where the receiver was told.
                    (etherparse::NetHeaders::Ipv6(ip, _), header) => {
                        assert_eq!(header.calc_checksum_ipv6(&ip, headers.payload.slice()), Ok(header.checksum));
                    }
                    (_, header) => assert_eq!(header.checksum, 0),
                }
            }
            assert!(ports.len() > 40, "{} source ports of 50 flows", ports.len());
        }
    }
}

#[test]
fn vxlan_carries_the_clients_packet_to_the_agent() {
    for (vip, client) in INNER {
        let mut machine = Machine::new(cluster(1, vec![service_in(Mode::DsrVxlan, vip, &OVERLAY)]));
        let (packet, inner) = sent(vip, client, 5000, "S", 3);
        let out = machine.pass(0, packet);
        let n = 1 + AGENT.iter().position(|agent| agent.0 == out[..6]).unwrap() as u8;
        let udp = behind_outer(&out, format!("10.0.0.{}", 10 + n).parse().unwrap(), 17, 3);
        assert_eq!((&udp[2..4], &udp[6..8]), (&64000u16.to_be_bytes()[..], &[0, 0][..]));
        assert_eq!(udp[8..16], [8, 0, 0, 0, 0, 4, 0, 0]);
        let frame = &udp[16..];
        assert_eq!((&frame[..6], &frame[6..12]), (&vtep_mac(1 + n).0[..], &VTEP.0[..]));
        assert_eq!(frame[12..14], if vip == VIP { [8, 0] } else { [0x86, 0xdd] });
        assert_eq!(frame[14..], inner);
        follows(&mut machine, vip, client, &out);
        check_counts(&machine, 2);
    }
}

#[test]
fn a_backend_on_link_gets_the_clients_packet_by_its_mac() {
    for (vip, client) in INNER {
        for backends in [BACKENDS4, BACKENDS6] {
            let mut machine = Machine::new(cluster(1, vec![service_in(Mode::DsrMac, vip, &backends)]));
            let (packet, inner) = sent(vip, client, 5000, "S", 0);
            let out = machine.pass(0, packet.clone());
            backend_of(&out[..6], &backends);
            assert_eq!((&out[6..12], &out[12..14], &out[14..]), (&OURS.0[..], &packet[12..14], &inner[..]));
            follows(&mut machine, vip, client, &out);
            check_counts(&machine, 2);
        }
    }
}

#[test]
fn a_wrong_checksum_inside_stays_wrong() {
    for backends in [BACKENDS4, BACKENDS6] {
        for mode in [Mode::DsrIpip, Mode::DsrGue] {
            let mut machine = Machine::new(cluster(1, vec![service_in(mode, VIP, &backends)]));
            let mut packet = segment((CLIENT, 5000), (VIP, 80), "S", &[], 11);
            packet[51] ^= 0x40;
            let inner = hop_later(&packet)[14..].to_vec();
            let out = machine.pass(0, packet);
            assert_eq!(out[out.len() - inner.len()..], inner);
        }
    }
}

#[test]
fn with_a_full_table_new_flows_go_by_maglev_alone_and_are_counted() {
    let mut machine = Machine::new(cluster(1, vec![service_in(Mode::DsrIpip, VIP, &BACKENDS4)]));
    // An established session never gives way.
    let mut flows = (0..).map(|n: u32| (format!("192.0.2.{}", 1 + n % 250), 1024 + (n / 250) as u16));
    while machine.total(|c| c.sessions.get()) < 4096 {
        let packets: Vec<_> =
            flows.by_ref().take(256).map(|(ip, port)| segment((&ip, port), (VIP, 80), "A", &[], 0)).collect();
        // The second segment establishes them.
        for _ in 0..2 {
            assert_eq!(machine.feed(0, 0, &packets).len(), 256);
        }
    }
    let before = machine.total(|c| c.unremembered.get());
    let (packet, inner) = sent(VIP, "198.51.100.9", 7, "S", 0);
    let first = machine.pass(0, packet.clone());
    assert_eq!(behind_outer(&first, backend_of(&first[..6], &BACKENDS4), 4, 0), inner);
    assert_eq!(machine.pass(0, packet), first, "the same backend without a session");
    assert_eq!(machine.total(|c| c.unremembered.get()), before + 2);
    assert_eq!(machine.total(|c| c.sessions.get()), 4096);
}
