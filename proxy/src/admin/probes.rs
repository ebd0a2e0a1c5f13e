//! `/healthz`, `/readyz`, `/metrics`: for load balancers and monitoring, always open.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::Admin;
use super::problem::Problem;
use super::view::StoreJson;

/// `GET /healthz`: the process runs and answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether this proxy should be sent traffic.
#[derive(Debug, Serialize)]
pub(super) struct ReadyJson {
    /// `ready`, `starting` or `draining`.
    state: &'static str,
    proxy: String,
    /// The process that answers: during an upgrade there are two.
    process: u32,
    version: &'static str,
    snapshot_revision: u64,
    store: StoreJson,
}

/// `GET /readyz`: 503 while starting or draining. A store that is gone is told and no reason:
/// serin serves the last good state.
pub(super) async fn readyz(State(admin): State<Admin>) -> Response {
    let live = &admin.state.live;
    let snapshot_revision = live.snapshot().revision;
    let (status, state) = match (live.is_draining(), snapshot_revision) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, 0) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        (false, _) => (StatusCode::OK, "ready"),
    };
    let proxy = admin.state.proxy_name.clone();
    let (process, version) = (std::process::id(), env!("CARGO_PKG_VERSION"));
    let body = ReadyJson { state, proxy, process, version, snapshot_revision, store: StoreJson::of(live) };
    (status, Json(body)).into_response()
}

/// `GET /metrics`
pub(super) async fn metrics(State(admin): State<Admin>) -> Result<Response, Problem> {
    let text = admin.state.registry.encode().map_err(|error| {
        tracing::error!(error = %error, "Metrics couldn't be shown");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics couldn't be encoded: the log says why")
    })?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
