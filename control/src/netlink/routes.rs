//! The kernel's routes towards Sluice: to the host port for everything that Sluice serves, and a blackhole of worse
//! metric behind each address that the kernel must never answer for, or forward, while Sluice is away.
//!
//! [`Routes::settle`] is idempotent: it makes the kernel's routes with our protocol number equal to the wanted set,
//! whoever put there what is there now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::host_port::{GATEWAY, GATEWAY6, HostPort};
use super::inventory::{Inventory, read_blackhole};
use super::{NetlinkError, Tried, inventory, ours, unless};

/// Metric of the routes to the host port.
pub const METRIC: u32 = 50;

/// Metric of the blackholes: worse than [`METRIC`] and than whatever a routing daemon uses by default.
pub const BLACKHOLE_METRIC: u32 = 4_000_000;

/// A route that the kernel shall have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Wanted {
    /// Destination.
    pub prefix: IpNet,
    /// To the host port (with this preferred source, if any), or nowhere.
    pub to: To,
}

/// Where a wanted route leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum To {
    /// The host port; `source` is the address that the kernel's own packets have.
    HostPort {
        /// Preferred source, of the prefix's family.
        source: Option<IpAddr>,
    },
    /// Nowhere.
    Blackhole,
}

/// The prefixes that are Sluice's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// Overlay networks and the VTEPs' subnet, with the node's own address in each, or the one that it uses there.
    pub networks: BTreeMap<IpNet, Option<IpAddr>>,
    /// VIP ranges, VIPs outside them, SNAT addresses.
    pub claimed: BTreeSet<IpNet>,
}

impl Served {
    /// The routes for these prefixes, to a host port in the families that `leads` says; without one the blackholes alone.
    #[must_use]
    pub fn wanted(&self, leads: impl Fn(&IpNet) -> bool) -> BTreeSet<Wanted> {
        let networks = self.networks.iter().map(|(prefix, source)| (*prefix, *source));
        let claimed = self.claimed.iter().map(|prefix| (*prefix, None));
        let towards = networks.chain(claimed).filter(|(prefix, _)| leads(prefix));
        let towards = towards.map(|(prefix, source)| Wanted { prefix, to: To::HostPort { source } });
        let nowhere = self.claimed.iter().map(|prefix| Wanted { prefix: *prefix, to: To::Blackhole });
        towards.chain(nowhere).collect()
    }
}

/// Our routes in the kernel.
#[derive(Debug)]
pub struct Routes {
    handle: Handle,
    there: BTreeSet<Wanted>,
    complete: bool,
}

impl Routes {
    /// Removes the routes to the host port that an earlier Sluice left, and takes its blackholes over: until there is
    /// a host port again the kernel must not answer for those addresses.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn begin(handle: Handle) -> Result<Self, NetlinkError> {
        let mut there = BTreeSet::new();
        for message in left_behind(&handle).await? {
            match read_blackhole(&message) {
                Some(prefix) => drop(there.insert(Wanted { prefix, to: To::Blackhole })),
                None => remove(&handle, message).await?,
            }
        }
        Ok(Self { handle, there, complete: false })
    }

    /// From now on blackholes that nobody wants are removed. Before, what is wanted is not wholly known: Marathon was
    /// not listed yet.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Makes the kernel's routes the wanted ones. New ones are added before old ones go.
    ///
    /// # Errors
    /// What the kernel says; what was done until then is remembered.
    pub async fn settle(&mut self, wanted: &BTreeSet<Wanted>, host: Option<&HostPort>) -> Result<(), NetlinkError> {
        let fresh: Vec<Wanted> = wanted.difference(&self.there).copied().collect();
        for route in fresh {
            let Some(message) = message(route, host) else { continue };
            let added = self.handle.route().add(message).replace().execute().await;
            added.tried(|| format!("add the route to {}", route.prefix))?;
            self.there.insert(route);
        }
        let goes = |route: &&Wanted| self.complete || route.to != To::Blackhole;
        let stale: Vec<Wanted> = self.there.difference(wanted).filter(goes).copied().collect();
        for route in stale {
            // A source that changed replaced its route: the kernel knows it by prefix and metric.
            let replaced = wanted.iter().any(|w| w.prefix == route.prefix && metric(w.to) == metric(route.to));
            if let (Some(message), false) = (message(route, host), replaced) {
                let removed = self.handle.route().del(message).execute().await;
                unless(removed, &[libc::ESRCH]).tried(|| format!("remove the route to {}", route.prefix))?;
            }
            self.there.remove(&route);
        }
        Ok(())
    }

    /// Forgets routes that the kernel no longer has (it drops those of a link that goes down, and anybody may flush
    /// them), so that the next [`Routes::settle`] puts them back.
    pub fn compare(&mut self, kernel: &Inventory, host: Option<&HostPort>) {
        let link = host.map(|h| h.kernel_index);
        let towards: BTreeSet<IpNet> =
            kernel.routes.iter().filter(|r| r.metric == METRIC && Some(r.link) == link).map(|r| r.prefix).collect();
        self.there.retain(|route| match route.to {
            To::Blackhole => kernel.blackholes.contains(&route.prefix),
            To::HostPort { .. } => towards.contains(&route.prefix),
        });
    }

    /// Forgets what the kernel has and removes everything of ours from it.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn end(self) -> Result<(), NetlinkError> {
        for message in left_behind(&self.handle).await? {
            remove(&self.handle, message).await?;
        }
        Ok(())
    }
}

async fn remove(handle: &Handle, message: RouteMessage) -> Result<(), NetlinkError> {
    let removed = handle.route().del(plain(message)).execute().await;
    unless(removed, &[libc::ESRCH]).tried(|| "remove a route of ours".into())
}

fn metric(to: To) -> u32 {
    match to {
        To::HostPort { .. } => METRIC,
        To::Blackhole => BLACKHOLE_METRIC,
    }
}

fn message(route: Wanted, host: Option<&HostPort>) -> Option<RouteMessage> {
    match route.prefix {
        IpNet::V4(net) => {
            let to = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(net.network(), net.prefix_len());
            let to = to.protocol(ours()).priority(metric(route.to));
            let To::HostPort { source } = route.to else { return Some(to.kind(RouteType::BlackHole).build()) };
            let to = to.output_interface(host?.kernel_index).gateway(GATEWAY).onlink();
            Some(if let Some(IpAddr::V4(source)) = source { to.pref_source(source) } else { to }.build())
        }
        IpNet::V6(net) => {
            let to = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(net.network(), net.prefix_len());
            let to = to.protocol(ours()).priority(metric(route.to));
            let To::HostPort { source } = route.to else { return Some(to.kind(RouteType::BlackHole).build()) };
            let to = to.output_interface(host?.kernel_index).gateway(GATEWAY6).onlink();
            Some(if let Some(IpAddr::V6(source)) = source { to.pref_source(source) } else { to }.build())
        }
    }
}

async fn left_behind(handle: &Handle) -> Result<Vec<RouteMessage>, NetlinkError> {
    let mut found = inventory::routes(handle).await?;
    found.retain(|m| m.header.table == RouteHeader::RT_TABLE_MAIN && m.header.protocol == ours());
    Ok(found)
}

/// A listed route as it can be asked to go: what the kernel only reports is left out.
fn plain(mut message: RouteMessage) -> RouteMessage {
    message.header.flags = Default::default();
    message
        .attributes
        .retain(|a| matches!(a, RouteAttribute::Destination(_) | RouteAttribute::Priority(_) | RouteAttribute::Oif(_)));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claimed_prefix_has_a_blackhole_behind_its_route_and_networks_have_none() {
        let served = Served {
            networks: [("9.0.0.0/8".parse().unwrap(), Some("9.0.9.1".parse().unwrap()))].into(),
            claimed: ["11.0.0.0/8".parse().unwrap(), "10.0.0.100/32".parse().unwrap()].into(),
        };
        let wanted = served.wanted(|_| true);
        let nowhere: Vec<_> = wanted.iter().filter(|w| w.to == To::Blackhole).map(|w| w.prefix.to_string()).collect();
        assert_eq!(nowhere, ["10.0.0.100/32", "11.0.0.0/8"]);
        assert_eq!(wanted.len(), 5);
        assert_eq!(served.wanted(|_| false).len(), 2);
    }
}
