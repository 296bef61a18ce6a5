//! Tests that need networks beside DC/OS's one: a second user network, a CNI network without a default route, and IPv6. Their
//! agents are set up by `sluice agent`, and every container by Debian's CNI plugins.

use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};
use sluice_lab::{Lab, Topology};

use super::apps::App;
use super::cluster::{AGENTS, Cluster, From, SLUICE, VIPS, until};
use super::rows::{Kind, Net};
use super::table::Seen;
use super::{six, vips};

/// Those of DC/OS's tests that are asked here.
pub(crate) const TESTS: &[&str] = &["test_dcos_cni_l4lb", "test_vip_cross_usernetwork"];

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
/// DC/OS has them the other way round: `app.marathon.mesos` is the agent's address there, and no agent here has an IPv6 one.
const IP_SOURCES: &str = "ip_sources = [\"netinfo\", \"host\"]\n";

/// Two agents that run `sluice agent`, in the places that are the lowest free ones.
pub(crate) fn topology() -> Topology {
    let mut topology = Topology::built_in().unwrap();
    topology.sluice.vips.push(VIPS.parse().unwrap());
    for (n, agent) in topology.agents.iter_mut().enumerate() {
        agent.sluice_agent = true;
        agent.vtep = format!("44.128.0.{}", n + 1).parse().unwrap();
        agent.subnet = format!("9.0.{n}.0/24").parse().unwrap();
    }
    topology
}

/// Replaces a text of a file of the lab, which must be there, and adds some.
pub(crate) fn change(file: &Path, from: &str, to: &str, more: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "the lab writes another file than this test knows: {text}");
    std::fs::write(file, text.replace(from, to) + more).unwrap();
}

fn more_networks(lab: &Lab) {
    change(&lab.sluice_config(), "overlay = [\"9.0.9.2\"]", &format!("overlay = [{SNAT}]"), NETWORKS);
    change(&lab.sluice_config(), "[dns]\n", &format!("[dns]\n{IP_SOURCES}"), "");
    for agent in ["agent1", "agent2"] {
        change(&lab.agent_config(agent), "[\"dcos\"]", "[\"dcos\", \"dcos6\", \"calico\"]", "");
    }
}

/// `sluice agent` on both, with IPv6 where the lab's namespaces have it off.
fn start_agents(cluster: &Cluster) -> Vec<Child> {
    let mut agents = Vec::new();
    for agent in ["agent1", "agent2"] {
        for which in ["all", "default"] {
            for setting in ["disable_ipv6=0", "forwarding=1"] {
                let setting = format!("net.ipv6.conf.{which}.{setting}");
                cluster.run(From::Role(agent), &["sysctl", "-qw", &setting]).unwrap();
            }
        }
        agents.push(cluster.start_agent(agent));
        let folder = cluster.lab.state().file(&format!("cni-{agent}"));
        until("every network is there", || {
            ["calico", "dcos6"].iter().all(|n| folder.join(format!("{n}.conf")).exists()).then_some(())
        });
    }
    agents
}

/// Waits until agents have heard of the VIPs outside the range of named ones; `containers` is the table of what these send.
pub(crate) fn await_routes(cluster: &Cluster, containers: &str) {
    for (agent, table) in ["agent1", "agent2"].into_iter().flat_map(|agent| [(agent, "main"), (agent, containers)]) {
        until("agents hear of every VIP", || {
            let routes = cluster.run(From::Role(agent), &["ip", "route", "show", "table", table]).ok()?;
            vips::addresses().all(|ip| routes.contains(&format!("{ip} via "))).then_some(())
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

pub(crate) fn user(name: &str, network: &'static str, agent: &'static str) -> App {
    App { network, ..App::new(name, Kind::Mesos, Net::User).on(agent) }
}

fn of_calico() -> App {
    user("of-calico", "calico", AGENTS[0]).vip("/of-calico:8083")
}

fn of_dcos() -> App {
    user("of-dcos", "dcos", AGENTS[0]).vip("/of-dcos:8084")
}

/// Without a VIP of its own.
fn client(network: &'static str, agent: &'static str) -> App {
    user(&format!("client-{network}-{}", agent.replace('.', "-")), network, agent)
}

fn apps() -> Vec<App> {
    let clients = ["calico", "dcos"].map(|network| client(network, AGENTS[1]));
    [of_calico(), of_dcos(), client("l4lb", AGENTS[0])].into_iter().chain(clients).chain(six::apps()).collect()
}

/// The origins and their VIPs.
fn origins() -> [(App, &'static str); 2] {
    let vips = ["of-calico.marathon.l4lb.thisdcos.directory:8083", "of-dcos.marathon.l4lb.thisdcos.directory:8084"];
    let [calico, dcos] = vips;
    [(of_calico(), calico), (of_dcos(), dcos)]
}

/// Starts the cluster and asks; `None`, with a sentence, where something is not there.
pub(crate) fn ask(seen: &mut Seen) -> Option<()> {
    let cluster = Cluster::start(&topology(), |lab| {
        more_networks(lab);
        six::outside(lab);
    })?;
    let _agents = start_agents(&cluster);
    without_default_route(&cluster);
    cluster.deploy(&vips::apps().into_iter().chain(apps()).collect::<Vec<_>>());
    await_routes(&cluster, "43");
    seen.matrix_in_short(vips::ask(&cluster));
    six::ask(&cluster, seen);
    cluster.await_vips(&origins().map(|(_, vip)| vip.to_owned()));
    across(&cluster, seen);
    no_default_route(&cluster, seen);
    Some(())
}

fn across(cluster: &Cluster, seen: &mut Seen) {
    let [calico, dcos] = origins();
    // The origin of the other network is a client on the same agent.
    let pairs = [
        (&calico, client("dcos", AGENTS[1])),
        (&calico, of_dcos()),
        (&dcos, client("calico", AGENTS[1])),
        (&dcos, of_calico()),
    ];
    let results = pairs.map(|((origin, vip), client)| {
        cluster.is_answered_by(&cluster.task(origin), From::Task(&cluster.task(&client)), vip)
    });
    seen.line(
        "test_vip_cross_usernetwork",
        "a client in one container network, the backend in another with a VNI of its own, both ways and from both agents",
        results.to_vec(),
    );
}

fn no_default_route(cluster: &Cluster, seen: &mut Seen) {
    let client = cluster.task(&client("l4lb", AGENTS[0]));
    let routes = cluster.run(From::Task(&client), &["ip", "route"]).unwrap();
    assert!(!routes.contains("default"), "{routes}");
    let reached =
        origins().map(|(origin, vip)| cluster.is_answered_by(&cluster.task(&origin), From::Task(&client), vip));
    seen.line(
        "test_dcos_cni_l4lb",
        "a client in a CNI network with routes to VIPs and names and without a default route",
        reached.to_vec(),
    );
}
