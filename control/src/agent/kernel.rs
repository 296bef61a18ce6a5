//! Makes the agent's kernel have what its plan says, and nothing else that an agent made before.
//!
//! Every step looks first and changes only what differs, so that a second run changes nothing and one that was killed is
//! gone on with. Whatever is made carries [`AGENT`] as its protocol, or the device's alias; what does not is somebody
//! else's and stays. Links come before entries, entries before routes, routes before rules, and go in the other order:
//! no packet meets a way that leads nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};
use rtnetlink::{Handle, IpVersion, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use sluice_config::model::Mac;

use super::plan::{Device, Peer, Plan, Route, Rule, To, UNREACHABLE_METRIC};
use crate::netlink::devconf::{self, RP_FILTER};
use crate::netlink::inventory::{self, read_link};
use crate::netlink::{NetlinkError, Tried, os_code, unless};

/// The protocol number of every route and rule that an agent makes: `ip route show table all proto 84` lists them. Not
/// `sluice run`'s, which takes over whatever has its own.
pub const AGENT: u8 = 84;
/// The alias of the device that an agent made.
const ALIAS: &str = "sluice agent";
/// The device's name until it has its alias: what has this name is ours, whenever the process that made it ended.
const UNFINISHED: &str = "sluice-agent0";

/// The index of each VNI's device.
type Tunnels = BTreeMap<u32, u32>;

/// Lets a device speak IPv6, where new ones do not by themselves (net.ipv6.conf.default.disable_ipv6).
fn switch_ipv6_on(device: &str) -> Result<(), NetlinkError> {
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    let now = std::fs::read_to_string(&path).tried(|| format!("read {path}: this kernel speaks no IPv6"))?;
    if now.trim() == "0" {
        return Ok(());
    }
    std::fs::write(&path, "0").tried(|| format!("write {path}"))
}

/// A link as the kernel tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    index: u32,
    name: String,
    alias: String,
    kind: String,
    mac: Option<Mac>,
    mtu: u32,
    up: bool,
    vxlan: Option<(u32, u16)>,
    local: Option<Ipv4Addr>,
}

/// The kernel, as an agent changes it.
#[derive(Debug)]
pub struct Kernel {
    handle: Handle,
    /// Routes that somebody else has; each is told of once.
    foreign: BTreeSet<Route>,
}

impl Kernel {
    /// A connection to it.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn connect() -> Result<Self, NetlinkError> {
        Ok(Self { handle: crate::netlink::connect()?, foreign: BTreeSet::new() })
    }

    /// Makes it so. How many changes that took.
    ///
    /// # Errors
    /// What the kernel says; what was done stays, and the next call goes on.
    pub async fn settle(&mut self, plan: &Plan) -> Result<usize, NetlinkError> {
        let mut changes = self.remove_others(&plan.devices).await?;
        let mut tunnels = Tunnels::new();
        for device in &plan.devices {
            let (index, changed) = self.device(device).await?;
            if plan.speaks_ipv6() {
                switch_ipv6_on(&device.name)?;
            }
            changes += changed + self.peers(index, &plan.peers, plan.speaks_ipv6()).await?;
            tunnels.insert(device.vni, index);
        }
        changes += self.routes(&tunnels, &plan.routes).await?;
        changes += self.rules(&plan.rules).await?;
        Ok(changes)
    }

    /// Removes everything that an agent made, and those of `bridges` that have no port any more.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn down(&mut self, bridges: &[String]) -> Result<(), NetlinkError> {
        self.rules(&BTreeSet::new()).await?;
        for (_, message) in self.our_routes(&Tunnels::new()).await? {
            self.remove_route(message).await?;
        }
        let links = self.links().await?;
        let ours = links.iter().filter(|link| link.is_ours());
        for link in ours.chain(self.empty_bridges(&links, bridges).await?.iter()) {
            self.remove_link(link).await?;
        }
        Ok(())
    }

    /// The device, made or changed where it has to be.
    async fn device(&self, wanted: &Device) -> Result<(u32, usize), NetlinkError> {
        let links = self.links().await?;
        if let Some(foreign) = links.iter().find(|link| link.name == wanted.name && !link.is_ours()) {
            let kind = if foreign.kind.is_empty() { "physical interface" } else { &foreign.kind };
            return Err(NetlinkError::Refused {
                what: format!("make the VXLAN device {}", wanted.name),
                reason: format!(
                    "a {kind} of that name is there, and is not an agent's of Sluice: remove it (`ip link del {}`), or write another `device`",
                    wanted.name
                ),
            });
        }
        let (link, made) = match links.into_iter().find(|link| link.fits(wanted)) {
            Some(link) => (link, 0),
            None => (self.make(wanted).await?, 1),
        };
        Ok((link.index, made + self.refresh(&link, wanted).await?))
    }

    /// Removes devices of ours that are none of these.
    async fn remove_others(&self, wanted: &[Device]) -> Result<usize, NetlinkError> {
        let ours = self.links().await?.into_iter().filter(Seen::is_ours);
        let others: Vec<Seen> = ours.filter(|link| !wanted.iter().any(|device| link.fits(device))).collect();
        for old in &others {
            self.remove_link(old).await?;
        }
        Ok(others.len())
    }

    async fn make(&self, wanted: &Device) -> Result<Seen, NetlinkError> {
        let message = LinkVxlan::new(UNFINISHED, wanted.vni)
            .port(wanted.port)
            .local(wanted.local)
            .learning(false)
            .udp_csum(false)
            .build();
        let what = || format!("make the VXLAN device {}", wanted.name);
        self.handle.link().add(message).execute().await.tried(what)?;
        let index = self.links().await?.into_iter().find(|link| link.name == UNFINISHED).map_or(0, |link| link.index);
        // No packet leaves it with an address that the kernel made up; what comes in may come from anywhere in the overlay.
        devconf::set_ipv4(&self.handle, index, RP_FILTER, 0).await?;
        if let Err(error) = devconf::no_ipv6_address(&self.handle, index).await {
            tracing::debug!(%error, "this kernel speaks no IPv6");
        }
        let alias = LinkUnspec::new_with_index(index).alias(ALIAS).build();
        self.handle.link().change(alias).execute().await.tried(what)?;
        let name = LinkUnspec::new_with_index(index).name(&wanted.name).build();
        self.handle.link().change(name).execute().await.tried(what)?;
        let made = self.links().await?.into_iter().find(|link| link.index == index);
        made.ok_or_else(|| NetlinkError::Refused { what: what(), reason: "it vanished at once".into() })
    }

    /// MAC, MTU, state and address of a device that is there.
    async fn refresh(&self, link: &Seen, wanted: &Device) -> Result<usize, NetlinkError> {
        let mut changes = 0;
        let mac: Option<Mac> = wanted.mac.parse().ok();
        if link.mac != mac || link.mtu != wanted.mtu || !link.up {
            let octets = mac.unwrap_or_default().0.to_vec();
            let message = LinkUnspec::new_with_index(link.index).address(octets).mtu(wanted.mtu).up().build();
            self.handle.link().change(message).execute().await.tried(|| format!("set {} up", wanted.name))?;
            changes += 1;
        }
        let mut there = Vec::new();
        let mut addresses = self.handle.address().get().set_link_index_filter(link.index).execute();
        while let Some(message) = addresses.try_next().await.tried(|| "list addresses".into())? {
            there.push(message);
        }
        let is = |net: Option<(u32, IpNet)>| net.map(|(_, net)| net) == Some(IpNet::V4(wanted.address));
        if !there.iter().any(|message| is(inventory::read_address(message))) {
            let (ip, length) = (IpAddr::V4(wanted.address.addr()), wanted.address.prefix_len());
            let added = self.handle.address().add(link.index, ip, length).execute().await;
            added.tried(|| format!("give {} the address {}", wanted.name, wanted.address))?;
            changes += 1;
        }
        let four = |a: &AddressAttribute| matches!(a, AddressAttribute::Local(IpAddr::V4(_)));
        for old in there.into_iter().filter(|m| m.attributes.iter().any(four) && !is(inventory::read_address(m))) {
            let removed = self.handle.address().del(old).execute().await;
            unless(removed, &[libc::EADDRNOTAVAIL]).tried(|| format!("remove an old address of {}", wanted.name))?;
            changes += 1;
        }
        Ok(changes)
    }

    /// Neighbours and forwarding entries.
    async fn peers(&self, index: u32, wanted: &BTreeSet<Peer>, with_ipv6: bool) -> Result<usize, NetlinkError> {
        let neighbours: BTreeSet<(IpAddr, String)> =
            wanted.iter().flat_map(|peer| peer.neighbours().map(|ip| (ip, peer.mac.clone()))).collect();
        let forwarding: BTreeSet<(IpAddr, String)> =
            wanted.iter().map(|peer| (IpAddr::V4(peer.underlay), peer.mac.clone())).collect();
        let (four, six): (BTreeSet<_>, BTreeSet<_>) = neighbours.into_iter().partition(|(ip, _)| ip.is_ipv4());
        let mut changes = self.entries(index, AddressFamily::Bridge, &forwarding).await?;
        changes += self.entries(index, AddressFamily::Inet, &four).await?;
        if with_ipv6 {
            changes += self.entries(index, AddressFamily::Inet6, &six).await?;
        }
        Ok(changes)
    }

    /// Makes the device's permanent entries of one family these: of each address and MAC.
    async fn entries(
        &self,
        index: u32,
        family: AddressFamily,
        wanted: &BTreeSet<(IpAddr, String)>,
    ) -> Result<usize, NetlinkError> {
        let mut there = Vec::new();
        let mut listed = self.handle.neighbours().get().set_address_family(family).execute();
        while let Some(message) = listed.try_next().await.tried(|| "list neighbours".into())? {
            if message.header.ifindex == index && message.header.state == NeighbourState::Permanent {
                there.extend(entry(&message).map(|entry| (entry, message)));
            }
        }
        let known: BTreeSet<_> = there.iter().map(|(entry, _)| entry.clone()).collect();
        let by_mac = family == AddressFamily::Bridge;
        let mut changes = 0;
        for (address, mac) in wanted.difference(&known) {
            let octets = mac.parse::<Mac>().unwrap_or_default().0;
            let request = if by_mac {
                self.handle.neighbours().add_bridge(index, &octets).destination(*address).flags(NeighbourFlags::Own)
            } else {
                self.handle.neighbours().add(index, *address).link_layer_address(&octets)
            };
            request.replace().execute().await.tried(|| format!("make {address} with {mac} a neighbour"))?;
            changes += 1;
        }
        for ((address, mac), message) in there {
            // Replaced above, unless nobody has either any more: a neighbour is known by its address, a forwarding entry by
            // its MAC.
            let replaced = wanted.iter().any(|(a, m)| if by_mac { *m == mac } else { *a == address });
            if !wanted.contains(&(address, mac.clone())) {
                changes += 1;
                if !replaced {
                    let removed = self.handle.neighbours().del(message).execute().await;
                    unless(removed, &[libc::ENOENT]).tried(|| format!("forget the neighbour {address} with {mac}"))?;
                }
            }
        }
        Ok(changes)
    }

    async fn routes(&mut self, tunnels: &Tunnels, wanted: &BTreeSet<Route>) -> Result<usize, NetlinkError> {
        let there = self.our_routes(tunnels).await?;
        let known: BTreeSet<Route> = there.iter().filter_map(|(route, _)| *route).collect();
        let mut changes = 0;
        for route in wanted.difference(&known) {
            // The kernel knows a route by table, destination and metric: ours is replaced without a gap, another's never.
            let message = message(route, tunnels);
            let ours = known.iter().any(|k| k.key() == route.key());
            let request = self.handle.route().add(message);
            let request = if ours { request.replace() } else { request };
            match request.execute().await {
                Err(error) if os_code(&error) == Some(libc::EEXIST) => {
                    if self.foreign.insert(*route) {
                        tracing::warn!(prefix = %route.prefix, table = route.table, "somebody else has a route there, which stays");
                    }
                }
                other => {
                    other.tried(|| format!("add the route to {} in table {}", route.prefix, route.table))?;
                    changes += 1;
                }
            }
        }
        for (route, message) in there {
            let replaced = route.is_some_and(|route| wanted.iter().any(|w| w.key() == route.key()));
            if !replaced {
                self.remove_route(message).await?;
                changes += 1;
            }
        }
        Ok(changes)
    }

    async fn our_routes(&self, tunnels: &Tunnels) -> Result<Vec<(Option<Route>, RouteMessage)>, NetlinkError> {
        let all = inventory::routes(&self.handle).await?;
        let ours = all.into_iter().filter(|message| message.header.protocol == RouteProtocol::from(AGENT));
        Ok(ours.map(|message| (read_route(&message, tunnels), message)).collect())
    }

    async fn remove_route(&self, message: RouteMessage) -> Result<(), NetlinkError> {
        let mut plain = message;
        plain.header.flags = Default::default();
        let names = |a: &RouteAttribute| {
            use RouteAttribute::{Destination, Oif, Priority, Table};
            matches!(a, Destination(_) | Priority(_) | Oif(_) | Table(_))
        };
        plain.attributes.retain(names);
        let removed = self.handle.route().del(plain).execute().await;
        unless(removed, &[libc::ESRCH]).tried(|| "remove a route of ours".into())
    }

    async fn rules(&self, wanted: &BTreeSet<Rule>) -> Result<usize, NetlinkError> {
        let mut there = Vec::new();
        for family in [IpVersion::V4, IpVersion::V6] {
            let mut listed = self.handle.rule().get(family).execute();
            while let Some(message) = listed.try_next().await.tried(|| "list rules".into())? {
                there.extend(read_rule(&message).map(|rule| (rule, message)));
            }
        }
        let known: BTreeSet<Rule> = there.iter().map(|(rule, _)| rule.clone()).collect();
        let mut changes = 0;
        for rule in wanted.difference(&known) {
            let mut request = self.handle.rule().add().priority(rule.priority);
            request.message_mut().header = rule_header(rule);
            request.message_mut().attributes.extend(rule_attributes(rule));
            unless(request.execute().await, &[libc::EEXIST]).tried(|| format!("do `{rule}`"))?;
            changes += 1;
        }
        for (_, message) in there.into_iter().filter(|(rule, _)| !wanted.contains(rule)) {
            let removed = self.handle.rule().del(message).execute().await;
            unless(removed, &[libc::ENOENT]).tried(|| "remove a rule of ours".into())?;
            changes += 1;
        }
        Ok(changes)
    }

    async fn links(&self) -> Result<Vec<Seen>, NetlinkError> {
        let mut all = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await.tried(|| "list interfaces".into())? {
            all.push(seen(&message));
        }
        Ok(all)
    }

    async fn remove_link(&self, link: &Seen) -> Result<(), NetlinkError> {
        let removed = self.handle.link().del(link.index).execute().await;
        unless(removed, &[libc::ENODEV]).tried(|| format!("remove {}", link.name))
    }

    /// Bridges of these names that the CNI plugin left when the last container went.
    async fn empty_bridges(&self, links: &[Seen], names: &[String]) -> Result<Vec<Seen>, NetlinkError> {
        let mut used = BTreeSet::new();
        let mut messages = self.handle.link().get().execute();
        while let Some(message) = messages.try_next().await.tried(|| "list interfaces".into())? {
            let bridge =
                |a: &LinkAttribute| if let LinkAttribute::Controller(bridge) = a { Some(*bridge) } else { None };
            used.extend(message.attributes.iter().filter_map(bridge));
        }
        let empty = |link: &&Seen| link.kind == "bridge" && names.contains(&link.name) && !used.contains(&link.index);
        Ok(links.iter().filter(empty).cloned().collect())
    }
}

impl Seen {
    fn is_ours(&self) -> bool {
        self.kind == "vxlan" && (self.alias == ALIAS || self.name == UNFINISHED)
    }

    /// Whether it can become what is wanted: what makes a device another one cannot be changed.
    fn fits(&self, wanted: &Device) -> bool {
        self.name == wanted.name && self.vxlan == Some((wanted.vni, wanted.port)) && self.local == Some(wanted.local)
    }
}

impl Route {
    fn metric(&self) -> u32 {
        match self.to {
            To::Vtep(..) | To::Gateway(_) => 0,
            To::Unreachable => UNREACHABLE_METRIC,
        }
    }

    fn key(&self) -> (u32, IpNet, u32) {
        (self.table, self.prefix, self.metric())
    }
}

fn seen(message: &LinkMessage) -> Seen {
    let link = read_link(message);
    let mut alias = String::new();
    let mut local = None;
    for attribute in &message.attributes {
        if let LinkAttribute::IfAlias(text) = attribute {
            alias.clone_from(text);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                let LinkInfo::Data(InfoData::Vxlan(settings)) = info else { continue };
                local = settings.iter().find_map(|s| if let InfoVxlan::Local(ip) = s { Some(*ip) } else { None });
            }
        }
    }
    let (index, mac, mtu, up, vxlan) = (message.header.index, link.mac, link.mtu, link.up, link.vxlan);
    Seen { index, name: link.name, alias, kind: link.kind, mac, mtu, up, vxlan, local }
}

fn entry(message: &NeighbourMessage) -> Option<(IpAddr, String)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) = attribute {
            address = Some(IpAddr::V4(*ip));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) = attribute {
            address = Some(IpAddr::V6(*ip));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Other(octets)) = attribute {
            // Of a bridge's family the parser does not know the address.
            address = <[u8; 4]>::try_from(octets.as_slice()).ok().map(|octets| IpAddr::V4(octets.into()));
        } else if let NeighbourAttribute::LinkLayerAddress(octets) = attribute {
            mac = <[u8; 6]>::try_from(octets.as_slice()).ok().map(|octets| Mac(octets).to_string());
        }
    }
    address.zip(mac)
}

fn message(route: &Route, tunnels: &Tunnels) -> RouteMessage {
    let (network, length) = (route.prefix.network(), route.prefix.prefix_len());
    let mut message = match network {
        IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, length).build(),
        IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, length).build(),
    };
    message.header.protocol = RouteProtocol::from(AGENT);
    // A number of more than an octet does not fit into the header.
    message.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.attributes.push(RouteAttribute::Table(route.table));
    match route.to {
        To::Vtep(via, vni) => {
            let link = tunnels.get(&vni).copied().unwrap_or_default();
            // Only the first device has the VTEPs' subnet on link.
            message.header.flags = RouteFlags::Onlink;
            message.attributes.extend([RouteAttribute::Oif(link), RouteAttribute::Gateway(via.into())]);
        }
        To::Gateway(via) => message.attributes.push(RouteAttribute::Gateway(via.into())),
        To::Unreachable => {
            message.header.kind = RouteType::Unreachable;
            message.attributes.push(RouteAttribute::Priority(UNREACHABLE_METRIC));
        }
    }
    message
}

/// A route as the plan has them; `None` for one that no plan has.
fn read_route(message: &RouteMessage, tunnels: &Tunnels) -> Option<Route> {
    let (mut table, mut gateway, mut link) = (u32::from(message.header.table), None, 0);
    let mut network = None;
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(to) = attribute {
            network = inventory::address(to);
        } else if let RouteAttribute::Gateway(via) = attribute {
            gateway = inventory::address(via);
        } else if let RouteAttribute::Oif(oif) = attribute {
            link = *oif;
        } else if let RouteAttribute::Table(number) = attribute {
            table = *number;
        }
    }
    let prefix = IpNet::new(network?, message.header.destination_prefix_length).ok()?;
    let tunnel = tunnels.iter().find(|(_, index)| **index == link).map(|(vni, _)| *vni);
    let to = match (message.header.kind, gateway, tunnel) {
        (RouteType::Unreachable, ..) => To::Unreachable,
        (_, Some(via), Some(vni)) => To::Vtep(via, vni),
        (_, Some(via), None) => To::Gateway(via),
        (_, None, _) => return None,
    };
    Some(Route { table, prefix, to })
}

fn rule_header(rule: &Rule) -> RuleHeader {
    RuleHeader {
        family: if rule.from.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        src_len: rule.from.prefix_len(),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    }
}

fn rule_attributes(rule: &Rule) -> impl Iterator<Item = RuleAttribute> {
    let from = (rule.from.prefix_len() > 0).then(|| RuleAttribute::Source(rule.from.network()));
    let iif = rule.iif.clone().map(RuleAttribute::Iifname);
    let ours = RuleAttribute::Protocol(RouteProtocol::from(AGENT));
    let table = RuleAttribute::Table(rule.table);
    [Some(ours), Some(table), from, iif].into_iter().flatten()
}

/// A rule of an agent's.
fn read_rule(message: &RuleMessage) -> Option<Rule> {
    let is_six = message.header.family == AddressFamily::Inet6;
    let any = if is_six { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) };
    let mut rule = Rule { priority: 0, from: any, iif: None, table: u32::from(message.header.table) };
    let mut ours = false;
    for attribute in &message.attributes {
        if let RuleAttribute::Priority(priority) = attribute {
            rule.priority = *priority;
        } else if let RuleAttribute::Source(ip) = attribute {
            rule.from = IpNet::new(*ip, message.header.src_len).ok()?;
        } else if let RuleAttribute::Iifname(name) = attribute {
            rule.iif = Some(name.clone());
        } else if let RuleAttribute::Table(table) = attribute {
            rule.table = *table;
        } else if let RuleAttribute::Protocol(protocol) = attribute {
            ours = *protocol == RouteProtocol::from(AGENT);
        }
    }
    ours.then_some(rule)
}
