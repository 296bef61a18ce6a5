//! Marathon's API over the lab: enough of it, and true enough, that a client written for Marathon cannot tell.
//!
//! Requests change definitions; the engine brings the tasks to what they say; every task is a set of real processes.
//! Absent: leader election (this one always leads, again as soon as it has abdicated), queue and plugin endpoints,
//! callbacks, volumes, dependencies (kept, not waited for), readiness checks (never made: they pass when the task is healthy), an app's rollback by version.

mod agents;
mod api;
mod changes;
mod clock;
mod convert;
mod definition;
mod draft;
mod edit;
mod engine;
mod error;
mod events;
mod groups;
mod health;
mod launch;
mod mesos;
mod notices;
mod paths;
mod placement;
mod plan;
mod render;
mod rules;
mod run;
mod service_ports;
mod spec;
mod state;
mod types;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

pub use definition::Dialect;

use crate::state::LabState;
use crate::topology::Topology;

/// jetty's default.
const HEARTBEAT: Duration = Duration::from_secs(10);
const STARTS_AT_ONCE: usize = 8;

/// What one emulator is.
#[derive(Debug, Clone)]
pub struct Settings {
    pub framework: String,
    pub dialect: Dialect,
    /// Claims, logs and sandboxes go to this lab's folder.
    pub state: LabState,
    /// The agents that tasks run on; none: one agent on the loopback address.
    pub topology: Option<Topology>,
    /// The `sluice-lab` binary: what runs in place of an image.
    pub program: PathBuf,
}

/// A running emulator; [`Emulator::stop`] or dropping it ends the API, [`LabState::remove`] the tasks.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    marathon: Arc<Marathon>,
    jobs: Vec<tokio::task::JoinHandle<()>>,
}

impl Emulator {
    /// Serves the API on a listener until dropped.
    pub fn start(listener: TcpListener, settings: Settings) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let marathon = Arc::new(Marathon::new(settings, address));
        let jobs = vec![
            tokio::spawn(engine::run_engine(marathon.clone())),
            tokio::spawn(beat(marathon.clone())),
            tokio::spawn(api::serve(listener, marathon.clone())),
        ];
        Ok(Self { address, marathon, jobs })
    }

    /// Where the API is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the API and every event stream, and comes back when no task is being started any more.
    ///
    /// A runtime that shuts down fails a start whose process exists already (tokio registers for SIGCHLD after the fork):
    /// nobody would know its pid.
    pub async fn stop(self) {
        let starting = &self.marathon.starting;
        starting.close();
        while starting.available_permits() < STARTS_AT_ONCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.jobs.iter().for_each(tokio::task::JoinHandle::abort);
        self.marathon.events.close();
    }
}

async fn beat(marathon: Arc<Marathon>) {
    let mut interval = tokio::time::interval(HEARTBEAT);
    loop {
        interval.tick().await;
        marathon.events.heartbeat();
    }
}

/// Everything that requests, the engine and the tasks share.
#[derive(Debug)]
pub(crate) struct Marathon {
    framework: String,
    dialect: Dialect,
    address: SocketAddr,
    program: PathBuf,
    agents: Arc<agents::Agents>,
    events: events::EventBus,
    clock: clock::Clock,
    state: Mutex<state::State>,
    changed: Notify,
    /// Tasks that are being started at once: each runs `ip` and `nft` a few times.
    starting: Semaphore,
}

impl Marathon {
    fn new(settings: Settings, address: SocketAddr) -> Self {
        let node = u64::from(std::process::id()) << 16 | u64::from(address.port());
        Self {
            framework: settings.framework,
            dialect: settings.dialect,
            address,
            program: settings.program,
            agents: Arc::new(agents::Agents::new(settings.state, settings.topology)),
            events: events::EventBus::default(),
            clock: clock::Clock::new(node),
            state: Mutex::new(state::State::new(render::no_groups())),
            changed: Notify::new(),
            starting: Semaphore::new(STARTS_AT_ONCE),
        }
    }

    /// Looks at or changes the state; nothing inside may wait or take this lock again.
    fn with<R>(&self, look: impl FnOnce(&mut state::State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the engine look at once.
    fn wake(&self) {
        self.changed.notify_one();
    }

    /// Ends every stream of events, as a leader does that stands down; this one leads again at once.
    fn abdicate(&self) {
        self.events.close();
    }

    fn kill(&self, instance: &str) {
        self.with(|state| engine::ask_to_end(state, instance));
        self.wake();
    }
}
