//! Single values: text -> address, prefix, MAC, number, choice. Each takes its key's name for the sentence, reports
//! what is wrong, and gives `None` (or the default) so that the rest of the file is checked too.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Range, RangeInclusive};

use ipnet::Ipv4Net;
use toml::Spanned;

use crate::diagnostic::Findings;
use crate::file::{List, Value};
use crate::model::Mac;
use crate::words::{nearest, short};

/// The value of a key that must be given.
pub(super) fn required<'a, T>(
    section: &str,
    key: &str,
    value: &'a Value<T>,
    at: &Range<usize>,
    example: &str,
    found: &mut Findings<'_>,
) -> Option<&'a Spanned<T>> {
    if value.is_none() && found.is_complete(at) {
        found.error(at, format!("`{key}` is missing from {section}"), format!("add `{key} = {example}`"));
    }
    value.as_ref()
}

/// Elements of a list that may be absent.
pub(super) fn each<T>(list: &List<T>) -> &[Spanned<T>] {
    list.as_ref().map_or(&[], |list| list.get_ref())
}

/// Where a key's value stands, or else the table that it could stand in.
pub(super) fn place<T>(value: &Value<T>, table: &Range<usize>) -> Range<usize> {
    value.as_ref().map_or_else(|| table.clone(), Spanned::span)
}

pub(super) fn text(value: &Value<String>, default: &str) -> String {
    value.as_ref().map_or_else(|| default.to_owned(), |v| v.get_ref().clone())
}

pub(super) fn flag(value: &Value<bool>, default: bool) -> bool {
    value.as_ref().map_or(default, |v| *v.get_ref())
}

/// A string that may be absent but not empty.
pub(super) fn filled(key: &str, value: &Value<String>, example: &str, found: &mut Findings<'_>) -> Option<String> {
    let value = value.as_ref()?;
    if value.get_ref().is_empty() {
        found.error(&value.span(), format!("`{key}` is empty"), format!("write {example}"));
    }
    Some(value.get_ref().clone())
}

/// An integer within bounds.
pub(super) fn number<T: TryFrom<i64>>(
    key: &str,
    value: &Value<i64>,
    default: T,
    bounds: RangeInclusive<i64>,
    found: &mut Findings<'_>,
) -> T {
    let Some(value) = value else { return default };
    within(key, value, bounds, found).unwrap_or(default)
}

/// As [`number`], of a value that is there.
pub(super) fn within<T: TryFrom<i64>>(
    key: &str,
    value: &Spanned<i64>,
    bounds: RangeInclusive<i64>,
    found: &mut Findings<'_>,
) -> Option<T> {
    let given = *value.get_ref();
    let fits = if bounds.contains(&given) { T::try_from(given).ok() } else { None };
    if fits.is_none() {
        let (least, most) = bounds.into_inner();
        let side = if given < least { "too small" } else { "too large" };
        found.error(&value.span(), format!("`{key}` is {given}, {side}"), format!("write {least} to {most}"));
    }
    fits
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    key: &str,
    value: &Value<String>,
    default: T,
    words: &[(&str, T)],
    found: &mut Findings<'_>,
) -> T {
    let Some(value) = value else { return default };
    one_of(key, value, words, found).unwrap_or(default)
}

/// As [`choice`], of a value that is there.
pub(super) fn one_of<T: Copy>(
    key: &str,
    value: &Spanned<String>,
    words: &[(&str, T)],
    found: &mut Findings<'_>,
) -> Option<T> {
    let given = value.get_ref().as_str();
    let meant = words.iter().find(|(word, _)| *word == given).map(|(_, meant)| *meant);
    if meant.is_none() {
        let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let remedy = nearest(given, words.iter().map(|(word, _)| *word))
            .map_or_else(|| format!("write {}", all.join(" or ")), |near| format!("did you mean \"{near}\"?"));
        found.error(&value.span(), format!("`{key}` is \"{}\"", short(given)), remedy);
    }
    meant
}

/// A unicast IPv4 address.
pub(super) fn ipv4(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Ipv4Addr> {
    let given = value.get_ref();
    match given.parse() {
        Ok(IpAddr::V4(ip)) => unicast(key, ip, &value.span(), found).then_some(ip),
        Ok(IpAddr::V6(_)) => {
            no_ipv6(key, value, found);
            None
        }
        Err(_) => {
            let remedy = if given.contains('/') {
                "write it without the prefix length, for example"
            } else {
                "write four numbers of 0 to 255, for example"
            };
            found.error(
                &value.span(),
                format!("`{key}` has \"{}\", which is not an IPv4 address", short(given)),
                format!("{remedy} \"192.0.2.10\""),
            );
            None
        }
    }
}

pub(super) fn no_ipv6(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) {
    found.error(
        &value.span(),
        format!("`{key}` has the IPv6 address \"{}\"", short(value.get_ref())),
        "IPv6 is not in this release yet, write an IPv4 address",
    );
}

/// Whether one host can have the address.
pub(super) fn unicast(key: &str, ip: Ipv4Addr, at: &Range<usize>, found: &mut Findings<'_>) -> bool {
    let kind = match ip {
        ip if ip.is_unspecified() => "no address",
        ip if ip.is_loopback() => "a loopback address",
        ip if ip.is_multicast() => "a multicast address",
        ip if ip.is_broadcast() => "the broadcast address",
        ip if ip.octets()[0] == 0 || ip.octets()[0] >= 240 => "a reserved address",
        _ => return true,
    };
    found.error(at, format!("`{key}` has {ip}, {kind}"), "write an address that one host can have");
    false
}

/// A prefix without host bits.
pub(super) fn prefix(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Ipv4Net> {
    let net = network(key, value, "10.0.0.0/24", found)?;
    if net.addr() == net.network() {
        return Some(net);
    }
    found.error(
        &value.span(),
        format!("`{key}` has {net}, whose address has bits after the prefix"),
        format!("write \"{}\"", net.trunc()),
    );
    None
}

/// A host's address with its prefix length.
pub(super) fn interface(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Ipv4Net> {
    let net = network(key, value, "192.0.2.10/24", found)?;
    if !unicast(key, net.addr(), &value.span(), found) {
        return None;
    }
    let end = net.prefix_len() < 31 && (net.addr() == net.network() || net.addr() == net.broadcast());
    if end {
        let which =
            if net.addr() == net.network() { "the network's own address" } else { "the network's broadcast address" };
        found.error(&value.span(), format!("`{key}` has {net}, {which}"), "write the address of a host in it");
    }
    (!end).then_some(net)
}

fn network(key: &str, value: &Spanned<String>, example: &str, found: &mut Findings<'_>) -> Option<Ipv4Net> {
    let given = value.get_ref();
    if let Ok(net) = given.parse() {
        return Some(net);
    }
    if given.parse::<ipnet::Ipv6Net>().is_ok() {
        no_ipv6(key, value, found);
    } else if given.parse::<Ipv4Addr>().is_ok() {
        found.error(
            &value.span(),
            format!("`{key}` has \"{given}\" without a prefix length"),
            format!("write it with one, for example \"{given}/24\""),
        );
    } else {
        let sentence = format!("`{key}` has \"{}\", which is not an IPv4 address with a prefix length", short(given));
        found.error(&value.span(), sentence, format!("write for example \"{example}\""));
    }
    None
}

/// A MAC that one interface can have.
pub(super) fn mac(key: &str, value: &Spanned<String>, found: &mut Findings<'_>) -> Option<Mac> {
    let given = value.get_ref();
    let Ok(mac) = given.parse::<Mac>() else {
        found.error(
            &value.span(),
            format!("`{key}` has \"{}\", which is not a MAC address", short(given)),
            "write six octets like \"02:00:00:00:00:01\"",
        );
        return None;
    };
    if mac.is_group() || mac == Mac::default() {
        let kind = if mac.is_group() { "a group address" } else { "no address" };
        found.error(
            &value.span(),
            format!("`{key}` has {mac}, {kind}"),
            "write the MAC of one interface, for example \"02:00:00:00:00:01\"",
        );
        return None;
    }
    Some(mac)
}
