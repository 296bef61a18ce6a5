//! `[[service]]`: static services and their backends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::needs::Needs;
use super::{address, admission, health, value, vip};
use crate::diagnostic::Findings;
use crate::file;
use crate::model::{Backend, HealthCheck, Limits, Mode, OverlayNetwork, Protocol, Service, Vip, VipKey};
use crate::reach::reach;
use crate::words::{counted, nearest, short};

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

/// What services are checked against.
pub(super) struct Known<'a> {
    pub(super) networks: &'a [OverlayNetwork],
    pub(super) limits: &'a Limits,
    /// The defaults of all services.
    pub(super) vip: &'a Vip,
    /// Likewise how backends are probed.
    pub(super) health: &'a HealthCheck,
}

pub(super) fn services(
    file: &[Spanned<file::Service>],
    known: &Known<'_>,
    needs: &mut Needs,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<Service> {
    limit(file, known.limits, found);
    let mut seen: BTreeMap<VipKey, usize> = BTreeMap::new();
    let mut ips = BTreeSet::new();
    let mut all = Vec::new();
    for at in file {
        let Some((service, place)) = service(at, known, needs, claims, found) else { continue };
        if ips.insert(service.key.ip) {
            claims.host(Owner::Vip, service.key.ip, "service.vip", &place);
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
    known: &Known<'_>,
    needs: &mut Needs,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Option<(Service, Range<usize>)> {
    let (file, span) = (at.get_ref(), at.span());
    let protocol = value::choice("protocol", &file.protocol, Protocol::Tcp, PROTOCOLS, found);
    let mode = value::choice("mode", &file.mode, known.vip.mode, Mode::ALL, found);
    let empty = value::choice("empty", &file.empty, known.vip.empty, vip::EMPTY, found);
    let maglev_size = admission::maglev_size(file, found);
    let health = health::of_service(file.health.as_ref(), protocol, known.health, found);
    let mut backends: Vec<_> = file.backends.iter().filter_map(|at| backend(at, known.networks, found)).collect();
    let given = value::required("[[service]]", "vip", &file.vip, &span, "\"172.16.0.1:80\"", found);
    let address = given.and_then(|given| address::socket("vip", given, "172.16.0.1:80", found));
    let admission = admission::admission(file, address.map(|address| address.ip()), found);
    let (given, address) = (given?, address?);
    once(&backends, address, found);
    reachable(mode, address, &backends, needs, found);
    backends.sort();
    for (backend, Start(at, end)) in &backends {
        // The VIP itself as its own backend has been said above.
        if backend.address != address {
            claims.once(Owner::Backend, backend.address.ip(), "service.backends.address", &(*at..*end));
        }
    }
    let backends = backends.into_iter().map(|(backend, _)| backend).collect();
    let key = VipKey { protocol, ip: address.ip(), port: address.port() };
    let service = Service { mode, admission, empty, maglev_size, health, ..Service::plain(key, backends) };
    Some((service, given.span()))
}

/// A backend that its mode cannot reach would be a black hole.
fn reachable(mode: Mode, vip: SocketAddr, backends: &[(Backend, Start)], needs: &mut Needs, found: &mut Findings<'_>) {
    for (backend, Start(at, end)) in backends {
        let (span, on_overlay) = (*at..*end, backend.network.is_some());
        if let Err(why) = reach(mode, vip, backend.address, on_overlay) {
            found.error(&span, format!("the backend {} of {vip}: {why}", backend.address), why.remedy());
        } else if mode == Mode::Nat {
            needs.backend(backend, &span);
        }
    }
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
    let address = address::socket("address", given, "10.0.0.11:31001", found)?;
    let network = network(file, address.ip(), &given.span(), networks, found)?;
    let backend = Backend { address, network, weight, agent: None, task: None, groups: Vec::new() };
    Some((backend, Start(given.span().start, given.span().end)))
}

/// The overlay network that the backend is in, if any; `None` after an error.
#[expect(clippy::option_option, reason = "the outer one is an error that was reported, the inner one the underlay")]
fn network(
    file: &file::Backend,
    ip: IpAddr,
    at: &Range<usize>,
    networks: &[OverlayNetwork],
    found: &mut Findings<'_>,
) -> Option<Option<String>> {
    let holds = |network: &&OverlayNetwork| matches!(ip, IpAddr::V4(ip) if network.subnet.contains(&ip));
    let named = file.network.as_ref().filter(|name| !name.get_ref().is_empty());
    let Some(name) = named else {
        let inside = networks.iter().find(holds);
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
    if !holds(&network) {
        found.error(
            at,
            format!("`address` has {ip}, which is not in the network `{}`", network.name),
            format!("write an address in {}", network.subnet),
        );
        return None;
    }
    Some(Some(network.name.clone()))
}
