//! The HTTP surface: routes, and what every one of them needs.

mod apps;
mod endpoints;
mod filter;
mod groups;
mod info;
mod mesos;
mod pods;
mod stream;
mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Marathon;
use super::changes::Change;
use super::definition::{Dialect, Object};
use super::error::ApiError;

type Shared = State<Arc<Marathon>>;
type Client = ConnectInfo<SocketAddr>;
/// A query string in order, repeated keys kept.
type Pairs = Query<Vec<(String, String)>>;

/// Serves until aborted.
pub(super) async fn serve(listener: TcpListener, marathon: Arc<Marathon>) {
    let service = router(marathon).into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::error!(%error, "the Marathon API has ended");
    }
}

fn router(marathon: Arc<Marathon>) -> Router {
    let dialect = marathon.dialect;
    let router = Router::new()
        .route("/ping", get(|| async { "pong" }))
        .route("/metrics", get(info::metrics))
        .route("/v2/info", get(info::info))
        .route("/v2/leader", get(info::leader).delete(info::abdicate))
        .route("/v2/events", get(stream::events))
        .route("/v2/queue", get(|| async { Json(json!({"queue": []})) }))
        .route("/v2/apps", get(apps::list).post(apps::create).put(apps::put_many).patch(apps::put_many))
        .route("/v2/apps/{*path}", get(apps::get).put(apps::put).patch(apps::put).post(apps::post).delete(apps::delete))
        .route("/v2/tasks", get(tasks::list))
        .route("/v2/tasks/delete", post(tasks::delete))
        .route("/v2/groups", get(groups::root).post(groups::create).put(groups::put).delete(groups::delete))
        .route("/v2/groups/", get(groups::root))
        .route(
            "/v2/groups/{*path}",
            get(groups::get).post(groups::create_at).put(groups::put_at).delete(groups::delete_at),
        )
        .route("/lab/mesos", get(mesos::told))
        .route("/v2/deployments", get(info::deployments))
        .route("/v2/deployments/{id}", delete(info::cancel));
    // Marathon 1.4 brought pods and dropped callbacks.
    let router = match dialect {
        Dialect::V1_9 => pods::add(router),
        Dialect::V1_3 => {
            let one = get(info::subscriptions).post(info::subscribe).delete(info::subscribe);
            router.route("/v2/eventSubscriptions", one)
        }
    };
    let named = map_response_with_state(marathon.clone(), name_leader);
    router.fallback(not_found).layer(named).with_state(marathon)
}

/// Every answer of the leading Marathon names it.
async fn name_leader(State(marathon): Shared, mut response: Response) -> Response {
    let leader = format!("http://{}", marathon.address);
    if let Ok(value) = HeaderValue::from_str(&leader) {
        response.headers_mut().insert("X-Marathon-Leader", value);
    }
    response
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"message": "HTTP 404 Not Found"}))).into_response()
}

/// A body that must be one JSON object.
fn object(body: &Bytes) -> Result<Object, ApiError> {
    let body = json_body(body)?;
    let Value::Object(object) = body else {
        return Err(ApiError::NotJson(format!("error.expected.jsobject: got {}", kind(&body))));
    };
    Ok(object)
}

fn json_body(body: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::NotJson(error.to_string()))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Java's `Boolean` takes any case: the Python client writes `force=True`.
fn flag(pairs: &[(String, String)], name: &str) -> bool {
    pairs.iter().any(|(key, value)| key == name && value.eq_ignore_ascii_case("true"))
}

fn values(pairs: &[(String, String)], name: &str) -> Vec<String> {
    pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
}

/// `{"version", "deploymentId"}` and the header that repeats it.
fn deployed(status: StatusCode, change: &Change) -> Response {
    let body = json!({"version": change.version, "deploymentId": change.deployment});
    (status, [("Marathon-Deployment-Id", change.deployment.clone())], Json(body)).into_response()
}
