//! Groups: made, updated as a whole, scaled, rolled back and removed, each as one deployment.
//!
//! A list that an update gives is complete: apps and groups that it does not name go. A list that it leaves out stays.

use serde_json::{Value, json};

use super::changes::Change;
use super::definition::{Object, absolute};
use super::draft::Draft;
use super::edit::Edit;
use super::error::ApiError;
use super::paths::{below, is_within};
use super::state::State;
use super::{Marathon, render};

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
