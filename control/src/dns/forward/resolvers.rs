//! Whom a name is asked of, and who of them answers. Time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_config::model::Dns;
use sluice_dataplane::wire::name;

/// Questions in a row without an answer that make a resolver one that is down: a single datagram may be lost.
const STRIKES: u32 = 2;
/// How long one that is down is left alone before one question tries it again.
const DOWN: Duration = Duration::from_secs(10);

/// A resolver.
#[derive(Debug)]
pub struct Resolver {
    /// Where it is.
    pub address: SocketAddr,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    strikes: u32,
    /// It is down, and is tried again then.
    again: Option<Instant>,
}

impl Resolver {
    fn new(address: SocketAddr) -> Self {
        Self { address, health: Mutex::default() }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered. Whether it was down.
    pub(super) fn answered(&self) -> bool {
        std::mem::take(&mut *self.health()).again.is_some()
    }

    /// It did not. Whether it is down from now on.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut health = self.health();
        health.strikes = health.strikes.saturating_add(1);
        if health.strikes >= STRIKES {
            health.again = Some(now + DOWN);
        }
        health.strikes == STRIKES
    }

    /// Whether others are asked first.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.health().again.is_some()
    }

    /// Whether it is asked in its turn. One that was down long enough is asked by this question, and by others when that is answered.
    fn is_wanted(&self, now: Instant) -> bool {
        let mut health = self.health();
        match health.again {
            Some(at) if now < at => false,
            Some(_) => {
                health.again = Some(now + DOWN);
                true
            }
            None => true,
        }
    }
}

/// Resolvers in the order in which they are asked.
pub(super) type List = Arc<[Arc<Resolver>]>;

/// A list in the order in which to ask now: those that are down come last, when nobody else has answered.
pub(super) fn in_order(list: &List, now: Instant) -> Vec<Arc<Resolver>> {
    let (up, down): (Vec<_>, Vec<_>) = list.iter().map(Arc::clone).partition(|resolver| resolver.is_wanted(now));
    up.into_iter().chain(down).collect()
}

/// All resolvers, by suffix.
#[derive(Debug)]
pub struct Resolvers {
    /// For every other name; empty without `external`.
    others: List,
    /// By suffix on the wire.
    zones: HashMap<Box<[u8]>, List>,
    all: BTreeMap<SocketAddr, Arc<Resolver>>,
}

impl Resolvers {
    /// Of the configuration.
    #[must_use]
    pub fn new(dns: &Dns) -> Self {
        let mut all = BTreeMap::new();
        let mut list = |addresses: &[SocketAddr]| -> List {
            let one = |at: &SocketAddr| Arc::clone(all.entry(*at).or_insert_with(|| Arc::new(Resolver::new(*at))));
            addresses.iter().map(one).collect()
        };
        let others = list(if dns.external { &dns.resolvers } else { &[] });
        let suffix = |name: &str| name::from_text(name).ok().map(|wire| wire.to_ascii_lowercase().into());
        let zones = dns.zone_resolvers.iter().filter_map(|(name, at)| Some((suffix(name)?, list(at)))).collect();
        Self { others, zones, all }
    }

    /// Every resolver once, by address.
    pub fn all(&self) -> impl Iterator<Item = &Resolver> {
        self.all.values().map(Arc::as_ref)
    }

    /// Whom a name on the wire, in lower case, is asked of: those of the longest suffix; `None` if of nobody. And how
    /// many octets that suffix has; 1 is the root's.
    pub(super) fn of(&self, name: &[u8]) -> Option<(List, usize)> {
        let mut rest = name;
        while let Some((len, below)) = rest.split_first().filter(|(len, _)| **len > 0) {
            if let Some(list) = self.zones.get(rest) {
                return Some((Arc::clone(list), rest.len()));
            }
            rest = below.get(usize::from(*len)..)?;
        }
        (!self.others.is_empty()).then(|| (Arc::clone(&self.others), 1))
    }

    /// Whether somebody at this address is asked.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.all.keys().any(|at| at.ip() == ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::forward::tests::dns;

    fn wire(name: &str) -> Vec<u8> {
        name::from_text(name).unwrap().to_vec()
    }

    #[test]
    fn the_longest_suffix_that_ends_at_a_dot_decides() {
        let of = |external: &str, name: &str| {
            let resolvers = Resolvers::new(&dns(&format!(
                "{external}zone_resolvers = {{ corp = \"192.0.2.1\", \"Lab.Corp\" = [\"192.0.2.2:5353\", \"192.0.2.1\"] }}"
            )));
            let list = resolvers.of(&wire(name)).map(|(list, _)| list);
            list.map(|list| list.iter().map(|r| r.address.to_string()).collect::<Vec<_>>().join(" "))
        };
        let external = "external = true\nresolvers = [\"192.0.2.9\"]\n";
        for (name, expected) in [
            ("corp", "192.0.2.1:53"),
            ("a.b.corp", "192.0.2.1:53"),
            ("lab.corp", "192.0.2.2:5353 192.0.2.1:53"),
            ("x.lab.corp", "192.0.2.2:5353 192.0.2.1:53"),
            ("xlab.corp", "192.0.2.1:53"),
        ] {
            assert_eq!(of("", name).as_deref(), Some(expected), "{name}");
            assert_eq!(of(external, name).as_deref(), Some(expected), "{name}");
        }
        for name in ["xcorp", "example.org", "corp.example"] {
            assert_eq!(of("", name), None, "{name}");
            assert_eq!(of(external, name).as_deref(), Some("192.0.2.9:53"), "{name}");
        }
        assert!(Resolvers::new(&dns(external)).of(&[0]).is_some(), "the root");
    }

    #[test]
    fn one_that_is_down_is_left_alone_and_tried_by_one_question() {
        let resolvers = Resolvers::new(&dns("external = true\nresolvers = [\"192.0.2.1\", \"192.0.2.2\"]"));
        let list = resolvers.of(b"\x03org\0").unwrap().0;
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let first = |now| in_order(&list, now)[0].address.ip().to_string();
        assert!(!list[0].failed(at(0)));
        assert_eq!(first(at(0)), "192.0.2.1", "one datagram may be lost");
        assert!(list[0].failed(at(0)) && !list[0].failed(at(0)), "down, which is said once");
        assert_eq!(first(at(9)), "192.0.2.2");
        assert_eq!(first(at(10)), "192.0.2.1", "tried again");
        assert_eq!(first(at(11)), "192.0.2.2", "by one question");
        assert!(list[0].answered() && !list[0].answered(), "up again, which is said once");
        assert_eq!(first(at(11)), "192.0.2.1");
        assert!(!list[1].failed(at(12)) && list[1].failed(at(12)));
        assert_eq!(in_order(&list, at(12)).len(), 2, "who is down is the last resort");
    }
}
