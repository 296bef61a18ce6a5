//! A change of any number of services and groups: checked as a whole, carried out as a whole, one deployment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Marathon;
use super::changes::Change;
use super::definition::Object;
use super::error::ApiError;
use super::paths::{ancestors, is_within};
use super::render::{self, Embed};
use super::spec::RunSpec;
use super::state::{Action, Deployment, Service, State, TREES_KEPT, VERSIONS_KEPT};

/// What happens to one service.
#[derive(Debug)]
pub(crate) enum Step {
    Install { definition: Object, spec: Box<RunSpec> },
    Remove(String),
    Restart(String),
}

/// Everything that one request changes.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    pub(crate) steps: Vec<Step>,
    /// Groups that are to exist, each with its dependencies where they were given.
    pub(crate) groups: BTreeMap<String, Option<Vec<String>>>,
    /// Groups that go, each with every group below.
    pub(crate) gone: BTreeSet<String>,
}

impl From<Step> for Edit {
    fn from(step: Step) -> Self {
        Self { steps: vec![step], ..Self::default() }
    }
}

impl Step {
    pub(crate) fn install(definition: Object, spec: RunSpec) -> Self {
        Self::Install { definition, spec: Box::new(spec) }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Install { spec, .. } => &spec.id,
            Self::Remove(id) | Self::Restart(id) => id,
        }
    }

    /// Whether the service is there already exactly as it is to be.
    pub(crate) fn is_done(&self, state: &State) -> bool {
        let Self::Install { definition, spec } = self else { return false };
        state.services.get(&spec.id).is_some_and(|service| !service.removing && service.definition == *definition)
    }

    /// As Marathon names it in a deployment.
    fn action(&self, state: &State) -> Action {
        let existing = state.services.get(self.id());
        let kind = match (self, existing) {
            (Self::Install { .. }, None) => "Start",
            (Self::Install { definition, .. }, Some(service)) if only_scaled(service, definition) => "Scale",
            (Self::Install { .. } | Self::Restart(_), _) => "Restart",
            (Self::Remove(_), _) => "Stop",
        };
        let pod = match self {
            Self::Install { spec, .. } => spec.pod,
            Self::Remove(_) | Self::Restart(_) => existing.is_some_and(|service| service.spec.pod),
        };
        Action {
            kind: format!("{kind}{}", if pod { "Pod" } else { "Application" }),
            service: self.id().to_owned(),
            pod,
        }
    }
}

impl Edit {
    pub(crate) fn actions(&self, state: &State) -> Vec<Action> {
        self.steps.iter().map(|step| step.action(state)).collect()
    }

    /// An id is a group's or a service's, never both.
    pub(crate) fn check(&self, state: &State) -> Result<(), ApiError> {
        let removed: BTreeSet<&str> =
            self.steps.iter().filter(|step| matches!(step, Step::Remove(_))).map(Step::id).collect();
        let kept = state.services.iter().filter(|(_, service)| !service.removing).map(|(id, _)| id.as_str());
        let installed = || self.steps.iter().filter(|step| matches!(step, Step::Install { .. })).map(Step::id);
        let services: BTreeSet<&str> = kept.filter(|id| !removed.contains(id)).chain(installed()).collect();
        let groups = state.groups.keys().map(String::as_str).filter(|path| !self.removes_group(path));
        let mut groups = groups.chain(self.groups.keys().map(String::as_str)).chain(installed().flat_map(ancestors));
        match groups.find(|path| services.contains(path)) {
            Some(id) => {
                let said = format!("Groups and Applications may not have the same identifier: {id}");
                Err(ApiError::invalid("/", said))
            }
            None => Ok(()),
        }
    }

    fn removes_group(&self, path: &str) -> bool {
        self.gone.iter().any(|group| is_within(path, group))
    }

    /// Puts everything in force under one version, as one deployment.
    pub(crate) fn carry_out(self, marathon: &Marathon, state: &mut State, version: String) -> Change {
        let actions = self.actions(state);
        let created = actions.iter().any(|action| action.kind.starts_with("Start"));
        let Self { steps, groups, gone } = self;
        state.groups.retain(|path, _| !gone.iter().any(|group| is_within(path, group)));
        gone.iter().for_each(|path| touch(state, path, &version));
        for (path, dependencies) in groups {
            found(state, &path, &version);
            let group = state.groups.entry(path).or_default();
            version.clone_into(&mut group.version);
            group.dependencies = dependencies.unwrap_or_else(|| std::mem::take(&mut group.dependencies));
        }
        steps.into_iter().for_each(|step| take(state, step, &version));
        let change = deploy(marathon, state, actions, version);
        Change { created, ..change }
    }
}

fn take(state: &mut State, step: Step, version: &str) {
    match step {
        Step::Install { definition, spec } => {
            found(state, &spec.id, version);
            match state.services.get_mut(&spec.id) {
                None => drop(state.services.insert(spec.id.clone(), fresh(definition, *spec, version))),
                Some(service) => replace(service, definition, *spec, version),
            }
        }
        Step::Remove(id) => {
            touch(state, &id, version);
            state.services.get_mut(&id).into_iter().for_each(|service| service.removing = true);
        }
        Step::Restart(id) => {
            touch(state, &id, version);
            if let Some(service) = state.services.get_mut(&id) {
                version.clone_into(&mut service.version);
                version.clone_into(&mut service.config_version);
            }
        }
    }
}

/// Makes every group above, which outlives what it was made for.
fn found(state: &mut State, path: &str, version: &str) {
    for above in ancestors(path) {
        state.groups.entry(above.to_owned()).or_default();
    }
    touch(state, path, version);
}

/// A change below is a new version of every group above.
fn touch(state: &mut State, path: &str, version: &str) {
    for above in ancestors(path) {
        state.groups.get_mut(above).into_iter().for_each(|group| version.clone_into(&mut group.version));
    }
}

fn deploy(marathon: &Marathon, state: &mut State, actions: Vec<Action>, version: String) -> Change {
    let id = marathon.clock.uuid();
    let target = Arc::new(render::group(marathon, state, "/", &Embed::default()));
    let deployment = Deployment {
        id: id.clone(),
        version: version.clone(),
        pending: actions.iter().map(|action| action.service.clone()).collect(),
        actions,
        original: state.trees.back().cloned().unwrap_or_else(render::no_groups),
        target: target.clone(),
    };
    state.trees.push_back(target);
    if state.trees.len() > TREES_KEPT {
        state.trees.pop_front();
    }
    state.deployments.insert(id.clone(), deployment);
    Change { version, deployment: id, created: false }
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
fn replace(service: &mut Service, definition: Object, spec: RunSpec, version: &str) {
    let scaled = only_scaled(service, &definition);
    service.version = version.to_owned();
    service.history.push_back((version.to_owned(), definition.clone()));
    if service.history.len() > VERSIONS_KEPT {
        service.history.pop_front();
    }
    service.definition = definition;
    service.removing = false;
    service.spec = Arc::new(spec);
    if scaled {
        service.scaling_version = version.to_owned();
        return;
    }
    service.config_version = version.to_owned();
    (service.failures, service.not_before) = (0, None);
}

fn only_scaled(service: &Service, definition: &Object) -> bool {
    let scale = |(key, _): &(&String, _)| key.as_str() != "instances" && key.as_str() != "scaling";
    service.definition.iter().filter(scale).eq(definition.iter().filter(scale))
}
