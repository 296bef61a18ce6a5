//! `/overlay-master/state`, as DC/OS's overlay module answers it.

use serde_json::{Value, json};

use crate::topology::{Member, Topology};

/// Every member of the overlay but Sluice, which has no Mesos agent, and agents whose place Sluice gives.
pub(super) fn state(topology: &Topology) -> Value {
    let overlay = &topology.overlay;
    let info = json!({"name": overlay.name, "subnet": overlay.subnet, "prefix": overlay.prefix, "enabled": true});
    let agent = |member: &Member| {
        let vxlan = json!({
            "vni": overlay.vni, "vtep_name": format!("vtep{}", overlay.vni), "vtep_mac": member.mac,
            "vtep_ip": format!("{}/{}", member.vtep, overlay.vtep_prefix), "vtep_mtu": topology.underlay.mtu,
        });
        json!({"ip": member.address, "overlays": [{
            "info": info, "subnet": member.subnet, "backend": {"vxlan": vxlan}, "state": {"status": "STATUS_OK"},
        }]})
    };
    let members = topology.members();
    let vteps = members.iter().map(|m| m.vtep).min().map(|first| format!("{first}/{}", overlay.vtep_prefix));
    json!({
        "network": {"vtep_subnet": vteps, "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [info]},
        "agents": members.iter().filter(|m| m.name != "sluice" && !topology.has_lease(&m.name)).map(agent).collect::<Vec<_>>(),
    })
}
