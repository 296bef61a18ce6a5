//! Rules for everything that has a port number.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::definition::Object;
use super::super::error::Violation;
use super::{Violations, list};

/// The old list `ports`, alone and beside `portDefinitions`: it may only repeat them.
pub(super) fn old_list(update: &Object, violations: &mut Violations) {
    let ports = list(update.get("ports"));
    let defined = list(update.get("portDefinitions"));
    let same = ports.iter().eq(defined.iter().map(|definition| definition.get("port").unwrap_or(&Value::Null)));
    if !ports.is_empty() && !defined.is_empty() && !same {
        violations.push(Violation::new("/", "cannot specify both ports and port definitions"));
    }
    for (index, port) in ports.iter().enumerate() {
        number(&format!("/ports({index})"), Some(port), violations);
    }
    unique("/ports", "Ports must be unique.", ports.iter().filter_map(nonzero), violations);
}

pub(super) fn definitions(app: &Object, violations: &mut Violations) {
    let defined = list(app.get("portDefinitions"));
    for (index, definition) in defined.iter().enumerate() {
        let path = format!("/portDefinitions({index})");
        number(&format!("{path}/port"), definition.get("port"), violations);
        protocol(&path, definition, violations);
        name(&path, definition, lower_case, "^[a-z0-9-]+$", violations);
    }
    let ports = defined.iter().filter_map(|definition| definition.get("port")).filter_map(nonzero);
    unique("/portDefinitions", "Ports must be unique.", ports, violations);
    // What the old list `ports` became bears the name `default` every time.
    let names = names(defined).filter(|name| *name != "default");
    unique("/portDefinitions", "Port names must be unique.", names, violations);
}

pub(super) fn mappings(app: &Object, violations: &mut Violations) {
    for path in ["/portMappings", "/docker/portMappings"] {
        let mappings = list(app.get("container").and_then(|container| container.pointer(path)));
        let path = format!("/container{path}");
        for (index, one) in mappings.iter().enumerate() {
            mapping(&format!("{path}({index})"), one, violations);
        }
        unique(&path, "Port names must be unique.", names(mappings), violations);
    }
}

fn mapping(path: &str, mapping: &Value, violations: &mut Violations) {
    for field in ["containerPort", "hostPort", "servicePort"] {
        number(&format!("{path}/{field}"), mapping.get(field), violations);
    }
    protocol(path, mapping, violations);
    name(path, mapping, lower_case, "^[a-z0-9-]+$", violations);
}

pub(super) fn discovered(app: &Object, violations: &mut Violations) {
    let ports = list(app.get("ipAddress").and_then(|ip| ip.pointer("/discovery/ports")));
    for (index, port) in ports.iter().enumerate() {
        let path = format!("/ipAddress/discovery/ports({index})");
        number(&format!("{path}/number"), port.get("number"), violations);
        protocol(&path, port, violations);
        let starts_with_letter = |name: &str| name.starts_with(|c: char| c.is_ascii_lowercase()) && lower_case(name);
        name(&path, port, starts_with_letter, "^[a-z][a-z0-9-]*$", violations);
    }
    unique("/ipAddress/discovery/ports", "Port names must be unique.", names(ports), violations);
}

pub(super) fn number(path: &str, port: Option<&Value>, violations: &mut Violations) {
    let port = port.and_then(Value::as_f64);
    if let Some(port) = port.filter(|port| !(0.0..=65_535.0).contains(port)) {
        violations.push(Violation::new(path, format!("got {port}, expected between 0 and 65535")));
    }
}

fn protocol(path: &str, of: &Value, violations: &mut Violations) {
    let given = of.get("protocol").and_then(Value::as_str).unwrap_or("tcp");
    if !["tcp", "udp", "udp,tcp"].contains(&given) {
        violations.push(Violation::new(&format!("{path}/protocol"), "must be one of tcp, udp, udp,tcp"));
    }
}

fn name(path: &str, of: &Value, good: impl Fn(&str) -> bool, pattern: &str, violations: &mut Violations) {
    if of.get("name").and_then(Value::as_str).is_some_and(|name| !good(name)) {
        let said = format!("must fully match regular expression '{pattern}'");
        violations.push(Violation::new(&format!("{path}/name"), said));
    }
}

fn lower_case(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn names(ports: &[Value]) -> impl Iterator<Item = &str> {
    ports.iter().filter_map(|port| port.get("name").and_then(Value::as_str))
}

fn unique<T: Ord>(path: &str, error: &str, items: impl Iterator<Item = T>, violations: &mut Violations) {
    let mut seen = BTreeSet::new();
    if items.into_iter().any(|item| !seen.insert(item)) {
        violations.push(Violation::new(path, error));
    }
}

fn nonzero(port: &Value) -> Option<u64> {
    port.as_u64().filter(|port| *port != 0)
}
