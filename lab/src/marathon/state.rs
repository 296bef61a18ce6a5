//! What an emulator remembers: services (apps and pods), their tasks, deployments. Plain data under one lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::Notify;

use super::definition::Object;
use super::plan::Present;
use super::spec::RunSpec;

/// Old definitions that `/versions` still knows, per app.
pub(crate) const VERSIONS_KEPT: usize = 25;
/// Old trees of groups that a group can be rolled back to: each holds every definition there was.
pub(crate) const TREES_KEPT: usize = 8;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) services: BTreeMap<String, Service>,
    /// By instance id, which begins with nothing that sorts by time: see `order`.
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) deployments: BTreeMap<String, Deployment>,
    pub(crate) launched: u64,
    /// By path; a service's groups are made with it and stay when it goes.
    pub(crate) groups: BTreeMap<String, Group>,
    /// The trees of groups that the last deployments were to reach, the newest at the end.
    pub(crate) trees: VecDeque<Arc<Value>>,
}

/// A group of services and groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// That of the last change in it.
    pub(crate) version: String,
    pub(crate) dependencies: Vec<String>,
}

/// An app or a pod.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) definition: Object,
    pub(crate) spec: Arc<RunSpec>,
    pub(crate) version: String,
    /// The version that tasks must be started from: scaling alone does not change it.
    pub(crate) config_version: String,
    pub(crate) scaling_version: String,
    pub(crate) history: VecDeque<(String, Object)>,
    pub(crate) removing: bool,
    pub(crate) failures: u32,
    pub(crate) not_before: Option<Instant>,
    pub(crate) last_failure: Option<Value>,
}

/// A task of an app, or an instance of a pod.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) instance: String,
    pub(crate) service: String,
    pub(crate) spec: Arc<RunSpec>,
    pub(crate) order: u64,
    pub(crate) agent: usize,
    pub(crate) version: String,
    pub(crate) config_version: String,
    pub(crate) condition: Condition,
    /// One per port of the spec.
    pub(crate) host_ports: Vec<Option<u16>>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) address6: Option<Ipv6Addr>,
    pub(crate) staged_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) checks: Vec<CheckResult>,
    pub(crate) kill: Arc<Notify>,
    pub(crate) kill_asked: bool,
}

/// A task's state, in the order in which it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Staging,
    Starting,
    Running,
    Killing,
    Killed,
    Finished,
    Failed,
}

impl Condition {
    /// As Mesos writes it.
    pub(crate) fn mesos(self) -> &'static str {
        match self {
            Self::Staging => "TASK_STAGING",
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Killing => "TASK_KILLING",
            Self::Killed => "TASK_KILLED",
            Self::Finished => "TASK_FINISHED",
            Self::Failed => "TASK_FAILED",
        }
    }

    /// As `instance_changed_event` writes it.
    pub(crate) fn instance(self) -> &'static str {
        match self {
            Self::Staging => "Staging",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Killing => "Killing",
            Self::Killed => "Killed",
            Self::Finished => "Finished",
            Self::Failed => "Failed",
        }
    }
}

/// What one health check has seen of one task; absent until the first result.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckResult {
    pub(crate) seen: bool,
    pub(crate) alive: bool,
    pub(crate) consecutive_failures: u32,
    pub(crate) first_success: Option<String>,
    pub(crate) last_success: Option<String>,
    pub(crate) last_failure: Option<String>,
    pub(crate) last_failure_cause: Option<String>,
}

/// A change that is being carried out.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) actions: Vec<Action>,
    /// Services that are not yet as they are to be.
    pub(crate) pending: BTreeSet<String>,
    /// The tree of groups before and after.
    pub(crate) original: Arc<Value>,
    pub(crate) target: Arc<Value>,
}

/// What a deployment does to one service.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    /// `StartApplication` and its kind.
    pub(crate) kind: String,
    pub(crate) service: String,
    pub(crate) pod: bool,
}

impl Task {
    /// Of both families.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.address.map(IpAddr::V4).into_iter().chain(self.address6.map(IpAddr::V6))
    }

    /// `None` while there is no result or no check.
    pub(crate) fn healthy(&self) -> Option<bool> {
        let seen = self.checks.iter().filter(|check| check.seen);
        seen.map(|check| check.alive).reduce(|all, alive| all && alive)
    }

    /// Takes traffic: running, and well if anybody asks.
    pub(crate) fn ready(&self) -> bool {
        self.condition == Condition::Running && (self.checks.is_empty() || self.healthy() == Some(true))
    }
}

impl State {
    /// Nothing but the root group.
    pub(crate) fn new(tree: Arc<Value>) -> Self {
        let version = tree.get("version").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            deployments: BTreeMap::new(),
            launched: 0,
            groups: BTreeMap::from([("/".to_owned(), Group { version, dependencies: Vec::new() })]),
            trees: VecDeque::from([tree]),
        }
    }

    /// The tasks of a service, oldest first.
    pub(crate) fn tasks_of(&self, service: &str) -> Vec<&Task> {
        let mut tasks: Vec<&Task> = self.tasks.values().filter(|task| task.service == service).collect();
        tasks.sort_by_key(|task| task.order);
        tasks
    }

    /// As the plan sees them.
    pub(crate) fn present(&self, id: &str, service: &Service) -> Vec<Present> {
        let present = |task: &&Task| Present {
            instance: task.instance.clone(),
            current: task.config_version == service.config_version,
            ready: task.ready(),
            killing: task.kill_asked,
        };
        self.tasks_of(id).iter().map(present).collect()
    }

    pub(crate) fn deployments_of(&self, service: &str) -> Vec<&Deployment> {
        let holds = |deployment: &&Deployment| deployment.actions.iter().any(|action| action.service == service);
        self.deployments.values().filter(holds).collect()
    }

    /// Service ports that other apps hold.
    pub(crate) fn service_ports(&self, but: &str) -> BTreeSet<u16> {
        let others = self.services.iter().filter(|(id, _)| id.as_str() != but);
        others.flat_map(|(_, service)| service.spec.ports.iter().map(|port| port.service)).collect()
    }
}
