//! What a new address and port mean to a transport header.

use super::checksum::Delta;
use super::ip4::{SCTP, TCP};
use super::{long, put, sctp, word};

/// Octets of a TCP header up to its checksum.
const TCP_CHECKED: usize = 18;

/// Writes new ports at the start of a TCP, UDP or SCTP header, behind addresses that have changed by `addresses`. Checksums
/// by RFC 1624; SCTP's covers no addresses.
#[inline(always)]
pub(super) fn readdress(transport: &mut [u8], protocol: u8, addresses: Delta, source: u16, destination: u16) {
    let ports = u32::from(source) << 16 | u32::from(destination);
    // As an array: positions in it need no checks.
    match transport.first_chunk_mut::<TCP_CHECKED>() {
        Some(segment) if protocol == TCP => {
            let all = addresses.long(long(segment, 0), ports);
            put(segment, 0, ports.to_be_bytes());
            all.update(segment, 16);
        }
        Some(_) | None => others(transport, protocol, addresses, source, destination),
    }
}

#[inline(never)]
fn others(transport: &mut [u8], protocol: u8, addresses: Delta, source: u16, destination: u16) {
    if protocol == SCTP {
        return sctp::readdress(transport, 0, source, destination);
    }
    let all = addresses.word(word(transport, 0), source).word(word(transport, 2), destination);
    put(transport, 0, source.to_be_bytes());
    put(transport, 2, destination.to_be_bytes());
    match protocol {
        TCP => all.update(transport, 16),
        // Over IPv6 a checksum of 0 was dropped by parse (RFC 8200 section 8.1).
        _ => all.update_udp(transport, 6),
    }
}
