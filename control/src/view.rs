//! What the sources say, in one shape: the tasks of the cluster, as far as the packet path cares for them.
//!
//! A [`ClusterView`] changes by [`ClusterView::apply`] only, and is equal after equal events whatever their order across
//! sources. A source that falls silent leaves its last listing here: nothing but a newer listing takes a task away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use sluice_config::model::{OverlayAgent, OverlayNetwork, Protocol};

use crate::health::Judgements;
use crate::lease::desk::Leased;
use crate::mesos::facts::Facts;
use crate::rejected::Rejected;

pub mod joined;

/// Labels, by key.
pub type Labels = BTreeMap<String, String>;

/// Everything known of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterView {
    /// The tasks of each source, joined: of each Marathon by its index in the configuration, and from
    /// [`joined::MESOS`] on those of each framework that only Mesos tells of.
    pub marathons: BTreeMap<usize, Arc<Listing>>,
    /// What Mesos said last, where it is asked.
    pub mesos: Option<Arc<Facts>>,
    /// The last listing of each Marathon as it came.
    pub(crate) said: BTreeMap<usize, Said>,
    /// What `marathons` were joined of.
    pub(crate) past: Option<joined::Past>,
    /// Whether Mesos tells of changes as they happen: its last word is then the latest.
    pub(crate) streaming: bool,
    /// Addresses of agents that are known by a host name.
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// What the overlay's master says.
    pub overlay: OverlayView,
    /// Whether it was asked and answered, be it that there is none.
    pub overlay_told: bool,
    /// What others than the sources say of backends.
    pub health: Judgements,
}

/// A Marathon's listing as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    listing: Arc<Listing>,
    /// Whether it came after the last word of Mesos.
    is_later: bool,
}

/// One Marathon's tasks, all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Its framework name, where it says one.
    pub framework: Option<String>,
    /// Its framework's id, where it says one.
    pub framework_id: Option<String>,
    /// The host that its scheduler runs on.
    pub framework_host: Option<String>,
    /// Sorted by id. One that is as it was in the listing before is the same allocation ([`share`]), so that whoever asks
    /// what is new need not compare the others.
    pub tasks: Vec<Arc<Task>>,
    /// Apps and pods that have no task now, each as the task that it would have: of its id, nowhere, `Preparing`. Their
    /// labels count, so that a VIP is there as long as its app is.
    pub idle: Vec<Arc<Task>>,
    /// What could not be read.
    pub rejected: Vec<Rejected>,
    /// Whose tasks may be running although they are not in `tasks`.
    pub unreadable: Unreadable,
}

/// What an answer names and does not say: not read is not gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unreadable {
    /// Apps and pods of which not all could be read.
    pub apps: BTreeSet<String>,
    /// Tasks that could not.
    pub tasks: BTreeSet<String>,
    /// Something without so much as an id: it may have been anything.
    pub nameless: bool,
}

/// Overlay networks and agents, from `/overlay-master/state`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OverlayView {
    /// Networks, by name.
    pub networks: Vec<OverlayNetwork>,
    /// Agents that have joined, sorted.
    pub agents: Vec<OverlayAgent>,
    /// Agents that are listed and have not joined, or not again. Of what was applied to a view there are none.
    pub joining: BTreeSet<Ipv4Addr>,
    /// What could not be read.
    pub rejected: Vec<Rejected>,
    /// Places that Sluice itself gave.
    pub leased: Leased,
}

/// One task: a Marathon task, or a container of a pod instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Task {
    /// Mesos task id.
    pub id: String,
    /// App or pod id, with slashes.
    pub app: String,
    /// Task and discovery name: the app's path reversed, joined by dots.
    pub name: String,
    /// Agent id, where it is known.
    pub slave: Option<String>,
    /// The agent's address or host name, as the source has it.
    pub host: String,
    /// State.
    pub state: TaskState,
    /// Health.
    pub health: Health,
    /// Where it stands in a deployment.
    pub rollout: Rollout,
    /// The task's own addresses, in the source's order.
    pub ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<TaskPort>,
    /// Networks that it is on, by name; empty on host and bridge networking.
    pub networks: Vec<String>,
    /// Isolation groups, sorted.
    pub groups: Arc<[String]>,
    /// The app's own `SLUICE_` labels.
    pub labels: Arc<Labels>,
}

/// What of Mesos's states matters to packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TaskState {
    /// `TASK_RUNNING`: serves.
    Running,
    /// `TASK_KILLING`: finishes what it began.
    Killing,
    /// Over.
    Terminal,
    /// Not there yet, or out of reach.
    Preparing,
}

impl TaskState {
    /// Reads Mesos's name of a state; an unknown one is `Preparing`, as DC/OS has it.
    #[must_use]
    pub fn read(name: &str) -> Self {
        match name {
            "TASK_RUNNING" => Self::Running,
            "TASK_KILLING" => Self::Killing,
            "TASK_FINISHED"
            | "TASK_FAILED"
            | "TASK_KILLED"
            | "TASK_LOST"
            | "TASK_ERROR"
            | "TASK_DROPPED"
            | "TASK_GONE"
            | "TASK_GONE_BY_OPERATOR" => Self::Terminal,
            _ => Self::Preparing,
        }
    }

    /// Whether the task may be a backend (B.4).
    #[must_use]
    pub fn is_eligible(self) -> bool {
        matches!(self, Self::Running | Self::Killing)
    }
}

/// What health checks say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Health {
    /// No check is defined.
    Unchecked,
    /// A check is defined and has not spoken yet.
    Unknown,
    /// Every check that spoke is content.
    Healthy,
    /// One is not.
    Unhealthy,
}

impl Health {
    /// Whether a check has spoken.
    #[must_use]
    pub fn is_said(self) -> bool {
        matches!(self, Self::Healthy | Self::Unhealthy)
    }

    /// Whether new flows may go there while better ones exist.
    #[must_use]
    pub fn takes_new_flows(self) -> bool {
        matches!(self, Self::Unchecked | Self::Healthy)
    }
}

/// Where a task stands while its app is being deployed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Rollout {
    /// No deployment of its app runs.
    #[default]
    None,
    /// It is of the version that is deployed, or was there before and stays.
    New,
    /// It is of that version, and a readiness check has not passed yet.
    Unready,
    /// It is of a version before that, and is to go once there is a newer one in its place.
    Old,
}

/// One port of a task, in one protocol.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TaskPort {
    /// Name, where it has one.
    pub name: Option<String>,
    /// Protocol.
    pub protocol: Protocol,
    /// Where it is reached.
    pub at: PortAt,
    /// The networks that the port is meant for; empty means all that the task is on.
    pub networks: Vec<String>,
    /// Its VIP and `SLUICE_` labels.
    pub labels: Arc<Labels>,
}

/// Where a port is reached (Mesos's `network-scope`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PortAt {
    /// On the agent's network stack, which is the task's own.
    Host(u16),
    /// On the agent's address, mapped into the container.
    Agent(u16),
    /// On the container's own addresses.
    Container(u16),
    /// Nowhere yet: the source has not said the number.
    Unallocated,
}

/// A change of the view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A Marathon was listed.
    Marathon {
        /// Its index in the configuration.
        source: usize,
        /// All of it.
        listing: Listing,
    },
    /// A Mesos master said everything.
    Mesos {
        /// What it said.
        facts: Arc<Facts>,
        /// Whether it goes on telling of changes as they happen.
        streaming: bool,
    },
    /// Mesos no longer tells of changes: what it said last stays, and Marathon's next word on its tasks is the later one.
    MesosLost,
    /// Host names were looked up. Names that are not in the map keep what they had.
    Hosts(BTreeMap<String, Ipv4Addr>),
    /// The overlay's master was asked.
    Overlay(OverlayView),
}

/// Most host names remembered.
const HOSTS_MAX: usize = 100_000;

impl ClusterView {
    /// Takes a change in.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Marathon { source, listing } => self.apply_listing(source, listing),
            Event::Hosts(found) => {
                self.hosts.extend(found);
                while self.hosts.len() > HOSTS_MAX {
                    self.hosts.pop_last();
                }
            }
            Event::Mesos { facts, streaming } => {
                self.mesos = Some(facts);
                self.streaming = streaming;
                self.said.values_mut().for_each(|said| said.is_later = false);
                self.join();
            }
            Event::MesosLost => {
                // Up to now its word was the latest.
                if std::mem::take(&mut self.streaming) {
                    self.said.values_mut().for_each(|said| said.is_later = false);
                }
            }
            Event::Overlay(mut overlay) => {
                overlay.keep(&self.overlay);
                self.overlay = overlay;
                self.overlay_told = true;
            }
        }
    }

    /// A new leader has no health results at first, and an odd `/v2/info` may lack the framework name: what was known
    /// of a task or a Marathon holds until it is contradicted.
    fn apply_listing(&mut self, source: usize, mut listing: Listing) {
        listing.tasks.sort();
        listing.idle.sort();
        if let Some(Said { listing: before, .. }) = self.said.get(&source) {
            listing.framework = listing.framework.or_else(|| before.framework.clone());
            listing.framework_id = listing.framework_id.or_else(|| before.framework_id.clone());
            for task in listing.tasks.iter_mut().filter(|t| t.health == Health::Unknown) {
                let known = before.tasks.binary_search_by(|b| b.id.as_str().cmp(&task.id));
                let known = known.ok().and_then(|at| before.tasks.get(at));
                if let Some(known) = known.filter(|known| known.health != Health::Unknown) {
                    let kept = Task { health: known.health, ..Task::clone(task) };
                    *task = if kept == **known { Arc::clone(known) } else { Arc::new(kept) };
                }
            }
        }
        self.said.insert(source, Said { listing: Arc::new(listing), is_later: true });
        self.join();
    }

    fn join(&mut self) {
        (self.marathons, self.past) = joined::join(self);
    }

    /// The agent's address behind a host field: the literal, or what the name was found to be.
    #[must_use]
    pub fn agent_address(&self, host: &str) -> Option<IpAddr> {
        host.parse().ok().or_else(|| self.hosts.get(host).copied().map(IpAddr::V4))
    }
}

impl OverlayView {
    /// A master that has just begun to lead may know nothing yet, and agents register again one by one: who was there and
    /// is not said to be gone stays.
    fn keep(&mut self, before: &Self) {
        self.leased = before.leased.clone();
        let joining = std::mem::take(&mut self.joining);
        let knows_none = self.agents.is_empty() && joining.is_empty();
        self.agents.extend(before.agents.iter().filter(|a| knows_none || joining.contains(&a.ip)).cloned());
        self.agents.sort();
        if self.networks.is_empty() {
            self.networks.clone_from(&before.networks);
        }
    }
}

/// Makes every task of `now` that is as it was in `before` the allocation that it was; both are sorted by id.
pub fn share(now: &mut [Arc<Task>], before: &[Arc<Task>]) {
    let mut before = before.iter().peekable();
    for task in now {
        while before.next_if(|known| known.id < task.id).is_some() {}
        if let Some(known) = before.next_if(|known| *known == task) {
            *task = Arc::clone(known);
        }
    }
}

impl Unreadable {
    /// An app or a pod, or something that does not say which.
    pub(crate) fn app(&mut self, id: Option<&str>) {
        match id {
            Some(id) => {
                self.apps.insert(id.to_owned());
            }
            None => self.nameless = true,
        }
    }

    /// Whether that which could not be read may have been this task.
    #[must_use]
    pub fn covers(&self, task: &Task) -> bool {
        self.nameless || self.apps.contains(&task.app) || self.tasks.contains(&task.id)
    }
}

impl Listing {
    /// Adds those of the tasks `known` before that served, are not named here, and that `also` picks.
    pub fn keep(&mut self, known: &[Arc<Task>], also: impl Fn(&Task) -> bool) {
        let named: BTreeSet<&str> = self.tasks.iter().map(|t| t.id.as_str()).collect();
        let missing = |t: &&Arc<Task>| t.state.is_eligible() && !named.contains(t.id.as_str()) && also(t);
        let kept: Vec<Arc<Task>> = known.iter().filter(missing).cloned().collect();
        if !kept.is_empty() {
            self.tasks.extend(kept);
            self.tasks.sort();
        }
    }

    /// The host fields that are names, to be looked up.
    #[must_use]
    pub fn host_names(&self) -> BTreeSet<String> {
        let hosts = self.tasks.iter().map(|t| t.host.as_str()).chain(self.framework_host.as_deref());
        hosts.filter(|h| !h.is_empty() && h.parse::<IpAddr>().is_err()).map(str::to_owned).collect()
    }

    /// Ids of tasks that serve.
    #[must_use]
    pub fn running(&self) -> BTreeSet<&str> {
        self.tasks.iter().filter(|t| t.state == TaskState::Running).map(|t| t.id.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;

    #[test]
    fn health_that_a_new_leader_does_not_know_yet_is_kept() {
        let mut view = ClusterView::default();
        let mut sick = task("web.1");
        sick.health = Health::Unhealthy;
        let listing = Listing { tasks: vec![sick.clone().into(), task("web.2").into()], ..Listing::default() };
        view.apply(Event::Marathon { source: 0, listing });
        sick.health = Health::Unknown;
        let mut fresh = task("web.3");
        fresh.health = Health::Unknown;
        let again = Listing { tasks: vec![fresh.into(), sick.into()], ..Listing::default() };
        view.apply(Event::Marathon { source: 0, listing: again });
        let healths: Vec<Health> = view.marathons[&0].tasks.iter().map(|t| t.health).collect();
        assert_eq!(healths, [Health::Unhealthy, Health::Unknown]);
    }

    #[test]
    fn one_marathon_never_touches_what_another_said() {
        let mut view = ClusterView::default();
        let one = Listing { tasks: vec![task("a").into()], ..Listing::default() };
        view.apply(Event::Marathon { source: 0, listing: one });
        view.apply(Event::Marathon { source: 1, listing: Listing::default() });
        assert_eq!(view.marathons[&0].tasks.len(), 1);
    }
}
