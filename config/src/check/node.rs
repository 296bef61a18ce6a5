//! `[host]`, `[api]`, `[timeouts]` and `[limits]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Spanned;

use super::claims::{Claims, Owner};
use super::port::interface_name;
use super::{address, value};
use crate::diagnostic::Findings;
use crate::file::{self, Value};
use crate::model::{AnswerRates, Api, Host, Limits, Overlay, Port, Timeouts};
use crate::words::short;

/// One address per network is the use; this bounds the rest.
const MOST_ADDRESSES: usize = 256;

/// sockaddr_un.sun_path with its final zero (unix(7)).
const LONGEST_SOCKET: usize = 107;

pub(super) fn host(
    file: Option<&Spanned<file::Host>>,
    ports: &[Port],
    overlay: Option<&Overlay>,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Option<Host> {
    let span = file.map(Spanned::span).unwrap_or_default();
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    let host = Host {
        interface: value::text(&file.interface, "sluice0"),
        peer: value::text(&file.peer, "sluice0x"),
        addresses: addresses(&file, overlay, claims, found),
    };
    names(&file, &host, ports, &span, found);
    value::flag(&file.enabled, true).then_some(host)
}

fn names(file: &file::Host, host: &Host, ports: &[Port], span: &std::ops::Range<usize>, found: &mut Findings<'_>) {
    for (key, value, name) in [("interface", &file.interface, &host.interface), ("peer", &file.peer, &host.peer)] {
        if let Some(given) = value {
            interface_name(key, given, found);
        }
        if let Some(port) = ports.iter().find(|port| port.interface == *name) {
            let at = value::place(value, span);
            found.error(
                &at,
                format!("`host.{key}` is {name}, the interface of port `{}`", port.name),
                "write a name of its own: Sluice makes this interface",
            );
        }
    }
    if host.interface == host.peer {
        let at = value::place(&file.peer, &value::place(&file.interface, span));
        found.error(
            &at,
            format!("`interface` and `peer` are both {}", short(&host.peer)),
            "write two names: they are the two ends of a veth pair",
        );
    }
}

fn addresses(
    file: &file::Host,
    overlay: Option<&Overlay>,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<IpNet> {
    let networks = overlay.map_or(&[][..], |overlay| &overlay.networks);
    let mut good = Vec::new();
    for address in value::each(&file.addresses).iter().take(MOST_ADDRESSES) {
        let Some(net) = address::interface("addresses", address, found) else { continue };
        claims.host(Owner::Host, net.addr(), "host.addresses", &address.span());
        let (key, good_one) = match net.addr() {
            // Of a network that does not say our part, another source may.
            IpAddr::V4(ip) => ("own", networks.iter().any(|n| n.own.unwrap_or(n.subnet).contains(&ip))),
            IpAddr::V6(ip) => ("own6", networks.iter().any(|n| n.own6.is_some_and(|own| own.contains(&ip)))),
        };
        if !good_one {
            found.error(
                &address.span(),
                format!("`addresses` has {}, which is in our own part of no network", net.addr()),
                format!("write an address inside `{key}` of an [[overlay.network]]"),
            );
        }
        good.push(net);
    }
    if let Some(list) = file.addresses.as_ref().filter(|list| list.get_ref().len() > MOST_ADDRESSES) {
        found.error(
            &list.span(),
            format!("`addresses` has {} addresses", list.get_ref().len()),
            format!("write at most {MOST_ADDRESSES}"),
        );
    }
    good
}

pub(super) fn api(file: Option<&Spanned<file::Api>>, found: &mut Findings<'_>) -> Api {
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    Api { listen: listen(&file.listen, found), socket: socket(&file.socket, found) }
}

fn listen(value: &Value<String>, found: &mut Findings<'_>) -> Option<SocketAddr> {
    let Some(value) = value else { return Some(SocketAddr::from(([0, 0, 0, 0], 8123))) };
    if value.get_ref().is_empty() {
        return None;
    }
    let address = value.get_ref().parse().ok();
    if address.is_none() {
        found.error(
            &value.span(),
            format!("`listen` is \"{}\", which is not an address and port", short(value.get_ref())),
            "write it like \"0.0.0.0:8123\", or \"\" for none",
        );
    }
    address
}

fn socket(value: &Value<String>, found: &mut Findings<'_>) -> PathBuf {
    let path = value::filled("socket", value, "the path of a socket", found);
    if let (Some(at), Some(path)) = (value, &path)
        && (path.len() > LONGEST_SOCKET || path.contains('\0'))
    {
        found.error(
            &at.span(),
            format!("`socket` has {} octets", path.len()),
            format!("a unix socket's path has at most {LONGEST_SOCKET}, and no zero"),
        );
    }
    PathBuf::from(path.unwrap_or_else(|| "/run/sluice.sock".to_owned()))
}

pub(super) fn timeouts(file: Option<&Spanned<file::Timeouts>>, found: &mut Findings<'_>) -> Timeouts {
    let Some(file) = file.map(Spanned::get_ref) else { return Timeouts::default() };
    let default = Timeouts::default();
    let longest = i64::from(Timeouts::MAX_SECONDS);
    let snat_rest = value::number("snat_rest", &file.snat_rest, default.snat_rest, 0..=longest, found);
    let mut seconds = |key, value, default| value::number(key, value, default, 1..=longest, found);
    Timeouts {
        tcp_half_open: seconds("tcp_half_open", &file.tcp_half_open, default.tcp_half_open),
        tcp_established: seconds("tcp_established", &file.tcp_established, default.tcp_established),
        tcp_closing: seconds("tcp_closing", &file.tcp_closing, default.tcp_closing),
        udp: seconds("udp", &file.udp, default.udp),
        sctp: seconds("sctp", &file.sctp, default.sctp),
        snat_rest,
    }
}

pub(super) fn limits(file: Option<&Spanned<file::Limits>>, found: &mut Findings<'_>) -> Limits {
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    let limits = Limits {
        sessions: value::number("sessions", &file.sessions, 262_144, 64..=67_108_864, found),
        masquerade: value::number("masquerade", &file.masquerade, 65_536, 64..=16_777_216, found),
        frames: value::number("frames", &file.frames, 8192, 256..=1_048_576, found),
        rings: value::number("rings", &file.rings, 2048, 64..=32_768, found),
        handover: value::number("handover", &file.handover, 1024, 64..=65_536, found),
        // Numbers of services have 16 bits, of which 0 and the last are never given (dataplane/src/tables/ids.rs).
        services: value::number("services", &file.services, 4096, 1..=65_534, found),
        backends: value::number("backends", &file.backends, 16_384, 1..=1_048_576, found),
        answers: answers(&file, found),
    };
    power_of_two("rings", &file.rings, u64::from(limits.rings), found);
    power_of_two("handover", &file.handover, limits.handover as u64, found);
    limits
}

fn answers(file: &file::Limits, found: &mut Findings<'_>) -> AnswerRates {
    let default = AnswerRates::default();
    let mut rate = |key, value, default| value::number(key, value, default, 0..=i64::from(u32::MAX), found);
    AnswerRates {
        echo: rate("echo_per_second", &file.echo_per_second, default.echo),
        errors: rate("errors_per_second", &file.errors_per_second, default.errors),
        resets: rate("resets_per_second", &file.resets_per_second, default.resets),
    }
}

fn power_of_two(key: &str, value: &Value<i64>, given: u64, found: &mut Findings<'_>) {
    if let (Some(at), false) = (value, given.is_power_of_two()) {
        found.error(
            &at.span(),
            format!("`{key}` is {given}, which is not a power of two"),
            format!("write {} or {}", given.next_power_of_two() / 2, given.next_power_of_two()),
        );
    }
}
