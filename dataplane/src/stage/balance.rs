//! Balance: to a backend by session or Maglev, and back to the client, in the service's mode (design.md section 4).
//!
//! Four passes over the burst, so that cache misses overlap: hashes with prefetch; look-ups, each hit rewritten in the
//! same loop; a backend and a port for every miss, with prefetch; their sessions, each rewritten in the same loop.
//! A packet that does not fit its way is refused as it was received ([`super::fit`]).

use arrayvec::ArrayVec;
use sluice_config::model::{Mode, Protocol};

use crate::address::Address;
use crate::burst::{Action, Burst, Packet};
use crate::counters::Counters;
use crate::family::{Family, Flows};
use crate::frame::Pool;
use crate::io::BURST;
use crate::sessions::{ACK, Client, Flow, Lifetimes, RST, SYN, Way};
use crate::stage::refuse;
use crate::tables::{ServiceEntry, Tables};
use crate::time::{Nanos, Tick};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{End, ip4};

use begin::Miss;

mod back;
pub(super) mod begin;
pub(super) mod send;

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
    let (mut v4, mut v6) = (Misses::new(), Misses::new());
    for (index, (packet, hash)) in burst.iter_mut().zip(hashes).enumerate() {
        let done = match packet.v6 {
            false => with.look_up::<u32>(packet, pool, hash, index, &mut v4),
            true => with.look_up::<u128>(packet, pool, hash, index, &mut v6),
        };
        if let Err(reason) = done {
            told |= refuse::is_told(reason);
            packet.drop(reason);
        }
    }
    told |= with.begin_all(burst, pool, &v4);
    told |= with.begin_all(burst, pool, &v6);
    told
}

/// New flows of a burst.
type Misses<A> = ArrayVec<Miss<A>, BURST>;

/// Who owns a client's flows in `nat-preserve`, both directions of which must meet (design.md section 2).
#[inline]
pub(super) fn preserved_owner<A: Address>(tables: &Tables, client: End<A>, protocol: u8) -> u8 {
    let [first, second] = client.ip.words();
    let ports = u64::from(client.port) << 16 | u64::from(protocol);
    let hash = match A::V6 {
        false => tables.key.two(first, ports),
        true => tables.key.two(tables.key.two(first, second), ports),
    };
    tables.snat.worker(hash)
}

pub(super) fn protocol(number: u8) -> Protocol {
    match number {
        ip4::UDP => Protocol::Udp,
        ip4::SCTP => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// The flow by which a reply finds its session; in `nat-preserve` its destination is the client.
fn flow(packet: &Packet, backend: u32, snat: u8) -> Flow {
    Flow { backend, snat, port: packet.tuple.dport, protocol: protocol(packet.tuple.protocol) }
}

#[inline]
fn client<A: Family>(packet: &Packet, service: u16) -> Client<A> {
    Client { ip: A::ends(packet).0, port: packet.tuple.sport, service }
}

/// Whether a mode keeps flows of this kind. A service that changed its mode begins its flows anew; `nat-preserve` has
/// translated ones where the reply would not pass here ([`begin`]).
#[inline]
fn keeps(mode: Mode, way: Way) -> bool {
    match mode {
        Mode::Nat => way == Way::Translated,
        Mode::NatPreserve => way != Way::Direct,
        Mode::DsrIpip | Mode::DsrGue | Mode::DsrVxlan | Mode::DsrMac => way == Way::Direct,
    }
}

impl<'a> Balance<'a> {
    /// For one turn at `now`.
    #[must_use]
    pub fn new(tables: &'a Tables, flows: &'a Flows, counters: &'a Counters, worker: u8, now: Nanos) -> Self {
        Self { tables, flows, counters, worker, now: now.tick(), clock: now, life: tables.local.timeouts.into() }
    }

    /// The hash of a packet's session key, its line asked for. What another worker owns goes there at once.
    #[inline]
    fn gather<A: Family>(&self, packet: &mut Packet) -> u64 {
        let sessions = A::sessions(self.flows);
        match packet.action {
            Action::Balance(number) => {
                let Some(service) = self.tables.service(number) else { return 0 };
                if service.mode == Mode::NatPreserve
                    && !self
                        .is_ours(packet, self.owner(End { ip: A::ends(packet).0, port: packet.tuple.sport }, packet))
                {
                    return 0;
                }
                match sessions.has_room() {
                    true => sessions.expect_client(client::<A>(packet, number)),
                    false => self.expect_backend::<A>(packet, service),
                }
            }
            Action::Return { backend, snat } if snat == Flow::PRESERVED => {
                let ip = A::ends(packet).1;
                match self.is_ours(packet, self.owner(End { ip, port: packet.tuple.dport }, packet)) {
                    true => sessions.expect_preserved(flow(packet, backend, snat), ip),
                    false => 0,
                }
            }
            Action::Return { backend, snat } => {
                match self.is_ours(packet, self.tables.snat.owner(packet.tuple.dport)) {
                    true => sessions.expect_flow(flow(packet, backend, snat)),
                    false => 0,
                }
            }
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Error
            | Action::Later
            | Action::Forward
            | Action::Host => 0,
        }
    }

    #[inline]
    fn owner<A: Address>(&self, client: End<A>, packet: &Packet) -> u8 {
        preserved_owner(self.tables, client, packet.tuple.protocol)
    }

    /// Whether the packet is this worker's; one that is not goes to its owner.
    #[inline]
    fn is_ours(&self, packet: &mut Packet, owner: u8) -> bool {
        if owner != self.worker {
            packet.end(match packet.handed {
                true => Verdict::Drop(DropReason::HandoverTwice),
                false => Verdict::Give(owner),
            });
        }
        owner == self.worker
    }

    #[inline]
    fn look_up<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        hash: u64,
        index: usize,
        misses: &mut Misses<A>,
    ) -> Result<(), DropReason> {
        match packet.action {
            Action::Balance(number) => {
                let service = self.tables.service(number).ok_or(DropReason::NoService)?;
                if !A::sessions(self.flows).has_room() {
                    return self.by_maglev::<A>(packet, pool, number, service, hash);
                }
                let client = client::<A>(packet, number);
                match self.known(packet, client, service, hash) {
                    Some(flow) => self.send::<A>(packet, pool, number, service, flow)?,
                    // There is a place for every packet of the burst.
                    None => misses.push(self.choose(packet, index, client, service, hash)?),
                }
                Ok(())
            }
            Action::Return { backend, snat } => self.reply::<A>(packet, pool, backend, snat, hash),
            Action::Forward => self.forward::<A>(packet, pool),
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Error
            | Action::Later
            | Action::Host => Ok(()),
        }
    }

    /// The client's session, unless it has ended: by time, by its backend's leaving, by the service's taking another
    /// mode, or by the client's starting anew.
    #[inline]
    fn known<A: Family>(&self, packet: &Packet, client: Client<A>, service: &ServiceEntry, hash: u64) -> Option<Flow> {
        let flags = packet.tcp_flags;
        let sessions = A::sessions(self.flows);
        let (flow, state) = sessions.forward(client, hash, flags, self.now, self.life)?;
        let anew = state.over() && flags & (SYN | ACK | RST) == SYN;
        let stays =
            !anew && self.tables.serves(client.service, service, flow.backend) && keeps(service.mode, flow.way());
        if !stays {
            sessions.remove(client);
        }
        stays.then_some(flow)
    }
}
