//! One cluster out of what Marathons and Mesos say of it. A task that both name is joined by its Mesos id.
//!
//! Mesos decides whether a task exists, its state, its addresses and where its ports are found (DiscoveryInfo); Marathon adds
//! health, labels and groups of the app. A task that a Marathon lists and Mesos has no word of is over; one that Mesos alone
//! tells of serves as well, whoever launched it. While Mesos does not tell of changes as they happen (it is polled, or lost)
//! the later of the two words decides of a Marathon's tasks: each source's last word stays until there is a later one. Of an
//! agent that a new master has not heard from it has no word.
//! A Marathon whose framework this Mesos has never heard of is one of another cluster, and stands alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ClusterView, Health, Listing, PortAt, Rollout, Said, Task, TaskPort, TaskState};
use crate::marathon::app::{LEGACY, legacy, legacy_port, scheme};
use crate::marathon::payload::groups;
use crate::marathon::ports::protocols;
use crate::mesos::facts::{self, DiscoveryPort, Facts, Scope};
use crate::rejected::Rejected;

/// The first source that is a framework of Mesos and no Marathon of the configuration, which are at most 64. Frameworks are
/// numbered in the order of their ids.
pub const MESOS: usize = 1 << 16;

/// Everybody's tasks by source. A listing that is as it was stays the allocation that it was.
pub(super) fn join(view: &ClusterView) -> BTreeMap<usize, Arc<Listing>> {
    let mut all: BTreeMap<usize, Arc<Listing>> = BTreeMap::new();
    let said = || view.said.iter().map(|(source, said)| (*source, Arc::clone(&said.listing)));
    let Some(facts) = &view.mesos else { return said().collect() };
    let mesos = Mesos::of(facts);
    let mut spoken_for = BTreeSet::new();
    for (source, said) in &view.said {
        let listing = match mesos.framework_of(&said.listing) {
            Some(id) => {
                spoken_for.insert(id);
                mesos.with_marathon(id, said, view.streaming || !said.is_later)
            }
            None => Arc::clone(&said.listing),
        };
        all.insert(*source, listing);
    }
    let alone = mesos.tasks.keys().filter(|id| !spoken_for.contains(*id));
    all.extend(alone.enumerate().map(|(n, id)| (MESOS + n, Arc::new(mesos.alone(id)))));
    for (source, listing) in &mut all {
        if let Some(before) = view.marathons.get(source).filter(|before| *before == listing) {
            *listing = Arc::clone(before);
        }
    }
    all
}

/// What Mesos says, by framework.
struct Mesos<'a> {
    facts: &'a Facts,
    frameworks: BTreeMap<&'a str, &'a Arc<facts::Framework>>,
    /// Tasks by framework and id; one key for each framework that is known.
    tasks: BTreeMap<&'a str, BTreeMap<&'a str, &'a facts::Task>>,
}

impl<'a> Mesos<'a> {
    fn of(facts: &'a Facts) -> Self {
        let frameworks = facts.frameworks_by_id();
        let mut tasks: BTreeMap<&str, BTreeMap<&str, &facts::Task>> =
            frameworks.keys().map(|id| (*id, BTreeMap::new())).collect();
        for task in &facts.tasks {
            // A task may be told of before its framework is: it waits.
            if let Some(of_framework) = tasks.get_mut(task.framework.as_str()) {
                of_framework.insert(&task.id, task);
            }
        }
        Self { facts, frameworks, tasks }
    }

    /// The framework that a Marathon is: by its own word, else by whose tasks it lists.
    fn framework_of(&self, listing: &Listing) -> Option<&'a str> {
        if let Some(id) = &listing.framework_id {
            return self.frameworks.get_key_value(id.as_str()).map(|(id, _)| *id);
        }
        let has =
            |tasks: &BTreeMap<&str, &facts::Task>| listing.tasks.iter().any(|t| tasks.contains_key(t.id.as_str()));
        self.tasks.iter().find(|(_, tasks)| has(tasks)).map(|(id, _)| *id)
    }

    /// A framework's tasks as both have them; `decides` says whether Mesos's word on their existence is the later one.
    fn with_marathon(&self, framework: &str, said: &Said, decides: bool) -> Arc<Listing> {
        let mut listing = Listing::clone(&said.listing);
        let known = self.tasks.get(framework);
        for task in &mut listing.tasks {
            let decides = decides && !task.slave.as_ref().is_some_and(|agent| self.facts.recovered.contains(agent));
            match known.and_then(|tasks| tasks.get(task.id.as_str())) {
                Some(mesos) => self.add(task, mesos, decides),
                None if decides && !self.is_unread(framework, &task.id) => task.state = TaskState::Terminal,
                None => {}
            }
        }
        if decides {
            let named: BTreeSet<&str> = said.listing.tasks.iter().map(|t| t.id.as_str()).collect();
            let more = known.into_iter().flatten().filter(|(id, _)| !named.contains(*id));
            let more = more.filter(|(_, task)| !self.facts.recovered.contains(&task.agent));
            let more = more.filter_map(|(_, task)| self.task(task, &mut listing.rejected));
            listing.tasks.extend(more);
            listing.tasks.sort();
        }
        listing.framework = self.frameworks.get(framework).map(|f| f.name.clone()).filter(|n| !n.is_empty());
        listing.framework = listing.framework.or_else(|| said.listing.framework.clone());
        Arc::new(listing)
    }

    fn is_unread(&self, framework: &str, task: &str) -> bool {
        let unread = &self.facts.unread;
        unread.nameless || unread.tasks.contains(task) || unread.frameworks.contains(framework)
    }

    /// A framework's tasks as Mesos alone has them.
    fn alone(&self, id: &str) -> Listing {
        let framework = self.frameworks.get(id);
        let mut listing = Listing {
            framework: framework.map(|f| f.name.clone()).filter(|n| !n.is_empty()),
            framework_id: Some(id.to_owned()),
            framework_host: framework.and_then(|f| scheduler_host(f)),
            ..Listing::default()
        };
        for task in self.tasks.get(id).into_iter().flat_map(BTreeMap::values) {
            listing.tasks.extend(self.task(task, &mut listing.rejected));
        }
        listing.tasks.sort();
        listing
    }

    fn agent_host(&self, task: &facts::Task) -> Option<&'a str> {
        self.facts.agents.get(&task.agent).map(|agent| agent.hostname.as_str()).filter(|host| !host.is_empty())
    }

    /// Adds Mesos's word to a Marathon's task.
    fn add(&self, task: &mut Task, mesos: &facts::Task, decides: bool) {
        if decides {
            task.state = mesos.state;
        }
        if let Some(host) = self.agent_host(mesos) {
            host.clone_into(&mut task.host);
            task.slave = Some(mesos.agent.clone());
        }
        if !task.health.is_said() && mesos.health != Health::Unchecked {
            task.health = mesos.health;
        }
        let ips = mesos.ips();
        if !ips.is_empty() {
            task.ips = ips;
            task.networks = network_names(mesos);
        }
        if mesos.discovery.as_ref().is_some_and(|d| !d.ports.is_empty()) {
            // What is wrong with a label the Marathon's own reading has told already.
            task.ports = ports(mesos, &mut Vec::new());
        }
        let more = mesos_groups(mesos, &mut Vec::new());
        if more.iter().any(|group| !task.groups.contains(group)) {
            let all: BTreeSet<String> = task.groups.iter().chain(more.iter()).cloned().collect();
            task.groups = all.into_iter().collect();
        }
    }

    /// A task of Mesos's alone; `None` while its agent is not known.
    fn task(&self, mesos: &facts::Task, rejected: &mut Vec<Rejected>) -> Option<Task> {
        Some(Task {
            id: mesos.id.clone(),
            app: path(mesos.discovery_name()),
            name: mesos.discovery_name().to_owned(),
            slave: Some(mesos.agent.clone()),
            host: self.agent_host(mesos)?.to_owned(),
            state: mesos.state,
            health: mesos.health,
            // Deployments are Marathon's.
            rollout: Rollout::None,
            ips: mesos.ips(),
            ports: ports(mesos, rejected),
            networks: network_names(mesos),
            groups: mesos_groups(mesos, rejected),
            labels: Arc::clone(&mesos.labels),
        })
    }
}

fn scheduler_host(framework: &facts::Framework) -> Option<String> {
    let scheduler = framework.scheduler.as_ref().map(|s| s.host.clone());
    scheduler.or_else(|| Some(framework.hostname.clone()).filter(|h| !h.is_empty()))
}

/// A discovery name as the path that a Marathon would have made it from: `app.group` is `/group/app`.
fn path(name: &str) -> String {
    name.rsplit('.').filter(|part| !part.is_empty()).fold(String::new(), |path, part| path + "/" + part)
}

fn network_names(task: &facts::Task) -> Vec<String> {
    let mut names: Vec<String> = task.networks.iter().filter_map(|n| n.name.clone()).collect();
    names.dedup();
    names
}

/// Groups of its networks, by field and by label; else of its own label.
fn mesos_groups(task: &facts::Task, rejected: &mut Vec<Rejected>) -> Arc<[String]> {
    let near: Vec<&str> =
        task.networks.iter().filter_map(|n| n.labels.get("SLUICE_GROUPS").map(String::as_str)).collect();
    let label = if near.is_empty() { task.labels.get("SLUICE_GROUPS").cloned() } else { Some(near.join(",")) };
    let listed = task.networks.iter().flat_map(|n| &n.groups).map(String::as_str);
    groups(&task.id, listed, label.as_deref(), rejected)
}

/// The ports of its discovery information, and those that labels of Minuteman's first form name by their index.
fn ports(task: &facts::Task, rejected: &mut Vec<Rejected>) -> Vec<TaskPort> {
    let mut all = Vec::new();
    for port in task.discovery.iter().flat_map(|d| &d.ports) {
        let found = protocols(&port.protocol);
        if found.is_empty() {
            let reason = "the port's protocol must be tcp or udp";
            rejected.extend(port.labels.iter().map(|(key, value)| Rejected::new(&task.id, key, value, reason)));
        }
        all.extend(found.into_iter().map(|protocol| TaskPort {
            name: Some(port.name.clone()).filter(|n| !n.is_empty()),
            protocol,
            at: at(task, port, &protocol.to_string()),
            networks: port.network.iter().cloned().collect(),
            labels: Arc::clone(&port.labels),
        }));
    }
    for (key, value) in task.labels.iter() {
        let Some(n) = legacy(key) else { continue };
        match (scheme(value), task.ports().nth(n).filter(|port| *port != 0)) {
            (None, _) => rejected.push(Rejected::new(&task.id, key, value, LEGACY)),
            (Some(_), None) => {
                rejected.push(Rejected::new(&task.id, key, value, format!("the task has no host port number {n}")));
            }
            (Some((protocol, vip)), Some(port)) => all.push(legacy_port(key, protocol, vip, PortAt::Agent(port))),
        }
    }
    all
}

/// Where a discovery port is reached. Without the label `network-scope`, which Marathon adds since 1.3, the number of a
/// port that the agent maps is the agent's: at the container's address nobody would answer (facts/dcos.md 0.7).
fn at(task: &facts::Task, port: &DiscoveryPort, protocol: &str) -> PortAt {
    let number = port.number;
    if number == 0 {
        return PortAt::Unallocated;
    }
    if port.scope == Scope::Container {
        return PortAt::Container(number);
    }
    let mut mapped = task.mappings.iter().filter(|m| m.protocol == protocol);
    let mapped = mapped.find(|m| m.host_port == number || (port.scope == Scope::Unsaid && m.container_port == number));
    if let Some(mapping) = mapped {
        return PortAt::Agent(mapping.host_port);
    }
    let own_stack = task.bridged || task.networks.iter().any(|n| n.name.is_some());
    let is_agents = port.scope == Scope::Host || (task.bridged && task.host_ports.iter().any(|r| r.contains(&number)));
    if own_stack && is_agents { PortAt::Agent(number) } else { PortAt::Host(number) }
}

#[cfg(test)]
mod tests;
