//! Who contributes names, and what each gave: compared with what is known now, in order, so that what has not changed
//! costs a comparison.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sluice_config::model::{RecordData, Service, VipKey};

use super::super::Cluster;
use super::{Changes, Framework, Given, NamedTask, Plan, cluster, dcos, mesos_dns, reverse};
use crate::mesos::facts::{self, Facts};
use crate::rejected::Rejected;
use crate::view::{Listing, Task, TaskState};

/// What each gave.
#[derive(Debug, Default)]
pub(super) struct Contributors {
    /// Tasks of Mesos, by framework and id.
    mesos: Vec<(Arc<facts::Task>, MesosSeen, Given)>,
    /// Tasks of each source, in the order of their listing.
    listed: BTreeMap<usize, Source>,
    services: Vec<(Arc<Service>, Given)>,
    cluster: Given,
}

/// What a Mesos task's names hang on beside itself.
#[derive(Clone, PartialEq, Eq, Debug)]
struct MesosSeen {
    framework: Arc<facts::Framework>,
    agent: Arc<facts::Agent>,
    is_well: bool,
    /// Whether a later word than Mesos's has it that it does not run.
    is_over: bool,
}

/// A listing, and for each of its tasks what it gave.
#[derive(Debug, Default)]
struct Source {
    listing: Arc<Listing>,
    framework: String,
    given: Vec<(Listed, Given)>,
}

/// Whether Mesos itself tells of a task, so that its names under `domain` are made of that.
type Listed = bool;

impl Contributors {
    pub(super) fn update(
        &mut self,
        cluster: &Cluster<'_>,
        plan: &Plan,
        services: &[Arc<Service>],
        changes: &mut Changes,
    ) {
        let known = Known::of(cluster);
        self.mesos(cluster, plan, &known, changes);
        self.listings(cluster, plan, &known, changes);
        self.services(plan, services, changes);
        let now = cluster::given(cluster, plan);
        changes.swap(std::mem::replace(&mut self.cluster, now), &self.cluster);
    }

    pub(super) fn rejected(&self) -> impl Iterator<Item = &Rejected> {
        let mesos = self.mesos.iter().map(|(_, _, given)| given);
        let listed = self.listed.values().flat_map(|source| source.given.iter().map(|(_, given)| given));
        let services = self.services.iter().map(|(_, given)| given);
        mesos.chain(listed).chain(services).chain([&self.cluster]).flat_map(|given| &given.rejected)
    }

    fn mesos(&mut self, cluster: &Cluster<'_>, plan: &Plan, known: &Known<'_>, changes: &mut Changes) {
        let before = std::mem::take(&mut self.mesos);
        let key = |task: &facts::Task| (task.framework.clone(), task.id.clone());
        let order = |a: &facts::Task, b: &facts::Task| (&a.framework, &a.id).cmp(&(&b.framework, &b.id));
        let mut now: Vec<(Arc<facts::Task>, MesosSeen)> = known.mesos_tasks().collect();
        now.sort_by(|(a, _), (b, _)| order(a, b));
        let mut old = before.into_iter().peekable();
        for (task, seen) in now {
            while let Some((_, _, given)) = old.next_if(|(before, _, _)| order(before, &task) == Ordering::Less) {
                changes.gone(given);
            }
            let same_id = old.next_if(|(before, _, _)| order(before, &task) == Ordering::Equal);
            let given = match same_id {
                Some((before, had, given)) if (Arc::ptr_eq(&before, &task) || before == task) && had == seen => given,
                other => {
                    let given = if seen.is_over {
                        Given::default()
                    } else {
                        mesos_dns::of_mesos(cluster, plan, &task, &seen.framework, &seen.agent, seen.is_well)
                    };
                    changes.swap(other.map(|(_, _, given)| given).unwrap_or_default(), &given);
                    given
                }
            };
            self.mesos.push((task, seen, given));
        }
        old.for_each(|(_, _, given)| changes.gone(given));
        debug_assert!(self.mesos.is_sorted_by_key(|(task, _, _)| key(task)));
    }

    fn listings(&mut self, cluster: &Cluster<'_>, plan: &Plan, known: &Known<'_>, changes: &mut Changes) {
        let mut before = std::mem::take(&mut self.listed);
        for (source, listing) in &cluster.view.marathons {
            let framework = cluster.framework(*source).to_owned();
            let old = before.remove(source).unwrap_or_default();
            self.listed.insert(*source, next(cluster, plan, known, old, (listing, framework), changes));
        }
        for gone in before.into_values().flat_map(|source| source.given) {
            changes.gone(gone.1);
        }
    }

    fn services(&mut self, plan: &Plan, services: &[Arc<Service>], changes: &mut Changes) {
        let before = std::mem::take(&mut self.services);
        let mut old = before.into_iter().peekable();
        let key = |service: &Service| -> VipKey { service.key };
        for service in services {
            while let Some((_, given)) = old.next_if(|(before, _)| key(before) < key(service)) {
                changes.gone(given);
            }
            let given = match old.next_if(|(before, _)| key(before) == key(service)) {
                Some((before, given)) if Arc::ptr_eq(&before, service) => given,
                other => {
                    let given = reverse::of_service(plan, service);
                    changes.swap(other.map(|(_, given)| given).unwrap_or_default(), &given);
                    given
                }
            };
            self.services.push((Arc::clone(service), given));
        }
        old.for_each(|(_, given)| changes.gone(given));
    }
}

/// What a source gives now: both listings are sorted by task id.
fn next(
    cluster: &Cluster<'_>,
    plan: &Plan,
    known: &Known<'_>,
    old: Source,
    (listing, framework): (&Arc<Listing>, String),
    changes: &mut Changes,
) -> Source {
    let same_framework = old.framework == framework;
    let mut given = Vec::with_capacity(listing.tasks.len());
    let mut before = old.listing.tasks.iter().zip(old.given).peekable();
    for task in &listing.tasks {
        while let Some((_, (_, gone))) = before.next_if(|(was, _)| was.id < task.id) {
            changes.gone(gone);
        }
        let of_mesos = known.has(task);
        let one = match before.next_if(|(was, _)| was.id == task.id) {
            Some((was, (was_of_mesos, had))) if same_framework && was_of_mesos == of_mesos && was == task => had,
            other => {
                let mut now = Given::default();
                if task.state == TaskState::Running {
                    dcos::of_task(cluster, plan, task, &framework, &mut now);
                    if !of_mesos {
                        mesos_dns::of_marathon(cluster, plan, task, &framework, &mut now);
                    }
                }
                changes.swap(other.map(|(_, (_, had))| had).unwrap_or_default(), &now);
                now
            }
        };
        given.push((of_mesos, one));
    }
    before.for_each(|(_, (_, gone))| changes.gone(gone));
    Source { listing: Arc::clone(listing), framework, given }
}

/// What Mesos and the listings say of each other.
struct Known<'a> {
    facts: Option<&'a Facts>,
    /// Ids of the tasks that Mesos tells of.
    ids: HashSet<&'a str>,
    /// The listed tasks by id.
    listed: HashMap<&'a str, &'a Task>,
    frameworks: BTreeMap<&'a str, &'a Arc<facts::Framework>>,
}

impl<'a> Known<'a> {
    fn of(cluster: &Cluster<'a>) -> Self {
        let facts = cluster.view.mesos.as_deref();
        let listed = || cluster.view.marathons.values().flat_map(|listing| &listing.tasks);
        Self {
            facts,
            ids: facts.into_iter().flat_map(|f| f.tasks.iter().map(|task| task.id.as_str())).collect(),
            listed: match facts {
                Some(_) => listed().map(|task| (task.id.as_str(), &**task)).collect(),
                None => HashMap::new(),
            },
            frameworks: facts.map(Facts::frameworks_by_id).unwrap_or_default(),
        }
    }

    fn has(&self, task: &Task) -> bool {
        self.ids.contains(task.id.as_str())
    }

    /// Running tasks whose framework and agent are known: the others have no names yet.
    fn mesos_tasks(&self) -> impl Iterator<Item = (Arc<facts::Task>, MesosSeen)> + '_ {
        let facts = self.facts.into_iter();
        let tasks = facts.flat_map(|f| f.tasks.iter().map(move |task| (f, task)));
        tasks.filter(|(_, task)| task.state == TaskState::Running).filter_map(|(facts, task)| {
            let listed = self.listed.get(task.id.as_str());
            let health = listed.map_or(task.health, |listed| listed.health);
            let seen = MesosSeen {
                framework: Arc::clone(self.frameworks.get(task.framework.as_str())?),
                agent: Arc::clone(facts.agents.get(&task.agent)?),
                is_well: health.takes_new_flows(),
                is_over: listed.is_some_and(|listed| listed.state != TaskState::Running),
            };
            Some((Arc::clone(task), seen))
        })
    }
}

/// The records under `domain` of what is given.
fn under_domain(plan: &Plan, given: &Given) -> Vec<(String, RecordData)> {
    let facts = given.facts.iter().filter(|fact| fact.zone == plan.domain);
    facts.map(|fact| (fact.name.clone(), fact.data.clone())).collect()
}

/// See [`super::enumerate`].
pub(super) fn of_mesos(cluster: &Cluster<'_>, plan: &Plan, facts: &Facts) -> Vec<Framework> {
    let mut of_framework: BTreeMap<&str, Vec<NamedTask>> = BTreeMap::new();
    let frameworks = facts.frameworks_by_id();
    for task in facts.tasks.iter().filter(|task| task.state == TaskState::Running) {
        let (Some(framework), Some(agent)) = (frameworks.get(task.framework.as_str()), facts.agents.get(&task.agent))
        else {
            continue;
        };
        let given = mesos_dns::of_mesos(cluster, plan, task, framework, agent, true);
        of_framework.entry(&task.framework).or_default().push(NamedTask {
            name: task.name.clone(),
            id: task.id.clone(),
            records: under_domain(plan, &given),
        });
    }
    let one = |framework: &Arc<facts::Framework>| Framework {
        name: framework.name.clone(),
        tasks: of_framework.remove(framework.id.as_str()).unwrap_or_default(),
    };
    facts.frameworks.iter().map(one).collect()
}

/// The same where there is no Mesos.
pub(super) fn of_marathons(cluster: &Cluster<'_>, plan: &Plan) -> Vec<Framework> {
    let of = |source: &usize, listing: &Arc<Listing>| {
        let name = cluster.framework(*source).to_owned();
        let running = listing.tasks.iter().filter(|task| task.state == TaskState::Running);
        let task = |task: &Arc<Task>| {
            let mut given = Given::default();
            mesos_dns::of_marathon(cluster, plan, task, &name, &mut given);
            NamedTask { name: task.name.clone(), id: task.id.clone(), records: under_domain(plan, &given) }
        };
        let tasks = running.map(task).collect();
        Framework { name, tasks }
    };
    cluster.view.marathons.iter().map(|(source, listing)| of(source, listing)).collect()
}
