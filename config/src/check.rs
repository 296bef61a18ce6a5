//! What the file says ([`crate::file`]) -> what it means ([`crate::model`]). Every function reports what is wrong and
//! goes on with a value that does no harm; the result is used only when nothing was wrong.

mod agent;
mod claims;
mod dns;
mod health;
pub(crate) mod machine;
mod marathon;
mod node;
mod overlay;
mod port;
mod service;
mod value;
mod vip;
mod wiring;

use std::ops::Range;

use toml::Spanned;

use crate::diagnostic::Findings;
use crate::file::{self, File};
use crate::model::{Config, Idle};
use crate::words;

pub(crate) fn check(file: &File, found: &mut Findings<'_>) -> Config {
    let mut claims = claims::Claims::default();
    let ports = port::ports(&file.port, &mut claims, found);
    let vip = vip::vip(file.vip.as_ref(), &mut claims, found);
    let snat = vip::snat(file.snat.as_ref(), port::worker_count(&ports), &mut claims, found);
    let written_snat = file.snat.as_ref().map(|snat| value::each(&snat.get_ref().overlay)).unwrap_or_default();
    let overlay = file.overlay.as_ref().map(|at| overlay::overlay(at, &ports, written_snat, &mut claims, found));
    let networks = overlay.as_ref().map(|overlay| overlay.networks.as_slice()).unwrap_or_default();
    let limits = node::limits(file.limits.as_ref(), found);
    let health = health::health(file.health.as_ref(), found);
    let config = Config {
        workers: port::workers(file.workers.as_ref(), &ports, found),
        neighbours: wiring::neighbours(&file.neighbour, &ports, &mut claims, found),
        routes: wiring::routes(&file.route, &ports, &mut claims, found),
        marathons: marathon::marathons(&file.marathon, &mut claims, found),
        services: service::services(&file.service, networks, (&limits, &health.check), &mut claims, found),
        dns: dns::dns(file.dns.as_ref(), &mut claims, found),
        host: node::host(file.host.as_ref(), &ports, overlay.as_ref(), &mut claims, found),
        api: node::api(file.api.as_ref(), found),
        timeouts: node::timeouts(file.timeouts.as_ref(), found),
        ports,
        vip,
        snat,
        overlay,
        health,
        limits,
    };
    if config.overlay.is_none() {
        no_overlay(written_snat, found);
    }
    claims.settle(found);
    sources(file, &config, found);
    capacity(file, &config, found);
    config
}

/// A source address on the overlay without one.
fn no_overlay(snat: &[Spanned<String>], found: &mut Findings<'_>) {
    if let Some(first) = snat.first() {
        let sentence = format!("`snat.overlay` has {}, and there is no [overlay]", words::short(first.get_ref()));
        found.error(&first.span(), sentence, "add [overlay] and its [[overlay.network]], or remove the address");
    }
}

/// `nat` needs a source address on the side of its backends.
fn sources(file: &File, config: &Config, found: &mut Findings<'_>) {
    let at = file.snat.as_ref().map(Spanned::span).unwrap_or_default();
    // A mistyped [snat] is not missing (0..0 is the file), nor is an address in it that was wrong.
    if !found.is_complete(&at) || !found.is_complete(&(0..0)) {
        return;
    }
    let snat = file.snat.as_ref().map(Spanned::get_ref);
    let no_underlay = snat.is_none_or(|snat| value::each(&snat.underlay).is_empty());
    let no_overlay = snat.is_none_or(|snat| value::each(&snat.overlay).is_empty());
    let networks = config.overlay.as_ref().map(|overlay| overlay.networks.as_slice()).unwrap_or_default();
    let known = |name: &str| networks.iter().any(|network| network.name == name);
    if let (Some(first), true) = (first_backend(file, str::is_empty), no_underlay) {
        found.error(&first, "this backend is on the underlay, and `snat.underlay` has no address", ADD_UNDERLAY);
    }
    if let (Some(first), true) = (first_backend(file, known), no_overlay) {
        found.error(&first, "this backend is on the overlay, and `snat.overlay` has no address", ADD_OVERLAY);
    }
    let Some(marathon) = file.marathon.first() else { return };
    if no_underlay {
        found.error(
            &marathon.span(),
            "Marathon's services are `nat`, and `snat.underlay` has no address",
            ADD_UNDERLAY,
        );
    }
    if no_overlay && config.overlay.is_some() {
        let sentence = "`snat.overlay` has no address, so no VIP will reach a task on the overlay";
        found.warning(&marathon.span(), sentence, ADD_OVERLAY);
    }
}

const ADD_UNDERLAY: &str =
    "add `underlay = [\"192.0.2.200\"]` to [snat], with an address that backends route to this node";
const ADD_OVERLAY: &str = "add `overlay = [\"9.0.9.2\"]` to [snat], with an address in our own part of the network";

/// What works, but not as well as it was meant.
fn capacity(file: &File, config: &Config, found: &mut Findings<'_>) {
    let limits = file.limits.as_ref().map(Spanned::get_ref);
    let written = limits.and_then(|limits| limits.frames.as_ref().or(limits.rings.as_ref()));
    let sockets = config.ports.len() + usize::from(config.host.is_some());
    let wanted = u64::from(config.limits.rings) * sockets as u64;
    if let (Some(at), true) = (written, u64::from(config.limits.frames) < wanted) {
        let sentence = format!("{} frames cannot fill the receive rings of {sockets} ports", config.limits.frames);
        found.warning(
            &at.span(),
            sentence,
            format!("write `frames = {}`, or smaller `rings`", wanted.next_power_of_two()),
        );
    }
    let idle = file.workers.as_ref().and_then(|workers| workers.get_ref().idle.as_ref());
    if let (Some(at), Idle::Spin, true) = (idle, config.workers.idle, config.workers.cores.is_empty()) {
        let remedy = "add `cores = [2, 3]`, one per queue, that nothing else runs on";
        found.warning(&at.span(), "workers that never sleep have no cores of their own", remedy);
    }
}

/// Where the first backend on the side of `network` stands.
fn first_backend(file: &File, on_side: impl Fn(&str) -> bool) -> Option<Range<usize>> {
    let network = |backend: &file::Backend| backend.network.as_ref().map_or("", |name| name.get_ref()).to_owned();
    let mut all = file.service.iter().flat_map(|service| &service.get_ref().backends).map(Spanned::get_ref);
    all.find(|backend| on_side(&network(backend)))?.address.as_ref().map(Spanned::span)
}
