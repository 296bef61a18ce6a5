//! The kernel's own VXLAN device on a member, programmed as DC/OS does it (facts: dcos, section C).
//!
//! A member's entries for every other member come from one list, in which Sluice is a record like any other.

use crate::shell::ip_batch;
use crate::state::{LabState, StateError};
use crate::topology::{Member, Topology};

/// DC/OS's name of the device: `vtep` and the VNI.
pub(super) fn device(topology: &Topology) -> String {
    format!("vtep{}", topology.overlay.vni)
}

/// Makes the member's VTEP and tells it of all the others.
pub(super) fn join(state: &LabState, topology: &Topology, role: &str) -> Result<(), StateError> {
    let members = topology.members();
    let namespace = state.namespace(role);
    let overlay = &topology.overlay;
    let device = device(topology);
    if let Some(own) = members.iter().find(|m| m.name == role) {
        let lines = [
            format!(
                "link add {device} address {} type vxlan id {} dstport {} learning noudpcsum",
                own.mac, overlay.vni, overlay.port
            ),
            format!("addr add {}/{} dev {device}", own.vtep, overlay.vtep_prefix),
            format!("link set {device} up"),
            // DC/OS gives the rule no priority; the kernel then picks 32765.
            format!("rule add from {} lookup 42", overlay.subnet),
        ];
        ip_batch(&namespace, &lines)?;
    }
    for other in members.iter().filter(|m| m.name != role) {
        learn(&namespace, &device, other)?;
    }
    Ok(())
}

/// One remote node: neighbour, subnet, forwarding entry, and its own address for containers (table 42).
fn learn(namespace: &str, device: &str, other: &Member) -> Result<(), StateError> {
    let Member { address, vtep, mac, subnet, .. } = other;
    let lines = [
        format!("neigh replace {vtep} lladdr {mac} dev {device} nud permanent"),
        format!("route replace {subnet} via {vtep} dev {device}"),
        format!("route replace {address}/32 via {vtep} dev {device} table 42"),
    ];
    ip_batch(namespace, &lines)?;
    let to = address.to_string();
    super::inside(namespace, &["bridge", "fdb", "replace", mac, "dev", device, "dst", &to, "self", "permanent"])?;
    Ok(())
}
