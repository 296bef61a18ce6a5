//! `/v2/pods` and `/v2/pods::status`. A pod runs as one process per container, in one network namespace.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::super::changes::Mode;
use super::super::definition::absolute;
use super::super::error::ApiError;
use super::super::render;
use super::super::state::{Service, State as Everything};
use super::super::{Marathon, notices};
use super::{Client, Pairs, Shared, deployed, flag, object};

pub(super) fn add(router: Router<Arc<Marathon>>) -> Router<Arc<Marathon>> {
    router
        .route("/v2/pods", get(list).post(create))
        .route("/v2/pods::status", get(statuses))
        .route("/v2/pods/{*path}", get(one).put(put).delete(delete))
}

async fn list(State(marathon): Shared) -> Response {
    let pods: Vec<Value> =
        marathon.with(|state| pods(state).map(|(_, service)| render::definition(service).into()).collect());
    Json(pods).into_response()
}

async fn statuses(State(marathon): Shared) -> Response {
    let all: Vec<Value> =
        marathon.with(|state| pods(state).map(|(id, s)| render::pod_status(&marathon, state, id, s)).collect());
    Json(all).into_response()
}

fn pods(state: &Everything) -> impl Iterator<Item = (&String, &Service)> {
    state.services.iter().filter(|(_, service)| service.spec.pod)
}

fn known<'a>(state: &'a Everything, id: &str) -> Result<&'a Service, ApiError> {
    let found = state.services.get(id).filter(|service| service.spec.pod);
    found.ok_or_else(|| ApiError::Missing { what: "Pod", id: id.to_owned() })
}

async fn create(
    State(marathon): Shared,
    client: Client,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    let pod = object(&body)?;
    let id = pod.get("id").and_then(Value::as_str).map(absolute);
    let id = id.ok_or_else(|| ApiError::invalid("/id", "error.path.missing"))?;
    let change = marathon.change_pod(&id, pod, Mode::Create, flag(&pairs, "force"))?;
    notices::pod_api(&marathon, "pod_created_event", &client.0.ip().to_string(), &id);
    let shown = marathon.with(|state| known(state, &id).map(render::definition))?;
    let headers = [("Location", format!("/v2/pods{id}")), ("Marathon-Deployment-Id", change.deployment)];
    Ok((StatusCode::CREATED, headers, Json(shown)).into_response())
}

async fn one(State(marathon): Shared, Path(path): Path<String>) -> Result<Response, ApiError> {
    let (path, asked) = path.split_once("::").unwrap_or((&path, ""));
    let id = absolute(path);
    let answer: Value = marathon.with(|state| {
        let service = known(state, &id)?;
        Ok(match asked {
            "status" => render::pod_status(&marathon, state, &id, service),
            "versions" => json!(service.history.iter().rev().map(|(version, _)| version).collect::<Vec<_>>()),
            _ => render::definition(service).into(),
        })
    })?;
    Ok(Json(answer).into_response())
}

async fn put(
    State(marathon): Shared,
    client: Client,
    Path(path): Path<String>,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    let id = absolute(&path);
    let change = marathon.change_pod(&id, object(&body)?, Mode::Replace, flag(&pairs, "force"))?;
    notices::pod_api(&marathon, "pod_updated_event", &client.0.ip().to_string(), &id);
    let shown = marathon.with(|state| known(state, &id).map(render::definition))?;
    Ok((StatusCode::OK, [("Marathon-Deployment-Id", change.deployment)], Json(shown)).into_response())
}

/// The whole pod, or one instance (`::instances/<id>`).
async fn delete(
    State(marathon): Shared,
    client: Client,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let (path, instance) = path.split_once("::instances/").map_or((path.as_str(), None), |(p, i)| (p, Some(i)));
    let id = absolute(path);
    marathon.with(|state| known(state, &id).map(|_| ()))?;
    if let Some(instance) = instance {
        marathon.kill(instance);
        return Ok(Json(json!({"id": instance})).into_response());
    }
    let change = marathon.remove(&id, flag(&pairs, "force"))?;
    notices::pod_api(&marathon, "pod_deleted_event", &client.0.ip().to_string(), &id);
    Ok(deployed(StatusCode::ACCEPTED, &change))
}
