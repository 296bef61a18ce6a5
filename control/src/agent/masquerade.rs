//! What leaves the overlay has the agent's own address: DC/OS's masquerade, in nftables, with what Sluice serves
//! excepted. A container's own address reaches Sluice, which decides by it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use ipnet::Ipv4Net;

use super::AgentError;
use super::plan::served;
use crate::lease::map::Map;

/// The table's name.
const TABLE: &str = "ip sluice_agent";

/// The whole table, for `nft -f`: replaced in one transaction, whatever was there.
pub(super) fn rules(map: &Map, own: impl Iterator<Item = Ipv4Net>) -> String {
    let own: Vec<String> = own.map(|net| net.to_string()).collect();
    let mut kept: Vec<Ipv4Net> = map.networks.iter().map(|network| network.subnet).chain(served(map)).collect();
    // A set of intervals takes none that another one holds.
    kept = Ipv4Net::aggregate(&kept);
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    format!(
        "table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n  chain postrouting {{\n    type nat hook postrouting priority srcnat; policy accept;\n    \
         ip saddr {{ {} }} ip daddr != {{ {} }} masquerade\n  }}\n}}\n",
        own.join(", "),
        kept.join(", ")
    )
}

/// Makes the kernel's table this one.
pub(super) fn apply(rules: &str) -> Result<(), AgentError> {
    nft(rules)
}

/// Removes it.
pub(super) fn remove() -> Result<(), AgentError> {
    nft(&format!("table {TABLE} {{}}\ndelete table {TABLE}\n"))
}

fn nft(text: &str) -> Result<(), AgentError> {
    let start = |source| AgentError::Nft(format!("cannot start `nft`, of Debian's package nftables: {source}"));
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that stopped reading says why.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(AgentError::Nft(format!("nft -f: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}
