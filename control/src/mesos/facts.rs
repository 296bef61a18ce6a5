//! What a Mesos master says, whichever way it was asked: frameworks, agents and the tasks of all of them.
//!
//! Tasks refer to frameworks and agents by id, and may name one that is not here (yet): who needs it leaves the task out
//! until it is. Texts are as Mesos has them, bounded in length and otherwise hostile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use sluice_config::model::{Masters, Mesos};

use crate::rejected::Rejected;
use crate::view::{Health, Labels, TaskState};

/// Everything that is known of one Mesos.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The leading master.
    pub leader: Option<Endpoint>,
    /// Id of the master that said this: another one after each change of leadership. `None` where it is not known.
    pub master: Option<String>,
    /// All masters: in the order of `[mesos] masters`, or by their sequence in ZooKeeper.
    pub masters: Vec<Endpoint>,
    /// Frameworks, in the order of the answer; by id where they come from the event stream. Those that are over are absent.
    pub frameworks: Vec<Arc<Framework>>,
    /// Agents, by id.
    pub agents: BTreeMap<String, Arc<Agent>>,
    /// Agents that the master has not heard from since it leads: of their tasks it has no word.
    pub recovered: BTreeSet<String>,
    /// Tasks that are not over, in the order of the answer (of frameworks, then tasks); by framework and id where they come
    /// from the event stream. An id is unique in its framework only, and `/state` has been seen to hold one twice.
    pub tasks: Vec<Arc<Task>>,
    /// What could not be read.
    pub rejected: Vec<Rejected>,
    /// Whose tasks may be running although they are not in `tasks`.
    pub unread: Unread,
}

/// What an answer holds and does not say: not read is not gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unread {
    /// Tasks that could not be read, by id.
    pub tasks: BTreeSet<String>,
    /// Frameworks of which not all could.
    pub frameworks: BTreeSet<String>,
    /// Agents that could not.
    pub agents: BTreeSet<String>,
    /// Something without so much as an id: it may have been anything.
    pub nameless: bool,
}

/// A host and a port: of a libprocess pid (`master@10.0.0.1:5050`), or as the configuration has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// A name, or an address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A scheduler, such as Marathon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Framework {
    /// Id.
    pub id: String,
    /// Name; two frameworks may have the same.
    pub name: String,
    /// Whether its scheduler is connected; Mesos-DNS does not ask.
    pub active: bool,
    /// Where its scheduler listens, of its pid; a scheduler that speaks HTTP has none.
    pub scheduler: Option<Endpoint>,
    /// Host that its scheduler runs on, name or address; empty where it is not said.
    pub hostname: String,
    /// Roles; one unless the framework has several.
    pub roles: Vec<String>,
}

/// A node that runs tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Id.
    pub id: String,
    /// As its operator named it, name or address: what DC/OS's VIPs and `agentip` go by.
    pub hostname: String,
    /// Of its pid: what Mesos-DNS goes by.
    pub endpoint: Option<Endpoint>,
    /// Whether it is connected.
    pub active: bool,
    /// Attributes that its operator gave it, as text.
    pub attributes: BTreeMap<String, String>,
}

/// One task, or a container of a task group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// Id, unique in its framework.
    pub id: String,
    /// Name.
    pub name: String,
    /// Id of its framework.
    pub framework: String,
    /// Id of its agent; empty before it has one.
    pub agent: String,
    /// State.
    pub state: TaskState,
    /// Health as the newest status has it. DC/OS takes a defined check that has not spoken for a bad one, so
    /// [`Health::Unknown`] is to be treated as it is for Marathon's tasks.
    pub health: Health,
    /// The newest `TASK_RUNNING` status: what Mesos-DNS takes addresses from.
    pub running: Option<Status>,
    /// Networks of the newest status that names an address, whatever its state; else those that were asked for.
    pub networks: Vec<NetworkInfo>,
    /// Host ports that the agent gave it, as ranges in the order of the offer.
    pub host_ports: Vec<RangeInclusive<u16>>,
    /// Discovery information, where the framework gave any.
    pub discovery: Option<Discovery>,
    /// Its own labels: VIP labels of the first form (`vip_PORT0`) and `SLUICE_` ones.
    pub labels: Arc<Labels>,
    /// Whether Docker gives it a network stack of its own (`BRIDGE`, `USER`).
    pub bridged: bool,
    /// Ports of the container that the agent maps, from its definition and its statuses.
    pub mappings: Vec<PortMapping>,
}

/// What a status update said of addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Networks of the container.
    pub networks: Vec<NetworkInfo>,
    /// The label `MesosContainerizer.NetworkSettings.IPAddress`.
    pub mesos_ip: Option<IpAddr>,
    /// The label `Docker.NetworkSettings.IPAddress`.
    pub docker_ip: Option<IpAddr>,
}

/// One network of a container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetworkInfo {
    /// Name, where it has one: host networking has none.
    pub name: Option<String>,
    /// Addresses of the container, in order; what is no address is left out.
    pub ips: Vec<IpAddr>,
    /// Isolation groups.
    pub groups: Vec<String>,
    /// Its `SLUICE_` labels.
    pub labels: Arc<Labels>,
}

/// How a task is to be found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Discovery {
    /// Name; empty means that the task's own stands.
    pub name: String,
    /// Who may see it.
    pub visibility: Visibility,
    /// Ports, in order; 0 is a number that was not chosen.
    pub ports: Vec<DiscoveryPort>,
}

/// One port of a task's discovery information.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveryPort {
    /// Number: the agent's or the container's, see [`Self::scope`].
    pub number: u16,
    /// Name; empty where it has none.
    pub name: String,
    /// As the framework wrote it: `tcp`, `UDP`, `tcp,udp`, or empty.
    pub protocol: String,
    /// Whose number it is.
    pub scope: Scope,
    /// The network that it is meant for (label `network-name`).
    pub network: Option<String>,
    /// Its VIP and `SLUICE_` labels.
    pub labels: Arc<Labels>,
}

/// Whose number a discovery port is (label `network-scope`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// Not said: the agent's stack where the task has no address of its own.
    #[default]
    Unsaid,
    /// The agent's.
    Host,
    /// The container's.
    Container,
}

/// Who may see a task (Mesos's `DiscoveryInfo.Visibility`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Visibility {
    /// Its framework.
    #[default]
    Framework,
    /// The cluster.
    Cluster,
    /// Everybody.
    External,
}

/// A container's port behind one of the agent's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortMapping {
    /// The agent's port.
    pub host_port: u16,
    /// The container's.
    pub container_port: u16,
    /// `tcp` or `udp`, lower case; `tcp` where it is not said.
    pub protocol: String,
}

impl Facts {
    /// These facts with the masters that the configuration lists, in its order.
    #[must_use]
    pub fn with_masters_of(mut self, config: Option<&Mesos>) -> Self {
        if let Some(Masters::Listed(urls)) = config.map(|mesos| &mesos.masters) {
            self.masters = urls.iter().filter_map(|url| Endpoint::of_url(url)).collect();
        }
        self
    }

    /// The hosts that are names, to be looked up.
    #[must_use]
    pub fn host_names(&self) -> BTreeSet<String> {
        let members = self.agents.values().flat_map(|a| [Some(a.hostname.as_str()), host(&a.endpoint)]);
        let frameworks = self.frameworks.iter().flat_map(|f| [Some(f.hostname.as_str()), host(&f.scheduler)]);
        let masters = self.leader.iter().chain(&self.masters).map(|m| Some(m.host.as_str()));
        let all = members.chain(frameworks).chain(masters).flatten();
        all.filter(|h| !h.is_empty() && h.parse::<IpAddr>().is_err()).map(str::to_owned).collect()
    }

    /// The framework of an id.
    #[must_use]
    pub fn framework(&self, id: &str) -> Option<&Arc<Framework>> {
        self.frameworks.iter().find(|f| f.id == id)
    }

    /// Frameworks by id, for who looks up many.
    #[must_use]
    pub fn frameworks_by_id(&self) -> BTreeMap<&str, &Arc<Framework>> {
        self.frameworks.iter().map(|f| (f.id.as_str(), f)).collect()
    }
}

fn host(endpoint: &Option<Endpoint>) -> Option<&str> {
    endpoint.as_ref().map(|e| e.host.as_str())
}

impl Task {
    /// The discovery name, else the task's own.
    #[must_use]
    pub fn discovery_name(&self) -> &str {
        self.discovery.as_ref().map(|d| d.name.as_str()).filter(|n| !n.is_empty()).unwrap_or(&self.name)
    }

    /// Host ports one by one.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.host_ports.iter().cloned().flatten()
    }

    /// The container's own addresses, in order, each once.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        let mut ips = Vec::new();
        for ip in self.networks.iter().flat_map(|n| &n.ips) {
            if !ips.contains(ip) {
                ips.push(*ip);
            }
        }
        ips
    }
}

impl Status {
    /// Addresses of all networks, in order.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.networks.iter().flat_map(|n| &n.ips).copied()
    }
}

impl Endpoint {
    /// Of a pid, `id@host:port`; IPv6 in brackets.
    #[must_use]
    pub fn of_pid(pid: &str) -> Option<Self> {
        Self::read(pid.rsplit_once('@').map_or(pid, |(_, place)| place))
    }

    /// Of `host:port`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|p| *p != 0)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let colons = bare.is_none() && host.contains(':');
        (!host.is_empty() && !colons).then(|| Self { host: host.to_owned(), port })
    }

    /// Of a base URL; a port that is not written is its scheme's.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let port = if scheme == "https" { 443 } else { 80 };
        Self::read(authority).or_else(|| Self::read(&format!("{authority}:{port}")))
    }

    /// The host as an address, where it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

impl Unread {
    /// Whether that which could not be read may have been this task.
    #[must_use]
    pub fn covers(&self, task: &Task) -> bool {
        self.nameless || self.tasks.contains(&task.id) || self.frameworks.contains(&task.framework)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_names_a_host_and_a_port() {
        let endpoint = |host: &str, port| Some(Endpoint { host: host.to_owned(), port });
        for (pid, expected) in [
            ("slave(1)@10.0.0.11:5051", endpoint("10.0.0.11", 5051)),
            ("slave(1)@[2001:db8::1]:5051", endpoint("2001:db8::1", 5051)),
            ("scheduler-a@b@host.example:1", endpoint("host.example", 1)),
            ("master:5050", endpoint("master", 5050)),
            ("slave(1)@2001:db8::1:5051", None),
            ("slave(1)@10.0.0.11", None),
            ("slave(1)@:5051", None),
            ("slave(1)@h:0", None),
            ("slave(1)@h:65536", None),
            ("", None),
        ] {
            assert_eq!(Endpoint::of_pid(pid), expected, "{pid}");
            if let Some(endpoint) = expected {
                assert_eq!(Endpoint::read(&endpoint.to_string()), Some(endpoint));
            }
        }
    }
}
