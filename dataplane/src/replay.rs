//! Replay: the very same workers and tables over captures, with no privileges. The capture's time is the clock.

use std::sync::Arc;

use crate::counters::Counters;
use crate::event::events;
use crate::family::Flows;
use crate::frame::{HEADROOM, Pool};
use crate::io::pcap::{Captured, PcapPort};
use crate::mailbox::{Mailbox, Publisher};
use crate::tables::Tables;
use crate::time::Nanos;
use crate::verdict::DropReason;
use crate::wake::Waker;
use crate::wire::{ip4, ip6, long, vlan, word};
use crate::worker::{Setup, Worker, mesh};

/// Beyond every time-out and below half the session clock's wrap, seconds.
const LONGEST_SILENCE: u64 = 4000;

/// Size of each worker's part of a replay.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Sessions per worker.
    pub sessions: usize,
    /// Flows of a masquerading gateway per worker.
    pub masquerade: usize,
    /// Slots of each hand-over ring.
    pub handover: usize,
    /// Services at once.
    pub services: usize,
    /// Backends at once.
    pub backends: usize,
}

/// What came of a replay.
#[derive(Debug)]
pub struct Outcome {
    /// What each port transmitted, in time order, the host port last where there is one.
    pub sent: Vec<Vec<Captured>>,
    /// Each worker's counters.
    pub counters: Vec<Arc<Counters>>,
    /// Each worker's sessions.
    pub flows: Vec<Arc<Flows>>,
}

impl Outcome {
    /// A count over all workers.
    #[must_use]
    pub fn total(&self, count: impl Fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(|c| count(c)).sum()
    }

    /// Drops of one reason over all workers.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.total(|c| c.drops(reason).get())
    }
}

/// Replays `packets` (port index and packet) through `workers` workers on one snapshot. Packets are taken in time
/// order, one at a time, and everything that one sets off (hand-over included) is done before the next.
///
/// # Errors
/// When an eventfd cannot be made.
pub fn replay(
    tables: &Arc<Tables>,
    mut packets: Vec<(usize, Captured)>,
    workers: usize,
    sizes: Sizes,
) -> std::io::Result<Outcome> {
    packets.sort_by_key(|(_, p)| p.at);
    let mut machine = machine(tables, workers.max(1), sizes)?;
    let mut now = Nanos::default();
    let count = machine.len();
    for (port, packet) in packets {
        if packet.at.0.saturating_sub(now.0) >= Nanos::TICK {
            // Nothing happened meanwhile, so whoever would live longer than the longest time-out does not live at all;
            // a longer jump could be taken for a shorter one by the session clock, which wraps.
            let silent = (packet.at.0 - now.0).min(Nanos::from_seconds(LONGEST_SILENCE).0);
            machine.iter_mut().for_each(|w| w.expire_all(Nanos(now.0 + silent)));
        }
        now = now.max(packet.at);
        let queue = queue_of(&packet.bytes, count);
        if let Some((port, _)) = machine[queue].port(port) {
            port.add(packet);
        }
        while machine.iter_mut().map(|w| w.turn(now)).sum::<usize>() > 0 {}
    }
    // No more packets come, so what waits for one waits for nothing.
    machine.iter_mut().for_each(|w| w.give_up_fragments(Nanos(u64::MAX)));
    while machine.iter_mut().map(|w| w.turn(now)).sum::<usize>() > 0 {}
    Ok(outcome(machine, tables.local.ports.len()))
}

/// The queue that a card with symmetric receive hashing would choose: both directions of a flow on one.
#[must_use]
pub fn queue_of(frame: &[u8], queues: usize) -> usize {
    // Cards look behind tags.
    let tags = (0..2).take_while(|n| vlan::is_tag(word(frame, 12 + 4 * n))).count();
    let at = 12 + 4 * tags;
    let ip = frame.get(at + 2..).unwrap_or_default();
    let mixed = match word(frame, at) {
        0x0800 if ip.len() >= ip4::HEADER => mixed4(ip),
        0x86dd if ip.len() >= ip6::HEADER => mixed6(ip),
        _ => return 0,
    };
    ((u64::from(mixed.wrapping_mul(0x9e37_79b9)) * queues as u64) >> 32) as usize
}

/// Source and destination mixed so that either order gives the same.
fn mixed4(ip: &[u8]) -> u32 {
    let addresses = long(ip, ip4::field::SOURCE) ^ long(ip, ip4::field::DESTINATION);
    let whole = word(ip, ip4::field::FRAGMENT) & 0x3fff == 0;
    addresses ^ mixed_ports(ip, usize::from(ip[0] & 15) * 4, ip[ip4::field::PROTOCOL], whole)
}

fn mixed6(ip: &[u8]) -> u32 {
    let addresses = (0..8).fold(0, |mixed, n| mixed ^ long(ip, ip6::field::SOURCE + 4 * n));
    match ip6::walk(ip) {
        Ok(walked) => addresses ^ mixed_ports(ip, walked.l4, walked.protocol, walked.fragment.is_none()),
        Err(_) => addresses,
    }
}

fn mixed_ports(ip: &[u8], l4: usize, protocol: u8, whole: bool) -> u32 {
    let ports = whole && matches!(protocol, ip4::TCP | ip4::UDP | ip4::SCTP);
    if ports { u32::from(word(ip, l4) ^ word(ip, l4 + 2)) * 0x0001_0001 } else { 0 }
}

fn machine(tables: &Arc<Tables>, workers: usize, sizes: Sizes) -> std::io::Result<Vec<Worker<PcapPort>>> {
    const FRAMES: u32 = 128;
    /// Whole jumbo frames fit, so that captures of any link can be replayed.
    const CHUNK: usize = 16 * 1024;
    /// One packet is under way at a time.
    const SLOTS: usize = 4;
    let ports = tables.local.ports.len();
    let mailboxes: Vec<Mailbox> = (0..workers).map(|_| Mailbox::default()).collect();
    let wakers: Vec<_> = (0..workers).map(|_| Waker::new().map(Arc::new)).collect::<Result<_, _>>()?;
    Publisher::new(mailboxes.clone()).publish(tables);
    let ends = mesh(&wakers, sizes.handover.min(SLOTS), CHUNK - HEADROOM);
    let parts = mailboxes.into_iter().zip(ends).enumerate();
    Ok(parts
        .map(|(id, (mailbox, (inboxes, outboxes)))| {
            Worker::new(Setup {
                id: id as u8,
                ports: (0..ports).map(|_| PcapPort::default()).collect(),
                pool: Pool::heap(FRAMES, CHUNK),
                mailbox,
                counters: Arc::new(Counters::new(ports, sizes.services, sizes.backends)),
                events: events(),
                flows: Arc::new(flows(tables, sizes)),
                inboxes,
                outboxes,
            })
        })
        .collect())
}

fn flows(tables: &Tables, sizes: Sizes) -> Flows {
    let key = tables.desired.shared.hash_key;
    let most = if tables.overlay.masquerades() { sizes.masquerade } else { 0 };
    Flows::with_services(sizes.sessions, key, sizes.services).masquerading(most, key)
}

fn outcome(mut machine: Vec<Worker<PcapPort>>, ports: usize) -> Outcome {
    let counters = machine.iter().map(|w| Arc::clone(w.counters())).collect();
    let flows = machine.iter().map(|w| Arc::clone(w.flows())).collect();
    let sent = (0..ports)
        .map(|port| {
            let mut sent: Vec<Captured> =
                machine.iter_mut().filter_map(|w| w.port(port)).flat_map(|(p, _)| p.sent().to_vec()).collect();
            sent.sort_by_key(|p| p.at);
            sent
        })
        .collect();
    Outcome { sent, counters, flows }
}
