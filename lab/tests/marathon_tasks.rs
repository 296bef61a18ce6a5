//! Tasks are real processes: they start, answer, are killed, restarted, checked, replaced.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "every test file uses its own part of the support")]
mod support;

use std::net::SocketAddr;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sluice_lab::http::request;
use sluice_lab::marathon::Dialect;
use support::{Bench, eventually, web};

fn address(task: &Value) -> SocketAddr {
    let port = task["ports"][0].as_u64().unwrap();
    format!("{}:{port}", task["host"].as_str().unwrap()).parse().unwrap()
}

fn answers(task: &Value) -> Option<String> {
    request("GET", address(task), "/", "").ok().map(|answer| answer.body)
}

#[test]
fn a_task_answers_on_its_host_port_under_its_own_id() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &web("/a/web", 2));
    for task in bench.running("/a/web", 2) {
        let body = eventually("the task answers", || answers(&task));
        assert!(body.contains(task["id"].as_str().unwrap()), "{body}");
    }
}

#[test]
fn a_task_echoes_udp_on_its_port() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &web("/web", 1));
    let task = bench.running("/web", 1).remove(0);
    eventually("the task answers", || answers(&task));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    socket.send_to(b"hello", address(&task)).unwrap();
    let mut back = [0; 16];
    let (length, _) = socket.recv_from(&mut back).unwrap();
    assert_eq!(&back[..length], b"hello");
}

#[test]
fn a_task_that_dies_has_failed_and_another_takes_its_place() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &web("/web", 1));
    let first = bench.running("/web", 1).remove(0);
    let id = first["id"].as_str().unwrap().to_owned();
    let mut events = bench.events("?event_type=status_update_event");
    kill(Pid::from_raw(bench.pid(&id)), Signal::SIGKILL).unwrap();
    let (_, failed) = events.next();
    assert_eq!((failed["taskStatus"].as_str(), failed["taskId"].as_str()), (Some("TASK_FAILED"), Some(id.as_str())));
    let second = eventually("another task", || {
        bench.tasks("/web").into_iter().find(|t| t["id"] != id.as_str() && t["state"] == "TASK_RUNNING")
    });
    eventually("the other answers", || answers(&second));
    let app = bench.get("/v2/apps/web?embed=app.lastTaskFailure");
    assert_eq!(app["app"]["lastTaskFailure"]["taskId"], id.as_str());
}

#[test]
fn a_killed_task_is_killing_first_and_answers_until_its_linger_is_over() {
    let bench = Bench::start(Dialect::V1_9);
    bench.send("POST", "/v2/apps", &web("/web", 1));
    let task = bench.running("/web", 1).remove(0);
    eventually("the task answers", || answers(&task));
    let mut events = bench.events("?event_type=status_update_event");
    let (status, _) = bench.send("PUT", "/v2/apps/web", &json!({"instances": 0}));
    assert_eq!(status, 200);
    assert_eq!(events.next().1["taskStatus"], "TASK_KILLING");
    let killing = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(answers(&task).is_some(), "a task that is being killed goes on answering");
    assert_eq!(events.next().1["taskStatus"], "TASK_KILLED");
    let took = killing.elapsed().as_secs_f64();
    assert!((2.9..6.0).contains(&took), "it lingered for {took} s");
    // Another test's task may have the port by now.
    assert!(answers(&task).is_none_or(|body| !body.contains(task["id"].as_str().unwrap())));
    assert!(bench.tasks("/web").is_empty());
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let bench = Bench::start(Dialect::V1_9);
    let app =
        json!({"id": "/stubborn", "cmd": "trap '' TERM; while :; do sleep 0.1; done", "taskKillGracePeriodSeconds": 1});
    bench.send("POST", "/v2/apps", &app);
    let task = bench.running("/stubborn", 1).remove(0);
    let pid = bench.pid(task["id"].as_str().unwrap());
    bench.send("DELETE", "/v2/apps/stubborn?force=true", &Value::Null);
    eventually("the process is gone", || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    eventually("the app is gone", || (bench.ask("GET", "/v2/apps/stubborn", &Value::Null).status == 404).then_some(()));
}

#[test]
fn commands_get_marathons_environment() {
    let bench = Bench::start(Dialect::V1_9);
    let app = json!({
        "id": "/env", "env": {"OWN": "yes"}, "portDefinitions": [{"port": 0, "name": "my-port"}, {"port": 0}],
        "cmd": "echo $OWN $PORT0 $PORT1 $PORT_MY_PORT $PORTS $HOST $MARATHON_APP_ID $MESOS_TASK_ID; sleep 60",
    });
    bench.send("POST", "/v2/apps", &app);
    let task = bench.running("/env", 1).remove(0);
    let id = task["id"].as_str().unwrap();
    let [p0, p1] = [0, 1].map(|i| task["ports"][i].as_u64().unwrap());
    let file = bench.state.file("tasks").join(id).join("stdout");
    let said = eventually("output", || std::fs::read_to_string(&file).ok().filter(|said| said.ends_with('\n')));
    assert_eq!(said, format!("yes {p0} {p1} {p0} {p0},{p1} 127.0.0.1 /env {id}\n"));
}

#[test]
fn a_task_that_fails_its_health_checks_is_killed_and_one_that_passes_is_healthy() {
    let bench = Bench::start(Dialect::V1_9);
    let check = |path: &str| {
        json!([{"protocol": "HTTP", "path": path, "portIndex": 0, "gracePeriodSeconds": 0,
        "intervalSeconds": 0.2, "timeoutSeconds": 1, "maxConsecutiveFailures": 3}])
    };
    let mut well = web("/well", 1);
    well["healthChecks"] = check("/health");
    bench.send("POST", "/v2/apps", &well);
    let result = eventually("a healthy task", || {
        let task = bench.tasks("/well").into_iter().next()?;
        task["healthCheckResults"][0]["alive"].as_bool().filter(|alive| *alive).map(|_| task)
    });
    assert!(result["healthCheckResults"][0]["firstSuccess"].is_string());
    assert_eq!(bench.get("/v2/apps/well")["app"]["tasksHealthy"], 1);

    let mut events = bench.events("?event_type=unhealthy_instance_kill_event&event_type=failed_health_check_event");
    let mut ill = web("/ill", 1);
    ill["healthChecks"] = check("/nothing-here");
    bench.send("POST", "/v2/apps", &ill);
    let seen = events.until("unhealthy_instance_kill_event");
    assert!(seen.len() >= 4, "three failures, then the kill: {seen:?}");
    assert_eq!(seen.last().unwrap().1["reason"], "404");
}

#[test]
fn a_restart_replaces_every_task_and_a_change_of_definition_too() {
    let bench = Bench::start(Dialect::V1_3);
    let app = json!({"id": "/r", "cmd": "sleep 60", "instances": 2});
    bench.send("POST", "/v2/apps", &app);
    let ids = |tasks: &[Value]| tasks.iter().map(|t| t["id"].to_string()).collect::<Vec<_>>();
    let first = ids(&bench.running("/r", 2));
    bench.send("PUT", "/v2/apps/r?force=true", &json!({"cmd": "sleep 61"}));
    let second = eventually("two new tasks", || {
        let now = ids(&bench.tasks("/r"));
        (now.len() == 2 && now.iter().all(|id| !first.contains(id))).then_some(now)
    });
    bench.send("POST", "/v2/apps/r/restart?force=true", &Value::Null);
    eventually("two newer tasks", || {
        let now = ids(&bench.tasks("/r"));
        (now.len() == 2 && now.iter().all(|id| !second.contains(id))).then_some(())
    });
}

#[test]
fn a_pod_runs_one_process_per_container_and_shows_its_endpoints() {
    let bench = Bench::start(Dialect::V1_9);
    let pod = json!({
        "id": "/podapp", "networks": [{"mode": "container", "name": "dcos"}],
        "containers": [
            {"name": "c1", "image": {"id": "x"}, "resources": {"cpus": 0.1, "mem": 32},
             "endpoints": [{"name": "web", "containerPort": 8080, "protocol": ["tcp"], "labels": {"VIP_0": "/pod:80"}}]},
            {"name": "c2", "exec": {"command": {"shell": "sleep 60"}}, "resources": {"cpus": 0.1, "mem": 32}},
        ],
    });
    let (status, _) = bench.send("POST", "/v2/pods", &pod);
    assert_eq!(status, 201);
    let shown = eventually("a stable pod", || {
        let all = bench.get("/v2/pods::status");
        (all[0]["status"] == "STABLE").then(|| all[0].clone())
    });
    let instance = &shown["instances"][0];
    let own = instance["networks"][0]["addresses"][0].as_str().unwrap();
    let to: SocketAddr = format!("{own}:8080").parse().unwrap();
    eventually("the container answers", || request("GET", to, "/", "").ok());
    assert_eq!(instance["containers"][1]["name"], "c2");
    assert_eq!(bench.get("/v2/pods/podapp::status")["id"], "/podapp");
    assert_eq!(bench.send("DELETE", "/v2/pods/podapp", &Value::Null).0, 202);
    eventually("no pod", || bench.get("/v2/pods").as_array().unwrap().is_empty().then_some(()));
}
