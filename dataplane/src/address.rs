//! IP addresses as the packet path sees them: host-order integers, one type a family.
//!
//! Stages and tables that serve both families are written once, over [`Address`]; nothing asks at run time which family
//! it has but the place that chose the instance.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::sessions::beside::{Beside, Ends, Whole};
use crate::sessions::caller::Talk;
use crate::tables::flat::Key;

/// An address: `u32` is IPv4, `u128` is IPv6, both in host byte order.
pub trait Address: Key + Copy + Eq + Ord + Default + Debug + Send + Sync + 'static {
    /// Octets on the wire.
    const OCTETS: usize;

    /// Whether it is IPv6.
    const V6: bool = Self::OCTETS == 16;

    /// Address, port and a small number (protocol, port index), as a key of the tables.
    type End: Key;

    /// What a session keeps of an address beside its 64-bit key word.
    type Beside: Beside<Self>;

    /// What a masqueraded flow keeps of both its ends.
    type Ends: Beside<Talk<Self>>;

    /// The address, where it is of this family.
    fn from_ip(ip: IpAddr) -> Option<Self>;

    /// The address as the rest of the program knows it.
    fn to_ip(self) -> IpAddr;

    /// Two words that tell addresses apart, for hashing.
    fn words(self) -> [u64; 2];

    /// The key of address, port and a small number.
    fn end(self, port: u16, number: u8) -> Self::End;

    /// First and last address of a prefix of this family.
    fn range(net: &IpNet) -> Option<(Self, Self)> {
        Some((Self::from_ip(net.network())?, Self::from_ip(net.broadcast())?))
    }

    /// The address after this one; `None` after the last.
    fn next(self) -> Option<Self>;

    /// One of [`Districts::COUNT`] that it lies in.
    fn district(self) -> usize;

    /// Its first octet on the wire.
    fn first_octet(self) -> u8;

    /// The first and the last address with this first octet.
    fn octet_range(octet: u8) -> (Self, Self);
}

/// Which districts some addresses lie in, a bit each: one look tells of nearly every address that it is none of them. Of
/// IPv4 a district is a /12, so that prefixes are a few; of IPv6 it is a digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Districts(Box<[u64; Self::COUNT / 64]>);

impl Districts {
    /// How many there are.
    pub const COUNT: usize = 4096;

    /// Those with these numbers.
    #[must_use]
    pub fn new(numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = Box::new([0; Self::COUNT / 64]);
        for number in numbers {
            bits[number % Self::COUNT / 64] |= 1 << (number % 64);
        }
        Self(bits)
    }

    /// Whether one of the addresses may be this one.
    #[must_use]
    #[inline]
    pub fn have<A: Address>(&self, address: A) -> bool {
        let number = address.district() % Self::COUNT;
        self.0[number / 64] >> (number % 64) & 1 != 0
    }
}

impl Address for u32 {
    const OCTETS: usize = 4;
    type End = u64;
    type Beside = ();
    type Ends = Whole;

    #[inline]
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    fn to_ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    #[inline]
    fn words(self) -> [u64; 2] {
        [u64::from(self), 0]
    }

    #[inline]
    fn end(self, port: u16, number: u8) -> u64 {
        u64::from(self) << 32 | u64::from(port) << 16 | u64::from(number)
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    #[inline]
    fn district(self) -> usize {
        self as usize >> 20
    }

    #[inline]
    fn first_octet(self) -> u8 {
        (self >> 24) as u8
    }

    fn octet_range(octet: u8) -> (Self, Self) {
        let first = Self::from(octet) << 24;
        (first, first | Self::MAX >> 8)
    }
}

impl Address for u128 {
    const OCTETS: usize = 16;
    type End = (Self, u32);
    type Beside = Whole;
    type Ends = Ends;

    #[inline]
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V6(ip) => Some(ip.to_bits()),
            IpAddr::V4(_) => None,
        }
    }

    fn to_ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }

    #[inline]
    fn words(self) -> [u64; 2] {
        [(self >> 64) as u64, self as u64]
    }

    #[inline]
    fn end(self, port: u16, number: u8) -> (Self, u32) {
        (self, u32::from(port) << 16 | u32::from(number))
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    #[inline]
    fn district(self) -> usize {
        let folded = (self >> 64) as u64 ^ self as u64;
        (folded ^ folded >> 12 ^ folded >> 24 ^ folded >> 48) as usize % Districts::COUNT
    }

    #[inline]
    fn first_octet(self) -> u8 {
        (self >> 120) as u8
    }

    fn octet_range(octet: u8) -> (Self, Self) {
        let first = Self::from(octet) << 120;
        (first, first | Self::MAX >> 8)
    }
}
