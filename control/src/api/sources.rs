//! `show sources`: who tells of tasks, and whether they are heard.

use serde::Serialize;

use super::observed::{MesosState, Observed};

/// One source.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Source {
    /// `marathon`, `mesos`, or `overlay`: Mesos's overlay module.
    pub kind: &'static str,
    /// Its first URL, or the ZooKeeper that names it.
    pub name: String,
    /// Whether its event stream is open; of `overlay`, which has none, whether it answered when it was asked last.
    pub connected: bool,
    /// The leading Mesos master, where it is known.
    pub leader: Option<String>,
    /// Whether all of it was ever known.
    pub listed: bool,
    /// Seconds since it said something last.
    pub heard_seconds_ago: Option<f64>,
    /// Events that meant a change.
    pub events: u64,
    /// Streams that failed or ended.
    pub stream_errors: u64,
    /// Listings that failed.
    pub list_errors: u64,
    /// Agents of Mesos that a new master has not heard from yet, whose tasks are kept.
    pub agents_waited_for: usize,
    /// What went wrong last.
    pub error: Option<String>,
}

/// All sources, Marathons first, each in the order of the configuration.
#[must_use]
pub fn sources(observed: &Observed) -> Vec<Source> {
    let marathons = (observed.marathons)().into_iter().map(|m| Source {
        kind: "marathon",
        name: m.name,
        connected: m.connected,
        leader: None,
        listed: m.listed,
        heard_seconds_ago: m.listed_ago,
        events: m.events,
        stream_errors: m.stream_errors,
        list_errors: m.list_errors,
        agents_waited_for: 0,
        error: m.error,
    });
    marathons.chain((observed.mesos)().into_iter().flat_map(mesos)).collect()
}

/// Mesos, and its overlay module where that is asked.
fn mesos(mut m: MesosState) -> impl Iterator<Item = Source> {
    let overlay = m.overlay.take().map(|seen| Source {
        kind: "overlay",
        name: m.name.clone(),
        connected: seen.answers,
        leader: m.leader.clone(),
        listed: seen.heard.is_some(),
        heard_seconds_ago: seen.heard.map(|at| at.elapsed().as_secs_f64()),
        events: 0,
        stream_errors: 0,
        list_errors: seen.errors,
        agents_waited_for: 0,
        error: seen.error,
    });
    let mesos = Source {
        kind: "mesos",
        name: m.name,
        connected: m.connected,
        leader: m.leader,
        listed: m.known,
        heard_seconds_ago: m.heard_ago,
        events: m.events,
        stream_errors: m.stream_errors,
        list_errors: m.list_errors,
        agents_waited_for: m.waiting,
        error: m.error,
    };
    std::iter::once(mesos).chain(overlay)
}
