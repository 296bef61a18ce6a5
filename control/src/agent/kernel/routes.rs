//! Routes of all tables: those with an agent's protocol number are made the wanted ones, others stay.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType};

use super::{AGENT, Kernel, Tunnels};
use crate::agent::plan::{Route, To, UNREACHABLE_METRIC};
use crate::netlink::{NetlinkError, Tried, inventory, os_code, unless};

impl Kernel {
    pub(super) async fn routes(&mut self, tunnels: &Tunnels, wanted: &BTreeSet<Route>) -> Result<usize, NetlinkError> {
        let mut there = self.our_routes(tunnels).await?;
        let known: BTreeSet<Route> = there.iter().filter_map(|(route, _)| *route).collect();
        let mut changes = 0;
        let mut missing: Vec<&Route> = wanted.difference(&known).collect();
        // What is excepted comes before what it is excepted from, and goes after it.
        missing.sort_by_key(|route| route.to != To::Throw);
        for route in missing {
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
                // Those of `node_routes` alone: next hops behind a VTEP are said to be on link.
                Err(error) if matches!(os_code(&error), Some(libc::EHOSTUNREACH | libc::ENETUNREACH)) => {
                    if self.cut_off.insert(*route) {
                        tracing::warn!(prefix = %route.prefix, %error, "Sluice is on no link of this agent in that family, so `node_routes` makes no such route");
                    }
                }
                other => {
                    other.tried(|| format!("add the route to {} in table {}", route.prefix, route.table))?;
                    changes += 1;
                }
            }
        }
        there.sort_by_key(|(route, _)| route.is_some_and(|route| route.to == To::Throw));
        for (route, message) in there {
            let replaced = route.is_some_and(|route| wanted.iter().any(|w| w.key() == route.key()));
            if !replaced {
                self.remove_route(message).await?;
                changes += 1;
            }
        }
        Ok(changes)
    }

    pub(super) async fn our_routes(
        &self,
        tunnels: &Tunnels,
    ) -> Result<Vec<(Option<Route>, RouteMessage)>, NetlinkError> {
        let all = inventory::routes(&self.handle).await?;
        let ours = all.into_iter().filter(|message| message.header.protocol == RouteProtocol::from(AGENT));
        Ok(ours.map(|message| (read_route(&message, tunnels), message)).collect())
    }

    pub(super) async fn remove_route(&self, message: RouteMessage) -> Result<(), NetlinkError> {
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
}

impl Route {
    fn metric(&self) -> u32 {
        match self.to {
            To::Vtep(..) | To::Gateway(_) | To::Throw => 0,
            To::Unreachable => UNREACHABLE_METRIC,
        }
    }

    fn key(&self) -> (u32, IpNet, u32) {
        (self.table, self.prefix, self.metric())
    }
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
        To::Throw => message.header.kind = RouteType::Throw,
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
    // The kernel names no destination where it is everything.
    let everything = match message.header.address_family == AddressFamily::Inet6 {
        true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let prefix = IpNet::new(network.unwrap_or(everything), message.header.destination_prefix_length).ok()?;
    let tunnel = tunnels.iter().find(|(_, index)| **index == link).map(|(vni, _)| *vni);
    let to = match (message.header.kind, gateway, tunnel) {
        (RouteType::Unreachable, ..) => To::Unreachable,
        (RouteType::Throw, ..) => To::Throw,
        (_, Some(via), Some(vni)) => To::Vtep(via, vni),
        (_, Some(via), None) => To::Gateway(via),
        (_, None, _) => return None,
    };
    Some(Route { table, prefix, to })
}
