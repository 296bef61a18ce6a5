//! Lanes: pairs of a UDP port and a VNI, and which agents are in which.

use std::net::IpAddr;

use ipnet::IpNet;
use sluice_config::model::{Local, OverlayAgent, OverlayNetwork, OwnVtep, Shared, Vni};

use super::{Agent, Lane};
use crate::address::Address as _;
use crate::tables::Ways;
use crate::wire::tunnel::{Family, Outer};
use crate::wire::vxlan;

/// Lanes, and which agents are in them, in the order of the agents' numbers.
pub(in crate::tables) struct Lanes {
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
    pub(in crate::tables) fn new(shared: &Shared, local: &Local) -> Self {
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

    /// All lanes, sorted.
    pub(super) fn all(&self) -> Vec<Lane> {
        self.lanes.clone()
    }

    /// The underlay address, the lane and the number of every agent.
    pub(super) fn agents_in<'a>(&'a self, shared: &'a Shared) -> impl Iterator<Item = (u32, usize, u32)> + 'a {
        let agents = self.entries.iter().zip(0..);
        agents.filter_map(|(entry, number)| Some((shared.agents.get(entry.agent)?.ip.to_bits(), entry.lane, number)))
    }

    /// How many agents there will be.
    pub(in crate::tables) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Agents' parts and VTEPs with the agents' numbers; a VTEP is reached by its agent's first lane.
    pub(in crate::tables) fn prefixes<'a>(
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

    pub(in crate::tables) fn agents(&self, shared: &Shared, local: &Local, ways: &Ways) -> Box<[Agent]> {
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
    // One that the network does not have would be nobody's to forge.
    let six = six.filter(|part| network.subnet6.is_some_and(|net| net.contains(*part)));
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
        exit: ways.exit(hop),
        vxlan: local.vtep.as_ref().zip(lane).map(fronts),
        room: mtus.fold(ways.mtu(agent.ip.into()).saturating_sub(vxlan::OVERHEAD as u16), u16::min),
        hop,
        underlay: agent.ip,
        vtep_ip: agent.vtep_ip,
        vtep_mac: agent.vtep_mac,
        subnets: parts.iter().filter_map(u32::range).collect(),
        subnets6: parts.iter().filter_map(u128::range).collect(),
    }
}
