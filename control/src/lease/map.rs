//! What an agent is told: the whole overlay, and what Sluice serves. Plain data that both sides read and write as JSON.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use sluice_config::model::{Config, LocalPort, NetworkMode, OverlayAgent, OverlayNetwork};
use sluice_dataplane::tables::Tables;

use super::Lease;

/// What an agent asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Its underlay address, from which it must ask.
    pub agent: Ipv4Addr,
    /// The networks that it wants a subnet of.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The version of the map that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What it is told. Fields are added, never renamed or removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Its lease, where it has one.
    pub lease: Option<Lease>,
    /// The version of the map.
    pub version: String,
    /// The map, unless the agent has this version already.
    pub map: Option<Map>,
}

/// One member of the overlay.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Underlay address.
    pub ip: Ipv4Addr,
    /// Its VTEP's address.
    pub vtep_ip: Ipv4Addr,
    /// Its VTEP's MAC.
    pub vtep_mac: String,
    /// Its subnet in each network.
    pub subnets: BTreeMap<String, Ipv4Net>,
    /// The same of IPv6.
    #[serde(default)]
    pub subnets6: BTreeMap<String, Ipv6Net>,
}

/// One network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// All its container addresses.
    pub subnet: Ipv4Net,
    /// All its IPv6 addresses, where it has any.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Outer UDP port.
    pub port: u16,
    /// Largest packet of a container.
    pub mtu: u16,
    /// Whether agents send everything of it to Sluice (`mode = "hub"`).
    pub hub: bool,
}

/// The overlay as it is now. Equal maps have equal versions, whichever node and run they come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Map {
    /// The VNI of networks that have none of their own.
    pub vni: u32,
    /// Prefix length of the VTEPs' subnet.
    pub vtep_prefix: u8,
    /// Sluice's own place, which is among the members too.
    pub sluice: Member,
    /// Every member, sorted; whoever asks is among them.
    pub members: Vec<Member>,
    /// The networks, in the configuration's order.
    pub networks: Vec<Network>,
    /// What Sluice serves: ranges of named VIPs, and VIPs outside them.
    pub vips: Vec<IpNet>,
    /// Where names are asked for.
    pub dns: Vec<IpAddr>,
    /// Sluice's IPv6 address on the underlay, by which nodes reach what it serves over IPv6.
    #[serde(default)]
    pub underlay6: Option<Ipv6Addr>,
}

impl Map {
    /// The map that these tables are made from; `None` where this node has no place in an overlay.
    #[must_use]
    pub fn of(config: &Config, tables: &Tables) -> Option<Self> {
        let (shared, local) = (&tables.desired.shared, &tables.desired.local);
        let vtep = local.vtep.as_ref()?;
        let own = shared.networks.iter().filter_map(|n| Some((n.name.clone(), n.own?)));
        let own6 = shared.networks.iter().filter_map(|n| Some((n.name.clone(), n.own6?)));
        let sluice = Member {
            ip: vtep.underlay,
            vtep_ip: vtep.vtep.addr(),
            vtep_mac: vtep.mac.to_string(),
            subnets: own.collect(),
            subnets6: own6.collect(),
        };
        let mut members: Vec<Member> = shared.agents.iter().map(member).chain([sluice.clone()]).collect();
        members.sort();
        let tunnel = |n: &OverlayNetwork| n.tunnels((vtep.udp_port, vtep.vni));
        let mtu = |of: &OverlayNetwork| {
            let sharing = shared.networks.iter().filter(|n| tunnel(n) == tunnel(of));
            sharing.filter_map(|n| n.mtu).fold(vtep.mtu, u16::min)
        };
        let network = |n: &OverlayNetwork| Network {
            name: n.name.clone(),
            subnet: n.subnet,
            subnet6: n.subnet6,
            vni: tunnel(n).1.get(),
            port: tunnel(n).0,
            mtu: mtu(n),
            hub: n.mode == NetworkMode::Hub,
        };
        Some(Self {
            vni: vtep.vni.get(),
            vtep_prefix: vtep.vtep.prefix_len(),
            sluice,
            members,
            networks: shared.networks.iter().map(network).collect(),
            vips: vips(config, tables),
            dns: config.dns.all_addresses().collect(),
            underlay6: underlay6(&local.ports),
        })
    }

    /// Whether a network is there and in hub mode.
    #[must_use]
    pub fn is_hub(&self, name: &str) -> bool {
        self.networks.iter().any(|network| network.hub && network.name == name)
    }

    /// What tells this map from another.
    #[must_use]
    pub fn version(&self) -> String {
        // Names and numbers always are JSON.
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha1::digest(&text).iter().take(8).map(|octet| format!("{octet:02x}")).collect()
    }
}

fn member(agent: &OverlayAgent) -> Member {
    let OverlayAgent { ip, vtep_ip, vtep_mac, subnets, subnets6 } = agent.clone();
    Member { ip, vtep_ip, vtep_mac: vtep_mac.to_string(), subnets, subnets6 }
}

/// The first address of an underlay port that is one beyond its link.
fn underlay6(ports: &[LocalPort]) -> Option<Ipv6Addr> {
    let nets = ports.iter().filter(|port| port.role.is_underlay()).flat_map(|port| &port.addresses6);
    nets.map(|net| net.addr()).find(|ip| !ip.is_unicast_link_local())
}

fn vips(config: &Config, tables: &Tables) -> Vec<IpNet> {
    let services = &tables.desired.shared.services;
    let (named, named6) = (&config.vip.named, &config.vip.named6);
    let mut vips = Vec::new();
    if !config.marathons.is_empty() || config.mesos.is_some() {
        vips.extend(Ipv4Subnets::new(*named.start(), *named.end(), 0).map(IpNet::V4));
        if services.iter().any(|s| s.key.ip.is_ipv6()) {
            vips.extend(Ipv6Subnets::new(*named6.start(), *named6.end(), 0).map(IpNet::V6));
        }
    }
    let alone = services.iter().map(|service| service.key.ip).filter(|ip| match ip {
        IpAddr::V4(ip) => !named.contains(ip),
        IpAddr::V6(ip) => !named6.contains(ip),
    });
    vips.extend(alone.map(IpNet::from));
    vips.sort();
    vips.dedup();
    vips
}
