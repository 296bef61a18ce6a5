//! The zones, and the names that belong to no single task: masters, agents, frameworks, name servers, ZooKeeper.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_config::model::{DnsHealth, Masters, Origin, RecordData, Zone};

use super::super::Cluster;
use super::mesos_dns::Put;
use super::{Given, Plan, Standing, ZoneAt, address, reverse, rule};
use crate::mesos::facts::{Endpoint, Facts};
use crate::names;
use crate::static_zones;
use crate::view::joined;

/// The DC/OS tree, and its other apex.
const DCOS: &str = "thisdcos.directory";
const DCOS_ALIAS: &str = "thisdcos.global";
/// What the apex for the cluster's own id ends in.
const CLUSTER: &str = "dcos.directory";
/// The name server of all zones but `domain`.
const NS: &str = "ns.spartan";
/// SOA REFRESH, RETRY and EXPIRE of the DC/OS zones, and the TTL of their NS, seconds (B.2).
const TIMERS: [u32; 3] = [60, 180, 86_400];
const NS_TTL: u32 = 3600;
/// DC/OS names ZooKeeper's servers by these numbers whatever their count, round and round.
const ZK_NAMES: usize = 5;

/// The zones that there are. What was read of the operator's files stays while the configuration does.
pub(super) fn plan(cluster: &Cluster<'_>, before: Option<&Plan>) -> Plan {
    let dns = &cluster.config.dns;
    let [refresh, retry, expire] = TIMERS;
    let dcos_zone = |apex: &str| Zone {
        origin: Origin::Dcos,
        timers: [refresh, retry, expire, dns.negative_ttl_of_dcos()],
        soa_ttl: dns.dcos_ttl,
        ns_ttl: NS_TTL,
        ..Zone::new(apex, NS)
    };
    let domain = Zone {
        origin: Origin::Mesos,
        compat: dns.compat,
        rname: dns.soa_rname.clone(),
        timers: [dns.soa_refresh, dns.soa_retry, dns.soa_expire, dns.negative_ttl],
        soa_ttl: dns.ttl,
        ns_ttl: dns.ttl,
        ..Zone::new(&dns.domain, &dns.soa_mname)
    };
    let mut aliases = vec![DCOS_ALIAS.to_owned()];
    if !dns.cluster_id.is_empty() {
        aliases.push(format!("{}.{CLUSTER}", dns.cluster_id));
    }
    let renames = vec![(format!("dclb.{DCOS}"), format!("l4lb.{DCOS}"))];
    let dcos = Zone { aliases, renames, ..dcos_zone(DCOS) };
    let mut zones = vec![domain, dcos, dcos_zone("spartan"), dcos_zone("zk"), dcos_zone("localhost")];
    let reverse_zone = |apex: &str| Zone { origin: Origin::Reverse, ..dcos_zone(apex) };
    let reverse = reverse::Reverse::new(&cluster.config.vip, &cluster.networks, &mut zones, reverse_zone);
    let mut ttls: Vec<u32> = zones.iter().map(|_| dns.dcos_ttl).collect();
    let mut health: Vec<DnsHealth> = zones.iter().map(|_| DnsHealth::Ignore).collect();
    (ttls[0], health[0]) = (dns.ttl, dns.health);
    // The copy of `domain` goes by its health; all else there is always well.
    health[1] = dns.health;
    let own = match before {
        Some(before) => before.own.clone(),
        None => own_zones(cluster, &mut zones),
    };
    if let Some(before) = before {
        zones.extend(before.zones.iter().skip(zones.len()).cloned());
    }
    ttls.resize(zones.len(), dns.dcos_ttl);
    health.resize(zones.len(), DnsHealth::Ignore);
    let hosts = cluster.view.hosts.clone();
    Plan { zones, ttls, health, domain: 0, dcos: 1, spartan: 2, zk: 3, localhost: 4, reverse, own, hosts }
}

/// The operator's zones: those of an apex that is there already add to it.
fn own_zones(cluster: &Cluster<'_>, zones: &mut Vec<Zone>) -> Given {
    let mut given = Given::default();
    for zone in &cluster.config.dns.zones {
        let read = static_zones::read(zone, cluster.config, &mut given.rejected);
        let at = match zones.iter().position(|there| there.apex == read.apex) {
            Some(at) => at,
            None => {
                zones.push(Zone { records: Default::default(), ..read.clone() });
                zones.len() - 1
            }
        };
        for record in read.records.iter() {
            given.put(at as ZoneAt, record.name.clone(), record.data.clone(), Standing::Pinned(record.ttl));
        }
    }
    given
}

/// The names that belong to no single task.
pub(super) fn given(cluster: &Cluster<'_>, plan: &Plan) -> Given {
    let mut given = plan.own.clone();
    servers(cluster, plan, &mut given);
    if let Some(facts) = cluster.view.mesos.as_deref() {
        masters(cluster, plan, facts, &mut given);
        agents(cluster, facts, &mut Put::new(cluster, plan, &mut given));
    }
    frameworks(cluster, &mut Put::new(cluster, plan, &mut given));
    given
}

/// Name servers, ZooKeeper and the loopback.
fn servers(cluster: &Cluster<'_>, plan: &Plan, given: &mut Given) {
    let dns = &cluster.config.dns;
    for ip in dns.all_addresses() {
        given.put(plan.spartan, NS.to_owned(), address(ip), Standing::Well);
        if let Some(below) = dns.soa_mname.strip_suffix(&format!(".{}", dns.domain)) {
            Put::new(cluster, plan, given).ips(below, [&ip], Standing::Well);
        }
    }
    let loopback = RecordData::A(Ipv4Addr::LOCALHOST);
    given.put(plan.spartan, "ready.spartan".to_owned(), loopback.clone(), Standing::Well);
    given.put(plan.localhost, "localhost".to_owned(), loopback, Standing::Well);
    given.put(plan.localhost, "localhost".to_owned(), RecordData::Aaaa(Ipv6Addr::LOCALHOST), Standing::Well);
    let zk = cluster.config.mesos.as_ref().and_then(|mesos| match &mesos.masters {
        Masters::ZooKeeper { zk, .. } => Some(zk),
        Masters::Listed(_) => None,
    });
    let servers = zk.map_or(&[][..], |zk| &zk.servers);
    let count = if servers.is_empty() { 0 } else { ZK_NAMES.max(servers.len()) };
    for (number, server) in servers.iter().cycle().take(count).enumerate() {
        let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Some(ip) = cluster.view.agent_address(host) {
            given.put(plan.zk, format!("zk-{}.zk", number + 1), address(ip), Standing::Well);
        }
    }
}

/// `leader`, `master`, `masterN` by place in the list; a leader that is not in it comes last (A.2).
fn masters(cluster: &Cluster<'_>, plan: &Plan, facts: &Facts, given: &mut Given) {
    let ip = |endpoint: &Endpoint| cluster.view.agent_address(&endpoint.host);
    let Some(leader) = &facts.leader else { return };
    let Some(leader_ip) = ip(leader) else { return };
    let mut listed: Vec<&Endpoint> = Vec::new();
    for master in facts.masters.iter().chain([leader]) {
        if !listed.contains(&master) {
            listed.push(master);
        }
    }
    let all: Vec<(usize, IpAddr)> = listed.iter().enumerate().filter_map(|(n, m)| Some((n, ip(m)?))).collect();
    let apex = plan.zones.get(usize::from(plan.dcos)).map_or("", |zone| zone.apex.as_str());
    given.put(plan.dcos, format!("leader.dcos.{apex}"), address(leader_ip), Standing::Well);
    for (_, ip) in &all {
        given.put(plan.dcos, format!("master.dcos.{apex}"), address(*ip), Standing::Well);
    }
    let mut put = Put::new(cluster, plan, given);
    put.ips("leader", [&leader_ip], Standing::Well);
    for protocol in ["tcp", "udp"] {
        put.srv(&format!("_leader._{protocol}"), "leader", leader.port, Standing::Well);
    }
    for (number, ip) in &all {
        put.ips("master", [ip], Standing::Well);
        put.ips(&format!("master{number}"), [ip], Standing::Well);
    }
}

fn agents(cluster: &Cluster<'_>, facts: &Facts, put: &mut Put<'_>) {
    let mut ports = BTreeSet::new();
    for agent in facts.agents.values() {
        let host = agent.endpoint.as_ref().map_or(agent.hostname.as_str(), |endpoint| endpoint.host.as_str());
        put.ips("slave", &cluster.view.agent_address(host), Standing::Well);
        ports.extend(agent.endpoint.as_ref().map(|endpoint| endpoint.port));
    }
    for port in ports {
        put.srv("_slave._tcp", "slave", port, Standing::Well);
    }
}

/// Each by where its scheduler is; of a Marathon without Mesos its own word.
fn frameworks(cluster: &Cluster<'_>, put: &mut Put<'_>) {
    let rule = rule(cluster.config);
    for framework in cluster.view.mesos.iter().flat_map(|facts| &facts.frameworks) {
        let name = names::fragment(&framework.name, rule);
        if name.is_empty() {
            continue;
        }
        let host = framework.scheduler.as_ref().map_or(framework.hostname.as_str(), |s| s.host.as_str());
        put.ips(&name, &cluster.view.agent_address(host), Standing::Well);
        if let Some(scheduler) = &framework.scheduler {
            put.srv(&format!("_framework._tcp.{name}"), &name, scheduler.port, Standing::Well);
        }
    }
    for (source, listing) in cluster.view.marathons.iter().filter(|(source, _)| **source < joined::MESOS) {
        let name = names::fragment(cluster.framework(*source), rule);
        let known = |facts: &Facts| facts.frameworks.iter().any(|f| names::fragment(&f.name, rule) == name);
        if name.is_empty() || cluster.view.mesos.as_deref().is_some_and(known) {
            continue;
        }
        let host = listing.framework_host.as_deref().and_then(|host| cluster.view.agent_address(host));
        put.ips(&name, &host, Standing::Well);
    }
}
