//! What a node is, from its configuration file alone: for `replay`, `compile` and tests, where no card is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use sluice_config::model::{Config, Local, LocalDns, LocalPort, Mac, Overlay, OwnVtep, Port, Role, Route};
use sluice_dataplane::wire::vxlan;

/// MTU of a port that names none (Ethernet).
pub(crate) const MTU: u16 = 1500;
/// SOA serial where no clock is asked.
const SERIAL: u32 = 1;

/// This node as the file describes it. A port without `mac` gets a locally administered one by its index; the host port,
/// where there is one, comes last.
#[must_use]
pub fn local_from_config(config: &Config) -> Local {
    let mut ports: Vec<LocalPort> = config.ports.iter().enumerate().map(|(i, p)| port(i, p)).collect();
    let host_port = config.host.as_ref().map(|_| {
        ports.push(LocalPort {
            name: "host".to_owned(),
            mac: made_up_mac(ports.len()),
            addresses: Vec::new(),
            addresses6: Vec::new(),
            mtu: overlay_mtu(config, underlay_mtus(&ports)),
            role: Role::Client,
            arp: true,
        });
        ports.len() - 1
    });
    Local {
        host_port,
        host_mac: host_port.map(|index| made_up_mac(index + 1)),
        neighbours: config.neighbours.clone(),
        routes: routes(config),
        soa_serial: SERIAL,
        ..of_file(config, ports)
    }
}

/// What the file decides of a node with these ports, live or not; neighbours, routes, host port and serial are not its to
/// say.
pub(crate) fn of_file(config: &Config, ports: Vec<LocalPort>) -> Local {
    Local {
        workers: config.ports.iter().map(|p| p.queues.len()).max().unwrap_or(0).max(1),
        snat_underlay: config.snat.underlay.clone(),
        snat_underlay6: config.snat.underlay6.clone(),
        snat_overlay: config.snat.overlay.clone(),
        snat_overlay6: config.snat.overlay6.clone(),
        snat_quota: config.snat.quota,
        snat_ports: (*config.snat.ports.start(), *config.snat.ports.end()),
        vtep: config.overlay.as_ref().and_then(|o| vtep(config, o, &ports)),
        dns_addresses: config.dns.addresses.clone(),
        dns_addresses6: config.dns.addresses6.clone(),
        dns: LocalDns {
            edns_max: config.dns.edns_max,
            truncate_bit: config.dns.truncate_bit,
            recursion_available: config.dns.recurse,
            nsid: config.dns.nsid.clone(),
            trusted: trusted(config),
            trust_overlay: config.dns.trusted.is_empty(),
            responses_per_second: config.dns.responses_per_second,
            // Secrets and the clock are the running node's to add.
            cookie_secrets: Vec::new(),
            epoch: 0,
            forward: config.dns.forwards(),
        },
        timeouts: config.timeouts,
        answers: config.limits.answers,
        ports,
        ..Local::default()
    }
}

/// `dns.trusted`, or what holds without it: who has a private or link-local address (RFC 1918, RFC 3927, RFC 4193, RFC 4291).
fn trusted(config: &Config) -> Vec<IpNet> {
    const PRIVATE: [(IpAddr, u8); 6] = [
        (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
        (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
        (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
        (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    ];
    if config.dns.trusted.is_empty() {
        PRIVATE.iter().filter_map(|(ip, prefix)| IpNet::new(*ip, *prefix).ok()).collect()
    } else {
        config.dns.trusted.clone()
    }
}

/// Largest packet of the overlay: what the file says, else what the smallest of these underlay MTUs leaves.
pub(crate) fn overlay_mtu(config: &Config, underlay: impl Iterator<Item = u16>) -> u16 {
    let asked = config.overlay.as_ref().and_then(|o| o.mtu);
    asked.unwrap_or_else(|| underlay.min().unwrap_or(MTU).saturating_sub(vxlan::OVERHEAD as u16))
}

fn port(index: usize, port: &Port) -> LocalPort {
    LocalPort {
        name: port.name.clone(),
        mac: port.mac.unwrap_or_else(|| made_up_mac(index)),
        addresses: port.addresses.clone(),
        addresses6: port.addresses6.clone(),
        mtu: port.mtu.unwrap_or(MTU),
        role: port.role,
        arp: port.arp,
    }
}

fn made_up_mac(index: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap_or(u8::MAX)])
}

/// The file's routes and the connected ones, sorted.
fn routes(config: &Config) -> Vec<Route> {
    let mut routes = config.routes.clone();
    for (index, port) in config.ports.iter().enumerate() {
        routes.extend(on_link(port).map(|prefix| Route { prefix, via: None, port: index }));
    }
    routes.sort();
    routes.dedup();
    routes
}

/// The subnets that the file gives a port.
pub(crate) fn on_link(port: &Port) -> impl Iterator<Item = IpNet> + '_ {
    let four = port.addresses.iter().map(|net| IpNet::V4(net.trunc()));
    four.chain(port.addresses6.iter().map(|net| IpNet::V6(net.trunc())))
}

fn underlay_mtus(ports: &[LocalPort]) -> impl Iterator<Item = u16> + '_ {
    ports.iter().filter(|p| p.role.is_underlay()).map(|p| p.mtu)
}

fn vtep(config: &Config, overlay: &Overlay, ports: &[LocalPort]) -> Option<OwnVtep> {
    let first = || ports.iter().find(|p| p.role.is_underlay())?.addresses.first().map(Ipv4Net::addr);
    Some(OwnVtep {
        underlay: overlay.underlay.or_else(first)?,
        vtep: overlay.vtep,
        mac: overlay.vtep_mac,
        vni: overlay.vni,
        udp_port: overlay.udp_port,
        mtu: overlay_mtu(config, underlay_mtus(ports)),
        gateway: overlay.gateway,
        host_addresses: config.host.iter().flat_map(|h| &h.addresses).map(IpNet::addr).collect(),
    })
}
