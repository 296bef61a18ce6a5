//! The way back: a backend's reply to the client, as the VIP; and what is passed on without any session.

use super::{Balance, send};
use crate::burst::{Action, Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::{Client, Flow, Home, SYN, Way};
use crate::stage::{classify, fit, isolate};
use crate::tables::fib::Target;
use crate::verdict::DropReason;
use crate::wire::End;

impl Balance<'_> {
    /// Whose session a reply belongs to, looked for in one home.
    #[inline(always)]
    pub(super) fn session_of<A: Family>(
        &self,
        home: Home,
        packet: &Packet,
        flow: Flow,
        hash: u64,
    ) -> Option<Client<A>> {
        let (sessions, flags) = (A::sessions(self.flows), packet.tcp_flags);
        if flow.way() == Way::Preserved {
            let ip = A::ends(packet).1;
            return sessions.reverse_preserved_in(home, flow, ip, hash, flags, self.now, self.life);
        }
        sessions.reverse_in(home, flow, hash, flags, self.now, self.life)
    }

    /// A backend's reply to the client, as the VIP.
    #[inline(always)]
    pub(super) fn reply<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        backend: u32,
        client: Client<A>,
    ) -> Result<(), DropReason> {
        isolate::service_answers(self.tables, client)
            .map_err(|denied| isolate::counted(denied, self.tables, self.counters))?;
        let service = self.tables.service(client.service).ok_or(DropReason::NoService)?;
        if !self.tables.serves(client.service, service, backend) {
            return Err(DropReason::SnatNoSession);
        }
        let source = End { ip: A::from_ip(service.ip).ok_or(DropReason::NoService)?, port: service.port };
        if packet.tcp_flags & SYN != 0 {
            fit::check(packet, self.tables, || fit::room_to(self.tables, client.ip))?;
        }
        // The segments that this limits go to the backend.
        fit::clamp::<A>(packet, pool, self.tables, self.counters, || {
            let there = self.tables.backend(backend).and_then(|b| send::out::<A>(service.mode, b).ok());
            fit::room_to(self.tables, client.ip).min(there.map_or(u16::MAX, |out| fit::room(self.tables, out)))
        });
        self.route(packet, pool, Some((source, End { ip: client.ip, port: client.port })))
    }

    /// What a `nat-preserve` backend sends from its service's port to somebody who is no client of the service: one that
    /// came to it without us. It goes where it would go from any other port: to a container, by a gateway to
    /// somebody outside, else to the kernel.
    #[cold]
    pub(super) fn no_reply<A: Family>(&self, packet: &mut Packet, pool: &mut Pool) -> Result<(), DropReason> {
        let tables = self.tables;
        let host = tables.local.host.map(|(port, _)| port);
        let from_host = host == Some(packet.ingress);
        let inside = packet.agent.is_some() || from_host;
        let (_, destination) = A::ends(packet);
        let leaves = tables.overlay.is_gateway() && A::tables(tables).address(destination).is_none();
        match A::tables(tables).fib.lookup(destination) {
            Some(Target::Agent(_)) if inside => {
                let (source, destination) = A::ends(packet);
                isolate::pair_admitted(tables, source, destination)
                    .map_err(|denied| isolate::counted(denied, tables, self.counters))?;
                self.forward::<A>(packet, pool)
            }
            Some(Target::NoAgent) if inside => Err(DropReason::NoAgent),
            Some(Target::Hop(_) | Target::Link(_)) if packet.agent.is_some() && leaves => {
                classify::passes::<A>(packet)?;
                let (source, destination) = A::ends(packet);
                isolate::pair_admitted(tables, source, destination)
                    .map_err(|denied| isolate::counted(denied, tables, self.counters))?;
                if !tables.overlay.masquerades() || !classify::is_container::<A>(packet, tables) {
                    return self.forward::<A>(packet, pool);
                }
                packet.action = Action::Masquerade;
                Ok(())
            }
            _ if inside && (from_host || A::tables(tables).address(destination).is_none()) => Err(DropReason::NotForUs),
            _ => {
                host.ok_or(DropReason::SnatNoSession)?;
                fit::check(packet, tables, || fit::room(tables, Out::Host))?;
                packet.leave(Out::Host);
                Ok(())
            }
        }
    }

    /// Passed on by the routes; both ends of a handshake are told what the overlay has room for.
    #[inline]
    pub(in crate::stage) fn forward<A: Family>(&self, packet: &mut Packet, pool: &mut Pool) -> Result<(), DropReason> {
        let tables = self.tables;
        if packet.tcp_flags & SYN != 0 {
            let destination = A::ends(packet).1;
            let came = packet.agent.map_or(u16::MAX, |agent| fit::room(tables, Out::Agent(agent)));
            let room = || fit::room_to(tables, destination).min(came);
            fit::check(packet, tables, || fit::room_to(tables, destination))?;
            fit::clamp::<A>(packet, pool, tables, self.counters, room);
        }
        self.route::<A>(packet, pool, None)
    }
}
