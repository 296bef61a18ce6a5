//! Classify: the only big match. What is this packet to us, and what has to be done with it?

use crate::burst::{Action, Burst, Out, Packet};
use crate::frame::Pool;
use crate::tables::fib::Target;
use crate::tables::snat::Side;
use crate::tables::{Address, Tables, service_key};
use crate::verdict::DropReason;
use crate::wire::{ip4, long};

/// Gives every parsed packet its action.
pub fn run(burst: &mut Burst, pool: &Pool, tables: &Tables) {
    for packet in burst {
        if packet.action != Action::Parsed {
            continue;
        }
        match classify(packet, pool, tables) {
            Ok(Action::Host) => packet.leave(Out::Host),
            Ok(action) => packet.action = action,
            Err(reason) => packet.drop(reason),
        }
    }
}

#[inline]
fn classify(packet: &Packet, pool: &Pool, tables: &Tables) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    let from_host = tables.local.host.is_some_and(|(port, _)| port == packet.ingress);
    // Only the node's kernel may speak with an address of ours.
    if !from_host && tables.address(tuple.src).is_some() {
        return Err(DropReason::Martian);
    }
    // Policy goes by addresses, so an overlay source counts only where decap has checked it.
    if !from_host && packet.agent.is_none() && tables.is_overlay(tuple.src) {
        return Err(DropReason::OverlaySpoof);
    }
    let action = match tables.address(tuple.dst) {
        Some(Address::Vip) => vip(packet, pool, tables)?,
        Some(Address::Snat(index)) => snat(packet, tables, index)?,
        Some(Address::Dns) => match tuple.protocol {
            ip4::UDP if tuple.dport == 53 => Action::Dns,
            ip4::ICMP => echo(packet, pool)?,
            _ => Action::Host,
        },
        Some(Address::Vtep | Address::Host) => Action::Host,
        None => routed(packet, tables, from_host)?,
    };
    match action {
        Action::Host if from_host => Err(DropReason::NotForUs),
        Action::Balance(_) | Action::Return { .. } | Action::Forward => alive(packet, pool).map(|()| action),
        Action::Done | Action::Parsed | Action::Arp | Action::Dns | Action::Echo | Action::Host => Ok(action),
    }
}

#[inline]
fn vip(packet: &Packet, pool: &Pool, tables: &Tables) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    match tuple.protocol {
        ip4::TCP | ip4::UDP => tables
            .service_numbers
            .get(service_key(tuple.dst, tuple.dport, tuple.protocol))
            .map(|number| Action::Balance(number as u16))
            .ok_or(DropReason::NoService),
        ip4::ICMP => echo(packet, pool),
        _ => Err(DropReason::Protocol),
    }
}

#[inline]
fn snat(packet: &Packet, tables: &Tables, index: u8) -> Result<Action, DropReason> {
    let tuple = &packet.tuple;
    match tuple.protocol {
        ip4::TCP | ip4::UDP => {}
        ip4::ICMP => return Err(DropReason::IcmpUnhandled),
        _ => return Err(DropReason::Protocol),
    }
    // An overlay reply comes out of a tunnel, an underlay reply does not: anything else is forged.
    if (tables.snat.side(index) == Side::Overlay) != packet.agent.is_some() {
        return Err(DropReason::Martian);
    }
    tables
        .backend_numbers
        .get(service_key(tuple.src, tuple.sport, tuple.protocol))
        .map(|backend| Action::Return { backend, snat: index })
        .ok_or(DropReason::SnatUnknown)
}

/// Echo requests are answered for VIPs and the DNS address; nothing else of ICMP is, in this release.
fn echo(packet: &Packet, pool: &Pool) -> Result<Action, DropReason> {
    let icmp = &pool.bytes(&packet.frame)[usize::from(packet.l4)..];
    (long(icmp, 0) >> 16 == 0x0800).then_some(Action::Echo).ok_or(DropReason::IcmpUnhandled)
}

/// What is neither ours nor a service's: passed on between overlay and overlay, and between overlay and kernel.
fn routed(packet: &Packet, tables: &Tables, from_host: bool) -> Result<Action, DropReason> {
    if packet.agent.is_none() && !from_host {
        return Err(DropReason::NotForUs);
    }
    match tables.fib.lookup(packet.tuple.dst) {
        Some(Target::Agent(_)) => Ok(Action::Forward),
        Some(Target::Host) => Ok(Action::Host),
        Some(Target::NoAgent) => Err(DropReason::NoAgent),
        Some(Target::Hop(_) | Target::Link(_)) | None => Err(DropReason::NotForUs),
    }
}

/// What is passed on loses one of its TTL; what has none left to lose ends here.
#[inline]
fn alive(packet: &Packet, pool: &Pool) -> Result<(), DropReason> {
    let ttl = pool.bytes(&packet.frame)[usize::from(packet.l3) + ip4::field::TTL];
    if ttl > 1 { Ok(()) } else { Err(DropReason::TtlExpired) }
}
