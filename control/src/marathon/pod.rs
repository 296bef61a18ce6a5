//! One pod of `/v2/pods::status`: each container of each instance is a task; endpoints are found by name in the spec.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use sluice_config::model::Protocol;

use super::payload::{
    elements, groups, id_alone, is_port, label_map, network_groups, odd_fields, port_labels, port_number,
};
use super::ports::protocols;
use crate::desire::own_labels::GROUPS;
use crate::desire::vip_label;
use crate::names;
use crate::rejected::Rejected;
use crate::view::{Health, Labels, Listing, PortAt, Rollout, Task, TaskPort, TaskState};

/// An endpoint as the spec defines it.
struct Endpoint {
    name: String,
    protocols: Vec<Protocol>,
    container_port: Option<u16>,
    has_host_port: bool,
    networks: Vec<String>,
    labels: Arc<Labels>,
}

/// What all instances of a pod share.
struct Shape {
    id: String,
    name: String,
    on_host: bool,
    networks: Vec<String>,
    groups: Arc<[String]>,
    labels: Arc<Labels>,
    /// Endpoints and whether there is a health check, by container name.
    containers: BTreeMap<String, (Vec<Endpoint>, bool)>,
}

/// Reads one pod and its instances into `out`.
pub(super) fn read(raw: &RawValue, out: &mut Listing) {
    let pod: Value = match serde_json::from_str(raw.get()) {
        Ok(pod) => pod,
        Err(error) => {
            let id = id_alone(raw);
            out.unreadable.app(Some(id.as_str()).filter(|id| !id.is_empty()));
            out.rejected.push(Rejected::new(&id, "pod", raw.get(), format!("the pod cannot be read: {error}")));
            return;
        }
    };
    let Some(id) = pod["id"].as_str() else {
        out.unreadable.app(None);
        out.rejected.push(Rejected::new("", "pod", raw.get(), "the pod has no id"));
        return;
    };
    let shape = Shape::of(id, &pod["spec"], &mut out.rejected);
    let instances = list(&pod["instances"]);
    let whole = |instance: &Value| instance["containers"].is_array() || is_absent(instance, "containers");
    if !(pod["instances"].is_array() || is_absent(&pod, "instances")) || !instances.iter().all(whole) {
        out.unreadable.app(Some(id));
        out.rejected.push(Rejected::new(id, "instances", &pod["instances"].to_string(), "not a list of instances"));
    }
    let before = out.tasks.len();
    for instance in instances {
        for container in list(&instance["containers"]) {
            shape.read_container(instance, container, out);
        }
    }
    if out.tasks.len() == before {
        out.idle.push(Arc::new(shape.idle()));
    }
}

impl Shape {
    fn of(id: &str, spec: &Value, rejected: &mut Vec<Rejected>) -> Self {
        let networks = list(&spec["networks"]);
        let own = label_map(id, &spec["labels"], rejected);
        let of_networks = networks.iter().filter_map(|n| n["labels"].as_object());
        let near: Vec<&str> = of_networks.filter_map(|map| network_groups(id, map.iter(), rejected)).collect();
        let label = if near.is_empty() { own.get(GROUPS).cloned() } else { Some(near.join(",")) };
        let mut containers = BTreeMap::new();
        for container in elements(id, spec, "containers", rejected) {
            let endpoints = elements(id, container, "endpoints", rejected).iter();
            let endpoints = endpoints.filter_map(|e| endpoint(id, e, rejected)).collect();
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            containers.insert(name, (endpoints, !container["healthCheck"].is_null()));
        }
        Self {
            id: id.to_owned(),
            name: names::reversed_path(id),
            on_host: networks.iter().any(|n| n["mode"].as_str() == Some("host")) || networks.is_empty(),
            networks: networks.iter().filter_map(|n| n["name"].as_str()).map(str::to_owned).collect(),
            groups: groups(id, std::iter::empty(), label.as_deref(), rejected),
            labels: own,
            containers,
        }
    }

    fn read_container(&self, instance: &Value, container: &Value, out: &mut Listing) {
        let name = container["name"].as_str().unwrap_or_default();
        let instance_id = instance["id"].as_str().unwrap_or_default();
        let id = container["containerId"].as_str().map_or_else(|| format!("{instance_id}.{name}"), str::to_owned);
        let said = list(&container["endpoints"]);
        let (endpoints, checked) = self.containers.get(name).map_or((&[][..], false), |(e, c)| (e.as_slice(), *c));
        let ips = list(&instance["networks"]).iter().flat_map(|n| list(&n["addresses"]));
        out.tasks.push(Arc::new(Task {
            id,
            app: self.id.clone(),
            name: self.name.clone(),
            slave: instance["agentId"].as_str().map(str::to_owned),
            host: instance["agentHostname"].as_str().unwrap_or_default().to_owned(),
            state: TaskState::read(container["status"].as_str().unwrap_or_default()),
            health: health(checked, said),
            rollout: Rollout::None,
            ips: ips.filter_map(|ip| ip.as_str()?.parse::<IpAddr>().ok()).collect(),
            ports: endpoints.iter().flat_map(|e| self.ports(e, said)).collect(),
            networks: self.networks.clone(),
            groups: self.groups.clone(),
            labels: self.labels.clone(),
        }));
    }

    /// The task that is not there, with the endpoints of all containers.
    fn idle(&self) -> Task {
        let endpoints = self.containers.values().flat_map(|(endpoints, _)| endpoints);
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
            ports: endpoints.flat_map(|e| self.ports(e, &[])).collect(),
            networks: self.networks.clone(),
            groups: self.groups.clone(),
            labels: self.labels.clone(),
        }
    }

    fn ports(&self, endpoint: &Endpoint, said: &[Value]) -> Vec<TaskPort> {
        let status = said.iter().find(|e| e["name"].as_str() == Some(endpoint.name.as_str()));
        let host_port = status.and_then(|e| port_number(&e["allocatedHostPort"])).filter(|p| *p != 0);
        let at = match (self.on_host, host_port, endpoint.container_port) {
            (true, Some(port), _) => PortAt::Host(port),
            (false, Some(port), _) => PortAt::Agent(port),
            (false, None, Some(port)) if !endpoint.has_host_port => PortAt::Container(port),
            (_, None, _) => PortAt::Unallocated,
        };
        let port = |protocol: &Protocol| TaskPort {
            name: Some(endpoint.name.clone()),
            protocol: *protocol,
            at,
            networks: endpoint.networks.clone(),
            labels: endpoint.labels.clone(),
        };
        endpoint.protocols.iter().map(port).collect()
    }
}

fn endpoint(id: &str, endpoint: &Value, rejected: &mut Vec<Rejected>) -> Option<Endpoint> {
    if !is_port(id, endpoint, "endpoints", rejected) {
        return None;
    }
    odd_fields(id, endpoint, rejected);
    let labels = port_labels(id, endpoint, rejected);
    let said = elements(id, endpoint, "protocol", rejected).iter();
    let said: Vec<&str> = said.map(|p| p.as_str().unwrap_or("?")).collect();
    let protocols = if said.is_empty() { vec![Protocol::Tcp] } else { protocols(&said.join(",")) };
    if protocols.is_empty() {
        for (key, value) in labels.iter().filter(|(key, _)| vip_label::is_vip_key(key)) {
            rejected.push(Rejected::new(id, key, value, "the endpoint's protocol must be tcp or udp"));
        }
    }
    Some(Endpoint {
        name: endpoint["name"].as_str().unwrap_or_default().to_owned(),
        protocols,
        container_port: port_number(&endpoint["containerPort"]).filter(|p| *p != 0),
        has_host_port: !endpoint["hostPort"].is_null(),
        networks: list(&endpoint["networkNames"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        labels,
    })
}

fn health(checked: bool, endpoints: &[Value]) -> Health {
    match endpoints.iter().filter_map(|e| e["healthy"].as_bool()).reduce(|a, b| a && b) {
        Some(true) => Health::Healthy,
        Some(false) => Health::Unhealthy,
        None if checked => Health::Unknown,
        None => Health::Unchecked,
    }
}

/// Whether an object lacks a field, or has null there.
fn is_absent(of: &Value, field: &str) -> bool {
    of.is_object() && of[field].is_null()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
