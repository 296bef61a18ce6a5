//! Labs of namespaces: made, joined by the kernel's own VXLAN, removed whatever happens. These tests need root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use sluice_lab::marathon::Dialect;
use sluice_lab::state::LabState;
use sluice_lab::{Lab, LabError, Options, Topology, node_config};

fn up() -> Lab {
    match Lab::up(&Topology::built_in().unwrap(), &Options::default()) {
        Ok(lab) => lab,
        Err(LabError::NotRoot) => panic!("this test makes network namespaces: run it as root"),
        Err(error) => panic!("{error}"),
    }
}

fn output(lab: &Lab, role: &str, words: &[&str]) -> String {
    let output = lab.exec(role, words).unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn nothing_left(id: &str) {
    let left: Vec<_> = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("slab-{id}-")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!Path::new(&format!("/tmp/sluice-lab-{id}")).exists());
}

#[test]
fn a_lab_is_removed_even_when_its_owner_panics() {
    let mut id = String::new();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lab = up();
        id = lab.state().id().to_owned();
        assert!(Path::new(&format!("/run/netns/slab-{id}-sluice")).exists());
        panic!("on purpose");
    }));
    assert!(panicked.is_err() && !id.is_empty());
    nothing_left(&id);
}

#[test]
fn ctrl_c_removes_the_lab() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_sluice-lab")).arg("up").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    // Kept until the end: whoever prints into a closed pipe fails.
    let mut printed = BufReader::new(owner.stdout.take().unwrap());
    printed.read_line(&mut line).unwrap();
    let id = line.split(' ').nth(1).unwrap_or_else(|| panic!("run it as root: {line:?}")).to_owned();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(owner.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(130));
    nothing_left(&id);
}

#[test]
fn down_removes_a_lab_whose_owner_was_killed_with_its_processes() {
    let program = env!("CARGO_BIN_EXE_sluice-lab");
    let mut owner = Command::new(program).arg("up").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    // Kept until the end: whoever prints into a closed pipe fails.
    let mut printed = BufReader::new(owner.stdout.take().unwrap());
    printed.read_line(&mut line).unwrap();
    let id = line.split(' ').nth(1).unwrap_or_else(|| panic!("run it as root: {line:?}")).to_owned();
    let state = LabState::open(&id).unwrap();
    let processes = std::fs::read_to_string(state.file("processes")).unwrap();
    let pid = processes.split(' ').next().unwrap().to_owned();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "Marathon outlives its killed owner");
    assert!(Command::new(program).args(["down", &id]).status().unwrap().success());
    nothing_left(&id);
    // Its parent was killed: whether anybody collects it is the machine's affair.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[test]
fn containers_of_two_agents_reach_each_other_by_the_kernels_vxlan_alone() {
    let lab = up();
    let before = vtep_packets(&lab);
    let said = output(&lab, "c1", &["ping", "-c", "3", "-i", "0.3", "-W", "2", "9.0.2.2"]);
    assert!(said.contains(" 0% packet loss") && said.contains("ttl=62"), "{said}");
    assert!(vtep_packets(&lab) >= before + 3);
    output(&lab, "master", &["ping", "-c", "1", "-W", "2", "9.0.2.2"]);
}

fn vtep_packets(lab: &Lab) -> u64 {
    output(lab, "agent1", &["cat", "/sys/class/net/vtep1024/statistics/tx_packets"]).trim().parse().unwrap()
}

#[test]
fn agents_know_sluice_by_the_same_kind_of_records_as_each_other() {
    let lab = up();
    let about = |vtep: &str, mac: &str, address: &str| {
        let neighbour = output(&lab, "agent1", &["ip", "neigh", "show", vtep]);
        let forwarding = output(&lab, "agent1", &["bridge", "fdb", "show", "dev", "vtep1024"]);
        let forwarding = forwarding.lines().find(|line| line.starts_with(mac)).unwrap_or_default().to_owned();
        let routes = output(&lab, "agent1", &["ip", "route", "show", "table", "all", "via", vtep, "table", "main"]);
        let host = output(&lab, "agent1", &["ip", "route", "show", "table", "42", "exact", address]);
        [neighbour, forwarding, routes, host]
            .map(|text| text.replace(vtep, "VTEP").replace(mac, "MAC").replace(address, "ADDRESS"))
    };
    let sluice = about("44.128.0.9", "70:b3:d5:80:00:09", "10.0.0.9").map(|text| text.replace("9.0.9.0", "SUBNET"));
    let agent = about("44.128.0.3", "70:b3:d5:80:00:03", "10.0.0.12").map(|text| text.replace("9.0.2.0", "SUBNET"));
    assert_eq!(sluice, agent);
    assert!(sluice.iter().all(|text| !text.trim().is_empty()), "{sluice:?}");
}

#[test]
fn only_sluices_veth_has_two_queues() {
    let lab = up();
    let queues = |role: &str, device: &str| {
        let text = output(&lab, role, &["ls", &format!("/sys/class/net/{device}/queues")]);
        text.lines().filter(|line| line.starts_with("rx-")).count()
    };
    assert_eq!([queues("sluice", "eth0"), queues("fabric", "sluice")], [2, 2]);
    for (role, device) in
        [("client", "eth0"), ("agent1", "eth0"), ("c1", "eth0"), ("fabric", "agent2"), ("agent2", "v-c2")]
    {
        assert_eq!(queues(role, device), 1, "{role} {device}");
    }
}

#[test]
fn the_configuration_that_is_written_for_sluice_is_one_that_it_accepts() {
    let state = LabState::create().unwrap();
    let text = node_config::render(&state, &Topology::built_in().unwrap());
    state.remove().unwrap();
    if let Err(errors) = sluice_config::parse(&text, "sluice.toml") {
        panic!("{errors}\n{text}");
    }
}

#[test]
fn tasks_run_on_agents_in_bridge_mode_and_on_the_overlay_and_are_reached_as_marathon_says() {
    let lab = up();
    lab.start_marathons_by(Path::new(env!("CARGO_BIN_EXE_sluice-lab")), Dialect::V1_3).unwrap();
    let to = lab.marathon("marathon").unwrap();
    let bridged = r#"{"id": "/bridged", "instances": 2, "container": {"type": "DOCKER", "docker": {"image": "x", "network": "BRIDGE",
        "portMappings": [{"containerPort": 80, "hostPort": 0}]}}}"#;
    let overlaid = r#"{"id": "/overlaid", "instances": 2, "container": {"type": "DOCKER", "docker": {"image": "x"}},
        "ipAddress": {"networkName": "dcos", "discovery": {"ports": [{"number": 80, "name": "a", "protocol": "tcp"}]}}}"#;
    for app in [bridged, overlaid] {
        assert_eq!(lab.http("master", "POST", to, "/v2/apps", app).unwrap().status, 201);
    }
    let tasks = eventually(|| {
        let answer = lab.http("master", "GET", to, "/v2/tasks?status=running", "").ok()?;
        let all: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        Some(all["tasks"].as_array()?.clone()).filter(|tasks| tasks.len() == 4)
    });
    for task in tasks {
        let (from, at) = match task["ports"][0].as_u64() {
            Some(port) => ("client", format!("{}:{port}", task["host"].as_str().unwrap())),
            None => ("c1", format!("{}:80", task["ipAddresses"][0]["ipAddress"].as_str().unwrap())),
        };
        let at = at.parse().unwrap();
        let body = eventually(|| lab.http(from, "GET", at, "/", "").ok()).body;
        assert!(body.contains(task["id"].as_str().unwrap()), "{at}: {body}");
    }
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("not within ten seconds");
}
