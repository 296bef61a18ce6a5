//! What Marathon refuses in an app whose fields have the right types: one function per part of a definition.
//!
//! Not refused here although Marathon does: a MESOS container with neither image nor command (the lab has no images, so
//! such an app runs the lab's own task), and what belongs to volumes, secrets, readiness checks and residency.

mod ports;

use serde_json::Value;

use super::definition::{Dialect, Object};
use super::error::Violation;
use super::placement;
use super::spec::{Network, RunSpec};

type Violations = Vec<Violation>;

/// Rules for what was sent, before it is converted and laid over what exists.
pub(crate) fn of_update(update: &Object, violations: &mut Violations) {
    discovery_beside_mappings(update, violations);
    ports::old_list(update, violations);
}

/// Rules for the definition as it would be kept.
pub(crate) fn of_app(dialect: Dialect, app: &Object, violations: &mut Violations) {
    runnable(app, violations);
    resources(app, violations);
    container(app, violations);
    ports::definitions(app, violations);
    ports::mappings(app, violations);
    ports::discovered(app, violations);
    health_checks(app, violations);
    constraints(app, violations);
    upgrade_strategy(app, violations);
    if dialect == Dialect::V1_9 {
        environment(app, violations);
    }
}

/// The seed: "If using docker container port mapping, ports cannot also be specified on the overlay IP address."
fn discovery_beside_mappings(app: &Object, violations: &mut Violations) {
    let discovered = app.get("ipAddress").and_then(|ip| ip.pointer("/discovery/ports"));
    let mapped = app.get("container").and_then(|c| c.pointer("/docker/portMappings"));
    if !list(discovered).is_empty() && !list(mapped).is_empty() {
        violations.push(Violation::new(
            "/",
            "ipAddress/discovery is not allowed for Docker containers using BRIDGE or USER networks",
        ));
    }
}

fn runnable(app: &Object, violations: &mut Violations) {
    let cmd = app.get("cmd").and_then(Value::as_str);
    if cmd == Some("") {
        violations.push(Violation::new("/cmd", "must not be an empty string"));
    }
    let args = !list(app.get("args")).is_empty();
    let container = app.get("container").is_some_and(Value::is_object);
    if (cmd.is_some() && args) || (cmd.is_none() && !args && !container) {
        let said = "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.";
        violations.push(Violation::new("/", said));
    }
}

fn resources(app: &Object, violations: &mut Violations) {
    for field in ["mem", "cpus", "disk", "gpus", "instances", "backoffSeconds", "taskKillGracePeriodSeconds"] {
        let number = app.get(field).and_then(Value::as_f64);
        if let Some(number) = number.filter(|n| *n < 0.0) {
            violations.push(Violation::new(&format!("/{field}"), format!("got {number}, expected 0 or more")));
        }
    }
    if app.get("backoffFactor").and_then(Value::as_f64).is_some_and(|factor| factor < 1.0) {
        violations.push(Violation::new("/backoffFactor", "got a value below 1, expected 1 or more"));
    }
    // A bound of the lab: each instance is a process of this machine.
    if app.get("instances").and_then(Value::as_f64).is_some_and(|n| n > 10_000.0) {
        violations.push(Violation::new("/instances", "the lab starts no more than 10000 instances"));
    }
}

fn container(app: &Object, violations: &mut Violations) {
    let Some(container) = app.get("container").filter(|c| c.is_object()) else { return };
    let kind = container.get("type").and_then(Value::as_str);
    if kind.is_some_and(|kind| !["DOCKER", "MESOS"].contains(&kind)) {
        violations.push(Violation::new("/container/type", "must be one of DOCKER, MESOS"));
    }
    let docker = container.get("docker").filter(|docker| docker.is_object());
    match docker.map(|docker| docker.get("image").and_then(Value::as_str).unwrap_or_default()) {
        None if kind == Some("DOCKER") => violations.push(Violation::new("/container/docker", "not defined")),
        Some("") => violations.push(Violation::new("/container/docker/image", "must not be empty")),
        None | Some(_) => {}
    }
}

const PROTOCOLS: [&str; 7] = ["HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"];

fn health_checks(app: &Object, violations: &mut Violations) {
    let ports = port_count(app) as u64;
    for (index, check) in list(app.get("healthChecks")).iter().enumerate() {
        let path = format!("/healthChecks({index})");
        let protocol = check.get("protocol").and_then(Value::as_str).unwrap_or("HTTP");
        if !PROTOCOLS.contains(&protocol) {
            let said = format!("must be one of {}", PROTOCOLS.join(", "));
            violations.push(Violation::new(&format!("{path}/protocol"), said));
        }
        ports::number(&format!("{path}/port"), check.get("port"), violations);
        let given = check.get("portIndex").filter(|index| !index.is_null());
        let by_port = given.is_none() && check.get("port").is_some_and(Value::is_number);
        let out = given.map_or(ports == 0, |index| index.as_u64().is_none_or(|index| index >= ports));
        if protocol != "COMMAND" && !by_port && out {
            let said =
                "Health check port indices must address an element of the ports array or container port mappings.";
            violations.push(Violation::new(&path, said));
        }
    }
}

/// The ports that an index may address; a host-mode app that names none will get one.
fn port_count(app: &Object) -> usize {
    let spec = RunSpec::of_app(app);
    let named = app.get("portDefinitions").is_some_and(Value::is_array);
    match (&spec.network, named) {
        (Network::Host, false) => app.get("ports").and_then(Value::as_array).map_or(1, Vec::len),
        (Network::Host, true) | (Network::Bridge | Network::Container(_), _) => spec.ports.len(),
    }
}

fn constraints(app: &Object, violations: &mut Violations) {
    for (index, constraint) in list(app.get("constraints")).iter().enumerate() {
        let words: Vec<&str> = list(Some(constraint)).iter().filter_map(Value::as_str).collect();
        if let Some(error) = constraint_error(&words) {
            violations.push(Violation::new(&format!("/constraints({index})"), error));
        }
    }
}

fn constraint_error(words: &[&str]) -> Option<String> {
    let (_, operator, value) = match words {
        [field, operator] => (field, *operator, None),
        [field, operator, value] => (field, *operator, Some(*value)),
        [] | [_] => return Some("Missing field and operator".to_owned()),
        [..] => return Some("a constraint is a field, an operator and at most one value".to_owned()),
    };
    let number = value.is_none_or(|value| value.parse::<i32>().is_ok());
    match operator {
        "UNIQUE" if value.is_some() => Some("Value specified but not used".to_owned()),
        "CLUSTER" | "IS" if value.is_none() => Some("Missing value".to_owned()),
        "LIKE" | "UNLIKE" => match value {
            None => Some("A regular expression value must be provided".to_owned()),
            Some(value) if placement::pattern(value).is_none() => {
                Some(format!("'{value}' is not a valid regular expression"))
            }
            Some(_) => None,
        },
        "GROUP_BY" | "MAX_PER" if !number => Some("Value was specified but is not a number".to_owned()),
        "UNIQUE" | "CLUSTER" | "IS" | "GROUP_BY" | "MAX_PER" => None,
        other => Some(format!("illegal constraint operator {other}")),
    }
}

fn upgrade_strategy(app: &Object, violations: &mut Violations) {
    for field in ["minimumHealthCapacity", "maximumOverCapacity"] {
        let value = app.get("upgradeStrategy").and_then(|s| s.get(field)).and_then(Value::as_f64);
        if let Some(value) = value.filter(|v| !(0.0..=1.0).contains(v)) {
            let said = format!("got {value}, expected between 0.0 and 1.0");
            violations.push(Violation::new(&format!("/upgradeStrategy/{field}"), said));
        }
    }
}

fn environment(app: &Object, violations: &mut Violations) {
    let word = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && key.len() < 255;
    let good = |key: &str| !key.is_empty() && !key.starts_with(|c: char| c.is_ascii_digit()) && word(key);
    for key in app.get("env").and_then(Value::as_object).into_iter().flat_map(Object::keys).filter(|key| !good(key)) {
        let said = "must contain only alphanumeric chars or underscore, and must not begin with a number";
        violations.push(Violation::new(&format!("/env({key})"), said));
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
