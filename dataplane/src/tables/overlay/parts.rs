//! Parts: which agent has which part of a network, without a search.

use sluice_config::model::OverlayNetwork;

use super::Agent;
use crate::address::Address as _;
use crate::tables::fib::{Fib, Target};

/// A network's agents, by the number of their part of it: what the routes say, at a look. A part that holds an address
/// of ours is none of an agent's here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parts {
    first: u32,
    last: u32,
    place: u8,
    /// Bits of an address within a part.
    bits: u8,
    /// Agent numbers; [`Parts::ELSEWHERE`] of a part that the routes must be asked about.
    agents: Box<[u16]>,
}

impl Parts {
    const ELSEWHERE: u16 = u16::MAX;
    /// More than that a network may have, but not in this table.
    const MOST_BITS: u8 = 16;

    pub(super) fn new(
        network: &OverlayNetwork,
        place: u8,
        fib: &Fib<u32>,
        agents: &[Agent],
        ours: &[u32],
    ) -> Option<Self> {
        let (first, last) = u32::range(&network.subnet.into())?;
        let bits = 32_u8.checked_sub(network.prefix)?;
        let index = network.prefix.checked_sub(network.subnet.prefix_len()).filter(|bits| *bits <= Self::MOST_BITS)?;
        let mut parts = Self { first, last, place, bits, agents: vec![Self::ELSEWHERE; 1 << index].into() };
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

    /// Whether an address lies in the network.
    #[inline]
    pub(super) fn has(&self, address: u32) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// The agent of an address in the network, unless the routes must be asked, and the network's place.
    #[inline]
    pub(super) fn agent(&self, address: u32) -> Option<(u16, u8)> {
        let agent = *self.agents.get((address.wrapping_sub(self.first) >> self.bits) as usize)?;
        (agent != Self::ELSEWHERE).then_some((agent, self.place))
    }
}
