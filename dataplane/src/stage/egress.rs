//! Egress: next hop, MACs, MTU. Every packet leaves here as Transmit, Host or Drop.

use std::net::IpAddr;

use crate::burst::{Burst, Out, Packet};
use crate::counters::Counters;
use crate::event::{Event, Events};
use crate::family::Family;
use crate::frame::Pool;
use crate::tables::fib::Target;
use crate::tables::{Hop, Tables};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{ETHERNET, put};

/// Gives every packet that still has a way to go its verdict.
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables, events: &Events, counters: &Counters) {
    for packet in burst {
        if !packet.pending() {
            continue;
        }
        let verdict = match packet.out {
            Out::Back => back(packet, pool, tables),
            Out::Host => host(packet, pool, tables),
            Out::Hop(hop) => tables.hops.get(hop as usize).ok_or(Stop::NoRoute).and_then(|h| leave(packet, pool, h)),
            Out::Route if packet.v6 => on_link::<u128>(packet, tables).and_then(|h| leave(packet, pool, h)),
            Out::Route => on_link::<u32>(packet, tables).and_then(|h| leave(packet, pool, h)),
            Out::Agent(_) | Out::Tunnel(_) | Out::Nowhere => Err(Stop::NoRoute),
        };
        match verdict {
            Ok(verdict) => packet.end(verdict),
            Err(stop) => {
                if let Stop::Unresolved { ip, port } = stop
                    && events.push(Event::NextHopUnresolved { ip, port }).is_err()
                {
                    counters.events_lost.add(1);
                }
                packet.drop(stop.reason());
            }
        }
    }
}

/// Why a packet cannot leave.
#[derive(Clone, Copy)]
enum Stop {
    NoRoute,
    Unresolved { ip: IpAddr, port: u8 },
    TooBig,
    NoHost,
    NoHeadroom,
}

impl Stop {
    fn reason(self) -> DropReason {
        match self {
            Self::NoRoute => DropReason::NoRoute,
            Self::Unresolved { .. } => DropReason::NextHopUnresolved,
            Self::TooBig => DropReason::TooBig,
            Self::NoHost => DropReason::NoHost,
            Self::NoHeadroom => DropReason::NoHeadroom,
        }
    }
}

/// The hop for a destination that no tunnel and no precomputed hop leads to.
fn on_link<'a, A: Family>(packet: &Packet, tables: &'a Tables) -> Result<&'a Hop, Stop> {
    let ip = A::ends(packet).1;
    let hop = |number: u32| tables.hops.get(number as usize).ok_or(Stop::NoRoute);
    match A::tables(tables).fib.lookup(ip).ok_or(Stop::NoRoute)? {
        Target::Hop(number) => hop(number),
        Target::Link(port) => match A::tables(tables).link(ip, port) {
            Some(number) => hop(number),
            None => Err(Stop::Unresolved { ip: ip.to_ip(), port }),
        },
        Target::Agent(_) | Target::NoAgent | Target::Host => Err(Stop::NoRoute),
    }
}

#[inline]
fn leave(packet: &mut Packet, pool: &mut Pool, hop: &Hop) -> Result<Verdict, Stop> {
    let exit = hop.exit.as_ref().ok_or(Stop::Unresolved { ip: hop.ip, port: hop.port })?;
    fits(packet, exit.mtu)?;
    // As an array: positions in it need no checks. Parse has seen that it is there.
    if let Some(ethernet) = pool.bytes_mut(&mut packet.frame).first_chunk_mut::<ETHERNET>() {
        put(ethernet, 0, exit.macs);
        put(ethernet, 12, if packet.v6 { u128::ETHER_TYPE } else { u32::ETHER_TYPE });
    }
    retag(packet, pool, hop.port)?;
    Ok(Verdict::Transmit(hop.port))
}

/// Puts the tags back on what leaves by the port on which it came.
#[inline]
fn retag(packet: &mut Packet, pool: &mut Pool, port: u8) -> Result<(), Stop> {
    if packet.tagged == 0 || port != packet.ingress {
        return Ok(());
    }
    if packet.tag(pool) { Ok(()) } else { Err(Stop::NoHeadroom) }
}

#[inline]
fn fits(packet: &Packet, mtu: u16) -> Result<(), Stop> {
    if packet.ip_len <= mtu { Ok(()) } else { Err(Stop::TooBig) }
}

/// Back to the station that it came from.
fn back(packet: &mut Packet, pool: &mut Pool, tables: &Tables) -> Result<Verdict, Stop> {
    let port = tables.local.ports.get(usize::from(packet.ingress)).ok_or(Stop::NoRoute)?;
    fits(packet, port.mtu)?;
    let bytes = pool.bytes_mut(&mut packet.frame);
    bytes.copy_within(6..12, 0);
    put(bytes, 6, port.mac.0);
    retag(packet, pool, packet.ingress)?;
    Ok(Verdict::Transmit(packet.ingress))
}

fn host(packet: &mut Packet, pool: &mut Pool, tables: &Tables) -> Result<Verdict, Stop> {
    let (index, mac) = tables.local.host.ok_or(Stop::NoHost)?;
    let port = tables.local.ports.get(usize::from(index)).ok_or(Stop::NoHost)?;
    fits(packet, port.mtu)?;
    let bytes = pool.bytes_mut(&mut packet.frame);
    put(bytes, 0, mac.0);
    put(bytes, 6, port.mac.0);
    Ok(Verdict::Host)
}
