//! SCTP (RFC 9260): ports under a CRC32c that is updated, never computed anew, and what a packet's first chunk is.
//!
//! CRC32c is linear: two packets of equal length that differ in their ports differ in their sums by the sum of the
//! difference alone, which is the difference times a power of x that depends on the length (RFC 9260 appendix A gives the
//! polynomial). So a packet is translated in bounded time whatever its length, and a wrong sum stays exactly as wrong.

use super::{long, put, word};

/// Protocol number.
pub const PROTOCOL: u8 = 132;
/// Octets of the common header.
pub const HEADER: usize = 12;
/// Octets of a chunk's header.
const CHUNK: usize = 4;

/// Octet positions in the common header.
pub mod field {
    /// Both ports.
    pub const PORTS: usize = 0;
    /// Verification tag.
    pub const TAG: usize = 4;
    /// CRC32c, least significant octet first.
    pub const CHECKSUM: usize = 8;
}

/// Castagnoli's polynomial, bits reversed: bit 31 is the factor of x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0.
const ONE: u32 = 0x8000_0000;
/// x^8.
const OCTET: u32 = 0x0080_0000;

/// `a` times `b` modulo the polynomial; 32 steps without a branch.
#[inline]
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted, mut bit) = (0, b, 32);
    while bit > 0 {
        bit -= 1;
        product ^= shifted & 0u32.wrapping_sub(a >> bit & 1);
        shifted = (shifted >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(shifted & 1));
    }
    product
}

/// The first 256 powers of `step`.
const fn powers(step: u32) -> [u32; 256] {
    let (mut table, mut at) = ([ONE; 256], 1);
    while at < 256 {
        table[at] = multiply(table[at - 1], step);
        at += 1;
    }
    table
}

/// x^(8n) for n below 256.
static LOW: [u32; 256] = powers(OCTET);
/// x^(8 * 256 * n) for n below 256.
static HIGH: [u32; 256] = powers(multiply(LOW[255], OCTET));
/// Remainders of every octet followed by 0 to 7 more, to sum eight octets at a time.
static REMAINDERS: [[u32; 256]; 8] = remainders();

const fn remainders() -> [[u32; 256]; 8] {
    let (mut tables, mut behind) = ([[0; 256]; 8], 0);
    while behind < 8 {
        let mut octet = 0;
        while octet < 256 {
            tables[behind][octet] = multiply(octet as u32, LOW[behind + 1]);
            octet += 1;
        }
        behind += 1;
    }
    tables
}

/// What the checksum of a packet of `length` octets changes by when its first four change by `difference` (as read,
/// network byte order). ~60 ns: two multiplications of 32 steps.
#[inline]
fn change(difference: u32, length: u16) -> u32 {
    let (high, low) = (HIGH[usize::from(length >> 8)], LOW[usize::from(length & 0xff)]);
    multiply(multiply(difference.swap_bytes(), low), high)
}

/// Rewrites both ports of a packet that was `length` octets long when it was sent, of which `sctp` is all or, quoted by
/// an ICMP error, the beginning. The checksum is updated if all of it is there.
#[inline]
pub fn translate(sctp: &mut [u8], length: u16, source: u16, destination: u16) {
    let (before, after) = (long(sctp, field::PORTS), u32::from(source) << 16 | u32::from(destination));
    put(sctp, field::PORTS, after.to_be_bytes());
    let checksum = long(sctp, field::CHECKSUM).swap_bytes() ^ change(before ^ after, length);
    put(sctp, field::CHECKSUM, checksum.to_le_bytes());
}

/// Rewrites both ports of the whole packet at `l4` of an IP packet. Out of line: TCP and UDP pass by it.
#[cold]
pub fn readdress(ip: &mut [u8], l4: usize, source: u16, destination: u16) {
    let Some(sctp) = ip.get_mut(l4..) else { return };
    let length = sctp.len() as u16;
    translate(sctp, length, source, destination);
}

/// CRC32c of a packet with its checksum counted as 0.
fn checksum(sctp: &[u8]) -> u32 {
    let (before, after) = sctp.split_at_checked(field::CHECKSUM).unwrap_or((sctp, &[]));
    let crc = octets(u32::MAX, before);
    let (own, rest) = after.split_at_checked(4).unwrap_or((after, &[]));
    !octets(octets(crc, &[0; 4][..own.len()]), rest)
}

/// Eight octets a step; ~1 ns an octet less.
fn octets(crc: u32, bytes: &[u8]) -> u32 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(crc, |crc, eight| {
        let word = u64::from_le_bytes(*eight) ^ u64::from(crc);
        (0..8).fold(0, |sum, place| sum ^ REMAINDERS[7 - place][(word >> (8 * place)) as usize & 0xff])
    });
    rest.iter().fold(crc, |crc, octet| crc >> 8 ^ REMAINDERS[0][(crc ^ u32::from(*octet)) as usize & 0xff])
}

/// Whether the checksum of a whole packet is right: a pass over all of it, for what is answered here.
#[must_use]
pub fn sound(sctp: &[u8]) -> bool {
    sctp.len() >= HEADER && checksum(sctp) == long(sctp, field::CHECKSUM).swap_bytes()
}

/// A packet's first chunk, as far as sessions care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunk {
    /// Opens an association (INIT); never with another chunk, and the verification tag is 0.
    Init,
    /// Answers INIT.
    InitAck,
    /// Third message of the handshake.
    CookieEcho,
    /// Fourth: established.
    CookieAck,
    /// Ends it at once.
    Abort,
    /// Begins, answers or ends an orderly shutdown.
    Shutdown,
    /// The last message of an orderly shutdown.
    ShutdownComplete,
    /// Data, heartbeats, errors, and whatever else an established association sends.
    Other,
}

/// The first chunk; `None` when there is no whole chunk, or an INIT breaks its rules (RFC 9260 sections 3 and 8.5.1).
#[must_use]
pub fn first_chunk(sctp: &[u8]) -> Option<Chunk> {
    let chunk = sctp.get(HEADER..)?.first_chunk::<CHUNK>()?;
    let length = usize::from(u16::from_be_bytes([chunk[2], chunk[3]]));
    if length < CHUNK || HEADER + length > sctp.len() {
        return None;
    }
    Some(match chunk[0] {
        1 if alone(sctp, length) && long(sctp, field::TAG) == 0 => Chunk::Init,
        1 => return None,
        2 => Chunk::InitAck,
        6 => Chunk::Abort,
        7 | 8 => Chunk::Shutdown,
        10 => Chunk::CookieEcho,
        11 => Chunk::CookieAck,
        14 => Chunk::ShutdownComplete,
        _ => Chunk::Other,
    })
}

/// Whether nothing but padding follows the first chunk, which is `length` octets long.
fn alone(sctp: &[u8], length: usize) -> bool {
    sctp.len() <= HEADER + length.next_multiple_of(4)
}

/// Octets of what [`abort`] writes.
pub const ABORT: usize = HEADER + CHUNK;

/// Writes the ABORT that refuses a packet over it, ports swapped (RFC 9260 sections 8.4 and 5.1): an INIT is answered
/// under its own initiate tag, anything else under the tag that it came with (T bit). The packet is [`ABORT`] octets
/// long then. `false` (unchanged) for what must not be answered: a wrong checksum, ABORT, SHUTDOWN COMPLETE, COOKIE ACK.
#[must_use]
pub fn abort(sctp: &mut [u8]) -> bool {
    let (tag, reflected) = match first_chunk(sctp) {
        Some(Chunk::Init) => (long(sctp, HEADER + CHUNK), 0),
        None | Some(Chunk::Abort | Chunk::ShutdownComplete | Chunk::CookieAck) => return false,
        Some(Chunk::InitAck | Chunk::CookieEcho | Chunk::Shutdown | Chunk::Other) => (long(sctp, field::TAG), 1),
    };
    if sctp.len() < ABORT || tag == 0 || !sound(sctp) {
        return false;
    }
    let (source, destination) = (word(sctp, 2), word(sctp, 0));
    put(sctp, field::PORTS, source.to_be_bytes());
    put(sctp, field::PORTS + 2, destination.to_be_bytes());
    put(sctp, field::TAG, tag.to_be_bytes());
    put(sctp, HEADER, [6, reflected, 0, CHUNK as u8]);
    let checksum = checksum(sctp.get(..ABORT).unwrap_or_default());
    put(sctp, field::CHECKSUM, checksum.to_le_bytes());
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// CRC32c bit by bit, with the checksum counted as 0 (RFC 9260 appendix A).
    fn bitwise(sctp: &[u8]) -> u32 {
        let octet = |(at, octet): (usize, &u8)| if (8..12).contains(&at) { 0 } else { *octet };
        !sctp.iter().enumerate().map(octet).fold(u32::MAX, |crc, octet| {
            (0..8).fold(crc ^ u32::from(octet), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
        })
    }

    /// A packet with its checksum.
    fn packet(tag: u32, chunks: &[u8]) -> Vec<u8> {
        let mut bytes = [&[0x12, 0x34, 0x56, 0x78], &tag.to_be_bytes()[..], &[0; 4], chunks].concat();
        let crc = bitwise(&bytes);
        put(&mut bytes, field::CHECKSUM, crc.to_le_bytes());
        bytes
    }

    #[test]
    fn the_sum_is_castagnolis() {
        // The check value of the CRC catalogue; nine octets are summed by both loops.
        assert_eq!(!octets(u32::MAX, b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn an_update_is_what_a_full_computation_gives(
            tag: u32, chunks in prop::collection::vec(any::<u8>(), 0..3000), source: u16, destination: u16, error: u32,
        ) {
            let mut bytes = packet(tag, &chunks);
            prop_assert!(sound(&bytes));
            let wrong = long(&bytes, field::CHECKSUM) ^ error;
            put(&mut bytes, field::CHECKSUM, wrong.to_be_bytes());
            let length = bytes.len() as u16;
            translate(&mut bytes, length, source, destination);
            prop_assert_eq!((word(&bytes, 0), word(&bytes, 2)), (source, destination));
            prop_assert_eq!(long(&bytes, field::CHECKSUM).swap_bytes(), bitwise(&bytes) ^ error.swap_bytes());
            prop_assert_eq!(sound(&bytes), error == 0);
        }

        #[test]
        fn the_longest_packets_are_updated_too(length in 12usize..=65535, source: u16) {
            let mut bytes = packet(7, &vec![0xa5; length - HEADER]);
            translate(&mut bytes, length as u16, source, 9);
            prop_assert_eq!(long(&bytes, field::CHECKSUM).swap_bytes(), bitwise(&bytes));
        }

        #[test]
        fn a_quoted_beginning_becomes_the_beginning_of_the_other_packet(
            chunks in prop::collection::vec(any::<u8>(), 0..90), cut in 8usize..40, port: u16,
        ) {
            let mut whole = packet(7, &chunks);
            let mut quoted = whole[..cut.min(whole.len())].to_vec();
            let length = whole.len() as u16;
            translate(&mut quoted, length, 80, port);
            translate(&mut whole, length, 80, port);
            if quoted.len() < HEADER {
                let before = packet(7, &chunks);
                whole[8..12].copy_from_slice(&before[8..12]);
            }
            prop_assert_eq!(&quoted[..], &whole[..quoted.len()]);
        }

        #[test]
        fn no_octets_make_it_panic(mut bytes: Vec<u8>, length: u16) {
            translate(&mut bytes, length, 1, 2);
            let _ = (sound(&bytes), first_chunk(&bytes), abort(&mut bytes));
        }
    }

    #[test]
    fn the_first_chunk_says_what_the_packet_is() {
        let init = [1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        assert_eq!(first_chunk(&packet(0, &init)), Some(Chunk::Init));
        assert_eq!(first_chunk(&packet(5, &init)), None, "INIT with a tag");
        assert_eq!(first_chunk(&packet(0, &[&init[..], &[0, 0, 0, 4]].concat())), None, "INIT in company");
        assert_eq!(first_chunk(&packet(0, &init[..16])), None, "a cut chunk");
        assert_eq!(first_chunk(&packet(5, &[6, 0, 0, 3])), None, "a chunk shorter than its header");
        let kinds =
            [(0, Chunk::Other), (2, Chunk::InitAck), (6, Chunk::Abort), (7, Chunk::Shutdown), (8, Chunk::Shutdown)];
        let more =
            [(10, Chunk::CookieEcho), (11, Chunk::CookieAck), (14, Chunk::ShutdownComplete), (192, Chunk::Other)];
        for (kind, chunk) in kinds.into_iter().chain(more) {
            assert_eq!(first_chunk(&packet(5, &[kind, 0, 0, 4])), Some(chunk), "type {kind}");
        }
    }

    #[test]
    fn a_refusal_is_sound_and_nothing_refuses_a_refusal() {
        let init = [1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        for (tag, chunks, expected, flags) in [(0, &init[..], 9, 0), (5, &[0, 3, 0, 4][..], 5, 1)] {
            let mut bytes = packet(tag, chunks);
            assert!(abort(&mut bytes));
            bytes.truncate(ABORT);
            assert!(sound(&bytes));
            assert_eq!((long(&bytes, 0), long(&bytes, field::TAG)), (0x5678_1234, expected));
            assert_eq!(bytes[HEADER..], [6, flags, 0, 4]);
            assert!(!abort(&mut bytes));
        }
        let mut wrong = packet(5, &[0, 3, 0, 4]);
        wrong[8] ^= 1;
        let before = wrong.clone();
        assert!(!abort(&mut wrong));
        assert_eq!(wrong, before);
    }
}
