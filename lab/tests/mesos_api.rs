//! The Mesos master over an emulated Marathon on the loopback address: its three ways of saying what runs agree.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "every test file uses its own part of the support")]
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::http::request;
use sluice_lab::marathon::Dialect;
use sluice_lab::mesos::{Master, Settings};
use support::{Bench, eventually, web};

struct Mesos {
    address: SocketAddr,
    running: Option<(Master, tokio::runtime::Runtime)>,
}

impl Mesos {
    fn start(marathon: &Bench, leader: Option<SocketAddr>, reregister: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let settings = Settings {
            marathons: vec![marathon.address],
            leader,
            reregister,
            heartbeat: Duration::from_millis(200),
            lab: None,
        };
        let master = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            Master::start(listener, settings).unwrap()
        });
        Self { address: master.address(), running: Some((master, runtime)) }
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&request("GET", self.address, path, "").unwrap().body).unwrap()
    }

    fn call(&self, kind: &str) -> Value {
        let answer = request("POST", self.address, "/api/v1", &json!({ "type": kind }).to_string()).unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }

    fn subscribe(&self) -> Records {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let body = r#"{"type":"SUBSCRIBE"}"#;
        let head = "POST /api/v1 HTTP/1.0\r\nHost: x\r\nContent-Type: application/json";
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Records { lines }
    }
}

impl Drop for Mesos {
    fn drop(&mut self) {
        if let Some((master, runtime)) = self.running.take() {
            drop(master);
            runtime.shutdown_background();
        }
    }
}

/// RecordIO, read as it comes (HTTP 1.0: no chunks).
struct Records {
    lines: BufReader<TcpStream>,
}

impl Records {
    fn next(&mut self) -> Value {
        let mut length = String::new();
        self.lines.read_line(&mut length).unwrap();
        let mut record = vec![0; length.trim().parse().unwrap()];
        self.lines.read_exact(&mut record).unwrap();
        serde_json::from_slice(&record).unwrap()
    }

    /// Records up to and including the first that is wanted; heartbeats go on whatever happens.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let began = Instant::now();
        let mut seen = Vec::new();
        while began.elapsed() < Duration::from_secs(20) {
            seen.push(self.next());
            if seen.last().is_some_and(&wanted) {
                return seen;
            }
        }
        panic!("never came; these did: {seen:#?}");
    }
}

#[test]
fn state_operator_api_and_stream_tell_of_the_same_tasks() {
    let bench = Bench::start(Dialect::V1_9);
    let mesos = Mesos::start(&bench, None, Duration::ZERO);
    let mut records = mesos.subscribe();
    assert_eq!(records.next()["type"], "SUBSCRIBED");
    bench.send("POST", "/v2/apps", &web("/group/web", 1));
    let task = bench.running("/group/web", 1)[0].clone();
    let runs =
        |r: &Value| [&r["task_added"]["task"]["state"], &r["task_updated"]["state"]].contains(&&json!("TASK_RUNNING"));
    let told = records.until(runs);
    let added = &told.iter().rfind(|r| r["type"] == "TASK_ADDED").unwrap()["task_added"]["task"];
    assert_eq!((&added["name"], &added["discovery"]["name"]), (&json!("web.group"), &json!("web.group")));
    records.until(|r| r["type"] == "HEARTBEAT");
    let state = eventually("the task in /state", || {
        let task = mesos.get("/state")["frameworks"][0]["tasks"][0].clone();
        (task["state"] == "TASK_RUNNING").then_some(task)
    });
    assert_eq!(state["id"], task["id"]);
    assert_eq!(state["resources"]["ports"], format!("[{0}-{0}]", task["ports"][0]));
    let port = &state["discovery"]["ports"]["ports"][0];
    assert_eq!((&port["number"], &port["labels"]["labels"][0]["value"]), (&task["ports"][0], &json!("/web:80")));
    assert_eq!(mesos.get("/master/state")["leader"], format!("master@{}", mesos.address));
    let operator = mesos.call("GET_STATE")["get_state"]["get_tasks"]["tasks"][0].clone();
    assert_eq!((&operator["task_id"]["value"], &operator["statuses"]), (&task["id"], &state["statuses"]));
    let info = bench.get("/v2/info")["frameworkId"].clone();
    assert_eq!(operator["framework_id"]["value"], info);
    bench.send("DELETE", "/v2/apps/group/web", &Value::Null);
    let ended = records.until(|r| r["task_updated"]["state"] == "TASK_KILLED").pop().unwrap();
    assert_eq!(ended["task_updated"]["status"]["task_id"]["value"], task["id"]);
}

#[test]
fn a_master_that_has_just_begun_waits_for_its_agents_and_a_standby_leads_to_it() {
    let bench = Bench::start(Dialect::V1_3);
    bench.send("POST", "/v2/apps", &web("/web", 1));
    bench.running("/web", 1);
    let mesos = Mesos::start(&bench, None, Duration::from_secs(2));
    eventually("the agent of its registry", || {
        mesos.call("GET_STATE")["get_state"]["get_agents"]["recovered_agents"][0].is_object().then_some(())
    });
    assert_eq!(mesos.get("/state")["slaves"], json!([]));
    assert_eq!(mesos.get("/state")["frameworks"][0]["tasks"], json!([]));
    eventually("the agent itself", || mesos.get("/state")["frameworks"][0]["tasks"][0].is_object().then_some(()));
    assert_eq!(mesos.get("/state")["recovered_slaves"], json!([]));
    let standby = Mesos::start(&bench, Some(mesos.address), Duration::ZERO);
    assert_eq!(request("GET", standby.address, "/state", "").unwrap().status, 307);
    let id = |master: &Mesos| master.call("GET_MASTER")["get_master"]["master_info"]["id"].as_str().unwrap().to_owned();
    let again = Mesos::start(&bench, None, Duration::ZERO);
    assert_ne!(id(&mesos), id(&again), "each that begins to lead has an id of its own");
}
