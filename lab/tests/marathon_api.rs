//! The API as a client of Marathon sees it: shapes, status codes, conversion, the event stream.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "every test file uses its own part of the support")]
mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_lab::marathon::Dialect;
use support::{Bench, eventually, web};

/// A recorded payload, or none with a sentence when the folder is not there.
fn sample(name: &str) -> Option<Value> {
    let golden = std::env::var_os("SLUICE_GOLDEN").map(PathBuf::from);
    let shared = golden.and_then(|g| g.parent().map(PathBuf::from));
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let shared = if shared.is_dir() { shared } else { PathBuf::from("/work/shared") };
    let path = shared.join("samples").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("skipped: {} is not here", path.display());
    }
    text.and_then(|text| serde_json::from_str(&text).ok())
}

/// Field names of `wanted` that `ours` has not; the first item of a list stands for all.
fn missing(wanted: &Value, ours: &Value, path: &str) -> Vec<String> {
    match (wanted, ours) {
        (Value::Object(wanted), Value::Object(ours)) => {
            let each = wanted.iter().flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                ours.get(key).map_or_else(|| vec![path.clone()], |own| missing(value, own, &path))
            });
            each.collect()
        }
        (Value::Array(wanted), Value::Array(ours)) => match (wanted.first(), ours.first()) {
            (Some(wanted), Some(ours)) => missing(wanted, ours, &format!("{path}[]")),
            (Some(_), None) => vec![format!("{path}[]")],
            (None, _) => vec![],
        },
        _ => vec![],
    }
}

fn checked_web() -> Value {
    let mut app = web("/web", 2);
    app["healthChecks"] = json!([{"protocol": "MESOS_HTTP", "path": "/health", "portIndex": 0, "intervalSeconds": 0.2,
        "gracePeriodSeconds": 5, "delaySeconds": 15, "ipProtocol": "IPv4"}]);
    app["labels"] = json!({"HAPROXY_GROUP": "external", "HAPROXY_0_VHOST": "web.example.com"});
    app
}

#[test]
fn apps_tasks_info_and_leader_have_every_field_of_the_recorded_ones() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &checked_web());
    bench.running("/web", 2);
    eventually("results of health checks", || (bench.get("/v2/apps/web")["app"]["tasksHealthy"] == 2).then_some(()));
    let embed = "?embed=apps.tasks&embed=apps.counts&embed=apps.deployments&embed=apps.readiness";
    let cases = [
        ("marathon-v2-apps-embed-tasks.json", bench.get(&format!("/v2/apps{embed}"))),
        ("marathon-v2-tasks.json", bench.get("/v2/tasks?status=running")),
        ("marathon-v2-info.json", bench.get("/v2/info")),
        ("marathon-v2-leader.json", bench.get("/v2/leader")),
    ];
    // Community Marathon has no regions; `http_port` belongs to `http_config` (the Python client refuses it elsewhere).
    let absent = [".region", ".zone", ".marathon_config.http_port", ".apps[].container"];
    for (name, ours) in cases {
        let Some(wanted) = sample(name) else { continue };
        let missing = missing(&wanted, &ours, "");
        let missing: Vec<_> = missing.iter().filter(|path| !absent.iter().any(|a| path.ends_with(a))).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn version_1_3_returns_the_old_networking_form_as_it_was_sent() {
    let bench = Bench::start(Dialect::V1_3);
    let Some(sample) = sample("marathon-legacy-apps-pre15.json") else { return };
    for app in sample["apps"].as_array().unwrap() {
        let mut sent = app.clone();
        sent.as_object_mut().unwrap().retain(|field, _| field != "tasks" && field != "ports");
        sent["instances"] = json!(0);
        assert_eq!(bench.send("POST", "/v2/apps", &sent).0, 201);
        let shown = &bench.get(&format!("/v2/apps{}", app["id"].as_str().unwrap()))["app"];
        // An app with an address of its own has no service port, unless it was made before it had that address.
        let missing: Vec<_> = missing(app, shown, "").into_iter().filter(|path| path != ".ports[]").collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(shown["ipAddress"], app.get("ipAddress").cloned().unwrap_or(Value::Null));
    }
    let bridged = &bench.get("/v2/apps/minitwit")["app"];
    assert_eq!(bridged["container"]["docker"]["portMappings"][0]["servicePort"], 10010);
    assert_eq!(bridged["ports"], json!([10010]));
}

#[test]
fn version_1_9_converts_the_old_form_and_drops_groups() {
    let bench = Bench::start(Dialect::V1_9);
    let cases = [
        (
            json!({"id": "/overlay", "instances": 0, "cmd": "x", "ipAddress": {"networkName": "dcos", "groups": ["secret-club"],
                "discovery": {"ports": [{"number": 80, "name": "http-api", "protocol": "tcp", "labels": {"VIP_0": "/l:80"}}]}}}),
            json!({"networks": [{"mode": "container", "name": "dcos"}], "container": {"type": "MESOS", "portMappings": [
                {"containerPort": 80, "hostPort": null, "name": "http-api", "protocol": "tcp", "servicePort": 10000, "labels": {"VIP_0": "/l:80"}}]}}),
        ),
        (
            json!({"id": "/bridged", "instances": 0, "container": {"type": "DOCKER", "docker": {"image": "x", "network": "BRIDGE",
                "portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 12000, "labels": {"VIP_0": "172.16.0.1:80"}}]}}}),
            json!({"networks": [{"mode": "container/bridge"}], "container": {"type": "DOCKER", "docker": {"image": "x"}, "portMappings": [
                {"containerPort": 80, "hostPort": 0, "protocol": "tcp", "servicePort": 12000, "labels": {"VIP_0": "172.16.0.1:80"}}]}}),
        ),
        (
            json!({"id": "/hosted", "instances": 0, "cmd": "x", "ports": [11000], "uris": ["http://x/y"]}),
            json!({"networks": [{"mode": "host"}], "portDefinitions": [{"port": 11000, "name": "default", "protocol": "tcp", "labels": {}}],
                "fetch": [{"uri": "http://x/y"}]}),
        ),
    ];
    for (sent, wanted) in cases {
        let id = sent["id"].as_str().unwrap().to_owned();
        let (status, answer) = bench.send("POST", "/v2/apps", &sent);
        assert_eq!(status, 201, "{answer}");
        let shown = &bench.get(&format!("/v2/apps{id}"))["app"];
        for (field, value) in wanted.as_object().unwrap() {
            assert_eq!(shown[field], *value, "{id} {field}");
        }
        for old in ["ipAddress", "ports", "uris"] {
            assert!(shown.get(old).is_none(), "{id} still has {old}");
        }
    }
}

#[test]
fn discovery_beside_docker_port_mappings_is_refused_with_422_by_both_versions() {
    let app = json!({"id": "/both", "ipAddress": {"networkName": "dcos", "discovery": {"ports": [{"number": 80, "name": "a", "protocol": "tcp"}]}},
        "container": {"type": "DOCKER", "docker": {"image": "x", "network": "USER", "portMappings": [{"containerPort": 80}]}}});
    for dialect in [Dialect::V1_3, Dialect::V1_9] {
        let bench = Bench::start(dialect);
        let (status, body) = bench.send("POST", "/v2/apps", &app);
        assert_eq!(status, 422);
        assert_eq!(body["message"], "Object is not valid");
        assert!(body["details"][0]["errors"][0].as_str().unwrap().contains("ipAddress/discovery"), "{body}");
    }
}

#[test]
fn what_is_wrong_gets_marathons_status_and_body() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &json!({"id": "/there", "cmd": "x", "instances": 0}));
    let cases = [
        ("POST", "/v2/apps", json!({"id": "/there", "cmd": "x"}), 409),
        ("POST", "/v2/apps", json!({"id": "/a/../there", "cmd": "x"}), 409),
        ("POST", "/v2/apps", json!({"id": "/a/../../there", "cmd": "x"}), 422),
        ("POST", "/v2/apps", json!({"id": "/Upper", "cmd": "x"}), 422),
        ("POST", "/v2/apps", json!({"id": "/nothing-to-run"}), 422),
        ("POST", "/v2/apps", json!({"id": "/app/restart", "cmd": "x"}), 422),
        ("POST", "/v2/apps", json!({"id": "/n", "cmd": "x", "instances": -1}), 422),
        ("POST", "/v2/apps", json!([1]), 400),
        ("GET", "/v2/apps/absent", Value::Null, 404),
        ("GET", "/v2/apps/absent/tasks", Value::Null, 404),
        ("DELETE", "/v2/apps/absent", Value::Null, 404),
        ("PATCH", "/v2/apps/absent", json!({"instances": 1}), 404),
        ("GET", "/v2/groups/absent", Value::Null, 404),
        ("GET", "/v2/pods/absent", Value::Null, 404),
        ("GET", "/v2/nothing", Value::Null, 404),
    ];
    for (method, path, body, status) in cases {
        let answer = bench.send(method, path, &body);
        assert_eq!(answer.0, status, "{method} {path} {body}: {}", answer.1);
        assert!(answer.1["message"].is_string(), "{method} {path}: {}", answer.1);
    }
    let cut = sluice_lab::http::request("POST", bench.address, "/v2/apps", "{\"id\": ").unwrap();
    assert_eq!(cut.status, 400);
}

#[test]
fn an_app_is_locked_while_it_deploys_unless_forced() {
    let bench = Bench::start(Dialect::V1_9);
    // Its health check never passes and its grace never ends, so its deployment does not either.
    let mut app = web("/slow", 1);
    app["healthChecks"] = json!([{"protocol": "TCP", "port": 1, "gracePeriodSeconds": 600, "intervalSeconds": 1}]);
    bench.send("POST", "/v2/apps", &app);
    let (status, body) = bench.send("PUT", "/v2/apps/slow", &json!({"instances": 2}));
    assert_eq!(status, 409);
    assert_eq!(body["deployments"][0]["id"], bench.get("/v2/deployments")[0]["id"]);
    assert_eq!(bench.send("PUT", "/v2/apps/slow?force=true", &json!({"instances": 0})).0, 200);
}

#[test]
fn the_stream_tells_of_a_deployment_in_marathons_order() {
    let bench = Bench::start(Dialect::V1_9);
    let mut events = bench.events("");
    assert_eq!(events.next().0, "event_stream_attached");
    bench.send("POST", "/v2/apps", &web("/web", 1));
    let seen = events.until("deployment_success");
    let at = |name: &str, has: &dyn Fn(&Value) -> bool| {
        let found = seen.iter().position(|(event, data)| event == name && has(data));
        found.unwrap_or_else(|| panic!("no {name} in {seen:?}"))
    };
    let status = |wanted: &'static str| move |data: &Value| data["taskStatus"] == wanted;
    let order = [
        at("group_change_success", &|_| true),
        at("deployment_info", &|data| data["plan"]["steps"][0]["actions"][0]["app"] == "/web"),
        at("status_update_event", &status("TASK_STARTING")),
        at("status_update_event", &status("TASK_RUNNING")),
        at("instance_changed_event", &|data| data["condition"] == "Running"),
        at("deployment_step_success", &|_| true),
        at("deployment_success", &|_| true),
    ];
    assert!(order.is_sorted(), "{order:?}: {seen:?}");
    assert!(seen.iter().all(|(name, data)| data["eventType"] == name.as_str() && data["timestamp"].is_string()));
    let posted = &seen[at("api_post_event", &|_| true)].1;
    assert_eq!((posted["uri"].as_str(), posted["appDefinition"]["id"].as_str()), (Some("/v2/apps//web"), Some("/web")));
    bench.send("DELETE", "/v2/apps/web", &Value::Null);
    let seen = events.until("app_terminated_event");
    assert!(seen.iter().any(|(_, data)| data["taskStatus"] == "TASK_KILLING"));
    assert!(seen.iter().any(|(name, _)| name == "unknown_instance_terminated_event"));
}

#[test]
fn events_have_every_field_of_the_recorded_ones() {
    let Some(recorded) = sample("marathon-events.json") else { return };
    let bench = Bench::start(Dialect::V1_9);
    let mut events = bench.events("");
    bench.send("POST", "/v2/apps", &checked_web());
    let mut seen = events.until("deployment_success");
    bench.send("DELETE", "/v2/apps/web", &Value::Null);
    seen.extend(events.until("app_terminated_event"));
    let mut compared = 0;
    for wanted in recorded.as_array().unwrap() {
        let name = wanted["eventType"].as_str().unwrap();
        let Some((_, ours)) = seen.iter().find(|(event, _)| event == name) else { continue };
        // The first status update of a task has no ports and addresses yet.
        let missing: Vec<String> = missing(wanted, ours, "").into_iter().filter(|path| !path.ends_with("[]")).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
        compared += 1;
    }
    assert!(compared >= 10, "only {compared} kinds of event were seen");
}

#[test]
fn groups_are_a_tree_and_ids_may_hold_slashes() {
    let bench = Bench::start(Dialect::V1_9);
    for id in ["/top", "/group/app", "/group/deep/app"] {
        assert_eq!(bench.send("PUT", &format!("/v2/apps/{id}"), &json!({"cmd": "x", "instances": 0})).0, 201, "{id}");
    }
    let root = bench.get("/v2/groups?embed=group.apps");
    assert_eq!(root["apps"][0]["id"], "/top");
    assert_eq!(root["groups"][0]["apps"][0]["id"], "/group/app");
    assert_eq!(root["groups"][0]["groups"][0]["apps"][0]["id"], "/group/deep/app");
    assert_eq!(bench.get("/v2/groups/group/deep")["apps"][0]["id"], "/group/deep/app");
    assert_eq!(bench.get("/v2/apps/group/*")["*"].as_array().unwrap().len(), 2);
    assert_eq!(bench.get("/v2/apps?id=deep")["apps"].as_array().unwrap().len(), 1);
    assert_eq!(bench.get("/v2/apps/group/app/versions")["versions"].as_array().unwrap().len(), 1);
}

#[test]
fn task_ids_are_those_of_the_version() {
    for (dialect, wanted) in [(Dialect::V1_3, "a_b."), (Dialect::V1_9, "a_b.instance-")] {
        let bench = Bench::start(dialect);
        bench.send("POST", "/v2/apps", &json!({"id": "/a/b", "cmd": "sleep 60"}));
        let id = bench.running("/a/b", 1)[0]["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with(wanted), "{id}");
        assert_eq!(id.ends_with("._app.1"), dialect == Dialect::V1_9, "{id}");
    }
}
