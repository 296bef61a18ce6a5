//! `sluice-bench veth`: packets per CPU second of the whole program's packet path on a veth pair, as a ratio to the
//! least that AF_XDP can do there.
//!
//! One namespace has `s0` and whatever is measured, the other `c0`: frames of 60 octets leave it as fast as one core
//! makes them (live frames of BPF_PROG_TEST_RUN), and what comes back is dropped by a program. The measured thread is
//! never without packets, so packets per second of its CPU time are what it can do; the kernel's share of a transmit is
//! in that time, for both alike. A ratio is taken within a pair of runs, one right after the other, in alternated order.

pub mod dns;
mod echo;
mod knot;
mod latency;
mod subject;
mod wire;

use std::time::Duration;

use anyhow::{Result, bail};

use subject::Running;
pub use subject::Subject;
use wire::Wire;

/// Share of a run in which the thread has to have a processor, as a divisor: its time is known at ticks of some
/// milliseconds.
const LEAST_BUSY: u128 = 10;
const ATTEMPTS: u32 = 60;

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Pairs of runs, of which the median ratio counts.
    pub pairs: u32,
    /// Length of a run.
    pub run: Duration,
    /// Flows, a power of two.
    pub flows: u32,
}

/// A subject beside the echo.
#[derive(Debug, serde::Serialize)]
pub struct Ratio {
    /// The mode.
    pub subject: &'static str,
    /// Millions of packets that reached the sink per second of the thread's CPU time, medians of all runs.
    pub mpps_per_cpu: f64,
    /// The same of the echo.
    pub echo_mpps_per_cpu: f64,
    /// Median of the pairs' ratios.
    pub ratio: f64,
    /// Least and most of them.
    pub least: f64,
    /// See `least`.
    pub most: f64,
    /// Pairs.
    pub pairs: u32,
}

impl Ratio {
    /// Names of the columns.
    #[must_use]
    pub fn head() -> String {
        format!(
            "{:<10}{:>12}{:>12}{:>8}{:>8}{:>8}{:>7}",
            "subject", "Mpps/cpu-s", "echo's", "ratio", "least", "most", "pairs"
        )
    }

    /// Its row.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{:<10}{:>12.3}{:>12.3}{:>8.3}{:>8.3}{:>8.3}{:>7}",
            self.subject, self.mpps_per_cpu, self.echo_mpps_per_cpu, self.ratio, self.least, self.most, self.pairs
        )
    }
}

/// Measures one subject beside the echo.
///
/// # Errors
/// Without root, and when what was sent did not come back.
pub fn measure(subject: Subject, settings: &Settings) -> Result<Ratio> {
    let wire = Wire::new(settings.flows)?;
    let mut rates = (Vec::new(), Vec::new());
    for pair in 0..settings.pairs {
        let run = |what| run(&wire, what, settings);
        let (ours, echo) = if pair % 2 == 0 {
            let echo = run(Subject::Echo)?;
            (run(subject)?, echo)
        } else {
            (run(subject)?, run(Subject::Echo)?)
        };
        rates.0.push(ours);
        rates.1.push(echo);
    }
    let mut ratios: Vec<f64> = rates.0.iter().zip(&rates.1).map(|(ours, echo)| ours / echo).collect();
    ratios.sort_by(f64::total_cmp);
    Ok(Ratio {
        subject: subject.name(),
        mpps_per_cpu: median(rates.0),
        echo_mpps_per_cpu: median(rates.1),
        ratio: median(ratios.clone()),
        least: ratios.first().copied().unwrap_or_default(),
        most: ratios.last().copied().unwrap_or_default(),
        pairs: settings.pairs,
    })
}

/// Millions of packets in the sink per CPU second of the subject's thread. A run in which that thread had to wait for
/// packets, or for a processor nearly all of the time, says little, and is done again.
fn run(wire: &Wire, subject: Subject, settings: &Settings) -> Result<f64> {
    for _ in 0..ATTEMPTS {
        let running = subject.start()?;
        let [sent, sunk, cpu_ns] = wire.blast(|| observe(wire, &running, settings))??;
        if sent >= sunk + sunk / 10 && u128::from(cpu_ns) * LEAST_BUSY >= settings.run.as_nanos() {
            return Ok(sunk as f64 * 1e3 / cpu_ns as f64);
        }
    }
    bail!("{}: never had enough packets and processor time: end what else runs on this machine", subject.name())
}

/// Packets sent, packets come back and nanoseconds of the thread's CPU time, of a run.
fn observe(wire: &Wire, running: &Running, settings: &Settings) -> Result<[u64; 3]> {
    let now = || {
        let [sent, sunk] = wire.counts()?;
        anyhow::Ok([sent, sunk, running.cpu_ns()?])
    };
    // Sessions are made, caches are warm.
    std::thread::sleep(settings.run / 4);
    let before = now()?;
    std::thread::sleep(settings.run);
    let after = now()?;
    Ok(std::array::from_fn(|i| after[i] - before[i]))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
