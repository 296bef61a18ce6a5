//! ICMP errors about packets that we sent on go to whom they concern: those about a packet to a backend to its client,
//! those about a reply to its backend. Found by the quoted addresses and ports alone, of which 8 octets behind the quoted
//! IP header are enough (RFC 792), and rewritten outside and inside as RFC 5508 has it; no checksum is repaired.
//!
//! An error that quotes a SNAT port belongs to the owner of the port. Any other goes round the workers once, because
//! who asks about a flow is seldom sent to the queue that the flow is on.

use sluice_config::model::Protocol;

use crate::burst::{Action, Burst, Out, Packet};
use crate::family::Family;
use crate::frame::Pool;
use crate::sessions::{Client, Flow, Way};
use crate::stage::isolate;
use crate::stage::seeker::Seeker;
use crate::tables::fib::Target;
use crate::tables::snat::Side;
use crate::tables::{BackendEntry, Owned};
use crate::verdict::{DropReason, Verdict};
use crate::wire::quote::{Quoted, Translation};
use crate::wire::{End, icmp, icmp6, ip4};

/// A family whose ICMP errors are translated.
trait Errors: Family {
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
        let message = pool.bytes(&packet.frame).get(usize::from(packet.l4)..).unwrap_or_default();
        let quoted = A::quoted(message).filter(|q| q.source.ip == destination).ok_or(DropReason::IcmpQuote)?;
        match A::tables(self.tables).address(destination) {
            Some(Owned::Snat(snat)) => self.to_client(packet, pool, snat, &quoted),
            Some(_) | None => self.to_backend(packet, pool, &quoted),
        }
    }

    /// About a packet of `nat` from a SNAT address to a backend: the client is told about its own, to the VIP.
    fn to_client<A: Errors>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        snat: u8,
        quoted: &Quoted<A>,
    ) -> Result<(), DropReason> {
        let end = quoted.destination;
        let number = A::tables(self.tables).backend(end.ip, end.port, quoted.protocol).ok_or(DropReason::IcmpQuote)?;
        let backend = self.tables.backend(number).ok_or(DropReason::IcmpQuote)?;
        self.believe(packet, end.ip, backend.agent)?;
        let owner = self.tables.snat.owner(quoted.source.port);
        if owner != self.worker {
            packet.end(match packet.handed {
                true => Verdict::Drop(DropReason::HandoverTwice),
                false => Verdict::Give(owner),
            });
            return Ok(());
        }
        let flow = Flow { backend: number, snat, port: quoted.source.port, protocol: protocol(quoted.protocol) };
        let client = self.client_of(flow, A::default()).ok_or(DropReason::IcmpNoSession)?;
        let service = self.tables.service(client.service).ok_or(DropReason::IcmpNoSession)?;
        isolate::reply_admitted(self.tables, client.ip, end.ip)?;
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

    /// About a reply of ours from a VIP to a client: the backend is told about its own.
    fn to_backend<A: Errors>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        quoted: &Quoted<A>,
    ) -> Result<(), DropReason> {
        let (vip, end) = (quoted.source, quoted.destination);
        let number = A::tables(self.tables).service(vip.ip, vip.port, quoted.protocol).ok_or(DropReason::IcmpQuote)?;
        self.believe(packet, end.ip, self.agent_of(end.ip))?;
        isolate::service_admitted(self.tables, end.ip, number)?;
        let client = Client { ip: end.ip, port: end.port, service: number };
        let known = self.known(client).filter(|(flow, _)| flow.way() == Way::Translated);
        let Some((flow, backend)) = known else {
            return if packet.go_round(self.worker, self.workers) { Ok(()) } else { Err(DropReason::IcmpNoSession) };
        };
        let snat = self.tables.snat.address(flow.snat).ok_or(DropReason::IcmpNoSession)?;
        let source = End { ip: A::from_ip(backend.ip).ok_or(DropReason::IcmpNoSession)?, port: backend.port };
        let to = Translation {
            // A backend knows nobody else, and an agent takes nobody else's packets out of our tunnel.
            outer_source: snat,
            outer_destination: source.ip,
            source,
            destination: End { ip: snat, port: flow.port },
        };
        self.send(packet, pool, quoted, &to, way(backend)?);
        Ok(())
    }

    /// Whether an error about a packet to `far` may come from where it came from: the tunnel of `far`'s agent, or outside
    /// all tunnels. A grouped container tells of nobody but itself: it is no router, and its word would pass by policy.
    fn believe<A: Family>(&self, packet: &Packet, far: A, agent: Option<u16>) -> Result<(), DropReason> {
        if packet.agent != agent {
            return Err(DropReason::OverlaySpoof);
        }
        let source = A::ends(packet).0;
        if !A::V6 && source != far && self.tables.policy.is_grouped(packet.tuple.src) {
            return Err(DropReason::GroupDenied);
        }
        Ok(())
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

/// The way to a backend of `nat`.
fn way(backend: &BackendEntry) -> Result<Out, DropReason> {
    match (backend.side, backend.agent, backend.hop) {
        (_, Some(agent), _) => Ok(Out::Agent(agent)),
        (Side::Overlay, None, _) => Err(DropReason::NoAgent),
        (Side::Underlay, None, Some(hop)) => Ok(Out::Hop(hop)),
        (Side::Underlay, None, None) => Ok(Out::Route),
    }
}

fn protocol(number: u8) -> Protocol {
    match number {
        ip4::UDP => Protocol::Udp,
        ip4::SCTP => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
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
