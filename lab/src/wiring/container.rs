//! Containers: namespaces behind an agent's bridge, on the overlay or in bridge mode.
//!
//! Addresses are claimed by files in the lab's folder, so that several Marathons share one agent without agreeing on
//! anything else.

use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

use super::cni;
use crate::shell::ip_batch;
use crate::state::{LabState, StateError};
use crate::topology::{AgentEntry, Topology};

/// Bridges whose containers are behind the agent's address, with subnets that are the same on every agent: Docker's own
/// default, and DC/OS's for the Mesos containerizer.
pub(super) const NAT_BRIDGES: [(&str, Ipv4Net); 2] = [
    ("docker0", Ipv4Net::new_assert(Ipv4Addr::new(172, 17, 0, 0), 16)),
    ("mesos-bridge", Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 254, 0), 24)),
];

/// A container's namespace and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) role: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) address6: Option<Ipv6Addr>,
    network: Network,
}

/// Who gives the address back when the container goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Network {
    /// The lab: the name of its claim.
    Claimed(String),
    /// The CNI plugins of this network of this agent.
    Cni { agent: String, network: String },
}

/// A host port that leads to a container's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) udp: bool,
    pub(crate) host_port: u16,
    pub(crate) container_port: u16,
}

/// DC/OS's two bridges of an overlay network on an agent, by their names and subnets: Docker's with the upper half of the
/// agent's subnet, the Mesos containerizer's with the lower one.
pub(super) fn overlay_bridges(topology: &Topology, agent: &AgentEntry) -> [(String, Ipv4Net); 2] {
    let (subnet, name) = (agent.subnet, &topology.overlay.name);
    let half = |first| Ipv4Net::new(first, (subnet.prefix_len() + 1).min(32)).unwrap_or(subnet).trunc();
    [(format!("d-{name}"), half(subnet.broadcast())), (format!("m-{name}"), half(subnet.network()))]
}

/// The first address of a bridge's subnet.
pub(super) fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1))
}

/// A container with an address of its own on the topology's network, on an agent as DC/OS sets it up.
pub(crate) fn on_overlay(
    state: &LabState,
    topology: &Topology,
    agent: &AgentEntry,
    role: &str,
    by_docker: bool,
) -> Result<Container, StateError> {
    let [docker, mesos] = overlay_bridges(topology, agent);
    let (bridge, subnet) = if by_docker { docker } else { mesos };
    attach(state, agent, role, &bridge, subnet, topology.overlay.container_mtu)
}

/// A container on any network that there is a CNI configuration for on an agent: by both containerizers.
pub(crate) fn by_cni(state: &LabState, agent: &AgentEntry, role: &str, network: &str) -> Result<Container, StateError> {
    let namespace = super::namespace(state, role, false)?;
    let (address, address6) = cni::add(state, &agent.name, network, role, &namespace)?;
    let network = Network::Cni { agent: agent.name.clone(), network: network.to_owned() };
    Ok(Container { role: role.to_owned(), address, address6, network })
}

/// A container on a NAT bridge, reached by [`redirect`].
pub(crate) fn on_nat_bridge(
    state: &LabState,
    topology: &Topology,
    agent: &AgentEntry,
    role: &str,
    by_docker: bool,
) -> Result<Container, StateError> {
    let [docker, mesos] = NAT_BRIDGES;
    let (bridge, subnet) = if by_docker { docker } else { mesos };
    attach(state, agent, role, bridge, subnet, topology.underlay.mtu)
}

fn attach(
    state: &LabState,
    agent: &AgentEntry,
    role: &str,
    bridge: &str,
    subnet: Ipv4Net,
    mtu: u16,
) -> Result<Container, StateError> {
    let (address, claim) = claim_address(state, &agent.name, bridge, subnet)?;
    let namespace = super::namespace(state, role, false)?;
    let device = format!("v-{role}");
    let host_end = [
        format!(
            "link add name {device} mtu {mtu} numtxqueues 1 numrxqueues 1 type veth \
             peer name eth0 mtu {mtu} netns {namespace} numtxqueues 1 numrxqueues 1"
        ),
        format!("link set dev {device} master {bridge} up"),
    ];
    ip_batch(&state.namespace(&agent.name), &host_end)?;
    let own_end = [
        format!("addr add {address}/{} dev eth0", subnet.prefix_len()),
        "link set eth0 up".to_owned(),
        format!("route add default via {}", gateway(subnet)),
    ];
    ip_batch(&namespace, &own_end)?;
    Ok(Container { role: role.to_owned(), address, address6: None, network: Network::Claimed(claim) })
}

/// Removes a container's namespace (its interfaces go with it) and gives its address back.
pub(crate) fn remove(state: &LabState, container: &Container) -> Result<(), StateError> {
    match &container.network {
        Network::Claimed(claim) => {
            let removed = state.remove_namespace(&container.role);
            release(state, claim);
            removed
        }
        Network::Cni { agent, network } => {
            cni::delete(state, agent, network, &container.role)?;
            state.remove_namespace(&container.role)
        }
    }
}

/// Lets a host port of the agent lead to a container's port, or no more.
pub(crate) fn redirect(
    state: &LabState,
    agent: &AgentEntry,
    address: Ipv4Addr,
    redirect: Redirect,
    there: bool,
) -> Result<(), StateError> {
    let map = if redirect.udp { "udp_ports" } else { "tcp_ports" };
    let element = if there {
        format!("{{ {} : {address} . {} }}", redirect.host_port, redirect.container_port)
    } else {
        format!("{{ {} }}", redirect.host_port)
    };
    let verb = if there { "add" } else { "delete" };
    super::inside(&state.namespace(&agent.name), &["nft", verb, "element", "ip", "lab", map, &element])?;
    Ok(())
}

/// The lowest free address above the gateway. Addresses are per agent and bridge: docker0's are the same everywhere.
fn claim_address(
    state: &LabState,
    agent: &str,
    bridge: &str,
    subnet: Ipv4Net,
) -> Result<(Ipv4Addr, String), StateError> {
    let first = u32::from(subnet.network()).saturating_add(2);
    for number in (first..u32::from(subnet.broadcast())).take(4096) {
        let address = Ipv4Addr::from(number);
        let name = format!("{agent}-{bridge}-{address}");
        if claim(state, &name)? {
            return Ok((address, name));
        }
    }
    Err(StateError::Full { what: format!("subnet {subnet} of {agent}") })
}

/// Takes a name for this lab; false when somebody has it.
pub(crate) fn claim(state: &LabState, name: &str) -> Result<bool, StateError> {
    let path = state.file("claims").join(name);
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(StateError::File { path, source }),
    }
}

/// Gives a name back.
pub(crate) fn release(state: &LabState, name: &str) {
    // A claim whose file is gone already is released.
    let _ = std::fs::remove_file(state.file("claims").join(name));
}
