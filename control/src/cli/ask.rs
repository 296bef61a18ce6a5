//! One question or order to the running Sluice over its unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Largest answer: 65,534 VIPs with their backends fit many times over.
const LARGEST_ANSWER: usize = 1 << 30;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `api.socket` of a configuration that names none; a test holds the two together.
const DEFAULT_SOCKET: &str = "/run/sluice.sock";

/// Which Sluice.
#[derive(Debug, clap::Args)]
pub(super) struct Running {
    /// The running Sluice's unix socket. Without this and --config: $SLUICE_SOCKET, else /run/sluice.sock.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Take the socket from this configuration file (`api.socket`).
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Running {
    /// The answer to `GET path`.
    pub(super) fn ask(&self, path: &str) -> anyhow::Result<Bytes> {
        ask(&self.path()?, hyper::Method::GET, path, Bytes::new())
    }

    /// The answer to `POST path` with this document.
    pub(super) fn order(&self, path: &str, document: &impl serde::Serialize) -> anyhow::Result<Bytes> {
        ask(&self.path()?, hyper::Method::POST, path, serde_json::to_vec(document)?.into())
    }

    fn path(&self) -> anyhow::Result<PathBuf> {
        Ok(match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(file)) => sluice_config::load(file)?.api.socket,
            (None, None) => {
                std::env::var_os("SLUICE_SOCKET").map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from)
            }
        })
    }
}

fn ask(socket: &Path, method: hyper::Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = tokio::time::timeout(PATIENCE, exchange(socket, method, path, body)).await;
        answer.with_context(|| format!("{}: no answer within {} s", socket.display(), PATIENCE.as_secs()))?
    })
}

async fn exchange(socket: &Path, method: hyper::Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("{}: no sluice answers there; start `sluice run`, or name its socket with --socket", socket.display())
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header("host", "sluice").body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer was cut: {error}"))?.to_bytes();
    if !status.is_success() {
        bail!("{}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_socket_is_the_configurations() {
        let config = sluice_config::parse("[[port]]\ninterface = \"eth0\"\n", "test").unwrap();
        assert_eq!(config.api.socket, PathBuf::from(DEFAULT_SOCKET));
    }
}
