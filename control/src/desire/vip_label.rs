//! The grammar of a VIP label's value, as DC/OS reads it (facts/dcos.md B.1, B.2), with three defects mended: a port above
//! 65535, a name of which nothing may stand in DNS, and what begins like an address in brackets and is none are refused.
//! An IPv6 address in brackets is a name there (`[fd01:c::1]:80` is `fd01c1`), and here.

use std::net::{IpAddr, Ipv6Addr};

use crate::names::{self, LabelRule};

/// Longest value looked at, octets. A DNS name has at most 253.
pub const VALUE_OCTETS: usize = 1024;

/// What a label asks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// This very address, shared by all frameworks.
    Address(IpAddr),
    /// A name below the framework's, already in DNS form.
    Name(String),
}

/// A label's value, read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VipLabel {
    /// Address or name.
    pub target: Target,
    /// Port, never 0.
    pub port: u16,
}

/// Why a value is not a VIP.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAVip {
    /// Longer than anything that could be meant.
    #[error("longer than {VALUE_OCTETS} octets")]
    TooLong,
    /// No colon.
    #[error("no port: write NAME:PORT or ADDRESS:PORT")]
    NoPort,
    /// Right of the last colon is no number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Left of the last colon nothing is left that DNS could carry.
    #[error("nothing of the name may stand in DNS: write at least one letter or digit before the colon")]
    Name,
    /// A bracket before or behind what is no IPv6 address.
    #[error(
        "no IPv6 address stands in the brackets: write it without them, like fd01:c::1:80, or a name without a bracket"
    )]
    Brackets,
}

/// Whether a label of this key is a VIP label: it begins with `VIP` or `vip`, and nothing in between.
#[must_use]
pub fn is_vip_key(key: &str) -> bool {
    key.starts_with("VIP") || key.starts_with("vip")
}

/// Reads `ADDRESS:PORT` or `NAME:PORT`. An IPv6 address stands without brackets (`fd01:c::1:80`).
///
/// # Errors
/// Says what to write instead.
pub fn parse(value: &str) -> Result<VipLabel, NotAVip> {
    if value.len() > VALUE_OCTETS {
        return Err(NotAVip::TooLong);
    }
    let (left, right) = value.rsplit_once(':').ok_or(NotAVip::NoPort)?;
    let port = port(right).ok_or(NotAVip::Port)?;
    let target = match left.parse::<IpAddr>() {
        Ok(address) => Target::Address(address),
        Err(_) if is_broken_address(left) => return Err(NotAVip::Brackets),
        Err(_) => Target::Name(name(left)?),
    };
    Ok(VipLabel { target, port })
}

/// Whether somebody meant an IPv6 address in brackets and wrote something else: of that no name is made in silence.
fn is_broken_address(text: &str) -> bool {
    let (open, close) = (text.starts_with('['), text.ends_with(']'));
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    (open || close) && inner.is_none_or(|inner| inner.parse::<Ipv6Addr>().is_err())
}

/// Erlang's `binary_to_integer`: one sign, then digits only, leading zeros welcome.
fn port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let only_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    only_digits.then(|| digits.parse().ok()).flatten().filter(|port| *port != 0)
}

fn name(text: &str) -> Result<String, NotAVip> {
    let name = names::fragment(text, LabelRule::Rfc1123);
    if name.is_empty() { Err(NotAVip::Name) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::golden;

    fn named(name: &str, port: u16) -> Result<VipLabel, NotAVip> {
        Ok(VipLabel { target: Target::Name(name.into()), port })
    }

    fn address(ip: &str, port: u16) -> Result<VipLabel, NotAVip> {
        Ok(VipLabel { target: Target::Address(ip.parse().unwrap()), port })
    }

    #[test]
    fn values_are_read_as_dcos_reads_them() {
        for (value, expected) in [
            ("172.16.0.1:80", address("172.16.0.1", 80)),
            ("fd01:c::1:80", address("fd01:c::1", 80)),
            ("minitwit:80", named("minitwit", 80)),
            ("/minitwit:080", named("minitwit", 80)),
            ("/foo/bar:+80", named("foobar", 80)),
            ("Foo.Bar:65535", named("foo.bar", 65535)),
            ("01.02.03.04:80", named("01.02.03.04", 80)),
            ("tcp://foo:80", named("tcpfoo", 80)),
            ("foo:65536", Err(NotAVip::Port)),
            ("foo:0", Err(NotAVip::Port)),
            ("foo:-1", Err(NotAVip::Port)),
            ("foo:++1", Err(NotAVip::Port)),
            ("foo: 80", Err(NotAVip::Port)),
            ("foo:", Err(NotAVip::Port)),
            ("foo:99999999999999999999999", Err(NotAVip::Port)),
            ("foo", Err(NotAVip::NoPort)),
            ("", Err(NotAVip::NoPort)),
            (":80", Err(NotAVip::Name)),
            ("/:80", Err(NotAVip::Name)),
            ("$$.$$:80", Err(NotAVip::Name)),
            ("[fd01:c::1]:80", named("fd01c1", 80)),
            ("[fd01:c::1:80", Err(NotAVip::Brackets)),
            ("fd01:c::1]:80", Err(NotAVip::Brackets)),
            ("[fd01::c::1]:80", Err(NotAVip::Brackets)),
            ("[fd01:c::1%eth0]:80", Err(NotAVip::Brackets)),
            ("[172.16.0.1]:80", Err(NotAVip::Brackets)),
            ("[]:80", Err(NotAVip::Brackets)),
            ("[web]:80", Err(NotAVip::Brackets)),
            ("[fd01:c::1]", Err(NotAVip::Port)),
            ("we[b:80", named("web", 80)),
        ] {
            assert_eq!(parse(value), expected, "{value:?}");
        }
        assert_eq!(parse(&format!("{}:80", "x".repeat(10_000_000))), Err(NotAVip::TooLong));
    }

    #[test]
    fn keys_begin_with_vip_in_one_case() {
        for key in ["VIP", "VIPX", "VIP_0", "VIP_foo", "vip_0"] {
            assert!(is_vip_key(key), "{key}");
        }
        for key in ["Vip_0", "xVIP_0", "SLUICE_WEIGHT", ""] {
            assert!(!is_vip_key(key), "{key}");
        }
    }

    #[test]
    fn every_recorded_value_is_read_alike_but_for_the_mended_defects() {
        let Some(recorded) = golden("vip/vip-label-parse.json") else { return };
        for case in recorded.as_array().unwrap() {
            let value = case["label_value"].as_str().unwrap();
            let framework = names::fragment(case["framework"].as_str().unwrap(), LabelRule::Rfc1123);
            let result = &case["result"];
            let port = result["port"].as_u64().unwrap_or(0);
            let dns = result["dns"].as_str().unwrap_or("");
            match parse(value) {
                Err(_) if port > 65535 || dns.starts_with('.') => {}
                Err(reason) => assert!(result["rejected"].is_string(), "{value:?} {reason}"),
                Ok(VipLabel { target: Target::Address(ip), port: p }) => {
                    assert_eq!((ip.to_string().as_str(), u64::from(p)), (result["ip"].as_str().unwrap(), port));
                }
                Ok(VipLabel { target: Target::Name(name), port: p }) => {
                    assert_eq!(format!("{name}.{framework}.l4lb.thisdcos.directory"), dns, "{value:?}");
                    assert_eq!(u64::from(p), port);
                }
            }
        }
    }
}
