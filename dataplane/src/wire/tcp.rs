//! TCP (RFC 9293): the reset that refuses a segment, and the MSS that a way can carry.

use super::checksum::{Delta, fold, sum};
use super::ip4::{self, TCP};
use super::{long, put, word};

/// Octets of a header without options.
pub const HEADER: usize = 20;

/// Octet positions in the header.
pub mod field {
    /// Source port, then destination port.
    pub const PORTS: usize = 0;
    /// Sequence number.
    pub const SEQUENCE: usize = 4;
    /// Acknowledgement number.
    pub const ACKNOWLEDGED: usize = 8;
    /// Data offset, 4-octet units, in the upper half.
    pub const OFFSET: usize = 12;
    /// Flags.
    pub const FLAGS: usize = 13;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
}

/// Flags.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number means something.
    pub const ACK: u8 = 0x10;
}

/// Flags, ECN's and PSH aside, that a segment may have together (RFC 9293 section 3.10): as a set of bits numbered by them.
const SENSIBLE: u64 = {
    const URG: u8 = 0x20;
    let allowed = [
        flag::SYN,
        flag::SYN | URG,
        flag::SYN | flag::ACK,
        flag::RST,
        flag::RST | flag::ACK,
        flag::FIN | flag::ACK,
        flag::FIN | flag::ACK | URG,
        flag::ACK,
        flag::ACK | URG,
    ];
    let (mut set, mut at) = (0, 0);
    while at < allowed.len() {
        set |= 1 << allowed[at];
        at += 1;
    }
    set
};

/// Whether these flags make sense together. Others are sent to find out what answers, and to get past filters.
#[must_use]
#[inline]
pub fn is_sensible(flags: u8) -> bool {
    const PSH_AND_ECN: u8 = 0xc8;
    SENSIBLE >> (flags & !PSH_AND_ECN) & 1 == 1
}

/// Octets of an IPv6 header, and where its fields are (RFC 8200 section 3).
mod ip6 {
    pub(super) const HEADER: usize = 40;
    pub(super) const LENGTH: usize = 4;
    pub(super) const SOURCE: usize = 8;
    pub(super) const FRESH_HOP_LIMIT: u8 = 64;
}

/// Option kind and length of the maximum segment size (RFC 9293 section 3.2).
const MSS: [u8; 2] = [2, 4];

/// What the reset of a segment says (RFC 9293 section 3.10.7.1).
struct Reset {
    sequence: u32,
    acknowledged: u32,
    flags: u8,
}

/// The reset that answers `tcp`, a whole segment; `None` for a reset or a broken header.
fn reset(tcp: &[u8]) -> Option<Reset> {
    let header_len = usize::from(tcp.get(field::OFFSET)? >> 4) * 4;
    let flags = *tcp.get(field::FLAGS)?;
    let data_len = tcp.len().checked_sub(header_len).filter(|_| header_len >= HEADER)?;
    if flags & flag::RST != 0 {
        return None;
    }
    if flags & flag::ACK != 0 {
        return Some(Reset { sequence: long(tcp, field::ACKNOWLEDGED), acknowledged: 0, flags: flag::RST });
    }
    // SYN and FIN take a sequence number each.
    let length = data_len as u32 + u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
    let acknowledged = long(tcp, field::SEQUENCE).wrapping_add(length);
    Some(Reset { sequence: 0, acknowledged, flags: flag::RST | flag::ACK })
}

/// Writes the reset over the segment's first [`HEADER`] octets; `addresses` is the sum of both addresses.
fn write(tcp: &mut [u8], reset: &Reset, addresses: u64) {
    let (source, destination) = (word(tcp, 2), word(tcp, 0));
    put(tcp, field::PORTS, source.to_be_bytes());
    put(tcp, field::PORTS + 2, destination.to_be_bytes());
    put(tcp, field::SEQUENCE, reset.sequence.to_be_bytes());
    put(tcp, field::ACKNOWLEDGED, reset.acknowledged.to_be_bytes());
    // No options, no window; checksum and urgent pointer 0.
    put(tcp, field::OFFSET, [(HEADER / 4 * 16) as u8, reset.flags, 0, 0, 0, 0, 0, 0]);
    let checksum = checksum(tcp.get(..HEADER).unwrap_or_default(), addresses);
    put(tcp, field::CHECKSUM, checksum.to_be_bytes());
}

/// The checksum of a segment with its pseudo-header; over a finished segment 0.
fn checksum(tcp: &[u8], addresses: u64) -> u16 {
    !fold(sum(tcp, addresses + tcp.len() as u64 + u64::from(TCP)))
}

/// Turns a TCP packet over IPv4 into the reset that refuses it, and says how long that is. `ip` is the whole packet,
/// `l4` the offset of its TCP header. `None` (unchanged) for what must not be answered: a reset, a wrong checksum, a
/// broken header. IP options are not returned.
#[must_use]
pub fn reset4(ip: &mut [u8], l4: usize) -> Option<usize> {
    let (source, destination) = (long(ip, ip4::field::SOURCE), long(ip, ip4::field::DESTINATION));
    let addresses = u64::from(source) + u64::from(destination);
    let tcp = ip.get(l4..).filter(|tcp| checksum(tcp, addresses) == 0)?;
    let answer = reset(tcp)?;
    let length = ip4::HEADER + HEADER;
    ip.copy_within(l4..l4 + 4, ip4::HEADER);
    ip4::write_header(ip, length as u16, ip4::DF, TCP, 0, destination, source);
    write(ip.get_mut(ip4::HEADER..)?, &answer, addresses);
    Some(length)
}

/// As [`reset4`], over IPv6; extension headers are not returned.
#[must_use]
pub fn reset6(ip: &mut [u8], l4: usize) -> Option<usize> {
    let ends = ip.get(ip6::SOURCE..ip6::HEADER)?.first_chunk::<32>().copied()?;
    let addresses = sum(&ends, 0);
    let tcp = ip.get(l4..).filter(|tcp| l4 >= ip6::HEADER && checksum(tcp, addresses) == 0)?;
    let answer = reset(tcp)?;
    ip.copy_within(l4..l4 + 4, ip6::HEADER);
    put(ip, 0, 0x6000_0000u32.to_be_bytes());
    put(ip, ip6::LENGTH, [0, HEADER as u8, TCP, ip6::FRESH_HOP_LIMIT]);
    let (source, destination) = ends.split_at(16);
    if let Some(place) = ip.get_mut(ip6::SOURCE..ip6::HEADER) {
        place[..16].copy_from_slice(destination);
        place[16..].copy_from_slice(source);
    }
    write(ip.get_mut(ip6::HEADER..)?, &answer, addresses);
    Some(ip6::HEADER + HEADER)
}

/// The MSS that a SYN names.
#[must_use]
#[inline]
pub fn named_mss(tcp: &[u8]) -> Option<u16> {
    mss(tcp).map(|at| word(tcp, at))
}

/// Lowers the MSS of a SYN to `limit` octets; whether it had to. `tcp` begins at the TCP header. A SYN that names none
/// is left alone: its sender then gets 536 octets (RFC 9293 section 3.7.1), which every way carries.
pub fn clamp_mss(tcp: &mut [u8], limit: u16) -> bool {
    if tcp.get(field::FLAGS).is_none_or(|flags| flags & flag::SYN == 0) {
        return false;
    }
    let Some(at) = mss(tcp) else { return false };
    let before = word(tcp, at);
    if before <= limit {
        return false;
    }
    // Behind a NOP the option lies across two words of the checksum; the header's length is a multiple of four, so
    // the octet behind it is in the header as well.
    let words = at & !1;
    let delta = Delta::default();
    let change =
        if at == words { delta.word(before, limit) } else { delta.long(long(tcp, words), across(tcp, words, limit)) };
    put(tcp, at, limit.to_be_bytes());
    change.update(tcp, field::CHECKSUM);
    true
}

/// The four octets at `words` with `limit` in their middle.
fn across(tcp: &[u8], words: usize, limit: u16) -> u32 {
    long(tcp, words) & 0xff00_00ff | u32::from(limit) << 8
}

/// Where the MSS is. Options take at most 40 octets and every step at least one, so the walk is bounded.
fn mss(tcp: &[u8]) -> Option<usize> {
    let end = usize::from(tcp.get(field::OFFSET)? >> 4) * 4;
    let options = tcp.get(..end)?;
    let mut at = HEADER;
    loop {
        match options.get(at..)? {
            [] | [0, ..] => return None,
            [1, ..] => at += 1,
            [kind, length, _, _, ..] if [*kind, *length] == MSS => return Some(at + 2),
            [_, length, ..] if *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
