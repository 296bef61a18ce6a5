//! Generic UDP encapsulation, version 0 (draft-ietf-intarea-gue): IP behind UDP and a header of four octets, so that
//! routers and cards spread the flows of one backend by the UDP source port.

use super::tunnel::{Inner, Outer, Template};

/// IANA's port.
pub const PORT: u16 = 6080;
/// Octets of a header without optional fields.
pub const HEADER: usize = 4;

/// The front of packets of the family `inner` to one backend, whose decapsulator listens on `port`: 32 octets over IPv4, 52 over
/// IPv6. Version 0, a data message, no optional fields; the protocol is the inner packet's.
#[must_use]
pub fn template(outer: Outer, inner: Inner, port: u16) -> Template {
    let header: [u8; HEADER] = [0, inner.protocol(), 0, 0];
    Template::udp(outer, inner, port, &header)
}
