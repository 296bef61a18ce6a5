//! `/v2/groups`: the services as a tree. As of an app's, what follows an id is read from the end of the path.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::Marathon;
use super::super::definition::absolute;
use super::super::error::ApiError;
use super::super::groups::{known, past};
use super::super::render::{self, Embed};
use super::{Pairs, Shared, deployed, flag, object, values};

pub(super) async fn root(State(marathon): Shared, Query(pairs): Pairs) -> Result<Response, ApiError> {
    tree(&marathon, "/", &pairs)
}

pub(super) async fn get(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    let path = absolute(&path);
    if let Some(id) = path.strip_suffix("/versions") {
        return versions(&marathon, &absolute(id));
    }
    match path.rsplit_once("/versions/") {
        Some((id, version)) => version_of(&marathon, &absolute(id), version),
        None => tree(&marathon, &path, &pairs),
    }
}

fn tree(marathon: &Marathon, id: &str, pairs: &[(String, String)]) -> Result<Response, ApiError> {
    let embed = Embed::parse(&values(pairs, "embed"));
    marathon.with(|state| {
        known(state, id)?;
        Ok(Json(render::group(marathon, state, id, &embed)).into_response())
    })
}

fn versions(marathon: &Marathon, id: &str) -> Result<Response, ApiError> {
    marathon.with(|state| {
        known(state, id)?;
        let versions: Vec<&str> = past(state, id).map(|(version, _)| version).collect();
        Ok(Json(versions).into_response())
    })
}

fn version_of(marathon: &Marathon, id: &str, version: &str) -> Result<Response, ApiError> {
    marathon.with(|state| {
        let then = past(state, id).find(|(root, _)| *root == version).map(|(_, group)| group);
        let then = then.ok_or_else(|| ApiError::Missing { what: "Group", id: format!("{id} in version {version}") })?;
        Ok(Json(then).into_response())
    })
}

pub(super) async fn create(marathon: Shared, pairs: Pairs, body: Bytes) -> Result<Response, ApiError> {
    create_at(marathon, Path("/".to_owned()), pairs, body).await
}

pub(super) async fn create_at(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (id, change) = marathon.create_group(&absolute(&path), &object(&body)?, flag(&pairs, "force"))?;
    let location = [("Location", format!("/v2/groups{id}"))];
    Ok((location, deployed(StatusCode::CREATED, &change)).into_response())
}

pub(super) async fn put(marathon: Shared, pairs: Pairs, body: Bytes) -> Result<Response, ApiError> {
    put_at(marathon, Path("/".to_owned()), pairs, body).await
}

pub(super) async fn put_at(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (base, update) = (absolute(&path), object(&body)?);
    if flag(&pairs, "dryRun") {
        return Ok(Json(marathon.try_group(&base, &update)?).into_response());
    }
    Ok(deployed(StatusCode::OK, &marathon.update_group(&base, &update, flag(&pairs, "force"))?))
}

pub(super) async fn delete(marathon: Shared, pairs: Pairs) -> Result<Response, ApiError> {
    delete_at(marathon, Path("/".to_owned()), pairs).await
}

pub(super) async fn delete_at(
    State(marathon): Shared,
    Path(path): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, ApiError> {
    Ok(deployed(StatusCode::OK, &marathon.remove_group(&absolute(&path), flag(&pairs, "force"))?))
}
