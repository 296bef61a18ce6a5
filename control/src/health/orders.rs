//! What an operator means by `sluice drain WORD`: a backend's address and port, a task id, or an agent's address or host
//! name. Pure: what is known is an argument.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use sluice_config::model::{Backend, Service};

use super::drains::{Drain, What};
use crate::rejected::shown;
use crate::view::ClusterView;

/// Longest word of an order, octets: the longest task id of Mesos with room to spare.
pub const WORD_MAX: usize = 1024;

/// How long old flows are kept when nothing is said, seconds.
pub const TIMEOUT_SECONDS: u64 = 300;

/// Longest time-out of a drain, seconds: a week.
pub const TIMEOUT_MAX_SECONDS: u64 = 7 * 24 * 3600;

/// How many names a refusal lists.
const NAMED: usize = 5;

/// `POST /v1/drain` and `POST /v1/undrain`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `IP:PORT`, a task id, or an agent's address or host name.
    pub what: String,
    /// How long old flows are kept, seconds; nothing is 300. `undrain` has no use for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// Why an order was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing is called so.
    #[error("{0}")]
    NotKnown(String),
    /// The order itself is wrong.
    #[error("{0}")]
    Wrong(String),
    /// It could not be kept or carried out.
    #[error("{0}")]
    Failed(String),
}

/// What can be drained.
#[derive(Debug, Default)]
pub struct Known<'a> {
    backends: Vec<&'a Backend>,
    tasks: BTreeSet<&'a str>,
    agents: BTreeSet<IpAddr>,
    /// Agents' host names.
    hosts: BTreeMap<&'a str, IpAddr>,
}

impl<'a> Known<'a> {
    /// Of what is served, what a drain has removed, and what the sources say.
    #[must_use]
    pub fn of<S: Borrow<Service>>(
        services: &'a [S],
        removed: impl IntoIterator<Item = &'a Backend>,
        view: &'a ClusterView,
    ) -> Self {
        let served = services.iter().flat_map(|service| &service.borrow().backends);
        let backends: Vec<&Backend> = served.chain(removed).collect();
        let mut known = Self { backends, ..Self::default() };
        for backend in &known.backends {
            known.tasks.extend(backend.task.as_deref());
            known.agents.extend(backend.agent.or_else(|| backend.network.is_none().then(|| backend.address.ip())));
        }
        let tasks = view.marathons.values().flat_map(|listing| &listing.tasks);
        for task in tasks.filter(|task| task.state.is_eligible()) {
            let Some(ip) = view.agent_address(&task.host) else { continue };
            known.agents.insert(ip);
            known.hosts.insert(&task.host, ip);
            known.hosts.extend(task.slave.as_deref().map(|id| (id, ip)));
        }
        known
    }

    /// What `word` means.
    ///
    /// # Errors
    /// When nothing is called so, with what is.
    pub fn find(&self, word: &str) -> Result<What, Refusal> {
        if let Ok(address) = word.parse::<SocketAddr>() {
            let mut there = self.backends.iter().filter(|backend| backend.address == address);
            let found = there.next().map(|b| What::Backend { address, task: b.task.clone() });
            return found.ok_or_else(|| self.not_known(word));
        }
        if self.tasks.contains(word) {
            return Ok(What::Task { id: word.to_owned() });
        }
        let ip = word.parse().ok().filter(|ip| self.agents.contains(ip)).or_else(|| self.hosts.get(word).copied());
        ip.map(|ip| What::Agent { ip }).ok_or_else(|| self.not_known(word))
    }

    fn not_known(&self, word: &str) -> Refusal {
        let addresses: BTreeSet<String> = self.backends.iter().map(|b| b.address.to_string()).collect();
        let agents: BTreeSet<String> = self.agents.iter().map(ToString::to_string).collect();
        let names = || {
            let addresses = addresses.iter().map(String::as_str);
            let agents = agents.iter().map(String::as_str);
            addresses.chain(self.tasks.iter().copied()).chain(agents).chain(self.hosts.keys().copied())
        };
        let near = near(word, names);
        let known = format!(
            "{} backends, {} tasks and {} agents are known",
            addresses.len(),
            self.tasks.len(),
            self.agents.len()
        );
        Refusal::NotKnown(match near.is_empty() {
            true => format!("nothing is called {}: {known}; `sluice show backends` lists them", shown(word)),
            false => format!("nothing is called {}: did you mean {}? {known}", shown(word), near.join(", ")),
        })
    }
}

/// What of these is meant by a word of `undrain`; a word that `known` understands is understood the same way.
///
/// # Errors
/// When nothing drained is called so, with what is.
pub fn drained(drains: &[Drain], word: &str, known: &Known<'_>) -> Result<What, Refusal> {
    let address = word.parse::<SocketAddr>().ok();
    let ip = word.parse::<IpAddr>().ok().or_else(|| known.hosts.get(word).copied());
    let is_meant = |drain: &&Drain| match &drain.what {
        What::Backend { address: there, .. } => Some(*there) == address,
        What::Task { id } => id == word,
        What::Agent { ip: there } => Some(*there) == ip,
    };
    if let Some(found) = drains.iter().find(is_meant) {
        return Ok(found.what.clone());
    }
    let all: Vec<String> = drains.iter().take(NAMED).map(|drain| drain.what.to_string()).collect();
    let more = drains.len().saturating_sub(NAMED);
    Err(Refusal::NotKnown(match (all.is_empty(), more) {
        (true, _) => format!("{} is not drained, and nothing else is", shown(word)),
        (false, 0) => format!("{} is not drained; drained: {}", shown(word), all.join(", ")),
        (false, more) => format!("{} is not drained; drained: {} and {more} more", shown(word), all.join(", ")),
    }))
}

/// Names that may have been meant: the nearest one, and those that hold the word or that it holds.
fn near<'a, I: Iterator<Item = &'a str>>(word: &str, names: impl Fn() -> I) -> Vec<String> {
    let holds = |name: &&str| word.len() >= 3 && (name.contains(word) || word.contains(*name));
    let mut near: Vec<String> = sluice_config::nearest(word, names()).map(shown).into_iter().collect();
    for name in names().filter(holds).take(NAMED).map(shown) {
        if !near.contains(&name) {
            near.push(name);
        }
    }
    near
}

/// The checked time-out of an order.
///
/// # Errors
/// When it is longer than a week.
pub fn timeout(asked: &Asked) -> Result<u64, Refusal> {
    match asked.timeout_seconds.unwrap_or(TIMEOUT_SECONDS) {
        seconds if seconds <= TIMEOUT_MAX_SECONDS => Ok(seconds),
        seconds => {
            let sentence = format!("the time-out is {seconds} s: write {TIMEOUT_MAX_SECONDS} (a week) or less");
            Err(Refusal::Wrong(sentence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;
    use crate::health::combine::tests::{backend, service};
    use crate::view::{Event, Listing};

    fn with_known(test: impl FnOnce(Known<'_>)) {
        let mut view = ClusterView::default();
        let mut named = task("db.7");
        named.host = "agent-7.example".into();
        view.apply(Event::Marathon { source: 0, listing: Listing { tasks: vec![named.into()], ..Listing::default() } });
        view.apply(Event::Hosts([("agent-7.example".to_owned(), [10, 0, 1, 7].into())].into()));
        let services = [service(1, vec![backend(1), backend(2)])];
        let removed = backend(3);
        test(Known::of(&services, [&removed], &view));
    }

    fn said(result: Result<What, Refusal>) -> String {
        result.map_or_else(|refusal| refusal.to_string(), |what| what.to_string())
    }

    #[test]
    fn a_word_is_a_backend_a_task_or_an_agent() {
        with_known(|known| {
            for (word, expected) in [
                ("10.0.0.1:80", "backend 10.0.0.1:80"),
                ("10.0.0.3:80", "backend 10.0.0.3:80"),
                ("web.2", "task web.2"),
                ("10.0.1.2", "agent 10.0.1.2"),
                ("agent-7.example", "agent 10.0.1.7"),
                ("f-S1", "agent 10.0.1.7"),
            ] {
                assert_eq!(said(known.find(word)), expected);
            }
        });
    }

    #[test]
    fn a_word_that_nothing_is_called_is_answered_with_what_is() {
        with_known(|known| {
            let near = said(known.find("10.0.0.1:81"));
            assert!(near.contains("did you mean 10.0.0.1:80?"), "{near}");
            assert!(said(known.find("agent-7")).contains("did you mean agent-7.example?"));
            let far = said(known.find("zebra\u{202e}"));
            assert!(far.contains("zebra\\u{202e}") && far.contains("3 backends, 3 tasks and 4 agents"), "{far}");
        });
    }

    #[test]
    fn only_what_is_drained_can_be_taken_back_even_when_it_serves_no_longer() {
        let drain = |what| Drain { what, since: 0, until: 1, idle_since: None };
        let gone = SocketAddr::from(([10, 9, 9, 9], 80));
        let drains = [
            drain(What::Backend { address: gone, task: Some("old.1".into()) }),
            drain(What::Task { id: "web.1".into() }),
            drain(What::Agent { ip: [10, 0, 1, 7].into() }),
        ];
        with_known(|known| {
            for (word, expected) in [
                ("10.9.9.9:80", "backend 10.9.9.9:80"),
                ("web.1", "task web.1"),
                ("agent-7.example", "agent 10.0.1.7"),
                ("web.2", "web.2 is not drained; drained: backend 10.9.9.9:80, task web.1, agent 10.0.1.7"),
            ] {
                assert_eq!(said(drained(&drains, word, &known)), expected);
            }
            assert_eq!(said(drained(&[], "web.2", &known)), "web.2 is not drained, and nothing else is");
        });
    }
}
