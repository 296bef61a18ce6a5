use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use proptest::prelude::*;
use sluice_config::model::{Mac, Vni};

use super::*;
use crate::wire::{gue, ipip, vxlan};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ipip,
    Gue,
    Vxlan,
}

fn template(kind: Kind, outer: Outer, family: Family) -> Template {
    match kind {
        Kind::Ipip => ipip::template(outer, family),
        Kind::Gue => gue::template(outer, family, gue::PORT),
        Kind::Vxlan => vxlan::template(outer, family, 4789, Vni::new(1024).unwrap(), Mac([2; 6]), Mac([4; 6])),
    }
}

/// A TCP or UDP packet with an ECN field.
fn inner(family: Family, tcp: bool, ecn: u8, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = match family {
        Family::V4 => PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9),
        Family::V6 => PacketBuilder::ipv6([0x20; 16], [0x21; 16], 9),
    };
    match tcp {
        true => builder.tcp(ports.0, ports.1, 7, 8).write(&mut bytes, payload).unwrap(),
        false => builder.udp(ports.0, ports.1).write(&mut bytes, payload).unwrap(),
    }
    match family {
        Family::V4 => ip4::set_ecn(&mut bytes, ecn),
        Family::V6 => bytes[1] |= ecn << 4,
    }
    bytes
}

fn outer(v6: bool) -> Outer {
    match v6 {
        false => Outer::V4 { source: 0xc0a8_0001, destination: 0xc0a8_0002 },
        true => Outer::V6 { source: 0xfd00 << 112 | 1, destination: 0xfd00 << 112 | 2 },
    }
}

fn encapsulated(template: &Template, inner: &[u8], entropy: u16) -> Vec<u8> {
    let mut packet = vec![0xee; template.len()];
    packet.extend(inner);
    template.write(&mut packet, entropy);
    packet
}

/// Whether a UDP packet over IPv6 has a right checksum.
fn sound6(packet: &[u8]) -> bool {
    fold(sum(&packet[8..], (packet.len() - 40) as u64 + u64::from(UDP))) == 0xffff
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Ipip), Just(Kind::Gue), Just(Kind::Vxlan)]
}

fn families() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

proptest! {
    #[test]
    fn every_front_is_what_another_parser_expects(
        kind in kinds(), family in families(), v6: bool, tcp: bool, ecn in 0u8..4, entropy: u16, ports: (u16, u16),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let inner = inner(family, tcp, ecn, ports, &payload);
        let template = template(kind, outer(v6), family);
        let packet = encapsulated(&template, &inner, entropy);
        prop_assert_eq!(&packet[template.len()..], &inner[..], "the inner packet is not touched");
        let headers = PacketHeaders::from_ip_slice(&packet).unwrap();
        let udp = match kind { Kind::Ipip => None, Kind::Gue => Some(6080), Kind::Vxlan => Some(4789) };
        let protocol = if udp.is_some() { UDP } else { family.protocol() };
        match headers.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                prop_assert_eq!((ip.source, ip.destination), ([192, 168, 0, 1], [192, 168, 0, 2]));
                prop_assert_eq!((usize::from(ip.total_len), ip.time_to_live, ip.protocol.0), (packet.len(), 64, protocol));
                prop_assert!(ip.dont_fragment && ip.ecn.value() == ecn && ip.dscp.value() == 0);
                prop_assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
            }
            NetHeaders::Ipv6(ip, _) => {
                prop_assert_eq!((ip.source[15], ip.destination[15], ip.source[0]), (1, 2, 0xfd));
                prop_assert_eq!(usize::from(ip.payload_length), packet.len() - 40);
                prop_assert_eq!((ip.hop_limit, ip.next_header.0, ip.traffic_class), (64, protocol, ecn));
                prop_assert_eq!(ip.flow_label.value(), u32::from(entropy));
            }
            NetHeaders::Arp(_) => panic!("not IP"),
        }
        let Some(port) = udp else { return Ok(()) };
        let Some(TransportHeader::Udp(header)) = headers.transport else { panic!("no UDP") };
        prop_assert_eq!((header.destination_port, header.source_port), (port, 49152 | entropy & 0x3fff));
        prop_assert_eq!(usize::from(header.length), packet.len() - if v6 { 40 } else { 20 });
        let right = if v6 { header.checksum != 0 && sound6(&packet) } else { header.checksum == 0 };
        prop_assert!(right);
    }

    #[test]
    fn a_wrong_sum_inside_is_a_wrong_sum_outside(family in families(), tcp: bool, at in 0usize..20, bit in 0u8..8) {
        let mut inner = inner(family, tcp, 0, (1, 2), &[7; 20]);
        let (l4, end) = (if let Family::V4 = family { 20 } else { 40 }, inner.len());
        inner[end - 1 - at] ^= 1 << bit;
        prop_assert!(end - 1 - at >= l4);
        prop_assert!(!sound6(&encapsulated(&template(Kind::Gue, outer(true), family), &inner, 9)));
    }

    #[test]
    fn what_has_no_sum_to_derive_from_is_summed(
        family in families(), entropy: u16, payload in prop::collection::vec(any::<u8>(), 0..60), change in 0usize..6,
    ) {
        let mut inner = inner(family, false, 1, (1, 2), &payload);
        let l4 = if let Family::V4 = family { 20 } else { 40 };
        match (change, family) {
            (0, _) => put(&mut inner, l4 + 6, [0, 0]),
            (1, Family::V4) => inner[9] = 132,
            (1, Family::V6) => inner[6] = 44,
            (2, Family::V4) => inner[6] = 0x20,
            (3, _) => inner.extend([1, 2, 3]),
            (4, _) => put(&mut inner, l4 + 4, [0, 8]),
            _ => {}
        }
        let packet = encapsulated(&template(Kind::Vxlan, outer(true), family), &inner, entropy);
        // Case 4 cuts the UDP length of a packet with payload, whose rest no checksum covers.
        let derivable = change == 5 || (change == 4 && payload.is_empty()) || (change == 2 && family == Family::V6);
        prop_assert!(derivable || inner_sum(family, &inner) == sum(&inner, 0));
        prop_assert!(sound6(&packet));
    }

    #[test]
    fn no_octets_make_it_panic(kind in kinds(), family in families(), v6: bool, mut bytes: Vec<u8>, entropy: u16) {
        template(kind, outer(v6), family).write(&mut bytes, entropy);
        let _ = inner_sum(family, &bytes);
    }
}

#[test]
fn fronts_have_the_lengths_of_their_headers() {
    let len = |kind, v6| template(kind, outer(v6), Family::V4).len();
    assert_eq!([len(Kind::Ipip, false), len(Kind::Gue, false), len(Kind::Vxlan, false)], [20, 32, 50]);
    assert_eq!([len(Kind::Ipip, true), len(Kind::Gue, true), len(Kind::Vxlan, true)], [40, 52, 70]);
}

#[test]
fn the_header_behind_udp_names_the_inner_packet() {
    for (family, protocol, ether_type) in [(Family::V4, 4, [8, 0]), (Family::V6, 41, [0x86, 0xdd])] {
        let inner = inner(family, true, 0, (1, 2), &[]);
        let gue = encapsulated(&template(Kind::Gue, outer(false), family), &inner, 1);
        assert_eq!(gue[28..32], [0, protocol, 0, 0]);
        let vxlan = encapsulated(&template(Kind::Vxlan, outer(false), family), &inner, 1);
        assert_eq!(vxlan::vni(&vxlan[28..]), Vni::new(1024));
        assert_eq!(vxlan[36..48], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]);
        assert_eq!(vxlan[48..50], ether_type);
    }
}
