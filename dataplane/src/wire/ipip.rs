//! IP in IP: IPv4 or IPv6 behind an IPv4 (RFC 2003, RFC 4213) or IPv6 (RFC 2473) header and nothing else.

use super::tunnel::{Family, Outer, Template};

/// The front of packets of `family` to one backend: 20 octets over IPv4, 40 over IPv6.
#[must_use]
pub fn template(outer: Outer, family: Family) -> Template {
    Template::plain(outer, family)
}
