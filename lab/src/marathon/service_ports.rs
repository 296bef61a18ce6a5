//! Service ports: what is 0 gets the lowest free port of 10000-20000, once and for good (Marathon's `local_port_min`,
//! `local_port_max`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::definition::{Dialect, Object, each_object};
use super::spec::{Network, RunSpec};

const RANGE: std::ops::RangeInclusive<u16> = 10_000..=20_000;

/// The service ports that a definition holds.
pub(crate) fn held(definition: &Object) -> impl Iterator<Item = u16> {
    RunSpec::of_app(definition).ports.into_iter().map(|port| port.service).filter(|port| *port != 0)
}

/// Fills in every service port, and for version 1.3 the list `ports` that repeats them.
pub(crate) fn assign(dialect: Dialect, definition: &mut Object, taken: &BTreeSet<u16>) {
    let mut taken: BTreeSet<u16> = taken.iter().copied().chain(held(definition)).collect();
    let host = RunSpec::of_app(definition).network == Network::Host;
    if host {
        default_port_definition(definition);
    }
    let mut whole = Value::Object(std::mem::take(definition));
    let places = [
        ("/container/portMappings", "servicePort", !host),
        ("/container/docker/portMappings", "servicePort", !host),
        ("/portDefinitions", "port", host),
    ];
    for (list, field, applies) in places {
        let list = whole.pointer_mut(list).filter(|_| applies);
        each_object(list, |port| fill(port, field, &mut taken));
    }
    if let Value::Object(object) = whole {
        *definition = object;
    }
    if dialect == Dialect::V1_3 {
        repeat_ports(definition, host);
    }
}

/// A host-mode app that names no port gets one; `ports` is the old way of naming them.
fn default_port_definition(definition: &mut Object) {
    let old = definition.get("ports").and_then(Value::as_array).cloned();
    let given = definition.get("portDefinitions").and_then(Value::as_array);
    if given.is_none() {
        let ports = old.unwrap_or_else(|| vec![json!(0)]);
        let made = ports.iter().map(|port| json!({"port": port, "protocol": "tcp", "labels": {}, "name": "default"}));
        let made: Value = made.collect();
        definition.insert("portDefinitions".to_owned(), made);
    }
}

fn fill(port: &mut Object, field: &str, taken: &mut BTreeSet<u16>) {
    let given = port.get(field).and_then(Value::as_u64).unwrap_or(0);
    if given != 0 {
        return;
    }
    if let Some(free) = RANGE.clone().find(|candidate| !taken.contains(candidate)) {
        taken.insert(free);
        port.insert(field.to_owned(), free.into());
    }
}

/// Version 1.3 lists the service ports of every app under `ports`, and those of a bridged one as port definitions too.
fn repeat_ports(definition: &mut Object, host: bool) {
    let ports: Vec<u16> = held(definition).collect();
    if !host {
        let definitions = ports.iter().map(|port| json!({"port": port, "protocol": "tcp", "labels": {}}));
        let definitions: Value = definitions.collect();
        definition.insert("portDefinitions".to_owned(), definitions);
    }
    definition.insert("ports".to_owned(), ports.into());
}
