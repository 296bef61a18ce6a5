//! `/overlay-master/state` and `/overlay-agent/overlay`, as DC/OS's overlay module answers them.

use serde_json::{Value, json};

use crate::topology::{Member, Topology};

/// Every member of the overlay but Sluice, which has no Mesos agent, and agents whose place Sluice gives.
pub(super) fn state(topology: &Topology) -> Value {
    let members = topology.members();
    let vteps = members.iter().map(|m| m.vtep).min().map(|first| format!("{first}/{}", topology.overlay.vtep_prefix));
    let agent = |member: &Member| json!({"ip": member.address, "overlays": [place(topology, member)]});
    json!({
        "network": {"vtep_subnet": vteps, "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [info(topology)]},
        "agents": members.iter().filter(|m| m.name != "sluice" && !topology.has_lease(&m.name)).map(agent).collect::<Vec<_>>(),
    })
}

/// What a node says of itself.
pub(super) fn own(topology: &Topology, member: &Member) -> Value {
    json!({"ip": member.address, "overlays": [place(topology, member)], "configuration_attempts": 1})
}

fn info(topology: &Topology) -> Value {
    let overlay = &topology.overlay;
    json!({"name": overlay.name, "subnet": overlay.subnet, "prefix": overlay.prefix, "enabled": true})
}

fn place(topology: &Topology, member: &Member) -> Value {
    let overlay = &topology.overlay;
    let vxlan = json!({
        "vni": overlay.vni, "vtep_name": format!("vtep{}", overlay.vni), "vtep_mac": member.mac,
        "vtep_ip": format!("{}/{}", member.vtep, overlay.vtep_prefix), "vtep_mtu": topology.underlay.mtu,
    });
    json!({
        "info": info(topology), "subnet": member.subnet, "backend": {"vxlan": vxlan}, "state": {"status": "STATUS_OK"},
    })
}
