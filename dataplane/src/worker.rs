//! The worker: one burst from ring to ring.
//!
//! A worker owns one queue of every port, its frames and its sessions; it shares nothing that it writes but counters.
//! [`Worker::turn`] is the whole machine: what happens to a packet, in the order in which it happens.

use std::os::fd::RawFd;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::burst::{Burst, Packet};
use crate::counters::Counters;
use crate::datagrams::{Datagrams, Released, Waiting};
use crate::event::{Event, Events};
use crate::family::Flows;
use crate::frame::Pool;
use crate::io::{BURST, Frames, Port};
use crate::limiter::{Answer, Rate, RateLimits};
use crate::mailbox::Mailbox;
use crate::probing::Probing;
use crate::ring::{Giver, Label, Taker, ring};
use crate::sessions::Lifetimes;
use crate::stage::balance::{self, Balance};
use crate::stage::classify::{self, Seen};
use crate::stage::dns::guard::Guard;
use crate::stage::probe::Carry;
use crate::stage::seeker::Seeker;
use crate::stage::{
    decap, dns, egress, encap, express, follow, fragment, hub, icmp_error, isolate, masquerade, parse, probe, refuse,
    reply,
};
use crate::tables::Tables;
use crate::time::{Nanos, Tick};
use crate::verdict::{DropReason, Verdict};
use crate::wake::Waker;

/// Handed packets that one turn takes at most, so that they leave room for the ports' own.
const TAKE: usize = BURST / 2;

/// What a worker is made of.
pub struct Setup<P> {
    /// Its number, from 0.
    pub id: u8,
    /// Its queue of every port, in port order, the host port last.
    pub ports: Vec<P>,
    /// Its frames.
    pub pool: Pool,
    /// Where its tables come from.
    pub mailbox: Mailbox,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Where it reports.
    pub events: Events,
    /// Its sessions, which others may read.
    pub flows: Arc<Flows>,
    /// Packets from the other workers.
    pub inboxes: Vec<Taker>,
    /// Packets to the other workers, by worker number; `None` at its own.
    pub outboxes: Vec<Option<Outbox>>,
}

/// The way to another worker.
pub struct Outbox {
    /// Its ring.
    pub ring: Giver,
    /// Its alarm clock.
    pub waker: Arc<Waker>,
}

/// One worker's ends of the hand-over rings, as [`Setup`] takes them: inboxes and outboxes.
pub type Ends = (Vec<Taker>, Vec<Option<Outbox>>);

/// A ring of `slots` packets of at most `packet_bytes` octets for every ordered pair of workers; the ends of each
/// worker, in the order of `wakers`.
#[must_use]
pub fn mesh(wakers: &[Arc<Waker>], slots: usize, packet_bytes: usize) -> Vec<Ends> {
    let mut ends: Vec<Ends> = wakers.iter().map(|_| Ends::default()).collect();
    for from in 0..wakers.len() {
        for (to, waker) in wakers.iter().enumerate() {
            let outbox = (from != to).then(|| {
                let (giver, taker) = ring(slots, packet_bytes);
                ends[to].0.push(taker);
                Outbox { ring: giver, waker: Arc::clone(waker) }
            });
            ends[from].1.push(outbox);
        }
    }
    ends
}

/// A worker.
pub struct Worker<P> {
    setup: Setup<P>,
    tables: Option<Arc<Tables>>,
    burst: Box<Burst>,
    limits: RateLimits,
    leaving: Vec<Frames>,
    datagrams: Datagrams,
    guard: Guard,
    probing: Probing,
    first_port: usize,
    first_inbox: usize,
}

impl<P: Port> Worker<P> {
    /// A worker that has not turned yet.
    #[must_use]
    pub fn new(setup: Setup<P>) -> Self {
        let leaving = setup.ports.iter().map(|_| Frames::new()).collect();
        let datagrams = Datagrams::new(setup.flows.v4.key(), setup.pool.count());
        // Without tables nothing is received; they bring the rates.
        let limits = RateLimits::new([Rate::NEVER; Answer::ALL.len()]);
        let probing = Probing::new(setup.id);
        let guard = Guard::new(setup.flows.v4.key());
        let burst = Box::default();
        Self { setup, tables: None, burst, limits, leaving, datagrams, guard, probing, first_port: 0, first_inbox: 0 }
    }

    /// One burst; returns the packets that it took from ports and rings. Without tables it takes none.
    pub fn turn(&mut self, now: Nanos) -> usize {
        if let Some(newer) = self.setup.mailbox.latest() {
            self.limits.set(newer.local.answers);
            self.tables = Some(newer);
        }
        // Taken out rather than cloned: the count of references is a line that all workers would write.
        let Some(tables) = self.tables.take() else { return 0 };
        let received = self.receive(now);
        if received > 0 {
            let Setup { pool, counters, events, flows, id, outboxes, .. } = &mut self.setup;
            let workers = outboxes.len() as u8;
            let (burst, datagrams, limits) = (&mut *self.burst, &mut self.datagrams, &mut self.limits);
            let seeker = Seeker::new(&tables, flows, counters, (*id, workers), now);
            let balance = Balance::new(&tables, flows, counters, *id, now);
            let left = express::run(burst, pool, &balance);
            if left.carried {
                hub::run(burst, pool, &balance);
            }
            let mut seen = Seen::default();
            if left.others {
                parse::run(burst, pool, &tables);
                decap::run(burst, pool, &tables, counters);
                seen = classify::run(burst, pool, &tables);
                if seen.probes {
                    let carry = Carry { tables: &tables, counters, worker: *id, now };
                    probe::run(burst, pool, &carry, &mut self.probing);
                }
                isolate::run(burst, &tables, counters);
            }
            if seen.fragments {
                fragment::run(burst, datagrams, &seeker);
            }
            if left.questions || seen.questions {
                dns::run(burst, pool, &tables, counters, &mut self.guard, now);
            }
            if seen.asked {
                reply::run(burst, pool, &tables, events, counters, limits, now);
            }
            if seen.errors {
                icmp_error::run(burst, pool, &seeker);
            }
            // Replies of other workers' sessions are given away here, and judged by policy where their client is known.
            let mut refused = balance::run(burst, pool, &balance, left.others);
            if tables.overlay.masquerades() {
                let told = masquerade::run(burst, pool, &balance);
                refused |= told;
            }
            if seen.fragments {
                follow::run(burst, pool, datagrams, &seeker);
            }
            // Behind follow: what is answered of a datagram was dropped, and so are its later fragments.
            if seen.told | refused {
                refuse::run(burst, pool, &tables, limits, counters, now);
            }
            if burst.iter().any(Packet::pending) {
                encap::run(burst, pool, &tables, flows, counters);
                egress::run(burst, pool, &tables, events, counters);
            }
        }
        self.settle(&tables, received);
        self.expire(&tables, now);
        self.tables = Some(tables);
        received
    }

    /// Fills the burst: fragments that have waited and handed packets first, then the ports in turn.
    fn receive(&mut self, now: Nanos) -> usize {
        let Setup { ports, pool, counters, inboxes, .. } = &mut self.setup;
        let mut frames = Frames::new();
        // Of those that do not come from a port now: where they came in, whether they were handed over, and their round.
        let mut others: ArrayVec<(u8, bool, u8), TAKE> = ArrayVec::new();
        while self.datagrams.holding() > 0
            && frames.len() < TAKE
            && let Some(released) = self.datagrams.release()
        {
            match released {
                Released::Joins(Waiting { frame, ingress, handed, round }) => {
                    others.push((ingress, handed, round));
                    frames.push(frame);
                }
                Released::Late(frame) => {
                    counters.drops(DropReason::FragmentNoFirst).add(1);
                    pool.recycle(frame);
                }
            }
        }
        let count = inboxes.len();
        // Another inbox is first each turn, so that a full one does not starve the rest.
        let (later, first) = inboxes.split_at_mut(self.first_inbox % count.max(1));
        for inbox in first.iter_mut().chain(later) {
            while frames.len() < TAKE && pool.free() > 0 {
                let Some((label, frame)) = inbox.take(|label, bytes| (label, pool.take_copy(bytes))) else { break };
                counters.taken.add(1);
                match frame {
                    Some(frame) => {
                        others.push((label.ingress, true, label.round));
                        frames.push(frame);
                    }
                    // Rings are made for this pool's packets, so it fits.
                    None => counters.drops(DropReason::NoHeadroom).add(1),
                }
            }
        }
        self.first_inbox = self.first_inbox.wrapping_add(1);
        let others_end = frames.len();
        // Where each port's frames end.
        let mut ends: ArrayVec<(u8, usize), BURST> = ArrayVec::new();
        let count = ports.len();
        for turn in 0..count {
            let index = (self.first_port + turn) % count;
            let before = frames.len();
            ports[index].receive(pool, now, &mut frames);
            let received = frames.len() - before;
            if received > 0 {
                counters.ports[index].rx.add(received as u64);
                ends.push((index as u8, frames.len()));
            }
        }
        self.first_port = (self.first_port + 1) % count.max(1);
        counters.rx.add((frames.len() - others_end) as u64);
        let mut frames = frames.into_iter();
        // In this order: a zip asks its first side first, and a frame that was asked for and left would be lost.
        for ((ingress, handed, round), frame) in others.into_iter().zip(frames.by_ref()) {
            pool.prefetch(&frame);
            self.burst.push(Packet { handed, round, ..Packet::received(frame, ingress) });
        }
        for (ingress, end) in ends {
            let mut octets = 0;
            for frame in frames.by_ref().take(end - self.burst.len()) {
                octets += frame.len() as u64;
                pool.prefetch(&frame);
                self.burst.push(Packet::received(frame, ingress));
            }
            counters.ports[usize::from(ingress)].rx_bytes.add(octets);
        }
        self.burst.len()
    }

    /// Sends every packet where its verdict says, counts it, and gives back what ends here.
    fn settle(&mut self, tables: &Tables, received: usize) {
        let Setup { ports, pool, counters, outboxes, .. } = &mut self.setup;
        let host = tables.local.host.map(|(port, _)| usize::from(port));
        // Not drained: that would move every packet, all of it, to take its frame.
        for packet in self.burst.iter_mut() {
            match packet.verdict {
                Verdict::Transmit(port) => match self.leaving.get_mut(usize::from(port)) {
                    Some(frames) => frames.push(packet.frame.take()),
                    None => {
                        counters.drops(DropReason::NoRoute).add(1);
                        pool.recycle(packet.frame.take());
                    }
                },
                Verdict::Host => match host.and_then(|h| self.leaving.get_mut(h)) {
                    Some(frames) => frames.push(packet.frame.take()),
                    None => {
                        counters.drops(DropReason::NoHost).add(1);
                        pool.recycle(packet.frame.take());
                    }
                },
                Verdict::Give(worker) => {
                    packet.make_as_received(pool);
                    let outbox = outboxes.get_mut(usize::from(worker)).and_then(Option::as_mut);
                    let label = Label { ingress: packet.ingress, round: packet.round };
                    match outbox.is_some_and(|o| o.ring.give(label, pool.bytes(&packet.frame))) {
                        true => counters.given.add(1),
                        false => counters.drops(DropReason::HandoverFull).add(1),
                    }
                    pool.recycle(packet.frame.take());
                }
                Verdict::Hold(place) => {
                    packet.make_as_received(pool);
                    let Packet { ingress, handed, round, v6, .. } = *packet;
                    self.datagrams.keep(place, v6, Waiting { frame: packet.frame.take(), ingress, handed, round });
                }
                Verdict::Drop(reason) => {
                    counters.drops(reason).add(1);
                    pool.recycle(packet.frame.take());
                }
                Verdict::Pending => {
                    counters.drops(DropReason::Undecided).add(1);
                    pool.recycle(packet.frame.take());
                }
            }
        }
        self.burst.clear();
        for (index, (port, frames)) in ports.iter_mut().zip(&mut self.leaving).enumerate() {
            send(port, pool, frames, counters, index, host == Some(index));
            port.flush(pool);
        }
        for outbox in outboxes.iter_mut().flatten() {
            if outbox.ring.commit() {
                outbox.waker.wake();
            }
        }
        counters.held.set(self.datagrams.holding() as u64);
        counters.turns.add(1);
        counters.idle_turns.add(u64::from(received == 0));
    }

    /// Sweeps a few sessions, and gives up fragments whose first one has not come.
    fn expire(&mut self, tables: &Tables, now: Nanos) {
        self.datagrams.sweep(now);
        let Setup { flows, counters, events, .. } = &mut self.setup;
        let alive = |service, backend| tables.is_served(service, backend);
        let life = tables.local.life;
        let mut ended = flows.v4.sweep(flows.v4.sweep_step(), now.tick(), life, alive);
        ended += flows.v6.sweep(flows.v6.sweep_step(), now.tick(), life, alive);
        counters.sessions_expired.add(u64::from(ended));
        counters.sessions.set(flows.len() as u64);
        counters.sessions_evicted.set(flows.v4.evicted() + flows.v6.evicted());
        counters.snat_resting.set((flows.v4.resting() + flows.v6.resting()) as u64);
        counters.snat_rests_cut.set(flows.v4.cut_short() + flows.v6.cut_short());
        if tables.overlay.masquerades() {
            expire_masqueraded(flows, counters, now.tick(), life);
        }
        let mut lost = 0;
        let mut tell = |backend, seen| lost += u64::from(events.push(Event::Handshake { backend, seen }).is_err());
        let untold = flows.v4.take_seen(&mut tell) + flows.v6.take_seen(&mut tell);
        counters.events_lost.add(lost + untold);
    }

    /// Ends every session that has expired by `now`, and gives up every fragment that has waited too long, at once: for
    /// captures, whose clock jumps.
    pub fn expire_all(&mut self, now: Nanos) {
        self.give_up_fragments(now);
        if let Some(tables) = &self.tables {
            let (flows, life) = (&self.setup.flows, tables.local.life);
            let ended = flows.v4.sweep(usize::MAX, now.tick(), life, |_, _| true)
                + flows.v6.sweep(usize::MAX, now.tick(), life, |_, _| true);
            let masqueraded =
                flows.masquerade4.sweep(true, now.tick(), life) + flows.masquerade6.sweep(true, now.tick(), life);
            self.setup.counters.sessions_expired.add(u64::from(ended));
            self.setup.counters.masquerade_expired.add(u64::from(masqueraded));
        }
    }

    /// Gives up every fragment that has waited too long by `now`; the next turn counts them.
    pub fn give_up_fragments(&mut self, now: Nanos) {
        self.datagrams.sweep_all(now);
    }

    /// Whether work waits that no descriptor tells of: new tables or handed packets.
    #[must_use]
    pub fn waiting(&self) -> bool {
        !self.setup.mailbox.is_empty() || self.setup.inboxes.iter().any(|i| !i.is_empty())
    }

    /// Whether a port still transmits.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.setup.ports.iter().any(Port::unfinished)
    }

    /// What a sleeping worker waits on.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.setup.ports.iter().filter_map(Port::descriptor)
    }

    /// Tells every port that the turn is over without receiving (before sleeping, at shutdown).
    pub fn flush(&mut self) {
        for port in &mut self.setup.ports {
            port.flush(&mut self.setup.pool);
        }
    }

    /// The port with this index, for tests and tools whose ports are theirs.
    pub fn port(&mut self, index: usize) -> Option<(&mut P, &mut Pool)> {
        self.setup.ports.get_mut(index).map(|port| (port, &mut self.setup.pool))
    }

    /// Its sessions.
    #[must_use]
    pub fn flows(&self) -> &Arc<Flows> {
        &self.setup.flows
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.setup.counters
    }
}

/// As [`Worker::expire`], of flows between containers and the outside.
#[inline(never)]
fn expire_masqueraded(flows: &Flows, counters: &Counters, now: Tick, life: Lifetimes) {
    let (four, six) = (&flows.masquerade4, &flows.masquerade6);
    counters.masquerade_expired.add(u64::from(four.sweep(false, now, life) + six.sweep(false, now, life)));
    counters.masquerade_flows.set((four.begun.len() + six.begun.len()) as u64);
    counters.masquerade_entered.set((four.entered.len() + six.entered.len()) as u64);
    counters.masquerade_evicted.set(four.evicted() + six.evicted());
}

/// Offers the frames to a port; what it does not take is dropped.
fn send<P: Port>(port: &mut P, pool: &mut Pool, frames: &mut Frames, counters: &Counters, index: usize, host: bool) {
    if frames.is_empty() {
        return;
    }
    let offered = (frames.len(), octets(frames));
    port.transmit(pool, frames);
    let sent = (offered.0 - frames.len()) as u64;
    counters.ports[index].tx.add(sent);
    counters.ports[index].tx_bytes.add(offered.1 - octets(frames));
    if host { &counters.host } else { &counters.tx }.add(sent);
    counters.drops(DropReason::PortFull).add(frames.len() as u64);
    for frame in frames.drain(..) {
        pool.recycle(frame);
    }
}

fn octets(frames: &Frames) -> u64 {
    frames.iter().map(|f| f.len() as u64).sum()
}
