//! Addresses for probes of DSR backends, out of `health.probe_range`: one for each pair of VIP and backend, kept as long as
//! the pair lasts, so that a probe that is on its way never ends at another backend.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;
use sluice_config::model::{Mode, ProbePath, Service, VipKey};

use super::target::Target;

/// Who has which address.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    given: BTreeMap<(VipKey, SocketAddr), u32>,
    /// Given back by the last publication; free again after the next one.
    resting: BTreeSet<u32>,
}

impl Paths {
    /// The paths of these services, sorted by address. A pair for which the range has no room has none, and is
    /// not probed.
    pub fn settle<S: Borrow<Service>>(&mut self, services: &[S], range: Ipv4Net) -> Vec<ProbePath> {
        let pairs = pairs(services);
        let mut rest = BTreeSet::new();
        self.given.retain(|pair, offset| pairs.contains_key(pair) || !rest.insert(*offset));
        let mut taken: BTreeSet<u32> = self.given.values().chain(&rest).chain(&self.resting).copied().collect();
        self.resting = rest;
        let mut next = 0;
        for pair in pairs.keys() {
            if self.given.contains_key(pair) {
                continue;
            }
            next = (next..).find(|n| !taken.contains(n)).unwrap_or(u32::MAX);
            if address(range, next).is_none() {
                break;
            }
            taken.insert(next);
            self.given.insert(*pair, next);
        }
        let path = |(pair, offset): (&(VipKey, SocketAddr), &u32)| {
            let (vip, backend) = *pair;
            Some(ProbePath { address: address(range, *offset)?, vip, backend, mode: *pairs.get(pair)? })
        };
        let mut paths: Vec<ProbePath> = self.given.iter().filter_map(path).collect();
        paths.sort();
        paths
    }
}

/// Every pair that is probed and must own its VIP.
fn pairs<S: Borrow<Service>>(services: &[S]) -> BTreeMap<(VipKey, SocketAddr), Mode> {
    let v4 = |service: &&Service| service.mode.is_dsr() && matches!(service.key.ip, IpAddr::V4(_));
    let of = |service: &Service| {
        let probed = service.backends.iter().filter(|backend| Target::of(service, backend).is_some());
        probed.map(|backend| ((service.key, backend.address), service.mode)).collect::<Vec<_>>()
    };
    services.iter().map(Borrow::borrow).filter(v4).flat_map(of).collect()
}

/// The host of that number; network and broadcast address are none.
fn address(range: Ipv4Net, number: u32) -> Option<Ipv4Addr> {
    let ip = range.network().to_bits().checked_add(number)?.checked_add(1)?;
    (ip < range.broadcast().to_bits()).then(|| Ipv4Addr::from_bits(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::combine::tests::{backend, service};
    use sluice_config::model::{HealthCheck, Probe};

    fn dsr(n: u8, backends: impl IntoIterator<Item = u8>) -> Service {
        let health = Some(HealthCheck { probe: Probe::Tcp, ..HealthCheck::default() });
        Service { mode: Mode::DsrIpip, health, ..service(n, backends.into_iter().map(backend).collect()) }
    }

    fn shown(paths: &[ProbePath]) -> Vec<String> {
        paths.iter().map(|p| format!("{} {} {}", p.address, p.vip.ip, p.backend.ip())).collect()
    }

    #[test]
    fn a_pair_keeps_its_address_and_one_that_was_given_back_rests_for_one_publication() {
        let range = "198.18.0.0/15".parse().unwrap();
        let mut paths = Paths::default();
        let first = paths.settle(&[dsr(1, [1, 2])], range);
        assert_eq!(shown(&first), ["198.18.0.1 172.16.0.1 10.0.0.1", "198.18.0.2 172.16.0.1 10.0.0.2"]);
        let second = paths.settle(&[dsr(1, [2, 3])], range);
        assert_eq!(shown(&second), ["198.18.0.2 172.16.0.1 10.0.0.2", "198.18.0.3 172.16.0.1 10.0.0.3"]);
        let third = paths.settle(&[dsr(1, [2, 3]), dsr(2, [2])], range);
        assert!(!shown(&third).iter().any(|p| p.starts_with("198.18.0.1 ")), "{third:?}");
        let fourth = paths.settle(&[dsr(1, [2, 3, 4]), dsr(2, [2])], range);
        assert!(shown(&fourth).contains(&"198.18.0.1 172.16.0.1 10.0.0.4".to_owned()), "{fourth:?}");
    }

    #[test]
    fn nat_services_and_those_that_are_not_probed_need_no_path_and_a_full_range_ends_them() {
        let range = "198.18.0.0/24".parse().unwrap();
        let nat = Service { mode: Mode::Nat, ..dsr(1, [1]) };
        let unprobed = Service { health: None, ..dsr(2, [1]) };
        assert!(Paths::default().settle(&[nat, unprobed], range).is_empty());
        let many: Vec<Service> = (1..=3).map(|n| dsr(n, 1..=100)).collect();
        let paths = Paths::default().settle(&many, range);
        assert_eq!(paths.len(), 254);
        assert_eq!(paths[253].address.to_string(), "198.18.0.254");
    }
}
