//! The other tests of VIPs: a host port in the way, a VIP of five apps, UDP.

use std::collections::BTreeSet;

use super::apps::{App, HostPort};
use super::cluster::{AGENTS, Cluster, From, eventually, in_parallel};
use super::rows::{Kind, NETS, Net};
use super::table::Seen;
use super::vips;

/// Those of DC/OS's tests that are asked here.
pub(crate) const TESTS: &[&str] = &["test_vip_port_mapping", "test_l4lb"];

const IN_THE_WAY: [(Kind, u16); 3] = [(Kind::Docker, 9091), (Kind::Mesos, 9092), (Kind::None, 9093)];
const SHARED_VIP: &str = "l4lbtest.marathon.l4lb.thisdcos.directory:5000";
const SHARERS: usize = 5;
/// So many requests miss one of five backends with a chance of 1 in 10^38.
const MOST_REQUESTS: usize = 400;
const UDP_VIP: &str = "198.51.100.200:5353";

fn mapped(kind: Kind, port: u16) -> App {
    App::new(format!("mapped-{}", kind.word()), kind, Net::Host)
        .on(AGENTS[0])
        .vip(&format!("/mapped-{}:{port}", kind.word()))
}

/// On the client's agent, with the VIP's port as its host port.
fn in_the_way(kind: Kind, port: u16) -> App {
    let app = App::new(format!("in-the-way-{}", kind.word()), kind, Net::Bridge).on(AGENTS[1]);
    App { host_port: HostPort::Fixed(port), ..app }
}

fn sharer(n: usize) -> App {
    App::new(format!("app-{n}"), Kind::None, Net::Host).vip("/l4lbtest:5000").vip(&format!("/app-{n}:80"))
}

fn echo() -> App {
    App { protocol: "udp,tcp", ..App::new("echo", Kind::Mesos, Net::User).on(AGENTS[0]).vip(UDP_VIP) }
}

pub(crate) fn apps() -> Vec<App> {
    let ways = IN_THE_WAY.iter().flat_map(|(kind, port)| [mapped(*kind, *port), in_the_way(*kind, *port)]);
    ways.chain((0..SHARERS).map(sharer)).chain([echo()]).collect()
}

pub(crate) fn ask(cluster: &Cluster, seen: &mut Seen) {
    port_mapping(cluster, seen);
    shared(cluster, seen);
    udp(cluster, seen);
}

fn port_mapping(cluster: &Cluster, seen: &mut Seen) {
    let named = |kind: Kind, port: u16| format!("mapped-{}.marathon.l4lb.thisdcos.directory:{port}", kind.word());
    cluster.await_vips(&IN_THE_WAY.map(|(kind, port)| named(kind, port)));
    let results = IN_THE_WAY.map(|(kind, port)| {
        let other = cluster.task(&in_the_way(kind, port));
        cluster.is_answered_by(&other, From::Role("client"), &format!("{}:{port}", AGENTS[1]))?;
        let client = cluster.task(&vips::client(kind, Net::Host, false));
        cluster.is_answered_by(&cluster.task(&mapped(kind, port)), From::Task(&client), &named(kind, port))
    });
    seen.line(
        "test_vip_port_mapping",
        "DOCKER, MESOS and NONE on host: the VIP's port is a bridge task's host port on the client's agent, and the VIP wins",
        results.to_vec(),
    );
}

fn shared(cluster: &Cluster, seen: &mut Seen) {
    let own: Vec<String> = (0..SHARERS).map(|n| format!("app-{n}.marathon.l4lb.thisdcos.directory:80")).collect();
    cluster.await_vips(&own);
    let listed = eventually(|| {
        let all = cluster.sluice("/v1/vips");
        let vip = all.as_array().and_then(|all| all.iter().find(|vip| vip["vip"] == SHARED_VIP)).cloned();
        let backends = vip.and_then(|vip| vip["backend"].as_array().cloned()).unwrap_or_default();
        let distinct: BTreeSet<String> = backends.iter().map(|b| format!("{}:{}", b["ip"], b["port"])).collect();
        if distinct.len() == SHARERS { Ok(()) } else { Err(format!("{backends:?}")) }
    });
    seen.line("test_l4lb", "five backends of one VIP in `/v1/vips`", vec![listed]);
    let tasks: Vec<_> = (0..SHARERS).map(|n| cluster.task(&sharer(n))).collect();
    let each = tasks.iter().zip(&own).map(|(task, vip)| cluster.is_answered_by(task, From::Role("agent1"), vip));
    seen.line("test_l4lb", "each app by a VIP of its own beside the shared one", each.collect());
    let wanted: BTreeSet<String> = tasks.into_iter().map(|task| task.id).collect();
    let mut answered = BTreeSet::new();
    let mut failed = Ok(());
    for _ in 0..MOST_REQUESTS {
        match cluster.answers(From::Role("agent1"), SHARED_VIP) {
            Ok(task) => drop(answered.insert(task)),
            Err(said) => failed = Err(said),
        }
        if answered == wanted || failed.is_err() {
            break;
        }
    }
    let all = if answered == wanted { Ok(()) } else { Err(format!("{answered:?} of {wanted:?} answer")) };
    seen.line("test_l4lb", "requests to the shared VIP reach all five", vec![failed.and(all)]);
}

fn udp(cluster: &Cluster, seen: &mut Seen) {
    cluster.await_vips(&[UDP_VIP.to_owned()]);
    let echoed = |from: From<'_>| cluster.is_echoed(from, &UDP_VIP.replace(':', "/"));
    let clients = NETS.into_iter().flat_map(|net| [true, false].map(|same| vips::client(Kind::Mesos, net, same)));
    let clients: Vec<_> = clients.map(|client| cluster.task(&client)).collect();
    let mut results = in_parallel(&clients, |client| echoed(From::Task(client)));
    results.push(echoed(From::Task(&cluster.task(&echo()))));
    results.push(echoed(From::Role("client")));
    seen.line(
        "UDP",
        "a UDP VIP of a task on the overlay, from clients as above, from itself and from outside",
        results,
    );
}
