//! The ports of an app, old forms and new, and where each will be reached (facts/dcos.md B.1, D).

use std::sync::Arc;

use serde_json::Value;
use sluice_config::model::Protocol;

use super::payload::{elements, is_port, odd_fields, port_labels, port_number};
use crate::desire::vip_label;
use crate::rejected::Rejected;
use crate::view::Labels;

/// How an app is connected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Host,
    Bridge,
    Container,
}

/// A port as the app defines it, before a task gives it a host port.
pub(super) struct AppPort {
    pub(super) name: Option<String>,
    pub(super) protocols: Vec<Protocol>,
    pub(super) place: Place,
    /// Its number inside the container, where it has one.
    pub(super) number: Option<u16>,
    pub(super) networks: Vec<String>,
    pub(super) labels: Arc<Labels>,
}

/// Where a port will be reached.
pub(super) enum Place {
    /// The nth host port of a task on the agent's own stack.
    Host(usize),
    /// The nth host port of a task, mapped.
    Agent(usize),
    /// The container's addresses.
    Container(u16),
}

/// Reads the ports of one app, counting host ports as it goes.
pub(super) struct PortReader<'a> {
    pub(super) id: &'a str,
    pub(super) mode: Mode,
    /// Host ports given out so far.
    pub(super) next: usize,
    pub(super) ports: Vec<AppPort>,
    pub(super) rejected: &'a mut Vec<Rejected>,
}

impl PortReader<'_> {
    /// A port of host networking; `ports`, the older form, has numbers alone.
    pub(super) fn definition(&mut self, port: &Value) {
        let place = Place::Host(self.host_port());
        if port.is_number() || is_port(self.id, port, "portDefinitions", self.rejected) {
            self.add(port, place, None);
        }
    }

    /// On a bridge every mapping has a host port; elsewhere only one that names it, be it 0.
    pub(super) fn mapping(&mut self, port: &Value) {
        let mapped = self.mode == Mode::Bridge || !port["hostPort"].is_null();
        let place = mapped.then(|| Place::Agent(self.host_port()));
        if !is_port(self.id, port, "portMappings", self.rejected) {
            return;
        }
        odd_fields(self.id, port, self.rejected);
        match place {
            Some(place) => self.add(port, place, port_number(&port["containerPort"]).filter(|n| *n != 0)),
            None => self.contained(port, "containerPort"),
        }
    }

    /// A discovery port that a mapping has too is that mapping, with the labels of both (facts/dcos.md B.4).
    pub(super) fn discovered(&mut self, port: &Value) {
        if !is_port(self.id, port, "discovery.ports", self.rejected) {
            return;
        }
        odd_fields(self.id, port, self.rejected);
        let number = port_number(&port["number"]).filter(|n| *n != 0);
        let said = protocols(port["protocol"].as_str().unwrap_or("tcp"));
        let same = |p: &&mut AppPort| number.is_some() && p.number == number && p.protocols == said;
        if self.ports.iter_mut().find(same).is_none() {
            return self.contained(port, "number");
        }
        let more = self.labels(port);
        if let Some(mapping) = self.ports.iter_mut().find(same) {
            let mut labels = Labels::clone(&mapping.labels);
            unite(&mut labels, &more);
            mapping.labels = Arc::new(labels);
        }
    }

    fn contained(&mut self, port: &Value, key: &str) {
        match port_number(&port[key]).filter(|n| *n != 0) {
            Some(number) => self.add(port, Place::Container(number), Some(number)),
            None => {
                let labels = self.labels(port);
                let reason = format!("{key} must be a number from 1 to 65535 where there is no host port");
                self.reject(&labels, &reason);
            }
        }
    }

    fn host_port(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn add(&mut self, port: &Value, place: Place, number: Option<u16>) {
        let labels = self.labels(port);
        let said = &port["protocol"];
        let protocols = if said.is_null() { vec![Protocol::Tcp] } else { protocols(said.as_str().unwrap_or_default()) };
        if protocols.is_empty() {
            self.reject(&labels, "the port's protocol must be tcp, udp or udp,tcp");
        }
        let networks = elements(self.id, port, "networkNames", self.rejected).iter();
        self.ports.push(AppPort {
            name: port["name"].as_str().map(str::to_owned),
            protocols,
            place,
            number,
            networks: networks.filter_map(Value::as_str).map(str::to_owned).collect(),
            labels,
        });
    }

    pub(super) fn misplaced(&mut self, port: &Value, reason: &str) {
        let labels = self.labels(port);
        self.reject(&labels, reason);
    }

    fn labels(&mut self, port: &Value) -> Arc<Labels> {
        port_labels(self.id, port, self.rejected)
    }

    fn reject(&mut self, labels: &Labels, reason: &str) {
        for (key, value) in labels.iter().filter(|(key, _)| vip_label::is_vip_key(key)) {
            self.rejected.push(Rejected::new(self.id, key, value, reason));
        }
    }
}

/// Adds labels. Of one key with two values both are kept: the second under a key of its own, which is a VIP key as well
/// because any key is that begins like one.
fn unite(labels: &mut Labels, more: &Labels) {
    for (key, value) in more {
        let mut key = key.clone();
        while labels.get(&key).is_some_and(|there| there != value) && vip_label::is_vip_key(&key) {
            key.push('+');
        }
        labels.entry(key).or_insert_with(|| value.clone());
    }
}

/// `tcp`, `udp` in any case, or both with a comma; anything else makes the port unusable, as in DC/OS.
pub(crate) fn protocols(text: &str) -> Vec<Protocol> {
    let one = |p: &str| match p.trim().to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    let mut all: Vec<Protocol> = text.split(',').map(one).collect::<Option<_>>().unwrap_or_default();
    all.sort_unstable();
    all.dedup();
    all
}
