//! `[vip]` and `[snat]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::{address, value};
use crate::diagnostic::Findings;
use crate::file::{self, List, Value};
use crate::model::{Empty, Mode, Sharing, Snat, Vip};
use crate::words::{counted, short};

/// One address serves 64,000 flows per backend (design.md section 4).
const MOST_ADDRESSES: usize = 256;

pub(super) fn vip(file: Option<&Spanned<file::Vip>>, claims: &mut Claims, found: &mut Findings<'_>) -> Vip {
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    let named = range(["named_min", "named_max"], [&file.named_min, &file.named_max], DCOS, "11.0.0.0", found);
    let named6 = range(["named6_min", "named6_max"], [&file.named6_min, &file.named6_max], DCOS6, "fd01:c::", found);
    let (key, at) = written(["vip.named_min", "vip.named_max"], [&file.named_min, &file.named_max]);
    claims.range(Owner::Named, *named.start(), *named.end(), key, &at);
    let (key, at) = written(["vip.named6_min", "vip.named6_max"], [&file.named6_min, &file.named6_max]);
    claims.range(Owner::Named, *named6.start(), *named6.end(), key, &at);
    let mut path = |key, value, example| value::filled(key, value, example, found).map(PathBuf::from);
    let hash_key_file = path("hash_key_file", &file.hash_key_file, "the path of a file of 16 octets");
    let store = path("store", &file.store, "the path of a file in a folder that exists");
    Vip {
        named,
        named6,
        mode: value::choice("mode", &file.mode, Mode::Nat, Mode::ALL, found),
        sharing: value::choice("sharing", &file.sharing, Sharing::Union, SHARING, found),
        empty: value::choice("empty", &file.empty, Empty::Reset, EMPTY, found),
        second_chance: value::flag(&file.second_chance, false),
        store,
        hash_key_file,
    }
}

const SHARING: &[(&str, Sharing)] = &[("union", Sharing::Union), ("owner", Sharing::Owner)];
pub(super) const EMPTY: &[(&str, Empty)] = &[("reset", Empty::Reset), ("drop", Empty::Drop)];

/// Which end of a range is written, and where; no place is the default's.
fn written(keys: [&'static str; 2], ends: [&Value<String>; 2]) -> (&'static str, Range<usize>) {
    let [min_key, max_key] = keys;
    match ends {
        [Some(at), _] => (min_key, at.span()),
        [None, Some(at)] => (max_key, at.span()),
        [None, None] => (min_key, 0..0),
    }
}

const DCOS: [Ipv4Addr; 2] = [Ipv4Addr::new(11, 0, 0, 0), Ipv4Addr::new(11, 255, 255, 255)];
const DCOS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, 0), Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0xffff, 0xffff, 0xffff, 0xffff)];

/// Both ends of a range; either may be absent.
fn range<T: FromStr + Copy + Ord>(
    keys: [&str; 2],
    ends: [&Value<String>; 2],
    defaults: [T; 2],
    example: &str,
    found: &mut Findings<'_>,
) -> RangeInclusive<T> {
    let [min_key, max_key] = keys;
    let [min, max] = ends;
    let [least, most] = defaults;
    let first = end(min_key, min, least, example, found);
    let last = end(max_key, max, most, example, found);
    if let (Some(at), true) = (max.as_ref().or(min.as_ref()), first > last) {
        found.error(
            &at.span(),
            format!("`{min_key}` is above `{max_key}`"),
            format!("write the first and the last address of the range, for example `{min_key} = \"{example}\"`"),
        );
        return least..=most;
    }
    first..=last
}

fn end<T: FromStr + Copy>(key: &str, text: &Value<String>, default: T, example: &str, found: &mut Findings<'_>) -> T {
    let Some(text) = text else { return default };
    text.get_ref().parse().unwrap_or_else(|_| {
        let sentence = format!(
            "`{key}` is \"{}\", which is not an {} address",
            short(text.get_ref()),
            if example.contains(':') { "IPv6" } else { "IPv4" }
        );
        found.error(
            &text.span(),
            sentence,
            format!("write one address without prefix length, for example \"{example}\""),
        );
        default
    })
}

pub(super) fn snat(
    file: Option<&Spanned<file::Snat>>,
    workers: usize,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Snat {
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    let (underlay, underlay6) = sources(("underlay", "snat.underlay"), Owner::Snat, &file.underlay, claims, found);
    let (overlay, overlay6) = sources(("overlay", "snat.overlay"), Owner::SnatOverlay, &file.overlay, claims, found);
    let snat = Snat {
        underlay,
        underlay6,
        overlay,
        overlay6,
        ports: ports(&file.ports, found),
        quota: file.quota.as_ref().and_then(|quota| value::within("quota", quota, 1..=16_777_216, found)),
    };
    if let (Some(at), true) = (&file.ports, snat.blocks() < workers) {
        too_few(at, &snat, workers, found);
    }
    snat
}

/// A worker without a block of its own could begin no flow.
fn too_few(at: &Spanned<String>, snat: &Snat, workers: usize, found: &mut Findings<'_>) {
    let block = usize::from(Snat::BLOCK);
    let needed = workers * block;
    let first = usize::from(*snat.ports.start()).next_multiple_of(block);
    let first = if first + needed > 65_536 { 1024 } else { first };
    let sentence = format!(
        "`ports` is \"{}\", which has {} of {block} for {}",
        short(at.get_ref()),
        counted(snat.blocks(), "whole block"),
        counted(workers, "worker"),
    );
    let remedy = format!(
        "each worker needs {block} ports from a multiple of {block} on: write at least {needed} in all, for example \"{first}-{}\"",
        first + needed - 1
    );
    found.error(&at.span(), sentence, remedy);
}

/// Source addresses towards one side, by family.
fn sources(
    (key, full_key): (&str, &'static str),
    owner: Owner,
    list: &List<String>,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let (mut good, mut good6) = (Vec::new(), Vec::new());
    for at in bounded(key, list, found) {
        let Some(ip) = address::ip(key, at, found) else { continue };
        if address::is_link_local(ip) && ip.is_ipv6() {
            let sentence = format!("`{key}` has {ip}, a link-local address");
            found.error(&at.span(), sentence, "write an address that backends route to this node");
            continue;
        }
        claims.host(owner, ip, full_key, &at.span());
        match ip {
            IpAddr::V4(ip) => good.push(ip),
            IpAddr::V6(ip) => good6.push(ip),
        }
    }
    (good, good6)
}

/// The elements of a list that is not too long.
pub(super) fn bounded<'a>(key: &str, list: &'a List<String>, found: &mut Findings<'_>) -> &'a [Spanned<String>] {
    if let Some(list) = list.as_ref().filter(|list| list.get_ref().len() > MOST_ADDRESSES) {
        found.error(
            &list.span(),
            format!("`{key}` has {} addresses", list.get_ref().len()),
            format!("write at most {MOST_ADDRESSES}"),
        );
        return &[];
    }
    value::each(list)
}

fn ports(text: &Value<String>, found: &mut Findings<'_>) -> RangeInclusive<u16> {
    let Some(text) = text else { return 1024..=65_535 };
    match port_range(text.get_ref()) {
        Some(ports) => ports,
        None => {
            bad_ports(text.get_ref(), &text.span(), found);
            1024..=65_535
        }
    }
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    // A worker owns whole blocks of 64 ports (design.md section 2).
    (first > 0 && last >= first && last - first >= 63).then_some(first..=last)
}

fn bad_ports(text: &str, at: &Range<usize>, found: &mut Findings<'_>) {
    found.error(
        at,
        format!("`ports` is \"{}\"", short(text)),
        "write the first and the last port, at least 64 of them, for example \"1024-65535\"",
    );
}
