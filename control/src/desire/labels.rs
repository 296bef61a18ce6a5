//! Every VIP label of every task, and what became of it. Made when somebody asks, from what a publication was made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use sluice_config::model::{Service, VipKey};

use super::services::{full_name, is_vip};
use super::vip_label::{self, Target};
use super::{BACKEND, Report};
use crate::rejected::{Rejected, shown};
use crate::view::{PortAt, Task, TaskPort};

/// Most labels in one answer: an answer is a document in memory.
pub const LABELS_MAX: usize = 20_000;

/// One VIP label of one task. Texts from outside are escaped and cut.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Label {
    /// App or pod id.
    pub app: String,
    /// Framework name.
    pub framework: String,
    /// Task id.
    pub task: String,
    /// Where the labelled port is reached: `host 31000/tcp`, `agent 31000/tcp`, `container 80/udp`.
    pub port: String,
    /// Label key.
    pub label: String,
    /// Its value.
    pub value: String,
    /// VIPs that the task serves by it, `ADDRESS:PORT/PROTOCOL`.
    pub vips: Vec<String>,
    /// DNS name without the zone, where the label asks for one.
    pub name: Option<String>,
    /// Why the task serves none by it, or not all.
    pub reason: Option<String>,
}

/// The labels of what `report` tells of, in the order of frameworks, tasks and ports; `services` are those that came of
/// it, sorted. At most [`LABELS_MAX`]; whether there are more comes second.
#[must_use]
pub fn labels(report: &Report, services: &[Arc<Service>]) -> (Vec<Label>, bool) {
    let drained = report.removed.iter().filter_map(|((key, _), backend)| Some((*key, backend.task.as_deref()?)));
    let asked = Asked { report, services, refused: refused(&report.rejected), drained: drained.collect() };
    let mut all = Vec::new();
    for (framework, listing) in &report.listings {
        for task in &listing.tasks {
            for port in &task.ports {
                for (key, value) in port.labels.iter().filter(|(key, _)| is_vip(key)) {
                    if all.len() == LABELS_MAX {
                        return (all, true);
                    }
                    all.push(asked.label(framework, task, port, key, value));
                }
            }
        }
    }
    (all, false)
}

/// Refusals by task, as they are shown.
type Refused<'a> = BTreeMap<&'a str, Vec<&'a Rejected>>;

fn refused(rejected: &[Rejected]) -> Refused<'_> {
    let mut by_task = Refused::new();
    for one in rejected {
        by_task.entry(&one.task).or_default().push(one);
    }
    by_task
}

struct Asked<'a> {
    report: &'a Report,
    services: &'a [Arc<Service>],
    refused: Refused<'a>,
    /// Tasks whose drain is over, by VIP.
    drained: BTreeSet<(VipKey, &'a str)>,
}

impl Asked<'_> {
    fn label(&self, framework: &str, task: &Task, port: &TaskPort, key: &str, value: &str) -> Label {
        let (name, keys) = self.asks_for(framework, port, value);
        let serves = |key: &&VipKey| self.serves(task, key);
        let vips: Vec<String> = keys.iter().filter(serves).map(ToString::to_string).collect();
        let reason = self.reason(task, key, value, &keys);
        let reason = reason.or_else(|| self.is_drained(task, &keys).then(|| DRAINED.to_owned()));
        let reason = reason.or_else(|| vips.is_empty().then(|| unserved(task).to_owned()));
        Label {
            app: shown(&task.app),
            framework: shown(framework),
            task: shown(&task.id),
            port: reached(port),
            label: shown(key),
            value: shown(value),
            vips,
            name,
            reason,
        }
    }

    /// The name and the VIPs that a label asks for.
    fn asks_for(&self, framework: &str, port: &TaskPort, value: &str) -> (Option<String>, Vec<VipKey>) {
        let Ok(label) = vip_label::parse(value) else { return (None, Vec::new()) };
        let key = |ip| VipKey { protocol: port.protocol, ip, port: label.port };
        match label.target {
            Target::Address(ip) => (None, vec![key(ip)]),
            Target::Name(name) => {
                let Ok(name) = full_name(&name, framework) else { return (None, Vec::new()) };
                let four = self.report.named.get(&name).map(|ip| key(IpAddr::V4(*ip)));
                let six = self.report.named6.get(&name).map(|ip| key(IpAddr::V6(*ip)));
                (Some(name), four.into_iter().chain(six).collect())
            }
        }
    }

    fn serves(&self, task: &Task, key: &VipKey) -> bool {
        let found = self.services.binary_search_by(|service| service.key.cmp(key)).ok();
        let service = found.and_then(|at| self.services.get(at));
        service.is_some_and(|s| s.backends.iter().any(|b| b.task.as_deref() == Some(task.id.as_str())))
    }

    fn is_drained(&self, task: &Task, keys: &[VipKey]) -> bool {
        keys.iter().any(|key| self.drained.contains(&(*key, task.id.as_str())))
    }

    /// The refusal of the label itself, else of the task as a backend of a VIP that it asks for.
    fn reason(&self, task: &Task, key: &str, value: &str, keys: &[VipKey]) -> Option<String> {
        let refused = self.refused.get(shown(&task.id).as_str())?;
        let (label, value) = (shown(key), shown(value));
        let itself = refused.iter().find(|r| r.label == label && r.value == value);
        let as_backend = || {
            let ends = |r: &Rejected| keys.iter().any(|key| r.value.ends_with(&format!(" of {key}")));
            refused.iter().find(|r| r.label == BACKEND && ends(r))
        };
        itself.or_else(as_backend).map(|r| r.reason.clone())
    }
}

const DRAINED: &str = "its drain is over: `sluice show drains` lists it, `sluice undrain` takes it back";

/// Why a task that nothing was said against serves nothing.
fn unserved(task: &Task) -> &'static str {
    if task.state.is_eligible() {
        "another task at the same address and port serves, or a limit is reached"
    } else {
        "the task is not running"
    }
}

fn reached(port: &TaskPort) -> String {
    let protocol = port.protocol;
    match port.at {
        PortAt::Host(number) => format!("host {number}/{protocol}"),
        PortAt::Agent(number) => format!("agent {number}/{protocol}"),
        PortAt::Container(number) => format!("container {number}/{protocol}"),
        PortAt::Unallocated => format!("none yet/{protocol}"),
    }
}
