//! Who may use a static service and how much of it there is, and the size of its Maglev table.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::{address, value};
use crate::diagnostic::Findings;
use crate::file::{self, List, Value};
use crate::model::{Admission, AllowGroups};
use crate::words::counted;

/// Every packet of a new flow is compared with them.
const MOST_PREFIXES: usize = 1024;

/// Sizes of Maglev tables, and the backends up to which the unevenness stays within 1 % (facts/balancing.md).
const MAGLEV: &[(u32, usize)] = &[(4093, 40), (65_537, 655), (655_373, 6553)];

/// What the keys of one service say of its clients; `vip` is its address, where that can be read.
pub(super) fn admission(file: &file::Service, vip: Option<IpAddr>, found: &mut Findings<'_>) -> Admission {
    let allow = prefixes("allow", &file.allow, vip, found);
    let deny = prefixes("deny", &file.deny, vip, found);
    for (net, at) in &deny {
        if let Some((allowed, _)) = allow.iter().find(|(allowed, _)| net.contains(allowed)) {
            let sentence = format!("`deny` has {net}, which leaves nothing of {allowed} in `allow`");
            found.error(at, sentence, "`deny` goes first: remove one of the two");
        }
    }
    Admission {
        new_per_second: bound("new_per_second", &file.new_per_second, found),
        sessions: bound("sessions", &file.sessions, found),
        allow: allow.into_iter().map(|(net, _)| net).collect(),
        deny: deny.into_iter().map(|(net, _)| net).collect(),
        groups: AllowGroups::Own,
    }
}

fn bound(key: &str, value: &Value<i64>, found: &mut Findings<'_>) -> Option<u32> {
    value.as_ref().and_then(|value| value::within(key, value, 1..=i64::from(u32::MAX), found))
}

fn prefixes(
    key: &str,
    list: &List<String>,
    vip: Option<IpAddr>,
    found: &mut Findings<'_>,
) -> Vec<(IpNet, std::ops::Range<usize>)> {
    if let Some(list) = list.as_ref().filter(|list| list.get_ref().len() > MOST_PREFIXES) {
        let sentence = format!("`{key}` has {}", counted(list.get_ref().len(), "prefix"));
        found.error(&list.span(), sentence, format!("write at most {MOST_PREFIXES}"));
        return Vec::new();
    }
    let mut good: Vec<_> = value::each(list).iter().filter_map(|at| prefix(key, at, vip, found)).collect();
    super::port::unique(key, good.iter().map(|(net, at)| (*net, at.clone())), found);
    good.sort_by_key(|(net, _)| *net);
    good
}

/// Clients of a VIP have addresses of its family.
fn prefix(
    key: &str,
    at: &Spanned<String>,
    vip: Option<IpAddr>,
    found: &mut Findings<'_>,
) -> Option<(IpNet, std::ops::Range<usize>)> {
    let net = address::prefix(key, at, found)?;
    let Some(vip) = vip.filter(|vip| vip.is_ipv4() != net.addr().is_ipv4()) else { return Some((net, at.span())) };
    let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
    found.error(
        &at.span(),
        format!("`{key}` has {net}, and no client of {vip} has such an address"),
        format!("write an {family} prefix, or remove it"),
    );
    None
}

/// The pinned size of a service's Maglev table.
pub(super) fn maglev_size(file: &file::Service, found: &mut Findings<'_>) -> Option<u32> {
    let at = file.maglev_size.as_ref()?;
    let given = *at.get_ref();
    let Some((size, most)) = MAGLEV.iter().find(|(size, _)| i64::from(*size) == given) else {
        found.error(&at.span(), format!("`maglev_size` is {given}"), "write 4093, 65537 or 655373");
        return None;
    };
    if file.backends.len() > *most {
        let fitting = MAGLEV.iter().find(|(_, most)| file.backends.len() <= *most);
        let remedy = fitting.map_or_else(|| "remove it".to_owned(), |(size, _)| format!("write {size}, or remove it"));
        let sentence = format!("`maglev_size` is {given}, uneven with {}", counted(file.backends.len(), "backend"));
        found.warning(&at.span(), sentence, remedy);
    }
    Some(*size)
}
