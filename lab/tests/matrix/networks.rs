//! Tests that need networks beside DC/OS's one: IPv6, a second user network, a CNI network without a default route. Their
//! agents are set up by `sluice agent`, and every container by Debian's CNI plugins.

use serde_json::{Value, json};
use sluice_lab::{Lab, Topology};

use super::apps::{App, CONTAINER_PORT};
use super::cluster::{AGENTS, Cluster, From, SLUICE, eventually, until};
use super::rows::{Kind, Net};
use super::table::Seen;

/// Those of DC/OS's tests that are asked here.
pub(crate) const TESTS: &[&str] = &["test_vip_ipv6", "test_ipv6", "test_dcos_cni_l4lb", "test_vip_cross_usernetwork"];

/// `dcos6` in the tunnels of `dcos`, as DC/OS has it; `calico` with a VNI of its own.
const NETWORKS: &str = r#"
[[overlay.network]]
name = "dcos6"
subnet = "172.20.0.0/16"
own = "172.20.9.0/24"
subnet6 = "fd01:b::/64"

[[overlay.network]]
name = "calico"
subnet = "172.21.0.0/16"
own = "172.21.9.0/24"
vni = 2000
port = 4789
"#;
const SNAT: &str = "\"9.0.9.2\", \"172.21.9.2\", \"fd01:b:0:0:9::2\"";
const VIP6: &str = "[fd01:c::1]:8082";

fn topology() -> Topology {
    let mut topology = Topology::built_in().unwrap();
    for (n, agent) in topology.agents.iter_mut().enumerate() {
        agent.sluice_agent = true;
        agent.vtep = format!("44.128.0.{}", n + 1).parse().unwrap();
        agent.subnet = format!("9.0.{n}.0/24").parse().unwrap();
    }
    topology
}

fn more_networks(lab: &Lab) {
    let change = |file: &std::path::Path, from: &str, to: &str, more: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to) + more).unwrap();
    };
    change(&lab.sluice_config(), "overlay = [\"9.0.9.2\"]", &format!("overlay = [{SNAT}]"), NETWORKS);
    for agent in ["agent1", "agent2"] {
        change(&lab.agent_config(agent), "[\"dcos\"]", "[\"dcos\", \"dcos6\", \"calico\"]", "");
    }
}

/// `sluice agent` on both, with IPv6 where the lab's namespaces have it off.
fn start_agents(cluster: &Cluster) {
    for agent in ["agent1", "agent2"] {
        for which in ["all", "default"] {
            for setting in ["disable_ipv6=0", "forwarding=1"] {
                let setting = format!("net.ipv6.conf.{which}.{setting}");
                cluster.run(From::Role(agent), &["sysctl", "-qw", &setting]).unwrap();
            }
        }
        cluster.lab.start_agent(&cluster.program, agent).unwrap();
        let folder = cluster.lab.state().file(&format!("cni-{agent}"));
        until("every network is there", || {
            ["calico", "dcos6"].iter().all(|n| folder.join(format!("{n}.conf")).exists()).then_some(())
        });
    }
}

/// A network on `dcos`'s bridge, with addresses from the end of the agent's part, whose containers have routes to what
/// Sluice serves and to nothing else.
fn without_default_route(cluster: &Cluster) {
    let file = |name: &str| cluster.lab.state().file(&format!("cni-agent1/{name}.conf"));
    let mut conf: Value = serde_json::from_slice(&std::fs::read(file("dcos")).unwrap()).unwrap();
    conf["name"] = "l4lb".into();
    conf.as_object_mut().unwrap().remove("args");
    conf["ipam"]["ranges"][0][0]["rangeStart"] = "9.0.0.100".into();
    conf["ipam"]["ranges"][0][0]["rangeEnd"] = "9.0.0.120".into();
    conf["ipam"]["routes"] = json!([{"dst": "11.0.0.0/8"}, {"dst": format!("{SLUICE}/32")}]);
    std::fs::write(file("l4lb"), conf.to_string()).unwrap();
}

fn user(name: &str, network: &'static str, agent: &'static str) -> App {
    App { network, ..App::new(name, Kind::Mesos, Net::User).on(agent) }
}

fn apps() -> [App; 9] {
    [
        user("six", "dcos6", AGENTS[0]).vip("/six:8081").vip("fd01:c::1:8082"),
        user("client-six-same", "dcos6", AGENTS[0]),
        user("client-six-other", "dcos6", AGENTS[1]),
        user("of-calico", "calico", AGENTS[0]).vip("/of-calico:8083"),
        user("of-dcos", "dcos", AGENTS[0]).vip("/of-dcos:8084"),
        user("client-calico-same", "calico", AGENTS[0]),
        user("client-calico-other", "calico", AGENTS[1]),
        user("client-dcos-other", "dcos", AGENTS[1]),
        user("client-l4lb", "l4lb", AGENTS[0]),
    ]
}

fn vip(app: &str, port: u16) -> String {
    format!("{app}.marathon.l4lb.thisdcos.directory:{port}")
}

/// Starts the cluster and asks; `None`, with a sentence, where something is not there.
pub(crate) fn ask(seen: &mut Seen) -> Option<()> {
    let cluster = Cluster::start(&topology(), more_networks)?;
    start_agents(&cluster);
    without_default_route(&cluster);
    let [six, six_same, six_other, calico, dcos, calico_same, calico_other, dcos_other, l4lb] = apps();
    cluster.deploy(&apps());
    let task = |app: &App| cluster.task(app);
    cluster.await_vips(&[vip("of-calico", 8083), vip("of-dcos", 8084)]);

    let clients = [&six_other, &six_same].map(task);
    let asked = |to: &str| {
        let to_six = |client| cluster.is_answered_by_six(&task(&six), From::Task(client), to);
        clients.iter().map(|client| eventually(|| to_six(client))).collect::<Vec<_>>()
    };
    seen.line(
        "test_vip_ipv6",
        "named and `fd01:c::` VIPs of a task on a network with IPv6, from the other agent and from its own",
        [asked(&vip("six", 8081)), asked(VIP6)].concat(),
    );
    let names =
        ["marathon.autoip.dcos.thisdcos.directory", "marathon.containerip.dcos.thisdcos.directory", "marathon.mesos"];
    let by_name = names.map(|zone| {
        let to = format!("six.{zone}:{CONTAINER_PORT}");
        eventually(|| cluster.is_answered_by_six(&task(&six), From::Task(&clients[0]), &to))
    });
    seen.line("test_ipv6", "AAAA of the task in `autoip`, `containerip` and `mesos` reaches it", by_name.to_vec());

    let crossing = [
        (&calico, vip("of-calico", 8083), &dcos_other),
        (&calico, vip("of-calico", 8083), &dcos),
        (&dcos, vip("of-dcos", 8084), &calico_other),
        (&dcos, vip("of-dcos", 8084), &calico_same),
    ];
    let crossed = crossing.map(|(to, vip, from)| cluster.is_answered_by(&task(to), From::Task(&task(from)), &vip));
    seen.line(
        "test_vip_cross_usernetwork",
        "a client in one container network, the backend in another with a VNI of its own, both ways and from both agents",
        crossed.to_vec(),
    );

    let l4lb = task(&l4lb);
    let routes = cluster.run(From::Task(&l4lb), &["ip", "route"]).unwrap();
    assert!(!routes.contains("default"), "{routes}");
    let reached = [(&calico, vip("of-calico", 8083)), (&dcos, vip("of-dcos", 8084))];
    let reached = reached.map(|(to, vip)| cluster.is_answered_by(&task(to), From::Task(&l4lb), &vip));
    seen.line(
        "test_dcos_cni_l4lb",
        "a client in a CNI network with routes to VIPs and names and without a default route",
        reached.to_vec(),
    );
    Some(())
}
