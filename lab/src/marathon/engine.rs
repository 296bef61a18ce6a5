//! Brings every service to what its definition says: looks whenever something changed and four times a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use super::definition::Dialect;
use super::plan::{Target, plan};
use super::state::{Condition, Deployment, Service, State, Task};
use super::{Marathon, notices, run};

/// A backoff whose time came is noticed within this.
const PERIOD: Duration = Duration::from_millis(250);
/// Marathon's `maxLaunchDelaySeconds`.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// Runs until the emulator is dropped.
pub(crate) async fn run_engine(marathon: Arc<Marathon>) {
    loop {
        step(&marathon);
        // Elapsed or woken: both mean "look again".
        let _ = tokio::time::timeout(PERIOD, marathon.changed.notified()).await;
    }
}

fn step(marathon: &Arc<Marathon>) {
    let mut staged = Vec::new();
    let (done, gone) = marathon.with(|state| {
        let mut gone = Vec::new();
        let ids: Vec<String> = state.services.keys().cloned().collect();
        for id in ids {
            if step_service(marathon, state, &id, &mut staged) {
                for deployment in state.deployments.values_mut() {
                    deployment.pending.remove(&id);
                }
                if state.services.get(&id).is_some_and(|service| service.removing) {
                    state.services.remove(&id);
                    gone.push(id);
                }
            }
        }
        (finish_deployments(state), gone)
    });
    for instance in staged {
        notices::task_changed(marathon, &instance, "");
        tokio::spawn(run::run(marathon.clone(), instance));
    }
    gone.iter().for_each(|id| notices::app_terminated(marathon, id));
    done.iter().for_each(|deployment| notices::deployment_done(marathon, deployment));
}

/// One service; true when it is as it should be.
fn step_service(marathon: &Marathon, state: &mut State, id: &str, staged: &mut Vec<String>) -> bool {
    let Some(service) = state.services.get(id) else { return false };
    let spec = service.spec.clone();
    let target = Target {
        instances: if service.removing { 0 } else { spec.instances },
        min_health: spec.min_health,
        max_over: spec.max_over,
    };
    let plan = plan(target, &state.present(id, service));
    let delayed = service.not_before.is_some_and(|at| at > Instant::now());
    for instance in &plan.kill {
        ask_to_end(state, instance);
    }
    if !delayed {
        staged.extend((0..plan.launch).filter_map(|_| stage(marathon, state, id)));
    }
    plan.done
}

/// A new task in the lists, not yet started.
fn stage(marathon: &Marathon, state: &mut State, id: &str) -> Option<String> {
    let service = state.services.get(id)?;
    let uuid = marathon.clock.uuid();
    let name = id.trim_start_matches('/').replace('/', "_");
    let (instance, task) = match (marathon.dialect, service.spec.pod) {
        (Dialect::V1_3, _) => (format!("{name}.{uuid}"), format!("{name}.{uuid}")),
        (Dialect::V1_9, true) => (format!("{name}.instance-{uuid}"), format!("{name}.instance-{uuid}")),
        (Dialect::V1_9, false) => (format!("{name}.instance-{uuid}"), format!("{name}.instance-{uuid}._app.1")),
    };
    let agent = place(marathon, state, id, service)?;
    let task = Task {
        id: task,
        instance: instance.clone(),
        service: id.to_owned(),
        spec: service.spec.clone(),
        order: state.launched,
        agent,
        version: service.version.clone(),
        config_version: service.config_version.clone(),
        condition: if marathon.dialect == Dialect::V1_3 { Condition::Staging } else { Condition::Starting },
        host_ports: Vec::new(),
        address: None,
        address6: None,
        staged_at: super::clock::now(),
        started_at: None,
        checks: Vec::new(),
        kill: Arc::new(Notify::new()),
        kill_asked: false,
    };
    state.launched += 1;
    state.tasks.insert(instance.clone(), task);
    Some(instance)
}

/// Among the agents that the constraints admit, round robin by service: the one with the fewest tasks of it, then with the
/// fewest at all, then the first. None: the task waits, as for an offer that does not come.
fn place(marathon: &Marathon, state: &State, id: &str, service: &Service) -> Option<usize> {
    let counted =
        |task: &&Task| task.service == id && task.config_version == service.config_version && !task.kill_asked;
    let hosts: Vec<String> =
        state.tasks.values().filter(counted).map(|task| marathon.agents.host(task.agent).to_string()).collect();
    let placed: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let admitted = |agent: &usize| {
        let host = marathon.agents.host(*agent).to_string();
        service.spec.placement.iter().all(|constraint| constraint.admits(&host, &placed))
    };
    let load = |agent: &usize| {
        let here = state.tasks.values().filter(|task| task.agent == *agent);
        let of_service = here.clone().filter(|task| task.service == id).count();
        (of_service, here.count())
    };
    (0..marathon.agents.count().max(1)).filter(admitted).min_by_key(load)
}

/// Tells a task to end, once.
pub(crate) fn ask_to_end(state: &mut State, instance: &str) {
    if let Some(task) = state.tasks.get_mut(instance)
        && !task.kill_asked
    {
        task.kill_asked = true;
        task.kill.notify_one();
    }
}

/// Those that wait for no service any more; one that changed only groups never did.
fn finish_deployments(state: &mut State) -> Vec<Deployment> {
    let finished = state.deployments.values().filter(|deployment| deployment.pending.is_empty());
    let ids: Vec<String> = finished.map(|deployment| deployment.id.clone()).collect();
    ids.iter().filter_map(|id| state.deployments.remove(id)).collect()
}

/// A task that ended by itself delays the next start of its app.
pub(crate) fn note_failure(state: &mut State, task: &Task, last: Condition, message: &str) {
    let Some(service) = state.services.get_mut(&task.service) else { return };
    service.failures = service.failures.saturating_add(1);
    let factor = service.spec.backoff_factor.max(1.0).powi(i32::try_from(service.failures - 1).unwrap_or(i32::MAX));
    let delay = service.spec.backoff.mul_f64(factor.min(1e6)).min(LONGEST_BACKOFF);
    service.not_before = Instant::now().checked_add(delay);
    service.last_failure = Some(failure(task, service, last, message));
}

fn failure(task: &Task, service: &Service, last: Condition, message: &str) -> serde_json::Value {
    json!({
        "appId": task.service, "message": message, "state": last.mesos(), "taskId": task.id,
        "timestamp": super::clock::now(), "version": service.version,
    })
}
