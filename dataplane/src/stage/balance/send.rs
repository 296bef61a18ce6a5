//! A packet of a known flow leaves for its backend, in the service's mode.

use sluice_config::model::Mode;

use super::Balance;
use crate::burst::{Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::{Flow, Way};
use crate::stage::fit;
use crate::tables::snat::Side;
use crate::tables::tunnel::Kind;
use crate::tables::{BackendEntry, ServiceEntry};
use crate::verdict::DropReason;
use crate::wire::End;

impl Balance<'_> {
    /// Rewrites a packet for its backend; in the DSR modes only its TTL.
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
        let out = out::<A>(service.mode, backend)?;
        fit::check(packet, self.tables, || fit::room(self.tables, out))?;
        match flow.way() {
            Way::Translated => {
                let ip = self.tables.snat.address(flow.snat).ok_or(DropReason::NoSnat)?;
                self.translate::<A>(packet, pool, End { ip, port: flow.port }, backend, out)?;
            }
            Way::Preserved => {
                let source = End { ip: A::ends(packet).0, port: packet.tuple.sport };
                self.translate::<A>(packet, pool, source, backend, out)?;
            }
            Way::Direct => {
                let l3 = usize::from(packet.l3);
                A::decrement(&mut pool.bytes_mut(&mut packet.frame)[l3..]);
            }
        }
        if let Some(counter) = self.counters.services.get(usize::from(number)) {
            counter.add(1);
        }
        if matches!(out, Out::Agent(_) | Out::Tunnel(_)) {
            pool.prefetch_before(&packet.frame);
        }
        packet.leave(out);
        Ok(())
    }

    #[inline]
    fn translate<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        source: End<A>,
        backend: &BackendEntry,
        out: Out,
    ) -> Result<(), DropReason> {
        // One of another family was left out when tables were compiled.
        let destination = End { ip: A::from_ip(backend.ip).ok_or(DropReason::NoBackend)?, port: backend.port };
        let client = A::ends(packet).0;
        fit::clamp::<A>(packet, pool, self.tables, self.counters, || {
            fit::room(self.tables, out).min(fit::room_to(self.tables, client))
        });
        rewrite(packet, pool, source, destination);
        Ok(())
    }
}

/// Where a mode sends a backend's packets.
#[inline]
pub(in crate::stage) fn out<A: Family>(mode: Mode, backend: &BackendEntry) -> Result<Out, DropReason> {
    let tunnel = |kind| backend.tunnel(kind).map(Out::Tunnel).ok_or(DropReason::NoRoute);
    match mode {
        Mode::Nat | Mode::NatPreserve => match (backend.side, backend.agent, backend.hop) {
            (_, Some(agent), _) => Ok(Out::Agent(agent)),
            (Side::Overlay, None, _) => Err(DropReason::NoAgent),
            (Side::Underlay, None, Some(hop)) => Ok(Out::Hop(hop)),
            (Side::Underlay, None, None) => Ok(Out::Route),
        },
        Mode::DsrVxlan => backend.agent.map(Out::Agent).ok_or(DropReason::NoAgent),
        Mode::DsrMac => backend.hop.map(Out::Hop).ok_or(DropReason::NextHopUnresolved),
        Mode::DsrIpip => tunnel(Kind::ipip(A::V6)),
        Mode::DsrGue => tunnel(Kind::gue(A::V6)),
    }
}

/// Writes new ends into a packet, and what is known of it.
#[inline]
pub(in crate::stage) fn rewrite<A: Family>(packet: &mut Packet, pool: &mut Pool, source: End<A>, destination: End<A>) {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let ip = &mut pool.bytes_mut(&mut packet.frame)[l3..];
    A::translate(ip, l4 - l3, packet.tuple.protocol, source, destination);
    A::set_ends(packet, source.ip, destination.ip);
    (packet.tuple.sport, packet.tuple.dport) = (source.port, destination.port);
}
