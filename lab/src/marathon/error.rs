//! Answers that are not a success, with Marathon's bodies: `{"message": ..., "details": [{"path", "errors"}]}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

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
    /// 422.
    Invalid(Vec<Violation>),
}

impl ApiError {
    pub(crate) fn invalid(path: &str, error: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(path, error)])
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
            Self::Invalid(violations) => {
                let details: Vec<Value> =
                    violations.iter().map(|v| json!({"path": v.path, "errors": [v.error]})).collect();
                (StatusCode::UNPROCESSABLE_ENTITY, json!({"message": "Object is not valid", "details": details}))
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = self.body();
        (status, Json(body)).into_response()
    }
}
