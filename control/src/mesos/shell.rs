//! The I/O around [`Follow`]: tasks that read the event stream, ask for whole states and watch ZooKeeper, and a loop that
//! feeds the state machine.
//!
//! Everything that is decided is decided there; here is only waiting. What Mesos says comes out as [`Event`]s of the view.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use sluice_config::model::{Masters, Mesos};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::facts::{Endpoint, Facts};
use super::follow::{Attempt, Command, Follow, Input, Pace, Status};
use super::overlay::{self, OverlaySeen, Whom};
use super::state;
use super::stream;
use super::zookeeper::{self, Members, News};
use crate::marathon::complaints::Complaints;
use crate::marathon::fetch::{Fetch, Section};
use crate::marathon::fetch_error::{FetchError, StartError};
use crate::marathon::hosts::{self, Resolve};
use crate::running::Running;
use crate::view::Event;

/// Inputs that wait; a reader of the stream waits when there are more.
const INPUTS: usize = 64;

const SECTION: Section = Section { name: "[mesos]", hosts: "masters", limit: "[mesos] state_octets" };

/// What does not come from the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seed of the jitter.
    pub seed: u64,
    /// How names become addresses.
    pub resolve: Resolve,
    /// Whether the overlay module is asked too.
    pub overlay: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 0, resolve: hosts::resolve, overlay: false }
    }
}

/// How it goes, for people.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Counters and the last error.
    pub status: Status,
    /// When Mesos said something last.
    pub heard: Option<std::time::Instant>,
    /// The overlay module, where it is asked.
    pub overlay: Option<OverlaySeen>,
}

/// A whole state that did not come.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    State(#[from] state::StateError),
    #[error("/state: not known here: is this a Mesos master?")]
    Missing,
    #[error("reading the answer was interrupted")]
    Interrupted,
}

/// Follows Mesos until the receiver of `events` is gone or this future is dropped.
///
/// # Errors
/// When the configuration cannot be used; never for what Mesos does.
pub async fn follow(
    mesos: &Mesos,
    settings: Settings,
    events: mpsc::Sender<Event>,
    seen: watch::Sender<Seen>,
) -> Result<(), StartError> {
    let (inputs, mut received) = mpsc::channel(INPUTS);
    let (names, wanted) = watch::channel(BTreeSet::new());
    let _hosts = Running::spawn(hosts::follow(wanted, settings.resolve, events.clone()));
    let (news, mut heard) = mpsc::channel(4);
    let pace = Pace {
        refresh: Duration::from_secs(mesos.refresh_seconds),
        reregister: Duration::from_secs(mesos.reregister_seconds),
    };
    let (fetch, _zookeeper) = match &mesos.masters {
        Masters::Listed(urls) => {
            let members = urls.iter().filter_map(|url| Some((Endpoint::of_url(url)?, url.clone())));
            // The receiver is in this function.
            let _ = news.send(News::Masters(members.collect())).await;
            (Fetch::of(SECTION, urls, &mesos.access, false)?, None)
        }
        Masters::ZooKeeper { zk, https } => {
            let fetch = Fetch::of(SECTION, &[], &mesos.access, *https)?;
            (fetch, Some(Running::spawn(zookeeper::follow(zk.clone(), *https, settings.seed, news.clone()))))
        }
    };
    let (overlay_seen, mut of_overlay) = watch::channel(OverlaySeen::default());
    let (whom, asked) = watch::channel(None);
    let _overlay = settings.overlay.then(|| {
        let terms = overlay::Terms { refresh: pace.refresh, limit: mesos.state_octets, seed: settings.seed };
        Running::spawn(overlay::follow(asked, terms, events.clone(), overlay_seen))
    });
    let mut shell = Shell {
        machine: Follow::new(pace, settings.seed),
        fetch: Arc::new(fetch),
        limit: mesos.state_octets,
        members: Members::new(),
        names,
        whom,
        agents: BTreeSet::new(),
        complaints: Complaints::default(),
        inputs,
        events,
        stream: None,
        list: None,
    };
    let start = Instant::now();
    let mut input = Input::Tick;
    loop {
        let now = start.elapsed();
        let before = shell.machine.status();
        let commands = shell.machine.step(now, input);
        shell.log(now, &before);
        for command in commands {
            if shell.perform(command).await.is_err() {
                return Ok(());
            }
        }
        let status = shell.machine.status();
        let last = status.heard_at.map(|at| (start + at).into_std());
        shell.point_overlay(&status);
        let overlay = settings.overlay.then(|| of_overlay.borrow_and_update().clone());
        seen.send_replace(Seen { status, heard: last, overlay });
        // Never, in a machine that has nothing to wait for, is a day.
        let wake = shell.machine.wake_at().min(start.elapsed() + Duration::from_secs(86_400));
        input = tokio::select! {
            input = received.recv() => input.unwrap_or(Input::Tick),
            Some(news) = heard.recv() => shell.found(news)?,
            Ok(()) = of_overlay.changed() => Input::Tick,
            () = tokio::time::sleep_until(start + wake) => Input::Tick,
            () = shell.events.closed() => return Ok(()),
        };
    }
}

/// The receiver of events is gone.
struct Gone;

struct Shell {
    machine: Follow,
    fetch: Arc<Fetch>,
    /// Longest answer, octets.
    limit: usize,
    /// Who the masters are, the leading one first where ZooKeeper says it.
    members: Members,
    names: watch::Sender<BTreeSet<String>>,
    /// Whom the overlay module is asked of.
    whom: watch::Sender<Option<Whom>>,
    /// Agents that were made known last.
    agents: BTreeSet<String>,
    complaints: Complaints,
    inputs: mpsc::Sender<Input>,
    events: mpsc::Sender<Event>,
    stream: Option<Running>,
    list: Option<Running>,
}

impl Shell {
    /// Masters were found, or not.
    fn found(&mut self, news: News) -> Result<Input, StartError> {
        let members = match news {
            News::Masters(members) => members,
            News::Failed(error) => return Ok(Input::NoMasters(error)),
        };
        let urls: Vec<String> = members.iter().map(|(_, url)| url.clone()).collect();
        let moved = self.members.first().map(|(_, url)| url) != urls.first();
        self.fetch = Arc::new(self.fetch.with_urls(&urls)?);
        let masters = members.iter().map(|(master, _)| master.clone()).collect();
        self.members = members;
        Ok(Input::Masters { masters, urls: urls.len(), moved })
    }

    /// The overlay module of who leads, once that is known; asked anew when others lead, or other agents are there.
    fn point_overlay(&self, status: &Status) {
        if status.published == 0 {
            return;
        }
        let leads = |leader| self.members.iter().position(|(member, _)| member == leader);
        let url = status.leader.as_ref().and_then(leads).unwrap_or(status.url);
        let mut agents = DefaultHasher::new();
        self.agents.hash(&mut agents);
        let whom = Whom { fetch: self.fetch.clone(), url, round: agents.finish() };
        self.whom.send_if_modified(|before| {
            let is_new = !before.as_ref().is_some_and(|before| before.is(&whom));
            *before = Some(whom);
            is_new
        });
    }

    async fn perform(&mut self, command: Command) -> Result<(), Gone> {
        match command {
            Command::OpenStream(attempt, url) => {
                let (fetch, inputs, limit) = (self.fetch.clone(), self.inputs.clone(), self.limit);
                self.stream = Some(Running::spawn(async move {
                    if let Err(error) = stream::read(&fetch, url, limit, attempt, &inputs).await {
                        let _ = inputs.send(Input::StreamEnded(attempt, error.to_string())).await;
                    }
                }));
            }
            Command::CloseStream => self.stream = None,
            Command::List(attempt, url) => self.list = Some(self.list(attempt, url)),
            Command::AbandonList => self.list = None,
            Command::Publish(facts, streaming) => {
                let names = facts.host_names();
                self.agents = facts.agents.keys().cloned().collect();
                self.events.send(Event::Mesos { facts, streaming }).await.map_err(|_| Gone)?;
                self.names.send_if_modified(|before| std::mem::replace(before, names) != *before);
            }
            Command::Lost => self.events.send(Event::MesosLost).await.map_err(|_| Gone)?,
        }
        Ok(())
    }

    fn list(&self, attempt: Attempt, url: usize) -> Running {
        let (fetch, inputs, limit) = (self.fetch.clone(), self.inputs.clone(), self.limit);
        Running::spawn(async move {
            let input = match list(&fetch, url, limit).await {
                Ok(facts) => Input::Listed(attempt, Box::new(facts)),
                Err(error) => Input::ListFailed(attempt, error.to_string()),
            };
            let _ = inputs.send(input).await;
        })
    }

    /// What a step changed that people should know.
    fn log(&mut self, now: Duration, before: &Status) {
        let after = self.machine.status();
        let url = self.fetch.url(before.url);
        match &after.error {
            Some((at, error)) if *at == now && self.complaints.is_due(now, error) => {
                tracing::warn!(url, error, "mesos");
            }
            None if after.streaming && self.complaints.recovered() => tracing::info!(url, "mesos answers again"),
            Some(_) | None => {}
        }
        if after.held > before.held {
            let agents = after.waiting;
            tracing::warn!(agents, "another mesos master leads: tasks of agents that it has not heard from are kept");
        }
        if after.waiting == 0 && before.waiting > 0 {
            tracing::info!("no agent is waited for any more");
        }
    }
}

async fn list(fetch: &Fetch, url: usize, limit: usize) -> Result<Facts, ListError> {
    let mut body = fetch.get(url, "/state", limit).await?;
    if body.is_none() {
        body = fetch.get(url, "/master/state", limit).await?;
    }
    let body = body.ok_or(ListError::Missing)?;
    // A hundred megabytes of JSON take a second: not on a thread that others wait for.
    let read = tokio::task::spawn_blocking(move || state::read_leading(&body));
    Ok(read.await.map_err(|_| ListError::Interrupted)??)
}

#[cfg(test)]
mod tests;
