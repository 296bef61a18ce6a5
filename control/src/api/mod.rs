//! What Sluice tells of itself: health and metrics on TCP and on the unix socket; `show` and orders on the unix socket
//! alone.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while every worker turned within the last second, else 503 |
//! | `/readyz` | 200 once tables are published and every Marathon of the configuration was listed, else 503 |
//! | `/metrics` | Prometheus text, version 0.0.4 |
//! | `/v1/{version,config,hosts,services,enumerate,axfr,records,vips}` | names as Mesos-DNS and Spartan have them, see [`mesos_dns`] |
//! | `/v1/show/{vips,backends,drains,sessions,drops,workers,zone,names,labels,sources,resolvers,policy,networks,vteps,leases}` | JSON; the schema is the types of [`show`] |
//! | `/v1/policy/{from}/{to}` | whether one may talk to the other, see [`policy`] |
//! | `/v1/explain/{name}/{type}` | what is said to a question, and why, see [`explain`] |
//! | `POST /v1/overlay/{lease,leave}`, `GET /v1/overlay/map` | an agent's place in the overlay and everybody's, see [`overlay`] |
//! | `POST /v1/overlay/release` | an operator's word on a lease, on the unix socket alone |
//! | `POST /v1/{drain,undrain}` | an operator's word, see [`orders`] |
//!
//! Reading never disturbs a worker: counters are read as they stand.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub mod books;
pub mod explain;
pub mod groups;
pub mod histogram;
pub mod judged;
pub mod members;
pub mod mesos_dns;
pub mod metrics;
pub mod names;
pub mod observed;
pub mod orders;
pub mod overlay;
pub mod policy;
pub mod prometheus;
pub mod pulse;
pub mod serve;
pub mod show;
pub mod sources;
pub mod zone;

use observed::Observed;

/// Health and metrics, which anybody may ask for.
pub fn public(observed: Arc<Observed>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&observed))
        .merge(overlay::public(Arc::clone(&observed)))
        .merge(mesos_dns::routes(observed))
}

/// All of it, for the unix socket.
pub fn private(observed: Arc<Observed>) -> Router {
    let show = Router::new().route("/v1/show/{what}", get(show)).with_state(Arc::clone(&observed));
    let explain = Router::new().route("/v1/explain/{name}/{kind}", get(explain)).with_state(Arc::clone(&observed));
    let policy = Router::new().route("/v1/policy/{from}/{to}", get(may_talk)).with_state(Arc::clone(&observed));
    public(Arc::clone(&observed))
        .merge(show)
        .merge(explain)
        .merge(policy)
        .merge(orders::routes(Arc::clone(&observed)))
        .merge(overlay::private(observed))
}

async fn explain(State(observed): State<Arc<Observed>>, Path((name, kind)): Path<(String, String)>) -> Response {
    let Some(published) = observed.published() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no tables are published yet\n").into_response();
    };
    match explain::explain(&observed.config, &published, &name, &kind) {
        Ok(explained) => axum::Json(explained).into_response(),
        Err(wrong) => (StatusCode::BAD_REQUEST, wrong + "\n").into_response(),
    }
}

async fn may_talk(State(observed): State<Arc<Observed>>, Path((from, to)): Path<(String, String)>) -> Response {
    let Some(published) = observed.published() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no tables are published yet\n").into_response();
    };
    match policy::explain(&published, &from, &to) {
        Ok(pairs) => axum::Json(pairs).into_response(),
        Err(wrong) => (StatusCode::BAD_REQUEST, wrong + "\n").into_response(),
    }
}

async fn healthz(State(observed): State<Arc<Observed>>) -> Response {
    answer(observed.unhealthy())
}

async fn readyz(State(observed): State<Arc<Observed>>) -> Response {
    answer(observed.unready())
}

/// 200 when there is nothing to complain of, else 503 with the complaints.
fn answer(complaints: Vec<String>) -> Response {
    match complaints.is_empty() {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, complaints.join("\n") + "\n").into_response(),
    }
}

async fn metrics(State(observed): State<Arc<Observed>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::text(&observed)).into_response()
}

async fn show(State(observed): State<Arc<Observed>>, Path(what): Path<String>) -> Response {
    match show::document(&observed, &what).await {
        Some(document) => axum::Json(document).into_response(),
        None => (StatusCode::NOT_FOUND, format!("{what}: show one of {}\n", show::SUBJECTS.join(", "))).into_response(),
    }
}
