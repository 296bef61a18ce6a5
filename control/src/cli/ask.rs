//! One question to the running Sluice over its unix socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Largest answer: 65,534 VIPs with their backends fit many times over.
const LARGEST_ANSWER: usize = 1 << 30;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer to `GET path`.
pub(super) fn ask(socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = tokio::time::timeout(PATIENCE, get(socket, path)).await;
        answer.with_context(|| format!("{}: no answer within {} s", socket.display(), PATIENCE.as_secs()))?
    })
}

async fn get(socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("{}: no sluice answers there; start `sluice run`, or name its socket with --socket", socket.display())
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "sluice").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer was cut: {error}"))?.to_bytes();
    if !status.is_success() {
        bail!("{}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}
