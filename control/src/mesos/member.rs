//! Frameworks and agents, as `/state` and as the operator API write them.

use std::sync::Arc;

use serde_json::Value;

use super::facts::{Agent, Endpoint, Framework};
use super::read::{Refused, attributes, id, list, text};

/// Reads a framework: of `/state`, or the operator API's `{"framework_info": ..}`.
pub(super) fn framework(value: &Value) -> Result<Arc<Framework>, Refused> {
    let info = inner(value, "framework_info");
    let roles = list(&info["roles"]).iter().filter_map(Value::as_str);
    let role = info["role"].as_str().filter(|r| !r.is_empty());
    let roles: Vec<String> = roles.chain(role).map(str::to_owned).collect();
    Ok(Arc::new(Framework {
        id: id(info, ["id", "framework_id"])?.ok_or("a framework has an id")?.to_owned(),
        name: text(info, "name")?.to_owned(),
        active: value["active"].as_bool().unwrap_or(true),
        scheduler: text(value, "pid").ok().and_then(Endpoint::of_pid),
        hostname: text(info, "hostname")?.to_owned(),
        roles: if roles.is_empty() { vec!["*".to_owned()] } else { roles },
    }))
}

/// Reads an agent: of `/state`, or the operator API's `{"agent_info": ..}`.
pub(super) fn agent(value: &Value) -> Result<Arc<Agent>, Refused> {
    let info = inner(value, "agent_info");
    Ok(Arc::new(Agent {
        id: id(info, ["id", "agent_id"])?.ok_or("an agent has an id")?.to_owned(),
        hostname: text(info, "hostname")?.to_owned(),
        endpoint: text(value, "pid").ok().and_then(Endpoint::of_pid),
        active: value["active"].as_bool().unwrap_or(true),
        attributes: attributes(&info["attributes"]),
    }))
}

fn inner<'a>(value: &'a Value, field: &str) -> &'a Value {
    if value[field].is_object() { &value[field] } else { value }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_framework_reads_alike_from_both() {
        let state = json!({"id": "F1", "name": "marathon", "hostname": "m", "role": "r", "active": true, "pid": "s@10.0.0.1:1"});
        let api = json!({"active": true, "pid": "s@10.0.0.1:1",
            "framework_info": {"id": {"value": "F1"}, "name": "marathon", "hostname": "m", "roles": ["r"]}});
        assert_eq!(framework(&state).unwrap(), framework(&api).unwrap());
    }

    #[test]
    fn null_fields_are_absent_and_an_id_must_be_there() {
        let odd = json!({"id": "F1", "name": null, "pid": null, "hostname": null, "role": null, "active": null});
        let read = framework(&odd).unwrap();
        assert_eq!((read.name.as_str(), &read.scheduler, read.active), ("", &None, true));
        assert!(framework(&json!({"id": null, "name": "x"})).is_err());
        assert!(framework(&Value::Null).is_err());
        let odd = json!({"id": {"value": "S1"}, "hostname": null, "pid": "no port", "attributes": null});
        assert_eq!(agent(&odd).unwrap().endpoint, None);
        assert!(agent(&json!({"hostname": "h"})).is_err());
        assert!(agent(&json!({"id": "S1", "hostname": "h".repeat(5000)})).is_err());
    }
}
