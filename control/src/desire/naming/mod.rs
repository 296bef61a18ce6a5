//! Names: zones out of what is known of tasks, services, frameworks, agents and masters (facts/dcos.md A, B.2, B.6).
//!
//! Each of them contributes [`Fact`]s: a name, a record, and whether anything speaks against whom it leads to. Who gave
//! which is remembered, so that a change of one task costs a look at the others and the making of its own names alone.
//! Facts of one name are judged together ([`Holder`]), and equal ones are one record. A table made of facts that came one
//! after the other is the table of all of them at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sluice_config::model::{Config, DnsHealth, Record, RecordData, Service, Zone};

use super::Cluster;
use crate::names;
use crate::rejected::Rejected;
use crate::view::ClusterView;

mod cluster;
mod dcos;
mod mesos_dns;
mod reverse;
mod sources;
#[cfg(test)]
pub(crate) mod tests;

use sources::Contributors;

/// The names of a cluster, apart from what packets need: a service is to be there before its name is (dcos-net#130).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names {
    /// [`sluice_config::model::Shared::zones`].
    pub zones: Arc<Vec<Zone>>,
    /// What has no name, and why.
    pub rejected: Vec<Rejected>,
}

/// A zone of those that Sluice makes, by its place in [`Plan::zones`].
type ZoneAt = u16;

/// One record that somebody gives a name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fact {
    zone: ZoneAt,
    /// Absolute, without the final dot.
    name: String,
    data: RecordData,
    standing: Standing,
}

/// What is known of whom a record leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Standing {
    /// Its health checks speak against it.
    Unwell,
    /// Nothing does, or nobody asks.
    Well,
    /// The operator's own word, which goes before everybody's ([`Config`]'s static zones), with its TTL.
    Pinned(u32),
}

/// What one contributor gives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Given {
    facts: Arc<Vec<Fact>>,
    rejected: Vec<Rejected>,
}

impl Given {
    /// Takes a name in, or lists it when no question can ask for it.
    fn put(&mut self, zone: ZoneAt, name: String, data: RecordData, standing: Standing) {
        if names::is_servable(&name) {
            Arc::make_mut(&mut self.facts).push(Fact { zone, name, data, standing });
        } else {
            let reason = "longer than DNS allows: labels of 1 to 63 octets, 253 in all";
            self.rejected.push(Rejected::new("", "name", &name, reason));
        }
    }
}

/// Everything that is said of one name.
#[derive(Clone, Debug, Default)]
struct Holder {
    /// With how often it is said, by standing: unwell and well.
    said: BTreeMap<RecordData, [u32; 2]>,
    pinned: BTreeMap<RecordData, (u32, u32)>,
}

impl Holder {
    fn is_empty(&self) -> bool {
        self.said.is_empty() && self.pinned.is_empty()
    }

    fn add(&mut self, data: &RecordData, standing: Standing) {
        match standing {
            Standing::Unwell => self.said.entry(data.clone()).or_default()[0] += 1,
            Standing::Well => self.said.entry(data.clone()).or_default()[1] += 1,
            Standing::Pinned(ttl) => self.pinned.entry(data.clone()).or_insert((ttl, 0)).1 += 1,
        }
    }

    fn take(&mut self, data: &RecordData, standing: Standing) {
        match standing {
            Standing::Pinned(_) => {
                let left = self.pinned.get_mut(data).map(|(_, times)| {
                    *times = times.saturating_sub(1);
                    *times
                });
                if left == Some(0) {
                    self.pinned.remove(data);
                }
            }
            Standing::Unwell | Standing::Well => {
                let index = usize::from(standing == Standing::Well);
                if let Some(times) = self.said.get_mut(data) {
                    times[index] = times[index].saturating_sub(1);
                    if *times == [0, 0] {
                        self.said.remove(data);
                    }
                }
            }
        }
    }

    /// Whether an operator's record stands in the way of what the cluster says.
    fn conflicts(&self, data: &RecordData) -> bool {
        let same = |pinned: &RecordData| pinned.mnemonic() == data.mnemonic() || matches!(pinned, RecordData::Cname(_));
        self.pinned.keys().any(same)
    }

    fn records(&self, name: &str, ttl: u32, health: DnsHealth) -> Vec<Record> {
        let any_well = self.said.values().any(|[_, well]| *well > 0);
        let shown = |[_, well]: &[u32; 2]| match health {
            DnsHealth::Ignore => true,
            DnsHealth::Require => *well > 0,
            DnsHealth::Prefer => *well > 0 || !any_well,
        };
        let record = |ttl, data: &RecordData| Record { name: name.to_owned(), ttl, data: data.clone() };
        let said = self.said.iter().filter(|(data, times)| shown(times) && !self.conflicts(data));
        let said = said.map(|(data, _)| record(ttl, data));
        said.chain(self.pinned.iter().map(|(data, (ttl, _))| record(*ttl, data))).collect()
    }
}

/// What makes names, with what it made last.
#[derive(Debug, Default)]
pub struct Naming {
    /// What zones there are depends on this; with another one all begins anew.
    plan: Option<Plan>,
    contributors: Contributors,
    holders: HashMap<ZoneAt, HashMap<String, Holder>>,
    names: Names,
}

/// The zones that Sluice makes, without records, and how their records are.
#[derive(Clone, PartialEq, Debug)]
struct Plan {
    zones: Vec<Zone>,
    /// TTL of each zone's records.
    ttls: Vec<u32>,
    /// What health does in each.
    health: Vec<DnsHealth>,
    domain: ZoneAt,
    dcos: ZoneAt,
    spartan: ZoneAt,
    zk: ZoneAt,
    localhost: ZoneAt,
    reverse: reverse::Reverse,
    /// The operator's own zones, and what of theirs could not be read.
    own: Given,
    hosts: BTreeMap<String, std::net::Ipv4Addr>,
}

impl Naming {
    /// The names of what is known, `services` among it.
    pub(super) fn make(&mut self, cluster: &Cluster<'_>, services: &[Arc<Service>]) -> &Names {
        if !cluster.config.dns.is_on() {
            *self = Self::default();
            return &self.names;
        }
        let mut plan = cluster::plan(cluster, self.plan.as_ref());
        if self.plan.as_ref() != Some(&plan) {
            *self = Self::default();
            plan = cluster::plan(cluster, None);
        }
        let mut changes = Changes::default();
        self.contributors.update(cluster, &plan, services, &mut changes);
        self.settle(&plan, changes);
        self.plan = Some(plan);
        &self.names
    }

    fn settle(&mut self, plan: &Plan, changes: Changes) {
        let mut dirty: HashSet<(ZoneAt, &str)> = HashSet::new();
        for (facts, is_new) in &changes.0 {
            for fact in facts.iter() {
                let holders = self.holders.entry(fact.zone).or_default();
                match holders.get_mut(&fact.name) {
                    Some(holder) if *is_new => holder.add(&fact.data, fact.standing),
                    Some(holder) => holder.take(&fact.data, fact.standing),
                    None if *is_new => {
                        let mut holder = Holder::default();
                        holder.add(&fact.data, fact.standing);
                        holders.insert(fact.name.clone(), holder);
                    }
                    None => {}
                }
                dirty.insert((fact.zone, &fact.name));
            }
        }
        let mut replaced: BTreeMap<ZoneAt, Vec<(String, Vec<Record>)>> = BTreeMap::new();
        for (zone, name) in dirty {
            let at = usize::from(zone);
            let (ttl, health) =
                (plan.ttls.get(at).copied().unwrap_or(0), plan.health.get(at).copied().unwrap_or_default());
            let Some(holders) = self.holders.get_mut(&zone) else { continue };
            let records = holders.get(name).map_or_else(Vec::new, |holder| holder.records(name, ttl, health));
            if holders.get(name).is_some_and(Holder::is_empty) {
                holders.remove(name);
            }
            replaced.entry(zone).or_default().push((name.to_owned(), records));
        }
        if self.plan.is_none() {
            self.names.zones = Arc::new(plan.zones.clone());
        }
        if !replaced.is_empty() {
            let zones = Arc::make_mut(&mut self.names.zones);
            for (at, changes) in replaced {
                if let Some(zone) = zones.get_mut(usize::from(at)) {
                    zone.records.replace(changes);
                }
            }
        }
        self.names.rejected = self.rejected(plan);
    }

    /// What contributors could not name, and the cluster's records that the operator's stand in the way of.
    fn rejected(&self, plan: &Plan) -> Vec<Rejected> {
        let mut all: Vec<Rejected> = self.contributors.rejected().cloned().collect();
        for fact in plan.own.facts.iter() {
            let Some(holder) = self.holders.get(&fact.zone).and_then(|zone| zone.get(&fact.name)) else { continue };
            for data in holder.said.keys().filter(|data| holder.conflicts(data)) {
                let value = format!("{} {} {data}", fact.name, data.mnemonic());
                all.push(Rejected::new(
                    "",
                    "name",
                    &value,
                    "a record of [[dns.zone]] of the same name is answered instead",
                ));
            }
        }
        all.sort();
        all.dedup();
        all
    }
}

/// Facts that come (`true`) and go.
#[derive(Debug, Default)]
struct Changes(Vec<(Arc<Vec<Fact>>, bool)>);

impl Changes {
    fn swap(&mut self, old: Given, new: &Given) {
        if old.facts != new.facts {
            self.gone(old);
            self.0.push((Arc::clone(&new.facts), true));
        }
    }

    fn gone(&mut self, old: Given) {
        self.0.push((old.facts, false));
    }
}

/// The records under `domain` that each running task gives, by framework, in the order in which they are told.
#[must_use]
pub fn enumerate(config: &Config, view: &ClusterView) -> Vec<Framework> {
    let mut config = config.clone();
    // Those are no task's.
    config.dns.zones.clear();
    let cluster = Cluster::new(&config, view);
    let plan = cluster::plan(&cluster, None);
    match view.mesos.as_deref() {
        Some(facts) => sources::of_mesos(&cluster, &plan, facts),
        None => sources::of_marathons(&cluster, &plan),
    }
}

/// A framework, as [`enumerate`] tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Framework {
    /// Its name as it is.
    pub name: String,
    /// Its running tasks.
    pub tasks: Vec<NamedTask>,
}

/// A task with its records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedTask {
    /// Its name as it is.
    pub name: String,
    /// Mesos task id.
    pub id: String,
    /// Names under `domain` with what they answer.
    pub records: Vec<(String, RecordData)>,
}

/// What is said of tasks by their health, for names under `domain`.
fn standing(is_well: bool) -> Standing {
    if is_well { Standing::Well } else { Standing::Unwell }
}

fn address(ip: std::net::IpAddr) -> RecordData {
    match ip {
        std::net::IpAddr::V4(ip) => RecordData::A(ip),
        std::net::IpAddr::V6(ip) => RecordData::Aaaa(ip),
    }
}

/// The label rule of a configuration.
fn rule(config: &Config) -> names::LabelRule {
    if config.dns.enforce_rfc952 { names::LabelRule::Rfc952 } else { names::LabelRule::Rfc1123 }
}
