//! Places in the overlay that Sluice itself gives to agents, where no overlay module does: a VTEP address, its MAC and a
//! subnet of each network, by the module's own rule (facts/dcos.md C), the lowest free one each time.
//!
//! A lease has no end: an agent that is silent or gone keeps its place until an operator releases it, because its
//! containers may run on. No address is ever in two places, whatever order takes, releases and restarts come in.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sluice_config::model::{Mac, OverlayAgent, OverlayNetwork};

pub mod desk;
pub mod file;
pub mod map;
pub mod pool;
#[cfg(test)]
mod tests;
pub mod token;

use pool::Pool;

/// Most leases at once: as many agents as a /20 of VTEPs has room for, and more than a Mesos cluster has.
pub const LEASES_MAX: usize = 65_536;

/// One agent's place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Its VTEP's address.
    pub vtep_ip: Ipv4Addr,
    /// Its subnet in each network, by network name.
    pub subnets: BTreeMap<String, Ipv4Net>,
    /// The same of IPv6, in the networks that have it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subnets6: BTreeMap<String, Ipv6Net>,
    /// Whether it has taken itself out of the overlay: nobody is told of it, and the place stays its own.
    #[serde(default)]
    pub left: bool,
}

impl Lease {
    /// Its VTEP's MAC.
    #[must_use]
    pub fn vtep_mac(&self) -> Mac {
        Mac::of_vtep(self.vtep_ip)
    }

    /// Its subnets of both families.
    pub(crate) fn all_subnets(&self) -> impl Iterator<Item = IpNet> + '_ {
        both(&self.subnets, &self.subnets6).map(|(_, net)| net)
    }

    /// As every other agent of the overlay is known.
    #[must_use]
    pub fn agent(&self, ip: Ipv4Addr) -> OverlayAgent {
        OverlayAgent {
            ip,
            vtep_ip: self.vtep_ip,
            vtep_mac: self.vtep_mac(),
            subnets: self.subnets.clone(),
            subnets6: self.subnets6.clone(),
        }
    }
}

/// Subnets of both families, with their networks' names.
pub(crate) fn both<'a>(
    subnets: &'a BTreeMap<String, Ipv4Net>,
    subnets6: &'a BTreeMap<String, Ipv6Net>,
) -> impl Iterator<Item = (&'a String, IpNet)> + 'a {
    let six = subnets6.iter().map(|(name, net)| (name, IpNet::V6(*net)));
    subnets.iter().map(|(name, net)| (name, IpNet::V4(*net))).chain(six)
}

/// All leases, by the agent's underlay address.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leases {
    /// By underlay address.
    pub leases: BTreeMap<Ipv4Addr, Lease>,
}

/// Why an agent gets no place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It has a place already, which is not ours to give.
    #[error("{agent} has its place in the overlay from {source_of_it}; it needs no lease")]
    Elsewhere {
        /// The agent.
        agent: Ipv4Addr,
        /// Who says so.
        source_of_it: String,
    },
    /// There is no such network.
    #[error("there is no [[overlay.network]] \"{name}\"; there are: {known}")]
    NoNetwork {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Every VTEP address is taken.
    #[error(
        "no address is free for a VTEP in {0}: `sluice overlay release AGENT` frees those of agents that are gone (`sluice show leases`), or give `overlay.vtep` a shorter prefix"
    )]
    NoVtep(Ipv4Net),
    /// Every subnet is taken.
    #[error(
        "no /{prefix} is free in {subnet} of network {network}: `sluice overlay release AGENT` frees those of agents that are gone (`sluice show leases`), or give the network a longer `prefix` or a larger `subnet`"
    )]
    NoSubnet {
        /// The network.
        network: String,
        /// All of it.
        subnet: IpNet,
        /// What an agent gets.
        prefix: u8,
    },
    /// There are too many.
    #[error(
        "{LEASES_MAX} leases are there already: `sluice overlay release AGENT` frees those of agents that are gone"
    )]
    TooMany,
    /// Somebody else has what the lease holds.
    #[error(
        "the lease of {agent} holds {what}: write another one there, or `sluice overlay release {agent}` and let it begin anew"
    )]
    Conflict {
        /// The agent.
        agent: Ipv4Addr,
        /// The address, and whose it is.
        what: String,
    },
    /// No such lease.
    #[error("{0} has no lease; `sluice show leases` lists those that have")]
    NoLease(Ipv4Addr),
}

impl Leases {
    /// The place of `agent`: the one that it has, with a subnet of each of `networks` added that it lacks, or a new one.
    /// Whether anything changed.
    ///
    /// # Errors
    /// When it cannot have one; nothing has changed then.
    pub fn take(&mut self, agent: Ipv4Addr, networks: &[String], pool: &Pool) -> Result<bool, Refusal> {
        if let Some(source_of_it) = pool.place_of(agent) {
            return Err(Refusal::Elsewhere { agent, source_of_it: source_of_it.to_owned() });
        }
        let before = self.leases.get(&agent);
        if let Some(what) = before.and_then(|lease| pool.conflict(lease)) {
            return Err(Refusal::Conflict { agent, what });
        }
        if before.is_none() && self.leases.len() >= LEASES_MAX {
            return Err(Refusal::TooMany);
        }
        let mut lease = match before {
            Some(lease) => Lease { left: false, ..lease.clone() },
            None => Lease {
                vtep_ip: self.free_vtep(pool)?,
                subnets: BTreeMap::new(),
                subnets6: BTreeMap::new(),
                left: false,
            },
        };
        for network in pool.named(networks)? {
            if !lease.subnets.contains_key(&network.name) {
                let net = self.free(network, network.subnet.into(), network.prefix, pool)?;
                lease.subnets.extend(Some((network.name.clone(), net)).and_then(four));
            }
            if let (Some(subnet), false) = (network.subnet6, lease.subnets6.contains_key(&network.name)) {
                let net = self.free(network, subnet.into(), network.prefix6, pool)?;
                lease.subnets6.extend(Some((network.name.clone(), net)).and_then(six));
            }
        }
        let changed = before != Some(&lease);
        self.leases.insert(agent, lease);
        Ok(changed)
    }

    /// The agent is out of the overlay until it takes its place again. Whether it was in it.
    ///
    /// # Errors
    /// When it has no lease.
    pub fn leave(&mut self, agent: Ipv4Addr) -> Result<bool, Refusal> {
        let lease = self.leases.get_mut(&agent).ok_or(Refusal::NoLease(agent))?;
        Ok(!std::mem::replace(&mut lease.left, true))
    }

    /// Gives its place to whoever comes next.
    ///
    /// # Errors
    /// When it has no lease.
    pub fn release(&mut self, agent: Ipv4Addr) -> Result<Lease, Refusal> {
        self.leases.remove(&agent).ok_or(Refusal::NoLease(agent))
    }

    /// Whatever keeps a set of leases from being one that was given here: an address in two of them.
    #[must_use]
    pub fn twice(&self) -> Option<String> {
        let mut vteps = BTreeMap::new();
        for (agent, lease) in &self.leases {
            if let Some(other) = vteps.insert(lease.vtep_ip, agent) {
                return Some(format!("the VTEP {} is {other}'s and {agent}'s", lease.vtep_ip));
            }
        }
        let of = |(agent, lease): (&'_ Ipv4Addr, &'_ Lease)| -> Vec<(IpNet, Ipv4Addr)> {
            lease.all_subnets().map(|net| (net.trunc(), *agent)).collect()
        };
        let mut subnets: Vec<(IpNet, Ipv4Addr)> = self.leases.iter().flat_map(of).collect();
        subnets.sort();
        // Prefixes are nested or apart: in this order one that holds another comes right before what it holds.
        subnets.windows(2).find_map(|pair| match pair {
            [(a, one), (b, other)] if a.contains(b) => Some(format!("{a} of {one} and {b} of {other} overlap")),
            _ => None,
        })
    }

    fn free_vtep(&self, pool: &Pool) -> Result<Ipv4Addr, Refusal> {
        let leased = self.leases.values().map(|lease| lease.vtep_ip);
        pool.free_vtep(leased).ok_or_else(|| Refusal::NoVtep(pool.vtep.trunc()))
    }

    fn free(&self, network: &OverlayNetwork, subnet: IpNet, prefix: u8, pool: &Pool) -> Result<IpNet, Refusal> {
        let leased = self.leases.values().flat_map(Lease::all_subnets);
        let none = || Refusal::NoSubnet { network: network.name.clone(), subnet, prefix };
        pool.free_subnet(subnet, prefix, leased).ok_or_else(none)
    }
}

fn four((name, net): (String, IpNet)) -> Option<(String, Ipv4Net)> {
    if let IpNet::V4(net) = net { Some((name, net)) } else { None }
}

fn six((name, net): (String, IpNet)) -> Option<(String, Ipv6Net)> {
    if let IpNet::V6(net) = net { Some((name, net)) } else { None }
}
