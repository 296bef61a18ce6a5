//! What can go wrong when a Marathon or a Mesos is asked. No text here ever holds a secret.

use std::path::PathBuf;

use reqwest::StatusCode;

use super::fetch::{PART, REDIRECTS, Section};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No URL.
    #[error("[[marathon]] has no urls: give at least one like \"http://marathon.example:8080\"")]
    NoUrl,
    /// Not a URL.
    #[error("{section} {key}: {url:?} is not like \"http://source.example:8080\"")]
    Url {
        /// Whose.
        section: &'static str,
        /// Which key.
        key: &'static str,
        /// What is there, without a password.
        url: String,
    },
    /// A PEM file cannot be read or does not hold what it should.
    #[error("{section} {path}: {reason}")]
    Pem {
        /// Whose.
        section: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `user` without `password_file`, or two kinds of credential.
    #[error("{section}: user and password_file go together, and exclude token_file")]
    Credentials {
        /// Whose.
        section: &'static str,
    },
    /// TLS cannot be set up.
    #[error("{section}: no TLS client: {reason} (set ca_file, or install ca-certificates)")]
    Tls {
        /// Whose.
        section: &'static str,
        /// The library's words.
        reason: String,
    },
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
    /// Who we are was not accepted.
    #[error("{url}: status {status}: {}", remedy(given, section))]
    Unauthorized {
        /// Where.
        url: String,
        /// The status: 401 or 403.
        status: StatusCode,
        /// The key whose file was used; empty where none is set.
        given: &'static str,
        /// Whose.
        section: Section,
    },
    /// Nobody to ask yet.
    #[error("{}: no host is known yet", section.name)]
    NoHost {
        /// Whose.
        section: Section,
    },
    /// A redirect to somewhere else.
    #[error("{url}: redirected to {to}, which is not among the {} of {}: not followed", section.hosts, section.name)]
    Redirect {
        /// Where.
        url: String,
        /// Where to.
        to: String,
        /// Whose.
        section: Section,
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
        "{url}: the answer is longer than {limit} octets, the most that is read of it ({}): what was known before is kept",
        section.limit
    )]
    TooLong {
        /// Where.
        url: String,
        /// The limit.
        limit: usize,
        /// Whose.
        section: Section,
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

/// What to change where who we are was not accepted.
fn remedy(given: &str, section: &Section) -> String {
    if given.is_empty() {
        format!("set user and password_file, or token_file, in {}", section.name)
    } else {
        format!("what {given} of {} holds is not accepted: correct it", section.name)
    }
}
