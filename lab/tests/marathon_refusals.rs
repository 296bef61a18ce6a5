//! Definitions that Marathon refuses are refused, with its status, its message and the place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "every test file uses its own part of the support")]
mod support;

use serde_json::{Value, json};
use sluice_lab::marathon::Dialect;
use support::Bench;

/// `fields` in an app that is well but for them.
fn app(fields: &Value) -> Value {
    let mut app = json!({"id": "/app", "cmd": "sleep 60", "instances": 0});
    app.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app
}

/// Posts each case and compares the paths of what was found wrong; nothing wrong is to give 201.
fn judge(dialect: Dialect, status: u16, cases: &[(Value, &[&str])]) {
    let bench = Bench::start(dialect);
    for (fields, wanted) in cases {
        let (given, answer) = bench.send("POST", "/v2/apps", &app(fields));
        let details = answer["details"].as_array().cloned().unwrap_or_default();
        let paths: Vec<&str> = details.iter().map(|detail| detail["path"].as_str().unwrap()).collect();
        assert_eq!(
            (given, paths.as_slice()),
            (if wanted.is_empty() { 201 } else { status }, *wanted),
            "{fields}: {answer}"
        );
        assert!(details.iter().all(|detail| detail["errors"][0].is_string()), "{answer}");
        if wanted.is_empty() {
            assert_eq!(bench.send("DELETE", "/v2/apps/app?force=true", &Value::Null).0, 200);
            support::eventually("the app is gone", || {
                (bench.ask("GET", "/v2/apps/app", &Value::Null).status == 404).then_some(())
            });
        }
    }
}

fn docker(mappings: Value) -> Value {
    json!({"type": "DOCKER", "docker": {"image": "x", "network": "BRIDGE", "portMappings": mappings}})
}

#[test]
fn commands_resources_ports_checks_containers_and_constraints_follow_marathons_rules() {
    let checks = |check: Value| json!({"healthChecks": [check]});
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"args": ["b"]}), &["/"]),
        (json!({"cmd": ""}), &["/cmd"]),
        (json!({"mem": -1, "cpus": -0.5, "disk": -1}), &["/cpus", "/disk", "/mem"]),
        (json!({"instances": -1}), &["/instances"]),
        (json!({"ports": [70_000]}), &["/ports(0)"]),
        (json!({"ports": [8080, 8080]}), &["/ports"]),
        (json!({"ports": [0, 0]}), &[]),
        (json!({"ports": [1], "portDefinitions": [{"port": 2}]}), &["/"]),
        (json!({"ports": [8080], "portDefinitions": [{"port": 8080}]}), &[]),
        (json!({"portDefinitions": [{"port": -1}]}), &["/portDefinitions(0)/port"]),
        (json!({"portDefinitions": [{"port": 80}, {"port": 80}]}), &["/portDefinitions"]),
        (json!({"portDefinitions": [{"port": 0, "protocol": "sctp"}]}), &["/portDefinitions(0)/protocol"]),
        (json!({"portDefinitions": [{"port": 0, "protocol": "udp,tcp"}]}), &[]),
        (json!({"portDefinitions": [{"port": 0, "name": "A_B"}]}), &["/portDefinitions(0)/name"]),
        (json!({"portDefinitions": [{"port": 0, "name": "a"}, {"port": 0, "name": "a"}]}), &["/portDefinitions"]),
        (checks(json!({"protocol": "BOGUS"})), &["/healthChecks(0)/protocol"]),
        (checks(json!({"protocol": "HTTP", "portIndex": 5})), &["/healthChecks(0)"]),
        (checks(json!({"protocol": "TCP", "port": 70_000})), &["/healthChecks(0)/port"]),
        (checks(json!({"protocol": "HTTP", "portIndex": 0})), &[]),
        (checks(json!({"protocol": "COMMAND", "command": {"value": "true"}, "portIndex": 5})), &[]),
        (json!({"constraints": [["hostname", "BOGUS"]]}), &["/constraints(0)"]),
        (
            json!({"constraints": [["hostname"], ["rack", "LIKE"], ["a", "UNIQUE", "x"], ["a", "MAX_PER", "x"]]}),
            &["/constraints(0)", "/constraints(1)", "/constraints(2)", "/constraints(3)"],
        ),
        (json!({"constraints": [["hostname", "UNIQUE"], ["rack", "GROUP_BY", "2"], ["r", "CLUSTER", "a"]]}), &[]),
        (
            json!({"constraints": [["hostname", "LIKE", "a("], ["hostname", "UNLIKE", "a("]]}),
            &["/constraints(0)", "/constraints(1)"],
        ),
        (json!({"upgradeStrategy": {"minimumHealthCapacity": 5}}), &["/upgradeStrategy/minimumHealthCapacity"]),
        (json!({"upgradeStrategy": {"maximumOverCapacity": -0.1}}), &["/upgradeStrategy/maximumOverCapacity"]),
        (json!({"container": {"type": "DOCKER"}}), &["/container/docker"]),
        (json!({"container": {"type": "DOCKER", "docker": {}}}), &["/container/docker/image"]),
        (json!({"container": {"type": "LXC"}}), &["/container/type"]),
        (json!({"id": "/Upper"}), &["/id"]),
        (json!({"env": {"A": {"secret": "s"}, "B": "b"}}), &[]),
    ];
    for dialect in [Dialect::V1_3, Dialect::V1_9] {
        judge(dialect, 422, &cases);
    }
}

#[test]
fn port_mappings_and_discovery_are_judged_in_the_form_that_the_version_keeps() {
    let cases = |path: &str| -> Vec<(Value, String)> {
        vec![
            (docker(json!([{"containerPort": 70_000}])), format!("{path}(0)/containerPort")),
            (docker(json!([{"containerPort": 80, "protocol": "sctp"}])), format!("{path}(0)/protocol")),
            (docker(json!([{"containerPort": 80, "name": "Web"}])), format!("{path}(0)/name")),
            (docker(json!([{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}])), path.to_owned()),
        ]
    };
    for (dialect, path) in
        [(Dialect::V1_3, "/container/docker/portMappings"), (Dialect::V1_9, "/container/portMappings")]
    {
        for (container, wanted) in cases(path) {
            judge(dialect, 422, &[(json!({"container": container}), &[&wanted])]);
        }
    }
    let discovery = |port: Value| json!({"ipAddress": {"networkName": "dcos", "discovery": {"ports": [port]}}});
    let path = "/ipAddress/discovery/ports(0)";
    let (number, protocol, name) = (format!("{path}/number"), format!("{path}/protocol"), format!("{path}/name"));
    judge(
        Dialect::V1_3,
        422,
        &[
            (discovery(json!({"number": 70_000, "name": "a", "protocol": "tcp"})), &[&number]),
            (discovery(json!({"number": 80, "name": "a", "protocol": "icmp"})), &[&protocol]),
            (discovery(json!({"number": 80, "name": "9a", "protocol": "tcp"})), &[&name]),
        ],
    );
}

#[test]
fn a_field_of_another_type_is_400_in_1_3_and_422_in_1_9_and_called_invalid_json() {
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"mem": "a"}), &["/mem"]),
        (json!({"cpus": "x", "disk": []}), &["/cpus", "/disk"]),
        (json!({"instances": "a"}), &["/instances"]),
        (json!({"instances": 1.5}), &["/instances"]),
        (json!({"labels": {"a": 1}}), &["/labels/a"]),
        (json!({"env": {"A": 1}}), &["/env/A"]),
        (json!({"ports": "80"}), &["/ports"]),
        (json!({"healthChecks": [{"portIndex": "0"}]}), &["/healthChecks(0)/portIndex"]),
    ];
    for (dialect, status) in [(Dialect::V1_3, 400), (Dialect::V1_9, 422)] {
        judge(dialect, status, &cases);
        let bench = Bench::start(dialect);
        let (_, answer) = bench.send("POST", "/v2/apps", &app(&json!({"mem": "a"})));
        let wanted =
            json!({"message": "Invalid JSON", "details": [{"path": "/mem", "errors": ["error.expected.jsnumber"]}]});
        assert_eq!(answer, wanted);
    }
}

#[test]
fn an_update_is_judged_as_what_it_makes_of_the_app() {
    let bench = Bench::start(Dialect::V1_3);
    assert_eq!(bench.send("POST", "/v2/apps", &app(&json!({"ports": [8080]}))).0, 201);
    let cases = [
        (json!({"args": ["x"]}), 422),
        (json!({"mem": -5}), 422),
        (json!({"healthChecks": [{"protocol": "HTTP", "portIndex": 1}]}), 422),
        (json!({"ports": [8080, 8081], "healthChecks": [{"protocol": "HTTP", "portIndex": 1}]}), 200),
        (json!({"cmd": null, "mem": 64}), 200),
    ];
    for (update, status) in cases {
        let (given, answer) = bench.send("PUT", "/v2/apps/app?force=true", &update);
        assert_eq!(given, status, "{update}: {answer}");
    }
    let shown = &bench.get("/v2/apps/app")["app"];
    assert_eq!(shown["ports"], json!([8080, 8081]));
    assert_eq!(shown["portDefinitions"][1]["port"], 8081);
    // What the API returns, it takes again.
    assert_eq!(bench.send("PUT", "/v2/apps/app?force=true", shown).0, 200);
}

#[test]
fn an_id_is_an_apps_or_a_groups_and_never_both() {
    let bench = Bench::start(Dialect::V1_9);
    let plain = |id: &str| json!({"id": id, "cmd": "sleep 60", "instances": 0});
    let pod = json!({"id": "/pod", "containers": [{"name": "c", "exec": {"command": {"shell": "sleep 60"}}}],
        "scaling": {"kind": "fixed", "instances": 0}});
    assert_eq!(bench.send("POST", "/v2/apps", &plain("/g/h/app")).0, 201);
    assert_eq!(bench.send("POST", "/v2/pods", &pod).0, 201);
    for id in ["/g", "/g/h", "/g/h/app/below", "/pod/below", "/pod"] {
        let (status, answer) = bench.send("PUT", &format!("/v2/apps{id}"), &plain(id));
        assert_eq!((status, answer["message"].as_str()), (422, Some("Object is not valid")), "{id}: {answer}");
        assert!(answer["details"][0]["errors"][0].as_str().unwrap().contains("may not"), "{answer}");
    }
}
