//! Zones: the names of tasks, VIPs and frameworks that Marathon alone can tell (facts/dcos.md A.2, B.2, B.6).
//!
//! `<domain>` is Mesos-DNS's; `thisdcos.directory` and `thisdcos.global` are one tree under two apexes; `spartan` holds
//! the name server's own name. Records are sets: two tasks of one address are one record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sluice_config::model::{Config, IpSource, Record, RecordData, Service, Zone};

use super::{Cluster, Report};
use crate::names::{self, LabelRule};
use crate::rejected::Rejected;
use crate::view::{Listing, PortAt, Task, TaskState};

/// Apexes of the DC/OS tree; the second is an alias.
const DCOS_APEXES: [&str; 2] = ["thisdcos.directory", "thisdcos.global"];
/// SOA REFRESH, RETRY and EXPIRE of the DC/OS zones, and the TTL of their NS, seconds (B.2).
const DCOS_TIMERS: [u32; 3] = [60, 180, 86_400];
const DCOS_NS_TTL: u32 = 3600;
const DCOS_NS: &str = "ns.spartan";

/// Addresses of a name, and for each whether nothing speaks against the task behind it.
type Addresses = BTreeMap<String, BTreeMap<IpAddr, bool>>;

/// All zones, sorted by apex; none where DNS is off.
pub(super) fn zones(cluster: &Cluster<'_>, services: &[Arc<Service>], report: &mut Report) -> Vec<Zone> {
    let config = cluster.config;
    if config.dns.addresses.is_empty() {
        return Vec::new();
    }
    let mut zones = vec![domain(cluster, report), dcos_zone(config, "spartan", spartan(config))];
    let tree = dcos_tree(cluster, services, report);
    for apex in DCOS_APEXES {
        let records = tree.iter().flat_map(|(name, ips)| records(&format!("{name}.{apex}"), config.dns.dcos_ttl, ips));
        zones.push(dcos_zone(config, apex, records.collect()));
    }
    zones.sort_by(|a, b| a.apex.cmp(&b.apex));
    zones
}

fn records(name: &str, ttl: u32, ips: &BTreeMap<IpAddr, bool>) -> Vec<Record> {
    let better = ips.values().any(|ok| *ok);
    let shown = ips.iter().filter(|(_, ok)| **ok || !better);
    shown.map(|(ip, _)| Record { name: name.to_owned(), ttl, data: data(*ip) }).collect()
}

fn data(ip: IpAddr) -> RecordData {
    match ip {
        IpAddr::V4(ip) => RecordData::A(ip),
        IpAddr::V6(ip) => RecordData::Aaaa(ip),
    }
}

fn dcos_zone(config: &Config, apex: &str, records: BTreeSet<Record>) -> Zone {
    let [refresh, retry, expire] = DCOS_TIMERS;
    Zone {
        timers: [refresh, retry, expire, config.dns.negative_ttl],
        soa_ttl: config.dns.dcos_ttl,
        ns_ttl: DCOS_NS_TTL,
        records: records.into_iter().collect(),
        ..Zone::new(apex, DCOS_NS)
    }
}

fn spartan(config: &Config) -> BTreeSet<Record> {
    own_records(config, DCOS_NS, config.dns.dcos_ttl).collect()
}

fn own_records<'a>(config: &'a Config, name: &'a str, ttl: u32) -> impl Iterator<Item = Record> + 'a {
    config.dns.addresses.iter().map(move |ip| Record { name: name.to_owned(), ttl, data: RecordData::A(*ip) })
}

/// Mesos-DNS's zone.
fn domain(cluster: &Cluster<'_>, report: &mut Report) -> Zone {
    let dns = &cluster.config.dns;
    let rule = if dns.enforce_rfc952 { LabelRule::Rfc952 } else { LabelRule::Rfc1123 };
    let mut names = Addresses::new();
    for (source, listing) in &cluster.view.marathons {
        let framework = names::fragment(cluster.framework(*source), rule);
        framework_name(cluster, listing, &framework, &mut names);
        for task in listing.tasks.iter().filter(|t| t.state == TaskState::Running) {
            task_names(cluster, task, &framework, rule, &mut names, report);
        }
    }
    let mut all: BTreeSet<Record> = BTreeSet::new();
    for (name, ips) in &names {
        let name = format!("{name}.{}", dns.domain);
        if names::is_servable(&name) {
            all.extend(records(&name, dns.ttl, ips));
        } else {
            report.reject(Rejected::new(
                "",
                "name",
                &name,
                "longer than DNS allows: labels of 1 to 63 octets, 253 in all",
            ));
        }
    }
    if dns.soa_mname.ends_with(&format!(".{}", dns.domain)) {
        all.extend(own_records(cluster.config, &dns.soa_mname, dns.ttl));
    }
    Zone {
        rname: dns.soa_rname.clone(),
        timers: [dns.soa_refresh, dns.soa_retry, dns.soa_expire, dns.negative_ttl],
        soa_ttl: dns.ttl,
        ns_ttl: dns.ttl,
        records: all.into_iter().collect(),
        ..Zone::new(&dns.domain, &dns.soa_mname)
    }
}

fn framework_name(cluster: &Cluster<'_>, listing: &Listing, framework: &str, names: &mut Addresses) {
    let host = listing.framework_host.as_deref().and_then(|h| address(cluster, h));
    if let (Some(ip), false) = (host, framework.is_empty()) {
        add(names, framework.to_owned(), ip, true);
    }
}

fn add(names: &mut Addresses, name: String, ip: IpAddr, ok: bool) {
    let there = names.entry(name).or_default().entry(ip).or_default();
    *there |= ok;
}

/// The discovery name stands twice, as it is and as one label (A.2); each form alone, and with what sets the task apart.
fn task_names(
    cluster: &Cluster<'_>,
    task: &Task,
    framework: &str,
    rule: LabelRule,
    names: &mut Addresses,
    report: &mut Report,
) {
    let Some(slave) = task.slave.as_deref() else { return };
    let one = names::label(&task.name, rule);
    if one.is_empty() || framework.is_empty() {
        report.reject(Rejected::new(
            &task.id,
            "name",
            &task.name,
            "nothing of the task's or framework's name may stand in DNS",
        ));
        return;
    }
    let agent = address(cluster, &task.host);
    let own = task_addresses(cluster.config, task, agent);
    let ok = task.health.takes_new_flows();
    let mut forms = BTreeSet::from([one]);
    forms.extend(is_plain(&task.name).then(|| task.name.clone()));
    for form in forms {
        for name in [names::canonical(&form, &task.id, slave), form] {
            own.iter().for_each(|ip| add(names, format!("{name}.{framework}"), *ip, ok));
            agent.into_iter().for_each(|ip| add(names, format!("{name}.{framework}.slave"), ip, ok));
        }
    }
}

/// Whether a name may stand as it is: what else it might hold no client could ask for.
fn is_plain(name: &str) -> bool {
    let character = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    name.bytes().all(character) && names::is_servable(name)
}

fn address(cluster: &Cluster<'_>, host: &str) -> Option<IpAddr> {
    cluster.view.agent_address(host)
}

/// `dns.ip_sources`: the first that has an address wins. Mesos's and Docker's are not in what Marathon says.
fn task_addresses(config: &Config, task: &Task, agent: Option<IpAddr>) -> Vec<IpAddr> {
    let of = |source: &IpSource| match source {
        IpSource::Host => agent.into_iter().collect(),
        IpSource::NetInfo => task.ips.clone(),
        IpSource::Mesos | IpSource::Docker => Vec::new(),
    };
    config.dns.ip_sources.iter().map(of).find(|ips: &Vec<IpAddr>| !ips.is_empty()).unwrap_or_default()
}

/// The DC/OS tree relative to its apex: VIPs under `l4lb` and its older name `dclb`, tasks under `dcos`.
fn dcos_tree(cluster: &Cluster<'_>, services: &[Arc<Service>], report: &mut Report) -> Addresses {
    let mut tree = Addresses::new();
    // A named VIP that no backend is left of has no name (B.2).
    for service in services.iter().filter(|s| !s.backends.is_empty()) {
        if let Some(name) = &service.name {
            for zone in ["l4lb", "dclb"] {
                add(&mut tree, format!("{name}.{zone}"), service.key.ip, true);
            }
        }
    }
    for (source, listing) in &cluster.view.marathons {
        let framework = names::label(cluster.framework(*source), LabelRule::Rfc1123);
        for task in listing.tasks.iter().filter(|t| t.state == TaskState::Running) {
            dcos_task(cluster, task, &framework, &mut tree);
        }
    }
    tree.retain(|name, _| {
        let servable = names::is_servable(&format!("{name}.{}", DCOS_APEXES[0]));
        if !servable {
            report.reject(Rejected::new(
                "",
                "name",
                name,
                "longer than DNS allows: labels of 1 to 63 octets, 253 in all",
            ));
        }
        servable
    });
    tree
}

/// Health is not asked here: these names say where a task is (B.6).
fn dcos_task(cluster: &Cluster<'_>, task: &Task, framework: &str, tree: &mut Addresses) {
    let name = names::label(&task.name, LabelRule::Rfc1123);
    if name.is_empty() || framework.is_empty() {
        return;
    }
    let agent = address(cluster, &task.host);
    let mapped = task.ports.iter().any(|p| matches!(p.at, PortAt::Agent(_)));
    let auto: Vec<IpAddr> = if mapped || task.ips.is_empty() { agent.into_iter().collect() } else { task.ips.clone() };
    let kinds = [("agentip", agent.into_iter().collect()), ("containerip", task.ips.clone()), ("autoip", auto)];
    for (kind, ips) in kinds {
        ips.into_iter().for_each(|ip| add(tree, format!("{name}.{framework}.{kind}.dcos"), ip, true));
    }
}
