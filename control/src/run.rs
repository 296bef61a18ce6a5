//! `sluice run`: everything held together, from the first check to the last route taken away.
//!
//! Start: check -> be the only one -> look at the kernel -> API socket -> host port -> first tables -> packet path ->
//! sources. Then one loop waits for whatever changes what packets should do, publishes at most [`pace::PER_SECOND`] times a
//! second, and tries again what failed. A start that fails and a signal both end in the same taking away; after SIGKILL
//! the next start finds what is left, replaces it, and takes the blackholes over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_config::model::{Config, Protocol};
use sluice_dataplane::event::Event as Told;
use sluice_dataplane::idle::clock;
use sluice_dataplane::launch::{Dataplane, launch};
use sluice_dataplane::tables::Tables;
use sluice_dataplane::tables::ids::BackendKey;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::api::names;
use crate::api::observed::Observed;
use crate::api::serve::{Socket, serve_tcp};
use crate::dns::secrets;
use crate::health::drains;
use crate::health::ejection::Ejections;
use crate::health::shell::{Prober, begin};
use crate::health::target::wanted;
use crate::lease;
use crate::lease::desk::LeaseOffice;
use crate::lease::token::Token;
use crate::marathon::fetch_error::StartError;
use crate::marathon::follow::Status;
use crate::marathon::shell;
use crate::mesos;
use crate::mesos::shell::Seen;
use crate::netlink::inventory::Inventory;
use crate::netlink::{self, NetlinkError};
use crate::store::{FileStore, Store as _};
use crate::view::Event;

pub mod alone;
mod error;
pub mod hash_key;
mod leases;
pub mod node;
pub mod observe;
pub mod orders;
pub mod pace;
pub mod privileges;
pub mod publication;
pub mod said;

pub use error::RunError;
use node::Node;
use observe::{Behind, Listed, Shared};
use orders::{Order, Waiting};
use pace::Pace;
use publication::{Made, Moment, Publication};
use said::Said;

/// How often workers' events are read and their pulse is felt.
const LOOK: Duration = Duration::from_millis(10);

/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Changes of the view that wait; a source waits when there are more.
const CHANGES: usize = 16;

/// What `run` is told beside the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of what outlives the process.
    pub state: PathBuf,
}

/// Serves until SIGTERM or SIGINT, then takes everything away.
///
/// # Errors
/// Whatever stands in the way; everything that was made is taken away then too.
pub async fn run(config: Config, options: Options) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let asked_to_end = async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    privileges::check()?;
    privileges::raise_open_files();
    let key = hash_key::read_or_random(&config)?;
    let secrets = secrets::read_or_random(&config)?;
    let folder = state_folder(&options);
    let store = store(&config, folder);
    let claims = store.as_ref().map(FileStore::load).transpose()?.unwrap_or_default();
    let drains_file = folder.map(|folder| drains::File { path: folder.join("drains.json") });
    let drains = drains_file.as_ref().map(drains::File::load).transpose()?.unwrap_or_default();
    let leases = leases::open(&config, folder)?;
    // Before anything is made or taken over: what a second sluice would take for left behind is the first one's.
    let _alone = alone::alone()?;
    let kernel = netlink::follow::follow().await?;
    let socket = Socket::open(&config.api.socket).await?;
    let first = kernel.borrow().clone();
    let node = Node::begin(netlink::connect()?, &config, &first).await?;
    let mut publication = Publication::new(config.clone(), key, claims);
    publication.drains = drains;
    let prober = begin(clock().0, config.health.parallel);
    let mut machine = Machine {
        ejections: Ejections::new(config.health.passive),
        config,
        node,
        kernel,
        publication,
        store,
        drains_file,
        prober,
        secrets,
        waiting: Vec::new(),
        desk: leases.as_ref().map(|(desk, _)| Arc::clone(desk)),
        granted: Vec::new(),
        dataplane: Shared::default(),
        half_told: false,
        said: Said::default(),
    };
    let token = leases.and_then(|(_, token)| token);
    let ended = machine.live(socket, token, asked_to_end).await;
    machine.end(ended.is_ok()).await;
    ended
}

/// Who has this number: handshakes are TCP's.
fn backend_key(tables: &Tables, number: u32) -> Option<BackendKey> {
    let backend = tables.backend(number)?;
    Some(BackendKey { address: (backend.ip, backend.port).into(), protocol: Protocol::Tcp })
}

/// The folder of what outlives the process, if it can be had.
fn state_folder(options: &Options) -> Option<&Path> {
    let folder = options.state.as_path();
    match std::fs::create_dir_all(folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "drains, and claims of VIPs without vip.store, end with this process");
            None
        }
    }
}

/// Where claims are kept.
fn store(config: &Config, folder: Option<&Path>) -> Option<FileStore> {
    let path = config.vip.store.clone().or_else(|| Some(folder?.join("claims.json")))?;
    Some(FileStore { path })
}

/// Listings that came since the last publication.
#[derive(Debug, Default)]
struct Heard {
    /// When the first of them came.
    first: Option<Instant>,
    /// Whose they are.
    sources: Vec<usize>,
    /// When the first word of Mesos came.
    mesos: Option<Instant>,
}

impl Heard {
    fn note(&mut self, change: &Event) {
        match change {
            Event::Marathon { source, .. } => {
                self.sources.push(*source);
                self.first.get_or_insert_with(Instant::now);
            }
            Event::Mesos { .. } => drop(self.mesos.get_or_insert_with(Instant::now)),
            Event::MesosLost | Event::Hosts(_) | Event::Overlay(_) => {}
        }
    }
}

/// The sources, followed.
struct Followed {
    changes: mpsc::Receiver<Event>,
    sources: JoinSet<Result<(), StartError>>,
    /// One of each Marathon.
    statuses: Vec<watch::Receiver<Status>>,
    listed: Listed,
    mesos: Option<watch::Receiver<Seen>>,
}

/// A Sluice that runs.
struct Machine {
    config: Config,
    node: Node,
    kernel: watch::Receiver<Inventory>,
    publication: Publication,
    store: Option<FileStore>,
    drains_file: Option<drains::File>,
    prober: Prober,
    /// What DNS cookies are made with.
    secrets: Vec<secrets::Secret>,
    /// What the packet path saw fail.
    ejections: Ejections,
    /// Orders that were taken, and are answered once their tables are published.
    waiting: Vec<Waiting>,
    /// Who has which place in the overlay, where that is given here.
    desk: Option<lease::desk::Shared>,
    /// The same of wishes for a place.
    granted: Vec<leases::Granted>,
    dataplane: Shared,
    /// Whether a kernel program may lack addresses of the tables that were made last.
    half_told: bool,
    said: Said,
}

impl Machine {
    async fn live(
        &mut self,
        socket: Socket,
        token: Option<Token>,
        asked_to_end: impl Future<Output = &'static str>,
    ) -> Result<(), RunError> {
        // The host port's addresses and neighbours are in the kernel's listing only now.
        self.kernel = netlink::follow::follow().await?;
        let started = Instant::now();
        let made = self.make()?;
        if let Some(tables) = &made.tables? {
            let launched = block_in_place(|| launch(&self.config, tables))?;
            launched.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
            *self.dataplane.lock().unwrap_or_else(PoisonError::into_inner) = Some(launched);
            self.settle(tables).await?;
        }
        let Followed { mut changes, mut sources, statuses, listed, mesos } = self.follow_sources();
        let (order, mut orders) = mpsc::channel(CHANGES);
        let totals = Arc::clone(&self.prober.totals);
        let (wish, mut wishes) = mpsc::channel(CHANGES);
        let leases = self.desk.clone().map(|desk| LeaseOffice { desk, orders: wish, token });
        let behind = Behind { statuses, listed: Arc::clone(&listed), mesos, totals, orders: order, leases };
        let observed = observe::observed(&self.config, &self.dataplane, behind);
        self.attend();
        self.said.unserved(&made.report);
        if let Some(tables) = self.publication.tables() {
            self.said.published(tables, made.report, &observed, started);
        }
        self.save();
        let _socket = socket.serve(Arc::clone(&observed));
        if let Some(listen) = self.config.api.listen {
            serve_tcp(listen, Arc::clone(&observed)).await?;
        }
        let servers = self.config.dns.all_addresses().map(|ip| (ip, crate::dns::PORT).into()).collect();
        let tables = Arc::clone(&observed);
        let latest: crate::dns::Latest = Arc::new(move || tables.published().map(|published| published.tables));
        let forwarder = observed.forwarder.clone();
        let names = crate::dns::Names { latest, statistics: Arc::clone(&observed.names), forwarder };
        let _names = crate::dns::serve(servers, &names);
        tracing::info!(workers = observed.workers.len(), ports = observed.ports.len(), "sluice serves");
        self.follow((&mut changes, &mut orders, &mut wishes), &mut sources, &listed, &observed, asked_to_end).await
    }

    /// The loop: what changed is gathered, and published a moment after the first of it.
    async fn follow(
        &mut self,
        (changes, orders, wishes): (
            &mut mpsc::Receiver<Event>,
            &mut mpsc::Receiver<Order>,
            &mut mpsc::Receiver<lease::desk::Order>,
        ),
        sources: &mut JoinSet<Result<(), StartError>>,
        listed: &Listed,
        observed: &Observed,
        asked_to_end: impl Future<Output = &'static str>,
    ) -> Result<(), RunError> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Pace::new(Instant::now());
        let mut heard = Heard::default();
        tokio::pin!(asked_to_end);
        loop {
            let due = pace.due().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                name = &mut asked_to_end => {
                    tracing::info!(signal = name, "ending");
                    return Ok(());
                }
                Some(change) = changes.recv() => {
                    heard.note(&change);
                    self.publication.view.apply(change);
                    pace.changed(Instant::now());
                }
                Some(order) = orders.recv() => {
                    self.obey(order);
                    pace.urgent(Instant::now());
                }
                Some(wish) = wishes.recv() => {
                    if self.grant(wish) {
                        pace.changed(Instant::now());
                    }
                }
                Ok(()) = self.prober.standings.changed() => {
                    self.publication.view.health.probes = Arc::clone(&self.prober.standings.borrow_and_update());
                    pace.changed(Instant::now());
                }
                changed = self.kernel.changed() => {
                    changed.map_err(|_| RunError::NetlinkEnded)?;
                    if let Some(name) = self.node.gone(&self.kernel.borrow_and_update()) {
                        return Err(RunError::InterfaceGone(name));
                    }
                    pace.changed(Instant::now());
                }
                Some(ended) = sources.join_next() => {
                    ended.map_err(RunError::SourceDied)??;
                }
                _ = look.tick() => {
                    self.look(observed)?;
                    if self.node.asked() | self.is_overdue() {
                        pace.changed(Instant::now());
                    }
                }
                () = sleep_until(due), if pace.due().is_some() => {
                    pace.begun();
                    let published = self.publish(observed, std::mem::take(&mut heard), listed).await;
                    self.answer();
                    self.answer_leases();
                    let names_wait = self.publication.names_wait();
                    pace.done(Instant::now(), published && names_wait);
                    if !published {
                        pace.again(Instant::now() + AGAIN);
                        if names_wait {
                            pace.changed(Instant::now());
                        }
                    }
                }
            }
        }
    }

    /// Reads what workers say, and whether they live.
    fn look(&mut self, observed: &Observed) -> Result<(), RunError> {
        observed.pulse.look(&observed.workers);
        observed.rate.look(names::queries(&observed.workers, &observed.names), std::time::Instant::now());
        let dataplane = self.dataplane.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = dataplane.as_ref() else { return Ok(()) };
        let now = std::time::Instant::now();
        let tables = self.publication.tables();
        for (_, event) in running.drain_events() {
            match event {
                Told::Handshake { backend, seen } => {
                    // Tables made since then know it still: a number rests before it is another backend's.
                    let key = tables.and_then(|tables| backend_key(tables, backend));
                    if let Some(key) = key {
                        self.ejections.take(key, seen, clock());
                    }
                }
                Told::NextHopUnresolved { .. } | Told::NeighbourAsked { .. } => self.node.heard(event, now),
            }
        }
        if running.alive() { Ok(()) } else { Err(RunError::WorkerDied) }
    }

    /// Publishes what is known; `false` when something of it is to be tried again.
    async fn publish(&mut self, observed: &Observed, heard: Heard, listed: &Listed) -> bool {
        let done = match self.try_publish(observed, heard, listed).await {
            Ok(()) if self.half_told => false,
            Ok(()) => {
                self.said.content();
                true
            }
            Err(error) => {
                observed.note_error();
                self.said.complain(error.to_string());
                false
            }
        };
        self.save() && done
    }

    async fn try_publish(&mut self, observed: &Observed, heard: Heard, listed: &Listed) -> Result<(), RunError> {
        let started = Instant::now();
        let made = self.make()?;
        self.said.unserved(&made.report);
        observed.note_report(Arc::clone(&made.report));
        let is_new = made.tables?.is_some();
        let Some(tables) = self.publication.tables().map(Arc::clone) else { return Ok(()) };
        if is_new || self.half_told {
            self.hand_over(&tables);
            self.attend();
            self.said.published(&tables, made.report, observed, started);
        }
        if self.publication.knows_overlay() {
            observed.complete_map();
        }
        block_in_place(|| self.publication.tidy());
        if let Some(first) = heard.first {
            observed.marathon_to_dataplane.observe(first.elapsed());
            let now = heard.sources.into_iter().map(|source| (source, std::time::Instant::now()));
            listed.lock().unwrap_or_else(PoisonError::into_inner).extend(now);
        }
        if let Some(first) = heard.mesos {
            observed.mesos_to_dataplane.observe(first.elapsed());
        }
        Ok(self.settle(&tables).await?)
    }

    /// Gives tables to the workers and the kernel programs.
    fn hand_over(&mut self, tables: &Arc<Tables>) {
        let mut dataplane = self.dataplane.lock().unwrap_or_else(PoisonError::into_inner);
        let told = dataplane.as_mut().map(|running: &mut Dataplane| block_in_place(|| running.publish(tables)));
        drop(dataplane);
        self.half_told = matches!(told, Some(Err(_)));
        if let Some(Err(error)) = told {
            tracing::warn!(%error, "the kernel program was not told of all addresses; it is tried again");
        }
    }

    async fn settle(&mut self, tables: &Tables) -> Result<(), NetlinkError> {
        if self.publication.is_complete() {
            self.node.complete();
        }
        let kernel = self.kernel.borrow().clone();
        self.node.settle(tables, &kernel).await
    }

    fn make(&mut self) -> Result<Made, RunError> {
        self.lease_out();
        let mut local = self.node.local(&self.kernel.borrow_and_update())?;
        local.dns.cookie_secrets.clone_from(&self.secrets);
        let moment = Moment { monotonic: clock(), unix_seconds: unix_seconds() };
        Ok(block_in_place(|| self.publication.make(local, moment)))
    }

    /// Saves claims and drains that changed; `false` when that failed.
    fn save(&mut self) -> bool {
        self.save_drains() & self.save_claims()
    }

    fn save_claims(&mut self) -> bool {
        let (Some(store), Some(claims)) = (&self.store, self.publication.unsaved()) else { return true };
        match block_in_place(|| store.save(claims)) {
            Ok(()) => self.publication.saved(),
            Err(error) => tracing::warn!(%error, "addresses of named VIPs were not saved; it is tried again"),
        }
        self.publication.unsaved().is_none()
    }

    fn follow_sources(&self) -> Followed {
        let (sender, changes) = mpsc::channel(CHANGES);
        let mut sources = JoinSet::new();
        let mut statuses = Vec::new();
        for (source, marathon) in self.config.marathons.iter().cloned().enumerate() {
            let (status, seen) = watch::channel(Status::default());
            statuses.push(seen);
            let sender = sender.clone();
            let seed = clock().0.wrapping_add(source as u64);
            let settings = shell::Settings { seed, ..shell::Settings::default() };
            sources.spawn(async move { shell::follow(source, &marathon, settings, sender, status).await });
        }
        let mesos = self.config.mesos.clone().map(|mesos| {
            let (status, seen) = watch::channel(Seen::default());
            let overlay = self.config.overlay.is_some();
            let settings = mesos::shell::Settings { seed: clock().0, overlay, ..mesos::shell::Settings::default() };
            sources.spawn(async move { mesos::shell::follow(&mesos, settings, sender, status).await });
            seen
        });
        Followed { changes, sources, statuses, listed: Listed::new(BTreeMap::new().into()), mesos }
    }

    /// Takes everything away: the programs first, so that nothing is taken from the wire that nobody serves.
    async fn end(mut self, as_asked: bool) {
        self.save();
        let running = self.dataplane.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            block_in_place(|| running.stop());
        }
        match self.node.end().await {
            Ok(()) if as_asked => tracing::info!("ended; the node is as it was"),
            Ok(()) => tracing::warn!("failed; what was made on this node is taken away again"),
            Err(error) => tracing::warn!(%error, "something of ours is left in the kernel; the next start replaces it"),
        }
    }
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
