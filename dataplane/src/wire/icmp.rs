//! ICMP for IPv4 (RFC 792): errors that are translated, errors that are made.
//!
//! A translated error keeps its checksum as right or as wrong as it was. One that is made here is written in front of
//! the packet that it is about, which lies there already.

use super::checksum::{Delta, fold, sum};
use super::quote::{self, CHECKSUM, HEADER, Quoted, Translation};
use super::{End, ip4, long, put, word};

/// Message types (RFC 792).
pub mod kind {
    /// Answer to an echo request.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request.
    pub const ECHO: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER: u8 = 12;
}

/// Codes of destination unreachable (RFC 792, RFC 1812 section 5.2.7.1).
pub mod code {
    /// No route to the network.
    pub const NET: u8 = 0;
    /// The host does not answer.
    pub const HOST: u8 = 1;
    /// Nothing listens on the port.
    pub const PORT: u8 = 3;
    /// Too big, and DF is set; the MTU is in the last two octets of the header (RFC 1191 section 4).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Forbidden by a filter.
    pub const PROHIBITED: u8 = 13;
}

/// Octets that [`write`] puts before the quoted packet: IPv4 and ICMP headers.
pub const FRONT: usize = ip4::HEADER + HEADER;
/// Longest error (RFC 1812 section 4.3.2.3), octets with its IP header.
pub const ERROR_MAX: usize = 576;
/// An MTU below this is taken for an attack on path MTU discovery: every host must take 576 octets (RFC 791).
pub const MTU_FLOOR: u16 = 576;
/// Precedence of errors: internetwork control (RFC 1812 section 4.3.2.5).
const TOS: u8 = 0xc0;
/// Where the quoted IP header is in the message.
const INNER: usize = HEADER;

/// What an error says before the packet that it quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Last four octets of the header, host byte order.
    pub rest: u32,
}

impl Message {
    /// The TTL ran out on the way.
    pub const TIME_EXCEEDED: Self = Self { kind: kind::TIME_EXCEEDED, code: 0, rest: 0 };

    /// Destination unreachable for the reason `code`.
    #[must_use]
    pub const fn unreachable(code: u8) -> Self {
        Self { kind: kind::UNREACHABLE, code, rest: 0 }
    }

    /// Too big for a way that takes `mtu` octets of IP packet.
    #[must_use]
    pub const fn too_big(mtu: u16) -> Self {
        Self { kind: kind::UNREACHABLE, code: code::FRAGMENTATION_NEEDED, rest: mtu as u32 }
    }
}

/// The packet that an error quotes. `icmp` is the message, from its type to its end. `None` when it is no error, quotes
/// too little or a later fragment, or what it quotes has no ports.
#[must_use]
pub fn quoted(icmp: &[u8]) -> Option<Quoted<u32>> {
    if !matches!(icmp.first()?, &(kind::UNREACHABLE | kind::TIME_EXCEEDED | kind::PARAMETER)) {
        return None;
    }
    let ip = icmp.get(INNER..).filter(|ip| ip.len() >= ip4::HEADER)?;
    let (header_len, length) = (usize::from(ip[0] & 0x0f) * 4, word(ip, ip4::field::LENGTH));
    let fragment = word(ip, ip4::field::FRAGMENT);
    if ip[0] >> 4 != 4 || header_len < ip4::HEADER || fragment & 0x1fff != 0 {
        return None;
    }
    let (protocol, l4) = (ip[ip4::field::PROTOCOL], INNER + header_len);
    let end = quote::end(icmp, usize::from(length), icmp[5], 4);
    let (sport, dport) = quote::ports(icmp, protocol, l4, end)?;
    let whole = length.checked_sub(header_len as u16).filter(|_| fragment & 0x2000 == 0);
    Some(Quoted {
        source: End { ip: long(ip, ip4::field::SOURCE), port: sport },
        destination: End { ip: long(ip, ip4::field::DESTINATION), port: dport },
        protocol,
        l4,
        end,
        whole,
    })
}

/// Rewrites an error and takes one from its TTL. `ip` begins at the outer header, `l4` is the ICMP message's offset in
/// it, `quoted` is what [`quoted`] said of that message.
pub fn translate_error(ip: &mut [u8], l4: usize, quoted: &Quoted<u32>, to: &Translation<u32>) {
    let Some(icmp) = ip.get_mut(l4..) else { return };
    let changed = quote::rewrite(icmp, quoted, to);
    put(icmp, INNER + ip4::field::SOURCE, to.source.ip.to_be_bytes());
    put(icmp, INNER + ip4::field::DESTINATION, to.destination.ip.to_be_bytes());
    let before = word(icmp, INNER + ip4::field::CHECKSUM);
    quote::addresses(quoted, to).update(icmp, INNER + ip4::field::CHECKSUM);
    changed.word(before, word(icmp, INNER + ip4::field::CHECKSUM)).update(icmp, CHECKSUM);
    ip4::readdress(ip, to.outer_source, to.outer_destination);
    ip4::decrement_ttl(ip);
}

/// Writes another identifier into an echo message (RFC 792), which may be a datagram's first fragment.
pub fn identify(icmp: &mut [u8], id: u16) {
    let before = word(icmp, quote::ECHO_ID);
    put(icmp, quote::ECHO_ID, id.to_be_bytes());
    Delta::default().word(before, id).update(icmp, CHECKSUM);
}

/// Raises the MTU of a "fragmentation needed" to [`MTU_FLOOR`]; whether it had to. An MTU of 0 stays: routers older
/// than RFC 1191 send it, and hosts then estimate (section 5).
pub fn raise_mtu(icmp: &mut [u8]) -> bool {
    let too_big = word(icmp, 0) == u16::from_be_bytes([kind::UNREACHABLE, code::FRAGMENTATION_NEEDED]);
    let mtu = word(icmp, 6);
    if !too_big || icmp.len() < HEADER || !(1..MTU_FLOOR).contains(&mtu) {
        return false;
    }
    put(icmp, 6, MTU_FLOOR.to_be_bytes());
    Delta::default().word(mtu, MTU_FLOOR).update(icmp, CHECKSUM);
    true
}

/// Whether an error may be sent about `ip`, a packet as received (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7):
/// never about an error, a later fragment, or to and from what is not one host. Directed broadcasts look like hosts.
#[must_use]
pub fn may_answer(ip: &[u8]) -> bool {
    let (source, destination) = (long(ip, ip4::field::SOURCE), long(ip, ip4::field::DESTINATION));
    let one_host = !matches!((source >> 24) as u8, 0 | 127 | 224..) && !matches!((destination >> 24) as u8, 0 | 224..);
    let first = word(ip, ip4::field::FRAGMENT) & 0x1fff == 0;
    one_host && first && (ip.get(ip4::field::PROTOCOL) != Some(&ip4::ICMP) || query(ip))
}

/// Whether an ICMP packet asks or answers (RFC 1122 section 3.2.2: all other types are, or may be, errors).
fn query(ip: &[u8]) -> bool {
    let l4 = ip.first().map_or(0, |octet| usize::from(octet & 0x0f) * 4);
    matches!(ip.get(l4), Some(&(kind::ECHO_REPLY | kind::ECHO | 13..=18)))
}

/// How many octets of a packet of `length` an error quotes: as many as fit [`ERROR_MAX`].
#[must_use]
pub fn quotable(length: usize) -> usize {
    length.min(ERROR_MAX - FRONT)
}

/// Writes an error in front of the packet that it is about, and says whom it goes to. `packet` is [`FRONT`] octets of
/// room and then the first [`quotable`] octets of the offending packet, as it was received; nothing follows. DF is set
/// with identification 0 (RFC 6864 section 4.1). `None` (unchanged) when the quoted packet is shorter than a header.
pub fn write(packet: &mut [u8], message: Message, source: u32) -> Option<u32> {
    let length = u16::try_from(packet.len()).ok()?;
    let offender = packet.get(FRONT..).filter(|ip| ip.len() >= ip4::HEADER)?;
    let destination = long(offender, ip4::field::SOURCE);
    ip4::write_header(packet, length, ip4::DF, ip4::ICMP, TOS, source, destination);
    let icmp = packet.get_mut(ip4::HEADER..)?;
    put(icmp, 0, [message.kind, message.code, 0, 0]);
    put(icmp, 4, message.rest.to_be_bytes());
    let checksum = !fold(sum(icmp, 0));
    put(icmp, CHECKSUM, checksum.to_be_bytes());
    Some(destination)
}

#[cfg(test)]
mod tests;
