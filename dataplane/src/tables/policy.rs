//! Isolation groups: who may talk to whom (design.md section 6).
//!
//! Container to container: the same network and a shared group, or neither has a group. Underlay to a grouped
//! container or VIP: only from `underlay_allow`. The backends' groups of a VIP are the groups of the VIP, and only a
//! source that is allowed to all of them is admitted; a service may name further groups, or everybody, that it is for
//! ([`AllowGroups`]). Empty policy costs one comparison a packet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sluice_config::model::{AllowGroups, Desired, Isolation};

use super::flat::FlatMap;
use super::ids::Ids;
use crate::time::Nanos;
use crate::verdict::DropReason;

/// Policy, ready for packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Set numbers of grouped containers, by address.
    containers: FlatMap<u32>,
    /// Sets of (network, group) numbers, each sorted; set 0 is empty.
    sets: Box<[Box<[u32]>]>,
    /// By service number: the sets of its backends; none of a service that is for everybody.
    services: Box<[Box<[u32]>]>,
    networks: Box<[Network]>,
    /// The node's own overlay addresses: probes and the node's other processes are allowed everywhere.
    own: Box<[u32]>,
    empty: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Network {
    subnet: Ipv4Net,
    allow: Box<[Ipv4Net]>,
}

impl Policy {
    pub(super) fn new(desired: &Desired, ids: &mut Ids, seed: u64, now: Nanos) -> Self {
        let Desired { shared, local } = desired;
        let enforced: Vec<_> =
            shared.networks.iter().filter(|n| n.isolation == Isolation::Enforced).map(|n| n.name.as_str()).collect();
        let mut groups = Interned::default();
        let mut sets = Interned::default();
        sets.number(Vec::new());
        let mut set = |network: &str, names: &[String]| {
            let mut members: Vec<u32> = match enforced.contains(&network) {
                true => names.iter().map(|g| groups.number((network.to_owned(), g.clone()))).collect(),
                false => Vec::new(),
            };
            members.sort_unstable();
            members.dedup();
            sets.number(members)
        };
        let mut containers = Vec::new();
        for container in &shared.containers {
            let number = set(&container.network, &container.groups);
            if number != 0 {
                containers.push((container.ip.to_bits(), number));
            }
        }
        let mut services: Vec<Box<[u32]>> = Vec::new();
        for service in &shared.services {
            let further: &[String] = match &service.admission.groups {
                AllowGroups::Own => &[],
                AllowGroups::These(groups) => groups,
                AllowGroups::All => continue,
            };
            if service.backends.iter().all(|b| b.groups.is_empty()) {
                continue;
            }
            let mut member = |network: &str, groups: &[String]| match groups {
                // Whoever has no group is closed to all that have one, whomever the service is for.
                [] => set(network, groups),
                _ => set(network, &[groups, further].concat()),
            };
            let of = service.backends.iter().map(|b| b.network.as_deref().map_or(0, |at| member(at, &b.groups)));
            let mut of: Vec<u32> = of.collect();
            of.sort_unstable();
            of.dedup();
            if of.iter().any(|s| *s != 0) {
                // A service without a number is served to nobody.
                let Ok(number) = ids.service(service.key, now) else { continue };
                let number = usize::from(number);
                services.resize_with(services.len().max(number + 1), Default::default);
                services[number] = of.into();
            }
        }
        Self {
            empty: containers.is_empty() && services.is_empty(),
            own: local.vtep.iter().flat_map(|v| &v.host_addresses).map(|ip| ip.to_bits()).collect(),
            containers: FlatMap::new(seed, containers),
            sets: sets.values.into_iter().map(Vec::into_boxed_slice).collect(),
            services: services.into(),
            networks: shared
                .networks
                .iter()
                .map(|n| Network { subnet: n.subnet, allow: n.underlay_allow.clone().into() })
                .collect(),
        }
    }

    /// Whether nobody has a group, so that everybody may talk to everybody.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether the service with this number is for some groups alone.
    #[must_use]
    pub fn is_service_grouped(&self, service: u16) -> bool {
        self.services.get(usize::from(service)).is_some_and(|sets| !sets.is_empty())
    }

    /// Whether a container with groups has this address: none is a router for others.
    #[must_use]
    pub fn is_grouped(&self, address: u32) -> bool {
        self.containers.get(address).is_some()
    }

    /// May `source` send to the container or host `destination`?
    ///
    /// # Errors
    /// The reason to drop.
    pub fn admits(&self, source: u32, destination: u32) -> Result<(), DropReason> {
        self.admits_set(source, self.containers.get(destination).unwrap_or(0), destination)
    }

    /// May `source` send to the service with this number, chosen backend or not?
    ///
    /// # Errors
    /// The reason to drop.
    #[inline]
    pub fn admits_service(&self, source: u32, service: u16, backend: impl Fn() -> u32) -> Result<(), DropReason> {
        match self.services.get(usize::from(service)) {
            None => Ok(()),
            Some(sets) if sets.is_empty() => Ok(()),
            Some(sets) => self.admits_sets(source, sets, backend()),
        }
    }

    #[inline(never)]
    fn admits_sets(&self, source: u32, sets: &[u32], near: u32) -> Result<(), DropReason> {
        sets.iter().try_for_each(|set| self.admits_set(source, *set, near))
    }

    fn admits_set(&self, source: u32, set: u32, destination: u32) -> Result<(), DropReason> {
        let from = self.containers.get(source).unwrap_or(0);
        if from == 0 && (set == 0 || self.own.contains(&source)) {
            return Ok(());
        }
        let network = |ip: u32| self.networks.iter().find(|n| n.subnet.contains(&Ipv4Addr::from_bits(ip)));
        match (network(source), network(destination)) {
            // An underlay source has no group: it is allowed to a grouped container only by name.
            (None, Some(to)) if set != 0 => {
                let source = Ipv4Addr::from_bits(source);
                to.allow.iter().any(|n| n.contains(&source)).then_some(()).ok_or(DropReason::GroupUnderlay)
            }
            // A grouped container may leave the overlay: groups are between containers.
            (_, None) => Ok(()),
            _ => {
                share(&self.sets[from as usize], &self.sets[set as usize]).then_some(()).ok_or(DropReason::GroupDenied)
            }
        }
    }
}

/// Whether two sorted sets have a member in common.
fn share(mut a: &[u32], mut b: &[u32]) -> bool {
    while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
        match x.cmp(y) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => a = a_rest,
            std::cmp::Ordering::Greater => b = b_rest,
        }
    }
    false
}

/// Values numbered in the order of their first appearance.
#[derive(Debug)]
struct Interned<T> {
    numbers: BTreeMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), values: Vec::new() }
    }
}

impl<T: Ord + Clone> Interned<T> {
    fn number(&mut self, value: T) -> u32 {
        let values = &mut self.values;
        *self.numbers.entry(value).or_insert_with_key(|value| {
            values.push(value.clone());
            values.len() as u32 - 1
        })
    }
}
