//! The old networking form turned into the new one, as Marathon 1.5 and later do on input.

use serde_json::{Map, Value, json};

use super::definition::Object;
use super::error::Violation;

/// Rewrites `ipAddress`, `container.docker.{network,portMappings}`, `ports` and `uris`.
pub(crate) fn modernise(app: &mut Object, violations: &mut Vec<Violation>) {
    let ip = app.remove("ipAddress").filter(|ip| !ip.is_null());
    let (network, mappings) = take_docker_network(app);
    if ip.is_some() || network.is_some() || mappings.is_some() {
        match new_network(network.as_deref(), ip.as_ref(), mappings.is_some()) {
            Ok(network) => drop(app.insert("networks".to_owned(), json!([network]))),
            Err(violation) => violations.push(violation),
        }
        let mappings = mappings.or_else(|| ip.as_ref().and_then(discovered_mappings));
        put_mappings(app, mappings);
    }
    if let Some(Value::Array(ports)) = app.remove("ports") {
        let definitions = ports.iter().map(|port| json!({"port": port, "name": "default", "protocol": "tcp"}));
        app.entry("portDefinitions").or_insert_with(|| definitions.collect());
    }
    if let Some(Value::Array(uris)) = app.remove("uris") {
        app.entry("fetch").or_insert_with(|| uris.iter().map(|uri| json!({"uri": uri})).collect());
    }
}

fn take_docker_network(app: &mut Object) -> (Option<String>, Option<Value>) {
    let docker = app.get_mut("container").and_then(|c| c.get_mut("docker")).and_then(Value::as_object_mut);
    let Some(docker) = docker else { return (None, None) };
    let network = docker.remove("network").and_then(|n| n.as_str().map(str::to_uppercase));
    (network, docker.remove("portMappings").filter(Value::is_array))
}

fn new_network(network: Option<&str>, ip: Option<&Value>, mapped: bool) -> Result<Value, Violation> {
    match (network, ip) {
        (Some("HOST"), _) => Ok(json!({"mode": "host"})),
        (Some("BRIDGE"), _) => Ok(json!({"mode": "container/bridge"})),
        (None, None) if mapped => Ok(json!({"mode": "container/bridge"})),
        (None, None) => Ok(json!({"mode": "host"})),
        (_, ip) => container_network(ip),
    }
}

/// `groups` has no place in the new form.
fn container_network(ip: Option<&Value>) -> Result<Value, Violation> {
    let name = ip.and_then(|ip| ip.get("networkName")).and_then(Value::as_str);
    let Some(name) = name else {
        return Err(Violation::new("/ipAddress", "networkName must be given: there is no default network"));
    };
    let mut network =
        Map::from_iter([("mode".to_owned(), Value::from("container")), ("name".to_owned(), Value::from(name))]);
    let labels = ip.and_then(|ip| ip.get("labels")).and_then(Value::as_object).filter(|l| !l.is_empty());
    network.extend(labels.map(|labels| ("labels".to_owned(), Value::from(labels.clone()))));
    Ok(Value::Object(network))
}

fn discovered_mappings(ip: &Value) -> Option<Value> {
    let ports = ip.pointer("/discovery/ports")?.as_array()?;
    Some(ports.iter().map(mapping_of_discovered).collect())
}

fn mapping_of_discovered(port: &Value) -> Value {
    let mut mapping = port.as_object().cloned().unwrap_or_default();
    let number = mapping.remove("number").unwrap_or_else(|| 0.into());
    mapping.insert("containerPort".to_owned(), number);
    mapping.insert("hostPort".to_owned(), Value::Null);
    Value::Object(mapping)
}

fn put_mappings(app: &mut Object, mappings: Option<Value>) {
    let Some(mappings) = mappings else { return };
    let container = app.entry("container").or_insert_with(|| json!({"type": "MESOS"}));
    if container.is_null() {
        *container = json!({"type": "MESOS"});
    }
    if let Some(container) = container.as_object_mut() {
        container.insert("portMappings".to_owned(), mappings);
    }
}
