//! Places in the overlay: what `sluice agent` asks of this node ([`crate::lease`]).
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/overlay/lease` | [`Ask`] | [`Told`]: the lease, taken or renewed, and the map unless its version is known |
//! | `POST /v1/overlay/leave` | [`Ask`] | the lease, which stays the agent's; nobody is told of it any more |
//! | `GET /v1/overlay/map?agent=IP` | | [`Told`], without taking anything |
//! | `POST /v1/overlay/release` | [`Ask`] | the lease that was; on the unix socket alone |
//!
//! Over TCP an agent speaks for itself alone: the request must come from its own address, and show the word of
//! `overlay.token_file` as `Authorization: Bearer WORD` where there is one. 401 and 403 say what is missing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use sluice_dataplane::tables::Tables;
use tokio::sync::oneshot;

use super::observed::Observed;
use super::serve::Peer;
use crate::lease::desk::{DeskError, LeaseOffice, Order, Wish, at};
use crate::lease::map::{Ask, Map, Told};
use crate::lease::{Lease, Refusal};

/// Largest body, octets: the names of 256 networks.
const BODY_MAX: usize = 32 << 10;

/// The map of the tables that it was made from last, with its version.
type Made = Option<(Arc<Tables>, Arc<(Map, String)>)>;

/// What the requests are answered from.
#[derive(Clone)]
struct Office {
    observed: Arc<Observed>,
    made: Arc<Mutex<Made>>,
}

/// A refusal as it is answered.
struct No(StatusCode, String);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.0, self.1 + "\n").into_response()
    }
}

impl From<DeskError> for No {
    fn from(error: DeskError) -> Self {
        let status = match &error {
            DeskError::Refused(Refusal::NoLease(_)) => StatusCode::NOT_FOUND,
            DeskError::Refused(Refusal::NoNetwork { .. }) => StatusCode::BAD_REQUEST,
            DeskError::Refused(Refusal::Elsewhere { .. } | Refusal::Conflict { .. }) => StatusCode::CONFLICT,
            DeskError::Refused(Refusal::NoVtep(_) | Refusal::NoSubnet { .. } | Refusal::TooMany)
            | DeskError::NotSaved(_)
            | DeskError::NotKept => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

/// What agents may ask.
pub(super) fn public(observed: Arc<Observed>) -> Router {
    Router::new()
        .route("/v1/overlay/lease", post(lease))
        .route("/v1/overlay/leave", post(leave))
        .route("/v1/overlay/map", get(map))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Office { observed, made: Arc::default() })
}

/// What operators may.
pub(super) fn private(observed: Arc<Observed>) -> Router {
    Router::new()
        .route("/v1/overlay/release", post(release))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Office { observed, made: Arc::default() })
}

async fn lease(
    State(office): State<Office>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Told>, No> {
    let ask = office.asked(peer, &headers, &body)?;
    let lease = office.wish(ask.agent, Wish::Take(ask.networks)).await?;
    office.told(Some(lease), ask.version.as_deref()).map(Json)
}

async fn leave(
    State(office): State<Office>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Lease>, No> {
    let ask = office.asked(peer, &headers, &body)?;
    office.wish(ask.agent, Wish::Leave).await.map(Json)
}

async fn release(State(office): State<Office>, headers: HeaderMap, body: Bytes) -> Result<Json<Lease>, No> {
    let ask = office.asked(None, &headers, &body)?;
    let lease = office.wish(ask.agent, Wish::Release).await?;
    tracing::info!(agent = %ask.agent, vtep = %lease.vtep_ip, "the lease is released");
    Ok(Json(lease))
}

async fn map(
    State(office): State<Office>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Query(ask): Query<Ask>,
) -> Result<Json<Told>, No> {
    office.permit(peer, &headers, ask.agent)?;
    let lease = at(&office.leases()?.desk).lease(ask.agent);
    office.told(lease, ask.version.as_deref()).map(Json)
}

impl Office {
    fn leases(&self) -> Result<&LeaseOffice, No> {
        let none =
            || No(StatusCode::NOT_FOUND, "no leases are given here: add `leases = true` to [overlay]".to_owned());
        self.observed.leases.as_ref().ok_or_else(none)
    }

    fn asked(&self, peer: Option<Extension<Peer>>, headers: &HeaderMap, body: &[u8]) -> Result<Ask, No> {
        let ask: Ask = serde_json::from_slice(body).map_err(|error| {
            No(
                StatusCode::BAD_REQUEST,
                format!("{error}: write {{\"agent\": \"10.0.0.11\", \"networks\": [\"dcos\"]}}"),
            )
        })?;
        self.permit(peer, headers, ask.agent)?;
        Ok(ask)
    }

    /// Whether whoever asks may speak for this agent. The unix socket is the operator's.
    fn permit(&self, peer: Option<Extension<Peer>>, headers: &HeaderMap, agent: Ipv4Addr) -> Result<(), No> {
        let Some(Extension(Peer(from))) = peer else { return Ok(()) };
        let shown = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        if self.leases()?.token.as_ref().is_some_and(|token| !token.is_shown(shown)) {
            let what = "this word is not the one of `overlay.token_file`: give the agent the same `token_file`";
            return Err(No(StatusCode::UNAUTHORIZED, what.to_owned()));
        }
        if from.to_canonical() != IpAddr::V4(agent) {
            let what =
                format!("{agent} must ask for itself, and this request comes from {from}: write that as `address`");
            return Err(No(StatusCode::FORBIDDEN, what));
        }
        Ok(())
    }

    async fn wish(&self, agent: Ipv4Addr, wish: Wish) -> Result<Lease, No> {
        let nobody = || No(StatusCode::SERVICE_UNAVAILABLE, "sluice is ending".to_owned());
        let (answer, answered) = oneshot::channel();
        self.leases()?.orders.send(Order { agent, wish, answer }).await.map_err(|_| nobody())?;
        Ok(answered.await.map_err(|_| nobody())??)
    }

    fn told(&self, lease: Option<Lease>, known: Option<&str>) -> Result<Told, No> {
        let nothing = || No(StatusCode::SERVICE_UNAVAILABLE, "no tables with an overlay are published yet".to_owned());
        let made = self.map().ok_or_else(nothing)?;
        let (map, version) = &*made;
        let map = (known != Some(version.as_str())).then(|| map.clone());
        Ok(Told { lease, version: version.clone(), map })
    }

    /// The map of what is published, made once for each publication.
    fn map(&self) -> Option<Arc<(Map, String)>> {
        let tables = self.observed.published()?.tables;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, map)) = made.as_ref().filter(|(of, _)| Arc::ptr_eq(of, &tables)) {
            return Some(Arc::clone(map));
        }
        let map = Map::of(&self.observed.config, &tables)?;
        let version = map.version();
        let map = Arc::new((map, version));
        *made = Some((tables, Arc::clone(&map)));
        Some(map)
    }
}
