//! The kernel's links, addresses, routes of the main table and neighbours of both families, as plain data.
//!
//! [`Inventory::list`] asks for everything; the `read_*` functions turn one netlink message into one entry and give
//! `None` for what packets do not care for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecUnspec, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
    XdpAttached,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use sluice_config::model::Mac;

use super::{NetlinkError, OURS, Tried, ours};

/// The kernel's state, as far as packets care.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses with their prefix, by link index; IPv6's own link-local ones are not among them.
    pub addresses: BTreeSet<(u32, IpNet)>,
    /// Routes of the main table; of equal prefixes the preferred comes first.
    pub routes: BTreeSet<Route>,
    /// Destinations of blackholes of ours in the main table.
    pub blackholes: BTreeSet<IpNet>,
    /// Neighbours by link index and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// Largest IP packet.
    pub mtu: u32,
    /// Whether it is up (administratively).
    pub up: bool,
    /// What made it (`veth`, `vxlan`), empty for hardware.
    pub kind: String,
    /// Whether an XDP program is attached.
    pub xdp: bool,
    /// Whether the kernel forwards IPv4 packets that arrive there.
    pub forwards: bool,
    /// VNI and UDP port of a vxlan device.
    pub vxlan: Option<(u32, u16)>,
}

/// One unicast route of the main table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Destination.
    pub prefix: IpNet,
    /// Lower is preferred.
    pub metric: u32,
    /// Index of the link it leaves by.
    pub link: u32,
    /// Gateway; `None` is on link.
    pub via: Option<IpAddr>,
}

/// One neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its MAC while the kernel holds it good (reachable, stale, delay, probe, permanent, noarp).
    pub mac: Option<Mac>,
    /// Whether Sluice put it there, and the kernel keeps it resolved (NTF_EXT_MANAGED).
    pub kept: bool,
}

impl Inventory {
    /// Asks the kernel for everything.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn list(handle: &Handle) -> Result<Self, NetlinkError> {
        let mut all = Self::default();
        let mut links = handle.link().get().execute();
        while let Some(message) = links.try_next().await.tried(|| "list interfaces".into())? {
            all.links.insert(message.header.index, read_link(&message));
        }
        let mut addresses = handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.tried(|| "list addresses".into())? {
            all.addresses.extend(read_address(&message));
        }
        for message in routes(handle).await? {
            all.routes.extend(read_route(&message));
            all.blackholes.extend(read_blackhole(&message));
        }
        all.neighbours.extend(neighbours(handle).await?);
        Ok(all)
    }

    /// The link with this name and its index.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<(u32, &Link)> {
        self.links.iter().find(|(_, link)| link.name == name).map(|(index, link)| (*index, link))
    }

    /// The IPv4 addresses of a link.
    pub fn addresses_of(&self, link: u32) -> impl Iterator<Item = Ipv4Net> + '_ {
        self.of(link).filter_map(|net| if let IpNet::V4(net) = net { Some(net) } else { None })
    }

    /// Its IPv6 addresses, the link-local ones apart.
    pub fn addresses6_of(&self, link: u32) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.of(link).filter_map(|net| if let IpNet::V6(net) = net { Some(net) } else { None })
    }

    fn of(&self, link: u32) -> impl Iterator<Item = IpNet> + '_ {
        self.addresses.iter().filter(move |(index, _)| *index == link).map(|(_, net)| *net)
    }
}

/// Every route of both families that the kernel lists.
pub(crate) async fn routes(handle: &Handle) -> Result<Vec<RouteMessage>, NetlinkError> {
    let mut all = Vec::new();
    for of_family in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let mut routes = handle.route().get(of_family).execute();
        while let Some(message) = routes.try_next().await.tried(|| "list routes".into())? {
            all.push(message);
        }
    }
    Ok(all)
}

/// Every neighbour of both families.
pub(crate) async fn neighbours(handle: &Handle) -> Result<BTreeMap<(u32, IpAddr), Neighbour>, NetlinkError> {
    let mut all = BTreeMap::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut neighbours = handle.neighbours().get().set_address_family(family).execute();
        while let Some(message) = neighbours.try_next().await.tried(|| "list neighbours".into())? {
            all.extend(read_neighbour(&message));
        }
    }
    Ok(all)
}

/// One link.
#[must_use]
pub fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link { up: message.header.flags.contains(LinkFlags::Up), ..Link::default() };
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name.clone_from(name);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = *mtu;
        } else if let LinkAttribute::Address(octets) = attribute {
            link.mac = mac(octets);
        } else if let LinkAttribute::Xdp(xdp) = attribute {
            link.xdp = xdp.iter().any(|x| matches!(x, LinkXdp::Attached(a) if *a != XdpAttached::None));
        } else if let LinkAttribute::AfSpecUnspec(families) = attribute {
            link.forwards = families.iter().any(forwards);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            infos.iter().for_each(|info| read_info(info, &mut link));
        }
    }
    link
}

fn forwards(family: &AfSpecUnspec) -> bool {
    let AfSpecUnspec::Inet(settings) = family else { return false };
    settings.iter().any(|s| matches!(s, AfSpecInet::DevConf(conf) if conf.forwarding != 0))
}

fn read_info(info: &LinkInfo, link: &mut Link) {
    if let LinkInfo::Kind(kind) = info {
        link.kind =
            if let InfoKind::Other(name) = kind { name.clone() } else { format!("{kind:?}").to_ascii_lowercase() };
    } else if let LinkInfo::Data(InfoData::Vxlan(attributes)) = info {
        let vni = attributes.iter().find_map(|a| if let InfoVxlan::Id(vni) = a { Some(*vni) } else { None });
        let port = attributes.iter().find_map(|a| if let InfoVxlan::Port(port) = a { Some(*port) } else { None });
        link.vxlan = vni.zip(port);
    }
}

/// One address, unless it is IPv6 and link-local.
#[must_use]
pub fn read_address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let find = |of: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(of);
    // IFA_LOCAL is the address itself; on a point-to-point link IFA_ADDRESS is the other side's. IPv6 has IFA_LOCAL there
    // only.
    let local = find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
    let other = || find(|a| if let AddressAttribute::Address(ip @ IpAddr::V6(_)) = a { Some(*ip) } else { None });
    let ip = local.or_else(other).filter(|ip| !is_link_local(*ip))?;
    Some((message.header.index, IpNet::new(ip, message.header.prefix_len).ok()?))
}

/// fe80::/10: every link has it, so it says nothing of where somebody is.
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The network of no address with this length, of the message's family.
fn default_prefix(header: &RouteHeader) -> Option<IpNet> {
    let four = header.address_family == AddressFamily::Inet;
    let six = header.address_family == AddressFamily::Inet6;
    let any = four.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let any = any.or_else(|| six.then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))?;
    IpNet::new(any, header.destination_prefix_length).ok()
}

pub(crate) fn address(of: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(ip) = of {
        Some(IpAddr::V4(*ip))
    } else if let RouteAddress::Inet6(ip) = of {
        Some(IpAddr::V6(*ip))
    } else {
        None
    }
}

/// One unicast route of the main table, unless it is to link-local addresses; of several next hops the first that is
/// alive.
#[must_use]
pub fn read_route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = Route { prefix: default_prefix(header)?, metric: 0, link: 0, via: None };
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(to) = attribute {
            route.prefix = IpNet::new(address(to)?, header.destination_prefix_length).ok()?;
        } else if let RouteAttribute::Gateway(via) = attribute {
            route.via = address(via);
        } else if let RouteAttribute::Oif(index) = attribute {
            route.link = *index;
        } else if let RouteAttribute::Priority(metric) = attribute {
            route.metric = *metric;
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
            let hop = hops.iter().find(|hop| !hop.flags.intersects(dead))?;
            route.link = hop.interface_index;
            route.via = hop
                .attributes
                .iter()
                .find_map(|a| if let RouteAttribute::Gateway(ip) = a { address(ip) } else { None });
        }
    }
    (route.link != 0 && !is_link_local(route.prefix.addr())).then_some(route)
}

/// The destination of a blackhole of ours.
#[must_use]
pub fn read_blackhole(message: &RouteMessage) -> Option<IpNet> {
    let header = &message.header;
    let main = header.table == RouteHeader::RT_TABLE_MAIN;
    let ours = header.kind == RouteType::BlackHole && header.protocol == ours();
    let of = |a: &RouteAttribute| if let RouteAttribute::Destination(ip) = a { address(ip) } else { None };
    let any = default_prefix(header)?;
    let ip = message.attributes.iter().find_map(of).unwrap_or_else(|| any.addr());
    (main && ours).then(|| IpNet::new(ip, header.destination_prefix_length).ok())?
}

/// One neighbour.
#[must_use]
pub fn read_neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Neighbour)> {
    let mut ip = None;
    let (mut ours, mut managed) = (false, false);
    let mut found = Neighbour { mac: None, kept: false };
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
            ip = Some(IpAddr::V4(*v4));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) = attribute {
            ip = Some(IpAddr::V6(*v6));
        } else if let NeighbourAttribute::LinkLayerAddress(octets) = attribute {
            found.mac = mac(octets).filter(|_| is_good(message.header.state));
        } else if let NeighbourAttribute::Protocol(protocol) = attribute {
            ours = u8::from(*protocol) == OURS;
        } else if let NeighbourAttribute::ExtFlags(flags) = attribute {
            managed = flags.contains(NeighbourExtFlags::Managed);
        }
    }
    found.kept = ours && managed;
    Some(((message.header.ifindex, ip?), found))
}

/// A stale MAC is used while the kernel asks again, as the kernel itself does.
fn is_good(state: NeighbourState) -> bool {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    matches!(state, Reachable | Stale | Delay | Probe | Permanent | Noarp)
}

fn mac(octets: &[u8]) -> Option<Mac> {
    octets.try_into().ok().map(Mac)
}
