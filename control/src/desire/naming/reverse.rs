//! Reverse zones: whose they are, and the names in them of VIPs and containers.
//!
//! Authoritative are the ranges of named VIPs and the overlay networks, cut at octets and nibbles; what of a range does not
//! fill such a cut is answered name by name, because its neighbours are somebody else's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use sluice_config::model::{OverlayNetwork, Reach, RecordData, Service, Vip, Zone};

use super::{Given, Plan, Standing, ZoneAt};
use crate::names;

/// Apexes below which all reverse names are.
const ARPA4: &str = "in-addr.arpa";
const ARPA6: &str = "ip6.arpa";
/// Most zones of one range; a range that takes more is answered name by name.
const ZONES_MAX: usize = 256;

/// Which zone an address's name is in.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Reverse {
    /// First and last address, zone; of VIPs, then of the overlay.
    vips: Vec<(u128, u128, ZoneAt)>,
    overlays: Vec<(u128, u128, ZoneAt)>,
    /// Zones of names without neighbours: IPv4 and IPv6.
    exact: [ZoneAt; 2],
    /// Ranges that such names are from.
    vip_ranges: Vec<(u128, u128)>,
    overlay_ranges: Vec<(u128, u128)>,
}

impl Reverse {
    /// Adds the zones to `zones`, made by `zone` of their apex.
    pub(super) fn new(
        vip: &Vip,
        networks: &[OverlayNetwork],
        zones: &mut Vec<Zone>,
        zone: impl Fn(&str) -> Zone,
    ) -> Self {
        let mut reverse = Self::default();
        for (at, apex) in [ARPA4, ARPA6].iter().enumerate() {
            reverse.exact[at] = zones.len() as ZoneAt;
            zones.push(Zone { reach: Reach::Exact, ..zone(apex) });
        }
        let named = (number(IpAddr::V4(*vip.named.start())), number(IpAddr::V4(*vip.named.end())));
        let named6 = (number(IpAddr::V6(*vip.named6.start())), number(IpAddr::V6(*vip.named6.end())));
        for range in [named, named6] {
            reverse.vip_ranges.push(range);
            let cut = cuts(range, zones, &zone);
            reverse.vips.extend(cut);
        }
        for network in networks {
            let range = range(network.subnet);
            reverse.overlay_ranges.push(range);
            let cut = cuts(range, zones, &zone);
            reverse.overlays.extend(cut);
        }
        reverse
    }

    fn named(&self, ip: IpAddr, zones: &[(u128, u128, ZoneAt)], ranges: &[(u128, u128)]) -> Option<(ZoneAt, String)> {
        let at = number(ip);
        let inside = zones.iter().find(|(first, last, _)| (*first..=*last).contains(&at)).map(|(_, _, zone)| *zone);
        let zone = match inside {
            Some(zone) => zone,
            None if ranges.iter().any(|(first, last)| (*first..=*last).contains(&at)) => {
                self.exact[usize::from(ip.is_ipv6())]
            }
            None => return None,
        };
        Some((zone, name(ip)))
    }

    /// The zone and the name of a VIP's address.
    pub(super) fn vip(&self, ip: IpAddr) -> Option<(ZoneAt, String)> {
        self.named(ip, &self.vips, &self.vip_ranges)
    }

    /// The zone and the name of a container's address.
    pub(super) fn overlay(&self, ip: IpAddr) -> Option<(ZoneAt, String)> {
        self.named(ip, &self.overlays, &self.overlay_ranges)
    }
}

/// A VIP's names: below `l4lb` (`dclb` is that by another name), and that of its address. One that no backend is left of
/// has none (B.2).
pub(super) fn of_service(plan: &Plan, service: &Service) -> Given {
    let mut given = Given::default();
    let Some(name) = service.name.as_deref().filter(|_| !service.backends.is_empty()) else { return given };
    let apex = plan.zones.get(usize::from(plan.dcos)).map_or("", |zone| zone.apex.as_str());
    let name = format!("{name}.l4lb.{apex}");
    let ip = service.key.ip;
    if let (Some((zone, reverse)), true) = (plan.reverse.vip(ip), names::is_servable(&name)) {
        given.put(zone, reverse, RecordData::Ptr(name.clone()), Standing::Well);
    }
    given.put(plan.dcos, name, super::address(ip), Standing::Well);
    given
}

/// The name of an address (RFC 1035 section 3.5, RFC 3596 section 2.5).
pub(super) fn name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => apex4(ip, 32),
        IpAddr::V6(ip) => apex6(ip, 128),
    }
}

fn apex4(ip: Ipv4Addr, prefix: u8) -> String {
    let octets = ip.octets();
    let kept = octets.iter().take(usize::from(prefix / 8)).rev();
    kept.map(|octet| format!("{octet}.")).collect::<String>() + ARPA4
}

fn apex6(ip: Ipv6Addr, prefix: u8) -> String {
    let bits = ip.to_bits();
    let nibbles = (0..usize::from(prefix / 4)).rev().map(|n| (bits >> (124 - 4 * n)) & 15);
    nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + ARPA6
}

/// IPv4 addresses as IPv6 has them mapped, so that one comparison does for both.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn range(net: Ipv4Net) -> (u128, u128) {
    (number(IpAddr::V4(net.network())), number(IpAddr::V4(net.broadcast())))
}

/// The zones that a range fills, greatest first, which are added to `zones` where they are not there yet.
fn cuts(range: (u128, u128), zones: &mut Vec<Zone>, zone: &impl Fn(&str) -> Zone) -> Vec<(u128, u128, ZoneAt)> {
    let (mut at, last) = range;
    let mapped = 0xffff_u128 << 32;
    let is_v4 = range.0 >> 32 == 0xffff;
    // Bits that a cut leaves open: whole octets, or nibbles; not all of an address, which is a name of its own.
    let widths: Vec<u32> = if is_v4 { vec![24, 16, 8] } else { (1..32).rev().map(|n| n * 4).collect() };
    let mut found: Vec<(u128, u128)> = Vec::new();
    while at <= last && found.len() <= ZONES_MAX {
        let fits = widths.iter().find(|width| {
            let size = 1u128 << **width;
            at.is_multiple_of(size) && last - at >= size - 1
        });
        match fits {
            Some(width) => {
                found.push((at, *width as u128));
                let Some(next) = at.checked_add(1 << *width) else { break };
                at = next;
            }
            None => {
                let step = 1u128 << widths.last().copied().unwrap_or(8);
                let Some(next) = (at / step + 1).checked_mul(step) else { break };
                at = next;
            }
        }
    }
    if found.len() > ZONES_MAX {
        return Vec::new();
    }
    let mut cut = Vec::new();
    for (first, width) in found {
        let apex = match is_v4 {
            true => apex4(Ipv4Addr::from_bits((first - mapped) as u32), 32 - width as u8),
            false => apex6(Ipv6Addr::from_bits(first), 128 - width as u8),
        };
        let number = zones.iter().position(|zone| zone.apex == apex).unwrap_or_else(|| {
            zones.push(zone(&apex));
            zones.len() - 1
        });
        cut.push((first, first + ((1u128 << width) - 1), number as ZoneAt));
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apexes(first: &str, last: &str) -> Vec<String> {
        let ip = |text: &str| number(text.parse::<IpAddr>().unwrap());
        let mut zones = Vec::new();
        cuts((ip(first), ip(last)), &mut zones, &|apex| Zone::new(apex, "ns.spartan"));
        zones.into_iter().map(|zone| zone.apex).collect()
    }

    #[test]
    fn ranges_are_cut_at_octets_and_nibbles_and_the_rest_is_left() {
        assert_eq!(apexes("11.0.0.0", "11.255.255.255"), ["11.in-addr.arpa"]);
        assert_eq!(apexes("10.4.0.0", "10.5.255.255"), ["4.10.in-addr.arpa", "5.10.in-addr.arpa"]);
        assert_eq!(apexes("11.0.0.5", "11.0.2.9"), ["1.0.11.in-addr.arpa"]);
        assert_eq!(apexes("11.0.0.5", "11.0.0.9"), [""; 0]);
        assert_eq!(apexes("fd01:c::", "fd01:c::ffff:ffff:ffff:ffff"), ["0.0.0.0.0.0.0.0.c.0.0.0.1.0.d.f.ip6.arpa"]);
        assert_eq!(
            name("fd01:c::1".parse().unwrap()),
            format!("1.{}0.0.0.0.0.0.0.0.c.0.0.0.1.0.d.f.ip6.arpa", "0.".repeat(15))
        );
    }
}
