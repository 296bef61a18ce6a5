//! What is probed: a pure function of the tables that serve. Services that share a backend and ask it the same share the
//! probe; one whose question changes begins anew.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sluice_config::model::{Backend, Config, Desired, Mode, Pace, Probe, Service, VipKey};

/// VIPs whose backends in a DSR mode are probed as the VIP, in the encapsulation of their service
/// ([`sluice_config::model::ProbePath`]): such a probe comes by the host port and is answered at a SNAT address. Other
/// backends of the DSR modes are asked at their own address, which proves that they serve and not that they own the VIP;
/// `sluice show backends` says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// Those of IPv4.
    pub v4: bool,
    /// Those of IPv6.
    pub v6: bool,
}

impl Carried {
    /// What a configuration lets the packet path carry.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let snat = |some: bool| some && config.host.is_some();
        Self { v4: snat(!config.snat.underlay.is_empty()), v6: snat(!config.snat.underlay6.is_empty()) }
    }

    /// Whether probes of this service's backends take ways of their own.
    #[must_use]
    pub fn takes(self, service: &Service) -> bool {
        service.mode.is_dsr() && if service.key.ip.is_ipv6() { self.v6 } else { self.v4 }
    }
}

/// One backend, and what is asked of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    /// The backend.
    pub address: SocketAddr,
    /// What is asked.
    pub probe: Probe,
    /// How often.
    pub pace: Pace,
    /// The service whose encapsulation the question takes; `None` goes to the backend's own address.
    pub through: Option<(VipKey, Mode)>,
}

impl Target {
    /// The target of a backend of this service; `None` when nothing is asked.
    #[must_use]
    pub fn of(service: &Service, backend: &Backend, carried: Carried) -> Option<Self> {
        let check = service.health.as_ref().filter(|check| check.probe != Probe::Off)?;
        let through = carried.takes(service).then_some((service.key, service.mode));
        Some(Self { address: backend.address, probe: check.probe.clone(), pace: check.pace, through })
    }

    /// Whom it asks: the backend, or the VIP that it has to answer as.
    #[must_use]
    pub fn asked(&self) -> SocketAddr {
        self.through.map_or(self.address, |(vip, _)| SocketAddr::new(vip.ip, vip.port))
    }
}

/// Every target with the address that the probe is sent to.
#[must_use]
pub fn wanted(desired: &Desired, carried: Carried) -> BTreeMap<Target, SocketAddr> {
    let paths: BTreeMap<(VipKey, SocketAddr), IpAddr> =
        desired.local.probes.iter().map(|p| ((p.vip, p.backend), p.address)).collect();
    let mut wanted = BTreeMap::new();
    for service in &desired.shared.services {
        for target in service.backends.iter().filter_map(|backend| Target::of(service, backend, carried)) {
            let to = match target.through {
                None => Some(target.address),
                Some((vip, _)) => paths.get(&(vip, target.address)).map(|ip| SocketAddr::new(*ip, vip.port)),
            };
            wanted.extend(to.map(|to| (target, to)));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::config;
    use crate::health::combine::tests::{backend, service};
    use crate::health::paths::Paths;
    use sluice_config::model::{Health, HealthCheck, Host, Shared};

    fn check(probe: Probe) -> Option<HealthCheck> {
        Some(HealthCheck { probe, ..HealthCheck::default() })
    }

    fn desired(services: Vec<Service>) -> Desired {
        Desired { shared: Shared { services: services.into(), ..Shared::default() }, ..Desired::default() }
    }

    #[test]
    fn two_services_that_ask_a_backend_the_same_share_the_probe_and_one_that_asks_nothing_has_none() {
        let with = |n: u8, health| Service { health, ..service(n, vec![backend(1)]) };
        let services = vec![
            with(1, check(Probe::Tcp)),
            with(2, check(Probe::Tcp)),
            with(3, check(Probe::http("/"))),
            with(4, check(Probe::Off)),
            with(5, None),
        ];
        let wanted = wanted(&desired(services), Carried::default());
        assert_eq!(wanted.keys().map(|t| t.probe.to_string()).collect::<Vec<_>>(), ["tcp", "http:/"]);
        assert!(wanted.iter().all(|(target, to)| target.address == *to && target.asked() == *to));
    }

    #[test]
    fn a_backend_that_answers_as_the_vip_is_asked_as_the_vip_by_a_way_of_its_own() {
        let with = |mode| Service { mode, health: check(Probe::Tcp), ..service(1, vec![backend(1), backend(2)]) };
        let carried = Carried { v4: true, v6: false };
        let mut dsr = desired(vec![with(Mode::DsrGue)]);
        assert!(wanted(&dsr, carried).is_empty(), "no way is known yet");
        let ranges = (Health::PROBE_RANGE, Health::PROBE_RANGE6);
        dsr.local.probes = Paths::default().settle(&dsr.shared.services, ranges, carried);
        let to: Vec<String> = wanted(&dsr, carried).values().map(ToString::to_string).collect();
        assert_eq!(to, ["198.18.0.1:80", "198.18.0.2:80"]);
        let asked: Vec<SocketAddr> = wanted(&dsr, carried).keys().map(Target::asked).collect();
        assert_eq!(asked, ["172.16.0.1:80".parse().unwrap(); 2]);
        let own = wanted(&dsr, Carried { v4: false, v6: true });
        assert!(own.iter().all(|(target, to)| target.address == *to), "another family has a SNAT address");
        assert_eq!(wanted(&desired(vec![with(Mode::Nat)]), carried).keys().next().unwrap().through, None);
    }

    #[test]
    fn what_carries_probes_is_a_host_port_and_a_snat_address_of_the_vips_family() {
        let mut config = config();
        assert_eq!(Carried::of(&config), Carried::default(), "no host port");
        config.host = Some(Host { interface: "sluice0".into(), peer: "sluice1".into(), addresses: Vec::new() });
        assert_eq!(Carried::of(&config), Carried { v4: true, v6: false });
        config.snat.underlay6 = vec!["2001:db8::11".parse().unwrap()];
        config.snat.underlay.clear();
        assert_eq!(Carried::of(&config), Carried { v4: false, v6: true });
    }
}
