//! Groups as a client of Marathon finds them: made, shown, updated, scaled, rolled back, removed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "every test file uses its own part of the support")]
mod support;

use serde_json::{Value, json};
use sluice_lab::marathon::Dialect;
use support::{Bench, eventually};

fn app(id: &str, instances: usize) -> Value {
    json!({"id": id, "cmd": "sleep 60", "cpus": 0.1, "mem": 16, "instances": instances})
}

fn settled(bench: &Bench) {
    eventually("no deployment is left", || (bench.get("/v2/deployments") == json!([])).then_some(()));
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[test]
fn a_group_without_apps_is_made_shown_and_removed() {
    let bench = Bench::start(Dialect::V1_3);
    let mut events = bench.events("?event_type=deployment_success");
    let body = json!({"id": "/empty", "apps": [], "groups": [], "dependencies": ["/other"]});
    let (status, answer) = bench.send("POST", "/v2/groups", &body);
    assert_eq!(status, 201);
    assert_eq!(events.next().1["id"], answer["deploymentId"]);
    let shown = bench.get("/v2/groups/empty");
    let wanted = json!({"id": "/empty", "apps": [], "groups": [], "pods": [], "dependencies": ["/other"],
        "version": answer["version"]});
    assert_eq!(shown, wanted);
    assert_eq!(bench.send("POST", "/v2/groups", &body).0, 409);
    assert_eq!(bench.send("DELETE", "/v2/groups/empty", &Value::Null).0, 200);
    assert_eq!(bench.ask("GET", "/v2/groups/empty", &Value::Null).status, 404);
    assert_eq!(bench.send("DELETE", "/v2/groups/empty", &Value::Null).0, 404);
    assert_eq!(bench.get("/v2/groups")["groups"], json!([]));
}

#[test]
fn a_group_outlives_its_last_app() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &app("/outer/inner/app", 1));
    bench.running("/outer/inner/app", 1);
    settled(&bench);
    assert_eq!(bench.send("DELETE", "/v2/apps/outer/inner/app", &Value::Null).0, 200);
    settled(&bench);
    let group = bench.get("/v2/groups/outer");
    assert_eq!((ids(&group["groups"]), &group["groups"][0]["apps"]), (vec!["/outer/inner"], &json!([])));
    assert_eq!(bench.send("DELETE", "/v2/groups/outer", &Value::Null).0, 200);
    assert_eq!(bench.ask("GET", "/v2/groups/outer/inner", &Value::Null).status, 404);
}

#[test]
fn a_nested_group_is_one_deployment_and_relative_ids_are_below_their_group() {
    let bench = Bench::start(Dialect::V1_9);
    let body = json!({"id": "/g", "apps": [app("one", 1)], "dependencies": ["../db"], "groups": [
        {"id": "sub", "dependencies": ["/g/one"], "apps": [app("/g/sub/two", 1), app("three", 0)]}, {"id": "bare"}]});
    let (status, answer) = bench.send("POST", "/v2/groups", &body);
    assert_eq!(status, 201, "{answer}");
    let deployments = bench.get("/v2/deployments");
    // Nothing holds it up: on a fast machine it is over already.
    if let Some(deployment) = deployments.get(0) {
        assert_eq!(deployment["id"], answer["deploymentId"]);
        assert_eq!(deployment["affectedApps"], json!(["/g/one", "/g/sub/two", "/g/sub/three"]));
    }
    settled(&bench);
    assert_eq!((bench.tasks("/g/one").len(), bench.tasks("/g/sub/two").len()), (1, 1));
    let group = bench.get("/v2/groups/g");
    assert_eq!((&group["dependencies"], &group["version"]), (&json!(["/db"]), &answer["version"]));
    assert_eq!(ids(&group["groups"]), ["/g/bare", "/g/sub"]);
    assert_eq!(ids(&group["groups"][1]["apps"]), ["/g/sub/three", "/g/sub/two"]);
    assert_eq!(group["groups"][1]["dependencies"], json!(["/g/one"]));
}

#[test]
fn scale_by_scales_every_app_below_and_needs_a_group() {
    let bench = Bench::start(Dialect::V1_3);
    bench.send(
        "POST",
        "/v2/groups",
        &json!({"id": "/g", "apps": [app("a", 1)], "groups": [{"id": "s", "apps": [app("b", 2)]}]}),
    );
    settled(&bench);
    let (status, answer) = bench.send("PUT", "/v2/groups//g", &json!({"scaleBy": 1.5}));
    assert_eq!(status, 200, "{answer}");
    bench.running("/g/a", 2);
    bench.running("/g/s/b", 3);
    settled(&bench);
    let cases = [
        ("/v2/groups/absent", json!({"scaleBy": 2}), 404),
        ("/v2/groups/g", json!({"scaleBy": -1}), 422),
        ("/v2/groups/g", json!({"scaleBy": "two"}), 400),
        ("/v2/groups/g", json!({"scaleBy": 2, "apps": []}), 422),
    ];
    for (path, body, status) in cases {
        assert_eq!(bench.send("PUT", path, &body).0, status, "{path} {body}");
    }
}

#[test]
fn a_list_in_an_update_is_complete_and_one_that_is_left_out_stays() {
    let bench = Bench::start(Dialect::V1_9);
    let body = json!({"id": "/g", "apps": [app("a", 1), app("b", 0)], "groups": [{"id": "s", "apps": [app("c", 0)]}]});
    bench.send("POST", "/v2/groups", &body);
    settled(&bench);
    let task = bench.running("/g/a", 1).remove(0);
    let update = json!({"apps": [app("a", 1), app("d", 0)]});
    let (_, dry) = bench.send("PUT", "/v2/groups/g?dryRun=true", &update);
    let actions = json!([{"action": "StartApplication", "app": "/g/d"}, {"action": "StopApplication", "app": "/g/b"}]);
    assert_eq!(dry, json!({"steps": [{"actions": actions}]}));
    assert_eq!(ids(&bench.get("/v2/groups/g")["apps"]), ["/g/a", "/g/b"]);
    assert_eq!(bench.send("PUT", "/v2/groups/g", &update).0, 200);
    settled(&bench);
    let group = bench.get("/v2/groups/g");
    assert_eq!((ids(&group["apps"]), ids(&group["groups"])), (vec!["/g/a", "/g/d"], vec!["/g/s"]));
    assert_eq!(bench.tasks("/g/a")[0]["id"], task["id"], "an app that did not change keeps its tasks");
    assert_eq!(bench.send("PUT", "/v2/groups/g", &json!({"groups": []})).0, 200);
    settled(&bench);
    assert_eq!(bench.get("/v2/groups/g")["groups"], json!([]));
    assert_eq!(bench.ask("GET", "/v2/apps/g/s/c", &Value::Null).status, 404);
}

#[test]
fn a_group_goes_back_to_an_older_version() {
    let bench = Bench::start(Dialect::V1_9);
    let (_, first) = bench.send("POST", "/v2/groups", &json!({"id": "/g", "apps": [app("a", 0)]}));
    settled(&bench);
    bench.send("PUT", "/v2/groups/g", &json!({"apps": [app("b", 0)]}));
    settled(&bench);
    let versions = bench.get("/v2/groups/g/versions");
    assert_eq!((versions.as_array().unwrap().len(), &versions[1]), (2, &first["version"]));
    let then = bench.get(&format!("/v2/groups/g/versions/{}", first["version"].as_str().unwrap()));
    assert_eq!(ids(&then["apps"]), ["/g/a"]);
    let (status, answer) = bench.send("PUT", "/v2/groups/g", &json!({"version": first["version"]}));
    assert_eq!(status, 200, "{answer}");
    settled(&bench);
    assert_eq!(ids(&bench.get("/v2/groups/g")["apps"]), ["/g/a"]);
    assert_eq!(bench.send("PUT", "/v2/groups/g", &json!({"version": "2000-01-01T00:00:00.000Z"})).0, 422);
}

#[test]
fn a_group_that_is_being_deployed_is_locked_unless_forced() {
    let bench = Bench::start(Dialect::V1_3);
    let mut slow = app("slow", 1);
    slow["healthChecks"] = json!([{"protocol": "TCP", "port": 1, "gracePeriodSeconds": 600, "intervalSeconds": 1}]);
    bench.send("POST", "/v2/groups", &json!({"id": "/g", "apps": [slow, app("other", 0)]}));
    for path in ["/v2/groups/g", "/v2/apps/g/other"] {
        let (status, answer) = bench.send("DELETE", path, &Value::Null);
        assert_eq!((status, answer["deployments"].as_array().map(Vec::len)), (409, Some(1)), "{path}: {answer}");
    }
    assert_eq!(bench.send("DELETE", "/v2/groups/g?force=True", &Value::Null).0, 200);
    settled(&bench);
    assert_eq!(bench.get("/v2/apps")["apps"], json!([]));
}

#[test]
fn a_group_with_one_bad_app_changes_nothing_and_says_where() {
    let bench = Bench::start(Dialect::V1_9);
    let cases = [
        (json!({"id": "/g", "apps": [app("a", 0), {"id": "b", "cmd": "x", "mem": -1}]}), "/apps(1)/mem"),
        (
            json!({"id": "/g", "groups": [{"id": "s", "apps": [{"id": "b", "cmd": "x", "ports": [70_000]}]}]}),
            "/groups(0)/apps(0)/ports(0)",
        ),
        (json!({"id": "/g", "apps": [app("/elsewhere", 0)]}), "/apps(0)/id"),
        (json!({"id": "/g", "apps": [app("a", 0), app("a", 0)]}), "/apps(1)/id"),
        (json!({"id": "/g", "groups": [{"apps": []}]}), "/groups(0)/id"),
        (json!({"id": "/G"}), "/id"),
        (json!({"id": "/g", "apps": {}}), "/apps"),
        (json!({"id": "/g", "apps": [app("s", 0)], "groups": [{"id": "s"}]}), "/"),
    ];
    for (body, path) in cases {
        let (status, answer) = bench.send("POST", "/v2/groups", &body);
        assert_eq!((status, answer["details"][0]["path"].as_str()), (422, Some(path)), "{answer}");
    }
    assert_eq!(bench.get("/v2/groups")["groups"], json!([]));
}
