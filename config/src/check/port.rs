//! `[[port]]` and `[workers]`.

use std::collections::BTreeMap;
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::claims::{Claims, Owner};
use super::{address, value};
use crate::diagnostic::Findings;
use crate::file;
use crate::model::{Idle, Port, Role, Workers, XdpMode};
use crate::words::counted;

/// An interface name's longest, octets (linux/if.h: IFNAMSIZ 16 with the final zero).
const IFNAMSIZ: usize = 15;

/// Ports with a queue each are workers with a socket each; this bounds both.
const MOST_PORTS: usize = 64;
const MOST_QUEUES: usize = 256;
const MOST_ADDRESSES: usize = 256;

pub(super) fn ports(file: &[Spanned<file::Port>], claims: &mut Claims, found: &mut Findings<'_>) -> Vec<Port> {
    if let Some(port) = file.get(MOST_PORTS) {
        found.error(&port.span(), format!("{} ports", file.len()), format!("write at most {MOST_PORTS}"));
    }
    let file = file.get(..MOST_PORTS.min(file.len())).unwrap_or_default();
    let ports: Vec<_> = file.iter().enumerate().map(|(n, port)| self::port(n, port, claims, found)).collect();
    unique("name", file.iter().zip(&ports).map(|(f, p)| (p.name.as_str(), name_place(f))), found);
    unique("interface", file.iter().zip(&ports).map(|(f, p)| (p.interface.as_str(), interface_place(f))), found);
    same_queues(file, &ports, found);
    ports
}

fn name_place(port: &Spanned<file::Port>) -> Range<usize> {
    value::place(&port.get_ref().name, &interface_place(port))
}

/// Where the interface's name stands, which is `name` where `interface` is absent.
pub(super) fn interface_place(port: &Spanned<file::Port>) -> Range<usize> {
    let file = port.get_ref();
    value::place(&file.interface, &value::place(&file.name, &port.span()))
}

fn port(number: usize, at: &Spanned<file::Port>, claims: &mut Claims, found: &mut Findings<'_>) -> Port {
    let port = at.get_ref();
    let (name, interface) = names(at, found);
    let (addresses, addresses6) = addresses(number, port, claims, found);
    Port {
        name,
        interface,
        queues: queues(&port.queues, found),
        mode: value::choice("mode", &port.mode, XdpMode::Auto, MODES, found),
        mac: port.mac.as_ref().and_then(|mac| value::mac("mac", mac, found)),
        addresses,
        addresses6,
        role: value::choice("role", &port.role, Role::Both, ROLES, found),
        mtu: port.mtu.as_ref().and_then(|mtu| value::within("mtu", mtu, 576..=16_000, found)),
        arp: value::choice("arp", &port.arp, true, &[("answer", true), ("off", false)], found),
    }
}

const MODES: &[(&str, XdpMode)] =
    &[("auto", XdpMode::Auto), ("zerocopy", XdpMode::ZeroCopy), ("copy", XdpMode::Copy), ("skb", XdpMode::Skb)];
const ROLES: &[(&str, Role)] = &[("client", Role::Client), ("underlay", Role::Underlay), ("both", Role::Both)];
const IDLE: &[(&str, Idle)] = &[("adaptive", Idle::Adaptive), ("spin", Idle::Spin)];

/// Either name stands for the other.
fn names(at: &Spanned<file::Port>, found: &mut Findings<'_>) -> (String, String) {
    let port = at.get_ref();
    if port.name.is_none() && port.interface.is_none() && found.is_complete(&at.span()) {
        found.error(
            &at.span(),
            "this port has neither `name` nor `interface`",
            "add `interface = \"eth0\"` below, as `ip link` shows it",
        );
    }
    if let Some(name) = &port.interface {
        interface_name("interface", name, found);
    }
    if let Some(name) = &port.name {
        port_name(name, found);
    }
    let name = port.name.as_ref().or(port.interface.as_ref());
    let interface = port.interface.as_ref().or(port.name.as_ref());
    (value::text(&name.cloned(), ""), value::text(&interface.cloned(), ""))
}

/// What the kernel takes as an interface's name (net/core/dev.c dev_valid_name).
pub(super) fn interface_name(key: &str, name: &Spanned<String>, found: &mut Findings<'_>) {
    let (given, at) = (name.get_ref(), name.span());
    if given.is_empty() {
        found.error(&at, format!("`{key}` is empty"), "write the name that `ip link` shows, for example \"eth0\"");
    } else if given.len() > IFNAMSIZ {
        found.error(&at, format!("`{key}` has {} octets", given.len()), format!("Linux takes at most {IFNAMSIZ}"));
    } else if given == "."
        || given == ".."
        || given.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
    {
        found.error(
            &at,
            format!("`{key}` has a character that no interface name has"),
            "write the name that `ip link` shows, for example \"eth0\"",
        );
    }
}

/// Names are typed as `replay --in NAME=FILE` and shown in counters.
fn port_name(name: &Spanned<String>, found: &mut Findings<'_>) {
    let given = name.get_ref();
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if given.is_empty() {
        found.error(&name.span(), "`name` is empty", "write a short one, for example \"lan\"");
    } else if given.len() > 32 || !given.chars().all(good) {
        found.error(&name.span(), "`name` is not a plain word", "write at most 32 letters, digits, `-`, `_` or `.`");
    }
}

fn queues(list: &file::List<i64>, found: &mut Findings<'_>) -> Vec<u32> {
    let Some(list) = list else { return vec![0, 1] };
    let count = list.get_ref().len();
    if !(1..=MOST_QUEUES).contains(&count) {
        let given = if count == 0 { "empty".to_owned() } else { format!("{count} queues") };
        found.error(
            &list.span(),
            format!("`queues` is {given}"),
            format!("write 1 to {MOST_QUEUES} receive queues, for example [0, 1]"),
        );
        return vec![0];
    }
    unique("queues", list.get_ref().iter().map(|q| (*q.get_ref(), q.span())), found);
    list.get_ref().iter().filter_map(|queue| value::within("queues", queue, 0..=65_535, found)).collect()
}

/// Our addresses on a port, by family.
fn addresses(
    number: usize,
    port: &file::Port,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
    let (mut good, mut good6) = (Vec::new(), Vec::new());
    if let Some(list) = port.addresses.as_ref().filter(|list| list.get_ref().len() > MOST_ADDRESSES) {
        let sentence = format!("`addresses` has {} addresses", list.get_ref().len());
        found.error(&list.span(), sentence, format!("write at most {MOST_ADDRESSES}"));
        return (good, good6);
    }
    for at in value::each(&port.addresses) {
        let Some(net) = address::interface("addresses", at, found) else { continue };
        claim(number, net, &at.span(), claims);
        match net {
            IpNet::V4(net) => good.push(net),
            IpNet::V6(net) => good6.push(net),
        }
    }
    (good, good6)
}

/// Every link has its own link-local addresses, so nobody claims those.
fn claim(number: usize, net: IpNet, at: &Range<usize>, claims: &mut Claims) {
    let key = "port.addresses";
    if net.addr().is_ipv6() && address::is_link_local(net.addr()) {
        return;
    }
    claims.host(Owner::Port, net.addr(), key, at);
    claims.net(Owner::PortNet(number), net, key, at);
    if net.max_prefix_len() - net.prefix_len() > 1 {
        claims.once(Owner::Edge, net.network(), key, at);
    }
    if let (IpNet::V4(net), true) = (net, net.prefix_len() < 31) {
        claims.once(Owner::Edge, net.broadcast(), key, at);
    }
}

/// Reports what is written twice.
pub(super) fn unique<T: Ord + std::fmt::Display>(
    key: &str,
    values: impl Iterator<Item = (T, Range<usize>)>,
    found: &mut Findings<'_>,
) {
    let mut seen = BTreeMap::new();
    for (given, at) in values {
        let text = given.to_string();
        if text.is_empty() {
            continue;
        }
        if let Some(first) = seen.insert(given, found.source.line(at.start)) {
            found.error(
                &at,
                format!("`{key}` has {text} twice"),
                format!("line {first} has it already, write each once"),
            );
        }
    }
}

/// A worker has one queue of every port (design.md section 2).
fn same_queues(file: &[Spanned<file::Port>], ports: &[Port], found: &mut Findings<'_>) {
    let Some(first) = ports.first() else { return };
    for (at, port) in file.iter().zip(ports).skip(1) {
        let (here, there) = (port.queues.len(), first.queues.len());
        if here != there {
            let sentence =
                format!("port `{}` has {}, port `{}` has {there}", port.name, counted(here, "queue"), first.name);
            found.error(
                &value::place(&at.get_ref().queues, &at.span()),
                sentence,
                "write as many on every port: each worker has one queue of each",
            );
        }
    }
}

/// A worker for each queue.
pub(super) fn worker_count(ports: &[Port]) -> usize {
    ports.first().map_or(1, |port| port.queues.len())
}

pub(super) fn workers(file: Option<&Spanned<file::Workers>>, ports: &[Port], found: &mut Findings<'_>) -> Workers {
    let Some(workers) = file.map(Spanned::get_ref) else { return Workers::default() };
    let listed = value::each(&workers.cores);
    unique("cores", listed.iter().map(|core| (*core.get_ref(), core.span())), found);
    let cores: Vec<usize> = listed.iter().filter_map(|core| value::within("cores", core, 0..=65_535, found)).collect();
    let queues = ports.first().map_or(cores.len(), |port| port.queues.len());
    if let (Some(list), false) = (&workers.cores, cores.is_empty() || cores.len() == queues) {
        let sentence =
            format!("`cores` has {}, the ports have {}", counted(cores.len(), "core"), counted(queues, "queue"));
        found.error(
            &list.span(),
            sentence,
            format!("write {}, one per queue, or [] to let the kernel place the workers", counted(queues, "core")),
        );
    }
    Workers { cores, idle: value::choice("idle", &workers.idle, Idle::Adaptive, IDLE, found) }
}
