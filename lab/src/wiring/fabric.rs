//! The fabric: one bridge that is also the router of the rack, and the nodes that hang on it.

use std::net::Ipv4Addr;

use crate::shell::{ip_batch, run_with_input};
use crate::state::{LabState, StateError};
use crate::topology::Topology;

/// What masters load so that Mesos-DNS's API is found where it was.
const REDIRECT: &str = include_str!("../../../docs/redirect-8123.nft");

pub(super) fn build(state: &LabState, topology: &Topology) -> Result<(), StateError> {
    let fabric = super::namespace(state, "fabric", true)?;
    let underlay = &topology.underlay;
    let sluice = topology.sluice.address;
    let mut lines = vec![
        "link add br0 type bridge mcast_snooping 0 stp_state 0 forward_delay 0".to_owned(),
        format!("link set br0 mtu {} up", underlay.mtu),
        format!("addr add {}/{} dev br0", underlay.router, underlay.subnet.prefix_len()),
    ];
    // What a rack's router would learn by BGP: everything that Sluice serves lies behind its underlay address.
    let node = &topology.sluice;
    lines.extend(node.vips.iter().map(|vips| format!("route add {vips} via {sluice}")));
    let hosts = node.dns.iter().chain(&node.snat_underlay);
    lines.extend(hosts.map(|address| format!("route add {address}/32 via {sluice}")));
    lines.push(format!("route add {} via {sluice}", topology.overlay.subnet));
    Ok(ip_batch(&fabric, &lines)?)
}

/// The client's subnet is the router's other leg.
pub(super) fn add_client(state: &LabState, topology: &Topology) -> Result<(), StateError> {
    let client = super::namespace(state, "client", false)?;
    let fabric = state.namespace("fabric");
    let (address, router) = (topology.client.address, topology.client.router);
    let ours = [
        veth("client", &client, 1, topology.underlay.mtu),
        format!("addr add {router}/{} dev client", address.prefix_len()),
        "link set dev client up".to_owned(),
    ];
    ip_batch(&fabric, &ours)?;
    let theirs = [
        format!("addr add {address} dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via {router}"),
    ];
    Ok(ip_batch(&client, &theirs)?)
}

pub(super) fn add_sluice(state: &LabState, topology: &Topology) -> Result<(), StateError> {
    super::namespace(state, "sluice", false)?;
    add_node(state, topology, "sluice", topology.sluice.address, topology.sluice.queues)?;
    // A local stack leaves checksums unfinished (CHECKSUM_PARTIAL); off on this one end makes all of them right.
    super::inside(&state.namespace("fabric"), &["ethtool", "-K", "sluice", "tx", "off"])?;
    // Sluice refuses a card that takes tags out of frames.
    super::inside(&state.namespace("sluice"), &["ethtool", "-K", "eth0", "rxvlan", "off"])?;
    Ok(())
}

pub(super) fn add_master(state: &LabState, topology: &Topology) -> Result<(), StateError> {
    let master = super::namespace(state, "master", true)?;
    add_node(state, topology, "master", topology.master.address, 1)?;
    let mut routes = vip_routes(topology, "");
    if topology.master.outside {
        routes.push(format!("route add {} via {}", topology.overlay.subnet, topology.sluice.address));
    }
    ip_batch(&master, &routes)?;
    match topology.sluice.dns.first() {
        Some(dns) => redirect_names(&master, topology.master.address, *dns),
        None => Ok(()),
    }
}

/// `http://master.mesos:8123` leads to Sluice, by the rules that operators are given.
fn redirect_names(namespace: &str, master: Ipv4Addr, sluice: Ipv4Addr) -> Result<(), StateError> {
    let net = format!("--net=/run/netns/{namespace}");
    let defines = [format!("master={master}"), format!("sluice={sluice}")];
    let words = [&net, "--", "nft", "-D", &defines[0], "-D", &defines[1], "-f", "-"];
    run_with_input("nsenter", &words, REDIRECT)?;
    Ok(())
}

/// A node on the bridge: `eth0` in its namespace, an interface of its own name in the fabric's.
pub(super) fn add_node(
    state: &LabState,
    topology: &Topology,
    role: &str,
    address: Ipv4Addr,
    queues: u16,
) -> Result<(), StateError> {
    let (fabric, node) = (state.namespace("fabric"), state.namespace(role));
    let underlay = &topology.underlay;
    let join = [veth(role, &node, queues, underlay.mtu), format!("link set dev {role} master br0 up")];
    ip_batch(&fabric, &join)?;
    let own = [
        format!("addr add {address}/{} dev eth0", underlay.subnet.prefix_len()),
        "link set eth0 up".to_owned(),
        format!("route add default via {}", underlay.router),
    ];
    Ok(ip_batch(&node, &own)?)
}

/// How a node reaches what Sluice serves over the underlay, without the detour by the router.
pub(super) fn vip_routes(topology: &Topology, tail: &str) -> Vec<String> {
    let via = topology.sluice.address;
    let ranges = topology.sluice.vips.iter().map(ToString::to_string);
    let dns = topology.sluice.dns.iter().map(|address| format!("{address}/32"));
    ranges.chain(dns).map(|to| format!("route add {to} via {via}{tail}")).collect()
}

fn veth(name: &str, peer_namespace: &str, queues: u16, mtu: u16) -> String {
    let queues = format!("numtxqueues {queues} numrxqueues {queues}");
    format!(
        "link add name {name} mtu {mtu} {queues} type veth peer name eth0 mtu {mtu} netns {peer_namespace} {queues}"
    )
}
