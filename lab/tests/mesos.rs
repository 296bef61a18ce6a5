//! The Mesos master is killed and another one begins, which knows no agent for seconds: no name and no backend goes, and
//! what changes meanwhile is followed. Needs root, and the binary `sluice` beside `sluice-lab`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::http::get_unix;
use sluice_lab::marathon::Dialect;
use sluice_lab::{Lab, Options, Topology};

const PATIENCE: Duration = Duration::from_secs(40);
const OWN: &str = env!("CARGO_BIN_EXE_sluice-lab");

/// `None`, with a sentence, where the workspace is not built.
fn sluice() -> Option<PathBuf> {
    let program = Path::new(OWN).with_file_name("sluice");
    if !program.is_file() {
        println!("skipped: {} is not built (`cargo build --workspace`)", program.display());
    }
    program.is_file().then_some(program)
}

struct World {
    lab: Lab,
}

impl World {
    fn marathon(&self, method: &str, path: &str, body: &Value) -> Value {
        let to = self.lab.marathon("marathon").unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.lab.http("master", method, to, path, &body).unwrap();
        assert!(answer.status < 300, "{method} {path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    fn show(&self, what: &str) -> Vec<Value> {
        let answer = get_unix(&self.lab.sluice_socket(), &format!("/v1/show/{what}")).unwrap();
        serde_json::from_str::<Value>(&answer.body).unwrap().as_array().unwrap().clone()
    }

    fn mesos(&self) -> Value {
        self.show("sources").into_iter().find(|s| s["kind"] == "mesos").unwrap()
    }

    /// Tasks of the VIP 172.16.0.7, sorted.
    fn backends(&self) -> Vec<String> {
        let backends = self.show("backends");
        let tasks = backends.iter().filter(|b| b["vip"] == "172.16.0.7:80/tcp" && b["state"] == "active");
        let mut tasks: Vec<String> = tasks.map(|b| b["task"].as_str().unwrap().to_owned()).collect();
        tasks.sort();
        tasks
    }

    /// Addresses of a name, asked on the wire from a client; empty for a name that is not there.
    fn addresses(&self, name: &str) -> Vec<String> {
        let words = ["dig", "+short", "+tries=1", "+time=2", "@198.51.100.1", name];
        let output = self.lab.exec("client", &words).unwrap();
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(found) = look() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("not within {PATIENCE:?}: {what}: {:?} {:?}", self.show("sources"), self.backends());
    }

    /// Nothing that was there is missing.
    fn nothing_is_lost(&self, tasks: &[String], when: &str) {
        let now = self.backends();
        assert!(tasks.iter().all(|task| now.contains(task)), "{when}: {now:?} of {tasks:?}, {:?}", self.mesos());
        assert!(!self.addresses("web.marathon.mesos").is_empty(), "{when}: {:?}", self.mesos());
        let answer = self.lab.http("client", "GET", "172.16.0.7:80".parse().unwrap(), "/", "");
        assert_eq!(answer.unwrap().status, 200, "{when}");
    }
}

fn app(instances: usize) -> Value {
    json!({
        "id": "/web", "instances": instances, "cpus": 0.1, "mem": 32,
        "container": {"type": "DOCKER", "docker": {"image": "x"},
            "portMappings": [{"containerPort": 80, "hostPort": 0, "labels": {"VIP_0": "172.16.0.7:80"}}]},
        "networks": [{"mode": "container/bridge"}],
    })
}

#[test]
fn a_change_of_master_flushes_nothing_and_what_changes_meanwhile_is_followed() {
    let Some(sluice) = sluice() else { return };
    let lab = Lab::up(&Topology::built_in().unwrap(), &Options::default()).unwrap();
    let mut sources = lab.start_marathons_by(Path::new(OWN), Dialect::V1_9).unwrap();
    let mut mesos = sources.pop().unwrap();
    let mut running = lab.start_sluice(&sluice).unwrap();
    let world = World { lab };
    world.marathon("POST", "/v2/apps", &app(4));
    let tasks = world.until("four backends", || Some(world.backends()).filter(|b| b.len() == 4));
    world.until("the name", || (!world.addresses("web.marathon.mesos").is_empty()).then_some(()));
    let source = world.mesos();
    assert_eq!((&source["connected"], &source["leader"]), (&json!(true), &json!("10.0.0.5:5050")), "{source}");

    mesos.kill().unwrap();
    mesos.wait().unwrap();
    let source = world.until("Mesos is missed", || Some(world.mesos()).filter(|m| m["connected"] == false));
    assert!(source["error"].is_string(), "{source}");
    for _ in 0..20 {
        world.nothing_is_lost(&tasks, "without a master");
    }
    // Marathon's word is the later one while Mesos is away.
    world.marathon("PUT", "/v2/apps/web", &app(5));
    let tasks = world.until("a fifth backend without Mesos", || Some(world.backends()).filter(|b| b.len() == 5));

    let mut mesos = world.lab.start_mesos_by(Path::new(OWN), Duration::from_secs(4)).unwrap();
    let source = world.until("the new master is heard", || Some(world.mesos()).filter(|m| m["connected"] == true));
    assert!(source["agents_waited_for"].as_u64().unwrap() > 0, "it knows no agent yet: {source}");
    world.until("all agents are back", || {
        world.nothing_is_lost(&tasks, "while agents register");
        (world.mesos()["agents_waited_for"] == 0).then_some(())
    });
    world.nothing_is_lost(&tasks, "after the change of master");
    world.marathon("PUT", "/v2/apps/web", &app(1));
    let last = world.until("one backend", || Some(world.backends()).filter(|b| b.len() == 1));
    assert!(tasks.contains(&last[0]));
    let metrics = world.lab.http("sluice", "GET", "10.0.0.9:8123".parse().unwrap(), "/metrics", "").unwrap().body;
    let held = metrics.lines().find(|l| l.starts_with("sluice_mesos_failovers_held_total")).unwrap();
    assert!(held.ends_with(" 1"), "{held}");
    mesos.kill().unwrap();
    mesos.wait().unwrap();
    world.lab.down().unwrap();
    running.wait().unwrap();
}
