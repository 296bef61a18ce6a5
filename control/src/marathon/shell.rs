//! The I/O around [`Follow`]: tasks that read the event stream and fetch listings, and a loop that feeds the state machine.
//!
//! Everything that is decided is decided there; here is only waiting. What Marathon says comes out as [`Event`]s of the view;
//! a slow receiver slows the next listing down and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sluice_config::model::Marathon;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::complaints::Complaints;
use super::fetch::{Fetch, causes};
use super::fetch_error::{FetchError, StartError};
use super::follow::{Attempt, Command, Follow, Input, Status};
use super::hosts::{self, Resolve};
use super::payload::{self, Answers, BODY_OCTETS, PayloadError};
use super::sse::{Decoder, Endless, SseEvent};
use crate::running::Running;
use crate::view::{Event, Listing};

/// Apps with their tasks, the deployments that run, and what readiness checks say while one does.
const APPS: &str = "/v2/apps?embed=apps.tasks&embed=apps.deployments&embed=apps.readiness";
/// Longest `/v2/info`, octets.
const INFO_OCTETS: usize = 4 << 20;
/// Inputs that wait; a reader of the stream waits when there are more.
const INPUTS: usize = 256;

/// What does not come from the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest answer, octets.
    pub body_octets: usize,
    /// Seed of the jitter.
    pub seed: u64,
    /// How agents' names become addresses.
    pub resolve: Resolve,
}

impl Default for Settings {
    fn default() -> Self {
        Self { body_octets: BODY_OCTETS, seed: 0, resolve: hosts::resolve }
    }
}

/// A listing that did not come.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("{0}: not known here: is this a Marathon?")]
    Missing(&'static str),
    #[error("reading the answer was interrupted")]
    Interrupted,
}

/// A stream that ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Endless(#[from] Endless),
    #[error("the event stream was cut: {0}")]
    Cut(String),
    #[error("the event stream ended")]
    Ended,
}

/// Follows one Marathon until the receiver of `events` is gone or this future is dropped. Listings go out as
/// [`Event::Marathon`] of `source`, its index in the configuration.
///
/// # Errors
/// When the configuration cannot be used; never for what Marathon does.
pub async fn follow(
    source: usize,
    marathon: &Marathon,
    settings: Settings,
    events: mpsc::Sender<Event>,
    status: watch::Sender<Status>,
) -> Result<(), StartError> {
    let fetch = Arc::new(Fetch::new(marathon)?);
    let (inputs, mut received) = mpsc::channel(INPUTS);
    let (names, wanted) = watch::channel(BTreeSet::new());
    let _hosts = Running::spawn(hosts::follow(wanted, settings.resolve, events.clone()));
    let mut shell = Shell {
        source,
        settings,
        machine: Follow::new(fetch.urls(), settings.seed),
        fetch,
        names,
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
        status.send_replace(shell.machine.status());
        let wake = start + shell.machine.wake_at();
        input = tokio::select! {
            input = received.recv() => input.unwrap_or(Input::Tick),
            () = tokio::time::sleep_until(wake) => Input::Tick,
            () = shell.events.closed() => return Ok(()),
        };
    }
}

/// The receiver of events is gone.
struct Gone;

struct Shell {
    source: usize,
    settings: Settings,
    machine: Follow,
    fetch: Arc<Fetch>,
    names: watch::Sender<BTreeSet<String>>,
    complaints: Complaints,
    inputs: mpsc::Sender<Input>,
    events: mpsc::Sender<Event>,
    stream: Option<Running>,
    list: Option<Running>,
}

impl Shell {
    async fn perform(&mut self, command: Command) -> Result<(), Gone> {
        match command {
            Command::OpenStream(attempt, url) => {
                let (fetch, inputs) = (self.fetch.clone(), self.inputs.clone());
                self.stream = Some(Running::spawn(async move {
                    if let Err(error) = read_stream(&fetch, url, attempt, &inputs).await {
                        let _ = inputs.send(Input::StreamEnded(attempt, error.to_string())).await;
                    }
                }));
            }
            Command::CloseStream => self.stream = None,
            Command::List(attempt, url) => self.list = Some(self.list(attempt, url)),
            Command::AbandonList => self.list = None,
            Command::Publish(listing) => {
                let names = listing.host_names();
                let event = Event::Marathon { source: self.source, listing: *listing };
                self.events.send(event).await.map_err(|_| Gone)?;
                self.names.send_if_modified(|before| std::mem::replace(before, names) != *before);
            }
        }
        Ok(())
    }

    fn list(&self, attempt: Attempt, url: usize) -> Running {
        let (fetch, inputs, limit) = (self.fetch.clone(), self.inputs.clone(), self.settings.body_octets);
        Running::spawn(async move {
            let input = match list(&fetch, url, limit).await {
                Ok(listing) => Input::Listed(attempt, Box::new(listing)),
                Err(error) => Input::ListFailed(attempt, error.to_string()),
            };
            let _ = inputs.send(input).await;
        })
    }

    /// What a step changed that people should know.
    fn log(&mut self, now: Duration, before: &Status) {
        let after = self.machine.status();
        let url = self.fetch.url(before.url);
        let failed = after.list_errors + after.stream_errors > before.list_errors + before.stream_errors;
        match &after.error {
            Some((_, error)) if failed && self.complaints.is_due(now, error) => tracing::warn!(url, error, "marathon"),
            None if after.published > before.published && self.complaints.recovered() => {
                tracing::info!(url, "marathon answers again");
            }
            Some(_) | None => {}
        }
        if after.held > before.held {
            tracing::warn!(url, "more than half of marathon's running tasks are gone: kept until it goes on saying so");
        }
    }
}

/// Everything that one Marathon says. Each part must come whole, or the listing does not count; a Marathon before 1.4 has no
/// pods.
async fn list(fetch: &Fetch, url: usize, limit: usize) -> Result<Listing, ListError> {
    let (apps, pods, info) = tokio::try_join!(
        fetch.get(url, APPS, limit),
        fetch.get(url, "/v2/pods::status", limit),
        fetch.get(url, "/v2/info", INFO_OCTETS),
    )?;
    let apps = apps.ok_or(ListError::Missing("/v2/apps"))?;
    let read = move || {
        let answers = Answers { apps: &apps, pods: pods.as_deref(), info: info.as_deref(), tasks: None };
        payload::listing(answers)
    };
    // Sixty megabytes of JSON take most of a second: not on a thread that others wait for.
    Ok(tokio::task::spawn_blocking(read).await.map_err(|_| ListError::Interrupted)??)
}

async fn read_stream(
    fetch: &Fetch,
    url: usize,
    attempt: Attempt,
    inputs: &mpsc::Sender<Input>,
) -> Result<(), StreamError> {
    let mut response = fetch.stream(url).await?;
    let mut decoder = Decoder::default();
    if inputs.send(Input::StreamOpened(attempt)).await.is_err() {
        return Ok(());
    }
    // No time-out here: the state machine knows when a stream has been silent for too long.
    while let Some(part) = response.chunk().await.map_err(|e| StreamError::Cut(causes(&e.without_url())))? {
        let events = decoder.feed(&part)?;
        let hint = events.iter().any(SseEvent::is_hint);
        let ended = events.iter().filter_map(|event| Some(Input::TaskEnded(attempt, event.ended()?.to_owned())));
        let last = if hint { Input::Hint(attempt) } else { Input::StreamBytes(attempt) };
        for input in ended.chain([last]) {
            if inputs.send(input).await.is_err() {
                return Ok(());
            }
        }
    }
    Err(StreamError::Ended)
}

#[cfg(test)]
mod tests;
