//! Asking the leading master's overlay module what VTEPs and subnets agents have (`/overlay-master/state`): whenever
//! another master leads or other agents are there, and every so often between, for it tells of no change by itself.
//!
//! What it said last stays in the view until it says something else; a master without the module is none to complain of.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::back_off::BackOff;
use crate::marathon::complaints::Complaints;
use crate::marathon::fetch::Fetch;
use crate::marathon::fetch_error::FetchError;
use crate::overlay_state::{self, OverlayError};
use crate::view::{Event, OverlayView};

const PATH: &str = "/overlay-master/state";
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Agents come one by one after a change of master; least time between two questions.
const BETWEEN: Duration = Duration::from_secs(1);

/// Whom to ask. Another `round` is a reason to ask now.
#[derive(Clone, Debug)]
pub(super) struct Whom {
    pub(super) fetch: Arc<Fetch>,
    pub(super) url: usize,
    pub(super) round: u64,
}

impl Whom {
    pub(super) fn is(&self, other: &Self) -> bool {
        self.round == other.round && self.fetch.url(self.url) == other.fetch.url(other.url)
    }
}

/// How it goes, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OverlaySeen {
    /// Whether it was ever asked to an end, be it in vain.
    pub asked: bool,
    /// Whether the last question was answered; it is not where the master has no such module.
    pub answers: bool,
    /// When it was answered last.
    pub heard: Option<std::time::Instant>,
    /// Agents that have joined, by the last answer.
    pub agents: usize,
    /// Questions that failed.
    pub errors: u64,
    /// What went wrong last; `None` once all is well again.
    pub error: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{PATH}: {0}")]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    State(#[from] OverlayError),
    #[error("{PATH}: no answer within {} s", ANSWER.as_secs())]
    Late,
    #[error("{PATH}: reading the answer was interrupted")]
    Interrupted,
}

/// What it needs to know beside whom to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Between two questions.
    pub(super) refresh: Duration,
    /// Longest answer, octets.
    pub(super) limit: usize,
    pub(super) seed: u64,
}

/// Asks until nobody says whom any more.
pub(super) async fn follow(
    mut whom: watch::Receiver<Option<Whom>>,
    terms: Terms,
    events: mpsc::Sender<Event>,
    seen: watch::Sender<OverlaySeen>,
) {
    let (start, mut complaints) = (Instant::now(), Complaints::default());
    let (mut back_off, mut failures, mut last) = (BackOff::new(terms.seed), 0, None);
    loop {
        let who = whom.borrow_and_update().clone();
        let mut pause = terms.refresh;
        if let Some(who) = who {
            let answer = ask(&who, terms.limit).await;
            note(&seen, &answer);
            failures = if answer.is_err() { failures + 1 } else { 0 };
            match answer {
                Ok(Some(view)) => {
                    if complaints.recovered() {
                        tracing::info!("mesos tells of its overlay again");
                    }
                    if last.as_ref() != Some(&view) && events.send(Event::Overlay(view.clone())).await.is_err() {
                        return;
                    }
                    last = Some(view);
                }
                // That there is nothing to be told is to be known too, but takes nothing away.
                Ok(None) if last.is_none() => {
                    if events.send(Event::Overlay(OverlayView::default())).await.is_err() {
                        return;
                    }
                    last = Some(OverlayView::default());
                }
                Ok(None) => {}
                Err(error) => {
                    pause = back_off.after(failures);
                    let error = error.to_string();
                    if complaints.is_due(start.elapsed(), &error) {
                        tracing::warn!(
                            url = who.fetch.url(who.url),
                            error,
                            "mesos: the overlay's agents stay as they were"
                        );
                    }
                }
            }
        }
        tokio::select! {
            changed = whom.changed() => match changed {
                Ok(()) => sleep(BETWEEN).await,
                Err(_) => return,
            },
            () = sleep(pause) => {}
        }
    }
}

fn note(seen: &watch::Sender<OverlaySeen>, answer: &Result<Option<OverlayView>, AskError>) {
    seen.send_modify(|seen| {
        seen.asked = true;
        seen.answers = matches!(answer, Ok(Some(_)));
        seen.error = answer.as_ref().err().map(ToString::to_string);
        match answer {
            Ok(Some(view)) => (seen.agents, seen.heard) = (view.agents.len(), Some(std::time::Instant::now())),
            Ok(None) => {}
            Err(_) => seen.errors += 1,
        }
    });
}

/// `None` where this master has no such module.
async fn ask(who: &Whom, limit: usize) -> Result<Option<OverlayView>, AskError> {
    let body = timeout(ANSWER, who.fetch.get(who.url, PATH, limit)).await.map_err(|_| AskError::Late)??;
    let Some(body) = body else { return Ok(None) };
    // Thousands of agents are megabytes of JSON: not on a thread that others wait for.
    let read = tokio::task::spawn_blocking(move || overlay_state::read(&body)).await;
    Ok(Some(read.map_err(|_| AskError::Interrupted)??))
}
