//! Encap: routes are looked up, and what lies behind an agent gets its VXLAN header.

use crate::address::Address;
use crate::burst::{Burst, Out, Packet};
use crate::frame::Pool;
use crate::tables::Tables;
use crate::tables::fib::{Fib, Target};
use crate::verdict::DropReason;
use crate::wire::ETHERNET;
use crate::wire::vxlan::{self, Tunnel};

/// Finds the way of every packet that leaves by the routes; encapsulates those that go to an agent.
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables) {
    for packet in burst {
        if !packet.pending() {
            continue;
        }
        if packet.out == Out::Route {
            let found = match packet.v6 {
                false => routed(&tables.v4.fib, packet.tuple.dst),
                true => routed(&tables.v6.fib, packet.ends6.1),
            };
            match found {
                Ok(out) => packet.out = out,
                Err(reason) => packet.drop(reason),
            }
        }
        if let Out::Agent(agent) = packet.out
            && let Err(reason) = encapsulate(packet, pool, tables, agent)
        {
            packet.drop(reason);
        }
    }
}

/// What the overlay knows of the destination; the underlay's routes are left to egress.
#[inline]
fn routed<A: Address>(fib: &Fib<A>, destination: A) -> Result<Out, DropReason> {
    match fib.lookup(destination).ok_or(DropReason::NoRoute)? {
        Target::Agent(agent) => Ok(Out::Agent(agent)),
        Target::NoAgent => Err(DropReason::NoAgent),
        Target::Host => Ok(Out::Host),
        Target::Hop(hop) => Ok(Out::Hop(hop)),
        Target::Link(_) => Ok(Out::Route),
    }
}

fn encapsulate(packet: &mut Packet, pool: &mut Pool, tables: &Tables, agent: u16) -> Result<(), DropReason> {
    let vtep = tables.local.vtep.as_ref().ok_or(DropReason::NoRoute)?;
    let agent = tables.agents.get(usize::from(agent)).ok_or(DropReason::NoRoute)?;
    if packet.ip_len > vtep.mtu {
        return Err(DropReason::TooBig);
    }
    let tuple = packet.tuple;
    let entropy = tables
        .key
        .two(u64::from(tuple.src) << 32 | u64::from(tuple.dst), u64::from(tuple.sport) << 16 | u64::from(tuple.dport));
    if !packet.frame.prepend(vxlan::OVERHEAD as u16) {
        return Err(DropReason::NoHeadroom);
    }
    let tunnel = Tunnel {
        source: vtep.underlay.to_bits(),
        destination: agent.underlay.to_bits(),
        // RFC 7348 section 4.1: from the dynamic range.
        source_port: 49152 | (entropy as u16 & 0x3fff),
        port: vtep.udp_port,
        vni: vtep.vni,
        inner_source: vtep.mac,
        inner_destination: agent.vtep_mac,
    };
    vxlan::encapsulate(pool.bytes_mut(&mut packet.frame), &tunnel);
    packet.ip_len += (vxlan::OVERHEAD) as u16;
    packet.l3 = ETHERNET as u8;
    packet.tuple.dst = tunnel.destination;
    packet.out = agent.hop.map_or(Out::Route, Out::Hop);
    Ok(())
}
