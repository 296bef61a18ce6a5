//! What the agent asks of Sluice: one HTTP request at a time, from its own address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use super::settings::Settings;
use crate::lease::map::{Ask, Told};
use crate::lease::token::Token;

/// Largest answer: a thousand agents in ten networks fit many times over.
const LARGEST: usize = 64 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It was refused: the same question will be, until somebody changes something.
    #[error("{url} refuses: {said}")]
    Refused {
        /// Who.
        url: String,
        /// Its sentence.
        said: String,
    },
    /// Nobody answered as Sluice does.
    #[error("{url}: {why}")]
    Unanswered {
        /// Who was asked.
        url: String,
        /// What happened.
        why: String,
    },
}

/// Where to ask, and what to show.
#[derive(Debug)]
pub struct Sluice {
    urls: Vec<String>,
    ask: Ask,
    token: Option<Token>,
}

impl Sluice {
    /// As the agent's file says.
    #[must_use]
    pub fn new(settings: &Settings, token: Option<Token>) -> Self {
        let ask = Ask { agent: settings.address, networks: settings.networks.clone(), version: None };
        Self { urls: settings.urls.clone(), ask, token }
    }

    /// Takes or renews the lease; the map comes along unless it is of this version.
    ///
    /// # Errors
    /// When no node gives one.
    pub async fn lease(&self, version: Option<&str>) -> Result<Told, AskError> {
        let ask = Ask { version: version.map(str::to_owned), ..self.ask.clone() };
        self.first(Method::POST, "/v1/overlay/lease", serde_json::to_vec(&ask).unwrap_or_default()).await
    }

    /// The map, and the lease if there is one; nothing is taken.
    ///
    /// # Errors
    /// When no node tells.
    pub async fn map(&self) -> Result<Told, AskError> {
        self.first(Method::GET, &format!("/v1/overlay/map?agent={}", self.ask.agent), Vec::new()).await
    }

    /// Out of the overlay.
    ///
    /// # Errors
    /// When no node hears it.
    pub async fn leave(&self) -> Result<(), AskError> {
        let body = serde_json::to_vec(&self.ask).unwrap_or_default();
        let _lease: crate::lease::Lease = self.first(Method::POST, "/v1/overlay/leave", body).await?;
        Ok(())
    }

    /// The answer of the first node that answers; a refusal is one.
    async fn first<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, AskError> {
        let body = Bytes::from(body);
        let mut last = None;
        for url in &self.urls {
            let asked = tokio::time::timeout(PATIENCE, self.exchange(url, method.clone(), path, body.clone()));
            let why = match asked.await {
                Ok(Ok((status, answer))) if status.is_success() => match serde_json::from_slice(&answer) {
                    Ok(told) => return Ok(told),
                    Err(error) => format!("the answer is not Sluice's: {error}"),
                },
                Ok(Ok((status, answer))) if status.is_client_error() => {
                    let said = crate::rejected::shown(String::from_utf8_lossy(&answer).trim());
                    return Err(AskError::Refused { url: url.clone(), said });
                }
                Ok(Ok((status, answer))) => {
                    format!("{status}: {}", crate::rejected::shown(String::from_utf8_lossy(&answer).trim()))
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            last = Some(AskError::Unanswered { url: url.clone(), why });
        }
        Err(last.unwrap_or_else(|| AskError::Unanswered { url: String::new(), why: "no url".into() }))
    }

    async fn exchange(
        &self,
        url: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let uri: Uri = url.parse()?;
        let authority = uri.authority().ok_or_else(|| anyhow::anyhow!("no host in the URL"))?;
        let at = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(8123));
        let v4 = tokio::net::lookup_host(&at).await?.find(SocketAddr::is_ipv4);
        let to = v4.ok_or_else(|| anyhow::anyhow!("{at} has no IPv4 address"))?;
        let socket = TcpSocket::new_v4()?;
        // Sluice takes an agent's word from the agent's address alone.
        socket.bind(SocketAddr::new(IpAddr::V4(self.ask.agent), 0))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket.connect(to).await?)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, authority.as_str());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        Ok((status, body.map_err(|error| anyhow::anyhow!("the answer was cut: {error}"))?.to_bytes()))
    }
}
