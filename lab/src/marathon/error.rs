//! Answers that are not a success, with Marathon's bodies: `{"message": ..., "details": [{"path", "errors"}]}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::definition::Dialect;

/// One thing wrong with a definition: where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) error: String,
}

impl Violation {
    pub(crate) fn new(path: &str, error: impl Into<String>) -> Self {
        Self { path: path.to_owned(), error: error.into() }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ApiError {
    /// 400: the body is not JSON.
    NotJson(String),
    /// 404.
    Missing { what: &'static str, id: String },
    /// 409 on POST of an id that is there.
    Exists { id: String },
    /// 409: a deployment holds the app; `force=true` overrides it.
    Locked { deployments: Vec<String> },
    /// 409 with what is in the way.
    Conflict(String),
    /// A field of another JSON type than Marathon reads: 400 in 1.3, 422 since 1.4.
    Mistyped(Dialect, Vec<Violation>),
    /// 422.
    Invalid(Vec<Violation>),
}

impl ApiError {
    pub(crate) fn invalid(path: &str, error: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(path, error)])
    }

    /// The same error, found in a part of what was sent: `place` goes before its paths.
    pub(crate) fn within(self, place: &str) -> Self {
        let moved = |violations: Vec<Violation>| {
            let at = |v: Violation| Violation::new(&format!("{place}{}", v.path.trim_end_matches('/')), v.error);
            violations.into_iter().map(at).collect()
        };
        match self {
            Self::Invalid(violations) => Self::Invalid(moved(violations)),
            Self::Mistyped(dialect, violations) => Self::Mistyped(dialect, moved(violations)),
            other @ (Self::NotJson(_) | Self::Missing { .. } | Self::Exists { .. }) => other,
            other @ (Self::Locked { .. } | Self::Conflict(_)) => other,
        }
    }

    fn body(&self) -> (StatusCode, Value) {
        match self {
            Self::NotJson(error) => (
                StatusCode::BAD_REQUEST,
                json!({"message": "Invalid JSON", "details": [{"path": "", "errors": [error]}]}),
            ),
            Self::Missing { what, id } => {
                (StatusCode::NOT_FOUND, json!({"message": format!("{what} '{id}' does not exist")}))
            }
            Self::Exists { id } => {
                (StatusCode::CONFLICT, json!({"message": format!("An app with id [{id}] already exists.")}))
            }
            Self::Locked { deployments } => (
                StatusCode::CONFLICT,
                json!({
                    "message": "App is locked by one or more deployments. Override with the option \
                        '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
                    "deployments": deployments.iter().map(|id| json!({"id": id})).collect::<Vec<_>>(),
                }),
            ),
            Self::Conflict(message) => (StatusCode::CONFLICT, json!({"message": message})),
            Self::Mistyped(dialect, violations) => {
                let status = match dialect {
                    Dialect::V1_3 => StatusCode::BAD_REQUEST,
                    Dialect::V1_9 => StatusCode::UNPROCESSABLE_ENTITY,
                };
                (status, json!({"message": "Invalid JSON", "details": details(violations)}))
            }
            Self::Invalid(violations) => {
                let body = json!({"message": "Object is not valid", "details": details(violations)});
                (StatusCode::UNPROCESSABLE_ENTITY, body)
            }
        }
    }
}

/// One entry per path, with everything that is wrong there.
fn details(violations: &[Violation]) -> Vec<Value> {
    let mut by_path: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    violations.iter().for_each(|v| by_path.entry(&v.path).or_default().push(&v.error));
    by_path.into_iter().map(|(path, errors)| json!({"path": path, "errors": errors})).collect()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = self.body();
        (status, Json(body)).into_response()
    }
}
