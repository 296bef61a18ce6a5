//! The overlay: which tunnels there are, which agent is at the other end of each, and who may speak through it.
//!
//! Networks have a VNI and a port each; DC/OS gives all of them the same. A pair of these is a [`Lane`], and an agent
//! that has parts of networks in several lanes is in the tables once for each.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use sluice_config::model::{Desired, Gateway, Local, Mac, OverlayNetwork, OwnVtep, Shared, Vni};

use super::fib::Fib;
use super::flat::FlatMap;
use super::{Exit, station};
use crate::address::{Address, Districts};
use crate::wire::tunnel::Template;
use parts::Parts;
use places::Places;

pub(super) use lanes::Lanes;

mod lanes;
mod parts;
mod places;

/// An agent of the overlay in one lane, ready for packets: what every packet to it needs is in the first lines.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Agent {
    /// How `hop` is reached.
    pub exit: Option<Exit>,
    /// What precedes packets to it, IPv4 and IPv6; `None` without a VTEP of our own.
    pub vxlan: Option<[Template; 2]>,
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
    /// Largest inner packet: the networks' MTU, or less where the underlay really leaves less.
    pub room: u16,
}

/// Whom a tunnelled frame comes from, as an agent's must say: [`Agent`] is too large to be looked at for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// Source of the inner frame, as the number that its octets are.
    pub station: u64,
    /// Outer source.
    pub underlay: u32,
    /// Index of the lane.
    pub lane: u32,
}

/// A family that containers have addresses of.
pub trait Inner: Address {
    /// Whether an inner source may come from this agent: its containers, or itself as its VTEP or by its underlay address.
    /// It sends as the latter what answers to a mapped host port, which has the container's address until routed. No
    /// container can: a kernel forwards nothing that has an address of its own.
    fn may_come_from(self, agent: &Agent) -> bool;
    /// What the overlay has of this family.
    fn in_overlay(overlay: &Overlay) -> &Known<Self>;
}

impl Inner for u32 {
    #[inline]
    fn may_come_from(self, agent: &Agent) -> bool {
        self == agent.vtep_ip.to_bits() || self == agent.underlay.to_bits() || has(&agent.subnets, self)
    }

    #[inline]
    fn in_overlay(overlay: &Overlay) -> &Known<Self> {
        &overlay.v4
    }
}

impl Inner for u128 {
    #[inline]
    fn may_come_from(self, agent: &Agent) -> bool {
        has(&agent.subnets6, self)
    }

    #[inline]
    fn in_overlay(overlay: &Overlay) -> &Known<Self> {
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
    v4: Known<u32>,
    v6: Known<u128>,
    lanes: Box<[Lane]>,
    /// Agent numbers by underlay address and lane.
    agents: FlatMap<u64>,
    /// By agent number.
    senders: Box<[Sender]>,
    /// Our VTEP's MAC, as the number that its octets are.
    station: u64,
    /// Our end of all tunnels; 0 without an overlay.
    end: u32,
    gateway: Gateway,
    /// Our VTEP's address, and the kernel's in the overlay.
    addresses: Box<[IpAddr]>,
    parts: Box<[Parts]>,
    places: Places,
}

/// What it has of one family, by first and last address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known<A> {
    /// Every network, and the VTEPs: who speaks from there comes out of a tunnel.
    inside: Box<[(A, A)]>,
    /// Our own parts and our VTEP.
    own: Box<[(A, A)]>,
    /// Networks with the places where they are counted.
    counted: Box<[(A, A, u8)]>,
}

impl<A: Address> Known<A> {
    fn new(shared: &Shared, local: &Local, places: &Places) -> Self {
        let own = shared.networks.iter().flat_map(|n| [n.own.map(IpNet::V4), n.own6.map(IpNet::V6)]).flatten();
        let own = own.chain(addresses(local).map(IpNet::from));
        let counted = shared.networks.iter().filter_map(|network| {
            let (first, last) = prefixes(network).find_map(|net| A::range(&net))?;
            Some((first, last, places.of(network)))
        });
        Self {
            inside: nets(shared, local).filter_map(|net| A::range(&net)).collect(),
            own: own.filter_map(|net| A::range(&net)).collect(),
            counted: counted.collect(),
        }
    }
}

impl Overlay {
    pub(super) fn new(
        Desired { shared, local }: &Desired,
        lanes: &Lanes,
        (known, fib): (&[Agent], &Fib<u32>),
        ours: &[(IpAddr, u32)],
        (seed, before): (u64, Option<&Self>),
    ) -> Self {
        let places = Places::new(&shared.networks, before);
        let ours: Vec<u32> = ours.iter().filter_map(|(ip, _)| u32::from_ip(*ip)).collect();
        let agents = lanes.agents_in(shared).map(|(underlay, lane, number)| (key(underlay, lane), number));
        let senders = lanes.agents_in(shared).zip(known).map(|((underlay, lane, _), agent)| Sender {
            station: station(&agent.vtep_mac),
            underlay,
            lane: lane as u32,
        });
        Self {
            v4: Known::new(shared, local, &places),
            v6: Known::new(shared, local, &places),
            agents: FlatMap::new(seed, agents),
            senders: senders.collect(),
            station: local.vtep.as_ref().map_or(0, |vtep| station(&vtep.mac)),
            gateway: local.vtep.as_ref().map_or(Gateway::Off, |vtep| vtep.gateway),
            addresses: addresses(local).collect(),
            end: local.vtep.as_ref().map_or(0, |vtep| vtep.underlay.to_bits()),
            parts: shared
                .networks
                .iter()
                .filter_map(|network| Parts::new(network, places.of(network), fib, known, &ours))
                .collect(),
            lanes: if local.vtep.is_some() { lanes.all().into() } else { Box::default() },
            places,
        }
    }

    /// Whether an address lies in the overlay.
    #[must_use]
    #[inline]
    pub fn has<A: Inner>(&self, address: A) -> bool {
        has(&A::in_overlay(self).inside, address)
    }

    /// Outer UDP ports, each once.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.lanes.chunk_by(|a, b| a.port == b.port).filter_map(|lanes| lanes.first().map(|lane| lane.port))
    }

    /// Whether packets are passed on between overlay and underlay.
    #[must_use]
    #[inline]
    pub fn is_gateway(&self) -> bool {
        self.gateway != Gateway::Off
    }

    /// Whether what containers send out of the overlay gets an address of ours.
    #[must_use]
    #[inline]
    pub fn masquerades(&self) -> bool {
        self.gateway == Gateway::Masqueraded
    }

    /// Whether it is our VTEP's address, or one of the kernel's in the overlay.
    #[must_use]
    pub fn is_address<A: Inner>(&self, address: A) -> bool {
        self.addresses.contains(&address.to_ip())
    }

    /// Whether an address lies in our own part of a network, or is our VTEP's.
    #[must_use]
    pub fn is_own<A: Inner>(&self, address: A) -> bool {
        has(&A::in_overlay(self).own, address)
    }

    /// Our end of all tunnels; 0 without an overlay.
    #[must_use]
    #[inline]
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The place of the network that an address lies in ([`crate::counters::Counters::networks`]).
    #[must_use]
    #[inline]
    pub fn place<A: Inner>(&self, address: A) -> Option<u8> {
        let network = A::in_overlay(self).counted.iter().find(|(first, last, _)| (*first..=*last).contains(&address));
        network.map(|(.., place)| *place)
    }

    /// Networks that are or were, with their places.
    pub fn places(&self) -> impl Iterator<Item = (&str, u8)> {
        self.places.iter()
    }

    /// The agent of a container, unless the routes must be asked, and the place of its network.
    #[must_use]
    #[inline]
    pub fn agent_of(&self, container: u32) -> Option<(u16, u8)> {
        self.parts.iter().find(|parts| parts.has(container))?.agent(container)
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

    /// Whom frames of the agent with this number come from.
    #[must_use]
    #[inline]
    pub fn sender(&self, agent: u16) -> Option<&Sender> {
        self.senders.get(usize::from(agent))
    }

    /// Our VTEP's MAC, as the number that its octets are.
    #[must_use]
    #[inline]
    pub fn station(&self) -> u64 {
        self.station
    }

    /// Whether an agent has this underlay address, whatever the lane.
    #[must_use]
    pub fn is_agent(&self, underlay: u32) -> bool {
        (0..self.lanes.len()).any(|lane| self.agent(underlay, lane).is_some())
    }

    /// Districts of what lies in the overlay: of IPv6, whose districts are digests, all of them.
    pub(super) fn districts<A: Inner>(&self) -> impl Iterator<Item = usize> + '_ {
        A::in_overlay(self).inside.iter().flat_map(|(first, last)| match A::V6 {
            false => first.district()..=last.district(),
            true => 0..=Districts::COUNT - 1,
        })
    }

    /// First and last IPv4 address of every network and of the VTEPs.
    #[must_use]
    pub fn v4(&self) -> &[(u32, u32)] {
        &self.v4.inside
    }

    /// First and last IPv6 address of every network.
    #[must_use]
    pub fn v6(&self) -> &[(u128, u128)] {
        &self.v6.inside
    }
}

fn addresses(local: &Local) -> impl Iterator<Item = IpAddr> + '_ {
    let of = |vtep: &OwnVtep| [&vtep.host_addresses[..], &[IpAddr::V4(vtep.vtep.addr())]].concat();
    local.vtep.iter().flat_map(of)
}

fn key(underlay: u32, lane: usize) -> u64 {
    u64::from(underlay) << 16 | lane as u64
}

/// The prefixes of all networks.
pub(super) fn networks(shared: &Shared) -> impl Iterator<Item = IpNet> + '_ {
    shared.networks.iter().flat_map(prefixes)
}

fn prefixes(network: &OverlayNetwork) -> impl Iterator<Item = IpNet> {
    [Some(IpNet::V4(network.subnet)), network.subnet6.map(IpNet::V6)].into_iter().flatten()
}

/// The overlay's networks and the VTEPs' subnet.
pub(super) fn nets<'a>(shared: &'a Shared, local: &'a Local) -> impl Iterator<Item = IpNet> + 'a {
    networks(shared).chain(local.vtep.iter().map(|v| IpNet::V4(v.vtep.trunc())))
}
