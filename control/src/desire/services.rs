//! Services: claims of VIPs by labels and by the configuration, resolved to addresses and united.
//!
//! A VIP is (protocol, address, port). Equal claims are united, or with `vip.sharing = "owner"` the first app in byte order
//! has it and the others are listed. A service exists as long as an app that asks for it does, or the configuration has it,
//! be it with no backend: its packets are then answered or counted as such.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use sluice_config::model::{Config, Local, Probe, Protocol, Service, Sharing, VipKey};

use super::backends::{Candidate, candidates};
use super::claims::Claims;
use super::draft::{Draft, bound, drop_loops, settle};
use super::health;
use super::named_vip;
use super::reserved::{Claimant, Reserved};
use super::vip_label::{self, Target};
use super::{Cluster, Report, SERVICE};
use crate::names::{self, LabelRule};
use crate::rejected::Rejected;
use crate::view::{Health, Task, TaskPort};

/// What a claim is for.
enum Wanted {
    Address(Ipv4Addr),
    /// With the framework's part.
    Name(String),
}

/// One label of one port of one task, with the backends that it brings.
struct Claim<'a> {
    wanted: Wanted,
    protocol: Protocol,
    port: u16,
    framework: &'a str,
    task: &'a Task,
    key: &'a str,
    value: &'a str,
    /// `SLUICE_HEALTH`.
    probe: Option<Probe>,
    candidates: Vec<Candidate>,
}

impl Claim<'_> {
    fn refuse(&self, reason: impl Into<String>, report: &mut Report) {
        report.reject(Rejected::new(&self.task.id, self.key, self.value, reason));
    }
}

/// All services, sorted by key.
pub(super) fn services(cluster: &Cluster<'_>, claims: &Claims, local: &Local, report: &mut Report) -> Vec<Service> {
    let reserved = Reserved::new(cluster, local);
    let mut wanted = claimed(cluster, &reserved, report);
    refuse_backends(cluster, &reserved, &mut wanted, report);
    // Not by order of arrival: the owner of a VIP is the first app in byte order.
    wanted.sort_by(|a, b| {
        (&a.task.app, a.framework, &a.task.id, a.key).cmp(&(&b.task.app, b.framework, &b.task.id, b.key))
    });
    report.named = addresses(cluster, &wanted, claims, &reserved);
    let mut drafts = configured(cluster, &reserved, report);
    let names = owners(cluster, claims, report);
    for claim in wanted {
        join(cluster.config, claim, &names, &mut drafts, report);
    }
    let vips = drafts.keys().filter_map(|key| v4(key.ip)).collect();
    for (key, draft) in &mut drafts {
        drop_loops(key, draft, &reserved, &vips, report);
    }
    bound(cluster, &mut drafts, report);
    drafts.into_iter().map(|(key, draft)| settle(cluster, key, draft, report)).collect()
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
                    match claim(cluster, reserved, (framework, task, port, key, value), report) {
                        Ok(claim) => claims.push(claim),
                        Err(reason) => report.reject(Rejected::new(&task.id, key, value, reason)),
                    }
                }
            }
        }
    }
    claims
}

fn is_vip(key: &str) -> bool {
    // An app's `Vip_PortN` of the first Minuteman has been put on its port with its own spelling.
    vip_label::is_vip_key(key) || key.to_ascii_lowercase().starts_with("vip_port")
}

fn claim<'a>(
    cluster: &Cluster<'_>,
    reserved: &Reserved,
    (framework, task, port, key, value): (&'a str, &'a Task, &'a TaskPort, &'a str, &'a str),
    report: &mut Report,
) -> Result<Claim<'a>, String> {
    let label = vip_label::parse(value).map_err(|e| e.to_string())?;
    let wanted = match label.target {
        Target::Address(IpAddr::V4(ip)) => match reserved.refuses_vip(ip, Claimant::Label) {
            Some(reason) => return Err(reason),
            None => Wanted::Address(ip),
        },
        Target::Address(IpAddr::V6(_)) => return Err("IPv6 is not in this release yet".to_owned()),
        Target::Name(name) => Wanted::Name(full_name(&name, framework)?),
    };
    ignored_labels(task, port, report);
    let probe = health::label(task, port, report);
    let serves = if task.state.is_eligible() { candidates(cluster, task, port, report) } else { Ok(Vec::new()) };
    let candidates = serves.unwrap_or_else(|reason| {
        report.reject(Rejected::new(&task.id, key, value, reason));
        Vec::new()
    });
    Ok(Claim { wanted, protocol: port.protocol, port: label.port, framework, task, key, value, probe, candidates })
}

/// A label cannot make a VIP of an address that packets are sent to: the VIP goes, not the backend. The address of an
/// agent that nothing else knows of is none: there the backend goes.
fn refuse_backends(cluster: &Cluster<'_>, reserved: &Reserved, wanted: &mut Vec<Claim<'_>>, report: &mut Report) {
    let configured = cluster.config.services.iter().flat_map(|s| &s.backends).filter_map(|b| v4(b.address.ip()));
    let configured: BTreeSet<Ipv4Addr> = configured.collect();
    let mut of_apps: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    for claim in wanted.iter() {
        let sure = |c: &Candidate| {
            let ip = v4(c.backend.address.ip())?;
            (c.backend.agent != Some(IpAddr::V4(ip)) || reserved.is_agent(ip)).then_some(ip)
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
fn full_name(name: &str, framework: &str) -> Result<String, String> {
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

/// Labels that mean something one day and nothing now.
fn ignored_labels(task: &Task, port: &TaskPort, report: &mut Report) {
    for (key, honoured, reason) in [
        ("SLUICE_MODE", Some("nat"), "only the mode nat is in this release; nat is used"),
        ("SLUICE_ALLOW_GROUPS", None, "SLUICE_ALLOW_GROUPS is not in this release yet"),
    ] {
        let value = port.labels.get(key).or_else(|| task.labels.get(key));
        if let Some(value) = value.filter(|v| Some(v.as_str()) != honoured) {
            report.reject(Rejected::new(&task.id, key, value, reason));
        }
    }
}

/// Addresses of all names that are asked for.
fn addresses(
    cluster: &Cluster<'_>,
    wanted: &[Claim<'_>],
    claims: &Claims,
    reserved: &Reserved,
) -> BTreeMap<String, Ipv4Addr> {
    let name = |claim: &Claim<'_>| match &claim.wanted {
        Wanted::Name(name) => Some(name.clone()),
        Wanted::Address(_) => None,
    };
    let names: BTreeSet<String> = wanted.iter().filter_map(name).collect();
    let claimed = claims.named.values().map(|claim| claim.ip).collect();
    let mut taken = reserved.taken(&claimed);
    let services = &cluster.config.services;
    taken.extend(services.iter().filter_map(|s| v4(s.key.ip)));
    taken.extend(services.iter().flat_map(|s| &s.backends).filter_map(|b| v4(b.address.ip())));
    named_vip::allocate(&names, &claims.addresses(), &cluster.config.vip.named, &taken)
}

/// Whose the addresses of the named range are, idle claims included.
fn owners(cluster: &Cluster<'_>, claims: &Claims, report: &Report) -> BTreeMap<Ipv4Addr, String> {
    let idle = claims.named.iter().filter(|(_, claim)| cluster.config.vip.named.contains(&claim.ip));
    let idle = idle.map(|(name, claim)| (claim.ip, name.clone()));
    idle.chain(report.named.iter().map(|(name, ip)| (*ip, name.clone()))).collect()
}

/// The configuration's own services.
fn configured(cluster: &Cluster<'_>, reserved: &Reserved, report: &mut Report) -> BTreeMap<VipKey, Draft> {
    let mut drafts = BTreeMap::new();
    for service in &cluster.config.services {
        let refused = match service.key.ip {
            IpAddr::V4(ip) => reserved.refuses_vip(ip, Claimant::Configuration),
            IpAddr::V6(_) => Some("IPv6 is not in this release yet".to_owned()),
        };
        if let Some(reason) = refused {
            report.reject(Rejected::new("", SERVICE, &service.key.to_string(), reason));
            continue;
        }
        let draft: &mut Draft = drafts.entry(service.key).or_default();
        draft.mode = Some(service.mode);
        draft.name.clone_from(&service.name);
        draft.owner = Some(String::new());
        draft.health.clone_from(&service.health);
        for backend in &service.backends {
            draft.add(Candidate { running: true, health: Health::Unchecked, backend: backend.clone() });
        }
    }
    drafts
}

fn join(
    config: &Config,
    claim: Claim<'_>,
    names: &BTreeMap<Ipv4Addr, String>,
    drafts: &mut BTreeMap<VipKey, Draft>,
    report: &mut Report,
) {
    let (ip, name) = match &claim.wanted {
        // Whoever wants to share a named VIP says its name: an address would be a way into somebody else's.
        Wanted::Address(ip) => match names.get(ip) {
            Some(name) => return claim.refuse(format!("{ip} is the address of the named VIP {name}"), report),
            None => (*ip, None),
        },
        Wanted::Name(name) => match report.named.get(name) {
            Some(ip) => (*ip, Some(name.clone())),
            None => return claim.refuse("every address from vip.named_min to vip.named_max is taken", report),
        },
    };
    let key = VipKey { protocol: claim.protocol, ip: IpAddr::V4(ip), port: claim.port };
    let draft = drafts.entry(key).or_default();
    let owner = draft.owner.get_or_insert_with(|| claim.task.app.clone());
    if config.vip.sharing == Sharing::Owner && *owner != claim.task.app {
        let whose =
            if owner.is_empty() { "a [[service]] of the configuration".to_owned() } else { format!("the app {owner}") };
        let reason = format!("{key} is {}'s, and vip.sharing is \"owner\"", crate::rejected::shown(&whose));
        return claim.refuse(reason, report);
    }
    if draft.name.is_none() {
        draft.name = name;
    }
    if draft.framework.is_none() {
        draft.framework = Some(claim.framework.to_owned());
    }
    if let Some(probe) = &claim.probe
        && let Err(reason) = health::join(draft, &config.health.check, probe)
    {
        report.reject(Rejected::new(&claim.task.id, health::KEY, &probe.to_string(), reason));
    }
    claim.candidates.into_iter().for_each(|c| draft.add(c));
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}
