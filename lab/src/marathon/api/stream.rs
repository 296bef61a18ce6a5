//! `/v2/events`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::super::{Marathon, notices};
use super::{Client, Pairs, Shared, values};

/// One subscriber's connection; its end is an event of its own.
struct Attached {
    marathon: Arc<Marathon>,
    remote: String,
    events: mpsc::Receiver<Bytes>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.events.close();
        notices::stream(&self.marathon, "event_stream_detached", &self.remote);
    }
}

pub(super) async fn events(State(marathon): Shared, client: Client, Query(pairs): Pairs) -> Response {
    let types = values(&pairs, "event_type").into_iter().collect();
    let light = values(&pairs, "plan-format").iter().any(|format| format == "light");
    let events = marathon.events.subscribe(types, light);
    let remote = client.0.ip().to_string();
    notices::stream(&marathon, "event_stream_attached", &remote);
    let attached = Attached { marathon, remote, events };
    let body = Body::from_stream(stream::unfold(attached, |mut attached| async {
        let frame = attached.events.recv().await?;
        Some((Ok::<_, Infallible>(frame), attached))
    }));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}
