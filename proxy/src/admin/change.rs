//! How a change is made: told to the store, then awaited until this proxy serves by it.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::header::IF_MATCH;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::problem::Problem;
use super::{Admin, Shared};
use crate::model::state::{Change, ServiceState};
use crate::store::StoreError;

/// How long an answer waits for control to take a stored change in.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// What an answer says when control was slower than [`PATIENCE`].
pub(super) const NOT_TAKEN_IN: &str = "stored, but this proxy hasn't taken it in yet";

/// The revision that the caller believes the service to be at, from `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected(pub(super) Option<u64>);

impl FromRequestParts<Admin> for Expected {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Admin) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let revision = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|n| n.parse().ok());
        let detail = "If-Match must be an ETag of the service, such as \"42\"";
        revision.map(|revision| Self(Some(revision))).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, detail))
    }
}

/// A revision as an `ETag`.
pub(super) fn etag(revision: u64) -> HeaderValue {
    // Digits between quotes are always a header value.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Tells the store, and waits until this proxy has taken the change in. `what` is its kind, for
/// messages, in the plural. Returns the new state, and whether it was taken in.
pub(super) async fn make(
    admin: &Shared,
    service: &str,
    what: &str,
    change: &Change,
    expected: Option<u64>,
) -> Result<(ServiceState, bool), Problem> {
    let state = tell(admin, service, change, expected).await.map_err(|error| Problem::store(what, &error))?;
    let taken_in = taken_in(admin, service, state.revision).await;
    Ok((state, taken_in))
}

/// Tells the store.
pub(super) async fn tell(
    admin: &Shared,
    service: &str,
    change: &Change,
    expected: Option<u64>,
) -> Result<ServiceState, StoreError> {
    let told = admin.state.store.apply(service, change, expected).await;
    if let Err(error) = &told {
        tracing::warn!(service, error = %error, "The store didn't take a change");
    }
    told
}

/// Waits until the snapshot in force holds at least this revision of a service. Says whether it does.
pub(super) async fn taken_in(admin: &Shared, service: &str, revision: u64) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let snapshot = admin.state.live.snapshot();
        if snapshot.service(service).is_some_and(|view| view.revision >= revision) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}
