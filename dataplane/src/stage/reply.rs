//! Reply: what is answered in place and needs no state: ARP and neighbour solicitations for addresses that Sluice owns,
//! echo to a VIP, as often as `[limits]` allows.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::burst::{Action, Burst, Out, Packet};
use crate::counters::Counters;
use crate::event::{Event, Events};
use crate::frame::Pool;
use crate::limiter::{Answer, RateLimits};
use crate::tables::{Owned, PortEntry, Tables};
use crate::time::Nanos;
use crate::verdict::{DropReason, Reply};
use crate::wire::checksum::Delta;
use crate::wire::{ETHERNET, arp, ip4, ip6, long, nd, put, word};

/// Answers every ARP request and echo request.
pub fn run(
    burst: &mut Burst,
    pool: &mut Pool,
    tables: &Tables,
    events: &Events,
    counters: &Counters,
    limits: &mut RateLimits,
    now: Nanos,
) {
    for packet in burst {
        let answered = match packet.action {
            Action::Arp => answer_arp(packet, pool, tables),
            Action::Solicited => advertise(packet, pool, tables),
            Action::Echo if !limits.allow(Answer::Echo, now) => Err(DropReason::EchoLimited),
            Action::Echo => {
                counters.answers(Reply::Echo).add(1);
                Ok(if packet.v6 { echo6(packet, pool) } else { echo(packet, pool) })
            }
            Action::Done
            | Action::Parsed
            | Action::Dns
            | Action::Balance(_)
            | Action::Return { .. }
            | Action::Error
            | Action::Later
            | Action::Forward
            | Action::Masquerade
            | Action::Unmasquerade(_)
            | Action::Enter
            | Action::Host => continue,
        };
        match answered {
            Ok(Some(event)) if events.push(event).is_err() => counters.events_lost.add(1),
            Ok(_) => {}
            Err(reason) => packet.drop(reason),
        }
    }
}

fn answer_arp(packet: &mut Packet, pool: &mut Pool, tables: &Tables) -> Result<Option<Event>, DropReason> {
    let request = arp::request(pool.bytes(&packet.frame)).ok_or(DropReason::ArpNotOurs)?;
    let port = answering(packet, tables)?;
    match tables.v4.address(request.target) {
        Some(Owned::Vip | Owned::Snat(_) | Owned::Dns) if request.sender != request.target => {}
        // The kernel answers for its own addresses.
        Some(_) | None => return Err(DropReason::ArpNotOurs),
    }
    packet.frame.set_len((ETHERNET + arp::MESSAGE) as u16);
    arp::reply(pool.bytes_mut(&mut packet.frame), port.mac);
    packet.leave(Out::Back);
    // A probe (RFC 5227) has no sender yet.
    let sender = (request.sender != 0).then(|| Ipv4Addr::from_bits(request.sender).into());
    Ok(sender.map(|ip| Event::NeighbourAsked { ip, port: packet.ingress }))
}

/// The port that the packet came by, where ARP and its successor are answered.
fn answering<'a>(packet: &Packet, tables: &'a Tables) -> Result<&'a PortEntry, DropReason> {
    tables.local.ports.get(usize::from(packet.ingress)).filter(|p| p.arp).ok_or(DropReason::ArpNotOurs)
}

fn advertise(packet: &mut Packet, pool: &mut Pool, tables: &Tables) -> Result<Option<Event>, DropReason> {
    let port = answering(packet, tables)?;
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let ip = pool.bytes(&packet.frame).get(l3..).unwrap_or_default();
    let asked = nd::solicitation(ip, l4 - l3).ok_or(DropReason::ArpNotOurs)?;
    match tables.v6.address(asked.target) {
        Some(Owned::Vip | Owned::Snat(_) | Owned::Dns) if asked.sender != asked.target => {}
        Some(_) | None => return Err(DropReason::ArpNotOurs),
    }
    let length = ip6::HEADER + nd::MESSAGE;
    if l3 + length > pool.chunk_bytes() - usize::from(packet.frame.start()) {
        return Err(DropReason::NoHeadroom);
    }
    packet.frame.set_len((l3 + length) as u16);
    packet.ip_len = length as u16;
    nd::advertise(pool.bytes_mut(&mut packet.frame), asked, port.mac);
    packet.leave(Out::Back);
    let sender = (asked.sender != 0).then(|| Ipv6Addr::from_bits(asked.sender).into());
    Ok(sender.map(|ip| Event::NeighbourAsked { ip, port: packet.ingress }))
}

/// Turns an echo request round (RFC 792): addresses swapped, a fresh TTL, type 8 becomes 0.
fn echo(packet: &mut Packet, pool: &mut Pool) -> Option<Event> {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let bytes = pool.bytes_mut(&mut packet.frame);
    let ip = &mut bytes[l3..];
    let (source, destination) = (long(ip, ip4::field::SOURCE), long(ip, ip4::field::DESTINATION));
    put(ip, ip4::field::SOURCE, destination.to_be_bytes());
    put(ip, ip4::field::DESTINATION, source.to_be_bytes());
    let ttl = word(ip, ip4::field::TTL);
    let fresh = ttl & 0xff | u16::from(ip4::FRESH_TTL) << 8;
    put(ip, ip4::field::TTL, fresh.to_be_bytes());
    Delta::default().word(ttl, fresh).update(ip, ip4::field::CHECKSUM);
    let icmp = &mut bytes[l4..];
    let kind = word(icmp, 0);
    put(icmp, 0, [0, 0]);
    // Of an all-zero message the checksum must be ones, and elsewhere ones are as right as zero.
    let checksum = match Delta::default().word(kind, 0).apply(word(icmp, 2)) {
        0 => 0xffff,
        sum => sum,
    };
    put(icmp, 2, checksum.to_be_bytes());
    (packet.tuple.src, packet.tuple.dst) = (destination, source);
    packet.leave(packet.agent.map_or(Out::Back, Out::Agent));
    None
}

/// The same for IPv6 (RFC 4443 section 4.2): type 128 becomes 129; the addresses change places, so of the checksum only
/// the type is new.
fn echo6(packet: &mut Packet, pool: &mut Pool) -> Option<Event> {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let bytes = pool.bytes_mut(&mut packet.frame);
    let ip = &mut bytes[l3..];
    let (source, destination) = packet.ends6;
    put(ip, ip6::field::SOURCE, destination.to_be_bytes());
    put(ip, ip6::field::DESTINATION, source.to_be_bytes());
    put(ip, ip6::field::HOP_LIMIT, [ip4::FRESH_TTL]);
    let icmp = &mut bytes[l4..];
    let kind = word(icmp, 0);
    put(icmp, 0, [129, 0]);
    Delta::default().word(kind, 0x8100).update(icmp, 2);
    packet.ends6 = (destination, source);
    packet.leave(packet.agent.map_or(Out::Back, Out::Agent));
    None
}
