//! Balance: to a backend by session or Maglev, and back to the client, in the service's mode (design.md section 4).
//!
//! Four passes over the burst, so that cache misses overlap: hashes with prefetch ([`super::express`] makes this pass for
//! nearly all); look-ups in the first home, each hit sent on in the same loop, each miss with a prefetch of the second;
//! look-ups there, then a backend and a port for every miss, with prefetch; their sessions, each sent on in the same loop.
//! A packet that does not fit its way is refused as it was received ([`super::fit`]).

use arrayvec::ArrayVec;
use sluice_config::model::{Mode, Protocol};

use crate::address::Address;
use crate::burst::{Action, Burst, Packet};
use crate::counters::Counters;
use crate::family::{Family, Flows};
use crate::frame::Pool;
use crate::io::BURST;
use crate::sessions::{ACK, Choice, Client, Flow, Home, Lifetimes, RST, SYN, Way};
use crate::stage::refuse;
use crate::tables::snat::Purpose;
use crate::tables::{BackendEntry, ServiceEntry, Tables};
use crate::time::{Nanos, Tick};
use crate::verdict::DropReason;
use crate::wire::{End, ip4};

use begin::Miss;

mod back;
pub(super) mod begin;
pub(super) mod depart;
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
/// `others` says whether some have not been gathered.
pub fn run(burst: &mut Burst, pool: &mut Pool, with: &Balance<'_>, others: bool) -> bool {
    if others {
        for packet in burst.iter_mut().filter(|packet| packet.hash == 0) {
            match packet.v6 {
                false => with.gather::<u32>(packet),
                true => with.gather::<u128>(packet),
            }
        }
    }
    let mut elsewhere = Elsewhere::new();
    let mut told = first_homes(burst, pool, with, &mut elsewhere);
    if !elsewhere.is_empty() {
        told |= second_homes(burst, pool, with, elsewhere);
    }
    told
}

/// A function of its own, as is what few packets need: what is compiled together shares the registers.
#[inline(never)]
fn first_homes(burst: &mut Burst, pool: &mut Pool, with: &Balance<'_>, elsewhere: &mut Elsewhere) -> bool {
    let mut told = false;
    for (index, packet) in burst.iter_mut().enumerate() {
        match with.look_up(packet, pool) {
            Ok(None) => {}
            // There is a place for every packet of the burst.
            Ok(Some(choice)) => elsewhere.push(Later { index: index as u8, hash: packet.hash, choice }),
            Err(reason) => {
                told |= refuse::is_told(reason);
                packet.drop(reason);
            }
        }
    }
    told
}

#[inline(never)]
fn second_homes(burst: &mut Burst, pool: &mut Pool, with: &Balance<'_>, elsewhere: Elsewhere) -> bool {
    let mut told = false;
    let (mut v4, mut v6) = (Misses::new(), Misses::new());
    for later in elsewhere {
        let packet = &mut burst[usize::from(later.index)];
        let done = match packet.v6 {
            false => with.look_there::<u32>(packet, pool, later, &mut v4),
            true => with.look_there::<u128>(packet, pool, later, &mut v6),
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

/// Packets whose first home has no session of theirs.
type Elsewhere = ArrayVec<Later, BURST>;

/// One of them.
#[derive(Clone, Copy)]
struct Later {
    /// Index in the burst.
    index: u8,
    /// Of the session's key.
    hash: u64,
    /// What chooses a backend ([`Balance::expect_backend`]); 0 for a reply.
    choice: u64,
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

impl<'a> Balance<'a> {
    /// For one turn at `now`.
    #[must_use]
    pub fn new(tables: &'a Tables, flows: &'a Flows, counters: &'a Counters, worker: u8, now: Nanos) -> Self {
        Self { tables, flows, counters, worker, now: now.tick(), clock: now, life: tables.local.life }
    }

    /// Notes the hash of a packet's session key, its line asked for. What another worker owns goes there at once.
    #[inline(always)]
    pub(super) fn gather<A: Family>(&self, packet: &mut Packet) {
        let sessions = A::sessions(self.flows);
        match packet.action {
            Action::Balance(number) => {
                let Some(service) = self.tables.service(number) else { return };
                if service.mode == Mode::NatPreserve {
                    let owner = self.owner(End { ip: A::ends(packet).0, port: packet.tuple.sport }, packet);
                    if !packet.belongs(owner, self.worker) {
                        return;
                    }
                }
                self.gather_client::<A>(packet, number);
            }
            Action::Return { backend, snat } if snat == Flow::PRESERVED => {
                let ip = A::ends(packet).1;
                if packet.belongs(self.owner(End { ip, port: packet.tuple.dport }, packet), self.worker) {
                    packet.hash = sessions.expect_flow_of(flow(packet, backend, snat), ip);
                }
            }
            Action::Return { backend, snat } => self.gather_reply::<A>(packet, backend, snat),
            Action::Done
            | Action::Parsed
            | Action::Arp
            | Action::Dns
            | Action::Echo
            | Action::Solicited
            | Action::Error
            | Action::Later
            | Action::Forward
            | Action::Masquerade
            | Action::Unmasquerade(_)
            | Action::Enter
            | Action::Host => {}
        }
    }

    /// The same of a client's packet, which is this worker's.
    #[inline(always)]
    pub(super) fn gather_client<A: Family>(&self, packet: &mut Packet, number: u16) {
        let sessions = A::sessions(self.flows);
        packet.hash = match sessions.has_room() {
            true => sessions.expect_client(client::<A>(packet, number)),
            false => self.tables.service(number).map_or(0, |service| self.expect_backend::<A>(packet, service)),
        };
    }

    /// The same of a backend's packet to a SNAT address.
    #[inline(always)]
    pub(super) fn gather_reply<A: Family>(&self, packet: &mut Packet, backend: u32, snat: u8) {
        packet.action = Action::Return { backend, snat };
        if packet.belongs(self.tables.snat.owner(packet.tuple.dport), self.worker) {
            packet.hash = A::sessions(self.flows).expect_flow(flow(packet, backend, snat));
        }
    }

    #[inline]
    fn owner<A: Address>(&self, client: End<A>, packet: &Packet) -> u8 {
        preserved_owner(self.tables, client, packet.tuple.protocol)
    }

    /// Sends on what needs no session or finds it in its first home; for what may have one elsewhere, the hash by which
    /// its backend is chosen if it has none.
    #[inline(always)]
    fn look_up(&self, packet: &mut Packet, pool: &mut Pool) -> Result<Option<u64>, DropReason> {
        match (packet.action, packet.v6) {
            (Action::Balance(number), false) => self.forth::<u32>(packet, pool, number),
            (Action::Balance(number), true) => self.forth6(packet, pool, number),
            (Action::Return { backend, snat }, false) => self.back::<u32>(packet, pool, backend, snat),
            (Action::Return { backend, snat }, true) => self.back::<u128>(packet, pool, backend, snat),
            (Action::Forward, false) => self.forward::<u32>(packet, pool).map(|()| None),
            (Action::Forward, true) => self.forward::<u128>(packet, pool).map(|()| None),
            (
                Action::Done
                | Action::Parsed
                | Action::Arp
                | Action::Dns
                | Action::Echo
                | Action::Solicited
                | Action::Error
                | Action::Later
                | Action::Masquerade
                | Action::Unmasquerade(_)
                | Action::Enter
                | Action::Host,
                _,
            ) => Ok(None),
        }
    }

    #[inline(never)]
    fn forth6(&self, packet: &mut Packet, pool: &mut Pool, number: u16) -> Result<Option<u64>, DropReason> {
        self.forth::<u128>(packet, pool, number)
    }

    /// [`Balance::look_up`] of a client's packet.
    #[inline(always)]
    fn forth<A: Family>(&self, packet: &mut Packet, pool: &mut Pool, number: u16) -> Result<Option<u64>, DropReason> {
        let (sessions, hash) = (A::sessions(self.flows), packet.hash);
        let service = self.tables.service(number).ok_or(DropReason::NoService)?;
        if !sessions.has_room() {
            return self.by_maglev::<A>(packet, pool, number, service, hash).map(|()| None);
        }
        match self.known(Home::First, packet, client::<A>(packet, number), service, hash) {
            Some(known) => self.send::<A>(packet, pool, number, service, known).map(|()| None),
            None => {
                sessions.expect_client_there(hash);
                Ok(Some(self.expect_backend::<A>(packet, service)))
            }
        }
    }

    /// [`Balance::look_up`] of a reply.
    #[inline(never)]
    fn back<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        backend: u32,
        snat: u8,
    ) -> Result<Option<u64>, DropReason> {
        let (flow, hash) = (flow(packet, backend, snat), packet.hash);
        match self.session_of::<A>(Home::First, packet, flow, hash) {
            Some(client) => self.reply(packet, pool, backend, client).map(|()| None),
            None => {
                A::sessions(self.flows).expect_flow_there(hash);
                Ok(Some(0))
            }
        }
    }

    /// Sends on what finds its session in its second home; a client's packet that has none begins one.
    #[inline]
    fn look_there<A: Family>(
        &self,
        packet: &mut Packet,
        pool: &mut Pool,
        later: Later,
        misses: &mut Misses<A>,
    ) -> Result<(), DropReason> {
        match packet.action {
            Action::Balance(number) => {
                let service = self.tables.service(number).ok_or(DropReason::NoService)?;
                let client = client::<A>(packet, number);
                match self.known(Home::Second, packet, client, service, later.hash) {
                    Some(known) => self.send::<A>(packet, pool, number, service, known)?,
                    None => misses.push(self.choose(packet, client, service, later)?),
                }
                Ok(())
            }
            Action::Return { backend, snat } => {
                let flow = flow(packet, backend, snat);
                match (self.session_of::<A>(Home::Second, packet, flow, later.hash), flow.way()) {
                    (Some(client), _) => self.reply(packet, pool, backend, client),
                    (None, Way::Preserved) => self.no_reply::<A>(packet, pool),
                    (None, Way::Translated) if self.tables.snat.purpose(flow.port) == Purpose::Masquerade => {
                        // A backend is somebody outside as well.
                        packet.action = Action::Unmasquerade(snat);
                        Ok(())
                    }
                    (None, Way::Translated | Way::Direct) => Err(DropReason::SnatNoSession),
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
            | Action::Masquerade
            | Action::Unmasquerade(_)
            | Action::Enter
            | Action::Host => Ok(()),
        }
    }

    /// The client's session and its backend, unless it has ended: by time, by its backend's leaving, by the service's
    /// taking another mode, or by the client's starting anew.
    #[inline(always)]
    fn known<A: Family>(
        &self,
        home: Home,
        packet: &Packet,
        client: Client<A>,
        service: &ServiceEntry,
        hash: u64,
    ) -> Option<(Choice, &'a BackendEntry)> {
        let flags = packet.tcp_flags;
        let sessions = A::sessions(self.flows);
        let (choice, over) = sessions.forward_in(home, client, hash, flags, self.now, &self.life)?;
        let anew = over && flags & (SYN | ACK | RST) == SYN;
        match self.tables.server(client.service, service, choice.backend()) {
            Some(backend) if !anew && service.keeps(choice.way()) => Some((choice, backend)),
            Some(_) | None => {
                sessions.remove(client);
                None
            }
        }
    }
}
