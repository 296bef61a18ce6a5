//! What the API sees of a running packet path.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sluice_config::model::{Config, Marathon, Masters, Mesos, Protocol};
use sluice_dataplane::address::Address;
use sluice_dataplane::family::{Flows, Masquerade};
use sluice_dataplane::idle::clock;
use sluice_dataplane::launch::{Dataplane, PortStatistics};
use sluice_dataplane::sessions::caller::Talk;
use sluice_dataplane::sessions::{Client, Shown, State};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::time::{Nanos, Tick};
use tokio::sync::{mpsc, watch};

use crate::api::observed::{MarathonState, MesosState, Observed, SessionRow, SocketState};
use crate::api::show::MOST_SESSIONS;
use crate::health::shell::Totals;
use crate::lease::desk::LeaseOffice;
use crate::marathon::follow::Status;
use crate::mesos::shell::Seen;
use crate::run::orders::Order;

/// The packet path, shared between the loop that publishes and the API that reads statistics; `None` once stopped.
pub type Shared = Arc<Mutex<Option<Dataplane>>>;

/// When each Marathon was listed last, by its index in the configuration.
pub type Listed = Arc<Mutex<BTreeMap<usize, Instant>>>;

/// What the API looks at beside the dataplane.
#[derive(Debug)]
pub struct Behind {
    /// One of each Marathon.
    pub statuses: Vec<watch::Receiver<Status>>,
    /// When each was listed last.
    pub listed: Listed,
    /// Of Mesos, where the configuration has it.
    pub mesos: Option<watch::Receiver<Seen>>,
    /// How probes ended.
    pub totals: Arc<Totals>,
    /// Where an operator's orders go.
    pub orders: mpsc::Sender<Order>,
    /// The overlay's leases, where they are given.
    pub leases: Option<LeaseOffice>,
}

/// The state behind the API, and the sessions that it lists.
pub fn observed(config: &Config, dataplane: &Shared, behind: Behind) -> Arc<Observed> {
    let Behind { statuses, listed, mesos, totals, orders, leases } = behind;
    let (workers, sessions) = match &*dataplane.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(running) => (running.counters().to_vec(), running.flows().to_vec()),
        None => (Vec::new(), Vec::new()),
    };
    let mut ports: Vec<String> = config.ports.iter().map(|p| p.name.clone()).collect();
    ports.extend(config.host.as_ref().map(|_| "host".to_owned()));
    let names = ports.clone();
    let mut observed = Observed::new(config.clone(), workers, ports);
    observed.probes = totals;
    observed.orders = Some(orders);
    observed.leases = leases;
    let marathons = config.marathons.clone();
    observed.marathons = Box::new(move || marathon_states(&marathons, &statuses, &listed));
    let asked = config.mesos.clone().zip(mesos);
    observed.mesos = Box::new(move || asked.iter().map(|(mesos, seen)| mesos_state(mesos, &seen.borrow())).collect());
    let (shared, of) = (Arc::clone(dataplane), names.clone());
    observed.sockets = Box::new(move || statistics(&shared, &of, sockets));
    let shared = Arc::clone(dataplane);
    observed.steering = Box::new(move || statistics(&shared, &names, steering));
    Arc::new_cyclic(|weak: &std::sync::Weak<Observed>| {
        let weak = weak.clone();
        observed.sessions = Box::new(move || {
            let published = weak.upgrade().and_then(|observed| observed.published());
            published.map_or_else(Vec::new, |p| rows(&sessions, &p.tables, clock()))
        });
        observed
    })
}

fn marathon_states(
    marathons: &[Marathon],
    statuses: &[watch::Receiver<Status>],
    listed: &Listed,
) -> Vec<MarathonState> {
    let listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
    let state = |(source, (marathon, status)): (usize, (&Marathon, &watch::Receiver<Status>))| {
        let status = status.borrow().clone();
        MarathonState {
            name: marathon.urls.first().cloned().unwrap_or_default(),
            connected: status.streaming,
            listed: listed.contains_key(&source),
            listed_ago: listed.get(&source).map(|at| at.elapsed().as_secs_f64()),
            events: status.hints,
            stream_errors: status.stream_errors,
            list_errors: status.list_errors,
            error: status.error.map(|(_, sentence)| sentence),
        }
    };
    marathons.iter().zip(statuses).enumerate().map(state).collect()
}

fn mesos_state(mesos: &Mesos, seen: &Seen) -> MesosState {
    let status = seen.status.clone();
    MesosState {
        name: match &mesos.masters {
            Masters::Listed(urls) => urls.first().cloned().unwrap_or_default(),
            Masters::ZooKeeper { zk, .. } => zk.to_string(),
        },
        connected: status.streaming,
        known: status.published > 0,
        leader: status.leader.map(|leader| leader.to_string()),
        heard_ago: seen.heard.map(|at| at.elapsed().as_secs_f64()),
        events: status.events,
        stream_errors: status.stream_errors,
        list_errors: status.list_errors,
        waiting: status.waiting,
        held: status.held,
        error: status.error.map(|(_, sentence)| sentence),
        overlay: seen.overlay.clone(),
    }
}

fn statistics(
    dataplane: &Shared,
    names: &[String],
    of: fn(&str, &PortStatistics) -> Vec<SocketState>,
) -> Vec<SocketState> {
    let dataplane = dataplane.lock().unwrap_or_else(PoisonError::into_inner);
    let all = dataplane.as_ref().map(Dataplane::statistics).unwrap_or_default();
    names.iter().zip(&all).flat_map(|(name, port)| of(name, port)).collect()
}

fn sockets(name: &str, port: &PortStatistics) -> Vec<SocketState> {
    let socket = |(worker, s): (usize, &sluice_dataplane::io::xsk::XskStatistics)| SocketState {
        port: name.to_owned(),
        worker,
        counters: vec![
            ("rx_dropped", s.rx_dropped),
            ("rx_ring_full", s.rx_ring_full),
            ("fill_ring_empty", s.fill_ring_empty),
            ("rx_invalid", s.rx_invalid),
            ("tx_invalid", s.tx_invalid),
            ("tx_refused", s.refused),
        ],
    };
    port.sockets.iter().enumerate().map(socket).collect()
}

fn steering(name: &str, port: &PortStatistics) -> Vec<SocketState> {
    let Some(s) = &port.steer else { return Vec::new() };
    let counters = vec![
        ("taken", s.taken),
        ("passed", s.passed),
        ("no_socket", s.no_socket),
        ("fragment_passed", s.fragment_passed),
        ("arp_taken", s.arp_taken),
    ];
    vec![SocketState { port: name.to_owned(), worker: 0, counters }]
}

/// The first sessions of all workers, as these tables name them.
fn rows(flows: &[Arc<Flows>], tables: &Tables, now: Nanos) -> Vec<SessionRow> {
    let each = |(worker, flows): (usize, &Arc<Flows>)| {
        let four = flows.v4.iter().map(|shown| row(worker, &shown, tables, now.tick()));
        four.chain(flows.v6.iter().map(|shown| row(worker, &shown, tables, now.tick())))
            .chain(masqueraded(worker, &flows.masquerade4, tables, now.tick()))
            .chain(masqueraded(worker, &flows.masquerade6, tables, now.tick()))
            .take(MOST_SESSIONS)
            .collect::<Vec<_>>()
    };
    flows.iter().enumerate().flat_map(each).take(MOST_SESSIONS).collect()
}

fn row<A: Address>(worker: usize, shown: &Shown<A>, tables: &Tables, now: Tick) -> SessionRow {
    let address = |ip: IpAddr, port: u16| SocketAddr::new(ip, port).to_string();
    // A service or backend that has gone since is no longer in the tables.
    let gone = || "gone".to_owned();
    let snat = tables.snat.ip(shown.flow.snat);
    SessionRow {
        worker,
        protocol: shown.flow.protocol.to_string(),
        client: address(shown.client.ip.to_ip(), shown.client.port),
        vip: tables.service(shown.client.service).map_or_else(gone, |s| address(s.ip, s.port)),
        backend: tables.backend(shown.flow.backend).map_or_else(gone, |b| address(b.ip, b.port)),
        snat: snat.map_or_else(gone, |ip| address(ip, shown.flow.port)),
        state: state(shown.state).to_owned(),
        idle_seconds: idle_seconds(shown, now),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::HalfOpen => "half_open",
        State::Established => "established",
        State::Closing => "closing",
        State::Udp => "udp",
        State::Sctp => "sctp",
        State::Refused => "refused",
    }
}

fn idle_seconds<A>(shown: &Shown<A>, now: Tick) -> u64 {
    u64::from(now.since(shown.tick)) * Nanos::TICK / 1_000_000_000
}

/// Flows of a masquerading gateway: those of containers, then those that began outside.
fn masqueraded<'a, A: Address>(
    worker: usize,
    flows: &'a Masquerade<A>,
    tables: &'a Tables,
    now: Tick,
) -> impl Iterator<Item = SessionRow> + 'a {
    let row = move |shown: Shown<Talk<A>>, begun: bool| {
        let Client { ip: Talk { container, far, far_port }, port, service } = shown.client;
        let end = |ip: A, port: u16| SocketAddr::new(ip.to_ip(), port).to_string();
        let (container, far) = (end(container, port), end(far, far_port));
        let snat = tables.snat.ip(shown.flow.snat).map(|ip| SocketAddr::new(ip, shown.flow.port).to_string());
        let is_echo = shown.state == State::Udp && service != u16::from(Protocol::Udp.number());
        SessionRow {
            worker,
            protocol: if is_echo { "icmp".to_owned() } else { shown.flow.protocol.to_string() },
            vip: if begun { "masqueraded" } else { "entered" }.to_owned(),
            snat: snat.filter(|_| begun).unwrap_or_else(|| "none".to_owned()),
            state: if is_echo { "icmp" } else { state(shown.state) }.to_owned(),
            idle_seconds: idle_seconds(&shown, now),
            client: if begun { container.clone() } else { far.clone() },
            backend: if begun { far } else { container },
        }
    };
    let begun = flows.begun.iter().map(move |shown| row(shown, true));
    begun.chain(flows.entered.iter().map(move |shown| row(shown, false)))
}
