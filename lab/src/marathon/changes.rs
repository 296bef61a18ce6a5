//! Changes of definitions: each makes a version and a deployment, which the engine then carries out.

use std::collections::BTreeSet;

use serde_json::Value;

use super::definition::{self, Object};
use super::edit::{Edit, Step};
use super::error::ApiError;
use super::spec::RunSpec;
use super::state::{Deployment, Service, State};
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
        self.commit(force, |state| {
            let existing = state.services.get(id).filter(|_| mode == Mode::Create);
            let (exists, is_pod) = (existing.is_some(), existing.is_some_and(|service| service.spec.pod));
            let refusal = || ApiError::Exists { id: id.to_owned() };
            if is_pod {
                return Err(refusal());
            }
            // As AppsResource.create has it: what is invalid is said first.
            let step = self.define(state, id, update, mode, &mut BTreeSet::new())?;
            if exists { Err(refusal()) } else { Ok(step.into()) }
        })
    }

    /// An app as it is to be. `taken` are the service ports that the same request has given away.
    pub(crate) fn define(
        &self,
        state: &State,
        id: &str,
        update: Object,
        mode: Mode,
        taken: &mut BTreeSet<u16>,
    ) -> Result<Step, ApiError> {
        let existing = state.services.get(id);
        if existing.is_some_and(|service| service.spec.pod) {
            return Err(ApiError::invalid("/id", "Applications and Pods may not share the same id"));
        }
        let base = existing.filter(|_| mode == Mode::Merge).map(|service| &service.definition);
        let mut definition = definition::accept(self.dialect, id, update, base)?;
        let held: BTreeSet<u16> = state.service_ports(id).union(taken).copied().collect();
        service_ports::assign(self.dialect, &mut definition, &held);
        let spec = RunSpec::of_app(&definition);
        taken.extend(spec.ports.iter().map(|port| port.service));
        Ok(Step::install(definition, spec))
    }

    pub(crate) fn change_pod(&self, id: &str, pod: Object, mode: Mode, force: bool) -> Result<Change, ApiError> {
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
        self.commit(force, |state| {
            if mode == Mode::Create && state.services.contains_key(id) {
                return Err(ApiError::Exists { id: id.to_owned() });
            }
            let spec = RunSpec::of_pod(&pod);
            Ok(Step::install(pod, spec).into())
        })
    }

    /// Kills all tasks, then forgets the service.
    pub(crate) fn remove(&self, id: &str, force: bool) -> Result<Change, ApiError> {
        self.commit(force, |state| {
            known(state, id)?;
            Ok(Step::Remove(id.to_owned()).into())
        })
    }

    /// Replaces every task, by the upgrade strategy.
    pub(crate) fn restart(&self, id: &str, force: bool) -> Result<Change, ApiError> {
        self.commit(force, |state| {
            known(state, id)?;
            Ok(Step::Restart(id.to_owned()).into())
        })
    }

    /// Every service of a cancelled deployment as it was before.
    pub(crate) fn revert(&self, cancelled: &Deployment) -> Result<Change, ApiError> {
        self.commit(true, |state| {
            let services =
                cancelled.actions.iter().filter_map(|action| Some((action, known(state, &action.service).ok()?)));
            let steps = services.map(|(action, service)| before(&action.kind, service));
            Ok(Edit { steps: steps.collect(), ..Edit::default() })
        })
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

    /// Makes an edit of what there is, and puts it in force if nothing speaks against it.
    pub(crate) fn commit(
        &self,
        force: bool,
        edit: impl FnOnce(&State) -> Result<Edit, ApiError>,
    ) -> Result<Change, ApiError> {
        let version = self.clock.version();
        let (change, cancelled) = self.with(|state| {
            let edit = edit(state)?;
            edit.check(state)?;
            let cancelled = unlock(state, &edit, force)?;
            Ok((edit.carry_out(self, state, version), cancelled))
        })?;
        Ok(self.announce(change, &cancelled))
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

/// A deployment holds its apps until it is done; `force` cancels it.
fn unlock(state: &mut State, edit: &Edit, force: bool) -> Result<Vec<Deployment>, ApiError> {
    let held = edit.steps.iter().flat_map(|step| state.deployments_of(step.id()));
    let deployments: BTreeSet<String> = held.map(|deployment| deployment.id.clone()).collect();
    if !deployments.is_empty() && !force {
        return Err(ApiError::Locked { deployments: deployments.into_iter().collect() });
    }
    Ok(deployments.iter().filter_map(|id| state.deployments.remove(id)).collect())
}

/// What undoes an action: a start by its end, an end by the definition that was to end, anything else by the one before.
fn before(kind: &str, service: &Service) -> Step {
    let back = if kind.starts_with("Stop") { 0 } else { 1 };
    let definition = service.history.iter().rev().nth(back).map(|(_, definition)| definition.clone());
    let Some(definition) = definition.filter(|_| !kind.starts_with("Start")) else {
        return Step::Remove(service.spec.id.clone());
    };
    let spec = if service.spec.pod { RunSpec::of_pod(&definition) } else { RunSpec::of_app(&definition) };
    Step::install(definition, spec)
}
