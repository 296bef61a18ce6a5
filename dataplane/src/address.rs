//! IP addresses as the packet path sees them: host-order integers, one type a family.
//!
//! Stages and tables that serve both families are written once, over [`Address`]; nothing asks at run time which family
//! it has but the place that chose the instance.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sessions::beside::{Beside, Whole};

/// An address: `u32` is IPv4, `u128` is IPv6, both in host byte order.
pub trait Address: Copy + Eq + Ord + Default + Debug + Send + Sync + 'static {
    /// Octets on the wire.
    const OCTETS: usize;

    /// What a session keeps of an address beside its 64-bit key word.
    type Beside: Beside<Self>;

    /// The address, where it is of this family.
    fn from_ip(ip: IpAddr) -> Option<Self>;

    /// The address as the rest of the program knows it.
    fn to_ip(self) -> IpAddr;

    /// Two words that tell addresses apart, for hashing.
    fn words(self) -> [u64; 2];
}

impl Address for u32 {
    const OCTETS: usize = 4;

    type Beside = ();

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
}

impl Address for u128 {
    const OCTETS: usize = 16;

    type Beside = Whole;

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
}
