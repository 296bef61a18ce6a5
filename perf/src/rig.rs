//! A machine that is fed by hand: real workers and tables over memory ports. Time is what [`Rig::turn`] makes of it:
//! [`TURN`] per turn, so that session clocks and sweeps move as they do under load.

use std::sync::Arc;

use anyhow::{Result, ensure};
use sluice_dataplane::counters::Counters;
use sluice_dataplane::event::events;
use sluice_dataplane::family::Flows;
use sluice_dataplane::frame::Pool;
use sluice_dataplane::io::memory::MemoryPort;
use sluice_dataplane::io::{BURST, Frames, Port as _};
use sluice_dataplane::mailbox::{Mailbox, Publisher};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::time::Nanos;
use sluice_dataplane::wake::Waker;
use sluice_dataplane::worker::{Setup, Worker, mesh};

use crate::world::HOST_PORT;

/// Frames of a worker's pool.
pub const FRAMES: u32 = 4096;
/// Octets of a frame's chunk.
pub const CHUNK: usize = 2048;
/// Time that passes in a turn: a full burst at 16 million packets a second.
pub const TURN: Nanos = Nanos(4_000);

/// Workers, their tables and their time.
pub struct Rig {
    workers: Vec<Worker<MemoryPort>>,
    now: Nanos,
    tables: Arc<Tables>,
    /// Keeps tables until workers let go, as control does.
    publisher: Publisher,
}

impl Rig {
    /// `workers` workers on `tables`, each with room for `sessions`.
    ///
    /// # Errors
    /// When an eventfd cannot be made.
    pub fn new(tables: &Arc<Tables>, workers: usize, sessions: usize) -> Result<Self> {
        let mailboxes: Vec<_> = (0..workers).map(|_| Mailbox::default()).collect();
        let mut publisher = Publisher::new(mailboxes.clone());
        publisher.publish(tables);
        let wakers = (0..workers).map(|_| Waker::new().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let ends = mesh(&wakers, 16 * BURST, CHUNK);
        let parts = mailboxes.into_iter().zip(ends).enumerate();
        let workers = parts.map(|(id, (mailbox, (inboxes, outboxes)))| {
            Worker::new(Setup {
                id: id as u8,
                ports: tables.local.ports.iter().map(|_| MemoryPort::with_room(FRAMES as usize)).collect(),
                pool: Pool::heap(FRAMES, CHUNK),
                mailbox,
                counters: Arc::new(Counters::new(tables.local.ports.len(), 1024, 65536)),
                events: events(),
                flows: Arc::new(Flows::new(sessions, tables.desired.shared.hash_key)),
                inboxes,
                outboxes,
            })
        });
        let workers = workers.collect();
        Ok(Self { workers, now: Nanos::from_seconds(1), tables: Arc::clone(tables), publisher })
    }

    /// Lets a turn of the first worker receive at most `burst` packets.
    pub fn limit(&mut self, burst: usize) {
        if let Some((port, _)) = self.workers[0].port(0) {
            port.limit(burst);
        }
    }

    /// Gives all workers new tables.
    pub fn publish(&mut self, tables: &Arc<Tables>) {
        self.tables = Arc::clone(tables);
        self.publisher.publish(tables);
    }

    /// One turn of a worker; the packets that it took.
    #[inline]
    pub fn turn(&mut self, worker: usize) -> usize {
        self.now.0 += TURN.0;
        self.workers[worker].turn(self.now)
    }

    /// Puts a copy of `packet` before the first worker, on port `ingress`; `false` when all frames are in use.
    pub fn offer(&mut self, ingress: usize, packet: &[u8]) -> bool {
        self.offer_to(0, ingress, packet)
    }

    /// Lets `seconds` pass, and every session end that is idle for too long by then.
    pub fn rest(&mut self, seconds: u64) {
        self.now.0 += Nanos::from_seconds(seconds).0;
        let now = self.now;
        self.workers.iter_mut().for_each(|worker| worker.expire_all(now));
    }

    /// As [`Rig::offer`], before any worker.
    pub fn offer_to(&mut self, worker: usize, ingress: usize, packet: &[u8]) -> bool {
        self.workers[worker].port(ingress).is_some_and(|(port, pool)| port.inject(pool, packet))
    }

    /// Shows each packet that `worker` sent, on the card first, to `look`, and gives its frame back.
    pub fn collect(&mut self, worker: usize, mut look: impl FnMut(usize, &[u8])) {
        for index in [0, HOST_PORT] {
            let Some((port, pool)) = self.workers[worker].port(index) else { continue };
            while let Some(frame) = port.sent() {
                look(index, pool.bytes(&frame));
                pool.recycle(frame);
            }
        }
    }

    /// Sends `packets` frames of `fill` (packet number, frame) through a worker, in rounds as large as the
    /// pool, and shows what came out, in order, with the packet's number.
    ///
    /// # Errors
    /// When a packet did not come out.
    pub fn pass(
        &mut self,
        worker: usize,
        packets: u32,
        mut fill: impl FnMut(u32, &mut Vec<u8>),
        mut look: impl FnMut(u32, &[u8]),
    ) -> Result<()> {
        let mut frame = Vec::new();
        let mut next = 0;
        while next < packets {
            let round = (packets - next).min(FRAMES);
            for n in next..next + round {
                fill(n, &mut frame);
                self.offer_to(worker, 0, &frame);
            }
            while self.turn(worker) > 0 {}
            let mut seen = next;
            self.collect(worker, |_, bytes| {
                look(seen, bytes);
                seen += 1;
            });
            ensure!(seen == next + round, "{} of {round} packets were lost: {}", next + round - seen, self.losses());
            next += round;
        }
        Ok(())
    }

    /// The drops of all workers, for error messages.
    #[must_use]
    pub fn losses(&self) -> String {
        let reasons = sluice_dataplane::verdict::DropReason::ALL.iter();
        let all = |r| self.workers.iter().map(|w| w.counters().drops(r).get()).sum::<u64>();
        let counted = reasons.map(|r| (r.name(), all(*r))).filter(|(_, n)| *n > 0);
        counted.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
    }

    /// A worker's counters.
    #[must_use]
    pub fn counters(&self, worker: usize) -> &Counters {
        self.workers[worker].counters()
    }

    /// A worker's sessions.
    #[must_use]
    pub fn flows(&self, worker: usize) -> &Flows {
        self.workers[worker].flows()
    }
}

/// One turn without a worker: what moving a burst through the memory port costs, `sent` or given back.
pub fn null_turn(port: &mut MemoryPort, pool: &mut Pool, frames: &mut Frames, sent: bool) {
    port.receive(pool, Nanos::default(), frames);
    if sent {
        port.transmit(pool, frames);
    }
    for frame in frames.drain(..) {
        pool.recycle(frame);
    }
    port.flush(pool);
}
