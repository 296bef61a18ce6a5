//! `[[neighbour]]` and `[[route]]`: who is on which port.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::claims::{Claims, Owner};
use super::port::unique;
use super::{address, value};
use crate::diagnostic::Findings;
use crate::file;
use crate::model::{Neighbour, Port, Route};
use crate::words::{nearest, short};

pub(super) fn neighbours(
    file: &[Spanned<file::Neighbour>],
    ports: &[Port],
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<Neighbour> {
    let all: Vec<_> = file
        .iter()
        .filter_map(|at| Some((neighbour(at, ports, found)?, value::place(&at.get_ref().ip, &at.span()))))
        .collect();
    let name =
        |n: &Neighbour| format!("{} on port `{}`", n.ip, ports.get(n.port).map_or("", |port| port.name.as_str()));
    unique("ip", all.iter().map(|(n, at)| (name(n), at.clone())), found);
    for (neighbour, at) in &all {
        if !address::is_link_local(neighbour.ip) {
            claims.once(Owner::Neighbour, neighbour.ip, "neighbour.ip", at);
        }
    }
    all.into_iter().map(|(neighbour, _)| neighbour).collect()
}

fn neighbour(at: &Spanned<file::Neighbour>, ports: &[Port], found: &mut Findings<'_>) -> Option<Neighbour> {
    let (file, span) = (at.get_ref(), at.span());
    let ip = value::required("[[neighbour]]", "ip", &file.ip, &span, "\"192.0.2.1\"", found)
        .and_then(|ip| address::ip("ip", ip, found));
    let mac = value::required("[[neighbour]]", "mac", &file.mac, &span, "\"02:00:00:00:00:01\"", found)
        .and_then(|mac| value::mac("mac", mac, found));
    let port = port(&file.port, &span, ports, found);
    Some(Neighbour { ip: ip?, mac: mac?, port: port? })
}

pub(super) fn routes(
    file: &[Spanned<file::Route>],
    ports: &[Port],
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<Route> {
    let read = |at: &Spanned<file::Route>, found: &mut Findings<'_>| {
        let (file, span) = (at.get_ref(), at.span());
        Some((route(at, ports, found)?, value::place(&file.prefix, &span), value::place(&file.via, &span)))
    };
    let all: Vec<_> = file.iter().filter_map(|at| read(at, found)).collect();
    unique("prefix", all.iter().map(|(route, at, _)| (route.prefix, at.clone())), found);
    let on_link: Vec<(usize, IpNet)> =
        all.iter().filter(|(route, ..)| route.via.is_none()).map(|(route, ..)| (route.port, route.prefix)).collect();
    for (route, _, at) in &all {
        let Some(via) = route.via else { continue };
        // A link-local gateway is on the link that the port is on.
        if via.is_ipv6() && address::is_link_local(via) {
            continue;
        }
        claims.once(Owner::Gateway, via, "route.via", at);
        if let Some(port) = ports.get(route.port) {
            reachable(via, port, on_link.iter().filter(|(p, _)| *p == route.port).map(|(_, net)| net), at, found);
        }
    }
    all.into_iter().map(|(route, ..)| route).collect()
}

/// A gateway is on link: in a subnet of its port, or in a route of that port without `via`. Where the file does not say
/// the port's addresses they are the kernel's, and the kernel takes no route whose gateway is not on link.
fn reachable<'a>(
    via: IpAddr,
    port: &Port,
    mut on_link: impl Iterator<Item = &'a IpNet>,
    at: &Range<usize>,
    found: &mut Findings<'_>,
) {
    let subnets: Vec<IpNet> = match via {
        IpAddr::V4(_) => port.addresses.iter().map(|net| IpNet::V4(net.trunc())).collect(),
        IpAddr::V6(_) => port.addresses6.iter().map(|net| IpNet::V6(net.trunc())).collect(),
    };
    let unsaid = port.addresses.is_empty() && port.addresses6.is_empty();
    if unsaid || subnets.iter().any(|net| net.contains(&via)) || on_link.any(|net| net.contains(&via)) {
        return;
    }
    let remedy = match subnets.iter().map(IpNet::to_string).collect::<Vec<_>>() {
        none if none.is_empty() => {
            format!("give port `{}` an address of that family, or write the port that it is on", port.name)
        }
        subnets => format!("write an address in {}, or the port that it is on", subnets.join(" or ")),
    };
    found.error(at, format!("`via` has {via}, which is not on link on port `{}`", port.name), remedy);
}

fn route(at: &Spanned<file::Route>, ports: &[Port], found: &mut Findings<'_>) -> Option<Route> {
    let (file, span) = (at.get_ref(), at.span());
    let prefix = value::required("[[route]]", "prefix", &file.prefix, &span, "\"10.0.0.0/8\"", found)
        .and_then(|prefix| address::prefix("prefix", prefix, found));
    let via = file.via.as_ref().map(|via| address::ip("via", via, found));
    let port = port(&file.port, &span, ports, found);
    let via = match via {
        None => None,
        Some(via) => Some(via?),
    };
    let prefix = prefix?;
    if let (Some(at), Some(ip)) = (&file.via, via.filter(|via| via.is_ipv4() != prefix.addr().is_ipv4())) {
        found.error(
            &at.span(),
            format!("`via` has {ip}, and `prefix` is of the other family"),
            format!("write the gateway's {} address", if ip.is_ipv4() { "IPv6" } else { "IPv4" }),
        );
        return None;
    }
    Some(Route { prefix, via, port: port? })
}

/// The index of the named port; the only one where none is named.
fn port(name: &file::Value<String>, at: &Range<usize>, ports: &[Port], found: &mut Findings<'_>) -> Option<usize> {
    let names = || ports.iter().map(|port| port.name.as_str());
    let Some(name) = name else {
        if ports.len() != 1 && found.is_complete(at) {
            found.error(
                at,
                format!("`port` is missing, and there are {} ports", ports.len()),
                "add `port = ` and the `name` of a [[port]] below",
            );
        }
        return (ports.len() == 1).then_some(0);
    };
    let index = names().position(|known| known == name.get_ref());
    if index.is_none() {
        let list = || names().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(" or ");
        let remedy = match nearest(name.get_ref(), names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if ports.is_empty() => "add a [[port]] of that name".to_owned(),
            None => format!("write {}", list()),
        };
        found.error(
            &name.span(),
            format!("`port` is \"{}\", and no [[port]] has that name", short(name.get_ref())),
            remedy,
        );
    }
    index
}
