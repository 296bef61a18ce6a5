//! `POST /v1/drain` and `POST /v1/undrain`, on the unix socket alone.
//!
//! The body is `{"what": "IP:PORT | TASK | AGENT", "timeout_seconds": 300}`. 200 answers with
//! [`Done`](crate::run::orders::Done) once the workers have the tables; 400, 404 and 503 answer with one sentence.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::oneshot;

use super::observed::Observed;
use crate::health::orders::{Asked, Refusal, WORD_MAX};
use crate::run::orders::{Done, Order, Verb};

/// Largest body, octets: a word with every octet escaped, and the rest.
const BODY_MAX: usize = 6 * WORD_MAX + 256;

/// Both orders.
pub(super) fn routes(observed: Arc<Observed>) -> Router {
    Router::new()
        .route("/v1/drain", post(|observed, body| order(Verb::Drain, observed, body)))
        .route("/v1/undrain", post(|observed, body| order(Verb::Undrain, observed, body)))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(observed)
}

async fn order(verb: Verb, State(observed): State<Arc<Observed>>, body: Bytes) -> Response {
    match carried_out(verb, &observed, &body).await {
        Ok(done) => axum::Json(done).into_response(),
        Err(refusal) => {
            let status = match refusal {
                Refusal::NotKnown(_) => StatusCode::NOT_FOUND,
                Refusal::Wrong(_) => StatusCode::BAD_REQUEST,
                Refusal::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, format!("{refusal}\n")).into_response()
        }
    }
}

async fn carried_out(verb: Verb, observed: &Observed, body: &[u8]) -> Result<Done, Refusal> {
    let asked: Asked = serde_json::from_slice(body)
        .map_err(|error| Refusal::Wrong(format!("{error}: write {{\"what\": \"10.0.0.11:31001\"}}")))?;
    if asked.what.len() > WORD_MAX {
        return Err(Refusal::Wrong(format!("`what` has {} octets, {WORD_MAX} at most are a name", asked.what.len())));
    }
    let nobody = || Refusal::Failed("nobody carries out orders here: sluice is ending".to_owned());
    let orders = observed.orders.as_ref().ok_or_else(nobody)?;
    let (answer, answered) = oneshot::channel();
    orders.send(Order { verb, asked, answer }).await.map_err(|_| nobody())?;
    answered.await.map_err(|_| nobody())?
}
