//! `[vip]` and `[snat]`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::value;
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
    let (key, at) = match (&file.named_min, &file.named_max) {
        (Some(at), _) => ("vip.named_min", at.span()),
        (None, Some(at)) => ("vip.named_max", at.span()),
        (None, None) => ("vip.named_min", 0..0),
    };
    claims.range(Owner::Named, *named.start(), *named.end(), key, &at);
    let hash_key_file = value::filled("hash_key_file", &file.hash_key_file, "the path of a file of 16 octets", found);
    Vip {
        named,
        named6,
        mode: Mode::Nat,
        sharing: Sharing::Union,
        empty: Empty::Reset,
        second_chance: false,
        hash_key_file: hash_key_file.map(PathBuf::from),
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
    let snat = Snat {
        underlay: addresses("underlay", Owner::Snat, "snat.underlay", &file.underlay, claims, found),
        underlay6: Vec::new(),
        overlay: addresses("overlay", Owner::SnatOverlay, "snat.overlay", &file.overlay, claims, found),
        ports: ports(&file.ports, found),
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

/// A list of our addresses, claimed.
pub(super) fn addresses(
    key: &str,
    owner: Owner,
    full_key: &'static str,
    list: &List<String>,
    claims: &mut Claims,
    found: &mut Findings<'_>,
) -> Vec<Ipv4Addr> {
    if let Some(list) = list.as_ref().filter(|list| list.get_ref().len() > MOST_ADDRESSES) {
        found.error(
            &list.span(),
            format!("`{key}` has {} addresses", list.get_ref().len()),
            format!("write at most {MOST_ADDRESSES}"),
        );
        return Vec::new();
    }
    let mut good = Vec::new();
    for address in value::each(list) {
        if let Some(ip) = value::ipv4(key, address, found) {
            claims.host(owner, ip, full_key, &address.span());
            good.push(ip);
        }
    }
    good
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
