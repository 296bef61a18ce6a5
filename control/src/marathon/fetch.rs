//! Asking one Marathon, or Mesos, over HTTP: bounded, and never sending a credential to a host that the configuration does not name.
//!
//! Redirects (a standby's 302, 307) are followed to the scheme, host and port of a configured URL only. Answers are taken as
//! they come: no compression is offered, and one that is compressed all the same is an error, so a body is as long as the
//! bytes that were received. Secrets are read from their files at each request and appear in no error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response, StatusCode, Url};
use sluice_config::model::{Access, Marathon};

pub use super::fetch_error::{FetchError, StartError};

/// Redirects followed in one request: standby to leader, and once more while leadership changes.
pub(super) const REDIRECTS: usize = 3;
/// Longest secret, octets.
const SECRET_OCTETS: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(5);
/// How long a head, or the next part of a body, may take.
pub(super) const PART: Duration = Duration::from_secs(20);

/// What a source's section of the configuration is called, for sentences that say what to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    /// `[[marathon]]`, `[mesos]`.
    pub name: &'static str,
    /// The key that has its hosts.
    pub hosts: &'static str,
    /// What bounds an answer.
    pub limit: &'static str,
}

/// A Marathon's.
const MARATHON: Section =
    Section { name: "[[marathon]]", hosts: "urls", limit: "body_octets, by default BODY_OCTETS = 67108864" };

/// How to prove who we are.
#[derive(Clone, Debug)]
enum Credential {
    None,
    Basic { user: String, password_file: PathBuf },
    Token { token_file: PathBuf },
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct Question {
    path: &'static str,
    accept: &'static str,
    /// JSON that is sent, where anything is.
    body: Option<&'static str>,
}

/// A source's URLs and how to ask them.
#[derive(Clone, Debug)]
pub struct Fetch {
    section: Section,
    client: Client,
    urls: Vec<Url>,
    credential: Credential,
}

impl Fetch {
    /// Checks the configuration and prepares TLS.
    ///
    /// # Errors
    /// Says which key to change.
    pub fn new(marathon: &Marathon) -> Result<Self, StartError> {
        if marathon.urls.is_empty() {
            return Err(StartError::NoUrl);
        }
        let access = Access {
            user: marathon.user.clone(),
            password_file: marathon.password_file.clone(),
            token_file: marathon.token_file.clone(),
            ca_file: marathon.ca_file.clone(),
            ..Access::default()
        };
        Self::of(MARATHON, &marathon.urls, &access, false)
    }

    /// As [`Fetch::new`] for any source; `https` says that URLs that come later may be such.
    ///
    /// # Errors
    /// Says which key to change.
    pub fn of(section: Section, urls: &[String], access: &Access, https: bool) -> Result<Self, StartError> {
        // Err means that another part of the process has installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let urls = urls.iter().map(|u| base(section, u)).collect::<Result<Vec<_>, _>>()?;
        let credential = match (&access.user, &access.password_file, &access.token_file) {
            (None, None, None) => Credential::None,
            (Some(user), Some(file), None) => Credential::Basic { user: user.clone(), password_file: file.clone() },
            (None, None, Some(file)) => Credential::Token { token_file: file.clone() },
            (..) => return Err(StartError::Credentials { section: section.name }),
        };
        let https = https || urls.iter().any(|u| u.scheme() == "https");
        Ok(Self { section, client: client(section, access, https)?, urls, credential })
    }

    /// The same client with other URLs.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn with_urls(&self, urls: &[String]) -> Result<Self, StartError> {
        let urls = urls.iter().map(|u| base(self.section, u)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { urls, ..self.clone() })
    }

    /// Number of URLs.
    #[must_use]
    pub fn urls(&self) -> usize {
        self.urls.len()
    }

    /// URL number `url`, for people.
    #[must_use]
    pub fn url(&self, url: usize) -> String {
        self.urls.get(url).map(shown_url).unwrap_or_default()
    }

    /// A whole answer of at most `limit` octets; `None` where the path is not known there (404, 405).
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn get(&self, url: usize, path: &'static str, limit: usize) -> Result<Option<Vec<u8>>, FetchError> {
        self.whole(url, Question { path, accept: "application/json", body: None }, limit).await
    }

    /// As [`Fetch::get`] with JSON that is sent.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn post(
        &self,
        url: usize,
        path: &'static str,
        body: &'static str,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        self.whole(url, Question { path, accept: "application/json", body: Some(body) }, limit).await
    }

    async fn whole(&self, url: usize, question: Question, limit: usize) -> Result<Option<Vec<u8>>, FetchError> {
        let response = match self.request(url, question).await {
            Err(FetchError::Status { status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, .. }) => {
                return Ok(None);
            }
            other => other?,
        };
        self.body(response, limit).await.map(Some)
    }

    /// An answer to JSON that is sent, its head read, which may go on for ever.
    ///
    /// # Errors
    /// When there is none.
    pub async fn post_stream(
        &self,
        url: usize,
        path: &'static str,
        body: &'static str,
    ) -> Result<Response, FetchError> {
        self.request(url, Question { path, accept: "application/json", body: Some(body) }).await
    }

    /// The event stream, its head read.
    ///
    /// # Errors
    /// When there is none.
    pub async fn stream(&self, url: usize) -> Result<Response, FetchError> {
        let question = Question { path: "/v2/events", accept: "text/event-stream", body: None };
        let response = self.request(url, question).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("text/event-stream")) {
            return Ok(response);
        }
        Err(FetchError::NotAStream { url: shown_url(response.url()), kind: crate::rejected::shown(kind) })
    }

    async fn request(&self, url: usize, question: Question) -> Result<Response, FetchError> {
        let base = self.urls.get(url).or_else(|| self.urls.first());
        let Some(first) = base.and_then(|base| below(base, question.path)) else {
            return Err(FetchError::NoHost { section: self.section });
        };
        let mut at = first.clone();
        for _ in 0..=REDIRECTS {
            let method = if question.body.is_some() { Method::POST } else { Method::GET };
            let request = self.client.request(method, at.clone()).header(ACCEPT, question.accept);
            let request = match question.body {
                Some(body) => request.header(CONTENT_TYPE, "application/json").body(body),
                None => request,
            };
            let request = self.prove(request).await?;
            let response = timely(&at, request.send()).await?;
            match self.redirect(&at, &response)? {
                Some(next) => at = next,
                None => return self.whole_head(response),
            }
        }
        Err(FetchError::RedirectLoop { url: shown_url(&first) })
    }

    async fn prove(&self, request: RequestBuilder) -> Result<RequestBuilder, FetchError> {
        match &self.credential {
            Credential::None => Ok(request),
            Credential::Basic { user, password_file } => {
                Ok(request.basic_auth(user, Some(secret(password_file).await?)))
            }
            Credential::Token { token_file } => {
                let value = HeaderValue::from_str(&format!("token={}", secret(token_file).await?));
                let mut value = value.map_err(|_| FetchError::Secret {
                    path: token_file.clone(),
                    reason: "a token is one line of visible characters".to_owned(),
                })?;
                value.set_sensitive(true);
                Ok(request.header(AUTHORIZATION, value))
            }
        }
    }

    /// Where a redirect leads, if it is one and leads to a configured host.
    fn redirect(&self, at: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
        if !response.status().is_redirection() {
            return Ok(None);
        }
        let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let Some(location) = location else {
            return Err(FetchError::Status { url: shown_url(at), status: response.status() });
        };
        let to = at.join(location).ok().filter(|to| self.urls.iter().any(|known| known.origin() == to.origin()));
        let refused = || {
            let (url, to) = (shown_url(at), crate::rejected::shown(location));
            FetchError::Redirect { url, to, section: self.section }
        };
        let mut to = to.ok_or_else(refused)?;
        // A user name in a Location would replace ours.
        if to.set_username("").is_err() || to.set_password(None).is_err() {
            return Err(refused());
        }
        Ok(Some(to))
    }

    fn whole_head(&self, response: Response) -> Result<Response, FetchError> {
        let url = || shown_url(response.url());
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let given = match self.credential {
                    Credential::None => "",
                    Credential::Basic { .. } => "password_file",
                    Credential::Token { .. } => "token_file",
                };
                return Err(FetchError::Unauthorized { url: url(), status, given, section: self.section });
            }
            status => return Err(FetchError::Status { url: url(), status }),
        }
        match response.headers().get(CONTENT_ENCODING) {
            Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
                let encoding = crate::rejected::shown(&String::from_utf8_lossy(encoding.as_bytes()));
                Err(FetchError::Compressed { url: url(), encoding })
            }
            Some(_) | None => Ok(response),
        }
    }

    async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, FetchError> {
        let url = response.url().clone();
        let too_long = || FetchError::TooLong { url: shown_url(&url), limit, section: self.section };
        if response.content_length().is_some_and(|n| n > limit as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(part) = timely(&url, response.chunk()).await? {
            if body.len() + part.len() > limit {
                return Err(too_long());
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }
}

fn base(section: Section, text: &str) -> Result<Url, StartError> {
    let refused = || {
        let url = crate::rejected::shown(text.rsplit('@').next().unwrap_or_default());
        StartError::Url { section: section.name, key: section.hosts, url }
    };
    let url = Url::parse(text).map_err(|_| refused())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && url.username().is_empty();
    if plain && url.password().is_none() { Ok(url) } else { Err(refused()) }
}

fn below(base: &Url, path: &str) -> Option<Url> {
    let text = base.as_str();
    let text = text.split(['?', '#']).next().unwrap_or(text).trim_end_matches('/');
    Url::parse(&format!("{text}{path}")).ok()
}

fn shown_url(url: &Url) -> String {
    crate::rejected::shown(url.as_str())
}

fn client(section: Section, access: &Access, https: bool) -> Result<Client, StartError> {
    let builder = Client::builder()
        .user_agent("sluice")
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .no_proxy();
    let certificates = access.ca_file.as_deref().map(|path| certificates(section, path)).transpose()?;
    let certificates = certificates.unwrap_or_default();
    // Looking for the system's roots fails on a machine that has none; who speaks no TLS needs none.
    let builder = if https { builder.tls_certs_merge(certificates) } else { builder.tls_certs_only(certificates) };
    let builder = match (&access.cert_file, &access.key_file) {
        (Some(cert), Some(key)) => builder.identity(identity(section, cert, key)?),
        (Some(_) | None, _) => builder,
    };
    builder.build().map_err(|e| StartError::Tls { section: section.name, reason: causes(&e) })
}

/// The certificate that we show, with its key.
fn identity(section: Section, cert: &Path, key: &Path) -> Result<Identity, StartError> {
    let refused =
        |path: &Path, reason: String| StartError::Pem { section: section.name, path: path.to_owned(), reason };
    let read = |path: &Path| std::fs::read(path).map_err(|e| refused(path, e.to_string()));
    let mut pem = read(key)?;
    pem.push(b'\n');
    pem.extend(read(cert)?);
    Identity::from_pem(&pem).map_err(|e| refused(cert, format!("{} (with {})", causes(&e), key.display())))
}

fn certificates(section: Section, path: &Path) -> Result<Vec<Certificate>, StartError> {
    let refused = |reason: String| StartError::Pem { section: section.name, path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|e| refused(e.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|e| refused(causes(&e)))?;
    if found.is_empty() { Err(refused("there is no PEM certificate in it".to_owned())) } else { Ok(found) }
}

async fn secret(path: &Path) -> Result<String, FetchError> {
    let refused = |reason: String| FetchError::Secret { path: path.to_owned(), reason };
    let bytes = tokio::fs::read(path).await.map_err(|e| refused(e.to_string()))?;
    let text = String::from_utf8(bytes).ok().filter(|t| t.len() <= SECRET_OCTETS);
    let text = text.ok_or_else(|| refused("not a short text".to_owned()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

async fn timely<T>(url: &Url, part: impl Future<Output = reqwest::Result<T>>) -> Result<T, FetchError> {
    match tokio::time::timeout(PART, part).await {
        Err(_) => Err(FetchError::Slow { url: shown_url(url) }),
        Ok(Err(error)) => Err(FetchError::Http { url: shown_url(url), reason: causes(&error.without_url()) }),
        Ok(Ok(part)) => Ok(part),
    }
}

/// An error with its causes: the library's own text hides "connection refused" two levels down.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    crate::rejected::shown(&text)
}
