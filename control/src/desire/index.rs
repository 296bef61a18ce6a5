//! Where each app's labels lead and where its tasks are: what tells whether a change of one app concerns another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use sluice_config::model::{Protocol, VipKey};

use super::services::{self, Links};
use super::vip_label::{self, Target};
use super::{Cluster, Report};
pub(super) use crate::health::combine::AppId;
use crate::view::{ClusterView, Task};

/// How many of something there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counts<T: Eq + Hash>(HashMap<T, usize>);

impl<T: Eq + Hash> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash + Clone> Counts<T> {
    pub(super) fn has(&self, of: &T) -> bool {
        self.0.contains_key(of)
    }

    pub(super) fn count(&self, of: &T) -> usize {
        self.0.get(of).copied().unwrap_or(0)
    }

    fn add<'a>(&mut self, all: impl IntoIterator<Item = &'a T>)
    where
        T: 'a,
    {
        for one in all {
            *self.0.entry(one.clone()).or_default() += 1;
        }
    }

    fn take<'a>(&mut self, all: impl IntoIterator<Item = &'a T>)
    where
        T: 'a,
    {
        for one in all {
            if let Some(count) = self.0.get_mut(one) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(one);
                }
            }
        }
    }
}

/// One app.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct App {
    /// Its VIPs.
    pub(super) keys: BTreeSet<VipKey>,
    /// Ids of its tasks, its own where it has none.
    pub(super) tasks: BTreeSet<String>,
    /// Whether one of them has groups.
    pub(super) grouped: bool,
    /// The names that its labels ask for.
    pub(super) names: BTreeSet<String>,
    /// The addresses that its labels ask for, granted or not.
    pub(super) asked: BTreeSet<IpAddr>,
    /// Where its tasks are: their own addresses and those of their agents.
    pub(super) places: BTreeSet<IpAddr>,
    /// Ports of the VIPs that its labels ask for, by name and by address.
    by_name: BTreeSet<(String, Protocol, u16)>,
    by_address: BTreeSet<VipKey>,
}

impl App {
    fn add(&mut self, cluster: &Cluster<'_>, source: usize, task: &Task) {
        self.tasks.insert(task.id.clone());
        self.grouped |= !task.groups.is_empty();
        self.places.extend(cluster.view.agent_address(&task.host));
        self.places.extend(&task.ips);
        for port in &task.ports {
            let labels = port.labels.iter().filter(|(key, _)| services::is_vip(key));
            for label in labels.filter_map(|(_, value)| vip_label::parse(value).ok()) {
                match label.target {
                    Target::Address(ip) => {
                        self.asked.insert(ip);
                        self.by_address.insert(VipKey { protocol: port.protocol, ip, port: label.port });
                    }
                    Target::Name(name) => {
                        if let Ok(name) = services::full_name(&name, cluster.framework(source)) {
                            self.by_name.insert((name.clone(), port.protocol, label.port));
                            self.names.insert(name);
                        }
                    }
                }
            }
        }
    }

    /// The VIPs that its labels ask for, as far as names have addresses.
    pub(super) fn asks_for(&self, report: &Report) -> BTreeSet<VipKey> {
        let mut keys = self.by_address.clone();
        for (name, protocol, port) in &self.by_name {
            let four = report.named.get(name).map(|ip| IpAddr::V4(*ip));
            let six = report.named6.get(name).map(|ip| IpAddr::V6(*ip));
            keys.extend(four.into_iter().chain(six).map(|ip| VipKey { protocol: *protocol, ip, port: *port }));
        }
        keys
    }
}

/// All apps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Index {
    pub(super) apps: BTreeMap<AppId, App>,
    /// Apps by the names that they ask for.
    pub(super) names: Counts<String>,
    /// Apps by the addresses that they ask for.
    pub(super) asked: Counts<IpAddr>,
    /// Apps by where their tasks are; backends of the configuration count as an app.
    pub(super) places: Counts<IpAddr>,
    /// Services by address.
    pub(super) vips: Counts<IpAddr>,
}

impl Index {
    /// Of everything, with the VIPs of all apps.
    pub(super) fn of(cluster: &Cluster<'_>, links: &Links) -> Self {
        let mut index = Self::default();
        for (id, app) in Self::apps(cluster, cluster.view) {
            index.put(id, app);
        }
        for (key, apps) in links {
            index.link(key, apps);
        }
        for service in &cluster.config.services {
            index.vips.add([&service.key.ip]);
            index.places.add(&service.backends.iter().map(|b| b.address.ip()).collect::<Vec<_>>());
        }
        index
    }

    /// The apps of a view, without their VIPs.
    pub(super) fn apps(cluster: &Cluster<'_>, view: &ClusterView) -> BTreeMap<AppId, App> {
        let mut apps: BTreeMap<AppId, App> = BTreeMap::new();
        for (source, listing) in &view.marathons {
            for task in listing.tasks.iter().chain(&listing.idle) {
                apps.entry((*source, task.app.clone())).or_default().add(cluster, *source, task);
            }
        }
        apps
    }

    fn put(&mut self, id: AppId, app: App) {
        self.names.add(&app.names);
        self.asked.add(&app.asked);
        self.places.add(&app.places);
        self.apps.insert(id, app);
    }

    fn link(&mut self, key: &VipKey, apps: &BTreeSet<AppId>) {
        self.vips.add([&key.ip]);
        for id in apps {
            if let Some(app) = self.apps.get_mut(id) {
                app.keys.insert(*key);
            }
        }
    }

    /// Puts what these apps are now in the place of what they were; `links` are their VIPs.
    pub(super) fn replace(
        &mut self,
        before: &[App],
        after: &BTreeMap<AppId, App>,
        ids: &BTreeSet<AppId>,
        links: &Links,
    ) {
        for app in before {
            self.names.take(&app.names);
            self.asked.take(&app.asked);
            self.places.take(&app.places);
        }
        let linked: BTreeSet<&VipKey> = before.iter().flat_map(|app| &app.keys).collect();
        self.vips.take(linked.into_iter().map(|key| &key.ip));
        for id in ids {
            self.apps.remove(id);
        }
        for (id, app) in after {
            self.put(id.clone(), app.clone());
        }
        for (key, apps) in links {
            self.link(key, apps);
        }
    }
}
