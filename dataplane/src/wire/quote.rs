//! The packet that an ICMP error quotes: who sent it to whom, and how its ports and sums are rewritten. Both families.
//!
//! Routers quote as little as the IP header and 8 octets (RFC 792), so ports are all that can be relied on; a transport
//! checksum is updated where it was quoted.

use super::checksum::Delta;
use super::ip4::{TCP, UDP};
use super::{End, icmp, icmp6, ip4, long, put, sctp, word};
use crate::address::Address;

/// Octets of an ICMP or ICMPv6 header; the quoted packet begins behind it (RFC 792, RFC 4443).
pub const HEADER: usize = 8;
/// Offset of the checksum in an ICMP or ICMPv6 message.
pub const CHECKSUM: usize = 2;
/// Transport octets that every router quotes (RFC 792): both ports.
pub const TRANSPORT_MIN: usize = 8;
/// Offset of an echo message's identifier in it (RFC 792, RFC 4443 section 4.1).
pub const ECHO_ID: usize = 4;
/// Least length that an original datagram field of RFC 4884 section 4 has, octets; anything below is not such a field.
const EXTENDED_MIN: usize = 128;

/// A quoted TCP, UDP or SCTP packet, or an echo message, whose identifier is the port of who asked; who was asked has port
/// 0. Offsets count from the ICMP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted<A> {
    /// Who sent it: the one who must be told.
    pub source: End<A>,
    /// Whom it was for.
    pub destination: End<A>,
    /// IP protocol of the transport header.
    pub protocol: u8,
    /// Offset of the transport header.
    pub l4: usize,
    /// Offset behind the last octet that was quoted of the packet.
    pub end: usize,
    /// Octets of transport header and payload as sent, most of which is not here; `None` of a fragment.
    pub whole: Option<u16>,
}

/// What an error says once it is translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation<A> {
    /// Outer source, host byte order.
    pub outer_source: A,
    /// Outer destination, host byte order.
    pub outer_destination: A,
    /// Source of the quoted packet.
    pub source: End<A>,
    /// Destination of the quoted packet.
    pub destination: End<A>,
}

/// Where the quoted packet ends in `icmp`: at the message's end, at its own, or where an original datagram field of
/// `words` units of `unit` octets does (RFC 4884 section 4: zero padding and extensions follow it).
pub(super) fn end(icmp: &[u8], own_len: usize, words: u8, unit: usize) -> usize {
    let field = match usize::from(words) * unit {
        ..EXTENDED_MIN => usize::MAX,
        octets => octets,
    };
    icmp.len().min(HEADER + own_len.min(field))
}

/// The ports at `l4`, if the protocol has some and enough was quoted.
pub(super) fn ports(icmp: &[u8], protocol: u8, l4: usize, end: usize) -> Option<(u16, u16)> {
    if l4 + TRANSPORT_MIN > end {
        return None;
    }
    match (protocol, Echo::of(icmp, protocol, l4)) {
        (TCP | UDP | sctp::PROTOCOL, _) => Some((word(icmp, l4), word(icmp, l4 + 2))),
        (_, Some(Echo::Request)) => Some((word(icmp, l4 + ECHO_ID), 0)),
        (_, Some(Echo::Reply)) => Some((0, word(icmp, l4 + ECHO_ID))),
        (_, None) => None,
    }
}

/// Which echo message is quoted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Request,
    Reply,
}

impl Echo {
    fn of(icmp: &[u8], protocol: u8, l4: usize) -> Option<Self> {
        match (protocol, *icmp.get(l4)?) {
            (ip4::ICMP, icmp::kind::ECHO) | (icmp6::PROTOCOL, icmp6::kind::ECHO) => Some(Self::Request),
            (ip4::ICMP, icmp::kind::ECHO_REPLY) | (icmp6::PROTOCOL, icmp6::kind::ECHO_REPLY) => Some(Self::Reply),
            _ => None,
        }
    }
}

/// An address became another. Words that a family does not have go from 0 to 0, which is no change.
pub(super) fn address<A: Address>(delta: Delta, old: A, new: A) -> Delta {
    let halves = |word: u64| ((word >> 32) as u32, word as u32);
    old.words().into_iter().zip(new.words()).fold(delta, |delta, (old, new)| {
        let ((old_high, old_low), (new_high, new_low)) = (halves(old), halves(new));
        delta.long(old_high, new_high).long(old_low, new_low)
    })
}

/// What changes in the quoted packet's addresses.
pub(super) fn addresses<A: Address>(quoted: &Quoted<A>, to: &Translation<A>) -> Delta {
    let source = address(Delta::default(), quoted.source.ip, to.source.ip);
    address(source, quoted.destination.ip, to.destination.ip)
}

/// Rewrites the quoted transport header and says what changed in the message, the quoted addresses (which the caller
/// writes) among it.
pub(super) fn rewrite<A: Address>(icmp: &mut [u8], quoted: &Quoted<A>, to: &Translation<A>) -> Delta {
    if quoted.protocol == sctp::PROTOCOL {
        return sctp(icmp, quoted, to);
    }
    if let Some(echo) = Echo::of(icmp, quoted.protocol, quoted.l4) {
        return echoed(icmp, quoted, to, echo);
    }
    let all = addresses(quoted, to)
        .word(word(icmp, quoted.l4), to.source.port)
        .word(word(icmp, quoted.l4 + 2), to.destination.port);
    put(icmp, quoted.l4, to.source.port.to_be_bytes());
    put(icmp, quoted.l4 + 2, to.destination.port.to_be_bytes());
    let at = quoted.l4 + if quoted.protocol == TCP { 16 } else { 6 };
    if at + 2 > quoted.end {
        return all;
    }
    let before = word(icmp, at);
    // A zero TCP sum is left alone as well: who quotes before checksum offload quotes none.
    all.update_udp(icmp, at);
    all.word(before, word(icmp, at))
}

/// As [`rewrite`], of an echo message. IPv6's checksum covers the addresses, IPv4's does not.
fn echoed<A: Address>(icmp: &mut [u8], quoted: &Quoted<A>, to: &Translation<A>, echo: Echo) -> Delta {
    let id = if echo == Echo::Request { to.source.port } else { to.destination.port };
    let (at, checksum) = (quoted.l4 + ECHO_ID, quoted.l4 + CHECKSUM);
    let (before, sum) = (word(icmp, at), word(icmp, checksum));
    put(icmp, at, id.to_be_bytes());
    let covered = if A::V6 { addresses(quoted, to) } else { Delta::default() };
    covered.word(before, id).update(icmp, checksum);
    addresses(quoted, to).word(before, id).word(sum, word(icmp, checksum))
}

/// As [`rewrite`]. The checksum covers no address, and is left alone in a fragment, whose whole length nobody knows.
fn sctp<A: Address>(icmp: &mut [u8], quoted: &Quoted<A>, to: &Translation<A>) -> Delta {
    let (ports, checksum) = (quoted.l4, quoted.l4 + sctp::field::CHECKSUM);
    let before = (long(icmp, ports), long(icmp, checksum));
    let end = if quoted.whole.is_some() { quoted.end } else { quoted.l4 + TRANSPORT_MIN };
    let header = icmp.get_mut(quoted.l4..end).unwrap_or_default();
    sctp::translate(header, quoted.whole.unwrap_or_default(), to.source.port, to.destination.port);
    addresses(quoted, to).long(before.0, long(icmp, ports)).long(before.1, long(icmp, checksum))
}
