//! A service while claims are joined: which of two equal backends counts, what `[limits]` leaves, and the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_config::model::{Admission, Backend, HealthCheck, Mode, Service, VipKey};

use super::backends::Candidate;
use super::reserved::Reserved;
use super::{BACKEND, Cluster, Report};
use crate::health::combine::{Heard, State, combine};
use crate::rejected::Rejected;

/// A service while it grows.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) name: Option<String>,
    pub(super) framework: Option<String>,
    pub(super) mode: Option<Mode>,
    /// The app that has it, where VIPs are not shared; empty is the configuration.
    pub(super) owner: Option<String>,
    /// How its backends are probed, where that is said.
    pub(super) health: Option<HealthCheck>,
    pub(super) candidates: BTreeMap<SocketAddr, Candidate>,
}

impl Draft {
    /// One address twice (two labels of one DNS name, a stale task beside its replacement): the better one counts.
    pub(super) fn add(&mut self, candidate: Candidate) {
        let rank = |c: &Candidate| {
            (c.running, c.health.takes_new_flows(), c.backend.weight, std::cmp::Reverse(c.backend.task.clone()))
        };
        match self.candidates.get(&candidate.backend.address) {
            Some(there) if rank(there) >= rank(&candidate) => {}
            Some(_) | None => {
                self.candidates.insert(candidate.backend.address, candidate);
            }
        }
    }

    /// Whether a `[[service]]` has it.
    fn is_configured(&self) -> bool {
        self.owner.as_deref() == Some("")
    }

    /// How many backends the configuration gives it.
    fn own(&self) -> usize {
        self.candidates.values().filter(|c| c.backend.task.is_none()).count()
    }
}

/// Takes out backends that would lead packets back to us.
pub(super) fn drop_loops(
    key: &VipKey,
    draft: &mut Draft,
    reserved: &Reserved,
    vips: &BTreeSet<Ipv4Addr>,
    report: &mut Report,
) {
    draft.candidates.retain(|address, candidate| {
        let refused = match address.ip() {
            IpAddr::V4(ip) => reserved.refuses_backend(ip, vips),
            IpAddr::V6(_) => Some("IPv6 is not in this release yet".to_owned()),
        };
        if let Some(reason) = &refused {
            let task = candidate.backend.task.as_deref().unwrap_or_default();
            report.reject(Rejected::new(task, BACKEND, &format!("{address} of {key}"), reason.clone()));
        }
        refused.is_none()
    });
}

/// What `[limits]` still leaves.
struct Room {
    services: usize,
    backends: usize,
}

impl Room {
    /// Whether a service with so many backends fits; if so it is in.
    fn takes(&mut self, services: usize, backends: usize) -> bool {
        let fits = services <= self.services && backends <= self.backends;
        if fits {
            self.services -= services;
            self.backends -= backends;
        }
        fits
    }
}

/// Holds `[limits]`: what is beyond goes, the last keys first. What the configuration itself says comes before what
/// labels ask for: neither a label's service nor the backends that it adds push it out.
pub(super) fn bound(cluster: &Cluster<'_>, drafts: &mut BTreeMap<VipKey, Draft>, report: &mut Report) {
    let limits = &cluster.config.limits;
    let reason = format!("limits.services = {} or limits.backends = {} is reached", limits.services, limits.backends);
    let mut room = Room { services: limits.services, backends: limits.backends };
    let mut refuse = |key: &VipKey| report.reject(Rejected::new("", "service", &key.to_string(), reason.clone()));
    drafts.retain(|key, draft| {
        let fits = !draft.is_configured() || room.takes(1, draft.own());
        if !fits {
            refuse(key);
        }
        fits
    });
    drafts.retain(|key, draft| {
        let (services, own) = if draft.is_configured() { (0, draft.own()) } else { (1, 0) };
        let fits = room.takes(services, draft.candidates.len() - own);
        if !fits {
            refuse(key);
            draft.candidates.retain(|_, candidate| candidate.backend.task.is_none());
        }
        fits || draft.is_configured()
    });
}

/// Settles weights: who is judged unfit takes no new flows, and who is removed is not there.
pub(super) fn settle(cluster: &Cluster<'_>, key: VipKey, draft: Draft, report: &mut Report) -> Service {
    let groups: BTreeSet<&[String]> = draft.candidates.values().map(|c| c.backend.groups.as_slice()).collect();
    if groups.len() > 1 {
        report.mixed_groups.push(key);
    }
    let health = draft.health.unwrap_or_else(|| cluster.config.health.check.of(key.protocol));
    let mut service = Service {
        key,
        name: draft.name,
        framework: draft.framework,
        mode: draft.mode.unwrap_or(cluster.config.vip.mode),
        admission: Admission::default(),
        empty: cluster.config.vip.empty,
        maglev_size: None,
        health: Some(health),
        backends: Vec::new(),
    };
    judge(cluster, &mut service, draft.candidates, report);
    service
}

fn judge(
    cluster: &Cluster<'_>,
    service: &mut Service,
    candidates: BTreeMap<SocketAddr, Candidate>,
    report: &mut Report,
) {
    let heard = |c: &Candidate| (c.running, c.health);
    let all: Vec<_> = candidates.values().map(heard).collect();
    let backends: Vec<Backend> = candidates.into_values().map(|c| c.backend).collect();
    let heard = backends.iter().zip(all).map(|(backend, (running, health))| Heard { backend, running, health });
    let heard: Vec<Heard<'_>> = heard.collect();
    let judged = combine(service, &heard, &cluster.view.health, cluster.config.health.passive);
    if judged.iter().any(|j| j.state == State::FailOpen) {
        report.fail_open.push(service.key);
    }
    for (backend, judged) in backends.into_iter().zip(judged) {
        let weight = if judged.state.takes_new_flows() { backend.weight } else { 0 };
        let place = (service.key, backend.address);
        match judged.state {
            State::Removed => {
                report.removed.insert(place, backend);
            }
            State::Active | State::FailOpen | State::Unfit | State::Draining => {
                service.backends.push(Backend { weight, ..backend });
            }
        }
        if judged.state != State::Active || !judged.opinions.is_empty() {
            report.judged.insert(place, judged);
        }
    }
}
