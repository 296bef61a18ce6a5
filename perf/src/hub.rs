//! The overlay that the hub path is measured in: a thousand agents that send everything here, a hundred containers on
//! each, a container of each of a hundred groups among them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use ipnet::Ipv4Net;
use sluice_config::model::{Container, Mac, Neighbour, OverlayAgent};
use sluice_dataplane::sessions::ACK;
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;

use crate::traffic::{self, Station};
use crate::world;

/// Agents.
pub const AGENTS: u32 = 1000;
/// Containers of each.
pub const CONTAINERS: u32 = 100;

/// The world of [`world::tables`], with these agents and containers.
///
/// # Errors
/// When this world does not compile, which is a defect of this file.
pub fn tables() -> Result<Arc<Tables>> {
    let mut desired = world::desired(1)?;
    for n in 0..AGENTS {
        let subnet = Ipv4Net::new(address(n, 0), 24)?;
        let Station { agent, mac, .. } = station(n, 0);
        desired.shared.agents.push(OverlayAgent {
            ip: agent,
            vtep_ip: Ipv4Addr::from_bits(Ipv4Addr::new(44, 128, 4, 0).to_bits() + n),
            vtep_mac: mac,
            subnets: BTreeMap::from([("dcos".to_owned(), subnet)]),
            subnets6: BTreeMap::new(),
        });
        desired.local.neighbours.push(Neighbour {
            ip: agent.into(),
            mac: Mac([2, 0, 0, 4, (n >> 8) as u8, n as u8]),
            port: 0,
        });
        desired.shared.containers.extend((0..CONTAINERS).map(|c| Container {
            ip: address(n, c + 2).into(),
            network: "dcos".to_owned(),
            groups: vec![format!("team-{c}")],
        }));
    }
    let tables = Tables::compile(&Arc::new(desired), &mut Ids::new(1024, 65536, 0), Nanos::default(), None)?;
    Ok(Arc::new(tables))
}

/// Packet `n`: from a container, by its agent's tunnel, to one of its group on another agent.
pub fn packet(n: u32, frame: &mut Vec<u8>) {
    // Odd multipliers meet all containers in an order that no prefetcher guesses.
    let from = n.wrapping_mul(0x9e37_79b1) % (AGENTS * CONTAINERS);
    let (agent, container) = (from / CONTAINERS, from % CONTAINERS);
    let there = (agent + 1 + n.wrapping_mul(0x85eb_ca6b) % (AGENTS - 1)) % AGENTS;
    traffic::between_agents(frame, &station(agent, container), (address(there, container + 2), 80), ACK);
}

fn address(agent: u32, last: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(9, 1, 0, 0).to_bits() + (agent << 8) + last)
}

fn station(n: u32, container: u32) -> Station {
    Station {
        agent: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 4, 0).to_bits() + n),
        mac: Mac([0x70, 0xb3, 0xd5, 0x81, (n >> 8) as u8, n as u8]),
        container: (address(n, container + 2), 7000),
    }
}
