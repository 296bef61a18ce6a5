//! What leaves the overlay has the agent's own address: DC/OS's masquerade, in nftables, with what Sluice serves
//! excepted. A container's own address reaches Sluice, which decides by it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use ipnet::IpNet;

use super::plan::{Own, served};
use super::{AgentError, guard};
use crate::lease::map::Map;

/// Our table's name, in the families `ip` and `ip6`.
const TABLE: &str = "sluice_agent";

/// The whole tables, for `nft -f`: replaced in one transaction, whatever was there.
pub(super) fn rules(map: &Map, own: &[Own<'_>]) -> String {
    let networks = map.networks.iter().flat_map(|n| [Some(IpNet::V4(n.subnet)), n.subnet6.map(IpNet::V6)]);
    let kept: Vec<IpNet> = networks.flatten().chain(served(map)).collect();
    let own: Vec<IpNet> = own.iter().map(|(_, net)| *net).collect();
    let [four, six] = [true, false].map(|four| {
        let of = |nets: &[IpNet]| nets.iter().copied().filter(|net| net.addr().is_ipv4() == four).collect::<Vec<_>>();
        table(if four { "ip" } else { "ip6" }, &of(&own), &of(&kept))
    });
    four + &six
}

fn table(family: &str, own: &[IpNet], kept: &[IpNet]) -> String {
    let empty = format!("table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n");
    if own.is_empty() {
        return empty;
    }
    // A set of intervals takes none that another one holds.
    let [own, kept] = [own, kept].map(|nets| {
        let all: Vec<String> = IpNet::aggregate(&nets.to_vec()).iter().map(ToString::to_string).collect();
        all.join(", ")
    });
    format!(
        "{empty}table {family} {TABLE} {{\n  chain postrouting {{\n    type nat hook postrouting priority srcnat; policy accept;\n    \
         {family} saddr {{ {own} }} {family} daddr != {{ {kept} }} masquerade\n  }}\n}}\n"
    )
}

/// Makes the kernel's tables these.
pub(super) fn apply(rules: &str) -> Result<(), AgentError> {
    nft(rules)
}

/// Removes all of an agent's.
pub(super) fn remove() -> Result<(), AgentError> {
    nft(&(["ip", "ip6"].map(|family| table(family, &[], &[])).concat() + &guard::none()))
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
