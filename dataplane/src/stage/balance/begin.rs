//! New flows: a backend by Maglev, a SNAT address and port of this worker's that its backend does not use, a session.

use sluice_config::model::Mode;

use super::{Balance, Later, Misses, client};
use crate::address::Address;
use crate::burst::{Action, Burst, Packet};
use crate::family::Family;
use crate::frame::{Pool, prefetch};
use crate::sessions::{Client, Flow, Home, Newcomer, Refused, SYN, Way};
use crate::stage::{admission, refuse};
use crate::tables::hash::HashKey;
use crate::tables::snat::{Purpose, Side};
use crate::tables::{BackendEntry, ServiceEntry, maglev};
use crate::verdict::DropReason;
use crate::wire::{End, ip4, tcp};

/// SNAT ports tried for a new flow before it is refused. With 9 of 10 ports taken, 64 tries fail once in 850.
const SNAT_TRIES: usize = 256;

/// A packet whose flow is about to begin.
pub(super) struct Miss<A> {
    /// Index of the packet in the burst.
    index: u8,
    newcomer: Newcomer<A>,
    flow: Flow,
    /// Where the walk over the worker's ports begins.
    ports: u64,
}

impl Balance<'_> {
    /// Chooses backend and port for a new flow and asks for the lines of its session.
    #[inline]
    pub(super) fn choose<A: Family>(
        &self,
        packet: &Packet,
        client: Client<A>,
        service: &ServiceEntry,
        later: Later,
    ) -> Result<Miss<A>, DropReason> {
        // Within a session it makes no difference here: such packets go on unchanged.
        if packet.tuple.protocol == ip4::TCP && !tcp::is_sensible(packet.tcp_flags) {
            return Err(DropReason::TcpFlags);
        }
        let number = self.pick(packet, client.service, service, later.choice).ok_or(DropReason::NoBackend)?;
        let backend = self.tables.backend(number).ok_or(DropReason::NoBackend)?;
        let protocol = service.protocol;
        // The slot used the high bits of the hash; the port takes another mixture.
        let ports = later.choice.rotate_left(31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let translated = || self.translated::<A>(backend, Flow { backend: number, snat: 0, port: 0, protocol }, ports);
        let flow = match service.mode {
            Mode::Nat => translated()?,
            Mode::NatPreserve if answers_past_us(packet, client.ip, backend) => translated()?,
            Mode::NatPreserve => Flow::preserved(number, client.port, protocol),
            Mode::DsrIpip | Mode::DsrGue | Mode::DsrVxlan | Mode::DsrMac => Flow::direct(number, protocol),
        };
        let newcomer = A::sessions(self.flows).expect(client, later.hash, flow);
        Ok(Miss { index: later.index, newcomer, flow, ports })
    }

    /// The hash that chooses a packet's backend where no session does, its entry of the Maglev table asked for.
    #[inline]
    pub(super) fn expect_backend<A: Family>(&self, packet: &Packet, service: &ServiceEntry) -> u64 {
        let hash = flow_hash::<A>(self.tables.key, packet);
        if let Some(entry) = service.maglev.get(maglev::slot(hash, service.maglev.len())) {
            prefetch(entry);
        }
        hash
    }

    /// A packet to a worker without room for sessions: who answers the client itself is found without one.
    #[inline]
    pub(super) fn by_maglev<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        number: u16,
        service: &ServiceEntry,
        hash: u64,
    ) -> Result<(), DropReason> {
        let backend = self.pick(packet, number, service, hash).ok_or(DropReason::NoBackend)?;
        if !service.mode.is_dsr() {
            return Err(DropReason::SessionsFull);
        }
        // No session tells the flow's other packets from newcomers.
        if self.is_bounded(number) && packet.is_first(pool) {
            admission::newcomer::<A>(self.tables, self.flows, self.counters, number, self.clock)?;
        }
        self.counters.unremembered.add(1);
        let entry = self.tables.backend(backend).ok_or(DropReason::NoBackend)?;
        self.send::<A>(packet, pool, number, service, (Flow::direct(backend, service.protocol).choice(), entry))
    }

    /// The backend's number. A packet in the middle of a flow may come from another node, which chose by the table
    /// before ([`ServiceEntry::before`]).
    #[inline]
    fn pick(&self, packet: &Packet, number: u16, service: &ServiceEntry, hash: u64) -> Option<u32> {
        let of = |table: &[u32]| table.get(maglev::slot(hash, table.len())).copied();
        let before = service.before.as_deref().filter(|_| packet.tcp_flags != 0 && packet.tcp_flags & SYN == 0);
        let chosen = before.and_then(of).filter(|old| self.tables.serves(number, service, *old));
        chosen.or_else(|| of(&service.maglev))
    }

    /// A `nat` flow on its first candidate.
    #[inline]
    fn translated<A: Family>(&self, backend: &BackendEntry, flow: Flow, ports: u64) -> Result<Flow, DropReason> {
        let snat = &self.tables.snat;
        let address = match backend.side {
            Side::Underlay => snat.pick::<A>(ports >> 32),
            Side::Overlay => {
                let agent = backend.agent.and_then(|agent| self.tables.overlay.sender(agent));
                snat.pick_in::<A>(agent.ok_or(DropReason::NoAgent)?.lane as usize, ports >> 32)
            }
        };
        let address = address.ok_or(DropReason::NoSnat)?;
        let port = snat.candidates(self.worker, Purpose::Service, ports).next().ok_or(DropReason::SnatExhausted)?;
        Ok(Flow { snat: address, port, ..flow })
    }

    /// Makes the sessions of all misses and sends their packets; whether it dropped one that may be answered.
    #[inline]
    pub(super) fn begin_all<A: Family>(&self, burst: &mut Burst, pool: &mut Pool, misses: &Misses<A>) -> bool {
        let mut told = false;
        for miss in misses {
            let packet = &mut burst[usize::from(miss.index)];
            if let Err(reason) = self.begin(packet, pool, miss) {
                told |= refuse::is_told(reason);
                packet.drop(reason);
            }
        }
        told
    }

    #[inline]
    fn begin<A: Family>(&self, packet: &mut Packet, pool: &mut Pool, miss: &Miss<A>) -> Result<(), DropReason> {
        let Action::Balance(number) = packet.action else { return Ok(()) };
        let service = self.tables.service(number).ok_or(DropReason::NoService)?;
        let made = match self.is_bounded(number) {
            true => self.begin_bounded(packet, pool, number, miss)?,
            false => self.make(packet, miss),
        };
        let choice = match made {
            Ok(flow) => {
                self.count(flow.backend);
                flow.choice()
            }
            // An earlier packet of this burst began it.
            Err(Refused::Known) => {
                let client = client::<A>(packet, number);
                let hash = A::sessions(self.flows).expect_client(client);
                let first = self.known(Home::First, packet, client, service, hash);
                let known = first.or_else(|| self.known(Home::Second, packet, client, service, hash));
                known.ok_or(DropReason::SessionsFull)?.0
            }
            // Who answers the client itself needs no session to be reached: Maglev alone decides.
            Err(Refused::Full) if miss.flow.way() == Way::Direct => {
                self.counters.unremembered.add(1);
                miss.flow.choice()
            }
            Err(Refused::Full) => return Err(DropReason::SessionsFull),
            Err(Refused::Taken) => return Err(DropReason::SnatExhausted),
            Err(Refused::Quota) => return Err(DropReason::SnatQuota),
        };
        let backend = self.tables.backend(choice.backend()).ok_or(DropReason::NoBackend)?;
        self.send::<A>(packet, pool, number, service, (choice, backend))
    }

    #[inline]
    fn is_bounded(&self, number: u16) -> bool {
        !self.tables.admission.is_empty() && self.tables.admission.of(number).is_some()
    }

    #[inline]
    fn make<A: Family>(&self, packet: &Packet, miss: &Miss<A>) -> Result<Flow, Refused> {
        match miss.flow.way() {
            Way::Translated => self.begin_translated(packet, miss),
            Way::Preserved | Way::Direct => {
                let sessions = A::sessions(self.flows);
                sessions.begin(&miss.newcomer, packet.tcp_flags, self.now, self.life).map(|()| miss.flow)
            }
        }
    }

    /// As [`Balance::make`], of a service with bounds. What is no newcomer is not asked about: a packet whose session an
    /// earlier one of the burst began; and where the table is full, a packet in the middle of a flow that goes on without
    /// a session.
    #[cold]
    fn begin_bounded<A: Family>(
        &self,
        packet: &Packet,
        pool: &Pool,
        number: u16,
        miss: &Miss<A>,
    ) -> Result<Result<Flow, Refused>, DropReason> {
        let sessions = A::sessions(self.flows);
        if sessions.flow_of(client::<A>(packet, number), self.now, self.life).is_some() {
            return Ok(Err(Refused::Known));
        }
        if miss.flow.way() == Way::Direct && sessions.is_full() && !packet.is_first(pool) {
            return Ok(Err(Refused::Full));
        }
        admission::newcomer::<A>(self.tables, self.flows, self.counters, number, self.clock)?;
        Ok(self.make(packet, miss))
    }

    #[inline]
    fn begin_translated<A: Family>(&self, packet: &Packet, miss: &Miss<A>) -> Result<Flow, Refused> {
        let snat = &self.tables.snat;
        // The first is the newcomer's own.
        let others = snat.candidates(self.worker, Purpose::Service, miss.ports).take(SNAT_TRIES).skip(1);
        let quota = snat.share(self.worker);
        A::sessions(self.flows).begin_on(&miss.newcomer, others, quota, packet.tcp_flags, self.now, self.life)
    }

    #[inline]
    fn count(&self, backend: u32) {
        self.counters.sessions_made.add(1);
        if let Some(counter) = self.counters.backends.get(backend as usize) {
            counter.add(1);
        }
    }
}

/// Whether a backend that saw the client's own address would answer it without passing here: itself, or, as agents send
/// straight to each other, another container.
fn answers_past_us<A: Family>(packet: &Packet, client: A, backend: &BackendEntry) -> bool {
    A::from_ip(backend.ip) == Some(client) || packet.agent.is_some() && backend.agent.is_some()
}

/// The hash of a packet's 5-tuple that chooses a backend: equal on every node with the same key.
#[inline]
fn flow_hash<A: Family>(key: HashKey, packet: &Packet) -> u64 {
    let (tuple, (source, destination)) = (&packet.tuple, A::ends(packet));
    let (source, destination) = (End { ip: source, port: tuple.sport }, End { ip: destination, port: tuple.dport });
    tuple_hash(key, source, destination, tuple.protocol)
}

/// As [`flow_hash`], of a flow from `source` to `destination`.
#[inline]
pub(in crate::stage) fn tuple_hash<A: Address>(key: HashKey, source: End<A>, destination: End<A>, protocol: u8) -> u64 {
    let ports = u64::from(source.port) << 32 | u64::from(destination.port) << 16 | u64::from(protocol);
    let ([s0, s1], [d0, d1]) = (source.ip.words(), destination.ip.words());
    match A::V6 {
        false => key.two(s0 << 32 | d0, ports),
        true => key.two(key.two(s0, s1), key.two(d0, d1) ^ ports),
    }
}
