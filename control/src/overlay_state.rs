//! `/overlay-master/state` of DC/OS's overlay module read into networks and agents (facts/dcos.md C).
//!
//! An agent counts once one of its overlays is `STATUS_OK` and has a VXLAN backend, as in dcos-net; what is not understood
//! of one agent or network is listed and spoils no other.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::Value;
use sluice_config::model::{Mac, OverlayAgent, OverlayNetwork};

use crate::marathon::text::readable;
use crate::rejected::Rejected;
use crate::view::OverlayView;

/// An answer that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Cut, empty, or something else.
    #[error("/overlay-master/state: not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// JSON, and no overlay in it.
    #[error("/overlay-master/state: it has neither \"network\" nor \"agents\"")]
    NotOverlay,
}

/// Reads the answer.
///
/// # Errors
/// When it says nothing at all.
pub fn read(body: &[u8]) -> Result<OverlayView, OverlayError> {
    let state: Value = serde_json::from_str(&readable(body))?;
    if state.get("network").is_none() && state.get("agents").is_none() {
        return Err(OverlayError::NotOverlay);
    }
    let mut view = OverlayView::default();
    for overlay in list(&state["network"]["overlays"]).iter().filter(|o| o["enabled"].as_bool() != Some(false)) {
        match network(overlay) {
            Some(network) => view.networks.push(network),
            None => reject(&mut view, "overlay", overlay, "it needs a name and an IPv4 subnet with prefix"),
        }
    }
    for value in list(&state["agents"]) {
        match agent(value) {
            Some(agent) if agent.subnets.is_empty() => {
                view.joining.insert(agent.ip);
            }
            Some(agent) => view.agents.push(agent),
            None => reject(&mut view, "agent", value, "it needs an IPv4 address"),
        }
    }
    view.networks.sort_by(|a, b| a.name.cmp(&b.name));
    view.agents.sort();
    view.rejected.sort();
    Ok(view)
}

fn reject(view: &mut OverlayView, what: &str, value: &Value, reason: &str) {
    view.rejected.push(Rejected::new("", what, &value.to_string(), reason));
}

fn network(overlay: &Value) -> Option<OverlayNetwork> {
    let subnet: Ipv4Net = text(&overlay["subnet"])?;
    Some(OverlayNetwork {
        name: overlay["name"].as_str()?.to_owned(),
        subnet: subnet.trunc(),
        prefix: u8::try_from(overlay["prefix"].as_u64()?).ok().filter(|p| *p <= 32)?,
        subnet6: text(&overlay["subnet6"]).map(|net: Ipv6Net| net.trunc()),
        prefix6: overlay["prefix6"].as_u64().and_then(|p| u8::try_from(p).ok()).filter(|p| *p <= 128).unwrap_or(80),
        ..OverlayNetwork::default()
    })
}

fn agent(agent: &Value) -> Option<OverlayAgent> {
    let ip: Ipv4Addr = text(&agent["ip"])?;
    let mut vtep = None;
    let (mut subnets, mut subnets6) = (BTreeMap::new(), BTreeMap::new());
    for overlay in list(&agent["overlays"]) {
        if let Some((name, subnet, place)) = joined(overlay) {
            vtep = vtep.or(Some(place));
            if let Some(subnet6) = text::<Ipv6Net>(&overlay["subnet6"]) {
                subnets6.insert(name.clone(), subnet6.trunc());
            }
            subnets.insert(name, subnet);
        }
    }
    let (vtep_ip, vtep_mac) = vtep.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, Mac::default()));
    Some(OverlayAgent { ip, vtep_ip, vtep_mac, subnets, subnets6 })
}

/// Name, the agent's subnet, and its VTEP, of an overlay that is up on the agent.
fn joined(overlay: &Value) -> Option<(String, Ipv4Net, (Ipv4Addr, Mac))> {
    if overlay["state"]["status"].as_str() != Some("STATUS_OK") {
        return None;
    }
    let vxlan = &overlay["backend"]["vxlan"];
    let vtep: Ipv4Net = text(&vxlan["vtep_ip"])?;
    let subnet: Ipv4Net = text(&overlay["subnet"])?;
    let name = overlay["info"]["name"].as_str()?.to_owned();
    Some((name, subnet.trunc(), (vtep.addr(), text(&vxlan["vtep_mac"])?)))
}

fn text<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{ClusterView, Event};

    fn state(status: &str) -> String {
        format!(
            r#"{{"network":{{"overlays":[{{"name":"dcos","subnet":"9.0.0.0/8","prefix":24}},{{"name":7}}]}},"agents":[
            {{"ip":"10.0.0.11","overlays":[{{"info":{{"name":"dcos"}},"subnet":"9.0.1.0/24","state":{{"status":"{status}"}},
              "backend":{{"vxlan":{{"vtep_ip":"44.128.0.2/20","vtep_mac":"70:b3:d5:80:00:02"}}}}}}]}},
            {{"ip":"not an address"}}]}}"#
        )
    }

    #[test]
    fn an_agent_that_has_joined_is_read_and_bad_ones_beside_it_are_listed() {
        let view = read(state("STATUS_OK").as_bytes()).unwrap();
        assert_eq!(view.networks.len(), 1);
        let [agent] = view.agents.as_slice() else { panic!("one agent, got {:?}", view.agents) };
        assert_eq!(agent.vtep_ip, Ipv4Addr::new(44, 128, 0, 2));
        assert_eq!(agent.vtep_mac.to_string(), "70:b3:d5:80:00:02");
        assert_eq!(agent.subnets["dcos"].to_string(), "9.0.1.0/24");
        assert_eq!(view.rejected.len(), 2);
    }

    #[test]
    fn an_agent_that_has_not_joined_is_no_peer() {
        let view = read(state("STATUS_CONFIGURING").as_bytes()).unwrap();
        assert!(view.agents.is_empty() && view.joining.contains(&Ipv4Addr::new(10, 0, 0, 11)));
    }

    #[test]
    fn a_master_that_knows_less_for_the_moment_takes_nothing_away() {
        let known = read(state("STATUS_OK").as_bytes()).unwrap();
        let mut view = ClusterView::default();
        let mut after = |said: &str| {
            view.apply(Event::Overlay(read(said.as_bytes()).unwrap()));
            (view.overlay.networks.len(), view.overlay.agents.len())
        };
        assert_eq!(after(&state("STATUS_OK")), (1, 1));
        assert_eq!(after(&state("STATUS_CONFIGURING")), (1, 1), "it joins again");
        assert_eq!(after(r#"{"network":{"overlays":[]},"agents":[]}"#), (1, 1), "it has just begun to lead");
        let other = state("STATUS_OK").replace("10.0.0.11", "10.0.0.12");
        assert_eq!(after(&other), (1, 1), "one is gone, and another is there");
        assert_ne!(view.overlay.agents, known.agents);
    }

    #[test]
    fn an_answer_that_says_nothing_is_an_error() {
        assert!(matches!(read(b""), Err(OverlayError::NotJson(_))));
        assert!(matches!(read(b"{}"), Err(OverlayError::NotOverlay)));
    }
}
