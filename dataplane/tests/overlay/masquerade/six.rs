//! The same of IPv6.

use std::net::IpAddr;

use etherparse::{PacketBuilder, PacketHeaders, TransportHeader};

use super::*;
use crate::common::six::{CLIENT6, SNAT6, ip6, tcp6};

const INSIDE: &str = "fd01:b::1:0:0:7";
const SERVED: &str = "2001:db8::11";

fn cluster6(workers: usize) -> Desired {
    let mut desired = cluster(workers);
    let shared = &mut desired.shared;
    shared.networks[0].subnet6 = "fd01:b::/64".parse().ok();
    shared.networks[0].prefix6 = 80;
    for (agent, n) in shared.agents.iter_mut().zip(1..) {
        agent.subnets6 = [("dcos".into(), format!("fd01:b::{n}:0:0:0/80").parse().unwrap())].into();
    }
    let local = &mut desired.local;
    local.snat_underlay6 = vec![ip6(SNAT6)];
    local.ports[0].addresses6 = vec!["2001:db8::9/64".parse().unwrap()];
    for (address, mac) in [("2001:db8::1", ROUTER), (SERVED, AGENT[0])] {
        local.neighbours.push(Neighbour { ip: ip6(address).into(), mac, port: 0 });
    }
    local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    local.routes.push(Route { prefix: "::/0".parse().unwrap(), via: Some(ip6("2001:db8::1").into()), port: 0 });
    desired
}

/// Both ends of a packet whose transport checksum is right; of an echo message its identifier twice.
fn ends6(packet: &[u8]) -> [(IpAddr, u16); 2] {
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let Some(etherparse::NetHeaders::Ipv6(ip, _)) = headers.net else { panic!("not IPv6") };
    let payload = headers.payload.slice();
    let (source, destination) = match headers.transport.unwrap() {
        TransportHeader::Tcp(tcp) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload).unwrap());
            (tcp.source_port, tcp.destination_port)
        }
        TransportHeader::Udp(udp) => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv6(&ip, payload).unwrap());
            (udp.source_port, udp.destination_port)
        }
        TransportHeader::Icmpv6(icmp) => {
            let sum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload).unwrap();
            assert_eq!(icmp.checksum, sum);
            (id6(packet), id6(packet))
        }
        TransportHeader::Icmpv4(_) | TransportHeader::Igmp(_) => panic!("of IPv4"),
    };
    [(ip.source.into(), source), (ip.destination.into(), destination)]
}

fn id6(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[58], packet[59]])
}

fn echo6(source: &str, destination: &str, id: u16, reply: bool) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0).ipv6(ip6(source).octets(), ip6(destination).octets(), 64);
    let mut packet = vec![];
    match reply {
        true => builder.icmpv6_echo_reply(id, 2).write(&mut packet, b"echo").unwrap(),
        false => builder.icmpv6_echo_request(id, 2).write(&mut packet, b"echo").unwrap(),
    }
    packet
}

#[test]
fn it_is_as_over_ipv4() {
    let mut machine = Machine::new(cluster6(2));
    let to = |text: &str, port: u16| (IpAddr::from(ip6(text)), port);
    for (far, worker) in [(CLIENT6, 0), (SERVED, 1)] {
        let out = machine.pass(worker, vxlan(1, 1024, &tcp6((INSIDE, 5000), (far, 80), true)));
        let [ours, there] = ends6(&out);
        assert_eq!((ours.0, there, out[21]), (IpAddr::from(ip6(SNAT6)), to(far, 80), 63));
        let back = machine.pass(1 - worker, tcp6((far, 80), (SNAT6, ours.1), false));
        assert_eq!((ends(&back).1.0.as_str(), ends6(&back[50..])), ("10.0.0.11", [to(far, 80), to(INSIDE, 5000)]));
        machine.refuse(worker, 0, tcp6((far, 81), (SNAT6, ours.1), false), R::SnatNoSession);
        let out = machine.pass(worker, vxlan(1, 1024, &echo6(INSIDE, far, 7, false)));
        let [(ours, id), _] = ends6(&out);
        assert_eq!(ours, IpAddr::from(ip6(SNAT6)));
        let back = machine.pass(worker, echo6(far, SNAT6, id, true));
        assert_eq!(ends6(&back[50..])[1], to(INSIDE, 7));
    }
    // From outside as it is, and the answer too.
    machine.pass(0, tcp6((CLIENT6, 6000), (INSIDE, 80), true));
    let back = machine.pass(1, vxlan(1, 1024, &tcp6((INSIDE, 80), (CLIENT6, 6000), false)));
    assert_eq!(ends6(&back)[0], to(INSIDE, 80));
    assert_eq!(machine.total(|c| c.masquerade_flows.get()), 4);
}

#[test]
fn errors_come_back_and_without_an_address_nothing_leaves() {
    let mut machine = Machine::new(cluster6(1));
    let out = machine.pass(0, vxlan(1, 1024, &echo6(INSIDE, CLIENT6, 7, false)));
    let error = {
        let builder =
            PacketBuilder::ethernet2(ROUTER.0, OURS.0).ipv6(ip6("2001:db8:9::9").octets(), ip6(SNAT6).octets(), 60);
        let kind = etherparse::Icmpv6Type::TimeExceeded(etherparse::icmpv6::TimeExceededCode::HopLimitExceeded);
        let mut packet = vec![];
        builder.icmpv6(kind).write(&mut packet, &out[14..]).unwrap();
        packet
    };
    let told = machine.pass(0, error);
    let [(teller, _), (container, _)] = ends6(&told[50..]);
    assert_eq!((teller, container), (ip6("2001:db8:9::9").into(), ip6(INSIDE).into()));
    let quoted = &told[50 + 62 - 14..];
    let sent = echo6(INSIDE, CLIENT6, 7, false);
    assert_eq!((&quoted[14 + 8..], quoted[14 + 7]), (&sent[14 + 8..], 63));
    let mut desired = cluster6(1);
    desired.local.snat_underlay6 = vec![];
    let mut machine = Machine::new(desired);
    machine.refuse(0, 0, vxlan(1, 1024, &tcp6((INSIDE, 5000), (CLIENT6, 80), true)), R::NoSnat);
}
