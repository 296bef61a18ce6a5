//! IPv4 headers (RFC 791) and the ports behind them.

use super::checksum::{Delta, fold, sum};
use super::{End, long, put, transport, word};

/// ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// SCTP (RFC 9260).
pub const SCTP: u8 = 132;

/// Length of a header without options.
pub const HEADER: usize = 20;

/// Octet positions in the header.
pub mod field {
    /// Differentiated services and ECN.
    pub const TOS: usize = 1;
    /// Total length.
    pub const LENGTH: usize = 2;
    /// Identification.
    pub const ID: usize = 4;
    /// Flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Protocol.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source address.
    pub const SOURCE: usize = 12;
    /// Destination address.
    pub const DESTINATION: usize = 16;
}

/// Do not fragment, in the flags word.
pub const DF: u16 = 0x4000;

/// Hop limit of packets made here.
pub const FRESH_TTL: u8 = 64;

/// ECN codepoint CE (RFC 3168).
pub const CE: u8 = 3;

/// Whether a header's checksum is right. Nearly every header has no options: those are summed without a loop.
#[must_use]
#[inline]
pub fn sound(header: &[u8]) -> bool {
    let total = match header.first_chunk::<HEADER>() {
        Some(plain) if header.len() == HEADER => {
            let quad =
                |at: usize| u64::from(u32::from_ne_bytes([plain[at], plain[at + 1], plain[at + 2], plain[at + 3]]));
            // The ones' complement sum is the same in either byte order, octets swapped; all ones stay all ones.
            quad(0) + quad(4) + quad(8) + quad(12) + quad(16)
        }
        Some(_) | None => sum(header, 0),
    };
    fold(total) == 0xffff
}

/// Takes one from the TTL.
#[inline(always)]
pub fn decrement_ttl(ip: &mut [u8]) {
    let Some(header) = ip.first_chunk_mut::<HEADER>() else { return };
    decrement(header, Delta::default()).update(header, field::CHECKSUM);
}

/// The TTL itself, one of the header's changes. Nobody asks it of 0, which wraps.
#[inline(always)]
fn decrement(header: &mut [u8; HEADER], others: Delta) -> Delta {
    let ttl = &mut header[field::TTL];
    let delta = if *ttl > 0 { others.hop() } else { others.word(0, 0xff00) };
    *ttl = ttl.wrapping_sub(1);
    delta
}

/// Writes the ECN field.
#[inline]
pub fn set_ecn(ip: &mut [u8], ecn: u8) {
    let before = word(ip, 0);
    let after = (before & !3) | u16::from(ecn);
    put(ip, 0, after.to_be_bytes());
    Delta::default().word(before, after).update(ip, field::CHECKSUM);
}

/// Rewrites source and destination of a TCP, UDP or SCTP packet and takes one from its TTL. `ip` begins at the IP
/// header, `l4` is the transport header's offset in it. Checksums by RFC 1624; SCTP's covers no addresses.
#[inline(always)]
pub fn translate(ip: &mut [u8], l4: usize, protocol: u8, source: End<u32>, destination: End<u32>) {
    // As arrays: positions in them need no checks.
    let Some((header, behind)) = ip.split_first_chunk_mut::<HEADER>() else { return };
    let addresses = Delta::default()
        .long(long(header, field::SOURCE), source.ip)
        .long(long(header, field::DESTINATION), destination.ip);
    put(header, field::SOURCE, source.ip.to_be_bytes());
    put(header, field::DESTINATION, destination.ip.to_be_bytes());
    decrement(header, addresses).update(header, field::CHECKSUM);
    let behind = behind.get_mut(l4.wrapping_sub(HEADER)..).unwrap_or_default();
    transport::readdress(behind, protocol, addresses, source.port, destination.port);
}

/// Writes other addresses into a header, and nothing behind it.
pub fn readdress(ip: &mut [u8], source: u32, destination: u32) {
    let delta = Delta::default().long(long(ip, field::SOURCE), source).long(long(ip, field::DESTINATION), destination);
    put(ip, field::SOURCE, source.to_be_bytes());
    put(ip, field::DESTINATION, destination.to_be_bytes());
    delta.update(ip, field::CHECKSUM);
}

/// Writes another identification into a header.
pub fn identify(ip: &mut [u8], id: u16) {
    let before = word(ip, field::ID);
    put(ip, field::ID, id.to_be_bytes());
    Delta::default().word(before, id).update(ip, field::CHECKSUM);
}

/// Writes a header without options and its checksum.
pub fn write_header(ip: &mut [u8], length: u16, flags: u16, protocol: u8, tos: u8, source: u32, destination: u32) {
    put(ip, 0, [0x45, tos]);
    put(ip, field::LENGTH, length.to_be_bytes());
    put(ip, field::ID, [0, 0]);
    put(ip, field::FRAGMENT, flags.to_be_bytes());
    put(ip, field::TTL, [FRESH_TTL, protocol]);
    put(ip, field::CHECKSUM, [0, 0]);
    put(ip, field::SOURCE, source.to_be_bytes());
    put(ip, field::DESTINATION, destination.to_be_bytes());
    if let Some(header) = ip.get(..HEADER) {
        let checksum = !fold(sum(header, 0));
        put(ip, field::CHECKSUM, checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetHeaders, PacketBuilder, PacketHeaders};
    use proptest::prelude::*;

    use super::*;

    /// Whether header and transport checksums are both right.
    fn sound(ip: &[u8]) -> bool {
        let headers = PacketHeaders::from_ip_slice(ip).unwrap();
        let (Some(NetHeaders::Ipv4(header, _)), Some(transport)) = (headers.net, headers.transport) else {
            return false;
        };
        let payload = headers.payload.slice();
        let tcp = transport.clone().tcp().is_none_or(|t| t.calc_checksum_ipv4(&header, payload) == Ok(t.checksum));
        let udp = transport.udp().is_none_or(|u| u.calc_checksum_ipv4(&header, payload) == Ok(u.checksum));
        tcp && udp && header.calc_header_checksum() == header.header_checksum
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_identity_but_for_the_ttl(
            ends: [(u32, u16); 4], ttl in 3u8.., tcp: bool, payload: Vec<u8>,
        ) {
            let [s, d, s2, d2] = ends.map(|(ip, port)| End { ip, port });
            let builder = PacketBuilder::ipv4(s.ip.to_be_bytes(), d.ip.to_be_bytes(), ttl);
            let mut packet = Vec::new();
            match tcp {
                true => builder.tcp(s.port, d.port, 7, 8).write(&mut packet, &payload).unwrap(),
                false => builder.udp(s.port, d.port).write(&mut packet, &payload).unwrap(),
            }
            let before = packet.clone();
            let protocol = if tcp { TCP } else { UDP };
            translate(&mut packet, HEADER, protocol, s2, d2);
            prop_assert!(sound(&packet));
            prop_assert_eq!(packet[field::TTL], ttl - 1);
            translate(&mut packet, HEADER, protocol, s, d);
            prop_assert!(sound(&packet));
            packet[field::TTL] = ttl;
            put(&mut packet, field::CHECKSUM, word(&before, field::CHECKSUM).to_be_bytes());
            prop_assert_eq!(packet, before);
        }
    }
}
