//! A packet of a known flow leaves for its backend, in the service's mode.

use sluice_config::model::Mode;

use super::Balance;
use crate::burst::{Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::{Flow, SYN, Way};
use crate::tables::snat::Side;
use crate::tables::{BackendEntry, ServiceEntry, tunnel};
use crate::verdict::DropReason;
use crate::wire::{End, ip4, tcp};

/// How the flows of a mode find their way back.
#[inline]
pub(super) fn way(mode: Mode) -> Way {
    match mode {
        Mode::Nat => Way::Translated,
        Mode::NatPreserve => Way::Preserved,
        Mode::DsrIpip | Mode::DsrGue | Mode::DsrVxlan | Mode::DsrMac => Way::Direct,
    }
}

impl Balance<'_> {
    /// Rewrites a packet for its backend. What does not fit the way there is refused as it was received.
    #[inline]
    pub(super) fn send<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        number: u16,
        service: &ServiceEntry,
        flow: Flow,
    ) -> Result<(), DropReason> {
        let backend = self.tables.backend(flow.backend).ok_or(DropReason::NoBackend)?;
        let out = self.out::<A>(service, backend)?;
        if packet.ip_len > self.tables.local.least_mtu && packet.ip_len > self.room(out) {
            return Err(DropReason::TooBig);
        }
        if let Some(counter) = self.counters.services.get(usize::from(number)) {
            counter.add(1);
        }
        if packet.tcp_flags & SYN != 0 {
            self.clamp::<A>(packet, pool, service, flow.backend);
        }
        match flow.way() {
            Way::Translated => {
                let ip = self.tables.snat.address(flow.snat).ok_or(DropReason::NoSnat)?;
                rewrite::<A>(packet, pool, End { ip, port: flow.port }, real(backend)?);
            }
            Way::Preserved => {
                let source = End { ip: A::ends(packet).0, port: packet.tuple.sport };
                rewrite::<A>(packet, pool, source, real(backend)?);
            }
            Way::Direct => {
                let l3 = usize::from(packet.l3);
                A::decrement(&mut pool.bytes_mut(&mut packet.frame)[l3..]);
            }
        }
        packet.leave(out);
        Ok(())
    }

    /// Where the mode sends a backend's packets.
    #[inline]
    fn out<A: Family>(&self, service: &ServiceEntry, backend: &BackendEntry) -> Result<Out, DropReason> {
        let tunnel = |kind| backend.tunnel(kind).map(Out::Tunnel).ok_or(DropReason::NoRoute);
        match service.mode {
            Mode::Nat | Mode::NatPreserve => match (backend.side, backend.agent, backend.hop) {
                (_, Some(agent), _) => Ok(Out::Agent(agent)),
                (Side::Overlay, None, _) => Err(DropReason::NoAgent),
                (Side::Underlay, None, Some(hop)) => Ok(Out::Hop(hop)),
                (Side::Underlay, None, None) => Ok(Out::Route),
            },
            Mode::DsrVxlan => backend.agent.map(Out::Agent).ok_or(DropReason::NoAgent),
            Mode::DsrMac => backend.hop.map(Out::Hop).ok_or(DropReason::NextHopUnresolved),
            Mode::DsrIpip => tunnel(tunnel::Kind::ipip(A::V6)),
            Mode::DsrGue => tunnel(tunnel::Kind::gue(A::V6)),
        }
    }

    /// Largest IP packet that the way takes.
    fn room(&self, out: Out) -> u16 {
        let tables = self.tables;
        match out {
            Out::Agent(_) => tables.local.vtep.as_ref().map(|v| v.mtu),
            Out::Tunnel(number) => tables.tunnels.get(number as usize).map(|t| t.room),
            Out::Hop(hop) => tables.hops.get(hop as usize).and_then(|h| tables.local.ports.get(usize::from(h.port))).map(|p| p.mtu),
            Out::Nowhere | Out::Back | Out::Route | Out::Host => None,
        }
        .unwrap_or(u16::MAX)
    }

    /// Lowers the MSS of a SYN, either way's, to what fits the way to the backend (RFC 9293 section 3.7.1).
    #[cold]
    pub(super) fn clamp<A: Family>(&self, packet: &mut Packet, pool: &mut Pool, service: &ServiceEntry, backend: u32) {
        let Some(backend) = self.tables.backend(backend) else { return };
        if packet.tuple.protocol != ip4::TCP {
            return;
        }
        let room = self.out::<A>(service, backend).map_or(u16::MAX, |out| self.room(out));
        let l4 = usize::from(packet.l4);
        let limit = room.saturating_sub(A::HEADER as u16 + tcp::HEADER as u16);
        let segment = pool.bytes_mut(&mut packet.frame).get_mut(l4..);
        if segment.is_some_and(|segment| tcp::clamp_mss(segment, limit)) {
            self.counters.mss_clamped.add(1);
        }
    }
}

/// The backend's own address; one of another family is left out when tables are compiled.
#[inline]
fn real<A: Family>(backend: &BackendEntry) -> Result<End<A>, DropReason> {
    Ok(End { ip: A::from_ip(backend.ip).ok_or(DropReason::NoBackend)?, port: backend.port })
}

#[inline]
pub(super) fn rewrite<A: Family>(packet: &mut Packet, pool: &mut Pool, source: End<A>, destination: End<A>) {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let ip = &mut pool.bytes_mut(&mut packet.frame)[l3..];
    A::translate(ip, l4 - l3, packet.tuple.protocol, source, destination);
    A::set_ends(packet, source.ip, destination.ip);
    (packet.tuple.sport, packet.tuple.dport) = (source.port, destination.port);
}
