//! A Mesos agent: a node on the fabric, a VTEP, the bridges for overlay containers and those for bridge mode.

use ipnet::Ipv4Net;

use super::container::{NAT_BRIDGES, gateway, overlay_bridges};
use super::{fabric, overlay};
use crate::shell::{ip_batch, run_with_input};
use crate::state::{LabState, StateError};
use crate::topology::{AgentEntry, Topology};

/// Routes for containers only: by Sluice's VTEP. Not one of DC/OS's tables (those are main and 42).
const TABLE_OF_CONTAINERS: &str = "43";

pub(super) fn build(state: &LabState, topology: &Topology, agent: &AgentEntry) -> Result<(), StateError> {
    super::namespace(state, &agent.name, true)?;
    fabric::add_node(state, topology, &agent.name, agent.address, 1)?;
    let namespace = state.namespace(&agent.name);
    for (name, subnet) in NAT_BRIDGES {
        ip_batch(&namespace, &bridge(name, subnet, topology.underlay.mtu))?;
    }
    if !agent.sluice_agent {
        overlay::join(state, topology, &agent.name)?;
        for (name, subnet) in overlay_bridges(topology, agent) {
            ip_batch(&namespace, &bridge(&name, subnet, topology.overlay.container_mtu))?;
        }
        ip_batch(&namespace, &ways_to_vips(topology))?;
    }
    translate_addresses(&namespace, topology, agent)
}

fn bridge(name: &str, subnet: Ipv4Net, mtu: u16) -> [String; 3] {
    [
        format!("link add {name} mtu {mtu} type bridge mcast_snooping 0 forward_delay 0"),
        format!("addr add {}/{} dev {name}", gateway(subnet), subnet.prefix_len()),
        format!("link set {name} up"),
    ]
}

/// The agent's own processes and bridge-mode containers go by the underlay, overlay containers by Sluice's VTEP: only
/// so does a container's own address reach Sluice, which decides by it.
fn ways_to_vips(topology: &Topology) -> Vec<String> {
    let mut lines = fabric::vip_routes(topology, "");
    let (vtep, device) = (topology.sluice.vtep, overlay::device(topology));
    let ranges = topology.sluice.vips.iter().map(ToString::to_string);
    let dns = topology.sluice.dns.iter().map(|address| format!("{address}/32"));
    lines.extend(
        ranges
            .chain(dns)
            .map(|to| format!("route add {to} via {vtep} dev {device} onlink table {TABLE_OF_CONTAINERS}")),
    );
    lines.push(format!("rule add from {} lookup {TABLE_OF_CONTAINERS}", topology.overlay.subnet));
    lines
}

/// DC/OS's masquerade of what leaves the overlay (what goes to Sluice does not leave it), that of what leaves the bridges, and the maps by which host ports reach containers (filled as tasks start).
fn translate_addresses(namespace: &str, topology: &Topology, agent: &AgentEntry) -> Result<(), StateError> {
    let (node, overlay) = (&topology.sluice, &topology.overlay);
    let mut kept = vec![overlay.subnet.to_string()];
    kept.extend(node.vips.iter().map(ToString::to_string));
    kept.extend(node.dns.iter().map(ToString::to_string));
    // Of its own overlay `sluice agent` sees to that.
    let of_overlay = match agent.sluice_agent {
        true => String::new(),
        false => format!("ip saddr {} ip daddr != {{ {} }} masquerade", agent.subnet, kept.join(", ")),
    };
    let of_bridge = |(name, subnet)| format!("    ip saddr {subnet} oifname != \"{name}\" masquerade\n");
    let of_bridges: String = NAT_BRIDGES.into_iter().map(of_bridge).collect();
    let rules = format!(
        "table ip lab {{
  map tcp_ports {{ type inet_service : ipv4_addr . inet_service; }}
  map udp_ports {{ type inet_service : ipv4_addr . inet_service; }}
  chain prerouting {{ type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local dnat ip to tcp dport map @tcp_ports
    fib daddr type local dnat ip to udp dport map @udp_ports
  }}
  chain output {{ type nat hook output priority -100; policy accept;
    fib daddr type local dnat ip to tcp dport map @tcp_ports
    fib daddr type local dnat ip to udp dport map @udp_ports
  }}
  chain postrouting {{ type nat hook postrouting priority srcnat; policy accept;
    {of_overlay}
{of_bridges}  }}
}}
"
    );
    let net = format!("--net=/run/netns/{namespace}");
    run_with_input("nsenter", &[&net, "--", "nft", "-f", "-"], &rules)?;
    Ok(())
}
