//! VXLAN (RFC 7348 section 5) over UDP over IPv4.

use sluice_config::model::{Mac, Vni};

use super::tunnel::{Family, Outer, Template};
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

/// The front of packets of `family` to one backend behind the VTEP with the MAC `remote`, ours being `local`: 50 octets
/// over IPv4, 70 over IPv6, the inner Ethernet header included.
#[must_use]
pub fn template(outer: Outer, family: Family, port: u16, vni: Vni, local: Mac, remote: Mac) -> Template {
    let ether_type: [u8; 2] = match family {
        Family::V4 => [0x08, 0x00],
        Family::V6 => [0x86, 0xdd],
    };
    let mut behind = [0; HEADER + ETHERNET];
    put(&mut behind, 0, 0x0800_0000u32.to_be_bytes());
    put(&mut behind, 4, (vni.get() << 8).to_be_bytes());
    put(&mut behind, 8, remote.0);
    put(&mut behind, 14, local.0);
    put(&mut behind, 20, ether_type);
    Template::udp(outer, family, port, &behind)
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
