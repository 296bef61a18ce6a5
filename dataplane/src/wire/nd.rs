//! Neighbour discovery (RFC 4861): solicitations for addresses of ours, and the advertisements that answer them.

use sluice_config::model::Mac;

use super::checksum::{fold, sum};
use super::{ETHERNET, ip6, put};

/// Neighbour solicitation.
pub const SOLICITATION: u8 = 135;
/// Neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;

/// An advertisement with one option, from the ICMPv6 header on.
pub const MESSAGE: usize = 32;

/// RFC 4861 section 7.1.1: from no router.
const HOP_LIMIT: u8 = 255;

/// A solicitation: who asks (`::` while it probes for duplicates) and for whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solicitation {
    /// Source of the packet.
    pub sender: u128,
    /// Address asked for.
    pub target: u128,
}

/// The solicitation in `ip`, which begins at the IPv6 header, its ICMPv6 message at `l4`, where it is sound
/// (RFC 4861 section 7.1.1: hop limit, code, length, target, checksum).
#[must_use]
pub fn solicitation(ip: &[u8], l4: usize) -> Option<Solicitation> {
    let message = ip.get(l4..)?;
    let kind = *message.first()?;
    let good = kind == SOLICITATION
        && message.len() >= 24
        && message[1] == 0
        && ip[ip6::field::HOP_LIMIT] == HOP_LIMIT
        && checksum(ip, message) == 0;
    let target = ip6::address(message, 8);
    (good && target >> 120 != 0xff).then(|| Solicitation { sender: ip6::address(ip, ip6::field::SOURCE), target })
}

/// Over message and pseudo-header (RFC 8200 section 8.1); 0 where the message's own is right.
fn checksum(ip: &[u8], message: &[u8]) -> u16 {
    let pseudo = message.len() as u64 + u64::from(ip6::ICMP);
    !fold(sum(message, sum(&ip[ip6::field::SOURCE..ip6::HEADER], pseudo)))
}

/// Writes the advertisement that answers `asked` over the solicitation's frame, whose length the caller has set to
/// Ethernet, IPv6 and [`MESSAGE`]: solicited and overriding (section 7.2.4), to all nodes where nobody is there yet.
pub fn advertise(frame: &mut [u8], asked: Solicitation, ours: Mac) {
    const ALL_NODES: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0001;
    let unspecified = asked.sender == 0;
    let Some(ip) = frame.get_mut(ETHERNET..) else { return };
    put(ip, 0, [0x60, 0, 0, 0]);
    put(ip, ip6::field::LENGTH, (MESSAGE as u16).to_be_bytes());
    put(ip, ip6::field::NEXT, [ip6::ICMP, HOP_LIMIT]);
    put(ip, ip6::field::SOURCE, asked.target.to_be_bytes());
    let destination = if unspecified { ALL_NODES } else { asked.sender };
    put(ip, ip6::field::DESTINATION, destination.to_be_bytes());
    let solicited = if unspecified { 0x20 } else { 0x60 };
    put(ip, ip6::HEADER, [ADVERTISEMENT, 0, 0, 0, solicited, 0, 0, 0]);
    put(ip, ip6::HEADER + 8, asked.target.to_be_bytes());
    put(ip, ip6::HEADER + 24, [2, 1]);
    put(ip, ip6::HEADER + 26, ours.0);
    let sum = ip.get(ip6::HEADER..).map(|message| checksum(ip, message));
    put(ip, ip6::HEADER + 2, sum.unwrap_or_default().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Type, PacketBuilder, PacketHeaders, TransportHeader};

    use super::*;

    const HOST: u128 = 0xfd00_0000_0000_0000_0000_0000_0000_0002;
    const VIP: u128 = 0xfd00_0000_0000_0000_0000_0000_0000_0080;

    fn solicit(source: u128, hop_limit: u8) -> Vec<u8> {
        let mut payload = VIP.to_be_bytes().to_vec();
        payload.extend([1, 1, 2, 0, 0, 0, 0, 2]);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [0x33, 0x33, 0xff, 0, 0, 0x80])
            .ipv6(source.to_be_bytes(), VIP.to_be_bytes(), hop_limit)
            .icmpv6(Icmpv6Type::Unknown { type_u8: SOLICITATION, code_u8: 0, bytes5to8: [0; 4] })
            .write(&mut frame, &payload)
            .unwrap();
        frame
    }

    #[test]
    fn a_solicitation_is_read_and_answered_with_a_right_checksum() {
        let mut frame = solicit(HOST, 255);
        let asked = solicitation(&frame[ETHERNET..], 40).unwrap();
        assert_eq!(asked, Solicitation { sender: HOST, target: VIP });
        frame.resize(ETHERNET + 40 + MESSAGE, 0);
        advertise(&mut frame, asked, Mac([2, 0, 0, 0, 0, 9]));
        let headers = PacketHeaders::from_ip_slice(&frame[ETHERNET..]).unwrap();
        let Some(TransportHeader::Icmpv6(icmp)) = headers.transport else { panic!("no ICMPv6") };
        let right = icmp.icmp_type.calc_checksum(VIP.to_be_bytes(), HOST.to_be_bytes(), headers.payload.slice());
        assert_eq!(Ok(icmp.checksum), right);
        assert_eq!(frame[ETHERNET + 40 + 26..], [2, 0, 0, 0, 0, 9]);
    }

    #[test]
    fn what_came_through_a_router_or_is_damaged_is_no_solicitation() {
        assert_eq!(solicitation(&solicit(HOST, 254)[ETHERNET..], 40), None);
        let mut damaged = solicit(HOST, 255);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(solicitation(&damaged[ETHERNET..], 40), None);
        for cut in 0..24 {
            assert_eq!(solicitation(&solicit(HOST, 255)[ETHERNET..ETHERNET + 40 + cut], 40), None);
        }
    }
}
