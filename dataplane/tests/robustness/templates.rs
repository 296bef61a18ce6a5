//! Rows 1 and 2: one packet of every kind, cut and mutated.

use etherparse::{Icmpv6Type, PacketBuilder, TcpOptionElement};
use proptest::prelude::*;

use super::*;

const SIX: (&str, &str) = ("2001:db8::7", "fd01:c::80");

/// The usual cluster with an SCTP service and an IPv6 one.
pub(super) fn cluster(workers: usize) -> Desired {
    let mut desired = desired(workers);
    let vip6: std::net::IpAddr = SIX.1.parse().unwrap();
    desired.shared.services.push(service(Protocol::Sctp, VIP, 2905, vec![backend("10.0.0.11:29050", None)]));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let key = VipKey { protocol, ip: vip6, port: 80 };
        desired.shared.services.push(Service::plain(key, vec![backend("[2001:db8::11]:31000", None)]));
    }
    desired.local.snat_underlay6 = vec!["2001:db8::100".parse().unwrap()];
    let local = &mut desired.local;
    local.ports[0].addresses6 = vec!["2001:db8::9/64".parse().unwrap()];
    for address in ["2001:db8::7", "2001:db8::11"] {
        local.neighbours.push(Neighbour { ip: address.parse().unwrap(), mac: ROUTER, port: 0 });
    }
    local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    desired
}

/// A SYN with extension headers (what each says follows it aside), the last of them first.
pub(super) fn tcp6(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let parse = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut packet = vec![];
    PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv6(parse(SIX.0), parse(SIX.1), 64)
        .tcp(5000, 80, 1, 1000)
        .syn()
        .write(&mut packet, b"payload")
        .unwrap();
    for (kind, octets) in extensions {
        let follows = packet[20];
        packet[20] = *kind;
        packet.splice(54..54, [&[follows], &octets[1..]].concat());
        let length = packet.len() as u16 - 54;
        packet[18..20].copy_from_slice(&length.to_be_bytes());
    }
    packet
}

/// About sixty kinds of packets, all of them whole and without padding.
fn templates() -> Vec<Vec<u8>> {
    let mut all = vec![];
    for flags in ["S", "SA", "A", "FA", "R", "RA"] {
        all.push(tcp((CLIENT, 5000), (VIP, 80), flags));
        all.push(tcp((CLIENT, 5001), (NAMED, 80), flags));
    }
    let options = [TcpOptionElement::MaximumSegmentSize(1460), TcpOptionElement::WindowScale(7)];
    let mut optional = vec![];
    PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv4(ip(CLIENT).octets(), ip(VIP).octets(), 64)
        .tcp(5002, 80, 1, 1000)
        .syn()
        .options(&options)
        .unwrap()
        .write(&mut optional, b"")
        .unwrap();
    all.push(optional);
    for size in [0, 1, 7, 40] {
        all.push(udp((CLIENT, 5000), (VIP, 53), &vec![7; size]));
    }
    all.push(udp(
        (CLIENT, 5000),
        ("198.51.100.1", 53),
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x05mesos\0\0\x01\0\x01",
    ));
    all.extend([ping(CLIENT, VIP), ping(CLIENT, NAMED), ping(CLIENT, "198.51.100.1"), ping(CLIENT, "10.0.0.100")]);
    for kind in [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 192] {
        let sctp = sctp_packet(5000, 2905, u32::from(kind != 1), &[kind, 0, 0, 8, 0, 0, 0, 1]);
        all.push(ip_packet((CLIENT, VIP), &sctp));
    }
    for (address, port) in [("10.0.0.11", 31000), ("10.0.0.12", 31001)] {
        all.push(tcp((address, port), ("10.0.0.100", 2000), "A"));
    }
    let inner: Vec<_> = [
        tcp(("9.0.1.7", 7000), (VIP, 80), "S"),
        tcp(("9.0.1.7", 7000), ("9.0.2.3", 80), "S"),
        tcp(("9.0.1.7", 7000), ("9.0.9.1", 80), "A"),
        udp(("9.0.1.7", 7000), (VIP, 53), b"hello"),
        ping("9.0.1.7", VIP),
        ping("9.0.1.7", "9.0.2.3"),
        vxlan(1, 1024, &ping("9.0.1.7", VIP)),
    ]
    .iter()
    .map(|inner| vxlan(1, 1024, inner))
    .collect();
    all.extend(inner);
    for protocol in [2, 4, 41, 47, 50, 89] {
        all.push(edited(&udp((CLIENT, 5000), (VIP, 53), b"hello"), 23, &[protocol]));
    }
    all.push(tcp6(&[]));
    for kind in [0, 43, 60, 44] {
        all.push(tcp6(&[(kind, &[0, 0, 1, 0, 0, 0, 0, 0][..])]));
    }
    all.push(tcp6(&[(60, &[0, 0, 1, 4, 0, 0, 0, 0]), (0, &[0, 0, 1, 4, 0, 0, 0, 0])]));
    let parse = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    for kind in [128, 129, 1, 2, 3, 135] {
        let kind = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] };
        let mut packet = vec![];
        PacketBuilder::ethernet2(ROUTER.0, OURS.0)
            .ipv6(parse(SIX.0), parse(SIX.1), 255)
            .icmpv6(kind)
            .write(&mut packet, &parse(SIX.1))
            .unwrap();
        all.push(packet);
    }
    for tags in [&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]] {
        let plain = tcp((CLIENT, 5003), (VIP, 80), "S");
        all.push([&plain[..12], tags, &plain[12..]].concat());
    }
    let mut arp = [[0xff; 6], ROUTER.0].concat();
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 172, 16, 0, 1]);
    all.push(arp);
    all
}

#[test]
fn row_1_a_frame_cut_at_any_octet_is_one_counted_drop() {
    let templates = templates();
    assert!(templates.len() >= 60, "{} templates", templates.len());
    let mut machine = Machine::new(cluster(1));
    for (number, template) in templates.iter().enumerate() {
        for length in 0..template.len() {
            let before = machine.total(|c| c.dropped());
            let left = machine.feed(0, 0, &[template[..length].to_vec()]);
            let dropped = machine.total(|c| c.dropped()) - before;
            assert_eq!((left.len(), dropped), (0, 1), "template {number} cut to {length} octets");
        }
        machine.feed(0, 0, std::slice::from_ref(template));
    }
    assert_eq!(machine.drops(DropReason::Undecided), 0);
}

proptest! {
    #[test]
    fn row_2_mutated_packets_end_counted_and_lose_no_frame(
        choices in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5), 0usize..2, any::<bool>()),
            1..60,
        ),
    ) {
        let mut machine = Machine::new(cluster(2));
        let templates = templates();
        for (template, edits, port, sum) in choices {
            let mut packet = template.get(&templates).clone();
            for (at, value) in edits {
                let at = at.index(packet.len());
                packet[at] = value;
            }
            let whole = packet.len() >= 14 + usize::from(packet[14] & 15) * 4 && packet[14] & 15 >= 5;
            if sum && whole && packet[12..14] == [8, 0] {
                packet = summed(packet);
            }
            // `feed` checks books and frames.
            machine.feed(packet.len() % 2, port, &[packet]);
        }
        prop_assert_eq!(machine.drops(DropReason::Undecided), 0);
    }
}
