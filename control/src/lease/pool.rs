//! What there is to give, and what others have of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use sluice_config::model::{Config, OverlayAgent, OverlayNetwork};

use super::{Lease, Refusal, both};

/// A place in the overlay that is not ours to give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Who says so, for people.
    pub source: &'static str,
    /// Whose it is.
    pub agent: OverlayAgent,
}

/// Networks and the VTEPs' subnet, with what is taken in them by others than leases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// Our VTEP and the subnet of all VTEPs.
    pub vtep: Ipv4Net,
    /// The networks.
    pub networks: Vec<OverlayNetwork>,
    /// Other places.
    pub places: Vec<Place>,
}

impl Pool {
    /// What the configuration has, with the agents that DC/OS's overlay module tells of. `None` without an overlay.
    #[must_use]
    pub fn of(config: &Config, told: &[OverlayAgent]) -> Option<Self> {
        let overlay = config.overlay.as_ref()?;
        let place = |source: &'static str, agent: &OverlayAgent| Place { source, agent: agent.clone() };
        let of_file = overlay.agents.iter().map(|agent| place("[[overlay.agent]]", agent));
        let of_module = told.iter().map(|agent| place("DC/OS's overlay module", agent));
        Some(Self {
            vtep: overlay.vtep,
            networks: overlay.networks.clone(),
            places: of_file.chain(of_module).collect(),
        })
    }

    /// The network of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn network(&self, name: &str) -> Result<&OverlayNetwork, Refusal> {
        self.networks.iter().find(|network| network.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.networks.iter().map(|network| network.name.as_str()).collect();
            Refusal::NoNetwork { name: crate::rejected::shown(name), known: known.join(", ") }
        })
    }

    /// Who says where this agent is, if it has a place that is no lease.
    #[must_use]
    pub fn place_of(&self, agent: Ipv4Addr) -> Option<&'static str> {
        self.places.iter().find(|place| place.agent.ip == agent).map(|place| place.source)
    }

    /// The lowest address of the VTEPs' subnet, its first and last excepted, that is nobody's.
    pub(super) fn free_vtep(&self, leased: impl Iterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        let others = self.places.iter().map(|place| place.agent.vtep_ip);
        let taken: BTreeSet<Ipv4Addr> = others.chain(leased).chain([self.vtep.addr()]).collect();
        let (first, last) = (u32::from(self.vtep.network()), u32::from(self.vtep.broadcast()));
        (first.saturating_add(1)..last).map(Ipv4Addr::from).find(|ip| !taken.contains(ip))
    }

    /// The networks of these names.
    ///
    /// # Errors
    /// When one is none.
    pub fn named<'a>(&'a self, names: &[String]) -> Result<Vec<&'a OverlayNetwork>, Refusal> {
        names.iter().map(|name| self.network(name)).collect()
    }

    /// Whether a lease has all that there is to have in these networks.
    #[must_use]
    pub fn is_whole(&self, lease: &Lease, names: &[String]) -> bool {
        let has = |n: &&OverlayNetwork| {
            lease.subnets.contains_key(&n.name) && (n.subnet6.is_none() || lease.subnets6.contains_key(&n.name))
        };
        self.named(names).is_ok_and(|networks| networks.iter().all(has))
    }

    /// The lowest part of `subnet` of this prefix length which overlaps nobody's.
    pub(super) fn free_subnet(&self, subnet: IpNet, prefix: u8, leased: impl Iterator<Item = IpNet>) -> Option<IpNet> {
        let others = self.places.iter().flat_map(|place| subnets_of(&place.agent));
        let taken: BTreeSet<(u128, u128)> =
            others.chain(self.own()).chain(leased).filter(|net| is_of(&subnet, net)).map(ends).collect();
        let size = 1_u128.checked_shl(u32::from(subnet.max_prefix_len().checked_sub(prefix)?))?;
        let mut next = ends(subnet).0;
        for (first, last) in taken {
            if next.checked_add(size)? <= first {
                break;
            }
            if last >= next {
                next = last.checked_add(1)?.checked_next_multiple_of(size)?;
            }
        }
        let found = match subnet {
            IpNet::V4(_) => IpAddr::V4(u32::try_from(next).ok()?.into()),
            IpNet::V6(_) => IpAddr::V6(next.into()),
        };
        IpNet::new(found, prefix).ok().filter(|net| subnet.contains(net))
    }

    /// This node's own parts.
    fn own(&self) -> impl Iterator<Item = IpNet> + '_ {
        let four = self.networks.iter().filter_map(|network| network.own.map(IpNet::V4));
        four.chain(self.networks.iter().filter_map(|network| network.own6.map(IpNet::V6)))
    }

    /// What a lease is worth today: its subnets of networks that are gone are kept for the day when they come back, and
    /// are nobody's until then.
    #[must_use]
    pub fn today(&self, lease: &Lease) -> Lease {
        let mut lease = lease.clone();
        lease.subnets.retain(|name, _| self.network(name).is_ok());
        lease.subnets6.retain(|name, _| self.network(name).is_ok_and(|network| network.subnet6.is_some()));
        lease
    }

    /// What of a lease is somebody else's, or not in its network any more, with whose it is.
    #[must_use]
    pub fn conflict(&self, lease: &Lease) -> Option<String> {
        let vtep = lease.vtep_ip;
        if vtep == self.vtep.addr() {
            return Some(format!("the VTEP address {vtep}, which is `overlay.vtep`"));
        }
        if !self.vtep.contains(&vtep) {
            return Some(format!(
                "the VTEP address {vtep}, which is not in `overlay.vtep`'s subnet {}",
                self.vtep.trunc()
            ));
        }
        if let Some(other) = self.places.iter().find(|place| place.agent.vtep_ip == vtep) {
            return Some(format!("the VTEP address {vtep}, which {} gives to {}", other.source, other.agent.ip));
        }
        let today = self.today(lease);
        both(&today.subnets, &today.subnets6).find_map(|(name, net)| self.conflict_in(name, net))
    }

    fn conflict_in(&self, name: &str, net: IpNet) -> Option<String> {
        let network = self.network(name).ok()?;
        let whole = [Some(IpNet::V4(network.subnet)), network.subnet6.map(IpNet::V6)];
        if !whole.iter().flatten().any(|subnet| subnet.contains(&net)) {
            return Some(format!("{net}, which is not in network {name} any more"));
        }
        let overlaps = |other: &IpNet| other.contains(&net) || net.contains(other);
        if let Some(own) = self.own().find(overlaps) {
            return Some(format!("{net}, which overlaps this node's own {own}"));
        }
        let place = self.places.iter().find(|place| subnets_of(&place.agent).any(|other| overlaps(&other)))?;
        Some(format!("{net}, which overlaps what {} gives to {}", place.source, place.agent.ip))
    }
}

fn subnets_of(agent: &OverlayAgent) -> impl Iterator<Item = IpNet> + '_ {
    both(&agent.subnets, &agent.subnets6).map(|(_, net)| net)
}

fn is_of(a: &IpNet, b: &IpNet) -> bool {
    a.max_prefix_len() == b.max_prefix_len()
}

/// The first and the last address as numbers.
fn ends(net: IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}
