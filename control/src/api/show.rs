//! What `sluice show` shows. These types are the schema: fields are added, never renamed or removed, and a test holds
//! the shape.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sluice_config::model::{self, VipKey};
use sluice_dataplane::counters::Counters;
use sluice_dataplane::verdict::DropReason;

use super::books::{Books, dropped};
use super::groups;
use super::judged::{Standing, drains, standing};
use super::members;
use super::names::names;
use super::observed::{Observed, Published};
use super::policy;
use super::sources::sources;
use super::zone;
use crate::desire::labels::{self, Label};

/// Everything that can be shown.
pub const SUBJECTS: &[&str] = &[
    "vips",
    "backends",
    "drains",
    "sessions",
    "drops",
    "workers",
    "zone",
    "names",
    "labels",
    "sources",
    "resolvers",
    "policy",
    "groups",
    "networks",
    "vteps",
    "leases",
];

/// Most sessions listed at once.
pub const MOST_SESSIONS: usize = 1000;

/// One VIP.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Vip {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Virtual address.
    pub ip: IpAddr,
    /// Virtual port.
    pub port: u16,
    /// DNS name without the zone, for named VIPs.
    pub name: Option<String>,
    /// Framework that claims it; `null` for static services.
    pub framework: Option<String>,
    /// Backends, sorted by address.
    pub backends: Vec<Backend>,
    /// Packets towards backends since the start.
    pub packets: u64,
}

/// One backend of one VIP.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Backend {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Share of new flows; 0 drains.
    pub weight: u16,
    /// The agent that runs it.
    pub agent_ip: Option<IpAddr>,
    /// Overlay network; `null` is the underlay.
    pub network: Option<String>,
    /// Isolation groups.
    pub groups: Vec<String>,
    /// Task id.
    pub task: Option<String>,
    /// Flows begun since the start, over all VIPs that share this backend.
    pub flows: u64,
    /// What becomes of it, and who says what.
    #[serde(flatten)]
    pub standing: Standing,
}

/// A backend with its VIP, for `show backends`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct VipBackend {
    /// `ADDRESS:PORT/PROTOCOL` of the VIP.
    pub vip: String,
    /// Its DNS name without the zone.
    pub name: Option<String>,
    /// The backend.
    #[serde(flatten)]
    pub backend: Backend,
}

/// `show drops`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Drops {
    /// Over all workers.
    pub books: Books,
    /// Every reason, zeros included, in counter order.
    pub reasons: Vec<Reason>,
}

/// One drop reason.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Reason {
    /// As in metrics.
    pub name: &'static str,
    /// Packets.
    pub count: u64,
    /// What it means and what to do.
    pub sentence: &'static str,
}

/// One worker.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Worker {
    /// Number, from 0.
    pub worker: usize,
    /// Its books.
    pub books: Books,
    /// Turns.
    pub turns: u64,
    /// Turns that received nothing.
    pub idle_turns: u64,
    /// Times that it slept.
    pub sleeps: u64,
    /// Sessions now.
    pub sessions: u64,
    /// Events lost because nobody read them in time.
    pub events_lost: u64,
    /// DNS answers by response code name; zeros left out.
    pub dns: std::collections::BTreeMap<String, u64>,
    /// Its queue of each port.
    pub ports: Vec<WorkerPort>,
}

/// One worker's queue of one port.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WorkerPort {
    /// Port name.
    pub port: String,
    /// Packets received.
    pub rx: u64,
    /// Octets received.
    pub rx_bytes: u64,
    /// Packets transmitted.
    pub tx: u64,
    /// Octets transmitted.
    pub tx_bytes: u64,
}

/// `show sessions`.
#[derive(Clone, Debug, Serialize)]
pub struct Sessions {
    /// Per worker.
    pub workers: Vec<SessionCounts>,
    /// The first [`MOST_SESSIONS`] of them.
    pub sessions: Vec<super::observed::SessionRow>,
}

/// One worker's sessions in numbers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SessionCounts {
    /// Number, from 0.
    pub worker: usize,
    /// Now.
    pub sessions: u64,
    /// Room (`limits.sessions`).
    pub capacity: u64,
    /// Begun.
    pub made: u64,
    /// Ended by expiry.
    pub expired: u64,
    /// Half-open ones that gave way.
    pub evicted: u64,
    /// Masqueraded flows now (`limits.masquerade`).
    pub masqueraded: u64,
    /// Flows of a masquerading gateway that began outside, now.
    pub entered: u64,
}

/// `show labels`: every VIP label, what was asked for and is not done, and what else people should know.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Labels {
    /// Every VIP label of every task with the VIPs that it gives, or the reason why not.
    pub labels: Vec<Label>,
    /// Whether there are more of them than are listed.
    pub more_labels: bool,
    /// Labels, apps and tasks that are not honoured, with the reason.
    pub rejected: Vec<crate::rejected::Rejected>,
    /// VIPs whose backends are all unhealthy, and therefore all used.
    pub fail_open: Vec<String>,
    /// VIPs whose backends differ in their groups.
    pub mixed_groups: Vec<String>,
}

/// The document of one subject; `None` when there is no such subject.
pub async fn document(observed: &Observed, what: &str) -> Option<Value> {
    let published = observed.published();
    let published = published.as_ref();
    let value = match what {
        "vips" => serde_json::to_value(vips(observed, published)),
        "backends" => serde_json::to_value(backends(observed, published)),
        "drains" => serde_json::to_value(drains(published)),
        "sessions" => serde_json::to_value(sessions(observed)),
        "drops" => serde_json::to_value(drops(observed).await),
        "workers" => serde_json::to_value(workers(observed)),
        "zone" => serde_json::to_value(published.map_or_else(Vec::new, |p| {
            let desired = &p.tables.desired;
            zone::rows(&desired.shared.zones, &p.tables.zones, desired.local.soa_serial, false)
        })),
        "names" => serde_json::to_value(names(observed)),
        "labels" => serde_json::to_value(of_labels(published)),
        "sources" => serde_json::to_value(sources(observed)),
        "resolvers" => serde_json::to_value(observed.forwarder.as_ref().map(|f| f.shown()).unwrap_or_default()),
        "policy" => serde_json::to_value(policy::show(observed, published)),
        "groups" => serde_json::to_value(groups::groups(observed, published)),
        "networks" => serde_json::to_value(members::networks(observed, published)),
        "vteps" => serde_json::to_value(members::vteps(observed, published)),
        "leases" => serde_json::to_value(members::leases(observed)),
        _ => return None,
    };
    value.ok()
}

/// All VIPs, sorted.
#[must_use]
pub fn vips(observed: &Observed, published: Option<&Published>) -> Vec<Vip> {
    let Some(published) = published else { return Vec::new() };
    published.tables.desired.shared.services.iter().map(|service| vip(observed, published, service)).collect()
}

fn vip(observed: &Observed, published: &Published, service: &model::Service) -> Vip {
    let key = service.key;
    let number = published.tables.service_number(key).map(usize::from);
    Vip {
        protocol: key.protocol.to_string(),
        ip: key.ip,
        port: key.port,
        name: service.name.clone(),
        framework: service.framework.clone(),
        backends: service.backends.iter().map(|b| backend(observed, published, key, b)).collect(),
        packets: sum(&observed.workers, |c| &c.services, number),
    }
}

fn backend(observed: &Observed, published: &Published, vip: VipKey, backend: &model::Backend) -> Backend {
    let address = backend.address;
    let number = published.tables.backend_number(address, vip.protocol).map(|n| n as usize);
    Backend {
        ip: address.ip(),
        port: address.port(),
        weight: backend.weight,
        agent_ip: backend.agent,
        network: backend.network.clone(),
        groups: backend.groups.clone(),
        task: backend.task.clone(),
        flows: sum(&observed.workers, |c| &c.backends, number),
        standing: standing(&published.report, vip, backend),
    }
}

fn sum(
    workers: &[Arc<Counters>],
    of: impl Fn(&Counters) -> &[sluice_dataplane::counters::Counter],
    number: Option<usize>,
) -> u64 {
    let Some(number) = number else { return 0 };
    workers.iter().filter_map(|c| of(c).get(number)).map(sluice_dataplane::counters::Counter::get).sum()
}

/// All backends with their VIPs.
#[must_use]
pub fn backends(observed: &Observed, published: Option<&Published>) -> Vec<VipBackend> {
    let flat = |vip: Vip| {
        let Vip { protocol, ip, port, name, backends, .. } = vip;
        let vip = format!("{}/{protocol}", std::net::SocketAddr::new(ip, port));
        backends.into_iter().map(move |backend| VipBackend { vip: vip.clone(), name: name.clone(), backend })
    };
    vips(observed, published).into_iter().flat_map(flat).collect()
}

fn sessions(observed: &Observed) -> Sessions {
    let counts = |(worker, c): (usize, &Arc<Counters>)| SessionCounts {
        worker,
        sessions: c.sessions.get(),
        capacity: observed.config.limits.sessions as u64,
        made: c.sessions_made.get(),
        expired: c.sessions_expired.get(),
        evicted: c.sessions_evicted.get(),
        masqueraded: c.masquerade_flows.get(),
        entered: c.masquerade_entered.get(),
    };
    let mut list = (observed.sessions)();
    list.truncate(MOST_SESSIONS);
    Sessions { workers: observed.workers.iter().enumerate().map(counts).collect(), sessions: list }
}

/// Bursts are on their way while the counters are read; a quiet moment comes within a few tries unless traffic is heavy.
async fn drops(observed: &Observed) -> Drops {
    let mut books = Books::of(&observed.workers);
    for _ in 0..20 {
        if books.balanced {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        books = Books::of(&observed.workers);
    }
    let reason = |reason: &DropReason| Reason {
        name: reason.name(),
        count: dropped(&observed.workers, *reason),
        sentence: reason.sentence(),
    };
    Drops { books, reasons: DropReason::ALL.iter().map(reason).collect() }
}

/// Response code names (IANA DNS RCODEs).
pub const RCODES: [&str; 16] = [
    "noerror",
    "formerr",
    "servfail",
    "nxdomain",
    "notimp",
    "refused",
    "yxdomain",
    "yxrrset",
    "nxrrset",
    "notauth",
    "notzone",
    "dsotypeni",
    "12",
    "13",
    "14",
    "15",
];

fn workers(observed: &Observed) -> Vec<Worker> {
    let port = |(name, p): (&String, &sluice_dataplane::counters::PortCounters)| WorkerPort {
        port: name.clone(),
        rx: p.rx.get(),
        rx_bytes: p.rx_bytes.get(),
        tx: p.tx.get(),
        tx_bytes: p.tx_bytes.get(),
    };
    let worker = |(worker, c): (usize, &Arc<Counters>)| Worker {
        worker,
        books: Books::of(std::slice::from_ref(c)),
        turns: c.turns.get(),
        idle_turns: c.idle_turns.get(),
        sleeps: c.sleeps.get(),
        sessions: c.sessions.get(),
        events_lost: c.events_lost.get(),
        dns: RCODES.iter().zip(&c.dns).filter(|(_, n)| n.get() > 0).map(|(r, n)| ((*r).into(), n.get())).collect(),
        ports: observed.ports.iter().zip(&c.ports).map(port).collect(),
    };
    observed.workers.iter().enumerate().map(worker).collect()
}

fn of_labels(published: Option<&Published>) -> Labels {
    let report = published.map(|p| Arc::clone(&p.report)).unwrap_or_default();
    let shown = |keys: &[VipKey]| keys.iter().map(ToString::to_string).collect();
    let services = published.map_or(&[][..], |p| &*p.tables.desired.shared.services);
    let (labels, more_labels) = labels::labels(&report, services);
    Labels {
        labels,
        more_labels,
        rejected: report.rejected.clone(),
        fail_open: shown(&report.fail_open),
        mixed_groups: shown(&report.mixed_groups),
    }
}
