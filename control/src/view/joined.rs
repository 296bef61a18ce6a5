//! One cluster out of what Marathons and Mesos say of it. A task that both name is joined by its Mesos id.
//!
//! Mesos decides whether a task exists, its state, its addresses and where its ports are found (DiscoveryInfo); Marathon adds
//! health, labels and groups of the app. A task that a Marathon lists and Mesos has no word of is over; one that Mesos alone
//! tells of serves as well, whoever launched it. While Mesos does not tell of changes as they happen (it is polled, or lost)
//! the later of the two words decides of a Marathon's tasks: each source's last word stays until there is a later one. Of an
//! agent that a new master has not heard from it has no word.
//! A Marathon whose framework this Mesos has never heard of is one of another cluster, and stands alone.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ClusterView, Health, Listing, PortAt, Rollout, Task, TaskPort, TaskState};
use crate::marathon::app::{LEGACY, legacy, legacy_port, scheme};
use crate::marathon::payload::groups;
use crate::marathon::ports::protocols;
use crate::mesos::facts::{self, DiscoveryPort, Facts, Scope};
use crate::rejected::Rejected;

/// The first source that is a framework of Mesos and no Marathon of the configuration, which are at most 64. Frameworks are
/// numbered in the order of their ids.
pub const MESOS: usize = 1 << 16;

/// Everybody's tasks by source, and what they were joined of. A listing that is as it was stays the allocation that it was.
pub(super) fn join(view: &ClusterView) -> (BTreeMap<usize, Arc<Listing>>, Option<Past>) {
    let mut all: BTreeMap<usize, Arc<Listing>> = BTreeMap::new();
    let said = || view.said.iter().map(|(source, said)| (*source, Arc::clone(&said.listing)));
    let Some(facts) = &view.mesos else { return (said().collect(), None) };
    let mesos = Mesos::of(facts, view);
    let mut past = Past { facts: Arc::clone(facts), said: BTreeMap::new() };
    let mut spoken_for = BTreeSet::new();
    for (source, said) in &view.said {
        let listing = match mesos.framework_of(&said.listing) {
            Some(id) => {
                let decides = view.streaming || !said.is_later;
                spoken_for.insert(id);
                past.said.insert(*source, (Arc::clone(&said.listing), decides));
                Arc::new(mesos.with_marathon(*source, id, &said.listing, decides))
            }
            None => Arc::clone(&said.listing),
        };
        all.insert(*source, listing);
    }
    let alone = mesos.tasks.keys().filter(|id| !spoken_for.contains(*id));
    all.extend(alone.enumerate().map(|(n, id)| (MESOS + n, Arc::new(mesos.alone(MESOS + n, id)))));
    for (source, listing) in &mut all {
        if let Some(before) = view.marathons.get(source).filter(|before| *before == listing) {
            *listing = Arc::clone(before);
        }
    }
    (all, Some(past))
}

/// What the listings of a view were joined of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Past {
    facts: Arc<Facts>,
    /// Of each Marathon that is a framework of this Mesos: its own listing, and whether Mesos decided.
    said: BTreeMap<usize, (Arc<Listing>, bool)>,
}

/// Tasks of each framework that is known, sorted by id.
type ByFramework<'a> = BTreeMap<&'a str, Vec<&'a Arc<facts::Task>>>;

/// What Mesos says, by framework.
struct Mesos<'a> {
    facts: &'a Facts,
    frameworks: BTreeMap<&'a str, &'a Arc<facts::Framework>>,
    tasks: ByFramework<'a>,
    /// What it said before, where nothing but tasks is different since, and what became of it.
    before: Option<(&'a Past, ByFramework<'a>)>,
    listings: &'a BTreeMap<usize, Arc<Listing>>,
}

fn by_framework<'a>(facts: &'a Facts) -> ByFramework<'a> {
    let mut tasks: ByFramework<'a> = facts.frameworks.iter().map(|f| (f.id.as_str(), Vec::new())).collect();
    let mut last: (&str, Option<&mut Vec<&Arc<facts::Task>>>) = ("", None);
    for task in &facts.tasks {
        if last.1.is_none() || last.0 != task.framework {
            last = (&task.framework, None);
            // A task may be told of before its framework is: it waits.
            last.1 = tasks.get_mut(task.framework.as_str());
        }
        if let Some(of_framework) = &mut last.1 {
            of_framework.push(task);
        }
    }
    for of_framework in tasks.values_mut() {
        of_framework.sort_by(|a, b| a.id.cmp(&b.id));
        // Of one id, which /state has been seen to hold twice, the last.
        of_framework.reverse();
        of_framework.dedup_by(|a, b| a.id == b.id);
        of_framework.reverse();
    }
    tasks
}

/// A sorted list that is asked for ids in their order.
struct Seek<'a, T> {
    rest: &'a [T],
    id: fn(&T) -> &str,
}

impl<'a, T> Seek<'a, T> {
    fn at(&mut self, id: &str) -> Option<&'a T> {
        while let Some((first, rest)) = self.rest.split_first() {
            match (self.id)(first).cmp(id) {
                Ordering::Less => self.rest = rest,
                Ordering::Equal => return Some(first),
                Ordering::Greater => return None,
            }
        }
        None
    }
}

fn mesos_tasks<'a, 'b>(rest: &'a [&'b Arc<facts::Task>]) -> Seek<'a, &'b Arc<facts::Task>> {
    Seek { rest, id: |task| &task.id }
}

fn tasks(rest: &[Arc<Task>]) -> Seek<'_, Arc<Task>> {
    Seek { rest, id: |task| &task.id }
}

/// Tasks as they were joined before, where what each is joined of is what it was.
#[derive(Clone, Copy, Default)]
struct Kept<'a, 'b> {
    joined: &'a [Arc<Task>],
    mesos: &'a [&'b Arc<facts::Task>],
    /// As the Marathon had them.
    said: &'a [Arc<Task>],
}

impl<'a, 'b> Kept<'a, 'b> {
    fn seek(self) -> KeptSeek<'a, 'b> {
        KeptSeek { joined: tasks(self.joined), mesos: mesos_tasks(self.mesos), said: tasks(self.said) }
    }
}

/// These, asked for ids in their order.
struct KeptSeek<'a, 'b> {
    joined: Seek<'a, Arc<Task>>,
    mesos: Seek<'a, &'b Arc<facts::Task>>,
    said: Seek<'a, Arc<Task>>,
}

impl<'a> KeptSeek<'a, '_> {
    /// What became of this task of Mesos's and the Marathon's, if that was joined before.
    fn at(&mut self, id: &str, mesos: Option<&Arc<facts::Task>>, said: Option<&Arc<Task>>) -> Option<&'a Arc<Task>> {
        let joined = self.joined.at(id)?;
        (same(self.mesos.at(id).copied(), mesos) && same(self.said.at(id), said)).then_some(joined)
    }
}

/// Whether both are one allocation, or none is there.
fn same<T>(before: Option<&Arc<T>>, now: Option<&Arc<T>>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        (before, now) => before.is_none() && now.is_none(),
    }
}

impl<'a> Mesos<'a> {
    fn of(facts: &'a Facts, view: &'a ClusterView) -> Self {
        let past = view.past.as_ref().filter(|past| {
            let before = &past.facts;
            (&before.agents, &before.recovered, &before.unread) == (&facts.agents, &facts.recovered, &facts.unread)
        });
        Self {
            facts,
            frameworks: facts.frameworks_by_id(),
            tasks: by_framework(facts),
            before: past.map(|past| (past, by_framework(&past.facts))),
            listings: &view.marathons,
        }
    }

    /// What is kept of a source. A listing in which something was refused, or with one id twice, is joined anew: whose it was
    /// is not told.
    fn kept(&self, source: usize, framework: &str, said: Option<(&Arc<Listing>, bool)>) -> Kept<'_, 'a> {
        let listing = self.listings.get(&source);
        let (Some((past, by_framework)), Some(listing)) = (&self.before, listing) else { return Kept::default() };
        let before = past.said.get(&source);
        let decided = |(_, decides): &(_, bool)| *decides;
        let refused = before.map_or(0, |(said, _)| said.rejected.len());
        let good = said.as_ref().map(decided) == before.map(|(_, decided)| *decided)
            && listing.framework_id.as_deref() == Some(framework)
            && listing.rejected.len() == refused;
        if !good || is_twice(&listing.tasks) || said.is_some_and(|(said, _)| is_twice(&said.tasks)) {
            return Kept::default();
        }
        Kept {
            joined: &listing.tasks,
            mesos: by_framework.get(framework).map_or(&[], Vec::as_slice),
            said: before.map_or(&[], |(said, _)| said.tasks.as_slice()),
        }
    }

    /// The framework that a Marathon is: by its own word, else by whose tasks it lists.
    fn framework_of(&self, listing: &Listing) -> Option<&'a str> {
        if let Some(id) = &listing.framework_id {
            return self.frameworks.get_key_value(id.as_str()).map(|(id, _)| *id);
        }
        let has = |all: &[&Arc<facts::Task>]| {
            let mut known = mesos_tasks(all);
            listing.tasks.iter().any(|task| known.at(&task.id).is_some())
        };
        self.tasks.iter().find(|(_, tasks)| has(tasks)).map(|(id, _)| *id)
    }

    /// A framework's tasks as both have them; `decides` says whether Mesos's word on their existence is the later one.
    fn with_marathon(&self, source: usize, framework: &str, said: &Arc<Listing>, decides: bool) -> Listing {
        let known = self.tasks.get(framework).map_or(&[][..], Vec::as_slice);
        let mut now = mesos_tasks(known);
        let kept = self.kept(source, framework, Some((said, decides)));
        let mut of_both = kept.seek();
        let both = said.tasks.iter().map(|task| {
            let mesos = now.at(&task.id).copied();
            let joined = of_both.at(&task.id, mesos, Some(task)).cloned();
            joined.unwrap_or_else(|| Arc::new(self.both(framework, Task::clone(task), mesos.map(Arc::as_ref), decides)))
        });
        let mut listing = Listing {
            framework: self.frameworks.get(framework).map(|f| f.name.clone()).filter(|n| !n.is_empty()),
            framework_id: Some(framework.to_owned()),
            framework_host: said.framework_host.clone(),
            tasks: both.collect(),
            idle: said.idle.clone(),
            rejected: said.rejected.clone(),
            unreadable: said.unreadable.clone(),
        };
        listing.framework = listing.framework.or_else(|| said.framework.clone());
        if decides {
            let (mut named, mut kept) = (tasks(&said.tasks), kept.seek());
            let more = known.iter().filter(|task| named.at(&task.id).is_none());
            for task in more.filter(|task| !self.facts.recovered.contains(&task.agent)) {
                let joined = kept.at(&task.id, Some(task), None).cloned();
                listing.tasks.extend(joined.or_else(|| self.task(task, &mut listing.rejected).map(Arc::new)));
            }
            listing.tasks.sort();
        }
        listing
    }

    /// A Marathon's task with Mesos's word on it, if there is one.
    fn both(&self, framework: &str, mut task: Task, mesos: Option<&facts::Task>, decides: bool) -> Task {
        let decides = decides && !task.slave.as_ref().is_some_and(|agent| self.facts.recovered.contains(agent));
        match mesos {
            Some(mesos) => self.add(&mut task, mesos, decides),
            None if decides && !self.is_unread(framework, &task.id) => task.state = TaskState::Terminal,
            None => {}
        }
        task
    }

    fn is_unread(&self, framework: &str, task: &str) -> bool {
        let unread = &self.facts.unread;
        unread.nameless || unread.tasks.contains(task) || unread.frameworks.contains(framework)
    }

    /// A framework's tasks as Mesos alone has them.
    fn alone(&self, source: usize, id: &str) -> Listing {
        let framework = self.frameworks.get(id);
        let mut listing = Listing {
            framework: framework.map(|f| f.name.clone()).filter(|n| !n.is_empty()),
            framework_id: Some(id.to_owned()),
            framework_host: framework.and_then(|f| scheduler_host(f)),
            ..Listing::default()
        };
        let mut kept = self.kept(source, id, None).seek();
        for task in self.tasks.get(id).into_iter().flatten() {
            let joined = kept.at(&task.id, Some(task), None).cloned();
            listing.tasks.extend(joined.or_else(|| self.task(task, &mut listing.rejected).map(Arc::new)));
        }
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

/// Whether an id is there twice in what is sorted by it.
fn is_twice(tasks: &[Arc<Task>]) -> bool {
    tasks.windows(2).any(|two| matches!(two, [a, b] if a.id == b.id))
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
