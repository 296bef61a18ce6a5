//! ICMP errors about packets that we sent on go to whom they concern: those about a packet to a backend to its client,
//! those about a reply to its backend. Found by the quoted addresses and ports alone, of which 8 octets behind the quoted
//! IP header are enough (RFC 792), and rewritten outside and inside as RFC 5508 has it; no checksum is repaired.
//!
//! Backends that answer clients themselves get it as it came. What a masquerading gateway sent on is told the same way
//! between containers and the outside.
//!
//! An error that quotes a SNAT port belongs to the owner of the port, one about a flow of `nat-preserve` to the flow's.
//! Any other goes round the workers once, because a card seldom chooses the flow's queue for it, and then by Maglev.

use sluice_config::model::Mode;

use crate::burst::{Action, Burst, Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::{Client, Flow, Way};
use crate::stage::balance::begin::tuple_hash;
use crate::stage::balance::send::out;
use crate::stage::seeker::Seeker;
use crate::stage::{balance, isolate, masquerade};
use crate::tables::fib::Target;
use crate::tables::snat::Purpose;
use crate::tables::{Owned, ServiceEntry, Tables, maglev};
use crate::verdict::DropReason;
use crate::wire::quote::{Quoted, Translation};
use crate::wire::{End, icmp, icmp6};

/// A family whose ICMP errors are translated.
pub(super) trait Errors: Family {
    /// The packet that a message quotes.
    fn quoted(message: &[u8]) -> Option<Quoted<Self>>;
    /// Raises an MTU that nothing has; whether it had to.
    fn raise_mtu(message: &mut [u8]) -> bool;
    /// Rewrites an error whose IP header `ip` begins with and whose message is at `l4`.
    fn translate_error(ip: &mut [u8], l4: usize, quoted: &Quoted<Self>, to: &Translation<Self>);
}

/// Sends every error on, or to the worker that can.
pub fn run(burst: &mut Burst, pool: &mut Pool, with: &Seeker<'_>) {
    for packet in burst {
        if packet.action != Action::Error {
            continue;
        }
        let done = match packet.v6 {
            false => with.settle::<u32>(packet, pool),
            true => with.settle::<u128>(packet, pool),
        };
        if let Err(reason) = done {
            packet.drop(reason);
        }
    }
}

impl Seeker<'_> {
    #[cold]
    fn settle<A: Errors>(&self, packet: &mut Packet, pool: &mut Pool) -> Result<(), DropReason> {
        let destination = A::ends(packet).1;
        let quoted = quoted_of(packet, pool, destination).ok_or(DropReason::IcmpQuote)?;
        match A::tables(self.tables).address(destination) {
            Some(Owned::Snat(snat)) if self.tables.snat.purpose(quoted.source.port) == Purpose::Masquerade => {
                self.to_container(packet, pool, snat, &quoted)
            }
            Some(Owned::Snat(snat)) => self.to_client(packet, pool, snat, &quoted),
            Some(Owned::Vip) => self.to_backend(packet, pool, &quoted),
            None if self.is_about_masqueraded(packet, &quoted) => self.to_far(packet, pool, &quoted),
            Some(Owned::Dns | Owned::Vtep | Owned::Host) | None => {
                self.to_client(packet, pool, Flow::PRESERVED, &quoted)
            }
        }
    }

    /// About a packet of `nat` from a SNAT address, or of `nat-preserve` from the client's own, to a backend: the client
    /// is told about its own, to the VIP.
    fn to_client<A: Errors>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        snat: u8,
        quoted: &Quoted<A>,
    ) -> Result<(), DropReason> {
        let (from, end) = (quoted.source, quoted.destination);
        let number = A::tables(self.tables).backend(end.ip, end.port, quoted.protocol).ok_or(DropReason::IcmpQuote)?;
        let backend = self.tables.backend(number).ok_or(DropReason::IcmpQuote)?;
        self.believe(packet, end.ip, backend.agent)?;
        let owner = match snat {
            Flow::PRESERVED => balance::preserved_owner(self.tables, from, quoted.protocol),
            _ => self.tables.snat.owner(from.port),
        };
        if !packet.belongs(owner, self.worker) {
            return Ok(());
        }
        let flow = Flow { backend: number, snat, port: from.port, protocol: balance::protocol(quoted.protocol) };
        let Some(client) = self.client_of(flow, from.ip) else { return self.unknown::<A>(packet, snat) };
        let service = self.tables.service(client.service).ok_or(DropReason::IcmpNoSession)?;
        isolate::service_answers(self.tables, client).map_err(|denied| self.denied(denied))?;
        self.teller_admitted(packet, end.ip, client.ip)?;
        let vip = End { ip: A::from_ip(service.ip).ok_or(DropReason::IcmpNoSession)?, port: service.port };
        let to = Translation {
            outer_source: self.teller(packet, end.ip, client.ip, vip.ip),
            outer_destination: client.ip,
            source: End { ip: client.ip, port: client.port },
            destination: vip,
        };
        self.send(packet, pool, quoted, &to, Out::Route);
        Ok(())
    }

    /// To an address that is not ours, from a container that serves in `nat-preserve` but whose peer is no client of the
    /// service: it is passed on like its other packets.
    fn unknown<A: Family>(&self, packet: &mut Packet, snat: u8) -> Result<(), DropReason> {
        let passes = snat == Flow::PRESERVED && packet.agent.is_some() && self.agent_of(A::ends(packet).1).is_some();
        if !passes {
            return Err(DropReason::IcmpNoSession);
        }
        let (source, destination) = A::ends(packet);
        isolate::pair_admitted(self.tables, source, destination).map_err(|denied| self.denied(denied))?;
        packet.action = Action::Forward;
        Ok(())
    }

    /// About a reply from a VIP to a client, of ours or of a backend that answers itself: the backend is told about its
    /// own.
    fn to_backend<A: Errors>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        quoted: &Quoted<A>,
    ) -> Result<(), DropReason> {
        let (vip, end) = (quoted.source, quoted.destination);
        let number = A::tables(self.tables).service(vip.ip, vip.port, quoted.protocol).ok_or(DropReason::IcmpQuote)?;
        let service = self.tables.service(number).ok_or(DropReason::IcmpQuote)?;
        self.believe(packet, end.ip, self.agent_of(end.ip))?;
        isolate::service_admitted(self.tables, end.ip, number).map_err(|denied| self.denied(denied))?;
        if service.mode == Mode::NatPreserve
            && !packet.belongs(balance::preserved_owner(self.tables, end, quoted.protocol), self.worker)
        {
            return Ok(());
        }
        let client = Client { ip: end.ip, port: end.port, service: number };
        let flow = match self.known(client) {
            Some((flow, _)) => flow,
            None if service.mode != Mode::NatPreserve && packet.go_round(self.worker, self.workers) => return Ok(()),
            None => self.by_maglev(service, quoted).ok_or(DropReason::IcmpNoSession)?,
        };
        let backend = self.tables.backend(flow.backend).ok_or(DropReason::IcmpNoSession)?;
        if let Some(ip) = A::from_ip(backend.ip) {
            self.teller_admitted(packet, end.ip, ip)?;
        }
        let (out, ip) = (out::<A>(service.mode, backend)?, A::from_ip(backend.ip).ok_or(DropReason::IcmpNoSession));
        let to = match flow.way() {
            Way::Direct => {
                self.send_whole::<A>(packet, pool, out);
                return Ok(());
            }
            Way::Preserved => Translation {
                outer_source: A::ends(packet).0,
                outer_destination: ip?,
                source: End { ip: ip?, port: backend.port },
                destination: end,
            },
            Way::Translated => {
                let snat = self.tables.snat.address(flow.snat).ok_or(DropReason::IcmpNoSession)?;
                Translation {
                    // A backend knows nobody else, and an agent takes nobody else's packets out of our tunnel.
                    outer_source: snat,
                    outer_destination: ip?,
                    source: End { ip: ip?, port: backend.port },
                    destination: End { ip: snat, port: flow.port },
                }
            }
        };
        self.send(packet, pool, quoted, &to, out);
        Ok(())
    }

    /// Whether a container's error to somebody outside is about something else than a packet of `nat-preserve`.
    fn is_about_masqueraded<A: Errors>(&self, packet: &Packet, quoted: &Quoted<A>) -> bool {
        let masquerades = packet.agent.is_some() && self.tables.overlay.masquerades();
        masquerades && !is_of_preserved(quoted, self.tables)
    }

    /// About a masqueraded packet: the container is told about its own. Whoever tells is passed on as it is: a gateway's
    /// containers reach the underlay's addresses.
    fn to_container<A: Errors>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        snat: u8,
        quoted: &Quoted<A>,
    ) -> Result<(), DropReason> {
        let (port, far) = (quoted.source.port, quoted.destination);
        self.believe(packet, far.ip, None)?;
        if !packet.belongs(self.tables.snat.owner(port), self.worker) {
            return Ok(());
        }
        let (flow, talk) = masquerade::reverse(far, (snat, port), quoted.protocol);
        let (sessions, life) = (&A::masquerade(self.flows).begun, self.tables.local.life);
        let client = sessions.client_of(flow, talk, self.now.tick(), life).ok_or(DropReason::IcmpNoSession)?;
        let container = End { ip: client.ip.container, port: client.port };
        isolate::pair_admitted(self.tables, container.ip, far.ip).map_err(|denied| self.denied(denied))?;
        let to = Translation {
            outer_source: A::ends(packet).0,
            outer_destination: container.ip,
            source: container,
            destination: far,
        };
        self.send(packet, pool, quoted, &to, Out::Route);
        Ok(())
    }

    /// About an answer to what a container began: whom it began it with is told about its own. About what began outside
    /// it leaves as it is.
    fn to_far<A: Errors>(&self, packet: &mut Packet, pool: &mut Pool, quoted: &Quoted<A>) -> Result<(), DropReason> {
        let (container, far) = (quoted.destination, quoted.source);
        self.believe(packet, container.ip, self.agent_of(container.ip))?;
        let client = masquerade::key(container, far, quoted.protocol);
        let (flows, now, life) = (A::masquerade(self.flows), self.now.tick(), self.tables.local.life);
        if !packet.belongs(self.tables.snat.worker(flows.begun.expect_client(client)), self.worker) {
            return Ok(());
        }
        isolate::pair_admitted(self.tables, container.ip, far.ip).map_err(|denied| self.denied(denied))?;
        let Some(flow) = flows.begun.flow_of(client, now, life) else {
            flows.entered.flow_of(client, now, life).ok_or(DropReason::IcmpNoSession)?;
            packet.action = Action::Forward;
            return Ok(());
        };
        let ip = self.tables.snat.address(flow.snat).ok_or(DropReason::IcmpNoSession)?;
        let to = Translation {
            // Nobody outside knows a way to the container, or to its agent's VTEP.
            outer_source: ip,
            outer_destination: far.ip,
            source: far,
            destination: End { ip, port: flow.port },
        };
        self.send(packet, pool, quoted, &to, Out::Route);
        Ok(())
    }

    /// Where a flow without session goes in the modes in which backends answer themselves: the packet that the quoted
    /// one answers chose its backend by the same table.
    fn by_maglev<A: Errors>(&self, service: &ServiceEntry, quoted: &Quoted<A>) -> Option<Flow> {
        let hash = tuple_hash(self.tables.key, quoted.destination, quoted.source, quoted.protocol);
        let number = service.maglev.get(maglev::slot(hash, service.maglev.len()))?;
        service.mode.is_dsr().then(|| Flow::direct(*number, service.protocol))
    }

    /// Whether an error about a packet to `far` may come from where it came from: the tunnel of `far`'s agent, or outside
    /// all tunnels. A grouped container tells of nobody but itself: it is no router, and its word would pass by policy.
    fn believe<A: Family>(&self, packet: &Packet, far: A, agent: Option<u16>) -> Result<(), DropReason> {
        if packet.agent != agent {
            return Err(DropReason::OverlaySpoof);
        }
        let source = A::ends(packet).0;
        if source != far && self.tables.policy.is_grouped(source) {
            return Err(DropReason::GroupDenied);
        }
        Ok(())
    }

    /// Whether who tells of an error from a tunnel may talk to whom it is told to: what is no container, an agent's
    /// VTEP, may, and so may `far` itself, in whose flow the error is.
    fn teller_admitted<A: Family>(&self, packet: &Packet, far: A, to: A) -> Result<(), DropReason> {
        let source = A::ends(packet).0;
        let Some(agent) = packet.agent.and_then(|agent| self.tables.agents.get(usize::from(agent))) else {
            return Ok(());
        };
        if source == far || source.to_ip() == agent.vtep_ip {
            return Ok(());
        }
        isolate::pair_admitted(self.tables, source, to).map_err(|denied| self.denied(denied))
    }

    fn agent_of<A: Family>(&self, ip: A) -> Option<u16> {
        match A::tables(self.tables).fib.lookup(ip) {
            Some(Target::Agent(agent)) => Some(agent),
            Some(Target::Hop(_) | Target::Link(_) | Target::NoAgent | Target::Host) | None => None,
        }
    }

    /// Who tells a client: a router on its way itself, so that traceroute sees it; in place of the backend the VIP, and
    /// so too where a tunnel lies between, for addresses of one side are nobody's on the other.
    fn teller<A: Family>(&self, packet: &Packet, backend: A, client: A, vip: A) -> A {
        let source = A::ends(packet).0;
        let through_tunnel = packet.agent.is_some() || self.agent_of(client).is_some();
        if source == backend || through_tunnel { vip } else { source }
    }

    /// As it is, to a backend that has the VIP itself.
    fn send_whole<A: Errors>(&self, packet: &mut Packet, pool: &mut Pool, out: Out) {
        A::decrement(pool.bytes_mut(&mut packet.frame).get_mut(usize::from(packet.l3)..).unwrap_or_default());
        packet.leave(out);
        self.counters.icmp_errors.add(1);
    }

    fn send<A: Errors>(&self, packet: &mut Packet, pool: &mut Pool, quoted: &Quoted<A>, to: &Translation<A>, out: Out) {
        let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
        let ip = pool.bytes_mut(&mut packet.frame).get_mut(l3..).unwrap_or_default();
        if A::raise_mtu(ip.get_mut(l4 - l3..).unwrap_or_default()) {
            self.counters.icmp_mtu_raised.add(1);
        }
        A::translate_error(ip, l4 - l3, quoted, to);
        A::set_ends(packet, to.outer_source, to.outer_destination);
        packet.leave(out);
        self.counters.icmp_errors.add(1);
    }
}

/// The packet that an error sent to `destination` quotes, if that is who sent it.
fn quoted_of<A: Errors>(packet: &Packet, pool: &Pool, destination: A) -> Option<Quoted<A>> {
    let message = pool.bytes(&packet.frame).get(usize::from(packet.l4)..).unwrap_or_default();
    A::quoted(message).filter(|q| q.source.ip == destination)
}

/// Whether an ICMP error to an address that is not ours is about a packet of `nat-preserve`, which left with its client's
/// address.
pub(super) fn is_preserved<A: Errors>(packet: &Packet, pool: &Pool, tables: &Tables) -> bool {
    let quoted = quoted_of(packet, pool, A::ends(packet).1);
    quoted.is_some_and(|q| is_of_preserved(&q, tables))
}

fn is_of_preserved<A: Errors>(quoted: &Quoted<A>, tables: &Tables) -> bool {
    let end = quoted.destination.ip.end(quoted.destination.port, quoted.protocol);
    A::tables(tables).preserved.get(end).is_some()
}

impl Errors for u32 {
    fn quoted(message: &[u8]) -> Option<Quoted<Self>> {
        icmp::quoted(message)
    }

    fn raise_mtu(message: &mut [u8]) -> bool {
        icmp::raise_mtu(message)
    }

    fn translate_error(ip: &mut [u8], l4: usize, quoted: &Quoted<Self>, to: &Translation<Self>) {
        icmp::translate_error(ip, l4, quoted, to);
    }
}

impl Errors for u128 {
    fn quoted(message: &[u8]) -> Option<Quoted<Self>> {
        icmp6::quoted(message)
    }

    fn raise_mtu(message: &mut [u8]) -> bool {
        icmp6::raise_mtu(message)
    }

    fn translate_error(ip: &mut [u8], l4: usize, quoted: &Quoted<Self>, to: &Translation<Self>) {
        icmp6::translate_error(ip, l4, quoted, to);
    }
}
