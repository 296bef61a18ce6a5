//! What an agent's kernel and CNI shall have: a pure function of its settings, its lease and Sluice's map. What is printed
//! is what is done: every part shows itself as the command that would do it.
//!
//! `direct` networks are as DC/OS sets them up (facts/dcos.md C): routes by the other agents' VTEPs, and tables for
//! what containers alone send through the overlay. In `hub` networks containers have links of their own to the agent (the
//! CNI plugin `ptp`), and whatever comes from them into any network goes by Sluice, the agent's own containers included.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};

use super::settings::Settings;
use super::{cni, guard, masquerade};
use crate::lease::map::{Map, Member, Network};
use crate::lease::{Lease, both};

mod routing;
#[cfg(test)]
mod tests;

/// The kernel's main table.
pub const MAIN: u32 = 254;
/// DC/OS's table of what containers alone send through the overlay: agents' own addresses.
pub const AGENTS: u32 = 42;
/// What containers of direct networks send to Sluice.
pub const SERVED: u32 = 43;
/// All that containers of hub networks send.
pub const HUB: u32 = 44;
/// Metric of the routes behind an agent's own subnets.
pub const UNREACHABLE_METRIC: u32 = 4_000_000;

/// The VXLAN device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The outer source address.
    pub local: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: String,
    /// Its own address, with the prefix length of the VTEPs' subnet.
    pub address: Ipv4Net,
    /// Largest inner packet.
    pub mtu: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, vni, port, local, mac, address, mtu } = self;
        writeln!(
            f,
            "ip link add {name} address {mac} mtu {mtu} type vxlan id {vni} dstport {port} local {local} nolearning noudpcsum"
        )?;
        write!(f, "ip addr add {address} dev {name}\nip link set {name} up")
    }
}

/// Another member of the overlay.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Peer {
    /// Its VTEP's address.
    pub vtep_ip: Ipv4Addr,
    /// Its VTEP's MAC.
    pub mac: String,
    /// Its underlay address.
    pub underlay: Ipv4Addr,
}

/// Where a route leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum To {
    /// A member's VTEP, in the tunnels of a VNI.
    Vtep(IpAddr, u32),
    /// A neighbour on the underlay.
    Gateway(IpAddr),
    /// Nowhere: what is not there is told at once, and goes nowhere else.
    Unreachable,
}

/// A route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Its table.
    pub table: u32,
    /// Its destination.
    pub prefix: IpNet,
    /// Where it leads.
    pub to: To,
}

/// A rule of the kernel's routing policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule {
    /// Its priority.
    pub priority: u32,
    /// The sources that it is for, and with them its family.
    pub from: IpNet,
    /// The interface that packets come from; any without.
    pub iif: Option<String>,
    /// The table that they look into.
    pub table: u32,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = if self.from.prefix_len() == 0 { "all".to_owned() } else { self.from.to_string() };
        let family = if self.from.addr().is_ipv6() { " -6" } else { "" };
        let iif = self.iif.as_ref().map(|name| format!(" iif {name}")).unwrap_or_default();
        write!(f, "ip{family} rule add priority {} from {from}{iif} lookup {}", self.priority, self.table)
    }
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The VXLAN devices, one of each VNI; the first one's address has the VTEPs' subnet on link.
    pub devices: Vec<Device>,
    /// Members that each of them knows.
    pub peers: BTreeSet<Peer>,
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// Rules.
    pub rules: BTreeSet<Rule>,
    /// What is masqueraded, and what keeps containers of hub networks apart, as `nft -f` reads it.
    pub nftables: String,
    /// CNI network configurations, by file.
    pub cni: BTreeMap<PathBuf, String>,
}

/// A network that this agent has a subnet of, and one of its subnets there.
pub type Own<'a> = (&'a Network, IpNet);

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// The map does not fit the lease.
    #[error("Sluice's map has no network {0}, of which the lease has a subnet: is the node that answers another one?")]
    NoNetwork(String),
    /// The kernel's tables and names are by VNI.
    #[error(
        "networks with VNI {0} have different UDP ports; an agent needs another VNI for each port: write `vni` of one of them"
    )]
    TwoPorts(u32),
}

impl Plan {
    /// What this agent shall have.
    ///
    /// # Errors
    /// When lease and map contradict each other.
    pub fn of(settings: &Settings, lease: &Lease, map: &Map) -> Result<Self, PlanError> {
        let networks = own_networks(lease, map)?;
        let devices = devices(settings, lease, map, &networks)?;
        let others: Vec<&Member> = map.members.iter().filter(|m| m.ip != settings.address).collect();
        let names: BTreeSet<&str> = networks.iter().map(|(network, _)| network.name.as_str()).collect();
        let of = |name: &str| networks.iter().filter(|(n, _)| n.name == name).copied().collect::<Vec<Own<'_>>>();
        let cni = names.into_iter().filter_map(|name| cni::configuration(settings, map, &of(name))).collect();
        Ok(Self {
            peers: others.iter().map(|m| peer(m)).collect(),
            routes: routing::routes(settings, &networks, &others, map),
            rules: routing::rules(&devices, &networks, map),
            nftables: masquerade::rules(map, &networks) + &guard::rules(settings, &devices, map, &networks),
            cni,
            devices,
        })
    }

    /// Whether any of it is IPv6.
    #[must_use]
    pub fn speaks_ipv6(&self) -> bool {
        self.routes.iter().any(|route| route.prefix.addr().is_ipv6())
    }

    /// Everything, as the commands that would do it.
    #[must_use]
    pub fn commands(&self) -> String {
        let peers = self.devices.iter().flat_map(|Device { name, .. }| {
            self.peers.iter().map(move |peer @ Peer { mac, underlay, .. }| {
                let [four, six] = peer.neighbours();
                let six = format!("ip neigh replace {six} lladdr {mac} dev {name} nud permanent\n");
                let six = if self.speaks_ipv6() { six } else { String::new() };
                format!(
                    "ip neigh replace {four} lladdr {mac} dev {name} nud permanent\n\
                     {six}bridge fdb replace {mac} dev {name} dst {underlay} self permanent"
                )
            })
        });
        let devices = self.devices.iter().map(ToString::to_string);
        let routes = self.routes.iter().map(|route| self.command(route));
        let rules = self.rules.iter().map(ToString::to_string);
        let lines: Vec<String> = devices.chain(peers).chain(routes).chain(rules).collect();
        let files: String = self.cni.iter().map(|(path, text)| format!("# {}\n{text}", path.display())).collect();
        format!("{}\n# nft -f\n{}{files}", lines.join("\n"), self.nftables)
    }

    fn command(&self, route: &Route) -> String {
        let table = if route.table == MAIN { String::new() } else { format!(" table {}", route.table) };
        match route.to {
            To::Vtep(via, vni) => {
                let device = self.devices.iter().find(|device| device.vni == vni);
                let device = device.map_or("", |device| device.name.as_str());
                format!("ip{} route replace {} via {via} dev {device} onlink{table}", family(route), route.prefix)
            }
            To::Gateway(via) => format!("ip{} route replace {} via {via}{table}", family(route), route.prefix),
            To::Unreachable => {
                format!(
                    "ip{} route replace unreachable {} metric {UNREACHABLE_METRIC}{table}",
                    family(route),
                    route.prefix
                )
            }
        }
    }
}

/// The word that tells `ip` the family.
fn family(route: &Route) -> &'static str {
    if route.prefix.addr().is_ipv6() { " -6" } else { "" }
}

/// The networks that the lease has subnets of, with each of them.
fn own_networks<'a>(lease: &Lease, map: &'a Map) -> Result<Vec<Own<'a>>, PlanError> {
    let of = |(name, net): (&String, IpNet)| {
        let network = map.networks.iter().find(|network| network.name == *name);
        network.map(|network| (network, net)).ok_or_else(|| PlanError::NoNetwork(name.clone()))
    };
    both(&lease.subnets, &lease.subnets6).map(of).collect()
}

fn peer(member: &Member) -> Peer {
    Peer { vtep_ip: member.vtep_ip, mac: member.vtep_mac.clone(), underlay: member.ip }
}

/// What Sluice serves: VIPs and names.
pub fn served(map: &Map) -> impl Iterator<Item = IpNet> + '_ {
    map.vips.iter().copied().chain(map.dns.iter().map(|ip| IpNet::from(*ip)))
}

impl Peer {
    /// Its VTEP's address as a neighbour, of both families.
    pub fn neighbours(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.vtep_ip), IpAddr::V6(routing::link_local(&self.mac))]
    }
}

/// One device of each VNI that this agent has a network of, the overlay's own first.
fn devices(settings: &Settings, lease: &Lease, map: &Map, networks: &[Own<'_>]) -> Result<Vec<Device>, PlanError> {
    let mut ports = BTreeMap::new();
    for (network, _) in networks {
        if *ports.entry(network.vni).or_insert(network.port) != network.port {
            return Err(PlanError::TwoPorts(network.vni));
        }
    }
    let mut tunnels: Vec<(u32, u16)> = ports.into_iter().collect();
    tunnels.sort_by_key(|(vni, _)| (*vni != map.vni, *vni));
    let device = |(at, (vni, port)): (usize, (u32, u16))| {
        let prefix = if at == 0 { map.vtep_prefix } else { 32 };
        let mtu = networks.iter().filter(|(n, _)| n.vni == vni).map(|(n, _)| n.mtu).min().unwrap_or_default();
        Device {
            name: if vni == map.vni { settings.device(vni) } else { format!("vtep{vni}") },
            vni,
            port,
            local: settings.address,
            mac: lease.vtep_mac().to_string(),
            address: Ipv4Net::new(lease.vtep_ip, prefix).unwrap_or_else(|_| lease.vtep_ip.into()),
            mtu: u32::from(mtu),
        }
    };
    Ok(tunnels.into_iter().enumerate().map(device).collect())
}

/// What a node without `sluice agent` needs to reach VIPs and names.
#[must_use]
pub fn for_nodes(map: &Map) -> String {
    let servers: String = map.dns.iter().map(|ip| format!("nameserver {ip}\n")).collect();
    let four = served(map).filter(|net| net.addr().is_ipv4());
    let routes: String = four.map(|net| format!("ip route replace {net} via {}\n", map.sluice.ip)).collect();
    format!(
        "# /etc/resolv.conf of every node\n{servers}# routes of a node that runs no `sluice agent`, where no router has them\n{routes}"
    )
}
