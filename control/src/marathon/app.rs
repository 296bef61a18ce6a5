//! One app of `/v2/apps`: which ports it has, where each is reached, and its tasks (facts/dcos.md B.1, D).
//!
//! A task's `ports` are host ports, positional: the nth belongs to the nth port of the app that has a host port at all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use sluice_config::model::Protocol;

use super::payload::{LooseTasks, groups, id_alone, labels, network_groups, port_number};
use super::ports::{AppPort, Mode, Place, PortReader};
use super::rollout::{Versions, is_deploying};
use crate::desire::own_labels::GROUPS;
use crate::desire::vip_label;
use crate::names;
use crate::rejected::Rejected;
use crate::view::{Health, Labels, Listing, PortAt, Rollout, Task, TaskPort, TaskState};

type LabelMap = BTreeMap<String, Value>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct App<'a> {
    id: String,
    #[serde(borrow)]
    tasks: Option<Vec<&'a RawValue>>,
    networks: Option<Vec<Network>>,
    container: Option<Container>,
    port_definitions: Option<Vec<Value>>,
    ports: Option<Vec<Value>>,
    ip_address: Option<IpAddress>,
    labels: Option<LabelMap>,
    health_checks: Option<Vec<IgnoredAny>>,
    deployments: Option<Value>,
}

#[derive(Deserialize)]
struct Network {
    mode: Option<String>,
    name: Option<String>,
    labels: Option<LabelMap>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    docker: Option<Docker>,
    port_mappings: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Docker {
    network: Option<String>,
    port_mappings: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IpAddress {
    network_name: Option<String>,
    groups: Option<Vec<Value>>,
    labels: Option<LabelMap>,
    discovery: Option<Discovery>,
}

#[derive(Deserialize)]
struct Discovery {
    ports: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppTask {
    id: String,
    state: Option<String>,
    slave_id: Option<String>,
    host: Option<String>,
    ports: Option<Vec<Value>>,
    ip_addresses: Option<Vec<Value>>,
    health_check_results: Option<Vec<Value>>,
    version: Option<Value>,
}

/// Reads one app and its tasks into `out`.
pub(super) fn read(raw: &RawValue, loose: &LooseTasks<'_>, out: &mut Listing) {
    let app: App<'_> = match serde_json::from_str(raw.get()) {
        Ok(app) => app,
        Err(error) => {
            let reason = format!("the app cannot be read: {error}");
            let id = id_alone(raw);
            out.unreadable.app(Some(id.as_str()).filter(|id| !id.is_empty()));
            out.rejected.push(Rejected::new(&id, "app", raw.get(), reason));
            return;
        }
    };
    let mut shape = Shape::of(&app, &mut out.rejected);
    if is_deploying(app.deployments.as_ref()) {
        // A second reading, of the few apps that are being deployed.
        shape.versions = serde_json::from_str(raw.get()).ok();
    }
    let tasks = app.tasks.as_ref().or_else(|| loose.get(&app.id));
    if tasks.is_none() {
        // Marathon embeds an empty list where there is no task.
        out.unreadable.app(Some(&app.id));
    }
    let before = out.tasks.len();
    for raw in tasks.into_iter().flatten() {
        shape.read_task(raw, out);
    }
    if out.tasks.len() == before {
        let idle = shape.idle(&mut out.rejected);
        out.idle.push(Arc::new(idle));
    }
}

/// What all tasks of an app share.
struct Shape {
    id: String,
    name: String,
    ports: Vec<AppPort>,
    networks: Vec<String>,
    groups: Arc<[String]>,
    labels: Arc<Labels>,
    checked: bool,
    /// While a deployment runs.
    versions: Option<Versions>,
}

impl Shape {
    fn of(app: &App<'_>, rejected: &mut Vec<Rejected>) -> Self {
        let mode = mode(app);
        let own = labels(&app.id, app.labels.as_ref(), rejected);
        let shape = Self {
            id: app.id.clone(),
            name: names::reversed_path(&app.id),
            ports: ports(app, mode, rejected),
            networks: if mode == Mode::Container { network_names(app) } else { Vec::new() },
            groups: app_groups(app, &own, rejected),
            labels: own,
            checked: app.health_checks.as_ref().is_some_and(|c| !c.is_empty()),
            versions: None,
        };
        for (key, value) in shape.labels.iter().filter(|(key, _)| vip_label::is_vip_key(key) && legacy(key).is_none()) {
            let reason = "a VIP label belongs on a port (portDefinitions, portMappings), not on the app";
            rejected.push(Rejected::new(&app.id, key, value, reason));
        }
        shape
    }

    fn read_task(&self, raw: &RawValue, out: &mut Listing) {
        let task: AppTask = match serde_json::from_str(raw.get()) {
            Ok(task) => task,
            Err(error) => {
                let reason = format!("the task cannot be read: {error}");
                match serde_json::from_str::<Value>(raw.get()).ok().and_then(|v| v["id"].as_str().map(str::to_owned)) {
                    Some(id) => {
                        out.unreadable.tasks.insert(id);
                    }
                    None => out.unreadable.app(Some(&self.id)),
                }
                out.rejected.push(Rejected::new(&self.id, "task", raw.get(), reason));
                return;
            }
        };
        let version = task.version.as_ref().and_then(Value::as_str);
        let rollout = self.versions.as_ref().map_or(Rollout::None, |of_app| of_app.rollout(&task.id, version));
        let host_ports: Vec<u16> = task.ports.iter().flatten().map(|p| port_number(p).unwrap_or(0)).collect();
        let mut ports = self.task_ports(&host_ports);
        self.legacy_ports(&task.id, &host_ports, &mut ports, &mut out.rejected);
        out.tasks.push(Arc::new(Task {
            app: self.id.clone(),
            name: self.name.clone(),
            slave: task.slave_id,
            host: task.host.unwrap_or_default(),
            state: TaskState::read(task.state.as_deref().unwrap_or_default()),
            health: health(self.checked, task.health_check_results.as_deref()),
            rollout,
            ips: addresses(task.ip_addresses.as_deref()),
            ports,
            networks: self.networks.clone(),
            groups: self.groups.clone(),
            labels: self.labels.clone(),
            id: task.id,
        }));
    }

    /// The task that is not there. What only a task can tell (the number of a host port) is not told.
    fn idle(&self, rejected: &mut Vec<Rejected>) -> Task {
        let mut ports = self.task_ports(&[]);
        for (key, value) in self.labels.iter().filter(|(key, _)| legacy(key).is_some()) {
            match scheme(value) {
                Some((protocol, rest)) => ports.push(legacy_port(key, protocol, rest, PortAt::Unallocated)),
                None => rejected.push(Rejected::new(&self.id, key, value, LEGACY)),
            }
        }
        Task {
            id: self.id.clone(),
            app: self.id.clone(),
            name: self.name.clone(),
            slave: None,
            host: String::new(),
            state: TaskState::Preparing,
            health: Health::Unknown,
            rollout: Rollout::None,
            ips: Vec::new(),
            ports,
            networks: self.networks.clone(),
            groups: self.groups.clone(),
            labels: self.labels.clone(),
        }
    }

    fn task_ports(&self, host_ports: &[u16]) -> Vec<TaskPort> {
        let nth = |n: usize| host_ports.get(n).copied().filter(|p| *p != 0);
        let mut ports = Vec::new();
        for port in &self.ports {
            let at = match port.place {
                Place::Host(n) => nth(n).map_or(PortAt::Unallocated, PortAt::Host),
                Place::Agent(n) => nth(n).map_or(PortAt::Unallocated, PortAt::Agent),
                Place::Container(number) => PortAt::Container(number),
            };
            for protocol in &port.protocols {
                ports.push(TaskPort {
                    name: port.name.clone(),
                    protocol: *protocol,
                    at,
                    networks: port.networks.clone(),
                    labels: port.labels.clone(),
                });
            }
        }
        ports
    }

    /// Minuteman's first form: an app label `vip_PORTn` with the value `tcp://ADDRESS:PORT`, about the nth host port.
    fn legacy_ports(&self, task: &str, host_ports: &[u16], ports: &mut Vec<TaskPort>, rejected: &mut Vec<Rejected>) {
        for (key, value) in self.labels.iter() {
            let Some(n) = legacy(key) else { continue };
            let Some((protocol, rest)) = scheme(value) else {
                rejected.push(Rejected::new(task, key, value, LEGACY));
                continue;
            };
            let Some(port) = host_ports.get(n).copied().filter(|p| *p != 0) else {
                rejected.push(Rejected::new(task, key, value, format!("the task has no host port number {n}")));
                continue;
            };
            ports.push(legacy_port(key, protocol, rest, PortAt::Agent(port)));
        }
    }
}

/// What a value of Minuteman's first form must be.
pub(crate) const LEGACY: &str = "write tcp://ADDRESS:PORT or udp://ADDRESS:PORT";

pub(crate) fn legacy_port(key: &str, protocol: Protocol, vip: &str, at: PortAt) -> TaskPort {
    let labels = Arc::new(Labels::from([(key.to_owned(), vip.to_owned())]));
    TaskPort { name: None, protocol, at, networks: Vec::new(), labels }
}

pub(crate) fn legacy(key: &str) -> Option<usize> {
    let lower = key.to_ascii_lowercase();
    lower.strip_prefix("vip_port").and_then(|n| n.parse().ok())
}

pub(crate) fn scheme(value: &str) -> Option<(Protocol, &str)> {
    let tcp = value.strip_prefix("tcp://").map(|rest| (Protocol::Tcp, rest));
    tcp.or_else(|| value.strip_prefix("udp://").map(|rest| (Protocol::Udp, rest)))
}

fn mode(app: &App<'_>) -> Mode {
    let of_networks = app.networks.iter().flatten().find_map(|n| n.mode.as_deref());
    let docker = app.container.as_ref().and_then(|c| c.docker.as_ref()).and_then(|d| d.network.as_deref());
    match (of_networks, docker) {
        (Some("container/bridge"), _) | (None, Some("BRIDGE")) => Mode::Bridge,
        (Some("container"), _) | (None, Some("USER")) => Mode::Container,
        (None, None) if app.ip_address.is_some() => Mode::Container,
        (Some(_), _) | (None, Some(_) | None) => Mode::Host,
    }
}

fn network_names(app: &App<'_>) -> Vec<String> {
    let new = app.networks.iter().flatten().filter_map(|n| n.name.clone());
    let old = app.ip_address.iter().filter_map(|a| a.network_name.clone());
    let mut names: Vec<String> = new.chain(old).collect();
    names.dedup();
    names
}

fn app_groups(app: &App<'_>, own: &Labels, rejected: &mut Vec<Rejected>) -> Arc<[String]> {
    let of_networks = app.networks.iter().flatten().filter_map(|n| n.labels.as_ref());
    let of_address = app.ip_address.iter().filter_map(|a| a.labels.as_ref());
    let maps = of_networks.chain(of_address);
    let near: Vec<&str> = maps.filter_map(|map| network_groups(&app.id, map.iter(), rejected)).collect();
    let label = if near.is_empty() { own.get(GROUPS).cloned() } else { Some(near.join(",")) };
    let listed = app.ip_address.iter().filter_map(|a| a.groups.as_ref()).flatten().filter_map(Value::as_str);
    groups(&app.id, listed, label.as_deref(), rejected)
}

fn ports(app: &App<'_>, mode: Mode, rejected: &mut Vec<Rejected>) -> Vec<AppPort> {
    let container = app.container.as_ref();
    let docker = container.and_then(|c| c.docker.as_ref());
    let mappings = container.and_then(|c| c.port_mappings.as_ref());
    let mappings = mappings.or_else(|| docker.and_then(|d| d.port_mappings.as_ref()));
    let definitions = app.port_definitions.as_ref().or(app.ports.as_ref());
    let discovery = app.ip_address.as_ref().and_then(|a| a.discovery.as_ref()).and_then(|d| d.ports.as_ref());
    let mut reader = PortReader { id: &app.id, mode, next: 0, ports: Vec::new(), rejected };
    if mode == Mode::Host {
        definitions.into_iter().flatten().for_each(|p| reader.definition(p));
        mappings.into_iter().flatten().for_each(|p| reader.misplaced(p, "portMappings do nothing on host networking"));
    } else {
        mappings.into_iter().flatten().for_each(|p| reader.mapping(p));
        discovery.into_iter().flatten().for_each(|p| reader.discovered(p));
        definitions.into_iter().flatten().for_each(|p| reader.misplaced(p, "portDefinitions are for host networking"));
    }
    reader.ports
}

/// Healthy when every result is: a result that is missing is not known yet.
fn health(checked: bool, results: Option<&[Value]>) -> Health {
    let alive = results.unwrap_or_default().iter().filter_map(|r| r["alive"].as_bool());
    match alive.reduce(|a, b| a && b) {
        Some(true) => Health::Healthy,
        Some(false) => Health::Unhealthy,
        None if checked => Health::Unknown,
        None => Health::Unchecked,
    }
}

fn addresses(list: Option<&[Value]>) -> Vec<IpAddr> {
    list.unwrap_or_default().iter().filter_map(|a| a["ipAddress"].as_str()?.parse().ok()).collect()
}
