//! `show names`: what is asked and answered, by type, response code and source, and how often at the moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_config::model::Origin;
use sluice_dataplane::counters::{Counter, Counters, DNS_TYPES};
use sluice_dataplane::verdict::DropReason;

use super::books::dropped;
use super::observed::Observed;
use super::show::RCODES;
use crate::dns::Statistics;

/// What a query may be dropped for in the packet path.
const REASONS: [DropReason; 4] =
    [DropReason::DnsMalformed, DropReason::DnsChecksum, DropReason::DnsSourcePort, DropReason::DnsRate];

/// A rate is that of so long.
const WINDOW: Duration = Duration::from_secs(10);
/// Between two looks that are remembered.
const STEP: Duration = Duration::from_secs(1);

/// `show names`. Counts are since the start.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Names {
    /// Queries over UDP and TCP, those included that got no answer.
    pub queries: u64,
    /// Of the last seconds, at most ten.
    pub queries_per_second: f64,
    /// Answers of the packet path by question type.
    pub types: BTreeMap<&'static str, u64>,
    /// The same by response code.
    pub rcodes: BTreeMap<&'static str, u64>,
    /// The same by where the names of their zone come from; `none` are those of no zone.
    pub sources: BTreeMap<&'static str, u64>,
    /// Queries that the packet path dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What DNS over the kernel's sockets counts.
    pub kernel: BTreeMap<&'static str, u64>,
}

/// The document.
#[must_use]
pub fn names(observed: &Observed) -> Names {
    let workers = &observed.workers;
    let queries = queries(workers, &observed.names);
    Names {
        queries,
        queries_per_second: observed.rate.read(queries, Instant::now()),
        types: types(workers).collect(),
        rcodes: rcodes(workers).collect(),
        sources: sources(workers).collect(),
        dropped: REASONS.iter().map(|reason| (reason.name(), dropped(workers, *reason))).collect(),
        kernel: observed.names.all().into_iter().collect(),
    }
}

/// Everything that was asked.
#[must_use]
pub fn queries(workers: &[Arc<Counters>], kernel: &Statistics) -> u64 {
    let answers: u64 = rcodes(workers).map(|(_, count)| count).sum();
    let drops: u64 = REASONS.iter().map(|reason| dropped(workers, *reason)).sum();
    let kernel = [&kernel.tcp_answers, &kernel.udp_answers, &kernel.udp_dropped].map(|n| n.load(Relaxed));
    answers + drops + kernel.iter().sum::<u64>()
}

/// Answers of the packet path by question type.
pub(super) fn types(workers: &[Arc<Counters>]) -> impl Iterator<Item = (&'static str, u64)> {
    summed(workers, DNS_TYPES.iter().map(|(_, name)| *name).chain(["other"]), |c| &c.dns_types)
}

/// Answers of the packet path by response code.
pub(super) fn rcodes(workers: &[Arc<Counters>]) -> impl Iterator<Item = (&'static str, u64)> {
    summed(workers, RCODES.into_iter(), |c| &c.dns)
}

/// Answers of the packet path by where the names of their zone come from.
pub(super) fn sources(workers: &[Arc<Counters>]) -> impl Iterator<Item = (&'static str, u64)> {
    summed(workers, Origin::ALL.iter().map(|(_, name)| *name).chain(["none"]), |c| &c.dns_sources)
}

/// Each name with what all workers counted at its place.
fn summed(
    workers: &[Arc<Counters>],
    names: impl Iterator<Item = &'static str>,
    of: impl Fn(&Counters) -> &[Counter],
) -> impl Iterator<Item = (&'static str, u64)> {
    names
        .enumerate()
        .map(move |(index, name)| (name, workers.iter().filter_map(|c| of(c).get(index)).map(Counter::get).sum()))
}

/// How fast a count grows, from looks at it about once a second.
#[derive(Debug, Default)]
pub struct Rate(Mutex<VecDeque<(Instant, u64)>>);

impl Rate {
    /// Remembers a count; to be called a few times a second.
    pub fn look(&self, count: u64, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.back().is_some_and(|(at, _)| now.duration_since(*at) < STEP) {
            return;
        }
        while seen.front().is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            seen.pop_front();
        }
        seen.push_back((now, count));
    }

    /// By the second, up to this count; 0 as long as nothing was remembered.
    #[must_use]
    pub fn read(&self, count: u64, now: Instant) -> f64 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, before)) = seen.front() else { return 0.0 };
        let seconds = now.duration_since(*at).as_secs_f64();
        if seconds > 0.0 { count.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_ten_seconds() {
        let (rate, begun) = (Rate::default(), Instant::now());
        assert_eq!(rate.read(7, begun), 0.0);
        for tick in 0..200_u32 {
            // A hundred a second for ten seconds, then three hundred.
            let count = u64::from(tick * 10 + tick.saturating_sub(100) * 20);
            rate.look(count, begun + tick * Duration::from_millis(100));
        }
        let seen = rate.read(4_000, begun + Duration::from_secs(20));
        assert!((290.0..=310.0).contains(&seen), "{seen}");
        let long_after = begun + Duration::from_secs(1000);
        rate.look(4_000, long_after);
        assert_eq!(rate.read(4_000, long_after + Duration::from_secs(1)), 0.0);
    }
}
