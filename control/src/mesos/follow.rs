//! When to ask Mesos what: a state machine with no I/O, no clock and no randomness of its own.
//!
//! The operator API's event stream comes first: it says everything once and then each change. Where none can be had the
//! whole state is asked for every so often, by the next master in turn. What was said last stays until something newer is:
//! a stream that is cut, a master that does not lead, an answer that is broken take nothing away, and after a change of
//! master what the new one does not know yet is held.
//!
//! Times are since any fixed moment. Whoever drives this calls [`Follow::step`] with what happened, does what it says, and
//! comes back at [`Follow::wake_at`] at the latest.

use std::sync::Arc;
use std::time::Duration;

use super::facts::{Endpoint, Facts};
use super::hold::Hold;
use crate::back_off::BackOff;

/// How long opening a stream, or one whole answer, may take.
const OPENING: Duration = Duration::from_secs(10);
const LISTING: Duration = Duration::from_secs(120);
/// A heartbeat comes so often where the master does not say; a stream without a byte for three of them is dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEATS_MISSED: u32 = 3;
const HEARTBEAT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// A stream that lived this long was a good one.
const GOOD_STREAM: Duration = Duration::from_secs(10);
/// A stream that is lost may be back before the state is asked for, and least time between two such questions.
const POLL_AFTER: Duration = Duration::from_millis(500);
const BETWEEN_POLLS: Duration = Duration::from_secs(1);

/// Numbers an attempt, so that news of an older one is known as such.
pub type Attempt = u64;

/// How it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Between two questions for the whole state.
    pub refresh: Duration,
    /// How long agents are waited for after a change of master.
    pub reregister: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// These are the masters, and how many URLs there are to ask them; whether the first is another than before.
    Masters {
        /// In the order of the configuration, or of ZooKeeper.
        masters: Vec<Endpoint>,
        /// URLs, that of the leading one first where it is known.
        urls: usize,
        /// Whether who is at the first URL may be another one than before.
        moved: bool,
    },
    /// The masters cannot be found.
    NoMasters(String),
    /// The stream's head came.
    StreamOpened(Attempt),
    /// Bytes came, heartbeats included.
    StreamBytes(Attempt),
    /// The stream said everything, and how often its heartbeat comes.
    Whole(Attempt, Box<Facts>, Option<Duration>),
    /// The stream told of so many changes; this is everything now.
    Changed(Attempt, Box<Facts>, u64),
    /// The stream could not be opened, or ended.
    StreamEnded(Attempt, String),
    /// The whole state came.
    Listed(Attempt, Box<Facts>),
    /// It did not.
    ListFailed(Attempt, String),
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Open the event stream of this URL (an index), in place of any other.
    OpenStream(Attempt, usize),
    /// Close the stream.
    CloseStream,
    /// Ask this URL for the whole state.
    List(Attempt, usize),
    /// Forget the question that is under way.
    AbandonList,
    /// This is what is known now, and whether changes will be told of.
    Publish(Arc<Facts>, bool),
    /// Changes are no longer told of.
    Lost,
}

/// Counters and the last error, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Whether the event stream is open and has said everything.
    pub streaming: bool,
    /// Index of the URL of the stream.
    pub url: usize,
    /// The leading master, where it is known.
    pub leader: Option<Endpoint>,
    /// Times that something new was made known.
    pub published: u64,
    /// Events that changed something.
    pub events: u64,
    /// Questions for the whole state that failed.
    pub list_errors: u64,
    /// Streams that failed or ended.
    pub stream_errors: u64,
    /// Agents that a new master is waited for to hear from.
    pub waiting: usize,
    /// Changes of master after which some were.
    pub held: u64,
    /// What went wrong last, and when (since the fixed moment); `None` once all is well again.
    pub error: Option<(Duration, String)>,
    /// When Mesos said something last, a heartbeat included.
    pub heard_at: Option<Duration>,
}

#[derive(Debug)]
enum Stream {
    Down { retry_at: Duration },
    Opening { attempt: Attempt, deadline: Duration },
    Open { attempt: Attempt, since: Duration, last_byte: Duration, silence: Duration, whole: bool },
}

/// The state machine.
#[derive(Debug)]
pub struct Follow {
    pace: Pace,
    urls: usize,
    masters: Vec<Endpoint>,
    back_off: BackOff,
    attempts: Attempt,
    stream: Stream,
    stream_failures: u32,
    /// The question under way and when it is given up.
    listing: Option<(Attempt, Duration)>,
    /// When the next one is due, the earliest that it may be, and whom to ask.
    due: Option<Duration>,
    not_before: Duration,
    list_url: usize,
    list_failures: u32,
    /// What Mesos said last, without what is held.
    said: Option<Facts>,
    /// What was made known last, and whether changes were to be told of.
    known: Option<(Arc<Facts>, bool)>,
    hold: Hold,
    status: Status,
}

impl Follow {
    /// Starts when it hears of masters; `seed` is for the jitter.
    #[must_use]
    pub fn new(pace: Pace, seed: u64) -> Self {
        Self {
            pace,
            urls: 0,
            masters: Vec::new(),
            back_off: BackOff::new(seed),
            attempts: 0,
            stream: Stream::Down { retry_at: Duration::ZERO },
            stream_failures: 0,
            listing: None,
            due: None,
            not_before: Duration::ZERO,
            list_url: 0,
            list_failures: 0,
            said: None,
            known: None,
            hold: Hold::default(),
            status: Status::default(),
        }
    }

    /// Counters and state, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        let leader = self.known.as_ref().and_then(|(facts, _)| facts.leader.clone());
        Status { streaming: self.streams(), leader, waiting: self.hold.waiting(), ..self.status.clone() }
    }

    /// When to come back with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Duration {
        let never = Duration::MAX;
        let stream = match self.stream {
            Stream::Down { .. } if self.urls == 0 => never,
            Stream::Down { retry_at } => retry_at,
            Stream::Opening { deadline, .. } => deadline,
            Stream::Open { last_byte, silence, .. } => last_byte + silence,
        };
        let list = self.listing.map(|(_, deadline)| deadline).or_else(|| self.polls_at()).unwrap_or(never);
        stream.min(list).min(self.hold.until().unwrap_or(never))
    }

    /// Takes in what happened at `now` and says what to do.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Command> {
        let mut commands = Vec::new();
        match input {
            Input::Tick => {}
            Input::Masters { masters, urls, moved } => self.found(now, (masters, urls, moved), &mut commands),
            Input::NoMasters(error) => self.status.error = Some((now, error)),
            Input::StreamOpened(attempt) => self.opened(now, attempt),
            Input::StreamBytes(attempt) => self.alive(now, attempt),
            Input::Whole(attempt, facts, heartbeat) => self.whole(now, attempt, *facts, heartbeat, &mut commands),
            Input::Changed(attempt, facts, events) if self.is_stream(attempt) && self.streams() => {
                self.alive(now, attempt);
                self.status.events += events;
                self.hear(now, *facts, true, &mut commands);
            }
            Input::StreamEnded(attempt, error) if self.is_stream(attempt) => {
                self.stream_failed(now, error, &mut commands);
            }
            Input::Listed(attempt, facts) if self.is_listing(attempt) => self.listed(now, *facts, &mut commands),
            Input::ListFailed(attempt, error) if self.is_listing(attempt) => self.list_failed(now, error),
            // News of an attempt that was given up.
            Input::Changed(..) | Input::StreamEnded(..) | Input::Listed(..) | Input::ListFailed(..) => {}
        }
        self.time_out(now, &mut commands);
        self.begin(now, &mut commands);
        commands
    }

    fn streams(&self) -> bool {
        matches!(self.stream, Stream::Open { whole: true, .. })
    }

    /// When the whole state is to be asked for; a stream that has just opened is given time to say it.
    fn polls_at(&self) -> Option<Duration> {
        let earliest = match self.stream {
            Stream::Open { whole: true, .. } => return None,
            Stream::Open { since, .. } => since + OPENING,
            Stream::Down { .. } | Stream::Opening { .. } => Duration::ZERO,
        };
        let due = self.due.filter(|_| self.listing.is_none() && self.urls > 0)?;
        Some(due.max(self.not_before).max(earliest))
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

    fn found(
        &mut self,
        now: Duration,
        (masters, urls, moved): (Vec<Endpoint>, usize, bool),
        commands: &mut Vec<Command>,
    ) {
        self.masters = masters;
        self.urls = urls;
        if moved {
            (self.status.url, self.list_url) = (0, 0);
            self.close(now, commands);
            self.stream = Stream::Down { retry_at: now };
            if self.listing.take().is_some() {
                commands.push(Command::AbandonList);
            }
            self.due = Some(now + POLL_AFTER);
        }
        self.status.url %= urls.max(1);
        self.list_url %= urls.max(1);
        self.tell(now, self.streams(), commands);
    }

    fn opened(&mut self, now: Duration, attempt: Attempt) {
        if self.is_stream(attempt) {
            let silence = HEARTBEAT * HEARTBEATS_MISSED;
            self.stream = Stream::Open { attempt, since: now, last_byte: now, silence, whole: false };
        }
    }

    fn alive(&mut self, now: Duration, attempt: Attempt) {
        if let Stream::Open { attempt: this, last_byte, .. } = &mut self.stream
            && *this == attempt
        {
            *last_byte = now;
            self.status.heard_at = Some(now);
        }
    }

    fn whole(
        &mut self,
        now: Duration,
        attempt: Attempt,
        facts: Facts,
        heartbeat: Option<Duration>,
        commands: &mut Vec<Command>,
    ) {
        let Stream::Open { attempt: this, silence, whole, .. } = &mut self.stream else { return };
        if *this != attempt {
            return;
        }
        let (least, most) = HEARTBEAT_BOUNDS;
        *silence = heartbeat.unwrap_or(HEARTBEAT).clamp(least, most) * HEARTBEATS_MISSED;
        *whole = true;
        self.alive(now, attempt);
        self.due = None;
        if self.listing.take().is_some() {
            commands.push(Command::AbandonList);
        }
        self.status.error = None;
        self.compare(now, &facts);
        self.hear(now, facts, true, commands);
    }

    /// Sees to what another master does not know yet.
    fn compare(&mut self, now: Duration, facts: &Facts) {
        if let Some((known, _)) = &self.known
            && self.hold.begin(now, self.pace.reregister, known, facts)
        {
            self.status.held += 1;
        }
    }

    fn hear(&mut self, now: Duration, facts: Facts, streaming: bool, commands: &mut Vec<Command>) {
        self.status.heard_at = Some(now);
        self.said = Some(facts);
        self.tell(now, streaming, commands);
    }

    /// Makes known what is new.
    fn tell(&mut self, now: Duration, streaming: bool, commands: &mut Vec<Command>) {
        let Some(said) = &self.said else { return };
        let mut facts = self.hold.fill(now, said.clone());
        facts.masters.clone_from(&self.masters);
        if self.known.as_ref().is_some_and(|(known, was)| **known == facts && *was == streaming) {
            return;
        }
        let facts = Arc::new(facts);
        self.known = Some((Arc::clone(&facts), streaming));
        self.status.published += 1;
        commands.push(Command::Publish(facts, streaming));
    }

    fn stream_failed(&mut self, now: Duration, error: String, commands: &mut Vec<Command>) {
        let lived = match self.stream {
            Stream::Open { since, .. } => now.saturating_sub(since),
            Stream::Down { .. } | Stream::Opening { .. } => Duration::ZERO,
        };
        self.stream_failures = if lived >= GOOD_STREAM { 1 } else { self.stream_failures.saturating_add(1) };
        self.status.stream_errors += 1;
        self.status.error = Some((now, error));
        self.close(now, commands);
        let pause = self.back_off.next_url(&mut self.status.url, self.urls, self.stream_failures);
        self.stream = Stream::Down { retry_at: now + pause };
        // Where polls go on already, they keep their pace.
        if self.listing.is_none() {
            self.due.get_or_insert(now + POLL_AFTER);
        }
    }

    fn close(&mut self, now: Duration, commands: &mut Vec<Command>) {
        if matches!(self.stream, Stream::Down { .. }) {
            return;
        }
        commands.push(Command::CloseStream);
        if self.streams() {
            commands.push(Command::Lost);
            if let Some((_, streaming)) = &mut self.known {
                *streaming = false;
            }
        }
        self.stream = Stream::Down { retry_at: now };
    }

    fn listed(&mut self, now: Duration, facts: Facts, commands: &mut Vec<Command>) {
        self.listing = None;
        self.list_failures = 0;
        self.due = Some(now + self.pace.refresh - self.back_off.jitter(self.pace.refresh / 4));
        self.compare(now, &facts);
        self.hear(now, facts, false, commands);
    }

    fn list_failed(&mut self, now: Duration, error: String) {
        self.listing = None;
        self.list_failures = self.list_failures.saturating_add(1);
        self.status.list_errors += 1;
        self.status.error = Some((now, error));
        let pause = self.back_off.next_url(&mut self.list_url, self.urls, self.list_failures);
        self.due = Some(now + pause);
    }

    fn time_out(&mut self, now: Duration, commands: &mut Vec<Command>) {
        match self.stream {
            Stream::Opening { deadline, .. } if now >= deadline => {
                self.stream_failed(now, format!("no event stream within {} s", OPENING.as_secs()), commands);
            }
            Stream::Open { last_byte, silence, .. } if now >= last_byte + silence => {
                let error =
                    format!("the event stream was silent for {} s, {HEARTBEATS_MISSED} heartbeats", silence.as_secs());
                self.stream_failed(now, error, commands);
            }
            Stream::Down { .. } | Stream::Opening { .. } | Stream::Open { .. } => {}
        }
        if self.listing.is_some_and(|(_, deadline)| now >= deadline) {
            commands.push(Command::AbandonList);
            self.list_failed(now, format!("no whole state within {} s", LISTING.as_secs()));
        }
        if self.hold.until().is_some_and(|until| now >= until) {
            self.tell(now, self.streams(), commands);
        }
    }

    fn begin(&mut self, now: Duration, commands: &mut Vec<Command>) {
        if self.urls == 0 {
            return;
        }
        if let Stream::Down { retry_at } = self.stream
            && now >= retry_at
        {
            self.attempts += 1;
            self.stream = Stream::Opening { attempt: self.attempts, deadline: now + OPENING };
            commands.push(Command::OpenStream(self.attempts, self.status.url));
        }
        if self.polls_at().is_some_and(|at| now >= at) {
            self.attempts += 1;
            self.listing = Some((self.attempts, now + LISTING));
            self.due = None;
            self.not_before = now + BETWEEN_POLLS;
            commands.push(Command::List(self.attempts, self.list_url));
        }
    }
}

#[cfg(test)]
mod tests;
