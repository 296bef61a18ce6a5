//! `/v2/tasks` and the tasks of an app.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::Marathon;
use super::super::changes::known;
use super::super::error::ApiError;
use super::super::render;
use super::super::state::{Condition, State as Everything, Task};
use super::{Pairs, Shared, deployed, endpoints, flag, object, values};

/// `status` and `status[]`: running, staging; both when none is given. As text, the lines of all apps.
pub(super) async fn list(State(marathon): Shared, headers: HeaderMap, Query(pairs): Pairs) -> Response {
    if endpoints::are_wanted(&headers) {
        let all = |state: &mut Everything| {
            state.services.iter().map(|(id, s)| endpoints::of(&marathon, state, id, s)).collect()
        };
        return endpoints::answer(marathon.with(all));
    }
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

pub(super) fn of_app(marathon: &Marathon, id: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    marathon.with(|state| {
        let service = known(state, id)?;
        if endpoints::are_wanted(headers) {
            return Ok(endpoints::answer(endpoints::of(marathon, state, id, service)));
        }
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
    let mut by_app: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut shown = Vec::new();
    marathon.with(|state| {
        for task in state.tasks.values().filter(|t| ids.contains(&t.id.as_str()) || ids.contains(&t.instance.as_str()))
        {
            by_app.entry(task.service.clone()).or_default().push(task.instance.clone());
            shown.push(render::task(&marathon, task));
        }
    });
    let mut last = None;
    for (app, instances) in &by_app {
        last = marathon.kill_tasks(app, instances, flag(&pairs, "scale"))?;
    }
    Ok(last.map_or_else(|| Json(json!({"tasks": shown})).into_response(), |c| deployed(StatusCode::OK, &c)))
}
