//! What can go wrong when a Marathon is asked. No text here ever holds a secret.

use std::path::PathBuf;

use reqwest::StatusCode;

use super::fetch::{PART, REDIRECTS};
use super::payload::BODY_OCTETS;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No URL.
    #[error("[[marathon]] has no urls: give at least one like \"http://marathon.example:8080\"")]
    NoUrl,
    /// Not a URL.
    #[error("[[marathon]] urls: {url:?} is not like \"http://marathon.example:8080\"")]
    Url {
        /// What is there, without a password.
        url: String,
    },
    /// `ca_file` cannot be read or holds no certificate.
    #[error("[[marathon]] ca_file {path}: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `user` without `password_file`, or two kinds of credential.
    #[error("[[marathon]]: user and password_file go together, and exclude token_file")]
    Credentials,
    /// TLS cannot be set up.
    #[error("[[marathon]]: no TLS client: {0} (set ca_file, or install ca-certificates)")]
    Tls(String),
}

/// A request that brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Connection, TLS, or a body that was cut.
    #[error("{url}: {reason}")]
    Http {
        /// Where.
        url: String,
        /// The library's words, the innermost cause included.
        reason: String,
    },
    /// Another status than 200.
    #[error("{url}: status {status}")]
    Status {
        /// Where.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// A redirect to somewhere else.
    #[error("{url}: redirected to {to}, which is not among the urls of [[marathon]]: not followed")]
    Redirect {
        /// Where.
        url: String,
        /// Where to.
        to: String,
    },
    /// Too many redirects.
    #[error("{url}: redirected more than {REDIRECTS} times")]
    RedirectLoop {
        /// Where it began.
        url: String,
    },
    /// A compressed answer.
    #[error("{url}: the answer is compressed ({encoding}), which was not asked for")]
    Compressed {
        /// Where.
        url: String,
        /// As it says.
        encoding: String,
    },
    /// An answer above the limit.
    #[error(
        "{url}: the answer is longer than {limit} octets, the most that is read of it (body_octets, by default \
        BODY_OCTETS = {BODY_OCTETS}): what was known before is kept"
    )]
    TooLong {
        /// Where.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// No part within the time.
    #[error("{url}: nothing came for {} s", PART.as_secs())]
    Slow {
        /// Where.
        url: String,
    },
    /// Not an event stream.
    #[error("{url}: the content type is {kind:?}, not text/event-stream")]
    NotAStream {
        /// Where.
        url: String,
        /// As it says.
        kind: String,
    },
    /// A secret's file cannot be read.
    #[error("{path}: {reason}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong; never what is in it.
        reason: String,
    },
}
