//! Addresses for probes of DSR backends, out of `health.probe_range` and `health.probe_range6`: one for each pair of VIP and
//! backend, kept as long as the pair lasts, so that a probe that is on its way never ends at another backend.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sluice_config::model::{Mode, ProbePath, Service, VipKey};

use super::target::{Carried, Target};

/// Who has which address.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    four: Given,
    six: Given,
}

/// Pairs that are probed and must own their VIP.
type Pairs = BTreeMap<(VipKey, SocketAddr), Mode>;

impl Paths {
    /// The paths of these services, sorted by address. A pair for which its family's range has no room has none, and is
    /// not probed.
    pub fn settle<S: Borrow<Service>>(
        &mut self,
        services: &[S],
        (four, six): (Ipv4Net, Ipv6Net),
        carried: Carried,
    ) -> Vec<ProbePath> {
        let (of_four, of_six): (Pairs, Pairs) =
            pairs(services, carried).into_iter().partition(|((vip, _), _)| vip.ip.is_ipv4());
        let mut paths = self.four.settle(&of_four, four.into());
        paths.extend(self.six.settle(&of_six, six.into()));
        paths.sort();
        paths
    }
}

/// Addresses of one family, by their numbers in its range.
#[derive(Clone, Debug, Default)]
struct Given {
    numbers: BTreeMap<(VipKey, SocketAddr), u32>,
    /// Given back by the last publication; free again after the next one.
    resting: BTreeSet<u32>,
}

impl Given {
    fn settle(&mut self, pairs: &Pairs, range: IpNet) -> Vec<ProbePath> {
        let mut rest = BTreeSet::new();
        self.numbers.retain(|pair, number| pairs.contains_key(pair) || !rest.insert(*number));
        let mut taken: BTreeSet<u32> = self.numbers.values().chain(&rest).chain(&self.resting).copied().collect();
        self.resting = rest;
        let mut next = 0;
        for pair in pairs.keys() {
            if self.numbers.contains_key(pair) {
                continue;
            }
            next = (next..).find(|n| !taken.contains(n)).unwrap_or(u32::MAX);
            if address(range, next).is_none() {
                break;
            }
            taken.insert(next);
            self.numbers.insert(*pair, next);
        }
        let path = |(pair, number): (&(VipKey, SocketAddr), &u32)| {
            let (vip, backend) = *pair;
            Some(ProbePath { address: address(range, *number)?, vip, backend, mode: *pairs.get(pair)? })
        };
        self.numbers.iter().filter_map(path).collect()
    }
}

fn pairs<S: Borrow<Service>>(services: &[S], carried: Carried) -> Pairs {
    let of = |service: &Service| {
        let probed = service.backends.iter().filter(|backend| Target::of(service, backend, carried).is_some());
        probed.map(|backend| ((service.key, backend.address), service.mode)).collect::<Vec<_>>()
    };
    services.iter().map(Borrow::borrow).filter(|service| carried.takes(service)).flat_map(of).collect()
}

/// The host of that number; the first and the last address of a range are none.
fn address(range: IpNet, number: u32) -> Option<IpAddr> {
    let ip: IpAddr = match range.network() {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().checked_add(number)?.checked_add(1)?).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().checked_add(u128::from(number) + 1)?).into(),
    };
    (ip < range.broadcast()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::combine::tests::{backend, service};
    use sluice_config::model::{Health, HealthCheck, Probe};

    const BOTH: Carried = Carried { v4: true, v6: true };

    fn dsr(n: u8, backends: impl IntoIterator<Item = u8>) -> Service {
        let health = Some(HealthCheck { probe: Probe::Tcp, ..HealthCheck::default() });
        Service { mode: Mode::DsrIpip, health, ..service(n, backends.into_iter().map(backend).collect()) }
    }

    fn shown(paths: &[ProbePath]) -> Vec<String> {
        paths.iter().map(|p| format!("{} {} {}", p.address, p.vip.ip, p.backend.ip())).collect()
    }

    fn settle(paths: &mut Paths, services: &[Service]) -> Vec<ProbePath> {
        paths.settle(services, (Health::PROBE_RANGE, Health::PROBE_RANGE6), BOTH)
    }

    #[test]
    fn a_pair_keeps_its_address_and_one_that_was_given_back_rests_for_one_publication() {
        let mut paths = Paths::default();
        let first = settle(&mut paths, &[dsr(1, [1, 2])]);
        assert_eq!(shown(&first), ["198.18.0.1 172.16.0.1 10.0.0.1", "198.18.0.2 172.16.0.1 10.0.0.2"]);
        let second = settle(&mut paths, &[dsr(1, [2, 3])]);
        assert_eq!(shown(&second), ["198.18.0.2 172.16.0.1 10.0.0.2", "198.18.0.3 172.16.0.1 10.0.0.3"]);
        let third = settle(&mut paths, &[dsr(1, [2, 3]), dsr(2, [2])]);
        assert!(!shown(&third).iter().any(|p| p.starts_with("198.18.0.1 ")), "{third:?}");
        let fourth = settle(&mut paths, &[dsr(1, [2, 3, 4]), dsr(2, [2])]);
        assert!(shown(&fourth).contains(&"198.18.0.1 172.16.0.1 10.0.0.4".to_owned()), "{fourth:?}");
    }

    #[test]
    fn a_vip_of_ipv6_is_probed_at_an_address_of_ipv6_whatever_the_backends_are() {
        let mut six = dsr(1, [1]);
        six.key.ip = "fd00:80::1".parse().unwrap();
        let paths = settle(&mut Paths::default(), &[dsr(2, [1]), six.clone()]);
        assert_eq!(shown(&paths), ["198.18.0.1 172.16.0.2 10.0.0.1", "2001:2::1 fd00:80::1 10.0.0.1"]);
        let four = Carried { v4: true, v6: false };
        let ranges = (Health::PROBE_RANGE, Health::PROBE_RANGE6);
        assert!(Paths::default().settle(&[six], ranges, four).is_empty(), "nothing carries it");
    }

    #[test]
    fn nat_services_and_those_that_are_not_probed_need_no_path_and_a_full_range_ends_them() {
        let ranges = ("198.18.0.0/24".parse().unwrap(), Health::PROBE_RANGE6);
        let nat = Service { mode: Mode::Nat, ..dsr(1, [1]) };
        let unprobed = Service { health: None, ..dsr(2, [1]) };
        assert!(settle(&mut Paths::default(), &[nat, unprobed]).is_empty());
        let many: Vec<Service> = (1..=3).map(|n| dsr(n, 1..=100)).collect();
        let paths = Paths::default().settle(&many, ranges, BOTH);
        assert_eq!(paths.len(), 254);
        assert_eq!(paths[253].address.to_string(), "198.18.0.254");
    }
}
