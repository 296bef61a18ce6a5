//! Groups: made, updated as a whole, scaled, rolled back and removed, each as one deployment.
//!
//! A list that an update gives is complete: apps and groups that it does not name go. A list that it leaves out stays.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::changes::{Change, Mode};
use super::definition::{self, Object, absolute};
use super::edit::{Edit, Step, is_within};
use super::error::ApiError;
use super::state::{Service, State};
use super::{Marathon, render, types};

/// Marathon's groups are rarely more than three deep; a body of braces must not exhaust the stack.
const DEEPEST: usize = 16;

impl Marathon {
    /// POST: there must be no such group. Gives its path as well.
    pub(crate) fn create_group(&self, base: &str, update: &Object, force: bool) -> Result<(String, Change), ApiError> {
        let id = target(base, update);
        let change = self.commit(force, |state| {
            if state.groups.contains_key(&id) {
                let said = format!("Group {id} is already created. Use PUT to change this group.");
                return Err(ApiError::Conflict(said));
            }
            if state.services.contains_key(&id) {
                return Err(ApiError::Conflict(format!("An app with the path {id} already exists.")));
            }
            self.group_edit(state, &id, update)
        })?;
        Ok((id, change))
    }

    /// PUT: makes the group if there is none.
    pub(crate) fn update_group(&self, base: &str, update: &Object, force: bool) -> Result<Change, ApiError> {
        let id = target(base, update);
        self.commit(force, |state| self.group_edit(state, &id, update))
    }

    /// PUT with `dryRun=true`: the steps that it would take.
    pub(crate) fn try_group(&self, base: &str, update: &Object) -> Result<Value, ApiError> {
        let id = target(base, update);
        self.with(|state| {
            let edit = self.group_edit(state, &id, update)?;
            edit.check(state)?;
            let actions = edit.actions(state);
            Ok(json!({"steps": if actions.is_empty() { json!([]) } else { json!([render::step(&actions)]) }}))
        })
    }

    /// The group with everything below; of the root only what is below.
    pub(crate) fn remove_group(&self, id: &str, force: bool) -> Result<Change, ApiError> {
        self.commit(force, |state| {
            known(state, id)?;
            let mut draft = Draft::new(self, state);
            draft.remove(id);
            if id == "/" {
                draft.edit.groups.insert("/".to_owned(), None);
            }
            Ok(draft.edit)
        })
    }

    fn group_edit(&self, state: &State, id: &str, update: &Object) -> Result<Edit, ApiError> {
        let mut update = update.clone();
        update.retain(|_, value| !value.is_null());
        let mut draft = Draft::new(self, state);
        draft.check_types(&update)?;
        let lists = ["apps", "groups", "dependencies"].iter().any(|field| update.contains_key(*field));
        match (update.get("scaleBy").and_then(Value::as_f64), update.get("version").and_then(Value::as_str)) {
            (None, None) => draft.group(id, &update, 0)?,
            (Some(factor), None) if !lists => draft.scale(id, factor)?,
            (None, Some(version)) if !lists => draft.roll_back(id, version)?,
            (Some(_), _) => return Err(alone("/scaleBy")),
            (None, Some(_)) => return Err(alone("/version")),
        }
        Ok(draft.edit)
    }
}

/// The group that an update means: its own id, which may be relative to the path of the request.
fn target(base: &str, update: &Object) -> String {
    update.get("id").and_then(Value::as_str).map_or_else(|| absolute(base), |id| below(base, id))
}

fn below(base: &str, id: &str) -> String {
    if id.starts_with('/') { absolute(id) } else { absolute(&format!("{base}/{id}")) }
}

fn alone(path: &str) -> ApiError {
    ApiError::invalid(path, "not allowed in conjunction with other properties")
}

/// 404 for a group that is not there.
pub(crate) fn known(state: &State, id: &str) -> Result<(), ApiError> {
    let missing = || ApiError::Missing { what: "Group", id: id.to_owned() };
    state.groups.get(id).map(|_| ()).ok_or_else(missing)
}

/// The trees of the past that had this group, newest first, each cut down to it.
pub(crate) fn past<'a>(state: &'a State, id: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let trees = state.trees.iter().rev();
    trees.filter_map(move |tree| Some((tree.get("version")?.as_str()?, subtree(tree, id)?)))
}

fn subtree<'a>(tree: &'a Value, id: &str) -> Option<&'a Value> {
    let own = tree.get("id")?.as_str()?;
    if own == id {
        return Some(tree);
    }
    let children = tree.get("groups")?.as_array()?;
    children.iter().filter(|_| is_within(id, own)).find_map(|child| subtree(child, id))
}

/// An edit in the making.
struct Draft<'a> {
    marathon: &'a Marathon,
    state: &'a State,
    /// Service ports that this edit has given away.
    taken: BTreeSet<u16>,
    edit: Edit,
}

impl<'a> Draft<'a> {
    fn new(marathon: &'a Marathon, state: &'a State) -> Self {
        Self { marathon, state, taken: BTreeSet::new(), edit: Edit::default() }
    }

    fn check_types(&self, update: &Object) -> Result<(), ApiError> {
        let mistyped = types::of_group(update);
        if mistyped.is_empty() { Ok(()) } else { Err(ApiError::Mistyped(self.marathon.dialect, mistyped)) }
    }

    fn group(&mut self, id: &str, update: &Object, depth: usize) -> Result<(), ApiError> {
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

    fn remove(&mut self, group: &str) {
        self.edit.gone.insert(group.to_owned());
        let steps: Vec<Step> = self.services(group).map(|(id, _)| Step::Remove(id.clone())).collect();
        self.edit.steps.extend(steps);
    }

    fn scale(&mut self, group: &str, factor: f64) -> Result<(), ApiError> {
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

    fn roll_back(&mut self, group: &str, version: &str) -> Result<(), ApiError> {
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

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(above, _)| if above.is_empty() { "/" } else { above })
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
