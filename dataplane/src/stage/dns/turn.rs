//! The IP and UDP headers round a message: checked before it is read, turned round once it is an answer.
//!
//! Every octet is summed once: what stays where it is in the answer (addresses, ports, the question) counts for both
//! checksums.

use crate::tables::zone::{Probe, Zones};
use crate::verdict::DropReason;
use crate::wire::dns::{self, HEADER_LEN, Query};
use crate::wire::name;
use crate::wire::sum::Sum;

/// Octets of an IPv4 header without options, which every answer has.
pub(super) const IP4_LEN: usize = 20;
/// Octets of an IPv6 header without extensions, likewise.
pub(super) const IP6_LEN: usize = 40;
pub(super) const UDP_LEN: usize = 8;
const TTL: u8 = 64;
const UDP: u8 = 17;

/// Source ports of services that answer anything: echo, daytime, chargen (RFC 862, 867, 864).
const ECHOES: [u16; 3] = [7, 13, 19];

/// Headers and name of a question, at positions that need no checks.
const WINDOW: usize = UDP_LEN + HEADER_LEN + name::WINDOW;

/// A message whose UDP checksum held, and what was read on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Offset of the message.
    pub(super) at: usize,
    /// Its octets.
    pub(super) len: usize,
    /// The name that it seems to ask for.
    pub(super) probe: Probe,
    /// What it asks, if it is the usual kind.
    pub(super) query: Option<Query>,
    /// Of addresses, ports, that name, and the type and the class behind it: of what is in the answer as well.
    kept: Sum,
}

impl Question {
    /// Where the question seems to end, from the message's beginning.
    #[inline(always)]
    pub(super) fn end(&self) -> usize {
        HEADER_LEN + self.probe.name_len + 4
    }
}

/// Where the addresses are in an IP header, and its octets without options.
#[inline(always)]
pub(super) fn header(v6: bool) -> (usize, usize) {
    if v6 { (8, IP6_LEN) } else { (12, IP4_LEN) }
}

/// The message in a UDP datagram whose IP header is at `l3`. `octets` go on behind the packet as far as they may.
#[inline(always)]
pub(super) fn question<const V6: bool>(
    octets: &[u8],
    l3: usize,
    l4: usize,
    ip_end: usize,
    zones: &Zones,
) -> Result<Question, DropReason> {
    let (addresses, ip_len) = header(V6);
    let short;
    let window = match octets.get(l4..).and_then(<[u8]>::first_chunk::<WINDOW>) {
        Some(window) => window,
        None => {
            short = near_the_end(octets.get(l4..).unwrap_or_default());
            &short
        }
    };
    let [s0, s1, _, _, l0, l1, c0, c1, ..] = *window;
    let udp_len = usize::from(u16::from_be_bytes([l0, l1]));
    if udp_len < UDP_LEN || l4 + udp_len > ip_end.min(octets.len()) || l4 < l3 + ip_len {
        return Err(DropReason::L4Header);
    }
    if ECHOES.contains(&u16::from_be_bytes([s0, s1])) {
        return Err(DropReason::DnsSourcePort);
    }
    let mut ends = Sum::default();
    ends.add(&window[..4], 0);
    for pair in octets.get(l3 + addresses..l3 + ip_len).unwrap_or_default().as_chunks().0 {
        ends.eight(u64::from_ne_bytes(*pair));
    }
    let (probe, asked) = window.last_chunk().map(|name| zones.probe(name)).unwrap_or_default();
    let datagram = octets.get(l4..l4 + udp_len).unwrap_or_default();
    let query = dns::plain(datagram.get(UDP_LEN..).unwrap_or_default(), probe.name_len);
    let mut question = Question { at: l4 + UDP_LEN, len: udp_len - UDP_LEN, probe, query, kept: ends };
    let holds = match datagram.get(UDP_LEN + HEADER_LEN + probe.name_len..).and_then(<[u8]>::split_first_chunk::<4>) {
        Some((kind, rest)) => {
            let mut more = Sum::default();
            more.eight(u64::from(u32::from_ne_bytes(*kind)));
            question.kept.join(asked, 0);
            question.kept.join(more, probe.name_len);
            let mut sum = question.kept;
            sum.add(&window[4..UDP_LEN + HEADER_LEN], 0);
            sum.add(rest, probe.name_len);
            closes(sum, udp_len)
        }
        None => {
            let mut sum = ends;
            sum.add(datagram.get(4..).unwrap_or_default(), 0);
            closes(sum, udp_len)
        }
    };
    // 0 means that the sender made none (RFC 768); over IPv6 parse has dropped it (RFC 8200 section 8.1).
    if !holds && (c0, c1) != (0, 0) {
        return Err(DropReason::DnsChecksum);
    }
    Ok(question)
}

/// Moves the datagram up against an IP header without options (an answer copies none: RFC 1122 section 3.2.1.8 asks it of
/// ICMP echo alone), and says where its message is then.
#[inline(always)]
pub(super) fn close_up(octets: &mut [u8], v6: bool, l3: usize, question: &Question) -> usize {
    let (_, ip_len) = header(v6);
    let at = l3 + ip_len + UDP_LEN;
    let end = question.at + question.len;
    if question.at > at && end <= octets.len() {
        octets.copy_within(question.at - UDP_LEN..end, l3 + ip_len);
    }
    at
}

#[cold]
#[inline(never)]
fn near_the_end(octets: &[u8]) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    window.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    window
}

/// Whether a checksum is right, of a datagram that with its addresses has this sum (RFC 768, RFC 8200 section 8.1).
#[inline(always)]
fn closes(mut sum: Sum, udp_len: usize) -> bool {
    sum.add_word(u16::from(UDP));
    sum.add_word(udp_len as u16);
    sum.checksum() == [0, 0]
}

/// Sends the packet at `l3` back with a message of `message_len` octets, already in its place, all of which but the
/// question, which ends at `question_end`, have the sum `rest`. Octets of the IP packet.
///
/// The identification stays the question's, unique among what the client has under way; DF is cleared, for nobody here
/// follows up an ICMP too big.
#[inline(always)]
pub(super) fn turn(
    octets: &mut [u8],
    v6: bool,
    l3: usize,
    question: &Question,
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
    let mut sum = rest;
    if question_end == question.end() {
        sum.join(question.kept, 0);
    } else {
        // Addresses and ports change their places alone.
        sum.add(&ip[addresses..], 0);
        sum.add(&datagram[..4], 0);
        sum.add(datagram.get(UDP_LEN + HEADER_LEN..UDP_LEN + question_end).unwrap_or_default(), 0);
    }
    // The length stands in the pseudo-header and in the header.
    sum.eight(u64::from(u16::from(UDP).to_be()) + 2 * u64::from((udp_len as u16).to_be()));
    let sent = match sum.checksum() {
        [0, 0] => [0xff, 0xff],
        other => other,
    };
    if v6 {
        turn6(ip, udp_len);
    } else {
        turn4(ip, total);
    }
    let Some(udp) = datagram.first_chunk_mut::<UDP_LEN>() else { return 0 };
    let [s0, s1, d0, d1, ..] = *udp;
    let ports = u32::from_ne_bytes([s0, s1, d0, d1]).rotate_left(16);
    let lengths = u32::from(u16::from_ne_bytes(sent)) << 16 | u32::from((udp_len as u16).to_be());
    *udp = (u64::from(lengths.to_le()) << 32 | u64::from(ports)).to_ne_bytes();
    total
}

#[inline(always)]
fn turn4(ip: &mut [u8], total: usize) {
    let Some(ip) = ip.first_chunk_mut::<IP4_LEN>() else { return };
    let [_, _, _, _, i0, i1, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = *ip;
    let ends = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let [t0, t1] = (total as u16).to_be_bytes();
    let front = [0x45, 0, t0, t1, i0, i1, 0, 0];
    let mut sum = Sum::default();
    sum.eight(ends);
    sum.eight(u64::from_ne_bytes(front));
    sum.add_word(u16::from_be_bytes([TTL, UDP]));
    let [c0, c1] = sum.checksum();
    let [a, b, c, d, e, f, g, h] = ends.rotate_left(32).to_ne_bytes();
    let [v, w, t0, t1, i0, i1, x, y] = front;
    *ip = [v, w, t0, t1, i0, i1, x, y, TTL, UDP, c0, c1, a, b, c, d, e, f, g, h];
}

/// The flow label stays the question's: the client's own word for the flow (RFC 6437 section 2).
#[inline(always)]
fn turn6(ip: &mut [u8], udp_len: usize) {
    let Some((front, ends)) = ip.split_first_chunk_mut::<8>() else { return };
    let [_, f1, f2, f3, ..] = *front;
    let [l0, l1] = (udp_len as u16).to_be_bytes();
    *front = [0x60, f1 & 0x0f, f2, f3, l0, l1, UDP, TTL];
    if let Some((source, destination)) = ends.split_at_mut_checked(16) {
        source.swap_with_slice(&mut destination[..16]);
    }
}
