//! What the API answers: apps, tasks, deployments, groups and pods as JSON, under Marathon's field names.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Marathon;
use super::definition::{Dialect, Object};
use super::spec::Network;
use super::state::{Action, CheckResult, Condition, Deployment, Service, State, Task};

/// The host ports of a task, in the order of its ports that have one.
pub(crate) fn host_ports(task: &Task) -> Vec<u16> {
    task.host_ports.iter().flatten().copied().collect()
}

/// Empty until the task runs, as Marathon's are.
pub(crate) fn addresses(task: &Task) -> Value {
    let known = matches!(task.condition, Condition::Running | Condition::Killing);
    let shown = |ip: IpAddr| json!({"ipAddress": ip.to_string(), "protocol": protocol(ip)});
    task.addresses().filter(|_| known).map(shown).collect()
}

/// As Mesos and Marathon name the family of an address.
pub(crate) fn protocol(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

pub(crate) fn task(marathon: &Marathon, task: &Task) -> Value {
    let service_ports: Vec<u16> = task.spec.ports.iter().map(|port| port.service).filter(|p| *p != 0).collect();
    let mut shown = json!({
        "id": task.id, "appId": task.service, "slaveId": marathon.agents.id(task.agent),
        "host": marathon.agents.host(task.agent).to_string(), "state": task.condition.mesos(),
        "ports": host_ports(task), "servicePorts": service_ports, "ipAddresses": addresses(task),
        "stagedAt": task.staged_at, "startedAt": task.started_at, "version": task.version, "localVolumes": [],
    });
    let seen: Vec<Value> = task.checks.iter().filter(|c| c.seen).map(|c| check_result(marathon, task, c)).collect();
    if let Some(object) = shown.as_object_mut() {
        if marathon.dialect == Dialect::V1_9 {
            object.insert("role".to_owned(), "*".into());
        }
        if !seen.is_empty() {
            object.insert("healthCheckResults".to_owned(), seen.into());
        }
    }
    shown
}

fn check_result(marathon: &Marathon, task: &Task, check: &CheckResult) -> Value {
    let (key, id) = match marathon.dialect {
        Dialect::V1_3 => ("taskId", &task.id),
        Dialect::V1_9 => ("instanceId", &task.instance),
    };
    json!({
        "alive": check.alive, "consecutiveFailures": check.consecutive_failures,
        "firstSuccess": check.first_success, "lastSuccess": check.last_success,
        "lastFailure": check.last_failure, "lastFailureCause": check.last_failure_cause, key: id,
    })
}

/// Which parts of an app a request wants embedded; `all` for a single app.
#[derive(Debug, Clone, Default)]
pub(crate) struct Embed {
    pub(crate) tasks: bool,
    pub(crate) counts: bool,
    pub(crate) deployments: bool,
    pub(crate) last_failure: bool,
    pub(crate) readiness: bool,
}

impl Embed {
    /// From `embed=apps.tasks` and its kind; `app.` and `group.apps.` prefixes count as well. Counts and deployments
    /// come unasked ("deprecated, for compatibility").
    pub(crate) fn parse(names: &[String]) -> Self {
        let has = |name: &str| names.iter().any(|n| n.rsplit('.').next() == Some(name));
        let tasks = has("tasks") || has("failures");
        Self {
            tasks,
            counts: true,
            deployments: true,
            last_failure: has("lastTaskFailure") || has("failures"),
            readiness: has("readiness"),
        }
    }

    pub(crate) fn single() -> Self {
        Self { tasks: true, counts: true, deployments: true, last_failure: true, readiness: true }
    }
}

pub(crate) fn app(marathon: &Marathon, state: &State, id: &str, service: &Service, embed: &Embed) -> Object {
    let mut shown = definition(service);
    let tasks = state.tasks_of(id);
    let count = |wanted: &dyn Fn(&Task) -> bool| tasks.iter().filter(|task| wanted(task)).count();
    if embed.counts {
        let staged = count(&|t| matches!(t.condition, Condition::Staging | Condition::Starting));
        shown.insert("tasksStaged".to_owned(), staged.into());
        shown.insert("tasksRunning".to_owned(), count(&|t| t.condition == Condition::Running).into());
        shown.insert("tasksHealthy".to_owned(), count(&|t| t.healthy() == Some(true)).into());
        shown.insert("tasksUnhealthy".to_owned(), count(&|t| t.healthy() == Some(false)).into());
    }
    if embed.deployments {
        let ids: Vec<Value> = state.deployments_of(id).iter().map(|d| json!({"id": d.id})).collect();
        shown.insert("deployments".to_owned(), ids.into());
    }
    if embed.tasks {
        let tasks: Vec<Value> = tasks.iter().map(|t| task(marathon, t)).collect();
        shown.insert("tasks".to_owned(), tasks.into());
    }
    if embed.readiness {
        shown.insert("readinessCheckResults".to_owned(), readiness(state, id, service).into());
    }
    if embed.last_failure {
        shown.extend(service.last_failure.clone().map(|failure| ("lastTaskFailure".to_owned(), failure)));
    }
    shown
}

/// While a deployment runs: every readiness check of every new task that runs, which has passed once the task is ready for
/// the deployment. Nobody is asked.
fn readiness(state: &State, id: &str, service: &Service) -> Vec<Value> {
    let checks = service.definition.get("readinessChecks").and_then(Value::as_array);
    if state.deployments_of(id).is_empty() {
        return Vec::new();
    }
    let new = |t: &&&Task| t.config_version == service.config_version && t.condition == Condition::Running;
    let tasks = state.tasks_of(id);
    let result = |check: &Value, task: &Task| {
        let name = check.get("name").and_then(Value::as_str).unwrap_or("readinessCheck");
        json!({"name": name, "taskId": task.id, "ready": task.ready()})
    };
    let checks = checks.into_iter().flatten();
    checks.flat_map(|check| tasks.iter().filter(new).map(move |task| result(check, task))).collect()
}

/// The definition with its versions.
pub(crate) fn definition(service: &Service) -> Object {
    let mut shown = service.definition.clone();
    shown.insert("version".to_owned(), service.version.clone().into());
    let info = json!({"lastScalingAt": service.scaling_version, "lastConfigChangeAt": service.config_version});
    shown.insert("versionInfo".to_owned(), info);
    shown
}

pub(crate) fn step(actions: &[Action]) -> Value {
    let actions = actions.iter().map(|action| json!({"action": action.kind, "app": action.service}));
    json!({"actions": actions.collect::<Vec<_>>()})
}

/// A deployment that changes only groups has no steps.
pub(crate) fn deployment_steps(deployment: &Deployment) -> Vec<Value> {
    if deployment.actions.is_empty() { vec![] } else { vec![step(&deployment.actions)] }
}

/// Marathon 1.8 and later never send `original` and `target`; they are sent here under either version, because the
/// Python client of that time cannot read a plan without them (`plan-format=light` leaves them out).
pub(crate) fn deployment_plan(deployment: &Deployment) -> Value {
    let (original, target) = (deployment.original.as_ref(), deployment.target.as_ref());
    json!({
        "id": deployment.id, "version": deployment.version, "steps": deployment_steps(deployment),
        "original": original, "target": target,
    })
}

/// As `/v2/deployments` lists it.
pub(crate) fn deployment(deployment: &Deployment) -> Value {
    let affected = |pod: bool| -> Vec<&String> {
        deployment.actions.iter().filter(|action| action.pod == pod).map(|action| &action.service).collect()
    };
    let current = deployment
        .actions
        .iter()
        .map(|action| json!({"action": action.kind, "app": action.service, "readinessCheckResults": []}));
    let steps = deployment_steps(deployment);
    json!({
        "id": deployment.id, "version": deployment.version, "affectedApps": affected(false), "affectedPods": affected(true),
        "currentActions": current.collect::<Vec<_>>(), "currentStep": steps.len(), "totalSteps": steps.len(), "steps": steps,
    })
}

/// The tree of groups before anything was deployed.
pub(crate) fn no_groups() -> Arc<Value> {
    Arc::new(
        json!({"id": "/", "apps": [], "groups": [], "pods": [], "dependencies": [], "version": super::clock::now()}),
    )
}

/// The tree of groups below `id`. A service that is being removed is in it no more.
pub(crate) fn group(marathon: &Marathon, state: &State, id: &str, embed: &Embed) -> Value {
    let prefix = format!("{}/", id.trim_end_matches('/'));
    let own = |path: &str| path.strip_prefix(&prefix).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
    let (mut apps, mut pods) = (vec![], vec![]);
    for (path, service) in state.services.iter().filter(|(path, service)| own(path) && !service.removing) {
        match service.spec.pod {
            true => pods.push(definition(service)),
            false => apps.push(app(marathon, state, path, service, embed)),
        }
    }
    let children = state.groups.keys().filter(|path| own(path));
    let groups: Vec<Value> = children.map(|child| group(marathon, state, child, embed)).collect();
    let (version, dependencies) = state.groups.get(id).map(|g| (&g.version, &g.dependencies)).unzip();
    let dependencies = dependencies.map_or(&[][..], Vec::as_slice);
    json!({"id": id, "apps": apps, "groups": groups, "pods": pods, "dependencies": dependencies, "version": version})
}

/// `/v2/pods::status`.
pub(crate) fn pod_status(marathon: &Marathon, state: &State, id: &str, service: &Service) -> Value {
    let tasks = state.tasks_of(id);
    let ready = tasks.iter().filter(|t| t.ready()).count();
    let status = if service.removing {
        "TERMINAL"
    } else if ready == service.spec.instances {
        "STABLE"
    } else {
        "DEGRADED"
    };
    let since = &service.version;
    json!({
        "id": id, "spec": definition(service), "status": status, "statusSince": since,
        "instances": tasks.iter().map(|t| pod_instance(marathon, t)).collect::<Vec<_>>(),
        "terminationHistory": [], "lastUpdated": since, "lastChanged": since,
    })
}

fn pod_instance(marathon: &Marathon, task: &Task) -> Value {
    let since = task.started_at.as_ref().unwrap_or(&task.staged_at);
    let status = match task.condition {
        Condition::Staging | Condition::Starting => "STAGING",
        Condition::Running => "STABLE",
        Condition::Killing | Condition::Killed | Condition::Finished | Condition::Failed => "TERMINAL",
    };
    let addresses: Vec<String> = task.addresses().map(|ip| ip.to_string()).collect();
    let networks = match &task.spec.network {
        _ if addresses.is_empty() => json!([]),
        Network::Container(name) => json!([{"name": name, "addresses": addresses}]),
        Network::Host | Network::Bridge => json!([{"addresses": addresses}]),
    };
    json!({
        "id": task.instance, "status": status, "statusSince": since, "specReference": format!("/v2/pods{}::versions/{}", task.service, task.version),
        "agentHostname": marathon.agents.host(task.agent).to_string(), "agentId": marathon.agents.id(task.agent),
        "networks": networks, "containers": pod_containers(task), "lastUpdated": since, "lastChanged": since,
    })
}

fn pod_containers(task: &Task) -> Vec<Value> {
    let since = task.started_at.as_ref().unwrap_or(&task.staged_at);
    let units = task.spec.units.iter().enumerate();
    units
        .map(|(index, unit)| {
            let ports = task.spec.ports.iter().zip(task.host_ports.iter().chain(std::iter::repeat(&None)));
            let endpoints: Vec<Value> = ports
                .filter(|(port, _)| port.unit == index)
                .map(|(port, host)| {
                    let mut endpoint = Map::from_iter([("name".to_owned(), Value::from(port.name.clone()))]);
                    endpoint.extend(host.map(|h| ("allocatedHostPort".to_owned(), h.into())));
                    Value::Object(endpoint)
                })
                .collect();
            json!({
                "name": unit.name, "status": task.condition.mesos(), "statusSince": since,
                "containerId": format!("{}.{}", task.instance, unit.name), "endpoints": endpoints,
                "lastUpdated": since, "lastChanged": since,
            })
        })
        .collect()
}
