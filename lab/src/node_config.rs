//! The configuration file of the Sluice node, written from the topology (keys: design.md, section 8).

use std::fmt::Write as _;

use crate::state::LabState;
use crate::topology::Topology;

/// Name of the file in the lab's folder.
pub const FILE: &str = "sluice.toml";
/// Name of Sluice's unix socket in the lab's folder.
pub const SOCKET: &str = "sluice.sock";

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
    network(&mut text, topology);
    host(&mut text, topology);
    let socket = state.file(SOCKET);
    add(&mut text, format_args!("[api]\nlisten = \"0.0.0.0:{API_PORT}\"\nsocket = \"{}\"\n", socket.display()));
    text
}

fn port(text: &mut String, topology: &Topology) {
    let queues = (0..topology.sluice.queues).map(|q| q.to_string()).collect::<Vec<_>>().join(", ");
    let address = format!("{}/{}", topology.sluice.address, topology.underlay.subnet.prefix_len());
    add(text, format_args!("[[port]]\nname = \"eth0\"\ninterface = \"eth0\"\nqueues = [{queues}]\nmode = \"copy\"\n"));
    add(text, format_args!("addresses = [\"{address}\"]\n\n"));
}

fn network(text: &mut String, topology: &Topology) {
    let (node, overlay) = (&topology.sluice, &topology.overlay);
    add(text, format_args!("[overlay]\nvni = {}\nport = {}\n", overlay.vni, overlay.port));
    add(text, format_args!("vtep = \"{}/{}\"\n\n", node.vtep, overlay.vtep_prefix));
    add(text, format_args!("[[overlay.network]]\nname = \"{}\"\nsubnet = \"{}\"\n", overlay.name, overlay.subnet));
    add(text, format_args!("prefix = {}\nown = \"{}\"\n\n", overlay.prefix, node.subnet));
    // Where there is a Mesos, its overlay module tells of them.
    let told = topology.mesos.is_some();
    for member in topology.members().iter().filter(|m| !told && m.name != "sluice") {
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
