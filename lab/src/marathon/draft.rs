//! What an update of a group comes to, gathered step by step; nothing is in force until the edit is carried out.

use std::collections::BTreeSet;

use serde_json::Value;

use super::changes::Mode;
use super::definition::{self, Object};
use super::edit::{Edit, Step};
use super::error::ApiError;
use super::groups::{known, past};
use super::paths::{below, is_within, parent};
use super::state::{Service, State};
use super::{Marathon, types};

/// Marathon's groups are rarely more than three deep; a body of braces must not exhaust the stack.
const DEEPEST: usize = 16;

/// An edit in the making.
pub(crate) struct Draft<'a> {
    marathon: &'a Marathon,
    state: &'a State,
    /// Service ports that this edit has given away.
    taken: BTreeSet<u16>,
    pub(crate) edit: Edit,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(marathon: &'a Marathon, state: &'a State) -> Self {
        Self { marathon, state, taken: BTreeSet::new(), edit: Edit::default() }
    }

    pub(crate) fn check_types(&self, update: &Object) -> Result<(), ApiError> {
        let mistyped = types::of_group(update);
        if mistyped.is_empty() { Ok(()) } else { Err(ApiError::Mistyped(self.marathon.dialect, mistyped)) }
    }

    pub(crate) fn group(&mut self, id: &str, update: &Object, depth: usize) -> Result<(), ApiError> {
        if depth > DEEPEST {
            return Err(ApiError::invalid("/groups", format!("groups may be no more than {DEEPEST} deep")));
        }
        self.check_types(update)?;
        let mut violations = Vec::new();
        if id != "/" {
            definition::check_id(self.marathon.dialect, id, &mut violations);
        }
        if !violations.is_empty() {
            return Err(ApiError::Invalid(violations));
        }
        let list = |field: &str| update.get(field).and_then(Value::as_array);
        let dependencies = list("dependencies").map(|all| all.iter().filter_map(Value::as_str));
        let dependencies = dependencies.map(|all| all.map(|path| below(id, path)).collect());
        self.edit.groups.insert(id.to_owned(), dependencies);
        list("apps").map_or(Ok(()), |apps| self.apps(id, apps))?;
        list("groups").map_or(Ok(()), |groups| self.groups(id, groups, depth))
    }

    fn apps(&mut self, group: &str, apps: &[Value]) -> Result<(), ApiError> {
        let mut named = BTreeSet::new();
        for (index, app) in apps.iter().enumerate() {
            let place = format!("/apps({index})");
            let (id, app) = member(group, app, &mut named).map_err(|error| error.within(&place))?;
            let step = self.marathon.define(self.state, &id, app, Mode::Replace, &mut self.taken);
            self.push(step.map_err(|error| error.within(&place))?);
        }
        let own = self.services(group).filter(|(id, service)| parent(id) == group && !service.spec.pod);
        let unnamed: Vec<Step> =
            own.filter(|(id, _)| !named.contains(*id)).map(|(id, _)| Step::Remove(id.clone())).collect();
        self.edit.steps.extend(unnamed);
        Ok(())
    }

    fn groups(&mut self, group: &str, children: &[Value], depth: usize) -> Result<(), ApiError> {
        let mut named = BTreeSet::new();
        for (index, child) in children.iter().enumerate() {
            let place = format!("/groups({index})");
            let (id, child) = member(group, child, &mut named).map_err(|error| error.within(&place))?;
            self.group(&id, &child, depth + 1).map_err(|error| error.within(&place))?;
        }
        let own = self.state.groups.keys().filter(|path| *path != "/" && parent(path) == group);
        let unnamed: Vec<&String> = own.filter(|path| !named.iter().any(|id| is_within(id, path))).collect();
        unnamed.into_iter().for_each(|path| self.remove(path));
        Ok(())
    }

    pub(crate) fn remove(&mut self, group: &str) {
        self.edit.gone.insert(group.to_owned());
        let steps: Vec<Step> = self.services(group).map(|(id, _)| Step::Remove(id.clone())).collect();
        self.edit.steps.extend(steps);
    }

    pub(crate) fn scale(&mut self, group: &str, factor: f64) -> Result<(), ApiError> {
        known(self.state, group)?;
        if factor < 0.0 {
            return Err(ApiError::invalid("/scaleBy", format!("got {factor}, expected 0 or more")));
        }
        let apps: Vec<_> = self.services(group).filter(|(_, service)| !service.spec.pod).collect();
        for (id, service) in apps {
            let instances = (service.spec.instances as f64 * factor).ceil() as u64;
            let update = Object::from_iter([("instances".to_owned(), instances.into())]);
            let step = self.marathon.define(self.state, id, update, Mode::Merge, &mut self.taken)?;
            self.push(step);
        }
        self.edit.groups.insert(group.to_owned(), None);
        Ok(())
    }

    pub(crate) fn roll_back(&mut self, group: &str, version: &str) -> Result<(), ApiError> {
        let at = |(root, then): &(&str, &Value)| *root == version || then["version"] == version;
        let then = past(self.state, group).find(at).and_then(|(_, then)| then.as_object());
        let missing = || ApiError::invalid("/version", format!("Group {group} not available in version {version}"));
        self.group(group, then.ok_or_else(missing)?, 0)
    }

    /// Apps and pods below a group that are to stay.
    fn services(&self, group: &str) -> impl Iterator<Item = (&'a String, &'a Service)> + use<'a> {
        let prefix = format!("{}/", group.trim_end_matches('/'));
        let all = self.state.services.iter();
        all.filter(move |(id, service)| id.starts_with(&prefix) && !service.removing)
    }

    fn push(&mut self, step: Step) {
        if !step.is_done(self.state) {
            self.edit.steps.push(step);
        }
    }
}

/// One app or group of a list: its path below the group, each once.
fn member(group: &str, of: &Value, named: &mut BTreeSet<String>) -> Result<(String, Object), ApiError> {
    let object = of.as_object().cloned().unwrap_or_default();
    let id = object.get("id").and_then(Value::as_str).ok_or_else(|| ApiError::invalid("/id", "error.path.missing"))?;
    let id = below(group, id);
    if id == group || !is_within(&id, group) {
        let said = format!("identifier {id} is not child of {group}. Hint: use relative paths.");
        return Err(ApiError::invalid("/id", said));
    }
    if !named.insert(id.clone()) {
        return Err(ApiError::invalid("/id", format!("{id} is named twice")));
    }
    Ok((id, object))
}
