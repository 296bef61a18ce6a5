//! Each stage by itself, on bursts of 64 that the stages before it have prepared outside the time that is taken.
//! `cargo bench -p sluice-perf --bench stages`; times are per burst, throughput per packet.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on stops; criterion's macros")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_dataplane::burst::{Burst, Packet};
use sluice_dataplane::counters::Counters;
use sluice_dataplane::event::{Events, events};
use sluice_dataplane::family::Flows;
use sluice_dataplane::frame::Pool;
use sluice_dataplane::io::BURST;
use sluice_dataplane::limiter::RateLimits;
use sluice_dataplane::sessions::{ACK, Client, SYN};
use sluice_dataplane::stage::balance::{self, Balance};
use sluice_dataplane::stage::dns::guard::Guard;
use sluice_dataplane::stage::{classify, decap, dns, egress, encap, isolate, parse, refuse, reply};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::time::Nanos;
use sluice_perf::rig::{CHUNK, FRAMES};
use sluice_perf::traffic::{self, client};
use sluice_perf::world::{self, AGENT, OVERLAY_VIP, ROUTER, VIP, name};

/// The stages in the order of a turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Parse,
    Decap,
    Classify,
    Isolate,
    Dns,
    Reply,
    Balance,
    Refuse,
    Encap,
    Egress,
}

use Stage::{Balance as Balanced, Classify, Decap, Dns, Egress, Encap, Isolate, Parse, Refuse, Reply};

const ORDER: [Stage; 10] = [Parse, Decap, Classify, Isolate, Dns, Reply, Balanced, Refuse, Encap, Egress];

const NOW: Nanos = Nanos(1_000_000_000);

type Fill = fn(u32, &mut Vec<u8>);

/// What is measured: name, stage, its packets, and the sessions that those meet.
const CASES: [(&str, Stage, Fill, u32); 13] = [
    ("parse", Parse, hit, 0),
    ("decap", Decap, from_container, 0),
    ("classify", Classify, hit, 0),
    ("isolate", Isolate, hit, 0),
    ("dns a", Dns, question, 0),
    ("reply arp", Reply, arp, 0),
    ("balance hit, 1 session", Balanced, one, 1),
    ("balance hit, 1048576 sessions", Balanced, hit, 1_048_576),
    ("balance new flow", Balanced, new, 0),
    ("refuse nothing", Refuse, hit, 0),
    ("encap", Encap, to_container, 0),
    ("egress", Egress, hit, 0),
    ("egress in vxlan", Egress, to_container, 0),
];

fn scattered(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1) % (1 << 20)
}

fn hit(n: u32, frame: &mut Vec<u8>) {
    traffic::tcp(frame, client(scattered(n)), VIP, ACK);
}

fn one(_: u32, frame: &mut Vec<u8>) {
    traffic::tcp(frame, client(0), VIP, ACK);
}

fn new(n: u32, frame: &mut Vec<u8>) {
    traffic::tcp(frame, client(scattered(n)), VIP, SYN);
}

fn to_container(n: u32, frame: &mut Vec<u8>) {
    traffic::tcp(frame, client(n % 4096), OVERLAY_VIP, SYN);
}

fn from_container(n: u32, frame: &mut Vec<u8>) {
    traffic::tunnelled(frame, (AGENT.2, 1024 + (n % 60_000) as u16), VIP, SYN);
}

fn question(n: u32, frame: &mut Vec<u8>) {
    traffic::question(frame, client(n % 4096), n as u16, &name(n % world::NAMES));
}

fn arp(_: u32, frame: &mut Vec<u8>) {
    traffic::arp(frame, ROUTER, VIP.0);
}

/// What a worker has, without the worker.
struct Bench {
    tables: Arc<Tables>,
    pool: Pool,
    burst: Burst,
    counters: Counters,
    events: Events,
    flows: Flows,
    limits: RateLimits,
    guard: Guard,
}

impl Bench {
    fn new(sessions: u32) -> Self {
        let tables = world::tables(1).unwrap();
        let key = tables.desired.shared.hash_key;
        let mut bench = Self {
            pool: Pool::heap(FRAMES, CHUNK),
            burst: Burst::new(),
            counters: Counters::new(2, 1024, 65536),
            events: events(),
            flows: Flows::new(sessions.max(262_144) as usize, key),
            limits: RateLimits::new(tables.local.answers),
            guard: Guard::new(tables.key),
            tables,
        };
        let mut frame = Vec::new();
        for first in (0..sessions).step_by(BURST) {
            for flags in [SYN, ACK] {
                for n in first..sessions.min(first + BURST as u32) {
                    traffic::tcp(&mut frame, client(n), VIP, flags);
                    bench.receive(&frame);
                }
                ORDER.iter().for_each(|stage| bench.step(*stage));
                bench.recycle();
            }
        }
        bench
    }

    fn receive(&mut self, frame: &[u8]) {
        self.burst.push(Packet::received(self.pool.take_copy(frame).unwrap(), 0));
    }

    fn recycle(&mut self) {
        for packet in self.burst.drain(..) {
            self.pool.recycle(packet.frame);
        }
        while self.events.pop().is_some() {}
    }

    #[inline(always)]
    fn step(&mut self, stage: Stage) {
        let Self { tables, pool, burst, counters, events, flows, limits, guard } = self;
        match stage {
            Parse => parse::run(burst, pool, tables),
            Decap => decap::run(burst, pool, tables, counters),
            Classify => _ = classify::run(burst, pool, tables),
            Isolate => isolate::run(burst, tables, counters),
            Dns => dns::run(burst, pool, tables, counters, guard, NOW),
            Reply => reply::run(burst, pool, tables, events, counters, limits, NOW),
            Balanced => {
                let with = Balance::new(tables, flows, counters, 0, NOW);
                let _told = balance::run(burst, pool, &with, true);
            }
            Refuse => refuse::run(burst, pool, tables, limits, counters, NOW),
            Encap => encap::run(burst, pool, tables, flows, counters),
            Egress => egress::run(burst, pool, tables, events, counters),
        }
    }

    /// The time of `bursts` bursts in `stage`.
    fn time(&mut self, stage: Stage, fill: Fill, forget: bool, bursts: u64) -> Duration {
        let mut frame = Vec::new();
        let mut spent = Duration::ZERO;
        for burst in 0..bursts {
            for n in 0..BURST as u32 {
                fill(burst as u32 * BURST as u32 + n, &mut frame);
                self.receive(&frame);
            }
            ORDER.iter().take_while(|before| **before < stage).for_each(|before| self.step(*before));
            let clients = forget.then(|| self.clients());
            let start = Instant::now();
            self.step(stage);
            spent += start.elapsed();
            clients.into_iter().flatten().for_each(|c| self.flows.v4.remove(c));
            self.recycle();
        }
        spent
    }

    /// Whom the burst's packets are from, so that their sessions can be forgotten.
    fn clients(&self) -> Vec<Client> {
        let service = 1;
        self.burst.iter().map(|p| Client { ip: p.tuple.src, port: p.tuple.sport, service }).collect()
    }
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage");
    group.throughput(Throughput::Elements(BURST as u64));
    for (name, stage, fill, sessions) in CASES {
        let mut bench = Bench::new(sessions);
        let forget = name == "balance new flow";
        group.bench_function(name, |b| b.iter_custom(|bursts| bench.time(stage, fill, forget, bursts)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(11).measurement_time(Duration::from_secs(1)).without_plots();
    targets = stages
}
criterion_main!(benches);
