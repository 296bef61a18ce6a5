//! Several networks, each with a VNI, a port and an MTU of its own; IPv6 inside; what is spoofed.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use sluice_config::model::*;
use sluice_dataplane::counters::Counters;
use sluice_dataplane::verdict::DropReason as R;

use crate::common::six::{CLIENT6, ip6};
use crate::common::*;

const VIP6: &str = "fd01:c::80";

/// `dcos` as it is everywhere, and `lab` with a VNI, a port and an MTU of its own; both have IPv6.
fn cluster() -> Desired {
    let mut desired = desired(1);
    let shared = &mut desired.shared;
    shared.networks[0].subnet = "9.0.0.0/9".parse().unwrap();
    let six = |n: u8| format!("fd01:b:{n}::/64").parse().ok();
    shared.networks[0] = OverlayNetwork { subnet6: six(0), prefix6: 80, ..shared.networks[0].clone() };
    shared.networks.push(OverlayNetwork {
        name: "lab".into(),
        subnet: "9.128.0.0/9".parse().unwrap(),
        prefix: 24,
        subnet6: six(1),
        prefix6: 80,
        vni: Vni::new(7),
        udp_port: Some(4789),
        mtu: Some(1300),
        ..OverlayNetwork::default()
    });
    for (agent, n) in shared.agents.iter_mut().zip(1..) {
        agent.subnets.insert("lab".into(), format!("9.128.{n}.0/24").parse().unwrap());
        let six = |net: u8| format!("fd01:b:{net}:0:{n}::/80").parse().unwrap();
        agent.subnets6 = [("dcos".into(), six(0)), ("lab".into(), six(1))].into();
    }
    let key = VipKey { protocol: Protocol::Tcp, ip: ip6(VIP6).into(), port: 80 };
    shared.services.push(Service::plain(key, vec![backend("[fd01:b::2:0:0:2]:80", Some("dcos"))]));
    let local = &mut desired.local;
    local.snat_overlay6 = vec![ip6("fd01:b::9:0:0:2")];
    local.snat_underlay6 = vec![ip6("2001:db8::100")];
    local.ports[0].addresses6 = vec!["2001:db8::9/64".parse().unwrap()];
    local.neighbours.push(Neighbour { ip: ip6("2001:db8::1").into(), mac: ROUTER, port: 0 });
    local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    local.routes.push(Route { prefix: "::/0".parse().unwrap(), via: Some(ip6("2001:db8::1").into()), port: 0 });
    local.vtep.as_mut().unwrap().host_addresses.push(ip6("fd01:b::9:0:0:1").into());
    desired
}

/// As `vxlan`, on a port.
fn on(port: u16, n: u8, vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut packet = vxlan(n, vni, inner);
    packet[36..38].copy_from_slice(&port.to_be_bytes());
    packet[40..42].fill(0);
    packet
}

fn packet6(source: &str, destination: &str, hops: u8, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv6(ip6(source).octets(), ip6(destination).octets(), hops)
        .udp(7000, 80);
    let mut packet = vec![];
    builder.write(&mut packet, &vec![7; payload]).unwrap();
    packet
}

fn tcp6(source: (&str, u16), destination: (&str, u16), flags: (bool, bool)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv6(ip6(source.0).octets(), ip6(destination.0).octets(), 64)
        .tcp(source.1, destination.1, 1, 1000);
    let builder = if flags.0 { builder.syn() } else { builder };
    let builder = if flags.1 { builder.ack(1) } else { builder };
    let mut packet = vec![];
    builder.write(&mut packet, b"payload").unwrap();
    packet
}

/// VNI, outer destination and port of what left in a tunnel.
fn outer(packet: &[u8]) -> (u32, (String, u16)) {
    (u32::from_be_bytes(packet[46..50].try_into().unwrap()) >> 8, ends(packet).1)
}

fn ends6(packet: &[u8]) -> [IpAddr; 2] {
    let at = |i: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[i..i + 16]).unwrap());
    [at(22), at(38)]
}

#[test]
fn each_network_has_its_vni_and_its_port() {
    let mut machine = Machine::new(cluster());
    let there = machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.7", 7000), ("9.0.2.7", 80), "S")));
    assert_eq!(outer(&there), (1024, ("10.0.0.12".into(), 64000)));
    let there = machine.pass(0, on(4789, 1, 7, &tcp(("9.128.1.7", 7000), ("9.128.2.7", 80), "S")));
    assert_eq!(outer(&there), (7, ("10.0.0.12".into(), 4789)));
    check_sums(&there[50..]);
    // From one network to the other, as on one switch.
    let there = machine.pass(0, on(4789, 1, 7, &tcp(("9.128.1.7", 7000), ("9.0.2.7", 80), "S")));
    assert_eq!(outer(&there), (1024, ("10.0.0.12".into(), 64000)));
}

#[test]
fn packets_are_counted_by_network_whatever_networks_come_and_go() {
    let mut machine = Machine::new(cluster());
    let count = |machine: &Machine, name: &str| {
        let place = machine.tables.overlay.places().find(|(known, _)| *known == name).unwrap().1;
        let of = |c: &Counters| (c.networks[usize::from(place)].rx.get(), c.networks[usize::from(place)].tx.get());
        (machine.total(|c| of(c).0), machine.total(|c| of(c).1))
    };
    machine.pass(0, vxlan(1, 1024, &tcp(("9.0.1.7", 7000), ("9.0.2.7", 80), "A")));
    machine.pass(0, on(4789, 1, 7, &packet6("fd01:b:1:0:1::7", "fd01:b:1:0:2::7", 64, 20)));
    machine.pass(0, on(4789, 1, 7, &tcp(("9.128.1.7", 7000), ("9.128.2.7", 80), "S")));
    // From one network to another, and from a VIP: each counts what it sends and what it gets.
    machine.pass(0, on(4789, 1, 7, &tcp(("9.128.1.7", 7000), ("9.0.2.7", 80), "A")));
    machine.pass(0, tcp((CLIENT, 7000), (NAMED, 80), "S"));
    assert_eq!((count(&machine, "dcos"), count(&machine, "lab")), ((1, 3), (3, 2)));
    let mut other = cluster();
    other.shared.networks.remove(0);
    machine.publish(other);
    machine.pass(0, on(4789, 1, 7, &tcp(("9.128.1.7", 7000), ("9.128.2.7", 80), "A")));
    assert_eq!((count(&machine, "dcos"), count(&machine, "lab")), ((1, 3), (4, 3)));
}

#[test]
fn a_vni_of_another_port_and_a_source_of_another_network_are_refused() {
    let mut machine = Machine::new(cluster());
    let of = |source: &str| tcp((source, 7000), ("9.0.2.7", 80), "S");
    machine.refuse(0, 0, on(64000, 1, 7, &of("9.128.1.7")), R::VxlanUnknownVni);
    machine.refuse(0, 0, on(4789, 1, 1024, &of("9.0.1.7")), R::VxlanUnknownVni);
    machine.refuse(0, 0, on(64000, 1, 9, &of("9.0.1.7")), R::VxlanUnknownVni);
    machine.refuse(0, 0, on(4789, 1, 7, &of("9.0.1.7")), R::OverlaySpoof);
    machine.refuse(0, 0, vxlan(1, 1024, &of("9.128.1.7")), R::OverlaySpoof);
    machine.refuse(0, 0, vxlan(1, 1024, &of("9.0.2.8")), R::OverlaySpoof);
    machine.refuse(0, 0, vxlan(7, 1024, &of("9.0.1.7")), R::VxlanUnknownVtep);
    let mut only_dcos = cluster();
    only_dcos.shared.agents[0].subnets.remove("lab");
    only_dcos.shared.agents[0].subnets6.remove("lab");
    machine.publish(only_dcos);
    machine.refuse(0, 0, on(4789, 1, 7, &of("9.128.1.7")), R::VxlanUnknownVni);
}

#[test]
fn a_tunnel_in_a_tunnel_is_refused() {
    let mut machine = Machine::new(cluster());
    let mut inner = vxlan(1, 1024, &tcp(("9.0.1.7", 7000), ("9.0.2.7", 80), "S"));
    for destination in ["10.0.0.9", "10.0.0.12"] {
        inner[26..30].copy_from_slice(&ip("9.0.1.7").octets());
        inner[30..34].copy_from_slice(&ip(destination).octets());
        inner[24..26].fill(0);
        let sum = etherparse::Ipv4Header::from_slice(&inner[14..]).unwrap().0.calc_header_checksum();
        inner[24..26].copy_from_slice(&sum.to_be_bytes());
        machine.refuse(0, 0, vxlan(1, 1024, &inner), R::VxlanNested);
    }
}

#[test]
fn a_network_has_its_mtu_and_says_so() {
    let mut machine = Machine::new(cluster());
    let big = udp(("9.0.1.7", 7000), ("9.128.2.7", 80), &[7; 1273]);
    let mut big: Vec<u8> = big;
    big[20] = 0x40;
    big[24..26].fill(0);
    let sum = etherparse::Ipv4Header::from_slice(&big[14..]).unwrap().0.calc_header_checksum();
    big[24..26].copy_from_slice(&sum.to_be_bytes());
    let told = machine.pass(0, vxlan(1, 1024, &big));
    assert_eq!(outer(&told), (1024, ("10.0.0.11".into(), 64000)));
    let inner = &told[50 + 14..];
    assert_eq!((inner[20], inner[21], u16::from_be_bytes([inner[26], inner[27]])), (3, 4, 1300));
    let told = machine.pass(0, vxlan(1, 1024, &packet6("fd01:b::1:0:0:7", "fd01:b:1:0:2::7", 64, 1253)));
    let inner = &told[50 + 14..];
    assert_eq!((inner[6], inner[40], u32::from_be_bytes(inner[44..48].try_into().unwrap())), (58, 2, 1300));
    assert_eq!(ends6(&told[50..]), [ip6("fd01:b::9:0:0:1").into(), IpAddr::from(ip6("fd01:b::1:0:0:7"))]);
    machine.pass(0, vxlan(1, 1024, &packet6("fd01:b::1:0:0:7", "fd01:b:1:0:2::7", 64, 1252)));
    assert_eq!(machine.total(|c| c.dropped()), 0);
}

#[test]
fn both_ends_of_a_handshake_are_told_the_narrower_network() {
    let mut machine = Machine::new(cluster());
    let mss = |from: &str, to: &str, flags: &str| {
        let mut packet = tcp((from, 7000), (to, 80), flags);
        packet.splice(54..54, [2, 4, 5, 180]);
        packet[46] = 0x60;
        let length = u16::from_be_bytes([packet[16], packet[17]]) + 4;
        packet[16..18].copy_from_slice(&length.to_be_bytes());
        packet[24..26].fill(0);
        let (header, _) = etherparse::Ipv4Header::from_slice(&packet[14..]).unwrap();
        packet[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        let tcp = etherparse::TcpHeader::from_slice(&packet[34..]).unwrap().0;
        let sum = tcp.calc_checksum_ipv4(&header, &packet[58..]).unwrap();
        packet[50..52].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    for (n, from, to, flags) in [(1, "9.0.1.7", "9.128.2.7", "S"), (2, "9.128.2.7", "9.0.1.7", "SA")] {
        let packet = mss(from, to, flags);
        let sent = if n == 1 { vxlan(1, 1024, &packet) } else { on(4789, 2, 7, &packet) };
        let there = machine.pass(0, sent);
        check_sums(&there[50..]);
        assert_eq!(u16::from_be_bytes([there[50 + 56], there[50 + 57]]), 1260);
    }
    assert_eq!(machine.total(|c| c.mss_clamped.get()), 2);
    let there = machine.pass(0, vxlan(1, 1024, &mss("9.0.1.7", "9.0.2.7", "S")));
    assert_eq!(u16::from_be_bytes([there[50 + 56], there[50 + 57]]), 1410);
}

/// The answer to a question about 200 addresses from a container that takes 4096 octets, and whether it was cut.
fn answer(machine: &mut Machine, port: u16, (agent, vni): (u8, u32), from: &str) -> (usize, bool) {
    let question = [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1][..], b"\x04many\x05mesos\0", &[0, 1, 0, 1]].concat();
    let question = [&question[..], &[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]].concat();
    let told = machine.pass(0, on(port, agent, vni, &udp((from, 5000), ("198.51.100.1", 53), &question)));
    let inner = &told[50 + 14..];
    (usize::from(u16::from_be_bytes([inner[2], inner[3]])), inner[28 + 2] & 2 != 0)
}

#[test]
fn an_answer_to_a_container_fits_its_own_network() {
    let mut desired = cluster();
    let record = |n| Record { name: "many.mesos".into(), ttl: 60, data: RecordData::A(ip(&format!("10.0.1.{n}"))) };
    let records: Vec<Record> = (0..84).map(record).collect();
    desired.shared.zones =
        std::sync::Arc::new(vec![Zone { records: records.into(), ..Zone::new("mesos", "ns1.mesos") }]);
    desired.local.dns = LocalDns { edns_max: 4096, trust_overlay: true, ..LocalDns::default() };
    let mut machine = Machine::new(desired);
    // 28 octets of headers, 28 of the question, 16 for each address, 11 of OPT.
    assert_eq!(answer(&mut machine, 64_000, (1, 1024), "9.0.1.7"), (28 + 28 + 84 * 16 + 11, false));
    let (length, cut) = answer(&mut machine, 4789, (1, 7), "9.128.1.7");
    assert!(cut && length <= 1300, "{length}");
}

#[test]
fn containers_are_trusted_by_default_whichever_their_family_and_network() {
    let mut desired = cluster();
    desired.shared.networks[1].subnet6 = "2001:db8:b::/64".parse().ok();
    desired.local.dns = LocalDns { trust_overlay: true, ..LocalDns::default() };
    let trusts =
        |desired: &Desired, ip: &str| Machine::new(desired.clone()).tables.local.dns.trusts(ip.parse().unwrap());
    for ip in ["9.0.1.7", "9.128.1.7", "fd01:b::1:0:0:7", "2001:db8:b::1:0:0:7"] {
        assert!(trusts(&desired, ip), "{ip}");
    }
    assert!(!trusts(&desired, "2001:db8:c::1"));
    desired.local.dns.trust_overlay = false;
    assert!(!trusts(&desired, "2001:db8:b::1:0:0:7"), "`dns.trusted` says who is");
}

#[test]
fn who_asks_for_our_macs_in_a_tunnel_is_answered_in_it() {
    let mut machine = Machine::new(cluster());
    let request = |sender: &str, target: &str| {
        let head = [&[0xff; 6][..], &vtep_mac(2).0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        [&head, &vtep_mac(2).0[..], &ip(sender).octets(), &[0; 6], &ip(target).octets()].concat()
    };
    // The harness writes our MAC in front; a broadcast has none.
    let ask = |inner: &[u8]| {
        let mut packet = vxlan(1, 1024, inner);
        packet[50..56].copy_from_slice(&inner[..6]);
        packet
    };
    for target in ["44.128.0.9", "9.0.9.1", "9.0.9.2", VIP, "198.51.100.1"] {
        let told = machine.pass(0, ask(&request("44.128.0.2", target)));
        assert_eq!((ends(&told).0.0, ends(&told).1), ("10.0.0.9".into(), ("10.0.0.11".into(), 64000)));
        let inner = &told[50..];
        assert_eq!((&inner[..6], &inner[6..12], inner[21]), (&vtep_mac(2).0[..], &VTEP.0[..], 2));
        assert_eq!((&inner[22..28], &inner[28..32]), (&VTEP.0[..], &ip(target).octets()[..]));
        check_sums(&told);
    }
    for target in ["9.0.2.7", "44.128.0.3", "10.0.0.9"] {
        machine.refuse(0, 0, ask(&request("44.128.0.2", target)), R::ArpNotOurs);
    }
    machine.refuse(0, 0, ask(&request("9.0.2.7", "9.0.9.1")), R::OverlaySpoof);
    let solicit = |sender: &str, target: &str| {
        let icmp = etherparse::Icmpv6Type::Unknown { type_u8: 135, code_u8: 0, bytes5to8: [0; 4] };
        let mut frame = vec![];
        PacketBuilder::ethernet2(vtep_mac(2).0, [0x33, 0x33, 0xff, 0, 0, 1])
            .ipv6(ip6(sender).octets(), ip6(target).octets(), 255)
            .icmpv6(icmp)
            .write(&mut frame, &[&ip6(target).octets()[..], &[1, 1], &vtep_mac(2).0].concat())
            .unwrap();
        frame
    };
    let told = machine.pass(0, ask(&solicit("fd01:b::1:0:0:7", "fd01:b::9:0:0:1")));
    let inner = &told[50..];
    assert_eq!((inner[54], &inner[54 + 26..54 + 32]), (136, &VTEP.0[..]));
    assert_eq!(ends6(inner), [ip6("fd01:b::9:0:0:1"), ip6("fd01:b::1:0:0:7")].map(IpAddr::from));
    machine.refuse(0, 0, ask(&solicit("fd01:b::1:0:0:7", "fd01:b::2:0:0:1")), R::ArpNotOurs);
    machine.refuse(0, 0, ask(&solicit("fd01:b::2:0:0:7", "fd01:b::9:0:0:1")), R::OverlaySpoof);
}

#[test]
fn containers_reach_each_other_over_ipv6() {
    let mut machine = Machine::new(cluster());
    let there = machine.pass(0, vxlan(1, 1024, &packet6("fd01:b::1:0:0:7", "fd01:b::2:0:0:7", 64, 20)));
    assert_eq!(outer(&there), (1024, ("10.0.0.12".into(), 64000)));
    assert_eq!((there[50 + 12..50 + 14].to_vec(), there[50 + 14 + 7]), (vec![0x86, 0xdd], 63));
    let there = machine.pass(0, on(4789, 1, 7, &packet6("fd01:b:1:0:1::7", "fd01:b:1:0:2::7", 64, 20)));
    assert_eq!(outer(&there), (7, ("10.0.0.12".into(), 4789)));
    machine.refuse(0, 0, vxlan(1, 1024, &packet6("fd01:b::2:0:0:7", "fd01:b::2:0:0:8", 64, 20)), R::OverlaySpoof);
    machine.refuse(0, 0, packet6("fd01:b::1:0:0:7", "fd01:b::2:0:0:8", 64, 20), R::OverlaySpoof);
    machine.refuse(0, 0, vxlan(1, 1024, &packet6("fd01:b::1:0:0:7", "fd01:b::5:0:0:8", 64, 20)), R::NoAgent);
}

#[test]
fn a_vip_of_ipv6_has_its_backend_in_the_overlay() {
    let mut machine = Machine::new(cluster());
    for (client, sends) in [
        (CLIENT6, (|packet: &[u8]| packet.to_vec()) as fn(&[u8]) -> Vec<u8>),
        ("fd01:b::1:0:0:7", |packet| vxlan(1, 1024, packet)),
        // The backend itself.
        ("fd01:b::2:0:0:2", |packet| vxlan(2, 1024, packet)),
    ] {
        let there = machine.pass(0, sends(&tcp6((client, 7000), (VIP6, 80), (true, false))));
        assert_eq!(outer(&there), (1024, ("10.0.0.12".into(), 64000)));
        assert_eq!(ends6(&there[50..]), [ip6("fd01:b::9:0:0:2").into(), IpAddr::from(ip6("fd01:b::2:0:0:2"))]);
        let port = u16::from_be_bytes([there[50 + 54], there[50 + 55]]);
        let answer = tcp6(("fd01:b::2:0:0:2", 80), ("fd01:b::9:0:0:2", port), (true, true));
        let back = machine.pass(0, vxlan(2, 1024, &answer));
        let back = if client == CLIENT6 { &back[..] } else { &back[50..] };
        assert_eq!(ends6(back), [ip6(VIP6).into(), IpAddr::from(ip6(client))]);
    }
    // Not out of a tunnel it is forged.
    machine.refuse(0, 0, tcp6(("fd01:b::2:0:0:2", 80), ("fd01:b::9:0:0:2", 2000), (true, true)), R::OverlaySpoof);
}

#[test]
fn what_a_vip_sends_to_a_backend_comes_from_an_address_that_is_answered_in_the_same_tunnels() {
    let mut cluster = cluster();
    let shared = &mut cluster.shared;
    shared.networks[1].own = "9.128.9.0/24".parse().ok();
    let service = |vip: &str, to: &str, network: &str| {
        let key = VipKey { protocol: Protocol::Tcp, ip: ip(vip).into(), port: 80 };
        Service::plain(key, vec![backend(to, Some(network))])
    };
    shared.services.push(service("172.16.0.71", "9.0.2.7:80", "dcos"));
    shared.services.push(service("172.16.0.72", "9.128.2.7:80", "lab"));
    cluster.local.snat_overlay = vec![ip("9.0.9.2"), ip("9.128.9.2")];
    let mut machine = Machine::new(cluster.clone());
    // Many clients: the hash chooses among the addresses.
    for client in 7000..7016 {
        for (vip, backend, vni, port, source) in
            [("172.16.0.71", "9.0.2.7", 1024, 64000, "9.0.9.2"), ("172.16.0.72", "9.128.2.7", 7, 4789, "9.128.9.2")]
        {
            let there = machine.pass(0, tcp((CLIENT, client), (vip, 80), "S"));
            assert_eq!(outer(&there), (vni, ("10.0.0.12".into(), port)));
            let ((from, snat), to) = ends(&there[50..]);
            assert_eq!((from.as_str(), to), (source, (backend.into(), 80)));
            let back = machine.pass(0, on(port, 2, vni, &tcp((backend, 80), (source, snat), "SA")));
            assert_eq!(ends(&back), ((vip.into(), 80), (CLIENT.into(), client)));
        }
    }
    cluster.local.snat_overlay = vec![ip("9.0.9.2")];
    let mut machine = Machine::new(cluster);
    machine.pass(0, tcp((CLIENT, 7000), ("172.16.0.71", 80), "S"));
    machine.refuse(0, 0, tcp((CLIENT, 7000), ("172.16.0.72", 80), "S"), R::NoSnat);
}

#[test]
fn groups_hold_over_ipv6() {
    let mut grouped = cluster();
    let member =
        |ip: &str, group: &str| Container { ip: ip6(ip).into(), network: "dcos".into(), groups: vec![group.into()] };
    grouped.shared.containers =
        vec![member("fd01:b::1:0:0:7", "a"), member("fd01:b::2:0:0:2", "a"), member("fd01:b::2:0:0:8", "b")];
    let services: Vec<_> = grouped
        .shared
        .services
        .iter()
        .map(|service| {
            let mut service = Service::clone(service);
            service.backends.iter_mut().filter(|b| b.address.is_ipv6()).for_each(|b| b.groups = vec!["a".into()]);
            service
        })
        .collect();
    grouped.shared.services = services.into();
    let mut machine = Machine::new(quiet(grouped));
    let from = |source: &str, to: &str| vxlan(1, 1024, &tcp6((source, 7000), (to, 80), (true, false)));
    for (source, to, may) in [
        ("fd01:b::1:0:0:7", "fd01:b::2:0:0:2", true),
        ("fd01:b::1:0:0:7", VIP6, true),
        ("fd01:b::1:0:0:7", "fd01:b::2:0:0:8", false),
        ("fd01:b::1:0:0:7", "fd01:b::2:0:0:9", false),
        ("fd01:b::1:0:0:9", "fd01:b::2:0:0:2", false),
        ("fd01:b::1:0:0:9", VIP6, false),
        ("fd01:b::1:0:0:9", "fd01:b::2:0:0:9", true),
    ] {
        if may {
            machine.pass(0, from(source, to));
        } else {
            machine.refuse(0, 0, from(source, to), R::GroupDenied);
        }
    }
    machine.refuse(0, 0, tcp6((CLIENT6, 7000), (VIP6, 80), (true, false)), R::GroupUnderlay);
}
