//! Reading the operator API's event stream: bytes become records, records change a [`Ledger`], and what it knows then goes
//! to the state machine, changes of a few moments together.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::facts::{Endpoint, Facts};
use super::follow::{Attempt, Input};
use super::operator::{self, EventError, Ledger, Said};
use super::recordio::{Decoder, RecordError};
use crate::marathon::fetch::{Fetch, causes};
use crate::marathon::fetch_error::FetchError;

const PATH: &str = "/api/v1";
const SUBSCRIBE: &str = r#"{"type":"SUBSCRIBE"}"#;
const GET_MASTER: &str = r#"{"type":"GET_MASTER"}"#;
/// Longest answer to that, octets.
const MASTER_OCTETS: usize = 1 << 20;
/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(10);
/// A longer message is read on a thread that nobody waits for.
const LONG_OCTETS: usize = 256 << 10;

/// A stream that ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error("the event stream was cut: {0}")]
    Cut(String),
    #[error("the event stream ended")]
    Ended,
    #[error("reading a message was interrupted")]
    Interrupted,
}

/// Reads the stream until it ends. Records have at most `limit` octets.
pub(super) async fn read(
    fetch: &Fetch,
    url: usize,
    limit: usize,
    attempt: Attempt,
    inputs: &mpsc::Sender<Input>,
) -> Result<(), StreamError> {
    let mut response = fetch.post_stream(url, PATH, SUBSCRIBE).await?;
    let mut reader = Reader {
        attempt,
        asked: Endpoint::of_url(response.url().as_str()),
        decoder: Decoder::new(limit),
        ledger: Ledger::default(),
        leader: None,
        master: None,
        is_whole: false,
        changes: 0,
        due: None,
    };
    if inputs.send(Input::StreamOpened(attempt)).await.is_err() {
        return Ok(());
    }
    loop {
        let due = reader.due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        // No time-out here: the state machine knows when a stream has been silent for too long.
        let input = tokio::select! {
            part = response.chunk() => {
                let part = part.map_err(|e| StreamError::Cut(causes(&e.without_url())))?.ok_or(StreamError::Ended)?;
                reader.take(&part, fetch, url).await?
            }
            () = tokio::time::sleep_until(due), if reader.due.is_some() => reader.gathered(),
        };
        if inputs.send(input).await.is_err() {
            return Ok(());
        }
    }
}

struct Reader {
    attempt: Attempt,
    /// Who was asked in the end, after redirects.
    asked: Option<Endpoint>,
    decoder: Decoder,
    ledger: Ledger,
    leader: Option<Endpoint>,
    master: Option<String>,
    is_whole: bool,
    /// Changes that were not told of yet, and when they are to be.
    changes: u64,
    due: Option<Instant>,
}

impl Reader {
    async fn take(&mut self, part: &[u8], fetch: &Fetch, url: usize) -> Result<Input, StreamError> {
        let mut input = Input::StreamBytes(self.attempt);
        for record in self.decoder.feed(part)? {
            match self.apply(record).await? {
                Said::Whole(seconds) => {
                    self.ask_who(fetch, url).await;
                    self.is_whole = true;
                    (self.changes, self.due) = (0, None);
                    let heartbeat = seconds.filter(|s| s.is_finite() && *s > 0.0 && *s < 86_400.0);
                    let heartbeat = heartbeat.map(Duration::from_secs_f64);
                    input = Input::Whole(self.attempt, Box::new(self.facts()), heartbeat);
                }
                // What comes before everything was said is in it.
                Said::Change if self.is_whole => {
                    self.changes += 1;
                    self.due.get_or_insert_with(|| Instant::now() + GATHER);
                }
                Said::Change | Said::Nothing | Said::Heartbeat => {}
            }
        }
        Ok(input)
    }

    async fn apply(&mut self, record: Vec<u8>) -> Result<Said, StreamError> {
        if record.len() < LONG_OCTETS {
            return Ok(self.ledger.apply(&record)?);
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        let read = move || ledger.apply(&record).map(|said| (said, ledger));
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| StreamError::Interrupted)?;
        let (said, ledger) = read?;
        self.ledger = ledger;
        Ok(said)
    }

    /// Which master this is: `SUBSCRIBED` does not say. One that does not answer is taken for another than before.
    async fn ask_who(&mut self, fetch: &Fetch, url: usize) {
        let answer = fetch.post(url, PATH, GET_MASTER, MASTER_OCTETS).await.ok().flatten();
        let (leader, master) = answer.as_deref().map(operator::master).unwrap_or_default();
        self.leader = leader.or_else(|| self.asked.clone());
        self.master = master;
    }

    fn gathered(&mut self) -> Input {
        self.due = None;
        Input::Changed(self.attempt, Box::new(self.facts()), std::mem::take(&mut self.changes))
    }

    fn facts(&self) -> Facts {
        Facts { leader: self.leader.clone(), master: self.master.clone(), ..self.ledger.facts() }
    }
}
