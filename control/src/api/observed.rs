//! Everything that the API looks at: plain shared state, so that a test can make it without a running dataplane.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

use sluice_config::model::Config;
use sluice_dataplane::counters::Counters;
use sluice_dataplane::tables::Tables;
use tokio::sync::mpsc;

use super::histogram::Histogram;
use super::names::Rate;
use super::pulse::Pulse;
use crate::desire::Report;
use crate::health::shell::Totals;
use crate::lease::desk::{LeaseOffice, at};
use crate::mesos::overlay::OverlaySeen;
use crate::run::orders::Order;

/// What was published last.
#[derive(Clone, Debug)]
pub struct Published {
    /// The tables, `desired` in them.
    pub tables: Arc<Tables>,
    /// What people should know about them.
    pub report: Arc<Report>,
}

/// One Marathon, as the API tells of it.
#[derive(Clone, Debug, Default)]
pub struct MarathonState {
    /// First URL of the configuration.
    pub name: String,
    /// Whether its event stream is open.
    pub connected: bool,
    /// Whether it was ever listed.
    pub listed: bool,
    /// Seconds since the last listing was published.
    pub listed_ago: Option<f64>,
    /// Events that meant a change.
    pub events: u64,
    /// Streams that failed or ended.
    pub stream_errors: u64,
    /// Listings that failed.
    pub list_errors: u64,
    /// What went wrong last.
    pub error: Option<String>,
}

/// Mesos, as the API tells of it.
#[derive(Clone, Debug, Default)]
pub struct MesosState {
    /// First master of the configuration, or its ZooKeeper without a password.
    pub name: String,
    /// Whether the event stream is open and has said everything.
    pub connected: bool,
    /// Whether all of it was ever known.
    pub known: bool,
    /// The leading master.
    pub leader: Option<String>,
    /// Seconds since it said something, be it a heartbeat.
    pub heard_ago: Option<f64>,
    /// Events that meant a change.
    pub events: u64,
    /// Streams that failed or ended.
    pub stream_errors: u64,
    /// Whole states that did not come.
    pub list_errors: u64,
    /// Agents that a new master has not heard from yet.
    pub waiting: usize,
    /// Changes of master after which some were waited for.
    pub held: u64,
    /// What went wrong last.
    pub error: Option<String>,
    /// Its overlay module, where it is asked (`[overlay]`).
    pub overlay: Option<OverlaySeen>,
}

/// What one queue's AF_XDP socket says.
#[derive(Clone, Debug, Default)]
pub struct SocketState {
    /// Port name.
    pub port: String,
    /// Worker number.
    pub worker: usize,
    /// Named counters.
    pub counters: Vec<(&'static str, u64)>,
}

/// A list that is made when it is asked for.
pub type Lazy<T> = Box<dyn Fn() -> Vec<T> + Send + Sync>;

/// One session, as `show sessions` lists it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SessionRow {
    /// Owning worker.
    pub worker: usize,
    /// Transport protocol, or `icmp`.
    pub protocol: String,
    /// Client address and port; an echo message's identifier is the port of who asks.
    pub client: String,
    /// VIP and port; `masqueraded` of what a container began with somebody outside, `entered` of what somebody outside
    /// began with a container at a masquerading gateway.
    pub vip: String,
    /// Backend and port; where there is no VIP, whom the client talks to.
    pub backend: String,
    /// Source address and port towards the backend; `none` of what entered.
    pub snat: String,
    /// TCP state, or `udp`.
    pub state: String,
    /// Seconds since the last packet.
    pub idle_seconds: u64,
}

/// The state behind the API.
pub struct Observed {
    /// The configuration.
    pub config: Config,
    /// What was published last; `None` before the first.
    published: Mutex<Option<Published>>,
    /// Whether that has all members of the overlay and all that is served ([`Observed::complete_map`]).
    complete: AtomicBool,
    /// One block per worker.
    pub workers: Vec<Arc<Counters>>,
    /// Port names, the host port last.
    pub ports: Vec<String>,
    /// When each worker last turned.
    pub pulse: Pulse,
    /// The Marathons of the configuration.
    pub marathons: Lazy<MarathonState>,
    /// Mesos, where the configuration has it.
    pub mesos: Lazy<MesosState>,
    /// The AF_XDP sockets.
    pub sockets: Lazy<SocketState>,
    /// The kernel programs' counters, by port.
    pub steering: Lazy<SocketState>,
    /// The sessions of all workers, at most [`super::show::MOST_SESSIONS`].
    pub sessions: Lazy<SessionRow>,
    /// How our own probes ended.
    pub probes: Arc<Totals>,
    /// How often names are asked for.
    pub rate: Rate,
    /// What DNS over the kernel's sockets counts.
    pub names: Arc<crate::dns::Statistics>,
    /// Who asks others for foreign names, if anybody does.
    pub forwarder: Option<Arc<crate::dns::forward::Forwarder>>,
    /// Where an operator's orders go; `None` where nobody carries them out.
    pub orders: Option<mpsc::Sender<Order>>,
    /// The overlay's leases, where they are given.
    pub leases: Option<LeaseOffice>,
    /// From the arrival of a Marathon listing to the publication of its tables.
    pub marathon_to_dataplane: Histogram,
    /// From the arrival of Mesos's word to the publication of its tables.
    pub mesos_to_dataplane: Histogram,
    /// From `desire` to the mailbox.
    pub publish: Histogram,
    /// Tables that could not be made.
    pub publish_errors: AtomicU64,
}

impl Observed {
    /// Of a node that has published nothing yet.
    #[must_use]
    pub fn new(config: Config, workers: Vec<Arc<Counters>>, ports: Vec<String>) -> Self {
        Self {
            pulse: Pulse::new(workers.len()),
            forwarder: crate::dns::forward::Forwarder::new(&config.dns),
            config,
            published: Mutex::new(None),
            complete: AtomicBool::new(false),
            workers,
            ports,
            marathons: Box::new(Vec::new),
            mesos: Box::new(Vec::new),
            sockets: Box::new(Vec::new),
            steering: Box::new(Vec::new),
            sessions: Box::new(Vec::new),
            probes: Arc::default(),
            rate: Rate::default(),
            names: Arc::default(),
            orders: None,
            leases: None,
            marathon_to_dataplane: Histogram::latency(),
            mesos_to_dataplane: Histogram::latency(),
            publish: Histogram::latency(),
            publish_errors: AtomicU64::new(0),
        }
    }

    /// Whether an agent has a lease of ours, and so runs `sluice agent`.
    #[must_use]
    pub fn has_lease(&self, agent: Ipv4Addr) -> bool {
        self.leases.as_ref().is_some_and(|office| at(&office.desk).lease(agent).is_some())
    }

    /// What was published last.
    pub fn published(&self) -> Option<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that what was published last has all that the sources know of the overlay, as everything will have from now on.
    pub fn complete_map(&self) {
        self.complete.store(true, Release);
    }

    /// What was published last, once agents may go by it: with less than every source knows they would take away ways
    /// that are needed.
    #[must_use]
    pub fn published_whole(&self) -> Option<Published> {
        self.complete.load(Acquire).then(|| self.published()).flatten()
    }

    /// Remembers what was published, and how long it took to make.
    pub fn note(&self, published: Published, took: Duration) {
        self.publish.observe(took);
        let before = self.published.lock().unwrap_or_else(PoisonError::into_inner).replace(published);
        // Freed outside the lock: the old tables may be the last of their kind.
        drop(before);
    }

    /// Remembers another report on the tables that were published last.
    pub fn note_report(&self, report: Arc<Report>) {
        if let Some(published) = self.published.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            published.report = report;
        }
    }

    /// Counts tables that could not be made.
    pub fn note_error(&self) {
        self.publish_errors.fetch_add(1, Relaxed);
    }

    /// Workers that did not turn lately.
    pub fn unhealthy(&self) -> Vec<String> {
        let stuck = self.pulse.stuck(&self.workers);
        stuck.into_iter().map(|worker| format!("worker {worker} has not turned for more than a second")).collect()
    }

    /// What is still missing before this node can serve.
    pub fn unready(&self) -> Vec<String> {
        let mut missing = self.unhealthy();
        if self.published().is_none() {
            missing.push("no tables are published yet".into());
        }
        let unlisted = (self.marathons)().into_iter().filter(|m| !m.listed);
        missing.extend(unlisted.map(|m| match m.error {
            Some(error) => format!("Marathon {} was not listed yet: {error}", m.name),
            None => format!("Marathon {} was not listed yet", m.name),
        }));
        let mesos = (self.mesos)();
        let unasked = mesos.iter().filter(|m| m.known && m.overlay.as_ref().is_some_and(|overlay| !overlay.asked));
        missing.extend(unasked.map(|m| format!("Mesos {} was not asked for its overlay yet", m.name)));
        let unknown = mesos.into_iter().filter(|m| !m.known);
        missing.extend(unknown.map(|m| match m.error {
            Some(error) => format!("Mesos {} was not heard yet: {error}", m.name),
            None => format!("Mesos {} was not heard yet", m.name),
        }));
        missing
    }
}
