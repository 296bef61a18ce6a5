//! The HTTP surface.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Shared, overlay, state};

type Master = State<Arc<Shared>>;

/// Serves until aborted.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = if shared.settings.leader.is_some() { Router::new().fallback(to_leader) } else { leading() };
    if let Err(error) = axum::serve(listener, router.with_state(shared)).await {
        tracing::error!(%error, "the Mesos API has ended");
    }
}

fn leading() -> Router<Arc<Shared>> {
    Router::new()
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/state", get(whole))
        .route("/master/state", get(whole))
        .route("/api/v1", post(call))
        .route("/master/api/v1", post(call))
        .route("/overlay-master/state", get(overlays))
        .route("/overlay-agent/overlay", get(own_overlays))
}

/// A standby's answer to everything.
async fn to_leader(State(shared): Master, uri: Uri) -> Response {
    let leader = shared.settings.leader.map(|l| l.to_string()).unwrap_or_default();
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("//{leader}{uri}"))]).into_response()
}

async fn whole(State(shared): Master) -> Json<Value> {
    Json(shared.with(|book| state::state(book, shared.address)))
}

async fn overlays(State(shared): Master) -> Response {
    match &shared.settings.lab {
        Some((_, topology)) => Json(overlay::state(topology)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The master's own place in the overlay.
async fn own_overlays(State(shared): Master) -> Response {
    let place = shared.settings.lab.as_ref().and_then(|(_, topology)| {
        let members = topology.members();
        members.iter().find(|member| member.name == "master").map(|master| overlay::own(topology, master))
    });
    place.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |place| Json(place).into_response())
}

async fn call(State(shared): Master, body: Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    match call["type"].as_str() {
        Some("GET_STATE") => {
            Json(json!({"type": "GET_STATE", "get_state": shared.with(|book| book.state())})).into_response()
        }
        Some("GET_MASTER") => Json(get_master(&shared)).into_response(),
        Some("SUBSCRIBE") => subscribe(&shared),
        _ => {
            (StatusCode::BAD_REQUEST, "Failed to validate master::Call: Expecting 'type' to be present").into_response()
        }
    }
}

fn get_master(shared: &Shared) -> Value {
    let (ip, port) = (shared.address.ip().to_string(), shared.address.port());
    let info = json!({
        "id": shared.with(|book| book.id.clone()), "pid": format!("master@{}", shared.address), "port": port, "hostname": ip,
        "address": {"ip": ip, "hostname": ip, "port": port}, "version": "1.9.0",
    });
    json!({"type": "GET_MASTER", "get_master": {"master_info": info}})
}

fn subscribe(shared: &Shared) -> Response {
    let seconds = shared.settings.heartbeat.as_secs_f64();
    let events = shared.with(|book| {
        let whole = book.state();
        let subscribed = json!({"heartbeat_interval_seconds": seconds, "get_state": whole});
        book.subscribe(&json!({"type": "SUBSCRIBED", "subscribed": subscribed}))
    });
    let body = Body::from_stream(stream::unfold(events, |mut events| async {
        let record = events.recv().await?;
        Some((Ok::<_, Infallible>(record), events))
    }));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
