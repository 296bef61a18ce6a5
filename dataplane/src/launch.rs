//! Brings the packet path up on real interfaces, and down again.
//!
//! Contract: [`launch`] takes every configured queue or says what to change, and leaves nothing behind when it fails.
//! One thread per worker, `sluice-w0` onwards; worker i polls the i-th queue of every port and queue i of the host
//! port. The programs are attached last, when every socket has its worker, and detached first. [`Dataplane::stop`] and
//! dropping it do the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_config::model::{Config, Gateway, Host};

use self::open::{Line, Parts, check_cores, lines, open, worker_count};
use crate::counters::Counters;
use crate::event::{Event, Events, events};
use crate::family::Flows;
use crate::idle;
use crate::io::steer::{Pass, Steer, SteerError, SteerStatistics};
use crate::io::xsk::{XskPort, XskStatistics};
use crate::mailbox::{Mailbox, Publisher};
use crate::tables::Tables;
use crate::wake::Waker;
use crate::worker::{Ends, Setup, Worker, mesh};

pub use self::error::LaunchError;

mod error;
mod open;

/// How long [`Dataplane::publish`] waits for workers to take new tables before the kernel program is told.
const TAKE_TRIES: u32 = 200;
const TAKE_PAUSE: Duration = Duration::from_micros(100);

/// What the kernel counts for one port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortStatistics {
    /// Interface.
    pub interface: String,
    /// Its program; `None` if the kernel does not say.
    pub steer: Option<SteerStatistics>,
    /// Its sockets by worker; zeros if the kernel does not say.
    pub sockets: Vec<XskStatistics>,
}

/// The running packet path.
pub struct Dataplane {
    lines: Vec<Line>,
    pass: Option<Pass>,
    warnings: Vec<String>,
    publisher: Publisher,
    mailboxes: Vec<Mailbox>,
    wakers: Vec<Arc<Waker>>,
    counters: Vec<Arc<Counters>>,
    flows: Vec<Arc<Flows>>,
    events: Vec<Events>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Brings the packet path up with these tables.
///
/// # Errors
/// Whatever stands in the way, each with what to change; everything taken so far is given back.
pub fn launch(config: &Config, tables: &Arc<Tables>) -> Result<Dataplane, LaunchError> {
    let workers = worker_count(&config.ports)?;
    check_cores(&config.workers.cores, workers)?;
    let mut lines = lines(config, workers)?;
    let mut parts = open(config, &mut lines, workers)?;
    let wakers = wakers(workers)?;
    let mailboxes: Vec<Mailbox> = (0..workers).map(|_| Mailbox::default()).collect();
    let mut dataplane = Dataplane {
        pass: None,
        warnings: Vec::new(),
        publisher: Publisher::new(mailboxes.clone()),
        mailboxes,
        counters: counters(config, lines.len(), workers),
        flows: flows(config, tables, workers),
        events: (0..workers).map(|_| events()).collect(),
        stop: Arc::default(),
        threads: Vec::new(),
        lines,
        wakers,
    };
    dataplane.publisher.publish(tables);
    let packet_bytes = parts.first().map_or(0, |(pool, _)| pool.packet_bytes());
    let mesh = mesh(&dataplane.wakers, config.limits.handover, packet_bytes);
    for (id, (parts, ends)) in parts.drain(..).zip(mesh).enumerate() {
        let setup = dataplane.setup(id, parts, ends);
        dataplane.spawn(id, Worker::new(setup), config)?;
    }
    dataplane.attach(config.host.as_ref(), tables)?;
    Ok(dataplane)
}

impl Dataplane {
    /// Publishes tables. Addresses that they no longer have go back to the kernel before, and new ones are taken after
    /// every worker has the tables, so that no packet meets tables that do not know it.
    ///
    /// # Errors
    /// When a kernel program could not be told; the tables are published all the same.
    pub fn publish(&mut self, tables: &Arc<Tables>) -> Result<(), SteerError> {
        let steering = tables.steering();
        let withdrawn = self.steers().try_for_each(|s| s.withdraw(&steering));
        self.publisher.publish(tables);
        self.wake();
        self.await_taken();
        let admitted = self.steers().try_for_each(|s| s.admit(&steering));
        withdrawn.and(admitted)
    }

    /// Frees snapshots that every worker has let go (publishing does it too).
    pub fn collect(&mut self) {
        self.publisher.collect();
    }

    /// What each worker counts. `turns` is its heartbeat: it grows at least 100 times a second while the worker lives.
    #[must_use]
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Each worker's sessions.
    #[must_use]
    pub fn flows(&self) -> &[Arc<Flows>] {
        &self.flows
    }

    /// What workers reported since the last call, with the worker's number.
    pub fn drain_events(&self) -> impl Iterator<Item = (usize, Event)> + '_ {
        let of = |(worker, events): (usize, &'_ Events)| {
            let events = Arc::clone(events);
            std::iter::from_fn(move || events.pop()).map(move |event| (worker, event))
        };
        self.events.iter().enumerate().flat_map(of)
    }

    /// What the kernel counts, by port, the host port last.
    #[must_use]
    pub fn statistics(&self) -> Vec<PortStatistics> {
        let of = |line: &Line| PortStatistics {
            interface: line.interface.clone(),
            steer: line.steer.statistics().ok(),
            sockets: line.gauges.iter().map(|g| g.statistics().unwrap_or_default()).collect(),
        };
        self.lines.iter().map(of).collect()
    }

    /// What did not work and does not matter much.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether every worker still runs; `false` once one has panicked.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.threads.is_empty() && !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Detaches the programs, lets the workers finish what they have, joins them and gives the queues back.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.steers().for_each(Steer::detach);
        self.pass = None;
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
        for thread in self.threads.drain(..) {
            // A worker that panicked has printed why, and its sockets are closed like the others'.
            let _ = thread.join();
        }
        // Gauges keep sockets open, and with them their queues.
        self.lines.clear();
    }

    fn setup(&self, id: usize, (pool, ports): Parts, (inboxes, outboxes): Ends) -> Setup<XskPort> {
        Setup {
            id: id as u8,
            ports,
            pool,
            mailbox: self.mailboxes[id].clone(),
            counters: Arc::clone(&self.counters[id]),
            events: Arc::clone(&self.events[id]),
            flows: Arc::clone(&self.flows[id]),
            inboxes,
            outboxes,
        }
    }

    fn spawn(&mut self, id: usize, mut worker: Worker<XskPort>, config: &Config) -> Result<(), LaunchError> {
        let (waker, stop) = (Arc::clone(&self.wakers[id]), Arc::clone(&self.stop));
        let (counters, idle) = (Arc::clone(&self.counters[id]), config.workers.idle);
        let core = config.workers.cores.get(id).map(|core| core_affinity::CoreId { id: *core });
        let run = move || {
            // `check_cores` saw the core; if it has gone offline since, the kernel places the thread.
            let _ = core.map(core_affinity::set_for_current);
            idle::run(&mut worker, idle, &waker, &stop, &counters.sleeps);
        };
        let thread = std::thread::Builder::new().name(format!("sluice-w{id}")).spawn(run);
        self.threads.push(thread.map_err(|source| LaunchError::Io { what: "worker thread", source })?);
        Ok(())
    }

    fn attach(&mut self, host: Option<&Host>, tables: &Tables) -> Result<(), LaunchError> {
        let steering = tables.steering();
        for line in &mut self.lines {
            line.steer.set(&steering)?;
            line.steer.attach(line.mode, line.mtu)?;
        }
        match host.map(|host| Pass::attach(&host.interface)).transpose() {
            Ok(pass) => self.pass = pass,
            Err(error) => self.warnings.push(format!("the host port will be slower: {error}")),
        }
        Ok(())
    }

    fn steers(&mut self) -> impl Iterator<Item = &mut Steer> {
        self.lines.iter_mut().map(|l| &mut l.steer)
    }

    fn wake(&self) {
        for waker in &self.wakers {
            waker.wake();
        }
    }

    fn await_taken(&self) {
        for _ in 0..TAKE_TRIES {
            if self.mailboxes.iter().all(Mailbox::is_empty) {
                return;
            }
            std::thread::sleep(TAKE_PAUSE);
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn wakers(workers: usize) -> Result<Vec<Arc<Waker>>, LaunchError> {
    let waker = |_| Waker::new().map(Arc::new).map_err(|source| LaunchError::Io { what: "eventfd", source });
    (0..workers).map(waker).collect()
}

/// Numbers begin at 1, so arrays indexed by them are one longer than the limit.
fn counters(config: &Config, ports: usize, workers: usize) -> Vec<Arc<Counters>> {
    let (services, backends) = (config.limits.services + 1, config.limits.backends + 1);
    (0..workers).map(|_| Arc::new(Counters::new(ports, services, backends))).collect()
}

fn flows(config: &Config, tables: &Tables, workers: usize) -> Vec<Arc<Flows>> {
    let (key, limits) = (tables.desired.shared.hash_key, config.limits);
    // By the file: the first tables may lack a VTEP, whose address the node gets later.
    let masquerades = config.overlay.as_ref().is_some_and(|overlay| overlay.gateway == Gateway::Masqueraded);
    let most = if masquerades { limits.masquerade } else { 0 };
    // Numbers begin at 1, as of counters.
    let flows = || Flows::with_services(limits.sessions, key, limits.services + 1).masquerading(most, key);
    (0..workers).map(|_| Arc::new(flows())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panicked_is_noticed() {
        let dataplane = |thread: JoinHandle<()>| Dataplane {
            lines: Vec::new(),
            pass: None,
            warnings: Vec::new(),
            publisher: Publisher::default(),
            mailboxes: Vec::new(),
            wakers: Vec::new(),
            counters: Vec::new(),
            flows: Vec::new(),
            events: Vec::new(),
            stop: Arc::default(),
            threads: vec![thread],
        };
        let (release, held) = std::sync::mpsc::channel::<()>();
        let sound = dataplane(std::thread::spawn(move || assert!(held.recv().is_err())));
        assert!(sound.alive());
        drop(release);
        let broken = dataplane(std::thread::spawn(|| panic!("on purpose")));
        while broken.alive() {
            std::thread::yield_now();
        }
        broken.stop();
    }
}
