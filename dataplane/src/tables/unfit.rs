//! Which backends a service's mode cannot reach: those are left out of its table and listed with the reason, the others
//! are served.

use std::net::IpAddr;

use sluice_config::model::{Mode, Service};

use super::fib::Target;
use super::snat::Side;
use super::{BackendEntry, Ways};
use crate::wire::icmp6::MTU_FLOOR;

/// Why a backend is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{mode} rewrites addresses, and its address is not of the VIP's family; give it one, or use a DSR mode")]
    Family { mode: &'static str },
    #[error("{mode} leaves the port as it is, so the backend must listen on {port}; mode nat translates ports")]
    Port { mode: &'static str, port: u16 },
    #[error("dsr-mac reaches backends on link only, and no route says that it is; use dsr-ipip")]
    OffLink,
    #[error("{mode} reaches backends on the underlay only; use dsr-vxlan")]
    Overlay { mode: &'static str },
    #[error("dsr-vxlan reaches backends in an overlay network only; use dsr-ipip, dsr-gue or dsr-mac")]
    Underlay,
    #[error("no port has an address of its family, which the outer header would come from; give a port one")]
    NoSource,
    #[error(
        "{mode} leaves {room} octets for a packet of IPv6, and every way of it takes {IPV6_LEAST} (RFC 8200 section 5); \
         raise the MTU of the port or the overlay"
    )]
    Narrow { mode: &'static str, room: u16 },
}

/// The least that a way of IPv6 takes, octets.
const IPV6_LEAST: u16 = MTU_FLOOR as u16;

/// Refuses a way of IPv6 packets that leaves less than their hosts may count on: they would never send smaller ones.
pub(super) fn wide_enough(mode: Mode, v6: bool, room: u16) -> Result<(), Unfit> {
    if v6 && room < IPV6_LEAST { Err(Unfit::Narrow { mode: mode.name(), room }) } else { Ok(()) }
}

/// Whether packets to `service` can be sent to a backend in the service's mode.
pub(super) fn check(service: &Service, backend: &BackendEntry, ways: &Ways) -> Result<(), Unfit> {
    let (key, mode) = (service.key, service.mode.name());
    let on_link = matches!(ways.target(backend.ip), Some(Target::Link(_)));
    if service.mode.is_dsr() && backend.port != key.port {
        return Err(Unfit::Port { mode, port: key.port });
    }
    match service.mode {
        Mode::Nat | Mode::NatPreserve if !same_family(key.ip, backend.ip) => Err(Unfit::Family { mode }),
        Mode::Nat | Mode::NatPreserve => Ok(()),
        Mode::DsrVxlan if backend.side == Side::Underlay => Err(Unfit::Underlay),
        Mode::DsrVxlan => wide_enough(service.mode, key.ip.is_ipv6(), ways.overlay_mtu),
        Mode::DsrIpip | Mode::DsrGue | Mode::DsrMac if backend.side == Side::Overlay => Err(Unfit::Overlay { mode }),
        Mode::DsrMac if !on_link => Err(Unfit::OffLink),
        Mode::DsrIpip | Mode::DsrGue | Mode::DsrMac => Ok(()),
    }
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}
