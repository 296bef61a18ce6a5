//! Containers on an agent that `sluice agent` sets up: attached by the CNI plugins, as Mesos does it, by the configuration
//! that the agent has written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::Value;

use crate::shell::{ShellError, run_with_input};
use crate::state::{LabState, StateError};

/// Where Debian's `containernetworking-plugins` has them.
const PLUGINS: &str = "/usr/lib/cni";

/// Attaches a container's namespace to a network; its address, and where the network has IPv6 that address too.
pub(super) fn add(
    state: &LabState,
    agent: &str,
    network: &str,
    role: &str,
    namespace: &str,
) -> Result<(Ipv4Addr, Option<Ipv6Addr>), StateError> {
    let said = plugin(state, agent, network, role, namespace, "ADD")?;
    let value: Value = serde_json::from_str(&said).unwrap_or_default();
    let all = value["ips"].as_array().into_iter().flatten();
    let all: Vec<IpAddr> = all.filter_map(|ip| Some(ip["address"].as_str()?.parse::<IpNet>().ok()?.addr())).collect();
    let four = all.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
    let six = all.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
    let none = || ShellError::Failed { line: "CNI ADD".to_owned(), status: "no address".to_owned(), said };
    Ok((four.ok_or_else(none)?, six))
}

/// Detaches it, which gives its address back.
pub(super) fn delete(state: &LabState, agent: &str, network: &str, role: &str) -> Result<(), StateError> {
    plugin(state, agent, network, role, &state.namespace(role), "DEL").map(drop)
}

fn plugin(
    state: &LabState,
    agent: &str,
    network: &str,
    role: &str,
    namespace: &str,
    command: &str,
) -> Result<String, StateError> {
    let path: PathBuf = state.file(&format!("cni-{agent}")).join(format!("{network}.conf"));
    let text = std::fs::read_to_string(&path).map_err(|source| StateError::File { path: path.clone(), source })?;
    let configuration: Value = serde_json::from_str(&text).unwrap_or_default();
    let kind = configuration["type"].as_str().unwrap_or("bridge");
    let net = format!("--net=/run/netns/{}", state.namespace(agent));
    let variables = [
        format!("CNI_COMMAND={command}"),
        format!("CNI_CONTAINERID={}", state.namespace(role)),
        format!("CNI_NETNS=/run/netns/{namespace}"),
        "CNI_IFNAME=eth0".to_owned(),
        format!("CNI_PATH={PLUGINS}"),
    ];
    let program = format!("{PLUGINS}/{kind}");
    let mut words = vec![net.as_str(), "--", "env"];
    words.extend(variables.iter().map(String::as_str));
    words.push(&program);
    Ok(run_with_input("nsenter", &words, &text)?)
}
