//! A rolling upgrade on real packets: as soon as a new task is healthy the old ones take no new flows, `show backends` says
//! why, and no request is lost. Needs root, and the binary `sluice` beside `sluice-lab`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::http::get_unix;
use sluice_lab::marathon::Dialect;
use sluice_lab::{Lab, Options, Topology};

/// Other labs that come and go beside it hold the kernel's lock of namespaces for seconds at a time.
const PATIENCE: Duration = Duration::from_secs(120);

/// `None`, with a sentence, where the workspace is not built.
fn sluice() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_sluice-lab")).with_file_name("sluice");
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

    fn backends(&self) -> Vec<Value> {
        let answer = get_unix(&self.lab.sluice_socket(), "/v1/show/backends").unwrap();
        serde_json::from_str::<Value>(&answer.body).unwrap().as_array().unwrap().clone()
    }

    fn request(&self) -> String {
        let answer = self.lab.http("client", "GET", "172.16.0.7:80".parse().unwrap(), "/", "").unwrap();
        answer.body.lines().find_map(|line| line.strip_prefix("task ")).unwrap().to_owned()
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(found) = look() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("not within {PATIENCE:?}: {what}: {:?}", self.backends());
    }
}

/// Four tasks; each new one takes a second to be healthy, and goes before one old one ends.
fn app(version: &str) -> Value {
    json!({
        "id": "/web", "instances": 4, "cpus": 0.1, "mem": 32, "env": {"VERSION": version},
        "container": {"type": "DOCKER", "docker": {"image": "x"},
            "portMappings": [{"containerPort": 80, "hostPort": 0, "labels": {"VIP_0": "172.16.0.7:80"}}]},
        "networks": [{"mode": "container/bridge"}],
        "healthChecks": [{"protocol": "HTTP", "path": "/health", "portIndex": 0, "gracePeriodSeconds": 10,
            "intervalSeconds": 1, "timeoutSeconds": 1, "maxConsecutiveFailures": 3, "delaySeconds": 1}],
        "readinessChecks": [{"name": "warm", "portName": "web"}],
        "upgradeStrategy": {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.25},
    })
}

fn active(backends: &[Value]) -> Vec<&str> {
    backends.iter().filter(|b| b["state"] == "active").map(|b| b["task"].as_str().unwrap()).collect()
}

fn is_replaced(backend: &Value) -> bool {
    let said = backend["judges"].as_array().into_iter().flatten();
    said.clone().any(|j| j["judge"] == "marathon" && j["reason"].as_str().unwrap().contains("older deployment"))
}

#[test]
fn old_tasks_drain_as_soon_as_a_new_one_is_healthy_and_no_request_is_lost() {
    let Some(sluice) = sluice() else { return };
    let lab = Lab::up(&Topology::built_in().unwrap(), &Options::default()).unwrap();
    lab.start_marathons_by(Path::new(env!("CARGO_BIN_EXE_sluice-lab")), Dialect::V1_9).unwrap();
    let mut running = lab.start_sluice(&sluice).unwrap();
    let world = World { lab };
    world.marathon("POST", "/v2/apps", &app("1"));
    let old: Vec<String> = world.until("four healthy tasks", || {
        let backends = world.backends();
        let active = active(&backends);
        (active.len() == 4).then(|| active.into_iter().map(str::to_owned).collect())
    });
    world.until("the first deployment is over", || {
        world.marathon("GET", "/v2/deployments", &Value::Null).as_array().unwrap().is_empty().then_some(())
    });
    world.marathon("PUT", "/v2/apps/web", &app("2"));
    let replaced = world.until("old tasks that are replaced and not killed yet", || {
        world.request();
        let backends = world.backends();
        let replaced: Vec<String> =
            backends.iter().filter(|b| is_replaced(b)).map(|b| b["task"].as_str().unwrap().to_owned()).collect();
        (!replaced.is_empty()).then_some(replaced)
    });
    assert!(replaced.iter().all(|task| old.contains(task)), "{replaced:?} {old:?}");
    for _ in 0..8 {
        let task = world.request();
        assert!(!old.contains(&task), "a new flow went to {task}, which is replaced");
    }
    world.until("four new tasks and nobody else", || {
        world.request();
        let backends = world.backends();
        let active = active(&backends);
        let new = active.len() == 4 && backends.len() == 4 && !active.iter().any(|t| old.iter().any(|o| o == t));
        new.then_some(())
    });
    assert!(!world.backends().iter().any(is_replaced));
    world.lab.down().unwrap();
    running.wait().unwrap();
}
