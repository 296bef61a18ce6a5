//! Tests of names and of the overlay without VIPs.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use sluice_lab::topology::Member;

use super::apps::{App, CONTAINER_PORT, HostPort};
use super::cluster::{AGENTS, Cluster, From, SLUICE, eventually, in_parallel};
use super::rows::{By, KINDS, Kind, Net};
use super::table::Seen;
use super::vips;

/// Those of DC/OS's tests that are asked here, beside those of service discovery and of the admin router.
pub(crate) const TESTS: &[&str] = &["_service_discovery_test", "test_if_overlay_ok", "test_ip_per_container"];

/// Container, network, and whose address `autoip`, `agentip` and `containerip` are.
const DISCOVERED: [(Kind, &str, [&str; 3]); 6] = [
    (Kind::Mesos, "host", ["agent", "agent", "agent"]),
    (Kind::Docker, "host", ["agent", "agent", "agent"]),
    (Kind::Docker, "bridge", ["agent", "agent", "container"]),
    (Kind::Docker, "user", ["container", "agent", "container"]),
    (Kind::Mesos, "user", ["container", "agent", "container"]),
    (Kind::Docker, "user + hostPort", ["agent", "agent", "container"]),
];

/// Network, host port, and the agent where that is free.
const ROUTED: [(&str, u16, &str); 6] = [
    ("host", 9999, AGENTS[0]),
    ("container", 9999, AGENTS[1]),
    ("container/bridge", 9999, AGENTS[2]),
    ("host", 0, AGENTS[2]),
    ("container", 0, AGENTS[2]),
    ("container/bridge", 0, AGENTS[2]),
];

/// As the recorded matrix writes its rows.
pub(crate) fn service_discovery() -> impl Iterator<Item = [String; 5]> {
    DISCOVERED.iter().map(|(kind, net, [auto, agent, container])| {
        [&kind.word().to_uppercase(), *net, *auto, *agent, *container].map(str::to_owned)
    })
}

/// The same of the admin router's.
pub(crate) fn admin_router() -> impl Iterator<Item = (&'static str, u64)> {
    ROUTED.iter().map(|(net, port, _)| (*net, u64::from(*port)))
}

fn discovered(n: usize) -> App {
    let (kind, net, _) = DISCOVERED[n];
    let (net, host_port) = match net {
        "host" => (Net::Host, HostPort::AsUsual),
        "bridge" => (Net::Bridge, HostPort::AsUsual),
        "user" => (Net::User, HostPort::AsUsual),
        _ => (Net::User, HostPort::Any),
    };
    App { host_port, ..App::new(format!("discovered-{n}"), kind, net).on(AGENTS[2]) }
}

fn routed(n: usize) -> App {
    let (net, port, agent) = ROUTED[n];
    let net = match net {
        "host" => Net::Host,
        "container" => Net::User,
        _ => Net::Bridge,
    };
    let host_port = if port == 0 { HostPort::Any } else { HostPort::Fixed(port) };
    App { host_port, ..App::new(format!("routed-{n}"), Kind::Mesos, net).on(agent) }
}

fn pair() -> App {
    App { instances: 2, ..App::new("pair", Kind::Mesos, Net::Host) }
}

pub(crate) fn apps() -> Vec<App> {
    let discovered = (0..DISCOVERED.len()).map(discovered);
    discovered.chain((0..ROUTED.len()).map(routed)).chain([pair()]).collect()
}

pub(crate) fn ask(cluster: &Cluster, seen: &mut Seen) {
    let rows: Vec<usize> = (0..DISCOVERED.len()).collect();
    let results = in_parallel(&rows, |n| addresses(cluster, *n)).concat();
    seen.line(
        "service discovery",
        "`autoip`, `agentip` and `containerip` of MESOS and DOCKER tasks on host, bridge and user, as DC/OS has them",
        results,
    );
    seen.line(
        "_service_discovery_test",
        "`/v1/services/_pair._tcp.marathon.mesos` is Marathon's (host, first port) of both tasks",
        vec![services(cluster)],
    );
    let routed = (0..ROUTED.len()).flat_map(|n| route(cluster, n)).collect();
    seen.line(
        "admin router",
        "the master reaches tasks on host, user and bridge, host port 9999 or any: where Marathon says, and where their SRV record does",
        routed,
    );
    seen.line(
        "test_if_overlay_ok",
        "`/overlay-agent/overlay` of the master and of every agent is `STATUS_OK`, and the kernel there has that VTEP",
        overlay(cluster),
    );
    let reached = KINDS.map(|kind| {
        let to = cluster.task(&vips::origin(kind, Net::User, By::Name));
        let from = cluster.task(&vips::client(kind, Net::User, false));
        cluster.is_answered_by(&to, From::Task(&from), &format!("{}:{CONTAINER_PORT}", to.addresses[0]))
    });
    seen.line(
        "test_ip_per_container",
        "a container on one agent reaches one on another by its overlay address, of each kind",
        reached.to_vec(),
    );
}

fn addresses(cluster: &Cluster, n: usize) -> Vec<Result<(), String>> {
    let app = discovered(n);
    let task = cluster.task(&app);
    let check = |(zone, whose): (&str, &str)| {
        let wanted = if whose == "agent" { task.host.clone() } else { task.addresses[0].to_string() };
        let name = format!("{}.marathon.{zone}.dcos.thisdcos.directory", app.name);
        let words = ["dig", "+short", "+time=3", "+tries=2", &format!("@{SLUICE}"), &name, "A"];
        eventually(|| match cluster.run(From::Role("client"), &words) {
            Ok(said) if said == wanted => Ok(()),
            other => Err(format!("{name}: {other:?}, not {wanted}")),
        })
    };
    ["autoip", "agentip", "containerip"].into_iter().zip(DISCOVERED[n].2).map(check).collect()
}

/// Addresses and ports of an app's SRV records.
fn srv(cluster: &Cluster, app: &App) -> BTreeSet<(String, u16)> {
    let all = cluster.sluice(&format!("/v1/services/_{}._tcp.marathon.mesos", app.name));
    let one = |row: &Value| Some((row["ip"].as_str()?.to_owned(), row["port"].as_str()?.parse().ok()?));
    all.as_array().into_iter().flatten().filter_map(one).collect()
}

fn services(cluster: &Cluster) -> Result<(), String> {
    let wanted: BTreeSet<(String, u16)> =
        cluster.tasks(&pair()).into_iter().map(|task| (task.host, task.ports[0])).collect();
    eventually(|| {
        let told = srv(cluster, &pair());
        if told == wanted { Ok(()) } else { Err(format!("{told:?}, not {wanted:?}")) }
    })
}

fn route(cluster: &Cluster, n: usize) -> Vec<Result<(), String>> {
    let app = routed(n);
    let task = cluster.task(&app);
    let asked = |to: String| cluster.is_answered_by(&task, From::Role("master"), &to);
    let mut results = vec![asked(format!("{}:{}", task.host, task.ports[0]))];
    let told = eventually(|| srv(cluster, &app).pop_first().ok_or_else(|| format!("no SRV record of {}", app.name)));
    results.push(told.and_then(|(ip, port)| asked(format!("{ip}:{port}"))));
    if app.net == Net::User {
        results.push(asked(format!("{}:{CONTAINER_PORT}", task.addresses[0])));
    }
    results
}

/// What the overlay module says on each node, and what the node's kernel has.
fn overlay(cluster: &Cluster) -> Vec<Result<(), String>> {
    let nodes = cluster.lab.topology().members();
    let with_module = nodes.iter().filter(|node| node.name != "sluice");
    let check = |node: &Member| {
        let port = if node.name == "master" { 5050 } else { 5051 };
        let to = SocketAddr::from((node.address, port));
        let answer = cluster.lab.http("client", "GET", to, "/overlay-agent/overlay", "");
        let told: Value = serde_json::from_str(&answer.map_err(|error| error.to_string())?.body).unwrap_or_default();
        let overlays = told["overlays"].as_array().filter(|all| !all.is_empty());
        for overlay in overlays.ok_or_else(|| format!("{}: {told}", node.name))? {
            let vxlan = &overlay["backend"]["vxlan"];
            let device = vxlan["vtep_name"].as_str().unwrap_or_default();
            let kernel = cluster.run(From::Role(&node.name), &["ip", "addr", "show", "dev", device])?;
            let has = |field: &str| vxlan[field].as_str().is_some_and(|value| kernel.contains(value));
            if overlay["state"]["status"] != "STATUS_OK" || !has("vtep_ip") || !has("vtep_mac") {
                return Err(format!("{}: {overlay} but {kernel}", node.name));
            }
        }
        Ok(())
    };
    with_module.map(check).collect()
}
