//! This node's own part of what the packet path needs, from configuration and kernel: a pure function.
//!
//! What the file says wins over what the kernel says, so that `replay` and a live node share one vocabulary.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use sluice_config::model::{Config, Local, LocalPort, Neighbour, Role, Route};

use super::NetlinkError;
use super::host_port::HostPort;
use super::inventory::Inventory;
use crate::offline::{self, MTU};

/// The node's own part, without serial numbers.
///
/// # Errors
/// When an interface of the configuration is not there.
pub fn assemble(config: &Config, kernel: &Inventory, host: Option<&HostPort>) -> Result<Local, NetlinkError> {
    let links = links(config, kernel)?;
    let mut ports = Vec::new();
    for (index, port) in links.iter().zip(&config.ports) {
        let link = kernel.links.get(index);
        let mut addresses = port.addresses.clone();
        if addresses.is_empty() {
            addresses.extend(kernel.addresses_of(*index));
        }
        let mut addresses6 = port.addresses6.clone();
        if addresses6.is_empty() {
            addresses6.extend(kernel.addresses6_of(*index));
        }
        ports.push(LocalPort {
            name: port.name.clone(),
            mac: port.mac.or_else(|| link?.mac).unwrap_or_default(),
            addresses,
            addresses6,
            mtu: port.mtu.unwrap_or_else(|| link.map_or(MTU, |l| u16::try_from(l.mtu).unwrap_or(u16::MAX))),
            role: port.role,
            arp: port.arp,
        });
    }
    let own = own_addresses(kernel, host);
    let mut local = Local {
        host_port: host.map(|_| ports.len()),
        host_mac: host.map(|h| h.kernel_mac),
        neighbours: neighbours(config, kernel, &links),
        routes: routes(config, kernel, &links),
        ..offline::of_file(config, ports)
    };
    if let Some(host) = host {
        add_host_port(&mut local, host, &own);
    }
    Ok(local)
}

/// Largest packet of the overlay: what the file says, else what the smallest underlay port leaves.
#[must_use]
pub fn overlay_mtu(config: &Config, kernel: &Inventory) -> Option<u16> {
    config.overlay.as_ref()?;
    let live = |interface: &str| u16::try_from(kernel.link(interface)?.1.mtu).ok();
    let underlay = config.ports.iter().filter(|p| p.role.is_underlay());
    Some(offline::overlay_mtu(config, underlay.filter_map(|p| p.mtu.or_else(|| live(&p.interface)))))
}

/// The link index of every port.
///
/// # Errors
/// When an interface is not there.
pub fn links(config: &Config, kernel: &Inventory) -> Result<Vec<u32>, NetlinkError> {
    config
        .ports
        .iter()
        .map(|port| {
            let missing = || NetlinkError::NoInterface { port: port.name.clone(), name: port.interface.clone() };
            kernel.link(&port.interface).map(|(index, _)| index).ok_or_else(missing)
        })
        .collect()
}

/// Of equal addresses the file's comes last and wins.
fn neighbours(config: &Config, kernel: &Inventory, links: &[u32]) -> Vec<Neighbour> {
    let mut found: BTreeMap<(usize, IpAddr), Neighbour> = BTreeMap::new();
    for ((link, ip), neighbour) in &kernel.neighbours {
        if let (Some(port), Some(mac)) = (links.iter().position(|l| l == link), neighbour.mac) {
            found.insert((port, *ip), Neighbour { ip: *ip, mac, port });
        }
    }
    for fixed in &config.neighbours {
        found.insert((fixed.port, fixed.ip), fixed.clone());
    }
    found.into_values().collect()
}

/// The file's routes, then the kernel's by its preference; of equal prefixes the first is used.
fn routes(config: &Config, kernel: &Inventory, links: &[u32]) -> Vec<Route> {
    let mut routes = config.routes.clone();
    for port in 0..config.ports.len() {
        let on_link = config.ports.get(port).into_iter().flat_map(offline::on_link);
        routes.extend(on_link.map(|prefix| Route { prefix, via: None, port }));
    }
    for route in &kernel.routes {
        if let Some(port) = links.iter().position(|l| *l == route.link) {
            routes.push(Route { prefix: route.prefix, via: route.via, port });
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    routes.retain(|route| seen.insert(route.prefix));
    routes
}

/// The kernel's own addresses that other nodes may talk to.
fn own_addresses(kernel: &Inventory, host: Option<&HostPort>) -> Vec<IpAddr> {
    let host = host.map(|h| h.kernel_index);
    let mut own: Vec<_> = kernel
        .addresses
        .iter()
        .filter(|(link, net)| Some(*link) != host && !net.addr().is_loopback())
        .map(|(_, net)| net.addr())
        .collect();
    own.sort_unstable();
    own.dedup();
    own
}

/// The host port comes last; the kernel's own addresses are on link there, so that answers to the node's own
/// processes find their way.
fn add_host_port(local: &mut Local, host: &HostPort, own: &[IpAddr]) {
    let port = local.ports.len();
    local.ports.push(LocalPort {
        name: "host".into(),
        mac: host.peer_mac,
        addresses: Vec::new(),
        addresses6: Vec::new(),
        mtu: u16::try_from(host.mtu).unwrap_or(u16::MAX),
        role: Role::Client,
        arp: false,
    });
    for ip in own {
        local.neighbours.push(Neighbour { ip: *ip, mac: host.kernel_mac, port });
        local.routes.insert(0, Route { prefix: IpNet::from(*ip), via: None, port });
    }
}
