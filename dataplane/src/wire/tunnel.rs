//! Outer headers as templates: made when tables compile, one a backend, so that the packet path writes fixed octets, a
//! length, ECN and entropy, and folds a sum that is nearly complete.
//!
//! DF is set, the hop limit is 64, ECN is copied from inside (RFC 6040 section 4.1, normal mode), DSCP is 0. Over IPv4
//! UDP has no checksum; over IPv6 it must have one (RFC 8200 section 8.1; receivers drop a 0 unless told otherwise), and
//! [`inner_sum`] derives the packet's part of it from the checksums inside instead of reading the packet. So an inner
//! packet whose transport checksum is wrong gets an outer one that is wrong as well: nothing is repaired on the way.
//!
//! Absent: the tunnel encapsulation limit (RFC 2473 section 4.1.1), since nothing here encapsulates twice; the inner
//! TTL, which whoever forwards has decremented already.

use super::checksum::{fold, sum};
use super::ip4::{self, UDP};
use super::{long, put, word};

/// IPv4 as payload (RFC 2003).
pub const IP4: u8 = 4;
/// IPv6 as payload (RFC 2473, RFC 4213).
pub const IP6: u8 = 41;

/// Longest front: IPv6, UDP, VXLAN, inner Ethernet.
pub const FRONT_MAX: usize = IP6_HEADER + UDP_HEADER + 22;

/// Octets of an IPv6 header, and where its fields are (RFC 8200 section 3).
const IP6_HEADER: usize = 40;
const IP6_LENGTH: usize = 4;
const IP6_NEXT: usize = 6;
const IP6_SOURCE: usize = 8;
const UDP_HEADER: usize = 8;

/// Family of an inner packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Its protocol number as a payload.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::V4 => IP4,
            Self::V6 => IP6,
        }
    }

    /// The ECN field of a packet.
    #[inline]
    fn ecn(self, ip: &[u8]) -> u8 {
        match self {
            Self::V4 => word(ip, 0) as u8 & 3,
            Self::V6 => (word(ip, 0) >> 4) as u8 & 3,
        }
    }
}

/// Outer addresses, host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outer {
    /// An IPv4 underlay.
    V4 {
        /// Ours.
        source: u32,
        /// The backend's or its agent's.
        destination: u32,
    },
    /// An IPv6 underlay.
    V6 {
        /// Ours.
        source: u128,
        /// The backend's or its agent's.
        destination: u128,
    },
}

/// Everything between the outer Ethernet header, which egress writes, and the inner IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template {
    octets: [u8; FRONT_MAX],
    len: u8,
    family: Family,
    /// Octets of the outer IP header.
    ip_len: u8,
    udp: bool,
    /// Sum of what is known of what the one checksum covers: the IPv4 header, or over IPv6 the UDP packet.
    sum: u32,
}

impl Template {
    /// An inner packet straight behind the outer IP header.
    #[must_use]
    pub(super) fn plain(outer: Outer, family: Family) -> Self {
        Self::build(outer, family.protocol(), family)
    }

    /// An inner packet behind a UDP header to `port` and `behind`, which is cut to the room that there is.
    #[must_use]
    pub(super) fn udp(outer: Outer, family: Family, port: u16, behind: &[u8]) -> Self {
        let mut template = Self::build(outer, UDP, family);
        let udp = usize::from(template.ip_len);
        let room = FRONT_MAX - udp - UDP_HEADER;
        put(&mut template.octets, udp + 2, port.to_be_bytes());
        for (place, octet) in template.octets.iter_mut().skip(udp + UDP_HEADER).zip(behind) {
            *place = *octet;
        }
        (template.udp, template.len) = (true, (udp + UDP_HEADER + behind.len().min(room)) as u8);
        if udp == IP6_HEADER {
            let known = template.octets.get(IP6_SOURCE..usize::from(template.len)).unwrap_or_default();
            template.sum = u32::from(fold(sum(known, u64::from(UDP))));
        }
        template
    }

    fn build(outer: Outer, protocol: u8, family: Family) -> Self {
        let mut octets = [0; FRONT_MAX];
        let ip_len = match outer {
            Outer::V4 { source, destination } => {
                ip4::write_header(&mut octets, 0, ip4::DF, protocol, 0, source, destination);
                put(&mut octets, ip4::field::CHECKSUM, [0, 0]);
                ip4::HEADER
            }
            Outer::V6 { source, destination } => {
                put(&mut octets, 0, 0x6000_0000u32.to_be_bytes());
                put(&mut octets, IP6_NEXT, [protocol, ip4::FRESH_TTL]);
                put(&mut octets, IP6_SOURCE, source.to_be_bytes());
                put(&mut octets, IP6_SOURCE + 16, destination.to_be_bytes());
                IP6_HEADER
            }
        };
        let sum = u32::from(fold(sum(&octets[..ip4::HEADER], 0)));
        Self { octets, len: ip_len as u8, family, ip_len: ip_len as u8, udp: false, sum }
    }

    /// Octets that it puts before the inner IP packet; with the packet's, what must fit the way's MTU less an inner
    /// Ethernet header that is part of it.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Never: a template has at least an IP header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ethernet's type of it.
    #[must_use]
    #[inline]
    pub fn ether_type(&self) -> [u8; 2] {
        if usize::from(self.ip_len) == ip4::HEADER { [0x08, 0x00] } else { [0x86, 0xdd] }
    }

    /// Whether `entropy` goes anywhere: IP in IP over IPv4 has no place for it.
    #[must_use]
    #[inline]
    pub fn is_spread(&self) -> bool {
        self.udp || usize::from(self.ip_len) == IP6_HEADER
    }

    /// Writes the front. `packet` is [`Template::len`] octets of room and then the inner IP packet, nothing behind it;
    /// `entropy` is a hash of the inner flow: it becomes the UDP source port, and the flow label over IPv6 (RFC 6438).
    #[inline]
    pub fn write(&self, packet: &mut [u8], entropy: u16) {
        if let Some((front, inner)) = packet.split_at_mut_checked(self.len()) {
            self.write_before(front, inner, entropy);
        }
    }

    /// The same with the room and the packet apart.
    #[inline(always)]
    pub fn write_before(&self, front: &mut [u8], inner: &[u8], entropy: u16) {
        match usize::from(self.ip_len) {
            ip4::HEADER => self.write4(front, inner, entropy),
            _ => self.write6(front, inner, entropy),
        }
    }

    #[inline(always)]
    fn write4(&self, front: &mut [u8], inner: &[u8], entropy: u16) {
        let length = (front.len() + inner.len()) as u16;
        // Headers as arrays: positions in them need no checks.
        let (Some((ip, behind)), Some((octets, rest))) =
            (front.split_first_chunk_mut::<{ ip4::HEADER }>(), self.octets.split_first_chunk())
        else {
            return;
        };
        *ip = *octets;
        let ecn = self.family.ecn(inner);
        ip[ip4::field::TOS] = ecn;
        put(ip, ip4::field::LENGTH, length.to_be_bytes());
        let checksum = !fold(u64::from(self.sum) + u64::from(length) + u64::from(ecn));
        put(ip, ip4::field::CHECKSUM, checksum.to_be_bytes());
        if self.udp {
            // With GUE, or with VXLAN and its Ethernet header.
            match behind.len() {
                12 => fixed::<12>(behind, rest),
                30 => fixed::<30>(behind, rest),
                _ => copy(behind, rest),
            }
            finish_udp(behind, entropy, length.wrapping_sub(ip4::HEADER as u16));
        }
    }

    #[inline(never)]
    fn write6(&self, front: &mut [u8], inner: &[u8], entropy: u16) {
        let length = (front.len() + inner.len()) as u16;
        copy(front, &self.octets);
        let ecn = self.family.ecn(inner);
        let udp_len = length.wrapping_sub(IP6_HEADER as u16);
        let Some((ip, behind)) = front.split_first_chunk_mut::<IP6_HEADER>() else { return };
        put(ip, 0, (0x6000_0000 | u32::from(ecn) << 20 | u32::from(entropy)).to_be_bytes());
        put(ip, IP6_LENGTH, udp_len.to_be_bytes());
        if self.udp {
            let port = finish_udp(behind, entropy, udp_len);
            self.finish6(front, u64::from(udp_len) * 2 + u64::from(port), inner);
        }
    }

    #[inline]
    fn finish6(&self, front: &mut [u8], own: u64, inner: &[u8]) {
        let checksum = match !fold(u64::from(self.sum) + own + inner_sum(self.family, inner)) {
            // 0 would mean none (RFC 768).
            0 => 0xffff,
            checksum => checksum,
        };
        put(front, IP6_HEADER + 6, checksum.to_be_bytes());
    }
}

/// The source port, which it says, and the length.
#[inline(always)]
fn finish_udp(behind: &mut [u8], entropy: u16, udp_len: u16) -> u16 {
    // From the dynamic range (RFC 7348 section 4.1).
    let port = 49152 | (entropy & 0x3fff);
    if let Some(udp) = behind.first_chunk_mut::<UDP_HEADER>() {
        put(udp, 0, port.to_be_bytes());
        put(udp, 4, udp_len.to_be_bytes());
    }
    port
}

/// A fixed length is a few moves and no call.
#[inline(always)]
fn fixed<const N: usize>(front: &mut [u8], octets: &[u8]) {
    if let Some(octets) = octets.first_chunk::<N>() {
        put(front, 0, *octets);
    }
}

fn copy(front: &mut [u8], octets: &[u8]) {
    match front.len() {
        40 => fixed::<40>(front, octets),
        52 => fixed::<52>(front, octets),
        70 => fixed::<70>(front, octets),
        _ => front.iter_mut().zip(octets).for_each(|(place, octet)| *place = *octet),
    }
}

/// The ones' complement sum of an IP packet whose IPv4 header checksum is right, unfolded.
///
/// A right checksum makes what it covers sum to zero: an IPv4 header vanishes, and a TCP or UDP packet sums to the
/// complement of its pseudo-header. That takes ~3 ns at any length. What has no such sum (fragments, options or extension
/// headers, UDP without a checksum, other protocols) is read whole, ~0.1 ns an octet.
#[must_use]
#[inline]
pub fn inner_sum(family: Family, ip: &[u8]) -> u64 {
    let known = match family {
        Family::V4 => derived4(ip),
        Family::V6 => derived6(ip),
    };
    known.unwrap_or_else(|| sum(ip, 0))
}

#[inline]
fn derived4(ip: &[u8]) -> Option<u64> {
    let whole = word(ip, 0) >> 8 == 0x45
        && usize::from(word(ip, ip4::field::LENGTH)) == ip.len()
        && word(ip, ip4::field::FRAGMENT) & 0x3fff == 0;
    let protocol = *ip.get(ip4::field::PROTOCOL).filter(|_| whole)?;
    let transport = covered(ip.get(ip4::HEADER..)?, protocol)?;
    let addresses = u64::from(long(ip, ip4::field::SOURCE)) + u64::from(long(ip, ip4::field::DESTINATION));
    Some(u64::from(!fold(addresses + transport)))
}

#[inline]
fn derived6(ip: &[u8]) -> Option<u64> {
    let (header, rest) = ip.split_at_checked(IP6_HEADER)?;
    let protocol = *header.get(IP6_NEXT).filter(|_| usize::from(word(ip, IP6_LENGTH)) == rest.len())?;
    let transport = covered(rest, protocol)?;
    // The addresses are in the header and, negated, in the transport's sum: both vanish.
    Some(sum(header.get(..IP6_SOURCE)?, u64::from(!fold(transport))))
}

/// What the pseudo-header of a TCP or UDP packet adds to the addresses, if a checksum covers all of `l4`.
#[inline]
fn covered(l4: &[u8], protocol: u8) -> Option<u64> {
    let covered = match protocol {
        ip4::TCP => l4.len() >= 20,
        UDP => word(l4, 6) != 0 && usize::from(word(l4, 4)) == l4.len(),
        _ => false,
    };
    covered.then(|| u64::from(protocol) + l4.len() as u64)
}

#[cfg(test)]
mod tests;
