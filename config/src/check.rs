//! What the file says ([`crate::file`]) -> what it means ([`crate::model`]). Every function reports what is wrong and
//! goes on with a value that does no harm; the result is used only when nothing was wrong.

mod address;
mod admission;
mod agent;
mod claims;
mod dns;
mod health;
pub(crate) mod machine;
mod marathon;
mod mesos;
mod narrow;
mod needs;
mod node;
mod nodes;
mod overlay;
mod port;
mod resolvers;
mod service;
mod value;
mod vip;
mod wiring;

use toml::Spanned;

use crate::diagnostic::Findings;
use crate::file::File;
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
    let mut needs = needs::Needs::default();
    let known = service::Known { networks, limits: &limits, vip: &vip, health: &health.check };
    let services = service::services(&file.service, &known, &mut needs, &mut claims, found);
    let config = Config {
        workers: port::workers(file.workers.as_ref(), &ports, found),
        neighbours: wiring::neighbours(&file.neighbour, &ports, &mut claims, found),
        routes: wiring::routes(&file.route, &ports, &mut claims, found),
        marathons: marathon::marathons(&file.marathon, &mut claims, found),
        mesos: mesos::mesos(file.mesos.as_ref(), &mut claims, found),
        services,
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
    needs::settle(file, &config, &needs, found);
    narrow::check(file, &config, found);
    resolvers::check(file, &config, found);
    nodes::check(file, &config, found);
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
