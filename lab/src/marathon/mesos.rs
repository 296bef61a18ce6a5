//! This Marathon as Mesos sees it: a framework and its tasks, in the JSON of Mesos's operator API (facts: dcos, B.1 and D).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::spec::{Container, Network, Port};
use super::state::{Condition, State, Task};
use super::{Marathon, render};

/// The network that the Mesos containerizer has for bridge mode in DC/OS.
const MESOS_BRIDGE: &str = "mesos-bridge";

/// Everything that a master would know by this Marathon.
pub(crate) fn known(marathon: &Marathon) -> Value {
    let id = marathon.agents.framework_id(marathon.address.port() % 10_000);
    let host = marathon.address.ip().to_string();
    let info = json!({
        "user": "root", "name": marathon.framework, "id": {"value": id}, "hostname": host, "checkpoint": true,
        "failover_timeout": 604_800.0, "role": "*", "webui_url": format!("http://{}", marathon.address),
        "capabilities": [{"type": "TASK_KILLING_STATE"}, {"type": "PARTITION_AWARE"}],
    });
    let agents: Vec<Value> = (0..marathon.agents.count()).map(|agent| agent_info(marathon, agent)).collect();
    let tasks = marathon.with(|state| tasks(marathon, state, &id));
    json!({"framework": info, "agents": agents, "tasks": tasks})
}

fn agent_info(marathon: &Marathon, agent: usize) -> Value {
    let resources = json!([{"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1025, "end": 32_000}]}}]);
    json!({
        "hostname": marathon.agents.host(agent).to_string(), "port": 5051, "id": {"value": marathon.agents.id(agent)},
        "resources": resources,
    })
}

fn tasks(marathon: &Marathon, state: &State, framework: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for task in state.tasks.values() {
        if task.spec.pod {
            let units = task.spec.units.iter().enumerate();
            all.extend(units.map(|(unit, of)| {
                one(marathon, task, framework, &format!("{}.{}", task.instance, of.name), &of.name, unit)
            }));
        } else {
            all.push(one(marathon, task, framework, &task.id, &reversed(&task.service), 0));
        }
    }
    all
}

/// The app's path from the inside out, as Marathon names tasks.
fn reversed(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).rev().collect::<Vec<_>>().join(".")
}

fn one(marathon: &Marathon, task: &Task, framework: &str, id: &str, name: &str, unit: usize) -> Value {
    let agent = marathon.agents.id(task.agent);
    let ports = task.spec.ports.iter().zip(task.host_ports.iter().chain(std::iter::repeat(&None)));
    let ports: Vec<(&Port, Option<u16>)> = ports.filter(|(p, _)| p.unit == unit).map(|(p, h)| (p, *h)).collect();
    let ranges: Vec<Value> = ports.iter().filter_map(|(_, h)| h.map(|h| json!({"begin": h, "end": h}))).collect();
    let discovered: Vec<Value> = ports.iter().flat_map(|(port, host)| discovery(task, port, *host)).collect();
    let statuses: Vec<Value> = status(task, id, &agent).into_iter().collect();
    json!({
        "name": name, "task_id": {"value": id}, "framework_id": {"value": framework}, "agent_id": {"value": agent},
        "state": task.condition.mesos(), "statuses": statuses, "labels": labels(&task.spec.labels),
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                      {"name": "ports", "type": "RANGES", "ranges": {"range": ranges}}],
        "discovery": {"visibility": "FRAMEWORK", "name": reversed(&task.service), "ports": {"ports": discovered}},
        "container": container(task, &ports),
    })
}

fn labels(of: &BTreeMap<String, String>) -> Value {
    json!({"labels": of.iter().map(|(key, value)| json!({"key": key, "value": value})).collect::<Vec<_>>()})
}

/// One port of each protocol; its number is the agent's where the agent has one.
fn discovery(task: &Task, port: &Port, host: Option<u16>) -> Vec<Value> {
    let mut all = port.labels.clone();
    match (&task.spec.network, host) {
        (Network::Host, _) => {}
        (_, Some(_)) => drop(all.insert("network-scope".to_owned(), "host".to_owned())),
        (network, None) => {
            all.insert("network-scope".to_owned(), "container".to_owned());
            if let Network::Container(name) = network {
                all.insert("network-name".to_owned(), name.clone());
            }
        }
    }
    let number = host.unwrap_or(port.container);
    let protocols = [("udp", port.udp), ("tcp", port.tcp)].into_iter().filter(|(_, has)| *has);
    let one =
        |(protocol, _)| json!({"number": number, "name": port.name, "protocol": protocol, "labels": labels(&all)});
    protocols.map(one).collect()
}

fn container(task: &Task, ports: &[(&Port, Option<u16>)]) -> Value {
    let mapping = |(port, host): &(&Port, Option<u16>)| {
        let host = (*host)?;
        let container = if port.container == 0 { host } else { port.container };
        let protocol = if port.udp && !port.tcp { "udp" } else { "tcp" };
        Some(json!({"host_port": host, "container_port": container, "protocol": protocol}))
    };
    let mappings: Vec<Value> = ports.iter().filter_map(mapping).collect();
    let named = |name: &str| {
        json!([{"name": name, "ip_addresses": [{"protocol": "IPv4"}], "groups": task.spec.groups,
            "port_mappings": mappings}])
    };
    let docker = |network: &str| json!({"image": "lab", "network": network, "port_mappings": mappings});
    if task.spec.pod {
        // Those of its executor: a task of a group must not have any.
        return json!({"type": "MESOS", "mesos": {}});
    }
    match (task.spec.container, &task.spec.network) {
        (Container::Docker, Network::Host) => {
            json!({"type": "DOCKER", "docker": {"image": "lab", "network": "HOST"}})
        }
        (Container::Docker, Network::Bridge) => json!({"type": "DOCKER", "docker": docker("BRIDGE")}),
        (Container::Docker, Network::Container(name)) => {
            json!({"type": "DOCKER", "docker": docker("USER"), "network_infos": named(name)})
        }
        (Container::None, Network::Host) => Value::Null,
        (Container::Mesos | Container::None, network) => {
            let infos = match network {
                Network::Host => json!([]),
                Network::Bridge => named(MESOS_BRIDGE),
                Network::Container(name) => named(name),
            };
            json!({"type": "MESOS", "mesos": {}, "network_infos": infos})
        }
    }
}

/// The newest status; a task that is staged has none.
fn status(task: &Task, id: &str, agent: &str) -> Option<Value> {
    if task.condition == Condition::Staging {
        return None;
    }
    let addresses = task.addresses().map(|ip| json!({"protocol": render::protocol(ip), "ip_address": ip.to_string()}));
    let mut network = json!({"ip_addresses": addresses.collect::<Vec<_>>(), "groups": task.spec.groups});
    let name = match (&task.spec.network, task.spec.container) {
        (Network::Container(name), _) => Some(name.as_str()),
        (Network::Bridge, Container::Mesos | Container::None) => Some(MESOS_BRIDGE),
        (Network::Bridge | Network::Host, _) => None,
    };
    if let (Some(name), Some(of)) = (name, network.as_object_mut()) {
        of.insert("name".to_owned(), name.into());
    }
    // The order of tasks and states will do for a time.
    let timestamp = task.order as f64 + f64::from(task.condition as u8) / 10.0;
    Some(json!({
        "task_id": {"value": id}, "agent_id": {"value": agent}, "state": task.condition.mesos(),
        "source": "SOURCE_EXECUTOR", "timestamp": timestamp, "container_status": {"network_infos": [network]},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_name_from_the_inside_out() {
        assert_eq!((reversed("/group/app"), reversed("/web")), ("app.group".to_owned(), "web".to_owned()));
    }
}
