//! What Sluice keeps in the node's kernel while it runs: the host port, routes, managed neighbours.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use rtnetlink::Handle;
use sluice_config::model::{Config, Local};
use sluice_dataplane::event::Event;
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::fib::Target;

use crate::netlink::host_port::{self, HostPort};
use crate::netlink::inventory::Inventory;
use crate::netlink::neighbours::{Key, MOST_ASKED, Neighbours};
use crate::netlink::routes::{Routes, Served};
use crate::netlink::{NetlinkError, local, programs};

/// The kernel's side of a running Sluice.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    config: Config,
    /// Link index of every port.
    links: Vec<u32>,
    /// The host port, where there is one.
    pub host: Option<HostPort>,
    routes: Routes,
    neighbours: Neighbours,
    asked: bool,
    /// Who was asked for anew since `doubted_at`.
    doubted: BTreeSet<Key>,
    doubted_at: Instant,
}

/// How long the kernel has for an answer before it is made to ask anew.
const PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// Replaces what an earlier Sluice left, and makes the host port.
    ///
    /// # Errors
    /// When an interface is missing, the kernel runs the overlay itself, or refuses; nothing of ours is left then.
    pub async fn begin(handle: Handle, config: &Config, kernel: &Inventory) -> Result<Self, NetlinkError> {
        let links = local::links(config, kernel)?;
        refuse_kernel_vxlan(config, kernel)?;
        let ports: Vec<&str> = config.ports.iter().map(|p| p.interface.as_str()).collect();
        if let Some(name) = programs::held(&handle, &ports).await? {
            return Err(NetlinkError::PortInUse { name });
        }
        let routes = Routes::begin(handle.clone()).await?;
        let neighbours = Neighbours::begin(handle.clone()).await?;
        let workers = config.ports.first().map_or(1, |p| p.queues.len());
        let mut node = Self {
            handle,
            config: config.clone(),
            links,
            host: None,
            routes,
            neighbours,
            asked: false,
            doubted: BTreeSet::new(),
            doubted_at: Instant::now(),
        };
        if let Some(host) = &config.host {
            let mtu = local::overlay_mtu(config, kernel).map_or(1500, u32::from);
            let names: Vec<IpAddr> = config.dns.all_addresses().collect();
            match host_port::make(&node.handle, host, &names, workers, mtu).await {
                Ok(mut made) => {
                    if speaks_ipv6(config) {
                        host_port::with_ipv6(&node.handle, host, &names, &mut made).await?;
                    }
                    node.host = Some(made);
                }
                Err(error) => {
                    let not_ours = matches!(error, NetlinkError::NameTaken { .. } | NetlinkError::HostPortInUse { .. });
                    if !not_ours {
                        let _ = host_port::remove(&node.handle, host).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(node)
    }

    /// This node's own part of the tables.
    ///
    /// # Errors
    /// When a port's interface has gone.
    pub fn local(&self, kernel: &Inventory) -> Result<Local, NetlinkError> {
        local::assemble(&self.config, kernel, self.host.as_ref())
    }

    /// The interface that has gone since the start, if one has: its sockets would stay silent for ever.
    #[must_use]
    pub fn gone(&self, kernel: &Inventory) -> Option<String> {
        let ports = self.config.ports.iter().zip(&self.links).map(|(p, link)| (p.interface.as_str(), *link));
        let host = self.host.iter().flat_map(|h| {
            let kernel_end = self.config.host.as_ref().map_or("", |c| c.interface.as_str());
            [(kernel_end, h.kernel_index), (h.peer.as_str(), h.peer_index)]
        });
        ports.chain(host).find(|(_, link)| !kernel.links.contains_key(link)).map(|(name, _)| name.to_owned())
    }

    /// Makes routes and neighbours what these tables need.
    ///
    /// # Errors
    /// What the kernel says to a route.
    pub async fn settle(&mut self, tables: &Tables, kernel: &Inventory) -> Result<(), NetlinkError> {
        self.asked = false;
        if let Some(host) = &self.host {
            host_port::settle(&self.handle, host, kernel).await?;
        }
        self.routes.compare(kernel, self.host.as_ref());
        let served = served(&self.config, tables, kernel);
        self.neighbours.settle(&next_hops(&self.config, tables, &self.links), kernel).await;
        let wanted = served.wanted(|prefix| self.host.as_ref().is_some_and(|host| host.leads(prefix)));
        self.routes.settle(&wanted, self.host.as_ref()).await
    }

    /// Takes a worker's word that somebody's MAC is wanted. Packets that wait for a MAC make the kernel ask anew, at
    /// most once in [`PATIENCE`].
    pub fn heard(&mut self, event: Event, now: Instant) {
        let (Event::NextHopUnresolved { ip, port } | Event::NeighbourAsked { ip, port }) = event else { return };
        let Some(link) = self.links.get(usize::from(port)) else { return };
        let key = (*link, ip);
        self.asked |= self.neighbours.ask(key);
        if !matches!(event, Event::NextHopUnresolved { .. }) {
            return;
        }
        if now.duration_since(self.doubted_at) >= PATIENCE {
            self.doubted_at = now;
            self.doubted.clear();
        }
        if self.doubted.len() < MOST_ASKED && self.doubted.insert(key) {
            self.neighbours.doubt(key);
            self.asked = true;
        }
    }

    /// From now on nothing more will become known that an earlier Sluice's blackholes may stand for.
    pub fn complete(&mut self) {
        self.routes.complete();
    }

    /// Whether somebody was heard of since the last [`Node::settle`].
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked
    }

    /// Takes everything away again. Each part is tried whatever became of the others.
    ///
    /// # Errors
    /// The first thing that could not be taken away.
    pub async fn end(self) -> Result<(), NetlinkError> {
        self.neighbours.end().await;
        let routes = self.routes.end().await;
        let host = match &self.config.host {
            Some(host) => host_port::remove(&self.handle, host).await,
            None => Ok(()),
        };
        routes.and(host)
    }
}

fn refuse_kernel_vxlan(config: &Config, kernel: &Inventory) -> Result<(), NetlinkError> {
    let Some(overlay) = &config.overlay else { return Ok(()) };
    let wanted = Some((overlay.vni.get(), overlay.udp_port));
    match kernel.links.values().find(|link| link.up && link.vxlan == wanted) {
        None => Ok(()),
        Some(link) => {
            Err(NetlinkError::KernelVxlan { name: link.name.clone(), vni: overlay.vni.get(), port: overlay.udp_port })
        }
    }
}

/// Whether a VIP may be an IPv6 address that backends of the same family serve, or the kernel has one for DNS or in the
/// overlay.
fn speaks_ipv6(config: &Config) -> bool {
    let own = config.host.iter().flat_map(|h| &h.addresses).map(IpNet::addr);
    if own.chain(config.dns.all_addresses()).any(|ip| ip.is_ipv6()) {
        return true;
    }
    let service = config.services.iter().any(|s| s.key.ip.is_ipv6());
    service || !config.snat.underlay6.is_empty() || config.ports.iter().any(|p| !p.addresses6.is_empty())
}

/// The prefixes that the kernel shall send to Sluice.
fn served(config: &Config, tables: &Tables, kernel: &Inventory) -> Served {
    let shared = &tables.desired.shared;
    let mut served = Served::default();
    let own = || config.host.iter().flat_map(|h| &h.addresses).map(IpNet::addr);
    for network in &shared.networks {
        let whole = [Some(IpNet::V4(network.subnet.trunc())), network.subnet6.map(|net| net.trunc().into())];
        let source = |net: &IpNet| own().find(|ip| net.contains(ip));
        served.networks.extend(whole.into_iter().flatten().map(|net| (net, source(&net))));
    }
    if let Some(overlay) = &config.overlay {
        // Agents give what their containers send to a node their VTEP's address (DC/OS's masquerade): the answer goes there.
        served.networks.insert(overlay.vtep.trunc().into(), own().find(IpAddr::is_ipv4));
    }
    let probed = |v6| tables.desired.local.probes.iter().any(|path| path.address.is_ipv6() == v6);
    served.claimed.extend(probed(false).then_some(IpNet::V4(config.health.probe_range)));
    served.claimed.extend(probed(true).then_some(IpNet::V6(config.health.probe_range6)));
    if !config.marathons.is_empty() || config.mesos.is_some() {
        let (named, named6) = (&config.vip.named, &config.vip.named6);
        served.claimed.extend(Ipv4Subnets::new(*named.start(), *named.end(), 0).map(IpNet::V4));
        if shared.services.iter().any(|s| matches!(s.key.ip, IpAddr::V6(ip) if named6.contains(&ip))) {
            served.claimed.extend(Ipv6Subnets::new(*named6.start(), *named6.end(), 0).map(IpNet::V6));
        }
    }
    let vips = shared.services.iter().map(|s| s.key.ip);
    let owned: BTreeSet<IpAddr> = kernel.addresses.iter().map(|(_, net)| net.addr()).collect();
    let dns = config.dns.all_addresses().filter(|ip| !owned.contains(ip));
    let snat = config.snat.underlay.iter().chain(&config.snat.overlay).map(|ip| IpAddr::V4(*ip));
    let snat = snat.chain(config.snat.underlay6.iter().chain(&config.snat.overlay6).map(|ip| IpAddr::V6(*ip)));
    let alone: Vec<IpNet> = vips
        .chain(snat)
        .chain(dns)
        .filter(|ip| !served.claimed.iter().any(|net| net.contains(ip)))
        .map(IpNet::from)
        .collect();
    served.claimed.extend(alone);
    served
}

/// Everything on link that packets leave to: gateways, backends and agents.
fn next_hops(config: &Config, tables: &Tables, links: &[u32]) -> BTreeSet<Key> {
    let desired = &tables.desired;
    let gateways = desired.local.routes.iter().filter_map(|route| Some((route.port, route.via?)));
    let backends = tables.backends.iter().flatten().filter(|b| b.agent.is_none()).map(|b| b.ip);
    let agents = tables.agents.iter().map(|a| IpAddr::V4(a.underlay));
    let on_link = backends.chain(agents).filter_map(|ip| match tables.target(ip) {
        Some(Target::Link(port)) => Some((usize::from(port), ip)),
        Some(Target::Hop(_) | Target::Agent(_) | Target::NoAgent | Target::Host) | None => None,
    });
    let fixed = |port: usize, ip: IpAddr| config.neighbours.iter().any(|n| n.port == port && n.ip == ip);
    gateways
        .chain(on_link)
        .filter(|(port, ip)| !fixed(*port, *ip))
        // The host port is not among `links`: nothing is resolved there.
        .filter_map(|(port, ip)| Some((*links.get(port)?, ip)))
        .collect()
}
