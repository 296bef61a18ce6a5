//! `[dns]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::{address, resolvers, value, vip};
use crate::diagnostic::Findings;
use crate::file::{self, List, Sections, Value};
use crate::model::{Dns, DnsHealth, IpSource, StaticZone};
use crate::words::short;

const IP_SOURCES: &[(&str, IpSource)] = &[
    ("host", IpSource::Host),
    ("netinfo", IpSource::NetInfo),
    ("mesos", IpSource::Mesos),
    ("docker", IpSource::Docker),
];

const HEALTHS: &[(&str, DnsHealth)] =
    &[("prefer", DnsHealth::Prefer), ("require", DnsHealth::Require), ("ignore", DnsHealth::Ignore)];

/// RFC 2181 section 8: a TTL is 31 bits.
const LONGEST_TTL: i64 = 0x7fff_ffff;

pub(super) fn dns(file: Option<&Spanned<file::Dns>>, claims: &mut Claims, found: &mut Findings<'_>) -> Dns {
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    let compat = value::choice("compat", &file.compat, false, &[("none", false), ("mesos-dns", true)], found);
    let mut seconds = |key, value, default| value::number(key, value, default, 0..=LONGEST_TTL, found);
    let ttl = seconds("ttl", &file.ttl, 60);
    let dcos_ttl = seconds("dcos_ttl", &file.dcos_ttl, 5);
    // Mesos-DNS's SOA has its TTL as its MINIMUM (facts/dcos.md A.4).
    let negative_ttl = seconds("negative_ttl", &file.negative_ttl, if compat { ttl } else { 5 });
    let soa_refresh = seconds("soa_refresh", &file.soa_refresh, 60);
    let (soa_retry, soa_expire) =
        (seconds("soa_retry", &file.soa_retry, 600), seconds("soa_expire", &file.soa_expire, 86_400));
    let (addresses, addresses6) = addresses(&file.addresses, claims, found);
    let health = if compat { DnsHealth::Ignore } else { DnsHealth::Prefer };
    Dns {
        addresses,
        addresses6,
        domain: name("domain", &file.domain, "mesos", found),
        ttl,
        dcos_ttl,
        negative_ttl,
        soa_mname: name("soa_mname", &file.soa_mname, "ns1.mesos", found),
        soa_rname: name("soa_rname", &file.soa_rname, "root.ns1.mesos", found),
        soa_refresh,
        soa_retry,
        soa_expire,
        // RFC 6891 section 6.2.3: values below 512 are 512; 4096 fits every frame that is sent unfragmented or not.
        edns_max: value::number("edns_max", &file.edns_max, 1232, 512..=4096, found),
        truncate_bit: value::flag(&file.truncate_bit, true),
        recurse: value::flag(&file.recurse, true),
        external: value::flag(&file.external, false),
        resolvers: resolvers::listed("resolvers", value::each(&file.resolvers), found),
        zone_resolvers: resolvers::of_zones(&file.zone_resolvers, found),
        ip_sources: ip_sources(&file.ip_sources, compat, found),
        enforce_rfc952: value::flag(&file.enforce_rfc952, false),
        health: value::choice("health", &file.health, health, HEALTHS, found),
        compat,
        srv_weight: value::number("srv_weight", &file.srv_weight, 1, 0..=65_535, found),
        enumeration: value::flag(&file.enumeration, true),
        cluster_id: cluster_id(&file.cluster_id, found),
        trusted: value::each(&file.trusted).iter().filter_map(|p| address::prefix("trusted", p, found)).collect(),
        responses_per_second: value::number(
            "responses_per_second",
            &file.responses_per_second,
            200,
            1..=1_000_000_000,
            found,
        ),
        cookie_secret_file: value::filled(
            "cookie_secret_file",
            &file.cookie_secret_file,
            "the path of a file of 32 hexadecimal digits",
            found,
        )
        .map(PathBuf::from),
        nsid: nsid(&file.nsid, found),
        zones: zones(&file.zone, found),
    }
}

fn addresses(list: &List<String>, claims: &mut Claims, found: &mut Findings<'_>) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for at in vip::bounded("addresses", list, found) {
        let Some(ip) = address::ip("addresses", at, found) else { continue };
        claims.host(Owner::Dns, ip, "dns.addresses", &at.span());
        match ip {
            IpAddr::V4(ip) => v4.push(ip),
            IpAddr::V6(ip) => v6.push(ip),
        }
    }
    (v4, v6)
}

/// One label or more; empty is none.
fn cluster_id(value: &Value<String>, found: &mut Findings<'_>) -> String {
    match value.as_ref().filter(|value| !value.get_ref().is_empty()) {
        Some(_) => name("cluster_id", value, "9a2c", found),
        None => String::new(),
    }
}

fn nsid(value: &Value<String>, found: &mut Findings<'_>) -> String {
    /// Room for it beside an answer in 512 octets.
    const LONGEST: usize = 128;
    let text = value::text(value, "");
    if let Some(value) = value.as_ref().filter(|value| value.get_ref().len() > LONGEST) {
        found.error(
            &value.span(),
            format!("`nsid` has {} octets", value.get_ref().len()),
            format!("write at most {LONGEST}"),
        );
    }
    text
}

fn zones(sections: &Sections<file::DnsZone>, found: &mut Findings<'_>) -> Vec<StaticZone> {
    let mut zones: Vec<StaticZone> = Vec::new();
    for section in sections {
        let (at, file) = (section.span(), section.get_ref());
        if value::required("[[dns.zone]]", "name", &file.name, &at, "\"corp.example\"", found).is_none() {
            continue;
        }
        let name = name("name", &file.name, "corp.example", found);
        if zones.iter().any(|zone| zone.name == name) {
            let remedy = "write its records into one [[dns.zone]]";
            found.error(&value::place(&file.name, &at), format!("the zone {name} is there twice"), remedy);
        }
        let path = value::filled("file", &file.file, "the path of a master file", found).map(PathBuf::from);
        let records: Vec<String> = value::each(&file.records).iter().map(|r| r.get_ref().clone()).collect();
        if path.is_none() && records.is_empty() && found.is_complete(&at) {
            found.error(&at, format!("the zone {name} has neither `file` nor `records`"), "add one of them");
        }
        zones.push(StaticZone { name, file: path, records });
    }
    zones
}

fn name(key: &str, value: &Value<String>, default: &str, found: &mut Findings<'_>) -> String {
    let name = value.as_ref().and_then(|value| domain(key, value, default, found));
    name.unwrap_or_else(|| default.to_owned())
}

/// A domain name, lower case, without dots at its ends.
pub(super) fn domain(key: &str, value: &Spanned<String>, example: &str, found: &mut Findings<'_>) -> Option<String> {
    let given = value.get_ref();
    let name = given.strip_suffix('.').unwrap_or(given).to_ascii_lowercase();
    // RFC 1035 section 2.3.4: labels to 63 octets, names to 255 with the length octets.
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.len() > 253 || !name.split('.').all(label) {
        found.error(
            &value.span(),
            format!("`{key}` is \"{}\", which is not a domain name", short(given)),
            format!("write one like \"{example}\""),
        );
        return None;
    }
    Some(name)
}

fn ip_sources(list: &List<String>, compat: bool, found: &mut Findings<'_>) -> Vec<IpSource> {
    let Some(list) = list else {
        return match compat {
            true => vec![IpSource::NetInfo, IpSource::Mesos, IpSource::Host],
            false => vec![IpSource::Host, IpSource::NetInfo],
        };
    };
    if list.get_ref().is_empty() {
        found.error(&list.span(), "`ip_sources` is empty", "write at least one, for example [\"host\", \"netinfo\"]");
    }
    super::port::unique("ip_sources", list.get_ref().iter().map(|s| (s.get_ref().as_str(), s.span())), found);
    list.get_ref().iter().filter_map(|source| value::one_of("ip_sources", source, IP_SOURCES, found)).collect()
}
