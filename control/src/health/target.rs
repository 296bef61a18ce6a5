//! What is probed: a pure function of the tables that serve. Services that share a backend and ask it the same share the
//! probe; one whose question changes begins anew.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sluice_config::model::{Backend, Desired, Mode, Pace, Probe, Service, VipKey};

/// Modes whose encapsulation the packet path gives to probes that come from the host port to a
/// [`sluice_config::model::ProbePath`]. Backends of the other DSR modes are asked at their own address, which proves that
/// they serve and not that they own the VIP; `sluice show backends` says so.
pub const CARRIED: &[Mode] = &[];

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
    pub fn of(service: &Service, backend: &Backend) -> Option<Self> {
        let check = service.health.as_ref().filter(|check| check.probe != Probe::Off)?;
        let through = needs_path(service.mode).then_some((service.key, service.mode));
        Some(Self { address: backend.address, probe: check.probe.clone(), pace: check.pace, through })
    }
}

/// Whether a probe of this mode takes a path of its own.
#[must_use]
pub fn needs_path(mode: Mode) -> bool {
    mode.is_dsr() && CARRIED.contains(&mode)
}

/// Every target with the address that the probe is sent to.
#[must_use]
pub fn wanted(desired: &Desired) -> BTreeMap<Target, SocketAddr> {
    let paths: BTreeMap<(VipKey, SocketAddr), IpAddr> =
        desired.local.probes.iter().map(|p| ((p.vip, p.backend), IpAddr::V4(p.address))).collect();
    let mut wanted = BTreeMap::new();
    for service in &desired.shared.services {
        for target in service.backends.iter().filter_map(|backend| Target::of(service, backend)) {
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
    use crate::health::combine::tests::{backend, service};
    use sluice_config::model::{HealthCheck, Shared};

    #[test]
    fn two_services_that_ask_a_backend_the_same_share_the_probe_and_one_that_asks_nothing_has_none() {
        let check = |probe| Some(HealthCheck { probe, ..HealthCheck::default() });
        let with = |n: u8, health| Service { health, ..service(n, vec![backend(1)]) };
        let services = vec![
            with(1, check(Probe::Tcp)),
            with(2, check(Probe::Tcp)),
            with(3, check(Probe::http("/"))),
            with(4, check(Probe::Off)),
            with(5, None),
        ];
        let desired =
            Desired { shared: Shared { services: services.into(), ..Shared::default() }, ..Desired::default() };
        let wanted = wanted(&desired);
        assert_eq!(wanted.keys().map(|t| t.probe.to_string()).collect::<Vec<_>>(), ["tcp", "http:/"]);
        assert!(wanted.iter().all(|(target, to)| target.address == *to));
    }
}
