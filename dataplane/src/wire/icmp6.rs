//! ICMPv6 (RFC 4443): errors that are translated, errors that are made, echo.
//!
//! As [`super::icmp`], with two differences: the checksum covers the outer addresses, and IPv6 has none of its own.

use super::checksum::{Delta, fold, sum};
use super::icmp::Message;
use super::quote::{self, CHECKSUM, HEADER, Quoted, Translation};
use super::{End, put, word};

/// Protocol number.
pub const PROTOCOL: u8 = 58;

/// Message types (RFC 4443).
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big; the MTU is in the last four octets of the header.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER: u8 = 4;
    /// Echo request.
    pub const ECHO: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Redirect (RFC 4861), about which no error may be sent.
    pub const REDIRECT: u8 = 137;
}

/// Codes of destination unreachable (RFC 4443 section 3.1).
pub mod code {
    /// No route.
    pub const NO_ROUTE: u8 = 0;
    /// Forbidden by a filter.
    pub const PROHIBITED: u8 = 1;
    /// The address does not answer.
    pub const ADDRESS: u8 = 3;
    /// Nothing listens on the port.
    pub const PORT: u8 = 4;
}

/// Octet positions in the IPv6 header (RFC 8200 section 3).
mod field {
    pub(super) const LENGTH: usize = 4;
    pub(super) const NEXT: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: usize = 8;
    pub(super) const DESTINATION: usize = 24;
}

/// Octets of an IPv6 header.
const IP6: usize = 40;
/// Octets that [`write`] puts before the quoted packet: IPv6 and ICMPv6 headers.
pub const FRONT: usize = IP6 + HEADER;
/// Longest error, octets with its IP header: the least MTU that IPv6 has (RFC 4443 section 2.4(c)).
pub const ERROR_MAX: usize = 1280;
/// A smaller MTU than this is an attack: no link has it (RFC 8200 section 5).
pub const MTU_FLOOR: u32 = 1280;
/// Hop limit of what is made here.
const FRESH_HOP_LIMIT: u8 = 64;
/// Where the quoted IP header is in the message.
const INNER: usize = HEADER;
/// Extension headers that are walked before a packet is given up.
pub const EXTENSIONS_MAX: usize = 8;

/// The hop limit ran out on the way.
pub const TIME_EXCEEDED: Message = Message { kind: kind::TIME_EXCEEDED, code: 0, rest: 0 };

/// Destination unreachable for the reason `code`.
#[must_use]
pub const fn unreachable(code: u8) -> Message {
    Message { kind: kind::UNREACHABLE, code, rest: 0 }
}

/// Too big for a way that takes `mtu` octets of IP packet. Hosts do not go below [`MTU_FLOOR`] (RFC 8201 section 4).
#[must_use]
pub const fn too_big(mtu: u32) -> Message {
    Message { kind: kind::TOO_BIG, code: 0, rest: mtu }
}

/// The packet that an error quotes. `icmp` is the message, from its type to its end. `None` when it is no error, quotes
/// too little, a later fragment, or more than [`EXTENSIONS_MAX`] extension headers, or what it quotes has no ports.
#[must_use]
pub fn quoted(icmp: &[u8]) -> Option<Quoted<u128>> {
    let extended = match *icmp.first()? {
        kind::UNREACHABLE | kind::TIME_EXCEEDED => *icmp.get(4)?,
        // Their four octets are an MTU and a pointer, no length of RFC 4884.
        kind::TOO_BIG | kind::PARAMETER => 0,
        _ => return None,
    };
    let ip = icmp.get(INNER..).filter(|ip| ip.len() >= IP6 && ip[0] >> 4 == 6)?;
    let length = usize::from(word(ip, field::LENGTH));
    let chain = walk(ip).filter(|chain| chain.offset == 0)?;
    let l4 = INNER + chain.l4;
    let end = quote::end(icmp, IP6 + length, extended, 8);
    let (sport, dport) = quote::ports(icmp, chain.protocol, l4, end)?;
    let whole = (IP6 + length).checked_sub(chain.l4).filter(|_| !chain.fragmented);
    Some(Quoted {
        source: End { ip: wide(ip, field::SOURCE), port: sport },
        destination: End { ip: wide(ip, field::DESTINATION), port: dport },
        protocol: chain.protocol,
        l4,
        end,
        whole: whole.map(|octets| octets as u16),
    })
}

/// Rewrites an error and takes one from its hop limit. `ip` begins at the outer header, `l4` is the ICMPv6 message's
/// offset in it, `quoted` is what [`quoted`] said of that message.
pub fn translate_error(ip: &mut [u8], l4: usize, quoted: &Quoted<u128>, to: &Translation<u128>) {
    let outer = (wide(ip, field::SOURCE), wide(ip, field::DESTINATION));
    let Some(icmp) = ip.get_mut(l4..) else { return };
    let changed = quote::rewrite(icmp, quoted, to);
    put(icmp, INNER + field::SOURCE, to.source.ip.to_be_bytes());
    put(icmp, INNER + field::DESTINATION, to.destination.ip.to_be_bytes());
    let pseudo = quote::address(changed, outer.0, to.outer_source);
    quote::address(pseudo, outer.1, to.outer_destination).update(icmp, CHECKSUM);
    put(ip, field::SOURCE, to.outer_source.to_be_bytes());
    put(ip, field::DESTINATION, to.outer_destination.to_be_bytes());
    if let Some(hop_limit) = ip.get_mut(field::HOP_LIMIT) {
        *hop_limit = hop_limit.wrapping_sub(1);
    }
}

/// Rewrites both addresses and the identifier of an echo message at `l4` (RFC 4443 section 4.1), which may be a
/// datagram's first fragment, and takes nothing from the hop limit. `ip` begins at the IPv6 header.
pub fn translate_echo(ip: &mut [u8], l4: usize, source: u128, destination: u128, id: u16) {
    let addresses = quote::address(Delta::default(), wide(ip, field::SOURCE), source);
    let addresses = quote::address(addresses, wide(ip, field::DESTINATION), destination);
    put(ip, field::SOURCE, source.to_be_bytes());
    put(ip, field::DESTINATION, destination.to_be_bytes());
    let Some(icmp) = ip.get_mut(l4..) else { return };
    let before = word(icmp, quote::ECHO_ID);
    put(icmp, quote::ECHO_ID, id.to_be_bytes());
    addresses.word(before, id).update(icmp, CHECKSUM);
}

/// Raises the MTU of a "packet too big" to [`MTU_FLOOR`]; whether it had to.
pub fn raise_mtu(icmp: &mut [u8]) -> bool {
    let mtu = super::long(icmp, 4);
    if icmp.first() != Some(&kind::TOO_BIG) || icmp.len() < HEADER || mtu >= MTU_FLOOR {
        return false;
    }
    put(icmp, 4, MTU_FLOOR.to_be_bytes());
    Delta::default().long(mtu, MTU_FLOOR).update(icmp, CHECKSUM);
    true
}

/// Turns an echo request round (RFC 4443 section 4.2): addresses swapped, a fresh hop limit, type 128 becomes 129.
/// `ip` begins at the IPv6 header, `l4` is the message's offset. The pseudo-header's sum is the same both ways round.
pub fn echo(ip: &mut [u8], l4: usize) {
    let (source, destination) = (wide(ip, field::SOURCE), wide(ip, field::DESTINATION));
    put(ip, field::SOURCE, destination.to_be_bytes());
    put(ip, field::DESTINATION, source.to_be_bytes());
    put(ip, field::HOP_LIMIT, [FRESH_HOP_LIMIT]);
    let Some(icmp) = ip.get_mut(l4..) else { return };
    let asked = word(icmp, 0);
    let answered = u16::from_be_bytes([kind::ECHO_REPLY, asked as u8]);
    put(icmp, 0, answered.to_be_bytes());
    Delta::default().word(asked, answered).update(icmp, CHECKSUM);
}

/// Whether an error may be sent about `ip`, a packet as received (RFC 4443 section 2.4(e)): never about an error or a
/// redirect, a later fragment, a chain of headers that cannot be followed, or to and from what is not one host.
/// `too_big` allows a group as destination, for path MTU discovery of multicast (2.4(e.3)).
#[must_use]
pub fn may_answer(ip: &[u8], too_big: bool) -> bool {
    let (source, destination) = (wide(ip, field::SOURCE), wide(ip, field::DESTINATION));
    let group = |address: u128| address >> 120 == 0xff;
    // Unspecified and loopback are no sender on a wire.
    let one_host = source > 1 && !group(source) && destination > 1 && (too_big || !group(destination));
    one_host
        && walk(ip).is_some_and(|chain| {
            let kind = ip.get(chain.l4).copied();
            let harmless = chain.protocol != PROTOCOL || kind.is_some_and(|k| k >= kind::ECHO && k != kind::REDIRECT);
            chain.offset == 0 && harmless
        })
}

/// How many octets of a packet of `length` an error quotes: as many as fit [`ERROR_MAX`].
#[must_use]
pub fn quotable(length: usize) -> usize {
    length.min(ERROR_MAX - FRONT)
}

/// Writes an error in front of the packet that it is about, and says whom it goes to. `packet` is [`FRONT`] octets of
/// room and then the first [`quotable`] octets of the offending packet, as it was received; nothing follows. `None`
/// (unchanged) when the quoted packet is shorter than a header.
pub fn write(packet: &mut [u8], message: Message, source: u128) -> Option<u128> {
    let offender = packet.get(FRONT..).filter(|ip| ip.len() >= IP6)?;
    let destination = wide(offender, field::SOURCE);
    let length = u16::try_from(packet.len() - IP6).ok()?;
    put(packet, 0, 0x6000_0000u32.to_be_bytes());
    put(packet, field::LENGTH, length.to_be_bytes());
    put(packet, field::NEXT, [PROTOCOL, FRESH_HOP_LIMIT]);
    put(packet, field::SOURCE, source.to_be_bytes());
    put(packet, field::DESTINATION, destination.to_be_bytes());
    put(packet, IP6, [message.kind, message.code, 0, 0]);
    put(packet, IP6 + 4, message.rest.to_be_bytes());
    let checksum = checksum(packet, IP6);
    put(packet, IP6 + CHECKSUM, checksum.to_be_bytes());
    Some(destination)
}

/// The checksum of the message at `l4` with its pseudo-header (RFC 8200 section 8.1); over a finished message 0.
fn checksum(ip: &[u8], l4: usize) -> u16 {
    let addresses = sum(ip.get(field::SOURCE..IP6).unwrap_or_default(), 0);
    let icmp = ip.get(l4..).unwrap_or_default();
    !fold(sum(icmp, addresses + icmp.len() as u64 + u64::from(PROTOCOL)))
}

/// Whether the checksum of the message at `l4` is right. `ip` is the whole packet.
#[must_use]
pub fn sound(ip: &[u8], l4: usize) -> bool {
    checksum(ip, l4) == 0
}

/// The 128-bit word at `at`, network byte order; 0 beyond the end.
fn wide(bytes: &[u8], at: usize) -> u128 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |octets| u128::from_be_bytes(*octets))
}

/// Where a chain of headers ends.
struct Chain {
    /// What the last header says follows.
    protocol: u8,
    /// Offset of that in the packet.
    l4: usize,
    /// Whether there was a fragment header that splits something.
    fragmented: bool,
    /// Fragment offset, 8-octet units.
    offset: u16,
}

/// Follows extension headers (RFC 8200 section 4), at most [`EXTENSIONS_MAX`]. `None` when there are more, when one is
/// cut, when hop-by-hop options are not first, or when a routing header has yet to change the destination that the
/// checksums of the transport count.
fn walk(ip: &[u8]) -> Option<Chain> {
    let mut chain = Chain { protocol: *ip.get(field::NEXT)?, l4: IP6, fragmented: false, offset: 0 };
    for place in 0..=EXTENSIONS_MAX {
        let octets = |header: &[u8; 4]| 8 + usize::from(header[1]) * 8;
        let extension = matches!(chain.protocol, 0 | 43 | 44 | 51 | 60);
        if !extension || chain.offset != 0 {
            return Some(chain);
        }
        let header = ip.get(chain.l4..)?.first_chunk::<4>()?;
        chain.l4 += match chain.protocol {
            0 if place > 0 => return None,
            43 if header[3] != 0 => return None,
            44 => {
                let split = u16::from_be_bytes([header[2], header[3]]);
                (chain.fragmented, chain.offset) = (split & 0xfff9 != 0, split >> 3);
                8
            }
            // The authentication header counts in 4 octets, less 2 (RFC 4302 section 2.2).
            51 => 8 + usize::from(header[1]) * 4,
            _ => octets(header),
        };
        chain.protocol = header[0];
    }
    None
}

#[cfg(test)]
mod tests;
