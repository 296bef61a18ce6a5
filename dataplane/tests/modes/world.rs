//! The cluster of `common` with both families on it, and services in any mode.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::PacketBuilder;
use sluice_config::model::*;

use crate::common::*;

pub(crate) const VIP6: &str = "fd01:c::80";
pub(crate) const CLIENT6: &str = "2001:db8:ffff::7";
pub(crate) const OURS4: &str = "10.0.0.9";
pub(crate) const OURS6: &str = "2001:db8::9";
pub(crate) const BACKENDS4: [&str; 2] = ["10.0.0.11:80", "10.0.0.12:80"];
pub(crate) const BACKENDS6: [&str; 2] = ["[2001:db8::11]:80", "[2001:db8::12]:80"];
pub(crate) const OVERLAY: [&str; 2] = ["9.0.1.2:80", "9.0.2.2:80"];

pub(crate) fn ip6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A TCP service on port 80 of a VIP in a mode; what lies in 9/8 is in the overlay.
pub(crate) fn service_in(mode: Mode, vip: &str, backends: &[&str]) -> Service {
    let key = VipKey { protocol: Protocol::Tcp, ip: vip.parse().unwrap(), port: 80 };
    let network = |address: &str| address.starts_with("9.").then_some("dcos");
    let mut service = Service::plain(key, backends.iter().map(|b| backend(b, network(b))).collect());
    service.mode = mode;
    service
}

/// Only this service, on both families' underlay and the overlay.
pub(crate) fn cluster(workers: usize, services: Vec<Service>) -> Desired {
    let mut desired = desired(workers);
    desired.shared.services = services.into();
    let local = &mut desired.local;
    local.snat_underlay6 = vec![ip6("2001:db8::100")];
    local.ports[0].addresses6 = vec![format!("{OURS6}/64").parse().unwrap()];
    let six = |ip: &str, mac| Neighbour { ip: IpAddr::V6(ip6(ip)), mac, port: 0 };
    local.neighbours.extend([six("2001:db8::1", ROUTER), six("2001:db8::11", AGENT[0]), six("2001:db8::12", AGENT[1])]);
    local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    local.routes.push(Route { prefix: "::/0".parse().unwrap(), via: Some(ip6("2001:db8::1").into()), port: 0 });
    desired
}

/// A TCP packet of either family from the router; `options` are raw, a multiple of four octets.
pub(crate) fn segment(
    source: (&str, u16),
    destination: (&str, u16),
    flags: &str,
    options: &[u8],
    payload: usize,
) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(ROUTER.0, OURS.0);
    let ip = match (source.0.parse().unwrap(), destination.0.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        mixed => panic!("{mixed:?}"),
    };
    let mut tcp = ip.tcp(source.1, destination.1, 1, 1000);
    for flag in flags.chars() {
        tcp = match flag {
            'S' => tcp.syn(),
            'A' => tcp.ack(1),
            'F' => tcp.fin(),
            'R' => tcp.rst(),
            other => panic!("flag {other}"),
        };
    }
    let mut packet = vec![];
    tcp.options_raw(options).unwrap().write(&mut packet, &vec![0x5a; payload]).unwrap();
    packet
}

/// The same packet with a TTL or hop limit less by one and a header checksum computed anew.
pub(crate) fn hop_later(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match packet[12..14] {
        [8, 0] => {
            packet[22] -= 1;
            let sum = etherparse::Ipv4Header::from_slice(&packet[14..]).unwrap().0.calc_header_checksum();
            packet[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        _ => packet[21] -= 1,
    }
    packet
}

/// Source and destination of a TCP packet of either family whose checksums are right.
pub(crate) fn ends_of(packet: &[u8]) -> ((IpAddr, u16), (IpAddr, u16)) {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let Some(TransportHeader::Tcp(tcp)) = headers.transport else { panic!("not TCP") };
    let payload = headers.payload.slice();
    let (source, destination, sum): (IpAddr, IpAddr, _) = match headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            (ip.source.into(), ip.destination.into(), tcp.calc_checksum_ipv4(&ip, payload))
        }
        Some(NetHeaders::Ipv6(ip, _)) => {
            (ip.source.into(), ip.destination.into(), tcp.calc_checksum_ipv6(&ip, payload))
        }
        _ => panic!("not IP"),
    };
    assert_eq!(Ok(tcp.checksum), sum.map_err(|_| ()), "TCP checksum");
    ((source, tcp.source_port), (destination, tcp.destination_port))
}

/// An end as `ends_of` has it.
pub(crate) fn end(ip: &str, port: u16) -> (IpAddr, u16) {
    (ip.parse().unwrap(), port)
}

/// Every mode with VIP and backends of either family.
pub(crate) fn modes() -> Vec<(Mode, &'static str, [&'static str; 2])> {
    let mut all = vec![(Mode::DsrVxlan, VIP, OVERLAY), (Mode::DsrVxlan, VIP6, OVERLAY), (Mode::Nat, VIP, OVERLAY)];
    for mode in [Mode::Nat, Mode::NatPreserve, Mode::DsrIpip, Mode::DsrGue, Mode::DsrMac] {
        all.extend([(mode, VIP, BACKENDS4), (mode, VIP6, BACKENDS6)]);
    }
    all
}

pub(crate) fn client_of(vip: &str) -> &'static str {
    if vip == VIP { CLIENT } else { CLIENT6 }
}
