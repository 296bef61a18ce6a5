//! A packet of a known flow leaves for its backend, in the service's mode.

use sluice_config::model::Mode;

use super::Balance;
use super::depart::{Ends, Whole};
use crate::burst::{Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::{Choice, SYN, Way};
use crate::stage::fit;
use crate::tables::snat::Side;
use crate::tables::tunnel::Kind;
use crate::tables::{BackendEntry, ServiceEntry};
use crate::verdict::DropReason;
use crate::wire::End;

impl Balance<'_> {
    /// Sends a packet to its backend: in the NAT modes with new ends, in the DSR modes as it is but for its TTL.
    #[inline(always)]
    pub(super) fn send<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        number: u16,
        service: &ServiceEntry,
        (choice, backend): (Choice, &BackendEntry),
    ) -> Result<(), DropReason> {
        let ends = self.ends::<A>(packet, choice, backend)?;
        if ends.is_some() && packet.tcp_flags & SYN != 0 {
            self.clamp::<A>(packet, pool, service, backend)?;
        }
        match Whole::to_backend::<A>(self.tables, service.mode, backend) {
            Some(way) if way.takes(packet, self.tables) => self.send_off(packet, pool, &way, ends),
            Some(_) | None => self.send_on(packet, pool, out::<A>(service.mode, backend)?, ends)?,
        }
        if let Some(counter) = self.counters.services.get(usize::from(number)) {
            counter.add(1);
        }
        Ok(())
    }

    /// The ends that a packet to a backend gets.
    #[inline(always)]
    fn ends<A: Family>(&self, packet: &Packet, choice: Choice, backend: &BackendEntry) -> Result<Ends<A>, DropReason> {
        let source = match choice.way() {
            Way::Direct => return Ok(None),
            Way::Translated => {
                End { ip: self.tables.snat.address(choice.snat()).ok_or(DropReason::NoSnat)?, port: choice.port() }
            }
            Way::Preserved => End { ip: A::ends(packet).0, port: packet.tuple.sport },
        };
        // One of another family was left out when tables were compiled.
        let destination = End { ip: A::from_ip(backend.ip).ok_or(DropReason::NoBackend)?, port: backend.port };
        Ok(Some((source, destination)))
    }

    /// Lowers the MSS that a client says to what both directions have room for.
    #[inline(never)]
    fn clamp<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        service: &ServiceEntry,
        backend: &BackendEntry,
    ) -> Result<(), DropReason> {
        let (client, out) = (A::ends(packet).0, out::<A>(service.mode, backend)?);
        // Before anything is changed.
        fit::check(packet, self.tables, || fit::room(self.tables, out))?;
        fit::clamp::<A>(packet, pool, self.tables, self.counters, || {
            fit::room(self.tables, out).min(fit::room_to(self.tables, client))
        });
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
