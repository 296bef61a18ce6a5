//! `[dns]`.

use toml::Spanned;

use super::claims::{Claims, Owner};
use super::{value, vip};
use crate::diagnostic::Findings;
use crate::file::{self, List, Value};
use crate::model::{Dns, IpSource};
use crate::words::short;

const IP_SOURCES: &[(&str, IpSource)] = &[
    ("host", IpSource::Host),
    ("netinfo", IpSource::NetInfo),
    ("mesos", IpSource::Mesos),
    ("docker", IpSource::Docker),
];

/// RFC 2181 section 8: a TTL is 31 bits.
const LONGEST_TTL: i64 = 0x7fff_ffff;

pub(super) fn dns(file: Option<&Spanned<file::Dns>>, claims: &mut Claims, found: &mut Findings<'_>) -> Dns {
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    let mut seconds = |key, value, default| value::number(key, value, default, 0..=LONGEST_TTL, found);
    let (ttl, dcos_ttl, negative_ttl) = (
        seconds("ttl", &file.ttl, 60),
        seconds("dcos_ttl", &file.dcos_ttl, 5),
        seconds("negative_ttl", &file.negative_ttl, 5),
    );
    let soa_refresh = seconds("soa_refresh", &file.soa_refresh, 60);
    let (soa_retry, soa_expire) =
        (seconds("soa_retry", &file.soa_retry, 600), seconds("soa_expire", &file.soa_expire, 86_400));
    Dns {
        addresses: vip::addresses("addresses", Owner::Dns, "dns.addresses", &file.addresses, claims, found),
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
        ip_sources: ip_sources(&file.ip_sources, found),
        enforce_rfc952: value::flag(&file.enforce_rfc952, false),
    }
}

/// A domain name, lower case, without dots at its ends.
fn name(key: &str, value: &Value<String>, default: &str, found: &mut Findings<'_>) -> String {
    let Some(value) = value else { return default.to_owned() };
    let given = value.get_ref();
    let name = given.strip_suffix('.').unwrap_or(given).to_ascii_lowercase();
    // RFC 1035 section 2.3.4: labels to 63 octets, names to 255 with the length octets.
    let label =
        |l: &str| (1..=63).contains(&l.len()) && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.len() > 253 || !name.split('.').all(label) {
        found.error(
            &value.span(),
            format!("`{key}` is \"{}\", which is not a domain name", short(given)),
            format!("write one like \"{default}\""),
        );
        return default.to_owned();
    }
    name
}

fn ip_sources(list: &List<String>, found: &mut Findings<'_>) -> Vec<IpSource> {
    let Some(list) = list else { return vec![IpSource::Host, IpSource::NetInfo] };
    if list.get_ref().is_empty() {
        found.error(&list.span(), "`ip_sources` is empty", "write at least one, for example [\"host\", \"netinfo\"]");
    }
    super::port::unique("ip_sources", list.get_ref().iter().map(|s| (s.get_ref().as_str(), s.span())), found);
    list.get_ref().iter().filter_map(|source| value::one_of("ip_sources", source, IP_SOURCES, found)).collect()
}
