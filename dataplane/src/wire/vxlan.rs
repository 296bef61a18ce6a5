//! VXLAN (RFC 7348 section 5) over UDP over IPv4.

use sluice_config::model::{Mac, Vni};

use super::tunnel::{Inner, Outer, Template};
use super::{ETHERNET, ip4, long, put};

/// Octets of a VXLAN header.
pub const HEADER: usize = 8;
/// Octets that encapsulation puts before the inner Ethernet frame: outer Ethernet, IPv4, UDP, VXLAN.
pub const OVERHEAD: usize = ETHERNET + ip4::HEADER + 8 + HEADER;

/// The VNI of a header whose flags are exactly I; `None` otherwise.
#[must_use]
#[inline]
pub fn vni(header: &[u8]) -> Option<Vni> {
    let (flags, vni) = (long(header, 0), long(header, 4));
    (header.len() >= HEADER && flags == 0x0800_0000 && vni & 0xff == 0).then(|| Vni::new(vni >> 8))?
}

/// What an outer header is made of.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// Outer source, host byte order.
    pub source: u32,
    /// Outer destination, host byte order.
    pub destination: u32,
    /// Outer UDP source port: entropy of the inner flow.
    pub source_port: u16,
    /// Outer UDP destination port.
    pub port: u16,
    /// Network.
    pub vni: Vni,
    /// Inner Ethernet source: our VTEP.
    pub inner_source: Mac,
    /// Inner Ethernet destination: the remote VTEP.
    pub inner_destination: Mac,
}

/// Writes everything from the outer IPv4 header to the inner Ethernet header. `frame` begins at the outer Ethernet
/// header, which egress writes, and ends with the inner IP packet. DF set, checksum 0 as DC/OS and RFC 7348 have it,
/// ECN copied from inside (RFC 6040 section 4.1, normal mode).
#[inline]
pub fn encapsulate(frame: &mut [u8], tunnel: &Tunnel) {
    let Some(outer) = frame.get_mut(ETHERNET..) else { return };
    let length = outer.len() as u16;
    let ecn = outer.get(OVERHEAD + ip4::field::TOS).map_or(0, |tos| tos & 3);
    ip4::write_header(outer, length, ip4::DF, ip4::UDP, ecn, tunnel.source, tunnel.destination);
    let udp = ip4::HEADER;
    put(outer, udp, tunnel.source_port.to_be_bytes());
    put(outer, udp + 2, tunnel.port.to_be_bytes());
    put(outer, udp + 4, (length - udp as u16).to_be_bytes());
    put(outer, udp + 6, [0, 0]);
    put(outer, udp + 8, 0x0800_0000u32.to_be_bytes());
    put(outer, udp + 12, (tunnel.vni.get() << 8).to_be_bytes());
    put(outer, udp + 16, tunnel.inner_destination.0);
    put(outer, udp + 22, tunnel.inner_source.0);
    put(outer, udp + 28, [8, 0]);
}

/// The front of packets of the family `inner` to one backend behind the VTEP with the MAC `remote`, ours being `local`: 50 octets
/// over IPv4, 70 over IPv6, the inner Ethernet header included.
#[must_use]
pub fn template(outer: Outer, inner: Inner, port: u16, vni: Vni, local: Mac, remote: Mac) -> Template {
    let ether_type: [u8; 2] = match inner {
        Inner::V4 => [0x08, 0x00],
        Inner::V6 => [0x86, 0xdd],
    };
    let mut behind = [0; HEADER + ETHERNET];
    put(&mut behind, 0, 0x0800_0000u32.to_be_bytes());
    put(&mut behind, 4, (vni.get() << 8).to_be_bytes());
    put(&mut behind, 8, remote.0);
    put(&mut behind, 14, local.0);
    put(&mut behind, 20, ether_type);
    Template::udp(outer, inner, port, &behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_i_flag_makes_a_header() {
        assert_eq!(vni(&[8, 0, 0, 0, 0, 4, 0, 0]), Vni::new(1024));
        assert_eq!(vni(&[0, 0, 0, 0, 0, 4, 0, 0]), None);
        assert_eq!(vni(&[9, 0, 0, 0, 0, 4, 0, 0]), None);
        assert_eq!(vni(&[8, 0, 0, 0, 0, 4, 0, 1]), None);
        assert_eq!(vni(&[8, 0, 0, 0, 0, 4, 0]), None);
    }
}
