//! A Mesos master over the lab: `/state`, the operator API with its event stream, and the overlay module's word, fed by
//! the lab's Marathons, which tell it what they run (`/lab/mesos`).
//!
//! As Mesos's, a master that has just begun to lead knows its agents of its registry only ("recovered"), and their tasks as
//! they register again, one after the other within `reregister`. A standby sends whoever asks to the leader by a 307.
//! Absent: everything that changes something, authentication, offers, completed and unreachable tasks, JSONP.

mod agent;
mod api;
mod book;
mod overlay;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::net::TcpListener;

use crate::http;
use crate::state::LabState;
use crate::topology::Topology;
use book::Book;

/// How often it looks whether an agent's time to register has come.
const LOOK: Duration = Duration::from_millis(20);
/// A Marathon that does not answer is asked again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// What one master is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Marathons' APIs.
    pub marathons: Vec<SocketAddr>,
    /// The master that leads, where this one does not.
    pub leader: Option<SocketAddr>,
    /// The time in which all agents register.
    pub reregister: Duration,
    /// Between two heartbeats of an event stream.
    pub heartbeat: Duration,
    /// Whose overlay it tells of; the agents' own API is in that lab.
    pub lab: Option<(LabState, Topology)>,
}

/// A running master; dropping it ends the API and every event stream.
#[derive(Debug)]
pub struct Master {
    address: SocketAddr,
    jobs: Vec<tokio::task::JoinHandle<()>>,
}

/// What requests, Marathons and registrations share.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    settings: Settings,
    book: Mutex<Book>,
}

impl Master {
    /// Serves the API on a listener until dropped.
    pub fn start(listener: TcpListener, settings: Settings) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { address, book: Mutex::new(Book::new(id(address))), settings });
        let agents = shared.settings.lab.as_ref().filter(|_| shared.settings.leader.is_none());
        let agents = agents.map_or(Ok(Vec::new()), |(state, topology)| agent::serve_all(state, topology))?;
        let feeds = shared.settings.marathons.iter().map(|marathon| tokio::spawn(feed(shared.clone(), *marathon)));
        let mut jobs: Vec<_> = feeds.chain(agents).collect();
        jobs.push(tokio::spawn(register(shared.clone())));
        jobs.push(tokio::spawn(beat(shared.clone())));
        jobs.push(tokio::spawn(api::serve(listener, shared)));
        Ok(Self { address, jobs })
    }

    /// Where the API is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.jobs.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Shared {
    /// Looks at or changes the book; nothing inside may wait or take this lock again.
    fn with<R>(&self, look: impl FnOnce(&mut Book) -> R) -> R {
        look(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Another one for each master that begins to lead.
fn id(address: SocketAddr) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("1ab00000-0000-4000-8000-{:012x}-{}", since & 0xffff_ffff_ffff, address.port())
}

/// Takes in what a Marathon runs, again whenever that has changed.
async fn feed(shared: Arc<Shared>, marathon: SocketAddr) {
    let mut version = String::new();
    loop {
        let path = format!("/lab/mesos?after={version}");
        let asked = tokio::task::spawn_blocking(move || http::request("GET", marathon, &path, "")).await;
        let body = asked.ok().and_then(Result::ok).filter(|answer| answer.status == 200).map(|answer| answer.body);
        match body.and_then(|body| serde_json::from_str::<Value>(&body).ok()) {
            Some(told) => {
                version = told.get("version").and_then(Value::as_str).unwrap_or_default().to_owned();
                shared.with(|book| book.hear(told.get("known").unwrap_or(&Value::Null)));
            }
            None => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn register(shared: Arc<Shared>) {
    let begun = Instant::now();
    loop {
        let all = shared.settings.reregister;
        let part = if all.is_zero() { 1.0 } else { begun.elapsed().as_secs_f64() / all.as_secs_f64() };
        shared.with(|book| book.register(part));
        tokio::time::sleep(LOOK).await;
    }
}

async fn beat(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.settings.heartbeat).await;
        shared.with(Book::beat);
    }
}
