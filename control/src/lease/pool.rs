//! What there is to give, and what others have of it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sluice_config::model::{Config, OverlayAgent, OverlayNetwork};

use super::{Lease, Refusal};

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

    /// The lowest part of `network` of the length that agents get which overlaps nobody's.
    pub(super) fn free_subnet(
        &self,
        network: &OverlayNetwork,
        leased: impl Iterator<Item = Ipv4Net>,
    ) -> Option<Ipv4Net> {
        let others = self.places.iter().flat_map(|place| place.agent.subnets.values().copied());
        let own = self.networks.iter().filter_map(|network| network.own);
        let taken: BTreeSet<Ipv4Net> = others.chain(own).chain(leased).collect();
        let size = 1_u64 << 32_u8.saturating_sub(network.prefix);
        let mut next = u64::from(u32::from(network.subnet.network()));
        for net in taken {
            let (first, last) = (u64::from(u32::from(net.network())), u64::from(u32::from(net.broadcast())));
            if next + size <= first {
                break;
            }
            if last >= next {
                next = (last + 1).next_multiple_of(size);
            }
        }
        let found = u32::try_from(next).ok().map(Ipv4Addr::from)?;
        Ipv4Net::new(found, network.prefix).ok().filter(|net| network.subnet.contains(net))
    }

    /// What of a lease is somebody else's, or no longer in any network, with whose it is.
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
        lease.subnets.iter().find_map(|(name, net)| self.conflict_in(name, *net))
    }

    fn conflict_in(&self, name: &str, net: Ipv4Net) -> Option<String> {
        let Ok(network) = self.network(name) else {
            return Some(format!("{net} of network {name}, which is not in the configuration"));
        };
        if !network.subnet.contains(&net) {
            return Some(format!("{net}, which is not in {} of network {name}", network.subnet));
        }
        let overlaps = |other: &Ipv4Net| other.contains(&net) || net.contains(other);
        if let Some(own) = self.networks.iter().filter_map(|n| n.own).find(overlaps) {
            return Some(format!("{net}, which overlaps this node's own {own}"));
        }
        let place = self.places.iter().find(|place| place.agent.subnets.values().any(overlaps))?;
        Some(format!("{net}, which overlaps what {} gives to {}", place.source, place.agent.ip))
    }
}
