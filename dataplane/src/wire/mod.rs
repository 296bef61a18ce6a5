//! Octets: where fields lie, and how they are changed. Positions are named once; every function is given a slice that
//! the parse stage has measured, and answers out-of-range positions by leaving the packet alone.

pub mod arp;
pub mod checksum;
pub mod dns;
#[cfg(test)]
pub(crate) mod golden;
pub mod gue;
pub mod icmp;
pub mod icmp6;
pub mod ip4;
pub mod ip6;
pub mod ipip;
pub mod name;
pub mod nd;
pub mod quote;
pub mod sctp;
pub mod sum;
pub mod tcp;
mod transport;
pub mod tunnel;
pub mod vlan;
pub mod vxlan;

/// Length of an Ethernet header without tags (IEEE 802.3).
pub const ETHERNET: usize = 14;

/// An address with its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End<A> {
    /// Address, host byte order.
    pub ip: A,
    /// Port.
    pub port: u16,
}

/// The 16-bit word at `at`, network byte order; 0 beyond the end.
#[must_use]
#[inline]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

/// The 32-bit word at `at`, network byte order; 0 beyond the end.
#[must_use]
#[inline]
pub fn long(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// Writes `value` at `at`; nothing beyond the end.
#[inline]
pub fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}
