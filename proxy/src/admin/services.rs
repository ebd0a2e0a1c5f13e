//! `GET /v1/services` and `/v1/services/{service}`: what is asked for, and what is.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::ETAG;

use super::problem::Problem;
use super::target::{self, OfService};
use super::view::{ServiceJson, ServicesJson, StoreJson};
use super::{Admin, Shared, change};

/// `GET /v1/services`
pub(super) async fn list(State(admin): State<Admin>) -> Json<ServicesJson> {
    let live = &admin.state.live;
    let services = live.snapshot().services().iter().map(|view| ServiceJson::of(live, view)).collect();
    Json(ServicesJson { proxy: admin.state.proxy_name.clone(), store: StoreJson::of(live), services })
}

/// `GET /v1/services/{service}`
pub(super) async fn get(State(admin): State<Admin>, OfService(service): OfService) -> Result<Response, Problem> {
    answer(&admin, &service.spec.name, None, None)
}

/// A service as it now is, at this revision (or the one in force), with a note for people.
pub(super) fn answer(
    admin: &Shared,
    name: &str,
    revision: Option<u64>,
    note: Option<&str>,
) -> Result<Response, Problem> {
    let view = target::service(admin, name)?;
    let mut body = ServiceJson::of(&admin.state.live, &view);
    body.revision = body.revision.max(revision.unwrap_or(0));
    body.note = note.map(str::to_owned);
    let tag = change::etag(body.revision);
    Ok(([(ETAG, tag)], Json(body)).into_response())
}
