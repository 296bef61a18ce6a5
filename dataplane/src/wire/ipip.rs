//! IP in IP: IPv4 or IPv6 behind an IPv4 (RFC 2003, RFC 4213) or IPv6 (RFC 2473) header and nothing else.

use super::tunnel::{Inner, Outer, Template};

/// The front of packets of the family `inner` to one backend: 20 octets over IPv4, 40 over IPv6.
#[must_use]
pub fn template(outer: Outer, inner: Inner) -> Template {
    Template::plain(outer, inner)
}
