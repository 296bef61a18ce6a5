//! `dns.external`, `dns.resolvers` and `dns.zone_resolvers`: whom names of others are asked of. Nobody is asked about a
//! name of ours, and we are not asked ourselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::{address, dns, port, value};
use crate::diagnostic::Findings;
use crate::file::{self, File};
use crate::model::{Config, Dns};
use crate::words::short;

/// The port of a resolver that names none (RFC 1035 section 4.2).
const PORT: u16 = 53;
/// Most resolvers of one list: there is no time to ask more.
const MOST: usize = 8;
/// Zones that are always ours, beside `dns.domain` and those of the operator (facts/dcos.md B.6).
const OURS: [&str; 5] = ["thisdcos.directory", "thisdcos.global", "spartan", "zk", "localhost"];

/// The resolvers of one list.
pub(super) fn listed(key: &str, list: &[Spanned<String>], found: &mut Findings<'_>) -> Vec<SocketAddr> {
    if let Some(beyond) = list.get(MOST) {
        let sentence = format!("`{key}` has {} resolvers", list.len());
        found.error(&beyond.span(), sentence, format!("write at most {MOST}: there is no time to ask more"));
    }
    let read: Vec<(SocketAddr, Range<usize>)> =
        list.iter().take(MOST).filter_map(|at| Some((resolver(key, at, found)?, at.span()))).collect();
    port::unique(key, read.iter().cloned(), found);
    read.into_iter().map(|(address, _)| address).collect()
}

/// An address, with or without a port.
fn resolver(key: &str, text: &Spanned<String>, found: &mut Findings<'_>) -> Option<SocketAddr> {
    let given = text.get_ref();
    let Some(address) = read(given).filter(|address| address.port() != 0) else {
        let sentence = format!("`{key}` has \"{}\", which is not the address of a resolver", short(given));
        found.error(
            &text.span(),
            sentence,
            "write it like \"192.0.2.53\", \"192.0.2.53:5353\" or \"[2001:db8::53]:53\"",
        );
        return None;
    };
    if address::is_link_local(address.ip()) {
        let sentence = format!("`{key}` has {}, a link-local address", address.ip());
        found.error(&text.span(), sentence, "write an address that is routed from this node");
        return None;
    }
    // A resolver of the node's own may listen on a loopback address.
    let good = address.ip().is_loopback() || address::unicast(key, address.ip(), &text.span(), found);
    good.then_some(address)
}

fn read(text: &str) -> Option<SocketAddr> {
    let bare = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT));
    bare.or_else(|_| text.parse()).ok()
}

/// The resolvers of each suffix.
pub(super) fn of_zones(
    file: &BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    found: &mut Findings<'_>,
) -> BTreeMap<String, Vec<SocketAddr>> {
    let mut zones = BTreeMap::new();
    for (suffix, list) in file {
        let Some(name) = dns::domain("zone_resolvers", suffix, "corp.example", found) else { continue };
        let key = format!("zone_resolvers.{name}");
        if list.is_empty() {
            found.error(&suffix.span(), format!("`{key}` has no resolver"), "write one, or remove it");
        }
        if zones.insert(name, listed(&key, list, found)).is_some() {
            found.error(&suffix.span(), format!("`{key}` is there twice"), "write all resolvers into one list");
        }
    }
    zones
}

/// What can only be seen with the rest of the file.
pub(super) fn check(file: &File, config: &Config, found: &mut Findings<'_>) {
    let Some(at) = &file.dns else { return };
    let (dns, written) = (&config.dns, at.get_ref());
    let external = value::place(&written.external, &at.span());
    if dns.external && value::each(&written.resolvers).is_empty() && found.is_complete(&at.span()) {
        let remedy = "add `resolvers = [\"192.0.2.53\"]`: no public one is asked in their place";
        found.error(&external, "`external` is true, and there are no `resolvers`", remedy);
    }
    if let (false, Some(list)) = (dns.external, written.resolvers.as_ref().filter(|list| !list.get_ref().is_empty())) {
        found.warning(&list.span(), "`resolvers` are not asked", "add `external = true`, or remove them");
    }
    if dns.forwards() && dns.is_on() && config.host.is_none() {
        let sentence = "names of others are forwarded, and there is no host port to the kernel";
        found.error(&external, sentence, "remove `enabled = false` from [host]: the packet path hands them over there");
    }
    for (key, text) in resolvers(written) {
        let Some(address) = read(text.get_ref()) else { continue };
        if let Some(whose) = own(address, config) {
            let sentence = format!("`{key}` has {}, {whose}", address.ip());
            found.error(&text.span(), sentence, "write another server's: a question to ourselves would come back");
        }
    }
    for suffix in written.zone_resolvers.keys() {
        let name = suffix.get_ref().trim_end_matches('.').to_ascii_lowercase();
        if let Some(zone) = zone_of(&name, config) {
            let sentence = format!("`zone_resolvers` has {name}, and {zone} is answered here");
            found.error(&suffix.span(), sentence, "remove it: nobody else is asked about names of ours");
        }
    }
}

/// Resolvers that are this machine. One of its own is reached at a loopback address or by another port.
pub(super) fn on_machine(file: &File, owned: impl Fn(IpAddr) -> bool, found: &mut Findings<'_>) {
    for (key, text) in file.dns.iter().flat_map(|dns| resolvers(dns.get_ref())) {
        let address = read(text.get_ref()).filter(|at| at.port() == PORT && !at.ip().is_loopback());
        if let Some(address) = address.filter(|at| owned(at.ip())) {
            let sentence = format!("`{key}` has {}, which this machine's kernel owns", address.ip());
            found.error(&text.span(), sentence, "write another server's, or its loopback address if one runs here");
        }
    }
}

/// Every resolver that is written, with its key.
fn resolvers(dns: &file::Dns) -> impl Iterator<Item = (String, &Spanned<String>)> {
    let defaults = value::each(&dns.resolvers).iter().map(|at| ("resolvers".to_owned(), at));
    let zones = dns.zone_resolvers.iter().flat_map(|(suffix, list)| {
        let key = format!("zone_resolvers.{}", short(suffix.get_ref()));
        list.iter().map(move |at| (key.clone(), at))
    });
    defaults.chain(zones)
}

/// Whose address it is, if it is this node's. Another port of the node's than DNS's may be another server's.
fn own(address: SocketAddr, config: &Config) -> Option<&'static str> {
    let ip = address.ip();
    if address.port() != PORT {
        return None;
    }
    if config.dns.all_addresses().any(|own| own == ip) {
        return Some("an address of `dns.addresses`");
    }
    let four = |nets: &[ipnet::Ipv4Net]| nets.iter().any(|net| ip == IpAddr::V4(net.addr()));
    if config.ports.iter().any(|p| four(&p.addresses) || p.addresses6.iter().any(|net| ip == IpAddr::V6(net.addr()))) {
        return Some("a port's own address");
    }
    if config.host.iter().flat_map(|host| &host.addresses).any(|net| ip == net.addr()) {
        return Some("the host port's address");
    }
    let vtep = config.overlay.as_ref().map(|overlay| overlay.vtep);
    vtep.filter(|net| four(&[*net])).map(|_| "our VTEP's address")
}

/// The zone of ours that a name is in.
fn zone_of(name: &str, config: &Config) -> Option<String> {
    let dns: &Dns = &config.dns;
    let cluster = (!dns.cluster_id.is_empty()).then(|| format!("{}.dcos.directory", dns.cluster_id));
    let zones = OURS.iter().map(|zone| (*zone).to_owned()).chain([dns.domain.clone()]).chain(cluster);
    let mut zones = zones.chain(dns.zones.iter().map(|zone| zone.name.clone()));
    zones.find(|zone| is_below(name, zone)).or_else(|| reverse_of(name, config))
}

/// Whether a name is that zone's apex or below it, cut at a dot.
fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The range of ours whose addresses a reverse name is about.
fn reverse_of(name: &str, config: &Config) -> Option<String> {
    let net = reversed(name)?;
    let named = match net {
        IpNet::V4(net) => config.vip.named.contains(&net.network()) && config.vip.named.contains(&net.broadcast()),
        IpNet::V6(net) => config.vip.named6.contains(&net.network()) && config.vip.named6.contains(&net.broadcast()),
    };
    let networks = config.overlay.iter().flat_map(|overlay| &overlay.networks);
    let mut overlays = networks.map(|network| IpNet::V4(network.subnet)).filter(|subnet| subnet.contains(&net));
    if named { Some("the range of named VIPs".to_owned()) } else { overlays.next().map(|subnet| subnet.to_string()) }
}

/// The prefix that a reverse name stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn reversed(name: &str) -> Option<IpNet> {
    let (labels, wide) = match name.strip_suffix(".in-addr.arpa") {
        Some(labels) => (labels, false),
        None => (name.strip_suffix(".ip6.arpa")?, true),
    };
    let (bits, base, most) = if wide { (4, 16, 32) } else { (8, 10, 4) };
    let mut number = 0_u128;
    let mut count = 0_u8;
    for label in labels.rsplit('.') {
        let part = u8::from_str_radix(label, base).ok().filter(|part| u16::from(*part) < 1 << bits)?;
        (number, count) = (number << bits | u128::from(part), count + 1);
        if count > most {
            return None;
        }
    }
    let shift = u32::from((most - count) * bits);
    let ip = match wide {
        true => IpAddr::V6(Ipv6Addr::from_bits(number.checked_shl(shift)?)),
        false => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number << shift).ok()?)),
    };
    IpNet::new(ip, count * bits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_stand_for_prefixes() {
        let of = |name: &str| reversed(name).map(|net| net.to_string());
        assert_eq!(of("11.in-addr.arpa").as_deref(), Some("11.0.0.0/8"));
        assert_eq!(of("4.3.2.11.in-addr.arpa").as_deref(), Some("11.2.3.4/32"));
        assert_eq!(of("c.0.0.0.1.0.d.f.ip6.arpa").as_deref(), Some("fd01:c::/32"));
        for bad in ["in-addr.arpa", "256.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "x.ip6.arpa", "10.ip6.arpa", "corp"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_is_below_a_zone_at_a_dot_only() {
        assert!(is_below("mesos", "mesos") && is_below("a.mesos", "mesos"));
        assert!(!is_below("xmesos", "mesos") && !is_below("org", "mesos"));
    }
}
