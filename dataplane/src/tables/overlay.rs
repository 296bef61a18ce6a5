//! The overlay: which tunnels there are, which agent is at the other end of each, and who may speak through it.
//!
//! Networks have a VNI and a port each; DC/OS gives all of them the same. A pair of these is a [`Lane`], and an agent
//! that has parts of networks in several lanes is in the tables once for each.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use sluice_config::model::{Desired, Local, Mac, OverlayAgent, OverlayNetwork, OwnVtep, Shared, Vni};

use super::fib::{Fib, Target};
use super::flat::FlatMap;
use super::{Exit, Ways};
use crate::address::{Address, Districts};
use crate::wire::tunnel::{Family, Outer, Template};
use crate::wire::vxlan;

/// An agent of the overlay in one lane, ready for packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Outer destination.
    pub underlay: Ipv4Addr,
    /// VTEP address.
    pub vtep_ip: Ipv4Addr,
    /// Inner destination MAC.
    pub vtep_mac: Mac,
    /// First and last address of each of its subnets in the lane.
    pub subnets: Box<[(u32, u32)]>,
    /// The same of IPv6.
    pub subnets6: Box<[(u128, u128)]>,
    /// The next hop towards `underlay`, where one was known when the tables were compiled.
    pub hop: Option<u32>,
    /// How that one is reached.
    pub exit: Option<Exit>,
    /// What precedes packets to it, IPv4 and IPv6; `None` without a VTEP of our own.
    pub vxlan: Option<[Template; 2]>,
    /// Largest inner packet: the networks' MTU, or less where the underlay really leaves less.
    pub room: u16,
}

/// A family that containers have addresses of.
pub trait Inner: Address {
    /// Whether an inner source may come from this agent: its containers, or its VTEP itself.
    fn may_come_from(self, agent: &Agent) -> bool;
    /// First and last address of every overlay network.
    fn networks(overlay: &Overlay) -> &[(Self, Self)];
}

impl Inner for u32 {
    #[inline]
    fn may_come_from(self, agent: &Agent) -> bool {
        self == agent.vtep_ip.to_bits() || has(&agent.subnets, self)
    }

    #[inline]
    fn networks(overlay: &Overlay) -> &[(Self, Self)] {
        &overlay.v4
    }
}

impl Inner for u128 {
    #[inline]
    fn may_come_from(self, agent: &Agent) -> bool {
        has(&agent.subnets6, self)
    }

    #[inline]
    fn networks(overlay: &Overlay) -> &[(Self, Self)] {
        &overlay.v6
    }
}

#[inline]
fn has<A: Address>(ranges: &[(A, A)], address: A) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
}

/// A VNI on a UDP port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lane {
    /// Outer UDP destination port.
    pub port: u16,
    /// VNI.
    pub vni: Vni,
}

/// What the overlay is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlay {
    /// First and last address of every network and of the VTEPs: who speaks from there comes out of a tunnel.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
    lanes: Box<[Lane]>,
    /// Agent numbers by underlay address and lane.
    agents: FlatMap<u64>,
    /// Our end of all tunnels; 0 without an overlay.
    end: u32,
    parts: Box<[Parts]>,
}

/// A network's agents, by the number of their part of it: what the routes say, at a look. A part that holds an address
/// of ours is none of an agent's here.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Parts {
    first: u32,
    last: u32,
    /// Bits of an address within a part.
    bits: u8,
    /// Agent numbers; [`Parts::ELSEWHERE`] of a part that the routes must be asked about.
    agents: Box<[u16]>,
}

impl Parts {
    const ELSEWHERE: u16 = u16::MAX;
    /// More than that a network may have, but not in this table.
    const MOST_BITS: u8 = 16;

    fn new(network: &OverlayNetwork, fib: &Fib<u32>, agents: &[Agent], ours: &[u32]) -> Option<Self> {
        let (first, last) = u32::range(&network.subnet.into())?;
        let bits = 32_u8.checked_sub(network.prefix)?;
        let index = network.prefix.checked_sub(network.subnet.prefix_len()).filter(|bits| *bits <= Self::MOST_BITS)?;
        let mut parts = Self { first, last, bits, agents: vec![Self::ELSEWHERE; 1 << index].into() };
        let subnets =
            agents.iter().flat_map(|agent| &agent.subnets).filter(|(start, _)| (first..=last).contains(start));
        for (start, end) in subnets {
            for part in (start - first) >> bits..=(end - first) >> bits {
                let start = first + (part << bits);
                let target = fib.whole(start, start | (1_u32 << bits).wrapping_sub(1));
                if let (Some(Target::Agent(agent)), Some(place)) = (target, parts.agents.get_mut(part as usize)) {
                    *place = agent;
                }
            }
        }
        for address in ours.iter().filter(|address| (first..=last).contains(*address)) {
            if let Some(place) = parts.agents.get_mut(((address - first) >> bits) as usize) {
                *place = Self::ELSEWHERE;
            }
        }
        Some(parts)
    }
}

impl Overlay {
    pub(super) fn new(
        Desired { shared, local }: &Desired,
        lanes: &Lanes,
        (known, fib): (&[Agent], &Fib<u32>),
        ours: &[(IpAddr, u32)],
        seed: u64,
    ) -> Self {
        let ours: Vec<u32> = ours.iter().filter_map(|(ip, _)| u32::from_ip(*ip)).collect();
        let agents = lanes.entries.iter().zip(0..).filter_map(|(entry, number)| {
            Some((key(shared.agents.get(entry.agent)?.ip.to_bits(), entry.lane), number))
        });
        Self {
            v4: nets(shared, local).filter_map(|net| u32::range(&net)).collect(),
            v6: nets(shared, local).filter_map(|net| u128::range(&net)).collect(),
            agents: FlatMap::new(seed, agents),
            end: local.vtep.as_ref().map_or(0, |vtep| vtep.underlay.to_bits()),
            parts: shared.networks.iter().filter_map(|network| Parts::new(network, fib, known, &ours)).collect(),
            lanes: if local.vtep.is_some() { lanes.lanes.clone().into() } else { Box::default() },
        }
    }

    /// Whether an address lies in the overlay.
    #[must_use]
    #[inline]
    pub fn has<A: Inner>(&self, address: A) -> bool {
        has(A::networks(self), address)
    }

    /// Outer UDP ports, each once.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.lanes.chunk_by(|a, b| a.port == b.port).filter_map(|lanes| lanes.first().map(|lane| lane.port))
    }

    /// Our end of all tunnels; 0 without an overlay.
    #[must_use]
    #[inline]
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The agent of a container, unless the routes must be asked.
    #[must_use]
    #[inline]
    pub fn agent_of(&self, container: u32) -> Option<u16> {
        let parts = self.parts.iter().find(|parts| (parts.first..=parts.last).contains(&container))?;
        let agent = *parts.agents.get(((container - parts.first) >> parts.bits) as usize)?;
        (agent != Parts::ELSEWHERE).then_some(agent)
    }

    /// Whether tunnels end on this port.
    #[must_use]
    #[inline]
    pub fn is_port(&self, port: u16) -> bool {
        self.lanes.iter().any(|lane| lane.port == port)
    }

    /// The lane with this port and VNI.
    #[must_use]
    #[inline]
    pub fn lane(&self, port: u16, vni: Vni) -> Option<usize> {
        self.lanes.iter().position(|lane| *lane == Lane { port, vni })
    }

    /// The lane with this port, and the VNI of this whole header with the I flag and no other (RFC 7348 section 5).
    #[inline]
    pub fn lane_of(&self, port: u16, header: u64) -> Option<usize> {
        self.lanes
            .iter()
            .position(|lane| lane.port == port && header == 0x0800_0000 << 32 | u64::from(lane.vni.get()) << 8)
    }

    /// The number of the agent with this underlay address in a lane.
    #[must_use]
    #[inline]
    pub fn agent(&self, underlay: u32, lane: usize) -> Option<u32> {
        self.agents.get(key(underlay, lane))
    }

    /// Whether an agent has this underlay address, whatever the lane.
    #[must_use]
    pub fn is_agent(&self, underlay: u32) -> bool {
        (0..self.lanes.len()).any(|lane| self.agent(underlay, lane).is_some())
    }

    /// Districts of what lies in the overlay: of IPv6, whose districts are digests, all of them.
    pub(super) fn districts<A: Inner>(&self) -> impl Iterator<Item = usize> + '_ {
        A::networks(self).iter().flat_map(|(first, last)| match A::V6 {
            false => first.district()..=last.district(),
            true => 0..=Districts::COUNT - 1,
        })
    }

    /// First and last IPv4 address of every network and of the VTEPs.
    #[must_use]
    pub fn v4(&self) -> &[(u32, u32)] {
        &self.v4
    }
}

fn key(underlay: u32, lane: usize) -> u64 {
    u64::from(underlay) << 16 | lane as u64
}

/// The overlay's networks and the VTEPs' subnet.
pub(super) fn nets<'a>(shared: &'a Shared, local: &'a Local) -> impl Iterator<Item = IpNet> + 'a {
    let networks = shared.networks.iter();
    let networks = networks.flat_map(|n| [Some(IpNet::V4(n.subnet)), n.subnet6.map(IpNet::V6)]).flatten();
    networks.chain(local.vtep.iter().map(|v| IpNet::V4(v.vtep.trunc())))
}

/// Lanes, and which agents are in them, in the order of the agents' numbers.
pub(super) struct Lanes {
    /// Sorted.
    lanes: Vec<Lane>,
    entries: Vec<Entry>,
}

/// An agent in a lane, by their indexes.
struct Entry {
    agent: usize,
    lane: usize,
}

impl Lanes {
    pub(super) fn new(shared: &Shared, local: &Local) -> Self {
        let Some(vtep) = &local.vtep else {
            // Backends behind agents are known for what they are even where nothing can be sent to them.
            let entries = (0..shared.agents.len()).map(|agent| Entry { agent, lane: 0 }).collect();
            return Self { lanes: vec![Lane { port: 0, vni: Vni::DCOS }], entries };
        };
        let own = Lane { port: vtep.udp_port, vni: vtep.vni };
        let mut lanes: Vec<Lane> = shared.networks.iter().map(|network| lane(network, vtep)).chain([own]).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let mut entries = Vec::new();
        for (number, agent) in shared.agents.iter().enumerate() {
            let parts = shared.networks.iter().filter(|network| is_part_of(agent, network));
            let mut of: Vec<Lane> = parts.map(|network| lane(network, vtep)).collect();
            // One without containers has a VTEP still.
            of.extend(of.is_empty().then_some(own));
            of.sort_unstable();
            of.dedup();
            let places = of.iter().filter_map(|lane| lanes.binary_search(lane).ok());
            entries.extend(places.map(|lane| Entry { agent: number, lane }));
        }
        Self { lanes, entries }
    }

    /// How many agents there will be.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Agents' parts and VTEPs with the agents' numbers; a VTEP is reached by its agent's first lane.
    pub(super) fn prefixes<'a>(
        &'a self,
        shared: &'a Shared,
        local: &'a Local,
    ) -> impl Iterator<Item = (IpNet, u16)> + 'a {
        let agents =
            self.entries.iter().enumerate().filter_map(|(n, e)| Some((n as u16, e, shared.agents.get(e.agent)?)));
        agents.flat_map(move |(number, entry, agent)| {
            let parts = shared.networks.iter().filter(move |network| self.holds(entry, network, local));
            let parts = parts.flat_map(move |network| parts_of(agent, network));
            parts.chain([IpNet::from(IpAddr::V4(agent.vtep_ip))]).map(move |net| (net, number))
        })
    }

    pub(super) fn agents(&self, shared: &Shared, local: &Local, ways: &Ways) -> Box<[Agent]> {
        let agents = self.entries.iter().filter_map(|entry| Some((entry, shared.agents.get(entry.agent)?)));
        let one = |(entry, known): (&Entry, &OverlayAgent)| {
            let networks: Vec<_> = shared.networks.iter().filter(|n| self.holds(entry, n, local)).collect();
            agent(known, &networks, self.lanes.get(entry.lane), (local, ways))
        };
        agents.map(one).collect()
    }

    /// Whether a network is one of the entry's lane.
    fn holds(&self, entry: &Entry, network: &OverlayNetwork, local: &Local) -> bool {
        local.vtep.as_ref().is_none_or(|vtep| self.lanes.get(entry.lane) == Some(&lane(network, vtep)))
    }
}

fn lane(network: &OverlayNetwork, vtep: &OwnVtep) -> Lane {
    Lane { port: network.udp_port.unwrap_or(vtep.udp_port), vni: network.vni.unwrap_or(vtep.vni) }
}

fn is_part_of(agent: &OverlayAgent, network: &OverlayNetwork) -> bool {
    agent.subnets.contains_key(&network.name) || agent.subnets6.contains_key(&network.name)
}

/// An agent's parts of a network.
fn parts_of(agent: &OverlayAgent, network: &OverlayNetwork) -> impl Iterator<Item = IpNet> {
    let (four, six) = (agent.subnets.get(&network.name), agent.subnets6.get(&network.name));
    [four.map(|net| IpNet::V4(*net)), six.map(|net| IpNet::V6(*net))].into_iter().flatten()
}

fn agent(
    agent: &OverlayAgent,
    networks: &[&OverlayNetwork],
    lane: Option<&Lane>,
    (local, ways): (&Local, &Ways),
) -> Agent {
    let front = |vtep: &OwnVtep, lane: &Lane, family| {
        let outer = Outer::V4 { source: vtep.underlay.to_bits(), destination: agent.ip.to_bits() };
        vxlan::template(outer, family, lane.port, lane.vni, vtep.mac, agent.vtep_mac)
    };
    let fronts = |(vtep, lane)| [front(vtep, lane, Family::V4), front(vtep, lane, Family::V6)];
    let mtus = networks.iter().filter_map(|network| network.mtu).chain(local.vtep.as_ref().map(|vtep| vtep.mtu));
    let hop = ways.hop(agent.ip.into());
    let parts: Vec<IpNet> = networks.iter().flat_map(|network| parts_of(agent, network)).collect();
    Agent {
        room: mtus.fold(ways.mtu(agent.ip.into()).saturating_sub(vxlan::OVERHEAD as u16), u16::min),
        vxlan: local.vtep.as_ref().zip(lane).map(fronts),
        hop,
        exit: ways.exit(hop),
        underlay: agent.ip,
        vtep_ip: agent.vtep_ip,
        vtep_mac: agent.vtep_mac,
        subnets: parts.iter().filter_map(u32::range).collect(),
        subnets6: parts.iter().filter_map(u128::range).collect(),
    }
}
