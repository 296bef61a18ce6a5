//! What fits a way: packets that do not are refused before anything of them is changed, so that the ICMP error can quote
//! them; TCP is told in its handshake, in the NAT modes, whose both directions pass here. A DSR mode leaves the client's
//! SYN as it is: it limits the backend's segments, which go another way.

use super::Balance;
use crate::burst::{Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::SYN;
use crate::tables::fib::Target;
use crate::verdict::DropReason;
use crate::wire::tcp;

impl Balance<'_> {
    /// Refuses a packet that is larger than `room`, which is asked only where some way is too narrow for it.
    #[inline]
    pub(super) fn fits(&self, packet: &Packet, room: impl FnOnce() -> u16) -> Result<(), DropReason> {
        let narrow = packet.ip_len > self.tables.local.least_mtu;
        if narrow && packet.ip_len > room() { Err(DropReason::TooBig) } else { Ok(()) }
    }

    /// Lowers the MSS of a SYN to what fits `room` (RFC 9293 section 3.7.1).
    #[inline]
    pub(super) fn clamp<A: Family>(&self, packet: &mut Packet, pool: &mut Pool, room: impl FnOnce() -> u16) {
        if packet.tcp_flags & SYN == 0 {
            return;
        }
        let l4 = usize::from(packet.l4);
        let headers = A::HEADER + tcp::HEADER as u16;
        let segment = pool.bytes_mut(&mut packet.frame).get_mut(l4..).unwrap_or_default();
        let least = self.tables.local.least_mtu.saturating_sub(headers);
        if tcp::named_mss(segment).is_some_and(|mss| mss > least)
            && tcp::clamp_mss(segment, room().saturating_sub(headers))
        {
            self.counters.mss_clamped.add(1);
        }
    }

    /// Largest IP packet that a way takes.
    #[cold]
    pub(super) fn room(&self, out: Out) -> u16 {
        let tables = self.tables;
        let room = match out {
            Out::Agent(_) => tables.local.vtep.as_ref().map(|v| v.mtu),
            Out::Tunnel(number) => tables.tunnels.get(number as usize).map(|t| t.room),
            Out::Hop(hop) => tables.hops.get(hop as usize).and_then(|h| self.mtu(h.port)),
            // Neither leads out by a port that is known yet.
            Out::Nowhere | Out::Back | Out::Route | Out::Host => None,
        };
        room.unwrap_or(u16::MAX)
    }

    /// Largest IP packet that the routes take to an address.
    #[cold]
    pub(super) fn room_to<A: Family>(&self, ip: A) -> u16 {
        let room = match A::tables(self.tables).fib.lookup(ip) {
            Some(Target::Agent(agent)) => Some(self.room(Out::Agent(agent))),
            Some(Target::Hop(hop)) => Some(self.room(Out::Hop(hop))),
            Some(Target::Link(port)) => self.mtu(port),
            Some(Target::Host) => self.tables.local.host.and_then(|(port, _)| self.mtu(port)),
            Some(Target::NoAgent) | None => None,
        };
        room.unwrap_or(u16::MAX)
    }

    fn mtu(&self, port: u8) -> Option<u16> {
        self.tables.local.ports.get(usize::from(port)).map(|p| p.mtu)
    }
}
