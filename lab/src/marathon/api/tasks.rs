//! `/v2/tasks` and the tasks of an app.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::Marathon;
use super::super::changes::known;
use super::super::error::ApiError;
use super::super::render;
use super::super::state::{Condition, Task};
use super::{Pairs, Shared, deployed, flag, object, values};

/// `status` and `status[]`: running, staging; both when none is given.
pub(super) async fn list(State(marathon): Shared, Query(pairs): Pairs) -> Response {
    let mut wanted = values(&pairs, "status");
    wanted.extend(values(&pairs, "status[]"));
    let staged = |c: Condition| matches!(c, Condition::Staging | Condition::Starting);
    let is = |task: &Task, name: &str| match name {
        "running" => task.condition == Condition::Running,
        "staging" => staged(task.condition),
        _ => false,
    };
    let tasks: Vec<Value> = marathon.with(|state| {
        let mut tasks: Vec<&Task> = state.tasks.values().filter(|task| !task.spec.pod).collect();
        tasks.sort_by_key(|task| task.order);
        let shown = tasks.iter().filter(|task| wanted.is_empty() || wanted.iter().any(|name| is(task, name)));
        shown.map(|task| render::task(&marathon, task)).collect()
    });
    Json(json!({"tasks": tasks})).into_response()
}

pub(super) fn of_app(marathon: &Marathon, id: &str) -> Result<Response, ApiError> {
    marathon.with(|state| {
        known(state, id)?;
        let tasks: Vec<Value> = state.tasks_of(id).iter().map(|task| render::task(marathon, task)).collect();
        Ok(Json(json!({"tasks": tasks})).into_response())
    })
}

/// DELETE of an app's tasks, all or those on one `host`.
pub(super) fn kill_of_app(marathon: &Marathon, id: &str, pairs: &[(String, String)]) -> Result<Response, ApiError> {
    let hosts = values(pairs, "host");
    let on = |task: &&&Task| hosts.iter().all(|host| *host == marathon.agents.host(task.agent).to_string());
    let (shown, instances) = marathon.with(|state| {
        known(state, id)?;
        let tasks = state.tasks_of(id);
        let chosen: Vec<&&Task> = tasks.iter().filter(on).collect();
        let shown: Vec<Value> = chosen.iter().map(|task| render::task(marathon, task)).collect();
        Ok((shown, chosen.iter().map(|task| task.instance.clone()).collect::<Vec<_>>()))
    })?;
    Ok(match marathon.kill_tasks(id, &instances, flag(pairs, "scale"))? {
        Some(change) => deployed(StatusCode::OK, &change),
        None => Json(json!({"tasks": shown})).into_response(),
    })
}

pub(super) fn kill_one(
    marathon: &Marathon,
    id: &str,
    task: &str,
    pairs: &[(String, String)],
) -> Result<Response, ApiError> {
    let (shown, instance) = marathon.with(|state| {
        known(state, id)?;
        let found = state.tasks_of(id).into_iter().find(|t| t.id == task || t.instance == task);
        let found = found.ok_or_else(|| ApiError::Missing { what: "Task", id: task.to_owned() })?;
        Ok((render::task(marathon, found), found.instance.clone()))
    })?;
    Ok(match marathon.kill_tasks(id, &[instance], flag(pairs, "scale"))? {
        Some(change) => deployed(StatusCode::OK, &change),
        None => Json(json!({"task": shown})).into_response(),
    })
}

/// POST `{"ids": [...]}`: tasks of any apps.
pub(super) async fn delete(State(marathon): Shared, Query(pairs): Pairs, body: Bytes) -> Result<Response, ApiError> {
    let body = object(&body)?;
    let ids = body.get("ids").and_then(Value::as_array);
    let ids = ids.ok_or_else(|| ApiError::invalid("/ids", "error.path.missing"))?;
    let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
    let found: Vec<(String, String, Value)> = marathon.with(|state| {
        let tasks = state.tasks.values().filter(|t| ids.contains(&t.id.as_str()) || ids.contains(&t.instance.as_str()));
        tasks.map(|t| (t.service.clone(), t.instance.clone(), render::task(&marathon, t))).collect()
    });
    let mut last = None;
    for (service, instance, _) in &found {
        last = marathon.kill_tasks(service, std::slice::from_ref(instance), flag(&pairs, "scale"))?;
    }
    let shown: Vec<&Value> = found.iter().map(|(_, _, task)| task).collect();
    Ok(last.map_or_else(|| Json(json!({"tasks": shown})).into_response(), |c| deployed(StatusCode::OK, &c)))
}
