//! A service while claims are joined: which of two equal backends counts, which can be reached, what `[limits]` leaves,
//! and the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use sluice_config::model::{AllowGroups, Backend, Local, Mode, OverlayNetwork, Service, VipKey};
use sluice_config::reach::reach;

use super::backends::Candidate;
use super::claims::Owner;
use super::index::AppId;
use super::reserved::Reserved;
use super::{BACKEND, Cluster, Report, own_labels};
use crate::health::combine::{Bounds, Heard, State, combine};
use crate::rejected::{Rejected, shown};
use crate::view::Rollout;

/// Who had a VIP first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// A `[[service]]`: what it says holds.
    Configuration,
    /// An app.
    App(Owner),
}

/// A service while it grows.
pub(super) struct Draft {
    pub(super) holder: Holder,
    /// All but the backends.
    pub(super) service: Service,
    pub(super) candidates: BTreeMap<SocketAddr, Candidate>,
    /// Who may use it, once an app said so.
    pub(super) groups: Option<AllowGroups>,
    /// Who claims it.
    pub(super) apps: BTreeSet<AppId>,
}

impl Draft {
    /// One address twice (two labels of one DNS name, a stale task beside its replacement): the better one counts.
    pub(super) fn add(&mut self, candidate: Candidate) {
        let newer = |c: &Candidate| c.rollout != Rollout::Old;
        let rank = |c: &Candidate| (c.running, c.health.takes_new_flows(), newer(c), c.backend.weight);
        let better = |a: &Candidate, b: &Candidate| {
            rank(a).cmp(&rank(b)).then_with(|| b.backend.task.cmp(&a.backend.task)).is_ge()
        };
        match self.candidates.get(&candidate.backend.address) {
            Some(there) if better(there, &candidate) => {}
            Some(_) | None => {
                self.candidates.insert(candidate.backend.address, candidate);
            }
        }
    }

    /// Whether a `[[service]]` has it.
    fn is_configured(&self) -> bool {
        self.holder == Holder::Configuration
    }

    /// How many backends the configuration gives it.
    fn own(&self) -> usize {
        self.candidates.values().filter(|c| c.backend.task.is_none()).count()
    }

    /// An app's word on who may use it: whoever all of them let in.
    pub(super) fn let_in(&mut self, groups: &AllowGroups) {
        self.groups = Some(match self.groups.take() {
            Some(before) => own_labels::both(before, groups),
            None => groups.clone(),
        });
    }
}

/// What decides whether a backend can be reached.
pub(super) struct Ways<'a> {
    pub(super) local: &'a Local,
    pub(super) networks: &'a [OverlayNetwork],
    pub(super) reserved: &'a Reserved,
    /// All virtual addresses.
    pub(super) vips: BTreeSet<IpAddr>,
}

impl Ways<'_> {
    /// Takes out backends that would lead packets back to us, or that no packet of the mode would reach.
    pub(super) fn keep_reachable(&self, key: &VipKey, draft: &mut Draft, report: &mut Report) {
        let mode = draft.service.mode;
        draft.candidates.retain(|address, candidate| {
            let refused = self.refuses(key, mode, &candidate.backend);
            if let Some(reason) = &refused {
                let task = candidate.backend.task.as_deref().unwrap_or_default();
                report.reject(Rejected::new(task, BACKEND, &format!("{address} of {key}"), reason.clone()));
            }
            refused.is_none()
        });
    }

    fn refuses(&self, key: &VipKey, mode: Mode, backend: &Backend) -> Option<String> {
        let (ip, on_overlay) = (backend.address.ip(), backend.network.is_some());
        if let Some(reason) = self.reserved.refuses_backend(ip, &self.vips) {
            return Some(reason);
        }
        if let Err(why) = reach(mode, SocketAddr::new(key.ip, key.port), backend.address, on_overlay) {
            return Some(format!("{why}: {}", why.remedy()));
        }
        match mode {
            Mode::Nat => self.source(ip, on_overlay).map(str::to_owned).or_else(|| self.source_in_tunnels(backend)),
            Mode::DsrMac if !self.on_link(ip) => {
                Some("dsr-mac reaches backends on link only: write mode dsr-ipip or dsr-gue for it".to_owned())
            }
            Mode::NatPreserve | Mode::DsrIpip | Mode::DsrGue | Mode::DsrVxlan | Mode::DsrMac => None,
        }
    }

    /// `nat` needs an address to send from; `None` where there is one.
    fn source(&self, ip: IpAddr, on_overlay: bool) -> Option<&'static str> {
        let local = self.local;
        let (none, reason) = match (on_overlay, ip) {
            (true, IpAddr::V4(_)) => {
                (local.snat_overlay.is_empty(), "nat needs a source address there: add `overlay` to [snat]")
            }
            (true, IpAddr::V6(_)) => {
                (local.snat_overlay6.is_empty(), "nat needs a source address there: add an IPv6 `overlay` to [snat]")
            }
            (false, IpAddr::V4(_)) => {
                (local.snat_underlay.is_empty(), "nat needs a source address there: add an IPv4 `underlay` to [snat]")
            }
            (false, IpAddr::V6(_)) => {
                (local.snat_underlay6.is_empty(), "nat needs a source address there: add an IPv6 `underlay` to [snat]")
            }
        };
        none.then_some(reason)
    }

    /// Agents answer a source address in the tunnels of the network that it is in, and nothing is taken from a network out
    /// of another one's tunnels.
    fn source_in_tunnels(&self, backend: &Backend) -> Option<String> {
        let (name, ip, vtep) = (backend.network.as_deref()?, backend.address.ip(), self.local.vtep.as_ref()?);
        let network = self.networks.iter().find(|network| network.name == name)?;
        let (four, six) = (&self.local.snat_overlay, &self.local.snat_overlay6);
        let mut sources = four.iter().map(|ip| IpAddr::V4(*ip)).chain(six.iter().map(|ip| IpAddr::V6(*ip)));
        let own = (vtep.udp_port, vtep.vni);
        let answered =
            sources.any(|source| source.is_ipv4() == ip.is_ipv4() && network.answers(source, self.networks, own));
        let reason = format!(
            "nat needs a source address in the tunnels of the network {name}: add one of our own part of it to `overlay` of [snat]"
        );
        (!answered).then_some(reason)
    }

    /// In a port's subnet, or by a route without a gateway.
    fn on_link(&self, ip: IpAddr) -> bool {
        let of_ports = |p: &sluice_config::model::LocalPort| match ip {
            IpAddr::V4(ip) => p.addresses.iter().any(|net| net.contains(&ip)),
            IpAddr::V6(ip) => p.addresses6.iter().any(|net| net.contains(&ip)),
        };
        let local = self.local;
        local.ports.iter().any(of_ports) || local.routes.iter().any(|r| r.via.is_none() && r.prefix.contains(&ip))
    }
}

/// Most sets of groups that one line names.
const GROUPS_NAMED: usize = 4;

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
    mixed_groups(key, &draft, report);
    let mut service = draft.service;
    if let Some(groups) = draft.groups {
        service.admission.groups = groups;
    }
    service.health.get_or_insert_with(|| cluster.config.health.check.of(key.protocol));
    judge(cluster, &mut service, draft.candidates, report);
    service
}

/// Apps that share a VIP and differ in their groups shut out each other's clients: nobody is to find that out by packets.
fn mixed_groups(key: VipKey, draft: &Draft, report: &mut Report) {
    let mut all: BTreeMap<&[String], &Backend> = BTreeMap::new();
    for Candidate { backend, .. } in draft.candidates.values() {
        all.entry(&backend.groups).or_insert(backend);
    }
    if all.len() < 2 {
        return;
    }
    let of = |(groups, backend): (&&[String], &&Backend)| {
        let groups = if groups.is_empty() { "no group".to_owned() } else { shown(&groups.join(",")) };
        let whose = backend.task.as_deref().map_or_else(|| backend.address.to_string(), shown);
        format!("{groups} ({whose})")
    };
    let named: Vec<String> = all.iter().take(GROUPS_NAMED).map(of).collect();
    let more = if all.len() > GROUPS_NAMED { " and others" } else { "" };
    let reason = format!(
        "its backends differ in their groups: {}{more}; only sources that all of them allow are admitted",
        named.join(", ")
    );
    report.reject(Rejected::new("", own_labels::GROUPS, &key.to_string(), reason));
    report.mixed_groups.push(key);
}

fn judge(
    cluster: &Cluster<'_>,
    service: &mut Service,
    candidates: BTreeMap<SocketAddr, Candidate>,
    report: &mut Report,
) {
    let heard: Vec<Heard<'_>> = candidates.values().map(Candidate::heard).collect();
    let judged = combine(service, &heard, &cluster.view.health, Bounds::of(cluster.config));
    let backends = candidates.into_values().map(|c| c.backend);
    if judged.iter().any(|j| j.state == State::FailOpen) {
        report.fail_open.push(service.key);
    }
    for (backend, judged) in backends.zip(judged) {
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
