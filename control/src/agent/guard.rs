//! What keeps a hub network's groups where routes do not, in nftables. Rules of routing go by a packet's source, which a
//! container with raw sockets chooses; nobody else on the agent is a container of a network; and what is sent to an
//! address of the agent's own, its VXLAN socket included, is the kernel's before any rule is asked.
//!
//! So what reaches a hub container comes out of a tunnel, from the agent itself, in answer to what it began, or by a mapped
//! host port; from a container's link under that container's address alone; and tunnels are other members' alone.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::plan::{Device, Own};
use super::settings::Settings;
use crate::lease::map::Map;

/// Our table's name, in the families `ip` and `ip6`.
const TABLE: &str = "sluice_agent_guard";

/// The whole tables, for `nft -f`: replaced in one transaction; empty without a hub network.
pub(super) fn rules(settings: &Settings, devices: &[Device], map: &Map, own: &[Own<'_>]) -> String {
    let hub = |four: bool| {
        let nets = own.iter().filter(|(network, net)| network.hub && net.addr().is_ipv4() == four);
        nets.map(|(_, net)| *net).collect::<Vec<IpNet>>()
    };
    let bridges: BTreeSet<String> =
        own.iter().filter(|(network, _)| !network.hub).map(|(network, _)| settings.bridge(&network.name)).collect();
    let links: Vec<String> = ["veth*".to_owned()].into_iter().chain(bridges).collect();
    let tunnels: Vec<String> = devices.iter().map(|device| quoted(&device.name)).collect();
    let input = input(devices, map, &links, &tunnels);
    table("ip", &hub(true), &links, &tunnels, &input) + &table("ip6", &hub(false), &links, &tunnels, "")
}

/// No tables any more.
pub(super) fn none() -> String {
    ["ip", "ip6"].map(empty).concat()
}

fn empty(family: &str) -> String {
    format!("table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n")
}

fn table(family: &str, hub: &[IpNet], links: &[String], tunnels: &[String], input: &str) -> String {
    let empty = empty(family);
    if hub.is_empty() {
        return empty;
    }
    let hub = IpNet::aggregate(&hub.to_vec()).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // Elsewhere a container may send as a VIP that it has (the DSR modes).
    let spoofed = |link: &String| {
        format!("    iifname {} {family} daddr {{ {hub} }} fib saddr . iif oif missing counter drop\n", quoted(link))
    };
    let spoofed: String = links.iter().map(spoofed).collect();
    let tunnels = tunnels.join(", ");
    format!(
        "{empty}table {family} {TABLE} {{\n{input}  chain forward {{\n    type filter hook forward priority filter; policy accept;\n\
         {spoofed}    iifname {{ {tunnels} }} accept\n    oifname {{ {tunnels} }} accept\n    ct state established,related accept\n    ct status dnat accept\n    \
         {family} daddr {{ {hub} }} counter drop\n  }}\n}}\n"
    )
}

/// What the sockets of the VXLAN devices take: a container that spoke to one could have anything delivered as if by Sluice.
fn input(devices: &[Device], map: &Map, links: &[String], tunnels: &[String]) -> String {
    let all = |of: fn(&Device) -> u32| {
        let numbers: BTreeSet<u32> = devices.iter().map(of).collect();
        numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    // The VNI (RFC 7348 section 5) is 12 octets behind the start of the UDP header. Others may use the port as well.
    let ours = format!("udp dport {{ {} }} @th,96,24 {{ {} }}", all(|d| d.port.into()), all(|d| d.vni));
    let members = map.members.iter().map(|member| member.ip.to_string()).collect::<Vec<_>>().join(", ");
    let links: String =
        links.iter().map(|link| format!("    {ours} iifname {} counter drop\n", quoted(link))).collect();
    let tunnels = tunnels.join(", ");
    format!(
        "  chain input {{\n    type filter hook input priority filter; policy accept;\n    \
         {ours} ip saddr != {{ {members} }} counter drop\n    {ours} iifname {{ {tunnels} }} counter drop\n{links}  }}\n"
    )
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}
