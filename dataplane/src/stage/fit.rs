//! What fits a way: packets that do not are refused before anything of them is changed, so that the ICMP error
//! ([`super::refuse`]) can quote them; TCP is told in its handshake, in the NAT modes, whose both directions pass here. A
//! DSR mode leaves the client's SYN as it is: it limits the backend's segments, which go another way.
//!
//! Where the way is known to egress alone, egress still drops what does not fit.

use crate::burst::{Out, Packet};
use crate::counters::Counters;
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::SYN;
use crate::tables::Tables;
use crate::tables::fib::Target;
use crate::verdict::DropReason;
use crate::wire::tcp;

/// Refuses a packet that is larger than `room`, which is asked only where some way is too narrow for it; the room is
/// noted in the packet.
///
/// # Errors
/// [`DropReason::TooBig`].
#[inline]
pub(super) fn check(packet: &mut Packet, tables: &Tables, room: impl FnOnce() -> u16) -> Result<(), DropReason> {
    // Nearly every packet is answered by this comparison alone.
    if packet.ip_len <= tables.local.least_mtu { Ok(()) } else { measure(packet, room()) }
}

#[cold]
fn measure(packet: &mut Packet, room: u16) -> Result<(), DropReason> {
    if packet.ip_len <= room {
        return Ok(());
    }
    packet.mtu = room;
    Err(DropReason::TooBig)
}

/// Lowers the MSS of a SYN to what fits `room` (RFC 9293 section 3.7.1).
#[inline]
pub(super) fn clamp<A: Family>(
    packet: &mut Packet,
    pool: &mut Pool,
    tables: &Tables,
    counters: &Counters,
    room: impl FnOnce() -> u16,
) {
    if packet.tcp_flags & SYN == 0 {
        return;
    }
    let l4 = usize::from(packet.l4);
    let headers = A::HEADER + tcp::HEADER as u16;
    let segment = pool.bytes_mut(&mut packet.frame).get_mut(l4..).unwrap_or_default();
    let least = tables.local.least_mtu.saturating_sub(headers);
    if tcp::named_mss(segment).is_some_and(|mss| mss > least) && tcp::clamp_mss(segment, room().saturating_sub(headers))
    {
        counters.mss_clamped.add(1);
    }
}

/// Largest IP packet that a way takes; `u16::MAX` of one whose port is not known yet, or not at all: then the reason to
/// drop will be another.
#[cold]
pub(super) fn room(tables: &Tables, out: Out) -> u16 {
    let room = match out {
        Out::Agent(agent) => tables.agents.get(usize::from(agent)).map(|a| a.room),
        Out::Tunnel(number) => tables.tunnels.get(number as usize).map(|t| t.room),
        Out::Hop(hop) => tables.hops.get(hop as usize).and_then(|h| mtu(tables, h.port)),
        Out::Host => tables.local.host.and_then(|(port, _)| mtu(tables, port)),
        Out::Nowhere | Out::Back | Out::Route => None,
    };
    room.unwrap_or(u16::MAX)
}

/// Largest IP packet that the routes take to an address.
#[cold]
pub(super) fn room_to<A: Family>(tables: &Tables, ip: A) -> u16 {
    match A::tables(tables).fib.lookup(ip) {
        Some(Target::Agent(agent)) => room(tables, Out::Agent(agent)),
        Some(Target::Hop(hop)) => room(tables, Out::Hop(hop)),
        Some(Target::Host) => room(tables, Out::Host),
        Some(Target::Link(port)) => mtu(tables, port).unwrap_or(u16::MAX),
        Some(Target::NoAgent) | None => u16::MAX,
    }
}

fn mtu(tables: &Tables, port: u8) -> Option<u16> {
    tables.local.ports.get(usize::from(port)).map(|p| p.mtu)
}
