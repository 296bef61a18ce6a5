//! `[health]`, and `health = {..}` of a `[[service]]`: what judges backends.

use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;

use super::{address, value};
use crate::diagnostic::Findings;
use crate::file::{self, Value};
use crate::model::{FailOpen, Health, HealthCheck, Pace, Passive, Probe, Protocol, is_path};
use crate::words::short;

/// The words of `kind`, and the protocol that each asks.
const KINDS: &[(&str, Kind)] = &[("off", Kind::Off), ("tcp", Kind::Tcp), ("http", Kind::Http), ("udp", Kind::Udp)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Off,
    Tcp,
    Http,
    Udp,
}

pub(super) fn health(file: Option<&Spanned<file::Health>>, found: &mut Findings<'_>) -> Health {
    let file = file.map(|at| at.get_ref().clone()).unwrap_or_default();
    let default = Health::default();
    let passive = default.passive;
    Health {
        check: check(&of_section(&file), &default.check, found),
        parallel: value::number("parallel", &file.parallel, default.parallel, 1..=4096, found),
        passive: Passive {
            failures: value::number("eject_failures", &file.eject_failures, passive.failures, 1..=255, found),
            seconds: value::number("eject_seconds", &file.eject_seconds, passive.seconds, 1..=3600, found),
            percent: value::number("eject_percent", &file.eject_percent, passive.percent, 0..=100, found),
        },
        upgrade_percent: value::number(
            "upgrade_percent",
            &file.upgrade_percent,
            default.upgrade_percent,
            0..=100,
            found,
        ),
        probe_range: range(&file.probe_range, found),
        probe_range6: range6(&file.probe_range6, found),
    }
}

/// What `[health]` and `service.health` have in common.
fn of_section(file: &file::Health) -> file::ServiceHealth {
    let file = file.clone();
    file::ServiceHealth {
        kind: file.kind,
        path: file.path,
        status: file.status,
        payload: file.payload,
        interval_seconds: file.interval_seconds,
        timeout_seconds: file.timeout_seconds,
        rise: file.rise,
        fall: file.fall,
        fail_open: file.fail_open,
    }
}

/// One service's check: what it leaves out is as in `[health]`, as far as its protocol can be asked so.
pub(super) fn of_service(
    file: Option<&Spanned<file::ServiceHealth>>,
    protocol: Protocol,
    section: &HealthCheck,
    found: &mut Findings<'_>,
) -> Option<HealthCheck> {
    let file = file?.get_ref();
    let asked = check(file, section, found);
    if let (Some(kind), false) = (&file.kind, asked.probe.fits(protocol)) {
        let remedy = match protocol {
            Protocol::Tcp => "write \"tcp\", \"http\" or \"off\"",
            Protocol::Udp => "write \"udp\" or \"off\"",
            Protocol::Sctp => "write \"off\": nothing can be asked of an SCTP service yet",
        };
        found.error(
            &kind.span(),
            format!("`kind` is \"{}\", and this is a {protocol} service", kind.get_ref()),
            remedy,
        );
    }
    Some(asked.of(protocol))
}

fn check(file: &file::ServiceHealth, default: &HealthCheck, found: &mut Findings<'_>) -> HealthCheck {
    let pace = Pace {
        interval_seconds: number(
            "interval_seconds",
            &file.interval_seconds,
            default.pace.interval_seconds,
            3600,
            found,
        ),
        timeout_seconds: number("timeout_seconds", &file.timeout_seconds, default.pace.timeout_seconds, 3600, found),
        rise: number("rise", &file.rise, default.pace.rise, 255, found),
        fall: number("fall", &file.fall, default.pace.fall, 255, found),
    };
    if pace.timeout_seconds > pace.interval_seconds {
        let at = file.timeout_seconds.as_ref().or(file.interval_seconds.as_ref()).map(Spanned::span);
        found.error(
            &at.unwrap_or_default(),
            format!(
                "a probe may take {} s and the next one begins after {} s",
                pace.timeout_seconds, pace.interval_seconds
            ),
            "write `timeout_seconds` no larger than `interval_seconds`",
        );
    }
    let open = matches!(default.fail_open, FailOpen::All);
    let fail_open = if value::flag(&file.fail_open, open) { FailOpen::All } else { FailOpen::Never };
    HealthCheck { probe: probe(file, &default.probe, found), pace, fail_open }
}

fn number<T: TryFrom<i64>>(key: &str, value: &Value<i64>, default: T, most: i64, found: &mut Findings<'_>) -> T {
    value::number(key, value, default, 1..=most, found)
}

fn probe(file: &file::ServiceHealth, default: &Probe, found: &mut Findings<'_>) -> Probe {
    let kind = match default {
        Probe::Off => Kind::Off,
        Probe::Tcp => Kind::Tcp,
        Probe::Http { .. } => Kind::Http,
        Probe::Udp { .. } => Kind::Udp,
    };
    let kind = value::choice("kind", &file.kind, kind, KINDS, found);
    let (mut path, mut status) = ("/".to_owned(), Probe::STATUS.into_inner());
    let mut payload = Probe::PAYLOAD.to_owned();
    match default {
        Probe::Http { path: p, status: s } => (path, status) = (p.clone(), *s),
        Probe::Udp { payload: p } => payload.clone_from(p),
        Probe::Off | Probe::Tcp => {}
    }
    if let Some(path) = &file.path {
        goes_with("path", &path.span(), kind, Kind::Http, found);
        checked_path(path, found);
    }
    if let Some(at) = &file.status {
        goes_with("status", &at.span(), kind, Kind::Http, found);
        status = statuses(at, found).unwrap_or(status);
    }
    if let Some(payload) = &file.payload {
        goes_with("payload", &payload.span(), kind, Kind::Udp, found);
        checked_payload(payload, found);
    }
    match kind {
        Kind::Off => Probe::Off,
        Kind::Tcp => Probe::Tcp,
        Kind::Http => Probe::Http { path: value::text(&file.path, &path), status },
        Kind::Udp => Probe::Udp { payload: value::text(&file.payload, &payload) },
    }
}

/// A key that only one kind of probe has a use for. The default of its kind may always be written.
fn goes_with(key: &str, at: &Range<usize>, kind: Kind, wanted: Kind, found: &mut Findings<'_>) {
    if kind != wanted && kind != Kind::Off {
        let word = KINDS.iter().find(|(_, k)| *k == wanted).map_or("", |(word, _)| word);
        found.error(at, format!("`{key}` is for `kind = \"{word}\"`"), format!("write that kind, or remove `{key}`"));
    }
}

fn checked_path(path: &Spanned<String>, found: &mut Findings<'_>) {
    if !is_path(path.get_ref()) {
        found.error(
            &path.span(),
            format!("`path` is \"{}\", which is no path of a request", short(path.get_ref())),
            format!("write `/` and printable ASCII without blanks, {} octets at most", Probe::PATH_MAX),
        );
    }
}

fn checked_payload(payload: &Spanned<String>, found: &mut Findings<'_>) {
    let octets = payload.get_ref().len();
    if octets > Probe::PAYLOAD_MAX {
        let remedy = format!("write at most {}", Probe::PAYLOAD_MAX);
        found.error(&payload.span(), format!("`payload` has {octets} octets"), remedy);
    }
}

/// `200` or `200-399`.
fn statuses(text: &Spanned<String>, found: &mut Findings<'_>) -> Option<(u16, u16)> {
    let given = text.get_ref();
    let (first, last) = given.split_once('-').unwrap_or((given, given));
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
    if range.is_none() {
        let sentence = format!("`status` is \"{}\", which is no range of HTTP statuses", short(given));
        found.error(&text.span(), sentence, "write it like \"200-399\", within 100 to 599");
    }
    range
}

fn range(text: &Value<String>, found: &mut Findings<'_>) -> Ipv4Net {
    let Some(given) = text else { return Health::PROBE_RANGE };
    let Some(net) = address::prefix4("probe_range", given, found) else { return Health::PROBE_RANGE };
    if net.prefix_len() > 24 || !address::unicast("probe_range", net.addr().into(), &given.span(), found) {
        let remedy =
            format!("write a prefix of /24 or shorter that nobody uses, for example \"{}\"", Health::PROBE_RANGE);
        too_narrow("probe_range", net.into(), remedy, given, found);
    }
    net
}

/// The same of IPv6.
fn range6(text: &Value<String>, found: &mut Findings<'_>) -> Ipv6Net {
    let Some(given) = text else { return Health::PROBE_RANGE6 };
    let remedy = format!("write an IPv6 prefix of /112 or shorter, for example \"{}\"", Health::PROBE_RANGE6);
    match address::prefix("probe_range6", given, found) {
        None => Health::PROBE_RANGE6,
        Some(IpNet::V6(net)) if net.prefix_len() <= 112 => {
            address::unicast("probe_range6", net.addr().into(), &given.span(), found);
            net
        }
        Some(net @ IpNet::V6(_)) => {
            too_narrow("probe_range6", net, remedy, given, found);
            Health::PROBE_RANGE6
        }
        Some(IpNet::V4(net)) => {
            found.error(&given.span(), format!("`probe_range6` is {net}, which is IPv4"), remedy);
            Health::PROBE_RANGE6
        }
    }
}

fn too_narrow(key: &str, net: IpNet, remedy: String, at: &Spanned<String>, found: &mut Findings<'_>) {
    let sentence = format!("`{key}` is {net}: every pair of VIP and backend needs an address");
    found.error(&at.span(), sentence, remedy);
}
