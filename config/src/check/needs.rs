//! Source addresses that `nat` needs: one on the side and of the family of its backends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use toml::Spanned;

use super::value;
use crate::diagnostic::Findings;
use crate::file::{self, File};
use crate::model::{Backend, Config, Gateway, Mode, Overlay, OverlayNetwork};

/// Where the first backend of `nat` stands, by side and family.
#[derive(Debug, Default)]
pub(super) struct Needs {
    underlay: Option<Range<usize>>,
    underlay6: Option<Range<usize>>,
    overlay: Option<Range<usize>>,
    /// By the name of its network.
    networks: BTreeMap<String, Range<usize>>,
}

impl Needs {
    /// A backend of a `nat` service.
    pub(super) fn backend(&mut self, backend: &Backend, at: &Range<usize>) {
        if let Some(network) = &backend.network {
            let first = self.networks.entry(network.clone()).or_insert_with(|| at.clone());
            *first = if at.start < first.start { at.clone() } else { first.clone() };
        }
        let place = match (&backend.network, backend.address) {
            (Some(_), _) => &mut self.overlay,
            (None, SocketAddr::V4(_)) => &mut self.underlay,
            (None, SocketAddr::V6(_)) => &mut self.underlay6,
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
    speaker6(file, config, found);
    if let Some(section) = config.overlay.as_ref().filter(|_| overlay) {
        of_tunnels(file, config, section, needs, found);
    }
}

/// Whether agents answer one of the addresses in the tunnels of each network.
fn of_tunnels(file: &File, config: &Config, overlay: &Overlay, needs: &Needs, found: &mut Findings<'_>) {
    let sources = config.snat.overlay.iter().map(|ip| IpAddr::V4(*ip));
    let sources: Vec<IpAddr> = sources.chain(config.snat.overlay6.iter().map(|ip| IpAddr::V6(*ip))).collect();
    let own = (overlay.udp_port, overlay.vni);
    let lacks = |network: &&OverlayNetwork| !sources.iter().any(|ip| network.answers(*ip, &overlay.networks, own));
    for network in overlay.networks.iter().filter(lacks) {
        let sentence = format!("`snat.overlay` has no address in the tunnels of the network `{}`", network.name);
        let remedy = "add an address in our own part of the network to `overlay` of [snat]";
        if let Some(first) = needs.networks.get(&network.name) {
            found.error(first, format!("this backend is on the overlay, and {sentence}"), remedy);
        } else if let Some(marathon) = file.marathon.first().filter(|_| config.vip.mode == Mode::Nat) {
            found.warning(&marathon.span(), format!("{sentence}, so no VIP will reach a task on it"), remedy);
        }
    }
}

/// ICMPv6 errors to containers come from an address of ours there; of IPv4 the VTEP's will do.
fn speaker6(file: &File, config: &Config, found: &mut Findings<'_>) {
    let mut own = config.host.iter().flat_map(|host| &host.addresses);
    let networks = file.overlay.iter().flat_map(|overlay| &overlay.get_ref().network);
    let Some(subnet6) = networks.into_iter().find_map(|network| network.get_ref().subnet6.as_ref()) else { return };
    if !own.any(|net| net.addr().is_ipv6()) {
        let sentence = "containers are not told which IPv6 packets are too big: we have no IPv6 address in the overlay";
        let remedy = "add `own6`, and to `addresses` of [host] an address inside it, like \"fd01:b:0:0:9::1/80\"";
        found.warning(&subnet6.span(), sentence, remedy);
    }
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
