//! How a cluster is made of namespaces, veth pairs and the kernel's own bridge, router and VXLAN device.
//!
//! Only the two ends of Sluice's veth have several queues: the kernel spreads what a one-queue device sends over the
//! queues of the next one, but keeps the queue number of a device with as many (facts: platform, veth).

mod agent;
mod cni;
pub(crate) mod container;
mod fabric;
mod overlay;

use crate::shell::ShellError;
use crate::state::{LabState, StateError};
use crate::topology::{AgentEntry, Topology};

/// Sysctls of every namespace; unknown keys are skipped (br_netfilter may be absent).
const QUIET: &[&str] = &[
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.default.send_redirects=0",
    "net.bridge.bridge-nf-call-iptables=0",
    "net.bridge.bridge-nf-call-ip6tables=0",
    "net.bridge.bridge-nf-call-arptables=0",
];

/// Makes every namespace of the topology and joins them.
pub(crate) fn build(state: &LabState, topology: &Topology) -> Result<(), StateError> {
    fabric::build(state, topology)?;
    fabric::add_client(state, topology)?;
    fabric::add_sluice(state, topology)?;
    fabric::add_master(state, topology)?;
    if !topology.master.outside {
        overlay::join(state, topology, "master")?;
    }
    for agent in &topology.agents {
        agent::build(state, topology, agent)?;
        if !agent.sluice_agent {
            start_containers(state, topology, agent)?;
        }
    }
    Ok(())
}

/// The containers that an agent has from the start; one that `sluice agent` sets up must have its network first.
pub(crate) fn start_containers(state: &LabState, topology: &Topology, agent: &AgentEntry) -> Result<(), StateError> {
    for name in &agent.containers {
        if agent.sluice_agent {
            container::by_cni(state, agent, name, &topology.overlay.name)?;
        } else {
            container::on_overlay(state, topology, agent, name, false)?;
        }
    }
    Ok(())
}

/// A namespace with `lo` up and the lab's sysctls set before any interface takes its defaults from them.
fn namespace(state: &LabState, role: &str, forward: bool) -> Result<String, StateError> {
    let name = state.add_namespace(role)?;
    let forward = if forward { "net.ipv4.ip_forward=1" } else { "net.ipv4.ip_forward=0" };
    let mut settings = vec!["sysctl", "-e", "-q", "-w", forward];
    settings.extend(QUIET);
    inside(&name, &settings)?;
    inside(&name, &["ip", "link", "set", "lo", "up"])?;
    Ok(name)
}

/// Runs a tool in a namespace.
fn inside(namespace: &str, words: &[&str]) -> Result<String, ShellError> {
    let net = format!("--net=/run/netns/{namespace}");
    let mut arguments = vec![net.as_str(), "--"];
    arguments.extend(words);
    crate::shell::run("nsenter", &arguments)
}
