//! Addresses that no VIP may have and no backend may be at, each with the reason.
//!
//! A VIP's packets are taken from the wire and the kernel alike, so a VIP at somebody's address cuts him off: the node
//! itself, agents, gateways, neighbours, Marathon, Mesos. A label may say less than the configuration: it comes from whoever
//! runs apps, so it gets no address that a machine on one of our links could have, and none that a backend has.
//!
//! Where a task says it runs is one task's word. An agent is known when the overlay or the configuration has it, when it
//! is on link, or when tasks of two apps say the same; of anything less the VIP that is there stays, and the backend goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sluice_config::model::{Local, Marathon, Mesos};

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
    own: BTreeMap<IpAddr, &'static str>,
    /// Others', and those of the node's kernel: a VIP there would swallow their traffic.
    others: BTreeMap<IpAddr, &'static str>,
    /// Who was seen on link, Marathon's own word of where it is, and Mesos's of masters and agents: no label gets such an address. What was only seen
    /// may be out of date, so it takes nothing from the configuration and from named VIPs.
    seen: BTreeMap<IpAddr, &'static str>,
    /// Where tasks of two or more apps say that they run.
    agents: BTreeSet<IpAddr>,
    /// Where any task says so.
    hosts: BTreeSet<IpAddr>,
    /// Overlay and VTEP subnets and the range of probes, with what they are.
    subnets: Vec<(IpNet, String)>,
    /// Subnets on link.
    links: BTreeSet<IpNet>,
}

impl Reserved {
    pub(super) fn new(cluster: &Cluster<'_>, local: &Local) -> Self {
        let config = cluster.config;
        let mut own = BTreeMap::new();
        own.extend(port_nets(cluster, local).map(|a| (a.addr(), "an address of this node's own port")));
        let host = config.host.iter().flat_map(|h| &h.addresses);
        own.extend(host.map(|a| (a.addr(), "the host port's address")));
        own.extend(snat(cluster, local).map(|ip| (ip, "a SNAT address ([snat])")));
        let dns = config.dns.all_addresses().chain(local.dns_addresses());
        own.extend(dns.map(|ip| (ip, "a DNS address (dns.addresses)")));
        if let Some(vtep) = &local.vtep {
            own.extend([
                (IpAddr::V4(vtep.underlay), "the VTEP's underlay address"),
                (IpAddr::V4(vtep.vtep.addr()), "this node's VTEP"),
            ]);
        }
        let hosts = hosts(cluster);
        Self {
            own,
            others: others(cluster, local),
            agents: hosts.iter().filter(|(_, apps)| apps.len() > 1).map(|(ip, _)| *ip).collect(),
            hosts: hosts.into_keys().collect(),
            seen: seen(cluster, local),
            subnets: subnets(cluster),
            links: port_nets(cluster, local).map(|net| net.trunc()).collect(),
        }
    }

    /// Why no VIP of `claimant` may be `ip`.
    pub(super) fn refuses_vip(&self, ip: IpAddr, claimant: Claimant) -> Option<String> {
        let what = self.own.get(&ip).or_else(|| self.others.get(&ip)).map(|w| (*w).to_owned());
        let what = what.or_else(|| special(ip).map(str::to_owned));
        let what = what.or_else(|| self.subnets.iter().find(|(net, _)| net.contains(&ip)).map(|(_, w)| w.clone()));
        let what = what.or_else(|| (claimant == Claimant::Label).then(|| self.refuses_label(ip)).flatten());
        what.map(|w| format!("{ip} is {w}: no VIP may have it"))
    }

    fn refuses_label(&self, ip: IpAddr) -> Option<String> {
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
    pub(super) fn refuses_backend(&self, ip: IpAddr, vips: &BTreeSet<IpAddr>) -> Option<String> {
        let what = self.own.get(&ip).copied().or_else(|| special(ip));
        let what = what.or_else(|| vips.contains(&ip).then_some("itself a VIP, which would be a loop"));
        what.map(|w| format!("the backend's address {ip} is {w}"))
    }

    /// Whether an agent is known to be at `ip` by more than one app's word.
    pub(super) fn is_agent(&self, ip: IpAddr) -> bool {
        self.others.get(&ip) == Some(&AGENT) || self.agents.contains(&ip)
    }

    /// Single addresses that a named VIP never gets; one that has had its address before (`claimed`) keeps it where
    /// nothing but tasks' words speaks against it.
    pub(super) fn taken<'a>(&'a self, claimed: &'a BTreeSet<IpAddr>) -> impl Iterator<Item = IpAddr> + 'a {
        let hosts = self.hosts.iter().filter(|ip| !claimed.contains(ip));
        self.own.keys().chain(self.others.keys()).chain(hosts).copied()
    }
}

/// Addresses of the packet ports with their prefixes, from the file and from the kernel.
fn port_nets<'a>(cluster: &'a Cluster<'_>, local: &'a Local) -> impl Iterator<Item = IpNet> + 'a {
    let of_file = cluster.config.ports.iter().map(|p| (&p.addresses, &p.addresses6));
    let all = of_file.chain(local.ports.iter().map(|p| (&p.addresses, &p.addresses6)));
    all.flat_map(|(four, six)| four.iter().map(|n| IpNet::V4(*n)).chain(six.iter().map(|n| IpNet::V6(*n))))
}

fn snat<'a>(cluster: &'a Cluster<'_>, local: &'a Local) -> impl Iterator<Item = IpAddr> + 'a {
    let snat = &cluster.config.snat;
    let four = [&snat.underlay, &snat.overlay, &local.snat_underlay, &local.snat_overlay];
    let six = [&snat.underlay6, &snat.overlay6, &local.snat_underlay6, &local.snat_overlay6];
    four.into_iter().flatten().map(|ip| IpAddr::V4(*ip)).chain(six.into_iter().flatten().map(|ip| IpAddr::V6(*ip)))
}

/// The first address of a subnet is its name or its routers' (RFC 4291 section 2.6.1), the last of an IPv4 one is
/// everybody's.
fn ends(net: IpNet) -> impl Iterator<Item = IpAddr> {
    let wide = net.max_prefix_len() - net.prefix_len() > 1;
    let last = net.addr().is_ipv4().then(|| net.broadcast());
    std::iter::once(net.network()).chain(last).filter(move |_| wide)
}

const AGENT: &str = "an agent's address";
const MASTER: &str = "a Mesos master's address";

/// Where tasks say that they run, and whose tasks.
fn hosts<'a>(cluster: &'a Cluster<'_>) -> BTreeMap<IpAddr, BTreeSet<&'a str>> {
    let mut hosts: BTreeMap<IpAddr, BTreeSet<&str>> = BTreeMap::new();
    for task in cluster.view.marathons.values().flat_map(|l| &l.tasks) {
        if let Some(ip) = cluster.view.agent_address(&task.host) {
            hosts.entry(ip).or_default().insert(&task.app);
        }
    }
    hosts
}

fn others(cluster: &Cluster<'_>, local: &Local) -> BTreeMap<IpAddr, &'static str> {
    let (config, view) = (cluster.config, cluster.view);
    // The kernel's own addresses are on link on the host port.
    let kernel = local.neighbours.iter().filter(|n| Some(n.port) == local.host_port).map(|n| n.ip);
    let joined =
        config.overlay.iter().flat_map(|o| &o.agents).chain(&view.overlay.agents).chain(&view.overlay.leased.agents);
    let joined = joined.map(|a| IpAddr::V4(a.ip));
    let gateways = config.routes.iter().chain(&local.routes).filter_map(|r| r.via);
    let marathons = config.marathons.iter().flat_map(Marathon::addresses).map(IpAddr::V4);
    let masters = config.mesos.iter().flat_map(Mesos::addresses).map(IpAddr::V4);
    let mut others = BTreeMap::new();
    let ends = port_nets(cluster, local).flat_map(ends);
    others.extend(ends.map(|ip| (ip, "the first or last address of a port's subnet")));
    others.extend(config.neighbours.iter().map(|n| (n.ip, "a neighbour's address ([[neighbour]])")));
    others.extend(joined.map(|ip| (ip, AGENT)));
    others.extend(gateways.map(|ip| (ip, "a gateway's address")));
    others.extend(marathons.map(|ip| (ip, "a Marathon's address")));
    others.extend(masters.map(|ip| (ip, MASTER)));
    others.extend(kernel.map(|ip| (ip, "an address of this node's kernel")));
    others
}

fn seen(cluster: &Cluster<'_>, local: &Local) -> BTreeMap<IpAddr, &'static str> {
    let view = cluster.view;
    let leaders = view.marathons.values().filter_map(|l| view.agent_address(l.framework_host.as_deref()?));
    let mut seen: BTreeMap<_, _> = local.neighbours.iter().map(|n| (n.ip, "a neighbour's address")).collect();
    seen.extend(leaders.map(|ip| (ip, "a Marathon's address")));
    if let Some(mesos) = &view.mesos {
        let masters = mesos.leader.iter().chain(&mesos.masters);
        seen.extend(masters.filter_map(|m| Some((view.agent_address(&m.host)?, MASTER))));
        let agents = mesos.agents.values().map(|agent| agent.hostname.as_str());
        seen.extend(agents.filter_map(|host| Some((view.agent_address(host)?, AGENT))));
    }
    seen
}

fn subnets(cluster: &Cluster<'_>) -> Vec<(IpNet, String)> {
    let networks = cluster.networks.iter().map(|n| (IpNet::V4(n.subnet), format!("in the overlay network {}", n.name)));
    let vteps = cluster.config.overlay.iter().map(|o| (IpNet::V4(o.vtep.trunc()), "in the VTEPs' subnet".to_owned()));
    let health = &cluster.config.health;
    let four = (IpNet::V4(health.probe_range), "in health.probe_range, the addresses of our own probes".to_owned());
    let six = (IpNet::V6(health.probe_range6), "in health.probe_range6, the addresses of our own probes".to_owned());
    networks.chain(vteps).chain([four, six]).collect()
}

/// Addresses that are nobody's by standard (RFC 6890).
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => special4(ip),
        IpAddr::V6(ip) => special6(ip),
    }
}

fn special6(ip: Ipv6Addr) -> Option<&'static str> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("::, which is no address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0, 0, 0, 0, 0, 0xffff, ..] => Some("an IPv4 address in IPv6 form"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        _ => None,
    }
}

fn special4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("in 0.0.0.0/8, which is no address"),
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address"),
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("a broadcast or reserved address"),
        _ => None,
    }
}
