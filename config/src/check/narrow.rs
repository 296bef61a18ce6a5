//! IPv6 where a link or a tunnel is too narrow for it: every link takes packets of 1280 octets (RFC 8200 section 5), and
//! what says less is a black hole to its hosts, which send no smaller ones.
//!
//! What the file does not say (an interface's own MTU, where an app's backends are) is told when tables are compiled.

use std::net::IpAddr;

use toml::Spanned;

use super::value;
use crate::diagnostic::Findings;
use crate::file::File;
use crate::model::{Config, Mode, Port, Service};

/// Least MTU of IPv6.
const LEAST: u16 = 1280;

pub(super) fn check(file: &File, config: &Config, found: &mut Findings<'_>) {
    for (port, at) in config.ports.iter().zip(&file.port) {
        if let (false, Some(mtu), Some(place)) = (port.addresses6.is_empty(), port.mtu, &at.get_ref().mtu)
            && mtu < LEAST
        {
            let sentence = format!("port `{}` has IPv6 addresses and an MTU of {mtu}", port.name);
            found.error(&place.span(), sentence, REMEDY);
        }
    }
    // The overlay carries IPv4 alone (`reach`).
    let tunnelled = |service: &&Service| matches!(service.mode, Mode::DsrIpip | Mode::DsrGue);
    for service in config.services.iter().filter(|service| service.key.ip.is_ipv6()).filter(tunnelled) {
        tunnels(file, config, service, found);
    }
}

const REMEDY: &str = "write at least 1280, which IPv6 needs on every link";

/// Each port that a backend's tunnel is known to leave by, once.
fn tunnels(file: &File, config: &Config, service: &Service, found: &mut Findings<'_>) {
    let mut seen = Vec::new();
    for backend in &service.backends {
        let ip = backend.address.ip();
        let header = if ip.is_ipv4() { 20 } else { 40 } + if service.mode == Mode::DsrGue { 12 } else { 0 };
        let Some(port) = leads(config, ip).filter(|port| !seen.contains(port)) else { continue };
        seen.push(port);
        leaves(file, config, port, header, service, found);
    }
}

fn leaves(file: &File, config: &Config, port: usize, header: u16, service: &Service, found: &mut Findings<'_>) {
    let (Some(Port { name, mtu: Some(mtu), .. }), Some(at)) = (config.ports.get(port), file.port.get(port)) else {
        return;
    };
    let room = mtu.saturating_sub(header);
    if room < LEAST {
        let mode = service.mode.name();
        let sentence = format!("port `{name}` leaves {room} octets for packets of {} in {mode}", service.key);
        let remedy = format!("write at least {}: IPv6 needs {LEAST}, and the outer header {header}", LEAST + header);
        found.error(&value::place(&at.get_ref().mtu, &Spanned::span(at)), sentence, remedy);
    }
}

/// The port that the file's addresses and routes lead by; the only one, where there is one.
fn leads(config: &Config, ip: IpAddr) -> Option<usize> {
    let links = config.ports.iter().enumerate().flat_map(|(n, port)| {
        let four = port.addresses.iter().map(|net| ipnet::IpNet::V4(*net));
        four.chain(port.addresses6.iter().map(|net| ipnet::IpNet::V6(*net))).map(move |net| (net, n))
    });
    let routes = config.routes.iter().map(|route| (route.prefix, route.port));
    let best = links.chain(routes).filter(|(net, _)| net.contains(&ip)).max_by_key(|(net, _)| net.prefix_len());
    best.map(|(_, port)| port).or_else(|| (config.ports.len() == 1).then_some(0))
}
