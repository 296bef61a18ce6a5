//! `[[overlay.agent]]`: agents' places in the overlay, ours among them if it is listed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::claims::{Claims, Owner};
use super::overlay::inside6;
use super::port::unique;
use super::{address, value};
use crate::diagnostic::Findings;
use crate::file;
use crate::model::{Mac, OverlayAgent, OverlayNetwork};
use crate::words::{nearest, short};

/// A part of a network with the key that it is under, whose it is, and where that is written (nowhere: an empty range).
type Part = (&'static str, IpNet, String, Range<usize>);

/// Agents with their index in the file.
pub(super) type Agents = Vec<(usize, OverlayAgent)>;

/// Our own record, if there is one, and the others', sorted.
pub(super) fn agents(
    file: &[Spanned<file::Agent>],
    vtep: Ipv4Net,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) -> (Option<OverlayAgent>, Agents) {
    let all: Agents =
        file.iter().enumerate().filter_map(|(n, at)| Some((n, agent(at, vtep, networks, found)?))).collect();
    let places = |n: usize| file.get(n).map(Spanned::get_ref);
    unique("ip", all.iter().filter_map(|(n, agent)| Some((agent.ip, places(*n)?.ip.as_ref()?.span()))), found);
    unique(
        "vtep_ip",
        all.iter().filter_map(|(n, agent)| Some((agent.vtep_ip, places(*n)?.vtep_ip.as_ref()?.span()))),
        found,
    );
    let (mut own, mut others): (Agents, Agents) = all.into_iter().partition(|(_, agent)| agent.vtep_ip == vtep.addr());
    others.sort_by(|(_, a), (_, b)| a.cmp(b));
    (own.pop().map(|(_, agent)| agent), others)
}

fn agent(
    at: &Spanned<file::Agent>,
    vtep: Ipv4Net,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) -> Option<OverlayAgent> {
    let (file, span) = (at.get_ref(), at.span());
    let ip = value::required("[[overlay.agent]]", "ip", &file.ip, &span, "\"10.0.0.11\"", found)
        .and_then(|ip| address::ipv4("ip", ip, found));
    let given = value::required("[[overlay.agent]]", "vtep_ip", &file.vtep_ip, &span, "\"44.128.0.1\"", found);
    let vtep_ip = given.and_then(|ip| address::ipv4("vtep_ip", ip, found));
    if let (Some(at), Some(ip)) = (given, vtep_ip) {
        in_vtep_subnet(ip, vtep, &at.span(), found);
    }
    let vtep_mac = file.vtep_mac.as_ref().map(|mac| value::mac("vtep_mac", mac, found));
    let subnets = file.subnets.iter().filter_map(|(name, part)| subnet(name, part, networks, found)).collect();
    let subnets6 = file.subnets6.iter().filter_map(|(name, part)| subnet6(name, part, networks, found)).collect();
    let (ip, vtep_ip) = (ip?, vtep_ip?);
    Some(OverlayAgent {
        ip,
        vtep_ip,
        vtep_mac: vtep_mac.unwrap_or_else(|| Some(Mac::of_vtep(vtep_ip)))?,
        subnets,
        subnets6,
    })
}

fn in_vtep_subnet(ip: Ipv4Addr, vtep: Ipv4Net, at: &Range<usize>, found: &mut Findings<'_>) {
    if !vtep.addr().is_unspecified() && !vtep.contains(&ip) {
        found.error(
            at,
            format!("`vtep_ip` has {ip}, which is not in the VTEP subnet"),
            format!("write an address in {}, or change `overlay.vtep`", vtep.trunc()),
        );
    }
}

fn subnet(
    name: &Spanned<String>,
    part: &Spanned<String>,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) -> Option<(String, Ipv4Net)> {
    let part_net = address::prefix4("subnets", part, found);
    let network = named("subnets", name, networks, found)?;
    let part_net = part_net?;
    if !network.subnet.contains(&part_net) && !network.subnet.addr().is_unspecified() {
        found.error(
            &part.span(),
            format!("`subnets` has {part_net}, which is not in the network `{}`", network.name),
            format!("write a part of {}", network.subnet),
        );
        return None;
    }
    Some((network.name.clone(), part_net))
}

fn subnet6(
    name: &Spanned<String>,
    part: &Spanned<String>,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) -> Option<(String, Ipv6Net)> {
    let network = named("subnets6", name, networks, found)?;
    Some((network.name.clone(), inside6("subnets6", part, network.subnet6, found)?))
}

/// The network that a key of `subnets` names.
fn named<'a>(
    key: &str,
    name: &Spanned<String>,
    networks: &'a [OverlayNetwork],
    found: &mut Findings<'_>,
) -> Option<&'a OverlayNetwork> {
    let network = networks.iter().find(|network| network.name == *name.get_ref());
    if network.is_none() {
        let remedy = match nearest(name.get_ref(), networks.iter().map(|network| network.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add an [[overlay.network]] of that name".to_owned(),
        };
        found.error(
            &name.span(),
            format!("`{key}` has \"{}\", and no [[overlay.network]] has that name", short(name.get_ref())),
            remedy,
        );
    }
    network
}

/// Others' underlay addresses are theirs.
pub(super) fn claim(file: &[Spanned<file::Agent>], agents: &Agents, claims: &mut Claims) {
    for (n, agent) in agents {
        if let Some(at) = file.get(*n).and_then(|at| at.get_ref().ip.as_ref()) {
            claims.once(Owner::Agent, agent.ip, "overlay.agent.ip", &at.span());
        }
    }
}

/// Parts of one network must not overlap, ours included: prefixes are nested or apart, so in order of their first
/// addresses each need only be compared with the one before.
pub(super) fn apart(
    file: &[Spanned<file::Agent>],
    agents: &Agents,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) {
    let mut parts: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
    for (n, agent) in agents {
        let Some(written) = file.get(*n).map(Spanned::get_ref) else { continue };
        let place = |parts: &BTreeMap<Spanned<String>, Spanned<String>>, network: &str| {
            parts.iter().find(|(name, _)| name.get_ref() == network).map(|(_, part)| part.span()).unwrap_or_default()
        };
        let whose = || format!("agent {}", agent.ip);
        for (network, part) in &agent.subnets {
            let at = place(&written.subnets, network);
            parts.entry(network).or_default().push(("subnets", (*part).into(), whose(), at));
        }
        for (network, part) in &agent.subnets6 {
            let at = place(&written.subnets6, network);
            parts.entry(network).or_default().push(("subnets6", (*part).into(), whose(), at));
        }
    }
    for network in networks {
        let mut list = parts.remove(network.name.as_str()).unwrap_or_default();
        let own = [network.own.map(IpNet::V4), network.own6.map(IpNet::V6)];
        list.extend(own.into_iter().flatten().map(|own| ("own", own, "this node".to_owned(), 0..0)));
        list.sort_by_key(|(_, part, _, at)| (part.network(), part.prefix_len(), at.start));
        report(&list, found);
    }
}

fn report(sorted: &[Part], found: &mut Findings<'_>) {
    let mut widest: Option<&Part> = None;
    for next in sorted {
        match widest {
            Some(before) if before.1.contains(&next.1) => {
                let (blamed, other) = if next.3.is_empty() { (before, next) } else { (next, before) };
                let sentence = format!("`{}` has {}, which overlaps {} of {}", blamed.0, blamed.1, other.1, other.2);
                found.error(&blamed.3, sentence, "give each agent a part of its own");
            }
            _ => widest = Some(next),
        }
    }
}
