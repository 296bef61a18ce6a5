//! Balance: to a backend by session or Maglev, and back to the client. Both directions are rewritten (`nat`).
//!
//! Three passes over the burst: hashes with prefetch, look-ups, rewriting in the same loop as its look-up.

use std::net::IpAddr;

use sluice_config::model::Protocol;

use crate::burst::{Action, Burst, Out, Packet};
use crate::counters::Counters;
use crate::family::{Family, Flows};
use crate::frame::Pool;
use crate::io::BURST;
use crate::sessions::{ACK, Client, Flow, Lifetimes, RST, Refused, SYN};
use crate::stage::{admission, refuse, room};
use crate::tables::hash::HashKey;
use crate::tables::maglev;
use crate::tables::snat::Side;
use crate::tables::{BackendEntry, ServiceEntry, Tables};
use crate::time::{Nanos, Tick};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{End, ip4};

/// SNAT ports tried for a new flow before it is refused. With 9 of 10 ports taken, 64 tries fail once in 850.
const SNAT_TRIES: usize = 256;

/// What balancing works with besides packets.
pub struct Balance<'a> {
    /// The snapshot.
    pub tables: &'a Tables,
    /// This worker's sessions.
    pub flows: &'a Flows,
    /// This worker's counters.
    pub counters: &'a Counters,
    /// This worker's number.
    pub worker: u8,
    /// The session clock.
    pub now: Tick,
    /// The same time in full.
    pub clock: Nanos,
    /// Time-outs.
    pub life: Lifetimes,
}

/// Balances every packet to a service and returns every reply; whether it dropped one that may be answered ([`refuse`]).
pub fn run(burst: &mut Burst, pool: &mut Pool, with: &Balance<'_>) -> bool {
    let mut told = false;
    let mut hashes = [0u64; BURST];
    for (packet, hash) in burst.iter_mut().zip(&mut hashes) {
        *hash = match packet.v6 {
            false => with.gather::<u32>(packet),
            true => with.gather::<u128>(packet),
        };
    }
    for (packet, hash) in burst.iter_mut().zip(hashes) {
        let done = match packet.v6 {
            false => with.settle::<u32>(packet, pool, hash),
            true => with.settle::<u128>(packet, pool, hash),
        };
        if let Err(reason) = done {
            told |= refuse::is_told(reason);
            packet.drop(reason);
        }
    }
    told
}

/// The flow by which a reply finds its session.
fn flow(packet: &Packet, backend: u32, snat: u8) -> Flow {
    Flow { backend, snat, port: packet.tuple.dport, protocol: protocol(packet.tuple.protocol) }
}

fn protocol(number: u8) -> Protocol {
    match number {
        ip4::UDP => Protocol::Udp,
        ip4::SCTP => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

impl<'a> Balance<'a> {
    /// For one turn at `now`.
    #[must_use]
    pub fn new(tables: &'a Tables, flows: &'a Flows, counters: &'a Counters, worker: u8, now: Nanos) -> Self {
        Self { tables, flows, counters, worker, now: now.tick(), clock: now, life: tables.local.timeouts.into() }
    }

    /// The hash of a packet's session key, its line asked for. A reply that another worker owns goes there at once.
    #[inline]
    fn gather<A: Family>(&self, packet: &mut Packet) -> u64 {
        let sessions = A::sessions(self.flows);
        match packet.action {
            Action::Balance(service) => sessions.expect_client(client::<A>(packet, service)),
            Action::Return { backend, snat } => {
                let owner = self.tables.snat.owner(packet.tuple.dport);
                if owner == self.worker {
                    return sessions.expect_flow(flow(packet, backend, snat));
                }
                packet.end(match packet.handed {
                    true => Verdict::Drop(DropReason::HandoverTwice),
                    false => Verdict::Give(owner),
                });
                0
            }
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Forward
            | Action::Host => 0,
        }
    }

    #[inline]
    fn settle<A: Family>(&self, packet: &mut Packet, pool: &mut Pool, hash: u64) -> Result<(), DropReason> {
        match packet.action {
            Action::Balance(service) => self.forward::<A>(packet, pool, service, hash),
            Action::Return { backend, snat } => self.reply::<A>(packet, pool, backend, snat, hash),
            Action::Forward => {
                room::check::<A>(packet, self.tables, A::ends(packet).1)?;
                let l3 = usize::from(packet.l3);
                A::decrement(&mut pool.bytes_mut(&mut packet.frame)[l3..]);
                packet.leave(Out::Route);
                Ok(())
            }
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Host => Ok(()),
        }
    }

    #[inline]
    fn forward<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        number: u16,
        hash: u64,
    ) -> Result<(), DropReason> {
        let service = self.tables.service(number).ok_or(DropReason::NoService)?;
        let client = client::<A>(packet, number);
        let (flow, backend) = match self.known(packet, client, service, hash) {
            Some(known) => known,
            None => self.begin(packet, client, service, hash)?,
        };
        let source = End { ip: self.tables.snat.address(flow.snat).ok_or(DropReason::NoSnat)?, port: flow.port };
        // A backend of another family is refused by `check`, and left out where Marathon gives one.
        let destination = End { ip: A::from_ip(backend.ip).ok_or(DropReason::NoBackend)?, port: backend.port };
        room::check::<A>(packet, self.tables, destination.ip)?;
        if let Some(counter) = self.counters.services.get(usize::from(number)) {
            counter.add(1);
        }
        rewrite::<A>(packet, pool, source, destination);
        packet.leave(match (backend.side, backend.agent, backend.hop) {
            (_, Some(agent), _) => Out::Agent(agent),
            (Side::Overlay, None, _) => return Err(DropReason::NoAgent),
            (Side::Underlay, None, Some(hop)) => Out::Hop(hop),
            (Side::Underlay, None, None) => Out::Route,
        });
        Ok(())
    }

    /// The client's session, unless it has ended: by time, by its backend's leaving, or by the client's starting anew.
    #[inline]
    fn known<A: Family>(
        &self,
        packet: &Packet,
        client: Client<A>,
        service: &ServiceEntry,
        hash: u64,
    ) -> Option<(Flow, &BackendEntry)> {
        let flags = packet.tcp_flags;
        let sessions = A::sessions(self.flows);
        let (flow, state) = sessions.forward(client, hash, flags, self.now, self.life)?;
        let anew = state.over() && flags & (SYN | ACK | RST) == SYN;
        let stays = !anew && self.tables.serves(client.service, service, flow.backend);
        let backend = self.tables.backend(flow.backend).filter(|_| stays);
        if backend.is_none() {
            sessions.remove(client);
        }
        backend.map(|b| (flow, b))
    }

    /// A new session: a backend by Maglev, a SNAT address and port of this worker's that its backend does not use.
    fn begin<A: Family>(
        &self,
        packet: &Packet,
        client: Client<A>,
        service: &ServiceEntry,
        session_hash: u64,
    ) -> Result<(Flow, &BackendEntry), DropReason> {
        let sessions = A::sessions(self.flows);
        let hash = flow_hash::<A>(self.tables.key, packet);
        if service.maglev.is_empty() {
            return Err(DropReason::NoBackend);
        }
        admission::newcomer::<A>(packet, self.tables, self.flows, self.counters, client.service, self.clock)?;
        let number = service.maglev[maglev::slot(hash, service.maglev.len())];
        let backend = self.tables.backend(number).ok_or(DropReason::NoBackend)?;
        if backend.side == Side::Overlay && backend.agent.is_none() {
            return Err(DropReason::NoAgent);
        }
        // The slot above used the high bits of the hash; the port takes another mixture.
        let hash = hash.rotate_left(31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let snat = self.tables.snat.pick::<A>(backend.side, hash >> 32).ok_or(DropReason::NoSnat)?;
        let mut ports = self.tables.snat.candidates(self.worker, hash).take(SNAT_TRIES);
        let port = ports.next().ok_or(DropReason::SnatExhausted)?;
        let flow = Flow { backend: number, snat, port, protocol: service.protocol };
        let new = sessions.expect(client, session_hash, flow);
        let quota = self.tables.snat.share(self.worker);
        let flow = sessions.begin_on(&new, ports, quota, packet.tcp_flags, self.now, self.life).map_err(refusal)?;
        self.counters.sessions_made.add(1);
        if let Some(counter) = self.counters.backends.get(number as usize) {
            counter.add(1);
        }
        Ok((flow, backend))
    }

    #[inline]
    fn reply<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        backend: u32,
        snat: u8,
        hash: u64,
    ) -> Result<(), DropReason> {
        let flow = flow(packet, backend, snat);
        let client = A::sessions(self.flows)
            .reverse(flow, hash, packet.tcp_flags, self.now, self.life)
            .ok_or(DropReason::SnatNoSession)?;
        if !self.tables.policy.is_empty()
            && let IpAddr::V4(client) = client.ip.to_ip()
        {
            self.tables.policy.admits(client.to_bits(), packet.tuple.src)?;
        }
        let service = self.tables.service(client.service).ok_or(DropReason::NoService)?;
        if !self.tables.serves(client.service, service, backend) {
            return Err(DropReason::SnatNoSession);
        }
        let ip = A::from_ip(service.ip).ok_or(DropReason::NoService)?;
        room::check::<A>(packet, self.tables, client.ip)?;
        let source = End { ip, port: service.port };
        rewrite::<A>(packet, pool, source, End { ip: client.ip, port: client.port });
        packet.leave(Out::Route);
        Ok(())
    }
}

/// Why no session was made, as a drop. A packet of this burst that the client sent before makes one known: that is
/// looked up, and found, before another is begun.
fn refusal(why: Refused) -> DropReason {
    match why {
        Refused::Full | Refused::Known => DropReason::SessionsFull,
        Refused::Taken => DropReason::SnatExhausted,
        Refused::Quota => DropReason::SnatQuota,
    }
}

/// The hash of a packet's 5-tuple that chooses a backend: equal on every node with the same key.
#[inline]
fn flow_hash<A: Family>(key: HashKey, packet: &Packet) -> u64 {
    let tuple = &packet.tuple;
    let (source, destination) = A::ends(packet);
    let ports = u64::from(tuple.sport) << 32 | u64::from(tuple.dport) << 16 | u64::from(tuple.protocol);
    let ([s0, s1], [d0, d1]) = (source.words(), destination.words());
    match A::V6 {
        false => key.two(s0 << 32 | d0, ports),
        true => key.two(key.two(s0, s1), key.two(d0, d1) ^ ports),
    }
}

#[inline]
fn client<A: Family>(packet: &Packet, service: u16) -> Client<A> {
    Client { ip: A::ends(packet).0, port: packet.tuple.sport, service }
}

#[inline]
fn rewrite<A: Family>(packet: &mut Packet, pool: &mut Pool, source: End<A>, destination: End<A>) {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let ip = &mut pool.bytes_mut(&mut packet.frame)[l3..];
    A::translate(ip, l4 - l3, packet.tuple.protocol, source, destination);
    A::set_ends(packet, source.ip, destination.ip);
    (packet.tuple.sport, packet.tuple.dport) = (source.port, destination.port);
}
