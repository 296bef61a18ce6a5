//! What the Python client of Marathon asks in its own way, and the calls beside apps and groups.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "every test file uses its own part of the support")]
mod support;

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};
use sluice_lab::marathon::Dialect;
use support::{Bench, eventually, web};

fn sleeper(id: &str, instances: usize) -> Value {
    json!({"id": id, "cmd": "sleep 60", "cpus": 0.1, "mem": 16, "instances": instances})
}

fn settled(bench: &Bench) {
    eventually("no deployment is left", || (bench.get("/v2/deployments") == json!([])).then_some(()));
}

/// GET of a path as plain text: the body.
fn text(bench: &Bench, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(bench.address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-type: text/plain"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn scale_and_force_are_understood_in_any_case() {
    let bench = Bench::start(Dialect::V1_3);
    bench.send("POST", "/v2/apps", &sleeper("/k", 5));
    bench.running("/k", 5);
    settled(&bench);
    let id = |at: usize| bench.tasks("/k")[at]["id"].clone();
    let two = json!({"ids": [id(0), id(1)]});
    let (status, answer) = bench.send("POST", "/v2/tasks/delete?scale=True&wipe=False", &two);
    assert_eq!((status, answer["deploymentId"].is_string()), (200, true), "{answer}");
    bench.running("/k", 3);
    settled(&bench);
    let path = format!("/v2/apps/k/tasks/{}?scale=TRUE", id(0).as_str().unwrap());
    assert_eq!(bench.send("DELETE", &path, &Value::Null).0, 200);
    bench.running("/k", 2);
    settled(&bench);
    let one = json!({"ids": [id(0)]});
    assert_eq!(bench.send("POST", "/v2/tasks/delete?scale=False", &one).1["tasks"][0]["id"], one["ids"][0]);
    eventually("another task in its place", || {
        (bench.tasks("/k").iter().all(|t| t["id"] != one["ids"][0])).then_some(())
    });
    bench.running("/k", 2);
    assert_eq!(bench.get("/v2/apps/k")["app"]["instances"], 2);
    bench.send("PUT", "/v2/apps/k", &json!({"cmd": "sleep 61"}));
    assert_eq!(bench.send("PUT", "/v2/apps/k?force=False", &json!({"cmd": "sleep 62"})).0, 409);
    assert_eq!(bench.send("PUT", "/v2/apps/k?force=True", &json!({"cmd": "sleep 62"})).0, 200);
}

#[test]
fn a_cancelled_deployment_goes_back_to_what_was_before_it() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &sleeper("/back", 1));
    bench.running("/back", 1);
    settled(&bench);
    let never =
        json!({"healthChecks": [{"protocol": "TCP", "port": 1, "gracePeriodSeconds": 600, "intervalSeconds": 1}]});
    let (_, change) = bench.send("PUT", "/v2/apps/back", &never);
    let path = format!("/v2/deployments/{}", change["deploymentId"].as_str().unwrap());
    assert_eq!(bench.send("DELETE", &path, &Value::Null).0, 200);
    settled(&bench);
    assert_eq!(bench.get("/v2/apps/back")["app"]["healthChecks"], json!([]));
    bench.running("/back", 1);
}

#[test]
fn abdication_ends_every_stream_of_events_and_leads_again() {
    let bench = Bench::start(Dialect::V1_9);
    let mut events = bench.events("?event_type=none");
    let (status, answer) = bench.send("DELETE", "/v2/leader", &Value::Null);
    assert_eq!((status, answer), (200, json!({"message": "Leadership abdicated"})));
    assert!(events.ended());
    assert_eq!(bench.get("/v2/leader")["leader"], bench.address.to_string());
    let mut again = bench.events("");
    assert_eq!(again.next().0, "event_stream_attached");
}

#[test]
fn callbacks_are_listed_by_1_3_and_unknown_to_1_9() {
    let old = Bench::start(Dialect::V1_3);
    assert_eq!(old.get("/v2/eventSubscriptions"), json!({"callbackUrls": []}));
    let (status, answer) = old.send("POST", "/v2/eventSubscriptions?callbackUrl=http://x/", &Value::Null);
    assert_eq!((status, answer["message"].is_string()), (400, true));
    let new = Bench::start(Dialect::V1_9);
    let (status, answer) = new.send("GET", "/v2/eventSubscriptions", &Value::Null);
    assert_eq!((status, answer["message"].is_string()), (404, true));
}

#[test]
fn tasks_as_text_are_a_line_for_each_service_port() {
    for dialect in [Dialect::V1_3, Dialect::V1_9] {
        let bench = Bench::start(dialect);
        bench.send("POST", "/v2/apps", &web("/a/web", 2));
        bench.send("POST", "/v2/apps", &json!({"id": "/b", "cmd": "sleep 60", "portDefinitions": [], "instances": 1}));
        bench.send(
            "POST",
            "/v2/apps",
            &json!({"id": "/c", "cmd": "sleep 60", "ports": [11_000, 11_001], "instances": 0}),
        );
        let tasks = bench.running("/a/web", 2);
        let host = bench.running("/b", 1)[0]["host"].as_str().unwrap().to_owned();
        let ends: Vec<String> =
            tasks.iter().map(|t| format!("{}:{}\t", t["host"].as_str().unwrap(), t["ports"][0])).collect();
        let port = &bench.get("/v2/apps/a/web")["app"]["portDefinitions"][0]["port"];
        let web = format!("a_web\t{port}\t{}\n", ends.concat());
        assert_eq!(text(&bench, "/v2/apps/a/web/tasks"), web);
        let wanted = format!("{web}b\t \t{host} \nc\t11000\t\nc\t11001\t\n");
        assert_eq!(text(&bench, "/v2/tasks"), wanted);
    }
}
