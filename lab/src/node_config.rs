//! The configuration file of the Sluice node, written from the topology (keys: design.md, section 8).

use std::fmt::Write as _;

use crate::state::LabState;
use crate::topology::{AgentEntry, Topology};

/// Name of the file in the lab's folder.
pub const FILE: &str = "sluice.toml";
/// Name of Sluice's unix socket in the lab's folder.
pub const SOCKET: &str = "sluice.sock";

/// Name of the file with the word that agents show, in the lab's folder.
pub const TOKEN: &str = "overlay-token";

/// TCP port of Sluice's health, metrics and names, on every address of its node: the DNS addresses are among them.
pub const API_PORT: u16 = 8123;

/// The TOML text. Without a Mesos the agents are listed, from the records that they themselves have of each other.
#[must_use]
pub fn render(state: &LabState, topology: &Topology) -> String {
    let mut text = String::from("# Written by `sluice-lab up`: the Sluice node of this lab.\n\n");
    port(&mut text, topology);
    for marathon in &topology.marathons {
        let url = format!("http://{}:{}", topology.master.address, marathon.port);
        add(&mut text, format_args!("[[marathon]]\nurls = [\"{url}\"]\n\n"));
    }
    if let Some(mesos) = &topology.mesos {
        let master = format!("{}:{}", topology.master.address, mesos.port);
        add(&mut text, format_args!("[mesos]\nmasters = [\"{master}\"]\n\n"));
    }
    let node = &topology.sluice;
    let (underlay, overlay) = (quoted(&node.snat_underlay), quoted(&node.snat_overlay));
    add(&mut text, format_args!("[snat]\nunderlay = [{underlay}]\noverlay = [{overlay}]\n\n"));
    add(&mut text, format_args!("[dns]\naddresses = [{}]\n\n", quoted(&node.dns)));
    network(&mut text, state, topology);
    host(&mut text, topology);
    let socket = state.file(SOCKET);
    add(&mut text, format_args!("[api]\nlisten = \"0.0.0.0:{API_PORT}\"\nsocket = \"{}\"\n", socket.display()));
    text
}

/// The file of an agent that `sluice agent` sets up.
#[must_use]
pub fn render_agent(state: &LabState, topology: &Topology, agent: &AgentEntry) -> String {
    let mut text = format!("# Written by `sluice-lab up`: {} of this lab.\n\n[agent]\n", agent.name);
    add(&mut text, format_args!("urls = [\"http://{}:{API_PORT}\"]\n", topology.sluice.address));
    add(&mut text, format_args!("address = \"{}\"\nnetworks = [\"{}\"]\n", agent.address, topology.overlay.name));
    add(&mut text, format_args!("mtu = {}\nnode_routes = true\nrefresh_seconds = 1\n", topology.overlay.container_mtu));
    add(&mut text, format_args!("token_file = \"{}\"\n", state.file(TOKEN).display()));
    add(&mut text, format_args!("cni_folder = \"{}\"\n", state.file(&format!("cni-{}", agent.name)).display()));
    add(&mut text, format_args!("cni_state = \"{}\"\n", state.file(&format!("cni-{}-state", agent.name)).display()));
    text
}

fn port(text: &mut String, topology: &Topology) {
    let queues = (0..topology.sluice.queues).map(|q| q.to_string()).collect::<Vec<_>>().join(", ");
    let address = format!("{}/{}", topology.sluice.address, topology.underlay.subnet.prefix_len());
    add(text, format_args!("[[port]]\nname = \"eth0\"\ninterface = \"eth0\"\nqueues = [{queues}]\nmode = \"copy\"\n"));
    add(text, format_args!("addresses = [\"{address}\"]\n\n"));
}

fn network(text: &mut String, state: &LabState, topology: &Topology) {
    let (node, overlay) = (&topology.sluice, &topology.overlay);
    add(text, format_args!("[overlay]\nvni = {}\nport = {}\n", overlay.vni, overlay.port));
    add(text, format_args!("vtep = \"{}/{}\"\n", node.vtep, overlay.vtep_prefix));
    if topology.agents.iter().any(|agent| agent.sluice_agent) {
        add(text, format_args!("leases = true\ntoken_file = \"{}\"\n", state.file(TOKEN).display()));
    }
    text.push('\n');
    add(text, format_args!("[[overlay.network]]\nname = \"{}\"\nsubnet = \"{}\"\n", overlay.name, overlay.subnet));
    let mode = if overlay.hub { "hub" } else { "direct" };
    add(text, format_args!("mode = \"{mode}\"\n"));
    add(text, format_args!("prefix = {}\nown = \"{}\"\n\n", overlay.prefix, node.subnet));
    // Where there is a Mesos, its overlay module tells of them.
    let told = topology.mesos.is_some();
    for member in topology.members().iter().filter(|m| !told && m.name != "sluice" && !topology.has_lease(&m.name)) {
        add(text, format_args!("[[overlay.agent]]          # {}\nip = \"{}\"\n", member.name, member.address));
        add(text, format_args!("vtep_ip = \"{}\"\nvtep_mac = \"{}\"\n", member.vtep, member.mac));
        add(text, format_args!("subnets = {{ {} = \"{}\" }}\n\n", overlay.name, member.subnet));
    }
}

/// The node's own address in the overlay: the first of its subnet that SNAT does not have.
fn host(text: &mut String, topology: &Topology) {
    let node = &topology.sluice;
    if let Some(own) = node.subnet.hosts().find(|ip| !node.snat_overlay.contains(ip)) {
        add(text, format_args!("[host]\naddresses = [\"{own}/{}\"]\n\n", node.subnet.prefix_len()));
    }
}

fn add(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(what);
}

fn quoted<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| format!("\"{}\"", item.to_string())).collect::<Vec<_>>().join(", ")
}
