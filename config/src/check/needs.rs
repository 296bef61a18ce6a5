//! Source addresses that `nat` needs: one on the side and of the family of its backends.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::Spanned;

use super::value;
use crate::diagnostic::Findings;
use crate::file::{self, File};
use crate::model::{Config, Gateway, Mode};

/// Where the first backend of `nat` stands, by side and family.
#[derive(Debug, Default)]
pub(super) struct Needs {
    underlay: Option<Range<usize>>,
    underlay6: Option<Range<usize>>,
    overlay: Option<Range<usize>>,
}

impl Needs {
    /// A backend of a `nat` service.
    pub(super) fn backend(&mut self, address: SocketAddr, on_overlay: bool, at: &Range<usize>) {
        let place = match (on_overlay, address) {
            (true, _) => &mut self.overlay,
            (false, SocketAddr::V4(_)) => &mut self.underlay,
            (false, SocketAddr::V6(_)) => &mut self.underlay6,
        };
        if place.as_ref().is_none_or(|first| at.start < first.start) {
            *place = Some(at.clone());
        }
    }
}

const ADD_UNDERLAY: &str =
    "add `underlay = [\"192.0.2.200\"]` to [snat], with an address that backends route to this node";
const ADD_UNDERLAY6: &str =
    "add an IPv6 address that backends route to this node to `underlay` of [snat], for example \"2001:db8::200\"";
const ADD_MASQUERADE: &str =
    "add `underlay = [\"192.0.2.200\"]` to [snat], with an address that the underlay routes to this node";
const ADD_MASQUERADE6: &str =
    "add an IPv6 address that the underlay routes to this node to `underlay` of [snat], for example \"2001:db8::200\"";
const ADD_OVERLAY: &str = "add `overlay = [\"9.0.9.2\"]` to [snat], with an address in our own part of the network";

/// Whether each side that `nat` sends to has an address to send from.
pub(super) fn settle(file: &File, config: &Config, needs: &Needs, found: &mut Findings<'_>) {
    let at = file.snat.as_ref().map(Spanned::span).unwrap_or_default();
    // A mistyped [snat] is not missing (0..0 is the file), nor is an address in it that was wrong.
    if !found.is_complete(&at) || !found.is_complete(&(0..0)) {
        return;
    }
    let snat = file.snat.as_ref().map(Spanned::get_ref);
    let has = |of: fn(&file::Snat) -> &file::List<String>, ours: fn(&IpAddr) -> bool| {
        snat.is_some_and(|snat| {
            value::each(of(snat)).iter().any(|ip| ip.get_ref().parse().map_or(true, |ip| ours(&ip)))
        })
    };
    let (underlay, underlay6) = (has(|s| &s.underlay, IpAddr::is_ipv4), has(|s| &s.underlay, IpAddr::is_ipv6));
    let overlay = has(|s| &s.overlay, |_| true);
    for (first, has, side, remedy) in [
        (&needs.underlay, underlay, "on the underlay, and `snat.underlay` has no address", ADD_UNDERLAY),
        (&needs.underlay6, underlay6, "on the underlay, and `snat.underlay` has no IPv6 address", ADD_UNDERLAY6),
        (&needs.overlay, overlay, "on the overlay, and `snat.overlay` has no address", ADD_OVERLAY),
    ] {
        if let (Some(first), false) = (first, has) {
            found.error(first, format!("this backend is {side}"), remedy);
        }
    }
    of_marathon(file, config, underlay || underlay6, overlay, found);
    of_gateway(file, config, (underlay, underlay6), found);
}

/// What a masquerading gateway sends from.
fn of_gateway(file: &File, config: &Config, (v4, v6): (bool, bool), found: &mut Findings<'_>) {
    let Some(overlay) = config.overlay.as_ref().filter(|overlay| overlay.gateway == Gateway::Masqueraded) else {
        return;
    };
    let Some(at) = file.overlay.as_ref().and_then(|at| at.get_ref().gateway.as_ref()) else { return };
    if !v4 {
        let sentence = "`gateway` is \"masqueraded\", and `snat.underlay` has no address to masquerade with";
        found.error(&at.span(), sentence, ADD_MASQUERADE);
    }
    if !v6 && overlay.networks.iter().any(|network| network.subnet6.is_some()) {
        let sentence = "`snat.underlay` has no IPv6 address, so containers reach nobody outside over IPv6";
        found.warning(&at.span(), sentence, ADD_MASQUERADE6);
    }
}

/// What apps will need, which no file says.
fn of_marathon(file: &File, config: &Config, underlay: bool, overlay: bool, found: &mut Findings<'_>) {
    let Some(marathon) = file.marathon.first().filter(|_| config.vip.mode == Mode::Nat) else { return };
    if !underlay {
        let sentence = "Marathon's services are `nat`, and `snat.underlay` has no address";
        found.error(&marathon.span(), sentence, ADD_UNDERLAY);
    }
    if !overlay && config.overlay.is_some() {
        let sentence = "`snat.overlay` has no address, so no VIP will reach a task on the overlay";
        found.warning(&marathon.span(), sentence, ADD_OVERLAY);
    }
}
