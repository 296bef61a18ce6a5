//! What the demo deploys: the app fragments of the cluster's own description, completed.

use serde_json::{Value, json};

/// The static VIP of the description.
pub(super) const STATIC_VIP: &str = "172.16.0.1:80";
/// The address that DC/OS gives the named VIP `minitwit:80` of framework `marathon`.
pub(super) const NAMED_VIP: &str = "11.45.193.125";

/// What Mesos calls the tasks of these apps.
pub(super) const TASK_NAMES: [&str; 3] = ["minitwit", "api.overlay", "app.group"];

/// `minitwit` in bridge mode with a static and a named VIP.
pub(super) fn minitwit(instances: usize) -> Value {
    json!({
        "id": "minitwit", "instances": instances, "cpus": 0.1, "mem": 64,
        "container": {"type": "DOCKER", "docker": {
            "image": "karlkfi/minitwit", "network": "BRIDGE",
            "portMappings": [{
                "name": "http-api", "containerPort": 80, "hostPort": 0, "protocol": "tcp",
                "labels": {"VIP_0": STATIC_VIP, "VIP_1": "minitwit:80"},
            }],
        }},
        "healthChecks": [health(json!({"portIndex": 0}))],
    })
}

/// An app with overlay addresses and a VIP of its own: what the description says is not supported yet.
pub(super) fn overlay() -> Value {
    json!({
        "id": "/overlay/api", "instances": 2, "cpus": 0.1, "mem": 64,
        "container": {"type": "DOCKER", "docker": {"image": "karlkfi/minitwit"}},
        "ipAddress": {"networkName": "dcos", "discovery": {"ports": [
            {"name": "http-api", "number": 8080, "protocol": "tcp", "labels": {"VIP_0": "overlay:80"}},
        ]}},
        "healthChecks": [health(json!({"port": 8080}))],
    })
}

/// A host-mode app in a group, for the framework `marathon-user`.
pub(super) fn group_app() -> Value {
    json!({
        "id": "/group/app", "instances": 1, "cpus": 0.1, "mem": 64,
        "container": {"type": "DOCKER", "docker": {"image": "karlkfi/minitwit", "network": "HOST"}},
        "portDefinitions": [{"port": 0, "protocol": "tcp", "name": "web", "labels": {"VIP_0": "app:80"}}],
        "healthChecks": [health(json!({"portIndex": 0}))],
    })
}

fn health(port: Value) -> Value {
    let mut check = json!({
        "protocol": "HTTP", "path": "/health", "gracePeriodSeconds": 10, "intervalSeconds": 1, "timeoutSeconds": 2,
        "maxConsecutiveFailures": 3,
    });
    if let (Value::Object(check), Value::Object(port)) = (&mut check, port) {
        check.extend(port);
    }
    check
}
