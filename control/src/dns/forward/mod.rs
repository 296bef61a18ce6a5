//! Names of others: asked of the configured resolvers, and remembered.
//!
//! A client's question is looked up in the cache; if it is not there, the one exchange about it is joined or begun, which
//! goes on by itself, whoever still waits. The resolvers of a name are asked one after the other, twice at most, within
//! [`OVERALL`]. While there is an old answer a client waits for [`PATIENCE`] only, and gets that one then (RFC 8767).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_config::model::Dns;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

mod cache;
mod exchange;
mod known;
mod ours;
mod question;
mod resolvers;
mod statistics;
#[cfg(test)]
mod tests;

use cache::{Cache, Found};
use exchange::{Trouble, ask};
pub(super) use known::Shell;
use known::{Known, Outcome};
pub(super) use ours::Ours;
pub(super) use question::CD;
use question::Manner;
pub use question::Question;
use resolvers::{List, in_order};
pub use resolvers::{Resolver, Resolvers};
pub use statistics::Statistics;

/// Most questions on their way at once; identical ones are one.
pub const IN_FLIGHT: usize = 1024;
/// Most clients that wait for them.
pub const WAITING: usize = 8192;
/// How long a question may take.
pub const OVERALL: Duration = Duration::from_secs(5);
/// How long a client waits that could have an old answer (RFC 8767 section 5: 1.8 seconds).
pub const PATIENCE: Duration = Duration::from_millis(1800);

/// What becomes of an exchange, once it is known.
type Ending = watch::Receiver<Option<Outcome>>;

/// The forwarder.
#[derive(Debug)]
pub struct Forwarder {
    /// Whom to ask.
    pub resolvers: Resolvers,
    /// What it counts.
    pub statistics: Statistics,
    cache: Cache,
    on_their_way: Mutex<HashMap<Question, Ending>>,
    waiting: Arc<Semaphore>,
}

/// What a client gets.
#[derive(Debug)]
pub(super) enum Taken {
    /// The refusal that was made already: nobody is asked about this name, or it came from whom we ask.
    Refused,
    /// This answer.
    Answer(Vec<u8>),
    /// An answer later.
    Later(Waiting),
}

impl Forwarder {
    /// `None` where nothing is forwarded.
    #[must_use]
    pub fn new(dns: &Dns) -> Option<Arc<Self>> {
        dns.forwards().then(|| {
            Arc::new(Self {
                resolvers: Resolvers::new(dns),
                statistics: Statistics::default(),
                cache: Cache::default(),
                on_their_way: Mutex::default(),
                waiting: Arc::new(Semaphore::new(WAITING)),
            })
        })
    }

    /// Questions on their way, and questions of which something is known.
    #[must_use]
    pub fn sizes(&self) -> [(&'static str, usize); 2] {
        [("in_flight", self.on_their_way().len()), ("cache_entries", self.cache.len())]
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let one = |resolver: &Resolver| ShownResolver { address: resolver.address, down: resolver.is_down() };
        let sizes = self.sizes().map(|(name, size)| (name, size as u64));
        Shown {
            resolvers: self.resolvers.all().map(one).collect(),
            counters: self.statistics.all().into_iter().chain(sizes).collect(),
        }
    }

    fn on_their_way(&self) -> MutexGuard<'_, HashMap<Question, Ending>> {
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a question of a client that may ask. Never waits.
    pub(super) fn take(self: &Arc<Self>, question: Question, client: IpAddr, shell: Shell) -> Taken {
        let Some((list, _)) = self.resolvers.of(question.name()) else { return Taken::Refused };
        if self.is_loop(&question, client) {
            self.count(&self.statistics.loops);
            return Taken::Refused;
        }
        self.count(&self.statistics.questions);
        let now = Instant::now().into_std();
        let (known, counter) = match self.cache.look(&question, now) {
            Found::Fresh(known) => (Outcome::Known(known), &self.statistics.cached),
            Found::Failed(Some(known)) => (Outcome::Known(known), &self.statistics.stale),
            Found::Failed(None) => (Outcome::Failed, &self.statistics.failed),
            Found::Missing(old) => return self.join(question, list, old, shell),
        };
        self.count(counter);
        Taken::Answer(shell.write(&known, &question, now))
    }

    /// Whether a resolver asks us what we are asking. Two servers that forward to each other would do so for ever.
    fn is_loop(&self, question: &Question, client: IpAddr) -> bool {
        self.resolvers.has(client) && {
            let on_their_way = self.on_their_way();
            question.variants().any(|variant| on_their_way.contains_key(&variant))
        }
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Waits for the exchange about this question, which is begun if there is none.
    fn join(self: &Arc<Self>, question: Question, list: List, old: Option<Arc<Known>>, shell: Shell) -> Taken {
        let place = Arc::clone(&self.waiting).try_acquire_owned().ok();
        let ending = place.as_ref().and_then(|_| self.ending(&question, list));
        let (Some(place), Some(ending)) = (place, ending) else {
            self.count(&self.statistics.over_limit);
            let outcome = self.instead(old);
            return Taken::Answer(shell.write(&outcome, &question, Instant::now().into_std()));
        };
        Taken::Later(Waiting { forwarder: Arc::clone(self), question, old, ending, shell, _place: place })
    }

    /// What is said when nothing better came.
    fn instead(&self, old: Option<Arc<Known>>) -> Outcome {
        self.count(if old.is_some() { &self.statistics.stale } else { &self.statistics.failed });
        old.map_or(Outcome::Failed, Outcome::Known)
    }

    /// Where the end of the exchange about this question will be told; `None` when there are too many.
    fn ending(self: &Arc<Self>, question: &Question, list: List) -> Option<Ending> {
        let mut on_their_way = self.on_their_way();
        if let Some(ending) = on_their_way.get(question) {
            self.count(&self.statistics.shared);
            return Some(ending.clone());
        }
        if on_their_way.len() >= IN_FLIGHT {
            return None;
        }
        let (tell, ending) = watch::channel(None);
        on_their_way.insert(question.clone(), ending.clone());
        let flight = Flight { forwarder: Arc::clone(self), question: question.clone() };
        tokio::spawn(async move {
            let outcome = flight.resolve(&list).await;
            flight.forwarder.cache.note(&flight.question, &outcome, Instant::now().into_std());
            // Out of the list before it is told: who asks now finds it in the cache.
            drop(flight);
            tell.send_replace(Some(outcome));
        });
        Some(ending)
    }
}

/// A question on its way; it is no longer when this is dropped.
struct Flight {
    forwarder: Arc<Forwarder>,
    question: Question,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.forwarder.on_their_way().remove(&self.question);
    }
}

impl Flight {
    /// Asks until somebody answers, or time is up.
    async fn resolve(&self, list: &List) -> Outcome {
        let deadline = Instant::now() + OVERALL;
        // So that every one is asked, and the first one again.
        let each = OVERALL / (list.len() as u32 + 1);
        let order = in_order(list, Instant::now().into_std());
        for manner in [Manner::Careful, Manner::Plain] {
            for resolver in &order {
                let until = deadline.min(Instant::now() + each);
                if until <= Instant::now() {
                    return Outcome::Failed;
                }
                if let Some(known) = self.ask(resolver, manner, until).await {
                    return Outcome::Known(Arc::new(known));
                }
            }
        }
        Outcome::Failed
    }

    async fn ask(&self, resolver: &Resolver, manner: Manner, until: Instant) -> Option<Known> {
        let statistics = &self.forwarder.statistics;
        let answer = timeout_at(until, ask(resolver.address, &self.question, manner, statistics)).await;
        let answer = answer.unwrap_or(Err(Trouble::Silent));
        let now = Instant::now().into_std();
        match &answer {
            Err(trouble) if !trouble.is_word() => {
                if resolver.failed(now) {
                    tracing::warn!(resolver = %resolver.address, %trouble, "a resolver is down; others are asked first");
                }
            }
            Ok(_) | Err(_) => {
                if resolver.answered() {
                    tracing::info!(resolver = %resolver.address, "a resolver answers again");
                }
            }
        }
        match answer {
            Ok((message, octets)) => Some(Known::new(message, &self.question, octets, now)),
            Err(_) => {
                self.forwarder.count(&statistics.upstream_failures);
                None
            }
        }
    }
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    forwarder: Arc<Forwarder>,
    question: Question,
    old: Option<Arc<Known>>,
    ending: Ending,
    shell: Shell,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    /// Its answer, in the end.
    pub(super) async fn answer(mut self) -> Vec<u8> {
        let patience = if self.old.is_some() { PATIENCE } else { OVERALL + Duration::from_secs(1) };
        let ended = match timeout(patience, self.ending.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            // Time is up, or the exchange went down with the runtime.
            Ok(Err(_)) | Err(_) => None,
        };
        let outcome = match ended {
            Some(Outcome::Known(known)) => Outcome::Known(known),
            Some(Outcome::Failed) | None => self.forwarder.instead(self.old.take()),
        };
        self.shell.write(&outcome, &self.question, Instant::now().into_std())
    }
}

/// Whom this name, in wire form, is asked of: a sentence for people; `None` if of nobody.
#[must_use]
pub fn explain(dns: &Dns, name: &[u8]) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let (list, suffix) = Resolvers::new(dns).of(&name)?;
    let whom: Vec<String> = list.iter().map(|resolver| resolver.address.to_string()).collect();
    let by = match name.len().checked_sub(suffix).and_then(|at| name.get(at..)) {
        Some(suffix) if suffix.len() > 1 => {
            let suffix = sluice_dataplane::wire::name::to_text(suffix);
            format!("dns.zone_resolvers of {}", suffix.trim_end_matches('.'))
        }
        Some(_) | None => "dns.resolvers".to_owned(),
    };
    Some(format!("forwarded to {} ({by})", whom.join(", ")))
}

/// What people are shown of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Shown {
    /// Whom foreign names are asked of, by address.
    pub resolvers: Vec<ShownResolver>,
    /// [`Statistics::all`] and [`Forwarder::sizes`].
    pub counters: BTreeMap<&'static str, u64>,
}

/// A resolver.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct ShownResolver {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether others are asked first, because it does not answer.
    pub down: bool,
}
