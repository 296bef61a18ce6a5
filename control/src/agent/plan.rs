//! What an agent's kernel and CNI shall have: a pure function of its settings, its lease and Sluice's map. What is printed
//! is what is done: every part shows itself as the command that would do it.
//!
//! `direct` networks are as DC/OS sets them up (facts/dcos.md C): routes by the other agents' VTEPs, and tables for
//! what containers alone send through the overlay. In `hub` networks containers have links of their own to the agent (the
//! CNI plugin `ptp`), and whatever comes from them into any network goes by Sluice, the agent's own containers included.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use super::settings::Settings;
use super::{cni, masquerade};
use crate::lease::Lease;
use crate::lease::map::{Map, Member, Network};

/// The kernel's main table.
pub const MAIN: u32 = 254;
/// DC/OS's table of what containers alone send through the overlay: agents' own addresses.
pub const AGENTS: u32 = 42;
/// What containers of direct networks send to Sluice.
pub const SERVED: u32 = 43;
/// All that containers of hub networks send.
pub const HUB: u32 = 44;
/// Priorities of the rules, the first of them; the kernel's main table comes at 32766.
const FIRST_RULE: u32 = 32_000;
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
    /// A member's VTEP.
    Vtep(Ipv4Addr),
    /// A neighbour on the underlay.
    Gateway(Ipv4Addr),
    /// Nowhere: what is not there is told at once, and goes nowhere else.
    Unreachable,
}

/// A route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Its table.
    pub table: u32,
    /// Its destination.
    pub prefix: Ipv4Net,
    /// Where it leads.
    pub to: To,
}

/// A rule of the kernel's routing policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule {
    /// Its priority.
    pub priority: u32,
    /// The sources that it is for; all of them without.
    pub from: Option<Ipv4Net>,
    /// The interface that packets come from; any without.
    pub iif: Option<String>,
    /// The table that they look into.
    pub table: u32,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.map_or_else(|| "all".to_owned(), |net| net.to_string());
        let iif = self.iif.as_ref().map(|name| format!(" iif {name}")).unwrap_or_default();
        write!(f, "ip rule add priority {} from {from}{iif} lookup {}", self.priority, self.table)
    }
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The VXLAN device.
    pub device: Device,
    /// Members that it knows.
    pub peers: BTreeSet<Peer>,
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// Rules.
    pub rules: BTreeSet<Rule>,
    /// What is masqueraded, as `nft -f` reads it.
    pub masquerade: String,
    /// CNI network configurations, by file.
    pub cni: BTreeMap<PathBuf, String>,
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// The map does not fit the lease.
    #[error("Sluice's map has no network {0}, of which the lease has a subnet: is the node that answers another one?")]
    NoNetwork(String),
}

impl Plan {
    /// What this agent shall have.
    ///
    /// # Errors
    /// When lease and map contradict each other.
    pub fn of(settings: &Settings, lease: &Lease, map: &Map) -> Result<Self, PlanError> {
        let networks = own_networks(lease, map)?;
        let name = settings.device(map.vni);
        let others: Vec<&Member> = map.members.iter().filter(|m| m.ip != settings.address).collect();
        let mtu = settings.mtu.unwrap_or(map.mtu).min(map.mtu);
        let device = Device {
            vni: map.vni,
            port: map.port,
            local: settings.address,
            mac: lease.vtep_mac().to_string(),
            address: Ipv4Net::new(lease.vtep_ip, map.vtep_prefix).unwrap_or_else(|_| lease.vtep_ip.into()),
            mtu: u32::from(map.mtu),
            name,
        };
        let cni = networks.iter().map(|(network, net)| cni::configuration(settings, map, network, *net, mtu)).collect();
        Ok(Self {
            peers: others.iter().map(|m| peer(m)).collect(),
            routes: routes(settings, &networks, &others, map),
            rules: rules(&device.name, &networks),
            masquerade: masquerade::rules(map, networks.iter().map(|(_, net)| *net)),
            cni,
            device,
        })
    }

    /// Everything, as the commands that would do it.
    #[must_use]
    pub fn commands(&self) -> String {
        let name = &self.device.name;
        let peers = self.peers.iter().map(|Peer { vtep_ip, mac, underlay }| {
            format!(
                "ip neigh replace {vtep_ip} lladdr {mac} dev {name} nud permanent\n\
                 bridge fdb replace {mac} dev {name} dst {underlay} self permanent"
            )
        });
        let routes = self.routes.iter().map(|route| route.command(name));
        let rules = self.rules.iter().map(ToString::to_string);
        let lines: Vec<String> = peers.chain(routes).chain(rules).collect();
        let files = self.cni.iter().map(|(path, text)| format!("# {}\n{text}", path.display()));
        let files: String = files.collect();
        format!("{}\n{}\n# nft -f\n{}{files}", self.device, lines.join("\n"), self.masquerade)
    }
}

impl Route {
    fn command(&self, device: &str) -> String {
        let table = if self.table == MAIN { String::new() } else { format!(" table {}", self.table) };
        match self.to {
            To::Vtep(via) => format!("ip route replace {} via {via} dev {device}{table}", self.prefix),
            To::Gateway(via) => format!("ip route replace {} via {via}{table}", self.prefix),
            To::Unreachable => {
                format!("ip route replace unreachable {} metric {UNREACHABLE_METRIC}{table}", self.prefix)
            }
        }
    }
}

/// The networks that the lease has a subnet of, with it.
fn own_networks<'a>(lease: &Lease, map: &'a Map) -> Result<Vec<(&'a Network, Ipv4Net)>, PlanError> {
    let of = |(name, net): (&String, &Ipv4Net)| {
        let network = map.networks.iter().find(|network| network.name == *name);
        network.map(|network| (network, *net)).ok_or_else(|| PlanError::NoNetwork(name.clone()))
    };
    lease.subnets.iter().map(of).collect()
}

fn peer(member: &Member) -> Peer {
    Peer { vtep_ip: member.vtep_ip, mac: member.vtep_mac.clone(), underlay: member.ip }
}

/// What Sluice serves: VIPs and names.
pub fn served(map: &Map) -> impl Iterator<Item = Ipv4Net> + '_ {
    map.vips.iter().copied().chain(map.dns.iter().map(|ip| Ipv4Net::from(*ip)))
}

fn routes(settings: &Settings, networks: &[(&Network, Ipv4Net)], others: &[&Member], map: &Map) -> BTreeSet<Route> {
    let sluice = To::Vtep(map.sluice.vtep_ip);
    let route = |table, prefix, to| Route { table, prefix, to };
    let mut routes = BTreeSet::new();
    for member in others {
        let to = To::Vtep(member.vtep_ip);
        let host = Ipv4Net::from(member.ip);
        routes.extend([route(AGENTS, host, to), route(HUB, host, to)]);
        let direct = member.subnets.iter().filter(|(name, _)| !map.is_hub(name));
        routes.extend(direct.map(|(_, net)| route(MAIN, *net, to)));
    }
    for prefix in served(map) {
        routes.extend([route(SERVED, prefix, sluice), route(HUB, prefix, sluice)]);
        if settings.node_routes {
            routes.insert(route(MAIN, prefix, To::Gateway(map.sluice.ip)));
        }
    }
    for network in &map.networks {
        routes.insert(route(HUB, network.subnet, sluice));
        if network.hub {
            routes.insert(route(MAIN, network.subnet, sluice));
        }
    }
    // Without it, what comes for a container that is not there would go by another route, and round for ever.
    routes.extend(networks.iter().map(|(_, net)| route(MAIN, *net, To::Unreachable)));
    if !networks.iter().any(|(network, _)| network.hub) {
        routes.retain(|route| route.table != HUB);
    }
    if networks.iter().all(|(network, _)| network.hub) {
        routes.retain(|route| route.table != AGENTS && route.table != SERVED);
    }
    routes
}

fn rules(device: &str, networks: &[(&Network, Ipv4Net)]) -> BTreeSet<Rule> {
    let rule = |at, from, iif: Option<&str>, table| Rule {
        priority: FIRST_RULE + at,
        from,
        iif: iif.map(str::to_owned),
        table,
    };
    let mut rules = BTreeSet::new();
    for (network, own) in networks {
        if network.hub {
            // What Sluice sends back to a container here, and what the agent itself sends, goes straight to it.
            rules.insert(rule(0, None, Some(device), MAIN));
            rules.insert(rule(1, Some(*own), Some("lo"), MAIN));
            rules.insert(rule(2, Some(*own), None, HUB));
        } else {
            rules.insert(rule(10, Some(network.subnet), None, SERVED));
            rules.insert(rule(11, Some(network.subnet), None, AGENTS));
        }
    }
    rules
}

/// What a node without `sluice agent` needs to reach VIPs and names.
#[must_use]
pub fn for_nodes(map: &Map) -> String {
    let servers: String = map.dns.iter().map(|ip| format!("nameserver {ip}\n")).collect();
    let routes: String = served(map).map(|net| format!("ip route replace {net} via {}\n", map.sluice.ip)).collect();
    format!(
        "# /etc/resolv.conf of every node\n{servers}# routes of a node that runs no `sluice agent`, where no router has them\n{routes}"
    )
}

#[cfg(test)]
mod tests;
