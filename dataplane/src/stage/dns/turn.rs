//! The IP and UDP headers round a message: checked before it is read, turned round once it is an answer.

use crate::verdict::DropReason;

/// Octets of an IPv4 header without options, which every answer has.
pub(super) const IP4_LEN: usize = 20;
/// Octets of an IPv6 header without extensions, likewise.
pub(super) const IP6_LEN: usize = 40;
pub(super) const UDP_LEN: usize = 8;
const TTL: u8 = 64;
const UDP: u8 = 17;

/// Source ports of services that answer anything: echo, daytime, chargen (RFC 862, 867, 864).
const ECHOES: [u16; 3] = [7, 13, 19];

/// Where the addresses are in an IP header, and its octets without options.
#[inline]
fn header(v6: bool) -> (usize, usize) {
    if v6 { (8, IP6_LEN) } else { (12, IP4_LEN) }
}

/// Offset and octets of the message in a UDP datagram whose IP header is at `l3`, moved up against a header without
/// options (an answer copies none: RFC 1122 section 3.2.1.8 asks it of ICMP echo alone).
#[inline]
pub(super) fn question(
    octets: &mut [u8],
    v6: bool,
    l3: usize,
    l4: usize,
    ip_end: usize,
) -> Result<(usize, usize), DropReason> {
    let (addresses, ip_len) = header(v6);
    let datagram = octets.get(l4..ip_end.max(l4)).unwrap_or_default();
    let udp = datagram.first_chunk::<UDP_LEN>().ok_or(DropReason::L4Header)?;
    let [s0, s1, _, _, l0, l1, c0, c1] = *udp;
    let udp_len = usize::from(u16::from_be_bytes([l0, l1]));
    if udp_len < UDP_LEN || udp_len > datagram.len() || l4 < l3 + ip_len {
        return Err(DropReason::L4Header);
    }
    if ECHOES.contains(&u16::from_be_bytes([s0, s1])) {
        return Err(DropReason::DnsSourcePort);
    }
    // 0 means that the sender made none (RFC 768); over IPv6 parse has dropped it (RFC 8200 section 8.1).
    if (c0, c1) != (0, 0) && !udp_sum_holds(&octets[l3 + addresses..l3 + ip_len], &octets[l4..l4 + udp_len]) {
        return Err(DropReason::DnsChecksum);
    }
    if l4 > l3 + ip_len {
        octets.copy_within(l4..l4 + udp_len, l3 + ip_len);
    }
    Ok((l3 + ip_len + UDP_LEN, udp_len - UDP_LEN))
}

/// Sends the packet at `l3` back with a message of `message_len` octets, already in its place. Octets of the IP packet.
///
/// The identification stays the question's, unique among what the client has under way; DF is cleared, for nobody here
/// follows up an ICMP too big.
#[inline]
pub(super) fn turn(octets: &mut [u8], v6: bool, l3: usize, message_len: usize) -> usize {
    let (addresses, ip_len) = header(v6);
    let udp_len = UDP_LEN + message_len;
    let total = ip_len + udp_len;
    let Some((ip, datagram)) = octets.get_mut(l3..l3 + total).and_then(|o| o.split_at_mut_checked(ip_len)) else {
        return 0;
    };
    if v6 { turn6(ip, udp_len) } else { turn4(ip, total) }
    let Some(udp) = datagram.first_chunk_mut::<UDP_LEN>() else { return 0 };
    let [s0, s1, d0, d1, ..] = *udp;
    let [l0, l1] = (udp_len as u16).to_be_bytes();
    *udp = [d0, d1, s0, s1, l0, l1, 0, 0];
    let sent = match checksum(udp_sum(&ip[addresses..], datagram)) {
        [0, 0] => [0xff, 0xff],
        other => other,
    };
    datagram[6..8].copy_from_slice(&sent);
    total
}

#[inline]
fn turn4(ip: &mut [u8], total: usize) {
    let Some(ip) = ip.first_chunk_mut::<IP4_LEN>() else { return };
    let [_, _, _, _, i0, i1, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = *ip;
    let [t0, t1] = (total as u16).to_be_bytes();
    *ip = [0x45, 0, t0, t1, i0, i1, 0, 0, TTL, UDP, 0, 0, e, f, g, h, a, b, c, d];
    let header_sum = checksum(sum(ip));
    ip[10..12].copy_from_slice(&header_sum);
}

/// The flow label stays the question's: the client's own word for the flow (RFC 6437 section 2).
#[inline]
fn turn6(ip: &mut [u8], udp_len: usize) {
    let Some((front, ends)) = ip.split_first_chunk_mut::<8>() else { return };
    let [_, f1, f2, f3, ..] = *front;
    let [l0, l1] = (udp_len as u16).to_be_bytes();
    *front = [0x60, f1 & 0x0f, f2, f3, l0, l1, UDP, TTL];
    if let Some((source, destination)) = ends.split_at_mut_checked(16) {
        source.swap_with_slice(&mut destination[..16]);
    }
}

#[inline]
fn udp_sum_holds(addresses: &[u8], datagram: &[u8]) -> bool {
    checksum(udp_sum(addresses, datagram)) == [0, 0]
}

/// With the pseudo-header (RFC 768, RFC 8200 section 8.1).
#[inline]
fn udp_sum(addresses: &[u8], datagram: &[u8]) -> u64 {
    let pseudo = u64::from(u16::from(UDP).to_be()) + u64::from((datagram.len() as u16).to_be());
    sum(addresses) + sum(datagram) + pseudo
}

/// Sum of 32-bit words in native order, whose fold is the sum of RFC 1071 (section 2(B): the byte order is free).
#[inline]
fn sum(octets: &[u8]) -> u64 {
    let (words, rest) = octets.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let word = |word: &[u8; 4]| u64::from(u32::from_ne_bytes(*word));
    words.iter().map(word).sum::<u64>() + word(&last)
}

/// Folded and complemented, in wire order.
#[inline]
fn checksum(sum: u64) -> [u8; 2] {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_ne_bytes()
}
