//! Addresses of agents that go by a name: looked up beside the listings, never before them.
//!
//! A dead resolver costs nothing but itself: at most [`AT_ONCE`] look-ups run in the whole process, each on a thread of its
//! own until the system gives up on it, and a name that was not found is asked for again after [`NOT_FOUND_AGE`]. A name
//! that does not resolve now keeps the address it had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::view::Event;

/// How long an address is good, and how long a name that was not found is left alone.
const FOUND_AGE: Duration = Duration::from_secs(60);
const NOT_FOUND_AGE: Duration = Duration::from_secs(30);
/// Most look-ups at a time.
pub(super) const AT_ONCE: usize = 8;
/// Most names of one Marathon.
const NAMES: usize = 4096;

/// Blocking: the IPv4 address of a name.
pub type Resolve = fn(&str) -> Option<Ipv4Addr>;

/// The system's resolver. Of several addresses the lowest, so that a name does not flap.
#[must_use]
pub fn resolve(name: &str) -> Option<Ipv4Addr> {
    let found = (name, 0).to_socket_addrs().ok()?;
    found.filter_map(|a| if let SocketAddr::V4(a) = a { Some(*a.ip()) } else { None }).min()
}

/// Which names to look up when. Times are since any fixed moment.
#[derive(Debug, Default)]
struct Hosts {
    /// When each is due; `None` while it is being looked up.
    names: BTreeMap<String, Option<Duration>>,
}

impl Hosts {
    /// These are the names from now on.
    fn set(&mut self, names: &BTreeSet<String>) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            if self.names.len() < NAMES {
                self.names.entry(name.clone()).or_insert(Some(Duration::ZERO));
            }
        }
    }

    /// The name that has been due for longest, which is now being looked up.
    fn next(&mut self, now: Duration) -> Option<String> {
        let due = self.names.iter_mut().filter(|(_, at)| at.is_some_and(|at| at <= now));
        let (name, at) = due.min_by_key(|(_, at)| **at)?;
        *at = None;
        Some(name.clone())
    }

    /// A look-up ended.
    fn ended(&mut self, now: Duration, name: &str, found: bool) {
        if let Some(at) = self.names.get_mut(name) {
            *at = Some(now + if found { FOUND_AGE } else { NOT_FOUND_AGE });
        }
    }

    /// When the next is due.
    fn wake_at(&self) -> Option<Duration> {
        self.names.values().flatten().min().copied()
    }
}

/// Looks up the names that `wanted` holds, now and whenever they are due, until its sender is gone.
pub(crate) async fn follow(
    mut wanted: watch::Receiver<BTreeSet<String>>,
    resolve: Resolve,
    events: mpsc::Sender<Event>,
) {
    let mut hosts = Hosts::default();
    let mut running = FuturesUnordered::new();
    let start = Instant::now();
    loop {
        while running.len() < AT_ONCE
            && let Some(name) = hosts.next(start.elapsed())
        {
            running.push(look_up(name, resolve));
        }
        let wake = hosts.wake_at().filter(|_| running.len() < AT_ONCE).map(|at| start + at);
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => hosts.set(&wanted.borrow_and_update()),
                Err(_) => return,
            },
            Some(first) = running.next() => {
                let mut found = BTreeMap::new();
                let mut next = Some(first);
                while let Some((name, address)) = next {
                    hosts.ended(start.elapsed(), &name, address.is_some());
                    found.extend(address.map(|address| (name, address)));
                    next = running.next().now_or_never().flatten();
                }
                if !found.is_empty() && events.send(Event::Hosts(found)).await.is_err() {
                    return;
                }
            },
            () = until(wake) => {},
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// getaddrinfo cannot be interrupted, and the runtime waits for its own threads when it ends: so this is a thread that
/// nobody waits for, and that gives its place back only when it is done.
async fn look_up(name: String, resolve: Resolve) -> (String, Option<Ipv4Addr>) {
    static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
    let (answer, answered) = oneshot::channel();
    let asked = name.clone();
    if let Ok(place) = PLACES.acquire().await {
        let thread = std::thread::Builder::new().name("resolve".to_owned());
        let started = thread.spawn(move || {
            let found = resolve(&asked);
            drop(place);
            // Whoever asked may be gone.
            let _ = answer.send(found);
        });
        if let Err(error) = started {
            tracing::warn!(name, %error, "no thread to look a name up");
        }
    }
    (name, answered.await.ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_name_that_is_not_found_is_left_alone_for_half_a_minute_and_new_ones_go_first() {
        let mut hosts = Hosts::default();
        hosts.set(&names(&["dead", "good"]));
        assert_eq!((hosts.next(s(1)), hosts.next(s(1))), (Some("dead".into()), Some("good".into())));
        assert_eq!((hosts.next(s(1)), hosts.wake_at()), (None, None), "each is asked for once");
        hosts.ended(s(2), "dead", false);
        hosts.ended(s(2), "good", true);
        hosts.set(&names(&["dead", "good"]));
        assert_eq!((hosts.next(s(31)), hosts.wake_at()), (None, Some(s(32))));
        hosts.set(&names(&["dead", "good", "new"]));
        assert_eq!((hosts.next(s(32)), hosts.next(s(32))), (Some("new".into()), Some("dead".into())));
        assert_eq!((hosts.next(s(61)), hosts.next(s(62))), (None, Some("good".into())));
    }

    #[test]
    fn names_are_bounded_and_forgotten_with_their_agents() {
        let mut hosts = Hosts::default();
        hosts.set(&(0..10_000).map(|n| format!("agent-{n}")).collect());
        assert_eq!(hosts.names.len(), NAMES);
        hosts.set(&names(&["a"]));
        assert_eq!(hosts.names.len(), 1);
        hosts.ended(s(1), "agent-1", true);
        assert_eq!(hosts.names.len(), 1);
    }
}
