//! Services: claims of VIPs by labels and by the configuration, resolved to addresses and united.
//!
//! A VIP is (protocol, address, port). Equal claims are united, or with `vip.sharing = "owner"` whoever has it keeps it:
//! the app that a persisted claim names, else the first in byte order; the others are listed. A service exists as long as
//! an app that asks for it does, or the configuration has it, be it with no backend: its packets are then answered or
//! counted as such.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use sluice_config::model::{AllowGroups, Local, Mode, Probe, Protocol, Service, Services, Sharing, VipKey};

use super::backends::{Candidate, candidates};
use super::claims::{Claims, Owner};
use super::draft::{Draft, Holder, Ways, bound, settle};
use super::index::AppId;
use super::reserved::{Claimant, Reserved};
use super::vip_label::{self, Target};
use super::{Cluster, Report, SERVICE, health, join, named_vip, own_labels};
use crate::names::{self, LabelRule};
use crate::rejected::Rejected;
use crate::view::{Task, TaskPort};

/// What a claim is for.
pub(super) enum Wanted {
    Address(IpAddr),
    /// With the framework's part.
    Name(String),
}

/// One label of one port of one task, with the backends that it brings.
pub(super) struct Claim<'a> {
    pub(super) wanted: Wanted,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) source: usize,
    pub(super) framework: &'a str,
    pub(super) task: &'a Task,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
    pub(super) mode: Mode,
    pub(super) groups: AllowGroups,
    /// `SLUICE_HEALTH`.
    pub(super) probe: Option<Probe>,
    pub(super) candidates: Vec<Candidate>,
}

impl Claim<'_> {
    pub(super) fn refuse(&self, reason: impl Into<String>, report: &mut Report) {
        report.reject(Rejected::new(&self.task.id, self.key, self.value, reason));
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { app: self.task.app.clone(), framework: self.framework.to_owned() }
    }

    fn has(&self, family: fn(&IpAddr) -> bool) -> bool {
        self.candidates.iter().any(|c| family(&c.backend.address.ip()))
    }
}

/// Who claims each VIP.
pub(super) type Links = BTreeMap<VipKey, BTreeSet<AppId>>;

/// All services, sorted by key, and whose they are.
pub(super) fn services(
    cluster: &Cluster<'_>,
    claims: &Claims,
    local: &Local,
    report: &mut Report,
) -> (Services, Links) {
    let reserved = Reserved::new(cluster, local);
    let mut wanted = claimed(cluster, &reserved, report);
    refuse_backends(cluster, &reserved, &mut wanted, report);
    // Not by order of arrival: the first app in byte order decides what only one can decide.
    wanted.sort_by(|a, b| {
        (&a.task.app, a.framework, &a.task.id, a.key).cmp(&(&b.task.app, b.framework, &b.task.id, b.key))
    });
    addresses(cluster, &wanted, claims, &reserved, report);
    let mut drafts = configured(cluster, &reserved, report);
    join::join(cluster, wanted, claims, &mut drafts, report);
    let networks = &cluster.networks;
    let ways = Ways { local, networks, reserved: &reserved, vips: drafts.keys().map(|key| key.ip).collect() };
    for (key, draft) in &mut drafts {
        ways.keep_reachable(key, draft, report);
    }
    bound(cluster, &mut drafts, report);
    if cluster.config.vip.sharing == Sharing::Owner {
        report.owners = drafts.iter().filter_map(|(key, draft)| Some((key.to_string(), app(draft)?))).collect();
    }
    let claimed = drafts.iter_mut().map(|(key, draft)| (*key, std::mem::take(&mut draft.apps)));
    let links = claimed.filter(|(_, apps)| !apps.is_empty()).collect();
    (drafts.into_iter().map(|(key, draft)| settle(cluster, key, draft, report)).collect(), links)
}

fn app(draft: &Draft) -> Option<Owner> {
    match &draft.holder {
        Holder::App(owner) => Some(owner.clone()),
        Holder::Configuration => None,
    }
}

/// Reads every VIP label of every task, and of every app that has none. What is refused is reported. A label of what does
/// not serve brings no backend.
fn claimed<'a>(cluster: &'a Cluster<'_>, reserved: &Reserved, report: &mut Report) -> Vec<Claim<'a>> {
    let mut claims = Vec::new();
    for (source, listing) in &cluster.view.marathons {
        let framework = cluster.framework(*source);
        for task in listing.tasks.iter().chain(&listing.idle) {
            for port in &task.ports {
                for (key, value) in port.labels.iter().filter(|(key, _)| is_vip(key)) {
                    match claim(cluster, reserved, (*source, framework, task, port, key, value), report) {
                        Ok(claim) => claims.push(claim),
                        Err(reason) => report.reject(Rejected::new(&task.id, key, value, reason)),
                    }
                }
            }
        }
    }
    claims
}

pub(super) fn is_vip(key: &str) -> bool {
    // An app's `Vip_PortN` of the first Minuteman has been put on its port with its own spelling.
    vip_label::is_vip_key(key) || key.get(..8).is_some_and(|k| k.eq_ignore_ascii_case("vip_port"))
}

fn claim<'a>(
    cluster: &Cluster<'_>,
    reserved: &Reserved,
    (source, framework, task, port, key, value): (usize, &'a str, &'a Task, &'a TaskPort, &'a str, &'a str),
    report: &mut Report,
) -> Result<Claim<'a>, String> {
    let label = vip_label::parse(value).map_err(|e| e.to_string())?;
    let wanted = match label.target {
        Target::Address(ip) => match reserved.refuses_vip(ip, Claimant::Label) {
            Some(reason) => return Err(reason),
            None => Wanted::Address(ip),
        },
        Target::Name(name) => Wanted::Name(full_name(&name, framework)?),
    };
    let mode = own_labels::mode(cluster.config.vip.mode, task, port, report);
    let groups = own_labels::allow_groups(task, port, report);
    let probe = health::label(task, port, report);
    let serves =
        if task.state.is_eligible() { candidates(cluster, (source, task), port, report) } else { Ok(Vec::new()) };
    let candidates = serves.unwrap_or_else(|reason| {
        report.reject(Rejected::new(&task.id, key, value, reason));
        Vec::new()
    });
    let (protocol, port) = (port.protocol, label.port);
    Ok(Claim { wanted, protocol, port, source, framework, task, key, value, mode, groups, probe, candidates })
}

/// A label cannot make a VIP of an address that packets are sent to: the VIP goes, not the backend. The address of an
/// agent that nothing else knows of is none: there the backend goes.
fn refuse_backends(cluster: &Cluster<'_>, reserved: &Reserved, wanted: &mut Vec<Claim<'_>>, report: &mut Report) {
    let configured = cluster.config.services.iter().flat_map(|s| &s.backends).map(|b| b.address.ip());
    let configured: BTreeSet<IpAddr> = configured.collect();
    let mut of_apps: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for claim in wanted.iter() {
        let sure = |c: &Candidate| {
            let ip = c.backend.address.ip();
            (c.backend.agent != Some(ip) || reserved.is_agent(ip)).then_some(ip)
        };
        for ip in claim.candidates.iter().filter_map(sure) {
            let first = of_apps.entry(ip).or_insert(&claim.task.app);
            *first = (*first).min(&claim.task.app);
        }
    }
    wanted.retain(|claim| {
        let Wanted::Address(ip) = claim.wanted else { return true };
        let whose = match of_apps.get(&ip) {
            _ if configured.contains(&ip) => "a [[service]] of the configuration".to_owned(),
            Some(app) => format!("the app {}", crate::rejected::shown(app)),
            None => return true,
        };
        claim.refuse(format!("{ip} is a backend's address, of {whose}: no VIP may have it"), report);
        false
    });
}

/// Name and framework in DNS form, short enough for the longest zone that it stands in.
pub(super) fn full_name(name: &str, framework: &str) -> Result<String, String> {
    const ZONE: &str = ".l4lb.thisdcos.directory";
    let framework = names::fragment(framework, LabelRule::Rfc1123);
    if framework.is_empty() {
        return Err("nothing of the framework's name may stand in DNS".to_owned());
    }
    let full = format!("{name}.{framework}");
    if names::is_servable(&format!("{full}{ZONE}")) {
        Ok(full)
    } else {
        Err("the name is longer than DNS allows".to_owned())
    }
}

/// Addresses of all names that are asked for. A name has an address of each family in which it has a backend or has had
/// one; as long as there is none of either, an IPv4 one.
fn addresses(cluster: &Cluster<'_>, wanted: &[Claim<'_>], claims: &Claims, reserved: &Reserved, report: &mut Report) {
    let (mut four, mut six, mut all) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for claim in wanted {
        let Wanted::Name(name) = &claim.wanted else { continue };
        let name = name.as_str();
        all.insert(name);
        if claims.named.contains_key(name) || claim.has(IpAddr::is_ipv4) {
            four.insert(name);
        }
        if claims.named6.contains_key(name) || claim.has(IpAddr::is_ipv6) {
            six.insert(name);
        }
    }
    four.extend(all.into_iter().filter(|name| !six.contains(name)));
    let claimed = claims.named.values().map(|c| IpAddr::V4(c.holds));
    let claimed = claimed.chain(claims.named6.values().map(|c| IpAddr::V6(c.holds))).collect();
    let (mut taken, mut taken6): (BTreeSet<Ipv4Addr>, BTreeSet<Ipv6Addr>) = Default::default();
    let services = &cluster.config.services;
    let of_services = services.iter().flat_map(|s| s.backends.iter().map(|b| b.address.ip()).chain([s.key.ip]));
    for ip in reserved.taken(&claimed).chain(of_services) {
        match ip {
            IpAddr::V4(ip) => taken.insert(ip),
            IpAddr::V6(ip) => taken6.insert(ip),
        };
    }
    let vip = &cluster.config.vip;
    report.named = Arc::new(named_vip::allocate(&four, &claims.named, &vip.named, &taken));
    report.named6 = Arc::new(named_vip::allocate(&six, &claims.named6, &vip.named6, &taken6));
}

/// The configuration's own services.
fn configured(cluster: &Cluster<'_>, reserved: &Reserved, report: &mut Report) -> BTreeMap<VipKey, Draft> {
    let mut drafts = BTreeMap::new();
    for service in &cluster.config.services {
        if let Some(reason) = reserved.refuses_vip(service.key.ip, Claimant::Configuration) {
            report.reject(Rejected::new("", SERVICE, &service.key.to_string(), reason));
            continue;
        }
        let mut draft = Draft {
            holder: Holder::Configuration,
            service: Service { backends: Vec::new(), ..service.clone() },
            candidates: BTreeMap::new(),
            groups: None,
            apps: BTreeSet::new(),
        };
        for backend in &service.backends {
            draft.add(Candidate::fixed(backend));
        }
        drafts.insert(service.key, draft);
    }
    drafts
}
