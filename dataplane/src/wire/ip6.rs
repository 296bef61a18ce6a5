//! IPv6 headers (RFC 8200) and the ports behind them.

use super::checksum::Delta;
use super::{End, put, transport, word};
use crate::verdict::DropReason;
use crate::wire::ip4::FRESH_TTL;

/// ICMPv6 (RFC 4443).
pub const ICMP: u8 = 58;

/// Length of the fixed header.
pub const HEADER: usize = 40;

/// Extension headers that are walked before the packet is given up.
pub const MOST_EXTENSIONS: usize = 8;

/// Octet positions in the fixed header.
pub mod field {
    /// Length of what follows the fixed header.
    pub const LENGTH: usize = 4;
    /// Next header.
    pub const NEXT: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source address.
    pub const SOURCE: usize = 8;
    /// Destination address.
    pub const DESTINATION: usize = 24;
}

mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const DESTINATION: u8 = 60;
}

/// The ECN field, the low bits of the traffic class (RFC 3168 section 5).
#[must_use]
pub fn ecn(ip: &[u8]) -> u8 {
    (word(ip, 0) >> 4) as u8 & 3
}

/// Writes the ECN field.
pub fn set_ecn(ip: &mut [u8], ecn: u8) {
    let first = (word(ip, 0) & !0x30) | u16::from(ecn & 3) << 4;
    put(ip, 0, first.to_be_bytes());
}

/// Where the transport header is, and what it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walked {
    /// Its offset from the fixed header.
    pub l4: usize,
    /// Its protocol.
    pub protocol: u8,
    /// The offset of a fragment header that really fragments (RFC 6946: atomic fragments do not).
    pub fragment: Option<usize>,
}

/// The address at `at`; `::` beyond the end.
#[must_use]
#[inline]
pub fn address(ip: &[u8], at: usize) -> u128 {
    ip.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |octets| u128::from_be_bytes(*octets))
}

/// Walks the extension headers of `ip`, which begins at the fixed header and ends with the packet.
///
/// # Errors
/// More than [`MOST_EXTENSIONS`], one that is cut, hop-by-hop options that are not first, or a routing header that still
/// leads elsewhere; of type 0 too one with nothing left is walked over, as any that is not known (RFC 5095 section 3).
#[inline]
pub fn walk(ip: &[u8]) -> Result<Walked, DropReason> {
    let mut walked = Walked { l4: HEADER, protocol: ip.get(field::NEXT).copied().unwrap_or(59), fragment: None };
    for number in 0..=MOST_EXTENSIONS {
        match walked.protocol {
            extension::HOP_BY_HOP if number > 0 => return Err(DropReason::Ip6Extension),
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION | extension::FRAGMENT => {}
            _ => return Ok(walked),
        }
        step(ip, &mut walked)?;
        if walked.fragment.is_some() {
            return Ok(walked);
        }
    }
    Err(DropReason::Ip6Extension)
}

/// Over one extension header.
fn step(ip: &[u8], walked: &mut Walked) -> Result<(), DropReason> {
    let header = ip.get(walked.l4..).and_then(|h| h.first_chunk::<8>()).ok_or(DropReason::Ip6Extension)?;
    let [next, units, _, left, ..] = *header;
    let mut length = (usize::from(units) + 1) * 8;
    match walked.protocol {
        extension::ROUTING if left != 0 => return Err(DropReason::Ip4SourceRoute),
        extension::FRAGMENT => {
            length = 8;
            // Offset in the upper 13 bits, M in the lowest (RFC 8200 section 4.5).
            if word(header, 2) & 0xfff9 != 0 {
                walked.fragment = Some(walked.l4);
            }
        }
        _ => {}
    }
    walked.l4 += length;
    walked.protocol = next;
    if walked.l4 > ip.len() { Err(DropReason::Ip6Extension) } else { Ok(()) }
}

/// Takes one from the hop limit.
#[inline]
pub fn decrement_hop_limit(ip: &mut [u8]) {
    if let Some(limit) = ip.get_mut(field::HOP_LIMIT) {
        *limit = limit.wrapping_sub(1);
    }
}

/// Writes other addresses into a header, and nothing behind it.
pub fn readdress(ip: &mut [u8], source: u128, destination: u128) {
    put(ip, field::SOURCE, source.to_be_bytes());
    put(ip, field::DESTINATION, destination.to_be_bytes());
}

/// What the checksum of a transport sees of a new address.
#[inline(always)]
fn moved(header: &[u8; HEADER], at: usize, address: u128, delta: Delta) -> Delta {
    let before = self::address(header, at);
    let part = |of: u128, n: u32| (of >> (32 * n)) as u32;
    let delta = delta.long(part(before, 0), part(address, 0)).long(part(before, 1), part(address, 1));
    delta.long(part(before, 2), part(address, 2)).long(part(before, 3), part(address, 3))
}

/// Rewrites source and destination of a TCP, UDP or SCTP packet and takes one from its hop limit. `ip` begins at the
/// fixed header, `l4` is the transport header's offset in it. Checksums by RFC 1624; SCTP's covers no addresses.
#[inline(always)]
pub fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<u128>, destination: End<u128>) {
    // As arrays: positions in them need no checks.
    let Some((header, behind)) = ip.split_first_chunk_mut::<HEADER>() else { return };
    let delta = moved(header, field::SOURCE, source.ip, Delta::default());
    let addresses = moved(header, field::DESTINATION, destination.ip, delta);
    put(header, field::SOURCE, source.ip.to_be_bytes());
    put(header, field::DESTINATION, destination.ip.to_be_bytes());
    header[field::HOP_LIMIT] = header[field::HOP_LIMIT].wrapping_sub(1);
    let behind = behind.get_mut(l4.wrapping_sub(HEADER)..).unwrap_or_default();
    transport::readdress(behind, protocol, addresses, source.port, destination.port);
}

/// Writes a fixed header with a fresh hop limit; `payload` is the length of what follows.
pub fn write_header(ip: &mut [u8], payload: u16, next: u8, source: u128, destination: u128) {
    put(ip, 0, 0x6000_0000u32.to_be_bytes());
    put(ip, field::LENGTH, payload.to_be_bytes());
    put(ip, field::NEXT, [next, FRESH_TTL]);
    put(ip, field::SOURCE, source.to_be_bytes());
    put(ip, field::DESTINATION, destination.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketBuilder, PacketHeaders};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::ip4::{TCP, UDP};

    fn sound(ip: &[u8]) -> bool {
        let headers = PacketHeaders::from_ip_slice(ip).unwrap();
        let (Some(NetHeaders::Ipv6(header, _)), Some(transport)) = (headers.net, headers.transport) else {
            return false;
        };
        let payload = headers.payload.slice();
        let tcp = transport.clone().tcp().is_none_or(|t| t.calc_checksum_ipv6(&header, payload) == Ok(t.checksum));
        let udp = transport.udp().is_none_or(|u| u.calc_checksum_ipv6(&header, payload) == Ok(u.checksum));
        tcp && udp
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_identity_but_for_the_hop_limit(
            ends: [(u128, u16); 4], limit in 3u8.., tcp: bool, payload: Vec<u8>,
        ) {
            let [s, d, s2, d2] = ends.map(|(ip, port)| End { ip, port });
            let builder = PacketBuilder::ipv6(s.ip.to_be_bytes(), d.ip.to_be_bytes(), limit);
            let mut packet = Vec::new();
            match tcp {
                true => builder.tcp(s.port, d.port, 7, 8).write(&mut packet, &payload).unwrap(),
                false => builder.udp(s.port, d.port).write(&mut packet, &payload).unwrap(),
            }
            let before = packet.clone();
            let protocol = if tcp { TCP } else { UDP };
            translate(&mut packet, HEADER, protocol, s2, d2);
            prop_assert!(sound(&packet));
            translate(&mut packet, HEADER, protocol, s, d);
            packet[field::HOP_LIMIT] = limit;
            prop_assert_eq!(packet, before);
        }

        #[test]
        fn any_octets_are_walked_within_bounds(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(walked) = walk(&octets) {
                prop_assert!(walked.l4 <= octets.len().max(HEADER));
            }
        }
    }

    fn packet(next: u8, extensions: &[&[u8]]) -> Vec<u8> {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        ip.extend([0; 32]);
        ip.extend(extensions.concat());
        ip
    }

    #[test]
    fn options_are_walked_over_and_fragments_and_routing_are_told() {
        let options: &[u8] = &[UDP, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(walk(&packet(0, &[options])), Ok(Walked { l4: 48, protocol: UDP, fragment: None }));
        let atomic: &[u8] = &[TCP, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(walk(&packet(44, &[atomic])), Ok(Walked { l4: 48, protocol: TCP, fragment: None }));
        let first: &[u8] = &[TCP, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(walk(&packet(44, &[first])), Ok(Walked { l4: 48, protocol: TCP, fragment: Some(40) }));
        let source_route: &[u8] = &[TCP, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(walk(&packet(43, &[source_route])), Err(DropReason::Ip4SourceRoute));
        let arrived: &[u8] = &[TCP, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(walk(&packet(43, &[arrived])), Ok(Walked { l4: 48, protocol: TCP, fragment: None }));
        let more: &[u8] = &[60, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(walk(&packet(60, &[more; 9])), Err(DropReason::Ip6Extension));
        let late: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(walk(&packet(60, &[late, options])), Err(DropReason::Ip6Extension));
        assert_eq!(walk(&packet(60, &[&options[..7]])), Err(DropReason::Ip6Extension));
    }
}
