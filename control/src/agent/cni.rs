//! CNI network configurations, for the plugins of Debian's `containernetworking-plugins`, and their files.
//!
//! As in DC/OS the Mesos containerizer has the lower half of an agent's subnet. In a hub network the plugin is `ptp`: each
//! container has a link of its own to the agent and no other container on it, so that there is nothing to switch between
//! containers from the moment they are there. (Isolated ports of a bridge would be open between the plugin's making a
//! port and our hearing of it, and would need ARP proxied.)

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::plan::Own;
use super::settings::Settings;
use crate::lease::map::Map;

/// What our files say of themselves: no other file is ever replaced or removed.
const OURS: &str = "sluice agent";

/// The half of a subnet that DC/OS gives the Mesos containerizer.
#[must_use]
pub fn mesos_half(subnet: IpNet) -> IpNet {
    IpNet::new(subnet.network(), (subnet.prefix_len() + 1).min(subnet.max_prefix_len())).unwrap_or(subnet)
}

/// The file of a network's configuration, and its text; `own` are this agent's subnets of it.
pub(super) fn configuration(settings: &Settings, map: &Map, own: &[Own<'_>]) -> Option<(PathBuf, String)> {
    let network = own.first()?.0;
    let ranges: Vec<Value> = own.iter().map(|(_, net)| json!([{"subnet": mesos_half(*net)}])).collect();
    let routes: Vec<Value> = own.iter().map(|(_, net)| json!({"dst": everything(net)})).collect();
    let mut ipam = json!({"type": "host-local", "ranges": ranges, "routes": routes});
    if let (Some(folder), Some(ipam)) = (&settings.cni_state, ipam.as_object_mut()) {
        ipam.insert("dataDir".to_owned(), json!(folder));
    }
    let mut text = json!({
        "cniVersion": "0.3.1",
        "name": network.name,
        "args": {"written_by": OURS},
        "ipMasq": false,
        "mtu": settings.mtu.unwrap_or(network.mtu).min(network.mtu),
        "dns": {"nameservers": map.dns},
        "ipam": ipam,
    });
    let plugin = match network.hub {
        true => json!({"type": "ptp"}),
        false => {
            json!({"type": "bridge", "bridge": settings.bridge(&network.name), "isGateway": true, "hairpinMode": true})
        }
    };
    if let (Value::Object(text), Value::Object(plugin)) = (&mut text, plugin) {
        text.extend(plugin);
    }
    let path = settings.cni_folder.join(format!("{}.conf", network.name));
    Some((path, format!("{text:#}\n")))
}

fn everything(like: &IpNet) -> &'static str {
    if like.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }
}

/// Writes a configuration, unless it stands there already. A reader never sees half of it.
pub(super) fn write(path: &Path, text: &str) -> Result<(), super::AgentError> {
    let failed = |source| super::AgentError::File { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(there) if there == text => return Ok(()),
        Ok(there) if !is_ours(&there) => return Err(super::AgentError::ForeignFile(path.to_owned())),
        _ => {}
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    // No name that a reader of the folder takes for a configuration.
    let beside = path.with_extension("sluice-new");
    let mut file = std::fs::File::create(&beside).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

/// Removes those of our configurations in the folder that `stays` does not name.
pub(super) fn remove_others(folder: &Path, stays: impl Fn(&Path) -> bool) -> Result<(), super::AgentError> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let half = path.extension().is_some_and(|ending| ending == "sluice-new");
        let ours = half || std::fs::read_to_string(&path).is_ok_and(|text| is_ours(&text));
        if ours && !stays(&path) {
            std::fs::remove_file(&path).map_err(|source| super::AgentError::File { path: path.clone(), source })?;
        }
    }
    Ok(())
}

fn is_ours(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value["args"]["written_by"] == OURS)
}
