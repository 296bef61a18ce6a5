//! Tests of IPv6: VIPs, and names of a task, on a network that has it.

use sluice_lab::Lab;

use super::apps::{App, CONTAINER_PORT};
use super::cluster::{AGENTS, Cluster, From, eventually};
use super::networks::{change, user};
use super::table::Seen;

/// Those of DC/OS's tests that are asked here.
pub(crate) const TESTS: &[&str] = &["test_vip_ipv6", "test_ipv6"];

const VIPS: [&str; 2] = ["six.marathon.l4lb.thisdcos.directory:8081", "[fd01:c::1]:8082"];
const ZONES: [&str; 3] =
    ["marathon.autoip.dcos.thisdcos.directory", "marathon.containerip.dcos.thisdcos.directory", "marathon.mesos"];

fn origin() -> App {
    let app = user("six", "dcos6", AGENTS[0]).vip("/six:8081").vip("fd01:c::1:8082");
    App { protocol: "udp,tcp", ..app }
}

fn clients() -> [App; 2] {
    [user("client-six-same", "dcos6", AGENTS[0]), user("client-six-other", "dcos6", AGENTS[1])]
}

pub(crate) fn apps() -> Vec<App> {
    clients().into_iter().chain([origin()]).collect()
}

/// IPv6 for the client outside, its router and Sluice's port.
pub(crate) fn outside(lab: &Lab) {
    let port = "addresses = [\"10.0.0.9/24\"]";
    change(&lab.sluice_config(), port, "addresses = [\"10.0.0.9/24\", \"fd00:10::9/64\"]", "");
    for (role, lines) in [
        (
            "fabric",
            &[
                "addr add fd00:10::1/64 dev br0 nodad",
                "addr add fd00:c::1/64 dev client nodad",
                "route add fd01:c::/64 via fd00:10::9",
            ][..],
        ),
        ("client", &["addr add fd00:c::10/64 dev eth0 nodad", "route add default via fd00:c::1"]),
        ("sluice", &["addr add fd00:10::9/64 dev eth0 nodad", "route add default via fd00:10::1"]),
    ] {
        let settings = "sysctl -qw net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.all.disable_ipv6=0";
        // Only a router forwards.
        let forwards = if role == "fabric" { " net.ipv6.conf.all.forwarding=1" } else { "" };
        let lines: String = lines.iter().map(|line| format!("; ip -6 {line}")).collect();
        let script = format!("set -e; {settings}{forwards}{lines}");
        let output = lab.exec(role, &["sh", "-c", &script]).unwrap();
        assert!(output.status.success(), "{role}: {script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

pub(crate) fn ask(cluster: &Cluster, seen: &mut Seen) {
    let origin = cluster.task(&origin());
    let clients = clients().map(|client| cluster.task(&client));
    let everybody = [&clients[0], &clients[1], &origin].map(From::Task).into_iter().chain([From::Role("client")]);
    let (mut by_tcp, mut by_udp) = (Vec::new(), Vec::new());
    for from in everybody {
        // A new address is being tried for a second, and a VIP becomes known.
        by_tcp.extend(VIPS.map(|vip| eventually(|| cluster.is_answered_by_six(&origin, from, vip))));
        by_udp.push(cluster.is_echoed(from, "fd01:c::1/8082"));
    }
    seen.line(
        "test_vip_ipv6",
        "named and `fd01:c::` VIPs of a task on a network with IPv6, from its own agent, the other one, itself and outside",
        by_tcp,
    );
    seen.line("UDP over IPv6", "the same by UDP", by_udp);
    let by_name = ZONES.map(|zone| {
        let to = format!("six.{zone}:{CONTAINER_PORT}");
        eventually(|| cluster.is_answered_by_six(&origin, From::Task(&clients[1]), &to))
    });
    seen.line("test_ipv6", "AAAA of the task in `autoip`, `containerip` and `mesos` reaches it", by_name.to_vec());
}
