//! A packet of a known flow leaves for its backend, in the service's mode.

use sluice_config::model::Mode;

use super::Balance;
use super::depart::{Whole, leave};
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
        let way = Whole::to_backend::<A>(self.tables, service.mode, backend);
        let way = if way.as_ref().is_some_and(|way| way.takes(packet, self.tables)) { way } else { None };
        match (way, choice.way()) {
            (Some(way), Way::Direct) => self.send_off::<A>(packet, pool, &way, None),
            (Some(way), Way::Translated | Way::Preserved) => {
                let ends = self.ends::<A>(packet, choice, backend)?;
                if packet.tcp_flags & SYN != 0 {
                    self.clamp::<A>(packet, pool, service, backend)?;
                }
                self.count_inside(&way, ends.1.ip);
                self.send_off(packet, pool, &way, Some(ends));
            }
            (None, _) => self.send_on::<A>(packet, pool, service, (choice, backend))?,
        }
        if let Some(counter) = self.counters.services.get(usize::from(number)) {
            counter.add(1);
        }
        Ok(())
    }

    /// Leaves it to the stages that follow to find the way.
    #[inline(never)]
    fn send_on<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        service: &ServiceEntry,
        (choice, backend): (Choice, &BackendEntry),
    ) -> Result<(), DropReason> {
        let out = out::<A>(service.mode, backend)?;
        fit::check(packet, self.tables, || fit::room(self.tables, out))?;
        let ends = match choice.way() {
            Way::Direct => None,
            Way::Translated | Way::Preserved => Some(self.ends::<A>(packet, choice, backend)?),
        };
        if ends.is_some() && packet.tcp_flags & SYN != 0 {
            self.clamp::<A>(packet, pool, service, backend)?;
        }
        leave(packet, pool, out, ends);
        Ok(())
    }

    /// The ends that a packet to a backend gets in the NAT modes.
    #[inline(always)]
    fn ends<A: Family>(
        &self,
        packet: &Packet,
        choice: Choice,
        backend: &BackendEntry,
    ) -> Result<(End<A>, End<A>), DropReason> {
        let source = match choice.way() {
            Way::Translated => {
                End { ip: self.tables.snat.address(choice.snat()).ok_or(DropReason::NoSnat)?, port: choice.port() }
            }
            Way::Preserved | Way::Direct => End { ip: A::ends(packet).0, port: packet.tuple.sport },
        };
        // One of another family was left out when tables were compiled.
        let destination = End { ip: A::from_ip(backend.ip).ok_or(DropReason::NoBackend)?, port: backend.port };
        Ok((source, destination))
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
