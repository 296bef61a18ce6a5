//! Changes of definitions: each makes a version and a deployment, which the engine then carries out.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::definition::{self, Object};
use super::error::ApiError;
use super::render::{self, Embed};
use super::spec::RunSpec;
use super::state::{Deployment, Service, State, VERSIONS_KEPT};
use super::{Marathon, notices, service_ports};

/// What a change answers.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: String,
    pub(crate) deployment: String,
    pub(crate) created: bool,
}

/// How an app's update is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// POST: must not exist.
    Create,
    /// PUT, PATCH: laid over what exists; PUT creates what does not.
    Merge,
    /// PUT with `partialUpdate=false`.
    Replace,
}

impl Marathon {
    pub(crate) fn change_app(&self, id: &str, update: Object, mode: Mode, force: bool) -> Result<Change, ApiError> {
        let version = self.clock.version();
        let (change, cancelled) = self.with(|state| {
            let existing = state.services.get(id).map(|service| service.definition.clone());
            if existing.is_some() && mode == Mode::Create {
                return Err(ApiError::Exists { id: id.to_owned() });
            }
            let cancelled = unlock(state, id, force)?;
            let base = existing.as_ref().filter(|_| mode == Mode::Merge);
            let mut definition = definition::accept(self.dialect, id, update, base)?;
            service_ports::assign(self.dialect, &mut definition, &state.service_ports(id));
            let spec = RunSpec::of_app(&definition);
            Ok((self.install(state, definition, spec, version), cancelled))
        })?;
        Ok(self.announce(change, &cancelled))
    }

    pub(crate) fn change_pod(&self, id: &str, pod: Object, mode: Mode, force: bool) -> Result<Change, ApiError> {
        let version = self.clock.version();
        let mut pod = pod;
        pod.remove("version");
        pod.insert("id".to_owned(), id.into());
        let mut violations = Vec::new();
        definition::check_id(self.dialect, id, &mut violations);
        if !violations.is_empty() {
            return Err(ApiError::Invalid(violations));
        }
        if pod.get("containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(ApiError::invalid("/containers", "a pod must have at least one container"));
        }
        pod.entry("networks").or_insert_with(|| serde_json::json!([{"mode": "host"}]));
        pod.entry("scaling").or_insert_with(|| serde_json::json!({"kind": "fixed", "instances": 1}));
        let (change, cancelled) = self.with(|state| {
            if mode == Mode::Create && state.services.contains_key(id) {
                return Err(ApiError::Exists { id: id.to_owned() });
            }
            let cancelled = unlock(state, id, force)?;
            let spec = RunSpec::of_pod(&pod);
            Ok((self.install(state, pod, spec, version), cancelled))
        })?;
        Ok(self.announce(change, &cancelled))
    }

    /// Kills all tasks, then forgets the service.
    pub(crate) fn remove(&self, id: &str, force: bool) -> Result<Change, ApiError> {
        let version = self.clock.version();
        let (change, cancelled) = self.with(|state| {
            known(state, id)?;
            let cancelled = unlock(state, id, force)?;
            if let Some(service) = state.services.get_mut(id) {
                service.removing = true;
            }
            let pod = state.services.get(id).is_some_and(|service| service.spec.pod);
            let action = if pod { "StopPod" } else { "StopApplication" };
            Ok((self.deploy(state, id, action, version), cancelled))
        })?;
        Ok(self.announce(change, &cancelled))
    }

    /// Replaces every task, by the upgrade strategy.
    pub(crate) fn restart(&self, id: &str, force: bool) -> Result<Change, ApiError> {
        let version = self.clock.version();
        let (change, cancelled) = self.with(|state| {
            known(state, id)?;
            let cancelled = unlock(state, id, force)?;
            if let Some(service) = state.services.get_mut(id) {
                service.version.clone_from(&version);
                service.config_version.clone_from(&version);
            }
            Ok((self.deploy(state, id, "RestartApplication", version), cancelled))
        })?;
        Ok(self.announce(change, &cancelled))
    }

    /// Kills tasks of a service; with `scale` they are not replaced.
    pub(crate) fn kill_tasks(&self, id: &str, instances: &[String], scale: bool) -> Result<Option<Change>, ApiError> {
        if !scale {
            instances.iter().for_each(|instance| self.kill(instance));
            return Ok(None);
        }
        let now = self.with(|state| state.services.get(id).map(|service| service.spec.instances)).unwrap_or(0);
        let left = now.saturating_sub(instances.len());
        instances.iter().for_each(|instance| self.kill(instance));
        let update = Object::from_iter([("instances".to_owned(), left.into())]);
        self.change_app(id, update, Mode::Merge, true).map(Some)
    }

    /// Puts a definition in force.
    fn install(&self, state: &mut State, definition: Object, spec: RunSpec, version: String) -> Change {
        let id = spec.id.clone();
        let pod = spec.pod;
        let (action, created) = match state.services.get_mut(&id) {
            None => {
                let service = fresh(definition, spec, &version);
                state.services.insert(id.clone(), service);
                (if pod { "StartPod" } else { "StartApplication" }, true)
            }
            Some(service) => (replace(service, definition, spec, &version), false),
        };
        let change = self.deploy(state, &id, action, version);
        Change { created, ..change }
    }

    fn deploy(&self, state: &mut State, service: &str, action: &'static str, version: String) -> Change {
        let id = self.clock.uuid();
        let target = Arc::new(render::group(self, state, "/", &version, &Embed::default()));
        let deployment = Deployment {
            id: id.clone(),
            version: version.clone(),
            service: service.to_owned(),
            action,
            original: std::mem::replace(&mut state.groups, target.clone()),
            target,
        };
        state.deployments.insert(id.clone(), deployment);
        Change { version, deployment: id, created: false }
    }

    fn announce(&self, change: Change, cancelled: &[Deployment]) -> Change {
        cancelled.iter().for_each(|deployment| notices::deployment_cancelled(self, deployment));
        notices::group_changed(self, &change.version);
        let deployment = self.with(|state| state.deployments.get(&change.deployment).cloned());
        deployment.iter().for_each(|deployment| notices::deployment_began(self, deployment));
        self.wake();
        change
    }
}

/// 404 for an app that is not there.
pub(crate) fn known<'a>(state: &'a State, id: &str) -> Result<&'a Service, ApiError> {
    state.services.get(id).ok_or_else(|| ApiError::Missing { what: "App", id: id.to_owned() })
}

/// A deployment holds its app until it is done; `force` cancels it.
fn unlock(state: &mut State, id: &str, force: bool) -> Result<Vec<Deployment>, ApiError> {
    let deployments: Vec<String> = state.deployments_of(id).iter().map(|d| d.id.clone()).collect();
    if !deployments.is_empty() && !force {
        return Err(ApiError::Locked { deployments });
    }
    Ok(deployments.iter().filter_map(|id| state.deployments.remove(id)).collect())
}

fn fresh(definition: Object, spec: RunSpec, version: &str) -> Service {
    Service {
        history: VecDeque::from([(version.to_owned(), definition.clone())]),
        definition,
        spec: Arc::new(spec),
        version: version.to_owned(),
        config_version: version.to_owned(),
        scaling_version: version.to_owned(),
        removing: false,
        failures: 0,
        not_before: None,
        last_failure: None,
    }
}

/// Scaling alone keeps the running tasks; any other change replaces them.
fn replace(service: &mut Service, definition: Object, spec: RunSpec, version: &str) -> &'static str {
    let same = without_scale(&service.definition) == without_scale(&definition);
    service.version = version.to_owned();
    service.history.push_back((version.to_owned(), definition.clone()));
    if service.history.len() > VERSIONS_KEPT {
        service.history.pop_front();
    }
    service.definition = definition;
    service.removing = false;
    let pod = spec.pod;
    service.spec = Arc::new(spec);
    if same {
        service.scaling_version = version.to_owned();
        return if pod { "ScalePod" } else { "ScaleApplication" };
    }
    service.config_version = version.to_owned();
    (service.failures, service.not_before) = (0, None);
    if pod { "RestartPod" } else { "RestartApplication" }
}

fn without_scale(definition: &Object) -> Object {
    let mut definition = definition.clone();
    definition.remove("instances");
    definition.remove("scaling");
    definition
}
