//! Routes and rules of the plan, of both families: what containers send into the overlay, and by whom.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sluice_config::model::Mac;

use super::{AGENTS, Device, HUB, MAIN, Own, Route, Rule, SERVED, To, served};
use crate::agent::settings::Settings;
use crate::lease::both;
use crate::lease::map::{Map, Member, Network};

/// The three of them for a VNI that is not the overlay's: this, 2^24 times their number, and the VNI.
pub(super) const TABLES_OF_VNIS: u32 = 0x4000_0000;
/// Priorities of the rules, the first of them; the kernel's main table comes at 32766.
const FIRST_RULE: u32 = 32_000;

pub(super) fn routes(settings: &Settings, networks: &[Own<'_>], others: &[&Member], map: &Map) -> BTreeSet<Route> {
    let route = |table, prefix, to| Route { table, prefix, to };
    let mut routes = BTreeSet::new();
    if settings.node_routes {
        let four = served(map).filter(|prefix| prefix.addr().is_ipv4());
        routes.extend(four.map(|prefix| route(MAIN, prefix, To::Gateway(map.sluice.ip.into()))));
    }
    for (own, net) in networks {
        // Without it, what comes for a container that is not there would go by another route, and round for ever.
        routes.insert(route(MAIN, *net, To::Unreachable));
        let by = |m: &Member| To::Vtep(hop(m, net), own.vni);
        let [agents, containers] =
            if own.hub { [HUB, HUB] } else { [AGENTS, SERVED] }.map(|number| table(number, own.vni, map));
        let hosts = others.iter().map(|m| route(agents, IpAddr::V4(m.ip).into(), by(m)));
        routes.extend(hosts.filter(|route| alike(&route.prefix, net)));
        let all = served(map).filter(|prefix| alike(prefix, net));
        routes.extend(all.map(|prefix| route(containers, prefix, by(&map.sluice))));
        for (network, whole) in wholes(map).filter(|(_, whole)| alike(whole, net)) {
            // Into a hub network even from a direct one, and to this agent's own containers.
            if own.hub || network.hub {
                routes.insert(route(containers, whole, by(&map.sluice)));
            }
            // The other networks in the same tunnels, too: DC/OS has all of them in one.
            if network.vni == own.vni && network.hub {
                routes.insert(route(MAIN, whole, by(&map.sluice)));
            } else if network.vni == own.vni {
                let parts = others.iter().flat_map(|m| both(&m.subnets, &m.subnets6).map(move |part| (*m, part)));
                let parts = parts.filter(|(_, (name, part))| **name == network.name && alike(part, net));
                routes.extend(parts.map(|(m, (_, part))| route(MAIN, part, by(m))));
            }
        }
    }
    routes
}

pub(super) fn rules(devices: &[Device], networks: &[Own<'_>], map: &Map) -> BTreeSet<Rule> {
    let rule = |at, from, iif: Option<&str>, table| Rule {
        priority: FIRST_RULE + at,
        from,
        iif: iif.map(str::to_owned),
        table,
    };
    let mut rules = BTreeSet::new();
    for (network, own) in networks {
        let table = |number| table(number, network.vni, map);
        let [any, whole] = match own {
            IpNet::V4(_) => [Ipv4Net::default().into(), network.subnet.into()],
            IpNet::V6(_) => [Ipv6Net::default().into(), network.subnet6.map_or(*own, IpNet::V6)],
        };
        if network.hub {
            // What Sluice sends back to a container here, and what the agent itself sends, goes straight to it. It comes in
            // the tunnels of the receiver's network, which may not be the sender's.
            rules.extend(devices.iter().map(|device| rule(0, any, Some(&device.name), MAIN)));
            rules.insert(rule(1, *own, Some("lo"), MAIN));
            rules.insert(rule(2, *own, None, table(HUB)));
        } else {
            rules.insert(rule(10, whole, None, table(SERVED)));
            rules.insert(rule(11, whole, None, table(AGENTS)));
        }
    }
    rules
}

/// A table of what containers in the tunnels of a VNI send.
fn table(number: u32, vni: u32, map: &Map) -> u32 {
    if vni == map.vni { number } else { TABLES_OF_VNIS + ((number - AGENTS) << 24) + vni }
}

/// Every network with all its addresses, of each family.
fn wholes(map: &Map) -> impl Iterator<Item = (&Network, IpNet)> {
    map.networks.iter().flat_map(|network| {
        let six = network.subnet6.map(|net| (network, IpNet::V6(net)));
        std::iter::once((network, IpNet::V4(network.subnet))).chain(six)
    })
}

/// A member's VTEP as the next hop of that prefix's family.
fn hop(member: &Member, prefix: &IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(_) => IpAddr::V4(member.vtep_ip),
        IpNet::V6(_) => IpAddr::V6(link_local(&member.vtep_mac)),
    }
}

/// The link-local address that a VTEP's MAC stands for (RFC 4291 appendix A): nobody has to give it one, and a permanent
/// neighbour resolves it.
pub(super) fn link_local(mac: &str) -> Ipv6Addr {
    let Mac([a, b, c, d, e, f]) = mac.parse().unwrap_or_default();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Whether both are of one family.
fn alike(a: &IpNet, b: &IpNet) -> bool {
    a.addr().is_ipv4() == b.addr().is_ipv4()
}
