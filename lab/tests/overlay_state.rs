//! Where agents are in the overlay Sluice learns of Mesos's overlay module: containers are reached without an agent in the
//! file, also once Mesos is gone. Needs root, and the binary `sluice` beside `sluice-lab`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::http::get_unix;
use sluice_lab::marathon::Dialect;
use sluice_lab::{Lab, Options, Topology};

const OWN: &str = env!("CARGO_BIN_EXE_sluice-lab");

/// `None`, with a sentence, where the workspace is not built.
fn sluice() -> Option<PathBuf> {
    let program = Path::new(OWN).with_file_name("sluice");
    if !program.is_file() {
        println!("skipped: {} is not built (`cargo build --workspace`)", program.display());
    }
    program.is_file().then_some(program)
}

fn show(lab: &Lab, what: &str) -> Value {
    let answer = get_unix(&lab.sluice_socket(), &format!("/v1/show/{what}")).unwrap();
    serde_json::from_str(&answer.body).unwrap()
}

fn overlay(lab: &Lab) -> Value {
    show(lab, "sources").as_array().unwrap().iter().find(|s| s["kind"] == "overlay").unwrap().clone()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Tasks that answered eight requests to the VIP.
fn reached(lab: &Lab) -> usize {
    let to = "172.16.0.8:80".parse().unwrap();
    let body = |_| lab.http("client", "GET", to, "/", "").ok().map(|answer| answer.body);
    let task = |body: String| body.lines().find_map(|line| Some(line.strip_prefix("task ")?.to_owned()));
    let mut tasks: Vec<String> = (0..8).filter_map(body).filter_map(task).collect();
    tasks.sort();
    tasks.dedup();
    tasks.len()
}

#[test]
fn agents_are_known_by_mesos_alone_and_stay_when_it_is_gone() {
    let Some(sluice) = sluice() else { return };
    let lab = Lab::up(&Topology::built_in().unwrap(), &Options::default()).unwrap();
    let mut sources = lab.start_marathons_by(Path::new(OWN), Dialect::V1_9).unwrap();
    let mut mesos = sources.pop().unwrap();
    // Of the master the file says something else.
    let wrong = "\n[[overlay.agent]]\nip = \"10.0.0.5\"\nvtep_ip = \"44.128.0.5\"\nvtep_mac = \"70:b3:d5:00:00:01\"\n";
    let config = std::fs::read_to_string(lab.sluice_config()).unwrap();
    let config = config.replace("[mesos]\n", "[mesos]\nrefresh_seconds = 1\n") + wrong;
    std::fs::write(lab.sluice_config(), config).unwrap();
    let mut running = lab.start_sluice(&sluice).unwrap();
    assert_eq!(overlay(&lab)["connected"], true, "a node that is ready has asked: {}", overlay(&lab));
    let rejected = show(&lab, "labels")["rejected"].clone();
    let said = rejected.as_array().unwrap().iter().find(|r| r["label"] == "overlay agent").unwrap();
    assert!(said["reason"].as_str().unwrap().contains("70:b3:d5:00:00:01"), "{said}");

    let app = json!({
        "id": "/api", "instances": 2, "cpus": 0.1, "mem": 32, "container": {"type": "DOCKER", "docker": {"image": "x"},
            "portMappings": [{"containerPort": 8080, "labels": {"VIP_0": "172.16.0.8:80"}}]},
        "networks": [{"mode": "container", "name": "dcos"}],
    });
    let to = lab.marathon("marathon").unwrap();
    assert_eq!(lab.http("master", "POST", to, "/v2/apps", &app.to_string()).unwrap().status, 201);
    until("containers of both agents answer", || reached(&lab) == 2);

    mesos.kill().unwrap();
    mesos.wait().unwrap();
    until("the overlay module is missed", || overlay(&lab)["error"].is_string());
    assert_eq!(reached(&lab), 2, "what it said stays");
    let mut mesos = lab.start_mesos_by(Path::new(OWN), Duration::ZERO).unwrap();
    until("it is heard again", || overlay(&lab)["connected"] == true && overlay(&lab)["error"].is_null());
    assert_eq!(reached(&lab), 2);
    mesos.kill().unwrap();
    mesos.wait().unwrap();
    lab.down().unwrap();
    running.wait().unwrap();
}
