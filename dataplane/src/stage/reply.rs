//! Reply: what is answered in place and needs no state: ARP for addresses that Sluice owns, echo to a VIP.

use crate::burst::{Action, Burst, Out, Packet};
use crate::counters::Counters;
use crate::event::{Event, Events};
use crate::frame::Pool;
use crate::tables::{Address, Tables};
use crate::verdict::DropReason;
use crate::wire::checksum::Delta;
use crate::wire::{arp, ip4, long, put, word};

/// Answers every ARP request and echo request.
pub fn run(burst: &mut Burst, pool: &mut Pool, tables: &Tables, events: &Events, counters: &Counters) {
    for packet in burst {
        match packet.action {
            Action::Arp => match answer_arp(packet, pool, tables) {
                Ok(Some(event)) if events.push(event).is_err() => counters.events_lost.add(1),
                Ok(_) => {}
                Err(reason) => packet.drop(reason),
            },
            Action::Echo => echo(packet, pool),
            Action::Done
            | Action::Parsed
            | Action::Dns
            | Action::Balance(_)
            | Action::Return { .. }
            | Action::Forward
            | Action::Host => {}
        }
    }
}

fn answer_arp(packet: &mut Packet, pool: &mut Pool, tables: &Tables) -> Result<Option<Event>, DropReason> {
    let request = arp::request(pool.bytes(&packet.frame)).ok_or(DropReason::ArpNotOurs)?;
    let port = tables.local.ports.get(usize::from(packet.ingress)).filter(|p| p.arp).ok_or(DropReason::ArpNotOurs)?;
    match tables.address(request.target) {
        Some(Address::Vip | Address::Snat(_) | Address::Dns) if request.sender != request.target => {}
        // The kernel answers for its own addresses.
        Some(_) | None => return Err(DropReason::ArpNotOurs),
    }
    packet.frame.set_len((crate::wire::ETHERNET + arp::MESSAGE) as u16);
    arp::reply(pool.bytes_mut(&mut packet.frame), port.mac);
    packet.leave(Out::Back);
    // A probe (RFC 5227) has no sender yet.
    let sender = (request.sender != 0).then(|| request.sender.into());
    Ok(sender.map(|ip| Event::NeighbourAsked { ip, port: packet.ingress }))
}

/// Turns an echo request round (RFC 792): addresses swapped, a fresh TTL, type 8 becomes 0.
fn echo(packet: &mut Packet, pool: &mut Pool) {
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
}
