//! `[[service]]`: static services and their backends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::{health, value};
use crate::diagnostic::Findings;
use crate::file;
use crate::model::{Backend, HealthCheck, Limits, OverlayNetwork, Protocol, Service, VipKey};
use crate::words::{counted, nearest, short};

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

pub(super) fn services(
    file: &[Spanned<file::Service>],
    networks: &[OverlayNetwork],
    (limits, health): (&Limits, &HealthCheck),
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<Service> {
    limit(file, limits, found);
    let mut seen: BTreeMap<VipKey, usize> = BTreeMap::new();
    let mut ips = BTreeSet::new();
    let mut all = Vec::new();
    for at in file {
        let Some((service, place)) = service(at, networks, health, claims, found) else { continue };
        if let (IpAddr::V4(ip), true) = (service.key.ip, ips.insert(service.key.ip)) {
            claims.host(Owner::Vip, ip, "service.vip", &place);
        }
        let line = found.source.line(place.start);
        if let Some(first) = seen.insert(service.key, line) {
            found.error(
                &place,
                format!("the service {} is there twice", service.key),
                format!("line {first} has it already, put all backends there"),
            );
        }
        all.push(service);
    }
    all.sort_by_key(|service| service.key);
    all
}

fn limit(file: &[Spanned<file::Service>], limits: &Limits, found: &mut Findings<'_>) {
    if let Some(at) = file.get(limits.services) {
        found.error(
            &at.span(),
            format!("{} in all", counted(file.len(), "service")),
            format!("`limits.services` allows {}, raise it", limits.services),
        );
    }
    let backends: usize = file.iter().map(|at| at.get_ref().backends.len()).sum();
    if let (Some(last), true) = (file.last(), backends > limits.backends) {
        found.error(
            &last.span(),
            format!("{} in all", counted(backends, "backend")),
            format!("`limits.backends` allows {}, raise it", limits.backends),
        );
    }
}

fn service(
    at: &Spanned<file::Service>,
    networks: &[OverlayNetwork],
    section: &HealthCheck,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Option<(Service, Range<usize>)> {
    let (file, span) = (at.get_ref(), at.span());
    let protocol = value::choice("protocol", &file.protocol, Protocol::Tcp, PROTOCOLS, found);
    let health = health::of_service(file.health.as_ref(), protocol, section, found);
    let mut backends: Vec<_> = file.backends.iter().filter_map(|at| backend(at, networks, found)).collect();
    let vip = value::required("[[service]]", "vip", &file.vip, &span, "\"172.16.0.1:80\"", found)?;
    let address = socket("vip", vip, "172.16.0.1:80", found)?;
    let key = VipKey { protocol, ip: IpAddr::V4(*address.ip()), port: address.port() };
    once(&backends, SocketAddr::new(key.ip, key.port), found);
    backends.sort();
    for (backend, Start(at, end)) in &backends {
        // The VIP itself as its own backend has been said above.
        if let (IpAddr::V4(ip), true) = (backend.address.ip(), backend.address != SocketAddr::V4(address)) {
            claims.once(Owner::Backend, ip, "service.backends.address", &(*at..*end));
        }
    }
    let backends = backends.into_iter().map(|(backend, _)| backend).collect();
    Some((Service { health, ..Service::plain(key, backends) }, vip.span()))
}

/// A backend is there once, and is not the VIP itself: a packet to it would come back here for ever.
fn once(backends: &[(Backend, Start)], vip: SocketAddr, found: &mut Findings<'_>) {
    let mut seen = BTreeMap::new();
    for (backend, Start(at, end)) in backends {
        let span = *at..*end;
        if backend.address == vip {
            found.error(&span, format!("the backend {vip} is the VIP itself"), "write the address of the real server");
        }
        if let Some(first) = seen.insert((backend.network.clone(), backend.address), found.source.line(*at)) {
            found.error(
                &span,
                format!("the backend {} is there twice", backend.address),
                format!("line {first} has it already, give that one more `weight`"),
            );
        }
    }
}

/// A place that sorts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Start(usize, usize);

fn backend(
    at: &Spanned<file::Backend>,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) -> Option<(Backend, Start)> {
    let (file, span) = (at.get_ref(), at.span());
    let weight = value::number("weight", &file.weight, 1, 0..=1000, found);
    let given = value::required("a backend", "address", &file.address, &span, "\"10.0.0.11:31001\"", found)?;
    let address = socket("address", given, "10.0.0.11:31001", found)?;
    let network = network(file, *address.ip(), &given.span(), networks, found)?;
    let backend =
        Backend { address: SocketAddr::V4(address), network, weight, agent: None, task: None, groups: Vec::new() };
    Some((backend, Start(given.span().start, given.span().end)))
}

/// The overlay network that the backend is in, if any; `None` after an error.
#[expect(clippy::option_option, reason = "the outer one is an error that was reported, the inner one the underlay")]
fn network(
    file: &file::Backend,
    ip: Ipv4Addr,
    at: &Range<usize>,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) -> Option<Option<String>> {
    let named = file.network.as_ref().filter(|name| !name.get_ref().is_empty());
    let Some(name) = named else {
        let inside = networks.iter().find(|network| network.subnet.contains(&ip));
        if let Some(network) = inside {
            found.error(
                at,
                format!("`address` has {ip}, which lies in the overlay network `{}`", network.name),
                format!("add `network = \"{}\"`", network.name),
            );
        }
        return inside.is_none().then_some(None);
    };
    let Some(network) = networks.iter().find(|network| network.name == *name.get_ref()) else {
        let remedy = match nearest(name.get_ref(), networks.iter().map(|network| network.name.as_str())) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "add an [[overlay.network]] of that name, or write \"\" for the underlay".to_owned(),
        };
        found.error(
            &name.span(),
            format!("`network` is \"{}\", and no [[overlay.network]] has that name", short(name.get_ref())),
            remedy,
        );
        return None;
    };
    if !network.subnet.contains(&ip) {
        found.error(
            at,
            format!("`address` has {ip}, which is not in the network `{}`", network.name),
            format!("write an address in {}", network.subnet),
        );
        return None;
    }
    Some(Some(network.name.clone()))
}

/// `ip:port`, neither of them special.
fn socket(key: &str, text: &Spanned<String>, example: &str, found: &mut Findings<'_>) -> Option<SocketAddrV4> {
    let given = text.get_ref();
    let address = match given.parse() {
        Ok(SocketAddr::V4(address)) => address,
        Ok(SocketAddr::V6(_)) => {
            value::no_ipv6(key, text, found);
            return None;
        }
        Err(_) => {
            found.error(
                &text.span(),
                format!("`{key}` has \"{}\", which is not an address and port", short(given)),
                format!("write it like \"{example}\""),
            );
            return None;
        }
    };
    if address.port() == 0 {
        found.error(&text.span(), format!("`{key}` has port 0"), "write a port of 1 to 65535");
    }
    if address.ip().is_link_local() {
        let sentence = format!("`{key}` has {}, a link-local address", address.ip());
        found.error(&text.span(), sentence, "write an address that is routed to this node");
    }
    let good = value::unicast(key, *address.ip(), &text.span(), found) && address.port() != 0;
    (good && !address.ip().is_link_local()).then_some(address)
}
