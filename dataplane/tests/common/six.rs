//! The IPv6 part of the small cluster: a TCP and a UDP service of one backend.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use sluice_config::model::*;

use super::{AGENT, OURS, ROUTER, backend, desired};

pub const VIP6: &str = "fd01:c::80";
pub const SNAT6: &str = "2001:db8::100";
pub const CLIENT6: &str = "2001:db8:ffff::7";
pub const BACKEND6: &str = "2001:db8::11";

pub fn ip6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub fn desired6(workers: usize) -> Desired {
    let mut desired = desired(workers);
    let service = |protocol, port| {
        let key = VipKey { protocol, ip: ip6(VIP6).into(), port };
        Service::plain(key, vec![backend(&format!("[{BACKEND6}]:31000"), None)])
    };
    desired.shared.services.extend([service(Protocol::Tcp, 80), service(Protocol::Udp, 53)]);
    let local = &mut desired.local;
    local.snat_underlay6 = vec![ip6(SNAT6)];
    local.ports[0].addresses6 = vec!["2001:db8::9/64".parse().unwrap()];
    local.neighbours.push(Neighbour { ip: ip6("2001:db8::1").into(), mac: ROUTER, port: 0 });
    local.neighbours.push(Neighbour { ip: ip6(BACKEND6).into(), mac: AGENT[0], port: 0 });
    local.routes.push(Route { prefix: "2001:db8::/64".parse().unwrap(), via: None, port: 0 });
    local.routes.push(Route { prefix: "::/0".parse().unwrap(), via: Some(ip6("2001:db8::1").into()), port: 0 });
    desired
}

pub fn tcp6(source: (&str, u16), destination: (&str, u16), syn: bool) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv6(ip6(source.0).octets(), ip6(destination.0).octets(), 64)
        .tcp(source.1, destination.1, 1, 1000);
    let builder = if syn { builder.syn() } else { builder.ack(1) };
    let mut packet = vec![];
    builder.write(&mut packet, b"payload").unwrap();
    packet
}
