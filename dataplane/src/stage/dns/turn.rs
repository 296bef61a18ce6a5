//! The IP and UDP headers round a message: checked before it is read, turned round once it is an answer.

use super::sum::Sum;
use crate::verdict::DropReason;
use crate::wire::dns::HEADER_LEN;

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

/// Sends the packet at `l3` back with a message of `message_len` octets, already in its place, all of which but the
/// question, which ends at `question_end`, have the sum `rest`. Octets of the IP packet.
///
/// The identification stays the question's, unique among what the client has under way; DF is cleared, for nobody here
/// follows up an ICMP too big.
#[inline]
pub(super) fn turn(
    octets: &mut [u8],
    v6: bool,
    l3: usize,
    message_len: usize,
    question_end: usize,
    rest: Sum,
) -> usize {
    let (addresses, ip_len) = header(v6);
    let udp_len = UDP_LEN + message_len;
    let total = ip_len + udp_len;
    let Some((ip, datagram)) = octets.get_mut(l3..l3 + total).and_then(|o| o.split_at_mut_checked(ip_len)) else {
        return 0;
    };
    // Addresses change their places and ports too, so sums of them may be taken before.
    let mut sum = pseudo(&ip[addresses..], udp_len);
    sum.add(&datagram[..4], 0);
    sum.add_word(udp_len as u16);
    let question = UDP_LEN + HEADER_LEN..UDP_LEN + question_end;
    sum.add(datagram.get(question).unwrap_or_default(), 0);
    sum.join(rest, 0);
    let sent = match sum.checksum() {
        [0, 0] => [0xff, 0xff],
        other => other,
    };
    if v6 {
        turn6(ip, udp_len)
    } else {
        turn4(ip, total)
    }
    let Some(udp) = datagram.first_chunk_mut::<UDP_LEN>() else { return 0 };
    let [s0, s1, d0, d1, ..] = *udp;
    let [l0, l1] = (udp_len as u16).to_be_bytes();
    *udp = [d0, d1, s0, s1, l0, l1, sent[0], sent[1]];
    total
}

#[inline]
fn turn4(ip: &mut [u8], total: usize) {
    let Some(ip) = ip.first_chunk_mut::<IP4_LEN>() else { return };
    let [_, _, _, _, i0, i1, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = *ip;
    let mut sum = Sum::default();
    sum.add_word(0x4500);
    sum.add_word(total as u16);
    sum.add_word(u16::from_be_bytes([TTL, UDP]));
    sum.add(&[i0, i1, a, b, c, d, e, f, g, h], 0);
    let ([t0, t1], [c0, c1]) = ((total as u16).to_be_bytes(), sum.checksum());
    *ip = [0x45, 0, t0, t1, i0, i1, 0, 0, TTL, UDP, c0, c1, e, f, g, h, a, b, c, d];
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
    let mut sum = pseudo(addresses, datagram.len());
    sum.add(datagram, 0);
    sum.checksum() == [0, 0]
}

/// The pseudo-header (RFC 768, RFC 8200 section 8.1).
#[inline]
fn pseudo(addresses: &[u8], udp_len: usize) -> Sum {
    let mut sum = Sum::default();
    sum.add(addresses, 0);
    sum.add_word(u16::from(UDP));
    sum.add_word(udp_len as u16);
    sum
}
