//! Classify: the only big match. What is this packet to us, and what has to be done with it?

use crate::burst::{Action, Burst, Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::stage::{refuse, room};
use crate::tables::fib::Target;
use crate::tables::snat::Side;
use crate::tables::{Owned, Tables};
use crate::verdict::DropReason;
use crate::wire::{ip4, ip6, nd, word};

/// Gives every parsed packet its action; whether it dropped one that may be answered ([`refuse`]).
pub fn run(burst: &mut Burst, pool: &Pool, tables: &Tables) -> bool {
    let mut told = false;
    for packet in burst {
        if packet.action != Action::Parsed {
            continue;
        }
        let found = match packet.v6 {
            false => classify::<u32>(packet, pool, tables),
            true => classify::<u128>(packet, pool, tables),
        };
        match found {
            Ok(Action::Host) => told |= to_host(packet, tables),
            Ok(action) => packet.action = action,
            Err(reason) => {
                told |= refuse::is_told(reason);
                packet.drop(reason);
            }
        }
    }
    told
}

/// Sends a packet to the node's kernel, unless it does not fit; whether that has to be told.
#[inline(never)]
fn to_host(packet: &mut Packet, tables: &Tables) -> bool {
    match room::check_host(packet, tables) {
        Ok(()) => packet.leave(Out::Host),
        Err(reason) => packet.drop(reason),
    }
    !packet.pending()
}

#[inline]
fn classify<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    let (source, destination) = A::ends(packet);
    let from_host = tables.local.host.is_some_and(|(port, _)| port == packet.ingress);
    // Only the node's kernel may speak with an address of ours.
    if !from_host && A::tables(tables).address(source).is_some() {
        return Err(DropReason::Martian);
    }
    // Policy goes by addresses, so an overlay source counts only where decap has checked it.
    if !from_host && packet.agent.is_none() && !A::V6 && tables.is_overlay(tuple.src) {
        return Err(DropReason::OverlaySpoof);
    }
    let action = match A::tables(tables).address(destination) {
        Some(Owned::Vip) => vip::<A>(packet, pool, tables)?,
        Some(Owned::Snat(index)) => snat::<A>(packet, pool, tables, index)?,
        Some(Owned::Dns) => match tuple.protocol {
            ip4::UDP if tuple.dport == 53 => Action::Dns,
            icmp if icmp == A::ICMP => echo::<A>(packet, pool)?,
            _ => Action::Host,
        },
        Some(Owned::Vtep | Owned::Host) => Action::Host,
        None if A::V6 && tuple.protocol == ip6::ICMP && kind(packet, pool) == nd::SOLICITATION => Action::Solicited,
        None => routed::<A>(packet, tables, from_host)?,
    };
    match action {
        Action::Host if from_host => Err(DropReason::NotForUs),
        Action::Balance(_) | Action::Return { .. } | Action::Forward => alive::<A>(packet, pool).map(|()| action),
        Action::Done | Action::Parsed | Action::Arp | Action::Dns | Action::Echo | Action::Solicited | Action::Host => {
            Ok(action)
        }
    }
}

#[inline]
fn vip<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    match tuple.protocol {
        ip4::TCP | ip4::UDP | ip4::SCTP => A::tables(tables)
            .service(A::ends(packet).1, tuple.dport, tuple.protocol)
            .map(Action::Balance)
            .ok_or(DropReason::NoService),
        icmp if icmp == A::ICMP => echo::<A>(packet, pool),
        _ => Err(DropReason::Protocol),
    }
}

#[inline]
fn snat<A: Family>(packet: &Packet, pool: &Pool, tables: &Tables, index: u8) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    match tuple.protocol {
        ip4::TCP | ip4::UDP | ip4::SCTP => {}
        ip6::ICMP if A::V6 && kind(packet, pool) == nd::SOLICITATION => return Ok(Action::Solicited),
        icmp if icmp == A::ICMP => return Err(DropReason::IcmpUnhandled),
        _ => return Err(DropReason::Protocol),
    }
    // An overlay reply comes out of a tunnel, an underlay reply does not: anything else is forged.
    if (tables.snat.side(index) == Side::Overlay) != packet.agent.is_some() {
        return Err(DropReason::Martian);
    }
    A::tables(tables)
        .backend(A::ends(packet).0, tuple.sport, tuple.protocol)
        .map(|backend| Action::Return { backend, snat: index })
        .ok_or(DropReason::SnatUnknown)
}

/// Echo requests are answered for VIPs and the DNS address; nothing else of ICMP is, in this release.
fn echo<A: Family>(packet: &Packet, pool: &Pool) -> Result<Action, DropReason> {
    let request = if A::V6 { 0x8000 } else { 0x0800 };
    match word(pool.bytes(&packet.frame), usize::from(packet.l4)) {
        kind if kind == request => Ok(Action::Echo),
        // A host that knows our MAC asks by unicast whether we are still there (RFC 4861 section 7.3.3).
        kind if A::V6 && kind >> 8 == u16::from(nd::SOLICITATION) => Ok(Action::Solicited),
        _ => Err(DropReason::IcmpUnhandled),
    }
}

/// ICMP's type.
fn kind(packet: &Packet, pool: &Pool) -> u8 {
    (word(pool.bytes(&packet.frame), usize::from(packet.l4)) >> 8) as u8
}

/// What is neither ours nor a service's: passed on between overlay and overlay, and between overlay and kernel.
fn routed<A: Family>(packet: &Packet, tables: &Tables, from_host: bool) -> Result<Action, DropReason> {
    if packet.agent.is_none() && !from_host {
        return Err(DropReason::NotForUs);
    }
    match A::tables(tables).fib.lookup(A::ends(packet).1) {
        Some(Target::Agent(_)) => Ok(Action::Forward),
        Some(Target::Host) => Ok(Action::Host),
        Some(Target::NoAgent) => Err(DropReason::NoAgent),
        Some(Target::Hop(_) | Target::Link(_)) | None => Err(DropReason::NotForUs),
    }
}

/// What is passed on loses one of its TTL; what has none left to lose ends here.
#[inline]
fn alive<A: Family>(packet: &Packet, pool: &Pool) -> Result<(), DropReason> {
    let ttl = A::hops_left(pool.bytes(&packet.frame).get(usize::from(packet.l3)..).unwrap_or_default());
    if ttl > 1 { Ok(()) } else { Err(DropReason::TtlExpired) }
}
