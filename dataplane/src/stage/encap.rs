//! Encap: routes are looked up; what lies behind an agent gets its VXLAN header, and what goes to a backend that answers
//! the client itself the header of its tunnel. Both are templates made with the tables ([`crate::wire::tunnel`]).

use std::net::IpAddr;

use crate::address::Address;
use crate::burst::{Burst, Out, Packet};
use crate::counters::Counters;
use crate::family::Flows;
use crate::frame::Pool;
use crate::tables::Tables;
use crate::tables::fib::{Fib, Target};
use crate::tables::overlay::Inner;
use crate::verdict::DropReason;
use crate::wire::tunnel::Template;

/// Finds the way of every packet that leaves by the routes; encapsulates those that go to an agent or by a tunnel.
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables, flows: &Flows, counters: &Counters) {
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
        let wrapped = match packet.out {
            Out::Agent(agent) => to_agent(packet, pool, (tables, flows), counters, agent),
            Out::Tunnel(tunnel) => to_backend(packet, pool, (tables, flows), tunnel),
            Out::Nowhere | Out::Back | Out::Route | Out::Hop(_) | Out::Host => Ok(()),
        };
        if let Err(reason) = wrapped {
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

/// In VXLAN to an agent.
#[inline]
fn to_agent(
    packet: &mut Packet,
    pool: &mut Pool,
    (tables, flows): (&Tables, &Flows),
    counters: &Counters,
    number: u16,
) -> Result<(), DropReason> {
    let agent = tables.agents.get(usize::from(number)).ok_or(DropReason::NoRoute)?;
    let [v4, v6] = agent.vxlan.as_ref().ok_or(DropReason::NoRoute)?;
    // What is answered in place, which nothing has compared with the way before, comes here too.
    if packet.ip_len > agent.room {
        return Err(DropReason::TooBig);
    }
    let entropy = entropy(packet, flows);
    wrap(packet, pool, if packet.v6 { v6 } else { v4 }, entropy)?;
    match packet.v6 {
        false => count(tables, counters, packet.tuple.dst),
        true => count(tables, counters, packet.ends6.1),
    }
    (packet.v6, packet.tuple.dst) = (false, agent.underlay.to_bits());
    packet.out = agent.hop.map_or(Out::Route, Out::Hop);
    Ok(())
}

/// Counts a packet to a container of a network.
#[inline]
pub(super) fn count<A: Inner>(tables: &Tables, counters: &Counters, destination: A) {
    let place = tables.overlay.place(destination);
    if let Some(counter) = place.and_then(|place| counters.networks.get(usize::from(place))) {
        counter.tx.add(1);
    }
}

/// To a backend that answers the client itself.
#[inline]
fn to_backend(
    packet: &mut Packet,
    pool: &mut Pool,
    (tables, flows): (&Tables, &Flows),
    number: u32,
) -> Result<(), DropReason> {
    let tunnel = tables.tunnels.get(number as usize).ok_or(DropReason::NoRoute)?;
    let entropy = if tunnel.template.is_spread() { entropy(packet, flows) } else { 0 };
    wrap(packet, pool, &tunnel.template, entropy)?;
    match tunnel.destination {
        IpAddr::V4(ip) => (packet.v6, packet.tuple.dst) = (false, ip.to_bits()),
        IpAddr::V6(ip) => (packet.v6, packet.ends6.1) = (true, ip.to_bits()),
    }
    packet.out = tunnel.hop.map_or(Out::Route, Out::Hop);
    Ok(())
}

/// Puts a front before the IP packet; the outer Ethernet header, which egress writes, goes before that.
#[inline]
fn wrap(packet: &mut Packet, pool: &mut Pool, front: &Template, entropy: u16) -> Result<(), DropReason> {
    if !packet.frame.prepend(front.len() as u16) {
        return Err(DropReason::NoHeadroom);
    }
    let l3 = usize::from(packet.l3);
    front.write(pool.bytes_mut(&mut packet.frame).get_mut(l3..).unwrap_or_default(), entropy);
    packet.ip_len += front.len() as u16;
    Ok(())
}

/// What tells the packet's flow from others to the same place: the outer UDP source port, or IPv6's flow label. Of what
/// was balanced it comes from the hash of the session's key.
#[inline]
pub(super) fn entropy(packet: &Packet, flows: &Flows) -> u16 {
    // Both families have one key.
    if packet.hash != 0 { flows.v4.entropy(packet.hash) } else { entropy_of_tuple(packet) }
}

/// Of what is passed on without a session. It spreads flows and keeps no secret: two multiplications are enough.
#[inline]
fn entropy_of_tuple(packet: &Packet) -> u16 {
    let tuple = &packet.tuple;
    let ends = match packet.v6 {
        false => u64::from(tuple.src) << 32 | u64::from(tuple.dst),
        true => {
            let ([s0, s1], [d0, d1]) = (packet.ends6.0.words(), packet.ends6.1.words());
            (s0 ^ s1).rotate_left(23) ^ d0 ^ d1
        }
    };
    let mixed = ends.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let ports = u64::from(tuple.sport) << 32 | u64::from(tuple.dport);
    ((mixed ^ mixed >> 32 ^ ports).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 48) as u16
}
