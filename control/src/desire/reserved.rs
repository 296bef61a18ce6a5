//! Addresses that no VIP may have and no backend may be at, each with the reason.
//!
//! A VIP's packets are taken from the wire and the kernel alike, so a VIP at somebody's address cuts him off: the node
//! itself, agents, gateways, neighbours, Marathon. A label may say less than the configuration: it comes from whoever
//! runs apps, so it gets no address that a machine on one of our links could have, and none that a backend has.
//!
//! Where a task says it runs is one task's word. An agent is known when the overlay or the configuration has it, when it
//! is on link, or when tasks of two apps say the same; of anything less the VIP that is there stays, and the backend goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use sluice_config::model::{Local, Marathon};

use super::Cluster;

/// Whose word a VIP is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claimant {
    /// A `[[service]]`.
    Configuration,
    /// An app's label.
    Label,
}

/// What is taken already.
pub(super) struct Reserved {
    /// The node's own addresses in the packet path.
    own: BTreeMap<Ipv4Addr, &'static str>,
    /// Others', and those of the node's kernel: a VIP there would swallow their traffic.
    others: BTreeMap<Ipv4Addr, &'static str>,
    /// Who was seen on link, and Marathon's own word of where it is: no label gets such an address. What was only seen
    /// may be out of date, so it takes nothing from the configuration and from named VIPs.
    seen: BTreeMap<Ipv4Addr, &'static str>,
    /// Where tasks of two or more apps say that they run.
    agents: BTreeSet<Ipv4Addr>,
    /// Where any task says so.
    hosts: BTreeSet<Ipv4Addr>,
    /// Overlay and VTEP subnets and the range of probes, with what they are.
    subnets: Vec<(Ipv4Net, String)>,
    /// Subnets on link.
    links: BTreeSet<Ipv4Net>,
}

impl Reserved {
    pub(super) fn new(cluster: &Cluster<'_>, local: &Local) -> Self {
        let config = cluster.config;
        let mut own = BTreeMap::new();
        own.extend(port_nets(cluster, local).map(|a| (a.addr(), "an address of this node's own port")));
        own.extend(config.host.iter().flat_map(|h| &h.addresses).map(|a| (a.addr(), "the host port's address")));
        let snat = [&config.snat.underlay, &config.snat.overlay, &local.snat_underlay, &local.snat_overlay];
        own.extend(snat.into_iter().flatten().map(|a| (*a, "a SNAT address ([snat])")));
        own.extend(
            config.dns.addresses.iter().chain(&local.dns_addresses).map(|a| (*a, "a DNS address (dns.addresses)")),
        );
        if let Some(vtep) = &local.vtep {
            own.extend([(vtep.underlay, "the VTEP's underlay address"), (vtep.vtep.addr(), "this node's VTEP")]);
        }
        let hosts = hosts(cluster);
        Self {
            own,
            others: others(cluster, local),
            agents: hosts.iter().filter(|(_, apps)| apps.len() > 1).map(|(ip, _)| *ip).collect(),
            hosts: hosts.into_keys().collect(),
            seen: seen(cluster, local),
            subnets: subnets(cluster),
            links: port_nets(cluster, local).map(Ipv4Net::trunc).collect(),
        }
    }

    /// Why no VIP of `claimant` may be `ip`.
    pub(super) fn refuses_vip(&self, ip: Ipv4Addr, claimant: Claimant) -> Option<String> {
        let what = self.own.get(&ip).or_else(|| self.others.get(&ip)).map(|w| (*w).to_owned());
        let what = what.or_else(|| special(ip).map(str::to_owned));
        let what = what.or_else(|| self.subnets.iter().find(|(net, _)| net.contains(&ip)).map(|(_, w)| w.clone()));
        let what = what.or_else(|| (claimant == Claimant::Label).then(|| self.refuses_label(ip)).flatten());
        what.map(|w| format!("{ip} is {w}: no VIP may have it"))
    }

    fn refuses_label(&self, ip: Ipv4Addr) -> Option<String> {
        if let Some(what) = self.seen.get(&ip) {
            return Some((*what).to_owned());
        }
        if self.is_agent(ip) {
            return Some(AGENT.to_owned());
        }
        let link = self.links.iter().find(|net| net.contains(&ip))?;
        Some(format!("in {link}, where one of this node's ports is (only a [[service]] may have a VIP there)"))
    }

    /// Why packets may not be sent to `ip`. `vips` are all virtual addresses.
    pub(super) fn refuses_backend(&self, ip: Ipv4Addr, vips: &BTreeSet<Ipv4Addr>) -> Option<String> {
        let what = self.own.get(&ip).copied().or_else(|| special(ip));
        let what = what.or_else(|| vips.contains(&ip).then_some("itself a VIP, which would be a loop"));
        what.map(|w| format!("the backend's address {ip} is {w}"))
    }

    /// Whether an agent is known to be at `ip` by more than one app's word.
    pub(super) fn is_agent(&self, ip: Ipv4Addr) -> bool {
        self.others.get(&ip) == Some(&AGENT) || self.agents.contains(&ip)
    }

    /// Single addresses that a named VIP never gets; one that has had its address before (`claimed`) keeps it where
    /// nothing but tasks' words speaks against it.
    pub(super) fn taken(&self, claimed: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Addr> {
        let hosts = self.hosts.iter().filter(|ip| !claimed.contains(ip));
        self.own.keys().chain(self.others.keys()).chain(hosts).copied().collect()
    }
}

/// Addresses of the packet ports with their prefixes, from the file and from the kernel.
fn port_nets<'a>(cluster: &'a Cluster<'_>, local: &'a Local) -> impl Iterator<Item = &'a Ipv4Net> {
    cluster.config.ports.iter().flat_map(|p| &p.addresses).chain(local.ports.iter().flat_map(|p| &p.addresses))
}

const AGENT: &str = "an agent's address";

/// Where tasks say that they run, and whose tasks.
fn hosts<'a>(cluster: &'a Cluster<'_>) -> BTreeMap<Ipv4Addr, BTreeSet<&'a str>> {
    let mut hosts: BTreeMap<Ipv4Addr, BTreeSet<&str>> = BTreeMap::new();
    for task in cluster.view.marathons.values().flat_map(|l| &l.tasks) {
        if let Some(ip) = cluster.view.agent_address(&task.host) {
            hosts.entry(ip).or_default().insert(&task.app);
        }
    }
    hosts
}

fn others(cluster: &Cluster<'_>, local: &Local) -> BTreeMap<Ipv4Addr, &'static str> {
    let (config, view) = (cluster.config, cluster.view);
    let ends = port_nets(cluster, local).filter(|net| net.prefix_len() < 31);
    let ends = ends.flat_map(|net| [net.network(), net.broadcast()]);
    // The kernel's own addresses are on link on the host port.
    let kernel = local.neighbours.iter().filter(|n| Some(n.port) == local.host_port).filter_map(|n| v4(n.ip));
    let neighbours = config.neighbours.iter().filter_map(|n| v4(n.ip));
    let joined = config.overlay.iter().flat_map(|o| &o.agents).chain(&view.overlay.agents).map(|a| a.ip);
    let gateways = config.routes.iter().chain(&local.routes).filter_map(|r| v4(r.via?));
    let marathons = config.marathons.iter().flat_map(Marathon::addresses);
    let mut others = BTreeMap::new();
    others.extend(ends.map(|ip| (ip, "the first or last address of a port's subnet")));
    others.extend(neighbours.map(|ip| (ip, "a neighbour's address ([[neighbour]])")));
    others.extend(joined.map(|ip| (ip, AGENT)));
    others.extend(gateways.map(|ip| (ip, "a gateway's address")));
    others.extend(marathons.map(|ip| (ip, "a Marathon's address")));
    others.extend(kernel.map(|ip| (ip, "an address of this node's kernel")));
    others
}

fn seen(cluster: &Cluster<'_>, local: &Local) -> BTreeMap<Ipv4Addr, &'static str> {
    let view = cluster.view;
    let leaders = view.marathons.values().filter_map(|l| view.agent_address(l.framework_host.as_deref()?));
    let neighbours = local.neighbours.iter().filter_map(|n| v4(n.ip));
    let mut seen: BTreeMap<_, _> = neighbours.map(|ip| (ip, "a neighbour's address")).collect();
    seen.extend(leaders.map(|ip| (ip, "a Marathon's address")));
    seen
}

fn subnets(cluster: &Cluster<'_>) -> Vec<(Ipv4Net, String)> {
    let networks = cluster.networks.iter().map(|n| (n.subnet, format!("in the overlay network {}", n.name)));
    let vteps = cluster.config.overlay.iter().map(|o| (o.vtep.trunc(), "in the VTEPs' subnet".to_owned()));
    let probes =
        (cluster.config.health.probe_range, "in health.probe_range, the addresses of our own probes".to_owned());
    networks.chain(vteps).chain([probes]).collect()
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// Addresses that are nobody's by standard (RFC 6890).
fn special(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("in 0.0.0.0/8, which is no address"),
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address"),
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("a broadcast or reserved address"),
        _ => None,
    }
}
