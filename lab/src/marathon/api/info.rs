//! What Marathon says of itself, and its deployments.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::{notices, render};
use super::{Pairs, Shared, flag};

pub(super) async fn info(State(marathon): Shared) -> Response {
    let (address, port) = (marathon.address.ip().to_string(), marathon.address.port());
    Json(json!({
        "name": "marathon", "version": marathon.dialect.version(), "buildref": "lab",
        "frameworkId": marathon.agents.framework_id(port % 10_000), "elected": true,
        "leader": marathon.address.to_string(),
        "marathon_config": {
            "framework_name": marathon.framework, "hostname": address, "master": "zk://zk-1.zk:2181/mesos", "local_port_min": 10_000, "local_port_max": 20_000,
        },
        "event_subscriber": null,
        "http_config": {"http_port": port, "https_port": 8443},
        "zookeeper_config": {"zk": "zk://zk-1.zk:2181/marathon"},
    }))
    .into_response()
}

pub(super) async fn leader(State(marathon): Shared) -> Response {
    Json(json!({"leader": marathon.address.to_string()})).into_response()
}

pub(super) async fn abdicate(State(marathon): Shared) -> Response {
    marathon.abdicate();
    Json(json!({"message": "Leadership abdicated"})).into_response()
}

/// Callbacks over HTTP went with Marathon 1.4; the lab never calls back, so nobody can subscribe.
pub(super) async fn subscriptions() -> Response {
    Json(json!({"callbackUrls": []})).into_response()
}

pub(super) async fn subscribe() -> Response {
    let said = "the lab calls nobody back: attach to /v2/events";
    (StatusCode::BAD_REQUEST, Json(json!({"message": said}))).into_response()
}

pub(super) async fn metrics(State(marathon): Shared) -> Response {
    let (services, tasks) = marathon.with(|state| (state.services.len(), state.tasks.len()));
    Json(json!({
        "version": "3.0.0", "counters": {}, "histograms": {}, "meters": {}, "timers": {},
        "gauges": {"service.mesosphere.marathon.app.count": {"value": services},
                   "service.mesosphere.marathon.task.running.count": {"value": tasks}},
    }))
    .into_response()
}

pub(super) async fn deployments(State(marathon): Shared) -> Response {
    let shown: Vec<Value> = marathon.with(|state| state.deployments.values().map(render::deployment).collect());
    Json(shown).into_response()
}

/// DELETE of a deployment: `force=true` stops it where it is; else the app goes back to its previous definition.
pub(super) async fn cancel(
    State(marathon): Shared,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let missing = || ApiError::Missing { what: "Deployment", id: id.clone() };
    let cancelled = marathon.with(|state| state.deployments.remove(&id)).ok_or_else(missing)?;
    notices::deployment_cancelled(&marathon, &cancelled);
    if flag(&pairs, "force") {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    Ok(super::deployed(StatusCode::OK, &marathon.revert(&cancelled)?))
}
