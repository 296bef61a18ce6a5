//! ICMP errors over IPv4, and what becomes of them.

use etherparse::{Icmpv4Type, Ipv4Header, PacketBuilder};
use sluice_config::model::Mac;

use super::{OURS, ROUTER, ip};

/// Type, code and the last two octets of the header.
pub const TOO_BIG: (u8, u8, u16) = (3, 4, 1400);
pub const TTL_EXCEEDED: (u8, u8, u16) = (11, 0, 0);
pub const PORT_UNREACHABLE: (u8, u8, u16) = (3, 3, 0);

/// An error about `quote` (an IP packet, or its beginning) as a router sends it, TTL 60.
pub fn error(source: &str, destination: &str, (kind, code, low): (u8, u8, u16), quote: &[u8]) -> Vec<u8> {
    let [high, least] = low.to_be_bytes();
    let icmp = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [0, 0, high, least] };
    let mut packet = vec![];
    PacketBuilder::ethernet2(ROUTER.0, OURS.0)
        .ipv4(ip(source).octets(), ip(destination).octets(), 60)
        .icmpv4(icmp)
        .write(&mut packet, quote)
        .unwrap();
    packet
}

/// What an error about `quote` becomes on its way: sent on by us with its TTL less one to `mac`.
pub fn sent(mac: Mac, mut packet: Vec<u8>) -> Vec<u8> {
    packet[..6].copy_from_slice(&mac.0);
    packet[6..12].copy_from_slice(&OURS.0);
    packet[22] = 59;
    let sum = Ipv4Header::from_slice(&packet[14..]).unwrap().0.calc_header_checksum();
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The IP packet that a router which had it quotes: `octets` behind the header, its TTL down to 1.
pub fn quote(frame: &[u8], octets: usize) -> Vec<u8> {
    let mut ip = frame[14..].to_vec();
    ip[8] = 1;
    let (header, _) = Ipv4Header::from_slice(&ip).unwrap();
    ip[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    ip.truncate(usize::from(ip[0] & 15) * 4 + octets);
    ip
}
