//! `[overlay]`: the VTEP, its networks, the agents known from the file, and our own part of each network.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::claims::{Claims, Owner};
use super::port::unique;
use super::{address, agent, value};
use crate::diagnostic::Findings;
use crate::file;
use crate::model::{Gateway, Isolation, LeaseDesk, Mac, NetworkMode, Overlay, OverlayAgent, OverlayNetwork, Port, Vni};
use crate::words::short;

/// Each network is a claim and a policy table.
const MOST_NETWORKS: usize = 256;
const MODE: &[(&str, NetworkMode)] = &[("direct", NetworkMode::Direct), ("hub", NetworkMode::Hub)];
const ISOLATION: &[(&str, Isolation)] = &[("enforced", Isolation::Enforced), ("open", Isolation::Open)];
const GATEWAYS: &[(&str, Gateway)] =
    &[("off", Gateway::Off), ("routed", Gateway::Routed), ("masqueraded", Gateway::Masqueraded)];

/// Names that DC/OS's overlay module keeps (facts: Mesos overlay module).
const RESERVED: [&str; 4] = ["host", "bridge", "default", "none"];

/// What stands for a value that was wrong and reported.
const NOWHERE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 32);
/// Prefix length of agents' IPv6 parts in DC/OS.
const PREFIX6: u8 = 80;

pub(super) fn overlay(
    at: &Spanned<file::Overlay>,
    ports: &[Port],
    snat: &[Spanned<String>],
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Overlay {
    let (file, span) = (at.get_ref(), at.span());
    let vtep = vtep(file, &span, claims, found);
    let mut networks = networks(&file.network, claims, found);
    let (own, agents) = agent::agents(&file.agent, vtep, &networks, found);
    own_parts(file, &mut networks, own.as_ref(), snat);
    agent::apart(&file.agent, &agents, &networks, found);
    agent::claim(&file.agent, &agents, claims);
    snat_inside(&networks, snat, found);
    snat6_inside(&networks, snat, found);
    underlay_port(ports, &span, found);
    let underlay = underlay(file, own.as_ref(), claims, found);
    if underlay.is_none() && file.underlay.is_none() {
        first_of_many(ports, &span, found);
    }
    let vtep_mac = file.vtep_mac.as_ref().and_then(|mac| value::mac("vtep_mac", mac, found));
    let recorded_mac = own.as_ref().map_or_else(|| Mac::of_vtep(vtep.addr()), |own| own.vtep_mac);
    Overlay {
        vni: vni(&file.vni, found).unwrap_or(Vni::DCOS),
        udp_port: value::number("port", &file.port, 64_000, 1..=65_535, found),
        vtep,
        vtep_mac: vtep_mac.unwrap_or(recorded_mac),
        underlay,
        mtu: file.mtu.as_ref().and_then(|mtu| value::within("mtu", mtu, 552..=15_950, found)),
        leases: leases(file, found),
        gateway: value::choice("gateway", &file.gateway, Gateway::Off, GATEWAYS, found),
        networks,
        agents: agents.into_iter().map(|(_, agent)| agent).collect(),
    }
}

fn leases(file: &file::Overlay, found: &mut Findings<'_>) -> Option<LeaseDesk> {
    let gives = value::flag(&file.leases, false);
    for (key, at) in [("lease_store", &file.lease_store), ("token_file", &file.token_file)] {
        if let (Some(at), false) = (at, gives) {
            found.error(
                &at.span(),
                format!("`{key}` is for leases, and none are given here"),
                "add `leases = true`, or remove the key",
            );
        }
    }
    let mut path = |key, value, what| value::filled(key, value, what, found).map(PathBuf::from);
    let store = path("lease_store", &file.lease_store, "the path of a file in a folder that exists");
    let token_file = path("token_file", &file.token_file, "the path of a file of one line");
    gives.then_some(LeaseDesk { store, token_file })
}

fn vni(given: &file::Value<i64>, found: &mut Findings<'_>) -> Option<Vni> {
    value::within("vni", given.as_ref()?, 1..=0xff_ffff, found).and_then(Vni::new)
}

fn vtep(file: &file::Overlay, span: &Range<usize>, claims: &mut Claims, found: &mut Findings<'_>) -> Ipv4Net {
    let Some(given) = value::required("[overlay]", "vtep", &file.vtep, span, "\"44.128.0.9/20\"", found) else {
        return NOWHERE;
    };
    let Some(vtep) = address::interface4("vtep", given, found) else { return NOWHERE };
    claims.net(Owner::VtepNet, vtep, "overlay.vtep", &given.span());
    claims.host(Owner::OwnVtep, vtep.addr(), "overlay.vtep", &given.span());
    vtep
}

/// What the file says, or our own record among the agents.
fn underlay(
    file: &file::Overlay,
    own: Option<&OverlayAgent>,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Option<Ipv4Addr> {
    let Some(at) = file.underlay.as_ref() else {
        let ip = own?.ip;
        let mut places = file.agent.iter().filter_map(|agent| agent.get_ref().ip.as_ref());
        let place = places.find(|at| at.get_ref().parse() == Ok(ip)).map(Spanned::span);
        claims.host(Owner::Underlay, ip, "overlay.agent.ip", &place.unwrap_or_default());
        return Some(ip);
    };
    let ip = address::ipv4("underlay", at, found)?;
    claims.host(Owner::Underlay, ip, "overlay.underlay", &at.span());
    Some(ip)
}

/// Agents know the VTEP by one underlay address. Which one they know the file alone can say where there are several.
fn first_of_many(ports: &[Port], span: &Range<usize>, found: &mut Findings<'_>) {
    let mut underlay = ports.iter().filter(|port| port.role.is_underlay());
    let (Some(first), 1..) = (underlay.next(), underlay.count()) else { return };
    let address = first.addresses.first().map_or_else(|| "the first".to_owned(), |net| net.addr().to_string());
    let sentence = format!(
        "several ports face the agents, and there is no `underlay`: the VTEP has {address} of port `{}`",
        first.name
    );
    found.warning(
        span,
        sentence,
        "add `underlay = ` and the address that agents know this node by, or give the other ports `role = \"client\"`",
    );
}

fn underlay_port(ports: &[Port], span: &Range<usize>, found: &mut Findings<'_>) {
    if !ports.is_empty() && !ports.iter().any(|port| port.role.is_underlay()) {
        found.error(
            span,
            "there is an overlay, and every port has `role = \"client\"`",
            "give the port that faces the agents `role = \"underlay\"` or \"both\"",
        );
    }
}

fn networks(file: &[Spanned<file::Network>], claims: &mut Claims, found: &mut Findings<'_>) -> Vec<OverlayNetwork> {
    if let Some(at) = file.get(MOST_NETWORKS) {
        found.error(&at.span(), format!("{} networks", file.len()), format!("write at most {MOST_NETWORKS}"));
    }
    let all: Vec<_> =
        file.iter().take(MOST_NETWORKS).enumerate().map(|(n, at)| network(n, at, claims, found)).collect();
    unique(
        "name",
        file.iter().zip(&all).map(|(at, n)| (n.name.as_str(), value::place(&at.get_ref().name, &at.span()))),
        found,
    );
    all
}

fn network(
    number: usize,
    at: &Spanned<file::Network>,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> OverlayNetwork {
    let (file, span) = (at.get_ref(), at.span());
    let given = value::required("[[overlay.network]]", "subnet", &file.subnet, &span, "\"9.0.0.0/8\"", found);
    let subnet = given.and_then(|subnet| address::prefix4("subnet", subnet, found));
    if let (Some(at), Some(subnet)) = (given, subnet) {
        claims.net(Owner::Network(number), subnet, "overlay.network.subnet", &at.span());
    }
    let subnet = subnet.unwrap_or(NOWHERE);
    let underlay_allow =
        value::each(&file.underlay_allow).iter().filter_map(|p| address::prefix("underlay_allow", p, found)).collect();
    let subnet6 = file.subnet6.as_ref().and_then(|subnet| prefix6("subnet6", subnet, found));
    if let (Some(at), Some(subnet)) = (&file.subnet6, subnet6) {
        claims.net(Owner::Network(number), subnet, "overlay.network.subnet6", &at.span());
    }
    let least_mtu = if subnet6.is_some() { 1280 } else { 552 };
    OverlayNetwork {
        name: name(file, &span, found),
        subnet,
        prefix: prefix(file, subnet, &span, found),
        own: file.own.as_ref().and_then(|own| inside(own, subnet, found)),
        subnet6,
        prefix6: part6(file, subnet6, found),
        own6: file.own6.as_ref().and_then(|own| inside6("own6", own, subnet6, found)),
        vni: vni(&file.vni, found),
        udp_port: file.port.as_ref().and_then(|port| value::within("port", port, 1..=65_535, found)),
        mtu: file.mtu.as_ref().and_then(|mtu| value::within("mtu", mtu, least_mtu..=15_950, found)),
        mode: value::choice("mode", &file.mode, NetworkMode::Direct, MODE, found),
        isolation: value::choice("isolation", &file.isolation, Isolation::Enforced, ISOLATION, found),
        underlay_allow,
    }
}

fn name(file: &file::Network, span: &Range<usize>, found: &mut Findings<'_>) -> String {
    let Some(name) = value::required("[[overlay.network]]", "name", &file.name, span, "\"dcos\"", found) else {
        return String::new();
    };
    let given = name.get_ref();
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if given.is_empty() {
        found.error(&name.span(), "`name` is empty", "write the network's name as apps say it, for example \"dcos\"");
    } else if RESERVED.contains(&given.as_str()) {
        found.error(
            &name.span(),
            format!("`name` is \"{given}\", which is not an overlay network in DC/OS"),
            "write another, for example \"dcos\"",
        );
    } else if given.len() > 63 || !given.chars().all(good) {
        found.error(
            &name.span(),
            format!("`name` is \"{}\", which is not a plain word", short(given)),
            "write at most 63 letters, digits, `-`, `_` or `.`",
        );
    }
    given.clone()
}

fn prefix(file: &file::Network, subnet: Ipv4Net, span: &Range<usize>, found: &mut Findings<'_>) -> u8 {
    let bounds = i64::from(subnet.prefix_len())..=30;
    if subnet == NOWHERE {
        return 24;
    }
    if file.prefix.is_none() && !bounds.contains(&24) {
        let at = value::place(&file.subnet, span);
        found.error(
            &at,
            format!("`subnet` is {subnet}, and agents' parts are /24 by default"),
            format!("add `prefix = ` and {} to 30, or write a larger subnet", subnet.prefix_len()),
        );
    }
    value::number("prefix", &file.prefix, 24, bounds, found)
}

/// Prefix length of agents' parts of an IPv6 network.
fn part6(file: &file::Network, subnet: Option<Ipv6Net>, found: &mut Findings<'_>) -> u8 {
    let least = subnet.map_or(0, |subnet| subnet.prefix_len());
    value::number("prefix6", &file.prefix6, PREFIX6.max(least), i64::from(least)..=126, found)
}

/// An IPv6 prefix.
pub(super) fn prefix6(key: &str, text: &Spanned<String>, found: &mut Findings<'_>) -> Option<Ipv6Net> {
    match address::prefix(key, text, found)? {
        IpNet::V6(net) => Some(net),
        IpNet::V4(net) => {
            found.error(
                &text.span(),
                format!("`{key}` has {net}, which is not IPv6"),
                "write an IPv6 prefix, for example \"fd01:b::/64\"",
            );
            None
        }
    }
}

/// An IPv6 prefix inside the network's.
pub(super) fn inside6(
    key: &str,
    text: &Spanned<String>,
    subnet: Option<Ipv6Net>,
    found: &mut Findings<'_>,
) -> Option<Ipv6Net> {
    let part = prefix6(key, text, found)?;
    let good = subnet.is_some_and(|subnet| subnet.contains(&part));
    if !good {
        let sentence = format!("`{key}` has {part}, which is not inside the network's `subnet6`");
        let remedy = subnet.map_or_else(|| "add `subnet6`".to_owned(), |subnet| format!("write a part of {subnet}"));
        found.error(&text.span(), sentence, remedy);
    }
    good.then_some(part)
}

/// A prefix inside the network.
pub(super) fn inside(text: &Spanned<String>, subnet: Ipv4Net, found: &mut Findings<'_>) -> Option<Ipv4Net> {
    let part = address::prefix4("own", text, found)?;
    if subnet != NOWHERE && !subnet.contains(&part) {
        found.error(
            &text.span(),
            format!("`own` has {part}, which is not inside `subnet`"),
            format!("write a part of {subnet}"),
        );
        return None;
    }
    Some(part)
}

/// Our own part where `own` does not say it: from our own record among the agents, else the part that holds the first
/// SNAT address in the network.
fn own_parts(
    file: &file::Overlay,
    networks: &mut [OverlayNetwork],
    own: Option<&OverlayAgent>,
    snat: &[Spanned<String>],
) {
    for (network, at) in networks.iter_mut().zip(&file.network) {
        if at.get_ref().own.is_none() {
            let recorded = own.and_then(|own| own.subnets.get(&network.name)).copied();
            network.own = recorded.or_else(|| part_of_snat(network, snat));
        }
        if at.get_ref().own6.is_none() {
            let recorded = own.and_then(|own| own.subnets6.get(&network.name)).copied();
            let of_snat = || network.subnet6.and_then(|subnet| part_of_snat6(subnet, network.prefix6, snat));
            network.own6 = recorded.or_else(of_snat);
        }
    }
}

fn part_of_snat(network: &OverlayNetwork, snat: &[Spanned<String>]) -> Option<Ipv4Net> {
    let ips = snat.iter().filter_map(|ip| ip.get_ref().parse::<Ipv4Addr>().ok());
    let first = ips.into_iter().find(|ip| network.subnet.contains(ip))?;
    Ipv4Net::new(first, network.prefix).ok().map(|net| net.trunc())
}

fn part_of_snat6(subnet: Ipv6Net, prefix: u8, snat: &[Spanned<String>]) -> Option<Ipv6Net> {
    let mut ips = snat.iter().filter_map(|ip| ip.get_ref().parse::<Ipv6Addr>().ok());
    let first = ips.find(|ip| subnet.contains(ip))?;
    Ipv6Net::new(first, prefix).ok().map(|net| net.trunc())
}

/// As [`snat_inside`].
fn snat6_inside(networks: &[OverlayNetwork], snat: &[Spanned<String>], found: &mut Findings<'_>) {
    for text in snat {
        let Ok(ip) = text.get_ref().parse::<Ipv6Addr>() else { continue };
        if !networks.iter().any(|network| network.own6.is_some_and(|own| own.contains(&ip))) {
            found.error(
                &text.span(),
                format!("`snat.overlay` has {ip}, which is in our own IPv6 part of no network"),
                "write an address inside `own6` of an [[overlay.network]]",
            );
        }
    }
}

/// Agents send replies to a SNAT address by their route to our part; elsewhere they are lost.
fn snat_inside(networks: &[OverlayNetwork], snat: &[Spanned<String>], found: &mut Findings<'_>) {
    for text in snat {
        let Ok(ip) = text.get_ref().parse::<Ipv4Addr>() else { continue };
        if networks.iter().any(|network| network.own.is_some_and(|own| own.contains(&ip))) {
            continue;
        }
        let network = networks.iter().find(|network| network.subnet.contains(&ip));
        let (sentence, remedy) = match network.and_then(|network| network.own) {
            Some(own) => (
                format!("`snat.overlay` has {ip}, which is not in our own part of the network"),
                format!("write an address in {own}, or change `own`"),
            ),
            None => (
                format!("`snat.overlay` has {ip}, which is in no overlay network"),
                "write an address inside `own` of an [[overlay.network]]".to_owned(),
            ),
        };
        found.error(&text.span(), sentence, remedy);
    }
}
