//! `/v2/apps`. An id may hold slashes, so what follows it is read from the end of the path.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::changes::{Change, Mode, known};
use super::super::definition::{Object, absolute};
use super::super::error::ApiError;
use super::super::render::{self, Embed};
use super::super::{Marathon, notices};
use super::{Client, Pairs, Shared, deployed, filter, flag, json_body, object, tasks, values};

/// What the rest of a path asks of an app.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    App(String),
    Group(String),
    Tasks(String),
    Task(String, String),
    Versions(String),
    Version(String, String),
    Restart(String),
}

impl Target {
    pub(super) fn parse(path: &str) -> Self {
        let path = path.trim_matches('/');
        if let Some(group) = path.strip_suffix("/*").or_else(|| (path == "*").then_some("")) {
            return Self::Group(absolute(group));
        }
        for (word, all, one) in [
            ("tasks", Self::Tasks as fn(String) -> Self, Self::Task as fn(String, String) -> Self),
            ("versions", Self::Versions, Self::Version),
        ] {
            if let Some(id) = path.strip_suffix(&format!("/{word}")) {
                return all(absolute(id));
            }
            if let Some((id, item)) = path.rsplit_once(&format!("/{word}/"))
                && !item.contains('/')
            {
                return one(absolute(id), item.to_owned());
            }
        }
        path.strip_suffix("/restart").map_or_else(|| Self::App(absolute(path)), |id| Self::Restart(absolute(id)))
    }
}

pub(super) async fn list(State(marathon): Shared, Query(pairs): Pairs) -> Response {
    let embed = Embed::parse(&values(&pairs, "embed"));
    Json(json!({"apps": shown(&marathon, "", &pairs, &embed)})).into_response()
}

fn shown(marathon: &Marathon, prefix: &str, pairs: &[(String, String)], embed: &Embed) -> Vec<Object> {
    marathon.with(|state| {
        let apps = state.services.iter().filter(|(id, service)| {
            !service.spec.pod && id.starts_with(prefix) && filter::matches(id, &service.definition, pairs)
        });
        apps.map(|(id, service)| render::app(marathon, state, id, service, embed)).collect()
    })
}

pub(super) async fn create(
    State(marathon): Shared,
    client: Client,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    let app = object(&body)?;
    let id = app.get("id").and_then(Value::as_str).map(absolute);
    let id = id.ok_or_else(|| ApiError::invalid("/id", "error.path.missing"))?;
    let change = marathon.change_app(&id, app, Mode::Create, flag(&pairs, "force"))?;
    tell(&marathon, &client, &id);
    let shown = one(&marathon, &id)?;
    let headers = [("Location", format!("/v2/apps{id}")), ("Marathon-Deployment-Id", change.deployment)];
    Ok((StatusCode::CREATED, headers, Json(shown)).into_response())
}

fn one(marathon: &Marathon, id: &str) -> Result<Object, ApiError> {
    marathon.with(|state| {
        let service = known(state, id)?;
        Ok(render::app(marathon, state, id, service, &Embed::single()))
    })
}

fn tell(marathon: &Marathon, client: &Client, id: &str) {
    let definition = marathon.with(|state| state.services.get(id).map(render::definition));
    definition.iter().for_each(|d| notices::api_post(marathon, &client.0.ip().to_string(), id, d));
}

pub(super) async fn get(
    State(marathon): Shared,
    headers: HeaderMap,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    match Target::parse(&path) {
        Target::App(id) => Ok(Json(json!({"app": one(&marathon, &id)?})).into_response()),
        Target::Group(group) => {
            let prefix = format!("{}/", group.trim_end_matches('/'));
            let embed = Embed::parse(&values(&pairs, "embed"));
            Ok(Json(json!({"*": shown(&marathon, &prefix, &pairs, &embed)})).into_response())
        }
        Target::Tasks(id) => tasks::of_app(&marathon, &id, &headers),
        Target::Versions(id) => marathon.with(|state| {
            let service = known(state, &id)?;
            let versions: Vec<&String> = service.history.iter().rev().map(|(version, _)| version).collect();
            Ok(Json(json!({"versions": versions})).into_response())
        }),
        Target::Version(id, version) => marathon.with(|state| {
            let found = known(state, &id)?.history.iter().find(|(v, _)| *v == version);
            let (_, definition) =
                found.ok_or_else(|| ApiError::Missing { what: "App version", id: version.clone() })?;
            let mut definition = definition.clone();
            definition.insert("version".to_owned(), version.into());
            Ok(Json(definition).into_response())
        }),
        Target::Task(..) | Target::Restart(_) => Ok(super::not_found().await),
    }
}

pub(super) async fn put(
    method: Method,
    State(marathon): Shared,
    client: Client,
    Path(path): Path<String>,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    let Target::App(id) = Target::parse(&path) else { return Ok(super::not_found().await) };
    let update = object(&body)?;
    if method == Method::PATCH {
        marathon.with(|state| known(state, &id).map(|_| ()))?;
    }
    let change = update_app(&marathon, &id, update, &pairs)?;
    tell(&marathon, &client, &id);
    Ok(deployed(if change.created { StatusCode::CREATED } else { StatusCode::OK }, &change))
}

fn update_app(marathon: &Marathon, id: &str, update: Object, pairs: &[(String, String)]) -> Result<Change, ApiError> {
    let whole = pairs.iter().any(|(key, value)| key == "partialUpdate" && !value.eq_ignore_ascii_case("true"));
    let mode = if whole { Mode::Replace } else { Mode::Merge };
    marathon.change_app(id, update, mode, flag(pairs, "force"))
}

/// PUT of a list: every app by its id; the answer names the last deployment.
pub(super) async fn put_many(
    State(marathon): Shared,
    client: Client,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    let Value::Array(updates) = json_body(&body)? else {
        return Err(ApiError::NotJson("error.expected.jsarray".to_owned()));
    };
    let mut last = None;
    for update in updates {
        let Value::Object(update) = update else {
            return Err(ApiError::NotJson("error.expected.jsobject".to_owned()));
        };
        let id = update.get("id").and_then(Value::as_str).map(absolute);
        let id = id.ok_or_else(|| ApiError::invalid("/id", "error.path.missing"))?;
        last = Some(update_app(&marathon, &id, update, &pairs)?);
        tell(&marathon, &client, &id);
    }
    let change = last.ok_or_else(|| ApiError::invalid("/", "the list is empty"))?;
    Ok(deployed(StatusCode::OK, &change))
}

pub(super) async fn post(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let Target::Restart(id) = Target::parse(&path) else { return Ok(super::not_found().await) };
    Ok(deployed(StatusCode::OK, &marathon.restart(&id, flag(&pairs, "force"))?))
}

pub(super) async fn delete(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    match Target::parse(&path) {
        Target::App(id) => Ok(deployed(StatusCode::OK, &marathon.remove(&id, flag(&pairs, "force"))?)),
        Target::Tasks(id) => tasks::kill_of_app(&marathon, &id, &pairs),
        Target::Task(id, task) => tasks::kill_one(&marathon, &id, &task, &pairs),
        Target::Group(_) | Target::Versions(_) | Target::Version(..) | Target::Restart(_) => {
            Ok(super::not_found().await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_its_end_because_ids_hold_slashes() {
        let cases = [
            ("web", Target::App("/web".into())),
            ("/web", Target::App("/web".into())),
            ("group/app/tasks", Target::Tasks("/group/app".into())),
            ("group/app/tasks/group_app.1", Target::Task("/group/app".into(), "group_app.1".into())),
            ("/group/app/versions", Target::Versions("/group/app".into())),
            ("a/versions/2024", Target::Version("/a".into(), "2024".into())),
            ("a/restart", Target::Restart("/a".into())),
            ("group/*", Target::Group("/group".into())),
            ("tasks", Target::App("/tasks".into())),
        ];
        for (path, target) in cases {
            assert_eq!(Target::parse(path), target, "{path}");
        }
    }
}
