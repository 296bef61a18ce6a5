//! `/v2/groups`: the apps as a tree. A group is its path: it exists while an app lies below it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::super::Marathon;
use super::super::changes::{Change, Mode};
use super::super::definition::{Object, absolute};
use super::super::error::ApiError;
use super::super::render::{self, Embed};
use super::{Pairs, Shared, deployed, flag, object, values};

pub(super) async fn root(State(marathon): Shared, Query(pairs): Pairs) -> Response {
    Json(tree(&marathon, "/", &pairs)).into_response()
}

pub(super) async fn get(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let id = absolute(&path);
    if below(&marathon, &id).is_empty() {
        return Err(ApiError::Missing { what: "Group", id });
    }
    Ok(Json(tree(&marathon, &id, &pairs)).into_response())
}

fn tree(marathon: &Marathon, id: &str, pairs: &[(String, String)]) -> Value {
    let embed = Embed::parse(&values(pairs, "embed"));
    marathon.with(|state| {
        let versions = state.services.values().map(|service| service.version.as_str());
        let version = versions.max().unwrap_or("1970-01-01T00:00:00.000Z").to_owned();
        render::group(marathon, state, id, &version, &embed)
    })
}

fn below(marathon: &Marathon, id: &str) -> Vec<String> {
    let prefix = format!("{}/", id.trim_end_matches('/'));
    marathon.with(|state| state.services.keys().filter(|path| path.starts_with(&prefix)).cloned().collect())
}

pub(super) async fn put(State(marathon): Shared, Query(pairs): Pairs, body: Bytes) -> Result<Response, ApiError> {
    let group = object(&body)?;
    let id = group.get("id").and_then(Value::as_str).unwrap_or("/");
    put_group(&marathon, &absolute(id), &group, &pairs)
}

pub(super) async fn put_at(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    put_group(&marathon, &absolute(&path), &object(&body)?, &pairs)
}

fn put_group(marathon: &Marathon, id: &str, group: &Object, pairs: &[(String, String)]) -> Result<Response, ApiError> {
    let mut last = None;
    for (id, app) in flatten(id, group, 0) {
        last = Some(marathon.change_app(&id, app, Mode::Merge, flag(pairs, "force"))?);
    }
    let change = last.unwrap_or_else(|| Change {
        version: super::super::clock::now(),
        deployment: String::new(),
        created: false,
    });
    Ok(deployed(StatusCode::CREATED, &change))
}

/// Every app of a group and of the groups in it; a relative id is below its group.
fn flatten(path: &str, group: &Object, depth: usize) -> Vec<(String, Object)> {
    let list = |field: &str| group.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let absolute_of = |object: &Object| {
        let id = object.get("id").and_then(Value::as_str).unwrap_or_default();
        if id.starts_with('/') { absolute(id) } else { absolute(&format!("{path}/{id}").replace("//", "/")) }
    };
    let mut all = Vec::new();
    for app in list("apps").into_iter().filter_map(|app| app.as_object().cloned()) {
        all.push((absolute_of(&app), app));
    }
    // Marathon's groups are rarely more than three deep; a body of braces must not exhaust the stack.
    if depth < 16 {
        for child in list("groups").into_iter().filter_map(|group| group.as_object().cloned()) {
            all.extend(flatten(&absolute_of(&child), &child, depth + 1));
        }
    }
    all
}

pub(super) async fn delete(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let id = absolute(&path);
    let mut last = None;
    for service in below(&marathon, &id) {
        last = Some(marathon.remove(&service, flag(&pairs, "force"))?);
    }
    let change = last.ok_or(ApiError::Missing { what: "Group", id })?;
    Ok(deployed(StatusCode::OK, &change))
}
