//! When to ask Marathon what: a state machine with no I/O, no clock and no randomness of its own.
//!
//! Subscribe first, then list everything, then take events as hints that something changed, and list again when they are
//! quiet and after every reconnect. Nothing but a whole, newer listing ever takes a task away: a stream or a listing that
//! fails is counted and tried again, at the next URL in turn. What a listing names and what cannot be read of it stays as it
//! was. When more than half of the running tasks are gone without a word, what is new is published at once beside them, and
//! they go when Marathon has said so for some seconds. An event that says that a task has ended is such a word, and where
//! Marathon has been there all the time a few tasks need none.
//!
//! Times are since any fixed moment. Whoever drives this calls [`Follow::step`] with what happened, does what it says, and
//! comes back at [`Follow::wake_at`] at the latest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::back_off::BackOff;
use crate::view::{Listing, Task, share};

/// How long events must be quiet before the next listing, and how long they may put it off.
const QUIET: Duration = Duration::from_millis(20);
const AT_MOST: Duration = Duration::from_millis(100);
/// Least time between the starts of two listings: 20 a second (facts/robustness.md row 48).
const BETWEEN_LISTINGS: Duration = Duration::from_millis(50);
/// How long Marathon must say that so many tasks are gone; the longer time for one that has just come back, because a new
/// leader answers before it knows its tasks.
const CONFIRM: Duration = Duration::from_secs(5);
const CONFIRM_RETURNED: Duration = Duration::from_secs(10);
/// Fewer than these go at once, unless Marathon has just come back: one task may be all that a small cluster runs.
const VANISHED_MIN: usize = 10;
/// Most ids of ended tasks remembered until a listing is without them.
const ENDED_MAX: usize = 100_000;
/// How often it is asked meanwhile, and how long it has just come back.
const CONFIRM_POLL: Duration = Duration::from_secs(1);
const RETURNED: Duration = Duration::from_secs(30);
/// A listing without any event: Marathon drops events for slow readers in silence (facts/dcos.md D).
const REFRESH: Duration = Duration::from_secs(60);
/// A stream without a byte, heartbeats (10 s) included, is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// How long opening a stream, or one whole listing, may take.
const OPENING: Duration = Duration::from_secs(10);
const LISTING: Duration = Duration::from_secs(120);
/// A stream that lived this long was a good one.
const GOOD_STREAM: Duration = Duration::from_secs(10);
/// Listings that fail in a row before the next URL is tried.
const LISTINGS_PER_URL: u32 = 3;

/// Numbers an attempt, so that news of an older one is known as such.
pub type Attempt = u64;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// The stream's head came, and it is an event stream.
    StreamOpened(Attempt),
    /// Bytes came, heartbeats included.
    StreamBytes(Attempt),
    /// An event came that may mean a change.
    Hint(Attempt),
    /// An event said that this task has ended; [`Input::Hint`] comes after it.
    TaskEnded(Attempt, String),
    /// The stream could not be opened, or ended.
    StreamEnded(Attempt, String),
    /// A listing came whole.
    Listed(Attempt, Box<Listing>),
    /// A listing did not.
    ListFailed(Attempt, String),
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Open the event stream of this URL (an index), in place of any other.
    OpenStream(Attempt, usize),
    /// Close the stream.
    CloseStream,
    /// List everything at this URL.
    List(Attempt, usize),
    /// Forget the listing that is under way.
    AbandonList,
    /// This is what Marathon says now.
    Publish(Box<Listing>),
}

/// Counters and the last error, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Whether the event stream is open.
    pub streaming: bool,
    /// Index of the URL in use.
    pub url: usize,
    /// Listings published.
    pub published: u64,
    /// Listings that failed.
    pub list_errors: u64,
    /// Streams that failed or ended.
    pub stream_errors: u64,
    /// Events that meant something.
    pub hints: u64,
    /// Times that so many tasks were gone that it was not believed at once.
    pub held: u64,
    /// What went wrong last, and when (since the fixed moment); `None` once all is well again.
    pub error: Option<(Duration, String)>,
    /// When the last listing was published.
    pub listed_at: Option<Duration>,
}

#[derive(Debug)]
enum Stream {
    Down { retry_at: Duration },
    Opening { attempt: Attempt, deadline: Duration },
    Open { attempt: Attempt, since: Duration, last_byte: Duration },
}

/// The state machine.
#[derive(Debug)]
pub struct Follow {
    urls: usize,
    back_off: BackOff,
    attempts: Attempt,
    stream: Stream,
    stream_failures: u32,
    /// The listing under way and when it is given up.
    listing: Option<(Attempt, Duration)>,
    /// When the next listing is due, and the first hint that it is for.
    due: Option<Duration>,
    first_hint: Option<Duration>,
    not_before: Duration,
    list_failures: u32,
    /// The tasks that were published last, and the apps without any.
    known: Vec<Arc<Task>>,
    known_idle: Vec<Arc<Task>>,
    /// The running ones of the last listing that was believed.
    running: BTreeSet<String>,
    /// Those that events said have ended, until a listing that is believed is without them.
    ended: BTreeSet<String>,
    /// Since when listings lack more than half of those.
    doubt: Option<Duration>,
    /// When Marathon came back after a failure.
    returned: Option<Duration>,
    status: Status,
}

impl Follow {
    /// Starts with the first of `urls` URLs; `seed` is for the jitter.
    #[must_use]
    pub fn new(urls: usize, seed: u64) -> Self {
        Self {
            urls: urls.max(1),
            back_off: BackOff::new(seed),
            attempts: 0,
            stream: Stream::Down { retry_at: Duration::ZERO },
            stream_failures: 0,
            listing: None,
            due: None,
            first_hint: None,
            not_before: Duration::ZERO,
            list_failures: 0,
            known: Vec::new(),
            known_idle: Vec::new(),
            running: BTreeSet::new(),
            ended: BTreeSet::new(),
            doubt: None,
            returned: None,
            status: Status::default(),
        }
    }

    /// Counters and state, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { streaming: matches!(self.stream, Stream::Open { .. }), ..self.status.clone() }
    }

    /// When to come back with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Duration {
        let stream = match self.stream {
            Stream::Down { retry_at } => retry_at,
            Stream::Opening { deadline, .. } => deadline,
            Stream::Open { last_byte, .. } => last_byte + SILENCE,
        };
        let list = match (self.listing, self.due) {
            (Some((_, deadline)), _) => Some(deadline),
            (None, due) => due.map(|due| due.max(self.not_before)),
        };
        list.map_or(stream, |list| list.min(stream))
    }

    /// Takes in what happened at `now` and says what to do.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Command> {
        let mut commands = Vec::new();
        match input {
            Input::Tick => {}
            Input::StreamOpened(attempt) => self.opened(now, attempt),
            Input::StreamBytes(attempt) => self.alive(now, attempt),
            Input::Hint(attempt) => self.hint(now, attempt),
            Input::TaskEnded(attempt, id) => self.task_ended(attempt, id),
            Input::StreamEnded(attempt, error) if self.is_stream(attempt) => {
                self.stream_failed(now, error, &mut commands)
            }
            Input::Listed(attempt, listing) if self.is_listing(attempt) => self.listed(now, listing, &mut commands),
            Input::ListFailed(attempt, error) if self.is_listing(attempt) => {
                self.list_failed(now, error, &mut commands)
            }
            // News of an attempt that was given up.
            Input::StreamEnded(..) | Input::Listed(..) | Input::ListFailed(..) => {}
        }
        self.time_out(now, &mut commands);
        self.begin(now, &mut commands);
        commands
    }

    fn is_stream(&self, attempt: Attempt) -> bool {
        match self.stream {
            Stream::Down { .. } => false,
            Stream::Opening { attempt: this, .. } | Stream::Open { attempt: this, .. } => this == attempt,
        }
    }

    fn is_listing(&self, attempt: Attempt) -> bool {
        self.listing.is_some_and(|(this, _)| this == attempt)
    }

    /// Whatever changed before this moment is in the listing that follows; whatever changes after it is an event.
    fn opened(&mut self, now: Duration, attempt: Attempt) {
        if self.is_stream(attempt) {
            self.stream = Stream::Open { attempt, since: now, last_byte: now };
            self.due = Some(now);
            if self.stream_failures > 0 {
                self.returned = Some(now);
            }
        }
    }

    fn alive(&mut self, now: Duration, attempt: Attempt) {
        if let Stream::Open { attempt: this, last_byte, .. } = &mut self.stream
            && *this == attempt
        {
            *last_byte = now;
        }
    }

    fn hint(&mut self, now: Duration, attempt: Attempt) {
        if self.is_stream(attempt) {
            self.status.hints += 1;
            let first = *self.first_hint.get_or_insert(now);
            // A failure has its back-off: hints do not hurry it.
            let waits = self.list_failures > 0 && self.due.is_some();
            if !waits {
                self.due = Some((now + QUIET).min(first + AT_MOST));
            }
        }
    }

    fn task_ended(&mut self, attempt: Attempt, id: String) {
        if self.is_stream(attempt) && self.ended.len() < ENDED_MAX {
            self.ended.insert(id);
        }
    }

    fn stream_failed(&mut self, now: Duration, error: String, commands: &mut Vec<Command>) {
        let lived = match self.stream {
            Stream::Open { since, .. } => now.saturating_sub(since),
            Stream::Down { .. } | Stream::Opening { .. } => Duration::ZERO,
        };
        self.stream_failures = if lived >= GOOD_STREAM { 1 } else { self.stream_failures.saturating_add(1) };
        self.status.stream_errors += 1;
        self.status.error = Some((now, error));
        self.next_url(now, commands);
    }

    fn next_url(&mut self, now: Duration, commands: &mut Vec<Command>) {
        let pause = self.back_off.next_url(&mut self.status.url, self.urls, self.stream_failures);
        self.stream = Stream::Down { retry_at: now + pause };
        commands.push(Command::CloseStream);
    }

    fn listed(&mut self, now: Duration, mut listing: Box<Listing>, commands: &mut Vec<Command>) {
        self.listing = None;
        if self.list_failures > 0 {
            self.returned = Some(now);
        }
        self.list_failures = 0;
        let unreadable = std::mem::take(&mut listing.unreadable);
        listing.keep(&self.known, |task| unreadable.covers(task) && !self.ended.contains(&task.id));
        listing.unreadable = unreadable;
        if self.takes_too_much(now, &listing) {
            let since = self.doubt.unwrap_or(now);
            let until = since + self.confirmation(now);
            if now < until {
                return self.hold(now, until, listing, commands);
            }
        }
        self.doubt = None;
        self.running = listing.running().into_iter().map(str::to_owned).collect();
        let named: BTreeSet<&str> = listing.tasks.iter().map(|t| t.id.as_str()).collect();
        self.ended.retain(|id| named.contains(id.as_str()));
        self.publish(now, listing, commands);
    }

    /// Publishes what is new, and keeps what is gone for now.
    fn hold(&mut self, now: Duration, until: Duration, mut listing: Box<Listing>, commands: &mut Vec<Command>) {
        if self.doubt.is_none() {
            self.doubt = Some(now);
            self.status.held += 1;
        }
        listing.keep(&self.known, |task| !self.ended.contains(&task.id));
        if listing.tasks != self.known {
            self.publish(now, listing, commands);
        }
        self.due_at(until.min(now + CONFIRM_POLL));
    }

    fn publish(&mut self, now: Duration, mut listing: Box<Listing>, commands: &mut Vec<Command>) {
        share(&mut listing.tasks, &self.known);
        share(&mut listing.idle, &self.known_idle);
        self.known.clone_from(&listing.tasks);
        self.known_idle.clone_from(&listing.idle);
        self.status.published += 1;
        self.status.listed_at = Some(now);
        if matches!(self.stream, Stream::Open { .. }) {
            self.status.error = None;
        }
        let refresh = now + REFRESH - self.back_off.jitter(REFRESH / 4);
        self.due_at(refresh);
        commands.push(Command::Publish(listing));
    }

    fn due_at(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn confirmation(&self, now: Duration) -> Duration {
        if self.is_settled(now) { CONFIRM } else { CONFIRM_RETURNED }
    }

    /// Whether Marathon has been there for a while.
    fn is_settled(&self, now: Duration) -> bool {
        let streams = matches!(self.stream, Stream::Open { .. });
        streams && self.returned.is_none_or(|at| now >= at + RETURNED)
    }

    /// Whether more than half of the running tasks are gone without a word. One that is being killed, that an event said
    /// has ended, or that Marathon still names in another state, is not.
    fn takes_too_much(&self, now: Duration, listing: &Listing) -> bool {
        let named: BTreeSet<&str> = listing.tasks.iter().map(|t| t.id.as_str()).collect();
        let gone = self.running.iter().filter(|id| !named.contains(id.as_str()) && !self.ended.contains(*id)).count();
        let few = gone < VANISHED_MIN && self.is_settled(now);
        gone * 2 > self.running.len() && !few
    }

    fn list_failed(&mut self, now: Duration, error: String, commands: &mut Vec<Command>) {
        self.listing = None;
        self.doubt = None;
        self.list_failures = self.list_failures.saturating_add(1);
        self.status.list_errors += 1;
        self.status.error = Some((now, error));
        self.due = Some(now + self.back_off.after(self.list_failures));
        if self.urls > 1
            && self.list_failures.is_multiple_of(LISTINGS_PER_URL)
            && !matches!(self.stream, Stream::Down { .. })
        {
            self.next_url(now, commands);
        }
    }

    fn time_out(&mut self, now: Duration, commands: &mut Vec<Command>) {
        match self.stream {
            Stream::Opening { deadline, .. } if now >= deadline => {
                self.stream_failed(now, format!("no event stream within {} s", OPENING.as_secs()), commands);
            }
            Stream::Open { last_byte, .. } if now >= last_byte + SILENCE => {
                self.stream_failed(now, format!("the event stream was silent for {} s", SILENCE.as_secs()), commands);
            }
            Stream::Down { .. } | Stream::Opening { .. } | Stream::Open { .. } => {}
        }
        if self.listing.is_some_and(|(_, deadline)| now >= deadline) {
            commands.push(Command::AbandonList);
            self.list_failed(now, format!("no whole answer within {} s", LISTING.as_secs()), commands);
        }
    }

    fn begin(&mut self, now: Duration, commands: &mut Vec<Command>) {
        if let Stream::Down { retry_at } = self.stream
            && now >= retry_at
        {
            self.attempts += 1;
            self.stream = Stream::Opening { attempt: self.attempts, deadline: now + OPENING };
            commands.push(Command::OpenStream(self.attempts, self.status.url));
            if self.stream_failures > 0 && self.list_failures == 0 {
                // Where no stream can be had, asking at the pace of the attempts is better than knowing nothing.
                self.due = Some(now);
            }
        }
        if self.listing.is_none() && self.due.is_some_and(|due| now >= due.max(self.not_before)) {
            self.attempts += 1;
            self.listing = Some((self.attempts, now + LISTING));
            self.due = None;
            self.first_hint = None;
            self.not_before = now + BETWEEN_LISTINGS;
            commands.push(Command::List(self.attempts, self.status.url));
        }
    }
}

#[cfg(test)]
mod tests;
