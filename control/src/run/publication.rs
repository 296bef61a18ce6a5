//! From what is known to tables: the state that `run` keeps between one publication and the next. No clock, socket or
//! thread; the same steps on the same inputs give the same tables.

use std::sync::Arc;

use sluice_config::model::{Backend, Config, Desired, Local, Service, VipKey};
use sluice_dataplane::tables::ids::{BackendKey, Ids};
use sluice_dataplane::tables::{CompileError, Tables};
use sluice_dataplane::time::Nanos;

use super::hash_key::Key;
use crate::desire::{Claims, DrainInForce, Names, Naming, Report, Serving, rename};
use crate::health::chronicle;
use crate::health::drains::{Drain, Drains};
use crate::health::paths::Paths;
use crate::health::target::Carried;
use crate::view::ClusterView;

/// Tasks from which on names are made after services are published, not before: at some 40 us a task, 200 take 8 ms.
const NAMES_LATER: usize = 200;

/// Claims that are in use as before are looked at again after this.
const SETTLE_SECONDS: u64 = 60;

/// How long a number rests before it is used again: twice the longest session.
const REST_SECONDS: u64 = 2 * sluice_config::model::Timeouts::MAX_SECONDS as u64;

/// What is known, and what was made of it last.
#[derive(Debug)]
pub struct Publication {
    config: Config,
    key: Key,
    ids: Ids,
    /// What the sources say.
    pub view: ClusterView,
    /// Addresses given to names.
    pub claims: Claims,
    serving: Serving,
    tables: Option<Arc<Tables>>,
    /// The names that were made last, and whether newer ones wait.
    names: Names,
    naming: Naming,
    names_wait: bool,
    /// The report that claims were settled with last, and when.
    settled: Option<(Arc<Report>, u64)>,
    unsaved: bool,
    /// What an operator drains.
    pub drains: Drains,
    drains_unsaved: bool,
    paths: Paths,
    report: Option<Arc<Report>>,
}

/// When something is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// On a monotonic clock.
    pub monotonic: Nanos,
    /// Seconds since 1970.
    pub unix_seconds: u64,
}

/// New tables, and what people should know about what is known now.
#[derive(Debug)]
pub struct Made {
    /// To be published; `None` when they would be those that were made last. An error when a limit is exceeded; the
    /// tables that were made last stay then.
    pub tables: Result<Option<Arc<Tables>>, CompileError>,
    /// For `show labels`: it may be another one where the tables are the same.
    pub report: Arc<Report>,
}

impl Publication {
    /// Knows nothing yet but the claims of an earlier run.
    #[must_use]
    pub fn new(config: Config, key: Key, claims: Claims) -> Self {
        let ids = Ids::new(config.limits.services, config.limits.backends, REST_SECONDS);
        Self {
            config,
            key,
            ids,
            view: ClusterView::default(),
            claims,
            serving: Serving::default(),
            tables: None,
            settled: None,
            names: Names::default(),
            naming: Naming::default(),
            names_wait: false,
            unsaved: false,
            drains: Drains::default(),
            drains_unsaved: false,
            paths: Paths::default(),
            report: None,
        }
    }

    /// Whether every Marathon of the configuration was listed, and Mesos heard.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let listed = (0..self.config.marathons.len()).all(|source| self.view.marathons.contains_key(&source));
        listed && (self.config.mesos.is_none() || self.view.mesos.is_some())
    }

    /// Whether the overlay's members and what is served are all known: every source was heard, the overlay module too.
    #[must_use]
    pub fn knows_overlay(&self) -> bool {
        self.is_complete() && (self.config.mesos.is_none() || self.view.overlay_told)
    }

    /// The tables that were made last.
    #[must_use]
    pub fn tables(&self) -> Option<&Arc<Tables>> {
        self.tables.as_ref()
    }

    /// Whether tables were made that have the names from before: make again soon.
    #[must_use]
    pub fn names_wait(&self) -> bool {
        self.names_wait
    }

    /// Makes tables of what is known. Where there are many tasks a change of services has the names from before
    /// ([`Publication::names_wait`]), and the next call brings the new ones.
    pub fn make(&mut self, mut local: Local, moment: Moment) -> Made {
        local.soa_serial = self.tables.as_ref().map_or(0, |t| t.desired.local.soa_serial);
        local.dns.epoch = self.epoch(moment);
        self.view.health.drained = self.drains.at(moment.unix_seconds);
        let (mut desired, mut report) = self.serving.serve(&self.config, &self.view, &self.claims, &local, self.key);
        let ranges = (self.config.health.probe_range, self.config.health.probe_range6);
        let carried = Carried::of(&self.config);
        desired.local.probes = self.paths.settle(&desired.shared.services, ranges, carried);
        self.settle_drains(&desired, &mut report, moment.unix_seconds);
        chronicle::date(&mut report, self.report.as_deref(), moment.unix_seconds);
        self.name(&desired);
        desired.shared.zones = Arc::clone(&self.names.zones);
        report.add(&self.names.rejected);
        let report = Arc::new(report);
        self.report = Some(Arc::clone(&report));
        self.settle(&report, moment.unix_seconds);
        Made { tables: self.compile(desired, moment), report }
    }

    /// Lets go of what was replaced: to be called when what was made is published.
    pub fn tidy(&mut self) {
        self.serving.tidy();
    }

    /// Settles claims: where other ones are in use, and else when idle ones may have to go.
    fn settle(&mut self, report: &Arc<Report>, now: u64) {
        let same = |(before, at): &(Arc<Report>, u64)| {
            Arc::ptr_eq(&before.named, &report.named)
                && Arc::ptr_eq(&before.named6, &report.named6)
                && before.owners == report.owners
                && now.abs_diff(*at) < SETTLE_SECONDS
        };
        if !self.settled.as_ref().is_some_and(same) {
            self.unsaved |= self.claims.settle(report.in_use(), now);
            self.settled = Some((Arc::clone(report), now));
        }
    }

    /// The wall clock at the monotonic clock's zero: as before, unless the wall clock was set. Cookies are told apart by
    /// minutes, and tables are not made anew for a second.
    fn epoch(&self, moment: Moment) -> u32 {
        /// How far off it may be, seconds.
        const SLACK: u32 = 60;
        let now = (moment.unix_seconds as u32).wrapping_sub((moment.monotonic.0 / 1_000_000_000) as u32);
        let before = self.tables.as_ref().map(|tables| tables.desired.local.dns.epoch);
        before.filter(|before| now.wrapping_sub(*before).wrapping_add(SLACK) <= 2 * SLACK).unwrap_or(now)
    }

    /// Makes the names, or lets them wait for the next publication, but not twice: a changed task's are to be right within
    /// 100 ms of its event, however often others change (`control/benches/delay.rs`).
    fn name(&mut self, desired: &Desired) {
        let many = self.view.marathons.values().map(|l| l.tasks.len()).sum::<usize>() >= NAMES_LATER;
        let changed = self
            .tables
            .as_ref()
            .is_some_and(|t| t.desired.local != desired.local || !same_services(&t.desired, desired));
        self.names_wait = many && changed && !self.names_wait;
        if self.names_wait {
            return;
        }
        // The same names stay the same allocation: comparing them later costs nothing.
        self.names = rename(&mut self.naming, &self.config, &self.view, &desired.shared.services).clone();
    }

    /// The claims that are not saved yet, if any.
    #[must_use]
    pub fn unsaved(&self) -> Option<&Claims> {
        self.unsaved.then_some(&self.claims)
    }

    /// Takes the word that they are saved.
    pub fn saved(&mut self) {
        self.unsaved = false;
    }

    /// What was made known last.
    #[must_use]
    pub fn report(&self) -> Option<&Arc<Report>> {
        self.report.as_ref()
    }

    /// Whether a drain's time-out has passed that the last tables do not know of.
    #[must_use]
    pub fn is_overdue(&self, unix_seconds: u64) -> bool {
        !self.drains.drains.is_empty() && self.drains.at(unix_seconds) != self.view.health.drained
    }

    /// The drains, if they changed by themselves since they were saved.
    #[must_use]
    pub fn unsaved_drains(&self) -> Option<&Drains> {
        self.drains_unsaved.then_some(&self.drains)
    }

    /// Takes the word that they are saved.
    pub fn saved_drains(&mut self) {
        self.drains_unsaved = false;
    }

    /// Which backends each drain concerns; one that has long concerned none is forgotten.
    fn settle_drains(&mut self, desired: &Desired, report: &mut Report, now: u64) {
        if self.drains.drains.is_empty() {
            return;
        }
        let served = desired.shared.services.iter().flat_map(|s| s.backends.iter().map(|b| (s.key, b)));
        let removed = std::mem::take(&mut report.removed);
        let gone = removed.iter().map(|((key, _), backend)| (*key, backend));
        let all: Vec<(VipKey, &Backend)> = served.chain(gone).collect();
        let concerned = |drain: &Drain| {
            let backends = all.iter().filter(|(_, backend)| drain.what.concerns(backend));
            DrainInForce {
                drain: drain.clone(),
                over: drain.until <= now,
                backends: backends.map(|(key, b)| (*key, b.address)).collect(),
            }
        };
        report.drains = self.drains.drains.iter().map(concerned).collect();
        report.removed = removed;
        let in_force = report.drains.iter().filter(|d| !d.backends.is_empty()).map(|d| d.drain.what.clone());
        self.drains_unsaved |= self.drains.settle(&in_force.collect(), now);
    }

    fn compile(&mut self, mut desired: Desired, moment: Moment) -> Result<Option<Arc<Tables>>, CompileError> {
        let before = self.tables.as_ref().map(|t| Arc::clone(&t.desired));
        if before.as_ref().is_some_and(|b| b.local == desired.local && same(b, &desired)) {
            return Ok(None);
        }
        if before.as_ref().is_none_or(|b| b.shared.zones != desired.shared.zones) {
            desired.local.soa_serial = next_serial(desired.local.soa_serial, moment.unix_seconds);
        }
        let desired = Arc::new(desired);
        let tables = Tables::compile(&desired, &mut self.ids, moment.monotonic, self.tables.as_deref())?;
        let tables = Arc::new(tables);
        if let Some(before) = before {
            self.let_go(&before, &tables, moment.monotonic);
        }
        self.tables = Some(Arc::clone(&tables));
        Ok(Some(tables))
    }

    /// Numbers of services and backends that are gone begin to rest.
    fn let_go(&mut self, before: &Desired, tables: &Tables, now: Nanos) {
        let (old, new) = (&before.shared.services, &tables.desired.shared.services);
        let mut at = 0;
        let mut gone = |service: &&Arc<Service>| {
            while new.get(at).is_some_and(|s| s.key < service.key) {
                at += 1;
            }
            !new.get(at).is_some_and(|s| Arc::ptr_eq(s, service))
        };
        let changed: Vec<&Arc<Service>> = old.iter().filter(|s| gone(s)).collect();
        let services = changed.iter().map(|s| s.key).filter(|key| tables.service_number(*key).is_none());
        let backends = changed.iter().flat_map(|s| s.backends.iter().map(|b| (b.address, s.key.protocol)));
        let backends = backends.filter(|(address, protocol)| tables.backend_number(*address, *protocol).is_none());
        let backends = backends.map(|(address, protocol)| BackendKey { address, protocol });
        self.ids.let_go(now, services.collect::<Vec<_>>(), backends.collect::<Vec<_>>());
    }
}

/// Whether packets would be treated alike.
fn same(a: &Desired, b: &Desired) -> bool {
    a.shared.zones == b.shared.zones && same_services(a, b)
}

fn same_services(a: &Desired, b: &Desired) -> bool {
    let (a, b) = (&a.shared, &b.shared);
    a.services == b.services && a.networks == b.networks && a.agents == b.agents && a.containers == b.containers
}

/// Serials follow the clock where they can and never fall (RFC 1982: 0 is skipped).
fn next_serial(last: u32, unix_seconds: u64) -> u32 {
    let clock = unix_seconds as u32;
    if clock.wrapping_sub(last) as i32 > 0 && clock != 0 { clock } else { last.wrapping_add(1).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desire::claims::tests::claimed;
    use crate::marathon::payload::{Answers, listing};
    use crate::offline::local_from_config;
    use crate::rejected::Rejected;
    use crate::view::{Event, Listing};

    fn publication() -> (Publication, Local) {
        let text = r#"
            [[port]]
            interface = "eth0"
            mac = "02:00:00:00:00:01"
            addresses = ["10.0.0.1/24"]
            queues = [0]
            [[service]]
            vip = "172.16.0.1:80"
            backends = [{ address = "10.0.0.11:31001" }]
            [snat]
            underlay = ["10.0.0.100"]
        "#;
        let config = sluice_config::parse(text, "test").unwrap();
        let local = local_from_config(&config);
        (Publication::new(config, [1; 16], Claims::default()), local)
    }

    #[test]
    fn nothing_new_makes_nothing_and_a_new_neighbour_makes_the_next_generation() {
        let (mut publication, mut local) = publication();
        let mut make = |local: &Local| publication.make(local.clone(), Moment::default()).tables.unwrap();
        let first = make(&local).unwrap();
        assert_eq!((first.generation, first.desired.shared.services.len()), (1, 1));
        assert!(make(&local).is_none());
        local.neighbours.push(sluice_config::model::Neighbour {
            ip: "10.0.0.11".parse().unwrap(),
            mac: "02:00:00:00:00:11".parse().unwrap(),
            port: 0,
        });
        let second = make(&local).unwrap();
        assert_eq!(second.generation, 2);
        let serial = |tables: &Tables| tables.desired.local.soa_serial;
        assert_eq!(serial(&first), serial(&second), "the zone did not change");
    }

    #[test]
    fn a_report_and_claims_that_change_alone_are_handed_out_and_claims_stay_unsaved_until_they_are_saved() {
        let (mut publication, local) = publication();
        assert!(publication.make(local.clone(), Moment::default()).tables.unwrap().is_some());
        assert!(publication.unsaved().is_none());
        let rejected = vec![Rejected::new("web.1", "VIP_0", "?", "no port")];
        publication.view.apply(Event::Marathon { source: 0, listing: Listing { rejected, ..Listing::default() } });
        let made = publication.make(local.clone(), Moment::default());
        assert!(made.tables.unwrap().is_none());
        assert_eq!(made.report.rejected.len(), 1);
        // A claim that its last use leaves is idle from then on, whatever becomes of the tables.
        publication.claims = claimed(&[("gone.m", [11, 0, 0, 1])], 1);
        publication.settled = None;
        assert!(
            publication.make(local.clone(), Moment { unix_seconds: 5, ..Moment::default() }).tables.unwrap().is_none()
        );
        assert!(publication.unsaved().is_some());
        drop(publication.make(local, Moment { unix_seconds: 6, ..Moment::default() }));
        assert!(publication.unsaved().is_some(), "not saved yet");
        publication.saved();
        assert!(publication.unsaved().is_none());
    }

    #[test]
    fn the_overlay_is_known_once_marathon_and_mesos_were_heard_and_the_overlay_module_was_asked() {
        let (mut publication, _) = publication();
        assert!(publication.knows_overlay(), "nobody is to be heard");
        publication.config.mesos =
            sluice_config::parse("[mesos]\nmasters = [\"10.0.0.5:5050\"]\n", "test").unwrap().mesos;
        publication.view.apply(Event::Mesos { facts: Arc::default(), streaming: true });
        assert!(publication.is_complete() && !publication.knows_overlay());
        publication.view.apply(Event::Overlay(crate::view::OverlayView::default()));
        assert!(publication.knows_overlay(), "that there is no module is an answer");
    }

    /// A listing of `tasks` tasks of one app with a named VIP.
    fn listed(tasks: usize) -> Event {
        let task = |n: usize| {
            serde_json::json!({ "id": format!("web.{n}"), "slaveId": "f-S1", "state": "TASK_RUNNING", "host": "10.0.0.12",
                "ports": [10_000 + n] })
        };
        let apps = serde_json::json!({ "apps": [{ "id": "/web", "networks": [{ "mode": "container/bridge" }],
            "container": { "portMappings": [{ "containerPort": 80, "labels": { "VIP_0": "web:80" } }] },
            "tasks": (0..tasks).map(task).collect::<Vec<_>>() }] });
        let apps = apps.to_string();
        let answers = Answers { apps: apps.as_bytes(), ..Answers::default() };
        Event::Marathon { source: 0, listing: listing(answers).unwrap() }
    }

    /// The publication of a node that answers names, with its first tables made.
    fn with_names() -> (Publication, Local) {
        let (mut publication, local) = publication();
        publication.config.dns.addresses = vec!["10.0.0.53".parse().unwrap()];
        assert!(publication.make(local.clone(), Moment::default()).tables.unwrap().is_some());
        (publication, local)
    }

    fn at(milliseconds: u64) -> Moment {
        Moment { monotonic: Nanos(milliseconds * 1_000_000), unix_seconds: 1_700_000_000 }
    }

    fn has_name(tables: &Tables) -> bool {
        let mut records = tables.desired.shared.zones.iter().flat_map(|z| z.records.iter());
        records.any(|r| r.name == "web.marathon.l4lb.thisdcos.directory")
    }

    #[test]
    fn names_of_many_tasks_follow_their_services_and_those_of_few_come_with_them() {
        let (mut publication, local) = with_names();
        publication.view.apply(listed(NAMES_LATER));
        let first = publication.make(local.clone(), at(0)).tables.unwrap().unwrap();
        assert_eq!((first.desired.shared.services.len(), has_name(&first), publication.names_wait()), (2, false, true));
        let second = publication.make(local.clone(), at(20)).tables.unwrap().unwrap();
        assert!(has_name(&second) && !publication.names_wait());
        assert!(second.desired.local.soa_serial > first.desired.local.soa_serial);
        assert!(publication.make(local, at(40)).tables.unwrap().is_none());
        let (mut publication, local) = with_names();
        publication.view.apply(listed(NAMES_LATER - 1));
        assert!(has_name(&publication.make(local, at(0)).tables.unwrap().unwrap()));
        assert!(!publication.names_wait());
    }

    #[test]
    fn names_come_with_every_second_publication_however_often_services_change() {
        let (mut publication, local) = with_names();
        let mut make = |n: u64| {
            publication.view.apply(listed(NAMES_LATER + n as usize));
            publication.make(local.clone(), at(n * 20)).tables.unwrap().unwrap().desired.local.soa_serial
        };
        let serials: Vec<u32> = (0..7).map(&mut make).collect();
        let brings: Vec<bool> = serials.windows(2).map(|two| two[0] != two[1]).collect();
        assert_eq!(brings, [true, false, true, false, true, false]);
    }

    #[test]
    fn a_drain_takes_new_flows_at_once_and_the_backend_at_its_time_out_and_gives_both_back() {
        let (mut publication, local) = publication();
        let what = crate::health::drains::What::Backend { address: "10.0.0.11:31001".parse().unwrap(), task: None };
        let at = |seconds| Moment { unix_seconds: seconds, ..Moment::default() };
        let weights = |made: &Made| match &made.tables {
            Ok(Some(tables)) => tables.desired.shared.services[0].backends.iter().map(|b| b.weight).collect(),
            Ok(None) | Err(_) => vec![u16::MAX],
        };
        assert_eq!(weights(&publication.make(local.clone(), at(100))), [1]);
        publication.drains.add(what.clone(), 110, 300).unwrap();
        assert!(publication.is_overdue(110));
        let draining = publication.make(local.clone(), at(110));
        assert_eq!(weights(&draining), [0]);
        assert_eq!(draining.report.drains[0].backends.len(), 1);
        assert!(!publication.is_overdue(409) && publication.is_overdue(410));
        let over = publication.make(local.clone(), at(410));
        assert_eq!(weights(&over), [0; 0]);
        assert_eq!(
            over.report.judged.values().map(|j| (j.state.name(), j.since)).collect::<Vec<_>>(),
            [("removed", 410)]
        );
        assert!(over.report.drains[0].over && over.report.drains[0].backends.len() == 1);
        assert!(publication.drains.remove(&what));
        assert_eq!(weights(&publication.make(local, at(420))), [1]);
    }

    #[test]
    fn a_probed_dsr_service_has_its_paths_beside_its_tables() {
        let (mut publication, local) = publication();
        let names = |name: &str| name.to_owned();
        let host =
            sluice_config::model::Host { interface: names("sluice0"), peer: names("sluice1"), addresses: Vec::new() };
        publication.config.host = Some(host);
        let service = &mut publication.config.services[0];
        service.mode = sluice_config::model::Mode::DsrIpip;
        service.backends[0].address.set_port(80);
        service.health =
            Some(sluice_config::model::HealthCheck { probe: sluice_config::model::Probe::Tcp, ..Default::default() });
        let tables = publication.make(local, Moment::default()).tables.unwrap().unwrap();
        let paths: Vec<String> =
            tables.desired.local.probes.iter().map(|p| format!("{} {}", p.address, p.backend)).collect();
        assert_eq!(paths, ["198.18.0.1 10.0.0.11:80"]);
    }

    #[test]
    fn serials_follow_the_clock_and_never_fall() {
        assert_eq!(next_serial(0, 1_700_000_000), 1_700_000_000);
        assert_eq!(next_serial(1_700_000_000, 1_700_000_000), 1_700_000_001);
        assert_eq!(next_serial(1_700_000_005, 1_600_000_000), 1_700_000_006);
        assert_eq!(next_serial(u32::MAX, 0), 1);
    }
}
