//! From what the sources say to what the packet path should do: [`desire`], a pure function.
//!
//! No clock, file or socket. Inputs are sorted maps and lists, so any order of apps and tasks gives an equal result. What
//! a label asks for and does not get is in [`Report::rejected`] with its reason; nothing is refused in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sluice_config::model::{Backend, Config, Container, Desired, Local, OverlayNetwork, Service, Shared, VipKey};

use crate::health::combine::Judged;
use crate::health::drains::Drain;
use crate::rejected::Rejected;
use crate::view::{ClusterView, Listing, TaskState};

pub mod claims;
pub mod labels;
pub mod named_vip;
pub mod naming;
mod overlay;
pub mod vip_label;

mod backends;
mod draft;
mod health;
mod index;
mod join;
pub(crate) mod own_labels;
mod reserved;
mod services;
mod serving;

pub use claims::Claims;
use claims::{InUse, Owner};
pub use naming::{Names, Naming};
use services::Links;
pub use serving::Serving;

/// Framework name when neither Marathon nor the configuration says one.
const FRAMEWORK: &str = "marathon";

/// What people should know about a [`Desired`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Everything that was asked for and is not done, sorted.
    pub rejected: Vec<Rejected>,
    /// Named VIPs in use and their IPv4 addresses.
    pub named: Arc<BTreeMap<String, Ipv4Addr>>,
    /// Likewise the IPv6 addresses.
    pub named6: Arc<BTreeMap<String, Ipv6Addr>>,
    /// With `vip.sharing = "owner"`: the app that has each VIP in use.
    pub owners: BTreeMap<String, Owner>,
    /// What it tells of: each Marathon's framework name and listing, for [`labels::labels`].
    pub listings: Vec<(String, Arc<Listing>)>,
    /// What Mesos said, and the addresses of the hosts that are known by a name: what the HTTP API enumerates.
    pub mesos: Option<Arc<crate::mesos::facts::Facts>>,
    /// See [`Report::mesos`].
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// VIPs whose running backends are all unhealthy, and therefore all used.
    pub fail_open: Vec<VipKey>,
    /// VIPs whose backends differ in their groups: only sources that all of them allow are admitted.
    pub mixed_groups: Vec<VipKey>,
    /// The network that an app names for a container address which lies in no configured overlay.
    pub other_networks: BTreeMap<IpAddr, String>,
    /// What is said of backends, by service and address; one that is not there is active, and nobody judges it.
    pub judged: BTreeMap<(VipKey, SocketAddr), Judged>,
    /// Backends whose drain is over, by service and address: they are in no table.
    pub removed: BTreeMap<(VipKey, SocketAddr), Backend>,
    /// Drains, with what they concern: [`crate::run::publication`] fills them in.
    pub drains: Vec<DrainInForce>,
}

/// A drain, and the backends that it concerns now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrainInForce {
    /// The drain.
    pub drain: Drain,
    /// Whether its time-out has passed.
    pub over: bool,
    /// Services and addresses of backends.
    pub backends: Vec<(VipKey, SocketAddr)>,
}

/// [`Rejected::label`] of a service of the configuration, and of a backend.
const SERVICE: &str = "[[service]]";
const BACKEND: &str = "backend";

/// Most rejected things in a [`Report`]; the ones beyond are counted by [`Report::cut`].
const REJECTED_MAX: usize = 20_000;

impl Report {
    fn reject(&mut self, rejected: Rejected) {
        // Twice the bound is room for sorting before the cut, so that the cut does not depend on the order of inputs
        // in any cluster that stays under it.
        if self.rejected.len() < 2 * REJECTED_MAX {
            self.rejected.push(rejected);
        }
    }

    /// What the sources themselves say of what could not be read.
    fn heard(&mut self, cluster: &Cluster<'_>) {
        for listing in cluster.view.marathons.values() {
            listing.rejected.iter().cloned().for_each(|r| self.reject(r));
        }
        cluster.view.mesos.iter().flat_map(|facts| &facts.rejected).cloned().for_each(|r| self.reject(r));
        cluster
            .view
            .overlay
            .rejected
            .iter()
            .chain(&cluster.view.overlay.leased.rejected)
            .cloned()
            .for_each(|r| self.reject(r));
        overlay::conflicts(cluster.config, &cluster.view.overlay).into_iter().for_each(|r| self.reject(r));
        self.mesos.clone_from(&cluster.view.mesos);
        self.hosts.clone_from(&cluster.view.hosts);
        let heard = cluster.view.marathons.iter();
        self.listings = heard.map(|(n, l)| (cluster.framework(*n).to_owned(), Arc::clone(l))).collect();
        self.settle();
    }

    fn settle(&mut self) {
        self.rejected.sort();
        self.rejected.dedup();
        self.rejected.truncate(REJECTED_MAX);
    }

    /// More that was asked for and is not done.
    pub fn add(&mut self, rejected: &[Rejected]) {
        if !rejected.is_empty() {
            rejected.iter().cloned().for_each(|r| self.reject(r));
            self.settle();
        }
    }

    /// What the configuration itself asks for and does not get: a service, or a backend of one. `sluice check` finds
    /// what the file alone can tell; the rest is the kernel's and the sources' word.
    pub fn of_configuration(&self) -> impl Iterator<Item = &Rejected> {
        self.rejected.iter().filter(|r| r.task.is_empty() && matches!(r.label.as_str(), SERVICE | BACKEND))
    }

    /// What [`Claims::settle`] takes.
    #[must_use]
    pub fn in_use(&self) -> InUse<'_> {
        InUse { named: &self.named, named6: &self.named6, owners: &self.owners }
    }

    /// Whether the list of rejected things is full, and may lack some.
    #[must_use]
    pub fn cut(&self) -> bool {
        self.rejected.len() == REJECTED_MAX
    }
}

/// The whole state that the packet path should have.
///
/// `claims` are the named addresses given out before; `local` is what is known of this node; `hash_key` is the key that
/// all nodes share.
#[must_use]
pub fn desire(
    config: &Config,
    view: &ClusterView,
    claims: &Claims,
    local: &Local,
    hash_key: [u8; 16],
) -> (Desired, Report) {
    let (mut desired, mut report) = serve(config, view, claims, local, hash_key);
    let names = names(config, view, &desired.shared.services);
    report.add(&names.rejected);
    desired.shared.zones = names.zones;
    (desired, report)
}

/// The names of what is known, `services` among it.
#[must_use]
pub fn names(config: &Config, view: &ClusterView, services: &[Arc<Service>]) -> Names {
    let mut naming = Naming::default();
    naming.make(&Cluster::new(config, view), services).clone()
}

/// The same out of what `naming` made last: what has not changed costs a comparison.
pub fn rename<'a>(naming: &'a mut Naming, config: &Config, view: &ClusterView, services: &[Arc<Service>]) -> &'a Names {
    naming.make(&Cluster::new(config, view), services)
}

/// As [`desire`] without names.
#[must_use]
pub fn serve(
    config: &Config,
    view: &ClusterView,
    claims: &Claims,
    local: &Local,
    hash_key: [u8; 16],
) -> (Desired, Report) {
    let cluster = Cluster::new(config, view);
    let (desired, mut report, _) = served(&cluster, claims, local, hash_key);
    report.heard(&cluster);
    (desired, report)
}

/// As [`serve`], without what the sources say themselves; and who claims which VIP.
fn served(cluster: &Cluster<'_>, claims: &Claims, local: &Local, hash_key: [u8; 16]) -> (Desired, Report, Links) {
    let mut report = Report::default();
    let (services, links) = services::services(cluster, claims, local, &mut report);
    let shared = Shared {
        hash_key,
        services,
        second_chance: cluster.config.vip.second_chance,
        zones: Arc::default(),
        containers: containers(cluster),
        agents: overlay::agents(cluster.config, &cluster.view.overlay, local),
        networks: cluster.networks.clone(),
    };
    report.settle();
    (Desired { shared, local: local.clone() }, report, links)
}

/// Configuration and view together, as the parts of `desire` need them.
struct Cluster<'a> {
    config: &'a Config,
    view: &'a ClusterView,
    /// Configured networks first, then those of the overlay's master that the configuration does not name.
    networks: Vec<OverlayNetwork>,
}

impl<'a> Cluster<'a> {
    fn new(config: &'a Config, view: &'a ClusterView) -> Self {
        Self { config, view, networks: overlay::networks(config, &view.overlay) }
    }

    /// The framework name of a Marathon: its own word, the configuration's, or the default.
    fn framework(&self, source: usize) -> &str {
        let said = self.view.marathons.get(&source).and_then(|l| l.framework.as_deref());
        let configured = self.config.marathons.get(source).map(|m| m.framework.as_str()).filter(|f| !f.is_empty());
        said.or(configured).unwrap_or(FRAMEWORK)
    }

    /// The network that holds an address.
    fn network_of(&self, ip: IpAddr) -> Option<&OverlayNetwork> {
        self.networks.iter().find(|n| match ip {
            IpAddr::V4(ip) => n.subnet.contains(&ip),
            IpAddr::V6(ip) => n.subnet6.is_some_and(|subnet| subnet.contains(&ip)),
        })
    }
}

/// Containers with groups. Two tasks of one address (a pod's) unite their groups. A task that is out of reach, or about to
/// run, may well have its container: it keeps its groups, unless one that runs has others at that address.
fn containers(cluster: &Cluster<'_>) -> Vec<Container> {
    let mut by_ip: BTreeMap<IpAddr, (bool, String, BTreeSet<String>)> = BTreeMap::new();
    let tasks = cluster.view.marathons.values().flat_map(|l| &l.tasks);
    for task in tasks.filter(|t| t.state != TaskState::Terminal && !t.groups.is_empty()) {
        let runs = task.state.is_eligible();
        for ip in &task.ips {
            let Some(network) = cluster.network_of(*ip) else { continue };
            let (surely, _, groups) = by_ip.entry(*ip).or_insert_with(|| (runs, network.name.clone(), BTreeSet::new()));
            if runs && !*surely {
                groups.clear();
            }
            if runs || !*surely {
                groups.extend(task.groups.iter().cloned());
            }
            *surely |= runs;
        }
    }
    let container = |(ip, (_, network, groups)): (IpAddr, (bool, String, BTreeSet<String>))| Container {
        ip,
        network,
        groups: groups.into_iter().collect(),
    };
    by_ip.into_iter().map(container).collect()
}

#[cfg(test)]
mod tests;
