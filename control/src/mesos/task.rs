//! One task, as `/state` and as the operator API write it, and what a status update changes of it.

use std::net::IpAddr;

use serde_json::Value;

use super::facts::{Discovery, DiscoveryPort, NetworkInfo, PortMapping, Scope, Status, Task, Visibility};
use super::read::{Refused, addresses, id, label, labels, list, own_labels, port, port_ranges, text};
use crate::rejected::Rejected;
use crate::view::{Health, TaskState};

/// Longest name of a group, octets.
const GROUP_OCTETS: usize = 63;

/// Reads a task; `framework` is the id of the framework that it is listed under, where it is.
pub(super) fn task(value: &Value, framework: Option<&str>, rejected: &mut Vec<Rejected>) -> Result<Task, Refused> {
    let task_id = id(value, ["id", "task_id"])?.ok_or("a task has an id")?;
    let framework = framework.map_or_else(|| id(value, ["framework_id", "framework_id"]), |f| Ok(Some(f)))?;
    let container = &value["container"];
    let mut task = Task {
        id: task_id.to_owned(),
        name: text(value, "name")?.to_owned(),
        framework: framework.ok_or("a task has a framework_id")?.to_owned(),
        agent: id(value, ["slave_id", "agent_id"])?.unwrap_or_default().to_owned(),
        state: TaskState::read(value["state"].as_str().unwrap_or_default()),
        health: if value["health_check"].is_object() { Health::Unknown } else { Health::Unchecked },
        running: None,
        networks: networks(task_id, &container["network_infos"], rejected),
        host_ports: port_ranges(&value["resources"]),
        discovery: discovery(task_id, &value["discovery"], rejected)?,
        labels: own_labels(task_id, &value["labels"], rejected),
        bridged: matches!(container["docker"]["network"].as_str(), Some("BRIDGE" | "USER")),
        mappings: mappings(&container["docker"]["port_mappings"]).chain(network_mappings(container)).collect(),
    };
    // Of two with one time the first holds, as in Mesos-DNS; what is no time counts as the oldest.
    let mut statuses: Vec<&Value> = list(&value["statuses"]).iter().rev().collect();
    statuses.sort_by(|a, b| timestamp(a).total_cmp(&timestamp(b)));
    for status in statuses {
        apply_status(&mut task, status, rejected);
    }
    task.mappings.sort();
    task.mappings.dedup();
    Ok(task)
}

fn timestamp(status: &Value) -> f64 {
    status["timestamp"].as_f64().unwrap_or(f64::NEG_INFINITY)
}

/// Takes in a status that is newer than what the task has; its state is not asked.
pub(super) fn apply_status(task: &mut Task, status: &Value, rejected: &mut Vec<Rejected>) {
    let container = &status["container_status"];
    let networks = networks(&task.id, &container["network_infos"], rejected);
    match status["healthy"].as_bool() {
        Some(true) => task.health = Health::Healthy,
        Some(false) => task.health = Health::Unhealthy,
        None => {}
    }
    for mapping in network_mappings(container) {
        if !task.mappings.contains(&mapping) {
            task.mappings.push(mapping);
        }
    }
    if networks.iter().any(|n| !n.ips.is_empty()) {
        task.networks.clone_from(&networks);
    }
    if status["state"].as_str() == Some("TASK_RUNNING") {
        let labelled = |key: &str| label(&status["labels"], key).and_then(|ip| ip.parse::<IpAddr>().ok());
        task.running = Some(Status {
            networks,
            mesos_ip: labelled("MesosContainerizer.NetworkSettings.IPAddress"),
            docker_ip: labelled("Docker.NetworkSettings.IPAddress"),
        });
    }
}

fn networks(owner: &str, value: &Value, rejected: &mut Vec<Rejected>) -> Vec<NetworkInfo> {
    list(value).iter().filter(|n| n.is_object()).map(|n| network(owner, n, rejected)).collect()
}

fn network(owner: &str, value: &Value, rejected: &mut Vec<Rejected>) -> NetworkInfo {
    let mut groups = Vec::new();
    for group in list(&value["groups"]).iter().filter_map(Value::as_str).map(str::trim).filter(|g| !g.is_empty()) {
        if group.len() > GROUP_OCTETS {
            rejected.push(Rejected::new(owner, "groups", group, "a group has at most 63 octets"));
        } else {
            groups.push(group.to_owned());
        }
    }
    NetworkInfo {
        name: text(value, "name").ok().filter(|n| !n.is_empty()).map(str::to_owned),
        ips: addresses(value),
        groups,
        labels: own_labels(owner, &value["labels"], rejected),
    }
}

fn network_mappings(container: &Value) -> impl Iterator<Item = PortMapping> + '_ {
    list(&container["network_infos"]).iter().flat_map(|n| mappings(&n["port_mappings"]))
}

fn mappings(value: &Value) -> impl Iterator<Item = PortMapping> + '_ {
    list(value).iter().filter_map(|m| {
        let protocol = m["protocol"].as_str().unwrap_or("tcp").to_ascii_lowercase();
        let host_port = port(&m["host_port"]).filter(|p| *p != 0)?;
        let container_port = port(&m["container_port"]).filter(|p| *p != 0)?;
        matches!(protocol.as_str(), "tcp" | "udp").then_some(PortMapping { host_port, container_port, protocol })
    })
}

fn discovery(owner: &str, value: &Value, rejected: &mut Vec<Rejected>) -> Result<Option<Discovery>, Refused> {
    if !value.is_object() {
        return Ok(None);
    }
    let ports = list(&value["ports"]["ports"]).iter();
    Ok(Some(Discovery {
        name: text(value, "name").map_err(|reason| format!("discovery: {reason}"))?.to_owned(),
        visibility: match value["visibility"].as_str() {
            Some("CLUSTER") => Visibility::Cluster,
            Some("EXTERNAL") => Visibility::External,
            Some(_) | None => Visibility::Framework,
        },
        ports: ports.filter_map(|p| discovery_port(owner, p, rejected)).collect(),
    }))
}

fn discovery_port(owner: &str, value: &Value, rejected: &mut Vec<Rejected>) -> Option<DiscoveryPort> {
    let read = || {
        let number = if value["number"].is_null() { Some(0) } else { port(&value["number"]) };
        let number = number.ok_or_else(|| "number must be a number from 0 to 65535".to_owned())?;
        Ok::<_, Refused>((number, text(value, "name")?, text(value, "protocol")?))
    };
    let refused = if value.is_object() { read() } else { Err("a port must be an object".to_owned()) };
    let (number, name, protocol) = match refused {
        Ok(read) => read,
        Err(reason) => {
            rejected.push(Rejected::new(owner, "discovery.ports", &value.to_string(), reason));
            return None;
        }
    };
    let scope = labels(&value["labels"]).find(|(key, _)| *key == "network-scope").and_then(|(_, v)| v.as_str());
    Some(DiscoveryPort {
        number,
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        scope: match scope {
            Some("host") => Scope::Host,
            Some("container") => Scope::Container,
            Some(_) | None => Scope::Unsaid,
        },
        network: label(&value["labels"], "network-name").map(str::to_owned),
        labels: own_labels(owner, &value["labels"], rejected),
    })
}
