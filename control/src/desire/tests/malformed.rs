//! Parts of an app or a pod that are not what they should be: each is listed, and the good parts beside it serve.

use super::*;

/// What is listed of an app with this first mapping, where the second is good; the good one's VIP must be there.
fn listed(mode: &str, mapping: Value) -> Vec<(String, String)> {
    let good = json!({ "containerPort": 81, "hostPort": 0, "labels": { "VIP_0": "172.16.0.1:80" } });
    let ports = if mode == "container/bridge" { json!([31000, 31001]) } else { json!([31001]) };
    let case = Case::of(json!([{ "id": "/web", "networks": [{ "mode": mode }],
        "container": { "portMappings": [mapping, good] },
        "tasks": [{ "id": "web.1", "host": "10.0.0.11", "state": "TASK_RUNNING", "ports": ports,
            "ipAddresses": [{ "ipAddress": "10.8.0.2" }] }] }]));
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.11:31001*1"], "{:?}", report.rejected);
    assert!(report.rejected.iter().all(|r| r.task.trim_start_matches('/').starts_with("web") && !r.reason.is_empty()));
    report.rejected.into_iter().map(|r| (r.label, r.value)).collect()
}

#[test]
fn each_odd_part_of_a_mapping_is_listed_and_the_next_mapping_serves() {
    for (mode, mapping, expected) in [
        ("container/bridge", json!(null), &[("portMappings", "null")][..]),
        ("container/bridge", json!(80), &[("portMappings", "80")]),
        ("container", json!("x"), &[("portMappings", "\"x\"")]),
        ("container/bridge", json!({ "labels": "x" }), &[("labels", "\"x\"")]),
        ("container/bridge", json!({ "labels": 5 }), &[("labels", "5")]),
        ("container", json!({ "containerPort": 80, "labels": [] }), &[("labels", "[]")]),
        ("container/bridge", json!({ "containerPort": "x" }), &[("containerPort", "\"x\"")]),
        (
            "container",
            json!({ "containerPort": "x", "labels": { "VIP_0": "a:1" } }),
            &[("VIP_0", "a:1"), ("containerPort", "\"x\"")],
        ),
        ("container/bridge", json!({ "hostPort": -1 }), &[("hostPort", "-1")]),
        ("container", json!({ "containerPort": 70000 }), &[("containerPort", "70000")]),
        ("container/bridge", json!({ "protocol": 6, "labels": { "VIP_0": "a:1" } }), &[("VIP_0", "a:1")]),
        ("container", json!({ "containerPort": 80, "networkNames": "dcos" }), &[("networkNames", "\"dcos\"")]),
        ("container/bridge", json!({ "containerPort": 80, "labels": null }), &[]),
    ] {
        let got = listed(mode, mapping.clone());
        let got: Vec<(&str, &str)> = got.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
        assert_eq!(got, expected, "{mapping}");
    }
}

#[test]
fn odd_definitions_and_discovery_ports_are_listed_and_keep_their_place() {
    let case = Case::of(json!([
        { "id": "/host", "networks": [{ "mode": "host" }],
          "portDefinitions": [null, { "labels": { "VIP_0": "172.16.0.1:80" } }],
          "tasks": [{ "id": "host.1", "host": "10.0.0.11", "state": "TASK_RUNNING", "ports": [31000, 31001] }] },
        { "id": "/old", "ports": [10000, 10001], "tasks": [] },
        { "id": "/ip", "ipAddress": { "discovery": { "ports": [7, { "number": "x" }] } }, "tasks": [] }]));
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["10.0.0.11:31001*1"]);
    let listed: Vec<(&str, &str)> = report.rejected.iter().map(|r| (r.task.as_str(), r.label.as_str())).collect();
    assert_eq!(listed, [("/host", "portDefinitions"), ("/ip", "discovery.ports"), ("/ip", "number")]);
}

#[test]
fn odd_parts_of_a_pod_are_listed_and_its_good_endpoints_serve() {
    let pod = json!({ "id": "/pod", "spec": { "labels": 5, "networks": [{ "mode": "container", "name": "dcos" }],
        "containers": [{ "name": "c0", "endpoints": 7 }, { "name": "c1", "endpoints": [null,
            { "name": "odd", "containerPort": "x", "protocol": "tcp", "labels": [] },
            { "name": "web", "containerPort": 8080, "labels": { "VIP_0": "172.16.0.1:80" } }] }] },
        "instances": [{ "id": "pod.instance-1", "agentHostname": "10.0.0.15", "networks": [{ "addresses": ["9.0.5.2"] }],
            "containers": [{ "name": "c1", "status": "TASK_RUNNING", "endpoints": [] }] }] });
    let bodies = (json!({ "apps": [] }).to_string(), json!([pod]).to_string());
    let answers = Answers { apps: bodies.0.as_bytes(), pods: Some(bodies.1.as_bytes()), ..Answers::default() };
    let mut case = Case::of(json!([]));
    case.view.apply(Event::Marathon { source: 0, listing: listing(answers).unwrap() });
    let (desired, report) = case.run();
    assert_eq!(backends(service(&desired, "172.16.0.1:80/tcp")), ["9.0.5.2:8080*1"]);
    let listed: Vec<(&str, &str)> = report.rejected.iter().map(|r| (r.label.as_str(), r.value.as_str())).collect();
    let expected = [
        ("containerPort", "\"x\""),
        ("endpoints", "7"),
        ("endpoints", "null"),
        ("labels", "5"),
        ("labels", "[]"),
        ("protocol", "\"tcp\""),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn a_label_that_is_none_of_sluices_is_listed_wherever_it_stands_and_says_what_was_meant() {
    let mut app = bridge(
        "/web",
        json!({ "VIP_0": "172.16.0.1:80", "SLUICE_WIEGHT": "3", "SLUICE_GROUPS": "club", "SLUICED": "x" }),
        2,
    );
    app["labels"] = json!({ "SLUICE_COLOUR": "red", "sluice_mode": "nat", "SLUICE_WEIGHT": "7", "HAPROXY_GROUP": "x" });
    app["networks"][0]["labels"] =
        json!({ "SLUICE_GROUP": "a", "SLUICE_GROUPS": "b", "SLUICE_MODE": "nat", "owner": "c" });
    let case = Case::of(json!([app]));
    let (desired, report) = case.run();
    let web = service(&desired, "172.16.0.1:80/tcp");
    assert_eq!(backends(web), ["10.0.0.11:31000*7", "10.0.0.12:31001*7"]);
    assert_eq!(web.backends[0].groups, ["b"]);
    let listed: Vec<String> =
        report.rejected.iter().map(|r| format!("{} {}={}: {}", r.task, r.label, r.value, r.reason)).collect();
    let known = "SLUICE_WEIGHT, SLUICE_MODE, SLUICE_ALLOW_GROUPS, SLUICE_HEALTH, SLUICE_GROUPS";
    assert_eq!(
        listed,
        [
            format!("/web SLUICE_COLOUR=red: no label of Sluice's: there are {known}"),
            "/web SLUICE_GROUP=a: no label of Sluice's: did you mean SLUICE_GROUPS?".to_owned(),
            "/web SLUICE_GROUPS=club: groups are a network's or the app's: put it into networks[].labels or the app's labels"
                .to_owned(),
            "/web SLUICE_MODE=nat: of a network only SLUICE_GROUPS is read: put it on the port or the app".to_owned(),
            "/web SLUICE_WIEGHT=3: no label of Sluice's: did you mean SLUICE_WEIGHT?".to_owned(),
            "/web sluice_mode=nat: no label of Sluice's: did you mean SLUICE_MODE?".to_owned(),
        ]
    );
}

#[test]
fn a_pods_unknown_labels_are_listed_too() {
    let pod = json!({ "id": "/pod", "spec": { "labels": { "SLUICE_MODEE": "nat" },
        "networks": [{ "mode": "container", "name": "dcos", "labels": { "SLUICE_WEIGHT": "1" } }],
        "containers": [{ "name": "c", "endpoints": [
            { "name": "web", "containerPort": 80, "labels": { "VIP_0": "[::1:80", "SLUICE_GROUPS": "x" } }] }] },
        "instances": [] });
    let body = json!({ "apps": [] }).to_string();
    let pods = json!([pod]).to_string();
    let answers = Answers { apps: body.as_bytes(), pods: Some(pods.as_bytes()), ..Answers::default() };
    let listing = listing(answers).unwrap();
    let mut case = Case::of(json!([]));
    case.view.apply(Event::Marathon { source: 0, listing });
    let labels: Vec<(String, String)> = case.run().1.rejected.into_iter().map(|r| (r.label, r.value)).collect();
    let labels: Vec<(&str, &str)> = labels.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(labels, [("SLUICE_GROUPS", "x"), ("SLUICE_MODEE", "nat"), ("SLUICE_WEIGHT", "1"), ("VIP_0", "[::1:80")]);
}
