//! Tunnels to backends that answer clients themselves: the whole outer header of one encapsulation to one backend for
//! inner packets of one family, made when tables compile.
//!
//! The outer family is that of the backend's address. Over IPv6 the outer UDP checksum of GUE is always there
//! ([`crate::wire::tunnel`]): RFC 6935 lets a tunnel leave it out only where the receiver was told to accept that.

use std::net::IpAddr;

use sluice_config::model::Mode;

use super::Exit;
use super::Ways;
use super::fib::Target;
use super::unfit::{self, Unfit};
use crate::wire::tunnel::{Family, Outer, Template};
use crate::wire::{gue, ipip};

/// An encapsulation, and the family of what is inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// IPv4 in IP.
    Ipip4,
    /// IPv6 in IP.
    Ipip6,
    /// IPv4 in GUE.
    Gue4,
    /// IPv6 in GUE.
    Gue6,
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// IP in IP.
    #[must_use]
    #[inline]
    pub fn ipip(v6: bool) -> Self {
        if v6 { Self::Ipip6 } else { Self::Ipip4 }
    }

    /// GUE.
    #[must_use]
    #[inline]
    pub fn gue(v6: bool) -> Self {
        if v6 { Self::Gue6 } else { Self::Gue4 }
    }

    /// What a mode puts packets to a VIP of this family into; `None` for modes without an outer header of a backend's.
    pub(super) fn of(mode: Mode, v6: bool) -> Option<Self> {
        match mode {
            Mode::DsrIpip => Some(Self::ipip(v6)),
            Mode::DsrGue => Some(Self::gue(v6)),
            Mode::Nat | Mode::NatPreserve | Mode::DsrVxlan | Mode::DsrMac => None,
        }
    }

    /// The mode, and whether IPv6 is inside.
    fn says(self) -> (Mode, bool) {
        match self {
            Self::Ipip4 => (Mode::DsrIpip, false),
            Self::Ipip6 => (Mode::DsrIpip, true),
            Self::Gue4 => (Mode::DsrGue, false),
            Self::Gue6 => (Mode::DsrGue, true),
        }
    }

    fn template(self, outer: Outer) -> Template {
        match self {
            Self::Ipip4 => ipip::template(outer, Family::V4),
            Self::Ipip6 => ipip::template(outer, Family::V6),
            Self::Gue4 => gue::template(outer, Family::V4, gue::PORT),
            Self::Gue6 => gue::template(outer, Family::V6, gue::PORT),
        }
    }
}

/// The way to one backend in one encapsulation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// Everything before the inner packet.
    pub template: Template,
    /// Largest inner packet.
    pub room: u16,
    /// The next hop towards `destination`, where one was known when the tables were compiled.
    pub hop: Option<u32>,
    /// How that one is reached ([`Hop::exit`](super::Hop)).
    pub exit: Option<Exit>,
    /// Outer destination, the backend's address.
    pub destination: IpAddr,
}

impl Tunnel {
    pub(super) fn new(kind: Kind, destination: IpAddr, ways: &Ways) -> Result<Self, Unfit> {
        let outer = match (ways.source(destination), destination) {
            (Some(IpAddr::V4(source)), IpAddr::V4(to)) => {
                Outer::V4 { source: source.to_bits(), destination: to.to_bits() }
            }
            (Some(IpAddr::V6(source)), IpAddr::V6(to)) => {
                Outer::V6 { source: source.to_bits(), destination: to.to_bits() }
            }
            (Some(_) | None, _) => return Err(Unfit::NoSource),
        };
        let template = kind.template(outer);
        let room = ways.mtu(destination).saturating_sub(template.len() as u16);
        let (mode, v6) = kind.says();
        unfit::wide_enough(mode, v6, room)?;
        let hop = ways.hop(destination);
        Ok(Self { template, room, hop, exit: ways.exit(hop), destination })
    }
}

impl Ways {
    /// The port by which an address is reached on the underlay.
    fn port(&self, ip: IpAddr) -> Option<usize> {
        match self.target(ip)? {
            Target::Hop(hop) => self.hops.table.get(hop as usize).map(|hop| usize::from(hop.port)),
            Target::Link(port) => Some(usize::from(port)),
            Target::Agent(_) | Target::NoAgent | Target::Host => None,
        }
    }

    /// Our own address, of the destination's family, on the port that leads there, else on the first that has one.
    fn source(&self, destination: IpAddr) -> Option<IpAddr> {
        let of = |port: &super::Own| match destination {
            IpAddr::V4(_) => port.v4.map(IpAddr::V4),
            IpAddr::V6(_) => port.v6.map(IpAddr::V6),
        };
        let there = self.port(destination).and_then(|port| self.own.get(port)).and_then(of);
        there.or_else(|| self.own.iter().find_map(of))
    }

    /// Largest IP packet of the port that leads there; without a route nothing leaves anyway.
    pub(super) fn mtu(&self, destination: IpAddr) -> u16 {
        self.port(destination).and_then(|port| self.own.get(port)).map_or(u16::MAX, |own| own.mtu)
    }
}
