//! What was served last, so that a change costs what it touches: [`Serving::serve`] gives what [`super::serve`] gives.
//!
//! Apps hang together by the VIPs that they share. Where the listing of a Marathon is all that changed, the apps of the
//! changed tasks, and those that hang together with them, are desired anew by themselves, and the rest stays. Whatever
//! could reach further is desired as a whole: an address that is both asked for and somebody's place, a limit that is
//! near, `vip.sharing = "owner"`, another node, network or agent, another word of a probe, a drain or the packet path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sluice_config::model::{Config, Desired, Local, Service, Services, Sharing, VipKey};

use super::index::{App, AppId, Index};
use super::services::Links;
use super::{Claims, Cluster, Report, containers, served};
use crate::mesos::facts::Facts;
use crate::rejected::Rejected;
use crate::view::{ClusterView, Listing, Task};

/// Apps that may be desired by themselves: more are as dear as all.
const APPS_MAX: usize = 256;

/// What was served last.
#[derive(Debug, Default)]
pub struct Serving {
    last: Option<Last>,
    /// Listings that are over: taking one of many tasks apart costs more than a change does ([`Serving::tidy`]).
    pub(super) over: Vec<Arc<Listing>>,
}

#[derive(Debug)]
struct Last {
    view: ClusterView,
    desired: Desired,
    /// Without what listings themselves say of what could not be read.
    report: Report,
    links: Links,
    index: Index,
    /// Backends of all services.
    backends: usize,
}

/// Apps whose tasks are not as they were, with the ids of those tasks.
type Changed = BTreeMap<AppId, BTreeSet<String>>;

impl Serving {
    /// As [`super::serve`], of the same configuration every time; `claims` are settled with the report before.
    pub fn serve(
        &mut self,
        config: &Config,
        view: &ClusterView,
        claims: &Claims,
        local: &Local,
        hash_key: [u8; 16],
    ) -> (Desired, Report) {
        let cluster = Cluster::new(config, view);
        let mut last = self.last.take().filter(|last| last.desired.shared.hash_key == hash_key);
        let patched = last.as_mut().and_then(|last| last.patch(&cluster, claims, local));
        let last = match (last, patched) {
            (Some(last), Some(listings)) => {
                self.over.extend(listings);
                last
            }
            (last, _) => {
                let (mut desired, report, links) = served(&cluster, claims, local, hash_key);
                if let Some(last) = last {
                    desired.shared.services = kept(&last.desired.shared.services, &desired.shared.services);
                }
                let index = Index::of(&cluster, &links);
                let backends = desired.shared.services.iter().map(|s| s.backends.len()).sum();
                Last { view: view.clone(), desired, report, links, index, backends }
            }
        };
        let (desired, mut report) = (last.desired.clone(), last.report.clone());
        report.heard(&cluster);
        self.last = Some(last);
        (desired, report)
    }

    /// Lets go of what is over, once the change is published.
    pub fn tidy(&mut self) {
        self.over.clear();
    }
}

/// Apps that hang together, before and after a change.
struct Part {
    apps: BTreeSet<AppId>,
    before: Vec<App>,
    after: BTreeMap<AppId, App>,
    view: ClusterView,
}

impl Last {
    /// Takes the changes of listings in, and gives the listings before; `None`, with nothing touched, where that cannot be
    /// told apart from the rest.
    fn patch(&mut self, cluster: &Cluster<'_>, claims: &Claims, local: &Local) -> Option<Vec<Arc<Listing>>> {
        let changed = self.changed(cluster, local)?;
        if !changed.is_empty() {
            let part = self.part(cluster, &changed)?;
            let (desired, report, links) = self.desire(cluster, claims, local, &part)?;
            self.put(cluster, &part, &desired, report, links)?;
        }
        self.desired.local.clone_from(local);
        self.view.mesos.clone_from(&cluster.view.mesos);
        let before = std::mem::replace(&mut self.view.marathons, cluster.view.marathons.clone());
        Some(before.into_values().collect())
    }

    /// The apps of tasks that are not as they were, where nothing else has changed.
    fn changed(&self, cluster: &Cluster<'_>, local: &Local) -> Option<Changed> {
        let (now, before) = (cluster.view, &self.view);
        let same = cluster.config.vip.sharing == Sharing::Union
            && !self.report.cut()
            && before.hosts == now.hosts
            && before.overlay == now.overlay
            && before.health == now.health
            && before.marathons.len() == now.marathons.len()
            && same_members(before.mesos.as_deref(), now.mesos.as_deref())
            && Local { soa_serial: self.desired.local.soa_serial, ..local.clone() } == self.desired.local;
        if !same {
            return None;
        }
        let mut changed = Changed::new();
        for (source, listing) in &now.marathons {
            let known = before.marathons.get(source)?;
            if Arc::ptr_eq(known, listing) {
                continue;
            }
            if (&known.framework, &known.framework_host) != (&listing.framework, &listing.framework_host) {
                return None;
            }
            let mut found = |task: &Task| {
                changed.entry((*source, task.app.clone())).or_default().insert(task.id.clone());
            };
            differing(&known.tasks, &listing.tasks, &mut found);
            differing(&known.idle, &listing.idle, &mut found);
            if changed.len() > APPS_MAX {
                return None;
            }
        }
        Some(changed)
    }

    /// These apps, and all that share a VIP with one of them before or after; what is refused is told of by task, which
    /// two Marathons may call alike.
    fn part(&self, cluster: &Cluster<'_>, changed: &Changed) -> Option<Part> {
        let mut apps: BTreeSet<AppId> = changed.keys().cloned().collect();
        loop {
            let view = self.only(cluster, &apps, changed);
            let after = Index::apps(cluster, &view);
            let keys = apps.iter().filter_map(|app| self.index.apps.get(app)).flat_map(|app| &app.keys);
            let asked = after.values().flat_map(|app| app.asks_for(&self.report));
            let keys: BTreeSet<VipKey> = keys.copied().chain(asked).collect();
            let sources = || cluster.view.marathons.keys();
            let mut all: BTreeSet<AppId> =
                apps.iter().flat_map(|(_, app)| sources().map(move |s| (*s, app.clone()))).collect();
            all.extend(keys.iter().filter_map(|key| self.links.get(key)).flatten().cloned());
            if all.len() > APPS_MAX {
                return None;
            }
            if all == apps {
                let before = apps.iter().filter_map(|app| self.index.apps.get(app)).cloned().collect();
                return Some(Part { apps, before, after, view });
            }
            apps = all;
        }
    }

    /// The view with the tasks of these apps alone: those that they had and have still, and those that changed.
    fn only(&self, cluster: &Cluster<'_>, apps: &BTreeSet<AppId>, changed: &Changed) -> ClusterView {
        let view = cluster.view;
        let mut part = ClusterView {
            hosts: view.hosts.clone(),
            overlay: view.overlay.clone(),
            health: view.health.clone(),
            mesos: view.mesos.clone(),
            ..ClusterView::default()
        };
        part.overlay.rejected.clear();
        part.overlay.leased.rejected.clear();
        for (source, listing) in &view.marathons {
            let of = |tasks: &[Arc<Task>]| {
                let mut found: Vec<Arc<Task>> = Vec::new();
                for app in apps.iter().filter(|(of, _)| of == source) {
                    let had = self.index.apps.get(app).map(|app| &app.tasks);
                    let ids: BTreeSet<&String> = had.into_iter().chain(changed.get(app)).flatten().collect();
                    let now = ids.into_iter().flat_map(|id| of_id(tasks, id));
                    found.extend(now.filter(|task| task.app == app.1).cloned());
                }
                found.sort();
                found
            };
            let listing = Listing {
                framework: listing.framework.clone(),
                framework_host: listing.framework_host.clone(),
                tasks: of(&listing.tasks),
                idle: of(&listing.idle),
                ..Listing::default()
            };
            part.marathons.insert(*source, Arc::new(listing));
        }
        part
    }

    /// What the part alone desires, where it is what it would desire among all.
    fn desire(
        &self,
        cluster: &Cluster<'_>,
        claims: &Claims,
        local: &Local,
        part: &Part,
    ) -> Option<(Desired, Report, Links)> {
        let all = || part.before.iter().chain(part.after.values());
        let clash = |app: &App| {
            // A place that a label asks for, or that is a VIP, is a matter between apps.
            let place = |ip: &IpAddr| self.index.places.has(ip) || part.after.values().any(|a| a.places.contains(ip));
            app.asked.iter().any(place)
                || app.places.iter().any(|ip| self.index.asked.has(ip) || self.index.vips.has(ip))
        };
        if all().any(clash) {
            return None;
        }
        let vip = &cluster.config.vip;
        let named = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => vip.named.contains(ip),
            IpAddr::V6(ip) => vip.named6.contains(ip),
        };
        let alone = Cluster::new(cluster.config, &part.view);
        let run = |claims: &Claims| served(&alone, claims, local, self.desired.shared.hash_key);
        let names: BTreeSet<&String> = all().flat_map(|app| &app.names).collect();
        let own = claims.only(names.iter().copied());
        if !all().flat_map(|app| &app.asked).any(named) {
            let (desired, report, links) = run(&own);
            // Names that have their addresses already do not look at other names.
            let known = report.named.iter().all(|(name, ip)| own.named.get(name).is_some_and(|c| c.holds == *ip))
                && report.named6.iter().all(|(name, ip)| own.named6.get(name).is_some_and(|c| c.holds == *ip));
            if known {
                return Some((desired, report, links));
            }
        }
        Some(run(claims))
    }

    /// Puts the part's word in the place of its last one.
    fn put(
        &mut self,
        cluster: &Cluster<'_>,
        part: &Part,
        desired: &Desired,
        report: Report,
        links: Links,
    ) -> Option<()> {
        let keys: BTreeSet<VipKey> =
            part.before.iter().flat_map(|app| &app.keys).chain(links.keys()).copied().collect();
        let reaches =
            |key: &VipKey| self.index.places.has(&key.ip) || self.index.asked.has(&key.ip) && is_named(key, &report);
        if keys.iter().any(reaches) || self.other_families(part, &report) || !self.elsewhere(part, &report) {
            return None;
        }
        let (services, gone, come) = merged(&self.desired.shared.services, &desired.shared.services, &keys);
        let limits = &cluster.config.limits;
        let backends = (self.backends + come).saturating_sub(gone);
        let limited = |r: &Rejected| r.reason.starts_with("limits.");
        if services.len() > limits.services || backends > limits.backends || self.report.rejected.iter().any(limited) {
            return None;
        }
        if part.before.iter().chain(part.after.values()).any(|app| app.grouped) {
            self.desired.shared.containers = containers(cluster);
        }
        self.index.replace(&part.before, &part.after, &part.apps, &links);
        self.desired.shared.services = services;
        self.backends = backends;
        self.report.replace(&self.index, part, &keys, report);
        keys.iter().for_each(|key| drop(self.links.remove(key)));
        self.links.extend(links);
        Some(())
    }

    /// Whether a name that others have too gets an address of another family.
    fn other_families(&self, part: &Part, report: &Report) -> bool {
        let names: BTreeSet<&String> = part.before.iter().chain(part.after.values()).flat_map(|a| &a.names).collect();
        names.into_iter().any(|name| {
            let here = part.before.iter().filter(|app| app.names.contains(name)).count();
            let others = self.index.names.count(name) > here;
            others
                && part.after.values().any(|app| app.names.contains(name))
                && (self.report.named.get(name), self.report.named6.get(name))
                    != (report.named.get(name), report.named6.get(name))
        })
    }

    /// Whether the networks that apps name for addresses outside every overlay stay as they are.
    fn elsewhere(&self, part: &Part, report: &Report) -> bool {
        let of_part = |ip: &IpAddr| part.before.iter().any(|app| app.places.contains(ip));
        let before = self.report.other_networks.iter().filter(|(ip, _)| of_part(ip));
        before.eq(report.other_networks.iter())
    }
}

/// Whether masters and agents, whose addresses no label gets, are who they were.
fn same_members(before: Option<&Facts>, now: Option<&Facts>) -> bool {
    match (before, now) {
        (Some(a), Some(b)) => (&a.leader, &a.masters, &a.agents) == (&b.leader, &b.masters, &b.agents),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn is_named(key: &VipKey, report: &Report) -> bool {
    report.named.values().any(|ip| IpAddr::V4(*ip) == key.ip)
        || report.named6.values().any(|ip| IpAddr::V6(*ip) == key.ip)
}

impl Report {
    /// Takes a part's word in place of what was said of these apps and VIPs before.
    fn replace(&mut self, index: &Index, part: &Part, keys: &BTreeSet<VipKey>, of_part: Self) {
        let tasks: BTreeSet<&String> = part.before.iter().flat_map(|app| &app.tasks).collect();
        let shown: BTreeSet<String> = keys.iter().map(ToString::to_string).collect();
        let of_key = |r: &Rejected| shown.iter().any(|key| r.value == *key || r.value.ends_with(&format!(" of {key}")));
        self.rejected.retain(|r| if r.task.is_empty() { !of_key(r) } else { !tasks.contains(&r.task) });
        self.rejected.extend(of_part.rejected.into_iter().filter(|r| !r.task.is_empty() || of_key(r)));
        let gone = part.before.iter().flat_map(|app| &app.names).filter(|name| index.names.count(name) == 0);
        let gone: Vec<&String> = gone.collect();
        put(&mut self.named, &gone, of_part.named);
        put(&mut self.named6, &gone, of_part.named6);
        for (all, of_part) in [(&mut self.fail_open, of_part.fail_open), (&mut self.mixed_groups, of_part.mixed_groups)]
        {
            all.retain(|key| !keys.contains(key));
            all.extend(of_part.into_iter().filter(|key| keys.contains(key)));
            all.sort_unstable();
        }
        self.judged.retain(|(key, _), _| !keys.contains(key));
        self.judged.extend(of_part.judged.into_iter().filter(|((key, _), _)| keys.contains(key)));
        self.removed.retain(|(key, _), _| !keys.contains(key));
        self.removed.extend(of_part.removed.into_iter().filter(|((key, _), _)| keys.contains(key)));
    }
}

/// Names that changed in a list that others hold too are another list.
fn put<A: Copy + Eq>(all: &mut Arc<BTreeMap<String, A>>, gone: &[&String], of_part: Arc<BTreeMap<String, A>>) {
    let same =
        gone.iter().all(|name| !all.contains_key(*name)) && of_part.iter().all(|(name, ip)| all.get(name) == Some(ip));
    if same {
        return;
    }
    let all = Arc::make_mut(all);
    for name in gone {
        all.remove(*name);
    }
    all.extend(Arc::unwrap_or_clone(of_part));
}

/// Calls `found` with every task that is in one of two sorted lists alone.
fn differing(before: &[Arc<Task>], after: &[Arc<Task>], mut found: impl FnMut(&Task)) {
    let (mut a, mut b) = (before.iter().peekable(), after.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            // Nearly all: neither is looked at.
            (Some(x), Some(y)) if Arc::ptr_eq(x, y) => {
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x.id == y.id => {
                if x != y {
                    found(x);
                    found(y);
                }
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x.id > y.id => {
                found(y);
                b.next();
            }
            (Some(x), _) => {
                found(x);
                a.next();
            }
            (None, Some(y)) => {
                found(y);
                b.next();
            }
            (None, None) => return,
        }
    }
}

/// Every task of this id, of a list that is sorted by it.
fn of_id<'a>(tasks: &'a [Arc<Task>], id: &'a str) -> impl Iterator<Item = &'a Arc<Task>> {
    let first = tasks.partition_point(|task| task.id.as_str() < id);
    tasks.get(first..).unwrap_or_default().iter().take_while(move |task| task.id == id)
}

/// `now`, in which a service that is equal to the one before stays the allocation that it was.
fn kept(before: &Services, now: &Services) -> Services {
    let mut before = before.iter().peekable();
    let mut known = |service: &Arc<Service>| {
        while before.next_if(|known| known.key < service.key).is_some() {}
        before.next_if(|known| *known == service).map(Arc::clone)
    };
    now.iter().map(|service| known(service).unwrap_or_else(|| Arc::clone(service))).collect()
}

/// `all` with the services of `keys` as `part` has them, and how many backends went and came with them. One that is equal
/// stays the allocation that it was.
fn merged(all: &Services, part: &Services, keys: &BTreeSet<VipKey>) -> (Services, usize, usize) {
    let fresh: BTreeMap<VipKey, &Arc<Service>> = part.iter().map(|s| (s.key, s)).collect();
    let mut merged: Vec<Arc<Service>> = Vec::with_capacity(all.len() + fresh.len());
    let (mut rest, mut gone, mut come): (&[Arc<Service>], usize, usize) = (all, 0, 0);
    for key in keys {
        let (before, behind) = rest.split_at(rest.partition_point(|service| service.key < *key));
        merged.extend_from_slice(before);
        let (old, behind) = match behind.split_first() {
            Some((old, behind)) if old.key == *key => (Some(old), behind),
            Some(_) | None => (None, behind),
        };
        rest = behind;
        let new = fresh.get(key).copied();
        gone += old.map_or(0, |service| service.backends.len());
        come += new.map_or(0, |service| service.backends.len());
        merged.extend(new.map(|new| Arc::clone(old.filter(|old| *old == new).unwrap_or(new))));
    }
    merged.extend_from_slice(rest);
    (merged.into(), gone, come)
}
