//! `sluice-bench dns`: answers on a veth pair, beside Knot DNS in XDP mode on the same one, with the same 10,000 names.
//!
//! Both have one processor, the load another, and both sleep when nothing is there. At saturation the generator sends more questions than either can answer, so
//! what comes back is what it can do when it is overloaded. Latency is that of an ordinary socket at a steady rate.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::PacketBuilder;
use sluice_config::model::{Record, RecordData, Zone};
use sluice_dataplane::launch::{Dataplane, launch};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::Ids;
use sluice_dataplane::time::Nanos;

use super::knot::Knot;
use super::latency::{self, Latencies};
use super::subject::{CLIENT, CLIENT_MAC, OUR_MAC, config, on_wire};
use super::wire::{INTERFACE, Load, Wire, cpu_ns_of, ip};
use super::{ATTEMPTS, LEAST_BUSY, Settings, median};

/// Where both answer.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 53);
/// Names in the zone.
pub(super) const NAMES: u32 = 10_000;

/// The `n`th name, without the final dot.
pub(super) fn name(n: u32) -> String {
    format!("app-{n:05}.marathon.mesos")
}

/// Its address.
pub(super) fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() + n)
}

/// A name for the `n`th question, in an order that nothing guesses.
pub(super) fn name_of(n: u32) -> String {
    name(n.wrapping_mul(0x9e37_79b1) % NAMES)
}

/// A question for the addresses of a name (RFC 1035 section 4.1).
pub(super) fn message(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Server {
    Sluice { idle: &'static str },
    Knot,
}

/// One that runs until it is dropped.
enum Running {
    Sluice(Box<Dataplane>),
    Knot(Knot),
}

impl Server {
    fn start(self) -> Result<Running> {
        let Self::Sluice { idle } = self else { return Ok(Running::Knot(Knot::start()?)) };
        let mut desired = on_wire()?;
        let record = |n| Record { name: name(n), ttl: 60, data: RecordData::A(address(n)) };
        desired.shared.zones =
            Arc::new(vec![Zone { records: (0..NAMES).map(record).collect(), ..Zone::new("mesos", "ns1.mesos") }]);
        desired.local.dns_addresses = vec![ADDRESS];
        // Knot has no limit either unless it is given one.
        desired.local.dns.trusted = vec!["10.9.0.0/16".parse()?];
        let tables = Tables::compile(&Arc::new(desired), &mut Ids::new(64, 1024, 0), Nanos::default(), None)?;
        Ok(Running::Sluice(Box::new(launch(&config(idle)?, &Arc::new(tables))?)))
    }
}

impl Running {
    fn cpu_ns(&self) -> Result<u64> {
        match self {
            Self::Knot(knot) => knot.cpu_ns(),
            Self::Sluice(dataplane) if dataplane.alive() => cpu_ns_of("sluice-w0"),
            Self::Sluice(_) => bail!("the worker has ended"),
        }
    }
}

/// Both, measured in pairs.
#[derive(Debug, serde::Serialize)]
pub struct Answers {
    /// Thousands of answers a second, medians of all runs.
    pub sluice_kqps: f64,
    /// Knot's.
    pub knot_kqps: f64,
    /// Median of the pairs' ratios, least and most.
    pub ratio: [f64; 3],
    /// The same per second of CPU time: all threads of Knot, the worker of Sluice.
    pub ratio_per_cpu: [f64; 3],
    /// Of answers to 10,000 questions a second, the time within which half, 99 and 99.9 of a hundred came, microseconds:
    /// Sluice with `idle = "spin"`, which is for dedicated processors, medians of the pairs.
    pub sluice_us: [f64; 3],
    /// Sluice with `idle = "adaptive"`.
    pub adaptive_us: [f64; 3],
    /// Knot's, which sleeps in poll(2) between bursts.
    pub knot_us: [f64; 3],
    /// Questions that stayed without an answer: Sluice, adaptive, Knot.
    pub lost: [usize; 3],
    /// Pairs of runs.
    pub pairs: u32,
}

/// Questions a second while latency is measured.
const STEADY: u32 = 10_000;

/// Measures both.
///
/// # Errors
/// Without root or knotd, and when what was asked was not answered.
pub fn measure(settings: &Settings) -> Result<Answers> {
    let (spinning, ours) = (Server::Sluice { idle: "spin" }, Server::Sluice { idle: "adaptive" });
    let knots = Server::Knot;
    let wire = wire(settings, true)?;
    let (mut sluice, mut knot) = (Vec::new(), Vec::new());
    for pair in 0..settings.pairs {
        if pair % 2 == 0 {
            knot.push(saturated(&wire, knots, settings)?);
        }
        sluice.push(saturated(&wire, ours, settings)?);
        if pair % 2 == 1 {
            knot.push(saturated(&wire, knots, settings)?);
        }
    }
    drop(wire);
    let wire = self::wire(settings, false)?;
    let (mut times, mut lost) = ([const { Vec::new() }; 3], [0; 3]);
    for _ in 0..settings.pairs {
        for (at, server) in [spinning, ours, knots].into_iter().enumerate() {
            let took = steady(&wire, server, settings)?;
            lost[at] += took.lost;
            times[at].push([0.5, 0.99, 0.999].map(|share| took.quantile(share)));
        }
    }
    let [sluice_us, adaptive_us, knot_us] =
        times.map(|runs| std::array::from_fn(|i| median(runs.iter().map(|run: &[f64; 3]| run[i]).collect())));
    let of = |runs: &[Rates], which: fn(&Rates) -> f64| runs.iter().map(which).collect::<Vec<_>>();
    let ratios = |which| spread(&of(&sluice, which), &of(&knot, which));
    Ok(Answers {
        sluice_kqps: median(of(&sluice, |r| r.by_time)) / 1e3,
        knot_kqps: median(of(&knot, |r| r.by_time)) / 1e3,
        ratio: ratios(|r| r.by_time),
        ratio_per_cpu: ratios(|r| r.by_cpu),
        sluice_us,
        adaptive_us,
        knot_us,
        lost,
        pairs: settings.pairs,
    })
}

/// Median, least and most of the ratios of pairs.
fn spread(ours: &[f64], theirs: &[f64]) -> [f64; 3] {
    let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    [median(ratios.clone()), ratios.first().copied().unwrap_or_default(), ratios.last().copied().unwrap_or_default()]
}

fn wire(settings: &Settings, sink: bool) -> Result<Wire> {
    let (frame, digits) = question()?;
    let wire = Wire::with(Load { frame, flows: settings.flows, digits }, sink)?;
    // The kernel answers ARP for it, and Knot's ordinary socket is there; questions go the short way.
    ip(&format!("addr add {ADDRESS}/16 dev {INTERFACE}"))?;
    Ok(wire)
}

/// Answers a second, by the clock and by CPU time.
struct Rates {
    by_time: f64,
    by_cpu: f64,
}

fn saturated(wire: &Wire, server: Server, settings: &Settings) -> Result<Rates> {
    for _ in 0..ATTEMPTS {
        let running = server.start()?;
        let [sent, sunk, cpu_ns, ns] = wire.blast(|| observe(wire, &running, settings))??;
        if sent >= sunk + sunk / 10 && u128::from(cpu_ns) * LEAST_BUSY >= settings.run.as_nanos() {
            let per = |ns: u64| sunk as f64 * 1e9 / ns as f64;
            return Ok(Rates { by_time: per(ns), by_cpu: per(cpu_ns) });
        }
    }
    bail!("{server:?}: never had enough questions and processor time: end what else runs on this machine")
}

/// Questions, answers, CPU time and time of a run, both in nanoseconds.
fn observe(wire: &Wire, running: &Running, settings: &Settings) -> Result<[u64; 4]> {
    let start = std::time::Instant::now();
    let now = || {
        let [sent, sunk] = wire.counts()?;
        anyhow::Ok([sent, sunk, running.cpu_ns()?, start.elapsed().as_nanos() as u64])
    };
    std::thread::sleep(settings.run / 4);
    let before = now()?;
    std::thread::sleep(settings.run);
    let after = now()?;
    Ok(std::array::from_fn(|i| after[i] - before[i]))
}

fn steady(wire: &Wire, server: Server, settings: &Settings) -> Result<Latencies> {
    let _running = server.start()?;
    std::thread::sleep(Duration::from_millis(300));
    wire.there(|| latency::ask(ADDRESS, STEADY, settings.run))
}

/// The frame of a question, and where its name's number is.
fn question() -> Result<(Vec<u8>, u32)> {
    let mut frame = Vec::new();
    let udp =
        PacketBuilder::ethernet2(CLIENT_MAC.0, OUR_MAC.0).ipv4(CLIENT.octets(), ADDRESS.octets(), 64).udp(1024, 53);
    udp.write(&mut frame, &message(0, &name(0)))?;
    // No checksum: port and name are others in every frame.
    frame.get_mut(40..42).context("a short frame")?.fill(0);
    let digits = frame.windows(5).position(|five| five == b"00000").context("the name has no number")?;
    ensure!(digits > 42, "the number is in the name");
    Ok((frame, digits as u32))
}

impl Answers {
    /// What a person reads.
    #[must_use]
    pub fn text(&self) -> String {
        let ratio = |[median, least, most]: [f64; 3]| format!("{median:.2} ({least:.2} to {most:.2})");
        let times = |[half, most, nearly]: [f64; 3]| format!("{half:>8.1}{most:>10.1}{nearly:>10.1}");
        format!(
            "answers a second when overloaded, {} pairs of runs, one processor each\n\
             sluice {:.0}k, knot {:.0}k: {} times; per CPU second {} times\n\n\
             microseconds to an answer at {STEADY} questions a second, medians of the pairs\n\
             {:<18}{:>8}{:>10}{:>10}{:>8}\n\
             {:<18}{}{:>8}\n{:<18}{}{:>8}\n{:<18}{}{:>8}",
            self.pairs,
            self.sluice_kqps,
            self.knot_kqps,
            ratio(self.ratio),
            ratio(self.ratio_per_cpu),
            "",
            "half",
            "99 %",
            "99.9 %",
            "lost",
            "sluice, spin",
            times(self.sluice_us),
            self.lost[0],
            "sluice, adaptive",
            times(self.adaptive_us),
            self.lost[1],
            "knot",
            times(self.knot_us),
            self.lost[2],
        )
    }
}
