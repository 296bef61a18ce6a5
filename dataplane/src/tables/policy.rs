//! Isolation groups: who may talk to whom (design.md section 6).
//!
//! Container to container: the same network and a shared group, or neither has a group. Underlay to a grouped
//! container or VIP: only from `underlay_allow`. A VIP is closed to whom one of its backends is closed to; a service may
//! name further groups, or everybody, that it is for ([`AllowGroups`]). Empty policy costs one comparison a packet.

use std::net::IpAddr;

use ipnet::IpNet;
use sluice_config::model::{AllowGroups, Desired, Service};

use super::flat::FlatMap;
use super::ids::Ids;
use crate::address::Address;
use crate::time::Nanos;
use crate::verdict::DropReason;
use parties::Parties;

pub use parties::Party;

mod parties;

/// Policy, ready for packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    v4: Members<u32>,
    v6: Members<u128>,
    parties: Parties,
    /// By service number: what its overlay backends are; none of a service that is for everybody.
    services: Box<[Box<[Party]>]>,
    /// By network number: who of the underlay may reach its grouped containers.
    allow: Box<[Box<[IpNet]>]>,
    empty: bool,
}

/// Who has which address of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members<A> {
    /// Containers with groups.
    grouped: FlatMap<A>,
    /// First and last address of each network, and its number.
    networks: Box<[(A, A, u16)]>,
    /// The node's own overlay addresses: probes and the node's other processes are allowed everywhere.
    own: Box<[A]>,
    /// Agents' underlay addresses, sorted: their containers' packets have them where an agent masquerades.
    agents: Box<[A]>,
}

/// A family whose addresses policy knows.
pub trait Grouped: Address {
    /// Those of this family.
    fn members(policy: &Policy) -> &Members<Self>;
}

impl Grouped for u32 {
    #[inline]
    fn members(policy: &Policy) -> &Members<Self> {
        &policy.v4
    }
}

impl Grouped for u128 {
    #[inline]
    fn members(policy: &Policy) -> &Members<Self> {
        &policy.v6
    }
}

/// What is forbidden: why and, where policy forbids it, who to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The reason to drop.
    pub reason: DropReason,
    /// Who sent it, and who would have got it.
    pub pair: Option<(Party, Party)>,
}

impl From<DropReason> for Denied {
    fn from(reason: DropReason) -> Self {
        Self { reason, pair: None }
    }
}

impl Policy {
    pub(super) fn new(desired: &Desired, ids: &mut Ids, seed: u64, now: Nanos) -> Self {
        let shared = &desired.shared;
        let mut parties = Parties::new(&shared.networks);
        let mut grouped: Vec<(IpAddr, Party)> =
            shared.containers.iter().map(|c| (c.ip, parties.of(&c.network, &c.groups))).collect();
        grouped.retain(|(_, party)| parties.is_grouped(*party));
        let mut services: Vec<Box<[Party]>> = Vec::new();
        for service in &shared.services {
            let of = backends(service, &mut parties);
            // A service without a number is served to nobody.
            if !of.is_empty()
                && let Ok(number) = ids.service(service.key, now)
            {
                let number = usize::from(number);
                services.resize_with(services.len().max(number + 1), Default::default);
                services[number] = of;
            }
        }
        let is_grouped = |of: &[Party]| of.iter().any(|party| parties.is_grouped(*party));
        Self {
            empty: grouped.is_empty() && !services.iter().any(|of| is_grouped(of)),
            v4: Members::new(desired, &grouped, seed),
            v6: Members::new(desired, &grouped, seed),
            services: services.into(),
            allow: shared.networks.iter().map(|n| n.underlay_allow.clone().into()).collect(),
            parties,
        }
    }

    /// Whether nobody has a group, so that everybody may talk to everybody.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether the service with this number is closed to some who are no containers with groups.
    #[must_use]
    pub fn is_service_grouped(&self, service: u16) -> bool {
        let of = self.services.get(usize::from(service));
        of.is_some_and(|of| of.iter().any(|party| self.parties.is_grouped(*party)))
    }

    /// Whether a container with groups has this address: none is a router for others.
    #[must_use]
    pub fn is_grouped<A: Grouped>(&self, address: A) -> bool {
        A::members(self).grouped(address).is_some()
    }

    /// Who has an address.
    #[must_use]
    pub fn party<A: Grouped>(&self, address: A) -> Party {
        let members = A::members(self);
        members.grouped(address).unwrap_or_else(|| members.stranger(address))
    }

    /// Asks for what [`Policy::admits`] looks at.
    #[inline]
    pub fn expect<A: Grouped>(&self, source: A, destination: A) {
        let members = A::members(self);
        members.grouped.expect(source);
        members.grouped.expect(destination);
    }

    /// Everybody that policy tells apart.
    #[must_use]
    pub fn parties(&self) -> &Parties {
        &self.parties
    }

    /// May `source` send to the container or host `destination`?
    ///
    /// # Errors
    /// Who may not send to whom.
    #[inline]
    pub fn admits<A: Grouped>(&self, source: A, destination: A) -> Result<(), Denied> {
        let members = A::members(self);
        match (members.grouped(source), members.grouped(destination)) {
            (None, None) => Ok(()),
            (Some(from), Some(to)) => self.meet(from, to),
            (Some(from), None) => self.outwards(from, destination),
            (None, Some(to)) => self.inwards(source, to),
        }
    }

    /// May `source` send to the service with this number?
    ///
    /// # Errors
    /// Who may not send to whom.
    #[inline]
    pub fn admits_service<A: Grouped>(&self, source: A, service: u16) -> Result<(), Denied> {
        match self.services.get(usize::from(service)) {
            Some(of) if !of.is_empty() => self.admits_all(source, of),
            Some(_) | None => Ok(()),
        }
    }

    #[inline(never)]
    fn admits_all<A: Grouped>(&self, source: A, of: &[Party]) -> Result<(), Denied> {
        match A::members(self).grouped(source) {
            Some(from) => of.iter().try_for_each(|to| self.meet(from, *to)),
            None => of.iter().filter(|to| self.parties.is_grouped(**to)).try_for_each(|to| self.inwards(source, *to)),
        }
    }

    #[inline]
    fn meet(&self, from: Party, to: Party) -> Result<(), Denied> {
        if from == to || self.parties.share(from, to) { Ok(()) } else { deny(DropReason::GroupDenied, from, to) }
    }

    /// From a container with groups to one without or, as groups are between containers, out of the overlay.
    #[cold]
    fn outwards<A: Grouped>(&self, from: Party, destination: A) -> Result<(), Denied> {
        let members = A::members(self);
        match members.stranger(destination) {
            Party::UNDERLAY => Ok(()),
            _ if members.own.contains(&destination) => Ok(()),
            to => deny(DropReason::GroupDenied, from, to),
        }
    }

    /// From a container without groups or from the underlay, which has none, to a container with groups.
    #[cold]
    fn inwards<A: Grouped>(&self, source: A, to: Party) -> Result<(), Denied> {
        let members = A::members(self);
        let from = members.stranger(source);
        if members.own.contains(&source) {
            return Ok(());
        }
        if from != Party::UNDERLAY {
            return deny(DropReason::GroupDenied, from, to);
        }
        let allow = self.parties.network(to).and_then(|network| self.allow.get(usize::from(network)));
        if allow.is_some_and(|nets| nets.iter().any(|net| net.contains(&source.to_ip()))) {
            return Ok(());
        }
        match members.agents.binary_search(&source) {
            Ok(_) => deny(DropReason::GroupMasqueraded, from, to),
            Err(_) => deny(DropReason::GroupUnderlay, from, to),
        }
    }
}

#[cold]
fn deny(reason: DropReason, from: Party, to: Party) -> Result<(), Denied> {
    Err(Denied { reason, pair: Some((from, to)) })
}

impl<A: Address> Members<A> {
    fn new(desired: &Desired, grouped: &[(IpAddr, Party)], seed: u64) -> Self {
        let Desired { shared, local } = desired;
        let networks = shared.networks.iter().zip(0..).filter_map(|(network, number)| {
            let six = network.subnet6.map(IpNet::V6);
            let (first, last) = [Some(network.subnet.into()), six].iter().flatten().find_map(A::range)?;
            Some((first, last, number))
        });
        let own = local.vtep.iter().flat_map(|vtep| &vtep.host_addresses);
        let mut agents: Vec<A> = shared.agents.iter().filter_map(|agent| A::from_ip(agent.ip.into())).collect();
        agents.sort_unstable();
        Self {
            grouped: FlatMap::new(
                seed,
                grouped.iter().filter_map(|(ip, party)| Some((A::from_ip(*ip)?, party.number()))),
            ),
            networks: networks.collect(),
            own: own.filter_map(|ip| A::from_ip(*ip)).collect(),
            agents: agents.into(),
        }
    }

    #[inline]
    fn grouped(&self, address: A) -> Option<Party> {
        self.grouped.get(address).map(Party::numbered)
    }

    /// Who has an address that no container with groups has.
    fn stranger(&self, address: A) -> Party {
        let network = self.networks.iter().find(|(first, last, _)| (*first..=*last).contains(&address));
        network.map_or(Party::UNDERLAY, |(.., number)| Party::of_network(*number))
    }
}

/// What the overlay backends of a service are, once each; none of a service that is for everybody.
fn backends(service: &Service, parties: &mut Parties) -> Box<[Party]> {
    let further: &[String] = match &service.admission.groups {
        AllowGroups::Own => &[],
        AllowGroups::These(groups) => groups,
        AllowGroups::All => return Box::default(),
    };
    let mut all: Vec<Party> = service
        .backends
        .iter()
        .filter_map(|backend| Some((backend.network.as_deref()?, &backend.groups)))
        .map(|(network, groups)| match groups.as_slice() {
            // Whoever has no group is closed to all that have one, whomever the service is for.
            [] => parties.of(network, &[]),
            _ => parties.of(network, &[groups, further].concat()),
        })
        .filter(|party| *party != Party::UNDERLAY)
        .collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}
