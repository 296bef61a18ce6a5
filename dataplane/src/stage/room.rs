//! Room: does a packet fit its way out? Asked before it is changed, so that the answer (see [`super::refuse`]) quotes it
//! as its sender knows it. Where the way is known to egress alone, egress still drops what does not fit.

use sluice_config::model::OwnVtep;

use crate::burst::Packet;
use crate::family::Family;
use crate::tables::fib::Target;
use crate::tables::{Agent, Hop, Tables};
use crate::verdict::DropReason;
use crate::wire::vxlan;

/// Whether `packet` will fit the way to `destination`.
///
/// # Errors
/// [`DropReason::TooBig`], the MTU noted in the packet.
#[inline]
pub fn check<A: Family>(packet: &mut Packet, tables: &Tables, destination: A) -> Result<(), DropReason> {
    // Nearly every packet is answered by this comparison alone.
    if packet.ip_len <= tables.local.least_mtu {
        return Ok(());
    }
    measure(packet, mtu(tables, destination))
}

/// As [`check`], towards the node's kernel.
///
/// # Errors
/// As [`check`].
#[inline]
pub fn check_host(packet: &mut Packet, tables: &Tables) -> Result<(), DropReason> {
    let host = tables.local.host.and_then(|(port, _)| port_mtu(tables, port));
    measure(packet, host)
}

#[inline]
fn measure(packet: &mut Packet, mtu: Option<u16>) -> Result<(), DropReason> {
    match mtu {
        Some(mtu) if packet.ip_len > mtu => {
            packet.mtu = mtu;
            Err(DropReason::TooBig)
        }
        // Where no way is known the reason to drop will be another.
        Some(_) | None => Ok(()),
    }
}

/// Largest packet for `destination`.
#[inline(never)]
fn mtu<A: Family>(tables: &Tables, destination: A) -> Option<u16> {
    match A::tables(tables).fib.lookup(destination)? {
        Target::Agent(agent) => tunnel_mtu(tables, tables.agents.get(usize::from(agent))?, tables.local.vtep.as_ref()?),
        Target::Hop(hop) => port_mtu(tables, tables.hops.get(hop as usize)?.port),
        Target::Link(port) => port_mtu(tables, port),
        Target::Host => port_mtu(tables, tables.local.host?.0),
        Target::NoAgent => None,
    }
}

/// The overlay's MTU, and what its underlay really leaves.
fn tunnel_mtu(tables: &Tables, agent: &Agent, vtep: &OwnVtep) -> Option<u16> {
    let hop: Option<&Hop> = agent.hop.and_then(|hop| tables.hops.get(hop as usize));
    let outer = hop.and_then(|hop| port_mtu(tables, hop.port));
    Some(outer.map_or(vtep.mtu, |outer| vtep.mtu.min(outer.saturating_sub(vxlan::OVERHEAD as u16))))
}

fn port_mtu(tables: &Tables, port: u8) -> Option<u16> {
    tables.local.ports.get(usize::from(port)).map(|p| p.mtu)
}
