//! Balance: to a backend by session or Maglev, and back to the client. Both directions are rewritten (`nat`).
//!
//! Three passes over the burst: hashes with prefetch, look-ups, rewriting in the same loop as its look-up.

use sluice_config::model::Protocol;

use crate::burst::{Action, Burst, Out, Packet};
use crate::counters::Counters;
use crate::frame::Pool;
use crate::io::BURST;
use crate::sessions::{ACK, Client, Flow, Lifetimes, RST, Refused, SYN, Sessions};
use crate::tables::maglev;
use crate::tables::snat::Side;
use crate::tables::{BackendEntry, ServiceEntry, Tables};
use crate::time::{Nanos, Tick};
use crate::verdict::{DropReason, Verdict};
use crate::wire::ip4::{self, End};

/// SNAT ports tried for a new flow before it is refused. With 9 of 10 ports taken, 64 tries fail once in 850.
const SNAT_TRIES: u32 = 256;

/// What balancing works with besides packets.
pub struct Balance<'a> {
    /// The snapshot.
    pub tables: &'a Tables,
    /// This worker's sessions.
    pub sessions: &'a Sessions,
    /// This worker's counters.
    pub counters: &'a Counters,
    /// This worker's number.
    pub worker: u8,
    /// The session clock.
    pub now: Tick,
    /// Time-outs.
    pub life: Lifetimes,
}

/// Balances every packet to a service and returns every reply.
pub fn run(burst: &mut Burst, pool: &mut Pool, with: &Balance<'_>) {
    let mut hashes = [0u64; BURST];
    for (packet, hash) in burst.iter_mut().zip(&mut hashes) {
        *hash = with.gather(packet);
    }
    for (packet, hash) in burst.iter_mut().zip(hashes) {
        let done = match packet.action {
            Action::Balance(service) => with.forward(packet, pool, service, hash),
            Action::Return { backend, snat } => with.reply(packet, pool, backend, snat, hash),
            Action::Forward => {
                let l3 = usize::from(packet.l3);
                ip4::decrement_ttl(&mut pool.bytes_mut(&mut packet.frame)[l3..]);
                packet.leave(Out::Route);
                Ok(())
            }
            Action::Done | Action::Parsed | Action::Arp | Action::Dns | Action::Echo | Action::Host => Ok(()),
        };
        if let Err(reason) = done {
            packet.drop(reason);
        }
    }
}

/// The flow by which a reply finds its session.
fn flow(packet: &Packet, backend: u32, snat: u8) -> Flow {
    Flow { backend, snat, port: packet.tuple.dport, protocol: protocol(packet.tuple.protocol) }
}

fn protocol(number: u8) -> Protocol {
    if number == ip4::UDP { Protocol::Udp } else { Protocol::Tcp }
}

impl<'a> Balance<'a> {
    /// For one turn at `now`.
    #[must_use]
    pub fn new(tables: &'a Tables, sessions: &'a Sessions, counters: &'a Counters, worker: u8, now: Nanos) -> Self {
        Self { tables, sessions, counters, worker, now: now.tick(), life: tables.local.timeouts.into() }
    }

    /// The hash of a packet's session key, its line asked for. A reply that another worker owns goes there at once.
    #[inline]
    fn gather(&self, packet: &mut Packet) -> u64 {
        match packet.action {
            Action::Balance(service) => self.sessions.expect_client(client(packet, service)),
            Action::Return { backend, snat } => {
                let owner = self.tables.snat.owner(packet.tuple.dport);
                if owner == self.worker {
                    return self.sessions.expect_flow(flow(packet, backend, snat));
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
            | Action::Forward
            | Action::Host => 0,
        }
    }

    #[inline]
    fn forward(&self, packet: &mut Packet, pool: &mut Pool, number: u16, hash: u64) -> Result<(), DropReason> {
        let service = self.tables.service(number).ok_or(DropReason::NoService)?;
        let client = client(packet, number);
        let (flow, backend) = match self.known(packet, client, hash) {
            Some(known) => known,
            None => self.begin(packet, client, service)?,
        };
        let source = End { ip: self.tables.snat.address(flow.snat).ok_or(DropReason::NoSnat)?, port: flow.port };
        let destination = End { ip: backend.ip.to_bits(), port: backend.port };
        if let Some(counter) = self.counters.services.get(usize::from(number)) {
            counter.add(1);
        }
        rewrite(packet, pool, source, destination);
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
    fn known(&self, packet: &Packet, client: Client, hash: u64) -> Option<(Flow, &BackendEntry)> {
        let flags = packet.tcp_flags;
        let (flow, state) = self.sessions.forward(client, hash, flags, self.now, self.life)?;
        let anew = state.over() && flags & (SYN | ACK | RST) == SYN;
        let backend = self.tables.backend(flow.backend).filter(|_| !anew);
        if backend.is_none() {
            self.sessions.remove(client);
        }
        backend.map(|b| (flow, b))
    }

    /// A new session: a backend by Maglev, a SNAT address and port of this worker's that its backend does not use.
    fn begin(
        &self,
        packet: &Packet,
        client: Client,
        service: &ServiceEntry,
    ) -> Result<(Flow, &BackendEntry), DropReason> {
        let tuple = &packet.tuple;
        let hash = self.tables.key.two(
            u64::from(tuple.src) << 32 | u64::from(tuple.dst),
            u64::from(tuple.sport) << 32 | u64::from(tuple.dport) << 16 | u64::from(tuple.protocol),
        );
        if service.maglev.is_empty() {
            return Err(DropReason::NoBackend);
        }
        let number = service.maglev[maglev::slot(hash, service.maglev.len())];
        let backend = self.tables.backend(number).ok_or(DropReason::NoBackend)?;
        if backend.side == Side::Overlay && backend.agent.is_none() {
            return Err(DropReason::NoAgent);
        }
        // The slot above used the high bits of the hash; the port takes another mixture.
        let hash = hash.rotate_left(31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let snat = self.tables.snat.pick(backend.side, hash >> 32).ok_or(DropReason::NoSnat)?;
        let mut flow = Flow { backend: number, snat, port: 0, protocol: service.protocol };
        let tries = SNAT_TRIES.min(self.tables.snat.slots(self.worker));
        for n in 0..tries {
            let Some(port) = self.tables.snat.candidate(self.worker, hash, n) else { continue };
            flow.port = port;
            if self.sessions.in_use(flow, self.now, self.life) {
                continue;
            }
            match self.sessions.insert(client, flow, packet.tcp_flags, self.now, self.life) {
                Ok(()) => {
                    self.counters.sessions_made.add(1);
                    if let Some(counter) = self.counters.backends.get(number as usize) {
                        counter.add(1);
                    }
                    return Ok((flow, backend));
                }
                Err(Refused::Full) => return Err(DropReason::SessionsFull),
                Err(Refused::Taken | Refused::Known | Refused::Quota) => {}
            }
        }
        Err(DropReason::SnatExhausted)
    }

    #[inline]
    fn reply(&self, packet: &mut Packet, pool: &mut Pool, backend: u32, snat: u8, hash: u64) -> Result<(), DropReason> {
        let flow = flow(packet, backend, snat);
        let client = self
            .sessions
            .reverse(flow, hash, packet.tcp_flags, self.now, self.life)
            .ok_or(DropReason::SnatNoSession)?;
        if !self.tables.policy.is_empty() {
            self.tables.policy.admits(client.ip, packet.tuple.src)?;
        }
        let service = self.tables.service(client.service).ok_or(DropReason::NoService)?;
        let source = End { ip: service.ip.to_bits(), port: service.port };
        rewrite(packet, pool, source, End { ip: client.ip, port: client.port });
        packet.leave(Out::Route);
        Ok(())
    }
}

#[inline]
fn client(packet: &Packet, service: u16) -> Client {
    Client { ip: packet.tuple.src, port: packet.tuple.sport, service }
}

#[inline]
fn rewrite(packet: &mut Packet, pool: &mut Pool, source: End, destination: End) {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let ip = &mut pool.bytes_mut(&mut packet.frame)[l3..];
    ip4::translate(ip, l4 - l3, packet.tuple.protocol, source, destination);
    let tuple = &mut packet.tuple;
    (tuple.src, tuple.sport) = (source.ip, source.port);
    (tuple.dst, tuple.dport) = (destination.ip, destination.port);
}
