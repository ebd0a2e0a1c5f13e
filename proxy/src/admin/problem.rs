//! The one place where an error becomes a response: RFC 9457 problem details.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use super::view::ProblemJson;
use crate::store::StoreError;

/// What went wrong, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    known: Vec<String>,
    /// In how many seconds the same may be asked again.
    retry_after: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), known: Vec::new(), retry_after: None }
    }

    /// The caller asks too often.
    pub(super) fn too_often(detail: impl Into<String>, wait: Duration) -> Self {
        // A client that comes in the very second in which it may is one that came too early.
        let retry_after = Some(wait.as_secs() + 1);
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// Something of this name isn't there, but these are.
    pub(super) fn unknown(what: &str, name: &str, known: Vec<String>) -> Self {
        let shown = if known.is_empty() { "there is none".to_owned() } else { format!("known: {}", known.join(", ")) };
        let detail = format!("there is no {what} `{name}`; {shown}");
        Self { known, ..Self::new(StatusCode::NOT_FOUND, detail) }
    }

    /// The store didn't take a change of this kind.
    pub(super) fn store(what: &str, error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{what} are refused while the store is unreachable ({why}): serin keeps serving the last good \
                     state, and a trip works all the same; try again when /readyz shows the store as reachable"
                ),
            ),
            StoreError::Conflict { .. } => Self::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
            StoreError::StateFile(_) | StoreError::Settings(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemJson {
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            known: self.known,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"serin\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A path that isn't there.
pub(super) async fn no_such_path(uri: http::Uri) -> Problem {
    let detail = format!("there is nothing at {}; /openapi.json lists every path", uri.path());
    Problem::new(StatusCode::NOT_FOUND, detail)
}

/// A method that the path doesn't have. The router has already put what is allowed into `Allow`.
pub(super) async fn no_such_method(method: http::Method, uri: http::Uri) -> Problem {
    let detail = format!("{method} isn't possible at {}; the Allow header names what is", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
