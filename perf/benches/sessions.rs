//! The session tables alone, in bursts of 64 as a worker uses them: clients come in an order that no prefetcher guesses.
//! `cargo bench -p sluice-perf --bench sessions`; times are per burst, throughput per packet.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on stops; criterion's macros")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_config::model::{Protocol, Timeouts};
use sluice_dataplane::address::Address;
use sluice_dataplane::io::BURST;
use sluice_dataplane::sessions::{ACK, Client, Flow, Lifetimes, SYN, Sessions};
use sluice_dataplane::time::Tick;

const NOW: Tick = Tick(100);
const BACKENDS: u32 = 100;

/// A family's addresses.
trait Numbered: Address {
    const NAME: &str;
    fn nth(n: u32) -> Self;
}

impl Numbered for u32 {
    const NAME: &str = "v4";
    fn nth(n: u32) -> Self {
        n
    }
}

impl Numbered for u128 {
    const NAME: &str = "v6";
    fn nth(n: u32) -> Self {
        0x2001_0db8 << 96 | Self::from(n) << 32 | 1
    }
}

/// How new flows are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Direct,
    Nat,
}

struct Bench<A: Address> {
    sessions: Sessions<A>,
    life: Lifetimes,
    mode: Mode,
    held: u32,
    next: u32,
}

/// The n-th port from where a flow's hash begins.
fn ports(hash: u64) -> impl Iterator<Item = u16> {
    (0..256).map(move |n| 1024 + ((hash as u32 % 64_000 + n) % 64_000) as u16)
}

impl<A: Numbered> Bench<A> {
    /// A table with room for `capacity` that holds `held`, established or half open.
    fn new(mode: Mode, capacity: u32, held: u32, flags: u8) -> Self {
        let mut bench = Self {
            sessions: Sessions::new(capacity as usize, [7; 16]),
            life: Timeouts::default().into(),
            mode,
            held,
            next: 0,
        };
        for _ in 0..held / BURST as u32 {
            bench.begin(flags);
        }
        assert_eq!(bench.sessions.len(), held as usize);
        bench
    }

    fn client(n: u32) -> Client<A> {
        Client { ip: A::nth(n), port: 1000, service: 1 }
    }

    fn flow(&self, client: Client<A>, hash: u64) -> Flow {
        let backend = 1 + (hash >> 40) as u32 % BACKENDS;
        match self.mode {
            Mode::Direct => Flow::direct(backend, Protocol::Tcp),
            Mode::Nat => Flow {
                backend,
                snat: 0,
                port: ports(hash ^ u64::from(client.port)).next().unwrap(),
                protocol: Protocol::Tcp,
            },
        }
    }

    /// A burst of packets of known clients.
    fn hit(&self, round: u32) {
        let clients: [_; BURST] = std::array::from_fn(|i| {
            let n = (round * BURST as u32 + i as u32).wrapping_mul(0x9e37_79b1) % self.held;
            Self::client(n)
        });
        let hashes = clients.map(|c| self.sessions.expect_client(c));
        for (client, hash) in clients.into_iter().zip(hashes) {
            black_box(self.sessions.forward(client, hash, ACK, NOW, &self.life)).unwrap();
        }
    }

    /// A burst of packets of unknown clients: looked up, expected, begun.
    fn begin(&mut self, flags: u8) {
        let first = self.next;
        self.next = self.next.wrapping_add(BURST as u32);
        let clients: [_; BURST] = std::array::from_fn(|i| Self::client(first.wrapping_add(i as u32)));
        let hashes = clients.map(|c| self.sessions.expect_client(c));
        let new: [_; BURST] = std::array::from_fn(|i| {
            assert!(self.sessions.forward(clients[i], hashes[i], flags, NOW, &self.life).is_none());
            self.sessions.expect(clients[i], hashes[i], self.flow(clients[i], hashes[i]))
        });
        for (new, hash) in new.iter().zip(hashes) {
            black_box(self.sessions.begin_on(new, ports(hash).skip(1), 8000, flags, NOW, self.life)).unwrap();
        }
    }

    fn forget(&self) {
        for n in 1..=BURST as u32 {
            self.sessions.remove(Self::client(self.next.wrapping_sub(n)));
        }
    }
}

fn timed(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn family<A: Numbered>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("sessions {}", A::NAME));
    group.throughput(Throughput::Elements(BURST as u64));
    for held in [1 << 10, 1 << 17, 1 << 20] {
        let bench = Bench::<A>::new(Mode::Direct, held.max(262_144), held, ACK);
        let mut round = 0;
        group.bench_function(format!("hit, {held} held"), |b| {
            b.iter(|| {
                round += 1;
                bench.hit(round);
            });
        });
    }
    for room in [1 << 18, 1 << 20] {
        let mut bench = Bench::<A>::new(Mode::Direct, room, room, SYN);
        group.bench_function(format!("new direct, table of {room} full"), |b| b.iter(|| bench.begin(SYN)));
        for mode in [Mode::Direct, Mode::Nat] {
            let mut bench = Bench::<A>::new(mode, room, room / 2, ACK);
            group.bench_function(format!("new {mode:?}, table of {room} half full"), |b| {
                b.iter_custom(|rounds| {
                    let round = |_| {
                        let spent = timed(|| bench.begin(SYN));
                        bench.forget();
                        spent
                    };
                    (0..rounds).map(round).sum()
                });
            });
        }
    }
    group.finish();
}

fn both(criterion: &mut Criterion) {
    family::<u32>(criterion);
    family::<u128>(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(11).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300)).without_plots();
    targets = both
}
criterion_main!(benches);
