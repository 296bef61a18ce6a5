//! Which backends a mode can reach from a VIP. One rule for `[[service]]` and for labels.

use std::fmt;
use std::net::SocketAddr;

use crate::model::Mode;

/// Why packets for a VIP cannot reach a backend in a mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// The mode rewrites or keeps IP headers, and the backend is of another family.
    Family(Mode),
    /// The backend answers for the VIP itself, so its port must be the VIP's.
    Port(Mode, u16),
    /// The mode is for backends on the overlay.
    NotOnOverlay(Mode),
    /// The mode is for backends on the underlay.
    NotOnUnderlay(Mode),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(mode) => write!(f, "{} needs a backend of the VIP's family", mode.name()),
            Self::Port(mode, port) => {
                write!(f, "{} leaves the port as it is, so the backend's must be {port} too", mode.name())
            }
            Self::NotOnOverlay(mode) => write!(f, "{} reaches backends on the overlay only", mode.name()),
            Self::NotOnUnderlay(mode) => write!(f, "{} reaches backends on the underlay only", mode.name()),
        }
    }
}

impl Unreachable {
    /// What to change.
    #[must_use]
    pub fn remedy(self) -> String {
        match self {
            Self::Family(_) => "write an address of that family, or mode dsr-ipip or dsr-gue".to_owned(),
            Self::Port(_, port) => format!("let the backend listen on {port}, or write mode nat"),
            Self::NotOnOverlay(_) => "write mode dsr-ipip, dsr-gue, dsr-mac or nat for it".to_owned(),
            Self::NotOnUnderlay(_) => "write mode dsr-vxlan or nat for it".to_owned(),
        }
    }
}

/// Whether packets for `vip` can reach `backend` in `mode`; `on_overlay` says on which side the backend is.
///
/// # Errors
/// The first rule that it breaks.
pub fn reach(mode: Mode, vip: SocketAddr, backend: SocketAddr, on_overlay: bool) -> Result<(), Unreachable> {
    if mode.is_dsr() && vip.port() != backend.port() {
        return Err(Unreachable::Port(mode, vip.port()));
    }
    // Only an outer header of its own may be of another family than the packet in it.
    let crosses = matches!(mode, Mode::DsrIpip | Mode::DsrGue);
    if !crosses && vip.is_ipv4() != backend.is_ipv4() {
        return Err(Unreachable::Family(mode));
    }
    match mode {
        Mode::DsrVxlan if !on_overlay => Err(Unreachable::NotOnOverlay(mode)),
        Mode::DsrIpip | Mode::DsrGue | Mode::DsrMac if on_overlay => Err(Unreachable::NotOnUnderlay(mode)),
        Mode::Nat | Mode::NatPreserve | Mode::DsrIpip | Mode::DsrGue | Mode::DsrVxlan | Mode::DsrMac => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_reaches_the_families_ports_and_sides_that_it_can() {
        let cases = [
            (Mode::Nat, "1.1.1.1:80", "2.2.2.2:8080", false, Ok(())),
            (Mode::Nat, "1.1.1.1:80", "9.0.0.2:8080", true, Ok(())),
            (Mode::Nat, "[fd00::1]:80", "[fd00::2]:8080", false, Ok(())),
            (Mode::Nat, "[fd00::1]:80", "2.2.2.2:80", false, Err(Unreachable::Family(Mode::Nat))),
            (Mode::NatPreserve, "1.1.1.1:80", "[fd00::2]:80", false, Err(Unreachable::Family(Mode::NatPreserve))),
            (Mode::DsrIpip, "1.1.1.1:80", "[fd00::2]:80", false, Ok(())),
            (Mode::DsrGue, "[fd00::1]:80", "2.2.2.2:80", false, Ok(())),
            (Mode::DsrIpip, "1.1.1.1:80", "2.2.2.2:81", false, Err(Unreachable::Port(Mode::DsrIpip, 80))),
            (Mode::DsrGue, "1.1.1.1:80", "9.0.0.2:80", true, Err(Unreachable::NotOnUnderlay(Mode::DsrGue))),
            (Mode::DsrVxlan, "1.1.1.1:80", "9.0.0.2:80", true, Ok(())),
            (Mode::DsrVxlan, "1.1.1.1:80", "2.2.2.2:80", false, Err(Unreachable::NotOnOverlay(Mode::DsrVxlan))),
            (Mode::DsrMac, "1.1.1.1:80", "2.2.2.2:80", false, Ok(())),
            (Mode::DsrMac, "[fd00::1]:80", "2.2.2.2:80", false, Err(Unreachable::Family(Mode::DsrMac))),
        ];
        for (mode, vip, backend, on_overlay, expected) in cases {
            let seen = reach(mode, vip.parse().unwrap(), backend.parse().unwrap(), on_overlay);
            assert_eq!(seen, expected, "{mode:?} {vip} {backend}");
        }
    }
}
