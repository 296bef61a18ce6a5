//! Addresses and prefixes of both families: text -> address, socket, prefix, a host's address with its prefix length.
//! As in `value.rs`, what is wrong is reported and gives `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net};
use toml::Spanned;

use crate::diagnostic::Findings;
use crate::words::short;

/// A unicast address of either family.
pub(super) fn ip(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<IpAddr> {
    let Ok(ip) = value.get_ref().parse() else {
        not_an_address(key, value, "an address", "\"192.0.2.10\" or \"2001:db8::10\"", found);
        return None;
    };
    unicast(key, ip, &value.span(), found).then_some(ip)
}

/// A unicast IPv4 address.
pub(super) fn ipv4(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Ipv4Addr> {
    match value.get_ref().parse() {
        Ok(IpAddr::V4(ip)) => unicast(key, ip.into(), &value.span(), found).then_some(ip),
        Ok(IpAddr::V6(_)) => {
            no_ipv6(key, value, found);
            None
        }
        Err(_) => {
            not_an_address(key, value, "an IPv4 address", "\"192.0.2.10\"", found);
            None
        }
    }
}

fn not_an_address(key: &str, value: &Spanned<String>, what: &str, example: &str, found: &mut Findings<'_>) {
    let given = value.get_ref();
    let (remedy, example) = if given.contains('/') {
        ("write it without the prefix length, for example", example)
    } else if given.contains(':') {
        ("write at most eight groups of hexadecimal digits, for example", "\"2001:db8::10\"")
    } else {
        ("write four numbers of 0 to 255, for example", "\"192.0.2.10\"")
    };
    let sentence = format!("`{key}` has \"{}\", which is not {what}", short(given));
    found.error(&value.span(), sentence, format!("{remedy} {example}"));
}

fn no_ipv6(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) {
    found.error(
        &value.span(),
        format!("`{key}` has the IPv6 address \"{}\"", short(value.get_ref())),
        "this key has no IPv6 in this release yet, write an IPv4 address",
    );
}

/// Whether one host can have the address.
pub(super) fn unicast(key: &str, ip: IpAddr, at: &Range<usize>, found: &mut Findings<'_>) -> bool {
    let kind = match ip {
        IpAddr::V4(ip) => special4(ip),
        IpAddr::V6(ip) => special6(ip),
    };
    if let Some(kind) = kind {
        found.error(at, format!("`{key}` has {ip}, {kind}"), "write an address that one host can have");
    }
    kind.is_none()
}

fn special4(ip: Ipv4Addr) -> Option<&'static str> {
    Some(match ip {
        ip if ip.is_unspecified() => "no address",
        ip if ip.is_loopback() => "a loopback address",
        ip if ip.is_multicast() => "a multicast address",
        ip if ip.is_broadcast() => "the broadcast address",
        ip if ip.octets()[0] == 0 || ip.octets()[0] >= 240 => "a reserved address",
        _ => return None,
    })
}

fn special6(ip: Ipv6Addr) -> Option<&'static str> {
    Some(match ip {
        ip if ip.is_unspecified() => "no address",
        ip if ip.is_loopback() => "a loopback address",
        ip if ip.is_multicast() => "a multicast address",
        // RFC 4291 section 2.5.5.2: such an address is never on the wire.
        ip if ip.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6 form",
        _ => return None,
    })
}

/// Whether only one link knows the address (RFC 3927, RFC 4291 section 2.5.6).
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// `ip:port`, neither of them special.
pub(super) fn socket(key: &str, text: &Spanned<String>, example: &str, found: &mut Findings<'_>) -> Option<SocketAddr> {
    let given = text.get_ref();
    let Ok(address) = given.parse::<SocketAddr>() else {
        not_a_socket(key, text, example, found);
        return None;
    };
    if address.port() == 0 {
        found.error(&text.span(), format!("`{key}` has port 0"), "write a port of 1 to 65535");
    }
    let on_link = is_link_local(address.ip());
    if on_link {
        let sentence = format!("`{key}` has {}, a link-local address", address.ip());
        found.error(&text.span(), sentence, "write an address that is routed to this node");
    }
    let good = unicast(key, address.ip(), &text.span(), found) && address.port() != 0;
    (good && !on_link).then_some(address)
}

fn not_a_socket(key: &str, text: &Spanned<String>, example: &str, found: &mut Findings<'_>) {
    let given = text.get_ref();
    // `fd01:c::1:80` is how a label has it; here it could be the address alone.
    let bare = given.parse::<Ipv6Addr>().is_ok();
    let remedy = match given.rsplit_once(':').filter(|_| bare) {
        Some((ip, port)) if ip.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() => {
            format!("write an IPv6 address in brackets, \"[{ip}]:{port}\" or \"[{given}]:80\"")
        }
        Some(_) | None if bare => format!("write it in brackets and with a port, for example \"[{given}]:80\""),
        Some(_) | None => format!("write it like \"{example}\""),
    };
    found.error(&text.span(), format!("`{key}` has \"{}\", which is not an address and port", short(given)), remedy);
}

/// An IPv4 prefix without host bits.
pub(super) fn prefix4(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Ipv4Net> {
    let net = network4(key, value, "10.0.0.0/24", found)?;
    without_host_bits(key, net.into(), value, found).then_some(net)
}

/// A prefix of either family without host bits.
pub(super) fn prefix(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<IpNet> {
    let net = network(key, value, "10.0.0.0/24", found)?;
    without_host_bits(key, net, value, found).then_some(net)
}

fn without_host_bits(key: &str, net: IpNet, value: &Spanned<String>, found: &mut Findings<'_>) -> bool {
    let good = net.addr() == net.network();
    if !good {
        found.error(
            &value.span(),
            format!("`{key}` has {net}, whose address has bits after the prefix"),
            format!("write \"{}\"", net.trunc()),
        );
    }
    good
}

/// A host's IPv4 address with its prefix length.
pub(super) fn interface4(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Ipv4Net> {
    let net = network4(key, value, "192.0.2.10/24", found)?;
    of_a_host(key, net.into(), value, found).then_some(net)
}

/// A host's address with its prefix length.
pub(super) fn interface(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<IpNet> {
    let net = network(key, value, "192.0.2.10/24", found)?;
    of_a_host(key, net, value, found).then_some(net)
}

fn of_a_host(key: &str, net: IpNet, value: &Spanned<String>, found: &mut Findings<'_>) -> bool {
    if !unicast(key, net.addr(), &value.span(), found) {
        return false;
    }
    let which = match net {
        IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.network() => "the network's own address",
        IpNet::V4(net) if net.prefix_len() < 31 && net.addr() == net.broadcast() => "the network's broadcast address",
        // RFC 4291 section 2.6.1; RFC 6164 frees it on links of 127 bits.
        IpNet::V6(net) if net.prefix_len() < 127 && net.addr() == net.network() => {
            "the subnet's router anycast address"
        }
        IpNet::V4(_) | IpNet::V6(_) => return true,
    };
    found.error(&value.span(), format!("`{key}` has {net}, {which}"), "write the address of a host in it");
    false
}

fn network4(key: &str, value: &Spanned<String>, example: &str, found: &mut Findings<'_>) -> Option<Ipv4Net> {
    match value.get_ref().parse() {
        Ok(IpNet::V4(net)) => Some(net),
        Ok(IpNet::V6(_)) => {
            no_ipv6(key, value, found);
            None
        }
        Err(_) => {
            not_a_network(key, value, "an IPv4 address", example, found);
            None
        }
    }
}

fn network(key: &str, value: &Spanned<String>, example: &str, found: &mut Findings<'_>) -> Option<IpNet> {
    let net = value.get_ref().parse().ok();
    if net.is_none() {
        not_a_network(key, value, "an address", example, found);
    }
    net
}

fn not_a_network(key: &str, value: &Spanned<String>, what: &str, example: &str, found: &mut Findings<'_>) {
    let given = value.get_ref();
    if let Ok(ip) = given.parse::<IpAddr>() {
        let length = if ip.is_ipv4() { 24 } else { 64 };
        found.error(
            &value.span(),
            format!("`{key}` has \"{given}\" without a prefix length"),
            format!("write it with one, for example \"{given}/{length}\""),
        );
    } else {
        let sentence = format!("`{key}` has \"{}\", which is not {what} with a prefix length", short(given));
        found.error(&value.span(), sentence, format!("write for example \"{example}\""));
    }
}
